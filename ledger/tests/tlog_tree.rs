//! The tree: other people's verdicts on 518 proofs, an independent implementation as oracle, and what must hold for every
//! tree: proofs made here verify here, and no bit of them can be turned.
#![expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_ledger::tlog::*;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use serde::Deserialize;
use sha2::Sha256;
use std::convert::Infallible;

/// A tree held as all its complete nodes, level by level.
struct Nodes(Vec<Vec<Hash>>);

impl Nodes {
    fn new(entries: &[Vec<u8>]) -> Self {
        let mut levels = vec![entries.iter().map(|entry| leaf_hash(entry)).collect::<Vec<_>>()];
        while levels[levels.len() - 1].len() > 1 {
            let (pairs, _) = levels[levels.len() - 1].as_chunks::<2>();
            levels.push(pairs.iter().map(|[left, right]| node_hash(left, right)).collect());
        }
        Self(levels)
    }
}

impl HashReader for Nodes {
    type Error = Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        Ok(self.0[usize::from(level)][index as usize])
    }
}

/// RFC 6962, section 2.1, word for word.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
        }
    }
}

fn entries(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("entry {n}").into_bytes()).collect()
}

fn index(n: u64) -> LeafIndex {
    LeafIndex::new(n)
}

fn size(n: u64) -> TreeSize {
    TreeSize::new(n)
}

fn flipped(hash: Hash, bit: usize) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Hash::from_bytes(bytes)
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Probe {
    #[serde(rename_all = "camelCase")]
    Inclusion { leaf_idx: u64, tree_size: u64, root: String, leaf_hash: String, proof: Option<Vec<String>> },
    #[serde(rename_all = "camelCase")]
    Consistency { size1: u64, size2: u64, root1: String, root2: String, proof: Option<Vec<String>> },
    #[serde(rename_all = "camelCase")]
    SubtreeInclusion {
        leaf_idx: u64,
        start: u64,
        end: u64,
        root: String,
        leaf_hash: String,
        proof: Option<Vec<String>>,
    },
    #[serde(rename_all = "camelCase")]
    SubtreeConsistency { start: u64, end: u64, size: u64, root1: String, root2: String, proof: Option<Vec<String>> },
}

#[derive(Deserialize)]
struct Verdict {
    #[serde(rename = "wantErr")]
    refused: bool,
}

/// Some probes hold hashes that are not 32 bytes long, which [`Hash`] can't. They are filled up, so that the tree code has to
/// judge them too: leaves otherwise than the rest, or a leaf without bytes would be the root without bytes.
fn padded(base64: &str, filler: u8) -> Hash {
    let mut bytes = STANDARD.decode(base64).unwrap();
    assert_eq!(Hash::try_from(bytes.as_slice()).is_ok(), bytes.len() == 32);
    bytes.resize(32, filler);
    Hash::try_from(bytes.as_slice()).unwrap()
}

fn path(proof: Option<Vec<String>>) -> Vec<Hash> {
    proof.unwrap_or_default().iter().map(|hash| padded(hash, 0)).collect()
}

#[test]
fn the_probes_of_transparency_dev() {
    let mut counts = [0; 4];
    let mut deviations = 0;
    for line in include_str!("data/rfc6962-probes.jsonl").lines() {
        let Verdict { mut refused } = serde_json::from_str(line).unwrap();
        let (kind, verdict) = match serde_json::from_str(line).unwrap() {
            Probe::Inclusion { leaf_idx, tree_size, root, leaf_hash, proof } => {
                let (root, leaf) = (padded(&root, 0), padded(&leaf_hash, 1));
                (0, verify_inclusion(index(leaf_idx), leaf, size(tree_size), root, &path(proof)))
            }
            Probe::Consistency { size1, size2, root1, root2, proof } => {
                let (proof, root1, root2) = (path(proof), padded(&root1, 0), padded(&root2, 0));
                // The one place where we judge otherwise: RFC 6962 has no proof from the empty tree, C2SP tlog-witness has
                // (an empty one).
                if (size1, root1, proof.len()) == (0, EMPTY_ROOT, 0) && size2 > 0 {
                    deviations += 1;
                    refused = false;
                }
                (1, verify_consistency(size(size1), size(size2), root1, root2, &proof))
            }
            Probe::SubtreeInclusion { leaf_idx, start, end, root, leaf_hash, proof } => {
                let (root, leaf) = (padded(&root, 0), padded(&leaf_hash, 1));
                (2, verify_subtree_inclusion(index(leaf_idx), index(start), index(end), leaf, root, &path(proof)))
            }
            Probe::SubtreeConsistency { start, end, size: n, root1, root2, proof } => {
                let (root1, root2) = (padded(&root1, 0), padded(&root2, 0));
                (3, verify_subtree_consistency(index(start), index(end), size(n), root1, root2, &path(proof)))
            }
        };
        assert_eq!(verdict.is_err(), refused, "{line}: {verdict:?}");
        counts[kind] += 1;
    }
    assert_eq!((counts, deviations), ([98, 98, 204, 118], 1));
}

#[test]
fn the_empty_tree() {
    assert_eq!(EMPTY_ROOT.to_base64(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(Frontier::new().root(), EMPTY_ROOT);
    assert_eq!(root(&Nodes::new(&[]), size(0)), Ok(EMPTY_ROOT));
    let some = leaf_hash(b"");
    assert_eq!(verify_consistency(size(0), size(0), EMPTY_ROOT, EMPTY_ROOT, &[]), Ok(()));
    assert_eq!(verify_consistency(size(0), size(1), EMPTY_ROOT, some, &[]), Ok(()));
    assert!(verify_consistency(size(0), size(1), some, some, &[]).is_err());
    assert!(verify_consistency(size(0), size(0), EMPTY_ROOT, some, &[]).is_err());
    assert!(verify_inclusion(index(0), some, size(0), EMPTY_ROOT, &[]).is_err());
}

#[test]
fn what_cannot_be_proven_is_refused_by_name() {
    let tree = Nodes::new(&entries(3));
    assert_eq!(
        inclusion_proof(&tree, index(3), size(3)).unwrap_err().to_string(),
        "no such leaf: found index 3, required one below the tree size 3"
    );
    assert_eq!(
        consistency_proof(&tree, size(3), size(2)).unwrap_err().to_string(),
        "the older tree is larger than the newer one: found sizes 3 and 2"
    );
    assert_eq!(
        verify_inclusion(index(0), leaf_hash(b""), size(3), EMPTY_ROOT, &[]),
        Err(ProofError::WrongLength { found: 0, required: 2 })
    );
}

/// Every leaf and every older size of every tree up to 20 leaves: the proof verifies, and no bit of it, of the leaf or of a
/// root can be turned, and no hash left out, added or exchanged with its neighbour.
#[test]
fn proofs_verify_and_their_mutations_do_not() {
    let refused_when_changed = |proof: &[Hash], verify: &dyn Fn(&[Hash]) -> Result<(), ProofError>| {
        assert_eq!(verify(proof), Ok(()));
        for at in 0..proof.len() {
            let mut changed = proof.to_vec();
            for bit in 0..256 {
                changed[at] = flipped(proof[at], bit);
                assert!(verify(&changed).is_err());
            }
            changed.remove(at);
            assert!(verify(&changed).is_err());
            if at > 0 {
                let mut changed = proof.to_vec();
                changed.swap(at - 1, at);
                assert!(verify(&changed).is_err());
            }
        }
        for at in 0..=proof.len() {
            let mut changed = proof.to_vec();
            changed.insert(at, EMPTY_ROOT);
            assert!(verify(&changed).is_err());
        }
    };
    let tree = Nodes::new(&entries(20));
    let leaves = &tree.0[0];
    for n in 0..=20 {
        let root_n = root(&tree, size(n)).unwrap();
        assert_eq!(root_n, mth(&leaves[..n as usize]));
        for i in 0..n {
            let leaf = leaves[i as usize];
            let proof = inclusion_proof(&tree, index(i), size(n)).unwrap();
            refused_when_changed(&proof, &|proof| verify_inclusion(index(i), leaf, size(n), root_n, proof));
            for bit in 0..256 {
                assert!(verify_inclusion(index(i), flipped(leaf, bit), size(n), root_n, &proof).is_err());
                assert!(verify_inclusion(index(i), leaf, size(n), flipped(root_n, bit), &proof).is_err());
            }
            for other in (0..=n).filter(|other| *other != i) {
                assert!(verify_inclusion(index(other), leaf, size(n), root_n, &proof).is_err());
            }
        }
        for old in 0..=n {
            let root_old = root(&tree, size(old)).unwrap();
            let proof = consistency_proof(&tree, size(old), size(n)).unwrap();
            let verify = |proof: &[Hash]| verify_consistency(size(old), size(n), root_old, root_n, proof);
            refused_when_changed(&proof, &verify);
            for bit in 0..256 {
                assert!(verify_consistency(size(old), size(n), flipped(root_old, bit), root_n, &proof).is_err());
                // From the empty tree everything follows.
                let other = verify_consistency(size(old), size(n), root_old, flipped(root_n, bit), &proof);
                assert_eq!(other.is_err(), old > 0 || n == 0);
            }
        }
    }
}

#[test]
fn a_frontier_is_stored_strictly() {
    let mut frontier = Frontier::new();
    for (n, entry) in entries(70).iter().enumerate() {
        let bytes = frontier.to_bytes();
        assert_eq!(frontier.size(), size(n as u64));
        assert_eq!(Frontier::from_bytes(&bytes), Ok(frontier.clone()));
        assert!(Frontier::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Frontier::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        frontier.push(leaf_hash(entry));
    }
}

#[test]
fn a_hash_has_one_spelling() {
    let hash = leaf_hash(b"x");
    let hex = hash.to_string();
    assert_eq!(format!("{hash:?}"), hex);
    assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{hex}\""));
    assert_eq!(serde_json::from_str::<Hash>(&format!("\"{hex}\"")).unwrap(), hash);
    for bad in [hex.to_uppercase(), hex[1..].to_owned(), format!("{hex}0"), format!(" {}", &hex[1..]), "é".repeat(32)]
    {
        assert!(Hash::from_hex(&bad).is_err(), "{bad}");
        assert!(serde_json::from_str::<Hash>(&format!("\"{bad}\"")).is_err(), "{bad}");
    }
    let base64 = hash.to_base64();
    assert_eq!(Hash::from_base64(&base64), Ok(hash));
    // The last digit of 32 bytes' base64 carries two bits that must be zero; `B` carries a one there.
    for bad in [base64.trim_end_matches('=').to_owned(), format!("{base64}\n"), format!("{}B=", "A".repeat(42))] {
        assert_eq!(Hash::from_base64(&bad), Err(HashError::Base64), "{bad}");
    }
}

proptest! {
    /// Roots and proofs are, byte for byte, those of ct-merkle, and each side accepts the other's.
    #[test]
    fn agrees_with_ct_merkle(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..300),
        leaf in any::<prop::sample::Index>(),
        added in any::<prop::sample::Index>(),
    ) {
        let n = entries.len();
        let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let mut frontier = Frontier::new();
        for entry in &entries {
            oracle.push(entry.clone());
            frontier.push(leaf_hash(entry));
        }
        let nodes = Nodes::new(&entries);
        let n_leaves = size(n as u64);
        let ours = root(&nodes, n_leaves).unwrap();
        let theirs = oracle.root();
        prop_assert_eq!(ours.as_bytes().as_slice(), theirs.as_bytes().as_slice());
        prop_assert_eq!(frontier.root(), ours);
        prop_assert_eq!(Frontier::read(&nodes, n_leaves), Ok(frontier));

        let leaf = leaf.index(n);
        let proof = inclusion_proof(&nodes, index(leaf as u64), n_leaves).unwrap();
        let theirs = oracle.prove_inclusion(leaf);
        prop_assert_eq!(proof.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>(), theirs.as_bytes());
        verify_inclusion(index(leaf as u64), leaf_hash(&entries[leaf]), n_leaves, ours, &proof).unwrap();

        let old = n - added.index(n);
        let proof = consistency_proof(&nodes, size(old as u64), n_leaves).unwrap();
        if old < n {
            let theirs = oracle.prove_consistency(n - old);
            prop_assert_eq!(proof.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>(), theirs.as_bytes());
        }
        let old_root = root(&nodes, size(old as u64)).unwrap();
        verify_consistency(size(old as u64), n_leaves, old_root, ours, &proof).unwrap();
    }

    /// Whatever the numbers, the verifiers answer; and nothing made up is accepted as a leaf's proof.
    #[test]
    fn verifiers_never_panic(
        numbers in prop::array::uniform3(prop_oneof![any::<u64>(), 0..70u64, (0..64u32).prop_map(|bit| 1 << bit)]),
        hashes in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash::from_bytes), 2..70),
    ) {
        let [a, b, c] = numbers;
        let (x, y, proof) = (hashes[0], hashes[1], &hashes[2..]);
        prop_assert!(verify_inclusion(index(a), x, size(b), y, proof).is_err());
        let _ = verify_consistency(size(a), size(b), x, y, proof);
        let _ = verify_subtree_inclusion(index(a), index(b), index(c), x, y, proof);
        let _ = verify_subtree_consistency(index(a), index(b), size(c), x, y, proof);
        // The right length too, so that the walk itself is taken.
        if let Err(ProofError::WrongLength { required, .. }) = verify_inclusion(index(a), x, size(b), y, &[]) {
            prop_assert!(required <= 64);
            prop_assert!(verify_inclusion(index(a), x, size(b), y, &vec![x; required]).is_err());
        }
        if let Err(ProofError::WrongLength { required, .. }) = verify_subtree_consistency(index(a), index(b), size(c), x, y, &[]) {
            prop_assert!(required <= 65);
            let _ = verify_subtree_consistency(index(a), index(b), size(c), x, y, &vec![x; required]);
        }
    }

    #[test]
    fn stored_frontiers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frontier) = Frontier::from_bytes(&bytes) {
            prop_assert_eq!(frontier.to_bytes(), bytes);
        }
    }
}
