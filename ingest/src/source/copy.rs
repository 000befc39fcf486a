//! Decodes `COPY … TO STDOUT (FORMAT binary)` straight into columns, however the stream is cut into messages. It trusts nothing
//! but the number and types of the columns: a stream that breaks the format is an error, never a panic, and rows and bytes are
//! counted against their limits before they are kept.
//!
//! The format (PostgreSQL documentation, `COPY`, "Binary Format"), all integers big-endian:
//!
//! ```text
//! header   "PGCOPY\n\xff\r\n\0" · flags u32 (bits 16..31 are critical) · extension length u32 · extension
//! tuple    field count u16 · per field: length i32 (−1: null) · that many bytes
//! trailer  field count −1
//! ```

use countersign_masker::schema::ColumnType;
use polars::prelude::{DataFrame, PolarsError};

use super::SourceError;
use super::cells::ColumnBuilder;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// How many rows the columns make room for at first.
const FIRST_CAPACITY: usize = 1_024;

enum Stage {
    Header,
    Tuples,
    Ended,
}

/// A COPY stream on its way into a frame. Feed it with [`push`](Self::push), in any portions, then [`finish`](Self::finish).
pub(super) struct CopyDecoder {
    columns: Vec<ColumnBuilder>,
    stage: Stage,
    /// Where in the buffer each field of the tuple at hand stands: start and end, or nothing for null. Kept for its memory.
    fields: Vec<Option<(usize, usize)>>,
    /// The start of a tuple whose end has not come yet. INVARIANT: no longer than the bytes pushed so far, hence than `bytes_max`.
    rest: Vec<u8>,
    rows: u64,
    bytes: u64,
    rows_max: u64,
    bytes_max: u64,
}

impl CopyDecoder {
    /// A decoder for tuples of exactly these columns. More than `rows_max` rows, or `bytes_max` bytes on the wire, are refused.
    pub(super) fn new(columns: &[(String, ColumnType)], rows_max: u64, bytes_max: u64) -> Result<Self, SourceError> {
        let columns: Vec<_> = columns
            .iter()
            .map(|(name, ty)| {
                ColumnBuilder::new(name, ty, FIRST_CAPACITY)
                    .ok_or_else(|| SourceError::UnsupportedType { column: name.clone(), ty: ty.to_string() })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            fields: Vec::with_capacity(columns.len()),
            columns,
            stage: Stage::Header,
            rest: Vec::new(),
            rows: 0,
            bytes: 0,
            rows_max,
            bytes_max,
        })
    }

    /// Takes the next portion of the stream.
    pub(super) fn push(&mut self, portion: &[u8]) -> Result<(), SourceError> {
        self.bytes = self.bytes.saturating_add(portion.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(SourceError::TooManyBytes { found: self.bytes, max: self.bytes_max });
        }
        // PostgreSQL sends each tuple as one message, so `rest` is nearly always empty and nothing is copied.
        if self.rest.is_empty() {
            let used = self.decode(portion)?;
            self.rest.extend_from_slice(portion.get(used..).unwrap_or_default());
        } else {
            let mut buffer = std::mem::take(&mut self.rest);
            buffer.extend_from_slice(portion);
            let used = self.decode(&buffer)?;
            buffer.drain(..used);
            self.rest = buffer;
        }
        Ok(())
    }

    /// The frame, once the stream has ended as it should.
    pub(super) fn finish(self) -> Result<DataFrame, SourceError> {
        match self.stage {
            Stage::Ended => {}
            Stage::Header | Stage::Tuples => return Err(malformed("the stream ended without its trailer".to_owned())),
        }
        let height = usize::try_from(self.rows).unwrap_or(usize::MAX);
        let columns = self.columns.into_iter().map(ColumnBuilder::finish).collect::<Result<_, PolarsError>>();
        columns
            .and_then(|columns| DataFrame::new(height, columns))
            .map_err(|_| SourceError::Failed("the decoded columns do not make a frame".to_owned()))
    }

    /// Decodes whatever is complete, and says how many bytes that was.
    fn decode(&mut self, buffer: &[u8]) -> Result<usize, SourceError> {
        let mut used = 0;
        loop {
            match self.stage {
                Stage::Header => match header_length(buffer)? {
                    Some(length) => {
                        used = length;
                        self.stage = Stage::Tuples;
                    }
                    None => return Ok(used),
                },
                Stage::Tuples => match self.measure(buffer, used)? {
                    Some(Measured::Tuple { end }) => {
                        self.tuple(buffer)?;
                        used = end;
                    }
                    Some(Measured::Trailer) => {
                        used += 2;
                        self.stage = Stage::Ended;
                    }
                    None => return Ok(used),
                },
                Stage::Ended if used == buffer.len() => return Ok(used),
                Stage::Ended => return Err(malformed("the stream goes on behind its trailer".to_owned())),
            }
        }
    }

    /// Finds the fields of the tuple that begins at `start`; nothing if its end has not come yet. Positions are looked up one by
    /// one, without cutting slices, because this runs for every cell.
    fn measure(&mut self, buffer: &[u8], start: usize) -> Result<Option<Measured>, SourceError> {
        let mut at = start + 2;
        let Some(count) = buffer.get(start..at).and_then(|bytes| bytes.try_into().ok()) else { return Ok(None) };
        let count = i16::from_be_bytes(count);
        if count == -1 {
            return Ok(Some(Measured::Trailer));
        }
        if usize::try_from(count) != Ok(self.columns.len()) {
            return Err(malformed(format!("found {count} fields in a row, required {}", self.columns.len())));
        }
        self.fields.clear();
        for _ in 0..count {
            let Some(length) = buffer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()) else { return Ok(None) };
            at += 4;
            let length = i32::from_be_bytes(length);
            if length == -1 {
                self.fields.push(None);
                continue;
            }
            let length = usize::try_from(length).map_err(|_| malformed("a field has a negative length".to_owned()))?;
            // A length that can never come true must not make us collect bytes for it.
            if length as u64 > self.bytes_max {
                return Err(SourceError::TooManyBytes { found: length as u64, max: self.bytes_max });
            }
            self.fields.push(Some((at, at + length)));
            at += length;
        }
        Ok((at <= buffer.len()).then_some(Measured::Tuple { end: at }))
    }

    /// Puts the tuple that was just measured into the columns.
    fn tuple(&mut self, buffer: &[u8]) -> Result<(), SourceError> {
        self.rows += 1;
        if self.rows > self.rows_max {
            return Err(SourceError::TooManyRows { max: self.rows_max });
        }
        for (column, field) in self.columns.iter_mut().zip(&self.fields) {
            match field {
                None => column.push_null(),
                Some((start, end)) => {
                    let value = buffer.get(*start..*end).unwrap_or_default();
                    column.push_binary(value).map_err(|fault| {
                        malformed(format!("column `{}` holds {fault}, in row {}", column.name(), self.rows))
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// What stands at the place of a tuple.
enum Measured {
    /// A tuple, up to this place in the buffer.
    Tuple {
        end: usize,
    },
    Trailer,
}

/// The length of the header at the start of `buffer`, if it is all there.
fn header_length(buffer: &[u8]) -> Result<Option<usize>, SourceError> {
    let known = SIGNATURE.len().min(buffer.len());
    if buffer.get(..known) != SIGNATURE.get(..known) {
        return Err(malformed("the stream does not begin as a binary COPY".to_owned()));
    }
    let Some((flags, left)) = buffer.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk) else {
        return Ok(None);
    };
    if u32::from_be_bytes(*flags) >> 16 != 0 {
        return Err(malformed("the stream has a critical flag that is not known".to_owned()));
    }
    let Some((extension, left)) = left.split_first_chunk() else { return Ok(None) };
    let extension = usize::try_from(u32::from_be_bytes(*extension)).unwrap_or(usize::MAX);
    Ok((left.len() >= extension).then(|| SIGNATURE.len() + 8 + extension))
}

fn malformed(what: String) -> SourceError {
    SourceError::Malformed(what)
}

#[cfg(test)]
mod tests;
