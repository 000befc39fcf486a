//! The filter language: what it reads and refuses, that its canonical text is read back, and that a frame filtered with
//! polars keeps exactly the rows that a plain row-by-row evaluation of the documented meaning keeps.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use countersign_masker::filter::{CompareOp, Condition, Literal, Predicate, ResolveError, parse, resolve, to_polars};
use countersign_masker::{ColumnType, TableSchema};
use polars::prelude::*;
use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq, strategy::Union};
use std::cmp::Ordering;

fn schema() -> TableSchema {
    let columns = [
        ("vip", ColumnType::Bool),
        ("age", ColumnType::Int16),
        ("id", ColumnType::Int64),
        ("big", ColumnType::UInt64),
        ("score", ColumnType::Float64),
        ("ratio", ColumnType::Float32),
        ("price", ColumnType::Decimal { precision: 10, scale: 2 }),
        ("exact", ColumnType::Numeric),
        ("country", ColumnType::Text),
        ("data", ColumnType::Binary),
        ("born", ColumnType::Date),
        ("at", ColumnType::Time),
        ("local", ColumnType::Timestamp),
        ("seen", ColumnType::TimestampTz),
        ("uuid", ColumnType::Uuid),
        ("doc", ColumnType::Json),
        ("order", ColumnType::Int32),
        ("not", ColumnType::Int32),
        ("a \"b\"", ColumnType::Int32),
    ];
    TableSchema { columns: columns.into_iter().map(|(name, column_type)| (name.to_owned(), column_type)).collect() }
}

fn check(text: &str, expect: &str) {
    let found = match parse(text).map_err(|error| error.to_string()) {
        Ok(condition) => match resolve(condition, &schema()) {
            Ok(predicate) => predicate.to_string(),
            Err(ResolveError::UnknownColumn(_)) => "unknown column".to_owned(),
            Err(error @ ResolveError::Type { .. }) => format!("type: {error}"),
        },
        Err(error) => error,
    };
    assert_eq!(found, expect, "{text}");
}

#[test]
fn reads_and_writes() {
    check(
        "country = 'DE' and (age >= 18 or vip = true) and born is not null and id in (1,2,3) and not (price < 5)",
        "country = 'DE' and (age >= 18 or vip = true) and born is not null and id in (1, 2, 3) and not (price < 5.00)",
    );
    check("a = 1", "unknown column");
    check("AGE = 1", "unknown column");
    check("age NOT IN (1) OR Vip = TRUE", "unknown column");
    check("age NOT IN (1) OR vip = TRUE", "not (age in (1)) or vip = true");
    check("country = 'it''s; drop table' ", "country = 'it''s; drop table'");
    check("country <> ''", "country != ''");
    check("\"not\"=1 and \"a \"\"b\"\"\" = -1 and order=2", "\"not\" = 1 and \"a \"\"b\"\"\" = -1 and order = 2");
    check("price = -0", "price = 0.00");
    check("price = 007.5", "price = 7.50");
    check("exact > 1.500", "exact > 1.5");
    check(
        "exact = 123456789012345678901234567890123456789012345",
        "exact = 123456789012345678901234567890123456789012345",
    );
    check("score = 1e3 or score = -2.5 or score = -0.0", "score = 1000.0 or score = -2.5 or score = 0.0");
    check("ratio = 0.1", "ratio = 0.10000000149011612");
    check("born = '2024-02-29' or born < date '1999-12-31'", "born = date '2024-02-29' or born < date '1999-12-31'");
    check("at = '08:00' or at > time '23:59:59.5'", "at = time '08:00:00' or at > time '23:59:59.500000'");
    check("local >= '2024-01-01 00:00:00'", "local >= timestamp '2024-01-01T00:00:00'");
    check("seen < timestamp '2024-01-01T02:00:00+02:00'", "seen < timestamp '2024-01-01T00:00:00Z'");
    check("uuid = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "uuid = uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'");
    check("doc is null and data is not null", "doc is null and data is not null");
    check("not not not vip=false", "not (not (not (vip = false)))");
    check("big = 18446744073709551615", "big = 18446744073709551615");
}

#[test]
fn refuses_what_does_not_fit() {
    let wrong = |text: &str, column_type: &str, reason: &str| {
        let column = text.split(' ').next().unwrap();
        check(text, &format!("type: column `{column}` has type {column_type}, which {reason}"));
    };
    wrong("vip = 1", "bool", "compares with `true` and `false` only");
    wrong("vip < true", "bool", "has no order");
    wrong("age = '18'", "int16", "compares with numbers only");
    wrong("age = 18.0", "int16", "compares with whole numbers only");
    wrong("age = 32768", "int16", "cannot hold so large a number");
    wrong("big = -1", "uint64", "cannot hold so large a number");
    wrong("id = 99999999999999999999999999999999999999999999", "int64", "compares with whole numbers only");
    wrong("score = 1e999", "float64", "cannot hold so large a number");
    wrong("ratio = 1e39", "float32", "cannot hold so large a number");
    wrong(
        "price = 0.001",
        "decimal(10, 2)",
        "compares only with numbers that it can hold, written without an exponent",
    );
    wrong(
        "price = 100000000",
        "decimal(10, 2)",
        "compares only with numbers that it can hold, written without an exponent",
    );
    wrong("price = 1e2", "decimal(10, 2)", "compares only with numbers that it can hold, written without an exponent");
    wrong("country = 5", "text", "compares with quoted text only");
    wrong("country = date '2020-01-01'", "text", "compares with quoted text only");
    wrong("born = '2023-02-29'", "date", "compares with quoted dates (`YYYY-MM-DD`) only");
    wrong("born = timestamp '2023-02-28'", "date", "compares with quoted dates (`YYYY-MM-DD`) only");
    wrong(
        "local = '2024-01-01 00:00:00Z'",
        "timestamp",
        "compares only with quoted timestamps (`YYYY-MM-DD HH:MM:SS`) without a zone",
    );
    wrong(
        "seen = '2024-01-01 00:00:00'",
        "timestamptz",
        "compares only with quoted timestamps (`YYYY-MM-DD HH:MM:SSZ`) with a zone",
    );
    wrong("uuid = 'x'", "uuid", "compares with quoted UUIDs only");
    wrong("doc = '{}'", "json", "compares with nothing, only `is null` and `is not null` apply");
    wrong("data in ('x')", "binary", "compares with nothing, only `is null` and `is not null` apply");
}

#[test]
fn refuses_what_is_no_filter() {
    for (text, expect) in [
        ("", "at byte 0: expected a column, found the end"),
        ("age", "at byte 3: expected an operator, found the end"),
        ("age =", "at byte 5: expected a value, found the end"),
        ("age = null", "at byte 6: expected a value; to find null cells, write `is null`"),
        ("age = 1 2", "at byte 8: expected `and`, `or` or the end, found `2`"),
        ("age = 1;", "at byte 7: `;` is not expected"),
        ("(age = 1", "at byte 8: expected `)`, found the end"),
        ("age in ()", "at byte 8: expected a value, found `)`"),
        ("age in (1,)", "at byte 10: expected a value, found `)`"),
        ("age is 1", "at byte 7: expected `null`, found `1`"),
        ("age not 1", "at byte 8: expected an operator, found `1`"),
        ("1 = age", "at byte 0: expected a column, found `1`"),
        ("null is null", "at byte 0: expected a column, found `null`"),
        ("age = 1.", "at byte 6: `1.` is no number"),
        ("age = 0x10", "at byte 6: `0x10` is no number"),
        ("age = --1", "at byte 6: `-` is no number"),
        ("age = +1", "at byte 6: `+` is not expected"),
        ("country = 'x", "at byte 10: the closing `'` is missing"),
        ("country = 'x\0'", "at byte 12: U+0000 stands in a quoted text"),
        ("born = date 5", "at byte 12: expected a quoted value after `date`"),
        ("born = date", "at byte 11: expected a quoted value after `date`"),
        ("age = other", "at byte 6: expected a value, found `other`"),
        ("lower(country) = 'x'", "at byte 5: expected an operator, found `(`"),
    ] {
        check(text, expect);
    }
}

#[test]
fn limits_are_kept() {
    let list = |count: usize| format!("id in ({})", vec!["1"; count].join(","));
    let nested = |depth: usize| format!("{}id = 1{}", "(".repeat(depth), ")".repeat(depth));
    let negated = |depth: usize| format!("{}id = 1", "not ".repeat(depth));
    assert!(parse(&list(256)).is_ok());
    assert!(parse(&list(257)).unwrap_err().reason.contains("at most 256"));
    assert!(parse(&nested(32)).is_ok());
    assert!(parse(&nested(33)).unwrap_err().reason.contains("at most 32"));
    assert!(parse(&negated(32)).is_ok());
    assert!(parse(&negated(33)).unwrap_err().reason.contains("at most 32"));
    assert!(parse(&format!("country = '{}'", "x".repeat(4096 - 12))).is_ok());
    assert_eq!(parse(&format!("country = '{}'", "x".repeat(4096 - 11))).unwrap_err().position, 4096);
}

// ---------------------------------------------------------------------------------------------------------------------------
// The meaning, evaluated row by row

/// One row of a frame with the columns of `typed`: a literal per column, `None` for null.
type Row = Vec<Option<Literal>>;

/// `None` is unknown.
fn evaluate(predicate: &Predicate, row: &Row, names: &[&str]) -> Option<bool> {
    let cell = |column: &str| row[names.iter().position(|name| *name == column).unwrap()].as_ref();
    let compare = |column: &str, op, value| Some(holds(order(cell(column)?, value), op));
    match predicate {
        Condition::Compare { column, op, value } => compare(column, *op, value),
        Condition::In { column, values } => {
            cell(column)?;
            Some(values.iter().any(|value| compare(column, CompareOp::Eq, value) == Some(true)))
        }
        Condition::IsNull { column, negated } => Some(cell(column).is_none() != *negated),
        Condition::And(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| evaluate(part, row, names)).collect();
            if parts.contains(&Some(false)) { Some(false) } else { (!parts.contains(&None)).then_some(true) }
        }
        Condition::Or(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| evaluate(part, row, names)).collect();
            if parts.contains(&Some(true)) { Some(true) } else { (!parts.contains(&None)).then_some(false) }
        }
        Condition::Not(part) => evaluate(part, row, names).map(|known| !known),
    }
}

fn holds(order: Ordering, op: CompareOp) -> bool {
    match op {
        CompareOp::Eq => order.is_eq(),
        CompareOp::Ne => order.is_ne(),
        CompareOp::Lt => order.is_lt(),
        CompareOp::Le => order.is_le(),
        CompareOp::Gt => order.is_gt(),
        CompareOp::Ge => order.is_ge(),
    }
}

fn order(cell: &Literal, value: &Literal) -> Ordering {
    let units = |number: &str| number.replace('.', "").parse::<i128>().unwrap();
    match (cell, value) {
        (Literal::Bool(a), Literal::Bool(b)) => a.cmp(b),
        (Literal::Int(a), Literal::Int(b)) => a.cmp(b),
        // NaN equals itself and is the greatest; the two zeros are equal.
        (Literal::Float(a), Literal::Float(b)) => a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
        (Literal::Decimal(a), Literal::Decimal(b)) => units(a).cmp(&units(b)),
        (Literal::Text(a), Literal::Text(b)) | (Literal::Uuid(a), Literal::Uuid(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Literal::Date(a), Literal::Date(b)) => a.cmp(b),
        (Literal::Time(a), Literal::Time(b))
        | (Literal::Timestamp(a), Literal::Timestamp(b))
        | (Literal::TimestampTz(a), Literal::TimestampTz(b)) => a.cmp(b),
        other => panic!("{other:?}"),
    }
}

/// The columns of generated frames and the few values that their cells and literals are drawn from, so that they meet.
fn typed() -> Vec<(&'static str, Vec<Literal>)> {
    let decimals = ["-1.50", "0.00", "0.01", "99999999.99"];
    vec![
        ("vip", vec![Literal::Bool(true), Literal::Bool(false)]),
        ("age", [-32768, -1, 0, 17, 18, 32767].map(Literal::Int).to_vec()),
        ("id", [i64::MIN, -1, 0, 9007199254740993, i64::MAX].map(|id| Literal::Int(id.into())).to_vec()),
        ("big", [0, 9007199254740993, 9007199254740992, u64::MAX].map(|id| Literal::Int(id.into())).to_vec()),
        ("score", [-0.0, 0.0, 0.1, 1e300, f64::NAN, f64::INFINITY, -5.5].map(Literal::Float).to_vec()),
        ("ratio", [0.0f32, 0.1, 0.25, f32::NAN, -1.0].map(|value| Literal::Float(value.into())).to_vec()),
        ("price", decimals.map(|number| Literal::Decimal(number.into())).to_vec()),
        ("country", ["", "DE", "de", "É", "it's", "日本"].map(|text| Literal::Text(text.into())).to_vec()),
        ("born", [-719_162, -1, 0, 19000].map(Literal::Date).to_vec()),
        ("at", [0, 1, 43_200_000_000, 86_399_999_999].map(Literal::Time).to_vec()),
        ("local", [-1, 0, 1_700_000_000_123_456].map(Literal::Timestamp).to_vec()),
        ("seen", [-1, 0, 1_700_000_000_123_456].map(Literal::TimestampTz).to_vec()),
        (
            "uuid",
            vec![
                Literal::Uuid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".into()),
                Literal::Uuid("00000000-0000-0000-0000-000000000000".into()),
            ],
        ),
    ]
}

/// What a filter's text can say: no NaN, no infinity, and one zero.
fn sayable(literal: &Literal) -> bool {
    !matches!(literal, Literal::Float(value) if !value.is_finite() || value.is_sign_negative() && *value == 0.0)
}

fn predicate() -> impl Strategy<Value = Predicate> {
    let leaves = typed().into_iter().map(|(name, values)| {
        let values: Vec<_> = values.into_iter().filter(sayable).collect();
        let value = prop::sample::select(values);
        let op = prop::sample::select(vec![
            CompareOp::Eq,
            CompareOp::Ne,
            CompareOp::Lt,
            CompareOp::Le,
            CompareOp::Gt,
            CompareOp::Ge,
        ]);
        let compare = (op, value.clone()).prop_map(move |(op, value)| {
            let op = match (op, &value) {
                (CompareOp::Ne, Literal::Bool(_)) => op,
                (_, Literal::Bool(_)) => CompareOp::Eq,
                _ => op,
            };
            Condition::Compare { column: name.into(), op, value }
        });
        let list =
            prop::collection::vec(value, 1..4).prop_map(move |values| Condition::In { column: name.into(), values });
        let null = any::<bool>().prop_map(move |negated| Condition::IsNull { column: name.into(), negated });
        prop_oneof![3 => compare, 1 => list, 1 => null].boxed()
    });
    Union::new(leaves).prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Condition::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Condition::Or),
            inner.prop_map(|part| Condition::Not(Box::new(part))),
        ]
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let cells = typed().into_iter().map(|(_, values)| prop::option::weighted(0.8, prop::sample::select(values)));
    prop::collection::vec(cells.collect::<Vec<_>>(), 0..24)
}

fn frame(rows: &[Row]) -> DataFrame {
    let schema = schema();
    let columns = typed().into_iter().enumerate().map(|(index, (name, _))| {
        let cells = rows.iter().map(|row| match &row[index] {
            None => AnyValue::Null,
            Some(Literal::Bool(value)) => AnyValue::Boolean(*value),
            Some(Literal::Int(value)) => AnyValue::Int128(*value),
            Some(Literal::Float(value)) => AnyValue::Float64(*value),
            Some(Literal::Decimal(number)) => AnyValue::Decimal(number.replace('.', "").parse().unwrap(), 10, 2),
            Some(Literal::Text(text) | Literal::Uuid(text)) => AnyValue::StringOwned(text.as_str().into()),
            Some(Literal::Date(days)) => AnyValue::Date(*days),
            Some(Literal::Time(micros)) => AnyValue::Time(micros * 1000),
            Some(Literal::Timestamp(micros) | Literal::TimestampTz(micros)) => AnyValue::Int64(*micros),
        });
        let cells: Vec<_> = cells.collect();
        let column_type = schema.column_type(name).unwrap();
        let dtype = column_type.dtype();
        let physical = if matches!(dtype, DataType::Datetime(..)) { DataType::Int64 } else { dtype.clone() };
        let series = Series::from_any_values_and_dtype(name.into(), &cells, &physical, false).unwrap();
        match dtype {
            DataType::Datetime(unit, zone) => series.into_datetime(unit, zone).into_column(),
            _ => series.into_column(),
        }
    });
    DataFrame::new(rows.len(), columns.collect()).unwrap()
}

proptest! {
    #[test]
    fn canonical_text_is_read_back(predicate in predicate()) {
        let text = predicate.to_string();
        let again = resolve(parse(&text).unwrap(), &schema()).unwrap();
        prop_assert_eq!(&again, &predicate, "{}", text);
        prop_assert_eq!(again.to_string(), text);
    }

    #[test]
    fn polars_keeps_the_rows_that_the_meaning_keeps(rows in rows(), predicate in predicate()) {
        let typed = typed();
        let names: Vec<_> = typed.iter().map(|(name, _)| *name).collect();
        let number = IdxCa::from_vec("row".into(), (0..rows.len() as IdxSize).collect()).into_column();
        let mut frame = frame(&rows);
        frame.with_column(number).unwrap();
        let kept = frame.lazy().filter(to_polars(&predicate)).select([col("row")]).collect().unwrap();
        let kept: Vec<_> = kept.column("row").unwrap().idx().unwrap().iter().flatten().map(|row| row as usize).collect();
        let expect: Vec<_> = (0..rows.len()).filter(|row| evaluate(&predicate, &rows[*row], &names) == Some(true)).collect();
        prop_assert_eq!(kept, expect, "{}", predicate);
    }

    #[test]
    fn no_text_panics(text in ".{0,80}") {
        if let Ok(condition) = parse(&text) {
            let _ = resolve(condition, &schema());
        }
    }

    /// Texts made of the language's own words reach further into the parser.
    #[test]
    fn no_sentence_panics(words in prop::collection::vec(prop::sample::select(vec![
        "and", "or", "not", "in", "is", "null", "(", ")", ",", "=", "<", ">=", "!=", "age", "vip", "born", "country", "price",
        "1", "-2.5", "1e5", "'x'", "'2020-01-01'", "date", "true", "\"age\"", "''",
    ]), 0..20)) {
        let text = words.join(" ");
        if let Ok(condition) = parse(&text) {
            let again = parse(&condition.to_string());
            prop_assert!(again.is_ok(), "{} / {}", text, condition);
            let _ = resolve(condition, &schema());
        }
    }
}

/// A list of the greatest length still filters, and quickly enough.
#[test]
fn a_long_list_filters() {
    let values: Vec<_> = (0..256).map(|value| Literal::Int(value * 2)).collect();
    let predicate: Predicate = Condition::In { column: "id".into(), values };
    let ids = Int64Chunked::from_vec("id".into(), (0..1000).collect()).into_column();
    let kept = DataFrame::new(1000, vec![ids]).unwrap().lazy().filter(to_polars(&predicate)).collect().unwrap();
    assert_eq!(kept.height(), 256);
}
