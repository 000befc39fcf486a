//! The rules of Countersign: what a caller may have of a table, and what his rows look like after masking. Everything here
//! is a pure function of its arguments: no I/O, no clock, no network, no source of randomness; keys, seeds and the time are
//! handed in, so that an auditor can run the same decision again from the same texts.
//!
//! One request walks through the modules in this order: [`catalog`] and [`policy`] are loaded from their texts, [`decide`]
//! answers a request with a [`Decision`] (verdict, obligations, [`Plan`]), a source fetches what the plan says and hands it
//! over as [`Clear`], and [`mask`] turns that into a [`MaskedChunk`], whose parts are the only frames that may leave.

mod access;
pub mod catalog;
pub mod civil;
pub mod coverage;
pub mod decide;
pub mod detect;
pub mod explain;
pub mod filter;
pub mod frame;
mod fresh;
pub mod load;
pub mod nested;
pub mod path;
pub mod plan;
pub mod policy;
pub mod propose;
pub mod reidentify;
pub mod rows;
pub mod schema;
pub mod transform;

pub use access::Answers;
pub use catalog::Catalog;
pub use decide::{Ask, Decision, DenyReason, KeyRange, Obligations, Verdict, decide, decide_with, may_read};
pub use detect::Detectors;
pub use filter::Predicate;
pub use frame::{Clear, ColumnAccount, MaskError, Masked, MaskedChunk, PathAccount, mask};
pub use load::LoadError;
pub use path::Path;
pub use plan::Plan;
pub use policy::{Action, Policies, Rate, Resource, Subject, permits};
pub use schema::{ColumnType, TableSchema};
pub use transform::{Mask, Means, TokenKeys};
