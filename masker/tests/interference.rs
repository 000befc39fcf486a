//! What may not be learned makes no difference: two frames that differ only in what their masks hide give the same bytes in every
//! format, the same types, account and order of rows; where tokens are made, the same up to their names. Policies, columns, masks
//! and cells are drawn at random, and what is masked is what `decide` says of the policy.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use countersign_masker::decide::{Ask, Decision, Rule, Verdict};
use countersign_masker::detect::Detectors;
use countersign_masker::{
    Catalog, Clear, ColumnAccount, ColumnType, Mask, Means, Policies, Subject, TableSchema, TokenKeys, decide, mask,
};
use polars::prelude::*;
use polars_io::SerWriter;
use polars_io::ipc::IpcStreamWriter;
use polars_io::parquet::write::ParquetWriter;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;
use std::collections::HashMap;

/// A column for each kind of cell. `doc` and `who` have parts of their own.
const CATALOG: &str = r#"
purposes = ["reporting"]
[classes]
public = { mask = "redact" }
name = { mask = "keep_first(2)" }
mail = { mask = "email" }
amount = { mask = "bucket(10)" }
day = { mask = "year_only" }
code = { mask = "token(codes)" }
secret = { mask = "null" }
[tables."shop.people"]
key = "id"
[tables."shop.people".columns]
id = "public"
name = "name"
mail = "mail"
amount = "amount"
day = "day"
code = "code"
doc = "public"
who = "public"
[tables."shop.people".paths]
"doc.name" = "name"
"doc.deep.**.code" = "secret"
"**.mail" = "mail"
"who.name" = "secret"
"#;

fn schema() -> TableSchema {
    let column = |name: &str, column_type| (name.to_owned(), column_type);
    let who = ["name", "mail", "city"].map(|name| column(name, ColumnType::Text)).to_vec();
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64),
            column("name", ColumnType::Text),
            column("mail", ColumnType::Text),
            column("amount", ColumnType::Int64),
            column("day", ColumnType::Date),
            column("code", ColumnType::Text),
            column("doc", ColumnType::Json),
            column("who", ColumnType::List(Box::new(ColumnType::Struct(who)))),
        ],
    }
}

/// One row's material: what may be told of it, and twice what may not.
#[derive(Debug, Clone)]
struct Row {
    told: u8,
    hidden: [(u32, String); 2],
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    // Names that paths have elsewhere are hidden like any other; those of the documents' own paths are told.
    let word = || prop_oneof![4 => "[a-z]{1,14}".boxed(), 1 => select(vec!["doc", "who", "city"]).prop_map(str::to_owned).boxed()];
    let told = ["name", "mail", "deep", "code"];
    let hidden = move || (any::<u32>(), word().prop_filter("told", move |word| !told.contains(&word.as_str())));
    vec((any::<u8>(), hidden(), hidden()).prop_map(|(told, a, b)| Row { told: told % 23, hidden: [a, b] }), 0..14)
}

/// Texts of which the mask tells the same for both halves of a row.
fn text(mask: Option<&Mask>, row: &Row, half: usize) -> Option<String> {
    let (number, word) = &row.hidden[half];
    let told = (b'a' + row.told) as char;
    Some(match mask {
        None => format!("{told} clear"),
        Some(Mask::KeepFirst(kept)) => format!("{}{word}", told.to_string().repeat(*kept)),
        Some(Mask::KeepLast(kept)) => format!("{word}{}", told.to_string().repeat(*kept)),
        Some(Mask::Email) => format!("{told}{word}@{word}.{}", ["org", "com"][usize::from(row.told) % 2]),
        // A name that the same values share and no others, of one length.
        Some(Mask::Token(_)) => format!("{half}{told}"),
        Some(Mask::Null | Mask::Redact | Mask::Constant(_)) => {
            return (number % 3 != 0).then(|| word.repeat(*number as usize % 5));
        }
        Some(other) => panic!("{other}"),
    })
}

fn number(mask: Option<&Mask>, row: &Row, half: usize) -> Option<i64> {
    let (told, hidden) = (i64::from(row.told), i64::from(row.hidden[half].0));
    match mask {
        None => Some(told),
        Some(Mask::Bucket(_)) => Some(told * 10 + hidden % 10),
        Some(Mask::Range(_)) => Some(if told % 2 == 0 { hidden % 10 } else { 10 + hidden }),
        Some(Mask::Token(_)) => Some(told + 1000 * (1 + half as i64)),
        Some(Mask::Null | Mask::Redact) => (hidden % 3 != 0).then_some(hidden),
        Some(other) => panic!("{other}"),
    }
}

fn day(mask: Option<&Mask>, row: &Row, half: usize) -> Option<i32> {
    let (told, hidden) = (i32::from(row.told), row.hidden[half].0 as i32 & 0xffff);
    match mask {
        None => Some(told),
        // No leap years: 2001, 2002, 2003.
        Some(Mask::YearOnly) => Some(11_323 + told % 3 * 365 + hidden % 365),
        Some(Mask::Null | Mask::Redact) => (hidden % 3 != 0).then_some(hidden),
        Some(other) => panic!("{other}"),
    }
}

fn quoted(text: Option<String>) -> String {
    text.map_or("null".to_owned(), |text| format!("{text:?}"))
}

/// The column's own mask, and those of its paths.
type Masks<'a> = (Option<&'a Mask>, HashMap<String, Option<&'a Mask>>);

/// JSON text: under a masked column, what no path spells out is drawn for each half by itself, member names included.
fn document((own, paths): &Masks<'_>, row: &Row, half: usize) -> Option<String> {
    let (number, word) = &row.hidden[half];
    let name = quoted(text(paths["doc.name"], row, half));
    let mail = quoted(text(paths["**.mail"], row, half));
    // `null` takes whatever stands there.
    let code = match paths["doc.deep.**.code"] {
        None => "5".to_owned(),
        Some(_) => ["5", "\"x\"", "[1, {\"y\": null}]", "{\"z\": true}"][*number as usize % 4].to_owned(),
    };
    let (rest, more) = match own {
        None => (format!("\"told\": {}", row.told), String::new()),
        Some(_) => {
            (format!("\"{word}\": [{number}, \"{word}\"]"), format!(", \"{word}{number}\": {{\"name\": {mail}}}"))
        }
    };
    Some(format!(r#"{{"name": {name}, {rest}, "deep": {{"code": {code}, "mail": {mail}{more}}}}}"#))
}

fn masks<'a>(decision: &'a Decision, column: &str) -> Masks<'a> {
    let obligation = decision.obligations.columns.iter().find(|obligation| obligation.column == column).unwrap();
    let paths = obligation.paths.iter().map(|path| (path.path.to_string(), path.rule.mask())).collect();
    (obligation.rule.mask(), paths)
}

fn frame(decision: &Decision, rows: &[Row], half: usize) -> DataFrame {
    let own = |column: &str| masks(decision, column).0;
    let texts = |column: &str| {
        let mask = own(column);
        StringChunked::from_iter_options(column.into(), rows.iter().map(|row| text(mask, row, half))).into_column()
    };
    let amounts = rows.iter().map(|row| number(own("amount"), row, half));
    let days = rows.iter().map(|row| day(own("day"), row, half));
    let doc = masks(decision, "doc");
    let documents = rows.iter().map(|row| document(&doc, row, half));
    let who = masks(decision, "who");
    let part = |path: &str, row: &Row| match who.1.get(path) {
        Some(mask) => text(*mask, row, half),
        None => text(who.0, row, half),
    };
    // How many elements a list has that is crossed on the way is told.
    let lists = rows.iter().map(|row| {
        let cells = |path: &str| (0..row.told % 3).map(|_| part(path, row)).collect::<Vec<_>>();
        let fields = ["name", "mail", "city"].map(|name| {
            let path = if name == "mail" { "**.mail".to_owned() } else { format!("who.{name}") };
            Series::new(name.into(), cells(&path))
        });
        Some(StructChunked::from_series("".into(), usize::from(row.told % 3), fields.iter()).unwrap().into_series())
    });
    let empty = ["name", "mail", "city"].map(|name| Series::new_empty(name.into(), &DataType::String));
    let empty = StructChunked::from_series("".into(), 0, empty.iter()).unwrap().into_series();
    let mut lists = lists.collect::<Vec<_>>();
    lists.push(Some(empty));
    let lists = lists.into_iter().collect::<ListChunked>().with_name("who".into()).into_series();
    let who_type = schema().column_type("who").unwrap().dtype();
    let columns = vec![
        Int64Chunked::from_vec("id".into(), rows.iter().map(|row| i64::from(row.told)).collect()).into_column(),
        texts("name"),
        texts("mail"),
        Int64Chunked::from_iter_options("amount".into(), amounts).into_column(),
        Int32Chunked::from_iter_options("day".into(), days).into_date().into_column(),
        texts("code"),
        StringChunked::from_iter_options("doc".into(), documents).into_column(),
        lists.slice(0, rows.len()).cast(&who_type).unwrap().into_column(),
    ];
    DataFrame::new(rows.len(), columns).unwrap()
}

/// Everything that leaves, or stands in an entry.
#[derive(Debug, PartialEq)]
struct Output {
    bytes: Vec<Vec<u8>>,
    types: Vec<(String, ColumnType)>,
    account: Vec<ColumnAccount>,
}

/// With tokens in place of which stands what came first, second …
fn renamed(frame: &DataFrame) -> DataFrame {
    let mut frame = frame.clone();
    for name in ["code", "amount", "name"] {
        let Ok(text) = frame.column(name).unwrap().str().cloned() else { continue };
        let mut names = HashMap::new();
        let cells = text.iter().map(|cell| {
            let cell = cell?;
            if !cell.starts_with("tok_") {
                return Some(cell.to_owned());
            }
            let next = names.len();
            Some(format!("{:0width$}", *names.entry(cell.to_owned()).or_insert(next), width = cell.len()))
        });
        let cells = StringChunked::from_iter_options(name.into(), cells.collect::<Vec<_>>().into_iter());
        frame.with_column(cells.into_column()).unwrap();
    }
    frame
}

fn output(decision: &Decision, frame: DataFrame, seed: [u8; 32]) -> Output {
    let plan = decision.plan.as_ref().unwrap();
    let chunk = mask(
        Clear::new(frame),
        &decision.obligations,
        plan,
        Means { keys: &TokenKeys::new([5; 32]), detectors: &Detectors::default(), purpose: "reporting" },
        seed,
    )
    .unwrap();
    let rows = chunk.rows();
    let mut bytes = Vec::new();
    for (offset, len) in [(0, rows), (rows / 3, rows - rows / 3)] {
        let mut part = renamed(chunk.part(offset, len).unwrap().frame());
        let mut stream = Vec::new();
        IpcStreamWriter::new(&mut stream).with_compat_level(CompatLevel::oldest()).finish(&mut part).unwrap();
        let mut parquet = Vec::new();
        ParquetWriter::new(&mut parquet).finish(&mut part).unwrap();
        bytes.extend([stream, parquet]);
    }
    Output { bytes, types: chunk.columns().to_vec(), account: chunk.account().to_vec() }
}

/// Policies, some of which choose masks.
fn policy() -> impl Strategy<Value = String> {
    let class = || select(vec!["public", "name", "mail", "amount", "day", "code", "secret"]);
    let clear = class().prop_map(|class| {
        format!(
            "permit(principal, action == Action::\"read_clear\", resource) when {{ resource.class == \"{class}\" }};\n"
        )
    });
    let masked = (
        select(vec![
            ("name", "keep_last(3)"),
            ("name", "constant(\"x\")"),
            ("name", "token(names)"),
            ("mail", "redact"),
            ("amount", "range(10)"),
            ("amount", "token(codes)"),
            ("day", "null"),
            ("code", "redact"),
            ("secret", "redact"),
            ("public", "null"),
        ]),
        any::<bool>(),
    );
    // A name in JSON has to be of a kind that is drawn there, so tokens are for columns alone.
    let masked = masked.prop_map(|((class, mask), _)| {
        let unless = if mask.starts_with("token(n") { " && resource != Column::\"shop.people.doc\"" } else { "" };
        let mask = mask.replace('"', "\\\"");
        format!("@mask(\"{mask}\") permit(principal, action == Action::\"read\", resource) when {{ resource.class == \"{class}\"{unless} }};\n")
    });
    let forbid = class().prop_map(|class| {
        format!(
            "forbid(principal, action == Action::\"read_clear\", resource) when {{ resource.class == \"{class}\" }};\n"
        )
    });
    let none = Just(String::new());
    vec(prop_oneof![3 => clear, 3 => masked, 1 => forbid, 1 => none], 0..8).prop_map(|policies| {
        let read = "permit(principal, action == Action::\"read\", resource);\n";
        format!("{read}{}", policies.concat())
    })
}

fn decided(policy: &str) -> Decision {
    let catalog = Catalog::parse("catalog.toml", CATALOG).unwrap();
    let policies = Policies::parse("policies.cedar", policy).unwrap_or_else(|error| panic!("{error}\n{policy}"));
    let subject =
        Subject { id: "job".into(), groups: vec![], on_behalf_of: None, door: "kafka".into(), time: 1_700_000_000 };
    let columns = schema().columns.into_iter().map(|(name, _)| name).collect();
    let ask = Ask {
        connection: "shop".into(),
        table: "people".into(),
        columns,
        purpose: "reporting".into(),
        ..Ask::default()
    };
    decide(&policies, &catalog, Some(&schema()), &subject, &ask)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_hidden_makes_no_difference(policy in policy(), rows in rows(), seed in any::<[u8; 32]>()) {
        let decision = decided(&policy);
        prop_assert_eq!(&decision.verdict, &Verdict::Permit, "{}", policy);
        let [one, other] = [0, 1].map(|half| output(&decision, frame(&decision, &rows, half), seed));
        prop_assert_eq!(one.types, other.types);
        prop_assert_eq!(one.account, other.account);
        prop_assert!(one.bytes == other.bytes, "{policy}\n{:?}", decision.obligations);
    }

    /// Of all that a policy gives, a further `forbid` takes something or nothing, inside of columns too.
    #[test]
    fn a_further_forbid_never_gives_more(
        policy in policy(), class in select(vec!["public", "name", "mail", "secret"]), action in select(vec!["read", "read_clear"]),
    ) {
        let before = decided(&policy).obligations;
        let forbid = format!("forbid(principal, action == Action::\"{action}\", resource) when {{ resource.class == \"{class}\" }};");
        let after = decided(&format!("{policy}{forbid}"));
        // With the masks that the taken right's policies had chosen nothing else is said, so those alone are compared that are clear.
        let clear = |rule: &Rule| *rule == Rule::Clear;
        for column in &after.obligations.columns {
            let old = before.columns.iter().find(|old| old.column == column.column).unwrap();
            prop_assert!(!clear(&column.rule) || clear(&old.rule));
            for (path, old) in column.paths.iter().zip(&old.paths) {
                prop_assert!(!clear(&path.rule) || clear(&old.rule), "{}", path.path);
            }
        }
    }
}
