//! torchwood's `litewitness`, a witness that none of us wrote, with a key of its own in an `ssh-agent` of its own. What it has cosigned
//! survives [`Litewitness::stop`] and [`Litewitness::start`].

use super::{Folder, Process, free_port, judge, output, retry_start};
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_ledger::tlog::WitnessKey;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A witness; ended when dropped.
pub struct Litewitness {
    process: Option<Process>,
    // Ends after what uses it.
    _agent: Process,
    folder: Folder,
    programs: Programs,
    name: String,
    key: WitnessKey,
    fingerprint: String,
    port: u16,
    starts: u32,
}

struct Programs {
    witness: PathBuf,
    control: PathBuf,
}

impl Litewitness {
    /// One that knows no log yet, and doesn't run; `None` where this machine has no Go to build it.
    pub fn new(name: &str) -> Result<Option<Litewitness>> {
        let (Some(witness), Some(control)) = (judge("litewitness")?, judge("witnessctl")?) else { return Ok(None) };
        let folder = Folder::new("witness")?;
        let (key, socket) = (folder.path().join("key"), folder.path().join("agent.sock"));
        output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket);
        let mut agent = Process::start("ssh-agent", &agent, &folder.path().join("agent.log"))?;
        agent.wait_until("listening", PATIENCE, |_| socket.exists())?;
        output(Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket))?;
        let public = key.with_extension("pub");
        let said = output(Command::new("ssh-keygen").arg("-lf").arg(&public))?;
        let fingerprint = said.split(' ').nth(1).context("no fingerprint")?.to_owned();
        // An OpenSSH key ends in the 32 bytes of the Ed25519 key.
        let text = std::fs::read_to_string(&public)?;
        let bytes = STANDARD.decode(text.split(' ').nth(1).context("no public key")?)?;
        let (_, public) = bytes.split_last_chunk::<32>().context("a short public key")?;
        let key = WitnessKey::new(name, public)?;
        let programs = Programs { witness, control };
        let (name, port) = (name.to_owned(), free_port()?);
        Ok(Some(Litewitness {
            process: None,
            _agent: agent,
            folder,
            programs,
            name,
            key,
            fingerprint,
            port,
            starts: 0,
        }))
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("witness.db")
    }

    /// Makes it know a log, or a further key of it.
    pub fn know(&self, origin: &str, key: &str, first: bool) -> Result<()> {
        let control = |command: &str, more: &[&str]| {
            output(Command::new(&self.programs.control).arg(command).arg("-db").arg(self.database()).args(more))
        };
        if first {
            control("add-log", &["-origin", origin])?;
        }
        control("add-key", &["-origin", origin, "-key", key])?;
        Ok(())
    }

    /// Starts it, on the port that it always has.
    pub fn start(&mut self) -> Result<()> {
        let (listen, socket) = (format!("127.0.0.1:{}", self.port), self.folder.path().join("agent.sock"));
        self.process = Some(retry_start(|| {
            self.starts += 1;
            let mut command = Command::new(&self.programs.witness);
            command.args(["-name", &self.name, "-listen", &listen, "-key", &self.fingerprint]);
            command.arg("-db").arg(self.database()).arg("-ssh-agent").arg(&socket);
            let log = self.folder.path().join(format!("witness-{}.log", self.starts));
            let mut process = Process::start("litewitness", &command, &log)?;
            process.wait_until("listening", PATIENCE, |_| std::net::TcpStream::connect(&listen).is_ok())?;
            Ok(process)
        })?);
        Ok(())
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Its line in a policy, under that name.
    pub fn line(&self, name: &str) -> String {
        format!("witness {name} {} {}\n", self.key, self.url())
    }

    /// Its key.
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// Where it takes checkpoints.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
