//! Real parts for the tests: an Apache Kafka, a PostgreSQL, and any other program, each with its own folder and free ports. A part
//! ends when its value is dropped, and at the latest when the test process ends, however that ends; nothing else is ever touched.
//!
//! A test binary takes what it needs with `mod support;`. Tests that only add their own topics, users or tables share one part
//! ([`shared_kafka`], [`shared_postgres`]); a test that kills a part starts its own.
#![allow(dead_code, unused_imports, reason = "each test binary compiles this module and uses its own share of it")]
#![allow(unreachable_pub, reason = "`pub` marks what tests may use; a test binary itself exports nothing")]

mod folder;
pub mod kafka;
pub mod postgres;
pub mod process;
pub mod witness;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

pub use folder::Folder;
pub use kafka::Kafka;
pub use postgres::Postgres;
pub use process::Process;

/// One Kafka without ACLs for the whole test binary, started by the first test that asks. Use topic names of your own.
pub fn shared_kafka() -> Result<&'static Kafka> {
    static KAFKA: OnceLock<Result<Kafka, String>> = OnceLock::new();
    shared(&KAFKA, Kafka::start)
}

/// One PostgreSQL for the whole test binary, started by the first test that asks. Use databases or table names of your own.
pub fn shared_postgres() -> Result<&'static Postgres> {
    static POSTGRES: OnceLock<Result<Postgres, String>> = OnceLock::new();
    shared(&POSTGRES, Postgres::start)
}

fn shared<T>(cell: &'static OnceLock<Result<T, String>>, start: impl FnOnce() -> Result<T>) -> Result<&'static T> {
    cell.get_or_init(|| start().map_err(|e| format!("{e:#}"))).as_ref().map_err(|e| anyhow!("{e}"))
}

/// The path of Tessera's `fsck`, or `None` where this machine has no Go to build it; then the test calls [`skip`] and returns.
pub fn fsck() -> Result<Option<PathBuf>> {
    judge("fsck")
}

/// The path of one of the outside judges' programs, as [`fsck`].
pub fn judge(name: &str) -> Result<Option<PathBuf>> {
    let folder = script("judges-fetch")?;
    Ok((!folder.is_empty()).then(|| Path::new(&folder).join(name)))
}

/// Says that a test was skipped and why. Goes past libtest's capture, so that a reader sees it and `make test` counts it.
pub fn skip(test: &str, why: &str) {
    use std::io::Write;
    // In one write and on a line of its own, whatever libtest is in the middle of printing. A closed stderr is nobody reading.
    let _ = std::io::stderr().write_all(format!("\nskipped: {test}: {why}\n").as_bytes());
}

/// Runs one of `scripts/`, which fetch a part once and print where it is.
fn script(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name);
    output(&mut Command::new(path)).with_context(|| format!("scripts/{name}"))
}

/// What a command printed, trimmed; if it fails, an error with what it said.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out =
        command.stdin(std::process::Stdio::null()).output().with_context(|| format!("could not start `{program}`"))?;
    let said = String::from_utf8_lossy(&out.stdout);
    ensure!(
        out.status.success(),
        "`{program}` ended with {}\n{said}{}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(said.trim().to_owned())
}

/// A TCP port of 127.0.0.1 that nobody listens on right now. Below the range that the kernel takes ports of outgoing connections
/// from: there, a client that keeps trying a dead server's port could end up connected to itself and hold the port.
pub fn free_port() -> Result<u16> {
    use std::hash::{BuildHasher, RandomState};
    const FIRST: u64 = 15_000;
    const COUNT: u64 = 17_000;
    for attempt in 0..100_u32 {
        let port = u16::try_from(FIRST + RandomState::new().hash_one(attempt) % COUNT)?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(anyhow!("found no free port in 100 attempts"))
}

/// Starts a server, up to 3 times on new ports: between finding a port free and listening on it, another may take it.
fn retry_start<T>(mut start: impl FnMut() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match start() {
            Err(e) if attempt < 3 && format!("{e:#}").to_lowercase().contains("address already in use") => attempt += 1,
            result => return result,
        }
    }
}
