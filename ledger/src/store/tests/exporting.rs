//! Exporting: the folder alone gives the root that the checkpoint signs, at every size where tiles begin or end, and nothing that
//! is not an older copy of itself is ever overwritten.

use super::*;
use crate::store::shared::{Point, lock};
use crate::tlog::{
    BundlePath, TileHashes, TileId, TilePath, TileReader, bundles_for_size, decode_bundle, root, tiles_for_size,
};
use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

/// Reads tiles from an export.
struct Folder<'a>(&'a Path);

impl TileReader for Folder<'_> {
    type Error = io::Error;

    fn tile(&self, level: u8, index: u64, width: u16) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(TilePath { id: TileId { level, index }, width }.to_string()))
    }
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir)
        .map_or(0, |list| list.map(|f| f.unwrap().path()).map(|p| if p.is_dir() { files(&p) } else { 1 }).sum())
}

/// Checks an export by nothing but its files and the key; gives its size.
fn check(dir: &Path, summary: &ExportSummary) -> u64 {
    let note = fs::read(dir.join("checkpoint")).unwrap();
    let signed = SignedCheckpoint::open(&note, ORIGIN, &[signer().verifier().clone()]).unwrap();
    let size = signed.checkpoint().size;
    assert_eq!(root(&TileHashes::new(Folder(dir), size), size).unwrap(), signed.checkpoint().root);
    let mut frontier = Frontier::new();
    for path in bundles_for_size(size) {
        let bundle = fs::read(dir.join(path.to_string())).unwrap();
        let hashes = Folder(dir).tile(0, path.index, path.width).unwrap();
        let entries = decode_bundle(&bundle).unwrap();
        assert_eq!((entries.len(), hashes.len()), (usize::from(path.width), usize::from(path.width) * 32));
        for (entry, hash) in entries.iter().zip(hashes.as_chunks::<32>().0) {
            let leaf = leaf_hash(entry);
            assert_eq!(leaf.as_bytes(), hash);
            frontier.push(leaf);
        }
    }
    assert_eq!(frontier.root(), signed.checkpoint().root);
    assert_eq!(fs::read(dir.join(format!("checkpoints/{size}"))).unwrap(), note);
    let expected = ExportSummary {
        entries: size.get(),
        tiles: tiles_for_size(size).count() as u64,
        bundles: bundles_for_size(size).count() as u64,
        checkpoints: files(&dir.join("checkpoints")) as u64,
        payloads: files(&dir.join("payload")) as u64,
        ..summary.clone()
    };
    assert_eq!(*summary, expected);
    let all = 1 + summary.tiles + summary.bundles + summary.checkpoints + summary.payloads;
    assert_eq!(files(dir) as u64, all, "a file too many");
    size.get()
}

/// Grows to that size, and publishes there by opening again.
fn grown(place: &Place, size: u64) -> Ledger {
    let ledger = place.open();
    let (answer, answers) = std::sync::mpsc::channel();
    let range = ledger.size().get()..size;
    for n in range.clone() {
        let answer = answer.clone();
        ledger.append_with(rejected(n), move |result| answer.send(result.is_ok()).unwrap());
    }
    assert!(answers.iter().take(range.count()).all(|ok| ok));
    ledger.close();
    place.open()
}

#[test]
fn an_export_stands_on_its_own_at_every_size() {
    let place = Place::new();
    drop(place.create());
    let mut published = 0;
    for size in [1, 2, 255, 256, 257, 511, 512, 513, 600] {
        let ledger = grown(&place, size);
        let dir = place.path(&format!("export-{size}"));
        let summary = ledger.export(&dir, &[]).unwrap();
        assert_eq!(check(&dir, &summary), size);
        assert!(summary.checkpoints > published, "an earlier checkpoint is missing");
        published = summary.checkpoints;
        // Over an earlier one of the same log.
        let summary = ledger.export(&place.path("again"), &[]).unwrap();
        assert_eq!(check(&place.path("again"), &summary), size);
        verify(&ledger);
    }
    assert!(place.path("again").join(BundlePath { index: 2, width: 88 }.to_string()).exists());
    let left: Vec<_> = fs::read_dir(place.dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn payloads_leave_by_class_and_only_with_what_committed_to_them() {
    let place = Place::new();
    let ledger = place.create();
    let appends: Vec<_> = (0..3).map(received).collect();
    appends.iter().for_each(|a| drop(ledger.append(a.clone()).unwrap()));
    ledger.close();
    let ledger = place.open();
    // Not published yet: neither the entry nor its payload is in the export.
    let (go, gone) = std::sync::mpsc::channel::<()>();
    *lock(&ledger.shared().fault) = Some(Box::new(move |point, _| {
        if point == Point::BeforePublish {
            let _ = gone.recv();
        }
        Ok(())
    }));
    let late = received(9);
    ledger.append(late.clone()).unwrap();
    let with = |classes: &[Class]| {
        let dir = place.path("export");
        let summary = ledger.export(&dir, classes).unwrap();
        (check(&dir, &summary), summary.payloads)
    };
    assert_eq!(with(&[]), (4, 0));
    assert_eq!(with(&[Class::Query, Class::Identity]), (4, 0));
    assert_eq!(with(&[Class::Query, Class::Request]), (4, 3));
    for append in &appends {
        let payload = &append.payloads[0];
        let file = fs::read(place.path("export").join(format!("payload/{}", payload.commitment()))).unwrap();
        let mut lines = file.splitn(3, |b| *b == b'\n');
        let mut line = || String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        let (class, salt, text) = (line(), line(), line());
        assert_eq!((class.as_str(), text.as_bytes()), ("request", payload.bytes.as_slice()));
        assert_eq!(fs::metadata(place.path("export/payload")).unwrap().mode() & 0o777, 0o700);
        let salt = *Hash::from_hex(&salt).unwrap().as_bytes();
        assert_eq!(Commitment::to(Class::from_name(&class).unwrap(), &salt, text.as_bytes()), payload.commitment());
    }
    drop(go);
    // Nothing readable, no salt, in the store's own files.
    ledger.close();
    for file in fs::read_dir(place.path("db")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|w| w == b"request 1" || w == b"request 2"));
        assert!(!bytes.windows(32).any(|w| w == appends[1].payloads[0].salt));
    }
    // Without its key a payload is withheld, and counted.
    fs::remove_dir_all(place.path("keyring/request")).unwrap();
    let ledger = place.open();
    let summary = ledger.export(&place.path("export"), &[Class::Request]).unwrap();
    assert_eq!((summary.payloads, summary.payloads_without_key), (0, 4));
    let error = ledger.payload(&late.payloads[0].commitment()).unwrap_err().to_string();
    assert!(error.contains("is not in the keyring"), "{error}");
}

#[test]
fn nothing_else_is_overwritten() {
    let (place, other) = (Place::new(), Place::new());
    let (ledger, stranger) = (place.create(), other.create());
    let refused = |dir: &Path, expect: &str| {
        let before = files(dir);
        let error = ledger.export(dir, &[]).unwrap_err().to_string();
        assert!(error.starts_with("will not export over `") && error.contains(expect), "{error}");
        assert_eq!(files(dir), before);
    };
    let dir = place.path("mine");
    fs::create_dir(&dir).unwrap();
    let summary = ledger.export(&dir, &[]).unwrap();
    check(&dir, &summary);
    fs::create_dir(place.path("home")).unwrap();
    fs::write(place.path("home/thesis"), "years of work").unwrap();
    refused(&place.path("home"), "it is not empty and holds no `checkpoint`");
    stranger.export(&place.path("theirs"), &[]).unwrap();
    refused(&place.path("theirs"), "they are two logs under one key");
    stranger.append(rejected(1)).unwrap();
    stranger.close();
    other.open().export(&place.path("theirs"), &[]).unwrap();
    refused(&place.path("theirs"), "it holds 2 entries, this ledger's last published checkpoint 1");
    fs::write(place.path("theirs/checkpoint"), "not a note").unwrap();
    refused(&place.path("theirs"), "is not one of this log");
    let error = ledger.export(Path::new("/"), &[]).unwrap_err().to_string();
    assert!(error.contains("it is not empty and holds no `checkpoint`"), "{error}");
}

#[test]
fn a_read_only_ledger_can_be_exported() {
    let place = Place::new();
    let ledger = place.create();
    ledger.append(rejected(1)).unwrap();
    ledger.close();
    fs::remove_file(place.path("HEAD")).unwrap();
    let ledger = place.open();
    assert!(ledger.read_only().is_some());
    let summary = ledger.export(&place.path("export"), &[]).unwrap();
    assert_eq!(check(&place.path("export"), &summary), 2);
}
