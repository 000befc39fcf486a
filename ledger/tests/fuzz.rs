//! The fuzz targets of the ledger's formats on their corpora and on seeded mutations of them (`fuzz/formats`): what libFuzzer found
//! once is not lost, and needs no libFuzzer to be tried again.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its helpers too")]

#[path = "../../fuzz/formats/src/targets.rs"]
#[expect(unreachable_pub, reason = "the fuzzer's own crate exports them")]
mod targets;

use countersign_ledger::evidence::archive::header;
use countersign_ledger::evidence::fork::Held;
use countersign_ledger::evidence::step::{Int, LogCreated, RequestRejected};
use countersign_ledger::evidence::{Class, Commitment, Entry, ForkProof, Reason, Receipt, Step, TraceId, jws};
use countersign_ledger::tlog::*;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

/// How many mutations of each file are tried.
const MUTATIONS: usize = 2000;

/// What these formats are made of.
const PIECES: [&[u8]; 16] = [
    b"\n",
    b"\n\n",
    b" ",
    "\u{2014} ".as_bytes(),
    b"+",
    b"=",
    b"\"",
    b",",
    b":",
    b"}",
    b"0",
    b"9",
    b"A",
    b"\\",
    b"\0",
    b"18446744073709551615",
];

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/formats/corpus").join(target)
}

/// SplitMix64: a seed reproduces a run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// Changes a few places of `data`, now and then with what stands in `other`.
    fn mutate(&mut self, data: &[u8], other: &[u8]) -> Vec<u8> {
        let mut data = data.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(data.len() + 1);
            let to = (at + self.below(40)).min(data.len());
            match self.below(6) {
                0 if at < data.len() => data[at] ^= 1 << self.below(8),
                1 => drop(data.drain(at..to)),
                2 => drop(data.splice(at..at, PIECES[self.below(PIECES.len())].iter().copied())),
                3 => {
                    let copy = data[at..to].to_vec();
                    drop(data.splice(at..at, copy));
                }
                4 if at < data.len() => data[at] = self.below(256) as u8,
                _ => {
                    let from = self.below(other.len() + 1);
                    let until = (from + self.below(80)).min(other.len());
                    drop(data.splice(at..to, other[from..until].iter().copied()));
                }
            }
        }
        data
    }
}

#[test]
fn any_bytes_are_answered() {
    for (name, target) in targets::TARGETS {
        let mut files: Vec<PathBuf> = fs::read_dir(corpus(name)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let inputs: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        assert!(!inputs.is_empty(), "no corpus of `{name}`");
        let mut numbers = Numbers(1);
        let run = |data: &[u8]| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(data))) {
                eprintln!("`{name}` fails on {:?}", String::from_utf8_lossy(data));
                resume_unwind(panic);
            }
        };
        for input in &inputs {
            run(input);
            for _ in 0..MUTATIONS {
                let other = &inputs[numbers.below(inputs.len())];
                run(&numbers.mutate(input, other));
            }
        }
    }
}

/// The leaves of a small tree.
struct Leaves(Vec<Hash>);

impl HashReader for Leaves {
    type Error = std::convert::Infallible;
    fn hash(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        match level {
            0 => Ok(self.0[index as usize]),
            _ => Ok(node_hash(&self.hash(level - 1, 2 * index)?, &self.hash(level - 1, 2 * index + 1)?)),
        }
    }
}

impl Leaves {
    fn signed(&self, size: usize) -> Vec<u8> {
        let mut frontier = Frontier::new();
        self.0[..size].iter().for_each(|leaf| frontier.push(*leaf));
        let checkpoint = Checkpoint::new(targets::ORIGIN, frontier.size(), frontier.root());
        SignedCheckpoint::sign(checkpoint, &[&targets::log_key()]).unwrap().into_note()
    }
}

/// Writes the files that the corpora begin with: `cargo test -p countersign-ledger --test fuzz -- --ignored`.
#[test]
#[ignore = "writes into the clone"]
fn write_the_corpora() {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(name), bytes).unwrap();
    };
    let entry = |step: Step, trace: TraceId| Entry {
        trace,
        step: Int::ZERO,
        prev: None,
        at: Int::saturating(1_763_931_600_000_000),
        src: "5eed/1".into(),
        seq: Int::ZERO,
        body: step,
    };
    let created = LogCreated {
        origin: targets::ORIGIN.into(),
        key: targets::log_key().verifier().to_string(),
        quorum: Int::ONE,
        continues: None,
    };
    let rejected = RequestRejected {
        reason: Reason::Malformed,
        door: "kafka".into(),
        topic: "a \"quoted\" \n topic".into(),
        partition: Int::ZERO,
        offset: Int::MAX,
        count: Int::ONE,
        record: Commitment::to(Class::Rejected, &[7; 32], b"bytes"),
    };
    let first = entry(created.into(), TraceId::log()).encode().unwrap();
    let second = entry(rejected.into(), TraceId::rejected("a \"quoted\" \n topic", 0, (1 << 53) - 1)).encode().unwrap();
    put("entry", "created", &first);
    put("entry", "rejected", &second);
    let leaf = |n: u8| leaf_hash(&[n]);
    let told = Leaves([leaf_hash(&first), leaf_hash(&second)].into_iter().chain((2..9).map(leaf)).collect());
    let retold = Leaves((10..20).map(leaf).collect());
    let signed = told.signed(9);
    let mut note = Note::parse(&signed).unwrap();
    put("note", "signed", &signed);
    put("checkpoint", "signed", &signed);
    put("checkpoint", "text", note.text.as_bytes());
    note.signatures.push(targets::witness_key().cosign(&note.text, 1_763_931_600));
    put("note", "cosigned", &note.encode().unwrap());
    let other = SignerKey::generate_from_seed(targets::ORIGIN, &[9; 32]).unwrap();
    let (log, witness) = (targets::log_key().verifier().clone(), targets::witness_key().verifier().clone());
    put("key", "log", log.to_string().as_bytes());
    put("key", "witness", witness.to_string().as_bytes());
    put("key", "hash", leaf(0).to_string().as_bytes());
    put("epochs", "two", format!("# keys\n{log} 7\n{}\n", other.verifier()).as_bytes());
    put("policy", "none", b"quorum none\n");
    let policy = format!(
        "log {log} https://log.example/\nwitness w1 {witness}\ngroup g1 any w1\ngroup g2 1 g1\nquorum g2\n# end\n"
    );
    put("policy", "groups", policy.as_bytes());
    let (index, size) = (LeafIndex::new(1), TreeSize::new(9));
    let hashes = inclusion_proof(&told, index, size).unwrap();
    let proof = TlogProof { extra: None, index, hashes: hashes.clone(), checkpoint: signed };
    put("proof", "plain", &proof.encode());
    put("proof", "extra", &TlogProof { extra: Some(b"more".to_vec()), ..proof.clone() }.encode());
    put("receipt", "plain", &Receipt::new(second.clone(), None, proof.clone()).unwrap().encode());
    put("receipt", "salted", &Receipt::new(second.clone(), Some([7; 32]), proof).unwrap().encode());
    let numbers = |numbers: [u64; 3], hashes: &[Hash]| {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        hashes.iter().for_each(|hash| bytes.extend_from_slice(hash.as_bytes()));
        bytes
    };
    let root = |leaves: &Leaves, size: u64| countersign_ledger::tlog::root(leaves, TreeSize::new(size)).unwrap();
    let inclusion = [&[told.0[1], root(&told, 9)][..], &hashes].concat();
    put("numbers", "inclusion", &numbers([1, 9, 0], &inclusion));
    let growth = consistency_proof(&told, TreeSize::new(5), TreeSize::new(9)).unwrap();
    put("numbers", "consistency", &numbers([5, 9, 0], &[&[root(&told, 5), root(&told, 9)][..], &growth].concat()));
    put("numbers", "largest", &numbers([u64::MAX - 1, u64::MAX, u64::MAX], &inclusion));
    put("tile", "path", b"tile/0/x001/x234/067.p/112");
    put("tile", "bundle-path", b"tile/entries/x001/067");
    put("archive", "file", &header("tile/entries/x001/067", 8192).unwrap());
    put("archive", "files", &[header("checkpoint", 1).unwrap(), [0; 512], header("a/b", 0).unwrap()].concat());
    put("tile", "bundle", &encode_bundle(&[first, second]).unwrap());
    let held =
        Held { root: root(&retold, 5), proof: consistency_proof(&retold, TreeSize::new(5), TreeSize::new(9)).unwrap() };
    let fork = ForkProof { older: told.signed(5), newer: retold.signed(9), held: Some(held) };
    put("fork", "grown", &fork.encode());
    put("fork", "same-size", &ForkProof { older: told.signed(9), newer: retold.signed(9), held: None }.encode());
    let input = jws::signing_input(
        countersign_ledger::evidence::step::Alg::EdDsa,
        jws::TYP_REQUEST,
        "kid",
        br#"{"iss":"reports","jti":"0123456789abcdef0123456789abcdef"}"#,
    );
    put("token", "request", jws::compact(&input, &targets::log_key().sign(input.as_bytes())).as_bytes());
}
