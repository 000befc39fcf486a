//! One story in plain words.

use crate::world::*;

/// Runs `explain`; gives exit code and what was said.
fn explain(dir: &std::path::Path, what: &str, more: &[&str]) -> (u8, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let key = World::key();
    let mut args = vec!["countersign-verify", "explain", dir.to_str().unwrap(), what, "--key", key.as_str()];
    args.extend(more);
    let exit = countersign_verify::run(args, &mut out, &mut err);
    (exit, String::from_utf8([out, err].concat()).unwrap())
}

fn check(dir: &std::path::Path, what: &str, exit: u8, words: &[&str]) {
    let (found, said) = explain(dir, what, &[]);
    assert_eq!(found, exit, "{what}: {said}");
    for word in words {
        assert!(said.contains(word), "{what}: no `{word}` in\n{said}");
    }
}

#[test]
fn tells_a_story() {
    let dir = tempfile::tempdir().unwrap();
    let written = World::full().write(dir.path());
    let ask = |name, caller| Ask { name, caller, groups: &[] }.trace().to_string();
    let masked = written.index["plain/masked-1"];
    let plain = [
        "ledger  ledger.example/test at 294 entries: proven".to_owned(),
        format!("entry {masked}  attested"),
        format!("entry {}  proven", written.index["plain/verified"]),
        format!("`reports` ({}) signed it, with the key registered at entry {}.", id("reports"), written.index["reports"]),
        "It asks for `id` and `email` of `shop.customers`, for `support`.".to_owned(),
        "Policy permitted `id` clear, `email` as `email` masked of `shop.customers`, for `support`. Decided by `policy0`.".to_owned(),
        "3 rows came back and were masked: `id` clear, `email` by `email` (3 of 3 cells changed) masked.".to_owned(),
        "8 entries: 4 proven, 4 attested".to_owned(),
    ];
    let plain = plain.each_ref().map(String::as_str);
    check(dir.path(), &ask("plain", "reports"), 0, &plain);
    check(dir.path(), &masked.to_string(), 0, &plain);
    let approved = [
        "Policy permits `id` clear, `email` as `email` masked of `shop.customers`, for `support` once `privacy` and `stewards` approve.",
        "(its own trace) `boris`",
        "said yes for `privacy`, to exactly this request and these obligations",
        &format!("The request relies on the approval at entry {}.", written.index["grant-anna"]),
    ];
    check(dir.path(), &ask("approved", "agent"), 0, &approved);
    check(
        dir.path(),
        &written.index["revoke-old"].to_string(),
        0,
        &["was registered as service", "was revoked (left)", "Signed by `root`"],
    );
    check(
        dir.path(),
        &written.index["export"].to_string(),
        0,
        &["was packed into one file for `root`", "`identity` and `request` in the clear"],
    );
    check(dir.path(), "294", 2, &["there is no entry 294 among 294"]);
    check(dir.path(), &"0".repeat(64), 2, &["there is no trace"]);
    check(dir.path(), "plain", 2, &["use an entry's index"]);
    let json: serde_json::Value =
        serde_json::from_str(&explain(dir.path(), &ask("plain", "reports"), &["--json"]).1).unwrap();
    assert_eq!(
        (&json["schema"], &json["lines"][0]["type"]),
        (&"countersign-explain/1".into(), &"request.received".into())
    );
}

#[test]
fn tells_what_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::full();
    tweak!(world, "plain/masked-1", ChunkMasked, |s| s.columns[1].transform = "clear".into());
    let written = world.write(dir.path());
    let (exit, said) = explain(dir.path(), &written.index["plain/masked-1"].to_string(), &[]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("1 broken") && said.contains("[mask-account]"), "{said}");
    // Another story of the same ledger: it is told, and the ledger is broken all the same.
    let (exit, said) = explain(dir.path(), &written.index["aborted/end"].to_string(), &[]);
    assert!(exit == 1 && said.contains("BROKEN") && !said.contains(" broken\n"), "{said}");
    // Without a signed root nothing is proven.
    let bundle = dir.path().join("tile/entries/001.p/38");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let (exit, said) = explain(dir.path(), &written.index["denied/end"].to_string(), &[]);
    assert!(exit == 1 && said.contains("4 entries: 4 attested"), "{said}");
}
