//! Why a decision is what it is, what another policy would change, and what a policy says to nobody. All of it asks the very code
//! that enforces, [`decide`](crate::decide()) and Cedar through [`policy`](crate::policy), and adds nothing of its own but the order in which it tells.
//!
//! These answers name policies that a caller must not learn of: they are for those who write policies.

use crate::catalog::{Catalog, UNCLASSIFIED};
use crate::decide::{self, Ask, Decision, Verdict};
use crate::filter;
use crate::policy::{self, Action, ColumnOf, Policies, PolicyFault, Resource, Subject};
use crate::reidentify::{self, Question};
use crate::schema::{ColumnType, TableSchema};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Whether policies allow one action on one column, and which ones said so: the permits if they do, the forbids (or none) if not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Yes or no.
    pub allowed: bool,
    /// The policies, sorted.
    pub policies: Vec<String>,
}

/// One column of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnExplained {
    /// The column.
    pub column: String,
    /// Its class.
    pub class: String,
    /// Whether the table has it.
    pub exists: bool,
    /// What policies say to `read_clear`; the fault's policies if one failed.
    pub read_clear: Result<Said, PolicyFault>,
    /// What policies say to `read`, likewise.
    pub read: Result<Said, PolicyFault>,
    /// The decision if it alone were asked for.
    pub alone: Decision,
}

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// Each column that was asked for, by itself.
    pub columns: Vec<ColumnExplained>,
}

/// Decides a request and says why, column by column.
pub fn explain(
    policies: &Policies,
    catalog: &Catalog,
    schema: Option<&TableSchema>,
    subject: &Subject,
    ask: &Ask,
) -> Explanation {
    let decision = decide::decide(policies, catalog, schema, subject, ask);
    let columns = ask.columns.iter().map(|column| {
        let class = class_of(catalog, ask, column);
        let about = ColumnOf { connection: &ask.connection, table: &ask.table, column, class };
        let say = |action: &str| -> Result<Said, PolicyFault> {
            let answer = policy::ask_on_column(policies, subject, &ask.purpose, action, about)?;
            Ok(Said { allowed: answer.allowed, policies: answer.policies.into_iter().collect() })
        };
        let alone = Ask { columns: vec![column.clone()], filter: None, range: None, limit: None, ..ask.clone() };
        ColumnExplained {
            column: column.clone(),
            class: class.to_owned(),
            exists: schema.is_some_and(|schema| schema.column_type(column).is_some()),
            read_clear: say("read_clear"),
            read: say("read"),
            alone: decide::decide(policies, catalog, schema, subject, &alone),
        }
    });
    Explanation { columns: columns.collect(), decision }
}

/// The columns of a table that a decision looks at: those that the request names, and those in row filters of policies. With this
/// much of the table the decision is the same, so it is all that has to be kept to make it again.
pub fn facts(policies: &Policies, schema: &TableSchema, ask: &Ask) -> TableSchema {
    let filter = ask.filter.as_deref().and_then(|filter| filter::parse(filter).ok());
    let mut named = ask.columns.iter().map(String::as_str).collect::<BTreeSet<_>>();
    named.extend(filter.iter().flat_map(filter::Expr::columns));
    named.extend(ask.range.iter().map(|range| range.column.as_str()));
    named.extend(policies.filtered_columns());
    let columns = schema.columns.iter().filter(|(name, _)| named.contains(name.as_str()));
    TableSchema { columns: columns.cloned().collect() }
}

fn class_of<'a>(catalog: &'a Catalog, ask: &Ask, column: &str) -> &'a str {
    let table = catalog.table(&ask.connection, &ask.table);
    table.and_then(|table| table.columns.get(column)).map_or(UNCLASSIFIED, |column| column.class.as_str())
}

// ---------------------------------------------------------------------------------------------------------------------------
// Who may read what

/// The tables as their sources have them, by connection and table. A table that isn't among them is taken to have the catalog's
/// columns, of the types that the catalog states, or text.
pub type Schemas = BTreeMap<(String, String), TableSchema>;

/// The columns of a table: as its source has them, or as the catalog does.
fn schema_of(schemas: &Schemas, catalog: &Catalog, connection: &str, table: &str) -> Option<TableSchema> {
    if let Some(schema) = schemas.get(&(connection.to_owned(), table.to_owned())) {
        return Some(schema.clone());
    }
    assumed_schema(catalog, connection, table)
}

/// A table as its catalog has it: the listed columns, of the types that are stated, or text. For sources that do not answer.
pub fn assumed_schema(catalog: &Catalog, connection: &str, table: &str) -> Option<TableSchema> {
    let columns = catalog.table(connection, table)?.columns.iter();
    let columns = columns.map(|(name, c)| (name.clone(), c.column_type.clone().unwrap_or(ColumnType::Text)));
    Some(TableSchema { columns: columns.collect() })
}

/// A policy with its catalog.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The policies.
    pub policies: &'a Policies,
    /// The catalog.
    pub catalog: &'a Catalog,
}

/// By which doors what is not reading is asked for; reading comes by the subject's own.
#[derive(Debug, Clone, Copy)]
pub struct Doors {
    /// Where people answer requests.
    pub approve: &'static str,
    /// Where evidence is asked for.
    pub audit: &'static str,
    /// Where values for tokens are asked for.
    pub reidentify: &'static str,
}

/// A subject as it comes by that door.
fn by(subject: &Subject, door: &str) -> Subject {
    Subject { door: door.to_owned(), ..subject.clone() }
}

/// One thing that two sets of rules answer differently.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Difference {
    /// The identity.
    pub identity: String,
    /// The one it acts for.
    pub on_behalf_of: Option<String>,
    /// `connection.table.column`, `connection.table` or `ledger`.
    pub resource: String,
    /// `read`, `reidentify`, `approve` or `audit`.
    pub action: &'static str,
    /// The purpose, where the action has one.
    pub purpose: Option<String>,
    /// What the old rules say.
    pub old: String,
    /// What the new rules say.
    pub new: String,
}

/// Everything that changes for these subjects with new rules, sorted. Subjects' times count: a policy that reads the time is asked
/// for that moment only.
pub fn diff(old: Rules<'_>, new: Rules<'_>, schemas: &Schemas, subjects: &[Subject], doors: Doors) -> Vec<Difference> {
    let tables = old.catalog.tables().chain(new.catalog.tables()).map(|(c, t, _)| (c, t)).collect::<BTreeSet<_>>();
    let purposes = old.catalog.purposes().iter().chain(new.catalog.purposes()).collect::<BTreeSet<_>>();
    let mut found = Vec::new();
    for (subject, alike) in alike(subjects, &[old.policies, new.policies]) {
        let first = found.len();
        let difference = |action, resource: String, purpose: Option<&str>, old: String, new: String| Difference {
            identity: subject.id.clone(),
            on_behalf_of: subject.on_behalf_of.clone(),
            resource,
            action,
            purpose: purpose.map(str::to_owned),
            old,
            new,
        };
        let [approver, auditor, asker] = [doors.approve, doors.audit, doors.reidentify].map(|door| by(subject, door));
        // Nobody approves or audits for another.
        let own = subject.on_behalf_of.is_none();
        let right = |rules: Rules<'_>, subject: &Subject, action, resource| match own {
            true => yes(policy::permits(rules.policies, subject, action, resource)),
            false => "no",
        };
        let [was, is] = [old, new].map(|rules| right(rules, &auditor, Action::Audit, Resource::Ledger));
        if was != is {
            found.push(difference("audit", "ledger".into(), None, was.into(), is.into()));
        }
        for (connection, table) in &tables {
            let on_table = Resource::Table(connection, table);
            let [was, is] = [old, new].map(|rules| right(rules, &approver, Action::Approve, on_table));
            if was != is {
                found.push(difference("approve", format!("{connection}.{table}"), None, was.into(), is.into()));
            }
            let [was, is] = [old, new].map(|rules| schema_of(schemas, rules.catalog, connection, table));
            let columns = [&was, &is].into_iter().flatten().flat_map(|schema| &schema.columns).map(|(name, _)| name);
            for column in columns.collect::<BTreeSet<_>>() {
                for purpose in &purposes {
                    let resource = || format!("{connection}.{table}.{column}");
                    let ask = Ask {
                        connection: (*connection).to_owned(),
                        table: (*table).to_owned(),
                        columns: vec![column.clone()],
                        purpose: (*purpose).clone(),
                        ..Ask::default()
                    };
                    let [before, after] = [(old, was.as_ref()), (new, is.as_ref())].map(|(rules, schema)| {
                        summary(&decide::decide(rules.policies, rules.catalog, schema, subject, &ask))
                    });
                    if before != after {
                        found.push(difference("read", resource(), Some(purpose), before, after));
                    }
                    let question = Question {
                        connection: ask.connection.clone(),
                        table: ask.table.clone(),
                        column: column.clone(),
                        purpose: ask.purpose.clone(),
                    };
                    let [before, after] = [old, new].map(|rules| {
                        match reidentify::reidentify(rules.policies, rules.catalog, &asker, &question).answer {
                            Ok(undo) => undo.rule().to_string(),
                            Err(reason) => reason.as_str().to_owned(),
                        }
                    });
                    if before != after {
                        found.push(difference("reidentify", resource(), Some(purpose), before, after));
                    }
                }
            }
        }
        let same = found.get(first..).unwrap_or_default().to_vec();
        for id in alike {
            found.extend(same.iter().map(|difference| Difference { identity: id.clone(), ..difference.clone() }));
        }
    }
    found.sort();
    found
}

/// One subject of each kind that these policies can tell apart, with the names of the others of its kind.
fn alike<'a>(subjects: &'a [Subject], policies: &[&Policies]) -> Vec<(&'a Subject, Vec<String>)> {
    let mut kinds: BTreeMap<_, (&Subject, Vec<String>)> = BTreeMap::new();
    for subject in subjects {
        // Policies see of a principal which one it is, if they name it, and its groups.
        let named = policies.iter().any(|policies| policies.names_identity(&subject.id)).then_some(&subject.id);
        let groups = subject.groups.iter().collect::<BTreeSet<_>>();
        match kinds.entry((named, groups, &subject.on_behalf_of, &subject.door, subject.time)) {
            Entry::Vacant(place) => {
                place.insert((subject, Vec::new()));
            }
            Entry::Occupied(mut kind) => kind.get_mut().1.push(subject.id.clone()),
        }
    }
    kinds.into_values().collect()
}

fn yes(answer: Result<bool, PolicyFault>) -> &'static str {
    match answer {
        Ok(true) => "yes",
        Ok(false) => "no",
        Err(_) => "policy_error",
    }
}

/// A decision on one column in one line: how it leaves, after whose approval, which rows, how many, bytes, seconds.
pub fn summary(decision: &Decision) -> String {
    let groups = match &decision.verdict {
        Verdict::Deny(reason) => return reason.as_str().to_owned(),
        Verdict::Permit => String::new(),
        Verdict::NeedsApproval(groups) => format!(" once approved by {}", groups.join(" and ")),
    };
    let columns = decision.obligations.columns.iter().map(|column| {
        let inside = column.paths.iter().map(|path| format!(", {} in it {}", path.path, path.rule));
        std::iter::once(column.rule.to_string()).chain(inside).collect::<String>()
    });
    let columns = columns.collect::<Vec<_>>();
    let rows = decision.obligations.rows.as_ref().map(|rows| format!(", rows {rows}")).unwrap_or_default();
    let limit = decision.obligations.limit;
    format!(
        "{}{groups}{rows}, at most {} rows, {} bytes, {} s",
        columns.join(", "),
        limit.rows,
        limit.bytes,
        limit.seconds
    )
}

/// What a set of rules says to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Idle {
    /// The policies whose conditions none of these subjects meets, in anything that they could ask; sorted. One that reads the time
    /// may do so at another moment.
    pub policies: Vec<String>,
    /// The columns that none of these subjects can read in any way, as `connection.table.column`; sorted.
    pub columns: Vec<String>,
}

/// Finds policies that can never match, and columns that nobody can read, among these subjects, the catalog's tables and purposes.
pub fn idle(rules: Rules<'_>, schemas: &Schemas, subjects: &[Subject], doors: Doors) -> Idle {
    let Rules { policies, catalog } = rules;
    // Permits beside a forbid that holds, and forbids beside nothing to forbid, tell Cedar's answer nothing: each kind is asked alone.
    let halves = policies.halves();
    let mut met = BTreeSet::new();
    let mut readable = BTreeSet::new();
    let mut columns = BTreeSet::new();
    for (subject, _) in alike(subjects, &[policies]) {
        let [approver, auditor, asker] = [doors.approve, doors.audit, doors.reidentify].map(|door| by(subject, door));
        // Nobody approves or audits for another.
        let own = if subject.on_behalf_of.is_none() { halves.as_slice() } else { &[] };
        for half in own {
            met.extend(policy::met(half, &auditor, Action::Audit, Resource::Ledger));
        }
        for (connection, table, entry) in catalog.tables() {
            for half in own {
                met.extend(policy::met(half, &approver, Action::Approve, Resource::Table(connection, table)));
                met.extend(policy::met(half, &auditor, Action::Audit, Resource::Table(connection, table)));
                met.extend(policy::met(half, &auditor, Action::Audit, Resource::Connection(connection)));
            }
            let Some(schema) = schema_of(schemas, catalog, connection, table) else { continue };
            for (column, column_type) in &schema.columns {
                for purpose in catalog.purposes() {
                    let ask = Ask {
                        connection: connection.to_owned(),
                        table: table.to_owned(),
                        columns: vec![column.clone()],
                        purpose: purpose.clone(),
                        ..Ask::default()
                    };
                    let inside = entry.paths_into(column, column_type).map(|rule| rule.class.as_str());
                    for class in std::iter::once(class_of(catalog, &ask, column)).chain(inside) {
                        let about = ColumnOf { connection, table, column, class };
                        for half in &halves {
                            for (action, subject) in
                                [("read", subject), ("read_clear", subject), ("reidentify", &asker)]
                            {
                                match policy::ask_on_column(half, subject, purpose, action, about) {
                                    Ok(answer) => met.extend(answer.policies),
                                    // One that fails was asked, and is told of as an error elsewhere.
                                    Err(fault) => met.extend(fault.policies),
                                }
                            }
                        }
                    }
                    let name = format!("{connection}.{table}.{column}");
                    let decision = decide::decide(policies, catalog, Some(&schema), subject, &ask);
                    if !matches!(decision.verdict, Verdict::Deny(_)) {
                        readable.insert(name.clone());
                    }
                    columns.insert(name);
                }
            }
        }
    }
    Idle {
        policies: policies.ids().filter(|id| !met.contains(*id)).map(str::to_owned).collect(),
        columns: columns.difference(&readable).cloned().collect(),
    }
}
