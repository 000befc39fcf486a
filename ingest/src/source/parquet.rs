//! Parquet files, each read by a process of its own ([`reading`]). Polars takes the counts and lengths in a file on trust: a damaged
//! or hostile one makes it ask for memory that there isn't, fills the stack, or is cut off while it is mapped, and each of these ends
//! the process where it happens. `docs/decisions/0033-parquet-in-a-process-of-its-own.md` says what else was tried.

pub(crate) mod reading;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_masker::schema::ColumnType;
use polars::prelude::DataFrame;
use polars_io::SerReader;
use polars_io::ipc::IpcStreamReader;

use super::SourceError;

/// The command of this program that reads: its argument is the seconds it may take, and the columns whose rows are wanted.
pub(crate) const COMMAND: &str = "read-parquet";

/// The exit code of a process that took longer than it might.
const TOO_LATE: i32 = 75;

/// The signals by which somebody ends a process, which say nothing about the file: HUP, INT, QUIT, TERM.
const STOPPED: [i32; 4] = [1, 2, 3, 15];

/// How long the columns of a file may take to be read, in seconds.
const COLUMNS_SECONDS: u64 = 60;

/// What the reading process says, each with bytes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Said {
    /// Names and types, as JSON.
    Columns = b'c',
    /// Some rows, as an Arrow IPC stream.
    Rows = b'r',
    /// What is wrong with the file, as the rest of a sentence about it.
    Wrong = b'w',
    /// That was all.
    End = b'e',
}

/// Names and types of a file's columns; a type without a representation as [`ColumnType::Unsupported`].
pub(super) fn columns(name: &str, file: File) -> Result<Vec<(String, ColumnType)>, SourceError> {
    let mut reading = Reading::start(name, file, None, COLUMNS_SECONDS)?;
    match reading.next()? {
        (Said::Columns, bytes) => serde_json::from_slice(&bytes).map_err(|_| reading.contradicts()),
        _ => Err(reading.contradicts()),
    }
}

/// The rows of a file, slice by slice.
pub(super) struct ParquetRows<'a> {
    reading: Reading,
    columns: &'a [(String, ColumnType)],
}

impl<'a> ParquetRows<'a> {
    /// Of the given columns. They are there for so many seconds.
    pub(super) fn open(
        name: &str,
        file: File,
        columns: &'a [(String, ColumnType)],
        seconds: u64,
    ) -> Result<Self, SourceError> {
        Ok(Self { reading: Reading::start(name, file, Some(columns), seconds)?, columns })
    }

    /// The next rows; nothing at the end of the file.
    pub(super) fn next_frame(&mut self) -> Result<Option<DataFrame>, SourceError> {
        match self.reading.next()? {
            (Said::End, _) => Ok(None),
            (Said::Rows, bytes) => {
                let frame = IpcStreamReader::new(Cursor::new(bytes)).finish().ok();
                let is_asked_for = |frame: &DataFrame| {
                    let found = frame.columns().iter().map(|column| (column.name().as_str(), column.dtype().clone()));
                    found.eq(self.columns.iter().map(|(name, ty)| (name.as_str(), ty.dtype())))
                };
                frame.filter(is_asked_for).map(Some).ok_or_else(|| self.reading.contradicts())
            }
            _ => Err(self.reading.contradicts()),
        }
    }
}

/// A process that reads a file. It ends when this is dropped.
struct Reading {
    name: String,
    process: Child,
    out: BufReader<ChildStdout>,
    seconds: u64,
}

impl Reading {
    fn start(
        name: &str,
        file: File,
        columns: Option<&[(String, ColumnType)]>,
        seconds: u64,
    ) -> Result<Self, SourceError> {
        let failed = |error: std::io::Error| SourceError::Failed(format!("`{name}`: no process reads it: {error}"));
        let mut command = Command::new(program().map_err(failed)?);
        command.arg(COMMAND).arg(seconds.to_string());
        if let Some(columns) = columns {
            command.arg(serde_json::to_string(columns).map_err(|error| failed(error.into()))?);
        }
        // What a panic of polars says may repeat what is in the file.
        command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::null());
        // What a terminal sends to the service is not for it, and neither is what the environment holds, credentials among it.
        command.process_group(0).env_clear();
        let mut process = command.spawn().map_err(failed)?;
        let out = process.stdout.take().ok_or_else(|| failed(std::io::Error::other("it has no output")))?;
        Ok(Self { name: name.to_owned(), process, out: BufReader::new(out), seconds })
    }

    fn next(&mut self) -> Result<(Said, Vec<u8>), SourceError> {
        match self.message() {
            Ok((Said::Wrong, what)) => {
                let what = String::from_utf8_lossy(&what);
                Err(SourceError::Malformed(format!("`{}` {what}", self.name)))
            }
            Ok(message) => Ok(message),
            Err(_) => Err(match self.process.wait().map(|status| (status.code(), status.signal())) {
                Ok((Some(TOO_LATE), _)) => SourceError::Timeout { seconds: self.seconds },
                Ok((_, Some(signal))) if STOPPED.contains(&signal) => {
                    SourceError::Interrupted(format!("`{}`: the process that read it was stopped", self.name))
                }
                _ => self.contradicts(),
            }),
        }
    }

    fn message(&mut self) -> std::io::Result<(Said, Vec<u8>)> {
        let (mut word, mut length) = ([0], [0; 8]);
        self.out.read_exact(&mut word)?;
        self.out.read_exact(&mut length)?;
        let said = match word {
            [b'c'] => Said::Columns,
            [b'r'] => Said::Rows,
            [b'w'] => Said::Wrong,
            [b'e'] => Said::End,
            _ => return Err(std::io::Error::other("an unknown word")),
        };
        let length = u64::from_le_bytes(length);
        let mut bytes = Vec::new();
        (&mut self.out).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length { Ok((said, bytes)) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }

    /// It ended in the middle, or said what can't be.
    fn contradicts(&self) -> SourceError {
        SourceError::Malformed(format!(
            "`{}` contradicts its own metadata, or was cut off while it was read",
            self.name
        ))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // It has mostly ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this program has [`COMMAND`].
static HAS_COMMAND: AtomicBool = AtomicBool::new(false);

/// Says that this program has [`COMMAND`], so that files are read by it.
pub(crate) fn has_command() {
    HAS_COMMAND.store(true, Ordering::Relaxed);
}

/// The program that reads: this one, as it was started, or for tests and benches the one that was built beside it.
fn program() -> std::io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    let is_own = HAS_COMMAND.load(Ordering::Relaxed);
    if is_own && own.exists() {
        return Ok(own.to_owned());
    }
    let own = std::env::current_exe()?;
    if is_own {
        return Ok(own);
    }
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("countersign"));
    let built = beside.into_iter().find(|program| program.is_file());
    built.ok_or_else(|| std::io::Error::other("`countersign` is not built (`cargo build`)"))
}
