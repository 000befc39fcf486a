//! A real PostgreSQL for the tests of this module: its own data folder, port and password, killed when the last test lets go.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

/// The superuser's password, which no error may show.
pub(super) const PASSWORD: &str = "hunter2-s3cret";

pub(super) struct Server {
    pub(super) port: u16,
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// The server that tests share.
    pub(super) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(&[]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server of one's own. `files` are put into its folder; `server.crt` among them turns TLS on.
    pub(super) fn start(files: &[(&str, &Path)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        own(folder.path());
        let made = server_command("initdb")
            .args(["--no-sync", "--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"])
            .arg("--pwfile")
            .arg(folder.path().join("password"))
            .arg(&data)
            .output()
            .expect("initdb is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for (name, from) in files {
            std::fs::copy(from, data.join(name)).unwrap();
            Command::new("chmod").arg("600").arg(data.join(name)).status().unwrap();
        }
        own(folder.path());
        let tls = if files.iter().any(|(name, _)| *name == "server.crt") { "on" } else { "off" };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = server_command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={port}"), "-c", &format!("ssl={tls}")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { port, process, folder };
        let begun = Instant::now();
        while !server.log().contains("ready to accept connections") {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection of the tests' own.
    pub(super) async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Stops the server at once, as a crash of its machine would.
    pub(super) fn kill(&self) {
        Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

/// Gives a folder to the user that the server runs as.
fn own(folder: &Path) {
    if is_root() {
        Command::new("chown").args(["-R", "postgres"]).arg(folder).status().unwrap();
    }
}

/// One of PostgreSQL's programs, as a user that it consents to run as.
fn server_command(program: &str) -> Command {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    let path = versions.last().map_or_else(|| PathBuf::from(program), |bin| bin.join(program));
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// A certificate authority of the tests' own, and a certificate for `host` that it signed.
pub(super) struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Self { folder };
        let mut extension = "basicConstraints=critical,CA:FALSE\n".to_owned();
        let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
        writeln!(extension, "subjectAltName={kind}:{host}").unwrap();
        std::fs::write(authority.path("extension"), extension).unwrap();
        authority.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt \
             -addext basicConstraints=critical,CA:TRUE",
        );
        authority.openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr");
        authority.openssl(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extension -out server.crt",
        );
        authority
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let made =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(self.folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}
