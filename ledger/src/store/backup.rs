//! Backups of the store, taken while it is in use, and putting one back without ever telling two stories.
//!
//! A backup is a folder: `store/`, a copy of the database, and `checkpoint`, the last published one when it was taken. Neither `HEAD` nor
//! any key is in it.
//!
//! A store that is put back is older than `HEAD`, which is on another path and says how far the log had come. The entries in between
//! were signed and answered for: going on without them would sign another story under the same key. So they are put back as well, from
//! an export that has them, and every one of them has to lead to the root that `HEAD` names. Nothing else is put back for
//! appending:
//!
//! | what is there | what comes of it |
//! | --- | --- |
//! | the backup reaches to `HEAD` | it is put back |
//! | the backup ends before `HEAD`, an export has the rest | the rest is replayed; then it is put back |
//! | the rest is not there, or leads to another root | refused |
//! | there is no `HEAD`, or one that ends before the backup | refused: it can't be known how far the log had come |
//!
//! What can't be put back from entries: payloads that the export does not have, and the digests by which an append is known again that
//! was made before. Whoever repeats such an append finds that the head of its trace has moved.

use super::{
    db::{Db, Family, Meta},
    error::StoreError,
    export::{remove, sibling},
    head::{Head, HeadFile, claimed},
    ledger::{Ledger, Options},
    opening::{OpeningReport, require_format},
    readback::{check_edge, read_back, root_at},
    sequencer::{Beginning, Sequencer, read_open},
    shared::{Shared, Visible},
};
use crate::{
    evidence::{Class, Commitment, Day, Salt, Step, TraceId, rotation},
    tlog::{
        BundlePath, Checkpoint, Epochs, Hash, Note, SignedCheckpoint, TILE_WIDTH, TreeSize, bundles_for_size,
        decode_bundle,
    },
    vault::{FileKeyring, Payload, Vault, files::sync_parent},
};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Entries that the backup held.
    pub from_backup: u64,
    /// Entries that were replayed from the export.
    pub replayed: u64,
    /// Payloads that came with them.
    pub payloads: u64,
    /// Published checkpoints that came with them.
    pub checkpoints: u64,
}

/// Takes a backup; gives how many entries it holds.
pub(super) fn backup(ledger: &Ledger, dir: &Path) -> Result<TreeSize, StoreError> {
    if dir.exists() {
        return Err(StoreError::Exists(dir.to_owned()));
    }
    // Published before the copy, so the copy has it.
    let published = ledger.checkpoint();
    let draft = sibling(dir, "partial")?;
    remove(&draft)?;
    fs::create_dir_all(&draft).map_err(StoreError::io("create", &draft))?;
    let taken = take(ledger, &draft, published.note()).inspect_err(|_| drop(remove(&draft)))?;
    fs::rename(&draft, dir).map_err(StoreError::io("create", dir))?;
    sync_parent(dir)?;
    Ok(taken)
}

fn take(ledger: &Ledger, draft: &Path, published: &[u8]) -> Result<TreeSize, StoreError> {
    let store = draft.join("store");
    ledger.shared().db.copy_to(&store)?;
    let checkpoint = draft.join("checkpoint");
    fs::write(&checkpoint, published).map_err(StoreError::io("write", &checkpoint))?;
    fs::File::open(&checkpoint).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &checkpoint))?;
    // A backup that nobody has read is none.
    let db = Db::open_reading(&store)?;
    let frontier = db.frontier()?;
    check_edge(&db, frontier.size().get(), frontier.root())?;
    Ok(frontier.size())
}

/// Puts a backup back; see the module.
pub(super) fn restore(options: &Options, from: &Path, tail: Option<&Path>) -> Result<RestoreReport, StoreError> {
    if fs::read_dir(&options.dir).is_ok_and(|mut files| files.next().is_some()) {
        return Err(StoreError::Exists(options.dir.clone()));
    }
    let Some(head) = claimed(&options.head)? else {
        return Err(StoreError::Restore(format!(
            "`{}` names no checkpoint, so nothing says how far the log had come: put `HEAD` back, or go on under a new origin with \
             `init --continues`",
            options.head.display()
        )));
    };
    let keyring = FileKeyring::open(&options.keyring)?;
    let draft = sibling(&options.dir, "partial")?;
    remove(&draft)?;
    let restored = copy(&from.join("store"), &draft)
        .and_then(|()| complete(options, &draft, Vault::new(keyring), head, tail))
        .inspect_err(|_| drop(remove(&draft)))?;
    fs::rename(&draft, &options.dir).map_err(StoreError::io("create", &options.dir))?;
    sync_parent(&options.dir)?;
    Ok(restored)
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(to).map_err(StoreError::io("create", to))?;
    for file in fs::read_dir(from).map_err(StoreError::io("read", from))? {
        let (from, to) =
            file.map(|file| (file.path(), to.join(file.file_name()))).map_err(StoreError::io("read", from))?;
        fs::copy(&from, &to).map_err(StoreError::io("copy", &from))?;
        fs::File::open(&to).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &to))?;
    }
    Ok(())
}

/// Brings the store in `draft` to where `HEAD` is, which claims to be of size `head`.
fn complete(
    options: &Options,
    draft: &Path,
    vault: Vault,
    head: u64,
    tail: Option<&Path>,
) -> Result<RestoreReport, StoreError> {
    let refuse = |why: String| Err(StoreError::Restore(why));
    let db = Db::open(draft, false)?;
    require_format(&db)?;
    let epochs = db.epochs()?;
    let origin = options.signer.name();
    if epochs.origin() != origin {
        return refuse(format!("the backup is of the log `{}`, required `{origin}`", epochs.origin()));
    }
    let (size, root) = (db.meta_number(Meta::SIZE)?, db.frontier()?.root());
    check_edge(&db, size, root)?;
    let report = RestoreReport { from_backup: size, ..RestoreReport::default() };
    // A copy may catch a group that was synced and not signed yet: closing that gap is for the opening.
    let unsigned = db.meta_number(Meta::BASE)? == head;
    if size > head && !unsigned {
        return refuse(format!(
            "the backup holds {size} entries, `HEAD` names {head}: this `HEAD` is older than the backup, and nothing says how far the \
             log had come. Put the right `HEAD` back, or go on under a new origin with `init --continues`"
        ));
    }
    if size >= head {
        let (_, found) = open_head(options, &epochs)?;
        let found = found.newest.map(|newest| newest.checkpoint().clone());
        return match found {
            Some(found) if found.root == root_at(&db, head)? => Ok(report),
            _ => refuse(two_stories(head)),
        };
    }
    let Some(tail) = tail else {
        return refuse(format!(
            "the backup holds {size} entries, `HEAD` names {head}: {} entries that were answered for are missing. Give an export that has \
             them with `--tail DIR`; without one the log can only be read, or carried on under a new origin with `init --continues`",
            head - size
        ));
    };
    replay(options, (db, vault, epochs), (size, root), head, tail, report)
}

fn two_stories(head: u64) -> String {
    format!(
        "at size {head} this is not the tree that `HEAD` names: it is another story under the same key. Nothing was put back; find out which \
         one others have seen, by their checkpoints"
    )
}

fn open_head(options: &Options, epochs: &Epochs) -> Result<(HeadFile, Head), StoreError> {
    let missing = || StoreError::Restore(format!("`{}` is missing", options.head.display()));
    HeadFile::open(&options.head, epochs)?.ok_or_else(missing)
}

/// Replays the entries `size .. head` from an export.
fn replay(
    options: &Options,
    (db, vault, mut epochs): (Db, Vault, Epochs),
    (size, root): (u64, Hash),
    head: u64,
    tail: &Path,
    mut report: RestoreReport,
) -> Result<RestoreReport, StoreError> {
    let refuse = |why: String| Err(StoreError::Restore(why));
    let note = read(&tail.join("checkpoint"))?;
    let reaches = Note::parse(&note).ok().and_then(|note| Checkpoint::decode(&note.text).ok());
    let Some(reaches) = reaches.as_ref().map(|checkpoint| checkpoint.size).filter(|reaches| reaches.get() >= head)
    else {
        let reaches =
            reaches.map_or_else(|| "no checkpoint".into(), |checkpoint| format!("{} entries", checkpoint.size));
        return refuse(format!(
            "the export in `{}` has {reaches}, `HEAD` names {head} entries: some that were answered for are in neither. The log can only be \
             read, or carried on under a new origin with `init --continues`",
            tail.display()
        ));
    };
    let (open, open_list_at) = read_open(&db, size)?;
    let last = size.checked_sub(1).map(|last| super::sequencer::stored_leaf(&db, last)).transpose()?;
    let beginning = Beginning {
        frontier: db.frontier()?,
        at: last.map(|leaf| leaf.entry.at).unwrap_or_default(),
        src: String::new(),
        open: open.clone(),
        open_list_at,
        max_batch: usize::from(TILE_WIDTH),
    };
    // Nobody sees what is shared here: signed is what the backup was signed with.
    let published = db.last(Family::Checkpoint)?.map(|(_, note)| epochs.open(&note)).transpose()?;
    let Some(published) = published else { return refuse("nothing was published in the backup".into()) };
    let signed = Arc::new(published.clone());
    let visible = Visible { size, signed: Arc::clone(&signed) };
    let shared = Arc::new(Shared::new(db, vault, epochs.clone(), OpeningReport::default(), visible, signed, open));
    let mut sequencer = Sequencer::new(Arc::clone(&shared), beginning)?;
    let (mut epoch, mut committed) = (shared.db.meta_number(Meta::EPOCH)?, HashMap::new());
    let wanted = |path: &BundlePath| {
        let first = path.index * u64::from(TILE_WIDTH);
        first < head && first + u64::from(path.width) > size
    };
    for path in bundles_for_size(reaches).filter(wanted) {
        let file = tail.join(path.to_string());
        let bundle = read(&file)?;
        let entries = decode_bundle(&bundle).map_err(|e| StoreError::Restore(format!("`{}`: {e}", file.display())))?;
        if entries.len() != usize::from(path.width) {
            let why = format!("`{}` holds {} entries, required {}", file.display(), entries.len(), path.width);
            return refuse(why);
        }
        let first = path.index * u64::from(TILE_WIDTH);
        for (index, bytes) in (first..).zip(entries).filter(|(index, _)| (size..head).contains(index)) {
            let leaf = sequencer.replay(bytes.to_vec())?;
            if let Step::LogKeyRotated(step) = &leaf.entry.body {
                rotation::follow(&mut epochs, index, step)?;
            }
            let of = leaf.entry.src.split('/').nth(1).and_then(|epoch| epoch.parse().ok());
            epoch = epoch.max(of.unwrap_or_default());
            let day = Day::of_unix_seconds(leaf.entry.at.get() / 1_000_000);
            committed
                .extend(leaf.entry.body.commitments().into_iter().map(|(_, commitment)| (commitment, (index, day))));
        }
        let group = sequencer.seal()?;
        shared.db.write(group.writes)?;
    }
    let db = &shared.db;
    let found = read_back(db, (size, root), head)?;
    let (_, newest) = open_head(options, &epochs)?;
    if newest.newest.is_none_or(|newest| newest.checkpoint().root != found || newest.checkpoint().size.get() != head) {
        return refuse(two_stories(head));
    }
    let mut batch = db.batch();
    batch.put(Family::Meta, Meta::KEY, epochs.to_string().as_bytes())?;
    // The next process must not count its entries under a name that stands in the log already.
    batch.put(Family::Meta, Meta::EPOCH, &epoch.to_be_bytes())?;
    let after = published.checkpoint().size;
    for signed in published_in(tail, &epochs)? {
        let of = signed.checkpoint().size;
        if of > after && of.get() <= head && root_at(db, of.get())? == signed.checkpoint().root {
            batch.put(Family::Checkpoint, &of.get().to_be_bytes(), signed.note())?;
            report.checkpoints += 1;
        }
    }
    batch.write()?;
    report.replayed = head - size;
    report.payloads = payloads(&shared, tail, &committed)?;
    db.flush()?;
    Ok(report)
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(StoreError::io("read", path))
}

/// The files of a folder by their names; none where there is no such folder.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let mut files = Vec::new();
    let Ok(found) = fs::read_dir(folder) else { return Ok(files) };
    for file in found {
        let file = file.map_err(StoreError::io("read", folder))?;
        files.push((file.file_name().to_string_lossy().into_owned(), file.path()));
    }
    Ok(files)
}

/// The published checkpoints of an export that are this log's.
fn published_in(tail: &Path, epochs: &Epochs) -> Result<Vec<SignedCheckpoint>, StoreError> {
    let mut published = Vec::new();
    for (name, path) in files(&tail.join("checkpoints"))? {
        if let Ok(signed) = epochs.open(&read(&path)?)
            && signed.checkpoint().size.to_string() == name
        {
            published.push(signed);
        }
    }
    Ok(published)
}

/// Seals the payloads of an export that the replayed entries commit to, but for those that were purged.
fn payloads(shared: &Shared, tail: &Path, committed: &HashMap<Commitment, (u64, Day)>) -> Result<u64, StoreError> {
    let mut count = 0;
    for (name, path) in files(&tail.join("payload"))? {
        let Some(commitment) = Hash::from_hex(&name).ok().map(Commitment) else { continue };
        let Some((first, day)) = committed.get(&commitment) else { continue };
        let bytes = read(&path)?;
        let payload = parse(&bytes).filter(|payload| payload.commitment() == commitment);
        let Some(payload) = payload else {
            return Err(StoreError::Restore(format!("`{}` is not what the ledger commits to", path.display())));
        };
        let purged = TraceId::payloads(payload.class, *day);
        if shared.db.get(Family::Trace, purged.0.as_bytes())?.is_some() {
            continue;
        }
        let sealed = shared.vault.seal(&payload, &commitment, *day)?;
        let mut batch = shared.db.batch();
        batch.put(Family::Payload, commitment.0.as_bytes(), &[first.to_be_bytes().as_slice(), &sealed].concat())?;
        batch.write()?;
        count += 1;
    }
    Ok(count)
}

/// A payload as an export holds it: its class, its salt in hex, a line each, and its bytes.
fn parse(file: &[u8]) -> Option<Payload> {
    let mut parts = file.splitn(3, |byte| *byte == b'\n');
    let class = Class::from_name(str::from_utf8(parts.next()?).ok()?)?;
    let salt: Salt = *Hash::from_hex(str::from_utf8(parts.next()?).ok()?).ok()?.as_bytes();
    Some(Payload { class, salt, bytes: parts.next()?.to_vec() })
}
