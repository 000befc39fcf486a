//! The walk from end to end, on a real Kafka and a real PostgreSQL: what is allowed arrives masked and proven, what is not leaves a
//! reason and nothing else, and nothing is lost when parts die.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect should stop there; clippy knows only functions marked as tests"
)]
#![allow(unreachable_pub, reason = "the modules of one test binary see each other")]

#[path = "../support/mod.rs"]
mod support;
mod world;

mod admins;
mod approvals;
mod crash;
mod delivery;
mod evidence;
mod hostile;
mod keeping;
mod leaks;
mod readme;
mod rows;
mod rules;
