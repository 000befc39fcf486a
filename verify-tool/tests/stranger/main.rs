//! `docs/examples/verify.py` was written from `docs/formats.md` alone. It agrees with the tool on evidence that a running service
//! left (`tests/data/v1-served`), of which it reads all but the payloads: on what is whole, and, one fault at a time, on what is not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

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

/// What both say of a ledger (`log`) or a receipt (`receipt`): the stranger, then the tool.
fn ask(python: &str, what: &str, path: &Path) -> ((bool, String), u8) {
    let key = evidence().with_extension("vkey");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/verify.py");
    let output = Command::new(python).arg(script).arg(what).arg(path).arg(&key).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let args = ["countersign-verify", what, path.to_str().unwrap(), "--key", key.to_str().unwrap()];
    ((output.status.success(), said), countersign_verify::run(args, &mut Vec::new(), &mut Vec::new()))
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
