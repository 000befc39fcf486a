//! The hash of the tree, SHA-256, with RFC 6962's two prefixes, and the numbers that count leaves. An index and a size are
//! different types, because mixing them up is the classic way to prove the wrong entry.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// A SHA-256 hash: of a leaf, of an inner node, or any other 32 bytes that are shown the same way.
///
/// Shown and serialized as 64 lower-case hexadecimal digits; upper case is refused, so that a hash has one spelling.
///
/// ```
/// use countersign_ledger::tlog::{EMPTY_ROOT, Hash};
/// let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// assert_eq!(hex.parse(), Ok(EMPTY_ROOT));
/// assert!(Hash::from_hex(&hex.to_uppercase()).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

/// The root of the tree with no leaves: SHA-256 of nothing (RFC 6962, section 2.1).
pub const EMPTY_ROOT: Hash = Hash([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// Why a text or a byte string is not a hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not 64 hexadecimal digits long.
    #[error("wrong length of a hash: found {found} characters, required 64 hexadecimal digits")]
    HexLength {
        /// How long it is, in bytes.
        found: usize,
    },
    /// A byte that is not one of `0-9a-f`.
    #[error("not a lower-case hexadecimal digit at position {position} of a hash")]
    HexDigit {
        /// Where the byte stands, from 0.
        position: usize,
    },
    /// Not canonical base64, or not of 32 bytes.
    #[error("not the standard base64 of a 32-byte hash")]
    Base64,
    /// Not 32 bytes long.
    #[error("wrong length of a hash: found {found} bytes, required 32")]
    Length {
        /// How long it is, in bytes.
        found: usize,
    },
}

impl Hash {
    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, HashError> {
        let Ok(text) = <&[u8; 64]>::try_from(text.as_bytes()) else {
            return Err(HashError::HexLength { found: text.len() });
        };
        let digits = text.map(hex_digit);
        let mut bytes = [0; 32];
        // Two at once: the compiler makes lanes of it.
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let pair = u16::from_le_bytes(*pair);
            *byte = (pair << 4 | pair >> 8) as u8;
        }
        // One look at the end, since nearly every hash is one.
        if digits.iter().fold(0, |all, digit| all | digit) > 0xf {
            let position = digits.iter().position(|digit| *digit > 0xf).unwrap_or_default();
            return Err(HashError::HexDigit { position });
        }
        Ok(Self(bytes))
    }

    /// Reads canonical standard base64 (RFC 4648, section 4, padded), as checkpoints and proofs spell hashes.
    pub fn from_base64(text: &str) -> Result<Self, HashError> {
        let bytes = STANDARD.decode(text).map_err(|_| HashError::Base64)?;
        Self::try_from(bytes.as_slice()).map_err(|_| HashError::Base64)
    }

    /// Its 64 lower-case hexadecimal digits.
    fn hex(&self) -> [u8; 64] {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
        let mut text = [0; 64];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        text
    }

    /// Its standard base64, 44 characters.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

/// What a hexadecimal digit stands for; more than 15 where it is none. Without a table or a jump, so that a processor does
/// many at once.
const fn hex_digit(byte: u8) -> u8 {
    let (digit, letter) = (byte.wrapping_sub(b'0'), byte.wrapping_sub(b'a'));
    let digit = if digit < 10 { digit } else { 0xff };
    let letter = if letter < 6 { letter + 10 } else { 0xff };
    if digit < letter { digit } else { letter }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.hex()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        Self::from_hex(text)
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = HashError;

    fn try_from(bytes: &[u8]) -> Result<Self, HashError> {
        bytes.try_into().map(Self).map_err(|_| HashError::Length { found: bytes.len() })
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.hex()).map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;

        impl de::Visitor<'_> for Hex {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lower-case hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hash, E> {
                Hash::from_hex(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Hex)
    }
}

macro_rules! count {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the number.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

count! {
    /// Where a leaf stands in the tree, from 0.
    LeafIndex
}
count! {
    /// How many leaves a tree has.
    TreeSize
}

/// The hash of a leaf: `SHA-256(0x00 ‖ entry)` (RFC 6962, section 2.1).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update([0]);
    sha.update(entry);
    Hash(sha.finalize().into())
}

/// The hash of an inner node: `SHA-256(0x01 ‖ left ‖ right)` (RFC 6962, section 2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut sha = Sha256::new();
    sha.update([1]);
    sha.update(left.0);
    sha.update(right.0);
    Hash(sha.finalize().into())
}
