//! What is left of RocksDB's log after a crash or a damage, and what opening makes of it: a tail cut off is dropped, which `HEAD` then
//! judges; everything else refuses to open. `docs/decisions/0006` rests on these.

use super::*;
use crate::store::{
    db::Family,
    shared::{Point, lock},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Copies a folder of plain files.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// The log files, the oldest first, without the empty ones.
fn logs(db: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(db).unwrap().map(|file| file.unwrap().path());
    let mut logs: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "log")).collect();
    logs.retain(|log| fs::metadata(log).unwrap().len() > 0);
    logs.sort();
    logs
}

/// A ledger of 21 entries as `kill -9` leaves it: the store's files and `HEAD`, taken while it runs, all of it in the log. Where
/// `two`, the log's first half is in a file of its own that is still needed.
fn killed(two: bool) -> Place {
    let (running, place) = (Place::new(), Place::new());
    let ledger = running.create();
    for n in 0..20 {
        ledger.append(rejected(n)).unwrap();
        if two && n == 9 {
            ledger.shared().db.flush_one(Family::Tile);
        }
    }
    copy(&running.path("db"), &place.path("db"));
    copy(&running.path("keyring"), &place.path("keyring"));
    fs::copy(running.path("HEAD"), place.path("HEAD")).unwrap();
    assert_eq!(logs(&place.path("db")).len(), if two { 2 } else { 1 });
    place
}

fn cut(log: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(log).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

fn flip(log: &Path, part: f64) {
    let mut bytes = fs::read(log).unwrap();
    let at = (bytes.len() as f64 * part) as usize;
    bytes[at] ^= 0x10;
    fs::write(log, bytes).unwrap();
}

fn refused(place: &Place) -> String {
    Ledger::open(&place.options()).err().expect("opened").to_string()
}

#[test]
fn a_killed_process_loses_nothing() {
    for two in [false, true] {
        let ledger = killed(two).open();
        assert_eq!((ledger.read_only(), ledger.size().get()), (None, 21));
        verify(&ledger);
    }
}

#[test]
fn a_cut_tail_that_was_answered_for_opens_read_only() {
    let place = killed(false);
    cut(&logs(&place.path("db"))[0], 3);
    let ledger = place.open();
    let reason = ledger.read_only().expect("opened for appending");
    assert!(
        reason.contains("the store holds 20 entries, `HEAD` names 21: 1 entries that were answered for"),
        "{reason}"
    );
}

#[test]
fn a_cut_tail_that_nobody_was_answered_for_is_dropped() {
    let running = Place::new();
    let ledger = running.create();
    (0..20).for_each(|n| drop(ledger.append(rejected(n)).unwrap()));
    // The next group is written and not signed: the process stopped in the midst of writing it, as far as the copy tells.
    *lock(&ledger.shared().fault) = Some(Box::new(|point, _| match point {
        Point::AfterBatch => Err(StoreError::Damaged("stopped for the test".into())),
        _ => Ok(()),
    }));
    assert!(ledger.append(rejected(20)).is_err());
    for bytes in [1, 40, 400] {
        let place = Place::new();
        copy(&running.path("db"), &place.path("db"));
        copy(&running.path("keyring"), &place.path("keyring"));
        fs::copy(running.path("HEAD"), place.path("HEAD")).unwrap();
        cut(&logs(&place.path("db"))[0], bytes);
        let ledger = place.open();
        assert_eq!((ledger.read_only(), ledger.size().get()), (None, 21), "{bytes} bytes cut off");
        verify(&ledger);
        ledger.append(rejected(20)).unwrap();
        verify(&ledger);
    }
}

#[test]
fn damage_before_the_tail_refuses_to_open() {
    for part in [0.1, 0.5, 0.9] {
        let place = killed(false);
        flip(&logs(&place.path("db"))[0], part);
        let error = refused(&place);
        assert!(error.contains("cannot open the database") && error.contains("orrupt"), "at {part}: {error}");
    }
}

#[test]
fn an_older_log_has_no_tail_to_lose() {
    let check = |damage: &dyn Fn(&Path)| {
        let place = killed(true);
        damage(&logs(&place.path("db"))[0]);
        let error = refused(&place);
        assert!(error.contains("cannot open the database"), "{error}");
    };
    check(&|log| cut(log, 3));
    check(&|log| cut(log, 2_000));
    check(&|log| fs::remove_file(log).unwrap());
    check(&|log| flip(log, 0.5));
}
