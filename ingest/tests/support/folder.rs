//! Temporary folders of the test process. They stand in one root per process that holds a locked file: a root whose lock can be
//! taken belonged to a process that is gone, and the next test process removes it. So even a killed test run leaves nothing for long.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};

const PREFIX: &str = "countersign-test-";

/// A folder that is removed when dropped, unless the test is failing: then it stays and its path is printed.
pub struct Folder(PathBuf);

impl Folder {
    /// A new empty folder with `name` in its path. Every user may enter it, since PostgreSQL won't run as root.
    pub fn new(name: &str) -> Result<Folder> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = root()?.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).with_context(|| format!("could not make `{}`", path.display()))?;
        Ok(Folder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept until the next test run: {}", self.0.display());
        } else {
            // What can't be removed now goes with the root, at the next test run.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn root() -> Result<&'static Path> {
    static ROOT: OnceLock<Result<(PathBuf, File), String>> = OnceLock::new();
    match ROOT.get_or_init(|| make_root().map_err(|e| format!("{e:#}"))) {
        Ok((path, _lock)) => Ok(path),
        Err(e) => Err(anyhow!("{e}")),
    }
}

/// Not below cargo's target folder: its parents may be closed to the user that PostgreSQL runs as.
fn make_root() -> Result<(PathBuf, File)> {
    let temp = std::env::temp_dir();
    remove_leftovers(&temp);
    let fresh = tempfile::Builder::new().prefix(".countersign-test-").tempdir_in(&temp)?.keep();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&fresh, permissions)?;
    let lock = File::create(fresh.join("lock"))?;
    lock.lock()?;
    // Only under the name that `remove_leftovers` looks for once the lock is held.
    let name = fresh.file_name().unwrap_or_default().to_string_lossy().replacen('.', "", 1);
    let path = temp.join(name);
    fs::rename(&fresh, &path)?;
    Ok((path, lock))
}

fn remove_leftovers(temp: &Path) {
    for entry in fs::read_dir(temp).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
        {
            // Another user's, or another test process is removing it too: either way not ours to mind.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
