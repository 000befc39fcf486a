//! Approvals: by the right people, for the right thing, in time, and only as long as they stand.

use crate::world::{CATALOG, PATIENCE, POLICY, World, expect, people, pg_people, settle, wait_status};
use countersign::broker;
use countersign::client::{Answer, Checked, Inbox, Wish};
use countersign::identity::change::Operation;
use countersign::identity::claims::{ApprovalClaims, ApprovalDecision, new_jti};
use countersign::pipeline::now;
use countersign::pipeline::status::Word;
use countersign_ledger::evidence::jws;
use countersign_ledger::evidence::step::{ApprovalDenied, Int, Reason, Revocation};
use countersign_ledger::evidence::{Class, Commitment, Step, TraceId};
use countersign_ledger::store::{Append, Payload};
use countersign_ledger::tlog::Hash;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn mail() -> Wish {
    Wish { limit: Some(5), purpose: "support".into(), ..pg_people(&["id", "email"]) }
}

/// A request of the bot that waits.
fn waiting(world: &World, wish: &Wish) -> (TraceId, Inbox, Checked) {
    let bot = world.client("bot").unwrap();
    let (trace, token) = bot.sign_request(&bot.claims(wish).unwrap()).unwrap();
    let mut inbox = bot.listen().unwrap();
    bot.publish(broker::REQUESTS, token.as_bytes(), &[]).unwrap();
    let answer = inbox.wait(trace, PATIENCE, true).unwrap();
    expect(&answer, Word::Waiting, None);
    let checked = world.client("erin").unwrap().waiting(trace).unwrap();
    (trace, inbox, checked)
}

/// What dana signs who says yes from then on.
fn yes(checked: &Checked, nbf: u64) -> ApprovalClaims {
    ApprovalClaims {
        iss: "dana".into(),
        sub: "dana".into(),
        aud: format!("{}/approvals", crate::world::ORIGIN),
        iat: now(),
        nbf,
        exp: now() + 3600,
        jti: new_jti().unwrap(),
        decision: ApprovalDecision::Grant,
        request: checked.view.trace.0,
        digest: checked.digest,
        obligations: checked.obligations,
        reason: Hash::from_bytes([1; 32]),
    }
}

fn deliver(inbox: &mut Inbox, trace: TraceId) -> Answer {
    inbox.wait(trace, PATIENCE, false).unwrap()
}

/// Publishes an answer and gives the reason for which it was refused.
fn refused(world: &World, who: &str, send: impl FnOnce()) -> Reason {
    let mut inbox = world.inbox(who).unwrap();
    send();
    wait_status(&mut inbox, |s| s.status == Word::Rejected).unwrap().reason.unwrap()
}

#[test]
fn an_approved_request_is_delivered_and_all_of_it_is_in_the_ledger() {
    let world = World::shared();
    let (trace, mut inbox, checked) = waiting(world, &mail());
    assert_eq!(checked.view.groups, ["owners"]);
    let dana = world.client("dana").unwrap();
    dana.answer(&checked, ApprovalDecision::Grant, "case 17", HOUR).unwrap();
    let answer = deliver(&mut inbox, trace);
    expect(&answer, Word::Delivered, None);
    let text = String::from_utf8(answer.parts.concat()).unwrap();
    assert!(text.contains("canary.mail0@example.com"), "the approved column is clear: {text}");
    let kinds = world.kinds(trace).unwrap();
    assert_eq!(
        kinds,
        [
            "request.received",
            "identity.verified",
            "policy.decided",
            "approval.requested",
            "approval.used",
            "policy.decided",
            "source.queried",
            "chunk.masked",
            "delivery.intended",
            "delivery.committed",
            "request.completed"
        ]
    );
    let said = world.prove().unwrap();
    assert!(said.contains("proven"), "{said}");
}

#[test]
fn answers_that_do_not_count() {
    let world = World::shared();
    let (trace, mut inbox, checked) = waiting(world, &mail());
    let answer = |who: &str| {
        let client = world.client(who).unwrap();
        refused(world, who, || {
            client.answer(&checked, ApprovalDecision::Grant, "why not", HOUR).unwrap();
        })
    };
    assert_eq!(answer("bot"), Reason::SelfApproval, "the requester");
    assert_eq!(answer("kim"), Reason::SelfApproval, "its owner");
    assert_eq!(answer("mallory"), Reason::NotAnApprover, "another group");
    assert_eq!(answer("admin"), Reason::NotAnApprover, "an admin who is in no asked group");
    let dana = world.client("dana").unwrap();
    let other = Hash::from_bytes([7; 32]);
    let send = |request, digest, obligations| {
        refused(world, "dana", || {
            dana.send_answer(ApprovalDecision::Grant, request, digest, obligations, "x", HOUR).unwrap();
        })
    };
    assert_eq!(send(trace.0, other, checked.obligations), Reason::DigestMismatch);
    assert_eq!(send(trace.0, checked.digest, other), Reason::DigestMismatch);
    assert_eq!(send(other, checked.digest, checked.obligations), Reason::NotWaiting);
    // Too late: signed in time, and its time is over.
    let late = ApprovalClaims { iat: now() - 100, exp: now() - 10, ..yes(&checked, now() - 100) };
    let token = dana.key.sign(jws::TYP_APPROVAL, &late).unwrap();
    let reason = refused(world, "dana", || dana.publish(broker::APPROVALS, token.as_bytes(), &[]).unwrap());
    assert_eq!(reason, Reason::ApprovalExpired);
    assert_eq!(world.kinds(trace).unwrap().last(), Some(&"approval.requested"), "nothing has moved");
    // It still waits, and a good answer still counts.
    dana.answer(&checked, ApprovalDecision::Deny, "not this one", HOUR).unwrap();
    let answer = deliver(&mut inbox, trace);
    expect(&answer, Word::Denied, Some(Reason::ApprovalDenied));
    world.prove().unwrap();
}

#[test]
fn two_groups_must_both_say_yes() {
    let world = World::shared();
    let wish = Wish { limit: Some(5), purpose: "support".into(), ..pg_people(&["id", "email", "secret_code"]) };
    let (trace, mut inbox, checked) = waiting(world, &wish);
    assert_eq!(checked.view.groups, ["owners", "security"]);
    let dana = world.client("dana").unwrap();
    dana.answer(&checked, ApprovalDecision::Grant, "as an owner", HOUR).unwrap();
    settle(world).unwrap();
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(world.kinds(trace).unwrap().last(), Some(&"approval.requested"), "one of two is not enough");
    world.client("erin").unwrap().answer(&checked, ApprovalDecision::Grant, "for security", HOUR).unwrap();
    expect(&deliver(&mut inbox, trace), Word::Delivered, None);
    world.prove().unwrap();
}

#[test]
fn an_approval_that_starts_later_is_waited_for_and_one_revoked_in_between_is_not_used() {
    let world = World::shared();
    let (trace, mut inbox, checked) = waiting(world, &mail());
    let dana = world.client("dana").unwrap();
    let grant = |nbf: u64| {
        let claims = yes(&checked, nbf);
        let token = dana.key.sign(jws::TYP_APPROVAL, &claims).unwrap();
        dana.publish(broker::APPROVALS, token.as_bytes(), &[]).unwrap();
        TraceId::approval("dana", &claims.jti)
    };
    let later = grant(now() + 5);
    let deadline = std::time::Instant::now() + PATIENCE;
    let ledger = &world.service().core.ledger;
    while ledger.trace(&later).unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline, "the approval is not in the ledger");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(world.kinds(trace).unwrap().last(), Some(&"approval.requested"), "its time has not come");
    dana.send_answer(ApprovalDecision::Revoke, later.0, checked.digest, checked.obligations, "no", HOUR).unwrap();
    while world.kinds(later).unwrap().last() != Some(&"approval.revoked") {
        assert!(std::time::Instant::now() < deadline, "the revocation is not in the ledger");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(world.kinds(trace).unwrap().last(), Some(&"approval.requested"), "what was revoked was used");
    grant(now());
    expect(&deliver(&mut inbox, trace), Word::Delivered, None);
    world.prove().unwrap();
}

#[test]
fn a_policy_that_clears_a_column_asks_again_and_waiting_survives_a_restart() {
    let mut world = World::start("\n[service]\napproval_seconds = 600\n").unwrap();
    let wish = Wish { limit: Some(5), purpose: "support".into(), ..pg_people(&["id", "email", "name"]) };
    let (trace, mut inbox, checked) = waiting(&world, &wish);
    // A new policy shows the bot names, too, while people think about addresses only.
    let more = format!(
        "{POLICY}\n@id(\"bots-see-names\")\npermit (principal in Group::\"bots\", action == Action::\"read_clear\", resource)\n\
         when {{ resource.class == \"pii.name\" }};\n"
    );
    world.client("admin").unwrap().change(Operation::SetPolicy { text: more }).unwrap();
    let dana = world.client("dana").unwrap();
    dana.answer(&checked, ApprovalDecision::Grant, "addresses are fine", HOUR).unwrap();
    let status = wait_status(&mut inbox, |s| s.request == Some(trace)).unwrap();
    assert_eq!(status.status, Word::Waiting, "what nobody approved does not leave: {status:?}");
    let asked = world.kinds(trace).unwrap().iter().filter(|k| **k == "approval.requested").count();
    assert_eq!(asked, 2);
    let hasty = |world: &World, word, reason| expect(&world.ask("hasty", &people(&["id"])).unwrap().1, word, reason);
    hasty(&world, Word::Delivered, None);
    hasty(&world, Word::Delivered, None);
    hasty(&world, Word::Denied, Some(Reason::LimitExceeded));

    world.stop_service();
    world.start_service().unwrap();
    // So does how often somebody has asked.
    hasty(&world, Word::Denied, Some(Reason::LimitExceeded));
    let again = world.client("dana").unwrap();
    let checked = again.waiting(trace).unwrap();
    again.answer(&checked, ApprovalDecision::Grant, "names as well", HOUR).unwrap();
    let answer = deliver(&mut inbox, trace);
    expect(&answer, Word::Delivered, None);
    assert!(String::from_utf8(answer.parts.concat()).unwrap().contains("Canaryname0 Leaktest"));
    // The registry, too, came back from the ledger: the catalog is still in force.
    assert!(CATALOG.contains("pii.name"));
    world.prove().unwrap();
    world.stop_service();
}

#[test]
fn a_no_outlives_a_crash_before_its_consequence() {
    let mut world = World::start("").unwrap();
    let dana = world.client("dana").unwrap();
    // A yes that starts later, and then a no whose entry was the last that the service wrote.
    let (trace, mut inbox, checked) = waiting(&world, &mail());
    let claims = yes(&checked, now() + 5);
    let token = dana.key.sign(jws::TYP_APPROVAL, &claims).unwrap();
    dana.publish(broker::APPROVALS, token.as_bytes(), &[]).unwrap();
    world.wait_entry(0, |step| matches!(step, Step::ApprovalGranted(s) if s.request == trace)).unwrap();
    let core = &world.service().core;
    let registry = core.registry.load_full();
    let erin = registry.by_name("erin").unwrap();
    let no = ApprovalClaims {
        iss: "erin".into(),
        sub: "erin".into(),
        nbf: now(),
        jti: new_jti().unwrap(),
        decision: ApprovalDecision::Deny,
        ..claims.clone()
    };
    let token = world.client("erin").unwrap().key.sign(jws::TYP_APPROVAL, &no).unwrap();
    let token = Payload::new(Class::Approval, token.into_bytes());
    let step = ApprovalDenied {
        request: trace,
        digest: no.digest,
        obligations: no.obligations,
        identity: erin.pseudonym.clone(),
        kid: erin.kid.clone(),
        registered: Int::saturating(erin.registered),
        groups: checked.view.groups.clone(),
        reason: Commitment(no.reason),
        token: token.commitment(),
    };
    let append = Append::opening(TraceId::approval(&no.iss, &no.jti), vec![step.into()]);
    core.ledger.append(Append { payloads: vec![token], guards: vec![erin.guard()], ..append }).unwrap();
    assert!(now() < claims.nbf, "the yes counted before");
    world.stop_service();
    while now() < claims.nbf {
        std::thread::sleep(Duration::from_millis(100));
    }
    world.start_service().unwrap();
    expect(&deliver(&mut inbox, trace), Word::Denied, Some(Reason::ApprovalDenied));
    world.prove().unwrap();
    world.stop_service();
}

#[test]
fn what_a_yes_rests_on_is_looked_at_again_when_it_is_used() {
    let mut world = World::start("").unwrap();
    let (admin, dana) = (world.client("admin").unwrap(), world.client("dana").unwrap());
    let waits = |trace| world.kinds(trace).unwrap().last() == Some(&"approval.requested");
    let granted =
        |trace| world.wait_entry(0, |step| matches!(step, Step::ApprovalGranted(s) if s.request == trace)).unwrap();

    // Whoever may not approve any more when the time of a yes has come has no say.
    let (trace, mut inbox, checked) = waiting(&world, &mail());
    let claims = yes(&checked, now() + 4);
    let token = dana.key.sign(jws::TYP_APPROVAL, &claims).unwrap();
    dana.publish(broker::APPROVALS, token.as_bytes(), &[]).unwrap();
    granted(trace);
    let without = POLICY.replace("principal in Group::\"owners\" || principal in", "principal in");
    assert_ne!(without, POLICY);
    admin.change(Operation::SetPolicy { text: without }).unwrap();
    while now() < claims.nbf + 2 {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(waits(trace), "a yes counted of one who may not approve");
    admin.change(Operation::SetPolicy { text: POLICY.into() }).unwrap();
    expect(&deliver(&mut inbox, trace), Word::Delivered, None);

    // The one for whom the caller acts is revoked, and the service does not know of it yet, as between any two steps of a decision.
    let wish = Wish { on_behalf_of: Some("kim".into()), ..mail() };
    let (trace, mut inbox, checked) = waiting(&world, &wish);
    let registry = &world.service().core.registry;
    let before = registry.load_full();
    admin.change(Operation::RevokeIdentity { name: "kim".into(), reason: Revocation::Left }).unwrap();
    let after = registry.swap(before);
    dana.answer(&checked, ApprovalDecision::Grant, "case 21", HOUR).unwrap();
    granted(trace);
    // What was granted is tried again and again meanwhile, and never recorded.
    std::thread::sleep(Duration::from_secs(2));
    assert!(waits(trace), "a decision stands that rests on a revoked identity");
    registry.store(after);
    expect(&deliver(&mut inbox, trace), Word::Denied, Some(Reason::Forbidden));
    assert_eq!(world.kinds(trace).unwrap().last(), Some(&"request.denied"));
    world.prove().unwrap();
    world.stop_service();
}

#[test]
fn nobody_answers_in_time() {
    let mut world = World::start("\n[service]\napproval_seconds = 3\n").unwrap();
    let (trace, mut inbox, _) = waiting(&world, &mail());
    let answer = deliver(&mut inbox, trace);
    expect(&answer, Word::Failed, Some(Reason::ApprovalExpired));
    assert!(
        matches!(world.story(trace).unwrap().last(), Some(Step::RequestFailed(s)) if s.reason == Reason::ApprovalExpired)
    );
    world.prove().unwrap();
    world.stop_service();
}
