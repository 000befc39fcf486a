//! Masks of text: what stays of a cell's characters.

use super::REDACTED;
use crate::fresh::Short;
use std::fmt::Write;
use std::net::IpAddr;

/// What stands in place of the masked part of a text, whatever its length.
const RUN: &str = "*****";

/// The three-digit areas of at most 20,000 people, by the census of 2000 (the list in the guidance of the US Department of
/// Health and Human Services on 45 CFR 164.514(b)(2)) or by that of 2010.
const RESTRICTED_ZIP3: [&str; 19] = [
    "036", "059", "063", "102", "203", "205", "369", "556", "692", "790", "821", "823", "830", "831", "878", "879",
    "884", "890", "893",
];

/// [`RUN`], and how many bytes it has.
const RUN_BYTES: (u128, u32) = (u32::from_le_bytes(*b"****") as u128 | (b'*' as u128) << 32, RUN.len() as u32);

/// What [`keep_first`] writes, where the text and what is kept of it are of the most usual kind.
#[inline]
pub(super) fn first_short(text: &str, kept: usize) -> Option<Short> {
    let (run, length) = RUN_BYTES;
    if kept >= 8 || text.len() <= kept {
        return None;
    }
    let start = Short::word(text.as_bytes()) & ((1 << (8 * kept)) - 1);
    Short::new(u128::from(start) | run << (8 * kept), kept as u32 + length)
}

/// What [`keep_last`] writes, likewise.
#[inline]
pub(super) fn last_short(text: &str, kept: usize) -> Option<Short> {
    let (run, length) = RUN_BYTES;
    // One more must stand before those that are kept.
    let end = text.as_bytes().get(text.len().checked_sub(kept).filter(|start| *start > 0)?..)?;
    let end = match text.as_bytes().last_chunk::<8>() {
        Some(last) if kept < 8 => u64::from_le_bytes(*last).checked_shr(8 * (8 - kept as u32)).unwrap_or_default(),
        _ if kept < 8 => Short::word(end),
        _ => return None,
    };
    Short::new(run | u128::from(end) << (8 * length), kept as u32 + length)
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

pub(super) fn email(text: &str, out: &mut String) {
    let parts = || {
        let (local, domain) = text.split_at_checked(text.bytes().position(|byte| byte == b'@')?)?;
        let (host, tld) = domain.split_at_checked(domain.bytes().rposition(|byte| byte == b'.')?)?;
        let (host, tld) = (host.strip_prefix('@')?, tld.strip_prefix('.')?);
        // Each dot ends a label, and so does the host's end.
        let (is_empty, any_empty) = host.bytes().fold((true, false), |(is_empty, any), byte| {
            (byte == b'.', any | (is_empty & (byte == b'.')) | (byte == b'@'))
        });
        let well_formed = !local.is_empty()
            && !is_empty
            && !any_empty
            && !has_blanks(text)
            && (2..=24).contains(&tld.len())
            && tld.bytes().all(|byte| byte.is_ascii_alphabetic());
        // A local part of one character doesn't show it.
        let first = local.chars().next().filter(|first| local.len() > first.len_utf8());
        well_formed.then_some((first, tld))
    };
    match parts() {
        Some((first, tld)) => {
            out.extend(first);
            out.extend(["***@***.", tld]);
        }
        None => out.push_str(REDACTED),
    }
}

/// Whether a text has white space or controls.
fn has_blanks(text: &str) -> bool {
    if text.is_ascii() {
        // Without an early end, many are looked at at once.
        return text.bytes().fold(false, |any, byte| any | (byte <= b' ') | (byte == 0x7f));
    }
    text.chars().any(|char| char.is_whitespace() || char.is_control())
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
    }
}
