//! Files whose headers claim what can't be: each is refused by name before polars makes room for it.

use std::fs;
use std::path::Path;

use polars::prelude::*;
use polars_io::prelude::{ParquetCompression, ParquetWriter};
use polars_parquet_format::thrift::protocol::{TCompactInputProtocol, TCompactOutputProtocol};
use polars_parquet_format::{
    ColumnMetaData, FieldRepetitionType, FileMetaData, PageHeader, PageType, SchemaElement, Type,
};

use super::*;

/// A file of one column `c` in one row group.
fn file(column: Series) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut frame = DataFrame::new(column.len(), vec![column.with_name("c".into()).into_column()]).unwrap();
    let writer = ParquetWriter::new(&mut bytes).with_compression(ParquetCompression::Uncompressed);
    writer.finish(&mut frame).unwrap();
    bytes
}

fn footer_length(file: &[u8]) -> usize {
    u32::from_le_bytes(file[file.len() - 8..file.len() - 4].try_into().unwrap()) as usize
}

fn metadata(file: &[u8]) -> FileMetaData {
    let footer = &file[file.len() - 8 - footer_length(file)..];
    FileMetaData::read_from_in_protocol(&mut TCompactInputProtocol::new(footer, 1 << 20)).unwrap()
}

/// The data, and then a footer.
fn with_footer(data: &[u8], metadata: &FileMetaData) -> Vec<u8> {
    let mut file = data.to_vec();
    let length = metadata.write_to_out_protocol(&mut TCompactOutputProtocol::new(&mut file)).unwrap();
    file.extend((length as u32).to_le_bytes());
    file.extend(b"PAR1");
    file
}

/// The file with another schema or column in its footer.
fn footer(file: &[u8], alter: impl FnOnce(&mut FileMetaData)) -> Vec<u8> {
    let mut metadata = metadata(file);
    alter(&mut metadata);
    with_footer(&file[..file.len() - 8 - footer_length(file)], &metadata)
}

fn chunk(metadata: &mut FileMetaData) -> &mut ColumnMetaData {
    metadata.row_groups[0].columns[0].meta_data.as_mut().unwrap()
}

/// The file with another header of the column's page of that number, the first being 0.
fn page(file: &[u8], number: usize, alter: impl FnOnce(&mut PageHeader)) -> Vec<u8> {
    let mut metadata = metadata(file);
    let column = chunk(&mut metadata);
    let mut at = column.dictionary_page_offset.unwrap_or(column.data_page_offset) as usize;
    let mut next = || {
        let (start, mut rest) = (at, &file[at..]);
        let header = PageHeader::read_from_in_protocol(&mut TCompactInputProtocol::new(&mut rest, 1 << 20)).unwrap();
        let end = file.len() - rest.len();
        at = end + header.compressed_page_size as usize;
        (header, start, end)
    };
    let (mut header, start, end) = (0..=number).map(|_| next()).last().unwrap();
    alter(&mut header);
    let mut data = file[..start].to_vec();
    header.write_to_out_protocol(&mut TCompactOutputProtocol::new(&mut data)).unwrap();
    let longer = data.len() as i64 - end as i64;
    data.extend(&file[end..file.len() - 8 - footer_length(file)]);
    column.total_compressed_size += longer;
    if column.data_page_offset as usize > start {
        column.data_page_offset += longer;
    }
    with_footer(&data, &metadata)
}

/// Reads the file whole.
fn read(folder: &Path, bytes: &[u8]) -> Result<usize, SourceError> {
    let path = folder.join("c.parquet");
    fs::write(&path, bytes).unwrap();
    let mut file = ParquetFile::open("c.parquet", File::open(path).unwrap())?;
    let columns = file.columns()?;
    let mut rows = 0;
    while let Some(frame) = file.next_frame(&columns)? {
        rows += frame.height();
    }
    Ok(rows)
}

fn check(bytes: &[u8], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read(folder.path(), bytes).unwrap_err().to_string(), format!("`c.parquet`{expected}"));
}

fn numbers() -> Vec<u8> {
    file(Series::new("c".into(), (0..1000_i64).map(|at| (at % 5 != 0).then_some(at * at)).collect::<Vec<_>>()))
}

/// With a dictionary, and then a page of data.
fn words() -> Vec<u8> {
    file(Series::new("c".into(), (0..1000).map(|at| format!("word {}", at % 7)).collect::<Vec<_>>()))
}

fn lists() -> Vec<u8> {
    let lists = (0..1000_i32).map(|at| Some(Series::new("".into(), vec![at; (at % 3) as usize])));
    file(lists.collect::<ListChunked>().into_series())
}

#[test]
fn what_is_whole_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [numbers(), words(), lists()] {
        assert_eq!(read(folder.path(), &bytes).unwrap(), 1000);
        // The altering functions alter nothing but what they are told to.
        assert_eq!(read(folder.path(), &page(&bytes, 0, |_| ())).unwrap(), 1000);
        assert_eq!(read(folder.path(), &footer(&bytes, |_| ())).unwrap(), 1000);
    }
    assert_eq!(read(folder.path(), &page(&words(), 1, |_| ())).unwrap(), 1000);
    assert!(chunk(&mut metadata(&words())).dictionary_page_offset.is_some());
}

#[test]
fn headers_of_pages() {
    let data = |header: &mut PageHeader, values: i32| match &mut header.data_page_header {
        Some(page) => page.num_values = values,
        None => header.data_page_header_v2.as_mut().unwrap().num_values = values,
    };
    let wrong =
        |number: usize, what: &str| format!(", row group 1: column `c` has a wrong header of page {number}: {what}");
    for values in [-1, i32::MIN] {
        check(&page(&numbers(), 0, |header| data(header, values)), &wrong(1, "a number is negative"));
    }
    for values in [1001, i32::MAX] {
        check(&page(&numbers(), 0, |header| data(header, values)), &wrong(1, "it has more values than are left"));
    }
    check(&page(&numbers(), 0, |header| header.compressed_page_size = -1), &wrong(1, "a number is negative"));
    check(&page(&numbers(), 0, |header| header.uncompressed_page_size = -1), &wrong(1, "a number is negative"));
    let too_much = wrong(1, "its size is more than there can be");
    check(&page(&numbers(), 0, |header| header.compressed_page_size = i32::MAX), &too_much);
    check(&page(&numbers(), 0, |header| header.uncompressed_page_size = i32::MAX), &too_much);
    check(&page(&words(), 0, |header| header.uncompressed_page_size = 300 << 20), &too_much);
    let strange = "it is of a kind that does not belong there";
    check(&page(&numbers(), 0, |header| header.type_ = PageType::INDEX_PAGE), &wrong(1, strange));
    check(&page(&numbers(), 0, |header| header.type_ = PageType(77)), &wrong(1, strange));
    check(&page(&words(), 1, |header| header.type_ = PageType::DICTIONARY_PAGE), &wrong(2, strange));
    check(&page(&numbers(), 0, |header| header.type_ = PageType::DICTIONARY_PAGE), &wrong(1, "a part is missing"));
    let dictionary =
        |entries| page(&words(), 0, |header| header.dictionary_page_header.as_mut().unwrap().num_values = entries);
    check(&dictionary(-1), &wrong(1, "a number is negative"));
    check(&dictionary(i32::MAX), &wrong(1, "it has more entries than bytes"));
    check(&page(&numbers(), 0, |header| data(header, 999)), &wrong(2, "it can't be read"));
}

#[test]
fn a_column_in_the_footer() {
    let claims = |what: &str| format!(", row group 1: column `c` {what}");
    for values in [-1, 0, 999, 1001, i64::MAX] {
        let bytes = footer(&numbers(), |file| chunk(file).num_values = values);
        check(&bytes, &claims(&format!("has {values} values for 1000 rows")));
    }
    let bytes = footer(&lists(), |file| chunk(file).num_values = 999);
    check(&bytes, &claims("has 999 values for 1000 rows"));
    let bytes = footer(&lists(), |file| chunk(file).num_values = 1 << 40);
    check(&bytes, &claims("has 1099511627776 values, too many of its type; smaller row groups can be read"));
    let bytes = footer(&numbers(), |file| chunk(file).total_compressed_size += 1 << 20);
    check(&bytes, &claims("lies outside of the file"));
    let fixed = footer(&words(), |file| {
        let word = file.schema.last_mut().unwrap();
        (word.type_, word.type_length) = (Some(Type::FIXED_LEN_BYTE_ARRAY), Some(i32::MAX));
        (word.converted_type, word.logical_type) = (None, None);
        chunk(file).type_ = Type::FIXED_LEN_BYTE_ARRAY;
        file.key_value_metadata = None;
    });
    check(&fixed, &claims("has 1000 values, too many of its type; smaller row groups can be read"));
}

#[test]
fn a_schema_without_end() {
    let bytes = footer(&numbers(), |file| {
        let group = |name: &str| SchemaElement {
            type_: None,
            type_length: None,
            repetition_type: Some(FieldRepetitionType::OPTIONAL),
            name: name.to_owned(),
            num_children: Some(1),
            converted_type: None,
            scale: None,
            precision: None,
            field_id: None,
            logical_type: None,
        };
        let leaf = file.schema.pop().unwrap();
        file.schema.extend((0..200_000).map(|_| group("c")));
        file.schema.push(leaf);
    });
    check(&bytes, " has a schema of 200001 levels, more than the 64 that are looked into");
}
