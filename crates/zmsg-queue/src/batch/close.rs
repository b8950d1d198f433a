//! The end of a batch queue: drain, write down what is left, and say what became of everything.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zmsg_core::{Error, Result};

use super::backlog::Backlog;
use super::config::BatchStorage;
use super::dead::ended_early;
use super::inner::Inner;
use super::record::item_kind;
use super::state::Phase;

/// What became of the items of a queue that was closed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BatchCloseReport {
    /// Items delivered since it was opened.
    pub sent: u64,
    /// Items that became dead letters since it was opened.
    pub buried: u64,
    /// Items in the log, for the next opening.
    pub left_in_log: u64,
    /// Items that were in memory alone and are gone. A queue in memory that was not drained, or a
    /// hybrid one whose log did not take them.
    pub lost: u64,
    /// Calls of the handler that were dropped, because the time was up. Their items are among those
    /// that are left, or lost.
    pub interrupted: usize,
    /// Items in calls that did not even end when they were dropped: they block their threads. They
    /// are among those that are left, or lost, and may be delivered yet.
    pub stuck: u64,
    /// What the log said at last, if it failed.
    pub error: Option<Error>,
}

impl BatchCloseReport {
    /// Whether everything was delivered, or is a dead letter.
    pub fn is_drained(&self) -> bool {
        self.left_in_log == 0 && self.lost == 0
    }
}

/// How long calls that were dropped may take to end.
const END_MAX: Duration = Duration::from_secs(1);

impl<T: Send + Sync + 'static> Inner<T> {
    /// Takes no more items; those that are there are delivered if the queue was running. The first
    /// deadline holds.
    pub(super) fn begin_to_close(&self, deadline: Duration) {
        {
            let mut state = self.state();
            state.phase = match state.phase {
                Phase::Running => Phase::Draining,
                Phase::Opened | Phase::Paused => Phase::Stopped,
                closing => closing,
            };
            state.deadline.get_or_insert(deadline);
        }
        self.closing.cancel();
        self.wake_all();
    }

    /// Waits for the close, and carries it out.
    pub(super) async fn run_close(self: Arc<Self>) {
        self.closing.cancelled().await;
        let deadline = {
            let state = self.state();
            // What does not deliver has nothing to wait for.
            let drains = state.phase == Phase::Draining;
            state.deadline.filter(|_| drains).unwrap_or_default()
        };
        self.workers.close();
        if timeout(deadline, self.workers.wait()).await.is_err() {
            self.state().phase = Phase::Stopped;
            self.give_up.cancel();
            self.wake_all();
            let _ = timeout(END_MAX, self.workers.wait()).await;
        }
        let report = self.finish().await;
        self.idle.notify_waiters();
        self.report.send_replace(Some(report));
    }

    async fn finish(&self) -> BatchCloseReport {
        let stats = self.counters.read();
        let mut report =
            BatchCloseReport { sent: stats.sent, buried: stats.buried, ..Default::default() };
        let (alone, stuck, pending) = {
            let mut state = self.state();
            state.leftovers.sort_by_key(|leftover| leftover.flight);
            report.interrupted = state.leftovers.len();
            let left: usize = state.leftovers.iter().map(|leftover| leftover.places.len()).sum();
            (state.alone().count() as u64, (state.in_flight() - left) as u64, state.pending())
        };
        report.stuck = stuck;
        let Some(backlog) = &self.backlog else {
            report.lost = pending;
            return self.end(report).await;
        };
        let end = backlog.last_seq() + 1;
        let written = match self.write_down(backlog).await {
            Ok(()) => alone,
            Err((written, error)) => {
                report.error = Some(error);
                written
            }
        };
        let durable = matches!(self.config.storage, BatchStorage::Durable { .. });
        report.lost = alone - written + if durable { 0 } else { stuck };
        report.left_in_log = pending - report.lost;
        let end = if written > 0 { end } else { backlog.last_seq() + 1 };
        if let Err(error) = self.end_log(backlog, end).await {
            report.error.get_or_insert(error);
        }
        self.end(report).await
    }

    async fn end(&self, mut report: BatchCloseReport) -> BatchCloseReport {
        if let Err(error) = self.dead.close().await {
            report.error.get_or_insert(error);
        }
        if report.lost > 0 {
            tracing::error!(
                lost = report.lost,
                "a batch queue was closed with items in memory alone"
            );
        }
        report
    }

    /// Writes what is in memory alone to the log, to be delivered before all else. How many items
    /// it wrote before it failed.
    async fn write_down(&self, backlog: &Backlog) -> Result<(), (u64, Error)> {
        let Some(codec) = self.codec else { return Ok(()) };
        let (encoding, wall) = (self.config.encoding, self.clock.wall());
        let kind = item_kind(encoding, true);
        let bodies: Result<Vec<_>> =
            self.state().alone().map(|entry| codec.encode(encoding, &entry.item)).collect();
        let bodies = bodies.map_err(|error| (0, error))?;
        if bodies.is_empty() {
            return Ok(());
        }
        for (written, body) in (0..).zip(&bodies) {
            if backlog.append(kind, wall, body).is_err() {
                // The buffer of the log is smaller than the memory, mostly.
                let flushed = backlog.flushed().await;
                let again = flushed.and_then(|()| backlog.append(kind, wall, body));
                again.map_err(|error| (written, error))?;
            }
        }
        backlog.synced().await.map_err(|error| (0, error))
    }

    async fn end_log(&self, backlog: &Backlog, end: u64) -> Result<()> {
        let below = self.state().delivered_below(self.found.first, end);
        let log = backlog.clone();
        let finished = tokio::task::spawn_blocking(move || log.finish(below)).await;
        let closed = backlog.close().await;
        finished.unwrap_or_else(|error| Err(ended_early(error)))?;
        closed
    }
}
