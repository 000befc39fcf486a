//! Files that hold keys: created for their owner alone, refused when others can read them, never half written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Why a private file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The system refused.
    #[error("cannot {doing} `{}`: {source}", .path.display())]
    Io {
        /// What was tried, a verb.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its owner's group or everybody can read or write it.
    #[error("`{}` is open to others: found mode {mode:04o}, required 0600", .path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl PrivateFileError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether the file is not there (reading) or there already (creating).
    pub fn is(&self, kind: io::ErrorKind) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == kind)
    }
}

/// Reads a file that only its owner may read.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let mut file = File::open(path).map_err(PrivateFileError::io("open", path))?;
    let meta = file.metadata().map_err(PrivateFileError::io("examine", path))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::OpenToOthers { path: path.to_owned(), mode });
    }
    // Room for all of it at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).saturating_add(1)));
    file.read_to_end(&mut bytes).map_err(PrivateFileError::io("read", path))?;
    Ok(bytes)
}

/// Writes a temporary file, in place of one that a crash may have left.
fn write_new(temporary: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    match fs::remove_file(temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(PrivateFileError::io("remove", temporary)(e)),
        _ => (),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .map_err(PrivateFileError::io("create", temporary))?;
    file.write_all(bytes).map_err(PrivateFileError::io("write", temporary))?;
    file.sync_all().map_err(PrivateFileError::io("sync", temporary))
}

/// Creates a file with mode 0600, durable when this returns; refuses to replace one. After a crash it is there with all its
/// bytes or not at all: it is written under another name, then linked to its own.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    write_new(&temporary, bytes)?;
    // A link fails where a rename would replace.
    let linked = fs::hard_link(&temporary, path).map_err(PrivateFileError::io("create", path));
    fs::remove_file(&temporary).map_err(PrivateFileError::io("remove", &temporary))?;
    linked?;
    sync_parent(path)
}

/// Creates a file with mode 0600, or replaces the one that is there, which is all there or all gone after a crash. Durable when this
/// returns.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    write_new(&temporary, bytes)?;
    fs::rename(&temporary, path).map_err(PrivateFileError::io("replace", path))?;
    sync_parent(path)
}

/// Removes a file for good, as far as a file system lets one: its bytes are overwritten where they stand, then its name is removed. A
/// disk that moves its blocks about, or a file system that never writes in place, may keep them. No file is no error.
pub fn destroy(path: &Path) -> Result<(), PrivateFileError> {
    let Some(file) = open_to_overwrite(path)? else { return Ok(()) };
    overwrite(file, path)?;
    fs::remove_file(path).map_err(PrivateFileError::io("remove", path))?;
    sync_parent(path)
}

/// Gives the file `next` the name `path`. There is a whole file of that name at any time; the bytes of the one before are overwritten in the
/// end, as [`destroy`] does.
pub fn supersede(next: &Path, path: &Path) -> Result<(), PrivateFileError> {
    let before = open_to_overwrite(path)?;
    fs::rename(next, path).map_err(PrivateFileError::io("replace", path))?;
    sync_parent(path)?;
    before.map_or(Ok(()), |before| overwrite(before, path))
}

/// A file as it is now, whatever has its name later; `None` where there is none.
fn open_to_overwrite(path: &Path) -> Result<Option<File>, PrivateFileError> {
    match OpenOptions::new().write(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(PrivateFileError::io("open", path)),
    }
}

fn overwrite(mut file: File, path: &Path) -> Result<(), PrivateFileError> {
    let length = file.metadata().map_err(PrivateFileError::io("examine", path))?.len();
    let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
    file.write_all(&zeros).map_err(PrivateFileError::io("overwrite", path))?;
    file.sync_all().map_err(PrivateFileError::io("sync", path))
}

/// Creates a folder with mode 0700 where there is none, durable when this returns.
pub fn create_folder(path: &Path) -> Result<(), PrivateFileError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(PrivateFileError::io("create", path))?;
    sync_parent(path)
}

/// Makes the name of a file durable: a new name lives in its folder, which has to be synced as well.
///
/// # Errors
/// [`PrivateFileError`], if the folder cannot be synced.
pub fn sync_parent(path: &Path) -> Result<(), PrivateFileError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(PrivateFileError::io("sync", parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn reads_what_it_created_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        create(&path, b"secret").unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"secret");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(create(&path, b"other").unwrap_err().is(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the temporary file is gone");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.ends_with("is open to others: found mode 0640, required 0600"), "{error}");
    }

    #[test]
    fn what_is_replaced_or_destroyed_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        replace(&path, b"one").unwrap();
        // A second name shows what becomes of the bytes.
        fs::hard_link(&path, dir.path().join("same")).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().as_slice(), b"two");
        assert_eq!(fs::read(dir.path().join("same")).unwrap(), b"one");
        destroy(&dir.path().join("same")).unwrap();
        fs::hard_link(&path, dir.path().join("same")).unwrap();
        destroy(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(dir.path().join("same")).unwrap(), [0; 3]);
        destroy(&path).unwrap();
    }

    #[test]
    fn what_is_superseded_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let [path, next, same] = ["a.key", "a.key.next", "same"].map(|name| dir.path().join(name));
        create(&path, b"one").unwrap();
        create(&next, b"two").unwrap();
        fs::hard_link(&path, &same).unwrap();
        supersede(&next, &path).unwrap();
        assert_eq!((read(&path).unwrap().as_slice(), fs::read(&same).unwrap()), (&b"two"[..], vec![0; 3]));
        assert!(!next.exists());
    }

    #[test]
    fn a_half_written_file_of_a_crash_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.key.new"), "hal").unwrap();
        create(&dir.path().join("a.key"), b"whole").unwrap();
        assert_eq!(read(&dir.path().join("a.key")).unwrap().as_slice(), b"whole");
    }
}
