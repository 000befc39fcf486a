//! What the sequencer knows without asking the store: records that it wrote a short while ago, those among them that are not in the
//! store yet. Two generations, so that forgetting costs nothing: when the young one is full it becomes the old one, whose records
//! go.

use std::{collections::HashMap, hash::Hash};

/// So many records make a generation.
const GENERATION: usize = 4_096;

/// The records written last.
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.young.insert(key, value);
    }

    /// Called where everything written before the last call is in the store: forgets, at most, what was written before that.
    pub(super) fn age(&mut self) {
        if self.young.len() >= GENERATION {
            let young = HashMap::with_capacity(2 * GENERATION);
            self.old = std::mem::replace(&mut self.young, young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_since_the_last_call_is_known() {
        let mut recent = Recent::default();
        let mut written = 0;
        for group in 0..50 {
            let from = written;
            for _ in 0..group * 97 % 1_500 {
                recent.insert(written, written);
                written += 1;
            }
            recent.age();
            assert!((from..written).all(|key| recent.get(&key) == Some(&key)), "group {group}");
        }
        assert!(written > 4 * GENERATION && recent.get(&0).is_none(), "nothing was ever forgotten");
        recent.insert(0, 7);
        recent.age();
        recent.insert(0, 8);
        assert_eq!(recent.get(&0), Some(&8));
    }
}
