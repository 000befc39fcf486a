//! The masks: what each does to a cell, which types it fits, and which of two is the more restrictive. A mask works on whole
//! columns and depends on nothing but the column, its type and, for tokens, a key derived from domain and purpose.
//!
//! | mask | fits | null stays null | what it still reveals |
//! | --- | --- | --- | --- |
//! | `null` | every type | every cell becomes null | nothing, not even which cells were null |
//! | `redact` | every type | every cell becomes `[redacted]`, and null where the column isn't text | nothing, as above |
//! | `constant("x")` | text | every cell becomes `x` | nothing, as above |
//! | `keep_first(n)` | text, integers | yes | the first `n` characters (code points), and whether there are more than `n` |
//! | `keep_last(n)` | text, integers | yes | the last `n` characters, and whether there are more than `n` |
//! | `email` | text | yes | the first character of a local part of two or more, the top-level domain, whether it is an address |
//! | `year_only` | date, timestamp(tz), text | yes | the year, and for text whether it starts with an ISO date |
//! | `token(domain)` | text, integers | yes | which cells are equal, the value's length in steps of 16 bytes |
//!
//! *Text* means every type that is represented by text (text, uuid, json, numeric, text_array), for `email` and `year_only`
//! text itself only. Integers are masked by their decimal text. All masks are deterministic: equal cells become equal.
//! What a mask can't read becomes less, never more: `keep_first(n)` and `keep_last(n)` turn a value of at most `n`
//! characters into `[redacted]`, `email` does so with what isn't an address, `year_only` makes null of what isn't a date.
//! Empty text is such a value for all but `token`.
//!
//! **Order.** `null` is the most restrictive, then `redact`, which is more restrictive than all others. `keep_first(m)` is
//! at least as restrictive as `keep_first(n)` if `m ≤ n`, likewise `keep_last`. All other pairs of different masks are
//! incomparable (also `constant` and any other: what a constant says was chosen for one purpose), and of two incomparable
//! masks the policy takes `redact`. So the masks form a join-semilattice, and the order in which policies are joined makes
//! no difference.

use crate::civil;
use crate::schema::ColumnType;
use aes_siv::{KeyInit, siv::Aes256Siv};
use polars::prelude::*;
use sha2::{Digest, Sha256};
use std::fmt::{self, Write};
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What stands in place of a redacted text.
pub const REDACTED: &str = "[redacted]";
/// What stands in place of the masked part of a text, whatever its length.
const RUN: &str = "*****";
const MAX_KEPT: usize = 64;
const MAX_CONSTANT_BYTES: usize = 256;

/// A rule for masking a column's cells; see the module's doc for what each does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Every cell becomes null.
    Null,
    /// Every cell becomes this text.
    Constant(String),
    /// Every cell becomes `[redacted]`, or null where the column isn't text.
    Redact,
    /// The first so many characters stay.
    KeepFirst(usize),
    /// The last so many characters stay.
    KeepLast(usize),
    /// `ada@mail.example.org` becomes `a***@***.org`.
    Email,
    /// Dates and timestamps become the start of their year (UTC), text that starts with an ISO date becomes its year.
    YearOnly,
    /// A deterministic token of this domain, `tok_` and base64url.
    Token(String),
}

/// A text that is no mask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no mask, known are null, redact, constant(\"text\"), keep_first(n), keep_last(n), email, year_only, token(domain)"
)]
pub struct UnknownMask(pub String);

impl Mask {
    /// Reads a mask as catalog and policies write it, such as `keep_last(4)`; `Display` writes the same. `n` is 1 to 64, a
    /// constant at most 256 bytes without control characters (`\"` and `\\` stand for `"` and `\`), a domain at most 64 of
    /// `a-z 0-9 _ . -`.
    ///
    /// # Errors
    /// [`UnknownMask`] for anything else.
    pub fn parse(text: &str) -> Result<Self, UnknownMask> {
        Self::read(text.trim()).ok_or_else(|| UnknownMask(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(')')?.trim())),
            None => (text, None),
        };
        let kept = || {
            let digits = argument.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
            digits.parse().ok().filter(|kept| (1..=MAX_KEPT).contains(kept))
        };
        Some(match (name, argument) {
            ("null", None) => Self::Null,
            ("redact", None) => Self::Redact,
            ("email", None) => Self::Email,
            ("year_only", None) => Self::YearOnly,
            ("keep_first", Some(_)) => Self::KeepFirst(kept()?),
            ("keep_last", Some(_)) => Self::KeepLast(kept()?),
            ("constant", Some(argument)) => Self::Constant(unquote(argument)?),
            ("token", Some(domain)) if is_domain(domain) => Self::Token(domain.to_owned()),
            _ => return None,
        })
    }

    /// Whether this mask reveals nothing that `other` hides; see the module's doc for the order.
    pub fn at_least_as_restrictive(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, _) => true,
            (Self::Redact, other) => *other != Self::Null,
            (Self::KeepFirst(mine), Self::KeepFirst(others)) | (Self::KeepLast(mine), Self::KeepLast(others)) => {
                mine <= others
            }
            _ => self == other,
        }
    }

    /// The more restrictive of two masks, `redact` if they are incomparable.
    pub fn more_restrictive(self, other: Self) -> Self {
        if self.at_least_as_restrictive(&other) {
            self
        } else if other.at_least_as_restrictive(&self) {
            other
        } else {
            Self::Redact
        }
    }

    /// The type of the masked column, or `None` if the mask doesn't fit the type.
    pub fn output_type(&self, column: &ColumnType) -> Option<ColumnType> {
        let fits = match self {
            Self::Null => return Some(column.clone()),
            Self::Redact => return Some(if column.is_text() { ColumnType::Text } else { column.clone() }),
            Self::Constant(_) => column.is_text(),
            Self::KeepFirst(_) | Self::KeepLast(_) | Self::Token(_) => column.is_text() || column.int_range().is_some(),
            Self::Email => *column == ColumnType::Text,
            Self::YearOnly => {
                let dated = matches!(column, ColumnType::Date | ColumnType::Timestamp | ColumnType::TimestampTz);
                if dated {
                    return Some(column.clone());
                }
                *column == ColumnType::Text
            }
        };
        fits.then_some(ColumnType::Text)
    }

    /// The mask that is applied to a column of this type: itself if it fits, else `null`, the most restrictive of all.
    pub fn fitted(&self, column: &ColumnType) -> Self {
        if self.output_type(column).is_some() { self.clone() } else { Self::Null }
    }

    /// Whether masked cells depend on the cells they mask. Where they don't, not even which cells were null remains.
    pub(crate) fn reads_cells(&self) -> bool {
        !matches!(self, Self::Null | Self::Redact | Self::Constant(_))
    }
}

impl FromStr for Mask {
    type Err = UnknownMask;

    fn from_str(text: &str) -> Result<Self, UnknownMask> {
        Self::parse(text)
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Constant(text) => write!(f, "constant(\"{}\")", text.replace('\\', "\\\\").replace('"', "\\\"")),
            Self::Redact => f.write_str("redact"),
            Self::KeepFirst(kept) => write!(f, "keep_first({kept})"),
            Self::KeepLast(kept) => write!(f, "keep_last({kept})"),
            Self::Email => f.write_str("email"),
            Self::YearOnly => f.write_str("year_only"),
            Self::Token(domain) => write!(f, "token({domain})"),
        }
    }
}

fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        value.push(match char {
            '\\' => chars.next().filter(|escaped| matches!(escaped, '"' | '\\'))?,
            '"' => return None,
            char if char.is_control() => return None,
            char => char,
        });
    }
    (value.len() <= MAX_CONSTANT_BYTES).then_some(value)
}

fn is_domain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

// ---------------------------------------------------------------------------------------------------------------------------
// Columns

/// Masks a whole column of the type `column_type`, which the mask must fit. The result's name and length are the column's,
/// its type is [`Mask::output_type`].
pub(crate) fn apply(
    mask: &Mask,
    column: &Series,
    column_type: &ColumnType,
    keys: &TokenKeys,
    purpose: &str,
) -> PolarsResult<Series> {
    let (name, rows) = (column.name().clone(), column.len());
    Ok(match mask {
        Mask::Redact if column_type.is_text() => StringChunked::full(name, REDACTED, rows).into_series(),
        Mask::Null | Mask::Redact => Series::full_null(name, rows, column.dtype()),
        Mask::Constant(text) => StringChunked::full(name, text, rows).into_series(),
        Mask::KeepFirst(kept) => map_text(column, |text, out| {
            match text.char_indices().nth(*kept).and_then(|(end, _)| text.get(..end)) {
                Some(start) => out.extend([start, RUN]),
                None => out.push_str(REDACTED),
            }
            true
        })?,
        Mask::KeepLast(kept) => map_text(column, |text, out| {
            // The last `kept` characters start at the `kept`th from the end, and one more must stand before it.
            let start = text.char_indices().rev().nth(kept - 1).map_or(0, |(start, _)| start);
            match text.get(start..) {
                Some(end) if start > 0 => out.extend([RUN, end]),
                _ => out.push_str(REDACTED),
            }
            true
        })?,
        Mask::Email => map_text(column, |text, out| {
            email(text, out);
            true
        })?,
        Mask::YearOnly => year_only(column, column_type)?,
        Mask::Token(domain) => {
            let mut tokens = keys.domain(domain, purpose);
            map_text(column, |text, out| tokens.write(text, out))?
        }
    })
}

/// Builds a text column cell by cell: `write` appends the masked text to an empty buffer, or returns `false` for null.
/// Null cells stay null; integers are read by their decimal text.
fn map_text(column: &Series, mut write: impl FnMut(&str, &mut String) -> bool) -> PolarsResult<Series> {
    let text = if *column.dtype() == DataType::String { column.clone() } else { column.cast(&DataType::String)? };
    let text = text.str()?;
    let mut masked = StringChunkedBuilder::new(column.name().clone(), text.len());
    let mut buffer = String::new();
    for cell in text.iter() {
        buffer.clear();
        match cell {
            Some(cell) if write(cell, &mut buffer) => masked.append_value(&buffer),
            _ => masked.append_null(),
        }
    }
    Ok(masked.finish().into_series())
}

fn email(text: &str, out: &mut String) {
    let parts = || {
        let (local, domain) = text.split_once('@')?;
        let (host, tld) = domain.rsplit_once('.')?;
        let well_formed = !local.is_empty()
            && host.split('.').all(|label| !label.is_empty())
            && !text.chars().any(|char| char.is_whitespace() || char.is_control())
            && !domain.contains('@')
            && (2..=24).contains(&tld.len())
            && tld.bytes().all(|byte| byte.is_ascii_alphabetic());
        // A local part of one character doesn't show it.
        let first = local.chars().next().filter(|first| local.len() > first.len_utf8());
        well_formed.then_some((first, tld))
    };
    match parts() {
        Some((first, tld)) => {
            out.extend(first);
            out.extend(["***@***.", tld]);
        }
        None => out.push_str(REDACTED),
    }
}

fn year_only(column: &Series, column_type: &ColumnType) -> PolarsResult<Series> {
    /// The day on which the year of `days` starts.
    fn year_start(days: i64) -> Option<i32> {
        civil::days_from_date(i32::try_from(civil::date_from_days(days).0).ok()?, 1, 1)
    }
    let name = column.name().clone();
    let timestamps = || -> PolarsResult<Int64Chunked> {
        let starts = column.datetime()?.physical().iter().map(|micros| {
            year_start(micros?.div_euclid(civil::DAY_MICROS)).map(|days| i64::from(days) * civil::DAY_MICROS)
        });
        Ok(Int64Chunked::from_iter_options(name.clone(), starts))
    };
    Ok(match column_type {
        ColumnType::Date => {
            let starts = column.date()?.physical().iter().map(|days| year_start(i64::from(days?)));
            Int32Chunked::from_iter_options(name, starts).into_date().into_series()
        }
        ColumnType::Timestamp => timestamps()?.into_datetime(TimeUnit::Microseconds, None).into_series(),
        ColumnType::TimestampTz => {
            timestamps()?.into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)).into_series()
        }
        _ => map_text(column, |text, out| {
            let date = text.split_at_checked(10).filter(|(_, rest)| rest.is_empty() || rest.starts_with(['T', ' ']));
            let year = date.filter(|(date, _)| civil::parse_date(date).is_some()).and_then(|(date, _)| date.get(..4));
            out.extend(year);
            year.is_some()
        })?,
    })
}

// ---------------------------------------------------------------------------------------------------------------------------
// Tokens

/// The master key of all tokens, wiped when dropped. The key of a domain and purpose is HKDF-Expand (RFC 5869, SHA-256) of
/// it, so tokens of two domains or two purposes can't be linked.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TokenKeys {
    master: [u8; 32],
}

impl TokenKeys {
    /// Takes 32 uniformly random bytes. The same bytes give the same tokens for ever.
    pub fn new(master: [u8; 32]) -> Self {
        Self { master }
    }

    /// The tokens of one domain for one purpose.
    fn domain(&self, domain: &str, purpose: &str) -> Tokens {
        let info = [b"countersign/token/1".as_slice(), &framed(domain), &framed(purpose)].concat();
        let mut key = Zeroizing::new([0; 64]);
        let (left, right) = key.split_at_mut(32);
        left.copy_from_slice(&hmac(&self.master, &[&info, &[1]]));
        right.copy_from_slice(&hmac(&self.master, &[left, &info, &[2]]));
        Tokens { cipher: Aes256Siv::new(&(*key).into()), buffer: Vec::new() }
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys")
    }
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

struct Tokens {
    cipher: Aes256Siv,
    buffer: Vec<u8>,
}

impl Tokens {
    /// Appends the token of `text`: AES-256-SIV (RFC 5297, no associated data) of the text padded with 0x80 and zeros to
    /// whole blocks of 16 bytes, as `tok_` and base64url without padding. Returns `false` if it can't be made.
    fn write(&mut self, text: &str, out: &mut String) -> bool {
        self.buffer.clear();
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(0x80);
        self.buffer.resize(self.buffer.len().next_multiple_of(16), 0);
        if self.cipher.encrypt_in_place(std::iter::empty::<&[u8]>(), &mut self.buffer).is_err() {
            return false;
        }
        out.push_str("tok_");
        base64url(&self.buffer, out);
        true
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

fn base64url(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..=group.len() {
            let symbol = ALPHABET.get((bits >> (18 - 6 * index) & 0x3f) as usize);
            out.extend(symbol.map(|symbol| char::from(*symbol)));
        }
    }
}

/// A mask list as text, for messages.
pub(crate) fn fitting(column: &ColumnType) -> String {
    let samples = [
        ("null", Mask::Null),
        ("redact", Mask::Redact),
        ("constant", Mask::Constant(String::new())),
        ("keep_first", Mask::KeepFirst(1)),
        ("keep_last", Mask::KeepLast(1)),
        ("email", Mask::Email),
        ("year_only", Mask::YearOnly),
        ("token", Mask::Token(String::new())),
    ];
    let mut names = String::new();
    for (name, _) in samples.iter().filter(|(_, mask)| mask.output_type(column).is_some()) {
        let _ = write!(names, "{}{name}", if names.is_empty() { "" } else { ", " });
    }
    names
}
