//! What `decide` says, rule by rule: each case is a policy text, a request and the decision in one line.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use countersign_masker::catalog::Limits;
use countersign_masker::decide::{Ask, Decision, DenyReason, KeyRange, Obligations, Rule, Verdict, decide};
use countersign_masker::policy::{Action, Policies, Resource, Subject, permits};
use countersign_masker::{Catalog, ColumnType, Mask, TableSchema};
use proptest::prelude::*;
use serde_json::json;

const CATALOG: &str = r#"
purposes = ["reporting", "support"]
[classes.public]
mask = "redact"
[classes."pii.email"]
mask = "email"
[classes."fin.iban"]
mask = "keep_last(4)"
[tables."shop.customers"]
key = "id"
max_rows = 1000
[tables."shop.customers".columns]
id = "public"
country = "public"
age = "public"
email = "pii.email"
iban = { class = "fin.iban", mask = "keep_last(2)" }
[tables."shop.secrets"]
[tables."shop.secrets".columns]
id = "public"
"#;

fn catalog() -> Catalog {
    Catalog::parse("catalog.toml", CATALOG).unwrap()
}

fn schema() -> TableSchema {
    let column = |name: &str, column_type| (name.to_owned(), column_type);
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64),
            column("country", ColumnType::Text),
            column("age", ColumnType::Int32),
            column("email", ColumnType::Text),
            column("iban", ColumnType::Text),
            column("notes", ColumnType::Text), // not in the catalog
        ],
    }
}

fn policies(text: &str) -> Policies {
    Policies::parse("policies.cedar", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn subject() -> Subject {
    Subject {
        id: "report-job".into(),
        groups: vec!["analysts".into(), "batch".into()],
        on_behalf_of: None,
        door: "kafka".into(),
        time: 1_700_000_000, // 2023-11-14T22:13:20Z
    }
}

fn ask(columns: &[&str]) -> Ask {
    Ask {
        connection: "shop".into(),
        table: "customers".into(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        purpose: "reporting".into(),
        ..Ask::default()
    }
}

fn filtered(columns: &[&str], filter: &str) -> Ask {
    Ask { filter: Some(filter.into()), ..ask(columns) }
}

fn ranged(columns: &[&str], column: &str, from: serde_json::Value, to: serde_json::Value) -> Ask {
    Ask { range: Some(KeyRange { column: column.into(), from: Some(from), to: Some(to) }), ..ask(columns) }
}

/// `verdict [policies] column=rule… | rows | order | predicate`, the last three where there are any.
fn show(decision: &Decision) -> String {
    let verdict = match &decision.verdict {
        Verdict::Permit => "permit".to_owned(),
        Verdict::NeedsApproval(groups) => format!("approval({})", groups.join(",")),
        Verdict::Deny(reason) => reason.as_str().to_owned(),
    };
    let mut line = format!("{verdict} [{}]", decision.policies.join(","));
    for column in &decision.obligations.columns {
        line.push_str(&format!(" {}={}", column.column, column.rule));
    }
    if let Some(rows) = &decision.obligations.rows {
        line.push_str(&format!(" | rows {rows}"));
    }
    if let Some(plan) = &decision.plan {
        match &plan.order_by {
            Some(key) => line.push_str(&format!(" | by {key}")),
            None => line.push_str(" | shuffled"),
        }
        assert_eq!(plan.shuffle, plan.order_by.is_none());
        if let Some(predicate) = &plan.predicate {
            line.push_str(&format!(" | where {predicate}"));
        }
    }
    line
}

fn decided(policy_text: &str, ask: &Ask) -> Decision {
    decide(&policies(policy_text), &catalog(), Some(&schema()), &subject(), ask)
}

const READ: &str =
    r#"@id("read") permit(principal in Group::"analysts", action == Action::"read", resource in Connection::"shop");"#;
const CLEAR_PUBLIC: &str = r#"@id("clear") permit(principal, action == Action::"read_clear", resource in Table::"shop.customers")
    when { resource.class == "public" };"#;

fn with(extra: &str) -> String {
    format!("{READ}\n{CLEAR_PUBLIC}\n{extra}")
}

#[test]
fn every_rule() {
    let cases: Vec<(String, Ask, &str)> = vec![
        // Columns.
        (String::new(), ask(&["id"]), "forbidden []"),
        (with(""), ask(&["id", "email", "iban"]),
            "permit [clear,read] id=clear email=email iban=keep_last(2) | by id"),
        (with(""), ask(&["email", "country"]), "permit [clear,read] email=email country=clear | shuffled"),
        (READ.into(), ask(&["id"]), "permit [read] id=redact | shuffled"),
        (CLEAR_PUBLIC.into(), ask(&["id", "email"]), "forbidden []"),
        (with(""), ask(&["notes"]), "permit [read] notes=redact | shuffled"),
        (with(r#"@id("all") permit(principal, action == Action::"read_clear", resource);"#), ask(&["notes", "email"]),
            "permit [all] notes=redact email=clear | shuffled"),
        (with(r#"@id("no") forbid(principal, action == Action::"read", resource) when { resource.class == "public" };"#),
            ask(&["id"]), "forbidden []"),
        (with(r#"@id("veil") forbid(principal, action == Action::"read_clear", resource);"#), ask(&["id", "email"]),
            "permit [read,veil] id=redact email=email | shuffled"),
        (with(r#"@id("no") forbid(principal, action == Action::"read_clear", resource);
                 @id("no2") forbid(principal, action == Action::"read", resource == Column::"shop.customers.email");"#),
            ask(&["email"]), "forbidden []"),
        // Principals, contexts.
        (r#"permit(principal == Identity::"report-job", action == Action::"read", resource);"#.into(), ask(&["id"]),
            "permit [policy0] id=redact | shuffled"),
        (r#"permit(principal == Identity::"other", action == Action::"read", resource);"#.into(), ask(&["id"]), "forbidden []"),
        (r#"permit(principal, action == Action::"read", resource) when { context.purpose == "support" };"#.into(), ask(&["id"]),
            "forbidden []"),
        (r#"permit(principal, action == Action::"read", resource) when { context.door == "kafka"
            && !(context has on_behalf_of) && context.time < datetime("2023-11-14T22:13:21Z")
            && context.time >= datetime("2023-11-14T22:13:20Z") };"#.into(), ask(&["id"]),
            "permit [policy0] id=redact | shuffled"),
        // Masks.
        (r#"@id("m") @mask("keep_first(2)") permit(principal, action == Action::"read", resource);"#.into(), ask(&["email"]),
            "permit [m] email=keep_first(2) | shuffled"),
        (r#"@mask("truncate(month)") permit(principal, action == Action::"read", resource);
            @mask("year_only") permit(principal, action == Action::"read", resource);
            permit(principal, action == Action::"read", resource);"#.into(), ask(&["email"]),
            "permit [policy0,policy1,policy2] email=year_only | shuffled"),
        (r#"@mask("keep_last(3)") permit(principal, action == Action::"read", resource);
            @mask("email") permit(principal, action == Action::"read", resource);"#.into(), ask(&["email"]),
            "permit [policy0,policy1] email=redact | shuffled"),
        (r#"@mask("null") permit(principal, action == Action::"read", resource);
            @mask("redact") permit(principal, action == Action::"read", resource);"#.into(), ask(&["email"]),
            "permit [policy0,policy1] email=null | shuffled"),
        // Approvals.
        (with(r#"@id("a") @approval("leads") permit(principal, action == Action::"read", resource);
                 @id("b") @approval("dpo") permit(principal, action == Action::"read", resource == Column::"shop.customers.iban");"#),
            ask(&["email", "iban"]), "approval(dpo,leads) [a,b,read] email=email iban=keep_last(2) | shuffled"),
        (with(r#"@id("a") @approval("leads") permit(principal, action == Action::"read_clear", resource)
                 when { resource.class like "pii.*" };"#),
            ask(&["id", "email"]), "approval(leads) [a,clear] id=clear email=clear | by id"),
        (with(r#"@id("a") @approval("leads") permit(principal, action == Action::"read_clear", resource)
                 when { resource.class like "pii.*" };"#),
            filtered(&["id"], "email = 'a@b.example'"),
            "approval(leads) [a,clear] id=clear | by id | where email = 'a@b.example'"),
        // Row filters of policies.
        (r#"@id("r") @rows("email is not null and country = 'DE'") permit(principal, action == Action::"read", resource);
            @id("s") @rows("age >= 18") permit(principal, action == Action::"read", resource);
            @id("t") @rows("age>=018") permit(principal, action == Action::"read", resource);"#.into(), ask(&["email"]),
            "permit [r,s,t] email=email | rows age >= 18 and (email is not null and country = 'DE') | shuffled | where age >= 18 and (email is not null and country = 'DE')"),
        (r#"@id("r") @rows("nope = 1") permit(principal, action == Action::"read", resource);"#.into(), ask(&["email"]),
            "policy_error [r]"),
        (r#"@id("r") @rows("age = 'x'") permit(principal, action == Action::"read", resource);"#.into(), ask(&["email"]),
            "policy_error [r]"),
        // Filters and ranges of callers.
        (with(""), filtered(&["id"], "country in ('DE','FR') or age < 5"),
            "permit [clear] id=clear | by id | where country in ('DE', 'FR') or age < 5"),
        (with(r#"@id("r") @rows("age >= 18") permit(principal, action == Action::"read_clear", resource == Column::"shop.customers.country");"#),
            Ask { range: Some(KeyRange { column: "id".into(), from: Some(json!(10)), to: Some(json!(20)) }), ..filtered(&["email"], "country = 'DE'") },
            "permit [clear,r,read] email=email | rows age >= 18 | by id | where age >= 18 and country = 'DE' and id >= 10 and id < 20"),
        (with(""), filtered(&["id"], "email = 'a@b.example'"), "filter_not_allowed []"),
        (with(""), filtered(&["id", "email"], "email is null"), "filter_not_allowed []"),
        (with(""), filtered(&["id"], "no_such_column = 1"), "filter_not_allowed []"),
        (with(r#"permit(principal, action == Action::"read_clear", resource);"#), filtered(&["id"], "notes = 'x'"), "filter_not_allowed []"),
        (with(""), filtered(&["id"], "age = 'x'"), "filter_type []"),
        (with(""), filtered(&["id"], "age = "), "filter_syntax []"),
        (with(""), filtered(&["id"], "1=1; drop table customers"), "filter_syntax []"),
        (with(""), filtered(&["email", "nope"], "age = "), "forbidden []"),
        (with(""), ranged(&["id"], "email", json!("a"), json!("b")), "filter_not_allowed []"),
        (with(""), ranged(&["id"], "nope", json!("a"), json!("b")), "filter_not_allowed []"),
        (with(""), ranged(&["id"], "id", json!("a"), json!(1)), "filter_type []"),
        (with(""), ranged(&["id"], "id", json!([1]), json!(1)), "filter_type []"),
        (with(""), ranged(&["id"], "country", json!("D\0"), json!("E")), "filter_type []"),
        (with(""), ranged(&["email"], "id", json!(5), json!(null)), "permit [clear,read] email=email | by id | where id >= 5"),
        // Limits.
        (with(""), Ask { limit: Some(1000), ..ask(&["id"]) }, "permit [clear] id=clear | by id"),
        (with(""), Ask { limit: Some(1001), ..ask(&["id"]) }, "limit_exceeded []"),
        (with(r#"@limit("rows=10") permit(principal, action == Action::"read_clear", resource);"#),
            Ask { limit: Some(11), ..ask(&["id"]) }, "limit_exceeded []"),
        // Requests.
        (with(""), Ask { purpose: "curiosity".into(), ..ask(&["id"]) }, "bad_purpose []"),
        (with(""), ask(&[]), "bad_columns []"),
        (with(""), ask(&["id", "id"]), "bad_columns []"),
        (with(""), ask(&["\"; drop table"]), "forbidden []"),
        // Faults: a policy that fails at evaluation denies, whatever the others say, and whichever column it fails on.
        (with(r#"@id("bad") forbid(principal, action == Action::"read", resource) when { 9223372036854775807 + 1 > 0 };"#),
            ask(&["id"]), "policy_error [bad]"),
        (with(r#"@id("bad") forbid(principal, action == Action::"read_clear", resource == Column::"shop.customers.country")
                 when { Column::"shop.customers.nope".class == "public" };"#),
            ask(&["email", "country"]), "policy_error [bad]"),
        (with(r#"@id("bad") permit(principal, action == Action::"read", resource) when { 9223372036854775807 + 1 > 0 };"#),
            ask(&["id"]), "policy_error [bad]"),
        (with(r#"@id("bad") forbid(principal, action == Action::"read", resource == Column::"shop.customers.country")
                 when { 9223372036854775807 + 1 > 0 };"#),
            filtered(&["id"], "country = 'DE'"), "policy_error [bad]"),
    ];
    for (policy_text, ask, expect) in cases {
        assert_eq!(show(&decided(&policy_text, &ask)), expect, "\n{policy_text}\n{ask:?}");
    }
}

#[test]
fn unknown_and_forbidden_get_the_same_answer() {
    let hidden = with(
        r#"@id("no") forbid(principal, action, resource in Table::"shop.secrets");
                         @id("no2") forbid(principal, action == Action::"read", resource == Column::"shop.customers.iban");"#,
    );
    let forbidden = decided(&hidden, &ask(&["iban"]));
    assert_eq!(forbidden.verdict, Verdict::Deny(DenyReason::Forbidden));
    let elsewhere =
        |connection: &str, table: &str| Ask { connection: connection.into(), table: table.into(), ..ask(&["id"]) };
    for ask in [
        ask(&["nope"]),
        ask(&["id", "nope"]),
        ask(&["id", "iban"]),
        elsewhere("shop", "secrets"),
        elsewhere("shop", "nope"),
        elsewhere("nope", "customers"),
        elsewhere("", ""),
    ] {
        assert_eq!(decided(&hidden, &ask), forbidden, "{ask:?}");
    }
    // In the catalog, but not in the source.
    assert_eq!(decide(&policies(&hidden), &catalog(), None, &subject(), &ask(&["id"])), forbidden);
}

#[test]
fn limits_are_the_smallest_of_all() {
    let text = r#"@limit("rows=500, seconds=90") permit(principal, action == Action::"read", resource);
                  @limit("bytes=5000") permit(principal, action == Action::"read", resource == Column::"shop.customers.email");"#;
    let limit = |columns: &[&str]| decided(text, &ask(columns)).obligations.limit;
    assert_eq!(limit(&["id"]), Limits { rows: 500, bytes: 64 << 20, seconds: 60 });
    assert_eq!(limit(&["id", "email"]), Limits { rows: 500, bytes: 5000, seconds: 60 });
    let plan = decided(text, &Ask { limit: Some(7), ..ask(&["email"]) }).plan.unwrap();
    assert_eq!((plan.limit, plan.max_rows, plan.max_bytes, plan.max_seconds), (Some(7), 500, 5000, 60));
    assert_eq!(plan.columns, [("email".to_owned(), ColumnType::Text)]);
}

#[test]
fn reading_the_time_is_noticed() {
    for (condition, reads_time) in [
        ("true", false),
        ("context.purpose == \"time\"", false),
        ("context has time", false),
        ("context.time > datetime(\"2020-01-01\")", true),
        ("[context.door].contains(\"x\") || context.time.toDate() == datetime(\"2020-01-01\")", true),
        ("context == context", true),
    ] {
        let text = format!(r#"permit(principal, action == Action::"read", resource) when {{ {condition} }};"#);
        assert_eq!(decided(&text, &ask(&["id"])).reads_time, reads_time, "{condition}");
    }
    // A time that can't be written as a Cedar datetime denies.
    let late = Subject { time: u64::MAX, ..subject() };
    let decision = decide(&policies(READ), &catalog(), Some(&schema()), &late, &ask(&["id"]));
    assert_eq!(decision.verdict, Verdict::Deny(DenyReason::PolicyError));
}

#[test]
fn other_rights() {
    let text = r#"
        permit(principal in Group::"analysts", action == Action::"approve", resource in Connection::"shop");
        permit(principal == Identity::"auditor", action == Action::"audit", resource == Ledger::"ledger");
        forbid(principal == Identity::"broken", action, resource) when { 9223372036854775807 + 1 > 0 };"#;
    let policies = policies(text);
    let can = |id: &str, action, resource| {
        permits(&policies, &Subject { id: id.into(), ..subject() }, action, resource).map_err(|fault| fault.policies)
    };
    assert_eq!(can("report-job", Action::Approve, Resource::Table("shop", "customers")), Ok(true));
    assert_eq!(can("report-job", Action::Approve, Resource::Table("other", "customers")), Ok(false));
    assert_eq!(can("report-job", Action::Audit, Resource::Ledger), Ok(false));
    assert_eq!(can("auditor", Action::Audit, Resource::Ledger), Ok(true));
    assert_eq!(can("auditor", Action::Audit, Resource::Connection("shop")), Ok(false));
    assert_eq!(can("broken", Action::Audit, Resource::Ledger), Err(vec!["policy2".to_owned()]));
    // An action on a resource that it doesn't apply to is a fault, not a yes.
    assert_eq!(can("auditor", Action::Approve, Resource::Ledger), Err(vec![]));
}

#[test]
fn obligations_have_canonical_json_and_compare() {
    let approved = decided(
        &with(r#"@rows("age >= 18") permit(principal, action == Action::"read", resource);"#),
        &ask(&["id", "email", "iban"]),
    );
    let approved = approved.obligations;
    let json = r#"{"columns":[{"column":"id","class":"public","rule":"clear"},{"column":"email","class":"pii.email","rule":"email"},{"column":"iban","class":"fin.iban","rule":"keep_last(2)"}],"rows":null,"limit":{"rows":1000,"bytes":67108864,"seconds":60}}"#;
    // `age >= 18` stands on a permit for `read`, which gave email and iban.
    let json = json.replace("\"rows\":null", "\"rows\":\"age >= 18\"");
    assert_eq!(String::from_utf8(approved.canonical_json()).unwrap(), json);
    assert_eq!(serde_json::from_str::<Obligations>(&json).unwrap(), approved);
    assert!(serde_json::from_str::<Obligations>(&json.replace("keep_last(2)", "nope")).is_err());

    let less = |change: &dyn Fn(&mut Obligations)| {
        let mut changed = approved.clone();
        change(&mut changed);
        assert_eq!(changed.digest() == approved.digest(), changed == approved);
        changed.less_restricted_than(&approved)
    };
    assert_eq!(less(&|_| ()), Vec::<String>::new());
    assert_eq!(less(&|o| o.columns[1].rule = Rule::Clear), ["email"]);
    assert_eq!(less(&|o| o.columns[2].rule = Rule::Mask(Mask::KeepLast(3))), ["iban"]);
    assert_eq!(less(&|o| o.columns[2].rule = Rule::Mask(Mask::KeepFirst(1))), ["iban"]);
    assert_eq!(less(&|o| o.columns[2].rule = Rule::Mask(Mask::KeepLast(1))), ["iban"]);
    assert_eq!(less(&|o| o.columns[2].rule = Rule::Mask(Mask::Redact)), Vec::<String>::new());
    assert_eq!(less(&|o| o.columns[0].rule = Rule::Mask(Mask::Email)), Vec::<String>::new());
    assert_eq!(less(&|o| o.columns[0].column = "age".into()), ["age"]);
    assert_eq!(less(&|o| o.rows = None), ["rows"]);
    assert_eq!(less(&|o| o.rows = Some("age >= 17".into())), ["rows"]);
    assert_eq!(less(&|o| o.limit.bytes += 1), ["limit"]);
    assert_eq!(less(&|o| o.limit.rows = 1), Vec::<String>::new());
}

// ---------------------------------------------------------------------------------------------------------------------------
// What holds for all policies

fn policy() -> impl Strategy<Value = (String, String)> {
    let principal = prop::sample::select(vec![
        "principal",
        "principal in Group::\"analysts\"",
        "principal == Identity::\"report-job\"",
        "principal == Identity::\"other\"",
    ]);
    let action = prop::sample::select(vec!["read", "read_clear"]);
    let resource = prop::sample::select(vec![
        "resource",
        "resource in Connection::\"shop\"",
        "resource in Table::\"shop.customers\"",
        "resource == Column::\"shop.customers.email\"",
        "resource == Column::\"shop.customers.id\"",
        "resource == Column::\"shop.customers.notes\"",
    ]);
    let condition = prop::sample::select(vec![
        "",
        "when { resource.class == \"public\" }",
        "when { resource.class like \"pii.*\" }",
        "unless { context.purpose == \"reporting\" }",
    ]);
    let mask =
        prop::sample::select(vec!["", "null", "redact", "email", "keep_first(1)", "keep_first(3)", "keep_last(2)"]);
    (principal, action, resource, condition, mask).prop_map(|(principal, action, resource, condition, mask)| {
        let rest = format!("({principal}, action == Action::\"{action}\", {resource}) {condition};");
        let mask = if mask.is_empty() || action != "read" { String::new() } else { format!("@mask(\"{mask}\") ") };
        (mask, rest)
    })
}

fn text_of(permits: &[(String, String)], forbids: &[(String, String)]) -> String {
    let permits = permits.iter().map(|(mask, rest)| format!("{mask}permit{rest}\n"));
    let forbids = forbids.iter().map(|(_, rest)| format!("forbid{rest}\n"));
    permits.chain(forbids).collect()
}

/// How much of a column is seen: nothing, masked so, or all.
fn seen(decision: &Decision, column: &str) -> Option<Rule> {
    decision.obligations.columns.iter().find(|seen| seen.column == column).map(|seen| seen.rule.clone())
}

fn at_most(less: &Option<Rule>, more: &Option<Rule>) -> bool {
    match (less, more) {
        (None, _) | (_, Some(Rule::Clear)) => true,
        (Some(Rule::Mask(less)), Some(Rule::Mask(more))) => less.at_least_as_restrictive(more),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A new forbid never shows more of a column, nor of the request as a whole.
    #[test]
    fn a_forbid_never_gives_more(
        permits in prop::collection::vec(policy(), 1..6),
        forbids in prop::collection::vec(policy(), 0..3),
        new in policy(),
    ) {
        let before = text_of(&permits, &forbids);
        let after = text_of(&permits, &[forbids, vec![new]].concat());
        for column in ["id", "email", "notes"] {
            let (before, after) = (decided(&before, &ask(&[column])), decided(&after, &ask(&[column])));
            prop_assert!(at_most(&seen(&after, column), &seen(&before, column)), "{column}: {before:?}\n{after:?}");
        }
        let all = ask(&["id", "email", "notes"]);
        if decided(&before, &all).plan.is_none() {
            prop_assert!(decided(&after, &all).plan.is_none());
        }
    }

    /// Of all masks that determining permits choose, what applies is at least as restrictive as each; and the order in which
    /// policies are written makes no difference.
    #[test]
    fn the_more_restrictive_wins(masks in prop::collection::vec(mask(), 1..5)) {
        let permit = |mask: &Mask| format!("@mask({:?}) permit(principal, action == Action::\"read\", resource);", mask.to_string());
        let text = masks.iter().map(permit).collect::<String>();
        let reversed = masks.iter().rev().map(permit).collect::<String>();
        let rule = seen(&decided(&text, &ask(&["email"])), "email");
        prop_assert_eq!(&rule, &seen(&decided(&reversed, &ask(&["email"])), "email"));
        let Some(Rule::Mask(applied)) = rule else { panic!("masked") };
        for mask in &masks {
            prop_assert!(applied.at_least_as_restrictive(mask), "{} {}", applied, mask);
        }
    }

    /// The masks form a join-semilattice, and their text is read back.
    #[test]
    fn masks_are_ordered(a in mask(), b in mask(), c in mask()) {
        let join = |a: &Mask, b: &Mask| a.clone().more_restrictive(b.clone());
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&a, &join(&b, &c)), join(&join(&a, &b), &c));
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert!(join(&a, &b).at_least_as_restrictive(&a));
        prop_assert!(!(a.at_least_as_restrictive(&b) && b.at_least_as_restrictive(&a)) || a == b);
        prop_assert!(!(a.at_least_as_restrictive(&b) && b.at_least_as_restrictive(&c)) || a.at_least_as_restrictive(&c));
        prop_assert_eq!(Mask::parse(&a.to_string()), Ok(a));
    }
}

fn mask() -> impl Strategy<Value = Mask> {
    prop_oneof![
        Just(Mask::Null),
        Just(Mask::Redact),
        Just(Mask::Email),
        Just(Mask::YearOnly),
        (1..=64usize).prop_map(Mask::KeepFirst),
        (1..=64usize).prop_map(Mask::KeepLast),
        "[ -~äß\u{1F600}]{0,20}".prop_map(Mask::Constant),
        "[a-z0-9_.-]{1,10}".prop_map(Mask::Token),
    ]
}
