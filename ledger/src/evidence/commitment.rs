//! How an entry refers to data that must not stand in it: by `SHA-256(tag ‖ salt ‖ bytes)`. The salt makes a guess at the
//! bytes impossible to confirm, and destroying salt and bytes leaves nothing but a number.

use super::{
    canonical::{Canonical, Reader},
    step::Step,
};
use crate::tlog::Hash;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// 32 random bytes that go into one commitment and are kept beside the payload.
pub type Salt = [u8; 32];

/// What a payload is. The class names the domain of the commitment's hash (its tag is `countersign/<class>/v1` and a zero
/// byte) and the key that encrypts the payload in the vault, so classes are also the unit of retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A caller's request, the compact JWS as it was received.
    Request,
    /// An approver's answer (compact JWS), or the reason that came with it.
    Approval,
    /// Who stands behind a pseudonym: name, owner, destination.
    Identity,
    /// A change that admins signed, and their signatures.
    Admin,
    /// The text of a policy or catalog, the description of a connection.
    Config,
    /// The exact statement sent to a source with its bound values, row filters, key bounds.
    Query,
    /// Where a chunk went.
    Delivery,
    /// The bytes of a delivered chunk; committed to, never kept.
    Chunk,
    /// An unauthenticated record; committed to, never kept.
    Rejected,
    /// What went wrong in detail, for operators.
    Detail,
    /// The tokens that somebody wanted to be turned back, or the reason why.
    Reidentify,
}

impl Class {
    /// The name in commitments, key files and exports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Approval => "approval",
            Self::Identity => "identity",
            Self::Admin => "admin",
            Self::Config => "config",
            Self::Query => "query",
            Self::Delivery => "delivery",
            Self::Chunk => "chunk",
            Self::Rejected => "rejected",
            Self::Detail => "detail",
            Self::Reidentify => "reidentify",
        }
    }

    /// Every class, in declaration order.
    pub const ALL: [Self; 11] = [
        Self::Request,
        Self::Approval,
        Self::Identity,
        Self::Admin,
        Self::Config,
        Self::Query,
        Self::Delivery,
        Self::Chunk,
        Self::Rejected,
        Self::Detail,
        Self::Reidentify,
    ];

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == name)
    }
}

impl Canonical for Class {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        reader.string().and_then(Self::from_name)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `SHA-256("countersign/<class>/v1\0" ‖ salt ‖ bytes)`: 32 bytes, in entries 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Commitment(pub Hash);

impl Commitment {
    /// Commits to `bytes` as a payload of `class`.
    pub fn to(class: Class, salt: &Salt, bytes: &[u8]) -> Self {
        let mut h = Sha256::new();
        h.update(b"countersign/");
        h.update(class.as_str().as_bytes());
        h.update(b"/v1\0");
        h.update(salt);
        h.update(bytes);
        Self(Hash::from_bytes(h.finalize().into()))
    }
}

impl Canonical for Commitment {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Hash::read(reader).map(Self)
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Step {
    /// Everything that a step commits to, with the class of each.
    pub fn commitments(&self) -> Vec<(Class, Commitment)> {
        let mut all = Vec::new();
        let signed = match self {
            Step::IdentityRegistered(s) => {
                all.extend([(Class::Identity, s.possession), (Class::Identity, s.record)]);
                s.signed.as_ref()
            }
            Step::IdentityRevoked(s) => Some(&s.signed),
            Step::GroupsChanged(s) => Some(&s.signed),
            Step::PolicyChanged(s) => {
                all.push((Class::Config, s.document));
                Some(&s.signed)
            }
            Step::CatalogChanged(s) => {
                all.push((Class::Config, s.document));
                Some(&s.signed)
            }
            Step::ConnectionChanged(s) => {
                all.push((Class::Config, s.document));
                Some(&s.signed)
            }
            Step::RequestRejected(s) => {
                all.push((Class::Rejected, s.record));
                None
            }
            Step::RequestReceived(s) => {
                all.push((Class::Request, s.request));
                None
            }
            Step::PolicyDecided(s) => {
                all.push((Class::Query, s.document));
                None
            }
            Step::ApprovalGranted(s) => {
                all.extend([(Class::Approval, s.reason), (Class::Approval, s.token)]);
                None
            }
            Step::ApprovalDenied(s) => {
                all.extend([(Class::Approval, s.reason), (Class::Approval, s.token)]);
                None
            }
            Step::ApprovalRevoked(s) => {
                all.push((Class::Approval, s.token));
                None
            }
            Step::SourceQueried(s) => {
                all.push((Class::Query, s.statement));
                None
            }
            Step::SourceSampled(s) => {
                all.push((Class::Query, s.statement));
                None
            }
            Step::ReidentifyDecided(s) => {
                all.extend([(Class::Request, s.request), (Class::Reidentify, s.tokens), (Class::Reidentify, s.reason)]);
                None
            }
            Step::DeliveryIntended(s) => {
                all.extend([(Class::Chunk, s.chunk), (Class::Delivery, s.destination)]);
                None
            }
            Step::RequestFailed(s) => {
                all.extend(s.detail.map(|detail| (Class::Detail, detail)));
                None
            }
            Step::PayloadHeld(s) => {
                all.push((Class::Admin, s.reason));
                None
            }
            Step::PayloadReleased(s) => {
                all.push((Class::Admin, s.reason));
                None
            }
            Step::LogKeyRotated(_)
            | Step::PayloadPurged(_)
            | Step::PayloadRead(_)
            | Step::LogCreated(_)
            | Step::LedgerExported(_)
            | Step::IdentityVerified(_)
            | Step::RequestDenied(_)
            | Step::ApprovalRequested(_)
            | Step::ApprovalUsed(_)
            | Step::ChunkMasked(_)
            | Step::DeliveryCommitted(_)
            | Step::DeliveryAborted(_)
            | Step::RequestCompleted(_) => None,
        };
        if let Some(signed) = signed {
            all.push((Class::Admin, signed.change));
            all.extend(signed.by.iter().map(|by| (Class::Admin, by.signature)));
        }
        all
    }
}
