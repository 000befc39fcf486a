//! Keys, tokens, and what turns them back: `token` and `ff1` are the masks that can be undone, by whoever holds the keys and
//! names domain and purpose.
//!
//! A token of the key version 1 is `tok_`, of version *n* `tok<n>_`, followed by base64url without padding of the AES-256-SIV
//! of the text, which was padded with 0x80 and zeros to whole blocks of 16 bytes. The SIV makes it authentic: what wasn't
//! made with these keys for this domain and purpose isn't turned back. The newest key makes tokens; those of older ones stay
//! reversible, and no token of one version can be linked with one of another. FF1's output has no room for a version and
//! isn't authentic: whoever reverses it has to say which version, and gets some text for any text.

use super::fpe::Ff1Rule;
use super::siv::{Siv, Window};
use crate::fresh::Texts;
use crate::schema::ColumnType;
use aes::cipher::KeyInit;
use aes::{Aes256Enc, Block};
use polars::prelude::*;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The master keys of all tokens, wiped when dropped. The key of a domain and purpose is HKDF-Expand (RFC 5869, SHA-256) of
/// one of them, so tokens of two domains or two purposes can't be linked.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TokenKeys {
    newest: [u8; 32],
    /// The others, oldest first.
    older: Vec<[u8; 32]>,
}

/// Why a pseudonym wasn't turned back. It names no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevealError {
    /// The text is no token, or nothing that the `ff1` mask could have written.
    #[error("this is nothing that the mask writes")]
    Form,
    /// There is no such master key.
    #[error("it names the key version {0}, there are versions 1 to {1}")]
    Version(usize, usize),
    /// The token wasn't made with these keys for this domain and purpose.
    #[error("it was not made with these keys for this domain and purpose")]
    NotAuthentic,
}

impl TokenKeys {
    /// Takes 32 uniformly random bytes, the key version 1. The same bytes give the same tokens for ever.
    pub fn new(master: [u8; 32]) -> Self {
        Self { newest: master, older: Vec::new() }
    }

    /// Adds a newer master key, which makes all tokens from now on: they can't be joined with those of before.
    #[must_use]
    pub fn rotated(mut self, master: [u8; 32]) -> Self {
        // A vector that grows leaves its old buffer behind.
        let mut older = Vec::with_capacity(self.older.len() + 1);
        older.extend_from_slice(&self.older);
        older.push(self.newest);
        self.older.zeroize();
        self.older = older;
        self.newest = master;
        self
    }

    /// The version of the key that makes tokens.
    pub fn version(&self) -> usize {
        self.older.len() + 1
    }

    /// Turns a token of this domain and purpose back into its value, whichever key version made it.
    ///
    /// # Errors
    /// [`RevealError`], if it isn't such a token.
    pub fn reveal(&self, domain: &str, purpose: &str, token: &str) -> Result<String, RevealError> {
        let (version, body) =
            token.strip_prefix("tok").and_then(|rest| rest.split_once('_')).ok_or(RevealError::Form)?;
        let version = match version {
            "" => 1,
            // One spelling for each version.
            digits if digits.starts_with('0') || digits == "1" => return Err(RevealError::Form),
            digits if !digits.bytes().all(|byte| byte.is_ascii_digit()) => return Err(RevealError::Form),
            digits => digits.parse().map_err(|_| RevealError::Form)?,
        };
        let bytes = Zeroizing::new(read_base64url(body).ok_or(RevealError::Form)?);
        let ([iv, blocks @ ..], []) = bytes.as_chunks() else { return Err(RevealError::Form) };
        if blocks.is_empty() {
            return Err(RevealError::Form);
        }
        let siv = self.siv(self.master(version)?, domain, purpose);
        let mut window = Window::default();
        window.push_blocks(blocks);
        if !siv.decrypt(u128::from_be_bytes(*iv), &mut window) {
            return Err(RevealError::NotAuthentic);
        }
        let padded = window.messages().flat_map(|(_, blocks)| blocks.iter().flatten().copied());
        let padded = Zeroizing::new(padded.collect::<Vec<u8>>());
        let end = padded.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        let text = padded.get(..end).and_then(|text| std::str::from_utf8(text).ok());
        text.map(str::to_owned).ok_or(RevealError::NotAuthentic)
    }

    /// Turns what `ff1` has written into a column of this type, with the key of this version, back into its value. There is
    /// no telling a wrong version, domain or purpose: the result is then another value of the same form.
    ///
    /// # Errors
    /// [`RevealError`], if `ff1` doesn't write such a value, or there is no such key.
    pub fn reveal_ff1(
        &self,
        rule: &Ff1Rule,
        purpose: &str,
        version: usize,
        column: &ColumnType,
        value: &str,
    ) -> Result<String, RevealError> {
        let key = self.ff1(self.master(version)?, &rule.domain, purpose);
        rule.reveal(&key, column, value).ok_or(RevealError::Form)
    }

    fn master(&self, version: usize) -> Result<&[u8; 32], RevealError> {
        let master = match version.checked_sub(1) {
            Some(index) if index == self.older.len() => Some(&self.newest),
            Some(index) => self.older.get(index),
            None => None,
        };
        master.ok_or(RevealError::Version(version, self.version()))
    }

    fn siv(&self, master: &[u8; 32], domain: &str, purpose: &str) -> Siv {
        let [mac, cipher] = &*derived(master, "countersign/token/1", domain, purpose);
        Siv::new(mac, cipher)
    }

    fn ff1(&self, master: &[u8; 32], domain: &str, purpose: &str) -> Aes256Enc {
        let [key, _] = &*derived(master, "countersign/ff1/1", domain, purpose);
        Aes256Enc::new(&(*key).into())
    }

    /// The tokens of one domain for one purpose, made with the newest key.
    pub(super) fn tokens(&self, domain: &str, purpose: &str) -> Tokens {
        let prefix = match self.version() {
            1 => "tok_".to_owned(),
            version => format!("tok{version}_"),
        };
        Tokens { siv: self.siv(&self.newest, domain, purpose), prefix }
    }

    /// The newest key of `ff1`.
    pub(super) fn newest_ff1(&self, domain: &str, purpose: &str) -> Aes256Enc {
        self.ff1(&self.newest, domain, purpose)
    }

    /// The newest key of `date_shift`.
    pub(super) fn date_shift(&self, domain: &str, purpose: &str) -> Aes256Enc {
        let [key, _] = &*derived(&self.newest, "countersign/date-shift/1", domain, purpose);
        Aes256Enc::new(&(*key).into())
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys")
    }
}

/// HKDF-Expand to 64 bytes, with what the key is for, domain and purpose as its info.
fn derived(master: &[u8; 32], name: &str, domain: &str, purpose: &str) -> Zeroizing<[[u8; 32]; 2]> {
    let info = [name.as_bytes(), &framed(domain), &framed(purpose)].concat();
    let first = hmac(master, &[&info, &[1]]);
    Zeroizing::new([first, hmac(master, &[&first, &info, &[2]])])
}

/// Length and bytes, so that no two pairs of domain and purpose run together.
fn framed(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// HMAC-SHA-256 (RFC 2104) for keys of 32 bytes.
fn hmac(key: &[u8; 32], message: &[&[u8]]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = Zeroizing::new([byte; 64]);
        block.iter_mut().zip(key).for_each(|(padded, key)| *padded ^= key);
        block
    };
    let mut inner = Sha256::new_with_prefix(*pad(0x36));
    message.iter().for_each(|part| inner.update(part));
    Sha256::new_with_prefix(*pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

// ---------------------------------------------------------------------------------------------------------------------------
// Tokens

pub(super) struct Tokens {
    siv: Siv,
    prefix: String,
}

impl Tokens {
    /// The tokens of a text column's cells; null cells stay null.
    pub(super) fn column(&self, text: &StringChunked) -> PolarsResult<Series> {
        let token_bytes = |cell: &str| self.prefix.len() + (16 * (cell.len() / 16 + 2) * 4).div_ceil(3);
        let cells = || text.downcast_iter().flat_map(|chunk| chunk.iter());
        let mut masked = Texts::with_capacity(text.len(), cells().flatten().map(token_bytes).sum());
        let mut window = Window::default();
        let mut present = Vec::new();
        let (mut bytes, mut token) = (Vec::new(), self.prefix.clone().into_bytes());
        let mut cells = cells();
        loop {
            window.clear();
            present.clear();
            while !window.is_full()
                && let Some(cell) = cells.next()
            {
                present.push(cell.is_some());
                cell.into_iter().for_each(|cell| window.push_padded(cell.as_bytes()));
            }
            if present.is_empty() {
                return masked.finish(text.name().clone());
            }
            self.siv.encrypt(&mut window);
            let mut messages = window.messages();
            for present in &present {
                let Some((iv, blocks)) = present.then(|| messages.next()).flatten() else {
                    masked.push(None);
                    continue;
                };
                bytes.clear();
                bytes.extend_from_slice(&iv.to_be_bytes());
                blocks.iter().for_each(|block: &Block| bytes.extend_from_slice(block));
                token.truncate(self.prefix.len());
                write_base64url(&bytes, &mut token);
                // INVARIANT: the prefix and base64url are ASCII.
                masked.push(std::str::from_utf8(&token).ok());
            }
        }
    }
}

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn write_base64url(bytes: &[u8], out: &mut Vec<u8>) {
    let symbols = |group: [u8; 3]| {
        let [a, b, c] = group.map(u32::from);
        let bits = a << 16 | b << 8 | c;
        [bits >> 18, bits >> 12, bits >> 6, bits]
            .map(|six| BASE64URL.get((six & 0x3f) as usize).copied().unwrap_or(b'A'))
    };
    let (whole, rest) = bytes.as_chunks();
    whole.iter().for_each(|group| out.extend_from_slice(&symbols(*group)));
    if !rest.is_empty() {
        let mut group = [0; 3];
        group.iter_mut().zip(rest).for_each(|(padded, byte)| *padded = *byte);
        out.extend(symbols(group).iter().take(rest.len() + 1));
    }
}

/// Reads base64url without padding; only the one spelling that [`write_base64url`] has.
fn read_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for symbol in text.bytes() {
        let six = BASE64URL.iter().position(|known| *known == symbol)?;
        bits = bits << 6 | six as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (held < 6 && bits == 0).then_some(bytes)
}
