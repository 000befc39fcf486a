//! Opening: each way in which store and `HEAD` can contradict each other has its sentence and opens read-only; the one legal gap
//! is closed; whatever isn't a ledger of ours isn't opened at all.

use super::*;
use crate::{
    store::{
        db::{Db, Family, Meta, tile_key},
        shared::{Point, lock},
    },
    tlog::{TileId, TileReader},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// Copies a folder of plain files.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// A ledger of `groups` groups of two entries after its first one, closed.
fn closed(place: &Place, groups: u64) {
    let ledger = place.create();
    grow(&ledger, 0..groups);
    ledger.close();
}

fn grow(ledger: &Ledger, groups: std::ops::Range<u64>) {
    for n in groups {
        let steps = [received(n).steps, vec![verified()]].concat();
        ledger.append(Append { steps, ..received(n) }).unwrap();
    }
}

/// Opens and expects a read-only ledger that says why, can still be read and cannot be appended to.
fn read_only(place: &Place, parts: &[&str]) -> Ledger {
    let ledger = place.open();
    let reason = ledger.read_only().expect("opened for appending");
    assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
    let Err(AppendError::ReadOnly(same)) = ledger.append(rejected(9_999)) else { panic!("appended") };
    assert_eq!((same, ledger.fatal()), (reason.clone(), None));
    assert!(ledger.opening().to_string().ends_with(&reason));
    assert!(ledger.entry(0).unwrap().is_some());
    ledger
}

/// Makes it as if nothing above that size had been published yet.
fn unpublish(store: &Path, above: u64) {
    let db = Db::open(store, false).unwrap();
    let sizes: Vec<_> = db.all(Family::Checkpoint).unwrap().map(|item| item.unwrap().0).collect();
    let above = above.to_be_bytes();
    sizes.iter().filter(|size| ***size > above[..]).for_each(|size| db.remove(Family::Checkpoint, size));
}

fn edit(place: &Place, change: impl FnOnce(&Db)) {
    let db = Db::open(&place.path("db"), false).unwrap();
    change(&db);
}

fn put(db: &Db, family: Family, key: &[u8], value: &[u8]) {
    let mut batch = db.batch();
    batch.put(family, key, value).unwrap();
    batch.write().unwrap();
}

/// Stops the ledger right after a batch was synced, before it is in `HEAD`: what a crash there leaves.
fn stop_after_batch(ledger: Ledger, append: Append) {
    *lock(&ledger.shared().fault) = Some(Box::new(|point, _| match point {
        Point::AfterBatch => Err(StoreError::Damaged("stopped for the test".into())),
        _ => Ok(()),
    }));
    assert!(matches!(ledger.append(append), Err(AppendError::Stopped(_))));
}

#[test]
fn a_store_ahead_by_one_group_is_verified_and_signed() {
    let place = Place::new();
    let ledger = place.create();
    grow(&ledger, 0..3);
    let steps = [received(7).steps, vec![verified(), denied()]].concat();
    let lost = Append { steps, ..received(7) };
    stop_after_batch(ledger, lost.clone());

    let ledger = place.open();
    assert_eq!(ledger.opening().repaired, Some((7, 10)));
    assert!(ledger.opening().to_string().contains("entries 7 to 9 synced and not yet signed"), "{}", ledger.opening());
    assert_eq!(verify(&ledger).len(), 10);
    // Its caller was told that the ledger stopped, and asks again.
    assert_eq!(ledger.append(lost).unwrap().last().index().get(), 9);
    ledger.append(rejected(1)).unwrap();
    ledger.close();
    let ledger = place.open();
    assert_eq!(ledger.opening().repaired, None);
    verify(&ledger);
}

#[test]
fn a_first_group_that_was_not_signed_is_signed() {
    let place = Place::new();
    closed(&place, 0);
    let head = fs::read(place.path("HEAD")).unwrap();
    // As a crash before the first write to `HEAD` leaves it, or in the midst of it.
    fs::write(place.path("HEAD"), vec![0; head.len()]).unwrap();
    assert_eq!(place.open().opening().repaired, Some((0, 1)));
    let mut torn = head;
    torn[20..].fill(0);
    fs::write(place.path("HEAD"), torn).unwrap();
    let ledger = place.open();
    assert_eq!((ledger.opening().repaired, ledger.opening().damaged_slots), (Some((0, 1)), 1));
    verify(&ledger);
}

#[test]
fn a_torn_write_of_head_leaves_the_other_slot() {
    let place = Place::new();
    closed(&place, 3);
    let head = fs::read(place.path("HEAD")).unwrap();
    // Groups were written to slots 0, 1, 0, 1: the newest is in the second.
    let mut torn = head.clone();
    torn[4096 + 60] ^= 1;
    fs::write(place.path("HEAD"), &torn).unwrap();
    let ledger = place.open();
    assert_eq!((ledger.opening().repaired, ledger.opening().damaged_slots), (Some((5, 7)), 1));
    assert!(ledger.opening().to_string().contains("one of the two slots"));
    verify(&ledger);
    drop(ledger);
    // An older slot that is damaged says nothing.
    torn.clone_from(&head);
    torn[60] ^= 1;
    fs::write(place.path("HEAD"), &torn).unwrap();
    let ledger = place.open();
    assert_eq!((ledger.opening().repaired, ledger.opening().damaged_slots), (None, 1));
    drop(ledger);
    torn[4096 + 60] ^= 1;
    fs::write(place.path("HEAD"), &torn).unwrap();
    read_only(&place, &["`HEAD` holds no checkpoint by the key `example.com/log+", "`, the store holds 7 entries"]);
    // Put back, it opens as ever: being read-only has changed nothing.
    fs::write(place.path("HEAD"), &head).unwrap();
    let ledger = place.open();
    assert_eq!(ledger.read_only(), None);
    verify(&ledger);
}

#[test]
fn a_missing_or_emptied_head_opens_read_only() {
    let place = Place::new();
    closed(&place, 3);
    let head = fs::read(place.path("HEAD")).unwrap();
    fs::remove_file(place.path("HEAD")).unwrap();
    let ledger = read_only(&place, &["`HEAD` is missing, the store holds 7 entries"]);
    assert_eq!(ledger.checkpoint().checkpoint().size.get(), 7);
    assert!(!place.path("HEAD").exists());
    drop(ledger);
    fs::write(place.path("HEAD"), vec![0; head.len()]).unwrap();
    read_only(&place, &["the store holds 7 entries, the last group from 5 on, and `HEAD` names 0"]);
}

#[test]
fn a_store_that_lost_something_opens_read_only() {
    let place = Place::new();
    closed(&place, 3);
    copy(&place.path("db"), &place.path("older"));
    let ledger = place.open();
    grow(&ledger, 3..6);
    ledger.close();
    copy(&place.path("older"), &place.path("db"));
    let ledger = read_only(&place, &["the store holds 7 entries, `HEAD` names 13: 6 entries"]);
    assert_eq!(ledger.size().get(), 7);
    assert_eq!(ledger.receipt_at(6, None).unwrap().verify(ORIGIN, &[ledger.verifier()]).unwrap().size.get(), 7);
    assert_eq!(ledger.trace(&request_trace(1)).unwrap().unwrap().entries.len(), 2);
}

#[test]
fn a_store_ahead_by_two_groups_opens_read_only() {
    let place = Place::new();
    closed(&place, 3);
    let head = fs::read(place.path("HEAD")).unwrap();
    let ledger = place.open();
    grow(&ledger, 3..5);
    ledger.close();
    fs::write(place.path("HEAD"), head).unwrap();
    read_only(&place, &["`HEAD` names 7 entries, a checkpoint of size 11 was published: `HEAD` is an old one"]);
}

#[test]
fn a_store_ahead_by_two_groups_that_were_not_published_opens_read_only() {
    let place = Place::new();
    closed(&place, 3);
    let head = fs::read(place.path("HEAD")).unwrap();
    let ledger = place.open();
    grow(&ledger, 3..5);
    ledger.close();
    unpublish(&place.path("db"), 7);
    fs::write(place.path("HEAD"), head).unwrap();
    read_only(&place, &["the store holds 11 entries, the last group from 9 on, and `HEAD` names 7"]);
}

#[test]
fn two_stories_open_read_only() {
    let (place, other) = (Place::new(), Place::new());
    closed(&place, 3);
    closed(&other, 3);
    fs::copy(other.path("HEAD"), place.path("HEAD")).unwrap();
    read_only(&place, &["at size 7 the store's root is ", "`HEAD` names "]);
    // And where the store is ahead of the other story by one group.
    let ledger = Ledger::create(&options_in(&place.path("third")), vec![created()]).unwrap();
    grow(&ledger, 0..4);
    ledger.close();
    unpublish(&place.path("third/db"), 7);
    fs::copy(other.path("HEAD"), place.path("third/HEAD")).unwrap();
    let ledger = Ledger::open(&options_in(&place.path("third"))).unwrap();
    assert!(
        ledger.read_only().unwrap().contains("at size 7 the stored tiles come to the root "),
        "{:?}",
        ledger.read_only()
    );
}

#[test]
fn every_mark_in_the_store_is_held_against_the_others() {
    let place = Place::new();
    let ledger = place.create();
    grow(&ledger, 0..150);
    ledger.close();
    copy(&place.path("db"), &place.path("good"));
    let check = |parts: &[&str], change: &dyn Fn(&Db)| {
        copy(&place.path("good"), &place.path("db"));
        edit(&place, |db| change(db));
        read_only(&place, parts);
    };
    // 301 entries: tile 0/0 full, 0/1 with 45 hashes, 1/0 with one.
    let tile = |level, index| tile_key(TileId { level, index });
    let flip = |db: &Db, level, index, at: usize| {
        let mut bytes = db.tile(level, index, 1).unwrap();
        bytes[at] ^= 1;
        put(db, Family::Tile, &tile(level, index), &bytes);
    };
    check(&["the frontier is of size 301, the store of size 300"], &|db| {
        put(db, Family::Meta, Meta::SIZE, &300u64.to_be_bytes());
    });
    check(&["at size 301 the frontier's root is ", ", the stored root "], &|db| {
        put(db, Family::Meta, Meta::ROOT, &[1; 32])
    });
    check(&["wrong length of a stored frontier"], &|db| put(db, Family::Meta, Meta::FRONTIER, &301u64.to_be_bytes()));
    check(&["`tile/0/001.p/45`: found 1472 bytes, required 1440 at size 301"], &|db| {
        let longer = [db.tile(0, 1, 45).unwrap(), vec![0; 32]].concat();
        put(db, Family::Tile, &tile(0, 1), &longer);
    });
    check(&["`tile/0/001.p/45`: found 1408 bytes, required 1440"], &|db| {
        put(db, Family::Tile, &tile(0, 1), &db.tile(0, 1, 44).unwrap()[..44 * 32]);
    });
    check(&["entry 256 hashes to ", "its leaf in the tiles is "], &|db| flip(db, 0, 1, 0));
    check(&["entry 45 hashes to "], &|db| flip(db, 0, 0, 45 * 32));
    check(&["hash 0 of `tile/1/000` is ", "`tile/0/000` comes to "], &|db| flip(db, 1, 0, 31));
    check(&["hash 0 of `tile/1/000` is ", "`tile/0/000` comes to "], &|db| flip(db, 0, 0, 31));
    check(&["entry 300 hashes to "], &|db| {
        let mut entry = db.entry(300).unwrap();
        entry[30] ^= 1;
        put(db, Family::Entry, &300u64.to_be_bytes(), &entry);
    });
    check(&["an entry stands at index 301 of a store of size 301"], &|db| {
        put(db, Family::Entry, &301u64.to_be_bytes(), b"{}");
    });
    check(&["the record of trace ", " is not one"], &|db| {
        let leaf = sequencer::stored_leaf(db, 300).unwrap();
        put(db, Family::Trace, leaf.entry.trace.0.as_bytes(), b"");
    });
    check(&["ends with entry 300, its record says 298"], &|db| {
        let (last, other) = (sequencer::stored_leaf(db, 300).unwrap(), sequencer::stored_leaf(db, 298).unwrap());
        let record = db.get(Family::Trace, other.entry.trace.0.as_bytes()).unwrap().unwrap();
        put(db, Family::Trace, last.entry.trace.0.as_bytes(), &record);
    });
    check(&["the store holds 301 entries, a checkpoint of size 400 was published"], &|db| {
        let checkpoint = crate::tlog::Checkpoint::new(ORIGIN, crate::tlog::TreeSize::new(400), leaf_hash(b""));
        let note = SignedCheckpoint::sign(checkpoint, &[&signer()]).unwrap();
        put(db, Family::Checkpoint, &400u64.to_be_bytes(), note.note());
    });
    check(&["the store holds 301 entries, the last group would begin at 301"], &|db| {
        put(db, Family::Meta, Meta::BASE, &301u64.to_be_bytes());
    });
    check(&["entry 300 was appended in epoch 1, the store's last epoch is 0"], &|db| {
        put(db, Family::Meta, Meta::EPOCH, &0u64.to_be_bytes());
    });
    check(&["stands among the open ones, beginning at 7; its record says that it begins at 1"], &|db| {
        let list = [&301u64.to_be_bytes(), request_trace(0).0.as_bytes().as_slice(), &7u64.to_be_bytes()].concat();
        put(db, Family::Meta, Meta::OPEN, &list);
    });
    check(&["beginning at 1; its record says that it is not open"], &|db| {
        let list = [&301u64.to_be_bytes(), rejected(0).trace.0.as_bytes().as_slice(), &1u64.to_be_bytes()].concat();
        put(db, Family::Meta, Meta::OPEN, &list);
    });
    check(&["the last published checkpoint, of size 301, is not one: "], &|db| {
        put(db, Family::Checkpoint, &301u64.to_be_bytes(), b"not a note");
    });
    check(&["`open` is not a list of traces"], &|db| put(db, Family::Meta, Meta::OPEN, b"short"));
    // And untouched it opens.
    copy(&place.path("good"), &place.path("db"));
    assert_eq!(place.open().read_only(), None);
}

#[test]
fn what_is_not_our_ledger_is_not_opened() {
    let place = Place::new();
    let check = |options: &Options, expect: &str| {
        let error = Ledger::open(options).err().expect("opened").to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(&place.options(), "master.key");
    crate::vault::FileKeyring::open_or_create(&place.path("keyring")).unwrap();
    check(&place.options(), "no ledger in `");
    closed(&place, 1);
    let other = SignerKey::generate_from_seed(ORIGIN, &[8; 32]).unwrap();
    check(&Options { signer: other, ..place.options() }, "is another log: found key `example.com/log+");
    fs::set_permissions(place.path("keyring/master.key"), fs::Permissions::from_mode(0o640)).unwrap();
    check(&place.options(), "is open to others: found mode 0640, required 0600");
    fs::set_permissions(place.path("keyring/master.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let ledger = place.open();
    check(&place.options(), "is in use");
    drop(ledger);
    edit(&place, |db| put(db, Family::Meta, Meta::FORMAT, b"2"));
    check(&place.options(), "found `2`, required `1`");
}

#[test]
fn a_creation_that_never_finished_says_so() {
    let place = Place::new();
    crate::vault::FileKeyring::open_or_create(&place.path("keyring")).unwrap();
    fs::create_dir(place.path("db")).unwrap();
    let db = Db::open(&place.path("db"), true).unwrap();
    put(&db, Family::Meta, Meta::FORMAT, b"1");
    put(&db, Family::Meta, Meta::KEY, signer().verifier().to_string().as_bytes());
    put(&db, Family::Meta, Meta::SIZE, &[0; 8]);
    drop(db);
    let error = Ledger::open(&place.options()).err().unwrap().to_string();
    assert!(error.contains("its creation was never finished"), "{error}");
}

#[test]
fn a_second_process_is_refused() {
    if let Some(dir) = std::env::var_os("COUNTERSIGN_TEST_SECOND") {
        let error = Ledger::open(&options_in(Path::new(&dir))).err().map(|e| e.to_string());
        println!("second: {error:?}");
        return;
    }
    let place = Place::new();
    let ledger = place.create();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::openings::a_second_process_is_refused", "--nocapture"])
        .env("COUNTERSIGN_TEST_SECOND", place.dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("is in use: another process has this ledger open"), "{text}");
    ledger.append(rejected(1)).unwrap();
    verify(&ledger);
}

#[test]
fn open_traces_are_found_again_beyond_the_last_list() {
    let place = Place::new();
    let ledger = place.create();
    grow(&ledger, 0..10);
    let five = ledger.trace(&request_trace(5)).unwrap().unwrap().head;
    ledger.append(Append::following(request_trace(5), five, vec![denied()])).unwrap();
    ledger.close();
    let ledger = place.open();
    assert_eq!(ledger.open_traces().len(), 9);
    let six = ledger.trace(&request_trace(6)).unwrap().unwrap().head;
    ledger.append(Append::following(request_trace(6), six, vec![denied()])).unwrap();
    grow(&ledger, 10..12);
    let expect = ledger.open_traces();
    assert_eq!((expect.len(), ledger.stats().open_traces), (10, 10));
    assert!(expect.is_sorted_by_key(|(_, first)| *first));
    // No orderly end: the list is of the close before.
    stop_after_batch(ledger, rejected(1));
    let ledger = place.open();
    assert_eq!(ledger.open_traces(), expect);
    verify(&ledger);
}
