//! Single rows: each is proved alone, by the same line whichever format it was delivered in, and by no other.

use crate::support::Folder;
use crate::world::{World, binary, expect, people, pg_people};
use countersign::client::{Answer, Wish};
use countersign::pipeline::status::Word;
use countersign_ledger::evidence::row::{Row, RowProof};
use countersign_ledger::evidence::{Receipt, Step};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Writes a chunk's parts and its receipt; gives the parts.
fn save(dir: &Path, name: &str, answer: &Answer) -> Vec<PathBuf> {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join(format!("{name}.receipt")), &answer.receipt).unwrap();
    let write = |(i, part): (usize, &Vec<u8>)| {
        let path = dir.join(format!("{name}.part-{:04}.{}", i + 1, answer.format));
        std::fs::write(&path, part).unwrap();
        path
    };
    answer.parts.iter().enumerate().map(write).collect()
}

fn rows(parts: &[PathBuf], receipt: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(binary("countersign").unwrap());
    command.arg("rows").args(parts).arg("--receipt").arg(receipt).args(more).output().unwrap()
}

fn verify(world: &World, row: &Path, receipt: &Path) -> Option<i32> {
    let mut command = Command::new(binary("countersign-verify").unwrap());
    command.arg("row").arg(row).arg("--receipt").arg(receipt).arg("--key").arg(world.dir().join("ledger.vkey"));
    command.output().unwrap().status.code()
}

/// What `docs/examples/verify.py` says, where there is a Python that has what it needs.
fn stranger(world: &World, row: &Path, receipt: &Path) -> Option<bool> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/verify.py");
    let has = |python: &&str| {
        let output = Command::new(python).args(["-c", "import cryptography"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has)?;
    let mut command = Command::new(python);
    command.arg(script).arg("row").args([row, receipt, &world.dir().join("ledger.vkey")]);
    Some(command.output().unwrap().status.success())
}

#[test]
fn each_row_is_proved_alone_whatever_its_format() {
    let world = World::shared();
    let dir = Folder::new("rows").unwrap();
    let columns = ["id", "name", "born", "tags", "country", "\"; drop table", "balance", "ratio"];
    let mut said: Vec<Vec<String>> = Vec::new();
    let mut receipts = Vec::new();
    for format in ["arrow", "jsonl"] {
        let wish = Wish { limit: Some(37), format: format.into(), ..pg_people(&columns) };
        let (_, answer) = world.ask("reports", &wish).unwrap();
        expect(&answer, Word::Delivered, None);
        let parts = save(dir.path(), format, &answer);
        let receipt = dir.path().join(format!("{format}.receipt"));
        let output = rows(&parts, &receipt, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 37);
        let masked = Receipt::decode(&answer.receipt).unwrap().mask_account().unwrap();
        assert!(matches!(&masked.body, Step::ChunkMasked(s) if s.rows_root.is_some()));
        let row = |line: &&str| RowProof::decode(line).unwrap().verify(&masked).unwrap().row.to_owned();
        said.push(lines.iter().map(row).collect());
        if format == "jsonl" {
            let delivered = String::from_utf8(answer.parts.concat()).unwrap();
            assert_eq!(delivered.lines().map(str::to_owned).collect::<Vec<_>>(), said[1]);
        }
        // One line, all lines, and a line that says something else.
        let file = dir.path().join("row");
        let shown = dir.path().join("shown.receipt");
        let one = rows(&parts, &receipt, &["--row", "17", "--hand-on", shown.to_str().unwrap()]).stdout;
        assert_eq!(String::from_utf8(one.clone()).unwrap().trim_end(), lines[17]);
        std::fs::write(&file, &one).unwrap();
        assert_eq!(verify(world, &file, &receipt), Some(0));
        assert_ne!(stranger(world, &file, &receipt), Some(false));
        // What goes along with a row proves it as well, and doesn't hold what the salts of the others are made from.
        assert_eq!(verify(world, &file, &shown), Some(0));
        assert_ne!(stranger(world, &file, &shown), Some(false));
        assert_eq!(Receipt::decode(&std::fs::read(&shown).unwrap()).unwrap().salt, None);
        assert!(Row::decode(RowProof::decode(lines[17]).unwrap().line).unwrap().row.contains("\"id\":17"));
        std::fs::write(&file, lines[17].replace("\"id\":17", "\"id\":18")).unwrap();
        assert_eq!(verify(world, &file, &receipt), Some(1));
        assert_ne!(stranger(world, &file, &receipt), Some(true));
        std::fs::write(&file, &text).unwrap();
        assert_eq!(verify(world, &file, &receipt), Some(0));
        receipts.push(receipt.clone());
        // Parts that are not the chunk's are refused before anything is said about their rows.
        let mut bytes = std::fs::read(&parts[0]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&parts[0], bytes).unwrap();
        assert!(!rows(&parts, &receipt, &[]).status.success());
    }
    assert_eq!(said[0], said[1], "a row has one text");
    // The other chunk holds the same rows, and is another chunk.
    assert_eq!(verify(world, &dir.path().join("row"), &receipts[0]), Some(1));
    // A table without a row tree.
    let (_, answer) = world.ask("reports", &people(&["id", "name"])).unwrap();
    let parts = save(dir.path(), "plain", &answer);
    let receipt = dir.path().join("plain.receipt");
    let output = rows(&parts, &receipt, &[]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no row tree"));
    assert_eq!(verify(world, &dir.path().join("row"), &receipt), Some(3));
    world.prove().unwrap();
}
