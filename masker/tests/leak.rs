//! Nothing leaves that wasn't entitled to: every value of every cell is a canary, in masked and clear columns, in rows that
//! a filter or a limit removed, under nulls, in nested columns and in columns that were fetched for nothing; each part of a
//! masked chunk is written in several formats, and every byte of it is searched for every canary that doesn't belong there: as
//! text, in hex, in base64, reversed, in UTF-16, and as a number in binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use countersign_masker::catalog::Limits;
use countersign_masker::decide::{ColumnObligation, Obligations, Rule};
use countersign_masker::detect::Detectors;
use countersign_masker::{Clear, ColumnType, Mask, MaskError, MaskedChunk, Means, Plan, TokenKeys, mask};
use polars::prelude::*;
use polars_io::SerWriter;
use polars_io::csv::write::CsvWriter;
use polars_io::ipc::{IpcStreamWriter, IpcWriter};
use polars_io::parquet::write::{ParquetCompression, ParquetWriter, StatisticsOptions};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

const ROWS: usize = 48;

/// The columns of the source: name, type, and how each leaves (`None`: fetched, but not in the plan).
fn columns() -> Vec<(&'static str, ColumnType, Option<Rule>)> {
    let masked = |mask: &str| Some(Rule::Mask(Mask::parse(mask).unwrap()));
    let clear = Some(Rule::Clear);
    let list = |inner| ColumnType::List(Box::new(inner));
    let field = |name: &str, field| (name.to_owned(), field);
    let person = || {
        let texts = ["first", "second"].map(|name| field(name, ColumnType::Text));
        ColumnType::Struct([texts.to_vec(), vec![field("number", ColumnType::Int64)]].concat())
    };
    vec![
        ("id", ColumnType::Int64, clear.clone()),
        ("name", ColumnType::Text, clear.clone()),
        ("short", ColumnType::Text, clear.clone()),
        ("email", ColumnType::Text, masked("keep_first(1)")),
        ("iban", ColumnType::Text, masked("token(iban)")),
        ("note", ColumnType::Text, masked("redact")),
        ("account", ColumnType::Int64, masked("token(account)")),
        ("amount", ColumnType::Decimal { precision: 30, scale: 2 }, masked("redact")),
        ("limit", ColumnType::Decimal { precision: 30, scale: 2 }, clear.clone()),
        ("born", ColumnType::Date, masked("null")),
        ("since", ColumnType::Date, clear.clone()),
        ("score", ColumnType::Float64, masked("redact")),
        ("rate", ColumnType::Float64, clear.clone()),
        ("pin", ColumnType::Int32, masked("constant(\"x\")")), // doesn't fit: null
        ("seen", ColumnType::Timestamp, clear.clone()),
        ("blob", ColumnType::Binary, clear.clone()),
        ("tags", list(ColumnType::Text), clear.clone()),
        ("profile", person(), clear.clone()),
        ("people", list(person()), clear.clone()),
        ("secret_tags", list(ColumnType::Text), masked("redact")),
        ("secret_profile", person(), masked("email")), // doesn't fit: null
        ("filtered_by", ColumnType::Text, None),
    ]
}

/// A canary: a number that no other cell has, in a range that no length, offset or count comes near.
fn number(column: usize, row: usize, nested: usize) -> i64 {
    0x5EC2_0000 + (column * 8 + nested) as i64 * 0x100 + row as i64
}

fn text(column: usize, row: usize, nested: usize) -> String {
    format!("canary {} and more than twelve bytes", number(column, row, nested))
}

fn short(column: usize, row: usize) -> String {
    format!("c{}", number(column, row, 0))
}

/// A canary as it could stand in bytes.
fn needles(column: usize, row: usize, nested: usize) -> Vec<Vec<u8>> {
    let number = number(column, row, nested);
    let digits = number.to_string(); // Part of every text canary, too.
    let hex =
        |upper: bool| digits.bytes().map(move |byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
    let mut needles = vec![
        digits.clone().into_bytes(),
        digits.bytes().rev().collect(),
        hex(false).collect::<String>().into_bytes(),
        digits.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        digits.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        (number as i32).to_le_bytes().to_vec(), // Part of every wider integer, decimal, date and timestamp.
        (number as i32).to_be_bytes().to_vec(), // Parquet's decimals.
        float(number).to_le_bytes().to_vec(),
        float(number).to_be_bytes().to_vec(),
        format!("{}.{:02}", number / 100, number % 100).into_bytes(),
        format!("{number:08x}").into_bytes(),
        format!("{number:08X}").into_bytes(),
    ];
    // Digits have no letters in hex.
    assert_eq!(hex(false).collect::<String>(), hex(true).collect::<String>());
    needles.extend((0..3).map(|offset| in_base64(digits.as_bytes(), offset)));
    needles
}

/// What is the same in every base64 of a text that has these bytes after so many others, modulo three.
fn in_base64(bytes: &[u8], offset: usize) -> Vec<u8> {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    // A symbol has six bits: the first that begins inside of these bytes.
    let bits = bits.skip((6 - offset * 8 % 6) % 6).collect::<Vec<_>>();
    bits.chunks_exact(6).map(|six| SYMBOLS[six.iter().fold(0, |number, bit| number << 1 | usize::from(*bit))]).collect()
}

#[test]
fn base64_is_found_at_every_offset() {
    for (text, offset) in [("MTIzNDU2Nzg5", 0), ("YTEyMzQ1Njc4OQ==", 1), ("YWExMjM0NTY3ODk=", 2)] {
        let needle = String::from_utf8(in_base64(b"123456789", offset)).unwrap();
        assert!(needle.len() >= 11 && text.contains(&needle), "{text} {needle}");
    }
}

fn float(number: i64) -> f64 {
    number as f64 + 0.123
}

/// Whether the cell is null: the canary is then beneath.
fn is_null(row: usize) -> bool {
    row % 4 == 1
}

fn bitmap(present: impl Iterator<Item = bool>) -> BooleanChunked {
    BooleanChunked::from_iter_values("".into(), present)
}

/// The column with some cells made null and their values kept beneath.
fn hide(column: Series, is_null: fn(usize) -> bool) -> Series {
    let (name, dtype) = (column.name().clone(), column.dtype().clone());
    let present = bitmap((0..column.len()).map(|row| !is_null(row)));
    let validity = present.downcast_iter().next().unwrap().values().clone();
    let physical = column.to_physical_repr().rechunk();
    let hidden = physical.chunks()[0].with_validity(Some(validity));
    let hidden = Series::try_from((name, hidden)).unwrap();
    match dtype {
        DataType::Date => hidden.into_date(),
        DataType::Datetime(unit, zone) => hidden.into_datetime(unit, zone),
        DataType::Decimal(precision, scale) => hidden.into_decimal(precision, scale).unwrap(),
        _ => hidden,
    }
}

fn source() -> DataFrame {
    let frame_columns = columns().into_iter().enumerate().map(|(index, (name, column_type, _))| {
        let rows = 0..ROWS;
        let numbers = || Int64Chunked::from_vec(name.into(), rows.clone().map(|row| number(index, row, 0)).collect());
        let texts = |nested: usize| {
            let texts: Vec<_> = rows.clone().map(|row| text(index, row, nested)).collect();
            StringChunked::from_slice(name.into(), &texts).into_series()
        };
        let series = match column_type {
            ColumnType::Int64 => numbers().into_series(),
            ColumnType::Int32 => numbers().into_series().cast(&DataType::Int32).unwrap(),
            ColumnType::Date => numbers().into_series().cast(&DataType::Int32).unwrap().into_date(),
            ColumnType::Timestamp => numbers().into_datetime(TimeUnit::Microseconds, None).into_series(),
            ColumnType::Decimal { precision, scale } => {
                let units = numbers().into_series().cast(&DataType::Int128).unwrap();
                units.into_decimal(precision.into(), scale.into()).unwrap()
            }
            ColumnType::Float64 => {
                Float64Chunked::from_vec(name.into(), rows.map(|row| float(number(index, row, 0))).collect())
                    .into_series()
            }
            ColumnType::Binary => texts(0).cast(&DataType::Binary).unwrap(),
            ColumnType::Text if name == "short" => {
                StringChunked::from_iter_values(name.into(), rows.map(|row| short(index, row))).into_series()
            }
            ColumnType::Text => texts(0),
            ColumnType::Struct(_) => person(name, index, rows.map(|row| (row, 0)).collect()),
            ColumnType::List(inner) if *inner == ColumnType::Text => {
                let lists = rows.map(|row| {
                    let texts: Vec<_> = (0..row % 3).map(|nested| text(index, row, nested)).collect();
                    Some(Series::new("".into(), texts))
                });
                lists.collect::<ListChunked>().with_name(name.into()).into_series()
            }
            ColumnType::List(_) => {
                let lists =
                    rows.map(|row| Some(person("", index, (0..row % 3).map(|element| (row, element)).collect())));
                let lists = lists.collect::<Vec<_>>();
                let empty = person("", index, vec![]);
                let lists = lists.into_iter().map(|list| list.filter(|list| !list.is_empty()).or(Some(empty.clone())));
                lists.collect::<ListChunked>().with_name(name.into()).into_series()
            }
            other => panic!("{other}"),
        };
        hide(series, is_null).with_name(name.into()).into_column()
    });
    DataFrame::new(ROWS, frame_columns.collect()).unwrap()
}

/// A struct of two texts and a number, the second text of every other one null with its value beneath. Element `i` of a
/// list has the canaries `3i` to `3i + 2`.
fn person(name: &str, column: usize, elements: Vec<(usize, usize)>) -> Series {
    let texts = |field: &str, nested: usize| {
        let texts: Vec<_> = elements.iter().map(|(row, element)| text(column, *row, 3 * element + nested)).collect();
        StringChunked::from_slice(field.into(), &texts).into_series()
    };
    let numbers = elements.iter().map(|(row, element)| number(column, *row, 3 * element + 2)).collect();
    let numbers = Int64Chunked::from_vec("number".into(), numbers).into_series();
    let fields = [texts("first", 0), hide(texts("second", 1), |index| index % 2 == 1), numbers];
    StructChunked::from_series(name.into(), elements.len(), fields.iter()).unwrap().into_series()
}

/// Whether a canary of a row that leaves may leave with it, if its column is clear.
fn shows(column: usize, row: usize, nested: usize) -> bool {
    let elements = row % 3;
    !is_null(row)
        && match columns()[column].0 {
            "tags" => nested < elements,
            "profile" => nested < 3 && !(nested == 1 && row % 2 == 1),
            "people" => nested < 3 * elements && nested != 4,
            _ => nested == 0,
        }
}

fn plan_and_obligations(shuffle: bool) -> (Plan, Obligations) {
    let leaving: Vec<_> =
        columns().into_iter().filter_map(|(name, kind, rule)| Some((name.to_owned(), kind, rule?))).collect();
    let limit = Limits { rows: 1000, bytes: 1 << 20, seconds: 1 };
    let plan = Plan {
        columns: leaving.iter().map(|(name, kind, _)| (name.clone(), kind.clone())).collect(),
        predicate: None,
        order_by: None,
        shuffle,
        limit: None,
        max_rows: limit.rows,
        max_bytes: limit.bytes,
        max_seconds: limit.seconds,
    };
    let columns = leaving.into_iter().map(|(column, _, rule)| ColumnObligation {
        column,
        class: "c".into(),
        rule,
        paths: vec![],
    });
    (plan, Obligations { columns: columns.collect(), rows: None, limit })
}

fn masked(frame: DataFrame, shuffle: bool) -> MaskedChunk {
    let (plan, obligations) = plan_and_obligations(shuffle);
    mask(
        Clear::new(frame),
        &obligations,
        &plan,
        Means { keys: &TokenKeys::new([7; 32]), detectors: &Detectors::default(), purpose: "reporting" },
        [9; 32],
    )
    .unwrap()
}

// ---------------------------------------------------------------------------------------------------------------------------
// Writing and searching

fn encodings(frame: &DataFrame) -> Vec<(&'static str, Vec<u8>)> {
    let mut frame = frame.clone();
    let mut stream = Vec::new();
    IpcStreamWriter::new(&mut stream).with_compat_level(CompatLevel::oldest()).finish(&mut frame).unwrap();
    let mut file = Vec::new();
    IpcWriter::new(&mut file).with_compat_level(CompatLevel::oldest()).finish(&mut frame).unwrap();
    let mut views = Vec::new();
    IpcStreamWriter::new(&mut views).finish(&mut frame).unwrap();
    let mut parquet = Vec::new();
    let writer = ParquetWriter::new(&mut parquet).with_compression(ParquetCompression::Uncompressed);
    writer.with_statistics(StatisticsOptions::full()).finish(&mut frame).unwrap();
    let lines = json_lines(&frame).into_bytes();
    // CSV has no place for lists, structs and bytes, and none for the days of canaries, which no calendar has.
    let is_flat = |dtype: &DataType| !dtype.is_nested() && !matches!(dtype, DataType::Binary | DataType::Date);
    let flat = frame.columns().iter().filter(|column| is_flat(column.dtype()));
    let mut flat = DataFrame::new(frame.height(), flat.cloned().collect()).unwrap();
    let mut csv = Vec::new();
    CsvWriter::new(&mut csv).finish(&mut flat).unwrap();
    vec![
        ("ipc stream", stream),
        ("ipc file", file),
        ("ipc with views", views),
        ("parquet", parquet),
        ("json lines", lines),
        ("csv", csv),
    ]
}

fn json_lines(frame: &DataFrame) -> String {
    let mut lines = String::new();
    for row in 0..frame.height() {
        for column in frame.columns() {
            lines.push_str(&format!("{:?}:", column.name()));
            json(&column.get(row).unwrap(), &mut lines);
            lines.push(',');
        }
        lines.push('\n');
    }
    lines
}

fn json(value: &AnyValue<'_>, out: &mut String) {
    match value {
        AnyValue::List(values) => values.iter().for_each(|value| json(&value, out)),
        AnyValue::Struct(..) => value._iter_struct_av().for_each(|value| json(&value, out)),
        AnyValue::Binary(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        AnyValue::BinaryOwned(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        other => out.push_str(&format!("{other:?}|")),
    }
}

/// The canaries in `bytes`: column, row and which of the cell's.
fn found(bytes: &[u8]) -> BTreeSet<(usize, usize, usize)> {
    static CANARIES: OnceLock<HashMap<Vec<u8>, (usize, usize, usize)>> = OnceLock::new();
    let canaries = CANARIES.get_or_init(|| {
        let rows = (0..columns().len()).flat_map(|column| (0..ROWS).map(move |row| (column, row)));
        let canaries = rows.flat_map(|(column, row)| (0..6).map(move |nested| (column, row, nested)));
        let needles =
            |canary: (usize, usize, usize)| needles(canary.0, canary.1, canary.2).into_iter().map(move |n| (n, canary));
        canaries.flat_map(needles).collect()
    });
    let lengths: BTreeSet<usize> = canaries.keys().map(Vec::len).collect();
    lengths
        .into_iter()
        .flat_map(|length| bytes.windows(length).filter_map(|window| canaries.get(window)))
        .copied()
        .collect()
}

#[test]
fn no_canary_leaves() {
    let source = source();
    // A filter takes away every fifth row, a limit what comes before and after; or only the limit does, since filtering
    // makes new buffers and so cleans some of them by chance.
    let keep = bitmap((0..ROWS).map(|row| row % 5 != 3));
    let filtered: Vec<usize> = (0..ROWS).filter(|row| row % 5 != 3).skip(4).take(24).collect();
    check_parts(source.filter(&keep).unwrap().slice(4, 24), &filtered);
    check_parts(source.slice(4, 24), &(4..28).collect::<Vec<_>>());
}

/// Masks the fetched rows, which are the source's rows of these numbers, and searches all parts.
fn check_parts(fetched: DataFrame, numbers: &[usize]) {
    let clear: Vec<usize> = (0..columns().len()).filter(|column| columns()[*column].2 == Some(Rule::Clear)).collect();
    for (shuffle, parts) in [(false, vec![(0, 7), (7, 1), (8, 0), (8, 16)]), (true, vec![(0, 24)])] {
        let chunk = masked(fetched.clone(), shuffle);
        for (offset, len) in parts {
            let part = chunk.part(offset, len).unwrap();
            assert_eq!(part.frame().height(), len);
            let rows = &numbers[offset..offset + len];
            for (format, bytes) in encodings(part.frame()) {
                let found = found(&bytes);
                let may_leave = |column: &usize, row: &usize, nested: usize| {
                    clear.contains(column) && rows.contains(row) && shows(*column, *row, nested)
                };
                for (column, row, nested) in &found {
                    let name = columns()[*column].0;
                    let entitled = may_leave(column, row, *nested);
                    assert!(entitled, "{name} of row {row} ({nested}) is in rows {offset}+{len} as {format}");
                }
                // The search finds what may be there, where the format has a place for it.
                let left_out = |column: &usize| {
                    let column_type = &columns()[*column].1;
                    let is_plain =
                        matches!(column_type, ColumnType::Int64 | ColumnType::Text | ColumnType::Decimal { .. });
                    format == "csv" && !is_plain
                };
                for column in clear.iter().filter(|column| !left_out(column)) {
                    for (row, nested) in rows.iter().flat_map(|row| (0..6).map(move |nested| (row, nested))) {
                        let name = columns()[*column].0;
                        let missing = may_leave(column, row, nested) && !found.contains(&(*column, *row, nested));
                        assert!(!missing, "{name} of row {row} ({nested}) is missing as {format}");
                    }
                }
            }
        }
    }
}

/// The test above would notice: the source's rows, written the same way, show canaries of every column, those under nulls
/// included, which no cell shows.
#[test]
fn plain_rows_leak() {
    let plain = encodings(&source()).into_iter().filter(|(format, _)| *format != "csv");
    for (format, bytes) in plain {
        let found = found(&bytes);
        for (column, (name, ..)) in columns().iter().enumerate() {
            assert!(found.iter().any(|cell| cell.0 == column), "{name} as {format}");
            let beneath = found.iter().any(|cell| cell.0 == column && is_null(cell.1));
            assert_eq!(beneath, format.starts_with("ipc"), "{name} as {format}");
        }
    }
}

/// Text of a part lies in buffers that hold nothing else, while a slice keeps its neighbours'.
#[test]
fn text_has_its_own_buffers() {
    let slack = |frame: &DataFrame| -> usize {
        let text = frame.column("name").unwrap().as_materialized_series().rechunk();
        let text = text.str().unwrap();
        let shown: usize = text.iter().flatten().map(str::len).sum();
        text.downcast_iter().map(|chunk| chunk.total_buffer_len()).sum::<usize>() - shown
    };
    let fetched = source().slice(4, 8);
    assert!(slack(&fetched) > 0);
    assert_eq!(slack(masked(fetched, true).part(1, 5).unwrap().frame()), 0);
}

/// A validity bitmap has no bits of the rows after a part, and no cell of a short text has bytes beyond its length.
#[test]
fn nothing_stands_behind_the_last_row() {
    let chunk = masked(source(), false);
    for len in 1..ROWS {
        let part = chunk.part(0, len).unwrap();
        for column in part.frame().columns() {
            for validity in
                column.as_materialized_series().chunks().iter().filter_map(|chunk| chunk.validity().cloned())
            {
                let (bytes, offset, bits) = validity.as_slice();
                assert_eq!((offset, bits), (0, len), "{}", column.name());
                let behind = (bits..bytes.len() * 8).filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1);
                assert_eq!(behind.count(), 0, "{} of {len} rows", column.name());
            }
        }
        let short = part.frame().column("short").unwrap().as_materialized_series().rechunk();
        for chunk in short.str().unwrap().downcast_iter() {
            let views = chunk.views().iter();
            let behind = views.map(|view| view.as_u128().checked_shr(32 + 8 * view.length).unwrap_or(0));
            assert_eq!((chunk.total_buffer_len(), behind.max()), (0, Some(0)), "{len} rows");
        }
    }
}

/// Rebuilding loses nothing: clear columns come out equal, nested ones and nulls included.
#[test]
fn clear_columns_are_the_same() {
    let fetched = source().slice(4, 30);
    let chunk = masked(fetched.clone(), false);
    let part = chunk.part(3, 20).unwrap();
    for (name, _, rule) in columns() {
        if rule == Some(Rule::Clear) {
            let (before, after) = (fetched.slice(3, 20), part.frame().column(name).unwrap());
            let before = before.column(name).unwrap();
            assert_eq!(before.dtype(), after.dtype(), "{name}");
            assert_eq!(before.null_count(), after.null_count(), "{name}");
            assert!(before.equals_missing(after), "{name}");
        }
    }
    let names: Vec<_> = part.frame().get_column_names_owned();
    let expect: Vec<_> = columns().into_iter().filter(|column| column.2.is_some()).map(|column| column.0).collect();
    assert_eq!(names, expect);
}

#[test]
fn the_account_says_what_was_done() {
    let fetched = source().slice(0, 8); // Rows 1 and 5 are null.
    let chunk = masked(fetched, true);
    let account = |name: &str| {
        let account = chunk.account().iter().find(|account| account.column == name).unwrap();
        assert_eq!((account.seen, account.class.as_str()), (8, "c"));
        (account.rule.clone(), account.transform.clone(), account.changed)
    };
    let expect = |rule: &str, transform: &str, changed| (rule.to_owned(), transform.to_owned(), changed);
    assert_eq!(account("id"), expect("clear", "clear", 0));
    assert_eq!(account("email"), expect("keep_first(1)", "keep_first(1)", 6));
    assert_eq!(account("note"), expect("redact", "redact", 8));
    assert_eq!(account("pin"), expect("constant(\"x\")", "null", 8));
    assert_eq!(account("secret_profile"), expect("email", "null", 8));
    let types: Vec<_> = chunk.columns().iter().filter(|(name, _)| name == "account").collect();
    assert_eq!(types, [&("account".to_owned(), ColumnType::Text)]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (plan, obligations) = plan_and_obligations(false);
    let keys = TokenKeys::new([7; 32]);
    let run = |frame: DataFrame, plan: &Plan, obligations: &Obligations| {
        mask(
            Clear::new(frame),
            obligations,
            plan,
            Means { keys: &keys, detectors: &Detectors::default(), purpose: "reporting" },
            [9; 32],
        )
        .map(|_| ())
        .unwrap_err()
    };
    assert_eq!(run(source().drop("born").unwrap(), &plan, &obligations), MaskError::MissingColumn("born".into()));

    let mut other = source();
    let text = other.column("id").unwrap().cast(&DataType::String).unwrap();
    other.with_column(text).unwrap();
    let (column, found, required) = ("id".into(), "str".into(), "int64".into());
    assert_eq!(run(other, &plan, &obligations), MaskError::Representation { column, found, required });

    let few = Plan { max_rows: 47, ..plan.clone() };
    assert_eq!(run(source(), &few, &obligations), MaskError::TooManyRows { found: 48, required: 47 });
    let few = Plan { limit: Some(3), ..plan.clone() };
    assert_eq!(run(source(), &few, &obligations), MaskError::TooManyRows { found: 48, required: 3 });

    let mut fewer = obligations.clone();
    fewer.columns.pop();
    assert_eq!(run(source(), &plan, &fewer), MaskError::Obligation("secret_profile".into()));
    let mut swapped = obligations.clone();
    swapped.columns.swap(0, 1);
    assert_eq!(run(source(), &plan, &swapped), MaskError::Obligation("id".into()));
    let mut shorter = plan.clone();
    shorter.columns.pop();
    assert_eq!(run(source(), &shorter, &obligations), MaskError::Obligation("secret_profile".into()));

    // A dictionary nested in a struct: it could carry entries that no row uses.
    let mut nested = source();
    let categories = Categories::global();
    let dictionary = Series::new("d".into(), vec!["x"; ROWS]).cast(&DataType::from_categories(categories)).unwrap();
    let profile = StructChunked::from_series("profile".into(), ROWS, [dictionary].iter()).unwrap().into_column();
    nested.with_column(profile).unwrap();
    let (column, found) = ("profile".into(), "struct[1]".into());
    let required = "struct(first text, second text, number int64)".into();
    assert_eq!(run(nested, &plan, &obligations), MaskError::Representation { column, found, required });

    let chunk = masked(source(), false);
    assert_eq!(chunk.part(40, 9).map(|_| ()).unwrap_err(), MaskError::Range { offset: 40, end: 49, rows: 48 });
    assert!(chunk.part(usize::MAX, 2).is_err());
    assert_eq!(masked(source().slice(0, 0), true).part(0, 0).unwrap().frame().height(), 0);
}

#[test]
fn a_seed_gives_one_order() {
    let ids = |seed: u8, rows: usize| -> Vec<i64> {
        let columns = vec![("id".to_owned(), ColumnType::Int64)];
        let obligation = ColumnObligation { column: "id".into(), class: "c".into(), rule: Rule::Clear, paths: vec![] };
        let limit = Limits { rows: 1000, bytes: 1000, seconds: 1 };
        let obligations = Obligations { columns: vec![obligation], rows: None, limit };
        let plan = Plan { columns, ..plan_and_obligations(true).0 };
        let frame = Int64Chunked::from_vec("id".into(), (0..rows as i64).collect()).into_column();
        let frame = DataFrame::new(rows, vec![frame]).unwrap();
        let chunk = mask(
            Clear::new(frame),
            &obligations,
            &plan,
            Means { keys: &TokenKeys::new([0; 32]), detectors: &Detectors::default(), purpose: "p" },
            [seed; 32],
        )
        .unwrap();
        let part = chunk.part(0, rows).unwrap();
        part.frame().column("id").unwrap().i64().unwrap().iter().flatten().collect()
    };
    let sorted = |mut ids: Vec<i64>| {
        ids.sort_unstable();
        ids
    };
    for rows in [0, 1, 2, 3, 100] {
        assert_eq!(sorted(ids(1, rows)), (0..rows as i64).collect::<Vec<_>>());
        assert_eq!(ids(1, rows), ids(1, rows));
    }
    assert_ne!(ids(1, 100), ids(2, 100));
    assert_ne!(ids(1, 100), sorted(ids(1, 100)));
    // Every order of three rows turns up, and none far too often.
    let mut counts = std::collections::BTreeMap::<Vec<i64>, usize>::new();
    (0..=255).for_each(|seed| *counts.entry(ids(seed, 3)).or_default() += 1);
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (20..70).contains(count)), "{counts:?}");
}

proptest! {
    /// Two frames that differ only in cells that nothing may be learned of give the same bytes and the same account.
    #[test]
    fn masked_output_does_not_depend_on_masked_input(
        clear in prop::collection::vec(prop::option::of(any::<i64>()), 0..20),
        secrets in prop::collection::vec((
            prop::option::of(".{0,20}"), prop::option::of(any::<i64>()),
            prop::option::of(".{0,20}"), prop::option::of(any::<i64>()),
        ), 20),
        masks in prop::collection::vec(prop::sample::select(vec!["null", "redact", "constant(\"x\")"]), 4),
        shuffle in any::<bool>(),
        seed in any::<[u8; 32]>(),
    ) {
        let types = [ColumnType::Text, ColumnType::Int64, ColumnType::Date, ColumnType::Float64];
        let rows = clear.len();
        let names = ["clear", "text", "int", "date", "float"];
        let rules = std::iter::once(Rule::Clear).chain(masks.iter().map(|mask| Rule::Mask(Mask::parse(mask).unwrap())));
        let columns = names.iter().zip(rules).map(|(name, rule)| ColumnObligation { column: (*name).into(), class: "c".into(), rule, paths: vec![] });
        let limit = Limits { rows: 1000, bytes: 1000, seconds: 1 };
        let obligations = Obligations { columns: columns.collect(), rows: None, limit };
        let types = std::iter::once(ColumnType::Int64).chain(types);
        let columns = names.iter().map(|name| (*name).to_owned()).zip(types).collect();
        let plan = Plan { columns, ..plan_and_obligations(shuffle).0 };
        let output = |second: bool| {
            let texts = secrets.iter().take(rows).map(|secret| if second { &secret.2 } else { &secret.0 }.as_deref());
            let numbers = || secrets.iter().take(rows).map(|secret| if second { secret.3 } else { secret.1 });
            let frame = DataFrame::new(rows, vec![
                Int64Chunked::from_iter_options("clear".into(), clear.iter().copied()).into_column(),
                StringChunked::from_iter_options("text".into(), texts).into_column(),
                Int64Chunked::from_iter_options("int".into(), numbers()).into_column(),
                Int32Chunked::from_iter_options("date".into(), numbers().map(|n| n.map(|n| n as i32))).into_date().into_column(),
                Float64Chunked::from_iter_options("float".into(), numbers().map(|n| n.map(|n| n as f64))).into_column(),
            ]).unwrap();
            let chunk = mask(Clear::new(frame), &obligations, &plan, Means { keys: &TokenKeys::new([1; 32]), detectors: &Detectors::default(), purpose: "p" }, seed).unwrap();
            let bytes: Vec<_> = encodings(chunk.part(0, rows).unwrap().frame());
            (bytes, chunk.account().to_vec())
        };
        prop_assert_eq!(output(false), output(true));
    }
}
