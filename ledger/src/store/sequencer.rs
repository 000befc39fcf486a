//! The one thread that gives entries their place. It owns the frontier, the tiles of the right edge, the clock and `HEAD`; it
//! takes what waits as one group, judges each append against the store and the group so far, and commits the group as the
//! [module above](super) says. It never goes on after an error: what it holds in memory could no longer be what is on the disk.

use super::{
    append::{Appended, Durable, Leaf, Prepared, TraceHead, encoding},
    db::{Batch, Db, Family, Meta, edge_tiles, number, tile_key},
    error::{AppendError, StoreError},
    head::HeadFile,
    readback::{differs, read_back},
    shared::{Point, Shared, lock},
};
use crate::{
    evidence::{Commitment, Entry, Int, TraceId},
    tlog::{
        Checkpoint, Frontier, Hash, LeafIndex, SignedCheckpoint, SignerKey, TILE_WIDTH, TileHashes, TileId, TileReader,
        TreeSize,
    },
};
use std::{
    borrow::Cow,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A group takes no more appends once it writes this many bytes.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// The list of open traces is written again after this many entries: opening reads so many entries at most.
const OPEN_LIST_EVERY: u64 = 16_384;

/// Checkpoints are published no closer to each other than this.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// What waits in the queue.
pub(super) enum Message {
    Append(Box<Prepared>, Reply),
    Close,
}

type Answer = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// The answer owed for one append. Dropped without one, it says that the ledger has stopped: no caller waits for ever.
pub(super) struct Reply {
    answer: Option<Answer>,
    shared: Arc<Shared>,
}

impl Reply {
    pub(super) fn new(shared: Arc<Shared>, answer: Answer) -> Self {
        Self { answer: Some(answer), shared }
    }

    pub(super) fn send(mut self, result: Result<Appended, AppendError>) {
        if let Some(answer) = self.answer.take() {
            answer(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            let reason = self.shared.ended().unwrap_or_else(|| "the sequencer ended without an answer".into());
            answer(Err(AppendError::Stopped(reason)));
        }
    }
}

/// The present, in microseconds of Unix time.
pub(super) fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX))
}

/// The tiles of the right edge that are not full, by level.
pub(super) struct Edge(Vec<EdgeTile>);

#[derive(Default)]
struct EdgeTile {
    index: u64,
    hashes: Vec<u8>,
    written: bool,
}

impl Edge {
    /// Reads the edge of a tree of that size, which [`check_edge`](super::readback::check_edge) has checked.
    pub(super) fn read(db: &Db, size: u64) -> Result<Self, StoreError> {
        let mut edge = Self((0..8).map(|_| EdgeTile::default()).collect());
        for (id, width) in edge_tiles(size) {
            if let Some(tile) = edge.0.get_mut(usize::from(id.level)) {
                *tile = EdgeTile { index: id.index, hashes: db.tile(id.level, id.index, width)?, written: true };
            }
        }
        Ok(edge)
    }

    /// Adds a hash on a tile's level; a tile that is full goes into the batch.
    fn push(&mut self, level: u8, index: u64, hash: Hash, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let Some(tile) = self.0.get_mut(usize::from(level)) else { return Ok(()) };
        let width = u64::from(TILE_WIDTH);
        if index.is_multiple_of(width) {
            *tile = EdgeTile { index: index / width, ..EdgeTile::default() };
        }
        tile.hashes.extend_from_slice(hash.as_bytes());
        tile.written = false;
        if index % width == width - 1 { tile.write(level, batch) } else { Ok(()) }
    }

    /// Puts the tiles that have grown into the batch.
    fn write(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let mut grown = (0u8..).zip(&mut self.0).filter(|(_, tile)| !tile.written && !tile.hashes.is_empty());
        grown.try_for_each(|(level, tile)| tile.write(level, batch))
    }
}

impl EdgeTile {
    fn write(&mut self, level: u8, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        self.written = true;
        batch.put(Family::Tile, &tile_key(TileId { level, index: self.index }), &self.hashes)
    }
}

/// What became of an append.
enum Outcome {
    /// Its entries stand (or will stand) from this index on, so many.
    Placed(u64, u32),
    Refused(AppendError),
}

/// A group on its way: what its appends add to the store.
#[derive(Default)]
pub(super) struct Group {
    leaves: Vec<Arc<Leaf>>,
    traces: HashMap<TraceId, TraceHead>,
    digests: HashMap<Hash, (u64, u32)>,
    payloads: Vec<(Commitment, u64, Vec<u8>)>,
    bytes: usize,
    answers: Vec<(Reply, Outcome)>,
}

impl Group {
    /// The first of the group's appends that was refused, with its position.
    pub(super) fn refused(&self) -> Option<(usize, AppendError)> {
        self.answers.iter().enumerate().find_map(|(at, (_, outcome))| match outcome {
            Outcome::Refused(e) => Some((at, e.clone())),
            Outcome::Placed(..) => None,
        })
    }
}

/// The sequencer's own state. All of it describes the store as of the last signed checkpoint.
pub(super) struct Sequencer {
    pub(super) shared: Arc<Shared>,
    pub(super) signer: SignerKey,
    pub(super) head: HeadFile,
    pub(super) frontier: Frontier,
    pub(super) edge: Edge,
    /// The root of the last signed checkpoint.
    pub(super) root: Hash,
    /// The time of the last entry: no later one is earlier.
    pub(super) at: Int,
    pub(super) src: String,
    pub(super) seq: Int,
    /// The size as of which the list of open traces was last written.
    pub(super) open_list_at: u64,
    pub(super) max_batch: usize,
    /// When a checkpoint may be published again.
    pub(super) publish_from: Instant,
}

impl Sequencer {
    /// Serves the queue until it is closed or something fails.
    pub(super) fn run(mut self, queue: Receiver<Message>) {
        let _ = self.shared.sequencer.set(std::thread::current().id());
        let shared = Arc::clone(&self.shared);
        match catch_unwind(AssertUnwindSafe(|| self.serve(&queue))) {
            Ok(Ok(())) => shared.end("it was closed", false),
            Ok(Err(e)) => shared.end(&e.to_string(), true),
            Err(_) => shared.end("the sequencer panicked", true),
        }
        // Dropping the queue answers whatever waits in it.
    }

    fn serve(&mut self, queue: &Receiver<Message>) -> Result<(), StoreError> {
        loop {
            let wait = if self.unpublished() {
                self.publish_from.saturating_duration_since(Instant::now())
            } else {
                Duration::MAX
            };
            let first = match queue.recv_timeout(wait) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.publish()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            };
            let mut group = Group::default();
            let committed =
                self.gather(queue, first, &mut group).and_then(|go_on| self.commit(&mut group).map(|()| go_on));
            if let Err(e) = &committed {
                // Before the group's callers are answered by its drop.
                self.shared.end(&e.to_string(), true);
            }
            if !committed? {
                return self.finish();
            }
            self.publish_if_due()?;
        }
    }

    /// Takes what waits, up to the bounds; gives whether to go on afterwards.
    fn gather(&mut self, queue: &Receiver<Message>, first: Message, group: &mut Group) -> Result<bool, StoreError> {
        let mut message = first;
        loop {
            match message {
                Message::Close => return Ok(false),
                Message::Append(prepared, reply) => {
                    self.shared.counters.queue.fetch_sub(1, Relaxed);
                    self.admit(*prepared, reply, group)?;
                }
            }
            if group.leaves.len() >= self.max_batch || group.bytes >= GROUP_BYTES_MAX {
                return Ok(true);
            }
            message = match queue.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(true),
            };
        }
    }

    /// Judges an append and adds it to the group, or its refusal.
    pub(super) fn admit(&mut self, prepared: Prepared, reply: Reply, group: &mut Group) -> Result<(), StoreError> {
        let judged = self.judge(prepared, group);
        if let Err(e) = &judged {
            self.shared.end(&e.to_string(), true);
        }
        group.answers.push((reply, judged?));
        Ok(())
    }

    fn judge(&self, append: Prepared, group: &mut Group) -> Result<Outcome, StoreError> {
        let Prepared { trace, expected_head, steps, guards, deadline, digest, payloads, bytes } = append;
        if let Some((first, count)) = self.placed_before(&digest, group)? {
            self.shared.counters.repeated.fetch_add(1, Relaxed);
            return Ok(Outcome::Placed(first, count));
        }
        for (guard, expected) in guards {
            let found = self.trace(&guard, group)?.map(|t| t.head);
            if found != expected {
                return Ok(Outcome::Refused(AppendError::GuardMoved { trace: guard, expected, found }));
            }
        }
        let before = self.trace(&trace, group)?.map(Cow::into_owned);
        let found = before.as_ref().map(|t| t.head);
        if found != expected_head {
            return Ok(Outcome::Refused(AppendError::HeadMoved { trace, expected: expected_head, found }));
        }
        let (mut state, mut indices) = before.map(|t| (t.state, t.entries)).unwrap_or_default();
        for (step, body) in steps.iter().enumerate() {
            if let Err(violation) = state.apply(trace, body) {
                return Ok(Outcome::Refused(AppendError::Rule { trace, step, violation }));
            }
        }
        let base = self.frontier.size().get();
        let first = base + group.leaves.len() as u64;
        let mut prev = expected_head;
        let mut at = group.leaves.last().map_or(self.at, |leaf| leaf.entry.at).max(Int::saturating(now_micros()));
        if let Some(deadline) = deadline.filter(|deadline| at.get() / 1_000_000 >= *deadline) {
            let found = at.get() / 1_000_000;
            return Ok(Outcome::Refused(AppendError::Deadline { trace, found, deadline }));
        }
        let mut leaves = Vec::with_capacity(steps.len());
        for (step, body) in steps.into_iter().enumerate() {
            let index = first + step as u64;
            let entry = Entry {
                trace,
                step: Int::saturating(indices.len() as u64),
                prev,
                at,
                src: self.src.clone(),
                seq: Int::saturating(self.seq.get() + (index - base)),
                body,
            };
            let bytes = match entry.encode() {
                Ok(bytes) => bytes,
                Err(e) => return Ok(Outcome::Refused(encoding(trace, step, &e))),
            };
            let hash = crate::tlog::leaf_hash(&bytes);
            (prev, at) = (Some(hash), entry.at);
            indices.push(index);
            leaves.push(Arc::new(Leaf { index, hash, entry, bytes }));
        }
        let (Some(head), Ok(count)) = (prev, u32::try_from(leaves.len())) else {
            return Ok(Outcome::Refused(AppendError::Empty { trace }));
        };
        group.leaves.append(&mut leaves);
        group.traces.insert(trace, TraceHead { head, state, entries: indices });
        group.digests.insert(digest, (first, count));
        group.payloads.extend(payloads.into_iter().map(|(commitment, sealed)| (commitment, first, sealed)));
        group.bytes += bytes;
        Ok(Outcome::Placed(first, count))
    }

    fn placed_before(&self, digest: &Hash, group: &Group) -> Result<Option<(u64, u32)>, StoreError> {
        if let Some(placed) = group.digests.get(digest) {
            return Ok(Some(*placed));
        }
        let Some(bytes) = self.shared.db.get(Family::Idem, digest.as_bytes())? else { return Ok(None) };
        let placed = bytes
            .split_first_chunk::<8>()
            .and_then(|(first, count)| Some((u64::from_be_bytes(*first), u32::from_be_bytes(count.try_into().ok()?))));
        placed.map(Some).ok_or_else(|| StoreError::Damaged(format!("the record of append {digest} is not one")))
    }

    fn trace<'g>(&self, trace: &TraceId, group: &'g Group) -> Result<Option<Cow<'g, TraceHead>>, StoreError> {
        match group.traces.get(trace) {
            Some(head) => Ok(Some(Cow::Borrowed(head))),
            None => Ok(stored_trace(&self.shared.db, trace)?.map(Cow::Owned)),
        }
    }

    /// Makes the group durable, signs it and answers.
    pub(super) fn commit(&mut self, group: &mut Group) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        if !group.leaves.is_empty() {
            let base = self.frontier.size().get();
            self.write(group, base)?;
            let signed = Arc::new(self.sign(base)?);
            shared.at(Point::BeforeHead)?;
            let started = Instant::now();
            self.head.write(&signed)?;
            shared.counters.head_sync.record(started.elapsed());
            shared.at(Point::AfterHead)?;
            self.show(group, signed);
        }
        let signed = Arc::clone(&lock(&shared.visible).signed);
        for (reply, outcome) in group.answers.drain(..) {
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

    /// Writes the group as one synced batch.
    fn write(&mut self, group: &Group, base: u64) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut batch = shared.db.batch();
        for leaf in &group.leaves {
            batch.put(Family::Entry, &leaf.index.to_be_bytes(), &leaf.bytes)?;
            let mut pushed = Ok(());
            self.frontier.push_with(leaf.hash, |level, index, hash| {
                if level.is_multiple_of(8) && pushed.is_ok() {
                    pushed = self.edge.push(level / 8, index, hash, &mut batch);
                }
            });
            pushed?;
        }
        self.edge.write(&mut batch)?;
        for (trace, head) in &group.traces {
            let bytes = head.encode().map_err(StoreError::Damaged)?;
            batch.put(Family::Trace, trace.0.as_bytes(), &bytes)?;
        }
        for (digest, (first, count)) in &group.digests {
            let record = [first.to_be_bytes().as_slice(), &count.to_be_bytes()].concat();
            batch.put(Family::Idem, digest.as_bytes(), &record)?;
        }
        for (commitment, first, sealed) in &group.payloads {
            let record = [first.to_be_bytes().as_slice(), sealed].concat();
            batch.put(Family::Payload, commitment.0.as_bytes(), &record)?;
        }
        let size = self.frontier.size().get();
        batch.put(Family::Meta, Meta::SIZE, &size.to_be_bytes())?;
        batch.put(Family::Meta, Meta::ROOT, self.frontier.root().as_bytes())?;
        batch.put(Family::Meta, Meta::FRONTIER, &self.frontier.to_bytes())?;
        batch.put(Family::Meta, Meta::BASE, &base.to_be_bytes())?;
        if size - self.open_list_at >= OPEN_LIST_EVERY {
            let mut open = lock(&shared.open).clone();
            apply_open(&mut open, &group.traces);
            batch.put(Family::Meta, Meta::OPEN, &encode_open(size, &open))?;
            self.open_list_at = size;
        }
        shared.at(Point::BeforeBatch)?;
        let started = Instant::now();
        batch.write()?;
        shared.counters.batch_sync.record(started.elapsed());
        shared.counters.stored.store(size, Relaxed);
        shared.at(Point::AfterBatch)
    }

    /// Reads the group back and signs what was read.
    fn sign(&self, base: u64) -> Result<SignedCheckpoint, StoreError> {
        let db = &self.shared.db;
        let (size, root) = (self.frontier.size().get(), self.frontier.root());
        let found = read_back(db, (base, self.root), size)?;
        if found != root {
            return Err(differs(db, &TileHashes::new(db, TreeSize::new(size)), size, found, root));
        }
        let checkpoint = Checkpoint::new(self.signer.name(), TreeSize::new(size), found);
        Ok(SignedCheckpoint::sign(checkpoint, &[&self.signer])?)
    }

    /// Lets readers see the group.
    fn show(&mut self, group: &Group, signed: Arc<SignedCheckpoint>) {
        let shared = &self.shared;
        self.root = signed.checkpoint().root;
        if let Some(last) = group.leaves.last() {
            self.at = last.entry.at;
            self.seq = last.entry.seq.next();
        }
        apply_open(&mut lock(&shared.open), &group.traces);
        let size = signed.checkpoint().size.get();
        let mut visible = lock(&shared.visible);
        (visible.size, visible.signed) = (size, signed);
        drop(visible);
        shared.visible_grew.notify_all();
        let entries = group.leaves.len() as u64;
        shared.counters.groups.fetch_add(1, Relaxed);
        shared.counters.entries.fetch_add(entries, Relaxed);
        shared.counters.last_group.store(entries, Relaxed);
    }

    fn unpublished(&self) -> bool {
        lock(&self.shared.published).checkpoint().size < self.frontier.size()
    }

    /// Publishes where the ledger has grown and the last time is long enough ago.
    pub(super) fn publish_if_due(&mut self) -> Result<(), StoreError> {
        if self.unpublished() && Instant::now() >= self.publish_from { self.publish() } else { Ok(()) }
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

    /// What is left to do at an orderly end.
    fn finish(&mut self) -> Result<(), StoreError> {
        if self.unpublished() {
            self.publish()?;
        }
        let mut batch = self.shared.db.batch();
        batch.put(Family::Meta, Meta::OPEN, &encode_open(self.frontier.size().get(), &lock(&self.shared.open)))?;
        batch.write()
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

/// An entry read from the store.
pub(super) fn stored_leaf(db: &Db, index: u64) -> Result<Leaf, StoreError> {
    let bytes = db.entry(index)?;
    let entry = Entry::decode(&bytes).map_err(|e| StoreError::Damaged(format!("entry {index}: {e}")))?;
    Ok(Leaf { index, hash: crate::tlog::leaf_hash(&bytes), entry, bytes })
}

/// A trace read from the store, which may be ahead of what is signed.
pub(super) fn stored_trace(db: &Db, trace: &TraceId) -> Result<Option<TraceHead>, StoreError> {
    let Some(bytes) = db.get(Family::Trace, trace.0.as_bytes())? else { return Ok(None) };
    let broken = || StoreError::Damaged(format!("the record of trace {trace} is not one"));
    TraceHead::decode(&bytes).map(Some).ok_or_else(broken)
}

/// Takes the list of open traces past these.
fn apply_open(open: &mut HashMap<TraceId, u64>, traces: &HashMap<TraceId, TraceHead>) {
    for (trace, head) in traces {
        match head.entries.first() {
            Some(first) if head.state.phase.is_open() => open.insert(*trace, *first),
            _ => open.remove(trace),
        };
    }
}

fn encode_open(size: u64, open: &HashMap<TraceId, u64>) -> Vec<u8> {
    let mut bytes = size.to_be_bytes().to_vec();
    for (trace, first) in open {
        bytes.extend_from_slice(trace.0.as_bytes());
        bytes.extend_from_slice(&first.to_be_bytes());
    }
    bytes
}

/// Reads the open traces: the list as it was last written, then the traces of every entry since. Gives them and the list's size.
pub(super) fn read_open(db: &Db, size: u64) -> Result<(HashMap<TraceId, u64>, u64), StoreError> {
    let list = db.get(Family::Meta, Meta::OPEN)?.unwrap_or_else(|| vec![0; 8]);
    let broken = || StoreError::Damaged("`open` is not a list of traces".into());
    let (since, list) = list.split_first_chunk::<8>().ok_or_else(broken)?;
    let since = u64::from_be_bytes(*since);
    let (traces, rest) = list.as_chunks::<40>();
    if !rest.is_empty() || since > size {
        return Err(broken());
    }
    let mut open = HashMap::new();
    for record in traces {
        let (trace, first) = record.split_first_chunk::<32>().ok_or_else(broken)?;
        open.insert(TraceId(Hash::from_bytes(*trace)), number(first).ok_or_else(broken)?);
    }
    let mut since_then = HashMap::new();
    for item in db.entries(since..size)? {
        let (index, bytes) = item?;
        let entry = Entry::decode(&bytes).map_err(|e| StoreError::Damaged(format!("entry {index}: {e}")))?;
        if let Some(head) = stored_trace(db, &entry.trace)? {
            since_then.insert(entry.trace, head);
        }
    }
    apply_open(&mut open, &since_then);
    Ok((open, since))
}
