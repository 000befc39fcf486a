//! Entries: decoded one after the other, each held against everything before it. What one trace must obey is the ledger's own
//! rule code ([`TraceState`]); what traces owe each other (who may sign, which approval counts, which policy was in force) is
//! here. Memory: the open traces, the registry, and 16 bytes for each trace that has ended.
//!
//! Once an entry cannot be read, whether newer, damaged or missing, later contradictions may be its doing: they are still
//! told, but as *not provable*, so that one fault is one fault and a newer ledger is not called broken by an older tool.

use crate::change::{self, Agreement, Facts};
use crate::closed::{Closed, half};
use crate::finding::{Code, Finding, Findings, Place, Verdict};
use crate::observe::{Judged, Observer};
use crate::payload::{Held, Payloads};
use crate::registry::{Identity, Registry};
use crate::token::{self, AdminClaims, ApprovalClaims, PossessionClaims, ReidentifyClaims, RequestClaims};
use countersign_ledger::evidence::digest::sha256;
use countersign_ledger::evidence::jws::{
    PublicKey, TYP_ADMIN, TYP_APPROVAL, TYP_POSSESSION, TYP_REIDENTIFY, TYP_REQUEST, Unverified,
};
use countersign_ledger::evidence::step::{
    ApprovalDenied, ApprovalGranted, ApprovalRevoked, ApprovalUsed, Attest, DeliveryIntended, IdentityRegistered,
    IdentityVerified, LogCreated, PolicyDecided, ReidentifyDecided, RequestReceived, Signed, SourceSampled, Text,
    Verdict as Decision,
};
use countersign_ledger::evidence::{
    Commitment, Entry, EntryError, Phase, Reason, Step, TraceId, TraceState, Violation,
};
use countersign_ledger::tlog::{Epochs, Hash};
use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// How long the service may take from judging something to its durable entry, in seconds: what was good at the first moment
/// and not at the second is accepted.
pub const GRACE_SECONDS: u64 = 60;

/// How far an approver's clock may be ahead, in seconds.
pub const SKEW_SECONDS: u64 = 30;

/// The longest that changes and proofs of possession may be valid, and approvals, in seconds.
const SIGNED_SECONDS_MAX: u64 = 7 * 86_400;
const APPROVAL_SECONDS_MAX: u64 = 366 * 86_400;

/// How long a decision may wait for its entry, and how long a request that was good when it was judged, in seconds. Neither
/// has a deadline in the service, which may have to wait for its disk: that takes far less, and whoever keeps a signed
/// request back, or decides for another day, needs far more.
const DECISION_SECONDS_MAX: u64 = 3600;
const REQUEST_GRACE_SECONDS: u64 = 600;

/// The longest that a request for the values behind tokens may be valid, in seconds.
const REIDENTIFY_SECONDS_MAX: u64 = 300;

/// The longest that a request may be valid, in seconds.
pub const LIFETIME_SECONDS_MAX: u64 = 3600;

/// The kinds of claims that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// An entry stands where it stands, in its trace and its source.
    Entries,
    /// The caller signed the request.
    CallerSignatures,
    /// The approver signed the answer.
    ApprovalSignatures,
    /// An admin signed the change.
    AdminSignatures,
    /// A key's owner proved to hold it.
    PossessionProofs,
    /// The obligations are those whose digest the decision states.
    Obligations,
    /// The decision follows from its policy: `countersign audit redecide` runs it again.
    Decisions,
    /// The statement recorded is the one that was sent.
    Statements,
    /// The mask account is what the masker did.
    MaskAccounts,
    /// The bytes recorded are those that left, or did not.
    Deliveries,
    /// The reason given for a refusal or failure is the true one.
    Refusals,
    /// What an export held, and who asked for it.
    Exports,
}

impl Claim {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Entries,
        Self::CallerSignatures,
        Self::ApprovalSignatures,
        Self::AdminSignatures,
        Self::PossessionProofs,
        Self::Obligations,
        Self::Decisions,
        Self::Statements,
        Self::MaskAccounts,
        Self::Deliveries,
        Self::Refusals,
        Self::Exports,
    ];

    /// The word in reports and for `--require`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::CallerSignatures => "caller-signatures",
            Self::ApprovalSignatures => "approval-signatures",
            Self::AdminSignatures => "admin-signatures",
            Self::PossessionProofs => "possession-proofs",
            Self::Obligations => "obligations",
            Self::Decisions => "decisions",
            Self::Statements => "statements",
            Self::MaskAccounts => "mask-accounts",
            Self::Deliveries => "deliveries",
            Self::Refusals => "refusals",
            Self::Exports => "exports",
        }
    }
}

/// How many claims of one kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Follows from signatures and hashes that the auditor's keys anchor.
    pub proven: u64,
    /// The service says so.
    pub attested: u64,
    /// The entry of the first attested one.
    #[serde(skip)]
    pub first_attested: Option<u64>,
}

/// The counts of all kinds.
#[derive(Clone, Debug, Default)]
pub struct Claims([Count; Claim::ALL.len()]);

impl Claims {
    /// The count of one kind.
    pub fn of(&self, claim: Claim) -> Count {
        self.0.get(claim as usize).copied().unwrap_or_default()
    }

    /// Counts one.
    fn add(&mut self, claim: Claim, index: u64, proven: bool) {
        // INVARIANT: `ALL` holds every kind, in the order of declaration.
        let Some(count) = self.0.get_mut(claim as usize) else { return };
        if proven {
            count.proven += 1;
        } else {
            count.attested += 1;
            count.first_attested.get_or_insert(index);
        }
    }

    /// Without a signed root nothing is anchored: what was proven is only stated.
    pub fn unanchor(&mut self) {
        for count in &mut self.0 {
            if count.proven > 0 {
                count.first_attested.get_or_insert(0);
            }
            count.attested += std::mem::take(&mut count.proven);
        }
    }
}

/// How the traces ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Requests whose chunk was delivered.
    pub delivered: u64,
    /// Requests that policy, or a person, refused.
    pub denied: u64,
    /// Records that nobody could be held to.
    pub rejected: u64,
    /// Requests that were permitted and came to nothing.
    pub failed: u64,
    /// Requests that wait for approval.
    pub waiting: u64,
    /// Requests that are under way otherwise.
    pub open: u64,
    /// Attempts that were superseded; readers of uncommitted records may have seen their bytes.
    pub aborted_attempts: u64,
    /// Exceptions: how often values were given back for tokens.
    pub reidentified: u64,
    /// How often that was refused.
    pub reidentify_denied: u64,
    /// How often admins looked into tables for the catalog.
    pub sampled: u64,
}

/// What the entries come to.
#[derive(Debug)]
pub struct Told {
    /// What is wrong.
    pub findings: Findings,
    /// What is proven and what is attested.
    pub claims: Claims,
    /// How traces ended.
    pub outcomes: Outcomes,
    /// `at` of the first and last entry that could be read.
    pub span: Option<(u64, u64)>,
}

/// What the judge is told before it begins.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The origin that the checkpoint states.
    pub origin: String,
    /// The log's keys, and which sizes each signs.
    pub keys: Epochs,
    /// The thumbprints that the auditor pinned, if he did.
    pub pinned: Option<BTreeSet<String>>,
    /// Only some of the ledger's entries are told.
    pub part: bool,
}

/// A trace that has not ended.
#[derive(Debug)]
struct Story {
    state: TraceState,
    next: u64,
    head: Hash,
    /// A rule was broken: the state is no longer known, and one finding is enough.
    lost: bool,
    facts: Option<Box<RequestFacts>>,
}

/// What is remembered of a request.
#[derive(Debug, Default)]
struct RequestFacts {
    door: Text,
    token: Option<Vec<u8>>,
    claims: Option<RequestClaims>,
    /// The groups that were asked last.
    asked: Vec<String>,
    /// Until when an approval may come, Unix seconds.
    answer_until: u64,
    /// Partition and offset from which the status of the current attempt can stand.
    status: Option<(u64, u64)>,
    /// The approvals that were given.
    grants: Vec<TraceId>,
    /// `at` of the request's first entry, microseconds.
    received: u64,
    /// The most rows that policy lets leave, where the decision in full is there.
    rows_max: Option<u64>,
    /// The entry of a no by somebody who was asked.
    refused: Option<u64>,
}

/// A person's yes.
#[derive(Debug)]
struct Grant {
    index: u64,
    leaf: Hash,
    request: TraceId,
    digest: Hash,
    obligations: Hash,
    approver: String,
    groups: Vec<String>,
    not_before: u64,
    not_after: u64,
    revoked: Option<u64>,
}

/// What an entry comes to.
#[derive(Debug, Default)]
struct Now {
    findings: Vec<Finding>,
    claims: Vec<(Claim, bool)>,
}

/// The entry at hand.
struct Here<'a> {
    index: u64,
    leaf: Hash,
    entry: &'a Entry,
    held: Vec<Held>,
}

impl Here<'_> {
    fn at(&self) -> u64 {
        self.entry.at.get()
    }

    fn payload(&self, commitment: Commitment) -> Option<&[u8]> {
        self.held.iter().find(|held| held.commitment == commitment).map(|held| held.bytes.as_slice())
    }
}

/// Whether `at` (microseconds) lies at or after the second `until` and `slack` more. Without slack it is the sequencer's own
/// rule for what it was given as a deadline.
fn is_past(at: u64, until: u64, slack: u64) -> bool {
    at >= until.saturating_add(slack).saturating_mul(1_000_000)
}

/// Whether `at` (microseconds) lies before the second `from`, less `slack`.
fn is_early(at: u64, from: u64, slack: u64) -> bool {
    at < from.saturating_sub(slack).saturating_mul(1_000_000)
}

/// Judges entries in the order of the log.
#[derive(Debug)]
pub struct Judge<'a> {
    terms: Terms,
    payloads: Payloads<'a>,
    findings: Findings,
    claims: Claims,
    /// What the entry at hand has come to so far.
    now: Now,
    outcomes: Outcomes,
    /// An entry could not be read: what follows is told as not provable.
    blind: bool,
    /// Only the log's creation and unsigned admins so far.
    genesis: bool,
    span: Option<(u64, u64)>,
    sources: HashMap<String, u64>,
    open: HashMap<TraceId, Box<Story>>,
    closed: Closed,
    registry: Registry,
    grants: HashMap<TraceId, Grant>,
    /// Approvals whose request has ended, by half of their name: nothing can rely on them any more, but they may still be taken
    /// back. The head of each.
    spent: HashMap<u128, Hash>,
}

impl<'a> Judge<'a> {
    /// At the beginning of a log.
    pub fn new(terms: Terms, payloads: Payloads<'a>) -> Self {
        Self {
            terms,
            payloads,
            findings: Findings::default(),
            claims: Claims::default(),
            now: Now::default(),
            outcomes: Outcomes::default(),
            blind: false,
            genesis: true,
            span: None,
            sources: HashMap::default(),
            open: HashMap::default(),
            closed: Closed::default(),
            registry: Registry::default(),
            grants: HashMap::default(),
            spent: HashMap::default(),
        }
    }

    /// Entries are missing here.
    pub fn skip(&mut self) {
        self.blind = true;
    }

    /// Takes the next entry (its index, its bytes, its leaf hash, what [`Entry::decode`] made of the bytes) and tells the observer
    /// what it comes to.
    pub fn entry(
        &mut self,
        index: u64,
        bytes: &[u8],
        leaf: Hash,
        decoded: &Result<Entry, EntryError>,
        observer: &mut dyn Observer,
    ) {
        let (mut before, mut story, mut held) = (Phase::Empty, None, Vec::new());
        match decoded {
            Ok(entry) => {
                let mut here = Here { index, leaf, entry, held: Vec::new() };
                self.fetch_payloads(&mut here);
                self.order(&here);
                if let Some(mut found) = self.story(&here) {
                    before = found.state.phase;
                    self.trace(&here, &mut found);
                    story = Some(found);
                }
                held = here.held;
            }
            Err(error) => self.unreadable(index, bytes, error),
        }
        if self.now.findings.is_empty() {
            self.now.claims.push((Claim::Entries, true));
        }
        let known = story.as_ref().filter(|story| !story.lost);
        observer.entry(&Judged {
            index,
            leaf,
            bytes,
            entry: decoded.as_ref().ok(),
            before,
            state: known.map(|story| &story.state),
            request: known.and_then(|story| story.facts.as_ref()?.claims.as_ref()),
            claims: &self.now.claims,
            findings: &self.now.findings,
            payloads: &held,
            registry: &self.registry,
        });
        for (claim, proven) in self.now.claims.drain(..) {
            self.claims.add(claim, index, proven);
        }
        for finding in self.now.findings.drain(..) {
            self.findings.add(finding);
        }
        if let Some((entry, story)) = decoded.as_ref().ok().zip(story) {
            self.put_back(entry, story);
        }
    }

    fn unreadable(&mut self, index: u64, bytes: &[u8], error: &EntryError) {
        let (code, found, expected) = match error {
            EntryError::Newer(what) => (Code::EntryNewer, what.clone(), "entry version 1 of a known type"),
            error => (Code::EntryForm, error.to_string(), "the canonical bytes of an entry"),
        };
        self.now.findings.push(Finding::new(code, place_of(index, bytes), found, expected));
        self.blind = true;
    }

    /// Ends the log.
    pub fn finish(mut self) -> Told {
        for story in self.open.values() {
            match story.state.phase {
                Phase::ApprovalNeeded | Phase::Waiting | Phase::Approved => self.outcomes.waiting += 1,
                phase if phase.is_open() => self.outcomes.open += 1,
                _ => {}
            }
        }
        self.payloads.finish(&mut self.findings);
        Told { findings: self.findings, claims: self.claims, outcomes: self.outcomes, span: self.span }
    }

    fn broken(&mut self, here: &Here<'_>, code: Code, found: impl AsRef<str>, expected: impl AsRef<str>) {
        let place = Place {
            trace: Some(here.entry.trace),
            kind: Some(here.entry.body.kind().into()),
            ..Place::entry(here.index)
        };
        let mut finding = Finding::new(code, place, found, expected);
        if self.blind || (self.terms.part && code.may_be_left_out()) {
            finding.verdict = finding.verdict.min(Verdict::NotProvable);
        }
        self.now.findings.push(finding);
    }

    fn claim(&mut self, claim: Claim, proven: bool) {
        self.now.claims.push((claim, proven));
    }

    fn fetch_payloads(&mut self, here: &mut Here<'_>) {
        if self.payloads.is_empty() {
            return;
        }
        for (class, commitment) in here.entry.body.commitments() {
            match self.payloads.get(class, commitment) {
                Ok(held) => here.held.extend(held),
                Err(mut finding) => {
                    finding.place.entry = Some(here.index);
                    finding.place.kind = Some(here.entry.body.kind().into());
                    finding.place.trace = Some(here.entry.trace);
                    self.now.findings.push(*finding);
                }
            }
        }
    }

    /// The order that all entries share: time, and the count of each appending process.
    fn order(&mut self, here: &Here<'_>) {
        let entry = here.entry;
        if here.index == 0 && !matches!(entry.body, Step::LogCreated(_)) {
            self.broken(here, Code::LogCreated, entry.body.kind(), "log.created");
        }
        let (first, last) = self.span.unwrap_or((here.at(), here.at()));
        if here.at() < last {
            let (found, expected) = (crate::time::utc(here.at()), crate::time::utc(last));
            self.broken(here, Code::TimeBackwards, found, format!("{expected} or later"));
        }
        self.span = Some((first, last.max(here.at())));
        let next = self.sources.get_mut(entry.src.as_str());
        let expected = next.as_ref().map_or(0, |next| **next);
        match next {
            Some(next) => *next = entry.seq.next().get(),
            None => {
                self.sources.insert(entry.src.to_string(), entry.seq.next().get());
            }
        }
        // In a part of a ledger others may stand between.
        let follows = if self.terms.part { entry.seq.get() >= expected } else { entry.seq.get() == expected };
        if !follows {
            let found = format!("seq {} of `{}`", entry.seq, entry.src);
            self.broken(here, Code::SeqGap, found, format!("seq {expected}"));
        }
    }

    /// The trace that the entry belongs to, as it stood; none where it has ended.
    fn story(&mut self, here: &Here<'_>) -> Option<Box<Story>> {
        let trace = here.entry.trace;
        if let Some(story) = self.open.remove(&trace) {
            return Some(story);
        }
        if let Some(head) = self.spent.remove(&half(trace)) {
            let state = TraceState { phase: Phase::Granted, ..TraceState::default() };
            return Some(Box::new(Story { state, next: 1, head, lost: false, facts: None }));
        }
        if self.closed.contains(trace) {
            self.broken(here, Code::TraceClosed, here.entry.body.kind(), "nothing more in this trace");
            return None;
        }
        let (state, head) = (TraceState::default(), Hash::from_bytes([0; 32]));
        Some(Box::new(Story { state, next: 0, head, lost: false, facts: None }))
    }

    /// The order within the trace, and then what the step itself says.
    fn trace(&mut self, here: &Here<'_>, story: &mut Story) {
        let entry = here.entry;
        if entry.step.get() != story.next {
            let expected = match story.next {
                0 => "step 0: the trace is not open".to_owned(),
                next => format!("step {next}"),
            };
            self.broken(here, Code::ChainStep, format!("step {}", entry.step), expected);
            // A trace whose beginning is not there cannot be judged.
            story.lost |= story.next == 0 || self.terms.part;
        } else if let Some(prev) = entry.prev.filter(|prev| *prev != story.head) {
            self.broken(here, Code::ChainPrev, prev.to_string(), story.head.to_string());
        }
        (story.next, story.head) = (entry.step.next().get(), here.leaf);
        let before = story.state.phase;
        if !story.lost
            && let Err(violation) = story.state.apply(entry.trace, &entry.body)
        {
            let (code, expected) = code_of(&violation);
            self.broken(here, code, violation.to_string(), expected);
            story.lost = true;
        }
        self.step(here, story, before);
    }

    /// Keeps what the next entry of the trace is held against.
    fn put_back(&mut self, entry: &Entry, story: Box<Story>) {
        if story.state.phase == Phase::Closed {
            // An approval is for one request: what can still happen to it is that it is taken back.
            for approval in story.facts.iter().flat_map(|facts| &facts.grants) {
                self.grants.remove(approval);
                let granted = self.open.get(approval);
                let granted = granted.filter(|story| story.state.phase == Phase::Granted && !story.lost);
                if let Some(head) = granted.map(|story| story.head) {
                    self.open.remove(approval);
                    self.spent.insert(half(*approval), head);
                }
            }
        }
        if story.state.phase == Phase::Closed || story.state.phase == Phase::Revoked {
            self.closed.insert(entry.trace);
        } else {
            self.open.insert(entry.trace, story);
        }
    }

    /// What the step says, held against everything before it. `before` is where its trace stood.
    fn step(&mut self, here: &Here<'_>, story: &mut Story, before: Phase) {
        if !matches!(here.entry.body, Step::LogCreated(_) | Step::IdentityRegistered(_)) {
            self.genesis = false;
        }
        match &here.entry.body {
            Step::LogCreated(s) => self.log_created(here, s),
            Step::LogKeyRotated(s) => {
                // Signatures are the rules' affair; where it stands, and which keys count, is known here.
                let known = self
                    .terms
                    .keys
                    .iter()
                    .any(|epoch| epoch.key.to_string() == s.key && epoch.from.get() == s.size.get());
                if !known || s.size.get() != here.index + 1 {
                    let found = format!("{} from size {} on, at index {}", s.key, s.size, here.index);
                    self.broken(
                        here,
                        Code::KeyRotation,
                        found,
                        "one of the log's keys, from the size that the entry completes",
                    );
                }
            }
            Step::IdentityRegistered(s) => self.identity_registered(here, s),
            Step::IdentityRevoked(s) => {
                self.signed(here, &s.signed, None);
                if let Some(identity) = self.registry.identities.get_mut(&s.identity) {
                    identity.revoked.get_or_insert(here.index);
                }
            }
            Step::GroupsChanged(s) => {
                self.signed(here, &s.signed, None);
                if let Some(identity) = self.registry.identities.get_mut(&s.identity) {
                    identity.groups.clone_from(&s.groups);
                }
            }
            Step::PolicyChanged(s) => {
                self.document(here, s.document, s.digest);
                self.signed(here, &s.signed, Some(s.document));
                self.registry.policy.change(s.digest, here.at());
            }
            Step::CatalogChanged(s) => {
                self.document(here, s.document, s.digest);
                self.signed(here, &s.signed, Some(s.document));
                self.registry.catalog.change(s.digest, here.at());
            }
            Step::ConnectionChanged(s) => {
                self.signed(here, &s.signed, Some(s.document));
                self.registry.connections.insert(s.connection.clone());
            }
            // What it names is for people to read; who asked for it is the service's word.
            Step::LedgerExported(_) => self.claim(Claim::Exports, false),
            Step::RequestRejected(_) => {
                self.outcomes.rejected += 1;
                self.claim(Claim::Refusals, false);
            }
            Step::RequestReceived(s) => self.request_received(here, story, s),
            Step::IdentityVerified(s) => self.identity_verified(here, story, s),
            Step::PolicyDecided(s) => {
                self.not_refused(here, story);
                self.policy_decided(here, story, s, before);
            }
            Step::RequestDenied(_) => {
                self.outcomes.denied += 1;
                self.claim(Claim::Refusals, false);
            }
            Step::RequestFailed(_) => {
                self.outcomes.failed += 1;
                self.claim(Claim::Refusals, false);
            }
            Step::ApprovalRequested(s) => {
                if let Some(facts) = &mut story.facts {
                    facts.asked.clone_from(&s.groups);
                    facts.answer_until = s.not_after.get();
                }
            }
            Step::ApprovalGranted(s) => self.approval_granted(here, s),
            Step::ApprovalDenied(s) => self.approval_denied(here, s),
            Step::ApprovalRevoked(s) => self.approval_revoked(here, s),
            Step::ApprovalUsed(s) => {
                self.not_refused(here, story);
                self.approval_used(here, story, s);
            }
            Step::SourceQueried(s) => {
                self.not_refused(here, story);
                if !self.registry.connections.contains(s.connection.as_str()) {
                    let found = format!("connection `{}`", s.connection);
                    self.broken(here, Code::ConnectionUnknown, found, "a registered connection");
                }
                self.claim(Claim::Statements, false);
            }
            Step::ChunkMasked(s) => {
                let facts = story.facts.as_ref();
                let asked = facts.and_then(|facts| facts.claims.as_ref()?.limit);
                let most = [asked, facts.and_then(|facts| facts.rows_max)].into_iter().flatten().min();
                if let Some(most) = most.filter(|most| s.rows.get() > *most) {
                    self.broken(here, Code::RowsLimit, format!("{} rows", s.rows), format!("at most {most}"));
                }
                self.claim(Claim::MaskAccounts, false);
            }
            Step::DeliveryIntended(s) => self.delivery_intended(here, story, s),
            Step::DeliveryCommitted(s) => {
                let intended = story.facts.as_ref().and_then(|facts| facts.status);
                if let Some((partition, offset)) = intended
                    && (s.status_partition.get() != partition || s.status_offset.get() < offset)
                {
                    let found = format!("partition {}, offset {}", s.status_partition, s.status_offset);
                    let expected = format!("partition {partition}, offset {offset} or later");
                    self.broken(here, Code::StatusPlace, found, expected);
                }
                self.claim(Claim::Deliveries, false);
            }
            Step::DeliveryAborted(_) => {
                self.outcomes.aborted_attempts += 1;
                self.claim(Claim::Deliveries, false);
            }
            Step::RequestCompleted(_) => self.outcomes.delivered += 1,
            // Always the service's word: what was destroyed, kept or shown leaves no trace but these.
            Step::PayloadPurged(_) | Step::PayloadHeld(_) | Step::PayloadReleased(_) | Step::PayloadRead(_) => (),
            Step::ReidentifyDecided(s) => self.reidentify_decided(here, s),
            Step::SourceSampled(s) => self.source_sampled(here, s),
        }
    }

    // --- Administration ---

    fn log_created(&mut self, here: &Here<'_>, s: &LogCreated) {
        self.registry.quorum = s.quorum.get();
        if here.index != 0 {
            self.broken(here, Code::LogCreated, format!("index {}", here.index), "index 0");
        }
        if s.origin != self.terms.origin {
            let expected = format!("origin `{}`", self.terms.origin);
            self.broken(here, Code::LogCreated, format!("origin `{}`", s.origin), expected);
        }
        let first = self.terms.keys.iter().next().map(|epoch| epoch.key.to_string()).unwrap_or_default();
        if s.key != first {
            let expected = format!("key {first}");
            self.broken(here, Code::LogCreated, format!("key {}", s.key), expected);
        }
    }

    /// How many admins must sign a change: no ledger can do with none.
    fn quorum(&self) -> u64 {
        self.registry.quorum.max(1)
    }

    fn identity_registered(&mut self, here: &Here<'_>, s: &IdentityRegistered) {
        match &s.signed {
            Some(signed) => {
                self.genesis = false;
                self.signed(here, signed, Some(s.record));
            }
            // The first admins enter with the log itself, as many as it then needs to go on.
            None if self.genesis && s.admin && (1..=self.quorum()).contains(&here.index) => {}
            None => self.broken(here, Code::AdminUnsigned, "no signature", "signatures by the ledger's admins"),
        }
        for (what, other) in [("owner", &s.owner), ("on_behalf_of", &s.on_behalf_of)] {
            if let Some(other) = other
                && !self.registry.identities.contains_key(other)
            {
                let found = format!("{what} `{other}`");
                self.broken(here, Code::IdentityUnknown, found, "a registered identity");
            }
        }
        let record = here.payload(s.record).and_then(change::record_name);
        if let Some(bearer) = record.as_ref().and_then(|(name, _)| self.registry.bearer(name)) {
            let found = format!("the name of `{bearer}`");
            self.broken(here, Code::IdentityName, found, "a name that nobody in force bears");
        }
        if let Err(found) = self.registry.register(here.index, s, record) {
            self.broken(here, Code::IdentityKey, found, format!("a key of its own with thumbprint {}", s.kid));
        }
        let identity = self.registry.identities.get(&s.identity);
        let key = identity.and_then(|identity| identity.key.clone());
        let name = identity.and_then(|identity| identity.name.clone());
        let Some((token, key)) = here.payload(s.possession).zip(key) else {
            return self.claim(Claim::PossessionProofs, false);
        };
        let expected = format!("a proof of possession by key {}", s.kid);
        match token::open::<PossessionClaims>(token, TYP_POSSESSION, &s.kid, &key) {
            Err(found) => self.broken(here, Code::Possession, found, expected),
            Ok(opened) => {
                let c = &opened.claims;
                if c.kid != s.kid {
                    return self.broken(here, Code::Possession, format!("a proof for key {}", c.kid), expected);
                }
                let names = token::names((&c.iss, &c.sub, &c.aud), &self.terms.origin, "admin", name.as_deref());
                match names.and_then(|()| counts_at((c.iat, c.exp), here.at(), GRACE_SECONDS, SIGNED_SECONDS_MAX)) {
                    Err((found, expected)) => self.broken(here, Code::Possession, found, expected),
                    Ok(()) => self.signature(Claim::PossessionProofs, &s.kid),
                }
            }
        }
    }

    /// Counts a signature that verifies: proven, unless the auditor pinned keys and this is not one of them.
    fn signature(&mut self, claim: Claim, kid: &str) {
        let vouched = self.terms.pinned.as_ref().is_none_or(|pinned| pinned.contains(kid));
        self.claim(claim, vouched);
    }

    /// A change: enough admins, in force at this point, who signed this very change.
    fn signed(&mut self, here: &Here<'_>, signed: &Signed, document: Option<Commitment>) {
        let change = here.payload(signed.change);
        let agreement = change.map(|change| {
            let document = document.and_then(|commitment| here.payload(commitment));
            let facts = Facts { origin: &self.terms.origin, entry: here.entry, document };
            change::compare(change, facts, |pseudonym| self.registry.name(pseudonym).map(str::to_owned))
        });
        if let Some(Agreement::Other(found, expected)) = &agreement {
            self.broken(here, Code::AdminChange, found, expected);
        }
        let mut admins = BTreeSet::new();
        for by in &signed.by {
            let found = format!("`{}` with key {}", by.admin, by.kid);
            let Some(admin) = self.registry.identities.get(&by.admin).filter(|admin| admin.kid == by.kid) else {
                self.broken(here, Code::AdminSigner, found, "a registered identity and its key");
                continue;
            };
            let fault = match admin {
                Identity { admin: false, .. } => Some("an admin".to_owned()),
                Identity { revoked: Some(at), .. } => Some(format!("an admin not revoked (it was at entry {at})")),
                Identity { not_after, .. } if is_past(here.at(), *not_after, GRACE_SECONDS) => {
                    Some(format!("an admin whose registration goes on (it ended at {not_after})"))
                }
                _ => None,
            };
            let (key, name) = (admin.key.clone(), admin.name.clone());
            if let Some(expected) = fault {
                self.broken(here, Code::AdminSigner, found, expected);
                continue;
            }
            admins.insert(by.admin.as_str());
            let (Some(token), Some(key), Some(change)) = (here.payload(by.signature), key, change) else {
                self.claim(Claim::AdminSignatures, false);
                continue;
            };
            let opened = token::open::<AdminClaims>(token, TYP_ADMIN, &by.kid, &key)
                .map_err(|found| (found, format!("a signature by `{}`", by.admin)))
                .and_then(|opened| {
                    let c = &opened.claims;
                    token::names((&c.iss, &c.sub, &c.aud), &self.terms.origin, "admin", name.as_deref())?;
                    counts_at((c.iat, c.exp), here.at(), GRACE_SECONDS, SIGNED_SECONDS_MAX)?;
                    let digest = sha256(change);
                    let differs = || (format!("a signature on {}", c.change), format!("on {digest}"));
                    if c.change == digest { Ok(()) } else { Err(differs()) }
                });
            match opened {
                Err((found, expected)) => self.broken(here, Code::AdminSignature, found, expected),
                // What was signed is not understood: that it is this change is the service's word.
                Ok(()) if agreement == Some(Agreement::Unknown) => {
                    self.claim(Claim::AdminSignatures, false);
                }
                Ok(()) => self.signature(Claim::AdminSignatures, &by.kid),
            }
        }
        if (admins.len() as u64) < self.quorum() {
            let (found, expected) = (admins.len(), self.quorum());
            self.broken(here, Code::AdminQuorum, format!("{found} admins"), format!("{expected}"));
        }
    }

    /// A text whose digest the entry states.
    fn document(&mut self, here: &Here<'_>, document: Commitment, digest: Hash) {
        if let Some(found) = here.payload(document).map(sha256).filter(|found| *found != digest) {
            self.broken(here, Code::DocumentDigest, found.to_string(), digest.to_string());
        }
    }

    // --- Requests ---

    /// An identity that an entry relies on: registered there with that key, not revoked, not ended. Gives its key and name.
    fn relied_on(
        &mut self,
        here: &Here<'_>,
        (pseudonym, kid, registered): (&str, &str, u64),
        grace: u64,
    ) -> Option<(PublicKey, Option<String>)> {
        let found = || format!("`{pseudonym}` with key {kid}, registered at entry {registered}");
        let identity = self.registry.identities.get(pseudonym);
        let Some(identity) = identity.filter(|i| i.kid == kid && i.registered == registered) else {
            let expected = match self.registry.identities.get(pseudonym) {
                Some(i) => format!("key {}, registered at entry {}", i.kid, i.registered),
                None => "a registered identity".to_owned(),
            };
            self.broken(here, Code::IdentityUnknown, found(), expected);
            return None;
        };
        let (key, name) = (identity.key.clone(), identity.name.clone());
        let (revoked, not_after) = (identity.revoked, identity.not_after);
        if let Some(at) = revoked {
            let expected = format!("an identity not revoked (it was at entry {at})");
            self.broken(here, Code::IdentityRevoked, found(), expected);
        }
        if is_past(here.at(), not_after, grace) {
            let expected = format!("before {}", crate::time::utc(not_after.saturating_mul(1_000_000)));
            self.broken(here, Code::IdentityExpired, crate::time::utc(here.at()), expected);
        }
        key.map(|key| (key, name))
    }

    fn request_received(&mut self, here: &Here<'_>, story: &mut Story, s: &RequestReceived) {
        let mut token = here.payload(s.request);
        let found = token.map(|token| (token.len() as u64, Unverified::parse(token).ok().map(|token| token.digest())));
        if let Some((bytes, digest)) = found
            && (bytes != s.bytes.get() || digest.is_some_and(|digest| digest != s.digest))
        {
            let found = format!("{bytes} bytes with digest {}", digest.unwrap_or(s.digest));
            self.broken(here, Code::RequestClaims, found, format!("{} bytes with digest {}", s.bytes, s.digest));
            token = None;
        }
        let (door, token) = (s.door.clone(), token.map(<[u8]>::to_vec));
        story.facts = Some(Box::new(RequestFacts { door, token, received: here.at(), ..RequestFacts::default() }));
    }

    fn identity_verified(&mut self, here: &Here<'_>, story: &mut Story, s: &IdentityVerified) {
        let relied_on = self.relied_on(here, (&s.identity, &s.kid, s.registered.get()), GRACE_SECONDS);
        if let Some((key, _)) = &relied_on
            && key.alg() != s.alg
        {
            self.broken(here, Code::IdentityUnknown, s.alg.as_str(), key.alg().as_str());
        }
        let Some(facts) = &mut story.facts else { return };
        if s.attest == Attest::ServiceAttested && facts.door == "kafka" {
            let expected = format!("`{}`: bearer tokens do not come by Kafka", Attest::CallerSigned);
            self.broken(here, Code::AttestDoor, format!("`{}`", s.attest), expected);
        }
        let Some((token, (key, name))) = facts.token.take().zip(relied_on) else {
            return self.claim(Claim::CallerSignatures, false);
        };
        if s.attest == Attest::ServiceAttested {
            return self.claim(Claim::CallerSignatures, false);
        }
        let opened = match token::open::<RequestClaims>(&token, TYP_REQUEST, &s.kid, &key) {
            Ok(opened) => opened,
            Err(found) => {
                let expected = format!("a request signed by `{}` with key {}", s.identity, s.kid);
                return self.broken(here, Code::RequestSignature, found, expected);
            }
        };
        let c = opened.claims;
        if let Err((found, expected)) =
            token::names((&c.iss, &c.sub, &c.aud), &self.terms.origin, &facts.door, name.as_deref())
        {
            return self.broken(here, Code::RequestClaims, found, expected);
        }
        let trace = TraceId::request(&c.iss, &c.jti);
        if trace != here.entry.trace {
            return self.broken(here, Code::TraceName, here.entry.trace.to_string(), trace.to_string());
        }
        facts.claims = Some(c);
        self.signature(Claim::CallerSignatures, &s.kid);
    }

    fn policy_decided(&mut self, here: &Here<'_>, story: &mut Story, s: &PolicyDecided, before: Phase) {
        if !self.rests_on(here, (s.policy, s.catalog), s.time.get(), s.verdict) {
            return;
        }
        match here.payload(s.document).map(|document| obligations(document, s)) {
            None => self.claim(Claim::Obligations, false),
            Some(Ok(rows)) => {
                self.claim(Claim::Obligations, true);
                if let Some(facts) = &mut story.facts {
                    facts.rows_max = Some(rows);
                }
            }
            Some(Err((found, expected))) => self.broken(here, Code::DocumentDigest, found, expected),
        }
        if s.verdict == Decision::Permit && before == Phase::Approved {
            self.covered(here, story, s);
        }
        let facts = story.facts.as_ref().filter(|_| s.verdict != Decision::Deny);
        let Some((claims, received)) = facts.and_then(|facts| Some((facts.claims.as_ref()?, facts.received))) else {
            return;
        };
        if let Err((found, expected)) = as_asked(claims, s) {
            self.broken(here, Code::RequestAnswer, found, expected);
        }
        // Judged once, when it came in: afterwards it may wait for people longer than it is valid.
        let from = claims.nbf.unwrap_or(0).max(claims.iat);
        if let Err((found, expected)) = counts_at((from, claims.exp), received, REQUEST_GRACE_SECONDS, u64::MAX) {
            self.broken(here, Code::RequestTime, found, expected);
        }
        self.acts_for(here, story.state.subject.as_deref(), claims.on_behalf_of.as_deref(), GRACE_SECONDS);
    }

    /// The one for whom the caller asks, where it says so: the one that it is registered for, and in force.
    fn acts_for(&mut self, here: &Here<'_>, caller: Option<&str>, name: Option<&str>, grace: u64) {
        let Some(name) = name else { return };
        let caller = self.registry.identities.get(caller.unwrap_or_default());
        let principal = caller.and_then(|caller| caller.on_behalf_of.clone());
        let known = principal.as_deref().and_then(|pseudonym| self.registry.name(pseudonym)).map(str::to_owned);
        if principal.is_none() || known.as_ref().is_some_and(|known| known != name) {
            let expected = known.map_or("nobody".to_owned(), |known| format!("`{known}`"));
            return self.broken(here, Code::RequestClaims, format!("on behalf of `{name}`"), expected);
        }
        self.in_force(here, &principal.unwrap_or_default(), grace);
    }

    /// An identity that counts for something now, whatever it was when it was first relied on.
    fn in_force(&mut self, here: &Here<'_>, pseudonym: &str, grace: u64) {
        if let Some(identity) = self.registry.identities.get(pseudonym) {
            let (kid, registered) = (identity.kid.clone(), identity.registered);
            self.relied_on(here, (pseudonym, &kid, registered), grace);
        }
    }

    /// Nobody who was asked has said no.
    fn not_refused(&mut self, here: &Here<'_>, story: &mut Story) {
        if let Some(index) = story.facts.as_mut().and_then(|facts| facts.refused.take()) {
            let expected = "the request's denial, or its failure";
            self.broken(here, Code::ApprovalDenied, format!("a no at entry {index}, and then this"), expected);
        }
    }

    /// Every group that was asked, and every group that policy names now, has given an approval that is relied on.
    fn covered(&mut self, here: &Here<'_>, story: &Story, s: &PolicyDecided) {
        let used = story.state.approvals.iter().filter_map(|(approval, _)| self.grants.get(approval));
        // Whoever has left a group since has no say in it any more.
        let member = |grant: &Grant, group: &String| {
            self.registry.identities.get(&grant.approver).is_some_and(|i| i.groups.contains(group))
        };
        let given: BTreeSet<&String> =
            used.flat_map(|grant| grant.groups.iter().filter(move |group| member(grant, group))).collect();
        let asked = story.facts.iter().flat_map(|facts| &facts.asked);
        let required: BTreeSet<&String> = asked.chain(&s.approval).collect();
        let list = |groups: &mut dyn Iterator<Item = &&String>| {
            groups.map(|group| group.as_str()).collect::<Vec<_>>().join(", ")
        };
        let missing = list(&mut required.difference(&given));
        if !missing.is_empty() {
            let expected = format!("approvals by {}", list(&mut required.iter()));
            self.broken(here, Code::ApprovalMissing, format!("no approval by {missing}"), expected);
        }
    }

    /// Whether the decision rests on a policy and a catalog that were in force; counts it where it does. Its time is looked at, too.
    fn rests_on(&mut self, here: &Here<'_>, texts: (Hash, Hash), time: u64, verdict: Decision) -> bool {
        let now = here.at() / 1_000_000;
        if time > now + GRACE_SECONDS || time + DECISION_SECONDS_MAX < now {
            let seconds = |seconds: u64| crate::time::utc(seconds.saturating_mul(1_000_000));
            let expected = format!("at most {DECISION_SECONDS_MAX} s before {}", seconds(now));
            self.broken(here, Code::DecisionTime, seconds(time), expected);
        }
        let (policy, catalog) = texts;
        // Decided first, durable later: a change in between came too late for it.
        let since = here.at().saturating_sub(GRACE_SECONDS * 1_000_000);
        let texts = [
            (Code::PolicyNotInForce, policy, &self.registry.policy),
            (Code::CatalogNotInForce, catalog, &self.registry.catalog),
        ];
        let stale = texts.into_iter().find(|(_, digest, in_force)| !in_force.was(*digest, since));
        if let Some((code, digest, in_force)) = stale {
            let expected = in_force.now().to_string();
            self.broken(here, code, digest.to_string(), expected);
            return false;
        }
        let none = Hash::from_bytes([0; 32]);
        if verdict != Decision::Deny && (policy == none || catalog == none) {
            let (found, expected) = ("a permit without policy or catalog", "a refusal");
            self.broken(here, Code::PolicyNotInForce, found, expected);
            return false;
        }
        self.claim(Claim::Decisions, false);
        true
    }

    /// An admin looked into a table.
    fn source_sampled(&mut self, here: &Here<'_>, s: &SourceSampled) {
        self.relied_on(here, (&s.identity, &s.kid, s.registered.get()), 0);
        if self.registry.identities.get(&s.identity).is_some_and(|identity| !identity.admin) {
            self.broken(here, Code::IdentityUnknown, format!("`{}`, no admin", s.identity), "an admin");
        }
        if !self.registry.connections.contains(&s.connection) {
            let found = format!("connection `{}`", s.connection);
            self.broken(here, Code::ConnectionUnknown, found, "a registered connection");
        }
        self.outcomes.sampled += 1;
        self.claim(Claim::Statements, false);
    }

    /// Values were given back for tokens, or that was refused: who, on which policy, and what the caller signed.
    fn reidentify_decided(&mut self, here: &Here<'_>, s: &ReidentifyDecided) {
        let relied_on = self.relied_on(here, (&s.identity, &s.kid, s.registered.get()), 0);
        self.rests_on(here, (s.policy, s.catalog), s.time.get(), s.verdict);
        match s.verdict {
            Decision::Permit => self.outcomes.reidentified += 1,
            _ => {
                self.outcomes.reidentify_denied += 1;
                self.claim(Claim::Refusals, false);
            }
        }
        if let Some(connection) = s.connection.as_ref().filter(|name| !self.registry.connections.contains(*name)) {
            let found = format!("connection `{connection}`");
            self.broken(here, Code::ConnectionUnknown, found, "a registered connection");
        }
        if let Some(tokens) = here.payload(s.tokens) {
            let count = serde_json::from_slice::<Vec<String>>(tokens).map(|tokens| tokens.len() as u64);
            if count.as_ref().ok() != Some(&s.count.get()) {
                let found = count.map_or("no list of texts".to_owned(), |count| format!("{count} tokens"));
                self.broken(here, Code::RequestAnswer, found, format!("{} tokens", s.count));
            }
        }
        let Some((token, (key, name))) = here.payload(s.request).zip(relied_on) else {
            return self.claim(Claim::CallerSignatures, false);
        };
        let opened = match token::open::<ReidentifyClaims>(token, TYP_REIDENTIFY, &s.kid, &key) {
            Ok(opened) => opened,
            Err(found) => {
                let expected = format!("a request signed by `{}` with key {}", s.identity, s.kid);
                return self.broken(here, Code::RequestSignature, found, expected);
            }
        };
        match as_reidentified(&opened.claims, opened.digest, here.entry.trace, s) {
            Err((found, expected)) => self.broken(here, Code::RequestClaims, found, expected),
            Ok(()) => {
                let c = &opened.claims;
                if let Err((found, expected)) =
                    token::names((&c.iss, &c.sub, &c.aud), &self.terms.origin, "http", name.as_deref())
                {
                    return self.broken(here, Code::RequestClaims, found, expected);
                }
                self.signature(Claim::CallerSignatures, &s.kid);
                if let Err((found, expected)) =
                    counts_at((c.iat, c.exp), here.at(), GRACE_SECONDS, REIDENTIFY_SECONDS_MAX)
                {
                    self.broken(here, Code::RequestTime, found, expected);
                }
                if s.verdict == Decision::Permit {
                    self.acts_for(here, Some(&s.identity), c.on_behalf_of.as_deref(), 0);
                }
            }
        }
    }

    fn delivery_intended(&mut self, here: &Here<'_>, story: &mut Story, s: &DeliveryIntended) {
        let caller = story.state.subject.clone().unwrap_or_default();
        self.in_force(here, &caller, 0);
        let claims = story.facts.as_ref().and_then(|facts| facts.claims.as_ref());
        self.acts_for(here, Some(&caller), claims.and_then(|claims| claims.on_behalf_of.as_deref()), 0);
        let topic = self.registry.identities.get(&caller).and_then(|identity| identity.topic.clone());
        if let Some((found, topic)) = here.payload(s.destination).zip(topic)
            && found != topic.as_bytes()
        {
            let found = format!("`{}`", String::from_utf8_lossy(found));
            self.broken(here, Code::DeliveryDestination, found, format!("`{topic}`"));
        }
        for (approval, _) in story.state.approvals.clone() {
            self.counts(here, approval);
        }
        let Some(facts) = &mut story.facts else { return };
        facts.status = Some((s.status_partition.get(), s.status_offset.get()));
        let asked = facts.claims.as_ref().map(|claims| claims.format.clone());
        if let Some(asked) = asked.filter(|asked| *asked != s.format) {
            self.broken(here, Code::RequestAnswer, format!("format `{}`", s.format), format!("format `{asked}`"));
        }
    }

    // --- Approvals ---

    /// What a yes and a no have in common: who, for what, asked or not.
    fn answer(&mut self, here: &Here<'_>, answer: &Answer<'_>) {
        let relied_on = self.relied_on(here, (answer.identity, answer.kid, answer.registered), 0);
        let approver = self.registry.identities.get(answer.identity);
        let groups: Vec<String> = approver.map(|i| i.groups.clone()).unwrap_or_default();
        match self.open.get(&answer.request).filter(|story| !story.lost) {
            Some(story) if matches!(story.state.phase, Phase::Waiting | Phase::Approved) => {
                let state = &story.state;
                let until = story.facts.as_ref().map_or(0, |facts| facts.answer_until);
                let asked = state.groups.clone();
                let digests = state.digest == Some(answer.digest) && state.obligations == Some(answer.obligations);
                let requester = state.subject.clone().unwrap_or_default();
                let shown = |digest: Option<Hash>| digest.map(|d| d.to_string()).unwrap_or_default();
                let wanted = format!("request {}, obligations {}", shown(state.digest), shown(state.obligations));
                if !digests {
                    let found = format!("request {}, obligations {}", answer.digest, answer.obligations);
                    self.broken(here, Code::ApprovalDigest, found, wanted);
                }
                if is_past(here.at(), until, GRACE_SECONDS) {
                    let expected = format!("before {}", crate::time::utc(until.saturating_mul(1_000_000)));
                    self.broken(here, Code::ApprovalTime, crate::time::utc(here.at()), expected);
                }
                let (one, other) = (self.registry.behind(answer.identity), self.registry.behind(&requester));
                if let Some(both) = one.intersection(&other).next() {
                    let found = format!("`{both}` behind approver and requester");
                    self.broken(here, Code::ApprovalSelf, found, "somebody else");
                }
                let stranger = answer.groups.iter().find(|g| !groups.contains(g) || !asked.contains(g));
                if answer.groups.is_empty() || stranger.is_some() {
                    let found = format!("for {}", words(answer.groups));
                    let expected = format!("groups of {} that are among {}", words(&groups), words(&asked));
                    self.broken(here, Code::ApprovalGroup, found, expected);
                }
            }
            other => {
                let found = match other {
                    Some(story) => format!("request {} in phase {:?}", answer.request, story.state.phase),
                    None => format!("request {}, which is not open", answer.request),
                };
                self.broken(here, Code::ApprovalNotWaiting, found, "a request that waits for approval");
            }
        }
        self.answer_token(here, answer, relied_on);
    }

    fn answer_token(&mut self, here: &Here<'_>, answer: &Answer<'_>, relied_on: Option<(PublicKey, Option<String>)>) {
        let Some((token, (key, name))) = here.payload(answer.token).zip(relied_on) else {
            return self.claim(Claim::ApprovalSignatures, false);
        };
        let opened = match token::open::<ApprovalClaims>(token, TYP_APPROVAL, answer.kid, &key) {
            Ok(opened) => opened.claims,
            Err(found) => {
                let expected = format!("an answer signed by `{}` with key {}", answer.identity, answer.kid);
                return self.broken(here, Code::ApprovalSignature, found, expected);
            }
        };
        let c = opened;
        let told = || -> Result<(), (String, String)> {
            token::names((&c.iss, &c.sub, &c.aud), &self.terms.origin, "approvals", name.as_deref())?;
            let same = |what: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display| {
                let (found, expected) = (found.to_string(), expected.to_string());
                if found == expected { Ok(()) } else { Err((format!("{what} {found}"), format!("{what} {expected}"))) }
            };
            same("decision", &c.decision, &answer.decision)?;
            same("request", &c.request, &answer.request)?;
            same("digest", &c.digest, &answer.digest)?;
            same("obligations", &c.obligations, &answer.obligations)?;
            if let Some(reason) = answer.reason {
                same("reason", &c.reason, &reason)?;
                same("trace", &TraceId::approval(&c.iss, &c.jti), &here.entry.trace)?;
            }
            if let Some((signed_at, not_before, not_after)) = answer.times {
                same("iat", &c.iat, &signed_at)?;
                same("nbf", &c.nbf, &not_before)?;
                same("exp", &c.exp, &not_after)?;
            }
            shorter_than((c.iat, c.exp), APPROVAL_SECONDS_MAX)
        };
        // Of a grant the entry itself tells the times; a revocation gives the sequencer no deadline.
        let grace = if answer.decision == "revoke" { GRACE_SECONDS } else { 0 };
        let in_time =
            if answer.times.is_some() { Ok(()) } else { counts_at((c.iat, c.exp), here.at(), grace, u64::MAX) };
        match (told(), in_time) {
            (Err((found, expected)), _) => self.broken(here, Code::ApprovalClaims, found, expected),
            (_, Err((found, expected))) => self.broken(here, Code::ApprovalTime, found, expected),
            _ => self.signature(Claim::ApprovalSignatures, answer.kid),
        }
    }

    fn approval_granted(&mut self, here: &Here<'_>, s: &ApprovalGranted) {
        self.answer(
            here,
            &Answer {
                decision: "grant",
                identity: &s.identity,
                kid: &s.kid,
                registered: s.registered.get(),
                request: s.request,
                digest: s.digest,
                obligations: s.obligations,
                groups: &s.groups,
                reason: Some(s.reason),
                token: s.token,
                times: Some((s.signed_at.get(), s.not_before.get(), s.not_after.get())),
            },
        );
        let (signed_at, not_after) = (s.signed_at.get(), s.not_after.get());
        if is_early(here.at(), signed_at, SKEW_SECONDS) || is_past(here.at(), not_after, 0) {
            let expected = format!("from {signed_at} to {not_after}, in Unix seconds");
            self.broken(here, Code::ApprovalTime, (here.at() / 1_000_000).to_string(), expected);
        }
        let grant = Grant {
            index: here.index,
            leaf: here.leaf,
            request: s.request,
            digest: s.digest,
            obligations: s.obligations,
            approver: s.identity.clone(),
            groups: s.groups.clone(),
            not_before: s.not_before.get(),
            not_after,
            revoked: None,
        };
        self.grants.insert(here.entry.trace, grant);
        if let Some(facts) = self.open.get_mut(&s.request).and_then(|story| story.facts.as_mut()) {
            facts.grants.push(here.entry.trace);
        }
    }

    fn approval_denied(&mut self, here: &Here<'_>, s: &ApprovalDenied) {
        self.answer(
            here,
            &Answer {
                decision: "deny",
                identity: &s.identity,
                kid: &s.kid,
                registered: s.registered.get(),
                request: s.request,
                digest: s.digest,
                obligations: s.obligations,
                groups: &s.groups,
                reason: Some(s.reason),
                token: s.token,
                times: None,
            },
        );
        if let Some(story) = self.open.get_mut(&s.request)
            && matches!(story.state.phase, Phase::Waiting | Phase::Approved)
            && let Some(facts) = &mut story.facts
        {
            facts.refused.get_or_insert(here.index);
        }
    }

    fn approval_revoked(&mut self, here: &Here<'_>, s: &ApprovalRevoked) {
        let relied_on = self.relied_on(here, (&s.identity, &s.kid, s.registered.get()), GRACE_SECONDS);
        let revoker = self.registry.identities.get(&s.identity);
        let (admin, groups) = revoker.map_or((false, Vec::new()), |i| (i.admin, i.groups.clone()));
        let Some(grant) = self.grants.get_mut(&here.entry.trace) else {
            // Its request has ended: nothing can rely on it any more, and its digests are no longer known.
            return self.claim(Claim::ApprovalSignatures, false);
        };
        grant.revoked.get_or_insert(here.index);
        let (digest, obligations) = (grant.digest, grant.obligations);
        let may = admin || grant.approver == s.identity || grant.groups.iter().any(|g| groups.contains(g));
        if !may {
            let expected = format!("`{}`, a member of {}, or an admin", grant.approver, words(&grant.groups));
            self.broken(here, Code::ApprovalRevoker, format!("`{}`", s.identity), expected);
        }
        let answer = Answer {
            decision: "revoke",
            identity: &s.identity,
            kid: &s.kid,
            registered: s.registered.get(),
            request: here.entry.trace,
            digest,
            obligations,
            groups: &[],
            reason: None,
            token: s.token,
            times: None,
        };
        self.answer_token(here, &answer, relied_on);
    }

    fn approval_used(&mut self, here: &Here<'_>, story: &Story, s: &ApprovalUsed) {
        let trace = here.entry.trace;
        let grant = self.grants.get(&s.approval);
        let Some(grant) = grant.filter(|g| g.index == s.index.get() && g.leaf == s.leaf && g.request == trace) else {
            let found = format!("approval {} at entry {} with leaf hash {}", s.approval, s.index, s.leaf);
            let expected = match self.grants.get(&s.approval) {
                Some(g) => format!("entry {} with leaf hash {}, which is for request {}", g.index, g.leaf, g.request),
                None => "an approval that was granted for this request".to_owned(),
            };
            return self.broken(here, Code::ApprovalUnknown, found, expected);
        };
        if story.state.digest != Some(grant.digest) || story.state.obligations != Some(grant.obligations) {
            let found = format!("request {}, obligations {}", grant.digest, grant.obligations);
            return self.broken(here, Code::ApprovalDigest, found, "those that were last decided");
        }
        let approver = grant.approver.clone();
        self.in_force(here, &approver, GRACE_SECONDS);
        self.counts(here, s.approval);
    }

    /// The approval has not been taken back, and this is its time.
    fn counts(&mut self, here: &Here<'_>, approval: TraceId) {
        let Some(grant) = self.grants.get(&approval) else { return };
        let (not_before, not_after, index) = (grant.not_before, grant.not_after, grant.index);
        if let Some(at) = grant.revoked {
            let found = format!("the approval of entry {index}, revoked at entry {at}");
            self.broken(here, Code::ApprovalRevoked, found, "an approval that stands");
        }
        if is_early(here.at(), not_before, 0) || is_past(here.at(), not_after, 0) {
            let expected = format!("from {not_before} to {not_after}, in Unix seconds (entry {index})");
            self.broken(here, Code::ApprovalTime, (here.at() / 1_000_000).to_string(), expected);
        }
    }
}

/// A person's answer: what grants, denials and revocations have in common.
struct Answer<'a> {
    decision: &'static str,
    identity: &'a str,
    kid: &'a str,
    registered: u64,
    request: TraceId,
    digest: Hash,
    obligations: Hash,
    groups: &'a [String],
    reason: Option<Commitment>,
    token: Commitment,
    /// `signed_at`, `not_before`, `not_after`.
    times: Option<(u64, u64, u64)>,
}

fn words(groups: &[String]) -> String {
    if groups.is_empty() { "no group".to_owned() } else { groups.join(", ") }
}

/// Whether what is valid from and until these seconds counts at `at` (microseconds), and is not valid for too long.
fn counts_at((from, until): (u64, u64), at: u64, grace: u64, seconds_max: u64) -> Result<(), (String, String)> {
    shorter_than((from, until), seconds_max)?;
    if is_early(at, from, SKEW_SECONDS) || is_past(at, until, grace) {
        return Err((format!("at {}", at / 1_000_000), format!("from {from} to {until}, in Unix seconds")));
    }
    Ok(())
}

fn shorter_than((from, until): (u64, u64), seconds_max: u64) -> Result<(), (String, String)> {
    let seconds = until.saturating_sub(from);
    if seconds > seconds_max {
        Err((format!("valid for {seconds} s"), format!("at most {seconds_max} s")))
    } else {
        Ok(())
    }
}

/// The document of a decision: the obligations that the entry states the digest of, with the entry's columns. Gives the most
/// rows that they let leave.
fn obligations(document: &[u8], s: &PolicyDecided) -> Result<u64, (String, String)> {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        obligations: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Obligations {
        columns: Vec<Column>,
        limit: Limit,
    }
    #[derive(Deserialize)]
    struct Limit {
        rows: u64,
    }
    #[derive(Deserialize)]
    struct Column {
        column: String,
        class: String,
        rule: String,
        #[serde(default)]
        paths: Vec<Path>,
    }
    #[derive(Deserialize)]
    struct Path {
        path: String,
        class: String,
        rule: String,
    }
    let form = |e: serde_json::Error| (format!("a document that is not a decision: {e}"), "a decision".to_owned());
    let document: Document<'_> = serde_json::from_slice(document).map_err(form)?;
    let raw = document.obligations.get();
    let digest = sha256(raw.as_bytes());
    if digest != s.obligations {
        return Err((format!("obligations {digest}"), format!("obligations {}", s.obligations)));
    }
    let obligations: Obligations = serde_json::from_str(raw).map_err(form)?;
    // Each column, and after it what is decided of what is inside of it.
    let mut said = Vec::new();
    for column in &s.columns {
        said.push(("column", column.column.as_str(), column.class.as_str(), column.rule.as_str()));
        let paths = column.paths.iter();
        said.extend(paths.map(|path| ("path", path.path.as_str(), path.class.as_str(), path.rule.as_str())));
    }
    let mut obliged = Vec::new();
    for column in &obligations.columns {
        obliged.push(("column", &*column.column, &*column.class, &*column.rule));
        obliged.extend(column.paths.iter().map(|path| ("path", &*path.path, &*path.class, &*path.rule)));
    }
    if said == obliged {
        return Ok(obligations.limit.rows);
    }
    let list = |columns: Vec<(&str, &str, &str, &str)>| {
        let columns = columns.iter().map(|(what, name, class, rule)| format!("{what} {name} ({class}) {rule}"));
        columns.collect::<Vec<_>>().join(", ")
    };
    Err((list(obliged), list(said)))
}

/// What was decided is what the caller asked for.
fn as_asked(claims: &RequestClaims, s: &PolicyDecided) -> Result<(), (String, String)> {
    let differs =
        |what: &str, found: &str, expected: &str| Err((format!("{what} `{found}`"), format!("{what} `{expected}`")));
    let connection = s.connection.as_deref().unwrap_or_default();
    let dataset = format!("{connection}.{}", s.table.as_deref().unwrap_or_default());
    if dataset != claims.dataset {
        return differs("data set", &dataset, &claims.dataset);
    }
    if let Some(purpose) = s.purpose.as_ref().filter(|purpose| **purpose != claims.purpose) {
        return differs("purpose", purpose, &claims.purpose);
    }
    let columns: Vec<&str> = s.columns.iter().map(|c| c.column.as_str()).collect();
    if columns != claims.columns {
        return differs("columns", &columns.join(", "), &claims.columns.join(", "));
    }
    if claims.exp.saturating_sub(claims.iat) > LIFETIME_SECONDS_MAX {
        let found = format!("valid for {} s", claims.exp.saturating_sub(claims.iat));
        return Err((found, format!("at most {LIFETIME_SECONDS_MAX} s, or {}", Reason::LifetimeTooLong)));
    }
    Ok(())
}

/// What was given back is what the caller signed for.
fn as_reidentified(
    claims: &ReidentifyClaims,
    digest: Hash,
    trace: TraceId,
    s: &ReidentifyDecided,
) -> Result<(), (String, String)> {
    let same = |what: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display| {
        let (found, expected) = (found.to_string(), expected.to_string());
        if found == expected { Ok(()) } else { Err((format!("{what} `{found}`"), format!("{what} `{expected}`"))) }
    };
    same("trace", &trace, &TraceId::reidentify(&claims.iss, &claims.jti))?;
    same("digest", &digest, &s.digest)?;
    same("tokens", &claims.tokens, &s.tokens)?;
    same("reason", &claims.reason, &s.reason)?;
    if let (Some(connection), Some(table), Some(column), Some(purpose)) =
        (&s.connection, &s.table, &s.column, &s.purpose)
    {
        same("data set", &format!("{connection}.{table}"), &claims.dataset)?;
        same("column", column, &claims.column)?;
        same("purpose", purpose, &claims.purpose)?;
    }
    Ok(())
}

fn code_of(violation: &Violation) -> (Code, &'static str) {
    match violation {
        Violation::Order { .. } => (Code::StoryOrder, "the order of a complete story"),
        Violation::Attempt { .. } => (Code::StoryAttempt, "attempts counted 1, 2, 3 …"),
        Violation::Name { .. } => (Code::TraceName, "the name that its first entry gives it"),
        Violation::Account(_) => (Code::MaskAccount, "the columns, classes and rules that were decided"),
        Violation::Decision(_) => (Code::DecisionContradiction, "a decision that agrees with itself"),
        Violation::Subject { .. } => (Code::StorySubject, "what the trace is about"),
        Violation::Rotation(_) => (Code::KeyRotation, "a new key that the old one and itself have signed"),
        Violation::Form { .. } => (Code::EntryForm, "the form of its type"),
        Violation::Approval(_) => (Code::ApprovalMissing, "an approval of what was decided"),
    }
}

/// Where an entry stands, with trace and type as far as bytes that are not an entry still show them.
pub fn place_of(index: u64, bytes: &[u8]) -> Place {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(rename = "type")]
        kind: Option<String>,
        trace: Option<TraceId>,
    }
    let peek = serde_json::from_slice::<Peek>(bytes).ok();
    let (kind, trace) = peek.map_or((None, None), |peek| (peek.kind, peek.trace));
    Place { kind: kind.map(|kind| crate::finding::shown(&kind)), trace, ..Place::entry(index) }
}
