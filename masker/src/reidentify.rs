//! Re-identification: who may have the values behind tokens, and the turning back. `token` and `ff1` are the masks that can be
//! undone, by those who have the right `reidentify`.
//!
//! **The right.** A token doesn't say which column it was taken from: it is the same in every column of one key domain. So the
//! right to a column's tokens is the right to all columns that may be masked in that domain: those that the catalog masks so, and
//! those in the scope of a policy whose `@mask` does. Cedar is asked for `reidentify` on each, with the purpose that the
//! tokens were made for, and one refusal refuses. A column whose mask in the catalog can't be undone, an unknown column and
//! a forbidden one get the same answer: what a policy's `@mask` alone makes of a column is asked for under a column that
//! the catalog masks in its domain.
//!
//! **The decision is pure** and complete, as that of [`decide`](crate::decide()) is: texts, subject and question give the same answer
//! for ever.

use crate::catalog::{Catalog, Table};
use crate::decide::DenyReason;
use crate::policy::{self, Policies, Subject};
use crate::schema::ColumnType;
use crate::transform::{Mask, RevealError, TokenKeys};
use std::collections::BTreeSet;

/// What somebody asks for who has tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The connection.
    pub connection: String,
    /// The table, as the catalog writes it after the connection.
    pub table: String,
    /// The column that they were taken from, or the path in it, as the catalog writes it.
    pub column: String,
    /// The purpose that they were made for, one of the catalog's.
    pub purpose: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reidentification {
    /// The names of the policies that determined it, sorted: permits, or for [`DenyReason::PolicyError`] those that failed.
    pub policies: Vec<String>,
    /// The mask that may be undone, or why none may.
    pub answer: Result<Undo, DenyReason>,
}

/// A mask that may be undone for one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    mask: Mask,
    purpose: String,
}

impl Undo {
    /// The mask, as catalogs write it.
    pub fn rule(&self) -> &Mask {
        &self.mask
    }

    /// Whether the type of the column makes a difference, and the version of the key has to be known: tokens name theirs.
    pub fn needs_type(&self) -> bool {
        matches!(self.mask, Mask::Ff1(_))
    }

    /// The value behind `masked`. `column` is the type of the column before masking, `version` that of the key that `ff1` was made
    /// with, from 1; the newest if there is none.
    ///
    /// # Errors
    /// [`RevealError`], if the mask doesn't write such a thing with these keys.
    pub fn reveal(
        &self,
        keys: &TokenKeys,
        column: &ColumnType,
        version: Option<usize>,
        masked: &str,
    ) -> Result<String, RevealError> {
        match &self.mask {
            Mask::Token(domain) => keys.reveal(domain, &self.purpose, masked),
            Mask::Ff1(rule) => {
                keys.reveal_ff1(rule, &self.purpose, version.unwrap_or_else(|| keys.version()), column, masked)
            }
            _ => Err(RevealError::Form),
        }
    }
}

/// The key domain of a mask that can be undone.
fn domain(mask: &Mask) -> Option<(bool, &str)> {
    match mask {
        Mask::Token(domain) => Some((true, domain)),
        Mask::Ff1(rule) => Some((false, &rule.domain)),
        _ => None,
    }
}

/// Decides who may have the values behind tokens.
pub fn reidentify(policies: &Policies, catalog: &Catalog, subject: &Subject, question: &Question) -> Reidentification {
    match permitted(policies, catalog, subject, question) {
        Ok((undo, policies)) => Reidentification { policies: policies.into_iter().collect(), answer: Ok(undo) },
        Err((reason, policies)) => Reidentification { policies, answer: Err(reason) },
    }
}

type Permitted = (Undo, BTreeSet<String>);

fn permitted(
    policies: &Policies,
    catalog: &Catalog,
    subject: &Subject,
    question: &Question,
) -> Result<Permitted, (DenyReason, Vec<String>)> {
    let no = |reason| (reason, Vec::new());
    if !catalog.purposes().contains(&question.purpose) {
        return Err(no(DenyReason::BadPurpose));
    }
    let table = catalog.table(&question.connection, &question.table);
    let inside = |table: &Table| table.paths.iter().find(|rule| rule.path.to_string() == question.column).cloned();
    let mask = match table.and_then(|table| table.columns.get(&question.column)) {
        Some(column) => Some(column.mask.clone()),
        None => table.and_then(inside).map(|rule| rule.mask),
    };
    let mask = mask.filter(|mask| domain(mask).is_some());
    let mask = mask.ok_or_else(|| no(DenyReason::Forbidden))?;
    let mut determining = BTreeSet::new();
    let mut ask = |connection: &str, table: &str, column: &str, class: &str| {
        let about = policy::ColumnOf { connection, table, column, class };
        let answer = policy::ask_on_column(policies, subject, &question.purpose, "reidentify", about);
        let answer = answer.map_err(|fault| (DenyReason::PolicyError, fault.policies))?;
        determining.extend(answer.policies);
        if answer.allowed { Ok(()) } else { Err(no(DenyReason::Forbidden)) }
    };
    let same = |other: &Mask| domain(other) == domain(&mask);
    let scopes = policies.scopes_of_masks(same);
    for (connection, table, entry) in catalog.tables() {
        let may_be = |name: &str, mask: &Mask| same(mask) || scopes.take_in(connection, table, name);
        for (name, column) in entry.columns.iter().filter(|(name, column)| may_be(name, &column.mask)) {
            ask(connection, table, name, &column.class)?;
        }
        for rule in &entry.paths {
            // A path that names no column may lead into any.
            let named = rule.path.column();
            let into = entry.columns.keys().filter(|name| named.is_none_or(|named| named == *name));
            for name in into.filter(|name| may_be(name, &rule.mask)) {
                ask(connection, table, name, &rule.class)?;
            }
        }
    }
    Ok((Undo { mask, purpose: question.purpose.clone() }, determining))
}
