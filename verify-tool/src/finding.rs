//! What can be wrong with evidence: the codes, which are stable and documented in `docs/formats.md`, and the list in which
//! findings are kept. A finding says where it is, what was found, what was expected, and what to conclude.

use countersign_ledger::evidence::TraceId;
use serde::{Serialize, Serializer};
use std::fmt;

/// The answer to "is it proven?". Of several, the greatest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is.
    #[default]
    Proven,
    /// Not with what was given.
    NotProvable,
    /// Something could not be read, or makes no sense as input.
    Unreadable,
    /// Something is present and wrong.
    Broken,
}

impl Verdict {
    /// The exit code of the process.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Broken => 1,
            Self::Unreadable => 2,
            Self::NotProvable => 3,
        }
    }

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::NotProvable => "not_provable",
            Self::Unreadable => "unreadable",
            Self::Broken => "broken",
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Declares the codes: variant, word, what it comes to, what to conclude.
macro_rules! codes {
    ($($variant:ident = $word:literal, $verdict:ident, $conclude:literal;)+) => {
        /// What is wrong. The words are stable; `docs/formats.md` lists them with what to conclude from each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $conclude] $variant,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word in reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What it comes to.
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)+ }
            }

            /// Whether it may come of entries that are not in a part of a ledger.
            pub const fn may_be_left_out(self) -> bool {
                matches!(
                    self,
                    Self::ChainStep
                        | Self::AdminSigner
                        | Self::AdminQuorum
                        | Self::IdentityUnknown
                        | Self::PolicyNotInForce
                        | Self::CatalogNotInForce
                        | Self::ConnectionUnknown
                        | Self::ApprovalGroup
                        | Self::ApprovalNotWaiting
                        | Self::ApprovalRevoker
                        | Self::ApprovalUnknown
                        | Self::ApprovalMissing
                )
            }

            /// What to conclude.
            pub const fn conclude(self) -> &'static str {
                match self { $(Self::$variant => $conclude,)+ }
            }
        }
    };
}

codes! {
    // The tree.
    Checkpoint = "checkpoint", Broken, "the checkpoint is not one that this key signed for this log: nothing here is vouched for";
    PublishedCheckpoint = "published-checkpoint", Broken, "this file is not a checkpoint that the log signed for the size in its name: it was altered or put there by somebody else";
    KeyEnded = "key-ended", Broken, "the checkpoint is signed by a key of the log that does not sign at this size: whoever still holds a key that was replaced made it";
    Cosignature = "cosignature", Broken, "a line names a witness of the policy and is not its signature: the checkpoint was altered";
    WitnessQuorum = "witness-quorum", NotProvable, "fewer witnesses cosigned this checkpoint than the policy wants: the log may show others another history; get a cosigned checkpoint";
    Fork = "fork", Broken, "the log's key signed two trees that cannot both be true: history was rewritten by whoever holds it; keep both checkpoints, together they prove it";
    RolledBack = "rolled-back", Broken, "the log signed a larger tree than this one: entries were taken away, or this export is older than the checkpoint it is held against";
    RootMismatch = "root-mismatch", Broken, "the entries are not those that were signed";
    EntryAltered = "entry-altered", Broken, "the tiles lead to the signed root and this entry does not: its bytes were changed after they were signed";
    LeafMismatch = "leaf-mismatch", Broken, "entry and tile disagree here, and neither leads to the signed root";
    TileAltered = "tile-altered", Broken, "the entries lead to the signed root and this tile does not: the tile was changed, the entries stand";
    BundleMalformed = "bundle-malformed", Broken, "this bundle does not hold the entries that its place asks for: it was cut, padded or altered";
    MissingFile = "missing-file", NotProvable, "the export lacks a file that the checkpoint covers: get it and check again";
    PartialEvidence = "partial-evidence", NotProvable, "this is a part of a ledger: what is here stands in it, and nothing shows what was left out, be it a revocation or a later step; --partial says that you know";
    UnexpectedFile = "unexpected-file", NotProvable, "this is no part of the evidence and nothing vouches for it: remove it, or ask where it comes from";
    Unreadable = "unreadable", Unreadable, "this could not be read, so nothing can be said about it";
    // One entry.
    EntryForm = "entry-form", Broken, "these bytes are not an entry in canonical form: no honest writer made them";
    EntryNewer = "entry-newer", NotProvable, "written by a later version: check with a newer countersign-verify; what follows cannot be judged fully";
    TimeBackwards = "time-backwards", Broken, "this entry claims to be older than the one before it: it was put there later, or its time is false";
    SeqGap = "seq-gap", Broken, "the appending process counts its entries without gaps: entries were removed, inserted or reordered here";
    // One trace.
    ChainStep = "chain-step", Broken, "a step of this trace is missing or stands twice";
    ChainPrev = "chain-prev", Broken, "this entry does not follow the entry that the trace holds before it: one of the two was replaced";
    TraceClosed = "trace-closed", Broken, "the story had ended before this entry";
    TraceName = "trace-name", Broken, "the trace does not bear the name that what opens it gives it: the same thing may stand under two names";
    StoryOrder = "story-order", Broken, "this may not happen at this point of the story: something that must come before it is not recorded";
    StoryAttempt = "story-attempt", Broken, "the attempts of this request are not counted as they must be";
    StorySubject = "story-subject", Broken, "the entry is about something else than its trace";
    MaskAccount = "mask-account", Broken, "what was masked is not what policy obliged to mask: columns may have left as they should not have";
    DecisionContradiction = "decision-contradiction", Broken, "the decision contradicts itself";
    // Who may change what.
    KeyRotation = "key-rotation", Broken, "the log's key was not replaced as it must be: signed by the old key and by the new one, for the size that the entry completes";
    LogCreated = "log-created", Broken, "the ledger does not begin as the log that was signed: it is not this log's history";
    AdminUnsigned = "admin-unsigned", Broken, "an identity entered without an admin's signature after the ledger's beginning";
    AdminSigner = "admin-signer", Broken, "a change counts a signer who was not an admin in force at this point";
    AdminQuorum = "admin-quorum", Broken, "a change took effect with fewer admins than the ledger requires";
    AdminSignature = "admin-signature", Broken, "an admin's signature on a change does not verify, or is on another change";
    AdminChange = "admin-change", Broken, "the admins signed something else than what this entry put in force";
    IdentityKey = "identity-key", Broken, "the registered key is not a key, not the one its thumbprint names, or another identity's";
    IdentityUnknown = "identity-unknown", Broken, "the entry relies on an identity or key that is not registered so at this point";
    IdentityRevoked = "identity-revoked", Broken, "the entry relies on an identity that had been revoked";
    IdentityExpired = "identity-expired", Broken, "the entry relies on an identity whose registration had ended";
    IdentityName = "identity-name", Broken, "two identities in force bear one name: what one did can be told as the other's";
    Possession = "possession", Broken, "the proof that the key's owner holds it is not one";
    DocumentDigest = "document-digest", Broken, "the document does not have the digest that the entry states, or says something else";
    // Requests, decisions and deliveries.
    RequestSignature = "request-signature", Broken, "the caller did not sign what the ledger says it signed";
    RequestClaims = "request-claims", Broken, "the signed request is not the one that this trace is about";
    RequestAnswer = "request-answer", Broken, "what was decided or delivered is not what the caller asked for";
    RequestTime = "request-time", Broken, "the signed request did not count at this time: it was kept back, or is from the future";
    AttestDoor = "attest-door", Broken, "a request that must bear its caller's signature is only attested: it may be invented";
    RowsLimit = "rows-limit", Broken, "more rows were masked than policy, or the caller's own request, allows";
    DeliveryDestination = "delivery-destination", Broken, "the chunk was meant for a place that is not registered for its caller";
    DecisionTime = "decision-time", Broken, "the decision was not made at the time that it states: policies that look at the time may have been deceived";
    PolicyNotInForce = "policy-not-in-force", Broken, "the decision rests on a policy that was not in force";
    CatalogNotInForce = "catalog-not-in-force", Broken, "the decision rests on a catalog that was not in force";
    ConnectionUnknown = "connection-unknown", Broken, "a store was asked that no admin had registered";
    StatusPlace = "status-place", Broken, "the delivery's status does not stand where the intent said that it would";
    // Approvals.
    ApprovalSelf = "approval-self", Broken, "somebody approved their own request";
    ApprovalGroup = "approval-group", Broken, "the approver was not in a group that was asked";
    ApprovalNotWaiting = "approval-not-waiting", Broken, "the approval is for a request that was not waiting for one";
    ApprovalDigest = "approval-digest", Broken, "the approval is for another request, or for other obligations";
    ApprovalTime = "approval-time", Broken, "the approval did not count at this time";
    ApprovalRevoked = "approval-revoked", Broken, "the approval had been taken back";
    ApprovalRevoker = "approval-revoker", Broken, "the approval was taken back by somebody who may not";
    ApprovalUnknown = "approval-unknown", Broken, "there is no such approval of this request";
    ApprovalMissing = "approval-missing", Broken, "a group whose approval policy requires has not given one";
    ApprovalDenied = "approval-denied", Broken, "the request went on although somebody who was asked had said no";
    ApprovalSignature = "approval-signature", Broken, "the approver did not sign what the ledger says";
    ApprovalClaims = "approval-claims", Broken, "the signed answer says something else than its entry";
    // Payloads.
    PayloadForm = "payload-form", Broken, "this file is not a payload: class, salt, bytes";
    PayloadMismatch = "payload-mismatch", Broken, "the payload is not what the ledger commits to: it was altered";
    PayloadClass = "payload-class", Broken, "the payload is of another class than the entry commits to";
    RequiredAttested = "required-attested", NotProvable, "proof was required and the evidence given only holds the service's word: get the payloads, or accept it as attested";
    // Receipts, chunks, growth.
    ReceiptForm = "receipt-form", Broken, "this is not a receipt in the form that the service gives";
    ReceiptProof = "receipt-proof", Broken, "the receipt does not prove its entry: entry, proof or checkpoint was altered, or it is another log's";
    ChunkMismatch = "chunk-mismatch", Broken, "these parts are not the bytes that were recorded before delivery: parts are altered, missing, too many or out of order";
    ChunkSalt = "chunk-salt", NotProvable, "without the chunk's salt the parts cannot be held against the receipt: give --salt, from a part's cs-salt header";
    NotADelivery = "not-a-delivery", NotProvable, "the receipt's entry says nothing about bytes: get the receipt of the delivery";
    RowForm = "row-form", Broken, "this is not a row with its proof: it was altered, or written by something else than `countersign rows`";
    RowMismatch = "row-mismatch", Broken, "the row is not one of the chunk that the receipt is about";
    RowRoot = "row-root", NotProvable, "the receipt tells no root of single rows: the data set has no row tree, or another receipt is needed";
    Growth = "growth", Broken, "the newer tree does not begin with the entries of the older one, or the proof is not one: history was rewritten, or what was given is damaged";
    ForkForm = "fork-form", Broken, "this is not a fork proof in the documented form";
    ForkProof = "fork-proof", Broken, "these two checkpoints are not shown to contradict each other: nothing is proven against the log";
    // Reports.
    PageDiffers = "page-differs", Broken, "the page is not what this evidence gives: it was altered, or made from other evidence, with other options or by another version";
    GrowthUnproven = "growth-unproven", NotProvable, "give the export's folder or a proof";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Where something is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The entry's index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// The entry's trace, as far as it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// The entry's type, as far as it can be read.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The file, relative to the export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Place {
    /// An entry.
    pub fn entry(index: u64) -> Self {
        Self { entry: Some(index), ..Self::default() }
    }

    /// A file.
    pub fn file(path: impl fmt::Display) -> Self {
        Self { file: Some(shown(&path.to_string())), ..Self::default() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.entry, &self.file) {
            (Some(index), _) => {
                write!(f, "entry {index}")?;
                match (&self.kind, &self.trace) {
                    (Some(kind), Some(trace)) => write!(f, " ({kind}, trace {trace})"),
                    (Some(kind), None) => write!(f, " ({kind})"),
                    _ => Ok(()),
                }?;
                self.file.as_ref().map_or(Ok(()), |file| write!(f, " in `{file}`"))
            }
            (None, Some(file)) => write!(f, "`{file}`"),
            (None, None) => f.write_str("the log"),
        }
    }
}

/// Something that stands between the evidence and "proven".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub code: Code,
    /// What it comes to: the code's own verdict, or less where an entry that could not be read may explain it.
    pub verdict: Verdict,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// What to conclude.
    pub conclude: &'static str,
}

impl Finding {
    /// A finding with its code's own verdict.
    pub fn new(code: Code, place: Place, found: impl AsRef<str>, expected: impl AsRef<str>) -> Self {
        let (found, expected) = (shown(found.as_ref()), shown(expected.as_ref()));
        Self { code, verdict: code.verdict(), place, found, expected, conclude: code.conclude() }
    }
}

/// Text from evidence as it may be shown: without anything that steers a terminal, and not without end.
pub fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 400;
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == MAX_CHARS {
            out.push('…');
            break;
        }
        // Besides controls: what reorders or hides text.
        let hides =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || hides { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// How many findings of each verdict are kept; all are counted.
const KEPT_MAX: usize = 1000;

/// Findings in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    broken: u64,
    unreadable: u64,
    not_provable: u64,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        let count = match finding.verdict {
            Verdict::Broken => &mut self.broken,
            Verdict::Unreadable => &mut self.unreadable,
            Verdict::NotProvable | Verdict::Proven => &mut self.not_provable,
        };
        *count = count.saturating_add(1);
        if *count <= KEPT_MAX as u64 {
            self.kept.push(finding);
        }
    }

    /// Adds all of another list.
    pub fn extend(&mut self, other: Self) {
        let Self { kept, broken, unreadable, not_provable } = other;
        self.kept.extend(kept);
        self.broken += broken;
        self.unreadable += unreadable;
        self.not_provable += not_provable;
    }

    /// Those that were kept.
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.broken + self.unreadable + self.not_provable
    }

    /// How many things are present and wrong.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// What they come to together.
    pub fn verdict(&self) -> Verdict {
        match (self.broken, self.unreadable, self.not_provable) {
            (0, 0, 0) => Verdict::Proven,
            (0, 0, _) => Verdict::NotProvable,
            (0, _, _) => Verdict::Unreadable,
            _ => Verdict::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_cannot_steer_a_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), 401);
    }

    #[test]
    fn the_worst_counts() {
        let finding = |code| Finding::new(code, Place::default(), "", "");
        let mut findings = Findings::default();
        assert_eq!(findings.verdict().exit(), 0);
        findings.add(finding(Code::MissingFile));
        assert_eq!(findings.verdict().exit(), 3);
        findings.add(finding(Code::Unreadable));
        assert_eq!(findings.verdict().exit(), 2);
        findings.add(finding(Code::RootMismatch));
        assert_eq!(findings.verdict().exit(), 1);
        for _ in 0..2000 {
            findings.add(finding(Code::MissingFile));
        }
        assert_eq!((findings.total(), findings.kept().len()), (2003, KEPT_MAX + 2));
    }

    #[test]
    fn every_code_is_documented() {
        let doc = include_str!("../../docs/formats.md");
        for code in Code::ALL {
            let line = format!("| `{code}` | {} | {} |", code.verdict().exit(), code.conclude());
            assert!(doc.contains(&line), "docs/formats.md lacks the line\n{line}");
        }
    }
}
