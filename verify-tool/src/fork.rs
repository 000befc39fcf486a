//! Fork proofs: made where a walk or a comparison meets two checkpoints that cannot both be true, and judged wherever one is
//! handed in. A proof that is made is judged before it is given out.

use crate::export::{Export, Fetched, TILE_BYTES_MAX};
use crate::finding::{Code, Finding, Findings, Place};
use crate::report::Report;
use crate::tree::Unmatched;
use countersign_ledger::evidence::fork::{Fork, ForkError, ForkProof, Held};
use countersign_ledger::tlog::{
    Epochs, SignedCheckpoint, TileHashes, TileId, TilePath, TileReader, TreeSize, consistency_proof, root,
};

/// Judges a fork proof: proven is that the log's key signed two trees that cannot both be true.
pub fn judge(file: &str, text: &[u8], keys: &Epochs) -> Report {
    let mut findings = Findings::default();
    let mut summary = String::new();
    match ForkProof::decode(text).and_then(|proof| proof.verify(keys)) {
        Ok(Fork { older, newer }) => {
            summary = format!(
                "the key of {} signed two trees that cannot both be true: root {} at size {}, and root {} at size {}, {}",
                keys.origin(),
                older.root,
                older.size,
                newer.root,
                newer.size,
                if older.size == newer.size { "the same" } else { "which does not begin with the first" }
            );
        }
        Err(error) => {
            let (code, expected) = match &error {
                ForkError::Form(_) | ForkError::Hash { .. } => (Code::ForkForm, "a fork proof".to_owned()),
                ForkError::Checkpoint { .. } => (Code::Checkpoint, crate::log::signed_by(keys)),
                _ => (Code::ForkProof, "two checkpoints that cannot both be true".to_owned()),
            };
            findings.add(Finding::new(code, Place::file(file), error.to_string(), expected));
        }
    }
    Report::new("fork", summary, &findings)
}

/// The proof that the tree of the newer checkpoint does not begin with what the older one says; where their sizes differ, from
/// tiles that hold the newer tree. `None` where these do not show it, or the two agree.
pub fn prove(
    tiles: Option<Tiles<'_>>,
    older: &SignedCheckpoint,
    newer: &SignedCheckpoint,
    keys: &Epochs,
) -> Option<ForkProof> {
    let (old, new) = (older.checkpoint().size, newer.checkpoint().size);
    let held = if old == new {
        None
    } else {
        let tiles = TileHashes::new(tiles?, new);
        Some(Held { root: root(&tiles, old).ok()?, proof: consistency_proof(&tiles, old, new).ok()? })
    };
    let proof = ForkProof { older: older.note().to_vec(), newer: newer.note().to_vec(), held };
    proof.verify(keys).is_ok().then_some(proof)
}

/// The proof against the first statement that the entries do not lead to.
pub fn first(export: &Export, unmatched: &[Unmatched], head: &SignedCheckpoint, keys: &Epochs) -> Option<ForkProof> {
    unmatched.iter().find_map(|unmatched| {
        let older = keys.open(&unmatched.pin.note).ok()?;
        let tiles = Tiles { export, size: head.checkpoint().size };
        prove(Some(tiles), &older, head, keys)
    })
}

/// Tiles of an export, whatever its size: full ones, or partial ones that are wide enough.
pub struct Tiles<'a> {
    /// The export.
    pub export: &'a Export,
    /// The size that it is believed to have, which says which tiles to look for.
    pub size: TreeSize,
}

impl TileReader for Tiles<'_> {
    type Error = TileFault;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<u8>, TileFault> {
        let id = TileId { level, index };
        // The folder's own width, or less where it keeps earlier ones.
        let widths = [256, id.width(self.size), width];
        let path = |width: u16| TilePath { id, width }.to_string();
        for width in widths.into_iter().filter(|w| *w >= width) {
            match self.export.read(&path(width), TILE_BYTES_MAX) {
                Fetched::Bytes(bytes) => return Ok(bytes),
                Fetched::Missing => {}
                Fetched::Failed(why) => return Err(TileFault(path(width), Some(why))),
            }
        }
        Err(TileFault(path(width), None))
    }
}

/// A tile that is missing, or could not be read for a reason.
#[derive(Debug)]
pub struct TileFault(pub String, pub Option<String>);
