//! The thread that gives entries their place. It owns the frontier, the tiles of the right edge and the clock; it takes what waits as
//! one group, judges each append against the store and what it has placed since, and prepares the writes that make the group
//! durable. While the [committer](super::commit) does that, the sequencer makes the next group: on top of one that may still fail,
//! which is safe because after a failure nothing is committed any more, and nobody is answered before his group is durable.

use super::{
    append::{Appended, Leaf, Prepared, TraceHead, encoding},
    commit::{Group, Outcome},
    db::{Db, Family, Meta, Writes, edge_tiles, number, tile_key},
    error::{AppendError, StoreError},
    queue::{Queue, Task, Waiting},
    recent::Recent,
    shared::Shared,
};
use crate::{
    evidence::{Entry, Int, TraceId},
    tlog::{Frontier, Hash, TILE_WIDTH, TileId, TileReader},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

/// A group takes no more appends once it writes this many bytes.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// The list of open traces is written again after this many entries: opening reads so many entries at most, and a group more.
const OPEN_LIST_EVERY: u64 = 4_096;

pub(super) type Answer = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

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

    /// Adds a hash on a tile's level; a tile that is full goes into the writes.
    fn push(&mut self, level: u8, index: u64, hash: Hash, db: &Db, writes: &mut Writes) -> Result<(), StoreError> {
        let Some(tile) = self.0.get_mut(usize::from(level)) else { return Ok(()) };
        let width = u64::from(TILE_WIDTH);
        if index.is_multiple_of(width) {
            *tile = EdgeTile { index: index / width, ..EdgeTile::default() };
        }
        tile.hashes.extend_from_slice(hash.as_bytes());
        tile.written = false;
        if index % width == width - 1 { tile.write(level, db, writes) } else { Ok(()) }
    }

    /// Puts the tiles that have grown into the writes.
    fn write(&mut self, db: &Db, writes: &mut Writes) -> Result<(), StoreError> {
        let mut grown = (0u8..).zip(&mut self.0).filter(|(_, tile)| !tile.written && !tile.hashes.is_empty());
        grown.try_for_each(|(level, tile)| tile.write(level, db, writes))
    }
}

impl EdgeTile {
    fn write(&mut self, level: u8, db: &Db, writes: &mut Writes) -> Result<(), StoreError> {
        self.written = true;
        writes.put(db, Family::Tile, &tile_key(TileId { level, index: self.index }), &self.hashes)
    }
}

/// A group while it is being made.
#[derive(Default)]
struct Draft {
    leaves: Vec<Arc<Leaf>>,
    /// The traces that it takes further.
    traces: BTreeSet<TraceId>,
    /// Its appends by their digests. Sorted, as the traces are: keys without order cost RocksDB less in the order of the keys.
    digests: BTreeMap<Hash, (u64, u32)>,
    writes: Writes,
    bytes: usize,
    answers: Vec<(Reply, Outcome)>,
}

/// The sequencer's own state. All of it describes the ledger as it will be when everything placed so far is durable.
pub(super) struct Sequencer {
    shared: Arc<Shared>,
    frontier: Frontier,
    edge: Edge,
    /// The time of the last entry: no later one is earlier.
    at: Int,
    src: String,
    /// The place of the next entry among those of `src`.
    seq: Int,
    /// The traces that tell a story without an end yet, each with the index of its first entry.
    open: HashMap<TraceId, u64>,
    /// The size as of which the list of open traces was last written.
    open_list_at: u64,
    max_batch: usize,
    traces: Recent<TraceId, TraceHead>,
    digests: Recent<Hash, (u64, u32)>,
    /// What was placed and not handed over.
    draft: Draft,
}

/// Where a sequencer begins.
pub(super) struct Beginning {
    pub(super) frontier: Frontier,
    pub(super) at: Int,
    pub(super) src: String,
    pub(super) open: HashMap<TraceId, u64>,
    pub(super) open_list_at: u64,
    pub(super) max_batch: usize,
}

impl Sequencer {
    pub(super) fn new(shared: Arc<Shared>, beginning: Beginning) -> Result<Self, StoreError> {
        let Beginning { frontier, at, src, open, open_list_at, max_batch } = beginning;
        let edge = Edge::read(&shared.db, frontier.size().get())?;
        let (traces, digests, draft) = (Recent::default(), Recent::default(), Draft::default());
        let (seq, max_batch) = (Int::ZERO, max_batch.max(1));
        Ok(Self { shared, frontier, edge, at, src, seq, open, open_list_at, max_batch, traces, digests, draft })
    }

    /// Serves the queue until it is closed and empty.
    pub(super) fn serve(&mut self, queue: &Queue) -> Result<(), StoreError> {
        let mut taken = VecDeque::<Waiting>::new();
        loop {
            while !self.full()
                && let Some((append, reply)) = taken.pop_front()
            {
                self.admit(*append, reply)?;
            }
            match queue.next(self.draft.answers.len() + taken.len(), self.full(), self.max_batch) {
                Task::Judge(more) => taken.extend(more),
                Task::HandOver => queue.hand_over(self.seal()?, taken.len()),
                Task::End => return Ok(()),
            }
        }
    }

    fn full(&self) -> bool {
        self.draft.leaves.len() >= self.max_batch || self.draft.bytes >= GROUP_BYTES_MAX
    }

    /// The first append of the group that was refused, with its position.
    pub(super) fn refused(&self) -> Option<(usize, AppendError)> {
        self.draft.answers.iter().enumerate().find_map(|(at, (_, outcome))| match outcome {
            Outcome::Refused(e) => Some((at, e.clone())),
            Outcome::Placed(..) => None,
        })
    }

    /// Judges an append and adds it to the group, or its refusal.
    pub(super) fn admit(&mut self, prepared: Prepared, reply: Reply) -> Result<(), StoreError> {
        let judged = self.judge(prepared);
        if let Err(e) = &judged {
            // Before the group's callers are answered by its drop.
            self.shared.end(&e.to_string(), true);
        }
        self.draft.answers.push((reply, judged?));
        Ok(())
    }

    fn judge(&mut self, append: Prepared) -> Result<Outcome, StoreError> {
        let Prepared { trace, expected_head, steps, guards, deadline, digest, payloads, bytes } = append;
        if let Some((first, count)) = self.placed_before(&digest)? {
            self.shared.counters.repeated.fetch_add(1, Relaxed);
            return Ok(Outcome::Placed(first, count));
        }
        for (guard, expected) in guards {
            let found = self.head_of(&guard)?;
            if found != expected {
                return Ok(Outcome::Refused(AppendError::GuardMoved { trace: guard, expected, found }));
            }
        }
        let before = self.trace(&trace)?;
        let found = before.as_ref().map(|t| t.head);
        if found != expected_head {
            return Ok(Outcome::Refused(AppendError::HeadMoved { trace, expected: expected_head, found }));
        }
        let (mut state, mut indices) = before.map(|t| (t.state, t.entries)).unwrap_or_default();
        for (step, (body, _)) in steps.iter().enumerate() {
            if let Err(violation) = state.apply(trace, body) {
                return Ok(Outcome::Refused(AppendError::Rule { trace, step, violation }));
            }
        }
        let first = self.frontier.size().get();
        let at = self.at.max(Int::saturating(now_micros()));
        if let Some(deadline) = deadline.filter(|deadline| at.get() / 1_000_000 >= *deadline) {
            let found = at.get() / 1_000_000;
            return Ok(Outcome::Refused(AppendError::Deadline { trace, found, deadline }));
        }
        let (mut prev, mut seq, mut leaves) = (expected_head, self.seq, Vec::with_capacity(steps.len()));
        for (step, (body, encoded)) in steps.into_iter().enumerate() {
            let index = first + step as u64;
            let place = Int::saturating(indices.len() as u64);
            let entry = Entry { trace, step: place, prev, at, src: self.src.as_str().into(), seq, body };
            let bytes = match entry.encode_around(&encoded) {
                Ok(bytes) => bytes,
                Err(e) => return Ok(Outcome::Refused(encoding(trace, step, &e))),
            };
            let hash = crate::tlog::leaf_hash(&bytes);
            (prev, seq) = (Some(hash), seq.next());
            indices.push(index);
            leaves.push(Arc::new(Leaf { index, hash, entry, bytes }));
        }
        let (Some(head), Ok(count)) = (prev, u32::try_from(leaves.len())) else {
            return Ok(Outcome::Refused(AppendError::Empty { trace }));
        };
        // From here on it has its place.
        (self.at, self.seq) = (at, seq);
        for leaf in &leaves {
            self.place(leaf)?;
        }
        let (db, draft) = (&self.shared.db, &mut self.draft);
        for (commitment, sealed) in payloads {
            let record = [first.to_be_bytes().as_slice(), &sealed].concat();
            draft.writes.put(db, Family::Payload, commitment.0.as_bytes(), &record)?;
        }
        draft.leaves.append(&mut leaves);
        draft.traces.insert(trace);
        draft.digests.insert(digest, (first, count));
        draft.bytes += bytes;
        self.digests.insert(digest, (first, count));
        self.traces.insert(trace, TraceHead { head, state, entries: indices });
        Ok(Outcome::Placed(first, count))
    }

    /// Gives an entry that has its place already that place again: it must be the next one, and as it would be written here.
    pub(super) fn replay(&mut self, bytes: Vec<u8>) -> Result<Arc<Leaf>, StoreError> {
        let index = self.frontier.size().get();
        let wrong = |why: String| StoreError::Restore(format!("entry {index}: {why}"));
        let entry = Entry::decode(&bytes).map_err(|e| wrong(e.to_string()))?;
        let trace = entry.trace;
        let before = self.trace(&trace)?;
        let (head, step) = (before.as_ref().map(|t| t.head), before.as_ref().map_or(0, |t| t.entries.len() as u64));
        let (mut state, mut entries) = before.map(|t| (t.state, t.entries)).unwrap_or_default();
        if entry.prev != head || entry.step.get() != step {
            return Err(wrong(format!("it is step {} of trace {trace}, required {step}", entry.step)));
        }
        if entry.at < self.at {
            return Err(wrong("it claims to be older than the one before it".into()));
        }
        state.apply(trace, &entry.body).map_err(|e| wrong(e.to_string()))?;
        let leaf = Arc::new(Leaf { index, hash: crate::tlog::leaf_hash(&bytes), entry, bytes });
        self.at = leaf.entry.at;
        self.place(&leaf)?;
        entries.push(index);
        self.draft.leaves.push(Arc::clone(&leaf));
        self.draft.traces.insert(trace);
        self.traces.insert(trace, TraceHead { head: leaf.hash, state, entries });
        Ok(leaf)
    }

    /// Adds an entry to the tree and to the group's writes.
    fn place(&mut self, leaf: &Leaf) -> Result<(), StoreError> {
        let Self { shared, frontier, edge, draft, .. } = self;
        let (db, writes) = (&shared.db, &mut draft.writes);
        writes.put(db, Family::Entry, &leaf.index.to_be_bytes(), &leaf.bytes)?;
        let mut pushed = Ok(());
        frontier.push_with(leaf.hash, |level, index, hash| {
            if level.is_multiple_of(8) && pushed.is_ok() {
                pushed = edge.push(level / 8, index, hash, db, writes);
            }
        });
        pushed
    }

    /// Where an append with this digest was placed before.
    fn placed_before(&self, digest: &Hash) -> Result<Option<(u64, u32)>, StoreError> {
        if let Some(placed) = self.digests.get(digest) {
            return Ok(Some(*placed));
        }
        let Some(bytes) = self.shared.db.get(Family::Idem, digest.as_bytes())? else { return Ok(None) };
        let placed = bytes
            .split_first_chunk::<8>()
            .and_then(|(first, count)| Some((u64::from_be_bytes(*first), u32::from_be_bytes(count.try_into().ok()?))));
        placed.map(Some).ok_or_else(|| StoreError::Damaged(format!("the record of append {digest} is not one")))
    }

    fn trace(&self, trace: &TraceId) -> Result<Option<TraceHead>, StoreError> {
        match self.traces.get(trace) {
            Some(head) => Ok(Some(head.clone())),
            None => stored_trace(&self.shared.db, trace),
        }
    }

    fn head_of(&self, trace: &TraceId) -> Result<Option<Hash>, StoreError> {
        match self.traces.get(trace) {
            Some(known) => Ok(Some(known.head)),
            None => Ok(stored_trace(&self.shared.db, trace)?.map(|stored| stored.head)),
        }
    }

    /// Completes the group, whose predecessor is durable, and begins the next.
    pub(super) fn seal(&mut self) -> Result<Group, StoreError> {
        let Draft { leaves, traces, digests, mut writes, answers, .. } = std::mem::take(&mut self.draft);
        let db = &self.shared.db;
        let (size, root) = (self.frontier.size().get(), self.frontier.root());
        let mut moved = Vec::with_capacity(traces.len());
        if !leaves.is_empty() {
            self.edge.write(db, &mut writes)?;
            for trace in traces {
                let Some(head) = self.traces.get(&trace) else { continue };
                writes.put(db, Family::Trace, trace.0.as_bytes(), &head.encode().map_err(StoreError::Damaged)?)?;
                let open = head.entries.first().copied().filter(|_| head.state.phase.is_open());
                moved.push((trace, open));
            }
            for (digest, (first, count)) in digests {
                let record = [first.to_be_bytes().as_slice(), &count.to_be_bytes()].concat();
                writes.put(db, Family::Idem, digest.as_bytes(), &record)?;
            }
            move_open(&mut self.open, &moved);
            writes.put(db, Family::Meta, Meta::SIZE, &size.to_be_bytes())?;
            writes.put(db, Family::Meta, Meta::ROOT, root.as_bytes())?;
            writes.put(db, Family::Meta, Meta::FRONTIER, &self.frontier.to_bytes())?;
            let base = size - leaves.len() as u64;
            writes.put(db, Family::Meta, Meta::BASE, &base.to_be_bytes())?;
            if size - self.open_list_at >= OPEN_LIST_EVERY {
                writes.put(db, Family::Meta, Meta::OPEN, &encode_open(size, &self.open))?;
                self.open_list_at = size;
            }
        }
        self.traces.age();
        self.digests.age();
        Ok(Group { leaves, writes, size, root, moved, answers })
    }
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

/// Takes the list of open traces past these: each with the index of its first entry where it is open.
pub(super) fn move_open(open: &mut HashMap<TraceId, u64>, moved: &[(TraceId, Option<u64>)]) {
    for (trace, first) in moved {
        match first {
            Some(first) => open.insert(*trace, *first),
            None => open.remove(trace),
        };
    }
}

/// The list of open traces as it is stored.
pub(super) fn encode_open(size: u64, open: &HashMap<TraceId, u64>) -> Vec<u8> {
    let mut bytes = size.to_be_bytes().to_vec();
    for (trace, first) in open {
        bytes.extend_from_slice(trace.0.as_bytes());
        bytes.extend_from_slice(&first.to_be_bytes());
    }
    bytes
}

/// So many of the open traces are held against their records.
const OPEN_CHECKED: usize = 4_096;

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
    let mut seen = HashSet::new();
    for item in db.entries(since..size)? {
        let (index, bytes) = item?;
        let entry = Entry::decode(&bytes).map_err(|e| StoreError::Damaged(format!("entry {index}: {e}")))?;
        // As it stands now: each trace need be looked up once.
        if seen.insert(entry.trace)
            && let Some(head) = stored_trace(db, &entry.trace)?
        {
            let first = head.entries.first().copied().filter(|_| head.state.phase.is_open());
            move_open(&mut open, &[(entry.trace, first)]);
        }
    }
    for (trace, first) in open.iter().take(OPEN_CHECKED) {
        let record = stored_trace(db, trace)?;
        let stands = record.filter(|head| head.state.phase.is_open()).and_then(|head| head.entries.first().copied());
        if stands != Some(*first) {
            let stands =
                stands.map_or_else(|| "that it is not open".into(), |index| format!("that it begins at {index}"));
            let why =
                format!("trace {trace} stands among the open ones, beginning at {first}; its record says {stands}");
            return Err(StoreError::Damaged(why));
        }
    }
    Ok((open, since))
}
