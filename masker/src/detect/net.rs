//! Addresses of the net: IP (RFC 791, RFC 4291, with zone and prefix length), MAC (IEEE 802), email (RFC 5322 as people write
//! them) and URLs.

use super::fold::{UNSPACED, is_word};
use super::scan::at;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The part of `text` from `start` to `end` as text, empty if it isn't ASCII.
fn ascii(text: &[u8], start: usize, end: usize) -> &str {
    text.get(start..end).and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default()
}

pub(super) fn run(text: &[u8], from: usize, allowed: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !allowed(*byte)).unwrap_or(rest.len())
}

fn run_back(text: &[u8], to: usize, allowed: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(..to).unwrap_or_default();
    rest.iter().rposition(|byte| !allowed(*byte)).map_or(0, |place| place + 1)
}

/// [`run`] over at most so many bytes. Whatever is tried at many places has such a bound, so that the time is linear in the text.
pub(super) fn run_within(text: &[u8], from: usize, most: usize, allowed: impl Fn(u8) -> bool) -> usize {
    run(text.get(..from.saturating_add(most).min(text.len())).unwrap_or_default(), from, allowed)
}

/// [`run_back`] over at most so many bytes.
pub(super) fn run_back_within(text: &[u8], to: usize, most: usize, allowed: impl Fn(u8) -> bool) -> usize {
    let from = to.saturating_sub(most);
    from + run_back(text.get(from..to).unwrap_or_default(), to - from, allowed)
}

/// The end of an IPv4 address that begins at `start`, with a prefix length if one follows.
pub(super) fn ipv4(text: &[u8], start: usize) -> Option<usize> {
    if let Some(before) = start.checked_sub(1) {
        let before = at(text, before);
        if is_word(before) || before == b'.' {
            return None;
        }
    }
    let mut end = start;
    for octet in 0..4 {
        if octet > 0 {
            if at(text, end) != b'.' {
                return None;
            }
            end += 1;
        }
        let next = run(text, end, |byte| byte.is_ascii_digit());
        if next == end || next - end > 3 || ascii(text, end, next).parse::<u16>().is_ok_and(|number| number > 255) {
            return None;
        }
        end = next;
    }
    ends_address(text, end).then(|| with_prefix(text, end, 32))
}

/// Whether an address may end here: no word goes on, no further part of a version number follows.
fn ends_address(text: &[u8], end: usize) -> bool {
    let next = at(text, end);
    !(is_word(next) || next == b'.' && at(text, end + 1).is_ascii_alphanumeric())
}

fn with_prefix(text: &[u8], end: usize, most: u8) -> usize {
    if at(text, end) == b'/' {
        let after = run(text, end + 1, |byte| byte.is_ascii_digit());
        if ascii(text, end + 1, after).parse::<u8>().is_ok_and(|bits| bits <= most) && ends_address(text, after) {
            return after;
        }
    }
    end
}

/// An IPv6 address around `place`, which is one of its characters: start and end. With `strict`, what could as well be a path
/// of names (`a::b`) is none.
pub(super) fn ipv6(text: &[u8], place: usize, strict: bool) -> Option<(usize, usize)> {
    const MOST: usize = 45;
    let part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    // One more than there may be, and perhaps a dot that ends a sentence.
    let start = run_back_within(text, place, MOST + 1, part);
    if start.checked_sub(1).is_some_and(|before| is_word(at(text, before))) {
        return None;
    }
    let mut end = run_within(text, place, MOST + 2, part);
    while end > start && at(text, end - 1) == b'.' {
        end -= 1;
    }
    // A colon at the end of a sentence or list belongs to it, unless it is the last of two.
    if end > start + 1 && at(text, end - 1) == b':' && at(text, end - 2) != b':' {
        end -= 1;
    }
    let written = ascii(text, start, end);
    if end - start > MOST || written.bytes().filter(|byte| *byte == b':').count() < 2 {
        return None;
    }
    written.parse::<Ipv6Addr>().ok().or_else(|| mapped(written))?;
    if strict && (!written.bytes().any(|byte| byte.is_ascii_digit()) || written.len() < 3) {
        return None;
    }
    if at(text, end) == b'%' {
        let zone = run(text, end + 1, |byte| byte.is_ascii_alphanumeric());
        end = if zone > end + 1 { zone } else { end };
    }
    ends_address(text, end).then(|| (start, with_prefix(text, end, 128)))
}

/// IPv4 addresses written in IPv6 with a spare group of zeros (`::ffff:0:10.0.0.1`, RFC 2765).
fn mapped(written: &str) -> Option<Ipv6Addr> {
    let (head, v4) = written.rsplit_once(':')?;
    v4.parse::<Ipv4Addr>().ok()?;
    format!("{head}:0:0").parse().ok()
}

/// Whether an IPv4 address here is rather a version number: after a name and `/` as in user agents, after a comparison, or after
/// a word that says so.
pub(super) fn is_version(text: &[u8], start: usize) -> bool {
    const WORDS: &[&[u8]] = &[
        b"version",
        b"versions",
        b"ver",
        b"ver.",
        b"release",
        b"build",
        b"firmware",
        b"kernel",
        b"rev",
        b"rv",
        b"driver",
        b"upgrade",
        b"update",
    ];
    let before = text.get(start.saturating_sub(24)..start).unwrap_or_default().to_ascii_lowercase();
    let last = |text: &[u8], back: usize| text.len().checked_sub(back).map_or(0, |place| at(text, place));
    let product =
        last(&before, 1) == b'/' && is_word(last(&before, 2)) && !before.windows(3).any(|three| three == b"://");
    let trimmed = before.trim_ascii_end();
    let compared = [&b"=="[..], b">=", b"<=", b"~=", b"^", b"~>"].iter().any(|sign| trimmed.ends_with(sign));
    let strip = |text: &'_ [u8], ends: &[&[u8]]| {
        let end = ends.iter().find(|end| text.ends_with(end)).map_or(0, |end| end.len());
        text.get(..text.len() - end).unwrap_or_default().trim_ascii_end().to_vec()
    };
    let named = strip(&strip(trimmed, &[b":", b"="]), &[b" to", b" from", b" is", b" of"]);
    let word = |word: &&[u8]| named.ends_with(word) && !is_word(last(&named, word.len() + 1));
    product || compared || WORDS.iter().any(word)
}

/// The end of a MAC address that begins at `start`: six pairs between colons or hyphens, or three fours between dots.
pub(super) fn mac(text: &[u8], start: usize) -> Option<usize> {
    let beside = |byte: u8| is_word(byte) || byte == b':';
    if start
        .checked_sub(1)
        .is_some_and(|before| beside(at(text, before)) && before + 1 == start && at(text, before) != b' ')
    {
        return None;
    }
    let first = run(text, start, |byte| byte.is_ascii_hexdigit()) - start;
    let (size, count) = match (first, at(text, start + first)) {
        (2, b':' | b'-') => (2, 6),
        (4, b'.') => (4, 3),
        _ => return None,
    };
    let separator = at(text, start + first);
    let mut end = start;
    for group in 0..count {
        if group > 0 {
            if at(text, end) != separator {
                return None;
            }
            end += 1;
        }
        if run(text, end, |byte| byte.is_ascii_hexdigit()) - end != size {
            return None;
        }
        end += size;
    }
    let next = at(text, end);
    if beside(next) || next == separator && at(text, end + 1).is_ascii_hexdigit() {
        return None;
    }
    let digits = text.get(start..end).unwrap_or_default().iter().filter(|byte| byte.is_ascii_hexdigit());
    let (broadcast, zero) =
        digits.fold((true, true), |(f, z), byte| (f && matches!(byte, b'f' | b'F'), z && *byte == b'0'));
    (!broadcast && !zero).then_some(end)
}

/// The email address around the `@` at `place`: start and end.
pub(super) fn email(text: &[u8], place: usize) -> Option<(usize, usize)> {
    // In scripts without spaces the words around stand right beside it, so only what is in such a script itself has its letters.
    let unspaced = |near: usize| at(text, near) >= UNSPACED;
    let letter =
        |byte: u8, unspaced: bool| byte.is_ascii_alphanumeric() || byte >= 0x80 && (unspaced || byte < UNSPACED);
    let before = place.checked_sub(1).is_some_and(unspaced);
    let local = |byte: u8| letter(byte, before) || b".!#$%&'*+-^_~".contains(&byte);
    let mut start = run_back_within(text, place, 64, local);
    while start < place && !letter(at(text, start), before) && at(text, start) != b'_' {
        start += 1;
    }
    if start == place || at(text, place - 1) == b'.' {
        return None;
    }
    let behind = unspaced(place + 1);
    let letter = |byte: u8| letter(byte, behind);
    let mut end = place + 1;
    let mut labels = 0;
    let mut last = end;
    loop {
        let next = run(text, end, |byte| letter(byte) || byte == b'-' || byte == b'_');
        let label = text.get(end..next).unwrap_or_default();
        let label = label.strip_suffix(b"-").unwrap_or(label);
        if label.is_empty() || label.len() > 63 || label.starts_with(b"-") {
            break;
        }
        last = end;
        labels += 1;
        end += label.len();
        if at(text, end) != b'.' || !letter(at(text, end + 1)) {
            break;
        }
        end += 1;
    }
    if at(text, end.saturating_sub(1)) == b'.' {
        end -= 1;
    }
    let top = text.get(last..end).unwrap_or_default();
    let named = top.len() >= 2 && top.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80)
        || top.len() > 4 && top.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"xn--"));
    (labels >= 2 && named && end - place <= 255).then_some((start, end))
}

/// The user and password between `://` at `place` and an `@`: start and end.
pub(super) fn url_credentials(text: &[u8], place: usize) -> Option<(usize, usize)> {
    let start = place + 3;
    if !place.checked_sub(1).is_some_and(|before| at(text, before).is_ascii_alphanumeric()) {
        return None;
    }
    let end = run_within(text, start, 512, |byte| byte > b' ' && !b"/?#\"'<>`\\".contains(&byte));
    let authority = text.get(start..end).unwrap_or_default();
    let at_sign = authority.iter().rposition(|byte| *byte == b'@')?;
    let colon = authority.iter().position(|byte| *byte == b':')?;
    let host = authority.get(at_sign + 1..).unwrap_or_default();
    (colon < at_sign && at_sign > colon + 1 && !host.is_empty()).then_some((start, start + at_sign))
}

/// The URL whose `://` is at `place`: start and end.
pub(super) fn url(text: &[u8], place: usize) -> Option<(usize, usize)> {
    let start = run_back_within(text, place, 64, |byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let allowed = |byte: u8| byte > b' ' && !b"\"'<>`\\^{}|".contains(&byte);
    let trimmed = |mut end: usize| {
        while end > place + 3 && b".,;:!?)]".contains(&at(text, end - 1)) {
            end -= 1;
        }
        end
    };
    // Its host first: only where that is one the rest is read.
    let host_end = run_within(text, place + 3, 512, |byte| allowed(byte) && !b"/?#".contains(&byte));
    let host = text.get(place + 3..trimmed(host_end)).unwrap_or_default();
    (start < place
        && at(text, start).is_ascii_alphabetic()
        && (host.contains(&b'.') || host.starts_with(b"localhost") || host.starts_with(b"[")))
    .then(|| (start, trimmed(run(text, host_end, allowed))))
}

/// The host name with a known top-level domain and perhaps a path, written without a scheme, that begins at `start`.
pub(super) fn bare_url(text: &[u8], start: usize) -> Option<usize> {
    // The generic ones that are in wide use; countries have two letters.
    const TOP: &str = " com org net edu gov mil int eu uk info biz name pro museum aero jobs mobi travel coop asia tel app dev site online shop \
        store xyz tech webcam cloud blog news live club top space website email agency company digital world life today design ";
    let host = run(text, start, |byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let name = ascii(text, start, host).trim_end_matches(['.', '-']);
    let host = start + name.len();
    let top = name.rsplit_once('.')?.1.to_ascii_lowercase();
    let before = start.checked_sub(1).map_or(b' ', |before| at(text, before));
    if before == b'@'
        || is_word(before)
        || at(text, host) == b'@'
        || name.contains("..")
        || !(TOP.contains(&format!(" {top} ")) || super::bank::is_country(top.to_ascii_uppercase().as_bytes()))
    {
        return None;
    }
    let mut end = match at(text, host) {
        b'/' | b'?' | b'#' => run(text, host, |byte| byte > b' ' && !b"\"'<>`\\^{}|".contains(&byte)),
        _ => host,
    };
    while end > host && b".,;:!?)]".contains(&at(text, end - 1)) {
        end -= 1;
    }
    Some(end)
}
