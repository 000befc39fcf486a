//! Retention: payloads whose time is over are destroyed for good, and what a legal hold keeps is not.
//!
//! In order, so that it can be broken off anywhere and run again:
//!
//! 1. Whatever is due is counted: the records of a class and day that is older than the class is kept. Of these the ones stay whose
//!    trace is held, or tells a story without an end yet.
//! 2. `payload.purged` is appended for each class and day. From here on the ledger says that they are gone.
//! 3. What stays is sealed anew with a key of its own.
//! 4. The other keys are destroyed, and with them every copy of what they sealed, wherever it lies: in the database's logs and old
//!    tables, in backups, on blocks that a disk has moved. The keyring changes its master for that
//!    ([`keyring`](crate::vault::keyring)).
//! 5. The records are removed, and the tables rewritten, so that the disk gets its room back.
//!
//! A run that was broken off after 2 leaves records and keys that are due as before: the next run says so once more, and ends it.
//!
//! A key is shared by all payloads of its class and day: one person's payloads can't be destroyed apart from the others of that day.

use super::{
    append::Append,
    db::{Db, Family, number},
    error::StoreError,
    ledger::Ledger,
    sequencer::stored_leaf,
    shared::lock,
};
use crate::{
    evidence::{
        Class, Commitment, Day, Int, Step, TraceId,
        step::{PayloadHeld, PayloadPurged, PayloadReleased, ReadFor},
    },
    tlog::Hash,
    vault::{KeyId, Payload, fill_random},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

/// So many records are rewritten or removed in one batch.
const BATCH: usize = 1_000;

/// What somebody is about to read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The pseudonym of the one who reads; `None` for an operator on the machine itself.
    pub by: Option<String>,
    /// Why.
    pub why: ReadFor,
    /// The trace that the payloads belong to, where it is one.
    pub of: Option<TraceId>,
    /// Their classes.
    pub classes: Vec<Class>,
    /// How many they are.
    pub payloads: u64,
}

/// For how many days the payloads of each class are kept. A class without a period is kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Periods(BTreeMap<Class, u64>);

/// Why a period cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodsError {
    /// A class that the ledger itself rests on, or one that isn't kept.
    #[error("payloads of class `{0}` cannot have a period: {1}")]
    Class(Class, &'static str),
    /// No whole day.
    #[error("payloads of class `{0}`: found 0 days, required at least 1")]
    Days(Class),
}

impl Periods {
    /// Has the payloads of a class kept for so many days after that on which they were sealed.
    pub fn set(&mut self, class: Class, days: u64) -> Result<(), PeriodsError> {
        match class {
            Class::Identity | Class::Admin | Class::Config => {
                Err(PeriodsError::Class(class, "the service reads at its start who is who and what is in force"))
            }
            Class::Chunk | Class::Rejected => Err(PeriodsError::Class(class, "they are committed to and never kept")),
            _ if days == 0 => Err(PeriodsError::Days(class)),
            _ => {
                self.0.insert(class, days);
                Ok(())
            }
        }
    }

    /// For how many days a class is kept.
    pub fn days(&self, class: Class) -> Option<u64> {
        self.0.get(&class).copied()
    }

    /// Whether there is no period at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the time of the payloads of that class and day is over: at least one whole day lies in between.
    fn is_over(&self, class: Class, day: Day, today: Day) -> bool {
        self.days(class).and_then(|days| today.days_before(days)).is_some_and(|last| day < last)
    }
}

/// What became of the payloads of one class and day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// The class.
    pub class: Class,
    /// The day.
    pub day: Day,
    /// How many were destroyed.
    pub payloads: u64,
    /// What they took, in bytes.
    pub bytes: u64,
    /// How many were kept: held, or of a story without an end.
    pub kept: u64,
}

/// What a purge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// For each class and day of which something was destroyed.
    pub purged: Vec<Purged>,
    /// Payloads whose time is over and that were kept, of all classes and days.
    pub kept: u64,
    /// Bytes of the store's folder before.
    pub bytes_before: u64,
    /// Bytes of the store's folder after.
    pub bytes_after: u64,
}

/// A hold in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its name.
    pub name: String,
    /// The index of its `payload.held`.
    pub index: u64,
    /// The traces whose payloads it keeps.
    pub traces: Vec<TraceId>,
    /// Why, as far as the vault still says so.
    pub reason: Option<String>,
}

/// The records of one class and day whose time is over.
#[derive(Default)]
struct Due {
    gone: Vec<Commitment>,
    bytes: u64,
    kept: Vec<Commitment>,
    keys: BTreeSet<KeyId>,
}

/// Purges; see the module.
pub(super) fn purge(ledger: &Ledger, periods: &Periods, today: Day) -> Result<PurgeReport, StoreError> {
    let shared = ledger.shared();
    let _one_at_a_time = lock(&shared.purging);
    if let Some(reason) = ledger.read_only() {
        return Err(StoreError::ReadOnly(reason));
    }
    // Otherwise what lies in memory alone would count for nothing before, and for something after.
    shared.db.flush()?;
    let mut report = PurgeReport { bytes_before: folder_bytes(shared.db.path())?, ..PurgeReport::default() };
    let due = due(ledger, periods, today)?;
    let (mut doomed, mut removals) = (Vec::new(), Vec::new());
    for ((class, day), due) in due {
        report.kept += due.kept.len() as u64;
        if due.gone.is_empty() && !due.kept.is_empty() {
            continue;
        }
        let purged =
            Purged { class, day, payloads: due.gone.len() as u64, bytes: due.bytes, kept: due.kept.len() as u64 };
        if !due.gone.is_empty() {
            note(ledger, &purged, periods.days(class).unwrap_or_default())?;
            report.purged.push(purged);
        }
        seal_anew(ledger, &due.kept)?;
        doomed.extend(due.keys);
        removals.extend(due.gone);
    }
    if !doomed.is_empty() {
        shared.vault.keyring().destroy(&doomed)?;
    }
    for removals in removals.chunks(BATCH) {
        let mut batch = shared.db.batch();
        removals.iter().try_for_each(|commitment| batch.remove_payload(commitment))?;
        batch.write()?;
    }
    if !removals.is_empty() {
        shared.db.compact_payloads()?;
    }
    report.bytes_after = folder_bytes(shared.db.path())?;
    Ok(report)
}

/// Everything whose time is over, by class and day.
fn due(ledger: &Ledger, periods: &Periods, today: Day) -> Result<BTreeMap<(Class, Day), Due>, StoreError> {
    let shared = ledger.shared();
    let mut due: BTreeMap<(Class, Day), Due> = BTreeMap::new();
    for id in shared.vault.keyring().keys()? {
        if periods.is_over(id.class, id.day, today) {
            due.entry((id.class, id.day)).or_default().keys.insert(id);
        }
    }
    let stays = Stays::new(ledger)?;
    let mut known = HashMap::new();
    shared.db.each(Family::Payload, |key, record| {
        let (commitment, first, sealed) = read_record(key, record)?;
        let id = shared.vault.key_of(&commitment, sealed)?;
        if !periods.is_over(id.class, id.day, today) {
            return Ok(());
        }
        let trace = match known.get(&first) {
            Some(trace) => *trace,
            None => *known.entry(first).or_insert(stored_leaf(&shared.db, first)?.entry.trace),
        };
        let due = due.entry((id.class, id.day)).or_default();
        // What has no key any more can't be kept: it was purged, and its record is what a run that was broken off has left.
        if stays.contains(&trace) && due.keys.contains(&id) {
            due.kept.push(commitment);
        } else {
            due.gone.push(commitment);
            due.bytes += record.len() as u64;
        }
        Ok(())
    })?;
    Ok(due)
}

/// The traces whose payloads stay, whatever their age.
struct Stays(HashSet<TraceId>);

impl Stays {
    fn new(ledger: &Ledger) -> Result<Self, StoreError> {
        let held: Vec<_> = holds(ledger)?.into_iter().flat_map(|hold| hold.traces).collect();
        // Whoever waits for an answer, or is being answered, needs what he was asked.
        let open = ledger.open_traces().into_iter().map(|(trace, _)| trace);
        let mut traces = HashSet::new();
        // What is held may have come to rely on more approvals since.
        for trace in held.into_iter().chain(open) {
            traces.extend(approvals_of(&ledger.shared().db, ledger.trace(&trace)?.map(|head| head.entries))?);
            traces.insert(trace);
        }
        Ok(Self(traces))
    }

    fn contains(&self, trace: &TraceId) -> bool {
        self.0.contains(trace)
    }
}

/// The approvals that a trace relies on.
fn approvals_of(db: &Db, entries: Option<Vec<u64>>) -> Result<Vec<TraceId>, StoreError> {
    let mut approvals = Vec::new();
    for index in entries.unwrap_or_default() {
        if let Step::ApprovalUsed(step) = stored_leaf(db, index)?.entry.body {
            approvals.push(step.approval);
        }
    }
    Ok(approvals)
}

fn read_record<'a>(key: &[u8], record: &'a [u8]) -> Result<(Commitment, u64, &'a [u8]), StoreError> {
    let broken = || StoreError::Damaged("a record of `payload` is not one".into());
    let commitment = Commitment(Hash::try_from(key).map_err(|_| broken())?);
    let (first, sealed) = record.split_first_chunk::<8>().ok_or_else(broken)?;
    Ok((commitment, number(first).ok_or_else(broken)?, sealed))
}

/// Appends `payload.purged`.
fn note(ledger: &Ledger, purged: &Purged, days: u64) -> Result<(), StoreError> {
    let Purged { class, day, payloads, bytes, kept } = purged;
    let trace = TraceId::payloads(*class, *day);
    let step = PayloadPurged {
        class: *class,
        day: *day,
        payloads: Int::saturating(*payloads),
        bytes: Int::saturating(*bytes),
        kept: Int::saturating(*kept),
        after_days: Int::saturating(days),
    };
    let expected_head = ledger.trace(&trace)?.map(|head| head.head);
    ledger.append(Append { expected_head, ..Append::opening(trace, vec![step.into()]) })?;
    Ok(())
}

/// Seals what stays with a new key each for class and day, so that the keys it had can go.
fn seal_anew(ledger: &Ledger, kept: &[Commitment]) -> Result<(), StoreError> {
    let shared = ledger.shared();
    let mut part = [0; 8];
    fill_random(&mut part);
    // 0 is the day's own key.
    let part = u64::from_be_bytes(part).max(1);
    for kept in kept.chunks(BATCH) {
        let mut batch = shared.db.batch();
        for commitment in kept {
            let key = commitment.0.as_bytes();
            let Some(record) = shared.db.get(Family::Payload, key)? else { continue };
            let (_, first, sealed) = read_record(key, &record)?;
            let id = shared.vault.key_of(commitment, sealed)?;
            let payload = shared.vault.open(commitment, sealed)?;
            let sealed = shared.vault.seal_with(&payload, commitment, KeyId { part, ..id })?;
            batch.put(Family::Payload, key, &[first.to_be_bytes().as_slice(), &sealed].concat())?;
        }
        batch.write()?;
    }
    Ok(())
}

/// Appends a hold; gives its name.
pub(super) fn hold(ledger: &Ledger, traces: &[TraceId], reason: &str) -> Result<String, StoreError> {
    let shared = ledger.shared();
    let _not_while_purging = lock(&shared.purging);
    let mut held = BTreeSet::new();
    for trace in traces {
        let Some(head) = ledger.trace(trace)? else {
            return Err(StoreError::Hold(format!("no trace `{trace}` in the ledger")));
        };
        held.extend(approvals_of(&shared.db, Some(head.entries))?);
        held.insert(*trace);
    }
    let mut name = [0; 8];
    fill_random(&mut name);
    let hold = format!("{:016x}", u64::from_be_bytes(name));
    let reason = Payload::new(Class::Admin, reason);
    let step = PayloadHeld { hold: hold.clone(), traces: held.into_iter().collect(), reason: reason.commitment() };
    let append = Append::opening(TraceId::hold(&hold), vec![step.into()]);
    ledger.append(Append { payloads: vec![reason], ..append })?;
    Ok(hold)
}

/// Appends a hold's release.
pub(super) fn release(ledger: &Ledger, hold: &str, reason: &str) -> Result<(), StoreError> {
    let _not_while_purging = lock(&ledger.shared().purging);
    let trace = TraceId::hold(hold);
    let Some(head) = ledger.trace(&trace)?.filter(|head| head.entries.len() == 1) else {
        return Err(StoreError::Hold(format!("no hold `{hold}` is in force")));
    };
    let reason = Payload::new(Class::Admin, reason);
    let step = PayloadReleased { hold: hold.into(), reason: reason.commitment() };
    let append = Append::following(trace, head.head, vec![step.into()]);
    ledger.append(Append { payloads: vec![reason], ..append })?;
    Ok(())
}

/// The holds in force, oldest first.
pub(super) fn holds(ledger: &Ledger) -> Result<Vec<Hold>, StoreError> {
    let mut first = Vec::new();
    // A hold that is in force has one entry, one that is over has two.
    ledger.traces(|_, head| {
        if let [index] = head.entries[..]
            && head.state.phase == crate::evidence::Phase::Standing
        {
            first.push(index);
        }
    })?;
    first.sort_unstable();
    let mut holds = Vec::new();
    for index in first {
        if let Step::PayloadHeld(step) = stored_leaf(&ledger.shared().db, index)?.entry.body {
            let reason = ledger.payload(&step.reason)?.and_then(|reason| String::from_utf8(reason.bytes).ok());
            holds.push(Hold { name: step.hold, index, traces: step.traces, reason });
        }
    }
    Ok(holds)
}

/// The bytes of all files in a folder. One that goes while they are counted counts for nothing.
fn folder_bytes(folder: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder).map_err(StoreError::io("read", folder))? {
        let file = file.map_err(StoreError::io("read", folder))?;
        bytes += file.metadata().map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
    }
    Ok(bytes)
}
