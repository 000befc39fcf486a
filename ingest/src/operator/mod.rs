//! What operators do to a ledger on the service's own machine: purge, hold, back up, record an export. While the service runs it has the
//! ledger to itself, so it is asked to do it, over a Unix socket that only its own user may open; otherwise the command opens the
//! ledger and does it. Both ways come to [`perform`].
//!
//! A connection carries one task and one answer, a line of JSON each.

use crate::config::Config;
use crate::export;
use crate::pipeline::{Core, now};
use crate::service::ledger_options;
use anyhow::{Context, bail};
use countersign_ledger::evidence::{Class, Day, TraceId};
use countersign_ledger::store::{Ledger, Periods, Purged, Selection};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest line that is read, in bytes: a hold may name some hundred traces.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// How long the other side may take over its line. A task itself may take longer: the client then waits without end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Destroy what is due.
    Purge,
    /// Keep the payloads of these traces.
    Hold {
        /// The traces.
        traces: Vec<TraceId>,
        /// Why.
        reason: String,
    },
    /// End a hold.
    Release {
        /// Its name.
        hold: String,
        /// Why.
        reason: String,
    },
    /// Say which holds are in force.
    Holds,
    /// Copy the store.
    Backup {
        /// To this folder, which is made.
        dir: PathBuf,
    },
    /// Record an export that is about to be made.
    RecordExport {
        /// Of which requests.
        selection: Selection,
        /// The classes of payloads that come with it, in the clear.
        payloads: Vec<Class>,
    },
}

/// What was done, in lines for people, or why not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Vec<String>),
    Refused(String),
}

/// Does it.
pub fn perform(ledger: &Ledger, periods: &Periods, task: Task) -> anyhow::Result<Vec<String>> {
    match task {
        Task::Purge => purge(ledger, periods),
        Task::Hold { traces, reason } => {
            let hold = ledger.hold(&traces, &reason)?;
            Ok(vec![format!("hold {hold} is in force")])
        }
        Task::Release { hold, reason } => {
            ledger.release(&hold, &reason)?;
            Ok(vec![format!("hold {hold} is over")])
        }
        Task::Holds => Ok(ledger
            .holds()?
            .into_iter()
            .map(|hold| {
                let reason = hold.reason.unwrap_or_default();
                format!("{}  entry {}  {} traces  {reason}", hold.name, hold.index, hold.traces.len())
            })
            .collect()),
        Task::Backup { dir } => {
            let size = ledger.backup(&dir)?;
            Ok(vec![format!("{size} entries in {}", dir.display())])
        }
        Task::RecordExport { selection, payloads } => {
            let index = export::record(ledger, &selection, None, &payloads)?;
            Ok(vec![format!("recorded as entry {index}")])
        }
    }
}

fn purge(ledger: &Ledger, periods: &Periods) -> anyhow::Result<Vec<String>> {
    if periods.is_empty() {
        bail!("no class has a period in `[retention]`, so nothing is ever due");
    }
    let report = ledger.purge(periods, Day::of_unix_seconds(now()))?;
    let mut said: Vec<String> = Vec::new();
    for Purged { class, day, payloads, bytes, kept } in &report.purged {
        said.push(format!("{class} of {day}: {payloads} payloads destroyed, {bytes} bytes, {kept} kept"));
    }
    let (payloads, bytes) = report.purged.iter().fold((0, 0), |(n, b), p| (n + p.payloads, b + p.bytes));
    said.push(format!(
        "{payloads} payloads of {bytes} bytes destroyed; {} that are due are held or unfinished",
        report.kept
    ));
    said.push(format!("the store: {} bytes before, {} bytes after", report.bytes_before, report.bytes_after));
    Ok(said)
}

/// The socket's place. A socket that is there already is replaced: the ledger's lock is held, so nobody answers there. It gets its name
/// when it is its owner's alone, so that nobody else is ever let in.
fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => bail!("`{}` is there and is no socket", path.display()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot look at `{}`", path.display()));
        }
        _ => (),
    }
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot remove `{}`", new.display()));
        }
        _ => (),
    }
    let listener = UnixListener::bind(&new).with_context(|| format!("cannot listen on `{}`", new.display()))?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path).with_context(|| format!("cannot listen on `{}`", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Listens; give the result to [`run`].
pub fn listen(config: &Config) -> anyhow::Result<UnixListener> {
    bind(&config.ledger.control)
}

/// Takes tasks, one after the other, until the service stops.
pub fn run(core: &Core, listener: &UnixListener) {
    while !core.drain.is_on() {
        match listener.accept() {
            Ok((connection, _)) => {
                if let Err(error) = answer(core, connection) {
                    tracing::warn!(%error, "an operator's command got no answer");
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => core.drain.sleep(Duration::from_millis(100)),
            Err(error) => {
                tracing::warn!(%error, "an operator's command could not be taken");
                core.drain.sleep(Duration::from_secs(1));
            }
        }
    }
    let _ = std::fs::remove_file(&core.config.ledger.control);
}

fn answer(core: &Core, connection: UnixStream) -> anyhow::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let task: Task = serde_json::from_str(&read_line(&connection)?).context("not a task")?;
    tracing::info!(?task, "an operator's command");
    let answer = match perform(&core.ledger, &core.config.periods(), task) {
        Ok(said) => Answer::Done(said),
        Err(error) => Answer::Refused(format!("{error:#}")),
    };
    write_line(&connection, &answer)
}

fn read_line(connection: &UnixStream) -> anyhow::Result<String> {
    let mut line = String::new();
    BufReader::new(connection.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    if !line.ends_with('\n') {
        bail!("the connection ended early");
    }
    Ok(line)
}

fn write_line(mut connection: &UnixStream, value: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value)? + "\n";
    Ok(connection.write_all(line.as_bytes())?)
}

/// Has a task done: by the service where one runs, here where none does.
pub fn order(config: &Config, task: Task) -> anyhow::Result<Vec<String>> {
    let path = &config.ledger.control;
    match UnixStream::connect(path) {
        Ok(connection) => {
            write_line(&connection, &task)?;
            match serde_json::from_str(&read_line(&connection)?).context("the service's answer")? {
                Answer::Done(said) => Ok(said),
                Answer::Refused(why) => bail!("{why}"),
            }
        }
        // No service: its socket is gone, or left behind by one that was killed.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
            let ledger = Ledger::open(&ledger_options(config)?).context("the ledger")?;
            let done = perform(&ledger, &config.periods(), task);
            ledger.close();
            done
        }
        Err(e) => Err(e).with_context(|| format!("cannot reach the service at `{}`", path.display())),
    }
}
