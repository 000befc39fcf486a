//! Cards, IBANs and BICs.

use super::checks::{is_date, luhn, mod97, number};

/// What is known of a number that may be a card's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Card {
    /// A wrong check digit.
    No,
    /// Of no issuer's range today, or as well the number of a product, a device or a person: the word for it must stand beside it.
    Perhaps,
    /// An issuer's range and length, and the right check digit.
    Yes,
}

/// Judges 12 to 19 digits (ISO/IEC 7812) by Luhn, issuer range and that issuer's lengths.
pub(super) fn card(digits: &[u8]) -> Card {
    let length = digits.len();
    let (two, three, four, six) =
        (number(digits, 0, 2), number(digits, 0, 3), number(digits, 0, 4), number(digits, 0, 6));
    let fits = match two {
        // American Express; Diners Club and JCB; UnionPay; Discover; Mir; RuPay and Maestro share the sixties.
        34 | 37 => length == 15,
        30 | 36 | 38 | 39 => (14..=19).contains(&length) && (two != 30 || matches!(three, 300..=305 | 309)),
        // JCB has 3528 to 3589; nobody else has the rest of 35.
        35 => (16..=19).contains(&length),
        18 | 21 => length == 15 && matches!(four, 1800 | 2131),
        22 if (2200..=2204).contains(&four) => (16..=19).contains(&length),
        22..=27 => length == 16 && (2221..=2720).contains(&four),
        40..=49 => matches!(length, 13 | 16 | 19),
        51..=55 => length == 16,
        50 | 56..=58 => (12..=19).contains(&length),
        62 | 81 => (16..=19).contains(&length),
        60 | 64 | 65 => (16..=19).contains(&length) || two == 60 && (12..=15).contains(&length) && six != 0,
        61 | 63 | 66..=69 => (12..=19).contains(&length),
        6 => length == 12 && four == 604,
        _ => false,
    };
    let other = match length {
        12 | 13 => is_gtin(digits),
        // An IMEI has the same check digit; of those who issue cards of 15 digits, two have ranges for them alone.
        15 => !matches!(two, 34 | 37 | 18 | 21),
        // A resident of China has a region, a date of birth and a number (GB 11643).
        18 => {
            matches!(number(digits, 6, 2), 19 | 20)
                && is_date(number(digits, 6, 4), number(digits, 10, 2), number(digits, 12, 2))
        }
        _ => false,
    };
    match luhn(digits) {
        false => Card::No,
        true if fits && !other => Card::Yes,
        true => Card::Perhaps,
    }
}

/// Whether the digits have the check digit of a trade item number (GTIN: EAN and UPC), GS1 General Specifications 7.9.
fn is_gtin(digits: &[u8]) -> bool {
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, byte)| u32::from(byte & 0x0F) * (1 + 2 * (i as u32 % 2))).sum();
    sum.is_multiple_of(10)
}

/// The length of an IBAN of each country, SWIFT's IBAN registry and the countries that use the form without being in it.
#[rustfmt::skip]
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24), (b"AE", 23), (b"AL", 28), (b"AO", 25), (b"AT", 20), (b"AZ", 28), (b"BA", 20), (b"BE", 16), (b"BF", 28),
    (b"BG", 22), (b"BH", 22), (b"BI", 27), (b"BJ", 28), (b"BR", 29), (b"BY", 28), (b"CF", 27), (b"CG", 27), (b"CH", 21),
    (b"CI", 28), (b"CM", 27), (b"CR", 22), (b"CV", 25), (b"CY", 28), (b"CZ", 24), (b"DE", 22), (b"DJ", 27), (b"DK", 18),
    (b"DO", 28), (b"DZ", 26), (b"EE", 20), (b"EG", 29), (b"ES", 24), (b"FI", 18), (b"FK", 18), (b"FO", 18), (b"FR", 27),
    (b"GA", 27), (b"GB", 22), (b"GE", 22), (b"GI", 23), (b"GL", 18), (b"GQ", 27), (b"GR", 27), (b"GT", 28), (b"GW", 25),
    (b"HN", 28), (b"HR", 21), (b"HU", 28), (b"IE", 22), (b"IL", 23), (b"IQ", 23), (b"IR", 26), (b"IS", 26), (b"IT", 27),
    (b"JO", 30), (b"KM", 27), (b"KW", 30), (b"KZ", 20), (b"LB", 28), (b"LC", 32), (b"LI", 21), (b"LT", 20), (b"LU", 20),
    (b"LV", 21), (b"LY", 25), (b"MA", 28), (b"MC", 27), (b"MD", 24), (b"ME", 22), (b"MG", 27), (b"MK", 19), (b"ML", 28),
    (b"MN", 20), (b"MR", 27), (b"MT", 31), (b"MU", 30), (b"MZ", 25), (b"NE", 28), (b"NI", 28), (b"NL", 18), (b"NO", 15),
    (b"OM", 23), (b"PK", 24), (b"PL", 28), (b"PS", 29), (b"PT", 25), (b"QA", 29), (b"RO", 24), (b"RS", 22), (b"RU", 33),
    (b"SA", 24), (b"SC", 31), (b"SD", 18), (b"SE", 24), (b"SI", 19), (b"SK", 24), (b"SM", 27), (b"SN", 28), (b"SO", 23),
    (b"ST", 25), (b"SV", 28), (b"TD", 27), (b"TG", 28), (b"TL", 23), (b"TN", 24), (b"TR", 26), (b"UA", 29), (b"VA", 22),
    (b"VG", 24), (b"XK", 20), (b"YE", 30),
];

/// The length of an IBAN that begins so: two letters of a country and two check digits.
pub(super) fn iban_length(start: &[u8]) -> Option<usize> {
    let [a, b, c, d, ..] = start else { return None };
    if !(a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let wanted = u16::from_be_bytes([*a, *b]);
    let place = IBAN_LENGTHS.binary_search_by_key(&wanted, |(country, _)| u16::from_be_bytes(**country)).ok()?;
    IBAN_LENGTHS.get(place).map(|(_, length)| *length)
}

/// Whether these upper case letters and digits are an IBAN: its country's length and ISO 7064 mod 97-10.
pub(super) fn is_iban(text: &[u8]) -> bool {
    iban_length(text) == Some(text.len()) && mod97(text)
}

/// ISO 3166-1 alpha-2, and `XK`, which banks in Kosovo use.
const COUNTRIES: &str = "ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBYBZCACCCDCFCGCHCICKCLCMCNCOCRCUCVCWCXCYCZ\
    DEDJDKDMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGLGMGNGPGQGRGSGTGUGWGYHKHMHNHRHTHUIDIEILIMINIOIQIRISITJEJMJOJPKEKGKHKIKM\
    KNKPKRKWKYKZLALBLCLILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZNANCNENFNGNINLNONPNRNUNZOMPAPEPFPGPHPKPLPMPNPRPS\
    PTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSSSTSVSXSYSZTCTDTFTGTHTJTKTLTMTNTOTRTTTVTWTZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSYEYT\
    ZAZMZWXK";

/// Whether these two capitals are a country's code.
pub(super) fn is_country(code: &[u8]) -> bool {
    COUNTRIES.as_bytes().chunks(2).any(|known| known == code)
}

/// Whether this is written as a BIC (ISO 9362): bank, country, place, and perhaps a branch, in upper case.
pub(super) fn is_bic(text: &[u8]) -> bool {
    let (Some(bank), Some(country), Some(rest)) = (text.get(..4), text.get(4..6), text.get(6..)) else { return false };
    bank.iter().all(u8::is_ascii_uppercase)
        && is_country(country)
        && matches!(rest.len(), 2 | 5)
        && rest.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}
