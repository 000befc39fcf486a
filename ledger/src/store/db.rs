//! The store's column families and what stands in them. All integers are big-endian, so that keys sort as they count.
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | `meta` | a word, see [`Meta`] | size, root, frontier, and what else opening needs; in every batch |
//! | `entry` | index (8) | the entry's canonical bytes |
//! | `tile` | level (1), index (8) | the tile's hashes, 32 bytes each; a partial tile grows in place |
//! | `idem` | digest of an append (32) | index of its first entry (8), number of entries (4) |
//! | `trace` | trace (32) | [`TraceHead`](super::TraceHead) |
//! | `checkpoint` | size (8) | a published checkpoint, the signed note |
//! | `payload` | commitment (32) | index of the first entry of its append (8), the sealed record |
//!
//! **The WAL's recovery mode is `TolerateCorruptedTailRecords`.** A record cut off at the log's end is what a crash in the middle
//! of a write leaves: nothing in it was answered, so it is dropped. Damage anywhere before the end can only have hit what was
//! synced, and refuses to open. `PointInTime`, RocksDB's default, would drop everything from such damage on and open as if
//! nothing had been lost; `AbsoluteConsistency` would refuse after every torn tail. What the mode might still drop wrongly,
//! `HEAD` notices. `docs/decisions/0006` says what each kind of damage comes to.

use super::error::StoreError;
use crate::evidence::Commitment;
use crate::tlog::{Epochs, Frontier, Hash, TileId, TilePath, TileReader, TreeSize};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompactionStyle, DBCompressionType, DBRecoveryMode, Direction, FlushOptions, IteratorMode, Options, WriteBatch,
    WriteOptions, checkpoint::Checkpoint,
};
use std::{
    fs::{File, TryLockError},
    ops::Range,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Meta,
    Entry,
    Tile,
    Idem,
    Trace,
    Checkpoint,
    Payload,
}

impl Family {
    const ALL: [Self; 7] =
        [Self::Meta, Self::Entry, Self::Tile, Self::Idem, Self::Trace, Self::Checkpoint, Self::Payload];

    const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Entry => "entry",
            Self::Tile => "tile",
            Self::Idem => "idem",
            Self::Trace => "trace",
            Self::Checkpoint => "checkpoint",
            Self::Payload => "payload",
        }
    }

    /// Hashes don't compress, and families that are asked for what they don't have get a filter that says so without a read.
    fn options(self, cache: &Cache) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        let mut options = Options::default();
        options.set_compression_type(match self {
            Self::Tile | Self::Idem | Self::Payload => DBCompressionType::None,
            _ => DBCompressionType::Lz4,
        });
        match self {
            Self::Entry => options.set_bottommost_compression_type(DBCompressionType::Zstd),
            Self::Idem | Self::Trace | Self::Payload => {
                blocks.set_bloom_filter(10.0, false);
                // The same in memory: an append looks for two records that most often are not there.
                options.set_memtable_whole_key_filtering(true);
                options.set_memtable_prefix_bloom_ratio(0.02);
            }
            _ => (),
        }
        if matches!(self, Self::Idem | Self::Trace) {
            // Their keys are hashes, so that what is new falls everywhere among what is old. Merging runs of like size rewrites a
            // record as often as the family doubles; rewriting levels would cost several times that as the ledger grows. Payloads
            // are fewer, and a purge of theirs must not need their room twice.
            options.set_compaction_style(DBCompactionStyle::Universal);
        }
        options.set_block_based_table_factory(&blocks);
        options
    }
}

/// Keys of the family `meta`.
pub(super) struct Meta;

impl Meta {
    /// The format of this store, `1`.
    pub(super) const FORMAT: &[u8] = b"format";
    /// The log's verifier keys, whose name is the origin: the text of its [`Epochs`].
    pub(super) const KEY: &[u8] = b"key";
    /// 8 hexadecimal digits, random at creation: the first half of every entry's `src`.
    pub(super) const INSTANCE: &[u8] = b"instance";
    /// How often the ledger was opened for appending (8 bytes): the second half of `src`.
    pub(super) const EPOCH: &[u8] = b"epoch";
    /// How many entries there are (8 bytes).
    pub(super) const SIZE: &[u8] = b"size";
    /// The root of their tree (32 bytes).
    pub(super) const ROOT: &[u8] = b"root";
    /// The tree's right edge ([`Frontier::to_bytes`]).
    pub(super) const FRONTIER: &[u8] = b"frontier";
    /// How many entries there were before the last group (8 bytes): `HEAD` names this size or the present one.
    pub(super) const BASE: &[u8] = b"base";
    /// The traces that were open at some size: the size (8), then trace (32) and index of its first entry (8) each. Written now
    /// and then, so that opening need not look through all traces.
    pub(super) const OPEN: &[u8] = b"open";
}

/// The format of this store.
pub(super) const FORMAT: &[u8] = b"1";

type Read<T> = Result<T, StoreError>;
type KeyValue = (Box<[u8]>, Box<[u8]>);
type IndexAndEntry = (u64, Box<[u8]>);

/// The database.
pub(super) struct Db {
    db: DB,
    // Held as long as the database is open for writing; dropped after it.
    _lock: Option<File>,
}

fn failed(doing: &'static str) -> impl FnOnce(rocksdb::Error) -> StoreError {
    move |e| StoreError::Db { doing, cause: e.into_string() }
}

fn base_options() -> Options {
    let mut options = Options::default();
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // The mode tolerates a cut tail in every log, and only the newest can have one: this holds the others against their synced
    // sizes, and notices a log that is gone.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    options
}

/// Makes sure that nobody else has the database open. RocksDB has a lock of its own, and takes it only after it has renamed and
/// removed its log files, those of the other process.
///
/// A lock that was just let go can still be held for an instant by a child that this process is starting, between its fork and
/// its exec: so it is tried for a moment.
fn lock_folder(path: &Path) -> Result<File, StoreError> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let folder = File::open(path).map_err(StoreError::io("open", path))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(path.to_owned())),
            Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", path)(e)),
        }
    }
}

impl Db {
    /// Opens the database in `path`, or creates it there (`create`).
    pub(super) fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        match (path.join("CURRENT").exists(), create) {
            (true, true) => return Err(StoreError::Exists(path.to_owned())),
            (false, false) => return Err(StoreError::Missing(path.to_owned())),
            _ => (),
        }
        let lock = Some(lock_folder(path)?);
        let mut options = base_options();
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        // Opening replays the log: its length bounds the time that takes.
        options.set_max_total_wal_size(64 << 20);
        options.set_db_write_buffer_size(64 << 20);
        options.set_max_open_files(512);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(4 << 20);
        let cache = Cache::new_lru_cache(64 << 20);
        let families = Family::ALL.map(|f| ColumnFamilyDescriptor::new(f.name(), f.options(&cache)));
        match DB::open_cf_descriptors(&options, path, families) {
            Ok(db) => Ok(Self { db, _lock: lock }),
            // RocksDB has no error kind of its own for this.
            Err(e) if e.as_ref().contains("/LOCK") => Err(StoreError::Locked(path.to_owned())),
            Err(e) => Err(failed("open the database")(e)),
        }
    }

    /// Opens the database to read what it holds now, also while another process writes to it.
    pub(super) fn open_reading(path: &Path) -> Result<Self, StoreError> {
        if !path.join("CURRENT").exists() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        let options = base_options();
        let cache = Cache::new_lru_cache(64 << 20);
        let families = Family::ALL.map(|f| ColumnFamilyDescriptor::new(f.name(), f.options(&cache)));
        let db = DB::open_cf_descriptors_read_only(&options, path, families, false);
        Ok(Self { db: db.map_err(failed("open the database for reading"))?, _lock: None })
    }

    /// Its folder.
    pub(super) fn path(&self) -> &Path {
        self.db.path()
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        let missing = || StoreError::Damaged(format!("the column family `{}` is missing", family.name()));
        self.db.cf_handle(family.name()).ok_or_else(missing)
    }

    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(family)?, key).map_err(failed("read the database"))
    }

    /// The value of a key of `meta` that every store has.
    pub(super) fn meta(&self, key: &[u8]) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::Damaged(format!("`{}` is missing", String::from_utf8_lossy(key)));
        self.get(Family::Meta, key)?.ok_or_else(missing)
    }

    /// A value of `meta` that is a number.
    pub(super) fn meta_number(&self, key: &[u8]) -> Result<u64, StoreError> {
        let bytes = self.meta(key)?;
        number(&bytes).ok_or_else(|| {
            let key = String::from_utf8_lossy(key);
            StoreError::Damaged(format!("`{key}`: found {} bytes, required 8", bytes.len()))
        })
    }

    pub(super) fn entry(&self, index: u64) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::Damaged(format!("entry {index} is missing"));
        self.get(Family::Entry, &index.to_be_bytes())?.ok_or_else(missing)
    }

    /// The entries of a range in order, each with its index. A missing one is an error.
    pub(super) fn entries(&self, range: Range<u64>) -> Result<impl Iterator<Item = Read<IndexAndEntry>>, StoreError> {
        let start = range.start.to_be_bytes();
        let mut stored =
            self.db.iterator_cf(self.family(Family::Entry)?, IteratorMode::From(&start, Direction::Forward));
        Ok(range.map(move |index| match stored.next().transpose().map_err(failed("read the entries"))? {
            Some((key, bytes)) if number(&key) == Some(index) => Ok((index, bytes)),
            _ => Err(StoreError::Damaged(format!("entry {index} is missing"))),
        }))
    }

    /// Hands over the entries of a range in order, where they stand. A missing one is an error.
    pub(super) fn each_entry(&self, range: Range<u64>, mut each: impl FnMut(u64, &[u8]) -> Read<()>) -> Read<()> {
        let mut stored = self.db.raw_iterator_cf(self.family(Family::Entry)?);
        stored.seek(range.start.to_be_bytes());
        for index in range {
            match stored.item() {
                Some((key, bytes)) if number(key) == Some(index) => each(index, bytes)?,
                _ => {
                    stored.status().map_err(failed("read the entries"))?;
                    return Err(StoreError::Damaged(format!("entry {index} is missing")));
                }
            }
            stored.next();
        }
        Ok(())
    }

    /// Hands over everything in a family, in the order of its keys, where it stands.
    pub(super) fn each(&self, family: Family, mut each: impl FnMut(&[u8], &[u8]) -> Read<()>) -> Read<()> {
        let mut stored = self.db.raw_iterator_cf(self.family(family)?);
        stored.seek_to_first();
        while let Some((key, value)) = stored.item() {
            each(key, value)?;
            stored.next();
        }
        stored.status().map_err(failed("read the database"))
    }

    /// Rewrites the payloads' tables, so that what was removed from them takes no more room on the disk.
    pub(super) fn compact_payloads(&self) -> Result<(), StoreError> {
        // With the tables of all families written, no log holds a payload either.
        self.flush()?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.family(Family::Payload)?, None::<&[u8]>, None::<&[u8]>, &options);
        Ok(())
    }

    /// Everything in a family, in the order of its keys.
    pub(super) fn all(&self, family: Family) -> Result<impl Iterator<Item = Read<KeyValue>>, StoreError> {
        let stored = self.db.iterator_cf(self.family(family)?, IteratorMode::Start);
        Ok(stored.map(|item| item.map_err(failed("read the database"))))
    }

    /// Everything in a family, from its last key to its first.
    pub(super) fn all_backwards(&self, family: Family) -> Result<impl Iterator<Item = Read<KeyValue>>, StoreError> {
        let stored = self.db.iterator_cf(self.family(family)?, IteratorMode::End);
        Ok(stored.map(|item| item.map_err(failed("read the database"))))
    }

    /// Copies the database as it is now to a new folder; where it can, by links to files that never change.
    pub(super) fn copy_to(&self, folder: &Path) -> Result<(), StoreError> {
        let copied = Checkpoint::new(&self.db).and_then(|now| now.create_checkpoint(folder));
        copied.map_err(failed("copy the database"))
    }

    /// The last key and value of a family.
    pub(super) fn last(&self, family: Family) -> Result<Option<KeyValue>, StoreError> {
        let mut stored = self.db.iterator_cf(self.family(family)?, IteratorMode::End);
        stored.next().transpose().map_err(failed("read the database"))
    }

    /// The log's keys and the sizes that they sign.
    pub(super) fn epochs(&self) -> Result<Epochs, StoreError> {
        let text = self.meta(Meta::KEY)?;
        let epochs = str::from_utf8(&text).map_err(|e| e.to_string());
        let epochs = epochs.and_then(|text| Epochs::decode(text).map_err(|e| e.to_string()));
        epochs.map_err(|why| StoreError::Damaged(format!("`key`: {why}")))
    }

    /// The frontier, held against size and root, which are stored beside it.
    pub(super) fn frontier(&self) -> Result<Frontier, StoreError> {
        let frontier = Frontier::from_bytes(&self.meta(Meta::FRONTIER)?)?;
        let (size, root) = (self.meta_number(Meta::SIZE)?, self.meta(Meta::ROOT)?);
        if frontier.size().get() != size {
            let of = frontier.size();
            return Err(StoreError::Damaged(format!("the frontier is of size {of}, the store of size {size}")));
        }
        match Hash::try_from(root.as_slice()) {
            Ok(root) if root == frontier.root() => Ok(frontier),
            Ok(root) => {
                let of = frontier.root();
                Err(StoreError::Damaged(format!("at size {size} the frontier's root is {of}, the stored root {root}")))
            }
            Err(e) => Err(StoreError::Damaged(format!("`root`: {e}"))),
        }
    }

    /// Writes all of it at once; it is synced when this returns.
    pub(super) fn write(&self, writes: Writes) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(writes.0, &options).map_err(failed("write to the database"))
    }

    /// A batch to fill and write.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { db: self, writes: Writes::default() }
    }

    /// The size of each family's tables, in bytes.
    pub(super) fn table_bytes(&self) -> Read<Vec<(&'static str, u64)>> {
        let bytes = |family: Family| {
            let bytes = self.db.property_int_value_cf(self.family(family)?, "rocksdb.live-sst-files-size");
            Ok((family.name(), bytes.map_err(failed("read the size of the tables"))?.unwrap_or(0)))
        };
        Family::ALL.into_iter().map(bytes).collect()
    }

    /// Removes a record.
    #[cfg(test)]
    pub(super) fn remove(&self, family: Family, key: &[u8]) {
        self.db.delete_cf(self.family(family).unwrap(), key).unwrap();
    }

    /// Writes one family to tables, so that a new log begins while the old one is still needed.
    #[cfg(test)]
    pub(super) fn flush_one(&self, family: Family) {
        self.db.flush_cf(self.family(family).unwrap()).unwrap();
    }

    /// Writes what is in memory to tables, so that the log need not be replayed at the next opening.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let families = Family::ALL.iter().map(|f| self.family(*f)).collect::<Result<Vec<_>, _>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(failed("flush the database"))
    }
}

/// Writes that take effect together.
#[derive(Default)]
pub(super) struct Writes(WriteBatch);

impl Writes {
    pub(super) fn put(&mut self, db: &Db, family: Family, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.0.put_cf(db.family(family)?, key, value);
        Ok(())
    }
}

/// Writes that take effect together, and where they go.
pub(super) struct Batch<'a> {
    db: &'a Db,
    writes: Writes,
}

impl Batch<'_> {
    pub(super) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.writes.put(self.db, family, key, value)
    }

    /// Removes a payload: the only thing that is ever removed.
    pub(super) fn remove_payload(&mut self, commitment: &Commitment) -> Result<(), StoreError> {
        self.writes.0.delete_cf(self.db.family(Family::Payload)?, commitment.0.as_bytes());
        Ok(())
    }

    /// Writes all of it; it is synced when this returns.
    pub(super) fn write(self) -> Result<(), StoreError> {
        self.db.write(self.writes)
    }
}

/// The key of a tile.
pub(super) fn tile_key(id: TileId) -> [u8; 9] {
    let mut key = [id.level; 9];
    if let Some((_, index)) = key.split_first_mut() {
        index.copy_from_slice(&id.index.to_be_bytes());
    }
    key
}

/// A number as it is stored.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

impl TileReader for Db {
    type Error = StoreError;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<u8>, StoreError> {
        let id = TileId { level, index };
        let missing = || StoreError::Damaged(format!("`{}` is missing", TilePath { id, width }));
        self.get(Family::Tile, &tile_key(id))?.ok_or_else(missing)
    }
}

/// The right edge's tiles of a tree of that size: for each level that has a partial one, its id and width.
pub(super) fn edge_tiles(size: u64) -> impl Iterator<Item = (TileId, u16)> {
    (0..8u8).filter_map(move |level| {
        let index = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        let id = TileId { level, index };
        match id.width(TreeSize::new(size)) {
            0 => None,
            width => Some((id, width)),
        }
    })
}
