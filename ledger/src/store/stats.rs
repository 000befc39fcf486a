//! Counters and gauges for operators' alarms. What is counted here never steers anything.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The upper bounds of [`SyncTimes::buckets`], in microseconds; the last bucket has none.
pub const SYNC_BOUNDS_MICROS: [u64; 9] = [250, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 100_000, 1_000_000];

/// How long one kind of sync took, since the ledger was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// How many there were.
    pub count: u64,
    /// All together, in microseconds.
    pub total_micros: u64,
    /// The longest, in microseconds.
    pub max_micros: u64,
    /// How many took at most [`SYNC_BOUNDS_MICROS`], each counted in one bucket; the last holds the slower ones.
    pub buckets: [u64; SYNC_BOUNDS_MICROS.len() + 1],
}

/// The ledger's state in numbers, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries under the last signed checkpoint.
    pub size: u64,
    /// Entries under the last published checkpoint.
    pub published_size: u64,
    /// Entries in the store that `HEAD` does not name yet: 0 but for the moment of a commit, or after a stop.
    pub head_lag: u64,
    /// Groups committed since the ledger was opened.
    pub groups: u64,
    /// Entries appended since the ledger was opened.
    pub entries: u64,
    /// Appends refused since the ledger was opened.
    pub refused: u64,
    /// Appends answered from before, since the ledger was opened.
    pub repeated: u64,
    /// Entries in the last group.
    pub last_group: u64,
    /// Appends that wait.
    pub queue: u64,
    /// Traces that tell a story without an end yet.
    pub open_traces: u64,
    /// The synced writes to the store.
    pub batch_sync: SyncTimes,
    /// The synced writes to `HEAD`.
    pub head_sync: SyncTimes,
}

#[derive(Default)]
pub(super) struct Times {
    count: AtomicU64,
    total: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; SYNC_BOUNDS_MICROS.len() + 1],
}

impl Times {
    pub(super) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Relaxed);
        self.total.fetch_add(micros, Relaxed);
        self.max.fetch_max(micros, Relaxed);
        let bucket = SYNC_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn read(&self) -> SyncTimes {
        let mut times = SyncTimes {
            count: self.count.load(Relaxed),
            total_micros: self.total.load(Relaxed),
            max_micros: self.max.load(Relaxed),
            ..SyncTimes::default()
        };
        times.buckets.iter_mut().zip(&self.buckets).for_each(|(to, from)| *to = from.load(Relaxed));
        times
    }
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(super) struct Counters {
    pub(super) stored: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) last_group: AtomicU64,
    pub(super) batch_sync: Times,
    pub(super) head_sync: Times,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_one_bucket() {
        let times = Times::default();
        [0, 250, 251, 3_000_000].into_iter().for_each(|micros| times.record(Duration::from_micros(micros)));
        let read = times.read();
        assert_eq!(read.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((read.count, read.total_micros, read.max_micros), (4, 3_000_501, 3_000_000));
    }
}
