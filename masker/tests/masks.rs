//! What each mask does to a cell, through the whole of `mask`: one table of inputs and outputs per mask and type, and what
//! holds of tokens.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use countersign_masker::catalog::Limits;
use countersign_masker::decide::{ColumnObligation, Obligations, Rule};
use countersign_masker::{Clear, ColumnType, Mask, Plan, TokenKeys, mask};
use polars::prelude::*;
use proptest::prelude::{any, prop_assert, prop_assert_eq, prop_assert_ne, proptest};

/// Masks one column and returns its type and cells as they leave.
fn masked(rule: &str, column: Series, column_type: ColumnType, master: u8, purpose: &str) -> (ColumnType, Series) {
    let rows = column.len();
    let rule = Rule::Mask(Mask::parse(rule).unwrap());
    let limit = Limits { rows: 1000, bytes: 1000, seconds: 1 };
    let columns = vec![ColumnObligation { column: "c".into(), class: "x".into(), rule }];
    let obligations = Obligations { columns, rows: None, limit };
    let plan = Plan {
        columns: vec![("c".into(), column_type)],
        predicate: None,
        order_by: None,
        shuffle: false,
        limit: None,
        max_rows: 1000,
        max_bytes: 1000,
        max_seconds: 1,
    };
    let frame = DataFrame::new(rows, vec![column.with_name("c".into()).into_column()]).unwrap();
    let keys = TokenKeys::new([master; 32]);
    let chunk = mask(Clear::new(frame), &obligations, &plan, &keys, purpose, [0; 32]).unwrap();
    let part = chunk.part(0, rows).unwrap();
    (chunk.columns()[0].1.clone(), part.frame().column("c").unwrap().as_materialized_series().clone())
}

fn texts(rule: &str, cells: &[Option<&str>], column_type: ColumnType) -> Vec<Option<String>> {
    let column = StringChunked::from_iter_options("c".into(), cells.iter().copied()).into_series();
    let (column_type, masked) = masked(rule, column, column_type, 7, "reporting");
    assert_eq!(column_type, ColumnType::Text);
    masked.str().unwrap().iter().map(|cell| cell.map(str::to_owned)).collect()
}

fn check(rule: &str, cases: &[(&str, &str)]) {
    let cells: Vec<_> = cases.iter().map(|(cell, _)| Some(*cell)).collect();
    let expect: Vec<_> = cases.iter().map(|(_, expect)| (*expect != "NULL").then(|| (*expect).to_owned())).collect();
    assert_eq!(texts(rule, &cells, ColumnType::Text), expect, "{rule}");
}

#[test]
fn text() {
    check("redact", &[("", "[redacted]"), ("a", "[redacted]"), ("a long text of many words", "[redacted]")]);
    check("constant(\"a \\\"b\\\" \\\\\")", &[("", "a \"b\" \\"), ("x", "a \"b\" \\")]);
    check(
        "keep_first(2)",
        &[
            ("abc", "ab*****"),
            ("abcdefghijklmnopqrstuvwxyz", "ab*****"),
            ("ab", "[redacted]"),
            ("a", "[redacted]"),
            ("", "[redacted]"),
            ("日本語", "日本*****"),
            ("日本", "[redacted]"),
            ("👩‍👩‍👧", "👩\u{200d}*****"),
        ],
    );
    check(
        "keep_last(2)",
        &[
            ("abc", "*****bc"),
            ("DE89 3704 0044 0532 0130 00", "*****00"),
            ("ab", "[redacted]"),
            ("a", "[redacted]"),
            ("", "[redacted]"),
            ("日本語", "*****本語"),
            ("é1", "[redacted]"),
        ],
    );
    check(
        "email",
        &[
            ("ada@mail.example.org", "a***@***.org"),
            ("a@example.org", "***@***.org"),
            ("é@example.org", "***@***.org"),
            ("érica@example.org", "é***@***.org"),
            ("ADA@EXAMPLE.ORG", "A***@***.ORG"),
            ("ada@example", "[redacted]"),
            ("ada.example.org", "[redacted]"),
            ("ada@@example.org", "[redacted]"),
            ("ada@b@example.org", "[redacted]"),
            ("@example.org", "[redacted]"),
            ("ada@.org", "[redacted]"),
            ("ada@a..org", "[redacted]"),
            ("ada@example.o", "[redacted]"),
            ("ada@example.4111111111111111", "[redacted]"),
            ("ada@example.org, bob@example.org", "[redacted]"),
            ("Ada <ada@example.org>", "[redacted]"),
            ("", "[redacted]"),
        ],
    );
    check(
        "year_only",
        &[
            ("2024-02-29", "2024"),
            ("2024-02-29T10:00:00Z", "2024"),
            ("2024-02-29 10:00", "2024"),
            ("2023-02-29", "NULL"),
            ("2024-02-29x", "NULL"),
            ("29.02.2024", "NULL"),
            ("2024", "NULL"),
            ("日本語日本語", "NULL"),
            ("", "NULL"),
        ],
    );
    check("null", &[("a", "NULL"), ("", "NULL")]);
}

#[test]
fn nulls() {
    let cells = [None, Some("ada@example.org"), None];
    let one =
        |rule: &str| texts(rule, &cells, ColumnType::Text).into_iter().map(|cell| cell.is_none()).collect::<Vec<_>>();
    for rule in ["keep_first(1)", "keep_last(1)", "email", "token(d)"] {
        assert_eq!(one(rule), [true, false, true], "{rule}");
    }
    assert_eq!(one("year_only"), [true, true, true]);
    assert_eq!(one("null"), [true, true, true]);
    for rule in ["redact", "constant(\"x\")"] {
        assert_eq!(one(rule), [false, false, false], "{rule}");
    }
}

#[test]
fn other_types() {
    let integers =
        || Int64Chunked::from_iter_options("c".into(), [Some(-1234), None, Some(5)].into_iter()).into_series();
    let show = |rule: &str, column: Series, column_type: ColumnType| {
        let (column_type, masked) = masked(rule, column, column_type, 7, "reporting");
        assert_eq!(masked.dtype(), &column_type.dtype());
        let cells: Vec<_> = masked.iter().map(|cell| format!("{cell:?}")).collect();
        format!("{column_type} {}", cells.join(" "))
    };
    let expect = |column_type: &str, cells: Vec<AnyValue<'_>>| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:?}")).collect();
        format!("{column_type} {}", cells.join(" "))
    };
    use AnyValue::{Null, String as Text};
    let int64 = ColumnType::Int64;
    assert_eq!(
        show("keep_first(2)", integers(), int64.clone()),
        expect("text", vec![Text("-1*****"), Null, Text("[redacted]")])
    );
    assert_eq!(
        show("keep_last(1)", integers(), int64.clone()),
        expect("text", vec![Text("*****4"), Null, Text("[redacted]")])
    );
    // What doesn't fit the type becomes null; redact does so for all that isn't text.
    for rule in ["redact", "email", "year_only", "constant(\"0\")"] {
        assert_eq!(show(rule, integers(), int64.clone()), expect("int64", vec![Null; 3]), "{rule}");
    }

    static UTC: TimeZone = TimeZone::UTC;
    // 2023-11-14 and 1969-12-31 become the first day of their years; years that nobody writes become null.
    let days = Int32Chunked::from_vec("c".into(), vec![19_675, -1, 0, i32::MAX, i32::MIN]).into_date().into_series();
    let years = vec![AnyValue::Date(19_358), AnyValue::Date(-365), AnyValue::Date(0), Null, Null];
    assert_eq!(show("year_only", days.clone(), ColumnType::Date), expect("date", years));
    assert_eq!(show("keep_first(4)", days, ColumnType::Date), expect("date", vec![Null; 5]));
    let day = 86_400_000_000;
    let micros = Int64Chunked::from_vec("c".into(), vec![19_675 * day + 5, -1, i64::MAX]);
    let starts = |zone: Option<&'static TimeZone>| {
        let start = |days: i64| AnyValue::Datetime(days * day, TimeUnit::Microseconds, zone);
        vec![start(19_358), start(-365), Null]
    };
    let naive = micros.clone().into_datetime(TimeUnit::Microseconds, None).into_series();
    assert_eq!(show("year_only", naive, ColumnType::Timestamp), expect("timestamp", starts(None)));
    let utc = micros.into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)).into_series();
    assert_eq!(show("year_only", utc, ColumnType::TimestampTz), expect("timestamptz", starts(Some(&UTC))));
}

/// Tokens are made once and for ever: these texts, computed with another library (pyca/cryptography: HKDFExpand, AESSIV), may
/// not change.
#[test]
fn tokens_stay_what_they_are() {
    let tokens = texts("token(card)", &[Some(""), Some("4111111111111111"), None], ColumnType::Text);
    for token in tokens.iter().flatten() {
        assert!(token.starts_with("tok_"), "{token}");
    }
    // SIV and one block; SIV and two, since the padding always takes a byte.
    assert_eq!(tokens[0].as_ref().unwrap().len(), 4 + 43);
    assert_eq!(tokens[1].as_ref().unwrap().len(), 4 + 64);
    assert_eq!(tokens[2], None);
    assert_eq!(tokens[0].as_deref(), Some(TOKEN_OF_EMPTY));
    assert_eq!(tokens[1].as_deref(), Some(TOKEN_OF_CARD));
}

const TOKEN_OF_EMPTY: &str = "tok__Tm6GOpiSiYd_rPcpBOKP6WpM6Lp7eGNtz9BdrvZnl8";
const TOKEN_OF_CARD: &str = "tok_lKSced-Y9XYkdoJ9RRVxfbboLSAkaIm-7s2SxHkda5zAHBhyQmI7qRo1E1u_lI1F";

#[test]
fn tokens_join_across_types_and_split_across_domains_and_purposes() {
    let token = |rule: &str, column: Series, column_type: ColumnType, master: u8, purpose: &str| {
        let (_, masked) = masked(rule, column, column_type, master, purpose);
        masked.str().unwrap().get(0).unwrap().to_owned()
    };
    let text = || Series::new("c".into(), ["-42"]);
    let base = token("token(d)", text(), ColumnType::Text, 7, "reporting");
    assert_eq!(base, token("token(d)", Series::new("c".into(), [-42i64]), ColumnType::Int64, 7, "reporting"));
    assert_eq!(base, token("token(d)", Series::new("c".into(), [-42i16]), ColumnType::Int16, 7, "reporting"));
    assert_eq!(base, token("token(d)", text(), ColumnType::Json, 7, "reporting"));
    assert_ne!(base, token("token(e)", text(), ColumnType::Text, 7, "reporting"));
    assert_ne!(base, token("token(d)", text(), ColumnType::Text, 7, "support"));
    assert_ne!(base, token("token(d)", text(), ColumnType::Text, 8, "reporting"));
    // Domain and purpose don't run together.
    assert_ne!(
        token("token(ab)", text(), ColumnType::Text, 7, "c"),
        token("token(a)", text(), ColumnType::Text, 7, "bc")
    );
}

proptest! {
    #[test]
    fn tokens_are_equal_exactly_for_equal_cells(a in ".{0,40}", b in ".{0,40}") {
        let tokens = texts("token(d)", &[Some(&a), Some(&b), Some(&a)], ColumnType::Text);
        prop_assert_eq!(&tokens[0], &tokens[2]);
        prop_assert_eq!(tokens[0] == tokens[1], a == b);
        prop_assert_ne!(tokens[0].as_deref(), Some(a.as_str()));
    }

    /// At most the kept characters of a cell are left, and never all of it.
    #[test]
    fn kept_is_kept_and_no_more(cell in "\\PC{0,12}", kept in 1..6usize) {
        let first = texts(&format!("keep_first({kept})"), &[Some(&cell)], ColumnType::Text)[0].clone().unwrap();
        let last = texts(&format!("keep_last({kept})"), &[Some(&cell)], ColumnType::Text)[0].clone().unwrap();
        if cell.chars().count() <= kept {
            prop_assert_eq!((first.as_str(), last.as_str()), ("[redacted]", "[redacted]"));
        } else {
            let start: String = cell.chars().take(kept).collect();
            let end: String = cell.chars().skip(cell.chars().count() - kept).collect();
            prop_assert_eq!(first, format!("{start}*****"));
            prop_assert_eq!(last, format!("*****{end}"));
        }
    }

    #[test]
    fn no_email_comes_through(local in "[A-Z0-9.]{2,12}", domain in "[a-z]{2,10}", noise in any::<bool>()) {
        let cell = format!("{local}@{domain}.example{}", if noise { " " } else { "" });
        let masked = texts("email", &[Some(&cell)], ColumnType::Text)[0].clone().unwrap();
        prop_assert!(!masked.contains(&local) && !masked.contains(&format!("{domain}.")), "{} {}", cell, masked);
    }
}
