//! Runs a target on its corpus and on mutations of it, a fixed number from a fixed seed, so that a finding comes again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A few bytes that parsers like.
const TOKENS: &[&str] = &[
    "(",
    ")",
    "\"",
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ".",
    "*",
    "**",
    "@",
    "=",
    "-",
    "\n",
    "é",
    "0",
    "9999999999",
    "null",
    "\u{0}",
];

/// Runs `target` on the files of `fuzz/rules/corpus/<name>`, and on `mutations` mutations of each.
pub fn replay(name: &str, mutations: usize, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/rules/corpus").join(name);
    let mut files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let corpus = files.iter().map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>();
    let run = |data: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(data))) {
            eprintln!("{name}: {:?}", String::from_utf8_lossy(data));
            std::panic::resume_unwind(panic);
        }
    };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    for data in &corpus {
        run(data);
        for _ in 0..mutations {
            let mut mutated = data.clone();
            for _ in 0..=below(4) {
                let (at, other) = (below(mutated.len() + 1), &corpus[below(corpus.len())]);
                match below(6) {
                    0 => mutated.truncate(at),
                    1 => drop(mutated.splice(at..at, TOKENS[below(TOKENS.len())].bytes())),
                    2 if at < mutated.len() => mutated[at] ^= 1 << below(8),
                    3 if at < mutated.len() => drop(mutated.drain(at..(at + 1 + below(8)).min(mutated.len()))),
                    4 => {
                        let from = below(other.len() + 1);
                        mutated.truncate(at);
                        mutated.extend_from_slice(&other[from..]);
                    }
                    _ => {
                        let repeated = mutated[at..].iter().take(below(16)).copied().collect::<Vec<_>>();
                        mutated.splice(at..at, repeated);
                    }
                }
            }
            run(&mutated);
        }
    }
}
