//! One load of one key, and those who wait for it.

use std::future::poll_fn;
use std::mem::replace;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use zmsg_core::{Error, ErrorKind, Key, Result};

use crate::Entry;
use crate::fence::{Fence, Kept};

/// What a load found: the same for all who wait.
pub(crate) type Outcome = Result<Option<Bytes>>;

/// The work of a flight, which ends with the landing; and what makes a task of it. The tracker counts
/// it from the beginning, whoever runs it.
pub(crate) struct Load {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    tracker: TaskTracker,
    runtime: Handle,
    _counted: TaskTrackerToken,
}

impl Load {
    /// # Panics
    /// Outside of a Tokio runtime.
    pub(crate) fn new(
        work: impl Future<Output = ()> + Send + 'static,
        tracker: TaskTracker,
    ) -> Self {
        let (runtime, counted) = (Handle::current(), tracker.token());
        Self { work: Box::pin(work), tracker, runtime, _counted: counted }
    }

    fn spawn(self) {
        self.tracker.spawn_on(self.work, &self.runtime);
    }
}

/// A load under way.
pub(crate) struct Flight {
    epoch: u32,
    outcome: watch::Sender<Option<Outcome>>,
    runs: Mutex<Runs>,
}

/// Where the load runs.
enum Runs {
    /// In the reader that began it, who is alone, and is not polled at this moment.
    Alone(Load),
    /// In him, right now; or he is about to begin.
    Polled { is_shared: bool },
    /// In a task, or nowhere any more.
    Elsewhere,
}

impl Flight {
    pub(crate) fn new(epoch: u32) -> Self {
        let runs = Mutex::new(Runs::Polled { is_shared: false });
        Self { epoch, outcome: watch::Sender::new(None), runs }
    }

    /// The cache's epoch when the flight began; what it fills belongs to that epoch.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn waiter(&self) -> Waiter {
        Waiter(self.outcome.subscribe())
    }

    /// One more waiter, unless there are too many. He must [`share`](Self::share) it.
    pub(crate) fn join(&self, waiters_max: usize) -> Result<Waiter> {
        if self.outcome.receiver_count() >= waiters_max {
            return Err(Error::overloaded("waiters_max"));
        }
        Ok(self.waiter())
    }

    /// Makes the load a task, if the reader that began it has it: now, or when he was polled. Not with
    /// a stripe of the fence locked: a runtime that ends drops a new task at once, and the load
    /// lands as it is dropped.
    pub(crate) fn share(&self) {
        let mut runs = self.runs();
        match replace(&mut *runs, Runs::Elsewhere) {
            Runs::Alone(load) => {
                drop(runs);
                load.spawn();
            }
            Runs::Polled { .. } => *runs = Runs::Polled { is_shared: true },
            Runs::Elsewhere => {}
        }
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        // Each change is one assignment: the state is whole after a panic.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reader that began a flight. As long as he is alone and only L2 is asked he runs the load
/// himself, which saves a task and the way to it and back. The load is not his: it becomes a task when
/// a second reader comes, who must not depend on whether the first is polled; when it goes on to the
/// origin, for it must not keep a connection of the store while nobody polls it; and when the
/// first is dropped.
pub(crate) struct Leader {
    flight: Arc<Flight>,
    waiter: Waiter,
}

impl Leader {
    pub(crate) fn new(flight: Arc<Flight>, waiter: Waiter) -> Self {
        Self { flight, waiter }
    }

    /// Runs the load while it is here, and waits for what it finds.
    pub(crate) async fn run(self, load: Load) -> Outcome {
        let here = Here(&self.flight);
        here.put_back(load);
        let mut outcome = pin!(self.waiter.outcome());
        poll_fn(|context| {
            here.poll(context);
            outcome.as_mut().poll(context)
        })
        .await
    }
}

/// The load, while the leader has it.
struct Here<'a>(&'a Flight);

impl Here<'_> {
    fn poll(&self, context: &mut Context<'_>) {
        let Some(mut load) = self.take() else { return };
        if load.work.as_mut().poll(context).is_pending() {
            self.put_back(load);
        }
    }

    fn take(&self) -> Option<Load> {
        let mut runs = self.0.runs();
        match replace(&mut *runs, Runs::Polled { is_shared: false }) {
            Runs::Alone(load) => Some(load),
            other => {
                *runs = other;
                None
            }
        }
    }

    fn put_back(&self, load: Load) {
        let mut runs = self.0.runs();
        if let Runs::Polled { is_shared: true } = *runs {
            *runs = Runs::Elsewhere;
            drop(runs);
            load.spawn();
        } else {
            *runs = Runs::Alone(load);
        }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.share();
    }
}

/// The end of a flight that a reader holds. Dropping it changes nothing for the others.
pub(crate) struct Waiter(watch::Receiver<Option<Outcome>>);

impl Waiter {
    pub(crate) async fn outcome(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(seen) => seen.clone().unwrap_or_else(|| Err(vanished())),
            Err(_) => Err(vanished()),
        }
    }
}

/// The end of a flight that runs the load. Dropped before it landed, by a panic or because the
/// runtime shuts down, it frees the key and tells those who wait.
pub(crate) struct Lead {
    fence: Arc<Fence>,
    key: Key,
    flight: Arc<Flight>,
    landed: bool,
}

impl Lead {
    pub(crate) fn new(fence: Arc<Fence>, key: Key, flight: Arc<Flight>) -> Self {
        Self { fence, key, flight, landed: false }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.flight.epoch()
    }

    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Fills L1 if that is still right, frees the key, and answers those who wait.
    pub(crate) fn land(mut self, entry: Option<Entry>, outcome: Outcome) -> Kept {
        let kept = self.finish(entry, outcome);
        self.landed = true;
        kept
    }

    // The key is free before anybody wakes: who asks again after an error gets a new flight.
    fn finish(&self, entry: Option<Entry>, outcome: Outcome) -> Kept {
        let kept = self.fence.land(&self.key, &self.flight, entry);
        self.fence.flight_ended();
        self.flight.outcome.send_replace(Some(outcome));
        kept
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.landed {
            self.finish(None, Err(vanished()));
        }
    }
}

fn vanished() -> Error {
    Error::new(ErrorKind::Unexpected, "a load ended without an answer")
}
