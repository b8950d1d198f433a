//! One load of one key, and those who wait for it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use zmsg_core::{Error, ErrorKind, Key, Result};

use crate::Entry;
use crate::fence::{Fence, Kept};

/// What a load found: the same for all who wait.
pub(crate) type Outcome = Result<Option<Bytes>>;

/// A load under way.
pub(crate) struct Flight {
    epoch: u32,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    pub(crate) fn new(epoch: u32) -> Self {
        Self { epoch, outcome: watch::Sender::new(None) }
    }

    /// The cache's epoch when the flight began; what it fills belongs to that epoch.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn waiter(&self) -> Waiter {
        Waiter(self.outcome.subscribe())
    }

    /// One more waiter, unless there are too many.
    pub(crate) fn join(&self, waiters_max: usize) -> Result<Waiter> {
        if self.outcome.receiver_count() >= waiters_max {
            return Err(Error::overloaded("waiters_max"));
        }
        Ok(self.waiter())
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

    /// Fills L1 if that is still right, frees the key, and answers those who wait.
    pub(crate) fn land(mut self, entry: Option<Entry>, outcome: Outcome) -> Kept {
        self.landed = true;
        self.finish(entry, outcome)
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
