//! C2SP signed-note: a text and the signatures under it, and the keys that make and check them. Ed25519 alone is spoken
//! (type `0x01`; witnesses' keys, type `0x04`, are [`cosignature`](super::cosignature)'s); signatures of other types and by
//! other keys are carried along and trusted for nothing.
//!
//! ```text
//! <text, ending in a line feed>
//! <an empty line>
//! — <key name> base64(key id ‖ signature)
//! ```
//!
//! The key id is the first four bytes of `SHA-256(name ‖ 0x0A ‖ type ‖ public key)`.

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::{fmt, hint::black_box, str::FromStr};

/// The signature type of Ed25519 over the note's text.
const ED25519: u8 = 0x01;

/// The signature type of a witness's Ed25519 signature, over the note's text and a time.
pub(super) const COSIGNATURE: u8 = 0x04;

/// What begins a signature line: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// What begins the text of a private key.
pub(super) const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// The most signatures a note may carry. The specification asks for at least 16; a bound keeps a stranger from making us
/// check signatures without end.
const SIGNATURES_MAX: usize = 100;

/// Why a text is not a key. Key material is never shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form `name+id+base64`.
    #[error("not a verifier key: required `<name>+<key id>+<base64>`")]
    NotAVerifierKey,
    /// Not of the form `PRIVATE+KEY+name+id+base64`.
    #[error("not a signer key: required `PRIVATE+KEY+<name>+<key id>+<base64>`")]
    NotASignerKey,
    /// A private key where a public one is expected.
    #[error("a private key stands where a verifier key is required")]
    Private,
    /// Empty, or with spaces, plus signs or control characters.
    #[error("not a key name: found `{found}`, required at least one character and no space, plus or control character")]
    Name {
        /// The name, escaped.
        found: String,
    },
    /// A type of key other than Ed25519.
    #[error("key type of `{name}`: found {found:#04x}, required 0x01 (Ed25519)")]
    Type {
        /// The key's name.
        name: String,
        /// The type it states.
        found: u8,
    },
    /// A type of key that is not a witness's.
    #[error("key type of `{name}`: found {found:#04x}, required 0x04 (Ed25519 cosignature)")]
    WitnessType {
        /// The key's name.
        name: String,
        /// The type it states.
        found: u8,
    },
    /// Not the number of bytes an Ed25519 key has.
    #[error("wrong length of the key of `{name}`: found {found} bytes, required 32 after the type")]
    Length {
        /// The key's name.
        name: String,
        /// How many bytes there are.
        found: usize,
    },
    /// The key id is not that of the name and key beside it.
    #[error("key id of `{name}`: found {found}, required {required:08x}")]
    Id {
        /// The key's name.
        name: String,
        /// The id it states, escaped.
        found: String,
        /// The id of that name and key.
        required: u32,
    },
    /// Not a point that anybody could sign for safely.
    #[error("the key of `{name}` is not a valid Ed25519 public key")]
    Weak {
        /// The key's name.
        name: String,
    },
}

/// Why bytes are not a note, or a note is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not UTF-8.
    #[error("the note is not UTF-8 at byte {position}")]
    NotUtf8 {
        /// Where the first bad byte stands, from 0.
        position: usize,
    },
    /// A control character other than a line feed.
    #[error("the note has a control character at byte {position}")]
    ControlCharacter {
        /// Where it stands, from 0.
        position: usize,
    },
    /// The text doesn't end in a line feed.
    #[error("the note's text does not end in a line feed")]
    TextNotEnded,
    /// No empty line followed by signatures.
    #[error("the note has no signatures: required an empty line and at least one signature line after the text")]
    NoSignatures,
    /// A line that is not a signature line.
    #[error("signature line {line} of the note is malformed: required `\u{2014} <key name> <base64>` and a line feed")]
    SignatureLine {
        /// Which signature line, from 1.
        line: usize,
    },
    /// More signatures than are looked at.
    #[error("too many signatures: found {found}, required at most {SIGNATURES_MAX}")]
    TooManySignatures {
        /// How many there are.
        found: usize,
    },
    /// A known key's name and id stand on a signature that is not its own.
    #[error("the signature by `{name}` (key id {id:08x}) does not verify")]
    BadSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        id: u32,
    },
    /// No signature by a known key.
    #[error("no signature by a known key: found {found}, required one of {required}")]
    NoKnownSignature {
        /// The names and ids that the note's signatures state.
        found: String,
        /// The names and ids that are known.
        required: String,
    },
    /// Two known keys share a name and an id.
    #[error("two different keys are called `{name}` with key id {id:08x}")]
    AmbiguousKey {
        /// Their name.
        name: String,
        /// Their id.
        id: u32,
    },
    /// A key name that a note can't carry.
    #[error(transparent)]
    Name(KeyError),
}

pub(super) fn check_name(name: &str) -> Result<(), KeyError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(bad) {
        return Err(KeyError::Name { found: name.escape_debug().take(100).collect() });
    }
    Ok(())
}

/// The id of an Ed25519 key of that name and type.
pub(super) fn key_id(name: &str, kind: u8, public: &[u8; 32]) -> u32 {
    let mut sha = Sha256::new();
    sha.update(name);
    sha.update([b'\n', kind]);
    sha.update(public);
    let hash: [u8; 32] = sha.finalize().into();
    hash.first_chunk().map_or(0, |id| u32::from_be_bytes(*id))
}

/// Splits `name+id+base64` (the base64 may hold plus signs itself) and decodes the key, which must be of that type.
pub(super) fn split_key(text: &str, required: u8, form: KeyError) -> Result<(&str, &str, [u8; 32]), KeyError> {
    let mut fields = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (fields.next(), fields.next(), fields.next()) else { return Err(form) };
    check_name(name)?;
    // One byte more than a key has, rounded up to base64's groups of three, so that a longer key is seen to be longer.
    let mut buffer = Wiped([0; 36]);
    let mut long = Wiped(Vec::new());
    let decoded = match STANDARD.decode_slice(key, &mut buffer.0) {
        Ok(length) => buffer.0.get(..length),
        Err(_) => STANDARD.decode_vec(key, &mut long.0).ok().map(|()| long.0.as_slice()),
    };
    let Some((found, bytes)) = decoded.and_then(<[u8]>::split_first) else { return Err(form) };
    if *found != required {
        let (name, found) = (name.to_owned(), *found);
        return Err(match required {
            COSIGNATURE => KeyError::WitnessType { name, found },
            _ => KeyError::Type { name, found },
        });
    }
    match bytes.try_into() {
        Ok(bytes) => Ok((name, id, bytes)),
        Err(_) => Err(KeyError::Length { name: name.to_owned(), found: bytes.len() }),
    }
}

/// The Ed25519 key with these bytes (RFC 8032). One that would accept signatures nobody made is refused.
pub(super) fn strong_key(name: &str, public: &[u8; 32]) -> Result<VerifyingKey, KeyError> {
    match VerifyingKey::from_bytes(public) {
        Ok(key) if !key.is_weak() => Ok(key),
        _ => Err(KeyError::Weak { name: name.to_owned() }),
    }
}

/// Writes a key as `<name>+<key id>+base64(type ‖ key)`.
pub(super) fn write_key(f: &mut fmt::Formatter<'_>, name: &str, id: u32, kind: u8, public: &[u8; 32]) -> fmt::Result {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(public);
    write!(f, "{name}+{id:08x}+{}", STANDARD.encode(bytes))
}

pub(super) fn check_id(name: &str, found: &str, required: u32) -> Result<(), KeyError> {
    if found == format!("{required:08x}") {
        return Ok(());
    }
    let found = found.escape_debug().take(100).collect();
    Err(KeyError::Id { name: name.to_owned(), found, required })
}

/// Bytes that are overwritten when they are dropped.
struct Wiped<B: AsMut<[u8]>>(B);

impl<B: AsMut<[u8]>> Drop for Wiped<B> {
    fn drop(&mut self) {
        let bytes = self.0.as_mut();
        bytes.fill(0);
        // Keeps the compiler from leaving out a write that nobody reads.
        black_box(bytes);
    }
}

/// A public key by which notes are checked. Its text form is `<name>+<key id>+base64(type ‖ key)`.
///
/// ```
/// use countersign_ledger::tlog::VerifierKey;
/// let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
/// let key: VerifierKey = text.parse().unwrap();
/// assert_eq!((key.name(), key.id()), ("example.com/foo", 0x530d903a));
/// assert_eq!(key.to_string(), text);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The key of that name with these 32 bytes (RFC 8032). A key that would accept signatures nobody made is refused.
    pub fn new(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = strong_key(name, public)?;
        Ok(Self { name: name.to_owned(), id: key_id(name, ED25519, public), key })
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

    /// Whether `signature` (64 bytes, without a key id) is this key's over `text`, by RFC 8032's strict rules.
    pub fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(text, &signature).is_ok())
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.starts_with(PRIVATE_PREFIX) {
            return Err(KeyError::Private);
        }
        let (name, id, public) = split_key(text, ED25519, KeyError::NotAVerifierKey)?;
        let key = Self::new(name, &public)?;
        check_id(name, id, key.id)?;
        Ok(key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.name, self.id, ED25519, self.public())
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// A private key that signs notes. Overwritten in memory when dropped; neither `Debug` nor any error shows it.
///
/// Its text form is `PRIVATE+KEY+<name>+<key id>+base64(type ‖ seed)`.
pub struct SignerKey {
    verifier: VerifierKey,
    key: SigningKey,
}

impl SignerKey {
    /// The key of that name from a 32-byte seed (RFC 8032's private key), which must come from a secure random source.
    pub fn generate_from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, key.verifying_key().as_bytes())?;
        Ok(Self { verifier, key })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.verifier.name()
    }

    /// Its key id.
    pub fn id(&self) -> u32 {
        self.verifier.id()
    }

    /// The public key that checks what this one signs.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The 64-byte Ed25519 signature over `text`.
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.key.sign(text).to_bytes()
    }

    /// The private key as text, for the file that keeps it.
    pub fn secret_text(&self) -> SecretText {
        let mut secret = Wiped([ED25519; 33]);
        if let Some((_, seed)) = secret.0.split_first_mut() {
            seed.copy_from_slice(self.key.as_bytes());
        }
        let head = format!("{PRIVATE_PREFIX}{}+{:08x}+", self.name(), self.id());
        // Room for all of it at once: growing would leave a copy behind.
        let mut text = String::with_capacity(head.len() + 44);
        text.push_str(&head);
        STANDARD.encode_string(secret.0, &mut text);
        SecretText(Wiped(text.into_bytes()))
    }
}

impl FromStr for SignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError::NotASignerKey)?;
        let (name, id, seed) = split_key(text, ED25519, KeyError::NotASignerKey)?;
        let seed = Wiped(seed);
        let key = Self::generate_from_seed(name, &seed.0)?;
        check_id(name, id, key.id())?;
        Ok(key)
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({}+{:08x})", self.name(), self.id())
    }
}

/// A private key's text; overwritten in memory when dropped, and shown by nothing but [`as_bytes`](Self::as_bytes).
pub struct SecretText(Wiped<Vec<u8>>);

impl SecretText {
    /// The text, without a line feed at its end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// One signature line: who says to have signed, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: u32,
    /// The signature, without the key id; at least one byte. Its form depends on the key's type.
    pub signature: Vec<u8>,
}

/// A signed note, taken apart but not checked: nothing in it is to be believed before [`open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The signed text, with its final line feed.
    pub text: String,
    /// The signatures, in order.
    pub signatures: Vec<NoteSignature>,
}

/// A note with at least one good signature by a known key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedNote {
    /// The signed text, with its final line feed.
    pub text: String,
    /// The known keys that signed, each once, in the order of their first signatures.
    pub verified: Vec<VerifierKey>,
    /// The signatures by unknown keys, which count for nothing.
    pub unverified: Vec<NoteSignature>,
}

impl Note {
    /// Takes a note apart. Bytes that are accepted encode again to themselves.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let note = str::from_utf8(bytes).map_err(|e| NoteError::NotUtf8 { position: e.valid_up_to() })?;
        check_characters(note)?;
        // The text ends at the last empty line; its own final line feed is the first of the two.
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        if lines.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        let count = lines.matches('\n').count();
        if count > SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures { found: count });
        }
        let signatures = lines
            .split_inclusive('\n')
            .enumerate()
            .map(|(at, line)| NoteSignature::parse(line).ok_or(NoteError::SignatureLine { line: at + 1 }))
            .collect::<Result<_, _>>()?;
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The note as bytes. Refused where it could not be read back: a text or a name that a note can't carry, no signature.
    pub fn encode(&self) -> Result<Vec<u8>, NoteError> {
        check_text(&self.text)?;
        if self.signatures.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        if self.signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures { found: self.signatures.len() });
        }
        let mut note = format!("{}\n", self.text);
        for (at, signature) in self.signatures.iter().enumerate() {
            check_name(&signature.name).map_err(NoteError::Name)?;
            if signature.signature.is_empty() {
                return Err(NoteError::SignatureLine { line: at + 1 });
            }
            note.push_str(&signature.to_string());
        }
        Ok(note.into_bytes())
    }
}

impl NoteSignature {
    /// Reads a signature line with its line feed.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(SIGNATURE_PREFIX)?.strip_suffix('\n')?.split_once(' ')?;
        check_name(name).ok()?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        if signature.is_empty() {
            return None;
        }
        Some(Self { name: name.to_owned(), id: u32::from_be_bytes(*id), signature: signature.to_vec() })
    }
}

/// The signature line, with its line feed.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.signature);
        writeln!(f, "{SIGNATURE_PREFIX}{} {}", self.name, STANDARD.encode(bytes))
    }
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match text.bytes().position(|byte| byte < 0x20 && byte != b'\n') {
        Some(position) => Err(NoteError::ControlCharacter { position }),
        None => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    check_characters(text)?;
    if text.ends_with('\n') { Ok(()) } else { Err(NoteError::TextNotEnded) }
}

/// Signs a text, which must end in a line feed, with each of the keys.
pub fn sign(text: &str, keys: &[&SignerKey]) -> Result<Vec<u8>, NoteError> {
    let signatures = keys
        .iter()
        .map(|key| NoteSignature {
            name: key.name().to_owned(),
            id: key.id(),
            signature: key.sign(text.as_bytes()).to_vec(),
        })
        .collect();
    Note { text: text.to_owned(), signatures }.encode()
}

/// Takes a note apart and checks it: at least one signature must be by one of `keys`, and none that states the name and id of
/// one of them may be bad. Signatures by other keys are ignored.
pub fn open(note: &[u8], keys: &[VerifierKey]) -> Result<VerifiedNote, NoteError> {
    let Note { text, signatures } = Note::parse(note)?;
    let mut verified = Vec::<VerifierKey>::new();
    let mut unverified = Vec::new();
    let found = list(signatures.iter().map(|signature| (&signature.name, signature.id)));
    for signature in signatures {
        let mut known = keys.iter().filter(|key| key.name == signature.name && key.id == signature.id);
        let Some(key) = known.next() else {
            unverified.push(signature);
            continue;
        };
        if known.any(|other| other != key) {
            return Err(NoteError::AmbiguousKey { name: signature.name, id: signature.id });
        }
        if !key.verify(text.as_bytes(), &signature.signature) {
            return Err(NoteError::BadSignature { name: signature.name, id: signature.id });
        }
        if !verified.contains(key) {
            verified.push(key.clone());
        }
    }
    if verified.is_empty() {
        let required = list(keys.iter().map(|key| (&key.name, key.id)));
        return Err(NoteError::NoKnownSignature { found, required });
    }
    Ok(VerifiedNote { text, verified, unverified })
}

fn list<'a>(keys: impl Iterator<Item = (&'a String, u32)>) -> String {
    let keys: Vec<_> = keys.map(|(name, id)| format!("`{name}` ({id:08x})")).collect();
    if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
}
