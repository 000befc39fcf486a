//! Our tree beside `merkle-tree-rs` 0.1.0, both in memory and on one thread: build, prove, verify, at 10³ to 10⁶ leaves of 300 bytes.
//!
//! Ours is a tree that can grow (RFC 6962, SHA-256, kept as tiles); theirs is made at once from all leaves (OpenZeppelin's, Keccak-256).
//! Both hash the leaves as part of building. Its `get_proof` takes the whole tree by value, so proving with it copies the tree.

use countersign_ledger::tlog::{
    Frontier, Hash, LeafIndex, TileHashes, TileReader, TreeSize, inclusion_proof, leaf_hash, verify_inclusion,
};
use ethers::{types::Bytes, utils::keccak256};
use merkle_tree_rs::core::{get_proof, make_merkle_tree, process_proof};
use std::{
    collections::HashMap,
    hint::black_box,
    time::{Duration, Instant},
};

#[derive(Default)]
struct Tiles(HashMap<(u8, u64), Vec<u8>>);

impl TileReader for &Tiles {
    type Error = String;

    fn tile(&self, level: u8, index: u64, _width: u16) -> Result<Vec<u8>, String> {
        self.0.get(&(level, index)).cloned().ok_or_else(|| format!("no tile {level}/{index}"))
    }
}

fn leaf(n: usize) -> Vec<u8> {
    let mut leaf = n.to_string().into_bytes();
    leaf.resize(300, b'x');
    leaf
}

fn build_ours(leaves: &[Vec<u8>]) -> (Tiles, Hash) {
    let (mut frontier, mut tiles) = (Frontier::new(), Tiles::default());
    for leaf in leaves {
        frontier.push_with(leaf_hash(leaf), |level, index, hash| {
            if level % 8 == 0 {
                tiles.0.entry((level / 8, index / 256)).or_default().extend_from_slice(hash.as_bytes());
            }
        });
    }
    (tiles, frontier.root())
}

fn build_theirs(leaves: &[Vec<u8>]) -> Vec<Bytes> {
    make_merkle_tree(leaves.iter().map(|leaf| Bytes::from(keccak256(leaf))).collect())
}

/// The mean of as many runs as fit in two seconds, at most `runs`.
fn mean(runs: usize, mut run: impl FnMut(usize)) -> Duration {
    let started = Instant::now();
    let mut done = 0;
    while done < runs && (done == 0 || started.elapsed() < Duration::from_secs(2)) {
        run(done);
        done += 1;
    }
    started.elapsed() / done as u32
}

fn row(what: &str, ours: Duration, theirs: Duration) {
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("  {what:<7} ours {ours:>12.2?}  merkle-tree-rs {theirs:>12.2?}  {ratio:>8.1} times as long");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for size in [1_000, 10_000, 100_000, 1_000_000] {
        let leaves: Vec<Vec<u8>> = (0..size).map(leaf).collect();
        println!("{size} leaves");
        let ours = mean(20, |_| drop(black_box(build_ours(&leaves))));
        row("build", ours, mean(20, |_| drop(black_box(build_theirs(&leaves)))));
        let ((tiles, root), tree) = (build_ours(&leaves), build_theirs(&leaves));
        let tree_size = TreeSize::new(size as u64);
        // Places spread over the tree.
        let place = |n: usize| n.wrapping_mul(7_919) % size;
        let prove = |n: usize| inclusion_proof(&TileHashes::new(&tiles, tree_size), LeafIndex::new(n as u64), tree_size);
        // Its leaves stand at the end, in reverse.
        let prove_theirs = |n: usize| get_proof(tree.clone(), tree.len() - 1 - n);
        let ours = mean(2_000, |n| drop(black_box(prove(place(n)))));
        row("prove", ours, mean(2_000, |n| drop(black_box(prove_theirs(place(n))))));
        let proofs: Vec<_> = (0..20).map(|n| (place(n), prove(place(n)).unwrap(), prove_theirs(place(n)))).collect();
        let check = |(n, proof, _): &(usize, Vec<Hash>, Vec<Bytes>)| {
            let (index, leaf) = (LeafIndex::new(*n as u64), leaf_hash(&leaves[*n]));
            verify_inclusion(index, leaf, tree_size, root, proof).unwrap();
        };
        let check_theirs = |(n, _, proof): &(usize, Vec<Hash>, Vec<Bytes>)| {
            assert_eq!(process_proof(Bytes::from(keccak256(&leaves[*n])), proof), tree[0]);
        };
        let ours = mean(20_000, |n| check(&proofs[n % proofs.len()]));
        row("verify", ours, mean(20_000, |n| check_theirs(&proofs[n % proofs.len()])));
    }
    Ok(())
}
