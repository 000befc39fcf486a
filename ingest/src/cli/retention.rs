//! `countersign retention`: destroys what is due, and keeps what a legal hold names.

use crate::config::Config;
use crate::operator::{Task, order};
use clap::{Args, Subcommand};
use countersign_ledger::evidence::TraceId;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct At {
    /// The service's configuration
    #[arg(long, default_value = "countersign.toml")]
    config: PathBuf,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RetentionCommand {
    /// Destroy the payloads whose time is over, by the periods in `[retention]`. Run it every day
    Run(At),
    /// Keep the payloads of these traces, and of the approvals that they rely on, whatever their age
    Hold {
        #[command(flatten)]
        at: At,
        /// Why; kept in the vault
        #[arg(long)]
        reason: String,
        /// The traces, 64 hex digits each
        #[arg(required = true)]
        traces: Vec<TraceId>,
    },
    /// End a hold: what it kept is due by its age again
    Release {
        #[command(flatten)]
        at: At,
        /// Why; kept in the vault
        #[arg(long)]
        reason: String,
        /// The hold's name
        hold: String,
    },
    /// Say which holds are in force
    Holds(At),
}

impl RetentionCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (at, task) = match self {
            Self::Run(at) => (at, Task::Purge),
            Self::Hold { at, reason, traces } => (at, Task::Hold { traces, reason }),
            Self::Release { at, reason, hold } => (at, Task::Release { hold, reason }),
            Self::Holds(at) => (at, Task::Holds),
        };
        order(&Config::load(&at.config)?, task)?.iter().for_each(|line| println!("{line}"));
        Ok(())
    }
}
