//! Checks a Countersign ledger with nothing but a public key. The library behind `countersign-verify`: it reads files that it
//! is given, trusts none of them, opens no socket, and shares with the service only what `docs/formats.md` publishes.
//!
//! | module | what it judges |
//! | --- | --- |
//! | [`log`] | a whole export: the walk over all entries, once |
//! | [`tree`] | hashes: entries, tiles, checkpoints |
//! | [`story`] | entries: their order, their traces, what one trace owes another |
//! | [`registry`], [`token`], [`change`], [`payload`] | who is who at each point; what they signed; what entries commit to |
//! | [`row`] | single rows of a chunk |
//! | [`single`] | one receipt, one chunk, two checkpoints |
//! | [`observe`] | what a walk tells whoever listens to it |
//! | [`finding`], [`report`] | what is wrong, and how it is told |

pub mod change;
pub mod cli;
pub mod export;
pub mod finding;
pub mod log;
pub mod observe;
pub mod payload;
pub mod registry;
pub mod report;
pub mod row;
pub mod single;
pub mod story;
pub mod time;
pub mod token;
pub mod tree;

pub use cli::run;
