//! Evidence in one file: a ustar archive as untrusted input. It is gone through once when it is opened, header by header; nothing
//! is unpacked, no name in it reaches the file system, and a file's bytes are read when they are asked for.

use crate::export::{Fetched, Files, Listed};
use countersign_ledger::evidence::archive::{BLOCK, Member, padding, read_header};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// An archive that was gone through.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    /// Where each file's bytes begin, and how many they are.
    files: HashMap<String, (u64, u64)>,
}

impl Archive {
    /// Goes through an archive; in words, what is wrong with it, and where.
    pub fn open(path: &Path) -> Result<Self, String> {
        let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
        if !meta.is_file() {
            return Err("neither a folder nor a regular file".into());
        }
        let file = File::open(path).map_err(|e| e.to_string())?;
        let mut archive = Self { path: path.to_owned(), file, files: HashMap::new() };
        archive.go_through(meta.len())?;
        Ok(archive)
    }

    fn go_through(&mut self, size: u64) -> Result<(), String> {
        let mut at = 0_u64;
        loop {
            let here = |why: String| format!("byte {at}: {why}");
            let mut block = [0; BLOCK];
            let whole = at.checked_add(BLOCK as u64).is_some_and(|end| end <= size);
            if !whole {
                return Err(here("the archive is cut off: it does not end with a block of zeros".into()));
            }
            self.file.read_exact_at(&mut block, at).map_err(|e| here(e.to_string()))?;
            let begins = at + BLOCK as u64;
            match read_header(&block).map_err(here)? {
                Member::End => return self.only_zeros(begins, size),
                Member::Folder => at = begins,
                Member::File { name, size: bytes } => {
                    let next = begins.checked_add(bytes).and_then(|end| end.checked_add(padding(bytes)));
                    let next = next.filter(|next| *next <= size);
                    at = next.ok_or_else(|| here(format!("`{}` of {bytes} bytes is cut off", name.escape_debug())))?;
                    self.only_zeros(begins + bytes, at)?;
                    if self.files.insert(name.clone(), (begins, bytes)).is_some() {
                        return Err(format!(
                            "byte {}: `{}` stands there twice",
                            begins - BLOCK as u64,
                            name.escape_debug()
                        ));
                    }
                }
            }
        }
    }

    /// Between files and after the end there are only zeros: nothing is hidden there, and nothing was changed.
    fn only_zeros(&self, mut at: u64, end: u64) -> Result<(), String> {
        let mut buffer = [0; 8192];
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..length).unwrap_or_default();
            self.file.read_exact_at(part, at).map_err(|e| format!("byte {at}: {e}"))?;
            if let Some(found) = part.iter().position(|byte| *byte != 0) {
                return Err(format!("byte {}: something stands where only zeros belong", at + found as u64));
            }
            at += length as u64;
        }
        Ok(())
    }
}

impl Files for Archive {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn read(&self, path: &str, limit: u64) -> Fetched {
        let Some((at, size)) = self.files.get(path).copied() else { return Fetched::Missing };
        let Ok(length) = usize::try_from(size.min(limit.saturating_add(1))) else {
            return Fetched::Failed("too large".into());
        };
        let mut bytes = vec![0; length];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Fetched::Bytes(bytes),
            Err(e) => Fetched::Failed(e.to_string()),
        }
    }

    fn list(&self, found: &mut dyn FnMut(Listed)) {
        for name in self.files.keys() {
            found(Listed::File(name.clone()));
        }
    }
}
