//! C2SP tlog-tiles: the tree cut into tiles of 256 hashes and the entries into bundles of 256, and the paths they are served
//! under. A tile on level `L` holds the hashes on level `8·L` of the tree; the levels in between are recomputed from them.
//! Tiles are read as untrusted bytes: their shape is checked here, their hashes only by comparing a root.

use super::{
    hash::{Hash, TreeSize, node_hash},
    tree::HashReader,
};
use std::{cell::RefCell, collections::VecDeque, fmt, rc::Rc, str::FromStr};

/// How many hashes a full tile holds, and how many entries a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// How many levels of the tree one tile spans: `2^8 = 256`.
const TILE_HEIGHT: u8 = 8;

/// How many tiles [`TileHashes`] keeps. A proof climbs through at most eight tiles and looks to the right edge, so this serves
/// one walk, and walks through neighbouring leaves, without fetching a tile twice.
const CACHED_TILES: usize = 16;

/// Which tile: its level (0 for leaf hashes) and its index on that level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// The tile's level: it holds hashes on level `8·level` of the tree.
    pub level: u8,
    /// The tile's index on its level, from 0.
    pub index: u64,
}

impl TileId {
    /// The tile that holds a node of the tree, the position of the node's first hash in it, and how many of the tile's hashes
    /// (a power of two, 1 to 128) the node stands over. `None` for a node that no tree of fewer than 2⁶⁴ leaves has.
    pub fn of_node(level: u8, index: u64) -> Option<(Self, u16, u16)> {
        let height = level % TILE_HEIGHT;
        let first = index.checked_mul(1 << height)?;
        let id = Self { level: level / TILE_HEIGHT, index: first / u64::from(TILE_WIDTH) };
        (level < 64).then_some((id, (first % u64::from(TILE_WIDTH)) as u16, 1 << height))
    }

    /// How many hashes the tile holds in a tree of that size: 0 (there is no such tile yet) to 256.
    pub fn width(self, size: TreeSize) -> u16 {
        let hashes = hashes_on(self.level, size.get());
        let before = self.index.saturating_mul(u64::from(TILE_WIDTH));
        hashes.saturating_sub(before).min(u64::from(TILE_WIDTH)) as u16
    }
}

/// How many hashes the tiles of a level hold together.
fn hashes_on(tile_level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(tile_level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
}

/// The path of a tile: `tile/<L>/<N>`, and for a partial one `tile/<L>/<N>.p/<W>`.
///
/// ```
/// use countersign_ledger::tlog::{TileId, TilePath};
/// let path = TilePath { id: TileId { level: 0, index: 1_234_067 }, width: 112 };
/// assert_eq!(path.to_string(), "tile/0/x001/x234/067.p/112");
/// assert_eq!(path.to_string().parse(), Ok(path));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    /// The tile.
    pub id: TileId,
    /// How many hashes it holds: 1 to 255 where it is partial, 256 where it is full.
    pub width: u16,
}

/// The path of a bundle of entries: `tile/entries/<N>`, and for a partial one `tile/entries/<N>.p/<W>`. Bundle `N` holds the
/// entries of the hashes in tile `N` of level 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundlePath {
    /// The index of the bundle, from 0.
    pub index: u64,
    /// How many entries it holds: 1 to 255 where it is partial, 256 where it is full.
    pub width: u16,
}

/// A path that is not one of tlog-tiles'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a tile path: found `{found}`, required {required}")]
pub struct PathError {
    /// The path, escaped and cut after 100 characters.
    pub found: String,
    /// The form it must have.
    pub required: &'static str,
}

impl PathError {
    fn new(found: &str, required: &'static str) -> Self {
        Self { found: found.escape_debug().take(100).collect(), required }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.id.level)?;
        write_tail(f, self.id.index, self.width)
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tile/entries/")?;
        write_tail(f, self.index, self.width)
    }
}

impl FromStr for TilePath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        let parse = || {
            let (level, tail) = path.strip_prefix("tile/")?.split_once('/')?;
            let level = level.parse().ok().filter(|level| *level < 64)?;
            let (index, width) = parse_tail(tail)?;
            Some(Self { id: TileId { level, index }, width })
        };
        // Comparing with what we would have written leaves each tile one spelling: no leading zeros, no signs.
        parse()
            .filter(|parsed| parsed.to_string() == path)
            .ok_or_else(|| PathError::new(path, "`tile/<0 to 63>/<index>` with an optional `.p/<1 to 255>`"))
    }
}

impl FromStr for BundlePath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        path.strip_prefix("tile/entries/")
            .and_then(parse_tail)
            .map(|(index, width)| Self { index, width })
            .filter(|parsed| parsed.to_string() == path)
            .ok_or_else(|| PathError::new(path, "`tile/entries/<index>` with an optional `.p/<1 to 255>`"))
    }
}

/// `<N>[.p/<W>]`, with `N` in groups of three digits, all but the last marked with an `x`.
fn write_tail(f: &mut fmt::Formatter<'_>, index: u64, width: u16) -> fmt::Result {
    let mut divisor = 1;
    while index / divisor >= 1000 {
        divisor *= 1000;
    }
    while divisor > 1 {
        write!(f, "x{:03}/", index / divisor % 1000)?;
        divisor /= 1000;
    }
    write!(f, "{:03}", index % 1000)?;
    if width < TILE_WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
}

fn parse_tail(tail: &str) -> Option<(u64, u16)> {
    let (index, width) = match tail.split_once(".p/") {
        Some((index, width)) => (index, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?),
        None => (tail, TILE_WIDTH),
    };
    let index = index.split('/').try_fold(0u64, |index, group| {
        let digits = group.strip_prefix('x').unwrap_or(group);
        index.checked_mul(1000)?.checked_add(digits.parse().ok().filter(|group| *group < 1000)?)
    })?;
    Some((index, width))
}

/// All hash tiles of a tree of that size, level by level from the leaves, each level ending in its partial tile if it has one.
pub fn tiles_for_size(size: TreeSize) -> impl Iterator<Item = TilePath> {
    (0..8).flat_map(move |level| {
        widths(hashes_on(level, size.get())).map(move |(index, width)| TilePath { id: TileId { level, index }, width })
    })
}

/// All entry bundles of a tree of that size, ending in the partial one if there is one.
pub fn bundles_for_size(size: TreeSize) -> impl Iterator<Item = BundlePath> {
    widths(size.get()).map(|(index, width)| BundlePath { index, width })
}

/// Cuts so many items into groups of 256: each group's index and how many items it has.
fn widths(items: u64) -> impl Iterator<Item = (u64, u16)> {
    let width = u64::from(TILE_WIDTH);
    (0..items.div_ceil(width)).map(move |index| (index, (items - index * width).min(width) as u16))
}

/// Where tiles come from: a folder, a column family, a server.
pub trait TileReader {
    /// What can go wrong in reading.
    type Error;

    /// The tile's hashes, 32 bytes each, `width` of them (1 to 256). A partial tile is a prefix of its fuller self, so a
    /// reader may answer with more.
    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<u8>, Self::Error>;
}

impl<R: TileReader + ?Sized> TileReader for &R {
    type Error = R::Error;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<u8>, R::Error> {
        (**self).tile(level, index, width)
    }
}

/// Why a hash cannot be had from tiles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError<E> {
    /// The tile could not be read.
    #[error(transparent)]
    Read(#[from] E),
    /// The tile holds too few hashes, or a part of one, or more than a tile can.
    #[error("wrong length of `{path}`: found {found} bytes, required {required}, or more up to 8192 in whole hashes")]
    Length {
        /// The tile.
        path: TilePath,
        /// Its length, in bytes.
        found: usize,
        /// The length it must at least have, in bytes.
        required: usize,
    },
    /// The node is not complete in the tree.
    #[error("node {index} on level {level} is not complete in a tree of size {size}")]
    Incomplete {
        /// The node's level in the tree, 0 for leaves.
        level: u8,
        /// The node's index on its level.
        index: u64,
        /// The size of the tree.
        size: TreeSize,
    },
}

/// The hashes of a tree of a given size, read from its tiles; the last few tiles are kept.
///
/// The hashes are as trustworthy as the tiles: a verifier compares [`root`](super::tree::root) with a signed one, and proofs
/// made from here with [`verify_inclusion`](super::tree::verify_inclusion).
pub struct TileHashes<R> {
    reader: R,
    size: TreeSize,
    // The most recently used tile last.
    cache: RefCell<VecDeque<(TileId, Tile)>>,
}

type Tile = Rc<[Hash]>;

impl<R: TileReader> TileHashes<R> {
    /// Reads the tiles of a tree of that size.
    pub fn new(reader: R, size: TreeSize) -> Self {
        Self { reader, size, cache: RefCell::default() }
    }

    /// The size of the tree.
    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// The hashes of one tile, as many as it holds in this tree; none where this tree has no such tile.
    pub fn tile(&self, id: TileId) -> Result<Rc<[Hash]>, TileError<R::Error>> {
        let width = id.width(self.size);
        if width == 0 {
            return Ok(Rc::default());
        }
        let mut cache = self.cache.borrow_mut();
        let known = cache.iter().position(|(cached, _)| *cached == id).and_then(|at| cache.remove(at));
        let (_, tile) = match known {
            Some(known) => known,
            None => {
                let bytes = self.reader.tile(id.level, id.index, width)?;
                let (hashes, rest) = bytes.as_chunks::<32>();
                let held = hashes.get(..usize::from(width));
                match held.filter(|_| rest.is_empty() && hashes.len() <= usize::from(TILE_WIDTH)) {
                    Some(hashes) => (id, hashes.iter().copied().map(Hash::from_bytes).collect()),
                    None => {
                        let (found, required) = (bytes.len(), usize::from(width) * 32);
                        return Err(TileError::Length { path: TilePath { id, width }, found, required });
                    }
                }
            }
        };
        if cache.len() == CACHED_TILES {
            cache.pop_front();
        }
        cache.push_back((id, Rc::clone(&tile)));
        Ok(tile)
    }
}

impl<R: TileReader> HashReader for TileHashes<R> {
    type Error = TileError<R::Error>;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        let incomplete = TileError::Incomplete { level, index, size: self.size };
        let Some((id, first, count)) = TileId::of_node(level, index) else { return Err(incomplete) };
        let tile = self.tile(id)?;
        let first = usize::from(first);
        let mut hashes = tile.get(first..first + usize::from(count)).ok_or(incomplete)?.to_vec();
        // `count` is a power of two: pairs all the way up, to the one hash of the node.
        while let (pairs @ [_, ..], _) = hashes.as_chunks::<2>() {
            hashes = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
        }
        hashes.first().copied().ok_or(TileError::Incomplete { level, index, size: self.size })
    }
}

/// Why bytes are no bundle, or entries don't make one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// An entry longer than its length field can say.
    #[error("entry {position} of the bundle is too long: found {found} bytes, required at most 65535")]
    EntryTooLong {
        /// Where the entry stands in the bundle, from 0.
        position: usize,
        /// Its length, in bytes.
        found: usize,
    },
    /// More entries than a bundle holds.
    #[error("too many entries in the bundle: found {found}, required at most 256")]
    TooManyEntries {
        /// How many there are (or, in reading, how many were read before giving up).
        found: usize,
    },
    /// The bytes end within an entry or its length.
    #[error("the bundle is cut off in entry {position}: found {found} bytes, required {required}")]
    CutOff {
        /// Where the entry stands in the bundle, from 0.
        position: usize,
        /// How many bytes are left for the entry, its two-byte length included.
        found: usize,
        /// How many bytes it needs, its two-byte length included.
        required: usize,
    },
}

/// A bundle of at most 256 entries: each entry's length in two bytes, big-endian, then the entry.
pub fn encode_bundle<B: AsRef<[u8]>>(entries: &[B]) -> Result<Vec<u8>, BundleError> {
    if entries.len() > usize::from(TILE_WIDTH) {
        return Err(BundleError::TooManyEntries { found: entries.len() });
    }
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| 2 + entry.as_ref().len()).sum());
    for (position, entry) in entries.iter().map(AsRef::as_ref).enumerate() {
        let found = entry.len();
        let length = u16::try_from(found).map_err(|_| BundleError::EntryTooLong { position, found })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// The entries of a bundle, in order. Whether they are as many as its path says is the caller's to check.
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (position, found) = (entries.len(), rest.len());
        if position == usize::from(TILE_WIDTH) {
            return Err(BundleError::TooManyEntries { found: position + 1 });
        }
        let cut_off = |required| BundleError::CutOff { position, found, required };
        let (length, tail) = rest.split_first_chunk::<2>().ok_or(cut_off(2))?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, tail) = tail.split_at_checked(length).ok_or(cut_off(2 + length))?;
        entries.push(entry);
        rest = tail;
    }
    Ok(entries)
}
