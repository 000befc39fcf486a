//! Hashes: the tree that a row of leaves makes, held against the tiles and checkpoints of an export. The same walk runs over
//! the entries and, where something does not fit, once more over the lowest tiles: whichever of the two leads to the signed
//! root is what was signed, and what differs from it was changed.

use crate::export::{Export, Fetched, TILE_BYTES_MAX};
use countersign_ledger::tlog::{Frontier, Hash, TILE_WIDTH, TileId, TilePath, TreeSize, node_hash};

/// How many disagreements are remembered one by one.
const KEPT_MAX: usize = 1000;

/// The levels of tiles above the lowest.
const UPPER_LEVELS: usize = 7;

/// A signed statement about the tree at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The file that it stands in.
    pub file: String,
    /// The size.
    pub size: u64,
    /// The root that was signed.
    pub root: Hash,
    /// The signed checkpoint.
    pub note: Vec<u8>,
}

/// A tile above the lowest level that is not what the leaves make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileDiff {
    /// Its path.
    pub path: String,
    /// What it holds.
    pub found: String,
    /// What it should hold.
    pub expected: String,
}

/// A pin that the leaves do not lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// What was signed.
    pub pin: Pin,
    /// The root that the leaves give.
    pub computed: Hash,
}

/// What a walk has found when it ends.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// The root of all leaves.
    pub root: Option<Hash>,
    /// Tiles that differ.
    pub tiles: Vec<TileDiff>,
    /// Tiles that are not there.
    pub missing: Vec<String>,
    /// Tiles that could not be read, and why.
    pub failed: Vec<(String, String)>,
    /// Pins that were not met.
    pub unmatched: Vec<Unmatched>,
}

/// A walk over leaves in order.
#[derive(Debug)]
pub struct Walk<'a> {
    export: &'a Export,
    size: TreeSize,
    frontier: Frontier,
    /// The hashes of the unfinished tile on each level above the lowest.
    upper: [Vec<u8>; UPPER_LEVELS],
    /// How many tiles were finished on each of these levels.
    finished: [u64; UPPER_LEVELS],
    walked: Walked,
}

impl<'a> Walk<'a> {
    /// Over the leaves of a tree of that size, whose tiles are in `export`.
    pub fn new(export: &'a Export, size: TreeSize) -> Self {
        Self {
            export,
            size,
            frontier: Frontier::new(),
            upper: Default::default(),
            finished: [0; UPPER_LEVELS],
            walked: Walked::default(),
        }
    }

    /// How many leaves there were so far.
    pub fn size(&self) -> u64 {
        self.frontier.size().get()
    }

    /// Takes the leaves of the next bundle, at most 256, and their hash where they are so many. Meets `pins`, which must be
    /// ascending by size, at the sizes that the leaves lead to; those of earlier sizes are met at once.
    pub fn push(&mut self, leaves: &[Hash], subtree: Option<Hash>, pins: impl IntoIterator<Item = Pin>) {
        let before = self.size();
        let after = before + leaves.len() as u64;
        // Only where a checkpoint was signed within the bundle are its leaves looked at one by one.
        let (mut within, mut pushed, mut pins) = (self.frontier.clone(), 0, pins.into_iter().peekable());
        while let Some(pin) = pins.next_if(|pin| pin.size < after) {
            let wanted = usize::try_from(pin.size.saturating_sub(before)).unwrap_or_default();
            leaves.get(pushed..wanted).unwrap_or_default().iter().for_each(|leaf| within.push(*leaf));
            pushed = pushed.max(wanted);
            self.meet(pin, within.root());
        }
        let Self { frontier, upper, .. } = self;
        let mut keep = |level: u8, _: u64, hash: Hash| {
            let tile = level.is_multiple_of(8).then_some(usize::from(level / 8)).and_then(|level| level.checked_sub(1));
            if let Some(hashes) = tile.and_then(|tile| upper.get_mut(tile)) {
                hashes.extend_from_slice(hash.as_bytes());
            }
        };
        let whole = subtree.is_some_and(|subtree| frontier.push_subtree_with(8, subtree, &mut keep));
        if !whole {
            leaves.iter().for_each(|leaf| frontier.push_with(*leaf, &mut keep));
        }
        // Nothing is completed above the lowest tiles before one of these is.
        if after.is_multiple_of(u64::from(TILE_WIDTH)) {
            for level in 0..UPPER_LEVELS {
                self.compare(level, true);
            }
        }
        for pin in pins.filter(|pin| pin.size == after) {
            self.meet(pin, self.frontier.root());
        }
    }

    /// Holds a signed statement against the root that the leaves give.
    fn meet(&mut self, pin: Pin, computed: Hash) {
        if computed != pin.root && self.walked.unmatched.len() < KEPT_MAX {
            self.walked.unmatched.push(Unmatched { pin, computed });
        }
    }

    /// Ends the walk.
    pub fn finish(mut self) -> Walked {
        for level in 0..UPPER_LEVELS {
            self.compare(level, false);
        }
        if self.frontier.size() == self.size {
            self.walked.root = Some(self.frontier.root());
        }
        self.walked
    }

    /// Compares the tile that is being filled on a level with its file, when it is full or (`full` false) when all is over.
    fn compare(&mut self, level: usize, full: bool) {
        let (Some(hashes), Some(index)) = (self.upper.get_mut(level), self.finished.get_mut(level)) else { return };
        let width = hashes.len() / 32;
        if width == 0 || full != (width == usize::from(TILE_WIDTH)) {
            return;
        }
        let expected = std::mem::take(hashes);
        let id = TileId { level: level as u8 + 1, index: *index };
        *index += 1;
        let path = TilePath { id, width: width as u16 }.to_string();
        let walked = &mut self.walked;
        match self.export.read(&path, TILE_BYTES_MAX) {
            Fetched::Bytes(found) if found == expected => {}
            Fetched::Bytes(found) if walked.tiles.len() < KEPT_MAX => {
                let (found, expected) = first_difference(&found, &expected);
                walked.tiles.push(TileDiff { path, found, expected });
            }
            Fetched::Missing if walked.missing.len() < KEPT_MAX => walked.missing.push(path),
            Fetched::Failed(why) if walked.failed.len() < KEPT_MAX => walked.failed.push((path, why)),
            _ => {}
        }
    }
}

/// How a tile differs from what it should be, in words: by length, or in the first hash that is another.
pub fn first_difference(found: &[u8], expected: &[u8]) -> (String, String) {
    if found.len() != expected.len() {
        return (format!("{} bytes", found.len()), format!("{} bytes", expected.len()));
    }
    let at = |bytes: &[u8], slot: usize| {
        bytes.chunks(32).nth(slot).and_then(|hash| Hash::try_from(hash).ok()).map(|h| h.to_string()).unwrap_or_default()
    };
    let slot = found.chunks(32).zip(expected.chunks(32)).position(|(a, b)| a != b).unwrap_or_default();
    (format!("hash {slot}: {}", at(found, slot)), format!("hash {slot}: {}", at(expected, slot)))
}

/// The tile of the lowest level that holds the leaf hashes of bundle `index`.
pub const fn lowest(index: u64, width: u16) -> TilePath {
    TilePath { id: TileId { level: 0, index }, width }
}

/// The hash over the leaves of a bundle; `None` unless they are 256.
pub fn subtree(leaves: &[Hash]) -> Option<Hash> {
    if leaves.len() != usize::from(TILE_WIDTH) {
        return None;
    }
    let mut row: Vec<Hash> = leaves.to_vec();
    while let (pairs @ [_, ..], _) = row.as_chunks::<2>() {
        row = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    row.first().copied()
}

/// Walks over the lowest tiles instead of the entries, meeting `pins` (ascending by size) on the way. `None` where a tile is
/// missing or has not its length.
pub fn walk_tiles(export: &Export, size: TreeSize, pins: &[Pin]) -> Option<Walked> {
    let mut walk = Walk::new(export, size);
    let mut pins = pins.iter().cloned().peekable();
    for bundle in countersign_ledger::tlog::bundles_for_size(size) {
        let path = lowest(bundle.index, bundle.width).to_string();
        let Fetched::Bytes(bytes) = export.read(&path, TILE_BYTES_MAX) else { return None };
        let (hashes, rest) = bytes.as_chunks::<32>();
        if hashes.len() != usize::from(bundle.width) || !rest.is_empty() {
            return None;
        }
        let leaves: Vec<Hash> = hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect();
        let after = walk.size() + leaves.len() as u64;
        let met: Vec<Pin> = std::iter::from_fn(|| pins.next_if(|pin| pin.size <= after)).collect();
        walk.push(&leaves, subtree(&leaves), met);
    }
    Some(walk.finish())
}
