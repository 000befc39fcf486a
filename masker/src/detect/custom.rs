//! Detectors of the catalog's own: patterns in the linear-time syntax of the `regex` crate and word lists, both bounded, with
//! context words where the class has no form that speaks for itself.

use super::fold::{fold, is_word};
use aho_corasick::{AhoCorasick, MatchKind};
use regex::{Regex, RegexBuilder};

/// The most bytes of one pattern.
const MAX_PATTERN_BYTES: usize = 4096;
/// The most words of one list, and the most bytes of all of them.
const MAX_WORDS: usize = 100_000;
const MAX_WORDS_BYTES: usize = 4 << 20;
/// The most memory of a compiled pattern, in bytes; a pattern that needs more is refused.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// The most detectors of one catalog.
const MAX_CUSTOM: usize = 256;

/// A detector as the catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custom {
    /// The class of its hits.
    pub class: String,
    /// What it looks for.
    pub find: Find,
    /// Words one of which must stand near a hit, or in the column's name; none are needed if this is empty.
    pub context: Vec<String>,
}

/// What a custom detector looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// A regular expression without look-around and back-references. Where it has a group named `hit`, that is the span.
    Pattern(String),
    /// Any of these words or phrases, standing on their own, in either case.
    Words(Vec<String>),
}

/// Why a custom detector was refused; lower case, without values of the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCustom {
    /// The pattern doesn't compile.
    #[error("pattern of `{class}` is not accepted: {reason}")]
    Pattern {
        /// The detector's class.
        class: String,
        /// What the compiler says, on one line.
        reason: String,
    },
    /// The pattern matches the empty text, and so everywhere.
    #[error("pattern of `{0}` matches empty text")]
    Empty(String),
    /// Too large or too many.
    #[error("`{class}` has {what}, found {found}, at most {most} allowed")]
    Limit {
        /// The detector's class.
        class: String,
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much is allowed.
        most: usize,
    },
}

/// A detector made ready.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) class: String,
    finder: Finder,
    context: Option<AhoCorasick>,
}

#[derive(Debug, Clone)]
enum Finder {
    Pattern(Regex),
    Words(AhoCorasick),
}

/// Start and end of each candidate.
pub(super) enum Spans {
    Bytes(Vec<(usize, usize)>),
    CodePoints(Vec<(usize, usize)>),
}

pub(super) fn compile(custom: Vec<Custom>) -> Result<Vec<Compiled>, BadCustom> {
    let limit = |class: &str, what, found: usize, most: usize| match found > most {
        true => Err(BadCustom::Limit { class: class.to_owned(), what, found, most }),
        false => Ok(()),
    };
    limit("the catalog", "too many detectors", custom.len(), MAX_CUSTOM)?;
    custom
        .into_iter()
        .map(|Custom { class, find, context }| {
            let bad = |reason: String| BadCustom::Pattern { class: class.clone(), reason };
            let finder = match find {
                Find::Pattern(pattern) => {
                    limit(&class, "too long a pattern", pattern.len(), MAX_PATTERN_BYTES)?;
                    let regex = RegexBuilder::new(&pattern)
                        .size_limit(MAX_COMPILED_BYTES)
                        .dfa_size_limit(MAX_COMPILED_BYTES)
                        .build()
                        .map_err(|error| bad(error.to_string().lines().last().unwrap_or_default().to_owned()))?;
                    if regex.is_match("") {
                        return Err(BadCustom::Empty(class));
                    }
                    Finder::Pattern(regex)
                }
                Find::Words(words) => {
                    limit(&class, "too many words", words.len(), MAX_WORDS)?;
                    limit(&class, "too many bytes of words", words.iter().map(String::len).sum(), MAX_WORDS_BYTES)?;
                    if words.is_empty() || words.iter().any(String::is_empty) {
                        return Err(BadCustom::Empty(class));
                    }
                    Finder::Words(list(&words).map_err(|error| bad(error.to_string()))?)
                }
            };
            limit(&class, "too many context words", context.len(), MAX_CUSTOM)?;
            let context = match context.as_slice() {
                [] => None,
                words => Some(list(words).map_err(|error| bad(error.to_string()))?),
            };
            Ok(Compiled { class, finder, context })
        })
        .collect()
}

/// An automaton of folded words.
fn list(words: &[String]) -> Result<AhoCorasick, aho_corasick::BuildError> {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .build(words.iter().map(|word| fold(word).to_ascii_lowercase()))
}

/// Whether one of the words stands in `text` on its own.
fn stands_in(words: &AhoCorasick, text: &[u8]) -> bool {
    words.find_iter(text).any(|found| on_its_own(text, found.start(), found.end()))
}

fn on_its_own(text: &[u8], start: usize, end: usize) -> bool {
    let word = |place: Option<usize>| place.and_then(|place| text.get(place)).is_some_and(|byte| is_word(*byte));
    !(word(Some(start)) && word(start.checked_sub(1)) || word(end.checked_sub(1)) && word(Some(end)))
}

impl Compiled {
    /// Its candidates in bytes of `text`, or in code points where `Span`s come from `folded`.
    pub(super) fn spans(&self, text: &str, folded: &[u8]) -> Spans {
        match &self.finder {
            Finder::Pattern(regex) => {
                let found = regex.captures_iter(text).filter_map(|found| found.name("hit").or_else(|| found.get(0)));
                Spans::Bytes(found.filter(|span| !span.is_empty()).map(|span| (span.start(), span.end())).collect())
            }
            Finder::Words(words) => {
                let found = words.find_iter(folded).filter(|found| on_its_own(folded, found.start(), found.end()));
                Spans::CodePoints(found.map(|found| (found.start(), found.end())).collect())
            }
        }
    }

    /// Whether the words around a hit, in code points, or the column's name, let it count.
    pub(super) fn is_supported(&self, folded: &[u8], start: usize, end: usize, column: Option<&[u8]>) -> bool {
        let Some(words) = &self.context else { return true };
        let before = folded.get(start.saturating_sub(super::context::BEFORE)..start).unwrap_or_default();
        let after = folded.get(end..(end + super::context::AFTER).min(folded.len())).unwrap_or_default();
        column.is_some_and(|name| stands_in(words, name)) || stands_in(words, before) || stands_in(words, after)
    }
}
