//! What a rule is: the forms of one identifier as patterns, a check, and what it takes to believe it. Rules are data
//! ([`super::identifiers`]); here their patterns are expanded into forms of fixed length and indexed by length and grouping, so
//! that a candidate meets only the few rules that it could fulfil, however many there are.
//!
//! A pattern is written with `9` a digit, `A` a letter, `X` either, `0` to `8` and lower case letters standing for themselves
//! (letters in either case), ` ` a separator, `~` a separator or nothing, `{m,n}` m to n of what stands before it. A pattern
//! that ends with `?` needs context even where its groups speak for it.

use std::collections::HashMap;

/// The most characters of an identifier, separators not counted.
pub(super) const MAX_LENGTH: usize = 40;

/// What a check says of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It cannot be this identifier.
    No,
    /// It has the form; nothing in it proves more.
    Form,
    /// A checksum holds.
    Proven,
}

impl Verdict {
    /// Proven or not at all: for identifiers that all have a checksum.
    pub(super) fn strict(holds: bool) -> Self {
        if holds { Self::Proven } else { Self::No }
    }

    /// Form or not at all: for identifiers without one.
    pub(super) fn form(holds: bool) -> Self {
        if holds { Self::Form } else { Self::No }
    }

    /// Proven, or else still of the form: for identifiers of which only some have a checksum.
    pub(super) fn lenient(holds: bool) -> Self {
        if holds { Self::Proven } else { Self::Form }
    }
}

/// What it takes, beside the form, for a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing where the checksum holds; a context word or the column's name where it doesn't.
    Proof,
    /// Nothing where it is written in its groups; context where it is written in one piece.
    Groups,
    /// Context, also where a checksum holds, since one number of ten or eleven has that by chance.
    Context,
}

/// One identifier.
pub(super) struct Rule {
    /// The class of its hits.
    pub(super) class: &'static str,
    /// Other names that a column of these may have, beside its class and its words.
    pub(super) aka: &'static [&'static str],
    /// The words that make it credible where they stand beside it, or in the column's name.
    pub(super) words: &'static [&'static str],
    /// Its patterns.
    pub(super) forms: &'static [&'static str],
    /// The separators that may stand between its groups, all alike unless `*` is among them.
    pub(super) separators: &'static str,
    /// What it takes.
    pub(super) needs: Needs,
    /// What else must hold.
    pub(super) check: fn(&[u8]) -> Verdict,
}

/// A set of separators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Separators(u8);

impl Separators {
    pub(super) const NONE: Self = Self(0);
    const MIXED: u8 = 0x80;

    /// The set of one separator, none if the byte isn't any.
    pub(super) fn of(byte: u8) -> Self {
        Self(match byte {
            b' ' => 0x01,
            b'-' => 0x02,
            b'.' => 0x04,
            b'/' => 0x08,
            b':' => 0x10,
            b'_' => 0x20,
            b'+' => 0x40,
            b'*' => Self::MIXED,
            _ => 0,
        })
    }

    fn all(text: &str) -> Self {
        text.bytes().fold(Self::NONE, |set, byte| set.with(Self::of(byte)))
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a candidate with these separators fits a rule that allows `allowed`.
    fn fit(self, allowed: Self) -> bool {
        self.0 & !allowed.0 == 0 && (self.0.count_ones() <= 1 || allowed.0 & Self::MIXED != 0)
    }

    pub(super) fn within(self, allowed: &str) -> bool {
        self.fit(Self::all(allowed))
    }
}

/// One expanded pattern.
struct Form {
    rule: usize,
    needs_context: bool,
    cells: Vec<u8>,
    separators: Separators,
    /// The places of digits, and of letters, as bits.
    digits: u64,
    letters: u64,
    /// The characters that stand for themselves.
    literals: Vec<(usize, u8)>,
}

/// The forms of all rules, by length and grouping.
pub(super) struct Index {
    entries: HashMap<u64, Entry, Mixed>,
}

/// What there is of one length and grouping.
#[derive(Default)]
pub(super) struct Entry {
    forms: Vec<Form>,
    /// Whether longer forms begin with these groups.
    pub(super) goes_on: bool,
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut entries: HashMap<u64, Entry, Mixed> = HashMap::default();
        for (rule, entry) in rules.iter().enumerate() {
            let separators = Separators::all(entry.separators);
            for pattern in entry.forms {
                let needs_context = pattern.ends_with('?');
                for expanded in expand(pattern.trim_end_matches('?')) {
                    let cells: Vec<u8> = expanded.iter().copied().filter(|cell| *cell != b' ').collect();
                    let mut groups = 0;
                    let mut place = 0;
                    for cell in &expanded {
                        if *cell == b' ' {
                            entries.entry(key(place, groups)).or_default().goes_on = true;
                            groups |= 1 << place;
                        } else {
                            place += 1;
                        }
                    }
                    let same = &mut entries.entry(key(cells.len(), groups)).or_default().forms;
                    if !same.iter().any(|form| form.rule == rule && form.cells == cells) {
                        same.push(Form::new(rule, needs_context, cells, separators));
                    }
                }
            }
        }
        Self { entries }
    }

    /// What there is of groups so far: their length, and the places before which a separator stands as bits.
    pub(super) fn entry(&self, length: usize, groups: u64) -> Option<&Entry> {
        self.entries.get(&key(length, groups))
    }
}

impl Entry {
    /// The rules one of whose forms this candidate has, and whether that form needs context: its characters in upper case, the
    /// places of digits among them as bits, and the separators in it.
    pub(super) fn matching<'a>(
        &'a self,
        text: &'a [u8],
        digits: u64,
        separators: Separators,
    ) -> impl Iterator<Item = (usize, bool)> + 'a {
        let fitting = self.forms.iter().filter(move |form| form.fits(text, digits, separators));
        fitting.map(|form| (form.rule, form.needs_context))
    }
}

impl Form {
    fn new(rule: usize, needs_context: bool, cells: Vec<u8>, separators: Separators) -> Self {
        let bits = |wanted: u8| {
            let places = cells.iter().enumerate().filter(|(_, cell)| **cell == wanted);
            places.fold(0u64, |bits, (place, _)| bits | 1 << place)
        };
        let (digits, letters) = (bits(b'9'), bits(b'A'));
        let literals = cells.iter().enumerate().filter(|(_, cell)| !b"9AX".contains(cell));
        let literals = literals.map(|(place, cell)| (place, cell.to_ascii_uppercase())).collect();
        Self { rule, needs_context, cells, separators, digits, letters, literals }
    }

    fn fits(&self, text: &[u8], digits: u64, separators: Separators) -> bool {
        self.digits & !digits == 0
            && self.letters & digits == 0
            && separators.fit(self.separators)
            && self.literals.iter().all(|(place, literal)| text.get(*place) == Some(literal))
    }
}

fn key(length: usize, groups: u64) -> u64 {
    groups << 6 | length as u64
}

/// All the forms that a pattern stands for.
fn expand(pattern: &str) -> Vec<Vec<u8>> {
    let mut forms: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = pattern.bytes().peekable();
    while let Some(cell) = rest.next() {
        let (mut least, mut most) = (1, 1);
        if rest.next_if_eq(&b'{').is_some() {
            let mut bound = |last: u8| {
                let digits = rest.by_ref().take_while(|byte| *byte != last);
                digits.fold(0, |number, byte| number * 10 + usize::from(byte.wrapping_sub(b'0')))
            };
            (least, most) = (bound(b','), bound(b'}'));
        }
        let counts = if cell == b'~' { 0..=1 } else { least..=most };
        let cell = if cell == b'~' { b' ' } else { cell };
        forms = counts
            .flat_map(|count| forms.iter().map(move |form| [form.as_slice(), &vec![cell; count]].concat()))
            .collect();
    }
    forms
}

/// A quick hash of a number.
#[derive(Clone, Copy, Default)]
pub(super) struct Mixed;

impl std::hash::BuildHasher for Mixed {
    type Hasher = Mixer;
    fn build_hasher(&self) -> Mixer {
        Mixer(0)
    }
}

pub(super) struct Mixer(u64);

impl std::hash::Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}
