//! Dates, as people write them: they count as birth dates where a word beside them says so, or as dates in a column of dates.

use super::checks::is_date;
use super::fold::is_word;
use super::scan::at;

#[rustfmt::skip]
const MONTHS: &[&str] = &[
    "jan", "january", "januar", "janvier", "enero", "gennaio", "janeiro", "january",
    "feb", "february", "februar", "fevrier", "febrero", "febbraio", "fevereiro",
    "mar", "march", "marz", "maerz", "mars", "marzo", "marco",
    "apr", "april", "avril", "abril", "aprile",
    "may", "mai", "mayo", "maggio", "maio",
    "jun", "june", "juni", "juin", "junio", "giugno", "junho",
    "jul", "july", "juli", "juillet", "julio", "luglio", "julho",
    "aug", "august", "aout", "agosto",
    "sep", "sept", "september", "septembre", "septiembre", "settembre", "setembro",
    "oct", "okt", "october", "oktober", "octobre", "octubre", "ottobre", "outubro",
    "nov", "november", "novembre", "noviembre", "novembro",
    "dec", "dez", "december", "dezember", "decembre", "diciembre", "dicembre", "dezembro",
];

/// A date's place, and whether it names a day, as a birth date does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) has_day: bool,
    /// Whether a time follows, which the span then includes.
    pub(super) has_time: bool,
}

fn digits(text: &[u8], from: usize) -> (u32, usize) {
    let mut end = from;
    let mut number = 0u32;
    while at(text, end).is_ascii_digit() && end < from + 9 {
        number = number * 10 + u32::from(at(text, end) - b'0');
        end += 1;
    }
    (number, end)
}

fn letters(text: &[u8], from: usize) -> usize {
    let mut end = from;
    while at(text, end).is_ascii_alphabetic() && end < from + 12 {
        end += 1;
    }
    end
}

fn is_month(word: &[u8]) -> bool {
    const STARTS: &[u8] = b"jan feb mar mae apr avr abr may mai mag jun jui giu jul lug aug aou ago sep set oct okt ott out nov dec dez dic ene fev gen";
    let mut start = [b' '; 3];
    start.iter_mut().zip(word).for_each(|(place, byte)| *place = byte.to_ascii_lowercase());
    word.len() >= 3
        && STARTS.chunks(4).any(|month| month.starts_with(&start))
        && MONTHS.iter().any(|month| word.eq_ignore_ascii_case(month.as_bytes()))
}

/// The date that begins with the digits at `start`, or with the month's name before them.
pub(super) fn read(text: &[u8], start: usize) -> Option<Date> {
    let before = start.checked_sub(1).map_or(b' ', |place| at(text, place));
    if is_word(before)
        || matches!(before, b'.' | b'/' | b'-' | b':')
            && start.checked_sub(2).is_some_and(|p| at(text, p).is_ascii_digit())
    {
        return None;
    }
    let size = digits(text, start).1 - start;
    if !matches!(size, 1 | 2 | 4 | 8) {
        return None;
    }
    let found = numeric(text, start).or_else(|| named(text, start)).or_else(|| after_month(text, start))?;
    let next = at(text, found.end);
    let goes_on = matches!(next, b'/' | b'-' | b'.') && at(text, found.end + 1).is_ascii_digit();
    (!is_word(next) && !goes_on).then_some(found)
}

fn numeric(text: &[u8], start: usize) -> Option<Date> {
    let (first, end) = digits(text, start);
    let size = end - start;
    if let (8, year) = (size, first / 10_000) {
        let day = is_date(year, first / 100 % 100, first % 100) && (1900..2100).contains(&year)
            || is_date(first % 10_000, first / 10_000 % 100, first / 1_000_000)
                && (1900..2100).contains(&(first % 10_000));
        return day.then_some(Date { start, end, has_day: true, has_time: false });
    }
    // 年, 月, 日 and their likes fold to one byte each: a year of four digits, then a letter, and so on.
    let separator = at(text, end);
    let eastern = separator >= 0xC0;
    if !matches!(separator, b'/' | b'-' | b'.') && !eastern {
        return None;
    }
    let (second, second_end) = digits(text, end + 1 + usize::from(at(text, end + 1) == b' '));
    let second_start = end + 1 + usize::from(at(text, end + 1) == b' ');
    if second_end == second_start {
        let word_end = letters(text, end + 1);
        let year_start = word_end + 1;
        if !is_month(text.get(end + 1..word_end)?) || size > 2 || first == 0 || first > 31 {
            return None;
        }
        let (_, year_end) = digits(text, year_start);
        let whole = at(text, word_end) == separator && matches!(year_end - year_start, 2 | 4);
        return Some(Date { start, end: if whole { year_end } else { word_end }, has_day: true, has_time: false });
    }
    if second_end - second_start > 4 {
        return None;
    }
    if at(text, second_end) == separator || eastern && at(text, second_end) >= 0xC0 {
        let third_start = second_end + 1 + usize::from(at(text, second_end + 1) == b' ');
        let (third, third_end) = digits(text, third_start);
        if third_end > third_start && second_end - second_start <= 2 {
            let (year, month, day) = match (size, third_end - third_start) {
                (4, 1..=2) => (first, second, third),
                (1..=2, 2 | 4) if second > 12 => (third, first, second),
                (1..=2, 2 | 4) => (third, second.min(12), first),
                _ => return None,
            };
            let valid = is_date(year, month, day) || size <= 2 && is_date(year, first, second);
            if !valid || size == 4 && !(1000..2200).contains(&first) {
                return None;
            }
            let end = if eastern && at(text, third_end) >= 0xC0 { third_end + 1 } else { third_end };
            let whole = if size == 4 { with_time(text, end) } else { end };
            return Some(Date { start, end: whole, has_day: true, has_time: whole > end });
        }
    }
    // Month and year.
    let year = second_end - second_start;
    (separator == b'/' && size <= 2 && (1..=12).contains(&first) && matches!(year, 2 | 4)).then_some(Date {
        start,
        end: second_end,
        has_day: false,
        has_time: false,
    })
}

/// The end of `T14:30:00.123+02:00` behind a date (ISO 8601).
fn with_time(text: &[u8], from: usize) -> usize {
    let two = |place: usize| at(text, place).is_ascii_digit() && at(text, place + 1).is_ascii_digit();
    if at(text, from) != b'T' || !two(from + 1) || at(text, from + 3) != b':' || !two(from + 4) {
        return from;
    }
    let mut end = from + 6;
    if at(text, end) == b':' && two(end + 1) {
        end += 3;
        if at(text, end) == b'.' {
            end = digits(text, end + 1).1;
        }
    }
    match at(text, end) {
        b'Z' => end + 1,
        b'+' | b'-' if two(end + 1) && at(text, end + 3) == b':' && two(end + 4) => end + 6,
        _ => end,
    }
}

/// `5 March 1980`, `5. März 1980`, `5th of March, 1980`.
fn named(text: &[u8], start: usize) -> Option<Date> {
    let (day, mut position) = digits(text, start);
    if position - start > 2 || !(1..=31).contains(&day) {
        return None;
    }
    let suffix = text.get(position..position + 2).unwrap_or_default();
    if [&b"st"[..], b"nd", b"rd", b"th"].contains(&suffix) {
        position += 2;
    }
    let skip =
        |from: usize, set: &[u8]| (from..from + 3).find(|place| !set.contains(&at(text, *place))).unwrap_or(from + 3);
    position = skip(position, b". ");
    for small in [&b"of "[..], b"de ", b"d' "] {
        if text.get(position..).is_some_and(|rest| rest.starts_with(small)) {
            position += small.len();
        }
    }
    let word = letters(text, position);
    if !is_month(text.get(position..word)?) {
        return None;
    }
    let mut year_start = skip(word, b"., ");
    for small in [&b"de "[..], b"del "] {
        if text.get(year_start..).is_some_and(|rest| rest.starts_with(small)) {
            year_start += small.len();
        }
    }
    let (_, end) = digits(text, year_start);
    Some(Date { start, end: if end - year_start == 4 { end } else { word }, has_day: true, has_time: false })
}

/// `March 5, 1980`, with `start` at the five; `March 1980` has no day.
fn after_month(text: &[u8], start: usize) -> Option<Date> {
    let mut word_end = start;
    while word_end > start.saturating_sub(2) && matches!(at(text, word_end.checked_sub(1)?), b' ' | b'-' | b'.') {
        word_end -= 1;
    }
    let mut word = word_end;
    while word > word_end.saturating_sub(10) && at(text, word.wrapping_sub(1)).is_ascii_alphabetic() {
        word -= 1;
    }
    if word == word_end || word_end == start || !is_month(text.get(word..word_end)?) {
        return None;
    }
    if word.checked_sub(1).is_some_and(|before| is_word(at(text, before))) {
        return None;
    }
    let (number, mut end) = digits(text, start);
    if end - start == 4 && (1800..2200).contains(&number) {
        return Some(Date { start: word, end, has_day: false, has_time: false });
    }
    if end - start > 2 || !(1..=31).contains(&number) {
        return None;
    }
    if [&b"st"[..], b"nd", b"rd", b"th"].contains(&text.get(end..end + 2).unwrap_or_default()) {
        end += 2;
    }
    let year_start = (end..end + 3).find(|place| !b", ".contains(&at(text, *place))).unwrap_or(end);
    let (_, year_end) = digits(text, year_start);
    Some(Date {
        start: word,
        end: if year_end - year_start == 4 { year_end } else { end },
        has_day: true,
        has_time: false,
    })
}
