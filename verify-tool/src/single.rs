//! The small questions: one receipt, one chunk, two checkpoints. Each answers with a report of its own.

use crate::export::{Export, Fetched, NOTE_BYTES_MAX};
use crate::finding::{Code, Finding, Findings, Place};
use crate::fork::{self, TileFault, Tiles};
use crate::log::{open_note, signed_by};
use crate::report::Report;
use countersign_ledger::evidence::{EntryError, ForkProof, Receipt, ReceiptError, Salt, Step, chunk_commitment};
use countersign_ledger::tlog::{
    Checkpoint, Epochs, Hash, HashError, ProveError, TileError, TileHashes, TlogProof, TreeSize, VerifierKey,
    consistency_proof, leaf_hash, verify_consistency,
};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Checks a receipt.
pub fn receipt(file: &str, text: &[u8], keys: &Epochs) -> Report {
    let mut findings = Findings::default();
    let mut summary = String::new();
    let mut entry = None;
    if let Some((receipt, checkpoint)) = open_receipt(file, text, keys, &mut findings) {
        summary = format!(
            "entry {} is one of the {} entries of {}, as its key signed them",
            receipt.proof.index, checkpoint.size, checkpoint.origin
        );
        entry = serde_json::from_slice(&receipt.entry_bytes).ok();
    }
    Report { entry, ..Report::new("receipt", summary, &findings) }
}

/// Opens a receipt whose entry stands in the log of that key; what is wrong otherwise goes to the findings.
pub(crate) fn open_receipt(
    file: &str,
    text: &[u8],
    keys: &Epochs,
    findings: &mut Findings,
) -> Option<(Receipt, Checkpoint)> {
    let place = || Place::file(file);
    let all: Vec<VerifierKey> = keys.iter().map(|epoch| epoch.key.clone()).collect();
    let receipt = match Receipt::decode(text) {
        Ok(receipt) => receipt,
        Err(ReceiptError::Entry(EntryError::Newer(what))) => {
            // The entry cannot be read; that it stands in the log can be proven all the same.
            let proven = TlogProof::decode(text).map_err(|e| e.to_string()).and_then(|proof| {
                let line = proof.extra.as_deref().unwrap_or_default().split(|byte| *byte == b'\n').next();
                let leaf = leaf_hash(line.unwrap_or_default());
                proof.verify(leaf, keys.origin(), &all).map_err(|e| e.to_string())
            });
            findings.add(match proven {
                Ok(_) => Finding::new(Code::EntryNewer, place(), what, "entry version 1 of a known type"),
                Err(found) => Finding::new(Code::ReceiptProof, place(), found, "a proof of its entry"),
            });
            return None;
        }
        Err(error) => {
            let expected = "a tlog-proof with an entry";
            findings.add(Finding::new(Code::ReceiptForm, place(), error.to_string(), expected));
            return None;
        }
    };
    match receipt.verify(keys.origin(), &all) {
        Ok(checkpoint) => {
            // Good for one of the log's keys; the key must also be one that signs at this size.
            open_note(&receipt.proof.checkpoint, keys, place(), Code::ReceiptProof)
                .map_err(|finding| findings.add(*finding))
                .ok()?;
            Some((receipt, checkpoint))
        }
        Err(error) => {
            let expected = format!("a proof under {}", signed_by(keys));
            findings.add(Finding::new(Code::ReceiptProof, place(), error.to_string(), expected));
            None
        }
    }
}

/// Checks that these parts, in order, are the chunk of a receipt.
pub fn chunk(parts: &[PathBuf], (file, text): (&str, &[u8]), keys: &Epochs, salt: Option<Salt>) -> Report {
    let mut findings = Findings::default();
    let summary = chunk_summary(parts, (file, text), keys, salt, &mut findings);
    Report::new("chunk", summary.unwrap_or_default(), &findings)
}

fn chunk_summary(
    parts: &[PathBuf],
    (file, text): (&str, &[u8]),
    keys: &Epochs,
    salt: Option<Salt>,
    findings: &mut Findings,
) -> Option<String> {
    let (receipt, _) = open_receipt(file, text, keys, findings)?;
    let index = receipt.proof.index;
    let place =
        || Place { file: Some(file.into()), kind: Some(receipt.entry.body.kind().into()), ..Place::entry(index.get()) };
    let Step::DeliveryIntended(intended) = &receipt.entry.body else {
        findings.add(Finding::new(Code::NotADelivery, place(), receipt.entry.body.kind(), "delivery.intended"));
        return None;
    };
    let Some(salt) = salt.or(receipt.salt) else {
        findings.add(Finding::new(Code::ChunkSalt, place(), "no salt", "the chunk's salt"));
        return None;
    };
    let mut digests = Vec::with_capacity(parts.len());
    let mut bytes = 0u64;
    for part in parts {
        match digest_file(part) {
            Ok((digest, length)) => {
                digests.push(digest);
                bytes = bytes.saturating_add(length);
            }
            Err(error) => {
                let place = Place::file(part.display());
                findings.add(Finding::new(Code::Unreadable, place, error.to_string(), "a part of the chunk"));
                return None;
            }
        }
    }
    let mut expect = |found: String, expected: String| {
        let same = found == expected;
        if !same {
            findings.add(Finding::new(Code::ChunkMismatch, place(), found, expected));
        }
        same
    };
    let commitment = chunk_commitment(&salt, &digests);
    let good = expect(format!("{} parts", parts.len()), format!("{} parts", intended.parts))
        && expect(format!("{bytes} bytes"), format!("{} bytes", intended.bytes))
        && expect(format!("commitment {commitment}"), format!("commitment {}", intended.chunk));
    good.then(|| {
        format!(
            "these {} parts ({bytes} bytes) are what entry {index} recorded before delivery, in attempt {} of request {}",
            parts.len(),
            intended.attempt,
            receipt.entry.trace
        )
    })
}

/// SHA-256 and length of a file, which may be large.
fn digest_file(path: &PathBuf) -> std::io::Result<(Hash, u64)> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut file = File::open(path)?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((Hash::from_bytes(sha.finalize().into()), length));
        }
        sha.update(buffer.get(..read).unwrap_or_default());
        length += read as u64;
    }
}

/// What growth from one checkpoint to the other is proven with.
#[derive(Clone, Debug)]
pub enum Growth {
    /// Nothing: enough where the sizes are equal.
    Nothing,
    /// An export that is at least as large as the newer one.
    Export(Export),
    /// A file with the hashes of a consistency proof, one base64 hash a line.
    Proof(Vec<u8>),
}

/// Checks that the newer checkpoint's tree begins with the older one's.
pub fn consistency(old: (&str, &[u8]), new: (&str, &[u8]), keys: &Epochs, growth: &Growth) -> Report {
    let mut findings = Findings::default();
    let (summary, proof) = compare(old, new, keys, growth, &mut findings);
    let mut report = Report::new("consistency", summary.unwrap_or_default(), &findings);
    report.fork_proof = proof.and_then(|proof| String::from_utf8(proof.encode()).ok());
    report
}

/// What is proven, in one sentence; or that the two cannot both be true, where that can be shown.
fn compare(
    (old_file, old): (&str, &[u8]),
    (new_file, new): (&str, &[u8]),
    keys: &Epochs,
    growth: &Growth,
    findings: &mut Findings,
) -> (Option<String>, Option<ForkProof>) {
    let mut opened = |file: &str, note: &[u8]| {
        let opened = open_note(note, keys, Place::file(file), Code::Checkpoint);
        opened.map_err(|finding| findings.add(*finding)).ok()
    };
    // Both, so that both faults are told.
    let (Some(older), Some(newer)) = (opened(old_file, old), opened(new_file, new)) else { return (None, None) };
    let (old, new) = (older.checkpoint(), newer.checkpoint());
    let place = || Place::file(new_file);
    let shown = |c: &Checkpoint| format!("root {} at size {}", c.root, c.size);
    if old.size > new.size {
        let (found, expected) = (format!("size {}", new.size), format!("at least {}, the older size", old.size));
        findings.add(Finding::new(Code::RolledBack, place(), found, expected));
        return (None, None);
    }
    if old.size == new.size && old.root != new.root {
        findings.add(Finding::new(Code::Fork, place(), shown(new), shown(old)));
        return (None, fork::prove(None, &older, &newer, keys));
    }
    let summary = format!("the tree of size {} of {} begins with the tree of size {}", new.size, new.origin, old.size);
    if old.size == new.size || old.size.get() == 0 {
        return (Some(summary), None);
    }
    let proof = match growth {
        Growth::Nothing => {
            let expected = format!("proof of growth from {} to {}", old.size, new.size);
            let found = "two checkpoints alone";
            Err(Box::new(Finding::new(Code::GrowthUnproven, place(), found, expected)))
        }
        Growth::Proof(text) => hashes(text)
            .map_err(|found| Box::new(Finding::new(Code::Growth, place(), found, "base64 hashes, one a line"))),
        Growth::Export(export) => proof_from(tiles(export, keys, new.size), old.size, new.size),
    };
    let proof = match proof {
        Ok(proof) => proof,
        Err(finding) => {
            findings.add(*finding);
            return (None, None);
        }
    };
    let Err(error) = verify_consistency(old.size, new.size, old.root, new.root, &proof) else {
        return (Some(summary), None);
    };
    // The export may show that it is not the proof that is at fault.
    let forked = match growth {
        Growth::Export(export) => fork::prove(Some(tiles(export, keys, new.size)), &older, &newer, keys),
        _ => None,
    };
    let (code, found) = match forked.as_ref().and_then(|fork| fork.held.as_ref()) {
        Some(held) => (Code::Fork, format!("root {} at size {} of the newer tree", held.root, old.size)),
        None => (Code::Growth, error.to_string()),
    };
    let expected = format!("{} to grow into {}", shown(old), shown(new));
    findings.add(Finding::new(code, place(), found, expected));
    (None, forked)
}

fn hashes(text: &[u8]) -> Result<Vec<Hash>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
    text.lines().map(Hash::from_base64).collect::<Result<_, HashError>>().map_err(|e| e.to_string())
}

/// The tiles of an export, which may be larger than the tree that is looked for. The size that its checkpoint states only says
/// which files there may be: what proves is the proof, whatever it was made from.
fn tiles<'a>(export: &'a Export, keys: &Epochs, new: TreeSize) -> Tiles<'a> {
    let size = match export.read("checkpoint", NOTE_BYTES_MAX) {
        Fetched::Bytes(note) => keys.open(&note).map_or(new, |opened| opened.checkpoint().size),
        _ => new,
    };
    Tiles { export, size }
}

fn proof_from(tiles: Tiles<'_>, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, Box<Finding>> {
    let finding = |code, path: String, found: &str| Box::new(Finding::new(code, Place::file(path), found, "a tile"));
    consistency_proof(&TileHashes::new(tiles, new), old, new).map_err(|error| match error {
        ProveError::Read(TileError::Read(TileFault(path, Some(why)))) => finding(Code::Unreadable, path, &why),
        ProveError::Read(TileError::Read(TileFault(path, None))) => finding(Code::MissingFile, path, "no such file"),
        ProveError::Read(TileError::Length { path, found, .. }) => {
            finding(Code::TileAltered, path.to_string(), &format!("{found} bytes"))
        }
        other => finding(Code::MissingFile, "tile".into(), &format!("{other:?}")),
    })
}
