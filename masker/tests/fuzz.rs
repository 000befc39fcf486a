//! The fuzz targets of the masker on their corpora and on mutations of them (`fuzz/rules`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(unreachable_pub, reason = "the targets are a crate of their own, too")]

#[path = "../../fuzz/rules/src/replay.rs"]
mod replay;
#[path = "../../fuzz/rules/src/rules.rs"]
mod rules;

use replay::replay;

#[test]
fn catalogs() {
    replay("catalog", 400, rules::catalog);
}

#[test]
fn policies() {
    replay("policy", 60, rules::policy);
}

#[test]
fn filters() {
    replay("filter", 500, rules::filter);
}

#[test]
fn masks() {
    replay("mask", 500, rules::mask);
}

#[test]
fn paths() {
    replay("path", 500, rules::path);
}

#[test]
fn json_cells() {
    replay("json", 100, rules::json);
}
