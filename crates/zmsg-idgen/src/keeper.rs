//! The loop that keeps a generator's lease.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use zmsg_core::{Backoff, Result};

use crate::lease::millis;
use crate::tenure::Tenure;

/// Extends a generator's lease and its ceiling when a third of either is used up; after a lost
/// lease, takes another node.
///
/// A lease that ended is lost, even if nobody has taken its node: the backend says so to the next
/// request. A machine that was suspended has not seen that time pass; there, the wall clock has
/// mostly left the ceiling behind, and whoever wants the first id wakes the keeper.
#[derive(Debug)]
pub struct LeaseKeeper {
    tenure: Arc<Tenure>,
    backoff: Backoff,
}

impl LeaseKeeper {
    pub(crate) fn new(tenure: Arc<Tenure>) -> Self {
        // Never so rare that a backend which is back before the ceiling would be missed.
        let cap = tenure.options.reserve_ahead / 10;
        let backoff = Backoff::new(cap.min(Duration::from_millis(100)), cap);
        Self { tenure, backoff }
    }

    /// Keeps the lease until `shutdown` or until the generator is closed. It does not give the
    /// node back: [`close`](crate::IdGenerator::close) does, after the last id.
    ///
    /// A failed request is logged and tried again with backoff; ids go on below the ceiling.
    ///
    /// # Errors
    /// None: whatever fails is tried again for as long as it runs.
    ///
    /// # Cancel safety
    /// As [`NodeLease::extend`](crate::NodeLease::extend) and
    /// [`acquire`](crate::NodeLease::acquire); it can be run again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = self.tenure.closed.cancelled() => return Ok(()),
                () = self.due(failures) => {}
            }
            // A request that hangs must not keep the process from stopping.
            match shutdown.run_until_cancelled(self.renew()).await {
                None => return Ok(()),
                Some(Ok(())) => failures = 0,
                Some(Err(error)) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the lease of the id node was not renewed");
                }
            }
        }
    }

    /// One round of [`run`](Self::run): extends the lease, or takes a new node if it was lost.
    ///
    /// # Errors
    /// As [`NodeLease::extend`](crate::NodeLease::extend) and
    /// [`acquire`](crate::NodeLease::acquire).
    ///
    /// # Cancel safety
    /// As those.
    pub async fn renew(&self) -> Result<()> {
        self.tenure.renew().await
    }

    /// Waits until a third is used up or somebody asks, and after failures for the backoff alone.
    async fn due(&self, failures: u32) {
        if failures > 0 {
            return tokio::time::sleep(self.backoff.delay(failures)).await;
        }
        let shortest = millis(self.tenure.options.reserve_ahead).min(self.tenure.valid_for_ms());
        let third = Duration::from_millis((shortest / 3).max(1));
        tokio::select! {
            () = self.tenure.wake.notified() => {}
            () = tokio::time::sleep(third) => {}
        }
    }
}
