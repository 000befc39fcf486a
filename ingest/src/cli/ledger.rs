//! `countersign ledger`: the evidence, as a folder of static files or as one file, and the store's backups.

use super::ClientArgs;
use super::fetch::Mirror;
use crate::client::Client;
use crate::config::{ClientConfig, Config};
use crate::identity::Registry;
use crate::operator::{Task, order};
use crate::service::ledger_options;
use crate::witness;
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use countersign_ledger::evidence::{Class, Int, TraceId};
use countersign_ledger::store::{Ledger, Selection};
use countersign_masker::civil;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Subcommand, Debug)]
pub(crate) enum LedgerCommand {
    /// Write checkpoints, tiles and entries to a folder that any `tlog-tiles` tool reads, or into one file `….tar`
    Export(Export),
    /// Copy a ledger from its service over HTTP to a folder as `export` writes it, and extend the copy that is there. Needs the right
    /// `audit`, and the ledger's key in the client configuration
    Fetch {
        /// The folder
        dir: PathBuf,
        #[command(flatten)]
        client: ClientArgs,
        /// Go on, looking for more every so many seconds
        #[arg(long, value_name = "SECONDS")]
        follow: Option<u64>,
    },
    /// Copy the store to a folder, also while the service runs. Neither keys nor `HEAD` are in it
    Backup {
        /// The folder, which is made
        dir: PathBuf,
        /// The service's configuration
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
    },
    /// Put a backup back where the store was. `HEAD` must be there: it says how far the ledger had come
    Restore {
        /// The backup
        backup: PathBuf,
        /// The service's configuration
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
        /// An export that has the entries which the backup lacks
        #[arg(long, value_name = "DIR")]
        tail: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The folder; or a file that ends in `.tar` and does not exist yet
    out: PathBuf,
    /// The service's configuration
    #[arg(long, default_value = "countersign.toml")]
    config: PathBuf,
    /// As of the last published checkpoint, also where witnesses have not cosigned it yet
    #[arg(long)]
    newest: bool,
    /// Payload classes to export as well, in the clear: request, approval, identity, admin, config, query, delivery, detail,
    /// reidentify
    #[arg(long, value_delimiter = ',', value_parser = class)]
    payloads: Vec<Class>,
    /// Only requests received from this time on (2026-01-31, 2026-01-31T12:00:00Z, or seconds of Unix time)
    #[arg(long, value_parser = time)]
    from: Option<Int>,
    /// Only requests received before this time
    #[arg(long, value_parser = time)]
    to: Option<Int>,
    /// Only requests of this identity: its name or pseudonym
    #[arg(long)]
    identity: Option<String>,
    /// Only requests for this data set, `connection.table`
    #[arg(long)]
    dataset: Option<String>,
    /// Only this request: the name of its trace
    #[arg(long)]
    request: Option<TraceId>,
    /// The configuration of a client with the `audit` right, in whose name the export is recorded; the service must be running
    #[arg(long = "client", value_name = "FILE")]
    client: Option<PathBuf>,
}

fn class(name: &str) -> Result<Class, String> {
    Class::from_name(name).ok_or_else(|| format!("`{name}` is not a payload class"))
}

/// A day, a second, or seconds of Unix time.
fn time(text: &str) -> Result<Int, String> {
    let wrong = || format!("`{text}` is no time: write 2026-01-31, 2026-01-31T12:00:00Z, or seconds of Unix time");
    if let Ok(seconds) = text.parse::<u64>() {
        return Int::try_from(seconds);
    }
    let micros = match text.split_once('T') {
        None => civil::parse_date(text).map(|days| i64::from(days) * 86_400_000_000),
        Some(_) => civil::parse_timestamp(text).filter(|(_, has_zone)| *has_zone).map(|(micros, _)| micros),
    };
    let seconds = micros.and_then(|micros| u64::try_from(micros.div_euclid(1_000_000)).ok()).ok_or_else(wrong)?;
    Int::try_from(seconds)
}

impl LedgerCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Export(export) => export.run()?,
            Self::Fetch { dir, client, follow } => {
                let client = client.client()?;
                let key = client.ledger_key()?.context("the client configuration names no `ledger_key`")?;
                let mut copy = Mirror::open(&dir, &key)?;
                loop {
                    if copy.extend(&client, &key)? || follow.is_none() {
                        println!("{} entries in {}", copy.size(), dir.display());
                    }
                    let Some(seconds) = follow else { break };
                    std::thread::sleep(Duration::from_secs(seconds.max(1)));
                }
            }
            Self::Backup { dir, config } => {
                let dir = std::path::absolute(&dir)?;
                order(&Config::load(&config)?, Task::Backup { dir })?.iter().for_each(|line| println!("{line}"));
            }
            Self::Restore { backup, config, tail } => {
                let options = ledger_options(&Config::load(&config)?)?;
                let restored = Ledger::restore(&options, &backup, tail.as_deref())?;
                println!(
                    "{} entries from the backup, {} entries and {} payloads from the export",
                    restored.from_backup, restored.replayed, restored.payloads
                );
                let ledger = Ledger::open(&options)?;
                println!("{}", ledger.opening());
                ledger.close();
            }
        }
        Ok(())
    }
}

impl Export {
    fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config)?;
        let options = ledger_options(&config)?;
        let one_file = self.out.extension().is_some_and(|extension| extension == "tar");
        if self.narrowed() && !one_file {
            bail!("some requests alone are exported into one file: end its name in `.tar`");
        }
        if one_file && self.out.exists() {
            bail!("`{}` exists already", self.out.display());
        }
        // No evidence, no data: that somebody took it away stands in the ledger before he has it.
        let recorded = if one_file || !self.payloads.is_empty() { Some(self.record(&config)?) } else { None };
        let ledger = Ledger::open_reading(&options).map_err(|e| anyhow!("{e}"))?;
        if !one_file {
            let cosigned = match witness::policy(&config)? {
                Some(policy) if recorded.is_none() && !self.newest => witness::cosigned(&ledger, &policy)?,
                _ => None,
            };
            let summary = match cosigned {
                Some(cosigned) => ledger.export_as_of(&self.out, &self.payloads, &cosigned)?,
                None => ledger.export(&self.out, &self.payloads)?,
            };
            println!("{} entries, {} payloads in {}", summary.entries, summary.payloads, self.out.display());
            return Ok(());
        }
        let selection = self.selection(&ledger)?;
        let summary = ledger.export_bundle(&self.out, &selection, &self.payloads)?;
        let what = if selection.is_whole() { "the whole ledger" } else { "a part of the ledger" };
        println!(
            "{what}: {} entries, {} payloads, {} bytes in {}; {}",
            summary.entries,
            summary.payloads,
            summary.bytes,
            self.out.display(),
            recorded.unwrap_or_default()
        );
        Ok(())
    }

    /// Has the export recorded; says as which entry.
    fn record(&self, config: &Config) -> anyhow::Result<String> {
        let selection = self.selection(&Ledger::open_reading(&ledger_options(config)?)?)?;
        let Some(path) = &self.client else {
            let task = Task::RecordExport { selection, payloads: self.payloads.clone() };
            return Ok(order(config, task).context("the export could not be recorded")?.join(" "));
        };
        let index = Client::new(ClientConfig::load(path)?)?.record_export(&selection, &self.payloads)?;
        Ok(format!("recorded as entry {index}"))
    }

    fn narrowed(&self) -> bool {
        let Self { from, to, identity, dataset, request, .. } = self;
        from.is_some() || to.is_some() || identity.is_some() || dataset.is_some() || request.is_some()
    }

    fn selection(&self, ledger: &Ledger) -> anyhow::Result<Selection> {
        let identity = match &self.identity {
            None => None,
            Some(name) => {
                let registry = Registry::load(ledger)?;
                let found = registry.by_name(name).or_else(|| registry.by_pseudonym(name));
                Some(found.with_context(|| format!("no identity `{name}`"))?.pseudonym.clone())
            }
        };
        Ok(Selection { from: self.from, to: self.to, identity, dataset: self.dataset.clone(), request: self.request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(time(text).ok().map(Int::get), expect, "{text}");
        check("1763931600", Some(1_763_931_600));
        check("1970-01-01", Some(0));
        check("2000-02-29", Some(951_782_400));
        check("2025-11-23T21:00:00Z", Some(1_763_931_600));
        for bad in [
            "",
            "yesterday",
            "2025-02-29",
            "2025-13-01",
            "2025-1-1",
            "2025-11-23T24:00:00Z",
            "2025-11-23T21:00:00",
            "1969-12-31",
            "2025-00-01",
            "+025-01-01",
        ] {
            check(bad, None);
        }
    }
}
