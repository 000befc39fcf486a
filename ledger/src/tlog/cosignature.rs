//! C2SP tlog-cosignature: a witness's signature on a checkpoint, by which it says that at some time this was the largest tree it
//! had seen of this log, and that the tree had only grown. Ed25519 alone is spoken (type `0x04`); ML-DSA-44 (`0x06`) is carried
//! along in notes as any signature by an unknown key.
//!
//! What is signed, and what stands in the note's signature line:
//!
//! ```text
//! cosignature/v1
//! time <seconds of Unix time>
//! <the checkpoint's text, with its final line feed>
//!
//! — <witness's name> base64(key id (4) ‖ time (8, big-endian) ‖ Ed25519 signature (64))
//! ```
//!
//! The key id is the first four bytes of `SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key)`.

use super::note::{
    COSIGNATURE, KeyError, Note, NoteError, NoteSignature, PRIVATE_PREFIX, check_id, check_name, key_id, split_key,
    strong_key, write_key,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::{fmt, str::FromStr};

/// A witness's public key. Its text form is `<name>+<key id>+base64(0x04 ‖ key)`.
///
/// ```
/// use countersign_ledger::tlog::{CosignerKey, WitnessKey};
/// let key = CosignerKey::generate_from_seed("witness.example/w1", &[7; 32]).unwrap();
/// let text = key.verifier().to_string();
/// assert_eq!(text.parse::<WitnessKey>().as_ref(), Ok(key.verifier()));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl WitnessKey {
    /// The key of that name with these 32 bytes (RFC 8032). A key that would accept signatures nobody made is refused.
    pub fn new(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = strong_key(name, public)?;
        Ok(Self { name: name.to_owned(), id: key_id(name, COSIGNATURE, public), key })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its key id. Short: it finds a key among known ones and proves nothing.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The 32 bytes of the key (RFC 8032).
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The time that a signature line states (seconds of Unix time), where the line is this witness's signature on a checkpoint
    /// of that text: its name, its id, a good signature. Nothing says that the time is true.
    pub fn verify(&self, text: &str, line: &NoteSignature) -> Option<u64> {
        let (time, signature) = line.signature.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        let message = message(text, time);
        let good =
            || Signature::from_slice(signature).is_ok_and(|s| self.key.verify_strict(message.as_bytes(), &s).is_ok());
        (self.signed(line) && time <= TIME_MAX && good()).then_some(time)
    }

    /// Whether a signature line states this key's name and id.
    pub fn signed(&self, line: &NoteSignature) -> bool {
        line.name == self.name && line.id == self.id
    }
}

/// The largest time that a cosignature may state.
const TIME_MAX: u64 = i64::MAX as u64;

fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

impl FromStr for WitnessKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.starts_with(PRIVATE_PREFIX) {
            return Err(KeyError::Private);
        }
        let (name, id, public) = split_key(text, COSIGNATURE, KeyError::NotAVerifierKey)?;
        let key = Self::new(name, &public)?;
        check_id(name, id, key.id)?;
        Ok(key)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.name, self.id, COSIGNATURE, self.public())
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({self})")
    }
}

/// A good cosignature of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// Who cosigned.
    pub key: WitnessKey,
    /// When, by the witness's clock, in seconds of Unix time.
    pub time: u64,
    /// The signature line.
    pub line: NoteSignature,
}

/// The cosignatures of a checkpoint's note by the witnesses that are known: each once, in the order of their first lines. As in
/// every note, a line that states the name and id of one of them and is not its signature makes the whole note bad; lines by
/// others are ignored.
///
/// Nothing is said about the log's own signature: that is [`SignedCheckpoint::open`](super::SignedCheckpoint::open).
pub fn cosignatures(note: &Note, known: &[WitnessKey]) -> Result<Vec<Cosignature>, NoteError> {
    let mut found = Vec::<Cosignature>::new();
    for line in &note.signatures {
        let mut keys = known.iter().filter(|key| key.signed(line));
        let Some(key) = keys.next() else { continue };
        let (name, id) = (line.name.clone(), line.id);
        if keys.any(|other| other != key) {
            return Err(NoteError::AmbiguousKey { name, id });
        }
        let time = key.verify(&note.text, line).ok_or(NoteError::BadSignature { name, id })?;
        if found.iter().all(|cosignature| cosignature.key != *key) {
            found.push(Cosignature { key: key.clone(), time, line: line.clone() });
        }
    }
    Ok(found)
}

/// A witness's private key. We are no witness: this serves tests, and tools that stand in for one.
pub struct CosignerKey {
    verifier: WitnessKey,
    key: SigningKey,
}

impl CosignerKey {
    /// The key of that name from a 32-byte seed (RFC 8032's private key).
    pub fn generate_from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        Ok(Self { verifier: WitnessKey::new(name, key.verifying_key().as_bytes())?, key })
    }

    /// The public key that checks what this one signs.
    pub fn verifier(&self) -> &WitnessKey {
        &self.verifier
    }

    /// The signature line for a checkpoint of that text, at that time in seconds of Unix time.
    pub fn cosign(&self, text: &str, time: u64) -> NoteSignature {
        let signature = self.key.sign(message(text, time).as_bytes());
        let signature = [time.to_be_bytes().as_slice(), &signature.to_bytes()].concat();
        NoteSignature { name: self.verifier.name.clone(), id: self.verifier.id, signature }
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerKey({}+{:08x})", self.verifier.name, self.verifier.id)
    }
}
