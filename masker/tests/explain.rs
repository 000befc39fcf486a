//! What is explained is what is enforced: explanations, differences and idle rules are held against decisions made one by one; who may
//! have values back for tokens; and what a catalog lacks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use countersign_masker::coverage::gaps;
use countersign_masker::decide::{Ask, DenyReason, KeyRange, Rule, Verdict, decide};
use countersign_masker::detect::Detectors;
use countersign_masker::explain::{Doors, Idle, Rules, Schemas, diff, explain, facts, idle, summary};
use countersign_masker::propose::{profile, propose};
use countersign_masker::reidentify::{Question, reidentify};
use countersign_masker::{Catalog, Clear, ColumnType, Policies, Subject, TableSchema, TokenKeys};
use polars::prelude::{Column, DataFrame};
use proptest::prelude::*;
use std::collections::BTreeSet;

const CATALOG: &str = r#"
purposes = ["reporting", "support"]
[classes.public]
mask = "redact"
[classes."pii.email"]
mask = "email"
[classes."pii.number"]
mask = "token(people)"
[classes."fin.card"]
mask = "ff1(cards, digits)"
[tables."shop.customers"]
key = "id"
[tables."shop.customers".columns]
id = "public"
age = "public"
email = "pii.email"
number = "pii.number"
card = "fin.card"
[tables."shop.orders".columns]
id = "public"
customer = "pii.number"
"#;

const COLUMNS: [&str; 7] = ["id", "age", "email", "number", "card", "notes", "nope"];

fn catalog() -> Catalog {
    Catalog::parse("catalog.toml", CATALOG).unwrap()
}

fn schema() -> TableSchema {
    let types =
        [ColumnType::Int64, ColumnType::Int32, ColumnType::Text, ColumnType::Text, ColumnType::Text, ColumnType::Text];
    TableSchema { columns: COLUMNS.iter().map(ToString::to_string).zip(types).collect() }
}

fn policies(text: &str) -> Policies {
    Policies::parse("policy.cedar", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn subject(id: &str, groups: &[&str]) -> Subject {
    Subject {
        id: id.into(),
        groups: groups.iter().map(ToString::to_string).collect(),
        on_behalf_of: None,
        door: "kafka".into(),
        time: 1_700_000_000,
    }
}

const DOORS: Doors = Doors { approve: "approvals", audit: "http", reidentify: "http" };

/// Policies that random sets are made of.
const PARTS: [&str; 14] = [
    r#"permit (principal, action == Action::"read", resource);"#,
    r#"permit (principal in Group::"a", action == Action::"read", resource) when { resource.class like "pii.*" };"#,
    r#"permit (principal in Group::"b", action == Action::"read_clear", resource in Table::"shop.customers");"#,
    r#"permit (principal == Identity::"kim", action in [Action::"read", Action::"read_clear"], resource) when { context.purpose == "support" };"#,
    r#"@mask("keep_first(2)") permit (principal in Group::"a", action == Action::"read", resource == Column::"shop.customers.email");"#,
    r#"@mask("keep_last(2)") permit (principal in Group::"b", action == Action::"read", resource);"#,
    r#"@approval("owners") permit (principal in Group::"a", action == Action::"read_clear", resource) when { resource.class == "pii.email" };"#,
    r#"@rows("age >= 18") permit (principal in Group::"b", action == Action::"read", resource);"#,
    r#"@rows("nope = 1") permit (principal == Identity::"max", action == Action::"read", resource);"#,
    r#"@limit("rows=10") permit (principal in Group::"a", action == Action::"read", resource == Column::"shop.customers.id");"#,
    r#"forbid (principal in Group::"c", action == Action::"read", resource) when { resource.class == "pii.number" };"#,
    r#"forbid (principal, action == Action::"read_clear", resource == Column::"shop.customers.number");"#,
    r#"forbid (principal == Identity::"ann", action, resource) when { 9223372036854775807 + 1 > 0 };"#,
    r#"permit (principal in Group::"a", action == Action::"reidentify", resource) when { context.purpose == "support" };"#,
];

fn any_policies() -> impl Strategy<Value = Policies> {
    proptest::collection::btree_set(0..PARTS.len(), 0..PARTS.len()).prop_map(|chosen| {
        let parts = chosen.into_iter().map(|at| format!("@id(\"p{at}\")\n{}", PARTS[at]));
        policies(&parts.collect::<Vec<_>>().join("\n"))
    })
}

fn any_subject() -> impl Strategy<Value = Subject> {
    let groups = proptest::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    (proptest::sample::select(vec!["kim", "max", "ann", "zoe", "ida"]), groups)
        .prop_map(|(id, groups)| subject(id, &groups))
}

fn any_ask() -> impl Strategy<Value = Ask> {
    let filter = proptest::option::of(proptest::sample::select(vec!["age > 5", "email = 'x'", "age = ", "nope = 1"]));
    let range = proptest::option::of(proptest::sample::select(vec!["id", "number"]));
    let columns = proptest::sample::subsequence(COLUMNS.to_vec(), 0..=4).prop_shuffle();
    let purpose = proptest::sample::select(vec!["reporting", "support", "fun"]);
    (columns, filter, range, purpose).prop_map(|(columns, filter, range, purpose)| Ask {
        connection: "shop".into(),
        table: "customers".into(),
        columns: columns.iter().map(ToString::to_string).collect(),
        filter: filter.map(str::to_owned),
        range: range.map(|column| KeyRange { column: column.into(), from: Some(1.into()), to: None }),
        limit: None,
        purpose: purpose.into(),
    })
}

fn single(column: &str, purpose: &str) -> Ask {
    Ask {
        connection: "shop".into(),
        table: "customers".into(),
        columns: vec![column.into()],
        purpose: purpose.into(),
        ..Ask::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_explained_is_what_is_enforced(policies in any_policies(), subject in any_subject(), ask in any_ask()) {
        let (catalog, schema) = (catalog(), schema());
        let explained = explain(&policies, &catalog, Some(&schema), &subject, &ask);
        prop_assert_eq!(&explained.decision, &decide(&policies, &catalog, Some(&schema), &subject, &ask));
        let obliged = &explained.decision.obligations.columns;
        for (at, column) in explained.columns.iter().enumerate() {
            let (Ok(clear), Ok(read)) = (&column.read_clear, &column.read) else {
                prop_assert!(matches!(column.alone.verdict, Verdict::Deny(_)));
                prop_assert!(matches!(explained.decision.verdict, Verdict::Deny(_)));
                continue;
            };
            let forbidden = !read.allowed && !read.policies.is_empty();
            let none = forbidden || !(read.allowed || clear.allowed) || !column.exists;
            let permitted = !matches!(explained.decision.verdict, Verdict::Deny(_));
            prop_assert!(!(none && permitted), "{} is in an answer that it has no part in", column.column);
            if ask.purpose != "fun" && none {
                prop_assert_eq!(&column.alone.verdict, &Verdict::Deny(DenyReason::Forbidden));
            }
            if let Some(obligation) = obliged.get(at) {
                // How a column leaves does not depend on what else is asked for.
                prop_assert_eq!(obligation, &column.alone.obligations.columns[0]);
                let listed = catalog.table("shop", "customers").unwrap().columns.contains_key(&column.column);
                prop_assert_eq!(obligation.rule == Rule::Clear, clear.allowed && listed);
            }
        }
    }

    #[test]
    fn the_facts_that_are_kept_are_enough(policies in any_policies(), subject in any_subject(), ask in any_ask()) {
        let (catalog, schema) = (catalog(), schema());
        let kept = facts(&policies, &schema, &ask);
        let whole = decide(&policies, &catalog, Some(&schema), &subject, &ask);
        prop_assert_eq!(decide(&policies, &catalog, Some(&kept), &subject, &ask), whole);
    }

    #[test]
    fn differences_are_those_of_decisions(
        old in any_policies(),
        new in any_policies(),
        subjects in proptest::collection::vec(any_subject(), 0..5),
    ) {
        let (catalog, schema) = (catalog(), schema());
        let mut subjects = subjects;
        subjects.sort_by(|a, b| a.id.cmp(&b.id));
        subjects.dedup_by(|a, b| a.id == b.id);
        let schemas = Schemas::from([(("shop".into(), "customers".into()), schema.clone())]);
        let rules = |policies| Rules { policies, catalog: &catalog };
        let told = diff(rules(&old), rules(&new), &schemas, &subjects, DOORS);
        let told = told.iter().filter(|d| d.action == "read" && d.resource.starts_with("shop.customers."));
        let told = told.map(|d| (d.identity.clone(), d.resource.clone(), d.purpose.clone().unwrap(), d.old.clone(), d.new.clone()));
        let mut expected = BTreeSet::new();
        for subject in &subjects {
            for (column, _) in &schema.columns {
                for purpose in catalog.purposes() {
                    let say = |policies| summary(&decide(policies, &catalog, Some(&schema), subject, &single(column, purpose)));
                    let (was, is) = (say(&old), say(&new));
                    if was != is {
                        expected.insert((subject.id.clone(), format!("shop.customers.{column}"), purpose.clone(), was, is));
                    }
                }
            }
        }
        prop_assert_eq!(told.collect::<BTreeSet<_>>(), expected);
        prop_assert!(diff(rules(&old), rules(&old), &schemas, &subjects, DOORS).is_empty());
    }

    #[test]
    fn idle_policies_never_determine_anything(policies in any_policies(), subjects in proptest::collection::vec(any_subject(), 0..5)) {
        let (catalog, schema) = (catalog(), schema());
        let schemas = Schemas::from([(("shop".into(), "customers".into()), schema.clone())]);
        let idle = idle(Rules { policies: &policies, catalog: &catalog }, &schemas, &subjects, DOORS);
        for subject in &subjects {
            for (column, _) in &schema.columns {
                for purpose in catalog.purposes() {
                    let explained = explain(&policies, &catalog, Some(&schema), subject, &single(column, purpose));
                    let said = [&explained.columns[0].read, &explained.columns[0].read_clear];
                    let named = said.into_iter().flatten().flat_map(|said| &said.policies);
                    for id in named.chain(&explained.decision.policies) {
                        prop_assert!(!idle.policies.contains(id), "`{}` says something to {}", id, subject.id);
                    }
                    let readable = !matches!(explained.decision.verdict, Verdict::Deny(_));
                    let unread = idle.columns.contains(&format!("shop.customers.{column}"));
                    prop_assert!(!(readable && unread), "{} can be read by {}", column, subject.id);
                }
            }
        }
    }
}

#[test]
fn what_nobody_meets_is_found() {
    let text = r#"
        @id("used") permit (principal in Group::"a", action == Action::"read", resource) when { resource.class == "public" };
        @id("behind") permit (principal in Group::"a", action == Action::"read", resource == Column::"shop.customers.id");
        @id("nobody") permit (principal in Group::"left", action == Action::"read", resource);
        @id("no-class") permit (principal, action == Action::"read", resource) when { resource.class == "gone" };
        @id("no-table") forbid (principal, action, resource in Table::"shop.gone");
        @id("no-purpose") forbid (principal, action == Action::"read", resource) when { context.purpose == "fun" };
        @id("forbids") forbid (principal, action == Action::"read_clear", resource == Column::"shop.customers.email");
        @id("approves") permit (principal in Group::"a", action == Action::"approve", resource) when { context.door == "approvals" };
        @id("audits") permit (principal in Group::"a", action == Action::"audit", resource) when { context.door == "http" };
        @id("other-door") permit (principal in Group::"a", action == Action::"audit", resource) when { context.door == "kafka" };
        @id("gives-back") permit (principal in Group::"a", action == Action::"reidentify", resource == Column::"shop.orders.customer");"#;
    let (policies, catalog) = (policies(text), catalog());
    let schemas = Schemas::from([(("shop".into(), "customers".into()), schema())]);
    let rules = Rules { policies: &policies, catalog: &catalog };
    let columns = ["customers.card", "customers.email", "customers.notes", "customers.number", "orders.customer"];
    let expected = Idle {
        policies: ["no-class", "no-purpose", "no-table", "nobody", "other-door"].map(str::to_owned).into(),
        columns: columns.map(|column| format!("shop.{column}")).into(),
    };
    assert_eq!(idle(rules, &schemas, &[subject("kim", &["a"])], DOORS), expected);
    let all = idle(rules, &schemas, &[], DOORS);
    assert_eq!((all.policies.len(), all.columns.len()), (11, 0), "nobody asks about nothing");
}

#[test]
fn values_are_given_back_to_those_with_the_right() {
    let give = r#"permit (principal in Group::"a", action == Action::"reidentify", resource) when { context.purpose == "support" };"#;
    let one = r#"permit (principal, action == Action::"reidentify", resource == Column::"shop.customers.number");"#;
    let both =
        r#"permit (principal, action == Action::"reidentify", resource) when { resource.class == "pii.number" };"#;
    let but = r#"@id("no") forbid (principal, action == Action::"reidentify", resource in Table::"shop.orders");"#;
    let bad = r#"@id("bad") forbid (principal, action == Action::"reidentify", resource) when { 9223372036854775807 + 1 > 0 };"#;
    let all = r#"permit (principal, action == Action::"reidentify", resource);"#;
    let masked = |mask: &str, resource: &str| {
        format!(r#"@mask("{mask}") permit (principal in Group::"b", action == Action::"read", {resource});"#)
    };
    let also = masked("token(people)", r#"resource == Column::"shop.customers.email""#);
    let within = masked("token(people)", r#"resource in Table::"shop.orders""#);
    let same = masked("token(people)", r#"resource == Column::"shop.orders.customer""#);
    let anywhere = masked("token(people)", "resource");
    let other = masked("token(others)", "resource");
    type Case =
        (&'static str, String, &'static str, &'static str, Result<(&'static str, &'static [&'static str]), DenyReason>);
    let cases: &[Case] = &[
        ("by group and purpose", give.into(), "number", "support", Ok(("token(people)", &["policy0"]))),
        ("ff1", give.into(), "card", "support", Ok(("ff1(cards, digits)", &["policy0"]))),
        ("another purpose", give.into(), "number", "reporting", Err(DenyReason::Forbidden)),
        ("no purpose", give.into(), "number", "fun", Err(DenyReason::BadPurpose)),
        ("nothing to undo", give.into(), "email", "support", Err(DenyReason::Forbidden)),
        ("not in the catalog", give.into(), "notes", "support", Err(DenyReason::Forbidden)),
        ("one column of two with one domain", one.into(), "number", "support", Err(DenyReason::Forbidden)),
        ("both of them", both.into(), "number", "support", Ok(("token(people)", &["policy0"]))),
        ("forbidden for the other", format!("{both}{but}"), "number", "support", Err(DenyReason::Forbidden)),
        ("a policy that fails", format!("{both}{bad}"), "number", "support", Err(DenyReason::PolicyError)),
        ("masked so by a policy", format!("{both}{also}"), "number", "support", Err(DenyReason::Forbidden)),
        (
            "with the right to that, too",
            format!("{all}{also}"),
            "number",
            "support",
            Ok(("token(people)", &["policy0"])),
        ),
        ("masked so in a table", format!("{both}{within}"), "number", "support", Err(DenyReason::Forbidden)),
        ("masked so, as it is", format!("{both}{same}"), "number", "support", Ok(("token(people)", &["policy0"]))),
        ("masked so anywhere", format!("{both}{anywhere}"), "number", "support", Err(DenyReason::Forbidden)),
        (
            "masked in another domain",
            format!("{both}{other}"),
            "number",
            "support",
            Ok(("token(people)", &["policy0"])),
        ),
        ("no policy", String::new(), "number", "support", Err(DenyReason::Forbidden)),
        ("reading is not the right", PARTS[0].into(), "number", "support", Err(DenyReason::Forbidden)),
    ];
    for (what, text, column, purpose, expected) in cases {
        let question = Question {
            connection: "shop".into(),
            table: "customers".into(),
            column: (*column).into(),
            purpose: (*purpose).into(),
        };
        let answer = reidentify(&policies(text), &catalog(), &subject("kim", &["a"]), &question);
        let told = answer.answer.as_ref().map(|undo| undo.rule().to_string()).map_err(|reason| *reason);
        assert_eq!(told, expected.map(|(rule, _)| rule.to_owned()), "{what}");
        match expected {
            Ok((_, ids)) => assert_eq!(answer.policies, *ids, "{what}"),
            Err(DenyReason::PolicyError) => assert_eq!(answer.policies, ["bad"], "{what}"),
            Err(_) => assert!(answer.policies.is_empty(), "{what}: a refusal names no policy"),
        }
    }
    let question = Question {
        connection: "shop".into(),
        table: "customers".into(),
        column: "number".into(),
        purpose: "support".into(),
    };
    let undo = reidentify(&policies(give), &catalog(), &subject("kim", &["a"]), &question).answer.unwrap();
    assert!(!undo.needs_type() && undo.reveal(&TokenKeys::new([7; 32]), &ColumnType::Text, None, "no token").is_err());
}

#[test]
fn gaps_of_a_catalog() {
    let text = r#"
        purposes = []
        [classes]
        a = { mask = "redact" }
        b = { mask = "email" }
        [tables."c.t".columns]
        id = { class = "a", type = "int64" }
        old = "a"
        day = "b"
        "#;
    let catalog = Catalog::parse("catalog.toml", text).unwrap();
    let table = catalog.table("c", "t").unwrap();
    let check = |columns: &[(&str, ColumnType)], expected: &[&str]| {
        let columns = columns.iter().map(|(name, column_type)| ((*name).to_owned(), column_type.clone())).collect();
        let found = gaps(table, Some(&TableSchema { columns })).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found, expected);
    };
    let (int, text) = (ColumnType::Int64, ColumnType::Text);
    check(&[("id", int.clone()), ("old", text.clone()), ("day", text.clone())], &[]);
    check(
        &[("id", ColumnType::Int32), ("new", text.clone()), ("day", ColumnType::Date)],
        &[
            "`id` is int32, the catalog states int64",
            "`new` (text) has no class: it is redacted by default",
            "`day` is date, which its mask `email` does not fit: requests for it are denied",
            "`old` is gone, maybe renamed to `new`",
        ],
    );
    check(
        &[("x", int), ("y", text)],
        &[
            "`x` (int64) has no class: it is redacted by default",
            "`y` (text) has no class: it is redacted by default",
            "`day` is gone",
            "`id` is gone",
            "`old` is gone",
        ],
    );
    assert_eq!(gaps(table, None).iter().map(ToString::to_string).collect::<Vec<_>>(), ["the source has no such table"]);
}

/// What a column of texts would be called.
fn proposed(name: &str, cells: &[Option<&str>], detectors: &Detectors) -> (Option<String>, u8, String) {
    let column = Column::new(name.into(), cells);
    let frame = DataFrame::new(cells.len(), vec![column]).unwrap();
    let profiles = profile(Clear::new(frame), &[(name.to_owned(), ColumnType::Text)], detectors).unwrap();
    let proposal = propose(&profiles[0]);
    (proposal.class.map(str::to_owned), proposal.confidence, proposal.because)
}

#[test]
fn classes_are_proposed_from_cells_and_names() {
    let builtin = Detectors::default();
    let mails = [Some("ada@example.org"), Some("bob@example.org"), None, Some("eve@example.org")];
    let cards = [Some("4111 1111 1111 1111"), Some("5500 0000 0000 0004"), Some("4012888888881881")];
    let notes = [Some("call ada@example.org"), Some("nothing"), Some("paid with 4111 1111 1111 1111")];
    let words = [Some("a"), Some("b")];
    let few = [Some("open"); 200];
    type Cells<'a> = &'a [Option<&'a str>];
    let cases: &[(&str, Cells<'_>, Option<&str>, u8)] = &[
        ("x", &mails, Some("pii.email"), 85),
        ("customerEmail", &mails, Some("pii.email"), 99),
        // A checksum that is right outdoes a name that says nothing.
        ("x", &cards, Some("fin.card"), 99),
        ("x", &notes, Some("text.free"), 71),
        ("lastName", &words, Some("pii.name"), 60),
        ("x", &words, None, 0),
        ("status", &few, Some("public"), 30),
        ("x", &[None, None], None, 0),
    ];
    for (name, cells, class, confidence) in cases {
        let (found, sure, because) = proposed(name, cells, &builtin);
        assert_eq!((found.as_deref(), sure), (*class, *confidence), "{name} {cells:?}: {because}");
        for cell in cells.iter().flatten().filter(|cell| cell.len() > 4) {
            assert!(!because.contains(cell), "a cell is told of: {because}");
        }
    }
    // A catalog's own detectors count as the built-in ones do.
    let own = "purposes = []\n[detectors.\"acme.badge\"]\npattern = 'ACME-[0-9]{6}'\n";
    let own = Catalog::parse("catalog.toml", own).unwrap().detectors();
    let badges = [Some("ACME-123456"), Some("ACME-654321")];
    assert_eq!(proposed("x", &badges, &own).0.as_deref(), Some("acme.badge"));
    assert_eq!(proposed("x", &badges, &builtin).0, None);
}
