//! Two histories signed by one key, what shows it to anybody, keys that were replaced, and witnesses.

use crate::parts::part;
use crate::world::{ORIGIN, World, Written, checkpoint, put, root, signer};
use crate::{Answer, expect, log, run};
use countersign_ledger::evidence::{Int, TraceId, rotation, step::LogKeyRotated};
use countersign_ledger::tlog::{Checkpoint, CosignerKey, Hash, Note, SignedCheckpoint, SignerKey, TreeSize};
use std::fs;
use std::path::{Path, PathBuf};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A ledger, and what its key signed of another history that parts from it at `World::full`'s `rejected-17`.
struct Desk {
    dir: tempfile::TempDir,
    leaves: Vec<Hash>,
    other: Vec<Hash>,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let leaves = World::full().write(&dir.path().join("export")).leaves;
        let mut world = World::full();
        world.remove("rejected-17");
        let other = world.write(&dir.path().join("other")).leaves;
        Self { dir, leaves, other }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn export(&self) -> PathBuf {
        self.path("export")
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        put(&self.path(name), bytes);
        self.path(name)
    }

    fn judge(&self, proof: &Path) -> Answer {
        run(&["fork", text(proof), "--key", &World::key()])
    }
}

#[test]
fn a_walk_that_meets_a_fork_leaves_a_proof() {
    let desk = Desk::new();
    let whole = desk.leaves.len();
    for (size, from) in [(40, &desk.other), (256, &desk.other), (whole - 1, &desk.other)] {
        let old = desk.put("old", &checkpoint(size as u64, root(&from[..size])));
        let proof = desk.path("proof");
        let answer = log(&desk.export(), &["--since", text(&old), "--fork-proof", text(&proof)]);
        expect("another history", &answer, 1, "fork");
        assert_eq!(answer.report["fork_proof"].as_str().unwrap().as_bytes(), fs::read(&proof).unwrap());
        let judged = desk.judge(&proof);
        assert_eq!(judged.exit, 0, "{}", judged.report);
        assert!(judged.report["summary"].as_str().unwrap().contains(&format!("at size {size}")));
        fs::remove_file(proof).unwrap();
    }
    // The same size needs no proof but the two.
    put(&desk.export().join(format!("checkpoints/{whole}")), &checkpoint(whole as u64, desk.other[0]));
    let answer = log(&desk.export(), &[]);
    expect("another root at this size", &answer, 1, "fork");
    let proof = desk.put("proof", answer.report["fork_proof"].as_str().unwrap().as_bytes());
    assert_eq!(desk.judge(&proof).exit, 0);
}

#[test]
fn two_given_checkpoints_may_contradict_each_other() {
    let desk = Desk::new();
    let one = desk.put("one", &checkpoint(5000, desk.leaves[0]));
    let other = desk.put("other-one", &checkpoint(5000, desk.leaves[1]));
    let answer = log(&desk.export(), &["--since", text(&one), "--since", text(&other)]);
    expect("beyond the export", &answer, 1, "rolled-back");
    expect("beyond the export", &answer, 1, "fork");
    let proof = desk.put("proof", answer.report["fork_proof"].as_str().unwrap().as_bytes());
    assert_eq!(desk.judge(&proof).exit, 0);
}

#[test]
fn comparing_two_checkpoints_leaves_a_proof() {
    let desk = Desk::new();
    let compare = |old: &Path, new: &Path, more: &[&str]| {
        let key = World::key();
        run(&[&["consistency", text(old), text(new), "--key", &key], more].concat())
    };
    let export = desk.export();
    let old = desk.put("old", &checkpoint(64, root(&desk.other[..64])));
    let new = desk.put("new", &checkpoint(200, root(&desk.leaves[..200])));
    let answer = compare(&old, &new, &[text(&export), "--fork-proof", text(&desk.path("proof"))]);
    expect("another history", &answer, 1, "fork");
    assert_eq!(desk.judge(&desk.path("proof")).exit, 0);
    // Without the tree there is nothing to show.
    let answer = compare(&old, &new, &[]);
    expect("nothing to show", &answer, 3, "growth-unproven");
    let new = desk.put("new", &checkpoint(64, root(&desk.leaves[..64])));
    let answer = compare(&old, &new, &[]);
    expect("one size", &answer, 1, "fork");
    let proof = desk.put("proof", answer.report["fork_proof"].as_str().unwrap().as_bytes());
    assert_eq!(desk.judge(&proof).exit, 0);
}

#[test]
fn fork_proofs_that_prove_nothing() {
    let desk = Desk::new();
    let old = desk.put("old", &checkpoint(40, root(&desk.other[..40])));
    log(&desk.export(), &["--since", text(&old), "--fork-proof", text(&desk.path("proof"))]);
    let good = fs::read_to_string(desk.path("proof")).unwrap();
    let check = |what: &str, bad: String, exit: u8, code: &str| {
        assert_ne!(bad, good, "{what}");
        expect(what, &desk.judge(&desk.put("bad", bad.as_bytes())), exit, code);
    };
    let lines: Vec<&str> = good.lines().collect();
    let held = format!("held {}", root(&desk.other[..40]).to_base64());
    check("a header", good.replacen("v1", "v2", 1), 1, "fork-form");
    check("nothing", String::new(), 1, "fork-form");
    check("a hash", good.replacen(lines[2], "nonsense", 1), 1, "fork-form");
    check("another origin", good.replacen(ORIGIN, "ledger.example/other", 1), 1, "checkpoint");
    check("the older root itself", good.replacen(lines[1], &held, 1), 1, "fork-proof");
    check("a hash less", good.replacen(&format!("{}\n", lines[2]), "", 1), 1, "fork-proof");
    check(
        "hashes changed places",
        good.replacen(lines[2], "#", 1).replacen(lines[3], lines[2], 1).replacen('#', lines[3], 1),
        1,
        "fork-proof",
    );
    let key = signer("x").verifier().to_string();
    expect("another key", &run(&["fork", text(&desk.path("proof")), "--key", &key]), 1, "checkpoint");
    assert_eq!(run(&["fork", text(&desk.path("none")), "--key", &key]).exit, 2);
}

#[test]
fn witnesses() {
    let desk = Desk::new();
    let witness = |n: u8| CosignerKey::generate_from_seed(&format!("witness.example/{n}"), &[n; 32]).unwrap();
    let policy = |name: &str, text: String| desk.put(name, text.as_bytes());
    let vkey = |n: u8| witness(n).verifier().to_string();
    let lines = format!("log {}\nwitness a {}\nwitness b {}\n", World::key(), vkey(1), vkey(2));
    let any = policy("any", format!("{lines}group g any a b\nquorum g\n"));
    let all = policy("all", format!("{lines}group g all a b\nquorum g\n"));
    let check = |policy: &Path| log(&desk.export(), &["--policy", text(policy)]);
    expect("nobody cosigned", &check(&any), 3, "witness-quorum");
    let head = desk.export().join("checkpoint");
    let mut note = Note::parse(&fs::read(&head).unwrap()).unwrap();
    note.signatures.push(witness(1).cosign(&note.text, 1_763_931_600));
    put(&head, &note.encode().unwrap());
    let answer = check(&any);
    assert_eq!(answer.exit, 0, "{}", answer.report);
    let told = &answer.report["log"]["witnesses"];
    assert_eq!(
        (&told["quorum"], &told["cosigned"][0]["name"], &told["missing"][0]),
        (&true.into(), &"a".into(), &"b".into())
    );
    expect("one of two", &check(&all), 3, "witness-quorum");
    assert_eq!(log(&desk.export(), &["--policy", text(&all), "--tree-only"]).exit, 3);
    // A signature of another text under a witness's name.
    note.signatures.push(witness(2).cosign("another\n1\ntext\n", 1_763_931_600));
    put(&head, &note.encode().unwrap());
    expect("a bad cosignature", &check(&any), 1, "cosignature");
    let stranger = policy("stranger", format!("log {}\nquorum none\n", signer("other.example").verifier()));
    assert_eq!(check(&stranger).exit, 2);
    assert_eq!(check(&policy("nonsense", "quorum\n".into())).exit, 2);
    assert_eq!(check(&desk.path("no-such-file")).exit, 2);
}

#[test]
fn keys_that_were_replaced() {
    let desk = Desk::new();
    let (old, new) = (signer(ORIGIN), SignerKey::generate_from_seed(ORIGIN, &[2; 32]).unwrap());
    let whole = desk.leaves.len();
    let sign = |key: &SignerKey, size: usize| {
        let checkpoint = Checkpoint::new(ORIGIN, TreeSize::new(size as u64), root(&desk.leaves[..size]));
        SignedCheckpoint::sign(checkpoint, &[key]).unwrap().into_note()
    };
    let keys = |text: String| desk.put("keys", text.as_bytes());
    let check = |keys: &Path, more: &[&str]| {
        let export = desk.export();
        run(&[&["log", text(&export), "--tree-only", "--epochs", text(keys)], more].concat())
    };
    let two = keys(format!("{} 100\n{}\n", old.verifier(), new.verifier()));
    // Everything is signed by the old key: beyond its end that counts for nothing.
    expect("an old key beyond its end", &check(&two, &[]), 1, "key-ended");
    put(&desk.export().join("checkpoint"), &sign(&new, whole));
    expect("published ones too", &check(&two, &[]), 1, "key-ended");
    for size in [150, 200, 250, whole] {
        put(&desk.export().join(format!("checkpoints/{size}")), &sign(&new, size));
    }
    let answer = check(&two, &[]);
    assert_eq!((answer.exit, &answer.report["log"]["published"]), (0, &6.into()), "{}", answer.report);
    // At the size where one ends and the other begins both count; before it the new one does not.
    let since = |key: &SignerKey, size: usize| check(&two, &["--since", text(&desk.put("since", &sign(key, size)))]);
    assert_eq!([since(&old, 100).exit, since(&new, 100).exit, since(&old, 7).exit], [0, 0, 0]);
    expect("the new key before its time", &since(&new, 99), 1, "key-ended");
    expect("the old key after its time", &since(&old, 101), 1, "key-ended");
    assert_eq!(check(&keys("nonsense".into()), &[]).exit, 2);
    let export = desk.export();
    assert_eq!(run(&["log", text(&export)]).exit, 2);
    let key = World::key();
    assert_eq!(run(&["log", text(&export), "--key", &key, "--epochs", text(&two)]).exit, 2);
}

/// A ledger whose key is replaced by another one half-way, and what it comes to.
struct Rotated {
    dir: tempfile::TempDir,
    leaves: Vec<Hash>,
    written: Written,
    /// The size at which one key ends and the other begins.
    size: u64,
}

/// The log's keys by number: the first one is that of all these tests.
fn log_key(n: u8) -> SignerKey {
    if n == 1 { signer(ORIGIN) } else { SignerKey::generate_from_seed(ORIGIN, &[n; 32]).unwrap() }
}

impl Rotated {
    /// `change` alters the rotation.
    fn new(change: fn(&mut LogKeyRotated)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::full();
        world.before("f10/received", |world| {
            world.add("rotated", TraceId::log(), move |known| {
                let size = TreeSize::new(known.earlier.len() as u64 + 1);
                let mut step = rotation::rotate(&log_key(1), &log_key(2), size);
                change(&mut step);
                step.into()
            });
        });
        let written = world.write(&dir.path().join("export"));
        let (leaves, size) = (written.leaves.clone(), written.index["rotated"] + 1);
        let rotated = Self { dir, leaves, written, size };
        let published = fs::read_dir(rotated.path("export/checkpoints")).unwrap();
        for size in published.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap()) {
            rotated.sign(&format!("checkpoints/{size}"), size, if size < rotated.size { 1 } else { 2 });
        }
        rotated.sign("checkpoint", rotated.whole(), 2);
        rotated
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn whole(&self) -> u64 {
        self.leaves.len() as u64
    }

    fn sign(&self, file: &str, size: u64, key: u8) {
        let checkpoint = Checkpoint::new(ORIGIN, TreeSize::new(size), root(&self.leaves[..size as usize]));
        let note = SignedCheckpoint::sign(checkpoint, &[&log_key(key)]).unwrap().into_note();
        put(&self.path("export").join(file), &note);
    }

    fn by(&self, key: u8) -> Answer {
        self.of("export", key)
    }

    fn of(&self, export: &str, key: u8) -> Answer {
        run(&["log", text(&self.path(export)), "--partial", "--key", &log_key(key).verifier().to_string()])
    }
}

#[test]
fn a_rotation_is_followed_from_any_of_the_keys() {
    let rotated = Rotated::new(|_| ());
    for key in [1, 2] {
        let answer = rotated.by(key);
        assert_eq!(answer.exit, 0, "by key {key}: {}", answer.report);
        assert_eq!(answer.report["log"]["key"], log_key(2).verifier().to_string());
    }
    expect("a key that was never the log's", &rotated.by(3), 1, "checkpoint");
    // In evidence in part as well, of which the log's own entries are always.
    for (path, bytes) in part(&rotated.path("export"), &rotated.written, &[]) {
        put(&rotated.path("part").join(path), &bytes);
    }
    for key in [1, 2] {
        let answer = rotated.of("part", key);
        assert_eq!(answer.exit, 0, "by key {key}: {}", answer.report);
    }
    // Whoever still has the first key can sign what he likes: it counts for nothing.
    rotated.sign(&format!("checkpoints/{}", rotated.whole()), rotated.whole(), 1);
    for key in [1, 2] {
        expect("the old key beyond its end", &rotated.by(key), 1, "key-ended");
    }
    rotated.sign(&format!("checkpoints/{}", rotated.whole()), rotated.whole(), 2);
    // The auditor's own file overrides what the ledger says.
    let epochs = |end: u64, key: u8| {
        let keys = format!("{} {end}\n{}\n", log_key(1).verifier(), log_key(key).verifier());
        put(&rotated.path("keys"), keys.as_bytes());
        run(&["log", text(&rotated.path("export")), "--epochs", text(&rotated.path("keys"))])
    };
    assert_eq!(epochs(rotated.size, 2).exit, 0);
    expect("another end", &epochs(rotated.size - 1, 2), 1, "key-rotation");
    expect("another key", &epochs(rotated.size, 3), 1, "checkpoint");
}

#[test]
fn a_rotation_that_is_not_one() {
    let check = |what: &str, change: fn(&mut LogKeyRotated)| {
        let rotated = Rotated::new(change);
        // By whichever key: with the first one the checkpoints of the second count for nothing, with the second the rotation doesn't.
        assert_eq!(rotated.by(1).exit, 1, "{what}");
        expect(what, &rotated.by(2), 1, "key-rotation");
    };
    check("not signed by the old key", |step| step.old_signature = step.new_signature.clone());
    check("not signed by the new key", |step| step.new_signature.clear());
    check("another size", |step| step.size = Int::ONE);
    check("for another place", |step| {
        *step = rotation::rotate(&log_key(1), &log_key(2), TreeSize::new(step.size.get() + 1));
    });
    check("from a key that was not in force", |step| {
        *step = rotation::rotate(&log_key(3), &log_key(2), TreeSize::new(step.size.get()));
    });
}
