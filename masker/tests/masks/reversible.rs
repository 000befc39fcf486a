//! Tokens and `ff1`: what they make of values, and how the holder of the keys turns it back.

use crate::{check, column, keys, masked_with, shown, text_column, texts};
use countersign_masker::transform::{Alphabet, Ff1Rule, RevealError};
use countersign_masker::{ColumnType, Mask, TokenKeys};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_assert_ne, proptest};
use proptest::sample::select;
use proptest::string::string_regex;

/// Tokens are made once and for ever: these texts, computed with another library (pyca/cryptography: HKDFExpand, AESSIV), may
/// not change.
#[test]
fn tokens_stay_what_they_are() {
    let tokens = texts("token(card)", &[Some(""), Some("4111111111111111"), None], &ColumnType::Text);
    // SIV and one block; SIV and two, since the padding always takes a byte.
    assert_eq!(tokens[0].as_ref().unwrap().len(), 4 + 43);
    assert_eq!(tokens[1].as_ref().unwrap().len(), 4 + 64);
    assert_eq!(tokens[2], None);
    assert_eq!(tokens[0].as_deref(), Some(TOKEN_OF_EMPTY));
    assert_eq!(tokens[1].as_deref(), Some(TOKEN_OF_CARD));
    let rotated = token(&keys(7).rotated([8; 32]), "card", "reporting", "4111111111111111");
    assert_ne!(rotated, token(&keys(8), "card", "reporting", "4111111111111111"));
    assert_eq!(rotated, TOKEN_OF_VERSION_2);
}

const TOKEN_OF_EMPTY: &str = "tok__Tm6GOpiSiYd_rPcpBOKP6WpM6Lp7eGNtz9BdrvZnl8";
const TOKEN_OF_CARD: &str = "tok_lKSced-Y9XYkdoJ9RRVxfbboLSAkaIm-7s2SxHkda5zAHBhyQmI7qRo1E1u_lI1F";
const TOKEN_OF_VERSION_2: &str = "tok2_nSXa1IpQFbBQehMJ-ju287QrEx_hwW-UuLnJ32-aapaB1Pqz-h0k2a0jlMTuT8CT";

fn masked_one(keys: &TokenKeys, rule: &str, purpose: &str, column_type: &ColumnType, cell: &str) -> Option<String> {
    let (output, masked) = masked_with(keys, purpose, rule, column(column_type, &[Some(cell)]), column_type);
    shown(&output, &masked)[0].clone()
}

fn token(keys: &TokenKeys, domain: &str, purpose: &str, cell: &str) -> String {
    masked_one(keys, &format!("token({domain})"), purpose, &ColumnType::Text, cell).unwrap()
}

#[test]
fn tokens_join_across_types_and_split_across_domains_and_purposes() {
    let base = token(&keys(7), "d", "reporting", "-42");
    for column_type in [ColumnType::Int64, ColumnType::Int16, ColumnType::Json] {
        assert_eq!(Some(&base), masked_one(&keys(7), "token(d)", "reporting", &column_type, "-42").as_ref());
    }
    assert_ne!(base, token(&keys(7), "e", "reporting", "-42"));
    assert_ne!(base, token(&keys(7), "d", "support", "-42"));
    assert_ne!(base, token(&keys(8), "d", "reporting", "-42"));
    // Domain and purpose don't run together.
    assert_ne!(token(&keys(7), "ab", "c", "-42"), token(&keys(7), "a", "bc", "-42"));
}

/// Many cells at once, of all lengths and nulls between them, have the tokens that they have alone.
#[test]
fn tokens_do_not_depend_on_their_neighbours() {
    let cells = (0..300usize).map(|n| (n % 7 != 3).then(|| "x".repeat(n * n % 97 + if n == 130 { 70_000 } else { 0 })));
    let cells = cells.collect::<Vec<_>>();
    let together = texts("token(d)", &cells.iter().map(Option::as_deref).collect::<Vec<_>>(), &ColumnType::Text);
    for (cell, together) in cells.iter().zip(together) {
        assert_eq!(cell.as_ref().map(|cell| token(&keys(7), "d", "reporting", cell)), together);
    }
}

#[test]
fn tokens_are_turned_back() {
    let keys = keys(7).rotated([8; 32]).rotated([9; 32]);
    assert_eq!(keys.version(), 3);
    let reveal = |token: &str| keys.reveal("card", "reporting", token);
    for token in [TOKEN_OF_CARD, TOKEN_OF_VERSION_2, &token(&keys, "card", "reporting", "4111111111111111")] {
        assert_eq!(reveal(token).as_deref(), Ok("4111111111111111"), "{token}");
        for (domain, purpose) in [("card", "support"), ("cards", "reporting")] {
            assert_eq!(keys.reveal(domain, purpose, token), Err(RevealError::NotAuthentic));
        }
        assert_eq!(
            TokenKeys::new([1; 32]).rotated([2; 32]).rotated([3; 32]).reveal("card", "reporting", token),
            Err(RevealError::NotAuthentic)
        );
    }
    assert_eq!(reveal(TOKEN_OF_EMPTY).as_deref(), Ok(""));
    let body = TOKEN_OF_CARD.strip_prefix("tok_").unwrap();
    for version in ["0", "1", "01", "02", "+2", "2 ", "٢"] {
        assert_eq!(reveal(&format!("tok{version}_{body}")), Err(RevealError::Form), "{version}");
    }
    assert_eq!(reveal(&format!("tok2_{body}")), Err(RevealError::NotAuthentic));
    assert_eq!(reveal(&format!("tok4_{body}")), Err(RevealError::Version(4, 3)));
    for text in [
        "",
        "tok",
        "tok_",
        "4111111111111111",
        body,
        "tok_AA",
        TOKEN_OF_EMPTY.split_at(26).0,
        "tok_AAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert_eq!(reveal(text), Err(RevealError::Form), "{text}");
    }
    // One spelling only: the last character's lowest bits mean nothing, and must be 0.
    assert_eq!(reveal(&TOKEN_OF_EMPTY.replace("Znl8", "Znl9")), Err(RevealError::Form));
    assert_eq!(format!("{keys:?}"), "TokenKeys");
}

proptest! {
    #[test]
    fn tokens_are_equal_exactly_for_equal_cells(a in ".{0,40}", b in ".{0,40}") {
        let tokens = texts("token(d)", &[Some(&a), Some(&b), Some(&a)], &ColumnType::Text);
        prop_assert_eq!(&tokens[0], &tokens[2]);
        prop_assert_eq!(tokens[0] == tokens[1], a == b);
        prop_assert_ne!(tokens[0].as_deref(), Some(a.as_str()));
    }

    #[test]
    fn any_token_is_turned_back_and_none_that_was_changed(cell in "(?s).{0,60}", rotations in 0..3u8, at in any::<usize>(), by in any::<char>()) {
        let keys = (0..rotations).fold(keys(7), |keys, master| keys.rotated([master; 32]));
        let made = token(&keys, "d", "reporting", &cell);
        prop_assert_eq!(keys.reveal("d", "reporting", &made), Ok(cell));
        let mut changed = made.chars().collect::<Vec<_>>();
        let at = at % changed.len();
        changed[at] = by;
        let changed = changed.into_iter().collect::<String>();
        prop_assert!(changed == made || keys.reveal("d", "reporting", &changed).is_err());
    }

    #[test]
    fn nothing_else_is_turned_back(text in "(tok[0-9]{0,2}_)?.{0,80}") {
        prop_assert!(keys(7).reveal("d", "reporting", &text).is_err());
    }
}

// ---------------------------------------------------------------------------------------------------------------------------
// ff1

/// As above: computed with another implementation, written in Python from NIST SP 800-38G alone.
#[test]
fn ff1_stays_what_it_is() {
    let digits = [("4111-1111-1111-1111", "7133-2013-9557-0276"), ("123456", "693064"), ("12345", "[redacted]")];
    check("text", "ff1(card, digits)", &digits);
    check("text", "ff1(card, hex)", &[("00c0ffee", "98c4b8e8"), ("00C0FFEE", "[redacted]"), ("c0ff", "[redacted]")]);
    check(
        "text",
        "ff1(card, lower)",
        &[("wonderland", "ximuxwrvpc"), ("wond", "[redacted]"), ("wonderLand", "[redacted]")],
    );
    check("text", "ff1(card, upper)", &[("WONDERLAND", "EKQSWBZZSR")]);
    check("text", "ff1(card, lower_digits)", &[("0123456789abcdefghi", "b0q8sedfsx39vphqut5")]);
    check("text", "ff1(card, upper_digits)", &[("DE89370400440532013000", "1RFSGV95DAA2KPQHE3V0C8")]);
    check("text", "ff1(card, letters_digits)", &[("Tr0ub4dor", "nu2Tz0PUV")]);
    // Separators stay, what is neither makes the value unreadable, however long the rest is.
    for cell in [
        "",
        "-",
        "4111 1111 1111 1111 Ada",
        "４111111111111111",
        "4111\n11111111111",
        "4,111,111,111",
        &"1".repeat(57),
        &"1".repeat(500),
    ] {
        check("text", "ff1(card, digits)", &[(cell, "[redacted]")]);
    }
    check(
        "text",
        "ff1(card, digits, 16)",
        &[("4111111111111111", "7133201395570276"), ("411111111111111", "[redacted]")],
    );

    check(
        "int32",
        "ff1(card, digits)",
        &[("1234567", "9284905"), ("-1234567", "-9284905"), ("2147483647", "1323408232")],
    );
    check("int64", "ff1(card, digits)", &[("9223372036854775807", "8307676997448413316"), ("1234567", "9284905")]);
    check("uint32", "ff1(card, digits)", &[("4000000000", "2017550664")]);
    for cell in ["0", "999999", "-999999", "-2147483648"] {
        check("int32", "ff1(card, digits)", &[(cell, "NULL")]);
    }
    check("int64", "ff1(card, digits, 10)", &[("123456789", "NULL"), ("12345678901", "NULL")]);
    check("int16", "ff1(card, digits)", &[("32767", "NULL")]);
}

fn ff1_rule(domain: &str, alphabet: Alphabet) -> Ff1Rule {
    Ff1Rule { domain: domain.to_owned(), alphabet, length: None }
}

#[test]
fn ff1_is_turned_back_by_version() {
    let old = keys(7);
    let new = keys(7).rotated([8; 32]);
    let rule = ff1_rule("card", Alphabet::Digits);
    let text = ColumnType::Text;
    let made = |keys: &TokenKeys, purpose: &str| {
        masked_one(keys, "ff1(card, digits)", purpose, &text, "4111 1111 1111 1111").unwrap()
    };
    let reveal = |version, value: &str| new.reveal_ff1(&rule, "reporting", version, &text, value);
    assert_eq!(reveal(1, &made(&old, "reporting")).as_deref(), Ok("4111 1111 1111 1111"));
    assert_eq!(reveal(2, &made(&new, "reporting")).as_deref(), Ok("4111 1111 1111 1111"));
    // Nothing tells a wrong version or purpose.
    assert_ne!(reveal(1, &made(&new, "reporting")).as_deref(), Ok("4111 1111 1111 1111"));
    assert_ne!(reveal(2, &made(&new, "support")).as_deref(), Ok("4111 1111 1111 1111"));
    assert_eq!(reveal(0, "4111 1111 1111 1111"), Err(RevealError::Version(0, 2)));
    assert_eq!(reveal(3, "4111 1111 1111 1111"), Err(RevealError::Version(3, 2)));
    for value in ["", "12345", "[redacted]", "4111 1111 1111 111x"] {
        assert_eq!(reveal(1, value), Err(RevealError::Form), "{value}");
    }
    let integer = |value: &str| old.reveal_ff1(&rule, "reporting", 1, &ColumnType::Int32, value);
    assert_eq!(integer("1323408232").as_deref(), Ok("2147483647"));
    assert_eq!(integer("-9284905").as_deref(), Ok("-1234567"));
    for value in
        ["", "123456", "2147483648", "01234567", "+1234567", "1 234 567", "99999999999999999999999999999999999999999"]
    {
        assert_eq!(integer(value), Err(RevealError::Form), "{value}");
    }
    assert_eq!(old.reveal_ff1(&rule, "reporting", 1, &ColumnType::Date, "1234567"), Err(RevealError::Form));
}

proptest! {
    /// The form stays, the value doesn't, and the holder of the keys gets it back.
    #[test]
    fn ff1_keeps_the_form(
        (alphabet, cell) in select(Alphabet::ALL.to_vec()).prop_flat_map(|alphabet| {
            let symbols = match alphabet {
                Alphabet::Digits => "0-9", Alphabet::Hex => "0-9a-f", Alphabet::Lower => "a-z", Alphabet::Upper => "A-Z",
                Alphabet::LowerDigits => "0-9a-z", Alphabet::UpperDigits => "0-9A-Z", Alphabet::LettersDigits => "0-9A-Za-z",
            };
            (Just(alphabet), string_regex(&format!("([{symbols}][ ./:()+_-]?){{0,40}}")).unwrap())
        }),
        other in "[0-9]{6}",
    ) {
        let rule = ff1_rule("d", alphabet);
        let cells = text_column(&[Some(&cell), None, Some(&other), Some(&cell)]);
        let (_, masked) = masked_with(&keys(7), "p", &Mask::Ff1(rule.clone()).to_string(), cells, &ColumnType::Text);
        let masked = shown(&ColumnType::Text, &masked);
        prop_assert_eq!(&masked[0], &masked[3]);
        let masked = masked[0].as_deref().unwrap();
        let revealed = keys(7).reveal_ff1(&rule, "p", 1, &ColumnType::Text, masked);
        if masked == "[redacted]" {
            let length = cell.chars().filter(char::is_ascii_alphanumeric).count();
            prop_assert!(!(6..=32).contains(&length), "{}", cell);
        } else {
            prop_assert_eq!(revealed.as_deref(), Ok(cell.as_str()));
            prop_assert_ne!(masked, cell.as_str());
            let form = |text: &str| text.chars().map(|char| if char.is_ascii_alphanumeric() { 'x' } else { char }).collect::<String>();
            prop_assert_eq!(form(masked), form(&cell));
        }
    }

    #[test]
    fn ff1_keeps_integers_of_their_type(
        column_type in select(vec![ColumnType::Int32, ColumnType::Int64, ColumnType::UInt32, ColumnType::UInt64]),
        seed in any::<i128>(), digits in 7..20u32,
    ) {
        let (least, most) = column_type.int_range().unwrap();
        let number = (seed % 10i128.pow(digits)).clamp(least, most);
        let cell = number.to_string();
        let masked = masked_one(&keys(7), "ff1(d, digits)", "p", &column_type, &cell);
        let rule = ff1_rule("d", Alphabet::Digits);
        match masked {
            None => prop_assert!(number.abs() < 1_000_000 || number == least, "{}", cell),
            Some(masked) => {
                prop_assert_eq!(masked.len(), cell.len());
                prop_assert_eq!(masked.starts_with('-'), cell.starts_with('-'));
                prop_assert_eq!(keys(7).reveal_ff1(&rule, "p", 1, &column_type, &masked), Ok(cell));
            }
        }
    }
}

/// A permutation: no two values become one.
#[test]
fn ff1_is_one_to_one() {
    let cells = (0..900).map(|n| format!("{n:06}")).collect::<Vec<_>>();
    let masked =
        texts("ff1(d, digits)", &cells.iter().map(|cell| Some(cell.as_str())).collect::<Vec<_>>(), &ColumnType::Text);
    let distinct = masked.iter().flatten().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(distinct.len(), cells.len());
}
