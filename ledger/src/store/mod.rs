//! The store: RocksDB under one sequencer, which gives every entry its place, syncs it, reads it back, signs the tree and only
//! then answers. It relies on [`tlog`](crate::tlog) for the tree, on [`evidence`](crate::evidence) for what may follow what, and
//! on the file system to keep what it said was synced.
//!
//! How an append becomes evidence, in the order in which it happens:
//!
//! 1. The caller's thread seals payloads, encodes steps and computes the append's digest (`append.rs`).
//! 2. The sequencer takes whatever waits, up to a bound, as one group and judges each append: known already, head and guards
//!    unmoved, rules kept (`sequencer.rs`).
//! 3. One synced `WriteBatch` holds the group: entries, tiles, traces, digests, payloads, size, root, frontier (`db.rs`).
//! 4. The group is read back, its leaves hashed again and the root recomputed from the stored tiles, for the new size and the
//!    last signed one (`readback.rs`).
//! 5. The checkpoint is signed, and written to `HEAD` and synced (`head.rs`).
//! 6. The callers are answered.
//!
//! **Invariant: the store is never behind `HEAD`, and ahead of it by one group at most.** What was answered stands in a store
//! that was synced before `HEAD` named it; so a store that holds less than `HEAD` says has lost something, and is opened
//! read-only (`opening.rs`).
//!
//! **Invariant: what readers get is signed.** Tiles, entries and trace heads of a group are shown once its checkpoint is in
//! `HEAD`, not before.
//!
//! **Invariant: nothing is deleted** but payloads, whose family is the only one with a delete anywhere in this crate.
//!
//! **Invariant: after any I/O error nothing is appended.** The file system may have lost pages that it accepted; only opening
//! anew, which verifies, is a way on.

mod append;
mod backup;
mod bundle;
mod commit;
mod db;
mod error;
mod export;
mod head;
mod ledger;
mod opening;
mod purge;
mod queue;
mod readback;
mod recent;
mod sequencer;
mod shared;
mod stats;
#[cfg(test)]
mod tests;

pub use crate::vault::Payload;
pub use append::{Append, Appended, Durable, TraceHead};
pub use backup::RestoreReport;
pub use bundle::Selection;
pub use error::{AppendError, StoreError};
pub use export::ExportSummary;
pub use ledger::{Ledger, Options};
pub use opening::OpeningReport;
pub use purge::{Hold, Periods, PeriodsError, PurgeReport, Purged, Reading};
pub use stats::{SYNC_BOUNDS_MICROS, Stats, SyncTimes};
