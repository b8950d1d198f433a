//! What the clock of the Redis server shows, as far as it is known here.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use zmsg_core::Result;
use zmsg_redis::Redis;
use zmsg_redis::redis::cmd;

use crate::policy::millis;

/// How long a reading is used.
const FRESH_FOR: u64 = 10_000;

const NEVER: u64 = u64::MAX;

/// How far the server's clock is ahead of ours, at most. The clocks of a cluster's nodes are taken
/// for one: a reading that is too low for one of them costs a fill, which corrects it.
#[derive(Debug)]
pub(super) struct ServerTime {
    base: Instant,
    /// The server's milliseconds less ours.
    ahead: AtomicI64,
    read_at: AtomicU64,
}

impl ServerTime {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), ahead: AtomicI64::new(0), read_at: AtomicU64::new(NEVER) }
    }

    /// The server's time when `within` will have passed from now.
    pub(super) async fn after(&self, within: Duration, redis: &Redis) -> Result<i64> {
        // From before anything is awaited: it may take long until this is polled again.
        let called = self.now();
        let read_at = self.read_at.load(Relaxed);
        if read_at == NEVER || called.saturating_sub(read_at) > FRESH_FOR {
            // From before the question: the answer is at least that old when it is compared.
            let asked_at = self.now();
            let (seconds, micros): (i64, i64) = redis.query(&cmd("TIME")).await?;
            self.ahead.store(seconds * 1000 + micros / 1000 - signed(asked_at), Relaxed);
            self.read_at.store(asked_at, Relaxed);
        }
        let then = signed(called).saturating_add(self.ahead.load(Relaxed));
        Ok(then.saturating_add(signed(millis(within))))
    }

    /// A server showed this time in the answer to a question that was asked no later than now.
    pub(super) fn shown(&self, time: i64) {
        self.ahead.fetch_max(time - signed(self.now()), Relaxed);
    }

    fn now(&self) -> u64 {
        millis(self.base.elapsed())
    }
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
