//! The handle of a batch queue.

use std::collections::HashSet;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use zmsg_core::{Error, ErrorKind, Result};

use super::backlog::locked;
use super::builder::BatchQueueBuilder;
use super::close::BatchCloseReport;
use super::config::BatchConfig;
use super::dead::DeadLetter;
use super::handler::ItemId;
use super::inner::Inner;
use super::intake::Enqueued;
use super::state::Phase;
use super::stats::{BatchQueueStats, add};

/// Collects items and hands them over in batches. Clones are handles to the same queue.
///
/// - An item whose `enqueue` returned is handed over at least once, unless it was in memory alone
///   and the process stopped. What counts as accepted: [`BatchStorage`](super::BatchStorage).
/// - Items are handed over in the order in which they were enqueued, unless
///   [`order`](BatchConfig::order) allows otherwise.
/// - Nothing is removed before its delivery was confirmed by the handler or it is a dead letter.
/// - Every buffer has a bound, at which `enqueue` waits for a while and then is `Overloaded`.
///
/// Dropping the last handle closes the queue as [`close`](Self::close) with no time does.
pub struct BatchQueue<T: Send + Sync + 'static> {
    handle: Arc<Handle<T>>,
}

struct Handle<T: Send + Sync + 'static> {
    inner: Arc<Inner<T>>,
}

impl<T: Send + Sync + 'static> Drop for Handle<T> {
    fn drop(&mut self) {
        self.inner.begin_to_close(Duration::ZERO);
    }
}

impl<T: Send + Sync + 'static> BatchQueue<T> {
    /// Begins to make a queue.
    pub fn builder(config: BatchConfig) -> BatchQueueBuilder<T> {
        BatchQueueBuilder::new(config)
    }

    pub(super) fn new(inner: Arc<Inner<T>>) -> Self {
        Self { handle: Arc::new(Handle { inner }) }
    }

    fn inner(&self) -> &Arc<Inner<T>> {
        &self.handle.inner
    }

    /// Begins to deliver, or goes on after [`pause`](Self::pause). Items may be enqueued before.
    ///
    /// # Errors
    /// `Closed` after `close`.
    pub fn start(&self) -> Result<()> {
        self.change(Phase::Running, "batch_queue.start")
    }

    /// Hands over no further batch until [`start`](Self::start); what is on its way goes on. Items
    /// are taken all the same.
    ///
    /// # Errors
    /// `Closed` after `close`.
    pub fn pause(&self) -> Result<()> {
        self.change(Phase::Paused, "batch_queue.pause")
    }

    fn change(&self, to: Phase, operation: &'static str) -> Result<()> {
        {
            let mut state = self.inner().state();
            if !state.phase.takes() {
                return Err(Error::closed("the batch queue").during(operation));
            }
            if state.phase == Phase::Opened && to == Phase::Paused {
                return Ok(());
            }
            state.phase = to;
        }
        self.inner().wake_all();
        Ok(())
    }

    /// Accepts an item, and waits until it is as durable as the configuration asks for.
    ///
    /// Between the soft limit and the bound of the memory it is slowed down. At the bound the item of
    /// a queue with a log goes there alone; one in memory waits for room.
    ///
    /// # Errors
    /// Nothing was accepted: `Overloaded` if there was no room for `enqueue_timeout`; `InvalidInput`
    /// for an item that is too large or cannot be encoded; `Closed` after `close`. `outcome_unknown`
    /// if the log failed: the item may be delivered, by this process or by the next one.
    ///
    /// # Cancel safety
    /// Dropped before the item was accepted, nothing was; after that the item is delivered.
    pub async fn enqueue(&self, item: T) -> Result<Enqueued> {
        let item = match self.inner().accept_one(item) {
            Ok(accepted) => {
                self.inner().slow_down(1).await;
                return Ok(accepted);
            }
            Err(item) => item,
        };
        let mut accepted = self.enqueue_all(std::iter::once(item), "batch_queue.enqueue").await?;
        accepted.pop().ok_or_else(nothing_accepted)
    }

    /// Accepts items, all or none of them, next to each other. A crash before it returned may keep
    /// the first few of them alone.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); `InvalidInput` if they are more than the queue ever holds.
    ///
    /// # Cancel safety
    /// As `enqueue`.
    pub async fn enqueue_batch(&self, items: Vec<T>) -> Result<Vec<Enqueued>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        self.enqueue_all(items.into_iter(), "batch_queue.enqueue_batch").await
    }

    async fn enqueue_all(
        &self,
        items: impl Iterator<Item = T>,
        operation: &'static str,
    ) -> Result<Vec<Enqueued>> {
        let accepted = match self.inner().incoming(items) {
            Ok(incoming) => self.inner().enqueue(incoming).await,
            Err(error) => Err(error),
        };
        accepted.map_err(|error| error.during(operation))
    }

    /// Accepts an item if there is room at once, and waits for nothing:
    /// [`Enqueued::wait`] waits for more durability.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), without the waiting.
    pub fn try_enqueue(&self, item: T) -> Result<Enqueued> {
        let item = match self.inner().accept_one(item) {
            Ok(accepted) => return Ok(accepted),
            Err(item) => item,
        };
        let incoming = self.inner().incoming(std::iter::once(item));
        let accepted = incoming.and_then(|incoming| self.inner().accept_now(incoming));
        let mut accepted = accepted.map_err(|error| error.during("batch_queue.try_enqueue"))?;
        accepted.pop().ok_or_else(nothing_accepted)
    }

    /// Waits until everything is delivered or buried, as far as nothing new comes; at once if the
    /// queue is closed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn drained(&self) {
        loop {
            let mut idle = pin!(self.inner().idle.notified());
            idle.as_mut().enable();
            if self.is_empty() || self.inner().report.borrow().is_some() {
                return;
            }
            idle.await;
        }
    }

    /// Takes no more items, delivers those that are there for up to `deadline`, writes down what is
    /// left where the queue has a log, and tells what became of everything.
    ///
    /// A queue that is paused, or was never started, delivers nothing more. A second call waits for
    /// the first.
    ///
    /// # Cancel safety
    /// Dropped, the queue is closed all the same.
    pub async fn close(&self, deadline: Duration) -> BatchCloseReport {
        self.inner().begin_to_close(deadline);
        let mut report = self.inner().report.subscribe();
        let closed = report.wait_for(Option::is_some).await;
        closed.ok().and_then(|report| report.clone()).unwrap_or_default()
    }

    /// The oldest dead letters.
    ///
    /// # Errors
    /// What the log of the dead letters says.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn dead_letters(&self, max: usize) -> Result<Vec<DeadLetter<T>>> {
        let letters = self.inner().dead.list(max).await;
        letters.map_err(|error| error.during("batch_queue.dead_letters"))
    }

    /// How many dead letters there are.
    ///
    /// # Errors
    /// What the log of the dead letters says.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn dead_letters_len(&self) -> Result<usize> {
        self.inner().dead.len().await.map_err(|error| error.during("batch_queue.dead_letters_len"))
    }

    /// Forgets dead letters. How many of these there were.
    ///
    /// # Errors
    /// What the log of the dead letters says.
    ///
    /// # Cancel safety
    /// Dropped, some of them may be gone and others not.
    pub async fn drop_dead_letters(&self, ids: impl IntoIterator<Item = ItemId>) -> Result<usize> {
        let ids: HashSet<_> = ids.into_iter().collect();
        let removed = self.inner().dead.remove(&ids).await;
        removed.map_err(|error| error.during("batch_queue.drop_dead_letters"))
    }

    /// Enqueues the dead letters among the oldest `max` anew, behind everything else and under new
    /// ids, and forgets them as letters. How many it did. What cannot be read or written stays, and so
    /// does a letter of a queue in memory that is still held elsewhere, or whose batch was when it died
    /// and is shared with other letters.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and what the log of the dead letters says; letters before the
    /// failure are enqueued. A queue in memory does not wait for room.
    ///
    /// # Cancel safety
    /// Dropped, or after a crash, one letter may be enqueued and still be a letter.
    pub async fn retry_dead_letters(&self, max: usize) -> Result<usize> {
        // One at a time: two would enqueue the same letters.
        let _alone = self.inner().retrying.lock().await;
        let retried = match self.inner().dead.memory() {
            Some(letters) => self.inner().retry_in_memory(letters, max),
            None => self.inner().retry_from_disk(max).await,
        };
        retried.map_err(|error| error.during("batch_queue.retry_dead_letters"))
    }

    /// Whether it was started and not closed; also while it is paused.
    pub fn is_started(&self) -> bool {
        matches!(self.inner().state().phase, Phase::Running | Phase::Paused)
    }

    /// Whether it hands over no batches until it is started again.
    pub fn is_paused(&self) -> bool {
        self.inner().state().phase == Phase::Paused
    }

    /// Whether it takes no more items.
    pub fn is_closed(&self) -> bool {
        !self.inner().state().phase.takes()
    }

    /// How many items wait or are on their way.
    pub fn len(&self) -> u64 {
        self.inner().whole_state().pending()
    }

    /// Whether nothing waits and nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the log; 0 of a queue in memory.
    pub fn wal_size(&self) -> u64 {
        self.inner().backlog.as_ref().map_or(0, super::backlog::Backlog::bytes)
    }

    /// What it was opened with.
    pub fn config(&self) -> &BatchConfig {
        &self.inner().config
    }

    /// What it did and where it stands.
    pub fn stats(&self) -> BatchQueueStats {
        let inner = self.inner();
        let mut stats = inner.counters.read();
        let now = inner.clock.coarse();
        {
            let state = inner.whole_state();
            stats.enqueued = state.enqueued;
            stats.pending = state.pending();
            stats.memory_items = state.items;
            stats.memory_bytes = state.bytes;
            stats.in_flight = state.in_flight();
            stats.on_disk = state.on_disk;
            let oldest = state.oldest().unwrap_or(now);
            stats.oldest_age = Duration::from_millis(now.saturating_sub(oldest));
        }
        stats.wal_bytes = self.wal_size();
        stats.batch_size = locked(&inner.sizer).size();
        stats.breaker_is_open = locked(&inner.breaker).is_open();
        stats
    }

    pub(super) fn note_recovered(&self, items: u64) {
        add(&self.inner().counters.recovered, items);
    }
}

fn nothing_accepted() -> Error {
    Error::new(ErrorKind::Unexpected, "the queue accepted no item and did not say why")
}

impl<T: Send + Sync + 'static> Clone for BatchQueue<T> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for BatchQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner().fmt(f)
    }
}
