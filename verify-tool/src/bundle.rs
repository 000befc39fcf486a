//! One bundle of 256 entries, as far as it can be judged by itself: read, split, hashed, held against its tile, its entries
//! decoded, the checkpoints that were published within it opened. This is most of the work of a walk, and all cores share it;
//! what needs an order is done in [`log`](crate::log), by one.

use crate::export::{BUNDLE_BYTES_MAX, Export, Fetched, NOTE_BYTES_MAX, TILE_BYTES_MAX};
use crate::finding::{Code, Finding, Place};
use crate::log::{open_note, signed_by};
use crate::story::place_of;
use crate::tree::{Pin, lowest, subtree};
use countersign_ledger::evidence::{Entry, EntryError};
use countersign_ledger::tlog::{
    BundleError, BundlePath, Epochs, Hash, TILE_WIDTH, TreeSize, bundles_for_size, decode_bundle, leaf_hash,
};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::Builder;

/// How many finished bundles wait for their turn, for each thread.
const WAITING_MAX: usize = 4;

/// What has to be done with each bundle.
#[derive(Debug)]
pub struct Task<'a> {
    /// Where from.
    pub export: &'a Export,
    /// Whose checkpoints.
    pub keys: &'a Epochs,
    /// The sizes of the published checkpoints, ascending.
    pub published: &'a [u64],
    /// Whether entries are decoded.
    pub decode: bool,
}

/// An entry whose leaf hash is not the one in its tile.
#[derive(Clone, Debug)]
pub struct LeafDiff {
    /// The entry.
    pub place: Place,
    /// Its leaf hash.
    pub entry: Hash,
    /// What the tile holds.
    pub tile: Hash,
    /// The tile.
    pub path: String,
}

/// A bundle, prepared.
#[derive(Debug)]
pub struct Bundle {
    /// Which.
    pub path: BundlePath,
    bytes: Vec<u8>,
    /// Where each entry stands in `bytes`.
    entries: Vec<(usize, usize)>,
    /// The entries, where they are decoded.
    pub decoded: Vec<Result<Entry, EntryError>>,
    /// The leaf hashes: of the entry, or where there is none what the tile holds. As many as the bundle should have entries, or
    /// fewer where the next is not known from either.
    pub leaves: Vec<Hash>,
    /// The hash over all 256 leaves, where the bundle is full.
    pub subtree: Option<Hash>,
    /// Leaves that differ from the tile's.
    pub diffs: Vec<LeafDiff>,
    /// The published checkpoints at sizes that this bundle leads to, or what is wrong with each.
    pub published: Vec<Result<Pin, Finding>>,
    /// What else is wrong.
    pub findings: Vec<Finding>,
    /// There is no such file.
    pub missing: bool,
}

impl Bundle {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of the entry at that position.
    pub fn entry(&self, slot: usize) -> Option<&[u8]> {
        let (from, to) = *self.entries.get(slot)?;
        self.bytes.get(from..to)
    }
}

impl Task<'_> {
    /// Prepares a bundle.
    pub fn prepare(&self, path: BundlePath) -> Bundle {
        let width = usize::from(path.width);
        let mut bundle = Bundle {
            path,
            bytes: Vec::new(),
            entries: Vec::new(),
            decoded: Vec::new(),
            leaves: Vec::with_capacity(width),
            subtree: None,
            diffs: Vec::new(),
            published: Vec::new(),
            findings: Vec::new(),
            missing: false,
        };
        if let Some(bytes) = self.fetch(path.to_string(), BUNDLE_BYTES_MAX, &mut bundle.findings) {
            let (entries, error) = split(&bytes);
            if entries.len() != width || error.is_some() {
                let found = error.map_or_else(|| format!("{} entries", entries.len()), |e| e.to_string());
                let expected = format!("{width} entries");
                let place = Place::file(path);
                bundle.findings.push(Finding::new(Code::BundleMalformed, place, found, expected));
            }
            bundle.entries = entries;
            bundle.entries.truncate(width);
            bundle.bytes = bytes;
        } else {
            bundle.missing = true;
        }
        self.hash(&mut bundle);
        if self.decode {
            let mut decoded = Vec::with_capacity(bundle.len());
            decoded.extend((0..bundle.len()).filter_map(|slot| bundle.entry(slot)).map(Entry::decode));
            bundle.decoded = decoded;
        }
        let before = path.index * u64::from(TILE_WIDTH);
        bundle.published = self.published(before + 1, before + width as u64, &mut bundle.findings);
        bundle
    }

    /// Hashes the entries and holds them against the tile. Where an entry is missing the tile stands in: if it leads to the
    /// signed root, the other entries are proven nevertheless.
    fn hash(&self, bundle: &mut Bundle) {
        let path = lowest(bundle.path.index, bundle.path.width).to_string();
        let width = usize::from(bundle.path.width);
        let tile = self.fetch(path.clone(), TILE_BYTES_MAX, &mut bundle.findings);
        if let Some(found) = tile.as_ref().map(Vec::len).filter(|found| *found != width * 32) {
            let (found, expected) = (format!("{found} bytes"), format!("{} bytes", width * 32));
            bundle.findings.push(Finding::new(Code::TileAltered, Place::file(&path), found, expected));
        }
        let tile = tile.as_deref().unwrap_or_default().as_chunks::<32>().0;
        for slot in 0..width {
            let held = tile.get(slot).map(|hash| Hash::from_bytes(*hash));
            let leaf = bundle.entry(slot).map(leaf_hash);
            if let Some(((entry, tile), bytes)) = leaf.zip(held).zip(bundle.entry(slot))
                && entry != tile
            {
                let place = place_of(bundle.path.index * u64::from(TILE_WIDTH) + slot as u64, bytes);
                bundle.diffs.push(LeafDiff { place, entry, tile, path: path.clone() });
            }
            let Some(leaf) = leaf.or(held) else { break };
            bundle.leaves.push(leaf);
        }
        bundle.subtree = subtree(&bundle.leaves);
    }

    /// The published checkpoints of the sizes from `from` to `to`, or what is wrong with each.
    pub fn published(&self, from: u64, to: u64, findings: &mut Vec<Finding>) -> Vec<Result<Pin, Finding>> {
        let from = self.published.partition_point(|size| *size < from);
        let until = self.published.partition_point(|size| *size <= to);
        let sizes = self.published.get(from..until).unwrap_or_default();
        sizes.iter().filter_map(|size| self.open(*size, findings)).collect()
    }

    /// A published checkpoint.
    fn open(&self, size: u64, findings: &mut Vec<Finding>) -> Option<Result<Pin, Finding>> {
        let file = format!("checkpoints/{size}");
        let note = self.fetch(file.clone(), NOTE_BYTES_MAX, findings)?;
        let place = Place::file(&file);
        let opened = open_note(&note, self.keys, place, Code::PublishedCheckpoint).and_then(|opened| {
            let (found, root) = (opened.checkpoint().size, opened.checkpoint().root);
            if found.get() == size {
                return Ok(Pin { file: file.clone(), size, root, note });
            }
            let (place, found) = (Place::file(&file), format!("a checkpoint of size {found}"));
            let expected = format!("{}, of size {size}", signed_by(self.keys));
            Err(Box::new(Finding::new(Code::PublishedCheckpoint, place, found, expected)))
        });
        Some(opened.map_err(|finding| *finding))
    }
}

/// The entries of a bundle up to the first that is cut off, as where they stand, and what is wrong there.
pub fn split(bytes: &[u8]) -> (Vec<(usize, usize)>, Option<BundleError>) {
    let error = decode_bundle(bytes).err();
    let mut entries = Vec::with_capacity(usize::from(TILE_WIDTH));
    let mut at = 0;
    while entries.len() < usize::from(TILE_WIDTH)
        && let Some((length, tail)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<2>())
        && let length = usize::from(u16::from_be_bytes(*length))
        && length <= tail.len()
    {
        entries.push((at + 2, at + 2 + length));
        at += 2 + length;
    }
    (entries, error)
}

impl Task<'_> {
    fn fetch(&self, path: String, limit: u64, findings: &mut Vec<Finding>) -> Option<Vec<u8>> {
        match self.export.read(&path, limit) {
            Fetched::Bytes(bytes) => return Some(bytes),
            Fetched::Missing => {
                findings.push(Finding::new(Code::MissingFile, Place::file(path), "no such file", "a file"));
            }
            Fetched::Failed(why) => findings.push(Finding::new(Code::Unreadable, Place::file(path), why, "a file")),
        }
        None
    }
}

/// One thread's bundles: those that it has prepared, and the way back for those that are done with. What a thread has allocated
/// it frees best itself.
struct Lane {
    ready: Receiver<Bundle>,
    done: Sender<Bundle>,
}

/// Prepares all bundles of a tree of that size on all cores, and shows them in order until `take` has enough.
pub fn each(task: &Task<'_>, size: TreeSize, mut take: impl FnMut(&mut Bundle) -> bool) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        // Thread `n` prepares every `threads`-th bundle from the `n`-th on. The queues are short, so that memory is bounded.
        let lanes: Vec<Option<Lane>> = (0..threads)
            .map(|nth| {
                let (send, ready) = sync_channel(WAITING_MAX);
                let (done, returned) = channel();
                let work = move || {
                    for path in bundles_for_size(size).skip(nth).step_by(threads) {
                        returned.try_iter().for_each(drop);
                        // Nobody listens any more: enough.
                        if send.send(task.prepare(path)).is_err() {
                            return;
                        }
                    }
                };
                Builder::new().spawn_scoped(scope, work).ok().map(|_| Lane { ready, done })
            })
            .collect();
        for (path, lane) in bundles_for_size(size).zip(lanes.iter().cycle()) {
            // A thread that could not be had is no reason to give up.
            let ready = lane.as_ref().and_then(|lane| lane.ready.recv().ok());
            let mut bundle = ready.unwrap_or_else(|| task.prepare(path));
            if !take(&mut bundle) {
                return;
            }
            if let Some(lane) = lane {
                // Whoever has ended needs nothing back.
                let _ = lane.done.send(bundle);
            }
        }
    });
}
