//! Backups: taken while entries are appended, put back only where that tells no second story, and never short of what was answered for.

use super::*;
use crate::tlog::TreeSize;
use std::{fs, path::Path};

/// A ledger that was backed up at some size and went on, then lost its store; an export has all of it.
struct Lost {
    place: Place,
    /// Entries in the backup.
    backed_up: u64,
    /// Entries when it was lost.
    size: u64,
}

const CLASSES: [Class; 1] = [Class::Request];

fn lost(before: u64, after: u64) -> Lost {
    let place = Place::new();
    let ledger = place.create();
    (0..before).for_each(|n| drop(ledger.append(received(n)).unwrap()));
    let backed_up = ledger.backup(&place.path("backup")).unwrap().get();
    ledger.close();
    // Opened anew, so that the tail has another source of entries than the backup.
    let ledger = place.open();
    for n in before..before + after {
        ledger.append(received(n)).unwrap();
    }
    ledger.wait_published().unwrap();
    ledger.export(&place.path("export"), &CLASSES).unwrap();
    let size = ledger.size().get();
    ledger.close();
    fs::remove_dir_all(place.path("db")).unwrap();
    Lost { place, backed_up, size }
}

fn restore(place: &Place, tail: Option<&Path>) -> Result<RestoreReport, StoreError> {
    Ledger::restore(&place.options(), &place.path("backup"), tail)
}

fn refused(place: &Place, tail: Option<&Path>, expect: &str) {
    let error = restore(place, tail).unwrap_err().to_string();
    assert!(error.contains(expect), "{error}, expected {expect}");
    assert!(!place.path("db").exists(), "something was put back");
}

#[test]
fn a_backup_that_reaches_to_head_is_put_back() {
    let Lost { place, backed_up, .. } = lost(5, 0);
    let report = restore(&place, None).unwrap();
    assert_eq!(report, RestoreReport { from_backup: backed_up, ..RestoreReport::default() });
    let ledger = place.open();
    assert_eq!(ledger.read_only(), None);
    ledger.append(received(100)).unwrap();
    verify(&ledger);
    assert!(matches!(restore(&place, None), Err(StoreError::Exists(_))));
}

#[test]
fn the_missing_tail_is_replayed_from_an_export() {
    for (before, after) in [(3, 1), (3, 300), (255, 2), (256, 256), (0, 600)] {
        let Lost { place, backed_up, size } = lost(before, after);
        refused(&place, None, &format!("{} entries that were answered for are missing", size - backed_up));
        let report = restore(&place, Some(&place.path("export"))).unwrap();
        assert_eq!((report.from_backup, report.replayed, report.payloads), (backed_up, size - backed_up, after));
        let ledger = place.open();
        assert_eq!((ledger.read_only(), ledger.size()), (None, TreeSize::new(size)));
        // Payloads too, those from before and those from the export.
        for n in [0, after - 1] {
            let Step::RequestReceived(step) = ledger.entry(1 + n).unwrap().unwrap().body else {
                panic!("another step")
            };
            let payload = ledger.payload(&step.request).unwrap().unwrap();
            assert_eq!(payload.bytes, format!("request {n}").into_bytes());
        }
        ledger.append(received(10_000)).unwrap();
        ledger.append(rejected(1)).unwrap();
        let Err(AppendError::HeadMoved { .. }) = ledger.append(received(before)) else { panic!("appended twice") };
        verify(&ledger);
    }
}

#[test]
fn what_would_fork_is_refused() {
    let Lost { place, size, .. } = lost(3, 5);
    let export = place.path("export");
    // Another log's story under the same key: an export of the same size with other entries.
    let other = Place::new();
    let ledger = other.create();
    (0..8).for_each(|n| drop(ledger.append(rejected(n)).unwrap()));
    ledger.wait_published().unwrap();
    ledger.export(&place.path("other"), &[]).unwrap();
    ledger.close();
    let other_tree = format!("at size {size} this is not the tree that `HEAD` names");
    refused(&place, Some(&place.path("other")), &other_tree);
    // One altered entry.
    let bundle = export.join(format!("tile/entries/000.p/{size}"));
    let bytes = fs::read(&bundle).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let at = text.rfind("\"offset\":7").map(|at| bytes.len() - (text.len() - at) + 9).unwrap();
    let mut bad = bytes.clone();
    assert_eq!(bad[at], b'7');
    bad[at] = b'9';
    fs::write(&bundle, &bad).unwrap();
    refused(&place, Some(&export), &other_tree);
    // One that is none any more.
    bad[at] = b'x';
    fs::write(&bundle, &bad).unwrap();
    refused(&place, Some(&export), "entry 8: ");
    // Its end is missing.
    let last = bytes.len() - 2 - {
        let mut rest = &bytes[..];
        let mut last = 0;
        while let Some((length, more)) = rest.split_first_chunk::<2>() {
            last = usize::from(u16::from_be_bytes(*length));
            rest = &more[last..];
        }
        last
    };
    fs::write(&bundle, &bytes[..last]).unwrap();
    refused(&place, Some(&export), "holds 8 entries, required 9");
    fs::write(&bundle, &bytes).unwrap();
    // An export that ends too early.
    let early = Place::new();
    let ledger = early.create();
    ledger.wait_published().unwrap();
    ledger.export(&place.path("early"), &[]).unwrap();
    refused(&place, Some(&place.path("early")), "has 1 entries, `HEAD` names 9 entries");
    // No `HEAD`, and one from before the backup.
    let head = fs::read(place.path("HEAD")).unwrap();
    fs::remove_file(place.path("HEAD")).unwrap();
    refused(&place, Some(&export), "names no checkpoint");
    fs::copy(early.path("HEAD"), place.path("HEAD")).unwrap();
    refused(&place, Some(&export), "is older than the backup");
    fs::write(place.path("HEAD"), head).unwrap();
    restore(&place, Some(&export)).unwrap();
    verify(&place.open());
}

#[test]
fn a_tail_with_another_key_in_it_is_followed() {
    let place = Place::new();
    let ledger = place.create();
    ledger.backup(&place.path("backup")).unwrap();
    ledger.append(received(1)).unwrap();
    ledger.close();
    let next = SignerKey::generate_from_seed(ORIGIN, &[8; 32]).unwrap();
    Ledger::rotate(&place.options(), &next).unwrap();
    let options = Options { signer: next, ..place.options() };
    let ledger = Ledger::open(&options).unwrap();
    ledger.append(received(2)).unwrap();
    ledger.wait_published().unwrap();
    ledger.export(&place.path("export"), &CLASSES).unwrap();
    let epochs = ledger.epochs().clone();
    ledger.close();
    fs::remove_dir_all(place.path("db")).unwrap();
    Ledger::restore(&options, &place.path("backup"), Some(&place.path("export"))).unwrap();
    let ledger = Ledger::open(&options).unwrap();
    assert_eq!(*ledger.epochs(), epochs);
    verify(&ledger);
}

/// Copies taken under load are each a whole store, and each comes back whole.
#[test]
fn a_backup_is_taken_while_entries_are_appended() {
    let place = Place::new();
    let ledger = place.create();
    let sizes = std::thread::scope(|scope| {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for writer in 0..3u64 {
            let (ledger, stop) = (ledger.clone(), Arc::clone(&stop));
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    ledger.append(received(writer * 100_000 + n)).unwrap();
                }
            });
        }
        let take = |n| ledger.backup(&place.path(&format!("backup-{n}"))).unwrap().get();
        let sizes: Vec<u64> = (0..4).map(take).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        sizes
    });
    assert!(matches!(ledger.backup(&place.path("backup-0")), Err(StoreError::Exists(_))));
    ledger.wait_published().unwrap();
    ledger.export(&place.path("export"), &CLASSES).unwrap();
    let size = ledger.size().get();
    ledger.close();
    for (n, backed_up) in sizes.into_iter().enumerate() {
        fs::remove_dir_all(place.path("db")).unwrap();
        let backup = place.path(&format!("backup-{n}"));
        let report = Ledger::restore(&place.options(), &backup, Some(&place.path("export"))).unwrap();
        assert_eq!((report.from_backup, report.replayed), (backed_up, size - backed_up));
        let ledger = place.open();
        assert_eq!(ledger.read_only(), None);
        verify(&ledger);
        ledger.close();
    }
}
