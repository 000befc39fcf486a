//! Faults on the append path, each followed by opening again and verifying the whole ledger: nothing answered is lost, nothing
//! stands twice, nothing published that the entries do not give.

use super::*;
use crate::{
    store::{
        db::{Db, Family, tile_key},
        shared::{Point, lock},
    },
    tlog::{TileId, TileReader},
};
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Every write of the append path, failing before it and failing although it was done.
#[test]
fn whatever_fails_the_answered_stays_and_the_rest_is_whole() {
    let points = [
        Point::BeforeBatch,
        Point::AfterBatch,
        Point::BeforeHead,
        Point::AfterHead,
        Point::BeforePublish,
        Point::AfterPublish,
    ];
    for point in points {
        for after in [0usize, 1, 5] {
            let place = Place::new();
            let ledger = place.create();
            let passed = AtomicUsize::new(0);
            *lock(&ledger.shared().fault) = Some(Box::new(move |at, _| {
                // Publishing happens once a second: its first time has to do.
                let publishing = matches!(point, Point::BeforePublish | Point::AfterPublish);
                if at == point && (publishing || passed.fetch_add(1, Relaxed) == after) {
                    return Err(StoreError::Damaged(format!("failed at {point:?}")));
                }
                Ok(())
            }));
            let (fatal, fatals) = std::sync::mpsc::channel();
            ledger.on_fatal(move |reason| fatal.send(reason.to_owned()).unwrap());

            let started = Instant::now();
            let mut answered = vec![];
            let mut n = 0;
            let stopped = loop {
                assert!(started.elapsed() < Duration::from_secs(20), "{point:?} never came");
                match ledger.append(received(n)) {
                    Ok(appended) => answered.push((n, appended)),
                    Err(AppendError::Stopped(reason)) => break reason,
                    Err(e) => panic!("{e}"),
                }
                n += 1;
            };
            let expect = format!("the store is damaged: failed at {point:?}");
            assert_eq!((&stopped, ledger.fatal().as_ref()), (&expect, Some(&expect)));
            assert_eq!(fatals.recv().unwrap(), expect);
            let (again, agains) = std::sync::mpsc::channel();
            ledger.on_fatal(move |reason| again.send(reason.to_owned()).unwrap());
            assert_eq!(agains.recv().unwrap(), expect, "told too late");
            assert!(matches!(ledger.append(received(n)), Err(AppendError::Stopped(reason)) if reason == expect));
            // What is signed can still be read.
            for (n, appended) in &answered {
                assert_eq!(
                    ledger.entry(appended.last().index().get()).unwrap().as_ref(),
                    Some(appended.last().entry())
                );
                assert_eq!(ledger.trace(&request_trace(*n)).unwrap().unwrap().head, appended.head());
            }
            drop(ledger);

            let ledger = place.open();
            assert_eq!(ledger.read_only(), None, "{point:?}");
            let repaired = matches!(point, Point::AfterBatch | Point::BeforeHead);
            assert_eq!(ledger.opening().repaired.is_some(), repaired, "{point:?}");
            let entries = verify(&ledger);
            for (_, appended) in &answered {
                assert_eq!(entries[appended.last().index().get() as usize], *appended.last().entry());
            }
            let unanswered = entries.len() - 1 - answered.len();
            assert!(unanswered <= 1, "{point:?}: {unanswered} entries that nobody was answered for");
            let (n, appended) = (answered.len() as u64, answered.first());
            ledger.append(received(n + 100)).unwrap();
            if let Some((n, appended)) = appended {
                let next = Append::following(request_trace(*n), appended.head(), vec![verified()]);
                ledger.append(next).unwrap();
            }
            verify(&ledger);
            ledger.close();
            if after == 5 {
                judged::fsck("whatever_fails_the_answered_stays_and_the_rest_is_whole", &place);
            }
        }
    }
}

/// A ledger of 301 entries; at the next group, `change` falls between writing and reading back.
fn tampered(change: impl Fn(&Db) + Send + 'static) -> String {
    let place = Place::new();
    let ledger = place.create();
    let (answer, answers) = std::sync::mpsc::channel();
    for n in 0..300 {
        let answer = answer.clone();
        ledger.append_with(rejected(n), move |result| answer.send(result.is_ok()).unwrap());
    }
    assert!(answers.iter().take(300).all(|ok| ok));
    let head = std::fs::read(place.path("HEAD")).unwrap();
    *lock(&ledger.shared().fault) = Some(Box::new(move |point, db| {
        if point == Point::AfterBatch {
            change(db);
        }
        Ok(())
    }));
    let Err(AppendError::Stopped(reason)) = ledger.append(rejected(300)) else { panic!("signed over a flipped bit") };
    assert_eq!(std::fs::read(place.path("HEAD")).unwrap(), head, "`HEAD` was written");
    assert_eq!(ledger.size().get(), 301);
    drop(ledger);
    // Nor does opening sign over it.
    let ledger = place.open();
    assert!(ledger.read_only().is_some());
    assert_eq!(std::fs::read(place.path("HEAD")).unwrap(), head);
    reason
}

fn flip(db: &Db, family: Family, key: &[u8], at: usize) {
    let mut bytes = db.get(family, key).unwrap().unwrap();
    bytes[at] ^= 0x40;
    let mut batch = db.batch();
    batch.put(family, key, &bytes).unwrap();
    batch.write().unwrap();
}

#[test]
fn a_flipped_bit_stops_signing_and_names_the_place() {
    let check = |expect: &str, change: fn(&Db)| {
        let reason = tampered(change);
        assert!(reason.contains(expect), "{reason}");
    };
    check("entry 301 hashes to ", |db| flip(db, Family::Entry, &301u64.to_be_bytes(), 10));
    check("entry 301 hashes to ", |db| flip(db, Family::Tile, &tile_key(TileId { level: 0, index: 1 }), 45 * 32));
    // Not of this group, yet what the root stands on.
    check("entry 300 hashes to ", |db| flip(db, Family::Tile, &tile_key(TileId { level: 0, index: 1 }), 44 * 32 + 5));
    check("hash 0 of `tile/1/000` is ", |db| flip(db, Family::Tile, &tile_key(TileId { level: 1, index: 0 }), 0));
    check("wrong length of `tile/0/001.p/46`: found 1440 bytes, required 1472", |db| {
        let mut batch = db.batch();
        let shorter = db.tile(0, 1, 45).unwrap()[..45 * 32].to_vec();
        batch.put(Family::Tile, &tile_key(TileId { level: 0, index: 1 }), &shorter).unwrap();
        batch.write().unwrap();
    });
}

/// The frontier in memory goes wrong: the store is right, and is not signed under another root.
#[test]
fn entry_and_tile_that_agree_on_another_entry_are_not_signed() {
    let reason = tampered(|db| {
        let mut entry = db.entry(301).unwrap();
        let at = entry.windows(5).position(|w| w == b"kafka").unwrap();
        entry[at] = b'K';
        let mut tile = db.tile(0, 1, 46).unwrap();
        tile[45 * 32..].copy_from_slice(leaf_hash(&entry).as_bytes());
        let mut batch = db.batch();
        batch.put(Family::Entry, &301u64.to_be_bytes(), &entry).unwrap();
        batch.put(Family::Tile, &tile_key(TileId { level: 0, index: 1 }), &tile).unwrap();
        batch.write().unwrap();
    });
    assert!(reason.contains("at size 302 the stored tiles come to the root "), "{reason}");
}

#[test]
fn a_panic_of_the_committer_answers_everybody() {
    let place = Place::new();
    let ledger = place.create();
    *lock(&ledger.shared().fault) = Some(Box::new(|point, _| match point {
        Point::AfterBatch => panic!("on purpose"),
        _ => Ok(()),
    }));
    let (answer, answers) = std::sync::mpsc::channel();
    for n in 0..10 {
        let answer = answer.clone();
        ledger.append_with(rejected(n), move |result| answer.send(result.is_err()).unwrap());
    }
    assert!(answers.iter().take(10).all(|err| err));
    let deadline = Instant::now() + Duration::from_secs(10);
    while ledger.fatal().is_none() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(ledger.fatal().as_deref(), Some("the committer panicked"));
    drop(ledger);
    verify(&place.open());
}
