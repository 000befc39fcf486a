//! The service: opens the ledger, reads what is in force, and runs doors, workers and listeners until it is asked to stop or the
//! ledger stops for good.

use crate::broker::{self, BrokerError, ensure_topics as create_topics};
use crate::config::Config;
use crate::door::rates::Rates;
use crate::identity::Registry;
use crate::pipeline::sources::Sources;
use crate::pipeline::worker;
use crate::pipeline::{Busy, Core, Drain, now};
use crate::witness::Witnesses;
use crate::{approval, door, http, operator, tokens, witness};
use anyhow::{Context, bail};
use countersign_ledger::store::{Ledger, Options};
use countersign_ledger::tlog::SignerKey;
use countersign_ledger::vault::files;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use zeroize::Zeroizing;

/// A running service.
pub struct Service {
    /// What its parts work with.
    pub core: Core,
    /// Where it listens.
    pub http: std::net::SocketAddr,
    /// Where its metrics are.
    pub metrics: std::net::SocketAddr,
    threads: Vec<JoinHandle<()>>,
    listeners: Vec<tokio::task::JoinHandle<()>>,
}

/// Reads a secret file, refusing one that others can read.
pub fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let meta = std::fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("`{}` has mode {mode:o}: others may read it, required 600", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(Zeroizing::new(text))
}

/// Writes a secret to a new file of mode 600, never over an existing one.
pub fn write_secret(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    Ok(files::create(path, text)?)
}

/// The options under which the ledger of a configuration is opened.
pub fn ledger_options(config: &Config) -> anyhow::Result<Options> {
    let text = read_secret(&config.ledger.key)?;
    let signer: SignerKey =
        text.trim().parse().map_err(|e| anyhow::anyhow!("`{}`: {e}", config.ledger.key.display()))?;
    if signer.name() != config.origin {
        bail!("`{}` is the key of `{}`, the origin is `{}`", config.ledger.key.display(), signer.name(), config.origin);
    }
    let ledger = &config.ledger;
    Ok(Options::new(ledger.dir.clone(), ledger.head.clone(), ledger.keyring.clone(), signer))
}

/// The topics that the service and its identities need.
pub async fn ensure_topics(core: &Core) -> Result<(), BrokerError> {
    if core.embedded {
        // The embedded broker knows no administration: whoever started it has made its topics.
        return Ok(());
    }
    let registry = core.registry.load_full();
    let mut topics: Vec<String> =
        [broker::REQUESTS, broker::APPROVALS, broker::WORK, broker::REJECTED].map(String::from).to_vec();
    for identity in registry.identities().filter(|i| !i.revoked) {
        topics.push(identity.chunk_topic.clone());
        topics.push(identity.status_topic.clone());
    }
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    create_topics(&core.config.kafka, &topics).await
}

/// The recorder of metrics, one for the process.
fn metrics_handle() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new().install_recorder().context("cannot install the metrics recorder")?;
    Ok(HANDLE.get_or_init(|| handle).clone())
}

impl Service {
    /// Opens everything and starts. `embedded` says that Kafka is the in-process cluster.
    pub async fn start(config: Config, embedded: bool) -> anyhow::Result<Self> {
        let options = ledger_options(&config)?;
        let ledger = tokio::task::spawn_blocking(move || Ledger::open(&options)).await?.context("the ledger")?;
        let report = ledger.opening();
        tracing::info!(origin = ledger.origin(), size = ledger.size().get(), ?report, "the ledger is open");
        if let Some(why) = ledger.read_only() {
            bail!("the ledger is read-only: {why}");
        }
        let registry = Registry::load(&ledger).context("what the ledger has put in force")?;
        let rates = match &registry.policy {
            Some(policy) => Rates::load(&ledger, &policy.value, now()).context("how often callers have asked")?,
            None => Rates::default(),
        };
        let core = Core {
            registry: Arc::new(arc_swap::ArcSwap::from_pointee(registry)),
            sources: Arc::new(Sources::default()),
            rates: Arc::new(rates),
            witnesses: Arc::new(Witnesses::load(&config, &ledger).context("the witnesses")?),
            tokens: Arc::new(tokens::load_or_make(&config.ledger.keyring)?),
            runtime: tokio::runtime::Handle::current(),
            busy: Arc::new(Busy::default()),
            drain: Arc::new(Drain::default()),
            config: Arc::new(config),
            embedded,
            ledger,
        };
        ensure_topics(&core).await.context("the topics")?;
        let routes = http::metrics_routes(core.clone(), metrics_handle()?);
        let (metrics, metrics_task) = listen(core.config.http.metrics, routes, &core).await?;
        let (http, http_task) = listen(core.config.http.listen, http::routes(core.clone()), &core).await?;
        let mut threads = Vec::new();
        let at = core.clone();
        let taken_up = tokio::task::spawn_blocking(move || worker::take_up(&at, &worker::connect(&at, "start")?));
        taken_up.await?.context("work that was under way")?;
        let orders = operator::listen(&core.config)?;
        threads.push(spawn("operator", &core, move |core| operator::run(core, &orders))?);
        for (name, run) in witness::threads(&core) {
            threads.push(spawn(&name, &core, run)?);
        }
        threads.push(spawn("door", &core, door::run)?);
        threads.push(spawn("approvals", &core, approval::run)?);
        for n in 0..core.config.service.workers.max(1) {
            let name = format!("worker-{n}");
            let id = name.clone();
            threads.push(spawn(&name, &core, move |core| worker::run(core, &id))?);
        }
        Ok(Self { core, http, metrics, threads, listeners: vec![http_task, metrics_task] })
    }

    /// Waits until the ledger stops for good, or a thread ends that should not, and says why: the process must end then,
    /// since restart and recovery are the only way on.
    pub async fn fatal(&self) -> String {
        loop {
            if let Some(why) = self.core.ledger.fatal() {
                return format!("the ledger has stopped: {why}");
            }
            if let Some(thread) = self.threads.iter().find(|thread| thread.is_finished()) {
                return format!("thread `{}` has ended", thread.thread().name().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Finishes what is under way and stops.
    pub async fn stop(self) {
        self.core.drain.start();
        for listener in &self.listeners {
            listener.abort();
        }
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the service had panicked");
                }
            }
        });
        if joined.await.is_err() {
            tracing::error!("the threads of the service could not be waited for");
        }
        let ledger = self.core.ledger.clone();
        drop(self.core);
        let closed = tokio::task::spawn_blocking(move || ledger.close());
        if closed.await.is_err() {
            tracing::error!("the ledger could not be closed");
        }
    }
}

fn spawn(name: &str, core: &Core, run: impl FnOnce(&Core) + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    let core = core.clone();
    std::thread::Builder::new().name(name.into()).spawn(move || run(&core)).context("cannot start a thread")
}

async fn listen(
    at: std::net::SocketAddr,
    routes: axum::Router,
    core: &Core,
) -> anyhow::Result<(std::net::SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = tokio::net::TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
    let at = listener.local_addr()?;
    tracing::info!(%at, "listening");
    let drain = core.drain.clone();
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await
            && !drain.is_on()
        {
            tracing::error!(%error, "a listener has stopped");
        }
    });
    Ok((at, task))
}
