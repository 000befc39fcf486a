//! What a Parquet file claims about its own sizes, checked before polars makes room for it. Polars takes counts and lengths of
//! headers on trust; one that is negative or absurd makes an allocation fail, which ends the process and can't be caught. A
//! schema that is nested without end does the same through the stack.
//!
//! The headers are those of <https://github.com/apache/parquet-format>: the footer's `FileMetaData`, and before each page of a
//! column chunk a `PageHeader`. Nothing inside of pages is looked at.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use polars_parquet::parquet::compression::Compression;
use polars_parquet::read::{ColumnChunkMetadata, PhysicalType, RowGroupMetadata};
use polars_parquet_format::thrift::protocol::{TCompactInputProtocol, TInputProtocol, TType};
use polars_parquet_format::thrift::{Error as ThriftError, Result as ThriftResult};
use polars_parquet_format::{PageHeader, PageType, SchemaElement};

/// The deepest schema, as deep as JSON text may be.
const MAX_DEPTH: usize = countersign_masker::nested::MAX_DEPTH;

/// The most bytes of a page once unpacked. Writers aim at 1 MiB, and the largest known default is 100 MB.
const MAX_PAGE: u64 = 256 << 20;

/// The most bytes of a page's header, in which statistics may repeat two values of the page.
const MAX_HEADER: usize = 16 << 20;

/// The most bytes that polars may reserve for one column at once.
const MAX_ROOM: u64 = 2 << 30;

/// How much is read at once in search of headers.
const HEADER_BUFFER: usize = 4096;

/// The depth of the footer's schema is at most [`MAX_DEPTH`]. A footer that can't be read is left to polars to refuse.
///
/// # Errors
/// What is wrong, as the rest of a sentence about the file.
pub(super) fn check_schema(file: &File) -> Result<(), String> {
    let depth = footer(file).and_then(|footer| schema_depth(&footer).ok());
    match depth {
        Some(depth) if depth > MAX_DEPTH => {
            Err(format!("has a schema of {depth} levels, more than the {MAX_DEPTH} that are looked into"))
        }
        _ => Ok(()),
    }
}

/// The bytes of `FileMetaData`: before the last eight, which are their length and `PAR1`.
fn footer(mut file: &File) -> Option<Vec<u8>> {
    let mut end = [0; 8];
    file.seek(SeekFrom::End(-8)).ok()?;
    file.read_exact(&mut end).ok()?;
    let [a, b, c, d, ..] = end;
    let length = u32::from_le_bytes([a, b, c, d]);
    file.seek(SeekFrom::End(-8 - i64::from(length))).ok()?;
    let mut footer = Vec::new();
    file.take(length.into()).read_to_end(&mut footer).ok()?;
    Some(footer)
}

/// The levels of the schema, whose tree stands in the list as `FileMetaData`'s second field, each group before its members.
fn schema_depth(mut footer: &[u8]) -> ThriftResult<usize> {
    // Elements of lists are counted as eight bytes, and take one at the least.
    let allowed = footer.len().saturating_mul(8);
    let mut input = TCompactInputProtocol::new(&mut footer, allowed);
    let mut deepest = 0;
    input.read_struct_begin()?;
    loop {
        let field = input.read_field_begin()?;
        match (field.field_type, field.id) {
            (TType::Stop, _) => return Ok(deepest),
            (TType::List, Some(2)) => {
                // How many members are still to come of each group that is open.
                let mut open: Vec<i32> = Vec::new();
                for _ in 0..input.read_list_begin()?.size {
                    let element = SchemaElement::read_from_in_protocol(&mut input)?;
                    while open.last() == Some(&0) {
                        open.pop();
                    }
                    if let Some(left) = open.last_mut() {
                        *left -= 1;
                    }
                    if let Some(members @ 1..) = element.num_children {
                        open.push(members);
                        deepest = deepest.max(open.len());
                    }
                }
            }
            (other, _) => input.skip(other)?,
        }
    }
}

/// Of each of these columns, what the row group and its pages' headers claim fits the group's rows and the file.
///
/// # Errors
/// What is wrong, as the rest of a sentence about the file.
pub(super) fn check_group<'a>(
    file: &File,
    group: &RowGroupMetadata,
    columns: impl IntoIterator<Item = &'a str>,
    slice_rows: usize,
) -> Result<(), String> {
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    for column in columns {
        for chunk in group.columns_under_root_iter(column).into_iter().flatten() {
            let chunk = Chunk { chunk, rows: group.num_rows() as u64, file_size: size };
            chunk.check(file, slice_rows as u64).map_err(|what| format!("column `{column}` {what}"))?;
        }
    }
    Ok(())
}

/// The pages of one leaf of a column.
struct Chunk<'a> {
    chunk: &'a ColumnChunkMetadata,
    rows: u64,
    file_size: u64,
}

impl Chunk<'_> {
    fn check(&self, file: &File, slice_rows: u64) -> Result<(), String> {
        let (chunk, rows) = (self.chunk, self.rows);
        let is_nested = chunk.descriptor().descriptor.max_rep_level > 0;
        let values = u64::try_from(chunk.num_values()).unwrap_or_default();
        // A row has one value, or in lists one at the least, be it a null.
        if values < rows || (!is_nested && values != rows) {
            return Err(format!("has {} values for {rows} rows", chunk.num_values()));
        }
        let at_once = if is_nested { values } else { rows.min(slice_rows) };
        if at_once.saturating_mul(width(chunk.physical_type())) > MAX_ROOM {
            return Err(format!("has {values} values, too many of its type; smaller row groups can be read"));
        }
        self.check_pages(file, values)
    }

    /// Walks from header to header as polars does, until every value has been seen.
    fn check_pages(&self, file: &File, values: u64) -> Result<(), String> {
        let start = self.chunk.dictionary_page_offset().unwrap_or_else(|| self.chunk.data_page_offset());
        let place = (u64::try_from(start).ok(), u64::try_from(self.chunk.compressed_size()).ok());
        let (Some(start), Some(mut left)) = place else { return Err("lies outside of the file".to_owned()) };
        if start.checked_add(left).is_none_or(|end| end > self.file_size) {
            return Err("lies outside of the file".to_owned());
        }
        let mut pages = BufReader::with_capacity(HEADER_BUFFER, file);
        pages.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
        let mut seen = 0;
        let mut number = 0;
        while seen < values {
            number += 1;
            let mut within = pages.by_ref().take(left);
            let header = PageHeader::read_from_in_protocol(&mut TCompactInputProtocol::new(&mut within, MAX_HEADER));
            left = within.limit();
            let wrong = |what: &str| format!("has a wrong header of page {number}: {what}");
            let header = header.map_err(|error| wrong(unreadable(&error)))?;
            let page = Page::new(&header, number == 1).map_err(wrong)?;
            if page.compressed > left || page.unpacked > MAX_PAGE {
                return Err(wrong("its size is more than there can be"));
            }
            let size =
                if self.chunk.compression() == Compression::Uncompressed { page.compressed } else { page.unpacked };
            if page.entries.saturating_mul(width(self.chunk.physical_type()).min(ENTRY)) > size {
                return Err(wrong("it has more entries than bytes"));
            }
            if page.values > values - seen {
                return Err(wrong("it has more values than are left"));
            }
            seen += page.values;
            left -= page.compressed;
            // Lossless, as a page is no longer than an `i32` says.
            pages.seek_relative(page.compressed as i64).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Bytes in memory of a value of this type.
fn width(physical: PhysicalType) -> u64 {
    match physical {
        PhysicalType::Boolean => 1,
        PhysicalType::Int32 | PhysicalType::Float => 4,
        PhysicalType::Int64 | PhysicalType::Double => 8,
        PhysicalType::Int96 => 12,
        // A view of it, which is what is reserved before its bytes are known.
        PhysicalType::ByteArray => 16,
        PhysicalType::FixedLenByteArray(size) => (size as u64).max(1),
    }
}

/// The fewest bytes of a dictionary's entry, but for types that are narrower: a byte array has its length before it.
const ENTRY: u64 = 4;

fn unreadable(_: &ThriftError) -> &'static str {
    "it can't be read"
}

/// What is taken from a page's header.
struct Page {
    compressed: u64,
    unpacked: u64,
    /// Of a page of data.
    values: u64,
    /// Of a dictionary.
    entries: u64,
}

impl Page {
    fn new(header: &PageHeader, is_first: bool) -> Result<Self, &'static str> {
        let count = |number: i32| u64::try_from(number).map_err(|_| "a number is negative");
        let (values, entries) = match header.type_ {
            PageType::DATA_PAGE => (header.data_page_header.as_ref().map(|page| page.num_values), 0),
            PageType::DATA_PAGE_V2 => (header.data_page_header_v2.as_ref().map(|page| page.num_values), 0),
            PageType::DICTIONARY_PAGE if is_first => {
                let page = header.dictionary_page_header.as_ref().ok_or("a part is missing")?;
                (Some(0), count(page.num_values)?)
            }
            _ => return Err("it is of a kind that does not belong there"),
        };
        Ok(Self {
            compressed: count(header.compressed_page_size)?,
            unpacked: count(header.uncompressed_page_size)?,
            values: count(values.ok_or("a part is missing")?)?,
            entries,
        })
    }
}
