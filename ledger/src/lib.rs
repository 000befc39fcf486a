//! The evidence: everything an auditor needs in order to check what Countersign did, and everything the service needs in
//! order to leave that evidence behind.
//!
//! [`tlog`] and [`evidence`] are pure (no I/O, no clock, no C code) and are all that `countersign-verify` links. [`store`]
//! and [`vault`] write, and stand behind the feature `store`.

pub mod evidence;
pub mod tlog;

#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "store")]
pub mod vault;
