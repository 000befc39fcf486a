//! Reading back what was written, before it is signed: one flipped bit between hashing and storing ended a public log in 2021.
//! The root is recomputed from what the store gives, by other code than the frontier's, for the new size and for the one last
//! signed. Opening runs the same checks over the end of the store.
//!
//! A read right after a write is answered from RocksDB's memory; what happens to the bytes on the disk afterwards is the affair
//! of its block checksums, and of the next opening.

use super::{
    db::{Db, edge_tiles},
    error::StoreError,
};
use crate::tlog::{
    EMPTY_ROOT, Hash, HashReader, TILE_WIDTH, TileHashes, TileId, TilePath, TreeSize, leaf_hash, node_hash, root,
};
use std::ops::Range;

type Tiles<'a> = TileHashes<&'a Db>;

/// Checks what a group has added, `old.0 .. size`: every entry against its leaf hash in the tiles, every hash on a higher tile
/// against the tile below it, and that the tiles still give the root `old.1` at size `old.0`. Gives the root at the new size.
pub(super) fn read_back(db: &Db, old: (u64, Hash), size: u64) -> Result<Hash, StoreError> {
    let tiles = TileHashes::new(db, TreeSize::new(size));
    leaves(db, &tiles, old.0..size)?;
    parents(&tiles, old.0..size)?;
    match root(&tiles, TreeSize::new(old.0))? {
        found if found == old.1 => Ok(root(&tiles, TreeSize::new(size))?),
        found => Err(differs(db, &tiles, old.0, found, old.1)),
    }
}

/// Checks the end of a store of that size and root: the widths of the last tiles, the last 256 entries, the hashes above them,
/// and the root.
pub(super) fn check_edge(db: &Db, size: u64, expected: Hash) -> Result<(), StoreError> {
    let tiles = TileHashes::new(db, TreeSize::new(size));
    for (id, width) in edge_tiles(size) {
        let found = crate::tlog::TileReader::tile(db, id.level, id.index, width)?.len();
        let required = usize::from(width) * 32;
        if found != required {
            let path = TilePath { id, width };
            return Err(StoreError::Damaged(format!(
                "`{path}`: found {found} bytes, required {required} at size {size}"
            )));
        }
    }
    let end = size.saturating_sub(256)..size;
    leaves(db, &tiles, end.clone())?;
    parents(&tiles, end)?;
    match root(&tiles, TreeSize::new(size))? {
        found if found == expected => Ok(()),
        found => Err(differs(db, &tiles, size, found, expected)),
    }
}

/// The root of the store's tiles at a size that they reach.
pub(super) fn root_at(db: &Db, size: u64) -> Result<Hash, StoreError> {
    Ok(root(&TileHashes::new(db, TreeSize::new(size)), TreeSize::new(size))?)
}

fn leaves(db: &Db, tiles: &Tiles<'_>, range: Range<u64>) -> Result<(), StoreError> {
    let width = u64::from(TILE_WIDTH);
    let mut tile = tiles.tile(TileId { level: 0, index: range.start / width })?;
    db.each_entry(range, |index, bytes| {
        let position = index % width;
        if position == 0 {
            tile = tiles.tile(TileId { level: 0, index: index / width })?;
        }
        let stored = usize::try_from(position).ok().and_then(|position| tile.get(position));
        let found = leaf_hash(bytes);
        match stored {
            Some(stored) if *stored == found => Ok(()),
            Some(stored) => {
                Err(StoreError::Damaged(format!("entry {index} hashes to {found}, its leaf in the tiles is {stored}")))
            }
            None => Err(StoreError::Damaged(format!("entry {index} has no leaf in the tiles"))),
        }
    })
}

/// Checks every hash on a higher tile that stands over a leaf of the range (and is complete) against the tile below.
fn parents(tiles: &Tiles<'_>, range: Range<u64>) -> Result<(), StoreError> {
    for level in 1..8u8 {
        let shift = 8 * u32::from(level);
        for index in range.start >> shift..range.end >> shift {
            parent(tiles, level, index)?;
        }
    }
    Ok(())
}

/// Checks the hash at `index` of the tiles on `level` against the full tile below that it stands for.
fn parent(tiles: &Tiles<'_>, level: u8, index: u64) -> Result<(), StoreError> {
    let below = TileId { level: level - 1, index };
    let mut hashes = tiles.tile(below)?.to_vec();
    while let (pairs @ [_, ..], _) = hashes.as_chunks::<2>() {
        hashes = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    let found = hashes.first().copied().unwrap_or(EMPTY_ROOT);
    let stored = tiles.hash(8 * level, index)?;
    if found == stored {
        return Ok(());
    }
    let above = TileId { level, index: index / u64::from(TILE_WIDTH) };
    let (above, below) = (TilePath { id: above, width: TILE_WIDTH }, TilePath { id: below, width: TILE_WIDTH });
    let position = index % u64::from(TILE_WIDTH);
    Err(StoreError::Damaged(format!("hash {position} of `{above}` is {stored}, `{below}` comes to {found}")))
}

/// Why the tiles give another root: looks at every tile that the root depends on for the first one that contradicts what it
/// was made from. Reads up to 256 tiles a level, so only once something is wrong.
pub(super) fn differs(db: &Db, tiles: &Tiles<'_>, size: u64, found: Hash, required: Hash) -> StoreError {
    let search = || {
        let last = size >> 8 << 8;
        leaves(db, tiles, last..size)?;
        for level in 1..8u8 {
            let end = size >> (8 * u32::from(level));
            for index in end >> 8 << 8..end {
                parent(tiles, level, index)?;
            }
        }
        Ok(())
    };
    match search() {
        Err(e) => e,
        Ok(()) => StoreError::Damaged(format!(
            "at size {size} the stored tiles come to the root {found}, required {required}"
        )),
    }
}
