//! The mask `ff1`: which values it takes, and how they become numerals and values again. [`Ff1`] is the permutation itself.

use super::REDACTED;
use super::ff1::{Ff1, Halves, MIN_DOMAIN};
use super::numbers::{integers, like};
use crate::fresh::Texts;
use crate::schema::ColumnType;
use aes::Aes256Enc;
use polars::prelude::*;
use std::fmt;

/// What may stand between a value's numerals; it stays where it is.
const SEPARATORS: &[u8] = b" -./:()+_";
/// More numerals than any alphabet here can have in a value that FF1 takes.
pub(super) const MAX_LENGTH: usize = 64;
/// As many decimal digits as an integer needs, so that there are enough of that length; the first is never 0.
const MIN_INTEGER_DIGITS: usize = 7;

/// The characters of a value that `ff1` replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alphabet {
    /// `0-9`
    Digits,
    /// `0-9a-f`
    Hex,
    /// `a-z`
    Lower,
    /// `A-Z`
    Upper,
    /// `0-9a-z`
    LowerDigits,
    /// `0-9A-Z`
    UpperDigits,
    /// `0-9A-Za-z`
    LettersDigits,
}

impl Alphabet {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Digits, Self::Hex, Self::Lower, Self::Upper, Self::LowerDigits, Self::UpperDigits, Self::LettersDigits];

    fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Hex => "hex",
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::LowerDigits => "lower_digits",
            Self::UpperDigits => "upper_digits",
            Self::LettersDigits => "letters_digits",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alphabet| alphabet.name() == name)
    }

    /// The characters in the order of their numbers.
    fn symbols(self) -> Vec<u8> {
        match self {
            Self::Digits => (b'0'..=b'9').collect(),
            Self::Hex => (b'0'..=b'9').chain(b'a'..=b'f').collect(),
            Self::Lower => (b'a'..=b'z').collect(),
            Self::Upper => (b'A'..=b'Z').collect(),
            Self::LowerDigits => (b'0'..=b'9').chain(b'a'..=b'z').collect(),
            Self::UpperDigits => (b'0'..=b'9').chain(b'A'..=b'Z').collect(),
            Self::LettersDigits => (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').collect(),
        }
    }

    /// Whether there are enough values of so many characters.
    pub(super) fn is_large_enough(self, length: usize) -> bool {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        (self.symbols().len() as u128).saturating_pow(length) >= MIN_DOMAIN
    }
}

impl fmt::Display for Alphabet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the mask `ff1` is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ff1Rule {
    /// The key domain.
    pub domain: String,
    /// The characters that are replaced.
    pub alphabet: Alphabet,
    /// How many of them a value must have, if that is told.
    pub length: Option<usize>,
}

impl Ff1Rule {
    pub(super) fn fits(&self, column: &ColumnType) -> bool {
        if *column == ColumnType::Text {
            return true;
        }
        let longest = digits(largest(column));
        let length = self.length.unwrap_or(longest);
        self.alphabet == Alphabet::Digits && (MIN_INTEGER_DIGITS..=longest).contains(&length)
    }

    pub(super) fn column(&self, column: &Series, column_type: &ColumnType, key: &Aes256Enc) -> PolarsResult<Series> {
        let mut values = Values::new(self, key, Ff1::encrypt);
        if *column_type == ColumnType::Text {
            let text = column.str()?;
            let mut masked = Texts::like(text);
            values.texts(text.iter(), |cell| masked.push(cell.map(|cell| cell.unwrap_or(REDACTED))));
            return masked.finish(column.name().clone());
        }
        let largest = largest(column_type);
        integers!(column, cells => {
            let masked = values.integers(cells.iter().map(|cell| Some(cell?.into())), largest);
            like(cells, masked.into_iter().map(|cell| cell?.try_into().ok()))
        })
    }

    /// The value that `ff1` has turned into this one.
    pub(super) fn reveal(&self, key: &Aes256Enc, column: &ColumnType, value: &str) -> Option<String> {
        let mut values = Values::new(self, key, Ff1::decrypt);
        if *column == ColumnType::Text {
            let mut text = None;
            values.texts(std::iter::once(Some(value)), |cell| text = cell.flatten().map(str::to_owned));
            return text;
        }
        let number = value.parse::<i128>().ok().filter(|number| number.to_string() == value)?;
        let revealed = values.integers(std::iter::once(Some(number)), largest(column));
        Some(revealed.into_iter().next()??.to_string())
    }
}

/// The largest integer of the type; 0 if it has none.
fn largest(column: &ColumnType) -> u128 {
    column.int_range().and_then(|(_, largest)| u128::try_from(largest).ok()).unwrap_or(0)
}

fn digits(number: u128) -> usize {
    number.checked_ilog10().map_or(0, |log| log as usize + 1)
}

type Direction<'a> = fn(&Ff1<'a, Aes256Enc>, &mut [Halves]);

/// Values that go through the cipher together.
const WINDOW: usize = 64;

/// What makes values of values.
struct Values<'a> {
    rule: &'a Ff1Rule,
    key: &'a Aes256Enc,
    direction: Direction<'a>,
    symbols: Vec<u8>,
    /// The number of each byte that is a symbol.
    numbers: [Option<u8>; 256],
    /// The permutation for the length that came last.
    last: Option<(usize, Option<Ff1<'a, Aes256Enc>>)>,
}

struct Value {
    length: usize,
    halves: Halves,
}

impl<'a> Values<'a> {
    fn new(rule: &'a Ff1Rule, key: &'a Aes256Enc, direction: Direction<'a>) -> Self {
        let symbols = rule.alphabet.symbols();
        let mut numbers = [None; 256];
        for (number, symbol) in (0..).zip(&symbols) {
            numbers.iter_mut().skip(usize::from(*symbol)).take(1).for_each(|place| *place = Some(number));
        }
        Self { rule, key, direction, symbols, numbers, last: None }
    }

    /// The permutation of values of this length.
    fn ff1(&mut self, length: usize) -> Option<&Ff1<'a, Aes256Enc>> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != length) {
            let fits = length <= MAX_LENGTH && self.rule.length.is_none_or(|required| required == length);
            let radix = self.symbols.len() as u16;
            // The alphabet is the tweak: two alphabets of one radix have nothing in common.
            let ff1 = fits.then(|| Ff1::new(self.key, self.rule.alphabet.name().as_bytes(), radix, length)).flatten();
            self.last = Some((length, ff1));
        }
        self.last.as_ref()?.1.as_ref()
    }

    /// Replaces each value by the next valid one on its permutation's cycle.
    fn permute(&mut self, values: &mut [Option<Value>], is_valid: impl Fn(&Value) -> bool) {
        let direction = self.direction;
        let mut pending = values.iter_mut().flatten().collect::<Vec<_>>();
        let mut strings = Vec::with_capacity(pending.len());
        while let Some(length) = pending.first().map(|value| value.length) {
            let of_length = pending.iter_mut().filter(|value| value.length == length);
            strings.clear();
            strings.extend(of_length.map(|value| value.halves));
            if let Some(ff1) = self.ff1(length) {
                direction(ff1, &mut strings);
            }
            let of_length = pending.iter_mut().filter(|value| value.length == length);
            of_length.zip(&strings).for_each(|(value, halves)| value.halves = *halves);
            pending.retain(|value| value.length != length || !is_valid(value));
        }
    }

    /// Hands over what each text becomes; of one that is no value for FF1, nothing.
    fn texts<'t>(
        &mut self,
        mut texts: impl Iterator<Item = Option<&'t str>>,
        mut done: impl FnMut(Option<Option<&str>>),
    ) {
        let (mut window, mut values, mut numerals) = (Vec::new(), Vec::new(), Vec::new());
        let mut masked = String::new();
        loop {
            window.clear();
            window.extend(texts.by_ref().take(WINDOW));
            if window.is_empty() {
                return;
            }
            values.clear();
            values.extend(window.iter().map(|text| self.read((*text)?, &mut numerals)));
            self.permute(&mut values, |_| true);
            for (text, value) in window.iter().zip(&values) {
                done(text.map(|text| {
                    masked.clear();
                    self.write(text, value.as_ref()?, &mut numerals, &mut masked);
                    Some(&*masked)
                }));
            }
        }
    }

    fn read(&mut self, text: &str, numerals: &mut Vec<u8>) -> Option<Value> {
        numerals.clear();
        for byte in text.bytes() {
            match self.numbers.get(usize::from(byte)).copied().flatten() {
                Some(number) => numerals.push(number),
                None if SEPARATORS.contains(&byte) => {}
                None => return None,
            }
        }
        let length = numerals.len();
        self.ff1(length)?;
        let radix = self.symbols.len() as u128;
        let number = |numerals: &[u8]| numerals.iter().fold(0, |number, numeral| number * radix + u128::from(*numeral));
        let (left, right) = numerals.split_at_checked(length / 2)?;
        Some(Value { length, halves: (number(left), number(right)) })
    }

    fn write(&self, text: &str, value: &Value, numerals: &mut Vec<u8>, masked: &mut String) {
        numerals.clear();
        numerals.resize(value.length, 0);
        let (left, right) = numerals.split_at_mut(value.length / 2);
        spell(value.halves.0, self.symbols.len() as u64, left);
        spell(value.halves.1, self.symbols.len() as u64, right);
        let mut numerals = numerals.iter();
        masked.extend(text.bytes().filter_map(|byte| {
            let is_numeral = self.numbers.get(usize::from(byte)).is_some_and(Option::is_some);
            let symbol = if is_numeral { *self.symbols.get(usize::from(*numerals.next()?))? } else { byte };
            Some(char::from(symbol))
        }));
    }

    /// What integers of a type whose largest is `largest` become: ones of the same sign and number of digits. Null for those
    /// that have too few.
    fn integers(&mut self, numbers: impl Iterator<Item = Option<i128>>, largest: u128) -> Vec<Option<i128>> {
        // INVARIANT: an integer of 64 bits has at most 20 digits.
        let right = |length: usize| 10u128.saturating_pow((length - length / 2) as u32);
        let whole = |value: &Value| value.halves.0 * right(value.length) + value.halves.1;
        let is_valid = |value: &Value| digits(whole(value)) == value.length && whole(value) <= largest;
        let numbers = numbers.collect::<Vec<_>>();
        let mut masked = Vec::with_capacity(numbers.len());
        for window in numbers.chunks(WINDOW) {
            let values = window.iter().map(|number| {
                let magnitude = (*number)?.unsigned_abs();
                let length = digits(magnitude);
                self.ff1(length).filter(|_| length >= MIN_INTEGER_DIGITS && magnitude <= largest)?;
                Some(Value { length, halves: (magnitude / right(length), magnitude % right(length)) })
            });
            let mut values = values.collect::<Vec<_>>();
            self.permute(&mut values, is_valid);
            masked.extend(window.iter().zip(&values).map(|(number, value)| {
                let magnitude = i128::try_from(whole(value.as_ref()?)).ok()?;
                Some(magnitude * (*number)?.signum())
            }));
        }
        masked
    }
}

/// Writes a number's numerals, as many as there is room for.
fn spell(mut number: u128, radix: u64, numerals: &mut [u8]) {
    for numeral in numerals.iter_mut().rev() {
        let (rest, last) = match u64::try_from(number) {
            Ok(number) => (u128::from(number / radix), (number % radix) as u8),
            Err(_) => (number / u128::from(radix), (number % u128::from(radix)) as u8),
        };
        (number, *numeral) = (rest, last);
    }
}
