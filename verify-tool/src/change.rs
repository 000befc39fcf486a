//! Change documents: what admins sign, held against the entry that came of it. The form is that of `docs/formats.md`; a
//! document of another form is not judged, and its signatures then stay attested.

use countersign_ledger::evidence::digest::sha256;
use countersign_ledger::evidence::step::{Alg, Kind, Revocation};
use countersign_ledger::evidence::{Entry, Step};
use countersign_ledger::tlog::Hash;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    origin: String,
    #[serde(default)]
    after: Option<Hash>,
    change: Operation,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Operation {
    RegisterIdentity(IdentityRecord),
    RevokeIdentity { name: String, reason: Revocation },
    SetGroups { name: String, groups: Vec<String> },
    SetPolicy { text: String },
    SetCatalog { text: String },
    SetConnection(ConnectionDocument),
}

/// The record that resolves a pseudonym.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRecord {
    /// The name that `iss` and `sub` of its tokens state.
    pub name: String,
    pseudonym: String,
    kind: Kind,
    admin: bool,
    groups: Vec<String>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    on_behalf_of: Option<String>,
    alg: Alg,
    key: String,
    not_after: u64,
    #[serde(default)]
    destination: Option<String>,
    possession: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionDocument {
    name: String,
    store: Value,
}

/// What a change document says of an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The very change that the entry records.
    Same,
    /// Something else: what was found, and what the entry says.
    Other(String, String),
    /// A form that this version cannot judge.
    Unknown,
}

/// What the entry and its other payloads are held against.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The log's origin.
    pub origin: &'a str,
    /// The entry.
    pub entry: &'a Entry,
    /// The bytes of the entry's own document (identity record, policy, catalog, connection), where they came along.
    pub document: Option<&'a [u8]>,
}

/// Holds a change document against an entry. `name_of` resolves pseudonyms, as far as it can.
pub fn compare(document: &[u8], facts: Facts<'_>, name_of: impl Fn(&str) -> Option<String>) -> Agreement {
    let Ok(change) = serde_json::from_slice::<Change>(document) else { return Agreement::Unknown };
    let same = || -> Result<(), (String, String)> {
        equal("origin", &change.origin, &facts.origin.to_owned())?;
        let head = |head: Option<Hash>| head.map_or("nothing".to_owned(), |hash| hash.to_string());
        equal("after", &head(change.after), &head(facts.entry.prev))?;
        operation(&change.change, facts, &name_of)
    };
    match same() {
        Ok(()) => Agreement::Same,
        Err((found, expected)) => Agreement::Other(found, expected),
    }
}

fn operation(
    operation: &Operation,
    facts: Facts<'_>,
    name_of: &impl Fn(&str) -> Option<String>,
) -> Result<(), (String, String)> {
    let person = |name: &str, pseudonym: &str| match name_of(pseudonym) {
        Some(known) => equal("name", name, &known),
        None => Ok(()),
    };
    match (operation, &facts.entry.body) {
        (Operation::RegisterIdentity(record), Step::IdentityRegistered(s)) => {
            equal("pseudonym", &record.pseudonym, &s.identity)?;
            equal("kind", &record.kind, &s.kind)?;
            equal("admin", &record.admin, &s.admin)?;
            equal("groups", &sorted(&record.groups), &s.groups)?;
            equal("alg", &record.alg, &s.alg)?;
            equal("key", &record.key, &s.key)?;
            equal("not_after", &record.not_after, &s.not_after.get())?;
            for (what, name, pseudonym) in
                [("owner", &record.owner, &s.owner), ("on_behalf_of", &record.on_behalf_of, &s.on_behalf_of)]
            {
                match (name, pseudonym) {
                    (Some(name), Some(pseudonym)) => person(name, pseudonym)?,
                    _ => equal(what, &name.is_some(), &pseudonym.is_some())?,
                }
            }
            match facts.document.map(serde_json::from_slice::<IdentityRecord>) {
                Some(Ok(kept)) if kept != *record => Err(different("identity record")),
                _ => Ok(()),
            }
        }
        (Operation::RevokeIdentity { name, reason }, Step::IdentityRevoked(s)) => {
            equal("reason", reason, &s.reason)?;
            person(name, &s.identity)
        }
        (Operation::SetGroups { name, groups }, Step::GroupsChanged(s)) => {
            equal("groups", &sorted(groups), &s.groups)?;
            person(name, &s.identity)
        }
        (Operation::SetPolicy { text }, Step::PolicyChanged(s)) => equal("digest", &sha256(text.as_bytes()), &s.digest),
        (Operation::SetCatalog { text }, Step::CatalogChanged(s)) => {
            equal("digest", &sha256(text.as_bytes()), &s.digest)
        }
        (Operation::SetConnection(document), Step::ConnectionChanged(s)) => {
            equal("connection", &document.name, &s.connection)?;
            equal("kind", document.store.get("kind").and_then(Value::as_str).unwrap_or_default(), &s.kind)?;
            match facts.document.map(serde_json::from_slice::<ConnectionDocument>) {
                Some(Ok(kept)) if kept != *document => Err(different("description")),
                _ => Ok(()),
            }
        }
        (_, step) => Err(("a change of another kind".into(), format!("`{}`", step.kind()))),
    }
}

fn different(what: &str) -> (String, String) {
    (format!("another {what}"), format!("the {what} that the entry commits to"))
}

fn sorted(groups: &[String]) -> Vec<String> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn equal<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, found: &T, expected: &T) -> Result<(), (String, String)> {
    if found == expected { Ok(()) } else { Err((format!("{what} {found:?}"), format!("{what} {expected:?}"))) }
}

/// The name in an identity's record, and the topic of its chunks, where the bytes are one.
pub fn record_name(record: &[u8]) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Record {
        name: String,
        #[serde(default)]
        destination: Option<String>,
    }
    let Record { name, destination } = serde_json::from_slice(record).ok()?;
    let topic = destination.unwrap_or_else(|| format!("chunk.masked.{name}"));
    Some((name, topic))
}
