//! Whether Redis can be used now, and what was counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use zmsg_core::Error;

/// Whether Redis can be used now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// There is a connection, and calls are let through.
    Up,
    /// The first connections are being made.
    Connecting,
    /// Calls fail at once.
    Down {
        /// How long this has been so.
        since: Duration,
        /// Whether there are connections, but too many calls in a row failed on them.
        breaker_open: bool,
        /// What went wrong last.
        error: Error,
    },
    /// [`Redis::close`](crate::Redis::close) was called.
    Closed,
}

impl Health {
    /// True if calls are let through.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }
}

/// What a [`Redis`](crate::Redis) has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStats {
    /// Calls that were made, refused ones included.
    pub calls: u64,
    /// Calls that failed in any way, refused ones included.
    pub errors: u64,
    /// Calls that were not answered within the deadline.
    pub timeouts: u64,
    /// Calls that were refused at once because the breaker was open.
    pub refused: u64,
    /// Times that the breaker opened.
    pub breaker_opened: u64,
    /// Connections that were made, the first ones included.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
}

/// The counters behind [`RedisStats`], and what [`Health`] is made of.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) calls: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) breaker_opened: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connect_failures: AtomicU64,
    down: Mutex<Option<Down>>,
    returns: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
struct Down {
    since: Instant,
    error: Error,
}

impl Monitor {
    pub(crate) fn new() -> Self {
        Self {
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            breaker_opened: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            down: Mutex::new(None),
            returns: watch::Sender::new(0),
        }
    }

    /// Something that calls depend on went wrong.
    pub(crate) fn went_down(&self, error: &Error) {
        let mut down = self.down();
        let since = down.as_ref().map_or_else(Instant::now, |down| down.since);
        if down.is_none() {
            tracing::warn!(%error, "redis is away");
        }
        *down = Some(Down { since, error: error.clone() });
    }

    /// What was wrong may be right again: calls that failed may succeed now.
    pub(crate) fn came_back(&self) {
        if let Some(down) = self.down().take() {
            let after = down.since.elapsed();
            tracing::info!(?after, "redis is back");
        }
        self.returns.send_modify(|count| *count += 1);
    }

    pub(crate) fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }

    /// For how long it has been down, and why; `None` while nothing is known to be wrong.
    pub(crate) fn trouble(&self) -> Option<(Duration, Error)> {
        self.down().as_ref().map(|down| (down.since.elapsed(), down.error.clone()))
    }

    pub(crate) fn stats(&self) -> RedisStats {
        RedisStats {
            calls: self.calls.load(Relaxed),
            errors: self.errors.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            refused: self.refused.load(Relaxed),
            breaker_opened: self.breaker_opened.load(Relaxed),
            connections: self.connections.load(Relaxed),
            connect_failures: self.connect_failures.load(Relaxed),
        }
    }

    fn down(&self) -> MutexGuard<'_, Option<Down>> {
        // Each change is one assignment: the state is whole after a panic.
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
