//! The generator: unique rising ids without a lock, below a reserved ceiling.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use zmsg_core::{Clock, Result};

use crate::sequence::Refusal;
use crate::tenure::Tenure;
use crate::{Id, IdBatch, IdOptions, IdStats, Layout, LeaseKeeper, NodeLease, RawId};

/// Makes ids for one node. Cloning it is one reference count; clones make ids of one sequence.
///
/// - No id is ever made twice, by this generator or by any other of the same layout and leases:
///   not when the clock jumps, the process hangs, is killed and started again, or loses its lease.
/// - The ids of one generator rise strictly, across threads and lost leases too.
/// - The time of an id is `max(last id, wall clock)`, where the clock may be read as it was at the
///   system's last tick, a few milliseconds ago. When the wall clock goes back, ids go on from
///   the last one ([`Rollback`](crate::Rollback)). When more than a full sequence (4,096 by
///   default) is taken in a millisecond, ids borrow from the following ones, at most
///   [`borrow_max`](IdOptions::borrow_max) ahead of the time that has come by the wall clock or,
///   after that was set back, by the monotonic one; then callers wait on a timer.
/// - A time at or above the ceiling is not used. The [`LeaseKeeper`] raises the ceiling ahead of
///   need; without it, `next` raises it when it gets there, and pays for that with a request.
/// - A lease that was lost or has ended is noticed when it is extended. Ids made until then lie
///   below its ceiling and are good; after that there are none, and an error that says so, until
///   the keeper has taken another node.
#[derive(Debug, Clone)]
pub struct IdGenerator {
    tenure: Arc<Tenure>,
}

impl IdGenerator {
    /// Leases a node, reserves time, and begins.
    ///
    /// Spawn [`keeper`](Self::keeper)`().run(..)` beside it, and [`close`](Self::close) it before the
    /// backend of the leases.
    ///
    /// # Errors
    /// `InvalidConfig` for options or an epoch that cannot be used; else as
    /// [`NodeLease::acquire`] fails.
    ///
    /// # Cancel safety
    /// As [`NodeLease::acquire`].
    pub async fn start(
        layout: Layout,
        leases: Arc<dyn NodeLease>,
        clock: Arc<dyn Clock>,
        options: IdOptions,
    ) -> Result<Self> {
        options.validate()?;
        layout.refuse_future_epoch(&*clock)?;
        let tenure = Arc::new(Tenure::new(layout, leases, clock, options));
        tenure.renew().await.map_err(|error| error.during("idgen.start"))?;
        Ok(Self { tenure })
    }

    /// The next id, or `None` if there is none without waiting.
    ///
    /// Lock-free: one reading of the clock and one compare-and-swap.
    ///
    /// # Errors
    /// `Unavailable`, temporary, after the lease was lost and until the keeper has another;
    /// `Closed` after [`close`](Self::close).
    pub fn try_next(&self) -> Result<Option<RawId>> {
        let taken = self.try_take(1)?;
        Ok(taken.ok().map(|range| RawId::made(range.start)))
    }

    /// As many of the next `want` ids as one compare-and-swap can take: those of one
    /// millisecond. Fewer, or none, where more would have to wait.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn try_next_batch(&self, want: usize) -> Result<IdBatch> {
        let mut batch = IdBatch::default();
        if want > 0
            && let Ok(range) = self.try_take(want)?
        {
            batch.push(range);
        }
        Ok(batch)
    }

    /// The next id. Waits on a timer, never spinning, while the time for it has not come.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next); and where the ceiling has to be raised first, as
    /// [`NodeLease::extend`] fails. The call does not try again by itself.
    ///
    /// # Cancel safety
    /// A dropped future has made no id.
    pub async fn next(&self) -> Result<RawId> {
        let range = self.take(1).await?;
        Ok(RawId::made(range.start))
    }

    /// The next `n` ids, taken a millisecond's worth at a time; other callers' ids may lie between.
    ///
    /// # Errors
    /// As [`next`](Self::next); ids taken up to then are never used.
    ///
    /// # Cancel safety
    /// The ids that a dropped future had taken are never used.
    pub async fn next_batch(&self, n: usize) -> Result<IdBatch> {
        let mut batch = IdBatch::default();
        while batch.len() < n {
            batch.push(self.take(n - batch.len()).await?);
        }
        Ok(batch)
    }

    /// The next id with a prefix: `feed_123`.
    ///
    /// # Errors
    /// `InvalidInput` for a prefix that [`Id::new`] refuses; else as [`next`](Self::next).
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn next_id(&self, prefix: &str) -> Result<Id> {
        Id::new(prefix, self.next().await?)
    }

    /// The loop that extends the lease, for its owner to spawn.
    pub fn keeper(&self) -> LeaseKeeper {
        LeaseKeeper::new(Arc::clone(&self.tenure))
    }

    /// Ends making ids, in every clone, then gives the node back with the time of the last id.
    /// Closing again does nothing.
    ///
    /// # Errors
    /// As [`NodeLease::release`] fails; the generator is closed all the same, and its node stays
    /// held until the lease ends.
    ///
    /// # Cancel safety
    /// The generator is closed at the first poll; a dropped future may leave the node held.
    pub async fn close(&self) -> Result<()> {
        self.tenure.close().await.map_err(|error| error.during("idgen.close"))
    }

    /// The layout of its ids.
    pub fn layout(&self) -> &Layout {
        &self.tenure.layout
    }

    /// The counters, for a dashboard.
    pub fn stats(&self) -> IdStats {
        let Tenure { layout, clock, sequence, waits, .. } = &*self.tenure;
        let wall = layout.since_epoch(clock.wall());
        IdStats {
            issued: sequence.issued(),
            borrowed_ms: sequence.last_time().saturating_sub(wall),
            waits: waits.load(Ordering::Relaxed),
            overflows: sequence.overflows(),
            rollbacks: sequence.rollbacks(),
            leases_lost: self.tenure.leases_lost(),
            node: (!sequence.is_stopped()).then(|| sequence.node()),
            ceiling_ms: layout.unix_ms(sequence.ceiling()),
            lease_remaining: match self.tenure.valid_for_ms() {
                u64::MAX => Duration::MAX,
                left => Duration::from_millis(left),
            },
        }
    }

    /// Takes a range now, or says why not; an error only where waiting would not help.
    fn try_take(&self, want: usize) -> Result<std::result::Result<std::ops::Range<u64>, Refusal>> {
        let want = u32::try_from(want).unwrap_or(u32::MAX);
        let taken = self.tenure.sequence.take(&*self.tenure.clock, want);
        match taken {
            Err(Refusal::Stopped) => return Err(self.tenure.stopped()),
            Err(Refusal::AtCeiling { .. }) => self.tenure.wake.notify_one(),
            Err(Refusal::TooEarly { .. }) | Ok(_) => {}
        }
        Ok(taken)
    }

    async fn take(&self, want: usize) -> Result<std::ops::Range<u64>> {
        loop {
            match self.try_take(want)? {
                Ok(range) => return Ok(range),
                Err(refusal) => self.wait_out(refusal).await?,
            }
        }
    }

    async fn wait_out(&self, refusal: Refusal) -> Result<()> {
        self.tenure.waits.fetch_add(1, Ordering::Relaxed);
        match refusal {
            Refusal::AtCeiling { time } => self.tenure.raise_above(time).await,
            Refusal::TooEarly { wait_ms } => {
                let wait = tokio::time::sleep(Duration::from_millis(wait_ms));
                // Ends early when the generator is closed, and the caller is told.
                let _ = self.tenure.closed.run_until_cancelled(wait).await;
                Ok(())
            }
            Refusal::Stopped => Err(self.tenure.stopped()),
        }
    }
}
