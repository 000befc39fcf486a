//! Paths: how a catalog addresses what lies inside a column, in structs, lists and JSON text alike.
//!
//! ```text
//! path = step { "." step }        at least two; the first is a column
//! step = name                     a member of that name; any characters but . " * and blanks
//!      | '"' any text, "" for a quote '"'
//!      | "*"                      any one member
//!      | "**"                     any number of members, none included; not at the end
//! ```
//!
//! A list counts for nothing on the way: `people.name` is the name in each struct or object of the list `people`. What a path
//! addresses, it addresses with all beneath it. `**.email` is every `email` at any depth in any column, and never a column
//! itself: that has a class of its own.
//!
//! [`Walk`] is what a frame's columns and JSON texts are read along with: it follows all paths of a column at once.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// The most steps of a path, so that a position is a bit of an `u64`.
const MAX_STEPS: usize = 32;
const MAX_BYTES: usize = 512;
/// The most paths of a column, so that a set of them is an `u64`.
pub const MAX_PATHS: usize = 64;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// The member of this name.
    Name(String),
    /// Any member.
    Any,
    /// Any number of members.
    Deep,
}

impl Step {
    /// The name as a path writes it: bare where that is possible.
    pub(crate) fn name(name: &str) -> String {
        if !name.is_empty() && name.chars().all(is_bare) {
            name.to_owned()
        } else {
            format!("\"{}\"", name.replace('"', "\"\""))
        }
    }
}

fn is_bare(char: char) -> bool {
    !matches!(char, '.' | '"' | '*' | '(' | ')' | ',') && !char.is_whitespace() && !char.is_control()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&Self::name(name)),
            Self::Any => f.write_str("*"),
            Self::Deep => f.write_str("**"),
        }
    }
}

/// A path; see the module's doc for how it is written. `Display` writes its one canonical spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    steps: Vec<Step>,
}

/// A text that is no path, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path `{}` {reason}", .text.escape_debug())]
pub struct PathError {
    /// The text.
    pub text: String,
    /// What is wrong, to be read after "path … ".
    pub reason: &'static str,
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        steps(text).map(|steps| Self { steps }).map_err(|reason| PathError { text: text.to_owned(), reason })
    }
}

fn steps(text: &str) -> Result<Vec<Step>, &'static str> {
    if text.len() > MAX_BYTES {
        return Err("is longer than 512 bytes");
    }
    let mut steps = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let step = match chars.peek() {
            Some('"') => {
                chars.next();
                let mut name = String::new();
                loop {
                    match chars.next() {
                        Some('"') if chars.next_if_eq(&'"').is_some() => name.push('"'),
                        Some('"') => break,
                        Some(char) if char.is_control() => return Err("has a control character"),
                        Some(char) => name.push(char),
                        None => return Err("lacks a closing quote"),
                    }
                }
                Step::Name(name)
            }
            Some('*') => {
                chars.next();
                if chars.next_if_eq(&'*').is_some() { Step::Deep } else { Step::Any }
            }
            _ => {
                let mut name = String::new();
                while let Some(char) = chars.next_if(|char| is_bare(*char)) {
                    name.push(char);
                }
                if name.is_empty() {
                    return Err(
                        "lacks a step: names with other characters than letters, digits and the like stand in quotes",
                    );
                }
                Step::Name(name)
            }
        };
        if step == Step::Deep && steps.last() == Some(&Step::Deep) {
            return Err("has `**` twice in a row");
        }
        steps.push(step);
        match chars.next() {
            None => break,
            Some('.') => {}
            Some(_) => return Err("lacks a `.` between two steps"),
        }
    }
    match steps.as_slice() {
        [] | [_] => Err("addresses a column as a whole: that is what `columns` is for"),
        [.., Step::Deep] => Err("ends in `**`: what a path addresses, it addresses with all beneath it"),
        steps if steps.len() > MAX_STEPS => Err("has more than 32 steps"),
        _ => Ok(steps),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "{}{step}", if index == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl serde::Serialize for Path {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Path {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Path {
    /// The column that it names, if it names one.
    pub fn column(&self) -> Option<&str> {
        match self.steps.first() {
            Some(Step::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether it leads into the column of that name.
    pub fn leads_into(&self, column: &str) -> bool {
        self.column().is_none_or(|name| name == column)
    }

    /// The positions before the first step.
    fn start(&self) -> u64 {
        self.closed(1)
    }

    /// The position behind the last step.
    fn end(&self) -> u64 {
        1 << self.steps.len()
    }

    /// With each position before a `**` also the one behind it.
    fn closed(&self, positions: u64) -> u64 {
        let deep = |(index, step): (usize, &Step)| u64::from(*step == Step::Deep) << index;
        let deep: u64 = self.steps.iter().enumerate().map(deep).sum();
        // `**` never stands twice in a row, so once is enough.
        positions | (positions & deep) << 1
    }

    /// The positions after a member: of the name, or `None` for a name that stands in no path.
    fn advance(&self, positions: u64, member: Option<&str>) -> u64 {
        let after = self.steps.iter().enumerate().filter(|(index, _)| positions >> index & 1 == 1);
        let after = after.map(|(index, step)| match step {
            Step::Name(name) => u64::from(member == Some(name.as_str())) << (index + 1),
            Step::Any => 1 << (index + 1),
            Step::Deep => 1 << index,
        });
        self.closed(after.fold(0, |all, one| all | one))
    }

    /// Whether the step ahead of one of these positions is this name.
    fn is_name_ahead(&self, positions: u64, name: &str) -> bool {
        let is_ahead = |(index, step): (usize, &Step)| {
            positions >> index & 1 == 1 && matches!(step, Step::Name(ahead) if ahead == name)
        };
        self.steps.iter().enumerate().any(is_ahead)
    }

    /// Whether names alone have led to one of these positions, behind the first step and before the last.
    fn is_spelled_at(&self, positions: u64) -> bool {
        let names = self.steps.iter().take_while(|step| matches!(step, Step::Name(_))).count();
        (1..=names).any(|index| index < self.steps.len() && positions >> index & 1 == 1)
    }
}

/// Where a walk is: an index that only its [`Walk`] understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place(usize);

/// What the paths say of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    /// For each path, the positions that it can be in.
    positions: Vec<u64>,
    /// The paths that address this place or one above it, as bits.
    addressed: u64,
    /// Where each known name leads, and then any other.
    next: Vec<Option<Place>>,
}

/// All paths of one column, followed at once.
pub(crate) struct Walk<'a> {
    paths: Vec<&'a Path>,
    /// The names that stand in paths.
    names: HashMap<&'a str, usize>,
    nodes: Vec<Node>,
}

impl<'a> Walk<'a> {
    /// Follows these paths from the column on. Those beyond the first [`MAX_PATHS`] are not followed.
    pub(crate) fn new(column: &str, paths: impl IntoIterator<Item = &'a Path>) -> (Self, Place) {
        let paths = paths.into_iter().take(MAX_PATHS).collect::<Vec<_>>();
        let mut names = HashMap::new();
        for step in paths.iter().flat_map(|path| &path.steps) {
            if let Step::Name(name) = step {
                let index = names.len();
                names.entry(name.as_str()).or_insert(index);
            }
        }
        // No path addresses the column itself.
        let inside = |path: &&Path| path.advance(path.start(), Some(column)) & !path.end();
        let positions = paths.iter().map(inside).collect();
        let next = vec![None; names.len() + 1];
        let root = Node { positions, addressed: 0, next };
        (Self { paths, names, nodes: vec![root] }, Place(0))
    }

    /// Where a member leads.
    pub(crate) fn member(&mut self, place: Place, name: &str) -> Place {
        let known = self.names.get(name).copied();
        let slot = known.unwrap_or(self.names.len());
        let Some(node) = self.nodes.get(place.0) else { return place };
        if let Some(next) = node.next.get(slot).copied().flatten() {
            return next;
        }
        let member = known.map(|_| name);
        let positions = node.positions.iter().zip(&self.paths).map(|(at, path)| path.advance(*at, member));
        let positions = positions.collect::<Vec<_>>();
        let ends = positions.iter().zip(&self.paths).enumerate();
        let ends = ends.map(|(index, (at, path))| u64::from(at & path.end() != 0) << index);
        let addressed = ends.fold(node.addressed, |all, one| all | one);
        let same = self.nodes.iter().position(|node| node.addressed == addressed && node.positions == positions);
        let next = Place(same.unwrap_or(self.nodes.len()));
        if same.is_none() {
            self.nodes.push(Node { positions, addressed, next: vec![None; self.names.len() + 1] });
        }
        if let Some(slot) = self.nodes.get_mut(place.0).and_then(|node| node.next.get_mut(slot)) {
            *slot = Some(next);
        }
        next
    }

    /// The paths, as bits by their order, that address this place or one above it.
    pub(crate) fn addressed(&self, place: Place) -> u64 {
        self.nodes.get(place.0).map_or(0, |node| node.addressed)
    }

    /// Whether a path may address something beneath this place.
    pub(crate) fn leads_on(&self, place: Place) -> bool {
        let is_open = |(at, path): (&u64, &&Path)| at & !path.end() != 0;
        self.nodes.get(place.0).is_some_and(|node| node.positions.iter().zip(&self.paths).any(is_open))
    }

    /// The paths, as bits, that lead on from this place and have spelled out each step to it.
    pub(crate) fn spelled(&self, place: Place) -> u64 {
        let positions = self.nodes.get(place.0).into_iter().flat_map(|node| &node.positions);
        let is_spelled = positions.zip(&self.paths).map(|(at, path)| path.is_spelled_at(*at));
        is_spelled.enumerate().fold(0, |all, (index, one)| all | u64::from(one) << index)
    }

    /// Whether the next step of a path at this place is this name. A name that a path has elsewhere is like any other here.
    pub(crate) fn names(&self, place: Place, name: &str) -> bool {
        self.names.contains_key(name)
            && self.nodes.get(place.0).is_some_and(|node| {
                node.positions.iter().zip(&self.paths).any(|(at, path)| path.is_name_ahead(*at, name))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling() {
        for (text, same) in [
            ("profile.emergency.ssn", "profile.emergency.ssn"),
            ("**.email", "**.email"),
            ("a.*.b", "a.*.b"),
            ("\"a b\".\"c\"", "\"a b\".c"),
            ("a.\"\".\"q\"\"q\"", "a.\"\".\"q\"\"q\""),
            ("straße.名", "straße.名"),
        ] {
            assert_eq!(text.parse::<Path>().map(|path| path.to_string()), Ok(same.to_owned()));
        }
        for (text, reason) in [
            ("", "lacks a step"),
            ("a", "addresses a column as a whole"),
            ("a.", "lacks a step"),
            (".a", "lacks a step"),
            ("a..b", "lacks a step"),
            ("a.**", "ends in `**`"),
            ("a.**.**.b", "has `**` twice in a row"),
            ("a.\"b", "lacks a closing quote"),
            ("a.\"b\"c", "lacks a `.`"),
            ("a.b c", "lacks a `.`"),
            ("a.***", "lacks a `.`"),
            ("a.b\n", "lacks a `.`"),
            (&vec!["a"; 33].join("."), "has more than 32 steps"),
            (&"a.b".repeat(300), "is longer than 512 bytes"),
        ] {
            let error = text.parse::<Path>().unwrap_err();
            assert!(error.reason.starts_with(reason), "{text}: {error}");
        }
    }

    /// Which of the paths address the last member of the way.
    fn addressed(paths: &[&str], way: &str) -> Vec<String> {
        let paths = paths.iter().map(|path| path.parse().unwrap()).collect::<Vec<Path>>();
        let mut members = way.split('.');
        let (mut walk, mut place) = Walk::new(members.next().unwrap(), &paths);
        for member in members {
            place = walk.member(place, member);
        }
        let bits = walk.addressed(place);
        paths.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1).map(|(_, path)| path.to_string()).collect()
    }

    #[test]
    fn matching() {
        let paths = ["profile.emergency.ssn", "**.email", "profile.*.email", "other.email", "profile.**.a.*.z", "*.x"];
        for (way, expected) in [
            ("profile", ""),
            ("email", ""),
            ("profile.emergency", ""),
            ("profile.emergency.ssn", "profile.emergency.ssn"),
            ("profile.emergency.ssn.deep.er", "profile.emergency.ssn"),
            ("profile.ssn", ""),
            ("profile.email", "**.email"),
            ("email.email", "**.email"),
            ("profile.emergency.email", "**.email profile.*.email"),
            ("profile.a.b.email.c", "**.email"),
            ("profile.a.b.z", "profile.**.a.*.z"),
            ("profile.q.a.a.b.z", "profile.**.a.*.z"),
            ("profile.a.z", ""),
            ("anything.x", "*.x"),
            ("anything.y.x", ""),
        ] {
            assert_eq!(addressed(&paths, way).join(" "), expected, "{way}");
        }
    }

    #[test]
    fn what_is_ahead() {
        let paths = ["a.b.c", "**.e"].map(|path| path.parse::<Path>().unwrap());
        let (mut walk, a) = Walk::new("a", &paths);
        let b = walk.member(a, "b");
        let other = walk.member(a, "whatever");
        assert_eq!((walk.spelled(a), walk.spelled(b), walk.spelled(other)), (0b01, 0b01, 0));
        assert!([a, b, other].into_iter().all(|place| walk.leads_on(place)));
        // Names that no path knows lead to one place, however many there are.
        assert_eq!(walk.member(a, "yet another"), other);
        let (walk, x) = Walk::new("x", &paths[..1]);
        assert!(!walk.leads_on(x));
        let (mut walk, a) = Walk::new("a", &paths[..1]);
        let b = walk.member(a, "b");
        let c = walk.member(b, "c");
        assert_eq!((walk.addressed(c), walk.leads_on(c)), (1, false));
        assert!(walk.names(b, "c") && !walk.names(a, "c") && !walk.names(b, "a") && !walk.names(b, "e"));
    }
}
