//! A receipt: one entry, and the proof that it stands in the ledger. It is a C2SP `tlog-proof` whose `extra` data is the
//! entry itself, so that one text says what happened and proves it.
//!
//! The extra data is the entry's line and a line feed, and for a delivered chunk one more line, `salt <64 hex>`: the chunk's
//! salt, with which the parts can be held against the entry's commitment. Where single rows can be proved, a last line
//! `masked <entry>` holds the mask account that the delivery follows: its leaf hash is the entry's `prev`.

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
    /// The canonical bytes of the `chunk.masked` before it, where single rows can be proved.
    pub masked: Option<Vec<u8>>,
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
    #[error("no entry in the receipt: its `extra` line is missing or not an entry with what may follow it")]
    NoEntry,
    /// It carries a mask account that is not the one before its entry.
    #[error("the mask account that it carries is not the entry's `prev`")]
    Masked,
    /// Its entry is not one.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl Receipt {
    /// Puts entry, salt and proof together.
    pub fn new(entry_bytes: Vec<u8>, salt: Option<Salt>, proof: TlogProof) -> Result<Self, ReceiptError> {
        let entry = Entry::decode(&entry_bytes)?;
        let mut receipt = Self { entry, entry_bytes, salt, masked: None, proof };
        receipt.fill();
        Ok(receipt)
    }

    /// The same with the mask account that the entry follows.
    pub fn with_masked(mut self, entry_bytes: Vec<u8>) -> Self {
        self.masked = Some(entry_bytes);
        self.fill();
        self
    }

    /// The same without the chunk's salt, to be handed on with single rows: every row's salt is made from the chunk's, and whoever has
    /// it can confirm guesses at the rows that he was not shown.
    pub fn without_salt(mut self) -> Self {
        self.salt = None;
        self.fill();
        self
    }

    /// Makes the proof carry what the receipt holds.
    fn fill(&mut self) {
        let mut extra = [&self.entry_bytes[..], b"\n"].concat();
        if let Some(salt) = &self.salt {
            extra.extend_from_slice(format!("salt {}\n", Hash::from_bytes(*salt)).as_bytes());
        }
        if let Some(masked) = &self.masked {
            extra.extend_from_slice(&[b"masked ", &masked[..], b"\n"].concat());
        }
        self.proof.extra = Some(extra);
    }

    /// The receipt's text.
    pub fn encode(&self) -> Vec<u8> {
        self.proof.encode()
    }

    /// Reads a receipt without checking its proof.
    pub fn decode(text: &[u8]) -> Result<Self, ReceiptError> {
        let proof = TlogProof::decode(text).map_err(|e| ReceiptError::Proof(e.to_string()))?;
        let extra = proof.extra.as_deref().and_then(|extra| extra.strip_suffix(b"\n")).ok_or(ReceiptError::NoEntry)?;
        let mut lines = extra.split(|byte| *byte == b'\n').peekable();
        let line = lines.next().unwrap_or_default().to_vec();
        let salt = lines.next_if(|line| line.starts_with(b"salt "));
        let salt = salt.map(|line| salt_line(line).ok_or(ReceiptError::NoEntry)).transpose()?;
        let masked =
            lines.next_if(|line| line.starts_with(b"masked ")).and_then(|line| line.get(7..)).map(<[u8]>::to_vec);
        if lines.next().is_some() {
            return Err(ReceiptError::NoEntry);
        }
        Ok(Self { entry: Entry::decode(&line)?, entry_bytes: line, salt, masked, proof })
    }

    /// The entry that accounts for the chunk's rows: the receipt's own, or the one that it carries and that its entry follows.
    pub fn mask_account(&self) -> Result<Entry, ReceiptError> {
        match &self.masked {
            None => Ok(self.entry.clone()),
            Some(masked) if self.entry.prev == Some(leaf_hash(masked)) => Ok(Entry::decode(masked)?),
            Some(_) => Err(ReceiptError::Masked),
        }
    }

    /// Checks that the entry stands in the log of that origin, under a checkpoint signed by one of `keys`.
    pub fn verify(&self, origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, ReceiptError> {
        let leaf = leaf_hash(&self.entry_bytes);
        self.proof.verify(leaf, origin, keys).map_err(|e| ReceiptError::Proof(e.to_string()))
    }
}

fn salt_line(line: &[u8]) -> Option<Salt> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("salt ")?;
    Hash::from_hex(text).ok().map(|h| *h.as_bytes())
}
