//! The end of a batch queue: drain, write down what is left, and say what became of everything.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::timeout;
use zmsg_core::{Error, ErrorKind, Result};

use super::backlog::Backlog;
use super::dead::ended_early;
use super::inner::Inner;
use super::lane::text_of;
use super::record::item_kind;
use super::state::{Phase, State};

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
    /// Items that were in memory alone and are gone: of a queue in memory that was not drained, of a
    /// hybrid one whose log did not take them, or of any one whose log failed before they were written
    /// (some of which may be found in it all the same).
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
            if let Some(inbox) = &self.inbox {
                // Before the phase: who finds a lane empty then finds it so for ever.
                inbox.close();
                self.take_in_posted(&mut state);
            }
            state.phase = match state.phase {
                Phase::Running => Phase::Draining,
                Phase::Opened | Phase::Paused => Phase::Stopped,
                closing => closing,
            };
            state.deadline.get_or_insert(deadline);
            if state.phase == Phase::Stopped {
                // Calls on their way have the time to end; nothing else goes on.
                self.halt.cancel();
            }
        }
        self.closing.cancel();
        self.wake_all();
    }

    /// Waits for the close, and carries it out.
    pub(super) async fn run_close(self: Arc<Self>) {
        self.closing.cancelled().await;
        zmsg_core::fail_point!("zmsg-queue::batch::close::begun");
        let deadline = self.state().deadline.unwrap_or_default();
        self.workers.close();
        if timeout(deadline, self.workers.wait()).await.is_err() {
            self.state().phase = Phase::Stopped;
            self.halt.cancel();
            self.give_up.cancel();
            self.wake_all();
            let _ = timeout(END_MAX, self.workers.wait()).await;
        }
        zmsg_core::fail_point!("zmsg-queue::batch::close::drained");
        // Who waits for the report gets one, whatever code of the user does in there.
        let report = AssertUnwindSafe(self.finish()).catch_unwind().await.unwrap_or_else(|panic| {
            let error = Error::new(ErrorKind::Unexpected, "the end of a batch queue panicked");
            let error = error.with_context("panic", text_of(&*panic));
            let lost = self.state().pending();
            BatchCloseReport { lost, error: Some(error), ..BatchCloseReport::default() }
        });
        self.report.send_replace(Some(report));
        self.idle.notify_waiters();
    }

    async fn finish(&self) -> BatchCloseReport {
        let mut report = BatchCloseReport::default();
        let (bodies, unwritable, stuck, stuck_alone, pending) = {
            let mut state = self.whole_state();
            let stats = self.counters.read();
            (report.sent, report.buried) = (stats.sent, stats.buried);
            state.finishing = true;
            state.leftovers.sort_by_key(|leftover| leftover.flight);
            let interrupted = state.leftovers.iter().filter(|leftover| leftover.interrupted);
            report.interrupted = interrupted.count();
            let left: usize = state.leftovers.iter().map(|leftover| leftover.places.len()).sum();
            report.lost = state.stranded;
            let (bodies, unwritable) = self.bodies(&state);
            let (stuck, alone) = (state.in_flight() - left, state.alone_in_flight());
            (bodies, unwritable, stuck as u64, alone as u64, state.pending())
        };
        report.stuck = stuck;
        let Some(backlog) = &self.backlog else {
            report.lost = pending;
            return self.end(report).await;
        };
        let end = backlog.last_seq() + 1;
        let (written, error) = self.write_down(backlog, &bodies).await;
        zmsg_core::fail_point!("zmsg-queue::batch::close::written_down");
        report.error = error.or(unwritable.1);
        let gone = bodies.len() as u64 - written + unwritable.0 + stuck_alone;
        report.lost += gone;
        report.left_in_log = pending - gone;
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

    /// What is in memory alone, encoded; how many items cannot be, and why.
    fn bodies(&self, state: &State<T>) -> (Vec<Vec<u8>>, (u64, Option<Error>)) {
        let (mut bodies, mut count, mut why) = (Vec::new(), 0, None);
        let Some(codec) = self.codec else { return (bodies, (0, None)) };
        for entry in state.alone() {
            let encode = AssertUnwindSafe(|| codec.encode(self.config.encoding, &entry.item));
            match std::panic::catch_unwind(encode) {
                Ok(Ok(body)) => bodies.push(body),
                // It could be when it was accepted.
                Ok(Err(error)) => {
                    count += 1;
                    why = Some(error);
                }
                Err(panic) => {
                    count += 1;
                    let error = Error::new(ErrorKind::InvalidInput, "writing an item panicked");
                    why = Some(error.with_context("panic", text_of(&*panic)));
                }
            }
        }
        (bodies, (count, why))
    }

    /// Writes items to the log that are to be delivered before all else. How many it wrote, and what
    /// ended it early.
    async fn write_down(&self, backlog: &Backlog, bodies: &[Vec<u8>]) -> (u64, Option<Error>) {
        if bodies.is_empty() {
            return (0, None);
        }
        let (kind, wall) = (item_kind(self.config.encoding, true), self.clock.wall());
        for (written, body) in (0..).zip(bodies) {
            if backlog.append(kind, wall, body).is_ok() {
                continue;
            }
            // The buffer of the log is smaller than the memory, mostly.
            let flushed = backlog.flushed().await;
            if let Err(error) = flushed.and_then(|()| backlog.append(kind, wall, body)) {
                let _ = backlog.synced().await;
                return (written, Some(error));
            }
        }
        match backlog.synced().await {
            Ok(()) => (bodies.len() as u64, None),
            Err(error) => (0, Some(error)),
        }
    }

    async fn end_log(&self, backlog: &Backlog, end: u64) -> Result<()> {
        let below = self.state().delivered_below(self.first, end);
        let log = backlog.clone();
        let finished = tokio::task::spawn_blocking(move || log.finish(below)).await;
        zmsg_core::fail_point!("zmsg-queue::batch::close::finished");
        let closed = backlog.close().await;
        zmsg_core::fail_point!("zmsg-queue::batch::close::closed");
        finished.unwrap_or_else(|error| Err(ended_early(error)))?;
        closed
    }
}
