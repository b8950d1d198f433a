//! The end: stop intake, drain, flush, and say what is left.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use zmsg_core::{Error, ErrorKind, Level, Result};
use zmsg_idgen::IdGenerator;
use zmsg_store::SqlStore;

use crate::codec;
use crate::tasks::{Stage, Tasks};
use crate::write::Writer;

/// What `close` needs besides the parts that work.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) tasks: Tasks,
    pub(crate) store: Arc<dyn SqlStore>,
    /// The deadline of the configuration.
    pub(crate) deadline: Duration,
    /// The lock on the directory; released with the last handle, or by `close`.
    pub(crate) lock: std::sync::Mutex<Option<File>>,
}

/// What was still pending when the engine closed, and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "the report says what is still pending"]
pub struct CloseReport {
    /// Operations of the periodic route that were applied or dead-lettered while closing.
    pub flushed: u64,
    /// Operations of the periodic route that could not be flushed: they were in memory and are lost.
    pub lost_periodic: u64,
    /// Tasks of the delayed route that wait in a durable queue for the next start.
    pub queued: u64,
    /// Tasks of the delayed route that waited in memory and are lost.
    pub lost_queued: u64,
    /// Background tasks that did not stop by the deadline.
    pub late: Vec<&'static str>,
}

impl CloseReport {
    /// True if everything that was accepted is in the tables or in a durable queue.
    pub fn is_clean(&self) -> bool {
        self.lost_periodic == 0 && self.lost_queued == 0 && self.late.is_empty()
    }
}

impl Closing {
    /// Closes the parts in the order in which they need each other.
    pub(crate) async fn run(
        &self,
        writer: &Writer,
        ids: &IdGenerator,
        deadline: Duration,
    ) -> Result<CloseReport> {
        let until = Instant::now() + deadline;
        let mut report = CloseReport::default();
        report.late.extend(self.tasks.stop(Stage::Workers, until).await);
        let queued = writer.queue.stats(codec::QUEUE).await?;
        let waiting = queued.pending + queued.leased;
        match writer.queue.level() {
            Level::Memory => report.lost_queued = waiting,
            _ => report.queued = waiting,
        }
        let before = writer.aggregator.stats().pending_ops;
        report.late.extend(self.tasks.stop(Stage::Flusher, until).await);
        let left = until.saturating_duration_since(Instant::now());
        let flushed = writer.aggregator.close(left).await?;
        report.lost_periodic = flushed.ops;
        report.flushed = before.saturating_sub(flushed.ops);
        report.late.extend(self.tasks.stop(Stage::Upkeep, until).await);
        report.late.extend(self.tasks.stop(Stage::Lease, until).await);
        // Writes that callers dropped are still running on the tracker.
        self.tasks.tracker().close();
        if timeout_at(until, self.tasks.tracker().wait()).await.is_err() {
            report.late.push("writes in progress");
        }
        ids.close().await?;
        writer.queue.close().await?;
        self.store.close().await?;
        self.unlock();
        Ok(report)
    }

    fn unlock(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(lock.take());
    }
}

/// Opens and locks the engine's directory: one engine per directory.
pub(crate) fn lock_directory(directory: &std::path::Path) -> Result<File> {
    let failed = |cause: std::io::Error| {
        Error::new(ErrorKind::Unavailable, "could not use the engine's directory")
            .with_context("directory", directory.display())
            .with_source(cause)
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(directory.join("LOCK")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::new(ErrorKind::Conflict, "another engine has this directory open")
                .with_context("directory", directory.display()))
        }
        Err(std::fs::TryLockError::Error(cause)) => Err(failed(cause)),
    }
}
