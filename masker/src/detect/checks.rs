//! Check digits, each named after its scheme, with the document it is published in. Input is what a rule's pattern let
//! through: upper case ASCII letters and digits without separators. A length or character that doesn't fit is `false`.

/// The value of a digit; anything else is 0.
fn value(byte: u8) -> u32 {
    if byte.is_ascii_digit() { u32::from(byte - b'0') } else { 0 }
}

/// 0 to 9 for digits, 10 to 35 for letters (ISO 7064, ICAO 9303).
pub(super) fn base36(byte: u8) -> u32 {
    match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        b'A'..=b'Z' => u32::from(byte - b'A') + 10,
        b'a'..=b'z' => u32::from(byte - b'a') + 10,
        _ => 0,
    }
}

/// Digit `index`, or 0.
pub(super) fn digit(text: &[u8], index: usize) -> u32 {
    text.get(index).map_or(0, |byte| value(*byte))
}

/// The number that the digits from `from` on, `count` of them, write.
pub(super) fn number(text: &[u8], from: usize, count: usize) -> u32 {
    text.iter().skip(from).take(count).fold(0, |sum: u32, byte| sum.wrapping_mul(10).wrapping_add(value(*byte)))
}

/// The sum of digits, each times its weight.
pub(super) fn weighted(text: &[u8], weights: &[u32]) -> u32 {
    text.iter().zip(weights).map(|(byte, weight)| value(*byte) * weight).sum()
}

/// Luhn, ISO/IEC 7812-1 annex B.
pub(super) fn luhn(digits: &[u8]) -> bool {
    luhn_from(digits, 0)
}

/// Luhn with the sum of a constant prefix in front.
pub(super) fn luhn_from(digits: &[u8], sum: u32) -> bool {
    let mut double = false;
    let mut sum = sum;
    for byte in digits.iter().rev() {
        let once = value(*byte);
        let twice = if once > 4 { 2 * once - 9 } else { 2 * once };
        sum += if double { twice } else { once };
        double = !double;
    }
    sum.is_multiple_of(10)
}

/// ISO 7064 mod 97-10 of an IBAN, ISO 13616: the first four characters are read last.
pub(super) fn mod97(iban: &[u8]) -> bool {
    let mut rest: u32 = 0;
    for byte in iban.iter().skip(4).chain(iban.iter().take(4)) {
        let value = base36(*byte);
        rest = (rest * if value > 9 { 100 } else { 10 } + value) % 97;
    }
    rest == 1
}

/// ISO 7064 mod 11,10, whose check digit is the last.
pub(super) fn mod11_10(digits: &[u8]) -> bool {
    let Some((check, body)) = digits.split_last() else { return false };
    let product = body.iter().fold(10, |product, byte| {
        let sum = (value(*byte) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == value(*check)
}

/// Verhoeff, 1969: the dihedral group of order ten.
pub(super) fn verhoeff(digits: &[u8]) -> bool {
    const PERMUTED: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let mut sum = 0;
    for (place, byte) in digits.iter().rev().enumerate() {
        let mut factor = value(*byte);
        for _ in 0..place % 8 {
            factor = PERMUTED.get(factor as usize).copied().unwrap_or(0);
        }
        sum = dihedral(sum, factor);
    }
    sum == 0
}

/// The product in that group: 0 to 4 are rotations, 5 to 9 reflections.
fn dihedral(a: u32, b: u32) -> u32 {
    match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b - 5) % 5,
        (false, true) => 5 + (a - 5 + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    }
}

/// ICAO 9303 part 3, 4.9: weights 7, 3, 1 over digits, letters and `<`.
pub(super) fn icao(field: &[u8], check: u8) -> bool {
    let sum: u32 = field.iter().zip([7, 3, 1].iter().cycle()).map(|(byte, weight)| base36(*byte) * weight).sum();
    sum % 10 == value(check) && (check.is_ascii_digit() || check == b'<')
}

/// Whether this is a day of the calendar; a year of two digits that may be a leap year in one century counts as one.
pub(super) fn is_date(year: u32, month: u32, day: u32) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400) || year < 100);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Whether all characters are the same.
pub(super) fn is_one_repeated(text: &[u8]) -> bool {
    text.windows(2).all(|pair| matches!(pair, [a, b] if a == b))
}
