//! The thread that makes groups durable, one after the other, in the order that the [module above](super) gives: written and synced,
//! read back, signed, in `HEAD`, answered. It owns the key, `HEAD` and what is published. It never goes on after an error: what it
//! holds in memory could no longer be what is on the disk.

use super::{
    append::{Appended, Durable, Leaf},
    db::{Db, Family, Meta, Writes},
    error::{AppendError, StoreError},
    head::HeadFile,
    opening,
    queue::Queue,
    readback::{differs, read_back},
    sequencer::{Reply, encode_open, move_open, stored_leaf},
    shared::{Point, Shared, lock},
};
use crate::{
    evidence::TraceId,
    tlog::{Hash, LeafIndex, SignedCheckpoint, SignerKey, TileHashes, TreeSize},
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Checkpoints are published no closer to each other than this.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// What became of an append.
pub(super) enum Outcome {
    /// Its entries stand (or will stand) from this index on, so many.
    Placed(u64, u32),
    Refused(AppendError),
}

/// A group that has its place and is to become durable. One of refusals alone has no leaves and writes nothing.
pub(super) struct Group {
    pub(super) leaves: Vec<Arc<Leaf>>,
    pub(super) writes: Writes,
    /// The size and root with this group.
    pub(super) size: u64,
    pub(super) root: Hash,
    /// The traces that it takes further, each with the index of its first entry where it is open.
    pub(super) moved: Vec<(TraceId, Option<u64>)>,
    pub(super) answers: Vec<(Reply, Outcome)>,
}

/// The committer's own state. All of it describes the store as of the last signed checkpoint.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    /// The key in force; and during a rotation the one that it ends.
    pub(super) signers: Vec<SignerKey>,
    pub(super) head: HeadFile,
    /// The size and root of the last signed checkpoint.
    pub(super) signed: (u64, Hash),
    /// When a checkpoint may be published again.
    pub(super) publish_from: Instant,
}

impl Committer {
    /// Commits what the sequencer hands over until it ends.
    pub(super) fn serve(&mut self, queue: &Queue) -> Result<(), StoreError> {
        loop {
            let deadline = self.unpublished().then_some(self.publish_from);
            match queue.take_group(deadline) {
                (Some(mut group), _) => {
                    let committed = self.commit(&mut group);
                    if let Err(e) = &committed {
                        // Before the group's callers are answered by its drop.
                        self.shared.end(&e.to_string(), true);
                    }
                    committed?;
                    queue.committed();
                    self.answer(group)?;
                    if self.unpublished() && Instant::now() >= self.publish_from {
                        self.publish()?;
                    }
                }
                (None, false) => self.publish()?,
                // Where the ledger has stopped, only opening anew may go on.
                (None, true) if self.shared.ended().is_some() => return Ok(()),
                (None, true) => return self.finish(),
            }
        }
    }

    /// Makes the group durable and signs it.
    pub(super) fn commit(&mut self, group: &mut Group) -> Result<(), StoreError> {
        if group.leaves.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        shared.at(Point::BeforeBatch)?;
        let started = Instant::now();
        shared.db.write(std::mem::take(&mut group.writes))?;
        shared.counters.batch_sync.record(started.elapsed());
        shared.counters.stored.store(group.size, Relaxed);
        shared.at(Point::AfterBatch)?;
        let signed = Arc::new(self.sign(group)?);
        shared.at(Point::BeforeHead)?;
        let started = Instant::now();
        self.head.write(&signed)?;
        shared.counters.head_sync.record(started.elapsed());
        shared.at(Point::AfterHead)?;
        self.signed = (group.size, group.root);
        self.show(group, signed);
        Ok(())
    }

    /// Reads the group back and signs what was read.
    fn sign(&self, group: &Group) -> Result<SignedCheckpoint, StoreError> {
        let db = &self.shared.db;
        let found = read_back(db, self.signed, group.size)?;
        if found != group.root {
            let tiles = TileHashes::new(db, TreeSize::new(group.size));
            return Err(differs(db, &tiles, group.size, found, group.root));
        }
        opening::sign(&self.shared.epochs, &self.signers.iter().collect::<Vec<_>>(), group.size, found)
    }

    /// Lets readers see the group.
    fn show(&self, group: &Group, signed: Arc<SignedCheckpoint>) {
        let shared = &self.shared;
        move_open(&mut lock(&shared.open), &group.moved);
        let mut visible = lock(&shared.visible);
        (visible.size, visible.signed) = (group.size, signed);
        drop(visible);
        shared.visible_grew.notify_all();
        let entries = group.leaves.len() as u64;
        shared.counters.groups.fetch_add(1, Relaxed);
        shared.counters.entries.fetch_add(entries, Relaxed);
        shared.counters.last_group.store(entries, Relaxed);
    }

    /// Answers the group's callers.
    pub(super) fn answer(&self, group: Group) -> Result<(), StoreError> {
        let shared = &self.shared;
        let signed = Arc::clone(&lock(&shared.visible).signed);
        for (reply, outcome) in group.answers {
            match outcome {
                Outcome::Refused(e) => {
                    shared.counters.refused.fetch_add(1, Relaxed);
                    reply.send(Err(e));
                }
                Outcome::Placed(first, count) => match placed(&shared.db, &group.leaves, first, count, &signed) {
                    Ok(appended) => reply.send(Ok(appended)),
                    Err(e) => {
                        shared.end(&e.to_string(), true);
                        return Err(e);
                    }
                },
            }
        }
        Ok(())
    }

    pub(super) fn unpublished(&self) -> bool {
        lock(&self.shared.published).checkpoint().size.get() < self.signed.0
    }

    /// Publishes the last signed checkpoint: it is kept for ever before anybody sees it.
    pub(super) fn publish(&mut self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let signed = Arc::clone(&lock(&shared.visible).signed);
        shared.at(Point::BeforePublish)?;
        let mut batch = shared.db.batch();
        batch.put(Family::Checkpoint, &signed.checkpoint().size.get().to_be_bytes(), signed.note())?;
        batch.write()?;
        shared.at(Point::AfterPublish)?;
        *lock(&shared.published) = signed;
        self.publish_from = Instant::now() + PUBLISH_EVERY;
        Ok(())
    }

    /// What is left to do at an orderly end. Flushed, the store opens without replaying its log.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        if self.unpublished() {
            self.publish()?;
        }
        let db = &self.shared.db;
        let mut batch = db.batch();
        batch.put(Family::Meta, Meta::OPEN, &encode_open(self.signed.0, &lock(&self.shared.open)))?;
        batch.write()?;
        db.flush()
    }
}

/// The durable entries of an append: from the group, or from the store where it was made before.
fn placed(
    db: &Db,
    leaves: &[Arc<Leaf>],
    first: u64,
    count: u32,
    signed: &Arc<SignedCheckpoint>,
) -> Result<Appended, StoreError> {
    let base = leaves.first().map_or(u64::MAX, |leaf| leaf.index);
    let entries = (first..first.saturating_add(u64::from(count)))
        .map(|index| {
            let here = index.checked_sub(base).and_then(|at| leaves.get(usize::try_from(at).ok()?));
            let leaf = match here {
                Some(leaf) => Arc::clone(leaf),
                None => Arc::new(stored_leaf(db, index)?),
            };
            Ok(Durable::new(leaf, Arc::clone(signed)))
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    let nothing = || StoreError::Damaged(format!("an append of no entries at {}", LeafIndex::new(first)));
    Appended::new(entries).ok_or_else(nothing)
}
