//! Other people's logs: one that Tessera's own server writes, judged with `--tree-only`.

use crate::run;
use crate::world::{put, signer};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ORIGIN: &str = "log.example/tessera";

/// The folder of the judges; none where there is no Go to build them.
fn judges() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/judges-fetch");
    let output = Command::new(script).stderr(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "judges-fetch failed");
    let folder = String::from_utf8(output.stdout).unwrap();
    (!folder.trim().is_empty()).then(|| PathBuf::from(folder.trim()))
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Adds an entry over HTTP; whether it was taken.
fn add(address: &str, entry: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = entry.len();
    write!(
        stream,
        "POST /add HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{entry}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

#[test]
fn a_log_that_tessera_wrote() {
    let Some(judges) = judges() else {
        return println!("skipped: a_log_that_tessera_wrote: no Go on this machine, so there is no Tessera");
    };
    let dir = tempfile::tempdir().unwrap();
    let (log, key) = (dir.path().join("log"), dir.path().join("key"));
    put(&key, signer(ORIGIN).secret_text().as_bytes());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = Command::new(judges.join("tessera-posix"))
        .args(["--listen", &address, "--storage_dir", log.to_str().unwrap(), "--private_key", key.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Running(server);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !add(&address, "the first").unwrap_or(false) {
        assert!(Instant::now() < deadline, "Tessera's server does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    // More than one tile, from many at once, so that they go in together.
    std::thread::scope(|scope| {
        for thread in 0..100 {
            let address = &address;
            scope.spawn(move || (0..4).for_each(|n| assert!(add(address, &format!("entry {thread} {n}")).unwrap())));
        }
    });
    let vkey = signer(ORIGIN).verifier().to_string();
    let check = || run(&["log", log.to_str().unwrap(), "--key", &vkey, "--tree-only"]);
    // A checkpoint is published after the answer.
    let mut answer = check();
    while answer.report["log"]["size"].as_u64().unwrap_or_default() < 401 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        answer = check();
    }
    drop(server);
    let answer = check();
    assert_eq!((answer.exit, &answer.report["log"]["size"]), (0, &401.into()), "{}", answer.report);
    let bundle = log.join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[9] ^= 1;
    put(&bundle, &bytes);
    crate::expect("an entry was changed", &check(), 1, "entry-altered");
}
