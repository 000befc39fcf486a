//! From masked rows to record values: each part stands alone (a complete Arrow IPC stream, or JSON Lines) and fits into a
//! Kafka record. Rows are split by estimate and then by measure: a part that turns out too large is halved, and a single row
//! that does not fit is refused.

use countersign_ledger::evidence::Reason;
use countersign_masker::frame::{Masked, MaskedChunk};
use polars::prelude::{AnyValue, Column, CompatLevel, DataFrame, TimeUnit};
use polars_io::SerWriter;
use polars_io::ipc::IpcStreamWriter;
use serde_json::Value;
use std::fmt::Write;

/// How a chunk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Arrow IPC streams.
    Arrow,
    /// JSON Lines.
    JsonLines,
}

impl Format {
    /// The format of that name in claims and headers.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "arrow" => Some(Self::Arrow),
            "jsonl" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// The name in claims and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arrow => "arrow",
            Self::JsonLines => "jsonl",
        }
    }

    /// The ending of a file of it.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Arrow => "arrows",
            Self::JsonLines => "jsonl",
        }
    }
}

/// Writes the chunk as parts of at most `max_bytes` each; an empty chunk is one part of no rows.
pub fn encode(chunk: &MaskedChunk, format: Format, max_bytes: usize) -> Result<Vec<Vec<u8>>, Reason> {
    let rows = chunk.rows();
    if rows == 0 {
        return Ok(vec![write(&part(chunk, 0, 0)?, format)?]);
    }
    let mut parts = Vec::new();
    let mut at = 0;
    let mut step = rows.min(4096);
    while at < rows {
        let take = step.min(rows - at);
        let bytes = write(&part(chunk, at, take)?, format)?;
        if bytes.len() > max_bytes {
            if take == 1 {
                return Err(Reason::RowTooLarge);
            }
            // Aim below the limit: rows differ.
            let fitting = take.saturating_mul(max_bytes) / bytes.len();
            step = (fitting * 9 / 10).clamp(1, take / 2 + 1).min(take - 1);
            continue;
        }
        let per_row = bytes.len().div_ceil(take).max(1);
        step = (max_bytes * 19 / 20 / per_row).max(1);
        at += take;
        parts.push(bytes);
    }
    Ok(parts)
}

fn part(chunk: &MaskedChunk, offset: usize, len: usize) -> Result<Masked, Reason> {
    chunk.part(offset, len).map_err(|error| {
        tracing::error!(%error, "a part cannot be rebuilt");
        Reason::MaskFailed
    })
}

fn write(part: &Masked, format: Format) -> Result<Vec<u8>, Reason> {
    match format {
        Format::Arrow => arrow(part.frame()),
        Format::JsonLines => json_lines(part.frame()),
    }
}

fn arrow(frame: &DataFrame) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::with_capacity(frame.estimated_size() + 4096);
    // The writer wants a frame of its own to align its chunks; the columns are shared, not copied.
    IpcStreamWriter::new(&mut bytes).with_compat_level(CompatLevel::oldest()).finish(&mut frame.clone()).map_err(
        |error| {
            tracing::error!(%error, "a part cannot be written as Arrow IPC");
            Reason::Internal
        },
    )?;
    Ok(bytes)
}

fn json_lines(frame: &DataFrame) -> Result<Vec<u8>, Reason> {
    let columns = frame.columns();
    let mut out = Vec::with_capacity(frame.estimated_size() * 2);
    for row in 0..frame.height() {
        out.push(b'{');
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            let fail = |_| Reason::Internal;
            serde_json::to_writer(&mut out, column.name().as_str()).map_err(fail)?;
            out.push(b':');
            serde_json::to_writer(&mut out, &cell(column, row)?).map_err(fail)?;
        }
        out.extend_from_slice(b"}\n");
    }
    Ok(out)
}

fn cell(column: &Column, row: usize) -> Result<Value, Reason> {
    value(column.get(row).map_err(|_| Reason::Internal)?)
}

/// A cell as JSON: numbers as numbers where JSON readers hold them exactly and as text elsewhere, times in ISO 8601, bytes in
/// hexadecimal with `\x` before them as PostgreSQL writes them.
fn value(cell: AnyValue<'_>) -> Result<Value, Reason> {
    const EXACT: u64 = (1 << 53) - 1;
    let integer = |n: i128| {
        if n.unsigned_abs() <= u128::from(EXACT) {
            i64::try_from(n).map_or_else(|_| Value::from(n.to_string()), Value::from)
        } else {
            Value::from(n.to_string())
        }
    };
    Ok(match cell {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(b) => b.into(),
        AnyValue::String(s) => s.into(),
        AnyValue::StringOwned(s) => s.as_str().into(),
        AnyValue::Int8(n) => n.into(),
        AnyValue::Int16(n) => n.into(),
        AnyValue::Int32(n) => n.into(),
        AnyValue::Int64(n) => integer(n.into()),
        AnyValue::UInt8(n) => n.into(),
        AnyValue::UInt16(n) => n.into(),
        AnyValue::UInt32(n) => n.into(),
        AnyValue::UInt64(n) => integer(n.into()),
        AnyValue::Int128(n) => integer(n),
        AnyValue::Float32(x) => float(x.into(), || x.to_string()),
        AnyValue::Float64(x) => float(x, || x.to_string()),
        AnyValue::Binary(b) => bytes(b),
        AnyValue::BinaryOwned(b) => bytes(&b),
        AnyValue::List(series) => list((0..series.len()).map(|i| series.get(i)))?,
        AnyValue::Array(series, _) => list((0..series.len()).map(|i| series.get(i)))?,
        AnyValue::Struct(..) | AnyValue::StructOwned(..) => {
            let mut values = Vec::new();
            let mut names = Vec::new();
            if let AnyValue::StructOwned(owned) = cell.into_static() {
                let (cells, fields) = *owned;
                for (cell, field) in cells.into_iter().zip(fields) {
                    values.push(value(cell)?);
                    names.push(field.name.to_string());
                }
            }
            Value::Object(names.into_iter().zip(values).collect())
        }
        AnyValue::Decimal(..) | AnyValue::Date(_) | AnyValue::Time(_) => cell.to_string().into(),
        AnyValue::Datetime(n, unit, zone) => timestamp(n, unit, zone.is_some()).into(),
        AnyValue::DatetimeOwned(n, unit, ref zone) => timestamp(n, unit, zone.is_some()).into(),
        _ => return Err(Reason::UnsupportedType),
    })
}

fn list<'a, E>(cells: impl Iterator<Item = Result<AnyValue<'a>, E>>) -> Result<Value, Reason> {
    cells.map(|cell| value(cell.map_err(|_| Reason::Internal)?)).collect()
}

fn float(x: f64, text: impl FnOnce() -> String) -> Value {
    // JSON has no infinities and no NaN; they are written as text rather than lost.
    serde_json::Number::from_f64(x).map_or_else(|| Value::from(text()), Value::Number)
}

fn bytes(bytes: &[u8]) -> Value {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

fn timestamp(n: i64, unit: TimeUnit, utc: bool) -> String {
    let micros = match unit {
        TimeUnit::Nanoseconds => n.div_euclid(1000),
        TimeUnit::Microseconds => n,
        TimeUnit::Milliseconds => n.saturating_mul(1000),
    };
    let text = countersign_masker::civil::format_timestamp(micros).replace(' ', "T");
    if utc { format!("{text}Z") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_masker::catalog::Limits;
    use countersign_masker::decide::{ColumnObligation, Obligations, PathObligation, Rule};
    use countersign_masker::{Clear, ColumnType, Mask, Plan, TokenKeys};
    use polars::prelude::{DataType, IntoColumn, NamedFrom, Series};

    /// Columns that no caller may learn anything of but what their masks tell, all of which stands in `told`.
    fn chunk(told: &[i64], hidden: &[&str]) -> MaskedChunk {
        let cells = |cell: &dyn Fn(i64, &str) -> String| {
            told.iter().zip(hidden).map(|(told, hidden)| cell(*told, hidden)).collect::<Vec<_>>()
        };
        let days = told.iter().zip(hidden).map(|(told, hidden)| *told as i32 * 365 + 9_131 + hidden.len() as i32);
        let days = Series::new("born".into(), days.collect::<Vec<_>>()).cast(&DataType::Date).unwrap();
        let columns = vec![
            Series::new("id".into(), told),
            Series::new("name".into(), cells(&|told, hidden| format!("{told:04}{hidden}"))),
            Series::new("note".into(), cells(&|_, hidden| hidden.repeat(9))),
            days,
            Series::new(
                "doc".into(),
                cells(&|told, hidden| format!(r#"{{"told": {told}, "ssn": "{hidden}", "{hidden}x": 1}}"#)),
            ),
        ];
        let mask = |rule: &str| Rule::Mask(Mask::parse(rule).unwrap());
        let path = |path: &str, rule| PathObligation { path: path.parse().unwrap(), class: "c".into(), rule };
        let inside = vec![path("doc.ssn", mask("redact")), path("doc.told", Rule::Clear)];
        let rules = [
            ("id", ColumnType::Int64, Rule::Clear, vec![]),
            ("name", ColumnType::Text, mask("keep_first(4)"), vec![]),
            ("note", ColumnType::Text, mask("redact"), vec![]),
            ("born", ColumnType::Date, mask("null"), vec![]),
            ("doc", ColumnType::Json, mask("null"), inside),
        ];
        let limits = Limits { rows: 9_999, bytes: 1 << 30, seconds: 9 };
        let plan = Plan {
            columns: rules.iter().map(|(name, column_type, ..)| ((*name).into(), column_type.clone())).collect(),
            predicate: None,
            order_by: None,
            shuffle: true,
            limit: None,
            max_rows: limits.rows,
            max_bytes: limits.bytes,
            max_seconds: limits.seconds,
        };
        let columns_of = rules.into_iter().map(|(column, _, rule, paths)| ColumnObligation {
            column: column.into(),
            class: "c".into(),
            rule,
            paths,
        });
        let obligations = Obligations { columns: columns_of.collect(), rows: None, limit: limits };
        let frame = DataFrame::new(told.len(), columns.into_iter().map(Series::into_column).collect()).unwrap();
        countersign_masker::mask(Clear::new(frame), &obligations, &plan, &TokenKeys::new([1; 32]), "p", [2; 32])
            .unwrap()
    }

    /// Rows that differ only in what masks hide are cut into the same parts of the same bytes, however large the parts may be.
    #[test]
    fn what_is_hidden_makes_no_difference() {
        let told = (0..3_000).map(|n| n * 37 % 1_000).collect::<Vec<_>>();
        let one = told.iter().map(|n| if n % 3 == 0 { "a" } else { "ada lovelace" }).collect::<Vec<_>>();
        let other = told.iter().map(|n| if n % 7 == 0 { "somebody quite else" } else { "b" }).collect::<Vec<_>>();
        for rows in [0, 1, 3_000] {
            let [one, other] = [&one, &other].map(|hidden| chunk(&told[..rows], &hidden[..rows]));
            assert_eq!(one.account(), other.account());
            assert_eq!(one.columns(), other.columns());
            for format in [Format::Arrow, Format::JsonLines] {
                for max_bytes in [4_000, 100_000, 900_000] {
                    let parts = encode(&one, format, max_bytes).unwrap();
                    assert_eq!(parts.len() > 1, rows == 3_000 && max_bytes < 900_000, "{rows} {max_bytes}");
                    assert!(parts == encode(&other, format, max_bytes).unwrap(), "{} {max_bytes}", format.as_str());
                }
            }
        }
    }
}
