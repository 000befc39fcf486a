//! The report on a whole ledger, for people and, under `--json`, for programs. The schema is `countersign-verify/1`: members
//! may be added, none is renamed or removed.

mod chart;
pub mod criteria;
pub mod html;
pub mod make;
pub mod page;
pub mod review;
pub mod sample;

use crate::finding::{Finding, Findings, Verdict};
use crate::story::{Claim, Claims, Count, Outcomes};
use crate::time::utc;
use countersign_ledger::tlog::Hash;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The name of the schema.
pub const SCHEMA: &str = "countersign-verify/1";

/// How many findings are printed for people.
const PRINTED_MAX: usize = 50;

/// What a command has found out, as a program reads it. Members that a command has nothing to say about are left out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The command: `log`, `receipt`, `chunk`, `row`, `consistency` or `fork`.
    pub command: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// The exit code.
    pub exit: u8,
    /// The log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogFacts>,
    /// What the entries tell; left out with `--tree-only`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub story: Option<StoryFacts>,
    /// What was proven, in one sentence; left out where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The entry that a receipt proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<serde_json::Value>,
    /// A fork proof, where two checkpoints were met that cannot both be true and that could be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork_proof: Option<String>,
    /// How many findings there are; more than are listed where there are very many.
    pub findings_total: u64,
    /// The findings, in order.
    pub findings: Vec<Finding>,
}

/// The tree.
#[derive(Clone, Debug, Serialize)]
pub struct LogFacts {
    /// The log's origin.
    pub origin: String,
    /// The key that its checkpoint was checked against.
    pub key: String,
    /// How many entries it has.
    pub size: u64,
    /// How many of them this evidence holds, where it is a part of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u64>,
    /// The signed root, in hex.
    pub root: Hash,
    /// Whether the entries that were read are those under the signed root; without it nothing they say is proven.
    pub anchored: bool,
    /// The published checkpoints that it extends.
    pub published: u64,
    /// The older checkpoints that were given and that it extends.
    pub since: u64,
    /// What witnesses say; left out where none were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<WitnessFacts>,
}

/// What the witnesses of a policy say of the export's checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct WitnessFacts {
    /// Whether as many cosigned as the policy wants.
    pub quorum: bool,
    /// Who cosigned.
    pub cosigned: Vec<Cosigned>,
    /// The names of those who did not.
    pub missing: Vec<String>,
}

/// A witness's cosignature.
#[derive(Clone, Debug, Serialize)]
pub struct Cosigned {
    /// The witness's name in the policy.
    pub name: String,
    /// When, by the witness's own clock, in seconds of Unix time.
    pub time: u64,
}

/// The entries.
#[derive(Clone, Debug, Serialize)]
pub struct StoryFacts {
    /// `at` of the first entry, microseconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_micros: Option<u64>,
    /// `at` of the last entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_micros: Option<u64>,
    /// How traces ended.
    pub traces: Outcomes,
    /// The claims.
    pub claims: ClaimFacts,
}

/// The three counts, and the first two by kind.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimFacts {
    /// Follows from signatures and hashes that the auditor's keys anchor.
    pub proven: u64,
    /// The service says so.
    pub attested: u64,
    /// Present but wrong.
    pub broken: u64,
    /// By kind.
    pub kinds: BTreeMap<&'static str, Count>,
}

impl ClaimFacts {
    /// Adds up.
    pub fn new(claims: &Claims, broken: u64) -> Self {
        let counts: Vec<(Claim, Count)> = Claim::ALL.into_iter().map(|claim| (claim, claims.of(claim))).collect();
        Self {
            proven: counts.iter().map(|(_, count)| count.proven).sum(),
            attested: counts.iter().map(|(_, count)| count.attested).sum(),
            broken,
            kinds: counts.iter().map(|(claim, count)| (claim.as_str(), *count)).collect(),
        }
    }
}

impl Report {
    /// A report of findings alone.
    pub fn new(command: &'static str, summary: impl Into<String>, findings: &Findings) -> Self {
        let verdict = findings.verdict();
        Self {
            schema: SCHEMA,
            command,
            verdict,
            exit: verdict.exit(),
            log: None,
            story: None,
            summary: (verdict == Verdict::Proven).then(|| summary.into()),
            entry: None,
            fork_proof: None,
            findings_total: findings.total(),
            findings: findings.kept().to_vec(),
        }
    }

    /// The report as JSON, one object and a line feed.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The worst first; of the same kind, what was found first.
        let mut findings: Vec<&Finding> = self.findings.iter().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        match (self.verdict, findings.first()) {
            (Verdict::Proven, _) => writeln!(f, "PROVEN: {}", self.summary.as_deref().unwrap_or_default())?,
            (Verdict::Broken, Some(first)) => writeln!(f, "BROKEN: {}: {}", first.place, first.conclude)?,
            (Verdict::Unreadable, Some(first)) => writeln!(f, "UNREADABLE: {}: {}", first.place, first.conclude)?,
            (_, Some(first)) => writeln!(f, "NOT PROVABLE with what was given: {}: {}", first.place, first.conclude)?,
            (_, None) => writeln!(f, "NOT PROVABLE with what was given")?,
        }
        if let Some(log) = &self.log {
            self.log_lines(f, log)?;
        }
        if let Some(entry) = &self.entry {
            writeln!(f, "{}", serde_json::to_string_pretty(entry).unwrap_or_default())?;
        }
        if self.fork_proof.is_some() {
            writeln!(
                f,
                "  fork        proven by two checkpoints: --fork-proof FILE keeps the proof, for anybody to check"
            )?;
        }
        if findings.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nfindings ({})", self.findings_total)?;
        for finding in findings.iter().take(PRINTED_MAX) {
            let weight =
                if finding.verdict == finding.code.verdict() { "" } else { " (may follow from another finding)" };
            writeln!(f, "  [{}] {}{weight}", finding.code, finding.place)?;
            writeln!(f, "      found:    {}", finding.found)?;
            writeln!(f, "      expected: {}", finding.expected)?;
            writeln!(f, "      conclude: {}", finding.conclude)?;
        }
        let printed = findings.len().min(PRINTED_MAX) as u64;
        if printed < self.findings_total {
            writeln!(f, "  … and {} more; --json lists up to 1000 of each kind", self.findings_total - printed)?;
        }
        Ok(())
    }
}

impl Report {
    fn log_lines(&self, f: &mut fmt::Formatter<'_>, log: &LogFacts) -> fmt::Result {
        writeln!(f, "  log         {}", log.origin)?;
        match log.part {
            Some(part) => writeln!(f, "  size        {}, of which {part} are here", log.size)?,
            None => writeln!(f, "  size        {}", log.size)?,
        }
        writeln!(f, "  root        {} ({})", log.root.to_base64(), log.root)?;
        writeln!(f, "  checkpoint  signed by {}", log.key)?;
        writeln!(f, "  extends     {} published checkpoints, {} given with --since", log.published, log.since)?;
        if let Some(witnesses) = &log.witnesses {
            let by: Vec<String> = witnesses
                .cosigned
                .iter()
                .map(|by| format!("{} ({})", crate::finding::shown(&by.name), utc(by.time.saturating_mul(1_000_000))))
                .collect();
            let by = if by.is_empty() { "nobody".to_owned() } else { by.join(", ") };
            let weight = if witnesses.quorum { "enough" } else { "not enough" };
            writeln!(f, "  cosigned    by {by}: {weight} for the policy")?;
        }
        let Some(story) = &self.story else {
            return writeln!(f, "  entries     not looked into (--tree-only)");
        };
        if let (Some(from), Some(to)) = (story.from_micros, story.to_micros) {
            writeln!(f, "  time        {} to {}", utc(from), utc(to))?;
        }
        let t = &story.traces;
        let mut line =
            format!("{} delivered, {} denied, {} rejected, {} failed", t.delivered, t.denied, t.rejected, t.failed);
        write!(line, ", {} waiting, {} open", t.waiting, t.open)?;
        if t.aborted_attempts > 0 {
            write!(line, "; {} attempts aborted (superseded, not undisclosed)", t.aborted_attempts)?;
        }
        writeln!(f, "  requests    {line}")?;
        if t.reidentified + t.reidentify_denied + t.sampled > 0 {
            writeln!(
                f,
                "  exceptions  values given back for tokens {} times, refused {} times; {} looks into tables for the catalog",
                t.reidentified, t.reidentify_denied, t.sampled
            )?;
        }
        let claims = &story.claims;
        writeln!(
            f,
            "  claims      {} proven, {} attested (the service's word), {} broken",
            claims.proven, claims.attested, claims.broken
        )?;
        for claim in Claim::ALL {
            let Some(count) = claims.kinds.get(claim.as_str()).filter(|c| c.proven + c.attested > 0) else { continue };
            writeln!(f, "    {:<20} {:>8} proven {:>8} attested", claim.as_str(), count.proven, count.attested)?;
        }
        Ok(())
    }
}
