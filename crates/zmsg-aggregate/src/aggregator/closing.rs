//! The end of an aggregator: it flushes what it can in its time, and reports the rest.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use zmsg_core::{Error, ErrorKind, Result};

use super::Aggregator;
use crate::deadline::from_now;
use crate::journal::bury;
use crate::report::CloseReport;

/// What the end of a journal gets at least, however late it is.
const GRACE: Duration = Duration::from_secs(1);

impl Aggregator {
    /// Refuses new operations and flushes what waits, again and again for as long as `within`
    /// allows and at least once. Then it reports what is still pending; if that is nothing, this
    /// stream's rows of the ledger are removed.
    ///
    /// The flusher may still run, or have been stopped; both is fine.
    ///
    /// # Errors
    /// None of its own today: what could not be flushed is in the report, with the reason.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the aggregator closed; a flush that began goes on.
    pub async fn close(&self, within: Duration) -> Result<CloseReport> {
        let deadline = from_now(within);
        let mut report = self.drain(deadline).await;
        zmsg_core::fail_point!("zmsg-aggregate::close::drained");
        let complete = report.is_complete();
        let until = deadline.max(from_now(GRACE));
        let ended = tokio::time::timeout_at(until, self.0.journal.end(complete)).await;
        zmsg_core::fail_point!("zmsg-aggregate::close::journal_ended");
        match ended.unwrap_or_else(|_| Err(too_late())) {
            Ok(done) if complete => {
                if self.forget(deadline).await
                    && let Some(done) = done
                {
                    zmsg_core::fail_point!("zmsg-aggregate::close::forgotten");
                    let _ = tokio::time::timeout_at(until, bury(done)).await;
                }
                return Ok(report);
            }
            Ok(_) => {}
            // Its ledger rows have to stay with it.
            Err(error) => tracing::warn!(%error, "the journal of this stream stays behind"),
        }
        if !complete {
            report.journal = self.0.journal.dir().map(Path::to_owned);
        }
        Ok(report)
    }

    /// Refuses new operations, and flushes until nothing waits or there is no time left.
    pub(crate) async fn drain(&self, deadline: Instant) -> CloseReport {
        for lane in &self.0.lanes {
            lane.shard.close();
        }
        let mut failures = 0;
        let mut error = None;
        loop {
            match tokio::time::timeout_at(deadline, self.flush_all()).await {
                Ok(Ok(_)) => break,
                Ok(Err(failed)) => error = Some(failed),
                Err(_) => {
                    error = error.or_else(|| Some(too_late()));
                    break;
                }
            }
            failures += 1;
            let pause = from_now(self.0.policy.retry.delay(failures));
            let stopped = self.0.lanes.iter().all(|lane| lane.is_idle_or_stopped());
            if pause >= deadline || stopped {
                break;
            }
            tokio::time::sleep_until(pause).await;
        }
        CloseReport::of(&self.0.lanes, error)
    }

    /// True if nothing more is flushed from a shard, because somebody else moved its ledger.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.lanes.iter().any(|lane| lane.shard.stopped().is_some())
    }

    // The rows of a stream that is complete say nothing any more; left behind they only take
    // space, so a failure is worth a line and no more. With a journal the next start forgets them.
    async fn forget(&self, deadline: Instant) -> bool {
        match tokio::time::timeout_at(deadline, self.0.ledger.forget()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(%error, "the ledger rows of this stream stay behind"),
            Err(_) => tracing::warn!("no time to remove the ledger rows of this stream"),
        }
        false
    }
}

fn too_late() -> Error {
    Error::new(ErrorKind::Timeout, "a flush was still running at the deadline").temporary()
}
