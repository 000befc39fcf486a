//! The command line: what it takes, which files it reads, and how it answers. Exit codes: 0 proven, 1 broken, 2 usage or
//! unreadable input, 3 not provable with what was given.

use crate::archive::Archive;
use crate::explain::{self, Listener, Wanted};
use crate::export::{self, Export, Fetched, NOTE_BYTES_MAX};
use crate::fork;
use crate::keys::follow;
use crate::log::{self, Options};
use crate::report::make::{self, PAGE_BYTES_MAX};
use crate::report::page;
use crate::report::sample::STORIES_MAX;
use crate::row;
use crate::single::{self, Growth};
use crate::story::Claim;
use anyhow::{Context, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use countersign_ledger::evidence::{Salt, TraceId};
use countersign_ledger::tlog::{Epochs, Hash, KeyError, Policy, VerifierKey};
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
    /// Write the report that a security reviewer reads: one page, which opens no connection
    Report(ReportArgs),
    /// Tell one story in plain words, and how far each entry of it can be believed
    Explain(ExplainArgs),
    /// Check that a receipt's entry stands in the ledger, and print it
    Receipt(ReceiptArgs),
    /// Check that delivered parts are the bytes that were recorded before they left
    Chunk(ChunkArgs),
    /// Check single rows of a chunk, as `countersign rows` prints them
    Row(RowArgs),
    /// Check that a newer checkpoint's ledger begins with an older one's
    Consistency(ConsistencyArgs),
    /// Check a proof that the log signed two histories
    Fork(ForkArgs),
}

#[derive(Debug, Args)]
struct Common {
    /// The log's public key: `name+id+key`, or a file that holds one
    #[arg(long, value_name = "K", required_unless_present = "epochs")]
    key: Option<String>,
    /// The log's keys in a file, one a line, each but the last with the largest size that it signs; instead of --key
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    epochs: Option<PathBuf>,
    /// Answer with one JSON object (its schemas: docs/formats.md, section 14)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct LogArgs {
    /// The folder or bundle that `countersign ledger export` wrote
    dir: PathBuf,
    #[command(flatten)]
    common: Common,
    /// An older checkpoint that this ledger must extend (repeatable)
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// A C2SP tlog-policy: witnesses who must have cosigned the checkpoint
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where to keep the proof if the log signed two histories
    #[arg(long, value_name = "FILE")]
    fork_proof: Option<PathBuf>,
    /// Check hashes and checkpoints only; for any tlog-tiles log
    #[arg(long, conflicts_with_all = ["identities", "require"])]
    tree_only: bool,
    /// Thumbprints of keys that you know, one a line; signatures by other keys then count as attested
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Claims that must be proven, not attested
    #[arg(long, value_name = "CLAIM", value_delimiter = ',', value_parser = require)]
    require: Vec<Claim>,
    /// A part of a ledger will do; without this it is told as not provable what was left out
    #[arg(long)]
    partial: bool,
}

/// How a ledger is checked, whatever is then made of it.
#[derive(Debug, Args)]
struct Means {
    /// A C2SP tlog-policy: witnesses who must have cosigned the checkpoint
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// An older checkpoint that this ledger must extend (repeatable)
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// Thumbprints of keys that you know, one a line; signatures by other keys then count as attested
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Claims that must be proven, not attested
    #[arg(long, value_name = "CLAIM", value_delimiter = ',', value_parser = require)]
    require: Vec<Claim>,
    /// A part of a ledger will do; without this it is told as not provable what was left out
    #[arg(long)]
    partial: bool,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// The folder or bundle that `countersign ledger export` wrote
    evidence: PathBuf,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    means: Means,
    /// Where to write it; to standard output without this
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Make the page once more and compare it with this one, byte for byte
    #[arg(long, value_name = "PAGE", conflicts_with_all = ["output", "json"])]
    check: Option<PathBuf>,
    /// How many stories to show whole, at most 200
    #[arg(long, value_name = "N", default_value_t = STORIES_MAX)]
    stories: usize,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The folder or bundle that `countersign ledger export` wrote
    evidence: PathBuf,
    /// The index of an entry, or the name of a trace
    #[arg(value_name = "ENTRY|TRACE", value_parser = wanted)]
    what: Wanted,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    means: Means,
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
    /// Where to keep the proof if the log signed two histories
    #[arg(long, value_name = "FILE")]
    fork_proof: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ForkArgs {
    /// The fork proof
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

fn require(word: &str) -> Result<Claim, String> {
    const CAN: [Claim; 3] = [Claim::CallerSignatures, Claim::ApprovalSignatures, Claim::AdminSignatures];
    let found = CAN.into_iter().find(|claim| claim.as_str() == word);
    found.ok_or_else(|| format!("use {}", CAN.map(Claim::as_str).join(", ")))
}

fn wanted(word: &str) -> Result<Wanted, String> {
    // A name can be made of decimal digits alone, and is longer than any index.
    match (Hash::from_hex(word), word.parse::<u64>()) {
        (Ok(hash), _) => Ok(Wanted::Trace(TraceId(hash))),
        (_, Ok(index)) => Ok(Wanted::Entry(index)),
        _ => Err("use an entry's index, or a trace's name of 64 hex digits".to_owned()),
    }
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
        Command::Report(args) => args.common.json,
        Command::Explain(args) => args.common.json,
        Command::Receipt(args) => args.common.json,
        Command::Chunk(args) => args.common.json,
        Command::Row(args) => args.common.json,
        Command::Consistency(args) => args.common.json,
        Command::Fork(args) => args.common.json,
    };
    let (text, exit) = match answer(cli.command, json, &mut *err) {
        Ok(answer) => answer,
        Err(error) => {
            let _ = writeln!(err, "countersign-verify: {error:#}");
            return 2;
        }
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        // An answer that nobody received is not a proof.
        Err(_) => exit.max(2),
    }
}

/// What is printed, and the exit code.
fn answer(command: Command, json: bool, err: &mut dyn Write) -> anyhow::Result<(String, u8)> {
    let proof_file = match &command {
        Command::Log(args) => args.fork_proof.clone(),
        Command::Consistency(args) => args.fork_proof.clone(),
        _ => None,
    };
    let report = match command {
        Command::Report(args) => return report(args, err),
        Command::Explain(args) => return explained(args, err),
        Command::Log(args) => {
            let export = export(&args.dir)?;
            let keys = keys_of(&args.common, &export)?;
            let options = Options {
                policy: args.policy.as_deref().map(|path| policy(path, &keys)).transpose()?,
                keys,
                since: args.since.iter().map(|path| Ok((name(path), file(path)?))).collect::<anyhow::Result<_>>()?,
                tree_only: args.tree_only,
                pinned: args.identities.as_deref().map(thumbprints).transpose()?,
                require: args.require,
                partial: args.partial,
            };
            log::check(&export, &options, &mut (), progress(err))
        }
        Command::Receipt(args) => {
            let text = file(&args.file)?;
            single::receipt(&name(&args.file), &text, &keys(&args.common)?)
        }
        Command::Chunk(args) => {
            let keys = keys(&args.common)?;
            let receipt = file(&args.receipt)?;
            single::chunk(&parts(&args.parts)?, (&name(&args.receipt), &receipt), &keys, args.salt)
        }
        Command::Row(args) => {
            let receipt = file(&args.receipt)?;
            row::check(&args.file, (&name(&args.receipt), &receipt), &keys(&args.common)?)
        }
        Command::Consistency(args) => {
            let keys = keys(&args.common)?;
            let (old, new) = (file(&args.old)?, file(&args.new)?);
            let growth = match (args.dir, &args.proof) {
                (Some(dir), _) => Growth::Export(export(&dir)?),
                (None, Some(proof)) => Growth::Proof(file(proof)?),
                (None, None) => Growth::Nothing,
            };
            single::consistency((&name(&args.old), &old), (&name(&args.new), &new), &keys, &growth)
        }
        Command::Fork(args) => fork::judge(&name(&args.file), &file(&args.file)?, &keys(&args.common)?),
    };
    if let Some((proof, path)) = report.fork_proof.as_ref().zip(proof_file)
        && let Err(error) = std::fs::write(&path, proof)
    {
        // The answer stands all the same.
        let _ = writeln!(err, "countersign-verify: cannot write `{}`: {error}", path.display());
    }
    Ok((if json { report.to_json() } else { report.to_string() }, report.exit))
}

impl Means {
    fn options(self, keys: Epochs) -> anyhow::Result<Options> {
        Ok(Options {
            policy: self.policy.as_deref().map(|path| policy(path, &keys)).transpose()?,
            keys,
            since: self.since.iter().map(|path| Ok((name(path), file(path)?))).collect::<anyhow::Result<_>>()?,
            tree_only: false,
            pinned: self.identities.as_deref().map(thumbprints).transpose()?,
            require: self.require,
            partial: self.partial,
        })
    }
}

/// The report: the page or its JSON, written where it was asked for.
fn report(args: ReportArgs, err: &mut dyn Write) -> anyhow::Result<(String, u8)> {
    let evidence = export(&args.evidence)?;
    let options = args.means.options(keys_of(&args.common, &evidence)?)?;
    let (mut report, review) = make::review(&evidence, &options, args.stories, progress(err));
    if let Some(path) = &args.check {
        let found = match export::read(path, PAGE_BYTES_MAX) {
            Fetched::Bytes(bytes) => bytes,
            Fetched::Missing => bail!("there is no file `{}`", path.display()),
            Fetched::Failed(why) => bail!("cannot read `{}`: {why}", path.display()),
        };
        make::compare(&name(path), &found, &mut report, &review);
        return Ok((report.to_string(), report.exit));
    }
    let text = match args.common.json {
        true => serde_json::to_string_pretty(&review)? + "\n",
        false => page::render(&review),
    };
    let Some(path) = args.output else { return Ok((text, report.exit)) };
    std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok((report.to_string(), report.exit))
}

/// One story in plain words.
fn explained(args: ExplainArgs, err: &mut dyn Write) -> anyhow::Result<(String, u8)> {
    let export = export(&args.evidence)?;
    let options = args.means.options(keys_of(&args.common, &export)?)?;
    let trace = match args.what {
        Wanted::Trace(trace) => trace,
        Wanted::Entry(index) => explain::trace_of(&export, &options.keys, index).map_err(anyhow::Error::msg)?,
    };
    let mut listener = Listener::new(trace);
    let ledger = log::check(&export, &options, &mut listener, progress(err));
    let explained = listener.finish(trace, ledger);
    if explained.lines.is_empty() {
        bail!("there is no trace {trace} in this evidence");
    }
    let text = match args.common.json {
        true => serde_json::to_string_pretty(&explained)? + "\n",
        false => explained.to_string(),
    };
    Ok((text, explained.ledger.exit))
}

/// The log's keys: one, or those of a file with the sizes that each signs.
fn keys(common: &Common) -> anyhow::Result<Epochs> {
    match (&common.key, &common.epochs) {
        (_, Some(path)) => {
            let text = text(path)?;
            Epochs::decode(&text).with_context(|| format!("`{}`", path.display()))
        }
        (Some(text), None) => key(text).map(Epochs::single),
        (None, None) => bail!("required: --key or --epochs"),
    }
}

/// The keys by which an export is judged: those that are given, and where that is one key, those that the export's entries lead to.
fn keys_of(common: &Common, export: &Export) -> anyhow::Result<Epochs> {
    match (&common.key, &common.epochs) {
        (Some(text), None) => Ok(follow(export, key(text)?)),
        _ => keys(common),
    }
}

/// A policy, which must not be about other logs alone.
fn policy(path: &Path, keys: &Epochs) -> anyhow::Result<Policy> {
    let policy = Policy::decode(&file(path)?).with_context(|| format!("`{}`", path.display()))?;
    if !policy.logs().is_empty() && !policy.logs().iter().any(|log| keys.knows(&log.key)) {
        bail!("`{}` names logs, and none has the key that was given", path.display());
    }
    Ok(policy)
}

fn text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(file(path)?).with_context(|| format!("`{}`", path.display()))
}

/// The export at a path.
fn export(path: &Path) -> anyhow::Result<Export> {
    if path.is_dir() {
        return Ok(Export::new(path));
    }
    let archive = Archive::open(path).map_err(|why| anyhow!("`{}` is not evidence: {why}", path.display()))?;
    Ok(Export::of(archive))
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
            let text = self::text(path)?;
            text.trim_end().parse().with_context(|| format!("`{}`", path.display()))
        }
        // A private key that was given by mistake is not to be repeated.
        Err(error @ KeyError::Private) => Err(error.into()),
        Err(error) => Err(error).with_context(|| format!("`{text}` is no file, and as a key")),
    }
}

/// One thumbprint a line; what follows a space is a remark, and so is a line that begins with `#`.
fn thumbprints(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let text = text(path)?;
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
