//! One story in plain words: what each entry of a trace says, where it stands, and how far it can be believed. The words are
//! made from the entry alone; how far they can be believed is what the walk over the whole ledger found.

use crate::export::{BUNDLE_BYTES_MAX, Export, Fetched, NOTE_BYTES_MAX};
use crate::finding::Verdict;
use crate::observe::{Judged, Observer};
use crate::report::Report;
use crate::story::place_of;
use crate::time::{seconds, utc};
use countersign_ledger::evidence::step::{Attest, DecidedColumn, MaskedColumn, Signed, Verdict as Decision};
use countersign_ledger::evidence::{MAX_ENTRY_BYTES, Step, TraceId};
use countersign_ledger::tlog::{BundlePath, Epochs, TreeSize, decode_bundle};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The name of the schema of `explain --json`.
pub const SCHEMA: &str = "countersign-explain/1";

/// How far an entry can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// What it claims follows from signatures and hashes that the auditor's key anchors.
    Proven,
    /// That it was recorded is proven; what it says is the service's word.
    Attested,
    /// It is there, and wrong.
    Broken,
}

impl Word {
    /// What an entry came to.
    pub fn of(judged: &Judged<'_>) -> Self {
        if judged.findings.iter().any(|finding| finding.verdict == Verdict::Broken) {
            Self::Broken
        } else if judged.findings.is_empty() && judged.claims.iter().all(|(_, proven)| *proven) {
            Self::Proven
        } else {
            Self::Attested
        }
    }

    /// Nothing is proven by a ledger whose entries no signed root vouches for.
    pub fn anchored(self, anchored: bool) -> Self {
        if anchored { self } else { self.max(Self::Attested) }
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Attested => "attested",
            Self::Broken => "broken",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One entry in words.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The entry's index.
    pub entry: u64,
    /// Microseconds of Unix time.
    pub at_micros: u64,
    /// Its trace.
    pub trace: TraceId,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// How far it can be believed.
    pub word: Word,
    /// What it says.
    pub text: String,
}

/// What is to be explained.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// The story that an entry belongs to.
    Entry(u64),
    /// A story by the name of its trace.
    Trace(TraceId),
}

/// Listens to a walk and keeps the lines of one story: those of its trace, and for a request those of the answers to it.
#[derive(Debug, Default)]
pub struct Listener {
    traces: BTreeSet<TraceId>,
    lines: Vec<Line>,
}

impl Listener {
    /// Listens for the story of that trace.
    pub fn new(trace: TraceId) -> Self {
        Self { traces: BTreeSet::from([trace]), lines: Vec::new() }
    }

    /// The story of that trace, in the order of the log.
    pub fn finish(mut self, trace: TraceId, ledger: Report) -> Explained {
        let anchored = ledger.log.as_ref().is_some_and(|log| log.anchored);
        self.lines.iter_mut().for_each(|line| line.word = line.word.anchored(anchored));
        Explained { schema: SCHEMA, trace, lines: self.lines, ledger }
    }
}

impl Observer for Listener {
    fn entry(&mut self, judged: &Judged<'_>) {
        let Some(entry) = judged.entry else { return };
        let answers = match &entry.body {
            Step::ApprovalGranted(s) => Some(s.request),
            Step::ApprovalDenied(s) => Some(s.request),
            _ => None,
        };
        if answers.is_some_and(|request| self.traces.contains(&request)) {
            self.traces.insert(entry.trace);
        }
        if !self.traces.contains(&entry.trace) {
            return;
        }
        let name = |pseudonym: &str| called(pseudonym, judged.registry.name(pseudonym));
        let mut text = say(&entry.body, &name);
        if let (Step::IdentityVerified(_), Some(asked)) = (&entry.body, judged.request) {
            let columns = list(asked.columns.iter().map(|c| tick(c)));
            text += &format!(" It asks for {columns} of {}, for {}.", tick(&asked.dataset), tick(&asked.purpose));
        }
        for finding in judged.findings {
            text += &format!(
                " [{}] {}: found {}, expected {}.",
                finding.code, finding.conclude, finding.found, finding.expected
            );
        }
        self.lines.push(Line {
            entry: judged.index,
            at_micros: entry.at.get(),
            trace: entry.trace,
            kind: entry.body.kind(),
            word: Word::of(judged),
            text,
        });
    }
}

/// A story as `explain` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// The name of the schema.
    pub schema: &'static str,
    /// The trace that was asked for.
    pub trace: TraceId,
    /// Its lines.
    pub lines: Vec<Line>,
    /// What the whole ledger came to.
    pub ledger: Report,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.ledger.verdict {
            Verdict::Proven => "proven",
            Verdict::Broken => "BROKEN: what follows is only as good as what `countersign-verify log` finds",
            Verdict::Unreadable => "unreadable in part",
            Verdict::NotProvable => "not provable with what was given",
        };
        writeln!(f, "trace   {}", self.trace)?;
        if let Some(log) = &self.ledger.log {
            writeln!(f, "ledger  {} at {} entries: {verdict}", log.origin, log.size)?;
        }
        writeln!(f)?;
        let width = self.lines.last().map_or(1, |line| line.entry.to_string().len());
        let mut words = BTreeMap::<Word, usize>::new();
        for line in &self.lines {
            *words.entry(line.word).or_default() += 1;
            let own = if line.trace == self.trace { "" } else { "(its own trace) " };
            writeln!(f, "entry {:>width$}  {:8}  {}", line.entry, line.word, utc(line.at_micros))?;
            writeln!(f, "{:indent$}{own}{}", "", line.text, indent = width + 8)?;
        }
        let counts = words.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ");
        writeln!(f, "\n{} entries: {counts}", self.lines.len())?;
        writeln!(f, "proven: follows from signatures and hashes that your key anchors")?;
        writeln!(f, "attested: recorded for certain; what it says is the service's word")
    }
}

/// The trace that an entry belongs to, before anything is known of it but where it should stand; in words, why not.
pub fn trace_of(export: &Export, keys: &Epochs, index: u64) -> Result<TraceId, String> {
    let Fetched::Bytes(note) = export.read("checkpoint", NOTE_BYTES_MAX) else {
        return Err("the evidence holds no checkpoint that can be read".into());
    };
    let size = keys.open(&note).map_err(|why| format!("the checkpoint: {why}"))?.checkpoint().size;
    if index >= size.get() {
        return Err(format!("there is no entry {index} among {size}"));
    }
    let bytes = entry_bytes(export, index, size).ok_or_else(|| format!("entry {index} is not in this evidence"))?;
    place_of(index, &bytes).trace.ok_or_else(|| format!("entry {index} names no trace"))
}

/// The bytes of one entry, where they came along.
pub fn entry_bytes(export: &Export, index: u64, size: TreeSize) -> Option<Vec<u8>> {
    let bundle = index / 256;
    let width = u16::try_from(size.get().saturating_sub(bundle * 256).min(256)).ok()?;
    match export.read(&BundlePath { index: bundle, width }.to_string(), BUNDLE_BYTES_MAX) {
        Fetched::Bytes(bytes) => {
            decode_bundle(&bytes).ok()?.get(usize::try_from(index % 256).ok()?).map(|e| e.to_vec())
        }
        // A part of a ledger holds single entries.
        Fetched::Missing => match export.read(&format!("entry/{index}"), MAX_ENTRY_BYTES as u64) {
            Fetched::Bytes(bytes) => Some(bytes),
            _ => None,
        },
        Fetched::Failed(_) => None,
    }
}

/// A pseudonym, with the name where a record that resolves it came along.
pub fn called(pseudonym: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("`{name}` ({pseudonym})"),
        None => pseudonym.to_owned(),
    }
}

/// What a step says, in plain words. `name` gives the words for a pseudonym.
pub fn say(step: &Step, name: &dyn Fn(&str) -> String) -> String {
    match step {
        Step::LogCreated(s) => {
            format!(
                "The ledger {} began. {} must sign a change.",
                tick(&s.origin),
                many(s.quorum.get().max(1), "admin")
            )
        }
        Step::IdentityRegistered(s) => {
            let role = if s.admin { format!("{} and admin", s.kind) } else { s.kind.to_string() };
            let groups = if s.groups.is_empty() { "no group".into() } else { list(s.groups.iter().map(|g| tick(g))) };
            let mut text = format!(
                "{} was registered as {role}, in {groups}, until {}",
                name(&s.identity),
                seconds(s.not_after.get())
            );
            if let Some(owner) = &s.owner {
                text += &format!("; it is owned by {}", name(owner));
            }
            if let Some(other) = &s.on_behalf_of {
                text += &format!("; it may act for {}", name(other));
            }
            let by =
                s.signed.as_ref().map_or("It entered with the ledger itself.".into(), |signed| signed_by(signed, name));
            format!("{text}. {by}")
        }
        Step::IdentityRevoked(s) => {
            format!(
                "{} was revoked ({}): its key counts no longer. {}",
                name(&s.identity),
                s.reason,
                signed_by(&s.signed, name)
            )
        }
        Step::GroupsChanged(s) => {
            let groups = if s.groups.is_empty() { "none".into() } else { list(s.groups.iter().map(|g| tick(g))) };
            format!("The groups of {} became {groups}. {}", name(&s.identity), signed_by(&s.signed, name))
        }
        Step::PolicyChanged(s) => {
            format!(
                "Policy version {} took effect (SHA-256 {}). {}",
                s.version,
                short(&s.digest),
                signed_by(&s.signed, name)
            )
        }
        Step::CatalogChanged(s) => {
            format!(
                "Catalog version {} took effect (SHA-256 {}). {}",
                s.version,
                short(&s.digest),
                signed_by(&s.signed, name)
            )
        }
        Step::ConnectionChanged(s) => {
            format!(
                "The connection {} ({}) was registered or described anew. {}",
                tick(&s.connection),
                s.kind,
                signed_by(&s.signed, name)
            )
        }
        Step::LogKeyRotated(s) => {
            format!(
                "The ledger's key was replaced by {}, from {} entries on; both keys signed that.",
                tick(&s.key),
                s.size
            )
        }
        Step::PayloadPurged(s) => {
            let kept = if s.kept.get() == 0 { String::new() } else { format!("; {} of that day stayed", s.kept) };
            format!(
                "{} of class {} of {} were destroyed with their keys, since the class is kept for {}{kept}.",
                many(s.payloads.get(), "payload"),
                tick(s.class.as_str()),
                s.day,
                many(s.after_days.get(), "day")
            )
        }
        Step::PayloadHeld(s) => {
            format!(
                "The payloads of {} are held, whatever their age (hold {}).",
                many(s.traces.len() as u64, "trace"),
                s.hold
            )
        }
        Step::PayloadReleased(s) => format!("The hold {} is over.", s.hold),
        Step::PayloadRead(s) => {
            let by = s.by.as_ref().map_or("an operator on the service's own machine".into(), |by| name(by));
            let of = s.of.map_or(String::new(), |trace| format!(" of {}", short(&trace)));
            format!(
                "{} ({}){of} were shown to {by}: {}.",
                many(s.payloads.get(), "payload"),
                list(s.classes.iter().map(|class| tick(class.as_str()))),
                s.why
            )
        }
        Step::LedgerExported(s) => {
            let mut what = Vec::new();
            what.extend(s.request.map(|trace| format!("request {}", short(&trace))));
            what.extend(s.identity.as_ref().map(|identity| format!("requests of {}", name(identity))));
            what.extend(s.dataset.as_ref().map(|dataset| format!("requests for {}", tick(dataset))));
            what.extend(s.from.map(|from| format!("from {}", seconds(from.get()))));
            what.extend(s.to.map(|to| format!("before {}", seconds(to.get()))));
            let what = if what.is_empty() { "The whole ledger".into() } else { capital(&what.join(", ")) };
            let with = if s.payloads.is_empty() {
                "no payloads".into()
            } else {
                format!("the payloads {} in the clear", list(s.payloads.iter().map(|c| tick(c))))
            };
            let by = s.by.as_ref().map_or("on the service's own machine".into(), |by| format!("for {}", name(by)));
            format!("{what} was packed into one file {by}, with {with}.")
        }
        Step::RequestRejected(s) => format!(
            "{} at {}, partition {}, offset {} could be held to nobody and {} rejected: {}.",
            if s.count.get() == 1 { "A record".into() } else { format!("{} records from the one", s.count) },
            tick(&s.topic),
            s.partition,
            s.offset,
            if s.count.get() == 1 { "was" } else { "were" },
            tick(s.reason.as_str()),
        ),
        Step::RequestReceived(s) => format!(
            "A request of {} came in by {}: topic {}, partition {}, offset {}.",
            many(s.bytes.get(), "byte"),
            s.door,
            tick(&s.topic),
            s.partition,
            s.offset
        ),
        Step::IdentityVerified(s) => match s.attest {
            Attest::CallerSigned => {
                format!("{} signed it, with the key registered at entry {}.", name(&s.identity), s.registered)
            }
            Attest::ServiceAttested => format!(
                "The service says that {} sent it; a bearer token was shown, so there is no signature of the caller.",
                name(&s.identity)
            ),
        },
        Step::PolicyDecided(s) => {
            let by = if s.policies.is_empty() { "no policy".into() } else { list(s.policies.iter().map(|p| tick(p))) };
            let what =
                || format!("{} of {}", obligations(&s.columns), dataset(s.connection.as_deref(), s.table.as_deref()));
            let purpose = s.purpose.as_ref().map(|p| format!(", for {}", tick(p))).unwrap_or_default();
            match s.verdict {
                Decision::Permit => format!("Policy permitted {}{purpose}. Decided by {by}.", what()),
                Decision::NeedsApproval => format!(
                    "Policy permits {}{purpose} once {} approve. Decided by {by}.",
                    what(),
                    list(s.approval.iter().map(|g| tick(g)))
                ),
                Decision::Deny if s.policies.is_empty() => "Policy refused: nothing permits it.".into(),
                Decision::Deny => format!("Policy refused. Decided by {by}."),
            }
        }
        Step::RequestDenied(s) => format!("The request was denied: {}.", tick(s.reason.as_str())),
        Step::ApprovalRequested(s) => {
            format!(
                "{} were asked; an answer counts until {}.",
                list(s.groups.iter().map(|g| tick(g))),
                seconds(s.not_after.get())
            )
        }
        Step::ApprovalGranted(s) => format!(
            "{} said yes for {}, to exactly this request and these obligations, good from {} until {}.",
            name(&s.identity),
            list(s.groups.iter().map(|g| tick(g))),
            seconds(s.not_before.get()),
            seconds(s.not_after.get())
        ),
        Step::ApprovalDenied(s) => {
            format!("{} said no for {}.", name(&s.identity), list(s.groups.iter().map(|g| tick(g))))
        }
        Step::ApprovalRevoked(s) => format!("{} took the yes back.", name(&s.identity)),
        Step::ApprovalUsed(s) => format!("The request relies on the approval at entry {}.", s.index),
        Step::SourceQueried(s) => format!(
            "Attempt {}: a query for {} of {} was about to be sent, on snapshot {}.",
            s.attempt,
            list(s.columns.iter().map(|c| tick(c))),
            dataset(Some(&s.connection), Some(&s.table)),
            tick(&s.snapshot)
        ),
        Step::ChunkMasked(s) => {
            format!(
                "Attempt {}: {} came back and were masked: {}.",
                s.attempt,
                many(s.rows.get(), "row"),
                account(&s.columns)
            )
        }
        Step::DeliveryIntended(s) => format!(
            "Attempt {}: {} in {} ({}) were about to leave to {}; exactly these bytes are committed to.",
            s.attempt,
            many(s.bytes.get(), "byte"),
            many(s.parts.get(), "part"),
            s.format,
            name(&s.to)
        ),
        Step::DeliveryCommitted(s) => format!(
            "Attempt {}: they were delivered; the status record stands at partition {}, offset {}.",
            s.attempt, s.status_partition, s.status_offset
        ),
        Step::DeliveryAborted(s) => format!(
            "Attempt {} was superseded ({}). That is not undisclosed: a reader of uncommitted records may have seen its bytes.",
            s.attempt,
            tick(s.reason.as_str())
        ),
        Step::SourceSampled(s) => format!(
            "{} was about to look at up to {} of {}, to find classes for {}; what came of it are counts.",
            name(&s.identity),
            many(s.rows.get(), "row"),
            dataset(Some(&s.connection), Some(&s.table)),
            list(s.columns.iter().map(|c| tick(c)))
        ),
        Step::ReidentifyDecided(s) => {
            let by = if s.policies.is_empty() { "no policy".into() } else { list(s.policies.iter().map(|p| tick(p))) };
            let asked = format!("{} asked for the values behind {}", name(&s.identity), many(s.count.get(), "token"));
            match (&s.refusal, &s.column) {
                (None, Some(column)) => format!(
                    "{asked} of {} of {}, and was given them ({}). Decided by {by}.",
                    tick(column),
                    dataset(s.connection.as_deref(), s.table.as_deref()),
                    tick(s.rule.as_deref().unwrap_or_default())
                ),
                (refusal, _) => format!("{asked} and was refused: {}.", tick(refusal.map_or("", |r| r.as_str()))),
            }
        }
        Step::RequestCompleted(s) => format!("The request was answered, by attempt {}.", s.attempt),
        Step::RequestFailed(s) => {
            format!("The request was permitted and came to nothing: {}.", tick(s.reason.as_str()))
        }
    }
}

fn signed_by(signed: &Signed, name: &dyn Fn(&str) -> String) -> String {
    match signed.by.as_slice() {
        [] => "Nobody signed it.".into(),
        by => format!("Signed by {}.", list(by.iter().map(|by| name(&by.admin)))),
    }
}

/// `connection.table`.
pub fn dataset(connection: Option<&str>, table: Option<&str>) -> String {
    format!("`{}.{}`", connection.unwrap_or_default(), table.unwrap_or_default())
}

fn obligations(columns: &[DecidedColumn]) -> String {
    let clear = columns.iter().filter(|c| c.rule == "clear").map(|c| tick(&c.column));
    let masked =
        columns.iter().filter(|c| c.rule != "clear").map(|c| format!("{} as {}", tick(&c.column), tick(&c.rule)));
    both(list(clear), list(masked), "clear", "masked")
}

fn account(columns: &[MaskedColumn]) -> String {
    let clear = columns.iter().filter(|c| c.transform == "clear").map(|c| tick(&c.column));
    let masked = (columns.iter().filter(|c| c.transform != "clear"))
        .map(|c| format!("{} by {} ({} of {} cells changed)", tick(&c.column), tick(&c.transform), c.changed, c.seen));
    both(list(clear), list(masked), "clear", "masked")
}

fn both(one: String, other: String, is: &str, is_other: &str) -> String {
    match (one.is_empty(), other.is_empty()) {
        (false, false) => format!("{one} {is}, {other} {is_other}"),
        (false, true) => format!("{one} {is}"),
        (true, false) => format!("{other} {is_other}"),
        (true, true) => "no column".into(),
    }
}

/// Text of evidence, marked as such.
fn tick(text: &str) -> String {
    format!("`{text}`")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn short(hash: &impl ToString) -> String {
    let hash = hash.to_string();
    format!("{}…", hash.get(..12).unwrap_or(&hash))
}

fn many(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `a, b and c`.
fn list(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<String> = items.collect();
    match items.pop() {
        None => String::new(),
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} and {last}", items.join(", ")),
    }
}
