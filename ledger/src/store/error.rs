//! What can go wrong. An [`AppendError`] says what the caller must do: look again, wait, or end; a [`StoreError`] says what
//! cannot be read, opened or written, and where.

use crate::{
    evidence::{
        Commitment, TraceId, Violation, entry::MAX_ENTRY_BYTES, receipt::ReceiptError, rotation::RotationError,
    },
    tlog::{CheckpointError, EpochError, FrontierError, Hash, ProveError, TileError, TreeSize, VerifierKey},
    vault::{KeyringError, VaultError, files::PrivateFileError},
};
use std::{io, path::PathBuf, sync::Arc};

/// A head as errors show it: its hash, or that the trace is not open.
fn shown(head: &Option<Hash>) -> String {
    head.map_or_else(|| "no entry".into(), |head| head.to_string())
}

/// Why an append was refused. Nothing of it stands in the ledger, except where [`Stopped`](Self::Stopped) leaves that to the
/// next opening.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended to the trace: read it again and decide again.
    #[error("the head of trace {trace} has moved: found {}, required {}", shown(.found), shown(.expected))]
    HeadMoved {
        /// The trace.
        trace: TraceId,
        /// The head that the append expected; `None` where it was to open the trace.
        expected: Option<Hash>,
        /// The head that it has; `None` where it is not open.
        found: Option<Hash>,
    },
    /// A trace that the append relied on has moved: a revocation, for one.
    #[error("the head of trace {trace}, which this append relies on, has moved: found {}, required {}", shown(.found), shown(.expected))]
    GuardMoved {
        /// The trace.
        trace: TraceId,
        /// The head that was relied on.
        expected: Option<Hash>,
        /// The head that it has.
        found: Option<Hash>,
    },
    /// The append came too late.
    #[error("the append to trace {trace} is too late: found {found} s, required before {deadline} s")]
    Deadline {
        /// The trace.
        trace: TraceId,
        /// The time that its entries would have had, in seconds of Unix time.
        found: u64,
        /// The append's deadline.
        deadline: u64,
    },
    /// A step may not stand where it would stand.
    #[error("step {step} of the append to trace {trace}: {violation}")]
    Rule {
        /// The trace.
        trace: TraceId,
        /// Which step of the append, from 0.
        step: usize,
        /// What it breaks.
        violation: Violation,
    },
    /// An append without steps, which would say nothing.
    #[error("an append to trace {trace} without steps")]
    Empty {
        /// The trace.
        trace: TraceId,
    },
    /// A step whose entry would be larger than an entry may be.
    #[error("step {step} of the append to trace {trace}: entry of {found} bytes, at most {MAX_ENTRY_BYTES} allowed")]
    TooLarge {
        /// The trace.
        trace: TraceId,
        /// Which step of the append, from 0.
        step: usize,
        /// The entry's size, in bytes.
        found: usize,
    },
    /// A step that cannot be encoded.
    #[error("step {step} of the append to trace {trace}: {why}")]
    Encoding {
        /// The trace.
        trace: TraceId,
        /// Which step of the append, from 0.
        step: usize,
        /// What the encoder said.
        why: String,
    },
    /// A payload that cannot be sealed.
    #[error("payload {commitment}: {cause}")]
    Payload {
        /// The payload's commitment.
        commitment: Commitment,
        /// Why.
        #[source]
        cause: Arc<VaultError>,
    },
    /// A rotation of the log's key, which needs both keys.
    #[error("the log's key is replaced by `rotate`, not by an append")]
    Rotation,
    /// A blocking append from within the answer to another one, where it would wait for itself.
    #[error("an append that blocks was made from within the answer to another one, where it would wait for itself")]
    FromAnswer,
    /// As many appends wait as may wait: try again later.
    #[error("the ledger's queue is full: {0} appends wait")]
    Full(usize),
    /// Nothing is appended for the time being, for this reason: try again later.
    #[error("the ledger takes nothing for the time being: {0}")]
    Paused(String),
    /// The ledger was opened read-only, for this reason.
    #[error("the ledger is read-only: {0}")]
    ReadOnly(String),
    /// The ledger has stopped, for this reason. Whether this append reached the disk is known after the next opening; the
    /// same append may then be made again, since equal bytes are appended once.
    #[error("the ledger has stopped: {0}")]
    Stopped(String),
}

/// Why the store cannot be created, opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is something where a new ledger should be.
    #[error("`{}` exists already: a ledger is never created over anything", .0.display())]
    Exists(PathBuf),
    /// There is no ledger.
    #[error("no ledger in `{}`", .0.display())]
    Missing(PathBuf),
    /// Another process has it open.
    #[error("`{}` is in use: another process has this ledger open", .0.display())]
    Locked(PathBuf),
    /// RocksDB failed.
    #[error("cannot {doing}: {cause}")]
    Db {
        /// What was tried.
        doing: &'static str,
        /// What RocksDB said.
        cause: String,
    },
    /// The system refused.
    #[error("cannot {doing} `{}`: {source}", .path.display())]
    Io {
        /// What was tried, a verb.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store contradicts itself, at a place that is named.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It is another log's.
    #[error("the ledger in `{}` is another log: found key `{found}`, required `{required}`", .path.display())]
    OtherLog {
        /// The store's folder.
        path: PathBuf,
        /// The verifier key of its log.
        found: String,
        /// The verifier key of the signer that was to open it.
        required: String,
    },
    /// The key that was to sign has ended: the log's key was replaced.
    #[error("the key `{found}` ended at size {ended}, the key in force is `{required}`")]
    KeyEnded {
        /// The key that was given.
        found: Box<VerifierKey>,
        /// The largest size that it signs.
        ended: TreeSize,
        /// The key in force.
        required: Box<VerifierKey>,
    },
    /// A ledger must begin with `log.created` for its own origin and key.
    #[error("a ledger must begin with `log.created` for origin and key of its signer: {0}")]
    FirstEntry(String),
    /// One of the first appends was refused.
    #[error("append {at} of a new ledger: {cause}")]
    FirstAppend {
        /// Which, from 0.
        at: usize,
        /// Why.
        #[source]
        cause: Box<AppendError>,
    },
    /// The keyring cannot be opened.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A payload cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A checkpoint cannot be signed or is not ours.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint is not signed by the key of its size.
    #[error(transparent)]
    Epoch(Box<EpochError>),
    /// The log's key cannot be replaced so.
    #[error(transparent)]
    Rotation(Box<RotationError>),
    /// A receipt cannot be put together.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// There is no such entry under that checkpoint.
    #[error("no such entry: found index {index}, required one below the size {size}")]
    NoEntry {
        /// The index asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// A hold on a trace that isn't there, or the release of a hold that isn't in force.
    #[error("{0}")]
    Hold(String),
    /// An entry was refused that the store itself had to append.
    #[error(transparent)]
    Append(Box<AppendError>),
    /// A backup that cannot be put back, or not without ending up with two stories; says what to do.
    #[error("{0}")]
    Restore(String),
    /// An export would overwrite something that is not an earlier export of this log.
    #[error("will not export over `{}`: {why}", .path.display())]
    ExportTarget {
        /// The folder.
        path: PathBuf,
        /// What it is, or lacks.
        why: String,
    },
    /// The ledger is read-only, for this reason.
    #[error("the ledger is read-only: {0}")]
    ReadOnly(String),
    /// The ledger has stopped, for this reason.
    #[error("the ledger has stopped: {0}")]
    Stopped(String),
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl From<EpochError> for StoreError {
    fn from(e: EpochError) -> Self {
        Self::Epoch(Box::new(e))
    }
}

impl From<RotationError> for StoreError {
    fn from(e: RotationError) -> Self {
        Self::Rotation(Box::new(e))
    }
}

impl From<AppendError> for StoreError {
    fn from(e: AppendError) -> Self {
        Self::Append(Box::new(e))
    }
}

impl From<PrivateFileError> for StoreError {
    fn from(e: PrivateFileError) -> Self {
        Self::Keyring(e.into())
    }
}

impl From<FrontierError> for StoreError {
    fn from(e: FrontierError) -> Self {
        Self::Damaged(e.to_string())
    }
}

impl From<TileError<StoreError>> for StoreError {
    fn from(e: TileError<StoreError>) -> Self {
        match e {
            TileError::Read(e) => e,
            e => Self::Damaged(e.to_string()),
        }
    }
}

impl From<ProveError<TileError<StoreError>>> for StoreError {
    fn from(e: ProveError<TileError<StoreError>>) -> Self {
        match e {
            ProveError::Read(e) => e.into(),
            ProveError::IndexOutOfRange { index, size } => Self::NoEntry { index: index.get(), size: size.get() },
            e => Self::Damaged(e.to_string()),
        }
    }
}
