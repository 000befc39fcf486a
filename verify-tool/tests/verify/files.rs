//! Faults in the files of an export, by somebody who does not hold the ledger's key, and checkpoints by somebody who does.

use crate::world::{World, Written, checkpoint, put, root, signer, write_tree};
use crate::{Answer, expect, log, run};
use countersign_ledger::tlog::{Checkpoint, Hash, SignedCheckpoint, TreeSize, encode_bundle, leaf_hash};
use std::fs;
use std::path::Path;

fn with(what: &str, fault: impl FnOnce(&Path, &Written), exit: u8, code: &str) -> Answer {
    let dir = tempfile::tempdir().unwrap();
    let written = World::full().write(dir.path());
    fault(dir.path(), &written);
    let answer = log(dir.path(), &[]);
    expect(what, &answer, exit, code);
    answer
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, by: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - by]).unwrap();
}

/// Where entry `index` begins in its bundle, after its length.
fn offset(written: &Written, index: usize) -> usize {
    written.entries[index / 256 * 256..index].iter().map(|e| 2 + e.len()).sum::<usize>() + 2
}

#[test]
fn a_flipped_byte_is_traced_to_its_entry() {
    for index in [0, 1, 29, 100, 255, 256, 270] {
        let answer = with(
            "flip in an entry",
            |dir, written| {
                let width = written.entries.len() - 256;
                let bundle = if index < 256 { "000".to_owned() } else { format!("001.p/{width}") };
                flip(&dir.join("tile/entries").join(bundle), offset(written, index) + 20);
            },
            1,
            "entry-altered",
        );
        let first = &answer.report["findings"][0];
        assert_eq!((&first["code"], &first["entry"]), (&"entry-altered".into(), &index.into()));
        // What was signed elsewhere is not called a fork.
        assert!(!answer.codes().contains(&"fork"), "{:?}", answer.codes());
        assert_eq!(answer.report["story"]["claims"]["proven"], 0);
    }
}

#[test]
fn a_flipped_length_is_traced_to_its_entry() {
    let answer = with(
        "flip in a length",
        |dir, written| flip(&dir.join("tile/entries/000"), offset(written, 200) - 1),
        1,
        "entry-altered",
    );
    assert_eq!(
        answer.report["findings"].as_array().unwrap().iter().find(|f| f["code"] == "entry-altered").unwrap()["entry"],
        200
    );
}

#[test]
fn bundles_and_tiles() {
    with("missing tile", |dir, _| fs::remove_file(dir.join("tile/0/000")).unwrap(), 3, "missing-file");
    with("missing upper tile", |dir, _| fs::remove_dir_all(dir.join("tile/1")).unwrap(), 3, "missing-file");
    with("missing bundle", |dir, _| fs::remove_file(dir.join("tile/entries/000")).unwrap(), 3, "missing-file");
    with(
        "missing tile and bundle",
        |dir, _| {
            for f in ["tile/entries/000", "tile/0/000"] {
                fs::remove_file(dir.join(f)).unwrap()
            }
        },
        3,
        "missing-file",
    );
    with("everything but the checkpoint", |dir, _| fs::remove_dir_all(dir.join("tile")).unwrap(), 3, "missing-file");
    with("truncated bundle", |dir, _| cut(&dir.join("tile/entries/000"), 10), 1, "bundle-malformed");
    with(
        "a bundle without its last entry",
        |dir, written| cut(&dir.join("tile/entries/000"), written.entries[255].len() + 2),
        1,
        "bundle-malformed",
    );
    with(
        "a bundle with an entry more",
        |dir, written| {
            let entries: Vec<_> = written.entries[..256].to_vec();
            let mut bytes = encode_bundle(&entries).unwrap();
            bytes.extend(encode_bundle(&entries[..1]).unwrap());
            put(&dir.join("tile/entries/000"), &bytes);
        },
        1,
        "bundle-malformed",
    );
    with("an empty bundle", |dir, _| put(&dir.join("tile/entries/000"), b""), 1, "bundle-malformed");
    with("truncated tile", |dir, _| cut(&dir.join("tile/0/000"), 32), 1, "tile-altered");
    with(
        "padded tile",
        |dir, _| {
            let p = dir.join("tile/0/000");
            let mut b = fs::read(&p).unwrap();
            b.extend([0; 32]);
            put(&p, &b)
        },
        1,
        "tile-altered",
    );
    let answer = with("flip in a tile", |dir, _| flip(&dir.join("tile/0/000"), 32 * 29), 1, "tile-altered");
    assert_eq!(answer.report["findings"][0]["entry"], 29);
    // The entries stand: what they prove is proven.
    assert_ne!(answer.report["story"]["claims"]["proven"], 0);
    with("flip in an upper tile", |dir, _| flip(&dir.join("tile/1/000.p/1"), 5), 1, "tile-altered");
    with("truncated upper tile", |dir, _| cut(&dir.join("tile/1/000.p/1"), 1), 1, "tile-altered");
    let answer = with(
        "an entry and another one's hash",
        |dir, written| {
            flip(&dir.join("tile/entries/000"), offset(written, 40) + 20);
            flip(&dir.join("tile/0/000"), 32 * 41);
        },
        1,
        "leaf-mismatch",
    );
    assert!(answer.codes().contains(&"root-mismatch"), "{:?}", answer.codes());
    with(
        "two entries change places",
        |dir, written| {
            let mut entries = written.entries[..256].to_vec();
            entries.swap(40, 41);
            put(&dir.join("tile/entries/000"), &encode_bundle(&entries).unwrap());
        },
        1,
        "entry-altered",
    );
    with(
        "an entry stands twice",
        |dir, written| {
            let mut entries = written.entries[..256].to_vec();
            entries[41] = entries[40].clone();
            put(&dir.join("tile/entries/000"), &encode_bundle(&entries).unwrap());
        },
        1,
        "entry-altered",
    );
    with(
        "entries, tiles and checkpoint of a shorter log, without the key",
        |dir, written| {
            let note = fs::read(dir.join("checkpoint")).unwrap();
            fs::remove_dir_all(dir.join("tile")).unwrap();
            write_tree(dir, &written.entries[..100], 50);
            put(&dir.join("checkpoint"), &note);
        },
        3,
        "missing-file",
    );
    with(
        "rewritten entries and tiles, without the key",
        |dir, written| {
            let note = fs::read(dir.join("checkpoint")).unwrap();
            let mut entries = written.entries.clone();
            entries[40] = entries[41].clone();
            write_tree(dir, &entries, 50);
            put(&dir.join("checkpoint"), &note);
        },
        1,
        "root-mismatch",
    );
}

#[test]
fn strangers() {
    with("a note", |dir, _| put(&dir.join("NOTE.txt"), b"hello"), 3, "unexpected-file");
    with("a tile beyond the tree", |dir, _| put(&dir.join("tile/0/002"), &[0; 8192]), 3, "unexpected-file");
    with("a checkpoint by no size", |dir, _| put(&dir.join("checkpoints/latest"), b""), 3, "unexpected-file");
    with(
        "a payload of nothing",
        |dir, _| put(&dir.join("payload").join("0".repeat(64)), b"request\n"),
        1,
        "payload-form",
    );
    with(
        "a good payload that nobody refers to",
        |dir, _| {
            let payload = crate::world::Payload::new(countersign_ledger::evidence::Class::Detail, "stray");
            let text = format!("detail\n{}\nstray", Hash::from_bytes(payload.salt));
            put(&dir.join(format!("payload/{}", payload.commitment())), text.as_bytes());
        },
        3,
        "unexpected-file",
    );
    with(
        "an altered earlier tile",
        |dir, _| {
            let b = fs::read(dir.join("tile/0/000")).unwrap();
            let mut b = b[..320].to_vec();
            b[3] ^= 1;
            put(&dir.join("tile/0/000.p/10"), &b)
        },
        1,
        "tile-altered",
    );
    with(
        "an altered earlier bundle",
        |dir, written| {
            let mut b = encode_bundle(&written.entries[..9]).unwrap();
            b[30] ^= 1;
            put(&dir.join("tile/entries/000.p/9"), &b)
        },
        1,
        "bundle-malformed",
    );
    #[cfg(unix)]
    with(
        "a link in circles",
        |dir, _| std::os::unix::fs::symlink(dir, dir.join("tile/loop")).unwrap(),
        3,
        "unexpected-file",
    );
    #[cfg(unix)]
    with(
        "an endless file",
        |dir, _| {
            fs::remove_file(dir.join("tile/0/000")).unwrap();
            std::os::unix::fs::symlink("/dev/zero", dir.join("tile/0/000")).unwrap();
        },
        2,
        "unreadable",
    );
}

#[test]
fn earlier_tiles_may_stay() {
    let dir = tempfile::tempdir().unwrap();
    let written = World::full().write(dir.path());
    let tile = fs::read(dir.path().join("tile/0/000")).unwrap();
    put(&dir.path().join("tile/0/000.p/10"), &tile[..320]);
    put(&dir.path().join("tile/entries/000.p/10"), &encode_bundle(&written.entries[..10]).unwrap());
    assert_eq!(log(dir.path(), &[]).exit, 0);
}

#[test]
fn payloads() {
    let first = |dir: &Path, class: &str| {
        let files = fs::read_dir(dir.join("payload")).unwrap().map(|f| f.unwrap().path());
        files.filter(|f| fs::read(f).unwrap().starts_with(class.as_bytes())).min().unwrap()
    };
    for class in ["request", "approval", "identity", "admin", "config", "query", "delivery", "detail"] {
        with(
            class,
            |dir, _| {
                let f = first(dir, class);
                let n = fs::read(&f).unwrap().len();
                flip(&f, n - 1)
            },
            1,
            "payload-mismatch",
        );
        with(
            class,
            |dir, _| {
                let path = first(dir, class);
                let mut bytes = fs::read(&path).unwrap();
                let salt = class.len() + 1;
                bytes[salt] = if bytes[salt] == b'0' { b'1' } else { b'0' };
                put(&path, &bytes);
            },
            1,
            "payload-mismatch",
        );
    }
    with(
        "another class",
        |dir, _| {
            let f = first(dir, "request");
            flip(&f, 0)
        },
        1,
        "payload-form",
    );
    with("no salt", |dir, _| put(&first(dir, "request"), b"request\n\n"), 1, "payload-form");
    with(
        "cut",
        |dir, _| {
            let f = first(dir, "request");
            cut(&f, 1)
        },
        1,
        "payload-mismatch",
    );
}

#[test]
fn checkpoints() {
    let sign = |origin: &str, key: &str, size: u64, root: Hash| {
        SignedCheckpoint::sign(Checkpoint::new(origin, TreeSize::new(size), root), &[&signer(key)]).unwrap().into_note()
    };
    with("no checkpoint", |dir, _| fs::remove_file(dir.join("checkpoint")).unwrap(), 2, "unreadable");
    with("an empty one", |dir, _| put(&dir.join("checkpoint"), b""), 1, "checkpoint");
    with("flip in the origin", |dir, _| flip(&dir.join("checkpoint"), 0), 1, "checkpoint");
    with("flip in the root", |dir, _| flip(&dir.join("checkpoint"), 30), 1, "checkpoint");
    with(
        "flip in the signature",
        |dir, _| {
            let n = fs::read(dir.join("checkpoint")).unwrap().len();
            flip(&dir.join("checkpoint"), n - 10)
        },
        1,
        "checkpoint",
    );
    with(
        "another log's",
        |dir, w| put(&dir.join("checkpoint"), &sign("other.example", "other.example", 9, w.leaves[0])),
        1,
        "checkpoint",
    );
    with(
        "an extension line",
        |dir, written| {
            let text = format!(
                "{}\n{}\n{}\nmore\n",
                crate::world::ORIGIN,
                written.leaves.len(),
                root(&written.leaves).to_base64()
            );
            put(
                &dir.join("checkpoint"),
                &countersign_ledger::tlog::sign(&text, &[&signer(crate::world::ORIGIN)]).unwrap(),
            );
        },
        1,
        "checkpoint",
    );
    with(
        "a larger log than there is",
        |dir, w| put(&dir.join("checkpoint"), &checkpoint(1 << 50, w.leaves[0])),
        3,
        "missing-file",
    );
    with("flip in a published one", |dir, _| flip(&dir.join("checkpoints/100"), 40), 1, "published-checkpoint");
    with(
        "a published one of another size",
        |dir, _| {
            fs::copy(dir.join("checkpoints/50"), dir.join("checkpoints/51")).unwrap();
        },
        1,
        "published-checkpoint",
    );
    with(
        "a published one that was signed and is not true",
        |dir, w| put(&dir.join("checkpoints/100"), &checkpoint(100, w.leaves[0])),
        1,
        "fork",
    );
    with(
        "the same at the export's own size",
        |dir, w| {
            put(&dir.join(format!("checkpoints/{}", w.leaves.len())), &checkpoint(w.leaves.len() as u64, w.leaves[0]))
        },
        1,
        "fork",
    );
    with(
        "a published one of a larger log",
        |dir, w| put(&dir.join("checkpoints/1000"), &checkpoint(1000, w.leaves[0])),
        1,
        "rolled-back",
    );
    with(
        "the empty tree with a root",
        |dir, w| put(&dir.join("checkpoints/0"), &checkpoint(0, w.leaves[0])),
        1,
        "published-checkpoint",
    );
}

#[test]
fn another_key() {
    let dir = tempfile::tempdir().unwrap();
    World::full().write(dir.path());
    let path = dir.path().to_str().unwrap();
    let other = signer("other.example").verifier().to_string();
    expect("another log's key", &run(&["log", path, "--key", &other]), 1, "checkpoint");
    let same_name = countersign_ledger::tlog::SignerKey::generate_from_seed(crate::world::ORIGIN, &[1; 32])
        .unwrap()
        .verifier()
        .to_string();
    expect("another key of that name", &run(&["log", path, "--key", &same_name]), 1, "checkpoint");
    assert_eq!(run(&["log", path, "--key", "nonsense"]).exit, 2);
    assert_eq!(run(&["log", path]).exit, 2);
    assert_eq!(run(&["log", "no/such/folder", "--key", &World::key()]).exit, 2);
    assert_eq!(run(&["log", path, "--key", &World::key(), "--require", "wishes"]).exit, 2);
    assert_eq!(run(&["log", path, "--key", &World::key(), "--since", "no/such/file"]).exit, 2);
}

#[test]
fn older_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let written = World::full().write(dir.path());
    let since = |size: u64, root: Hash| {
        let path = out.path().join("old");
        put(&path, &checkpoint(size, root));
        log(dir.path(), &["--since", path.to_str().unwrap()])
    };
    for size in [0, 1, 77, 256, 257, written.leaves.len()] {
        let answer = since(size as u64, root(&written.leaves[..size]));
        assert_eq!((answer.exit, &answer.report["log"]["since"]), (0, &1.into()), "{size}");
    }
    expect("another history", &since(77, written.leaves[3]), 1, "fork");
    expect("a larger log", &since(1000, written.leaves[3]), 1, "rolled-back");
    put(&out.path().join("old"), b"nonsense");
    expect("no checkpoint", &log(dir.path(), &["--since", out.path().join("old").to_str().unwrap()]), 1, "checkpoint");
    // Whoever holds the key may rewrite everything: who kept a checkpoint sees it.
    let mut world = World::full();
    world.remove("rejected-17");
    let again = tempfile::tempdir().unwrap();
    world.write(again.path());
    assert_eq!(log(again.path(), &[]).exit, 0);
    put(&out.path().join("old"), &checkpoint(256, root(&written.leaves[..256])));
    let old = out.path().join("old");
    expect("rewritten", &log(again.path(), &["--since", old.to_str().unwrap()]), 1, "fork");
}

#[test]
fn other_peoples_logs() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<Vec<u8>> = (0..70_000u32).map(|n| format!("entry {n}").into_bytes()).collect();
    write_tree(dir.path(), &entries, 30_000);
    put(&dir.path().join(".state/version"), b"1");
    let answer = log(dir.path(), &["--tree-only"]);
    assert_eq!(answer.exit, 0, "{}", answer.report);
    assert_eq!(answer.report["log"]["size"], 70_000);
    assert!(answer.report.get("story").is_none());
    // Three levels of tiles, one fault on each.
    for tile in ["tile/0/272", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"] {
        flip(&dir.path().join(tile), 3);
        let answer = log(dir.path(), &["--tree-only"]);
        expect(tile, &answer, 1, "tile-altered");
        assert_eq!(answer.report["findings"][0]["file"], tile);
        flip(&dir.path().join(tile), 3);
    }
    flip(&dir.path().join("tile/entries/200"), 4);
    let answer = log(dir.path(), &["--tree-only"]);
    expect("an entry", &answer, 1, "entry-altered");
    assert_eq!((answer.codes().len(), &answer.report["findings"][0]["entry"]), (1, &(200 * 256).into()));
    flip(&dir.path().join("tile/entries/200"), 4);
    // As a ledger of ours it is nonsense.
    expect("not our entries", &log(dir.path(), &[]), 1, "entry-form");
    assert_eq!(leaf_hash(b"entry 0"), leaf_hash(&entries[0]));
}
