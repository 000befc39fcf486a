//! A whole Countersign for the tests: a ledger of its own, a service in this process on a real Kafka, a PostgreSQL, and a folder.
//! Tests share one world, each with identities and tables of its own, and every one of them ends by proving the whole ledger with
//! the verify tool.

use crate::support::{Folder, Kafka, Postgres};
use anyhow::{Context, Result, bail, ensure};
use countersign::broker;
use countersign::client::{Answer, Client, Inbox, Wish, identity_record};
use countersign::config::{ClientConfig, Config, CredentialRef};
use countersign::identity::PrivateKey;
use countersign::identity::change::{ConnectionDocument, Operation, StoreDocument};
use countersign::pipeline::now;
use countersign::pipeline::status::{Status, Word};
use countersign::service::Service;
use countersign_ledger::evidence::step::{Kind, Reason};
use countersign_ledger::evidence::{Entry, Phase, Step, TraceId};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const ORIGIN: &str = "test.countersign.example/ledger";
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub kafka: Kafka,
    pub postgres: Postgres,
    pub folder: Folder,
    pub service: Option<Service>,
    pub runtime: tokio::runtime::Runtime,
    pub extra: String,
}

/// Name, kind, groups, owner, the one it may act for.
type Person = (&'static str, Kind, &'static [&'static str], Option<&'static str>, Option<&'static str>);

/// The people of every world.
pub const PEOPLE: [Person; 9] = [
    ("reports", Kind::Service, &["analysts"], None, None),
    ("outsider", Kind::Service, &[], None, None),
    ("dana", Kind::Human, &["owners"], None, None),
    ("erin", Kind::Human, &["owners", "security"], None, None),
    ("mallory", Kind::Human, &["others"], None, None),
    ("kim", Kind::Human, &["owners"], None, None),
    ("hasty", Kind::Service, &["hasty"], None, None),
    ("frida", Kind::Human, &["fraud"], None, None),
    ("bot", Kind::Agent, &["bots"], Some("kim"), Some("kim")),
];

pub const CATALOG: &str = include_str!("catalog.toml");
pub const POLICY: &str = include_str!("policy.cedar");

/// The binary of that name, beside this test's own.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_BIN_EXE_countersign"));
    let path = own.parent().context("no folder")?.join(name);
    ensure!(path.exists(), "`{}` is not built: run `cargo build --workspace`", path.display());
    Ok(path)
}

impl World {
    /// The world that tests share.
    pub fn shared() -> &'static World {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| World::start("").unwrap_or_else(|e| panic!("the world did not start: {e:#}")))
    }

    /// A world of one's own; `extra` goes into the service's configuration.
    pub fn start(extra: &str) -> Result<World> {
        Self::start_on(Kafka::start()?, Postgres::start()?, extra)
    }

    pub fn start_on(kafka: Kafka, postgres: Postgres, extra: &str) -> Result<World> {
        if std::env::var_os("COUNTERSIGN_LOG").is_some() {
            countersign::cli::log_to_stderr();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
        let folder = Folder::new("world")?;
        let mut world = World { kafka, postgres, folder, service: None, runtime, extra: extra.into() };
        world.init()?;
        world.start_service()?;
        world.set_up()?;
        Ok(world)
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("service")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn init(&self) -> Result<()> {
        let status = Command::new(binary("countersign")?)
            .args(["init", "--origin", ORIGIN, "--kafka", &self.kafka.bootstrap()])
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
            .arg(self.dir())
            .output()?;
        ensure!(status.status.success(), "init: {}", String::from_utf8_lossy(&status.stderr));
        let path = self.dir().join("countersign.toml");
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, text + &self.extra)?;
        std::fs::create_dir_all(self.data())?;
        std::fs::write(self.dir().join("pg-url"), self.postgres.url())?;
        // Nothing listens at port 1.
        std::fs::write(self.dir().join("down-url"), "postgresql://nobody@127.0.0.1:1/nothing")?;
        Ok(())
    }

    pub fn config(&self) -> Result<Config> {
        Ok(Config::load(&self.dir().join("countersign.toml"))?)
    }

    pub fn start_service(&mut self) -> Result<()> {
        let config = self.config()?;
        self.service = Some(self.runtime.block_on(Service::start(config, false))?);
        Ok(())
    }

    pub fn stop_service(&mut self) {
        if let Some(service) = self.service.take() {
            self.runtime.block_on(service.stop());
        }
    }

    pub fn service(&self) -> &Service {
        self.service.as_ref().expect("the service runs")
    }

    fn set_up(&self) -> Result<()> {
        let admin = self.client("admin")?;
        for (name, kind, groups, owner, on_behalf_of) in PEOPLE {
            self.register(&admin, name, kind, groups, owner, on_behalf_of)?;
        }
        let postgres = |file: &str| StoreDocument::Postgres { url: CredentialRef::File(self.dir().join(file)) };
        let files = StoreDocument::Folder { path: self.data() };
        for (name, store) in [("files", files), ("pg", postgres("pg-url")), ("down", postgres("down-url"))] {
            admin.change(Operation::SetConnection(ConnectionDocument { name: name.into(), store }))?;
        }
        self.make_data()?;
        admin.change(Operation::SetCatalog { text: CATALOG.into() })?;
        admin.change(Operation::SetPolicy { text: POLICY.into() })?;
        Ok(())
    }

    pub fn register(
        &self,
        admin: &Client,
        name: &str,
        kind: Kind,
        groups: &[&str],
        owner: Option<&str>,
        on_behalf_of: Option<&str>,
    ) -> Result<u64> {
        let key = PrivateKey::generate()?;
        key.save(&self.dir().join(format!("{name}.key")))?;
        let mut record = identity_record(ORIGIN, name, kind, &key, now() + 86_400)?;
        record.groups = groups.iter().map(ToString::to_string).collect();
        record.owner = owner.map(String::from);
        record.on_behalf_of = on_behalf_of.map(String::from);
        admin.change(Operation::RegisterIdentity(record))
    }

    fn make_data(&self) -> Result<()> {
        let mut csv = String::from("id,name,email,born,country\n");
        for n in 0..60 {
            csv += &format!(
                "{n},Canaryname{n} Leaktest,canary.mail{n}@example.com,19{:02}-03-04,{}\n",
                40 + n,
                ["DE", "FR", "US"][n % 3]
            );
        }
        std::fs::write(self.data().join("people.csv"), csv)?;
        let mut csv = String::from("id,number,code,note,profile\n");
        let profile = |n| format!(r#""{{""since"":{n},""pass"":""Membersecret-pass-{n}""}}""#);
        (0..8).for_each(|n| csv += &format!("{n},Membersecret-{n},7700-000{n},nothing,{}\n", profile(n)));
        std::fs::write(self.data().join("members.csv"), csv)?;
        let mut csv = String::from("id,text\n");
        (0..6).for_each(|n| csv += &format!("{n},\"note {n}: found.in{n}@example.org, badge ACME-10000{n}\"\n"));
        std::fs::write(self.data().join("notes.csv"), csv)?;
        let mut csv = String::from("mail,card,word\n");
        (0..40).for_each(|n| csv += &format!("scanned{n}@example.org,4111 1111 1111 1111,w{n}\n"));
        std::fs::write(self.data().join("unlisted.csv"), csv)?;
        std::fs::write(self.data().join("ragged.csv"), "id,name\n1,a\n2,b,c\n")?;
        std::fs::write(self.data().join("wide.csv"), format!("id,name\n1,{}\n", "x".repeat(950_000)))?;
        self.postgres.psql(
            "create table people (id bigint primary key, name text, email text, born date, balance numeric(12,2), \
             country text, \"\"\"; drop table\" text, secret_code int, ratio float8, tags text[]); \
             insert into people select n, 'Canaryname' || n || ' Leaktest', 'canary.mail' || n || '@example.com', \
             date '1940-01-01' + n, n * 7.25 + 1000000, (array['DE','FR','US'])[n % 3 + 1], 'evil' || n, \
             770000000 + n, 0.12345 + n, array['tag' || n] from generate_series(0, 599) n; \
             create table slow as select n as id, repeat('x', 200) as name from generate_series(1, 400000) n;",
        )?;
        Ok(())
    }

    /// Somebody with a key of this world.
    pub fn client(&self, name: &str) -> Result<Client> {
        let service = self.service();
        let text = format!(
            "origin = {ORIGIN:?}\nidentity = {name:?}\nkey = \"{name}.key\"\nhttp = \"http://{}\"\n\n[kafka]\nbootstrap = {:?}\n",
            service.http,
            self.kafka.bootstrap()
        );
        // Tests beside this one read the same file meanwhile.
        let path = self.dir().join(format!("{name}.toml"));
        let mut whole = tempfile::NamedTempFile::new_in(self.dir())?;
        std::io::Write::write_all(&mut whole, text.as_bytes())?;
        whole.persist(&path)?;
        Client::new(ClientConfig::load(&path)?)
    }

    /// What this identity gets for a wish.
    pub fn ask(&self, who: &str, wish: &Wish) -> Result<(TraceId, Answer)> {
        self.client(who)?.request(wish, PATIENCE, true)
    }

    /// All entries of a trace. A status is told before the entry that closes a delivery is in the ledger: that one is waited for.
    pub fn story(&self, trace: TraceId) -> Result<Vec<Step>> {
        let ledger = &self.service().core.ledger;
        let deadline = std::time::Instant::now() + PATIENCE;
        let head = loop {
            let head = ledger.trace(&trace)?.context("no such trace")?;
            if !matches!(head.state.phase, Phase::Intended | Phase::Committed) {
                break head;
            }
            ensure!(std::time::Instant::now() < deadline, "trace {trace} stays at {:?}", head.state.phase);
            std::thread::sleep(Duration::from_millis(5));
        };
        head.entries.iter().map(|i| Ok(ledger.entry(*i)?.context("missing")?.body)).collect()
    }

    pub fn kinds(&self, trace: TraceId) -> Result<Vec<&'static str>> {
        Ok(self.story(trace)?.iter().map(Step::kind).collect())
    }

    /// Waits for an entry from `from` on that satisfies `is`; other tests write to the same ledger.
    pub fn wait_entry(&self, from: u64, is: impl Fn(&Step) -> bool) -> Result<()> {
        let ledger = &self.service().core.ledger;
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut at = from;
        loop {
            match ledger.entry(at)? {
                Some(entry) if is(&entry.body) => return Ok(()),
                Some(_) => at += 1,
                None if std::time::Instant::now() > deadline => {
                    let found: Vec<_> = self.entries_since(from)?.into_iter().map(|e| e.body).collect();
                    bail!("no such entry among {found:#?}");
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Every entry from `from` on.
    pub fn entries_since(&self, from: u64) -> Result<Vec<Entry>> {
        let ledger = &self.service().core.ledger;
        (from..ledger.size().get()).map(|i| ledger.entry(i)?.context("missing")).collect()
    }

    /// Exports the ledger and has the verify tool prove it.
    pub fn prove(&self) -> Result<String> {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let dir = self.folder.path().join(format!("evidence-{}", RUN.fetch_add(1, Ordering::Relaxed)));
        self.prove_into(&dir)
    }

    pub fn prove_into(&self, dir: &Path) -> Result<String> {
        use countersign_ledger::evidence::Class;
        let ledger = &self.service().core.ledger;
        ledger.wait_published()?;
        ledger.export(dir, &[Class::Request, Class::Approval, Class::Admin, Class::Identity])?;
        let output = Command::new(binary("countersign-verify")?)
            .arg("log")
            .arg(dir)
            .arg("--key")
            .arg(self.dir().join("ledger.vkey"))
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(0), "verify ended with {:?}:\n{said}", output.status.code());
        Ok(said)
    }

    /// Publishes a raw record as anybody who can write to the topic could, and gives the entry that it leaves.
    pub fn publish_raw(&self, topic: &str, value: &[u8]) -> Result<()> {
        self.client("outsider")?.publish(topic, value, &[])
    }

    pub fn inbox(&self, who: &str) -> Result<Inbox> {
        self.client(who)?.listen()
    }
}

/// Waits for a status that satisfies `is`.
pub fn wait_status(inbox: &mut Inbox, is: impl Fn(&Status) -> bool) -> Result<Status> {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        if let Some(status) = inbox.next_status(Duration::from_millis(200))?
            && is(&status)
        {
            return Ok(status);
        }
    }
    bail!("no such status came")
}

pub fn expect(answer: &Answer, word: Word, reason: Option<Reason>) {
    assert_eq!((answer.status.status, answer.status.reason), (word, reason), "{:?}", answer.status);
    if word != Word::Delivered {
        assert!(answer.parts.is_empty(), "data came with {word:?}");
    }
}

/// A wish for the CSV people.
pub fn people(columns: &[&str]) -> Wish {
    Wish {
        dataset: "files.people".into(),
        columns: columns.iter().map(ToString::to_string).collect(),
        format: "jsonl".into(),
        purpose: "reporting".into(),
        ..Wish::default()
    }
}

/// A wish for the PostgreSQL people.
pub fn pg_people(columns: &[&str]) -> Wish {
    Wish { dataset: "pg.public.people".into(), ..people(columns) }
}

/// Sends nothing but waits until everything sent before has been dealt with: the entry of this marker is there.
pub fn settle(world: &World) -> Result<u64> {
    let ledger = &world.service().core.ledger;
    let before = ledger.size().get();
    world.publish_raw(broker::REQUESTS, format!("marker {}", rand_text()).as_bytes())?;
    let deadline = std::time::Instant::now() + PATIENCE;
    while ledger.size().get() == before {
        ensure!(std::time::Instant::now() < deadline, "the door does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(before)
}

pub fn rand_text() -> String {
    countersign::identity::claims::new_jti().unwrap_or_default()
}
