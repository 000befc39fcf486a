//! What a walk over a ledger tells whoever listens: every entry, in order, with what it came to. Reports and explanations are
//! observers of the one walk that judges, so that none of them can see another ledger than the one that was judged.
//!
//! An observer hears an entry before the walk knows whether the signed root vouches for it: what is called proven here is
//! proven only if the report, which comes at the end, says `anchored`.

use crate::finding::Finding;
use crate::payload::Held;
use crate::registry::Registry;
use crate::story::Claim;
use crate::token::RequestClaims;
use countersign_ledger::evidence::{Entry, Phase, TraceState};
use countersign_ledger::tlog::Hash;

/// One entry and what it came to, held against everything before it.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// Its index in the log.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: Hash,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The entry; `None` where its bytes could not be read as one, and then a finding says why.
    pub entry: Option<&'a Entry>,
    /// Where its trace stood before it.
    pub before: Phase,
    /// Where its trace stands after it; `None` where the trace is not known (closed before, its beginning missing, or a rule
    /// broken), and then a finding at this or an earlier entry says why.
    pub state: Option<&'a TraceState>,
    /// What the caller signed, where the trace is a request's and its token came along and was good.
    pub request: Option<&'a RequestClaims>,
    /// The claims that it makes, and whether each is proven (else attested).
    pub claims: &'a [(Claim, bool)],
    /// What is wrong with it.
    pub findings: &'a [Finding],
    /// The payloads of its commitments that came along; each is what was committed to.
    pub payloads: &'a [Held],
    /// Who is who and what is in force, this entry included.
    pub registry: &'a Registry,
}

/// Whoever listens to a walk.
pub trait Observer {
    /// The next entry. Entries whose bytes are missing are passed over.
    fn entry(&mut self, judged: &Judged<'_>);
}

/// Nobody.
impl Observer for () {
    fn entry(&mut self, _: &Judged<'_>) {}
}

impl<F: FnMut(&Judged<'_>)> Observer for F {
    fn entry(&mut self, judged: &Judged<'_>) {
        self(judged);
    }
}
