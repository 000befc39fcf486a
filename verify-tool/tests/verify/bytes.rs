//! No byte of an export can change unseen: whatever is changed, cut off, swapped or removed, the answer is not "proven", and it
//! comes without a panic.

use crate::log;
use crate::world::{World, put};
use std::fs;
use std::path::{Path, PathBuf};

/// A small generator of numbers (SplitMix64): a seed reproduces a run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// How many faults a run tries.
fn faults() -> usize {
    std::env::var("COUNTERSIGN_VERIFY_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

#[test]
fn every_changed_byte_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    World::full().write(dir.path());
    assert_eq!(log(dir.path(), &[]).exit, 0);
    let files = files(dir.path());
    let mut numbers = Numbers(1);
    for run in 0..faults() {
        let path = &files[numbers.below(files.len())];
        let good = fs::read(path).unwrap();
        let mut bad = good.clone();
        let at = numbers.below(good.len());
        let what = match numbers.below(5) {
            0 | 1 => {
                bad[at] ^= 1 << numbers.below(8);
                "a flipped bit"
            }
            2 => {
                bad.truncate(at);
                "cut off"
            }
            3 => {
                bad.remove(at);
                "a byte less"
            }
            _ => {
                bad.insert(at, numbers.below(256) as u8);
                "a byte more"
            }
        };
        if bad == good {
            continue;
        }
        fs::write(path, &bad).unwrap();
        let answer = log(dir.path(), &[]);
        assert_ne!(answer.exit, 0, "run {run}: {what} at {at} of {}", path.display());
        fs::write(path, &good).unwrap();
    }
    assert_eq!(log(dir.path(), &[]).exit, 0);
}

#[test]
fn every_byte_of_the_checkpoints_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::empty();
    world.publish_every = 1;
    world.write(dir.path());
    for path in files(dir.path()).into_iter().filter(|path| path.to_string_lossy().contains("checkpoint")) {
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                fs::write(&path, &bad).unwrap();
                assert_ne!(log(dir.path(), &[]).exit, 0, "bit {bit} of byte {at} of {}", path.display());
            }
        }
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn every_lost_or_swapped_file_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    World::full().write(dir.path());
    let files = files(dir.path());
    let is_payload = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("payload"));
    let is_published = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("checkpoints"));
    let mut numbers = Numbers(2);
    for path in &files {
        let good = fs::read(path).unwrap();
        // Payloads may be withheld, and nobody knows which checkpoints were published; everything else is needed.
        if !is_payload(path) && !is_published(path) {
            fs::remove_file(path).unwrap();
            assert_ne!(log(dir.path(), &[]).exit, 0, "{} is gone", path.display());
        }
        if !is_payload(path) || numbers.below(10) == 0 {
            let other = fs::read(&files[numbers.below(files.len())]).unwrap();
            if other != good {
                put(path, &other);
                assert_ne!(log(dir.path(), &[]).exit, 0, "{} is another file", path.display());
            }
        }
        put(path, &good);
    }
}

#[test]
fn any_bytes_as_input_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (key, mut numbers) = (World::key(), Numbers(3));
    let path = dir.path().join("any");
    let name = path.to_str().unwrap();
    for _ in 0..300 {
        let length = numbers.below(300);
        let bytes: Vec<u8> = (0..length).map(|_| numbers.below(256) as u8).collect();
        put(&path, &bytes);
        for args in [
            ["receipt", name, "--key", &key].as_slice(),
            &["chunk", name, "--receipt", name, "--key", &key],
            &["consistency", name, name, "--key", &key],
            &["receipt", name, "--key", name],
        ] {
            assert_ne!(crate::run(args).exit, 0, "{args:?}");
        }
    }
}
