//! What witnesses add to published checkpoints is kept with them, shown and exported; without it appends can be made to wait.

use super::*;
use crate::tlog::{CosignerKey, Note, TreeSize, cosignatures, verify_consistency};

fn witness(n: u8) -> CosignerKey {
    CosignerKey::generate_from_seed(&format!("witness.example/{n}"), &[n; 32]).unwrap()
}

fn cosigned(note: &[u8]) -> Vec<(String, u64)> {
    let known = [1, 2].map(|n| witness(n).verifier().clone());
    let found = cosignatures(&Note::parse(note).unwrap(), &known).unwrap();
    found.into_iter().map(|by| (by.key.name().to_owned(), by.time)).collect()
}

#[test]
fn cosignatures_are_kept_with_their_checkpoint() {
    let place = Place::new();
    let ledger = place.create();
    ledger.append(received(1)).unwrap();
    let published = ledger.wait_published().unwrap();
    let (size, text) = (published.checkpoint().size, published.checkpoint().to_string());
    let add = |n, time| ledger.add_cosignature(size, &witness(n).cosign(&text, time)).unwrap();
    let names = |times: &[u64]| -> Vec<(String, u64)> {
        (1..).zip(times).map(|(n, time): (u64, _)| (format!("witness.example/{n}"), *time)).collect()
    };
    assert_eq!(cosigned(add(1, 10).note()), names(&[10]));
    assert_eq!(cosigned(add(2, 11).note()), names(&[10, 11]));
    // The last one of a witness counts.
    let mut found = cosigned(add(1, 12).note());
    found.sort_unstable();
    assert_eq!(found, names(&[12, 11]));
    assert_eq!(cosigned(ledger.checkpoint().note()).len(), 2);
    assert_eq!(cosigned(&ledger.checkpoint_at(size.get()).unwrap().unwrap()).len(), 2);
    assert!(ledger.add_cosignature(TreeSize::new(77), &witness(1).cosign(&text, 1)).is_err());

    ledger.append(received(2)).unwrap();
    ledger.wait_published().unwrap();
    let newest = |ledger: &Ledger| {
        let found = ledger.cosigned(100, |signed| cosigned(signed.note()).len() == 2).unwrap();
        found.map(|signed| signed.checkpoint().size)
    };
    assert_eq!(newest(&ledger), Some(size));
    let summary = ledger.export_as_of(
        &place.path("export"),
        &[],
        &ledger.cosigned(100, |s| s.checkpoint().size == size).unwrap().unwrap(),
    );
    assert_eq!(summary.unwrap().entries, size.get());
    assert_eq!(cosigned(&std::fs::read(place.path("export/checkpoint")).unwrap()).len(), 2);
    ledger.close();
    let ledger = place.open();
    assert_eq!(newest(&ledger), Some(size));
    verify(&ledger);
}

#[test]
fn the_log_proves_that_it_has_only_grown() {
    let place = Place::new();
    let ledger = place.create();
    let mut checkpoints = vec![];
    for n in 0..5 {
        ledger.append(received(n)).unwrap();
        checkpoints.push(ledger.append(rejected(n)).unwrap().last().checkpoint().checkpoint().clone());
    }
    for old in &checkpoints {
        for new in checkpoints.iter().filter(|new| new.size >= old.size) {
            let proof = ledger.consistency(old.size, new.size).unwrap();
            verify_consistency(old.size, new.size, old.root, new.root, &proof).unwrap();
        }
    }
    assert!(ledger.consistency(TreeSize::new(1), TreeSize::new(99)).is_err());
}

#[test]
fn appends_wait_while_the_ledger_is_paused() {
    let place = Place::new();
    let ledger = place.create();
    ledger.pause(Some("no witness answers".into()));
    let Err(AppendError::Paused(reason)) = ledger.append(received(1)) else { panic!("appended") };
    assert_eq!((reason.as_str(), ledger.fatal()), ("no witness answers", None));
    let (answer, answered) = std::sync::mpsc::channel();
    ledger.append_with(received(1), move |result| answer.send(result.is_err()).unwrap());
    assert!(answered.recv().unwrap());
    ledger.pause(None);
    ledger.append(received(1)).unwrap();
    verify(&ledger);
}
