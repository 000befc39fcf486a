//! What callers, approvers and admins do: sign, publish, wait, read. The command line and the demo are made of this, and it is
//! small enough to be written again in any language that has a JWT library and a Kafka client (the README does it in Python).

use crate::broker::{self, BrokerError, Incoming, Reports};
use crate::config::{ClientConfig, KafkaConfig};
use crate::http::ask::{ColumnsQuestion, DryRun, Outlook, OwnColumn, Rules, ScanQuestion, Scanned};
use crate::http::{ExportRequest, Heads, WaitingView};
use crate::identity::change::{Change, IdentityRecord, Operation, Submission};
use crate::identity::claims::{
    AccessClaims, ApprovalClaims, ApprovalDecision, ReidentifyClaims, RequestClaims, new_jti,
};
use crate::identity::key::PrivateKey;
use crate::pipeline::now;
use crate::pipeline::status::{Status, Word};
use crate::reidentify;
use anyhow::{Context, anyhow, bail};
use countersign_ledger::evidence::digest::sha256;
use countersign_ledger::evidence::jws::{self, PublicKey, Unverified};
use countersign_ledger::evidence::{Class, Commitment, TraceId};
use countersign_ledger::store::Selection;
use countersign_ledger::tlog::{Hash, VerifierKey};
use countersign_masker::KeyRange;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How long a call to Kafka may take.
const CALL: Duration = Duration::from_secs(30);

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// `connection.table`.
    pub dataset: String,
    /// The columns.
    pub columns: Vec<String>,
    /// A filter.
    pub filter: Option<String>,
    /// A key range.
    pub range: Option<KeyRange>,
    /// At most so many rows.
    pub limit: Option<u64>,
    /// `arrow` or `jsonl`.
    pub format: String,
    /// A word of the catalog's list.
    pub purpose: String,
    /// The identity that an agent acts for.
    pub on_behalf_of: Option<String>,
}

/// Whose values to ask for.
#[derive(Clone, Debug, Default)]
pub struct Reidentify {
    /// `connection.table`.
    pub dataset: String,
    /// The column that the tokens were taken from.
    pub column: String,
    /// The purpose that they were made for.
    pub purpose: String,
    /// For `ff1`, the version of its key.
    pub key: Option<u64>,
    /// The identity that an agent acts for.
    pub on_behalf_of: Option<String>,
}

/// An identity with its key, and where the service is.
pub struct Client {
    /// The configuration.
    pub config: ClientConfig,
    /// The key.
    pub key: PrivateKey,
    producer: OnceLock<BaseProducer<Reports>>,
}

/// How a request ended.
#[derive(Debug)]
pub struct Answer {
    /// The last status.
    pub status: Status,
    /// The parts of the chunk, in order; empty unless delivered.
    pub parts: Vec<Vec<u8>>,
    /// `arrow` or `jsonl`.
    pub format: String,
    /// The receipt of `delivery.intended`.
    pub receipt: Vec<u8>,
}

impl Client {
    /// Reads the key that a configuration names.
    pub fn new(config: ClientConfig) -> anyhow::Result<Self> {
        let key = PrivateKey::load(&config.key)?;
        Ok(Self { config, key, producer: OnceLock::new() })
    }

    /// The ledger's verifier key, where the configuration names it or a file of it.
    pub fn ledger_key(&self) -> anyhow::Result<Option<VerifierKey>> {
        let Some(named) = &self.config.ledger_key else { return Ok(None) };
        if let Ok(key) = named.parse() {
            return Ok(Some(key));
        }
        let text = std::fs::read_to_string(named).with_context(|| format!("the ledger's key `{named}`"))?;
        Ok(Some(text.trim().parse().with_context(|| format!("the ledger's key `{named}`"))?))
    }

    /// A request's claims, good for ten minutes.
    pub fn claims(&self, wish: &Wish) -> anyhow::Result<RequestClaims> {
        let now = now();
        Ok(RequestClaims {
            iss: self.config.identity.clone(),
            sub: self.config.identity.clone(),
            aud: format!("{}/kafka", self.config.origin),
            iat: now,
            exp: now + 600,
            nbf: None,
            jti: new_jti()?,
            dataset: wish.dataset.clone(),
            columns: wish.columns.clone(),
            filter: wish.filter.clone(),
            range: wish.range.clone(),
            limit: wish.limit,
            format: wish.format.clone(),
            purpose: wish.purpose.clone(),
            on_behalf_of: wish.on_behalf_of.clone(),
        })
    }

    /// Signs a request.
    pub fn sign_request(&self, claims: &RequestClaims) -> anyhow::Result<(TraceId, String)> {
        let token = self.key.sign(jws::TYP_REQUEST, claims)?;
        Ok((TraceId::request(&claims.iss, &claims.jti), token))
    }

    fn kafka(&self) -> anyhow::Result<&KafkaConfig> {
        self.config.kafka.as_ref().context("the client configuration has no `[kafka]`")
    }

    /// Publishes a record, and returns once Kafka has it.
    pub fn publish(&self, topic: &str, value: &[u8], headers: &[(&str, &[u8])]) -> anyhow::Result<()> {
        let failed = |e: KafkaError| anyhow!("cannot publish on `{topic}`: {e}");
        let producer = self.producer()?;
        let mut own = OwnedHeaders::new();
        for (key, value) in headers {
            own = own.insert(Header { key, value: Some(*value) });
        }
        let (to, told) = mpsc::channel();
        let record: BaseRecord<'_, [u8], [u8], _> =
            BaseRecord::with_opaque_to(topic, Box::new((0, to))).payload(value).headers(own);
        producer.send(record).map_err(|(e, _)| failed(e))?;
        // Kafka's client gives up at `message.timeout.ms` by itself, and says so.
        let deadline = Instant::now() + CALL + CALL / 2;
        loop {
            // It takes all of this time, whatever comes in it.
            producer.poll(Duration::from_millis(1));
            match told.try_recv() {
                Ok((_, placed)) => return placed.map(|_| ()).map_err(failed),
                Err(_) if Instant::now() < deadline => {}
                Err(_) => bail!("cannot publish on `{topic}`: no acknowledgement"),
            }
        }
    }

    /// The producer, made when it is first needed: connecting takes longer than publishing.
    fn producer(&self) -> anyhow::Result<&BaseProducer<Reports>> {
        if let Some(producer) = self.producer.get() {
            return Ok(producer);
        }
        let mut config = self.kafka()?.client()?;
        config.set("message.timeout.ms", CALL.as_millis().to_string()).set("linger.ms", "0");
        let producer = config.create_with_context(Reports).context("cannot make a producer")?;
        Ok(self.producer.get_or_init(|| producer))
    }

    /// Starts to listen for what this identity is told and sent from here on.
    pub fn listen(&self) -> anyhow::Result<Inbox> {
        let kafka = self.kafka()?;
        let chunk = self.config.chunk_topic.clone();
        let chunk = chunk.unwrap_or_else(|| format!("chunk.masked.{}", self.config.identity));
        Inbox::open(kafka, &[chunk, format!("chunk.status.{}", self.config.identity)])
    }

    /// Signs, publishes and waits until the request has ended, or waits for people.
    pub fn request(&self, wish: &Wish, patience: Duration, until_waiting: bool) -> anyhow::Result<(TraceId, Answer)> {
        let claims = self.claims(wish)?;
        let (trace, token) = self.sign_request(&claims)?;
        let mut inbox = self.listen()?;
        self.publish(broker::REQUESTS, token.as_bytes(), &[])?;
        let answer = inbox.wait(trace, patience, until_waiting)?;
        Ok((trace, answer))
    }

    fn bearer(&self) -> anyhow::Result<String> {
        let now = now();
        let claims = AccessClaims {
            iss: self.config.identity.clone(),
            sub: self.config.identity.clone(),
            aud: format!("{}/http", self.config.origin),
            iat: now,
            exp: now + 60,
            jti: new_jti()?,
        };
        Ok(format!("Bearer {}", self.key.sign(jws::TYP_ACCESS, &claims)?))
    }

    fn url(&self, path: &str) -> anyhow::Result<String> {
        let base = self.config.http.as_deref().context("the client configuration has no `http`")?;
        Ok(format!("{}{path}", base.trim_end_matches('/')))
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = self.url(path)?;
        json(&url, agent().get(&url).header("authorization", self.bearer()?).call())
    }

    /// What stands at a path, as bytes; with a token where that needs a right.
    pub fn bytes(&self, path: &str, signed: bool) -> anyhow::Result<Vec<u8>> {
        let url = self.url(path)?;
        let mut request = agent().get(&url);
        if signed {
            request = request.header("authorization", self.bearer()?);
        }
        let mut response = request.call().with_context(|| format!("cannot reach `{url}`"))?;
        let status = response.status();
        let read = response.body_mut().with_config().limit(BYTES_MAX).read_to_vec();
        let bytes = read.with_context(|| format!("cannot read `{url}`"))?;
        if !status.is_success() {
            bail!("`{url}` answered {status}: {}", String::from_utf8_lossy(&bytes).trim());
        }
        Ok(bytes)
    }

    fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body_of: &impl serde::Serialize) -> anyhow::Result<T> {
        let url = self.url(path)?;
        let request = agent().post(&url).header("authorization", self.bearer()?);
        json(&url, request.send(serde_json::to_string(body_of)?))
    }

    /// What a request would come to, without making it.
    pub fn dry_run(&self, wish: &DryRun) -> anyhow::Result<Outlook> {
        self.post("/v1/dry-run", wish)
    }

    /// What this identity may read of a table, for a purpose.
    pub fn columns(&self, question: &ColumnsQuestion) -> anyhow::Result<Vec<OwnColumn>> {
        self.post("/v1/columns", question)
    }

    /// All rules in force, for admins.
    pub fn rules(&self) -> anyhow::Result<Rules> {
        self.get("/v1/rules")
    }

    /// What a look into a table suggests for the catalog, for admins.
    pub fn scan(&self, question: &ScanQuestion) -> anyhow::Result<Vec<Scanned>> {
        self.post("/v1/catalog/scan", question)
    }

    /// Wants values back for tokens.
    pub fn reidentify(&self, wish: &Reidentify, tokens: &[String], reason: &str) -> anyhow::Result<reidentify::Answer> {
        let (mut tokens_salt, mut reason_salt) = ([0u8; 32], [0u8; 32]);
        getrandom::fill(&mut tokens_salt)?;
        getrandom::fill(&mut reason_salt)?;
        let tokens = serde_json::to_string(tokens)?;
        let committed = |salt, text: &str| Commitment::to(Class::Reidentify, salt, text.as_bytes()).0;
        let now = now();
        let claims = ReidentifyClaims {
            iss: self.config.identity.clone(),
            sub: self.config.identity.clone(),
            aud: format!("{}/http", self.config.origin),
            iat: now,
            exp: now + 60,
            jti: new_jti()?,
            dataset: wish.dataset.clone(),
            column: wish.column.clone(),
            purpose: wish.purpose.clone(),
            key: wish.key,
            on_behalf_of: wish.on_behalf_of.clone(),
            tokens: committed(&tokens_salt, &tokens),
            reason: committed(&reason_salt, reason),
        };
        let submission = reidentify::Submission {
            request: self.key.sign(jws::TYP_REIDENTIFY, &claims)?,
            tokens,
            tokens_salt: Hash::from_bytes(tokens_salt),
            reason: reason.to_owned(),
            reason_salt: Hash::from_bytes(reason_salt),
        };
        let url = self.url("/v1/reidentify")?;
        json(&url, agent().post(&url).send(serde_json::to_string(&submission)?))
    }

    /// Where the administrative traces stand.
    pub fn heads(&self) -> anyhow::Result<Heads> {
        self.get("/v1/heads")
    }

    /// Makes, signs and hands in a change, as the only admin that must sign it. Gives the index of its entry.
    pub fn change(&self, operation: Operation) -> anyhow::Result<u64> {
        let submission = self.propose(operation)?;
        self.submit(&submission)
    }

    /// Makes and signs a change, for others to sign as well.
    pub fn propose(&self, operation: Operation) -> anyhow::Result<Submission> {
        let heads = self.heads()?;
        let after = match &operation {
            Operation::RegisterIdentity(_) => None,
            Operation::RevokeIdentity { name, .. } | Operation::SetGroups { name, .. } => {
                heads.named.get(&format!("identity/{name}")).copied()
            }
            Operation::SetPolicy { .. } => heads.policy,
            Operation::SetCatalog { .. } => heads.catalog,
            Operation::SetConnection(document) => heads.named.get(&format!("connection/{}", document.name)).copied(),
        };
        let change = Change { origin: self.config.origin.clone(), after, change: operation };
        Ok(Submission::new(&change, &self.config.identity, &self.key, now())?)
    }

    /// Hands in a signed change. Gives the index of its entry.
    pub fn submit(&self, submission: &Submission) -> anyhow::Result<u64> {
        let url = self.url("/v1/changes")?;
        index(&url, agent().post(&url).send(serde_json::to_string(submission)?))
    }

    /// Has an export recorded, as one who has the `audit` right. Gives the index of its entry, once it is published.
    pub fn record_export(&self, selection: &Selection, classes: &[Class]) -> anyhow::Result<u64> {
        let url = self.url("/v1/exports")?;
        let wanted = ExportRequest { selection: selection.clone(), payloads: classes.to_vec() };
        let request = agent().post(&url).header("authorization", self.bearer()?);
        index(&url, request.send(serde_json::to_string(&wanted)?))
    }

    /// The requests that wait for this identity's groups.
    pub fn approvals(&self) -> anyhow::Result<Vec<WaitingView>> {
        self.get("/v1/approvals")
    }

    /// One waiting request, checked: the caller's signature and both digests are recomputed here.
    pub fn waiting(&self, trace: TraceId) -> anyhow::Result<Checked> {
        Checked::check(self.get(&format!("/v1/approvals/{trace}"))?)
    }

    /// Answers a waiting request. The reason stays with the approver; the ledger holds the commitment to it.
    pub fn answer(
        &self,
        waiting: &Checked,
        decision: ApprovalDecision,
        reason: &str,
        valid: Duration,
    ) -> anyhow::Result<TraceId> {
        self.send_answer(decision, waiting.view.trace.0, waiting.digest, waiting.obligations, reason, valid)
    }

    /// Signs and publishes an answer; for a revocation `request` is the approval's own trace. Gives the answer's trace.
    pub fn send_answer(
        &self,
        decision: ApprovalDecision,
        request: Hash,
        digest: Hash,
        obligations: Hash,
        reason: &str,
        valid: Duration,
    ) -> anyhow::Result<TraceId> {
        let mut salt = [0u8; 32];
        getrandom::fill(&mut salt)?;
        let now = now();
        let claims = ApprovalClaims {
            iss: self.config.identity.clone(),
            sub: self.config.identity.clone(),
            aud: format!("{}/approvals", self.config.origin),
            iat: now,
            nbf: now,
            exp: now + valid.as_secs(),
            jti: new_jti()?,
            decision,
            request,
            digest,
            obligations,
            reason: Commitment::to(Class::Approval, &salt, reason.as_bytes()).0,
        };
        let token = self.key.sign(jws::TYP_APPROVAL, &claims)?;
        let salt = Hash::from_bytes(salt).to_string();
        let headers = [("cs-reason", reason.as_bytes()), ("cs-reason-salt", salt.as_bytes())];
        self.publish(broker::APPROVALS, token.as_bytes(), &headers)?;
        Ok(TraceId::approval(&claims.iss, &claims.jti))
    }
}

/// A waiting request whose caller's signature was checked, with the digests that an approval signs.
#[derive(Debug)]
pub struct Checked {
    /// What the service said.
    pub view: WaitingView,
    /// What the caller asks, from the signed request.
    pub claims: RequestClaims,
    /// The request's digest.
    pub digest: Hash,
    /// The obligations' digest.
    pub obligations: Hash,
}

impl Checked {
    /// Checks a view: nothing of it is believed but what the caller signed.
    pub fn check(view: WaitingView) -> anyhow::Result<Self> {
        let key = PublicKey::from_text(view.alg, &view.key)?;
        let token = Unverified::parse(view.request.as_bytes()).map_err(|r| anyhow!("the request: {r}"))?;
        if token.header.kid != key.thumbprint() || token.header.typ != jws::TYP_REQUEST {
            bail!("the request was not signed with the key that the service names");
        }
        let verified = token.verify(&key).map_err(|r| anyhow!("the request: {r}"))?;
        let claims: RequestClaims = verified.claims().map_err(|r| anyhow!("the request: {r}"))?;
        if TraceId::request(&claims.iss, &claims.jti) != view.trace || claims.iss != view.identity {
            bail!("the request is not the one that was asked for");
        }
        let obligations = sha256(view.obligations.as_bytes());
        Ok(Self { claims, digest: verified.digest, obligations, view })
    }
}

/// The largest answer that is read, in bytes: a bundle of 256 of the largest entries has 16 MB.
const BYTES_MAX: u64 = 20 << 20;

fn agent() -> &'static ureq::Agent {
    static AGENT: OnceLock<ureq::Agent> = OnceLock::new();
    AGENT.get_or_init(|| http_agent(CALL))
}

/// Calls over HTTP, or HTTPS to whom the operating system trusts, each for so long at most. None is sent elsewhere by its answer.
pub(crate) fn http_agent(patience: Duration) -> ureq::Agent {
    let trusted = rustls_native_certs::load_native_certs().certs;
    let trusted = trusted.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    let tls = TlsConfig::builder().root_certs(RootCerts::from(trusted)).build();
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(patience));
    config.tls_config(tls).max_redirects(0).build().into()
}

/// What came of a call.
type Answered = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

fn json<T: serde::de::DeserializeOwned>(url: &str, response: Answered) -> anyhow::Result<T> {
    let text = body(url, response)?;
    serde_json::from_str(&text).with_context(|| format!("`{url}` answered something else than expected"))
}

/// The index of an entry.
fn index(url: &str, response: Answered) -> anyhow::Result<u64> {
    let text = body(url, response)?;
    text.trim().parse().with_context(|| format!("`{url}` answered something else than an index"))
}

fn body(url: &str, response: Answered) -> anyhow::Result<String> {
    let mut response = response.with_context(|| format!("cannot reach `{url}`"))?;
    let status = response.status();
    let text = response.body_mut().read_to_string().with_context(|| format!("cannot read `{url}`"))?;
    if !status.is_success() {
        bail!("`{url}` answered {status}: {}", text.trim());
    }
    Ok(text)
}

/// A reader of an identity's topics, from the moment it was opened.
pub struct Inbox {
    consumer: BaseConsumer,
    parts: BTreeMap<(TraceId, u64), BTreeMap<u64, Incoming>>,
    statuses: Vec<Status>,
}

impl Inbox {
    /// Opens at the end of every partition of these topics.
    pub fn open(kafka: &KafkaConfig, topics: &[String]) -> anyhow::Result<Self> {
        let mut config = kafka.client()?;
        config
            .set("group.id", "countersign-client")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().context("cannot make a consumer")?;
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            let metadata =
                consumer.fetch_metadata(Some(topic), CALL).with_context(|| format!("cannot read `{topic}`"))?;
            let found = metadata.topics().iter().find(|t| t.name() == topic);
            let found = found.filter(|t| t.error().is_none() && !t.partitions().is_empty());
            let found = found.with_context(|| format!("there is no topic `{topic}`, or it is not for you"))?;
            for partition in found.partitions() {
                let end = end_of(&consumer, topic, partition.id()).with_context(|| format!("cannot read `{topic}`"))?;
                assignment.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
            }
        }
        consumer.assign(&assignment)?;
        Ok(Self { consumer, parts: BTreeMap::new(), statuses: Vec::new() })
    }

    /// The next status record, of any request.
    pub fn next_status(&mut self, patience: Duration) -> anyhow::Result<Option<Status>> {
        let deadline = Instant::now() + patience;
        while self.statuses.is_empty() && Instant::now() < deadline {
            self.poll()?;
        }
        Ok(if self.statuses.is_empty() { None } else { Some(self.statuses.remove(0)) })
    }

    /// Waits until a request has ended; with `until_waiting`, or until it waits for people.
    pub fn wait(&mut self, trace: TraceId, patience: Duration, until_waiting: bool) -> anyhow::Result<Answer> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no answer within {} s: the request may still be under way", patience.as_secs());
            }
            let Some(status) = self.next_status(left)? else { continue };
            if status.request != Some(trace) {
                continue;
            }
            match status.status {
                Word::Accepted => {}
                Word::Waiting if !until_waiting => {}
                Word::Delivered => return self.collect(trace, status, deadline),
                _ => return Ok(Answer { status, parts: Vec::new(), format: String::new(), receipt: Vec::new() }),
            }
        }
    }

    fn collect(&mut self, trace: TraceId, status: Status, deadline: Instant) -> anyhow::Result<Answer> {
        let attempt = status.attempt.unwrap_or_default();
        let expected = status.parts.unwrap_or_default();
        loop {
            let have = self.parts.get(&(trace, attempt)).map_or(0, |p| p.len() as u64);
            if have >= expected {
                break;
            }
            if Instant::now() > deadline {
                bail!("found {have} parts of {expected}: the others have not come in time");
            }
            self.poll()?;
        }
        let parts = self.parts.remove(&(trace, attempt)).unwrap_or_default();
        let text = |r: &Incoming, name: &str| String::from_utf8_lossy(r.header(name).unwrap_or_default()).into_owned();
        let format = parts.values().next().map(|r| text(r, "cs-format")).unwrap_or_default();
        let receipt = parts.values().find_map(|r| r.header("cs-receipt")).unwrap_or_default().to_vec();
        for (n, part) in &parts {
            if text(part, "cs-digest") != sha256(&part.value).to_string() {
                bail!("part {n} is not what its digest says");
            }
        }
        Ok(Answer { status, parts: parts.into_values().map(|r| r.value).collect(), format, receipt })
    }

    fn poll(&mut self) -> Result<(), BrokerError> {
        let record = match self.consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => Incoming::from_message(&message),
            Some(Err(error)) => {
                tracing::debug!(%error, "a read from Kafka failed and is tried again");
                return Ok(());
            }
            None => return Ok(()),
        };
        if let Some(part) = part_of(&record) {
            self.parts.entry((part.0, part.1)).or_default().insert(part.2, record);
        } else if let Ok(status) = serde_json::from_slice::<Status>(&record.value) {
            self.statuses.push(status);
        }
        Ok(())
    }
}

/// Trace, attempt and number of a part, from its headers.
fn part_of(record: &Incoming) -> Option<(TraceId, u64, u64)> {
    let text = |name: &str| record.header(name).and_then(|v| std::str::from_utf8(v).ok());
    let (n, _) = text("cs-part")?.split_once('/')?;
    Some((text("cs-request")?.parse().ok()?, text("cs-attempt")?.parse().ok()?, n.parse().ok()?))
}

/// The record of a new identity, with the proof that its owner holds the key.
pub fn identity_record(
    origin: &str,
    name: &str,
    kind: countersign_ledger::evidence::step::Kind,
    key: &PrivateKey,
    not_after: u64,
) -> anyhow::Result<IdentityRecord> {
    Ok(IdentityRecord {
        name: name.into(),
        pseudonym: crate::identity::change::new_pseudonym()?,
        kind,
        admin: false,
        groups: Vec::new(),
        owner: None,
        on_behalf_of: None,
        alg: key.public().alg(),
        key: key.public().to_text(),
        not_after,
        destination: None,
        possession: crate::identity::change::prove_possession(origin, name, key, now())?,
    })
}

/// The end of a partition. One that was just made, or whose broker has just changed, has no leader for a moment.
fn end_of(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<i64, KafkaError> {
    use RDKafkaErrorCode::{LeaderNotAvailable, NotLeaderForPartition, UnknownPartition, UnknownTopicOrPartition};
    let deadline = Instant::now() + CALL;
    loop {
        match consumer.fetch_watermarks(topic, partition, CALL) {
            Err(KafkaError::MetadataFetch(
                LeaderNotAvailable | NotLeaderForPartition | UnknownPartition | UnknownTopicOrPartition,
            )) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            ends => return ends.map(|(_, end)| end),
        }
    }
}
