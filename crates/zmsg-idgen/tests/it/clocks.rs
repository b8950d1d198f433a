//! Clocks that tests hold.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;
use zmsg_core::{Clock, Millis, UnixMillis};
use zmsg_idgen::Layout;

/// A moment in 2024.
pub(crate) const NOW_MS: UnixMillis = Layout::EPOCH_2021_MS + 100_000_000_000;

/// Follows tokio's time, which stands still until everybody waits and then goes on to the next
/// timer; counts how often it was read.
#[derive(Debug)]
pub(crate) struct TokioClock {
    started: Instant,
    reads: AtomicU64,
}

impl TokioClock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), reads: AtomicU64::new(0) }
    }

    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }
}

impl Clock for TokioClock {
    fn wall(&self) -> UnixMillis {
        self.reads.fetch_add(1, Relaxed);
        NOW_MS + self.elapsed_ms()
    }

    /// Not counted: whoever has to wait reads the clock itself too.
    fn wall_tick(&self) -> UnixMillis {
        NOW_MS + self.elapsed_ms()
    }

    fn coarse(&self) -> Millis {
        self.elapsed_ms()
    }
}

/// Lets this much of tokio's paused time pass, with everything that is due in it.
pub(crate) async fn let_pass(millis: u64) {
    tokio::time::sleep_until(Instant::now() + std::time::Duration::from_millis(millis)).await;
}
