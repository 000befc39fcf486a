//! Where appends wait, and where the two threads behind them meet: the sequencer, which judges appends and makes groups of them, and
//! the committer, which makes a group durable while the sequencer makes the next one.
//!
//! As many appends wait as may wait, those of the group that is being made among them; then callers wait, or are refused.

use super::{append::Prepared, commit::Group, sequencer::Reply, shared::lock};
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// So many appends wake the sequencer while a group is being committed.
const EAGER: usize = 64;

/// An append and who waits for its answer.
pub(super) type Waiting = (Box<Prepared>, Reply);

/// The queue; see the module.
pub(super) struct Queue {
    bound: usize,
    state: Mutex<State>,
    /// The sequencer waits here: for appends, for the committer, for the end.
    for_sequencer: Condvar,
    /// The committer waits here: for a group, for the end.
    for_committer: Condvar,
    /// Callers wait here for room.
    for_callers: Condvar,
}

#[derive(Default)]
struct State {
    appends: VecDeque<Waiting>,
    /// How many appends are in the group that is being made.
    gathered: usize,
    /// A group that the committer has not taken yet.
    group: Option<Group>,
    /// Whether a group is being committed.
    committing: bool,
    /// No more appends are taken: the ledger is being closed, or has stopped.
    closed: bool,
    /// No more groups come: the sequencer has ended.
    last: bool,
}

impl State {
    /// Whether the committer waits for a group.
    fn is_idle(&self) -> bool {
        !self.committing && self.group.is_none()
    }
}

/// What the sequencer has to do next.
pub(super) enum Task {
    /// Judge these, in order.
    Judge(VecDeque<Waiting>),
    /// Hand over the group that was gathered.
    HandOver,
    /// Nothing waits and nothing more comes.
    End,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            state: Mutex::default(),
            for_sequencer: Condvar::new(),
            for_committer: Condvar::new(),
            for_callers: Condvar::new(),
        }
    }

    /// How many appends wait.
    pub(super) fn len(&self) -> usize {
        let state = lock(&self.state);
        state.appends.len() + state.gathered
    }

    /// Adds an append, waiting for room. Given back where the ledger takes no more.
    pub(super) fn push(&self, append: Waiting) -> Result<(), Waiting> {
        let mut state = lock(&self.state);
        while !state.closed && state.appends.len() + state.gathered >= self.bound {
            state = wait(&self.for_callers, state);
        }
        self.add(state, append)
    }

    /// Adds an append where there is room. Where there is none, or the ledger takes no more, the answer that is owed comes back: with
    /// how many wait in the first case.
    pub(super) fn try_push(&self, append: Waiting) -> Result<(), (Reply, Option<usize>)> {
        let state = lock(&self.state);
        let waiting = state.appends.len() + state.gathered;
        if !state.closed && waiting >= self.bound {
            return Err((append.1, Some(waiting)));
        }
        self.add(state, append).map_err(|append| (append.1, None))
    }

    fn add(&self, mut state: MutexGuard<'_, State>, append: Waiting) -> Result<(), Waiting> {
        if state.closed {
            return Err(append);
        }
        state.appends.push_back(append);
        // While a group is being committed the next one is in no hurry: waking the sequencer for each append would cost more than
        // judging it. Its commit wakes it anyway.
        let waiting = state.appends.len();
        if waiting.is_multiple_of(EAGER) || (waiting == 1 && state.is_idle()) {
            self.for_sequencer.notify_one();
        }
        Ok(())
    }

    /// Takes no more appends. Those that wait are still committed.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.for_sequencer.notify_all();
        self.for_callers.notify_all();
    }

    /// The sequencer's next task, where so many appends are in its group, which is full or not. Takes at most `most` appends.
    pub(super) fn next(&self, gathered: usize, full: bool, most: usize) -> Task {
        let mut state = lock(&self.state);
        state.gathered = gathered;
        loop {
            if state.last {
                return Task::End;
            }
            let idle = state.is_idle();
            // What waits joins the group before it goes: a group of many costs its disk as little as a group of one.
            if gathered > 0 && idle && (full || state.appends.is_empty()) {
                return Task::HandOver;
            }
            if !full && !state.appends.is_empty() {
                let count = state.appends.len().min(most);
                let kept = state.appends.split_off(count);
                let taken = std::mem::replace(&mut state.appends, kept);
                // Still waiting, as far as callers are concerned.
                state.gathered += taken.len();
                return Task::Judge(taken);
            }
            if gathered == 0 && state.closed {
                return Task::End;
            }
            state = wait(&self.for_sequencer, state);
        }
    }

    /// Gives a group to the committer, who is idle. So many appends were taken and are not in it.
    pub(super) fn hand_over(&self, group: Group, left: usize) {
        let mut state = lock(&self.state);
        if state.last {
            // Nobody takes it: dropping it answers it.
            drop(state);
            return drop(group);
        }
        state.gathered = left;
        state.group = Some(group);
        self.for_committer.notify_one();
        self.for_callers.notify_all();
    }

    /// Says that no more groups come.
    pub(super) fn end_groups(&self) {
        lock(&self.state).last = true;
        self.for_committer.notify_one();
    }

    /// The next group; `None` where none came until `deadline` (if there is one), or none comes any more, which the second value
    /// says.
    pub(super) fn take_group(&self, deadline: Option<Instant>) -> (Option<Group>, bool) {
        let mut state = lock(&self.state);
        loop {
            if let Some(group) = state.group.take() {
                state.committing = true;
                return (Some(group), false);
            }
            if state.last {
                return (None, true);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => wait(&self.for_committer, state),
                Some(Duration::ZERO) => return (None, false),
                Some(left) => self.for_committer.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Says that the group is durable: the next may be handed over.
    pub(super) fn committed(&self) {
        lock(&self.state).committing = false;
        self.for_sequencer.notify_one();
    }

    /// Ends: nothing is taken any more, and what waits is dropped, which answers it.
    pub(super) fn abandon(&self) {
        let mut state = lock(&self.state);
        (state.closed, state.last) = (true, true);
        let (appends, group) = (std::mem::take(&mut state.appends), state.group.take());
        (state.gathered, state.committing) = (0, false);
        drop(state);
        self.for_sequencer.notify_all();
        self.for_committer.notify_all();
        self.for_callers.notify_all();
        drop((appends, group));
    }
}

fn wait<'a>(condvar: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condvar.wait(state).unwrap_or_else(PoisonError::into_inner)
}
