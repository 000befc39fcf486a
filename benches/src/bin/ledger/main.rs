//! How fast the ledger appends, and how it grows; each figure beside its peers in the same run, on one machine and disk.
//!
//! ```text
//! cargo run --manifest-path benches/Cargo.toml --bin ledger -- appends [SECONDS a cell, 5 unless stated]
//! cargo run --manifest-path benches/Cargo.toml --bin ledger -- growth [ENTRIES, 10000000 unless stated]
//! ```
//!
//! `appends` keeps 1, 16, 256 and 1,024 appends under way and says how many a second became durable, and how long each waited for its
//! answer: in this process, over HTTP at the bare log server, at Tessera's POSIX log (as its conformance server sets it, and with
//! shorter timers), and as `INSERT` of one row a commit into a PostgreSQL table. Then 5,000 appends a second, evenly, each answered with
//! its proof and checkpoint. `growth` says what an entry costs at 10³ to 10⁷ entries, on the disk and in time, and how long opening takes.

mod growth;
mod http;
mod load;
mod peers;
#[path = "../../../../ingest/tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result, bail};
use countersign_ledger::store::{Appended, Ledger};
use load::{Figures, closed, open};
use peers::{HttpLog, table};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use support::Folder;
use tokio::sync::oneshot;

#[path = "../../../../ledger/examples/log_server/server.rs"]
#[allow(dead_code, reason = "its routes are served by the other binary")]
mod server;

/// Appends under way at a time.
const WRITERS: [usize; 4] = [1, 16, 256, 1_024];

/// What one append is about, in bytes: over HTTP it is posted, in PostgreSQL it is the row's payload.
const RECORD_BYTES: usize = 300;

/// Appends a second of the even load.
const EVEN_RATE: u64 = 5_000;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["appends"] => appends(5),
        ["appends", seconds] => appends(seconds.parse().context("SECONDS is a number")?),
        ["growth"] => growth::run(10_000_000),
        ["growth", entries] => growth::run(entries.parse().context("ENTRIES is a number")?),
        ["die", folder] => growth::die(Path::new(folder)),
        _ => bail!("usage: ledger appends [SECONDS] | growth [ENTRIES]"),
    }
}

/// Appends in this process.
#[derive(Clone)]
pub struct InProcess {
    ledger: Ledger,
    next: Arc<AtomicU64>,
}

impl InProcess {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, next: Arc::default() }
    }

    pub async fn append(&self) -> Result<Appended> {
        let (answer, answered) = oneshot::channel();
        let n = self.next.fetch_add(1, Relaxed);
        let append = server::append(self.ledger.opening().epoch, n, &record(n));
        self.ledger.append_with(append, move |result| drop(answer.send(result)));
        Ok(answered.await??)
    }

    /// With the proof under the group's own checkpoint.
    async fn append_and_prove(&self) -> Result<()> {
        let appended = self.append().await?;
        let receipt = self.ledger.receipt(appended.last(), None)?;
        anyhow::ensure!(!receipt.encode().is_empty());
        Ok(())
    }
}

/// The `n`th record: different ones, so that nothing is recognized.
pub fn record(n: u64) -> Vec<u8> {
    let mut record = format!("{n:020} ").into_bytes();
    record.resize(RECORD_BYTES, b'x');
    record
}

pub fn signer() -> Result<countersign_ledger::tlog::SignerKey> {
    Ok(countersign_ledger::tlog::SignerKey::generate_from_seed("bench.example/log", &[7; 32])?)
}

fn appends(seconds: u64) -> Result<()> {
    let seconds = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = Folder::new("ledger-bench")?;
    let (p50, p99) = fdatasync(folder.path())?;
    println!("fdatasync of 4 KiB in place here: p50 {p50:.2} ms, p99 {p99:.2} ms");
    println!("records of {RECORD_BYTES} bytes; each cell {} s\n", seconds.as_secs());

    let ledger = server::open(&folder.path().join("in-process"), signer()?)?;
    let ours = InProcess::new(ledger.clone());
    runtime.block_on(ours.append())?;
    let size = ledger.entry_bytes(1)?.context("no entry")?.len();
    println!("ours, in process: groups of up to 512, entries of {size} bytes");
    for writers in WRITERS {
        let before = ledger.stats();
        let figures = runtime.block_on(closed(writers, seconds, |_| {
            let ours = ours.clone();
            async move {
                Ok(move || {
                    let ours = ours.clone();
                    async move { ours.append().await.map(drop) }
                })
            }
        }))?;
        let after = ledger.stats();
        let groups = (after.groups - before.groups).max(1);
        let mean = (after.entries - before.entries) as f64 / groups as f64;
        println!("  {writers:>5} writers  {figures}  {mean:.0} entries a group");
    }
    even("ours, in process, with proof and checkpoint", &runtime, seconds, || {
        let ours = ours.clone();
        async move { ours.append_and_prove().await }
    })?;
    drop(ours);
    ledger.close();

    let mut logs: Vec<Box<dyn Fn(&Path) -> Result<HttpLog>>> = vec![Box::new(peers::ours)];
    match peers::tessera_programs()? {
        Some(tessera) => {
            let (default, timers) = (tessera.clone(), tessera);
            logs.push(Box::new(move |folder| default.conformance(folder)));
            logs.push(Box::new(move |folder| timers.short_timers(folder)));
        }
        None => println!("\nTessera is not measured: there is no Go on this machine"),
    }
    for (at, start) in logs.iter().enumerate() {
        let log = start(&folder.path().join(format!("log-{at}")))?;
        println!("\n{}", log.name);
        for writers in WRITERS {
            let figures = runtime.block_on(closed(writers, seconds, |writer| {
                let (address, from) = (log.address.clone(), (writer as u64) << 40);
                async move {
                    let client = http::Client::connect(&address).await?;
                    let client = Arc::new(tokio::sync::Mutex::new((client, from)));
                    Ok(move || {
                        let client = Arc::clone(&client);
                        async move {
                            let mut client = client.lock().await;
                            client.1 += 1;
                            let record = record(client.1);
                            client.0.post("/add", &record).await.map(drop)
                        }
                    })
                }
            }))?;
            let hammer = log.hammer(writers, seconds)?;
            println!("  {writers:>5} writers  {figures}  hammer {hammer}");
        }
        if at == 0 {
            let pool = runtime.block_on(http::Pool::connect(&log.address, 64))?;
            even("ours over HTTP, with proof and checkpoint in the answer", &runtime, seconds, || {
                let pool = pool.clone();
                async move {
                    static NEXT: AtomicU64 = AtomicU64::new(1 << 62);
                    let answer = pool.post("/add?proof", &record(NEXT.fetch_add(1, Relaxed))).await?;
                    anyhow::ensure!(
                        answer.windows(20).any(|w| w == b"c2sp.org/tlog-proof@"),
                        "an answer without proof"
                    );
                    Ok(())
                }
            })?;
        }
    }

    println!("\n{}", table::NAME);
    let table = table::Table::start(*WRITERS.iter().max().unwrap_or(&1))?;
    for writers in WRITERS {
        let figures = runtime.block_on(closed(writers, seconds, |writer| table.writer(writer)))?;
        println!("  {writers:>5} writers  {figures}");
    }
    Ok(())
}

/// The even load: an append every 200 µs, whether or not those before are answered.
fn even<F: Future<Output = Result<()>> + Send + 'static>(
    name: &str,
    runtime: &tokio::runtime::Runtime,
    seconds: Duration,
    append: impl Fn() -> F,
) -> Result<()> {
    let figures: Figures = runtime.block_on(open(EVEN_RATE, seconds, append))?;
    println!("  {EVEN_RATE}/s evenly  {figures}  {name}");
    Ok(())
}

/// Median and 99th percentile of writing 4 KiB in place and `fdatasync`, in milliseconds.
fn fdatasync(folder: &Path) -> Result<(f64, f64)> {
    let file = File::create(folder.join("fdatasync"))?;
    file.write_all_at(&[0; 8_192], 0)?;
    file.sync_all()?;
    let mut millis = Vec::new();
    for n in 0..400u64 {
        let started = Instant::now();
        file.write_all_at(&[n as u8; 4_096], n % 2 * 4_096)?;
        file.sync_data()?;
        millis.push(started.elapsed().as_secs_f64() * 1e3);
    }
    millis.sort_by(f64::total_cmp);
    Ok((load::at(&millis, 0.5), load::at(&millis, 0.99)))
}
