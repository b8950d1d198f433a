//! The loop that flushes when it is time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zmsg_core::Result;

use crate::aggregator::{Aggregator, Inner};
use crate::deadline::from_now;
use crate::lane::Lane;

/// The loop that flushes when it is time: at an interval, when a shard is full or old, when the
/// buffer fills, and after a failure.
#[derive(Debug)]
pub struct Flusher {
    inner: Arc<Inner>,
    states: Vec<State>,
    /// For each lane, how many attempts in a row have failed.
    failures: Vec<u32>,
    /// The flushes that run: their lane, and whether they succeeded.
    flying: FuturesUnordered<BoxFuture<'static, (usize, bool)>>,
    next_round: Instant,
}

/// What the loop knows of a lane.
#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    Flying,
    /// The last attempt failed: the next one then.
    Failing(Instant),
}

impl Flusher {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let lanes = inner.lanes.len();
        let next_round = from_now(inner.policy.interval);
        Self {
            inner,
            states: vec![State::Idle; lanes],
            failures: vec![0; lanes],
            flying: FuturesUnordered::new(),
            next_round,
        }
    }

    /// Flushes until `shutdown`, then flushes what is left once and returns.
    ///
    /// A failed flush is tried again with backoff, shard by shard; it is not an error of the
    /// loop.
    ///
    /// # Errors
    /// If the last flush fails: what it held is still pending, and
    /// [`close`](Aggregator::close) tries it again. `Corrupted` if a shard was stopped.
    ///
    /// # Cancel safety
    /// Dropping the future stops the loop; a flush that began goes on.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<()> {
        self.next_round = from_now(self.inner.policy.interval);
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some((lane, succeeded)) = self.flying.next() => self.landed(lane, succeeded),
                () = self.inner.wake.notified() => self.flush_due(),
                () = tokio::time::sleep_until(wake_at) => self.flush_due(),
            }
        }
        Aggregator(self.inner).flush_all().await.map(drop)
    }

    /// Starts a flush of every lane that is due; a slow one does not hold up the others.
    fn flush_due(&mut self) {
        let now = Instant::now();
        let round = now >= self.next_round;
        if round {
            self.next_round = from_now(self.inner.policy.interval);
        }
        for index in 0..self.inner.lanes.len() {
            if !self.is_due(index, round, now) {
                continue;
            }
            self.states[index] = State::Flying;
            let lane = &self.inner.lanes[index];
            let flush = self.inner.flush(lane, lane.shard.accepted());
            self.flying
                .push(flush.map(move |flushed| (index, matches!(flushed, Ok(Ok(_))))).boxed());
        }
    }

    fn landed(&mut self, lane: usize, succeeded: bool) {
        self.failures[lane] = if succeeded { 0 } else { self.failures[lane].saturating_add(1) };
        self.states[lane] = match self.failures[lane] {
            0 => State::Idle,
            failures => State::Failing(from_now(self.inner.policy.retry.delay(failures))),
        };
    }

    fn is_due(&self, index: usize, round: bool, now: Instant) -> bool {
        let lane = &self.inner.lanes[index];
        if lane.is_idle_or_stopped() {
            return false;
        }
        match self.states[index] {
            State::Idle => {
                round || lane.shard.is_full() || self.is_old(lane) || self.is_half_full()
            }
            State::Flying => false,
            State::Failing(retry_at) => now >= retry_at,
        }
    }

    fn is_old(&self, lane: &Lane) -> bool {
        self.inner.age_left(lane).is_some_and(|left| left.is_zero())
    }

    fn is_half_full(&self) -> bool {
        self.inner.is_half_full(self.inner.pending_bytes.load(Relaxed))
    }

    /// When something is due next.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let lanes = self.inner.lanes.iter().zip(&self.states);
        let waiting = lanes.filter(|(lane, _)| !lane.is_idle_or_stopped());
        let due = waiting.filter_map(|(lane, state)| match state {
            // It filled up while it was flying.
            State::Idle if lane.shard.is_full() => Some(now),
            State::Idle => self.inner.age_left(lane).map(|left| from_now(left.max(AGE_STEP))),
            State::Flying => None,
            State::Failing(retry_at) => Some(*retry_at),
        });
        due.fold(self.next_round, Instant::min)
    }
}

/// Ages are read from a coarse clock: looking more often would only spin.
const AGE_STEP: Duration = Duration::from_millis(1);
