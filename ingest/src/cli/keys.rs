//! `countersign keys`: the keys that are files beside the service.

use crate::config::Config;
use crate::tokens;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// Make a new master key of tokens; older tokens can still be turned back, and cannot be joined with new ones
    RotateTokens {
        /// The service's configuration
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
    },
}

impl KeysCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self::RotateTokens { config } = self;
        let keyring = Config::load(&config)?.ledger.keyring;
        let version = tokens::rotate(&keyring)?;
        println!("token key version {version} in {}: the service uses it from its next start on", keyring.display());
        Ok(())
    }
}
