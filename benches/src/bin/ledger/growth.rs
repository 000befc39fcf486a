//! What an entry costs as the ledger grows: time from 10³ entries to the whole, then bytes on the disk by family, memory, and opening,
//! after an orderly end and after a kill under load.

use crate::{InProcess, load::closed, server, signer, support::Folder};
use anyhow::{Context, Result, ensure};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Appends under way.
const WINDOW: usize = 1_024;

/// So many appends are measured at each power of ten.
const PROBE: u64 = 50_000;

pub fn run(entries: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = Folder::new("ledger-growth")?;
    let log = folder.path().join("log");
    let ledger = server::open(&log, signer()?)?;
    let ours = InProcess::new(ledger.clone());
    println!("{WINDOW} appends under way; at each size the cost of the {PROBE} entries that follow");
    let mut size = 1_000;
    while size <= entries {
        grow(&runtime, &ours, size)?;
        let (processor, started) = (processor_seconds(), Instant::now());
        grow(&runtime, &ours, ledger.size().get() + PROBE)?;
        let (took, processor) = (started.elapsed().as_secs_f64(), processor_seconds() - processor);
        println!(
            "  {size:>9} entries  {:>7.0}/s  processor {:>5.1} us an entry",
            PROBE as f64 / took,
            processor * 1e6 / PROBE as f64
        );
        size *= 10;
    }
    grow(&runtime, &ours, entries)?;
    let one = runtime.block_on(closed(1, Duration::from_secs(3), |_| {
        let ours = ours.clone();
        async move {
            Ok(move || {
                let ours = ours.clone();
                async move { ours.append().await.map(drop) }
            })
        }
    }))?;
    println!("  one writer at the end: {one}");
    let entry = ledger.entry_bytes(ledger.size().get() / 2)?.context("no entry")?.len();
    let size = ledger.size().get();
    println!(
        "{size} entries of {entry} bytes; memory of this process {} MB at most, {} MB now",
        memory("VmHWM")?,
        memory("VmRSS")?
    );
    drop(ours);
    ledger.close();

    for how in ["an orderly end", "an orderly end, read before"] {
        let started = Instant::now();
        let ledger = server::open(&log, signer()?)?;
        println!("opened after {how}: {} ms", started.elapsed().as_millis());
        ledger.close();
    }
    let killed = Command::new(std::env::current_exe()?)
        .arg("die")
        .arg(&log)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(!killed.success(), "it did not die");
    let started = Instant::now();
    let ledger = server::open(&log, signer()?)?;
    println!("opened after a kill under load: {} ms; {}", started.elapsed().as_millis(), ledger.opening());

    let size = ledger.size().get();
    let mut all = 0;
    println!("bytes an entry in the store's tables:");
    for (family, bytes) in ledger.table_bytes()? {
        println!("  {family:<11} {:>8.2}", bytes as f64 / size as f64);
        all += bytes;
    }
    println!(
        "  together    {:>8.2}; the folder, logs included: {:.2}",
        all as f64 / size as f64,
        du(&log)? as f64 / size as f64
    );
    ledger.close();
    Ok(())
}

fn grow(runtime: &tokio::runtime::Runtime, ours: &InProcess, size: u64) -> Result<()> {
    let missing = size.saturating_sub(ours.ledger.size().get());
    runtime.block_on(async {
        let tasks: Vec<_> = (0..WINDOW as u64)
            .map(|at| {
                let (ours, share) = (ours.clone(), missing / WINDOW as u64 + u64::from(at < missing % WINDOW as u64));
                tokio::spawn(async move {
                    for _ in 0..share {
                        ours.append().await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

/// Appends for three seconds and dies in the midst of it.
pub fn die(log: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ours = InProcess::new(server::open(log, signer()?)?);
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(3));
        std::process::abort();
    });
    grow(&runtime, &ours, u64::MAX)
}

/// What this process has used of the processors, in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A line of `/proc/self/status`, in MB.
fn memory(line: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes = status
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kilobytes.context("no such line")? / 1_024)
}

fn du(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { du(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
