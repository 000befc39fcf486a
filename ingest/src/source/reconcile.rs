//! Two accounts of the same thing: the statements that a database's own log names for our role, and the entries of the ledger that
//! stand for one, `source.queried` and `source.sampled`. What stands in only one of them is told. Every statement that fetches rows carries its request's trace as a
//! comment ([`sql`](super::sql)), and the ledger commits to its exact text; the few that fetch none are known by heart.

use super::pglog::Logged;
use super::sql;
use countersign_ledger::evidence::TraceId;
use serde::Serialize;
use std::collections::BTreeMap;

/// A `source.queried` or `source.sampled` of the ledger.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its index.
    pub entry: u64,
    /// Its trace.
    pub trace: TraceId,
    /// When, microseconds of Unix time.
    pub at_micros: u64,
    /// The exact SQL, where the vault still has it.
    pub sql: Option<String>,
}

/// A statement by our role that nothing in the ledger explains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unexplained {
    /// The line of the log.
    pub line: u64,
    /// When, microseconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_micros: Option<u64>,
    /// Why nothing explains it.
    pub why: &'static str,
    /// The trace that its comment names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// The statement. It may hold values: whoever reads the log has seen it.
    pub sql: String,
}

/// A `source.queried` that the log does not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// Its index.
    pub entry: u64,
    /// Its trace.
    pub trace: TraceId,
    /// When, microseconds of Unix time.
    pub at_micros: u64,
}

/// What the two accounts come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Statements that a `source.queried` explains, word by word.
    pub same_text: u64,
    /// Statements that a `source.queried` explains by its trace alone, since the vault no longer has the text.
    pub same_trace: u64,
    /// Statements that fetch no rows: transactions, the catalog, values.
    pub without_rows: u64,
    /// Statements of other roles.
    pub other_roles: u64,
    /// Entries outside the time that the log covers.
    pub out_of_time: u64,
    /// Statements that nothing explains.
    pub unexplained: Vec<Unexplained>,
    /// Entries that the log does not show.
    pub unseen: Vec<Unseen>,
}

impl Reconciled {
    /// Whether both accounts agree.
    pub fn agrees(&self) -> bool {
        self.unexplained.is_empty() && self.unseen.is_empty()
    }
}

/// How far the two clocks may differ at the edges of the log, in microseconds.
const SKEW_MICROS: u64 = 60_000_000;

/// Compares.
pub struct Reconciler {
    role: String,
    /// What waits for its statement, by trace, in the order of the ledger.
    recorded: BTreeMap<TraceId, Vec<Recorded>>,
    /// The first and the last time in the log; none while one could not be told.
    span: Option<(u64, u64)>,
    timeless: bool,
    found: Reconciled,
}

impl Reconciler {
    /// For the statements of that role.
    pub fn new(role: &str, recorded: impl IntoIterator<Item = Recorded>) -> Self {
        let mut by_trace: BTreeMap<TraceId, Vec<Recorded>> = BTreeMap::new();
        for recorded in recorded {
            by_trace.entry(recorded.trace).or_default().push(recorded);
        }
        Self { role: role.into(), recorded: by_trace, span: None, timeless: false, found: Reconciled::default() }
    }

    /// Takes a statement of the log.
    pub fn take(&mut self, logged: Logged) {
        match logged.at_micros {
            Some(at) => {
                let (first, last) = self.span.unwrap_or((at, at));
                self.span = Some((first.min(at), last.max(at)));
            }
            None => self.timeless = true,
        }
        if logged.user != self.role {
            self.found.other_roles += 1;
            return;
        }
        if sql::fetches_nothing(&logged.sql) {
            self.found.without_rows += 1;
            return;
        }
        let trace = sql::trace_of(&logged.sql);
        let why = match trace.and_then(|trace| self.recorded.get_mut(&trace)) {
            _ if trace.is_none() => "it is none of ours",
            None => "the ledger has no such trace, or none that queried this connection",
            Some(waiting) => {
                // An attempt that was sent twice is one too many; one whose text is known must be that text.
                let exact = waiting.iter().position(|recorded| recorded.sql.as_deref() == Some(&*logged.sql));
                match exact.or_else(|| waiting.iter().position(|recorded| recorded.sql.is_none())) {
                    Some(at) => {
                        let recorded = waiting.remove(at);
                        match recorded.sql {
                            Some(_) => self.found.same_text += 1,
                            None => self.found.same_trace += 1,
                        }
                        return;
                    }
                    None if waiting.is_empty() => "its request was not recorded to query so often",
                    None => "its text is not the one that was recorded",
                }
            }
        };
        let Logged { line, at_micros, sql, .. } = logged;
        self.found.unexplained.push(Unexplained { line, at_micros, why, trace, sql });
    }

    /// Says what is left.
    pub fn finish(mut self) -> Reconciled {
        let span = self.span.filter(|_| !self.timeless);
        for recorded in self.recorded.into_values().flatten() {
            let covered = span.is_none_or(|(first, last)| {
                recorded.at_micros >= first.saturating_sub(SKEW_MICROS) && recorded.at_micros <= last + SKEW_MICROS
            });
            if covered {
                let Recorded { entry, trace, at_micros, .. } = recorded;
                self.found.unseen.push(Unseen { entry, trace, at_micros });
            } else {
                self.found.out_of_time += 1;
            }
        }
        self.found.unseen.sort_by_key(|unseen| unseen.entry);
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(n: u8) -> TraceId {
        TraceId::request("someone", &n.to_string())
    }

    fn copy(n: u8, what: &str) -> String {
        format!("/* countersign trace={} */ COPY (SELECT {what}) TO STDOUT (FORMAT binary)", trace(n))
    }

    fn logged(line: u64, user: &str, sql: &str) -> Logged {
        Logged { line, at_micros: Some(1_000_000_000 + line), user: user.into(), sql: sql.into() }
    }

    fn recorded(entry: u64, n: u8, sql: Option<&str>) -> Recorded {
        Recorded { entry, trace: trace(n), at_micros: 1_000_000_000, sql: sql.map(str::to_owned) }
    }

    #[test]
    fn both_accounts() {
        let (first, second, third) = (copy(1, "1"), copy(2, "2"), copy(3, "3"));
        let known = [
            recorded(10, 1, Some(&first)),
            recorded(20, 2, None),
            recorded(30, 3, Some(&third)),
            recorded(40, 4, None),
            Recorded { at_micros: 9, ..recorded(5, 5, None) },
        ];
        let mut reconciler = Reconciler::new("app", known);
        let statements = [
            ("app", sql::begin(5)),
            ("app", sql::SNAPSHOT.into()),
            ("app", sql::END.into()),
            ("app", first.clone()),
            ("app", second),
            ("app", first),
            ("app", copy(3, "*")),
            ("app", copy(6, "6")),
            ("app", "SELECT email FROM customers".into()),
            ("app", format!("{}; DROP TABLE x", sql::begin(5))),
            ("dba", "SELECT 1".into()),
        ];
        for (at, (user, sql)) in statements.into_iter().enumerate() {
            reconciler.take(logged(at as u64, user, &sql));
        }
        let found = reconciler.finish();
        let unexplained: Vec<_> = found.unexplained.iter().map(|u| u.line).collect();
        let unseen: Vec<_> = found.unseen.iter().map(|u| u.entry).collect();
        assert_eq!((found.same_text, found.same_trace, found.without_rows, found.other_roles), (1, 1, 3, 1));
        assert_eq!((unexplained, unseen, found.out_of_time), (vec![5, 6, 7, 8, 9], vec![30, 40], 1));
        assert!(!found.agrees());
    }
}
