//! Loading catalogs and policies: what is read, and which line and reason a broken text gets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use countersign_masker::catalog::Limits;
use countersign_masker::{Catalog, ColumnType, Mask, Policies};
use proptest::prelude::{prop, proptest};

const CATALOG: &str = r#"purposes = ["reporting", "support"]
[classes."pii.email"]
mask = "email"
[classes.public]
mask = "redact"
[tables."shop.customers"]
key = "id"
max_rows = 10
[tables."shop.customers".columns]
id = { class = "public", type = "int64" }
email = "pii.email"
iban = { class = "pii.email", mask = "keep_last(4)" }
born = { class = "public", mask = "year_only", type = "date" }
[tables."warehouse.public.orders"]
"#;

#[test]
fn a_catalog_is_read() {
    let catalog = Catalog::parse("c.toml", CATALOG).unwrap();
    assert_eq!(catalog.purposes(), ["reporting", "support"]);
    assert_eq!(catalog.class_mask("pii.email"), Some(&Mask::Email));
    let names: Vec<_> = catalog.tables().map(|(connection, table, _)| (connection, table)).collect();
    assert_eq!(names, [("shop", "customers"), ("warehouse", "public.orders")]);
    let customers = catalog.table("shop", "customers").unwrap();
    assert_eq!(customers.key.as_deref(), Some("id"));
    assert_eq!(customers.limits, Limits { rows: 10, bytes: 67_108_864, seconds: 60 });
    let column = |name: &str| {
        let column = &customers.columns[name];
        (column.class.as_str(), column.mask.to_string(), column.column_type.clone())
    };
    assert_eq!(column("id"), ("public", "redact".into(), Some(ColumnType::Int64)));
    assert_eq!(column("email"), ("pii.email", "email".into(), None));
    assert_eq!(column("iban"), ("pii.email", "keep_last(4)".into(), None));
    assert_eq!(catalog.table("warehouse", "public.orders").unwrap().limits, Limits::default());
    assert_eq!(catalog.table("warehouse.public", "orders"), None);
    assert_ne!(catalog.digest(), Catalog::parse("c.toml", &format!("{CATALOG} ")).unwrap().digest());
}

#[test]
fn a_catalog_has_detectors_of_its_own() {
    let detectors = r#"
[detectors."acme.badge"]
pattern = 'B-\d{6}'
[detectors."acme.project"]
words = ["Blue Heron"]
context = ["project"]
"#;
    let catalog = Catalog::parse("c.toml", &format!("{CATALOG}{detectors}")).unwrap();
    let detectors = catalog.detectors();
    let hits =
        |text| detectors.detect(text, None).iter().map(|hit| (hit.class.to_owned(), hit.start)).collect::<Vec<_>>();
    assert_eq!(hits("B-123456 of ada@example.org"), [("acme.badge".into(), 0), ("pii.email".into(), 12)]);
    assert_eq!(hits("project blue heron"), [("acme.project".into(), 8)]);
    assert_eq!(hits("a blue heron"), []);
    let broken = |text: &str, expect: &str| {
        let error = Catalog::parse("c.toml", &format!("purposes = []\n{text}")).unwrap_err();
        assert_eq!(error.to_string(), format!("c.toml:{expect}"), "{text}");
    };
    broken("[detectors.x]\n", "2: detector `x` has not exactly one of `pattern` and `words`");
    broken("[detectors.x]\npattern = 'a'\nwords = []", "2: detector `x` has not exactly one of `pattern` and `words`");
    broken("[detectors.x]\npattern = 'a*'", "2: pattern of `x` matches empty text");
    broken("[detectors.X]\npattern = 'a'", "2: class `X` is not 1 to 64 of a-z, 0-9, `_`, `.` and `-`");
    broken(
        "[detectors.x]\nwords = ['a', 7]",
        "3: an entry of `words` has a wrong kind, found integer, required a string",
    );
    broken("[detectors.x]\nregex = 'a'", "3: unknown key `regex` in detector `x`, known are pattern, words, context");
}

/// Replaces `old` in the catalog above by `new` and expects `line: reason`.
fn broken(old: &str, new: &str, expect: &str) {
    assert!(CATALOG.contains(old), "{old}");
    let error = Catalog::parse("c.toml", &CATALOG.replacen(old, new, 1)).unwrap_err();
    assert_eq!(error.to_string(), format!("c.toml:{expect}"), "{new}");
}

#[test]
fn a_broken_catalog_names_line_and_reason() {
    broken("max_rows = 10", "max_rows 10", "8: key with no value, expected `=`");
    broken(
        "purposes",
        "purpose",
        "1: unknown key `purpose` in the catalog, known are purposes, classes, detectors, tables",
    );
    broken("[\"reporting\", \"support\"]", "5", "1: `purposes` has a wrong kind, found integer, required an array");
    broken("\"support\"", "\n\"Support\"", "2: purpose `Support` is not 1 to 64 of a-z, 0-9, `_`, `.` and `-`");
    broken("\"support\"", "\"reporting\"", "1: purpose `reporting` stands here twice");
    broken("\"pii.email\"]", "\"PII\"]", "2: class `PII` is not 1 to 64 of a-z, 0-9, `_`, `.` and `-`");
    broken("\"pii.email\"]", "unclassified]", "2: class `unclassified` is the one of columns that are not listed");
    broken("mask = \"email\"", "", "2: class `pii.email` has no `mask`");
    broken("mask = \"email\"", "masks = \"email\"", "3: unknown key `masks` in class `pii.email`, known are mask");
    broken(
        "mask = \"email\"",
        "mask = \"e-mail\"",
        "3: `e-mail` is no mask, known are null, redact, constant(\"text\"), keep_first(n), keep_last(n), detect, email, zip3, ip_prefix(a, b), year_only, truncate(unit), date_shift(days, domain), round(step), bucket(size), range(a, b, …), token(domain), ff1(domain, alphabet)",
    );
    broken("shop.customers\"]", "customers\"]", "6: table `customers` is not written as `connection.table`");
    broken("key = \"id\"", "key = \"ident\"", "7: key `ident` is not among the table's columns");
    broken("max_rows = 10", "max_rows = 0", "8: `max_rows` is not a whole number of 1 to 9007199254740991");
    broken("max_rows = 10", "max_rows = -1", "8: `max_rows` is not a whole number of 1 to 9007199254740991");
    broken(
        "max_rows = 10",
        "rows = 10",
        "8: unknown key `rows` in a table, known are key, max_rows, max_bytes, max_seconds, row_tree, columns, paths",
    );
    broken(
        "\"int64\"",
        "\"long\"",
        "10: unknown type `long`, known are bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64, decimal(p, s), numeric, text, binary, date, time, timestamp, timestamptz, uuid, json, text_array",
    );
    broken("email = \"pii.email\"", "email = \"pii.mail\"", "11: class `pii.mail` is not defined in `classes`");
    broken(
        "email = \"pii.email\"",
        "email = 5",
        "11: column `email` has a wrong kind, found integer, required a string or a table",
    );
    broken("email = \"pii.email\"", "email = { mask = \"null\" }", "11: column `email` has no `class`");
    broken("email = \"pii.email\"", "id = \"pii.email\"", "11: duplicate key");
    broken(
        "type = \"date\"",
        "type = \"int32\"",
        "13: mask `year_only` does not fit column `born` of type int32, fitting are null, redact, keep_first, keep_last, round, bucket, range, token, ff1",
    );
    broken(
        "\"pii.email\"\niban",
        "{ class = \"pii.email\", type = \"date\" }\niban",
        "11: mask `email` does not fit column `email` of type date, fitting are null, redact, year_only, truncate, date_shift",
    );
    assert_eq!(Catalog::parse("c.toml", "").unwrap_err().to_string(), "c.toml:1: `purposes` is missing");
}

fn policies(text: &str) -> Result<Vec<String>, String> {
    let policies = Policies::parse("p.cedar", text).map_err(|error| error.to_string())?;
    Ok(policies.ids().map(str::to_owned).collect())
}

#[test]
fn policies_are_read() {
    assert_eq!(policies(""), Ok(vec![]));
    let text = r#"// @id("comment")
        permit(principal, action == Action::"read", resource);
        @id("second") @approval("dpo") @mask("constant(\"-\")") @rows("a = 'x''y'") @limit("rows=5 , bytes = 7")
        permit(principal in Group::"g", action in [Action::"read"], resource is Column);
        @id("third") @approval("dpo") permit(principal, action in [Action::"read", Action::"read_clear"], resource);
        forbid(principal, action, resource) when { context.time > datetime("2024-01-01") };"#;
    assert_eq!(policies(text), Ok(["policy0", "policy3", "second", "third"].map(str::to_owned).to_vec()));
    let digest = |text: &str| Policies::parse("p", text).unwrap().digest();
    assert_ne!(digest(text), digest(&format!("{text} ")));
}

#[test]
fn broken_policies_name_line_and_reason() {
    let on_line_three = |policy: &str| {
        let text = format!("permit(principal, action == Action::\"read\", resource);\n// comment; \"@mask\n{policy}");
        let error = policies(&text).unwrap_err();
        error.strip_prefix("p.cedar:").unwrap().to_owned()
    };
    let check = |policy: &str, expect: &str| assert_eq!(on_line_three(policy), expect, "{policy}");
    let starts = |policy: &str, expect: &str| {
        let found = on_line_three(policy);
        assert!(found.starts_with(expect), "{policy}\n{found}");
    };
    let read = r#"permit(principal, action == Action::"read", resource);"#;
    let clear = r#"permit(principal, action == Action::"read_clear", resource);"#;
    let forbid = r#"forbid(principal, action == Action::"read", resource);"#;

    // Cedar's own errors.
    starts("permit(principal, action, resource)", "3: ");
    starts("permit(principal,\naction == Action::\"read\",\nresource) when { principal.name == 1 };", "5: ");
    starts("\nforbid(principal is User, action, resource);", "4: ");
    starts("permit(principal, action == Action::\"write\", resource);", "3: ");
    starts("permit(principal, action == Action::\"read\", resource)\nwhen { context.place == \"x\" };", "4: ");
    starts("permit(principal, action == Action::\"approve\", resource)\nwhen { context.purpose == \"x\" };", "4: ");
    starts("permit(principal, action == Action::\"read\", resource) when { context.on_behalf_of == \"x\" };", "3: ");
    // Policies that can never apply.
    starts("forbid(principal, action == Action::\"read\", resource is Table);", "3: ");
    starts("forbid(principal, action == Action::\"read\", resource) when { false };", "3: ");
    // Annotations.
    check(&format!("@aproval(\"dpo\")\n{read}"), "3: unknown annotation `@aproval`");
    check(&format!("@id(\"x\")\n@approval(\"dpo\")\n{forbid}"), "4: `@approval` on a forbid has no meaning");
    check(&format!("@note(\"x\") {forbid}"), "3: unknown annotation `@note`");
    check(&format!("@id(\"a b\") {read}"), "3: id `a b` is not 1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`");
    check(&format!("@id {read}"), "3: id `` is not 1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`");
    check(&format!("@id(\"policy0\") {read}"), "3: two policies are named `policy0`");
    check(&format!("@approval {read}"), "3: `@approval` names no group in ``");
    check(&format!("@rows(\"a = \")\n{read}"), "3: `@rows` at byte 4: expected a value, found the end");
    check(&format!("@limit(\"rows\") {read}"), "3: `@limit` has no whole number of 1 to 9007199254740991 for `rows`");
    check(&format!("@limit(\"row=5\") {read}"), "3: `@limit` knows rows, bytes, seconds and rate, found `row`");
    check(&format!("@limit(\"rows=5,rows=6\") {read}"), "3: `@limit` names `rows` twice");
    check(&format!("@limit(\"rate=5\") {read}"), "3: `@limit` has no `/minute` or `/hour` for `rate`");
    check(&format!("@limit(\"rate=5/day\") {read}"), "3: `@limit` has no `/minute` or `/hour` for `rate`");
    check(
        &format!("@limit(\"rate=/hour\") {read}"),
        "3: `@limit` has no whole number of 1 to 9007199254740991 for `rate`",
    );
    starts(&format!("@mask(\"none\") {read}"), "3: `none` is no mask, known are");
    check(
        &format!("@mask(\"null\") {clear}"),
        "3: `@mask` stands only on permits whose scope names no action but `read`",
    );
    let only = "3: `@approval` stands only on permits whose scope names no action but `read` and `read_clear`";
    check("@approval(\"dpo\") permit(principal, action, resource);", only);
    check("@approval(\"dpo\") permit(principal, action == Action::\"audit\", resource);", only);
    check("permit(principal == ?principal, action == Action::\"read\", resource);", "3: templates are not supported");
}

proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,60}") {
        let _ = Catalog::parse("c", &text);
        let _ = Policies::parse("p", &text);
        let _ = Mask::parse(&text);
        let _ = text.parse::<ColumnType>();
    }

    #[test]
    fn no_broken_text_panics(cut in 0..CATALOG.len(), insert in prop::sample::select(vec!["\"", "[", "{", "=", "\n", "é", "5"])) {
        let mut text = CATALOG.to_owned();
        text.insert_str(cut, insert);
        let _ = Catalog::parse("c", &text);
        text.truncate(cut);
        let _ = Catalog::parse("c", &text);
    }

    #[test]
    fn no_policy_panics(words in prop::collection::vec(prop::sample::select(vec![
        "permit", "forbid", "(", ")", "principal", ",", "action", "resource", ";", "==", "in", "Action::\"read\"", "when", "{", "}",
        "@id(\"x\")", "@mask(\"null\")", "@rows(\"a = 1\")", "true", "context.time", "?principal", "Group::\"é\"",
    ]), 0..16)) {
        let _ = Policies::parse("p", &words.join(" "));
    }
}

#[test]
fn types_are_read_back() {
    for name in [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float32",
        "float64",
        "numeric",
        "text",
        "binary",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "uuid",
        "json",
        "text_array",
        "decimal(38, 38)",
    ] {
        let column_type: ColumnType = name.parse().unwrap();
        assert_eq!(column_type.to_string(), name);
        let again = ColumnType::from_dtype(&column_type.dtype()).unwrap();
        assert_eq!(again.dtype(), column_type.dtype());
        assert!(column_type.is_represented_by(&again.dtype()));
    }
    for name in ["", "Int64", "decimal", "decimal(0, 0)", "decimal(39, 2)", "decimal(5, 6)", "decimal(5)", "list"] {
        assert!(name.parse::<ColumnType>().is_err(), "{name}");
    }
}
