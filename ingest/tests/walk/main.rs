//! The walk from end to end, on a real Kafka and a real PostgreSQL: what is allowed arrives masked and proven, what is not leaves a
//! reason and nothing else, and nothing is lost when parts die.

#[path = "../support/mod.rs"]
mod support;
mod world;

mod approvals;
mod crash;
mod delivery;
mod hostile;
mod leaks;
