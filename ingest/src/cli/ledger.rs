//! `countersign ledger`: the evidence, as a folder of static files.

use crate::config::Config;
use crate::service::ledger_options;
use anyhow::anyhow;
use clap::Subcommand;
use countersign_ledger::evidence::Class;
use countersign_ledger::store::Ledger;
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum LedgerCommand {
    /// Write checkpoints, tiles and entries to a folder that any `tlog-tiles` tool reads
    Export {
        /// The folder
        dir: PathBuf,
        /// The service's configuration
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
        /// Payload classes to export as well, in the clear: request, approval, identity, admin, config, query, delivery, detail,
        /// reidentify
        #[arg(long, value_delimiter = ',', value_parser = class)]
        payloads: Vec<Class>,
    },
}

fn class(name: &str) -> Result<Class, String> {
    Class::from_name(name).ok_or_else(|| format!("`{name}` is not a payload class"))
}

impl LedgerCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self::Export { dir, config, payloads } = self;
        let ledger = Ledger::open_reading(&ledger_options(&Config::load(&config)?)?).map_err(|e| anyhow!("{e}"))?;
        let summary = ledger.export(&dir, &payloads)?;
        println!("{} entries, {} payloads in {}", summary.entries, summary.payloads, dir.display());
        Ok(())
    }
}
