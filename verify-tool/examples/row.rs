//! How long it takes to prove one row of a large chunk, with its receipt already checked, and how long to check a receipt of a log
//! with as many entries: `cargo run --release -p countersign-verify --example row [ROWS]`, a million unless said.

use countersign_ledger::evidence::row::{RowProof, RowsOf, proof_line, row_line, row_salt};
use countersign_ledger::evidence::step::{ChunkMasked, Int};
use countersign_ledger::evidence::{Entry, Receipt, TraceId};
use countersign_ledger::tlog::{
    Checkpoint, Hash, HashReader, LeafIndex, SignedCheckpoint, SignerKey, TlogProof, TreeSize, inclusion_proof,
    leaf_hash, node_hash, root,
};
use std::time::Instant;

struct Levels(Vec<Vec<Hash>>);

impl HashReader for Levels {
    type Error = &'static str;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, &'static str> {
        let level = self.0.get(usize::from(level)).ok_or("no such level")?;
        level.get(usize::try_from(index).map_err(|_| "no such node")?).copied().ok_or("no such node")
    }
}

impl Levels {
    fn over(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let above = below.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
            levels.push(above);
        }
        Self(levels)
    }
}

fn main() -> anyhow::Result<()> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse())?;
    let of = RowsOf { request: TraceId::log(), attempt: Int::ONE, count: Int::saturating(rows) };
    let line = |i: u64| {
        let row = format!(r#"{{"id":{i},"name":"A*****","email":"a***@***.org","country":"DE"}}"#);
        row_line(&of, i, &row_salt(&[7; 32], i), row.as_bytes())
    };
    let begun = Instant::now();
    let mut leaves: Vec<Hash> = (0..rows).map(|i| leaf_hash(&line(i))).collect();
    let tree = Levels::over(leaves.clone());
    let size = TreeSize::new(rows);
    let rows_root = Some(root(&tree, size).map_err(anyhow::Error::msg)?);
    println!("tree of {rows} rows made in {:.1} s", begun.elapsed().as_secs_f64());
    let body = ChunkMasked { attempt: of.attempt, rows: of.count, columns: Vec::new(), rows_root };
    let (step, prev) = (Int::ONE, Some(Hash::from_bytes([0; 32])));
    let masked =
        Entry { trace: of.request, step, prev, at: Int::ONE, src: "bench/1".into(), seq: Int::ONE, body: body.into() };
    let mut proofs = Vec::new();
    for i in (0..rows).step_by((rows / 10_000).max(1) as usize) {
        let path = inclusion_proof(&tree, LeafIndex::new(i), size).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        proofs.push(String::from_utf8(proof_line(&line(i), &path))?);
    }
    for proof in &proofs {
        RowProof::decode(proof)?.verify(&masked)?;
    }
    let begun = Instant::now();
    for proof in &proofs {
        RowProof::decode(proof)?.verify(&masked)?;
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6 / proofs.len() as f64;
    println!(
        "one row proved in {micros:.1} µs (mean of {}, {} bytes each)",
        proofs.len(),
        proofs.first().map_or(0, String::len)
    );
    // A log of as many entries, the account of these rows in its middle.
    let (origin, index) = ("log.example/row", rows / 2);
    if let Some(leaf) = usize::try_from(index).ok().and_then(|index| leaves.get_mut(index)) {
        *leaf = masked.leaf()?;
    }
    let log = Levels::over(leaves);
    let key = SignerKey::generate_from_seed(origin, &[7; 32])?;
    let checkpoint = Checkpoint::new(origin, size, root(&log, size).map_err(anyhow::Error::msg)?);
    let index = LeafIndex::new(index);
    let hashes = inclusion_proof(&log, index, size).map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let checkpoint = SignedCheckpoint::sign(checkpoint, &[&key])?.into_note();
    let receipt = Receipt::new(masked.encode()?, None, TlogProof { extra: None, index, hashes, checkpoint })?.encode();
    let keys = [key.verifier().clone()];
    let begun = Instant::now();
    for _ in 0..1000 {
        Receipt::decode(&receipt)?.verify(origin, &keys)?;
    }
    println!("one receipt checked in {:.1} µs (mean of 1000)", begun.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
