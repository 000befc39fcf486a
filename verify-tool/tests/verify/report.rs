//! The report: what it says, that it is the same bytes each time, that nothing of evidence becomes markup, and what it does in a
//! real browser, tampered with or not.

use crate::browser::Browser;
use crate::fair::Fair;
use crate::world::*;
use std::path::{Path, PathBuf};

/// Runs the tool. Gives exit code and standard output.
fn tool(args: &[&str]) -> (u8, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit =
        countersign_verify::run(std::iter::once("countersign-verify").chain(args.iter().copied()), &mut out, &mut err);
    (exit, String::from_utf8([out, err].concat()).unwrap())
}

/// Makes the page of an export. Gives its path and text.
fn page(dir: &Path, export: &Path, exit: u8) -> (PathBuf, String) {
    let (file, key) = (dir.join("report.html"), World::key());
    let (found, said) = tool(&["report", export.to_str().unwrap(), "--key", &key, "-o", file.to_str().unwrap()]);
    assert_eq!(found, exit, "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    (file, text)
}

fn check(file: &Path, export: &Path) -> (u8, String) {
    tool(&["report", "--check", file.to_str().unwrap(), export.to_str().unwrap(), "--key", &World::key()])
}

fn json(export: &Path) -> serde_json::Value {
    let (_, text) = tool(&["report", export.to_str().unwrap(), "--key", &World::key(), "--json"]);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn says_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    World::full().write(dir.path());
    let report = json(dir.path());
    let count = |at: &str| report.pointer(at).unwrap_or_else(|| panic!("no `{at}`")).as_u64().unwrap();
    assert_eq!(report["schema"], "countersign-report/1");
    assert_eq!(report["verdict"], "proven");
    for (outcome, expect) in
        [("delivered", 4), ("denied", 52), ("failed", 2), ("rejected", 1), ("waiting", 1), ("open", 1)]
    {
        assert_eq!(count(&format!("/requests/{outcome}")), expect, "{outcome}");
    }
    // Four chunks of three rows; two columns each, one of them clear.
    assert_eq!(
        (count("/rows"), count("/cells/clear"), count("/cells/masked"), count("/cells/unchanged")),
        (12, 12, 12, 0)
    );
    // One attempt superseded, one not resolved.
    assert_eq!(count("/exposed"), 12);
    let columns = report["columns"]["rows"].as_array().unwrap();
    let column = |name: &str| columns.iter().find(|row| row["column"] == name).unwrap();
    assert_eq!((&column("id")["dataset"], &column("id")["rule"]), (&"shop.customers".into(), &"clear".into()));
    assert_eq!(column("email")["delivered"]["masked"], 12);
    assert_eq!(column("email")["exposed"], 6);
    // 51 requests were denied by policy and one by a person; their signed text names both columns.
    let refused = &report["refused"]["rows"][0];
    assert_eq!((&refused["column"], &refused["requests"]), (&"email".into(), &52.into()));
    assert_eq!(report["policies"]["rows"][0]["policy"], "policy0");
    let approvals = report["approvals"]["rows"].as_array().unwrap();
    let used = approvals.iter().filter(|row| !row["used"].is_null()).count();
    let revoked = approvals.iter().filter(|row| !row["revoked"].is_null()).count();
    let granted = approvals.iter().filter(|row| row["granted"] == true).count();
    assert_eq!((approvals.len(), granted, used, revoked), (4, 3, 2, 1));
    assert!(approvals.iter().all(|row| row["word"] == "proven"), "{approvals:?}");
    let exception = |what: &str| {
        let all = report["exceptions"].as_array().unwrap();
        all.iter().find(|pair| pair[0] == what).map(|pair| pair[1]["total"].as_u64().unwrap())
    };
    assert_eq!(exception("attempt superseded"), Some(1));
    assert_eq!(exception("delivery not resolved"), Some(1));
    assert_eq!(exception("identity revoked"), Some(1));
    assert_eq!(exception("unclassified column delivered"), Some(0));
    let asks = report["asks"]["rows"].as_array().unwrap();
    assert_eq!(asks[0]["identity"], id("reports"));
    assert_eq!(asks[0]["purpose"], "support");
    let ids: Vec<&str> = report["criteria"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["CC6.1", "CC6.2", "CC6.3", "CC6.7", "CC7.2", "CC8.1", "C1.1"]);
    assert_eq!(exception("values given back for tokens"), Some(1));
    assert_eq!(exception("values for tokens refused"), Some(1));
    assert_eq!(exception("table looked into for the catalog"), Some(1));
    assert_eq!(count("/stories/of"), 60);
    let stories = report["stories"]["stories"].as_array().unwrap();
    assert!(stories.iter().all(|story| story["lines"].as_array().unwrap().iter().all(|line| !line["proof"].is_null())));
}

#[test]
fn is_the_same_bytes_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("export");
    World::full().write(&export);
    let (file, text) = page(dir.path(), &export, 0);
    assert_eq!(text, page(dir.path(), &export, 0).1);
    let (exit, said) = check(&file, &export);
    assert!(exit == 0 && said.contains("byte for byte"), "{exit}: {said}");
    for (from, to) in [("4 rows", "5 rows"), ("delivered <b>4</b>", "delivered <b>5</b>"), ("</html>\n", "</html>\n ")]
    {
        let Some(at) = text.find(from) else { continue };
        let mut altered = text.clone();
        altered.replace_range(at..at + from.len(), to);
        std::fs::write(&file, altered).unwrap();
        let (exit, said) = check(&file, &export);
        assert!(exit == 1 && said.contains("[page-differs]"), "`{from}`: {exit}: {said}");
    }
    assert_eq!(tool(&["report", "--check", "none", export.to_str().unwrap(), "--key", &World::key()]).0, 2);
}

#[test]
fn broken_evidence_gives_a_page_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("export");
    let written = World::full().write(&export);
    let bundle = export.join("tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(9).position(|w| w == b"forbidden").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let (_, text) = page(dir.path(), &export, 1);
    assert!(text.contains("<div class=\"verdict broken\"><p class=\"seal\">Broken</p>"));
    assert!(text.contains(&format!("entry {}", written.index["denied/end"])) && text.contains("entry-altered"));
    assert!(!text.contains("class=\"word proven\">proven</span></td>"), "nothing is proven without a root");
    std::fs::write(export.join("checkpoint"), "nothing").unwrap();
    let (_, text) = page(dir.path(), &export, 1);
    assert!(text.contains("Broken") && !text.contains("id=\"stories\""));
}

/// A ledger whose holder put markup wherever an entry has text.
fn hostile() -> World {
    const NASTY: &str = "</script></pre><img src=x onerror=alert(1)>\" onload='x' `${1}` &lt;";
    let mut world = World::full();
    tweak!(world, "rejected-17", RequestRejected, |s| NASTY.clone_into(&mut s.door));
    for label in ["plain/decided", "approved/decided", "approved/settled"] {
        tweak!(world, label, PolicyDecided, |s| {
            s.policies = vec![NASTY.into()];
            s.purpose = Some(NASTY.into());
            s.columns[1].class = NASTY.into();
            s.columns[1].column = NASTY.into();
        });
    }
    for label in ["plain/masked-1", "approved/masked-1"] {
        tweak!(world, label, ChunkMasked, |s| {
            s.columns[1].class = NASTY.into();
            s.columns[1].column = NASTY.into();
            s.columns[1].transform = NASTY.into();
        });
    }
    world
}

#[test]
fn no_text_of_evidence_becomes_markup() {
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("export");
    hostile().write(&export);
    let (_, text) = page(dir.path(), &export, 1);
    assert!(text.contains("onerror=alert(1)"), "the text is there");
    assert!(!text.contains("<img"), "and is no markup");
    assert_eq!(text.matches("<script").count(), 2);
    assert_eq!(text.matches("</script>").count(), 2);
    assert!(!text.contains(" style=") && !text.contains("javascript:"));
}

#[test]
fn opens_nothing_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    World::full().write(&dir.path().join("export"));
    let (_, text) = page(dir.path(), &dir.path().join("export"), 0);
    for word in [" src=", "url(", "@import", "<link", "<iframe", "http://", "https://", "fetch(", "XMLHttp"] {
        assert!(!text.contains(word), "`{word}`");
    }
    assert!(text.contains("default-src &#39;none&#39;"));
}

const STATUS: &str = "document.getElementById('check-status')";

/// Pastes a key and presses the button; gives the state and what it says.
fn pasted(browser: &mut Browser, key: &str) -> (String, String) {
    let key = serde_json::to_string(key).unwrap();
    browser.eval(&format!(
        "(() => {{ const key = document.getElementById('check-key'); key.value = {key}; \
         key.dispatchEvent(new Event('input')); document.querySelector('#check-form button').click(); }})()"
    ));
    browser.wait(&format!("{STATUS}.dataset.state !== 'busy' || false"));
    let read =
        |browser: &mut Browser, what: &str| browser.eval(&format!("{STATUS}.{what}")).as_str().unwrap().to_owned();
    (read(browser, "dataset.state"), read(browser, "textContent"))
}

#[test]
fn in_a_browser() {
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("export");
    World::full().write(&export);
    let (file, text) = page(dir.path(), &export, 0);
    let mut browser = match Browser::start() {
        Ok(browser) => browser,
        Err(why) => return println!("skipped: in_a_browser: {why}"),
    };
    browser.open(&file);
    let read = |browser: &mut Browser, expression: &str| browser.eval(expression).as_str().unwrap().to_owned();
    assert_eq!(read(&mut browser, &format!("{STATUS}.textContent")), "Not checked.");
    assert_eq!(read(&mut browser, &format!("{STATUS}.dataset.state")), "unchecked");
    // Without a key it is not checked, whatever one presses.
    let (state, said) = pasted(&mut browser, " ");
    assert!(state == "unchecked" && said.starts_with("Not checked"), "{state}: {said}");
    let (state, said) = pasted(&mut browser, "no key");
    assert!(state == "bad" && said.contains("no key of the form"), "{state}: {said}");
    // Somebody else's key of the same name.
    let other = countersign_ledger::tlog::SignerKey::generate_from_seed(ORIGIN, &[7; 32]).unwrap();
    let (state, said) = pasted(&mut browser, &other.verifier().to_string());
    assert!(state == "bad" && said.contains("not signed by this key"), "{state}: {said}");
    let (state, said) = pasted(&mut browser, &World::key());
    assert!(state == "good" && said.contains("checkpoint of size 294"), "{state}: {said}");
    assert_eq!(
        browser.eval("document.querySelectorAll('[data-checked]').length"),
        browser.eval("document.querySelectorAll('details.story').length")
    );
    // A change of the key takes the answer back.
    browser.eval("document.getElementById('check-key').dispatchEvent(new Event('input'))");
    assert_eq!(read(&mut browser, &format!("{STATUS}.dataset.state")), "unchecked");

    // Tampered data: an entry, a proof's hash, the checkpoint, an entry left out, a story under another's name.
    let cases: [(&str, &str, &str); 4] = [
        ("&quot;rows&quot;:3", "&quot;rows&quot;:4", "not the entry that was signed"),
        ("data-index=\"16\"", "data-index=\"17\"", "entry 17"),
        ("\n294\n", "\n295\n", "not signed by this key"),
        ("data-trace=\"", "data-trace=\"0", "another story"),
    ];
    for (from, to, why) in cases {
        assert!(text.contains(from), "{from}");
        let altered = dir.path().join("altered.html");
        std::fs::write(&altered, text.replacen(from, to, 1)).unwrap();
        browser.open(&altered);
        let (state, said) = pasted(&mut browser, &World::key());
        assert!(state == "bad" && said.contains(why), "{from}: {state}: {said}");
        assert_eq!(check(&altered, &export).0, 1, "{from}");
    }

    // A tampered script: without the policy's hash it does not run; with it the page lies, and `--check` says so.
    let lie = text.replacen("\"use strict\";", "document.getElementById('check-status').dataset.state = 'good';", 1);
    let altered = dir.path().join("altered.html");
    std::fs::write(&altered, &lie).unwrap();
    browser.open(&altered);
    assert_eq!(read(&mut browser, &format!("{STATUS}.dataset.state")), "unchecked");
    let script = lie.rsplit_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
    let hash = countersign_ledger::evidence::digest::sha256(script.as_bytes()).to_base64();
    let before = lie.split_once("script-src &#39;sha256-").unwrap().1.split_once("&#39;").unwrap().0.to_owned();
    std::fs::write(&altered, lie.replacen(&before, &hash, 1)).unwrap();
    browser.open(&altered);
    assert_eq!(read(&mut browser, &format!("{STATUS}.dataset.state")), "good", "a page cannot prove itself");
    let (exit, said) = check(&altered, &export);
    assert!(exit == 1 && said.contains("[page-differs]"), "{said}");

    // What a ledger's holder wrote into entries does not run.
    let export = dir.path().join("hostile");
    hostile().write(&export);
    let (file, _) = page(dir.path(), &export, 1);
    browser.open(&file);
    assert_eq!(browser.eval("document.querySelectorAll('img, iframe, object').length"), 0);
    assert_eq!(browser.eval("document.scripts.length"), 2);
}

/// Pictures of a busy quarter's report, to be looked at: `cargo test -p countersign-verify --test verify pictures -- --ignored`,
/// into the folder that `PICTURES` names.
#[test]
#[ignore = "makes pictures for people"]
fn pictures() {
    let to = PathBuf::from(std::env::var("PICTURES").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("export");
    Fair::new(3_000, true).write(&export);
    let (file, _) = page(dir.path(), &export, 0);
    std::fs::copy(&file, to.join("report.html")).unwrap();
    let mut browser = Browser::start().unwrap();
    browser.open(&file);
    let (state, said) = pasted(&mut browser, &World::key());
    assert_eq!(state, "good", "{said}");
    browser.eval("document.querySelectorAll('details.story').forEach((story, at) => story.open = at < 2)");
    for scheme in ["light", "dark"] {
        browser.picture(&to.join(format!("{scheme}.png")), scheme, 1280, None);
    }
    browser.picture(&to.join("narrow.png"), "light", 390, None);
    browser.picture(&to.join("first.png"), "light", 1280, Some(1100));
    browser.print(&to.join("print.pdf"));
}

/// A long ledger's report: `cargo test --release -p countersign-verify --test verify long_ledger -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn long_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("export");
    Fair::new(100_000, false).write(&export);
    let begun = std::time::Instant::now();
    let (_, log) = tool(&["log", export.to_str().unwrap(), "--key", &World::key()]);
    let log_took = begun.elapsed();
    let begun = std::time::Instant::now();
    let (_, text) = page(dir.path(), &export, 0);
    println!(
        "{}report {:?}, {} bytes; the log alone {log_took:?}",
        log.lines().take(4).collect::<Vec<_>>().join("\n"),
        begun.elapsed(),
        text.len()
    );
}
