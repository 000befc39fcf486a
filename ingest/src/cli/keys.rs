//! `countersign keys`: the ledger's signing key, made and replaced.

use crate::config::Config;
use crate::service::{ledger_options, read_secret, write_secret};
use crate::tokens;
use anyhow::{Context, bail};
use clap::Subcommand;
use countersign_ledger::store::Ledger;
use countersign_ledger::tlog::SignerKey;
use countersign_ledger::vault::files;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// Make a signing key: the private one goes to FILE, for its owner alone, the public one to FILE with the ending `.vkey`
    New {
        /// The ledger's name
        #[arg(long)]
        origin: String,
        /// The file
        #[arg(long)]
        out: PathBuf,
    },
    /// Replace the ledger's signing key. The service must be stopped meanwhile
    Rotate {
        /// The service's configuration
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
        /// The new key, made by `keys new`; without it one is made
        #[arg(long, value_name = "FILE")]
        new: Option<PathBuf>,
    },
    /// Make a new master key of tokens; older tokens can still be turned back, and cannot be joined with new ones
    RotateTokens {
        /// The service's configuration
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
    },
}

impl KeysCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::New { origin, out } => {
                let public = out.with_extension("vkey");
                if public == out {
                    bail!("`{}` is where the public key goes: name the private one otherwise", out.display());
                }
                if public.symlink_metadata().is_ok() {
                    bail!("`{}` is there already, and would be another key's", public.display());
                }
                let key = generate(&origin)?;
                write_secret(&out, key.secret_text().as_bytes())?;
                replace(&public, &format!("{}\n", key.verifier()))?;
                println!("{}", key.verifier());
                eprintln!("the private key is in {}, the public one in {}", out.display(), public.display());
                Ok(())
            }
            Self::Rotate { config, new } => rotate(&Config::load(&config)?, new.as_deref()),
            Self::RotateTokens { config } => {
                let keyring = Config::load(&config)?.ledger.keyring;
                let version = tokens::rotate(&keyring)?;
                println!(
                    "token key version {version} in {}: the service uses it from its next start on",
                    keyring.display()
                );
                Ok(())
            }
        }
    }
}

fn generate(origin: &str) -> anyhow::Result<SignerKey> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(SignerKey::generate_from_seed(origin, &seed)?)
}

fn read(path: &Path) -> anyhow::Result<SignerKey> {
    let text = read_secret(path)?;
    text.trim().parse().map_err(|e| anyhow::anyhow!("`{}`: {e}", path.display()))
}

/// The new key lies in `<key>.next` before the ledger names it, and takes the old one's place afterwards: wherever this is broken off,
/// the same command carries it to its end.
fn rotate(config: &Config, given: Option<&Path>) -> anyhow::Result<()> {
    let options = ledger_options(config)?;
    let key = &config.ledger.key;
    let next = with_ending(key, "next");
    let begun = next.exists();
    let new = match (begun, given) {
        (true, Some(given)) if read(given)?.verifier() != read(&next)?.verifier() => {
            bail!("a rotation to the key in `{}` was broken off: run this without `--new` to end it", next.display())
        }
        (true, _) => read(&next)?,
        (false, given) => {
            let new = match given {
                Some(given) => read(given)?,
                None => generate(&config.origin)?,
            };
            write_secret(&next, new.secret_text().as_bytes())?;
            new
        }
    };
    let size = match Ledger::rotate(&options, &new) {
        Ok(size) => size,
        Err(error) => {
            // Where the ledger was not touched the next key is of no use, and must not stand in the way of another one. One that was there
            // before may be another process's, which is about to have the ledger name it.
            if !begun && Ledger::open_reading(&options).is_ok_and(|ledger| !ledger.epochs().knows(new.verifier())) {
                std::fs::remove_file(&next).with_context(|| format!("cannot remove `{}`", next.display()))?;
            }
            return Err(error).context("the key was not replaced");
        }
    };
    let epochs = Ledger::open_reading(&options)?.epochs().to_string();
    let (public, all) = (key.with_extension("vkey"), key.with_extension("epochs"));
    replace(&public, &format!("{}\n", new.verifier()))?;
    replace(&all, &epochs)?;
    // Last: without the next key the same command would begin another rotation.
    files::supersede(&next, key)?;
    println!("{}", new.verifier());
    eprintln!("the old key signs up to size {size}, this one from there on; {} has both", all.display());
    eprintln!("give witnesses the new key, and auditors {}", public.display());
    Ok(())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Writes a public file, in place of one that is there.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = with_ending(path, "new");
    let failed = || format!("cannot write `{}`", path.display());
    std::fs::write(&new, text).with_context(failed)?;
    std::fs::File::open(&new).and_then(|file| file.sync_all()).with_context(failed)?;
    std::fs::rename(&new, path).with_context(failed)?;
    Ok(files::sync_parent(path)?)
}
