//! A program started by a test: its output goes to a file whose end is shown when something goes wrong, and it is killed when its
//! value is dropped or the test process ends. The kernel does the latter (`PR_SET_PDEATHSIG`, set through `setpriv` of util-linux,
//! since this workspace has no unsafe code), so it holds for an abort or a SIGKILL too.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How long a server may take to start: on an idle machine 2 to 5 s, on one that also compiles a multiple of it.
pub const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, stdout and stderr going to the new file `log`; `name` stands in error messages.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Process> {
        Self::start_as(name, &[], command, log)
    }

    /// As [`Process::start`], with further options for `setpriv`: another user.
    pub fn start_as(name: &str, options: &[&str], command: &Command, log: &Path) -> Result<Process> {
        let output = File::create(log).with_context(|| format!("could not create `{}`", log.display()))?;
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "KILL"]).args(options).arg("--");
        // A parent that died before `setpriv` came to ask for the signal is missed: so look once afterwards whether it is there.
        wrapped.args(["sh", "-c", r#"[ "$PPID" = "$0" ] && exec "$@""#]).arg(std::process::id().to_string());
        wrapped.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            wrapped.current_dir(folder);
        }
        wrapped.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawn(wrapped).with_context(|| format!("could not start {name}"))?;
        Ok(Process { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until `ready` holds; an error with the end of its output if it ends before, or time runs out.
    pub fn wait_until(&mut self, what: &str, timeout: Duration, mut ready: impl FnMut(&str) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            // Asked first, so that what it printed just before it ended is still seen.
            let ended = self.child.try_wait()?;
            if ready(&self.log()) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("{} ended with {status} before it was {what}; its output ends:\n{}", self.name, self.tail());
            }
            if start.elapsed() > timeout {
                bail!("{} is not {what} after {timeout:?}; its output ends:\n{}", self.name, self.tail());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Waits until its output contains `text`.
    pub fn wait_for_output(&mut self, text: &str, timeout: Duration) -> Result<()> {
        self.wait_until(&format!("printing `{text}`"), timeout, |log| log.contains(text))
    }

    /// Waits for its end.
    pub fn wait_for_end(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > timeout {
                bail!("{} has not ended after {timeout:?}; its output ends:\n{}", self.name, self.tail());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Sends a signal by its name (`TERM`, `STOP`, `CONT`), if it still runs.
    pub fn signal(&mut self, signal: &str) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            super::output(Command::new("kill").args([format!("-{signal}"), self.id().to_string()]))?;
        }
        Ok(())
    }

    /// SIGKILL, to it and to the processes it started, and waits until it is gone. No matter if it has ended already.
    pub fn kill(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            // The children are named while their parent still stands: afterwards they are init's, and could be anybody's.
            let children = children(self.id());
            self.child.kill()?;
            for id in children {
                // Gone by itself in the meantime: so much the better.
                let _ = Command::new("kill").args(["-KILL", &id.to_string()]).stderr(Stdio::null()).status();
            }
            let status = self.child.wait()?;
            if status.signal().is_none() {
                bail!("{} ended with {status} while it was being killed", self.name);
            }
        }
        Ok(())
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(40)).map(|line| format!("  | {line}\n")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(e) = self.kill() {
            eprintln!("could not end {}: {e:#}", self.name);
        }
    }
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // `id (name) state parent …`; the name may hold anything, so count from its closing bracket.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let its_parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if its_parent == Some(parent.to_string().as_str()) {
            found.push(id);
        }
    }
    found
}

type Job = (Command, Sender<std::io::Result<Child>>);

/// Spawns from one thread that lives as long as the test process: to the kernel a child's parent is the *thread* that made it, and
/// libtest's threads end with their test, while shared parts must not.
fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                // Nobody waiting for the answer: the test is gone, and the child must go with it.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                    let _ = child.kill();
                }
            }
        });
        Mutex::new(sender)
    });
    let (answer, result) = mpsc::channel();
    let sender = spawner.lock().map_err(|_| anyhow!("the thread that starts programs is gone"))?.clone();
    sender.send((command, answer)).map_err(|_| anyhow!("the thread that starts programs is gone"))?;
    Ok(result.recv()??)
}
