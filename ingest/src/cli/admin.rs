//! `countersign identity|admin|connection`: changes that admins sign.

use super::ClientArgs;
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
        client: ClientArgs,
        name: String,
        /// key_compromised, superseded, left or administrative
        #[arg(long, value_parser = revocation)]
        reason: Revocation,
    },
    /// Set all groups of an identity
    Groups {
        #[command(flatten)]
        client: ClientArgs,
        name: String,
        groups: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Register {
    #[command(flatten)]
    client: ClientArgs,
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
    /// Write the signed change to a file, for other admins to sign, instead of handing it in
    #[arg(long)]
    propose: Option<PathBuf>,
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
            Self::Revoke { client, name, reason } => {
                report(client.client()?.change(Operation::RevokeIdentity { name, reason })?)
            }
            Self::Groups { client, name, groups } => {
                report(client.client()?.change(Operation::SetGroups { name, groups })?)
            }
        }
    }
}

fn report(index: u64) -> anyhow::Result<()> {
    println!("in force from entry {index} on");
    Ok(())
}

fn new_key(origin: &str, name: &str, out: &Path) -> anyhow::Result<()> {
    let key = PrivateKey::generate()?;
    let offer = KeyOffer {
        name: name.into(),
        alg: key.public().alg(),
        key: key.public().to_text(),
        possession: prove_possession(origin, name, &key, now())?,
    };
    key.save(out)?;
    let path = out.with_extension("offer");
    std::fs::write(&path, serde_json::to_string_pretty(&offer)? + "\n")?;
    println!("key {} in {}\noffer for an admin, good for a day: {}", key.kid(), out.display(), path.display());
    Ok(())
}

impl Register {
    fn run(self) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&self.offer).with_context(|| format!("`{}`", self.offer.display()))?;
        let offer: KeyOffer = serde_json::from_str(&text).with_context(|| format!("`{}`", self.offer.display()))?;
        let client = self.client.client()?;
        let record = IdentityRecord {
            name: offer.name,
            pseudonym: new_pseudonym()?,
            kind: self.kind,
            admin: self.admin,
            groups: self.groups,
            owner: self.owner,
            on_behalf_of: self.on_behalf_of,
            alg: offer.alg,
            key: offer.key,
            not_after: now() + self.days * 86_400,
            destination: self.destination,
            possession: offer.possession,
        };
        let operation = Operation::RegisterIdentity(record);
        match self.propose {
            None => report(client.change(operation)?),
            Some(path) => {
                std::fs::write(&path, serde_json::to_string_pretty(&client.propose(operation)?)? + "\n")?;
                println!("signed; for the other admins: {}", path.display());
                Ok(())
            }
        }
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
            Self::Submit { client, proposal } => report(client.client()?.submit(&read(&proposal)?)?),
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConnectionCommand {
    /// Register a PostgreSQL database; its URL is read by the service from a file or a variable
    Postgres {
        #[command(flatten)]
        client: ClientArgs,
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
        client: ClientArgs,
        name: String,
        /// The folder, on the service's machine
        path: PathBuf,
    },
}

impl ConnectionCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (client, name, store) = match self {
            Self::Postgres { client, name, url_file, url_env } => {
                let url = match (url_file, url_env) {
                    (Some(path), None) => CredentialRef::File(path),
                    (None, Some(name)) => CredentialRef::Env(name),
                    _ => bail!("say where the service finds the URL: `--url-file` or `--url-env`"),
                };
                (client, name, StoreDocument::Postgres { url })
            }
            Self::Folder { client, name, path } => {
                let path = std::path::absolute(&path).map_err(|e| anyhow!("`{}`: {e}", path.display()))?;
                (client, name, StoreDocument::Folder { path })
            }
        };
        report(client.client()?.change(Operation::SetConnection(ConnectionDocument { name, store }))?)
    }
}
