//! `countersign policy|catalog`: checked by the very code that enforces them, before they are signed.

use super::ChangeArgs;
use crate::identity::change::Operation;
use anyhow::Context;
use clap::{Args, Subcommand};
use countersign_masker::{Catalog, Policies};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(crate) struct Put {
    #[command(flatten)]
    change: ChangeArgs,
    /// The file
    file: PathBuf,
}

#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    /// Say whether a policy file could be put in force, and if not where it is wrong
    Check {
        /// The file
        file: PathBuf,
    },
    /// Put a policy file in force
    Set(Put),
}

#[derive(Subcommand, Debug)]
pub(crate) enum CatalogCommand {
    /// Say whether a catalog file could be put in force, and if not where it is wrong
    Check {
        /// The file
        file: PathBuf,
    },
    /// Put a catalog file in force
    Set(Put),
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}

fn check_policy(file: &Path) -> anyhow::Result<String> {
    let text = read(file)?;
    let policies = Policies::parse(&file.display().to_string(), &text)?;
    println!("{}: {} policies", file.display(), policies.ids().count());
    Ok(text)
}

fn check_catalog(file: &Path) -> anyhow::Result<String> {
    let text = read(file)?;
    let catalog = Catalog::parse(&file.display().to_string(), &text)?;
    println!("{}: {} tables", file.display(), catalog.tables().count());
    Ok(text)
}

impl PolicyCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check { file } => check_policy(&file).map(drop),
            Self::Set(Put { change, file }) => change.make(Operation::SetPolicy { text: check_policy(&file)? }),
        }
    }
}

impl CatalogCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check { file } => check_catalog(&file).map(drop),
            Self::Set(Put { change, file }) => change.make(Operation::SetCatalog { text: check_catalog(&file)? }),
        }
    }
}
