//! From permitted work to delivered bytes: `Permitted → Fetched → Masked → Recorded → Delivered`. Each stage is made from the
//! one before it, and the fields that make a stage what it is are private to this file.

use super::encode::{self, Format};
use super::request::{DecisionDocument, split_dataset};
use super::status::{Status, Word};
use super::{Core, Fault, now};
use crate::broker::{BrokerError, Outgoing, Reader, Transactor, TxError, partition_of};
use crate::identity::claims::RequestClaims;
use crate::identity::{Identity, Registry};
use crate::source::SourceError;
use countersign_ledger::evidence::digest::tagged;
use countersign_ledger::evidence::jws::Unverified;
use countersign_ledger::evidence::step::{
    ChunkMasked, ClassHits, DeliveryIntended, Int, MaskedColumn, MaskedPath, RequestReceived, SourceQueried,
};
use countersign_ledger::evidence::{
    Class, Commitment, Phase, Reason, RowsOf, Salt, Step, TraceId, TraceState, chunk_commitment, part_digest,
};
use countersign_ledger::store::{Append, AppendError, Appended, Durable, Payload};
use countersign_ledger::tlog::Hash;
use countersign_masker::detect::Detectors;
use countersign_masker::{Clear, MaskedChunk, Means, Obligations, Plan};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Why a stage was not reached.
#[derive(Debug)]
pub enum Stop {
    /// The request has come to nothing, for a reason that its caller is told; the detail is for operators.
    Failed(Reason, String),
    /// Something is wrong with the service or its parts: this work is not done and must be taken up again.
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        if let SourceError::Interrupted(what) = error {
            return Self::Fault(Fault::Other(what));
        }
        let reason = match error.reason() {
            "unknown_table" => Reason::SchemaChanged,
            word => Reason::from_word(word).unwrap_or(Reason::SourceFailed),
        };
        Self::Failed(reason, error.to_string())
    }
}

/// A request that may be answered, as the ledger and its vault tell it: permitted by policy, approved where that was asked.
#[derive(Clone)]
pub struct Permitted {
    /// The trace.
    pub trace: TraceId,
    /// Where the trace stands.
    pub head: Hash,
    /// What has happened so far.
    pub state: TraceState,
    /// Who asked.
    pub identity: Arc<Identity>,
    /// The one for whom it asked.
    principal: Option<Arc<Identity>>,
    /// What was asked.
    pub claims: RequestClaims,
    /// What may leave.
    obligations: Arc<Obligations>,
    /// How it is fetched.
    plan: Arc<Plan>,
    /// The digest of the catalog that the decision rests on.
    catalog: Hash,
    /// Until when the approvals count, Unix seconds.
    approved_until: Option<u64>,
}

/// The request of a trace, from the vault.
pub fn claims_of(core: &Core, trace: TraceId, received: &RequestReceived) -> Result<RequestClaims, Fault> {
    let fail = |reason: String| Fault::Trace { trace, reason };
    let payload =
        core.ledger.payload(&received.request)?.ok_or_else(|| fail("the request is not in the vault".into()))?;
    let token = Unverified::parse(&payload.bytes).map_err(|r| fail(r.to_string()))?;
    token.claims_unverified().map_err(|r| fail(r.to_string()))
}

/// A trace as it stands: its head, its state, and its steps with their indices.
pub type Steps = (Hash, TraceState, Vec<(u64, Step)>);

/// All entries of a trace, in order.
pub fn steps_of(core: &Core, trace: TraceId) -> Result<Option<Steps>, Fault> {
    let Some(head) = core.ledger.trace(&trace)? else { return Ok(None) };
    let mut steps = Vec::with_capacity(head.entries.len());
    for index in &head.entries {
        let entry = core
            .ledger
            .entry(*index)?
            .ok_or_else(|| Fault::Trace { trace, reason: format!("entry {index} is missing") })?;
        steps.push((*index, entry.body));
    }
    Ok(Some((head.head, head.state, steps)))
}

impl Permitted {
    /// Reads a request that policy has permitted back from the ledger, whatever has happened to it since.
    pub fn load(core: &Core, trace: TraceId) -> Result<Option<Self>, Fault> {
        let fail = |reason: &str| Fault::Trace { trace, reason: reason.into() };
        let Some((head, state, steps)) = steps_of(core, trace)? else { return Ok(None) };
        let received = steps.iter().find_map(|(_, s)| if let Step::RequestReceived(s) = s { Some(s) } else { None });
        let decided = steps.iter().rev().find_map(|(_, s)| if let Step::PolicyDecided(s) = s { Some(s) } else { None });
        let (Some(received), Some(decided)) = (received, decided) else { return Ok(None) };
        let claims = claims_of(core, trace, received)?;
        let pseudonym = state.subject.as_deref().ok_or_else(|| fail("no identity"))?;
        let registry = core.registry.load();
        let identity = registry.by_pseudonym(pseudonym).ok_or_else(|| fail("its identity is unknown"))?.clone();
        let principal = match (&claims.on_behalf_of, &identity.on_behalf_of) {
            (None, _) => None,
            (Some(_), Some(pseudonym)) => {
                Some(registry.by_pseudonym(pseudonym).ok_or_else(|| fail("its principal is unknown"))?.clone())
            }
            (Some(_), None) => return Err(fail("its identity acts for nobody")),
        };
        let document =
            core.ledger.payload(&decided.document)?.ok_or_else(|| fail("the decision is not in the vault"))?;
        let document: DecisionDocument =
            serde_json::from_slice(&document.bytes).map_err(|e| fail(&format!("its decision: {e}")))?;
        let obligations: Obligations =
            serde_json::from_str(document.obligations.get()).map_err(|e| fail(&format!("its obligations: {e}")))?;
        if Hash::from_bytes(obligations.digest()) != decided.obligations {
            return Err(fail("its obligations are not those that were decided"));
        }
        let Some(plan) = document.plan else { return Ok(None) };
        let mut approved_until = None;
        for (_, leaf_of) in steps.iter().filter_map(|(_, s)| match s {
            Step::ApprovalUsed(s) if state.approvals.iter().any(|(t, _)| *t == s.approval) => {
                Some((s.approval, s.index))
            }
            _ => None,
        }) {
            let entry = core.ledger.entry(leaf_of.get())?.ok_or_else(|| fail("an approval is missing"))?;
            let Step::ApprovalGranted(grant) = entry.body else { return Err(fail("an approval is not one")) };
            let until = grant.not_after.get();
            approved_until = Some(approved_until.map_or(until, |u: u64| u.min(until)));
        }
        Ok(Some(Self {
            trace,
            head,
            state,
            identity,
            principal,
            claims,
            obligations: Arc::new(obligations),
            plan: Arc::new(plan),
            catalog: decided.catalog,
            approved_until,
        }))
    }

    /// Whether the catalog wants each row of this table to be provable by itself.
    fn has_row_tree(&self, core: &Core) -> bool {
        let registry = core.registry.load();
        let table = split_dataset(&self.claims.dataset).zip(registry.catalog.as_ref());
        table.is_some_and(|((connection, table), catalog)| {
            catalog.value.table(connection, table).is_some_and(|table| table.row_tree)
        })
    }

    /// The attempt that comes next.
    pub fn next_attempt(&self) -> Int {
        self.state.attempt.next()
    }

    /// Those on whose registration the answer rests.
    fn relied_on(&self) -> impl Iterator<Item = &Identity> {
        std::iter::once(&*self.identity).chain(self.principal.as_deref())
    }

    /// Whether the identities and the approvals still count.
    pub fn check_standing(&self, now: u64) -> Result<(), Stop> {
        if !self.relied_on().all(|identity| identity.is_active(now)) {
            let why = "the identity, or the one it acts for, was revoked or has expired";
            return Err(Stop::Failed(Reason::IdentityChanged, why.into()));
        }
        if self.approved_until.is_some_and(|until| until <= now) {
            return Err(Stop::Failed(Reason::ApprovalExpired, "an approval's time is over".into()));
        }
        Ok(())
    }

    /// What must not have moved while a step is appended: registrations and approvals relied on.
    fn guards(&self) -> Vec<(TraceId, Option<Hash>)> {
        let mut guards: Vec<_> = self.relied_on().map(Identity::guard).collect();
        guards.extend(self.state.approvals.iter().map(|(trace, leaf)| (*trace, Some(*leaf))));
        guards
    }

    /// The moment, in Unix seconds, after which no step of this request may be appended.
    fn deadline(&self) -> u64 {
        let registered = self.relied_on().map(|identity| identity.not_after).min();
        self.approved_until.unwrap_or(u64::MAX).min(registered.unwrap_or(0))
    }

    /// What is looked for in text: what the catalog says that the decision rests on.
    fn detectors(&self, registry: &Registry) -> Result<Detectors, Stop> {
        if !self.obligations.detect() {
            return Ok(Detectors::default());
        }
        let catalog = registry.catalog.as_ref().filter(|catalog| catalog.digest == self.catalog);
        let changed = || Stop::Failed(Reason::MaskFailed, "its detectors have changed since the decision".into());
        Ok(catalog.ok_or_else(changed)?.value.detectors())
    }

    /// Appends steps to the trace, under the guards.
    fn append(&self, core: &Core, head: Hash, steps: Vec<Step>, payloads: Vec<Payload>) -> Result<Appended, Stop> {
        let append = Append {
            payloads,
            guards: self.guards(),
            deadline: Some(self.deadline()),
            ..Append::following(self.trace, head, steps)
        };
        match core.ledger.append(append) {
            Ok(appended) => Ok(appended),
            Err(AppendError::GuardMoved { trace, .. }) if self.relied_on().any(|i| i.trace() == trace) => {
                Err(Stop::Failed(
                    Reason::IdentityChanged,
                    "the identity was changed while its request was under way".into(),
                ))
            }
            Err(AppendError::GuardMoved { .. }) => {
                Err(Stop::Failed(Reason::ApprovalRevoked, "an approval was revoked before delivery".into()))
            }
            Err(AppendError::Deadline { .. }) => {
                Err(Stop::Failed(Reason::ApprovalExpired, "an approval or registration ended before delivery".into()))
            }
            // However often this is tried, the ledger will not take it.
            Err(error @ (AppendError::TooLarge { .. } | AppendError::Rule { .. } | AppendError::Encoding { .. })) => {
                Err(Stop::Failed(Reason::Internal, error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Records the query, then sends it. `runtime` is the worker's own, so that rows come in on the thread that decodes them.
    pub fn fetch(self, core: &Core, runtime: &Runtime) -> Result<Fetched, Stop> {
        self.check_standing(now())?;
        let (connection, table) = split_dataset(&self.claims.dataset)
            .ok_or_else(|| Stop::Failed(Reason::Internal, "the data set has no table".into()))?;
        let registry = core.registry.load_full();
        if let Some(catalog) = &registry.catalog {
            // After a restart the source has not seen the table's stated types yet.
            runtime.block_on(core.sources.schema(&registry, &catalog.value, connection, table, || true))?;
        }
        let source = core
            .sources
            .get(&registry, connection)?
            .ok_or_else(|| Stop::Failed(Reason::SourceUnavailable, "the connection is gone".into()))?;
        let prepared = runtime.block_on(source.prepare(&self.trace.to_string(), table, &self.plan))?;
        let attempt = self.next_attempt();
        let statement = Payload::new(Class::Query, prepared.statement());
        let step = SourceQueried {
            attempt,
            connection: connection.into(),
            table: table.into(),
            columns: self.plan.columns.iter().map(|(name, _)| name.into()).collect(),
            snapshot: prepared.snapshot().into(),
            statement: statement.commitment(),
        };
        let appended = self.append(core, self.head, vec![step.into()], vec![statement])?;
        let head = appended.head();
        let clear = runtime.block_on(prepared.run())?;
        Ok(Fetched { work: self, attempt, head, clear })
    }
}

/// Rows as the source gave them. They go to the masker and nowhere else.
pub struct Fetched {
    work: Permitted,
    attempt: Int,
    head: Hash,
    clear: Clear,
}

impl Fetched {
    /// Masks the rows and writes them as parts.
    pub fn mask(self, core: &Core) -> Result<MaskedParts, Stop> {
        let Self { work, attempt, head, clear } = self;
        let fail = |detail: String| Stop::Failed(Reason::MaskFailed, detail);
        let mut salt: Salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|e| Fault::Other(format!("no random numbers from the system: {e}")))?;
        // The order of rows must not be guessable from anything that is delivered, so its seed is drawn for itself.
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| Fault::Other(format!("no random numbers from the system: {e}")))?;
        let detectors = work.detectors(&core.registry.load())?;
        let means = Means { keys: &core.tokens, detectors: &detectors, purpose: &work.claims.purpose };
        let chunk: MaskedChunk = countersign_masker::mask(clear, &work.obligations, &work.plan, means, seed)
            .map_err(|e| fail(e.to_string()))?;
        let format = Format::from_name(&work.claims.format)
            .ok_or_else(|| Stop::Failed(Reason::BadFormat, "unknown format".into()))?;
        let parts = encode::encode(&chunk, format, core.config.service.max_record_bytes)
            .map_err(|reason| Stop::Failed(reason, "the chunk cannot be written".into()))?;
        let digests = parts.iter().map(|part| part_digest(part)).collect();
        let columns = chunk.account().iter().map(|a| MaskedColumn {
            column: (&a.column).into(),
            class: (&a.class).into(),
            rule: (&a.rule).into(),
            transform: (&a.transform).into(),
            seen: Int::saturating(a.seen),
            changed: Int::saturating(a.changed),
            hits: class_hits(&a.hits),
            paths: a
                .paths
                .iter()
                .map(|p| MaskedPath {
                    path: (&p.path).into(),
                    class: (&p.class).into(),
                    rule: (&p.rule).into(),
                    seen: Int::saturating(p.seen),
                    changed: Int::saturating(p.changed),
                    hits: class_hits(&p.hits),
                })
                .collect(),
        });
        let rows = Int::saturating(chunk.rows() as u64);
        let rows_root = work.has_row_tree(core).then(|| {
            let of = RowsOf { request: work.trace, attempt, count: rows };
            let failed = |reason| Stop::Failed(reason, "the rows cannot be written as JSON".into());
            encode::rows_root(&chunk, &of, &salt).map_err(failed)
        });
        let account = ChunkMasked { attempt, rows, columns: columns.collect(), rows_root: rows_root.transpose()? };
        let schema = chunk.columns().iter().map(|(name, ty)| format!("{name}:{ty}\n")).collect::<String>();
        let fingerprint = tagged("schema", &[schema.as_bytes()]);
        Ok(MaskedParts { work, attempt, head, account, parts, digests, salt, format, fingerprint })
    }
}

fn class_hits(hits: &BTreeMap<String, u64>) -> Vec<ClassHits> {
    hits.iter().map(|(class, count)| ClassHits { class: class.into(), count: Int::saturating(*count) }).collect()
}

/// Masked rows as record values, not yet recorded.
pub struct MaskedParts {
    work: Permitted,
    attempt: Int,
    head: Hash,
    account: ChunkMasked,
    parts: Vec<Vec<u8>>,
    digests: Vec<Hash>,
    salt: Salt,
    format: Format,
    fingerprint: Hash,
}

impl MaskedParts {
    /// Records what was masked and what is about to leave, where the outcome will stand included.
    pub fn record(self, core: &Core, transactor: &Transactor, reader: &Reader) -> Result<Recorded, Stop> {
        let Self { work, attempt, head, account, parts, digests, salt, format, fingerprint } = self;
        work.check_standing(now())?;
        let identity = &work.identity;
        let partitions = match transactor.partitions(&identity.status_topic) {
            Err(error @ BrokerError::NoTopic(_)) => return Err(Stop::Failed(Reason::NoDestination, error.to_string())),
            partitions => partitions?,
        };
        let partition = partition_of(&work.trace.0, partitions);
        let end = reader.end(partition)?;
        let destination = Payload::new(Class::Delivery, identity.chunk_topic.as_bytes());
        let intended = DeliveryIntended {
            attempt,
            chunk: chunk_commitment(&salt, &digests),
            parts: Int::saturating(parts.len() as u64),
            bytes: Int::saturating(parts.iter().map(|p| p.len() as u64).sum()),
            format: format.as_str().into(),
            to: identity.pseudonym.clone(),
            destination: destination.commitment(),
            status_partition: Int::saturating(u64::try_from(partition).unwrap_or(0)),
            status_offset: Int::saturating(u64::try_from(end).unwrap_or(0)),
        };
        let (rows, has_tree) = (account.rows.get(), account.rows_root.is_some());
        let appended = work.append(core, head, vec![account.into(), intended.into()], vec![destination])?;
        let nothing = || Fault::Other("the ledger acknowledged nothing".into());
        let (masked, intent) = match appended.entries.as_slice() {
            [masked, intent] => (masked, intent.clone()),
            _ => return Err(nothing().into()),
        };
        let mut receipt = core.ledger.receipt(&intent, Some(salt))?;
        if has_tree {
            // With the root at hand, whoever has the rows can prove each by itself.
            receipt = receipt.with_masked(masked.bytes().to_vec());
        }
        let receipt = receipt.encode();
        Ok(Recorded { work, attempt, intent, receipt, parts, digests, salt, format, fingerprint, partition, rows })
    }
}

/// A chunk whose bytes are committed to by a durable entry. Only this can be delivered.
pub struct Recorded {
    work: Permitted,
    attempt: Int,
    intent: Durable,
    receipt: Vec<u8>,
    parts: Vec<Vec<u8>>,
    digests: Vec<Hash>,
    salt: Salt,
    format: Format,
    fingerprint: Hash,
    partition: i32,
    rows: u64,
}

/// A chunk that readers of committed records can see.
pub struct Delivered {
    /// The trace.
    pub trace: TraceId,
    /// Its head: the intent.
    pub head: Hash,
    /// The attempt.
    pub attempt: Int,
    /// The partition of the status record.
    pub partition: i32,
    /// The offset of the status record.
    pub offset: i64,
}

impl Recorded {
    /// Sends parts, status and offsets in one transaction.
    pub fn deliver(
        self,
        transactor: &Transactor,
        offsets: Option<(&TopicPartitionList, &ConsumerGroupMetadata)>,
    ) -> Result<Delivered, TxError> {
        let Self { work, attempt, intent, receipt, parts, digests, salt, format, fingerprint, partition, rows } = self;
        let n = parts.len();
        let key = work.trace.to_string();
        let mut status =
            Status::new(Some(work.trace), Word::Delivered).jti(&work.claims.jti).entry(intent.index().get());
        status.attempt = Some(attempt.get());
        status.intent = Some(intent.index().get());
        status.rows = Some(rows);
        status.parts = Some(n as u64);
        let mut records: Vec<Outgoing> = Vec::with_capacity(n + 1);
        let text = |t: String| t.into_bytes();
        for (i, (value, digest)) in parts.into_iter().zip(digests).enumerate() {
            let mut headers = vec![
                ("cs-request", text(key.clone())),
                ("cs-attempt", text(attempt.to_string())),
                ("cs-part", text(format!("{}/{n}", i + 1))),
                ("cs-format", text(format.as_str().into())),
                ("cs-schema", text(fingerprint.to_string())),
                ("cs-digest", text(digest.to_string())),
                ("cs-salt", text(Hash::from_bytes(salt).to_string())),
                ("cs-index", text(intent.index().get().to_string())),
            ];
            if i + 1 == n {
                headers.push(("cs-receipt", receipt.clone()));
            }
            let topic = work.identity.chunk_topic.clone();
            records.push(Outgoing { topic, partition: None, key: key.clone().into_bytes(), value, headers });
        }
        records.push(status.to(&work.identity, Some(partition)));
        let placed = transactor.transact(records, offsets)?;
        let (partition, offset) =
            placed.last().copied().ok_or_else(|| TxError::Unknown("no place for the status record".into()))?;
        Ok(Delivered { trace: work.trace, head: intent.leaf(), attempt, partition, offset })
    }
}

/// Looks whether an intent was followed by its delivery: the offset of its status record, where there is one.
pub fn find_delivery(
    reader: &Reader,
    trace: TraceId,
    intent: &DeliveryIntended,
    patience: std::time::Duration,
) -> Result<Option<i64>, BrokerError> {
    let mut found = None;
    let partition = i32::try_from(intent.status_partition.get()).unwrap_or(i32::MAX);
    let from = i64::try_from(intent.status_offset.get()).unwrap_or(i64::MAX);
    reader.committed_since(partition, from, patience, |record| {
        let Ok(status) = serde_json::from_slice::<Status>(&record.value) else { return false };
        let this = status.request == Some(trace)
            && status.status == Word::Delivered
            && status.attempt == Some(intent.attempt.get());
        if this {
            found = Some(record.offset);
        }
        this
    })?;
    Ok(found)
}

/// Whether a worker has something to do for a trace that stands there.
pub const fn is_work(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Permitted | Phase::Queried | Phase::Masked | Phase::Intended | Phase::Committed | Phase::Aborted
    )
}

/// A commitment to what operators need to know, and its payload.
pub fn detail(text: &str) -> (Commitment, Payload) {
    let payload = Payload::new(Class::Detail, text.as_bytes());
    (payload.commitment(), payload)
}
