//! From a record to a decision: `Received → Identified → Decided`. Pure but for the clock and the schema that the caller hands
//! in: nothing here waits, and nothing here has an effect.

use crate::broker::Incoming;
use crate::identity::claims::{self, Authentic, Rejected, RequestClaims};
use crate::identity::{Identity, Registry};
use countersign_ledger::evidence::step::{
    ApprovalRequested, Attest, DecidedColumn, DecidedPath, IdentityVerified, Int, PolicyDecided, RequestDenied,
    RequestReceived, Verdict,
};
use countersign_ledger::evidence::{Class, Reason, Step, TraceId};
use countersign_ledger::store::Payload;
use countersign_ledger::tlog::Hash;
use countersign_masker::explain::facts;
use countersign_masker::{
    self as masker, Ask, ColumnType, Decision, DenyReason, Obligations, Plan, Subject, TableSchema,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// The word for this door in entries.
pub const DOOR: &str = "kafka";

/// The most columns that a request may name.
pub const MAX_COLUMNS: usize = 256;

/// A record as it came in.
#[derive(Debug)]
pub struct Received<'a>(pub &'a Incoming);

/// A request whose caller is known.
#[derive(Debug, Clone)]
pub struct Identified {
    /// The caller.
    pub identity: Arc<Identity>,
    /// What it asks.
    pub claims: RequestClaims,
    /// SHA-256 of the signing input.
    pub digest: Hash,
    /// The request's trace.
    pub trace: TraceId,
}

impl Received<'_> {
    /// Verifies the caller.
    pub fn verify(self, registry: &Registry, origin: &str, now: u64) -> Result<Identified, Rejected> {
        let Authentic { identity, claims, digest } =
            claims::authenticate::<RequestClaims>(registry, origin, &self.0.value, now)?;
        let trace = TraceId::request(&claims.iss, &claims.jti);
        Ok(Identified { identity, claims, digest, trace })
    }
}

/// What `policy.decided` commits to in full: what may leave, and how it is fetched. The worker acts on this document and on
/// nothing else, so that a decision is made once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionDocument {
    /// The obligations' canonical JSON, whose SHA-256 is their digest.
    pub obligations: Box<RawValue>,
    /// How the rows are fetched; absent when nothing may leave.
    pub plan: Option<Plan>,
    /// What was known of the table; absent when policy was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Known>,
}

/// What was known of a table when policy was asked about it, as far as the decision looked at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Its source has no such table, or was not asked since the caller may not know.
    Nothing,
    /// These of its columns, with their types.
    Columns(Vec<(String, ColumnType)>),
}

impl Known {
    /// What the masker takes.
    pub fn schema(self) -> Option<TableSchema> {
        match self {
            Self::Nothing => None,
            Self::Columns(columns) => Some(TableSchema { columns }),
        }
    }
}

/// A request with policy's answer.
#[derive(Debug)]
pub struct Decided {
    /// The request.
    pub request: Identified,
    /// The answer in one word.
    pub verdict: Verdict,
    /// Why not, where it is no.
    pub reason: Option<Reason>,
    /// The groups that must approve.
    pub groups: Vec<String>,
    /// The digest of the obligations.
    pub obligations: Hash,
    /// What was known of the table; nothing where policy was not asked.
    pub known: Option<Known>,
    /// The `policy.decided` entry.
    pub step: PolicyDecided,
    /// Its document.
    pub document: Payload,
}

/// Splits `connection.table` at the first dot.
pub fn split_dataset(dataset: &str) -> Option<(&str, &str)> {
    dataset.split_once('.').filter(|(c, t)| !c.is_empty() && !t.is_empty())
}

impl Identified {
    /// Checks what can be checked without policy: time and form.
    pub fn check(&self, now: u64) -> Result<(), Reason> {
        claims::expect_time(&self.claims, now)?;
        let c = &self.claims;
        let mut columns: Vec<&String> = c.columns.iter().collect();
        columns.sort_unstable();
        columns.dedup();
        if c.columns.is_empty() || c.columns.len() > MAX_COLUMNS || columns.len() != c.columns.len() {
            return Err(Reason::BadClaims);
        }
        if c.format != "arrow" && c.format != "jsonl" {
            return Err(Reason::BadFormat);
        }
        Ok(())
    }

    /// What policy is asked; nothing where the answer is no without it.
    fn question(&self, registry: &Registry, door: &str, now: u64) -> Option<(Subject, Ask)> {
        let c = &self.claims;
        let (connection, table) = split_dataset(&c.dataset)?;
        let subject = registry.subject(&self.identity, c.on_behalf_of.as_deref(), door, now)?;
        let ask = Ask {
            connection: connection.into(),
            table: table.into(),
            columns: c.columns.clone(),
            filter: c.filter.clone(),
            range: c.range.clone(),
            limit: c.limit,
            purpose: c.purpose.clone(),
        };
        Some((subject, ask))
    }

    /// The conditions under which an append that rests on its decision may stand.
    pub fn guards(&self, registry: &Registry) -> Vec<(TraceId, Option<Hash>)> {
        registry.guards(&self.identity, self.claims.on_behalf_of.as_deref())
    }

    /// Whether policy would let the caller read what it names, if it exists: asked before its source is, so that whoever may
    /// not know of a table learns nothing of its source either.
    pub fn may_read(&self, registry: &Registry, door: &str, now: u64) -> bool {
        let (Some(policy), Some(catalog)) = (&registry.policy, &registry.catalog) else { return false };
        self.question(registry, door, now).is_some_and(|(subject, ask)| {
            masker::may_read(Some(&registry.answers), &policy.value, &catalog.value, &subject, &ask)
        })
    }

    /// Asks policy. `schema` is the table's, `None` where there is no such table as far as the caller may know.
    pub fn decide(
        &self,
        registry: &Registry,
        schema: Option<&TableSchema>,
        door: &str,
        now: u64,
    ) -> Result<Decided, super::Fault> {
        let (Some(policy), Some(catalog)) = (&registry.policy, &registry.catalog) else {
            // Without a policy nothing is permitted.
            return self.refused(registry, Reason::Forbidden, now);
        };
        let Some((subject, ask)) = self.question(registry, door, now) else {
            return self.refused(registry, Reason::Forbidden, now);
        };
        let answers = Some(&*registry.answers);
        let decision = masker::decide_with(answers, &policy.value, &catalog.value, schema, &subject, &ask);
        if decision.verdict == masker::Verdict::Deny(DenyReason::MaskType)
            && let Some(schema) = schema
        {
            for misfit in catalog.value.misfits(&ask.connection, &ask.table, schema) {
                tracing::warn!(%misfit, "a rule can't be applied, so requests are denied");
            }
        }
        let known = match schema {
            Some(schema) => Known::Columns(facts(&policy.value, schema, &ask).columns),
            None => Known::Nothing,
        };
        self.decided(decision, known, (&ask.connection, &ask.table), (policy.digest, catalog.digest), now)
    }

    /// The refusal of what policy permits, but not so often: `policy` is the one that counts.
    pub fn too_often(
        &self,
        registry: &Registry,
        policy: &str,
        known: Option<Known>,
        now: u64,
    ) -> Result<Decided, super::Fault> {
        self.refusal(Reason::LimitExceeded, vec![policy.to_owned()], known, registry.digests(), now)
    }

    /// A refusal that needs no policy.
    pub fn refused(&self, registry: &Registry, reason: Reason, now: u64) -> Result<Decided, super::Fault> {
        self.refusal(reason, Vec::new(), None, registry.digests(), now)
    }

    fn refusal(
        &self,
        reason: Reason,
        policies: Vec<String>,
        known: Option<Known>,
        (policy, catalog): (Hash, Hash),
        now: u64,
    ) -> Result<Decided, super::Fault> {
        let obligations = Obligations::none();
        let document = document(&obligations, None, known.clone())?;
        let digest = Hash::from_bytes(obligations.digest());
        let step = PolicyDecided {
            verdict: Verdict::Deny,
            policies,
            policy,
            catalog,
            time: Int::saturating(now),
            connection: None,
            table: None,
            purpose: None,
            columns: Vec::new(),
            approval: Vec::new(),
            obligations: digest,
            document: document.commitment(),
        };
        Ok(Decided {
            request: self.clone(),
            verdict: Verdict::Deny,
            reason: Some(reason),
            groups: Vec::new(),
            obligations: digest,
            known,
            step,
            document,
        })
    }

    fn decided(
        &self,
        decision: Decision,
        known: Known,
        (connection, table): (&str, &str),
        digests: (Hash, Hash),
        now: u64,
    ) -> Result<Decided, super::Fault> {
        let (verdict, groups) = match &decision.verdict {
            masker::Verdict::Permit => (Verdict::Permit, Vec::new()),
            masker::Verdict::NeedsApproval(groups) => (Verdict::NeedsApproval, groups.clone()),
            masker::Verdict::Deny(reason) => {
                let reason = Reason::from_word(reason.as_str()).unwrap_or(Reason::Forbidden);
                return self.refusal(reason, decision.policies, Some(known), digests, now);
            }
        };
        let document = document(&decision.obligations, decision.plan, Some(known.clone()))?;
        let obligations = Hash::from_bytes(decision.obligations.digest());
        let columns = decision.obligations.columns.iter().map(|c| DecidedColumn {
            column: (&c.column).into(),
            class: (&c.class).into(),
            rule: c.rule.to_string().into(),
            paths: c
                .paths
                .iter()
                .map(|p| DecidedPath {
                    path: p.path.to_string().into(),
                    class: (&p.class).into(),
                    rule: p.rule.to_string().into(),
                })
                .collect(),
        });
        let step = PolicyDecided {
            verdict,
            policies: decision.policies,
            policy: digests.0,
            catalog: digests.1,
            time: Int::saturating(now),
            connection: Some(connection.into()),
            table: Some(table.into()),
            purpose: Some((&self.claims.purpose).into()),
            columns: columns.collect(),
            approval: groups.clone(),
            obligations,
            document: document.commitment(),
        };
        let (request, known) = (self.clone(), Some(known));
        Ok(Decided { request, verdict, reason: None, groups, obligations, known, step, document })
    }
}

fn document(obligations: &Obligations, plan: Option<Plan>, table: Option<Known>) -> Result<Payload, super::Fault> {
    let fail = |e: serde_json::Error| super::Fault::Other(format!("cannot write a decision: {e}"));
    let canonical = String::from_utf8(obligations.canonical_json()).map_err(|e| super::Fault::Other(e.to_string()))?;
    let document = DecisionDocument { obligations: RawValue::from_string(canonical).map_err(fail)?, plan, table };
    Ok(Payload::new(Class::Query, serde_json::to_vec(&document).map_err(fail)?))
}

/// The steps that open a request's trace, up to its verified caller, and the payload of the request itself.
pub fn opening(record: &Incoming, request: &Identified) -> Result<(Vec<Step>, Payload), super::Fault> {
    let payload = Payload::new(Class::Request, record.value.clone());
    let coordinate = |n: i64| Int::saturating(u64::try_from(n).unwrap_or(0));
    let received = RequestReceived {
        door: DOOR.into(),
        topic: (&record.topic).into(),
        partition: coordinate(record.partition.into()),
        offset: coordinate(record.offset),
        bytes: Int::saturating(record.value.len() as u64),
        digest: request.digest,
        request: payload.commitment(),
    };
    let verified = IdentityVerified {
        identity: request.identity.pseudonym.clone(),
        kid: request.identity.kid.clone(),
        alg: request.identity.key.alg(),
        registered: Int::saturating(request.identity.registered),
        attest: Attest::CallerSigned,
    };
    Ok((vec![received.into(), verified.into()], payload))
}

impl Decided {
    /// Takes into account that the groups that were asked have approved these obligations.
    pub fn settle(&mut self, asked: &[String], obligations: Hash) {
        let covered = self.groups.iter().all(|group| asked.contains(group));
        if self.verdict == Verdict::NeedsApproval && covered && self.obligations == obligations {
            // What was approved is what policy still says: the groups stay named, now as those that have answered.
            self.verdict = Verdict::Permit;
            self.step.verdict = Verdict::Permit;
        } else if self.verdict == Verdict::Permit && self.obligations != obligations {
            // Policy asks nobody any more, but people approved something else: they are asked about what it is now.
            self.verdict = Verdict::NeedsApproval;
            self.step.verdict = Verdict::NeedsApproval;
            self.groups = asked.to_vec();
            self.step.approval = asked.to_vec();
        }
    }

    /// The steps that follow from the decision: itself, and what it owes at once.
    pub fn steps(&self, approval_seconds: u64, now: u64) -> Vec<Step> {
        let mut steps = vec![self.step.clone().into()];
        match self.verdict {
            Verdict::Permit => {}
            Verdict::Deny => {
                steps.push(RequestDenied { reason: self.reason.unwrap_or(Reason::Forbidden) }.into());
            }
            Verdict::NeedsApproval => steps.push(
                ApprovalRequested {
                    groups: self.groups.clone(),
                    request: self.request.digest,
                    obligations: self.obligations,
                    not_after: Int::saturating(now + approval_seconds),
                }
                .into(),
            ),
        }
        steps
    }
}
