//! The ledger as a bare log server: what other people's load generators and checkers speak to. The product itself has no such door:
//! there, entries are the steps of a request's story, and nobody outside appends anything.
//!
//! ```text
//! POST /add              any bytes; answered, once durable and signed, with the index of their entry
//! POST /add?proof        the same, then an empty line and the entry's `tlog-proof` under its own group's checkpoint
//! GET  /checkpoint       the last published checkpoint
//! GET  /checkpoints/<size>
//! GET  /tile/<L>/<N>[.p/<W>], /tile/entries/<N>[.p/<W>]
//! ```
//!
//! Every post is one entry of its own, of the type `request.rejected`: bytes that nobody could be held to, by a commitment. The salt
//! is zero here, so whoever has the bytes finds their entry.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use countersign_ledger::{
    evidence::{
        Class, Commitment, Int, Reason, TraceId,
        step::{LogCreated, RequestRejected},
    },
    store::{Append, AppendError, Ledger, Options, StoreError},
    tlog::{BundlePath, SignerKey, TilePath},
};
use std::{
    fmt::Display,
    path::Path as FilePath,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::oneshot;

/// The most bytes of one post.
const POST_BYTES_MAX: usize = 1 << 20;

/// Where a log's parts are in its folder.
pub(crate) fn options(folder: &FilePath, signer: SignerKey) -> Options {
    Options::new(folder.join("db"), folder.join("HEAD"), folder.join("keyring"), signer)
}

/// Opens the log in `folder`, or creates it. A log that opens read-only is an error here.
pub(crate) fn open(folder: &FilePath, signer: SignerKey) -> Result<Ledger, StoreError> {
    let options = options(folder, signer);
    let ledger = if options.dir.exists() {
        Ledger::open(&options)?
    } else {
        let (origin, key) = (options.signer.name().to_owned(), options.signer.verifier().to_string());
        let created = LogCreated { origin, key, quorum: Int::ONE, continues: None };
        Ledger::create(&options, vec![Append::opening(TraceId::log(), vec![created.into()])])?
    };
    ledger.read_only().map_or(Ok(ledger), |reason| Err(StoreError::Stopped(reason)))
}

/// The append of these bytes, the `n`th since the log was opened for the `epoch`th time: a trace of its own.
pub(crate) fn append(epoch: u64, n: u64, bytes: &[u8]) -> Append {
    let (topic, partition, offset) = ("add", Int::saturating(epoch), Int::saturating(n));
    let step = RequestRejected {
        reason: Reason::Malformed,
        door: "http".into(),
        topic: topic.into(),
        partition,
        offset,
        count: Int::ONE,
        record: Commitment::to(Class::Rejected, &[0; 32], bytes),
    };
    Append::opening(TraceId::rejected(topic, partition.get(), offset.get()), vec![step.into()])
}

#[derive(Clone)]
struct Log {
    ledger: Ledger,
    added: Arc<AtomicU64>,
}

/// The server's routes.
pub(crate) fn routes(ledger: Ledger) -> Router {
    Router::new()
        .route("/add", post(add))
        .route("/checkpoint", get(checkpoint))
        .route("/checkpoints/{size}", get(checkpoint_at))
        .route("/tile/{*path}", get(tile))
        .layer(DefaultBodyLimit::max(POST_BYTES_MAX))
        .with_state(Log { ledger, added: Arc::default() })
}

fn refuse(status: StatusCode, why: impl Display) -> Response {
    (status, format!("{why}\n")).into_response()
}

fn broken(why: impl Display) -> Response {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, why)
}

async fn add(State(log): State<Log>, RawQuery(query): RawQuery, bytes: Bytes) -> Response {
    let (answer, answered) = oneshot::channel();
    let n = log.added.fetch_add(1, Relaxed);
    log.ledger.append_with(append(log.ledger.opening().epoch, n, &bytes), move |result| {
        // A client that has gone away waits for nothing.
        let _ = answer.send(result);
    });
    let appended = match answered.await {
        Ok(Ok(appended)) => appended,
        Ok(Err(e @ AppendError::Full(_))) => {
            let later = [(header::RETRY_AFTER, "1")];
            return (StatusCode::SERVICE_UNAVAILABLE, later, format!("{e}\n")).into_response();
        }
        Ok(Err(e)) => return broken(e),
        Err(_) => return broken("the ledger gave no answer"),
    };
    let mut body = appended.last().index().to_string().into_bytes();
    if query.as_deref() == Some("proof") {
        match log.ledger.receipt(appended.last(), None) {
            Ok(receipt) => {
                body.extend_from_slice(b"\n\n");
                body.extend_from_slice(&receipt.encode());
            }
            Err(e) => return broken(e),
        }
    }
    body.into_response()
}

async fn checkpoint(State(log): State<Log>) -> Response {
    ([(header::CACHE_CONTROL, "no-cache")], log.ledger.checkpoint().note().to_vec()).into_response()
}

async fn checkpoint_at(State(log): State<Log>, Path(size): Path<u64>) -> Response {
    found(log.ledger.checkpoint_at(size))
}

async fn tile(State(log): State<Log>, Path(path): Path<String>) -> Response {
    let path = format!("tile/{path}");
    let read = move || {
        if path.starts_with("tile/entries/") {
            path.parse().map(|at: BundlePath| log.ledger.bundle(at.index, Some(at.width)))
        } else {
            path.parse().map(|at: TilePath| log.ledger.tile(at.id.level, at.id.index, Some(at.width)))
        }
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(bytes)) => found(bytes),
        Ok(Err(e)) => refuse(StatusCode::BAD_REQUEST, e),
        Err(e) => broken(e),
    }
}

fn found(bytes: Result<Option<Vec<u8>>, StoreError>) -> Response {
    match bytes {
        Ok(Some(bytes)) => ([(header::CACHE_CONTROL, "public, max-age=31536000, immutable")], bytes).into_response(),
        Ok(None) => refuse(StatusCode::NOT_FOUND, "not found"),
        Err(e) => broken(e),
    }
}
