//! What arrives, and what cannot: parts, receipts, formats, limits, sources that are broken, destinations that belong to others.

use crate::support::{self, Folder, Kafka};
use crate::world::{World, binary, expect, people, pg_people};
use countersign::client::Wish;
use countersign::pipeline::status::Word;
use countersign_ledger::evidence::step::Reason;
use countersign_ledger::evidence::{Receipt, Step};
use polars_io::SerReader;
use std::process::Command;
use std::time::Duration;

fn arrow(part: &[u8]) -> polars::prelude::DataFrame {
    polars_io::ipc::IpcStreamReader::new(std::io::Cursor::new(part)).finish().unwrap()
}

#[test]
fn a_chunk_arrives_in_parts_and_the_verify_tool_knows_each() {
    let world = World::shared();
    let (dataset, format) = ("pg.public.slow".into(), "arrow".into());
    let wish = Wish { limit: Some(20_000), dataset, format, ..people(&["id", "name"]) };
    let (trace, answer) = world.ask("reports", &wish).unwrap();
    expect(&answer, Word::Delivered, None);
    assert!(answer.parts.len() > 3, "{} parts", answer.parts.len());
    assert!(answer.parts.iter().all(|p| p.len() <= 900_000));
    assert_eq!(answer.parts.iter().map(|p| arrow(p).height()).sum::<usize>(), 20_000);
    let receipt = Receipt::decode(&answer.receipt).unwrap();
    assert!(matches!(&receipt.entry.body, Step::DeliveryIntended(s) if s.parts.get() == answer.parts.len() as u64));

    let dir = Folder::new("chunk").unwrap();
    let mut files = Vec::new();
    for (i, part) in answer.parts.iter().enumerate() {
        files.push(dir.path().join(format!("part-{i:04}.arrows")));
        std::fs::write(&files[i], part).unwrap();
    }
    let kept = dir.path().join("receipt");
    std::fs::write(&kept, &answer.receipt).unwrap();
    let verify = |files: &[std::path::PathBuf]| {
        let mut command = Command::new(binary("countersign-verify").unwrap());
        command.arg("chunk").args(files).arg("--receipt").arg(&kept);
        command.arg("--key").arg(world.dir().join("ledger.vkey")).output().unwrap().status.code()
    };
    assert_eq!(verify(&files), Some(0));
    let mut swapped = files.clone();
    swapped.swap(0, 1);
    assert_eq!(verify(&swapped), Some(1), "parts in another order");
    assert_eq!(verify(&files[1..]), Some(1), "a part is missing");
    let mut bytes = std::fs::read(&files[2]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files[2], bytes).unwrap();
    assert_eq!(verify(&files), Some(1), "a bit is flipped");
    assert_eq!(world.story(trace).unwrap().len(), 8);
}

#[test]
fn every_type_arrives_and_an_evil_name_is_a_name() {
    let world = World::shared();
    let wish = Wish { limit: Some(3), ..pg_people(&["id", "\"; drop table", "born", "name", "email", "balance"]) };
    let (_, answer) = world.ask("reports", &wish).unwrap();
    expect(&answer, Word::Delivered, None);
    let text = String::from_utf8(answer.parts.concat()).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["id"], 0);
    assert_eq!(first["\"; drop table"], "evil0");
    assert_eq!(first["born"], "1940-01-01");
    assert!(first["balance"].is_null());
    assert!(first["name"].as_str().unwrap().starts_with('C') && !text.contains("anaryname"));
    assert!(!text.contains("canary.mail"));
    assert_eq!(world.postgres.psql("select count(*) from people").unwrap(), "600");
}

#[test]
fn an_empty_result_is_one_part_of_no_rows() {
    let world = World::shared();
    for format in ["arrow", "jsonl"] {
        let wish = Wish { filter: Some("id < 0".into()), format: format.into(), ..pg_people(&["id", "name"]) };
        let (_, answer) = world.ask("reports", &wish).unwrap();
        expect(&answer, Word::Delivered, None);
        assert_eq!((answer.parts.len(), answer.status.rows), (1, Some(0)));
        if format == "arrow" {
            assert_eq!(arrow(&answer.parts[0]).shape(), (0, 2));
        }
    }
}

#[test]
fn what_a_source_cannot_give_fails_with_a_reason() {
    let world = World::shared();
    let cut = {
        let mut frame = polars::df!("id" => (0..5000_i64).collect::<Vec<_>>()).unwrap();
        let mut bytes = Vec::new();
        polars_io::parquet::write::ParquetWriter::new(&mut bytes).finish(&mut frame).unwrap();
        bytes
    };
    let path = world.data().join("cut.parquet");
    let check = |dataset: &str, column: &str, words: &[Word], reasons: &[Reason]| {
        let wish = Wish { dataset: dataset.into(), ..people(&[column]) };
        let (trace, answer) = world.ask("reports", &wish).unwrap();
        assert!(words.contains(&answer.status.status), "{dataset}: {:?}", answer.status);
        assert!(reasons.contains(&answer.status.reason.unwrap()), "{dataset}: {:?}", answer.status);
        assert!(answer.parts.is_empty());
        assert!(!world.kinds(trace).unwrap().contains(&"delivery.intended"), "{dataset}");
    };
    check("files.ragged", "name", &[Word::Failed], &[Reason::MalformedSource]);
    check("files.wide", "name", &[Word::Failed], &[Reason::RowTooLarge]);
    std::fs::write(&path, &cut[..cut.len() / 2]).unwrap();
    // Without its footer a Parquet file has no columns, so this is found before policy is asked.
    check("files.cut", "id", &[Word::Denied, Word::Failed], &[Reason::SourceUnavailable, Reason::MalformedSource]);
    let (_, answer) = world.ask("reports", &people(&["id"])).unwrap();
    expect(&answer, Word::Delivered, None);
}

#[test]
fn too_many_rows_fail_instead_of_being_cut_off() {
    let world = World::shared();
    world.postgres.psql("create table hidden (id int, name text)").unwrap();
    let admin = world.client("admin").unwrap();
    let kind = countersign_ledger::evidence::step::Kind::Service;
    world.register(&admin, "hungry", kind, &["analysts"], None, None).unwrap();
    let wish = Wish { dataset: "pg.public.slow".into(), ..people(&["id"]) };
    let (_, answer) = world.ask("hungry", &wish).unwrap();
    expect(&answer, Word::Delivered, None);
    assert_eq!(answer.status.rows, Some(400_000));
}

#[test]
fn fsck_accepts_the_export() {
    let Some(fsck) = support::fsck().unwrap() else {
        return support::skip("fsck_accepts_the_export", "there is no Go on this machine");
    };
    let world = World::shared();
    let (_, answer) = world.ask("reports", &people(&["id"])).unwrap();
    expect(&answer, Word::Delivered, None);
    let dir = world.folder.path().join("for-fsck");
    world.prove_into(&dir).unwrap();
    let run = |dir: &std::path::Path| {
        let output = Command::new("timeout")
            .args(["120"])
            .arg(&fsck)
            .args(["--ui=false", "--N=16", &format!("--storage_url=file://{}/", dir.display())])
            .arg(format!("--public_key={}", world.dir().join("ledger.vkey").display()))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (said.contains("Successfully fsck'd log"), said)
    };
    let (good, said) = run(&dir);
    assert!(good, "{said}");
    // A judge that accepts everything is none.
    let bundle = std::fs::read_dir(dir.join("tile/entries/000.p")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    assert!(!run(&dir).0, "a flipped bit was accepted");
}

#[test]
fn another_identity_cannot_read_what_is_not_its_own() {
    let kafka = Kafka::start_with_acls(&[("ann", "ann-secret"), ("ben", "ben-secret")]).unwrap();
    for topic in ["chunk.masked.ann", "chunk.status.ann", "chunk.masked.ben"] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(kafka.create_topic(topic, 1)).unwrap();
    }
    // The lines of docs/operations.md.
    for who in ["ann", "ben"] {
        let topic = format!("chunk.masked.{who}");
        kafka
            .acl(&[
                "--add",
                "--allow-principal",
                &format!("User:{who}"),
                "--operation",
                "Read",
                "--operation",
                "Describe",
                "--topic",
                &topic,
                "--force",
            ])
            .unwrap();
    }
    let read = |who: &str, topic: &str| {
        use rdkafka::consumer::{BaseConsumer, Consumer};
        let mut config = kafka.client_as(who).unwrap();
        config.set("group.id", "countersign-client").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        match metadata.topics().first().and_then(|t| t.error()) {
            None => consumer.fetch_watermarks(topic, 0, Duration::from_secs(10)).map_err(|e| e.to_string()),
            Some(error) => Err(format!("{:?}", rdkafka::error::RDKafkaErrorCode::from(error))),
        }
    };
    assert!(read("ann", "chunk.masked.ann").is_ok());
    assert!(read("ben", "chunk.masked.ben").is_ok());
    let error = read("ben", "chunk.masked.ann").unwrap_err();
    assert_eq!(error, "TopicAuthorizationFailed");
}

#[test]
fn health_and_metrics_answer_and_entries_need_a_right() {
    let world = World::shared();
    let service = world.service();
    let get = |at: std::net::SocketAddr, path: &str| -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
    };
    let check = |path: &str, status: u16, expect: &str| {
        let (found, text) = get(service.http, path);
        assert_eq!(found, status, "{path}: {text}");
        assert!(text.contains(expect), "{path}: {text}");
    };
    check("/healthz", 200, "ok");
    check("/readyz", 200, "ready");
    check("/checkpoint", 200, crate::world::ORIGIN);
    let (_, text) = get(service.http, "/checkpoint");
    let (_, note) = text.split_once("\r\n\r\n").unwrap();
    // Kept by its size, for ever.
    check(&format!("/checkpoints/{}", note.lines().nth(1).unwrap()), 200, note);
    check("/checkpoints/999999999", 404, "");
    check("/checkpoints/-1", 400, "");
    check("/tile/entries/000.p/1", 401, "bearer");
    check("/tile/0/x001/000", 404, "");
    check("/tile/0/../../etc/passwd", 400, "");
    check("/tile/99/000", 400, "");
    check("/v1/approvals", 401, "bearer");
    check("/v1/heads", 401, "bearer");
    check("/metrics", 404, "");
    let (status, text) = get(service.metrics, "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("countersign_ledger_size"), "{text}");
}

#[test]
fn no_credential_and_no_value_stands_in_any_entry() {
    let world = World::shared();
    let wish = Wish { filter: Some("country = 'DE' and id > 12345678".into()), ..pg_people(&["id"]) };
    let (_, answer) = world.ask("reports", &wish).unwrap();
    expect(&answer, Word::Delivered, None);
    let url = world.postgres.url();
    let password = url.split(':').nth(2).and_then(|p| p.split('@').next()).unwrap_or_default().to_string();
    for entry in world.entries_since(0).unwrap() {
        let line = String::from_utf8(entry.encode().unwrap()).unwrap();
        for secret in ["12345678", "Canaryname", "canary.mail", "reports\"", "dana", "mallory", &url] {
            assert!(!line.contains(secret), "`{secret}` stands in {line}");
        }
        assert!(password.len() < 6 || !line.contains(&password), "the password stands in {line}");
    }
}
