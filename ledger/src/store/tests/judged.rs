//! Tessera's `fsck`, which knows nothing of us, on what a test has left. Where there is none, that is said.

use super::Place;
use std::{fs, io::Write, path::Path, process::Command};

/// Says that a test, or part of it, was skipped: past libtest's capture, on a line of its own, so that `make test` counts it.
pub(super) fn skip(test: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("\nskipped: {test}: {why}\n").as_bytes());
}

/// Opens the ledger, exports it and has `fsck` judge the export.
pub(super) fn fsck(test: &str, place: &Place) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/judges-fetch");
    let out = Command::new(script).output().unwrap();
    assert!(out.status.success(), "judges-fetch: {}", String::from_utf8_lossy(&out.stderr));
    let judges = String::from_utf8(out.stdout).unwrap();
    if judges.trim().is_empty() {
        return skip(test, "there is no Go on this machine");
    }
    let ledger = place.open();
    assert_eq!(ledger.read_only(), None);
    let (folder, key) = (place.path("judged"), place.path("judged.vkey"));
    ledger.export(&folder, &[]).unwrap();
    fs::write(&key, ledger.verifier().to_string()).unwrap();
    let out = Command::new("timeout")
        .arg("120")
        .arg(Path::new(judges.trim()).join("fsck"))
        .args(["--ui=false", "--N=16"])
        .arg(format!("--storage_url=file://{}/", folder.display()))
        .arg(format!("--public_key={}", key.display()))
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    // Its exit code says nothing.
    assert!(said.contains("Successfully fsck'd log"), "{said}");
}
