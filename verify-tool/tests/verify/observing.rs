//! Who listens to the walk hears every entry, and hears what the report then says.

use crate::world::World;
use countersign_ledger::evidence::{Phase, Step};
use countersign_verify::export::Export;
use countersign_verify::log::{self, Options};
use countersign_verify::observe::Judged;
use countersign_verify::report::Report;
use std::path::Path;

fn walk(dir: &Path, mut heard: impl FnMut(&Judged<'_>)) -> Report {
    let options = Options::new(World::key().parse().unwrap());
    log::check(&Export::new(dir), &options, &mut heard, |_, _| {})
}

#[test]
fn every_entry_is_heard_with_what_it_came_to() {
    let dir = tempfile::tempdir().unwrap();
    let written = World::full().write(dir.path());
    let (mut next, mut proven, mut attested, mut callers) = (0, 0, 0, 0);
    let report = walk(dir.path(), |judged| {
        let at = next as usize;
        assert_eq!((judged.index, judged.leaf, judged.bytes), (next, written.leaves[at], &written.entries[at][..]));
        next += 1;
        let entry = judged.entry.unwrap();
        assert!(judged.findings.is_empty());
        proven += judged.claims.iter().filter(|(_, proven)| *proven).count() as u64;
        attested += judged.claims.iter().filter(|(_, proven)| !*proven).count() as u64;
        if let Step::DeliveryIntended(_) = &entry.body {
            assert_eq!((judged.before, judged.state.unwrap().phase), (Phase::Masked, Phase::Intended));
            assert_eq!(judged.request.unwrap().dataset, "shop.customers");
            callers += 1;
        }
        if let Step::RequestReceived(s) = &entry.body {
            assert!(judged.payloads.iter().any(|held| held.commitment == s.request));
        }
    });
    assert_eq!((report.exit, next, callers), (0, written.entries.len() as u64, 6));
    let claims = report.story.unwrap().claims;
    assert_eq!((proven, attested), (claims.proven, claims.attested));
    assert!(report.log.unwrap().anchored);
}

#[test]
fn a_fault_is_heard_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::full();
    world.remove("plain/masked-1");
    let written = world.write(dir.path());
    let mut heard = Vec::new();
    let report = walk(dir.path(), |judged| heard.extend(judged.findings.iter().cloned()));
    assert_eq!(report.exit, 1);
    assert_eq!(heard, report.findings);
    assert_eq!(heard[0].place.entry, Some(written.index["plain/intended-1"]));
}
