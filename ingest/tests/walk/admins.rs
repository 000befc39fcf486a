//! A ledger that two admins rule together, by the command line alone: nothing that one of them wants takes effect before the
//! other has signed it.

use crate::support::Folder;
use crate::world::binary;
use countersign::config::Config;
use countersign::service::Service;
use rdkafka::mocking::MockCluster;
use std::path::Path;
use std::process::{Command, Output};

const ORIGIN: &str = "two.countersign.example/ledger";

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(binary("countersign").unwrap()).current_dir(dir).args(arguments).output().unwrap()
}

/// The output of a command that must succeed.
fn done(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says that must fail.
fn refused(dir: &Path, arguments: &[&str], why: &str) {
    let output = run(dir, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{arguments:?}, required `{why}`: {said}");
}

#[test]
fn two_admins_rule_together() {
    let folder = Folder::new("admins").unwrap();
    let dir = folder.path();
    let cluster = MockCluster::new(1).unwrap();
    for topic in ["chunk.requests", "chunk.approvals", "chunk.work", "chunk.rejected"] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    // Bob's key never comes near the service: he hands in an offer.
    done(dir, &["identity", "new-key", "--origin", ORIGIN, "--out", "bob.key", "bob"]);
    let kafka = cluster.bootstrap_servers();
    let init = |more: &[&str]| {
        let fixed =
            ["init", "--origin", ORIGIN, "--kafka", &kafka, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        [&fixed, more, &["service"]].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    for (more, why) in [
        (vec!["--quorum", "2"], "found 1 first admins, required 2"),
        (vec!["--quorum", "1", "--admin", "alice", "--admin", "bob"], "found 2 first admins, required 1"),
        (vec!["--admin", "bob", "--admin-offer", "bob.offer"], "has the name or the key of another"),
        (vec!["--admin-offer", "bob.offer", "--admin-offer", "bob.offer"], "has the name or the key of another"),
        (vec!["--admin", "../alice"], "identity `../alice`"),
    ] {
        let arguments = init(&more);
        refused(dir, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), why);
        assert!(!dir.join("service").exists(), "a refused init leaves nothing behind");
    }
    let arguments = init(&["--admin", "alice", "--admin-offer", "bob.offer"]);
    let said = done(dir, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("2 admins must sign") && said.contains("alice.key") && !said.contains("bob.key"), "{said}");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config::load(&dir.join("service/countersign.toml")).unwrap();
    let service = runtime.block_on(Service::start(config, true)).unwrap();
    for (name, key) in [("alice", "service/alice.key"), ("bob", "bob.key")] {
        let text =
            format!("origin = {ORIGIN:?}\nidentity = {name:?}\nkey = {key:?}\nhttp = \"http://{}\"\n", service.http);
        std::fs::write(dir.join(format!("{name}.toml")), text).unwrap();
    }
    let size = || service.core.ledger.size().get();
    assert_eq!(size(), 3, "the log and its two admins");

    std::fs::write(dir.join("policy.cedar"), "permit (principal, action == Action::\"read\", resource);").unwrap();
    refused(dir, &["policy", "set", "--client", "alice.toml", "policy.cedar"], "signed by 1 admins, required 2");
    done(dir, &["policy", "set", "--client", "alice.toml", "--propose", "change.json", "policy.cedar"]);
    refused(dir, &["admin", "submit", "--client", "bob.toml", "change.json"], "signed by 1 admins, required 2");
    done(dir, &["admin", "sign", "--client", "alice.toml", "change.json"]);
    refused(dir, &["admin", "submit", "--client", "bob.toml", "change.json"], "signed by 1 admins, required 2");
    assert_eq!(size(), 3, "one admin, however often he signs, changes nothing");
    assert!(done(dir, &["admin", "show", "change.json"]).contains("set_policy"));
    done(dir, &["admin", "sign", "--client", "bob.toml", "change.json"]);
    assert_eq!(done(dir, &["admin", "submit", "--client", "bob.toml", "change.json"]), "in force from entry 3 on\n");

    // Neither can be rid of the other, since then nobody could sign anything any more.
    let revoke =
        ["identity", "revoke", "bob", "--reason", "left", "--client", "alice.toml", "--propose", "revoke.json"];
    done(dir, &revoke);
    done(dir, &["admin", "sign", "--client", "bob.toml", "revoke.json"]);
    refused(dir, &["admin", "submit", "--client", "alice.toml", "revoke.json"], "2 admins are left");

    service.core.ledger.wait_published().unwrap();
    service.core.ledger.export(&dir.join("evidence"), &[countersign_ledger::evidence::Class::Admin]).unwrap();
    let verify = Command::new(binary("countersign-verify").unwrap())
        .current_dir(dir)
        .args(["log", "evidence", "--key", "service/ledger.vkey"])
        .output()
        .unwrap();
    assert_eq!(verify.status.code(), Some(0), "{}", String::from_utf8_lossy(&verify.stdout));
    runtime.block_on(service.stop());
}
