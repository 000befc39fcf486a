//! How often an identity has asked: what `@limit("rate=…")` counts. Requests count when policy answers them with anything but no,
//! under each policy with a rate that the answer rests on. The counts are kept in memory and, at start, read back from the
//! ledger; a policy that is new begins at nothing.

use countersign_ledger::evidence::step::Verdict;
use countersign_ledger::evidence::{Step, TraceId};
use countersign_ledger::store::{Ledger, StoreError};
use countersign_masker::{Policies, Rate};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// The requests of an identity (its pseudonym) under a policy, the oldest first, with their times in Unix seconds.
type Counted = HashMap<(String, String), VecDeque<(u64, TraceId)>>;

/// Who has asked how often.
#[derive(Debug, Default)]
pub struct Rates {
    counted: Mutex<Counted>,
}

impl Rates {
    /// Reads back what counts at `now` from the ledger's end.
    pub fn load(ledger: &Ledger, policies: &Policies, now: u64) -> Result<Self, StoreError> {
        let rates = Self::default();
        let Some(window) = policies.longest_rate() else { return Ok(rates) };
        let mut found = Vec::new();
        for index in (0..ledger.size().get()).rev() {
            let Some(entry) = ledger.entry(index)? else { break };
            let at = entry.at.get() / 1_000_000;
            if at + window <= now {
                break;
            }
            if let Step::PolicyDecided(step) = &entry.body
                && step.verdict != Verdict::Deny
                && let Some(subject) = ledger.trace(&entry.trace)?.and_then(|head| head.state.subject)
            {
                found.push((subject, step.policies.clone(), entry.trace, at));
            }
        }
        for (subject, determining, trace, at) in found.into_iter().rev() {
            rates.count(&subject, trace, policies, &determining, at);
        }
        Ok(rates)
    }

    /// Counts a request that rests on these policies, unless it is one too many: then nothing is counted, and the policy is
    /// named.
    pub fn take<'a>(
        &self,
        subject: &str,
        trace: TraceId,
        policies: &Policies,
        determining: &'a [String],
        now: u64,
    ) -> Result<(), &'a str> {
        if let Some(id) = self.used_up(subject, trace, policies, determining, now) {
            return Err(id);
        }
        self.count(subject, trace, policies, determining, now);
        Ok(())
    }

    /// The first of these policies whose rate leaves no room for one request more; nothing is counted.
    pub fn used_up<'a>(
        &self,
        subject: &str,
        trace: TraceId,
        policies: &Policies,
        determining: &'a [String],
        now: u64,
    ) -> Option<&'a str> {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for id in determining {
            let Some(Rate { requests, seconds }) = policies.rate(id) else { continue };
            let Some(asked) = counted.get(&(subject.to_owned(), id.clone())) else { continue };
            // A request that is decided twice, since something had moved before it was recorded, counts once.
            let others = asked.iter().filter(|(at, other)| at + seconds > now && *other != trace).count();
            if others as u64 >= requests {
                return Some(id);
            }
        }
        None
    }

    fn count(&self, subject: &str, trace: TraceId, policies: &Policies, determining: &[String], now: u64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for id in determining {
            let Some(Rate { seconds, .. }) = policies.rate(id) else { continue };
            let asked = counted.entry((subject.to_owned(), id.clone())).or_default();
            // As long as the rate at most, since no more than that are ever counted.
            while asked.front().is_some_and(|(at, _)| at + seconds <= now) {
                asked.pop_front();
            }
            if asked.iter().all(|(_, other)| *other != trace) {
                asked.push_back((now, trace));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Subject, number of the request, policies, time, the policy that refuses.
    type Case = (&'static str, u8, &'static [&'static str], u64, Option<&'static str>);

    #[test]
    fn one_too_many_is_refused_until_the_first_is_old() {
        let text = "@id(\"a\") @limit(\"rate=2/minute\") permit (principal, action == Action::\"read\", resource); \
                    @id(\"b\") @limit(\"rows=5, rate=3/hour\") permit (principal, action == Action::\"read\", resource); \
                    @id(\"c\") permit (principal, action == Action::\"read\", resource);";
        let policies = Policies::parse("policy", text).unwrap();
        assert_eq!(policies.longest_rate(), Some(3600));
        let rates = Rates::default();
        let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let cases: [Case; 12] = [
            ("kim", 1, &["a", "b"], 1000, None),
            ("kim", 1, &["a", "b"], 1000, None),
            ("kim", 2, &["a", "b"], 1010, None),
            ("kim", 3, &["a", "b"], 1059, Some("a")),
            ("kim", 3, &["b"], 1059, None),
            ("kim", 4, &["b"], 1060, Some("b")),
            ("kim", 4, &["a", "b"], 1060, Some("b")),
            ("kim", 4, &["a"], 1060, None),
            ("kim", 5, &["a"], 1061, Some("a")),
            ("kim", 5, &["c"], 1061, None),
            ("bot", 6, &["a", "b"], 1061, None),
            ("kim", 7, &["b"], 4600, None),
        ];
        for (subject, n, determining, now, refused) in cases {
            let trace = TraceId::request(subject, &n.to_string());
            let determining = ids(determining);
            let taken = rates.take(subject, trace, &policies, &determining, now);
            assert_eq!(taken.err(), refused, "{subject} {n} at {now}");
        }
    }
}
