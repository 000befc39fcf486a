//! The steps, their canonical bytes and the rules that a complete trace obeys. Pure: the writer and the verifier run this
//! very code, so what the one appends the other accepts, and nothing else.
//!
//! Reading order: [`entry`] (the line that is hashed), [`step`] (what can happen), [`rules`] (in which order), [`commitment`]
//! (how a line refers to what it must not contain), [`jws`] (what callers, approvers and admins sign), [`digest`] (names
//! derived by hashing), [`fork`] (how two checkpoints that cannot both be true are shown to anybody), [`archive`] (evidence
//! as one file), [`rotation`] (how the log's key is replaced).

pub mod archive;
mod canonical;
pub mod commitment;
pub mod day;
pub mod digest;
pub mod entry;
pub mod fork;
pub mod jws;
pub mod receipt;
pub mod rotation;
pub mod row;
pub mod rules;
pub mod step;

pub use commitment::{Class, Commitment, Salt};
pub use day::Day;
pub use digest::{TraceId, chunk_commitment, part_digest};
pub use entry::{Draft, Entry, EntryError, MAX_ENTRY_BYTES};
pub use fork::{Fork, ForkError, ForkProof};
pub use receipt::{Receipt, ReceiptError};
pub use row::{RowProof, RowsOf};
pub use rules::{Phase, TraceState, Violation};
pub use step::{Int, Reason, Step};
