//! The keys of the vault: one data key per class and UTC day, so that destroying one key purges one class of one day. A
//! [`Keyring`] may be a key management service; [`FileKeyring`] is a folder.
//!
//! ```text
//! <keyring>/master.key              countersign-master-key-v1 <base64 of 32 bytes>
//! <keyring>/<class>/<yyyy-mm-dd>.key countersign-data-key-v1 <base64 of nonce (12) ‖ ciphertext (32) ‖ tag (16)>
//! ```
//!
//! A data key is encrypted with AES-256-GCM under the master key, with `countersign/data-key/v1\0<class>/<day>` as additional
//! data, so that one day's key can't be passed off as another's. All files are of mode 0600; others are refused.

use super::{
    files::{self, PrivateFileError},
    fill_random,
};
use crate::evidence::Class;
use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Payload as Sealed},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use zeroize::Zeroizing;

const MASTER: &str = "countersign-master-key-v1 ";
const DATA: &str = "countersign-data-key-v1 ";

/// A day of UTC, counted from 1970-01-01. Shown as `yyyy-mm-dd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

impl Day {
    /// The day of that number.
    pub const fn from_number(days: u32) -> Self {
        Self(days)
    }

    /// The day that holds this second of Unix time.
    pub fn of_unix_seconds(seconds: u64) -> Self {
        Self(u32::try_from(seconds / 86_400).unwrap_or(u32::MAX))
    }

    /// Days since 1970-01-01.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proleptic Gregorian calendar in years that begin in March, so that a leap day ends a year (Howard Hinnant,
        // "chrono-compatible low-level date algorithms").
        let days = u64::from(self.0) + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        write!(f, "{:04}-{month:02}-{day:02}", era * 400 + year + next)
    }
}

/// Which data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    /// The class that it seals.
    pub class: Class,
    /// The day on which it seals.
    pub day: Day,
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
}

/// A keyring in a folder, as the module describes it. One process at a time: the store's lock sees to that.
pub struct FileKeyring {
    folder: PathBuf,
    master: DataKey,
    // The keys read or made so far. Held while a key is made, so that two threads make one key.
    known: Mutex<HashMap<KeyId, DataKey>>,
}

impl FileKeyring {
    /// Opens the keyring in that folder; its master key must be there.
    pub fn open(folder: &Path) -> Result<Self, KeyringError> {
        let path = folder.join("master.key");
        let text = files::read(&path)?;
        let bytes = decode(&text, MASTER).ok_or_else(|| bad(&path, "not a master key"))?;
        let master = key_from(&bytes).ok_or_else(|| bad(&path, "not a master key of 32 bytes"))?;
        Ok(Self { folder: folder.to_owned(), master, known: Mutex::default() })
    }

    /// Opens the keyring in that folder, making folder and master key where they are missing.
    pub fn open_or_create(folder: &Path) -> Result<Self, KeyringError> {
        files::create_folder(folder)?;
        let mut key = Zeroizing::new([0; 32]);
        fill_random(&mut *key);
        match files::create(&folder.join("master.key"), &encode(MASTER, &*key)) {
            Err(e) if !e.is(io::ErrorKind::AlreadyExists) => Err(e.into()),
            _ => Self::open(folder),
        }
    }

    fn path(&self, id: KeyId) -> PathBuf {
        self.folder.join(id.class.as_str()).join(format!("{}.key", id.day))
    }

    fn read(&self, id: KeyId) -> Result<Option<DataKey>, KeyringError> {
        let path = self.path(id);
        let text = match files::read(&path) {
            Err(e) if e.is(io::ErrorKind::NotFound) => return Ok(None),
            text => text?,
        };
        let sealed = decode(&text, DATA).ok_or_else(|| bad(&path, "not a data key"))?;
        let (nonce, sealed) = sealed.split_first_chunk::<12>().ok_or_else(|| bad(&path, "cut off"))?;
        let plain = Aes256Gcm::new(self.master.bytes().into())
            .decrypt(nonce.into(), Sealed { msg: sealed, aad: &additional(id) })
            .map_err(|_| {
                bad(&path, "does not decrypt: it is damaged, or sealed by another master key or for another day")
            })?;
        key_from(&Zeroizing::new(plain)).map(Some).ok_or_else(|| bad(&path, "not a data key of 32 bytes"))
    }

    fn make(&self, id: KeyId) -> Result<DataKey, KeyringError> {
        let path = self.path(id);
        let (mut key, mut nonce) = (Zeroizing::new([0; 32]), [0; 12]);
        fill_random(&mut *key);
        fill_random(&mut nonce);
        let sealed = Aes256Gcm::new(self.master.bytes().into())
            .encrypt(&nonce.into(), Sealed { msg: &*key, aad: &additional(id) })
            .map_err(|_| bad(&path, "cannot be encrypted"))?;
        files::create_folder(&self.folder.join(id.class.as_str()))?;
        files::create(&path, &encode(DATA, &[nonce.as_slice(), &sealed].concat()))?;
        Ok(DataKey::new(key))
    }
}

impl Keyring for FileKeyring {
    fn key_for_sealing(&self, id: KeyId) -> Result<DataKey, KeyringError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(&id) {
            return Ok(key.clone());
        }
        let key = match self.read(id)? {
            Some(key) => key,
            None => self.make(id)?,
        };
        known.insert(id, key.clone());
        Ok(key)
    }

    fn key_for_opening(&self, id: KeyId) -> Result<Option<DataKey>, KeyringError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(&id) {
            return Ok(Some(key.clone()));
        }
        let key = self.read(id)?;
        if let Some(key) = &key {
            known.insert(id, key.clone());
        }
        Ok(key)
    }
}

fn bad(path: &Path, why: &'static str) -> KeyringError {
    KeyringError::Key { path: path.to_owned(), why }
}

fn additional(id: KeyId) -> Vec<u8> {
    format!("countersign/data-key/v1\0{}/{}", id.class, id.day).into_bytes()
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
    fn days_are_those_of_the_calendar() {
        let check = |number, expect: &str| assert_eq!(Day::from_number(number).to_string(), expect);
        check(0, "1970-01-01");
        check(59, "1970-03-01");
        check(10_956, "1999-12-31");
        check(11_016, "2000-02-29");
        check(20_000, "2024-10-04");
        check(47_540, "2100-02-28");
        check(47_541, "2100-03-01");
        assert_eq!(Day::of_unix_seconds(86_399), Day::from_number(0));
        assert_eq!(Day::of_unix_seconds(86_400), Day::from_number(1));
    }

    #[test]
    fn keys_last_and_differ_and_stay_in_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("keyring");
        let id = KeyId { class: Class::Request, day: Day::from_number(20_000) };
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
}
