//! The same rows in PostgreSQL, in Parquet and in CSV give the same answers to the same filters.

use std::fs::File;

use futures_util::TryStreamExt;
use polars_io::prelude::ParquetWriter;

use super::support::shared_postgres;
use super::*;

const COLUMNS: &str = "id int, b bool, i2 int2, i8 int8, f4 float4, f8 float8, d numeric(10,2), t text, c char(4), dt date, \
                       tm time, ts timestamp, tz timestamptz, u uuid";

/// Values per column of which each row takes one, nulls among them; the rows differ in their phase per column.
const VALUES: [&[&str]; 13] = [
    &["true", "false", "NULL"],
    &["-32768", "0", "32767", "NULL"],
    &["-9223372036854775808", "-1", "0", "9007199254740993", "9223372036854775807", "NULL"],
    &["'NaN'", "'-inf'", "'inf'", "0.1", "'-0'", "0", "16777217", "NULL"],
    &["'NaN'", "'-inf'", "'inf'", "0.1", "'-0'", "1e300", "5e-324", "NULL"],
    &["-99999999.99", "0", "0.1", "0.10", "1", "12345.67", "NULL"],
    &[
        "''",
        "'a'",
        "'A'",
        "'ä'",
        "'b'",
        "'a b'",
        "'a '",
        "'Z'",
        "'𝄞'",
        "'\u{ffff}'",
        "'NULL'",
        "'\"\\,{}'",
        "'O''Hara'",
        "NULL",
    ],
    &["'ab'", "'abcd'", "''", "NULL"],
    &["'1969-12-31'", "'1970-01-01'", "'0001-01-01'", "'9999-12-31'", "'2024-02-29'", "NULL"],
    &["'00:00:00'", "'12:34:56.789012'", "'23:59:59.999999'", "NULL"],
    &["'1969-12-31 23:59:59.999999'", "'1970-01-01'", "'2024-02-29 12:00:00'", "'0001-01-01'", "NULL"],
    &["'1970-01-01 00:00:00+00'", "'1970-01-01 00:00:00+01'", "'2024-02-29 12:00:00-05'", "NULL"],
    &[
        "'00000000-0000-0000-0000-000000000000'",
        "'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "NULL",
    ],
];

/// What each column is compared with.
const OPERANDS: [(&str, &[&str]); 12] = [
    ("i2", &["0", "-32768", "32767"]),
    ("i8", &["0", "9007199254740992", "9007199254740993", "-9223372036854775808", "9223372036854775807"]),
    ("f4", &["0", "-0.0", "0.1", "16777216", "16777217", "3e38"]),
    ("f8", &["0", "0.1", "1e300", "5e-324"]),
    ("d", &["0", "0.1", "-99999999.99", "12345.67", "1"]),
    (
        "t",
        &[
            "''",
            "'a'",
            "'A'",
            "'ä'",
            "'a '",
            "'\u{ffff}'",
            "'𝄞'",
            "'NULL'",
            "'\"\\,{}'",
            "'O''Hara'",
            "'''; DROP TABLE x'",
        ],
    ),
    ("c", &["'ab'", "'abcd'", "''", "'ab  '"]),
    ("dt", &["'1970-01-01'", "'0001-01-01'", "'9999-12-31'"]),
    ("tm", &["'00:00:00'", "'12:34:56.789012'", "'23:59:59.999999'"]),
    ("ts", &["'1970-01-01 00:00:00'", "'1969-12-31 23:59:59.999999'", "'0001-01-01 00:00:00'"]),
    ("tz", &["'1970-01-01 00:00:00Z'", "'2024-02-29 18:00:00+01:00'"]),
    ("u", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"]),
];

fn filters() -> Vec<String> {
    let mut filters: Vec<String> =
        ["b = true", "b != true", "not b = false", "b in (false)", "b is null"].map(String::from).into();
    for (column, operands) in OPERANDS {
        for operand in operands {
            for op in ["=", "!=", "<", "<=", ">", ">="] {
                filters.push(format!("{column} {op} {operand}"));
            }
            filters.push(format!("not ({column} < {operand} or {column} = {operand})"));
        }
        filters.push(format!("{column} in ({})", operands.join(", ")));
        filters.push(format!("{column} not in ({})", operands.join(", ")));
        filters.push(format!("{column} is null"));
        filters.push(format!("{column} is not null and not (b = true)"));
    }
    filters.push("t = 'a' and i2 = 0 or not (f8 > 0.1 and d <= 1) or u is null".to_owned());
    filters
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_mean_the_same_in_every_store() {
    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    // A collation under which `a < A < ä < b`, which the filters must not follow.
    client.batch_execute(&format!("CREATE TABLE agree ({COLUMNS})")).await.unwrap();
    client.batch_execute("ALTER TABLE agree ALTER t TYPE text COLLATE \"en-x-icu\"").await.unwrap();
    let rows: Vec<String> = (0..200)
        .map(|row| {
            let cells =
                VALUES.iter().enumerate().map(|(at, values)| values[(row + at + row / values.len()) % values.len()]);
            format!("({row}, {})", cells.collect::<Vec<_>>().join(", "))
        })
        .collect();
    client.batch_execute(&format!("INSERT INTO agree VALUES {}", rows.join(", "))).await.unwrap();

    let database = Source::open(ConnectionSpec::Postgres { url: SecretString::from(server.url()) }).unwrap();
    let schema = open_schema(&database, "public.agree").await;
    let names: Vec<&str> = schema.columns.iter().map(|(name, _)| name.as_str()).collect();

    // The Parquet file holds what the database gave; the CSV file what the database itself writes.
    let folder = tempfile::tempdir().unwrap();
    let mut frame = fetch(&database, "public.agree", &plan(&schema, &names)).await.unwrap();
    assert_eq!(frame.height(), rows.len());
    ParquetWriter::new(File::create(folder.path().join("agree.parquet")).unwrap())
        .with_row_group_size(Some(50))
        .finish(&mut frame)
        .unwrap();
    let select = names.iter().map(|name| if *name == "c" { "c::text" } else { name }).collect::<Vec<_>>().join(", ");
    let csv =
        client.copy_out(&format!("COPY (SELECT {select} FROM agree) TO STDOUT (FORMAT csv, HEADER)")).await.unwrap();
    let csv: Vec<bytes::Bytes> = csv.try_collect().await.unwrap();
    std::fs::create_dir(folder.path().join("csv")).unwrap();
    std::fs::write(folder.path().join("csv/agree.csv"), csv.concat()).unwrap();

    let stated: HashMap<String, ColumnType> = schema.columns.iter().cloned().collect();
    let parquet = Source::open(ConnectionSpec::Folder { path: folder.path().to_owned() }).unwrap();
    let parquet_schema = parquet.schema("agree", &stated).await.unwrap();
    let csv = Source::open(ConnectionSpec::Folder { path: folder.path().join("csv") }).unwrap();
    let csv_schema = csv.schema("agree", &stated).await.unwrap();
    assert_eq!(csv_schema, schema);
    let whole = fetch(&csv, "agree", &plan(&schema, &names)).await.unwrap();
    assert!(whole.equals_missing(&frame), "the CSV file differs from what the database gives");

    let mut kept = 0;
    for filter in filters() {
        let mut answers = Vec::new();
        for (source, table, schema) in
            [(&database, "public.agree", &schema), (&parquet, "agree", &parquet_schema), (&csv, "agree", &csv_schema)]
        {
            let mut plan = plan(schema, &["id"]);
            plan.predicate = Some(predicate(&filter, schema));
            plan.order_by = Some("id".to_owned());
            answers.push(numbers(&fetch(source, table, &plan).await.unwrap(), "id"));
        }
        kept += answers[0].len();
        assert_eq!(answers[0], answers[1], "PostgreSQL and Parquet disagree: {filter}");
        assert_eq!(answers[0], answers[2], "PostgreSQL and CSV disagree: {filter}");
    }
    assert!(kept > 1_000, "the filters kept hardly any row");

    // The order too: whatever the key, its cells come in the same sequence.
    for name in names {
        let mut answers = Vec::new();
        for (source, table, schema) in
            [(&database, "public.agree", &schema), (&parquet, "agree", &parquet_schema), (&csv, "agree", &csv_schema)]
        {
            let mut plan = plan(schema, &[name]);
            (plan.order_by, plan.limit) = (Some(name.to_owned()), Some(150));
            answers.push(fetch(source, table, &plan).await.unwrap());
        }
        assert!(answers[0].equals_missing(&answers[1]), "{name}: PostgreSQL and Parquet disagree about the order");
        assert!(answers[0].equals_missing(&answers[2]), "{name}: PostgreSQL and CSV disagree about the order");
    }
}
