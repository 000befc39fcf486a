//! Reads CSV as RFC 4180 has it, strictly: a header, comma, double quotes, LF or CRLF, UTF-8. polars' own reader fills short
//! rows with nulls and quotes cells in its errors, so the records are cut here; types come from the catalog and are never
//! guessed. Faults are named by line and column, never by value.

use std::collections::HashSet;
use std::io::{BufRead, Read};

use countersign_masker::schema::ColumnType;
use polars::prelude::DataFrame;

use super::SourceError;
use super::cells::ColumnBuilder;

/// How many rows come in one frame.
const BATCH_ROWS: usize = 65_536;

/// At how many bytes of records a frame ends earlier.
const BATCH_BYTES: usize = 16 << 20;

/// A CSV file behind its header.
pub(super) struct CsvReader<R> {
    /// The file's name, for errors.
    name: String,
    input: R,
    header: Vec<String>,
    /// The longest record that is read, in bytes.
    record_max: u64,
    /// The line, from 1, on which the last record began, and the one after its end.
    line: u64,
    next_line: u64,
    record: Vec<u8>,
}

impl<R: BufRead> CsvReader<R> {
    /// Reads the header. A record of more than `record_max` bytes is refused.
    pub(super) fn open(name: &str, input: R, record_max: u64) -> Result<Self, SourceError> {
        let (name, line) = (name.to_owned(), 0);
        let mut reader = Self { name, input, header: Vec::new(), record_max, line, next_line: 1, record: Vec::new() };
        if !reader.next_record()? {
            return Err(SourceError::Malformed(format!("`{}` has no header", reader.name)));
        }
        let text = reader.text()?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut header = Vec::new();
        for field in fields(text) {
            header.push(field.map_err(|fault| reader.fault(fault))?.text.into_owned());
        }
        // By position, since in a file without a header these would be cells.
        let mut seen = HashSet::new();
        if let Some(at) = header.iter().position(|column| column.is_empty() || !seen.insert(column.as_str())) {
            let what = if header.get(at).is_some_and(String::is_empty) { "is empty" } else { "stands there twice" };
            return Err(SourceError::Malformed(format!("`{}`: name {} of the header {what}", reader.name, at + 1)));
        }
        reader.header = header;
        Ok(reader)
    }

    /// The columns' names.
    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    /// The next rows, of the given columns; nothing at the end of the file.
    pub(super) fn next_frame(&mut self, columns: &[(String, ColumnType)]) -> Result<Option<DataFrame>, SourceError> {
        let mut builders: Vec<Option<ColumnBuilder>> = Vec::new();
        for name in &self.header {
            builders.push(match columns.iter().find(|(column, _)| column == name) {
                Some((column, ty)) => Some(
                    ColumnBuilder::new(column, ty, BATCH_ROWS)
                        .ok_or_else(|| SourceError::UnsupportedType { column: column.clone(), ty: ty.to_string() })?,
                ),
                None => None,
            });
        }
        let (mut rows, mut bytes) = (0, 0);
        while rows < BATCH_ROWS && bytes < BATCH_BYTES && self.next_record()? {
            rows += 1;
            bytes += self.record.len();
            self.row(&mut builders)?;
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = builders.into_iter().flatten().map(ColumnBuilder::finish).collect::<Result<_, _>>();
        columns
            .and_then(|columns| DataFrame::new(rows, columns))
            .map(Some)
            .map_err(|_| SourceError::Failed("the columns read do not make a frame".to_owned()))
    }

    /// Puts the record at hand into the columns.
    fn row(&self, builders: &mut [Option<ColumnBuilder>]) -> Result<(), SourceError> {
        let mut found = 0;
        for field in fields(self.text()?) {
            let field = field.map_err(|fault| self.fault(fault))?;
            if let Some(Some(builder)) = builders.get_mut(found) {
                // As PostgreSQL writes CSV: nothing at all is null, two quotes are the empty text.
                if field.text.is_empty() && !field.quoted {
                    builder.push_null();
                } else {
                    builder.push_text(&field.text).map_err(|fault| {
                        let (file, line, column) = (&self.name, self.line, builder.name());
                        SourceError::Malformed(format!("`{file}` line {line}: column `{column}` holds {fault}"))
                    })?;
                }
            }
            found += 1;
        }
        if found == builders.len() {
            return Ok(());
        }
        let (file, line, required) = (&self.name, self.line, builders.len());
        Err(SourceError::Malformed(format!("`{file}` line {line}: found {found} fields, required {required}")))
    }

    /// Reads one record, quotes and line ends inside them included, into `self.record`, without its line end.
    fn next_record(&mut self) -> Result<bool, SourceError> {
        self.record.clear();
        self.line = self.next_line;
        loop {
            let start = self.record.len();
            let room = self.record_max.saturating_sub(start as u64).saturating_add(1);
            let read = (&mut self.input).take(room).read_until(b'\n', &mut self.record);
            let read = read.map_err(|error| SourceError::Unavailable(format!("`{}`: {error}", self.name)))?;
            if self.record.len() as u64 > self.record_max {
                return Err(SourceError::TooManyBytes { found: self.record.len() as u64, max: self.record_max });
            }
            if read == 0 && start == 0 {
                return Ok(false);
            }
            self.next_line += 1;
            // A record is complete when its quotes are, since a doubled quote counts twice.
            if self.record.iter().filter(|byte| **byte == b'"').count() % 2 == 0 {
                break;
            }
            if read == 0 {
                return Err(self.fault("a quote that is never closed"));
            }
        }
        for end in [b'\n', b'\r'] {
            if self.record.last() == Some(&end) {
                self.record.pop();
            } else {
                break;
            }
        }
        Ok(true)
    }

    fn text(&self) -> Result<&str, SourceError> {
        std::str::from_utf8(&self.record).map_err(|error| {
            let field = self.record.iter().take(error.valid_up_to()).filter(|byte| **byte == b',').count() + 1;
            SourceError::Malformed(format!(
                "`{}` line {}: text that is not UTF-8, near field {field}",
                self.name, self.line
            ))
        })
    }

    fn fault(&self, what: &str) -> SourceError {
        SourceError::Malformed(format!("`{}` line {}: {what}", self.name, self.line))
    }
}

struct Field<'a> {
    text: std::borrow::Cow<'a, str>,
    quoted: bool,
}

/// Cuts one record into its fields.
fn fields(record: &str) -> impl Iterator<Item = Result<Field<'_>, &'static str>> {
    let mut rest = Some(record);
    std::iter::from_fn(move || {
        let record = rest?;
        let (field, left) = match record.strip_prefix('"') {
            Some(inside) => match quoted(inside) {
                Ok(found) => found,
                Err(fault) => {
                    rest = None;
                    return Some(Err(fault));
                }
            },
            None => {
                let (text, left) = record.split_once(',').map_or((record, None), |(text, left)| (text, Some(left)));
                if text.contains(['"', '\r']) {
                    rest = None;
                    return Some(Err("a quote or carriage return inside a field that is not quoted"));
                }
                (Field { text: text.into(), quoted: false }, left)
            }
        };
        rest = left;
        Some(Ok(field))
    })
}

/// The field whose opening quote stands before `inside`, and what follows its comma.
fn quoted(inside: &str) -> Result<(Field<'_>, Option<&str>), &'static str> {
    let mut from = 0;
    loop {
        let tail = inside.get(from..).unwrap_or_default();
        let at = from + tail.find('"').ok_or("a quote that is never closed")?;
        let (text, after) = inside.split_at_checked(at).unwrap_or_default();
        match after.as_bytes().get(1) {
            Some(b'"') => from = at + 2,
            Some(b',') | None => {
                let text = if from == 0 { text.into() } else { text.replace("\"\"", "\"").into() };
                return Ok((Field { text, quoted: true }, after.get(2..)));
            }
            Some(_) => return Err("text between a closing quote and the next comma"),
        }
    }
}

#[cfg(test)]
mod tests;
