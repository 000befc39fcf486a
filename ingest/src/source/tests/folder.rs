use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use polars::prelude::*;
use polars_io::prelude::ParquetWriter;
use proptest::prelude::*;

use super::*;

fn open(path: &Path) -> Source {
    Source::open(ConnectionSpec::Folder { path: path.to_owned() }).unwrap()
}

fn write(path: &Path, mut frame: DataFrame, group_rows: usize) {
    ParquetWriter::new(File::create(path).unwrap()).with_row_group_size(Some(group_rows)).finish(&mut frame).unwrap();
}

fn people(rows: i32) -> DataFrame {
    let names: Vec<String> = (0..rows).map(|at| format!("a person with the number {at}")).collect();
    let ages: Vec<Option<i32>> = (0..rows).map(|at| (at % 7 != 3).then_some(at % 90)).collect();
    df!("id" => (0..rows).collect::<Vec<_>>(), "name" => names, "age" => ages).unwrap()
}

#[tokio::test]
async fn the_folder_and_its_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let missing = Source::open(ConnectionSpec::Folder { path: path.join("missing") }).unwrap_err();
    assert_eq!(missing.reason(), "source_unavailable");

    let outside = tempfile::tempdir().unwrap();
    write(&outside.path().join("secret.parquet"), people(3), 10);
    symlink(outside.path().join("secret.parquet"), path.join("linked.parquet")).unwrap();
    symlink(outside.path(), path.join("linkedfolder")).unwrap();
    fs::create_dir(path.join("parts")).unwrap();
    symlink(outside.path().join("secret.parquet"), path.join("parts/0.parquet")).unwrap();
    fs::create_dir(path.join("hollow")).unwrap();
    fs::create_dir(path.join("fake.parquet")).unwrap();
    fs::create_dir_all(path.join("spark/year=2020")).unwrap();
    write(&path.join("spark/a.parquet"), people(3), 10);
    write(&path.join("twice.parquet"), people(3), 10);
    fs::write(path.join("twice.csv"), "a\n").unwrap();
    write(&path.join("people.parquet"), people(3), 10);
    symlink(path.join("people.parquet"), path.join("alias.parquet")).unwrap();
    let source = open(path);
    let cases = [
        ("people", ""),
        ("alias", ""),
        ("linked", "unknown_table"),
        ("linkedfolder", "unknown_table"),
        ("parts", "unknown_table"),
        ("hollow", "unknown_table"),
        ("fake", "unknown_table"),
        ("nothing", "unknown_table"),
        ("", "unknown_table"),
        ("..", "unknown_table"),
        ("../people", "unknown_table"),
        ("people.parquet", "unknown_table"),
        ("/etc/passwd", "unknown_table"),
        ("people\0", "unknown_table"),
        ("pe*ple", "unknown_table"),
        ("spark", "malformed_source"),
        ("twice", "malformed_source"),
    ];
    for (table, reason) in cases {
        let found = source.schema(table, &HashMap::new()).await;
        assert_eq!(found.as_ref().err().map_or("", SourceError::reason), reason, "{table}: {found:?}");
    }
}

#[tokio::test]
async fn a_folder_of_files_is_one_table_in_order_of_name() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("people");
    fs::create_dir(&parts).unwrap();
    let all = people(250);
    write(&parts.join("b.parquet"), all.slice(100, 150), 40);
    write(&parts.join("a.parquet"), all.slice(0, 100), 40);
    // The same columns in another order, which is fine, and a file that is no part of the table.
    write(&parts.join("c.parquet"), people(1).select(["age", "name", "id"]).unwrap(), 40);
    fs::write(parts.join("_SUCCESS"), "").unwrap();
    let source = open(folder.path());
    let schema = open_schema(&source, "people").await;
    let mut plan = plan(&schema, &["name", "id"]);
    let frame = fetch(&source, "people", &plan).await.unwrap();
    let ids: Vec<_> = (0..250).chain([0]).map(Some).collect();
    assert_eq!(numbers(&frame, "id"), ids);
    assert_eq!(frame.column("name").unwrap().str().unwrap().get(120), Some("a person with the number 120"));
    let prepared = source.prepare("00", "people", &plan).await.unwrap();
    assert_eq!(
        prepared.statement(),
        r#"{"files":["a.parquet","b.parquet","c.parquet"],"columns":["name","id"],"filter":null,"order_by":null,"limit":1000001}"#
    );

    // Changed between pinning and reading.
    let snapshot = prepared.snapshot().to_owned();
    assert_eq!(snapshot.len(), 64);
    write(&parts.join("b.parquet"), all.slice(100, 10), 40);
    let error = prepared.frame().await.unwrap_err();
    assert_eq!(error.to_string(), "`b.parquet` changed while it was being read");
    assert_ne!(source.prepare("00", "people", &plan).await.unwrap().snapshot(), snapshot);

    // A part that has other columns.
    write(&parts.join("d.parquet"), df!("id" => [1_i64], "name" => ["x"], "age" => [1_i32]).unwrap(), 40);
    let error = source.schema("people", &HashMap::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "`d.parquet` has no column `id` of the type int32, which the table's first file has");
    plan.limit = Some(1);
    assert_eq!(fetch(&source, "people", &plan).await.unwrap_err().reason(), "malformed_source");
}

#[tokio::test]
async fn filter_order_limits() {
    let folder = tempfile::tempdir().unwrap();
    let rows = 200_000;
    write(&folder.path().join("people.parquet"), people(rows), 150_000);
    let mut csv = "id,name,age\n".to_owned();
    for at in 0..rows {
        let age = if at % 7 == 3 { String::new() } else { (at % 90).to_string() };
        csv.push_str(&format!("{at},a person with the number {at},{age}\n"));
    }
    fs::create_dir(folder.path().join("csv")).unwrap();
    fs::write(folder.path().join("csv/people.csv"), csv).unwrap();
    let stated = HashMap::from([("id".to_owned(), ColumnType::Int32), ("age".to_owned(), ColumnType::Int32)]);
    for path in [folder.path().to_owned(), folder.path().join("csv")] {
        let source = open(&path);
        let schema = source.schema("people", &stated).await.unwrap();
        // filter, order, limit, max_rows, max_bytes; first ids, or rows, or reason
        type Case<'a> = (&'a str, Option<&'a str>, Option<u64>, u64, u64, Result<(&'a [i64], usize), &'a str>);
        let cases: [Case<'_>; 12] = [
            ("id >= 199998", None, None, 10, 1 << 30, Ok((&[199_998, 199_999], 2))),
            ("name = 'a person with the number 160000'", None, None, 10, 4_096, Ok((&[160_000], 1))),
            ("age is null and id < 20", Some("id"), None, 10, 4_096, Ok((&[3, 10, 17], 3))),
            ("id >= 0", Some("age"), Some(2), 10, 1 << 30, Ok((&[0, 90], 2))),
            ("id >= 0", Some("name"), Some(3), 10, 1 << 30, Ok((&[0, 1, 10], 3))),
            ("id >= 0", None, Some(5), 10, 1 << 30, Ok((&[0, 1, 2, 3, 4], 5))),
            ("id >= 0", None, None, 200_000, 1 << 30, Ok((&[0], 200_000))),
            ("id >= 0", None, None, 199_999, 1 << 30, Err("too_many_rows")),
            ("id >= 0", Some("age"), Some(11), 10, 1 << 30, Err("too_many_rows")),
            ("id >= 0", Some("age"), None, 10, 1 << 30, Err("too_many_rows")),
            ("id >= 0", None, None, 200_000, 100_000, Err("too_many_bytes")),
            ("id < 0", Some("age"), None, 10, 0, Ok((&[], 0))),
        ];
        for (filter, order, limit, max_rows, max_bytes, expected) in cases {
            let mut plan = plan(&schema, &["id", "name"]);
            plan.predicate = Some(predicate(filter, &schema));
            plan.order_by = order.map(str::to_owned);
            (plan.limit, plan.max_rows, plan.max_bytes) = (limit, max_rows, max_bytes.max(200));
            let found = fetch(&source, "people", &plan).await;
            match (found, expected) {
                (Ok(frame), Ok((ids, height))) => {
                    let first: Vec<i64> = numbers(&frame, "id").into_iter().take(ids.len()).flatten().collect();
                    assert_eq!((first.as_slice(), frame.height()), (ids, height), "{filter} {order:?}");
                    assert_eq!(frame.width(), 2);
                }
                (Err(error), Err(reason)) => assert_eq!(error.reason(), reason, "{filter}: {error}"),
                (found, _) => panic!("{filter} {order:?}: {found:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_scan_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("people.parquet"), people(1_000), 10);
    let source = open(folder.path());
    let schema = open_schema(&source, "people").await;
    let prepared = source.prepare("00", "people", &plan(&schema, &["id"])).await.unwrap();
    let Inner::Folder(scan) = prepared.0 else { panic!("a folder") };
    // In a thread of its own: polars refuses to work on a runtime's.
    let scanned = std::thread::spawn(move || {
        let left = std::cell::Cell::new(3_u32);
        scan.scan(&|| {
            left.set(left.get() - 1);
            if left.get() == 0 { Err(SourceError::Timeout { seconds: 1 }) } else { Ok(()) }
        })
    });
    let result = scanned.join().unwrap();
    assert_eq!(result.unwrap_err().reason(), "source_timeout");
}

#[tokio::test]
async fn types_of_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let ns = Series::new("ns".into(), [1_500_i64, -1]).cast(&DataType::Datetime(TimeUnit::Nanoseconds, None)).unwrap();
    let ms = Int64Chunked::new("ms".into(), [1_i64, 2])
        .into_datetime(TimeUnit::Milliseconds, Some(TimeZone::UTC))
        .into_series();
    let categories = Categories::global();
    let category = Series::new("category".into(), ["x", "y"]).cast(&DataType::from_categories(categories)).unwrap();
    let span = Series::new("span".into(), [1_i64, 2]).cast(&DataType::Duration(TimeUnit::Microseconds)).unwrap();
    let list = Series::new("list".into(), [Series::new("".into(), ["a", "b"]), Series::new("".into(), ["c"])]);
    let fields = df!("x" => ["deep", "er"], "y" => [1_i32, 2]).unwrap().into_struct("nested".into()).into_series();
    let small = Series::new("small".into(), [1_i64, 2]).cast(&DataType::UInt8).unwrap();
    let price = Int128Chunked::from_vec("price".into(), vec![1, -2]).into_decimal(5, 2).unwrap().into_series();
    let columns = [ns, ms, category, span, list, fields, small, price].map(IntoColumn::into_column).to_vec();
    write(&folder.path().join("types.parquet"), DataFrame::new(2, columns).unwrap(), 10);

    let source = open(folder.path());
    let schema = open_schema(&source, "types").await;
    let span = ColumnType::Unsupported("duration[μs]".to_owned());
    let fields = vec![("x".to_owned(), ColumnType::Text), ("y".to_owned(), ColumnType::Int32)];
    let expected = [
        ("ns", ColumnType::Timestamp),
        ("ms", ColumnType::TimestampTz),
        ("category", ColumnType::Text),
        ("span", span.clone()),
        ("list", ColumnType::List(Box::new(ColumnType::Text))),
        ("nested", ColumnType::Struct(fields)),
        ("small", ColumnType::UInt8),
        ("price", ColumnType::Decimal { precision: 5, scale: 2 }),
    ];
    assert_eq!(schema.columns, expected.map(|(name, ty)| (name.to_owned(), ty)));
    let mut plan = plan(&schema, &["ns", "ms", "category", "list", "nested", "small", "price"]);
    let frame = fetch(&source, "types", &plan).await.unwrap();
    for ((name, ty), column) in plan.columns.iter().zip(frame.columns()) {
        assert_eq!(name, column.name());
        assert!(ty.is_represented_by(column.dtype()), "{name}: {}", column.dtype());
    }
    let cell = |column: &str, row| frame.column(column).unwrap().get(row).unwrap();
    assert_eq!(cell("ns", 0), AnyValue::Datetime(1, TimeUnit::Microseconds, None));
    assert_eq!(cell("ms", 1), AnyValue::Datetime(2_000, TimeUnit::Microseconds, Some(&TimeZone::UTC)));
    assert_eq!(cell("category", 1), AnyValue::String("y"));
    assert_eq!(cell("price", 1), AnyValue::Decimal(-2, 5, 2));
    // An empty result keeps its types.
    plan.predicate = Some(predicate("small > 9", &schema));
    let none = fetch(&source, "types", &plan).await.unwrap();
    assert_eq!((none.height(), none.dtypes()), (0, frame.dtypes()));
    plan.columns = vec![("span".to_owned(), span)];
    let error = fetch(&source, "types", &plan).await.unwrap_err();
    assert_eq!(error.to_string(), "column `span` has the type `duration[μs]`, which is not supported");
    plan.columns = vec![("small".to_owned(), ColumnType::Int64)];
    assert_eq!(
        fetch(&source, "types", &plan).await.unwrap_err().to_string(),
        "column `small`: found uint8, required int64"
    );
}

#[tokio::test]
async fn every_zone_is_read_as_points_in_time() {
    // Written by pyarrow: the instants 0 and 1 as `ts` in µs of the zone `+00:00`, as `t2` in ns of `Europe/Berlin`.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("zones.parquet"), include_bytes!("zones.parquet")).unwrap();
    let source = open(folder.path());
    let schema = open_schema(&source, "zones").await;
    let mut plan = plan(&schema, &["ts", "t2"]);
    plan.predicate = Some(predicate("ts > '1970-01-01 02:00:00+02:00' and t2 < '1970-01-01 00:00:01Z'", &schema));
    let frame = fetch(&source, "zones", &plan).await.unwrap();
    let utc = TimeZone::UTC;
    let cell = |us| AnyValue::Datetime(us, TimeUnit::Microseconds, Some(&utc));
    assert_eq!(frame.height(), 1);
    assert!(frame.column("ts").unwrap().get(0).unwrap() == cell(1));
    assert!(frame.column("t2").unwrap().get(0).unwrap() == cell(0));
}

#[tokio::test]
async fn a_file_that_lies_about_being_sorted_keeps_no_row_that_the_filter_excludes() {
    // Written by pyarrow: ids 9 1 8 2 7 3 6 4 5 under the claim that they ascend.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lying.parquet"), include_bytes!("lying.parquet")).unwrap();
    let source = open(folder.path());
    let schema = open_schema(&source, "lying").await;
    let mut plan = plan(&schema, &["id"]);
    plan.order_by = Some("id".to_owned());
    for (filter, ids) in [("id < 5", 1..5), ("id >= 7", 7..10), ("id = 1", 1..2)] {
        plan.predicate = Some(predicate(filter, &schema));
        let found = numbers(&fetch(&source, "lying", &plan).await.unwrap(), "id");
        assert_eq!(found, ids.map(Some).collect::<Vec<_>>(), "{filter}");
    }
}

#[tokio::test]
async fn csv_types_are_stated_or_text() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), "id,when,n\n1,2024-01-01,1.5\n007,x,2\n").unwrap();
    let source = open(folder.path());
    let schema = open_schema(&source, "t").await;
    assert!(schema.columns.iter().all(|(_, ty)| *ty == ColumnType::Text), "{schema:?}");
    let frame = fetch(&source, "t", &plan(&schema, &["id"])).await.unwrap();
    assert_eq!(frame.column("id").unwrap().str().unwrap().get(1), Some("007"));

    let stated = HashMap::from([("when".to_owned(), ColumnType::Date), ("n".to_owned(), ColumnType::Numeric)]);
    let schema = source.schema("t", &stated).await.unwrap();
    let error = fetch(&source, "t", &plan(&schema, &["id", "when"])).await.unwrap_err();
    assert_eq!(error.to_string(), "`t.csv` line 3: column `when` holds something that is not a date `YYYY-MM-DD`");
    // Only filtered by, and still read as what it was stated to be.
    let mut filtered = plan(&schema, &["id"]);
    filtered.predicate = Some(predicate("when = '2024-01-01'", &schema));
    assert_eq!(fetch(&source, "t", &filtered).await.unwrap_err().reason(), "malformed_source");
    filtered.predicate = Some(predicate("n > 1", &schema));
    let error = fetch(&source, "t", &filtered).await.unwrap_err();
    assert_eq!(error.to_string(), "column `n` has the type `numeric, in a filter or order`, which is not supported");
    fs::write(folder.path().join("t.csv"), "id,n\n1,1.5\n").unwrap();
    filtered.predicate = Some(predicate("when = '2024-01-01'", &schema));
    assert_eq!(fetch(&source, "t", &filtered).await.unwrap_err().reason(), "schema_changed");
    fs::write(folder.path().join("t.csv"), "").unwrap();
    assert_eq!(fetch(&source, "t", &plan(&schema, &["id"])).await.unwrap_err().reason(), "malformed_source");
}

/// Reads a whole file of these bytes; the reason if it is refused.
async fn reads(folder: &Path, bytes: &[u8], columns: &[&str], schema: &TableSchema) -> Result<DataFrame, SourceError> {
    fs::write(folder.join("broken.parquet"), bytes).unwrap();
    let source = open(folder);
    source.schema("broken", &HashMap::new()).await?;
    let frame = fetch(&source, "broken", &plan(schema, columns)).await?;
    assert!(frame.columns().iter().all(|column| column.len() == frame.height()));
    Ok(frame)
}

fn broken_sample() -> (Vec<u8>, TableSchema) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.parquet");
    write(&path, people(300), 100);
    let columns = [("id", ColumnType::Int32), ("name", ColumnType::Text), ("age", ColumnType::Int32)]
        .map(|(n, t)| (n.to_owned(), t));
    (fs::read(path).unwrap(), TableSchema { columns: columns.into() })
}

#[tokio::test]
async fn a_parquet_file_cut_anywhere_is_malformed() {
    let (bytes, schema) = broken_sample();
    let folder = tempfile::tempdir().unwrap();
    let all = ["id", "name", "age"];
    let whole = reads(folder.path(), &bytes, &all, &schema).await.unwrap();
    assert!(whole.equals_missing(&people(300)));
    for length in (0..bytes.len()).step_by(97).chain([bytes.len() / 2, bytes.len() - 1]) {
        let error = reads(folder.path(), &bytes[..length], &all, &schema).await.unwrap_err();
        assert_eq!(error.reason(), "malformed_source", "{length}: {error}");
        // Its middle gone, its footer whole.
        let footer = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap()) as usize + 8;
        let cut = [&bytes[..length.min(bytes.len() - footer)], &bytes[bytes.len() - footer..]].concat();
        // What lies between the last page and the footer may be missed by nobody.
        match reads(folder.path(), &cut, &all, &schema).await {
            Ok(frame) => assert!(frame.equals_missing(&whole), "middle {length}"),
            Err(error) => assert_eq!(error.reason(), "malformed_source", "middle {length}: {error}"),
        }
    }
}

/// Every kind of column that is written in a way of its own: lists, structs, dictionaries, bits, fixed lengths.
fn every_kind(rows: i32) -> DataFrame {
    let mut frame = people(rows);
    let numbers = frame.column("age").unwrap().as_materialized_series().clone();
    let lists = |of: &Series| {
        let lists = (0..of.len() as i64).map(|at| of.slice(at, (at % 4) as usize));
        lists.map(|list| (list.len() != 1).then_some(list)).collect::<ListChunked>()
    };
    let names = frame.column("name").unwrap().as_materialized_series().clone();
    let parts = [numbers.clone().with_name("n".into()), names.clone().with_name("s".into())];
    let kinds = (0..rows).map(|at| Some(format!("kind {}", at % 3))).collect::<StringChunked>();
    let columns = [
        lists(&numbers).with_name("numbers".into()).into_column(),
        lists(&names).with_name("names".into()).into_column(),
        StructChunked::from_series("both".into(), numbers.len(), parts.iter()).unwrap().into_column(),
        kinds.with_name("kind".into()).into_column(),
        numbers.gt(40).unwrap().with_name("old".into()).into_column(),
        numbers.cast(&DataType::Decimal(20, 2)).unwrap().with_name("exact".into()).into_column(),
        numbers.cast(&DataType::Float64).unwrap().with_name("float".into()).into_column(),
        numbers.cast(&DataType::Date).unwrap().with_name("day".into()).into_column(),
    ];
    frame.hstack_mut(&columns).unwrap();
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn a_damaged_parquet_file_never_ends_the_process(
        at: prop::sample::Index, from_end: bool, damage in prop::collection::vec(any::<u8>(), 1..6), is_packed: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.parquet");
        let compression = if is_packed { ParquetCompression::Zstd(None) } else { ParquetCompression::Uncompressed };
        let writer = ParquetWriter::new(File::create(&path).unwrap()).with_compression(compression);
        writer.with_row_group_size(Some(100)).finish(&mut every_kind(200)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let schema = runtime.block_on(open_schema(&open(folder.path()), "broken"));
        let columns = schema.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();

        // Most bytes are of pages, most headers of the footer.
        let at = if from_end { bytes.len() - 1 - at.index(bytes.len() / 4) } else { at.index(bytes.len()) };
        for (slot, byte) in bytes[at..].iter_mut().zip(damage) {
            *slot = byte;
        }
        // Parquet has no checksums here, so damage inside a page may read as other cells; what counts is that nothing breaks.
        if let Err(error) = runtime.block_on(reads(folder.path(), &bytes, &columns, &schema)) {
            prop_assert!(!error.to_string().contains("a person"), "{error}");
        }
    }
}
