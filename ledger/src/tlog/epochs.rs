//! Which key signs a log at which size. A log whose key is replaced has *epochs*: the old key's checkpoints count up to and with the
//! size at which it ended, the new key's from there on. At that one size both count.
//!
//! The list comes from the ledger itself, or from an auditor who knows better, after a compromise for one. As a file, a line for each
//! key from the first to the last: the key, and for all but the last the largest size that it signs (the last may have one as well,
//! and then nothing larger counts):
//!
//! ```text
//! # what somebody knows
//! <vkey> <size>
//! <vkey>
//! ```

use super::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, decimal},
    hash::TreeSize,
    note::{KeyError, Note, NoteError, VerifierKey},
};
use std::fmt;

/// One key and the sizes that it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The key.
    pub key: VerifierKey,
    /// The smallest size that it signs.
    pub from: TreeSize,
    /// The largest size that it signs; `None` while it is in use.
    pub to: Option<TreeSize>,
}

impl Epoch {
    /// Whether the key signs checkpoints of this size.
    pub fn covers(&self, size: TreeSize) -> bool {
        self.from <= size && self.to.is_none_or(|to| size <= to)
    }
}

/// The keys of one log, from the first to the last. Shown as the file of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    // INVARIANT: one name; different keys; each begins where the one before ends; only the last may have no end.
    before: Vec<Epoch>,
    last: Epoch,
}

/// Why keys are not the epochs of one log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochsError {
    /// No key at all.
    #[error("no keys: required at least one line `<vkey> [<last size>]`")]
    Empty,
    /// A line is not a key with an optional size.
    #[error("line {line}: required `<vkey> [<last size>]`")]
    Form {
        /// The line, from 1.
        line: usize,
    },
    /// Not a key.
    #[error("line {line}: {cause}")]
    Key {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: KeyError,
    },
    /// A key of another log.
    #[error("a key of another log: found `{found}`, required `{required}`")]
    OtherName {
        /// Its name.
        found: String,
        /// The name of the first key.
        required: String,
    },
    /// A key that stands there already: a key that ended doesn't come back.
    #[error("the key `{0}` was in use before")]
    KeyAgain(Box<VerifierKey>),
    /// A key follows one that has not ended.
    #[error("the key `{0}` has no last size, and another one follows")]
    NotEnded(Box<VerifierKey>),
    /// A key would end before it began.
    #[error("the key `{key}` ends at size {to}, before it begins at {from}")]
    Backwards {
        /// The key.
        key: Box<VerifierKey>,
        /// Where it begins.
        from: TreeSize,
        /// Where it would end.
        to: TreeSize,
    },
}

/// Why a checkpoint is not one that its size's key signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// Malformed, badly signed, or of another log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Signed by a key of the log that does not sign at this size.
    #[error("the checkpoint of size {size} is signed by `{found}`, which signs sizes {}", sizes(.from, .to))]
    OutOfEpoch {
        /// The checkpoint's size.
        size: TreeSize,
        /// The key that signed it.
        found: Box<VerifierKey>,
        /// The smallest size that this key signs.
        from: TreeSize,
        /// The largest size that this key signs.
        to: Option<TreeSize>,
    },
}

fn sizes(from: &TreeSize, to: &Option<TreeSize>) -> String {
    to.map_or_else(|| format!("from {from} on"), |to| format!("{from} to {to}"))
}

impl Epochs {
    /// A log that has had this key alone.
    pub fn single(key: VerifierKey) -> Self {
        Self { before: Vec::new(), last: Epoch { key, from: TreeSize::new(0), to: None } }
    }

    /// Ends the last key at that size, its last, and begins another one.
    pub fn rotate(&mut self, size: TreeSize, key: VerifierKey) -> Result<(), EpochsError> {
        self.end(size)?;
        self.begin(key)
    }

    fn end(&mut self, to: TreeSize) -> Result<(), EpochsError> {
        let last = &mut self.last;
        if to < last.from || last.to.is_some_and(|before| before < to) {
            return Err(EpochsError::Backwards { key: Box::new(last.key.clone()), from: last.from, to });
        }
        last.to = Some(to);
        Ok(())
    }

    fn begin(&mut self, key: VerifierKey) -> Result<(), EpochsError> {
        let last = &self.last;
        let Some(from) = last.to else { return Err(EpochsError::NotEnded(Box::new(last.key.clone()))) };
        if key.name() != last.key.name() {
            let (found, required) = (key.name().to_owned(), last.key.name().to_owned());
            return Err(EpochsError::OtherName { found, required });
        }
        if self.iter().any(|epoch| epoch.key.public() == key.public()) {
            return Err(EpochsError::KeyAgain(Box::new(key)));
        }
        self.before.push(std::mem::replace(&mut self.last, Epoch { key, from, to: None }));
        Ok(())
    }

    /// Reads a file of keys. Empty lines, and lines that begin with `#`, are ignored.
    pub fn decode(text: &str) -> Result<Self, EpochsError> {
        let mut read: Option<Self> = None;
        for (at, line) in text.lines().enumerate() {
            let (line, words) = (at + 1, line.split_ascii_whitespace().collect::<Vec<_>>());
            let (key, to) = match words.as_slice() {
                [] => continue,
                [comment, ..] if comment.starts_with('#') => continue,
                [key] => (*key, None),
                [key, to] => (*key, Some(decimal(to).map(TreeSize::new).ok_or(EpochsError::Form { line })?)),
                _ => return Err(EpochsError::Form { line }),
            };
            let key = key.parse().map_err(|cause| EpochsError::Key { line, cause })?;
            let epochs = match &mut read {
                None => read.insert(Self::single(key)),
                Some(epochs) => {
                    epochs.begin(key)?;
                    epochs
                }
            };
            if let Some(to) = to {
                epochs.end(to)?;
            }
        }
        read.ok_or(EpochsError::Empty)
    }

    /// The log's origin, which is the name of all its keys.
    pub fn origin(&self) -> &str {
        self.last.key.name()
    }

    /// The keys in order.
    pub fn iter(&self) -> impl Iterator<Item = &Epoch> {
        self.before.iter().chain(std::iter::once(&self.last))
    }

    /// The last key.
    pub fn current(&self) -> &VerifierKey {
        &self.last.key
    }

    /// Whether this is one of the log's keys, at whatever size.
    pub fn knows(&self, key: &VerifierKey) -> bool {
        self.iter().any(|epoch| epoch.key == *key)
    }

    /// The keys that sign checkpoints of this size: two where one ends and the next begins.
    pub fn keys_at(&self, size: TreeSize) -> Vec<VerifierKey> {
        self.iter().filter(|epoch| epoch.covers(size)).map(|epoch| epoch.key.clone()).collect()
    }

    /// Opens a signed checkpoint of this log, which must carry a good signature by a key that signs at its size.
    pub fn open(&self, note: &[u8]) -> Result<SignedCheckpoint, EpochError> {
        // What it says of its size decides which keys count, and is believed only once one of them has signed it.
        let text = Note::parse(note).map_err(CheckpointError::from)?.text;
        let size = Checkpoint::decode_with_extensions(&text)?.0.size;
        let error = match SignedCheckpoint::open(note, self.origin(), &self.keys_at(size)) {
            Ok(signed) => return Ok(signed),
            Err(error) => error,
        };
        let all: Vec<_> = self.iter().map(|epoch| epoch.key.clone()).collect();
        let other = match (&error, SignedCheckpoint::open(note, self.origin(), &all)) {
            (CheckpointError::Note(NoteError::NoKnownSignature { .. }), Ok(other)) => other,
            _ => return Err(error.into()),
        };
        let signer = self.iter().find(|epoch| other.signers().contains(&epoch.key));
        Err(signer.map_or(EpochError::Checkpoint(error), |epoch| EpochError::OutOfEpoch {
            size,
            found: Box::new(epoch.key.clone()),
            from: epoch.from,
            to: epoch.to,
        }))
    }
}

impl fmt::Display for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|Epoch { key, to, .. }| match to {
            Some(to) => writeln!(f, "{key} {to}"),
            None => writeln!(f, "{key}"),
        })
    }
}
