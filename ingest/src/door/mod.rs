//! The Kafka door: reads `chunk.requests`, has each record verified and decided, appends the outcome, and then, in one
//! transaction with its offsets, puts permitted work on `chunk.work`, tells callers where they stand, and notes the
//! coordinates of what was no request on `chunk.rejected`.
//!
//! A batch of records is judged one after the other and appended together: the ledger groups what waits at the same time.

pub mod rates;

use crate::broker::{self, BrokerError, Incoming, Member, Outgoing, Transactor, offsets_after, partition_of};
use crate::identity::claims::Rejected;
use crate::identity::{Identity, Registry};
use crate::pipeline::chunk::is_work;
use crate::pipeline::request::{DOOR, Decided, Identified, Received, opening, split_dataset};
use crate::pipeline::status::{Status, Word};
use crate::pipeline::worker::{connect, last_words, work_record};
use crate::pipeline::{Core, Fault, now};
use countersign_ledger::evidence::step::{Int, RequestReceived, RequestRejected, Verdict};
use countersign_ledger::evidence::{Class, Phase, Reason, Step, TraceId};
use countersign_ledger::store::{Append, AppendError, Appended, Payload, TraceHead};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// The most records of one batch.
const BATCH: usize = 256;

/// From so many rejected records of a batch on, those of one reason and partition share an entry.
const FLOOD: usize = 16;

/// A record of `chunk.rejected`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectedRecord {
    /// The topic of the record.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Why it was rejected.
    pub reason: Reason,
}

/// Runs the door until the service drains.
pub fn run(core: &Core) {
    while !core.drain.is_on() {
        if let Err(fault) = consume(core) {
            metrics::counter!("countersign_door_faults_total", "door" => DOOR).increment(1);
            tracing::warn!(error = %fault, "the door starts over");
            core.drain.sleep(Duration::from_secs(1));
        }
    }
}

fn consume(core: &Core) -> Result<(), Fault> {
    let transactor = connect(core, "door")?;
    let kafka = &core.config.kafka;
    let member = Member::join(kafka, "countersign-door", &[broker::REQUESTS], Duration::from_secs(300))?;
    while !core.drain.is_on() {
        let batch = member.batch(BATCH, Duration::from_millis(200))?;
        if batch.is_empty() {
            continue;
        }
        let group = member.metadata().ok_or_else(|| Fault::Other("the consumer has no group".into()))?;
        let out = take(core, &transactor, &batch)?;
        transactor.transact(out, Some((&offsets_after(&batch)?, &group)))?;
    }
    Ok(())
}

/// What a record led to, before it is in the ledger.
enum Judged {
    /// Nothing to append: a repeat, or a record that came again after a crash.
    Known(Vec<Outgoing>),
    /// A request with its decision.
    Decided { append: Box<Append>, decided: Box<Decided> },
    /// No request.
    Rejected(Rejected),
}

/// Takes in a batch: gives what is to be sent once everything is durable.
pub fn take(core: &Core, transactor: &Transactor, batch: &[Incoming]) -> Result<Vec<Outgoing>, Fault> {
    let registry = core.registry.load_full();
    let mut out = Vec::new();
    let mut rejected: Vec<(&Incoming, Rejected)> = Vec::new();
    let (acks, ack) = mpsc::channel::<(usize, Result<Appended, AppendError>)>();
    let mut waiting = Vec::new();
    for record in batch {
        metrics::counter!("countersign_records_total", "door" => DOOR).increment(1);
        match judge(core, transactor, &registry, record)? {
            Judged::Known(records) => out.extend(records),
            Judged::Rejected(why) => rejected.push((record, why)),
            Judged::Decided { append, decided } => {
                let acks = acks.clone();
                let at = waiting.len();
                core.ledger.append_with(*append, move |result| {
                    // The receiver is gone only when the door has given up on this batch.
                    let _ = acks.send((at, result));
                });
                waiting.push((record, Some(decided)));
            }
        }
    }
    drop(acks);
    for (at, result) in ack {
        let Some((record, slot)) = waiting.get_mut(at) else { continue };
        let Some(decided) = slot.take() else { continue };
        match result {
            Ok(appended) => out.extend(answer(transactor, &decided, &appended)?),
            // The same jti twice in one batch, or a change of the caller's registration in between: look again.
            Err(AppendError::HeadMoved { .. } | AppendError::GuardMoved { .. }) => {
                out.extend(once_more(core, transactor, record, &mut rejected)?);
            }
            // However often this is tried, the ledger will not take it: the caller is told no, without the columns.
            Err(AppendError::TooLarge { .. } | AppendError::Rule { .. } | AppendError::Encoding { .. }) => {
                let decided = decided.request.refused(&registry, Reason::TooLarge, now())?;
                let append = opening_append(core, &registry, record, &decided, now())?;
                out.extend(answer(transactor, &decided, &core.ledger.append(append)?)?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some((record, _)) = waiting.iter().find(|(_, slot)| slot.is_some()) {
        return Err(Fault::Other(format!("no answer from the ledger for offset {}", record.offset)));
    }
    out.extend(reject(core, transactor, DOOR, &rejected)?);
    Ok(out)
}

/// A second judgement, after what the first rested on has moved.
fn once_more<'a>(
    core: &Core,
    transactor: &Transactor,
    record: &'a Incoming,
    rejected: &mut Vec<(&'a Incoming, Rejected)>,
) -> Result<Vec<Outgoing>, Fault> {
    match judge(core, transactor, &core.registry.load_full(), record)? {
        Judged::Known(records) => Ok(records),
        Judged::Rejected(why) => {
            rejected.push((record, why));
            Ok(Vec::new())
        }
        Judged::Decided { append, decided } => answer(transactor, &decided, &core.ledger.append(*append)?),
    }
}

fn judge(core: &Core, transactor: &Transactor, registry: &Arc<Registry>, record: &Incoming) -> Result<Judged, Fault> {
    let now = now();
    let request = match Received(record).verify(registry, &core.config.origin, now) {
        Ok(request) => request,
        Err(rejected) => return Ok(Judged::Rejected(rejected)),
    };
    if let Some(head) = core.ledger.trace(&request.trace)? {
        return known(core, transactor, record, &request, &head);
    }
    let decided = match request.check(now) {
        Err(reason) => request.refused(registry, reason, now)?,
        Ok(()) => within_rate(core, registry, decide(core, registry, &request, now)?, now)?,
    };
    let append = opening_append(core, registry, record, &decided, now)?;
    Ok(Judged::Decided { append: Box::new(append), decided: Box::new(decided) })
}

/// The decision, or a refusal where the caller has asked too often.
fn within_rate(core: &Core, registry: &Registry, decided: Decided, now: u64) -> Result<Decided, Fault> {
    let (Some(policy), false) = (&registry.policy, decided.verdict == Verdict::Deny) else { return Ok(decided) };
    let (request, determining) = (&decided.request, &decided.step.policies);
    match core.rates.take(&request.identity.pseudonym, request.trace, &policy.value, determining, now) {
        Ok(()) => Ok(decided),
        Err(policy) => request.too_often(registry, policy, decided.known.clone(), now),
    }
}

/// What opens a request's trace: the request, its caller, the decision and what it owes at once.
fn opening_append(
    core: &Core,
    registry: &Registry,
    record: &Incoming,
    decided: &Decided,
    now: u64,
) -> Result<Append, Fault> {
    let request = &decided.request;
    let (mut steps, opening) = opening(record, request)?;
    steps.extend(decided.steps(core.config.service.approval_seconds, now));
    let payloads = vec![opening, decided.document.clone()];
    Ok(Append { payloads, guards: request.guards(registry), ..Append::opening(request.trace, steps) })
}

/// Asks policy, with the table's columns as the source has them now.
pub fn decide(core: &Core, registry: &Registry, request: &Identified, now: u64) -> Result<Decided, Fault> {
    let schema = match (split_dataset(&request.claims.dataset), &registry.catalog) {
        (Some((connection, table)), Some(catalog)) => {
            let wanted = || request.may_read(registry, DOOR, now);
            let found = core.sources.schema(registry, &catalog.value, connection, table, wanted);
            match core.runtime.block_on(found) {
                Ok(schema) => schema,
                // Those who may not read it have not caused this, but must not hear of it either.
                Err(_) if !request.may_read(registry, DOOR, now) => None,
                Err(_) => return request.refused(registry, Reason::SourceUnavailable, now),
            }
        }
        _ => None,
    };
    request.decide(registry, schema.as_deref(), DOOR, now)
}

/// A request whose trace exists: the very same record once more after a crash, a repeat, or another request under its `jti`.
fn known(
    core: &Core,
    transactor: &Transactor,
    record: &Incoming,
    request: &Identified,
    head: &TraceHead,
) -> Result<Judged, Fault> {
    if head.state.digest != Some(request.digest) {
        let signer = Some(request.identity.clone());
        return Ok(Judged::Rejected(Rejected { reason: Reason::JtiReused, signer }));
    }
    let first = head.entries.first().copied().unwrap_or_default();
    let received = core.ledger.entry(first)?.map(|e| e.body);
    if matches!(&received, Some(Step::RequestReceived(r)) if is_at(r, record)) {
        // The very record, read once more because the transaction that should have answered it came to nothing.
        if is_work(head.state.phase) {
            return Ok(Judged::Known(vec![work_record(request.trace)]));
        }
        let told = last_words(core, transactor, request.trace)?;
        if !told.is_empty() {
            return Ok(Judged::Known(told));
        }
    }
    let last = head.entries.last().copied().unwrap_or_default();
    let mut status =
        Status::new(Some(request.trace), Word::Repeated).because(Reason::Repeated).jti(&request.claims.jti).entry(last);
    status.attempt = Some(head.state.attempt.get()).filter(|n| *n > 0);
    status.groups = if head.state.phase == Phase::Waiting { head.state.groups.clone() } else { Vec::new() };
    Ok(Judged::Known(tell(transactor, &request.identity, &status)?))
}

fn is_at(received: &RequestReceived, record: &Incoming) -> bool {
    received.topic == record.topic
        && i64::try_from(received.partition.get()) == Ok(record.partition.into())
        && i64::try_from(received.offset.get()) == Ok(record.offset)
}

/// A status for its identity, on the partition of its trace; nothing where there is no topic to tell it on, since one identity
/// without a topic must not stand in the way of all others.
pub fn tell(transactor: &Transactor, identity: &Identity, status: &Status) -> Result<Vec<Outgoing>, Fault> {
    match transactor.partitions(&identity.status_topic) {
        Ok(n) => Ok(vec![status.to(identity, status.request.map(|trace| partition_of(&trace.0, n)))]),
        Err(BrokerError::NoTopic(topic)) => {
            metrics::counter!("countersign_statuses_lost_total").increment(1);
            tracing::warn!(topic, "there is nowhere to tell a caller");
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// What a decided request leads to: a status, and work where it is permitted.
pub fn answer(transactor: &Transactor, decided: &Decided, appended: &Appended) -> Result<Vec<Outgoing>, Fault> {
    let request = &decided.request;
    let word = match decided.verdict {
        Verdict::Permit => Word::Accepted,
        Verdict::Deny => Word::Denied,
        Verdict::NeedsApproval => Word::Waiting,
    };
    metrics::counter!("countersign_requests_total", "verdict" => decided.verdict.as_str()).increment(1);
    let last = appended.entries.last().map_or(0, |e| e.index().get());
    let mut status = Status::new(Some(request.trace), word).jti(&request.claims.jti).entry(last);
    status.reason = decided.reason;
    if decided.verdict == Verdict::NeedsApproval {
        status.groups.clone_from(&decided.groups);
    }
    let mut out = tell(transactor, &request.identity, &status)?;
    if decided.verdict == Verdict::Permit {
        out.push(work_record(request.trace));
    }
    Ok(out)
}

/// Leaves an entry for records that were rejected, one for many where they come in floods, and tells their signers.
pub fn reject(
    core: &Core,
    transactor: &Transactor,
    door: &str,
    rejected: &[(&Incoming, Rejected)],
) -> Result<Vec<Outgoing>, Fault> {
    let mut out = Vec::new();
    let mut entries: Vec<(&Incoming, Reason, u64)> = Vec::new();
    for (record, why) in rejected {
        metrics::counter!("countersign_records_rejected_total", "reason" => why.reason.as_str()).increment(1);
        let same = |(first, reason, _): &&mut (&Incoming, Reason, u64)| {
            *reason == why.reason && first.topic == record.topic && first.partition == record.partition
        };
        match entries.iter_mut().find(same).filter(|_| rejected.len() >= FLOOD) {
            Some((_, _, count)) => *count += 1,
            None => entries.push((record, why.reason, 1)),
        }
        let note = RejectedRecord {
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            reason: why.reason,
        };
        let value = serde_json::to_vec(&note).map_err(|e| Fault::Other(e.to_string()))?;
        out.push(Outgoing { topic: broker::REJECTED.into(), value, ..Outgoing::default() });
        if let Some(identity) = &why.signer {
            out.extend(tell(transactor, identity, &Status::new(None, Word::Rejected).because(why.reason))?);
        }
    }
    for (record, reason, count) in entries {
        let coordinate = |n: i64| Int::saturating(u64::try_from(n).unwrap_or(0));
        let trace = TraceId::rejected(
            &record.topic,
            coordinate(record.partition.into()).get(),
            coordinate(record.offset).get(),
        );
        if core.ledger.trace(&trace)?.is_some() {
            continue;
        }
        // Committed to, never kept: nobody has answered for these bytes.
        let commitment = Payload::new(Class::Rejected, record.value.clone()).commitment();
        let step = RequestRejected {
            reason,
            door: door.into(),
            topic: record.topic.clone(),
            partition: coordinate(record.partition.into()),
            offset: coordinate(record.offset),
            count: Int::saturating(count),
            record: commitment,
        };
        match core.ledger.append(Append::opening(trace, vec![step.into()])) {
            Ok(_) | Err(AppendError::HeadMoved { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(out)
}
