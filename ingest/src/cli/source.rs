//! `countersign source`: what the stores themselves say.

use crate::config::Config;
use crate::service::ledger_options;
use crate::source::pglog::{self, Form};
use crate::source::reconcile::{Reconciled, Reconciler, Recorded};
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use countersign_ledger::evidence::{Entry, Step};
use countersign_ledger::store::{Ledger, StoreError};
use countersign_ledger::tlog::{bundles_for_size, decode_bundle};
use countersign_ledger::vault::VaultError;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand, Debug)]
pub(crate) enum SourceCommand {
    /// Hold a PostgreSQL server's log against the ledger: statements by our role that no `source.queried` explains, and the
    /// reverse. Exit code 3 where there are any
    Reconcile(Reconcile),
}

#[derive(Args, Debug)]
pub(crate) struct Reconcile {
    /// The server's logs, in the order of time: `….csv` (csvlog), `….json` (jsonlog), anything else is plain text. The server must
    /// log every statement of the role (`ALTER ROLE … SET log_statement = 'all'`)
    #[arg(required = true)]
    logs: Vec<PathBuf>,
    /// The role that the service connects as
    #[arg(long)]
    role: String,
    /// The connection that the server is registered as
    #[arg(long)]
    connection: String,
    /// The server's `log_line_prefix`, for plain text
    #[arg(long, default_value = "%m [%p] %q%u@%d ")]
    prefix: String,
    /// The service's configuration
    #[arg(long, default_value = "countersign.toml")]
    config: PathBuf,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

impl SourceCommand {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Reconcile(args) = self;
        let options = ledger_options(&Config::load(&args.config)?)?;
        let ledger = Ledger::open_reading(&options).map_err(|e| anyhow!("{e}"))?;
        let mut reconciler = Reconciler::new(&args.role, recorded(&ledger, &args.connection)?);
        for path in &args.logs {
            let log = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            pglog::read(BufReader::new(log), &form(path, &args.prefix), |logged| reconciler.take(logged))
                .with_context(|| format!("`{}`", path.display()))?;
        }
        let found = reconciler.finish();
        if args.json {
            println!("{}", serde_json::to_string_pretty(&found)?);
        } else {
            print(&found);
        }
        Ok(if found.agrees() { ExitCode::SUCCESS } else { ExitCode::from(3) })
    }
}

fn form(path: &Path, prefix: &str) -> Form {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Form::Csv,
        Some("json") => Form::Json,
        _ => Form::Text(prefix.to_owned()),
    }
}

/// Every `source.queried` and `source.sampled` of that connection, with its exact SQL where the vault still has it.
fn recorded(ledger: &Ledger, connection: &str) -> anyhow::Result<Vec<Recorded>> {
    #[derive(serde::Deserialize)]
    struct Statement {
        sql: String,
    }
    let mut all = Vec::new();
    for path in bundles_for_size(ledger.size()) {
        let bundle = ledger.bundle(path.index, Some(path.width))?.with_context(|| format!("`{path}` is missing"))?;
        for (at, bytes) in decode_bundle(&bundle)?.into_iter().enumerate() {
            let entry = Entry::decode(bytes)?;
            let (asked, statement) = match &entry.body {
                Step::SourceQueried(s) => (s.connection.as_str(), &s.statement),
                Step::SourceSampled(s) => (s.connection.as_str(), &s.statement),
                _ => continue,
            };
            if asked != connection {
                continue;
            }
            let sql = match ledger.payload(statement) {
                Ok(Some(payload)) => Some(serde_json::from_slice::<Statement>(&payload.bytes)?.sql),
                // Purged: the trace is what is left.
                Ok(None) | Err(StoreError::Vault(VaultError::NoKey(_))) => None,
                Err(error) => return Err(error.into()),
            };
            let (index, trace, at_micros) = (path.index * 256 + at as u64, entry.trace, entry.at.get());
            all.push(Recorded { entry: index, trace, at_micros, sql });
        }
    }
    Ok(all)
}

fn print(found: &Reconciled) {
    println!(
        "{} statements explained word by word, {} by their trace alone; {} fetch no rows, {} are other roles'",
        found.same_text, found.same_trace, found.without_rows, found.other_roles
    );
    if found.out_of_time > 0 {
        println!("{} entries lie outside the time that the log covers", found.out_of_time);
    }
    for unexplained in &found.unexplained {
        let sql: String = unexplained.sql.escape_debug().take(400).collect();
        println!("unexplained  line {}: {}\n             {sql}", unexplained.line, unexplained.why);
    }
    for unseen in &found.unseen {
        println!(
            "unseen       entry {} (trace {}): the log shows no such statement: it was never sent, or the log is not whole",
            unseen.entry, unseen.trace
        );
    }
    if found.agrees() {
        println!("both accounts agree");
    }
}
