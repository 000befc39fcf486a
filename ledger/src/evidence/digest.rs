//! Names and digests that are derived by hashing, each with a tag of its own so that no two kinds can collide.

use super::{
    canonical::{Canonical, Reader},
    commitment::{Class, Commitment, Salt},
    day::Day,
};
use crate::tlog::Hash;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// The name of a trace: a tagged hash of what opens it, so that opening the same thing twice meets the same trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceId(pub Hash);

impl TraceId {
    /// The trace of a request: `iss` and `jti` of its claims.
    pub fn request(iss: &str, jti: &str) -> Self {
        Self(tagged("trace/request", &[iss.as_bytes(), jti.as_bytes()]))
    }

    /// The trace of an approval: `iss` and `jti` of its claims.
    pub fn approval(iss: &str, jti: &str) -> Self {
        Self(tagged("trace/approval", &[iss.as_bytes(), jti.as_bytes()]))
    }

    /// The trace of a re-identification: `iss` and `jti` of its claims.
    pub fn reidentify(iss: &str, jti: &str) -> Self {
        Self(tagged("trace/reidentify", &[iss.as_bytes(), jti.as_bytes()]))
    }

    /// The trace of a look into a table, under its random name.
    pub fn sample(name: &str) -> Self {
        Self(tagged("trace/sample", &[name.as_bytes()]))
    }

    /// The trace of a record that was refused before anybody was identified: its coordinates in Kafka.
    pub fn rejected(topic: &str, partition: u64, offset: u64) -> Self {
        Self(tagged("trace/rejected", &[topic.as_bytes(), &partition.to_be_bytes(), &offset.to_be_bytes()]))
    }

    /// The trace of an identity, under its pseudonym: registration, groups, revocation.
    pub fn identity(pseudonym: &str) -> Self {
        Self(tagged("trace/identity", &[pseudonym.as_bytes()]))
    }

    /// The trace of a connection, under its name.
    pub fn connection(name: &str) -> Self {
        Self(tagged("trace/connection", &[name.as_bytes()]))
    }

    /// The trace of all policy versions.
    pub fn policy() -> Self {
        Self(tagged("trace/policy", &[]))
    }

    /// The trace of all catalog versions.
    pub fn catalog() -> Self {
        Self(tagged("trace/catalog", &[]))
    }

    /// The trace of all exports.
    pub fn exports() -> Self {
        Self(tagged("trace/exports", &[]))
    }

    /// The trace of the payloads of one class and day: their purge.
    pub fn payloads(class: Class, day: Day) -> Self {
        Self(tagged("trace/payloads", &[class.as_str().as_bytes(), day.to_string().as_bytes()]))
    }

    /// The trace of a legal hold, under its name.
    pub fn hold(name: &str) -> Self {
        Self(tagged("trace/hold", &[name.as_bytes()]))
    }

    /// The trace of a reading of payloads, under its name.
    pub fn read(name: &str) -> Self {
        Self(tagged("trace/read", &[name.as_bytes()]))
    }

    /// The trace of the log itself: its creation and its key rotations.
    pub fn log() -> Self {
        Self(tagged("trace/log", &[]))
    }
}

impl Canonical for TraceId {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Hash::read(reader).map(Self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for TraceId {
    type Err = <Hash as std::str::FromStr>::Err;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

/// `SHA-256("countersign/<tag>/v1\0" ‖ for each field: u64 big-endian length ‖ field)`.
pub fn tagged(tag: &str, fields: &[&[u8]]) -> Hash {
    let mut h = Sha256::new();
    h.update(b"countersign/");
    h.update(tag.as_bytes());
    h.update(b"/v1\0");
    for field in fields {
        h.update((field.len() as u64).to_be_bytes());
        h.update(field);
    }
    Hash::from_bytes(h.finalize().into())
}

/// Plain SHA-256, for texts whose digest others compute as well (request signing input, policy, catalog, obligations).
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash::from_bytes(Sha256::digest(bytes).into())
}

/// The digest of one part of a chunk: SHA-256 of the record value as it stands in Kafka.
pub fn part_digest(part: &[u8]) -> Hash {
    sha256(part)
}

/// What `delivery.intended` commits to: the parts of a chunk in order, through their digests (32 bytes each), under the
/// chunk's salt. Anybody who holds the parts and the salt (a header of every part) can recompute it.
pub fn chunk_commitment(salt: &Salt, parts: &[Hash]) -> Commitment {
    let digests: Vec<u8> = parts.iter().flat_map(|d| *d.as_bytes()).collect();
    Commitment::to(Class::Chunk, salt, &digests)
}
