//! What a caller may see of a column: Cedar is asked for `read_clear` and for `read`, once per request, column and class. What is
//! inside a column and has a class of its own is judged as its column would be if it had that class, so a policy that names the
//! column holds for all that is in it.
//!
//! [`Answers`] remembers what Cedar said. A key is a digest of all that an answer depends on: policies, catalog, principal with its
//! groups, column with its class, and the context but for the time. Where a policy reads the time nothing is remembered.

use crate::catalog::Catalog;
use crate::policy::{Evaluator, Policies, PolicyFault, Subject};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// What a caller may see of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    None,
    Masked,
    Clear,
}

/// Cedar's answers of a column.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) right: Right,
    /// The names of the policies that determined it; none where there is no right.
    pub(crate) policies: BTreeSet<String>,
}

/// More answers than these are not kept: some hundred bytes each.
const MAX_ANSWERS: usize = 100_000;

/// Remembered answers, for as long as whoever holds them likes: they never make a difference but in time.
#[derive(Default)]
pub struct Answers {
    kept: Mutex<HashMap<[u8; 32], Arc<Access>>>,
}

impl Answers {
    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no answer is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&self, key: &[u8; 32]) -> Option<Arc<Access>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: [u8; 32], access: &Arc<Access>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Policies that are no longer in force leave answers that nobody asks for again.
        if kept.len() >= MAX_ANSWERS {
            kept.clear();
        }
        kept.insert(key, access.clone());
    }
}

/// One request's questions about the columns of one table.
pub(crate) struct Asking<'a> {
    policies: &'a Policies,
    subject: &'a Subject,
    purpose: &'a str,
    connection: &'a str,
    table: &'a str,
    /// Where answers are kept, and what all keys of this request begin with.
    answers: Option<(&'a Answers, Sha256)>,
    /// What Cedar is asked with, once it is asked.
    evaluator: Option<Evaluator<'a>>,
    /// What was answered in this request.
    answered: HashMap<(String, String), Arc<Access>>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(
        policies: &'a Policies,
        catalog: &Catalog,
        subject: &'a Subject,
        purpose: &'a str,
        (connection, table): (&'a str, &'a str),
        answers: Option<&'a Answers>,
    ) -> Self {
        let answers = answers.filter(|_| !policies.reads_time()).map(|answers| {
            let mut key = Sha256::new();
            key.update(policies.digest());
            key.update(catalog.digest());
            let mut groups = subject.groups.iter().map(String::as_str).collect::<Vec<_>>();
            groups.sort_unstable();
            groups.dedup();
            key.update((groups.len() as u64).to_be_bytes());
            for text in groups.into_iter().chain([&*subject.id, &*subject.door, purpose, connection, table]) {
                update(&mut key, text);
            }
            key.update([u8::from(subject.on_behalf_of.is_some())]);
            update(&mut key, subject.on_behalf_of.as_deref().unwrap_or_default());
            (answers, key)
        });
        Self { policies, subject, purpose, connection, table, answers, evaluator: None, answered: HashMap::new() }
    }

    /// What the caller may see of a column, if that has this class.
    ///
    /// # Errors
    /// [`PolicyFault`], if any policy fails at evaluation.
    pub(crate) fn access(&mut self, column: &str, class: &str) -> Result<Arc<Access>, PolicyFault> {
        let question = (column.to_owned(), class.to_owned());
        if let Some(access) = self.answered.get(&question) {
            return Ok(access.clone());
        }
        let key = self.answers.as_ref().map(|(answers, key)| {
            let mut key = key.clone();
            update(&mut key, column);
            update(&mut key, class);
            (*answers, <[u8; 32]>::from(key.finalize()))
        });
        let access = match key.and_then(|(answers, key)| answers.get(&key)) {
            Some(access) => access,
            None => {
                let access = Arc::new(self.ask(column, class)?);
                if let Some((answers, key)) = key {
                    answers.keep(key, &access);
                }
                access
            }
        };
        self.answered.insert(question, access.clone());
        Ok(access)
    }

    fn ask(&mut self, column: &str, class: &str) -> Result<Access, PolicyFault> {
        let evaluator = match self.evaluator.take() {
            Some(evaluator) => evaluator,
            None => Evaluator::of_table(self.policies, self.subject, self.purpose, self.connection, self.table)?,
        };
        let evaluator = self.evaluator.insert(evaluator);
        let column = evaluator.column(column, class)?;
        let clear = evaluator.ask("read_clear", &column)?;
        let masked = evaluator.ask("read", &column)?;
        let forbidden = !masked.allowed && !masked.policies.is_empty();
        Ok(if forbidden || !(clear.allowed || masked.allowed) {
            Access { right: Right::None, policies: BTreeSet::new() }
        } else if clear.allowed {
            Access { right: Right::Clear, policies: clear.policies }
        } else {
            // Forbids of `read_clear` helped to determine that the column is masked.
            Access { right: Right::Masked, policies: &masked.policies | &clear.policies }
        })
    }
}

/// Length and bytes, so that no two lists of texts run together.
fn update(key: &mut Sha256, text: &str) {
    key.update((text.len() as u64).to_be_bytes());
    key.update(text);
}
