//! What callers are told, on `chunk.status.<identity>`. Status records are also how a crash is recovered from: the record of a
//! delivery is written in the transaction of its parts, so it is there exactly if they are.

use crate::broker::Outgoing;
use crate::identity::Identity;
use countersign_ledger::evidence::{Reason, TraceId};
use serde::{Deserialize, Serialize};

/// Where a request stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Permitted; a chunk will follow.
    Accepted,
    /// People were asked.
    Waiting,
    /// The chunk was delivered, in the same transaction as this record.
    Delivered,
    /// Policy, or the request itself, says no.
    Denied,
    /// The record was signed by this identity, but is not a request that counts.
    Rejected,
    /// Permitted, and then it did not work out.
    Failed,
    /// The request was received before: this is where it stands, its data does not come again.
    Repeated,
}

/// A status record's value.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The version of this form: 1.
    pub v: u8,
    /// The request's trace; absent where the record never became a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<TraceId>,
    /// The request's `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Where it stands.
    pub status: Word,
    /// Why, for all but `accepted`, `waiting` and `delivered`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The groups that were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The attempt that was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The index of its `delivery.intended` entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// Rows delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Parts delivered, on the identity's chunk topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u64>,
    /// The index of the entry that this status rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
}

impl Status {
    /// A status without particulars.
    pub fn new(request: Option<TraceId>, status: Word) -> Self {
        Self {
            v: 1,
            request,
            jti: None,
            status,
            reason: None,
            groups: Vec::new(),
            attempt: None,
            intent: None,
            rows: None,
            parts: None,
            entry: None,
        }
    }

    /// With the reason.
    pub fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// With the `jti`.
    pub fn jti(mut self, jti: impl Into<String>) -> Self {
        self.jti = Some(jti.into());
        self
    }

    /// With the entry that it rests on.
    pub fn entry(mut self, index: u64) -> Self {
        self.entry = Some(index);
        self
    }

    /// The record for its identity's status topic. Records of one request share a partition.
    pub fn to(&self, identity: &Identity, partition: Option<i32>) -> Outgoing {
        let key = self.request.map(|r| r.to_string()).unwrap_or_default();
        Outgoing {
            topic: identity.status_topic.clone(),
            partition,
            key: key.into_bytes(),
            // A struct of words and numbers always has a JSON form.
            value: serde_json::to_vec(self).unwrap_or_default(),
            headers: Vec::new(),
        }
    }
}
