//! The vault: what entries commit to but must not contain, encrypted. A payload's record lies in the store's family `payload`;
//! the key that opens it lies in the [`keyring`], which is never inside the store or its backups, so that destroying a key
//! purges every copy of what it sealed.
//!
//! A record, as it is stored (all integers big-endian):
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | the format: `1`, or `2` where the key is not that of the day itself |
//! | 1 | the class, as its position in [`Class::ALL`] |
//! | 4 | the day of the key: UTC days since 1970-01-01 |
//! | 8 | in format 2 alone: the key's part |
//! | 12 | the nonce, random |
//! | rest | AES-256-GCM of `class (1) ‖ salt (32) ‖ bytes`, with the commitment's 32 bytes as additional data |
//!
//! The additional data binds a record to its place: moved under another commitment, it doesn't open.

pub mod files;
pub mod keyring;

pub use keyring::{DataKey, FileKeyring, KeyId, Keyring, KeyringError};

pub use crate::evidence::Day;
use crate::evidence::{Class, Commitment, Salt};
use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Payload as Sealed},
};
use std::fmt;
use zeroize::Zeroizing;

/// The format of records that the key of a day seals.
const OF_DAY: u8 = 1;

/// The format of records that another key seals, which is named by eight bytes after the day.
const OF_PART: u8 = 2;

/// The bytes of a record before its ciphertext, without the key's part.
const HEADER: usize = 1 + 1 + 4;

/// The nonce of AES-GCM, in bytes.
const NONCE: usize = 12;

/// What an entry commits to: its class, its salt and its bytes.
///
/// `Debug` shows class and length, never the bytes or the salt.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// What it is; decides the key that encrypts it, and how long it is kept.
    pub class: Class,
    /// 32 random bytes that make the commitment hiding.
    pub salt: Salt,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// A payload under a fresh random salt.
    pub fn new(class: Class, bytes: impl Into<Vec<u8>>) -> Self {
        let mut salt = [0; 32];
        fill_random(&mut salt);
        Self { class, salt, bytes: bytes.into() }
    }

    /// The commitment that stands in the entry.
    pub fn commitment(&self) -> Commitment {
        Commitment::to(self.class, &self.salt, &self.bytes)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({}, {} bytes)", self.class, self.bytes.len())
    }
}

/// Fills `bytes` from the system's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    #[expect(
        clippy::expect_used,
        reason = "a system that cannot give random bytes can keep no secret: nothing may go on"
    )]
    getrandom::fill(bytes).expect("the system's random source failed");
}

/// Why a payload cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The keyring failed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The key that sealed it is not in the keyring: the payload was purged, or the keyring is another one.
    #[error("the key of class `{}` and day {} is not in the keyring", .0.class, .0)]
    NoKey(KeyId),
    /// A class that is committed to and never kept.
    #[error("payloads of class `{0}` are committed to, never kept")]
    NeverKept(Class),
    /// Not a record, or of a later format.
    #[error("payload {commitment}: {why}")]
    Record {
        /// The commitment that it is filed under.
        commitment: Commitment,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Seals payloads with the keys of a keyring, and opens them.
pub struct Vault {
    keyring: Box<dyn Keyring>,
}

impl Vault {
    /// A vault whose keys are in that keyring.
    pub fn new(keyring: impl Keyring + 'static) -> Self {
        Self { keyring: Box::new(keyring) }
    }

    /// The record of a payload, sealed with the key of its class and `day`. That key is durable when this returns.
    pub fn seal(&self, payload: &Payload, commitment: &Commitment, day: Day) -> Result<Vec<u8>, VaultError> {
        self.seal_with(payload, commitment, KeyId::of_day(payload.class, day))
    }

    /// The record of a payload, sealed with that key of its class, which is made where there is none.
    pub fn seal_with(&self, payload: &Payload, commitment: &Commitment, id: KeyId) -> Result<Vec<u8>, VaultError> {
        if matches!(payload.class, Class::Chunk | Class::Rejected) {
            return Err(VaultError::NeverKept(payload.class));
        }
        let broken = |why| VaultError::Record { commitment: *commitment, why };
        let class = class_tag(payload.class);
        let key = self.keyring.key_for_sealing(id)?;
        let mut nonce = [0; NONCE];
        fill_random(&mut nonce);
        let mut plain = Zeroizing::new(Vec::with_capacity(1 + 32 + payload.bytes.len()));
        plain.push(class);
        plain.extend_from_slice(&payload.salt);
        plain.extend_from_slice(&payload.bytes);
        let sealed = Aes256Gcm::new(key.bytes().into())
            .encrypt(&nonce.into(), Sealed { msg: &plain, aad: commitment.0.as_bytes() })
            .map_err(|_| broken("too large to encrypt"))?;
        let mut record = Vec::with_capacity(HEADER + 8 + NONCE + sealed.len());
        record.extend_from_slice(&[if id.part == 0 { OF_DAY } else { OF_PART }, class]);
        record.extend_from_slice(&id.day.number().to_be_bytes());
        if id.part != 0 {
            record.extend_from_slice(&id.part.to_be_bytes());
        }
        record.extend_from_slice(&nonce);
        record.extend_from_slice(&sealed);
        Ok(record)
    }

    /// The payload that a record holds, checked against the commitment that it is filed under.
    pub fn open(&self, commitment: &Commitment, record: &[u8]) -> Result<Payload, VaultError> {
        let broken = |why| VaultError::Record { commitment: *commitment, why };
        let (id, rest) = Self::read_header(commitment, record)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(|| broken("cut off in its nonce"))?;
        let key = self.keyring.key_for_opening(id)?.ok_or(VaultError::NoKey(id))?;
        let plain = Aes256Gcm::new(key.bytes().into())
            .decrypt(nonce.into(), Sealed { msg: sealed, aad: commitment.0.as_bytes() })
            .map_err(|_| {
                broken("does not decrypt: its bytes were changed, or it was filed under another commitment")
            })?;
        let plain = Zeroizing::new(plain);
        let (class, rest) = plain.split_first().ok_or_else(|| broken("empty"))?;
        let (salt, bytes) = rest.split_first_chunk::<32>().ok_or_else(|| broken("cut off in its salt"))?;
        let payload = Payload { class: id.class, salt: *salt, bytes: bytes.to_vec() };
        if *class != class_tag(id.class) || payload.commitment() != *commitment {
            return Err(broken("its content is not what the commitment is to"));
        }
        Ok(payload)
    }

    /// The class of a record, which stands in it in the clear.
    pub fn class_of(&self, commitment: &Commitment, record: &[u8]) -> Result<Class, VaultError> {
        self.key_of(commitment, record).map(|id| id.class)
    }

    /// Which key sealed a record, which stands in it in the clear.
    pub fn key_of(&self, commitment: &Commitment, record: &[u8]) -> Result<KeyId, VaultError> {
        Self::read_header(commitment, record).map(|(id, _)| id)
    }

    /// The keys.
    pub fn keyring(&self) -> &dyn Keyring {
        &*self.keyring
    }

    fn read_header<'a>(commitment: &Commitment, record: &'a [u8]) -> Result<(KeyId, &'a [u8]), VaultError> {
        let broken = |why| VaultError::Record { commitment: *commitment, why };
        let ([format, class, day @ ..], rest) =
            record.split_first_chunk::<HEADER>().ok_or_else(|| broken("cut off in its header"))?;
        let class = *Class::ALL.get(usize::from(*class)).ok_or_else(|| broken("of an unknown class"))?;
        let day = Day::from_number(u32::from_be_bytes(*day));
        match *format {
            OF_DAY => Ok((KeyId::of_day(class, day), rest)),
            OF_PART => {
                let (part, rest) = rest.split_first_chunk::<8>().ok_or_else(|| broken("cut off in its header"))?;
                Ok((KeyId { class, day, part: u64::from_be_bytes(*part) }, rest))
            }
            _ => Err(broken("of a format that this version does not know")),
        }
    }
}

/// A class as one byte: its position in [`Class::ALL`].
fn class_tag(class: Class) -> u8 {
    Class::ALL.iter().position(|c| *c == class).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &std::path::Path) -> Vault {
        Vault::new(FileKeyring::open_or_create(&dir.join("keyring")).unwrap())
    }

    const DAY: Day = Day::from_number(20_000);

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let day = KeyId::of_day(Class::Query, DAY);
        check_opening(day);
        check_opening(KeyId { part: 7, ..day });
    }

    fn check_opening(key: KeyId) {
        let dir = tempfile::tempdir().unwrap();
        let payload = Payload::new(Class::Query, "SELECT 1");
        let commitment = payload.commitment();
        let record = vault(dir.path()).seal_with(&payload, &commitment, key).unwrap();
        assert_eq!(vault(dir.path()).key_of(&commitment, &record).unwrap(), key);
        // A second opening reads the keys from their files.
        let vault = vault(dir.path());
        assert_eq!(vault.open(&commitment, &record).unwrap(), payload);
        assert!(!record.windows(8).any(|w| w == b"SELECT 1") && !record.windows(32).any(|w| w == payload.salt));
        for at in 0..record.len() {
            let mut bad = record.clone();
            bad[at] ^= 1;
            assert!(vault.open(&commitment, &bad).is_err(), "byte {at} does not count");
            assert!(vault.open(&commitment, &record[..at]).is_err(), "cut off at {at}");
        }
        let other = Payload::new(Class::Query, "SELECT 2").commitment();
        assert!(vault.open(&other, &record).unwrap_err().to_string().contains("does not decrypt"));
    }

    #[test]
    fn two_seals_of_one_payload_differ() {
        let dir = tempfile::tempdir().unwrap();
        let (vault, payload) = (vault(dir.path()), Payload::new(Class::Detail, "x"));
        let seal = || vault.seal(&payload, &payload.commitment(), DAY).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn what_is_never_kept_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for class in [Class::Chunk, Class::Rejected] {
            let payload = Payload::new(class, "x");
            let error = vault(dir.path()).seal(&payload, &payload.commitment(), DAY).unwrap_err();
            assert!(matches!(error, VaultError::NeverKept(c) if c == class));
        }
    }

    #[test]
    fn a_destroyed_key_takes_its_payloads_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let payload = Payload::new(Class::Query, "x");
        let record = vault(dir.path()).seal(&payload, &payload.commitment(), DAY).unwrap();
        std::fs::remove_file(dir.path().join("keyring/query/2024-10-04.key")).unwrap();
        let error = vault(dir.path()).open(&payload.commitment(), &record).unwrap_err().to_string();
        assert_eq!(error, "the key of class `query` and day 2024-10-04 is not in the keyring");
    }

    #[test]
    fn debug_shows_nothing_of_the_content() {
        assert_eq!(format!("{:?}", Payload::new(Class::Query, "secret")), "Payload(query, 6 bytes)");
    }
}
