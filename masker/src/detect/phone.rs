//! Phone numbers (ITU-T E.164 and the national ways of writing them). A number in international form, or in the groups of the
//! North American plan, or with a trunk zero and groups, may stand anywhere; all other digits need a word that says *phone*.

use super::fold::is_word;
use super::scan::at;

/// How credible a number is by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// Digits that may be anything.
    Bare,
    /// Grouped as national numbers are.
    National,
    /// With a country code.
    International,
}

/// A number's place and form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phone {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) form: Form,
}

/// Country codes with the least and most digits that follow; the longest code that fits counts.
#[rustfmt::skip]
const COUNTRIES: &[(u32, usize, usize)] = &[
    (1, 10, 10), (20, 8, 10), (27, 9, 9), (30, 10, 10), (31, 9, 9), (32, 8, 9), (33, 9, 9), (34, 9, 9), (36, 8, 9), (39, 6, 11),
    (40, 9, 9), (41, 9, 9), (43, 7, 13), (44, 9, 10), (45, 8, 8), (46, 7, 10), (47, 8, 8), (48, 9, 9), (49, 6, 12), (51, 8, 9),
    (52, 10, 11), (53, 8, 8), (54, 10, 11), (55, 10, 11), (56, 9, 9), (57, 10, 10), (58, 10, 10), (60, 8, 10), (61, 9, 9),
    (62, 8, 12), (63, 8, 10), (64, 8, 10), (65, 8, 8), (66, 8, 9), (7, 10, 10), (81, 9, 10), (82, 8, 10), (84, 9, 10),
    (86, 10, 11), (90, 10, 10), (91, 10, 10), (92, 9, 10), (93, 9, 9), (94, 9, 9), (95, 7, 10), (98, 10, 10),
];

/// Codes of three digits begin with one of these pairs; seven to eleven digits follow.
#[rustfmt::skip]
const THREE_DIGITS: &[u32] = &[21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99];

/// One group of digits.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
}

/// The number whose first digit is at `place`.
pub(super) fn read(text: &[u8], place: usize) -> Option<Phone> {
    let back = |by: usize| place.checked_sub(by).map_or(0, |place| at(text, place));
    // The sign or parenthesis in front belongs to it: `+1`, `(202`, `+(1`.
    let (start, plus, open) = match (back(2), back(1)) {
        (b'+', b'(') => (place - 2, true, true),
        (_, b'+') => (place - 1, true, false),
        (before, b'(') if !is_word(before) => (place - 1, false, true),
        _ => (place, false, false),
    };
    let before = start.checked_sub(1).map_or(b' ', |place| at(text, place));
    if is_word(before)
        || matches!(before, b'.' | b'-' | b'/' | b'+' | b',' | b':')
            && start.checked_sub(2).is_some_and(|p| at(text, p).is_ascii_digit())
    {
        return None;
    }
    // Without a plus, groups behind other groups are rather the end of a longer number.
    let after_group =
        before == b' ' && !plus && !open && start.checked_sub(2).is_some_and(|place| at(text, place).is_ascii_digit());
    let mut groups = Groups { list: [Group { start: 0, end: 0 }; 9], count: 0 };
    let mut position = place;
    let mut depth = usize::from(open);
    let mut digits = 0;
    loop {
        let end = digits_end(text, position);
        digits += end - position;
        if end == position || digits > 16 || !groups.push(Group { start: position, end }) {
            break;
        }
        let Some(next) = separator_end(text, end, &mut depth) else { break };
        position = next;
    }
    let too_long = digits > 15;
    let best = (1..=groups.count).rev().find_map(|count| {
        let taken = groups.list.get(..count)?;
        let end = taken.last()?.end;
        let form = judge(text, taken, plus, open)?;
        let form = if after_group { Form::Bare } else { form };
        if form == Form::Bare && too_long && !plus {
            return None;
        }
        let end = if at(text, end) == b')' && open && count == 1 { end + 1 } else { end };
        let (end, extended) = extension(text, end);
        let next = at(text, end);
        let goes_on = matches!(next, b'.' | b'-' | b'/' | b',' | b':') && at(text, end + 1).is_ascii_digit();
        // What goes on after a space is judged with it, or not at all if that makes no number.
        (extended || !is_word(next) && !goes_on).then_some(Phone { start, end, form })
    })?;
    Some(best)
}

struct Groups {
    list: [Group; 9],
    count: usize,
}

impl Groups {
    fn push(&mut self, group: Group) -> bool {
        match self.list.get_mut(self.count) {
            Some(place) => {
                *place = group;
                self.count += 1;
                true
            }
            None => false,
        }
    }
}

fn digits_end(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().take(17).position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len().min(17))
}

/// Where the next group begins: behind one space, dash, dot or slash, a parenthesis, or a few of these.
fn separator_end(text: &[u8], from: usize, depth: &mut usize) -> Option<usize> {
    let mut position = from;
    let mut marks = 0;
    while position < from + 48 {
        match at(text, position) {
            byte if byte.is_ascii_digit() && position > from => return Some(position),
            b')' if *depth > 0 => *depth -= 1,
            b'(' if *depth == 0 => *depth += 1,
            b' ' | b'-' | b'.' | b'/' => marks += 1,
            b'<' | b'&' => {
                position = super::scan::markup(text, position)?.0;
                continue;
            }
            _ => return None,
        }
        if marks > 3 {
            return None;
        }
        position += 1;
    }
    None
}

/// `x123`, `ext. 123` behind a number.
fn extension(text: &[u8], from: usize) -> (usize, bool) {
    let mut position = from;
    while at(text, position) == b' ' && position < from + 2 {
        position += 1;
    }
    let rest = text.get(position..).unwrap_or_default();
    let word =
        [&b"ext."[..], b"ext", b"Ext.", b"Ext", b"x", b"X", b"#"].into_iter().find(|word| rest.starts_with(word));
    let Some(word) = word else { return (from, false) };
    position += word.len();
    if at(text, position) == b' ' && word.len() > 1 {
        position += 1;
    }
    let end = digits_end(text, position);
    if (1..=6).contains(&(end - position)) && !is_word(at(text, end)) { (end, true) } else { (from, false) }
}

fn judge(text: &[u8], groups: &[Group], plus: bool, open: bool) -> Option<Form> {
    let minus =
        groups.first().and_then(|first| first.start.checked_sub(1)).is_some_and(|before| at(text, before) == b'-');
    let length: usize = groups.iter().map(|group| group.end - group.start).sum();
    let mut digits = [0u8; 16];
    let all = groups.iter().flat_map(|group| text.get(group.start..group.end).unwrap_or_default());
    digits.iter_mut().zip(all).for_each(|(place, byte)| *place = *byte);
    let digits = digits.get(..length)?;
    if digits.windows(2).all(|pair| matches!(pair, [a, b] if a == b)) {
        return None;
    }
    let sizes = |expected: &[usize]| {
        groups.len() == expected.len()
            && groups.iter().zip(expected).all(|(group, size)| group.end - group.start == *size)
    };
    let national = |from: usize| digits.get(from..).is_some_and(is_nanp);
    if plus && is_international(digits) {
        return Some(Form::International);
    }
    let abroad = match digits {
        [b'0', b'0', rest @ ..] => rest,
        [b'0', b'1', b'1', rest @ ..] if groups.first().is_some_and(|group| group.end - group.start == 3) => rest,
        _ => &[],
    };
    if groups.len() > 1 && is_international(abroad) {
        return Some(Form::International);
    }
    // Dates and times are grouped as well, and so are decimal fractions.
    let pairs = sizes(&[2, 2, 2]);
    if sizes(&[4, 2, 2])
        || sizes(&[2, 2, 4])
        || groups.len() <= 3
            && groups.iter().all(|group| group.end - group.start <= 2)
            && (!pairs || is_short_date(digits))
        || is_fraction(text, groups) && (!sizes(&[3, 4]) || minus)
        || ends_as_date(text, groups)
    {
        return None;
    }
    if (sizes(&[3, 3, 4]) || sizes(&[3, 7]) && open) && national(0)
        || sizes(&[1, 3, 3, 4]) && digits.starts_with(b"1") && national(1)
    {
        return Some(Form::National);
    }
    let last = groups.last().map_or(0, |group| group.end - group.start);
    // A slash parts the area from the rest and nothing else: `030/1234567`, but `0412/03/2024`. Two digits and one long group are
    // as well the number of anything.
    let slash = |group: &Group| at(text, group.end) == b'/';
    let parted = groups.iter().skip(1).rev().skip(1).any(slash);
    let (first, slashed) = groups.first().map_or((0, false), |group| (group.end - group.start, slash(group)));
    let trunk = digits.starts_with(b"0") && !digits.starts_with(b"00");
    if trunk
        && !parted
        && (groups.len() > 2 || first > 2 || slashed || open)
        && (9..=12).contains(&length)
        && groups.len() > 1
        && !sizes(&[3, 2, 4])
        && !sizes(&[5, 4])
        && last >= 2
        && (2..=6).contains(&first)
        && (open || groups.iter().skip(1).all(|group| group.end - group.start >= 2))
    {
        return Some(Form::National);
    }
    // The Faroes and Greenland have six digits. In one piece, more than thirteen without a country's code are of a device or card.
    let small = sizes(&[3, 4]) || pairs;
    let most = if groups.len() == 1 && !plus && abroad.is_empty() { 13 } else { 15 };
    ((8..=most).contains(&length) || small).then_some(Form::Bare)
}

/// Whether two groups are the whole and the fraction of a number: a point between them, and no zero in front but one alone.
fn is_fraction(text: &[u8], groups: &[Group]) -> bool {
    match groups {
        [whole, part] if at(text, whole.end) == b'.' && whole.end + 1 == part.start => {
            at(text, whole.start) != b'0' || whole.end - whole.start == 1
        }
        _ => false,
    }
}

/// Whether the last groups are a date, as in `room 2 - 12/09/2025`, or the month and year that papers are counted by, as in
/// `0412/03/2026`.
fn ends_as_date(text: &[u8], groups: &[Group]) -> bool {
    let [before @ .., a, b, year] = groups else { return false };
    let number = |group: &Group| super::checks::number(text, group.start, group.end - group.start);
    let (sign, other) = (at(text, a.end), at(text, b.end));
    let (first, second, year_number) = (number(a), number(b), number(year));
    let is_date = |month, day| super::checks::is_date(year_number, month, day);
    year.end - year.start == 4
        && matches!(year_number, 1900..=2099)
        && sign == other
        && (sign == b'/' && matches!(second, 1..=12)
            || sign != b' ' && !before.is_empty() && (is_date(first, second) || is_date(second, first)))
}

/// Whether six digits may be day, month and two digits of a year, in any of the orders in use.
fn is_short_date(digits: &[u8]) -> bool {
    let part = |from: usize| super::checks::number(digits.get(from..).unwrap_or_default(), 0, 2);
    let is_date = |day: usize, month: usize| (1..=31).contains(&part(day)) && (1..=12).contains(&part(month));
    is_date(0, 2) || is_date(2, 0) || is_date(4, 2)
}

/// The North American plan: area and exchange begin with 2 to 9, and aren't of the form N11.
fn is_nanp(digits: &[u8]) -> bool {
    matches!(digits, [b'2'..=b'9', _, _, b'2'..=b'9', _, _, _, _, _, _]) && !matches!(digits, [_, b'1', b'1', ..])
}

/// Whether these digits are a country's code and as many as it has; a trunk zero written in parentheses counts as one.
fn is_international(digits: &[u8]) -> bool {
    let number = |count: usize| super::checks::number(digits, 0, count);
    let fits = |code: usize, least: usize, most: usize| digits.len() >= code + least && digits.len() <= code + most + 1;
    if digits.starts_with(b"1") {
        return digits.len() == 11;
    }
    if THREE_DIGITS.contains(&number(2)) {
        return fits(3, 6, 11) && digits.len() <= 15;
    }
    let known = |count: usize| {
        COUNTRIES.iter().find(|(code, _, _)| *code == number(count)).map(|found| (count, found.1, found.2))
    };
    known(1).or_else(|| known(2)).is_some_and(|(code, least, most)| fits(code, least, most))
}
