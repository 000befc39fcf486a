//! What must hold of any text.

use countersign_masker::detect::{Detectors, Hit};
use proptest::prelude::*;

/// Pieces that texts are made of: identifiers, halves of such, and what stands between them.
fn piece() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "4111 1111 1111 1111",
        "4111",
        "DE89 3704 0044 0532 0130 00",
        "DE89",
        "078-05-1123",
        "+1 (415) 555-0132",
        "a@b.example",
        "@",
        "::1",
        "10.0.0.1",
        "fe80::1%eth0",
        "00:1A:2B:3C:4D:5E",
        "-----BEGIN PRIVATE KEY-----",
        "eyJhbGciOiJI.eyJzdWIiOiIx.",
        "https://u:p@h/",
        "://",
        "<b>",
        "</b>",
        "&nbsp;",
        "&#45;",
        "&",
        "<",
        "١٢٣٤",
        "４１１１",
        "\u{200b}",
        "\u{a0}",
        "–",
        "ß",
        "né le",
        "5. März 1980",
        "iban",
        "ssn",
        "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<<",
        "x123",
        "(",
        ")",
        ".",
        "-",
        " ",
        "\n",
        "여권번호는",
        "日",
        "0",
        "AA",
        "550e8400-e29b-41d4-a716-446655440000",
        "bc1p5d7rjq7g6rdk2yhzks9smlaqtedr4dekq08ge8ztwac72sfr9rusxg3297",
    ];
    prop_oneof![
        4 => prop::sample::select(KNOWN).prop_map(str::to_owned),
        2 => "[0-9]{1,20}",
        2 => "[A-Za-z0-9 .:/@_-]{0,12}",
        1 => any::<String>(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

fn column() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "note",
        "card_number",
        "ip",
        "email",
        "us_ssn",
        "Geburtsdatum",
        "phone",
        "url",
        "mac_address",
        "swiftCode",
        "de_kfz",
        "date",
        "",
    ];
    prop_oneof![prop::sample::select(NAMES).prop_map(str::to_owned), any::<String>()]
}

/// Spans are in order, apart, not empty, and within the text.
fn well_formed(text: &str, hits: &[Hit<'_>]) {
    let length = text.chars().count();
    let mut from = 0;
    for hit in hits {
        assert!(
            from <= hit.start && hit.start < hit.end && hit.end <= length,
            "{hit:?} after {from}, text of {length}"
        );
        assert!(!hit.class.is_empty());
        from = hit.end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn spans_are_well_formed(text in text(), column in column()) {
        let detectors = Detectors::builtin();
        well_formed(&text, &detectors.detect(&text, None));
        well_formed(&text, &detectors.detect(&text, Some(&detectors.hint(&column))));
    }

    /// Text around that says nothing moves hits and changes nothing else.
    #[test]
    fn padding_changes_nothing(text in text(), before in 1usize..200, after in 1usize..200) {
        let detectors = Detectors::builtin();
        let alone = detectors.detect(&text, None);
        let padded = format!("{}\n\n{text}\n\n{}", "lorem ".repeat(before), " dolor".repeat(after));
        let shift = before * 6 + 2;
        let within = detectors.detect(&padded, None);
        let moved: Vec<_> = alone.iter().map(|hit| Hit { start: hit.start + shift, end: hit.end + shift, ..*hit }).collect();
        prop_assert_eq!(within, moved);
    }

    /// Wide forms of ASCII are read as ASCII.
    #[test]
    fn wide_forms_are_read_alike(text in text()) {
        let detectors = Detectors::builtin();
        let ascii: String = text.chars().filter(|character| !character.is_ascii_control()).filter(char::is_ascii).collect();
        let wide: String = ascii.chars().map(|character| match character {
            '!'..='~' => char::from_u32(u32::from(character) - 0x21 + 0xFF01).unwrap(),
            ' ' => '\u{3000}',
            other => other,
        }).collect();
        prop_assert_eq!(detectors.detect(&wide, None), detectors.detect(&ascii, None));
    }
}
