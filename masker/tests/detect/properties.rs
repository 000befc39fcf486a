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

/// What some rule has to read far from each of its places, over and over. Where that has no bound, a text of this size takes an hour.
#[test]
fn the_time_is_linear_in_the_text() {
    const PIECES: &[&str] = &[
        "<",
        "<<A",
        "1:",
        "a1:",
        "1::",
        "1a:b2:",
        "1:2:3:4:5:6:7:8:",
        "::",
        ":",
        "SG.",
        "SG.a-",
        "xoxb-",
        "sk_live_",
        "AKIA ",
        "AKIAAKIA",
        "whsec_",
        "eyJ",
        "eyJ.",
        "eyJhbGciOiJI.",
        "://",
        "a://",
        "a.b://",
        "a://b.c",
        "a@",
        "a.",
        "@",
        "a@b.",
        "a-",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "-",
        "1",
        "1 ",
        "1-",
        "1.",
        "1.1.",
        "00:",
        "DE89 ",
        "DE89",
        "<b>",
        "&nbsp;",
        "&#45;",
        "ssn ",
        "born ",
        "\u{200b}",
        "1\u{200b}",
        "é",
        "日",
        "4111 1111 1111 1111 ",
        "BIC ",
        "swift",
        "AA",
        "AAAA1",
    ];
    const COLUMNS: &[Option<&str>] = &[None, Some("url"), Some("ip_address"), Some("bic"), Some("mac"), Some("phone")];
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let detectors = Detectors::builtin();
        for piece in PIECES {
            let text = piece.repeat(600_000 / piece.len());
            for column in COLUMNS {
                let hint = column.map(|column| detectors.hint(column));
                detectors.detect(&text, hint.as_ref());
                done.send((*piece, *column)).unwrap();
            }
        }
    });
    let mut last = ("", None);
    for _ in 0..PIECES.len() * COLUMNS.len() {
        last = wait.recv_timeout(std::time::Duration::from_secs(60)).unwrap_or_else(|_| panic!("stuck after {last:?}"));
    }
}

/// A character that nobody sees hides nothing, wherever in an identifier it stands.
#[test]
fn what_is_not_seen_hides_nothing() {
    let detectors = Detectors::builtin();
    for (text, class) in [
        ("ada@example.org", "pii.email"),
        ("10.0.0.1", "net.ip"),
        ("2001:db8::1", "net.ip"),
        ("DE89370400440532013000", "fin.iban"),
        ("4111111111111111", "fin.card"),
        ("+14155550132", "pii.phone"),
        ("00:1A:2B:3C:4D:5E", "net.mac"),
    ] {
        let length = text.chars().count();
        for hidden in ['\u{200b}', '\u{ad}', '\u{200e}', '\u{2060}', '\u{feff}'] {
            for at in 1..length {
                let parted: String = [&text[..at], &text[at..]].join(&hidden.to_string());
                let found = detectors.detect(&parted, None);
                let found = found.iter().map(|hit| (hit.class, hit.start, hit.end)).collect::<Vec<_>>();
                assert_eq!(found, [(class, 0, length + 1)], "{}", parted.escape_debug());
            }
            let between = text.chars().map(String::from).collect::<Vec<_>>().join(&hidden.to_string());
            let found = detectors.detect(&between, None);
            assert_eq!((found.len(), found[0].class, found[0].start), (1, class, 0), "{}", between.escape_debug());
        }
    }
    // In scripts that part their words so, they stay parted.
    let found = detectors.detect("abc\u{200b}4111111111111111\u{200b}abc", None);
    assert_eq!(found.iter().map(|hit| (hit.class, hit.start, hit.end)).collect::<Vec<_>>(), [("fin.card", 4, 20)]);
}
