//! An export, as untrusted input: what stands in it, and its files' bytes. Of a folder only regular files are opened and only
//! so much of them is read as evidence can need, so that no folder can make the tool wait or fill the memory.

use countersign_ledger::tlog::{BundlePath, Hash, TilePath, TreeSize};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest bundle, in bytes: 256 entries with the largest length that two bytes can state.
pub const BUNDLE_BYTES_MAX: u64 = 256 * (2 + 65_535);

/// The largest tile, in bytes.
pub const TILE_BYTES_MAX: u64 = 256 * 32;

/// The largest checkpoint, receipt or key file that is looked at, in bytes. The signatures of a hundred witnesses fit.
pub const NOTE_BYTES_MAX: u64 = 1 << 20;

/// The largest payload, in bytes.
pub const PAYLOAD_BYTES_MAX: u64 = 64 << 20;

/// What came of reading a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Its bytes; one more than the limit where it is larger, so that a comparison fails.
    Bytes(Vec<u8>),
    /// There is no such file.
    Missing,
    /// It is there and could not be read.
    Failed(String),
}

/// Reads a regular file, at most `limit + 1` bytes of it.
pub fn read(path: &Path, limit: u64) -> Fetched {
    let failed = |e: &std::io::Error| Fetched::Failed(e.to_string());
    let size = match fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta.len().min(limit),
        Ok(_) => return Fetched::Failed("not a regular file".into()),
        // A file where a folder should be: what would stand under it is missing.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Fetched::Missing,
        Err(e) => return failed(&e),
    };
    // With room to see that nothing follows.
    let mut bytes = Vec::with_capacity(usize::try_from(size + 1).unwrap_or_default());
    match File::open(path).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes)) {
        Ok(_) => Fetched::Bytes(bytes),
        Err(e) if e.kind() == ErrorKind::NotFound => Fetched::Missing,
        Err(e) => failed(&e),
    }
}

/// Where the files of an export are: a folder, or whatever else holds them under the same paths. Read by many threads at once.
pub trait Files: Debug + Send + Sync {
    /// How people know it.
    fn name(&self) -> String;

    /// Reads the file at a path like `tile/0/000`, at most `limit + 1` bytes of it.
    fn read(&self, path: &str, limit: u64) -> Fetched;

    /// Names everything that is there.
    fn list(&self, found: &mut dyn FnMut(Listed));
}

/// What is found in listing an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// A file that can be read.
    File(String),
    /// Something that is no regular file.
    Other(String),
    /// A folder that could not be listed, and why.
    Unlisted(String, String),
}

/// A folder of files.
#[derive(Debug)]
struct Folder(PathBuf);

/// An export.
#[derive(Clone, Debug)]
pub struct Export {
    files: Arc<dyn Files>,
}

/// What stands in an export besides what the tree of its size needs.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The sizes of the published checkpoints, ascending.
    pub checkpoints: Vec<u64>,
    /// The payloads' commitments.
    pub payloads: Vec<Hash>,
    /// Partial tiles and bundles of earlier sizes: the path of the partial one, and of its fuller self.
    pub earlier: Vec<(String, String)>,
    /// The indices of single entries, ascending: the evidence is a part of a ledger.
    pub entries: Vec<u64>,
    /// Whether there are bundles of entries.
    pub bundles: bool,
    /// Files that have no place in an export.
    pub unexpected: Vec<String>,
    /// Folders that could not be listed, and why.
    pub unlisted: Vec<(String, String)>,
}

impl Export {
    /// The export in that folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::of(Folder(dir.into()))
    }

    /// The export that these files are.
    pub fn of(files: impl Files + 'static) -> Self {
        Self { files: Arc::new(files) }
    }

    /// How people know it.
    pub fn name(&self) -> String {
        self.files.name()
    }

    /// Reads a file by its path in the export, at most `limit + 1` bytes of it.
    pub fn read(&self, path: &str, limit: u64) -> Fetched {
        self.files.read(path, limit)
    }

    /// Looks through an export whose checkpoint states that size.
    pub fn contents(&self, size: TreeSize) -> Contents {
        let mut contents = Contents::default();
        self.files.list(&mut |listed| match listed {
            Listed::File(path) => contents.place(path, size),
            Listed::Other(path) => contents.unexpected.push(path),
            Listed::Unlisted(folder, why) => contents.unlisted.push((folder, why)),
        });
        contents.entries.sort_unstable();
        if contents.bundles {
            // Evidence is whole or a part: single entries beside bundles vouch for nothing.
            let single = std::mem::take(&mut contents.entries);
            contents.unexpected.extend(single.into_iter().map(|index| format!("entry/{index}")));
        } else if !contents.entries.is_empty() {
            // Nothing in a part could bear out what was signed or stored of other sizes.
            let published = std::mem::take(&mut contents.checkpoints);
            contents.unexpected.extend(published.into_iter().map(|size| format!("checkpoints/{size}")));
            contents.unexpected.extend(std::mem::take(&mut contents.earlier).into_iter().map(|(path, _)| path));
        }
        contents.checkpoints.sort_unstable();
        contents.unexpected.sort_unstable();
        contents.earlier.sort_unstable();
        contents
    }
}

impl Files for Folder {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn read(&self, path: &str, limit: u64) -> Fetched {
        read(&self.0.join(path), limit)
    }

    fn list(&self, found: &mut dyn FnMut(Listed)) {
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            if let Err(e) = self.list_one(&folder, &mut folders, found) {
                let name = if folder.is_empty() { ".".into() } else { folder };
                found(Listed::Unlisted(name, e.to_string()));
            }
        }
    }
}

impl Folder {
    fn list_one(&self, folder: &str, folders: &mut Vec<String>, found: &mut dyn FnMut(Listed)) -> std::io::Result<()> {
        for entry in fs::read_dir(self.0.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let path = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let Some(name) = name.to_str() else {
                found(Listed::Other(path(&name.to_string_lossy())));
                continue;
            };
            let path = path(name);
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() || (kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|m| m.is_file())) {
                found(Listed::File(path));
            } else {
                // Links to folders could lead in circles; devices and pipes never end.
                found(Listed::Other(path));
            }
        }
        Ok(())
    }
}

impl Contents {
    fn place(&mut self, path: String, size: TreeSize) {
        if path == "checkpoint" {
            return;
        }
        if let Some(number) = path.strip_prefix("checkpoints/") {
            match number.parse::<u64>() {
                Ok(size) if size.to_string() == number => self.checkpoints.push(size),
                _ => self.unexpected.push(path),
            }
            return;
        }
        if let Some(number) = path.strip_prefix("entry/") {
            match number.parse::<u64>() {
                Ok(index) if index.to_string() == number && index < size.get() => self.entries.push(index),
                _ => self.unexpected.push(path),
            }
            return;
        }
        if let Some(commitment) = path.strip_prefix("payload/") {
            match Hash::from_hex(commitment) {
                Ok(hash) => self.payloads.push(hash),
                Err(_) => self.unexpected.push(path),
            }
            return;
        }
        let full = |width: u16, wanted: u16, fuller: String| match wanted {
            0 => None,
            _ if width == wanted => Some(None),
            _ if width < wanted => Some(Some(fuller)),
            _ => None,
        };
        let placed = if let Ok(tile) = path.parse::<TilePath>() {
            let width = tile.id.width(size);
            full(tile.width, width, TilePath { width, ..tile }.to_string())
        } else if let Ok(bundle) = path.parse::<BundlePath>() {
            self.bundles = true;
            let width = bundle_width(bundle.index, size);
            full(bundle.width, width, BundlePath { width, ..bundle }.to_string())
        } else {
            None
        };
        match placed {
            Some(None) => {}
            Some(Some(fuller)) => self.earlier.push((path, fuller)),
            None => self.unexpected.push(path),
        }
    }
}

/// How many entries bundle `index` holds in a tree of that size; 0 where there is no such bundle.
fn bundle_width(index: u64, size: TreeSize) -> u16 {
    let before = index.saturating_mul(256);
    u16::try_from(size.get().saturating_sub(before).min(256)).unwrap_or(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_files() {
        let check = |path: &str, expect: &str| {
            let mut contents = Contents::default();
            contents.place(path.to_owned(), TreeSize::new(300));
            let Contents { checkpoints, payloads, earlier, unexpected, .. } = &contents;
            let found = match (checkpoints.len(), payloads.len(), earlier.first(), unexpected.len()) {
                (0, 0, None, 0) => "needed".to_owned(),
                (1, 0, None, 0) => "checkpoint".to_owned(),
                (0, 1, None, 0) => "payload".to_owned(),
                (0, 0, Some((_, fuller)), 0) => fuller.clone(),
                _ => "unexpected".to_owned(),
            };
            assert_eq!(found, expect, "{path}");
        };
        check("checkpoint", "needed");
        check("tile/0/000", "needed");
        check("tile/0/001.p/44", "needed");
        check("tile/1/000.p/1", "needed");
        check("tile/entries/001.p/44", "needed");
        check("tile/0/000.p/17", "tile/0/000");
        check("tile/entries/001.p/43", "tile/entries/001.p/44");
        check("tile/0/001.p/45", "unexpected");
        check("tile/0/001", "unexpected");
        check("tile/0/002.p/1", "unexpected");
        check("tile/1/001.p/1", "unexpected");
        check("tile/entries/002.p/1", "unexpected");
        check("checkpoints/17", "checkpoint");
        check("entry/299", "needed");
        check("entry/300", "unexpected");
        check("entry/017", "unexpected");
        check("checkpoints/017", "unexpected");
        check("checkpoints/x", "unexpected");
        check(&format!("payload/{}", "0a".repeat(32)), "payload");
        check(&format!("payload/{}", "0A".repeat(32)), "unexpected");
        check("README.md", "unexpected");
    }
}
