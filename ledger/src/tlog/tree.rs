//! The RFC 6962 tree: growing it, proving with it, and checking proofs. A node is named by its level (0 for leaves) and its
//! index on that level; only *complete* subtrees have names, since those never change once written. The verifiers rely on
//! nothing but their arguments.
//!
//! Verification follows the subtree procedures of the IETF draft `draft-ietf-plants-merkle-tree-certs`, section 4: an
//! inclusion proof is the consistency proof of the subtree `[index, index + 1)`, and RFC 6962's consistency proof that of
//! `[0, old)`, so that one walk checks them all.

use super::hash::{EMPTY_ROOT, Hash, LeafIndex, TreeSize, node_hash};

/// Why a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf in the tree.
    #[error("no such leaf: found index {index}, required one below the tree size {size}")]
    IndexOutOfRange {
        /// The index asked for.
        index: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// The older tree is larger than the newer one.
    #[error("the older tree is larger than the newer one: found sizes {old} and {new}")]
    SizesSwapped {
        /// The size of the older tree.
        old: TreeSize,
        /// The size of the newer tree.
        new: TreeSize,
    },
    /// The leaves `[start, end)` are no subtree of a tree of that size.
    #[error("leaves {start} to {end} are not a subtree of a tree of size {size}")]
    NotASubtree {
        /// The first leaf.
        start: LeafIndex,
        /// The leaf after the last one.
        end: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// Too few or too many hashes.
    #[error("wrong number of hashes in the proof: found {found}, required {required}")]
    WrongLength {
        /// How many there are.
        found: usize,
        /// How many there must be.
        required: usize,
    },
    /// The proof does not lead to the older root (or the subtree's hash).
    #[error("the proof does not lead to the older root: found {found}, required {required}")]
    OldRootMismatch {
        /// What the proof leads to.
        found: Hash,
        /// The root it must lead to.
        required: Hash,
    },
    /// The proof does not lead to the root.
    #[error("the proof does not lead to the root: found {found}, required {required}")]
    RootMismatch {
        /// What the proof leads to.
        found: Hash,
        /// The root it must lead to.
        required: Hash,
    },
}

/// Checks that `leaf` stands at `index` in the tree of that `size` and `root` (RFC 6962, section 2.1.1).
///
/// `proof` goes from the leaf's sibling up to the root's child.
pub fn verify_inclusion(
    index: LeafIndex,
    leaf: Hash,
    size: TreeSize,
    root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    verify_subtree_inclusion(index, LeafIndex::new(0), LeafIndex::new(size.get()), leaf, root, proof)
}

/// Checks that the tree of `new_size` and `new_root` begins with the very leaves of the tree of `old_size` and `old_root`
/// (RFC 6962, section 2.1.2).
///
/// Two equal trees need no hashes. Nor does the empty tree, which every tree extends: RFC 6962 leaves that case out, C2SP
/// tlog-witness requires it, for the first checkpoint a witness sees.
pub fn verify_consistency(
    old_size: TreeSize,
    new_size: TreeSize,
    old_root: Hash,
    new_root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::SizesSwapped { old: old_size, new: new_size });
    }
    let end = LeafIndex::new(old_size.get());
    verify_subtree_consistency(LeafIndex::new(0), end, new_size, old_root, new_root, proof)?;
    // The walk above has no say on the new root where the old tree is empty.
    if new_size.get() == 0 && new_root != EMPTY_ROOT {
        return Err(ProofError::RootMismatch { found: EMPTY_ROOT, required: new_root });
    }
    Ok(())
}

/// Checks that `leaf` stands at `index` (counted in the whole tree) in the subtree `[start, end)` whose hash is `root`
/// (IETF draft plants-merkle-tree-certs, section 4.3).
pub fn verify_subtree_inclusion(
    index: LeafIndex,
    start: LeafIndex,
    end: LeafIndex,
    leaf: Hash,
    root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let size = TreeSize::new(end.get());
    if !is_subtree(start, end) {
        return Err(ProofError::NotASubtree { start, end, size });
    }
    if index < start || index >= end {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    // A subtree is a tree: count from its own first leaf. None of these overflow, since start <= index < end.
    let index = index.get() - start.get();
    let size = TreeSize::new(end.get() - start.get());
    verify_subtree_consistency(LeafIndex::new(index), LeafIndex::new(index + 1), size, leaf, root, proof)
}

/// Checks that the leaves under the hash `subtree` are the leaves `[start, end)` of the tree of that `size` and `root` (IETF
/// draft plants-merkle-tree-certs, section 4.4). The empty subtree needs no proof, and says nothing about `root`.
pub fn verify_subtree_consistency(
    start: LeafIndex,
    end: LeafIndex,
    size: TreeSize,
    subtree: Hash,
    root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if !is_subtree(start, end) || end.get() > size.get() {
        return Err(ProofError::NotASubtree { start, end, size });
    }
    if start == end {
        check_length(proof, 0)?;
        return check_old_root(EMPTY_ROOT, subtree);
    }

    // Three nodes on one level: the subtree's first and last, and the tree's last. Climb to the largest complete subtree
    // that ends where ours does (or, where ours ends with the tree, to ours itself): the proof begins there.
    let (mut first, mut node, mut last) = (start.get(), end.get() - 1, size.get() - 1);
    while first != node && (node == last || node & 1 == 1) {
        (first, node, last) = (first >> 1, node >> 1, last >> 1);
    }
    let known = first == node;
    check_length(proof, path_length(node, last) + usize::from(!known))?;
    let (seed, path) = match proof.split_first() {
        Some((seed, path)) if !known => (*seed, path),
        _ => (subtree, proof),
    };

    // Climb to the root, rebuilding both hashes: everything to the left is in both trees, what is to the right is newer.
    let (mut old, mut new) = (seed, seed);
    for sibling in path {
        let mut up = 1;
        if node & 1 == 1 || node == last {
            if first < node {
                old = node_hash(sibling, &old);
            }
            new = node_hash(sibling, &new);
            // The right edge: levels where it has no left sibling are skipped. (A path of the right length never has
            // node 0 here; `min` only keeps the shift in range.)
            up += node.trailing_zeros().min(62);
        } else {
            new = node_hash(&new, sibling);
        }
        (first, node, last) = (first >> up, node >> up, last >> up);
    }
    check_old_root(old, subtree)?;
    if new == root { Ok(()) } else { Err(ProofError::RootMismatch { found: new, required: root }) }
}

/// Whether `[start, end)` can be a subtree: its start must be a multiple of its size rounded up to a power of two.
fn is_subtree(start: LeafIndex, end: LeafIndex) -> bool {
    let (start, end) = (start.get(), end.get());
    end.checked_sub(start).is_some_and(|len| match len {
        0 => true,
        // No power of two is large enough: then only 0 is a multiple of it.
        _ => len.checked_next_power_of_two().map_or(start == 0, |ceil| start.is_multiple_of(ceil)),
    })
}

/// How many siblings stand between a node and the root of a tree, given the tree's last node on the same level: one for
/// every level below the point where the two paths part, then one for every left sibling above.
fn path_length(node: u64, last: u64) -> usize {
    let inner = u64::BITS - (node ^ last).leading_zeros();
    let border = node.checked_shr(inner).unwrap_or(0).count_ones();
    (inner + border) as usize
}

fn check_length(proof: &[Hash], required: usize) -> Result<(), ProofError> {
    let found = proof.len();
    if found == required { Ok(()) } else { Err(ProofError::WrongLength { found, required }) }
}

fn check_old_root(found: Hash, required: Hash) -> Result<(), ProofError> {
    if found == required { Ok(()) } else { Err(ProofError::OldRootMismatch { found, required }) }
}

/// Where the hashes of complete subtrees come from: tiles, a map, an array.
pub trait HashReader {
    /// What can go wrong in reading.
    type Error;

    /// The hash over the leaves `[index · 2^level, (index + 1) · 2^level)`. Only asked for subtrees that are complete in the
    /// tree at hand.
    fn hash(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

impl<R: HashReader + ?Sized> HashReader for &R {
    type Error = R::Error;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, R::Error> {
        (**self).hash(level, index)
    }
}

/// Why a proof cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// There is no such leaf in the tree.
    #[error("no such leaf: found index {index}, required one below the tree size {size}")]
    IndexOutOfRange {
        /// The index asked for.
        index: LeafIndex,
        /// The size of the tree.
        size: TreeSize,
    },
    /// The older tree is larger than the newer one.
    #[error("the older tree is larger than the newer one: found sizes {old} and {new}")]
    SizesSwapped {
        /// The size of the older tree.
        old: TreeSize,
        /// The size of the newer tree.
        new: TreeSize,
    },
    /// A hash could not be read.
    #[error(transparent)]
    Read(#[from] E),
}

/// The inclusion proof of a leaf in the tree of that size, from the leaf's sibling up to the root's child.
pub fn inclusion_proof<R: HashReader>(
    reader: &R,
    index: LeafIndex,
    size: TreeSize,
) -> Result<Vec<Hash>, ProveError<R::Error>> {
    if index.get() >= size.get() {
        return Err(ProveError::IndexOutOfRange { index, size });
    }
    let mut proof = Vec::new();
    push_path(reader, &mut proof, 0, index.get(), size.get())?;
    Ok(proof)
}

/// The consistency proof between two sizes of one tree. It is empty where the sizes are equal or the older one is 0.
pub fn consistency_proof<R: HashReader>(
    reader: &R,
    old: TreeSize,
    new: TreeSize,
) -> Result<Vec<Hash>, ProveError<R::Error>> {
    let mut proof = Vec::new();
    if old > new {
        return Err(ProveError::SizesSwapped { old, new });
    }
    if old == new || old.get() == 0 {
        return Ok(proof);
    }
    // The last complete subtree of the older tree, and its path in the newer one. Where that subtree is the whole older
    // tree, the verifier knows its hash already.
    let level = old.get().trailing_zeros();
    let index = (old.get() - 1) >> level;
    if index > 0 {
        proof.push(reader.hash(level as u8, index)?);
    }
    push_path(reader, &mut proof, level, index, new.get())?;
    Ok(proof)
}

/// The root of the tree of that size.
pub fn root<R: HashReader>(reader: &R, size: TreeSize) -> Result<Hash, R::Error> {
    range_root(reader, 0, size.get())
}

/// Appends the siblings of a complete node on its way to the root of the tree of `size` leaves, `size > 0`.
fn push_path<R: HashReader>(
    reader: &R,
    proof: &mut Vec<Hash>,
    level: u32,
    index: u64,
    size: u64,
) -> Result<(), R::Error> {
    let (mut node, mut last) = (index, (size - 1) >> level);
    for level in level..u64::BITS {
        if last == 0 {
            break;
        }
        if node & 1 == 1 {
            proof.push(reader.hash(level as u8, node - 1)?);
        } else if node < last {
            // The right sibling: the only one that can be incomplete, and then it ends with the tree.
            let start = (node + 1) << level;
            let end = start.checked_add(1 << level).map_or(size, |end| end.min(size));
            proof.push(range_root(reader, start, end)?);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    Ok(())
}

/// The root over `[start, end)`, where that is a subtree.
fn range_root<R: HashReader>(reader: &R, start: u64, end: u64) -> Result<Hash, R::Error> {
    peaks(reader, start, end).map(|peaks| fold(&peaks))
}

/// The roots of the complete subtrees that make up the subtree `[start, end)`, the largest first.
fn peaks<R: HashReader>(reader: &R, start: u64, end: u64) -> Result<Vec<Hash>, R::Error> {
    let mut peaks = Vec::new();
    let mut at = start;
    while let Some(level) = (end - at).checked_ilog2() {
        peaks.push(reader.hash(level as u8, at >> level)?);
        at += 1 << level;
    }
    Ok(peaks)
}

fn fold(peaks: &[Hash]) -> Hash {
    peaks.iter().copied().rev().reduce(|right, left| node_hash(&left, &right)).unwrap_or(EMPTY_ROOT)
}

/// The right edge of a growing tree: its size and the roots of its largest complete subtrees, which is all that is needed to
/// append to it and to know its root.
///
/// Stored as the size (8 bytes, big-endian), then the roots from the largest subtree to the smallest, 32 bytes each, one for
/// every bit that is set in the size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    // INVARIANT: one root for every bit set in `size`, the largest subtree first.
    peaks: Vec<Hash>,
}

/// Why bytes are not a stored frontier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// Shorter than the size it begins with.
    #[error("a stored frontier is cut off: found {found} bytes, required at least 8")]
    NoSize {
        /// How many bytes there are.
        found: usize,
    },
    /// Not as many roots as a tree of that size has.
    #[error("wrong length of a stored frontier of size {size}: found {found} bytes, required {required}")]
    Length {
        /// The size it states.
        size: TreeSize,
        /// How many bytes there are.
        found: usize,
        /// How many bytes there must be.
        required: usize,
    },
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frontier of the tree of that size, read from its complete subtrees.
    pub fn read<R: HashReader>(reader: &R, size: TreeSize) -> Result<Self, R::Error> {
        Ok(Self { size: size.get(), peaks: peaks(reader, 0, size.get())? })
    }

    /// Appends a leaf, given its [`leaf_hash`](super::hash::leaf_hash).
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _, _| ());
    }

    /// Appends a leaf and hands over every subtree it completes, as level, index and hash: first the leaf itself, then
    /// upwards. Those on levels 0, 8, 16, … are what tiles hold.
    pub fn push_with(&mut self, leaf: Hash, completed: impl FnMut(u8, u64, Hash)) {
        self.push_subtree_with(0, leaf, completed);
    }

    /// Appends a complete subtree of `2^level` leaves, given its hash, as if its leaves were appended one by one; what is handed
    /// over begins with that subtree. The size must be a multiple of `2^level`: else nothing happens, and `false` is given.
    pub fn push_subtree_with(&mut self, level: u8, subtree: Hash, mut completed: impl FnMut(u8, u64, Hash)) -> bool {
        let Some(leaves) = 1u64.checked_shl(level.into()).filter(|leaves| self.size.is_multiple_of(*leaves)) else {
            return false;
        };
        let (mut hash, mut at, mut index) = (subtree, level, self.size >> level);
        completed(at, index, hash);
        while index & 1 == 1 {
            // INVARIANT: a root for every bit set in `size`, so there is one for each of its trailing ones.
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            (at, index) = (at + 1, index >> 1);
            completed(at, index, hash);
        }
        self.peaks.push(hash);
        // 2⁶⁴ leaves are out of any machine's reach.
        self.size = self.size.saturating_add(leaves);
        true
    }

    /// How many leaves there are.
    pub fn size(&self) -> TreeSize {
        TreeSize::new(self.size)
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        fold(&self.peaks)
    }

    /// The bytes to store, as the type describes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        self.peaks.iter().for_each(|peak| bytes.extend_from_slice(peak.as_bytes()));
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let found = bytes.len();
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(FrontierError::NoSize { found })?;
        let size = u64::from_be_bytes(*size);
        let required = 8 + 32 * size.count_ones() as usize;
        if found != required {
            return Err(FrontierError::Length { size: TreeSize::new(size), found, required });
        }
        let (peaks, _) = rest.as_chunks::<32>();
        Ok(Self { size, peaks: peaks.iter().copied().map(Hash::from_bytes).collect() })
    }
}
