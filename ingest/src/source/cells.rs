//! One builder per requested column, filled cell by cell from PostgreSQL's binary values or from CSV text, without an
//! allocation per cell. What arrives is hostile until proven otherwise: a cell that doesn't fit its type is refused with words
//! that never repeat the cell.

use countersign_masker::schema::ColumnType;
use polars::prelude::*;

use super::civil;

/// What is wrong with a cell, in words that complete "column `x` holds …" and contain nothing of the cell.
pub(super) type Fault = &'static str;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const PG_EPOCH_DAYS: i32 = 10_957;
const PG_EPOCH_US: i64 = PG_EPOCH_DAYS as i64 * civil::DAY_US;

enum Cells {
    Bool(BooleanChunkedBuilder),
    Int8(PrimitiveChunkedBuilder<Int8Type>),
    Int16(PrimitiveChunkedBuilder<Int16Type>),
    Int32(PrimitiveChunkedBuilder<Int32Type>),
    Int64(PrimitiveChunkedBuilder<Int64Type>),
    UInt8(PrimitiveChunkedBuilder<UInt8Type>),
    UInt16(PrimitiveChunkedBuilder<UInt16Type>),
    UInt32(PrimitiveChunkedBuilder<UInt32Type>),
    UInt64(PrimitiveChunkedBuilder<UInt64Type>),
    Float32(PrimitiveChunkedBuilder<Float32Type>),
    Float64(PrimitiveChunkedBuilder<Float64Type>),
    Decimal { cells: PrimitiveChunkedBuilder<Int128Type>, precision: usize, scale: usize },
    Text(StringChunkedBuilder),
    Numeric(StringChunkedBuilder),
    Json(StringChunkedBuilder),
    Uuid(StringChunkedBuilder),
    Binary(BinaryChunkedBuilder),
    Date(PrimitiveChunkedBuilder<Int32Type>),
    Time(PrimitiveChunkedBuilder<Int64Type>),
    Timestamp(PrimitiveChunkedBuilder<Int64Type>),
    TimestampTz(PrimitiveChunkedBuilder<Int64Type>),
}

/// Does one thing to whichever builder there is.
macro_rules! each {
    ($cells:expr, $builder:ident => $what:expr) => {
        match $cells {
            Cells::Bool($builder) => $what,
            Cells::Int8($builder) => $what,
            Cells::Int16($builder) => $what,
            Cells::Int32($builder) | Cells::Date($builder) => $what,
            Cells::Int64($builder)
            | Cells::Time($builder)
            | Cells::Timestamp($builder)
            | Cells::TimestampTz($builder) => $what,
            Cells::UInt8($builder) => $what,
            Cells::UInt16($builder) => $what,
            Cells::UInt32($builder) => $what,
            Cells::UInt64($builder) => $what,
            Cells::Float32($builder) => $what,
            Cells::Float64($builder) => $what,
            Cells::Decimal { cells: $builder, .. } => $what,
            Cells::Text($builder) | Cells::Numeric($builder) | Cells::Json($builder) | Cells::Uuid($builder) => $what,
            Cells::Binary($builder) => $what,
        }
    };
}

/// A column under construction.
pub(super) struct ColumnBuilder {
    name: String,
    dtype: DataType,
    cells: Cells,
}

impl ColumnBuilder {
    /// An empty column; nothing when no cell of this type can be read, neither from PostgreSQL nor from CSV.
    pub(super) fn new(name: &str, ty: &ColumnType, capacity: usize) -> Option<Self> {
        macro_rules! numbers {
            () => {
                PrimitiveChunkedBuilder::new(name.into(), capacity)
            };
        }
        let text = || StringChunkedBuilder::new(name.into(), capacity);
        let cells = match ty {
            ColumnType::Bool => Cells::Bool(BooleanChunkedBuilder::new(name.into(), capacity)),
            ColumnType::Int8 => Cells::Int8(numbers!()),
            ColumnType::Int16 => Cells::Int16(numbers!()),
            ColumnType::Int32 => Cells::Int32(numbers!()),
            ColumnType::Int64 => Cells::Int64(numbers!()),
            ColumnType::UInt8 => Cells::UInt8(numbers!()),
            ColumnType::UInt16 => Cells::UInt16(numbers!()),
            ColumnType::UInt32 => Cells::UInt32(numbers!()),
            ColumnType::UInt64 => Cells::UInt64(numbers!()),
            ColumnType::Float32 => Cells::Float32(numbers!()),
            ColumnType::Float64 => Cells::Float64(numbers!()),
            ColumnType::Decimal { precision, scale } => {
                let (precision, scale) = (usize::from(*precision), usize::from(*scale));
                if precision == 0 || precision > 38 || scale > precision {
                    return None;
                }
                Cells::Decimal { cells: numbers!(), precision, scale }
            }
            ColumnType::Text | ColumnType::TextArray => Cells::Text(text()),
            ColumnType::Numeric => Cells::Numeric(text()),
            ColumnType::Json => Cells::Json(text()),
            ColumnType::Uuid => Cells::Uuid(text()),
            ColumnType::Binary => Cells::Binary(BinaryChunkedBuilder::new(name.into(), capacity)),
            ColumnType::Date => Cells::Date(numbers!()),
            ColumnType::Time => Cells::Time(numbers!()),
            ColumnType::Timestamp => Cells::Timestamp(numbers!()),
            ColumnType::TimestampTz => Cells::TimestampTz(numbers!()),
            ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Unsupported(_) => return None,
        };
        Some(Self { name: name.to_owned(), dtype: ty.dtype(), cells })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn push_null(&mut self) {
        each!(&mut self.cells, builder => builder.append_null());
    }

    /// One value as PostgreSQL's binary `send` functions write it, big-endian.
    pub(super) fn push_binary(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.cells {
            Cells::Bool(b) => match bytes {
                [0] => b.append_value(false),
                [1] => b.append_value(true),
                _ => return Err("a truth value that is neither 0 nor 1"),
            },
            Cells::Int16(b) => b.append_value(i16::from_be_bytes(exactly(bytes)?)),
            Cells::Int32(b) => b.append_value(i32::from_be_bytes(exactly(bytes)?)),
            Cells::Int64(b) => b.append_value(i64::from_be_bytes(exactly(bytes)?)),
            Cells::Float32(b) => b.append_value(f32::from_be_bytes(exactly(bytes)?)),
            Cells::Float64(b) => b.append_value(f64::from_be_bytes(exactly(bytes)?)),
            Cells::Decimal { cells, precision, scale } => cells.append_value(numeric(bytes, *precision, *scale)?),
            Cells::Text(b) | Cells::Numeric(b) | Cells::Json(b) => {
                b.append_value(std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)?)
            }
            Cells::Uuid(b) => b.append_value(uuid_text(&exactly(bytes)?, &mut [0; 36])),
            Cells::Binary(b) => b.append_value(bytes),
            Cells::Date(b) => b.append_value(pg_date(i32::from_be_bytes(exactly(bytes)?))?),
            Cells::Time(b) => b.append_value(time_ns(i64::from_be_bytes(exactly(bytes)?))?),
            Cells::Timestamp(b) | Cells::TimestampTz(b) => {
                b.append_value(pg_timestamp(i64::from_be_bytes(exactly(bytes)?))?);
            }
            Cells::Int8(_) | Cells::UInt8(_) | Cells::UInt16(_) | Cells::UInt32(_) | Cells::UInt64(_) => {
                return Err("a number of a type that PostgreSQL lacks");
            }
        }
        Ok(())
    }

    /// One value as people write it: plain numbers, `true`/`false`, ISO 8601 dates and times, `\x` and hex for bytes.
    pub(super) fn push_text(&mut self, text: &str) -> Result<(), Fault> {
        const WHOLE: Fault = "something that is not a whole number in the range of its type";
        const NUMBER: Fault = "something that is not a number";
        macro_rules! parsed {
            ($builder:expr, $fault:expr) => {
                $builder.append_value(text.parse().map_err(|_| $fault)?)
            };
        }
        match &mut self.cells {
            Cells::Bool(b) => match text {
                // The second of each is what PostgreSQL's own COPY writes.
                "true" | "t" => b.append_value(true),
                "false" | "f" => b.append_value(false),
                _ => return Err("something that is neither `true` nor `false`"),
            },
            Cells::Int8(b) => parsed!(b, WHOLE),
            Cells::Int16(b) => parsed!(b, WHOLE),
            Cells::Int32(b) => parsed!(b, WHOLE),
            Cells::Int64(b) => parsed!(b, WHOLE),
            Cells::UInt8(b) => parsed!(b, WHOLE),
            Cells::UInt16(b) => parsed!(b, WHOLE),
            Cells::UInt32(b) => parsed!(b, WHOLE),
            Cells::UInt64(b) => parsed!(b, WHOLE),
            Cells::Float32(b) => parsed!(b, NUMBER),
            Cells::Float64(b) => parsed!(b, NUMBER),
            Cells::Decimal { cells, precision, scale } => cells.append_value(decimal(text, *precision, *scale)?),
            Cells::Text(b) => b.append_value(text),
            Cells::Numeric(b) => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
                let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
                if !plain(whole) || !plain(fraction) {
                    return Err(NUMBER);
                }
                b.append_value(text);
            }
            Cells::Json(b) => {
                serde_json::from_str::<&serde_json::value::RawValue>(text).map_err(|_| "something that is not JSON")?;
                b.append_value(text);
            }
            Cells::Uuid(b) => b.append_value(uuid_text(&parse_uuid(text)?, &mut [0; 36])),
            Cells::Binary(b) => b.append_value(parse_hex(text)?),
            Cells::Date(b) => {
                b.append_value(civil::parse_date(text).ok_or("something that is not a date `YYYY-MM-DD`")?);
            }
            Cells::Time(b) => {
                let us = civil::parse_time(text).ok_or("something that is not a time `HH:MM:SS[.ffffff]`")?;
                b.append_value(time_ns(us)?);
            }
            Cells::Timestamp(b) => b.append_value(
                civil::parse_timestamp(text)
                    .ok_or("something that is not a timestamp `YYYY-MM-DD HH:MM:SS[.ffffff]`")?,
            ),
            Cells::TimestampTz(b) => b.append_value(
                civil::parse_timestamptz(text)
                    .ok_or("something that is not a timestamp with offset `YYYY-MM-DD HH:MM:SS[.ffffff]±HH:MM`")?,
            ),
        }
        Ok(())
    }

    /// The finished column, of exactly the type that [`ColumnType::dtype`] names.
    pub(super) fn finish(self) -> PolarsResult<Column> {
        let series = match self.cells {
            Cells::Decimal { cells, precision, scale } => {
                // Every cell was checked against the precision, so the second walk of `into_decimal` is spared.
                cells.finish().into_decimal_unchecked(precision, scale).into_series()
            }
            Cells::Date(b) => b.finish().into_date().into_series(),
            Cells::Time(b) => b.finish().into_time().into_series(),
            Cells::Timestamp(b) | Cells::TimestampTz(b) => {
                let DataType::Datetime(_, zone) = &self.dtype else {
                    polars_bail!(SchemaMismatch: "a timestamp column must be a datetime");
                };
                b.finish().into_datetime(TimeUnit::Microseconds, zone.clone()).into_series()
            }
            cells => each!(cells, builder => builder.finish().into_series()),
        };
        polars_ensure!(series.dtype() == &self.dtype, SchemaMismatch: "found {}, required {}", series.dtype(), self.dtype);
        Ok(series.into_column())
    }
}

const NOT_UTF8: Fault = "text that is not UTF-8";

/// `bytes`, which must be exactly as long as its type.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| "a value of the wrong length for its type")
}

fn pg_date(days: i32) -> Result<i32, Fault> {
    match days {
        i32::MAX | i32::MIN => Err("an infinite date"),
        days => days
            .checked_add(PG_EPOCH_DAYS)
            .filter(|d| (civil::FIRST_DAY..=civil::LAST_DAY).contains(d))
            .ok_or("a date after the year 262142"),
    }
}

fn pg_timestamp(us: i64) -> Result<i64, Fault> {
    match us {
        i64::MAX | i64::MIN => Err("an infinite timestamp"),
        us => us
            .checked_add(PG_EPOCH_US)
            .filter(|us| (civil::FIRST_US..=civil::LAST_US).contains(us))
            .ok_or("a timestamp after the year 262142"),
    }
}

/// Microseconds since midnight as the nanoseconds of a frame, where a day ends before 24:00:00.
fn time_ns(us: i64) -> Result<i64, Fault> {
    if (0..civil::DAY_US).contains(&us) { Ok(us * 1_000) } else { Err("the time 24:00:00 or later") }
}

/// PostgreSQL's binary numeric (digit count, weight, sign, display scale, then base-10000 digits) as an integer of `scale`
/// decimal places.
fn numeric(bytes: &[u8], precision: usize, scale: usize) -> Result<i128, Fault> {
    const MALFORMED: Fault = "a malformed number";
    const TOO_BIG: Fault = "a number with more digits than its precision";
    let (header, digits) = bytes.split_first_chunk::<8>().ok_or(MALFORMED)?;
    let [n0, n1, w0, w1, s0, s1, _, _] = *header;
    let (count, weight, sign) =
        (u16::from_be_bytes([n0, n1]), i16::from_be_bytes([w0, w1]), u16::from_be_bytes([s0, s1]));
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xC000 => return Err("a number that is NaN"),
        0xD000 | 0xF000 => return Err("an infinite number"),
        _ => return Err(MALFORMED),
    };
    if digits.len() != usize::from(count) * 2 {
        return Err(MALFORMED);
    }
    let scale = i32::try_from(scale).map_err(|_| MALFORMED)?;
    let mut value: i128 = 0;
    // The power of ten that the group at hand stands at, counted in units of the last decimal place.
    let mut exponent = 4 * i32::from(weight) + scale;
    for pair in digits.as_chunks::<2>().0 {
        let group = u16::from_be_bytes(*pair);
        if group > 9_999 {
            return Err(MALFORMED);
        }
        let group = i128::from(group);
        // How many of the group's four digits stand before the column's last decimal place.
        let kept = (exponent + 4).clamp(0, 4).unsigned_abs();
        let dropped = 10_i128.pow(4 - kept);
        if group % dropped != 0 {
            return Err("a number with more decimal places than its scale");
        }
        value = value.checked_mul(10_i128.pow(kept)).and_then(|v| v.checked_add(group / dropped)).ok_or(TOO_BIG)?;
        exponent -= 4;
    }
    // Trailing zero groups are left out on the wire; `exponent` now stands one group behind the last one.
    let missing = (exponent + 4).max(0).unsigned_abs();
    if value != 0 {
        value = 10_i128.checked_pow(missing).and_then(|p| value.checked_mul(p)).ok_or(TOO_BIG)?;
    }
    fits(if negative { -value } else { value }, precision)
}

/// A plain decimal number (`-12.50`) as an integer of `scale` decimal places; more places than that are refused, not rounded.
fn decimal(text: &str, precision: usize, scale: usize) -> Result<i128, Fault> {
    const MALFORMED: Fault = "something that is not a decimal number";
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(MALFORMED);
    }
    if fraction.len() > scale {
        return Err("a number with more decimal places than its scale");
    }
    let zeros = std::iter::repeat_n(b'0', scale - fraction.len());
    let mut value: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()).chain(zeros) {
        if !byte.is_ascii_digit() {
            return Err(MALFORMED);
        }
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(byte - b'0')))
            .ok_or("a number with more digits than its precision")?;
    }
    fits(if negative { -value } else { value }, precision)
}

fn fits(value: i128, precision: usize) -> Result<i128, Fault> {
    let limit = u32::try_from(precision).ok().and_then(|p| 10_u128.checked_pow(p)).unwrap_or(0);
    if value.unsigned_abs() < limit { Ok(value) } else { Err("a number with more digits than its precision") }
}

/// The canonical text of a UUID: 36 lower-case characters, written into `out`.
fn uuid_text<'a>(bytes: &[u8; 16], out: &'a mut [u8; 36]) -> &'a str {
    /// Where the two digits of each byte stand, between the hyphens.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    *out = [b'-'; 36];
    for (byte, place) in bytes.iter().zip(PLACES) {
        if let Some([high, low]) = out.get_mut(place..place + 2) {
            (*high, *low) = (digit(byte >> 4), digit(byte & 15));
        }
    }
    // Only ASCII was written, so this cannot fail.
    std::str::from_utf8(out).unwrap_or_default()
}

fn parse_uuid(text: &str) -> Result<[u8; 16], Fault> {
    const FAULT: Fault = "something that is not a UUID";
    let bytes = text.as_bytes();
    let hyphens = [8, 13, 18, 23].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    if bytes.len() != 36 || !hyphens {
        return Err(FAULT);
    }
    let digits: Vec<u8> =
        bytes.iter().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23)).map(|(_, b)| *b).collect();
    let unhexed = unhex(&digits).ok_or(FAULT)?;
    unhexed.try_into().map_err(|_| FAULT)
}

fn parse_hex(text: &str) -> Result<Vec<u8>, Fault> {
    text.strip_prefix("\\x").and_then(|hex| unhex(hex.as_bytes())).ok_or("something that is not `\\x` and hex digits")
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
