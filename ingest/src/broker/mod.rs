//! Kafka: topics, a transactional producer, consumers, and the reading back that tells after a crash what was delivered.
//!
//! rdkafka's transaction calls block, so all of this is blocking code, and whoever owns a [`Transactor`] is one thread. What
//! went wrong in a transaction is told in two kinds, since they ask for different things: [`TxError::Aborted`] (nothing
//! was delivered) and [`TxError::Unknown`] (look before you try again).

use crate::config::{ConfigError, KafkaConfig};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Requests come in here.
pub const REQUESTS: &str = "chunk.requests";
/// Approvals come in here.
pub const APPROVALS: &str = "chunk.approvals";
/// Permitted work, by trace.
pub const WORK: &str = "chunk.work";
/// Records that nobody could be held to, by coordinates.
pub const REJECTED: &str = "chunk.rejected";

/// How long a call to Kafka may take before it counts as failed.
const CALL: Duration = Duration::from_secs(30);

/// Kafka said no.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A call failed.
    #[error("{what}: {source}")]
    Kafka {
        /// What was tried.
        what: String,
        /// What came back.
        source: KafkaError,
    },
    /// Something took too long.
    #[error("{0}")]
    TimedOut(String),
    /// There is no such topic.
    #[error("there is no topic `{0}`")]
    NoTopic(String),
    /// What should be read has been deleted.
    #[error("`{topic}` [{partition}] begins at {low}: offset {from} is gone")]
    Gone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset that is left.
        low: i64,
        /// The offset that was asked for.
        from: i64,
    },
}

impl BrokerError {
    fn at(what: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let what = what.into();
        move |source| Self::Kafka { what, source }
    }
}

/// How a transaction ended when it did not end well.
#[derive(Debug, thiserror::Error)]
pub enum TxError {
    /// It was aborted: no reader of committed records sees any of it.
    #[error("transaction aborted: {0}")]
    Aborted(String),
    /// It may have been committed. The producer is of no further use: make a new one, then look.
    #[error("transaction with unknown outcome: {0}")]
    Unknown(String),
}

/// A record to be sent.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// The topic.
    pub topic: String,
    /// The partition; Kafka chooses by key where it is not stated.
    pub partition: Option<i32>,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The headers, in order.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

/// A record that came in.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; a record without one has an empty value.
    pub value: Vec<u8>,
    /// The headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Incoming {
    /// Takes what matters out of a message.
    pub fn from_message(message: &impl Message) -> Self {
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|h| (h.key.to_string(), h.value.unwrap_or_default().to_vec())).collect());
        Self {
            topic: message.topic().to_string(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: headers.unwrap_or_default(),
        }
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }
}

/// The partition of `partitions` that belongs to a trace or any other hash.
pub fn partition_of(hash: &countersign_ledger::tlog::Hash, partitions: i32) -> i32 {
    let [a, b, c, d, ..] = *hash.as_bytes();
    let n = u32::try_from(partitions.max(1)).unwrap_or(1);
    i32::try_from(u32::from_be_bytes([a, b, c, d]) % n).unwrap_or(0)
}

/// Creates the topics that are missing.
pub async fn ensure_topics(kafka: &KafkaConfig, topics: &[&str]) -> Result<(), BrokerError> {
    let admin: AdminClient<DefaultClientContext> =
        kafka.client()?.create().map_err(BrokerError::at("cannot make an admin client"))?;
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|name| NewTopic::new(name, kafka.partitions, TopicReplication::Fixed(kafka.replication)))
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(CALL)).request_timeout(Some(CALL));
    let results = admin.create_topics(&new, &options).await.map_err(BrokerError::at("cannot create topics"))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(BrokerError::Kafka {
                    what: format!("cannot create topic `{topic}`"),
                    source: KafkaError::AdminOp(code),
                });
            }
        }
    }
    Ok(())
}

/// Partition and offset of a record that was sent, by its place among those sent together.
pub(crate) type Placed = (usize, Result<(i32, i64), KafkaError>);

/// Hands on what Kafka reports of each record.
pub(crate) struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<(usize, mpsc::Sender<Placed>)>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        let (at, to) = *sent;
        let placed = result.as_ref().map(|m| (m.partition(), m.offset())).map_err(|(error, _)| error.clone());
        // Nobody listens any more when the transaction has been given up.
        let _ = to.send((at, placed));
    }
}

/// How long the number of a topic's partitions is taken for true. It can only grow, and then a lower one still serves.
const PARTITIONS_FRESH: Duration = Duration::from_secs(30);

/// A producer whose every send is part of a transaction.
pub struct Transactor {
    producer: ThreadedProducer<Reports>,
    partitions: Mutex<HashMap<String, (Instant, i32)>>,
}

impl Transactor {
    /// Connects under a transactional id. A transaction that an earlier owner of the id left behind is ended by this, and
    /// the earlier owner can no longer commit.
    pub fn connect(
        kafka: &KafkaConfig,
        id: &str,
        max_record_bytes: usize,
        timeout: Duration,
    ) -> Result<Self, BrokerError> {
        let mut client = kafka.client()?;
        client
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set("delivery.timeout.ms", timeout.as_millis().to_string())
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            // A transaction that follows another closely is told to come back, and then waits this long at first.
            .set("retry.backoff.ms", "20")
            .set("queue.buffering.max.kbytes", "1048576")
            // Room for keys, headers and a receipt beside the value.
            .set("message.max.bytes", (max_record_bytes + 128 * 1024).to_string());
        if client.get("compression.type").is_none() && client.get("compression.codec").is_none() {
            // Cheaper than what it saves, for Kafka above all.
            client.set("compression.type", "lz4");
        }
        let producer: ThreadedProducer<Reports> =
            client.create_with_context(Reports).map_err(BrokerError::at("cannot make a transactional producer"))?;
        producer.init_transactions(CALL).map_err(BrokerError::at(format!("cannot take transactional id `{id}`")))?;
        Ok(Self { producer, partitions: Mutex::default() })
    }

    /// Sends the records and the offsets in one transaction. Gives partition and offset of every record, in order.
    pub fn transact(
        &self,
        records: Vec<Outgoing>,
        offsets: Option<(&TopicPartitionList, &ConsumerGroupMetadata)>,
    ) -> Result<Vec<(i32, i64)>, TxError> {
        let aborted = |e: KafkaError| TxError::Aborted(e.to_string());
        self.producer.begin_transaction().map_err(|e| TxError::Unknown(e.to_string()))?;
        let placed = match self.send_all(&records, offsets) {
            Ok(placed) => placed,
            Err(error) => {
                // Nothing was committed yet; only a failed abort leaves that in doubt for the next transaction.
                self.producer.abort_transaction(CALL).map_err(|e| TxError::Unknown(e.to_string()))?;
                return Err(aborted(error));
            }
        };
        let mut result = self.producer.commit_transaction(CALL);
        for _ in 0..3 {
            match &result {
                Err(KafkaError::Transaction(e)) if e.is_retriable() => result = self.producer.commit_transaction(CALL),
                _ => break,
            }
        }
        match result {
            Ok(()) => Ok(placed),
            Err(KafkaError::Transaction(e)) if e.txn_requires_abort() => {
                self.producer.abort_transaction(CALL).map_err(|e| TxError::Unknown(e.to_string()))?;
                Err(TxError::Aborted(e.to_string()))
            }
            Err(e) => Err(TxError::Unknown(e.to_string())),
        }
    }

    fn send_all(
        &self,
        records: &[Outgoing],
        offsets: Option<(&TopicPartitionList, &ConsumerGroupMetadata)>,
    ) -> Result<Vec<(i32, i64)>, KafkaError> {
        let (reports, reported) = mpsc::channel();
        for (at, record) in records.iter().enumerate() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let mut outgoing = BaseRecord::with_opaque_to(&record.topic, Box::new((at, reports.clone())))
                .payload(&record.value)
                .headers(headers);
            if !record.key.is_empty() {
                outgoing = outgoing.key(&record.key);
            }
            if let Some(partition) = record.partition {
                outgoing = outgoing.partition(partition);
            }
            self.producer.send(outgoing).map_err(|(e, _)| e)?;
        }
        // Not `flush`, which looks every 100 ms only.
        let deadline = Instant::now() + CALL;
        let mut placed = vec![(0, 0); records.len()];
        for _ in records {
            let left = deadline.saturating_duration_since(Instant::now());
            let (at, place) = reported.recv_timeout(left).map_err(|_| KafkaError::Canceled)?;
            if let Some(slot) = placed.get_mut(at) {
                *slot = place?;
            }
        }
        if let Some((offsets, group)) = offsets {
            self.producer.send_offsets_to_transaction(offsets, group, CALL)?;
        }
        Ok(placed)
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> Result<i32, BrokerError> {
        let mut known = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, n)) = known.get(topic)
            && since.elapsed() < PARTITIONS_FRESH
        {
            return Ok(*n);
        }
        let what = format!("cannot read the metadata of topic `{topic}`");
        let metadata = self.producer.client().fetch_metadata(Some(topic), CALL).map_err(BrokerError::at(what))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        match found.map(|t| (t.error(), t.partitions().len())) {
            Some((None, n)) if n > 0 => {
                let n = i32::try_from(n).unwrap_or(i32::MAX);
                known.insert(topic.into(), (Instant::now(), n));
                Ok(n)
            }
            _ => Err(BrokerError::NoTopic(topic.into())),
        }
    }
}

/// A member of a consumer group. It reads committed records, and its offsets are committed by transactions only.
pub struct Member {
    consumer: BaseConsumer,
}

impl Member {
    /// Joins a group.
    pub fn join(kafka: &KafkaConfig, group: &str, topics: &[&str], max_poll: Duration) -> Result<Self, BrokerError> {
        let mut client = kafka.client()?;
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("max.poll.interval.ms", max_poll.as_millis().to_string())
            .set("session.timeout.ms", "10000");
        let consumer: BaseConsumer = client.create().map_err(BrokerError::at("cannot make a consumer"))?;
        consumer.subscribe(topics).map_err(BrokerError::at(format!("cannot subscribe to {topics:?}")))?;
        Ok(Self { consumer })
    }

    /// The next record, if one comes within `wait`.
    pub fn poll(&self, wait: Duration) -> Result<Option<Incoming>, BrokerError> {
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(Incoming::from_message(&message))),
            // A topic that does not exist yet, a broker that is away: librdkafka goes on trying by itself.
            Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => Ok(None),
            Some(Err(source)) => Err(BrokerError::Kafka { what: "cannot consume".into(), source }),
        }
    }

    /// Up to `most` records: waits up to `wait` for the first, and takes what is there.
    pub fn batch(&self, most: usize, wait: Duration) -> Result<Vec<Incoming>, BrokerError> {
        let mut batch = Vec::new();
        let mut wait = wait;
        while batch.len() < most {
            match self.poll(wait)? {
                Some(record) => batch.push(record),
                None => break,
            }
            wait = Duration::ZERO;
        }
        Ok(batch)
    }

    /// The group's metadata now: to be taken when a record is polled, and handed in with its offset.
    pub fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.group_metadata()
    }

    /// Goes back to the last committed offsets, after a transaction that carried newer ones came to nothing.
    pub fn rewind(&self) -> Result<(), BrokerError> {
        let what = "cannot go back to the committed offsets";
        let committed = self.consumer.committed(CALL).map_err(BrokerError::at(what))?;
        for element in committed.elements() {
            let offset = match element.offset() {
                Offset::Offset(offset) => Offset::Offset(offset),
                _ => Offset::Beginning,
            };
            self.consumer.seek(element.topic(), element.partition(), offset, CALL).map_err(BrokerError::at(what))?;
        }
        Ok(())
    }
}

fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::PollExceeded
            | RDKafkaErrorCode::PartitionEOF
            | RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::RebalanceInProgress
    )
}

/// The offsets to commit once these records are dealt with: one past the last of each partition.
pub fn offsets_after<'a>(records: impl IntoIterator<Item = &'a Incoming>) -> Result<TopicPartitionList, BrokerError> {
    let mut list = TopicPartitionList::new();
    for record in records {
        let next = Offset::Offset(record.offset + 1);
        match list.find_partition(&record.topic, record.partition) {
            Some(mut element) => element.set_offset(next),
            None => list.add_partition_offset(&record.topic, record.partition, next),
        }
        .map_err(BrokerError::at("cannot note an offset"))?;
    }
    Ok(list)
}

/// A reader of one partition, outside any group.
pub struct Reader {
    stable: BaseConsumer,
    all: BaseConsumer,
    topic: String,
}

impl Reader {
    /// Connects.
    pub fn connect(kafka: &KafkaConfig, topic: &str) -> Result<Self, BrokerError> {
        let make = |isolation: &str| -> Result<BaseConsumer, BrokerError> {
            let mut client: ClientConfig = kafka.client()?;
            client
                .set("group.id", "countersign-reader")
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true")
                .set("auto.offset.reset", "error")
                .set("isolation.level", isolation);
            client.create().map_err(BrokerError::at("cannot make a consumer"))
        };
        Ok(Self { stable: make("read_committed")?, all: make("read_uncommitted")?, topic: topic.into() })
    }

    /// The partition's end offset: everything written from now on stands at or after it.
    pub fn end(&self, partition: i32) -> Result<i64, BrokerError> {
        Self::high(&self.all, &self.topic, partition)
    }

    fn high(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<i64, BrokerError> {
        let what = format!("cannot read the end of `{topic}` [{partition}]");
        consumer.fetch_watermarks(topic, partition, CALL).map(|(_, high)| high).map_err(BrokerError::at(what))
    }

    /// All committed records of a partition from `from` up to its end as it is now. Waits until every transaction that
    /// was open at this moment is decided, at most `patience`: what is missing afterwards was not committed.
    pub fn committed_since(
        &self,
        partition: i32,
        from: i64,
        patience: Duration,
        mut found: impl FnMut(Incoming) -> bool,
    ) -> Result<(), BrokerError> {
        let deadline = Instant::now() + patience;
        let end = self.end(partition)?;
        while Self::high(&self.stable, &self.topic, partition)? < end {
            if Instant::now() > deadline {
                let topic = &self.topic;
                return Err(BrokerError::TimedOut(format!("`{topic}` [{partition}]: a transaction stays undecided")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if from >= end {
            return Ok(());
        }
        let what = format!("cannot read the beginning of `{}` [{partition}]", self.topic);
        let (low, _) = self.all.fetch_watermarks(&self.topic, partition, CALL).map_err(BrokerError::at(what))?;
        if from < low {
            return Err(BrokerError::Gone { topic: self.topic.clone(), partition, low, from });
        }
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.topic, partition, Offset::Offset(from))
            .and_then(|()| self.stable.assign(&assignment))
            .map_err(BrokerError::at(format!("cannot read `{}` [{partition}]", self.topic)))?;
        let result = loop {
            match self.stable.poll(Duration::from_millis(200)) {
                Some(Ok(message)) if message.offset() >= end => break Ok(()),
                Some(Ok(message)) if found(Incoming::from_message(&message)) => break Ok(()),
                Some(Ok(_)) | None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => break Ok(()),
                Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => {}
                Some(Err(source)) => {
                    break Err(BrokerError::Kafka { what: format!("cannot read `{}`", self.topic), source });
                }
            }
            if Instant::now() > deadline {
                break Err(BrokerError::TimedOut(format!("`{}` [{partition}]: reading takes too long", self.topic)));
            }
        };
        // A failure to let go of the partition has no consequence: the next read assigns anew.
        let _ = self.stable.unassign();
        result
    }
}
