//! `countersign ledger fetch`: a copy of a ledger on another machine, over HTTP, that grows with it. Only entries are fetched: hashes
//! and root are computed from them here, and have to come to what the ledger's key has signed. Each new checkpoint thereby extends the
//! one before, which the copy holds.

use crate::client::Client;
use anyhow::{Context, bail};
use countersign_ledger::tlog::{
    Checkpoint, Frontier, Hash, Note, SignedCheckpoint, TILE_WIDTH, TileId, TilePath, TreeSize, VerifierKey,
    bundles_for_size, decode_bundle, leaf_hash, tiles_for_size,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The copy, as far as it goes.
pub(crate) struct Mirror {
    dir: PathBuf,
    frontier: Frontier,
    /// The last tile of each level: its index and hashes.
    edge: BTreeMap<u8, (u64, Vec<u8>)>,
    /// What was written and is not covered by a checkpoint yet.
    written: Vec<PathBuf>,
}

impl Mirror {
    /// Opens a copy, or begins one in an empty folder. What it holds is hashed again. Who signed its checkpoint doesn't matter, and may have
    /// been an earlier key: what the ledger's key signs next has to extend this very tree.
    pub(crate) fn open(dir: &Path, key: &VerifierKey) -> anyhow::Result<Self> {
        let mut copy =
            Self { dir: dir.to_owned(), frontier: Frontier::new(), edge: BTreeMap::new(), written: Vec::new() };
        let path = dir.join("checkpoint");
        if !path.exists() {
            if std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some()) {
                bail!("`{}` is not empty and holds no `checkpoint`", dir.display());
            }
            return Ok(copy);
        }
        let note = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let known = checkpoint(&note).with_context(|| format!("`{}`", path.display()))?;
        if known.origin != key.name() {
            bail!("`{}` holds a copy of `{}`, required `{}`", dir.display(), known.origin, key.name());
        }
        let size = known.size;
        for path in tiles_for_size(size).filter(|path| path.id.level == 0) {
            let file = dir.join(path.to_string());
            let hashes = std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
            let (hashes, rest) = hashes.as_chunks::<32>();
            if hashes.len() != usize::from(path.width) || !rest.is_empty() {
                bail!("`{}` does not hold {} hashes", file.display(), path.width);
            }
            // The tiles are there; only the last ones are needed again.
            for hash in hashes {
                copy.push(Hash::from_bytes(*hash), &mut |_, _| Ok(()))?;
            }
        }
        if copy.frontier.root() != known.root {
            bail!("the tiles in `{}` do not come to the root of its `checkpoint`", dir.display());
        }
        Ok(copy)
    }

    /// How many entries it holds.
    pub(crate) fn size(&self) -> TreeSize {
        self.frontier.size()
    }

    fn push(&mut self, leaf: Hash, full: &mut dyn FnMut(TileId, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (edge, width) = (&mut self.edge, u64::from(TILE_WIDTH));
        let mut done = Ok(());
        self.frontier.push_with(leaf, |level, index, hash| {
            if !level.is_multiple_of(8) || done.is_err() {
                return;
            }
            let tile = edge.entry(level / 8).or_default();
            if index.is_multiple_of(width) {
                *tile = (index / width, Vec::new());
            }
            tile.1.extend_from_slice(hash.as_bytes());
            if index % width == width - 1 {
                done = full(TileId { level: level / 8, index: tile.0 }, &tile.1);
            }
        });
        done
    }

    /// Extends the copy to what the ledger shows now; gives whether there was anything new.
    pub(crate) fn extend(&mut self, client: &Client, key: &VerifierKey) -> anyhow::Result<bool> {
        let note = client.bytes("/checkpoint", false)?;
        let signed = SignedCheckpoint::open(&note, key.name(), std::slice::from_ref(key))
            .context("the ledger's checkpoint; where its key was replaced, `ledger_key` has to be the new one")?;
        let (old, size) = (self.size(), signed.checkpoint().size);
        if size < old {
            bail!("the ledger shows {size} entries, this copy holds {old}: it was rolled back, or it is another one");
        }
        if size == old && self.frontier.root() != signed.checkpoint().root {
            bail!("at size {size} the ledger has another root than this copy: it tells two stories under one key");
        }
        if size > old {
            let before = (self.frontier.clone(), self.edge.clone());
            let fetched = self.fetch(client, &signed);
            if fetched.is_err() {
                (self.frontier, self.edge) = before;
                // Nothing of it is vouched for.
                self.written.drain(..).for_each(|path| drop(std::fs::remove_file(path)));
            }
            fetched?;
            self.written.clear();
        }
        write(&self.dir.join(format!("checkpoints/{size}")), &note)?;
        let (path, new) = (self.dir.join("checkpoint"), self.dir.join(".checkpoint.new"));
        write(&new, &note)?;
        std::fs::rename(&new, &path).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(size > old)
    }

    fn fetch(&mut self, client: &Client, signed: &SignedCheckpoint) -> anyhow::Result<()> {
        let (old, size) = (self.size().get(), signed.checkpoint().size);
        let dir = self.dir.clone();
        let mut written = Vec::new();
        let mut keep = |path: String, bytes: &[u8]| -> anyhow::Result<()> {
            let path = dir.join(path);
            // What is there already stays, also where the rest comes to nothing.
            if std::fs::read(&path).is_ok_and(|there| there == bytes) {
                return Ok(());
            }
            write(&path, bytes)?;
            written.push(path);
            Ok(())
        };
        let mut grow = || -> anyhow::Result<()> {
            for path in bundles_for_size(size) {
                let first = path.index * u64::from(TILE_WIDTH);
                if first + u64::from(path.width) <= old {
                    continue;
                }
                let bundle = client.bytes(&format!("/{path}"), true)?;
                let entries = decode_bundle(&bundle).with_context(|| format!("`{path}`"))?;
                if entries.len() != usize::from(path.width) {
                    bail!("`{path}` holds {} entries, required {}", entries.len(), path.width);
                }
                for (_, entry) in (first..).zip(entries).filter(|(index, _)| *index >= old) {
                    self.push(leaf_hash(entry), &mut |id, hashes| {
                        keep(TilePath { id, width: TILE_WIDTH }.to_string(), hashes)
                    })?;
                }
                keep(path.to_string(), &bundle)?;
            }
            for path in tiles_for_size(size).filter(|path| path.width < TILE_WIDTH) {
                let tile = self.edge.get(&path.id.level).filter(|(index, _)| *index == path.id.index);
                let (_, hashes) = tile.context("a tile of the edge is missing")?;
                keep(path.to_string(), hashes)?;
            }
            if self.frontier.root() != signed.checkpoint().root {
                bail!("the entries do not come to the root that was signed for size {size}");
            }
            Ok(())
        };
        let grown = grow();
        self.written = written;
        grown
    }
}

/// What a note says, whoever signed it.
fn checkpoint(note: &[u8]) -> anyhow::Result<Checkpoint> {
    Ok(Checkpoint::decode(&Note::parse(note)?.text)?)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    std::fs::write(path, bytes).with_context(failed)?;
    std::fs::File::open(path).and_then(|file| file.sync_all()).with_context(failed)
}
