//! The keys of the vault: one data key per class and UTC day, so that destroying one key purges one class of one day. What has to
//! outlive its day (a legal hold) is sealed anew with a key of its own, another *part* of that day. A [`Keyring`] may be a key
//! management service; [`FileKeyring`] is a folder.
//!
//! ```text
//! <keyring>/master.key                      countersign-master-key-v1 <base64 of 32 bytes>
//! <keyring>/<class>/<yyyy-mm-dd>.key        countersign-data-key-v1 <base64 of nonce (12) ‖ ciphertext (32) ‖ tag (16)>
//! <keyring>/<class>/<yyyy-mm-dd>-<part>.key the same
//! ```
//!
//! A data key is encrypted with AES-256-GCM under the master key, with `countersign/data-key/v1\0<class>/<name>` as additional
//! data, so that one day's key can't be passed off as another's. All files are of mode 0600; others are refused.
//!
//! **Destroying a key** must reach copies of its file that this keyring knows nothing of: blocks that a disk moved, an old backup of
//! the data keys. They are worth nothing without the master key. So the keys that stay are encrypted anew under another master, and
//! the old master is destroyed with the keys that go. In order: `master.key.next` is made; the keys that go are overwritten and
//! removed; each key that stays is replaced; `master.key` is overwritten, and the next one takes its name. Broken off anywhere in
//! between, both masters are there, and the next opening carries it to its end.

use super::{
    files::{self, PrivateFileError},
    fill_random,
};
use crate::evidence::{Class, Day};
use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Payload as Sealed},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

const MASTER: &str = "countersign-master-key-v1 ";
const DATA: &str = "countersign-data-key-v1 ";

/// Which data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    /// The class that it seals.
    pub class: Class,
    /// The day on which it seals.
    pub day: Day,
    /// 0 for the key that seals on that day; anything else for one that seals what has to outlive it.
    pub part: u64,
}

impl KeyId {
    /// The key that seals payloads of that class on that day.
    pub const fn of_day(class: Class, day: Day) -> Self {
        Self { class, day, part: 0 }
    }
}

/// `<day>`, or `<day>-<part>`: the name of its file without the ending.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            0 => write!(f, "{}", self.day),
            part => write!(f, "{}-{part:016x}", self.day),
        }
    }
}

/// A data key: 32 bytes, overwritten when dropped, shown by nothing.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// The key with these bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

/// Why a keyring cannot give a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A key file cannot be read or written, or others could read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// A key file is not one, or was sealed by another master key.
    #[error("key file `{}`: {why}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

/// Where data keys come from.
pub trait Keyring: Send + Sync {
    /// The key that seals payloads of that class on that day, made if there is none. It is durable when this returns: what it
    /// seals may be stored right after.
    fn key_for_sealing(&self, id: KeyId) -> Result<DataKey, KeyringError>;

    /// The key that opens what was sealed with it; `None` where it was destroyed or never existed.
    fn key_for_opening(&self, id: KeyId) -> Result<Option<DataKey>, KeyringError>;

    /// All keys that there are, in order.
    fn keys(&self) -> Result<Vec<KeyId>, KeyringError>;

    /// Destroys these keys for good: what they sealed opens nowhere any more, wherever copies of it or of the keyring's own records
    /// may lie. Those that aren't there are no error.
    fn destroy(&self, ids: &[KeyId]) -> Result<(), KeyringError>;
}

/// A keyring in a folder, as the module describes it. One process at a time: the store's lock sees to that.
pub struct FileKeyring {
    folder: PathBuf,
    // Held while a key is made, so that two threads make one key.
    state: Mutex<State>,
}

struct State {
    // INVARIANT: not empty. The first one encrypts; there is a second one while a destruction is under way.
    masters: Vec<DataKey>,
    /// The keys read or made so far.
    known: HashMap<KeyId, DataKey>,
}

/// The file of the master key.
const MASTER_FILE: &str = "master.key";

/// The file of the one that takes its place.
const NEXT_FILE: &str = "master.key.next";

impl FileKeyring {
    /// Opens the keyring in that folder; its master key must be there.
    pub fn open(folder: &Path) -> Result<Self, KeyringError> {
        let state = State { masters: masters(folder)?, known: HashMap::new() };
        Ok(Self { folder: folder.to_owned(), state: Mutex::new(state) })
    }

    /// Opens the keyring in that folder, making folder and master key where they are missing.
    pub fn open_or_create(folder: &Path) -> Result<Self, KeyringError> {
        files::create_folder(folder)?;
        // Of a destruction that was broken off, the next master is there.
        if !folder.join(NEXT_FILE).exists() {
            match files::create(&folder.join(MASTER_FILE), &encode(MASTER, random_key().bytes())) {
                Err(e) if !e.is(io::ErrorKind::AlreadyExists) => return Err(e.into()),
                _ => (),
            }
        }
        Self::open(folder)
    }

    /// Carries a destruction of keys to its end that was broken off. For whoever has the ledger to himself.
    pub fn finish(&self) -> Result<(), KeyringError> {
        if !self.folder.join(NEXT_FILE).exists() {
            return Ok(());
        }
        let mut state = self.lock();
        state.masters = masters(&self.folder)?;
        self.change_master(&mut state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: KeyId) -> PathBuf {
        self.folder.join(id.class.as_str()).join(format!("{id}.key"))
    }

    /// Reads a key from its file, and says whether it is encrypted under the first master.
    fn read(&self, masters: &[DataKey], id: KeyId) -> Result<Option<(DataKey, bool)>, KeyringError> {
        let path = self.path(id);
        let text = match files::read(&path) {
            Err(e) if e.is(io::ErrorKind::NotFound) => return Ok(None),
            text => text?,
        };
        // Overwritten, and its name not removed yet: a destruction was broken off right there.
        if !text.is_empty() && text.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sealed = decode(&text, DATA).ok_or_else(|| bad(&path, "not a data key"))?;
        let (nonce, sealed) = sealed.split_first_chunk::<12>().ok_or_else(|| bad(&path, "cut off"))?;
        let open = |master: &DataKey| {
            Aes256Gcm::new(master.bytes().into())
                .decrypt(nonce.into(), Sealed { msg: sealed, aad: &additional(id) })
                .ok()
        };
        let found = masters.iter().enumerate().find_map(|(at, master)| Some((at, open(master)?)));
        let (at, plain) = found.ok_or_else(|| {
            bad(&path, "does not decrypt: it is damaged, or sealed by another master key or for another day")
        })?;
        match key_from(&Zeroizing::new(plain)) {
            Some(key) => Ok(Some((key, at == 0))),
            None => Err(bad(&path, "not a data key of 32 bytes")),
        }
    }

    /// A key's file: the key encrypted under that master.
    fn wrapped(&self, master: &DataKey, id: KeyId, key: &DataKey) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let mut nonce = [0; 12];
        fill_random(&mut nonce);
        let sealed = Aes256Gcm::new(master.bytes().into())
            .encrypt(&nonce.into(), Sealed { msg: key.bytes(), aad: &additional(id) })
            .map_err(|_| bad(&self.path(id), "cannot be encrypted"))?;
        Ok(encode(DATA, &[nonce.as_slice(), &sealed].concat()))
    }

    fn make(&self, state: &State, id: KeyId) -> Result<DataKey, KeyringError> {
        let key = random_key();
        let master = state.masters.first().ok_or_else(|| bad(&self.folder, "no master key"))?;
        files::create_folder(&self.folder.join(id.class.as_str()))?;
        files::create(&self.path(id), &self.wrapped(master, id, &key)?)?;
        Ok(key)
    }

    /// Encrypts every key under the first master, which is the next one, and has it take the other one's place.
    fn change_master(&self, state: &mut State) -> Result<(), KeyringError> {
        let next = state.masters.first().ok_or_else(|| bad(&self.folder, "no master key"))?;
        for id in self.keys()? {
            match self.read(&state.masters, id)? {
                Some((_, true)) => (),
                Some((key, false)) => files::replace(&self.path(id), &self.wrapped(next, id, &key)?)?,
                None => files::destroy(&self.path(id))?,
            }
        }
        let path = self.folder.join(MASTER_FILE);
        files::destroy(&path)?;
        std::fs::rename(self.folder.join(NEXT_FILE), &path).map_err(|source| PrivateFileError::Io {
            doing: "replace",
            path: path.clone(),
            source,
        })?;
        files::sync_parent(&path)?;
        state.masters.truncate(1);
        Ok(())
    }

    /// A key that may have been encrypted anew by another process since this keyring was opened.
    fn read_anew(&self, state: &mut State, id: KeyId) -> Result<Option<DataKey>, KeyringError> {
        let found = match self.read(&state.masters, id) {
            Err(KeyringError::Key { .. }) => {
                state.masters = masters(&self.folder)?;
                self.read(&state.masters, id)
            }
            found => found,
        };
        Ok(found?.map(|(key, _)| key))
    }
}

/// The master keys in a folder: the next one, where a destruction of keys is under way, then the present one.
fn masters(folder: &Path) -> Result<Vec<DataKey>, KeyringError> {
    let read = |name: &str| -> Result<DataKey, KeyringError> {
        let path = folder.join(name);
        let text = files::read(&path)?;
        let bytes = decode(&text, MASTER).ok_or_else(|| bad(&path, "not a master key"))?;
        key_from(&bytes).ok_or_else(|| bad(&path, "not a master key of 32 bytes"))
    };
    match (read(NEXT_FILE), read(MASTER_FILE)) {
        (Ok(next), Ok(master)) => Ok(vec![next, master]),
        // Overwritten or gone already: nothing is left that it would be needed for.
        (Ok(next), Err(KeyringError::Key { .. })) => Ok(vec![next]),
        (Ok(next), Err(KeyringError::File(e))) if e.is(io::ErrorKind::NotFound) => Ok(vec![next]),
        (Ok(_), Err(e)) => Err(e),
        (Err(KeyringError::File(e)), master) if e.is(io::ErrorKind::NotFound) => Ok(vec![master?]),
        (Err(e), _) => Err(e),
    }
}

fn random_key() -> DataKey {
    let mut key = Zeroizing::new([0; 32]);
    fill_random(&mut *key);
    DataKey::new(key)
}

impl Keyring for FileKeyring {
    fn key_for_sealing(&self, id: KeyId) -> Result<DataKey, KeyringError> {
        let mut state = self.lock();
        if let Some(key) = state.known.get(&id) {
            return Ok(key.clone());
        }
        let key = match self.read_anew(&mut state, id)? {
            Some(key) => key,
            None => self.make(&state, id)?,
        };
        state.known.insert(id, key.clone());
        Ok(key)
    }

    fn key_for_opening(&self, id: KeyId) -> Result<Option<DataKey>, KeyringError> {
        let mut state = self.lock();
        if let Some(key) = state.known.get(&id) {
            return Ok(Some(key.clone()));
        }
        let key = self.read_anew(&mut state, id)?;
        if let Some(key) = &key {
            state.known.insert(id, key.clone());
        }
        Ok(key)
    }

    fn keys(&self) -> Result<Vec<KeyId>, KeyringError> {
        let mut keys = Vec::new();
        for class in Class::ALL {
            let folder = self.folder.join(class.as_str());
            let failed = |source| PrivateFileError::Io { doing: "read", path: folder.clone(), source };
            let files = match std::fs::read_dir(&folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                files => files.map_err(failed)?,
            };
            for file in files {
                let name = file.map_err(failed)?.file_name();
                keys.extend(name.to_str().and_then(|name| key_of_file(class, name)));
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    fn destroy(&self, ids: &[KeyId]) -> Result<(), KeyringError> {
        let mut state = self.lock();
        state.masters = masters(&self.folder)?;
        // A key that can't be read would stop this half-way, and again each time that it is to be ended.
        for id in self.keys()? {
            if !ids.contains(&id) {
                self.read(&state.masters, id)?;
            }
        }
        let next = self.folder.join(NEXT_FILE);
        if !next.exists() {
            files::create(&next, &encode(MASTER, random_key().bytes()))?;
            state.masters = masters(&self.folder)?;
        }
        for id in ids {
            state.known.remove(id);
            files::destroy(&self.path(*id))?;
        }
        self.change_master(&mut state)
    }
}

/// The key that a file of that class's folder is of; `None` for what isn't a key's file.
fn key_of_file(class: Class, name: &str) -> Option<KeyId> {
    let stem = name.strip_suffix(".key")?;
    let (day, part) = stem.split_at_checked(10)?;
    let part = match part.strip_prefix('-') {
        Some(part) => u64::from_str_radix(part, 16).ok()?,
        None => 0,
    };
    let id = KeyId { class, day: day.parse().ok()?, part };
    (id.to_string() == stem).then_some(id)
}

fn bad(path: &Path, why: &'static str) -> KeyringError {
    KeyringError::Key { path: path.to_owned(), why }
}

fn additional(id: KeyId) -> Vec<u8> {
    format!("countersign/data-key/v1\0{}/{id}", id.class).into_bytes()
}

/// `<tag><base64>` and a line feed.
fn encode(tag: &str, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    // Room for all of it at once: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(tag.len() + bytes.len() * 4 / 3 + 8));
    text.push_str(tag);
    STANDARD.encode_string(bytes, &mut text);
    text.push('\n');
    Zeroizing::new(text.as_bytes().to_vec())
}

fn decode(text: &[u8], tag: &str) -> Option<Zeroizing<Vec<u8>>> {
    let base64 = text.strip_prefix(tag.as_bytes())?.strip_suffix(b"\n")?;
    STANDARD.decode(base64).ok().map(Zeroizing::new)
}

fn key_from(bytes: &[u8]) -> Option<DataKey> {
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return None;
    }
    key.copy_from_slice(bytes);
    Some(DataKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn keys_last_and_differ_and_stay_in_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("keyring");
        let id = KeyId::of_day(Class::Request, Day::from_number(20_000));
        let next = KeyId { day: Day::from_number(20_001), ..id };
        let ring = FileKeyring::open_or_create(&folder).unwrap();
        assert!(ring.key_for_opening(id).unwrap().is_none());
        let key = ring.key_for_sealing(id).unwrap();
        assert_ne!(ring.key_for_sealing(next).unwrap().bytes(), key.bytes());
        let again = FileKeyring::open_or_create(&folder).unwrap();
        assert_eq!(again.key_for_opening(id).unwrap().unwrap().bytes(), key.bytes());
        fs::rename(folder.join("request/2024-10-04.key"), folder.join("request/2024-10-05.key")).unwrap();
        let error = FileKeyring::open(&folder).unwrap().key_for_opening(next).unwrap_err().to_string();
        assert!(error.contains("does not decrypt"), "{error}");
    }

    #[test]
    fn a_missing_or_readable_master_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileKeyring::open(dir.path()).is_err());
        drop(FileKeyring::open_or_create(dir.path()).unwrap());
        fs::set_permissions(dir.path().join("master.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = FileKeyring::open_or_create(dir.path()).err().unwrap().to_string();
        assert!(error.contains("found mode 0644, required 0600"), "{error}");
    }

    const DAY: Day = Day::from_number(20_000);

    /// The keyring's folder with three keys, and them.
    fn three() -> (tempfile::TempDir, [(KeyId, DataKey); 3]) {
        let dir = tempfile::tempdir().unwrap();
        let ring = FileKeyring::open_or_create(dir.path()).unwrap();
        let ids = [
            KeyId::of_day(Class::Request, DAY),
            KeyId { part: 0xabc, ..KeyId::of_day(Class::Request, DAY) },
            KeyId::of_day(Class::Query, DAY),
        ];
        let keys = ids.map(|id| (id, ring.key_for_sealing(id).unwrap()));
        (dir, keys)
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            match file.path().is_dir() {
                true => copy(&file.path(), &to.join(file.file_name())),
                false => drop(fs::copy(file.path(), to.join(file.file_name())).unwrap()),
            }
        }
    }

    fn holds(ring: &FileKeyring, keys: &[(KeyId, DataKey)], gone: &[usize]) {
        for (at, (id, key)) in keys.iter().enumerate() {
            let found = ring.key_for_opening(*id).unwrap();
            let expect = (!gone.contains(&at)).then(|| *key.bytes());
            assert_eq!(found.map(|key| *key.bytes()), expect, "{} {id}", id.class);
        }
        let mut left: Vec<_> =
            keys.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, (id, _))| *id).collect();
        left.sort_unstable();
        assert_eq!(ring.keys().unwrap(), left);
    }

    #[test]
    fn a_key_that_was_destroyed_is_gone_with_all_copies_of_its_file() {
        let (dir, keys) = three();
        let copies = tempfile::tempdir().unwrap();
        copy(&dir.path().join("request"), &copies.path().join("request"));
        let ring = FileKeyring::open(dir.path()).unwrap();
        // One that stays open beside it, as an export is.
        let beside = FileKeyring::open(dir.path()).unwrap();
        let old = fs::read(dir.path().join(MASTER_FILE)).unwrap();
        ring.destroy(&[keys[0].0]).unwrap();
        holds(&ring, &keys, &[0]);
        holds(&FileKeyring::open(dir.path()).unwrap(), &keys, &[0]);
        assert_eq!(beside.key_for_opening(keys[2].0).unwrap().unwrap().bytes(), keys[2].1.bytes());
        assert_ne!(fs::read(dir.path().join(MASTER_FILE)).unwrap(), old);
        assert!(!dir.path().join(NEXT_FILE).exists());
        // A copy of the data keys that was taken before, under the master that there is now.
        copy(&copies.path().join("request"), &dir.path().join("request"));
        let error = FileKeyring::open(dir.path()).unwrap().key_for_opening(keys[0].0).unwrap_err().to_string();
        assert!(error.contains("does not decrypt"), "{error}");
        let error = ring.destroy(&[keys[2].0]).unwrap_err().to_string();
        assert!(error.contains("does not decrypt") && !dir.path().join(NEXT_FILE).exists(), "{error}");
        // A new key of that name is another one.
        fs::remove_file(dir.path().join("request/2024-10-04.key")).unwrap();
        assert_ne!(ring.key_for_sealing(keys[0].0).unwrap().bytes(), keys[0].1.bytes());
    }

    #[test]
    fn a_key_that_was_overwritten_and_not_removed_is_gone() {
        let (dir, keys) = three();
        let path = dir.path().join("request/2024-10-04.key");
        let length = fs::read(&path).unwrap().len();
        fs::write(&path, vec![0; length]).unwrap();
        files::create(&dir.path().join(NEXT_FILE), &encode(MASTER, random_key().bytes())).unwrap();
        let ring = FileKeyring::open(dir.path()).unwrap();
        assert!(ring.key_for_opening(keys[0].0).unwrap().is_none());
        ring.finish().unwrap();
        holds(&ring, &keys, &[0]);
        assert!(!path.exists() && !dir.path().join(NEXT_FILE).exists());
    }

    #[test]
    fn a_destruction_that_was_broken_off_is_carried_to_its_end() {
        // What a crash after each step leaves: the next master; a key gone; some keys encrypted anew; the old master overwritten, gone.
        for step in 0..5 {
            let (dir, keys) = three();
            let path = |name: &str| dir.path().join(name);
            let old = fs::read(path(MASTER_FILE)).unwrap();
            let before = tempfile::tempdir().unwrap();
            copy(dir.path(), before.path());
            files::create(&path(NEXT_FILE), &encode(MASTER, random_key().bytes())).unwrap();
            let next = fs::read(path(NEXT_FILE)).unwrap();
            if step >= 1 {
                files::destroy(&path("request/2024-10-04.key")).unwrap();
            }
            if step >= 2 {
                FileKeyring::open(dir.path()).unwrap().finish().unwrap();
                // Back to where `query` was not encrypted anew yet, and the old master was there.
                files::replace(&path(NEXT_FILE), &next).unwrap();
                files::replace(&path(MASTER_FILE), &old).unwrap();
                if step == 2 {
                    copy(&before.path().join("query"), &path("query"));
                }
            }
            if step == 3 {
                fs::write(path(MASTER_FILE), vec![0; old.len()]).unwrap();
            }
            if step == 4 {
                fs::remove_file(path(MASTER_FILE)).unwrap();
            }
            let gone = if step >= 1 { &[0][..] } else { &[] };
            // For reading it is good as it is.
            holds(&FileKeyring::open(dir.path()).unwrap(), &keys, gone);
            let ring = FileKeyring::open(dir.path()).unwrap();
            ring.finish().unwrap();
            holds(&ring, &keys, gone);
            holds(&FileKeyring::open_or_create(dir.path()).unwrap(), &keys, gone);
            assert_eq!(fs::read(path(MASTER_FILE)).unwrap(), next, "after step {step}");
            assert!(!path(NEXT_FILE).exists());
        }
    }
}
