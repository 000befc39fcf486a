//! Keeping a ledger, by the command line: its key is replaced, witnesses cosign it, payloads are purged and held, the store is backed up
//! and put back.

use crate::support::{Folder, skip, witness::Litewitness};
use crate::world::{PATIENCE, binary};
use countersign::config::Config;
use countersign::identity::claims::new_jti;
use countersign::pipeline::now;
use countersign::service::Service;
use countersign_ledger::evidence::step::{
    Alg, Attest, IdentityVerified, RequestDenied, RequestReceived, RequestRejected,
};
use countersign_ledger::evidence::{Class, Commitment, Day, Int, Reason, Step, TraceId, digest::sha256};
use countersign_ledger::store::{Append, Ledger, Payload};
use countersign_ledger::tlog::{Note, Policy, SignedCheckpoint, cosignatures, witness::AddCheckpoint};
use rdkafka::mocking::MockCluster;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const ORIGIN: &str = "keeping.countersign.example/ledger";

/// A ledger with a service on an embedded broker: nothing here sends a request through Kafka.
struct House {
    service: Option<Service>,
    runtime: tokio::runtime::Runtime,
    folder: Folder,
    _cluster: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
}

impl House {
    /// `more` goes into the configuration.
    fn new(more: &str) -> Self {
        let folder = Folder::new("keeping").unwrap();
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["chunk.requests", "chunk.approvals", "chunk.work", "chunk.rejected"] {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let house = Self { service: None, runtime, folder, _cluster: cluster };
        let kafka = house._cluster.bootstrap_servers();
        let listen = ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        house.done(&[&["init", "--origin", ORIGIN, "--kafka", &kafka], &listen[..], &["."]].concat());
        let config = house.path("countersign.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text + more).unwrap();
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) {
        let config = Config::load(&self.path("countersign.toml")).unwrap();
        self.service = Some(self.runtime.block_on(Service::start(config, true)).unwrap());
    }

    fn stop(&mut self) {
        if let Some(service) = self.service.take() {
            self.runtime.block_on(service.stop());
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.service.as_ref().unwrap().core.ledger
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary("countersign").unwrap()).current_dir(self.folder.path()).args(arguments).output().unwrap()
    }

    /// The output of a command that must succeed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says that must fail.
    fn refused(&self, arguments: &[&str], why: &str) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{arguments:?}, required `{why}`: {said}");
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let url = format!("http://{}{path}", self.service.as_ref().unwrap().http);
        ureq::get(&url).call().unwrap().body_mut().read_to_vec().unwrap()
    }

    fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.service.as_ref().unwrap().metrics);
        ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()
    }

    /// Has the verify tool look at an export, with the ledger's key of the moment.
    fn prove(&self, export: &str) {
        self.prove_with(export, &["--key", "ledger.vkey"]);
    }

    fn prove_with(&self, export: &str, keys: &[&str]) {
        let verify = Command::new(binary("countersign-verify").unwrap())
            .current_dir(self.folder.path())
            .args(["log", export])
            .args(keys)
            .output()
            .unwrap();
        assert_eq!(verify.status.code(), Some(0), "{}", String::from_utf8_lossy(&verify.stdout));
    }

    /// What the report of an export says of exceptions, by kind and number.
    fn reported(&self, export: &str, expected: &[(&str, u64)]) {
        let report = Command::new(binary("countersign-verify").unwrap())
            .current_dir(self.folder.path())
            .args(["report", export, "--json", "--key", "ledger.vkey"])
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        let found = report["exceptions"].as_array().unwrap();
        for (what, total) in expected {
            let of_kind = found.iter().find(|kind| kind[0] == *what).map(|kind| &kind[1]["total"]);
            assert_eq!(of_kind, Some(&(*total).into()), "{what}: {found:?}");
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A request that was denied at once, with that token; its trace and its payload.
fn request(ledger: &Ledger, token: &str) -> (TraceId, Payload) {
    let trace = TraceId::request("nobody", &new_jti().unwrap());
    let payload = Payload::new(Class::Request, token);
    let received = RequestReceived {
        door: "kafka".into(),
        topic: "chunk.requests".into(),
        partition: Int::ZERO,
        offset: Int::ZERO,
        bytes: Int::saturating(token.len() as u64),
        digest: sha256(token.as_bytes()),
        request: payload.commitment(),
    };
    let (kid, identity) = ("kid".to_owned(), "id-0011223344556677".to_owned());
    let verified =
        IdentityVerified { identity, kid, alg: Alg::EdDsa, registered: Int::ONE, attest: Attest::CallerSigned };
    let steps = vec![received.into(), verified.into(), RequestDenied { reason: Reason::Forbidden }.into()];
    ledger.append(Append { payloads: vec![payload.clone()], ..Append::opening(trace, steps) }).unwrap();
    (trace, payload)
}

/// A record that nobody could be held to: a story that is whole.
fn rejected(ledger: &Ledger, offset: u64) {
    let (topic, partition, offset) = ("chunk.requests".to_owned(), Int::ZERO, Int::saturating(offset));
    let trace = TraceId::rejected(&topic, partition.get(), offset.get());
    let record = Commitment::to(Class::Rejected, &[1; 32], b"nonsense");
    let (reason, door, count) = (Reason::Malformed, "kafka".to_owned(), Int::ONE);
    let step = RequestRejected { reason, door, topic, partition, offset, count, record };
    ledger.append(Append::opening(trace, vec![step.into()])).unwrap();
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn kinds(ledger: &Ledger) -> Vec<&'static str> {
    (0..ledger.size().get()).map(|index| ledger.entry(index).unwrap().unwrap().body.kind()).collect()
}

#[test]
fn the_key_is_replaced_and_the_store_is_backed_up_and_put_back() {
    let mut house = House::new("");
    house.start();
    let first = std::fs::read_to_string(house.path("ledger.vkey")).unwrap();
    house.refused(&["keys", "rotate"], "in use");
    assert!(!house.path("ledger.key.next").exists());
    // The next key of somebody else, who has the ledger at the moment: it may be the only copy of what the ledger is about to name.
    house.done(&["keys", "new", "--origin", ORIGIN, "--out", "ledger.key.next"]);
    house.refused(
        &["keys", "new", "--origin", ORIGIN, "--out", "ledger.key.other"],
        "ledger.key.vkey` is there already",
    );
    house.refused(&["keys", "rotate"], "in use");
    assert!(house.path("ledger.key.next").exists());
    std::fs::remove_file(house.path("ledger.key.next")).unwrap();
    let socket = house.path("control.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(house.done(&["ledger", "backup", "backup"]).starts_with("2 entries in "));
    house.refused(&["ledger", "backup", "backup"], "exists already");
    // Whoever takes payloads out stands in the ledger before he has them.
    house.done(&["ledger", "export", "export", "--payloads", "admin,identity"]);
    assert_eq!(kinds(house.ledger()), ["log.created", "identity.registered", "ledger.exported"]);
    let Step::LedgerExported(recorded) = house.ledger().entry(2).unwrap().unwrap().body else { panic!("another step") };
    assert_eq!((recorded.by, recorded.payloads), (None, vec!["admin".to_owned(), "identity".to_owned()]));
    // Without payloads it is what anybody may see.
    house.done(&["ledger", "export", "export"]);
    assert_eq!(house.ledger().size().get(), 3);
    house.prove("export");
    house.stop();
    assert!(!socket.exists());

    // A key that others can read is none.
    let key = house.path("ledger.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    house.refused(&["keys", "rotate"], "others may read it, required 600");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let other = house.done(&["keys", "new", "--origin", "other.example/log", "--out", "other.key"]);
    assert!(other.starts_with("other.example/log+"));
    house.refused(&["keys", "rotate", "--new", "other.key"], "a key of another log");
    house.refused(&["keys", "new", "--origin", ORIGIN, "--out", "ledger.key"], "ledger.vkey` is there already");
    house.refused(&["keys", "new", "--origin", ORIGIN, "--out", "new.vkey"], "where the public key goes");

    let second = house.done(&["keys", "rotate"]);
    assert_ne!(first, second);
    assert_eq!(std::fs::read_to_string(house.path("ledger.vkey")).unwrap(), second);
    let epochs = std::fs::read_to_string(house.path("ledger.epochs")).unwrap();
    assert_eq!(epochs, format!("{} 4\n{second}", first.trim()));
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!house.path("ledger.key.next").exists());
    house.start();
    rejected(house.ledger(), 1);
    house.ledger().wait_published().unwrap();
    let note = house.get("/checkpoint");
    SignedCheckpoint::open(&note, ORIGIN, &[second.trim().parse().unwrap()]).unwrap();
    house.done(&["ledger", "export", "export"]);
    // Whoever has the first key follows to the second, and the other way round.
    std::fs::write(house.path("first.vkey"), &first).unwrap();
    for keys in [["--key", "first.vkey"], ["--key", "ledger.vkey"], ["--epochs", "ledger.epochs"]] {
        house.prove_with("export", &keys);
    }
    house.reported("export", &[("the ledger's key replaced", 1), ("evidence exported", 1)]);
    request(house.ledger(), "after the rotation");
    house.done(&["ledger", "export", "export", "--payloads", "request"]);
    let size = house.ledger().size();
    house.stop();

    // The store is lost; the backup is older than `HEAD`.
    std::fs::remove_dir_all(house.path("ledger")).unwrap();
    house.refused(&["ledger", "restore", "backup"], "entries that were answered for are missing");
    let said = house.done(&["ledger", "restore", "backup", "--tail", "export"]);
    assert!(said.starts_with("2 entries from the backup, 7 entries and 1 payloads from the export"), "{said}");
    house.refused(&["ledger", "restore", "backup", "--tail", "export"], "exists already");
    house.start();
    assert_eq!((house.ledger().size(), house.ledger().read_only()), (size, None));
    request(house.ledger(), "after the restoring");
}

#[test]
fn payloads_are_purged_when_their_time_is_over_and_held_while_they_are_needed() {
    let mut house = House::new("\n[retention]\nrequest = 30\n");
    house.start();
    let (trace, kept) = request(house.ledger(), "the token of a request that is held");
    let (_, gone) = request(house.ledger(), "the token of another request");
    let trace = trace.to_string();
    house.refused(&["retention", "hold", "--reason", "none", &"0".repeat(64)], "no trace `");
    let said = house.done(&["retention", "hold", "--reason", "a lawsuit", &trace]);
    let hold = said.split(' ').nth(1).unwrap().to_owned();
    let holds = house.done(&["retention", "holds"]);
    assert!(holds.starts_with(&hold) && holds.contains("a lawsuit"), "{holds}");
    let said = house.done(&["retention", "run"]);
    assert!(said.contains("0 payloads of 0 bytes destroyed") && said.contains("bytes before"), "{said}");

    // Nobody can wait for thirty days: the day of the purge is given here, where the command takes today's.
    let periods = Config::load(&house.path("countersign.toml")).unwrap().periods();
    let later = Day::from_number(Day::of_unix_seconds(now()).number() + 31);
    let report = house.ledger().purge(&periods, later).unwrap();
    assert_eq!((report.purged[0].payloads, report.kept), (1, 1));
    assert_eq!(house.ledger().payload(&gone.commitment()).unwrap(), None);
    assert_eq!(house.ledger().payload(&kept.commitment()).unwrap(), Some(kept.clone()));
    house.done(&["retention", "release", "--reason", "settled", &hold]);
    house.refused(&["retention", "release", "--reason", "again", &hold], "no hold");
    house.ledger().purge(&periods, later).unwrap();
    assert_eq!(house.ledger().payload(&kept.commitment()).unwrap(), None);

    // What is gone is attested, not broken; the story of the purge is good.
    house.ledger().wait_published().unwrap();
    house.done(&["ledger", "export", "export", "--payloads", "admin,request"]);
    assert!(!house.path("export/payload").join(kept.commitment().to_string()).exists());
    let kinds = kinds(house.ledger());
    let count = |kind: &str| kinds.iter().filter(|found| **found == kind).count();
    assert_eq!((count("payload.held"), count("payload.released"), count("payload.purged")), (1, 1, 2));
    house.reported("export", &[("payloads held or released", 2), ("payloads destroyed", 2), ("payloads read", 0)]);
    house.stop();
    // Without a service the command does it itself.
    house.done(&["retention", "run"]);

    let config = std::fs::read_to_string(house.path("countersign.toml")).unwrap();
    std::fs::write(house.path("countersign.toml"), config.replace("request = 30", "identity = 30")).unwrap();
    house.refused(&["retention", "run"], "payloads of class `identity` cannot have a period");
}

#[test]
fn witnesses_cosign_what_is_published() {
    let name = "witnesses_cosign_what_is_published";
    let Some(mut one) = Litewitness::new("witness.example/one").unwrap() else {
        return skip(name, "there is no Go on this machine");
    };
    let mut two = Litewitness::new("witness.example/two").unwrap().unwrap();
    let mut house = House::new("\n[witness]\npolicy = \"witnesses.policy\"\nappends_wait_after_seconds = 6\n");
    let key = std::fs::read_to_string(house.path("ledger.vkey")).unwrap();
    let policy =
        format!("log {}\n{}{}group both all one two\nquorum both\n", key.trim(), one.line("one"), two.line("two"));
    std::fs::write(house.path("witnesses.policy"), &policy).unwrap();
    let policy = Policy::decode(policy.as_bytes()).unwrap();
    for witness in [&mut one, &mut two] {
        witness.know(ORIGIN, key.trim(), true).unwrap();
        witness.start().unwrap();
    }
    // One of them has seen the log before, from somebody who told us nothing: it answers 409 with its size.
    house.done(&["ledger", "export", "before"]);
    let checkpoint = std::fs::read(house.path("before/checkpoint")).unwrap();
    let body = AddCheckpoint { old: countersign_ledger::tlog::TreeSize::new(0), proof: vec![], checkpoint }.encode();
    let posted = ureq::post(&format!("{}/add-checkpoint", one.url())).send(&body[..]).unwrap();
    assert_eq!(posted.status(), 200);

    house.start();
    let reached = |house: &House| {
        let note = house.get("/checkpoint");
        let (signed, witnessed) = policy.open(&note).unwrap();
        witnessed.quorum.then(|| signed.checkpoint().size)
    };
    rejected(house.ledger(), 1);
    let first = house.ledger().wait_published().unwrap().checkpoint().size;
    wait("the quorum", || reached(&house) == Some(first));
    house.done(&["ledger", "export", "export"]);
    let note = std::fs::read(house.path("export/checkpoint")).unwrap();
    let known = [one.key().clone(), two.key().clone()];
    assert_eq!(cosignatures(&Note::parse(&note).unwrap(), &known).unwrap().len(), 2);
    house.prove_with("export", &["--key", "ledger.vkey", "--policy", "witnesses.policy"]);

    // Without one of them the log goes on, and shows what was cosigned last.
    two.stop().unwrap();
    rejected(house.ledger(), 2);
    house.ledger().wait_published().unwrap();
    wait("a witness missing", || house.metrics().contains("countersign_witnesses_missing 1\n"));
    assert_eq!(reached(&house), Some(first));
    // But not for longer than it was told to.
    wait("appends waiting", || {
        house.ledger().append(Append::opening(TraceId::log(), vec![])).unwrap_err().to_string().contains("quorum")
    });
    // It catches up, and so does whoever waits.
    two.start().unwrap();
    let published = house.ledger().checkpoint().checkpoint().size;
    wait("catching up", || reached(&house) == Some(published));
    wait("appends going on", || house.metrics().contains("countersign_ledger_unwitnessed_seconds 0\n"));
    wait("the next append", || {
        let error = house.ledger().append(Append::opening(TraceId::log(), vec![])).unwrap_err().to_string();
        error.contains("without steps")
    });
    rejected(house.ledger(), 3);
}

/// What `docs/operations.md` tells operators to watch is there.
#[test]
fn every_alarm_that_is_documented_is_measured() {
    let mut house = House::new("");
    house.start();
    let shown = house.metrics();
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md")).unwrap();
    let section = docs.split("### Alarms").nth(1).unwrap().split("The rest, for dashboards").next().unwrap();
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `countersign_"))
        .map(|line| line.split(['`', '{']).next().unwrap())
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        assert!(shown.contains(&format!("\ncountersign_{name}")), "`countersign_{name}` is not measured:\n{shown}");
    }
}
