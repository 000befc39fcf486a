//! One row of a chunk, so that it can be proved without showing another: the leaf of a second RFC 6962 tree, whose root stands
//! in `chunk.masked`. What a row says is opaque here; the masker writes it, and this only hashes it.
//!
//! ```text
//! {"request":"<64 hex>","attempt":1,"index":0,"count":3,"salt":"<64 hex>","row":{"id":1,"email":"a***@***.org"}}
//! ```
//!
//! The salt is made from the chunk's and the row's position: who is shown one row and the hashes beside it can confirm no
//! guess at another.

use super::commitment::Salt;
use super::digest::TraceId;
use super::entry::Entry;
use super::step::{Int, Step};
use crate::tlog::{Hash, LeafIndex, TreeSize, leaf_hash, verify_inclusion};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;

/// The chunk that a row is of, and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsOf {
    /// The request's trace.
    pub request: TraceId,
    /// The attempt.
    pub attempt: Int,
    /// The chunk's rows.
    pub count: Int,
}

/// A row as it is read.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The chunk.
    pub of: RowsOf,
    /// The row's position in it, from 0.
    pub index: Int,
    /// What makes its hash impossible to guess.
    pub salt: Hash,
    /// The row itself: its canonical JSON.
    pub row: &'a str,
}

/// A row with its way to the root.
#[derive(Clone, Debug)]
pub struct RowProof<'a> {
    /// The row's canonical line, the leaf.
    pub line: &'a str,
    /// The hashes beside its way up, from the leaf's sibling on.
    pub path: Vec<Hash>,
}

/// Why a row is not proven.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Not the JSON of a row or of its proof.
    #[error("not a row's proof: {0}")]
    Form(String),
    /// Valid JSON, but not the bytes that this row has.
    #[error("not in canonical form: a row has one spelling")]
    NotCanonical,
    /// The entry says nothing about single rows.
    #[error("`{found}` says nothing about single rows, `chunk.masked` with `rows_root` does")]
    NoRoot {
        /// The entry's type.
        found: &'static str,
    },
    /// Another chunk's.
    #[error("a row of {found}, the entry is about {required}")]
    Chunk {
        /// What it is of.
        found: String,
        /// What it should be of.
        required: String,
    },
    /// The hashes lead elsewhere.
    #[error("{0}")]
    Proof(String),
}

/// `HMAC-SHA256(chunk salt, "countersign/row/v1\0" ‖ index)`, the index as 8 bytes, big-endian.
pub fn row_salt(chunk: &Salt, index: u64) -> Hash {
    // INVARIANT: HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(chunk) else { return Hash::from_bytes([0; 32]) };
    mac.update(b"countersign/row/v1\0");
    mac.update(&index.to_be_bytes());
    Hash::from_bytes(mac.finalize().into_bytes().into())
}

/// The canonical line of a row, without a line end; `row` is its canonical JSON.
pub fn row_line(of: &RowsOf, index: u64, salt: &Hash, row: &[u8]) -> Vec<u8> {
    let RowsOf { request, attempt, count } = of;
    let head = format!(
        r#"{{"request":"{request}","attempt":{attempt},"index":{index},"count":{count},"salt":"{salt}","row":"#
    );
    [head.as_bytes(), row, b"}"].concat()
}

/// The line of a row with its proof, without a line end.
pub fn proof_line(line: &[u8], path: &[Hash]) -> Vec<u8> {
    let path: Vec<String> = path.iter().map(|hash| format!("\"{}\"", hash.to_base64())).collect();
    [br#"{"leaf":"#, line, br#","path":["#, path.join(",").as_bytes(), b"]}"].concat()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowWire<'a> {
    request: TraceId,
    attempt: Int,
    index: Int,
    count: Int,
    salt: Hash,
    #[serde(borrow)]
    row: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofWire<'a> {
    #[serde(borrow)]
    leaf: &'a RawValue,
    #[serde(borrow)]
    path: Vec<std::borrow::Cow<'a, str>>,
}

impl<'a> Row<'a> {
    /// Reads a row's line, accepting only its canonical bytes.
    pub fn decode(line: &'a str) -> Result<Self, RowError> {
        let wire: RowWire<'a> = serde_json::from_str(line).map_err(|e| RowError::Form(e.to_string()))?;
        let of = RowsOf { request: wire.request, attempt: wire.attempt, count: wire.count };
        let row = wire.row.get();
        if !row.starts_with('{') || row_line(&of, wire.index.get(), &wire.salt, row.as_bytes()) != line.as_bytes() {
            return Err(RowError::NotCanonical);
        }
        Ok(Self { of, index: wire.index, salt: wire.salt, row })
    }
}

impl<'a> RowProof<'a> {
    /// Reads one line of `countersign rows`.
    pub fn decode(line: &'a str) -> Result<Self, RowError> {
        let wire: ProofWire<'a> = serde_json::from_str(line).map_err(|e| RowError::Form(e.to_string()))?;
        let path = wire.path.iter().map(|hash| Hash::from_base64(hash)).collect::<Result<_, _>>();
        Ok(Self { line: wire.leaf.get(), path: path.map_err(|e| RowError::Form(e.to_string()))? })
    }

    /// Checks that this is a row of the chunk that a `chunk.masked` entry accounts for.
    pub fn verify(&self, masked: &Entry) -> Result<Row<'a>, RowError> {
        let Step::ChunkMasked(account) = &masked.body else {
            return Err(RowError::NoRoot { found: masked.body.kind() });
        };
        let root = account.rows_root.ok_or(RowError::NoRoot { found: masked.body.kind() })?;
        let row = Row::decode(self.line)?;
        let of = RowsOf { request: masked.trace, attempt: account.attempt, count: account.rows };
        if row.of != of {
            let shown =
                |of: &RowsOf| format!("attempt {} of request {} with {} rows", of.attempt, of.request, of.count);
            return Err(RowError::Chunk { found: shown(&row.of), required: shown(&of) });
        }
        let (index, size) = (LeafIndex::new(row.index.get()), TreeSize::new(of.count.get()));
        verify_inclusion(index, leaf_hash(self.line.as_bytes()), size, root, &self.path)
            .map_err(|e| RowError::Proof(e.to_string()))?;
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::step::ChunkMasked;
    use crate::tlog::{Frontier, node_hash};

    const SALT: Salt = [3; 32];

    fn lines() -> Vec<Vec<u8>> {
        let of = RowsOf { request: TraceId::log(), attempt: Int::ONE, count: Int::saturating(3) };
        let line =
            |i: u64| row_line(&of, i, &row_salt(&SALT, i), format!(r#"{{"id":{i},"name":"n\"{i}"}}"#).as_bytes());
        (0..3).map(line).collect()
    }

    fn masked(rows: u64, rows_root: Option<Hash>) -> Entry {
        let body = ChunkMasked { attempt: Int::ONE, rows: Int::saturating(rows), columns: vec![], rows_root };
        let (step, prev) = (Int::ONE, Some(Hash::from_bytes([1; 32])));
        Entry { trace: TraceId::log(), step, prev, at: Int::ONE, src: "a/1".into(), seq: Int::ONE, body: body.into() }
    }

    #[test]
    fn one_row_is_proven_and_nothing_else() {
        let lines = lines();
        let leaves: Vec<Hash> = lines.iter().map(|line| leaf_hash(line)).collect();
        let mut frontier = Frontier::new();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        let entry = masked(3, Some(frontier.root()));
        let text = String::from_utf8(proof_line(&lines[1], &[leaves[0], leaves[2]])).unwrap();
        let check =
            |text: &str, entry: &Entry| RowProof::decode(text).and_then(|p| p.verify(entry).map(|r| r.row.to_owned()));
        assert_eq!(check(&text, &entry).unwrap(), r#"{"id":1,"name":"n\"1"}"#);
        for (from, to, expect) in [
            (r#""id":1"#, r#""id":2"#, "does not lead to the root"),
            (r#""index":1"#, r#""index":2"#, "wrong number of hashes"),
            (r#""index":1"#, r#""index":3"#, "no such leaf"),
            (r#""count":3"#, r#""count":4"#, "with 4 rows, the entry is about"),
            (r#""attempt":1"#, r#""attempt":2"#, "attempt 2 of request"),
            (r#"{"request""#, r#"{ "request""#, "canonical"),
            (r#""row":{"#, r#""row":[{"#, "not a row's proof"),
            (r#","path""#, r#","more":1,"path""#, "unknown field"),
            ("=\"", "\"", "not a row's proof"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "`{from}`");
            let error = check(&bad, &entry).unwrap_err().to_string();
            assert!(error.contains(expect), "`{to}`: {error}");
        }
        assert!(matches!(check(&text, &masked(3, None)), Err(RowError::NoRoot { .. })));
        let swapped = proof_line(&lines[1], &[leaves[2], leaves[0]]);
        assert!(matches!(check(std::str::from_utf8(&swapped).unwrap(), &entry), Err(RowError::Proof(_))));
        // The root is that of the tree as anybody computes it.
        assert_eq!(frontier.root(), node_hash(&node_hash(&leaves[0], &leaves[1]), &leaves[2]));
    }

    #[test]
    fn salts_are_hmac() {
        // RFC 2104 by hand: H((K ⊕ opad) ‖ H((K ⊕ ipad) ‖ message)).
        let pad = |byte: u8| [[3 ^ byte; 32], [byte; 32]].concat();
        let message = [&b"countersign/row/v1\0"[..], &7u64.to_be_bytes()].concat();
        let inner = crate::evidence::digest::sha256(&[pad(0x36), message].concat());
        let outer = crate::evidence::digest::sha256(&[pad(0x5c), inner.as_bytes().to_vec()].concat());
        assert_eq!(row_salt(&SALT, 7), outer);
        assert_ne!(row_salt(&SALT, 8), outer);
    }
}
