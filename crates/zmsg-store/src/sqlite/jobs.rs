//! Work that waits for a thread, in the order of its submission.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use zmsg_core::{Error, Result, Row, Statement};

use crate::{Outcome, Step, StepError};

/// A bounded queue between callers, who never wait, and threads, who do.
#[derive(Debug)]
pub(super) struct Jobs<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    max: usize,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

/// A transaction to run.
#[derive(Debug)]
pub(super) struct WriteJob {
    pub(super) steps: Vec<Step>,
    pub(super) reply: oneshot::Sender<Result<Vec<Outcome>, StepError>>,
}

/// A query to run.
#[derive(Debug)]
pub(super) struct ReadJob {
    pub(super) query: Statement,
    pub(super) reply: oneshot::Sender<Result<Vec<Row>>>,
}

impl<T> Jobs<T> {
    pub(super) fn bounded(max: usize) -> Self {
        let state = State { waiting: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new(), max }
    }

    /// Adds a job to the end of the queue.
    pub(super) fn push(&self, job: T) -> Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::closed("sqlite store"));
        }
        if state.waiting.len() >= self.max {
            return Err(Error::overloaded("sqlite.queue_max"));
        }
        state.waiting.push_back(job);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for work and takes up to `max` jobs of it. Nothing means that the queue was closed
    /// and is empty.
    pub(super) fn take(&self, max: usize) -> Vec<T> {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.closed {
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = state.waiting.len().min(max);
        state.waiting.drain(..count).collect()
    }

    /// Refuses further jobs; those that wait are still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Refuses further jobs and drops those that wait, which tells their callers.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        drop(dropped);
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use zmsg_core::ErrorKind;

    use super::*;

    #[test]
    fn a_full_queue_is_overloaded_and_a_closed_one_is_drained() {
        let jobs = Jobs::bounded(2);
        jobs.push(1).unwrap();
        jobs.push(2).unwrap();
        assert_eq!(jobs.push(3).unwrap_err().kind(), ErrorKind::Overloaded);
        jobs.close();
        assert_eq!(jobs.push(4).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(jobs.take(10), [1, 2]);
        assert!(jobs.take(10).is_empty());
    }
}
