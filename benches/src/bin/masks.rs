//! How fast the masker is, on one core: each mask, a whole policy, and Cedar's decisions; beside them `memcpy` of the same bytes and,
//! where polars has an expression for about the same, that. What is timed is all of it: [`mask`] and the parts made from
//! it, which hold nothing but fresh buffers.
//!
//! ```text
//! cargo run --manifest-path benches/Cargo.toml --bin masks
//! ```

use anyhow::{Context, Result, ensure};
use countersign::pipeline::encode::{Format, encode};
use countersign_masker::catalog::Limits;
use countersign_masker::decide::{Ask, ColumnObligation, Decision, Obligations, Rule, Verdict};
use countersign_masker::detect::Detectors;
use countersign_masker::{
    Answers, Catalog, Clear, ColumnType, Mask, Means, Plan, Policies, Subject, TableSchema, TokenKeys, decide,
    decide_with, mask,
};
use polars::prelude::*;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

/// As many as a chunk of the other benches has.
const ROWS: usize = 50_000;
/// How often a round does the same.
const TIMES: u32 = 20;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    if std::env::var("POLARS_MAX_THREADS").as_deref() != Ok("1") {
        // Polars reads it when it starts its threads.
        let mut again = Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args_os().skip(1)).env("POLARS_MAX_THREADS", "1").status()?;
        ensure!(status.success(), "the measurement failed");
        return Ok(());
    }
    let only = std::env::args().nth(1);
    masks(only.as_deref().unwrap_or_default())?;
    if only.is_some() {
        return Ok(());
    }
    whole()?;
    decisions()
}

/// The median of some rounds.
fn median(mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    run()?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let from = Instant::now();
        for _ in 0..TIMES {
            run()?;
        }
        times.push(from.elapsed() / TIMES);
    }
    times.sort_unstable();
    times.get(ROUNDS / 2).copied().context("no rounds")
}

fn plan(columns: Vec<(String, ColumnType)>) -> Plan {
    Plan {
        columns,
        predicate: None,
        order_by: Some("id".into()),
        shuffle: false,
        limit: None,
        max_rows: 10_000_000,
        max_bytes: u64::MAX,
        max_seconds: 60,
    }
}

fn obligations(columns: &[(&str, &str)]) -> Result<Obligations> {
    let columns = columns.iter().map(|(column, rule)| {
        let rule = if *rule == "clear" { Rule::Clear } else { Rule::Mask(Mask::parse(rule)?) };
        Ok(ColumnObligation { column: (*column).into(), class: "c".into(), rule, paths: Vec::new() })
    });
    let limit = Limits { rows: 10_000_000, bytes: u64::MAX, seconds: 60 };
    Ok(Obligations { columns: columns.collect::<Result<_>>()?, rows: None, limit })
}

fn text(name: &str, rows: usize, cell: impl Fn(usize) -> String) -> Column {
    StringChunked::from_iter_values(name.into(), (0..rows).map(cell)).into_column()
}

/// Each mask whose text contains `only`.
fn masks(only: &str) -> Result<()> {
    let mail = text("c", ROWS, |n| format!("somebody.{n}@example.com"));
    let card = text("c", ROWS, |n| format!("{:016}", 4_111_000_000_000_000 + n as u64 * 7919));
    let zip = text("c", ROWS, |n| format!("{:05}", n * 37 % 100_000));
    let address = text("c", ROWS, |n| format!("10.{}.{}.{}", n % 250, n / 250 % 250, n % 99));
    let number =
        Int64Chunked::from_vec("c".into(), (0..ROWS as i64).map(|n| n * 7919 % 1_000_003).collect()).into_column();
    let real = Float64Chunked::from_vec("c".into(), (0..ROWS).map(|n| n as f64 * 0.37).collect()).into_column();
    let day =
        Int32Chunked::from_vec("c".into(), (0..ROWS as i32).map(|n| n % 20_000).collect()).into_date().into_column();
    let (texts, numbers) = (ColumnType::Text, ColumnType::Int64);
    let run = lit("*****");
    let cases: Vec<(&str, &Column, &ColumnType, Option<Expr>)> = vec![
        ("clear", &mail, &texts, Some(col("c"))),
        ("null", &mail, &texts, None),
        ("constant(\"hidden\")", &mail, &texts, Some(lit("hidden"))),
        ("redact", &mail, &texts, None),
        ("keep_first(2)", &mail, &texts, Some(col("c").str().head(lit(2)) + run.clone())),
        ("keep_last(4)", &mail, &texts, Some(run + col("c").str().tail(lit(4)))),
        ("email", &mail, &texts, None),
        ("zip3", &zip, &texts, Some(col("c").str().head(lit(3)))),
        ("ip_prefix(16, 48)", &address, &texts, None),
        ("token(d)", &mail, &texts, None),
        ("token(d)", &number, &numbers, None),
        ("ff1(d, digits)", &card, &texts, None),
        ("clear", &number, &numbers, Some(col("c"))),
        ("bucket(1000)", &number, &numbers, Some(col("c") - col("c") % lit(1000))),
        ("round(1000)", &number, &numbers, None),
        ("range(10, 1000, 100000)", &number, &numbers, None),
        ("bucket(0.5)", &real, &ColumnType::Float64, Some(col("c") - col("c") % lit(0.5))),
        ("year_only", &day, &ColumnType::Date, None),
        ("date_shift(30, d)", &day, &ColumnType::Date, None),
    ];
    println!("{ROWS} cells, one core, median of {ROUNDS} rounds; GB/s of input");
    println!(
        "{:<26} {:<8} {:>9} {:>11} {:>9} {:>9} {:>9}",
        "mask", "of", "GB/s", "M values/s", "and part", "memcpy", "polars"
    );
    for (rule, column, column_type, expression) in cases.into_iter().filter(|(rule, ..)| rule.contains(only)) {
        let bytes = match column.dtype() {
            DataType::String => column.str()?.iter().flatten().map(str::len).sum(),
            dtype => ROWS * if *dtype == DataType::Date { 4 } else { 8 },
        };
        let frame = DataFrame::new(ROWS, vec![column.clone()])?;
        let (plan, obligations) = (plan(vec![("c".into(), column_type.clone())]), obligations(&[("c", rule)])?);
        let keys = TokenKeys::new([7; 32]);
        let masked = || {
            let means = Means { keys: &keys, detectors: &Detectors::default(), purpose: "bench" };
            mask(Clear::new(frame.clone()), &obligations, &plan, means, [0; 32])
        };
        let took = median(|| Ok(drop(black_box(masked()?))))?;
        let with_part = median(|| Ok(drop(black_box(masked()?.part(0, ROWS)?))))?;
        let source = vec![1u8; bytes];
        let copied = median(|| {
            black_box(source.clone());
            Ok(())
        })?;
        let rate = |took: Duration| bytes as f64 / took.as_secs_f64() / 1e9;
        let peer = match expression {
            Some(expression) => {
                let took = median(|| {
                    black_box(frame.clone().lazy().with_columns([expression.clone().alias("c")]).collect()?);
                    Ok(())
                })?;
                format!("{:.2}", rate(took))
            }
            None => "-".into(),
        };
        println!(
            "{rule:<26} {:<8} {:>9.2} {:>11.1} {:>9.2} {:>9.1} {peer:>9}",
            column_type.to_string(),
            rate(took),
            ROWS as f64 / took.as_secs_f64() / 1e6,
            rate(with_part),
            rate(copied),
        );
    }
    Ok(())
}

/// A chunk of eleven columns, three of them masked, as `benches` asks PostgreSQL for.
fn whole() -> Result<()> {
    let rows = 50_000;
    let words = "the order was placed on monday and customer asked for delivery to another address because nobody home during week ";
    let ids = Int64Chunked::from_vec("id".into(), (0..rows as i64).collect()).into_column();
    let columns = vec![
        ids,
        text("name", rows, |n| format!("Somebody Number {n}")),
        text("email", rows, |n| format!("somebody.{n}@example.com")),
        text("iban", rows, |n| format!("XX{n:020}")),
        text("city", rows, |n| format!("City {}", n % 1000)),
        text("street", rows, |n| format!("Some Street {}, third floor", n % 10_000)),
        text("note", rows, |n| words.get(n % 4..).unwrap_or_default().to_owned()),
        Int32Chunked::from_vec("amount".into(), (0..rows as i32).map(|n| n * 7 % 100_000).collect()).into_column(),
        Float64Chunked::from_vec("ratio".into(), (0..rows).map(|n| n as f64 * 0.5).collect()).into_column(),
        Int32Chunked::from_vec("born".into(), (0..rows as i32).map(|n| n % 20_000).collect()).into_date().into_column(),
        Int64Chunked::from_vec("seen".into(), (0..rows as i64).map(|n| n * 1_000_000).collect())
            .into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC))
            .into_column(),
    ];
    let frame = DataFrame::new(rows, columns)?;
    let types = frame.columns().iter().map(|column| {
        let column_type = ColumnType::from_dtype(column.dtype()).context("a type without representation")?;
        Ok((column.name().to_string(), column_type))
    });
    let plan = plan(types.collect::<Result<_>>()?);
    let rules = [
        ("id", "clear"),
        ("name", "keep_first(1)"),
        ("email", "email"),
        ("iban", "token(customers)"),
        ("city", "clear"),
        ("street", "clear"),
        ("note", "clear"),
        ("amount", "clear"),
        ("ratio", "clear"),
        ("born", "clear"),
        ("seen", "clear"),
    ];
    let obligations = obligations(&rules)?;
    let keys = TokenKeys::new([7; 32]);
    let run = |plan: &Plan| {
        mask(
            Clear::new(frame.clone()),
            &obligations,
            plan,
            Means { keys: &keys, detectors: &Detectors::default(), purpose: "bench" },
            [3; 32],
        )
    };
    println!("\na chunk of {rows} rows, {} columns, 3 masked", rules.len());
    let show = |what: &str, took: Duration| {
        println!(
            "{what:<44} {:>7.1} ms {:>6.1} M rows/s",
            took.as_secs_f64() * 1e3,
            rows as f64 / took.as_secs_f64() / 1e6
        );
    };
    let shuffled = Plan { shuffle: true, order_by: None, ..plan.clone() };
    show("mask", median(|| Ok(drop(black_box(run(&plan)?))))?);
    show("mask, rows in random order", median(|| Ok(drop(black_box(run(&shuffled)?))))?);
    let chunk = run(&plan)?;
    show("all of it as one part", median(|| Ok(drop(black_box(chunk.part(0, rows)?))))?);
    show("mask and one part: the policy", median(|| Ok(drop(black_box(run(&plan)?.part(0, rows)?))))?);
    for (name, format) in [("Arrow", Format::Arrow), ("JSON Lines", Format::JsonLines)] {
        let write = || encode(&chunk, format, 900_000).map_err(|reason| anyhow::anyhow!("{reason}"));
        let bytes = write()?.iter().map(Vec::len).sum::<usize>();
        let took = median(|| Ok(drop(black_box(write()?))))?;
        show(&format!("parts and {name}, {:.1} MB", bytes as f64 / 1e6), took);
    }
    let chunk = mask(
        Clear::new(frame.clone()),
        &self::obligations(&rules.map(|(name, _)| (name, "clear")))?,
        &plan,
        Means { keys: &keys, detectors: &Detectors::default(), purpose: "b" },
        [3; 32],
    )?;
    show("all clear: all of it as one part", median(|| Ok(drop(black_box(chunk.part(0, rows)?))))?);
    let bytes = frame.estimated_size();
    let source = vec![1u8; bytes];
    show(&format!("memcpy of its {:.1} MB", bytes as f64 / 1e6), median(|| Ok(drop(black_box(source.clone()))))?);
    Ok(())
}

fn decisions() -> Result<()> {
    let mut catalog_text = String::from("purposes = [\"bench\"]\n");
    for class in 0..20 {
        catalog_text += &format!("[classes.c{class}]\nmask = \"redact\"\n");
    }
    catalog_text += "[tables.\"pg.people\"]\nkey = \"c0\"\n[tables.\"pg.people\".columns]\n";
    let names = (0..11).map(|n| format!("c{n}")).collect::<Vec<_>>();
    for name in &names {
        catalog_text += &format!("{name} = \"{name}\"\n");
    }
    let catalog = Catalog::parse("catalog", &catalog_text)?;
    let schema = TableSchema { columns: names.iter().map(|name| (name.clone(), ColumnType::Text)).collect() };
    let subject = Subject {
        id: "reader".into(),
        groups: vec!["readers".into(), "everybody".into()],
        on_behalf_of: None,
        door: "kafka".into(),
        time: 1_800_000_000,
    };
    let ask = Ask {
        connection: "pg".into(),
        table: "people".into(),
        columns: names,
        purpose: "bench".into(),
        ..Ask::default()
    };
    println!("\na decision on 11 columns");
    println!("{:>10} {:>14} {:>14}", "policies", "cold, µs", "cached, µs");
    for policies in [10, 100, 1000] {
        let mut text =
            String::from("permit (principal in Group::\"readers\", action == Action::\"read\", resource);\n");
        for n in 1..policies {
            text += &match n % 3 {
                0 => format!(
                    "permit (principal in Group::\"g{n}\", action == Action::\"read_clear\", resource) when {{ resource.class == \"c{}\" }};\n",
                    n % 20
                ),
                1 => format!(
                    "permit (principal == Identity::\"p{n}\", action == Action::\"read\", resource in Table::\"pg.t{n}\");\n"
                ),
                _ => format!(
                    "forbid (principal in Group::\"g{n}\", action == Action::\"read_clear\", resource) unless {{ context.purpose == \"bench\" }};\n"
                ),
            };
        }
        let policies_loaded = Policies::parse("policy", &text)?;
        let permitted = |decision: Decision| {
            ensure!(decision.verdict == Verdict::Permit, "{:?}", decision.verdict);
            Ok(())
        };
        let cold = median(|| permitted(decide(&policies_loaded, &catalog, Some(&schema), &subject, &ask)))?;
        let answers = Answers::default();
        let times = 1000;
        let cached = median(|| {
            for _ in 0..times {
                permitted(decide_with(Some(&answers), &policies_loaded, &catalog, Some(&schema), &subject, &ask))?;
            }
            Ok(())
        })?;
        let micros = |took: Duration| took.as_secs_f64() * 1e6;
        println!("{policies:>10} {:>14.1} {:>14.2}", micros(cold), micros(cached) / f64::from(times));
    }
    Ok(())
}
