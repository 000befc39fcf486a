//! `countersign approvals`: what waits, what it is, and the answers. The request is rendered from what the caller signed, after
//! its signature was checked here.

use super::ClientArgs;
use crate::client::Checked;
use crate::identity::claims::ApprovalDecision;
use clap::{Args, Subcommand};
use countersign_ledger::evidence::TraceId;
use countersign_ledger::evidence::jws::PublicKey;
use countersign_ledger::tlog::Hash;
use std::time::Duration;

#[derive(Subcommand, Debug)]
pub(crate) enum ApprovalsCommand {
    /// What waits for your groups
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// One request in full
    Show {
        #[command(flatten)]
        client: ClientArgs,
        /// The request's trace
        request: String,
    },
    /// Say yes
    Approve(Answer),
    /// Say no
    Deny(Answer),
    /// Take a yes back
    Revoke {
        #[command(flatten)]
        client: ClientArgs,
        /// The approval's trace
        approval: String,
        /// The request's digest that it was for
        #[arg(long)]
        digest: String,
        /// The obligations' digest that it was for
        #[arg(long)]
        obligations: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Answer {
    #[command(flatten)]
    client: ClientArgs,
    /// The request's trace
    request: String,
    /// Why; it stays with you, the ledger holds a commitment to it
    #[arg(long)]
    reason: String,
    /// How long the answer counts, in minutes
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

fn trace(text: &str) -> anyhow::Result<TraceId> {
    text.parse().map_err(|_| anyhow::anyhow!("`{text}` is not a trace of 64 hex digits"))
}

fn hash(text: &str) -> anyhow::Result<Hash> {
    text.parse().map_err(|_| anyhow::anyhow!("`{text}` is not a digest of 64 hex digits"))
}

impl ApprovalsCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { client } => {
                for view in client.client()?.approvals()? {
                    let checked = Checked::check(view)?;
                    let c = &checked.claims;
                    println!("{}  {}  {}  for {}", checked.view.trace, c.iss, c.dataset, c.purpose);
                }
                Ok(())
            }
            Self::Show { client, request } => {
                print!("{}", render(&client.client()?.waiting(trace(&request)?)?)?);
                Ok(())
            }
            Self::Approve(args) => args.run(ApprovalDecision::Grant),
            Self::Deny(args) => args.run(ApprovalDecision::Deny),
            Self::Revoke { client, approval, digest, obligations, reason } => {
                let approval = trace(&approval)?;
                let (digest, obligations) = (hash(&digest)?, hash(&obligations)?);
                let decision = ApprovalDecision::Revoke;
                let valid = Duration::from_secs(600);
                client.client()?.send_answer(decision, approval.0, digest, obligations, &reason, valid)?;
                println!("revocation sent");
                Ok(())
            }
        }
    }
}

impl Answer {
    fn run(self, decision: ApprovalDecision) -> anyhow::Result<()> {
        let client = self.client.client()?;
        let waiting = client.waiting(trace(&self.request)?)?;
        print!("{}", render(&waiting)?);
        let valid = Duration::from_secs(self.minutes * 60);
        let approval = client.answer(&waiting, decision, &self.reason, valid)?;
        let word = if decision == ApprovalDecision::Grant { "approved" } else { "denied" };
        println!("{word}: answer {approval}");
        Ok(())
    }
}

/// A request as an approver reads it.
pub(crate) fn render(checked: &Checked) -> anyhow::Result<String> {
    use std::fmt::Write;
    let c = &checked.claims;
    let mut out = String::new();
    writeln!(out, "request      {}", checked.view.trace)?;
    let key = PublicKey::from_text(checked.view.alg, &checked.view.key)?.thumbprint();
    writeln!(out, "from         {} (signature checked, key {key})", c.iss)?;
    if let Some(name) = &c.on_behalf_of {
        writeln!(out, "on behalf of {name}")?;
    }
    writeln!(out, "data set     {}", c.dataset)?;
    writeln!(out, "purpose      {}", c.purpose)?;
    writeln!(out, "rows         {}", c.filter.as_deref().unwrap_or("no filter"))?;
    if let Some(range) = &c.range {
        let bound = |v: &Option<serde_json::Value>| v.as_ref().map(ToString::to_string).unwrap_or_default();
        writeln!(out, "range        {} {}..{}", range.column, bound(&range.from), bound(&range.to))?;
    }
    if let Some(limit) = c.limit {
        writeln!(out, "at most      {limit} rows")?;
    }
    let obligations: countersign_masker::Obligations = serde_json::from_str(&checked.view.obligations)?;
    for column in &obligations.columns {
        writeln!(out, "column       {} ({}): {}", column.column, column.class, column.rule)?;
    }
    if let Some(rows) = &obligations.rows {
        writeln!(out, "policy rows  {rows}")?;
    }
    writeln!(out, "asked        {}", checked.view.groups.join(", "))?;
    writeln!(out, "digests      request {}, obligations {}", checked.digest, checked.obligations)?;
    Ok(out)
}
