//! The traces that have ended: 16 bytes for each, half of its name. Two names that share a half would take 2^64 tries to find,
//! and would be told as a fault.

use countersign_ledger::evidence::TraceId;
use foldhash::fast::RandomState;
use std::hash::BuildHasher;

/// How many parts the names are kept in. Each is sorted by itself, so that sorting needs room for one part only.
const PARTS: usize = 256;

/// Names of traces that have ended.
#[derive(Debug)]
pub struct Closed {
    /// Chooses the part. Whoever writes a ledger chooses its names, and could otherwise make one part of them all.
    hasher: RandomState,
    parts: Vec<Part>,
}

/// Names in ascending order, and after these a few new ones.
#[derive(Debug, Default)]
struct Part {
    names: Vec<u128>,
    sorted: usize,
}

impl Default for Closed {
    fn default() -> Self {
        Self { hasher: RandomState::default(), parts: std::iter::repeat_with(Part::default).take(PARTS).collect() }
    }
}

impl Closed {
    /// A trace has ended.
    pub fn insert(&mut self, trace: TraceId) {
        let name = half(trace);
        let at = self.part(name);
        if let Some(part) = self.parts.get_mut(at) {
            part.insert(name);
        }
    }

    /// Whether a trace has ended.
    pub fn contains(&self, trace: TraceId) -> bool {
        let name = half(trace);
        self.parts.get(self.part(name)).is_some_and(|part| part.contains(name))
    }

    fn part(&self, name: u128) -> usize {
        (self.hasher.hash_one(name) % PARTS as u64) as usize
    }
}

impl Part {
    fn insert(&mut self, name: u128) {
        // Room for a few more only: doubling it would double the memory.
        if self.names.len() == self.names.capacity() {
            self.names.reserve_exact(64 + self.names.len() / 16);
        }
        self.names.push(name);
        if self.names.len() - self.sorted > 32 + self.sorted / 64 {
            // Finds the two ascending runs, once the new names are one, and merges them.
            self.names.sort();
            self.sorted = self.names.len();
        }
    }

    fn contains(&self, name: u128) -> bool {
        let (sorted, new) = self.names.split_at_checked(self.sorted).unwrap_or_default();
        sorted.binary_search(&name).is_ok() || new.contains(&name)
    }
}

/// The second half of a trace's name.
pub fn half(trace: TraceId) -> u128 {
    let [_, rest @ ..] = trace.0.as_bytes().as_chunks::<16>().0 else { return 0 };
    rest.first().map_or(0, |half| u128::from_be_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_ledger::evidence::digest::sha256;

    #[test]
    fn what_was_put_in_is_found_and_nothing_else() {
        let name = |n: u32| TraceId(sha256(&n.to_be_bytes()));
        let mut closed = Closed::default();
        for n in 0..50_000 {
            assert!(!closed.contains(name(n)));
            closed.insert(name(n));
            assert!(closed.contains(name(n)) && closed.contains(name(n / 2)));
        }
        assert!((0..50_000).all(|n| closed.contains(name(n))));
        assert!((50_000..100_000).all(|n| !closed.contains(name(n))));
        let bytes: usize = closed.parts.iter().map(|part| 16 * part.names.capacity()).sum();
        assert!(bytes < 50_000 * 25, "{bytes} bytes");
    }
}
