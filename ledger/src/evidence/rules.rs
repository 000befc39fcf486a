//! The rules that a complete trace obeys. The sequencer refuses an append that would break one, and the verifier calls a
//! ledger broken where one does not hold: both run [`TraceState::apply`].
//!
//! A request's life, as its trace tells it:
//!
//! ```text
//! request.received → identity.verified → policy.decided ┬ deny ──────────→ request.denied
//!                               └→ request.denied       ├ permit ────────→ source.queried(n) → chunk.masked(n)
//!                                                       │      → delivery.intended(n) ┬→ delivery.committed(n) → request.completed
//!                                                       │                             └→ delivery.aborted(n) → source.queried(n+1) …
//!                                                       └ needs_approval → approval.requested → approval.used … → policy.decided …
//! ```
//!
//! `request.failed` may end it anywhere after a permit or while approval is awaited, except between a committed delivery
//! and its completion, or while an intent is unresolved.

use super::{
    digest::TraceId,
    rotation,
    step::{ClassHits, DecidedColumn, Int, Kind, ReidentifyDecided, Step, Text, Verdict},
};
use crate::tlog::Hash;
use serde::{Deserialize, Serialize};

/// What a re-identification must say: all about what is answered, nothing where it is not.
fn reidentify(s: &ReidentifyDecided) -> Result<Phase, Violation> {
    let told = [&s.connection, &s.table, &s.column, &s.rule, &s.purpose];
    let agrees = match s.verdict {
        Verdict::Permit => told.iter().all(|name| name.is_some()) && s.refusal.is_none() && s.count > Int::ZERO,
        Verdict::Deny => told.iter().all(|name| name.is_none()) && s.refusal.is_some(),
        Verdict::NeedsApproval => false,
    };
    if agrees {
        return Ok(Phase::Closed);
    }
    let why = "an answered re-identification names its column, its rule and how many values, a refused one its reason";
    Err(Violation::Decision(why.into()))
}

/// Gives `then` where `trace` is the name that its first entry must have.
fn named(found: &'static str, trace: TraceId, expected: TraceId, then: Phase) -> Result<Phase, Violation> {
    if trace == expected { Ok(then) } else { Err(Violation::Name { found, trace }) }
}

/// Whether an identity may be called so in entries.
fn is_pseudonym(name: &str) -> bool {
    name.strip_prefix("id-").is_some_and(|name| is_hex(name, 16))
}

/// Whether a transform replaces every cell, nulls included, so that not even their number remains.
fn hides_all(transform: &str) -> bool {
    matches!(transform, "null" | "redact") || transform.starts_with("constant(")
}

/// Whether it is so many lower-case hexadecimal digits.
fn is_hex(name: &str, digits: usize) -> bool {
    name.len() == digits && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A member is of its form.
fn formed(found: &'static str, what: &'static str, required: &'static str, holds: bool) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::Form { found, what, required }) }
}

/// Where a trace stands after its last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing yet.
    Empty,
    /// A log, identity, policy, catalog, connection or hold in force, or the payloads of a day: it may change, and is never finished.
    Standing,
    /// A request came in, its caller is not yet verified.
    Received,
    /// The caller is verified, policy was not asked yet.
    Verified,
    /// Policy permits; nothing was fetched yet.
    Permitted,
    /// Policy says no; the refusal is owed.
    Refused,
    /// Policy wants approval; nobody was asked yet.
    ApprovalNeeded,
    /// People were asked.
    Waiting,
    /// Enough people may have answered; policy must be asked again.
    Approved,
    /// A query was recorded.
    Queried,
    /// The rows were masked.
    Masked,
    /// Bytes may have left: this must be resolved.
    Intended,
    /// Bytes were delivered; the completion is owed.
    Committed,
    /// The attempt came to nothing; another may follow.
    Aborted,
    /// An approval in force: it may be revoked.
    Granted,
    /// An identity, approval or hold that was in force and was revoked: nothing may follow.
    Revoked,
    /// Finished: nothing may follow.
    Closed,
}

impl Phase {
    /// Whether the trace tells a story that has an end and has not reached it.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Empty | Self::Standing | Self::Granted | Self::Revoked | Self::Closed)
    }
}

/// Why an entry may not stand where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The type may not follow.
    #[error("`{found}` may not follow {phase:?}")]
    Order {
        /// The entry's type.
        found: &'static str,
        /// Where the trace stood.
        phase: Phase,
    },
    /// The attempt is not the current one (or the next, for a new query).
    #[error("`{found}` for attempt {attempt}, expected {expected}")]
    Attempt {
        /// The entry's type.
        found: &'static str,
        /// The attempt it names.
        attempt: u64,
        /// The attempt it should name.
        expected: u64,
    },
    /// The trace's name is not the one that its first entry must have.
    #[error("`{found}` opens trace {trace}, which is not its name")]
    Name {
        /// The entry's type.
        found: &'static str,
        /// The name it stands under.
        trace: TraceId,
    },
    /// The chunk's account does not match the decision.
    #[error("the mask account does not match the obligations: {0}")]
    Account(String),
    /// A decision contradicts itself.
    #[error("the decision contradicts itself: {0}")]
    Decision(String),
    /// The entry is about another identity, version or destination than its trace.
    #[error("`{found}` names {what} `{named}`, the trace is about `{expected}`")]
    Subject {
        /// The entry's type.
        found: &'static str,
        /// What is named.
        what: &'static str,
        /// What it names.
        named: String,
        /// What it should name.
        expected: String,
    },
    /// Approval is missing: a group that was asked is not among those whose approvals are used.
    #[error("{0}")]
    Approval(String),
    /// The log's key did not pass over as it must: not a key of this log, one that was in use, not both signatures.
    #[error("the log's key was not rotated so: {0}")]
    Rotation(String),
    /// A member that is not of its form.
    #[error("`{found}`: `{what}` must be {required}")]
    Form {
        /// The entry's type.
        found: &'static str,
        /// The member.
        what: &'static str,
        /// Its form.
        required: &'static str,
    },
}

/// What must be remembered of a trace to judge its next entry. A few hundred bytes while it is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceState {
    /// Where it stands.
    pub phase: Phase,
    /// The attempt under way; 0 before the first.
    pub attempt: Int,
    /// What it is about. The pseudonym of caller, identity or approver; the name of a connection or hold; the log's key in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The request's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hash>,
    /// The digest of the obligations last decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obligations: Option<Hash>,
    /// What was last decided of every column; the mask account must agree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<DecidedColumn>,
    /// The connection and table last decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<(Text, Text)>,
    /// The groups that policy last asked to approve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The approvals relied on since people were last asked: trace and leaf hash of the grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<(TraceId, Hash)>,
    /// The request that an approval is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<TraceId>,
    /// The version of a policy or catalog.
    #[serde(default)]
    pub version: Int,
}

impl Default for TraceState {
    fn default() -> Self {
        Self {
            phase: Phase::Empty,
            attempt: Int::ZERO,
            subject: None,
            digest: None,
            obligations: None,
            columns: Vec::new(),
            table: None,
            groups: Vec::new(),
            approvals: Vec::new(),
            request: None,
            version: Int::ZERO,
        }
    }
}

impl TraceState {
    /// Takes the trace one step on, or says why that step may not stand here. Unchanged on error.
    pub fn apply(&mut self, trace: TraceId, step: &Step) -> Result<(), Violation> {
        // INVARIANT: in each case all that can fail comes before the first change.
        use Phase as P;
        let found = step.kind();
        let order = Violation::Order { found, phase: self.phase };
        self.phase = match (self.phase, step) {
            (P::Empty, Step::LogCreated(s)) => {
                let standing = named(found, trace, TraceId::log(), P::Standing)?;
                self.subject = Some(s.key.clone());
                standing
            }
            (P::Standing, Step::LogKeyRotated(s)) => {
                let old = self.subject.clone().unwrap_or_default();
                rotation::check(&old, s).map_err(|e| Violation::Rotation(e.to_string()))?;
                let standing = named(found, trace, TraceId::log(), P::Standing)?;
                self.subject = Some(s.key.clone());
                standing
            }
            (P::Empty, Step::IdentityRegistered(s)) => {
                if s.kind == Kind::Agent && s.owner.is_none() {
                    return Err(Violation::Decision("an agent without an owner".into()));
                }
                if !is_pseudonym(&s.identity) {
                    // A name in its place would be personal data, and here to stay.
                    return Err(Violation::Subject {
                        found,
                        what: "identity",
                        named: s.identity.clone(),
                        expected: "id- and 16 hex digits".into(),
                    });
                }
                let then = named(found, trace, TraceId::identity(&s.identity), P::Standing)?;
                self.subject = Some(s.identity.clone());
                then
            }
            (P::Standing, Step::GroupsChanged(s)) => self.same_subject(found, "identity", &s.identity, P::Standing)?,
            (P::Standing, Step::IdentityRevoked(s)) => self.same_subject(found, "identity", &s.identity, P::Revoked)?,
            (P::Empty | P::Standing, Step::PolicyChanged(s)) => {
                named(found, trace, TraceId::policy(), P::Standing)?;
                self.next_version(found, s.version)?
            }
            (P::Empty | P::Standing, Step::CatalogChanged(s)) => {
                named(found, trace, TraceId::catalog(), P::Standing)?;
                self.next_version(found, s.version)?
            }
            (P::Empty | P::Standing, Step::ConnectionChanged(s)) => {
                named(found, trace, TraceId::connection(&s.connection), P::Standing)?
            }
            (P::Empty | P::Standing, Step::LedgerExported(_)) => named(found, trace, TraceId::exports(), P::Standing)?,
            (P::Empty, Step::RequestRejected(s)) => {
                let name = TraceId::rejected(&s.topic, s.partition.get(), s.offset.get());
                named(found, trace, name, P::Closed)?
            }
            (P::Empty, Step::RequestReceived(s)) => {
                self.digest = Some(s.digest);
                P::Received
            }
            (P::Received, Step::IdentityVerified(s)) => {
                self.subject = Some(s.identity.clone());
                P::Verified
            }
            (P::Verified | P::Approved, Step::PolicyDecided(s)) => self.decide(s)?,
            (P::Verified | P::Refused | P::Waiting, Step::RequestDenied(_)) => P::Closed,
            (P::ApprovalNeeded, Step::ApprovalRequested(s)) => {
                self.expect_digests(Some(s.request), Some(s.obligations))?;
                if s.groups != self.groups {
                    return Err(Violation::Approval("other groups were asked than policy named".into()));
                }
                self.approvals.clear();
                P::Waiting
            }
            (P::Waiting | P::Approved, Step::ApprovalUsed(s)) => {
                self.approvals.push((s.approval, s.leaf));
                P::Approved
            }
            (P::Permitted | P::Queried | P::Masked | P::Aborted, Step::SourceQueried(s)) => {
                self.expect_attempt(found, s.attempt, self.attempt.next())?;
                if self.table != Some((s.connection.clone(), s.table.clone())) {
                    return Err(Violation::Subject {
                        found,
                        what: "table",
                        named: format!("{}.{}", s.connection, s.table),
                        expected: self.table.as_ref().map(|(c, t)| format!("{c}.{t}")).unwrap_or_default(),
                    });
                }
                // A column that was not fetched cannot leave; one that is fetched beyond those may serve a filter.
                if let Some(DecidedColumn { column, .. }) =
                    self.columns.iter().find(|decided| !s.columns.contains(&decided.column))
                {
                    return Err(Violation::Subject {
                        found,
                        what: "columns",
                        named: s.columns.join(", "),
                        expected: format!("{column} among them"),
                    });
                }
                self.attempt = s.attempt;
                P::Queried
            }
            (P::Queried, Step::ChunkMasked(s)) => {
                self.expect_attempt(found, s.attempt, self.attempt)?;
                self.expect_account(s)?;
                P::Masked
            }
            (P::Masked, Step::DeliveryIntended(s)) => {
                self.expect_attempt(found, s.attempt, self.attempt)?;
                if s.parts == Int::ZERO {
                    return Err(Violation::Account("a chunk of no parts: one without rows is one part".into()));
                }
                self.same_subject(found, "identity", &s.to, P::Intended)?
            }
            (P::Intended, Step::DeliveryCommitted(s)) => {
                self.expect_attempt(found, s.attempt, self.attempt)?;
                P::Committed
            }
            (P::Intended, Step::DeliveryAborted(s)) => {
                self.expect_attempt(found, s.attempt, self.attempt)?;
                P::Aborted
            }
            (P::Committed, Step::RequestCompleted(s)) => {
                self.expect_attempt(found, s.attempt, self.attempt)?;
                P::Closed
            }
            (
                P::Permitted | P::Waiting | P::Approved | P::Queried | P::Masked | P::Aborted | P::ApprovalNeeded,
                Step::RequestFailed(_),
            ) => P::Closed,
            (P::Empty, Step::ApprovalGranted(s)) => {
                self.subject = Some(s.identity.clone());
                self.digest = Some(s.digest);
                self.obligations = Some(s.obligations);
                self.groups.clone_from(&s.groups);
                self.request = Some(s.request);
                P::Granted
            }
            (P::Empty, Step::ApprovalDenied(s)) => {
                self.subject = Some(s.identity.clone());
                P::Closed
            }
            (P::Granted, Step::ApprovalRevoked(_)) => P::Revoked,
            (P::Empty | P::Standing, Step::PayloadPurged(s)) => {
                named(found, trace, TraceId::payloads(s.class, s.day), P::Standing)?
            }
            (P::Empty, Step::PayloadHeld(s)) => {
                formed(found, "hold", "16 lower-case hexadecimal digits", is_hex(&s.hold, 16))?;
                let sorted = !s.traces.is_empty() && s.traces.is_sorted_by(|a, b| a < b);
                formed(found, "traces", "one or more, sorted", sorted)?;
                let standing = named(found, trace, TraceId::hold(&s.hold), P::Standing)?;
                self.subject = Some(s.hold.clone());
                standing
            }
            (P::Standing, Step::PayloadReleased(s)) => {
                named(found, trace, TraceId::hold(&s.hold), P::Standing)?;
                self.same_subject(found, "hold", &s.hold, P::Revoked)?
            }
            (P::Empty, Step::PayloadRead(s)) => {
                formed(found, "read", "32 lower-case hexadecimal digits", is_hex(&s.read, 32))?;
                let sorted = !s.classes.is_empty() && s.classes.is_sorted_by(|a, b| a.as_str() < b.as_str());
                formed(found, "classes", "one or more, sorted", sorted)?;
                named(found, trace, TraceId::read(&s.read), P::Closed)?
            }
            (P::Empty, Step::SourceSampled(s)) => {
                formed(found, "sample", "32 lower-case hexadecimal digits", is_hex(&s.sample, 32))?;
                self.subject = Some(s.identity.clone());
                named(found, trace, TraceId::sample(&s.sample), P::Closed)?
            }
            (P::Empty, Step::ReidentifyDecided(s)) => {
                self.subject = Some(s.identity.clone());
                self.digest = Some(s.digest);
                reidentify(s)?
            }
            _ => return Err(order),
        };
        Ok(())
    }

    fn decide(&mut self, s: &super::step::PolicyDecided) -> Result<Phase, Violation> {
        let contradiction = |why: &str| Err(Violation::Decision(why.into()));
        let deny = s.verdict == Verdict::Deny;
        if deny != s.columns.is_empty() || deny != s.table.is_none() || deny != s.connection.is_none() {
            return contradiction("a refusal names no table and no columns, and everything else names both");
        }
        let asks = s.verdict == Verdict::NeedsApproval;
        let settled = s.verdict == Verdict::Permit && self.phase == Phase::Approved;
        if (asks && s.approval.is_empty()) || (!asks && !settled && !s.approval.is_empty()) {
            return contradiction(
                "groups are named where approval is needed, or was needed and given, and nowhere else",
            );
        }
        if settled && self.obligations != Some(s.obligations) {
            // What was approved is what may leave: any other obligations ask again.
            return Err(Violation::Approval("permitted with other obligations than those approved".into()));
        }
        self.columns.clone_from(&s.columns);
        self.table = s.connection.clone().zip(s.table.clone());
        self.obligations = Some(s.obligations);
        self.groups.clone_from(&s.approval);
        Ok(match s.verdict {
            Verdict::Permit => Phase::Permitted,
            Verdict::Deny => Phase::Refused,
            Verdict::NeedsApproval => Phase::ApprovalNeeded,
        })
    }

    fn next_version(&mut self, found: &'static str, version: Int) -> Result<Phase, Violation> {
        let expected = self.version.next();
        if version != expected {
            return Err(Violation::Subject {
                found,
                what: "version",
                named: version.to_string(),
                expected: expected.to_string(),
            });
        }
        self.version = version;
        Ok(Phase::Standing)
    }

    fn same_subject(
        &self,
        found: &'static str,
        what: &'static str,
        named: &str,
        then: Phase,
    ) -> Result<Phase, Violation> {
        match &self.subject {
            Some(subject) if subject == named => Ok(then),
            subject => Err(Violation::Subject {
                found,
                what,
                named: named.into(),
                expected: subject.clone().unwrap_or_default(),
            }),
        }
    }

    fn expect_attempt(&self, found: &'static str, attempt: Int, expected: Int) -> Result<(), Violation> {
        if attempt == expected {
            return Ok(());
        }
        Err(Violation::Attempt { found, attempt: attempt.get(), expected: expected.get() })
    }

    fn expect_digests(&self, request: Option<Hash>, obligations: Option<Hash>) -> Result<(), Violation> {
        if self.digest == request && self.obligations == obligations {
            return Ok(());
        }
        Err(Violation::Approval("asked about another request or other obligations than were decided".into()))
    }

    fn expect_account(&self, s: &super::step::ChunkMasked) -> Result<(), Violation> {
        if s.columns.len() != self.columns.len() {
            let (found, required) = (s.columns.len(), self.columns.len());
            return Err(Violation::Account(format!("found {found} columns, decided {required}")));
        }
        for (did, DecidedColumn { column, class, rule, paths }) in s.columns.iter().zip(&self.columns) {
            if did.column != *column || did.class != *class || did.rule != *rule {
                return Err(Violation::Account(format!(
                    "`{}` ({}) under `{}`, decided `{column}` ({class}) under `{rule}`",
                    did.column, did.class, did.rule
                )));
            }
            if did.seen != s.rows {
                return Err(Violation::Account(format!("`{column}`: {} cells in {} rows", did.seen, s.rows)));
            }
            if rule == "clear" && (did.transform != "clear" || did.changed != Int::ZERO) {
                return Err(Violation::Account(format!("`{column}` is clear, yet `{}` ran", did.transform)));
            }
            if !may_count(&did.transform, &did.hits) {
                return Err(Violation::Account(format!(
                    "`{column}`: hits that `{}` cannot have counted",
                    did.transform
                )));
            }
            if rule != "clear" && did.transform == "clear" {
                return Err(Violation::Account(format!("`{column}` is masked by `{rule}`, yet nothing ran")));
            }
            // Where a rule does not fit a column's type, `null` takes its place.
            if did.transform != *rule && did.transform != "null" {
                return Err(Violation::Account(format!(
                    "`{column}` is masked by `{rule}`, yet `{}` ran",
                    did.transform
                )));
            }
            if did.changed > did.seen {
                let (changed, seen) = (did.changed, did.seen);
                return Err(Violation::Account(format!("`{column}`: {changed} cells changed of {seen} seen")));
            }
            if hides_all(&did.transform) && did.changed != did.seen {
                let (changed, seen) = (did.changed, did.seen);
                let why =
                    format!("`{column}`: `{}` replaces every cell, yet {changed} of {seen} changed", did.transform);
                return Err(Violation::Account(why));
            }
            let did_paths = did.paths.iter().map(|did| (&did.path, &did.class, &did.rule));
            if !did_paths.eq(paths.iter().map(|path| (&path.path, &path.class, &path.rule))) {
                return Err(Violation::Account(format!("`{column}`: other paths, classes or rules than were decided")));
            }
            if let Some(did) =
                did.paths.iter().find(|did| did.changed > if did.rule == "clear" { Int::ZERO } else { did.seen })
            {
                let (path, rule, changed, seen) = (&did.path, &did.rule, did.changed, did.seen);
                return Err(Violation::Account(format!(
                    "`{path}` under `{rule}`: {changed} of {seen} values replaced"
                )));
            }
            if let Some(did) = did.paths.iter().find(|did| !may_count(&did.rule, &did.hits)) {
                let (path, rule) = (&did.path, &did.rule);
                return Err(Violation::Account(format!("`{path}`: hits that `{rule}` cannot have counted")));
            }
        }
        Ok(())
    }
}

/// Whether a mask can have counted these hits: `detect` alone counts any, each class once and in order.
fn may_count(mask: &str, hits: &[ClassHits]) -> bool {
    (mask == "detect" || hits.is_empty())
        && hits.is_sorted_by(|a, b| a.class < b.class)
        && hits.iter().all(|hit| hit.count > Int::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::step::{ChunkMasked, DecidedPath, MaskedColumn, MaskedPath};

    #[test]
    fn hits_are_counted_by_the_mask_that_looks_for_them() {
        type Hits<'a> = &'a [(&'a str, u64)];
        let cases: &[(&str, Hits<'_>, bool)] = &[
            ("detect", &[], true),
            ("detect", &[("fin.card", 1), ("pii.email", 7)], true),
            ("detect", &[("pii.email", 7), ("fin.card", 1)], false),
            ("detect", &[("fin.card", 1), ("fin.card", 1)], false),
            ("detect", &[("fin.card", 0)], false),
            ("email", &[("pii.email", 7)], false),
            ("null", &[("pii.email", 7)], false),
        ];
        for (mask, hits, counts) in cases {
            let (column, class, rule) = ("note".into(), "text".into(), (*mask).into());
            let decided = DecidedColumn { column, class, rule, paths: vec![] };
            let did = MaskedColumn {
                column: decided.column.clone(),
                class: decided.class.clone(),
                rule: decided.rule.clone(),
                transform: (*mask).into(),
                seen: Int::ONE,
                changed: Int::ONE,
                hits: hits
                    .iter()
                    .map(|(class, count)| ClassHits { class: (*class).into(), count: Int::saturating(*count) })
                    .collect(),
                paths: vec![],
            };
            let state = TraceState { columns: vec![decided], ..TraceState::default() };
            let mut account = ChunkMasked { attempt: Int::ONE, rows: Int::ONE, columns: vec![did], rows_root: None };
            assert_eq!(state.expect_account(&account).is_ok(), *counts, "{mask} {hits:?}");

            // Likewise inside of a column.
            let (class, rule) = (Text::from("text"), Text::from(*mask));
            let decided = DecidedPath { path: "note.text".into(), class: class.clone(), rule: rule.clone() };
            let state = TraceState {
                columns: vec![DecidedColumn {
                    paths: vec![decided.clone()],
                    rule: "redact".into(),
                    ..state.columns[0].clone()
                }],
                ..TraceState::default()
            };
            let did = &mut account.columns[0];
            (did.rule, did.transform) = ("redact".into(), "redact".into());
            let hits = std::mem::take(&mut did.hits);
            did.paths = vec![MaskedPath { path: decided.path, class, rule, seen: Int::ONE, changed: Int::ONE, hits }];
            assert_eq!(state.expect_account(&account).is_ok(), *counts, "{mask} inside");
        }
    }
}
