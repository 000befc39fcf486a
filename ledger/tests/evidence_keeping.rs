//! The rules of what keeps the ledger itself: keys that follow each other, payloads that are purged, held and read.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use countersign_ledger::{
    evidence::{
        Class, Commitment, Day, Int, Step, TraceId, TraceState, rotation,
        step::{LogCreated, PayloadHeld, PayloadPurged, PayloadRead, PayloadReleased, ReadFor},
    },
    tlog::{Hash, SignerKey, TreeSize},
};

const ORIGIN: &str = "ledger.example/one";
const HOLD: &str = "00112233445566ff";
const READ: &str = "00112233445566778899aabbccddeeff";

fn key(n: u8) -> SignerKey {
    SignerKey::generate_from_seed(ORIGIN, &[n; 32]).unwrap()
}

fn created() -> Step {
    LogCreated { origin: ORIGIN.into(), key: key(1).verifier().to_string(), quorum: Int::ONE, continues: None }.into()
}

fn rotated(old: u8, new: u8, size: u64) -> Step {
    rotation::rotate(&key(old), &key(new), TreeSize::new(size)).into()
}

fn day() -> Day {
    "2026-02-28".parse().unwrap()
}

fn purged() -> PayloadPurged {
    let zero = Int::ZERO;
    PayloadPurged { class: Class::Query, day: day(), payloads: zero, bytes: zero, kept: zero, after_days: Int::ONE }
}

fn reason() -> Commitment {
    Commitment::to(Class::Admin, &[1; 32], b"a lawsuit")
}

fn held(traces: &[u8]) -> PayloadHeld {
    let traces = traces.iter().map(|n| TraceId(Hash::from_bytes([*n; 32]))).collect();
    PayloadHeld { hold: HOLD.into(), traces, reason: reason() }
}

fn released() -> PayloadReleased {
    PayloadReleased { hold: HOLD.into(), reason: reason() }
}

fn read(classes: &[Class]) -> PayloadRead {
    let (by, of, payloads) = (Some("id-0011223344556677".into()), None, Int::ONE);
    PayloadRead { read: READ.into(), by, why: ReadFor::Approval, of, classes: classes.to_vec(), payloads }
}

/// What the last of these steps comes to, the ones before it being good.
fn check(trace: TraceId, steps: &[Step], expect: Result<(), &str>) {
    let mut state = TraceState::default();
    let (last, before) = steps.split_last().unwrap();
    before.iter().for_each(|step| state.apply(trace, step).unwrap());
    let standing = state.clone();
    let result = state.apply(trace, last).map_err(|e| e.to_string());
    if result.is_err() {
        assert_eq!(state, standing, "what was refused has left something behind");
    }
    match (expect, result) {
        (Ok(()), result) => assert_eq!(result, Ok(())),
        (Err(expect), Err(error)) => assert!(error.contains(expect), "{error}, expected {expect}"),
        (Err(expect), Ok(())) => panic!("{last:?} was accepted, expected {expect}"),
    }
}

#[test]
fn keys_follow_each_other_in_the_logs_trace() {
    let log = TraceId::log();
    check(log, &[created(), rotated(1, 2, 7)], Ok(()));
    check(log, &[created(), rotated(1, 2, 7), rotated(2, 3, 9)], Ok(()));
    check(log, &[created(), rotated(1, 2, 7), rotated(1, 3, 9)], Err("the old key"));
    check(log, &[created(), rotated(2, 3, 7)], Err("the old key"));
    check(log, &[rotated(1, 2, 7)], Err("may not follow"));
    check(log, &[created(), rotated(1, 1, 7)], Err("was in use before"));
    check(TraceId::policy(), &[created()], Err("is not its name"));
}

#[test]
fn payloads_are_purged_under_the_name_of_their_class_and_day() {
    let trace = TraceId::payloads(Class::Query, day());
    check(trace, &[purged().into()], Ok(()));
    check(trace, &[purged().into(), purged().into()], Ok(()));
    check(trace, &[PayloadPurged { class: Class::Detail, ..purged() }.into()], Err("is not its name"));
    let other = PayloadPurged { day: Day::from_number(0), ..purged() };
    check(trace, &[purged().into(), other.into()], Err("is not its name"));
}

#[test]
fn a_hold_lasts_until_it_is_released() {
    let trace = TraceId::hold(HOLD);
    check(trace, &[held(&[1, 2]).into(), released().into()], Ok(()));
    check(trace, &[held(&[1, 2]).into(), released().into(), released().into()], Err("may not follow"));
    check(trace, &[released().into()], Err("may not follow"));
    check(trace, &[held(&[2, 1]).into()], Err("one or more, sorted"));
    check(trace, &[held(&[1, 1]).into()], Err("one or more, sorted"));
    check(trace, &[held(&[]).into()], Err("one or more, sorted"));
    check(trace, &[PayloadHeld { hold: "A person".into(), ..held(&[1]) }.into()], Err("hexadecimal digits"));
    check(TraceId::log(), &[held(&[1]).into()], Err("is not its name"));
}

#[test]
fn a_reading_is_a_trace_of_its_own() {
    let trace = TraceId::read(READ);
    check(trace, &[read(&[Class::Query, Class::Request]).into()], Ok(()));
    check(trace, &[read(&[Class::Query]).into(), read(&[Class::Query]).into()], Err("may not follow"));
    check(trace, &[read(&[Class::Request, Class::Query]).into()], Err("one or more, sorted"));
    check(trace, &[read(&[]).into()], Err("one or more, sorted"));
    check(trace, &[PayloadRead { read: HOLD.into(), ..read(&[Class::Query]) }.into()], Err("hexadecimal digits"));
}
