//! The test harness under test: that its Kafka and its PostgreSQL are real (transactions, ACLs, passwords, data that survives a
//! kill), and that nothing it starts outlives the test process. The other test binaries rely on this and don't check it again.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer};
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};
use support::{Folder, Kafka, Postgres, Process};

const PATIENCE: Duration = Duration::from_secs(60);

/// Sends the values in one transaction and commits or aborts it.
fn transact(client: &ClientConfig, id: &str, topic: &str, values: &[&str], commit: bool) -> Result<()> {
    let producer: BaseProducer = client.clone().set("transactional.id", id).create()?;
    producer.init_transactions(PATIENCE)?;
    producer.begin_transaction()?;
    send(&producer, topic, values)?;
    if commit {
        producer.commit_transaction(PATIENCE)?
    } else {
        producer.abort_transaction(PATIENCE)?
    }
    Ok(())
}

/// Sends the values and waits until the broker has them.
fn send(producer: &BaseProducer, topic: &str, values: &[&str]) -> Result<()> {
    for value in values {
        producer.send(BaseRecord::<(), str>::to(topic).payload(value)).map_err(|(e, _)| e)?;
    }
    Ok(producer.flush(PATIENCE)?)
}

/// The values of partition 0 up to the end that this isolation level shows.
fn read(client: &ClientConfig, topic: &str, isolation: &str) -> Result<Vec<String>> {
    let mut client = client.clone();
    client.set("group.id", "harness").set("isolation.level", isolation).set("enable.partition.eof", "true");
    let consumer: BaseConsumer = client.create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    let mut values = Vec::new();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned())
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(values),
            Some(Err(KafkaError::MessageConsumption(code))) if is_passing(code) => {}
            Some(Err(e)) => return Err(e.into()),
        }
    }
    bail!("no end of `{topic}` after {PATIENCE:?}; read so far: {values:?}")
}

/// The first error that subscribing to a topic brings; a message is a failure.
fn first_error(client: &ClientConfig, topic: &str) -> Result<RDKafkaErrorCode> {
    let consumer: BaseConsumer =
        client.clone().set("group.id", "harness").set("auto.offset.reset", "earliest").create()?;
    consumer.subscribe(&[topic])?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::MessageConsumption(code))) if !is_passing(code) => return Ok(code),
            Some(Ok(message)) => bail!("got a message of {} bytes", message.payload_len()),
            _ => {}
        }
    }
    bail!("no error from `{topic}` after {PATIENCE:?}")
}

/// What a client sees while a broker comes back, and gets over by itself.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure)
}

#[tokio::test]
async fn kafka_shows_committed_transactions_only() -> Result<()> {
    let kafka = support::shared_kafka()?;
    kafka.create_topic("transactions", 1).await?;
    let client = kafka.client();
    transact(&client, "a", "transactions", &["one", "two"], true)?;
    transact(&client, "b", "transactions", &["aborted"], false)?;
    transact(&client, "c", "transactions", &["three"], true)?;
    assert_eq!(read(&client, "transactions", "read_committed")?, ["one", "two", "three"]);
    // The aborted record is there: hiding it is the consumer's isolation level, which the mock broker doesn't have.
    assert_eq!(read(&client, "transactions", "read_uncommitted")?, ["one", "two", "aborted", "three"]);
    Ok(())
}

#[tokio::test]
async fn kafka_makes_no_topic_by_itself() -> Result<()> {
    let kafka = support::shared_kafka()?;
    let producer: BaseProducer = kafka.client().create()?;
    let metadata = producer.client().fetch_metadata(Some("never-made"), PATIENCE)?;
    let topic = metadata.topics().first().context("no answer for the topic")?;
    assert!(topic.error().is_some(), "the topic exists");
    Ok(())
}

#[tokio::test]
async fn kafka_takes_a_record_of_900_kb() -> Result<()> {
    let kafka = support::shared_kafka()?;
    kafka.create_topic("large", 1).await?;
    let value = "x".repeat(900_000);
    transact(&kafka.client(), "large", "large", &[&value], true)?;
    assert_eq!(read(&kafka.client(), "large", "read_committed")?, [value]);
    Ok(())
}

#[tokio::test]
async fn kafka_keeps_its_data_when_killed_in_mid_transaction() -> Result<()> {
    let mut kafka = Kafka::start()?;
    kafka.create_topic("t", 1).await?;
    let client = kafka.client();
    transact(&client, "before", "t", &["before"], true)?;

    let open: BaseProducer =
        client.clone().set("transactional.id", "open").set("transaction.timeout.ms", "300000").create()?;
    open.init_transactions(PATIENCE)?;
    open.begin_transaction()?;
    send(&open, "t", &["open"])?;
    kafka.kill()?;
    let refused = std::net::TcpStream::connect(kafka.bootstrap());
    assert!(refused.is_err(), "something still listens after the kill");
    let start = Instant::now();
    kafka.restart()?;
    eprintln!("restart after a kill: {:?}", start.elapsed());

    // The open transaction holds everything after it back, until a producer with its id takes over and so aborts it.
    transact(&client, "after", "t", &["after"], true)?;
    assert_eq!(read(&client, "t", "read_committed")?, ["before"]);
    let successor: BaseProducer = client.clone().set("transactional.id", "open").create()?;
    successor.init_transactions(PATIENCE)?;
    assert_eq!(read(&client, "t", "read_committed")?, ["before", "after"]);
    let fenced = open.commit_transaction(Timeout::After(PATIENCE));
    assert!(fenced.is_err(), "a fenced producer committed");
    Ok(())
}

#[tokio::test]
async fn kafka_denies_what_no_acl_allows() -> Result<()> {
    let kafka = Kafka::start_with_acls(&[("ann", "ann-secret"), ("bob", "bob-secret")])?;
    kafka.create_topic("ann.chunks", 1).await?;
    let ann = ["--operation", "Read", "--operation", "Describe"];
    let start = Instant::now();
    kafka.acl(&[&["--add", "--allow-principal", "User:ann", "--topic", "ann.chunks"], &ann[..]].concat())?;
    eprintln!("one ACL: {:?}", start.elapsed());
    let both = ["--allow-principal", "User:ann", "--allow-principal", "User:bob"];
    kafka.acl(&[&["--add", "--operation", "Read", "--group", "harness"], &both[..]].concat())?;

    transact(&kafka.client(), "admin", "ann.chunks", &["for ann"], true)?;
    assert_eq!(read(&kafka.client_as("ann")?, "ann.chunks", "read_committed")?, ["for ann"]);
    assert_eq!(first_error(&kafka.client_as("bob")?, "ann.chunks")?, RDKafkaErrorCode::TopicAuthorizationFailed);
    // To read is not to write.
    let ann: FutureProducer = kafka.client_as("ann")?.create()?;
    let forged = FutureRecord::<(), str>::to("ann.chunks").payload("forged");
    let (denied, _) = ann.send(forged, PATIENCE).await.unwrap_err();
    assert_eq!(denied.rdkafka_error_code(), Some(RDKafkaErrorCode::TopicAuthorizationFailed), "{denied}");

    let mut wrong = kafka.client_as("bob")?;
    wrong.set("sasl.password", "ann-secret");
    let stranger: BaseProducer = wrong.create()?;
    assert!(stranger.client().fetch_metadata(None, Duration::from_secs(5)).is_err(), "a wrong password was let in");
    Ok(())
}

#[tokio::test]
async fn postgres_answers_and_wants_its_password() -> Result<()> {
    let postgres = support::shared_postgres()?;
    let client = postgres.connect().await?;
    let one: i32 = client.query_one("select 1", &[]).await?.get(0);
    assert_eq!(one, 1);
    assert_eq!(postgres.psql("select 1, 'x'; select 2")?, "1|x\n2");
    let error = postgres.psql("select nothing").unwrap_err();
    assert!(error.to_string().contains(r#"column "nothing" does not exist"#), "{error:#}");
    let url = postgres.url_of("postgres", support::postgres::USER, "wrong");
    assert!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err(), "a wrong password was let in");
    Ok(())
}

#[tokio::test]
async fn postgres_keeps_its_data_when_killed_in_mid_query() -> Result<()> {
    let mut postgres = Postgres::start()?;
    postgres.psql("create table t (n int); insert into t select generate_series(1, 1000)")?;
    let client = postgres.connect().await?;
    let query = tokio::spawn(async move { client.query("select n, pg_sleep(1) from t", &[]).await });
    while postgres.psql("select count(*) from pg_stat_activity where query like 'select n, pg_sleep%'")? != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let start = Instant::now();
    postgres.kill()?;
    assert!(query.await?.is_err(), "the query went on without its server");
    assert!(start.elapsed() < Duration::from_secs(20), "its connection's own process was left running");
    postgres.restart()?;
    assert_eq!(postgres.psql("select count(*), sum(n) from t")?, "1000|500500");
    Ok(())
}

#[test]
fn postgres_offers_tls() -> Result<()> {
    let postgres = Postgres::start_with_tls()?;
    let ca = postgres.ca_file();
    let port = postgres.port().to_string();
    // OpenSSL, not our own client: this is about the server's certificate.
    let verify = |name: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-starttls", "postgres", "-connect", &format!("127.0.0.1:{port}")]);
        openssl.args(["-verify_return_error", "-verify_hostname", name]).arg("-CAfile").arg(&ca);
        openssl.stdin(std::process::Stdio::null()).output()
    };
    let good = verify("localhost")?;
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(!verify("elsewhere.example")?.status.success(), "a certificate for `localhost` passed for another name");
    Ok(())
}

#[test]
fn parts_use_their_own_settings() -> Result<()> {
    let postgres = Postgres::start_with(&[("log_statement", "all")])?;
    assert_eq!(postgres.psql("show log_statement")?, "all");
    Ok(())
}

#[test]
fn the_outside_judge_runs() -> Result<()> {
    let Some(fsck) = support::fsck()? else {
        support::skip("the_outside_judge_runs", "there is no Go on this machine");
        return Ok(());
    };
    let out = Command::new(fsck).arg("--help").output()?;
    assert!(String::from_utf8_lossy(&out.stderr).contains("storage_url"), "{out:?}");
    Ok(())
}

fn is_running(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

#[test]
fn a_program_outlives_the_thread_that_started_it_but_not_its_value() -> Result<()> {
    let folder = Folder::new("harness")?;
    let log = folder.path().join("log.txt");
    let start = move || Process::start("sleep", Command::new("sleep").arg("600"), &log);
    let process = std::thread::spawn(start).join().unwrap()?;
    let id = process.id();
    // To the kernel the thread is the parent: were it the one that spawned, the child would die with it, a moment later.
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_running(id), "the program died with the thread");
    drop(process);
    assert!(!is_running(id), "the program outlived its value");
    let path = folder.path().to_owned();
    drop(folder);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn a_program_that_does_not_start_says_why() -> Result<()> {
    let folder = Folder::new("harness")?;
    let mut command = Command::new("sh");
    command.args(["-c", "echo out of luck; echo and of memory >&2; exit 3"]);
    let mut process = Process::start("luckless", &command, &folder.path().join("log.txt"))?;
    let error = process.wait_for_output("ready", PATIENCE).unwrap_err().to_string();
    for part in ["luckless ended with exit status: 3", "printing `ready`", "out of luck", "and of memory"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    Ok(())
}

/// Runs itself once more as a process that starts a program and aborts, so that no destructor runs.
#[test]
fn no_program_outlives_an_aborted_test() -> Result<()> {
    const INNER: &str = "COUNTERSIGN_HARNESS_INNER";
    if std::env::var_os(INNER).is_some() {
        let folder = Folder::new("harness")?;
        let log = folder.path().join("log.txt");
        let process = Process::start("sleep", Command::new("sleep").arg("600"), &log)?;
        ensure!(is_running(process.id()), "the program didn't start");
        println!("inner: {} {}", process.id(), folder.path().display());
        std::process::abort();
    }
    let mut again = Command::new(std::env::current_exe()?);
    again.args(["--exact", "no_program_outlives_an_aborted_test", "--nocapture"]).env(INNER, "1");
    let out = again.output()?;
    ensure!(!out.status.success(), "the inner test did not abort");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = said.lines().find_map(|line| line.split_once("inner: ")).context(said.clone())?.1;
    let (id, folder) = line.split_once(' ').context("no folder in the inner test's line")?;
    let id: u32 = id.parse()?;
    let start = Instant::now();
    while is_running(id) {
        ensure!(start.elapsed() < PATIENCE, "process {id} outlived the test that started it");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Its folder is removed by whichever test process makes its first folder next: this one at the latest.
    let mut next = Command::new(std::env::current_exe()?);
    let status = next.args(["--exact", "a_program_that_does_not_start_says_why"]).output()?.status;
    ensure!(status.success() && !Path::new(folder).exists(), "the next test process left `{folder}` behind");
    Ok(())
}
