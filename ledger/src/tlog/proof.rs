//! C2SP tlog-proof: one text that proves, offline and against a public key alone, that an entry stands in a log. It may carry
//! extra data (for our receipts, the entry itself), which the proof does *not* authenticate.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>            (left out where there is none)
//! index <decimal>
//! <base64 hash>             (any number of lines, from the leaf's sibling up)
//! <an empty line>
//! <the signed checkpoint>
//! ```

use super::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, decimal},
    hash::{Hash, LeafIndex},
    note::{Note, VerifierKey},
    tree::{ProofError, verify_inclusion},
};
use base64::{Engine, engine::general_purpose::STANDARD};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The most hashes an inclusion proof can have: a tree of fewer than 2⁶⁴ leaves is no higher.
const HASHES_MAX: usize = 64;

/// The proof that an entry stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Data the proof carries along without proving it. Empty data is the same as none, and read back as none.
    pub extra: Option<Vec<u8>>,
    /// Where the entry stands in the log.
    pub index: LeafIndex,
    /// The inclusion proof, from the leaf's sibling up to the root's child.
    pub hashes: Vec<Hash>,
    /// The log's signed checkpoint, as the bytes of a signed note.
    pub checkpoint: Vec<u8>,
}

/// Why a text is not a proof, or a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// The first line is another one.
    #[error("not a tlog-proof: required the first line `{HEADER}`")]
    Header,
    /// The extra data is not canonical base64, or empty.
    #[error("malformed `extra` line of the proof: required the base64 of at least one byte")]
    Extra,
    /// No index where it must stand.
    #[error("malformed `index` line of the proof: required a decimal number below 2^64 without leading zeros")]
    Index,
    /// A line of the inclusion proof is not a hash.
    #[error("hash {position} of the proof is malformed: required the base64 of 32 bytes")]
    Hash {
        /// Which hash, from 0.
        position: usize,
    },
    /// More hashes than any tree asks for.
    #[error("too many hashes in the proof: found more than {HASHES_MAX}, required at most {HASHES_MAX}")]
    TooManyHashes,
    /// The text ends before the empty line.
    #[error("the proof is cut off: required an empty line and a checkpoint after the hashes")]
    CutOff,
    /// The checkpoint is malformed, not signed as required, or of another log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not prove the entry.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl TlogProof {
    /// The proof's text.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = self.extra.as_ref().filter(|extra| !extra.is_empty()) {
            text.push_str("extra ");
            STANDARD.encode_string(extra, &mut text);
            text.push('\n');
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.hashes {
            text.push_str(&hash.to_base64());
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads a proof, checking the form of all its parts but neither signature nor hashes: that is
    /// [`verify`](Self::verify). Bytes that are accepted encode again to themselves.
    pub fn decode(bytes: &[u8]) -> Result<Self, TlogProofError> {
        let mut rest = bytes;
        if next_line(&mut rest) != Some(HEADER) {
            return Err(TlogProofError::Header);
        }
        let mut line = next_line(&mut rest).ok_or(TlogProofError::Index)?;
        let mut extra = None;
        if let Some(base64) = line.strip_prefix("extra ") {
            let data = STANDARD.decode(base64).ok().filter(|data| !data.is_empty());
            extra = Some(data.ok_or(TlogProofError::Extra)?);
            line = next_line(&mut rest).ok_or(TlogProofError::Index)?;
        }
        let index = line.strip_prefix("index ").and_then(decimal).map(LeafIndex::new).ok_or(TlogProofError::Index)?;
        let mut hashes = Vec::new();
        loop {
            match next_line(&mut rest).ok_or(TlogProofError::CutOff)? {
                "" => break,
                _ if hashes.len() == HASHES_MAX => return Err(TlogProofError::TooManyHashes),
                line => {
                    hashes.push(Hash::from_base64(line).map_err(|_| TlogProofError::Hash { position: hashes.len() })?)
                }
            }
        }
        let note = Note::parse(rest).map_err(CheckpointError::from)?;
        Checkpoint::decode_with_extensions(&note.text)?;
        Ok(Self { extra, index, hashes, checkpoint: rest.to_vec() })
    }

    /// Checks that `leaf` stands at the proof's index in the log of that origin, under a checkpoint signed by one of `keys`,
    /// the log's own; gives what that checkpoint says. Nothing is said about `extra`.
    pub fn verify(&self, leaf: Hash, origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, TlogProofError> {
        let signed = SignedCheckpoint::open(&self.checkpoint, origin, keys)?;
        let Checkpoint { size, root, .. } = *signed.checkpoint();
        verify_inclusion(self.index, leaf, size, root, &self.hashes)?;
        Ok(signed.checkpoint().clone())
    }
}

/// Takes one line, without its line feed, off the front. `None` where there is no whole line of UTF-8 left.
fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, tail) = rest.split_at_checked(end)?;
    *rest = tail.get(1..)?;
    str::from_utf8(line).ok()
}
