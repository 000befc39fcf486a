//! The crash table: each write on the append path fails, fails although it was done, or finds its process killed; then the ledger is
//! opened again and verified whole. A process of its own appends from several threads and says what was answered over a socket.
//!
//! *At our own writes* (batch, `HEAD`, published checkpoint) the process kills itself before and after each (`faults.rs` has them fail).
//! *At the system's calls*, whoever makes them (RocksDB's log and tables, `HEAD`, the keyring), `strace` injects: the `n`th call of a
//! thread fails with `EIO` or `ENOSPC`, or the process is killed as it makes it. `fdatasync` that fails is the case that ends many a
//! database: what was written is in the page cache and may or may not come back.
//!
//! Last, `strace` looks on while nothing fails: the calls that sync log and `HEAD` return before the answer leaves the process.

use super::*;
use crate::store::{
    shared::{Point, lock},
    tests::judged,
};
use std::{
    collections::BTreeMap,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, ExitStatus},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

const CHILD: &str = "COUNTERSIGN_TEST_CRASHED";

/// Appends that each of the child's threads makes, if nothing fails.
const APPENDS: u64 = 12;

/// What the child ends with where it hangs.
const HUNG: i32 = 99;

/// Appends from `threads` threads and says each answer in a datagram: `<n> <index> <leaf>`.
fn child(dir: &Path) {
    let say = |name: &str| std::env::var(format!("{CHILD}_{name}")).ok();
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(60));
        std::process::exit(HUNG);
    });
    let ledger = match Ledger::open(&options_in(dir)) {
        Ok(ledger) => ledger,
        // A call that fails while opening: nothing was answered.
        Err(_) => std::process::exit(70),
    };
    let run: u64 = say("RUN").unwrap().parse().unwrap();
    if let Some(point) = say("POINT") {
        let (point, after) = point.split_once(' ').map(|(p, n)| (p.to_owned(), n.parse::<usize>().unwrap())).unwrap();
        let passed = AtomicUsize::new(0);
        *lock(&ledger.shared().fault) = Some(Box::new(move |at, _| {
            if format!("{at:?}") == point && passed.fetch_add(1, Relaxed) == after {
                kill_myself();
            }
            Ok(())
        }));
    }
    let threads: u64 = say("THREADS").unwrap().parse().unwrap();
    thread::scope(|scope| {
        for thread in 0..threads {
            let ledger = &ledger;
            scope.spawn(move || {
                let parent = UnixDatagram::unbound().unwrap();
                parent.connect(dir.join("answers")).unwrap();
                for n in 0..APPENDS {
                    let n = 1_000_000 * run + 1_000 * thread + n;
                    match ledger.append(received(n)) {
                        Ok(appended) => {
                            let last = appended.last();
                            parent.send(format!("{n} {} {}", last.index(), last.leaf()).as_bytes()).unwrap();
                        }
                        Err(AppendError::Stopped(_)) => return,
                        Err(e) => panic!("{e}"),
                    }
                }
            });
        }
    });
    // A checkpoint is published within a second, and the kill may be waiting for that.
    if say("POINT").is_some_and(|point| point.contains("Publish")) {
        thread::sleep(Duration::from_millis(1_500));
    }
    let stopped = ledger.fatal().is_some();
    ledger.close();
    std::process::exit(if stopped { 70 } else { 0 });
}

fn kill_myself() {
    Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status().unwrap();
    // Until it arrives.
    thread::sleep(Duration::from_secs(60));
}

/// The exit code of a program whose child was killed: 128 and the signal's number.
pub(super) const KILLED: i32 = 128 + 9;

/// A ledger and what was answered for.
struct Crashed {
    place: Place,
    answers: UnixDatagram,
    answered: BTreeMap<u64, Hash>,
    runs: u64,
}

impl Crashed {
    fn new() -> Self {
        let place = Place::new();
        place.create().close();
        let answers = UnixDatagram::bind(place.path("answers")).unwrap();
        answers.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self { place, answers, answered: BTreeMap::new(), runs: 0 }
    }

    /// Runs the child, under `wrapper` (a program with its arguments) where it is not empty, to its end.
    fn run(&mut self, wrapper: &[&str], threads: u64, point: Option<&str>) -> ExitStatus {
        self.runs += 1;
        let program = std::env::current_exe().unwrap().display().to_string();
        let words: Vec<&str> = wrapper.iter().copied().chain([&*program]).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(["--exact", "store::tests::crashes::a_killed_process_at_each_of_our_writes", "--nocapture"])
            .env(CHILD, self.place.dir.path())
            .env(format!("{CHILD}_RUN"), self.runs.to_string())
            .env(format!("{CHILD}_THREADS"), threads.to_string())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        if let Some(point) = point {
            command.env(format!("{CHILD}_POINT"), point);
        }
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let over = ended.load(Relaxed);
                    let mut bytes = [0; 256];
                    match self.answers.recv(&mut bytes) {
                        Ok(length) => {
                            let text = std::str::from_utf8(&bytes[..length]).unwrap();
                            let mut words = text.split(' ').skip(1);
                            let index = words.next().unwrap().parse().unwrap();
                            let leaf = Hash::from_hex(words.next().unwrap()).unwrap();
                            assert!(self.answered.insert(index, leaf).is_none(), "index {index} was given twice");
                        }
                        // Nothing came for a while, and nobody is left to send.
                        Err(_) if over => return,
                        Err(_) => (),
                    }
                }
            });
            let status = command.status().unwrap();
            ended.store(true, Relaxed);
            status
        })
    }

    /// Opens again and verifies whole; gives whether a group was found that was not signed.
    fn verify(&self, row: &str) -> bool {
        let ledger = self.place.open();
        assert_eq!(ledger.read_only(), None, "{row}");
        let repaired = ledger.opening().repaired.is_some();
        let entries = super::verify(&ledger);
        for (index, leaf) in &self.answered {
            let bytes = ledger.entry_bytes(*index).unwrap().unwrap_or_else(|| panic!("{row}: entry {index} is lost"));
            assert_eq!(leaf_hash(&bytes), *leaf, "{row}: entry {index} is another one");
        }
        let mut traces = std::collections::HashSet::new();
        assert!(entries.iter().all(|entry| traces.insert((entry.trace, entry.step))), "{row}: an entry stands twice");
        // And it goes on.
        ledger.append(rejected(self.runs)).unwrap();
        ledger.close();
        repaired
    }
}

/// The process is killed right before and right after each of our own writes, at the first group and at a later one.
#[test]
fn a_killed_process_at_each_of_our_writes() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(Path::new(&dir));
    }
    let points = [
        Point::BeforeBatch,
        Point::AfterBatch,
        Point::BeforeHead,
        Point::AfterHead,
        Point::BeforePublish,
        Point::AfterPublish,
    ];
    let mut crashed = Crashed::new();
    for point in points {
        for after in [0, 3] {
            // Checkpoints are published once a second: their first time has to do.
            let publishing = matches!(point, Point::BeforePublish | Point::AfterPublish);
            if publishing && after > 0 {
                continue;
            }
            let row = format!("killed at {point:?}, {after} groups on");
            let status = crashed.run(&[], 4, Some(&format!("{point:?} {after}")));
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{row}: {status}");
            let repaired = crashed.verify(&row);
            assert_eq!(repaired, matches!(point, Point::AfterBatch | Point::BeforeHead), "{row}");
        }
    }
    assert!(crashed.answered.len() > 10, "{} answers: nothing went well", crashed.answered.len());
    judged::fsck("a_killed_process_at_each_of_our_writes", &crashed.place);
}

/// Whether `strace` can follow a process here; where it can't the test says that it is skipped.
pub(super) fn strace(test: &str) -> bool {
    let tried =
        Command::new("strace").args(["-f", "--seccomp-bpf", "-e", "trace=fsync", "-o", "/dev/null", "true"]).output();
    match tried {
        Ok(out) if out.status.success() => true,
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr);
            judged::skip(test, &format!("strace cannot run here: {}", said.lines().next().unwrap_or_default()));
            false
        }
        Err(e) => {
            judged::skip(test, &format!("strace cannot run here: {e}"));
            false
        }
    }
}

/// Every kind of call that puts something on the disk × what becomes of it × which call of a thread it hits.
/// `COUNTERSIGN_TEST_CALLS=40` tries more of them.
#[test]
fn whatever_call_fails_the_answered_stays() {
    if !strace("whatever_call_fails_the_answered_stays") {
        return;
    }
    let calls = ["fdatasync", "pwrite64", "write", "fsync", "rename", "fallocate", "openat"];
    let faults = ["error=EIO", "error=ENOSPC", "signal=KILL"];
    let upto: Option<usize> = std::env::var("COUNTERSIGN_TEST_CALLS").ok().and_then(|n| n.parse().ok());
    let (mut rows, mut stopped, mut killed, mut repaired, mut untouched) = (0, 0, 0, 0, 0);
    let mut crashed = Crashed::new();
    for (at, call) in calls.into_iter().enumerate() {
        for (which, fault) in faults.into_iter().enumerate() {
            let all: Vec<usize> = match upto {
                Some(upto) => (1..=upto).collect(),
                // A few of each, other ones for each fault; most where the append path is.
                None if at < 3 => vec![1 + which, 3 + 2 * which, 8 + 3 * which],
                None => vec![2 + 3 * which],
            };
            for n in all {
                let row = format!("{call} {n}: {fault}");
                let (traced, inject) = (format!("trace={call}"), format!("inject={call}:{fault}:when={n}"));
                // Only what is injected stops the child, which is faster; but then strace 6.1 delivers no signals.
                let quick = (!fault.starts_with("signal")).then_some("--seccomp-bpf");
                let wrapper: Vec<&str> = (["strace", "-f", "-q", "-o", "/dev/null", "-e", &traced, "-e", &inject]
                    .into_iter())
                .chain(quick)
                .collect();
                let status = crashed.run(&wrapper, 4, None);
                assert_ne!(status.code(), Some(HUNG), "{row}: it hung");
                rows += 1;
                match status.code() {
                    Some(0) => untouched += 1,
                    // strace ends as its child did, or says so in a shell's way.
                    None | Some(KILLED) => killed += 1,
                    Some(_) => stopped += 1,
                }
                repaired += u64::from(crashed.verify(&row));
            }
        }
    }
    let answered = crashed.answered.len();
    println!(
        "{rows} rows: {stopped} stopped, {killed} killed, {untouched} went on; {answered} entries answered for, {repaired} groups \
         found unsigned"
    );
    assert!(stopped > 0 && killed > 0 && answered > 100, "nothing was tried");
    judged::fsck("whatever_call_fails_the_answered_stays", &crashed.place);
}

/// For each answer: the entry is written to the log, the log is synced, `HEAD` is written, `HEAD` is synced, and only then is the answer
/// sent; each call has returned before the next is made.
#[test]
fn syncs_return_before_the_answer_leaves() {
    if !strace("syncs_return_before_the_answer_leaves") {
        return;
    }
    let mut crashed = Crashed::new();
    let trace = crashed.place.path("trace").display().to_string();
    let watched = "trace=write,pwrite64,fdatasync,fsync,sendto";
    let wrapper = ["strace", "-f", "-q", "-y", "-s", "100000", "-o", &*trace, "-e", watched];
    let status = crashed.run(&wrapper, 1, None);
    assert!(status.success(), "{status}");
    let text = std::fs::read(&trace).unwrap();
    let calls = returned(&String::from_utf8_lossy(&text));
    // How many calls were looked at.
    let mut from = 0;
    for n in 0..APPENDS {
        let offset = 1_000_000 * crashed.runs + n;
        let entry = format!(r#"\"offset\":{offset},"#);
        let answer = format!("\"{offset} ");
        let steps: [&dyn Fn(&str) -> bool; 5] = [
            &|call| call.starts_with("write(") && call.contains(".log>") && call.contains(&entry),
            &|call| {
                (call.starts_with("fdatasync(") || call.starts_with("fsync("))
                    && call.contains(".log>)")
                    && call.ends_with("= 0")
            },
            &|call| call.starts_with("pwrite64(") && call.contains("/HEAD>") && call.ends_with("= 4096"),
            &|call| call.starts_with("fdatasync(") && call.contains("/HEAD>)") && call.ends_with("= 0"),
            &|call| (call.starts_with("sendto(") || call.starts_with("write(")) && call.contains(&answer),
        ];
        for (step, is) in steps.iter().enumerate() {
            let found = calls.iter().enumerate().skip(from).position(|(_, call)| is(&call.text));
            let at = from
                + found.unwrap_or_else(|| panic!("append {n}: step {step} is not among the calls after line {from}"));
            // The step before is the call at `from - 1`: it must have returned before this one was made.
            let early = step > 0 && calls[from - 1].returned >= calls[at].made;
            assert!(!early, "append {n}: step {step} was made before the one before it returned");
            from = at + 1;
        }
    }
    crashed.verify("nothing failed");
}

/// A call with the lines of the trace at which it was made and at which it returned.
struct Call {
    text: String,
    made: usize,
    returned: usize,
}

/// The calls in the order in which they returned. A line is `<process> <call>(<arguments>) = <result>`, or the two halves
/// `… <unfinished ...>` and `<... call resumed>…`.
fn returned(trace: &str) -> Vec<Call> {
    let (mut unfinished, mut calls) = (HashMap::new(), vec![]);
    for (at, line) in trace.lines().enumerate() {
        let Some((process, call)) = line.split_once(' ').map(|(process, call)| (process, call.trim_start())) else {
            continue;
        };
        if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(process, (at, begun));
        } else if let Some((_, rest)) = call.strip_prefix("<... ").and_then(|call| call.split_once(" resumed>")) {
            if let Some((made, begun)) = unfinished.remove(process) {
                calls.push(Call { text: format!("{begun}{rest}"), made, returned: at });
            }
        } else {
            calls.push(Call { text: call.to_owned(), made: at, returned: at });
        }
    }
    calls
}
