//! What a reviewer is shown, as numbers and rows: gathered while the walk judges, entry by entry, and bounded, so that a ledger
//! of any length gives a report of readable length. Whatever is left out of a list is counted.

use super::criteria::{self, Criterion};
use super::sample::{Sample, Stories};
use crate::explain::{Word, called, say};
use crate::finding::{Finding, Verdict, shown};
use crate::observe::{Judged, Observer};
use crate::report::{LogFacts, Report, StoryFacts};
use countersign_ledger::evidence::step::{ApprovalUsed, Attest, ChunkMasked, Kind, PolicyDecided, Verdict as Decision};
use countersign_ledger::evidence::{Phase, Step, TraceId};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The name of the schema of `report --json`.
pub const SCHEMA: &str = "countersign-report/1";

/// How many rows of one list are kept.
const ROWS_MAX: usize = 2_000;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its chunk was delivered.
    Delivered,
    /// Policy, or a person, refused.
    Denied,
    /// It was permitted and came to nothing.
    Failed,
    /// It waits for approval.
    Waiting,
    /// It is under way otherwise.
    Open,
    /// Nobody could be held to it.
    Rejected,
}

impl Outcome {
    /// All of them, in the order of charts.
    pub const ALL: [Self; 6] = [Self::Delivered, Self::Denied, Self::Failed, Self::Rejected, Self::Waiting, Self::Open];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Open => "open",
            Self::Rejected => "rejected",
        }
    }
}

/// Counts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes([u64; 6]);

impl Outcomes {
    /// The count of one.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0.get(outcome as usize).copied().unwrap_or_default()
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn add(&mut self, outcome: Outcome, count: u64) {
        if let Some(slot) = self.0.get_mut(outcome as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for outcome in Outcome::ALL {
            self.add(outcome, other.of(outcome));
        }
    }
}

impl Serialize for Outcomes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Outcome::ALL.into_iter().map(|outcome| (outcome.as_str(), self.of(outcome))))
    }
}

/// Rows of a list, and how many there are in all.
#[derive(Clone, Debug, Serialize)]
pub struct Rows<T> {
    /// How many there are.
    pub total: u64,
    /// The latest of them, in order.
    pub rows: VecDeque<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { total: 0, rows: VecDeque::new() }
    }
}

impl<T> Rows<T> {
    fn add(&mut self, row: T) {
        self.total += 1;
        if self.rows.len() == ROWS_MAX {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }
}

/// Cells that left, or may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cells {
    /// As they stand in the source.
    pub clear: u64,
    /// Under a mask.
    pub masked: u64,
    /// Of the masked ones, those that the mask left as they were: empty ones, and values that already had the masked form.
    pub unchanged: u64,
}

impl Cells {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.clear.saturating_add(self.masked)
    }

    fn add(&mut self, other: Self) {
        self.clear = self.clear.saturating_add(other.clear);
        self.masked = self.masked.saturating_add(other.masked);
        self.unchanged = self.unchanged.saturating_add(other.unchanged);
    }
}

/// One who asks, answers or administers.
#[derive(Clone, Debug, Serialize)]
pub struct IdentityRow {
    /// The pseudonym.
    pub identity: String,
    /// Its name, where the record that resolves it came along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Whether it may sign changes.
    pub admin: bool,
    /// Its groups, as they are at the end.
    pub groups: Vec<String>,
    /// Its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The entry of its registration.
    pub registered: u64,
    /// The entry of its revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// Its requests.
    pub requests: Outcomes,
    /// Rows delivered to it.
    pub rows: u64,
    /// Cells delivered to it.
    pub cells: Cells,
}

/// Who asked for what, and why.
#[derive(Clone, Debug, Serialize)]
pub struct AskRow {
    /// The pseudonym.
    pub identity: String,
    /// `connection.table`; none where a refusal names no table and the request's own text did not come along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The purpose, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// How these requests ended.
    pub requests: Outcomes,
    /// Rows delivered.
    pub rows: u64,
    /// When the first of them came in, microseconds of Unix time.
    pub first_micros: u64,
    /// When the last of them came in.
    pub last_micros: u64,
}

/// What left of one column under one rule.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnRow {
    /// `connection.table`.
    pub dataset: String,
    /// The column.
    pub column: String,
    /// Its class.
    pub class: String,
    /// `clear`, or the mask.
    pub rule: String,
    /// Cells in delivered chunks.
    pub delivered: Cells,
    /// Cells in attempts that were superseded or are not resolved: they may have been seen.
    pub exposed: u64,
}

/// Requests for a column that were refused.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedRow {
    /// The data set that the caller's signed request names.
    pub dataset: String,
    /// The column that it names.
    pub column: String,
    /// How many requests.
    pub requests: u64,
}

/// What one policy decided.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PolicyRow {
    /// Its id.
    pub policy: String,
    /// Decisions that permit.
    pub permit: u64,
    /// Decisions that ask people first.
    pub needs_approval: u64,
    /// Decisions that refuse.
    pub deny: u64,
}

/// A version of the policy or the catalog.
#[derive(Clone, Debug, Serialize)]
pub struct VersionRow {
    /// `policy` or `catalog`.
    pub what: &'static str,
    /// The entry.
    pub entry: u64,
    /// When it took effect.
    pub at_micros: u64,
    /// 1, 2, 3 …
    pub version: u64,
    /// SHA-256 of the text.
    pub digest: String,
    /// The admins who signed it.
    pub by: Vec<String>,
    /// How far that can be believed.
    pub word: Word,
}

/// A person's answer.
#[derive(Clone, Debug, Serialize)]
pub struct ApprovalRow {
    /// The entry.
    pub entry: u64,
    /// When it was recorded.
    pub at_micros: u64,
    /// Whether it was a yes.
    pub granted: bool,
    /// The approver's pseudonym.
    pub approver: String,
    /// The groups that it counts for.
    pub groups: Vec<String>,
    /// The request.
    pub request: TraceId,
    /// Who asked, where the request is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Until when it counts, seconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
    /// The entry that relies on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// The entry that took it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// How far that can be believed.
    pub word: Word,
}

/// Why something was refused, how often.
#[derive(Clone, Debug, Serialize)]
pub struct ReasonRow {
    /// `denied`, `rejected`, `failed` or `aborted`.
    pub what: &'static str,
    /// The reason code.
    pub reason: &'static str,
    /// How often.
    pub count: u64,
    /// The entry of the last one.
    pub last: u64,
}

/// Something that a reviewer should look at.
#[derive(Clone, Debug, Serialize)]
pub struct ExceptionRow {
    /// What kind of thing.
    pub what: &'static str,
    /// The entry.
    pub entry: u64,
    /// When.
    pub at_micros: u64,
    /// In words.
    pub text: String,
    /// How far that can be believed.
    pub word: Word,
}

/// Makes the kinds, and the list of all of them, from one list: a kind that is recorded can't be missing from what is shown.
macro_rules! exceptions {
    ($($kind:ident = $words:literal,)*) => {
        /// A kind of exception, in the order in which they are shown.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Exception {
            $(#[doc = $words] $kind,)*
        }

        impl Exception {
            /// Every kind, in order.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The kind in words.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$kind => $words,)*
                }
            }
        }
    };
}

exceptions! {
    UnclassifiedDelivered = "unclassified column delivered",
    VouchedByService = "request vouched for by the service alone",
    AttemptSuperseded = "attempt superseded",
    DeliveryUnresolved = "delivery not resolved",
    ApprovalRevoked = "approval taken back",
    ValuesGivenBack = "values given back for tokens",
    ValuesRefused = "values for tokens refused",
    TableSampled = "table looked into for the catalog",
    IdentityRegistered = "identity registered",
    IdentityRevoked = "identity revoked",
    GroupsChanged = "groups changed",
    ConnectionChanged = "connection changed",
    EvidenceExported = "evidence exported",
    PayloadsRead = "payloads read",
    PayloadsHeld = "payloads held or released",
    PayloadsDestroyed = "payloads destroyed",
    LedgerKeyReplaced = "the ledger's key replaced",
}

/// Requests in one stretch of time.
#[derive(Clone, Debug, Serialize)]
pub struct Bucket {
    /// Where it begins, microseconds of Unix time.
    pub from_micros: u64,
    /// What came in then, by how it ended.
    pub requests: Outcomes,
}

/// Requests over time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timeline {
    /// How long a stretch is, in seconds.
    pub bucket_seconds: u64,
    /// The stretches, without gaps.
    pub buckets: Vec<Bucket>,
}

/// Everything that the report shows.
#[derive(Clone, Debug, Serialize)]
pub struct Review {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Which program made it.
    pub generator: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// The exit code that stands for it.
    pub exit: u8,
    /// How the verdict was reached: the options that change it.
    pub options: Vec<String>,
    /// The log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogFacts>,
    /// The claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub story: Option<StoryFacts>,
    /// The checkpoint that everything was held against, as text.
    pub checkpoint: String,
    /// How many findings there are.
    pub findings_total: u64,
    /// The findings.
    pub findings: Vec<Finding>,
    /// How many admins must sign a change.
    pub quorum: u64,
    /// All requests and rejected records.
    pub requests: Outcomes,
    /// Rows delivered.
    pub rows: u64,
    /// Bytes delivered.
    pub bytes: u64,
    /// Cells delivered.
    pub cells: Cells,
    /// Cells in attempts that were superseded or are not resolved.
    pub exposed: u64,
    /// Requests over time.
    pub timeline: Timeline,
    /// Everybody.
    pub identities: Vec<IdentityRow>,
    /// Who asked for what, and why; those with the most requests first.
    pub asks: Rows<AskRow>,
    /// What left, by column.
    pub columns: Rows<ColumnRow>,
    /// What was refused, by column; as far as callers' signed requests came along.
    pub refused: Rows<RefusedRow>,
    /// Refused requests whose columns are not known.
    pub refused_unknown: u64,
    /// What each policy decided.
    pub policies: Rows<PolicyRow>,
    /// Refusals that no policy stands behind: nothing permitted.
    pub default_denials: u64,
    /// The versions of policy and catalog.
    pub versions: Rows<VersionRow>,
    /// People's answers.
    pub approvals: Rows<ApprovalRow>,
    /// Why something was refused or came to nothing.
    pub reasons: Vec<ReasonRow>,
    /// What a reviewer should look at.
    pub exceptions: Vec<(&'static str, Rows<ExceptionRow>)>,
    /// The criteria that this supports.
    pub criteria: Vec<Criterion>,
    /// Stories: a sample.
    pub stories: Stories,
}

/// A request that has not ended.
#[derive(Debug)]
struct Tale {
    lines: Vec<(u64, Word)>,
    received: u64,
    identity: Option<String>,
    dataset: Option<String>,
    purpose: Option<String>,
    /// The columns that were asked for, where the caller's signed request says so.
    asked: Option<Vec<String>>,
    account: Option<Box<ChunkMasked>>,
    bytes: u64,
    approved: bool,
    aborted: bool,
    broken: bool,
    phase: Phase,
}

/// Gathers while the walk judges.
#[derive(Debug, Default)]
pub struct Gatherer {
    open: HashMap<TraceId, Tale>,
    quorum: u64,
    requests: Outcomes,
    rows: u64,
    bytes: u64,
    cells: Cells,
    exposed: u64,
    minutes: BTreeMap<u64, Outcomes>,
    identities: BTreeMap<String, IdentityRow>,
    asks: BTreeMap<(String, Option<String>, Option<String>), AskRow>,
    columns: BTreeMap<(String, String, String, String), ColumnRow>,
    refused: BTreeMap<(String, String), u64>,
    refused_more: u64,
    refused_unknown: u64,
    policies: BTreeMap<String, PolicyRow>,
    default_denials: u64,
    versions: Rows<VersionRow>,
    approvals: Rows<ApprovalRow>,
    reasons: BTreeMap<(&'static str, &'static str), (u64, u64)>,
    exceptions: BTreeMap<Exception, Rows<ExceptionRow>>,
    sample: Sample,
}

impl Observer for Gatherer {
    fn entry(&mut self, judged: &Judged<'_>) {
        let Some(entry) = judged.entry else { return };
        let word = Word::of(judged);
        match &entry.body {
            Step::RequestReceived(_) => {
                let tale = Tale {
                    lines: Vec::with_capacity(9),
                    received: entry.at.get(),
                    identity: None,
                    dataset: None,
                    purpose: None,
                    asked: None,
                    account: None,
                    bytes: 0,
                    approved: false,
                    aborted: false,
                    broken: false,
                    phase: Phase::Received,
                };
                self.open.insert(entry.trace, tale);
            }
            Step::RequestRejected(s) => {
                self.requests.add(Outcome::Rejected, s.count.get());
                self.minute(entry.at.get(), Outcome::Rejected, s.count.get());
                self.reason("rejected", s.reason.as_str(), s.count.get(), judged.index);
            }
            Step::LogCreated(s) => self.quorum = s.quorum.get().max(1),
            body if entry.prev.is_none() || !self.open.contains_key(&entry.trace) => {
                self.administration(judged, body, word);
            }
            _ => {}
        }
        let Some(mut tale) = self.open.remove(&entry.trace) else { return };
        tale.lines.push((judged.index, word));
        tale.broken |= word == Word::Broken;
        tale.phase = judged.state.map_or(tale.phase, |state| state.phase);
        match self.request(judged, &entry.body, &mut tale, word) {
            Some(outcome) => self.ended(entry.trace, tale, outcome),
            None => {
                self.open.insert(entry.trace, tale);
            }
        }
    }
}

impl Gatherer {
    /// A step of a request. Gives how it ended, if it did.
    fn request(&mut self, judged: &Judged<'_>, step: &Step, tale: &mut Tale, word: Word) -> Option<Outcome> {
        match step {
            Step::IdentityVerified(s) => {
                tale.identity = Some(s.identity.clone());
                if let Some(asked) = judged.request {
                    tale.dataset = Some(shown(&asked.dataset));
                    tale.purpose = Some(shown(&asked.purpose));
                    tale.asked = Some(asked.columns.iter().map(|column| shown(column)).collect());
                }
                if s.attest == Attest::ServiceAttested {
                    self.exception(Exception::VouchedByService, judged, word);
                }
            }
            Step::PolicyDecided(s) => self.decided(s, tale),
            Step::ApprovalUsed(s) => {
                tale.approved = true;
                if let Some(word) = self.used(judged.index, s) {
                    tale.lines.push((s.index.get(), word));
                }
            }
            Step::ChunkMasked(s) => tale.account = Some(Box::new(s.clone())),
            Step::DeliveryIntended(s) => tale.bytes = s.bytes.get(),
            Step::DeliveryCommitted(_) => self.delivered(tale, judged.index, word),
            Step::DeliveryAborted(s) => {
                tale.aborted = true;
                self.exposed(tale);
                self.reason("aborted", s.reason.as_str(), 1, judged.index);
                self.exception(Exception::AttemptSuperseded, judged, word);
            }
            Step::RequestCompleted(_) => return Some(Outcome::Delivered),
            Step::RequestDenied(s) => {
                self.reason("denied", s.reason.as_str(), 1, judged.index);
                return Some(Outcome::Denied);
            }
            Step::RequestFailed(s) => {
                self.reason("failed", s.reason.as_str(), 1, judged.index);
                return Some(Outcome::Failed);
            }
            _ => {}
        }
        None
    }

    fn decided(&mut self, s: &PolicyDecided, tale: &mut Tale) {
        if let Some((connection, table)) = s.connection.as_ref().zip(s.table.as_ref()) {
            tale.dataset = Some(format!("{connection}.{table}"));
        }
        tale.purpose = s.purpose.as_ref().map(ToString::to_string).or(tale.purpose.take());
        if s.policies.is_empty() && s.verdict == Decision::Deny {
            self.default_denials += 1;
        }
        for policy in &s.policies {
            let row = self.policies.entry(policy.clone()).or_default();
            row.policy.clone_from(policy);
            match s.verdict {
                Decision::Permit => row.permit += 1,
                Decision::NeedsApproval => row.needs_approval += 1,
                Decision::Deny => row.deny += 1,
            }
        }
    }

    /// Notes that an approval is relied on; how far it can be believed.
    fn used(&mut self, index: u64, s: &ApprovalUsed) -> Option<Word> {
        // Approvals stand in the order of their entries.
        let at = self.approvals.rows.binary_search_by_key(&s.index.get(), |row| row.entry).ok()?;
        let row = self.approvals.rows.get_mut(at)?;
        row.used.get_or_insert(index);
        Some(row.word)
    }

    /// The cells of the account at hand, column by column.
    fn account(&mut self, tale: &Tale, mut each: impl FnMut(&mut ColumnRow, Cells)) {
        let (Some(account), Some(dataset)) = (&tale.account, &tale.dataset) else { return };
        for column in &account.columns {
            let (seen, changed) = (column.seen.get(), column.changed.get());
            let cells = match column.transform.as_str() {
                "clear" => Cells { clear: seen, ..Cells::default() },
                _ => Cells { masked: seen, unchanged: seen.saturating_sub(changed), clear: 0 },
            };
            let [name, class, rule] = [&column.column, &column.class, &column.rule].map(ToString::to_string);
            let key = (dataset.clone(), name.clone(), class.clone(), rule.clone());
            let row = self.columns.entry(key).or_insert_with(|| ColumnRow {
                dataset: dataset.clone(),
                column: name,
                class,
                rule,
                delivered: Cells::default(),
                exposed: 0,
            });
            each(row, cells);
        }
    }

    fn delivered(&mut self, tale: &mut Tale, index: u64, word: Word) {
        let mut cells = Cells::default();
        self.account(tale, |row, of_column| {
            row.delivered.add(of_column);
            cells.add(of_column);
        });
        self.cells.add(cells);
        let Some(account) = tale.account.take() else { return };
        self.rows = self.rows.saturating_add(account.rows.get());
        self.bytes = self.bytes.saturating_add(tale.bytes);
        if let Some(row) = tale.identity.as_ref().and_then(|identity| self.identities.get_mut(identity)) {
            row.rows = row.rows.saturating_add(account.rows.get());
            row.cells.add(cells);
        }
        let ask = self.ask(tale);
        ask.rows = ask.rows.saturating_add(account.rows.get());
        let unclassified: Vec<&str> =
            account.columns.iter().filter(|c| c.class == "unclassified").map(|c| c.column.as_str()).collect();
        if !unclassified.is_empty() {
            let text = format!(
                "`{}` of `{}` left without a class, as {}.",
                unclassified.join("`, `"),
                tale.dataset.as_deref().unwrap_or_default(),
                account.columns.iter().find(|c| c.class == "unclassified").map_or("", |c| c.transform.as_str()),
            );
            self.exceptional(Exception::UnclassifiedDelivered, (index, tale.received), text, word);
        }
    }

    fn exposed(&mut self, tale: &mut Tale) {
        let mut exposed = 0;
        self.account(tale, |row, cells| {
            row.exposed = row.exposed.saturating_add(cells.total());
            exposed = cells.total().saturating_add(exposed);
        });
        self.exposed = self.exposed.saturating_add(exposed);
        tale.account = None;
    }

    fn ask(&mut self, tale: &Tale) -> &mut AskRow {
        let identity = tale.identity.clone().unwrap_or_default();
        let key = (identity, tale.dataset.clone(), tale.purpose.clone());
        self.asks.entry(key).or_insert_with_key(|(identity, dataset, purpose)| AskRow {
            identity: identity.clone(),
            dataset: dataset.clone(),
            purpose: purpose.clone(),
            requests: Outcomes::default(),
            rows: 0,
            first_micros: tale.received,
            last_micros: tale.received,
        })
    }

    fn ended(&mut self, trace: TraceId, tale: Tale, outcome: Outcome) {
        self.requests.add(outcome, 1);
        self.minute(tale.received, outcome, 1);
        if tale.identity.is_some() {
            let ask = self.ask(&tale);
            ask.requests.add(outcome, 1);
            ask.last_micros = ask.last_micros.max(tale.received);
            ask.first_micros = ask.first_micros.min(tale.received);
        }
        if let Some(row) = tale.identity.as_ref().and_then(|identity| self.identities.get_mut(identity)) {
            row.requests.add(outcome, 1);
        }
        if outcome == Outcome::Denied {
            match (&tale.dataset, &tale.asked) {
                (Some(dataset), Some(asked)) => {
                    for column in asked {
                        let key = (dataset.clone(), column.clone());
                        // Callers chose these words: there may be any number of them.
                        if self.refused.len() < ROWS_MAX || self.refused.contains_key(&key) {
                            *self.refused.entry(key).or_default() += 1;
                        } else {
                            self.refused_more += 1;
                        }
                    }
                }
                _ => self.refused_unknown += 1,
            }
        }
        self.sample.offer(trace, outcome, (tale.broken, tale.approved, tale.aborted), tale.lines);
    }

    fn minute(&mut self, micros: u64, outcome: Outcome, count: u64) {
        self.minutes.entry(micros / 60_000_000).or_default().add(outcome, count);
    }

    fn reason(&mut self, what: &'static str, reason: &'static str, count: u64, index: u64) {
        let row = self.reasons.entry((what, reason)).or_default();
        *row = (row.0.saturating_add(count), index);
    }

    fn exception(&mut self, what: Exception, judged: &Judged<'_>, word: Word) {
        let Some(entry) = judged.entry else { return };
        let text = say(&entry.body, &|pseudonym| called(pseudonym, judged.registry.name(pseudonym)));
        self.exceptional(what, (judged.index, entry.at.get()), text, word);
    }

    fn exceptional(&mut self, what: Exception, (entry, at_micros): (u64, u64), text: String, word: Word) {
        let row = ExceptionRow { what: what.words(), entry, at_micros, text, word };
        self.exceptions.entry(what).or_default().add(row);
    }

    /// A step that is no request's.
    fn administration(&mut self, judged: &Judged<'_>, step: &Step, word: Word) {
        let Some(entry) = judged.entry else { return };
        let at_micros = entry.at.get();
        let mut version = |what, version, digest: String, signed: &countersign_ledger::evidence::step::Signed| {
            let by = signed.by.iter().map(|by| by.admin.clone()).collect();
            self.versions.add(VersionRow { what, entry: judged.index, at_micros, version, digest, by, word });
        };
        match step {
            Step::PolicyChanged(s) => version("policy", s.version.get(), s.digest.to_string(), &s.signed),
            Step::CatalogChanged(s) => version("catalog", s.version.get(), s.digest.to_string(), &s.signed),
            Step::ConnectionChanged(_) => self.exception(Exception::ConnectionChanged, judged, word),
            Step::LedgerExported(_) => self.exception(Exception::EvidenceExported, judged, word),
            Step::LogKeyRotated(_) => self.exception(Exception::LedgerKeyReplaced, judged, word),
            Step::PayloadPurged(_) => self.exception(Exception::PayloadsDestroyed, judged, word),
            Step::PayloadHeld(_) | Step::PayloadReleased(_) => self.exception(Exception::PayloadsHeld, judged, word),
            Step::PayloadRead(_) => self.exception(Exception::PayloadsRead, judged, word),
            Step::SourceSampled(_) => self.exception(Exception::TableSampled, judged, word),
            Step::ReidentifyDecided(s) => {
                let what = match s.refusal {
                    None => Exception::ValuesGivenBack,
                    Some(_) => Exception::ValuesRefused,
                };
                self.exception(what, judged, word);
            }
            Step::IdentityRegistered(s) => {
                let row = IdentityRow {
                    identity: s.identity.clone(),
                    name: judged.registry.name(&s.identity).map(shown),
                    kind: s.kind,
                    admin: s.admin,
                    groups: s.groups.clone(),
                    owner: s.owner.clone(),
                    registered: judged.index,
                    revoked: None,
                    requests: Outcomes::default(),
                    rows: 0,
                    cells: Cells::default(),
                };
                self.identities.entry(s.identity.clone()).or_insert(row);
                self.exception(Exception::IdentityRegistered, judged, word);
            }
            Step::IdentityRevoked(s) => {
                if let Some(row) = self.identities.get_mut(&s.identity) {
                    row.revoked.get_or_insert(judged.index);
                }
                self.exception(Exception::IdentityRevoked, judged, word);
            }
            Step::GroupsChanged(s) => {
                if let Some(row) = self.identities.get_mut(&s.identity) {
                    row.groups.clone_from(&s.groups);
                }
                self.exception(Exception::GroupsChanged, judged, word);
            }
            Step::ApprovalGranted(s) => {
                self.answer(judged, (&s.identity, &s.groups, s.request), Some(s.not_after.get()), word);
            }
            Step::ApprovalDenied(s) => self.answer(judged, (&s.identity, &s.groups, s.request), None, word),
            Step::ApprovalRevoked(_) => {
                let granted = judged.state.and_then(|state| state.request);
                let row = self
                    .approvals
                    .rows
                    .iter_mut()
                    .rev()
                    .find(|row| Some(row.request) == granted && row.revoked.is_none());
                if let Some(row) = row {
                    row.revoked = Some(judged.index);
                }
                self.exception(Exception::ApprovalRevoked, judged, word);
            }
            _ => {}
        }
    }

    fn answer(
        &mut self,
        judged: &Judged<'_>,
        (approver, groups, request): (&str, &[String], TraceId),
        not_after: Option<u64>,
        word: Word,
    ) {
        let tale = self.open.get(&request);
        self.approvals.add(ApprovalRow {
            entry: judged.index,
            at_micros: judged.entry.map_or(0, |entry| entry.at.get()),
            granted: not_after.is_some(),
            approver: approver.to_owned(),
            groups: groups.to_vec(),
            request,
            requester: tale.and_then(|tale| tale.identity.clone()),
            dataset: tale.and_then(|tale| tale.dataset.clone()),
            not_after,
            used: None,
            revoked: None,
            word,
        });
    }

    /// Ends the walk: what is still open is counted as such, and everything is put into rows.
    pub fn finish(mut self, report: &Report, context: Context) -> Review {
        let mut open: Vec<(TraceId, Tale)> = self.open.drain().collect();
        open.sort_unstable_by_key(|(trace, _)| *trace);
        for (trace, mut tale) in open {
            let waiting = matches!(tale.phase, Phase::ApprovalNeeded | Phase::Waiting | Phase::Approved);
            if tale.phase == Phase::Intended {
                self.exposed(&mut tale);
                let (index, word) = tale.lines.last().copied().unwrap_or((0, Word::Attested));
                let text = "An intent to deliver has no outcome yet: its bytes may or may not have left.".to_owned();
                self.exceptional(Exception::DeliveryUnresolved, (index, tale.received), text, word);
            }
            self.ended(trace, tale, if waiting { Outcome::Waiting } else { Outcome::Open });
        }
        let anchored = report.log.as_ref().is_some_and(|log| log.anchored);
        if !anchored {
            self.unanchor();
        }
        let timeline = timeline(&self.minutes);
        let columns =
            sorted(self.columns.into_values(), |row| (row.dataset.clone(), row.column.clone(), row.rule.clone()));
        let refused = self.refused.into_iter();
        let mut refused =
            sorted(refused.map(|((dataset, column), requests)| RefusedRow { dataset, column, requests }), |row| {
                (std::cmp::Reverse(row.requests), row.dataset.clone(), row.column.clone())
            });
        refused.total += self.refused_more;
        let mut identities: Vec<IdentityRow> = self.identities.into_values().collect();
        identities.sort_by_key(|row| (std::cmp::Reverse(row.requests.total()), row.registered));
        let exceptions =
            Exception::ALL.iter().map(|what| (what.words(), self.exceptions.remove(what).unwrap_or_default()));
        let names: BTreeMap<String, String> =
            identities.iter().filter_map(|row| Some((row.identity.clone(), row.name.clone()?))).collect();
        let stories = self.sample.tell(&context.export, report.log.as_ref(), &names, context.stories_max);
        let mut review = Review {
            schema: SCHEMA,
            generator: concat!("countersign-verify ", env!("CARGO_PKG_VERSION")),
            verdict: report.verdict,
            exit: report.exit,
            options: context.options,
            log: report.log.clone(),
            story: report.story.clone(),
            checkpoint: context.checkpoint,
            findings_total: report.findings_total,
            findings: report.findings.clone(),
            quorum: self.quorum,
            requests: self.requests,
            rows: self.rows,
            bytes: self.bytes,
            cells: self.cells,
            exposed: self.exposed,
            timeline,
            identities,
            asks: sorted(self.asks.into_values(), |row| {
                (
                    std::cmp::Reverse(row.requests.total()),
                    row.identity.clone(),
                    row.dataset.clone(),
                    row.purpose.clone(),
                )
            }),
            columns,
            refused,
            refused_unknown: self.refused_unknown,
            policies: sorted(self.policies.into_values(), |row| {
                (std::cmp::Reverse(row.permit + row.needs_approval + row.deny), row.policy.clone())
            }),
            default_denials: self.default_denials,
            versions: self.versions,
            approvals: self.approvals,
            reasons: (self.reasons.into_iter())
                .map(|((what, reason), (count, last))| ReasonRow { what, reason, count, last })
                .collect(),
            exceptions: exceptions.collect(),
            criteria: Vec::new(),
            stories,
        };
        review.criteria = criteria::supported(&review);
        review
    }

    fn unanchor(&mut self) {
        let words = self.versions.rows.iter_mut().map(|row| &mut row.word);
        let words = words.chain(self.approvals.rows.iter_mut().map(|row| &mut row.word));
        let rows = self.exceptions.values_mut().flat_map(|rows| rows.rows.iter_mut());
        for word in words.chain(rows.map(|row| &mut row.word)) {
            *word = word.anchored(false);
        }
    }
}

/// What the review needs besides the walk.
#[derive(Debug)]
pub struct Context {
    /// The evidence, for the entries and proofs of the stories that are shown.
    pub export: crate::export::Export,
    /// The checkpoint as text.
    pub checkpoint: String,
    /// The options that were given.
    pub options: Vec<String>,
    /// How many stories are shown.
    pub stories_max: usize,
}

fn sorted<T, K: Ord>(rows: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> Rows<T> {
    let mut rows: Vec<T> = rows.collect();
    rows.sort_by_cached_key(key);
    let total = rows.len() as u64;
    rows.truncate(ROWS_MAX);
    Rows { total, rows: rows.into() }
}

/// How long a stretch of the timeline may be, in minutes.
const STRETCHES: [u64; 10] = [1, 5, 15, 60, 360, 1_440, 10_080, 43_200, 129_600, 525_600];

/// How many stretches are shown.
const STRETCHES_MAX: u64 = 60;

fn timeline(minutes: &BTreeMap<u64, Outcomes>) -> Timeline {
    let (Some((first, _)), Some((last, _))) = (minutes.first_key_value(), minutes.last_key_value()) else {
        return Timeline::default();
    };
    let count = |stretch: u64| last / stretch - first / stretch + 1;
    let stretch = STRETCHES.into_iter().find(|stretch| count(*stretch) <= STRETCHES_MAX);
    // An impossible time in a broken ledger must not cost memory.
    let stretch = stretch.unwrap_or_else(|| (last - first) / (STRETCHES_MAX - 1) + 1);
    let mut buckets: Vec<Bucket> = (first / stretch..=last / stretch)
        .map(|at| Bucket { from_micros: (at * stretch).saturating_mul(60_000_000), requests: Outcomes::default() })
        .collect();
    for (minute, outcomes) in minutes {
        let at = usize::try_from(minute / stretch - first / stretch).unwrap_or(usize::MAX);
        if let Some(bucket) = buckets.get_mut(at) {
            bucket.requests.add_all(outcomes);
        }
    }
    Timeline { bucket_seconds: stretch * 60, buckets }
}
