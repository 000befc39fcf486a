//! The masks: what each does to a cell, which types it fits, and which of two is the more restrictive. A mask works on whole
//! columns and depends on nothing but the column, its type and, for `token`, `ff1` and `date_shift`, a key derived from domain
//! and purpose.
//!
//! | mask | fits | a cell becomes | what it still reveals |
//! | --- | --- | --- | --- |
//! | `null` | every type | null | nothing, not even which cells were null |
//! | `redact` | every type | `[redacted]`, or null where the column isn't text | nothing, as above |
//! | `constant("x")` | texts | `x` | nothing, as above |
//! | `keep_first(n)` | texts, integers | its first `n` characters (code points) and `*****`, if it has more | those, and whether there are more than `n` |
//! | `keep_last(n)` | texts, integers | `*****` and its last `n` characters, likewise | as above |
//! | `detect` | text | the same, what the detectors find ([`crate::detect`], the catalog's own among them) replaced by its class: `[pii.phone]` | all that they don't find, and where hits of which class stood |
//! | `email` | text | `a***@***.org` | the first character of a local part of two or more, the top-level domain, whether it is an address |
//! | `zip3` | text | the first three digits of a ZIP code; `000` where at most 20,000 people live in that area (HIPAA) | the area, whether it is a ZIP code |
//! | `ip_prefix(a, b)` | text | the network of `a` bits (IPv4) or `b` bits (IPv6) that an address is in, `10.1.0.0/16` | the network, whether it is an address |
//! | `year_only` | dates, text | the start of its year in UTC; for text, the year as written | the year, and for text whether it starts with an ISO date |
//! | `truncate(unit)` | dates, text | the start of its `month`, in UTC; for text, the year and month as written | as above, to the unit |
//! | | timestamps, text | the start of its `day`, `hour` or `minute`, likewise; the day of a text without a time | as above, to the unit |
//! | `date_shift(days, domain)` | dates | a date, or microsecond, drawn for it from `days` before to `days` after it | which cells are equal, the date to within `days` either way |
//! | `round(step)` | numbers | the nearest multiple of the step, the upper one of two | the number to within half a step either way |
//! | `bucket(size)` | numbers | the largest multiple of the size that isn't above it | which interval of that size the number is in |
//! | `range(a, b, …)` | numbers | `(,a)`, `[a,b)` or `[b,)`, as PostgreSQL writes a `numrange` | which of these the number is in |
//! | `token(domain)` | texts, integers | a token (see [`TokenKeys`]) | which cells are equal, the value's length in steps of 16 bytes |
//! | `ff1(domain, alphabet)` | text, `digits` also wide integers | a value of the same form | which cells are equal; length, separators and an integer's sign |
//!
//! *Texts* are the types that are represented by text (text, uuid, json, numeric, text_array), *text* is that type alone;
//! *dates* are date, timestamp and timestamptz; *numbers* are integers, floats, decimal and numeric. `keep_first`,
//! `keep_last` and `token` mask integers by their decimal text. A mask that would leave every value of a type as it is, such
//! as `bucket(1)` of an integer, doesn't fit that type.
//!
//! **Nulls** stay null, but for the first three masks. **What a mask can't read becomes less, never more.** `keep_first` and
//! `keep_last` turn a value that is too short into `[redacted]`; `email`, `zip3`, `ip_prefix` and `ff1` do so with
//! what isn't of their kind, empty text included; `year_only`, `truncate` and the masks of numbers make null of what is no date
//! of the years 1 to 9999 and no finite number, and `ff1` of integers that are too short. Empty text has a token. A float
//! that steps don't hold any more (of 2⁵⁰ steps or more, if the step is a whole one, or decimal places) becomes null, and
//! where a step ends beyond what an integer or decimal can hold, its end is the nearest number that fits.
//!
//! **Determinism.** Equal cells become equal under the same mask, keys and purpose, on every path. `date_shift` draws for each
//! value by itself, so it keeps neither order nor distance: one shift for all would keep both, and give away every date of
//! a column with the first that is known otherwise, or with its weekends. `ff1` isn't authentic, and what it writes can be
//! somebody else's value: never use it for what is looked up.
//!
//! **ff1.** The alphabets are `digits`, `hex` (lower case), `lower`, `upper`, `lower_digits`, `upper_digits`, `letters_digits`.
//! Characters of the alphabet are replaced, of ` -./:()+_` kept; any other makes the value unreadable. A value must have so many
//! characters of the alphabet that there are a million such values (6 digits, 5 of `hex` …), and at most so many that FF1
//! can halve them into 96 bits (56 digits, 32 of `letters_digits` …); a third argument demands one length. Integers of 32
//! and 64 bits keep sign and number of digits, from 7 on.
//!
//! **Order.** One mask is at least as restrictive as another if on every type its output follows from the other's output.
//! `null` is the most restrictive, then `redact`, which is more restrictive than all others. Among those:
//!
//! | at least as restrictive | as | if | of two incomparable ones |
//! | --- | --- | --- | --- |
//! | `year_only` | `truncate(month)` | | |
//! | `truncate(day)` | `truncate(hour)`, and that as `truncate(minute)` | | |
//! | `ip_prefix(a, b)` | `ip_prefix(c, d)` | a ≤ c and b ≤ d | the smaller of each |
//! | `bucket(m)` | `bucket(n)` | both whole and ≥ 2, m a multiple of n | the least common multiple |
//! | `round(m)` | `round(n)` | as above, an odd multiple | the least common multiple if it is an odd one |
//! | `range(A)` | `range(B)` | each bound of A is one of B | the bounds of both, if there are any |
//!
//! All other pairs of different masks are incomparable: `keep_first(1)` tells a character of `ab`, which `keep_first(2)` hides,
//! and this tells that `abc` is longer (also `constant` and any other: what a constant says was chosen for one
//! purpose). Of two incomparable masks the policy takes the least restrictive that is at least as restrictive as both: that
//! of the last column, else `redact`. So the masks form a join-semilattice, and the order in which policies are joined makes
//! no difference.

mod detected;
mod ff1;
mod fpe;
mod numbers;
mod siv;
mod text;
mod time;
mod token;

pub use fpe::{Alphabet, Ff1Rule};
pub use numbers::Number;
pub use time::Unit;
pub use token::{RevealError, TokenKeys};

use crate::detect::Detectors;
use crate::fresh::{Short, Texts, shorts};
use crate::schema::ColumnType;
use numbers::Told;
use polars::prelude::*;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::str::FromStr;

/// What stands in place of a redacted text.
pub const REDACTED: &str = "[redacted]";
const MAX_KEPT: usize = 64;
const MAX_CONSTANT_BYTES: usize = 256;
const MAX_BOUNDS: usize = 32;
const MAX_SHIFT_DAYS: u16 = 3650;

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
    /// What the detectors find in text becomes the name of its class.
    Detect,
    /// `ada@mail.example.org` becomes `a***@***.org`.
    Email,
    /// ZIP codes become their three-digit areas.
    Zip3,
    /// Addresses become networks of so many bits.
    IpPrefix {
        /// Bits of an IPv4 address, at most 31.
        v4: u8,
        /// Bits of an IPv6 address, at most 127.
        v6: u8,
    },
    /// Dates and timestamps become the start of their year (UTC), text that starts with an ISO date becomes its year.
    YearOnly,
    /// Dates and timestamps become the start of this unit, text keeps its date and time to it.
    Truncate(Unit),
    /// Dates and timestamps become others that are near.
    DateShift {
        /// At most so many days away.
        days: u16,
        /// The key domain.
        domain: String,
    },
    /// Numbers become the nearest multiple of a step.
    Round(Number),
    /// Numbers become the largest multiple of a size that isn't above them.
    Bucket(Number),
    /// Numbers become the name of their range between these bounds, which ascend.
    Range(Vec<Number>),
    /// A deterministic token of this domain, `tok_` and base64url.
    Token(String),
    /// Values become others of the same form (NIST SP 800-38G).
    Ff1(Ff1Rule),
}

/// A text that is no mask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownMask {
    /// It isn't written as any mask is.
    #[error(
        "`{0}` is no mask, known are null, redact, constant(\"text\"), keep_first(n), keep_last(n), detect, email, zip3, ip_prefix(a, b), \
         year_only, truncate(unit), date_shift(days, domain), round(step), bucket(size), range(a, b, …), token(domain), \
         ff1(domain, alphabet)"
    )]
    Form(String),
    /// An `ff1` of a length of which there are too few values.
    #[error(
        "`{0}` has fewer than 1000000 values, so that a list of them all undoes it: give it longer values, or take token(domain)"
    )]
    SmallDomain(String),
}

impl Mask {
    /// Reads a mask as catalog and policies write it, such as `keep_last(4)`; `Display` writes the same.
    ///
    /// `n` is 1 to 64, a constant at most 256 bytes without control characters (`\"` and `\\` stand for `"` and `\`), a domain
    /// at most 64 of `a-z 0-9 _ . -`. Steps and sizes are above 0, the 1 to 32 bounds of a range ascend; they are decimal
    /// numbers of at most 15 digits, 9 of them after the point. `a` is at most 31 and `b` at most 127, days are 1 to 3650, a
    /// unit is `month`, `day`, `hour` or `minute`.
    ///
    /// # Errors
    /// [`UnknownMask`] for anything else, and for an `ff1` of a length of which there are less than a million values.
    pub fn parse(text: &str) -> Result<Self, UnknownMask> {
        match Self::read(text.trim()) {
            Some(Self::Ff1(rule)) if rule.length.is_some_and(|length| !rule.alphabet.is_large_enough(length)) => {
                Err(UnknownMask::SmallDomain(text.to_owned()))
            }
            mask => mask.ok_or_else(|| UnknownMask::Form(text.to_owned())),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (name, inside) = match text.split_once('(') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(')')?.trim())),
            None => (text, None),
        };
        let arguments = inside.map(|inside| inside.split(',').map(str::trim).collect::<Vec<_>>()).unwrap_or_default();
        Some(match (name, arguments.as_slice()) {
            ("null", []) => Self::Null,
            ("redact", []) => Self::Redact,
            ("constant", [_, ..]) => Self::Constant(unquote(inside?)?),
            ("keep_first", [kept]) => Self::KeepFirst(integer(kept, 1, MAX_KEPT)?),
            ("keep_last", [kept]) => Self::KeepLast(integer(kept, 1, MAX_KEPT)?),
            ("detect", []) => Self::Detect,
            ("email", []) => Self::Email,
            ("zip3", []) => Self::Zip3,
            ("ip_prefix", [v4, v6]) => Self::IpPrefix { v4: integer(v4, 0, 31)?, v6: integer(v6, 0, 127)? },
            ("year_only", []) => Self::YearOnly,
            ("truncate", [unit]) => Self::Truncate(Unit::parse(unit)?),
            ("date_shift", [days, name]) => {
                Self::DateShift { days: integer(days, 1, MAX_SHIFT_DAYS)?, domain: domain(name)? }
            }
            ("round", [step]) => Self::Round(Number::parse(step).filter(|step| step.is_positive())?),
            ("bucket", [size]) => Self::Bucket(Number::parse(size).filter(|size| size.is_positive())?),
            ("range", bounds @ [_, ..]) if bounds.len() <= MAX_BOUNDS => {
                let bounds = bounds.iter().map(|bound| Number::parse(bound)).collect::<Option<Vec<_>>>()?;
                Self::Range(bounds.is_sorted_by(|a, b| a < b).then_some(bounds)?)
            }
            ("token", [name]) => Self::Token(domain(name)?),
            ("ff1", [name, alphabet, length @ ..]) => {
                let length = match length {
                    [] => None,
                    [length] => Some(integer(length, 1, fpe::MAX_LENGTH)?),
                    _ => return None,
                };
                Self::Ff1(Ff1Rule { domain: domain(name)?, alphabet: Alphabet::parse(alphabet)?, length })
            }
            _ => return None,
        })
    }

    /// Whether this mask reveals nothing that `other` hides; see the module's doc for the order.
    pub fn at_least_as_restrictive(&self, other: &Self) -> bool {
        self.joined(other) == *self
    }

    /// The least restrictive mask that is at least as restrictive as both: the more restrictive one, if they are comparable.
    pub fn more_restrictive(self, other: Self) -> Self {
        self.joined(&other)
    }

    fn joined(&self, other: &Self) -> Self {
        let common = match (self, other) {
            (Self::Null, _) | (_, Self::Null) => Some(Self::Null),
            (Self::YearOnly, Self::Truncate(Unit::Month)) | (Self::Truncate(Unit::Month), Self::YearOnly) => {
                Some(Self::YearOnly)
            }
            // A date has no hours, so there months aren't comparable with them.
            (Self::Truncate(a), Self::Truncate(b)) => {
                (a == b || *a.min(b) != Unit::Month).then(|| Self::Truncate(*a.min(b)))
            }
            (Self::IpPrefix { v4: a, v6: b }, Self::IpPrefix { v4: c, v6: d }) => {
                Some(Self::IpPrefix { v4: *a.min(c), v6: *b.min(d) })
            }
            (a, b) if a == b => Some(a.clone()),
            (Self::Bucket(a), Self::Bucket(b)) => a.common_multiple(*b).map(Self::Bucket),
            (Self::Round(a), Self::Round(b)) => a.odd_common_multiple(*b).map(Self::Round),
            (Self::Range(a), Self::Range(b)) => {
                let both = a.iter().filter(|bound| b.contains(bound)).copied().collect::<Vec<_>>();
                (!both.is_empty()).then_some(Self::Range(both))
            }
            _ => None,
        };
        common.unwrap_or(Self::Redact)
    }

    /// The type of the masked column, or `None` if the mask doesn't fit the type.
    pub fn output_type(&self, column: &ColumnType) -> Option<ColumnType> {
        let (same, text) = (|| column.clone(), || ColumnType::Text);
        let is_text = *column == ColumnType::Text;
        let is_integer = column.int_range().is_some();
        match self {
            Self::Null => Some(same()),
            Self::Redact => Some(if column.is_text() { text() } else { same() }),
            Self::Constant(_) => column.is_text().then(text),
            Self::KeepFirst(_) | Self::KeepLast(_) | Self::Token(_) => (column.is_text() || is_integer).then(text),
            Self::Detect | Self::Email | Self::Zip3 | Self::IpPrefix { .. } => is_text.then(text),
            Self::YearOnly | Self::Truncate(Unit::Month) => (is_text || time::is_dated(column)).then(same),
            Self::Truncate(_) => (is_text || time::is_timestamp(column)).then(same),
            Self::DateShift { .. } => time::is_dated(column).then(same),
            Self::Round(step) | Self::Bucket(step) => numbers::steps_fit(*step, column).then(same),
            Self::Range(_) => numbers::ranges_fit(column).then(text),
            Self::Ff1(rule) => rule.fits(column).then(same),
        }
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
            Self::Detect => f.write_str("detect"),
            Self::Email => f.write_str("email"),
            Self::Zip3 => f.write_str("zip3"),
            Self::IpPrefix { v4, v6 } => write!(f, "ip_prefix({v4}, {v6})"),
            Self::YearOnly => f.write_str("year_only"),
            Self::Truncate(unit) => write!(f, "truncate({unit})"),
            Self::DateShift { days, domain } => write!(f, "date_shift({days}, {domain})"),
            Self::Round(step) => write!(f, "round({step})"),
            Self::Bucket(size) => write!(f, "bucket({size})"),
            Self::Range(bounds) => {
                let bounds = bounds.iter().map(Number::to_string).collect::<Vec<_>>();
                write!(f, "range({})", bounds.join(", "))
            }
            Self::Token(domain) => write!(f, "token({domain})"),
            Self::Ff1(Ff1Rule { domain, alphabet, length: None }) => write!(f, "ff1({domain}, {alphabet})"),
            Self::Ff1(Ff1Rule { domain, alphabet, length: Some(length) }) => {
                write!(f, "ff1({domain}, {alphabet}, {length})")
            }
        }
    }
}

fn integer<T: FromStr + PartialOrd>(text: &str, least: T, most: T) -> Option<T> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|number| (least..=most).contains(number))
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

fn domain(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-');
    ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
}

/// The names of the masks that fit a type, for messages.
pub(crate) fn fitting(column: &ColumnType) -> String {
    const SAMPLES: [&str; 17] = [
        "null",
        "redact",
        "constant(\"\")",
        "keep_first(1)",
        "keep_last(1)",
        "detect",
        "email",
        "zip3",
        "ip_prefix(0, 0)",
        "year_only",
        "truncate(month)",
        "date_shift(1, d)",
        "round(2)",
        "bucket(2)",
        "range(0)",
        "token(d)",
        "ff1(d, digits)",
    ];
    let fits = |sample: &&str| Mask::parse(sample).is_ok_and(|mask| mask.output_type(column).is_some());
    let mut names = String::new();
    for sample in SAMPLES.iter().filter(|sample| fits(sample)) {
        let name = sample.split('(').next().unwrap_or_default();
        let _ = write!(names, "{}{name}", if names.is_empty() { "" } else { ", " });
    }
    names
}

// ---------------------------------------------------------------------------------------------------------------------------
// Columns

/// What masks need beside cells.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// The keys of pseudonyms.
    pub keys: &'a TokenKeys,
    /// What is looked for in text.
    pub detectors: &'a Detectors,
    /// What the rows are for: pseudonyms for different purposes cannot be joined.
    pub purpose: &'a str,
}

/// Hits of the detectors by class.
pub(crate) type Hits = BTreeMap<String, u64>;

/// The masked column with the number of hits of each class, where the mask looks for any.
pub(crate) fn detected(mask: &Mask, column: &Series, detectors: &Detectors) -> Option<PolarsResult<(Series, Hits)>> {
    (*mask == Mask::Detect).then(|| detected::column(column, detectors))
}

/// Masks a whole column of the type `column_type`, which the mask must fit. The result's name and length are the column's,
/// its type is [`Mask::output_type`].
pub(crate) fn apply(mask: &Mask, column: &Series, column_type: &ColumnType, means: Means<'_>) -> PolarsResult<Series> {
    let Means { keys, detectors, purpose } = means;
    let (name, rows) = (column.name().clone(), column.len());
    match mask {
        Mask::Redact if column_type.is_text() => Ok(StringChunked::full(name, REDACTED, rows).into_series()),
        Mask::Null | Mask::Redact => Ok(Series::full_null(name, rows, column.dtype())),
        Mask::Constant(text) => Ok(StringChunked::full(name, text, rows).into_series()),
        Mask::KeepFirst(kept) => {
            map_short(column, |text| text::first_short(text, *kept), |text, out| text::keep_first(text, *kept, out))
        }
        Mask::KeepLast(kept) => {
            map_short(column, |text| text::last_short(text, *kept), |text, out| text::keep_last(text, *kept, out))
        }
        Mask::Detect => detected::column(column, detectors).map(|(masked, _)| masked),
        Mask::Email => map_short(column, text::email_short, text::email),
        Mask::Zip3 => map_each(column, text::zip3),
        Mask::IpPrefix { v4, v6 } => map_each(column, |text, out| text::ip_prefix(text, *v4, *v6, out)),
        Mask::YearOnly => time::year_only(column, column_type),
        Mask::Truncate(unit) => time::truncate(*unit, column, column_type),
        Mask::DateShift { days, domain } => time::date_shift(*days, domain, purpose, keys, column, column_type),
        Mask::Round(step) => numbers::by_steps(Told::Nearest, *step, column, column_type),
        Mask::Bucket(size) => numbers::by_steps(Told::Start, *size, column, column_type),
        Mask::Range(bounds) => numbers::by_range(bounds, column, column_type),
        Mask::Token(domain) => {
            let text = column.cast(&DataType::String)?;
            keys.tokens(domain, purpose).column(text.str()?)
        }
        Mask::Ff1(rule) => rule.column(column, column_type, &keys.newest_ff1(&rule.domain, purpose)),
    }
}

/// [`map_each`] for masks that mostly write [`Short`] cells, which `short` makes.
fn map_short(
    column: &Series,
    short: impl Fn(&str) -> Option<Short>,
    write: impl FnMut(&str, &mut String),
) -> PolarsResult<Series> {
    Ok(shorts(column.cast(&DataType::String)?.str()?, short, write))
}

/// [`map_text`] for masks that have something to say of every cell.
fn map_each(column: &Series, mut write: impl FnMut(&str, &mut String)) -> PolarsResult<Series> {
    map_text(column, |text, out| {
        write(text, out);
        true
    })
}

/// Builds a text column cell by cell: `write` appends the masked text, or returns `false` for null.
/// Null cells stay null; integers are read by their decimal text.
fn map_text(column: &Series, mut write: impl FnMut(&str, &mut String) -> bool) -> PolarsResult<Series> {
    let text = column.cast(&DataType::String)?;
    let text = text.str()?;
    let mut masked = Texts::like(text);
    for cells in text.downcast_iter() {
        cells.iter().for_each(|cell| masked.write(|out| cell.is_some_and(|cell| write(cell, out))));
    }
    masked.finish(column.name().clone())
}
