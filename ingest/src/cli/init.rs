//! `countersign init`: a folder with everything a service needs to start.

use super::admin::offered;
use crate::client::identity_record;
use crate::config::Config;
use crate::identity::change::first_admins;
use crate::identity::key::PrivateKey;
use crate::pipeline::now;
use crate::service::{ledger_options, write_secret};
use anyhow::{Context, bail};
use clap::Args;
use countersign_ledger::evidence::TraceId;
use countersign_ledger::evidence::step::{Continues, Int, Kind, LogCreated};
use countersign_ledger::store::{Append, Ledger};
use countersign_ledger::tlog::{Checkpoint, SignedCheckpoint, SignerKey, VerifierKey};
use std::path::{Path, PathBuf};
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
    /// A first admin's name, `admin` unless stated; its key is made here. May be given several times
    #[arg(long = "admin", value_name = "NAME")]
    pub(crate) admins: Vec<String>,
    /// The offer (`identity new-key`) of a first admin who keeps the key elsewhere. May be given several times
    #[arg(long = "admin-offer", value_name = "FILE")]
    pub(crate) offers: Vec<PathBuf>,
    /// How many admins must sign a change: as many as there are first admins, which is the default
    #[arg(long)]
    pub(crate) quorum: Option<usize>,
    /// A ledger that this one carries on, under another name: an export of it. What it holds is not taken over
    #[arg(long, value_name = "DIR", requires = "continues_key")]
    pub(crate) continues: Option<PathBuf>,
    /// The key of that ledger, or a file of it
    #[arg(long, value_name = "KEY", requires = "continues")]
    pub(crate) continues_key: Option<String>,
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
        let quorum = self.make()?;
        let dir = self.dir.display();
        println!("made ledger `{}` in {dir}", self.origin);
        println!("  {dir}/ledger.vkey   its public key: give it to auditors, and keep a copy elsewhere");
        println!(
            "  {dir}/ledger.key    its signing key, {dir}/keyring the keys of its vault: back them up apart from the store"
        );
        for admin in self.made_here() {
            println!("  {dir}/{admin}.key     a first admin's key: take it off this machine");
        }
        if quorum > 1 {
            println!("{quorum} admins must sign a change: see `--propose`, and `countersign admin sign|submit`");
        }
        println!("next: countersign serve --config {dir}/countersign.toml");
        Ok(())
    }

    /// The first admins whose keys are made here.
    fn made_here(&self) -> Vec<&str> {
        if self.admins.is_empty() && self.offers.is_empty() {
            return vec!["admin"];
        }
        self.admins.iter().map(String::as_str).collect()
    }

    /// Makes the folder, the keys, the configurations and the ledger with its first admins. Gives the quorum.
    pub(crate) fn make(&self) -> anyhow::Result<usize> {
        let dir = &self.dir;
        if dir.exists() && std::fs::read_dir(dir).with_context(|| format!("`{}`", dir.display()))?.next().is_some() {
            bail!("`{}` is not empty", dir.display());
        }
        let now = now();
        let not_after = now + ADMIN_KEY_SECONDS;
        let first = self.made_here().len() + self.offers.len();
        let quorum = self.quorum.unwrap_or(first);
        if quorum != first {
            // Fewer could never sign anything, and more would have entered without the signatures that the quorum asks for.
            bail!(
                "found {first} first admins, required {quorum}, as many as the quorum: name them with `--admin` or `--admin-offer`"
            );
        }
        let mut records = self.offers.iter().map(|offer| offered(offer, not_after)).collect::<Result<Vec<_>, _>>()?;
        let mut keys = Vec::new();
        for name in self.made_here() {
            let key = PrivateKey::generate()?;
            records.push(identity_record(&self.origin, name, Kind::Human, &key, not_after)?);
            keys.push((name, key));
        }
        let continues = self.old_ledger()?;
        // Before anything is written, so that a name that cannot be leaves nothing behind.
        let admins = first_admins(&self.origin, records, now)?;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *seed)?;
        let signer = SignerKey::generate_from_seed(&self.origin, &seed)?;
        let secret = signer.secret_text();
        write_secret(&dir.join("ledger.key"), secret.as_bytes())?;
        std::fs::write(dir.join("ledger.vkey"), format!("{}\n", signer.verifier()))?;
        for (name, key) in keys {
            key.save(&dir.join(format!("{name}.key")))?;
            std::fs::write(dir.join(format!("{name}.toml")), self.client_config(name))?;
        }
        let config = dir.join("countersign.toml");
        std::fs::write(&config, self.service_config())?;
        let config = Config::load(&config)?;
        if let Some(folder) = config.ledger.head.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let options = ledger_options(&config)?;
        let created = LogCreated {
            origin: self.origin.clone(),
            key: options.signer.verifier().to_string(),
            quorum: Int::saturating(quorum as u64),
            continues,
        };
        let created = Append::opening(TraceId::log(), vec![created.into()]);
        Ledger::create(&options, std::iter::once(created).chain(admins).collect())?.close();
        Ok(quorum)
    }

    /// What the last checkpoint of the ledger says that this one carries on.
    fn old_ledger(&self) -> anyhow::Result<Option<Continues>> {
        let (Some(dir), Some(key)) = (&self.continues, &self.continues_key) else { return Ok(None) };
        let text = if Path::new(key).exists() { std::fs::read_to_string(key)? } else { key.clone() };
        let key: VerifierKey = text.trim().parse().context("`--continues-key`")?;
        if key.name() == self.origin {
            bail!("`{}` is the ledger that is carried on: another one needs a name of its own", self.origin);
        }
        let path = dir.join("checkpoint");
        let note = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let signed = SignedCheckpoint::open(&note, key.name(), std::slice::from_ref(&key))
            .with_context(|| format!("`{}`", path.display()))?;
        let Checkpoint { origin, size, root } = signed.checkpoint().clone();
        Ok(Some(Continues {
            origin,
            key: key.to_string(),
            size: Int::try_from(size.get()).map_err(anyhow::Error::msg)?,
            root,
        }))
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
