//! The keys of a log over time: what their file may say, and which checkpoints each key may sign.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use countersign_ledger::tlog::*;
use proptest::prelude::*;

const ORIGIN: &str = "ledger.example/one";

fn key(n: u8) -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[n; 32]).unwrap()
}

fn note(size: u64, by: &[u8]) -> Vec<u8> {
    let keys: Vec<_> = by.iter().map(|n| key(*n)).collect();
    let checkpoint = Checkpoint::new(ORIGIN, TreeSize::new(size), Hash::from_bytes([size as u8; 32]));
    SignedCheckpoint::sign(checkpoint, &keys.iter().collect::<Vec<_>>()).unwrap().into_note()
}

/// A file of epochs, with `1` to `9` for keys after an `@`.
fn read(text: &str) -> Result<Epochs, String> {
    let mut text = text.to_owned();
    for n in 1..=9 {
        text = text.replace(&format!("@{n}"), &key(n).verifier().to_string());
    }
    Epochs::decode(&text).map_err(|e| e.to_string().replace(&key(1).verifier().to_string(), "@1"))
}

#[test]
fn the_file() {
    let check = |text: &str, expect: &str| assert_eq!(read(text).unwrap_err(), expect, "{text}");
    let form = |line| format!("line {line}: required `<vkey> [<last size>]`");
    check("", "no keys: required at least one line `<vkey> [<last size>]`");
    check("# nothing\n\n", "no keys: required at least one line `<vkey> [<last size>]`");
    check("@1 07\n", &form(1));
    check("@1 7\n@2 8 9\n", &form(2));
    check("\nnonsense\n", "line 2: not a verifier key: required `<name>+<key id>+<base64>`");
    check("@1\n@2\n", "the key `@1` has no last size, and another one follows");
    check("@1 7\n@1\n", "the key `@1` was in use before");
    let other = SignerKey::generate_from_seed("other", &[3; 32]).unwrap().verifier().to_string();
    check(&format!("@1 7\n{other}\n"), "a key of another log: found `other`, required `ledger.example/one`");
    check("@2 7\n@1 6\n", "the key `@1` ends at size 6, before it begins at 7");
    let epochs = read("# mine\n  @1\t7\n\n@2 9\n@3\n").unwrap();
    assert_eq!(Epochs::decode(&epochs.to_string()).unwrap(), epochs);
    let spans: Vec<_> = epochs.iter().map(|e| (e.from.get(), e.to.map(TreeSize::get))).collect();
    assert_eq!(spans, [(0, Some(7)), (7, Some(9)), (9, None)]);
    assert!(epochs.knows(key(2).verifier()) && !epochs.knows(key(4).verifier()));
    assert_eq!((epochs.origin(), epochs.current()), (ORIGIN, key(3).verifier()));
    let mut rotated = Epochs::single(key(1).verifier().clone());
    rotated.rotate(TreeSize::new(7), key(2).verifier().clone()).unwrap();
    rotated.rotate(TreeSize::new(9), key(3).verifier().clone()).unwrap();
    assert_eq!(rotated, epochs);
}

#[test]
fn a_key_signs_in_its_own_time_alone() {
    let (known, until) = (read("@1 7\n@2 9\n@3\n").unwrap(), read("@1 7\n@2 9\n").unwrap());
    let check = |epochs: &Epochs, size, by: &[u8], expect: Result<(), &str>| {
        let found = epochs.open(&note(size, by)).map(|_| ()).map_err(|e| e.to_string());
        let id = |n: u8| key(n).verifier().to_string();
        match (found, expect) {
            (Ok(()), Ok(())) => (),
            (Err(found), Err(expect)) => {
                let found = found.replace(&id(1), "@1").replace(&id(2), "@2").replace(&id(3), "@3");
                assert!(found.contains(expect), "{size} by {by:?}: {found}");
            }
            (found, _) => panic!("{size} by {by:?}: {found:?}"),
        }
    };
    check(&known, 1, &[1], Ok(()));
    check(&known, 7, &[1], Ok(()));
    check(&known, 7, &[2], Ok(()));
    check(&known, 7, &[1, 2], Ok(()));
    check(&known, 8, &[2], Ok(()));
    check(&known, 100, &[3], Ok(()));
    check(&known, 8, &[1], Err("the checkpoint of size 8 is signed by `@1`, which signs sizes 0 to 7"));
    check(&known, 6, &[2], Err("the checkpoint of size 6 is signed by `@2`, which signs sizes 7 to 9"));
    check(&known, 8, &[3], Err("the checkpoint of size 8 is signed by `@3`, which signs sizes from 9 on"));
    check(&known, 8, &[4], Err("no signature by a known key"));
    check(&until, 10, &[2], Err("the checkpoint of size 10 is signed by `@2`, which signs sizes 7 to 9"));
    // A signature by a key that does not count there is a stranger's.
    check(&known, 8, &[1, 2, 3], Ok(()));
    // A forged line under the name and id of a key that counts spoils the note.
    let mut forged = Note::parse(&note(8, &[2])).unwrap();
    if let Some(byte) = forged.signatures.iter_mut().find_map(|line| line.signature.first_mut()) {
        *byte ^= 1;
    }
    assert!(known.open(&forged.encode().unwrap()).unwrap_err().to_string().contains("does not verify"));
}

proptest! {
    #[test]
    fn every_size_has_a_key(ends in proptest::collection::btree_set(0u64..50, 0..8), size in 0u64..60) {
        let ends: Vec<_> = ends.into_iter().collect();
        let mut epochs = Epochs::single(key(1).verifier().clone());
        for (n, end) in (2..).zip(&ends) {
            epochs.rotate(TreeSize::new(*end), key(n).verifier().clone()).unwrap();
        }
        let keys = epochs.keys_at(TreeSize::new(size));
        prop_assert_eq!(keys.len(), 1 + usize::from(ends.contains(&size)));
        for n in 1..=ends.len() as u8 + 1 {
            let opens = epochs.open(&note(size, &[n])).is_ok();
            prop_assert_eq!(opens, keys.contains(key(n).verifier()));
        }
    }
}
