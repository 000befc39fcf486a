//! Payloads that came with an export: what entries commit to. Each is held against its commitment whenever it is read, and
//! those that no entry refers to are named at the end.
//!
//! A file `payload/<commitment>` holds the class, a line feed, the salt as 64 hex digits, a line feed, and the bytes.

use crate::export::{Export, Fetched, PAYLOAD_BYTES_MAX};
use crate::finding::{Code, Finding, Findings, Place};
use countersign_ledger::evidence::{Class, Commitment};
use countersign_ledger::tlog::Hash;
use std::collections::HashMap;

/// The payloads of an export.
#[derive(Debug)]
pub struct Payloads<'a> {
    export: &'a Export,
    /// Which there are, and whether an entry refers to it.
    known: HashMap<Hash, bool>,
}

/// A payload whose bytes are what was committed to.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its commitment.
    pub commitment: Commitment,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl<'a> Payloads<'a> {
    /// The payloads that are there.
    pub fn new(export: &'a Export, there: impl IntoIterator<Item = Hash>) -> Self {
        Self { export, known: there.into_iter().map(|hash| (hash, false)).collect() }
    }

    /// Whether none came along.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The payload of a commitment to bytes of that class: `None` where it did not come with the export.
    pub fn get(&mut self, class: Class, commitment: Commitment) -> Result<Option<Held>, Box<Finding>> {
        let Some(seen) = self.known.get_mut(&commitment.0) else { return Ok(None) };
        *seen = true;
        let (found, bytes) = self.read(commitment)?;
        if found != class {
            let place = Place::file(path(commitment));
            return Err(Box::new(Finding::new(Code::PayloadClass, place, found.as_str(), class.as_str())));
        }
        Ok(Some(Held { commitment, bytes }))
    }

    fn read(&self, commitment: Commitment) -> Result<(Class, Vec<u8>), Box<Finding>> {
        let path = path(commitment);
        let bytes = match self.export.read(&path, PAYLOAD_BYTES_MAX) {
            Fetched::Bytes(bytes) => bytes,
            Fetched::Missing => {
                return Err(Box::new(Finding::new(Code::Unreadable, Place::file(path), "gone", "a file")));
            }
            Fetched::Failed(why) => {
                return Err(Box::new(Finding::new(Code::Unreadable, Place::file(path), why, "a file")));
            }
        };
        if bytes.len() as u64 > PAYLOAD_BYTES_MAX {
            let (found, expected) = ("more bytes", format!("at most {PAYLOAD_BYTES_MAX} bytes"));
            return Err(Box::new(Finding::new(Code::Unreadable, Place::file(path), found, expected)));
        }
        let Some((class, salt, payload)) = parse(&bytes) else {
            let expected = "a class, a salt of 64 hex digits, and bytes";
            return Err(Box::new(Finding::new(Code::PayloadForm, Place::file(path), "another form", expected)));
        };
        let computed = Commitment::to(class, salt.as_bytes(), payload);
        if computed != commitment {
            let (found, expected) = (computed.to_string(), commitment.to_string());
            return Err(Box::new(Finding::new(Code::PayloadMismatch, Place::file(path), found, expected)));
        }
        Ok((class, payload.to_vec()))
    }

    /// Names the payloads that no entry refers to.
    pub fn finish(self, findings: &mut Findings) {
        let mut strangers: Vec<Hash> = self.known.iter().filter(|(_, seen)| !**seen).map(|(hash, _)| *hash).collect();
        strangers.sort_unstable();
        for hash in strangers {
            // One that is not even what its name says is worse than one that nobody asked for.
            match self.read(Commitment(hash)) {
                Err(finding) => findings.add(*finding),
                Ok(_) => findings.add(Finding::new(
                    Code::UnexpectedFile,
                    Place::file(path(Commitment(hash))),
                    "a payload that no entry refers to",
                    "payloads of this log",
                )),
            }
        }
    }
}

fn path(commitment: Commitment) -> String {
    format!("payload/{commitment}")
}

fn parse(bytes: &[u8]) -> Option<(Class, Hash, &[u8])> {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let class = Class::from_name(std::str::from_utf8(lines.next()?).ok()?)?;
    let salt = Hash::from_hex(std::str::from_utf8(lines.next()?).ok()?).ok()?;
    Some((class, salt, lines.next()?))
}
