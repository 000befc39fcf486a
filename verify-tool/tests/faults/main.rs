//! One fault at a time in evidence that a running service left (`tests/data/v1-served`): a flipped bit, bytes cut off, left out
//! or put in, things deleted, swapped or doubled. Each must be found, named where it is, and quickly; a seed tries the same again.
//!
//! `COUNTERSIGN_FAULTS` says how many are tried; `make test-faults` tries many.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its helpers too")]

use countersign_ledger::tlog::{CosignerKey, Epochs, Note, Policy, VerifierKey};
use countersign_verify::export::{Export, Fetched, Files, Listed};
use countersign_verify::finding::Verdict;
use countersign_verify::log::{self, Options};
use countersign_verify::report::Report;
use countersign_verify::single;
use countersign_verify::story::Claim;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

type Map = BTreeMap<String, Arc<Vec<u8>>>;

/// An export in memory.
#[derive(Debug)]
struct Memory(Map);

impl Files for Memory {
    fn name(&self) -> String {
        "memory".into()
    }

    fn read(&self, path: &str, limit: u64) -> Fetched {
        match self.0.get(path) {
            Some(bytes) => Fetched::Bytes(bytes.iter().copied().take(limit as usize + 1).collect()),
            None => Fetched::Missing,
        }
    }

    fn list(&self, found: &mut dyn FnMut(Listed)) {
        self.0.keys().for_each(|path| found(Listed::File(path.clone())));
    }
}

fn load(dir: &Path, prefix: &str, into: &mut Map) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            load(&path, &format!("{name}/"), into);
        } else {
            into.insert(name, Arc::new(fs::read(&path).unwrap()));
        }
    }
}

/// Evidence as it was left.
struct Evidence {
    key: VerifierKey,
    export: Map,
    dir: PathBuf,
}

impl Evidence {
    fn load() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1-served");
        let key = fs::read_to_string(dir.with_extension("vkey")).unwrap().trim_end().parse().unwrap();
        let mut export = Map::new();
        load(&dir, "", &mut export);
        Self { key, export, dir }
    }

    fn log(&self, export: Map) -> Report {
        let require = vec![Claim::CallerSignatures, Claim::ApprovalSignatures, Claim::AdminSignatures];
        let options = Options { require, ..Options::new(self.key.clone()) };
        log::check(&Export::of(Memory(export)), &options, &mut (), |_, _| {})
    }
}

/// What a file is, which decides what can be done to it unseen.
fn is_withheld(path: &str, bytes: &[u8]) -> bool {
    // Nobody knows which checkpoints were published, and payloads may be withheld; where signatures must be proven,
    // those that hold them may not.
    let signed = [&b"request\n"[..], b"approval\n", b"admin\n"].iter().any(|class| bytes.starts_with(class));
    path.starts_with("checkpoints/") || (path.starts_with("payload/") && !signed)
}

/// Bytes with one thing wrong, and what; nothing where it came to the same bytes.
fn spoiled(good: &[u8], dice: &mut Dice) -> (Vec<u8>, &'static str) {
    let mut bad = good.to_vec();
    let at = dice.below(good.len());
    let what = match dice.below(7) {
        0..3 => {
            bad[at] ^= 1 << dice.below(8);
            "a flipped bit"
        }
        3 => {
            bad.truncate(at);
            "cut off"
        }
        4 => {
            let end = (at + 1 + dice.below(40)).min(bad.len());
            bad.drain(at..end);
            "some bytes less"
        }
        5 => {
            let end = (at + 1 + dice.below(40)).min(bad.len());
            let again = bad[at..end].to_vec();
            bad.splice(at..at, again);
            "some bytes twice"
        }
        _ => {
            let other = dice.below(good.len());
            bad.swap(at, other);
            "two bytes swapped"
        }
    };
    (bad, what)
}

/// The pieces that a bundle or tile is made of.
fn pieces(path: &str, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    if !path.starts_with("tile/") {
        return None;
    }
    if !path.starts_with("tile/entries/") {
        return Some(bytes.chunks(32).map(<[u8]>::to_vec).collect());
    }
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while let [high, low, tail @ ..] = rest {
        let (_, after) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        pieces.push(rest[..rest.len() - after.len()].to_vec());
        rest = after;
    }
    Some(pieces)
}

/// Whole entries or hashes deleted, swapped or doubled.
fn shuffled(mut pieces: Vec<Vec<u8>>, dice: &mut Dice) -> (Vec<u8>, &'static str) {
    let (a, b) = (dice.below(pieces.len()), dice.below(pieces.len()));
    let what = match dice.below(4) {
        0 => {
            pieces.remove(a);
            "one deleted"
        }
        1 => {
            pieces.swap(a, b);
            "two swapped"
        }
        2 => {
            let again = pieces[a].clone();
            pieces.insert(b, again);
            "one doubled"
        }
        _ => {
            pieces[b] = pieces[a].clone();
            "one in another's place"
        }
    };
    (pieces.concat(), what)
}

/// One fault in the export: the files that it touched, and in words what it was.
fn fault(good: &Map, dice: &mut Dice) -> Option<(Map, Vec<String>, &'static str)> {
    let paths: Vec<&String> = good.keys().collect();
    // Half of the faults are in the tree, whose files are few beside the payloads.
    let tree: Vec<&String> = paths.iter().filter(|path| !path.starts_with("payload/")).copied().collect();
    let path = *if dice.below(2) == 0 { dice.pick(&tree) } else { dice.pick(&paths) };
    let mut bad = good.clone();
    let file = &good[path];
    let (touched, what) = match dice.below(8) {
        0 if !is_withheld(path, file) => {
            bad.remove(path);
            (vec![path.clone()], "deleted")
        }
        0 | 1 => {
            let other = *dice.pick(&paths);
            bad.insert(path.clone(), good[other].clone());
            bad.insert(other.clone(), file.clone());
            (vec![path.clone(), other.clone()], "two files swapped")
        }
        2 => {
            let name = format!("{path}{}", dice.pick(&["0", ".p/1", "~", "/1"]));
            bad.insert(name.clone(), file.clone());
            (vec![name], "a file doubled")
        }
        3 | 4 => match pieces(path, file) {
            Some(pieces) => {
                let (bytes, what) = shuffled(pieces, dice);
                bad.insert(path.clone(), Arc::new(bytes));
                (vec![path.clone()], what)
            }
            None => {
                let (bytes, what) = spoiled(file, dice);
                bad.insert(path.clone(), Arc::new(bytes));
                (vec![path.clone()], what)
            }
        },
        _ => {
            let (bytes, what) = spoiled(file, dice);
            bad.insert(path.clone(), Arc::new(bytes));
            (vec![path.clone()], what)
        }
    };
    (bad != *good).then_some((bad, touched, what))
}

/// Whether the first thing that the report complains of lies in one of these files.
fn names(report: &Report, touched: &[String]) -> bool {
    let worst = report.findings.iter().map(|f| f.verdict).max();
    let Some(first) = report.findings.iter().find(|f| Some(f.verdict) == worst) else { return false };
    let in_bundle = |path: &String, index: u64| {
        // The entries of bundle N are 256·N and on; tile N of the lowest level holds their hashes.
        let number = path.strip_prefix("tile/entries/").or_else(|| path.strip_prefix("tile/0/"));
        let number = number.and_then(|number| number.split(".p/").next()?.parse::<u64>().ok());
        number.is_some_and(|number| index / 256 == number)
    };
    let file = first.place.file.as_ref();
    file.is_some_and(|file| touched.contains(file))
        || first.place.entry.is_some_and(|index| touched.iter().any(|path| in_bundle(path, index)))
        // An older checkpoint in the newest's place is named by the published one that is newer.
        || (first.code.as_str() == "rolled-back" && touched.iter().any(|path| path == "checkpoint"))
        // A payload that is gone is named by the entry that refers to it.
        || (first.code.as_str() == "required-attested" && touched.iter().any(|path| path.starts_with("payload/")))
}

fn count(otherwise: usize) -> usize {
    std::env::var("COUNTERSIGN_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// Runs `check` for each number, on all cores.
fn each(count: usize, check: impl Fn(u64) + Sync) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let check = &check;
            scope.spawn(move || (worker..count).step_by(workers).for_each(|n| check(n as u64)));
        }
    });
}

#[test]
fn every_fault_in_an_export_is_found_and_named() {
    let evidence = Evidence::load();
    let good = evidence.log(evidence.export.clone());
    assert_eq!(good.verdict, Verdict::Proven, "{good}");
    let count = count(400);
    each(count, |seed| {
        let mut dice = Dice(seed);
        let Some((bad, touched, what)) = fault(&evidence.export, &mut dice) else { return };
        let begun = Instant::now();
        let report = evidence.log(bad);
        assert!(begun.elapsed() < Duration::from_secs(10), "seed {seed}: {what} in {touched:?} took too long");
        assert_ne!(report.exit, 0, "seed {seed}: {what} in {touched:?} is not found");
        assert!(names(&report, &touched), "seed {seed}: {what} in {touched:?} is found elsewhere: {report}");
    });
    println!("{count} faults in an export of {} files", evidence.export.len());
}

#[test]
fn every_fault_in_a_cosignature_is_found() {
    let evidence = Evidence::load();
    let witness = CosignerKey::generate_from_seed("witness.example/faults", &[9; 32]).unwrap();
    let policy = format!("log {}\nwitness w {}\ngroup g all w\nquorum g\n", evidence.key, witness.verifier());
    let head = &evidence.export["checkpoint"];
    let mut note = Note::parse(head).unwrap();
    note.signatures.push(witness.cosign(&note.text, 1_763_931_600));
    let cosigned = note.encode().unwrap();
    let line = cosigned.strip_prefix(head.as_slice()).unwrap();
    let check = |line: &[u8]| {
        let mut export = evidence.export.clone();
        export.insert("checkpoint".into(), Arc::new([head.as_slice(), line].concat()));
        let options =
            Options { policy: Some(Policy::decode(policy.as_bytes()).unwrap()), ..Options::new(evidence.key.clone()) };
        log::check(&Export::of(Memory(export)), &options, &mut (), |_, _| {})
    };
    assert_eq!(check(line).exit, 0);
    each(count(400) / 4, |seed| {
        let (bad, what) = spoiled(line, &mut Dice(seed));
        if bad == line {
            return;
        }
        let begun = Instant::now();
        let report = check(&bad);
        assert!(begun.elapsed() < Duration::from_secs(10), "seed {seed}: {what} took too long");
        assert_ne!(report.exit, 0, "seed {seed}: {what} is not found");
        assert!(names(&report, &["checkpoint".to_owned()]), "seed {seed}: {what} is found elsewhere: {report}");
    });
}

#[test]
fn every_fault_in_what_was_delivered_is_found() {
    let evidence = Evidence::load();
    let keys = Epochs::single(evidence.key.clone());
    let receipt = fs::read(evidence.dir.with_extension("receipt")).unwrap();
    let parts = [evidence.dir.with_extension("arrows")];
    let chunk = |parts: &[PathBuf], receipt: &[u8]| single::chunk(parts, ("receipt", receipt), &keys, None);
    assert_eq!(chunk(&parts, &receipt).exit, 0);
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(5);
    for run in 0..count(400) / 2 {
        let begun = Instant::now();
        match dice.below(3) {
            0 => {
                let at = dice.below(parts.len());
                let (bad, what) = spoiled(&fs::read(&parts[at]).unwrap(), &mut dice);
                if bad == fs::read(&parts[at]).unwrap() {
                    continue;
                }
                let mut with = parts.to_vec();
                with[at] = dir.path().join("part");
                fs::write(&with[at], bad).unwrap();
                assert_ne!(chunk(&with, &receipt).exit, 0, "run {run}: {what} in part {at}");
            }
            1 => {
                let mut with = parts.to_vec();
                let at = dice.below(parts.len());
                if dice.below(2) == 0 {
                    drop(with.remove(at))
                } else {
                    with.insert(at, parts[at].clone())
                }
                assert_ne!(chunk(&with, &receipt).exit, 0, "run {run}: a part more or less");
            }
            _ => {
                let (bad, what) = spoiled(&receipt, &mut dice);
                if bad == receipt {
                    continue;
                }
                // What the receipt carries beside its proof counts in the check of a chunk alone.
                let all = [single::receipt("receipt", &bad, &keys), chunk(&parts, &bad)];
                assert!(all.iter().any(|report| report.exit != 0), "run {run}: {what} in the receipt");
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "run {run} took too long");
    }
}
