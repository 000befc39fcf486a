//! Lies: each breaks one rule of a true tale, and everything around it is right: chains, counts, hashes, signatures. With each
//! stands the finding that it must lead to.

use crate::forge::*;
use crate::tale::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// How one rule is broken, in a request with that fate.
pub(crate) struct Lie {
    pub(crate) name: &'static str,
    pub(crate) fate: &'static str,
    pub(crate) code: &'static str,
    pub(crate) tell: fn(&mut Tale, &Ask, &mut Dice),
}

macro_rules! lies {
    ($($fate:literal { $($name:literal => $code:literal, |$t:ident, $a:ident, $d:ident| $tell:expr;)+ })+) => {
        pub(crate) const LIES: &[Lie] = &[$($(
            Lie { name: $name, fate: $fate, code: $code, tell: |$t, $a, $d| { let _ = (&$a, &$d); $tell; } },
        )+)+];
    };
}

/// The members of the column at `n` in the list `columns`.
fn column(event: &mut Event, n: usize) -> &mut Vec<(&'static str, J)> {
    match event.get("columns") {
        J::List(list) => match &mut list[n] {
            J::Object(members) => members,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn set_column(event: &mut Event, n: usize, member: &str, value: J) {
    let found = column(event, n).iter_mut().find(|(name, _)| *name == member);
    found.unwrap_or_else(|| panic!("no `{member}`")).1 = value;
}

fn columns(event: &mut Event) -> &mut Vec<J> {
    match event.get("columns") {
        J::List(list) => list,
        other => panic!("{other:?}"),
    }
}

fn signatures(event: &mut Event) -> &mut Signatures {
    match event.get("signed") {
        J::Signed(signatures) => signatures,
        other => panic!("{other:?}"),
    }
}

/// The request's token, with other claims or by another hand.
fn resign(tale: &mut Tale, ask: &Ask, hand: &str, claims: &[(&str, serde_json::Value)]) {
    let mut all = ask.claims();
    claims.iter().for_each(|(name, value)| all[*name] = value.clone());
    let (input, token) = token("request", &kid(ask.caller), hand, &all);
    let received = tale.event(&ask.label("received"));
    received.set("digest", hash(sha(&[input.as_bytes()])));
    received.set("bytes", J::Int(token.len() as u64));
    received.set("request", J::Commit("request", token.into_bytes()));
}

/// Values are given back on a request with other claims.
fn given_back(tale: &mut Tale, ask: &Ask, claims: &[(&str, serde_json::Value)]) {
    let at = tale.at(&ask.label("answer"));
    tale.events[at] = ask.reidentified(claims);
}

/// The log's key is replaced, with signatures that are none.
fn rotated(by: &str) -> Event {
    let typed = [&[1][..], &key(by).verifying_key().to_bytes()].concat();
    let id = sha(&[ORIGIN.as_bytes(), b"\n", &typed]);
    let new = format!("{ORIGIN}+{}+{}", hex(&id[..4]), STANDARD.encode(typed));
    let signature = || text(STANDARD.encode([0; 64]));
    let body =
        vec![("key", text(new)), ("size", J::Int(9)), ("old_signature", signature()), ("new_signature", signature())];
    Event::new("rotated", tagged("trace/log", &[]), "log.key_rotated", body)
}

/// The answer's token, likewise.
fn answer_again(tale: &mut Tale, ask: &Ask, by: &str, hand: &str, claims: &[(&str, serde_json::Value)]) {
    let token = ask.answer(by, hand, "grant", claims);
    tale.event(&ask.grant_label(by)).set("token", J::Commit("approval", token.into_bytes()));
}

/// Somebody else gives the approval that `giver` gave, for these groups.
fn given_by(tale: &mut Tale, ask: &Ask, giver: &str, by: &'static str, groups: &[&str]) {
    let at = tale.at(&ask.grant_label(giver));
    tale.events[at] = ask.answered("grant", by, groups);
    let at = tale.at(&ask.label(&format!("used-{giver}")));
    tale.events[at] = ask.used(by);
}

fn replace(from: &'static str, to: &'static str) -> impl Fn(String) -> String {
    move |text| text.replacen(from, to, 1)
}

/// Another value of a member that holds 64 hex digits.
fn other_hash() -> J {
    hash([7; 32])
}

/// What is there of a story of one delivery.
const STEPS: [&str; 6] = ["verified", "decided", "queried-1", "masked-1", "intended-1", "committed-1"];

lies! {
    "delivered" {
        // The order within a trace.
        "a step is missing" => "story-order", |t, a, d| t.remove(&a.label(d.pick(&STEPS)));
        "the request itself is missing" => "story-order", |t, a, d| t.remove(&a.label("received"));
        "it goes on after its end" => "trace-closed", |t, a, d| t.events.push(a.queried(2));
        "a step stands twice" => "story-order", |t, a, d| {
            let step = a.label(d.pick(&STEPS[..2]));
            let again = t.event(&step).clone();
            t.before(&a.label("queried-1"), [again])
        };
        "resolved twice" => "story-order", |t, a, d| t.before(&a.label("end"), [a.aborted(1)]);
        "delivered and failed" => "story-order", |t, a, d| {
            let at = t.at(&a.label("end"));
            t.events[at] = a.failed("internal")
        };
        "masked as another attempt" => "story-attempt", |t, a, d| t.event(&a.label("masked-1")).set("attempt", J::Int(2));
        "the first attempt is the second" => "story-attempt", |t, a, d| t.event(&a.label("queried-1")).set("attempt", J::Int(2));
        "committed as another attempt" => "story-attempt", |t, a, d| t.event(&a.label("committed-1")).set("attempt", J::Int(0));
        "completed as another attempt" => "story-attempt", |t, a, d| t.event(&a.label("end")).set("attempt", J::Int(9));
        "a step number is left out" => "chain-step", |t, a, d| t.event(&a.label("decided")).bend(replace("\"step\":2", "\"step\":3"));
        "it follows another entry" => "chain-prev", |t, a, d| t.event(&a.label(d.pick(&STEPS))).bend(|text| {
            let at = text.find("\"prev\":\"").unwrap() + 8;
            format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..])
        });
        "a number is missing in its source's count" => "seq-gap", |t, a, d| t.event(&a.label("decided")).bend(replace("\"seq\":", "\"seq\":1"));
        "another process wrote it" => "seq-gap", |t, a, d| t.event(&a.label("decided")).bend(replace("\"src\":\"5eed", "\"src\":\"0ddb"));
        "it is older than what stands before it" => "time-backwards", |t, a, d| t.event(&a.label("decided")).bend(replace("\"at\":17", "\"at\":16"));
        "under a name that is not its own" => "trace-name", |t, a, d| {
            for event in t.events.iter_mut().filter(|e| e.trace == a.trace()) {
                event.trace = [9; 32];
            }
        };
        // Forms.
        "a member too many" => "entry-form", |t, a, d| t.event(&a.label("decided")).bend(replace("\"verdict\"", "\"more\":1,\"verdict\""));
        "a space" => "entry-form", |t, a, d| t.event(&a.label(d.pick(&STEPS))).bend(replace(",\"body\":", ", \"body\":"));
        "a member missing" => "entry-form", |t, a, d| t.event(&a.label("intended-1")).drop("parts");
        "a word that is not on the list" => "entry-form", |t, a, d| t.event(&a.label("decided")).set("verdict", text("maybe"));
        "a list out of order" => "entry-form", |t, a, d| t.event(&a.label("decided")).set("policies", texts(&["b", "a"]));
        "a list with a repetition" => "entry-form", |t, a, d| t.event(&a.label("decided")).set("policies", texts(&["a", "a"]));
        "a number with a fraction" => "entry-form", |t, a, d| t.event(&a.label("masked-1")).bend(replace("\"attempt\":1", "\"attempt\":1.0"));
        // What was masked.
        "a column more" => "mask-account", |t, a, d| {
            let all = columns(t.event(&a.label("masked-1")));
            all.push(all[0].clone())
        };
        "a column less" => "mask-account", |t, a, d| columns(t.event(&a.label("masked-1"))).pop();
        "columns change places" => "mask-account", |t, a, d| columns(t.event(&a.label("masked-1"))).swap(0, 1);
        "another class" => "mask-account", |t, a, d| set_column(t.event(&a.label("masked-1")), 1, "class", text("public"));
        "a weaker rule" => "mask-account", |t, a, d| {
            set_column(t.event(&a.label("masked-1")), 1, "rule", text("clear"));
            set_column(t.event(&a.label("masked-1")), 1, "transform", text("clear"));
            set_column(t.event(&a.label("masked-1")), 1, "changed", J::Int(0))
        };
        "nothing ran" => "mask-account", |t, a, d| set_column(t.event(&a.label("masked-1")), 1, "transform", text("clear"));
        "a weaker mask ran" => "mask-account", |t, a, d| set_column(t.event(&a.label("masked-1")), 1, "transform", text("keep_first(40)"));
        "cells left out" => "mask-account", |t, a, d| set_column(t.event(&a.label("masked-1")), 1, "seen", J::Int(1));
        "more cells changed than seen" => "mask-account", |t, a, d| set_column(t.event(&a.label("masked-1")), 1, "changed", J::Int(a.rows + 1));
        "a clear column changed" => "mask-account", |t, a, d| set_column(t.event(&a.label("masked-1")), 0, "changed", J::Int(1));
        "all hidden, but for some" => "mask-account", |t, a, d| {
            set_column(t.event(&a.label("masked-1")), 1, "transform", text("null"));
            set_column(t.event(&a.label("masked-1")), 1, "changed", J::Int(a.rows - 1))
        };
        "a chunk of no parts" => "mask-account", |t, a, d| t.event(&a.label("intended-1")).set("parts", J::Int(0));
        // What was decided, fetched and delivered.
        "delivered to somebody else" => "story-subject", |t, a, d| t.event(&a.label("intended-1")).set("to", text(id("carol")));
        "another table fetched" => "story-subject", |t, a, d| t.event(&a.label("queried-1")).set("table", text("staff"));
        "another store asked" => "story-subject", |t, a, d| t.event(&a.label("queried-1")).set("connection", text("attic"));
        "a column that was not fetched" => "story-subject", |t, a, d| t.event(&a.label("queried-1")).set("columns", texts(&["id"]));
        "a store that nobody registered" => "connection-unknown", |t, a, d| {
            t.event(&a.label("decided")).set("connection", text("attic"));
            t.event(&a.label("queried-1")).set("connection", text("attic"))
        };
        "permitted without columns" => "decision-contradiction", |t, a, d| t.event(&a.label("decided")).set("columns", J::List(vec![]));
        "permitted without a table" => "decision-contradiction", |t, a, d| t.event(&a.label("decided")).drop("table");
        "groups on a plain permit" => "decision-contradiction", |t, a, d| t.event(&a.label("decided")).set("approval", texts(&["stewards"]));
        "needs approval by nobody" => "decision-contradiction", |t, a, d| t.event(&a.label("decided")).set("verdict", text("needs_approval"));
        "decided in the future" => "decision-time", |t, a, d| t.event(&a.label("decided")).set("time", J::Int(START + 86_400));
        "decided long ago" => "decision-time", |t, a, d| t.event(&a.label("decided")).set("time", J::Int(START - 7200));
        "a policy of its own" => "policy-not-in-force", |t, a, d| t.event(&a.label("decided")).set("policy", other_hash());
        "no policy at all" => "policy-not-in-force", |t, a, d| t.event(&a.label("decided")).set("policy", hash([0; 32]));
        "a catalog of its own" => "catalog-not-in-force", |t, a, d| t.event(&a.label("decided")).set("catalog", other_hash());
        "obligations of its own" => "document-digest", |t, a, d| t.event(&a.label("decided")).set("obligations", other_hash());
        "another rule than the decision in full" => "document-digest", |t, a, d| {
            set_column(t.event(&a.label("decided")), 1, "rule", text("clear"));
            for (member, value) in [("rule", text("clear")), ("transform", text("clear")), ("changed", J::Int(0))] {
                set_column(t.event(&a.label("masked-1")), 1, member, value)
            }
        };
        "a decision in full that is none" => "document-digest", |t, a, d| t.event(&a.label("decided")).set("document", J::Commit("query", b"yes".to_vec()));
        "another table than asked" => "request-answer", |t, a, d| {
            t.event(&a.label("decided")).set("table", text("staff"));
            t.event(&a.label("queried-1")).set("table", text("staff"))
        };
        "another purpose than asked" => "request-answer", |t, a, d| t.event(&a.label("decided")).set("purpose", text("sale"));
        "another format than asked" => "request-answer", |t, a, d| {
            let other = if a.format == "arrow" { "jsonl" } else { "arrow" };
            t.event(&a.label("intended-1")).set("format", text(other))
        };
        "other columns than asked" => "request-answer", |t, a, d| resign(t, a, a.caller, &[("columns", json!(["id"]))]);
        "more rows than asked" => "rows-limit", |t, a, d| resign(t, a, a.caller, &[("limit", json!(1))]);
        "more rows than obliged" => "rows-limit", |t, a, d| {
            let mut many = a.clone();
            many.rows = 501;
            let at = t.at(&a.label("masked-1"));
            t.events[at] = many.masked(1)
        };
        "valid for too long" => "request-answer", |t, a, d| resign(t, a, a.caller, &[("exp", json!(START + 3601))]);
        "expired when it came" => "request-time", |t, a, d| resign(t, a, a.caller, &[("iat", json!(START - 4000)), ("exp", json!(START - 1200))]);
        "signed in the future" => "request-time", |t, a, d| resign(t, a, a.caller, &[("iat", json!(START + 7200)), ("exp", json!(START + 9000))]);
        "valid from later on" => "request-time", |t, a, d| resign(t, a, a.caller, &[("nbf", json!(START + 3500))]);
        "to a place that is not the caller's" => "delivery-destination", |t, a, d| {
            t.event(&a.label("intended-1")).set("destination", J::Commit("delivery", b"chunk.masked.carol".to_vec()))
        };
        "its status stands before the intent" => "status-place", |t, a, d| t.event(&a.label("committed-1")).set("status_offset", J::Int(9));
        "its status stands elsewhere" => "status-place", |t, a, d| t.event(&a.label("committed-1")).set("status_partition", J::Int(3));
        // Who asked.
        "signed by somebody else" => "request-signature", |t, a, d| resign(t, a, "carol", &[]);
        "a token of another type" => "request-signature", |t, a, d| {
            let (input, token) = token("approval", &kid(a.caller), a.caller, &a.claims());
            t.event(&a.label("received")).set("digest", hash(sha(&[input.as_bytes()])));
            t.event(&a.label("received")).set("bytes", J::Int(token.len() as u64));
            t.event(&a.label("received")).set("request", J::Commit("request", token.into_bytes()))
        };
        "another digest" => "request-claims", |t, a, d| t.event(&a.label("received")).set("digest", other_hash());
        "another size" => "request-claims", |t, a, d| t.event(&a.label("received")).set("bytes", J::Int(1));
        "for another ledger" => "request-claims", |t, a, d| resign(t, a, a.caller, &[("aud", json!("ledger.example/other/kafka"))]);
        "for another door" => "request-claims", |t, a, d| t.event(&a.label("received")).set("door", text("sql"));
        "in another name" => "request-claims", |t, a, d| resign(t, a, a.caller, &[("sub", json!("carol"))]);
        "on behalf of somebody it does not act for" => "request-claims", |t, a, d| resign(t, a, a.caller, &[("on_behalf_of", json!("carol"))]);
        "under another number" => "trace-name", |t, a, d| resign(t, a, a.caller, &[("jti", json!("f".repeat(32)))]);
        "attested where it must be signed" => "attest-door", |t, a, d| t.event(&a.label("verified")).set("attest", text("service-attested"));
        "by nobody" => "identity-unknown", |t, a, d| t.event(&a.label("verified")).set("identity", text(id("nobody")));
        "with somebody else's key" => "identity-unknown", |t, a, d| t.event(&a.label("verified")).set("kid", text(kid("carol")));
        "with another registration" => "identity-unknown", |t, a, d| t.event(&a.label("verified")).set("registered", J::Int(1));
        "with another algorithm" => "identity-unknown", |t, a, d| t.event(&a.label("verified")).set("alg", text("ES256"));
        "after the caller's time" => "identity-expired", |t, a, d| t.event(&a.label("verified")).after = END;
        "delivered after the caller's time" => "identity-expired", |t, a, d| t.event(&a.label("intended-1")).after = END;
        "by somebody revoked" => "identity-revoked", |t, a, d| t.before(&a.label("received"), [revoked(t.admins, a.caller)]);
        "delivered to somebody revoked" => "identity-revoked", |t, a, d| t.before(&a.label("intended-1"), [revoked(t.admins, a.caller)]);
        "one for whom it acted was revoked" => "identity-revoked", |t, a, d| {
            // Only an agent acts for somebody: this story is told of one.
            let mut agent = a.clone();
            (agent.caller, agent.name) = ("agent", format!("{}-agent", a.name));
            let revoke = revoked(t.admins, "petra");
            t.events.push(revoke);
            t.events.extend(agent.story())
        };
        // Administration.
        "the log of somebody else" => "log-created", |t, a, d| t.event("log").set("origin", text("ledger.example/other"));
        "the log of another key" => "log-created", |t, a, d| t.event("log").set("key", text("other+00000000+AA=="));
        "no beginning" => "log-created", |t, a, d| t.remove("log");
        "an identity out of nowhere" => "admin-unsigned", |t, a, d| t.event(d.pick(&["anna", "reports", "carol"])).drop("signed");
        "an admin out of nowhere" => "admin-unsigned", |t, a, d| {
            t.before("policy-2", [registered(&("mallory", "human", &[], None, None), true, None)])
        };
        "one more first admin" => "admin-unsigned", |t, a, d| t.before("reports", [registered(&("mallory", "human", &[], None, None), true, None)]);
        "changed by nobody" => "admin-quorum", |t, a, d| signatures(t.event("policy-2")).by.clear();
        "changed by one, two required" => "admin-quorum", |t, a, d| {
            t.event("log").set("quorum", J::Int(3));
        };
        "changed by a caller" => "admin-signer", |t, a, d| signatures(t.event("policy-2")).by = vec!["reports"];
        "changed by a stranger" => "admin-signer", |t, a, d| signatures(t.event("catalog-1")).by = vec!["nobody"];
        "changed by somebody revoked" => "admin-signer", |t, a, d| {
            let admins = t.admins;
            let event = registered(&("second", "human", &[], None, None), true, Some(admins));
            t.before("policy-2", [event, revoked(admins, "second")]);
            signatures(t.event("policy-2")).by = vec!["second"]
        };
        "changed after the admin's time" => "admin-signer", |t, a, d| t.event("policy-2").after = END;
        "a signature by another hand" => "admin-signature", |t, a, d| signatures(t.event("policy-2")).hand = Some("carol");
        "a signature on another change" => "admin-signature", |t, a, d| signatures(t.event("policy-2")).another = true;
        "a signature that had expired" => "admin-signature", |t, a, d| signatures(t.event("policy-2")).times = (START - 4000, START - 400);
        "a signature from the future" => "admin-signature", |t, a, d| signatures(t.event("policy-2")).times = (START + 4000, START + 7000);
        "a signature for years" => "admin-signature", |t, a, d| signatures(t.event("policy-2")).times = (START, START + 700 * 86_400);
        "groups that nobody signed" => "admin-change", |t, a, d| t.event("groups-carol").set("groups", texts(&["privacy", "stewards"]));
        "a change for another state" => "admin-change", |t, a, d| signatures(t.event("policy-2")).after = Some("0".repeat(64));
        "an admin that nobody made one" => "admin-change", |t, a, d| t.event("carol").set("admin", J::Bool(true));
        "an owner that nobody signed" => "admin-change", |t, a, d| t.event("agent").drop("on_behalf_of");
        "revoked for another reason" => "admin-change", |t, a, d| t.event("revoked-leaver").set("reason", text("administrative"));
        "a connection of another kind" => "admin-change", |t, a, d| t.event("connection-more").set("kind", text("postgres"));
        "another policy than its digest" => "document-digest", |t, a, d| t.event("policy-2").set("document", J::Commit("config", b"forbid(principal, action, resource);".to_vec()));
        "a version left out" => "story-subject", |t, a, d| t.event("policy-2").set("version", J::Int(3));
        "groups of somebody else" => "story-subject", |t, a, d| t.event("groups-carol").set("identity", text(id("anna")));
        "a name in a pseudonym's place" => "story-subject", |t, a, d| {
            let person = registered(&("carl", "human", &[], None, None), false, Some(t.admins));
            t.events.push(person);
            let last = t.events.last_mut().unwrap();
            last.set("identity", text("carl@example.org"));
            last.trace = tagged("trace/identity", &[b"carl@example.org"])
        };
        "an identity under another's name" => "trace-name", |t, a, d| t.event("carol").trace = tagged("trace/identity", &[b"id-0000000000000000"]);
        "an agent without an owner" => "decision-contradiction", |t, a, d| t.event("shadow").drop("owner");
        "an owner that nobody knows" => "identity-unknown", |t, a, d| t.event("shadow").set("owner", text(id("nobody")));
        "a key with another thumbprint" => "identity-key", |t, a, d| t.event("carol").set("kid", text(kid("nobody")));
        "no key" => "identity-key", |t, a, d| t.event("carol").set("key", text("AAAA"));
        "one key for two" => "identity-key", |t, a, d| {
            t.event("carol").set("key", text(key_text("anna")));
            t.event("carol").set("kid", text(kid("anna")))
        };
        "a name that somebody bears" => "identity-name", |t, a, d| {
            // The same person under a second key: approvals of its own requests would look like somebody else's.
            let person = registered(&("carol", "human", &["stewards"], None, None), false, Some(t.admins));
            t.events.push(person);
            let other = id("carol again");
            let last = t.events.last_mut().unwrap();
            last.trace = tagged("trace/identity", &[other.as_bytes()]);
            last.set("identity", text(other));
            last.set("key", text(key_text("carol again")));
            last.set("kid", text(kid("carol again")))
        };
        "possession by another hand" => "possession", |t, a, d| {
            let proof = possession("carol", "anna", START, START + 600);
            t.event("carol").set("possession", J::Commit("identity", proof.into_bytes()))
        };
        "possession in another name" => "possession", |t, a, d| {
            let proof = possession("anna", "anna", START, START + 600);
            t.event("carol").set("possession", J::Commit("identity", proof.into_bytes()))
        };
        "possession that had expired" => "possession", |t, a, d| {
            let proof = possession("carol", "carol", START - 9000, START - 600);
            t.event("carol").set("possession", J::Commit("identity", proof.into_bytes()))
        };
        "a payload of another class" => "payload-class", |t, a, d| t.event(&a.label("queried-1")).set("statement", J::Commit("detail", b"select".to_vec()));
    }
    "reidentified" {
        "given back twice" => "trace-closed", |t, a, d| t.events.push(a.reidentified(&[]));
        "a step after the answer" => "trace-closed", |t, a, d| {
            let mut event = a.denied("forbidden");
            event.trace = t.event(&a.label("answer")).trace;
            t.events.push(event)
        };
        "given back on behalf of a stranger" => "request-claims", |t, a, d| given_back(t, a, &[("on_behalf_of", json!("carol"))]);
        "given back by another hand" => "request-signature", |t, a, d| {
            let (input, token) = token("reidentify", &kid(a.caller), "carol", &a.reidentify_claims());
            t.event(&a.label("answer")).set("digest", hash(sha(&[input.as_bytes()])));
            t.event(&a.label("answer")).set("request", J::Commit("request", token.into_bytes()))
        };
        "given back for a request of another kind" => "request-signature", |t, a, d| {
            let (input, token) = token("request", &kid(a.caller), a.caller, &a.reidentify_claims());
            t.event(&a.label("answer")).set("digest", hash(sha(&[input.as_bytes()])));
            t.event(&a.label("answer")).set("request", J::Commit("request", token.into_bytes()))
        };
        "given back at another door" => "request-claims", |t, a, d| given_back(t, a, &[("aud", json!(format!("{ORIGIN}/kafka")))]);
        "given back in another name" => "request-claims", |t, a, d| given_back(t, a, &[("sub", json!("carol"))]);
        "given back under another number" => "request-claims", |t, a, d| given_back(t, a, &[("jti", json!("f".repeat(32)))]);
        "given back from another table" => "request-claims", |t, a, d| t.event(&a.label("answer")).set("table", text("staff"));
        "given back of another column" => "request-claims", |t, a, d| t.event(&a.label("answer")).set("column", text("email"));
        "given back for another purpose" => "request-claims", |t, a, d| t.event(&a.label("answer")).set("purpose", text("sale"));
        "given back for another reason" => "request-claims", |t, a, d| t.event(&a.label("answer")).set("reason", J::Commit("reidentify", b"why not".to_vec()));
        "given back for other tokens" => "request-claims", |t, a, d| t.event(&a.label("answer")).set("tokens", J::Commit("reidentify", b"[\"a\",\"b\",\"c\"]".to_vec()));
        "given back with another digest" => "request-claims", |t, a, d| t.event(&a.label("answer")).set("digest", other_hash());
        "given back long after it was signed" => "request-time", |t, a, d| given_back(t, a, &[("iat", json!(START - 4000)), ("exp", json!(START - 3800))]);
        "given back before it was signed" => "request-time", |t, a, d| given_back(t, a, &[("iat", json!(START + 4000)), ("exp", json!(START + 4200))]);
        "given back on a request for a day" => "request-time", |t, a, d| given_back(t, a, &[("exp", json!(START + 86_400))]);
        "more given back than asked" => "request-answer", |t, a, d| t.event(&a.label("answer")).set("count", J::Int(4));
        "tokens that are no list" => "request-answer", |t, a, d| t.event(&a.label("answer")).set("tokens", J::Commit("reidentify", b"all".to_vec()));
        "tokens of another class" => "payload-class", |t, a, d| t.event(&a.label("answer")).set("tokens", J::Commit("detail", b"[]".to_vec()));
        "given back from a store that nobody registered" => "connection-unknown", |t, a, d| t.event(&a.label("answer")).set("connection", text("attic"));
        "given back on a policy of its own" => "policy-not-in-force", |t, a, d| t.event(&a.label("answer")).set("policy", other_hash());
        "given back on no policy" => "policy-not-in-force", |t, a, d| t.event(&a.label("answer")).set("policy", hash([0; 32]));
        "given back on a catalog of its own" => "catalog-not-in-force", |t, a, d| t.event(&a.label("answer")).set("catalog", other_hash());
        "given back at another time" => "decision-time", |t, a, d| t.event(&a.label("answer")).set("time", J::Int(START - 7200));
        "given back to nobody" => "identity-unknown", |t, a, d| t.event(&a.label("answer")).set("identity", text(id("nobody")));
        "given back to somebody else's key" => "identity-unknown", |t, a, d| t.event(&a.label("answer")).set("kid", text(kid("carol")));
        "given back to somebody revoked" => "identity-revoked", |t, a, d| t.before(&a.label("answer"), [revoked(t.admins, a.caller)]);
        "given back after the caller's time" => "identity-expired", |t, a, d| t.event(&a.label("answer")).after = END;
        "one for whom it was given back was revoked" => "identity-revoked", |t, a, d| {
            let mut agent = a.clone();
            (agent.caller, agent.name) = ("agent", format!("{}-agent", a.name));
            let revoke = revoked(t.admins, "petra");
            t.events.extend([revoke, agent.reidentified(&[])])
        };
        "given back of no column" => "decision-contradiction", |t, a, d| t.event(&a.label("answer")).drop(d.pick(&["connection", "table", "column", "rule", "purpose"]));
        "nothing given back" => "decision-contradiction", |t, a, d| t.event(&a.label("answer")).set("count", J::Int(0));
        "given back once it is approved" => "decision-contradiction", |t, a, d| t.event(&a.label("answer")).set("verdict", text("needs_approval"));
        "given back and refused" => "decision-contradiction", |t, a, d| t.event(&a.label("answer")).body.insert(6, ("refusal", text("forbidden")));
    }
    "not-reidentified" {
        "refused without a reason" => "decision-contradiction", |t, a, d| t.event(&a.label("answer")).drop("refusal");
        "refused, and all is told" => "decision-contradiction", |t, a, d| {
            let body = &mut t.event(&a.label("answer")).body;
            let at = body.iter().position(|(name, _)| *name == "count").unwrap();
            body.insert(at, ("table", text("customers")))
        };
        "refused to somebody else's key" => "identity-unknown", |t, a, d| t.event(&a.label("answer")).set("kid", text(kid("carol")));
        "refused, and given back after all" => "trace-closed", |t, a, d| t.events.push(a.reidentified(&[]));
    }
    "sampled" {
        "looked into by no admin" => "identity-unknown", |t, a, d| {
            let at = t.at(&a.label("sample"));
            t.events[at] = a.sampled("anna")
        };
        "looked into with somebody else's key" => "identity-unknown", |t, a, d| t.event(&a.label("sample")).set("kid", text(kid("anna")));
        "looked into by somebody revoked" => "identity-revoked", |t, a, d| {
            let admins = t.admins;
            let event = registered(&("second", "human", &[], None, None), true, Some(admins));
            t.before(&a.label("sample"), [event, revoked(admins, "second")]);
            let at = t.at(&a.label("sample"));
            t.events[at] = a.sampled("second")
        };
        "looked into after the admin's time" => "identity-expired", |t, a, d| t.event(&a.label("sample")).after = END;
        "looked into a store that nobody registered" => "connection-unknown", |t, a, d| t.event(&a.label("sample")).set("connection", text("attic"));
        "looked into under another name" => "trace-name", |t, a, d| t.event(&a.label("sample")).set("sample", text("0".repeat(32)));
        "looked into under no name" => "entry-form", |t, a, d| t.event(&a.label("sample")).set("sample", text("a look"));
        "looked into twice" => "trace-closed", |t, a, d| t.events.push(a.sampled("root"));
    }
    "held" {
        "held twice" => "story-order", |t, a, d| t.before(&a.label("released"), [a.held()]);
        "released twice" => "trace-closed", |t, a, d| t.events.push(a.released());
        "released and never held" => "story-order", |t, a, d| t.remove(&a.label("held"));
        "held under another name" => "trace-name", |t, a, d| t.event(&a.label("held")).set("hold", text("0".repeat(16)));
        "released under another name" => "trace-name", |t, a, d| t.event(&a.label("released")).set("hold", text("0".repeat(16)));
        "held under no name" => "entry-form", |t, a, d| t.event(&a.label("held")).set("hold", text("for the lawyers"));
        "nothing held" => "entry-form", |t, a, d| t.event(&a.label("held")).set("traces", J::List(vec![]));
        "held one twice" => "entry-form", |t, a, d| t.event(&a.label("held")).set("traces", J::List(vec![other_hash(), other_hash()]));
    }
    "read" {
        "read under another name" => "trace-name", |t, a, d| t.event(&a.label("read")).set("read", text("0".repeat(32)));
        "read under no name" => "entry-form", |t, a, d| t.event(&a.label("read")).set("read", text("a look"));
        "nothing read" => "entry-form", |t, a, d| t.event(&a.label("read")).set("classes", J::List(vec![]));
        "read out of order" => "entry-form", |t, a, d| t.event(&a.label("read")).set("classes", texts(&["request", "query"]));
        "read for fun" => "entry-form", |t, a, d| t.event(&a.label("read")).set("why", text("fun"));
        "read twice" => "trace-closed", |t, a, d| {
            let again = t.event(&a.label("read")).clone();
            t.events.push(again)
        };
    }
    "purged" {
        "purged on another day" => "trace-name", |t, a, d| t.event(&a.label("purged")).set("day", text("2025-02-01"));
        "purged of another class" => "trace-name", |t, a, d| t.event(&a.label("purged")).set("class", text("query"));
        "purged on a day that never was" => "entry-form", |t, a, d| t.event(&a.label("purged")).set("day", text("2025-02-30"));
        "purged, and then denied" => "story-order", |t, a, d| {
            let mut event = t.event(&a.label("purged")).clone();
            (event.kind, event.body) = ("request.denied", vec![("reason", text("forbidden"))]);
            t.events.push(event)
        };
    }
    "exported" {
        "exported beside its trace" => "trace-name", |t, a, d| t.event(&a.label("exported")).trace = [8; 32];
        "exported, and then denied" => "story-order", |t, a, d| {
            let mut event = t.event(&a.label("exported")).clone();
            (event.kind, event.body) = ("request.denied", vec![("reason", text("forbidden"))]);
            t.events.push(event)
        };
        "a key that nobody signed over to" => "key-rotation", |t, a, d| t.events.push(rotated("nobody"));
    }
    "aborted" {
        "an intent never resolved" => "story-order", |t, a, d| t.remove(&a.label("aborted-1"));
        "aborted twice" => "story-order", |t, a, d| t.before(&a.label("queried-2"), [a.aborted(1)]);
        "committed and aborted" => "story-order", |t, a, d| t.before(&a.label("aborted-1"), [a.committed(1)]);
        "an attempt left out" => "story-attempt", |t, a, d| t.remove(&a.label("queried-2"));
        "an attempt counted twice" => "story-attempt", |t, a, d| t.event(&a.label("queried-2")).set("attempt", J::Int(1));
        "another attempt aborted" => "story-attempt", |t, a, d| t.event(&a.label("aborted-1")).set("attempt", J::Int(2));
    }
    "denied" {
        "fetched although denied" => "story-order", |t, a, d| t.before(&a.label("end"), [a.queried(1)]);
        "failed where it was denied" => "story-order", |t, a, d| {
            let at = t.at(&a.label("end"));
            t.events[at] = a.failed("internal")
        };
        "after its denial" => "trace-closed", |t, a, d| t.events.push(a.queried(1));
        "denied with a table" => "decision-contradiction", |t, a, d| {
            let decided = t.event(&a.label("decided"));
            let at = decided.body.iter().position(|(name, _)| *name == "columns").unwrap();
            decided.body.insert(at, ("table", text("customers")))
        };
        "denied by a policy of its own" => "policy-not-in-force", |t, a, d| t.event(&a.label("decided")).set("policy", other_hash());
    }
    "rejected" {
        "under another place" => "trace-name", |t, a, d| t.event(&a.label("rejected")).set("offset", J::Int(1));
        "rejected twice" => "trace-closed", |t, a, d| {
            let again = t.event(&a.label("rejected")).clone();
            t.events.push(again)
        };
    }
    "failed" {
        "delivered although failed" => "trace-closed", |t, a, d| t.events.extend([a.masked(1), a.intended(1)]);
        "a caller that does not exist" => "identity-unknown", |t, a, d| t.event(&a.label("verified")).set("identity", text(id("ghost")));
    }
    "attested" {
        "a mask account of another decision" => "mask-account", |t, a, d| set_column(t.event(&a.label("masked-1")), 1, "class", text("public"));
        "an attested caller that was revoked" => "identity-revoked", |t, a, d| t.before(&a.label("received"), [revoked(t.admins, a.caller)]);
    }
    "open" {
        "no mask account" => "story-order", |t, a, d| t.remove(&a.label("masked-1"));
        "no decision" => "story-order", |t, a, d| t.remove(&a.label("decided"));
    }
    "approved" {
        "without any approval" => "story-order", |t, a, d| {
            let used: Vec<String> = a.groups.iter().map(|g| a.label(&format!("used-{}", giver(g)))).collect();
            used.iter().for_each(|label| drop(t.remove(label)))
        };
        "without one of the approvals" => "approval-missing", |t, a, d| {
            let label = a.label(&format!("used-{}", giver(d.pick(&a.groups))));
            t.remove(&label)
        };
        "one approval used for two" => "approval-missing", |t, a, d| {
            let again = t.event(&a.label("used-anna")).clone();
            *t.event(&a.label("used-boris")) = again
        };
        "fetched while waiting" => "story-order", |t, a, d| t.before(&a.label("used-anna"), [a.queried(1)]);
        "nobody was asked" => "story-order", |t, a, d| t.remove(&a.label("asked"));
        "decided before anybody answered" => "story-order", |t, a, d| {
            let settled = t.remove(&a.label("settled"));
            t.before(&a.label("used-boris"), [settled])
        };
        "other obligations than approved" => "approval-missing", |t, a, d| t.event(&a.label("settled")).set("obligations", other_hash());
        "asked about other obligations" => "approval-missing", |t, a, d| t.event(&a.label("asked")).set("obligations", other_hash());
        "asked about another request" => "approval-missing", |t, a, d| t.event(&a.label("asked")).set("request", other_hash());
        "fewer were asked than required" => "approval-missing", |t, a, d| t.event(&a.label("asked")).set("groups", texts(&["stewards"]));
        "by the requester" => "approval-self", |t, a, d| {
            t.event(a.caller).set("groups", texts(&["stewards"]));
            given_by(t, a, "anna", a.caller, &["stewards"])
        };
        "by the requester's owner" => "approval-self", |t, a, d| match a.caller {
            "agent" => given_by(t, a, "anna", "olga", &["stewards"]),
            caller => {
                let event = t.event(caller);
                let at = event.body.iter().position(|(name, _)| *name == "alg").unwrap();
                event.body.insert(at, ("owner", text(id("root"))));
                t.event("root").set("groups", texts(&["stewards"]));
                given_by(t, a, "anna", "root", &["stewards"])
            }
        };
        "by somebody with the same owner" => "approval-self", |t, a, d| {
            let event = t.event("shadow");
            event.set("owner", text(id(if a.caller == "agent" { "petra" } else { a.caller })));
            given_by(t, a, "anna", "shadow", &["stewards"])
        };
        "by the wrong group" => "approval-group", |t, a, d| given_by(t, a, "anna", "carol", &["others"]);
        "for a group it is not in" => "approval-group", |t, a, d| given_by(t, a, "anna", "carol", &["stewards"]);
        "for no group" => "approval-group", |t, a, d| t.event(&a.grant_label("anna")).set("groups", J::List(vec![]));
        "by nobody" => "identity-unknown", |t, a, d| t.event(&a.grant_label("anna")).set("identity", text(id("nobody")));
        "by somebody revoked" => "identity-revoked", |t, a, d| t.before(&a.grant_label("anna"), [revoked(t.admins, "anna")]);
        "used after its giver was revoked" => "identity-revoked", |t, a, d| t.before(&a.label("used-anna"), [revoked(t.admins, "anna")]);
        "used after its giver left the group" => "approval-missing", |t, a, d| t.before(&a.label("used-anna"), [regrouped(t.admins, "anna", &["others"])]);
        "after the giver's time" => "identity-expired", |t, a, d| t.event(&a.grant_label("anna")).after = END;
        "for another digest" => "approval-digest", |t, a, d| t.event(&a.grant_label("boris")).set("digest", other_hash());
        "for other obligations" => "approval-digest", |t, a, d| t.event(&a.grant_label("boris")).set("obligations", other_hash());
        "for another request" => "approval-unknown", |t, a, d| {
            let waiting = t.asks.iter().find(|ask| ask.fate == "waiting").unwrap().trace();
            t.event(&a.grant_label("boris")).set("request", hash(waiting))
        };
        "signed by another hand" => "approval-signature", |t, a, d| answer_again(t, a, "anna", "carol", &[]);
        "a longer time than signed" => "approval-claims", |t, a, d| t.event(&a.grant_label("anna")).set("not_after", J::Int(START + 9999));
        "an earlier time than signed" => "approval-claims", |t, a, d| t.event(&a.grant_label("anna")).set("not_before", J::Int(START - 9));
        "a no that became a yes" => "approval-claims", |t, a, d| answer_again(t, a, "anna", "anna", &[("decision", json!("deny"))]);
        "another reason than signed" => "approval-claims", |t, a, d| answer_again(t, a, "anna", "anna", &[("reason", json!("0".repeat(64)))]);
        "signed for another request" => "approval-claims", |t, a, d| answer_again(t, a, "anna", "anna", &[("request", json!("0".repeat(64)))]);
        "for years" => "approval-claims", |t, a, d| {
            answer_again(t, a, "anna", "anna", &[("exp", json!(START + 400 * 86_400))]);
            t.event(&a.grant_label("anna")).set("not_after", J::Int(START + 400 * 86_400))
        };
        "an approval under another name" => "approval-claims", |t, a, d| {
            t.event(&a.grant_label("anna")).trace = [5; 32];
            t.event(&a.label("used-anna")).set("approval", hash([5; 32]))
        };
        "signed in the future" => "approval-time", |t, a, d| t.event(&a.grant_label("anna")).set("signed_at", J::Int(START + 5000));
        "granted when its time was over" => "approval-time", |t, a, d| t.event(&a.grant_label("anna")).after = 7300;
        "used when its time was over" => "approval-time", |t, a, d| t.event(&a.label("used-anna")).after = 7300;
        "used before its time" => "approval-time", |t, a, d| t.event(&a.grant_label("anna")).set("not_before", J::Int(START + 5000));
        "delivered when its time was over" => "approval-time", |t, a, d| t.event(&a.label("intended-1")).after = 7300;
        "answered too late" => "approval-time", |t, a, d| t.event(&a.label("asked")).set("not_after", J::Int(START - 100));
        "taken back before it was used" => "approval-revoked", |t, a, d| t.before(&a.label("used-anna"), [a.taken_back("anna", "anna")]);
        "taken back before delivery" => "approval-revoked", |t, a, d| t.before(&a.label("intended-1"), [a.taken_back("boris", "petra")]);
        "at another entry" => "approval-unknown", |t, a, d| t.event(&a.label("used-anna")).set("index", J::Int(2));
        "with another leaf" => "approval-unknown", |t, a, d| t.event(&a.label("used-anna")).set("leaf", other_hash());
        "of a trace that does not exist" => "approval-unknown", |t, a, d| t.event(&a.label("used-anna")).set("approval", other_hash());
        "used before it was given" => "approval-unknown", |t, a, d| {
            let used = t.remove(&a.label("used-anna"));
            t.before(&a.grant_label("anna"), [used])
        };
        "approved although somebody said no" => "approval-denied", |t, a, d| t.before(&a.label("used-anna"), [a.answered("deny", "petra", &["privacy"])]);
        "given when it was over" => "approval-not-waiting", |t, a, d| t.events.push(a.answered("grant", "petra", &["privacy"]));
        "more columns in the end" => "approval-missing", |t, a, d| {
            set_column(t.event(&a.label("settled")), 1, "rule", text("clear"));
            t.event(&a.label("settled")).set("obligations", other_hash())
        };
    }
    "refused" {
        "delivered although refused" => "trace-closed", |t, a, d| t.events.push(a.queried(1));
        "taken on although refused" => "approval-denied", |t, a, d| {
            t.remove(&a.label("end"));
            let event = a.answered("grant", "petra", &["privacy"]);
            t.events.extend([event, a.used("petra")])
        };
        "a refusal for nobody" => "approval-group", |t, a, d| t.event(&a.label(&format!("denied-{}", giver(a.groups[0])))).set("groups", J::List(vec![]));
        "a refusal by the requester" => "approval-self", |t, a, d| {
            t.event(a.caller).set("groups", texts(&["privacy", "stewards"]));
            let at = t.at(&a.label(&format!("denied-{}", giver(a.groups[0]))));
            t.events[at] = a.answered("deny", a.caller, &[a.groups[0]])
        };
    }
    "taken-back" {
        "taken back by a stranger" => "approval-revoker", |t, a, d| {
            let label = a.label(&format!("revoked-{}", giver(a.groups[0])));
            let at = t.at(&label);
            t.events[at] = a.taken_back(giver(a.groups[0]), "carol")
        };
        "taken back by another hand" => "approval-signature", |t, a, d| {
            let by = giver(a.groups[0]);
            let forged = a.answer(by, "carol", "revoke", &[]);
            t.event(&a.label(&format!("revoked-{by}"))).set("token", J::Commit("approval", forged.into_bytes()))
        };
        "used although taken back" => "approval-revoked", |t, a, d| {
            t.before(&a.label("end"), [a.used(giver(a.groups[0]))])
        };
        "taken back twice" => "trace-closed", |t, a, d| t.events.push(a.taken_back(giver(a.groups[0]), giver(a.groups[0])));
    }
    "waiting" {
        "fetched without waiting" => "story-order", |t, a, d| t.events.push(a.queried(1));
        "asked twice" => "story-order", |t, a, d| t.events.push(a.asked());
        "an answer that comes too late" => "approval-time", |t, a, d| {
            let mut late = a.answered("deny", giver(a.groups[0]), &[a.groups[0]]);
            late.after = 3 * 86_400;
            t.events.push(late)
        };
    }
}
