//! The verifier against whole ledgers. [`world`] makes them without the rule code, as somebody who holds the ledger's key
//! could; the other files break them, each fault with the exit code and finding that it must give.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod browser;
mod bytes;
mod explain;
mod fair;
mod files;
mod forks;
mod golden;
mod house;
mod observing;
mod parts;
mod proofs;
mod report;
mod single;
mod stories;
mod tessera;
mod world;

use std::path::Path;
use world::World;

/// What the tool answered: exit code and report.
pub(crate) struct Answer {
    pub(crate) exit: u8,
    pub(crate) report: serde_json::Value,
    pub(crate) err: String,
}

impl Answer {
    /// The codes of the findings of the answer's own verdict, in order.
    pub(crate) fn codes(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        findings.iter().filter(|f| f["verdict"] == self.report["verdict"]).filter_map(|f| f["code"].as_str()).collect()
    }
}

/// Runs the tool with `--json`.
pub(crate) fn run(args: &[&str]) -> Answer {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("countersign-verify").chain(args.iter().copied()).chain(["--json"]);
    let exit = countersign_verify::run(args, &mut out, &mut err);
    let report = serde_json::from_slice(&out).unwrap_or_default();
    Answer { exit, report, err: String::from_utf8(err).unwrap() }
}

/// Checks an export.
pub(crate) fn log(dir: &Path, more: &[&str]) -> Answer {
    let key = World::key();
    let mut args = vec!["log", dir.to_str().unwrap(), "--key", key.as_str()];
    args.extend(more);
    run(&args)
}

/// A run must end so, with this code among the findings of its verdict.
pub(crate) fn expect(what: &str, answer: &Answer, exit: u8, code: &str) {
    let text = serde_json::to_string_pretty(&answer.report).unwrap();
    assert_eq!(answer.exit, exit, "{what}: {text}\n{}", answer.err);
    assert!(answer.codes().contains(&code), "{what}: no finding `{code}` in {:?}\n{text}", answer.codes());
}
