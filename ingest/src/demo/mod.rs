//! `countersign demo`: the whole promise in one run, on the same code as `countersign serve`. Kafka is librdkafka's in-process
//! cluster, which keeps everything in memory and whose transactions are hollow: good for trying out, never evidence for
//! exactly-once. The people in the data are made up.

mod sample;
mod story;

use crate::cli::init::Init;
use crate::client::{Client, Wish, identity_record};
use crate::config::{ClientConfig, Config};
use crate::identity::change::{ConnectionDocument, Operation, StoreDocument};
use crate::identity::key::PrivateKey;
use crate::pipeline::now;
use crate::service::Service;
use anyhow::{Context, bail};
use clap::Args;
use countersign_ledger::evidence::step::Kind;
use rdkafka::mocking::MockCluster;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The name of the demo's ledger.
const ORIGIN: &str = "demo.countersign.example/ledger";

/// Somebody who takes part: name, kind, groups, owner, the one it may act for.
type Person = (&'static str, Kind, &'static [&'static str], Option<&'static str>, Option<&'static str>);

const PEOPLE: [Person; 4] = [
    ("dana", Kind::Human, &["data-owners"], None, None),
    ("kim", Kind::Human, &["support"], None, None),
    ("weekly-report", Kind::Service, &["analysts"], None, None),
    ("support-bot", Kind::Agent, &["support-bots"], Some("kim"), Some("kim")),
];

/// Try everything out
#[derive(Args, Debug)]
pub struct Demo {
    /// The folder that the demo leaves behind; an earlier demo's folder is replaced
    #[arg(long, default_value = "demo-run")]
    dir: PathBuf,
    /// Stay up afterwards, to be played with
    #[arg(long)]
    keep: bool,
}

impl Demo {
    /// Runs the demo.
    pub fn run(self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<ExitCode> {
        let dir = std::path::absolute(&self.dir).with_context(|| format!("`{}`", self.dir.display()))?;
        clear_folder(&dir)?;
        log_to(&dir.join("log.txt"))?;
        let cluster = MockCluster::new(1).context("cannot start the embedded broker")?;
        let topics =
            PEOPLE.iter().flat_map(|(name, ..)| [format!("chunk.masked.{name}"), format!("chunk.status.{name}")]);
        let inner = ["chunk.requests", "chunk.approvals", "chunk.work", "chunk.rejected"].map(String::from);
        for topic in topics.chain(inner) {
            cluster.create_topic(&topic, 1, 1).with_context(|| format!("cannot make topic `{topic}`"))?;
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let init = Init {
            dir: dir.join("service"),
            origin: ORIGIN.into(),
            admins: Vec::new(),
            offers: Vec::new(),
            quorum: None,
            continues: None,
            continues_key: None,
            kafka: cluster.bootstrap_servers(),
            listen: any,
            metrics: any,
        };
        init.make().context("init")?;
        sample::write(&dir.join("data")).context("the sample data")?;
        let config = Config::load(&init.dir.join("countersign.toml"))?;
        let service = runtime.block_on(Service::start(config, true))?;
        let scene = Scene { dir: &dir, init: Init { listen: service.http, ..init }, service: &service };
        let told = scene.set_up().and_then(|()| story::tell(&scene));
        if told.is_ok() && self.keep {
            scene.stay(runtime)?;
        }
        runtime.block_on(service.stop());
        told
    }
}

/// What the story plays in.
struct Scene<'a> {
    dir: &'a Path,
    init: Init,
    service: &'a Service,
}

impl Scene<'_> {
    /// Registers people, data, catalog and policy, each by a change that the admin signs.
    fn set_up(&self) -> anyhow::Result<()> {
        let admin = self.client("admin")?;
        for (name, kind, groups, owner, on_behalf_of) in PEOPLE {
            let key = PrivateKey::generate()?;
            key.save(&self.init.dir.join(format!("{name}.key")))?;
            std::fs::write(self.init.dir.join(format!("{name}.toml")), self.init.client_config(name))?;
            let mut record = identity_record(ORIGIN, name, kind, &key, now() + 30 * 86_400)?;
            record.groups = groups.iter().map(ToString::to_string).collect();
            record.owner = owner.map(String::from);
            record.on_behalf_of = on_behalf_of.map(String::from);
            admin.change(Operation::RegisterIdentity(record)).with_context(|| format!("registering {name}"))?;
        }
        let store = StoreDocument::Folder { path: self.dir.join("data") };
        admin.change(Operation::SetConnection(ConnectionDocument { name: "shop".into(), store }))?;
        let (catalog, policy) = (include_str!("catalog.toml"), include_str!("policy.cedar"));
        std::fs::write(self.dir.join("catalog.toml"), catalog)?;
        std::fs::write(self.dir.join("policy.cedar"), policy)?;
        admin.change(Operation::SetCatalog { text: catalog.into() }).context("the catalog")?;
        admin.change(Operation::SetPolicy { text: policy.into() }).context("the policy")?;
        Ok(())
    }

    fn client(&self, name: &str) -> anyhow::Result<Client> {
        if name == "admin" {
            // `init` wrote it before the port was known.
            std::fs::write(self.init.dir.join("admin.toml"), self.init.client_config("admin"))?;
        }
        Client::new(ClientConfig::load(&self.init.dir.join(format!("{name}.toml")))?)
    }

    /// Stays up until it is interrupted, and says how to reach the broker.
    fn stay(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
        let (kafka, http) = (&self.init.kafka, self.service.http);
        let client = self.init.dir.join("weekly-report.toml");
        println!("\nThe service stays up. In another terminal:");
        println!("  kcat -b {kafka} -L");
        println!("  kcat -b {kafka} -C -t chunk.status.weekly-report -o beginning -e");
        println!("  kcat -b {kafka} -C -t chunk.masked.weekly-report -o beginning -e -f '%h\\n%s\\n'");
        println!("  kcat -b {kafka} -C -t chunk.rejected -o beginning -e");
        println!("  curl http://{http}/checkpoint");
        println!("  countersign request shop.customers --client {} \\", client.display());
        println!("      --columns id,country,email --purpose reporting --limit 5 --format jsonl");
        println!("Ctrl-C ends it.");
        runtime.block_on(tokio::signal::ctrl_c()).context("waiting for Ctrl-C")
    }
}

/// Replaces an earlier demo's folder, and touches no other.
fn clear_folder(dir: &Path) -> anyhow::Result<()> {
    const MARK: &str = "made-by-countersign-demo";
    if dir.exists() {
        let empty = std::fs::read_dir(dir).with_context(|| format!("`{}`", dir.display()))?.next().is_none();
        if !empty && !dir.join(MARK).exists() {
            bail!("`{}` was not made by a demo: choose another folder with `--dir`", dir.display());
        }
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot clear `{}`", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    std::fs::write(dir.join(MARK), "This folder is replaced by the next `countersign demo`.\n")?;
    Ok(())
}

fn log_to(path: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("info"))
        .with_writer(std::sync::Mutex::new(file))
        .with_ansi(false)
        .finish();
    tracing::subscriber::set_global_default(subscriber).context("the log")
}

/// A wish for the demo's table.
fn wish(columns: &[&str], purpose: &str) -> Wish {
    Wish {
        dataset: "shop.customers".into(),
        columns: columns.iter().map(ToString::to_string).collect(),
        format: "jsonl".into(),
        purpose: purpose.into(),
        ..Wish::default()
    }
}
