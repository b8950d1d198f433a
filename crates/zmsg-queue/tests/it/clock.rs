//! A clock that shows tokio's time, so that paused time moves the queue as well.

use tokio::time::Instant;
use zmsg_core::{Clock, Millis, UnixMillis};

#[derive(Debug)]
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn wall(&self) -> UnixMillis {
        1_000_000 + self.coarse()
    }

    fn coarse(&self) -> Millis {
        u64::try_from(self.0.elapsed().as_millis()).expect("a short test")
    }
}
