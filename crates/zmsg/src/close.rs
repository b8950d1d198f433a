//! The end: stop intake, drain, flush, and say what is left.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use zmsg_core::{Error, ErrorKind, Level, Result};
use zmsg_idgen::IdGenerator;
use zmsg_store::SqlStore;

use crate::assemble::Servers;
use crate::config::Config;
use crate::lock::FileLock;
use crate::members::Member;
use crate::tasks::{Stage, Tasks};
use crate::write::Writer;

/// What `close` needs besides the parts that work.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) store: Arc<dyn SqlStore>,
    /// The configuration that the store was opened from; `None` if the caller brought it.
    pub(crate) own_store: Option<Arc<Config>>,
    pub(crate) servers: Servers,
    pub(crate) member: Option<Member>,
    /// The deadline of the configuration.
    pub(crate) deadline: Duration,
    pub(crate) locks: Arc<Vec<FileLock>>,
    pub(crate) once: OnceLock<Shared<BoxFuture<'static, Result<CloseReport>>>>,
}

/// What was still pending when the engine closed, and where it is.
#[derive(Debug, Clone, Default)]
#[must_use = "the report says what is still pending"]
pub struct CloseReport {
    /// Operations of the periodic route that were applied or dead-lettered while closing.
    pub flushed: u64,
    /// Operations of the periodic route that could not be flushed and wait in the journal for the
    /// next start.
    pub journaled: u64,
    /// Operations of the periodic route that could not be flushed and are in no journal: they were
    /// in memory and are lost.
    pub lost_periodic: u64,
    /// Tasks of the delayed route that wait in the database or in Redis, for other nodes or the next
    /// start. Those in Redis are as durable as Redis is configured to be.
    pub queued: u64,
    /// Tasks of the delayed route that waited in memory and are lost.
    pub lost_queued: u64,
    /// Parts that did not stop by the deadline.
    pub late: Vec<&'static str>,
    /// What went wrong; closing went on with the next part each time.
    pub errors: Vec<Error>,
}

/// What is left to the flush and the parts after it, of the time to close: the buffer of the
/// periodic route is in memory alone, tasks that are given back are not.
const SHARE_OF_WORKERS: u32 = 3;

/// What a part that is only to be closed gets at least, however late it is.
const GRACE: Duration = Duration::from_secs(1);

impl CloseReport {
    /// True if everything that was accepted is in the tables or in a queue outside of this process,
    /// and nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.lost_periodic == 0
            && self.lost_queued == 0
            && self.late.is_empty()
            && self.errors.is_empty()
    }

    /// Waits for a part to end; notes that it is late or failed, and goes on.
    async fn part<T>(
        &mut self,
        name: &'static str,
        until: Instant,
        ends: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        match timeout_at(until.max(Instant::now() + GRACE), ends).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => self.errors.push(error.with_context("closing", name)),
            Err(_) => self.late.push(name),
        }
        None
    }
}

impl Closing {
    /// Closes everything, once: whoever calls again waits for the same end. The work is a task of
    /// its own, so a caller who leaves does not leave it half done.
    pub(crate) async fn close(
        self: &Arc<Self>,
        writer: &Arc<Writer>,
        ids: &IdGenerator,
        deadline: Option<Duration>,
    ) -> Result<CloseReport> {
        let ended = self.once.get_or_init(|| {
            let (closing, writer, ids) = (Arc::clone(self), Arc::clone(writer), ids.clone());
            let deadline = deadline.unwrap_or(closing.deadline);
            let run = async move { closing.run(&writer, &ids, deadline).await };
            // Not on the tracker: it waits for the tracker.
            let task = Handle::current().spawn(run);
            let panicked =
                |join| Error::new(ErrorKind::Unexpected, "closing panicked").with_source(join);
            async move { task.await.map_err(panicked) }.boxed().shared()
        });
        ended.clone().await
    }

    /// Closes the parts in the order in which they need each other.
    async fn run(&self, writer: &Writer, ids: &IdGenerator, deadline: Duration) -> CloseReport {
        let mut report = CloseReport::default();
        let now = Instant::now();
        let until = now.checked_add(deadline).unwrap_or(now + Duration::from_secs(86_400));
        let workers_until = now + until.duration_since(now) / SHARE_OF_WORKERS;
        report.late.extend(self.tasks.stop(Stage::Workers, workers_until).await);

        let before = writer.aggregator.stats().pending_ops;
        report.late.extend(self.tasks.stop(Stage::Flusher, until).await);
        let left = until.saturating_duration_since(Instant::now()).max(GRACE);
        match writer.aggregator.close(left).await {
            Ok(flushed) => {
                match flushed.journal {
                    Some(_) => report.journaled = flushed.ops,
                    None => report.lost_periodic = flushed.ops,
                }
                report.flushed = before.saturating_sub(flushed.ops);
                report.errors.extend(flushed.error.filter(|_| flushed.ops > 0));
            }
            Err(error) => report.errors.push(error),
        }
        report.late.extend(self.tasks.stop(Stage::Upkeep, until).await);
        report.late.extend(self.tasks.stop(Stage::Lease, until).await);

        // Writes whose callers left are still running on the tracker.
        let tracker = self.tasks.tracker();
        tracker.close();
        let ended = async {
            tracker.wait().await;
            Ok(())
        };
        report.part("calls in progress", until, ended).await;
        self.count_queued(writer, &mut report, until).await;

        if let Some(member) = &self.member {
            // Nothing writes any more. A row that stays is forgotten without us.
            let until = until.max(Instant::now() + GRACE);
            // A flush whose outcome is not known may have left a note for others.
            let known = report.lost_periodic == 0 && report.journaled == 0;
            let whole = known && report.late.is_empty();
            let leave = async {
                if whole {
                    member.forget_flushes().await;
                }
                member.leave().await;
            };
            let _ = timeout_at(until, leave).await;
        }
        report.part("ids", until, ids.close()).await;
        for named in writer.queues() {
            report.part("task queue", until, named.queue.close()).await;
        }
        report.part("store", until, self.store.close()).await;
        let closed = async {
            self.servers.close().await;
            Ok(())
        };
        report.part("connections", until, closed).await;
        writer.pending.abandon();
        self.locks.iter().for_each(FileLock::unlock);
        report
    }

    async fn count_queued(&self, writer: &Writer, report: &mut CloseReport, until: Instant) {
        for named in writer.queues() {
            let stats = named.queue.stats(&named.name);
            let Some(stats) = report.part("task queue", until, stats).await else { continue };
            let waiting = stats.pending + stats.leased;
            match named.queue.level() {
                Level::Memory => report.lost_queued += waiting,
                _ => report.queued += waiting,
            }
        }
    }
}
