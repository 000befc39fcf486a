//! The transparency log's formats and arithmetic, as the public documents define them: the RFC 6962 tree over SHA-256, and
//! C2SP [signed-note], [tlog-checkpoint], [tlog-tiles], [tlog-proof], [tlog-cosignature], [tlog-witness] and [tlog-policy].
//! Everything here is pure: bytes in, bytes or a verdict out, with no I/O, no clock and no panics, so that writer, server and
//! auditor share one reading of each format.
//!
//! | layer | takes | gives |
//! | --- | --- | --- |
//! | [`hash`] | an entry's bytes | [`leaf_hash`], [`node_hash`] |
//! | [`tree`] | hashes of complete subtrees | roots, inclusion and consistency proofs, and their verification |
//! | [`tile`] | tiles of 256 hashes, bundles of 256 entries | paths, and the hashes that [`tree`] asks for |
//! | [`note`] | a text and keys | signed text |
//! | [`checkpoint`] | origin, size, root | the signed text that commits a log to them |
//! | [`epochs`] | a log's keys, and where each ended | the checkpoints that they may sign |
//! | [`proof`] | index, hashes, checkpoint | one text that proves an entry offline |
//! | [`cosignature`] | a checkpoint and a witness's key | the witness's signature on it |
//! | [`policy`] | a checkpoint and a text that says whom to trust | whether enough witnesses cosigned it |
//! | [`witness`] | a checkpoint, a proof, a witness's answers | what to post to a witness, and when |
//!
//! [signed-note]: https://c2sp.org/signed-note
//! [tlog-checkpoint]: https://c2sp.org/tlog-checkpoint
//! [tlog-tiles]: https://c2sp.org/tlog-tiles
//! [tlog-proof]: https://c2sp.org/tlog-proof
//! [tlog-cosignature]: https://c2sp.org/tlog-cosignature
//! [tlog-witness]: https://c2sp.org/tlog-witness
//! [tlog-policy]: https://c2sp.org/tlog-policy

pub mod checkpoint;
pub mod cosignature;
pub mod epochs;
pub mod hash;
pub mod note;
pub mod policy;
pub mod proof;
pub mod tile;
pub mod tree;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
pub use cosignature::{Cosignature, CosignerKey, WitnessKey, cosignatures};
pub use epochs::{Epoch, EpochError, Epochs, EpochsError};
pub use hash::{EMPTY_ROOT, Hash, HashError, LeafIndex, TreeSize, leaf_hash, node_hash};
pub use note::{
    KeyError, Note, NoteError, NoteSignature, SecretText, SignerKey, VerifiedNote, VerifierKey, open, sign,
};
pub use policy::{Policy, PolicyError, PolicyFault, PolicyLog, PolicyWitness, Witnessed};
pub use proof::{TlogProof, TlogProofError};
pub use tile::{
    BundleError, BundlePath, PathError, TILE_WIDTH, TileError, TileHashes, TileId, TilePath, TileReader,
    bundles_for_size, decode_bundle, encode_bundle, tiles_for_size,
};
pub use tree::{
    Frontier, FrontierError, HashReader, ProofError, ProveError, consistency_proof, inclusion_proof, root,
    verify_consistency, verify_inclusion, verify_subtree_consistency, verify_subtree_inclusion,
};
