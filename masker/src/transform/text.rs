//! Masks of text: what stays of a cell's characters.

use super::REDACTED;
use crate::fresh::Short;
use memchr::{memchr, memrchr};
use std::fmt::Write;
use std::net::IpAddr;

/// What stands in place of the masked part of a text, whatever its length.
const RUN: &str = "*****";

const SHORT_REDACTED: Short = Short::of(REDACTED);

/// The three-digit areas of at most 20,000 people, by the census of 2000 (the list in the guidance of the US Department of
/// Health and Human Services on 45 CFR 164.514(b)(2)) or by that of 2010.
const RESTRICTED_ZIP3: [&str; 19] = [
    "036", "059", "063", "102", "203", "205", "369", "556", "692", "790", "821", "823", "830", "831", "878", "879",
    "884", "890", "893",
];

/// What [`keep_first`] writes, where the text and what is kept of it are of the most usual kind.
#[inline]
pub(super) fn first_short(text: &str, kept: usize) -> Option<Short> {
    if text.len() <= kept {
        return Some(SHORT_REDACTED);
    }
    if kept >= 8 {
        return None;
    }
    let (run, length) = (u128::from(Short::word(RUN.as_bytes())), RUN.len() + kept);
    let start = Short::word(text.as_bytes()) & ((1 << (8 * kept)) - 1);
    Short::new(u128::from(start) | run << (8 * kept), length as u32)
}

/// What [`keep_last`] writes, likewise.
#[inline]
pub(super) fn last_short(text: &str, kept: usize) -> Option<Short> {
    if text.len() <= kept {
        return Some(SHORT_REDACTED);
    }
    if kept >= 8 {
        return None;
    }
    let (run, length) = (u128::from(Short::word(RUN.as_bytes())), RUN.len() + kept);
    let bytes = text.as_bytes();
    let end = match bytes.last_chunk() {
        Some(last) => u64::from_le_bytes(*last).unbounded_shr(8 * (8 - kept as u32)),
        None => Short::word(bytes.get(bytes.len() - kept..)?),
    };
    Short::new(run | u128::from(end) << (8 * RUN.len()), length as u32)
}

pub(super) fn keep_first(text: &str, kept: usize, out: &mut String) {
    // Where the first bytes are ASCII, they are the first characters.
    let end = match text.as_bytes().get(..=kept) {
        Some(start) if start.is_ascii() => Some(kept),
        _ => text.char_indices().nth(kept).map(|(end, _)| end),
    };
    match end.and_then(|end| text.get(..end)) {
        Some(start) => {
            out.push_str(start);
            out.push_str(RUN);
        }
        None => out.push_str(REDACTED),
    }
}

pub(super) fn keep_last(text: &str, kept: usize, out: &mut String) {
    // Where the last bytes are ASCII, they are the last characters. One more must stand before them.
    let start = text.len().checked_sub(kept);
    let start = match start.and_then(|start| text.as_bytes().get(start..)) {
        Some(end) if end.is_ascii() => start,
        _ => text.char_indices().nth_back(kept.saturating_sub(1)).map(|(start, _)| start),
    };
    match start.filter(|start| *start > 0).and_then(|start| text.get(start..)) {
        Some(end) => {
            out.push_str(RUN);
            out.push_str(end);
        }
        None => out.push_str(REDACTED),
    }
}

/// What stands between the first character of an address and its last label.
const ADDRESS: &str = "***@***.";

pub(super) fn email(text: &str, out: &mut String) {
    match email_parts(text) {
        Some((first, tld)) => {
            out.extend(first);
            out.extend([ADDRESS, tld]);
        }
        None => out.push_str(REDACTED),
    }
}

/// What [`email`] writes, but of an address whose last label is long.
#[inline]
pub(super) fn email_short(text: &str) -> Option<Short> {
    let Some((first, tld)) = email_parts(text) else { return Some(SHORT_REDACTED) };
    let (start, bits) = first.map_or((0, 0), |first| (u128::from(u32::from(first)), 8));
    let address = u128::from(Short::word(ADDRESS.as_bytes()));
    let end = u128::from(Short::word(tld.as_bytes()));
    let length = bits / 8 + (ADDRESS.len() + tld.len()) as u32;
    first.is_none_or(|first| first.is_ascii()).then_some(())?;
    Short::new(start | address << bits | end << (bits + 64), length)
}

/// The first character of an address, if that is not all there is before the `@`, and its last label; `None` for what isn't an address.
fn email_parts(text: &str) -> Option<(Option<char>, &str)> {
    let bytes = text.as_bytes();
    let (local, domain) = text.split_at_checked(memchr(b'@', bytes)?)?;
    let (host, tld) = domain.split_at_checked(memrchr(b'.', domain.as_bytes())?)?;
    let (host, tld) = (host.strip_prefix('@')?, tld.strip_prefix('.')?);
    // Each dot ends a label, and so does the host's end.
    let mut is_empty = true;
    for byte in host.bytes() {
        if byte == b'@' || is_empty && byte == b'.' {
            return None;
        }
        is_empty = byte == b'.';
    }
    let well_formed = !local.is_empty()
        && !is_empty
        && (is_printed(bytes) || !text.chars().any(|char| char.is_whitespace() || char.is_control()))
        && (2..=24).contains(&tld.len())
        && tld.bytes().all(|byte| byte.is_ascii_alphabetic());
    // A local part of one character doesn't show it.
    let first = local.chars().next().filter(|first| local.len() > first.len_utf8());
    well_formed.then_some((first, tld))
}

/// Whether all are ASCII letters, digits and signs: eight at once.
fn is_printed(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // As long as no byte has its high bit set, the lowest that borrows is one that is looked for.
    let odd = |word: u64| (word | word.wrapping_sub(ONES * 0x21) | (word ^ (ONES * 0x7f)).wrapping_sub(ONES)) & HIGH;
    let Some(last) = bytes.last_chunk::<8>() else { return bytes.iter().all(u8::is_ascii_graphic) };
    let all = bytes.as_chunks::<8>().0.iter().chain([last]);
    all.fold(0, |all, word| all | odd(u64::from_le_bytes(*word))) == 0
}

/// The first three digits of a ZIP code, which may have its four more; 000 where too few people live.
pub(super) fn zip3(text: &str, out: &mut String) {
    let parts = || {
        let (area, rest) = text.split_at_checked(3)?;
        let is_code = match rest.len() {
            2 | 6 => rest.bytes().all(|byte| byte.is_ascii_digit()),
            7 => rest.bytes().enumerate().all(|(at, byte)| if at == 2 { byte == b'-' } else { byte.is_ascii_digit() }),
            _ => false,
        };
        (is_code && area.bytes().all(|byte| byte.is_ascii_digit())).then_some(area)
    };
    out.push_str(match parts() {
        Some(area) if RESTRICTED_ZIP3.contains(&area) => "000",
        Some(area) => area,
        None => REDACTED,
    });
}

/// The network that an address is in, as `10.0.0.0/8`; an IPv4 address that is written as an IPv6 one is an IPv4 address. The
/// address may say its own network (`10.1.2.3/24`), which is left out.
pub(super) fn ip_prefix(text: &str, v4: u8, v6: u8, out: &mut String) {
    let (address, own) = text.split_once('/').map_or((text, None), |(address, own)| (address, Some(own)));
    let own_fits = |most: u8| own.is_none_or(|own| own.parse::<u8>().is_ok_and(|bits| bits <= most));
    // A shift by all bits is none, so that no bit stays.
    let written = match address.parse::<IpAddr>().map(|address| (address, address.to_canonical())) {
        Ok((address, IpAddr::V4(canonical))) if own_fits(if address.is_ipv4() { 32 } else { 128 }) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(v4.into())).unwrap_or(0);
            write!(out, "{}/{v4}", std::net::Ipv4Addr::from_bits(canonical.to_bits() & mask))
        }
        Ok((_, IpAddr::V6(address))) if own_fits(128) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(v6.into())).unwrap_or(0);
            write!(out, "{}/{v6}", std::net::Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        _ => write!(out, "{REDACTED}"),
    };
    // Writing to a string can't fail.
    let _ = written;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fresh::shorts;
    use polars::prelude::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn short_texts_are_as_the_others(cells in prop::collection::vec(prop::option::of("[a-c*é字🙂]{0,14}"), 0..20), kept in 1..12_usize) {
            let column = StringChunked::from_iter_options("c".into(), cells.iter().map(Option::as_deref));
            let first = shorts(&column, |text| first_short(text, kept), |text, out| keep_first(text, kept, out));
            let last = shorts(&column, |text| last_short(text, kept), |text, out| keep_last(text, kept, out));
            for (at, cell) in cells.iter().enumerate() {
                let slow = |write: &dyn Fn(&str, &mut String)| cell.as_deref().map(|cell| {
                    let mut out = String::new();
                    write(cell, &mut out);
                    out
                });
                let expected = slow(&|text, out| keep_first(text, kept, out));
                prop_assert_eq!(first.str().unwrap().get(at), expected.as_deref(), "first {} of {:?}", kept, cell);
                let expected = slow(&|text, out| keep_last(text, kept, out));
                prop_assert_eq!(last.str().unwrap().get(at), expected.as_deref(), "last {} of {:?}", kept, cell);
            }
        }

        #[test]
        fn eight_at_once_are_as_one_by_one(bytes in prop::collection::vec(prop_oneof![0x1f..0x23_u8, 0x7d..0x82_u8, any::<u8>()], 0..3), pad in 0..20_usize) {
            let bytes = [vec![b'a'; pad], bytes, vec![b'~'; pad % 7]].concat();
            prop_assert_eq!(is_printed(&bytes), bytes.iter().all(u8::is_ascii_graphic));
        }

        #[test]
        fn short_addresses_are_as_the_others(cell in "([a-cé字.]{0,3}@)?[a-c@. ]{0,4}\\.[a-zé]{0,14}") {
            let column = StringChunked::from_slice("c".into(), &[&cell]);
            let found = shorts(&column, email_short, email);
            let mut expected = String::new();
            email(&cell, &mut expected);
            prop_assert_eq!(found.str().unwrap().get(0), Some(expected.as_str()));
        }
    }
}
