//! `docs/examples/verify.py` was written from `docs/formats.md` alone. It agrees with the tool on evidence that a running service
//! left (`tests/data/v1-served`), of which it reads all but the payloads: on what is whole, and, one fault at a time, on what is not.
//! And on a small ledger whose key was replaced.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its helpers too")]

use countersign_ledger::evidence::step::{LogCreated, LogKeyRotated, RequestRejected};
use countersign_ledger::evidence::{Class, Commitment, Entry, Int, Reason, Step, TraceId, rotation};
use countersign_ledger::tlog::{
    Checkpoint, Frontier, Hash, SignedCheckpoint, SignerKey, TreeSize, encode_bundle, leaf_hash,
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

/// What both say of a ledger (`log`) or a receipt (`receipt`) of the log of that key, or of those keys: the stranger, then the tool.
fn ask_by(python: &str, what: &str, path: &Path, keys: &Path) -> ((bool, String), u8) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/verify.py");
    let output = Command::new(python).arg(script).arg(what).arg(path).arg(keys).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let flag = if fs::read_to_string(keys).unwrap().lines().count() > 1 { "--epochs" } else { "--key" };
    let args = ["countersign-verify", what, path.to_str().unwrap(), flag, keys.to_str().unwrap()];
    ((output.status.success(), said), countersign_verify::run(args, &mut Vec::new(), &mut Vec::new()))
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
    let check = |signed: &[(usize, u8)], change: fn(&mut LogKeyRotated), keys: &str, good: bool| {
        let (ledger, file) = (dir.path().join("ledger"), dir.path().join("keys"));
        let _ = fs::remove_dir_all(&ledger);
        replaced(&ledger, signed, change);
        fs::write(&file, keys).unwrap();
        let ((proven, said), exit) = ask_by(python, "log", &ledger, &file);
        assert_eq!(
            (proven, exit == 0),
            (good, good),
            "{signed:?} by {keys}: the tool says {exit}, the stranger {said}"
        );
    };
    let [one, two, three] = [1, 2, 3].map(|n| key(n).verifier().to_string());
    let whole: &[(usize, u8)] = &[(2, 1), (3, 2), (4, 2)];
    for keys in [one.clone(), two.clone(), format!("# all\n{one} 3\n{two}\n")] {
        check(whole, |_| (), &keys, true);
        // Beyond its end a key signs nothing, and before its beginning.
        check(&[(2, 1), (3, 2), (4, 1)], |_| (), &keys, false);
        check(&[(2, 2), (3, 2), (4, 2)], |_| (), &keys, false);
        // Both sign the rotation, and it begins where it stands.
        check(whole, |s| s.new_signature.clone_from(&s.old_signature), &keys, false);
        check(whole, |s| s.old_signature.clone_from(&s.new_signature), &keys, false);
        check(whole, |s| s.size = Int::ONE, &keys, false);
    }
    for keys in [three.clone(), format!("{one} 2\n{two}\n"), format!("{one} 3\n{three}\n"), format!("{two} 3\n{one}\n")]
    {
        check(whole, |_| (), &keys, false);
    }
}
