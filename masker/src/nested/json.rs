//! JSON inside text. A text is read once from left to right, which copies what stays and collects what is masked; what belongs to
//! one rule and is of one kind is then masked together, as a column, and put back in its place.

use super::{Here, MAX_DEPTH, Masking};
use crate::fresh::Texts;
use crate::path::Place;
use crate::schema::ColumnType;
use crate::transform::{Mask, REDACTED};
use polars::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// What the values of JSON text are masked as: strings, whole numbers, other numbers.
pub(super) const TYPES: [ColumnType; 3] = [ColumnType::Text, ColumnType::Int64, ColumnType::Numeric];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    String,
    Integer,
    Number,
}

impl Kind {
    fn column_type(self) -> ColumnType {
        match self {
            Self::String => ColumnType::Text,
            Self::Integer => ColumnType::Int64,
            Self::Number => ColumnType::Numeric,
        }
    }
}

/// A piece of a masked text.
enum Piece {
    /// Stays as it is: a part of what was copied.
    Copied(Range<usize>),
    /// A masked value: its group, and its place there.
    Masked(usize, usize),
}

/// Values that are masked together.
struct Group {
    mask: Mask,
    kind: Kind,
    /// The paths that address them, as bits.
    addressed: u64,
    values: Vec<String>,
}

/// What becomes of a cell.
enum Cell {
    /// As many pieces, after those of the cells before it.
    Pieces(usize),
    /// It isn't JSON.
    Whole,
    Null,
}

/// Masks JSON texts, `place` being where they stand.
pub(super) fn apply(
    masking: &mut Masking<'_>,
    texts: &StringChunked,
    column_type: &ColumnType,
    place: Place,
) -> PolarsResult<Series> {
    if masking.own.is_none() && masking.masks.iter().all(Option::is_none) {
        return Ok(texts.clone().into_series());
    }
    let mut reader = Reader {
        masking,
        places: HashMap::new(),
        copied: String::new(),
        pieces: Vec::new(),
        start: 0,
        groups: Vec::new(),
        of_place: HashMap::new(),
    };
    let cells = texts.iter().map(|text| text.map_or(Cell::Null, |text| reader.text(text, place)));
    let cells = cells.collect::<Vec<_>>();
    let Reader { masking, copied, pieces, groups, .. } = reader;

    let masked = groups.iter().map(|group| group.masked(masking)).collect::<PolarsResult<Vec<_>>>()?;
    let mut column = Texts::like(texts);
    let hidden = masking.own.filter(|mask| !mask.reads_cells()).map(instead);
    let mut pieces = pieces.iter();
    let mut text = String::new();
    for cell in cells {
        text.clear();
        match cell {
            Cell::Null => column.push(hidden.as_deref()),
            Cell::Whole if *column_type == ColumnType::Json => column.push(None),
            Cell::Whole => column.push(Some(REDACTED)),
            Cell::Pieces(count) => {
                for piece in pieces.by_ref().take(count) {
                    match piece {
                        Piece::Copied(range) => text.extend(copied.get(range.clone())),
                        Piece::Masked(group, value) => match masked.get(*group).and_then(|group| group.get(*value)) {
                            Some(Some(value)) => text.push_str(value),
                            _ => text.push_str("null"),
                        },
                    }
                }
                column.push(Some(&text));
            }
        }
    }
    column.finish(texts.name().clone())
}

/// What stands in place of what a mask that reads no cells replaces.
fn instead(mask: &Mask) -> Cow<'static, str> {
    match mask {
        Mask::Constant(text) => quoted(text).into(),
        Mask::Redact => "\"[redacted]\"".into(),
        _ => "null".into(),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Group {
    /// The masked values as JSON.
    fn masked(&self, masking: &mut Masking<'_>) -> PolarsResult<Vec<Option<String>>> {
        let column_type = self.kind.column_type();
        let mask = self.mask.fitted(&column_type);
        let cells =
            StringChunked::from_iter_values("json".into(), self.values.iter().map(String::as_str)).into_series();
        let cells = cells.strict_cast(&column_type.dtype())?;
        let masked = masking.transform(&mask, &cells, &column_type, self.addressed)?;
        let is_string = mask.output_type(&column_type) == Some(ColumnType::Text);
        let masked = masked.cast(&DataType::String)?;
        let spelled = |value: &str| if is_string { quoted(value) } else { value.to_owned() };
        Ok(masked.str()?.iter().map(|value| value.map(spelled)).collect())
    }
}

struct Reader<'m, 'a> {
    masking: &'m mut Masking<'a>,
    /// What holds where it has been.
    places: HashMap<Place, Rc<Here>>,
    copied: String,
    pieces: Vec<Piece>,
    /// Where the pieces of the text begin that is being read.
    start: usize,
    groups: Vec<Group>,
    /// The group of each place and kind.
    of_place: HashMap<(Place, Kind), usize>,
}

impl Reader<'_, '_> {
    fn text(&mut self, text: &str, place: Place) -> Cell {
        let counts = self.masking.counts.clone();
        self.start = self.pieces.len();
        let mut rest = Rest { text, at: 0 };
        let read = self.value(&mut rest, place, 0).filter(|()| {
            rest.skip_blanks();
            rest.at == text.len()
        });
        if read.is_none() {
            // What was collected of it is masked with nothing.
            for piece in self.pieces.drain(self.start..).rev() {
                if let Piece::Masked(group, value) = piece
                    && let Some(group) = self.groups.get_mut(group)
                {
                    group.values.truncate(value);
                }
            }
            self.masking.counts = counts;
            self.masking.count(u64::MAX, 1, 1);
            return Cell::Whole;
        }
        Cell::Pieces(self.pieces.len() - self.start)
    }

    fn copy(&mut self, text: &str) {
        let start = self.copied.len();
        self.copied.push_str(text);
        let end = self.copied.len();
        match self.pieces.get_mut(self.start..).and_then(<[Piece]>::last_mut) {
            Some(Piece::Copied(range)) if range.end == start => range.end = end,
            _ => self.pieces.push(Piece::Copied(start..end)),
        }
    }

    fn here(&mut self, place: Place) -> Rc<Here> {
        let masking = &*self.masking;
        self.places.entry(place).or_insert_with(|| Rc::new(masking.here(place))).clone()
    }

    fn value(&mut self, rest: &mut Rest<'_>, place: Place, depth: usize) -> Option<()> {
        rest.skip_blanks();
        let here = self.here(place);
        let is_whole = here.addressed != 0 || !here.leads_on;
        let first = rest.peek()?;
        let is_object = first == b'{';
        let instead_of_it = match &here.mask {
            Some(mask) if is_whole && !mask.reads_cells() => Some(instead(mask)),
            // Member names aren't cells.
            Some(_) if is_whole && is_object => Some(instead(&Mask::Redact)),
            None if is_whole && !here.leads_on => None,
            _ => return self.inside(rest, place, &here, depth),
        };
        let start = rest.at;
        rest.skip_value(depth)?;
        match instead_of_it {
            Some(instead) => self.copy(&instead),
            None => self.copy(rest.text.get(start..rest.at)?),
        }
        let changed = usize::from(here.mask.is_some());
        self.masking.count(here.addressed, 1, changed);
        Some(())
    }

    /// A value that is neither kept nor replaced as a whole.
    fn inside(&mut self, rest: &mut Rest<'_>, place: Place, here: &Here, depth: usize) -> Option<()> {
        match rest.peek()? {
            b'{' if depth < MAX_DEPTH => self.object(rest, place, here, depth),
            b'[' if depth < MAX_DEPTH => {
                rest.take(b'[')?;
                self.copy("[");
                let mut is_first = true;
                while !rest.ends(b']', is_first)? {
                    if !is_first {
                        self.copy(",");
                    }
                    is_first = false;
                    self.value(rest, place, depth + 1)?;
                }
                self.copy("]");
                Some(())
            }
            b'{' | b'[' => None,
            _ => self.scalar(rest, place, here),
        }
    }

    fn object(&mut self, rest: &mut Rest<'_>, place: Place, here: &Here, depth: usize) -> Option<()> {
        rest.take(b'{')?;
        self.copy("{");
        let (mut is_first, mut is_empty) = (true, true);
        while !rest.ends(b'}', is_first)? {
            is_first = false;
            rest.skip_blanks();
            let start = rest.at;
            let name = rest.string()?;
            let written = rest.text.get(start..rest.at)?;
            rest.skip_blanks();
            rest.take(b':')?;
            if here.mask.is_some() && !self.masking.walk.names(place, &name) {
                rest.skip_blanks();
                rest.skip_value(depth + 1)?;
                continue;
            }
            if !is_empty {
                self.copy(",");
            }
            is_empty = false;
            self.copy(written);
            self.copy(":");
            let member = self.masking.walk.member(place, &name);
            self.value(rest, member, depth + 1)?;
        }
        self.copy("}");
        Some(())
    }

    fn scalar(&mut self, rest: &mut Rest<'_>, place: Place, here: &Here) -> Option<()> {
        let start = rest.at;
        let (kind, value) = if rest.peek()? == b'"' {
            (Some(Kind::String), rest.string()?)
        } else {
            rest.skip_value(0)?;
            let word = rest.text.get(start..rest.at)?;
            let kind = match word {
                "true" | "false" | "null" => None,
                // JSON has no other spelling of a whole number, but for -0.
                number if number.parse::<i64>().is_ok() && number != "-0" => Some(Kind::Integer),
                _ => Some(Kind::Number),
            };
            (kind, Cow::Borrowed(word))
        };
        let is_null = kind.is_none() && value == "null";
        self.masking.count(here.addressed, 1, usize::from(here.mask.is_some() && !is_null));
        match (&here.mask, kind) {
            (None, _) => self.copy(rest.text.get(start..rest.at)?),
            (Some(mask), _) if !mask.reads_cells() => self.copy(&instead(mask)),
            // No mask fits what is true or false.
            (Some(_), None) => self.copy("null"),
            (Some(mask), Some(kind)) => {
                let groups = &mut self.groups;
                let group = *self.of_place.entry((place, kind)).or_insert_with(|| {
                    groups.push(Group { mask: mask.clone(), kind, addressed: here.addressed, values: Vec::new() });
                    groups.len() - 1
                });
                let values = &mut groups.get_mut(group)?.values;
                self.pieces.push(Piece::Masked(group, values.len()));
                values.push(value.into_owned());
            }
        }
        Some(())
    }
}

/// What of a text is still to be read.
struct Rest<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Rest<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Whether an array or object ends here; if not, its next element follows, and a comma was before it.
    fn ends(&mut self, end: u8, is_first: bool) -> Option<bool> {
        self.skip_blanks();
        if self.peek()? == end {
            self.at += 1;
            return Some(true);
        }
        if !is_first {
            self.take(b',')?;
        }
        Some(false)
    }

    /// A string, without its escapes.
    fn string(&mut self) -> Option<Cow<'t, str>> {
        let start = self.at;
        self.take(b'"')?;
        let mut is_plain = true;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    is_plain = false;
                    self.at += 2;
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        if is_plain {
            return self.text.get(start + 1..self.at - 1).map(Cow::Borrowed);
        }
        // Wrong escapes are found here, halves of surrogate pairs among them.
        serde_json::from_str::<String>(self.text.get(start..self.at)?).ok().map(Cow::Owned)
    }

    /// Any value, which is read as strictly as if it were looked into.
    fn skip_value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            open @ (b'{' | b'[') if depth < MAX_DEPTH => {
                self.at += 1;
                let end = if open == b'{' { b'}' } else { b']' };
                let mut is_first = true;
                while !self.ends(end, is_first)? {
                    is_first = false;
                    self.skip_blanks();
                    if open == b'{' {
                        self.string()?;
                        self.skip_blanks();
                        self.take(b':')?;
                        self.skip_blanks();
                    }
                    self.skip_value(depth + 1)?;
                }
                Some(())
            }
            b'{' | b'[' => None,
            _ => {
                let start = self.at;
                let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                while self.peek().is_some_and(is_part) {
                    self.at += 1;
                }
                is_scalar(self.text.get(start..self.at)?).then_some(())
            }
        }
    }
}

/// Whether this is a number, `true`, `false` or `null`.
fn is_scalar(word: &str) -> bool {
    if matches!(word, "true" | "false" | "null") {
        return true;
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = word.split_once(['e', 'E']).map_or((word, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};

    /// Whether a text is JSON is decided as serde_json decides it, which has a limit of 128 for depth and, of values, for numbers.
    fn is_json(text: &str) -> bool {
        let mut rest = Rest { text, at: 0 };
        rest.skip_blanks();
        let read = rest.skip_value(0).is_some();
        rest.skip_blanks();
        read && rest.at == text.len()
    }

    #[test]
    fn what_is_json() {
        for (text, expected) in [
            ("", false),
            ("{}", true),
            (" [ ] ", true),
            ("[1,]", false),
            ("[,1]", false),
            ("{\"a\":1,}", false),
            ("{\"a\" : -0.5e+7 , \"a\":null}", true),
            ("{a:1}", false),
            ("01", false),
            ("1.", false),
            (".5", false),
            ("+1", false),
            ("nul", false),
            ("\"\\ud83d\\ude00\"", true),
            ("\"\\ud83d\"", false),
            ("\"\\x\"", false),
            ("\"a\nb\"", false),
            ("1 2", false),
            ("\u{feff}1", false),
            ("NaN", false),
        ] {
            assert_eq!(is_json(text), expected, "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(text).is_ok(), expected, "{text}");
        }
        assert!(is_json(&("[".repeat(64) + &"]".repeat(64))));
        assert!(!is_json(&("[".repeat(65) + &"]".repeat(65))));
        assert!(!is_json(&"[".repeat(1_000_000)));
    }

    proptest! {
        #[test]
        fn as_others_read_it(text in r#"([\[\]{}:, ]|"a"|"\\u00e[0-9]"|-?[0-9]{1,2}(\.[0-9])?(e[0-9])?|null|true){0,9}"#) {
            prop_assert_eq!(is_json(&text), serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok(), "{}", text);
        }
    }
}
