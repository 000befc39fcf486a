//! Evidence in one file: whole, it holds what the folder holds; in part, the chosen entries with the tiles that lead from each
//! to the signed root, and nothing of anybody else's.

use super::*;
use crate::evidence::archive::{BLOCK, Member, padding, read_header};
use crate::evidence::step::{ReidentifyDecided, SourceSampled, Verdict};
use crate::tlog::{TileHashes, TileId, TilePath, TileReader, inclusion_proof, root, verify_inclusion};
use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

/// The files of an archive.
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (mut files, mut at) = (BTreeMap::new(), 0);
        while let Member::File { name, size } = read_header(bytes[at..at + BLOCK].try_into().unwrap()).unwrap() {
            let from = at + BLOCK;
            at = from + (size + padding(size)) as usize;
            assert!(files.insert(name, bytes[from..from + size as usize].to_vec()).is_none());
        }
        assert_eq!(bytes.len(), at + 2 * BLOCK);
        Self(files)
    }

    fn names(&self, prefix: &str) -> Vec<&str> {
        self.0.keys().filter_map(|name| name.strip_prefix(prefix)).collect()
    }
}

impl TileReader for &Files {
    type Error = String;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<u8>, String> {
        let path = TilePath { id: TileId { level, index }, width }.to_string();
        self.0.get(&path).cloned().ok_or(path)
    }
}

fn folder(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_whole_is_what_the_folder_holds() {
    let place = Place::new();
    let ledger = place.create();
    (0..700).for_each(|n| ledger.append_with(received(n), |_| {}));
    ledger.append(rejected(1)).unwrap();
    ledger.wait_published().unwrap();
    ledger.export(&place.path("folder"), &[Class::Request]).unwrap();
    let summary = ledger.export_bundle(&place.path("all.tar"), &Selection::default(), &[Class::Request]).unwrap();
    let files = Files::read(&place.path("all.tar"));
    assert_eq!(files.0, folder(&place.path("folder")));
    assert_eq!((summary.entries, summary.payloads), (702, 700));
    assert_eq!(summary.bytes, fs::metadata(place.path("all.tar")).unwrap().len());
    assert_eq!(fs::metadata(place.path("all.tar")).unwrap().mode() & 0o777, 0o600);
    let again = ledger.export_bundle(&place.path("all.tar"), &Selection::default(), &[]).unwrap_err().to_string();
    assert!(again.contains("it exists already"), "{again}");
    let left = fs::read_dir(place.dir.path()).unwrap().map(|f| f.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with('.')));
}

#[test]
fn a_part_holds_the_chosen_and_what_proves_them() {
    let place = Place::new();
    let ledger = place.create();
    let step = Selection::default().step(None, &[Class::Request, Class::Identity]);
    ledger.append(Append::opening(TraceId::exports(), vec![step])).unwrap();
    ledger.append(Append::opening(TraceId::connection("shop"), vec![connection(0)])).unwrap();
    for n in 0..200 {
        let appended = ledger.append(received(n)).unwrap();
        ledger.append(Append::following(request_trace(n), appended.head(), vec![verified(), denied()])).unwrap();
        ledger.append(rejected(n)).unwrap();
    }
    // Looks into tables and re-identifications are somebody's, as requests are.
    let (looked, given) = (TraceId::sample(&"5".repeat(32)), TraceId::reidentify("other", "jti"));
    ledger.append(Append::opening(looked, vec![sampled("5".repeat(32))])).unwrap();
    ledger.append(Append::opening(given, vec![reidentified()])).unwrap();
    let size = ledger.wait_published().unwrap().checkpoint().size;
    let entries = verify(&ledger);
    let seconds = |entry: &Entry| int(entry.at.get() / 1_000_000);
    let check = |what: &str, selection: Selection, taken: &dyn Fn(&Entry) -> bool| {
        let path = place.path(&format!("{what}.tar"));
        ledger.export_bundle(&path, &selection, &[Class::Request]).unwrap();
        let files = Files::read(&path);
        let signed = SignedCheckpoint::open(&files.0["checkpoint"], ORIGIN, &[ledger.verifier()]).unwrap();
        assert_eq!(signed.checkpoint().size, size);
        let tiles = TileHashes::new(&files, size);
        assert_eq!(root(&tiles, size).unwrap(), signed.checkpoint().root, "{what}");
        let mut expected = Vec::new();
        let mut payloads = 0;
        for (index, entry) in entries.iter().enumerate() {
            let standing = [TraceId::log(), TraceId::exports(), TraceId::connection("shop")].contains(&entry.trace);
            if !standing && !taken(entry) {
                continue;
            }
            expected.push(index.to_string());
            payloads += usize::from(matches!(entry.body, Step::RequestReceived(_)));
            let bytes = &files.0[&format!("entry/{index}")];
            assert_eq!(*bytes, entry.encode().unwrap());
            let at = crate::tlog::LeafIndex::new(index as u64);
            let proof = inclusion_proof(&tiles, at, size).unwrap();
            verify_inclusion(at, leaf_hash(bytes), size, signed.checkpoint().root, &proof).unwrap();
        }
        expected.sort();
        assert_eq!(files.names("entry/"), expected, "{what}");
        assert_eq!(files.names("payload/").len(), payloads, "{what}");
        assert!(files.names("tile/entries/").is_empty() && files.names("checkpoints/").is_empty());
    };
    let nothing = Selection::default();
    let request = Some(request_trace(77));
    check("request", Selection { request, ..nothing.clone() }, &|e| e.trace == request_trace(77));
    let identity = Some("caller".to_owned());
    let requests = |e: &Entry| (0..200).any(|n| e.trace == request_trace(n));
    check("identity", Selection { identity, ..nothing.clone() }, &requests);
    check("stranger", Selection { identity: Some("nobody".into()), ..nothing.clone() }, &|_| false);
    let other = Some("other".to_owned());
    check("other", Selection { identity: other, ..nothing.clone() }, &|e| e.trace == given);
    let dataset = Some("shop.customers".into());
    check("dataset", Selection { dataset, ..nothing.clone() }, &|e| [looked, given].contains(&e.trace));
    let from = Some(seconds(&entries[0]));
    check("time", Selection { from, ..nothing.clone() }, &|_| true);
    check("earlier", Selection { to: from, ..nothing }, &|_| false);
}

fn sampled(sample: String) -> Step {
    SourceSampled {
        sample,
        identity: "admin".into(),
        kid: "kid".into(),
        registered: Int::ZERO,
        connection: "shop".into(),
        table: "customers".into(),
        columns: vec!["id".into()],
        rows: int(5),
        snapshot: "1:1:".into(),
        statement: Commitment::to(Class::Query, &[1; 32], b"select"),
    }
    .into()
}

fn reidentified() -> Step {
    ReidentifyDecided {
        digest: Hash::from_bytes([1; 32]),
        request: Commitment::to(Class::Request, &[1; 32], b"request"),
        identity: "other".into(),
        kid: "kid".into(),
        registered: Int::ZERO,
        verdict: Verdict::Permit,
        refusal: None,
        policies: vec!["policy0".into()],
        policy: Hash::from_bytes([2; 32]),
        catalog: Hash::from_bytes([3; 32]),
        time: int(5),
        connection: Some("shop".into()),
        table: Some("customers".into()),
        column: Some("number".into()),
        rule: Some("token(people)".into()),
        purpose: Some("support".into()),
        count: int(1),
        tokens: Commitment::to(Class::Reidentify, &[1; 32], b"tokens"),
        reason: Commitment::to(Class::Reidentify, &[1; 32], b"reason"),
    }
    .into()
}
