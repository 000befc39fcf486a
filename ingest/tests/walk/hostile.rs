//! Records that should not count: each leaves a reason code and an entry, nothing is delivered, and the service still answers.

use crate::world::{ORIGIN, World, expect, people, pg_people, rand_text, settle, wait_status};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::broker;
use countersign::client::{Client, Wish};
use countersign::identity::PrivateKey;
use countersign::identity::change::Operation;
use countersign::identity::claims::RequestClaims;
use countersign::pipeline::now;
use countersign::pipeline::status::Word;
use countersign_ledger::evidence::jws;
use countersign_ledger::evidence::step::{Kind, Reason, Revocation};
use countersign_ledger::evidence::{Step, TraceId};
use ed25519_dalek::Signer;
use serde_json::{Value, json};

/// A signer that lets a test put anything into header and claims.
struct Forger {
    seed: [u8; 32],
    kid: String,
}

impl Forger {
    fn of(world: &World, name: &str) -> Self {
        let text = std::fs::read_to_string(world.dir().join(format!("{name}.key"))).unwrap();
        let jwk: Value = serde_json::from_str(&text).unwrap();
        let seed = URL_SAFE_NO_PAD.decode(jwk["d"].as_str().unwrap()).unwrap().try_into().unwrap();
        Self { seed, kid: jwk["kid"].as_str().unwrap().into() }
    }

    fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": jws::TYP_REQUEST, "kid": self.kid})
    }

    fn token(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = ed25519_dalek::SigningKey::from_bytes(&self.seed);
        jws::compact(&input, &key.sign(input.as_bytes()).to_bytes())
    }
}

fn claims(client: &Client) -> Value {
    serde_json::to_value(client.claims(&people(&["id"])).unwrap()).unwrap()
}

fn with(mut value: Value, name: &str, to: Value) -> Value {
    value[name] = to;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

#[test]
fn what_is_no_request_is_rejected_with_a_reason_and_leaves_an_entry() {
    let world = World::shared();
    let client = world.client("reports").unwrap();
    let forger = Forger::of(world, "reports");
    let good_header = forger.header();
    let text = |v: Value| v.to_string();
    let hs256 = {
        // The classic confusion: an HMAC keyed with the public key, which everybody knows. No key of ours is ever symmetric.
        let header = text(with(good_header.clone(), "alg", "HS256".into()));
        forger.token(&header, &text(claims(&client)))
    };
    let twice = {
        let body = text(claims(&client));
        format!("{},\"iss\":\"reports\"}}", body.strip_suffix("}").unwrap())
    };
    let stranger = Forger { seed: [3; 32], kid: forger.kid.clone() };
    let cases: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("empty", b"".to_vec(), Reason::Malformed),
        ("not a token", b"hello".to_vec(), Reason::Malformed),
        ("not text", vec![0xff, 0xfe, 0x00], Reason::Malformed),
        ("2 MB would not pass Kafka, 900 kB does", vec![b'a'; 900_000], Reason::TooLarge),
        (
            "alg none",
            {
                let header = text(with(good_header.clone(), "alg", "none".into()));
                let token = forger.token(&header, &text(claims(&client)));
                format!("{}.", token.rsplit_once('.').unwrap().0).into_bytes()
            },
            Reason::BadAlgorithm,
        ),
        ("HS256 with the public key", hs256.into_bytes(), Reason::BadAlgorithm),
        (
            "crit",
            forger.token(&text(with(good_header.clone(), "crit", json!(["exp"]))), &text(claims(&client))).into(),
            Reason::BadHeader,
        ),
        (
            "jwk",
            forger.token(&text(with(good_header.clone(), "jwk", json!({}))), &text(claims(&client))).into(),
            Reason::BadHeader,
        ),
        (
            "jku",
            forger
                .token(&text(with(good_header.clone(), "jku", json!("https://example.com"))), &text(claims(&client)))
                .into(),
            Reason::BadHeader,
        ),
        (
            "a header member twice",
            forger
                .token(
                    &format!(
                        r#"{{"alg":"EdDSA","typ":"{}","kid":"{k}","kid":"{k}"}}"#,
                        jws::TYP_REQUEST,
                        k = forger.kid
                    ),
                    &text(claims(&client)),
                )
                .into(),
            Reason::BadHeader,
        ),
        ("a claim twice", forger.token(&text(good_header.clone()), &twice).into(), Reason::BadClaims),
        (
            "an unknown claim",
            forger.token(&text(good_header.clone()), &text(with(claims(&client), "admin", true.into()))).into(),
            Reason::BadClaims,
        ),
        (
            "a claim missing",
            forger.token(&text(good_header.clone()), &text(without(claims(&client), "purpose"))).into(),
            Reason::BadClaims,
        ),
        (
            "deep JSON",
            forger.token(&text(good_header.clone()), &format!("{}{}", "[".repeat(5000), "]".repeat(5000))).into(),
            Reason::BadClaims,
        ),
        (
            "a deep filter value",
            forger
                .token(
                    &text(good_header.clone()),
                    &text(claims(&client)).replacen(
                        "\"files.people\"",
                        &format!("{}1{}", "[".repeat(5000), "]".repeat(5000)),
                        1,
                    ),
                )
                .into(),
            Reason::BadClaims,
        ),
        (
            "wrong typ",
            forger.token(&text(with(good_header.clone(), "typ", "JWT".into())), &text(claims(&client))).into(),
            Reason::BadType,
        ),
        (
            "an approval's typ",
            forger
                .token(&text(with(good_header.clone(), "typ", jws::TYP_APPROVAL.into())), &text(claims(&client)))
                .into(),
            Reason::BadType,
        ),
        (
            "wrong aud",
            forger
                .token(&text(good_header.clone()), &text(with(claims(&client), "aud", "elsewhere/kafka".into())))
                .into(),
            Reason::BadAudience,
        ),
        (
            "another door's aud",
            forger
                .token(
                    &text(good_header.clone()),
                    &text(with(claims(&client), "aud", format!("{ORIGIN}/approvals").into())),
                )
                .into(),
            Reason::BadAudience,
        ),
        (
            "iss is not sub",
            forger.token(&text(good_header.clone()), &text(with(claims(&client), "sub", "outsider".into()))).into(),
            Reason::IssuerMismatch,
        ),
        (
            "somebody else's name",
            forger
                .token(
                    &text(good_header.clone()),
                    &text(with(with(claims(&client), "sub", "dana".into()), "iss", "dana".into())),
                )
                .into(),
            Reason::IssuerMismatch,
        ),
        (
            "a short jti",
            forger.token(&text(good_header.clone()), &text(with(claims(&client), "jti", "1".into()))).into(),
            Reason::WeakJti,
        ),
        (
            "an unknown key",
            forger.token(&text(with(good_header.clone(), "kid", "nobody".into())), &text(claims(&client))).into(),
            Reason::UnknownKey,
        ),
        (
            "another's signature",
            stranger.token(&text(good_header.clone()), &text(claims(&client))).into(),
            Reason::BadSignature,
        ),
    ];
    for (name, record, reason) in cases {
        let from = world.service().core.ledger.size().get();
        world.publish_raw(broker::REQUESTS, &record).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let is = |step: &Step| matches!(step, Step::RequestRejected(r) if r.reason == reason && r.count.get() == 1);
        world.wait_entry(from, is).unwrap_or_else(|e| panic!("{name}: expected {reason}: {e:#}"));
    }
    let (_, answer) = world.ask("reports", &people(&["id"])).unwrap();
    expect(&answer, Word::Delivered, None);
    world.prove().unwrap();
}

/// Signs claims that differ from good ones, and gives the status that comes back.
fn status_of(world: &World, change: impl FnOnce(&mut RequestClaims)) -> (TraceId, Word, Option<Reason>) {
    let client = world.client("reports").unwrap();
    let mut claims = client.claims(&people(&["id", "email"])).unwrap();
    change(&mut claims);
    let (trace, token) = client.sign_request(&claims).unwrap();
    let mut inbox = client.listen().unwrap();
    client.publish(broker::REQUESTS, token.as_bytes(), &[]).unwrap();
    let status = wait_status(&mut inbox, |s| s.request == Some(trace) && s.status != Word::Accepted).unwrap();
    (trace, status.status, status.reason)
}

#[test]
fn a_known_caller_is_told_why_not() {
    let world = World::shared();
    let check = |name: &str, reason: Reason, change: &dyn Fn(&mut RequestClaims)| {
        let (trace, word, found) = status_of(world, change);
        assert_eq!((word, found), (Word::Denied, Some(reason)), "{name}");
        let kinds = world.kinds(trace).unwrap();
        let all = ["request.received", "identity.verified", "policy.decided", "request.denied"];
        assert_eq!(kinds, all, "{name}");
    };
    let now = now();
    check("expired", Reason::Expired, &|c| (c.iat, c.exp) = (now - 700, now - 100));
    check("issued in the future", Reason::NotYetValid, &|c| (c.iat, c.exp) = (now + 300, now + 600));
    check("not yet valid", Reason::NotYetValid, &|c| c.nbf = Some(now + 300));
    check("lifetime too long", Reason::LifetimeTooLong, &|c| c.exp = c.iat + 3601);
    check("no columns", Reason::BadClaims, &|c| c.columns.clear());
    check("a column twice", Reason::BadClaims, &|c| c.columns = vec!["id".into(), "id".into()]);
    check("unknown format", Reason::BadFormat, &|c| c.format = "xml".into());
    check("unknown purpose", Reason::BadPurpose, &|c| c.purpose = "curiosity".into());
    check("unknown connection", Reason::Forbidden, &|c| c.dataset = "nowhere.people".into());
    check("unknown table", Reason::Forbidden, &|c| c.dataset = "files.nothing".into());
    check("no table", Reason::Forbidden, &|c| c.dataset = "files".into());
    check("a path", Reason::Forbidden, &|c| c.dataset = "files.../../etc/passwd".into());
    check("unknown column", Reason::Forbidden, &|c| c.columns = vec!["id".into(), "nothing".into()]);
    check("an evil name that is no column", Reason::Forbidden, &|c| {
        c.columns = vec!["\"; drop table people; --".into()]
    });
    check("a source that is down", Reason::SourceUnavailable, &|c| c.dataset = "down.public.people".into());
    check("a filter that is SQL", Reason::FilterSyntax, &|c| c.filter = Some("1=1; drop table people".into()));
    check("a filter of the wrong type", Reason::FilterType, &|c| c.filter = Some("id = 'ten'".into()));
    check("a filter on a masked column", Reason::FilterNotAllowed, &|c| {
        c.filter = Some("email = 'canary.mail7@example.com'".into())
    });
    check("a filter on a column that is not there", Reason::FilterNotAllowed, &|c| {
        c.filter = Some("nothing = 1".into())
    });
    check("more rows than allowed", Reason::LimitExceeded, &|c| c.limit = Some(10_000_000));
    check("for somebody it may not act for", Reason::Forbidden, &|c| c.on_behalf_of = Some("dana".into()));
    check("a range of one on a masked key", Reason::FilterNotAllowed, &|c| {
        c.dataset = "pg.public.people".into();
        c.range = Some(countersign_masker::KeyRange {
            column: "secret_code".into(),
            from: Some(770_000_007.into()),
            to: Some(770_000_008.into()),
        });
    });
    world.prove().unwrap();
}

#[test]
fn forbidden_and_unknown_are_told_the_same() {
    let world = World::shared();
    let tell = |wish: &Wish| {
        let (trace, answer) = world.ask("outsider", wish).unwrap();
        let mut status = answer.status;
        (status.request, status.jti, status.entry) = (None, None, None);
        let decided = world.story(trace).unwrap().into_iter().find_map(|s| match s {
            Step::PolicyDecided(s) => Some((s.policies, s.columns, s.obligations, s.table)),
            _ => None,
        });
        (format!("{status:?}"), format!("{decided:?}"))
    };
    let forbidden = tell(&people(&["id"]));
    // Not even that a source is down is for those who may not know of its tables.
    for dataset in
        ["files.nothing", "nowhere.people", "pg.public.people", "pg.public.nothing", "pg.nothing", "down.public.people"]
    {
        assert_eq!(tell(&Wish { dataset: dataset.into(), ..people(&["id"]) }), forbidden, "{dataset}");
    }
}

#[test]
fn a_repeat_gets_a_status_and_never_data() {
    let world = World::shared();
    let client = world.client("reports").unwrap();
    let claims = client.claims(&people(&["id"])).unwrap();
    let (trace, token) = client.sign_request(&claims).unwrap();
    let mut inbox = client.listen().unwrap();
    client.publish(broker::REQUESTS, token.as_bytes(), &[]).unwrap();
    let answer = inbox.wait(trace, crate::world::PATIENCE, true).unwrap();
    expect(&answer, Word::Delivered, None);
    let told = world.kinds(trace).unwrap();

    // By the caller once more, and by somebody who has overheard it.
    for sender in ["reports", "outsider"] {
        let mut inbox = client.listen().unwrap();
        world.client(sender).unwrap().publish(broker::REQUESTS, token.as_bytes(), &[]).unwrap();
        let answer = inbox.wait(trace, crate::world::PATIENCE, true).unwrap();
        expect(&answer, Word::Repeated, Some(Reason::Repeated));
    }
    assert_eq!(world.kinds(trace).unwrap(), told, "a repeat leaves no entry");

    // The same jti for something else.
    let mut other = claims.clone();
    other.columns = vec!["email".into()];
    let (same, token) = client.sign_request(&other).unwrap();
    assert_eq!(same, trace);
    let mut inbox = client.listen().unwrap();
    client.publish(broker::REQUESTS, token.as_bytes(), &[]).unwrap();
    let status = wait_status(&mut inbox, |s| s.reason == Some(Reason::JtiReused)).unwrap();
    assert_eq!(status.status, Word::Rejected);
    assert_eq!(world.kinds(trace).unwrap(), told);
}

#[test]
fn twice_at_once_is_answered_once() {
    let world = World::shared();
    let client = world.client("reports").unwrap();
    let (trace, token) = client.sign_request(&client.claims(&people(&["id"])).unwrap()).unwrap();
    let mut inbox = client.listen().unwrap();
    for _ in 0..5 {
        client.publish(broker::REQUESTS, token.as_bytes(), &[]).unwrap();
    }
    settle(world).unwrap();
    let answer = loop {
        let answer = inbox.wait(trace, crate::world::PATIENCE, true).unwrap();
        if answer.status.status == Word::Delivered {
            break answer;
        }
    };
    assert_eq!(answer.parts.len(), 1);
    let kinds = world.kinds(trace).unwrap();
    assert_eq!(kinds.iter().filter(|k| **k == "delivery.committed").count(), 1, "{kinds:?}");
}

#[test]
fn a_revoked_key_counts_no_longer() {
    let world = World::shared();
    let admin = world.client("admin").unwrap();
    world.register(&admin, "fleeting", Kind::Workload, &["analysts"], None, None).unwrap();
    let (_, answer) = world.ask("fleeting", &people(&["id"])).unwrap();
    expect(&answer, Word::Delivered, None);
    let reason = Revocation::KeyCompromised;
    admin.change(Operation::RevokeIdentity { name: "fleeting".into(), reason }).unwrap();
    let client = world.client("fleeting").unwrap();
    let (trace, token) = client.sign_request(&client.claims(&people(&["id"])).unwrap()).unwrap();
    let from = world.service().core.ledger.size().get();
    client.publish(broker::REQUESTS, token.as_bytes(), &[]).unwrap();
    let is = |step: &Step| matches!(step, Step::RequestRejected(r) if r.reason == Reason::RevokedKey);
    world.wait_entry(from, is).unwrap();
    assert!(world.service().core.ledger.trace(&trace).unwrap().is_none());
    world.prove().unwrap();
}

#[test]
fn administration_needs_admins() {
    let world = World::shared();
    let admin = world.client("admin").unwrap();
    let check = |name: &str, result: anyhow::Result<u64>, expect: &str| {
        let error = format!("{:#}", result.err().unwrap_or_else(|| panic!("{name} went through")));
        assert!(error.contains(expect), "{name}: {error}");
    };
    let change = || Operation::SetGroups { name: "reports".into(), groups: vec!["owners".into()] };
    check("not an admin", world.client("dana").unwrap().change(change()), "403");
    // Signed by somebody who is none, handed in by hand.
    let mut submission = admin.propose(change()).unwrap();
    submission.signatures.clear();
    check("unsigned", admin.submit(&submission), "signed by 0 admins, required 1");
    let dana = world.client("dana").unwrap();
    submission.sign("dana", &dana.key, now()).unwrap();
    check("signed by dana", admin.submit(&submission), "does not count: forbidden");
    submission.signatures.clear();
    submission.sign("admin", &PrivateKey::generate().unwrap(), now()).unwrap();
    check("signed by a stranger", admin.submit(&submission), "unknown_key");
    let mut changed = admin.propose(change()).unwrap();
    changed.change = changed.change.replace("owners", "admins");
    check("changed after signing", admin.submit(&changed), "digest_mismatch");
    let elsewhere = admin.propose(change()).unwrap();
    let mut elsewhere = elsewhere;
    elsewhere.change = elsewhere.change.replace(ORIGIN, "elsewhere.example/ledger");
    check("for another ledger", admin.submit(&elsewhere), "this ledger is");

    // A change is good for one use.
    let once = admin.propose(Operation::SetGroups { name: "mallory".into(), groups: vec!["others".into()] }).unwrap();
    admin.submit(&once).unwrap();
    check("handed in twice", admin.submit(&once), "made for another state");

    // What is wrong is said with its place, and changes nothing.
    let bad = |text: &str| admin.change(Operation::SetPolicy { text: text.into() });
    check("a policy that does not parse", bad("permit (principal, action, resource)\nwhen { oops };"), "policy:2");
    check(
        "an unknown annotation",
        bad("@mystery(\"x\")\npermit (principal, action == Action::\"read\", resource);"),
        "policy:1",
    );
    let bad = |text: &str| admin.change(Operation::SetCatalog { text: text.into() });
    check("an unknown mask", bad("purposes = [\"x\"]\n[classes]\na = { mask = \"scramble\" }\n"), "catalog:3");
    let (_, answer) = world.ask("reports", &pg_people(&["id"])).unwrap();
    expect(&answer, Word::Delivered, None);
    let key = rand_text();
    assert!(key.len() >= 22);
}
