//! The tool as people get it: the binary, its words and exit codes, and what it is made of.

use crate::world::{World, put};
use countersign_ledger::evidence::step::{
    Continues, LogCreated, PayloadHeld, PayloadPurged, PayloadRead, PayloadReleased, ReadFor,
};
use countersign_ledger::evidence::{Class, Reason, Step};
use countersign_ledger::evidence::{Commitment, Day, Entry, Int, TraceId, rotation};
use countersign_ledger::tlog::{SignerKey, TreeSize};
use std::collections::BTreeSet;
use std::process::{Command, Output};

fn tool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign-verify")).args(args).output().unwrap()
}

fn check(args: &[&str], exit: i32, out: &[&str], err: &[&str]) {
    let output = tool(args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "{args:?}: {stdout}{stderr}");
    for (words, text) in [(out, &stdout), (err, &stderr)] {
        for word in words {
            assert!(text.contains(word), "{args:?}: no `{word}` in\n{text}");
        }
    }
}

#[test]
fn words_and_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let written = World::full().write(&dir.path().join("export"));
    let export = dir.path().join("export");
    let (export, vkey) = (export.to_str().unwrap(), dir.path().join("ledger.vkey"));
    put(&vkey, format!("{}\n", World::key()).as_bytes());
    let vkey = vkey.to_str().unwrap();
    let proven = [
        "PROVEN: the 294 entries of ledger.example/test",
        "size        294",
        "2025-11-23T21:00:01.000000Z to 2025-11-23T21:04:54.000293Z",
        "4 delivered, 52 denied, 1 rejected, 2 failed, 1 waiting, 1 open; 1 attempts aborted",
        "443 proven, 139 attested (the service's word), 0 broken",
    ];
    check(&["log", export, "--key", vkey], 0, &proven, &[]);
    check(&["log", export, "--key", vkey, "--tree-only"], 0, &["PROVEN", "not looked into"], &[]);
    let bundle = dir.path().join("export/tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(9).position(|w| w == b"forbidden").unwrap();
    let broken = written.index["denied/end"];
    bytes[at] ^= 1;
    put(&bundle, &bytes);
    let told = [
        format!("BROKEN: entry {broken} (request.denied, trace "),
        format!("[entry-altered] entry {broken} (request.denied"),
        "expected: ".to_owned(),
        "conclude: the tiles lead to the signed root and this entry does not".to_owned(),
    ];
    check(&["log", export, "--key", vkey], 1, &told.each_ref().map(String::as_str), &[]);
    check(&["log", vkey, "--key", vkey], 2, &[], &["is not evidence: byte 0"]);
    check(&["log", export, "--key", "none"], 2, &[], &["`none` is no file"]);
    check(&["log", export], 2, &[], &["--key"]);
    check(
        &["log", export, "--key", vkey, "--tree-only", "--require", "caller-signatures"],
        2,
        &[],
        &["cannot be used"],
    );
    check(&["--help"], 0, &["log", "receipt", "chunk", "consistency"], &[]);
    std::fs::remove_file(bundle).unwrap();
    check(&["log", export, "--key", vkey], 3, &["NOT PROVABLE with what was given", "missing-file"], &[]);
}

#[test]
fn a_secret_key_is_not_shown() {
    let secret = crate::world::signer("x").secret_text();
    let secret = std::str::from_utf8(secret.as_bytes()).unwrap();
    let output = tool(&["receipt", "none", "--key", secret]);
    let text = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8(text).unwrap().contains(secret));
}

#[test]
fn no_c_code_and_no_service() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-p", "countersign-verify", "-e", "normal,build", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"countersign-ledger"), "{tree}");
    for name in names {
        let stranger = name.ends_with("-sys")
            || ["cc", "cmake", "bindgen", "rocksdb", "rdkafka", "polars", "tokio"].contains(&name);
        assert!(!stranger, "`{name}` is among the dependencies");
        assert!(!["countersign", "countersign-ingest", "countersign-masker"].contains(&name), "`{name}` is ours");
    }
}

/// Every name of a member in a JSON value.
fn members(value: &serde_json::Value, names: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                names.insert(name.clone());
                members(value, names);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| members(item, names)),
        _ => {}
    }
}

/// The entries that keep a ledger, one of each type.
fn keeping() -> Vec<Vec<u8>> {
    let key = |n: u8| SignerKey::generate_from_seed("ledger.example", &[n; 32]).unwrap();
    let (hold, one) = ("0011223344556677".to_owned(), Int::ONE);
    let reason = Commitment::to(Class::Admin, &[1; 32], b"a lawsuit");
    let trace = TraceId::policy();
    let continues = Continues { origin: "a".into(), key: "a".into(), size: one, root: trace.0 };
    let (class, day) = (Class::Query, Day::from_number(20_000));
    let (by, why, of, classes) = (Some("id-0".to_owned()), ReadFor::Audit, Some(trace), vec![class]);
    let steps: Vec<Step> = vec![
        LogCreated { origin: "b".into(), key: "b".into(), quorum: one, continues: Some(continues) }.into(),
        rotation::rotate(&key(1), &key(2), TreeSize::new(1)).into(),
        PayloadPurged { class, day, payloads: one, bytes: one, kept: one, after_days: one }.into(),
        PayloadHeld { hold: hold.clone(), traces: vec![trace], reason }.into(),
        PayloadReleased { hold, reason }.into(),
        PayloadRead { read: "00".repeat(16), by, why, of, classes, payloads: one }.into(),
    ];
    let entry = |body| Entry { trace, step: Int::ZERO, prev: None, at: one, src: "0/1".into(), seq: one, body };
    steps.into_iter().map(|step| entry(step).encode().unwrap()).collect()
}

#[test]
fn the_documents_say_what_there_is() {
    let formats = include_str!("../../../docs/formats.md");
    let dir = tempfile::tempdir().unwrap();
    let written = World::full().write(dir.path());
    let mut told = BTreeSet::new();
    for entry in written.entries.iter().chain(&keeping()) {
        let entry: serde_json::Value = serde_json::from_slice(entry).unwrap();
        let kind = entry["type"].as_str().unwrap();
        told.insert(kind.to_owned());
        // From the type's name to the next heading.
        let from = formats.find(&format!("**`{kind}`**")).unwrap_or_else(|| panic!("no section on `{kind}`"));
        let section = formats.split_at(from).1.split("\n**`").find(|part| part.contains("| member |")).unwrap();
        let section = if section.contains("`signed`") {
            &format!("{section}`change` `by` `admin` `kid` `signature`")
        } else {
            section
        };
        let mut names = BTreeSet::new();
        members(&entry["body"], &mut names);
        for name in names {
            assert!(section.contains(&format!("`{name}`")), "`{kind}`: nothing on `{name}` in\n{section}");
        }
    }
    // The ledger of these tests and what keeps it have every type, so all were looked for.
    assert_eq!(told.into_iter().collect::<Vec<_>>(), {
        let mut all: Vec<String> = Step::TYPES.iter().map(|kind| (*kind).to_owned()).collect();
        all.sort();
        all
    });
    for class in Class::ALL {
        assert!(formats.contains(&format!("\n| `{class}` |")), "no class `{class}`");
    }
    for claim in countersign_verify::story::Claim::ALL {
        assert!(formats.contains(&format!("`{}`", claim.as_str())), "no claim `{}`", claim.as_str());
    }
    let reasons = include_str!("../../../docs/reason-codes.md");
    let lines: Vec<&str> = reasons.lines().filter(|line| line.starts_with("| `")).collect();
    for reason in Reason::ALL {
        let count = lines.iter().filter(|line| line.starts_with(&format!("| `{reason}` |"))).count();
        assert_eq!(count, 1, "lines on `{reason}`");
    }
    assert_eq!(lines.len(), Reason::ALL.len());
}

#[test]
fn every_code_has_a_test() {
    let tests = [
        include_str!("../liar/lies.rs"),
        include_str!("bytes.rs"),
        include_str!("files.rs"),
        include_str!("forks.rs"),
        include_str!("parts.rs"),
        include_str!("report.rs"),
        include_str!("single.rs"),
        include_str!("stories.rs"),
    ]
    .concat();
    for code in countersign_verify::finding::Code::ALL {
        // As an answer's code, or as the text of an answer shows it.
        let expected = [format!("\"{code}\""), format!("[{code}]")];
        assert!(expected.iter().any(|code| tests.contains(code)), "no test expects the finding `{code}`");
    }
}
