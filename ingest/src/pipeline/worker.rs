//! A worker: takes traces from `chunk.work` and brings each to its end. Where a trace stands is asked of the ledger, never of
//! Kafka, so a record that comes twice does no harm, and a worker that died is followed by one that goes on where it was:
//! an intent without an outcome is first resolved by reading the status partition, then delivered or tried anew.

use super::chunk::{self, Permitted, Stop, find_delivery, is_work, steps_of};
use super::status::{Status, Word};
use super::{Core, Fault};
use crate::broker::{self, BrokerError, Incoming, Member, Outgoing, Reader, Transactor, offsets_after};
use countersign_ledger::evidence::step::{
    DeliveryAborted, DeliveryCommitted, DeliveryIntended, Int, RequestCompleted, RequestFailed,
};
use countersign_ledger::evidence::{Phase, Reason, Step, TraceId};
use countersign_ledger::store::Append;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a worker waits before it takes up again what a fault made it put down.
const PAUSE: Duration = Duration::from_secs(1);

/// One worker and its connections to Kafka.
pub struct Worker {
    core: Core,
    name: String,
    runtime: Runtime,
    transactor: Transactor,
    readers: HashMap<String, Reader>,
}

/// The offsets of the record that is being worked on, with the group's metadata as it was when the record was polled.
type Progress<'a> = Option<(&'a TopicPartitionList, &'a ConsumerGroupMetadata)>;

/// Runs a worker until the service drains. A fault of Kafka or a source makes it start over with fresh connections.
pub fn run(core: &Core, name: &str) {
    let mut first = true;
    while !core.drain.is_on() {
        let started = Worker::connect(core, name).and_then(|mut worker| {
            if !first {
                // A transaction may have taken an offset along although its worker was told otherwise.
                take_up(core, &worker.transactor)?;
            }
            first = false;
            worker.consume()
        });
        if let Err(fault) = started {
            metrics::counter!("countersign_worker_faults_total").increment(1);
            tracing::warn!(worker = name, error = %fault, "the worker starts over");
            core.drain.sleep(PAUSE);
        }
    }
}

impl Worker {
    /// Connects to Kafka under the worker's own transactional id, which ends what an earlier worker of that name left open.
    pub fn connect(core: &Core, name: &str) -> Result<Self, Fault> {
        let transactor = connect(core, name)?;
        let runtime = runtime().map_err(|e| Fault::Other(format!("cannot start a runtime: {e}")))?;
        Ok(Self { core: core.clone(), name: name.into(), runtime, transactor, readers: HashMap::new() })
    }

    fn consume(&mut self) -> Result<(), Fault> {
        let kafka = &self.core.config.kafka;
        let member = Member::join(kafka, "countersign-workers", &[broker::WORK], Duration::from_secs(600))?;
        while !self.core.drain.is_on() {
            let Some(record) = member.poll(Duration::from_millis(200))? else {
                self.runtime.block_on(self.core.sources.rest());
                continue;
            };
            let group = member.metadata().ok_or_else(|| Fault::Other("the consumer has no group".into()))?;
            let offsets = offsets_after([&record])?;
            match trace_of(&record) {
                Some(trace) => self.work(trace, Some((&offsets, &group)))?,
                None => {
                    tracing::warn!(topic = record.topic, offset = record.offset, "not a work record: passed over");
                    self.send(Vec::new(), Some((&offsets, &group)))?;
                }
            }
        }
        Ok(())
    }

    /// Brings a trace to its end, and commits `progress` with the last of it. One process owns the ledger, so keeping two
    /// workers off one trace in here keeps them off it everywhere.
    pub fn work(&mut self, trace: TraceId, progress: Progress<'_>) -> Result<(), Fault> {
        let busy = self.core.busy.clone();
        let _mine = busy.take(trace);
        self.work_alone(trace, progress)
    }

    fn work_alone(&mut self, trace: TraceId, progress: Progress<'_>) -> Result<(), Fault> {
        loop {
            let Some(head) = self.core.ledger.trace(&trace)? else {
                return self.send(Vec::new(), progress);
            };
            let phase = head.state.phase;
            if !is_work(phase) {
                let told =
                    if phase == Phase::Closed { last_words(&self.core, &self.transactor, trace)? } else { Vec::new() };
                return self.send(told, progress);
            }
            let result = match phase {
                Phase::Intended => self.resolve(trace),
                Phase::Committed => self.append(trace, head.head, completed(head.state.attempt)).map_err(Stop::Fault),
                // Its transaction took `progress` along.
                _ => match self.attempt(trace, progress) {
                    Ok(()) => return Ok(()),
                    stopped => stopped,
                },
            };
            match result {
                Ok(()) => {}
                Err(Stop::Failed(reason, detail)) => self.fail(trace, reason, &detail)?,
                // A trace that cannot be worked with must not stand in the way of those behind it.
                Err(Stop::Fault(Fault::Trace { trace, reason })) => {
                    self.fail(trace, Reason::Internal, &reason)?;
                    if self.core.ledger.trace(&trace)?.is_some_and(|h| h.state.phase.is_open()) {
                        tracing::error!(%trace, reason, "this trace stays open: its outcome cannot be found out");
                        return self.send(Vec::new(), progress);
                    }
                }
                // Of Kafka, the ledger, or of somebody else who has taken the trace on: nothing is lost by starting over.
                Err(Stop::Fault(fault)) => return Err(fault),
            }
        }
    }

    /// One attempt: fetch, mask, record, deliver, and say so.
    fn attempt(&mut self, trace: TraceId, progress: Progress<'_>) -> Result<(), Stop> {
        let work = Permitted::load(&self.core, trace)?
            .ok_or_else(|| Fault::Trace { trace, reason: "there is no permitted request".into() })?;
        if work.next_attempt().get() > self.core.config.service.max_attempts {
            return Err(Stop::Failed(Reason::TooManyAttempts, format!("{} attempts", work.state.attempt)));
        }
        let topic = work.identity.status_topic.clone();
        // Here run the parsers of what sources hold, and they are not all ours.
        let masked = contained(|| work.fetch(&self.core, &self.runtime)?.mask(&self.core))?;
        self.reader(&topic)?;
        let reader = self.readers.get(&topic).ok_or_else(|| Fault::Other("no reader".into()))?;
        let recorded = masked.record(&self.core, &self.transactor, reader)?;
        // However a failed transaction ended, the intent is there: whoever comes next resolves it.
        let delivered = recorded.deliver(&self.transactor, progress)?;
        metrics::counter!("countersign_chunks_delivered_total").increment(1);
        let committed = DeliveryCommitted {
            attempt: delivered.attempt,
            status_partition: Int::saturating(u64::try_from(delivered.partition).unwrap_or(0)),
            status_offset: Int::saturating(u64::try_from(delivered.offset).unwrap_or(0)),
        };
        let mut steps = vec![committed.into()];
        steps.extend(completed(delivered.attempt));
        self.append(trace, delivered.head, steps)?;
        Ok(())
    }

    /// Finds out whether an intent was followed by its delivery, and records which.
    fn resolve(&mut self, trace: TraceId) -> Result<(), Stop> {
        let work = Permitted::load(&self.core, trace)?
            .ok_or_else(|| Fault::Trace { trace, reason: "there is no permitted request".into() })?;
        let intent = last_intent(&self.core, trace)?
            .ok_or_else(|| Fault::Trace { trace, reason: "there is no intent".into() })?;
        let patience = Duration::from_secs(self.core.config.service.transaction_seconds + 30);
        let reader = self.reader(&work.identity.status_topic)?;
        let found = match find_delivery(reader, trace, &intent, patience) {
            Err(error @ BrokerError::Gone { .. }) => {
                return Err(Fault::Trace { trace, reason: error.to_string() }.into());
            }
            found => found.map_err(Fault::from)?,
        };
        let steps: Vec<Step> = match found {
            Some(offset) => vec![
                DeliveryCommitted {
                    attempt: intent.attempt,
                    status_partition: intent.status_partition,
                    status_offset: Int::saturating(u64::try_from(offset).unwrap_or(0)),
                }
                .into(),
                RequestCompleted { attempt: intent.attempt }.into(),
            ],
            None => vec![DeliveryAborted { attempt: intent.attempt, reason: Reason::NotDelivered }.into()],
        };
        tracing::info!(%trace, attempt = %intent.attempt, delivered = found.is_some(), "an open intent was resolved");
        self.append(trace, work.head, steps)?;
        Ok(())
    }

    fn append(&self, trace: TraceId, head: countersign_ledger::tlog::Hash, steps: Vec<Step>) -> Result<(), Fault> {
        self.core.ledger.append(Append::following(trace, head, steps))?;
        Ok(())
    }

    /// Ends the request, for a reason that its caller is told.
    fn fail(&self, trace: TraceId, reason: Reason, detail: &str) -> Result<(), Fault> {
        let Some(head) = self.core.ledger.trace(&trace)? else { return Ok(()) };
        if !is_work(head.state.phase) || head.state.phase == Phase::Intended || head.state.phase == Phase::Committed {
            return Ok(());
        }
        metrics::counter!("countersign_requests_failed_total", "reason" => reason.as_str()).increment(1);
        tracing::warn!(%trace, %reason, detail, "a request failed");
        let (commitment, payload) = chunk::detail(detail);
        let step = RequestFailed { reason, detail: Some(commitment) };
        let append = Append::following(trace, head.head, vec![step.into()]);
        self.core.ledger.append(Append { payloads: vec![payload], ..append })?;
        Ok(())
    }

    fn send(&self, records: Vec<Outgoing>, progress: Progress<'_>) -> Result<(), Fault> {
        if records.is_empty() && progress.is_none() {
            return Ok(());
        }
        self.transactor.transact(records, progress)?;
        Ok(())
    }

    fn reader(&mut self, topic: &str) -> Result<&Reader, BrokerError> {
        if !self.readers.contains_key(topic) {
            tracing::debug!(worker = self.name, topic, "a reader for a status topic");
            self.readers.insert(topic.into(), Reader::connect(&self.core.config.kafka, topic)?);
        }
        self.readers.get(topic).ok_or_else(|| BrokerError::TimedOut(format!("no reader for `{topic}`")))
    }
}

/// What a worker waits for its source on. It runs on the worker's thread alone: no other has to be woken for each packet.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Puts every trace that is not finished and does not wait for people back on `chunk.work`: its record there may be lost, and
/// one too many does no harm.
pub fn take_up(core: &Core, transactor: &Transactor) -> Result<(), Fault> {
    let mut records = Vec::new();
    for (trace, _) in core.ledger.open_traces() {
        if core.ledger.trace(&trace)?.is_some_and(|head| is_work(head.state.phase)) {
            records.push(work_record(trace));
        }
    }
    if !records.is_empty() {
        tracing::info!(traces = records.len(), "taking up work that was under way");
        transactor.transact(records, None)?;
    }
    Ok(())
}

/// Has a panic fail the request that it happened over, and nothing else.
fn contained<T>(stage: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    // What a stage had in hand is dropped with it; what it shares with others it changes through locks and atomics only.
    std::panic::catch_unwind(AssertUnwindSafe(stage))
        .unwrap_or_else(|_| Err(Stop::Failed(Reason::Internal, "a stage panicked: the log names the place".into())))
}

fn completed(attempt: Int) -> Vec<Step> {
    vec![RequestCompleted { attempt }.into()]
}

/// A transactor under the name of one thread of this service.
pub fn connect(core: &Core, name: &str) -> Result<Transactor, BrokerError> {
    let service = &core.config.service;
    let id = format!("countersign/{}/{name}", core.config.origin);
    let timeout = Duration::from_secs(service.transaction_seconds);
    Transactor::connect(&core.config.kafka, &id, service.max_record_bytes, timeout)
}

/// What the caller of a request that waits or has come to nothing is told once more: nothing where it was delivered, since that
/// status was written together with the data.
pub fn last_words(core: &Core, transactor: &Transactor, trace: TraceId) -> Result<Vec<Outgoing>, Fault> {
    let Some((_, state, steps)) = steps_of(core, trace)? else { return Ok(Vec::new()) };
    let Some((index, last)) = steps.last() else { return Ok(Vec::new()) };
    let (word, reason) = match last {
        Step::RequestFailed(s) => (Word::Failed, Some(s.reason)),
        Step::RequestDenied(s) => (Word::Denied, Some(s.reason)),
        Step::ApprovalRequested(_) if state.phase == Phase::Waiting => (Word::Waiting, None),
        _ => return Ok(Vec::new()),
    };
    let registry = core.registry.load();
    let Some(identity) = state.subject.as_deref().and_then(|p| registry.by_pseudonym(p)) else {
        return Ok(Vec::new());
    };
    let mut status = Status::new(Some(trace), word).entry(*index);
    status.reason = reason;
    if word == Word::Waiting {
        status.groups.clone_from(&state.groups);
    }
    if let Some(Step::RequestReceived(received)) = steps.first().map(|(_, s)| s) {
        status = status.jti(chunk::claims_of(core, trace, received)?.jti);
    }
    crate::door::tell(transactor, identity, &status)
}

/// The work record of a trace.
pub fn work_record(trace: TraceId) -> Outgoing {
    let text = trace.to_string().into_bytes();
    Outgoing { topic: broker::WORK.into(), partition: None, key: text.clone(), value: text, headers: Vec::new() }
}

fn trace_of(record: &Incoming) -> Option<TraceId> {
    std::str::from_utf8(&record.value).ok()?.parse().ok()
}

fn last_intent(core: &Core, trace: TraceId) -> Result<Option<DeliveryIntended>, Fault> {
    let steps = steps_of(core, trace)?;
    Ok(steps.and_then(|(_, _, steps)| {
        steps.into_iter().rev().find_map(|(_, s)| if let Step::DeliveryIntended(s) = s { Some(s) } else { None })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_fails_its_request_and_nothing_else() {
        assert!(matches!(contained(|| Ok(7)), Ok(7)));
        let cells = Vec::<u8>::new();
        let stopped = contained(|| Ok(cells[std::hint::black_box(3)]));
        assert!(matches!(stopped, Err(Stop::Failed(Reason::Internal, _))));
    }
}
