//! Witnesses: each published checkpoint is posted to the witnesses of a `tlog-policy` file, and what they answer is kept with it. They
//! hold nothing up, unless the configuration says so: appends go on, and what was published meanwhile is covered by the next
//! cosignature, since each one is for a tree that holds all before it.
//!
//! What to post and what an answer means is [`tlog::witness`](countersign_ledger::tlog::witness)'s affair; here is the I/O. A thread for
//! each witness, so that one that hangs holds up no other.

use crate::client::http_agent;
use crate::config::Config;
use crate::pipeline::{Core, Drain};
use anyhow::{Context, bail};
use countersign_ledger::store::{Ledger, StoreError};
use countersign_ledger::tlog::{
    Note, Policy, PolicyWitness, SignedCheckpoint, TreeSize, cosignatures,
    witness::{ANSWER_BYTES_MAX, AddCheckpoint, Answer, Next, Outcome, Trouble, Witness},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a witness may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often it is looked whether something new was published.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// So many published checkpoints are looked through for the last one that was cosigned. At one a second, a week.
const LOOK_BACK: usize = 7 * 86_400;

/// What the witnesses have said so far.
pub struct Witnesses {
    policy: Option<Policy>,
    /// After how long without a quorum appends wait; for ever where it is not set.
    patience: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last published checkpoint that reached the quorum.
    cosigned: Option<Arc<SignedCheckpoint>>,
    /// A published size that has not, and since when it is waited for.
    waits: Option<(TreeSize, Instant)>,
    /// The troubles of the witnesses that have any, by their names in the policy.
    troubles: std::collections::BTreeMap<String, Trouble>,
}

impl State {
    /// Waits for what is published to be cosigned. What was waited for before is waited for to its end: on a busy ledger something newer
    /// is published always, and only what stays without a quorum counts as late.
    fn wait_for(&mut self, published: TreeSize, now: Instant) {
        let cosigned = self.cosigned.as_ref().map(|signed| signed.checkpoint().size);
        let lacks = |size: TreeSize| cosigned.is_none_or(|cosigned| cosigned < size);
        if !self.waits.is_some_and(|(size, _)| lacks(size)) {
            self.waits = lacks(published).then_some((published, now));
        }
    }
}

/// How the witnesses stand, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Witnesses in the policy.
    pub witnesses: usize,
    /// Those that are in trouble.
    pub missing: usize,
    /// Those that have seen another history: somebody must look.
    pub alarms: usize,
    /// The size that the quorum has cosigned last.
    pub cosigned_size: u64,
    /// For how long something published has not reached the quorum, in seconds.
    pub unwitnessed_seconds: u64,
}

/// Reads the policy file that the configuration names, if it names one.
pub fn policy(config: &Config) -> anyhow::Result<Option<Policy>> {
    let Some(path) = &config.witness.policy else { return Ok(None) };
    let text = std::fs::read(path).with_context(|| format!("cannot read the policy `{}`", path.display()))?;
    let policy = Policy::decode(&text).with_context(|| format!("`{}`", path.display()))?;
    for witness in policy.witnesses() {
        match witness.url.as_deref() {
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => (),
            Some(url) => bail!("`{}`: witness `{}`: `{url}` is no HTTP address", path.display(), witness.name),
            None => bail!("`{}`: witness `{}` has no address to post to", path.display(), witness.name),
        }
    }
    Ok(Some(policy))
}

/// The last published checkpoint that reached the policy's quorum.
pub fn cosigned(ledger: &Ledger, policy: &Policy) -> Result<Option<SignedCheckpoint>, StoreError> {
    ledger.cosigned(LOOK_BACK, |signed| policy.witnessed(signed).is_ok_and(|witnessed| witnessed.quorum))
}

impl Witnesses {
    /// Reads the policy, and from the ledger how far its witnesses are.
    pub fn load(config: &Config, ledger: &Ledger) -> anyhow::Result<Self> {
        let policy = policy(config)?;
        let patience = config.witness.appends_wait_after_seconds.map(Duration::from_secs);
        if patience.is_some() && policy.is_none() {
            bail!("`witness.appends_wait_after_seconds` needs a `witness.policy`");
        }
        let cosigned = match &policy {
            Some(policy) => cosigned(ledger, policy)?.map(Arc::new),
            None => None,
        };
        let state = State { cosigned, ..State::default() };
        Ok(Self { policy, patience, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole values only, so what a thread left behind while it panicked is still right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checkpoint to show: the last one that reached the quorum; where there is none, or no policy, the last published one.
    pub fn checkpoint(&self, ledger: &Ledger) -> Arc<SignedCheckpoint> {
        self.lock().cosigned.clone().unwrap_or_else(|| ledger.checkpoint())
    }

    /// How they stand.
    pub fn standing(&self) -> Standing {
        let state = self.lock();
        Standing {
            witnesses: self.policy.as_ref().map_or(0, |policy| policy.witnesses().count()),
            missing: state.troubles.len(),
            alarms: state.troubles.values().filter(|trouble| trouble.is_alarm()).count(),
            cosigned_size: state.cosigned.as_ref().map_or(0, |signed| signed.checkpoint().size.get()),
            unwitnessed_seconds: state.waits.map_or(0, |(_, since)| since.elapsed().as_secs()),
        }
    }

    /// Takes note of a checkpoint with a new cosignature.
    fn heard(&self, policy: &Policy, signed: Arc<SignedCheckpoint>) {
        if !policy.witnessed(&signed).is_ok_and(|witnessed| witnessed.quorum) {
            return;
        }
        let mut state = self.lock();
        let known = state.cosigned.as_ref().map_or(TreeSize::new(0), |known| known.checkpoint().size);
        if known <= signed.checkpoint().size {
            state.cosigned = Some(signed);
        }
    }

    /// Keeps time of what is published and not cosigned, and has appends wait where that takes too long.
    pub fn watch(&self, core: &Core) {
        let Some(policy) = &self.policy else { return };
        while !core.drain.is_on() {
            let published = core.ledger.checkpoint();
            let size = published.checkpoint().size;
            // A quorum that asks for no witness is reached by whatever is published.
            self.heard(policy, published);
            let late = {
                let mut state = self.lock();
                state.wait_for(size, Instant::now());
                let since = state.waits.map(|(_, since)| since);
                since.zip(self.patience).filter(|(since, patience)| since.elapsed() >= *patience)
            };
            core.ledger.pause(
                late.map(|(_, patience)| {
                    format!("witnesses have not reached their quorum for {} s", patience.as_secs())
                }),
            );
            core.drain.sleep(LOOK_EVERY);
        }
    }
}

/// What a thread of the service does.
pub type Run = Box<dyn FnOnce(&Core) + Send>;

/// The threads that witnessing needs, by name: one for each witness, and one that keeps time.
pub fn threads(core: &Core) -> Vec<(String, Run)> {
    let Some(policy) = core.witnesses.policy.clone() else { return Vec::new() };
    let mut threads: Vec<(String, Run)> = Vec::new();
    threads.push(("witnesses".into(), Box::new(|core: &Core| core.witnesses.watch(core))));
    for (n, witness) in policy.witnesses().cloned().enumerate() {
        let policy = policy.clone();
        threads.push((format!("witness-{n}"), Box::new(move |core: &Core| post(core, &policy, &witness))));
    }
    threads
}

/// Posts to one witness what is published, until the service stops.
fn post(core: &Core, policy: &Policy, known: &PolicyWitness) {
    let Some(url) = &known.url else { return };
    let url = format!("{}/add-checkpoint", url.trim_end_matches('/'));
    let began = Instant::now();
    let clock = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let agent = http_agent(PATIENCE);
    let mut witness = Witness::new(known.key.clone(), held(&core.ledger, known));
    while !core.drain.is_on() {
        let published = core.ledger.checkpoint();
        let size = published.checkpoint().size;
        match witness.next(size, clock()) {
            Next::Nothing => core.drain.sleep(LOOK_EVERY),
            Next::At(time) => sleep_until(&core.drain, time.saturating_sub(clock())),
            Next::Post { old } => {
                let text = published.checkpoint().to_string();
                let answer = match core.ledger.consistency(old, size) {
                    // The protocol has no proof from nothing, nor from a size to itself.
                    Ok(proof) => {
                        let checkpoint = core.ledger.checkpoint_at(size.get()).ok().flatten();
                        let checkpoint =
                            checkpoint.map_or_else(|| published.note().to_vec(), |note| own_lines(core, &note));
                        send(&agent, &url, &AddCheckpoint { old, proof, checkpoint }.encode())
                    }
                    Err(e) => Answer::None(e.to_string()),
                };
                let now_published = core.ledger.checkpoint().checkpoint().size;
                match witness.answered((&text, old, size), answer, now_published, clock()) {
                    Outcome::Cosigned(by) => match core.ledger.add_cosignature(size, &by.line) {
                        Ok(signed) => core.witnesses.heard(policy, signed),
                        Err(error) => tracing::error!(witness = known.name, %error, "a cosignature could not be kept"),
                    },
                    Outcome::Again => (),
                    Outcome::Trouble(trouble) if trouble.is_alarm() => {
                        tracing::error!(witness = known.name, %trouble, "a witness has seen another history of this log");
                    }
                    Outcome::Trouble(trouble) => tracing::warn!(witness = known.name, %trouble, "no cosignature"),
                }
                let mut state = core.witnesses.lock();
                match witness.trouble() {
                    Some(trouble) => state.troubles.insert(known.name.clone(), trouble.clone()),
                    None => state.troubles.remove(&known.name),
                };
            }
        }
    }
}

/// The note with the log's own signatures alone: what others have said of it is not the witness's affair.
fn own_lines(core: &Core, note: &[u8]) -> Vec<u8> {
    let Ok(mut parsed) = Note::parse(note) else { return note.to_vec() };
    let keys: Vec<_> = core.ledger.epochs().iter().map(|epoch| (epoch.key.name().to_owned(), epoch.key.id())).collect();
    parsed.signatures.retain(|line| keys.contains(&(line.name.clone(), line.id)));
    parsed.encode().unwrap_or_else(|_| note.to_vec())
}

/// The largest size of which the ledger holds this witness's cosignature.
fn held(ledger: &Ledger, known: &PolicyWitness) -> TreeSize {
    let by = std::slice::from_ref(&known.key);
    let has = |signed: &SignedCheckpoint| {
        Note::parse(signed.note()).is_ok_and(|note| cosignatures(&note, by).is_ok_and(|found| !found.is_empty()))
    };
    match ledger.cosigned(LOOK_BACK, has) {
        Ok(found) => found.map_or(TreeSize::new(0), |signed| signed.checkpoint().size),
        Err(error) => {
            tracing::warn!(witness = known.name, %error, "what it has cosigned could not be read");
            TreeSize::new(0)
        }
    }
}

fn sleep_until(drain: &Drain, millis: u64) {
    drain.sleep(Duration::from_millis(millis));
}

fn send(agent: &ureq::Agent, url: &str, body: &[u8]) -> Answer {
    let answered = agent.post(url).header("content-type", "text/plain; charset=utf-8").send(body);
    let read = answered.and_then(|mut response| {
        let status = response.status().as_u16();
        let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX);
        Ok((status, response.body_mut().with_config().limit(limit).read_to_vec()?))
    });
    match read {
        Ok((status, body)) => Answer::read(status, &body),
        Err(e) => Answer::None(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_ledger::tlog::{Checkpoint, Hash, SignerKey};

    #[test]
    fn what_is_cosigned_in_time_is_not_late_however_much_follows() {
        let key = SignerKey::generate_from_seed("ledger.example/one", &[1; 32]).unwrap();
        let cosigned = |size: u64| {
            let root = Hash::from_bytes([1; 32]);
            let checkpoint = Checkpoint { origin: key.name().into(), size: TreeSize::new(size), root };
            Some(Arc::new(SignedCheckpoint::sign(checkpoint, &[&key]).unwrap()))
        };
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut state = State::default();
        // Published each second, cosigned two seconds later: the newest one is never cosigned yet.
        for second in 1..60u64 {
            state.cosigned = second.checked_sub(2).filter(|size| *size > 0).and_then(cosigned);
            state.wait_for(TreeSize::new(second), at(second));
            let (_, since) = state.waits.unwrap();
            assert!(at(second).duration_since(since) <= Duration::from_secs(2), "second {second}");
        }
        let (size, since) = state.waits.unwrap();
        state.wait_for(TreeSize::new(90), at(90));
        assert_eq!(state.waits, Some((size, since)), "nothing is cosigned any more");
        state.cosigned = cosigned(90);
        state.wait_for(TreeSize::new(90), at(91));
        assert_eq!(state.waits, None);
    }
}
