//! What the holder of the ledger's key could do, and what he is found out by. [`forge`] writes ledgers without any of the code
//! under test, [`tale`] tells true stories, [`lies`] breaks one rule of them each.
//!
//! `COUNTERSIGN_LIES` says how many lies and rewritten histories are tried, `COUNTERSIGN_ENTRIES` how many entries of true
//! stories; `make test-faults` tries many.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking, in its helpers too"
)]

mod forge;
mod lies;
mod tale;

use forge::{Hash, J, Ledger, checkpoint, cosignature, log_key, put, witness_key};
use lies::LIES;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use tale::{Ask, CALLERS, Dice, FATES, Tale};

fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn log(dir: &Path, more: &[&str]) -> (u8, Value) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let key = log_key().0;
    let args = ["countersign-verify", "log", dir.to_str().unwrap(), "--key", &key, "--json"];
    let exit = countersign_verify::run(args.iter().chain(more), &mut out, &mut err);
    (exit, serde_json::from_slice(&out).unwrap_or_default())
}

/// The codes of the findings that say "broken".
fn broken(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().filter(|f| f["verdict"] == "broken").filter_map(|f| f["code"].as_str()).collect()
}

fn written(tale: &Tale, dir: &Path) -> Ledger {
    let mut ledger = Ledger::new(dir);
    tale.write(&mut ledger);
    ledger.finish();
    ledger
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
fn true_tales_are_proven() {
    each(setting("COUNTERSIGN_LIES", 200) / 10, |seed| {
        let dir = tempfile::tempdir().unwrap();
        let tale = Tale::random(seed);
        written(&tale, dir.path());
        let (exit, report) = log(dir.path(), &[]);
        assert_eq!(exit, 0, "seed {seed}: {report:#}");
        let claims = &report["story"]["claims"];
        let attested = tale.asks.iter().filter(|ask| ask.fate == "attested").count();
        assert_eq!(claims["kinds"]["caller-signatures"]["attested"], attested, "seed {seed}");
        assert_eq!(claims["kinds"]["admin-signatures"]["attested"], 0, "seed {seed}");
        assert_eq!(claims["kinds"]["approval-signatures"]["attested"], 0, "seed {seed}");
    });
}

#[test]
fn every_lie_is_found() {
    let count = setting("COUNTERSIGN_LIES", LIES.len());
    each(count, |seed| {
        let lie = &LIES[seed as usize % LIES.len()];
        let (mut dice, mut tale) = (Dice(!seed), Tale::random(seed));
        let asks: Vec<Ask> = tale.asks.iter().filter(|a| a.fate == lie.fate && a.caller != "leaver").cloned().collect();
        let ask = asks[dice.below(asks.len())].clone();
        (lie.tell)(&mut tale, &ask, &mut dice);
        let dir = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        written(&tale, dir.path());
        let (exit, report) = log(dir.path(), &[]);
        assert!(begun.elapsed() < Duration::from_secs(10), "seed {seed}: {}", lie.name);
        let what = || format!("seed {seed}, `{}` in {} by {}", lie.name, ask.name, ask.caller);
        assert_eq!(exit, 1, "{}: {report:#}", what());
        assert!(broken(&report).contains(&lie.code), "{}: not `{}` but {:#}", what(), lie.code, report["findings"]);
    });
    println!("{count} stories that break a rule, of {} kinds", LIES.len());
}

#[test]
fn the_lies_are_of_every_kind() {
    let told: BTreeSet<&str> = LIES.iter().map(|lie| lie.code).collect();
    assert!(told.len() >= 48, "{} kinds of findings: {told:?}", told.len());
    let mut names: Vec<(&str, &str)> = LIES.iter().map(|lie| (lie.fate, lie.name)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), LIES.len(), "two lies of one name");
}

#[test]
fn every_type_of_entry_is_told() {
    let formats = include_str!("../../../docs/formats.md");
    let types = formats.split("**`").skip(1).filter_map(|text| text.split_once("`**"));
    let types: BTreeSet<&str> = types.map(|(kind, _)| kind).filter(|kind| kind.contains('.')).collect();
    let mut told: BTreeSet<&str> = Tale::random(1).events.iter().map(|event| event.kind).collect();
    // Of a key that was replaced only lies are told here: its true story is in `tests/verify/forks.rs`.
    told.insert("log.key_rotated");
    assert_eq!(told, types);
}

/// Another history under the same key: one that is true to every rule, and that is not what was signed before. Gives it, and
/// the index of the first entry that differs.
fn rewritten(tale: &Tale, dice: &mut Dice) -> (Tale, usize) {
    let mut other = tale.clone();
    match dice.below(4) {
        // A story is taken out of the world.
        0 | 1 => {
            let gone = tale.asks[dice.below(tale.asks.len())].name.clone() + "/";
            let first = tale.events.iter().position(|e| e.label.starts_with(&gone)).unwrap();
            other.events.retain(|e| !e.label.starts_with(&gone));
            (other, first)
        }
        // Everything from here on happened a little later.
        2 => {
            let at = dice.below(tale.events.len());
            other.events[at].after += 1;
            (other, at)
        }
        // The end is forgotten.
        _ => {
            let at = tale.events.len() / 2 + dice.below(tale.events.len() / 2);
            other.events.truncate(at);
            (other, at)
        }
    }
}

#[test]
fn another_history_is_found_by_one_older_checkpoint() {
    each(setting("COUNTERSIGN_LIES", 60) / 2, |seed| {
        let (mut dice, tale) = (Dice(seed ^ 0xf0f0), Tale::random(seed));
        let (dir, again, old) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut ledger = Ledger::new(dir.path());
        ledger.publish_every = 1;
        tale.write(&mut ledger);
        ledger.finish();
        let (other, first) = rewritten(&tale, &mut dice);
        let size = written(&other, again.path()).size();
        // By itself it looks as good as the true one.
        let (exit, report) = log(again.path(), &[]);
        assert_eq!(exit, 0, "seed {seed}: {report:#}");
        // Any checkpoint that covers what differs will do.
        let kept: &[(u64, Hash)] = &ledger.published[first..];
        let (kept_size, kept_root) = dice.pick(kept);
        let path = old.path().join("checkpoint");
        put(&path, checkpoint(kept_size, kept_root));
        let (exit, report) = log(again.path(), &["--since", path.to_str().unwrap()]);
        let code = if kept_size > size { "rolled-back" } else { "fork" };
        assert_eq!((exit, broken(&report)), (1, vec![code]), "seed {seed}, {kept_size} of {size}: {report:#}");
        assert_eq!(report["findings"][0]["file"], path.to_str().unwrap(), "seed {seed}");
    });
}

#[test]
fn another_history_is_found_by_a_witness() {
    each(setting("COUNTERSIGN_LIES", 60) / 2, |seed| {
        let (mut dice, tale) = (Dice(seed ^ 0x0f0f), Tale::random(seed));
        let (dir, again, desk) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        written(&tale, dir.path());
        written(&rewritten(&tale, &mut dice).0, again.path());
        let policy = desk.path().join("policy");
        let (log_key, witness) = (log_key().0, witness_key().0);
        put(&policy, format!("log {log_key}\nwitness w {witness}\ngroup g all w\nquorum g\n"));
        let asked = |dir: &Path| log(dir, &["--policy", policy.to_str().unwrap()]);
        let head = |dir: &Path| std::fs::read_to_string(dir.join("checkpoint")).unwrap();
        // The witness has seen the true history, and it alone.
        let line = cosignature(&head(dir.path()));
        put(&dir.path().join("checkpoint"), head(dir.path()) + &line);
        let (exit, report) = asked(dir.path());
        assert_eq!(exit, 0, "seed {seed}: {report:#}");
        // Nobody cosigned the other, and the line of the true one doesn't fit it.
        let (exit, report) = asked(again.path());
        assert_eq!((exit, &report["findings"][0]["code"]), (3, &"witness-quorum".into()), "seed {seed}: {report:#}");
        put(&again.path().join("checkpoint"), head(again.path()) + &line);
        let (exit, report) = asked(again.path());
        assert_eq!((exit, broken(&report)), (1, vec!["cosignature"]), "seed {seed}: {report:#}");
    });
}

#[test]
fn consistent_lies_are_the_services_word() {
    let attested = |tale: &Tale, what: &str, more: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        written(tale, dir.path());
        let (exit, report) = log(dir.path(), more);
        let kinds = &report["story"]["claims"]["kinds"][what];
        (exit, kinds["proven"].as_u64().unwrap(), kinds["attested"].as_u64().unwrap())
    };
    let tale = Tale::random(7);
    // A false mask account: columns that were decided, and numbers that nobody can check.
    let mut false_account = tale.clone();
    let masked = false_account.event("delivered0/masked-1");
    match masked.get("columns") {
        J::List(columns) => {
            let J::Object(members) = &mut columns[1] else { panic!("no column") };
            *members.iter_mut().find(|(name, _)| *name == "changed").map(|(_, value)| value).unwrap() = J::Int(0);
        }
        other => panic!("{other:?}"),
    }
    let (exit, proven, count) = attested(&false_account, "mask-accounts", &[]);
    assert_eq!((exit, proven), (0, 0));
    assert_eq!(count, attested(&tale, "mask-accounts", &[]).2);
    // A request that nobody made, at a door where the service vouches for its callers.
    let mut invented = tale.clone();
    let ask = Ask { name: "invented".into(), fate: "attested", ..tale.asks[0].clone() };
    invented.events.extend(ask.story());
    let before = attested(&tale, "caller-signatures", &[]);
    assert_eq!(attested(&invented, "caller-signatures", &[]), (0, before.1, before.2 + 1));
    assert_eq!(attested(&invented, "caller-signatures", &["--require", "caller-signatures"]).0, 3);
    // Both stand in the threat model.
    let model = include_str!("../../../docs/threat-model.md");
    for lie in ["a false mask account", "a request that nobody made"] {
        assert!(model.contains(lie), "the threat model says nothing of {lie}");
    }
}

#[test]
fn no_false_alarm() {
    let entries = setting("COUNTERSIGN_ENTRIES", 20_000) as u64;
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(dir.path());
    ledger.publish_every = 10_000;
    let (mut dice, mut tale) = (Dice(entries), Tale::beginning(&["root"]));
    tale.write(&mut ledger);
    let mut told = 0;
    while ledger.size() < entries {
        // The signatures of the first stories are checked, and then only their order: a file for each of a million payloads
        // would test the file system.
        ledger.payloads = told < 500;
        let asks: Vec<Ask> = (0..16)
            .map(|n| {
                let mut ask = Tale::ask(&mut dice, format!("{}", told + n), FATES[(told + n) % FATES.len()]);
                ask.caller = CALLERS[(told + n) % CALLERS.len()];
                ask
            })
            .collect();
        told += asks.len();
        tale.events.clear();
        tale.weave(&mut dice, asks.iter().map(Ask::story).collect());
        // All of it within the hour for which a request is valid.
        tale.events.iter_mut().for_each(|event| event.after = 0);
        tale.write(&mut ledger);
        ledger.labels.retain(|label, _| !label.contains('/'));
    }
    let (size, _) = ledger.finish();
    let begun = Instant::now();
    let (exit, report) = log(dir.path(), &[]);
    assert_eq!(exit, 0, "{:#}", report["findings"]);
    assert_eq!(report["log"]["size"], size);
    println!("{size} entries of true stories, judged in {:.1} s, 0 findings", begun.elapsed().as_secs_f64());
}
