//! What goes into an append and what comes out: [`Append`] from a caller, [`Durable`] entries back. Everything that can be done
//! before an append has its place in the order is done here, on the caller's thread, so that the one sequencer has less to do.

use super::error::AppendError;
use crate::{
    evidence::{Commitment, Entry, EntryError, Int, Step, TraceId, TraceState, digest::tagged},
    tlog::{Hash, LeafIndex, SignedCheckpoint},
    vault::{Day, Payload, Vault},
};
use std::sync::Arc;

/// Steps to append to one trace, all or none.
#[derive(Clone, Debug)]
pub struct Append {
    /// The trace.
    pub trace: TraceId,
    /// The leaf hash of the trace's last entry; `None` opens the trace.
    pub expected_head: Option<Hash>,
    /// What happened, in order; at least one step.
    pub steps: Vec<Step>,
    /// What the steps commit to, for the vault.
    pub payloads: Vec<Payload>,
    /// Traces whose head must still be this one when the append gets its place: what it relies on (an identity not revoked, an
    /// approval not taken back).
    pub guards: Vec<(TraceId, Option<Hash>)>,
    /// The Unix time in seconds from which on the append is too late: an approval's end, for one. Judged against the `at` that
    /// the entries get, so that the ledger itself shows that they were in time.
    pub deadline: Option<u64>,
}

impl Append {
    /// Steps that open a trace.
    pub fn opening(trace: TraceId, steps: Vec<Step>) -> Self {
        Self { trace, expected_head: None, steps, payloads: Vec::new(), guards: Vec::new(), deadline: None }
    }

    /// Steps that follow the entry with leaf hash `head`.
    pub fn following(trace: TraceId, head: Hash, steps: Vec<Step>) -> Self {
        Self { expected_head: Some(head), ..Self::opening(trace, steps) }
    }
}

/// An entry that stands in the ledger: synced, read back, under a signed checkpoint that is in `HEAD`.
///
/// Only the store can make one, so holding one is the proof that the evidence is there: *no evidence, no data*. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Durable {
    leaf: Arc<Leaf>,
    checkpoint: Arc<SignedCheckpoint>,
}

/// An entry with its place, whether or not it is durable yet.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) index: u64,
    pub(super) hash: Hash,
    pub(super) entry: Entry,
    pub(super) bytes: Vec<u8>,
}

impl Durable {
    pub(super) fn new(leaf: Arc<Leaf>, checkpoint: Arc<SignedCheckpoint>) -> Self {
        Self { leaf, checkpoint }
    }

    /// Where it stands in the ledger.
    pub fn index(&self) -> LeafIndex {
        LeafIndex::new(self.leaf.index)
    }

    /// Its leaf hash.
    pub fn leaf(&self) -> Hash {
        self.leaf.hash
    }

    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.leaf.entry
    }

    /// Its canonical bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.leaf.bytes
    }

    /// The checkpoint that was signed over its group (for an append that was made before: the last one signed).
    pub fn checkpoint(&self) -> &Arc<SignedCheckpoint> {
        &self.checkpoint
    }
}

/// The entries of one append, in the order of its steps.
#[derive(Clone, Debug)]
pub struct Appended {
    /// One for each step.
    pub entries: Vec<Durable>,
    last: Durable,
}

impl Appended {
    /// `None` where there is no entry; an append without steps is refused before it comes to this.
    pub(super) fn new(entries: Vec<Durable>) -> Option<Self> {
        let last = entries.last()?.clone();
        Some(Self { entries, last })
    }

    /// The last entry.
    pub fn last(&self) -> &Durable {
        &self.last
    }

    /// The leaf hash of the last entry: what the next append to the trace expects.
    pub fn head(&self) -> Hash {
        self.last.leaf()
    }
}

/// A trace as it stands: its head, its state and where its entries are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceHead {
    /// The leaf hash of its last entry.
    pub head: Hash,
    /// What its entries come to.
    pub state: TraceState,
    /// The indices of its entries, in order.
    pub entries: Vec<u64>,
}

impl TraceHead {
    /// As it is stored: head (32 bytes), count (4), the indices (8 each), then the state as JSON.
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        let count = u32::try_from(self.entries.len()).map_err(|_| "a trace of more than 2^32 entries".to_owned())?;
        let mut bytes = Vec::with_capacity(36 + 8 * self.entries.len() + 256);
        bytes.extend_from_slice(self.head.as_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        self.entries.iter().for_each(|index| bytes.extend_from_slice(&index.to_be_bytes()));
        serde_json::to_writer(&mut bytes, &self.state).map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<32>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (indices, state) =
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*count)).ok()?.checked_mul(8)?)?;
        Some(Self {
            head: Hash::from_bytes(*head),
            entries: indices.as_chunks::<8>().0.iter().map(|index| u64::from_be_bytes(*index)).collect(),
            state: serde_json::from_slice(state).ok()?,
        })
    }
}

/// An append that needs nothing more but its place.
pub(super) struct Prepared {
    pub(super) trace: TraceId,
    pub(super) expected_head: Option<Hash>,
    /// Each with its canonical bytes.
    pub(super) steps: Vec<(Step, Vec<u8>)>,
    pub(super) guards: Vec<(TraceId, Option<Hash>)>,
    pub(super) deadline: Option<u64>,
    /// The digest by which an append made before is known again.
    pub(super) digest: Hash,
    /// Commitment and sealed record.
    pub(super) payloads: Vec<(Commitment, Vec<u8>)>,
    /// About how many bytes it writes.
    pub(super) bytes: usize,
}

impl Prepared {
    /// Encodes, digests and seals. The keys that seal are durable when this returns.
    pub(super) fn new(append: Append, vault: &Vault, day: Day) -> Result<Self, AppendError> {
        let Append { trace, expected_head, steps, payloads, guards, deadline } = append;
        if steps.is_empty() {
            return Err(AppendError::Empty { trace });
        }
        let mut bytes = 0;
        // The steps' canonical bytes, in the form of entries without what only the sequencer knows.
        let mut fields =
            vec![trace.0.as_bytes().to_vec(), expected_head.map(|h| h.as_bytes().to_vec()).unwrap_or_default()];
        let mut encoded = Vec::with_capacity(steps.len());
        for (step, body) in steps.into_iter().enumerate() {
            let (at, seq, src) = (Int::ZERO, Int::ZERO, Default::default());
            let entry = Entry { trace, step: Int::saturating(step as u64), prev: None, at, src, seq, body };
            let body = entry.body.encode_body().map_err(|e| encoding(trace, step, &e.into()))?;
            let field = entry.encode_around(&body).map_err(|e| encoding(trace, step, &e))?;
            bytes += field.len();
            fields.push(field);
            encoded.push((entry.body, body));
        }
        let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        let digest = tagged("append", &fields);
        let payloads = payloads
            .iter()
            .map(|payload| {
                let commitment = payload.commitment();
                let sealed = vault
                    .seal(payload, &commitment, day)
                    .map_err(|cause| AppendError::Payload { commitment, cause: Arc::new(cause) })?;
                bytes += sealed.len();
                Ok((commitment, sealed))
            })
            .collect::<Result<_, AppendError>>()?;
        Ok(Self { trace, expected_head, steps: encoded, guards, deadline, digest, payloads, bytes })
    }
}

/// An encoder's error as a refusal of that step.
pub(super) fn encoding(trace: TraceId, step: usize, e: &EntryError) -> AppendError {
    match e {
        EntryError::TooLarge { found } => AppendError::TooLarge { trace, step, found: *found },
        e => AppendError::Encoding { trace, step, why: e.to_string() },
    }
}
