//! Masks of text, and those of all types.

use crate::{check, chunk_of, chunk_with, keys, masked, text_column, texts};
use countersign_masker::{Catalog, ColumnType, Means};
use polars::prelude::*;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

#[test]
fn every_type() {
    check("text", "redact", &[("", "[redacted]"), ("a", "[redacted]"), ("a long text of many words", "[redacted]")]);
    check("text", "null", &[("a", "NULL"), ("", "NULL")]);
    for column_type in ["int64", "float32", "date", "timestamptz", "decimal(4,2)"] {
        let cell = match column_type {
            "date" => "2024-02-29",
            "timestamptz" => "2024-02-29T10:00:00Z",
            _ => "12.34".get(..if column_type == "int64" { 2 } else { 5 }).unwrap(),
        };
        // What doesn't fit the type becomes null; redact does so for all that isn't text.
        for rule in ["null", "redact", "email", "constant(\"0\")", "zip3", "ff1(d, hex)"] {
            check(column_type, rule, &[(cell, "NULL")]);
        }
    }
    let cells = [None, Some("a")];
    assert_eq!(texts("constant(\"x\")", &cells, &ColumnType::Text), [Some("x".to_owned()), Some("x".to_owned())]);
}

#[test]
fn detect() {
    check(
        "text",
        "detect",
        &[
            ("", ""),
            ("nothing here", "nothing here"),
            ("größe 42, ada@example.org!", "größe 42, [pii.email]!"),
            ("card 4111 1111 1111 1111, ssn 078-05-1123", "card [fin.card], ssn [id.us.ssn]"),
            ("日本 +81 90 1234 5678 です", "日本 [pii.phone] です"),
        ],
    );
}

/// Hits are counted by class; no other mask counts any.
#[test]
fn detect_counts_by_class() {
    let cells = [
        Some("ada@example.org, bob@example.org"),
        None,
        Some("4111 1111 1111 1111"),
        Some("nothing"),
        Some("c@example.org"),
    ];
    let account = |rule: &str| {
        let chunk = chunk_of(&keys(7), "reporting", rule, text_column(&cells), &ColumnType::Text);
        chunk.account()[0].clone()
    };
    let detected = account("detect");
    let hits: Vec<_> = detected.hits.iter().map(|(class, count)| (class.as_str(), *count)).collect();
    assert_eq!(hits, [("fin.card", 1), ("pii.email", 3)]);
    assert_eq!((detected.transform.as_str(), detected.seen, detected.changed), ("detect", 5, 4));
    assert!(account("email").hits.is_empty());
}

/// A catalog's own detectors are looked for as the built-in ones are.
#[test]
fn detect_finds_what_the_catalog_names() {
    let catalog = "purposes = []\n[detectors.\"acme.badge\"]\npattern = 'ACME-[0-9]{6}'\n";
    let detectors = Catalog::parse("catalog.toml", catalog).unwrap().detectors();
    let means = Means { keys: &keys(7), detectors: &detectors, purpose: "reporting" };
    let column = text_column(&[Some("badge ACME-123456 of ada@example.org")]);
    let chunk = chunk_with(means, "detect", column, &ColumnType::Text);
    let masked = chunk.part(0, 1).unwrap();
    let cell = masked.frame().column("c").unwrap().str().unwrap().get(0).unwrap().to_owned();
    assert_eq!(cell, "badge [acme.badge] of [pii.email]");
    let hits: Vec<_> = chunk.account()[0].hits.iter().map(|(class, count)| (class.as_str(), *count)).collect();
    assert_eq!(hits, [("acme.badge", 1), ("pii.email", 1)]);
}

proptest! {
    /// Of a hit nothing is left but its class and place.
    #[test]
    fn detect_tells_nothing_of_a_hit(one in "[a-z]{1,12}@[a-z]{2,12}[.]org", other in "[a-z]{1,12}@[a-z]{2,12}[.]org") {
        let masked = |mail: &str| texts("detect", &[Some(&*format!("write to {mail}, please"))], &ColumnType::Text);
        prop_assert_eq!(masked(&one), masked(&other));
        prop_assert_eq!(masked(&one), [Some("write to [pii.email], please".to_owned())]);
    }
}

#[test]
fn constant() {
    let cells = [Some(""), Some("x"), None];
    let expected = vec![Some("a \"b\" \\".to_owned()); 3];
    assert_eq!(texts("constant(\"a \\\"b\\\" \\\\\")", &cells, &ColumnType::Text), expected);
}

#[test]
fn partial() {
    check(
        "text",
        "keep_first(2)",
        &[
            ("abc", "ab*****"),
            ("abcdefghijklmnopqrstuvwxyz", "ab*****"),
            ("ab", "[redacted]"),
            ("a", "[redacted]"),
            ("", "[redacted]"),
            ("aé", "[redacted]"),
            ("aéb", "aé*****"),
            ("abé", "ab*****"),
            ("日本語", "日本*****"),
            ("日本", "[redacted]"),
            ("👩‍👩‍👧", "👩\u{200d}*****"),
        ],
    );
    check(
        "text",
        "keep_last(2)",
        &[
            ("abc", "*****bc"),
            ("DE89 3704 0044 0532 0130 00", "*****00"),
            ("ab", "[redacted]"),
            ("a", "[redacted]"),
            ("", "[redacted]"),
            ("日本語", "*****本語"),
            ("éab", "*****ab"),
            ("aéb", "*****éb"),
            ("é1", "[redacted]"),
        ],
    );
    check("int64", "keep_first(2)", &[("-1234", "-1*****"), ("5", "[redacted]")]);
    check("int64", "keep_last(1)", &[("-1234", "*****4"), ("5", "[redacted]")]);
}

#[test]
fn email() {
    check(
        "text",
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
}

#[test]
fn zip3() {
    check(
        "text",
        "zip3",
        &[
            ("02139", "021"),
            ("02139-4307", "021"),
            ("021394307", "021"),
            // Vermont and Wyoming: hardly anybody there.
            ("05901", "000"),
            ("82101-0001", "000"),
            ("03601", "000"),
            ("89301", "000"),
            ("20500", "000"),
            ("00000", "000"),
            ("2139", "[redacted]"),
            ("021399", "[redacted]"),
            ("02139-", "[redacted]"),
            ("02139-430", "[redacted]"),
            ("02139 4307", "[redacted]"),
            ("0213943-07", "[redacted]"),
            (" 02139", "[redacted]"),
            ("0213x", "[redacted]"),
            ("x2139", "[redacted]"),
            ("SW1A1", "[redacted]"),
            ("０２１39", "[redacted]"),
            ("", "[redacted]"),
        ],
    );
}

#[test]
fn ip_prefix() {
    check(
        "text",
        "ip_prefix(20, 44)",
        &[
            ("10.1.255.3", "10.1.240.0/20"),
            ("10.1.255.3/32", "10.1.240.0/20"),
            ("10.1.2.3/8", "10.1.0.0/20"),
            ("::ffff:10.1.255.3", "10.1.240.0/20"),
            ("::ffff:10.1.255.3/120", "10.1.240.0/20"),
            ("2001:db8:85a3::8a2e:370:7334", "2001:db8:85a0::/44"),
            ("2001:DB8:85A3:0:0:8A2E:370:7334/64", "2001:db8:85a0::/44"),
            ("::1", "::/44"),
            ("fe80::1%eth0", "[redacted]"),
            ("10.1.2", "[redacted]"),
            ("10.1.2.256", "[redacted]"),
            ("10.1.2.03", "[redacted]"),
            ("10.1.2.3/33", "[redacted]"),
            ("10.1.2.3/", "[redacted]"),
            ("10.1.2.3:80", "[redacted]"),
            ("host", "[redacted]"),
            ("", "[redacted]"),
        ],
    );
    check("text", "ip_prefix(0, 0)", &[("10.1.2.3", "0.0.0.0/0"), ("2001:db8::1", "::/0")]);
    check("text", "ip_prefix(31, 127)", &[("10.1.2.3", "10.1.2.2/31"), ("2001:db8::ff", "2001:db8::fe/127")]);
}

#[test]
fn nulls() {
    let cells = [None, Some("ada@example.org"), None];
    let one = |rule: &str| texts(rule, &cells, &ColumnType::Text).iter().map(Option::is_none).collect::<Vec<_>>();
    for rule in ["keep_first(1)", "keep_last(1)", "email", "token(d)", "zip3", "ip_prefix(8, 32)", "ff1(d, digits)"] {
        assert_eq!(one(rule), [true, false, true], "{rule}");
    }
    for rule in ["null", "year_only", "truncate(month)"] {
        assert_eq!(one(rule), [true, true, true], "{rule}");
    }
    for rule in ["redact", "constant(\"x\")"] {
        assert_eq!(one(rule), [false, false, false], "{rule}");
    }
    // A column of nulls alone, and one without cells.
    for rows in [0, 3] {
        for rule in ["keep_first(1)", "token(d)", "ff1(d, digits)"] {
            let (_, masked) = masked(rule, StringChunked::full_null("c".into(), rows).into_series(), &ColumnType::Text);
            assert_eq!((masked.len(), masked.null_count()), (rows, rows), "{rule}");
        }
    }
}

proptest! {
    /// At most the kept characters of a cell are left, and never all of it.
    #[test]
    fn kept_is_kept_and_no_more(cell in "\\PC{0,12}", kept in 1..6usize) {
        let first = texts(&format!("keep_first({kept})"), &[Some(&cell)], &ColumnType::Text)[0].clone().unwrap();
        let last = texts(&format!("keep_last({kept})"), &[Some(&cell)], &ColumnType::Text)[0].clone().unwrap();
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
        let masked = texts("email", &[Some(&cell)], &ColumnType::Text)[0].clone().unwrap();
        prop_assert!(!masked.contains(&local) && !masked.contains(&format!("{domain}.")), "{} {}", cell, masked);
    }
}
