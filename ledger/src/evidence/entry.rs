//! An entry: the canonical bytes of one step, one leaf of the ledger. One line of JSON with a fixed field order, so that a
//! person reads it with `jq` and two programs never disagree about its bytes: the reader accepts only bytes that it would
//! have written itself.
//!
//! ```text
//! {"v":1,"type":"request.denied","trace":"<64 hex>","step":2,"prev":"<64 hex>","at":1763931600000000,"src":"6d1f…/4","seq":17,"body":{…}}
//! ```
//!
//! `step` counts the entries of a trace from 0; `prev` is the leaf hash of the trace's previous entry and absent at step 0;
//! `at` is Unix time in microseconds and never decreases along the log; `src` is the appending process and its epoch, and
//! `seq` counts that epoch's entries from 0.

use super::{
    digest::TraceId,
    step::{Int, Step},
};
use crate::tlog::{Hash, leaf_hash};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The version of the entry format that this crate writes.
pub const VERSION: u64 = 1;

/// The largest entry, in bytes. A bundle stores lengths in 16 bits; the rest is headroom.
pub const MAX_ENTRY_BYTES: usize = 60_000;

/// What an appender knows of an entry; the sequencer adds the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// What happened.
    pub step: Step,
}

/// One step of one trace, as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The trace.
    pub trace: TraceId,
    /// Position in the trace, from 0.
    pub step: Int,
    /// Leaf hash of the trace's previous entry; `None` exactly at step 0.
    pub prev: Option<Hash>,
    /// Unix time in microseconds.
    pub at: Int,
    /// Appending process and epoch.
    pub src: String,
    /// Position among the entries of `src`, from 0.
    pub seq: Int,
    /// What happened.
    pub body: Step,
}

/// Why bytes are not an entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Not the JSON of an entry.
    #[error("not an entry: {0}")]
    Json(#[from] serde_json::Error),
    /// Larger than an entry may be.
    #[error("entry of {found} bytes, at most {MAX_ENTRY_BYTES} allowed")]
    TooLarge {
        /// Its size in bytes.
        found: usize,
    },
    /// Valid JSON, but not the bytes that this entry has.
    #[error("not in canonical form: differs from its own encoding at byte {at}")]
    NotCanonical {
        /// The first byte that differs, from 0.
        at: usize,
    },
    /// Written by a later version, which this reader cannot judge.
    #[error("newer than this reader: {0}")]
    Newer(String),
    /// `step` and `prev` contradict each other.
    #[error("step {step} with{} prev", if *.has_prev { "" } else { "out" })]
    PrevMismatch {
        /// The step.
        step: u64,
        /// Whether `prev` is there.
        has_prev: bool,
    },
}

#[derive(Deserialize)]
struct Peek {
    v: u64,
    #[serde(rename = "type")]
    kind: String,
}

/// An entry as it is read. It is written by [`Entry::encode`], which [`Entry::decode`] holds it against.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(rename = "v")]
    _version: u64,
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
    trace: TraceId,
    step: Int,
    #[serde(default)]
    prev: Option<Hash>,
    at: Int,
    src: std::borrow::Cow<'a, str>,
    seq: Int,
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Entry {
    /// The canonical bytes, without a line end.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        self.encode_around(&self.body.encode_body()?)
    }

    /// The canonical bytes, given those of the body: what an appender encodes once, the sequencer puts into its place.
    pub(crate) fn encode_around(&self, body: &[u8]) -> Result<Vec<u8>, EntryError> {
        let Self { trace, step, prev, at, src, seq, .. } = self;
        let (kind, src) = (self.body.kind(), serde_json::to_string(src)?);
        let prev = prev.map(|prev| format!(r#","prev":"{prev}""#)).unwrap_or_default();
        let head = format!(r#"{{"v":{VERSION},"type":"{kind}","trace":"{trace}","step":{step}{prev},"#);
        let place = format!(r#""at":{at},"src":{src},"seq":{seq},"body":"#);
        let bytes = [head.as_bytes(), place.as_bytes(), body, b"}"].concat();
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLarge { found: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads an entry, accepting only its canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLarge { found: bytes.len() });
        }
        let peek: Peek = serde_json::from_slice(bytes)?;
        if peek.v != VERSION {
            return Err(EntryError::Newer(format!("entry version {}", peek.v)));
        }
        if !Step::TYPES.contains(&peek.kind.as_str()) {
            return Err(EntryError::Newer(format!("entry type `{}`", peek.kind)));
        }
        let wire: Wire<'_> = serde_json::from_slice(bytes)?;
        let body = match Step::read_body(&wire.kind, wire.body.get()) {
            Some(body) => body?,
            None => return Err(EntryError::Newer(format!("entry type `{}`", wire.kind))),
        };
        let entry = Self {
            trace: wire.trace,
            step: wire.step,
            prev: wire.prev,
            at: wire.at,
            src: wire.src.into_owned(),
            seq: wire.seq,
            body,
        };
        if (entry.step == Int::ZERO) == entry.prev.is_some() {
            return Err(EntryError::PrevMismatch { step: entry.step.get(), has_prev: entry.prev.is_some() });
        }
        let again = entry.encode()?;
        if again != bytes {
            let at = again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(again.len().min(bytes.len()));
            return Err(EntryError::NotCanonical { at });
        }
        Ok(entry)
    }

    /// The leaf hash of the canonical bytes.
    pub fn leaf(&self) -> Result<Hash, EntryError> {
        Ok(leaf_hash(&self.encode()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::step::{ApprovalRequested, Reason, RequestDenied, RequestRejected};
    use crate::evidence::{Class, Commitment};
    use proptest::prelude::*;

    fn sample(body: Step) -> Entry {
        Entry {
            trace: TraceId::request("reports", "abc"),
            step: Int::ZERO,
            prev: None,
            at: Int::saturating(1_763_931_600_000_000),
            src: "6d1f2a3b/4".into(),
            seq: Int::saturating(17),
            body,
        }
    }

    fn denied() -> Entry {
        sample(RequestDenied { reason: Reason::Forbidden }.into())
    }

    #[test]
    fn reads_back_what_it_writes() {
        let entry = sample(
            RequestRejected {
                reason: Reason::Malformed,
                door: "kafka".into(),
                topic: "a \"quoted\" \u{7f} \u{1F600} \n topic".into(),
                partition: Int::ZERO,
                offset: Int::MAX,
                count: Int::ONE,
                record: Commitment::to(Class::Rejected, &[7; 32], b"bytes"),
            }
            .into(),
        );
        assert_eq!(Entry::decode(&entry.encode().unwrap()).unwrap(), entry);
    }

    #[test]
    fn accepts_nothing_but_its_own_bytes() {
        let good = String::from_utf8(denied().encode().unwrap()).unwrap();
        let check = |from: &str, to: &str, expect: &str| {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "the case `{from}` changes nothing");
            let error = Entry::decode(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "`{to}`: {error}");
        };
        check("{\"v\":1,", "{ \"v\":1,", "canonical");
        check("\"v\":1", "\"v\":2", "newer than this reader: entry version 2");
        check("request.denied", "request.dreamt", "newer than this reader: entry type");
        check("\"seq\":17", "\"seq\":17.0", "not an entry");
        check("\"seq\":17", "\"seq\":9007199254740992", "at most 9007199254740991");
        check("\"seq\":17", "\"seq\":17,\"more\":1", "unknown field");
        check("\"seq\":17", "\"seq\":17,\"seq\":17", "duplicate field");
        check("forbidden", "forbi\\u0064den", "canonical");
        check("\"reason\"", "\"why\"", "unknown field");
        check("\"step\":0", "\"step\":1", "without prev");
        check("}}", "}} ", "canonical");
        check("}}", "}", "not an entry");
    }

    #[test]
    fn sorted_lists_have_one_order() {
        let asked = |groups: &[&str]| {
            let groups = groups.iter().map(|g| (*g).to_owned()).collect();
            let zero = Hash::from_bytes([0; 32]);
            sample(ApprovalRequested { groups, request: zero, obligations: zero, not_after: Int::ONE }.into())
        };
        let good = asked(&["a", "b"]).encode().unwrap();
        Entry::decode(&good).unwrap();
        for bad in [&["b", "a"], &["a", "a"]] {
            let error = asked(bad).encode().unwrap_err().to_string();
            assert!(error.contains("`groups` is not sorted"), "{error}");
            let words = format!("[\"{}\",\"{}\"]", bad[0], bad[1]);
            let text = String::from_utf8(good.clone()).unwrap().replace("[\"a\",\"b\"]", &words);
            assert!(Entry::decode(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Entry::decode(&bytes);
        }

        #[test]
        fn one_changed_byte_is_another_entry_or_none(at in 0usize..200, bit in 0u8..8) {
            let good = denied().encode().unwrap();
            let mut bad = good.clone();
            let at = at % bad.len();
            bad[at] ^= 1 << bit;
            if let Ok(entry) = Entry::decode(&bad) {
                prop_assert_ne!(entry, denied());
            }
        }
    }
}
