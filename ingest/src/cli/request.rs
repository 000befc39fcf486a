//! `countersign request`: signs, publishes, waits, and writes chunk and receipt.

use super::ClientArgs;
use crate::client::{Answer, Wish};
use crate::http::ask::{ColumnsQuestion, DryRun, Outlook, OwnColumn};
use crate::pipeline::encode::Format;
use crate::pipeline::status::Word;
use anyhow::{Context, bail};
use clap::Args;
use countersign_ledger::evidence::{Receipt, TraceId};
use countersign_masker::KeyRange;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct Request {
    #[command(flatten)]
    client: ClientArgs,
    /// What to read, as in `warehouse.public.customers`
    dataset: String,
    /// The columns, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    columns: Vec<String>,
    /// Why, a word of the catalog's list
    #[arg(long)]
    purpose: String,
    /// Which rows, as in `country = 'DE' and age >= 18`
    #[arg(long)]
    filter: Option<String>,
    /// A half-open range of the key, as in `id:1000..2000`
    #[arg(long, value_parser = range)]
    range: Option<KeyRange>,
    /// At most so many rows
    #[arg(long)]
    limit: Option<u64>,
    /// arrow or jsonl
    #[arg(long, default_value = "arrow")]
    format: String,
    /// The identity that an agent acts for
    #[arg(long)]
    on_behalf_of: Option<String>,
    /// Where chunk and receipt go; without it a JSON Lines chunk goes to standard output
    #[arg(long)]
    out: Option<PathBuf>,
    /// How long to wait, in seconds
    #[arg(long, default_value_t = 120)]
    wait: u64,
    /// Only say what it would come to; nothing is requested
    #[arg(long)]
    dry_run: bool,
    /// Wait on while people are asked
    #[arg(long)]
    wait_for_approval: bool,
}

fn range(text: &str) -> Result<KeyRange, String> {
    let (column, bounds) = text.split_once(':').ok_or("not of the form `column:from..to`")?;
    let (from, to) = bounds.split_once("..").ok_or("not of the form `column:from..to`")?;
    let bound = |text: &str| match text {
        "" => None,
        text => Some(text.parse::<i64>().map_or_else(|_| text.into(), serde_json::Value::from)),
    };
    Ok(KeyRange { column: column.into(), from: bound(from), to: bound(to) })
}

impl Request {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.client.client()?;
        if self.dry_run {
            let wish = DryRun {
                dataset: self.dataset,
                columns: self.columns,
                filter: self.filter,
                range: self.range,
                limit: self.limit,
                format: self.format,
                purpose: self.purpose,
                on_behalf_of: self.on_behalf_of,
            };
            return foretell(&client.dry_run(&wish)?);
        }
        let wish = Wish {
            dataset: self.dataset,
            columns: self.columns,
            filter: self.filter,
            range: self.range,
            limit: self.limit,
            format: self.format,
            purpose: self.purpose,
            on_behalf_of: self.on_behalf_of,
        };
        // Before anything is asked for: what is delivered is delivered once.
        let ledger_key = client.ledger_key()?;
        let (trace, answer) = client.request(&wish, Duration::from_secs(self.wait), !self.wait_for_approval)?;
        let reason = answer.status.reason.map(|r| format!(": {r}")).unwrap_or_default();
        let word = serde_json::to_value(answer.status.status)?;
        let word = word.as_str().unwrap_or_default().to_string();
        match answer.status.status {
            Word::Delivered => {
                let rows = answer.status.rows.unwrap_or_default();
                eprintln!("request {trace}: {rows} rows in {} parts", answer.parts.len());
                if let Some(key) = ledger_key {
                    let receipt = Receipt::decode(&answer.receipt).context("the receipt")?;
                    receipt.verify(&client.config.origin, &[key]).context("the receipt does not hold")?;
                }
                match &self.out {
                    Some(dir) => {
                        for path in save(dir, trace, &answer)? {
                            println!("{}", path.display());
                        }
                    }
                    None if answer.format == "jsonl" => {
                        use std::io::Write;
                        let mut out = std::io::stdout().lock();
                        for part in &answer.parts {
                            out.write_all(part)?;
                        }
                    }
                    None => bail!("an Arrow chunk goes to files: say where with `--out`"),
                }
                Ok(ExitCode::SUCCESS)
            }
            Word::Waiting => {
                println!("request {trace} waits for approval by {}", answer.status.groups.join(" and "));
                Ok(ExitCode::from(75))
            }
            _ => {
                eprintln!("request {trace} {word}{reason}");
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Says what a request would come to, with the exit codes of a request.
fn foretell(outlook: &Outlook) -> anyhow::Result<ExitCode> {
    if let Some(reason) = outlook.reason {
        eprintln!("it would be refused: {reason}");
        return Ok(ExitCode::FAILURE);
    }
    for own in &outlook.columns {
        println!("{} ({}): {}{}", own.column, own.class, own.rule, inside(own));
    }
    if outlook.rows_filtered {
        println!("some rows only, as policy says");
    }
    if let Some(limit) = &outlook.limit {
        println!("at most {} rows, {} bytes, {} s", limit.rows, limit.bytes, limit.seconds);
    }
    if outlook.groups.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("once approved by {}", outlook.groups.join(" and "));
    Ok(ExitCode::from(75))
}

/// How what is inside of a column leaves.
fn inside(own: &OwnColumn) -> String {
    own.paths.iter().map(|path| format!(", {} in it {}", path.path, path.rule)).collect()
}

#[derive(Args, Debug)]
pub(crate) struct Columns {
    #[command(flatten)]
    client: ClientArgs,
    /// The table, as in `warehouse.public.customers`
    dataset: String,
    /// Why, a word of the catalog's list
    #[arg(long)]
    purpose: String,
    /// The identity that an agent acts for
    #[arg(long)]
    on_behalf_of: Option<String>,
}

impl Columns {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Self { client, dataset, purpose, on_behalf_of } = self;
        let own = client.client()?.columns(&ColumnsQuestion { dataset, purpose, on_behalf_of })?;
        for own in &own {
            let groups = if own.groups.is_empty() {
                String::new()
            } else {
                format!(", once approved by {}", own.groups.join(" and "))
            };
            let column_type = own.column_type.as_deref().unwrap_or_default();
            println!("{} ({}, {column_type}): {}{}{groups}", own.column, own.class, own.rule, inside(own));
        }
        if own.is_empty() {
            eprintln!("no such table, or none of its columns is for you");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the parts as `<trace>.part-0001.<ending>` and the receipt as `<trace>.receipt`, once it is seen to hold.
pub(crate) fn save(dir: &Path, trace: TraceId, answer: &Answer) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    Receipt::decode(&answer.receipt).context("the receipt")?;
    let ending = Format::from_name(&answer.format).map_or("bin", Format::extension);
    let short: String = trace.to_string().chars().take(16).collect();
    let mut paths = Vec::new();
    for (i, part) in answer.parts.iter().enumerate() {
        let path = dir.join(format!("{short}.part-{:04}.{ending}", i + 1));
        std::fs::write(&path, part).with_context(|| format!("cannot write `{}`", path.display()))?;
        paths.push(path);
    }
    let path = dir.join(format!("{short}.receipt"));
    std::fs::write(&path, &answer.receipt).with_context(|| format!("cannot write `{}`", path.display()))?;
    paths.push(path);
    Ok(paths)
}
