//! `docs/examples/verify.py` was written from `docs/formats.md` alone. It agrees with the tool on evidence that a running service
//! left (`tests/data/v1-served`), of which it reads all but the payloads: on what is whole, and, one fault at a time, on what is not.
//! And on a small ledger whose key was replaced, and on single rows.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its helpers too")]

use countersign_ledger::evidence::row::{RowsOf, proof_line, row_line};
use countersign_ledger::evidence::step::{ChunkMasked, DeliveryAborted, LogCreated, LogKeyRotated, RequestRejected};
use countersign_ledger::evidence::{Class, Commitment, Entry, Int, Reason, Receipt, Step, TraceId, rotation};
use countersign_ledger::tlog::{
    Checkpoint, Frontier, Hash, LeafIndex, SignedCheckpoint, SignerKey, TlogProof, TreeSize, encode_bundle, leaf_hash,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The export; key and receipt stand beside it.
fn evidence() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1-served")
}

/// A Python that has what the example needs. Where there is none, says so past libtest's capture and gives nothing.
fn python(test: &str) -> Option<&'static str> {
    let has = |python: &&str| {
        let needed = "import sys, cryptography; assert sys.version_info >= (3, 9)";
        Command::new(python).args(["-c", needed]).output().is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has);
    if found.is_none() {
        let line = format!("\nskipped: {test}: no python3 with the package `cryptography`\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    found
}

/// What the stranger says. What is wrong it says in one way, whatever is wrong.
fn stranger(python: &str, what: &str, paths: &[&Path]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/verify.py");
    let output = Command::new(python).arg(script).arg(what).args(paths).output().unwrap();
    let [said, wrong] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    match output.status.code() {
        Some(0) => assert_eq!(wrong, ""),
        code => assert!(code == Some(1) && wrong.starts_with("BROKEN: ") && wrong.lines().count() == 1, "{wrong}"),
    }
    (output.status.success(), said + &wrong)
}

/// What both say of a ledger (`log`) or a receipt (`receipt`) of the log of that key: the stranger, then the tool.
fn ask_by(python: &str, what: &str, path: &Path, key: &Path) -> ((bool, String), u8) {
    let args = ["countersign-verify", what, path.to_str().unwrap(), "--key", key.to_str().unwrap()];
    (stranger(python, what, &[path, key]), countersign_verify::run(args, &mut Vec::new(), &mut Vec::new()))
}

fn ask(python: &str, what: &str, path: &Path) -> ((bool, String), u8) {
    ask_by(python, what, path, &evidence().with_extension("vkey"))
}

#[test]
fn what_is_whole() {
    let Some(python) = python("what_is_whole") else { return };
    let check = |what: &str, path: &Path, expect: &str| {
        let ((good, said), exit) = ask(python, what, path);
        assert!(good && said.contains(expect), "{said}");
        assert_eq!(exit, 0);
    };
    check("log", &evidence(), "282 entries in 75 traces are those that were signed");
    check("receipt", &evidence().with_extension("receipt"), "entry 267 is in the ledger");
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

#[test]
fn what_is_not() {
    let Some(python) = python("what_is_not") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut good = files(&evidence());
    // It does not look into payloads.
    good.retain(|path, _| !path.starts_with(evidence().join("payload")));
    let copy = |path: &Path| dir.path().join("export").join(path.strip_prefix(evidence()).unwrap());
    for (path, bytes) in &good {
        fs::create_dir_all(copy(path).parent().unwrap()).unwrap();
        fs::write(copy(path), bytes).unwrap();
    }
    let both = |what: &str, path: &Path, fault: &str| {
        let ((proven, said), exit) = ask(python, what, path);
        assert!(!proven && exit != 0, "{fault}: the tool says {exit}, the stranger {said}");
    };
    // In every file once: a bit somewhere in it, and its end.
    for (at, (path, bytes)) in good.iter().enumerate() {
        let place = bytes.len() * (at % 7 + 1) / 8;
        let mut bad = bytes.clone();
        if let Some(byte) = bad.get_mut(place) {
            *byte ^= 1;
        }
        fs::write(copy(path), &bad).unwrap();
        both("log", &dir.path().join("export"), &format!("byte {place} of {}", path.display()));
        fs::write(copy(path), bytes).unwrap();
    }
    for name in ["checkpoint", "tile/0/000", "tile/1/000.p/1", "tile/entries/000"] {
        let path = dir.path().join("export").join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, bytes.split_last().unwrap().1).unwrap();
        both("log", &dir.path().join("export"), &format!("{name}, cut"));
        fs::remove_file(&path).unwrap();
        both("log", &dir.path().join("export"), &format!("{name}, gone"));
        fs::write(&path, bytes).unwrap();
    }
    let receipt = fs::read_to_string(evidence().with_extension("receipt")).unwrap();
    for (from, to) in
        [("index 267", "index 266"), ("c2sp.org", "c2sp.com"), ("\n268\n", "\n269\n"), ("extra ey", "extra eX")]
    {
        let bad = receipt.replacen(from, to, 1);
        if bad != receipt {
            let path = dir.path().join("receipt");
            fs::write(&path, bad).unwrap();
            both("receipt", &path, from);
        }
    }
}

const ORIGIN: &str = "ledger.example/replaced";

fn key(n: u8) -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[n; 32]).unwrap()
}

/// A ledger of four entries. Its key 1 was replaced by key 2 with the third of them; `signed` says which key signs at which size, the
/// last of them the whole, and `change` alters the rotation.
fn replaced(dir: &Path, signed: &[(usize, u8)], change: fn(&mut LogKeyRotated)) {
    let rejected = |offset: u64| {
        let step = RequestRejected {
            reason: Reason::Malformed,
            door: "kafka".into(),
            topic: "requests".into(),
            partition: Int::ZERO,
            offset: Int::saturating(offset),
            count: Int::ONE,
            record: Commitment::to(Class::Rejected, &[1; 32], b"?"),
        };
        (TraceId::rejected("requests", 0, offset), Step::from(step))
    };
    let created =
        LogCreated { origin: ORIGIN.into(), key: key(1).verifier().to_string(), quorum: Int::ONE, continues: None };
    let mut rotated = rotation::rotate(&key(1), &key(2), TreeSize::new(3));
    change(&mut rotated);
    let steps = [(TraceId::log(), created.into()), rejected(7), (TraceId::log(), Step::from(rotated)), rejected(8)];
    let (mut heads, mut frontier) = (BTreeMap::<TraceId, (Int, Hash)>::new(), Frontier::new());
    let (mut entries, mut leaves, mut roots) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (trace, body)) in steps.into_iter().enumerate() {
        let (step, prev) = heads.get(&trace).map_or((Int::ZERO, None), |(step, head)| (step.next(), Some(*head)));
        let seq = Int::saturating(index as u64);
        let entry = Entry { trace, step, prev, at: Int::ONE, src: "5eed/1".into(), seq, body }.encode().unwrap();
        let leaf = leaf_hash(&entry);
        heads.insert(trace, (step, leaf));
        frontier.push(leaf);
        leaves.extend(leaf.as_bytes());
        roots.push(frontier.root());
        entries.push(entry);
    }
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let put = |path: &str, bytes: &[u8]| {
        fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        fs::write(dir.join(path), bytes).unwrap();
    };
    put("tile/entries/000.p/4", &encode_bundle(&entries).unwrap());
    put("tile/0/000.p/4", &leaves);
    for (size, by) in signed {
        let checkpoint = Checkpoint::new(ORIGIN, TreeSize::new(*size as u64), roots[size - 1]);
        let note = SignedCheckpoint::sign(checkpoint, &[&key(*by)]).unwrap().into_note();
        put(&format!("checkpoints/{size}"), &note);
        put("checkpoint", &note);
    }
}

#[test]
fn a_key_that_was_replaced() {
    let Some(python) = python("a_key_that_was_replaced") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ledger, file) = (dir.path().join("ledger"), dir.path().join("key"));
    let check = |signed: &[(usize, u8)], change: fn(&mut LogKeyRotated), key: &str, good: bool| {
        let _ = fs::remove_dir_all(&ledger);
        replaced(&ledger, signed, change);
        fs::write(&file, key).unwrap();
        let ((proven, said), exit) = ask_by(python, "log", &ledger, &file);
        assert_eq!((proven, exit == 0), (good, good), "{signed:?} by {key}: the tool says {exit}, the stranger {said}");
    };
    let [one, two, three] = [1, 2, 3].map(|n| key(n).verifier().to_string());
    let whole: &[(usize, u8)] = &[(2, 1), (3, 2), (4, 2)];
    for key in [&one, &two] {
        check(whole, |_| (), key, true);
        // Beyond its end a key signs nothing, and before its beginning.
        check(&[(2, 1), (3, 2), (4, 1)], |_| (), key, false);
        check(&[(2, 2), (3, 2), (4, 2)], |_| (), key, false);
        // Both sign the rotation, and it begins where it stands.
        check(whole, |s| s.new_signature.clone_from(&s.old_signature), key, false);
        check(whole, |s| s.old_signature.clone_from(&s.new_signature), key, false);
        check(whole, |s| s.size = Int::ONE, key, false);
    }
    check(whole, |_| (), &three, false);
    // Keys with their sizes are for the tool.
    fs::write(&file, format!("{one} 3\n{two}\n")).unwrap();
    let (proven, said) = stranger(python, "log", &[&ledger, &file]);
    assert!(!proven && said.contains("--epochs"), "{said}");
}

fn encoded(step: Int, prev: Option<Hash>, body: Step) -> Vec<u8> {
    Entry { trace: TraceId::log(), step, prev, at: Int::ONE, src: "5eed/1".into(), seq: step, body }.encode().unwrap()
}

/// The account of a chunk with this row alone, and the row with its proof.
fn alone(row: &str) -> (Vec<u8>, String) {
    let of = RowsOf { request: TraceId::log(), attempt: Int::ONE, count: Int::ONE };
    let line = row_line(&of, 0, &Hash::from_bytes([7; 32]), row.as_bytes());
    let body = ChunkMasked { attempt: Int::ONE, rows: of.count, columns: vec![], rows_root: Some(leaf_hash(&line)) };
    let account = encoded(Int::ONE, Some(Hash::from_bytes([1; 32])), body.into());
    (account, String::from_utf8(proof_line(&line, &[])).unwrap())
}

/// The receipt of an entry that is its ledger's only one.
fn receipt_of(entry: &[u8]) -> Receipt {
    let checkpoint = Checkpoint::new(ORIGIN, TreeSize::new(1), leaf_hash(entry));
    let checkpoint = SignedCheckpoint::sign(checkpoint, &[&key(1)]).unwrap().into_note();
    let proof = TlogProof { extra: None, index: LeafIndex::new(0), hashes: Vec::new(), checkpoint };
    Receipt::new(entry.to_vec(), None, proof).unwrap()
}

#[test]
fn a_single_row() {
    let Some(python) = python("a_single_row") else { return };
    let dir = tempfile::tempdir().unwrap();
    let check = |row: &str, receipt: &Receipt, good: bool| {
        let [line, proof, vkey] = ["row", "receipt", "vkey"].map(|name| dir.path().join(name));
        fs::write(&line, row).unwrap();
        fs::write(&proof, receipt.encode()).unwrap();
        fs::write(&vkey, key(1).verifier().to_string()).unwrap();
        let (proven, said) = stranger(python, "row", &[&line, &proof, &vkey]);
        let [row, receipt, key] = [&line, &proof, &vkey].map(|path| path.to_str().unwrap());
        let args = ["countersign-verify", "row", row, "--receipt", receipt, "--key", key];
        let exit = countersign_verify::run(args, &mut Vec::new(), &mut Vec::new());
        assert_eq!((proven, exit == 0), (good, good), "the tool says {exit}, the stranger {said}");
    };
    let (account, row) = alone(r#"{"id":1,"name":"ü","share":1e16}"#);
    let (invented, other) = alone(r#"{"id":2,"name":"ü","share":1e16}"#);
    let aborted = DeliveryAborted { attempt: Int::ONE, reason: Reason::NotDelivered };
    let next = encoded(Int::ONE.next(), Some(leaf_hash(&account)), aborted.into());
    check(&row, &receipt_of(&account), true);
    check(&row, &receipt_of(&next).with_masked(account.clone()), true);
    for (from, to) in
        [(r#""id":1"#, r#""id":2"#), ("\"index\":0", "\"index\":1"), ("\"count\":1", "\"count\":2"), ("[]", "[\"\"]")]
    {
        check(&row.replace(from, to), &receipt_of(&account), false);
    }
    // Of the entry alone there is a proof: an account that came along is the one that it follows, or nothing.
    check(&row, &receipt_of(&next), false);
    for entry in [&account, &next] {
        check(&other, &receipt_of(entry).with_masked(invented.clone()), false);
    }
}
