//! Files that end the process which reads them: the service goes on.

use std::fs;

use polars::prelude::*;
use polars_io::prelude::{ParquetCompression, ParquetWriter};
use polars_parquet_format::thrift::protocol::{TCompactInputProtocol, TCompactOutputProtocol};
use polars_parquet_format::{ColumnMetaData, FieldRepetitionType, FileMetaData, PageHeader, SchemaElement};

use super::*;
use crate::pipeline::chunk::Stop;

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
    let columns = columns("c.parquet", File::open(&path).unwrap())?;
    let mut file = ParquetRows::open("c.parquet", File::open(path).unwrap(), &columns, 60)?;
    let mut rows = 0;
    while let Some(frame) = file.next_frame()? {
        rows += frame.height();
    }
    Ok(rows)
}

fn check(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path(), bytes).unwrap_err();
    assert_eq!(error.reason(), "malformed_source", "{error}");
    assert!(error.to_string().starts_with("`c.parquet` "), "{error}");
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

/// Each of these ended the process that read it, at the time of writing, by an allocation or by its stack.
#[test]
fn what_ends_the_reading_process_ends_nothing_else() {
    check(&page(&numbers(), 0, |header| header.data_page_header.as_mut().unwrap().num_values = -1));
    check(&page(&words(), 0, |header| header.dictionary_page_header.as_mut().unwrap().num_values = i32::MAX));
    check(&footer(&lists(), |file| chunk(file).num_values = 1 << 40));
    check(&footer(&numbers(), |file| {
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
    }));
    // Instead of the schema's list, one of more elements than any memory holds.
    let mut bytes = numbers();
    let start = bytes.len() - 8 - footer_length(&bytes);
    let list = bytes[start..].iter().position(|byte| byte & 0x0f == 0x0c).unwrap() + start;
    bytes.splice(list..=list, [0xfc, 0xff, 0xff, 0xff, 0xff, 0x07]);
    let length = (footer_length(&bytes) as u32 + 5).to_le_bytes();
    let end = bytes.len() - 8;
    bytes[end..end + 4].copy_from_slice(&length);
    check(&bytes);
}

#[test]
fn what_is_cut_off_while_it_is_read_ends_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.parquet");
    let mut frame = df!("c" => (0..2_000_000_i64).map(|at| at * at % 1_000_003).collect::<Vec<_>>()).unwrap();
    let writer = ParquetWriter::new(File::create(&path).unwrap()).with_compression(ParquetCompression::Uncompressed);
    writer.with_row_group_size(Some(100_000)).finish(&mut frame).unwrap();
    let columns = columns("c.parquet", File::open(&path).unwrap()).unwrap();
    let mut file = ParquetRows::open("c.parquet", File::open(&path).unwrap(), &columns, 60).unwrap();
    assert!(file.next_frame().unwrap().is_some());
    // The pipe holds the process up meanwhile.
    File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    let error = loop {
        match file.next_frame() {
            Ok(frame) => assert!(frame.is_some(), "it was read to its end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "malformed_source", "{error}");
}

/// A request must not come to nothing because the service is stopped, which may stop the reading process first.
#[test]
fn what_is_stopped_from_outside_is_to_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.parquet");
    let mut frame = df!("c" => (0..1_000_000_i64).map(|at| at * at % 1_000_003).collect::<Vec<_>>()).unwrap();
    ParquetWriter::new(File::create(&path).unwrap()).finish(&mut frame).unwrap();
    let columns = columns("c.parquet", File::open(&path).unwrap()).unwrap();
    let mut file = ParquetRows::open("c.parquet", File::open(&path).unwrap(), &columns, 60).unwrap();
    assert!(file.next_frame().unwrap().is_some());
    let pid = file.reading.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let error = loop {
        match file.next_frame() {
            Ok(frame) => assert!(frame.is_some(), "it was read to its end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SourceError::Interrupted(_)), "{error}");
    assert!(matches!(Stop::from(error), Stop::Fault(_)));
}

#[test]
fn a_file_that_takes_too_long_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.parquet");
    fs::write(&path, numbers()).unwrap();
    let columns = columns("c.parquet", File::open(&path).unwrap()).unwrap();
    let mut file = ParquetRows::open("c.parquet", File::open(&path).unwrap(), &columns, 0).unwrap();
    let error = loop {
        match file.next_frame() {
            Ok(Some(_)) => continue,
            // It may have been quicker than its own clock.
            Ok(None) => return,
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "source_timeout", "{error}");
}
