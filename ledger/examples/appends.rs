//! How fast the ledger appends: `appends FOLDER APPENDERS SECONDS [threads|callbacks]`. Each appender has one append under way at a
//! time, and makes the next one when it is answered; every append is one entry that opens a trace of its own.
//!
//! `threads` (the default) blocks one thread for each appender; `callbacks` answers on the sequencer's thread, as asynchronous
//! callers have it, and makes the appends on two threads.

use countersign_ledger::{
    evidence::{
        Class, Commitment, Int, Reason, TraceId,
        step::{LogCreated, RequestRejected},
    },
    store::{Append, AppendError, Appended, Ledger, Options},
    tlog::SignerKey,
};
use std::{
    error::Error,
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

const ORIGIN: &str = "bench.example/log";

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: appends FOLDER APPENDERS SECONDS [threads|callbacks]";
    let (folder, appenders, seconds, callbacks) = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
    {
        [folder, appenders, seconds] => (*folder, appenders.parse()?, seconds.parse()?, false),
        [folder, appenders, seconds, how @ ("threads" | "callbacks")] => {
            (*folder, appenders.parse()?, seconds.parse()?, *how == "callbacks")
        }
        _ => return Err(usage.into()),
    };
    let ledger = create(Path::new(folder))?;
    let before = ledger.stats();
    let processor = processor_seconds();
    let started = Instant::now();
    let deadline = started + Duration::from_secs(seconds);
    let mut micros = if callbacks { call(&ledger, appenders, deadline)? } else { block(&ledger, appenders, deadline)? };
    let took = started.elapsed().as_secs_f64();
    let processor = processor_seconds() - processor;
    let stats = ledger.stats();
    micros.sort_unstable();
    let entries = stats.entries - before.entries;
    let groups = (stats.groups - before.groups).max(1);
    let rate = entries as f64 / took;
    let at = |part: f64| micros.get((micros.len() as f64 * part) as usize).copied().unwrap_or(0) as f64 / 1e3;
    let size = ledger.entry_bytes(1)?.map_or(0, |bytes| bytes.len());
    let mean =
        |times: countersign_ledger::store::SyncTimes| times.total_micros as f64 / times.count.max(1) as f64 / 1e3;
    println!("{appenders} appenders, {size} bytes an entry, {took:.1} s: {entries} entries, {rate:.0}/s");
    println!("  answered in ms: p50 {:.2}, p99 {:.2}, max {:.2}", at(0.5), at(0.99), at(0.999_999));
    println!("  groups of {:.0} entries, {:.2} ms each", entries as f64 / groups as f64, took * 1e3 / groups as f64);
    println!("  synced in ms: batch {:.2}, HEAD {:.2}", mean(stats.batch_sync), mean(stats.head_sync));
    println!("  processor: {:.1} us an entry", processor * 1e6 / entries.max(1) as f64);
    let closing = Instant::now();
    ledger.close();
    let closed = closing.elapsed();
    let opening = Instant::now();
    let ledger = open(Path::new(folder))?;
    println!("  closed in {} ms, opened again in {} ms", closed.as_millis(), opening.elapsed().as_millis());
    println!("  {}", ledger.opening());
    Ok(())
}

fn options(folder: &Path) -> Result<Options, Box<dyn Error>> {
    let signer = SignerKey::generate_from_seed(ORIGIN, &[7; 32])?;
    Ok(Options::new(folder.join("db"), folder.join("HEAD"), folder.join("keyring"), signer))
}

fn create(folder: &Path) -> Result<Ledger, Box<dyn Error>> {
    let options = options(folder)?;
    if options.dir.exists() {
        return open(folder);
    }
    fs::create_dir_all(folder)?;
    let key = options.signer.verifier().to_string();
    let created = LogCreated { origin: ORIGIN.into(), key, quorum: Int::ONE, continues: None };
    Ok(Ledger::create(&options, vec![Append::opening(TraceId::log(), vec![created.into()])])?)
}

fn open(folder: &Path) -> Result<Ledger, Box<dyn Error>> {
    let ledger = Ledger::open(&options(folder)?)?;
    match ledger.read_only() {
        Some(reason) => Err(reason.into()),
        None => Ok(ledger),
    }
}

/// A different trace for each number, also in another run.
fn append(n: u64) -> Append {
    static RUN: AtomicU64 = AtomicU64::new(0);
    if RUN.load(Relaxed) == 0 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        RUN.store(now.map_or(1, |t| t.as_secs() << 22 & Int::MAX.get()), Relaxed);
    }
    let offset = Int::saturating(RUN.load(Relaxed) + n);
    let step = RequestRejected {
        reason: Reason::Malformed,
        door: "k".into(),
        topic: "t".into(),
        partition: Int::ZERO,
        offset,
        count: Int::ONE,
        record: Commitment::to(Class::Rejected, &[1; 32], &n.to_be_bytes()),
    };
    Append::opening(TraceId::rejected("t", 0, offset.get()), vec![step.into()])
}

/// One thread for each appender. Gives the time of each answer in microseconds.
fn block(ledger: &Ledger, appenders: u64, deadline: Instant) -> Result<Vec<u64>, Box<dyn Error>> {
    let (next, all) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..appenders {
            // Small stacks: a thousand threads.
            let run = || {
                let mut micros = Vec::new();
                while Instant::now() < deadline {
                    let sent = Instant::now();
                    if let Err(e) = ledger.append(append(next.fetch_add(1, Relaxed))) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                        break;
                    }
                    micros.push(sent.elapsed().as_micros() as u64);
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).append(&mut micros);
            };
            if let Err(e) = thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(AppendError::Stopped(e.to_string()));
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e.into()),
        None => Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Two threads that keep so many appends under way.
fn call(ledger: &Ledger, appenders: u64, deadline: Instant) -> Result<Vec<u64>, Box<dyn Error>> {
    let next = AtomicU64::new(0);
    let halves = [appenders.div_ceil(2), appenders / 2];
    let results = thread::scope(|scope| {
        let threads = halves.map(|appenders| {
            let next = &next;
            scope.spawn(move || {
                let (answer, answers) = channel::<(Instant, Result<Appended, AppendError>)>();
                let send = || {
                    let (answer, sent) = (answer.clone(), Instant::now());
                    ledger.append_with(append(next.fetch_add(1, Relaxed)), move |result| {
                        // The other side waits until all are answered.
                        let _ = answer.send((sent, result));
                    });
                };
                (0..appenders).for_each(|_| send());
                let (mut micros, mut under_way) = (Vec::new(), appenders);
                while under_way > 0 {
                    let (sent, result) = answers.recv().map_err(|e| e.to_string())?;
                    result.map_err(|e| e.to_string())?;
                    micros.push(sent.elapsed().as_micros() as u64);
                    under_way -= 1;
                    if Instant::now() < deadline {
                        send();
                        under_way += 1;
                    }
                }
                Ok::<_, String>(micros)
            })
        });
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    });
    let mut all = Vec::new();
    for result in results {
        all.extend(result?);
    }
    Ok(all)
}

/// What this process has used of the processors, in seconds (Linux: `/proc/self/stat` in ticks of 10 ms).
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
