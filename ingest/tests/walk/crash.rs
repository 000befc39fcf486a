//! Parts die: the service between intent and commit and after it, Kafka in a transaction, PostgreSQL in a copy. Nothing acknowledged
//! is lost, nothing is delivered twice, and the ledger tells what happened.

use crate::support::Process;
use crate::world::{PATIENCE, World, binary, expect, people, pg_people};
use countersign::broker::{Reader, Transactor, partition_of};
use countersign::client::Wish;
use countersign::pipeline::chunk::Permitted;
use countersign::pipeline::status::Word;
use countersign::pipeline::worker::{Worker, connect, runtime};
use countersign_ledger::evidence::step::Reason;
use countersign_ledger::evidence::{Phase, TraceId};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A request that is permitted, in a world whose workers have been stopped before they could take it: the test is the worker.
struct Bench {
    world: World,
}

/// Where the test's own worker dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    AfterQuery,
    AfterIntent,
    InTransaction,
    AfterCommit,
}

impl Bench {
    /// Walks a permitted request to the point where the worker dies.
    fn walk(&self, death: Death) -> TraceId {
        let core = &self.world.service().core;
        let client = self.world.client("reports").unwrap();
        let (trace, token) = client.sign_request(&client.claims(&pg_people(&["id", "name"])).unwrap()).unwrap();
        // The door's own work, without a worker behind it.
        let record = countersign::broker::Incoming {
            topic: "chunk.requests".into(),
            partition: 0,
            offset: 1_000_000 + i64::from(death as u8),
            key: None,
            value: token.into_bytes(),
            headers: Vec::new(),
        };
        let door = connect(core, "test-door").unwrap();
        countersign::door::take(core, &door, &[record]).unwrap();
        assert_eq!(core.ledger.trace(&trace).unwrap().unwrap().state.phase, Phase::Permitted);
        let work = Permitted::load(core, trace).unwrap().unwrap();
        let topic = work.identity.status_topic.clone();
        let transactor: Transactor = connect(core, "doomed").unwrap();
        let reader = Reader::connect(&core.config.kafka, &topic).unwrap();
        let stop = |e: countersign::pipeline::chunk::Stop| -> ! { panic!("{e:?}") };
        let fetched = work.fetch(core, &runtime().unwrap()).unwrap_or_else(|e| stop(e));
        if death == Death::AfterQuery {
            return trace;
        }
        let recorded = fetched
            .mask(core)
            .unwrap_or_else(|e| stop(e))
            .record(core, &transactor, &reader)
            .unwrap_or_else(|e| stop(e));
        match death {
            Death::AfterIntent => drop(recorded),
            Death::InTransaction => {
                drop(recorded);
                let partition = partition_of(&trace.0, transactor.partitions(&topic).unwrap());
                self.leave_open(trace, &topic, partition);
            }
            _ => {
                recorded.deliver(&transactor, None).unwrap();
            }
        }
        trace
    }
}

impl Bench {
    /// What a worker leaves that died between its last send and its commit: an open transaction with the status record in it,
    /// which the broker ends only when its time is over.
    fn leave_open(&self, trace: TraceId, topic: &str, partition: i32) {
        use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
        let mut config = self.world.kafka.client();
        config.set("transactional.id", format!("dead-{trace}")).set("transaction.timeout.ms", "8000");
        let producer: FutureProducer = config.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let mut status = countersign::pipeline::status::Status::new(Some(trace), Word::Delivered);
        (status.attempt, status.parts) = (Some(1), Some(1));
        let value = serde_json::to_vec(&status).unwrap();
        let record: FutureRecord<'_, [u8], _> = FutureRecord::to(topic).partition(partition).payload(&value);
        let sent = producer.send_result(record).unwrap_or_else(|(e, _)| panic!("{e}"));
        producer.flush(PATIENCE).unwrap();
        self.world.runtime.block_on(sent).unwrap().unwrap_or_else(|(e, _)| panic!("{e}"));
    }
}

#[test]
fn whoever_comes_after_a_dead_worker_finds_out_what_it_did() {
    let world = World::start("\n[service]\ntransaction_seconds = 10\n").unwrap();
    let bench = Bench { world };
    let core = bench.world.service().core.clone();
    let check = |death: Death, expect: &[&str]| {
        let mut inbox = bench.world.inbox("reports").unwrap();
        let trace = bench.walk(death);
        let mut worker = Worker::connect(&core, "successor").unwrap();
        worker.work(trace, None).unwrap_or_else(|e| panic!("{death:?}: {e}"));
        let kinds = bench.world.kinds(trace).unwrap();
        assert_eq!(&kinds[3..], expect, "{death:?}");
        let answer = inbox.wait(trace, PATIENCE, true).unwrap();
        crate::world::expect(&answer, Word::Delivered, None);
        assert_eq!(answer.status.rows, Some(600));
        // Taken up once more, nothing happens.
        worker.work(trace, None).unwrap();
        assert_eq!(bench.world.kinds(trace).unwrap(), kinds);
    };
    let again = ["source.queried", "chunk.masked", "delivery.intended", "delivery.committed", "request.completed"];
    let all = |before: &[&'static str]| before.iter().copied().chain(again).collect::<Vec<_>>();
    check(Death::AfterQuery, &all(&["source.queried"]));
    check(Death::AfterIntent, &all(&["source.queried", "chunk.masked", "delivery.intended", "delivery.aborted"]));
    check(Death::InTransaction, &all(&["source.queried", "chunk.masked", "delivery.intended", "delivery.aborted"]));
    check(Death::AfterCommit, &again);
    bench.world.prove().unwrap();
}

#[test]
fn two_workers_on_one_trace_deliver_once() {
    let world = World::start("").unwrap();
    let core = world.service().core.clone();
    let client = world.client("reports").unwrap();
    for round in 0..4 {
        let (trace, token) = client.sign_request(&client.claims(&pg_people(&["id"])).unwrap()).unwrap();
        let record = countersign::broker::Incoming {
            topic: "chunk.requests".into(),
            partition: 0,
            offset: 2_000_000 + round,
            key: None,
            value: token.into_bytes(),
            headers: Vec::new(),
        };
        let door = connect(&core, "test-door").unwrap();
        countersign::door::take(&core, &door, &[record]).unwrap();
        let ended = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for n in 0..2 {
                let (core, ended) = (&core, &ended);
                scope.spawn(move || {
                    let mut worker = Worker::connect(core, &format!("rival-{n}")).unwrap();
                    ended.lock().unwrap().push(worker.work(trace, None).map_err(|e| e.to_string()));
                });
            }
        });
        let ended = ended.into_inner().unwrap();
        assert!(ended.iter().any(Result::is_ok), "{ended:?}");
        let kinds = world.kinds(trace).unwrap();
        assert_eq!(kinds.iter().filter(|k| **k == "delivery.committed").count(), 1, "{kinds:?}");
        assert_eq!(kinds.last(), Some(&"request.completed"));
    }
    world.prove().unwrap();
}

#[test]
fn postgresql_killed_in_mid_copy_fails_the_request_and_not_the_service() {
    let mut world = World::start("").unwrap();
    let wish = Wish { dataset: "pg.public.slow".into(), ..people(&["id", "name"]) };
    let client = world.client("reports").unwrap();
    let (trace, token) = client.sign_request(&client.claims(&wish).unwrap()).unwrap();
    let mut inbox = client.listen().unwrap();
    client.publish("chunk.requests", token.as_bytes(), &[]).unwrap();
    let ledger = world.service().core.ledger.clone();
    let deadline = Instant::now() + PATIENCE;
    while !ledger.trace(&trace).unwrap().is_some_and(|h| h.state.phase == Phase::Queried) {
        assert!(Instant::now() < deadline, "the query was never sent");
        std::thread::sleep(Duration::from_millis(1));
    }
    world.postgres.kill().unwrap();
    let answer = inbox.wait(trace, PATIENCE, true).unwrap();
    let reason = answer.status.reason;
    assert_eq!(answer.status.status, Word::Failed, "{:?}", answer.status);
    assert!(matches!(reason, Some(Reason::SourceUnavailable | Reason::SourceFailed)), "{reason:?}");
    let (_, answer) = world.ask("reports", &people(&["id"])).unwrap();
    expect(&answer, Word::Delivered, None);
    world.postgres.restart().unwrap();
    let (_, answer) = world.ask("reports", &pg_people(&["id"])).unwrap();
    expect(&answer, Word::Delivered, None);
    world.prove().unwrap();
    world.stop_service();
}

#[test]
fn kafka_killed_under_load_loses_nothing_and_delivers_nothing_twice() {
    let mut world = World::start("\n[service]\ntransaction_seconds = 10\n").unwrap();
    let client = world.client("reports").unwrap();
    let mut inbox = client.listen().unwrap();
    let mut traces = Vec::new();
    for _ in 0..12 {
        let wish = Wish { limit: Some(5000), dataset: "pg.public.slow".into(), ..people(&["id", "name"]) };
        let (trace, token) = client.sign_request(&client.claims(&wish).unwrap()).unwrap();
        client.publish("chunk.requests", token.as_bytes(), &[]).unwrap();
        traces.push(trace);
    }
    std::thread::sleep(Duration::from_millis(700));
    world.kafka.kill().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    world.kafka.restart().unwrap();
    all_delivered_once(&world, &mut inbox, &traces);
    world.prove().unwrap();
    world.stop_service();
}

/// Waits until every request is delivered, and sees to it that none is twice.
fn all_delivered_once(world: &World, inbox: &mut countersign::client::Inbox, traces: &[TraceId]) {
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut delivered = std::collections::BTreeMap::new();
    while delivered.len() < traces.len() {
        if Instant::now() >= deadline {
            // What became of those that are missing is what there is to know.
            let missing = traces.iter().filter(|trace| !delivered.contains_key(*trace));
            let stories: Vec<_> = missing.map(|trace| (trace, world.kinds(*trace))).collect();
            panic!("delivered {} of {}, missing {stories:?}", delivered.len(), traces.len());
        }
        if let Some(status) = inbox.next_status(Duration::from_millis(200)).unwrap()
            && status.status == Word::Delivered
        {
            *delivered.entry(status.request.unwrap()).or_insert(0) += 1;
        }
    }
    // A second delivery would come soon after.
    while let Some(status) = inbox.next_status(Duration::from_secs(3)).unwrap() {
        if status.status == Word::Delivered {
            *delivered.entry(status.request.unwrap()).or_insert(0) += 1;
        }
    }
    assert!(delivered.values().all(|n| *n == 1), "{delivered:?}");
    let ledger = &world.service().core.ledger;
    for trace in traces {
        while ledger.trace(trace).unwrap().unwrap().state.phase != Phase::Closed {
            assert!(Instant::now() < deadline, "trace {trace} stays open: {:?}", world.kinds(*trace));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn the_service_killed_again_and_again_loses_nothing_and_delivers_nothing_twice() {
    let mut world = World::start("\n[service]\ntransaction_seconds = 10\n").unwrap();
    let client = world.client("reports").unwrap();
    let mut inbox = client.listen().unwrap();
    world.stop_service();
    let start = |n: u32| {
        let mut command = Command::new(binary("countersign").unwrap());
        command.arg("serve").arg("--config").arg(world.dir().join("countersign.toml"));
        Process::start("countersign serve", &command, &world.folder.path().join(format!("serve-{n}.log"))).unwrap()
    };
    let mut traces = Vec::new();
    for n in 0..5 {
        let mut process = start(n);
        for _ in 0..6 {
            let wish = Wish { limit: Some(3000), dataset: "pg.public.slow".into(), ..people(&["id", "name"]) };
            let (trace, token) = client.sign_request(&client.claims(&wish).unwrap()).unwrap();
            client.publish("chunk.requests", token.as_bytes(), &[]).unwrap();
            traces.push(trace);
        }
        // Late enough to be at work, early enough not to be done: a group takes seconds to form.
        let from = Instant::now();
        let _ = process.wait_until("at work", Duration::from_secs(20), |log| log.contains("listening"));
        std::thread::sleep(Duration::from_millis(2500 + 400 * u64::from(n)));
        assert!(from.elapsed() < Duration::from_secs(25));
        process.kill().unwrap();
    }
    world.start_service().unwrap();
    all_delivered_once(&world, &mut inbox, &traces);
    world.prove().unwrap();
    world.stop_service();
}

#[test]
fn a_full_disk_under_the_ledger_stops_the_service_and_nothing_leaves() {
    const NAME: &str = "a_full_disk_under_the_ledger_stops_the_service_and_nothing_leaves";
    let mut world = World::start("").unwrap();
    let disk = world.folder.path().join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        return crate::support::skip(NAME, "this user may not mount a small disk");
    }
    /// Unmounts, however the test ends.
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        }
    }
    let mounted = Mounted(disk.clone());
    let client = world.client("reports").unwrap();
    let mut inbox = client.listen().unwrap();
    world.stop_service();
    let copied = Command::new("cp").arg("-a").arg(world.dir().join("ledger")).arg(&disk).status().unwrap();
    assert!(copied.success());
    let config = world.dir().join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[ledger]\ndir = {:?}\n", disk.join("ledger"))).unwrap();
    let mut command = Command::new(binary("countersign").unwrap());
    command.arg("serve").arg("--config").arg(&config);
    let mut process =
        Process::start("countersign serve", &command, &world.folder.path().join("serve-full.log")).unwrap();
    process.wait_for_output("listening", PATIENCE).unwrap();
    // Not a byte is left on the ledger's disk.
    let mut filler = std::fs::File::create(disk.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 65_536]).is_ok() {}
    drop(filler);
    let mut traces = Vec::new();
    for _ in 0..3 {
        let (trace, token) = client.sign_request(&client.claims(&pg_people(&["id"])).unwrap()).unwrap();
        client.publish("chunk.requests", token.as_bytes(), &[]).unwrap();
        traces.push(trace);
    }
    let ended = process.wait_for_end(PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(70), "the process ends when its ledger does:\n{}", process.log());
    // The last page of the ledger's log may still have taken a decision, and then it was told. Nothing more can have happened.
    while let Some(status) = inbox.next_status(Duration::from_secs(2)).unwrap() {
        assert_eq!(status.status, Word::Accepted, "something left without an entry:\n{}", process.log());
    }
    std::fs::remove_file(disk.join("filler")).unwrap();
    world.start_service().unwrap();
    all_delivered_once(&world, &mut inbox, &traces);
    world.prove().unwrap();
    world.stop_service();
    drop(mounted);
}
