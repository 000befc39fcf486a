//! Finds identifiers and secrets in text: cards, accounts, national ids, addresses, phones, keys. What a class matches, by which
//! checksum and next to which words, stands in `docs/detectors.md`.
//!
//! A class with a checksum that hardly anything else fulfils may match anywhere. One without, or with a single check digit, which
//! one number of ten has by chance, matches where it is written in its own groups, or a word for it stands beside it, or the
//! column is named after it ([`Hint`]). Digits of every script, spaces and dashes of every kind, zero-width characters, and
//! HTML markup between groups are read as what they look like.
//!
//! **Overlaps.** Of two hits that overlap one stays: that of the class that the column is named after; else a secret; else the one
//! for which more speaks (a checksum and a word, a word, a checksum, the form); else the longer; else the one whose
//! word stands nearer; else the class that stands first in the table. A custom class counts as the form with a word, and comes
//! before built-in ones.
//!
//! **Positions** are code points, so they are the same in every language that reads the spans. Detection takes time linear in the
//! text: patterns have no back-tracking, and from one place at most ten groups of forty characters are joined.

mod bank;
mod checks;
mod context;
mod crypto;
mod custom;
mod date;
mod fold;
mod identifiers;
mod kinds;
mod net;
mod phone;
mod rules;
mod scan;
mod secret;

pub use custom::{BadCustom, Custom, Find};

use aho_corasick::{AhoCorasick, MatchKind};
use context::{Context, Words};
use custom::{Compiled, Spans};
use identifiers::RULES;
use kinds::KINDS;
use rules::Index;
use scan::{Found, Hints, Scan, rank};
use std::sync::OnceLock;

/// All that detects; made once, used by many threads.
#[derive(Debug, Clone, Default)]
pub struct Detectors {
    custom: Vec<Compiled>,
}

/// What is known of a text before it is read: the name of its column. Made once per column, by [`Detectors::hint`].
#[derive(Debug, Clone, Default)]
pub struct Hint {
    hints: Hints,
    name: Vec<u8>,
}

/// One hit. Its text is nowhere kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hit<'a> {
    /// The class, such as `fin.card`.
    pub class: &'a str,
    /// The first code point.
    pub start: usize,
    /// The code point behind the last.
    pub end: usize,
    /// What speaks for it.
    pub basis: Basis,
}

/// What speaks for a hit, from the weakest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// It is written as only these are.
    Form,
    /// A word beside it.
    Context,
    /// The column's name.
    Column,
    /// A checksum.
    Checksum,
}

/// The built-in tables, made ready.
struct Builtin {
    index: Index,
    words: Words,
    anchors: Option<AhoCorasick>,
}

fn builtin() -> &'static Builtin {
    static BUILTIN: OnceLock<Builtin> = OnceLock::new();
    BUILTIN.get_or_init(|| Builtin {
        index: Index::new(RULES),
        words: Words::new(),
        // INVARIANT: the anchors are ours and few, so the automaton is always built; the tests find a secret of each.
        anchors: AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(secret::anchors()).ok(),
    })
}

/// The name of a built-in class by its place.
fn class_name(place: usize) -> &'static str {
    let rule = RULES.get(place).map(|rule| rule.class);
    rule.or_else(|| KINDS.get(place.checked_sub(RULES.len())?).map(|kind| kind.class)).unwrap_or_default()
}

impl Detectors {
    /// The built-in classes.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// The built-in classes and these.
    ///
    /// # Errors
    /// [`BadCustom`] for a pattern that doesn't compile within its bounds or matches empty text, and for too long a list.
    pub fn with_custom(custom: Vec<Custom>) -> Result<Self, BadCustom> {
        Ok(Self { custom: custom::compile(custom)? })
    }

    /// All classes that there may be hits of, in the order of the table; custom ones first.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        let mut seen = std::collections::HashSet::new();
        let custom = self.custom.iter().map(|custom| custom.class.as_str());
        let builtin = RULES.iter().map(|rule| rule.class).chain(KINDS.iter().map(|kind| kind.class));
        custom.chain(builtin).filter(move |class| seen.insert(*class))
    }

    /// What the name of a column says about its texts.
    pub fn hint(&self, column: &str) -> Hint {
        let (classes, exact) = builtin().words.of_column(column);
        Hint { hints: Hints { classes, exact }, name: context::plain_name(column) }
    }

    /// The class that a column is named after, if its whole name is that of one.
    pub fn named(&self, hint: &Hint) -> Option<&'static str> {
        hint.hints.exact.map(class_name)
    }

    /// The hits in a text, in order and without overlaps.
    pub fn detect(&self, text: &str, hint: Option<&Hint>) -> Vec<Hit<'_>> {
        let folded = fold::fold(text);
        let builtin = builtin();
        let hints = hint.map(|hint| hint.hints).unwrap_or_default();
        let context = Context::new(&builtin.words, &folded);
        let mut found = Scan::new(&folded, &builtin.index, context, hints).run(builtin.anchors.as_ref());
        // Once more without what is not seen: what it stands in the middle of is found so, and what it parts from its neighbours was
        // found above.
        if let Some((seen, places)) = fold::skipping(&folded) {
            let context = Context::new(&builtin.words, &seen);
            let of_seen = Scan::new(&seen, &builtin.index, context, hints).run(builtin.anchors.as_ref());
            found.extend(of_seen.into_iter().filter_map(|found| {
                let (start, last) = (*places.get(found.start)?, *places.get(found.end.checked_sub(1)?)?);
                Some(Found { start, end: last + 1, ..found })
            }));
        }
        let classes = RULES.len() + KINDS.len();
        for (place, custom) in self.custom.iter().enumerate() {
            let spans = match custom.spans(text, &folded) {
                Spans::CodePoints(spans) => spans,
                Spans::Bytes(spans) => code_points(text, spans),
            };
            let name = hint.map(|hint| hint.name.as_slice());
            let supported = spans.into_iter().filter(|(start, end)| custom.is_supported(&folded, *start, *end, name));
            let class = classes + place;
            found.extend(supported.map(|(start, end)| Found {
                class,
                start,
                end,
                rank: rank::ANNOUNCED,
                basis: Basis::Form,
                distance: 0,
            }));
        }
        let hit = |found: Found| Hit {
            class: match found.class.checked_sub(classes) {
                Some(place) => self.custom.get(place).map_or("", |custom| custom.class.as_str()),
                None => class_name(found.class),
            },
            start: found.start,
            end: found.end,
            basis: found.basis,
        };
        resolve(found, classes).into_iter().map(hit).collect()
    }
}

/// Bytes to code points, for spans in the order of their starts.
fn code_points(text: &str, spans: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    if text.is_ascii() {
        return spans;
    }
    let (mut byte, mut point) = (0, 0);
    let mut at = |place: usize| {
        point += text.get(byte..place).unwrap_or_default().chars().count();
        byte = place;
        point
    };
    spans.into_iter().map(|(start, end)| (at(start), at(end))).collect()
}

/// Of hits that overlap, those that stay; see the module's doc for the order.
fn resolve(mut found: Vec<Found>, classes: usize) -> Vec<Found> {
    if found.len() < 2 {
        return found;
    }
    // Custom classes stand before the built-in ones.
    let place = |found: &Found| {
        if found.class >= classes { found.class - classes } else { found.class + usize::from(u16::MAX) }
    };
    found.sort_unstable_by_key(|one| (one.start, one.end));
    let mut kept: Vec<Found> = Vec::with_capacity(found.len());
    let mut from = 0;
    while let Some(first) = found.get(from) {
        // What overlaps, directly or by way of others, is decided together.
        let (mut reach, mut to) = (first.end, from + 1);
        while let Some(next) = found.get(to).filter(|next| next.start < reach) {
            reach = reach.max(next.end);
            to += 1;
        }
        let group = found.get_mut(from..to).unwrap_or_default();
        if let [only] = group {
            kept.push(*only);
        } else {
            let rank = |one: &Found| (std::cmp::Reverse((one.rank, one.end - one.start)), one.distance, place(one));
            group.sort_unstable_by_key(rank);
            let begin = kept.len();
            for one in group.iter() {
                let chosen = kept.get(begin..).unwrap_or_default();
                if chosen.iter().all(|other| one.end <= other.start || other.end <= one.start) {
                    kept.push(*one);
                }
            }
            kept.get_mut(begin..).unwrap_or_default().sort_unstable_by_key(|one| one.start);
        }
        from = to;
    }
    kept
}
