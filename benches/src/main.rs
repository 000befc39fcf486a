//! How fast a chunk goes from PostgreSQL, masked, as Arrow into Kafka, beside `COPY … TO STDOUT (FORMAT binary)` of the same rows into
//! nothing, which is the most that PostgreSQL gives; and where the time goes. One run on one machine:
//!
//! ```text
//! cargo run --manifest-path benches/Cargo.toml -- [ROWS, 2000000 unless stated] [ROUNDS, 7 unless stated]
//! ```

mod cpu;
#[path = "../../ingest/tests/support/mod.rs"]
mod support;

use anyhow::{Context, Result, ensure};
use countersign::broker::Reader;
use countersign::client::{Client, Wish, identity_record};
use countersign::config::{ClientConfig, Config, CredentialRef};
use countersign::identity::PrivateKey;
use countersign::identity::change::{ConnectionDocument, Operation, StoreDocument};
use countersign::pipeline::chunk::{Permitted, Stop};
use countersign::pipeline::now;
use countersign::pipeline::status::Word;
use countersign::pipeline::worker::{Worker, connect, runtime};
use countersign::service::Service;
use countersign_ledger::evidence::step::Kind;
use countersign_masker::KeyRange;
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Folder, Kafka, Postgres};

const ORIGIN: &str = "bench.countersign.example/ledger";
const CHUNK: i64 = 50_000;
/// The size of chunks while Kafka gets warm.
const WARMING: i64 = 1_000;
const COLUMNS: [&str; 11] =
    ["id", "name", "email", "iban", "city", "street", "note", "amount", "ratio", "born", "seen"];

const CATALOG: &str = r#"
purposes = ["bench"]
[classes]
public = { mask = "redact" }
"pii.name" = { mask = "keep_first(1)" }
"pii.email" = { mask = "email" }
"fin.iban" = { mask = "token(customers)" }
[tables."pg.public.people"]
key = "id"
max_rows = 1000000
max_bytes = 1000000000
[tables."pg.public.people".columns]
id = "public"
name = "pii.name"
email = "pii.email"
iban = "fin.iban"
city = "public"
street = "public"
note = "public"
amount = "public"
ratio = "public"
born = "public"
seen = "public"
"#;

const POLICY: &str = r#"
permit (principal, action == Action::"read", resource);
permit (principal, action == Action::"read_clear", resource) when { resource.class == "public" };
"#;

fn main() -> Result<()> {
    let rows: i64 = std::env::args().nth(1).map_or(Ok(2_000_000), |n| n.parse()).context("ROWS is a number")?;
    let rounds: usize = std::env::args().nth(2).map_or(Ok(7), |n| n.parse()).context("ROUNDS is a number")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut kafka, mut postgres) = (Kafka::start_for_load()?, Postgres::start()?);
    let servers = [("PostgreSQL", postgres.process().id()), ("Kafka", kafka.process().id())];
    postgres.psql(&format!(
        "create table people as select n::bigint as id, 'Somebody Number ' || n as name, 'somebody.' || n || '@example.com' as email, \
         'XX' || lpad(n::text, 20, '0') as iban, 'City ' || n % 1000 as city, 'Some Street ' || n % 10000 || ', third floor' as street, \
         {} as note, (n * 7 % 100000)::int as amount, n * 0.5::float8 as ratio, date '1950-01-01' + (n % 20000)::int \
         as born, timestamptz '2026-01-01' + n * interval '1 second' as seen from generate_series(0, {} - 1) n, (select string_to_array('{WORDS}', ' ') as word) w; \
         alter table people add primary key (id); vacuum analyze people;",
        note(),
        rows
    ))?;
    let folder = Folder::new("bench")?;
    let service = start(&runtime, &kafka, &postgres, &folder)?;
    println!("rows                         {rows} of {} columns, 3 masked, chunks of {CHUNK}", COLUMNS.len());

    // A Kafka that was started just now spends half of its time compiling itself, and does so by how often it was called: small
    // chunks call it as often as an hour of large ones.
    for chunk in [WARMING, WARMING, CHUNK] {
        whole(&kafka, &folder, &service, rows, chunk)?;
        until_idle(kafka.process().id())?;
    }

    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let before = Used::now(&servers)?;
        let (raw, bytes) = runtime.block_on(copy_raw(&postgres))?;
        let used_raw = Used::now(&servers)?.since(&before);
        let raw_rate = rows as f64 / raw.as_secs_f64();
        println!("\nround {round}");
        println!(
            "COPY into nothing            {raw_rate:>10.0} rows/s {:>7.0} MB/s",
            bytes as f64 / raw.as_secs_f64() / 1e6
        );
        println!("  processor, s/M rows         {}", used_raw.per_million(rows));
        let before = Used::now(&servers)?;
        let (took, delivered) = whole(&kafka, &folder, &service, rows, CHUNK)?;
        let rate = rows as f64 / took.as_secs_f64();
        println!(
            "masked, in Kafka             {rate:>10.0} rows/s {:>7.0} MB/s of Arrow, {:.2} of COPY",
            delivered as f64 / took.as_secs_f64() / 1e6,
            rate / raw_rate
        );
        ratios.push(rate / raw_rate);
        println!("  processor, s/M rows         {}", Used::now(&servers)?.since(&before).per_million(rows));
        println!("peak memory of this process  {:>10} MB", peak_memory_mb()?);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    if let (Some(median), Some(least), Some(most)) = (ratios.get(rounds / 2), ratios.first(), ratios.last()) {
        println!("\nof COPY, {rounds} rounds         median {median:.2}, {least:.2} to {most:.2}");
    }
    stages(&folder, &service)?;
    runtime.block_on(service.stop());
    Ok(())
}

/// Waits until a process has nothing more to do, or for a minute.
fn until_idle(pid: u32) -> Result<()> {
    for _ in 0..60 {
        let before = cpu::of_process(pid)?;
        std::thread::sleep(Duration::from_secs(1));
        if cpu::of_process(pid)? - before < 0.1 {
            break;
        }
    }
    Ok(())
}

/// What notes are written with, so that they compress as prose does.
const WORDS: &str = "the order was placed on monday and customer asked for delivery to another address because nobody home \
                     during week please call before driver leaves depot parcel is fragile keep dry refund pending since last \
                     invoice check with billing team about discount code summer loyal account manager will answer soon thanks";

/// An expression for some 110 characters of words.
fn note() -> String {
    let primes = [7, 13, 29, 31, 43, 61, 71, 89, 97, 103, 127, 139, 151, 163, 173, 181, 193, 211];
    let word = |prime: &i32| format!("word[1 + (n * {prime} + n / {prime}) % cardinality(word)]");
    primes.iter().map(word).collect::<Vec<_>>().join(" || ' ' || ")
}

/// Processor seconds by process, and by kind of thread of this one.
struct Used(Vec<(String, f64)>);

impl Used {
    fn now(servers: &[(&str, u32)]) -> Result<Self> {
        let mut used = Vec::new();
        for (name, pid) in servers {
            used.push(((*name).to_owned(), cpu::of_process(*pid)?));
        }
        used.extend(cpu::of_threads()?);
        Ok(Self(used))
    }

    fn since(self, before: &Self) -> Self {
        let earlier = |name: &str| before.0.iter().find(|(n, _)| n == name).map_or(0.0, |(_, s)| *s);
        Self(
            self.0
                .into_iter()
                .map(|(name, s)| {
                    let s = s - earlier(&name);
                    (name, s)
                })
                .collect(),
        )
    }

    fn per_million(&self, rows: i64) -> String {
        let each = |(name, s): &(String, f64)| (s / rows as f64 * 1e6, name.clone());
        let parts: Vec<_> =
            self.0.iter().map(each).filter(|(s, _)| *s >= 0.01).map(|(s, n)| format!("{n} {s:.2}")).collect();
        let sum: f64 = self.0.iter().map(|(_, s)| s).sum::<f64>() / rows as f64 * 1e6;
        format!("{} = {sum:.2}", parts.join(" + "))
    }
}

fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().context("no folder")?.join(name);
    ensure!(path.exists(), "build `{name}` first: cargo build");
    Ok(path)
}

fn start(runtime: &tokio::runtime::Runtime, kafka: &Kafka, postgres: &Postgres, folder: &Folder) -> Result<Service> {
    let dir = folder.path().join("service");
    let made = Command::new(binary("countersign")?)
        .args([
            "init",
            "--origin",
            ORIGIN,
            "--kafka",
            &kafka.bootstrap(),
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
        ])
        .arg(&dir)
        .status()?;
    ensure!(made.success(), "init failed");
    std::fs::write(dir.join("pg-url"), postgres.url())?;
    if let Ok(compression) = std::env::var("COMPRESSION") {
        let path = dir.join("countersign.toml");
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("{text}\n[kafka.properties]\n\"compression.type\" = \"{compression}\"\n"))?;
    }
    let service = runtime.block_on(Service::start(Config::load(&dir.join("countersign.toml"))?, false))?;
    let admin = client(&dir, "admin", kafka, &service)?;
    let key = PrivateKey::generate()?;
    key.save(&dir.join("reader.key"))?;
    let record = identity_record(ORIGIN, "reader", Kind::Service, &key, now() + 86_400)?;
    admin.change(Operation::RegisterIdentity(record))?;
    let store = StoreDocument::Postgres { url: CredentialRef::File(dir.join("pg-url")) };
    admin.change(Operation::SetConnection(ConnectionDocument { name: "pg".into(), store }))?;
    admin.change(Operation::SetCatalog { text: CATALOG.into() })?;
    admin.change(Operation::SetPolicy { text: POLICY.into() })?;
    client(&dir, "reader", kafka, &service)?;
    Ok(service)
}

fn client(dir: &Path, name: &str, kafka: &Kafka, service: &Service) -> Result<Client> {
    let text = format!(
        "origin = {ORIGIN:?}\nidentity = {name:?}\nkey = \"{name}.key\"\nhttp = \"http://{}\"\n[kafka]\nbootstrap = {:?}\n",
        service.http,
        kafka.bootstrap()
    );
    let path = dir.join(format!("{name}.toml"));
    std::fs::write(&path, text)?;
    Client::new(ClientConfig::load(&path)?)
}

async fn copy_raw(postgres: &Postgres) -> Result<(Duration, u64)> {
    let client = postgres.connect().await?;
    let from = Instant::now();
    let query = format!("copy (select {} from people order by id) to stdout (format binary)", COLUMNS.join(","));
    let mut stream = std::pin::pin!(client.copy_out(query.as_str()).await?);
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        bytes += chunk?.len() as u64;
    }
    Ok((from.elapsed(), bytes))
}

fn wish(from: i64, chunk: i64) -> Wish {
    Wish {
        dataset: "pg.public.people".into(),
        columns: COLUMNS.map(String::from).to_vec(),
        range: Some(KeyRange { column: "id".into(), from: Some(from.into()), to: Some((from + chunk).into()) }),
        format: "arrow".into(),
        purpose: "bench".into(),
        ..Wish::default()
    }
}

/// All chunks of the table, from the first request to the last delivery.
fn whole(kafka: &Kafka, folder: &Folder, service: &Service, rows: i64, chunk: i64) -> Result<(Duration, u64)> {
    let reader = client(&folder.path().join("service"), "reader", kafka, service)?;
    let mut inbox = countersign::client::Inbox::open(
        reader.config.kafka.as_ref().context("no Kafka")?,
        &["chunk.status.reader".to_string()],
    )?;
    let before = service.core.ledger.size().get();
    let mut open = BTreeSet::new();
    let tokens: Vec<_> =
        (0..rows).step_by(usize::try_from(chunk)?).map(|at| reader.claims(&wish(at, chunk))).collect::<Result<_>>()?;
    let from = Instant::now();
    for claims in tokens {
        let (trace, token) = reader.sign_request(&claims)?;
        open.insert(trace);
        reader.publish("chunk.requests", token.as_bytes(), &[])?;
    }
    while !open.is_empty() {
        let status = inbox.next_status(Duration::from_secs(120))?.context("nothing more comes")?;
        ensure!(matches!(status.status, Word::Accepted | Word::Delivered), "{status:?}");
        if status.status == Word::Delivered {
            open.remove(&status.request.context("no request")?);
        }
    }
    let took = from.elapsed();
    let mut bytes = 0;
    for index in before..service.core.ledger.size().get() {
        if let Some(countersign_ledger::evidence::Step::DeliveryIntended(s)) =
            service.core.ledger.entry(index)?.map(|e| e.body)
        {
            bytes += s.bytes.get();
        }
    }
    Ok((took, bytes))
}

/// One chunk by hand, stage by stage, on one thread.
fn stages(folder: &Folder, service: &Service) -> Result<()> {
    let core = &service.core;
    let dir = folder.path().join("service");
    let reader = Client::new(ClientConfig::load(&dir.join("reader.toml"))?)?;
    let door = connect(core, "bench-door")?;
    let transactor = connect(core, "bench-worker")?;
    let on = runtime()?;
    let status = Reader::connect(&core.config.kafka, "chunk.status.reader")?;
    println!("\nwhere the time goes, one chunk of {CHUNK} rows on one thread (ms)");
    println!(
        "{:>10} {:>12} {:>15} {:>10} {:>10} {:>8}",
        "decide", "query+decode", "mask+encode", "record", "deliver", "sum"
    );
    for round in 0..5_i64 {
        let (trace, token) = reader.sign_request(&reader.claims(&wish(round * CHUNK, CHUNK))?)?;
        let record = countersign::broker::Incoming {
            topic: "chunk.requests".into(),
            partition: 0,
            offset: 1_000_000 + round,
            key: None,
            value: token.into_bytes(),
            headers: Vec::new(),
        };
        let stop = |e: Stop| anyhow::anyhow!("{e:?}");
        let mut times = Vec::new();
        let mut last = Instant::now();
        let mut lap = |times: &mut Vec<Duration>| {
            times.push(last.elapsed());
            last = Instant::now();
        };
        countersign::door::take(core, &door, &[record])?;
        let work = Permitted::load(core, trace)?.context("not permitted")?;
        lap(&mut times);
        let fetched = work.fetch(core, &on).map_err(stop)?;
        lap(&mut times);
        let masked = fetched.mask(core).map_err(stop)?;
        lap(&mut times);
        let recorded = masked.record(core, &transactor, &status).map_err(stop)?;
        lap(&mut times);
        recorded.deliver(&transactor, None)?;
        lap(&mut times);
        let ms: Vec<f64> = times.iter().map(|t| t.as_secs_f64() * 1e3).collect();
        let sum: f64 = ms.iter().sum();
        println!("{:>10.0} {:>12.0} {:>15.0} {:>10.0} {:>10.0} {:>8.0}", ms[0], ms[1], ms[2], ms[3], ms[4], sum);
        // Resolved as after a crash, so that the ledger has no open end.
        Worker::connect(core, "bench-after")?.work(trace, None)?;
    }
    Ok(())
}

fn peak_memory_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmHWM")).context("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? / 1024)
}
