//! The words around a candidate. They are looked for only where a candidate needs them, so text without candidates costs
//! nothing here; what was looked through once is remembered, so no part of a text is looked through twice.
//!
//! A word counts if it stands on its own, at most [`BEFORE`] code points before the candidate and after no word for another
//! kind of number, or at most [`AFTER`] behind it in the same clause. Some words count only right beside the candidate, and some
//! say there that it is none of ours.

use super::fold::{fold, is_word};
use super::identifiers::RULES;
use super::kinds::{KINDS, LABELS, NAMED_NUMBERS, OTHER_NUMBERS};
use super::rules::Mixed;
use std::collections::HashMap;

/// How far before a candidate a word may stand, in code points: a short sentence.
pub(super) const BEFORE: usize = 72;
/// How far behind it.
pub(super) const AFTER: usize = 32;
/// The longest word that is looked for, in code points.
const LONGEST: usize = 48;
/// How much more than needed is looked through at a time.
const STEP: usize = 256;

/// A set of classes, by their place among all.
pub(super) type Classes = u128;

/// The class at this place.
pub(super) fn one(class: usize) -> Classes {
    1 << class
}

/// The mark of [`OTHER_NUMBERS`].
const OTHER: Classes = 1 << 127;
/// The mark of [`NAMED_NUMBERS`].
const NAMED: Classes = 1 << 126;
/// The mark of [`LABELS`].
const LABEL: Classes = 1 << 125;
const ANY_CLASS: Classes = !(OTHER | NAMED | LABEL);

/// What the words around a candidate say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Around {
    /// The classes they speak for.
    pub(super) classes: Classes,
    /// Whether the one right before it says that it is something else, whatever its form.
    pub(super) named_otherwise: bool,
}

/// All context words of the built-in classes, by the start of their first word.
pub(super) struct Words {
    by_start: HashMap<u64, Vec<Phrase>, Mixed>,
    /// Whether some word has a start of this hash: most words of a text are told apart by that alone.
    likely: Vec<bool>,
    names: Vec<(Vec<u8>, usize)>,
}

/// A word or phrase, folded and in lower case.
struct Phrase {
    text: Vec<u8>,
    classes: Classes,
}

impl Words {
    pub(super) fn new() -> Self {
        let of_rules = RULES.iter().map(|rule| (rule.class, rule.aka, rule.words));
        let of_kinds = KINDS.iter().map(|kind| (kind.class, kind.aka, kind.words));
        let mut by_start: HashMap<u64, Vec<Phrase>, Mixed> = HashMap::default();
        let mut names = Vec::new();
        let mut add = |word: &str, classes: Classes| {
            let text = fold(word).to_ascii_lowercase();
            let same = by_start.entry(start_of(&text).0).or_default();
            match same.iter_mut().find(|phrase| phrase.text == text) {
                Some(phrase) => phrase.classes |= classes,
                None => same.push(Phrase { text, classes }),
            }
        };
        for (place, (class, aka, its_words)) in of_rules.chain(of_kinds).enumerate() {
            names.extend(aka.iter().copied().chain([class]).map(|name| (plain_name(name), place)));
            its_words.iter().for_each(|word| add(word, one(place)));
        }
        OTHER_NUMBERS.iter().for_each(|word| add(word, OTHER));
        NAMED_NUMBERS.iter().for_each(|word| add(word, NAMED));
        LABELS.iter().for_each(|(word, class)| add(word, one(*class) | LABEL));
        let mut likely = vec![false; 1 << LIKELY_BITS];
        for start in by_start.keys() {
            if let Some(place) = likely.get_mut(likely_place(*start)) {
                *place = true;
            }
        }
        Self { by_start, likely, names }
    }

    /// What a column's name says: the classes whose words or names are in it, and the one whose name it is.
    pub(super) fn of_column(&self, name: &str) -> (Classes, Option<usize>) {
        let name = plain_name(name);
        let exact = self.names.iter().find(|(other, _)| *other == name).map(|(_, place)| *place);
        let mut marks = Vec::new();
        self.find(&name, 0, &mut marks);
        let words = marks.iter().fold(0, |set, mark| set | mark.classes);
        ((words | exact.map_or(0, one)) & ANY_CLASS, exact)
    }

    /// The words of `text` that begin at `from` or behind it.
    fn find(&self, text: &[u8], from: usize, marks: &mut Vec<Mark>) {
        let byte = |place: usize| text.get(place).copied().unwrap_or(0);
        let mut place = from;
        // A word that began before `from` isn't read from its middle.
        if from.checked_sub(1).is_some_and(|before| in_word(byte(before))) {
            place += length_while(text, from, in_word);
        }
        while place < text.len() {
            let rest = text.get(place..).unwrap_or_default();
            let (start, length) = start_of(rest);
            if length == 0 {
                place += 1;
                continue;
            }
            if self.likely.get(likely_place(start)) != Some(&true) {
                // What stands behind a word is mostly a space.
                place += length + usize::from(byte(place + length) == b' ');
                continue;
            }
            for phrase in self.by_start.get(&start).map(Vec::as_slice).unwrap_or_default() {
                let end = place + phrase.text.len();
                let whole = rest.get(..phrase.text.len()).is_some_and(|here| here.eq_ignore_ascii_case(&phrase.text));
                if whole && !(in_word(byte(end - 1)) && in_word(byte(end))) {
                    marks.push(Mark { start: place, end, classes: phrase.classes });
                }
            }
            place += length;
        }
    }
}

const LIKELY_BITS: u32 = 13;

fn likely_place(start: u64) -> usize {
    (start.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - LIKELY_BITS)) as usize
}

/// Whether a byte belongs to a word here: not the underscore, since `customer_ssn` speaks of an SSN.
fn in_word(byte: u8) -> bool {
    byte != b'_' && is_word(byte)
}

fn length_while(text: &[u8], from: usize, holds: fn(u8) -> bool) -> usize {
    text.iter().skip(from).take_while(|byte| holds(**byte)).count()
}

/// The first eight bytes of the word at the start of a text, in lower case as far as they are letters, and the word's length. In
/// scripts without spaces a word may begin with each letter, so two letters count there.
#[inline]
fn start_of(text: &[u8]) -> (u64, usize) {
    match text {
        [first, second, ..] if *first >= 0xC0 && *second >= 0xC0 => (u64::from(*first) << 8 | u64::from(*second), 1),
        [first, ..] if *first >= 0xC0 => (0, 1),
        _ => {
            let bytes = eight(text);
            // Most words end here: told without a branch for each byte, since a processor can't foresee where.
            let length = (beyond_words(bytes).leading_zeros() / 8) as usize;
            let start = bytes | LOWER;
            match length {
                0 => (0, 0),
                1..8 => (start >> (64 - 8 * length), length),
                _ => {
                    let mut length = 8;
                    while let Some(rest) = text.get(length..).filter(|rest| !rest.is_empty()) {
                        let more = (beyond_words(eight(rest)).leading_zeros() / 8) as usize;
                        length += more;
                        if more < 8 {
                            break;
                        }
                    }
                    (start, length)
                }
            }
        }
    }
}

/// What makes a letter lower case, in each byte. It changes no digit, and other bytes in the same way wherever they stand.
const LOWER: u64 = 0x2020_2020_2020_2020;

/// The first eight bytes of a text, the first of them the highest; zeros beyond its end.
fn eight(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let bytes = text.iter().take(8);
            bytes.zip((0..8).rev()).fold(0, |all, (byte, place)| all | u64::from(*byte) << (8 * place))
        }
    }
}

/// The highest bit of each byte that doesn't belong to a word with spaces around: no letter, no digit, and not 0x80 to 0xBF.
fn beyond_words(bytes: u64) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let low = bytes & !HIGH;
    // What is at least some byte reaches the highest bit when the rest to 0x80 is added.
    let from = |bytes: u64, least: u8| bytes + each(0x80 - least);
    let letter = from(low | LOWER, b'a') & !from(low | LOWER, b'z' + 1);
    let digit = from(low, b'0') & !from(low, b'9' + 1);
    let marked = bytes & !(bytes << 1);
    !(((letter | digit) & !bytes) | marked) & HIGH
}

/// `customerTaxID`, `customer_tax-id` → `customer tax id`.
pub(super) fn plain_name(name: &str) -> Vec<u8> {
    let mut plain: Vec<u8> = Vec::new();
    let mut lower = false;
    for byte in fold(name).iter() {
        if !is_word(*byte) && *byte < 0xC0 || *byte == b'_' {
            if plain.last().is_some_and(|last| *last != b' ') {
                plain.push(b' ');
            }
            lower = false;
            continue;
        }
        if byte.is_ascii_uppercase() && lower {
            plain.push(b' ');
        }
        lower = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        plain.push(byte.to_ascii_lowercase());
    }
    while plain.last() == Some(&b' ') {
        plain.pop();
    }
    plain
}

struct Mark {
    start: usize,
    end: usize,
    classes: Classes,
}

/// The words of one text, found as far as they were asked for.
pub(super) struct Context<'a> {
    words: &'a Words,
    text: &'a [u8],
    looked: usize,
    marks: Vec<Mark>,
    near: usize,
    /// The last answer, since several rules ask about one place.
    last: (usize, usize, usize, Around),
}

impl<'a> Context<'a> {
    pub(super) fn new(words: &'a Words, text: &'a [u8]) -> Self {
        Self { words, text, looked: 0, marks: Vec::new(), near: 0, last: (0, 0, 0, Around::default()) }
    }

    /// What the words around `start..end` say, of those before it the ones from `asked` on.
    pub(super) fn around(&mut self, asked: usize, start: usize, end: usize) -> Around {
        if (self.last.0, self.last.1, self.last.2) == (asked, start, end) {
            return self.last.3;
        }
        let (first, last) = (start.saturating_sub(BEFORE), (end + AFTER).min(self.text.len()));
        self.look(first, last);
        // The first mark that ends behind `start`: candidates come in order, so it is near where it was.
        let mark = |place: usize| self.marks.get(place);
        while self.near.checked_sub(1).and_then(mark).is_some_and(|mark| mark.end > start) {
            self.near -= 1;
        }
        while mark(self.near).is_some_and(|mark| mark.end <= start) {
            self.near += 1;
        }
        let mut around = Around::default();
        let mut floor = first.max(asked);
        for mark in self.marks.get(..self.near).unwrap_or_default().iter().rev() {
            if mark.end <= floor || mark.classes & OTHER != 0 {
                break;
            }
            if mark.start < floor || mark.classes & LABEL != 0 && !self.is_beside(mark.end, start, 1) {
                continue;
            }
            if mark.classes & NAMED != 0 && self.is_beside(mark.end, start, 2) {
                // Of all others only a word that begins with it still counts: `passport number`, but no `card` in `id card`.
                around = Around { classes: 0, named_otherwise: true };
                floor = mark.start;
            }
            around.classes |= mark.classes;
        }
        let mut clause = None;
        for mark in self.marks.get(self.near..).unwrap_or_default().iter().take_while(|mark| mark.start < last) {
            if around.named_otherwise {
                break;
            }
            if mark.start < end || mark.end > last || mark.classes & LABEL != 0 && !self.is_beside(end, mark.start, 1) {
                continue;
            }
            if mark.end <= *clause.get_or_insert_with(|| clause_end(self.text, end, last)) {
                around.classes |= mark.classes;
            }
        }
        around.classes &= ANY_CLASS;
        self.last = (asked, start, end, around);
        around
    }

    /// How far the nearest word for a class stands from `start..end`, about which [`Self::around`] was asked last. Right before it,
    /// it names it; behind it, it counts as somewhat farther, since labels mostly precede.
    pub(super) fn distance(&self, class: usize, start: usize, end: usize) -> usize {
        const BEHIND: usize = 8;
        let speaks = |mark: &&Mark| mark.classes & one(class) != 0;
        let near = |mark: &&Mark| mark.end + BEFORE > start;
        let before = self.marks.get(..self.near).unwrap_or_default().iter().rev().take_while(near).find(speaks);
        let before =
            before.map(|mark| if self.is_beside(mark.end, start, 2) { 0 } else { start.saturating_sub(mark.end) });
        let behind =
            self.marks.get(self.near..).unwrap_or_default().iter().filter(|mark| mark.start >= end).find(speaks);
        let behind = behind.map(|mark| BEHIND + mark.start - end);
        before.into_iter().chain(behind).min().unwrap_or(BEFORE)
    }

    /// Whether nothing stands between a word and a number but signs, and at most so many such words as *number* or *is*.
    fn is_beside(&self, from: usize, to: usize, most: usize) -> bool {
        const LONGEST_GAP: usize = 16;
        const FILLERS: [&[u8]; 14] = [
            b"number", b"numbers", b"no", b"nr", b"num", b"id", b"nummer", b"numero", b"is", b"was", b"at", b"on",
            b"ist", b"est",
        ];
        let gap = self.text.get(from..to).unwrap_or_default();
        let mut words = gap.split(|byte| !in_word(*byte)).filter(|word| !word.is_empty());
        gap.len() <= LONGEST_GAP
            && words.by_ref().take(most).all(|word| FILLERS.iter().any(|filler| word.eq_ignore_ascii_case(filler)))
            && words.next().is_none()
    }

    /// Finds the words that begin between `first` and `last`, and some more, so that the next candidate has less to look for.
    fn look(&mut self, first: usize, last: usize) {
        if self.looked < first {
            self.looked = first;
            self.marks.clear();
            self.near = 0;
        }
        if last > self.looked {
            let next = (last + STEP).min(self.text.len());
            let known = self.marks.len();
            let visible = self.text.get(..(next + LONGEST).min(self.text.len())).unwrap_or_default();
            self.words.find(visible, self.looked, &mut self.marks);
            // Those that begin beyond are found by the next look; they stand at the end.
            let last = self.marks.iter().rposition(|mark| mark.start < next).map_or(known, |place| place + 1);
            self.marks.truncate(last.max(known));
            self.looked = next;
        }
    }
}

/// Where the clause ends that goes on at `from`, at most at `last`.
fn clause_end(text: &[u8], from: usize, last: usize) -> usize {
    let byte = |place: usize| text.get(place).copied().unwrap_or(0);
    let ends = |place: &usize| match byte(*place) {
        b',' | b';' | b'\n' | b'|' | b'{' | b'}' | b'"' | b'<' | b'>' => true,
        // A sentence follows; what follows an abbreviation is mostly no capital.
        b'.' | b'!' | b'?' => byte(place + 1) == b' ' && byte(place + 2).is_ascii_uppercase(),
        _ => false,
    };
    (from..last).find(ends).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, prop_oneof, proptest};

    proptest! {
        /// Eight bytes at a time read what one at a time does.
        #[test]
        fn words_begin_and_end(text in proptest::collection::vec(prop_oneof![any::<u8>(), b'a'..=b'z', b'A'..=b'Z', b'0'..=b'9'], 0..40)) {
            let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || (0x80..0xC0).contains(*byte);
            let (start, length) = start_of(&text);
            match *text {
                [first, second, ..] if first >= 0xC0 && second >= 0xC0 => prop_assert_eq!(length, 1),
                [first, ..] if first >= 0xC0 => prop_assert_eq!((start, length), (0, 1)),
                _ => {
                    let word = text.iter().take_while(is_word).collect::<Vec<_>>();
                    let expected = word.iter().take(8).fold(0, |start, byte| start << 8 | u64::from(**byte | 0x20));
                    prop_assert_eq!((start, length), (expected, word.len()));
                }
            }
        }
    }
}
