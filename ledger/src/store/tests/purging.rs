//! Retention: what is due is destroyed everywhere and the disk gets its room back, what is held or unfinished stays, and the log is as
//! good as before.

use super::*;
use crate::{
    evidence::{
        Day,
        step::{
            ApprovalGranted, ApprovalRequested, ApprovalUsed, DecidedColumn, PolicyDecided, ReadFor, RequestFailed,
            Verdict,
        },
    },
    store::{
        db::{Db, Family},
        shared::lock,
    },
    tlog::TreeSize,
    vault::{KeyId, VaultError},
};
use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

pub(super) fn day_in(days: u32) -> Day {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Day::from_number(Day::of_unix_seconds(seconds).number() + days)
}

pub(super) fn kept_for(days: u64) -> Periods {
    let mut periods = Periods::default();
    [Class::Request, Class::Query].iter().for_each(|class| periods.set(*class, days).unwrap());
    periods
}

/// A request of these bytes that was denied at once.
pub(super) fn request(ledger: &Ledger, n: u64, bytes: &[u8]) -> Payload {
    let payload = Payload::new(Class::Request, bytes);
    let mut opening = received(n);
    let Step::RequestReceived(step) = &mut opening.steps[0] else { panic!("another step") };
    step.request = payload.commitment();
    let steps = [opening.steps, vec![verified(), denied()]].concat();
    ledger.append(Append { steps, payloads: vec![payload.clone()], ..opening }).unwrap();
    payload
}

/// Whether any file below the folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|file| {
        let path = file.unwrap().path();
        match path.is_dir() {
            true => holds(&path, bytes),
            false => fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes),
        }
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn steps(ledger: &Ledger, kind: &str) -> Vec<Step> {
    let entries = (0..ledger.size().get()).map(|index| ledger.entry(index).unwrap().unwrap().body);
    entries.filter(|step| step.kind() == kind).collect()
}

#[test]
fn what_is_due_is_gone_from_disk_keys_and_backups_and_the_log_stands() {
    let place = Place::new();
    let ledger = place.create();
    // Random bytes as text, so that neither compression nor chance plays a part.
    let content = |n: u64| -> Vec<u8> {
        (0..500).flat_map(|i| leaf_hash(format!("{n}/{i}").as_bytes()).to_string().into_bytes()).collect()
    };
    let payloads: Vec<_> = (0..60).map(|n| request(&ledger, n, &content(n))).collect();
    let trace = request_trace(1_000);
    ledger.append(received(1_000)).unwrap();
    let before = ledger.wait_published().unwrap();
    let receipt = ledger.receipt_at(5, None).unwrap();
    ledger.shared().db.flush().unwrap();
    copy(&place.path("db"), &place.path("backup"));
    let key = KeyId::of_day(Class::Request, day_in(0));
    let data_key = *ledger.shared().vault.keyring().key_for_opening(key).unwrap().unwrap().bytes();

    // Not a day too early.
    let early = ledger.purge(&kept_for(30), day_in(30)).unwrap();
    assert_eq!((early.purged.len(), early.kept), (0, 0));
    assert_eq!(ledger.payload(&payloads[0].commitment()).unwrap().as_ref(), Some(&payloads[0]));

    let report = ledger.purge(&kept_for(30), day_in(31)).unwrap();
    let [purged] = &report.purged[..] else { panic!("{report:?}") };
    assert_eq!((purged.class, purged.day, purged.payloads, purged.kept), (Class::Request, day_in(0), 60, 1));
    let back = report.bytes_before - report.bytes_after;
    assert!(back * 100 >= purged.bytes * 95, "{back} of {} bytes came back", purged.bytes);
    assert!(purged.bytes >= 60 * 32_000);

    // Gone from here: plaintext was never on the disk, salt and key are not either.
    for payload in &payloads {
        assert_eq!(ledger.payload(&payload.commitment()).unwrap(), None);
        assert!(!holds(place.dir.path(), &payload.bytes[..64]) && !holds(place.dir.path(), &payload.salt));
    }
    assert!(!holds(place.dir.path(), &data_key));
    // The one whose request has no end yet stays.
    let unfinished = received(1_000).payloads.remove(0);
    assert_eq!(steps(&ledger, "request.received").len(), 61);
    let Step::RequestReceived(step) =
        &ledger.entry(ledger.trace(&trace).unwrap().unwrap().entries[0]).unwrap().unwrap().body
    else {
        panic!("another step")
    };
    assert_eq!(ledger.payload(&step.request).unwrap().unwrap().bytes, unfinished.bytes);

    // The log says so and is as good as before.
    let [Step::PayloadPurged(step)] = &steps(&ledger, "payload.purged")[..] else { panic!("no entry") };
    assert_eq!((step.payloads, step.kept, step.after_days), (int(60), int(1), int(30)));
    let found = receipt.verify(ORIGIN, &[ledger.verifier()]).unwrap();
    assert_eq!(found, *before.checkpoint());
    verify(&ledger);
    let again = ledger.purge(&kept_for(30), day_in(31)).unwrap();
    assert_eq!((again.purged.len(), again.kept), (0, 1));
    ledger.close();
    let ledger = place.open();
    assert_eq!(ledger.payload(&payloads[0].commitment()).unwrap(), None);
    verify(&ledger);
    ledger.close();
    judged::fsck("what_is_due_is_gone_from_disk_keys_and_backups_and_the_log_stands", &place);

    // A backup of the store from before has the records, and nobody has their key.
    fs::remove_dir_all(place.path("db")).unwrap();
    fs::rename(place.path("backup"), place.path("db")).unwrap();
    let backup = Ledger::open_reading(&place.options()).unwrap();
    for payload in &payloads {
        let error = backup.payload(&payload.commitment()).unwrap_err();
        assert!(matches!(error, StoreError::Vault(VaultError::NoKey(id)) if id == key), "{error}");
    }
}

#[test]
fn a_hold_keeps_what_it_names_until_it_is_released() {
    let place = Place::new();
    let ledger = place.create();
    let payloads: Vec<_> = (0..4).map(|n| request(&ledger, n, format!("request {n}").as_bytes())).collect();
    let there = |ledger: &Ledger| -> Vec<bool> {
        payloads.iter().map(|p| ledger.payload(&p.commitment()).unwrap().as_ref() == Some(p)).collect()
    };
    let error = ledger.hold(&[TraceId::policy()], "none").unwrap_err().to_string();
    assert!(error.starts_with("no trace `"), "{error}");
    let one = ledger.hold(&[request_trace(2), request_trace(1)], "a lawsuit").unwrap();
    let other = ledger.hold(&[request_trace(2)], "another one").unwrap();
    let names: Vec<_> = ledger.holds().unwrap().into_iter().map(|hold| (hold.name, hold.reason.unwrap())).collect();
    assert_eq!(names, [(one.clone(), "a lawsuit".to_owned()), (other.clone(), "another one".to_owned())]);

    let report = ledger.purge(&kept_for(1), day_in(2)).unwrap();
    assert_eq!((report.purged[0].payloads, report.kept), (2, 2));
    assert_eq!(there(&ledger), [false, true, true, false]);
    ledger.close();
    let ledger = place.open();
    assert_eq!(there(&ledger), [false, true, true, false]);

    ledger.release(&one, "settled").unwrap();
    assert!(ledger.release(&one, "again").unwrap_err().to_string().contains("no hold"));
    assert!(ledger.release("nothing", "again").unwrap_err().to_string().contains("no hold"));
    let report = ledger.purge(&kept_for(1), day_in(2)).unwrap();
    assert_eq!((report.purged[0].payloads, report.kept), (1, 1));
    assert_eq!(there(&ledger), [false, false, true, false]);
    // One key for what is left of the day.
    assert_eq!(
        ledger.shared().vault.keyring().keys().unwrap().iter().filter(|id| id.class == Class::Request).count(),
        1
    );

    ledger.release(&other, "settled").unwrap();
    ledger.purge(&kept_for(1), day_in(2)).unwrap();
    assert_eq!(there(&ledger), [false; 4]);
    assert!(ledger.shared().vault.keyring().keys().unwrap().iter().all(|id| id.class == Class::Admin));
    assert_eq!(steps(&ledger, "payload.purged").len(), 3);
    verify(&ledger);
}

/// Held while it waits for people: what they answer afterwards belongs to it as well.
#[test]
fn a_hold_keeps_the_approvals_that_came_after_it() {
    let place = Place::new();
    let ledger = place.create();
    let (zero, some) = (Hash::from_bytes([0; 32]), Commitment::to(Class::Query, &[1; 32], b""));
    let (trace, digest) = (request_trace(1), Hash::from_bytes([1; 32]));
    let text = |text: &str| Some(text.into());
    let column = DecidedColumn { column: "id".into(), class: "public".into(), rule: "clear".into(), paths: Vec::new() };
    let decided = PolicyDecided {
        verdict: Verdict::NeedsApproval,
        policies: vec!["p".into()],
        policy: zero,
        catalog: zero,
        time: Int::ONE,
        connection: text("shop"),
        table: text("people"),
        purpose: text("support"),
        columns: vec![column],
        approval: vec!["legal".into()],
        obligations: zero,
        document: some,
    };
    let asked =
        ApprovalRequested { groups: vec!["legal".into()], request: digest, obligations: zero, not_after: int(1 << 40) };
    let opening = received(1);
    let steps = [opening.steps, vec![verified(), decided.into(), asked.into()]].concat();
    ledger.append(Append { steps, ..opening }).unwrap();
    ledger.hold(&[trace], "a lawsuit").unwrap();
    let token = Payload::new(Class::Approval, "an answer");
    let granted = ApprovalGranted {
        request: trace,
        digest,
        obligations: zero,
        identity: "anna".into(),
        kid: "kid".into(),
        registered: Int::ZERO,
        groups: vec!["legal".into()],
        signed_at: Int::ONE,
        not_before: Int::ONE,
        not_after: int(1 << 40),
        reason: Commitment::to(Class::Approval, &[1; 32], b""),
        token: token.commitment(),
    };
    let approval = TraceId::approval("anna", "1");
    let append = Append::opening(approval, vec![granted.into()]);
    ledger.append(Append { payloads: vec![token.clone()], ..append }).unwrap();
    let granted = ledger.trace(&approval).unwrap().unwrap();
    let used = ApprovalUsed { approval, index: int(granted.entries[0]), leaf: granted.head };
    let failed = RequestFailed { reason: Reason::SourceUnavailable, detail: None };
    let head = ledger.trace(&trace).unwrap().unwrap().head;
    ledger.append(Append::following(trace, head, vec![used.into(), failed.into()])).unwrap();

    let mut periods = kept_for(1);
    periods.set(Class::Approval, 1).unwrap();
    let report = ledger.purge(&periods, day_in(2)).unwrap();
    assert_eq!((report.purged.len(), report.kept), (0, 2));
    assert_eq!(ledger.payload(&token.commitment()).unwrap().as_ref(), Some(&token));
    verify(&ledger);
}

/// A run that was broken off at any place is ended by the next one.
#[test]
fn a_purge_that_was_broken_off_is_ended_by_the_next() {
    for broken_off in ["before the keys were destroyed", "before the records were removed"] {
        let place = Place::new();
        let ledger = place.create();
        let payloads: Vec<_> = (0..3).map(|n| request(&ledger, n, b"request")).collect();
        ledger.hold(&[request_trace(1)], "a lawsuit").unwrap();
        ledger.close();
        copy(&place.path("db"), &place.path("before"));
        let keyring = place.path("keyring/request");
        copy(&keyring, &place.path("keys"));
        let master = fs::read(place.path("keyring/master.key")).unwrap();
        let ledger = place.open();
        ledger.purge(&kept_for(1), day_in(2)).unwrap();
        ledger.close();
        // The records, as they were; and the keys as well, or not.
        let new = Db::open(&place.path("db"), false).unwrap();
        let old = Db::open(&place.path("before"), false).unwrap();
        for payload in &payloads[..1] {
            let key = payload.commitment();
            let mut batch = new.batch();
            batch
                .put(Family::Payload, key.0.as_bytes(), &old.get(Family::Payload, key.0.as_bytes()).unwrap().unwrap())
                .unwrap();
            batch.write().unwrap();
        }
        drop((old, new));
        if broken_off == "before the keys were destroyed" {
            // The key of the day under the old master, and the next master not in its place yet.
            fs::rename(place.path("keyring/master.key"), place.path("keyring/master.key.next")).unwrap();
            fs::write(place.path("keyring/master.key"), &master).unwrap();
            fs::set_permissions(place.path("keyring/master.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
            for file in fs::read_dir(place.path("keys")).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), keyring.join(file.file_name())).unwrap();
            }
        }
        let ledger = place.open();
        let report = ledger.purge(&kept_for(1), day_in(2)).unwrap();
        assert_eq!((report.purged[0].payloads, report.kept), (1, 1), "{broken_off}");
        assert_eq!(ledger.payload(&payloads[0].commitment()).unwrap(), None);
        assert_eq!(ledger.payload(&payloads[1].commitment()).unwrap().as_ref(), Some(&payloads[1]));
        assert_eq!(fs::read_dir(&keyring).unwrap().count(), 1, "{broken_off}");
        verify(&ledger);
    }
}

#[test]
fn what_the_ledger_rests_on_has_no_period() {
    let check = |class, days, expect: &str| {
        let error = Periods::default().set(class, days).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(Class::Identity, 10, "who is who");
    check(Class::Admin, 10, "who is who");
    check(Class::Config, 10, "who is who");
    check(Class::Chunk, 10, "never kept");
    check(Class::Request, 0, "found 0 days, required at least 1");
}

#[test]
fn a_reading_is_noted_before_it_may_happen() {
    let place = Place::new();
    let ledger = place.create();
    let reading = Reading {
        by: None,
        why: ReadFor::Fault,
        of: None,
        classes: vec![Class::Request, Class::Admin, Class::Request],
        payloads: 3,
    };
    let noted = ledger.note_reading(reading.clone()).unwrap();
    ledger.note_reading(reading).unwrap();
    let Step::PayloadRead(step) = &noted.entry().body else { panic!("another step") };
    assert_eq!(step.classes, [Class::Admin, Class::Request]);
    assert_eq!(ledger.size(), TreeSize::new(3));
    assert!(lock(&ledger.shared().open).is_empty());
    verify(&ledger);
}
