//! A shard with its way into the database.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use zmsg_core::{Error, ErrorKind, Result};

use crate::aggregator::Inner;
use crate::buffer::{Load, Shard};
use crate::flush::{Flight, Flushing, Landing};
use crate::report::FlushReport;

/// A shard with its way into the database: one flight at a time.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) shard: Shard,
    /// What is on its way. Held during an attempt; kept between attempts, so that a failed one is
    /// continued by whoever comes next.
    flight: Arc<tokio::sync::Mutex<Option<Flight>>>,
}

/// So often in a row the observer is asked anew before the attempt counts as failed.
const OUTDATED_MAX: u32 = 4;

impl Lane {
    pub(crate) fn new(shard: Shard) -> Self {
        Self { shard, flight: Arc::default() }
    }

    /// True if nothing more can be done here: nothing waits, or an error forbids it.
    pub(crate) fn is_idle_or_stopped(&self) -> bool {
        self.shard.load().ops == 0 || self.shard.stopped().is_some()
    }
}

impl Inner {
    /// Flushes a lane until everything up to the operation `upto` has taken effect, as a task
    /// that goes on when nobody waits for it.
    pub(crate) fn flush(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        upto: u64,
    ) -> JoinHandle<Result<FlushReport>> {
        let (inner, lane) = (Arc::clone(self), Arc::clone(lane));
        self.tracker.spawn(async move {
            let report = inner.flush_here(&lane, upto).await;
            inner.trim_journal();
            report
        })
    }

    async fn flush_here(&self, lane: &Lane, upto: u64) -> Result<FlushReport> {
        let mut report = FlushReport::default();
        while lane.shard.applied() < upto {
            if let Some(error) = lane.shard.stopped() {
                return Err(error);
            }
            let flight = Arc::clone(&lane.flight).lock_owned().await;
            if lane.shard.applied() >= upto {
                break;
            }
            match self.fly(lane, flight).await {
                Ok(Some(landing)) => report.add(&landing),
                Ok(None) => break,
                Err(error) => return Err(self.failed(lane, error)),
            }
        }
        Ok(report)
    }

    /// Brings what is on its way into the database, or else what waits.
    async fn fly(
        &self,
        lane: &Lane,
        mut held: OwnedMutexGuard<Option<Flight>>,
    ) -> Result<Option<Landing>> {
        if held.is_none() {
            let Some(sealed) = lane.shard.seal() else { return Ok(None) };
            zmsg_core::fail_point!("zmsg-aggregate::flush::sealed");
            *held = Some(Flight::new(lane.shard.index, sealed, self.ledger.store.dialect()));
        }
        let Some(flight) = held.as_mut() else { return Ok(None) };
        let landing = match self.land(flight).await {
            Ok(landing) => landing,
            Err(error) if flight.ledger_moved => {
                flight.give_up(&error);
                self.pending_bytes.fetch_sub(lane.shard.stop(&error), Relaxed);
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        self.counters.landed(&landing);
        zmsg_core::fail_point!("zmsg-aggregate::flush::landed");
        self.tell(flight).await;
        zmsg_core::fail_point!("zmsg-aggregate::flush::told");
        flight.settle();
        let Load { ops, bytes, .. } = lane.shard.landed();
        *held = None;
        self.pending_ops.fetch_sub(ops, SeqCst);
        self.pending_bytes.fetch_sub(bytes, Relaxed);
        Ok(Some(landing))
    }

    /// Lands a flight, asking the observer anew when one of its checks failed.
    async fn land(&self, flight: &mut Flight) -> Result<Landing> {
        let mut outdated = 0;
        loop {
            if flight.checks.is_none() {
                let Flushing { guard, checks } = self.announce(flight).await?;
                flight.guard = Some(guard);
                flight.checks = Some(checks);
                zmsg_core::fail_point!("zmsg-aggregate::flush::announced");
            }
            match flight.land(&self.ledger).await {
                Err(error) if flight.checks.is_none() => {
                    if let Some(guard) = flight.guard.take() {
                        guard.outdated();
                    }
                    outdated += 1;
                    if outdated > OUTDATED_MAX {
                        return Err(error);
                    }
                }
                landed => return landed,
            }
        }
    }

    async fn announce(&self, flight: &Flight) -> Result<Flushing> {
        let keys = flight.keys();
        let announced = AssertUnwindSafe(self.observer.flushing(&keys)).catch_unwind().await;
        announced.unwrap_or_else(|_panic| {
            Err(Error::new(ErrorKind::Unexpected, "the observer of flushes panicked").temporary())
        })
    }

    async fn tell(&self, flight: &Flight) {
        let keys = flight.keys();
        let told = AssertUnwindSafe(self.observer.flushed(&keys)).catch_unwind().await;
        if told.is_err() {
            tracing::error!(keys = keys.len(), "the observer of flushes panicked");
        }
    }

    fn failed(&self, lane: &Lane, error: Error) -> Error {
        let shard = lane.shard.index;
        if lane.shard.stopped().is_some() {
            tracing::error!(shard, %error, "this shard is flushed no more");
        } else {
            self.counters.retries.fetch_add(1, Relaxed);
            tracing::warn!(shard, %error, "a flush failed and will be tried again");
        }
        error.during("aggregate.flush")
    }

    /// Wakes the flusher if a shard is due before its time.
    pub(crate) fn hurry(&self, lane: &Lane, load: &Load, held: i64) {
        let full = load.ops >= self.policy.ops_max
            || load.slots >= self.policy.slots_max
            || self.is_half_full(held);
        // The first operation starts the clock of its shard's age.
        let first = load.ops == 1 && self.policy.age_max < self.policy.interval;
        if (full && lane.shard.mark_full()) || first {
            self.wake.notify_one();
        }
    }

    /// True if so many bytes are reason enough to flush everything.
    pub(crate) fn is_half_full(&self, held: i64) -> bool {
        u64::try_from(held).unwrap_or_default() >= self.policy.bytes_max / 2
    }

    /// For how long the oldest operation of a lane may still wait.
    pub(crate) fn age_left(&self, lane: &Lane) -> Option<Duration> {
        let waited = self.ledger.clock.coarse().saturating_sub(lane.shard.oldest()?);
        Some(self.policy.age_max.saturating_sub(Duration::from_millis(waited)))
    }
}
