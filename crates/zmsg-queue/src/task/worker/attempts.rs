//! What a worker runs at this moment, and how one attempt is stopped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use zmsg_core::{TaskId, UnixMillis};

use crate::task::record::LeasedTask;

/// The attempts that a worker runs: to be looked at, and to be stopped, at any time.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    running: HashMap<u64, Seat>,
    last: u64,
}

#[derive(Debug)]
struct Seat {
    attempt: RunningAttempt,
    stop: CancellationToken,
}

/// An attempt that a worker runs.
#[derive(Debug, Clone)]
pub struct RunningAttempt {
    /// The task, as it was leased.
    pub task: Arc<LeasedTask>,
    /// When the attempt began, by the worker's clock.
    pub begun: UnixMillis,
    /// When it will be dropped, by the worker's clock.
    pub until: UnixMillis,
}

/// An attempt's place among those that run, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    attempts: &'a Attempts,
    number: u64,
    pub(super) stop: CancellationToken,
}

impl Attempts {
    /// Those that run now, in the order in which they began.
    pub fn running(&self) -> Vec<RunningAttempt> {
        let table = self.lock();
        let mut running: Vec<_> = table.running.iter().collect();
        running.sort_unstable_by_key(|(number, _)| **number);
        running.into_iter().map(|(_, seat)| seat.attempt.clone()).collect()
    }

    /// Drops the handler of a task that runs here: its attempt has failed, and it is tried again as after
    /// any failure. How many attempts were told to stop; 0: it does not run here.
    pub fn cancel(&self, id: TaskId) -> usize {
        let table = self.lock();
        let of_task = table.running.values().filter(|seat| seat.attempt.task.id == id);
        of_task.map(|seat| seat.stop.cancel()).count()
    }

    pub(super) fn begin(&self, attempt: RunningAttempt) -> Place<'_> {
        let stop = CancellationToken::new();
        let mut table = self.lock();
        table.last += 1;
        let number = table.last;
        table.running.insert(number, Seat { attempt, stop: stop.clone() });
        Place { attempts: self, number, stop }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is whole after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.attempts.lock().running.remove(&self.number);
    }
}
