//! Evidence in one file, whole and in part, made from the published format; and what a bad one comes to.

use crate::world::*;
use crate::{expect, log, run};
use countersign_ledger::evidence::archive::{header, padding};
use countersign_ledger::evidence::{Entry, TraceId};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The files under a folder, by their paths in it.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, bytes) in files {
        tar.extend_from_slice(&header(name, bytes.len() as u64).unwrap());
        tar.extend_from_slice(bytes);
        tar.resize(tar.len() + padding(bytes.len() as u64) as usize, 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// The files of a part: the entries of these traces, and those that stand always.
pub(crate) fn part(dir: &Path, written: &Written, traces: &[TraceId]) -> Vec<(String, Vec<u8>)> {
    let entries: Vec<Entry> = written.entries.iter().map(|bytes| Entry::decode(bytes).unwrap()).collect();
    let standing = |kind: &str| !kind.starts_with("request.") && !kind.starts_with("approval.");
    let first_of = |trace: TraceId| entries.iter().find(|e| e.trace == trace).map_or("", |e| e.body.kind());
    let chosen: Vec<usize> = (0..entries.len())
        .filter(|at| traces.contains(&entries[*at].trace) || standing(first_of(entries[*at].trace)))
        .collect();
    let commitments: BTreeSet<String> = (chosen.iter())
        .flat_map(|at| entries[*at].body.commitments())
        .map(|(_, commitment)| format!("payload/{commitment}"))
        .collect();
    let mut all = files(dir);
    all.retain(|(path, _)| {
        path == "checkpoint"
            || (path.starts_with("tile/") && !path.starts_with("tile/entries/"))
            || commitments.contains(path)
    });
    all.extend(chosen.iter().map(|at| (format!("entry/{at}"), written.entries[*at].clone())));
    all
}

struct Case {
    dir: tempfile::TempDir,
    export: PathBuf,
    written: Written,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let export = dir.path().join("export");
        let written = World::full().write(&export);
        Self { dir, export, written }
    }

    fn save(&self, tar: &[u8]) -> PathBuf {
        let path = self.dir.path().join("evidence.tar");
        fs::write(&path, tar).unwrap();
        path
    }

    fn approved(&self) -> Vec<(String, Vec<u8>)> {
        let grants = [World::grant_trace("grant-anna", "anna"), World::grant_trace("grant-boris", "boris")];
        let request = Ask { name: "approved", caller: "agent", groups: &[] }.trace();
        part(&self.export, &self.written, &[request, grants[0], grants[1]])
    }
}

fn page(evidence: &Path, more: &[&str]) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let key = World::key();
    let mut args = vec!["countersign-verify", "report", evidence.to_str().unwrap(), "--key", key.as_str()];
    args.extend(more);
    let exit = countersign_verify::run(args, &mut out, &mut err);
    assert_eq!(exit, 0, "{}", String::from_utf8_lossy(&err));
    String::from_utf8(out).unwrap()
}

#[test]
fn one_file_says_what_the_folder_says() {
    let case = Case::new();
    let tar = case.save(&pack(&files(&case.export)));
    let (folder, file) = (log(&case.export, &[]), log(&tar, &[]));
    assert_eq!((folder.exit, &folder.report), (0, &file.report));
    assert_eq!(page(&case.export, &[]), page(&tar, &[]));
    // What `tar` makes of the folder, in both of its spellings, is evidence too.
    for format in ["--format=ustar", "--format=gnu"] {
        let path = case.dir.path().join("packed.tar");
        let packed = std::process::Command::new("tar")
            .arg(format)
            .arg("-cf")
            .arg(&path)
            .arg("-C")
            .arg(&case.export)
            .arg(".")
            .status();
        if packed.is_err() {
            return println!("skipped: one_file_says_what_the_folder_says: there is no tar on this machine");
        }
        assert_eq!(log(&path, &[]).exit, 0, "{format}");
    }
}

#[test]
fn every_single_fault_in_one_file_is_found() {
    let case = Case::new();
    let good = pack(&files(&case.export));
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % n
    };
    for n in 0..300 {
        let mut bad = good.clone();
        let at = below(bad.len());
        match n % 3 {
            0 => bad[at] ^= 1 << below(8),
            1 => bad.truncate(at),
            _ => {
                bad.remove(at);
            }
        }
        let answer = log(&case.save(&bad), &[]);
        // An archive that only lost zeros at its end says the same.
        let harmless = bad.len() + 512 >= good.len()
            && bad.starts_with(&good[..good.len() - 512])
            && bad[good.len() - 1024..].iter().all(|b| *b == 0);
        assert!(answer.exit != 0 || harmless, "fault {n} at byte {at}: {}", answer.report);
    }
}

#[test]
fn an_archive_is_not_trusted() {
    let case = Case::new();
    let all = files(&case.export);
    let refused = |tar: &[u8], why: &str| {
        let answer = log(&case.save(tar), &[]);
        assert!(answer.exit == 2 && answer.err.contains(why), "{why}: {} {}", answer.exit, answer.err);
    };
    let mut twice = all.clone();
    twice.push(all[0].clone());
    refused(&pack(&twice), "stands there twice");
    let mut tar = pack(&all);
    tar.extend_from_slice(b"more");
    refused(&tar, "only zeros belong");
    refused(&pack(&all)[..700], "cut off");
    refused(b"", "cut off");
    refused(&[7; 1024], "not the header of a ustar archive");
    // A link, and a path that leads out of the archive.
    let mut tar = pack(&all);
    tar[156] = b'2';
    refused(&tar, "checksum");
    let escaped = header("checkpoint", 0).map(|mut block| {
        block[..12].copy_from_slice(b"/etc/passwd\0");
        block
    });
    refused(&escaped.unwrap(), "checksum");
}

#[test]
fn a_part_proves_what_is_there() {
    let case = Case::new();
    let tar = case.save(&pack(&case.approved()));
    let answer = log(&tar, &[]);
    expect("a part without --partial", &answer, 3, "partial-evidence");
    assert_eq!(answer.codes(), ["partial-evidence"]);
    let answer = log(&tar, &["--partial", "--require", "caller-signatures,approval-signatures,admin-signatures"]);
    assert_eq!(answer.exit, 0, "{}", answer.report);
    assert_eq!(answer.report["log"]["size"], 294);
    assert_eq!(answer.report["log"]["part"], case.approved().iter().filter(|(p, _)| p.starts_with("entry/")).count());
    assert!(answer.report["summary"].as_str().unwrap().contains("nothing shows what was left out"));
    let report = page(&tar, &["--partial"]);
    assert!(report.contains("A part of a ledger") && report.contains("data-proof"));
    let (trace, key) = (Ask { name: "approved", caller: "agent", groups: &[] }.trace().to_string(), World::key());
    let explained = run(&["explain", tar.to_str().unwrap(), &trace, "--key", &key, "--partial"]);
    assert_eq!(explained.exit, 0);
    assert_eq!(explained.report["lines"].as_array().unwrap().len(), 14);
}

#[test]
fn a_part_that_is_bad() {
    let case = Case::new();
    type Packed = Vec<(String, Vec<u8>)>;
    let check = |what: &str, exit: u8, code: &str, change: &dyn Fn(&mut Packed)| {
        let mut files = case.approved();
        change(&mut files);
        expect(what, &log(&case.save(&pack(&files)), &["--partial"]), exit, code);
    };
    let entry = |label: &str| format!("entry/{}", case.written.index[label]);
    let file = |files: &mut Vec<(String, Vec<u8>)>, path: &str| files.iter().position(|(p, _)| p == path).unwrap();
    check("an altered entry", 1, "entry-altered", &|files| {
        let at = file(files, &entry("approved/masked-1"));
        let text = String::from_utf8(files[at].1.clone()).unwrap().replace("\"rows\":3", "\"rows\":4");
        files[at].1 = text.into_bytes();
    });
    check("an altered tile", 1, "tile-altered", &|files| {
        let at = file(files, "tile/0/000");
        files[at].1[100] ^= 1;
    });
    check("another root", 1, "root-mismatch", &|files| {
        let at = file(files, "tile/0/001.p/38");
        files[at].1[100] ^= 1;
    });
    check("no tile", 3, "missing-file", &|files| {
        let at = file(files, "tile/0/000");
        files.remove(at);
    });
    check("a grant left out", 3, "approval-unknown", &|files| {
        let at = file(files, &entry("grant-anna"));
        files.remove(at);
    });
    check("an identity left out", 3, "identity-unknown", &|files| {
        let at = file(files, &entry("agent"));
        files.remove(at);
    });
    check("a step left out", 3, "chain-step", &|files| {
        let at = file(files, &entry("approved/masked-1"));
        files.remove(at);
    });
    check("an altered payload", 1, "payload-mismatch", &|files| {
        let at = files.iter().position(|(p, _)| p.starts_with("payload/")).unwrap();
        files[at].1.push(b'!');
    });
    check("bundles beside entries", 3, "unexpected-file", &|files| {
        let whole = fs::read(case.export.join("tile/entries/000")).unwrap();
        files.push(("tile/entries/000".into(), whole));
    });
    // What was signed of another size: one of another history would pass for evidence.
    check("a published checkpoint", 3, "unexpected-file", &|files| {
        let at = file(files, "checkpoint");
        let head = files[at].1.clone();
        files.push(("checkpoints/294".into(), head));
    });
    check("a tile of an earlier size", 3, "unexpected-file", &|files| {
        files.push(("tile/0/001.p/7".into(), vec![0; 7 * 32]));
    });
    check("a file that does not belong there", 3, "unexpected-file", &|files| {
        files.push(("entry/999".into(), b"{}".to_vec()));
    });
    // An entry that no tile leads to the root from is nobody's word but its bearer's: nothing here is proven.
    let mut files = case.approved();
    let at = file(&mut files, "tile/0/000");
    files.remove(at);
    let report = log(&case.save(&pack(&files)), &["--partial"]).report;
    assert_eq!((&report["log"]["anchored"], &report["story"]["claims"]["proven"]), (&false.into(), &0.into()));
    // Broken rules stay broken: what a part leaves out cannot explain them.
    let mut world = World::full();
    tweak!(world, "approved/masked-1", ChunkMasked, |s| s.columns[1].transform = "clear".into());
    let export = case.dir.path().join("other");
    let written = world.write(&export);
    let request = Ask { name: "approved", caller: "agent", groups: &[] }.trace();
    let grants = [World::grant_trace("grant-anna", "anna"), World::grant_trace("grant-boris", "boris")];
    let files = part(&export, &written, &[request, grants[0], grants[1]]);
    expect("a broken rule", &log(&case.save(&pack(&files)), &["--partial"]), 1, "mask-account");
}
