//! What loading a catalog or a policy file reports: the file, the line and the reason, so that a person can go and mend it.
//! Loading is all or nothing, a text with one error changes nothing.

use std::fmt;

/// Why a catalog or policy text was refused, and where. Displays as `file:line: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// The file's name as given to the parser.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The reason, lower case, without a full stop.
    pub reason: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl std::error::Error for LoadError {}

/// A text being loaded: turns byte positions into errors with a line.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    /// The error at byte `position` of the text.
    pub(crate) fn error(&self, position: usize, reason: impl Into<String>) -> LoadError {
        LoadError { file: self.file.to_owned(), line: self.line(position), reason: reason.into() }
    }

    pub(crate) fn line(&self, position: usize) -> usize {
        1 + self.text.bytes().take(position).filter(|&byte| byte == b'\n').count()
    }
}
