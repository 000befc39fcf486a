//! Masked rows as canonical JSON: one text for each value, whatever format it is delivered in. JSON Lines are made of these
//! texts, and so are the leaves of a chunk's row tree; `docs/formats.md` section 12 defines them. They are made from frames
//! that may leave, never from clear ones.
//!
//! | value | text |
//! | --- | --- |
//! | null, true, false | the JSON words |
//! | integer | its decimal digits; beyond ±(2⁵³−1) a string of them |
//! | float | as a double: the shortest decimal digits that read back as the same, of several the nearest, of two as near the even ones; written out with a point and at least one digit after it (`0.00001`, `12.5`, `1000000.0`) where the first digit's power of ten is −5 to 15, else with an exponent (`1e16`, `1.5e-7`); what is not finite is the string `NaN`, `inf` or `-inf` |
//! | decimal | a string, with exactly as many digits after the point as its scale |
//! | date, time, timestamp | a string: `2024-02-29`, `13:05:00`, `2024-02-29T13:05:00`, with `Z` where it has a zone; a fraction of a second only where it is not zero, with 6 digits, or 9 where 6 do not hold it |
//! | text | a string |
//! | bytes | a string: `\x` and lower-case hex digits |
//! | list, struct | an array, an object with its fields in their order |
//!
//! Strings escape `"`, `\` and controls as entries do. There is no white space.

use crate::civil;
use crate::frame::Masked;
use polars::prelude::{AnyValue, Column, DataFrame, TimeUnit};
use std::fmt::Write;

/// Why a row has no canonical text. It names a column and a type, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The frame has no such row.
    #[error("no row {0}")]
    NoRow(usize),
    /// A type that has no text here.
    #[error("column `{column}` has a type that cannot be written as JSON, found {found}")]
    Unsupported {
        /// The column.
        column: String,
        /// Its representation.
        found: String,
    },
}

/// The rows of a frame, to be written one by one: each an object with a member per column in their order.
pub struct Rows<'f> {
    /// What stands before each cell, and its column.
    members: Vec<(String, &'f Column)>,
}

impl<'f> Rows<'f> {
    /// Of a frame that may leave.
    pub fn of(masked: &'f Masked) -> Self {
        Self::of_delivered(masked.frame())
    }

    /// Of a frame that was delivered and is read back from its file.
    pub fn of_delivered(frame: &'f DataFrame) -> Self {
        let member = |(nth, column): (usize, &'f Column)| {
            let mut before = String::from(if nth == 0 { "{" } else { "," });
            quote(column.name(), &mut before);
            before.push(':');
            (before, column)
        };
        Self { members: frame.columns().iter().enumerate().map(member).collect() }
    }

    /// Writes one row.
    ///
    /// # Errors
    /// [`RowError`]; what was written then is not a row.
    pub fn write(&self, row: usize, out: &mut String) -> Result<(), RowError> {
        if self.members.is_empty() {
            out.push('{');
        }
        for (before, column) in &self.members {
            out.push_str(before);
            let cell = column.get(row).map_err(|_| RowError::NoRow(row))?;
            write_cell(cell, out).map_err(|Unsupported| RowError::Unsupported {
                column: column.name().to_string(),
                found: column.dtype().to_string(),
            })?;
        }
        out.push('}');
        Ok(())
    }
}

/// A cell of a type that has no text.
struct Unsupported;

fn write_cell(cell: AnyValue<'_>, out: &mut String) -> Result<(), Unsupported> {
    match cell {
        AnyValue::Null => out.push_str("null"),
        AnyValue::Boolean(b) => out.push_str(if b { "true" } else { "false" }),
        AnyValue::String(s) => quote(s, out),
        AnyValue::StringOwned(s) => quote(&s, out),
        AnyValue::Int8(n) => integer(n.into(), out),
        AnyValue::Int16(n) => integer(n.into(), out),
        AnyValue::Int32(n) => integer(n.into(), out),
        AnyValue::Int64(n) => integer(n.into(), out),
        AnyValue::Int128(n) => integer(n, out),
        AnyValue::UInt8(n) => integer(n.into(), out),
        AnyValue::UInt16(n) => integer(n.into(), out),
        AnyValue::UInt32(n) => integer(n.into(), out),
        AnyValue::UInt64(n) => integer(n.into(), out),
        AnyValue::Float32(x) => float(x.into(), out),
        AnyValue::Float64(x) => float(x, out),
        AnyValue::Decimal(n, _, scale) => quoted(out, |out| decimal(n, scale, out)),
        AnyValue::Date(days) => quoted(out, |out| civil::push_date(days.into(), out)),
        AnyValue::Time(nanos) => quoted(out, |out| time(nanos, out)),
        AnyValue::Datetime(n, unit, zone) => quoted(out, |out| timestamp(n, unit, zone.is_some(), out)),
        AnyValue::DatetimeOwned(n, unit, zone) => quoted(out, |out| timestamp(n, unit, zone.is_some(), out)),
        AnyValue::Binary(bytes) => quoted(out, |out| hex(bytes, out)),
        AnyValue::BinaryOwned(bytes) => quoted(out, |out| hex(&bytes, out)),
        AnyValue::List(series) | AnyValue::Array(series, _) => {
            out.push('[');
            for i in 0..series.len() {
                if i > 0 {
                    out.push(',');
                }
                write_cell(series.get(i).map_err(|_| Unsupported)?, out)?;
            }
            out.push(']');
        }
        AnyValue::Struct(..) | AnyValue::StructOwned(_) => {
            let AnyValue::StructOwned(owned) = cell.into_static() else { return Err(Unsupported) };
            let (cells, fields) = *owned;
            out.push('{');
            for (i, (cell, field)) in cells.into_iter().zip(fields).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                quote(&field.name, out);
                out.push(':');
                write_cell(cell, out)?;
            }
            out.push('}');
        }
        _ => return Err(Unsupported),
    }
    Ok(())
}

/// What `write` appends, which needs no escapes, as a string.
fn quoted(out: &mut String, write: impl FnOnce(&mut String)) {
    out.push('"');
    write(out);
    out.push('"');
}

fn quote(text: &str, out: &mut String) {
    // Without an early end, many bytes are looked at at once.
    if text.bytes().fold(true, |all, byte| all & (byte >= b' ') & (byte != b'"') & (byte != b'\\')) {
        quoted(out, |out| out.push_str(text));
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// JSON readers hold integers exactly up to here.
const EXACT: u128 = (1 << 53) - 1;

fn integer(n: i128, out: &mut String) {
    let mut digits = itoa::Buffer::new();
    if n.unsigned_abs() <= EXACT {
        // Exact, and shorter to write.
        out.push_str(digits.format(n as i64));
    } else {
        quoted(out, |out| out.push_str(digits.format(n)));
    }
}

fn float(x: f64, out: &mut String) {
    if x.is_finite() {
        let mut text = zmij::Buffer::new();
        let text = text.format_finite(x);
        // The library writes `1e+16`.
        match text.split_once("e+") {
            Some((digits, power)) => out.extend([digits, "e", power]),
            None => out.push_str(text),
        }
    } else {
        let _ = write!(out, "\"{x}\"");
    }
}

fn decimal(n: i128, scale: usize, out: &mut String) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(n.unsigned_abs());
    if n < 0 {
        out.push('-');
    }
    let (whole, fraction) = digits.split_at_checked(digits.len().saturating_sub(scale)).unwrap_or((digits, ""));
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        out.push('.');
        out.extend(std::iter::repeat_n('0', scale.saturating_sub(fraction.len())));
        out.push_str(fraction);
    }
}

fn time(nanos: i64, out: &mut String) {
    civil::push_time(nanos.div_euclid(1000), out);
    beyond_micros(nanos.div_euclid(1000), nanos.rem_euclid(1000), out);
}

fn timestamp(n: i64, unit: TimeUnit, utc: bool, out: &mut String) {
    let (micros, nanos) = match unit {
        TimeUnit::Nanoseconds => (n.div_euclid(1000), n.rem_euclid(1000)),
        TimeUnit::Microseconds => (n, 0),
        TimeUnit::Milliseconds => (n.saturating_mul(1000), 0),
    };
    civil::push_timestamp(micros, out);
    beyond_micros(micros, nanos, out);
    if utc {
        out.push('Z');
    }
}

/// Three digits more, after those of the microseconds, which are written where one is not zero.
fn beyond_micros(micros: i64, nanos: i64, out: &mut String) {
    if nanos != 0 {
        let _ = write!(out, "{}{nanos:03}", if micros % 1_000_000 == 0 { ".000000" } else { "" });
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    out.push_str("\\\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::*;
    use proptest::prelude::*;

    fn row(columns: Vec<Series>) -> String {
        let columns = columns.into_iter().map(Series::into_column).collect::<Vec<_>>();
        let frame = DataFrame::new(1, columns).unwrap();
        let mut text = String::new();
        Rows::of_delivered(&frame).write(0, &mut text).unwrap();
        text
    }

    #[test]
    fn each_type_has_its_text() {
        let check = |column: Series, expect: &str| {
            assert_eq!(row(vec![column.with_name("c".into())]), format!("{{\"c\":{expect}}}"));
        };
        let series = |values: &[i64]| Series::new("c".into(), values);
        check(Series::new("c".into(), [Some(true)]), "true");
        check(Series::new("c".into(), [None::<i32>]), "null");
        check(series(&[-7]), "-7");
        check(series(&[9_007_199_254_740_991]), "9007199254740991");
        check(series(&[-9_007_199_254_740_992]), "\"-9007199254740992\"");
        check(Series::new("c".into(), [u64::MAX]), "\"18446744073709551615\"");
        check(Series::new("c".into(), [0.1f32]), "0.10000000149011612");
        check(Series::new("c".into(), [f64::NAN]), "\"NaN\"");
        check(Series::new("c".into(), [f64::NEG_INFINITY]), "\"-inf\"");
        check(Series::new("c".into(), ["a\"\\\n\u{1}\u{7f}é"]), "\"a\\\"\\\\\\n\\u0001\u{7f}é\"");
        check(Series::new("c".into(), [&[0u8, 255][..]]), "\"\\\\x00ff\"");
        check(series(&[19_782]).cast(&DataType::Int32).unwrap().cast(&DataType::Date).unwrap(), "\"2024-02-29\"");
        check(series(&[47_100_000_000_000]).cast(&DataType::Time).unwrap(), "\"13:05:00\"");
        check(series(&[47_100_000_000_001]).cast(&DataType::Time).unwrap(), "\"13:05:00.000000001\"");
        // Without polars' `timezones` feature a cast loses the zone.
        let utc = series(&[-1]).i64().unwrap().clone().into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
        check(utc.into_series(), "\"1969-12-31T23:59:59.999999Z\"");
        let plain = DataType::Datetime(TimeUnit::Milliseconds, None);
        check(series(&[1500]).cast(&plain).unwrap(), "\"1970-01-01T00:00:01.500000\"");
        let decimal = |n: i128, scale: usize| {
            Int128Chunked::from_vec("c".into(), vec![n]).into_decimal_unchecked(20, scale).into_series()
        };
        check(decimal(-5, 2), "\"-0.05\"");
        check(decimal(12_300, 2), "\"123.00\"");
        check(decimal(12, 0), "\"12\"");
        let list = Series::new("c".into(), [Series::new("".into(), [1i64, 2])]);
        check(list, "[1,2]");
        let fields = [Series::new("z".into(), [1i64]), Series::new("a".into(), ["x"])];
        check(StructChunked::from_series("c".into(), 1, fields.iter()).unwrap().into_series(), r#"{"z":1,"a":"x"}"#);
        assert_eq!(row(vec![]), "{}");
    }

    fn text_of(x: f64) -> String {
        let mut text = String::new();
        float(x, &mut text);
        text
    }

    #[test]
    fn floats_have_one_text() {
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (-0.5, "-0.5"),
            (1e15, "1000000000000000.0"),
            (1.5e16, "1.5e16"),
            (123e-7, "0.0000123"),
            (1e-6, "1e-6"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e308"),
            // Lies in the middle of two with as many digits.
            (93_053_883_420_990.0 + 0.625, "93053883420990.62"),
        ] {
            assert_eq!(text_of(x), text);
        }
    }

    #[test]
    fn durations_are_refused() {
        let column = Series::new("c".into(), [1i64]).cast(&DataType::Duration(TimeUnit::Microseconds)).unwrap();
        let frame = DataFrame::new(1, vec![column.into_column()]).unwrap();
        let rows = Rows::of_delivered(&frame);
        let error = rows.write(0, &mut String::new()).unwrap_err().to_string();
        assert!(error.contains("column `c`"), "{error}");
        assert!(rows.write(1, &mut String::new()).is_err());
    }

    proptest! {
        #[test]
        fn floats_read_back(bits: u64) {
            let x = f64::from_bits(bits);
            prop_assume!(x.is_finite());
            let text = text_of(x);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
            prop_assert!(text.contains(['.', 'e']), "{}", text);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert!(json.is_f64(), "{}", text);
            // As few digits as the standard library needs, and written out where the table says so.
            let power = format!("{x:e}");
            let (digits, power) = power.split_once('e').unwrap();
            let power: i32 = power.parse().unwrap();
            let count = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
            prop_assert_eq!(text.contains('e'), x != 0.0 && !(-5..16).contains(&power), "{}", text);
            if let Some((mantissa, found)) = text.split_once('e') {
                prop_assert_eq!((count(mantissa), found.parse()), (count(digits), Ok(power)), "{}", text);
            }
        }

        #[test]
        fn floats_near_one_are_written_out(x in -1e7..1e7f64) {
            let json = serde_json::to_string(&x).unwrap();
            prop_assert_eq!(text_of(x), json);
        }

        #[test]
        fn texts_are_written_as_json(text in ".*") {
            let mut quoted = String::new();
            quote(&text, &mut quoted);
            prop_assert_eq!(quoted, serde_json::to_string(&text).unwrap());
        }
    }
}
