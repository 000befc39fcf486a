//! Other people's tools judge the log, unchanged: Tessera's `fsck` and `hammer`, torchwood's `spicy` and `litewitness`. None of them
//! knows anything of us; what they accept is what the published formats say.
//!
//! At each size where tiles and bundles begin, end or gain a level, the log is exported as of a checkpoint of just that size and judged;
//! `COUNTERSIGN_JUDGES_SIZES=1000000` has another list judged. Without Go to build them the judges are skipped, and that is said.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its helpers too")]

#[path = "../../examples/log_server/server.rs"]
mod server;
mod tools;

use countersign_ledger::{
    store::Ledger,
    tlog::{Hash, LeafIndex, SignerKey, TileHashes, TileReader, TreeSize, consistency_proof, witness::AddCheckpoint},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::channel,
    },
    thread,
};
use tools::{Judges, Witness};

const ORIGIN: &str = "judged.example/log";

const SIZES: [u64; 8] = [1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000];

fn signer() -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn vkey() -> String {
    signer().verifier().to_string()
}

fn sizes() -> Vec<u64> {
    match std::env::var("COUNTERSIGN_JUDGES_SIZES") {
        Ok(list) => list.split(',').map(|size| size.trim().parse().unwrap()).collect(),
        Err(_) => SIZES.to_vec(),
    }
}

/// Grows the log to that size and publishes a checkpoint of it, which closing does.
fn grown(folder: &Path, size: u64) -> Ledger {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let ledger = server::open(folder, signer()).unwrap();
    let (answer, answers) = channel();
    let (mut under_way, window) = (0, 2_000);
    for _ in ledger.size().get()..size {
        if under_way == window {
            let placed: bool = answers.recv().unwrap();
            assert!(placed);
            under_way -= 1;
        }
        let (answer, n) = (answer.clone(), NEXT.fetch_add(1, Relaxed));
        // The same epoch throughout: the numbers differ.
        let append = server::append(0, n, &n.to_be_bytes());
        ledger.append_with(append, move |result| answer.send(result.is_ok()).unwrap());
        under_way += 1;
    }
    assert!(answers.iter().take(under_way).all(|placed| placed));
    ledger.close();
    let ledger = server::open(folder, signer()).unwrap();
    assert_eq!(ledger.checkpoint().checkpoint().size.get(), size);
    ledger
}

/// Reads tiles where a client of the log reads them.
struct Tiles<'a>(&'a Ledger);

impl TileReader for Tiles<'_> {
    type Error = String;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<u8>, String> {
        let tile = self.0.tile(level, index, Some(width)).map_err(|e| e.to_string())?;
        tile.ok_or_else(|| format!("no tile {level}/{index} of width {width}"))
    }
}

fn consistency(ledger: &Ledger, old: u64) -> Vec<Hash> {
    let size = ledger.checkpoint().checkpoint().size;
    consistency_proof(&TileHashes::new(Tiles(ledger), size), TreeSize::new(old), size).unwrap()
}

/// `spicy` judges some entries under the last checkpoint.
fn judge_proofs(judges: &Judges, ledger: &Ledger, folder: &Path) {
    let size = ledger.size().get();
    fs::create_dir_all(folder).unwrap();
    let mut indices = vec![0, size / 2, size - 1, 255.min(size - 1), 256.min(size - 1), (size - 1) / 256 * 256];
    indices.sort_unstable();
    indices.dedup();
    let entries: Vec<PathBuf> = indices
        .into_iter()
        .map(|index| {
            let receipt = ledger.receipt_at(index, None).unwrap();
            assert_eq!(receipt.proof.index, LeafIndex::new(index));
            let file = folder.join(format!("entry-{index}"));
            fs::write(&file, &receipt.entry_bytes).unwrap();
            fs::write(tools::spicy_file(&file), tools::spicy_text(&receipt.proof)).unwrap();
            file
        })
        .collect();
    let said = judges.spicy(&vkey(), &entries);
    assert!(said.contains("Spicy signature(s) verified!"), "size {size}: {said}");
    // And it does judge: no altered entry passes.
    let last = entries.last().unwrap();
    let mut altered = fs::read(last).unwrap();
    altered[20] ^= 1;
    fs::write(last, altered).unwrap();
    let said = judges.spicy(&vkey(), std::slice::from_ref(last));
    assert!(said.contains("could not verify inclusion"), "size {size}: {said}");
}

#[test]
fn the_log_is_accepted_at_every_size() {
    let Some(judges) = Judges::fetch("the_log_is_accepted_at_every_size") else { return };
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let witness = Witness::start(&judges, place.path(), ORIGIN, &vkey());
    let (mut exports, mut cosigned) = (vec![], 0);
    for size in sizes() {
        let ledger = grown(&log, size);
        let export = place.path().join(format!("export-{size}"));
        ledger.export(&export, &[]).unwrap();
        let said = judges.fsck(&export, &vkey());
        assert!(said.contains("Successfully fsck'd log"), "size {size}: {said}");
        judge_proofs(&judges, &ledger, &place.path().join(format!("proofs-{size}")));

        let checkpoint = ledger.checkpoint();
        let request = AddCheckpoint {
            old: TreeSize::new(cosigned),
            proof: consistency(&ledger, cosigned),
            checkpoint: checkpoint.note().to_vec(),
        };
        if let Some(first) = request.proof.first() {
            // The witness judges too: another proof does not pass.
            let mut other = *first.as_bytes();
            other[0] ^= 1;
            let proof = [vec![Hash::from_bytes(other)], request.proof[1..].to_vec()].concat();
            assert_eq!(witness.post(&AddCheckpoint { proof, ..request.clone() }).0, 422);
        }
        let (status, body) = witness.post(&request);
        assert_eq!(status, 200, "size {size}: {body}");
        witness.check(&checkpoint, &body);
        cosigned = size;
        exports.push((size, export));
    }
    // Hammer's readers take a while to begin, so they read all exports at once.
    thread::scope(|scope| {
        for (size, export) in &exports {
            let judges = &judges;
            scope.spawn(move || {
                let said = judges.hammer_reads(&format!("file://{}/", export.display()), &vkey());
                tools::assert_no_complaint(&format!("size {size}"), &said);
            });
        }
    });
    // And `fsck` does judge.
    let (_, last) = exports.last().unwrap();
    let tile = last.join("tile/0/000");
    if tile.exists() {
        let mut bytes = fs::read(&tile).unwrap();
        bytes[100] ^= 1;
        fs::write(&tile, bytes).unwrap();
        let said = judges.fsck(last, &vkey());
        assert!(!said.contains("Successfully fsck'd log"), "a flipped bit was accepted: {said}");
    }
}

/// Hammer's writers, and its readers at the same time, over HTTP; then everything it wrote is judged.
#[test]
fn hammer_writes_and_reads_over_http() {
    let Some(judges) = Judges::fetch("hammer_writes_and_reads_over_http") else { return };
    let place = tempfile::tempdir().unwrap();
    let ledger = server::open(&place.path().join("log"), signer()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let routes = server::routes(ledger.clone());
    runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let said = judges.hammer_writes(&url, &vkey(), 64, 3_000);
    assert!(said.contains("Reached tree size goal"), "{said}");
    tools::assert_no_complaint("writing", &said);
    drop(runtime);
    let written = ledger.size().get();
    assert!(written > 3_000, "found {written} entries");
    ledger.close();
    let ledger = server::open(&place.path().join("log"), signer()).unwrap();
    let export = place.path().join("export");
    ledger.export(&export, &[]).unwrap();
    let said = judges.fsck(&export, &vkey());
    assert!(said.contains("Successfully fsck'd log"), "{said}");
}
