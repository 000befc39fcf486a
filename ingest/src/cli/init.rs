//! `countersign init`: a folder with everything a service needs to start.

use crate::client::identity_record;
use crate::config::Config;
use crate::identity::change::first_admin;
use crate::identity::key::PrivateKey;
use crate::pipeline::now;
use crate::service::{ledger_options, write_secret};
use anyhow::{Context, bail};
use clap::Args;
use countersign_ledger::evidence::TraceId;
use countersign_ledger::evidence::step::{Int, Kind, LogCreated};
use countersign_ledger::store::{Append, Ledger};
use countersign_ledger::tlog::SignerKey;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Ten years, in seconds: an admin's key lasts until it is replaced.
const ADMIN_KEY_SECONDS: u64 = 10 * 366 * 86_400;

#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The folder to make
    pub(crate) dir: PathBuf,
    /// The ledger's name for ever: a URL without its scheme, as in `ledger.example.com/audit`
    #[arg(long)]
    pub(crate) origin: String,
    /// The first admin's name
    #[arg(long, default_value = "admin")]
    pub(crate) admin: String,
    /// How many admins must sign a change
    #[arg(long, default_value_t = 1)]
    pub(crate) quorum: u64,
    /// Kafka, as in `localhost:9092`
    #[arg(long, default_value = "localhost:9092")]
    pub(crate) kafka: String,
    /// Where the service listens
    #[arg(long, default_value = "127.0.0.1:8722")]
    pub(crate) listen: std::net::SocketAddr,
    /// Where the service shows its metrics
    #[arg(long, default_value = "127.0.0.1:8723")]
    pub(crate) metrics: std::net::SocketAddr,
}

impl Init {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        self.make()?;
        let dir = self.dir.display();
        println!("made ledger `{}` in {dir}", self.origin);
        println!("  {dir}/ledger.vkey   its public key: give it to auditors, and keep a copy elsewhere");
        println!(
            "  {dir}/ledger.key    its signing key, {dir}/keyring the keys of its vault: back them up apart from the store"
        );
        println!("  {dir}/{}.key     the first admin's key: take it off this machine", self.admin);
        println!("next: countersign serve --config {dir}/countersign.toml");
        Ok(())
    }

    /// Makes the folder, the keys, the configurations and the ledger with its first admin.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        let dir = &self.dir;
        if dir.exists() && std::fs::read_dir(dir).with_context(|| format!("`{}`", dir.display()))?.next().is_some() {
            bail!("`{}` is not empty", dir.display());
        }
        if self.quorum != 1 {
            // One admin enters with the log, and whoever should follow would need the others' signatures.
            bail!("a quorum of {}: a new ledger has one admin, so only 1 is possible yet", self.quorum);
        }
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *seed)?;
        let signer = SignerKey::generate_from_seed(&self.origin, &seed)?;
        let secret = signer.secret_text();
        write_secret(&dir.join("ledger.key"), secret.as_bytes())?;
        std::fs::write(dir.join("ledger.vkey"), format!("{}\n", signer.verifier()))?;
        let admin = PrivateKey::generate()?;
        admin.save(&dir.join(format!("{}.key", self.admin)))?;
        let config = dir.join("countersign.toml");
        std::fs::write(&config, self.service_config())?;
        std::fs::write(dir.join(format!("{}.toml", self.admin)), self.client_config(&self.admin))?;
        let config = Config::load(&config)?;
        if let Some(folder) = config.ledger.head.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let now = now();
        let record = identity_record(&self.origin, &self.admin, Kind::Human, &admin, now + ADMIN_KEY_SECONDS)?;
        let first = first_admin(&self.origin, &record, now)?;
        let quorum = Int::try_from(self.quorum).map_err(anyhow::Error::msg)?;
        let options = ledger_options(&config)?;
        let created = LogCreated { origin: self.origin.clone(), key: options.signer.verifier().to_string(), quorum };
        let created = Append::opening(TraceId::log(), vec![created.into()]);
        Ledger::create(&options, vec![created, first])?.close();
        Ok(())
    }

    fn service_config(&self) -> String {
        let Self { origin, kafka, listen, metrics, .. } = self;
        format!(
            "# The service's parts and where they are. Rights are not configured here: they live in the ledger.\n\
             origin = {origin:?}\n\n\
             [kafka]\nbootstrap = {kafka:?}\n# [kafka.properties]\n# \"security.protocol\" = \"ssl\"\n\n\
             [http]\nlisten = \"{listen}\"\nmetrics = \"{metrics}\"\n"
        )
    }

    /// The client configuration of one identity of this ledger, for a file beside the service's.
    pub(crate) fn client_config(&self, identity: &str) -> String {
        let Self { origin, kafka, listen, .. } = self;
        format!(
            "origin = {origin:?}\nidentity = {identity:?}\nkey = \"{identity}.key\"\nhttp = \"http://{listen}\"\n\
             ledger_key = \"ledger.vkey\"\n\n[kafka]\nbootstrap = {kafka:?}\n"
        )
    }
}
