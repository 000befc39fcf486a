//! Replacing the log's key: both keys sign where the one ends and the other begins, a rotation that is broken off is carried to its
//! end, and the old key opens nothing any more.

use super::*;
use crate::{
    evidence::{Step, rotation},
    store::db::{Db, Family},
    tlog::{Epochs, TreeSize, VerifierKey},
};
use std::fs;

fn next(n: u8) -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[n; 32]).unwrap()
}

fn options_with(place: &Place, signer: SignerKey) -> Options {
    Options { signer, ..place.options() }
}

/// A ledger of four entries, closed.
fn closed() -> Place {
    let place = Place::new();
    let ledger = place.create();
    (0..3).for_each(|n| drop(ledger.append(received(n)).unwrap()));
    ledger.close();
    place
}

fn signers(ledger: &Ledger, size: u64) -> Vec<VerifierKey> {
    let note = ledger.checkpoint_at(size).unwrap().unwrap();
    ledger.epochs().open(&note).unwrap().signers().to_vec()
}

/// The epochs as somebody reads them off the entries who knows the first key.
fn followed(ledger: &Ledger) -> Epochs {
    let mut epochs = Epochs::single(signer().verifier().clone());
    for index in 0..ledger.size().get() {
        if let Step::LogKeyRotated(step) = &ledger.entry(index).unwrap().unwrap().body {
            rotation::follow(&mut epochs, index, step).unwrap();
        }
    }
    epochs
}

#[test]
fn one_key_ends_where_the_next_begins() {
    let place = closed();
    assert_eq!(Ledger::rotate(&place.options(), &next(8)).unwrap(), TreeSize::new(5));
    let Err(StoreError::KeyEnded { found, ended, required }) = Ledger::open(&place.options()) else { panic!("opened") };
    assert_eq!((*found, ended, *required), (signer().verifier().clone(), TreeSize::new(5), next(8).verifier().clone()));

    let ledger = Ledger::open(&options_with(&place, next(8))).unwrap();
    assert_eq!(ledger.read_only(), None);
    ledger.append(received(3)).unwrap();
    ledger.wait_published().unwrap();
    assert_eq!(signers(&ledger, 5), [signer().verifier().clone(), next(8).verifier().clone()]);
    assert_eq!(signers(&ledger, 6), [next(8).verifier().clone()]);
    verify(&ledger);
    assert_eq!(followed(&ledger), *ledger.epochs());
    // What was signed before stays provable, and the receipt of its time as well.
    ledger.receipt_at(1, None).unwrap().verify(ORIGIN, &[next(8).verifier().clone()]).unwrap();
    ledger.close();

    Ledger::rotate(&options_with(&place, next(8)), &next(9)).unwrap();
    let ledger = Ledger::open(&options_with(&place, next(9))).unwrap();
    assert_eq!(followed(&ledger), *ledger.epochs());
    verify(&ledger);
    ledger.close();
    // Whoever only reads may still have the old key in his configuration.
    assert_eq!(Ledger::open_reading(&place.options()).unwrap().size().get(), 7);
}

#[test]
fn a_rotation_that_was_broken_off_is_carried_to_its_end() {
    let place = closed();
    let head = fs::read(place.path("HEAD")).unwrap();
    Ledger::rotate(&place.options(), &next(8)).unwrap();
    // As a crash leaves it that comes after the group was synced and before it was signed.
    fs::write(place.path("HEAD"), head).unwrap();
    let db = Db::open(&place.path("db"), false).unwrap();
    db.remove(Family::Checkpoint, &5u64.to_be_bytes());
    drop(db);
    assert!(matches!(Ledger::open(&place.options()), Err(StoreError::KeyEnded { .. })));
    // Another key doesn't get in between.
    assert!(matches!(Ledger::rotate(&place.options(), &next(9)), Err(StoreError::KeyEnded { .. })));
    assert_eq!(Ledger::rotate(&place.options(), &next(8)).unwrap(), TreeSize::new(5));
    let ledger = Ledger::open(&options_with(&place, next(8))).unwrap();
    assert_eq!(signers(&ledger, 5), [signer().verifier().clone(), next(8).verifier().clone()]);
    verify(&ledger);
}

#[test]
fn a_key_of_another_log_and_one_that_was_there_are_refused() {
    let place = closed();
    let other = SignerKey::generate_from_seed("example.com/other", &[8; 32]).unwrap();
    assert!(matches!(Ledger::rotate(&place.options(), &other), Err(StoreError::Rotation(_))));
    assert!(matches!(Ledger::rotate(&place.options(), &signer()), Err(StoreError::Rotation(_))));
    let ledger = place.open();
    assert_eq!((ledger.size().get(), ledger.verifier()), (4, signer().verifier().clone()));
    let step = rotation::rotate(&signer(), &next(8), TreeSize::new(5));
    let head = ledger.trace(&TraceId::log()).unwrap().unwrap().head;
    let append = Append::following(TraceId::log(), head, vec![step.into()]);
    assert!(matches!(ledger.append(append), Err(AppendError::Rotation)));
}
