//! `kill -9` under load: a process that appends from several threads is killed, the ledger is opened again, and every entry that
//! was answered for is there. Each answer is on a pipe before the next append, so the parent knows what was promised.

use super::*;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

const CHILD: &str = "COUNTERSIGN_TEST_KILLED";

/// How many times; a target of its own runs more.
fn kills() -> u64 {
    std::env::var("COUNTERSIGN_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8)
}

fn child(dir: &Path, run: u64) {
    let ledger = Ledger::open(&options_in(dir)).unwrap();
    assert_eq!(ledger.read_only(), None);
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let ledger = &ledger;
            scope.spawn(move || {
                for n in 0.. {
                    let n = run << 32 | thread << 28 | n;
                    let first = ledger.append(received(n)).unwrap();
                    let last =
                        ledger.append(Append::following(request_trace(n), first.head(), vec![verified()])).unwrap();
                    for durable in [first.last(), last.last()] {
                        // One write a line, so that lines of several threads do not mix.
                        let line = format!("\nanswered {} {}\n", durable.index(), durable.leaf());
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn what_was_answered_survives_kill_9() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let run = std::env::var("COUNTERSIGN_TEST_RUN").unwrap().parse().unwrap();
        return child(Path::new(&dir), run);
    }
    let place = Place::new();
    drop(place.create());
    let (mut answered, mut repaired) = (HashMap::new(), 0);
    for run in 1..=kills() {
        let mut fresh = vec![];
        let mut killed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::kills::what_was_answered_survives_kill_9", "--nocapture"])
            .env(CHILD, place.dir.path())
            .env("COUNTERSIGN_TEST_RUN", run.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut take = |line: String| {
            let mut words = line.split(' ');
            // The last line may be cut short, and then says nothing.
            if let (Some("answered"), Some(index), Some(leaf)) = (words.next(), words.next(), words.next())
                && let (Ok(index), Ok(leaf)) = (index.parse::<u64>(), Hash::from_hex(leaf))
            {
                assert!(answered.insert(index, leaf).is_none(), "index {index} was given twice");
                fresh.push(index);
            }
        };
        // Under load, then a little later each time.
        lines.by_ref().find(|line| line.starts_with("answered")).into_iter().for_each(&mut take);
        thread::sleep(Duration::from_millis(37 * run % 230));
        killed.kill().unwrap();
        lines.for_each(&mut take);
        killed.wait().unwrap();

        let ledger = place.open();
        assert_eq!(ledger.read_only(), None, "run {run}");
        repaired += u64::from(ledger.opening().repaired.is_some());
        // What this run was promised, each time; all that was ever promised, and the whole ledger, now and then.
        let whole = run == kills() || run % 100 == 0;
        let promised: Vec<u64> = if whole { answered.keys().copied().collect() } else { fresh };
        for index in promised {
            let bytes = ledger.entry_bytes(index).unwrap().unwrap_or_else(|| panic!("entry {index} is lost"));
            assert_eq!(leaf_hash(&bytes), answered[&index], "entry {index} is another one");
        }
        if whole {
            verify(&ledger);
        }
    }
    judged::fsck("what_was_answered_survives_kill_9", &place);
    assert!(answered.len() as u64 > kills() * 4, "{} answers: there was no load", answered.len());
    println!("{} kills, {} entries answered for, {repaired} groups found unsigned", kills(), answered.len());
}
