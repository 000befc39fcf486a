//! A real PostgreSQL with its own cluster: over TCP only, with a password, from whatever version this machine has.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::process::START_TIMEOUT;
use super::{Folder, Process, free_port, output, retry_start};

/// The superuser and its password, which a leak test may look for.
pub const USER: &str = "countersign";
pub const PASSWORD: &str = "pg-secret-4kT9";

/// A running PostgreSQL, killed when dropped. Its data survives [`Postgres::kill`] and [`Postgres::restart`].
pub struct Postgres {
    // Dropped in this order: first the process, then the folder that it writes to.
    process: Process,
    folder: Folder,
    bin: PathBuf,
    settings: Vec<String>,
    port: u16,
    starts: u32,
}

impl Postgres {
    /// A PostgreSQL that speaks plain TCP.
    pub fn start() -> Result<Postgres> {
        retry_start(|| Self::start_once(&[], false))
    }

    /// As [`Postgres::start`], with further settings, such as `("log_statement", "all")`.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Postgres> {
        retry_start(|| Self::start_once(settings, false))
    }

    /// A PostgreSQL with a certificate for `localhost` (not for `127.0.0.1`), signed by [`Postgres::ca_file`]. It takes plain
    /// connections too: whether TLS is used and what is verified is the client's choice, and what a test looks at.
    pub fn start_with_tls() -> Result<Postgres> {
        retry_start(|| Self::start_once(&[("ssl", "on")], true))
    }

    fn start_once(settings: &[(&str, &str)], tls: bool) -> Result<Postgres> {
        let bin = bin()?;
        let folder = Folder::new("postgres")?;
        let data = folder.path().join("data");
        let port = free_port()?;
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD)?;

        // It refuses to run as root: then its folder and its processes belong to the user that its package made.
        make_folder(&data)?;
        let mut init = as_server_user(bin.join("initdb"));
        init.args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]);
        init.arg(format!("--username={USER}")).arg("--pwfile").arg(&password).arg("--pgdata").arg(&data);
        output(init.current_dir(folder.path())).context("initdb")?;
        if tls {
            make_certificates(folder.path(), &data)?;
        }

        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let process = Self::spawn(&bin, &folder, &settings, port, 0)?;
        Ok(Postgres { process, folder, bin, settings, port, starts: 1 })
    }

    fn spawn(bin: &Path, folder: &Folder, settings: &[String], port: u16, starts: u32) -> Result<Process> {
        let mut server = Command::new(bin.join("postgres"));
        server.arg("-D").arg(folder.path().join("data")).args(["-p", &port.to_string()]).current_dir(folder.path());
        // Unsynced writes survive the death of the processes, which is all that a test brings about.
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "timezone=UTC"] {
            server.args(["-c", setting]);
        }
        for setting in settings {
            server.args(["-c", setting]);
        }
        let log = folder.path().join(format!("log-{starts}.txt"));
        let mut process = Process::start_as("PostgreSQL", &server_user(), &server, &log)?;
        let mut ready = Command::new(bin.join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null());
        process.wait_until("ready", START_TIMEOUT, |_| ready.status().is_ok_and(|status| status.success()))?;
        Ok(process)
    }

    /// The URL of the database `postgres` for its superuser, password included.
    pub fn url(&self) -> String {
        self.url_of("postgres", USER, PASSWORD)
    }

    /// The URL of another database or user.
    pub fn url_of(&self, database: &str, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate that signed the server's, where [`Postgres::start_with_tls`] was used.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Runs SQL statements with `psql` in the database `postgres`, stopping at the first error; returns what they print, one line a
    /// row, columns separated by `|`.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER, "-d", "postgres"]);
        psql.args(["-p", &self.port.to_string()]).env("PGPASSWORD", PASSWORD);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("psql has no stdin")?;
        // Written from another thread, so that neither side waits for the other with a full pipe.
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let out = child.wait_with_output()?;
        // If psql stopped early, the broken pipe is not the news: its own message is.
        let _ = writer.join();
        ensure!(out.status.success(), "psql: {}", String::from_utf8_lossy(&out.stderr).trim());
        Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
    }

    /// A client without TLS, its connection driven by a task of the running tokio runtime.
    pub async fn connect(&self) -> Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await?;
        // The error of a lost connection reaches the test through the client's calls.
        tokio::spawn(connection);
        Ok(client)
    }

    /// SIGKILL to the server and to the processes that serve its connections: what a crash leaves.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same port and data, killing it first if it runs.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.process = retry_start(|| {
            self.starts += 1;
            Self::spawn(&self.bin, &self.folder, &self.settings, self.port, self.starts)
        })?;
        Ok(())
    }

    /// The process, for signals and its output (its log).
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The folder of the newest `initdb`, `postgres` and the rest.
fn bin() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let version = entry.file_name().to_str().and_then(|name| name.parse().ok());
        versions.extend(version.map(|version| (version, entry.path().join("bin"))));
    }
    versions.sort();
    let installed = versions.into_iter().rev().map(|(_, path)| path);
    let on_path: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let Some(bin) = installed.chain(on_path).find(|bin| bin.join("initdb").exists()) else {
        bail!(
            "PostgreSQL's `initdb` was not found, neither in /usr/lib/postgresql nor on the PATH: run scripts/setup --test"
        );
    };
    Ok(bin)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Options for `setpriv`.
fn server_user() -> Vec<&'static str> {
    if is_root() { vec!["--reuid=postgres", "--regid=postgres", "--init-groups"] } else { Vec::new() }
}

fn as_server_user(program: PathBuf) -> Command {
    let mut command = Command::new("setpriv");
    command.args(server_user()).arg("--").arg(program);
    command
}

fn make_folder(path: &Path) -> Result<()> {
    let owner: &[&str] = if is_root() { &["-o", "postgres", "-g", "postgres"] } else { &[] };
    output(Command::new("install").args(["-d", "-m", "700"]).args(owner).arg(path))?;
    Ok(())
}

/// A certificate authority for this server alone, and the server's certificate for `localhost`, valid for a day.
fn make_certificates(folder: &Path, data: &Path) -> Result<()> {
    let openssl = |arguments: &str| {
        output(Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder)).context("openssl")
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 1 -subj /CN=countersign-test-ca"))?;
    openssl(&format!(
        "req -x509 {key} -keyout server.key -out server.crt -days 1 -subj /CN=localhost -CA ca.crt -CAkey ca.key \
         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
    ))?;
    let owner: &[&str] = if is_root() { &["-o", "postgres", "-g", "postgres"] } else { &[] };
    for file in ["server.key", "server.crt"] {
        let mut install = Command::new("install");
        output(install.args(["-m", "600"]).args(owner).arg(folder.join(file)).arg(data.join(file)))?;
    }
    Ok(())
}
