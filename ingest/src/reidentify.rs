//! Giving values back for tokens. Only the service has the keys, so only the service can: the caller signs what it wants, with
//! commitments to the tokens and to its reason; policy and catalog are asked; the answer is appended as `reidentify.decided`, and once
//! that is durable, values are looked up and told, to this caller and once. What was told stands nowhere.

use crate::http;
use crate::identity::Registry;
use crate::identity::claims::{self, Authentic, ReidentifyClaims};
use crate::pipeline::request::split_dataset;
use crate::pipeline::{Core, Fault};
use countersign_ledger::evidence::step::{Int, ReidentifyDecided, Verdict};
use countersign_ledger::evidence::{Class, Commitment, Reason, TraceId};
use countersign_ledger::store::{Append, AppendError, Durable, Payload};
use countersign_ledger::tlog::Hash;
use countersign_masker::ColumnType;
use countersign_masker::reidentify::{Question, Undo, reidentify};
use serde::{Deserialize, Serialize};

/// The most tokens of one call.
pub const MAX_TOKENS: usize = 1000;

/// How often a decision is made anew because what it rested on has moved.
const TRIES: usize = 3;

/// What a caller hands in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// A token of type `countersign-reidentify+jwt`.
    pub request: String,
    /// The JSON list of tokens, as text: its exact bytes are committed to.
    pub tokens: String,
    /// The salt of that commitment.
    pub tokens_salt: Hash,
    /// The reason.
    pub reason: String,
    /// The salt of that commitment.
    pub reason_salt: Hash,
}

/// What a caller gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The trace of this call.
    pub trace: TraceId,
    /// The index of its entry.
    pub entry: u64,
    /// Why not, where the answer is no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Reason>,
    /// The values in the order of the tokens, null for what is no token of that column and purpose; nothing where the answer is no.
    pub values: Vec<Option<String>>,
}

/// Why a call leaves no entry: nobody can be held to it, or it is not one.
#[derive(Debug, thiserror::Error)]
pub enum NoCall {
    /// The request does not count.
    #[error("the request does not count: {0}")]
    Unauthentic(Reason),
    /// The parts do not fit together.
    #[error("{0}")]
    Form(String),
    /// The same call was made before.
    #[error("this request was made before: sign a new one")]
    Repeated,
    /// Policy, catalog or registrations are changing.
    #[error("what the decision rests on is changing: try again")]
    Moving,
    /// The service's fault.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<AppendError> for NoCall {
    fn from(error: AppendError) -> Self {
        Self::Fault(error.into())
    }
}

/// A decision before it is an entry.
pub struct Decided {
    /// What may be undone, or why nothing may.
    pub answer: Result<Undo, Reason>,
    /// The policies that determined it.
    pub policies: Vec<String>,
    /// The digest of the policy's text.
    pub policy: Hash,
    /// The digest of the catalog's text.
    pub catalog: Hash,
}

/// Asks policy and catalog. Pure.
pub fn decide(registry: &Registry, call: &Authentic<ReidentifyClaims>, now: u64) -> Decided {
    let (policy, catalog) = registry.digests();
    let no = |reason| Decided { answer: Err(reason), policies: Vec::new(), policy, catalog };
    let c = &call.claims;
    let (Some(policies), Some(rules)) = (&registry.policy, &registry.catalog) else { return no(Reason::Forbidden) };
    let Some((connection, table)) = split_dataset(&c.dataset) else { return no(Reason::Forbidden) };
    let subject = registry.subject(&call.identity, c.on_behalf_of.as_deref(), http::DOOR, now);
    let Some(subject) = subject.filter(|_| registry.connections.contains_key(connection)) else {
        return no(Reason::Forbidden);
    };
    let question = Question {
        connection: connection.into(),
        table: table.into(),
        column: c.column.clone(),
        purpose: c.purpose.clone(),
    };
    let decision = reidentify(&policies.value, &rules.value, &subject, &question);
    let answer = decision.answer.map_err(|reason| Reason::from_word(reason.as_str()).unwrap_or(Reason::Forbidden));
    Decided { answer, policies: decision.policies, policy, catalog }
}

impl Decided {
    /// The entry of this decision on that call, for so many tokens.
    pub fn step(
        &self,
        call: &Authentic<ReidentifyClaims>,
        request: Commitment,
        count: u64,
        now: u64,
    ) -> ReidentifyDecided {
        let c = &call.claims;
        let names = self.answer.as_ref().ok().zip(split_dataset(&c.dataset));
        let names = names.map(|(undo, (connection, table))| {
            [connection.into(), table.into(), c.column.clone(), undo.rule().to_string(), c.purpose.clone()]
        });
        let [connection, table, column, rule, purpose] =
            names.map_or([const { None }; 5], |names: [String; 5]| names.map(Some));
        ReidentifyDecided {
            digest: call.digest,
            request,
            identity: call.identity.pseudonym.clone(),
            kid: call.identity.kid.clone(),
            registered: Int::saturating(call.identity.registered),
            verdict: if self.answer.is_ok() { Verdict::Permit } else { Verdict::Deny },
            refusal: self.answer.as_ref().err().copied(),
            policies: self.policies.clone(),
            policy: self.policy,
            catalog: self.catalog,
            time: Int::saturating(now),
            connection,
            table,
            column,
            rule,
            purpose,
            count: Int::saturating(count),
            tokens: Commitment(c.tokens),
            reason: Commitment(c.reason),
        }
    }
}

/// Answers a call: everything that is needed to answer first, then the entry, then the values. Blocks.
pub fn answer(core: &Core, submission: &Submission, now: u64) -> Result<Answer, NoCall> {
    let mut registry = core.registry.load_full();
    let request = Payload::new(Class::Request, submission.request.as_bytes());
    let call = claims::authenticate::<ReidentifyClaims>(&registry, &core.config.origin, &request.bytes, now)
        .map_err(|rejected| NoCall::Unauthentic(rejected.reason))?;
    claims::expect_time(&call.claims, now).map_err(NoCall::Unauthentic)?;
    let committed = |name: &str, salt: Hash, text: &str, to: Hash| {
        let payload = Payload { class: Class::Reidentify, salt: *salt.as_bytes(), bytes: text.as_bytes().to_vec() };
        let same = payload.commitment() == Commitment(to);
        same.then_some(payload).ok_or_else(|| NoCall::Form(format!("`{name}` is not what the request commits to")))
    };
    let c = &call.claims;
    let tokens = committed("tokens", submission.tokens_salt, &submission.tokens, c.tokens)?;
    let reason = committed("reason", submission.reason_salt, &submission.reason, c.reason)?;
    if submission.reason.trim().is_empty() {
        return Err(NoCall::Form("a reason is needed".into()));
    }
    let wanted: Vec<String> = serde_json::from_str(&submission.tokens)
        .map_err(|_| NoCall::Form("`tokens` is no JSON list of texts".into()))?;
    if !(1..=MAX_TOKENS).contains(&wanted.len()) {
        return Err(NoCall::Form(format!("found {} tokens, 1 to {MAX_TOKENS} allowed", wanted.len())));
    }
    let trace = TraceId::reidentify(&c.iss, &c.jti);
    for _ in 0..TRIES {
        let mut decided = decide(&registry, &call, now);
        let column = match &decided.answer {
            Ok(undo) if undo.needs_type() => {
                let found = column_type(core, &registry, c);
                if let Err(reason) = &found {
                    decided.answer = Err(*reason);
                }
                found.unwrap_or(ColumnType::Text)
            }
            _ => ColumnType::Text,
        };
        let step = decided.step(&call, request.commitment(), wanted.len() as u64, now);
        let on_behalf_of = c.on_behalf_of.as_deref();
        let relied_on = registry.relied_on(&call.identity, on_behalf_of).map(|identity| identity.not_after).min();
        let append = Append {
            payloads: vec![request.clone(), tokens.clone(), reason.clone()],
            guards: registry.guards(&call.identity, on_behalf_of),
            // What the call asks of its source can take longer than the call counts.
            deadline: relied_on.into_iter().chain([c.exp]).min(),
            ..Append::opening(trace, vec![step.into()])
        };
        match core.ledger.append(append) {
            Ok(appended) => return Ok(tell(core, decided.answer, appended.last(), &column, c.key, &wanted)),
            Err(AppendError::HeadMoved { .. }) => return Err(NoCall::Repeated),
            Err(AppendError::Deadline { .. }) if relied_on.is_none_or(|until| c.exp < until) => {
                return Err(NoCall::Unauthentic(Reason::Expired));
            }
            Err(AppendError::Deadline { .. }) => return Err(NoCall::Unauthentic(Reason::RevokedKey)),
            Err(AppendError::GuardMoved { .. }) => registry = core.registry.load_full(),
            Err(error) => return Err(error.into()),
        }
        let still = registry.by_kid(&call.identity.kid).is_some_and(|i| i.head == call.identity.head);
        if !still {
            // Its registration has moved: who it is must be found out again.
            return Err(NoCall::Moving);
        }
    }
    Err(NoCall::Moving)
}

/// The type of the column before masking, as its source has it.
fn column_type(core: &Core, registry: &Registry, c: &ReidentifyClaims) -> Result<ColumnType, Reason> {
    let (Some((connection, table)), Some(catalog)) = (split_dataset(&c.dataset), &registry.catalog) else {
        return Err(Reason::Forbidden);
    };
    let schema = core.runtime.block_on(core.sources.schema(registry, &catalog.value, connection, table, || true));
    let schema = schema.map_err(|_| Reason::SourceUnavailable)?;
    // What lies inside of a column is told by its text.
    let within = catalog.value.table(connection, table).is_some_and(|t| !t.columns.contains_key(&c.column));
    let found = schema.and_then(|schema| schema.column_type(&c.column).cloned());
    found.or(within.then_some(ColumnType::Text)).ok_or(Reason::SchemaChanged)
}

/// The values, now that the entry is durable.
fn tell(
    core: &Core,
    answer: Result<Undo, Reason>,
    entry: &Durable,
    column: &ColumnType,
    key: Option<u64>,
    wanted: &[String],
) -> Answer {
    let (trace, entry) = (entry.entry().trace, entry.index().get());
    let verdict = if answer.is_ok() { "permit" } else { "deny" };
    metrics::counter!("countersign_reidentifications_total", "verdict" => verdict).increment(1);
    match answer {
        Err(refusal) => Answer { trace, entry, refusal: Some(refusal), values: Vec::new() },
        Ok(undo) => {
            let version = key.map(|version| usize::try_from(version).unwrap_or(usize::MAX));
            let values = wanted.iter().map(|masked| undo.reveal(&core.tokens, column, version, masked).ok());
            Answer { trace, entry, refusal: None, values: values.collect() }
        }
    }
}
