//! The command line: what it takes, which files it reads, and how it answers. Exit codes: 0 proven, 1 broken, 2 usage or
//! unreadable input, 3 not provable with what was given.

use crate::export::{self, Export, Fetched, NOTE_BYTES_MAX};
use crate::log::{self, Options};
use crate::report::Report;
use crate::row;
use crate::single::{self, Growth};
use crate::story::Claim;
use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use countersign_ledger::evidence::Salt;
use countersign_ledger::tlog::{Hash, KeyError, VerifierKey};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Check a Countersign ledger with nothing but a public key.
///
/// Exit codes: 0 proven; 1 broken, and it says where; 2 usage or unreadable input; 3 not provable with what was given.
#[derive(Debug, Parser)]
#[command(name = "countersign-verify", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a whole ledger: its tree, its checkpoints, and every story in it
    Log(LogArgs),
    /// Check that a receipt's entry stands in the ledger, and print it
    Receipt(ReceiptArgs),
    /// Check that delivered parts are the bytes that were recorded before they left
    Chunk(ChunkArgs),
    /// Check single rows of a chunk, as `countersign rows` prints them
    Row(RowArgs),
    /// Check that a newer checkpoint's ledger begins with an older one's
    Consistency(ConsistencyArgs),
}

#[derive(Debug, Args)]
struct Common {
    /// The log's public key: `name+id+key`, or a file that holds one
    #[arg(long, value_name = "K")]
    key: String,
    /// Answer with one JSON object (schema countersign-verify/1)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct LogArgs {
    /// The folder that `countersign ledger export` wrote
    dir: PathBuf,
    #[command(flatten)]
    common: Common,
    /// An older checkpoint that this ledger must extend (repeatable)
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// Check hashes and checkpoints only; for any tlog-tiles log
    #[arg(long, conflicts_with_all = ["identities", "require"])]
    tree_only: bool,
    /// Thumbprints of keys that you know, one a line; signatures by other keys then count as attested
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Claims that must be proven, not attested
    #[arg(long, value_name = "CLAIM", value_delimiter = ',', value_parser = require)]
    require: Vec<Claim>,
}

#[derive(Debug, Args)]
struct ReceiptArgs {
    /// The receipt
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct ChunkArgs {
    /// The parts in order, or a folder that holds them
    #[arg(required = true, value_name = "FILE")]
    parts: Vec<PathBuf>,
    /// The receipt that came with the last part
    #[arg(long, value_name = "R")]
    receipt: PathBuf,
    #[command(flatten)]
    common: Common,
    /// The chunk's salt, where the receipt does not hold it
    #[arg(long, value_name = "HEX", value_parser = salt)]
    salt: Option<Salt>,
}

#[derive(Debug, Args)]
struct RowArgs {
    /// Rows with their proofs, one a line
    file: PathBuf,
    /// The receipt of the delivery, or of the `chunk.masked`
    #[arg(long, value_name = "R")]
    receipt: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct ConsistencyArgs {
    /// The older checkpoint
    old: PathBuf,
    /// The newer checkpoint
    new: PathBuf,
    /// The folder of an export at least as large as the newer one
    dir: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// A consistency proof instead of an export: base64 hashes, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    proof: Option<PathBuf>,
}

fn require(word: &str) -> Result<Claim, String> {
    const CAN: [Claim; 3] = [Claim::CallerSignatures, Claim::ApprovalSignatures, Claim::AdminSignatures];
    let found = CAN.into_iter().find(|claim| claim.as_str() == word);
    found.ok_or_else(|| format!("use {}", CAN.map(Claim::as_str).join(", ")))
}

fn salt(hex: &str) -> Result<Salt, String> {
    Hash::from_hex(hex).map(|hash| *hash.as_bytes()).map_err(|e| e.to_string())
}

/// Runs the tool: arguments with the program's name first, answers to `out`, complaints to `err`. Gives the exit code.
pub fn run<I>(args: I, out: &mut dyn Write, err: &mut dyn Write) -> u8
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render().to_string();
            // Asking for help is no fault.
            if error.use_stderr() {
                let _ = err.write_all(text.as_bytes());
                return 2;
            }
            return if out.write_all(text.as_bytes()).is_ok() { 0 } else { 2 };
        }
    };
    let json = match &cli.command {
        Command::Log(args) => args.common.json,
        Command::Receipt(args) => args.common.json,
        Command::Chunk(args) => args.common.json,
        Command::Row(args) => args.common.json,
        Command::Consistency(args) => args.common.json,
    };
    let report = match answer(cli.command, &mut *err) {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(err, "countersign-verify: {error:#}");
            return 2;
        }
    };
    let text = if json { report.to_json() } else { report.to_string() };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => report.exit,
        // An answer that nobody received is not a proof.
        Err(_) => report.exit.max(2),
    }
}

fn answer(command: Command, err: &mut dyn Write) -> anyhow::Result<Report> {
    match command {
        Command::Log(args) => {
            let options = Options {
                key: key(&args.common.key)?,
                since: args.since.iter().map(|path| Ok((name(path), file(path)?))).collect::<anyhow::Result<_>>()?,
                tree_only: args.tree_only,
                pinned: args.identities.as_deref().map(thumbprints).transpose()?,
                require: args.require,
            };
            Ok(log::check(&export(&args.dir)?, &options, &mut (), progress(err)))
        }
        Command::Receipt(args) => {
            let text = file(&args.file)?;
            Ok(single::receipt(&name(&args.file), &text, &key(&args.common.key)?))
        }
        Command::Chunk(args) => {
            let key = key(&args.common.key)?;
            let receipt = file(&args.receipt)?;
            Ok(single::chunk(&parts(&args.parts)?, (&name(&args.receipt), &receipt), &key, args.salt))
        }
        Command::Row(args) => {
            let receipt = file(&args.receipt)?;
            Ok(row::check(&args.file, (&name(&args.receipt), &receipt), &key(&args.common.key)?))
        }
        Command::Consistency(args) => {
            let key = key(&args.common.key)?;
            let (old, new) = (file(&args.old)?, file(&args.new)?);
            let growth = match (args.dir, &args.proof) {
                (Some(dir), _) => Growth::Export(export(&dir)?),
                (None, Some(proof)) => Growth::Proof(file(proof)?),
                (None, None) => Growth::Nothing,
            };
            Ok(single::consistency((&name(&args.old), &old), (&name(&args.new), &new), &key, &growth))
        }
    }
}

/// The export at a path.
fn export(path: &Path) -> anyhow::Result<Export> {
    if !path.is_dir() {
        bail!("`{}` is not a folder", path.display());
    }
    Ok(Export::new(path))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    match export::read(path, NOTE_BYTES_MAX) {
        Fetched::Bytes(bytes) if bytes.len() as u64 <= NOTE_BYTES_MAX => Ok(bytes),
        Fetched::Bytes(_) => bail!("`{}` has more than {NOTE_BYTES_MAX} bytes", path.display()),
        Fetched::Missing => bail!("there is no file `{}`", path.display()),
        Fetched::Failed(why) => bail!("cannot read `{}`: {why}", path.display()),
    }
}

/// The key: as text, or from a file of one.
fn key(text: &str) -> anyhow::Result<VerifierKey> {
    let direct = text.parse::<VerifierKey>();
    let path = Path::new(text);
    match direct {
        Ok(key) => Ok(key),
        Err(_) if path.exists() => {
            let bytes = file(path)?;
            let text = std::str::from_utf8(&bytes).with_context(|| format!("`{}`", path.display()))?;
            text.trim_end().parse().with_context(|| format!("`{}`", path.display()))
        }
        // A private key that was given by mistake is not to be repeated.
        Err(error @ KeyError::Private) => Err(error.into()),
        Err(error) => Err(error).with_context(|| format!("`{text}` is no file, and as a key")),
    }
}

/// One thumbprint a line; what follows a space is a remark, and so is a line that begins with `#`.
fn thumbprints(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let bytes = file(path)?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("`{}`", path.display()))?;
    let mut pinned = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let Some(word) = line.split_whitespace().next().filter(|word| !word.starts_with('#')) else { continue };
        let base64url = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if word.len() != 43 || !word.chars().all(base64url) {
            bail!("`{}`, line {}: not a thumbprint of 43 base64url characters", path.display(), at + 1);
        }
        pinned.insert(word.to_owned());
    }
    Ok(pinned)
}

/// The parts: files as they are given, and of a folder those in it in the order of their names. Where a folder holds files
/// called `….part-…`, these are the parts.
fn parts(given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    for path in given {
        if !path.is_dir() {
            parts.push(path.clone());
            continue;
        }
        let cannot = || format!("cannot list `{}`", path.display());
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).with_context(cannot)? {
            let entry = entry.with_context(cannot)?.path();
            if entry.is_file() {
                inside.push(entry);
            }
        }
        let is_part = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".part-"));
        if inside.iter().any(is_part) {
            inside.retain(is_part);
        }
        if inside.is_empty() {
            bail!("there are no parts in `{}`", path.display());
        }
        inside.sort_unstable();
        parts.extend(inside);
    }
    Ok(parts)
}

/// Tells a person at a terminal how far it is, and nobody else.
fn progress(err: &mut dyn Write) -> impl FnMut(u64, u64) {
    const STEP: u64 = 1 << 16;
    let watched = std::io::stderr().is_terminal();
    let mut next = STEP;
    move |done, of| {
        if watched && done >= next {
            next = done + STEP;
            let _ = write!(err, "\r{done} of {of} entries");
            if done == of || next > of {
                let _ = write!(err, "\r\x1b[K");
            }
            let _ = err.flush();
        }
    }
}
