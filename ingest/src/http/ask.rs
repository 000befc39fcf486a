//! What rules say, asked over HTTP: what a request would come to (its caller's own), which columns somebody may read, everything in
//! force (for admins, who judge policies by it on their own machines), a look into a table for the catalog (likewise), and values for
//! tokens. Questions about reading are answered by the code that decides requests; they leave no entry, since nothing follows from them,
//! and get the same answer for what is unknown and what is forbidden.

use super::{Refusal, authenticate};
use crate::door;
use crate::identity::claims::RequestClaims;
use crate::identity::registry::Payloads;
use crate::identity::{Identity, Registry};
use crate::pipeline::request::{DOOR, Decided, Identified, split_dataset};
use crate::pipeline::{Core, Fault, now};
use crate::reidentify::{self, NoCall};
use crate::sample;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use countersign_ledger::evidence::step::{DecidedPath, Kind, Verdict};
use countersign_ledger::evidence::{Reason, Step, TraceId};
use countersign_ledger::tlog::Hash;
use countersign_masker::catalog::Limits;
use countersign_masker::{ColumnType, KeyRange, Obligations};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn routes() -> Router<Core> {
    Router::new()
        .route("/v1/dry-run", post(dry_run))
        .route("/v1/columns", post(columns))
        .route("/v1/rules", get(rules))
        .route("/v1/catalog/scan", post(scan))
        .route("/v1/reidentify", post(give_back))
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|e| Refusal(StatusCode::BAD_REQUEST, format!("the body is not what is asked for: {e}")))
}

/// An answer that no cache may keep.
fn private(answer: &impl Serialize) -> Result<Response, Refusal> {
    let text = serde_json::to_string(answer).map_err(|e| Fault::Other(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text).into_response())
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    Ok(tokio::task::spawn_blocking(run).await.map_err(|e| Fault::Other(e.to_string()))?)
}

// ---------------------------------------------------------------------------------------------------------------------------
// A caller's own

/// A request that is not made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DryRun {
    /// `connection.table`.
    pub dataset: String,
    /// The columns.
    pub columns: Vec<String>,
    /// A filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// A key range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<KeyRange>,
    /// At most so many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `arrow` or `jsonl`.
    pub format: String,
    /// A word of the catalog's list.
    pub purpose: String,
    /// The identity that an agent acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
}

/// What a request would come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outlook {
    /// The answer.
    pub verdict: Verdict,
    /// Why not, where it is no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The groups that would be asked.
    pub groups: Vec<String>,
    /// How each column would leave.
    pub columns: Vec<OwnColumn>,
    /// Whether policy narrows the rows; by what is not told.
    pub rows_filtered: bool,
    /// At most so many rows, bytes and seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limits>,
}

/// How a column leaves for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnColumn {
    /// The column.
    pub column: String,
    /// Its class.
    pub class: String,
    /// `clear`, or the mask.
    pub rule: String,
    /// How what is inside of it leaves, where that is decided for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<DecidedPath>,
    /// Its type in the source, where the question is about columns.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub column_type: Option<String>,
    /// The groups that would be asked, where the question is about columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// Decides as the Kafka door would.
fn outlook(
    core: &Core,
    registry: &Registry,
    identity: Arc<Identity>,
    wish: DryRun,
    now: u64,
) -> Result<Decided, Fault> {
    let name = identity.name.clone();
    let claims = RequestClaims {
        iss: name.clone(),
        sub: name,
        aud: format!("{}/{DOOR}", core.config.origin),
        iat: now,
        exp: now + 1,
        nbf: None,
        jti: String::new(),
        dataset: wish.dataset,
        columns: wish.columns,
        filter: wish.filter,
        range: wish.range,
        limit: wish.limit,
        format: wish.format,
        purpose: wish.purpose,
        on_behalf_of: wish.on_behalf_of,
    };
    let none = Hash::from_bytes([0; 32]);
    let request = Identified { identity, claims, digest: none, trace: TraceId(none) };
    let decided = match request.check(now) {
        Err(reason) => request.refused(registry, reason, now)?,
        Ok(()) => door::decide(core, registry, &request, now)?,
    };
    let Some(policy) = registry.policy.as_ref().filter(|_| decided.verdict != Verdict::Deny) else {
        return Ok(decided);
    };
    let (subject, determining) = (&request.identity.pseudonym, &decided.step.policies);
    match core.rates.used_up(subject, request.trace, &policy.value, determining, now) {
        None => Ok(decided),
        Some(policy) => request.too_often(registry, policy, decided.known.clone(), now),
    }
}

impl Outlook {
    fn new(decided: &Decided) -> Result<Self, Fault> {
        let fail = |e: serde_json::Error| Fault::Other(e.to_string());
        let document: crate::pipeline::request::DecisionDocument =
            serde_json::from_slice(&decided.document.bytes).map_err(fail)?;
        let obligations: Obligations = serde_json::from_str(document.obligations.get()).map_err(fail)?;
        let columns = decided.step.columns.iter().map(|c| OwnColumn {
            column: c.column.to_string(),
            class: c.class.to_string(),
            rule: c.rule.to_string(),
            paths: c.paths.clone(),
            column_type: None,
            groups: Vec::new(),
        });
        Ok(Self {
            verdict: decided.verdict,
            reason: decided.reason,
            groups: decided.groups.clone(),
            columns: columns.collect(),
            rows_filtered: obligations.rows.is_some(),
            limit: (decided.verdict != Verdict::Deny).then_some(obligations.limit),
        })
    }
}

async fn dry_run(State(core): State<Core>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let identity = authenticate(&core, &headers)?;
    let wish: DryRun = parse(&body)?;
    let outlook = blocking(move || {
        let registry = core.registry.load_full();
        Outlook::new(&outlook(&core, &registry, identity, wish, now())?)
    });
    private(&outlook.await??)
}

/// Which columns somebody wants to know of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnsQuestion {
    /// `connection.table`.
    pub dataset: String,
    /// A word of the catalog's list.
    pub purpose: String,
    /// The identity that an agent acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
}

async fn columns(State(core): State<Core>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let identity = authenticate(&core, &headers)?;
    let question: ColumnsQuestion = parse(&body)?;
    private(&blocking(move || own_columns(&core, &identity, &question, now())).await??)
}

/// The columns that somebody may read, each asked for alone; none of a table that there is not, or not for him.
fn own_columns(
    core: &Core,
    identity: &Arc<Identity>,
    question: &ColumnsQuestion,
    now: u64,
) -> Result<Vec<OwnColumn>, Fault> {
    let registry = core.registry.load_full();
    let wish = |column: &str| DryRun {
        dataset: question.dataset.clone(),
        columns: vec![column.to_owned()],
        filter: None,
        range: None,
        limit: None,
        format: "arrow".into(),
        purpose: question.purpose.clone(),
        on_behalf_of: question.on_behalf_of.clone(),
    };
    let (Some(catalog), Some((connection, table))) = (&registry.catalog, split_dataset(&question.dataset)) else {
        return Ok(Vec::new());
    };
    let Some(listed) = catalog.value.table(connection, table) else { return Ok(Vec::new()) };
    // Of those that the catalog lists, which the source is asked about only if somebody may read one of them.
    let mut found = BTreeMap::new();
    for column in listed.columns.keys() {
        let decided = outlook(core, &registry, identity.clone(), wish(column), now)?;
        found.insert(column.clone(), Outlook::new(&decided)?);
    }
    if found.values().all(|outlook| outlook.verdict == Verdict::Deny) {
        return Ok(Vec::new());
    }
    let schema = core.runtime.block_on(core.sources.schema(&registry, &catalog.value, connection, table, || false));
    let Ok(Some(schema)) = schema else { return Ok(Vec::new()) };
    let mut own = Vec::new();
    for (column, column_type) in &schema.columns {
        let outlook = match found.remove(column) {
            Some(outlook) => outlook,
            None => Outlook::new(&outlook(core, &registry, identity.clone(), wish(column), now)?)?,
        };
        own.extend(outlook.columns.into_iter().map(|own| OwnColumn {
            column_type: Some(column_type.to_string()),
            groups: outlook.groups.clone(),
            ..own
        }));
    }
    Ok(own)
}

// ---------------------------------------------------------------------------------------------------------------------------
// For admins

/// Everything in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The time at the service, Unix seconds.
    pub time: u64,
    /// The policy.
    pub policy: Option<Text>,
    /// The catalog.
    pub catalog: Option<Text>,
    /// The identities that count now, by name.
    pub identities: Vec<Person>,
    /// The tables that the catalog lists, as `connection.table`.
    pub tables: BTreeMap<String, Table>,
    /// The tables that the registered connections have beside those, as far as they can be asked.
    pub unlisted: Vec<String>,
}

/// A text in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// 1, 2, 3 …
    pub version: u64,
    /// What it says.
    pub text: String,
}

/// An identity, as far as policies see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its groups.
    pub groups: Vec<String>,
    /// The one it may act for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
}

/// A table as its source has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// These columns.
    Columns(Vec<(String, ColumnType)>),
    /// The source has no such table.
    NoTable,
    /// The source does not answer.
    Unavailable,
}

async fn rules(State(core): State<Core>, headers: HeaderMap) -> Result<Response, Refusal> {
    admin(&core, &headers)?;
    private(&blocking(move || all_rules(&core)).await??)
}

fn admin(core: &Core, headers: &HeaderMap) -> Result<Arc<Identity>, Refusal> {
    let reader = authenticate(core, headers)?;
    if reader.admin { Ok(reader) } else { Err(Refusal(StatusCode::FORBIDDEN, "this is for admins".into())) }
}

/// The text of the newest version in an administrative trace.
fn text_of(core: &Core, trace: TraceId) -> Result<Option<Text>, Fault> {
    let Some(head) = core.ledger.trace(&trace)? else { return Ok(None) };
    let fail = |reason: String| Fault::Trace { trace, reason };
    let last = head.entries.last().copied().ok_or_else(|| fail("no entries".into()))?;
    let entry = core.ledger.entry(last)?.ok_or_else(|| fail(format!("entry {last} is missing")))?;
    let (version, document) = match &entry.body {
        Step::PolicyChanged(s) => (s.version, s.document),
        Step::CatalogChanged(s) => (s.version, s.document),
        _ => return Err(fail("not a policy or catalog".into())),
    };
    let bytes = core.ledger.bytes(&document).map_err(fail)?.ok_or_else(|| fail("its text is missing".into()))?;
    let text = String::from_utf8(bytes).map_err(|_| fail("its text is not UTF-8".into()))?;
    Ok(Some(Text { version: version.get(), text }))
}

fn all_rules(core: &Core) -> Result<Rules, Fault> {
    let (registry, now) = (core.registry.load_full(), now());
    let mut identities: Vec<Person> = registry
        .identities()
        .filter(|identity| identity.is_active(now))
        .map(|identity| Person {
            name: identity.name.clone(),
            kind: identity.kind,
            groups: identity.groups.clone(),
            on_behalf_of: identity
                .on_behalf_of
                .as_deref()
                .and_then(|p| registry.by_pseudonym(p))
                .map(|i| i.name.clone()),
        })
        .collect();
    identities.sort_by(|a, b| a.name.cmp(&b.name));
    let mut tables = BTreeMap::new();
    let mut unlisted = Vec::new();
    if let Some(catalog) = &registry.catalog {
        for (connection, table, _) in catalog.value.tables() {
            let found =
                core.runtime.block_on(core.sources.schema(&registry, &catalog.value, connection, table, || true));
            let found = match found {
                Ok(Some(schema)) => Table::Columns(schema.columns.clone()),
                Ok(None) => Table::NoTable,
                Err(_) => Table::Unavailable,
            };
            tables.insert(format!("{connection}.{table}"), found);
        }
    }
    for connection in registry.connections.keys() {
        let Ok(Some(source)) = core.sources.get(&registry, connection) else { continue };
        let Ok(found) = core.runtime.block_on(source.tables()) else { continue };
        unlisted.extend(found.iter().map(|table| format!("{connection}.{table}")).filter(|t| !tables.contains_key(t)));
    }
    Ok(Rules {
        time: now,
        policy: text_of(core, TraceId::policy())?,
        catalog: text_of(core, TraceId::catalog())?,
        identities,
        tables,
        unlisted,
    })
}

/// What to look into.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanQuestion {
    /// The connection.
    pub connection: String,
    /// The table.
    pub table: String,
    /// How many rows.
    pub rows: u64,
}

/// What a look into a table suggests of one column. No cell, and nothing made of one but counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scanned {
    /// The column.
    pub column: String,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: String,
    /// The proposed class; nothing where nothing speaks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// A mask for the class, where the catalog does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// How sure that is, in percent.
    pub confidence: u8,
    /// Why, in words and counts.
    pub because: String,
}

async fn scan(State(core): State<Core>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let reader = admin(&core, &headers)?;
    let question: ScanQuestion = parse(&body)?;
    let scanned = blocking(move || sample::scan(&core, &reader, &question, now())).await?;
    private(&scanned.map_err(|error| match error {
        sample::ScanError::Fault(fault) => fault.into(),
        error => Refusal(StatusCode::BAD_REQUEST, error.to_string()),
    })?)
}

// ---------------------------------------------------------------------------------------------------------------------------
// Values for tokens

async fn give_back(State(core): State<Core>, body: Bytes) -> Result<Response, Refusal> {
    if !core.config.http.listen.ip().is_loopback() {
        let why = "values are given back on a loopback listener alone: put what ends TLS in front of one";
        return Err(Refusal(StatusCode::FORBIDDEN, why.into()));
    }
    let submission: reidentify::Submission = parse(&body)?;
    // In a task of its own: once the entry is there, the answer is made whether or not the client still waits.
    let answer = blocking(move || reidentify::answer(&core, &submission, now())).await?;
    private(&answer.map_err(|error| match error {
        NoCall::Fault(fault) => fault.into(),
        NoCall::Unauthentic(_) => Refusal(StatusCode::UNAUTHORIZED, error.to_string()),
        NoCall::Form(_) => Refusal(StatusCode::BAD_REQUEST, error.to_string()),
        NoCall::Repeated => Refusal(StatusCode::CONFLICT, error.to_string()),
        NoCall::Moving => Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    })?)
}
