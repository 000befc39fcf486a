//! Every decision of a ledger, made again: from the committed texts, with the very code that decides. The registry is built up entry
//! by entry, as the service's own is, so each decision meets the identities, groups, policy and catalog that were in force at its
//! place; the request comes from its payload, the time from the entry, and what was known of the table from the decision in full.
//!
//! What cannot be made again is told apart from what comes out otherwise: a payload that is not there is no contradiction. And a
//! few answers rest on what only the service saw, such as a source that did not answer; these are counted by themselves.
//! Whether entries and payloads are the signed ones is the verify tool's to say; here payloads are held against their commitments.

use crate::identity::Registry;
use crate::identity::claims::{Authentic, ReidentifyClaims, RequestClaims};
use crate::identity::registry::Payloads;
use crate::pipeline::request::{Decided, DecisionDocument, Identified, Known};
use crate::reidentify;
use countersign_ledger::evidence::jws::{MAX_TOKEN_BYTES, Unverified};
use countersign_ledger::evidence::step::{PolicyDecided, ReidentifyDecided, Text, Verdict};
use countersign_ledger::evidence::{Class, Commitment, Entry, Reason, Salt, Step, TraceId};
use countersign_ledger::store::Ledger;
use countersign_ledger::tlog::{Hash, TreeSize, bundles_for_size, decode_bundle};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What a decision comes to when it is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The same.
    Follows,
    /// The same, as far as it can be told: the reason given is something that only the service saw.
    OnItsWord(Reason),
    /// Something else, in these points.
    Differs(Vec<String>),
    /// It cannot be made again, since this is not there.
    Missing(String),
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The index of its entry.
    pub index: u64,
    /// Its trace.
    pub trace: TraceId,
    /// What it comes to.
    pub outcome: Outcome,
}

/// A ledger to read.
pub trait Evidence: Payloads {
    /// How many entries it has.
    fn size(&self) -> u64;
    /// One of them.
    fn entry(&self, index: u64) -> Result<Entry, String>;
}

impl Evidence for Ledger {
    fn size(&self) -> u64 {
        Self::size(self).get()
    }

    fn entry(&self, index: u64) -> Result<Entry, String> {
        Self::entry(self, index).map_err(|e| e.to_string())?.ok_or_else(|| format!("entry {index} is missing"))
    }
}

/// An export with payloads.
pub struct Export {
    dir: PathBuf,
    entries: Vec<Entry>,
}

impl Export {
    /// Reads the entries of an export.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let read = |path: &str| std::fs::read(dir.join(path)).map_err(|e| format!("`{path}`: {e}"));
        let checkpoint = String::from_utf8(read("checkpoint")?).map_err(|_| "`checkpoint` is not text".to_owned())?;
        let size = checkpoint.lines().nth(1).and_then(|line| line.parse().ok());
        let size: u64 = size.ok_or_else(|| "`checkpoint` names no size".to_owned())?;
        let mut entries = Vec::new();
        for path in bundles_for_size(TreeSize::new(size)) {
            let path = path.to_string();
            let bytes = read(&path)?;
            for bytes in decode_bundle(&bytes).map_err(|e| format!("`{path}`: {e}"))? {
                entries.push(Entry::decode(bytes).map_err(|e| format!("entry {}: {e}", entries.len()))?);
            }
        }
        Ok(Self { dir: dir.to_owned(), entries })
    }
}

impl Payloads for Export {
    fn bytes(&self, commitment: &Commitment) -> Result<Option<Vec<u8>>, String> {
        let path = format!("payload/{commitment}");
        let bytes = match std::fs::read(self.dir.join(&path)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("`{path}`: {error}")),
        };
        let payload =
            read_payload(&bytes).filter(|(class, salt, bytes)| Commitment::to(*class, salt, bytes) == *commitment);
        payload
            .map(|(_, _, bytes)| Some(bytes.to_vec()))
            .ok_or_else(|| format!("`{path}` is not what it is named after"))
    }
}

fn read_payload(bytes: &[u8]) -> Option<(Class, Salt, &[u8])> {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let class = Class::from_name(std::str::from_utf8(lines.next()?).ok()?)?;
    let salt = Hash::from_hex(std::str::from_utf8(lines.next()?).ok()?).ok()?;
    Some((class, *salt.as_bytes(), lines.next()?))
}

impl Evidence for Export {
    fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    fn entry(&self, index: u64) -> Result<Entry, String> {
        let entry = usize::try_from(index).ok().and_then(|index| self.entries.get(index));
        entry.cloned().ok_or_else(|| format!("entry {index} is missing"))
    }
}

/// What is remembered of a request.
#[derive(Default)]
struct Story {
    door: String,
    request: Option<Commitment>,
    digest: Option<Hash>,
    /// The caller's pseudonym.
    identity: String,
    /// Groups and obligations that people were asked about.
    asked: Option<(Vec<String>, Hash)>,
    /// Whether approvals are relied on.
    approved: bool,
    /// A refusal whose reason the next entry gives.
    refused: Option<(u64, PolicyDecided, Result<Decided, Outcome>)>,
}

/// A request that counts for a rate.
struct Counted {
    trace: TraceId,
    policy: Hash,
    time: u64,
    at: u64,
}

/// How far apart the service's clock and the entry's time may be where a permit is held against a rate, in seconds.
const SLACK: u64 = 5;

/// Goes through a ledger and makes its decisions again.
struct Redecider<'a> {
    evidence: &'a dyn Evidence,
    registry: Registry,
    /// The texts that came into force and are not there.
    missing_texts: HashSet<Hash>,
    stories: HashMap<TraceId, Story>,
    /// By pseudonym and policy.
    rates: HashMap<(String, String), Vec<Counted>>,
}

/// Makes every decision again, and tells of each. An error is about evidence that cannot be read, not about decisions.
pub fn redecide(evidence: &dyn Evidence, mut tell: impl FnMut(Judged)) -> Result<(), String> {
    let mut redecider = Redecider {
        evidence,
        registry: Registry::default(),
        missing_texts: HashSet::new(),
        stories: HashMap::new(),
        rates: HashMap::new(),
    };
    for index in 0..evidence.size() {
        let entry = evidence.entry(index)?;
        redecider.take(index, &entry, &mut tell)?;
    }
    // Refusals whose trace ends before its reason is given.
    let mut left: Vec<_> =
        redecider.stories.into_iter().filter_map(|(t, s)| s.refused.map(|r| (r.0, t, r.2))).collect();
    left.sort_unstable_by_key(|(index, ..)| *index);
    for (index, trace, remade) in left {
        let outcome = remade.err().unwrap_or_else(|| Outcome::Missing("the reason of the refusal".into()));
        tell(Judged { index, trace, outcome });
    }
    Ok(())
}

impl Redecider<'_> {
    fn take(&mut self, index: u64, entry: &Entry, tell: &mut impl FnMut(Judged)) -> Result<(), String> {
        let trace = entry.trace;
        let judged = |outcome| Judged { index, trace, outcome };
        match &entry.body {
            Step::RequestReceived(s) => {
                let story = Story {
                    door: s.door.to_string(),
                    request: Some(s.request),
                    digest: Some(s.digest),
                    ..Story::default()
                };
                self.stories.insert(trace, story);
            }
            Step::IdentityVerified(s) => self.story(trace).identity.clone_from(&s.identity),
            Step::ApprovalRequested(s) => {
                let story = self.story(trace);
                story.asked = Some((s.groups.clone(), s.obligations));
                story.approved = false;
            }
            Step::ApprovalUsed(_) => self.story(trace).approved = true,
            Step::PolicyDecided(s) => {
                let remade = self.remake(trace, s)?;
                if s.verdict == Verdict::Deny {
                    self.story(trace).refused = Some((index, s.clone(), remade));
                    return Ok(());
                }
                let at = entry.at.get() / 1_000_000;
                let outcome = match remade {
                    Err(outcome) => outcome,
                    Ok(remade) => self.compare(trace, s, &remade)?,
                };
                tell(judged(outcome));
                self.count(trace, s, at);
            }
            Step::RequestDenied(s) => {
                if let Some((index, step, remade)) = self.story(trace).refused.take() {
                    let outcome = match remade {
                        Err(outcome) => outcome,
                        Ok(remade) => self.refusal(trace, &step, s.reason, &remade)?,
                    };
                    tell(Judged { index, trace, outcome });
                }
                self.stories.remove(&trace);
            }
            Step::RequestCompleted(_) | Step::RequestFailed(_) => drop(self.stories.remove(&trace)),
            Step::ReidentifyDecided(s) => {
                let outcome = self.reidentified(s)?;
                tell(judged(outcome));
            }
            step => {
                if let Step::PolicyChanged(s) = step
                    && self.evidence.bytes(&s.document)?.is_none()
                {
                    self.missing_texts.insert(s.digest);
                }
                if let Step::CatalogChanged(s) = step
                    && self.evidence.bytes(&s.document)?.is_none()
                {
                    self.missing_texts.insert(s.digest);
                }
                // What cannot be taken in is missing where something relies on it, and told there.
                let _ = self.registry.apply(self.evidence, index, entry);
            }
        }
        Ok(())
    }

    fn story(&mut self, trace: TraceId) -> &mut Story {
        self.stories.entry(trace).or_default()
    }

    /// Whether the texts that a decision names are those in force here.
    fn texts(&self, policy: Hash, catalog: Hash) -> Result<(), Outcome> {
        let in_force = self.registry.digests();
        for (what, named, here) in [("policy", policy, in_force.0), ("catalog", catalog, in_force.1)] {
            if self.missing_texts.contains(&named) {
                return Err(Outcome::Missing(format!("the text of {what} {named}")));
            }
            if named != here {
                return Err(Outcome::Differs(vec![format!("{what}: {here} is in force here")]));
            }
        }
        Ok(())
    }

    /// The bytes of a token's claims, unverified: who signed is the verify tool's to say.
    fn claims<T: serde::de::DeserializeOwned>(&self, token: &Commitment) -> Result<Result<T, Outcome>, String> {
        let Some(bytes) = self.evidence.bytes(token)? else {
            return Ok(Err(Outcome::Missing("the request".into())));
        };
        let claims = Unverified::parse(bytes.get(..MAX_TOKEN_BYTES.min(bytes.len())).unwrap_or_default())
            .and_then(|token| token.claims_unverified());
        Ok(claims.map_err(|reason| Outcome::Differs(vec![format!("the request is none: {reason}")])))
    }

    /// Makes a decision again. The inner error is what it comes to where it cannot be.
    fn remake(&mut self, trace: TraceId, s: &PolicyDecided) -> Result<Result<Decided, Outcome>, String> {
        let Some(story) = self.stories.get(&trace) else {
            return Ok(Err(Outcome::Missing("the beginning of its trace".into())));
        };
        if let Err(outcome) = self.texts(s.policy, s.catalog) {
            return Ok(Err(outcome));
        }
        let (Some(request), Some(digest)) = (story.request, story.digest) else {
            return Ok(Err(Outcome::Missing("the request".into())));
        };
        let claims = match self.claims::<RequestClaims>(&request)? {
            Ok(claims) => claims,
            Err(outcome) => return Ok(Err(outcome)),
        };
        let Some(identity) = self.registry.by_pseudonym(&story.identity).cloned() else {
            return Ok(Err(Outcome::Missing(format!("the record of `{}`", story.identity))));
        };
        if let (Some(_), Some(principal)) = (&claims.on_behalf_of, &identity.on_behalf_of)
            && self.registry.by_pseudonym(principal).is_none()
        {
            return Ok(Err(Outcome::Missing(format!("the record of `{principal}`"))));
        }
        let Some(document) = self.evidence.bytes(&s.document)? else {
            return Ok(Err(Outcome::Missing("the decision in full".into())));
        };
        let Ok(document) = serde_json::from_slice::<DecisionDocument>(&document) else {
            return Ok(Err(Outcome::Differs(vec!["the decision in full is none".into()])));
        };
        let request = Identified { identity, claims, digest, trace };
        let now = s.time.get();
        let schema = document.table.and_then(Known::schema);
        let decided = match request.check(now) {
            Err(reason) => request.refused(&self.registry, reason, now),
            Ok(()) => request.decide(&self.registry, schema.as_ref(), &story.door, now),
        };
        let mut decided = decided.map_err(|e| e.to_string())?;
        if story.approved
            && let Some((groups, obligations)) = &story.asked
        {
            decided.settle(groups, *obligations);
        }
        Ok(Ok(decided))
    }

    /// A permit, or one that needs approval, held against what was remade.
    fn compare(&self, trace: TraceId, s: &PolicyDecided, remade: &Decided) -> Result<Outcome, String> {
        if self.unknown_table(s)? {
            return Ok(Outcome::Missing("the columns of the table".into()));
        }
        let mut points = differences(s, &remade.step);
        if let Some(reason) = remade.reason {
            points.push(format!("made again it is refused: {reason}"));
        }
        let recorded = self.evidence.bytes(&s.document)?.unwrap_or_default();
        let plan = |bytes: &[u8]| serde_json::from_slice::<DecisionDocument>(bytes).ok().and_then(|d| d.plan);
        if plan(&recorded) != plan(&remade.document.bytes) {
            points.push("plan".into());
        }
        let story = self.stories.get(&trace);
        if story.is_some_and(|story| story.asked.is_none()) {
            for id in &s.policies {
                let Some(rate) = self.registry.policy.as_ref().and_then(|policy| policy.value.rate(id)) else {
                    continue;
                };
                let now = s.time.get();
                let counts = |c: &&Counted| {
                    c.trace != trace && c.policy == s.policy && c.time + rate.seconds > now + SLACK && c.time <= now
                };
                let key = (story.map(|story| story.identity.clone()).unwrap_or_default(), id.clone());
                if self.rates.get(&key).is_some_and(|c| c.iter().filter(counts).count() as u64 >= rate.requests) {
                    points.push(format!("asked more often than `{id}` allows"));
                }
            }
        }
        Ok(if points.is_empty() { Outcome::Follows } else { Outcome::Differs(points) })
    }

    /// A refusal, with the reason that was given, held against what was remade.
    fn refusal(&self, trace: TraceId, s: &PolicyDecided, reason: Reason, remade: &Decided) -> Result<Outcome, String> {
        let permits = remade.verdict != Verdict::Deny;
        match reason {
            _ if remade.reason == Some(reason) => {
                let points = differences(s, &remade.step);
                Ok(if points.is_empty() { Outcome::Follows } else { Outcome::Differs(points) })
            }
            // The rate is used up: then the ledger holds the requests that used it.
            Reason::LimitExceeded if permits && !s.policies.is_empty() => {
                let identity = self.stories.get(&trace).map(|story| story.identity.clone()).unwrap_or_default();
                let used = |id: &String| {
                    let rate = self.registry.policy.as_ref()?.value.rate(id)?;
                    let now = s.time.get();
                    let counts = |c: &&Counted| c.trace != trace && c.time.max(c.at) + rate.seconds > now;
                    let counted = self.rates.get(&(identity.clone(), id.clone()))?;
                    Some(counted.iter().filter(counts).count() as u64 >= rate.requests)
                };
                let determining = s.policies.iter().all(|id| remade.step.policies.contains(id));
                Ok(if determining && s.policies.iter().all(|id| used(id) == Some(true)) {
                    Outcome::Follows
                } else {
                    Outcome::Differs(vec!["no rate is used up here".into()])
                })
            }
            // What only the service saw: its source, or the size of the entry that would have been.
            Reason::SourceUnavailable | Reason::TooLarge if s.policies.is_empty() => Ok(Outcome::OnItsWord(reason)),
            _ if remade.known.is_some() && self.unknown_table(s)? => {
                Ok(Outcome::Missing("the columns of the table".into()))
            }
            _ => {
                let found = remade.reason.map_or_else(|| remade.verdict.to_string(), |reason| reason.to_string());
                Ok(Outcome::Differs(vec![format!("refused for `{reason}`, made again it comes to `{found}`")]))
            }
        }
    }

    /// Whether the decision in full says nothing of the table.
    fn unknown_table(&self, s: &PolicyDecided) -> Result<bool, String> {
        let document = self.evidence.bytes(&s.document)?;
        let document = document.and_then(|bytes| serde_json::from_slice::<DecisionDocument>(&bytes).ok());
        Ok(document.is_none_or(|document| document.table.is_none()))
    }

    fn count(&mut self, trace: TraceId, s: &PolicyDecided, at: u64) {
        let Some(story) = self.stories.get(&trace).filter(|story| story.asked.is_none()) else { return };
        let Some(policy) = &self.registry.policy else { return };
        for id in s.policies.iter().filter(|id| policy.value.rate(id).is_some()) {
            let counted = self.rates.entry((story.identity.clone(), id.clone())).or_default();
            counted.push(Counted { trace, policy: s.policy, time: s.time.get(), at });
        }
    }

    fn reidentified(&self, s: &ReidentifyDecided) -> Result<Outcome, String> {
        if let Err(outcome) = self.texts(s.policy, s.catalog) {
            return Ok(outcome);
        }
        let claims = match self.claims::<ReidentifyClaims>(&s.request)? {
            Ok(claims) => claims,
            Err(outcome) => return Ok(outcome),
        };
        let Some(identity) = self.registry.by_pseudonym(&s.identity).cloned() else {
            return Ok(Outcome::Missing(format!("the record of `{}`", s.identity)));
        };
        let call = Authentic { identity, claims, digest: s.digest };
        let decided = reidentify::decide(&self.registry, &call, s.time.get());
        if let Some(reason @ (Reason::SourceUnavailable | Reason::SchemaChanged)) = s.refusal
            && decided.answer.is_ok()
        {
            return Ok(Outcome::OnItsWord(reason));
        }
        let remade = decided.step(&call, s.request, s.count.get(), s.time.get());
        let points: Vec<String> = [
            ("verdict", s.verdict == remade.verdict),
            ("refusal", s.refusal == remade.refusal),
            ("policies", s.policies == remade.policies),
            ("connection", s.connection == remade.connection),
            ("table", s.table == remade.table),
            ("column", s.column == remade.column),
            ("rule", s.rule == remade.rule),
            ("purpose", s.purpose == remade.purpose),
            ("tokens", s.tokens == remade.tokens),
            ("reason", s.reason == remade.reason),
        ]
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(what, _)| what.to_owned())
        .collect();
        Ok(if points.is_empty() { Outcome::Follows } else { Outcome::Differs(points) })
    }
}

/// In what two decisions differ, in names of members; with both values where they are no personal data, as all of these are.
fn differences(recorded: &PolicyDecided, remade: &PolicyDecided) -> Vec<String> {
    let mut points = Vec::new();
    let mut differ = |what: &str, recorded: String, remade: String| {
        if recorded != remade {
            points.push(format!("{what}: recorded `{recorded}`, made again `{remade}`"));
        }
    };
    let text = |name: &Option<Text>| name.as_deref().unwrap_or_default().to_owned();
    differ("verdict", recorded.verdict.to_string(), remade.verdict.to_string());
    differ("policies", recorded.policies.join(", "), remade.policies.join(", "));
    differ("connection", text(&recorded.connection), text(&remade.connection));
    differ("table", text(&recorded.table), text(&remade.table));
    differ("purpose", text(&recorded.purpose), text(&remade.purpose));
    differ("approval", recorded.approval.join(", "), remade.approval.join(", "));
    let columns = |step: &PolicyDecided| {
        let columns = step.columns.iter().map(|c| serde_json::to_string(c).unwrap_or_default());
        columns.collect::<Vec<_>>().join(", ")
    };
    differ("columns", columns(recorded), columns(remade));
    differ("obligations", recorded.obligations.to_string(), remade.obligations.to_string());
    points
}

/// How many decisions came to what.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The same.
    pub follow: u64,
    /// The same, on the service's word.
    pub on_its_word: u64,
    /// Something else.
    pub differ: u64,
    /// Not to be made again.
    pub missing: u64,
}

impl Summary {
    /// Counts one more.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Follows => self.follow += 1,
            Outcome::OnItsWord(_) => self.on_its_word += 1,
            Outcome::Differs(_) => self.differ += 1,
            Outcome::Missing(_) => self.missing += 1,
        }
    }

    /// The exit code: 1 where a decision comes out otherwise, 3 where one cannot be made again, else 0.
    pub fn exit(&self) -> u8 {
        match self {
            Self { differ: 1.., .. } => 1,
            Self { missing: 1.., .. } => 3,
            _ => 0,
        }
    }
}
