//! The same proofs, good and bad, judged by Go's transparency-dev/merkle and by the ledger: every verdict must be equal.

use countersign_ledger::tlog::{
    EMPTY_ROOT, Hash, HashReader, LeafIndex, TreeSize, consistency_proof, inclusion_proof, leaf_hash, node_hash, root,
    verify_consistency, verify_inclusion,
};
use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// How many proofs are judged.
const PROOFS: usize = 120_000;

/// How many leaves the largest tree has.
const LEAVES: u64 = 5000;

/// SplitMix64: a seed reproduces a run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn hash(&mut self) -> Hash {
        leaf_hash(&self.next().to_be_bytes())
    }

    /// Small, near a power of two, or anything.
    fn number(&mut self) -> u64 {
        let any = self.next();
        match self.below(4) {
            0 => any % 20,
            1 => (1u64 << self.below(64)).wrapping_add(any % 3).wrapping_sub(1),
            2 => any % LEAVES,
            _ => any,
        }
    }
}

/// Every complete subtree of a tree.
struct Tree(Vec<Vec<Hash>>);

impl Tree {
    fn new() -> Self {
        let mut levels = vec![(0..LEAVES).map(|n| leaf_hash(&n.to_be_bytes())).collect::<Vec<_>>()];
        while levels.last().unwrap().len() > 1 {
            let pairs = levels.last().unwrap().as_chunks::<2>().0;
            levels.push(pairs.iter().map(|[left, right]| node_hash(left, right)).collect());
        }
        Self(levels)
    }
}

impl HashReader for Tree {
    type Error = Infallible;
    fn hash(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        Ok(self.0[level as usize][index as usize])
    }
}

/// A proof as it is handed to both: two numbers, two hashes, and the hashes of the proof.
#[derive(Clone, Debug)]
struct Proof {
    growth: bool,
    numbers: [u64; 2],
    ends: [Hash; 2],
    hashes: Vec<Hash>,
}

impl Proof {
    fn good(tree: &Tree, numbers: &mut Numbers) -> Self {
        let new = 1 + numbers.below(LEAVES);
        let size = TreeSize::new(new);
        let whole = root(tree, size).unwrap();
        if numbers.below(2) == 0 {
            let index = numbers.below(new);
            let hashes = inclusion_proof(tree, LeafIndex::new(index), size).unwrap();
            return Self { growth: false, numbers: [index, new], ends: [tree.0[0][index as usize], whole], hashes };
        }
        let old = numbers.below(new + 1);
        let hashes = consistency_proof(tree, TreeSize::new(old), size).unwrap();
        Self { growth: true, numbers: [old, new], ends: [root(tree, TreeSize::new(old)).unwrap(), whole], hashes }
    }

    /// The same with one thing changed.
    fn spoilt(mut self, numbers: &mut Numbers) -> Self {
        let at = numbers.below(self.hashes.len() as u64) as usize;
        match numbers.below(10) {
            0 if !self.hashes.is_empty() => {
                let mut bytes = *self.hashes[at].as_bytes();
                bytes[numbers.below(32) as usize] ^= 1 << numbers.below(8);
                self.hashes[at] = Hash::from_bytes(bytes);
            }
            1 if !self.hashes.is_empty() => {
                self.hashes.remove(at);
            }
            2 => self.hashes.insert(at, numbers.hash()),
            3 if self.hashes.len() > 1 => self.hashes.swap(0, at),
            4 => self.hashes.clear(),
            5 => self.ends[numbers.below(2) as usize] = numbers.hash(),
            6 => self.ends.swap(0, 1),
            7 => self.numbers[numbers.below(2) as usize] = numbers.number(),
            8 => {
                let which = numbers.below(2) as usize;
                self.numbers[which] = self.numbers[which].wrapping_add(numbers.below(3)).wrapping_sub(1);
            }
            _ => {
                self.numbers = [numbers.number(), numbers.number()];
                let count = numbers.below(70);
                self.hashes = (0..count).map(|_| numbers.hash()).collect();
            }
        }
        // RFC 6962 has no consistency proof from the empty tree, and Go's accepts any root for it; ours only its own.
        if self.growth && self.numbers[0] == 0 {
            self.ends[0] = EMPTY_ROOT;
        }
        if self.growth && self.numbers[1] == 0 {
            self.ends[1] = EMPTY_ROOT;
        }
        self
    }

    fn holds(&self) -> bool {
        let ([one, other], [first, second]) = (self.numbers, self.ends);
        if self.growth {
            verify_consistency(TreeSize::new(one), TreeSize::new(other), first, second, &self.hashes).is_ok()
        } else {
            verify_inclusion(LeafIndex::new(one), first, TreeSize::new(other), second, &self.hashes).is_ok()
        }
    }

    fn line(&self) -> String {
        let hashes: Vec<String> = self.hashes.iter().map(Hash::to_string).collect();
        let hashes = if hashes.is_empty() { "-".into() } else { hashes.join(",") };
        let ([one, other], [first, second]) = (self.numbers, self.ends);
        format!("{} {one} {other} {first} {second} {hashes}\n", if self.growth { 'c' } else { 'i' })
    }
}

#[test]
fn go_judges_as_we_do() {
    if Command::new("go").arg("version").output().is_err() {
        return println!("skipped: go_judges_as_we_do: no Go on this machine");
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judge-proofs");
    let built = Command::new("go")
        .args(["build", "-o", program.to_str().unwrap(), "."])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/judge-proofs"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (tree, mut numbers) = (Tree::new(), Numbers(1));
    let proofs: Vec<Proof> = (0..PROOFS)
        .map(|_| {
            let good = Proof::good(&tree, &mut numbers);
            if numbers.below(2) == 0 { good } else { good.spoilt(&mut numbers) }
        })
        .collect();
    let mut judge = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = judge.stdin.take().unwrap();
    let lines: Vec<u8> = proofs.iter().flat_map(|proof| proof.line().into_bytes()).collect();
    let writer = std::thread::spawn(move || input.write_all(&lines).unwrap());
    let output = judge.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers: Vec<bool> = output.stdout.chunks(2).map(|line| line == b"1\n").collect();
    assert_eq!(answers.len(), PROOFS);
    let good = answers.iter().filter(|answer| **answer).count();
    assert!(good > PROOFS / 3 && good < PROOFS * 2 / 3, "{good} of {PROOFS} hold");
    for (proof, theirs) in proofs.iter().zip(answers) {
        assert_eq!(proof.holds(), theirs, "{proof:?}");
    }
}
