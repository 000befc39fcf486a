//! What each mask does to a cell, through the whole of `mask`: tables of inputs and outputs, what can be turned back, and the
//! order of restrictiveness.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod docs;
mod numbers;
mod order;
mod reversible;
mod text;
mod time;

use countersign_masker::catalog::Limits;
use countersign_masker::decide::{ColumnObligation, Obligations, Rule};
use countersign_masker::detect::Detectors;
use countersign_masker::{Clear, ColumnType, Mask, MaskedChunk, Means, Plan, TokenKeys, civil, mask};
use polars::prelude::*;

/// Masks one column.
fn chunk_of(keys: &TokenKeys, purpose: &str, rule: &str, column: Series, column_type: &ColumnType) -> MaskedChunk {
    chunk_with(Means { keys, detectors: &Detectors::default(), purpose }, rule, column, column_type)
}

/// The same with detectors of one's own.
fn chunk_with(means: Means<'_>, rule: &str, column: Series, column_type: &ColumnType) -> MaskedChunk {
    let rows = column.len();
    let rule = Rule::Mask(Mask::parse(rule).unwrap());
    let limit = Limits { rows: 1000, bytes: 1000, seconds: 1 };
    let columns = vec![ColumnObligation { column: "c".into(), class: "x".into(), rule, paths: vec![] }];
    let obligations = Obligations { columns, rows: None, limit };
    let plan = Plan {
        columns: vec![("c".into(), column_type.clone())],
        predicate: None,
        order_by: None,
        shuffle: false,
        limit: None,
        max_rows: 1000,
        max_bytes: 1000,
        max_seconds: 1,
    };
    let frame = DataFrame::new(rows, vec![column.with_name("c".into()).into_column()]).unwrap();
    mask(Clear::new(frame), &obligations, &plan, means, [0; 32]).unwrap()
}

/// Masks one column and returns its type and cells as they leave.
fn masked_with(
    keys: &TokenKeys,
    purpose: &str,
    rule: &str,
    column: Series,
    column_type: &ColumnType,
) -> (ColumnType, Series) {
    let chunk = chunk_of(keys, purpose, rule, column, column_type);
    let part = chunk.part(0, chunk.rows()).unwrap();
    (chunk.columns()[0].1.clone(), part.frame().column("c").unwrap().as_materialized_series().clone())
}

fn keys(master: u8) -> TokenKeys {
    TokenKeys::new([master; 32])
}

fn masked(rule: &str, column: Series, column_type: &ColumnType) -> (ColumnType, Series) {
    masked_with(&keys(7), "reporting", rule, column, column_type)
}

fn text_column(cells: &[Option<&str>]) -> Series {
    StringChunked::from_iter_options("c".into(), cells.iter().copied()).into_series()
}

/// Masks text and returns it.
fn texts(rule: &str, cells: &[Option<&str>], column_type: &ColumnType) -> Vec<Option<String>> {
    let (column_type, masked) = masked(rule, text_column(cells), column_type);
    assert_eq!(column_type, ColumnType::Text);
    masked.str().unwrap().iter().map(|cell| cell.map(str::to_owned)).collect()
}

/// A column of the type from the text of its cells.
fn column(column_type: &ColumnType, cells: &[Option<&str>]) -> Series {
    let cells = cells.iter().copied();
    match column_type {
        ColumnType::Decimal { precision, scale } => {
            let units = |cell: &str| {
                assert_eq!(
                    cell.split_once('.').map_or(0, |(_, decimals)| decimals.len()),
                    usize::from(*scale),
                    "{cell}"
                );
                cell.replace('.', "").parse::<i128>().unwrap()
            };
            Int128Chunked::from_iter_options("c".into(), cells.map(|cell| cell.map(units)))
                .into_decimal_unchecked(usize::from(*precision), usize::from(*scale))
                .into_series()
        }
        ColumnType::Float32 | ColumnType::Float64 => {
            let floats = cells.map(|cell| cell.map(|cell| cell.parse::<f64>().unwrap()));
            Float64Chunked::from_iter_options("c".into(), floats).into_series().cast(&column_type.dtype()).unwrap()
        }
        ColumnType::Date => {
            let days = cells.map(|cell| cell.map(|cell| civil::parse_date(cell).unwrap()));
            Int32Chunked::from_iter_options("c".into(), days).into_date().into_series()
        }
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            let micros = cells.map(|cell| cell.map(|cell| civil::parse_timestamp(cell).unwrap().0));
            timestamps(column_type, Int64Chunked::from_iter_options("c".into(), micros))
        }
        _ => text_column(&cells.collect::<Vec<_>>()).strict_cast(&column_type.dtype()).unwrap(),
    }
}

fn timestamps(column_type: &ColumnType, micros: Int64Chunked) -> Series {
    let zone = (*column_type == ColumnType::TimestampTz).then_some(TimeZone::UTC);
    micros.into_datetime(TimeUnit::Microseconds, zone).into_series()
}

/// The text of a column's cells.
fn shown(column_type: &ColumnType, column: &Series) -> Vec<Option<String>> {
    let all = |cells: &mut dyn Iterator<Item = Option<String>>| cells.collect();
    match column_type {
        ColumnType::Decimal { scale, .. } => {
            let spelled = |units: i128| {
                let width = usize::from(*scale) + 1;
                let digits = format!("{:0width$}", units.abs());
                let (whole, decimals) = digits.split_at(digits.len() - usize::from(*scale));
                let sign = if units < 0 { "-" } else { "" };
                format!("{sign}{whole}{}{decimals}", if *scale > 0 { "." } else { "" })
            };
            all(&mut column.decimal().unwrap().physical().iter().map(|cell| cell.map(spelled)))
        }
        ColumnType::Float32 => all(&mut column.f32().unwrap().iter().map(|cell| cell.map(|cell| cell.to_string()))),
        ColumnType::Float64 => all(&mut column.f64().unwrap().iter().map(|cell| cell.map(|cell| cell.to_string()))),
        ColumnType::Date => {
            let days = column.date().unwrap().physical().clone();
            all(&mut days.iter().map(|cell| cell.map(|days| civil::format_date(days.into()))))
        }
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            let micros = column.datetime().unwrap().physical().clone();
            all(&mut micros.iter().map(|cell| cell.map(civil::format_timestamp)))
        }
        _ => {
            let text = column.cast(&DataType::String).unwrap();
            all(&mut text.str().unwrap().iter().map(|cell| cell.map(str::to_owned)))
        }
    }
}

/// Masks cells of the type `column_type` one by one and all together, beside a null, and compares them with what is expected.
fn check(column_type: &str, rule: &str, cases: &[(&str, &str)]) {
    let column_type: ColumnType = column_type.parse().unwrap();
    let cells = cases.iter().map(|(cell, _)| Some(*cell)).chain([None]).collect::<Vec<_>>();
    let (output_type, masked) = masked(rule, column(&column_type, &cells), &column_type);
    let null = matches!(rule, "redact").then(|| "[redacted]".to_owned());
    let expected = cases.iter().map(|(_, masked)| (*masked != "NULL").then(|| (*masked).to_owned()));
    let null = null.filter(|_| column_type.is_text());
    assert_eq!(shown(&output_type, &masked), expected.chain([null]).collect::<Vec<_>>(), "{rule} of {column_type}");
}

/// Which of the types a mask fits, and the types that it makes of them.
#[test]
fn types() {
    let fits = |rule: &str, expected: &[(&str, &str)]| {
        let mask = Mask::parse(rule).unwrap();
        let all = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 decimal(4,2) decimal(4,0) numeric \
                   text binary date time timestamp timestamptz uuid json text_array";
        for column_type in all.split_whitespace() {
            let parsed: ColumnType = column_type.parse().unwrap();
            let output = mask.output_type(&parsed).map(|output| output.to_string());
            let expected = expected.iter().find(|(types, _)| types.split(' ').any(|name| name == column_type));
            let expected =
                expected.map(|(_, output)| if output.is_empty() { parsed.to_string() } else { (*output).into() });
            assert_eq!(output, expected, "{rule} of {column_type}");
        }
    };
    let (integers, dates) = ("int8 int16 int32 int64 uint8 uint16 uint32 uint64", "date timestamp timestamptz");
    let texts = "numeric text uuid json text_array";
    fits("constant(\"x\")", &[(texts, "text")]);
    fits("keep_first(3)", &[(texts, "text"), (integers, "text")]);
    fits("token(d)", &[(texts, "text"), (integers, "text")]);
    for rule in ["email", "zip3", "ip_prefix(24, 48)", "ff1(d, hex)"] {
        fits(rule, &[("text", "")]);
    }
    fits("year_only", &[("text", ""), (dates, "")]);
    fits("truncate(month)", &[("text", ""), (dates, "")]);
    fits("truncate(day)", &[("text timestamp timestamptz", "")]);
    fits("date_shift(30, d)", &[(dates, "")]);
    for rule in ["round(2)", "bucket(1000000)"] {
        fits(rule, &[("float32 float64 decimal(4,2) decimal(4,0) numeric", ""), (integers, "")]);
    }
    // What would leave every value as it is doesn't fit, nor does what a value can't be a multiple of.
    for rule in ["round(1)", "bucket(1.0)", "bucket(0.02)", "bucket(0.1)"] {
        fits(rule, &[("float32 float64 decimal(4,2) numeric", "")]);
    }
    for rule in ["round(0.01)", "bucket(0.025)"] {
        fits(rule, &[("float32 float64 numeric", "")]);
    }
    fits("range(1.5)", &[("float32 float64 decimal(4,2) decimal(4,0) numeric", "text"), (integers, "text")]);
    fits("ff1(d, digits)", &[("text int32 int64 uint32 uint64", "")]);
    fits("ff1(d, digits, 10)", &[("text int32 int64 uint32 uint64", "")]);
    fits("ff1(d, digits, 19)", &[("text int64 uint64", "")]);
    fits("ff1(d, digits, 6)", &[("text", "")]);
}

#[test]
fn spelling() {
    for (text, same) in [
        (" keep_first( 3 ) ", "keep_first(3)"),
        ("bucket(0010.500)", "bucket(10.5)"),
        ("range(-1.50,0,  2)", "range(-1.5, 0, 2)"),
        ("ip_prefix(0,127)", "ip_prefix(0, 127)"),
        ("ff1( card ,digits)", "ff1(card, digits)"),
        ("ff1(card, letters_digits, 16)", "ff1(card, letters_digits, 16)"),
        ("date_shift(3650, d)", "date_shift(3650, d)"),
        ("constant(\"a, (b) \\\\ \\\"c\\\"\")", "constant(\"a, (b) \\\\ \\\"c\\\"\")"),
    ] {
        assert_eq!(Mask::parse(text).map(|mask| mask.to_string()), Ok(same.to_owned()));
    }
    for text in [
        "",
        "nil",
        "null()",
        "redact(1)",
        "keep_first",
        "keep_first()",
        "keep_first(0)",
        "keep_first(65)",
        "keep_last(+1)",
        "keep_last(1, 2)",
        "truncate(year)",
        "truncate()",
        "round(0)",
        "round(-1)",
        "bucket(1e3)",
        "bucket(.5)",
        "bucket(5.)",
        "bucket(1000000000000000)",
        "bucket(0.0000000001)",
        "range()",
        "range(1, 1)",
        "range(2, 1)",
        "range(1.0, 1)",
        "range(a)",
        "ip_prefix(32, 48)",
        "ip_prefix(24, 128)",
        "ip_prefix(24)",
        "zip3(3)",
        "date_shift(0, d)",
        "date_shift(3651, d)",
        "date_shift(30)",
        "token()",
        "token(A)",
        "ff1(d)",
        "ff1(d, greek)",
        "ff1(d, digits, 65)",
        "ff1(d, digits, 16, 1)",
        "constant(x)",
        "constant()",
        "constant(\"\"\")",
    ] {
        let error = Mask::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{text}` is no mask, known are null, ")), "{error}");
    }
    for text in ["ff1(pin, digits, 4)", "ff1(pin, digits, 5)", "ff1(pin, hex, 4)", "ff1(pin, letters_digits, 3)"] {
        let advice = "so that a list of them all undoes it: give it longer values, or take token(domain)";
        let expected = format!("`{text}` has fewer than 1000000 values, {advice}");
        assert_eq!(Mask::parse(text).unwrap_err().to_string(), expected);
    }
}
