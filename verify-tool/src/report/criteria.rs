//! Which of the SOC 2 trust services criteria the evidence supports, with the numbers that support them, and what it leaves
//! open. A ledger shows what was done through it, never that nothing was done beside it: each criterion says so.

use super::html::Count;
use super::review::{Exception, Outcome, Review};
use crate::finding::Verdict;
use crate::story::Claim;
use serde::Serialize;

/// One criterion.
#[derive(Clone, Debug, Serialize)]
pub struct Criterion {
    /// Its number among the AICPA's trust services criteria.
    pub id: &'static str,
    /// What it is about, in short.
    pub about: &'static str,
    /// What this evidence shows of it.
    pub shows: Vec<String>,
    /// What has to be shown by other means.
    pub leaves_open: &'static str,
}

/// The criteria, with this review's numbers.
pub fn supported(review: &Review) -> Vec<Criterion> {
    let n = |count: u64| Count(count).to_string();
    let requests = |outcome| n(review.requests.of(outcome));
    let kinds = review.story.as_ref().map(|story| &story.claims.kinds);
    let claims = |claim: Claim| {
        let count = kinds.and_then(|kinds| kinds.get(claim.as_str())).copied().unwrap_or_default();
        format!("{} proven, {} attested", n(count.proven), n(count.attested))
    };
    let exceptions = |what: Exception| {
        n(review.exceptions.iter().find(|(name, _)| *name == what.words()).map_or(0, |(_, rows)| rows.total))
    };
    let registered = n(review.identities.len() as u64);
    let policies = n(review.policies.total);
    let aborted: u64 = review.reasons.iter().filter(|row| row.what == "aborted").map(|row| row.count).sum();
    let approvals = &review.approvals;
    let ledger = match (review.verdict, review.log.as_ref()) {
        (Verdict::Proven, Some(log)) if log.part.is_some() => {
            format!(
                "The {} entries that are here are among the {} that were signed. A part of a ledger shows no whole.",
                n(log.part.unwrap_or_default()),
                n(log.size)
            )
        }
        (Verdict::Proven, Some(log)) => {
            format!(
                "The {} entries are those that were signed, unchanged and in order, and extend {} earlier published checkpoints.",
                n(log.size),
                n(log.published)
            )
        }
        (Verdict::Broken, _) => {
            "The ledger is broken: nothing in this row can be relied on until the findings are explained.".into()
        }
        _ => "That the ledger is whole could not be proven with what was given.".into(),
    };
    vec![
        Criterion {
            id: "CC6.1",
            about: "logical access to protected information is restricted",
            shows: vec![
                format!(
                    "{} requests were decided by policy before any source was asked; {} delivered, {} denied.",
                    n(review.requests.total().saturating_sub(review.requests.of(Outcome::Rejected))),
                    requests(Outcome::Delivered),
                    requests(Outcome::Denied)
                ),
                format!("Callers' signatures: {}.", claims(Claim::CallerSignatures)),
                format!("{} records that nobody could be held to were rejected.", requests(Outcome::Rejected)),
            ],
            leaves_open: "Access that does not go through Countersign: database accounts, backups, consoles. A database's own log shows it: each statement of the service names its request's trace.",
        },
        Criterion {
            id: "CC6.2",
            about: "users are registered and authorized before access, and removed after",
            shows: vec![
                format!(
                    "{registered} identities were registered, {} revoked; each change stands in the ledger with the admins who signed it.",
                    exceptions(Exception::IdentityRevoked)
                ),
                format!(
                    "Admins' signatures: {}. Proofs of key possession: {}.",
                    claims(Claim::AdminSignatures),
                    claims(Claim::PossessionProofs)
                ),
            ],
            leaves_open: "Who the people behind keys are, and whether somebody who left was revoked in time.",
        },
        Criterion {
            id: "CC6.3",
            about: "access follows roles, least privilege and segregation of duties",
            shows: vec![
                format!(
                    "{policies} policies decided; {} refusals because nothing permitted.",
                    n(review.default_denials)
                ),
                format!(
                    "{} answers by people; approvers' signatures: {}. An approval by the requester, its owner or the one it acts for is a finding.",
                    n(approvals.total),
                    claims(Claim::ApprovalSignatures)
                ),
                format!(
                    "{} must sign each change of identities, groups, policy, catalog and connections.",
                    if review.quorum == 1 { "1 admin".into() } else { format!("{} admins", n(review.quorum)) }
                ),
            ],
            leaves_open: "Whether the policies are the right ones, and whether approvers looked. Decisions can be run again from the policy texts; this report takes them as attested.",
        },
        Criterion {
            id: "CC6.7",
            about: "transmission of information is restricted to authorized users",
            shows: vec![
                format!(
                    "{} rows left in {} deliveries, each recorded before its first byte, to the identity that asked.",
                    n(review.rows),
                    requests(Outcome::Delivered)
                ),
                format!(
                    "{} attempts were superseded; {} cells in attempts without a committed delivery may have been seen.",
                    n(aborted),
                    n(review.exposed)
                ),
            ],
            leaves_open: "What recipients do with what they received.",
        },
        Criterion {
            id: "CC7.2",
            about: "the system is monitored for anomalies",
            shows: vec![
                ledger,
                format!(
                    "Refused and rejected attempts are recorded with their reasons: {} denied, {} rejected, {} failed.",
                    requests(Outcome::Denied),
                    requests(Outcome::Rejected),
                    requests(Outcome::Failed)
                ),
            ],
            leaves_open: "That somebody looks at them, and acts.",
        },
        Criterion {
            id: "CC8.1",
            about: "changes are authorized and recorded",
            shows: vec![format!(
                "{} versions of policy and catalog, {} changes of connections, {} of groups, each with its signers and its place in the ledger.",
                n(review.versions.total),
                exceptions(Exception::ConnectionChanged),
                exceptions(Exception::GroupsChanged)
            )],
            leaves_open: "Changes of the software itself, and how a change was reviewed before it was signed.",
        },
        Criterion {
            id: "C1.1",
            about: "confidential information is identified and protected",
            shows: vec![
                format!(
                    "{} cells left clear and {} under a mask, of which {} were left as they were by it.",
                    n(review.cells.clear),
                    n(review.cells.masked),
                    n(review.cells.unchanged)
                ),
                format!(
                    "{} deliveries held columns that nobody had classified.",
                    exceptions(Exception::UnclassifiedDelivered)
                ),
                format!("Mask accounts: {}.", claims(Claim::MaskAccounts)),
            ],
            leaves_open: "Whether columns are classified rightly. Mask accounts are the service's own count: they must agree with the obligations, and cannot be recomputed from the ledger.",
        },
    ]
}
