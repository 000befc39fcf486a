//! What the ledger is measured beside, each a process of its own with its data on the same disk: our bare log server, Tessera's POSIX
//! log, PostgreSQL.

use crate::support::{Process, free_port};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A log that is spoken to over HTTP.
pub struct HttpLog {
    /// With its settings.
    pub name: String,
    pub address: String,
    key: String,
    hammer: Option<PathBuf>,
    _process: Process,
}

impl HttpLog {
    /// What Tessera's hammer writes a second with so many writers: how much the log has grown, after a second for hammer to begin.
    pub fn hammer(&self, writers: usize, seconds: Duration) -> Result<String> {
        let Some(hammer) = &self.hammer else { return Ok("not there".into()) };
        let before = self.size()?;
        let output = Command::new(hammer)
            .args([format!("--log_url=http://{}/", self.address), format!("--log_public_key={}", self.key)])
            .args([format!("--num_writers={writers}"), format!("--max_runtime={}s", seconds.as_secs() + 1)])
            .args(["--show_ui=false", "--max_write_ops=200000", "--num_readers_random=0", "--num_readers_full=0"])
            .args(["--leaf_min_size=300", "--dup_chance=0", "--logtostderr"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(said.contains("Max runtime reached"), "hammer: {said}");
        let complaint = said.lines().find(|line| line.contains(" x) ") || line.contains("pushback"));
        // Until what was answered is under a checkpoint.
        std::thread::sleep(Duration::from_millis(2_500));
        let rate = (self.size()? - before) as f64 / seconds.as_secs_f64();
        Ok(format!("{rate:>7.0}/s{}", complaint.map(|line| format!(" ({line})")).unwrap_or_default()))
    }

    fn size(&self) -> Result<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let note = runtime.block_on(get(&self.address, "/checkpoint"))?;
        note.lines().nth(1).and_then(|size| size.parse().ok()).context("a checkpoint without size")
    }
}

async fn get(address: &str, path: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: log\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").context("no answer")?.1.to_owned())
}

fn started(name: String, mut command: Command, address: String, key: String, folder: &Path) -> Result<HttpLog> {
    fs::create_dir_all(folder)?;
    command.env("GOMAXPROCS", std::thread::available_parallelism()?.to_string());
    let mut process = Process::start(&name, &command, &folder.with_extension("txt"))?;
    process.wait_until("listening", Duration::from_secs(30), |_| std::net::TcpStream::connect(&address).is_ok())?;
    // A checkpoint, so that hammer can begin.
    let key = if key.is_empty() {
        process.log().lines().find_map(|line| line.strip_prefix("key ").map(str::to_owned)).context("no key")?
    } else {
        key
    };
    let hammer = judges()?.map(|folder| folder.join("hammer"));
    Ok(HttpLog { name, address, key, hammer, _process: process })
}

/// Our bare log server, built by the same build as this program.
pub fn ours(folder: &Path) -> Result<HttpLog> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(std::env::current_exe()?.with_file_name("log-server"));
    command.arg(folder).arg(&address);
    started(
        "ours, the bare server over HTTP: one process, 2 threads for HTTP".into(),
        command,
        address,
        String::new(),
        folder,
    )
}

/// Where the judges' programs are; `None` without Go.
fn judges() -> Result<Option<PathBuf>> {
    Ok(crate::support::fsck()?.and_then(|fsck| fsck.parent().map(Path::to_owned)))
}

/// Tessera's programs.
#[derive(Clone)]
pub struct Tessera {
    conformance: PathBuf,
    timers: PathBuf,
}

pub fn tessera_programs() -> Result<Option<Tessera>> {
    let Some(judges) = judges()? else { return Ok(None) };
    let timers = std::env::current_exe()?.with_file_name("tessera-timers");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tessera");
    let built = Command::new("go").arg("build").arg("-o").arg(&timers).arg(".").current_dir(source).status()?;
    ensure!(built.success(), "Tessera with other timers could not be built");
    Ok(Some(Tessera { conformance: judges.join("tessera-posix"), timers }))
}

impl Tessera {
    /// As its own conformance server sets it.
    pub fn conformance(&self, folder: &Path) -> Result<HttpLog> {
        let name = "Tessera POSIX v1.0.4, its conformance server: batches of 256 or 1 s, a checkpoint each second";
        let mut command = Command::new(&self.conformance);
        self.start(name, &mut command, folder, &[])
    }

    /// With the shortest checkpoint interval that it takes, and batches that wait as long as one group of ours takes.
    pub fn short_timers(&self, folder: &Path) -> Result<HttpLog> {
        let name = "Tessera POSIX v1.0.4 with shorter timers: batches of 1,024 or 5 ms, a checkpoint each 100 ms";
        let mut command = Command::new(&self.timers);
        self.start(name, &mut command, folder, &["--batch_size=1024", "--batch_age=5ms", "--checkpoint_interval=100ms"])
    }

    fn start(&self, name: &str, command: &mut Command, folder: &Path, more: &[&str]) -> Result<HttpLog> {
        fs::create_dir_all(folder)?;
        let (signer, address) = (crate::signer()?, format!("127.0.0.1:{}", free_port()?));
        let key = folder.with_extension("key");
        fs::write(&key, signer.secret_text().as_bytes())?;
        command.arg(format!("--storage_dir={}", folder.display()));
        command.arg(format!("--private_key={}", key.display())).arg(format!("--listen={address}")).args(more);
        let mut owned = Command::new(command.get_program());
        owned.args(command.get_args());
        let log = started(name.into(), owned, address, signer.verifier().to_string(), folder)?;
        // Its first checkpoint comes with its first timer.
        std::thread::sleep(Duration::from_millis(1_500));
        Ok(log)
    }
}

/// An audit table in PostgreSQL.
pub mod table {
    use crate::support::Postgres;
    use anyhow::Result;
    use std::{pin::Pin, sync::Arc};
    use tokio_postgres::NoTls;

    /// With its settings: what its manual and common advice give for many small durable commits.
    pub const NAME: &str = "PostgreSQL, INSERT into an audit table, one row a commit, prepared: fsync=on, synchronous_commit=on, \
                            commit_delay=500 us, commit_siblings=5, wal_buffers=64MB, shared_buffers=1GB, max_wal_size=8GB, \
                            wal_compression=off, full_page_writes=on";

    pub struct Table(Postgres);

    type Append = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    impl Table {
        pub fn start(writers: usize) -> Result<Self> {
            let connections = (writers + 20).to_string();
            let postgres = Postgres::start_with(&[
                ("fsync", "on"),
                ("synchronous_commit", "on"),
                ("commit_delay", "500"),
                ("commit_siblings", "5"),
                ("wal_buffers", "64MB"),
                ("shared_buffers", "1GB"),
                ("max_wal_size", "8GB"),
                ("full_page_writes", "on"),
                ("max_connections", &connections),
            ])?;
            postgres.psql(
                "create table audit (id bigint generated always as identity primary key, at timestamptz not null default now(), \
                 record bytea not null)",
            )?;
            Ok(Self(postgres))
        }

        /// A connection, and what inserts one row over it.
        pub async fn writer(&self, _number: usize) -> Result<impl Fn() -> Append + Send + Sync + use<>> {
            let (client, connection) = tokio_postgres::connect(&self.0.url(), NoTls).await?;
            tokio::spawn(connection);
            let insert = client.prepare("insert into audit (record) values ($1) returning id").await?;
            let (client, insert) = (Arc::new(client), insert);
            Ok(move || -> Append {
                let (client, insert) = (Arc::clone(&client), insert.clone());
                Box::pin(async move {
                    client.query_one(&insert, &[&crate::record(0)]).await?;
                    Ok(())
                })
            })
        }
    }
}
