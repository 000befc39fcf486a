use polars::prelude::AnyValue;
use proptest::prelude::*;

use super::*;

fn read(text: &[u8], columns: &[(&str, ColumnType)]) -> Result<Vec<DataFrame>, SourceError> {
    let columns: Vec<_> = columns.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect();
    let mut reader = CsvReader::open("t.csv", text, 1 << 16)?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame(&columns)? {
        frames.push(frame);
    }
    Ok(frames)
}

/// What column `a` of a file becomes, cell by cell (`None` is null), or the whole error.
fn check(text: &str, expected: Result<&[Option<&str>], &str>) {
    let result = read(text.as_bytes(), &[("a", ColumnType::Text)]);
    match (result, expected) {
        (Ok(frames), Ok(cells)) => {
            let found: Vec<Option<String>> = frames
                .iter()
                .flat_map(|frame| frame.column("a").unwrap().str().unwrap().iter().map(|cell| cell.map(str::to_owned)))
                .collect();
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), cells, "{text:?}");
        }
        (Err(error), Err(words)) => {
            assert_eq!((error.reason(), error.to_string().as_str()), ("malformed_source", words), "{text:?}");
        }
        (result, _) => panic!("{text:?}: {result:?}"),
    }
}

#[test]
fn records_are_cut_as_rfc_4180_says() {
    check("a,b\n1,2\n", Ok(&[Some("1")]));
    check("a,b\r\n1,2\r\n", Ok(&[Some("1")]));
    check("a,b\n1,2", Ok(&[Some("1")]));
    check("\u{feff}a,b\n1,2", Ok(&[Some("1")]));
    check("a,b", Ok(&[]));
    check("a\n\n\"\"\nx\n", Ok(&[None, Some(""), Some("x")]));
    check("a,b\n\"x,y\",2\n", Ok(&[Some("x,y")]));
    check("a,b\n\"x\ny\r\nz\",2\n", Ok(&[Some("x\ny\r\nz")]));
    check("a,b\n\"say \"\"hi\"\"\",\"\"\n", Ok(&[Some("say \"hi\"")]));
    check("b,\"a\"\n,\"\"\"\"\n", Ok(&[Some("\"")]));

    check("", Err("`t.csv` has no header"));
    check("a,a\n", Err("`t.csv`: name 2 of the header stands there twice"));
    check("a,\n", Err("`t.csv`: name 2 of the header is empty"));
    check("a,b\n1,2\n1\n", Err("`t.csv` line 3: found 1 fields, required 2"));
    check("a,b\n1,2,3\n", Err("`t.csv` line 2: found 3 fields, required 2"));
    check("a,b\n1,2\n\n", Err("`t.csv` line 3: found 1 fields, required 2"));
    check("a,b\n\"x\ny\",2\n1\n", Err("`t.csv` line 4: found 1 fields, required 2"));
    check("a,b\n1,\"x\n\n", Err("`t.csv` line 2: a quote that is never closed"));
    check("a,b\n1,\"x\"y\"\"\n", Err("`t.csv` line 2: text between a closing quote and the next comma"));
    check("a,b\n1\"\",2\n", Err("`t.csv` line 2: a quote or carriage return inside a field that is not quoted"));
    check("a,b\n1\r2,2\n", Err("`t.csv` line 2: a quote or carriage return inside a field that is not quoted"));
}

#[test]
fn bad_utf8_and_long_records() {
    let error = read(b"a,b\n1,2\n3,\xff\n", &[]).unwrap_err();
    assert_eq!(error.to_string(), "`t.csv` line 3: text that is not UTF-8, near field 2");
    let long = format!("a\n{}\n", "x".repeat(1 << 17));
    assert_eq!(read(long.as_bytes(), &[]).unwrap_err().reason(), "too_many_bytes");
}

/// One cell of one type, or why it is refused; the refusal never repeats the cell.
fn check_cell(ty: ColumnType, cell: &str, expected: Result<AnyValue<'_>, &str>) {
    match (read(format!("n,a\n1,{cell}\n").as_bytes(), &[("a", ty.clone())]), expected) {
        (Ok(frames), Ok(value)) => {
            let column = frames[0].column("a").unwrap();
            assert_eq!(*column.dtype(), ty.dtype());
            assert_eq!(column.get(0).unwrap(), value, "{ty} {cell}");
        }
        (Err(error), Err(words)) => {
            let shown = error.to_string();
            assert!(shown.starts_with("`t.csv` line 2: column `a` holds "), "{shown}");
            assert!(shown.contains(words) && !shown.contains(cell), "{ty} {cell}: {shown}");
        }
        (result, _) => panic!("{ty} {cell}: {result:?}"),
    }
}

#[test]
fn cells_have_the_stated_type_or_are_refused() {
    let decimal = || ColumnType::Decimal { precision: 5, scale: 2 };
    check_cell(ColumnType::Bool, "true", Ok(AnyValue::Boolean(true)));
    check_cell(ColumnType::Bool, "f", Ok(AnyValue::Boolean(false)));
    check_cell(ColumnType::Bool, "9", Err("neither"));
    check_cell(ColumnType::Int8, "-128", Ok(AnyValue::Int8(-128)));
    check_cell(ColumnType::Int16, "-32768", Ok(AnyValue::Int16(i16::MIN)));
    check_cell(ColumnType::Int16, "32768", Err("whole number"));
    check_cell(ColumnType::Int32, "12x", Err("whole number"));
    check_cell(ColumnType::Int64, "9223372036854775807", Ok(AnyValue::Int64(i64::MAX)));
    check_cell(ColumnType::UInt8, "255", Ok(AnyValue::UInt8(255)));
    check_cell(ColumnType::UInt16, "65535", Ok(AnyValue::UInt16(u16::MAX)));
    check_cell(ColumnType::UInt32, "-5", Err("whole number"));
    check_cell(ColumnType::UInt64, "18446744073709551615", Ok(AnyValue::UInt64(u64::MAX)));
    check_cell(ColumnType::Float32, "0.5", Ok(AnyValue::Float32(0.5)));
    check_cell(ColumnType::Float64, "-1e300", Ok(AnyValue::Float64(-1e300)));
    check_cell(ColumnType::Float64, "1;5", Err("not a number"));
    check_cell(decimal(), "-999.99", Ok(AnyValue::Decimal(-99_999, 5, 2)));
    check_cell(decimal(), "7", Ok(AnyValue::Decimal(700, 5, 2)));
    check_cell(decimal(), "1.234", Err("more decimal places"));
    check_cell(decimal(), "1000", Err("more digits"));
    check_cell(decimal(), "-", Err("not a decimal"));
    check_cell(decimal(), "1e2", Err("not a decimal"));
    check_cell(ColumnType::Numeric, "-12345678901234567890.5", Ok(AnyValue::String("-12345678901234567890.5")));
    check_cell(ColumnType::Numeric, "12.", Err("not a number"));
    check_cell(ColumnType::Text, "ü", Ok(AnyValue::String("ü")));
    check_cell(ColumnType::Binary, "\\xDEad", Ok(AnyValue::Binary(&[0xde, 0xad])));
    check_cell(ColumnType::Binary, "\\xabc", Err("hex"));
    check_cell(ColumnType::Date, "2000-02-29", Ok(AnyValue::Date(11_016)));
    check_cell(ColumnType::Date, "2001-02-29", Err("not a date"));
    check_cell(ColumnType::Time, "00:00:01.5", Ok(AnyValue::Time(1_500_000_000)));
    check_cell(ColumnType::Time, "24:00:00", Err("not a time"));
    let micros = polars::prelude::TimeUnit::Microseconds;
    check_cell(ColumnType::Timestamp, "1970-01-01T00:00:01", Ok(AnyValue::Datetime(1_000_000, micros, None)));
    check_cell(ColumnType::Timestamp, "1970-01-01T00:00:01Z", Err("not a timestamp"));
    let utc = polars::prelude::TimeZone::UTC;
    check_cell(ColumnType::TimestampTz, "1970-01-01 01:00:00+01", Ok(AnyValue::Datetime(0, micros, Some(&utc))));
    check_cell(ColumnType::TimestampTz, "1970-01-01 01:00:00", Err("not a timestamp with offset"));
    let uuid = "0123abcd-0000-1111-2222-ffffffffffff";
    check_cell(ColumnType::Uuid, &uuid.to_uppercase(), Ok(AnyValue::String(uuid)));
    check_cell(ColumnType::Uuid, "0123abcd-0000-1111-2222-fffffffffffg", Err("not a UUID"));
    check_cell(ColumnType::Json, "[1]", Ok(AnyValue::String("[1]")));
    check_cell(ColumnType::Json, "[", Err("not JSON"));
    check_cell(ColumnType::TextArray, "{}", Ok(AnyValue::String("{}")));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200)) {
        let _ = read(&bytes, &[("a", ColumnType::Text), ("b", ColumnType::Date)]);
        let _ = read(&[b"a,b\n".as_slice(), &bytes].concat(), &[("a", ColumnType::Text), ("b", ColumnType::Json)]);
    }

    #[test]
    fn what_is_written_is_read(rows in prop::collection::vec(("(?s).{0,12}", "(?s).{0,12}"), 0..20)) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let mut text = "a,b\n".to_owned();
        for (a, b) in &rows {
            text.push_str(&format!("{},{}\r\n", quoted(a), quoted(b)));
        }
        let frames = read(text.as_bytes(), &[("b", ColumnType::Text)]).unwrap();
        let found: Vec<String> = frames.iter()
            .flat_map(|frame| frame.column("b").unwrap().str().unwrap().iter().map(|cell| cell.unwrap().to_owned()))
            .collect();
        prop_assert_eq!(found, rows.into_iter().map(|(_, b)| b).collect::<Vec<_>>());
    }
}
