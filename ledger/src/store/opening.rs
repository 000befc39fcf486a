//! Opening is verifying. The store and `HEAD` are compared with each other and with themselves; each way in which they can
//! contradict each other has its sentence, and leads to a ledger that can be read and not appended to.
//!
//! Why there is one legal gap: a group is synced to the store, read back, signed, written to `HEAD`, answered. A crash before the
//! first sync leaves nothing, one after the last leaves both sides equal. In between, the store holds exactly one group that
//! `HEAD` does not name. Nobody was answered, but nothing was lost either: the group is read back as it would have been, signed,
//! and written to `HEAD`. Anything else did not come from a crash of ours (a disk that lied about a sync, a store or a `HEAD` put
//! back from a backup, two stores on one `HEAD`), and signing over it could tell two stories under one key.

use super::{
    db::{Db, FORMAT, Family, Meta, number},
    error::StoreError,
    head::{Head, HeadFile},
    ledger::Options,
    readback::{check_edge, read_back, root_at},
    sequencer::{read_open, stored_leaf, stored_trace},
};
use crate::{
    evidence::{Int, TraceId},
    tlog::{Checkpoint, EMPTY_ROOT, Epoch, Epochs, Frontier, Hash, SignedCheckpoint, SignerKey, TreeSize},
};
use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

/// How many entries at the end of the store are hashed again.
const CHECKED: u64 = 256;

/// What opening found. Shown as one sentence for the operator's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpeningReport {
    /// How many entries the store holds.
    pub size: u64,
    /// The size that `HEAD` named; `None` where it is missing or holds no checkpoint of this log.
    pub head_size: Option<u64>,
    /// How many entries at the end were read and hashed again.
    pub checked: u64,
    /// Set where the store was ahead of `HEAD` by one group, which was read back and signed: from this size to this one.
    pub repaired: Option<(u64, u64)>,
    /// How many of the two slots of `HEAD` hold something that does not verify: one after a torn write, which is harmless.
    pub damaged_slots: usize,
    /// Why the ledger is read-only.
    pub read_only: Option<String>,
    /// How often the ledger was opened for appending, this time included.
    pub epoch: u64,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for OpeningReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.read_only {
            return write!(f, "opened read-only at {} entries: {reason}", self.size);
        }
        write!(f, "opened at {} entries in {} ms", self.size, self.took.as_millis())?;
        if let Some((from, to)) = self.repaired {
            write!(
                f,
                "; a stop had left entries {from} to {} synced and not yet signed: they were verified and signed",
                to - 1
            )?;
        }
        if self.damaged_slots > 0 {
            write!(f, "; one of the two slots of `HEAD` was not readable, as a write cut short leaves it")?;
        }
        Ok(())
    }
}

/// A store and its `HEAD`, examined.
pub(super) struct Opened {
    pub(super) db: Db,
    pub(super) epochs: Epochs,
    pub(super) report: OpeningReport,
    /// The last published checkpoint, or where there is none the best one known.
    pub(super) published: SignedCheckpoint,
    /// What is needed to append; `None` where the ledger is read-only.
    pub(super) ready: Option<Ready>,
}

/// What is needed to append.
pub(super) struct Ready {
    pub(super) head: HeadFile,
    pub(super) signed: SignedCheckpoint,
    pub(super) frontier: Frontier,
    pub(super) at: Int,
    pub(super) instance: String,
    pub(super) open: HashMap<TraceId, u64>,
    pub(super) open_list_at: u64,
}

/// Opens a store and examines it. `ended`: the key before the present one, which signs as well where its epoch ends.
pub(super) fn open(options: &Options, ended: Option<&SignerKey>) -> Result<Opened, StoreError> {
    let started = Instant::now();
    let key = options.signer.verifier();
    let db = Db::open(&options.dir, false)?;
    require_format(&db)?;
    let epochs = require_ours(&db, options)?;
    if let Some(Epoch { key: found, to: Some(ended), .. }) = epochs.iter().find(|epoch| epoch.key == *key) {
        let (found, required) = (Box::new(found.clone()), Box::new(epochs.current().clone()));
        return Err(StoreError::KeyEnded { found, ended: *ended, required });
    }
    let signers: Vec<_> = std::iter::once(&options.signer).chain(ended).collect();
    let size = db.meta_number(Meta::SIZE)?;
    if size == 0 {
        return Err(StoreError::Damaged(
            "its creation was never finished: remove the folder and `HEAD`, and create it again".into(),
        ));
    }
    let head = HeadFile::open(&options.head, &epochs)?;
    let published = last_published(&db, &epochs);
    let mut report = OpeningReport { size, ..OpeningReport::default() };
    let mut best = published.as_ref().ok().cloned().flatten();
    if let Some((_, head)) = &head {
        report.damaged_slots = head.damaged;
        report.head_size = head.newest.as_ref().map(|n| n.checkpoint().size.get());
        best = best.or_else(|| head.newest.clone());
    }
    let examined = published.and_then(|published| {
        Ok((examine(&db, (&epochs, &signers), size, head, published.as_ref(), &mut report)?, published))
    });
    match examined {
        Ok((ready, published)) => {
            report.epoch = db.meta_number(Meta::EPOCH)?.saturating_add(1);
            let mut batch = db.batch();
            batch.put(Family::Meta, Meta::EPOCH, &report.epoch.to_be_bytes())?;
            batch.write()?;
            report.took = started.elapsed();
            let published = published.unwrap_or_else(|| ready.signed.clone());
            Ok(Opened { db, epochs, report, published, ready: Some(ready) })
        }
        Err(StoreError::Damaged(reason)) => {
            report.took = started.elapsed();
            report.read_only = Some(reason.clone());
            match best {
                Some(published) => Ok(Opened { db, epochs, report, published, ready: None }),
                // Nothing is there that was ever signed: nothing to read by.
                None => Err(StoreError::Damaged(reason)),
            }
        }
        Err(e) => Err(e),
    }
}

/// Opens a store for reading, by its last published checkpoint.
pub(super) fn open_reading(options: &Options) -> Result<(Db, Epochs, SignedCheckpoint), StoreError> {
    let db = Db::open_reading(&options.dir)?;
    require_format(&db)?;
    let epochs = require_ours(&db, options)?;
    let published = last_published(&db, &epochs)?;
    let published = published.ok_or_else(|| StoreError::Damaged("no checkpoint was published yet".into()))?;
    Ok((db, epochs, published))
}

/// The last published checkpoint.
pub(super) fn last_published(db: &Db, epochs: &Epochs) -> Result<Option<SignedCheckpoint>, StoreError> {
    let Some((of, note)) = db.last(Family::Checkpoint)? else { return Ok(None) };
    let of = number(&of).map_or_else(|| "unknown".into(), |of| of.to_string());
    let not_one = |e| StoreError::Damaged(format!("the last published checkpoint, of size {of}, is not one: {e}"));
    epochs.open(&note).map(Some).map_err(not_one)
}

pub(super) fn require_format(db: &Db) -> Result<(), StoreError> {
    let found = db.meta(Meta::FORMAT)?;
    if found == FORMAT {
        return Ok(());
    }
    let (found, required) = (String::from_utf8_lossy(&found), String::from_utf8_lossy(FORMAT));
    Err(StoreError::Damaged(format!(
        "its format is not one that this version reads: found `{found}`, required `{required}`"
    )))
}

/// The log's keys, the signer's among them.
fn require_ours(db: &Db, options: &Options) -> Result<Epochs, StoreError> {
    let (epochs, key) = (db.epochs()?, options.signer.verifier());
    if epochs.knows(key) {
        return Ok(epochs);
    }
    Err(StoreError::OtherLog {
        path: options.dir.clone(),
        found: epochs.current().to_string(),
        required: key.to_string(),
    })
}

/// Signs a checkpoint with those of the keys whose epoch covers its size: one, or two where one ends and the next begins.
pub(super) fn sign(
    epochs: &Epochs,
    signers: &[&SignerKey],
    size: u64,
    root: Hash,
) -> Result<SignedCheckpoint, StoreError> {
    let size = TreeSize::new(size);
    let keys = epochs.keys_at(size);
    let of = |key| signers.iter().copied().find(|signer| signer.verifier() == key);
    let signers: Vec<_> = keys.iter().filter_map(of).collect();
    Ok(SignedCheckpoint::sign(Checkpoint::new(epochs.origin(), size, root), &signers)?)
}

/// Makes sure that the ledger may be appended to, closing the one legal gap. Every contradiction is [`StoreError::Damaged`].
fn examine(
    db: &Db,
    (epochs, signers): (&Epochs, &[&SignerKey]),
    size: u64,
    head: Option<(HeadFile, Head)>,
    published: Option<&SignedCheckpoint>,
    report: &mut OpeningReport,
) -> Result<Ready, StoreError> {
    let contradiction = |why: String| Err(StoreError::Damaged(why));
    let Some((mut file, head)) = head else {
        return contradiction(format!("`HEAD` is missing, the store holds {size} entries: put `HEAD` back"));
    };
    // The store with itself.
    let frontier = db.frontier()?;
    if db.get(Family::Entry, &size.to_be_bytes())?.is_some() {
        return contradiction(format!("an entry stands at index {size} of a store of size {size}"));
    }
    check_edge(db, size, frontier.root())?;
    report.checked = size.min(CHECKED);
    let at = check_traces(db, size)?;
    if let Some(published) = published {
        let Checkpoint { size: of, root, .. } = published.checkpoint();
        if of.get() > size {
            return contradiction(format!("the store holds {size} entries, a checkpoint of size {of} was published"));
        }
        let found = root_at(db, of.get())?;
        if found != *root {
            return contradiction(format!("at size {of} the store's root is {found}, the published one {root}"));
        }
    }
    let base = db.meta_number(Meta::BASE)?;
    if base >= size {
        return contradiction(format!("the store holds {size} entries, the last group would begin at {base}"));
    }
    // The store with `HEAD`.
    let (head_size, head_root) = match &head.newest {
        Some(newest) => (newest.checkpoint().size.get(), newest.checkpoint().root),
        None if head.damaged == 0 || (head.damaged == 1 && base == 0) => (0, EMPTY_ROOT),
        None => {
            let key = epochs.current();
            return contradiction(format!(
                "`HEAD` holds no checkpoint by the key `{key}`, the store holds {size} entries"
            ));
        }
    };
    if head_size > size {
        let lost = head_size - size;
        return contradiction(format!(
            "the store holds {size} entries, `HEAD` names {head_size}: {lost} entries that were answered for are missing"
        ));
    }
    // What was published was in `HEAD` before. A damaged slot explains why it is not there any more, and so does one that was never
    // written.
    if let Some(published) = published.map(|published| published.checkpoint().size.get())
        && published > head_size
        && head.newest.is_some()
        && head.damaged == 0
    {
        return contradiction(format!(
            "`HEAD` names {head_size} entries, a checkpoint of size {published} was published: `HEAD` is an old one"
        ));
    }
    let signed = if head_size == size {
        if head_root != frontier.root() {
            let root = frontier.root();
            return contradiction(format!("at size {size} the store's root is {root}, `HEAD` names {head_root}"));
        }
        head.newest
    } else {
        if base != head_size {
            return contradiction(format!(
                "the store holds {size} entries, the last group from {base} on, and `HEAD` names {head_size}: it may be behind by \
                 that group alone"
            ));
        }
        let found = read_back(db, (head_size, head_root), size)?;
        if found != frontier.root() {
            let root = frontier.root();
            return contradiction(format!("at size {size} the stored tiles come to the root {found}, required {root}"));
        }
        let signed = sign(epochs, signers, size, found)?;
        file.write(&signed)?;
        report.repaired = Some((head_size, size));
        Some(signed)
    };
    let Some(signed) = signed else {
        return contradiction(format!("`HEAD` is empty, the store holds {size} entries"));
    };
    let instance = String::from_utf8_lossy(&db.meta(Meta::INSTANCE)?).into_owned();
    let (open, open_list_at) = read_open(db, size)?;
    Ok(Ready { head: file, signed, frontier, at, instance, open, open_list_at })
}

/// Checks that the traces of the last entries end with them, and that none of these is of an opening that is still to come, whose `seq`
/// would be counted twice; gives the time of the last entry.
/// Nor may one of them be of an opening that is still to come: its `seq` would be counted twice.
fn check_traces(db: &Db, size: u64) -> Result<Int, StoreError> {
    let (mut at, mut seen) = (Int::ZERO, std::collections::HashSet::new());
    let (instance, epoch) = (db.meta(Meta::INSTANCE)?, db.meta_number(Meta::EPOCH)?);
    for index in (size.saturating_sub(CHECKED)..size).rev() {
        let leaf = stored_leaf(db, index)?;
        at = at.max(leaf.entry.at);
        if let Some((of, appended)) = leaf.entry.src.split_once('/')
            && of.as_bytes() == instance
            && appended.parse().is_ok_and(|appended: u64| appended > epoch)
        {
            let why = format!("entry {index} was appended in epoch {appended}, the store's last epoch is {epoch}");
            return Err(StoreError::Damaged(why));
        }
        if !seen.insert(leaf.entry.trace) {
            continue;
        }
        let trace = leaf.entry.trace;
        match stored_trace(db, &trace)? {
            Some(head) if head.head == leaf.hash && head.entries.last() == Some(&index) => (),
            Some(head) => {
                let ends = head.entries.last().map_or_else(|| "nowhere".into(), u64::to_string);
                let why =
                    format!("trace {trace} ends with entry {index}, its record says {ends} with hash {}", head.head);
                return Err(StoreError::Damaged(why));
            }
            None => return Err(StoreError::Damaged(format!("trace {trace} of entry {index} has no record"))),
        }
    }
    Ok(at)
}
