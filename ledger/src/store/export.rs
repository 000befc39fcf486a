//! The ledger as a folder of files that stands on its own: what a static web server would serve, what `countersign-verify` reads,
//! and what other people's tools for C2SP tlog-tiles read as well.
//!
//! What it holds, [`Ledger::export`] describes. It is written and synced under another name, then renamed.

use super::{
    db::{Family, number},
    error::StoreError,
    ledger::Ledger,
    readback::root_at,
};
use crate::{
    evidence::{Class, Commitment},
    tlog::{Hash, SignedCheckpoint, TileReader, TreeSize, bundles_for_size, tiles_for_size},
    vault::{Payload, files::sync_parent},
};
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportSummary {
    /// Entries, as many as the exported checkpoint says.
    pub entries: u64,
    /// Files of hashes.
    pub tiles: u64,
    /// Files of entries.
    pub bundles: u64,
    /// Published checkpoints.
    pub checkpoints: u64,
    /// Payloads.
    pub payloads: u64,
    /// Payloads of the classes asked for that cannot be opened, since their key is gone.
    pub payloads_without_key: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// A folder being written; removed again where it isn't finished.
struct Draft {
    folder: PathBuf,
    summary: ExportSummary,
    files: Vec<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl Draft {
    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(path);
        if let Some(parent) = path.parent() {
            // Payloads are in the clear: whoever shall read them is let in by their owner.
            let mode = if parent.ends_with("payload") { 0o700 } else { 0o777 };
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(parent);
            made.map_err(StoreError::io("create", parent))?;
            let between = parent.ancestors().take_while(|folder| folder.starts_with(&self.folder));
            self.folders.extend(between.map(Path::to_owned));
        }
        fs::write(&path, bytes).map_err(StoreError::io("write", &path))?;
        self.summary.bytes += bytes.len() as u64;
        self.files.push(path);
        Ok(())
    }

    /// Makes all of it durable, files before the folders that name them. Done in the end, when the system has had time to write most of
    /// it by itself.
    fn sync(&self) -> Result<(), StoreError> {
        self.files.iter().chain(&self.folders).try_for_each(|path| {
            fs::File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", path))
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Renamed when finished: then there is nothing to remove.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Writes the export; see the module.
pub(super) fn export(
    ledger: &Ledger,
    dir: &Path,
    classes: &[Class],
    signed: &SignedCheckpoint,
) -> Result<ExportSummary, StoreError> {
    let shared = ledger.shared();
    let (size, root) = (signed.checkpoint().size, signed.checkpoint().root);
    let found = root_at(&shared.db, size.get())?;
    if found != root {
        let why =
            format!("at size {size} the stored tiles come to the root {found}, the published checkpoint says {root}");
        return Err(StoreError::Damaged(why));
    }
    let replaces = examine_target(ledger, dir, signed)?;

    let mut draft = Draft {
        folder: sibling(dir, "partial")?,
        summary: ExportSummary::default(),
        files: Vec::new(),
        folders: BTreeSet::new(),
    };
    draft.summary.entries = size.get();
    remove(&draft.folder)?;
    fs::create_dir_all(&draft.folder).map_err(StoreError::io("create", &draft.folder))?;
    for path in tiles_for_size(size) {
        let mut hashes = shared.db.tile(path.id.level, path.id.index, path.width)?;
        hashes.truncate(usize::from(path.width) * 32);
        draft.write(&path.to_string(), &hashes)?;
        draft.summary.tiles += 1;
    }
    for path in bundles_for_size(size) {
        let missing = || StoreError::Damaged(format!("`{path}` is not complete"));
        let bundle = ledger.bundle(path.index, Some(path.width))?.ok_or_else(missing)?;
        draft.write(&path.to_string(), &bundle)?;
        draft.summary.bundles += 1;
    }
    ledger.each_checkpoint(size, |of, note| {
        draft.summary.checkpoints += 1;
        draft.write(&format!("checkpoints/{of}"), note)
    })?;
    if !classes.is_empty() {
        let mut without_key = 0;
        payloads(ledger, size, classes, &mut without_key, |name, bytes| {
            draft.summary.payloads += 1;
            draft.write(name, bytes)
        })?;
        draft.summary.payloads_without_key = without_key;
    }
    draft.write("checkpoint", signed.note())?;
    draft.sync()?;

    let old = sibling(dir, "old")?;
    if replaces {
        remove(&old)?;
        fs::rename(dir, &old).map_err(StoreError::io("rename", dir))?;
    }
    fs::rename(&draft.folder, dir).map_err(StoreError::io("create", dir))?;
    sync_parent(dir)?;
    remove(&old)?;
    Ok(draft.summary.clone())
}

/// The payloads of these classes that stand under the checkpoint and that the vault can open, as files.
pub(super) fn payloads(
    ledger: &Ledger,
    size: TreeSize,
    classes: &[Class],
    without_key: &mut u64,
    mut write: impl FnMut(&str, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let shared = ledger.shared();
    for item in shared.db.all(Family::Payload)? {
        let (key, record) = item?;
        let broken = || StoreError::Damaged("a record of `payload` is not one".into());
        let commitment = Commitment(Hash::try_from(&*key).map_err(|_| broken())?);
        let (first, sealed) = record.split_first_chunk::<8>().ok_or_else(broken)?;
        let wanted = classes.contains(&shared.vault.class_of(&commitment, sealed)?);
        if !wanted || u64::from_be_bytes(*first) >= size.get() {
            continue;
        }
        let payload = match shared.vault.open(&commitment, sealed) {
            Err(crate::vault::VaultError::NoKey(_)) => {
                *without_key += 1;
                continue;
            }
            payload => payload?,
        };
        write(&format!("payload/{commitment}"), &payload_file(&payload))?;
    }
    Ok(())
}

/// A payload as a file: its class, its salt, its bytes.
pub(super) fn payload_file(payload: &Payload) -> Vec<u8> {
    let mut file = format!("{}\n{}\n", payload.class, Hash::from_bytes(payload.salt)).into_bytes();
    file.extend_from_slice(&payload.bytes);
    file
}

impl Ledger {
    /// Every published checkpoint up to that size: its size and its note.
    pub(super) fn each_checkpoint(
        &self,
        size: TreeSize,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for item in self.shared().db.all(Family::Checkpoint)? {
            let (key, note) = item?;
            if let Some(of) = number(&key).filter(|of| *of <= size.get()) {
                each(of, &note)?;
            }
        }
        Ok(())
    }
}

/// Whether there is an earlier export of this log to be replaced; anything else but an empty folder is an error.
fn examine_target(ledger: &Ledger, dir: &Path, signed: &SignedCheckpoint) -> Result<bool, StoreError> {
    let refuse = |why: String| Err(StoreError::ExportTarget { path: dir.to_owned(), why });
    let mut files = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        files => files.map_err(StoreError::io("read", dir))?,
    };
    if files.next().is_none() {
        // A rename replaces an empty folder.
        return Ok(false);
    }
    let Ok(note) = fs::read(dir.join("checkpoint")) else {
        return refuse("it is not empty and holds no `checkpoint`".into());
    };
    let earlier = match ledger.epochs().open(&note) {
        Ok(earlier) => earlier,
        Err(e) => return refuse(format!("its `checkpoint` is not one of this log: {e}")),
    };
    let (of, size) = (earlier.checkpoint().size, signed.checkpoint().size);
    if of > size {
        return refuse(format!("it holds {of} entries, this ledger's last published checkpoint {size}"));
    }
    let (root, found) = (earlier.checkpoint().root, root_at(&ledger.shared().db, of.get())?);
    if root != found {
        return refuse(format!(
            "at size {of} its root is {root}, this ledger's {found}: they are two logs under one key"
        ));
    }
    Ok(true)
}

/// A name beside `dir`, for what is not finished or not needed any more.
pub(super) fn sibling(dir: &Path, what: &str) -> Result<PathBuf, StoreError> {
    let Some(name) = dir.file_name() else {
        return Err(StoreError::ExportTarget { path: dir.to_owned(), why: "it has no name of its own".into() });
    };
    let mut sibling = std::ffi::OsString::from(".");
    sibling.push(name);
    sibling.push(format!(".{what}-{}", std::process::id()));
    Ok(dir.with_file_name(sibling))
}

pub(super) fn remove(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", folder)(e)),
        _ => Ok(()),
    }
}
