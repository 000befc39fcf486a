//! What keeps a ledger (its key replaced, payloads purged, a backup taken), killed at a call that puts something on the disk. Whatever was
//! done by then, the same command again carries it to its end, and nothing is lost that was to stay.

use super::{
    crashes::{KILLED, strace},
    purging::{day_in, kept_for, request},
    *,
};
use std::{fs, path::Path, process::Command};

const CHILD: &str = "COUNTERSIGN_TEST_INTERRUPTED";

fn next() -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[8; 32]).unwrap()
}

fn act(dir: &Path, what: &str) -> Result<(), StoreError> {
    if what == "rotate" {
        return Ledger::rotate(&options_in(dir), &next()).map(drop);
    }
    let ledger = Ledger::open(&options_in(dir))?;
    let done = match what {
        "purge" => ledger.purge(&kept_for(1), day_in(2)).map(drop),
        _ => ledger.backup(&dir.join("backup")).map(drop),
    };
    ledger.close();
    done
}

/// A ledger whose day is due, but for one request that is held.
struct Due {
    place: Place,
    held: Payload,
    due: Vec<Payload>,
}

impl Due {
    fn new() -> Self {
        let place = Place::new();
        let ledger = place.create();
        let due = (0..3).map(|n| request(&ledger, n, b"due")).collect();
        let held = request(&ledger, 3, b"held");
        ledger.hold(&[request_trace(3)], "a lawsuit").unwrap();
        ledger.close();
        Self { place, held, due }
    }

    /// Runs the child, killed at its `n`th such call; gives whether it was.
    fn killed(&self, what: &str, call: &str, n: usize) -> bool {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={n}"));
        let status = Command::new("strace")
            .args(["-f", "-q", "-o", "/dev/null", "-e", &trace, "-e", &inject])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::interrupted::whatever_is_interrupted_is_carried_to_its_end",
                "--nocapture",
            ])
            .env(CHILD, format!("{what} {}", self.place.dir.path().display()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        match status.code() {
            None | Some(KILLED) => true,
            Some(0) => false,
            Some(code) => panic!("{what} at {call} {n}: ended with {code}"),
        }
    }

    /// What the same command comes to, and what is there then.
    fn carry_on(&self, what: &str, row: &str) {
        let place = &self.place;
        let whole = place.path("backup").exists();
        match act(place.dir.path(), what) {
            Err(StoreError::Exists(_)) if whole => (),
            done => done.unwrap_or_else(|e| panic!("{row}: {e}")),
        }
        if what == "backup" {
            fs::remove_dir_all(place.path("db")).unwrap();
            Ledger::restore(&place.options(), &place.path("backup"), None).unwrap_or_else(|e| panic!("{row}: {e}"));
        }
        let signer = if what == "rotate" { next() } else { signer() };
        let ledger = Ledger::open(&Options { signer, ..place.options() }).unwrap();
        assert_eq!(ledger.read_only(), None, "{row}");
        verify(&ledger);
        assert_eq!(ledger.payload(&self.held.commitment()).unwrap().as_ref(), Some(&self.held), "{row}");
        for due in &self.due {
            let found = ledger.payload(&due.commitment()).unwrap();
            assert_eq!(found.as_ref(), (what != "purge").then_some(due), "{row}");
        }
        assert!(!place.path("keyring/master.key.next").exists(), "{row}");
        let keys = ledger.shared().vault.keyring().keys().unwrap();
        assert_eq!(keys.iter().filter(|id| id.class == Class::Request).count(), 1, "{row}");
        if what == "rotate" {
            let rotated = |entry: &Entry| matches!(entry.body, Step::LogKeyRotated(_));
            let count = (0..ledger.size().get()).filter(|n| rotated(&ledger.entry(*n).unwrap().unwrap())).count();
            assert_eq!((count, ledger.epochs().iter().count()), (1, 2), "{row}");
        }
        ledger.append(rejected(1)).unwrap();
        ledger.close();
    }
}

/// `COUNTERSIGN_TEST_CALLS=40` tries every one of the first 40 calls.
#[test]
fn whatever_is_interrupted_is_carried_to_its_end() {
    if let Ok(order) = std::env::var(CHILD) {
        let (what, dir) = order.split_once(' ').unwrap();
        return act(Path::new(dir), what).unwrap();
    }
    if !strace("whatever_is_interrupted_is_carried_to_its_end") {
        return;
    }
    let upto: Option<usize> = std::env::var("COUNTERSIGN_TEST_CALLS").ok().and_then(|n| n.parse().ok());
    let mut killed = 0;
    for (what, least) in [("rotate", 5), ("purge", 12), ("backup", 4)] {
        let before = killed;
        for call in ["fsync", "fdatasync", "rename", "unlink", "link", "write", "pwrite64"] {
            // A few of each, closer together where most happens.
            let all: Vec<usize> = upto.map_or_else(|| vec![1, 2, 4, 7, 12, 20, 32], |upto| (1..=upto).collect());
            for n in all {
                let (row, due) = (format!("{what}, killed at {call} {n}"), Due::new());
                if !due.killed(what, call, n) {
                    break;
                }
                killed += 1;
                due.carry_on(what, &row);
            }
        }
        assert!(killed - before >= least, "{what} was killed {} times", killed - before);
    }
}
