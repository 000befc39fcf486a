//! The HTTP side: the ledger's static files (checkpoint and tiles open to everybody, entries to those with the `audit` right),
//! signed changes, what approvers need to see, what rules say ([`ask`]), and health. Metrics have a listener of their own. No rows leave
//! here; the one exception to *no data* are values that are given back for tokens, on a loopback listener alone.
//!
//! Who must be known sends `Authorization: Bearer <JWT>` with a token of type `countersign-access+jwt`, signed by the
//! identity's own key and valid for five minutes at most.

pub mod ask;

/// The word for this door in policies.
pub const DOOR: &str = "http";

use crate::approval::{self, Waiting};
use crate::identity::change::{self, ChangeError, Operation, Submission};
use crate::identity::claims::{self, AccessClaims};
use crate::identity::{Identity, Registry};
use crate::pipeline::{Core, Fault, now};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use countersign_ledger::evidence::jws::Unverified;
use countersign_ledger::evidence::step::ReadFor;
use countersign_ledger::evidence::{Class, Commitment, Reason, Step, TraceId};
use countersign_ledger::store::{Reading, Selection, StoreError};
use countersign_ledger::tlog::{BundlePath, Hash, PathError, TilePath};
use countersign_masker::{Action, Catalog, Resource, Subject, permits};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub mod alarms;

/// An answer that is not a 200: a status and a line that a client may see.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.1 + "\n").into_response()
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        tracing::error!(error = %fault, "an HTTP request failed");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "the service has a fault; its log says more".into())
    }
}

fn not_found() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "not found".into())
}

/// The routes of the main listener.
pub fn routes(core: Core) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/checkpoints/{size}", get(checkpoint_at))
        .route("/tile/{*path}", get(tile))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/heads", get(heads))
        .route("/v1/changes", post(submit))
        .route("/v1/exports", post(record_export))
        .route("/v1/approvals", get(approvals))
        .route("/v1/approvals/{trace}", get(approval_of))
        .merge(ask::routes())
        .layer(DefaultBodyLimit::max(4 << 20))
        .with_state(core)
}

/// The routes of the metrics listener.
pub fn metrics_routes(core: Core, handle: PrometheusHandle) -> Router {
    Router::new().route(
        "/metrics",
        get(move || {
            let (core, handle) = (core.clone(), handle.clone());
            async move {
                let read = tokio::task::spawn_blocking(move || alarms::read(&core).map(|read| read.to_string()));
                let ledger = read.await.map_err(|e| Fault::Other(e.to_string()))??;
                Ok::<_, Refusal>(handle.render() + &ledger)
            }
        }),
    )
}

async fn checkpoint(State(core): State<Core>) -> Response {
    let note = core.witnesses.checkpoint(&core.ledger).note().to_vec();
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], note).into_response()
}

/// A checkpoint that was published at that size: all are kept.
async fn checkpoint_at(State(core): State<Core>, Path(size): Path<u64>) -> Result<Response, Refusal> {
    let note = core.ledger.checkpoint_at(size).map_err(Fault::from)?.ok_or_else(not_found)?;
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((kind, note).into_response())
}

async fn tile(State(core): State<Core>, Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    let path = format!("tile/{path}");
    let ledger = core.ledger.clone();
    let mut caching = "public, max-age=31536000, immutable";
    let read: Box<dyn FnOnce() -> Result<Option<Vec<u8>>, StoreError> + Send> = if path.starts_with("tile/entries/") {
        let reader = authenticate(&core, &headers)?;
        if !may(&core, &reader, Action::Audit) {
            return Err(Refusal(StatusCode::FORBIDDEN, "reading entries needs the audit right".into()));
        }
        // What needs a right must not be kept by a cache for those without it.
        caching = "private, no-store";
        let at: BundlePath = path.parse().map_err(|e: PathError| Refusal(StatusCode::BAD_REQUEST, e.to_string()))?;
        Box::new(move || ledger.bundle(at.index, Some(at.width)))
    } else {
        let at: TilePath = path.parse().map_err(|e: PathError| Refusal(StatusCode::BAD_REQUEST, e.to_string()))?;
        Box::new(move || ledger.tile(at.id.level, at.id.index, Some(at.width)))
    };
    let bytes =
        tokio::task::spawn_blocking(read).await.map_err(|e| Fault::Other(e.to_string()))?.map_err(Fault::from)?;
    let bytes = bytes.ok_or_else(not_found)?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, caching)];
    Ok((kind, bytes).into_response())
}

async fn ready(State(core): State<Core>) -> Result<&'static str, Refusal> {
    match core.ledger.read_only() {
        Some(why) => Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("the ledger is read-only: {why}"))),
        None if core.drain.is_on() => Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "stopping".into())),
        None => Ok("ready\n"),
    }
}

/// Where the administrative traces stand: what the next change of each must name. Hashes only.
#[derive(Debug, Serialize, Deserialize)]
pub struct Heads {
    /// The head of the policy's trace.
    pub policy: Option<Hash>,
    /// The head of the catalog's trace.
    pub catalog: Option<Hash>,
    /// Heads by the name asked for: identities (`identity/<name>`) and connections (`connection/<name>`).
    pub named: std::collections::BTreeMap<String, Hash>,
}

async fn heads(State(core): State<Core>, headers: HeaderMap) -> Result<axum::Json<Heads>, Refusal> {
    let reader = authenticate(&core, &headers)?;
    if !reader.admin {
        return Err(Refusal(StatusCode::FORBIDDEN, "only admins change anything".into()));
    }
    Ok(axum::Json(heads_of(&core.registry.load())))
}

/// Where the administrative traces of a registry stand.
pub fn heads_of(registry: &Registry) -> Heads {
    let mut named = std::collections::BTreeMap::new();
    for identity in registry.identities().filter(|i| !i.revoked) {
        named.insert(format!("identity/{}", identity.name), identity.head);
    }
    for name in registry.connections.keys() {
        if let Some(head) = registry.head(TraceId::connection(name)) {
            named.insert(format!("connection/{name}"), head);
        }
    }
    Heads { policy: registry.head(TraceId::policy()), catalog: registry.head(TraceId::catalog()), named }
}

async fn submit(State(core): State<Core>, body: Bytes) -> Result<String, Refusal> {
    let submission: Submission = serde_json::from_slice(&body)
        .map_err(|e| Refusal(StatusCode::BAD_REQUEST, format!("not a signed change: {e}")))?;
    // In a task of its own: a client that hangs up must not leave a change without what follows from it.
    let applied = tokio::spawn(async move { apply_change(&core, submission).await }).await;
    let applied = applied.map_err(|e| Fault::Other(e.to_string()))?;
    let index = applied.map_err(|error| match error {
        ChangeError::Ledger(error) => Refusal::from(Fault::from(error)),
        ChangeError::Stale => Refusal(StatusCode::CONFLICT, error.to_string()),
        error => Refusal(StatusCode::BAD_REQUEST, error.to_string()),
    })?;
    Ok(format!("{index}\n"))
}

/// Applies a change, and sees to what it needs in Kafka.
pub async fn apply_change(core: &Core, submission: Submission) -> Result<u64, ChangeError> {
    check_against_sources(core, &submission).await?;
    let at = core.clone();
    let index = tokio::task::spawn_blocking(move || change::apply(&at.ledger, &at.registry, &submission, now()))
        .await
        .map_err(|e| ChangeError::Invalid(e.to_string()))??;
    core.sources.forget_schemas();
    if let Err(error) = crate::service::ensure_topics(core).await {
        // The change stands. Until its topics are there a new identity gets no status and no chunk.
        tracing::warn!(%error, "the topics of the identities could not all be made");
    }
    Ok(index)
}

/// Refuses a catalog whose rules don't fit the tables as their sources have them now. A source that doesn't answer is no reason to
/// refuse: requests for its tables are, as long as the rules don't fit.
async fn check_against_sources(core: &Core, submission: &Submission) -> Result<(), ChangeError> {
    let registry = core.registry.load_full();
    let (change, _) = change::authentic(&registry, core.ledger.origin(), submission, now())?;
    let Operation::SetCatalog { text } = change.change else { return Ok(()) };
    let catalog = Catalog::parse("catalog", &text).map_err(|e| ChangeError::Invalid(e.to_string()))?;
    // What is known was looked up with the types that the old catalog states, and is looked up again with those of the new.
    core.sources.forget_schemas();
    let mut misfits = Vec::new();
    let mut silent = None;
    for (connection, table, _) in catalog.tables() {
        if silent == Some(connection) {
            continue;
        }
        match core.sources.schema(&registry, &catalog, connection, table, || true).await {
            Ok(Some(schema)) => misfits.extend(catalog.misfits(connection, table, &schema)),
            Ok(None) => {}
            Err(_) => silent = Some(connection),
        }
    }
    core.sources.forget_schemas();
    if misfits.is_empty() {
        return Ok(());
    }
    Err(ChangeError::Invalid(misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// An export that is to be recorded before somebody makes it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// Which requests.
    pub selection: Selection,
    /// The classes of payloads that come with it.
    pub payloads: Vec<Class>,
}

async fn record_export(State(core): State<Core>, headers: HeaderMap, body: Bytes) -> Result<String, Refusal> {
    let reader = authenticate(&core, &headers)?;
    if !may(&core, &reader, Action::Audit) {
        return Err(Refusal(StatusCode::FORBIDDEN, "an export needs the audit right".into()));
    }
    let wanted: ExportRequest = serde_json::from_slice(&body)
        .map_err(|e| Refusal(StatusCode::BAD_REQUEST, format!("not the description of an export: {e}")))?;
    crate::export::check(&wanted.selection).map_err(|e| Refusal(StatusCode::BAD_REQUEST, e.to_string()))?;
    let recorded = tokio::task::spawn_blocking(move || {
        crate::export::record(&core.ledger, &wanted.selection, Some(&reader.pseudonym), &wanted.payloads)
    });
    let index = recorded.await.map_err(|e| Fault::Other(e.to_string()))?.map_err(|e| Fault::Other(format!("{e:#}")))?;
    Ok(format!("{index}\n"))
}

fn authenticate(core: &Core, headers: &HeaderMap) -> Result<Arc<Identity>, Refusal> {
    let refuse =
        |reason: Reason| Refusal(StatusCode::UNAUTHORIZED, format!("the bearer token does not count: {reason}"));
    let token =
        headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| Refusal(StatusCode::UNAUTHORIZED, "a bearer token is needed".into()))?;
    let token = Unverified::parse(token.as_bytes()).map_err(refuse)?;
    claims::expect_typ::<AccessClaims>(&token).map_err(refuse)?;
    let registry = core.registry.load();
    let identity = registry.by_kid(&token.header.kid).ok_or_else(|| refuse(Reason::UnknownKey))?.clone();
    let claims: AccessClaims = token.verify(&identity.key).map_err(refuse)?.claims().map_err(refuse)?;
    claims::expect_names(&claims, &core.config.origin, &identity.name).map_err(refuse)?;
    claims::expect_time(&claims, now()).map_err(refuse)?;
    if !identity.is_active(now()) {
        return Err(refuse(Reason::RevokedKey));
    }
    Ok(identity)
}

fn may(core: &Core, reader: &Identity, action: Action) -> bool {
    let registry = core.registry.load();
    let Some(policy) = &registry.policy else { return false };
    let subject = Subject {
        id: reader.name.clone(),
        groups: reader.groups.clone(),
        on_behalf_of: None,
        door: DOOR.into(),
        time: now(),
    };
    permits(&policy.value, &subject, action, Resource::Ledger).unwrap_or(false)
}

/// A waiting request, as an approver sees it. The approver's own program checks the caller's signature and recomputes the
/// digests; nothing here is taken on trust but the caller's registered key, whose thumbprint it can compare.
#[derive(Debug, Serialize, Deserialize)]
pub struct WaitingView {
    /// The request's trace.
    pub trace: TraceId,
    /// The groups that were asked.
    pub groups: Vec<String>,
    /// Until when an answer counts, Unix seconds.
    pub not_after: u64,
    /// The caller's registered name.
    pub identity: String,
    /// How it signs.
    pub alg: countersign_ledger::evidence::step::Alg,
    /// Its registered key.
    pub key: String,
    /// The request, a compact JWS.
    pub request: String,
    /// The obligations' canonical JSON, whose SHA-256 is their digest.
    pub obligations: String,
}

/// Notes that somebody is about to see payloads of waiting requests: of that one, or of so many.
fn note_reading(core: &Core, reader: &Identity, of: Option<TraceId>, requests: usize) -> Result<(), Fault> {
    let reading = Reading {
        by: Some(reader.pseudonym.clone()),
        why: ReadFor::Approval,
        of,
        classes: vec![Class::Request, Class::Query],
        payloads: 2 * requests as u64,
    };
    core.ledger.note_reading(reading)?;
    Ok(())
}

async fn approvals(State(core): State<Core>, headers: HeaderMap) -> Result<axum::Json<Vec<WaitingView>>, Refusal> {
    let reader = authenticate(&core, &headers)?;
    let views = tokio::task::spawn_blocking(move || -> Result<Vec<WaitingView>, Fault> {
        let mut views = Vec::new();
        for waiting in approval::all_waiting(&core)? {
            if !may_see(&core, &reader, &waiting) {
                continue;
            }
            match view(&core, &waiting) {
                Ok(view) => views.push(view),
                Err(error) => tracing::error!(trace = %waiting.trace, %error, "a waiting request cannot be shown"),
            }
        }
        if !views.is_empty() {
            note_reading(&core, &reader, None, views.len())?;
        }
        Ok(views)
    });
    Ok(axum::Json(views.await.map_err(|e| Fault::Other(e.to_string()))??))
}

async fn approval_of(
    State(core): State<Core>,
    Path(trace): Path<String>,
    headers: HeaderMap,
) -> Result<axum::Json<WaitingView>, Refusal> {
    let reader = authenticate(&core, &headers)?;
    let trace: TraceId = trace.parse().map_err(|_| not_found())?;
    let view = tokio::task::spawn_blocking(move || -> Result<Option<WaitingView>, Fault> {
        match approval::waiting(&core, trace)? {
            Some(waiting) if may_see(&core, &reader, &waiting) => {
                note_reading(&core, &reader, Some(trace), 1)?;
                view(&core, &waiting).map(Some)
            }
            _ => Ok(None),
        }
    });
    view.await.map_err(|e| Fault::Other(e.to_string()))??.map(axum::Json).ok_or_else(not_found)
}

fn may_see(core: &Core, reader: &Identity, waiting: &Waiting) -> bool {
    waiting.asked.groups.iter().any(|g| reader.groups.contains(g)) || may(core, reader, Action::Audit)
}

fn view(core: &Core, waiting: &Waiting) -> Result<WaitingView, Fault> {
    let trace = waiting.trace;
    let fail = |reason: &str| Fault::Trace { trace, reason: reason.into() };
    let text = |c: &Commitment| -> Result<String, Fault> {
        let payload = core.ledger.payload(c)?.ok_or_else(|| fail("a payload is missing"))?;
        String::from_utf8(payload.bytes.to_vec()).map_err(|_| fail("a payload is not UTF-8"))
    };
    let steps = crate::pipeline::chunk::steps_of(core, trace)?.ok_or_else(|| fail("gone"))?.2;
    let mut request = None;
    let mut document = None;
    for (_, step) in &steps {
        match step {
            Step::RequestReceived(s) => request = Some(text(&s.request)?),
            Step::PolicyDecided(s) => document = Some(text(&s.document)?),
            _ => {}
        }
    }
    let document = document.ok_or_else(|| fail("no decision"))?;
    let document: crate::pipeline::request::DecisionDocument =
        serde_json::from_str(&document).map_err(|e| fail(&e.to_string()))?;
    let registry = core.registry.load();
    let identity = waiting.state.subject.as_deref().and_then(|p| registry.by_pseudonym(p));
    let identity = identity.ok_or_else(|| fail("its identity is unknown"))?;
    Ok(WaitingView {
        trace,
        groups: waiting.asked.groups.clone(),
        not_after: waiting.asked.not_after.get(),
        identity: identity.name.clone(),
        alg: identity.key.alg(),
        key: identity.key.to_text(),
        request: request.ok_or_else(|| fail("no request"))?,
        obligations: document.obligations.get().to_string(),
    })
}
