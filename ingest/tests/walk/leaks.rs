//! Nothing that may not leave is in any delivered byte: as text, in hex, base64 or UTF-16, reversed, as a number in binary, under nulls,
//! in rows that a filter or limit has removed. The scan looks at record values, headers and statuses alike.

use crate::world::{PATIENCE, World, expect, people, pg_people};
use countersign::client::Wish;
use countersign::pipeline::status::Word;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// A value that must not be found, in one of its forms.
struct Canary {
    what: String,
    bytes: Vec<u8>,
}

/// A secret text in all its forms.
fn forms(what: String, text: &str) -> Vec<Canary> {
    use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
    let bytes = text.as_bytes();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // What is the same in every base64 of a longer text: without the ends that share a symbol with it.
    let in_base64 = |offset: usize| {
        let encoded = STANDARD_NO_PAD.encode([&vec![0; offset][..], bytes].concat());
        let whole = (offset + bytes.len()) / 3 * 4;
        encoded.as_bytes()[(offset * 8).div_ceil(6)..whole].to_vec()
    };
    let digits = text.bytes().filter(u8::is_ascii_digit).collect::<Vec<_>>();
    let mut all = vec![
        ("as text", bytes.to_vec()),
        ("reversed", bytes.iter().rev().copied().collect()),
        ("in hex", hex(bytes).into_bytes()),
        ("in upper hex", hex(bytes).to_uppercase().into_bytes()),
        ("in UTF-16, little-endian", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("in UTF-16, big-endian", text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
    ];
    // Fewer symbols or digits stand in receipts by chance.
    all.extend((0..3).map(|offset| ("in base64", in_base64(offset))).filter(|(_, symbols)| symbols.len() >= 9));
    all.extend((digits.len() >= 9).then_some(("as digits alone", digits)));
    all.into_iter().map(|(form, bytes)| Canary { what: format!("{what} {form}"), bytes }).collect()
}

/// Every form that a secret of the PostgreSQL table could have, for the rows `rows`.
fn canaries(rows: impl Iterator<Item = i64>) -> Vec<Canary> {
    let mut all = Vec::new();
    for n in rows {
        let mut text = |what: &str, text: &str| all.extend(forms(format!("{what} of row {n}"), text));
        // Long enough not to be found by chance: short ones would be part of every other number.
        let name = format!("Canaryname{n} Leaktest");
        text("name", name.get(1..).unwrap());
        text("mail", &format!("canary.mail{n}@"));
        text("tag", &format!("tag{n}{}", '}'));
        let code = 770_000_000 + i32::try_from(n).unwrap();
        text("code", &code.to_string());
        let mut add = |what: String, bytes: Vec<u8>| all.push(Canary { what, bytes });
        add(format!("code of row {n} as int32"), code.to_le_bytes().to_vec());
        add(format!("code of row {n} as int64"), i64::from(code).to_le_bytes().to_vec());
        let cents = i128::from(n * 725 + 100_000_000);
        add(format!("balance of row {n} as decimal"), cents.to_le_bytes().to_vec());
        add(format!("balance of row {n} as text"), format!("{}.{:02}", cents / 100, cents % 100).into_bytes());
        let ratio = 0.12345 + n as f64;
        add(format!("ratio of row {n} as float"), ratio.to_le_bytes().to_vec());
        add(format!("ratio of row {n} as text"), format!("{ratio:.5}").into_bytes());
        let day = i32::try_from(n).unwrap() - 10_957;
        if day != -10_957 && day % 365 > 20 {
            // A first of January is what `year_only` leaves, so days near it prove nothing.
            let iso = countersign_date(day);
            add(format!("birthday of row {n} as text"), iso.into_bytes());
        }
    }
    all
}

/// ISO 8601 of a day before 1970, by counting.
fn countersign_date(day: i32) -> String {
    let (mut year, mut left) = (1940, day + 10_957);
    loop {
        let leap = year % 4 == 0;
        let length = if leap { 366 } else { 365 };
        if left < length {
            let months = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (m, days) in months.iter().enumerate() {
                if left < *days {
                    return format!("{year}-{:02}-{:02}", m + 1, left + 1);
                }
                left -= days;
            }
        }
        left -= length;
        year += 1;
    }
}

/// Everything that stands on an identity's topics, as a reader of uncommitted records sees it.
fn everything(world: &World, who: &str) -> Vec<u8> {
    let mut config = world.kafka.client();
    config.set("group.id", "scan").set("enable.auto.commit", "false").set("isolation.level", "read_uncommitted");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = Vec::new();
    for topic in [format!("chunk.masked.{who}"), format!("chunk.status.{who}")] {
        let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).unwrap();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            read_partition(&consumer, &topic, partition.id(), &mut all);
        }
    }
    all
}

fn read_partition(consumer: &BaseConsumer, topic: &str, partition: i32, all: &mut Vec<u8>) {
    let (_, end) = consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut done = end == 0;
    while !done {
        assert!(Instant::now() < deadline, "partition {partition} of `{topic}` was not read to its end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                all.extend_from_slice(message.payload().unwrap_or_default());
                all.push(0);
                for header in message.headers().iter().flat_map(|h| h.iter()) {
                    all.extend_from_slice(header.value.unwrap_or_default());
                    all.push(0);
                }
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => done = true,
            _ => {}
        }
    }
}

fn scan(haystack: &[u8], canaries: &[Canary], allowed: impl Fn(&Canary) -> bool) {
    assert!(haystack.len() > 1000, "there is nothing to scan");
    let sought = canaries.iter().filter(|canary| !allowed(canary)).map(|canary| (&*canary.bytes, &*canary.what));
    let sought: HashMap<&[u8], &str> = sought.collect();
    let lengths: BTreeSet<usize> = sought.keys().map(|bytes| bytes.len()).filter(|length| *length > 0).collect();
    let windows = lengths.into_iter().flat_map(|length| haystack.windows(length));
    let found: BTreeSet<&str> = windows.filter_map(|window| sought.get(window).copied()).collect();
    assert!(found.is_empty(), "delivered: {found:?}");
}

#[test]
fn no_masked_value_and_no_removed_row_is_in_any_delivered_byte() {
    let world = World::shared();
    let admin = world.client("admin").unwrap();
    let kind = countersign_ledger::evidence::step::Kind::Service;
    world.register(&admin, "scanned", kind, &["analysts"], None, None).unwrap();
    let all = ["id", "name", "email", "born", "balance", "country", "\"; drop table", "secret_code", "ratio", "tags"];
    for format in ["arrow", "jsonl"] {
        let base = Wish { format: format.into(), ..pg_people(&all) };
        for wish in [
            Wish { limit: Some(100), ..base.clone() },
            Wish { filter: Some("country = 'DE' and id < 300".into()), ..base.clone() },
            Wish { filter: Some("id < 0".into()), ..base.clone() },
            base.clone(),
            Wish { format: format.into(), filter: Some("country = 'FR'".into()), ..people(&["name", "email", "born"]) },
        ] {
            let (_, answer) = world.ask("scanned", &wish).unwrap();
            expect(&answer, Word::Delivered, None);
            if format == "arrow" {
                for part in &answer.parts {
                    read_arrow(part);
                }
            }
        }
    }
    let haystack = everything(world, "scanned");
    // The scan must be able to find what is there: a column that is clear.
    let there = haystack.windows(5).any(|w| w == b"evil7");
    assert!(there, "the scan does not find what was delivered");
    scan(&haystack, &canaries(0..600), |_| false);
}

/// The rows that a filter has removed are not there either, although their columns are clear.
#[test]
fn a_clear_column_shows_only_the_rows_that_were_asked_for() {
    let world = World::shared();
    let admin = world.client("admin").unwrap();
    let kind = countersign_ledger::evidence::step::Kind::Service;
    world.register(&admin, "narrow", kind, &["analysts"], None, None).unwrap();
    for format in ["arrow", "jsonl"] {
        let wish = Wish {
            format: format.into(),
            filter: Some("country = 'DE'".into()),
            limit: Some(40),
            ..pg_people(&["id", "\"; drop table", "country"])
        };
        let (_, answer) = world.ask("narrow", &wish).unwrap();
        expect(&answer, Word::Delivered, None);
        assert_eq!(answer.status.rows, Some(40));
    }
    let haystack = everything(world, "narrow");
    let rows: Vec<Canary> = (0..600_i64)
        .filter(|n| n % 3 != 0 || *n >= 120)
        .filter(|n| *n >= 100)
        .map(|n| Canary { what: format!("row {n}"), bytes: format!("evil{n}").into_bytes() })
        .collect();
    scan(&haystack, &rows, |_| false);
}

fn read_arrow(part: &[u8]) -> polars::prelude::DataFrame {
    use polars_io::SerReader;
    polars_io::ipc::IpcStreamReader::new(std::io::Cursor::new(part)).finish().unwrap()
}
