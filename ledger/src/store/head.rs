//! `HEAD`: the last checkpoint that was signed, in a file of its own on another path than the store's. Whoever loses the end of
//! the store, to a disk that lied or a backup that was put back, is told so by this file.
//!
//! The file is written in place, in two slots of 4,096 bytes that take turns: a signed checkpoint, then zero bytes. Replacing a
//! file (write, sync, rename, sync the folder) costs two syncs and a new inode each time; a write into blocks that are there
//! already costs one `fdatasync` that touches no metadata. A torn write leaves one slot whose signature does not verify, and the
//! other slot, which names the group before: that is the gap that opening may close. So a slot needs no checksum and the file
//! stays readable with `cat`.

use super::error::StoreError;
use crate::{
    tlog::{Checkpoint, Epochs, Note, SignedCheckpoint},
    vault::files::sync_parent,
};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// The size of a slot, in bytes. A checkpoint with an Ed25519 and an ML-DSA-44 signature needs less.
const SLOT: usize = 4_096;

/// The file, and which slot is written next.
pub(super) struct HeadFile {
    file: File,
    path: PathBuf,
    // INVARIANT: not the slot that holds the newest checkpoint.
    next: u64,
}

/// What a `HEAD` file says.
pub(super) struct Head {
    /// The newest checkpoint in it; `None` where none was written yet.
    pub(super) newest: Option<SignedCheckpoint>,
    /// How many of its two slots hold something that is not a checkpoint of this log.
    pub(super) damaged: usize,
}

/// The largest size that a slot of the file claims, whoever signed it; `None` where there is no file or no checkpoint in it.
pub(super) fn claimed(path: &Path) -> Result<Option<u64>, StoreError> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(StoreError::io("open", path))?,
    };
    let mut size = None;
    for slot in 0..2 {
        if let Slot::Note(note) = read_slot(&file, slot).map_err(StoreError::io("read", path))?
            && let Ok(note) = Note::parse(&note)
            && let Ok(checkpoint) = Checkpoint::decode(&note.text)
        {
            size = size.max(Some(checkpoint.size.get()));
        }
    }
    Ok(size)
}

impl HeadFile {
    /// Creates the file with two empty slots; refuses to replace one.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(StoreError::Exists(path.to_owned())),
            file => file.map_err(StoreError::io("create", path))?,
        };
        // Real zeros, not a hole: later writes must find their blocks allocated.
        file.write_all_at(&[0; 2 * SLOT], 0).map_err(StoreError::io("write", path))?;
        file.sync_all().map_err(StoreError::io("sync", path))?;
        sync_parent(path)?;
        Ok(Self { file, path: path.to_owned(), next: 0 })
    }

    /// Opens the file and reads it; `None` where it is missing.
    pub(super) fn open(path: &Path, epochs: &Epochs) -> Result<Option<(Self, Head)>, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StoreError::io("open", path))?,
        };
        let mut head = Head { newest: None, damaged: 0 };
        let mut next = 0;
        for slot in 0..2 {
            match read_slot(&file, slot).map_err(StoreError::io("read", path))? {
                Slot::Empty => (),
                Slot::Note(note) => match epochs.open(&note) {
                    Ok(found) if head.newest.as_ref().is_none_or(|n| n.checkpoint().size < found.checkpoint().size) => {
                        head.newest = Some(found);
                        next = 1 - slot;
                    }
                    Ok(_) => (),
                    Err(_) => head.damaged += 1,
                },
            }
        }
        Ok(Some((Self { file, path: path.to_owned(), next }, head)))
    }

    /// Writes a checkpoint; it is synced when this returns.
    pub(super) fn write(&mut self, signed: &SignedCheckpoint) -> Result<(), StoreError> {
        let mut slot = signed.note().to_vec();
        if slot.len() > SLOT {
            return Err(StoreError::Damaged(format!(
                "a checkpoint too long for `HEAD`: found {} bytes, required at most {SLOT}",
                slot.len()
            )));
        }
        slot.resize(SLOT, 0);
        self.file.write_all_at(&slot, self.next * SLOT as u64).map_err(StoreError::io("write", &self.path))?;
        self.file.sync_data().map_err(StoreError::io("sync", &self.path))?;
        self.next = 1 - self.next;
        Ok(())
    }
}

enum Slot {
    Empty,
    Note(Vec<u8>),
}

/// The bytes of a slot before its padding; a file that ends early has empty slots or short ones.
fn read_slot(file: &File, slot: u64) -> io::Result<Slot> {
    let (mut bytes, mut filled) = (vec![0; SLOT], 0);
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, slot * SLOT as u64 + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(e) => return Err(e),
        }
    }
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    bytes.truncate(end);
    Ok(if bytes.is_empty() { Slot::Empty } else { Slot::Note(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{Hash, SignerKey, TreeSize};

    const ORIGIN: &str = "example.com/log";

    fn signer() -> SignerKey {
        SignerKey::generate_from_seed(ORIGIN, &[7; 32]).unwrap()
    }

    fn epochs() -> Epochs {
        Epochs::single(signer().verifier().clone())
    }

    fn checkpoint(size: u64) -> SignedCheckpoint {
        let root = Hash::from_bytes([size as u8; 32]);
        SignedCheckpoint::sign(Checkpoint::new(ORIGIN, TreeSize::new(size), root), &[&signer()]).unwrap()
    }

    fn open(path: &Path) -> (Option<u64>, usize) {
        let (_, head) = HeadFile::open(path, &epochs()).unwrap().unwrap();
        (head.newest.map(|n| n.checkpoint().size.get()), head.damaged)
    }

    #[test]
    fn the_newest_survives_a_torn_write_of_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("HEAD");
        assert!(HeadFile::open(&path, &epochs()).unwrap().is_none());
        let mut file = HeadFile::create(&path).unwrap();
        assert!(matches!(HeadFile::create(&path), Err(StoreError::Exists(_))));
        assert_eq!(open(&path), (None, 0));
        for size in 1..=4 {
            file.write(&checkpoint(size)).unwrap();
            assert_eq!(open(&path), (Some(size), 0));
            // The next write, torn at every place that matters, falls on the other slot.
            let whole = std::fs::read(&path).unwrap();
            let next = checkpoint(size + 1);
            for torn in [1, 50, next.note().len() - 2] {
                let mut bytes = whole.clone();
                let at = file.next as usize * SLOT;
                bytes[at..at + torn].copy_from_slice(&next.note()[..torn]);
                bytes[at + torn] ^= 0xff;
                std::fs::write(&path, &bytes).unwrap();
                assert_eq!(open(&path), (Some(size), 1), "torn at {torn}");
            }
            std::fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn goes_on_in_the_slot_that_is_not_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("HEAD");
        drop(HeadFile::create(&path).unwrap());
        for size in 1..=5 {
            let (mut file, _) = HeadFile::open(&path, &epochs()).unwrap().unwrap();
            file.write(&checkpoint(size)).unwrap();
            assert_eq!(open(&path), (Some(size), 0));
            let text = std::fs::read(&path).unwrap();
            let kept = if size == 1 { 0 } else { size - 1 };
            let expect = [checkpoint(size).into_note(), checkpoint(kept).into_note()];
            assert!(text.windows(expect[0].len()).any(|w| w == expect[0]));
            assert!(kept == 0 || text.windows(expect[1].len()).any(|w| w == expect[1]));
        }
    }
}
