//! The fuzz targets of the service on their corpora and on mutations of them (`fuzz/rules`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(unreachable_pub, reason = "the targets are a crate of their own, too")]

#[path = "../../fuzz/rules/src/replay.rs"]
mod replay;
#[path = "../../fuzz/rules/src/service.rs"]
mod service;

use replay::replay;

#[test]
fn requests() {
    replay("request", 500, service::request);
}

#[test]
fn copy_streams() {
    replay("copy", 500, service::copy);
}
