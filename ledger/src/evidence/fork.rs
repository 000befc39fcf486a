//! A fork proof: two checkpoints of one log that cannot both be true, and what shows it, as one text that anybody can check with
//! the log's key alone.
//!
//! ```text
//! countersign/fork-proof/v1
//! held <base64: the root over the first entries of the newer tree, as many as the older one has>
//! <base64 hash>                     (any number: the consistency proof between that root and the newer one)
//!                                   (an empty line)
//! <the older checkpoint, signed>
//!                                   (an empty line)
//! <the newer checkpoint, signed>
//! ```
//!
//! Two checkpoints of one size with different roots need nothing more: there is no line `held` and no hash then. Of different
//! sizes, the proof shows what the newer tree holds where the older one stood: a valid RFC 6962 consistency proof between a
//! root that is *not* the older checkpoint's and the newer checkpoint's root. Hashes that lead to the newer root are nodes of
//! that tree, at places that the two sizes fix, or SHA-256 is broken; so the tree that the log signed later does not begin with
//! the tree that it signed before. No honest log can be accused with it.

use crate::tlog::{
    Checkpoint, EpochError, Epochs, Hash, HashError, ProofError, SignedCheckpoint, TreeSize, verify_consistency,
};

/// The first line.
const HEADER: &str = "countersign/fork-proof/v1";

/// The largest number of hashes that a consistency proof has.
const HASHES_MAX: usize = 130;

/// Two checkpoints and why they cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkProof {
    /// The signed checkpoint of the smaller size.
    pub older: Vec<u8>,
    /// The signed checkpoint of the same or a larger size.
    pub newer: Vec<u8>,
    /// Where the sizes differ.
    pub held: Option<Held>,
}

/// What the newer tree holds where the older one stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The root over its first entries, as many as the older tree has.
    pub root: Hash,
    /// The consistency proof between that root and the newer checkpoint's.
    pub proof: Vec<Hash>,
}

/// What a fork proof proves: the log signed both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The older checkpoint.
    pub older: Checkpoint,
    /// The newer checkpoint.
    pub newer: Checkpoint,
}

/// Why a text is not a fork proof, or proves no fork.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// Not the form.
    #[error("not a fork proof: {0}")]
    Form(&'static str),
    /// A line is not a hash.
    #[error("not a fork proof: line {line}: {cause}")]
    Hash {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        cause: HashError,
    },
    /// A checkpoint is not one that the log's keys signed.
    #[error("the {which} checkpoint: {cause}")]
    Checkpoint {
        /// `older` or `newer`.
        which: &'static str,
        /// What is wrong.
        cause: EpochError,
    },
    /// The two are in the other order.
    #[error("the older checkpoint is the larger one: found sizes {older} and {newer}")]
    SizesSwapped {
        /// The size of the one that stands first.
        older: TreeSize,
        /// The size of the other.
        newer: TreeSize,
    },
    /// There is no contradiction: the roots are one.
    #[error("both may be true: the newer tree holds the older one's root {0}")]
    Agree(Hash),
    /// The sizes differ, and nothing shows what the newer tree holds.
    #[error("two checkpoints of different sizes contradict each other only with a proof, and there is none")]
    Unproven,
    /// The sizes are one, and yet there is a proof.
    #[error("two checkpoints of one size need no proof, and there is one")]
    Superfluous,
    /// The proof does not lead to the newer root.
    #[error("the proof of what the newer tree holds: {0}")]
    Proof(#[from] ProofError),
}

impl ForkProof {
    /// The text.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = format!("{HEADER}\n");
        if let Some(Held { root, proof }) = &self.held {
            head += &format!("held {}\n", root.to_base64());
            proof.iter().for_each(|hash| head += &format!("{}\n", hash.to_base64()));
        }
        [head.as_bytes(), b"\n", &self.older, b"\n", &self.newer].concat()
    }

    /// Reads the text.
    pub fn decode(text: &[u8]) -> Result<Self, ForkError> {
        let text = str::from_utf8(text).map_err(|_| ForkError::Form("required UTF-8"))?;
        // No line of a checkpoint is empty but the one before its signatures.
        let parts: Vec<&str> = text.split("\n\n").collect();
        let [head, older, older_signed, newer, newer_signed] = parts.as_slice() else {
            return Err(ForkError::Form(
                "required a header and two signed checkpoints, with an empty line before each",
            ));
        };
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(ForkError::Form("required the first line `countersign/fork-proof/v1`"));
        }
        let base64 = |line: usize, text: &str| Hash::from_base64(text).map_err(|cause| ForkError::Hash { line, cause });
        let held = match lines.next() {
            None => None,
            Some(line) => {
                let root = line.strip_prefix("held ").ok_or(ForkError::Form("required `held ` in the second line"))?;
                let root = base64(2, root)?;
                let proof: Vec<Hash> =
                    lines.enumerate().map(|(at, line)| base64(at + 3, line)).collect::<Result<_, _>>()?;
                if proof.len() > HASHES_MAX {
                    return Err(ForkError::Form("more hashes than a consistency proof can have"));
                }
                Some(Held { root, proof })
            }
        };
        let note = |text: &str, signed: &str| format!("{text}\n\n{signed}\n").into_bytes();
        let newer_signed = newer_signed.strip_suffix('\n').ok_or(ForkError::Form("required a line feed at the end"))?;
        Ok(Self { older: note(older, older_signed), newer: note(newer, newer_signed), held })
    }

    /// Judges it with the log's keys: what it proves, or why it proves nothing.
    pub fn verify(&self, keys: &Epochs) -> Result<Fork, ForkError> {
        let open = |which, note: &[u8]| {
            let opened = keys.open(note).map_err(|cause| ForkError::Checkpoint { which, cause })?;
            Ok::<_, ForkError>(SignedCheckpoint::checkpoint(&opened).clone())
        };
        let fork = Fork { older: open("older", &self.older)?, newer: open("newer", &self.newer)? };
        let Fork { older, newer } = &fork;
        if older.size > newer.size {
            return Err(ForkError::SizesSwapped { older: older.size, newer: newer.size });
        }
        match &self.held {
            None if older.size != newer.size => return Err(ForkError::Unproven),
            None if older.root == newer.root => return Err(ForkError::Agree(newer.root)),
            None => {}
            Some(_) if older.size == newer.size => return Err(ForkError::Superfluous),
            // Every tree begins with the empty one: that it has another root than it can have is no matter of a second checkpoint.
            Some(_) if older.size.get() == 0 => return Err(ForkError::Unproven),
            Some(Held { root, .. }) if *root == older.root => return Err(ForkError::Agree(*root)),
            Some(Held { root, proof }) => verify_consistency(older.size, newer.size, *root, newer.root, proof)?,
        }
        Ok(fork)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{EMPTY_ROOT, Frontier, HashReader, SignerKey, consistency_proof, leaf_hash, node_hash};
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// The tree of so many leaves, which differ from `from` on for each `story`.
    struct Tree {
        leaves: Vec<Hash>,
    }

    impl Tree {
        fn new(size: u64, from: u64, story: u8) -> Self {
            let leaf = |n: u64| leaf_hash(&[n.to_be_bytes().as_slice(), &[if n < from { 0 } else { story }]].concat());
            Self { leaves: (0..size).map(leaf).collect() }
        }

        fn root(&self, size: u64) -> Hash {
            let mut frontier = Frontier::new();
            self.leaves.iter().take(size as usize).for_each(|leaf| frontier.push(*leaf));
            frontier.root()
        }

        fn signed(&self, size: u64) -> Vec<u8> {
            let checkpoint = Checkpoint::new("log.example", TreeSize::new(size), self.root(size));
            SignedCheckpoint::sign(checkpoint, &[&key()]).unwrap().into_note()
        }
    }

    impl HashReader for Tree {
        type Error = Infallible;
        fn hash(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
            match level {
                0 => Ok(self.leaves[index as usize]),
                _ => Ok(node_hash(&self.hash(level - 1, 2 * index)?, &self.hash(level - 1, 2 * index + 1)?)),
            }
        }
    }

    fn key() -> SignerKey {
        SignerKey::generate_from_seed("log.example", &[7; 32]).unwrap()
    }

    fn keys() -> Epochs {
        Epochs::single(key().verifier().clone())
    }

    /// A proof that a tree which tells `story` from entry `from` on does not begin with another one's first `old` entries.
    fn proof(old: u64, new: u64, from: u64, story: u8) -> ForkProof {
        let (older, newer) = (Tree::new(old, from, 1), Tree::new(new, from, story));
        let held = (old != new).then(|| Held {
            root: newer.root(old),
            proof: consistency_proof(&newer, TreeSize::new(old), TreeSize::new(new)).unwrap(),
        });
        ForkProof { older: older.signed(old), newer: newer.signed(new), held }
    }

    proptest! {
        #[test]
        fn forks_are_proven_and_growth_is_not(old in 1u64..40, more in 0u64..40, from in 0u64..80, story in 1u8..3) {
            let proof = proof(old, old + more, from, story);
            let read = ForkProof::decode(&proof.encode()).unwrap();
            prop_assert_eq!(&read, &proof);
            let forked = story != 1 && from < old;
            prop_assert_eq!(read.verify(&keys()).is_ok(), forked);
            if !forked {
                prop_assert!(matches!(read.verify(&keys()), Err(ForkError::Agree(_))));
            }
        }

        #[test]
        fn any_changed_byte_is_refused(old in 1u64..40, more in 0u64..40, at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut text = proof(old, old + more, 0, 2).encode();
            let at = at.index(text.len());
            text[at] ^= 1 << bit;
            prop_assert!(ForkProof::decode(&text).and_then(|proof| proof.verify(&keys())).is_err());
        }

        #[test]
        fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(ForkProof::decode(&text).and_then(|proof| proof.verify(&keys())).is_err());
        }
    }

    #[test]
    fn what_proves_nothing() {
        let check = |what: &str, change: fn(&mut ForkProof), expect: &str| {
            let mut proof = proof(5, 9, 2, 2);
            change(&mut proof);
            let error = proof.verify(&keys()).unwrap_err().to_string();
            assert!(error.contains(expect), "{what}: {error}");
        };
        check("no proof", |p| p.held = None, "only with a proof");
        check("swapped", |p| std::mem::swap(&mut p.older, &mut p.newer), "the larger one");
        check("a hash less", |p| p.held.as_mut().unwrap().proof.truncate(1), "wrong number of hashes");
        check("another root", |p| p.held.as_mut().unwrap().root = EMPTY_ROOT, "does not lead to the older root");
        check("one size and a proof", |p| p.older = p.newer.clone(), "there is one");
        check("twice the same", |p| (p.older, p.held) = (p.newer.clone(), None), "both may be true");
        let other = SignerKey::generate_from_seed("log.example", &[8; 32]).unwrap();
        let other = Epochs::single(other.verifier().clone());
        assert!(matches!(proof(5, 9, 2, 2).verify(&other), Err(ForkError::Checkpoint { which: "older", .. })));
    }
}
