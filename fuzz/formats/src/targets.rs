//! What is fuzzed, and what must hold of any bytes: no panic, no hang, and what was read is written as it was read. Nothing that
//! nobody signed is ever proven.

use countersign_ledger::evidence::archive::{BLOCK, Member, header, read_header};
use countersign_ledger::evidence::jws::Unverified;
use countersign_ledger::evidence::{Entry, ForkProof, Receipt, TraceState};
use countersign_ledger::tlog::{
    BundlePath, Checkpoint, CosignerKey, Epochs, Hash, LeafIndex, Note, Policy, SignedCheckpoint, SignerKey, TilePath,
    TlogProof, TreeSize, VerifierKey, WitnessKey, cosignatures, decode_bundle, encode_bundle, leaf_hash,
    verify_consistency, verify_inclusion, verify_subtree_consistency, verify_subtree_inclusion,
};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// What is fuzzed: a function of any bytes.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("note", note),
    ("key", key),
    ("checkpoint", checkpoint),
    ("epochs", epochs),
    ("policy", policy),
    ("proof", proof),
    ("numbers", numbers),
    ("tile", tile),
    ("archive", archive),
    ("entry", entry),
    ("token", token),
    ("receipt", receipt),
    ("fork", fork),
];

/// The name of the log in the corpus.
pub const ORIGIN: &str = "log.example/fuzz";

/// The log's key in the corpus.
pub fn log_key() -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[7; 32]).unwrap()
}

/// A witness of the corpus.
pub fn witness_key() -> CosignerKey {
    CosignerKey::generate_from_seed("witness.example/fuzz", &[8; 32]).unwrap()
}

fn keys() -> Epochs {
    Epochs::single(log_key().verifier().clone())
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// What is read from a text shows as that text.
fn same<T: FromStr + Display>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text);
    }
}

/// Signed notes.
pub fn note(data: &[u8]) {
    if let Ok(note) = Note::parse(data) {
        assert_eq!(note.encode().unwrap(), data);
        let _ = cosignatures(&note, &[witness_key().verifier().clone()]);
    }
    let _ = countersign_ledger::tlog::open(data, &[log_key().verifier().clone()]);
}

/// Keys of logs and witnesses.
pub fn key(data: &[u8]) {
    let Some(text) = text(data) else { return };
    same::<VerifierKey>(text);
    same::<WitnessKey>(text);
    same::<Hash>(text);
}

/// Checkpoints, unsigned and signed.
pub fn checkpoint(data: &[u8]) {
    if let Some(text) = text(data)
        && let Ok(checkpoint) = Checkpoint::decode(text)
    {
        assert_eq!(checkpoint.to_string(), text);
    }
    if let Ok(signed) = keys().open(data) {
        assert_eq!(signed.note(), data);
        assert!(signed.signers().contains(log_key().verifier()));
    }
    let _ = SignedCheckpoint::open(data, ORIGIN, &[]);
}

/// A log's keys with the sizes that each signs.
pub fn epochs(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(epochs) = Epochs::decode(text) {
        assert_eq!(Epochs::decode(&epochs.to_string()).as_ref(), Ok(&epochs));
        for size in [0, 1, 1 << 40, u64::MAX] {
            assert!(epochs.keys_at(TreeSize::new(size)).len() <= epochs.iter().count());
        }
    }
}

/// Policies: which witnesses must have cosigned.
pub fn policy(data: &[u8]) {
    if let Ok(policy) = Policy::decode(data) {
        let checkpoint = Checkpoint::new(ORIGIN, TreeSize::new(1), leaf_hash(b""));
        let signed = SignedCheckpoint::sign(checkpoint, &[&log_key()]).unwrap();
        // Nobody cosigned: no quorum, unless the policy wants none.
        if let Ok(witnessed) = policy.witnessed(&signed) {
            assert!(witnessed.cosigned.is_empty());
            assert_eq!(witnessed.quorum, witnessed.required == "no cosignature");
        }
        let _ = policy.open(signed.note());
    }
}

/// Proofs as texts.
pub fn proof(data: &[u8]) {
    if let Ok(proof) = TlogProof::decode(data) {
        assert_eq!(proof.encode(), data);
        let _ = proof.verify(leaf_hash(b"entry"), ORIGIN, &[log_key().verifier().clone()]);
    }
}

/// Proofs as numbers and hashes: three numbers, two hashes, and the rest as a proof.
pub fn numbers(data: &[u8]) {
    let Some((numbers, hashes)) = data.split_at_checked(24) else { return };
    let number = |at: usize| u64::from_be_bytes(numbers.as_chunks::<8>().0[at]);
    let hashes: Vec<Hash> = hashes.as_chunks::<32>().0.iter().map(|hash| Hash::from_bytes(*hash)).collect();
    let [one, other, rest @ ..] = hashes.as_slice() else { return };
    let (a, b, c) = (number(0), number(1), number(2));
    let (index, size) = (LeafIndex::new, TreeSize::new);
    let proven = [
        verify_inclusion(index(a), *one, size(b), *other, rest).is_ok(),
        verify_subtree_inclusion(index(a), index(b), index(c), *one, *other, rest).is_ok(),
        verify_consistency(size(a), size(b), *one, *other, rest).is_ok(),
        verify_subtree_consistency(index(a), index(b), size(c), *one, *other, rest).is_ok(),
    ];
    // With another root nothing of it holds any more, but for the trees of which the root says nothing.
    let wrong = Hash::from_bytes(other.as_bytes().map(|byte| !byte));
    if proven[0] {
        assert!(verify_inclusion(index(a), *one, size(b), wrong, rest).is_err());
    }
    if proven[2] && a > 0 {
        assert!(verify_consistency(size(a), size(b), *one, wrong, rest).is_err());
    }
}

/// Paths of tiles and bundles, and bundles.
pub fn tile(data: &[u8]) {
    if let Some(text) = text(data) {
        same::<TilePath>(text);
        same::<BundlePath>(text);
    }
    if let Ok(entries) = decode_bundle(data) {
        assert_eq!(encode_bundle(&entries).unwrap(), data);
    }
}

/// Headers of evidence in one file, as they are and with the checksum that they should have.
pub fn archive(data: &[u8]) {
    for block in data.chunks(BLOCK) {
        let mut whole = [0; BLOCK];
        whole[..block.len()].copy_from_slice(block);
        read_as_written(&whole);
        whole[148..156].fill(b' ');
        let sum: u32 = whole.iter().map(|byte| u32::from(*byte)).sum();
        whole[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        read_as_written(&whole);
    }
}

fn read_as_written(block: &[u8; BLOCK]) {
    if let Ok(Member::File { name, size }) = read_header(block) {
        assert!(!name.starts_with('/') && name.split('/').all(|part| !matches!(part, "" | "." | "..")));
        // Longer names have a second field, which is read and never written.
        if let Some(own) = header(&name, size) {
            assert_eq!(read_header(&own), Ok(Member::File { name, size }));
        }
    }
}

/// Entries, and what a trace makes of them.
pub fn entry(data: &[u8]) {
    if let Ok(entry) = Entry::decode(data) {
        assert_eq!(entry.encode().unwrap(), data);
        let mut state = TraceState::default();
        let before = state.clone();
        if state.apply(entry.trace, &entry.body).is_err() {
            assert_eq!(state, before);
        }
    }
}

/// Compact JWS.
pub fn token(data: &[u8]) {
    if let Ok(token) = Unverified::parse(data) {
        let _ = token.digest();
        let _ = token.claims_unverified::<BTreeMap<String, String>>();
    }
}

/// Receipts.
pub fn receipt(data: &[u8]) {
    if let Ok(receipt) = Receipt::decode(data) {
        assert_eq!(receipt.encode(), data);
        let _ = receipt.verify(ORIGIN, &[log_key().verifier().clone()]);
    }
}

/// Proofs that a log forked.
pub fn fork(data: &[u8]) {
    if let Ok(proof) = ForkProof::decode(data) {
        assert_eq!(proof.encode(), data);
        if let Ok(fork) = proof.verify(&keys()) {
            assert_ne!(fork.older, fork.newer);
            assert!(fork.older.size <= fork.newer.size);
        }
    }
}
