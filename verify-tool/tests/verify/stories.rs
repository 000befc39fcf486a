//! Stories that break a rule, told by somebody who holds the ledger's key: trees, checkpoints, chains and counts are right in
//! each of these ledgers, and only what the entries say is wrong.

use crate::world::{Ask, END, Payload, START, World, id, int, kid, tweak};
use crate::{expect, log};
use countersign_ledger::evidence::step::{Alg, ClassHits, DeliveryCommitted, Kind, RequestDenied, Verdict};
use countersign_ledger::evidence::{Class, Entry, Reason, TraceId, TraceState};
use countersign_ledger::tlog::Hash;
use std::collections::HashMap;

const APPROVED: Ask = Ask { name: "approved", caller: "agent", groups: &["privacy", "stewards"] };
const PLAIN: Ask = Ask { name: "plain", caller: "reports", groups: &[] };
const WAITING: Ask = Ask { name: "waiting", caller: "reports", groups: &["privacy", "stewards"] };

fn check(what: &str, change: impl FnOnce(&mut World), code: &str) {
    check_with(what, change, |_, _| {}, 1, code);
}

fn check_with(
    what: &str,
    change: impl FnOnce(&mut World),
    last_word: impl Fn(&str, &mut Vec<u8>),
    exit: u8,
    code: &str,
) {
    let mut world = World::full();
    change(&mut world);
    let dir = tempfile::tempdir().unwrap();
    world.write_with(dir.path(), last_word);
    expect(what, &log(dir.path(), &[]), exit, code);
}

/// Replaces text in the bytes of one entry.
fn replace(label: &'static str, from: &'static str, to: &'static str) -> impl Fn(&str, &mut Vec<u8>) {
    move |found, bytes| {
        if found == label {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let changed = text.replacen(from, to, 1);
            assert_ne!(text, changed, "`{from}` is not in {text}");
            *bytes = changed.into_bytes();
        }
    }
}

#[test]
fn a_true_story_is_proven() {
    let dir = tempfile::tempdir().unwrap();
    let written = World::full().write(dir.path());
    assert!(written.entries.len() > 256, "only {} entries", written.entries.len());
    let answer = log(dir.path(), &[]);
    assert_eq!(answer.exit, 0, "{}", serde_json::to_string_pretty(&answer.report).unwrap());
    let report = &answer.report;
    assert_eq!(report["schema"], "countersign-verify/1");
    assert_eq!(report["verdict"], "proven");
    assert_eq!(report["log"]["size"], written.entries.len());
    assert_eq!(report["log"]["published"], written.entries.len().div_ceil(50));
    let traces = &report["story"]["traces"];
    let count = |what: &str| traces[what].as_u64().unwrap();
    assert_eq!(
        ["delivered", "denied", "rejected", "failed", "waiting", "open", "aborted_attempts"].map(count),
        [4, 52, 1, 2, 1, 1, 1]
    );
    let claims = &report["story"]["claims"];
    assert_eq!(claims["broken"], 0);
    // Every payload is there: all signatures are proven, and what only the service can know is attested.
    for (kind, proven, attested) in [
        ("entries", written.entries.len(), 0),
        ("caller-signatures", 62, 0),
        ("approval-signatures", 5, 0),
        ("admin-signatures", 13, 0),
        ("possession-proofs", 8, 0),
        ("obligations", 61, 0),
        ("decisions", 0, 63),
        ("statements", 0, 8),
        ("mask-accounts", 0, 6),
        ("deliveries", 0, 5),
        ("refusals", 0, 56),
    ] {
        assert_eq!(claims["kinds"][kind]["proven"], proven, "{kind}");
        assert_eq!(claims["kinds"][kind]["attested"], attested, "{kind}");
    }
}

#[test]
fn an_empty_story_is_proven() {
    let dir = tempfile::tempdir().unwrap();
    World::empty().write(dir.path());
    assert_eq!(log(dir.path(), &[]).exit, 0);
}

#[test]
fn order_within_a_trace() {
    check("no decision", |w| w.remove("plain/decided"), "story-order");
    check("no intent", |w| w.remove("plain/intended-1"), "story-order");
    check("no mask account", |w| w.remove("plain/masked-1"), "story-order");
    check("no query", |w| w.remove("plain/queried-1"), "story-order");
    check("no caller", |w| w.remove("plain/verified"), "story-order");
    check("no commit before completion", |w| w.remove("plain/committed-1"), "story-order");
    check(
        "delivered although refused",
        |w| w.before("denied/end", |w| w.query(Ask { name: "denied", ..PLAIN }, 1)),
        "story-order",
    );
    check("delivered twice", |w| w.before("plain/end", |w| w.commit(PLAIN, 1)), "story-order");
    check("after its end", |w| w.delivered(PLAIN, 2), "trace-closed");
    check("an identity after its revocation", |w| w.set_groups("root", "old", &[]), "trace-closed");
    check(
        "an intent resolved twice",
        |w| w.before("aborted/queried-2", |w| w.abort(Ask { name: "aborted", ..PLAIN }, 1)),
        "story-order",
    );
    check("an intent never resolved", |w| w.remove("aborted/aborted-1"), "story-order");
    check(
        "attempt 3 after 1",
        |w| tweak!(w, "aborted/queried-2", SourceQueried, |s| s.attempt = int(3)),
        "story-attempt",
    );
    check(
        "another attempt masked",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.attempt = int(2)),
        "story-attempt",
    );
    check("policy version left out", |w| tweak!(w, "policy-2", PolicyChanged, |s| s.version = int(3)), "story-subject");
    check(
        "delivered to another",
        |w| tweak!(w, "plain/intended-1", DeliveryIntended, |s| s.to = id("anna")),
        "story-subject",
    );
    check(
        "another table fetched",
        |w| tweak!(w, "plain/queried-1", SourceQueried, |s| s.table = "staff".into()),
        "story-subject",
    );
    check(
        "a trace of another name",
        |w| {
            let at = w.at("rejected-17");
            w.events[at].trace = PLAIN.trace();
            w.events[at].trace.0 = Hash::from_bytes([3; 32])
        },
        "trace-name",
    );
    check(
        "an agent without owner",
        |w| tweak!(w, "agent", IdentityRegistered, |s| s.owner = None),
        "decision-contradiction",
    );
}

#[test]
fn mask_accounts() {
    check(
        "a column more",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns.push(s.columns[0].clone())),
        "mask-account",
    );
    check(
        "a weaker rule",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns[1].rule = "clear".into()),
        "mask-account",
    );
    check(
        "nothing ran",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns[1].transform = "clear".into()),
        "mask-account",
    );
    check(
        "cells left out",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns[1].seen = int(2)),
        "mask-account",
    );
    let hits = || vec![ClassHits { class: "fin.card".into(), count: int(1) }];
    check(
        "hits of a mask that looks for none",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns[1].hits = hits()),
        "mask-account",
    );
    check(
        "hits of a path's mask that looks for none",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns[0].paths[0].hits = hits()),
        "mask-account",
    );
    check(
        "a path left out",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns[0].paths.clear()),
        "mask-account",
    );
    check(
        "a path under a weaker rule",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns[0].paths[0].rule = "clear".into()),
        "mask-account",
    );
    check(
        "more replaced than seen",
        |w| tweak!(w, "plain/masked-1", ChunkMasked, |s| s.columns[0].paths[0].changed = int(6)),
        "mask-account",
    );
}

#[test]
fn the_beginning_and_administration() {
    check(
        "the log of another origin",
        |w| tweak!(w, "log", LogCreated, |s| s.origin = "other.example".into()),
        "log-created",
    );
    check(
        "the log of another key",
        |w| tweak!(w, "log", LogCreated, |s| s.key = "other.example+00000000+AA==".into()),
        "log-created",
    );
    check("no beginning", |w| w.remove("log"), "log-created");
    check("an admin out of nowhere", |w| tweak!(w, "anna", IdentityRegistered, |s| s.signed = None), "admin-unsigned");
    check("a second unsigned admin", |w| w.before("reports", |w| w.admin("mallory")), "admin-unsigned");
    check(
        "the first identity is no admin",
        |w| tweak!(w, "root", IdentityRegistered, |s| s.admin = false),
        "admin-unsigned",
    );
    check("nobody signed", |w| tweak!(w, "policy-2", PolicyChanged, |s| s.signed.by.clear()), "admin-quorum");
    check(
        "signed by a caller",
        |w| {
            w.remove("policy-2");
            w.before("grant-boris", |w| w.policy("anna", 2))
        },
        "admin-signer",
    );
    check(
        "signed by a stranger",
        |w| tweak!(w, "policy-2", PolicyChanged, |s| s.signed.by[0].admin = id("nobody")),
        "admin-signer",
    );
    check(
        "signed with another key",
        |w| tweak!(w, "policy-2", PolicyChanged, |s| s.signed.by[0].kid = kid("anna")),
        "admin-signer",
    );
    check("signed by one admin, two required", |w| w.quorum = 2, "admin-quorum");
    check(
        "one admin twice, two required",
        |w| {
            w.quorum = 2;
            tweak!(w, "policy-2", PolicyChanged, |s| s.signed.by.push(s.signed.by[0].clone()))
        },
        "admin-quorum",
    );
    check(
        "signed by a revoked admin",
        |w| {
            w.before("policy-2", |w| {
                w.more_admin(&["root"], "second");
                w.revoke("root", "second");
            });
            w.remove("policy-2");
            w.before("grant-boris", |w| w.policy("second", 2));
        },
        "admin-signer",
    );
    check(
        "an admin's signature on another change",
        |w| {
            let signature = std::rc::Rc::new(std::cell::Cell::new(None));
            let seen = std::rc::Rc::clone(&signature);
            tweak!(w, "catalog-1", CatalogChanged, |s| seen.set(Some(s.signed.by[0].signature)));
            tweak!(w, "policy-2", PolicyChanged, |s| s.signed.by[0].signature = signature.get().unwrap());
        },
        "admin-signature",
    );
    check(
        "another text than the digest's",
        |w| tweak!(w, "policy-2", PolicyChanged, |s| s.digest = Hash::from_bytes([1; 32])),
        "document-digest",
    );
    check(
        "groups that nobody signed",
        |w| tweak!(w, "groups-carol", GroupsChanged, |s| s.groups.push("zzz".into())),
        "admin-change",
    );
    check(
        "an admin that nobody made one",
        |w| tweak!(w, "carol", IdentityRegistered, |s| s.admin = true),
        "admin-change",
    );
    check(
        "a revocation of somebody else",
        |w| {
            let at = w.at("revoke-old");
            w.events[at].trace = countersign_ledger::evidence::TraceId::identity(&id("carol"));
            tweak!(w, "revoke-old", IdentityRevoked, |s| s.identity = id("carol"))
        },
        "admin-change",
    );
    check(
        "a signature on another change",
        |w| {
            tweak!(w, "policy-2", PolicyChanged, |s| s.signed.change =
                Payload::new(Class::Config, "// second\npermit (principal, action, resource);").commitment())
        },
        "payload-class",
    );
    check(
        "a key with another thumbprint",
        |w| tweak!(w, "carol", IdentityRegistered, |s| s.kid = kid("anna")),
        "identity-key",
    );
    check("no key at all", |w| tweak!(w, "carol", IdentityRegistered, |s| s.key = "AAAA".into()), "identity-key");
    check(
        "one key for two",
        |w| {
            tweak!(w, "carol", IdentityRegistered, |s| {
                s.key = crate::world::public("boris").to_text();
                s.kid = kid("boris")
            })
        },
        "identity-key",
    );
    check(
        "an owner that nobody knows",
        |w| tweak!(w, "agent", IdentityRegistered, |s| s.owner = Some(id("nobody"))),
        "identity-unknown",
    );
    check(
        "possession of another key",
        |w| {
            tweak!(w, "carol", IdentityRegistered, |s| {
                s.key = crate::world::public("new").to_text();
                s.kid = kid("new")
            })
        },
        "possession",
    );
}

#[test]
fn reidentifications() {
    type Change = fn(&mut countersign_ledger::evidence::step::ReidentifyDecided);
    let cases: &[(&str, Change, &str)] = &[
        ("another column", |s| s.column = Some("phone".into()), "request-claims"),
        ("another purpose", |s| s.purpose = Some("fraud".into()), "request-claims"),
        ("other tokens", |s| s.tokens = Payload::new(Class::Reidentify, "[]").commitment(), "request-claims"),
        ("another reason", |s| s.reason = s.tokens, "request-claims"),
        ("one value more", |s| s.count = int(3), "request-answer"),
        (
            "another caller",
            |s| (s.identity, s.kid, s.registered) = (id("carol"), kid("carol"), int(7)),
            "request-signature",
        ),
        ("a caller that nobody registered", |s| s.identity = id("nobody"), "identity-unknown"),
        ("a policy of before", |s| s.policy = Hash::from_bytes([1; 32]), "policy-not-in-force"),
        ("a catalog of before", |s| s.catalog = Hash::from_bytes([1; 32]), "catalog-not-in-force"),
        ("a connection that nobody registered", |s| s.connection = Some("other".into()), "connection-unknown"),
        ("no column", |s| s.column = None, "decision-contradiction"),
        ("no values", |s| s.count = int(0), "decision-contradiction"),
        ("refused and answered", |s| s.refusal = Some(Reason::Forbidden), "decision-contradiction"),
        ("once approved", |s| s.verdict = Verdict::NeedsApproval, "decision-contradiction"),
    ];
    for (what, change, code) in cases {
        let change = *change;
        check(what, |w| tweak!(w, "reidentified", ReidentifyDecided, |s| change(s)), code);
    }
    check(
        "refused and yet said",
        |w| tweak!(w, "not-reidentified", ReidentifyDecided, |s| s.column = Some("email".into())),
        "decision-contradiction",
    );
    check(
        "by an identity that was revoked",
        |w| w.before("f00/received", |w| w.reidentified("late", "old", Verdict::Permit)),
        "identity-revoked",
    );
    type More = &'static [(&'static str, u64, &'static str)];
    let claims: &[(&str, More, &str)] = &[
        ("valid for too long", &[("exp", START + 301, "")], "request-time"),
        ("from the future", &[("iat", START + 900, ""), ("exp", START + 1000, "")], "request-time"),
        ("over before it was asked", &[("iat", START - 300, ""), ("exp", START - 90, "")], "request-time"),
        ("for another door", &[("aud", 0, "ledger.example/test/kafka")], "request-claims"),
        ("in another name", &[("sub", 0, "carol")], "request-claims"),
        ("for one it does not act for", &[("on_behalf_of", 0, "carol")], "request-claims"),
    ];
    for (what, more, code) in claims {
        let more = *more;
        check(
            what,
            |w| {
                w.remove("reidentified");
                w.before("f00/received", |w| w.reidentified_with("reidentified", "anna", Verdict::Permit, more));
            },
            code,
        );
    }
    check("decided later", |w| tweak!(w, "reidentified", ReidentifyDecided, |s| s.time = int(END)), "decision-time");
    check(
        "under another name",
        |w| {
            let at = w.at("reidentified");
            w.events[at].trace.0 = Hash::from_bytes([4; 32])
        },
        "request-claims",
    );
    check(
        "twice",
        |w| w.before("f00/received", |w| w.reidentified("reidentified", "anna", Verdict::Permit)),
        "trace-closed",
    );
}

#[test]
fn looks_into_tables() {
    check(
        "by no admin",
        |w| {
            w.remove("sampled");
            w.before("f00/received", |w| w.sampled("sampled", "reports"));
        },
        "identity-unknown",
    );
    check(
        "of no connection",
        |w| tweak!(w, "sampled", SourceSampled, |s| s.connection = "other".into()),
        "connection-unknown",
    );
    check("under another name", |w| tweak!(w, "sampled", SourceSampled, |s| s.sample = "0".repeat(32)), "trace-name");
    check("under no name", |w| tweak!(w, "sampled", SourceSampled, |s| s.sample = "zoe".into()), "entry-form");
}

#[test]
fn callers() {
    check(
        "an identity that nobody registered",
        |w| tweak!(w, "plain/verified", IdentityVerified, |s| s.identity = id("nobody")),
        "identity-unknown",
    );
    check(
        "another key",
        |w| tweak!(w, "plain/verified", IdentityVerified, |s| s.kid = kid("anna")),
        "identity-unknown",
    );
    check(
        "another registration",
        |w| tweak!(w, "plain/verified", IdentityVerified, |s| s.registered = int(1)),
        "identity-unknown",
    );
    check(
        "another algorithm",
        |w| tweak!(w, "plain/verified", IdentityVerified, |s| s.alg = Alg::Es256),
        "identity-unknown",
    );
    check(
        "a caller that did not sign",
        |w| {
            tweak!(w, "plain/verified", IdentityVerified, |s| {
                s.identity = id("carol");
                s.kid = kid("carol");
                s.registered = int(7)
            })
        },
        "request-signature",
    );
    check(
        "revoked before the request",
        |w| {
            let revoke = w.at("revoke-old");
            let event = w.events.remove(revoke);
            let at = w.at("by-old/received");
            w.events.insert(at, event)
        },
        "identity-revoked",
    );
    check(
        "revoked before delivery",
        |w| {
            let revoke = w.at("revoke-old");
            let event = w.events.remove(revoke);
            let at = w.at("by-old/intended-1");
            w.events.insert(at, event)
        },
        "identity-revoked",
    );
    check("expired", |w| w.wait("plain/received", END), "identity-expired");
    check("expired before delivery", |w| w.wait("plain/intended-1", END), "identity-expired");
    check(
        "another digest",
        |w| tweak!(w, "plain/received", RequestReceived, |s| s.digest = Hash::from_bytes([1; 32])),
        "request-claims",
    );
    check(
        "another door",
        |w| tweak!(w, "plain/received", RequestReceived, |s| s.door = "http".into()),
        "request-claims",
    );
    check(
        "under another name",
        |w| {
            for event in &mut w.events {
                if event.label.starts_with("plain/") {
                    event.trace.0 = Hash::from_bytes([4; 32])
                }
            }
        },
        "trace-name",
    );
    check(
        "another request's payload",
        |w| {
            tweak!(w, "plain/received", RequestReceived, |s| s.request =
                Payload::new(Class::Request, Ask { name: "denied", ..PLAIN }.token()).commitment())
        },
        "request-claims",
    );
}

#[test]
fn decisions() {
    check(
        "a policy of its own",
        |w| tweak!(w, "plain/decided", PolicyDecided, |s| s.policy = Hash::from_bytes([1; 32])),
        "policy-not-in-force",
    );
    check(
        "a catalog of its own",
        |w| tweak!(w, "plain/decided", PolicyDecided, |s| s.catalog = Hash::from_bytes([1; 32])),
        "catalog-not-in-force",
    );
    check(
        "yesterday's policy",
        |w| {
            w.wait("aborted/received", 90);
            tweak!(w, "aborted/decided", PolicyDecided, |s| s.policy =
                countersign_ledger::evidence::digest::sha256(b"permit (principal, action, resource);"))
        },
        "policy-not-in-force",
    );
    check(
        "permitted before there was a policy",
        |w| w.before("catalog-1", |w| w.permitted(Ask { name: "early", ..PLAIN })),
        "catalog-not-in-force",
    );
    check(
        "obligations of their own",
        |w| tweak!(w, "plain/decided", PolicyDecided, |s| s.obligations = Hash::from_bytes([1; 32])),
        "document-digest",
    );
    check(
        "another rule than obliged",
        |w| {
            tweak!(w, "plain/decided", PolicyDecided, |s| s.columns[1].rule = "clear".into());
            tweak!(w, "plain/masked-1", ChunkMasked, |s| {
                s.columns[1].rule = "clear".into();
                s.columns[1].transform = "clear".into();
                s.columns[1].changed = int(0)
            })
        },
        "document-digest",
    );
    check(
        "another purpose",
        |w| tweak!(w, "plain/decided", PolicyDecided, |s| s.purpose = Some("sale".into())),
        "request-answer",
    );
    check(
        "another table",
        |w| {
            tweak!(w, "plain/decided", PolicyDecided, |s| s.table = Some("staff".into()));
            tweak!(w, "plain/queried-1", SourceQueried, |s| s.table = "staff".into())
        },
        "request-answer",
    );
    check(
        "another format",
        |w| tweak!(w, "plain/intended-1", DeliveryIntended, |s| s.format = "jsonl".into()),
        "request-answer",
    );
    check(
        "a store that nobody registered",
        |w| {
            tweak!(w, "plain/decided", PolicyDecided, |s| s.connection = Some("attic".into()));
            tweak!(w, "plain/queried-1", SourceQueried, |s| s.connection = "attic".into())
        },
        "connection-unknown",
    );
    check(
        "groups on a plain permit",
        |w| tweak!(w, "plain/decided", PolicyDecided, |s| s.approval = vec!["stewards".into()]),
        "decision-contradiction",
    );
    check(
        "a status before the intent",
        |w| tweak!(w, "plain/committed-1", DeliveryCommitted, |s| s.status_offset = int(4)),
        "status-place",
    );
    check(
        "a status elsewhere",
        |w| tweak!(w, "plain/committed-1", DeliveryCommitted, |s| s.status_partition = int(4)),
        "status-place",
    );
}

#[test]
fn a_decision_may_meet_its_policy_changed() {
    // Decided under the old version, durable under the new one: a minute at most.
    let mut world = World::full();
    tweak!(world, "grant-boris", ApprovalGranted, |s| s.signed_at = int(START));
    let first = countersign_ledger::evidence::digest::sha256(b"permit (principal, action, resource);");
    world.before("grant-boris", |w| w.permitted(Ask { name: "meanwhile", ..PLAIN }));
    tweak!(world, "meanwhile/decided", PolicyDecided, |s| s.policy = first);
    let dir = tempfile::tempdir().unwrap();
    world.write(dir.path());
    assert_eq!(log(dir.path(), &[]).exit, 0);
}

#[test]
fn approvals() {
    let by = |w: &mut World, grant: &'static str, by: &'static str, groups: &'static [&'static str]| {
        let at = w.at(grant);
        w.events.remove(at);
        let next = w.events[at].label.clone();
        w.before(&next, |w| w.grant(grant, APPROVED, by, groups));
        w.events[at].trace = World::grant_trace(grant, grant.strip_prefix("grant-").unwrap());
    };
    check(
        "by the requester",
        |w| {
            tweak!(w, "agent", IdentityRegistered, |s| s.groups = vec!["stewards".into()]);
            by(w, "grant-anna", "agent", &["stewards"])
        },
        "approval-self",
    );
    check("by the owner", |w| by(w, "grant-anna", "olga", &["stewards"]), "approval-self");
    check(
        "by the one it acts for",
        |w| {
            tweak!(w, "agent", IdentityRegistered, |s| s.on_behalf_of = Some(id("olga")));
            by(w, "grant-anna", "olga", &["stewards"])
        },
        "approval-self",
    );
    check("by the wrong group", |w| by(w, "grant-anna", "carol", &["others"]), "approval-group");
    check("for a group it is not in", |w| by(w, "grant-anna", "carol", &["stewards"]), "approval-group");
    check("for no group", |w| tweak!(w, "grant-anna", ApprovalGranted, |s| s.groups.clear()), "approval-group");
    check(
        "by a stranger",
        |w| tweak!(w, "grant-anna", ApprovalGranted, |s| s.identity = id("nobody")),
        "identity-unknown",
    );
    check("by somebody revoked", |w| w.before("grant-anna", |w| w.revoke("root", "anna")), "identity-revoked");
    check(
        "for another digest",
        |w| tweak!(w, "grant-anna", ApprovalGranted, |s| s.digest = Hash::from_bytes([1; 32])),
        "approval-digest",
    );
    check(
        "for other obligations",
        |w| tweak!(w, "grant-anna", ApprovalGranted, |s| s.obligations = Hash::from_bytes([1; 32])),
        "approval-digest",
    );
    check(
        "signed by somebody else",
        |w| {
            tweak!(w, "grant-anna", ApprovalGranted, |s| {
                s.identity = id("boris");
                s.kid = kid("boris");
                s.registered = int(6);
                s.groups = vec!["privacy".into()]
            })
        },
        "approval-signature",
    );
    check(
        "a longer time than was signed",
        |w| tweak!(w, "grant-anna", ApprovalGranted, |s| s.not_after = int(START + 9999)),
        "approval-claims",
    );
    check(
        "another reason",
        |w| {
            tweak!(w, "grant-anna", ApprovalGranted, |s| s.reason =
                Payload::new(Class::Approval, "reason of grant-boris").commitment())
        },
        "approval-claims",
    );
    check(
        "for a request that does not wait",
        |w| w.before("rejected-17", |w| w.grant("grant-late", PLAIN, "anna", &["stewards"])),
        "approval-not-waiting",
    );
    check(
        "for a request that nobody made",
        |w| w.grant("grant-none", Ask { name: "never", ..WAITING }, "anna", &["stewards"]),
        "approval-not-waiting",
    );
    check(
        "after the time to answer",
        |w| {
            w.grant("grant-late", WAITING, "anna", &["stewards"]);
            w.wait("grant-late", 2 * 86_400)
        },
        "approval-time",
    );
    check(
        "a denial after the time to answer",
        |w| {
            w.deny("deny-late", WAITING, "anna", &["stewards"]);
            w.wait("deny-late", 2 * 86_400)
        },
        "approval-time",
    );
    check(
        "signed in the future",
        |w| tweak!(w, "grant-anna", ApprovalGranted, |s| s.signed_at = int(START + 3600)),
        "approval-time",
    );
    check("used after its time", |w| w.wait("approved/use-grant-anna", 7300), "approval-time");
    check(
        "used before its time",
        |w| tweak!(w, "grant-anna", ApprovalGranted, |s| s.not_before = int(START + 3600)),
        "approval-time",
    );
    check("delivered after its time", |w| w.wait("approved/intended-1", 7300), "approval-time");
    check(
        "taken back before use",
        |w| w.before("approved/use-grant-anna", |w| w.revoke_grant("grant-anna", APPROVED, "olga")),
        "approval-revoked",
    );
    check(
        "taken back before delivery",
        |w| w.before("approved/intended-1", |w| w.revoke_grant("grant-anna", APPROVED, "olga")),
        "approval-revoked",
    );
    check(
        "taken back by a stranger",
        |w| {
            w.remove("revoke-grant-olga");
            w.before("taken-back/end", |w| w.revoke_grant("grant-olga", Ask { name: "taken-back", ..WAITING }, "boris"))
        },
        "approval-revoker",
    );
    check("not used", |w| w.remove("approved/use-grant-anna"), "approval-missing");
    check(
        "a group that was asked is forgotten",
        |w| {
            w.remove("approved/use-grant-boris");
            tweak!(w, "approved/settled", PolicyDecided, |s| s.approval.clear());
        },
        "approval-missing",
    );
    check(
        "none used",
        |w| {
            w.remove("approved/use-grant-anna");
            w.remove("approved/use-grant-boris")
        },
        "story-order",
    );
    check(
        "one used twice",
        |w| {
            let again = w.events[w.at("approved/use-grant-anna")].clone();
            let at = w.at("approved/use-grant-boris");
            w.events[at] = again
        },
        "approval-missing",
    );
    check(
        "at another entry",
        |w| tweak!(w, "approved/use-grant-anna", ApprovalUsed, |s| s.index = int(3)),
        "approval-unknown",
    );
    check(
        "with another leaf",
        |w| tweak!(w, "approved/use-grant-anna", ApprovalUsed, |s| s.leaf = Hash::from_bytes([1; 32])),
        "approval-unknown",
    );
    check(
        "of another request",
        |w| {
            w.grant("grant-anna2", WAITING, "anna", &["stewards"]);
            let used = World::grant_trace("grant-anna2", "anna2");
            w.add("waiting/use", WAITING.trace(), move |c| {
                let found = c.earlier.iter().find(|(t, ..)| *t == World::grant_trace("grant-anna", "anna")).unwrap();
                let _ = used;
                countersign_ledger::evidence::step::ApprovalUsed {
                    approval: found.0,
                    index: int(found.1),
                    leaf: found.2,
                }
                .into()
            })
        },
        "approval-unknown",
    );
    check(
        "permitted with other obligations",
        |w| tweak!(w, "approved/settled", PolicyDecided, |s| s.obligations = Hash::from_bytes([1; 32])),
        "approval-missing",
    );
    check(
        "asked about other obligations",
        |w| tweak!(w, "approved/asked", ApprovalRequested, |s| s.obligations = Hash::from_bytes([1; 32])),
        "approval-missing",
    );
    check(
        "asked of fewer groups",
        |w| {
            tweak!(w, "approved/asked", ApprovalRequested, |s| {
                s.groups.remove(0);
            })
        },
        "approval-missing",
    );
    check(
        "permitted without asking",
        |w| {
            w.remove("approved/asked");
            w.decide("approved/again", APPROVED, Verdict::Permit)
        },
        "story-order",
    );
}

#[test]
fn forms() {
    let word = |label, from, to, exit, code: &str| check_with(to, |_| {}, replace(label, from, to), exit, code);
    word("plain/decided", "\"verdict\"", "\"extra\":1,\"verdict\"", 1, "entry-form");
    word("plain/decided", "\"seq\"", "\"extra\":1,\"seq\"", 1, "entry-form");
    word("plain/decided", "{\"v\":1,", "{ \"v\":1,", 1, "entry-form");
    word("plain/decided", "\"verdict\":\"permit\"", "\"verdict\":\"maybe\"", 1, "entry-form");
    word("plain/decided", "\"v\":1", "\"v\":2", 3, "entry-newer");
    word("plain/decided", "policy.decided", "policy.guessed", 3, "entry-newer");
    word("f49/end", "\"seq\":", "\"seq\":1", 1, "seq-gap");
    word("f49/end", "\"src\":\"5eed", "\"src\":\"5eee", 1, "seq-gap");
    word("f49/end", "\"at\":17", "\"at\":16", 1, "time-backwards");
    word("f49/end", "\"step\":3", "\"step\":4", 1, "chain-step");
    check_with(
        "another prev",
        |_| {},
        |label, bytes| {
            if label == "f49/end" {
                let text = String::from_utf8(bytes.clone()).unwrap();
                let at = text.find("\"prev\":\"").unwrap() + 8;
                bytes[at..at + 4].copy_from_slice(b"0000");
            }
        },
        1,
        "chain-prev",
    );
}

#[test]
fn a_newer_entry_hides_no_fault_before_it_and_makes_none_after_it() {
    let newer = || replace("rejected-17", "\"v\":1", "\"v\":2");
    check_with("a fault before", |w| w.remove("plain/decided"), newer(), 1, "story-order");
    check_with("a fault after", |w| w.remove("failed/decided"), newer(), 3, "story-order");
    check_with(
        "a bad payload after",
        |w| tweak!(w, "policy-2", PolicyChanged, |s| s.document = s.signed.change),
        newer(),
        1,
        "payload-class",
    );
}

#[test]
fn a_removed_first_entry_is_one_finding() {
    let mut world = World::full();
    world.remove("plain/received");
    let dir = tempfile::tempdir().unwrap();
    world.write(dir.path());
    let answer = log(dir.path(), &[]);
    expect("no request", &answer, 1, "story-order");
    assert_eq!(answer.codes(), ["story-order"]);
}

#[test]
fn without_payloads_signatures_are_attested() {
    let dir = tempfile::tempdir().unwrap();
    World::full().write(dir.path());
    std::fs::remove_dir_all(dir.path().join("payload")).unwrap();
    let answer = log(dir.path(), &[]);
    assert_eq!(answer.exit, 0);
    let kinds = &answer.report["story"]["claims"]["kinds"];
    assert_eq!(kinds["caller-signatures"]["proven"], 0);
    assert_eq!(kinds["caller-signatures"]["attested"], 62);
    assert_eq!(kinds["admin-signatures"]["proven"], 0);
    expect("callers", &log(dir.path(), &["--require", "caller-signatures"]), 3, "required-attested");
    let both = log(dir.path(), &["--require", "caller-signatures,approval-signatures"]);
    assert_eq!(both.codes(), ["required-attested", "required-attested"]);
    // A lie about what is not there stays a lie about what is.
    let mut world = World::full();
    world.remove("plain/decided");
    let dir = tempfile::tempdir().unwrap();
    world.write(dir.path());
    std::fs::remove_dir_all(dir.path().join("payload")).unwrap();
    expect("a broken rule", &log(dir.path(), &["--require", "caller-signatures"]), 1, "story-order");
}

#[test]
fn a_key_that_a_ledger_introduces_does_not_vouch_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    World::full().write(dir.path());
    let all = ["root", "reports", "agent", "olga", "anna", "boris", "carol", "old"];
    let pinned = |names: &[&str]| {
        let text: String = names.iter().map(|name| format!("{} {name}\n", kid(name))).collect();
        crate::world::put(&dir.path().with_extension("pins"), format!("# known keys\n{text}").as_bytes());
        let path = dir.path().with_extension("pins");
        let answer = log(
            dir.path(),
            &["--identities", path.to_str().unwrap(), "--require", "caller-signatures,approval-signatures"],
        );
        std::fs::remove_file(path).unwrap();
        answer
    };
    assert_eq!(pinned(&all).exit, 0);
    let answer = pinned(&all[..4]);
    expect("approvers are not pinned", &answer, 3, "required-attested");
    assert_eq!(answer.report["story"]["claims"]["kinds"]["approval-signatures"]["proven"], 1);
}

#[test]
fn open_is_not_broken() {
    // A log that ends anywhere is a log under way.
    let full = World::full();
    for end in (1..full.events.len()).step_by(7) {
        let mut world = full.clone();
        world.events.truncate(end);
        let dir = tempfile::tempdir().unwrap();
        world.write(dir.path());
        let answer = log(dir.path(), &[]);
        assert_eq!(answer.exit, 0, "{end}: {}", serde_json::to_string_pretty(&answer.report).unwrap());
    }
}

#[test]
fn two_admins_enter_where_two_are_required() {
    let mut world = World::empty();
    world.quorum = 2;
    world.admin("root");
    world.admin("second");
    world.more_admin(&["root", "second"], "third");
    let dir = tempfile::tempdir().unwrap();
    world.write(dir.path());
    assert_eq!(log(dir.path(), &[]).exit, 0);
    world.more_admin(&["root"], "fourth");
    let dir = tempfile::tempdir().unwrap();
    world.write(dir.path());
    expect("one signature", &log(dir.path(), &[]), 1, "admin-quorum");
}

#[test]
fn an_untold_end() {
    // Removing the last entries of a story is not visible in it, only in the source's count: here nothing was removed.
    let mut world = World::full();
    world.add("late", PLAIN.trace(), |_| RequestDenied { reason: Reason::Forbidden }.into());
    world.add("later", PLAIN.trace(), |_| {
        DeliveryCommitted { attempt: int(1), status_partition: int(0), status_offset: int(9) }.into()
    });
    world.register("root", "late", Kind::Service, &[], None);
    let dir = tempfile::tempdir().unwrap();
    world.write(dir.path());
    expect("after the end", &log(dir.path(), &[]), 1, "trace-closed");
}

/// The ledger's rules take a step whole or leave the trace as it was.
#[test]
fn a_refused_step_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<Entry> =
        World::full().write(dir.path()).entries.iter().map(|bytes| Entry::decode(bytes).unwrap()).collect();
    let mut traces: HashMap<TraceId, TraceState> = HashMap::new();
    let mut states = vec![TraceState::default()];
    for entry in &entries {
        let state = traces.entry(entry.trace).or_default();
        state.apply(entry.trace, &entry.body).unwrap();
        states.push(state.clone());
    }
    let mut refused = 0;
    for state in &states {
        for entry in &entries {
            let mut next = state.clone();
            if next.apply(entry.trace, &entry.body).is_err() {
                assert_eq!(next, *state, "{:?}", entry.body);
                refused += 1;
            }
        }
    }
    assert!(refused > 10_000, "{refused}");
}
