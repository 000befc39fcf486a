//! The ledger as others use it: create or open it, append, read, prove. A [`Ledger`] is a handle that is cheap to clone; the
//! sequencer behind it ends when it is closed, when the last handle is dropped, or at the first error.

use super::{
    append::{Append, Appended, Durable, Prepared, TraceHead},
    backup::{self, RestoreReport},
    bundle::{self, Selection},
    commit::{Committer, Group},
    db::{Db, FORMAT, Family, Meta},
    error::{AppendError, StoreError},
    export::{self, ExportSummary},
    head::HeadFile,
    opening::{self, Opened, OpeningReport, Ready},
    purge::{self, Hold, Periods, PurgeReport, Reading},
    queue::Queue,
    sequencer::{Answer, Beginning, Reply, Sequencer, now_micros, stored_leaf, stored_trace},
    shared::{Shared, Visible, lock},
    stats::Stats,
};
use crate::{
    evidence::{Class, Commitment, Entry, Int, Receipt, Salt, Step, TraceId, TraceState, rotation, step::PayloadRead},
    tlog::{
        Checkpoint, CheckpointError, EMPTY_ROOT, Epochs, Frontier, Hash, LeafIndex, Note, NoteSignature,
        SignedCheckpoint, SignerKey, TILE_WIDTH, TileHashes, TileId, TileReader, TlogProof, TreeSize, VerifierKey,
        consistency_proof, encode_bundle, inclusion_proof, leaf_hash, verify_inclusion,
    },
    vault::{Day, FileKeyring, Payload, Vault, VaultError, files, fill_random},
};
use std::{
    collections::HashMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed, mpsc::sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Where a ledger lives and how it works.
pub struct Options {
    /// The folder of the database.
    pub dir: PathBuf,
    /// The file `HEAD`, best on another disk than `dir`, and never in the same backup: it tells when `dir` has lost something.
    pub head: PathBuf,
    /// The folder of the vault's keys, never in a backup of `dir`.
    pub keyring: PathBuf,
    /// The log's key. Its name is the log's origin.
    pub signer: SignerKey,
    /// A group takes no more appends once it holds so many entries.
    pub max_batch: usize,
    /// How many appends may wait.
    pub queue: usize,
}

impl Options {
    /// These paths and this key, with groups of up to 512 entries and 4,096 waiting appends. Larger groups would spread the cost of
    /// a sync no further to speak of; smaller ones let the next group be made while one becomes durable.
    pub fn new(
        dir: impl Into<PathBuf>,
        head: impl Into<PathBuf>,
        keyring: impl Into<PathBuf>,
        signer: SignerKey,
    ) -> Self {
        Self { dir: dir.into(), head: head.into(), keyring: keyring.into(), signer, max_batch: 512, queue: 4_096 }
    }

    fn with_signer(&self, signer: &SignerKey) -> Result<Self, StoreError> {
        let Self { dir, head, keyring, max_batch, queue, .. } = self;
        let (dir, head, keyring) = (dir.clone(), head.clone(), keyring.clone());
        Ok(Self { dir, head, keyring, signer: copy(signer)?, max_batch: *max_batch, queue: *queue })
    }
}

fn copy(key: &SignerKey) -> Result<SignerKey, StoreError> {
    let text = key.secret_text();
    let copy = std::str::from_utf8(text.as_bytes()).ok().and_then(|text| text.parse().ok());
    copy.ok_or_else(|| StoreError::Damaged(format!("the key `{}` cannot be copied", key.name())))
}

/// A ledger that is open.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
    // Nobody but ledgers holds this, so that the sequencer ends with the last of them. `None` where the ledger is read-only.
    handle: Option<Arc<Handle>>,
}

struct Handle {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    fn join(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        // An answer may hold the last handle: the ledger's own threads can't wait for themselves, and end without being waited for.
        if !self.shared.on_own_thread() {
            // A panic in there has already become the reason why the ledger stopped.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
        self.join();
    }
}

impl Ledger {
    /// Creates a ledger whose first group are these appends; the first of them is `log.created`, for the origin and the key of
    /// `options.signer`. Nothing may be there yet: not the folder (an empty one will do), not `HEAD`. The keyring may be.
    pub fn create(options: &Options, first: Vec<Append>) -> Result<Self, StoreError> {
        require_created(options, &first)?;
        if options.dir.exists()
            && fs::read_dir(&options.dir).map_err(StoreError::io("read", &options.dir))?.next().is_some()
        {
            return Err(StoreError::Exists(options.dir.clone()));
        }
        if options.head.exists() {
            return Err(StoreError::Exists(options.head.clone()));
        }
        let vault = Vault::new(FileKeyring::open_or_create(&options.keyring)?);
        files::create_folder(&options.dir)?;
        if let Some(parent) = options.head.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
        }
        // Of two that create at once, one gets past this line.
        let head = HeadFile::create(&options.head)?;
        let begun = begin(options, vault, head, first).inspect_err(|_| {
            // Nothing was committed: leave nothing behind, so that it can be tried again.
            let _ = fs::remove_file(&options.head);
            let _ = fs::remove_dir_all(&options.dir);
        });
        let (shared, sequencer, mut committer, mut group) = begun?;
        committer.commit(&mut group)?;
        committer.answer(group)?;
        committer.publish()?;
        Self::start(options, shared, sequencer, committer)
    }

    /// Opens a ledger, verifying it (see [`opening`](Self::opening)). Where store and `HEAD` contradict each other the ledger is
    /// [`read_only`](Self::read_only), which is not an error here.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let keyring = FileKeyring::open(&options.keyring)?;
        let opened = opening::open(options, None)?;
        // The database's lock is held: no other process has the keys either.
        keyring.finish()?;
        let vault = Vault::new(keyring);
        let Some(ready) = opened.ready else {
            let (size, published) = (opened.report.size, Arc::new(opened.published));
            let signed = Arc::clone(&published);
            let shared = Shared::new(
                opened.db,
                vault,
                opened.epochs,
                opened.report,
                Visible { size, signed },
                published,
                HashMap::new(),
            );
            return Ok(Self { shared: Arc::new(shared), handle: None });
        };
        let Opened { db, epochs, report, published, .. } = opened;
        let (shared, sequencer, mut committer) = assemble(options, (db, vault, epochs), report, published, ready)?;
        if committer.unpublished() {
            committer.publish()?;
        }
        Self::start(options, shared, sequencer, committer)
    }

    /// Opens a ledger for reading what was published, also while another process appends to it. It is
    /// [`read_only`](Self::read_only), and stays as it was when it was opened.
    pub fn open_reading(options: &Options) -> Result<Self, StoreError> {
        let vault = Vault::new(FileKeyring::open(&options.keyring)?);
        let (db, epochs, published) = opening::open_reading(options)?;
        let signed = Arc::new(published);
        let size = signed.checkpoint().size.get();
        let read_only = Some("opened for reading only".into());
        let report = OpeningReport { size, read_only, ..OpeningReport::default() };
        let visible = Visible { size, signed: Arc::clone(&signed) };
        let shared = Shared::new(db, vault, epochs, report, visible, signed, HashMap::new());
        Ok(Self { shared: Arc::new(shared), handle: None })
    }

    /// Replaces the log's key, that of `options.signer`, by `new`: appends `log.key_rotated`, signed by both, and has both sign the
    /// checkpoint of the size at which the one ends and the other begins. That is published, and its size returned. From then on
    /// only the new key opens the ledger for appending, and the old one is of no more use.
    ///
    /// Needs the ledger to itself. A rotation to this very key that was broken off is carried to its end.
    pub fn rotate(options: &Options, new: &SignerKey) -> Result<TreeSize, StoreError> {
        let (opened, begun) = match opening::open(options, None) {
            Err(StoreError::KeyEnded { required, .. }) if *required == *new.verifier() => {
                (opening::open(&options.with_signer(new)?, Some(&options.signer))?, true)
            }
            opened => (opened?, false),
        };
        let Opened { db, mut epochs, report, published, ready } = opened;
        let Some(ready) = ready else { return Err(StoreError::ReadOnly(report.read_only.unwrap_or_default())) };
        let size = report.size;
        let head = stored_trace(&db, &TraceId::log())?.map(|log| log.head);
        let step = rotation::rotate(&options.signer, new, TreeSize::new(size + 1));
        if !begun {
            rotation::follow(&mut epochs, size, &step)?;
        }
        let text = epochs.to_string();
        let vault = Vault::new(FileKeyring::open(&options.keyring)?);
        let old = copy(&options.signer)?;
        let options = options.with_signer(new)?;
        let (shared, mut sequencer, mut committer) = assemble(&options, (db, vault, epochs), report, published, ready)?;
        if !begun {
            committer.signers.push(old);
            let append = Append { expected_head: head, ..Append::opening(TraceId::log(), vec![step.into()]) };
            let refused = |cause| StoreError::FirstAppend { at: 0, cause: Box::new(cause) };
            let prepared = Prepared::new(append, &shared.vault, today()).map_err(refused)?;
            sequencer.admit(prepared, Reply::new(Arc::clone(&shared), Box::new(drop)))?;
            if let Some((_, cause)) = sequencer.refused() {
                return Err(refused(cause));
            }
            let mut group = sequencer.seal()?;
            // In the very batch of the entry: there is no moment at which store and entry name different keys.
            group.writes.put(&shared.db, Family::Meta, Meta::KEY, text.as_bytes())?;
            committer.commit(&mut group)?;
            committer.answer(group)?;
        }
        committer.publish()?;
        committer.finish()?;
        Ok(TreeSize::new(shared.size()))
    }

    /// Waits until everything appended before is under a published checkpoint, which takes a second at most, and gives that.
    pub fn wait_published(&self) -> Result<Arc<SignedCheckpoint>, StoreError> {
        let size = self.size();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let published = self.checkpoint();
            if published.checkpoint().size >= size {
                return Ok(published);
            }
            let late = || (Instant::now() > deadline).then(|| "no checkpoint was published in 10 s".to_owned());
            if let Some(reason) = self.shared.ended().or_else(late) {
                return Err(StoreError::Stopped(reason));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn start(
        options: &Options,
        shared: Arc<Shared>,
        mut sequencer: Sequencer,
        mut committer: Committer,
    ) -> Result<Self, StoreError> {
        let queue = Arc::new(Queue::new(options.queue));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(StoreError::io("start a thread for", &options.dir))
        };
        let (state, groups) = (Arc::clone(&shared), Arc::clone(&queue));
        let (known, knows) = sync_channel::<()>(0);
        let committing = spawn(
            "committer",
            Box::new(move || {
                // Until it is known which threads are the ledger's own, no answer may be given.
                let _ = knows.recv();
                run("the committer", &state, &groups, || committer.serve(&groups));
            }),
        )?;
        let committer_id = committing.thread().id();
        let (state, appends) = (Arc::clone(&shared), Arc::clone(&queue));
        let thread = spawn(
            "sequencer",
            Box::new(move || {
                let _ = state.own_threads.set([thread::current().id(), committer_id]);
                drop(known);
                run("the sequencer", &state, &appends, || sequencer.serve(&appends));
                appends.end_groups();
                // What can go wrong in there has become the reason why the ledger stopped.
                let _ = committing.join();
                state.end("it was closed", false);
                appends.abandon();
            }),
        )
        .inspect_err(|_| queue.end_groups())?;
        let handle = Handle { queue, shared: Arc::clone(&shared), thread: Mutex::new(Some(thread)) };
        Ok(Self { shared, handle: Some(Arc::new(handle)) })
    }

    /// Appends and waits until the entries are durable; waits for room in the queue as well.
    ///
    /// Must not be called from within an answer of [`append_with`](Self::append_with).
    pub fn append(&self, append: Append) -> Result<Appended, AppendError> {
        if self.shared.on_own_thread() {
            return Err(AppendError::FromAnswer);
        }
        let queue = self.queue()?;
        let prepared = self.prepare(append)?;
        let (answer, answered) = sync_channel(1);
        let reply = self.reply(Box::new(move |result| {
            // Nobody gave up waiting: `answered` is below.
            let _ = answer.send(result);
        }));
        if let Err((_, reply)) = queue.push((Box::new(prepared), reply)) {
            reply.send(Err(self.takes_no_more()));
        }
        answered.recv().unwrap_or_else(|_| Err(AppendError::Stopped("the sequencer ended without an answer".into())))
    }

    /// Appends and gives the result to `answer`, for callers that can't wait. Refused with [`AppendError::Full`] where the queue
    /// is full. The answer comes on the committer's thread (a refusal that needs no sequencer: on this one), so it must be quick
    /// and never block.
    pub fn append_with(&self, append: Append, answer: impl FnOnce(Result<Appended, AppendError>) + Send + 'static) {
        let queued = self.queue().and_then(|queue| Ok((queue, self.prepare(append)?)));
        let (queue, prepared) = match queued {
            Ok(queued) => queued,
            Err(e) => return answer(Err(e)),
        };
        if let Err((reply, full)) = queue.try_push((Box::new(prepared), self.reply(Box::new(answer)))) {
            reply.send(Err(full.map_or_else(|| self.takes_no_more(), AppendError::Full)));
        }
    }

    fn reply(&self, answer: Answer) -> Reply {
        Reply::new(Arc::clone(&self.shared), answer)
    }

    fn takes_no_more(&self) -> AppendError {
        AppendError::Stopped(self.shared.ended().unwrap_or_else(|| "it is being closed".into()))
    }

    fn queue(&self) -> Result<&Queue, AppendError> {
        match &self.handle {
            Some(handle) => match (self.shared.ended(), lock(&self.shared.paused).clone()) {
                (Some(reason), _) => Err(AppendError::Stopped(reason)),
                (None, Some(reason)) => Err(AppendError::Paused(reason)),
                (None, None) => Ok(&handle.queue),
            },
            None => Err(AppendError::ReadOnly(self.read_only().unwrap_or_default())),
        }
    }

    fn prepare(&self, append: Append) -> Result<Prepared, AppendError> {
        if append.steps.iter().any(|step| matches!(step, Step::LogKeyRotated(_))) {
            return Err(AppendError::Rotation);
        }
        Prepared::new(append, &self.shared.vault, today())
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        self.shared.epochs.origin()
    }

    /// The key that signs now.
    pub fn verifier(&self) -> VerifierKey {
        self.shared.epochs.current().clone()
    }

    /// The keys that check the log's checkpoints, each with the sizes that it signs.
    pub fn epochs(&self) -> &Epochs {
        &self.shared.epochs
    }

    /// How many entries stand under the last signed checkpoint.
    pub fn size(&self) -> TreeSize {
        TreeSize::new(self.shared.size())
    }

    /// What opening found.
    pub fn opening(&self) -> &OpeningReport {
        &self.shared.opening
    }

    /// Why nothing can be appended, where opening found a contradiction.
    pub fn read_only(&self) -> Option<String> {
        self.shared.opening.read_only.clone()
    }

    /// Why the ledger has stopped, where an error stopped it. The process should end: opening anew is the only way on.
    pub fn fatal(&self) -> Option<String> {
        self.shared.fatal()
    }

    /// Has `call` called with the reason once an error stops the ledger (at once, if one has), before waiting callers are
    /// answered, on the thread that met it.
    pub fn on_fatal(&self, call: impl FnOnce(&str) + Send + 'static) {
        self.shared.on_fatal(Box::new(call));
    }

    /// The last published checkpoint. One is published when the ledger has grown, at most every second, and kept for ever.
    pub fn checkpoint(&self) -> Arc<SignedCheckpoint> {
        Arc::clone(&lock(&self.shared.published))
    }

    /// The last published checkpoint that others have signed as well and that `accept` accepts, looking through at most so many of the
    /// published ones, latest first.
    pub fn cosigned(
        &self,
        at_most: usize,
        mut accept: impl FnMut(&SignedCheckpoint) -> bool,
    ) -> Result<Option<SignedCheckpoint>, StoreError> {
        for item in self.shared.db.all_backwards(Family::Checkpoint)?.take(at_most) {
            let (_, note) = item?;
            let lines = Note::parse(&note).map_err(CheckpointError::from)?.signatures;
            // Most that are looked through bear the log's own alone: nothing has to be verified for that.
            if lines.iter().any(|line| line.name != self.origin()) {
                let signed = self.shared.epochs.open(&note)?;
                if accept(&signed) {
                    return Ok(Some(signed));
                }
            }
        }
        Ok(None)
    }

    /// The proof that the tree of size `new` begins with that of size `old`.
    pub fn consistency(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, StoreError> {
        if new > self.size() {
            return Err(StoreError::NoEntry { index: new.get().saturating_sub(1), size: self.size().get() });
        }
        Ok(consistency_proof(&TileHashes::new(&self.shared.db, new), old, new)?)
    }

    /// Adds a witness's line, which the caller has checked, to the checkpoint that was published at that size; in place of an earlier
    /// one of the same key. Gives the checkpoint with all its lines.
    pub fn add_cosignature(&self, size: TreeSize, line: &NoteSignature) -> Result<Arc<SignedCheckpoint>, StoreError> {
        // Held until it is stored: two witnesses may answer at once.
        let mut published = lock(&self.shared.published);
        let key = size.get().to_be_bytes();
        let missing = || StoreError::Damaged(format!("no checkpoint was published at size {size}"));
        let stored = self.shared.db.get(Family::Checkpoint, &key)?.ok_or_else(missing)?;
        let mut note = Note::parse(&stored).map_err(CheckpointError::from)?;
        note.signatures.retain(|known| (&known.name, known.id) != (&line.name, line.id));
        note.signatures.push(line.clone());
        let signed = Arc::new(self.shared.epochs.open(&note.encode().map_err(CheckpointError::from)?)?);
        let mut batch = self.shared.db.batch();
        batch.put(Family::Checkpoint, &key, signed.note())?;
        batch.write()?;
        if published.checkpoint().size == size {
            *published = Arc::clone(&signed);
        }
        Ok(signed)
    }

    /// Takes no appends for this reason, until it is called with none. What was queued before is still committed.
    pub fn pause(&self, reason: Option<String>) {
        *lock(&self.shared.paused) = reason;
    }

    /// The signed note of the checkpoint that was published at that size.
    pub fn checkpoint_at(&self, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.db.get(Family::Checkpoint, &size.to_be_bytes())
    }

    /// A trace as it stands under the last signed checkpoint; waits where a commit of it is under way.
    pub fn trace(&self, trace: &TraceId) -> Result<Option<TraceHead>, StoreError> {
        match stored_trace(&self.shared.db, trace)? {
            Some(head) => self.visible(*trace, head),
            None => Ok(None),
        }
    }

    /// All traces, in no particular order. Reads all of them: for starting up, not for answering.
    pub fn traces(&self, mut each: impl FnMut(TraceId, TraceHead)) -> Result<(), StoreError> {
        for item in self.shared.db.all(Family::Trace)? {
            let (key, value) = item?;
            let broken = || StoreError::Damaged("a record of `trace` is not one".into());
            let trace = TraceId(crate::tlog::Hash::try_from(&*key).map_err(|_| broken())?);
            let head = TraceHead::decode(&value).ok_or_else(broken)?;
            if let Some(head) = self.visible(trace, head)? {
                each(trace, head);
            }
        }
        Ok(())
    }

    /// A trace's record once all of it is signed. Who only reads sees no signature come: he gets the trace as it stood before the
    /// entries that he can't see, replayed from the others.
    fn visible(&self, trace: TraceId, head: TraceHead) -> Result<Option<TraceHead>, StoreError> {
        let size = self.shared.size();
        match head.entries.last() {
            Some(last) if *last < size => Ok(Some(head)),
            Some(last) if self.handle.is_some() => self.shared.wait_visible(*last).map(|()| Some(head)),
            _ => {
                let mut before = None;
                for index in head.entries.iter().take_while(|index| **index < size) {
                    let leaf = stored_leaf(&self.shared.db, *index)?;
                    let TraceHead { mut state, mut entries, .. } = before.unwrap_or_else(|| TraceHead {
                        head: leaf.hash,
                        state: TraceState::default(),
                        entries: Vec::new(),
                    });
                    let applied = state.apply(trace, &leaf.entry.body);
                    applied.map_err(|e| StoreError::Damaged(format!("entry {index}: {e}")))?;
                    entries.push(*index);
                    before = Some(TraceHead { head: leaf.hash, state, entries });
                }
                Ok(before)
            }
        }
    }

    /// The traces that tell a story without an end yet, each with the index of its first entry, oldest first.
    pub fn open_traces(&self) -> Vec<(TraceId, u64)> {
        let mut open: Vec<_> = lock(&self.shared.open).iter().map(|(trace, first)| (*trace, *first)).collect();
        open.sort_unstable_by_key(|(_, first)| *first);
        open
    }

    /// The canonical bytes of an entry; `None` at or beyond [`size`](Self::size).
    pub fn entry_bytes(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        if index < self.shared.size() { self.shared.db.entry(index).map(Some) } else { Ok(None) }
    }

    /// An entry; `None` at or beyond [`size`](Self::size).
    pub fn entry(&self, index: u64) -> Result<Option<Entry>, StoreError> {
        if index < self.shared.size() {
            stored_leaf(&self.shared.db, index).map(|leaf| Some(leaf.entry))
        } else {
            Ok(None)
        }
    }

    /// The payload that a commitment is to, decrypted and held against it; `None` where the vault has none.
    pub fn payload(&self, commitment: &Commitment) -> Result<Option<Payload>, StoreError> {
        let stored = || self.shared.db.get(Family::Payload, commitment.0.as_bytes());
        let broken = || StoreError::Damaged(format!("the record of payload {commitment} is cut off"));
        let Some(mut record) = stored()? else { return Ok(None) };
        loop {
            let (_, sealed) = record.split_first_chunk::<8>().ok_or_else(broken)?;
            let no_key = match self.shared.vault.open(commitment, sealed) {
                Err(error @ VaultError::NoKey(_)) => error,
                opened => return Ok(Some(opened?)),
            };
            // A purge may have come in between: then the record is gone, or sealed with another key.
            match stored()? {
                None => return Ok(None),
                Some(anew) if anew != record => record = anew,
                Some(_) => return Err(no_key.into()),
            }
        }
    }

    /// Notes that payloads are about to be shown to somebody. They may be once this returns.
    pub fn note_reading(&self, reading: Reading) -> Result<Durable, AppendError> {
        let mut name = [0; 16];
        fill_random(&mut name);
        let read: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let Reading { by, why, of, mut classes, payloads } = reading;
        classes.sort_unstable_by_key(|class| class.as_str());
        classes.dedup();
        let trace = TraceId::read(&read);
        let step = PayloadRead { read, by, why, of, classes, payloads: Int::saturating(payloads) };
        Ok(self.append(Append::opening(trace, vec![step.into()]))?.last().clone())
    }

    /// Destroys the payloads whose time is over, for good: see [`purge`](super::purge). `today` is the day in UTC.
    pub fn purge(&self, periods: &Periods, today: Day) -> Result<PurgeReport, StoreError> {
        purge::purge(self, periods, today)
    }

    /// Keeps the payloads of these traces, and of the approvals that they rely on, until the hold is released. Gives its name.
    pub fn hold(&self, traces: &[TraceId], reason: &str) -> Result<String, StoreError> {
        purge::hold(self, traces, reason)
    }

    /// Ends a hold.
    pub fn release(&self, hold: &str, reason: &str) -> Result<(), StoreError> {
        purge::release(self, hold, reason)
    }

    /// The holds in force.
    pub fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        purge::holds(self)
    }

    /// The first `width` hashes (1 to 256; `None`: all 256) of a tile; `None` where it does not hold as many yet.
    pub fn tile(&self, level: u8, index: u64, width: Option<u16>) -> Result<Option<Vec<u8>>, StoreError> {
        let (id, width) = (TileId { level, index }, width.unwrap_or(TILE_WIDTH));
        if level > 63 || width == 0 || width > id.width(self.size()) {
            return Ok(None);
        }
        let mut hashes = self.shared.db.tile(level, index, width)?;
        hashes.truncate(usize::from(width) * 32);
        Ok(Some(hashes))
    }

    /// The first `width` entries (1 to 256; `None`: all 256) of a bundle; `None` where it does not hold as many yet.
    pub fn bundle(&self, index: u64, width: Option<u16>) -> Result<Option<Vec<u8>>, StoreError> {
        let (id, width) = (TileId { level: 0, index }, width.unwrap_or(TILE_WIDTH));
        if width == 0 || width > id.width(self.size()) {
            return Ok(None);
        }
        // No overflow: the width above is 0 for an index beyond the tree.
        let first = index * u64::from(TILE_WIDTH);
        let entries = self.shared.db.entries(first..first + u64::from(width))?;
        let entries = entries.map(|item| item.map(|(_, bytes)| bytes)).collect::<Result<Vec<_>, _>>()?;
        encode_bundle(&entries).map(Some).map_err(|e| StoreError::Damaged(e.to_string()))
    }

    /// The receipt of an entry under the checkpoint of its own group. `salt`: the chunk's, where it is `delivery.intended`.
    pub fn receipt(&self, durable: &Durable, salt: Option<Salt>) -> Result<Receipt, StoreError> {
        self.prove(durable.index(), durable.bytes().to_vec(), durable.checkpoint(), salt)
    }

    /// The receipt of an entry under the last published checkpoint, which must cover it.
    pub fn receipt_at(&self, index: u64, salt: Option<Salt>) -> Result<Receipt, StoreError> {
        let checkpoint = self.checkpoint();
        let size = checkpoint.checkpoint().size.get();
        if index >= size {
            return Err(StoreError::NoEntry { index, size });
        }
        self.prove(LeafIndex::new(index), self.shared.db.entry(index)?, &checkpoint, salt)
    }

    fn prove(
        &self,
        index: LeafIndex,
        entry: Vec<u8>,
        signed: &SignedCheckpoint,
        salt: Option<Salt>,
    ) -> Result<Receipt, StoreError> {
        let size = signed.checkpoint().size;
        let hashes = inclusion_proof(&TileHashes::new(&self.shared.db, size), index, size)?;
        // A proof that does not hold must not leave: whoever gets it would blame the log. The checkpoint's signature is good already.
        let verified = verify_inclusion(index, leaf_hash(&entry), size, signed.checkpoint().root, &hashes);
        verified.map_err(|e| StoreError::Damaged(format!("the proof of entry {index}: {e}")))?;
        let proof = TlogProof { extra: None, index, hashes, checkpoint: signed.note().to_vec() };
        Ok(Receipt::new(entry, salt, proof)?)
    }

    /// Writes the ledger as of the last published checkpoint to a static folder, with the payloads of these classes:
    ///
    /// ```text
    /// checkpoint                      the checkpoint, a signed note
    /// tile/<L>/<N>[.p/<W>]            tiles of hashes
    /// tile/entries/<N>[.p/<W>]        bundles of entries
    /// checkpoints/<size>              every checkpoint that was ever published, up to this one
    /// payload/<commitment, 64 hex>    a payload: its class, a line feed, its salt (64 hex), a line feed, its bytes
    /// ```
    ///
    /// A payload is there where its class was asked for, the vault can still open it, and the append that committed to it stands
    /// under the checkpoint. The folder appears when it is complete. An earlier export of the same log is replaced; anything
    /// else that is there is an error and left alone.
    pub fn export(&self, dir: &Path, classes: &[Class]) -> Result<ExportSummary, StoreError> {
        export::export(self, dir, classes, &self.checkpoint())
    }

    /// The same as of another published checkpoint: the last one that a quorum of witnesses has cosigned, for one.
    pub fn export_as_of(
        &self,
        dir: &Path,
        classes: &[Class],
        signed: &SignedCheckpoint,
    ) -> Result<ExportSummary, StoreError> {
        export::export(self, dir, classes, signed)
    }

    /// Copies the store, while it is in use, to a new folder that [`restore`](Self::restore) takes. Neither `HEAD` nor any key is in it.
    pub fn backup(&self, dir: &Path) -> Result<TreeSize, StoreError> {
        backup::backup(self, dir)
    }

    /// Puts a store back from a backup, and what it lacks from an export: see [`backup`](super::backup).
    pub fn restore(options: &Options, from: &Path, tail: Option<&Path>) -> Result<RestoreReport, StoreError> {
        backup::restore(options, from, tail)
    }

    /// Writes the ledger as of the last published checkpoint, or some of its requests, into one file: a ustar archive of the
    /// files that [`export`](Self::export) writes, or of those that prove the chosen entries. Nothing may be there yet.
    pub fn export_bundle(
        &self,
        path: &Path,
        selection: &Selection,
        classes: &[Class],
    ) -> Result<ExportSummary, StoreError> {
        bundle::export(self, path, selection, classes)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The ledger's state in numbers.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let size = self.shared.size();
        Stats {
            size,
            published_size: self.checkpoint().checkpoint().size.get(),
            head_lag: counters.stored.load(Relaxed).saturating_sub(size),
            groups: counters.groups.load(Relaxed),
            entries: counters.entries.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            repeated: counters.repeated.load(Relaxed),
            last_group: counters.last_group.load(Relaxed),
            queue: self.handle.as_ref().map_or(0, |handle| handle.queue.len() as u64),
            open_traces: lock(&self.shared.open).len() as u64,
            batch_sync: counters.batch_sync.read(),
            head_sync: counters.head_sync.read(),
        }
    }

    /// How many bytes the store's tables take on the disk, by column family. What is still in the log or in memory is not counted.
    pub fn table_bytes(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        self.shared.db.table_bytes()
    }

    /// Commits what waits, publishes the last checkpoint and ends the sequencer. Other handles can still read; the database is
    /// closed with the last of them.
    pub fn close(self) {
        if let Some(handle) = &self.handle {
            handle.queue.close();
            handle.join();
        }
    }
}

/// Today, in UTC.
pub(super) fn today() -> Day {
    Day::of_unix_seconds(now_micros() / 1_000_000)
}

/// A ledger begins with its own name and key.
fn require_created(options: &Options, first: &[Append]) -> Result<(), StoreError> {
    let wrong = |why: String| Err(StoreError::FirstEntry(why));
    let (origin, key) = (options.signer.name(), options.signer.verifier().to_string());
    match first.first().and_then(|append| append.steps.first()) {
        Some(Step::LogCreated(created)) if created.origin != origin => {
            wrong(format!("found origin `{}`, required `{origin}`", created.origin))
        }
        Some(Step::LogCreated(created)) if created.key != key => {
            wrong(format!("found key `{}`, required `{key}`", created.key))
        }
        Some(Step::LogCreated(_)) => Ok(()),
        Some(step) => wrong(format!("found `{}`", step.kind())),
        None => wrong("found nothing".into()),
    }
}

/// What stands in `meta` from the beginning; gives the instance.
fn write_beginning(db: &Db, options: &Options) -> Result<String, StoreError> {
    let mut random = [0; 4];
    fill_random(&mut random);
    let instance = format!("{:08x}", u32::from_be_bytes(random));
    let zero = 0u64.to_be_bytes();
    let mut batch = db.batch();
    batch.put(Family::Meta, Meta::FORMAT, FORMAT)?;
    batch.put(Family::Meta, Meta::KEY, Epochs::single(options.signer.verifier().clone()).to_string().as_bytes())?;
    batch.put(Family::Meta, Meta::INSTANCE, instance.as_bytes())?;
    batch.put(Family::Meta, Meta::EPOCH, &1u64.to_be_bytes())?;
    batch.put(Family::Meta, Meta::SIZE, &zero)?;
    batch.put(Family::Meta, Meta::ROOT, EMPTY_ROOT.as_bytes())?;
    batch.put(Family::Meta, Meta::FRONTIER, &Frontier::new().to_bytes())?;
    batch.put(Family::Meta, Meta::BASE, &zero)?;
    batch.write()?;
    Ok(instance)
}

/// Runs one of the ledger's threads to its end, which becomes the reason why the ledger stopped if it is not an orderly one.
fn run(who: &str, shared: &Shared, queue: &Queue, serve: impl FnOnce() -> Result<(), StoreError>) {
    match catch_unwind(AssertUnwindSafe(serve)) {
        Ok(Ok(())) => return,
        Ok(Err(e)) => shared.end(&e.to_string(), true),
        Err(_) => shared.end(&format!("{who} panicked"), true),
    }
    // The other thread ends as well, and whoever waits is answered.
    queue.abandon();
}

/// Puts sequencer and committer together with what they share.
fn assemble(
    options: &Options,
    (db, vault, epochs): (Db, Vault, Epochs),
    report: OpeningReport,
    published: SignedCheckpoint,
    ready: Ready,
) -> Result<(Arc<Shared>, Sequencer, Committer), StoreError> {
    let Ready { head, signed, frontier, at, instance, open, open_list_at } = ready;
    let size = frontier.size().get();
    let src = format!("{instance}/{}", report.epoch);
    let root = signed.checkpoint().root;
    let visible = Visible { size, signed: Arc::new(signed) };
    let shared = Shared::new(db, vault, epochs, report, visible, Arc::new(published), open.clone());
    shared.counters.stored.store(size, Relaxed);
    let shared = Arc::new(shared);
    let beginning = Beginning { frontier, at, src, open, open_list_at, max_batch: options.max_batch };
    let sequencer = Sequencer::new(Arc::clone(&shared), beginning)?;
    let committer = Committer {
        shared: Arc::clone(&shared),
        signers: vec![copy(&options.signer)?],
        head,
        signed: (size, root),
        publish_from: Instant::now(),
    };
    Ok((shared, sequencer, committer))
}

/// Makes the rest of what a new ledger needs, up to the commit of its first group.
fn begin(
    options: &Options,
    vault: Vault,
    head: HeadFile,
    first: Vec<Append>,
) -> Result<(Arc<Shared>, Sequencer, Committer, Group), StoreError> {
    let db = Db::open(&options.dir, true)?;
    let instance = write_beginning(&db, options)?;
    // A checkpoint of nothing, signed to have one and seen by nobody.
    let nothing = Checkpoint::new(options.signer.name(), TreeSize::new(0), EMPTY_ROOT);
    let signed = SignedCheckpoint::sign(nothing, &[&options.signer])?;
    let report = OpeningReport { head_size: Some(0), epoch: 1, ..OpeningReport::default() };
    let ready = Ready {
        head,
        signed: signed.clone(),
        frontier: Frontier::new(),
        at: Int::ZERO,
        instance,
        open: HashMap::new(),
        open_list_at: 0,
    };
    let epochs = Epochs::single(options.signer.verifier().clone());
    let (shared, mut sequencer, committer) = assemble(options, (db, vault, epochs), report, signed, ready)?;
    for (at, append) in first.into_iter().enumerate() {
        let refused = |cause| StoreError::FirstAppend { at, cause: Box::new(cause) };
        let prepared = Prepared::new(append, &shared.vault, today()).map_err(refused)?;
        sequencer.admit(prepared, Reply::new(Arc::clone(&shared), Box::new(drop)))?;
    }
    match sequencer.refused() {
        Some((at, cause)) => Err(StoreError::FirstAppend { at, cause: Box::new(cause) }),
        None => {
            let group = sequencer.seal()?;
            Ok((shared, sequencer, committer, group))
        }
    }
}
