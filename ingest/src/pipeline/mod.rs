//! The life of a chunk, in the order in which it happens:
//!
//! ```text
//! Received → Identified → Decided ┆ Permitted → Fetched → Masked → Recorded → Delivered
//!        door/ (one thread)       ┆              worker (one thread each)
//! ```
//!
//! [`request`] holds the stages up to the decision, which are pure: they may run before anything is durable. The door appends
//! their outcome and puts permitted work on `chunk.work`. [`chunk`] holds the stages after it, each of which takes only what
//! the stage before proved: rows are fetched once the query is in the ledger, only the masker makes masked rows, only a
//! durable receipt of `delivery.intended` makes a recorded chunk, and only a recorded chunk can be delivered. [`worker`]
//! walks through them and finds its way back in after a crash; [`encode`] writes parts, [`status`] what callers are told,
//! [`sources`] keeps the connections.

pub mod chunk;
pub mod encode;
pub mod request;
pub mod sources;
pub mod status;
pub mod worker;

use crate::config::Config;
use crate::identity::Shared;
use countersign_ledger::evidence::TraceId;
use countersign_ledger::store::{AppendError, Ledger, StoreError};
use countersign_masker::TokenKeys;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What every part of the service works with.
#[derive(Clone)]
pub struct Core {
    /// The ledger.
    pub ledger: Ledger,
    /// Identities, policy, catalog and connections in force.
    pub registry: Shared,
    /// The open connections.
    pub sources: Arc<sources::Sources>,
    /// How often callers have asked.
    pub rates: Arc<crate::door::rates::Rates>,
    /// The keys of deterministic tokens.
    pub tokens: Arc<TokenKeys>,
    /// The configuration.
    pub config: Arc<Config>,
    /// Whether Kafka is the in-process cluster.
    pub embedded: bool,
    /// Where asynchronous work runs that a thread waits for.
    pub runtime: tokio::runtime::Handle,
    /// What witnesses have said of the ledger.
    pub witnesses: Arc<crate::witness::Witnesses>,
    /// The traces that workers are at.
    pub busy: Arc<Busy>,
    /// Set once: finish what is under way and stop.
    pub drain: Arc<Drain>,
}

/// The traces that workers of this process are at, each held by one.
#[derive(Debug, Default)]
pub struct Busy {
    traces: Mutex<HashSet<TraceId>>,
    freed: Condvar,
}

/// A trace that is held; let go when dropped.
pub struct Held<'a>(&'a Busy, TraceId);

impl Busy {
    /// Holds a trace, waiting while another worker does.
    pub fn take(&self, trace: TraceId) -> Held<'_> {
        // The set holds whole values only, so one that a thread left behind while it panicked is still right.
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        while !traces.insert(trace) {
            traces = self.freed.wait(traces).unwrap_or_else(PoisonError::into_inner);
        }
        Held(self, trace)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.traces.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
        self.0.freed.notify_all();
    }
}

/// The wish to stop, shared by all threads.
#[derive(Debug, Default)]
pub struct Drain(AtomicBool);

impl Drain {
    /// Asks everybody to stop.
    pub fn start(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps, but not through the wish to stop.
    pub fn sleep(&self, time: Duration) {
        let step = Duration::from_millis(50);
        let mut left = time;
        while !self.is_on() && !left.is_zero() {
            std::thread::sleep(left.min(step));
            left = left.saturating_sub(step);
        }
    }
}

/// Unix time in seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A fault that is not the request's: whoever meets it stops what it is doing, and it is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The ledger did not take an entry.
    #[error("ledger: {0}")]
    Append(#[from] AppendError),
    /// The ledger could not be read.
    #[error("ledger: {0}")]
    Store(#[from] StoreError),
    /// Kafka did not answer.
    #[error("kafka: {0}")]
    Broker(#[from] crate::broker::BrokerError),
    /// A transaction did not end well.
    #[error("kafka: {0}")]
    Transaction(#[from] crate::broker::TxError),
    /// What the ledger holds cannot be worked with.
    #[error("trace {trace}: {reason}")]
    Trace {
        /// The trace.
        trace: TraceId,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else, named.
    #[error("{0}")]
    Other(String),
}
