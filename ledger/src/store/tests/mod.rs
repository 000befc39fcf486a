//! What the store promises, tried on real files: see each module. This one makes ledgers and steps, and verifies a ledger whole,
//! by nothing but its entries and its checkpoints.

mod appending;
mod backups;
mod bundling;
mod cosigning;
mod crashes;
mod exporting;
mod faults;
mod interrupted;
mod judged;
mod kills;
mod openings;
mod purging;
mod recovery;
mod rotating;

use super::{ledger::Options, *};
use crate::{
    evidence::{
        Class, Commitment, Entry, Int, Reason, Step, TraceId, TraceState,
        step::{
            Alg, Attest, ConnectionChanged, IdentityVerified, LogCreated, RequestDenied, RequestReceived,
            RequestRejected, Signed,
        },
    },
    tlog::{Frontier, Hash, SignedCheckpoint, SignerKey, leaf_hash},
};
use std::{collections::HashMap, path::PathBuf, sync::Arc};
use tempfile::TempDir;

const ORIGIN: &str = "example.com/log";

/// A folder for a ledger, removed in the end.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn options(&self) -> Options {
        options_in(self.dir.path())
    }

    fn create(&self) -> Ledger {
        Ledger::create(&self.options(), vec![created()]).unwrap()
    }

    fn open(&self) -> Ledger {
        Ledger::open(&self.options()).unwrap()
    }
}

fn options_in(dir: &std::path::Path) -> Options {
    Options::new(dir.join("db"), dir.join("HEAD"), dir.join("keyring"), signer())
}

fn signer() -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn int(n: u64) -> Int {
    Int::try_from(n).unwrap()
}

fn created() -> Append {
    let step =
        LogCreated { origin: ORIGIN.into(), key: signer().verifier().to_string(), quorum: Int::ONE, continues: None };
    Append::opening(TraceId::log(), vec![step.into()])
}

/// A trace of one entry, closed; another one for each `n`.
fn rejected(n: u64) -> Append {
    let step = RequestRejected {
        reason: Reason::Malformed,
        door: "kafka".into(),
        topic: "chunk.requests".into(),
        partition: Int::ZERO,
        offset: int(n),
        count: Int::ONE,
        record: Commitment::to(Class::Rejected, &[1; 32], &n.to_be_bytes()),
    };
    Append::opening(TraceId::rejected("chunk.requests", 0, n), vec![step.into()])
}

fn request_trace(n: u64) -> TraceId {
    TraceId::request("caller", &n.to_string())
}

/// Opens a request's trace.
fn received(n: u64) -> Append {
    let payload = Payload::new(Class::Request, format!("request {n}"));
    let step = RequestReceived {
        door: "kafka".into(),
        topic: "chunk.requests".into(),
        partition: Int::ZERO,
        offset: int(n),
        bytes: int(100),
        digest: Hash::from_bytes([n as u8; 32]),
        request: payload.commitment(),
    };
    Append { payloads: vec![payload], ..Append::opening(request_trace(n), vec![step.into()]) }
}

fn verified() -> Step {
    let (kid, identity) = ("kid".into(), "caller".into());
    IdentityVerified { identity, kid, alg: Alg::EdDsa, registered: Int::ZERO, attest: Attest::CallerSigned }.into()
}

fn denied() -> Step {
    RequestDenied { reason: Reason::Forbidden }.into()
}

/// A standing trace, which grows for as long as one likes.
fn connection(n: u64) -> Step {
    let document = Commitment::to(Class::Config, &[2; 32], &n.to_be_bytes());
    let signed = Signed { change: document, by: vec![] };
    ConnectionChanged { connection: "shop".into(), kind: "folder".into(), document, signed }.into()
}

/// Verifies the whole ledger against the last signed checkpoint, and gives the entries.
fn verify(ledger: &Ledger) -> Vec<Entry> {
    let signed: Arc<SignedCheckpoint> = Arc::clone(&shared::lock(&ledger.shared().visible).signed);
    let size = signed.checkpoint().size;
    assert_eq!(ledger.size(), size);
    let mut roots = HashMap::new();
    let (mut frontier, mut entries, mut at) = (Frontier::new(), vec![], Int::ZERO);
    let mut traces: HashMap<TraceId, TraceHead> = HashMap::new();
    let mut seqs: HashMap<String, Int> = HashMap::new();
    for index in 0..size.get() {
        let bytes = ledger.entry_bytes(index).unwrap().unwrap();
        let (entry, leaf) = (Entry::decode(&bytes).unwrap(), leaf_hash(&bytes));
        frontier.push(leaf);
        roots.insert(index + 1, frontier.root());
        assert!(entry.at >= at, "time went back at {index}");
        at = entry.at;
        let seq = seqs.entry(entry.src.to_string()).or_default();
        assert_eq!(entry.seq, *seq, "a gap in `{}` at {index}", entry.src);
        *seq = seq.next();
        let trace = traces.entry(entry.trace).or_insert_with(|| TraceHead {
            head: leaf,
            state: TraceState::default(),
            entries: vec![],
        });
        assert_eq!(entry.step.get(), trace.entries.len() as u64);
        assert_eq!(entry.prev, (entry.step != Int::ZERO).then_some(trace.head), "prev of {index}");
        trace.state.apply(entry.trace, &entry.body).unwrap();
        trace.head = leaf;
        trace.entries.push(index);
        entries.push(entry);
    }
    assert_eq!(frontier.root(), signed.checkpoint().root);
    let mut open: Vec<_> =
        traces.iter().filter(|(_, t)| t.state.phase.is_open()).map(|(id, t)| (*id, t.entries[0])).collect();
    open.sort_unstable_by_key(|(_, first)| *first);
    assert_eq!(ledger.open_traces(), open);
    let mut stored = HashMap::new();
    ledger.traces(|id, head| assert!(stored.insert(id, head).is_none())).unwrap();
    assert_eq!(stored, traces);
    let published = ledger.checkpoint().checkpoint().size.get();
    for (index, entry) in (0..published).zip(&entries) {
        let receipt = ledger.receipt_at(index, None).unwrap();
        let checkpoint =
            receipt.verify(ORIGIN, &ledger.epochs().keys_at(ledger.checkpoint().checkpoint().size)).unwrap();
        assert_eq!(roots.get(&checkpoint.size.get()), Some(&checkpoint.root));
        assert_eq!(receipt.entry, *entry);
    }
    for item in ledger.shared().db.all(db::Family::Checkpoint).unwrap() {
        let (key, note) = item.unwrap();
        let published = ledger.epochs().open(&note).unwrap();
        let of = published.checkpoint().size;
        assert_eq!(db::number(&key), Some(of.get()));
        assert_eq!(roots.get(&of.get()), Some(&published.checkpoint().root), "published at {of}");
        assert!(of <= size);
    }
    assert_eq!(ledger.stats().head_lag, 0);
    entries
}
