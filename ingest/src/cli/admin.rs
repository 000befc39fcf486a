//! `countersign identity|admin|connection`: changes that admins sign.

use super::{ChangeArgs, ClientArgs};
use crate::config::CredentialRef;
use crate::identity::change::{
    ConnectionDocument, IdentityRecord, Operation, StoreDocument, Submission, new_pseudonym, prove_possession,
};
use crate::identity::key::PrivateKey;
use crate::pipeline::now;
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use countersign_ledger::evidence::step::{Alg, Kind, Revocation};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the owner of a key hands to an admin: the public key and the proof of holding the private one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyOffer {
    name: String,
    alg: Alg,
    key: String,
    possession: String,
}

#[derive(Subcommand, Debug)]
pub(crate) enum IdentityCommand {
    /// Make a key, and the offer that an admin needs to register it
    NewKey {
        /// The ledger that it is for
        #[arg(long)]
        origin: String,
        /// The name to be registered
        name: String,
        /// Where the private key goes; the offer goes beside it with the ending `.offer`
        #[arg(long)]
        out: PathBuf,
    },
    /// Register an identity from its offer
    Register(Register),
    /// Revoke an identity's key
    Revoke {
        #[command(flatten)]
        change: ChangeArgs,
        name: String,
        /// key_compromised, superseded, left or administrative
        #[arg(long, value_parser = revocation)]
        reason: Revocation,
    },
    /// Set all groups of an identity
    Groups {
        #[command(flatten)]
        change: ChangeArgs,
        name: String,
        groups: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Register {
    #[command(flatten)]
    change: ChangeArgs,
    /// The offer
    offer: PathBuf,
    /// service, workload, agent or human
    #[arg(long, value_parser = kind)]
    kind: Kind,
    /// A group; may be given several times
    #[arg(long = "group")]
    groups: Vec<String>,
    /// The owner's name; an agent needs one
    #[arg(long)]
    owner: Option<String>,
    /// The name of the one it may act for
    #[arg(long)]
    on_behalf_of: Option<String>,
    /// Whether it signs changes
    #[arg(long)]
    admin: bool,
    /// How many days the key counts
    #[arg(long, default_value_t = 365)]
    days: u64,
    /// The topic for its chunks, unless `chunk.masked.<name>`
    #[arg(long)]
    destination: Option<String>,
}

fn kind(word: &str) -> Result<Kind, String> {
    Kind::from_word(word).ok_or_else(|| "not one of service, workload, agent, human".into())
}

fn revocation(word: &str) -> Result<Revocation, String> {
    Revocation::from_word(word).ok_or_else(|| "not one of key_compromised, superseded, left, administrative".into())
}

impl IdentityCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::NewKey { origin, name, out } => new_key(&origin, &name, &out),
            Self::Register(args) => args.run(),
            Self::Revoke { change, name, reason } => change.make(Operation::RevokeIdentity { name, reason }),
            Self::Groups { change, name, groups } => change.make(Operation::SetGroups { name, groups }),
        }
    }
}

fn new_key(origin: &str, name: &str, out: &Path) -> anyhow::Result<()> {
    let key = PrivateKey::generate()?;
    let offer = KeyOffer {
        name: name.into(),
        alg: key.public().alg(),
        key: key.public().to_text(),
        possession: prove_possession(origin, name, &key, now())?,
    };
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    key.save(out)?;
    let path = out.with_extension("offer");
    std::fs::write(&path, serde_json::to_string_pretty(&offer)? + "\n")?;
    println!("key {} in {}\noffer for an admin, good for a day: {}", key.kid(), out.display(), path.display());
    Ok(())
}

impl KeyOffer {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("`{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` is not an offer", path.display()))
    }

    /// The record of the one who made the offer, with a fresh pseudonym and no rights.
    fn into_record(self, kind: Kind, not_after: u64) -> anyhow::Result<IdentityRecord> {
        Ok(IdentityRecord {
            name: self.name,
            pseudonym: new_pseudonym()?,
            kind,
            admin: false,
            groups: Vec::new(),
            owner: None,
            on_behalf_of: None,
            alg: self.alg,
            key: self.key,
            not_after,
            destination: None,
            possession: self.possession,
        })
    }
}

/// The record of a person from the offer in a file.
pub(crate) fn offered(path: &Path, not_after: u64) -> anyhow::Result<IdentityRecord> {
    KeyOffer::read(path)?.into_record(Kind::Human, not_after)
}

impl Register {
    fn run(self) -> anyhow::Result<()> {
        let record = KeyOffer::read(&self.offer)?.into_record(self.kind, now() + self.days * 86_400)?;
        self.change.make(Operation::RegisterIdentity(IdentityRecord {
            admin: self.admin,
            groups: self.groups,
            owner: self.owner,
            on_behalf_of: self.on_behalf_of,
            destination: self.destination,
            ..record
        }))
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum AdminCommand {
    /// Show what a proposed change would do
    Show {
        /// The file
        proposal: PathBuf,
    },
    /// Add a signature to a proposed change
    Sign {
        #[command(flatten)]
        client: ClientArgs,
        proposal: PathBuf,
    },
    /// Hand in a change that enough admins have signed
    Submit {
        #[command(flatten)]
        client: ClientArgs,
        proposal: PathBuf,
    },
}

impl AdminCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let read = |path: &Path| -> anyhow::Result<Submission> {
            let text = std::fs::read_to_string(path).with_context(|| format!("`{}`", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("`{}` is not a proposed change", path.display()))
        };
        match self {
            Self::Show { proposal } => {
                let submission = read(&proposal)?;
                let change: serde_json::Value = serde_json::from_str(&submission.change)?;
                println!("{}\nsignatures: {}", serde_json::to_string_pretty(&change)?, submission.signatures.len());
                Ok(())
            }
            Self::Sign { client, proposal } => {
                let mut submission = read(&proposal)?;
                let client = client.client()?;
                submission.sign(&client.config.identity, &client.key, now())?;
                std::fs::write(&proposal, serde_json::to_string_pretty(&submission)? + "\n")?;
                println!("{} signatures", submission.signatures.len());
                Ok(())
            }
            Self::Submit { client, proposal } => {
                println!("in force from entry {} on", client.client()?.submit(&read(&proposal)?)?);
                Ok(())
            }
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConnectionCommand {
    /// Register a PostgreSQL database; its URL is read by the service from a file or a variable
    Postgres {
        #[command(flatten)]
        change: ChangeArgs,
        name: String,
        /// The file, on the service's machine, that holds the URL
        #[arg(long, conflicts_with = "url_env")]
        url_file: Option<PathBuf>,
        /// The variable, in the service's environment, that holds the URL
        #[arg(long)]
        url_env: Option<String>,
    },
    /// Register a folder of Parquet and CSV files
    Folder {
        #[command(flatten)]
        change: ChangeArgs,
        name: String,
        /// The folder, on the service's machine
        path: PathBuf,
    },
}

impl ConnectionCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (change, name, store) = match self {
            Self::Postgres { change, name, url_file, url_env } => {
                let url = match (url_file, url_env) {
                    (Some(path), None) => {
                        let path = std::path::absolute(&path).map_err(|e| anyhow!("`{}`: {e}", path.display()))?;
                        CredentialRef::File(path)
                    }
                    (None, Some(name)) => CredentialRef::Env(name),
                    _ => bail!("say where the service finds the URL: `--url-file` or `--url-env`"),
                };
                (change, name, StoreDocument::Postgres { url })
            }
            Self::Folder { change, name, path } => {
                let path = std::path::absolute(&path).map_err(|e| anyhow!("`{}`: {e}", path.display()))?;
                (change, name, StoreDocument::Folder { path })
            }
        };
        change.make(Operation::SetConnection(ConnectionDocument { name, store }))
    }
}
