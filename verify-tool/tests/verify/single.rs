//! Receipts, chunks and growth.

use crate::world::{CHUNK_SALT, PARTS, World, checkpoint, put, root, signer, tweak};
use crate::{Answer, expect, run};
use countersign_ledger::evidence::Receipt;
use countersign_ledger::evidence::row::{RowsOf, proof_line, row_line, row_salt};
use countersign_ledger::tlog::{
    Hash, HashReader, LeafIndex, TlogProof, TreeSize, consistency_proof, inclusion_proof, leaf_hash, node_hash,
};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

/// The hashes of a small tree, computed whenever they are asked for.
struct Leaves<'a>(&'a [Hash]);

impl HashReader for Leaves<'_> {
    type Error = Infallible;
    fn hash(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        if level == 0 {
            return Ok(self.0[index as usize]);
        }
        Ok(node_hash(&self.hash(level - 1, 2 * index)?, &self.hash(level - 1, 2 * index + 1)?))
    }
}

struct Desk {
    dir: tempfile::TempDir,
    written: crate::world::Written,
}

impl Desk {
    fn new() -> Self {
        Self::of(&World::full())
    }

    fn of(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let written = world.write(&dir.path().join("export"));
        Self { dir, written }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn receipt(&self, label: &str, salt: bool) -> PathBuf {
        let path = self.path("receipt");
        put(&path, &self.proven(label, salt).encode());
        path
    }

    fn proven(&self, label: &str, salt: bool) -> Receipt {
        let index = LeafIndex::new(self.written.index[label]);
        let size = TreeSize::new(self.written.leaves.len() as u64);
        let hashes = inclusion_proof(&Leaves(&self.written.leaves), index, size).unwrap();
        let checkpoint = checkpoint(size.get(), root(&self.written.leaves));
        let proof = TlogProof { extra: None, index, hashes, checkpoint };
        let entry = self.written.entries[index.get() as usize].clone();
        Receipt::new(entry, salt.then_some(CHUNK_SALT), proof).unwrap()
    }

    fn parts(&self, parts: &[&[u8]]) -> PathBuf {
        let dir = self.path("parts");
        let _ = fs::remove_dir_all(&dir);
        for (at, part) in parts.iter().enumerate() {
            put(&dir.join(format!("chunk.part-{:04}.arrow", at + 1)), part);
        }
        put(&dir.join("chunk.receipt"), b"beside the parts");
        dir
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn receipt(path: &Path) -> Answer {
    run(&["receipt", text(path), "--key", &World::key()])
}

#[test]
fn receipts() {
    let desk = Desk::new();
    let path = desk.receipt("plain/intended-1", true);
    let answer = receipt(&path);
    assert_eq!(answer.exit, 0, "{}", answer.report);
    assert_eq!(answer.report["entry"]["type"], "delivery.intended");
    let good = fs::read_to_string(&path).unwrap();
    let check = |from: &str, to: &str, exit: u8, code: &str| {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "`{from}`");
        put(&path, bad.as_bytes());
        expect(to, &receipt(&path), exit, code);
    };
    check("c2sp.org", "c2sp.com", 1, "receipt-form");
    check("extra ", "", 1, "receipt-form");
    check("index ", "index 1", 1, "receipt-proof");
    let (extra, index) = (good.lines().nth(1).unwrap(), good.lines().nth(2).unwrap());
    check(index, &format!("{index}\n{}", Hash::from_bytes([1; 32]).to_base64()), 1, "receipt-proof");
    // Another entry under the same proof.
    let other = fs::read_to_string(desk.receipt("aborted/intended-2", true)).unwrap();
    check(extra, other.lines().nth(1).unwrap(), 1, "receipt-proof");
    check(crate::world::ORIGIN, "ledger.example/other", 1, "receipt-proof");
    assert_eq!(run(&["receipt", text(&desk.path("none")), "--key", &World::key()]).exit, 2);
    let path = desk.receipt("denied/end", false);
    expect(
        "another key",
        &run(&["receipt", text(&path), "--key", &signer("x").verifier().to_string()]),
        1,
        "receipt-proof",
    );
}

#[test]
fn a_newer_entry_in_a_receipt_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let written = World::full().write_with(dir.path(), |label, bytes| {
        if label == "denied/end" {
            *bytes = String::from_utf8(bytes.clone()).unwrap().replacen("\"v\":1", "\"v\":2", 1).into_bytes();
        }
    });
    let (index, size) = (LeafIndex::new(written.index["denied/end"]), TreeSize::new(written.leaves.len() as u64));
    let hashes = inclusion_proof(&Leaves(&written.leaves), index, size).unwrap();
    let mut extra = written.entries[index.get() as usize].clone();
    extra.push(b'\n');
    let proof =
        TlogProof { extra: Some(extra), index, hashes, checkpoint: checkpoint(size.get(), root(&written.leaves)) };
    let path = dir.path().join("receipt");
    put(&path, &proof.encode());
    expect("newer", &receipt(&path), 3, "entry-newer");
    put(&path, &TlogProof { index: LeafIndex::new(3), ..proof }.encode());
    expect("newer and not proven", &receipt(&path), 1, "receipt-proof");
}

#[test]
fn chunks() {
    let desk = Desk::new();
    let key = World::key();
    let salt = Hash::from_bytes(CHUNK_SALT).to_string();
    let path = desk.receipt("plain/intended-1", true);
    let check = |what: &str, parts: &[&[u8]], exit: u8, code: &str| {
        let dir = desk.parts(parts);
        let answer = run(&["chunk", text(&dir), "--receipt", text(&path), "--key", &key]);
        if exit == 0 {
            assert_eq!(answer.exit, 0, "{what}: {}", answer.report)
        } else {
            expect(what, &answer, exit, code)
        }
    };
    check("good", &PARTS, 0, "");
    check("a part less", &PARTS[..1], 1, "chunk-mismatch");
    check("a part more", &[PARTS[0], PARTS[1], b""], 1, "chunk-mismatch");
    check("other order", &[PARTS[1], PARTS[0]], 1, "chunk-mismatch");
    check("another byte", &[PARTS[0], b"second pari"], 1, "chunk-mismatch");
    check("cut elsewhere", &[b"first parts", b"econd part"], 1, "chunk-mismatch");
    check("longer", &[PARTS[0], b"second part and more"], 1, "chunk-mismatch");
    let dir = desk.parts(&PARTS);
    let [first, second] = [dir.join("chunk.part-0001.arrow"), dir.join("chunk.part-0002.arrow")];
    let files = |a: &Path, b: &Path| run(&["chunk", text(a), text(b), "--receipt", text(&path), "--key", &key]);
    assert_eq!(files(&first, &second).exit, 0);
    expect("files in another order", &files(&second, &first), 1, "chunk-mismatch");
    expect("a part that is not there", &files(&first, &dir.join("none")), 2, "unreadable");
    let unsalted = desk.receipt("plain/intended-1", false);
    let salted = |more: &[&str]| {
        let mut args = vec!["chunk", text(&dir), "--receipt", text(&unsalted), "--key", &key];
        args.extend(more);
        run(&args)
    };
    expect("no salt", &salted(&[]), 3, "chunk-salt");
    assert_eq!(salted(&["--salt", &salt]).exit, 0);
    expect("another salt", &salted(&["--salt", &"0".repeat(64)]), 1, "chunk-mismatch");
    assert_eq!(salted(&["--salt", "xyz"]).exit, 2);
    let other = desk.receipt("denied/end", false);
    expect("no delivery", &run(&["chunk", text(&dir), "--receipt", text(&other), "--key", &key]), 3, "not-a-delivery");
}

/// The rows of the plain request's chunk as lines, each with its proof, and the root over them.
fn rows() -> (Vec<String>, Hash) {
    let request = crate::world::Ask { name: "plain", caller: "reports", groups: &[] }.trace();
    let of = RowsOf { request, attempt: crate::world::int(1), count: crate::world::int(3) };
    let line = |i: u64| {
        row_line(&of, i, &row_salt(&CHUNK_SALT, i), format!(r#"{{"id":{i},"email":"a***@***.org"}}"#).as_bytes())
    };
    let lines: Vec<Vec<u8>> = (0..3).map(line).collect();
    let leaves: Vec<Hash> = lines.iter().map(|line| leaf_hash(line)).collect();
    let proof = |(i, line): (u64, &Vec<u8>)| {
        let path = inclusion_proof(&Leaves(&leaves), LeafIndex::new(i), TreeSize::new(3)).unwrap();
        String::from_utf8(proof_line(line, &path)).unwrap()
    };
    ((0..).zip(&lines).map(proof).collect(), root(&leaves))
}

#[test]
fn single_rows() {
    let (lines, rows_root) = rows();
    let mut world = World::full();
    tweak!(world, "plain/masked-1", ChunkMasked, |s| s.rows_root = Some(rows_root));
    let desk = Desk::of(&world);
    assert_eq!(crate::log(&desk.path("export"), &[]).exit, 0);
    let masked = desk.written.entries[desk.written.index["plain/masked-1"] as usize].clone();
    let (file, receipt) = (desk.path("row"), desk.path("receipt"));
    let check = |text: &str, with: &Receipt, exit: u8, code: &str| {
        put(&file, text.as_bytes());
        put(&receipt, &with.encode());
        let answer = run(&["row", self::text(&file), "--receipt", self::text(&receipt), "--key", &World::key()]);
        if exit == 0 { assert_eq!(answer.exit, 0, "{}", answer.report) } else { expect(text, &answer, exit, code) }
    };
    let delivery = || desk.proven("plain/intended-1", true);
    let good = delivery().with_masked(masked.clone());
    let own = desk.proven("plain/masked-1", false);
    for line in &lines {
        check(line, &good, 0, "");
        check(line, &own, 0, "");
        check(&line.replace("\"id\":", "\"id\":9"), &good, 1, "row-mismatch");
        check(&line.replace("\"count\":3", "\"count\":4"), &good, 1, "row-mismatch");
        check(&line.replace("\"leaf\":{", "\"leaf\":{ "), &good, 1, "row-form");
        check(line.strip_suffix('}').unwrap(), &good, 1, "row-form");
    }
    check(&format!("{}\n", lines.join("\n")), &good, 0, "");
    check(&format!("{}\n{}x\n", lines[0], lines[1]), &good, 1, "row-form");
    check("", &good, 2, "unreadable");
    // The delivery alone tells no root, and neither does another chunk's account; another account is not the delivery's.
    check(&lines[0], &delivery(), 3, "row-root");
    check(&lines[0], &desk.proven("aborted/masked-2", false), 3, "row-root");
    let other = desk.written.entries[desk.written.index["aborted/masked-2"] as usize].clone();
    check(&lines[0], &delivery().with_masked(other), 1, "receipt-proof");
    check(&lines[0], &desk.proven("aborted/intended-2", true).with_masked(masked), 1, "receipt-proof");
}

#[test]
fn growth() {
    let desk = Desk::new();
    let leaves = &desk.written.leaves;
    let key = World::key();
    let export = desk.path("export");
    let write = |name: &str, size: usize| {
        put(&desk.path(name), &checkpoint(size as u64, root(&leaves[..size])));
        desk.path(name)
    };
    let check = |old: &Path, new: &Path, more: &[&str], exit: u8, code: &str| {
        let mut args = vec!["consistency", text(old), text(new)];
        args.extend(more);
        args.extend(["--key", &key]);
        let answer = run(&args);
        if exit == 0 {
            assert_eq!(answer.exit, 0, "{}", answer.report)
        } else {
            expect(&format!("{args:?}"), &answer, exit, code)
        }
    };
    for (old, new) in
        [(0, 9), (1, 2), (7, 200), (255, 256), (256, 257), (100, leaves.len()), (leaves.len(), leaves.len())]
    {
        let (old_path, new_path) = (write("old", old), write("new", new));
        check(&old_path, &new_path, &[text(&export)], 0, "");
        let proof = consistency_proof(&Leaves(leaves), TreeSize::new(old as u64), TreeSize::new(new as u64)).unwrap();
        let lines: String = proof.iter().map(|hash| hash.to_base64() + "\n").collect();
        put(&desk.path("proof"), lines.as_bytes());
        check(&old_path, &new_path, &["--proof", text(&desk.path("proof"))], 0, "");
        if old != new && old != 0 {
            check(&old_path, &new_path, &[], 3, "growth-unproven");
            put(&desk.path("proof"), format!("{lines}{}\n", leaves[0].to_base64()).as_bytes());
            check(&old_path, &new_path, &["--proof", text(&desk.path("proof"))], 1, "growth");
        }
    }
    let (old, new) = (write("old", 100), write("new", 200));
    check(&new, &old, &[text(&export)], 1, "rolled-back");
    put(&desk.path("fork"), &checkpoint(100, leaves[0]));
    check(&desk.path("fork"), &new, &[text(&export)], 1, "fork");
    check(&desk.path("fork"), &old, &[text(&export)], 1, "fork");
    put(&desk.path("nonsense"), b"nonsense");
    check(&desk.path("nonsense"), &new, &[text(&export)], 1, "checkpoint");
    put(&desk.path("proof"), b"nonsense");
    check(&old, &new, &["--proof", text(&desk.path("proof"))], 1, "growth");
    check(&old, &write("new", 260), &[text(&export)], 0, "");
    fs::remove_file(export.join("tile/0/000")).unwrap();
    check(&old, &new, &[text(&export)], 3, "missing-file");
    put(&export.join("tile/0/000"), &[0; 100]);
    check(&old, &new, &[text(&export)], 1, "tile-altered");
}
