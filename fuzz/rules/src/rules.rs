//! Targets of the masker: texts that people write, and JSON that stands in cells.

use countersign_masker::catalog::Limits;
use countersign_masker::decide::{Ask, ColumnObligation, Obligations, PathObligation, Rule};
use countersign_masker::detect::Detectors;
use countersign_masker::path::{MAX_PATHS, Path};
use countersign_masker::{
    Catalog, Clear, ColumnType, Mask, Means, Plan, Policies, Subject, TableSchema, TokenKeys, decide, filter,
    mask as apply,
};
use polars::prelude::{AnyValue, DataFrame, IntoColumn, NamedFrom, Series};

/// A table with a column of every kind.
fn schema() -> TableSchema {
    let types = "int64 text bool float64 decimal(10,2) numeric date time timestamp timestamptz uuid json binary";
    let mut columns =
        types.split(' ').enumerate().map(|(n, name)| (format!("c{n}"), name.parse().unwrap())).collect::<Vec<_>>();
    let fields = vec![("email".to_owned(), ColumnType::Text), ("age".to_owned(), ColumnType::Int32)];
    columns.push(("profile".to_owned(), ColumnType::List(Box::new(ColumnType::Struct(fields)))));
    TableSchema { columns }
}

/// Only texts, of which the longer ones teach nothing more.
fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).ok().filter(|text| text.len() <= 4096).unwrap_or_default()
}

/// A catalog: what is loaded can be held against a table; what is not names a line of the text.
pub fn catalog(data: &[u8]) {
    let text = text(data);
    match Catalog::parse("catalog", text) {
        Ok(catalog) => {
            for (connection, table, _) in catalog.tables() {
                let _ = catalog.misfits(connection, table, &schema());
            }
        }
        Err(error) => assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}"),
    }
}

/// Policies and their annotations: what is loaded can be asked.
pub fn policy(data: &[u8]) {
    const CATALOG: &str = "purposes = [\"p\"]\n[classes]\npublic = { mask = \"redact\" }\n[tables.\"a.b\".columns]\nc0 = \"public\"\nc1 = \"public\"";
    let text = text(data);
    match Policies::parse("policy", text) {
        Ok(policies) => {
            let catalog = Catalog::parse("catalog", CATALOG).unwrap();
            let subject = Subject {
                id: "who".into(),
                groups: vec!["analysts".into()],
                on_behalf_of: None,
                door: "kafka".into(),
                time: 1_700_000_000,
            };
            let ask = Ask {
                connection: "a".into(),
                table: "b".into(),
                columns: vec!["c0".into(), "c1".into()],
                purpose: "p".into(),
                ..Ask::default()
            };
            let once = decide(&policies, &catalog, Some(&schema()), &subject, &ask);
            assert_eq!(once, decide(&policies, &catalog, Some(&schema()), &subject, &ask));
        }
        Err(error) => assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}"),
    }
}

/// A filter: what is read is written and read again as the same, and can be typed or not.
pub fn filter(data: &[u8]) {
    let Ok(parsed) = filter::parse(text(data)) else { return };
    assert_eq!(filter::parse(&parsed.to_string()), Ok(parsed.clone()));
    if let Ok(predicate) = filter::resolve(parsed, &schema()) {
        let _ = filter::to_polars(&predicate);
        assert!(filter::parse(&predicate.to_string()).is_ok());
    }
}

/// A mask: what is read is written and read again as the same, and stands where it should in the order.
pub fn mask(data: &[u8]) {
    if let Ok(mask) = Mask::parse(text(data)) {
        assert_eq!(Mask::parse(&mask.to_string()), Ok(mask.clone()));
        assert!(Mask::Null.at_least_as_restrictive(&mask) && mask.at_least_as_restrictive(&mask));
        for (_, column_type) in schema().columns {
            let _ = mask.fitted(&column_type);
        }
    }
}

/// A path: what is read is written and read again as the same.
pub fn path(data: &[u8]) {
    if let Ok(path) = text(data).parse::<Path>() {
        assert_eq!(path.to_string().parse(), Ok(path));
    }
}

/// A first line of paths with their masks (`c.a keep_first(1)`, separated by `;`), then a cell: what is JSON stays JSON.
pub fn json(data: &[u8]) {
    let Some((rules, cell)) = text(data).split_once('\n') else { return };
    let paths = rules.split(';').filter_map(|rule| {
        let (path, mask) = rule.trim().split_once(' ')?;
        let rule = Rule::Mask(Mask::parse(mask).ok()?);
        Some(PathObligation { path: path.parse().ok()?, class: "p".into(), rule })
    });
    let paths = paths.take(MAX_PATHS).collect::<Vec<_>>();
    for own in [Rule::Clear, Rule::Mask(Mask::Redact)] {
        let column = ColumnObligation { column: "c".into(), class: "c".into(), rule: own, paths: paths.clone() };
        let limit = Limits { rows: 9, bytes: 9, seconds: 9 };
        let obligations = Obligations { columns: vec![column], rows: None, limit };
        let plan = Plan {
            columns: vec![("c".into(), ColumnType::Json)],
            predicate: None,
            order_by: None,
            shuffle: false,
            limit: None,
            max_rows: 9,
            max_bytes: 9,
            max_seconds: 9,
        };
        let frame = DataFrame::new(1, vec![Series::new("c".into(), [cell]).into_column()]).unwrap();
        let (keys, detectors) = (TokenKeys::new([1; 32]), Detectors::default());
        let means = Means { keys: &keys, detectors: &detectors, purpose: "p" };
        let chunk = apply(Clear::new(frame), &obligations, &plan, means, [1; 32]).unwrap();
        let part = chunk.part(0, 1).unwrap();
        let is_json = |text: &str| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
        if let Ok(AnyValue::String(masked)) = part.frame().column("c").unwrap().get(0) {
            let is_walked = !paths.is_empty();
            assert!(!is_walked || is_json(masked), "{rules}\n{cell}\n{masked}");
        }
    }
}
