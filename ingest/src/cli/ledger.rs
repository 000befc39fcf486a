//! `countersign ledger`: the evidence as a folder that stands on its own, and the store's backups.

use super::ClientArgs;
use super::fetch::Mirror;
use crate::config::Config;
use crate::operator::{Task, order};
use crate::service::ledger_options;
use crate::witness;
use anyhow::{Context, anyhow};
use clap::Subcommand;
use countersign_ledger::evidence::Class;
use countersign_ledger::store::Ledger;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Subcommand, Debug)]
pub(crate) enum LedgerCommand {
    /// Write checkpoints, tiles and entries to a folder that any `tlog-tiles` tool reads
    Export {
        /// The folder
        dir: PathBuf,
        /// The service's configuration
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
        /// Payload classes to export as well, in the clear: request, approval, identity, admin, config, query, delivery, detail
        #[arg(long, value_delimiter = ',', value_parser = class)]
        payloads: Vec<Class>,
        /// As of the last published checkpoint, also where witnesses have not cosigned it yet
        #[arg(long)]
        newest: bool,
    },
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

fn class(name: &str) -> Result<Class, String> {
    Class::from_name(name).ok_or_else(|| format!("`{name}` is not a payload class"))
}

impl LedgerCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Export { dir, config, payloads, newest } => {
                let config = Config::load(&config)?;
                if !payloads.is_empty() {
                    // No evidence, no data: that somebody took them out stands in the ledger before he has them.
                    let noted = order(&config, Task::NoteExport { classes: payloads.clone() });
                    noted.context("the reading could not be noted")?;
                }
                let ledger = Ledger::open_reading(&ledger_options(&config)?).map_err(|e| anyhow!("{e}"))?;
                let newest = newest || !payloads.is_empty();
                let cosigned = match witness::policy(&config)? {
                    Some(policy) if !newest => witness::cosigned(&ledger, &policy)?,
                    _ => None,
                };
                let summary = match cosigned {
                    Some(cosigned) => ledger.export_as_of(&dir, &payloads, &cosigned)?,
                    None => ledger.export(&dir, &payloads)?,
                };
                println!("{} entries, {} payloads in {}", summary.entries, summary.payloads, dir.display());
            }
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
