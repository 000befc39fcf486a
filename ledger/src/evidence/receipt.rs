//! A receipt: one entry, and the proof that it stands in the ledger. It is a C2SP `tlog-proof` whose `extra` data is the
//! entry itself, so that one text says what happened and proves it.
//!
//! The extra data is the entry's line, a line feed, and for a delivered chunk one more line, `salt <64 hex>`: the chunk's
//! salt, with which the parts can be held against the entry's commitment.

use super::{commitment::Salt, entry::Entry, entry::EntryError};
use crate::tlog::{Checkpoint, Hash, TlogProof, VerifierKey, leaf_hash};

/// An entry with its proof.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The entry.
    pub entry: Entry,
    /// The entry's canonical bytes.
    pub entry_bytes: Vec<u8>,
    /// The chunk's salt, where the entry is `delivery.intended`.
    pub salt: Option<Salt>,
    /// Index, path and checkpoint.
    pub proof: TlogProof,
}

/// Why a receipt does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Not a `tlog-proof`, or its proof fails.
    #[error("{0}")]
    Proof(String),
    /// It carries no entry.
    #[error("no entry in the receipt: its `extra` line is missing or not an entry followed by an optional salt")]
    NoEntry,
    /// Its entry is not one.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl Receipt {
    /// Puts entry, salt and proof together.
    pub fn new(entry_bytes: Vec<u8>, salt: Option<Salt>, mut proof: TlogProof) -> Result<Self, ReceiptError> {
        let entry = Entry::decode(&entry_bytes)?;
        let mut extra = entry_bytes.clone();
        extra.push(b'\n');
        if let Some(salt) = &salt {
            extra.extend_from_slice(format!("salt {}\n", Hash::from_bytes(*salt)).as_bytes());
        }
        proof.extra = Some(extra);
        Ok(Self { entry, entry_bytes, salt, proof })
    }

    /// The receipt's text.
    pub fn encode(&self) -> Vec<u8> {
        self.proof.encode()
    }

    /// Reads a receipt without checking its proof.
    pub fn decode(text: &[u8]) -> Result<Self, ReceiptError> {
        let proof = TlogProof::decode(text).map_err(|e| ReceiptError::Proof(e.to_string()))?;
        let extra = proof.extra.as_deref().ok_or(ReceiptError::NoEntry)?;
        let end = extra.iter().position(|b| *b == b'\n').ok_or(ReceiptError::NoEntry)?;
        let (line, rest) = extra.split_at_checked(end).ok_or(ReceiptError::NoEntry)?;
        let rest = rest.get(1..).unwrap_or_default();
        let salt = if rest.is_empty() { None } else { Some(salt_line(rest).ok_or(ReceiptError::NoEntry)?) };
        Ok(Self { entry: Entry::decode(line)?, entry_bytes: line.to_vec(), salt, proof })
    }

    /// Checks that the entry stands in the log of that origin, under a checkpoint signed by one of `keys`.
    pub fn verify(&self, origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, ReceiptError> {
        let leaf = leaf_hash(&self.entry_bytes);
        self.proof.verify(leaf, origin, keys).map_err(|e| ReceiptError::Proof(e.to_string()))
    }
}

fn salt_line(line: &[u8]) -> Option<Salt> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("salt ")?.strip_suffix('\n')?;
    Hash::from_hex(text).ok().map(|h| *h.as_bytes())
}
