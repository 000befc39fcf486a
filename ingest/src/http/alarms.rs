//! What operators are alarmed by, in numbers: how well the ledger commits, how far it is behind itself and its witnesses, and which
//! stories do not come to their end. Read when asked for; steers nothing. `docs/operations.md` says what to do about each.

use crate::pipeline::{Core, Fault, now};
use countersign_ledger::evidence::Phase;
use countersign_ledger::store::{SYNC_BOUNDS_MICROS, Stats, SyncTimes};
use std::fmt;

/// The ages by which open stories are counted, in seconds: a minute, ten, an hour, a day.
const AGES: [u64; 4] = [60, 600, 3_600, 86_400];

/// So many open traces are looked at, oldest first: more are an alarm in themselves.
const LOOKED_AT: usize = 10_000;

/// The numbers, at one moment. Shown in Prometheus' text format.
pub struct Alarms {
    stats: Stats,
    open: Ages,
    intents: Ages,
    witnesses: crate::witness::Standing,
    read_only: bool,
}

/// How many there are older than each of [`AGES`], and how old the oldest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ages {
    older: [u64; AGES.len()],
    oldest: u64,
}

impl Ages {
    fn add(&mut self, seconds: u64) {
        self.oldest = self.oldest.max(seconds);
        self.older.iter_mut().zip(AGES).for_each(|(older, age)| *older += u64::from(seconds > age));
    }
}

/// Reads them.
pub fn read(core: &Core) -> Result<Alarms, Fault> {
    let ledger = &core.ledger;
    let (mut open, mut intents) = (Ages::default(), Ages::default());
    let now = now();
    for (trace, first) in ledger.open_traces().into_iter().take(LOOKED_AT) {
        let age = |at: Option<u64>| -> Result<u64, Fault> {
            let Some(entry) = at.map(|index| ledger.entry(index)).transpose()?.flatten() else { return Ok(0) };
            Ok(now.saturating_sub(entry.at.get() / 1_000_000))
        };
        open.add(age(Some(first))?);
        // From its last entry on, which is the intent.
        if let Some(head) = ledger.trace(&trace)?.filter(|head| head.state.phase == Phase::Intended) {
            intents.add(age(head.entries.last().copied())?);
        }
    }
    let (stats, witnesses) = (ledger.stats(), core.witnesses.standing());
    Ok(Alarms { stats, open, intents, witnesses, read_only: ledger.read_only().is_some() })
}

impl fmt::Display for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stats, open, intents, witnesses, read_only } = self;
        let mut gauge = |name: &str, value: u64| {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            writeln!(f, "# TYPE countersign_{name} {kind}\ncountersign_{name} {value}")
        };
        gauge("ledger_size", stats.size)?;
        gauge("ledger_published_size", stats.published_size)?;
        gauge("ledger_published_lag", stats.size.saturating_sub(stats.published_size))?;
        gauge("ledger_head_lag", stats.head_lag)?;
        gauge("ledger_queue", stats.queue)?;
        gauge("ledger_groups_total", stats.groups)?;
        gauge("ledger_entries_total", stats.entries)?;
        gauge("ledger_refused_total", stats.refused)?;
        gauge("ledger_last_group", stats.last_group)?;
        gauge("ledger_read_only", u64::from(*read_only))?;
        gauge("ledger_open_traces", stats.open_traces)?;
        gauge("witnesses", witnesses.witnesses as u64)?;
        gauge("witnesses_missing", witnesses.missing as u64)?;
        gauge("witnesses_alarms", witnesses.alarms as u64)?;
        gauge("ledger_cosigned_size", witnesses.cosigned_size)?;
        gauge("ledger_unwitnessed_seconds", witnesses.unwitnessed_seconds)?;
        histogram(f, "ledger_batch_sync_seconds", &stats.batch_sync)?;
        histogram(f, "ledger_head_sync_seconds", &stats.head_sync)?;
        ages(f, "open_traces", open)?;
        ages(f, "open_intents", intents)
    }
}

fn ages(f: &mut fmt::Formatter<'_>, name: &str, ages: &Ages) -> fmt::Result {
    writeln!(f, "# TYPE countersign_{name}_older gauge")?;
    for (age, older) in AGES.iter().zip(ages.older) {
        writeln!(f, "countersign_{name}_older{{seconds=\"{age}\"}} {older}")?;
    }
    writeln!(f, "# TYPE countersign_{name}_oldest_seconds gauge\ncountersign_{name}_oldest_seconds {}", ages.oldest)
}

fn histogram(f: &mut fmt::Formatter<'_>, name: &str, times: &SyncTimes) -> fmt::Result {
    let seconds = |micros: u64| micros as f64 / 1e6;
    writeln!(f, "# TYPE countersign_{name} histogram")?;
    let mut below = 0;
    for (bound, count) in SYNC_BOUNDS_MICROS.iter().zip(times.buckets) {
        below += count;
        writeln!(f, "countersign_{name}_bucket{{le=\"{}\"}} {below}", seconds(*bound))?;
    }
    writeln!(f, "countersign_{name}_bucket{{le=\"+Inf\"}} {}", times.count)?;
    writeln!(f, "countersign_{name}_sum {}\ncountersign_{name}_count {}", seconds(times.total_micros), times.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_a_scraper_reads() {
        let mut stats = Stats { size: 12, published_size: 10, ..Stats::default() };
        stats.batch_sync = SyncTimes { count: 3, total_micros: 4_500, max_micros: 3_000, ..SyncTimes::default() };
        [stats.batch_sync.buckets[1], stats.batch_sync.buckets[4]] = [2, 1];
        let mut intents = Ages::default();
        [59, 61, 4_000].into_iter().for_each(|seconds| intents.add(seconds));
        let (open, witnesses) = (Ages::default(), crate::witness::Standing::default());
        let text = Alarms { stats, open, intents, witnesses, read_only: false }.to_string();
        for expect in [
            "# TYPE countersign_ledger_size gauge\ncountersign_ledger_size 12\n",
            "# TYPE countersign_ledger_groups_total counter\ncountersign_ledger_groups_total 0\n",
            "countersign_ledger_published_lag 2\n",
            "countersign_ledger_batch_sync_seconds_bucket{le=\"0.00025\"} 0\n",
            "countersign_ledger_batch_sync_seconds_bucket{le=\"0.0005\"} 2\n",
            "countersign_ledger_batch_sync_seconds_bucket{le=\"1\"} 3\n",
            "countersign_ledger_batch_sync_seconds_bucket{le=\"+Inf\"} 3\n",
            "countersign_ledger_batch_sync_seconds_sum 0.0045\n",
            "countersign_open_intents_older{seconds=\"60\"} 2\n",
            "countersign_open_intents_older{seconds=\"3600\"} 1\n",
            "countersign_open_intents_oldest_seconds 4000\n",
        ] {
            assert!(text.contains(expect), "{expect:?} is not in\n{text}");
        }
        // One type for each name, as the format wants it.
        let types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let mut once = types.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(types.len(), once.len());
    }
}
