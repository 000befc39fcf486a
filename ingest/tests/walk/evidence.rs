//! What auditors are given, and what they can hold it against: evidence in one file, recorded before it is made, and the database's
//! own log beside the ledger.

use crate::support::{Kafka, Postgres};
use crate::world::{PATIENCE, World, binary, expect, pg_people};
use countersign::client::Wish;
use countersign::http::ask::ScanQuestion;
use countersign::pipeline::status::Word;
use countersign_ledger::evidence::{Step, TraceId};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ROLE: &str = "countersign_reader";

/// A world whose PostgreSQL logs every statement, and whose service has a role of its own there.
fn world() -> World {
    let logging = [
        ("logging_collector", "on"),
        ("log_destination", "stderr,csvlog,jsonlog"),
        ("log_directory", "log"),
        ("log_filename", "server.log"),
        ("log_statement", "all"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
    ];
    let postgres = Postgres::start_with(&logging).unwrap();
    let mut world = World::start_on(Kafka::start().unwrap(), postgres, "").unwrap();
    let role = format!("create role {ROLE} login password 'r'; grant select on all tables in schema public to {ROLE}");
    world.postgres.psql(&role).unwrap();
    std::fs::write(world.dir().join("pg-url"), world.postgres.url_of("postgres", ROLE, "r")).unwrap();
    // Who is connected already stays who he is.
    world.stop_service();
    world.start_service().unwrap();
    world
}

/// Runs `countersign` or `countersign-verify`; gives exit code and everything said.
fn tool(name: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary(name).unwrap()).args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until the log's file holds these words: the server writes it a little later.
fn wait_logged(log: &Path, words: &str) {
    let begun = Instant::now();
    while !std::fs::read_to_string(log).is_ok_and(|text| text.contains(words)) {
        assert!(begun.elapsed() < PATIENCE, "`{words}` never came into {}", log.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn evidence_in_one_file_and_the_databases_own_log() {
    let world = world();
    let (trace, answer) = world.ask("reports", &pg_people(&["id", "name", "country"])).unwrap();
    expect(&answer, Word::Delivered, None);
    let (other, answer) = world
        .ask(
            "reports",
            &Wish { filter: Some("country = 'DE' and id < 100".into()), ..pg_people(&["id", "email", "country"]) },
        )
        .unwrap();
    expect(&answer, Word::Delivered, None);
    [trace, other].iter().for_each(|trace| drop(world.story(*trace).unwrap()));
    // A look into a table is access like any other; looking for tables fetches nothing of them.
    let question = ScanQuestion { connection: "pg".into(), table: "public.people".into(), rows: 5 };
    let admin = world.client("admin").unwrap();
    let scanned = admin.scan(&question).unwrap();
    assert!(scanned.iter().any(|column| column.class.as_deref() == Some("pii.email")), "{scanned:?}");
    assert!(admin.rules().unwrap().tables.contains_key("pg.public.people"));
    one_file(&world, trace, other);
    reconcile(&world, other);
    copied(&world);
    world.prove().unwrap();
}

fn one_file(world: &World, trace: TraceId, other: TraceId) {
    let (config, dana) = (world.dir().join("countersign.toml"), world.dir().join("dana.toml"));
    drop((world.client("dana").unwrap(), world.client("outsider").unwrap()));
    let (key, request) = (world.dir().join("ledger.vkey"), trace.to_string());
    let export = |file: &Path, client: &Path, more: &[&str]| {
        let mut args = vec!["ledger", "export", text(file), "--config", text(&config), "--client", text(client)];
        args.extend(more);
        tool("countersign", &args)
    };
    let verify = |args: &[&str]| {
        let mut args = args.to_vec();
        args.extend(["--key", text(&key)]);
        tool("countersign-verify", &args)
    };
    // Whoever has no right to audit gets nothing, and nothing is recorded.
    let part = world.folder.path().join("part.tar");
    let size = world.service().core.ledger.size();
    let (code, said) = export(&part, &world.dir().join("outsider.toml"), &[]);
    assert!(code == Some(1) && said.contains("audit right") && !part.exists(), "{code:?}: {said}");
    assert_eq!(world.service().core.ledger.size(), size);

    let payloads = "request,approval,identity,admin,query";
    let (code, said) = export(&part, &dana, &["--request", &request, "--payloads", payloads]);
    assert!(code == Some(0) && said.contains("a part of the ledger"), "{code:?}: {said}");
    let entries = world.entries_since(size.get()).unwrap();
    let recorded = entries.iter().find_map(|entry| match &entry.body {
        Step::LedgerExported(s) => Some(s.clone()),
        _ => None,
    });
    let recorded = recorded.unwrap();
    assert_eq!(
        (recorded.request, recorded.payloads.join(",")),
        (Some(trace), "admin,approval,identity,query,request".into())
    );
    assert!(recorded.by.is_some());
    assert_eq!(verify(&["log", text(&part)]).0, Some(3), "a part is not the whole");
    let (code, said) = verify(&["log", text(&part), "--partial", "--require", "caller-signatures,admin-signatures"]);
    assert!(code == Some(0) && said.contains("nothing shows what was left out"), "{said}");
    let (code, said) = verify(&["explain", text(&part), &request, "--partial"]);
    assert!(code == Some(0) && said.contains("The request was answered"), "{said}");
    assert_eq!(verify(&["explain", text(&part), &other.to_string(), "--partial"]).0, Some(2), "it is not in there");
    // It is not written over, and its own record is in the whole.
    assert_eq!(export(&part, &dana, &[]).0, Some(1));
    let whole = world.folder.path().join("whole.tar");
    let (code, said) = export(&whole, &dana, &[]);
    assert!(code == Some(0) && said.contains("the whole ledger"), "{said}");
    let (code, said) = verify(&["log", text(&whole)]);
    assert!(code == Some(0) && said.contains("PROVEN"), "{said}");
    let by_identity = world.folder.path().join("reports.tar");
    let (code, said) = export(
        &by_identity,
        &dana,
        &["--identity", "reports", "--dataset", "pg.public.people", "--from", "2020-01-01"],
    );
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(verify(&["explain", text(&by_identity), &other.to_string(), "--partial"]).0, Some(0));
}

/// A copy over HTTP grows with the ledger, and holds what was signed or nothing.
fn copied(world: &World) {
    let (copy, key) = (world.folder.path().join("copy"), world.dir().join("ledger.vkey"));
    let fetch = |client: &str| {
        let config = std::fs::read_to_string(world.dir().join(format!("{client}.toml"))).unwrap();
        let with_key = world.dir().join(format!("{client}-fetches.toml"));
        std::fs::write(&with_key, format!("ledger_key = \"{}\"\n{config}", text(&key))).unwrap();
        tool("countersign", &["ledger", "fetch", text(&copy), "--client", text(&with_key)])
    };
    let (code, said) = fetch("outsider");
    assert!(code == Some(1) && said.contains("audit right") && !copy.join("checkpoint").exists(), "{code:?}: {said}");
    let (code, said) = fetch("dana");
    assert_eq!(code, Some(0), "{said}");
    let since = world.folder.path().join("since");
    std::fs::copy(copy.join("checkpoint"), &since).unwrap();

    let (_, answer) = world.ask("reports", &pg_people(&["id", "country"])).unwrap();
    expect(&answer, Word::Delivered, None);
    let size = world.service().core.ledger.wait_published().unwrap().checkpoint().size;
    let (code, said) = fetch("dana");
    assert!(code == Some(0) && said.starts_with(&format!("{size} entries in ")), "{code:?}: {said}");
    let (code, said) = tool("countersign-verify", &["log", text(&copy), "--key", text(&key), "--since", text(&since)]);
    assert!(code == Some(0) && said.contains("PROVEN"), "{said}");

    let tile = copy.join(format!("tile/0/{}", if size.get() < 256 { format!("000.p/{size}") } else { "000".into() }));
    let mut hashes = std::fs::read(&tile).unwrap();
    hashes[40] ^= 1;
    std::fs::write(&tile, hashes).unwrap();
    let (code, said) = fetch("dana");
    assert!(code == Some(1) && said.contains("do not come to the root"), "{code:?}: {said}");
}

fn reconcile(world: &World, other: TraceId) {
    let config = world.dir().join("countersign.toml");
    let folder = world.postgres.data().join("log");
    let logs: Vec<PathBuf> = ["server.log", "server.csv", "server.json"].map(|name| folder.join(name)).into();
    logs.iter().for_each(|log| wait_logged(log, &other.to_string()));
    let reconcile = |log: &Path| {
        let args = [
            "source",
            "reconcile",
            text(log),
            "--role",
            ROLE,
            "--connection",
            "pg",
            "--config",
            text(&config),
            "--json",
        ];
        let (code, said) = tool("countersign", &args);
        let found: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
        (code, found)
    };
    for log in &logs {
        let (code, found) = reconcile(log);
        assert_eq!((code, &found["same_text"], &found["same_trace"]), (Some(0), &3.into(), &0.into()), "{found:#}");
        assert!(found["without_rows"].as_u64().unwrap() >= 6, "{found:#}");
    }
    // Somebody uses the service's credential beside the ledger: with words of his own, and with the service's once more.
    let statement = world.story(other).unwrap().iter().find_map(|step| match step {
        Step::SourceQueried(s) => Some(s.statement),
        _ => None,
    });
    let payload = world.service().core.ledger.payload(&statement.unwrap()).unwrap().unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&payload.bytes).unwrap();
    let again = sent["sql"].as_str().unwrap().to_owned();
    world.runtime.block_on(async {
        let url = world.postgres.url_of("postgres", ROLE, "r");
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.simple_query("SELECT email FROM people LIMIT 1").await.unwrap();
        for n in 1..=2 {
            client.simple_query(&format!("SELECT set_config('countersign.p{n}', '1', false)")).await.unwrap();
        }
        let _ = client.simple_query(&again).await;
        client.simple_query("SELECT 'the last one'").await.unwrap();
    });
    for log in &logs {
        wait_logged(log, "the last one");
        let (code, found) = reconcile(log);
        let whys: Vec<&str> =
            found["unexplained"].as_array().unwrap().iter().map(|u| u["why"].as_str().unwrap()).collect();
        assert_eq!(code, Some(3), "{found:#}");
        assert_eq!(whys.iter().filter(|why| why.contains("none of ours")).count(), 4, "{found:#}");
        assert_eq!(whys.iter().filter(|why| why.contains("so often")).count(), 1, "{found:#}");
    }
    // The reverse: a log from which statements are missing.
    let empty = world.folder.path().join("empty.log");
    std::fs::write(&empty, "").unwrap();
    let (code, found) = reconcile(&empty);
    assert_eq!((code, found["unseen"].as_array().unwrap().len()), (Some(3), 3), "{found:#}");
    // What cannot be read is no agreement.
    std::fs::write(&empty, "something else\n").unwrap();
    let args = ["source", "reconcile", text(&empty), "--role", ROLE, "--connection", "pg", "--config", text(&config)];
    let (code, said) = tool("countersign", &args);
    assert!(code == Some(1) && said.contains("line 1"), "{code:?}: {said}");
}
