//! Checks a Countersign ledger with nothing but a public key. The library behind `countersign-verify`: it reads files that it
//! is given, trusts none of them, opens no socket, and shares with the service only what `docs/formats.md` publishes.
//!
//! | module | what it judges |
//! | --- | --- |
//! | [`log`] | a whole export: the walk over all entries, once |
//! | [`bundle`] | 256 entries, as far as they can be judged by themselves: on all cores |
//! | [`tree`] | hashes: entries, tiles, checkpoints |
//! | [`story`] | entries: their order, their traces, what one trace owes another |
//! | [`closed`] | the traces that have ended |
//! | [`registry`], [`token`], [`change`], [`payload`] | who is who at each point; what they signed; what entries commit to |
//! | [`row`] | single rows of a chunk |
//! | [`single`] | one receipt, one chunk, two checkpoints |
//! | [`fork`] | two checkpoints that cannot both be true, shown to anybody |
//! | [`observe`] | what a walk tells whoever listens to it |
//! | [`finding`], [`report`] | what is wrong, and how it is told |
//! | [`explain`] | one story in plain words |
//! | [`export`], [`archive`] | where the files are: a folder, or one file |

pub mod archive;
pub mod bundle;
pub mod change;
pub mod cli;
pub mod closed;
pub mod explain;
pub mod export;
pub mod finding;
pub mod fork;
pub mod keys;
pub mod log;
pub mod observe;
mod partial;
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
