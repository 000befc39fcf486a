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
    canonical::{Canonical, Reader},
    digest::TraceId,
    step::{Int, Step, Text},
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
    pub src: Text,
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
        // Canonical bytes have one spelling, so members can be looked for where they must stand. What is not found there is read
        // as any JSON, which says what is wrong with it.
        match Self::decode_in_place(bytes) {
            Some(entry) => {
                // Holds by construction; tests and fuzzers look.
                debug_assert!(entry.encode().is_ok_and(|again| again == bytes), "{entry:?}");
                Ok(entry)
            }
            None => Self::decode_as_json(bytes),
        }
    }

    /// Reads canonical bytes. Gives what [`decode_as_json`](Self::decode_as_json) gives, or nothing.
    #[inline]
    fn decode_in_place(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_ENTRY_BYTES)?);
        reader.take(r#"{"v":1,"type":"#)?;
        let kind = reader.string()?;
        let trace = TraceId::member(&mut reader, r#""trace":"#)?;
        let step = Int::member(&mut reader, r#""step":"#)?;
        let prev = Option::<Hash>::member(&mut reader, r#""prev":"#)?;
        let at = Int::member(&mut reader, r#""at":"#)?;
        let src = Text::member(&mut reader, r#""src":"#)?;
        let seq = Int::member(&mut reader, r#""seq":"#)?;
        reader.name(r#""body":"#)?;
        let body = Step::take_body(kind, &mut reader)?;
        reader.close()?;
        if (step == Int::ZERO) == prev.is_some() || !reader.is_empty() {
            return None;
        }
        Some(Self { trace, step, prev, at, src, seq, body })
    }

    fn decode_as_json(bytes: &[u8]) -> Result<Self, EntryError> {
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
            src: wire.src.into(),
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
    use crate::evidence::step::{
        ApprovalRequested, ChunkMasked, ClassHits, MaskedColumn, MaskedPath, Reason, RequestDenied, RequestRejected,
    };
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

    /// Both ways of reading agree, as far as the quick one has something to say.
    fn read(bytes: &[u8]) -> Option<Entry> {
        let (quick, slow) = (Entry::decode_in_place(bytes), Entry::decode_as_json(bytes).ok());
        assert!(quick.is_none() || quick == slow, "{}", String::from_utf8_lossy(bytes));
        slow
    }

    #[test]
    fn canonical_bytes_are_read_in_place() {
        let mut entry = denied();
        for (step, prev) in [(0, None), (1, Some(Hash::from_bytes([7; 32])))] {
            (entry.step, entry.prev) = (Int::saturating(step), prev);
            assert_eq!(Entry::decode_in_place(&entry.encode().unwrap()).as_ref(), Some(&entry));
        }
        // Rare enough to go the long way.
        entry.src = "a \"quoted\" one".into();
        let bytes = entry.encode().unwrap();
        assert_eq!((Entry::decode_in_place(&bytes), Entry::decode(&bytes).ok()), (None, Some(entry)));
    }

    #[test]
    fn sorted_lists_have_one_order() {
        let asked = |groups: &[&str]| {
            let groups = groups.iter().map(|g| (*g).to_owned()).collect();
            let zero = Hash::from_bytes([0; 32]);
            sample(ApprovalRequested { groups, request: zero, obligations: zero, not_after: Int::ONE }.into())
        };
        let good = asked(&["a", "b"]).encode().unwrap();
        assert!(read(&good).is_some());
        for bad in [&["b", "a"], &["a", "a"]] {
            let error = asked(bad).encode().unwrap_err().to_string();
            assert!(error.contains("`groups` is not sorted"), "{error}");
            let words = format!("[\"{}\",\"{}\"]", bad[0], bad[1]);
            let text = String::from_utf8(good.clone()).unwrap().replace("[\"a\",\"b\"]", &words);
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_has_one_spelling() {
        let account = |hits: &[u64], paths: usize| {
            let path = MaskedPath {
                path: "a.b".into(),
                class: "c".into(),
                rule: "redact".into(),
                seen: Int::ONE,
                changed: Int::ONE,
                hits: vec![],
            };
            let hit = |count: &u64| ClassHits { class: "fin.card".into(), count: Int::saturating(*count) };
            let column = MaskedColumn {
                column: "a column with a name of more than 24 bytes".into(),
                class: "text".into(),
                rule: "detect".into(),
                transform: "detect".into(),
                seen: Int::ONE,
                changed: Int::ZERO,
                hits: hits.iter().map(hit).collect(),
                paths: vec![path; paths],
            };
            let rows_root = (paths == 0).then(|| Hash::from_bytes([7; 32]));
            sample(ChunkMasked { attempt: Int::ONE, rows: Int::ONE, columns: vec![column; 9], rows_root }.into())
        };
        for entry in [account(&[], 0), account(&[1, 1 << 40], 0), account(&[7], 2)] {
            let bytes = entry.encode().unwrap();
            assert_eq!(Entry::decode_in_place(&bytes).as_ref(), Some(&entry));
            let text = String::from_utf8(bytes).unwrap();
            let spellings = [
                ("\"changed\":0", "\"changed\":0,\"hits\":[]"),
                ("\"changed\":0", "\"changed\":0,\"paths\":[]"),
                ("\"changed\":0", "\"changed\":00"),
                ("\"columns\":[", "\"columns\":[,"),
                ("}]", "},]"),
                ("}}", "},\"rows_root\":null}"),
                ("{\"column\"", "{,\"column\""),
            ];
            for (from, to) in spellings {
                let bad = text.replacen(from, to, 1);
                assert!(bad == text || read(bad.as_bytes()).is_none(), "{bad}");
            }
        }
    }

    proptest! {
        #[test]
        fn both_ways_agree(edits in proptest::collection::vec((0usize..400, any::<u8>(), 0u8..3), 1..4)) {
            let mut bytes = denied().encode().unwrap();
            for (at, byte, kind) in edits {
                let at = at % bytes.len();
                // Mostly what such bytes are made of.
                let byte = if byte < 200 { b"0123456789abcdef\"\\{},:"[usize::from(byte) % 22] } else { byte };
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => { bytes.remove(at); }
                }
            }
            read(&bytes);
        }

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
