//! `countersign reidentify`: values for tokens, to those who have the right, with an entry for each call.

use super::ClientArgs;
use crate::client;
use anyhow::{Context, bail};
use clap::Args;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Reidentify {
    #[command(flatten)]
    client: ClientArgs,
    /// Where the tokens come from, as in `warehouse.public.customers.iban`; with `--path`, the table alone
    column: String,
    /// Where they come from inside of a table's columns, as the catalog writes it, such as `profile.emergency.ssn`
    #[arg(long)]
    path: Option<String>,
    /// The purpose that they were made for
    #[arg(long)]
    purpose: String,
    /// Why the values are needed; the ledger commits to it, and the vault keeps it
    #[arg(long)]
    reason: String,
    /// For `ff1`: the version of the key that they were made with; the newest unless stated
    #[arg(long)]
    key: Option<u64>,
    /// The identity that an agent acts for
    #[arg(long)]
    on_behalf_of: Option<String>,
    /// A file of tokens, one a line, or `-`
    #[arg(long, conflicts_with = "tokens")]
    from: Option<PathBuf>,
    /// The tokens
    tokens: Vec<String>,
}

impl Reidentify {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let (dataset, column) = match &self.path {
            Some(path) => (self.column.as_str(), path.as_str()),
            None => self.column.rsplit_once('.').context("not of the form `connection.table.column`")?,
        };
        let tokens = match &self.from {
            None => self.tokens,
            Some(path) => {
                let mut text = String::new();
                if path.as_os_str() == "-" {
                    std::io::stdin().read_to_string(&mut text)?;
                } else {
                    text =
                        std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
                }
                text.lines().map(str::to_owned).collect()
            }
        };
        if tokens.is_empty() {
            bail!("no token to turn back");
        }
        let wish = client::Reidentify {
            dataset: dataset.into(),
            column: column.into(),
            purpose: self.purpose,
            key: self.key,
            on_behalf_of: self.on_behalf_of,
        };
        let answer = self.client.client()?.reidentify(&wish, &tokens, &self.reason)?;
        if let Some(refusal) = answer.refusal {
            eprintln!("refused: {refusal} (entry {})", answer.entry);
            return Ok(ExitCode::FAILURE);
        }
        let mut all = true;
        for (token, value) in tokens.iter().zip(&answer.values) {
            match value {
                Some(value) => println!("{}", serde_json::json!({"token": token, "value": value})),
                None => {
                    all = false;
                    println!("{}", serde_json::json!({"token": token, "value": null}));
                }
            }
        }
        eprintln!("recorded as entry {}", answer.entry);
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
