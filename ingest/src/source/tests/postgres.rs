use std::time::{Duration, Instant};

use polars::prelude::*;

use super::support::{Postgres, shared_postgres};
use super::*;

fn open(url: &str) -> Result<Source, SourceError> {
    Source::open(ConnectionSpec::Postgres { url: SecretString::from(url.to_owned()) })
}

fn source(server: &Postgres) -> Source {
    open(&server.url()).unwrap()
}

fn datetime(us: i64) -> AnyValue<'static> {
    AnyValue::Datetime(us, TimeUnit::Microseconds, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_with_its_edges_and_nulls() {
    static UTC: TimeZone = TimeZone::UTC;
    let zoned = |us| AnyValue::Datetime(us, TimeUnit::Microseconds, Some(&UTC));
    let text = |text: &'static str| AnyValue::String(text);
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let long = "x".repeat(70_000);
    let nines = [9; 38].iter().fold(0_i128, |value, digit| value * 10 + digit);
    let cases: Vec<(&str, String, ColumnType, AnyValue<'_>)> = [
        ("bool", "true", ColumnType::Bool, AnyValue::Boolean(true)),
        ("bool", "false", ColumnType::Bool, AnyValue::Boolean(false)),
        ("int2", "'-32768'", ColumnType::Int16, AnyValue::Int16(i16::MIN)),
        ("int4", "2147483647", ColumnType::Int32, AnyValue::Int32(i32::MAX)),
        ("int8", "'-9223372036854775808'", ColumnType::Int64, AnyValue::Int64(i64::MIN)),
        ("float4", "'1.17549435e-38'", ColumnType::Float32, AnyValue::Float32(f32::MIN_POSITIVE)),
        ("float4", "'-inf'", ColumnType::Float32, AnyValue::Float32(f32::NEG_INFINITY)),
        ("float8", "'5e-324'", ColumnType::Float64, AnyValue::Float64(5e-324)),
        ("float8", "'-0'", ColumnType::Float64, AnyValue::Float64(-0.0)),
        ("numeric(10,2)", "'-12345678.91'", decimal(10, 2), AnyValue::Decimal(-1_234_567_891, 10, 2)),
        ("numeric(10,2)", "0", decimal(10, 2), AnyValue::Decimal(0, 10, 2)),
        ("numeric(4,4)", "'0.0001'", decimal(4, 4), AnyValue::Decimal(1, 4, 4)),
        ("numeric(12,3)", "'100000000'", decimal(12, 3), AnyValue::Decimal(100_000_000_000, 12, 3)),
        ("numeric(38,0)", "'99999999999999999999999999999999999999'", decimal(38, 0), AnyValue::Decimal(nines, 38, 0)),
        (
            "numeric(38,1)",
            "'-9999999999999999999999999999999999999.9'",
            decimal(38, 1),
            AnyValue::Decimal(-nines, 38, 1),
        ),
        (
            "numeric(38,38)",
            "'0.99999999999999999999999999999999999999'",
            decimal(38, 38),
            AnyValue::Decimal(nines, 38, 38),
        ),
        ("numeric", "'1e-20'", ColumnType::Numeric, text("0.00000000000000000001")),
        ("numeric", "'NaN'", ColumnType::Numeric, text("NaN")),
        ("numeric", "'-1.500'", ColumnType::Numeric, text("-1.500")),
        ("numeric(50,1)", "'7'", ColumnType::Numeric, text("7.0")),
        ("numeric(3,-2)", "'12345'", ColumnType::Numeric, text("12300")),
        ("text", "''", ColumnType::Text, text("")),
        ("text", "'ünï 𝄞 ''quoted'' and long enough'", ColumnType::Text, text("ünï 𝄞 'quoted' and long enough")),
        ("varchar(5)", "'abc'", ColumnType::Text, text("abc")),
        ("char(5)", "'ab'", ColumnType::Text, text("ab")),
        ("name", "'n'", ColumnType::Text, text("n")),
        ("\"char\"", "'c'", ColumnType::Text, text("c")),
        ("mood", "'so so'", ColumnType::Text, text("so so")),
        ("bytea", "'\\x00ff'", ColumnType::Binary, AnyValue::Binary(&[0, 255])),
        ("bytea", "''", ColumnType::Binary, AnyValue::Binary(&[])),
        ("date", "'1969-12-31'", ColumnType::Date, AnyValue::Date(-1)),
        ("date", "'4713-01-01 BC'", ColumnType::Date, AnyValue::Date(-2_440_550)),
        ("date", "'262142-12-31'", ColumnType::Date, AnyValue::Date(95_026_236)),
        ("time", "'23:59:59.999999'", ColumnType::Time, AnyValue::Time(86_399_999_999_000)),
        ("time(0)", "'12:00:00.4'", ColumnType::Time, AnyValue::Time(43_200_000_000_000)),
        ("timestamp", "'1969-12-31 23:59:59.999999'", ColumnType::Timestamp, datetime(-1)),
        ("timestamp(3)", "'2000-01-01 00:00:00.0004'", ColumnType::Timestamp, datetime(946_684_800_000_000)),
        ("timestamptz", "'1970-01-01 05:30:00+05:30'", ColumnType::TimestampTz, zoned(0)),
        (
            "uuid",
            "'0123ABCD-ef00-1111-2222-ffffffffffff'",
            ColumnType::Uuid,
            text("0123abcd-ef00-1111-2222-ffffffffffff"),
        ),
        ("json", "'{ \"a\" :1}'", ColumnType::Json, text("{ \"a\" :1}")),
        ("jsonb", "'{ \"b\" :1, \"a\":[null]}'", ColumnType::Json, text("{\"a\": [null], \"b\": 1}")),
        ("int4[]", "'{1,NULL,-3}'", ColumnType::TextArray, text("{1,NULL,-3}")),
        ("bool[]", "'{t,f}'", ColumnType::TextArray, text("{t,f}")),
        ("float8[]", "'{0.1,NaN}'", ColumnType::TextArray, text("{0.1,NaN}")),
        ("numeric(5,2)[]", "'{1.5}'", ColumnType::TextArray, text("{1.50}")),
        ("text[][]", "'{{a,\"b c\"},{\"\",null}}'", ColumnType::TextArray, text("{{a,\"b c\"},{\"\",NULL}}")),
        ("date[]", "'{2001-02-03}'", ColumnType::TextArray, text("{2001-02-03}")),
        (
            "timestamptz[]",
            "'{\"2001-02-03 01:00:00+01\"}'",
            ColumnType::TextArray,
            text("{\"2001-02-03 00:00:00+00\"}"),
        ),
        (
            "uuid[]",
            "'{0123ABCD-ef00-1111-2222-ffffffffffff}'",
            ColumnType::TextArray,
            text("{0123abcd-ef00-1111-2222-ffffffffffff}"),
        ),
        ("mood[]", "'{\"so so\"}'", ColumnType::TextArray, text("{\"so so\"}")),
        ("cents", "'12.34'", decimal(10, 2), AnyValue::Decimal(1_234, 10, 2)),
        ("big_cents", "'99.99'", decimal(10, 2), AnyValue::Decimal(9_999, 10, 2)),
    ]
    .into_iter()
    .map(|(ty, literal, column, cell)| (ty, literal.to_owned(), column, cell))
    .chain([("text", format!("'{long}'"), ColumnType::Text, AnyValue::String(&long))])
    .collect();

    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE SCHEMA every; SET search_path = every; CREATE TYPE mood AS ENUM ('so so'); \
             CREATE DOMAIN cents AS numeric(10,2); CREATE DOMAIN big_cents AS cents CHECK (value < 100)",
        )
        .await
        .unwrap();
    let names: Vec<String> = (0..cases.len()).map(|at| format!("c{at}")).collect();
    let columns: Vec<String> = cases.iter().zip(&names).map(|(case, name)| format!("{name} {}", case.0)).collect();
    let cells: Vec<&str> = cases.iter().map(|case| case.1.as_str()).collect();
    // Adding and dropping a column leaves a hole in the attribute numbers.
    let sql = format!(
        "CREATE TABLE types (hole int, {}); ALTER TABLE types DROP hole; INSERT INTO types VALUES ({}); \
         INSERT INTO types DEFAULT VALUES; SET DateStyle = 'German'",
        columns.join(", "),
        cells.join(", ")
    );
    client.batch_execute(&sql).await.unwrap();

    let source = source(server);
    let schema = open_schema(&source, "every.types").await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let frame = fetch(&source, "every.types", &plan(&schema, &names)).await.unwrap();
    assert_eq!((frame.height(), schema.columns.len()), (2, cases.len()));
    for ((name, (ty, literal, expected_type, cell)), (found_name, found_type)) in
        names.iter().zip(&cases).zip(&schema.columns)
    {
        assert_eq!((*name, expected_type), (found_name.as_str(), found_type), "{ty}");
        let column = frame.column(name).unwrap();
        assert!(expected_type.is_represented_by(column.dtype()), "{ty}: {}", column.dtype());
        assert_eq!(column.get(0).unwrap(), *cell, "{ty} {literal:.80}");
        assert_eq!(column.get(1).unwrap(), AnyValue::Null, "{ty}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_that_no_frame_can_hold_are_refused_without_showing_them() {
    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    let cases = [
        ("numeric(10,2)", "'NaN'", "NaN"),
        ("date", "'infinity'", "infinite date"),
        ("date", "'300000-01-01'", "after the year 262142"),
        ("timestamp", "'-infinity'", "infinite timestamp"),
        ("timestamptz", "'294276-01-01'", "after the year 262142"),
        ("time", "'24:00:00'", "24:00:00"),
    ];
    let source = source(server);
    for (at, (ty, literal, words)) in cases.into_iter().enumerate() {
        let sql = format!("CREATE TABLE edge{at} (c {ty}); INSERT INTO edge{at} VALUES (NULL), ({literal})");
        client.batch_execute(&sql).await.unwrap();
        let table = format!("public.edge{at}");
        let schema = open_schema(&source, &table).await;
        let error = fetch(&source, &table, &plan(&schema, &["c"])).await.unwrap_err();
        assert_eq!(error.reason(), "malformed_source", "{ty} {literal}: {error}");
        let shown = error.to_string();
        assert!(
            shown.starts_with("column `c` holds") && shown.ends_with("in row 2") && shown.contains(words),
            "{shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_only_names() {
    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    let source = source(server);
    let longest = "x".repeat(63);
    let names = [
        "\"; drop table",
        "a\"b",
        "käse",
        " blank ",
        "select",
        "a.b",
        "%s",
        "\\",
        "'; --",
        "*/",
        "$1",
        "A",
        longest.as_str(),
    ];
    for (at, name) in names.into_iter().enumerate() {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let sql = format!(
            "CREATE SCHEMA s{at}; CREATE TABLE s{at}.{quoted} ({quoted} text, plain int); \
             INSERT INTO s{at}.{quoted} VALUES ('b', 1), ('a', 2), ('c', 3)"
        );
        client.batch_execute(&sql).await.unwrap();
        let table = format!("s{at}.{name}");
        let schema = open_schema(&source, &table).await;
        let mut plan = plan(&schema, &[name]);
        plan.predicate =
            Some(predicate(&format!("{quoted} in ('a', 'b') and {quoted} < 'c' and {quoted} is not null"), &schema));
        plan.order_by = Some(name.to_owned());
        let frame = fetch(&source, &table, &plan).await.unwrap();
        let cells: Vec<_> = frame.column(name).unwrap().str().unwrap().iter().collect();
        assert_eq!(cells, [Some("a"), Some("b")], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_without_a_representation_are_refused_by_name_when_asked_for() {
    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE TYPE pair AS (a int, b int); CREATE SCHEMA fake; CREATE DOMAIN vector AS tsvector; \
             CREATE TABLE odd (id int, v tsvector, i interval, p point, m money, r int4range, c pair, t timetz, x xml, \
             b bit(3), a interval[], n inet, d vector, o oid); INSERT INTO odd (id) VALUES (7)",
        )
        .await
        .unwrap();
    let source = source(server);
    let schema = open_schema(&source, "public.odd").await;
    let frame = fetch(&source, "public.odd", &plan(&schema, &["id"])).await.unwrap();
    assert_eq!(numbers(&frame, "id"), [Some(7)]);
    let odd = [
        ("v", "tsvector"),
        ("i", "interval"),
        ("p", "point"),
        ("m", "money"),
        ("r", "int4range"),
        ("c", "pair"),
        ("t", "time with time zone"),
        ("x", "xml"),
        ("b", "bit"),
        ("a", "interval[]"),
        ("n", "inet"),
        ("d", "tsvector"),
        ("o", "oid"),
    ];
    for (column, ty) in odd {
        let expected = SourceError::UnsupportedType { column: column.to_owned(), ty: ty.to_owned() };
        assert_eq!(fetch(&source, "public.odd", &plan(&schema, &["id", column])).await.unwrap_err(), expected);
        let mut filtered = plan(&schema, &["id"]);
        filtered.predicate = Some(Condition::IsNull { column: column.to_owned(), negated: false });
        assert_eq!(fetch(&source, "public.odd", &filtered).await.unwrap_err(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_no_longer_the_same() {
    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    client.batch_execute("CREATE TABLE moving (id int, gone text, later text); CREATE SEQUENCE counter").await.unwrap();
    let source = source(server);
    for table in ["public.nothing", "nowhere.moving", "moving", "public.", "public.counter", "public.MOVING", "p\0.x"] {
        let error = source.schema(table, &HashMap::new()).await.unwrap_err();
        assert_eq!(error, SourceError::UnknownTable(table.to_owned()));
    }
    let schema = open_schema(&source, "public.moving").await;
    let old = plan(&schema, &["id", "gone"]);
    let mut filtered = plan(&schema, &["id"]);
    filtered.predicate = Some(predicate("gone = 'x'", &schema));
    let prepared = source.prepare("ff", "public.moving", &plan(&schema, &["id", "later"])).await.unwrap();
    client.batch_execute("ALTER TABLE moving ALTER gone TYPE int USING 1, DROP later").await.unwrap();
    assert_eq!(prepared.frame().await.unwrap_err().reason(), "schema_changed");
    for plan in [&old, &filtered] {
        let error = fetch(&source, "public.moving", plan).await.unwrap_err();
        assert_eq!(error.reason(), "schema_changed");
        assert!(error.to_string().contains("`gone`: found int32"), "{error}");
    }
    client.batch_execute("ALTER TABLE moving DROP gone").await.unwrap();
    let error = fetch(&source, "public.moving", &old).await.unwrap_err();
    assert_eq!(error.to_string(), "column `gone`: found no such column, required text");
    for trace in ["", "xyz", "0*/ drop", "é"] {
        assert_eq!(source.prepare(trace, "public.moving", &old).await.unwrap_err().reason(), "source_failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_is_recorded_exactly_and_the_snapshot_holds() {
    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    client.batch_execute("CREATE TABLE seen (id int); INSERT INTO seen VALUES (1), (2), (3)").await.unwrap();
    let source = source(server);
    let schema = open_schema(&source, "public.seen").await;
    let mut plan = plan(&schema, &["id"]);
    plan.predicate = Some(predicate("id >= 2", &schema));
    let prepared = source.prepare("c0ffee", "public.seen", &plan).await.unwrap();
    let statement: serde_json::Value = serde_json::from_str(prepared.statement()).unwrap();
    assert!(statement["sql"].as_str().unwrap().starts_with("/* countersign trace=c0ffee */ COPY (SELECT \"id\""));
    assert_eq!(statement["values"], serde_json::json!(["2"]));
    assert!(!prepared.statement().contains(password(&server.url())));
    assert!(prepared.snapshot().split(':').count() == 3, "{}", prepared.snapshot());
    client.batch_execute("INSERT INTO seen VALUES (4); DELETE FROM seen WHERE id = 2").await.unwrap();
    let mut ids = numbers(&prepared.frame().await.unwrap(), "id");
    ids.sort_unstable();
    assert_eq!(ids, [Some(2), Some(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_on_rows_and_bytes() {
    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE VIEW ten AS SELECT g AS id, repeat('x', 100) AS t FROM generate_series(1, 10) g; \
             CREATE VIEW endless AS SELECT generate_series(1, 1000000000) AS id, repeat('x', 100) AS t",
        )
        .await
        .unwrap();
    let source = source(server);
    let schema = open_schema(&source, "public.ten").await;
    // max_rows, limit, max_bytes; rows or reason.
    let cases = [
        (10, None, 1 << 20, "10 rows"),
        (9, None, 1 << 20, "too_many_rows"),
        (9, Some(9), 1 << 20, "9 rows"),
        (9, Some(10), 1 << 20, "too_many_rows"),
        (10, Some(0), 1 << 20, "0 rows"),
        (10, Some(u64::MAX), 1 << 20, "10 rows"),
        (u64::MAX, None, 1 << 20, "10 rows"),
        (10, None, 1_000, "too_many_bytes"),
    ];
    for (max_rows, limit, max_bytes, expected) in cases {
        let mut plan = plan(&schema, &["id", "t"]);
        (plan.max_rows, plan.limit, plan.max_bytes) = (max_rows, limit, max_bytes);
        let found = match fetch(&source, "public.ten", &plan).await {
            Ok(frame) => format!("{} rows", frame.height()),
            Err(error) => error.reason().to_owned(),
        };
        assert_eq!(found, expected, "{max_rows} {limit:?} {max_bytes}");
    }
    // Noticed as the bytes come in, not at the end of an endless stream, and the server is rid of us soon after.
    let begun = Instant::now();
    let mut plan = plan(&schema, &["id", "t"]);
    (plan.max_rows, plan.max_bytes) = (u64::MAX / 4, 1 << 20);
    assert_eq!(fetch(&source, "public.endless", &plan).await.unwrap_err().reason(), "too_many_bytes");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    gone(&client, "endless").await;
}

/// Waits until no connection of ours runs a statement on `table` any more.
async fn gone(client: &tokio_postgres::Client, table: &str) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'countersign' AND query LIKE $1";
    let pattern = format!("%\"{table}\"%");
    for _ in 0..100 {
        let left: i64 = client.query_one(sql, &[&pattern]).await.unwrap().get(0);
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a connection stayed behind on {table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_stays_behind() {
    let server = Postgres::start().unwrap();
    let client = server.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (id int)").await.unwrap();
    let source = source(&server);
    let schema = open_schema(&source, "public.t").await;
    let plan = plan(&schema, &["id"]);
    fetch(&source, "public.t", &plan).await.unwrap();
    drop(source.prepare("00", "public.t", &plan).await.unwrap());
    drop(tokio::time::timeout(Duration::from_millis(1), fetch(&source, "public.t", &plan)).await);
    for _ in 0..100 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'countersign'";
        let left: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        if left == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a connection stayed behind");
}

/// The backend that waits for our next transaction.
async fn kept(client: &tokio_postgres::Client) -> i32 {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'countersign' AND state = 'idle'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// On a runtime of its own, as a worker has.
#[tokio::test]
async fn a_worker_keeps_its_connection_and_nothing_else() {
    let server = Postgres::start().unwrap();
    let client = server.connect().await.unwrap();
    let views = "CREATE VIEW setting AS SELECT set_config('countersign.left', 'behind', false) AS word; \
                 CREATE VIEW reading AS SELECT coalesce(nullif(current_setting('countersign.left', true), ''), 'nothing') AS word";
    client.batch_execute(views).await.unwrap();
    let source = source(&server);
    let plan = plan(&open_schema(&source, "public.setting").await, &["word"]);
    let word = async |table: &str| {
        let frame = fetch(&source, table, &plan).await.unwrap();
        frame.column("word").unwrap().str().unwrap().get(0).unwrap().to_owned()
    };
    let first = kept(&client).await;
    assert_eq!(word("public.setting").await, "behind");
    assert_eq!(word("public.reading").await, "nothing");
    source.rest().await;
    assert_eq!(kept(&client).await, first);
    // It dies while nobody looks.
    client.query_one("SELECT pg_terminate_backend($1, 5000)", &[&first]).await.unwrap();
    assert_eq!(word("public.reading").await, "nothing");
    assert_ne!(kept(&client).await, first);
    // An error is not what a connection is kept after.
    assert!(fetch(&source, "public.none", &plan).await.is_err());
    let left: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'countersign' AND state <> 'active'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(left <= 1, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_and_a_silent_connection_time_out() {
    let server = Postgres::start().unwrap();
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE VIEW slow AS SELECT 1 AS id FROM pg_sleep(60); CREATE TABLE locked (id int); \
             CREATE VIEW endless AS SELECT generate_series(1, 1000000000) AS id",
        )
        .await
        .unwrap();
    let source = source(&server);
    let mut plan = plan(&open_schema(&source, "public.slow").await, &["id"]);
    (plan.max_seconds, plan.max_rows) = (1, u64::MAX / 4);
    let timed = async |table: &str| {
        let begun = Instant::now();
        let error = fetch(&source, table, &plan).await.unwrap_err();
        assert_eq!(error, SourceError::Timeout { seconds: 1 }, "{table}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{table}: {:?}", begun.elapsed());
    };
    timed("public.slow").await;
    client.batch_execute("BEGIN; LOCK TABLE locked").await.unwrap();
    timed("public.locked").await;
    client.batch_execute("COMMIT").await.unwrap();
    // A backend that is stopped neither answers nor notices its own timeout.
    let stopper = async {
        let pid = wait_for_copy(&client, "endless").await;
        std::process::Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap();
        pid
    };
    let ((), pid) = tokio::join!(timed("public.endless"), stopper);
    std::process::Command::new("kill").args(["-CONT", &pid.to_string()]).status().unwrap();
    gone(&client, "endless").await;
}

/// Waits until a COPY of ours on `table` runs, and gives its backend's process id.
async fn wait_for_copy(client: &tokio_postgres::Client, table: &str) -> i32 {
    let sql = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1";
    let pattern = format!("/* countersign trace=%\"{table}\"%");
    for _ in 0..200 {
        if let Some(row) = client.query_opt(sql, &[&pattern]).await.unwrap() {
            return row.get(0);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no COPY on {table} began");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_or_server_that_dies_in_mid_copy_is_noticed_at_once() {
    let mut server = Postgres::start().unwrap();
    let client = server.connect().await.unwrap();
    client.batch_execute("CREATE VIEW endless AS SELECT generate_series(1, 1000000000) AS id").await.unwrap();
    let source = source(&server);
    let mut plan = plan(&open_schema(&source, "public.endless").await, &["id"]);
    plan.max_rows = u64::MAX / 4;
    for sql in [Some("SELECT pg_terminate_backend($1)"), Some("SELECT pg_cancel_backend($1)"), None] {
        let killer = async {
            let pid = wait_for_copy(&client, "endless").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            match sql {
                Some(sql) => drop(client.query_one(sql, &[&pid]).await.unwrap()),
                None => server.kill().unwrap(),
            }
            Instant::now()
        };
        let (result, killed) = tokio::join!(fetch(&source, "public.endless", &plan), killer);
        assert_eq!(result.unwrap_err().reason(), "source_unavailable", "{sql:?}");
        assert!(killed.elapsed() < Duration::from_secs(2), "{sql:?}: {:?}", killed.elapsed());
        if sql.is_some() {
            gone(&client, "endless").await;
        }
    }
    let error = fetch(&source, "public.endless", &plan).await.unwrap_err();
    assert_eq!(error.reason(), "source_unavailable", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_cell_or_credential_shows_in_errors() {
    let server = shared_postgres().unwrap();
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION shout(t text) RETURNS int LANGUAGE plpgsql AS \
             $$ BEGIN RAISE NOTICE 'cell-4711'; RAISE EXCEPTION 'cell-4711' USING DETAIL = t, HINT = t; END $$; \
             CREATE VIEW shouting AS SELECT shout('cell-4711') AS id; CREATE VIEW bad_cast AS SELECT 'cell-4711'::text::int AS id; \
             CREATE TABLE written (id int); CREATE FUNCTION write() RETURNS int LANGUAGE sql AS \
             'INSERT INTO written VALUES (4711) RETURNING id'; CREATE VIEW writing AS SELECT write() AS id; \
             CREATE TABLE secret (id int); CREATE ROLE weak LOGIN PASSWORD 'hunter2-weak'",
        )
        .await
        .unwrap();
    let good = source(server);
    let mut errors = Vec::new();
    for table in ["public.shouting", "public.bad_cast", "public.writing"] {
        let schema = open_schema(&good, table).await;
        let error = fetch(&good, table, &plan(&schema, &["id"])).await.unwrap_err();
        assert_eq!(error.reason(), "source_failed", "{table}: {error}");
        errors.push(error);
    }
    let written: i64 = client.query_one("SELECT count(*) FROM written", &[]).await.unwrap().get(0);
    assert_eq!(written, 0);
    let admin = server.url();
    let url = |user: &str, password: &str, rest: &str| format!("postgres://{user}:{password}@127.0.0.1:{rest}");
    let here = format!("{}/postgres", server.port());
    for (url, reason) in [
        (url("countersign", "hunter2-wrong", &here), "source_unavailable"),
        (url("nobody", "hunter2-x", &here), "source_unavailable"),
        (server.url().replace("/postgres", "/nowhere"), "source_unavailable"),
        (url("countersign", password(&admin), "1/postgres"), "source_unavailable"),
        (format!("{}?sslmode=require", server.url()), "source_unavailable"),
    ] {
        let source = open(&url).unwrap();
        assert_eq!(format!("{source:?}"), "Postgres(…)");
        let error = source.schema("public.secret", &HashMap::new()).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        errors.push(error);
    }
    let weak = open(&url("weak", "hunter2-weak", &here)).unwrap();
    let schema = open_schema(&weak, "public.secret").await;
    errors.push(fetch(&weak, "public.secret", &plan(&schema, &["id"])).await.unwrap_err());
    assert_eq!(errors.last().unwrap().to_string(), "the database role may not read the table (SQLSTATE 42501)");
    for error in errors {
        let shown = format!("{error} {error:?} {error:#?}");
        assert!(!["4711", "hunter2", password(&admin)].iter().any(|secret| shown.contains(secret)), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_of_other_schemas_are_not_used() {
    let server = Postgres::start().unwrap();
    let client = server.connect().await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE SCHEMA evil; \
             CREATE FUNCTION evil.yes(int4, int8) RETURNS bool LANGUAGE sql AS 'SELECT true'; \
             CREATE OPERATOR evil.= (LEFTARG = int4, RIGHTARG = int8, FUNCTION = evil.yes); \
             ALTER ROLE CURRENT_USER SET search_path = evil, pg_catalog, public; \
             CREATE FUNCTION helper() RETURNS int LANGUAGE sql AS 'SELECT 5'; \
             CREATE FUNCTION outer_helper() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN helper(); END'; \
             CREATE VIEW helped AS SELECT outer_helper() AS id",
        )
        .await
        .unwrap();
    let source = source(&server);
    let schema = open_schema(&source, "public.t").await;
    let mut plan = plan(&schema, &["id"]);
    plan.predicate = Some(predicate("id = 2", &schema));
    assert_eq!(fetch(&source, "public.t", &plan).await.unwrap().height(), 0);
    // The role's own path still serves the functions of its views.
    plan.predicate = None;
    assert_eq!(numbers(&fetch(&source, "public.helped", &plan).await.unwrap(), "id"), [Some(5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_verifies_chain_and_host() {
    let (server, other) = (Postgres::start_with_tls().unwrap(), Postgres::start_with_tls().unwrap());
    let client = server.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await.unwrap();
    let url = |host: &str, mode: &str, ca: Option<&Postgres>| {
        let url = server.url().replace("127.0.0.1", host);
        let roots = ca.map_or_else(String::new, |ca| format!("&sslrootcert={}", ca.ca_file().display()));
        format!("{url}?sslmode={mode}{roots}")
    };
    for mode in ["require", "verify-ca", "verify-full"] {
        let source = open(&url("localhost", mode, Some(&server))).unwrap();
        let schema = open_schema(&source, "public.t").await;
        let frame = fetch(&source, "public.t", &plan(&schema, &["id"])).await.unwrap();
        assert_eq!(numbers(&frame, "id"), [Some(1)]);
        for (url, words) in [
            (url("localhost", mode, Some(&other)), "invalid peer certificate"),
            (url("127.0.0.1", mode, Some(&server)), "not valid for name"),
            (url("localhost", mode, None), "invalid peer certificate"),
        ] {
            let error = open(&url).unwrap().schema("public.t", &HashMap::new()).await.unwrap_err();
            assert_eq!(error.reason(), "source_unavailable");
            assert!(error.to_string().contains(words), "{error}");
            assert!(!format!("{error:?}").contains(password(&server.url())));
        }
    }
}
