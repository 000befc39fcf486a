//! What the sequencer and the readers share: the database, what is signed so far, and whether the ledger has stopped. The
//! committer alone writes here; readers see a group only once it is signed and in `HEAD`.

use super::{db::Db, error::StoreError, opening::OpeningReport, stats::Counters};
use crate::{
    evidence::TraceId,
    tlog::{Epochs, SignedCheckpoint},
    vault::Vault,
};
use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::ThreadId,
    time::Duration,
};

/// Takes a lock. What these locks guard is replaced whole, so a panic elsewhere leaves nothing half done in it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the append path can be made to fail, in the order in which it passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    BeforeBatch,
    AfterBatch,
    BeforeHead,
    AfterHead,
    BeforePublish,
    AfterPublish,
}

#[cfg(test)]
pub(super) type Fault = Box<dyn FnMut(Point, &Db) -> Result<(), StoreError> + Send>;

/// How far readers may look.
pub(super) struct Visible {
    /// Entries under the last signed checkpoint (of a read-only ledger: in the store).
    pub(super) size: u64,
    /// The last signed checkpoint (of a read-only ledger: the last one known).
    pub(super) signed: Arc<SignedCheckpoint>,
}

type OnFatal = Box<dyn FnOnce(&str) + Send>;

#[derive(Default)]
struct End {
    reason: Option<String>,
    fatal: bool,
    on_fatal: Vec<OnFatal>,
}

pub(super) struct Shared {
    pub(super) db: Db,
    pub(super) vault: Vault,
    pub(super) epochs: Epochs,
    pub(super) opening: OpeningReport,
    pub(super) visible: Mutex<Visible>,
    pub(super) visible_grew: Condvar,
    pub(super) published: Mutex<Arc<SignedCheckpoint>>,
    /// Why no appends are taken for the time being.
    pub(super) paused: Mutex<Option<String>>,
    /// The open traces under the last signed checkpoint, each with the index of its first entry.
    pub(super) open: Mutex<HashMap<TraceId, u64>>,
    pub(super) counters: Counters,
    /// Held while payloads are purged, and while something is said that keeps them.
    pub(super) purging: Mutex<()>,
    /// The sequencer's and the committer's threads.
    pub(super) own_threads: OnceLock<[ThreadId; 2]>,
    end: Mutex<End>,
    #[cfg(test)]
    pub(super) fault: Mutex<Option<Fault>>,
}

impl Shared {
    pub(super) fn new(
        db: Db,
        vault: Vault,
        epochs: Epochs,
        opening: OpeningReport,
        visible: Visible,
        published: Arc<SignedCheckpoint>,
        open: HashMap<TraceId, u64>,
    ) -> Self {
        Self {
            db,
            vault,
            epochs,
            opening,
            visible: Mutex::new(visible),
            visible_grew: Condvar::new(),
            published: Mutex::new(published),
            paused: Mutex::default(),
            open: Mutex::new(open),
            counters: Counters::default(),
            purging: Mutex::default(),
            own_threads: OnceLock::new(),
            end: Mutex::default(),
            #[cfg(test)]
            fault: Mutex::default(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        lock(&self.visible).size
    }

    /// Whether this is one of the ledger's own threads, on which answers are given: they must not wait for each other.
    pub(super) fn on_own_thread(&self) -> bool {
        let current = std::thread::current().id();
        self.own_threads.get().is_some_and(|own| own.contains(&current))
    }

    /// Waits until the entry at `index` is under a signed checkpoint: the few milliseconds of a commit.
    pub(super) fn wait_visible(&self, index: u64) -> Result<(), StoreError> {
        let mut visible = lock(&self.visible);
        while visible.size <= index {
            if let Some(reason) = self.ended() {
                return Err(StoreError::Stopped(reason));
            }
            let waited = self.visible_grew.wait_timeout(visible, Duration::from_millis(50));
            visible = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Why nothing is appended any more.
    pub(super) fn ended(&self) -> Option<String> {
        lock(&self.end).reason.clone()
    }

    /// Why nothing is appended any more, if that is a fault.
    pub(super) fn fatal(&self) -> Option<String> {
        let end = lock(&self.end);
        end.reason.clone().filter(|_| end.fatal)
    }

    /// Ends for good. The first reason counts.
    pub(super) fn end(&self, reason: &str, fatal: bool) {
        let mut end = lock(&self.end);
        if end.reason.is_some() {
            return;
        }
        end.reason = Some(reason.to_owned());
        end.fatal = fatal;
        let calls = std::mem::take(&mut end.on_fatal);
        drop(end);
        self.visible_grew.notify_all();
        if fatal {
            calls.into_iter().for_each(|call| call(reason));
        }
    }

    pub(super) fn on_fatal(&self, call: OnFatal) {
        let mut end = lock(&self.end);
        match (&end.reason, end.fatal) {
            (None, _) => end.on_fatal.push(call),
            (Some(reason), true) => {
                let reason = reason.clone();
                drop(end);
                call(&reason);
            }
            (Some(_), false) => (),
        }
    }

    #[cfg(test)]
    pub(super) fn at(&self, point: Point) -> Result<(), StoreError> {
        lock(&self.fault).as_mut().map_or(Ok(()), |fault| fault(point, &self.db))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same call as in tests")]
    pub(super) const fn at(&self, _point: Point) -> Result<(), StoreError> {
        Ok(())
    }
}
