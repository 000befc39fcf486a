//! The text as the detectors read it: one byte for each code point. ASCII stands for itself; digits of other scripts, wide
//! forms, and the many spaces and dashes become their ASCII likes, letters with marks lose them, and escaped line ends become
//! such, so that one rule reads `4111`, `４１１１` and `٤١١١` alike. Since nothing is added or dropped, a position in it is a
//! position in code points.

use std::borrow::Cow;
use std::sync::OnceLock;

/// What is there to be skipped: zero-width characters, soft hyphens, marks of direction.
const IGNORABLE: u8 = 0x02;
/// What is neither letter, digit, space nor dash.
const SYMBOL: u8 = 0x01;
/// Letters of scripts that put spaces between words are 0x80 to 0xBF, those of the others 0xC0 to 0xFF: an identifier may
/// stand right beside the latter.
const SPACED: u8 = 0x80;
pub(super) const UNSPACED: u8 = 0xC0;

/// One byte for each code point of `text`.
pub(super) fn fold(text: &str) -> Cow<'_, [u8]> {
    let folded = letters(text);
    match memchr::memchr(b'\\', &folded) {
        Some(first) => Cow::Owned(unescaped(folded.into_owned(), first)),
        None => folded,
    }
}

/// The text without what is to be skipped, and where each of its bytes stands in the folded one; `None` where there is nothing such.
pub(super) fn skipping(folded: &[u8]) -> Option<(Vec<u8>, Vec<usize>)> {
    memchr::memchr(IGNORABLE, folded)?;
    Some(folded.iter().zip(0..).filter(|(byte, _)| **byte != IGNORABLE).map(|(byte, place)| (*byte, place)).unzip())
}

/// Line ends and tabs that are written as in JSON (`\n`) become such, so that no word begins with their letter. `first` is the
/// first backslash.
fn unescaped(mut text: Vec<u8>, first: usize) -> Vec<u8> {
    let mut place = first;
    loop {
        if let Some([slash, letter]) = text.get_mut(place..place + 2) {
            match *letter {
                b'n' | b'r' => (*slash, *letter) = (b' ', b'\n'),
                b't' => (*slash, *letter) = (b' ', b' '),
                _ => {}
            }
        }
        match text.get(place + 1..).and_then(|rest| memchr::memchr(b'\\', rest)) {
            Some(next) => place += 1 + next,
            None => return text,
        }
    }
}

fn letters(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut folded = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let plain = ascii_length(rest.as_bytes());
        let (ascii, other) = rest.split_at(plain);
        folded.extend_from_slice(ascii.as_bytes());
        let mut characters = other.chars();
        while let Some(character) = characters.as_str().chars().next() {
            if character.is_ascii() {
                break;
            }
            folded.push(fold_char(character));
            characters.next();
        }
        rest = characters.as_str();
    }
    Cow::Owned(folded)
}

/// How many bytes are ASCII before the first that isn't.
fn ascii_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    for block in bytes.chunks(16) {
        if !block.is_ascii() {
            return length + block.iter().position(|byte| !byte.is_ascii()).unwrap_or(0);
        }
        length += block.len();
    }
    length
}

/// Whether this byte of a folded text belongs to a word, so that an identifier cannot begin or end beside it.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || (SPACED..UNSPACED).contains(&byte)
}

/// The code points of the digit zero of each script (Unicode's `Nd`) that writes numbers of its own; nine more follow each.
#[rustfmt::skip]
const ZEROS: [u32; 22] = [
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0E50, 0x0ED0,
    0x0F20, 0x1040, 0x17E0, 0x1810, 0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7E2,
];

fn fold_char(character: char) -> u8 {
    let code = u32::from(character);
    match code {
        0xA0 | 0x1680 | 0x2000..=0x200A | 0x202F | 0x205F | 0x3000 => b' ',
        0x2028 | 0x2029 | 0x85 => b'\n',
        0x00AD
        | 0x034F
        | 0x061C
        | 0x180E
        | 0x200B..=0x200F
        | 0x202A..=0x202E
        | 0x2060..=0x2064
        | 0x2066..=0x2069
        | 0xFE00..=0xFE0F
        | 0xFEFF => IGNORABLE,
        0x2010..=0x2015 | 0x2043 | 0x2212 | 0x2E3A | 0x2E3B | 0x30FC | 0xFE58 | 0xFE63 => b'-',
        0x2018 | 0x2019 | 0x02BC => b'\'',
        0x201C | 0x201D => b'"',
        0x2044 | 0x2215 => b'/',
        0x2024 | 0x3002 | 0xFF61 => b'.',
        0xFF01..=0xFF5E => u8::try_from(code - 0xFF01 + 0x21).unwrap_or(SYMBOL),
        0xC0..=0x24F | 0x1E00..=0x1EFF => {
            static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
            let letters = || (0xC0..=0x24F).chain(0x1E00..=0x1EFF).filter_map(char::from_u32).map(latin).collect();
            let place = if code < 0x1E00 { code - 0xC0 } else { code - 0x1E00 + 0x190 };
            TABLE.get_or_init(letters).get(place as usize).copied().unwrap_or(SYMBOL)
        }
        _ => match digit(code) {
            Some(digit) => digit,
            None if character.is_alphanumeric() => hashed(character),
            // A mark above a letter (é written as two code points) belongs to the word.
            None if matches!(code, 0x300..=0x36F) => IGNORABLE,
            None => SYMBOL,
        },
    }
}

fn digit(code: u32) -> Option<u8> {
    let zero = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code))?;
    u8::try_from(code - zero).ok().map(|digit| b'0' + digit)
}

/// The base letter of a Latin letter with a mark, or the first letter of a ligature.
fn latin(character: char) -> u8 {
    const TABLE: [(&str, u8); 26] = [
        ("àáâãäåāăąǎǟǡǻȁȃȧæǽǣ", b'a'),
        ("ƀɓ", b'b'),
        ("çćĉċčƈ", b'c'),
        ("ðďđ", b'd'),
        ("èéêëēĕėęěȅȇȩ", b'e'),
        ("ƒ", b'f'),
        ("ĝğġģǥǧǵ", b'g'),
        ("ĥħȟ", b'h'),
        ("ìíîïĩīĭįıǐȉȋĳ", b'i'),
        ("ĵǰ", b'j'),
        ("ķĸǩ", b'k'),
        ("ĺļľŀł", b'l'),
        ("ḿ", b'm'),
        ("ñńņňŉŋǹ", b'n'),
        ("òóôõöøōŏőǒǫǭȍȏȯœ", b'o'),
        ("ƥ", b'p'),
        ("ɋ", b'q'),
        ("ŕŗřȑȓ", b'r'),
        ("śŝşšșßſ", b's'),
        ("ţťŧțþ", b't'),
        ("ùúûüũūŭůűųǔǖǘǚǜȕȗ", b'u'),
        ("ʋ", b'v'),
        ("ŵẁẃẅ", b'w'),
        ("ẋ", b'x'),
        ("ýÿŷȳỳỹ", b'y'),
        ("źżžƶ", b'z'),
    ];
    if matches!(character, '×' | '÷') {
        return SYMBOL;
    }
    let upper = character.is_uppercase();
    let mut lower = character.to_lowercase();
    let low = lower.next().unwrap_or(character);
    match TABLE.iter().find(|(marked, _)| marked.contains(low)) {
        Some((_, base)) if upper => base.to_ascii_uppercase(),
        Some((_, base)) => *base,
        // The dotted capital I of Turkish is `i` and a mark in lower case; what is left are Vietnamese letters and rare ones.
        None if low == 'i' => b'I',
        None => {
            vietnamese(low).map_or_else(|| hashed(low), |base| if upper { base.to_ascii_uppercase() } else { base })
        }
    }
}

fn vietnamese(low: char) -> Option<u8> {
    Some(match u32::from(low) {
        0x1EA0..=0x1EB7 => b'a',
        0x1EB8..=0x1EC7 => b'e',
        0x1EC8..=0x1ECB => b'i',
        0x1ECC..=0x1EE3 | 0x01A1 => b'o',
        0x1EE4..=0x1EF1 | 0x01B0 => b'u',
        0x1EF2..=0x1EF9 => b'y',
        _ => return None,
    })
}

/// A letter of another script as one of 64 bytes, so that context words of any script can be told apart well enough: three
/// letters collide by chance once in 262,144.
fn hashed(character: char) -> u8 {
    let lower = character.to_lowercase().next().unwrap_or(character);
    let code = u32::from(lower);
    let hash = u8::try_from((code.wrapping_mul(0x9E37_79B1) >> 26) & 0x3F).unwrap_or(0);
    let unspaced = matches!(code, 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1100..=0x11FF | 0x1780..=0x17FF | 0x3040..=0x31FF
        | 0x3400..=0x9FFF | 0xAC00..=0xD7FF | 0xF900..=0xFAFF | 0xFF66..=0xFFDC | 0x2_0000..=0x3_FFFF);
    if unspaced { UNSPACED | hash } else { SPACED | hash }
}
