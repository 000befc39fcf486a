//! `docs/examples/verify.py`, which was written from `docs/formats.md` alone, agrees with the tool: on what is whole, and on what
//! is not.

use super::{Dice, Evidence, Map, each, load, spoiled};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A Python that has what the example needs; where there is none, says so past libtest's capture and gives nothing.
fn python(test: &str) -> Option<&'static str> {
    let can = |python: &&str| {
        let output =
            Command::new(python).args(["-c", "import sys, cryptography; assert sys.version_info >= (3, 9)"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(can);
    if found.is_none() {
        let why = "no python3 with the package `cryptography`";
        let _ = std::io::stderr().write_all(format!("\nskipped: {test}: {why}\n").as_bytes());
    }
    found
}

fn run(python: &str, args: &[&Path], what: &str) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/verify.py");
    let output = Command::new(python).arg(script).arg(what).args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1")
}

#[test]
fn a_stranger_agrees_on_what_is_whole() {
    let Some(python) = python("a_stranger_agrees_on_what_is_whole") else { return };
    let (dir, key) = (data(), data().join("ledger.vkey"));
    let (good, said) = run(python, &[&dir.join("export"), &key], "log");
    assert!(good && said.contains("are those that were signed"), "{said}");
    let receipt = dir.join("chunks/chunk.receipt");
    let (good, said) = run(python, &[&receipt, &key], "receipt");
    assert!(good && said.contains("\"delivery.intended\""), "{said}");
}

#[test]
fn a_stranger_finds_what_is_not() {
    let Some(python) = python("a_stranger_finds_what_is_not") else { return };
    let evidence = Evidence::load();
    let key = data().join("ledger.vkey");
    let mut export = Map::new();
    load(&data().join("export"), "", &mut export);
    // It looks neither into payloads nor for files that are too many.
    export.retain(|path, _| !path.starts_with("payload/"));
    let paths: Vec<&String> = export.keys().collect();
    each(24, |seed| {
        let mut dice = Dice(seed ^ 0xabcd);
        let path = *dice.pick(&paths);
        let (bytes, what) = spoiled(&export[path], &mut dice);
        if bytes == *export[path] {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut bad = export.clone();
        bad.insert(path.clone(), Arc::new(bytes));
        for (path, bytes) in &bad {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &**bytes).unwrap();
        }
        let (good, said) = run(python, &[dir.path(), &key], "log");
        assert!(!good, "seed {seed}: {what} in {path}: {said}");
        assert_ne!(evidence.log(bad).exit, 0);
    });
    let receipt = fs::read(data().join("chunks/chunk.receipt")).unwrap();
    let mut dice = Dice(11);
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..12 {
        let (bytes, what) = spoiled(&receipt, &mut dice);
        if bytes == receipt {
            continue;
        }
        fs::write(dir.path().join("receipt"), bytes).unwrap();
        let (good, said) = run(python, &[&dir.path().join("receipt"), &key], "receipt");
        let ours = super::single::receipt("receipt", &fs::read(dir.path().join("receipt")).unwrap(), &evidence.key);
        assert!(!good || ours.exit == 0, "{what}: {said}");
    }
}
