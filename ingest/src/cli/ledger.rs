//! `countersign ledger`: the evidence, as a folder of static files or as one file.

use crate::client::Client;
use crate::config::{ClientConfig, Config};
use crate::identity::Registry;
use crate::service::ledger_options;
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use countersign_ledger::evidence::{Class, Int, TraceId};
use countersign_ledger::store::{Ledger, Selection};
use countersign_masker::civil;
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum LedgerCommand {
    /// Write checkpoints, tiles and entries to a folder that any `tlog-tiles` tool reads, or into one file `….tar`
    Export(Export),
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The folder; or a file that ends in `.tar` and does not exist yet, which is recorded in the ledger
    out: PathBuf,
    /// The service's configuration
    #[arg(long, default_value = "countersign.toml")]
    config: PathBuf,
    /// Payload classes to export as well, in the clear: request, approval, identity, admin, config, query, delivery, detail
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
    /// The configuration of a client with the `audit` right, through whom the running service is asked to record the export;
    /// without it the service must not be running
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
        let Self::Export(export) = self;
        export.run()
    }
}

impl Export {
    fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config)?;
        let options = ledger_options(&config)?;
        let one_file = self.out.extension().is_some_and(|extension| extension == "tar");
        if !one_file {
            if self.narrowed() {
                bail!("some requests alone are exported into one file: end its name in `.tar`");
            }
            let ledger = Ledger::open_reading(&options).map_err(|e| anyhow!("{e}"))?;
            let summary = ledger.export(&self.out, &self.payloads)?;
            println!("{} entries, {} payloads in {}", summary.entries, summary.payloads, self.out.display());
            return Ok(());
        }
        if self.out.exists() {
            bail!("`{}` exists already", self.out.display());
        }
        let (ledger, index) = match &self.client {
            Some(path) => {
                let selection = self.selection(&Ledger::open_reading(&options)?)?;
                let client = Client::new(ClientConfig::load(path)?)?;
                let index = client.record_export(&selection, &self.payloads)?;
                (Ledger::open_reading(&options)?, index)
            }
            None => {
                let ledger = Ledger::open(&options)
                    .context("the export is recorded first: stop the service, or ask it with --client FILE")?;
                if let Some(why) = ledger.read_only() {
                    bail!("the export cannot be recorded, the ledger is read-only: {why}");
                }
                let index = crate::export::record(&ledger, &self.selection(&ledger)?, None, &self.payloads)?;
                (ledger, index)
            }
        };
        let selection = self.selection(&ledger)?;
        let summary = ledger.export_bundle(&self.out, &selection, &self.payloads)?;
        let what = if selection.is_whole() { "the whole ledger" } else { "a part of the ledger" };
        println!(
            "{what}: {} entries, {} payloads, {} bytes in {}; recorded as entry {index}",
            summary.entries,
            summary.payloads,
            summary.bytes,
            self.out.display()
        );
        ledger.close();
        Ok(())
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
