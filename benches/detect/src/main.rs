//! How fast the detectors read text on one core, beside a copy of the same bytes:
//!
//! ```text
//! cargo run --release --manifest-path benches/detect/Cargo.toml -- speed [MEGABYTES, 64 unless stated] [prose|marked|dense|packed]
//! ```
//!
//! and `spans`, which reads JSON lines with `text` and writes them with `spans`, for `judge.py` beside this.

#[path = "../../../masker/src/detect/mod.rs"]
#[allow(dead_code, unused_imports, missing_docs, reason = "a module of another crate, of which only a part is used here")]
mod detect;

use anyhow::{Context, Result, bail};
use detect::Detectors;
use serde_json::{Value, json};
use std::hint::black_box;
use std::io::{BufRead, Write};

/// Bytes of one cell, roughly: a note, a message, a log line with its context.
const CELL: usize = 1000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("speed") => speed(arguments.next().map_or(Ok(64), |number| number.parse())?, arguments.next().as_deref()),
        Some("spans") => spans(),
        _ => bail!("say `speed` or `spans`"),
    }
}

/// A seeded generator (SplitMix64), so that each run reads the same text.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }
}

const WORDS: &[&str] = &[
    "the", "of", "and", "customer", "asked", "whether", "a", "delivery", "could", "be", "moved", "to", "another", "day", "since", "nobody", "will",
    "at", "home", "we", "answered", "that", "this", "is", "possible", "until", "evening", "before", "thanks", "for", "your", "patience", "with",
    "our", "service", "team", "in", "spring", "there", "were", "more", "questions", "about", "quality", "than", "price", "so", "it", "may", "help",
];

/// Prose: words, commas, full stops, now and then a short number.
fn prose(random: &mut Random) -> String {
    let mut text = String::new();
    while text.len() < CELL {
        text += random.pick(WORDS);
        match random.below(40) {
            0 => text += &format!(" {}", random.below(60)),
            1..=3 => text += ",",
            4..=6 => text += ".",
            _ => {}
        }
        text += " ";
    }
    text
}

/// The same prose in which one word of seven has a letter with a mark.
fn marked(random: &mut Random) -> String {
    let text = prose(random);
    let mut count = 0;
    text.chars().map(|letter| {
        count += usize::from(letter == 'e');
        if letter == 'e' && count % 3 == 0 { 'é' } else { letter }
    }).collect()
}

fn luhn(mut digits: String) -> String {
    let sum: u32 = digits.bytes().rev().enumerate().map(|(place, byte)| {
        let once = u32::from(byte - b'0');
        if place % 2 == 1 { once } else if once > 4 { 2 * once - 9 } else { 2 * once }
    }).sum();
    digits.push(char::from(b'0' + ((10 - sum % 10) % 10) as u8));
    digits
}

/// Prose with an identifier, or something like one, after every dozen words.
fn dense(random: &mut Random) -> String {
    filled(random, 12)
}

/// The same after every word: as a log line or an exported record may be.
fn packed(random: &mut Random) -> String {
    filled(random, 1)
}

fn filled(random: &mut Random, words: usize) -> String {
    let mut text = String::new();
    while text.len() < CELL {
        for _ in 0..words {
            text += random.pick(WORDS);
            text += " ";
        }
        text += &match random.below(10) {
            0 => format!("card {}", luhn(format!("4{}", random.digits(14)))),
            1 => format!("{}.{}@example.org", random.pick(WORDS), random.pick(WORDS)),
            2 => format!("call +1 415 555 {}", random.digits(4)),
            3 => format!("ssn {}-{}-{}", 100 + random.below(500), 10 + random.below(89), 1000 + random.below(8999)),
            4 => format!("from 10.{}.{}.{}", random.below(256), random.below(256), random.below(256)),
            5 => format!("2024-0{}-1{}T12:{}:00Z", 1 + random.below(9), random.below(10), 10 + random.below(49)),
            6 => format!("order {}-{}", random.digits(3), random.digits(7)),
            7 => format!("{:016x}{:016x}", random.next(), random.next()),
            8 => "DE89 3704 0044 0532 0130 00".to_owned(),
            _ => format!("{} {}", random.pick(WORDS), random.digits(9)),
        };
        text += " ";
    }
    text
}

/// Seconds that this thread has been on a core: what else runs on the machine doesn't count.
fn core_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

fn speed(megabytes: usize, only: Option<&str>) -> Result<()> {
    let detectors = Detectors::builtin();
    let mut memory = 0.0;
    println!("{:<10} {:>9} {:>12} {:>14} {:>12}", "text", "MB/s", "of a copy", "hits per kB", "ns per hit");
    for (name, make) in [("prose", prose as fn(&mut Random) -> String), ("marked", marked), ("dense", dense), ("packed", packed)] {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let mut random = Random(7);
        let cells: Vec<String> = (0..megabytes * 1000).map(|_| make(&mut random)).collect();
        let bytes: usize = cells.iter().map(String::len).sum();
        if memory == 0.0 {
            let whole: Vec<u8> = cells.concat().into_bytes();
            let mut copy = vec![0u8; whole.len()];
            copy.copy_from_slice(&whole);
            let start = core_seconds();
            for _ in 0..5 {
                copy.copy_from_slice(black_box(&whole));
                black_box(&mut copy);
            }
            memory = 5.0 * whole.len() as f64 / (core_seconds() - start);
            println!("{:<10} {:>9.0}", "memcpy", memory / 1e6);
        }
        // Once to warm up, then the best of three: what the machine can do, not what else it did.
        let mut best = f64::MAX;
        let mut hits = 0;
        for _ in 0..4 {
            let start = core_seconds();
            hits = cells.iter().map(|cell| black_box(detectors.detect(cell, None)).len()).sum();
            best = best.min(core_seconds() - start);
        }
        println!(
            "{name:<10} {:>9.0} {:>11.2}% {:>14.2} {:>12.0}",
            bytes as f64 / best / 1e6,
            100.0 * bytes as f64 / best / memory,
            1000.0 * hits as f64 / bytes as f64,
            if hits > 0 { best * 1e9 / hits as f64 } else { 0.0 },
        );
    }
    Ok(())
}

fn spans() -> Result<()> {
    let detectors = Detectors::builtin();
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let mut value: Value = serde_json::from_str(&line?).with_context(|| format!("line {}", number + 1))?;
        let text = value["text"].as_str().with_context(|| format!("line {} has no text", number + 1))?.to_owned();
        let hint = value["column"].as_str().map(|column| detectors.hint(column));
        let hits = detectors.detect(&text, hint.as_ref());
        value["spans"] = hits.iter().map(|hit| json!({ "class": hit.class, "start": hit.start, "end": hit.end })).collect();
        serde_json::to_writer(&mut output, &value)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}
