//! Masks inside of columns, through the whole of `mask`: structs and lists, JSON text, and what of a catalog doesn't fit a table.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use countersign_masker::catalog::Limits;
use countersign_masker::decide::{ColumnObligation, Obligations, PathObligation, Rule};
use countersign_masker::detect::Detectors;
use countersign_masker::{Catalog, Clear, ColumnType, Mask, MaskedChunk, Means, Plan, TableSchema, TokenKeys, mask};
use polars::prelude::*;

fn rule(text: &str) -> Rule {
    if text == "clear" { Rule::Clear } else { Rule::Mask(Mask::parse(text).unwrap()) }
}

/// Masks one column by its own rule and the rules of paths, which stand in the order of their texts.
fn chunk(column: Series, column_type: &ColumnType, own: &str, paths: &[(&str, &str)]) -> MaskedChunk {
    let rows = column.len();
    let mut paths = paths.to_vec();
    paths.sort_unstable();
    let paths = paths.iter().map(|(path, mask)| PathObligation {
        path: path.parse().unwrap(),
        class: "p".into(),
        rule: rule(mask),
    });
    let obligation =
        ColumnObligation { column: "c".into(), class: "x".into(), rule: rule(own), paths: paths.collect() };
    let limit = Limits { rows: 1000, bytes: 1000, seconds: 1 };
    let obligations = Obligations { columns: vec![obligation], rows: None, limit };
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
    mask(
        Clear::new(frame),
        &obligations,
        &plan,
        Means { keys: &TokenKeys::new([7; 32]), detectors: &Detectors::default(), purpose: "reporting" },
        [0; 32],
    )
    .unwrap()
}

/// The same: the column, its type, and for each path how much it addressed and replaced.
fn masked(
    column: Series,
    column_type: &ColumnType,
    own: &str,
    paths: &[(&str, &str)],
) -> (Series, ColumnType, Vec<(u64, u64)>) {
    let chunk = chunk(column, column_type, own, paths);
    let part = chunk.part(0, chunk.rows()).unwrap();
    let column = part.frame().column("c").unwrap().as_materialized_series().clone();
    let masked_type = chunk.columns()[0].1.clone();
    assert_eq!(*column.dtype(), masked_type.dtype());
    (column, masked_type, chunk.account()[0].paths.iter().map(|path| (path.seen, path.changed)).collect())
}

// ---------------------------------------------------------------------------------------------------------------------------
// JSON

/// Masks JSON texts of the type `json`.
fn json(own: &str, paths: &[(&str, &str)], cases: &[(&str, &str)]) {
    let cells = cases.iter().map(|(cell, _)| *cell);
    let column = StringChunked::from_iter_values("c".into(), cells).into_series();
    let (column, column_type, _) = masked(column, &ColumnType::Json, own, paths);
    assert_eq!(column_type, ColumnType::Json);
    let expected = cases.iter().map(|(_, masked)| (*masked != "NULL").then_some(*masked)).collect::<Vec<_>>();
    assert_eq!(column.str().unwrap().iter().collect::<Vec<_>>(), expected, "{own} {paths:?}");
}

#[test]
fn json_in_a_clear_column() {
    json(
        "clear",
        &[("c.emergency.ssn", "keep_last(4)"), ("**.email", "email"), ("c.age", "bucket(10)"), ("c.notes", "redact")],
        &[
            (r#"{"emergency":{"ssn":"123-45-6789"},"x":1.50}"#, r#"{"emergency":{"ssn":"*****6789"},"x":1.50}"#),
            (
                r#" { "a" : { "email" : "ada@mail.example.org" } , "email":null} "#,
                r#"{"a":{"email":"a***@***.org"},"email":null}"#,
            ),
            // Lists count for nothing on the way.
            (
                r#"[{"age":37},[{"age":-3}],{"age":12.75},{"age":"37"},{"age":true},{"age":1e2}]"#,
                r#"[{"age":30},[{"age":-10}],{"age":10},{"age":null},{"age":null},{"age":null}]"#,
            ),
            // Whatever stands there is replaced whole; a name can be written with escapes.
            (
                r#"{"notes":{"deep":[1,{"email":"ada@mail.example.org"}]},"n\u006ftes":7,"ssn":"1"}"#,
                r#"{"notes":"[redacted]","n\u006ftes":"[redacted]","ssn":"1"}"#,
            ),
            // Member names aren't cells, so what reads cells redacts an object.
            (r#"{"email":{"ada@mail.example.org":1},"emergency":5}"#, r#"{"email":"[redacted]","emergency":5}"#),
            (r#"{"email":["ada@mail.example.org",["x"]]}"#, r#"{"email":["a***@***.org",["[redacted]"]]}"#),
            ("5", "5"),
            ("{\"email\":\"a", "NULL"),
            ("", "NULL"),
            (r#"{"email":"\ud83d"}"#, "NULL"),
            (r#"{"email":"a\"b@c\u0001.org"}"#, r#"{"email":"[redacted]"}"#),
        ],
    );
}

#[test]
fn json_in_a_masked_column() {
    // Only what paths spell out is left, and what stands elsewhere on the way to it is masked.
    json(
        "redact",
        &[("c.contact.city", "clear"), ("c.contact.email", "email"), ("**.zip", "zip3")],
        &[
            (
                r#"{"id":7,"contact":{"city":"Bern","ada":1,"email":"ada@mail.example.org","zip":"02139"}}"#,
                r#"{"contact":{"city":"Bern","email":"a***@***.org","zip":"021"}}"#,
            ),
            (r#"{"contact":"secret","ada@mail.example.org":{"zip":"02139"}}"#, r#"{"contact":"[redacted]"}"#),
            (r#"{"contact":["secret",{"city":["Bern"]}]}"#, r#"{"contact":["[redacted]",{"city":["Bern"]}]}"#),
            (r#""secret""#, r#""[redacted]""#),
            ("secret", "NULL"),
        ],
    );
    // Where a name is no path's next step it tells nothing, though a path has it elsewhere.
    json(
        "redact",
        &[("c.a.zip", "clear"), ("**.mail", "email")],
        &[
            (r#"{"zip":"1","a":{"zip":"2","a":{"mail":"a@b.org"}},"c":{"mail":"a@b.org"}}"#, r#"{"a":{"zip":"2"}}"#),
            (r#"{"a":{"c":[],"mail":"ada@b.org"}}"#, r#"{"a":{"mail":"a***@***.org"}}"#),
        ],
    );
    json(
        "null",
        &[("c.a", "clear")],
        &[(r#"{"a":[1,{}],"b":2}"#, r#"{"a":[1,{}]}"#), ("7", "null"), ("[7]", "[null]")],
    );
    json("constant(\"\\\"x\")", &[("c.a", "clear")], &[(r#"[{"a":1,"b":2},3]"#, r#"[{"a":1},"\"x"]"#)]);
    json(
        "keep_first(1)",
        &[("c.a", "clear")],
        &[(r#"{"a":"abc","b":"abc"}"#, r#"{"a":"abc"}"#), (r#"["abc",1,true]"#, r#"["a*****","[redacted]",null]"#)],
    );
}

#[test]
fn the_more_restrictive_of_two_paths_counts() {
    let cases = [(r#"{"a":{"b":"abcd","c":"abcd"}}"#, r#"{"a":{"b":"[redacted]","c":"a*****"}}"#)];
    json("clear", &[("c.*.b", "keep_last(1)"), ("**.b", "keep_first(1)"), ("c.a.c", "keep_first(1)")], &cases);
    json("clear", &[("c.a", "keep_first(1)"), ("c.a.b", "clear")], &[(r#"{"a":"xyz"}"#, r#"{"a":"x*****"}"#)]);
    json("clear", &[("c.*", "clear"), ("c.a.b", "null")], &[(r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":null,"c":2}}"#)]);
}

#[test]
fn tokens_are_the_same_everywhere() {
    let column = |column_type: &str, cell: &str| {
        let cell = StringChunked::from_iter_values("c".into(), [cell].into_iter()).into_series();
        let column_type: ColumnType = column_type.parse().unwrap();
        let (masked, ..) = masked(cell.strict_cast(&column_type.dtype()).unwrap(), &column_type, "token(d)", &[]);
        masked.str().unwrap().get(0).unwrap().to_owned()
    };
    let token = |cell: &str| column("text", cell);
    for column_type in ["int32", "int64", "uint8", "json", "numeric"] {
        assert_eq!(column(column_type, "42"), token("42"), "{column_type}");
    }
    let expected = format!(r#"{{"a":"{}","b":"{}","c":"{}"}}"#, token("42"), token("42"), token("né"));
    json("clear", &[("c.*", "token(d)")], &[(r#"{"a":42,"b":"42","c":"n\u00e9"}"#, &expected)]);
    let fields = [Int64Chunked::from_vec("a".into(), vec![42]).into_series()];
    let column = StructChunked::from_series("c".into(), 1, fields.iter()).unwrap().into_series();
    let types = ColumnType::Struct(vec![("a".into(), ColumnType::Int64)]);
    let (masked, ..) = masked(column, &types, "clear", &[("c.a", "token(d)")]);
    assert_eq!(masked.struct_().unwrap().field_by_name("a").unwrap().str().unwrap().get(0), Some(&*token("42")));
}

#[test]
fn json_inside_text() {
    let cells = [Some(r#"{"ssn":"123","x":1}"#), Some("plain words"), None];
    let column = || StringChunked::from_iter_options("c".into(), cells.into_iter()).into_series();
    let (text, column_type, counts) = masked(column(), &ColumnType::Text, "clear", &[("c.ssn", "null")]);
    assert_eq!(column_type, ColumnType::Text);
    assert_eq!(
        text.str().unwrap().iter().collect::<Vec<_>>(),
        [Some(r#"{"ssn":null,"x":1}"#), Some("[redacted]"), None]
    );
    // What isn't JSON counts as one value of every path.
    assert_eq!(counts, [(2, 2)]);
    // A mask that hides nulls hides them here, too.
    let (text, ..) = masked(column(), &ColumnType::Text, "redact", &[("c.x", "clear")]);
    assert_eq!(
        text.str().unwrap().iter().collect::<Vec<_>>(),
        [Some(r#"{"x":1}"#), Some("[redacted]"), Some("\"[redacted]\"")]
    );
}

#[test]
fn values_are_counted() {
    let cells = [r#"{"a":"xy","b":{"c":1},"d":[null,"xy",true]}"#, r#"{"a":null}"#, "[]"];
    let column = StringChunked::from_iter_values("c".into(), cells.into_iter()).into_series();
    let paths = [("c.a", "keep_first(1)"), ("c.b", "redact"), ("c.d", "keep_first(1)"), ("**.c", "clear")];
    // In the order of their texts: `**.c` lies in what `c.b` replaces whole.
    let (_, _, counts) = masked(column, &ColumnType::Json, "clear", &paths);
    assert_eq!(counts, [(0, 0), (2, 1), (1, 1), (3, 2)]);
}

// ---------------------------------------------------------------------------------------------------------------------------
// Structs and lists

/// `{name: text, born: date, mails: list of {email: text, kind: int32}}`, the second row null, the last with a null list.
fn people() -> (Series, ColumnType) {
    let mail = |email: &[&str], kind: &[i32]| {
        let fields = [Series::new("email".into(), email), Series::new("kind".into(), kind)];
        StructChunked::from_series("".into(), email.len(), fields.iter()).unwrap().into_series()
    };
    let mails = [
        Some(mail(&["ada@mail.example.org", "x"], &[1, 2])),
        Some(mail(&["hidden@mail.example.org"], &[3])),
        Some(mail(&[], &[])),
        None,
    ];
    let mails = mails.into_iter().collect::<ListChunked>().with_name("mails".into()).into_series();
    let born = Series::new("born".into(), [1000, 2000, 3000, 4000]).cast(&DataType::Date).unwrap();
    let fields = [Series::new("name".into(), ["Ada", "Hidden", "Bob", ""]), born, mails];
    let column = StructChunked::from_series("c".into(), 4, fields.iter()).unwrap();
    let present = BooleanChunked::from_iter_values("".into(), [true, false, true, true].into_iter());
    let validity = present.downcast_iter().next().unwrap().values().clone();
    let field = |name: &str, field| (name.to_owned(), field);
    let mail = ColumnType::Struct(vec![field("email", ColumnType::Text), field("kind", ColumnType::Int32)]);
    let fields = vec![
        field("name", ColumnType::Text),
        field("born", ColumnType::Date),
        field("mails", ColumnType::List(Box::new(mail))),
    ];
    (column.with_outer_validity(Some(validity)).into_series(), ColumnType::Struct(fields))
}

fn shown(column: &Series) -> Vec<String> {
    column.iter().map(|cell| cell.to_string()).collect()
}

#[test]
fn structs_and_lists() {
    let (column, column_type) = people();
    let check = |own: &str, paths: &[(&str, &str)], expected: [&str; 4], counts: &[(u64, u64)]| {
        let (masked, _, counted) = masked(column.clone(), &column_type, own, paths);
        assert_eq!((&*shown(&masked), &*counted), (&expected.map(str::to_owned)[..], counts), "{own} {paths:?}");
    };
    let masked_mails = r#"{"Ada",1972-01-01,[{"a***@***.org",1}, {"[redacted]",2}]}"#;
    check(
        "clear",
        &[("c.born", "year_only"), ("**.email", "email")],
        [masked_mails, "null", r#"{"Bob",1978-01-01,[]}"#, r#"{"",1980-01-01,null}"#],
        &[(2, 2), (4, 3)],
    );
    // A mask that hides nulls hides which structs are null, too.
    check(
        "redact",
        &[("c.name", "clear")],
        [r#"{"Ada",null,null}"#, "{null,null,null}", r#"{"Bob",null,null}"#, r#"{"",null,null}"#],
        &[(4, 0)],
    );
    check(
        "clear",
        &[("c.mails", "redact"), ("c.born", "null"), ("c.name", "keep_first(1)")],
        [r#"{"A*****",null,null}"#, "null", r#"{"B*****",null,null}"#, r#"{"[redacted]",null,null}"#],
        &[(4, 4), (4, 4), (4, 3)],
    );
    let (_, masked_type, _) = masked(column.clone(), &column_type, "null", &[("c.mails.kind", "token(d)")]);
    let expected = "struct(name text, born date, mails list(struct(email text, kind text)))";
    assert_eq!(masked_type.to_string(), expected);
}

// ---------------------------------------------------------------------------------------------------------------------------
// What doesn't fit

#[test]
fn what_does_not_fit_a_table_is_named_by_line() {
    let text = r#"purposes = []
[classes]
mail = { mask = "email" }
day = { mask = "date_shift(30, d)" }
[tables."a.b".columns]
c = "mail"
doc = "mail"
plain = "mail"
born = "mail"
gone = "day"
[tables."a.b".paths]
"c.born" = "mail"
"c.mails.nothing" = "mail"
"c.mails" = { class = "mail", mask = "null" }
"doc.x" = "day"
"plain.x" = "mail"
"born.x" = "mail"
"**.kind" = { class = "mail", mask = "bucket(10)" }
"#;
    let catalog = Catalog::parse("catalog.toml", text).unwrap();
    let column = |name: &str, column_type| (name.to_owned(), column_type);
    let columns = vec![
        column("c", people().1),
        column("doc", ColumnType::Json),
        column("plain", ColumnType::Text),
        column("born", ColumnType::Date),
        column("tags", ColumnType::Unsupported("tsvector".into())),
    ];
    let misfits = catalog.misfits("a", "b", &TableSchema { columns });
    let misfits = misfits.iter().map(ToString::to_string).collect::<Vec<_>>();
    let people = people().1;
    let dates = "null, redact, year_only, truncate, date_shift";
    let expected = [
        format!("6: mask `email` does not fit column `c` of type {people}, fitting are null, redact"),
        "7: mask `email` does not fit column `doc` of type json, fitting are null, redact, constant, keep_first, keep_last, token".into(),
        format!("9: mask `email` does not fit column `born` of type date, fitting are {dates}"),
        format!("12: mask `email` does not fit `c.born` of type date, fitting are {dates}"),
        format!("13: path `c.mails.nothing` leads to nothing in column `c` of type {people}"),
        "15: mask `date_shift(30, d)` does not fit JSON text, fitting are null, redact, constant, keep_first, keep_last, detect, email, zip3, \
         ip_prefix, year_only, truncate, token, ff1 for strings, null, redact, keep_first, keep_last, round, bucket, range, token, ff1 for \
         whole numbers, null, redact, constant, keep_first, keep_last, round, bucket, range, token for others".into(),
        "17: path `born.x` leads into column `born` of type date, in which there is nothing".into(),
    ];
    assert_eq!(misfits, expected.map(|misfit| format!("catalog.toml:{misfit}")));
}

/// Hits of the detectors are counted for the path that had them looked for, of texts that could be read as a whole only.
#[test]
fn hits_are_counted_where_they_are() {
    let texts = [
        Some(
            r#"{"note": "mail ada@example.org, bob@example.org", "tags": ["10.1.2.3", "x"], "other": "eve@example.org"}"#,
        ),
        Some(r#"{"note": "ada@example.org" "broken": 1}"#),
        Some(r#"{"note": null, "tags": []}"#),
        None,
    ];
    let column = Series::new("c".into(), texts);
    let paths = [("c.note", "detect"), ("c.other", "redact"), ("c.tags", "detect")];
    let chunk_of = chunk(column, &ColumnType::Json, "redact", &paths);
    let account = &chunk_of.account()[0];
    assert_eq!(
        chunk_of.part(0, 4).unwrap().frame().column("c").unwrap().str().unwrap().get(0),
        Some(r#"{"note":"mail [pii.email], [pii.email]","tags":["[net.ip]","x"],"other":"[redacted]"}"#)
    );
    let hits =
        account.paths.iter().map(|path| path.hits.iter().map(|(class, n)| (class.as_str(), *n)).collect::<Vec<_>>());
    assert_eq!(hits.collect::<Vec<_>>(), [vec![("pii.email", 2)], vec![], vec![("net.ip", 1)]]);
    assert!(account.hits.is_empty());

    // What no path leads to is the column's own.
    let text = Series::new("c".into(), [r#"[{"a": "ada@example.org", "b": "bob@example.org"}, "10.1.2.3"]"#]);
    let chunk_of = chunk(text, &ColumnType::Text, "detect", &[("c.a", "clear"), ("c.b", "detect")]);
    let account = &chunk_of.account()[0];
    assert_eq!(account.hits, [("net.ip".to_owned(), 1)].into());
    assert_eq!(account.paths.iter().map(|path| path.hits.values().sum()).collect::<Vec<u64>>(), [0, 1]);
}
