//! Appending: what is accepted, what is refused and how, and that nothing is answered before it is there for good.

use super::*;
use crate::{
    evidence::Violation,
    store::shared::{Point, lock},
};
use std::{
    sync::mpsc::{channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

#[test]
fn what_was_appended_is_there_after_opening_again() {
    let place = Place::new();
    let ledger = place.create();
    let append = received(1);
    let commitment = append.payloads[0].commitment();
    let first = ledger.append(append.clone()).unwrap();
    let more = ledger.append(Append::following(append.trace, first.head(), vec![verified(), denied()])).unwrap();
    assert_eq!(more.entries.iter().map(|d| d.index().get()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(more.last().checkpoint().checkpoint().size.get(), 4);
    assert_eq!(ledger.trace(&append.trace).unwrap().unwrap().entries, [1, 2, 3]);
    assert_eq!(ledger.payload(&commitment).unwrap(), Some(append.payloads[0].clone()));
    assert_eq!(ledger.payload(&Commitment(leaf_hash(b"another"))).unwrap(), None);
    let before = verify(&ledger);
    assert_eq!(before[3], *more.last().entry());
    ledger.close();

    let ledger = place.open();
    assert_eq!((ledger.opening().epoch, ledger.opening().size, ledger.opening().checked), (2, 4, 4));
    assert_eq!((ledger.opening().repaired, ledger.read_only()), (None, None));
    assert_eq!(verify(&ledger), before);
    assert_eq!(ledger.payload(&commitment).unwrap(), Some(append.payloads[0].clone()));
    let again = ledger.append(rejected(1)).unwrap();
    let entry = again.last().entry();
    assert!(entry.src.ends_with("/2") && entry.seq == Int::ZERO, "{entry:?}");
    assert_eq!(entry.src.split('/').next(), before[0].src.split('/').next());
    verify(&ledger);
}

#[test]
fn a_new_ledger_begins_with_its_own_name_and_key() {
    let place = Place::new();
    let check = |first: Vec<Append>, expect: &str| {
        let error = Ledger::create(&place.options(), first).err().unwrap().to_string();
        assert!(error.contains(expect), "{error}");
        assert!(!place.path("db/CURRENT").exists() && !place.path("HEAD").exists(), "something is left after: {error}");
    };
    check(vec![], "found nothing");
    check(vec![rejected(1)], "found `request.rejected`");
    let with = |origin: &str, key: &str| {
        let step = LogCreated { origin: origin.into(), key: key.into(), quorum: Int::ONE, continues: None };
        vec![Append::opening(TraceId::log(), vec![step.into()])]
    };
    check(with("example.com/other", "x"), "found origin `example.com/other`, required `example.com/log`");
    check(with(ORIGIN, "x"), "found key `x`, required `example.com/log+");
    check(vec![created(), Append::opening(request_trace(1), vec![denied()])], "append 1 of a new ledger: step 0");
    let two = Ledger::create(&place.options(), vec![created(), rejected(1)]).unwrap();
    assert_eq!(two.checkpoint().checkpoint().size.get(), 2);
    assert_eq!(two.stats().groups, 1);
    verify(&two);
    drop(two);
    let check = |expect: &str| {
        let error = Ledger::create(&place.options(), vec![created()]).err().unwrap().to_string();
        assert!(error.contains(expect) && error.contains("exists already"), "{error}");
    };
    check("/db`");
    std::fs::rename(place.path("db"), place.path("elsewhere")).unwrap();
    check("/HEAD`");
}

#[test]
fn a_head_that_moved_refuses() {
    let place = Place::new();
    let ledger = place.create();
    let first = ledger.append(received(1)).unwrap();
    let check = |append: Append, found: Option<Hash>| match ledger.append(append.clone()).unwrap_err() {
        AppendError::HeadMoved { trace, expected, found: is } => {
            assert_eq!((trace, expected, is), (append.trace, append.expected_head, found));
        }
        e => panic!("{e}"),
    };
    check(received(1), Some(first.head()));
    check(Append::following(request_trace(1), leaf_hash(b"other"), vec![verified()]), Some(first.head()));
    check(Append::following(request_trace(2), first.head(), vec![verified()]), None);
    ledger.append(Append::following(request_trace(1), first.head(), vec![verified()])).unwrap();
    assert_eq!((ledger.size().get(), ledger.stats().refused), (3, 3));
    verify(&ledger);
}

#[test]
fn a_guard_that_moved_refuses() {
    let place = Place::new();
    let ledger = place.create();
    let guard = TraceId::connection("shop");
    let first = ledger.append(received(1)).unwrap().head();
    let append =
        |guards| ledger.append(Append { guards, ..Append::following(request_trace(1), first, vec![verified()]) });
    let moved = |result: Result<Appended, AppendError>| match result.unwrap_err() {
        AppendError::GuardMoved { trace, expected, found } => (trace, expected, found),
        e => panic!("{e}"),
    };
    assert_eq!(moved(append(vec![(guard, Some(first))])), (guard, Some(first), None));
    let opened = ledger.append(Append::opening(guard, vec![connection(1)])).unwrap().head();
    assert_eq!(moved(append(vec![(request_trace(1), Some(first)), (guard, None)])), (guard, None, Some(opened)));
    let changed = ledger.append(Append::following(guard, opened, vec![connection(2)])).unwrap().head();
    assert_eq!(moved(append(vec![(guard, Some(opened))])), (guard, Some(opened), Some(changed)));
    append(vec![(guard, Some(changed)), (request_trace(9), None)]).unwrap();
    verify(&ledger);
}

#[test]
fn equal_bytes_are_appended_once() {
    let place = Place::new();
    let ledger = place.create();
    let first = ledger.append(rejected(1)).unwrap();
    ledger.append(rejected(2)).unwrap();
    let same = |ledger: &Ledger| {
        let again = ledger.append(rejected(1)).unwrap();
        assert_eq!((again.last().index(), again.head()), (first.last().index(), first.head()));
        assert_eq!(again.last().bytes(), first.last().bytes());
        assert_eq!(again.last().checkpoint().checkpoint().size.get(), 3);
        ledger.receipt(again.last(), None).unwrap().verify(ORIGIN, &[ledger.verifier()]).unwrap();
        assert_eq!((ledger.size().get(), ledger.stats().repeated), (3, 1));
    };
    same(&ledger);
    ledger.close();
    same(&place.open());
}

#[test]
fn rules_and_sizes_are_kept() {
    let place = Place::new();
    let ledger = place.create();
    let Err(AppendError::Rule { step: 1, violation: Violation::Order { .. }, .. }) =
        ledger.append(Append { steps: [received(1).steps, vec![denied(), verified()]].concat(), ..received(1) })
    else {
        panic!("a denial before the caller is verified was accepted")
    };
    let Err(AppendError::Empty { .. }) = ledger.append(Append { steps: vec![], ..received(1) }) else { panic!() };
    let Step::RequestRejected(mut step) = rejected(1).steps.remove(0) else { panic!() };
    step.door = "x".repeat(60_000);
    let Err(AppendError::TooLarge { found: 60_000.., .. }) =
        ledger.append(Append { steps: vec![step.clone().into()], ..rejected(1) })
    else {
        panic!()
    };
    // Small enough without what the sequencer adds, too large with it.
    let empty = {
        step.door = String::new();
        step.clone()
    };
    let bare = Entry {
        trace: rejected(1).trace,
        step: Int::ZERO,
        prev: None,
        at: Int::ZERO,
        src: "".into(),
        seq: Int::ZERO,
        body: empty.into(),
    };
    step.door = "x".repeat(crate::evidence::MAX_ENTRY_BYTES - bare.encode().unwrap().len());
    let Err(AppendError::TooLarge { found: 60_001.., .. }) =
        ledger.append(Append { steps: vec![step.into()], ..rejected(1) })
    else {
        panic!()
    };
    let chunk = Payload::new(Class::Chunk, "rows");
    let Err(AppendError::Payload { .. }) = ledger.append(Append { payloads: vec![chunk], ..rejected(1) }) else {
        panic!()
    };
    assert_eq!(ledger.size().get(), 1);
    ledger.append(rejected(1)).unwrap();
    verify(&ledger);
}

#[test]
fn many_threads_one_order() {
    const THREADS: u64 = 16;
    const TRACES: u64 = 40;
    let place = Place::new();
    let ledger = place.create();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let ledger = &ledger;
            scope.spawn(move || {
                for n in 0..TRACES {
                    let n = thread * TRACES + n;
                    let first = ledger.append(received(n)).unwrap();
                    // Somebody else's trace: the head has moved, or it does not exist yet.
                    let other = Append::following(request_trace(n / 2), first.head(), vec![verified()]);
                    if n > 1 {
                        assert!(matches!(ledger.append(other), Err(AppendError::HeadMoved { .. })));
                    }
                    let next = Append::following(request_trace(n), first.head(), vec![verified(), denied()]);
                    let next = ledger.append(next).unwrap();
                    let last = ledger.receipt(next.last(), None).unwrap();
                    let checkpoint = last.verify(ORIGIN, &[ledger.verifier()]).unwrap();
                    assert_eq!(checkpoint, *next.last().checkpoint().checkpoint());
                    assert!(ledger.trace(&request_trace(n)).unwrap().unwrap().entries.len() == 3);
                }
            });
        }
    });
    let stats = ledger.stats();
    assert_eq!(stats.size, 1 + 3 * THREADS * TRACES);
    assert!(stats.groups < stats.size / 2, "{} groups for {} entries: nothing was grouped", stats.groups, stats.size);
    assert_eq!((stats.batch_sync.count, stats.head_sync.count), (stats.groups, stats.groups));
    assert_eq!((stats.queue, stats.open_traces, stats.refused), (0, 0, THREADS * TRACES - 2));
    verify(&ledger);
    ledger.close();
    verify(&place.open());
}

/// A ledger whose sequencer waits before each batch: the first function waits until it does, the second lets it go on. It waits
/// no more once the second is dropped.
fn held(place: &Place, queue: usize) -> (Ledger, impl Fn(), impl Fn()) {
    drop(place.create());
    let ledger = Ledger::open(&Options { queue, ..place.options() }).unwrap();
    let (arrived, arrives) = channel();
    let (go, gone) = sync_channel(0);
    *lock(&ledger.shared().fault) = Some(Box::new(move |point, _| {
        if point == Point::BeforeBatch {
            let _ = arrived.send(());
            let _ = gone.recv();
        }
        Ok(())
    }));
    (ledger, move || arrives.recv().unwrap(), move || go.send(()).unwrap())
}

#[test]
fn one_group_is_judged_in_order_and_refusals_disturb_nobody() {
    let place = Place::new();
    let (ledger, wait, go) = held(&place, 64);
    let (answer, answers) = channel();
    let append = |name: &'static str, append: Append| {
        let answer = answer.clone();
        ledger.append_with(append, move |result| answer.send((name, result.map(|a| a.last().index().get()))).unwrap());
    };
    append("alone", rejected(0));
    wait();
    // All of these wait while the first is written, and so become one group.
    append("first", rejected(1));
    append("opens", Append::opening(TraceId::connection("shop"), vec![connection(1)]));
    append("same", rejected(1));
    append("opens too", Append::opening(TraceId::connection("shop"), vec![connection(2)]));
    append("guarded", Append { guards: vec![(TraceId::connection("shop"), None)], ..rejected(2) });
    append("unruly", Append::opening(request_trace(1), vec![denied()]));
    append("last", rejected(3));
    assert_eq!(ledger.size().get(), 1, "shown before it was signed");
    go();
    wait();
    assert_eq!(ledger.size().get(), 2);
    go();
    let answers: Vec<_> = answers.iter().take(8).map(|(name, r)| (name, r.map_err(|e| e.to_string()))).collect();
    let expect = [
        ("alone", Ok(1)),
        ("first", Ok(2)),
        ("opens", Ok(3)),
        ("same", Ok(2)),
        ("opens too", Err("has moved")),
        ("guarded", Err("which this append relies on, has moved")),
        ("unruly", Err("may not follow")),
        ("last", Ok(4)),
    ];
    for ((name, found), (expected, result)) in answers.iter().zip(expect) {
        assert_eq!(*name, expected);
        match (found, result) {
            (Ok(found), Ok(index)) => assert_eq!(*found, index, "{name}"),
            (Err(found), Err(part)) => assert!(found.contains(part), "{name}: {found}"),
            _ => panic!("{name}: {found:?}"),
        }
    }
    assert_eq!(ledger.stats().last_group, 3);
    verify(&ledger);
}

#[test]
fn a_full_queue_says_so_and_a_blocking_append_waits() {
    let place = Place::new();
    let (ledger, wait, go) = held(&place, 2);
    let (answer, answers) = channel();
    let append = |n| {
        let answer = answer.clone();
        ledger.append_with(rejected(n), move |result| answer.send((n, result.map(|_| ()))).unwrap());
    };
    append(0);
    wait();
    append(1);
    append(2);
    append(3);
    let (n, result) = answers.recv().unwrap();
    assert!(n == 3 && matches!(result, Err(AppendError::Full(2))), "{n}: {result:?}");
    assert_eq!(ledger.stats().queue, 2);
    let blocking = {
        let ledger = ledger.clone();
        thread::spawn(move || ledger.append(rejected(4)).map(|a| a.last().index().get()))
    };
    thread::sleep(Duration::from_millis(50));
    assert!(!blocking.is_finished());
    go();
    drop(go);
    assert_eq!(blocking.join().unwrap().unwrap(), 4);
    let rest: Vec<_> = answers.iter().take(3).map(|(n, r)| (n, r.is_ok())).collect();
    assert_eq!(rest, [(0, true), (1, true), (2, true)]);
    verify(&ledger);
}

#[test]
fn a_closed_ledger_has_committed_what_waited_and_takes_no_more() {
    let place = Place::new();
    let ledger = place.create();
    let (answer, answers) = channel();
    for n in 0..100 {
        let answer = answer.clone();
        ledger.append_with(rejected(n), move |result| answer.send(result.is_ok()).unwrap());
    }
    let other = ledger.clone();
    ledger.close();
    assert!(answers.iter().take(100).all(|ok| ok));
    assert_eq!(other.checkpoint().checkpoint().size.get(), 101, "the last checkpoint was not published");
    let Err(AppendError::Stopped(reason)) = other.append(rejected(200)) else { panic!() };
    assert_eq!((reason.as_str(), other.fatal()), ("it was closed", None));
    verify(&other);
}

#[test]
fn an_answer_may_not_wait_for_itself_but_may_hold_the_last_handle() {
    let place = Place::new();
    let ledger = place.create();
    let (answer, answers) = channel();
    let inner = ledger.clone();
    ledger.append_with(rejected(1), move |_| {
        answer.send(matches!(inner.append(rejected(2)), Err(AppendError::FromAnswer))).unwrap();
        // `inner` is dropped here, maybe as the last one.
    });
    drop(ledger);
    assert!(answers.recv().unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(e) = Ledger::open(&place.options()) {
        assert!(matches!(e, StoreError::Locked(_)) && Instant::now() < deadline, "{e}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn checkpoints_are_published_once_a_second_and_kept() {
    let place = Place::new();
    let ledger = place.create();
    let started = Instant::now();
    for n in 0..20 {
        ledger.append(rejected(n)).unwrap();
    }
    let quick = started.elapsed() < Duration::from_millis(900);
    if quick {
        assert_eq!(ledger.checkpoint().checkpoint().size.get(), 1);
    }
    while ledger.checkpoint().checkpoint().size != ledger.size() {
        assert!(started.elapsed() < Duration::from_secs(20), "never published");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(started.elapsed() > Duration::from_millis(900));
    assert_eq!(ledger.checkpoint_at(21).unwrap().unwrap(), ledger.checkpoint().note());
    assert!(ledger.checkpoint_at(1).unwrap().is_some() && ledger.checkpoint_at(22).unwrap().is_none());
    let published = ledger.checkpoint();
    ledger.close();
    assert_eq!(*place.open().checkpoint(), *published);
}

#[test]
fn tiles_and_bundles_serve_every_width_from_one_copy() {
    let place = Place::new();
    let ledger = place.create();
    let mut append = vec![];
    for n in 0..299 {
        append.push(Append::opening(TraceId::rejected("chunk.requests", 0, n), rejected(n).steps));
    }
    let (answer, answers) = channel();
    for append in append {
        let answer = answer.clone();
        ledger.append_with(append, move |r| answer.send(r.is_ok()).unwrap());
    }
    assert!(answers.iter().take(299).all(|ok| ok));
    let full = ledger.tile(0, 0, None).unwrap().unwrap();
    assert_eq!(full.len(), 8192);
    for width in [1, 2, 255] {
        assert_eq!(ledger.tile(0, 0, Some(width)).unwrap().unwrap(), full[..usize::from(width) * 32]);
        let bundle = ledger.bundle(0, Some(width)).unwrap().unwrap();
        let entries = crate::tlog::decode_bundle(&bundle).unwrap();
        assert_eq!(entries.len(), usize::from(width));
        assert!(entries.iter().zip(full.as_chunks::<32>().0).all(|(e, h)| leaf_hash(e).as_bytes() == h));
    }
    assert_eq!(ledger.tile(0, 1, Some(44)).unwrap().unwrap().len(), 44 * 32);
    assert_eq!(ledger.tile(1, 0, Some(1)).unwrap().unwrap().len(), 32);
    assert!(ledger.bundle(1, Some(44)).unwrap().is_some());
    let none = [
        (0, 1, None),
        (0, 1, Some(45)),
        (0, 0, Some(0)),
        (0, 0, Some(257)),
        (1, 0, Some(2)),
        (9, 0, Some(1)),
        (255, 0, Some(1)),
        (0, u64::MAX, Some(1)),
    ];
    for (level, index, width) in none {
        assert_eq!(ledger.tile(level, index, width).unwrap(), None, "{level} {index} {width:?}");
        assert!(level != 0 || ledger.bundle(index, width).unwrap().is_none());
    }
    assert!(ledger.entry(300).unwrap().is_none() && ledger.entry_bytes(u64::MAX).unwrap().is_none());
    assert!(matches!(ledger.receipt_at(u64::MAX, None), Err(StoreError::NoEntry { .. })));
    verify(&ledger);
}

#[test]
fn an_append_after_its_deadline_is_refused() {
    let place = Place::new();
    let ledger = place.create();
    let now = sequencer::now_micros() / 1_000_000;
    let append = |n, deadline| ledger.append(Append { deadline: Some(deadline), ..rejected(n) });
    let Err(AppendError::Deadline { found, deadline, .. }) = append(1, now) else { panic!("accepted too late") };
    assert!(found >= now && deadline == now);
    let appended = append(1, now + 3_600).unwrap();
    assert!(appended.last().entry().at.get() / 1_000_000 < now + 3_600);
    // What stands already is in time for ever.
    assert_eq!(append(1, 0).unwrap().head(), appended.head());
    verify(&ledger);
}

#[test]
fn a_reader_sees_what_was_published_while_another_appends() {
    let place = Place::new();
    let ledger = place.create();
    let first = ledger.append(received(1)).unwrap();
    assert_eq!(ledger.wait_published().unwrap().checkpoint().size, ledger.size());
    let then = ledger.trace(&request_trace(1)).unwrap();
    // Signed and not published: the reader finds it in the store and must not show it.
    ledger.append(Append::following(request_trace(1), first.head(), vec![verified()])).unwrap();
    ledger.append(received(2)).unwrap();
    let reader = Ledger::open_reading(&place.options()).unwrap();
    let published = reader.size().get();
    if published == 2 {
        assert_eq!(reader.trace(&request_trace(1)).unwrap(), then);
        assert_eq!(reader.trace(&request_trace(2)).unwrap(), None);
    }
    let mut seen = 0;
    reader.traces(|_, head| seen += head.entries.len() as u64).unwrap();
    assert_eq!(seen, published);
    ledger.append(rejected(2)).unwrap();
    assert_eq!(ledger.wait_published().unwrap().checkpoint().size.get(), 5);
    assert_eq!((reader.size().get(), reader.checkpoint().checkpoint().size.get()), (published, published));
    assert!(matches!(reader.append(rejected(3)), Err(AppendError::ReadOnly(_))));
    assert!(reader.entry(published - 1).unwrap().is_some() && reader.entry(published).unwrap().is_none());
    assert_eq!(reader.export(&place.path("export"), &[]).unwrap().entries, published);
    verify(&ledger);
}
