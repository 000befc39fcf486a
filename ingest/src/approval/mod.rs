//! Approvals: reads `chunk.approvals`, judges each answer, gives a yes a trace of its own, and takes the request on once every
//! group that was asked has answered. What waits is known from the ledger alone, so a restart forgets nothing; a request that
//! waits occupies no thread and no partition.

use crate::broker::{self, Incoming, Member, Outgoing, Transactor, offsets_after};
use crate::door;
use crate::identity::claims::{self, ApprovalClaims, ApprovalDecision, Authentic, Rejected};
use crate::identity::{Identity, Registry};
use crate::pipeline::chunk::{claims_of, steps_of};
use crate::pipeline::request::Identified;
use crate::pipeline::status::{Status, Word};
use crate::pipeline::worker::{connect, take_up, work_record};
use crate::pipeline::{Core, Fault, now};
use countersign_ledger::evidence::step::{
    ApprovalDenied, ApprovalGranted, ApprovalRequested, ApprovalRevoked, ApprovalUsed, Int, RequestDenied,
    RequestFailed,
};
use countersign_ledger::evidence::{Class, Commitment, Phase, Reason, Step, TraceId, TraceState};
use countersign_ledger::store::{Append, AppendError, Payload};
use countersign_ledger::tlog::Hash;
use countersign_masker::{Action, Resource, Subject, permits};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// The word for this door in entries.
pub const DOOR: &str = "approvals";

/// A yes that stands.
#[derive(Clone, Debug)]
struct Grant {
    trace: TraceId,
    index: u64,
    leaf: Hash,
    identity: String,
    groups: Vec<String>,
    digest: Hash,
    obligations: Hash,
    not_before: u64,
    not_after: u64,
}

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its trace.
    pub trace: TraceId,
    /// Where the trace stands.
    pub head: Hash,
    /// What has happened.
    pub state: TraceState,
    /// What people were asked.
    pub asked: ApprovalRequested,
}

/// Runs the approvals door until the service drains.
pub fn run(core: &Core) {
    while !core.drain.is_on() {
        if let Err(fault) = consume(core) {
            metrics::counter!("countersign_door_faults_total", "door" => DOOR).increment(1);
            tracing::warn!(error = %fault, "the approvals door starts over");
            core.drain.sleep(Duration::from_secs(1));
        }
    }
}

fn consume(core: &Core) -> Result<(), Fault> {
    let transactor = connect(core, "approvals")?;
    let kafka = &core.config.kafka;
    let member = Member::join(kafka, "countersign-approvals", &[broker::APPROVALS], Duration::from_secs(300))?;
    let mut office = Office::open(core)?;
    // Requests that were taken on, and whose work went down with a transaction.
    take_up(core, &transactor)?;
    while !core.drain.is_on() {
        let batch = member.batch(64, Duration::from_millis(200))?;
        let mut out = Vec::new();
        for record in &batch {
            out.extend(office.take(&transactor, record)?);
        }
        // Time passes for those that wait, whether or not records come.
        out.extend(office.sweep(&transactor)?);
        if !batch.is_empty() {
            let group = member.metadata().ok_or_else(|| Fault::Other("the consumer has no group".into()))?;
            transactor.transact(out, Some((&offsets_after(&batch)?, &group)))?;
        } else if !out.is_empty() {
            transactor.transact(out, None)?;
        }
    }
    Ok(())
}

/// The request that waits under a trace, `None` where none does.
pub fn waiting(core: &Core, trace: TraceId) -> Result<Option<Waiting>, Fault> {
    if core.ledger.trace(&trace)?.is_none_or(|head| head.state.phase != Phase::Waiting) {
        return Ok(None);
    }
    let Some((head, state, steps)) = steps_of(core, trace)? else { return Ok(None) };
    let asked = steps.into_iter().rev().find_map(|(_, s)| match s {
        Step::ApprovalRequested(s) => Some(s),
        _ => None,
    });
    Ok(asked.map(|asked| Waiting { trace, head, state, asked }))
}

/// All requests that wait.
pub fn all_waiting(core: &Core) -> Result<Vec<Waiting>, Fault> {
    let mut all = Vec::new();
    for (trace, _) in core.ledger.open_traces() {
        match waiting(core, trace) {
            Ok(waiting) => all.extend(waiting),
            // One trace that cannot be read must not stand in the way of the others.
            Err(error @ Fault::Trace { .. }) => tracing::error!(%trace, %error, "a waiting request cannot be read"),
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// What the door remembers between records, by request: the grants that stand, and the denials whose consequence a crash kept
/// back. All of it comes from the ledger.
struct Office<'a> {
    core: &'a Core,
    grants: HashMap<TraceId, Vec<Grant>>,
    denied: HashSet<TraceId>,
}

/// Who answers, and what.
struct Answer {
    approver: Arc<Identity>,
    claims: ApprovalClaims,
    token: Payload,
    trace: TraceId,
}

impl<'a> Office<'a> {
    fn open(core: &'a Core) -> Result<Self, Fault> {
        let asked: HashMap<TraceId, ApprovalRequested> =
            all_waiting(core)?.into_iter().map(|waiting| (waiting.trace, waiting.asked)).collect();
        // A denial is a trace of one entry, and comes after the request that it answers.
        let open = core.ledger.open_traces();
        let oldest = open.into_iter().filter(|(trace, _)| asked.contains_key(trace)).map(|(_, first)| first).min();
        let mut indices = Vec::new();
        core.ledger.traces(|trace, head| match (head.state.phase, head.entries.as_slice()) {
            (Phase::Granted, [index, ..]) => indices.push((trace, *index, head.head)),
            (Phase::Closed, [index]) if oldest.is_some_and(|oldest| *index > oldest) => {
                indices.push((trace, *index, head.head))
            }
            _ => {}
        })?;
        let mut office = Self { core, grants: HashMap::new(), denied: HashSet::new() };
        for (trace, index, leaf) in indices {
            match core.ledger.entry(index)?.map(|e| e.body) {
                Some(Step::ApprovalGranted(s)) => {
                    office.grants.entry(s.request).or_default().push(grant(trace, index, leaf, &s));
                }
                // What was asked anew since is another question.
                Some(Step::ApprovalDenied(s)) => {
                    let stands = |a: &ApprovalRequested| a.request == s.digest && a.obligations == s.obligations;
                    if asked.get(&s.request).is_some_and(stands) {
                        office.denied.insert(s.request);
                    }
                }
                _ => {}
            }
        }
        Ok(office)
    }

    fn take(&mut self, transactor: &Transactor, record: &Incoming) -> Result<Vec<Outgoing>, Fault> {
        metrics::counter!("countersign_records_total", "door" => DOOR).increment(1);
        let now = now();
        let registry = self.core.registry.load_full();
        let (signer, reason) = match self.verify(&registry, record, now) {
            Ok(answer) => {
                let result = match self.known(transactor, &answer, now)? {
                    Some(result) => result,
                    None if answer.claims.decision == ApprovalDecision::Revoke => self.revoke(&answer)?,
                    None => self.answer(transactor, &registry, &answer, now)?,
                };
                match result {
                    Ok(out) => return Ok(out),
                    Err(reason) => (Some(answer.approver), reason),
                }
            }
            Err(Rejected { signer, reason }) => (signer, reason),
        };
        door::reject(self.core, transactor, DOOR, &[(record, Rejected { reason, signer })])
    }

    fn verify(&self, registry: &Registry, record: &Incoming, now: u64) -> Result<Answer, Rejected> {
        let origin = &self.core.config.origin;
        let Authentic { identity: approver, claims, .. } =
            claims::authenticate::<ApprovalClaims>(registry, origin, &record.value, now)?;
        claims::expect_time(&claims, now).map_err(|reason| Rejected {
            reason: if reason == Reason::Expired { Reason::ApprovalExpired } else { reason },
            signer: Some(approver.clone()),
        })?;
        let token = Payload::new(Class::Approval, record.value.clone());
        let trace = TraceId::approval(&claims.iss, &claims.jti);
        Ok(Answer { approver, claims, token, trace })
    }

    /// An answer whose trace exists: the very same once more, whose consequence may have been lost in a crash, or another one
    /// under its `jti`. `None` where there is no such trace.
    fn known(
        &mut self,
        transactor: &Transactor,
        answer: &Answer,
        now: u64,
    ) -> Result<Option<Result<Vec<Outgoing>, Reason>>, Fault> {
        let Some((_, _, steps)) = steps_of(self.core, answer.trace)? else { return Ok(None) };
        let c = &answer.claims;
        let is_this = |request: &TraceId, digest: &Hash, obligations: &Hash, reason: &Commitment| {
            request.0 == c.request && *digest == c.digest && *obligations == c.obligations && reason.0 == c.reason
        };
        match steps.first() {
            Some((_, Step::ApprovalGranted(s)))
                if c.decision == ApprovalDecision::Grant
                    && is_this(&s.request, &s.digest, &s.obligations, &s.reason) =>
            {
                self.settle(transactor, s.request, now).map(|out| Some(Ok(out)))
            }
            Some((_, Step::ApprovalDenied(s)))
                if c.decision == ApprovalDecision::Deny
                    && is_this(&s.request, &s.digest, &s.obligations, &s.reason) =>
            {
                let out = match waiting(self.core, s.request)? {
                    Some(w) if w.asked.request == s.digest && w.asked.obligations == s.obligations => {
                        self.deny(transactor, &w)?
                    }
                    _ => Vec::new(),
                };
                Ok(Some(Ok(out)))
            }
            _ => Ok(Some(Err(Reason::JtiReused))),
        }
    }

    fn deny(&self, transactor: &Transactor, waiting: &Waiting) -> Result<Vec<Outgoing>, Fault> {
        let reason = Reason::ApprovalDenied;
        self.end(transactor, waiting, RequestDenied { reason }.into(), Word::Denied, reason)
    }

    /// A yes or a no. The inner error is the answer's fault, the outer the service's.
    fn answer(
        &mut self,
        transactor: &Transactor,
        registry: &Registry,
        answer: &Answer,
        now: u64,
    ) -> Result<Result<Vec<Outgoing>, Reason>, Fault> {
        let Answer { approver, claims, token, trace } = answer;
        let request = TraceId(claims.request);
        let Some(waiting) = waiting(self.core, request)? else { return Ok(Err(Reason::NotWaiting)) };
        if waiting.asked.request != claims.digest || waiting.asked.obligations != claims.obligations {
            return Ok(Err(Reason::DigestMismatch));
        }
        if waiting.asked.not_after.get() <= now {
            return Ok(Err(Reason::ApprovalExpired));
        }
        let requester = waiting.state.subject.as_deref().and_then(|p| registry.by_pseudonym(p));
        let Some(requester) = requester else { return Ok(Err(Reason::NotWaiting)) };
        if is_self(registry, approver, requester) {
            return Ok(Err(Reason::SelfApproval));
        }
        let groups: Vec<String> =
            waiting.asked.groups.iter().filter(|g| approver.groups.contains(g)).cloned().collect();
        if groups.is_empty() || !may_approve(registry, approver, &waiting, now) {
            return Ok(Err(Reason::NotAnApprover));
        }
        let reason = Commitment(claims.reason);
        let registered = Int::saturating(approver.registered);
        let (identity, kid) = (approver.pseudonym.clone(), approver.kid.clone());
        let (digest, obligations) = (claims.digest, claims.obligations);
        let step: Step = if claims.decision == ApprovalDecision::Grant {
            let (signed_at, not_before, not_after) =
                (Int::saturating(claims.iat), Int::saturating(claims.nbf), Int::saturating(claims.exp));
            ApprovalGranted {
                request,
                digest,
                obligations,
                identity,
                kid,
                registered,
                groups,
                signed_at,
                not_before,
                not_after,
                reason,
                token: token.commitment(),
            }
            .into()
        } else {
            let token = token.commitment();
            ApprovalDenied { request, digest, obligations, identity, kid, registered, groups, reason, token }.into()
        };
        let append = Append {
            payloads: vec![token.clone()],
            // The approver's registration, and the request itself: both as they were when this was judged.
            guards: vec![approver.guard(), (request, Some(waiting.head))],
            deadline: Some(claims.exp.min(approver.not_after)),
            ..Append::opening(*trace, vec![step])
        };
        let appended = match self.core.ledger.append(append) {
            Ok(appended) => appended,
            Err(AppendError::GuardMoved { trace, .. }) if trace == request => return Ok(Err(Reason::NotWaiting)),
            Err(AppendError::GuardMoved { .. }) => return Ok(Err(Reason::RevokedKey)),
            Err(AppendError::Deadline { .. }) => return Ok(Err(Reason::ApprovalExpired)),
            Err(error) => return Err(error.into()),
        };
        let Some(durable) = appended.entries.last() else { return Ok(Ok(Vec::new())) };
        if let Step::ApprovalGranted(s) = &durable.entry().body {
            let grant = grant(*trace, durable.index().get(), durable.leaf(), s);
            self.grants.entry(request).or_default().push(grant);
            return Ok(Ok(self.settle(transactor, request, now)?));
        }
        // Kept in mind, should the request have moved on meanwhile.
        self.denied.insert(request);
        Ok(Ok(self.deny(transactor, &waiting)?))
    }

    /// Takes a yes back: by the one who gave it, by another of the same group, or by an admin.
    fn revoke(&mut self, answer: &Answer) -> Result<Result<Vec<Outgoing>, Reason>, Fault> {
        let Answer { approver, claims, token, .. } = answer;
        let trace = TraceId(claims.request);
        let Some((head, state, steps)) = steps_of(self.core, trace)? else { return Ok(Err(Reason::NotWaiting)) };
        let Some((_, Step::ApprovalGranted(grant))) = steps.first() else { return Ok(Err(Reason::NotWaiting)) };
        if state.phase != Phase::Granted {
            // Revoked already: the same wish once more is fulfilled.
            return Ok(Ok(Vec::new()));
        }
        if grant.digest != claims.digest || grant.obligations != claims.obligations {
            return Ok(Err(Reason::DigestMismatch));
        }
        let same_group = grant.groups.iter().any(|g| approver.groups.contains(g));
        if grant.identity != approver.pseudonym && !same_group && !approver.admin {
            return Ok(Err(Reason::NotAnApprover));
        }
        let step = ApprovalRevoked {
            identity: approver.pseudonym.clone(),
            kid: approver.kid.clone(),
            registered: Int::saturating(approver.registered),
            token: token.commitment(),
        };
        let append = Append {
            payloads: vec![token.clone()],
            guards: vec![approver.guard()],
            ..Append::following(trace, head, vec![step.into()])
        };
        match self.core.ledger.append(append) {
            Ok(_) | Err(AppendError::HeadMoved { .. }) => {}
            Err(AppendError::GuardMoved { .. }) => return Ok(Err(Reason::RevokedKey)),
            Err(error) => return Err(error.into()),
        }
        if let Some(grants) = self.grants.get_mut(&grant.request) {
            grants.retain(|g| g.trace != trace);
        }
        Ok(Ok(Vec::new()))
    }

    /// Takes a waiting request on if every group that was asked has an answer that counts now.
    fn settle(&mut self, transactor: &Transactor, request: TraceId, now: u64) -> Result<Vec<Outgoing>, Fault> {
        let Some(waiting) = waiting(self.core, request)? else {
            // Taken on before: put the work out once more, since the transaction that should have may have been lost.
            let phase = self.core.ledger.trace(&request)?.map(|h| h.state.phase);
            return Ok(if phase == Some(Phase::Permitted) { vec![work_record(request)] } else { Vec::new() });
        };
        if self.denied.contains(&request) {
            return self.deny(transactor, &waiting);
        }
        let registry = self.core.registry.load_full();
        let grants = self.grants.get(&request).map(Vec::as_slice).unwrap_or_default();
        let mut used: BTreeMap<TraceId, &Grant> = BTreeMap::new();
        for group in &waiting.asked.groups {
            let counts = |g: &&Grant| {
                g.groups.contains(group)
                    && g.digest == waiting.asked.request
                    && g.obligations == waiting.asked.obligations
                    && g.not_before <= now
                    && now < g.not_after
                    // Whoever was revoked since, has left the group or may not approve any more has no say.
                    && registry.by_pseudonym(&g.identity).is_some_and(|i| {
                        i.is_active(now) && i.groups.contains(group) && may_approve(&registry, i, &waiting, now)
                    })
            };
            match grants.iter().find(counts) {
                Some(grant) => used.insert(grant.trace, grant),
                None => return Ok(Vec::new()),
            };
        }
        let used: Vec<Grant> = used.into_values().cloned().collect();
        self.take_on(transactor, &registry, &waiting, &used, now)
    }

    fn take_on(
        &self,
        transactor: &Transactor,
        registry: &Registry,
        waiting: &Waiting,
        used: &[Grant],
        now: u64,
    ) -> Result<Vec<Outgoing>, Fault> {
        let (request, identity) = self.request_of(registry, waiting)?;
        if !identity.is_active(now) {
            let reason = Reason::IdentityChanged;
            return self.end(transactor, waiting, RequestFailed { reason, detail: None }.into(), Word::Failed, reason);
        }
        let mut steps: Vec<Step> = used
            .iter()
            .map(|g| ApprovalUsed { approval: g.trace, index: Int::saturating(g.index), leaf: g.leaf }.into())
            .collect();
        let mut decided = door::decide(self.core, registry, &request, now)?;
        decided.settle(&waiting.asked.groups, waiting.asked.obligations);
        let mut guards: Vec<_> = used.iter().map(|g| (g.trace, Some(g.leaf))).collect();
        guards.extend(used.iter().filter_map(|g| registry.by_pseudonym(&g.identity)).map(|i| i.guard()));
        guards.extend(request.guards(registry));
        steps.extend(decided.steps(self.core.config.service.approval_seconds, now));
        let append = Append {
            payloads: vec![decided.document.clone()],
            guards,
            deadline: used.iter().map(|g| g.not_after).min(),
            ..Append::following(waiting.trace, waiting.head, steps)
        };
        let appended = match self.core.ledger.append(append) {
            Ok(appended) => appended,
            // A revocation came in between: the next sweep sees it.
            Err(AppendError::GuardMoved { .. } | AppendError::HeadMoved { .. } | AppendError::Deadline { .. }) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        door::answer(transactor, &decided, &appended)
    }

    fn request_of(&self, registry: &Registry, waiting: &Waiting) -> Result<(Identified, Arc<Identity>), Fault> {
        let fail = |reason: &str| Fault::Trace { trace: waiting.trace, reason: reason.into() };
        let Some((_, _, steps)) = steps_of(self.core, waiting.trace)? else { return Err(fail("gone")) };
        let Some((_, Step::RequestReceived(received))) = steps.first() else { return Err(fail("no request")) };
        let claims = claims_of(self.core, waiting.trace, received)?;
        let pseudonym = waiting.state.subject.as_deref().ok_or_else(|| fail("no identity"))?;
        let identity = registry.by_pseudonym(pseudonym).ok_or_else(|| fail("its identity is unknown"))?.clone();
        let request = Identified { identity: identity.clone(), claims, digest: received.digest, trace: waiting.trace };
        Ok((request, identity))
    }

    /// Ends a waiting request.
    fn end(
        &self,
        transactor: &Transactor,
        waiting: &Waiting,
        step: Step,
        word: Word,
        reason: Reason,
    ) -> Result<Vec<Outgoing>, Fault> {
        let appended = match self.core.ledger.append(Append::following(waiting.trace, waiting.head, vec![step])) {
            Ok(appended) => appended,
            Err(AppendError::HeadMoved { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let registry = self.core.registry.load_full();
        let (request, identity) = self.request_of(&registry, waiting)?;
        let status = Status::new(Some(waiting.trace), word)
            .because(reason)
            .jti(&request.claims.jti)
            .entry(appended.entries.last().map_or(0, |e| e.index().get()));
        door::tell(transactor, &identity, &status)
    }

    /// Ends what has waited too long or was denied before a crash, and takes on what an approval that starts later has become
    /// good for.
    fn sweep(&mut self, transactor: &Transactor) -> Result<Vec<Outgoing>, Fault> {
        let now = now();
        let mut out = Vec::new();
        for waiting in all_waiting(self.core)? {
            let refused = self.denied.contains(&waiting.trace);
            if !refused && waiting.asked.not_after.get() <= now {
                let reason = Reason::ApprovalExpired;
                let step = RequestFailed { reason, detail: None };
                out.extend(self.end(transactor, &waiting, step.into(), Word::Failed, reason)?);
            } else if refused || self.grants.get(&waiting.trace).is_some_and(|g| !g.is_empty()) {
                out.extend(self.settle(transactor, waiting.trace, now)?);
            }
        }
        Ok(out)
    }
}

/// Whether policy lets somebody answer such a request.
fn may_approve(registry: &Registry, approver: &Identity, waiting: &Waiting, now: u64) -> bool {
    let (Some(policy), Some((connection, table))) = (&registry.policy, &waiting.state.table) else { return false };
    let subject = Subject {
        id: approver.name.clone(),
        groups: approver.groups.clone(),
        on_behalf_of: None,
        door: DOOR.into(),
        time: now,
    };
    // A policy that fails while it is evaluated gives nobody a right.
    permits(&policy.value, &subject, Action::Approve, Resource::Table(connection, table)).unwrap_or(false)
}

fn grant(trace: TraceId, index: u64, leaf: Hash, s: &ApprovalGranted) -> Grant {
    Grant {
        trace,
        index,
        leaf,
        identity: s.identity.clone(),
        groups: s.groups.clone(),
        digest: s.digest,
        obligations: s.obligations,
        not_before: s.not_before.get(),
        not_after: s.not_after.get(),
    }
}

/// Whether an approver is the requester in another shape: whether those that stand behind the one (itself, its owner, the one
/// it acts for) and those behind the other have anybody in common. By name, since a new key brings a new pseudonym.
fn is_self(registry: &Registry, approver: &Identity, requester: &Identity) -> bool {
    let behind = |identity: &Identity| -> BTreeSet<String> {
        let others = [&identity.owner, &identity.on_behalf_of];
        let others = others.into_iter().flatten().filter_map(|p| registry.by_pseudonym(p)).map(|i| i.name.clone());
        others.chain([identity.name.clone()]).collect()
    };
    !behind(approver).is_disjoint(&behind(requester))
}
