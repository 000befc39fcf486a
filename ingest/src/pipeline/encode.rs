//! From masked rows to record values: each part stands alone (a complete Arrow IPC stream, or JSON Lines) and fits into a
//! Kafka record. Rows are split by estimate and then by measure: a part that turns out too large is halved, and a single row
//! that does not fit is refused.

use countersign_ledger::evidence::row::{RowsOf, row_line, row_salt};
use countersign_ledger::evidence::{Reason, Salt};
use countersign_ledger::tlog::{Frontier, Hash, leaf_hash};
use countersign_masker::frame::{Masked, MaskedChunk};
use countersign_masker::rows::Rows;
use polars::prelude::{CompatLevel, DataFrame};
use polars_io::SerWriter;
use polars_io::ipc::IpcStreamWriter;

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
        Format::JsonLines => json_lines(part),
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

fn json_lines(part: &Masked) -> Result<Vec<u8>, Reason> {
    let mut out = String::with_capacity(part.frame().estimated_size() * 2);
    let rows = Rows::of(part);
    for row in 0..part.frame().height() {
        write_row(&rows, row, &mut out)?;
        out.push('\n');
    }
    Ok(out.into_bytes())
}

fn write_row(rows: &Rows<'_>, row: usize, out: &mut String) -> Result<(), Reason> {
    rows.write(row, out).map_err(|error| {
        tracing::error!(%error, "a row cannot be written as JSON");
        Reason::UnsupportedType
    })
}

/// How many rows are rebuilt at a time to make their leaves.
const ROWS_AT_ONCE: usize = 4096;

/// The root of the tree over the chunk's rows, each by its canonical text.
pub fn rows_root(chunk: &MaskedChunk, of: &RowsOf, salt: &Salt) -> Result<Hash, Reason> {
    let mut tree = Frontier::new();
    let mut text = String::new();
    for at in (0..chunk.rows()).step_by(ROWS_AT_ONCE) {
        let part = part(chunk, at, ROWS_AT_ONCE.min(chunk.rows() - at))?;
        let rows = Rows::of(&part);
        for row in 0..part.frame().height() {
            text.clear();
            write_row(&rows, row, &mut text)?;
            let index = (at + row) as u64;
            tree.push(leaf_hash(&row_line(of, index, &row_salt(salt, index), text.as_bytes())));
        }
    }
    Ok(tree.root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_masker::catalog::Limits;
    use countersign_masker::decide::{ColumnObligation, Obligations, PathObligation, Rule};
    use countersign_masker::detect::Detectors;
    use countersign_masker::{Clear, ColumnType, Mask, Means, Plan, TokenKeys};
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
        countersign_masker::mask(
            Clear::new(frame),
            &obligations,
            &plan,
            Means { keys: &TokenKeys::new([1; 32]), detectors: &Detectors::default(), purpose: "p" },
            [2; 32],
        )
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
