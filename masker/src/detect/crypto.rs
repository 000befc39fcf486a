//! Addresses of cryptocurrencies: Bitcoin's of all kinds (Base58Check, BIP 173, BIP 350) and Ethereum's.

use sha2::{Digest, Sha256};

/// Whether one piece of letters and digits is an address with a right checksum; Ethereum's needs none, its `0x` and forty
/// digits stand for nothing else.
pub(super) fn is_address(text: &[u8]) -> bool {
    match text {
        [b'1' | b'3', ..] => is_base58check(text),
        [b'b' | b'B', b'c' | b'C', b'1', ..] => is_bech32(text),
        [b'0', b'x' | b'X', rest @ ..] => rest.len() == 40 && rest.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

/// Base58Check: 25 bytes, the last four the start of the others' double SHA-256; versions 0 and 5 are Bitcoin's.
fn is_base58check(text: &[u8]) -> bool {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    if !(26..=35).contains(&text.len()) {
        return false;
    }
    let mut bytes = [0u8; 25];
    for byte in text {
        let Some(digit) = ALPHABET.iter().position(|other| other == byte) else { return false };
        let mut carry = digit;
        for place in bytes.iter_mut().rev() {
            carry += usize::from(*place) * 58;
            *place = u8::try_from(carry & 0xFF).unwrap_or(0);
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let (body, check) = bytes.split_at(21);
    matches!(body.first(), Some(0 | 5)) && Sha256::digest(Sha256::digest(body)).starts_with(check)
}

/// Bech32 (witness version 0) or Bech32m (later ones) with the prefix `bc`.
fn is_bech32(text: &[u8]) -> bool {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let (lower, upper) = (text.iter().any(u8::is_ascii_lowercase), text.iter().any(u8::is_ascii_uppercase));
    if !matches!(text.len(), 14..=74) || lower && upper {
        return false;
    }
    let mut check = [3, 3, 0, 2, 3].iter().fold(1, |check, value| polymod(check, *value));
    let mut version = None;
    for byte in text.iter().skip(3) {
        let byte = byte.to_ascii_lowercase();
        let Some(value) = ALPHABET.iter().position(|other| *other == byte) else { return false };
        version = version.or(Some(value));
        check = polymod(check, u32::try_from(value).unwrap_or(0));
    }
    match version {
        Some(0) => check == 1,
        Some(1..=16) => check == 0x2BC8_30A3,
        _ => false,
    }
}

fn polymod(check: u32, value: u32) -> u32 {
    const GENERATOR: [u32; 5] = [0x3B6A_57B2, 0x2650_8E6D, 0x1EA1_19FA, 0x3D42_33DD, 0x2A14_62B3];
    let top = check >> 25;
    let next = (check & 0x01FF_FFFF) << 5 ^ value;
    GENERATOR.iter().enumerate().fold(next, |next, (bit, term)| if top >> bit & 1 == 1 { next ^ term } else { next })
}
