//! The judges as programs: where they are, how they are asked, and what they said.

use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_ledger::tlog::{Note, SignedCheckpoint, TlogProof, WitnessKey, cosignatures, witness::AddCheckpoint};
use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Ends its process when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself needs no ending.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The folder of the judges' programs.
pub(crate) struct Judges(PathBuf);

impl Judges {
    /// Fetches them, once for all tests; `None` where that cannot be, which it says.
    pub(crate) fn fetch(test: &str) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/judges-fetch");
        let out = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(out.status.success(), "judges-fetch failed");
        let folder = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        if folder.is_empty() {
            // Past libtest's capture, on a line of its own, so that `make test` counts it.
            let said = format!("\nskipped: {test}: there is no Go on this machine\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            return None;
        }
        Some(Self(folder.into()))
    }

    /// Runs a judge for two minutes at most and gives all that it said.
    fn run(&self, name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let out = Command::new("timeout").arg("120").arg(self.0.join(name)).args(arguments).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
    }

    /// Tessera's check of a static log. Its exit code says nothing; with its default of one worker it hangs on damage.
    pub(crate) fn fsck(&self, folder: &Path, key: &str) -> String {
        let file = folder.with_extension("vkey");
        fs::write(&file, key).unwrap();
        let (storage, key) =
            (format!("--storage_url=file://{}/", folder.display()), format!("--public_key={}", file.display()));
        self.run("fsck", ["--ui=false", "--N=16", &storage, &key])
    }

    /// torchwood's check of `tlog-proof` files: each of these with `.spicy` after its name.
    pub(crate) fn spicy(&self, key: &str, files: &[PathBuf]) -> String {
        let arguments = [OsStr::new("-verify"), OsStr::new(key)];
        self.run("spicy", arguments.into_iter().chain(files.iter().map(|file| file.as_os_str())))
    }

    /// Hammer's readers for the shortest time that it reads at all: it begins a second after its start.
    pub(crate) fn hammer_reads(&self, url: &str, key: &str) -> String {
        let (url, key) = (format!("--log_url={url}"), format!("--log_public_key={key}"));
        let rest = ["--show_ui=false", "--max_runtime=2500ms", "--max_read_ops=200", "--logtostderr"];
        self.run("hammer", [&*url, &*key].into_iter().chain(rest))
    }

    /// Hammer with so many writers, and readers beside them, until the log has grown by `goal`.
    pub(crate) fn hammer_writes(&self, url: &str, key: &str, writers: u32, goal: u64) -> String {
        let (url, key) = (format!("--log_url={url}"), format!("--log_public_key={key}"));
        let (writers, goal) = (format!("--num_writers={writers}"), format!("--leaf_write_goal={goal}"));
        let rest = [
            "--show_ui=false",
            "--max_runtime=60s",
            "--max_read_ops=200",
            "--max_write_ops=100000",
            "--leaf_min_size=300",
            "--logtostderr",
        ];
        self.run("hammer", [&*url, &*key, &*writers, &*goal].into_iter().chain(rest))
    }
}

/// Hammer counts what went wrong in lines like `(3 x) …`, and logs warnings and errors with a capital W or E before the date.
pub(crate) fn assert_no_complaint(what: &str, said: &str) {
    // What it asks for as it ends it breaks off itself.
    let mut lines = said.lines().filter(|line| !line.ends_with("context canceled"));
    let complaint = lines.find(|line| line.starts_with(['W', 'E', 'F']) || line.contains(" x) "));
    assert_eq!(complaint, None, "{what}: {said}");
}

/// Where `spicy` looks for the proof of a file.
pub(crate) fn spicy_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".spicy");
    name.into()
}

/// A proof as the program `spicy` of torchwood 0.9 reads it: its format is older than `tlog-proof` and lacks the first line and
/// `extra`. Every other byte is that of our proof.
pub(crate) fn spicy_text(proof: &TlogProof) -> Vec<u8> {
    let whole = TlogProof { extra: None, ..proof.clone() }.encode();
    let header = whole.iter().position(|b| *b == b'\n').unwrap();
    whole[header + 1..].to_vec()
}

/// torchwood's witness, with a key of its own in an `ssh-agent` of its own.
pub(crate) struct Witness {
    key: WitnessKey,
    port: u16,
    _parts: [Running; 2],
}

impl Witness {
    const NAME: &str = "witness.example/lite";

    /// Starts one that knows the log of that origin and key.
    pub(crate) fn start(judges: &Judges, folder: &Path, origin: &str, log_key: &str) -> Self {
        let (key, socket, db) =
            (folder.join("witness-key"), folder.join("agent.sock"), folder.join("witness.db").display().to_string());
        let done = |command: &mut Command| {
            let out = command.env("SSH_AUTH_SOCK", &socket).output().unwrap();
            assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
        // However this test ends, the kernel ends them.
        let start = |program: &Path, arguments: &[&OsStr]| {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
            Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        };
        let agent = start(Path::new("ssh-agent"), &["-D".as_ref(), "-a".as_ref(), socket.as_os_str()]);
        wait_until("ssh-agent", || socket.exists());
        done(Command::new("ssh-add").arg("-q").arg(&key));
        let public = key.with_extension("pub");
        let fingerprint = done(Command::new("ssh-keygen").arg("-lf").arg(&public));
        let fingerprint = fingerprint.split(' ').nth(1).unwrap().to_owned();

        let witnessctl = judges.0.join("witnessctl");
        done(Command::new(&witnessctl).args(["add-log", "-db", &db, "-origin", origin]));
        done(Command::new(&witnessctl).args(["add-key", "-db", &db, "-origin", origin, "-key", log_key]));
        let (mut parts, mut port, mut agent) = (None, 0, Some(agent));
        for _ in 0..3 {
            // Between finding a port free and listening on it, another may take it.
            port = free_port();
            let listen = format!("127.0.0.1:{port}");
            let arguments = ["-name", Self::NAME, "-db", &db, "-listen", &listen, "-key", &fingerprint, "-ssh-agent"];
            let arguments: Vec<_> = arguments.into_iter().map(OsStr::new).chain([socket.as_os_str()]).collect();
            let mut running = start(&judges.0.join("litewitness"), &arguments);
            wait_until("litewitness", || {
                running.0.try_wait().unwrap().is_some() || TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if running.0.try_wait().unwrap().is_none() {
                parts = agent.take().map(|agent| [running, agent]);
                break;
            }
        }
        // The witness's key from its public key file, not from what the witness says.
        let text = fs::read_to_string(public).unwrap();
        let key = WitnessKey::new(Self::NAME, &ssh_public_key(text.split(' ').nth(1).unwrap())).unwrap();
        Self { key, port, _parts: parts.unwrap() }
    }

    /// Posts to `add-checkpoint`; gives the answer's status and body.
    pub(crate) fn post(&self, request: &AddCheckpoint) -> (u16, String) {
        let body = request.encode();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "POST /add-checkpoint HTTP/1.1\r\nHost: witness\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Checks that the answer is the witness's cosignature on this checkpoint.
    pub(crate) fn check(&self, checkpoint: &SignedCheckpoint, answer: &str) {
        let note = [checkpoint.note(), answer.as_bytes()].concat();
        let found = cosignatures(&Note::parse(&note).unwrap(), std::slice::from_ref(&self.key)).unwrap();
        assert_eq!(found.len(), 1, "no cosignature in `{answer}`");
    }
}

/// The 32 bytes of an OpenSSH Ed25519 public key: the end of its base64.
fn ssh_public_key(base64: &str) -> [u8; 32] {
    let bytes = STANDARD.decode(base64).unwrap();
    bytes[bytes.len() - 32..].try_into().unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not start");
        thread::sleep(Duration::from_millis(20));
    }
}
