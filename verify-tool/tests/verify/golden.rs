//! Exports of earlier days and what was said of them: an old ledger is judged for ever as it was judged then. Each folder in
//! `tests/data` has beside it the log's key and the answer; members may have been added to the answer since, and nothing else.

use crate::run;
use crate::world::{Ask, World};
use countersign_ledger::evidence::Reason;
use countersign_ledger::evidence::step::Kind;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn judge(export: &Path) -> Value {
    let key = export.with_extension("vkey");
    run(&["log", export.to_str().unwrap(), "--key", key.to_str().unwrap()]).report
}

/// Everything that `then` says stands in `now`.
fn still_said(then: &Value, now: &Value, place: &str) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (name, then) in then {
                let now = now.get(name).unwrap_or_else(|| panic!("{place}.{name} is no longer said"));
                still_said(then, now, &format!("{place}.{name}"));
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            assert_eq!(then.len(), now.len(), "{place}");
            for (at, (then, now)) in then.iter().zip(now).enumerate() {
                still_said(then, now, &format!("{place}[{at}]"));
            }
        }
        _ => assert_eq!(then, now, "{place}"),
    }
}

#[test]
fn old_ledgers_are_judged_as_they_were() {
    let mut judged = 0;
    for entry in fs::read_dir(data()).unwrap() {
        let export = entry.unwrap().path();
        if export.is_dir() {
            let then: Value = serde_json::from_slice(&fs::read(export.with_extension("json")).unwrap()).unwrap();
            still_said(&then, &judge(&export), export.file_name().unwrap().to_str().unwrap());
            judged += 1;
        }
    }
    assert!(judged >= 2, "{judged} exports");
}

/// A small ledger with a story of each kind.
fn small() -> World {
    let mut world = World::empty();
    world.admin("root");
    world.register("root", "reports", Kind::Service, &[], None);
    world.register("root", "anna", Kind::Human, &["stewards"], None);
    world.connection("root", "shop");
    world.catalog("root", 1);
    world.policy("root", 1);
    let plain = |name| Ask { name, caller: "reports", groups: &[] };
    let asked = Ask { name: "asked", caller: "reports", groups: &["stewards"] };
    world.permitted(plain("plain"));
    world.delivered(plain("plain"), 1);
    world.denied(plain("denied"));
    world.rejected(17);
    world.asked(asked);
    world.grant("grant-anna", asked, "anna", &["stewards"]);
    world.settled(asked, &["grant-anna"]);
    world.delivered(asked, 1);
    world.permitted(plain("failed"));
    world.query(plain("failed"), 1);
    world.fail(plain("failed"), Reason::SourceTimeout);
    world
}

/// Writes exports of version 1 with their answers. Never again for the same names: `cargo test -p countersign-verify -- --ignored`.
#[test]
#[ignore = "writes into the clone"]
fn write_the_exports_of_version_1() {
    let mut broken = small();
    broken.remove("plain/masked-1");
    for (name, world) in [("v1-proven", small()), ("v1-broken", broken)] {
        let export = data().join(name);
        assert!(!export.exists(), "{} is kept as it is", export.display());
        world.write(&export);
        fs::write(export.with_extension("vkey"), format!("{}\n", World::key())).unwrap();
        let answer = serde_json::to_string_pretty(&judge(&export)).unwrap();
        fs::write(export.with_extension("json"), answer + "\n").unwrap();
    }
}
