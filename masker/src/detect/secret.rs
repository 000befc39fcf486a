//! Secrets that show by how they begin: cloud and service keys, JSON Web Tokens (RFC 7519), private keys in PEM (RFC 7468); and
//! the machine-readable zone of passports and identity cards (ICAO 9303), which shows by its `<`.

use super::checks::icao;
use super::fold::is_word;
use super::kinds::{JWT, KEY, MRZ, PEM};
use super::net::{run, run_back_within, run_within};
use super::scan::at;

/// What may follow a key's prefix.
#[derive(Clone, Copy)]
enum Rest {
    /// Upper case letters and digits.
    Upper(usize),
    /// Letters and digits, exactly so many.
    Letters(usize),
    /// Letters, digits, `-` and `_`, exactly so many.
    Url(usize),
    /// The same, at least so many.
    UrlFrom(usize),
    /// The same and dots, at least so many.
    DotsFrom(usize),
    /// Base64, at least so many.
    Base64From(usize),
}

/// Prefixes of keys as their issuers publish them, for scanners such as this one.
const KEYS: &[(&str, Rest)] = &[
    ("AKIA", Rest::Upper(16)),
    ("ASIA", Rest::Upper(16)),
    ("AROA", Rest::Upper(16)),
    ("AIDA", Rest::Upper(16)),
    ("ABIA", Rest::Upper(16)),
    ("ACCA", Rest::Upper(16)),
    ("AIza", Rest::Url(35)),
    ("GOCSPX-", Rest::Url(28)),
    ("ya29.", Rest::UrlFrom(20)),
    ("ghp_", Rest::Letters(36)),
    ("gho_", Rest::Letters(36)),
    ("ghu_", Rest::Letters(36)),
    ("ghs_", Rest::Letters(36)),
    ("ghr_", Rest::Letters(36)),
    ("github_pat_", Rest::UrlFrom(60)),
    ("glpat-", Rest::UrlFrom(20)),
    ("xoxb-", Rest::UrlFrom(20)),
    ("xoxp-", Rest::UrlFrom(20)),
    ("xoxa-", Rest::UrlFrom(20)),
    ("xoxr-", Rest::UrlFrom(20)),
    ("xoxs-", Rest::UrlFrom(20)),
    ("xapp-", Rest::UrlFrom(20)),
    ("sk_live_", Rest::UrlFrom(16)),
    ("sk_test_", Rest::UrlFrom(16)),
    ("rk_live_", Rest::UrlFrom(16)),
    ("rk_test_", Rest::UrlFrom(16)),
    ("whsec_", Rest::Base64From(24)),
    ("sk-ant-", Rest::UrlFrom(24)),
    ("sk-proj-", Rest::UrlFrom(24)),
    ("npm_", Rest::Letters(36)),
    ("pypi-AgE", Rest::UrlFrom(40)),
    ("hf_", Rest::Letters(34)),
    ("SG.", Rest::DotsFrom(60)),
    ("shpat_", Rest::Letters(32)),
    ("shpss_", Rest::Letters(32)),
    ("dop_v1_", Rest::Letters(64)),
    ("AccountKey=", Rest::Base64From(80)),
    ("SharedAccessKey=", Rest::Base64From(40)),
    ("hooks.slack.com/services/", Rest::Base64From(30)),
];

/// The names of the secret half of an AWS key, which has no prefix, without their first letter.
const AWS_NAMES: [&str; 3] = ["ecret_access_key", "ECRET_ACCESS_KEY", "ecretAccessKey"];

/// The byte of a prefix that the scan stops at anyway, and its place; the others are looked for as a whole.
fn stop(prefix: &str) -> Option<(u8, usize)> {
    let place = prefix.bytes().position(|byte| b"_-=".contains(&byte))?;
    prefix.as_bytes().get(place).map(|byte| (*byte, place))
}

/// The literals by which the rest is found: keys without such a byte, JSON Web Tokens, and the words before a BIC.
pub(super) fn anchors() -> Vec<&'static str> {
    let keys = KEYS.iter().map(|(prefix, _)| *prefix).filter(|prefix| stop(prefix).is_none());
    keys.chain(AWS_NAMES).chain(["eyJ", "BIC", "Bic", "bic", "SWIFT", "Swift", "swift"]).collect()
}

/// The secret whose prefix has the byte at `place`, one of `_`, `-`, `=`, `<`: class, start and end. What stands before `known` is
/// a part of another key.
pub(super) fn at_stop(text: &[u8], place: usize, known: usize) -> Option<(usize, usize, usize)> {
    match at(text, place) {
        b'<' => mrz(text, place).map(|(start, end)| (MRZ, start, end)),
        b'-' if text.get(place..).is_some_and(|rest| rest.starts_with(b"-----BEGIN ")) => {
            pem(text, place).map(|end| (PEM, place, end))
        }
        // All these prefixes have a letter before that byte; dates and numbers don't.
        _ if !place.checked_sub(1).is_some_and(|before| at(text, before).is_ascii_alphabetic()) => None,
        _ if place < known => None,
        byte => KEYS.iter().find_map(|(prefix, rest)| {
            let (stop, offset) = stop(prefix)?;
            let start = place.checked_sub(offset).filter(|_| stop == byte)?;
            key(text, start, prefix, *rest)
        }),
    }
}

/// What begins with an anchor at `start`, likewise.
pub(super) fn at_anchor(text: &[u8], start: usize, known: usize) -> Option<(usize, usize, usize)> {
    if text.get(start..).is_some_and(|rest| rest.starts_with(b"eyJ")) {
        return jwt(text, start).map(|end| (JWT, start, end));
    }
    if start < known {
        return None;
    }
    let key = KEYS.iter().find_map(|(prefix, rest)| key(text, start, prefix, *rest));
    key.or_else(|| aws_secret(text, start).map(|(start, end)| (KEY, start, end)))
}

/// The secret half of an AWS key behind its name: forty letters, digits, `/` and `+`.
fn aws_secret(text: &[u8], start: usize) -> Option<(usize, usize)> {
    let name = AWS_NAMES.iter().find(|name| text.get(start..).is_some_and(|rest| rest.starts_with(name.as_bytes())))?;
    let behind = start + name.len();
    let from = run_within(text, behind, 8, |byte| b" \t\"'=:>".contains(&byte));
    let end = run_within(text, from, 41, |byte| byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'+');
    (from > behind && end - from == 40 && !is_word(at(text, end))).then_some((from, end))
}

fn key(text: &[u8], start: usize, prefix: &str, rest: Rest) -> Option<(usize, usize, usize)> {
    if !text.get(start..)?.starts_with(prefix.as_bytes())
        || start.checked_sub(1).is_some_and(|before| is_word(at(text, before)))
    {
        return None;
    }
    let from = start + prefix.len();
    let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let (end, count) = match rest {
        Rest::Upper(count) => (run_within(text, from, count + 1, upper), Ok(count)),
        Rest::Letters(count) => (run_within(text, from, count + 1, |byte| byte.is_ascii_alphanumeric()), Ok(count)),
        Rest::Url(count) => (run_within(text, from, count + 1, url_safe), Ok(count)),
        Rest::UrlFrom(least) => (run(text, from, url_safe), Err(least)),
        Rest::DotsFrom(least) => (run(text, from, |byte| url_safe(byte) || byte == b'.'), Err(least)),
        Rest::Base64From(least) => (run(text, from, base64), Err(least)),
    };
    let fits = match count {
        Ok(count) => end - from == count && !is_word(at(text, end)),
        Err(least) => end - from >= least,
    };
    fits.then_some((KEY, start, end))
}

fn url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte)
}

/// A private key, to its end line; if that is missing, to the end of what can belong to it.
fn pem(text: &[u8], start: usize) -> Option<usize> {
    let rest = text.get(start..)?;
    let label_end = 11 + rest.get(11..91.min(rest.len()))?.windows(5).position(|window| window == b"-----")?;
    let label = rest.get(11..label_end)?;
    if !label.ends_with(b"PRIVATE KEY") && !label.ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let end_line = [b"-----END ", label, b"-----"].concat();
    let body = rest.get(label_end + 5..)?;
    let limit = body.len().min(64 << 10);
    let body = body.get(..limit)?;
    let end = match memchr::memmem::find(body, &end_line) {
        Some(place) => place + end_line.len(),
        None => {
            // Cut off: lines of base64, of which the last is shorter. `\n` may be written as two characters, in JSON.
            let between = |byte: u8| b"\r\n \\".contains(&byte);
            let mut end = 0;
            loop {
                let line = run(body, end, between);
                let next = run(body, line, base64);
                if next - line < 16 && at(body, next.saturating_sub(1)) != b'=' || next == line {
                    break end;
                }
                end = next;
            }
        }
    };
    Some(start + label_end + 5 + end)
}

/// Three parts in base64url, of which the first two begin as JSON objects do; the last may be empty.
fn jwt(text: &[u8], start: usize) -> Option<usize> {
    if start.checked_sub(1).is_some_and(|before| url_safe(at(text, before))) {
        return None;
    }
    let first = run(text, start, url_safe);
    let second = run(text, first + 1, url_safe);
    let fits = first - start >= 10
        && at(text, first) == b'.'
        && text.get(first + 1..)?.starts_with(b"ey")
        && second - first > 10
        && at(text, second) == b'.';
    fits.then(|| run(text, second + 1, url_safe))
}

/// The machine-readable zone around a `<<`: two lines of 44 or 36, or three of 30, with right check digits of number, birth and
/// expiry.
fn mrz(text: &[u8], place: usize) -> Option<(usize, usize)> {
    let zone = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'<';
    // No line is longer than 44; one more shows that it is.
    let line = |from: usize| (from, run_within(text, from, 45, zone));
    let (start, end) = line(run_back_within(text, place, 45, zone));
    let next = |end: usize| run_within(text, end, 45, |byte| byte == b'\r' || byte == b'\n' || byte == b' ');
    let field = |from: usize, length: usize| text.get(from..from + length).unwrap_or_default();
    let checked = |from: usize, length: usize| icao(field(from, length), at(text, from + length));
    match end - start {
        44 | 36 if matches!(at(text, start), b'P' | b'V' | b'I' | b'A' | b'C') => {
            let (second, last) = line(next(end));
            (last - second == end - start && checked(second, 9) && checked(second + 13, 6) && checked(second + 21, 6))
                .then_some((start, last))
        }
        30 if matches!(at(text, start), b'I' | b'A' | b'C') => {
            let (second, second_end) = line(next(end));
            let (third, last) = line(next(second_end));
            (second_end - second == 30
                && last - third == 30
                && checked(start + 5, 9)
                && checked(second, 6)
                && checked(second + 8, 6))
            .then_some((start, last))
        }
        // The second line of a passport that stands alone.
        44 => (checked(start, 9) && checked(start + 13, 6) && checked(start + 21, 6)).then_some((start, end)),
        _ => None,
    }
}
