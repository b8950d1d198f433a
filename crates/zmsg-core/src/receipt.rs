//! What a write promises when it returns, and how to wait for more.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, ErrorKind, Result};

/// The id of a write, made before any I/O: a retry or a fallback uses it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId(pub Uuid);

impl TaskId {
    /// A new id, ordered by time (UUID version 7).
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How durable the acceptance of a write is. Each level survives what the ones before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// In this process. Lost if the process stops without `close`.
    Memory,
    /// In Redis, as durable as that Redis is. Survives this process.
    Redis,
    /// On this machine's disk, synced. Survives a power cut.
    LocalDisk,
    /// Committed in the database, with the database's own durability.
    Database,
}

/// The proof of an accepted write.
#[derive(Debug, Clone)]
#[must_use = "a receipt says how durable the write is; wait for more or drop it knowingly"]
pub struct Receipt {
    id: TaskId,
    level: Level,
    reach: Level,
    settlement: Option<Settlement>,
    disk: Option<Arc<dyn DiskSync>>,
    degraded: bool,
}

/// Brings an accepted write to this machine's disk in its own time.
pub trait DiskSync: fmt::Debug + Send + Sync + 'static {
    /// Whether the write is on the disk.
    fn is_synced(&self) -> bool;

    /// Waits until the write is on the disk.
    ///
    /// # Errors
    /// If it cannot be known to be, or to become so.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    fn synced(&self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>;
}

impl Receipt {
    /// A write that is committed and in the tables.
    pub fn committed(id: TaskId) -> Self {
        Self {
            id,
            level: Level::Database,
            reach: Level::Database,
            settlement: None,
            disk: None,
            degraded: false,
        }
    }

    /// A write that ends in a cache and will never be in the tables.
    pub fn cached(id: TaskId, level: Level) -> Self {
        Self { id, level, reach: level, settlement: None, disk: None, degraded: false }
    }

    /// A write accepted at `level` whose effect is still to come.
    pub fn accepted(id: TaskId, level: Level, settlement: Settlement) -> Self {
        let settlement = Some(settlement);
        Self { id, level, reach: Level::Database, settlement, disk: None, degraded: false }
    }

    /// The receipt of a write that comes to this machine's disk before it is applied.
    pub fn with_disk(mut self, disk: Arc<dyn DiskSync>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// The receipt of a write that the shared cache was not told of, if `degraded`.
    pub fn with_degraded(mut self, degraded: bool) -> Self {
        self.degraded |= degraded;
        self
    }

    /// True if the shared cache could not be reached for this write. The write is as durable as
    /// [`level`](Self::level) says; but until the cache is repaired, or the entry's TTL has
    /// passed, reads that go to it may see what was there before.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// The write's id.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// How durable the acceptance is by now.
    pub fn level(&self) -> Level {
        let raised = self.settlement.as_ref().map(Settlement::level);
        let level = raised.map_or(self.level, |raised| raised.max(self.level));
        let on_disk =
            level < Level::LocalDisk && self.disk.as_ref().is_some_and(|disk| disk.is_synced());
        if on_disk { Level::LocalDisk } else { level }
    }

    /// Waits until the acceptance is at least as durable as `level`.
    ///
    /// # Errors
    /// `Unsupported` at once if this call can never reach the level; otherwise the error that
    /// ended the write (dead-lettered, or the engine stopped before).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait(&self, level: Level) -> Result<()> {
        if level <= self.level {
            return Ok(());
        }
        match (&self.settlement, &self.disk) {
            (Some(settlement), Some(disk)) if level <= Level::LocalDisk => {
                // The flush may be faster, or the disk fail.
                first_of(settlement.reached(level), disk.synced()).await
            }
            (Some(settlement), _) if level <= self.reach => settlement.reached(level).await,
            _ => Err(Error::new(ErrorKind::Unsupported, "this write can never be that durable")
                .with_context("level", format!("{level:?}"))
                .with_context("reach", format!("{:?}", self.reach))),
        }
    }

    /// Waits until the effect is in the tables.
    ///
    /// # Errors
    /// `Unsupported` for a write that only goes to a cache; otherwise as for [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn applied(&self) -> Result<()> {
        match &self.settlement {
            Some(settlement) => settlement.applied().await,
            None if self.reach == Level::Database => Ok(()),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                "a write that only goes to a cache is never in the tables",
            )),
        }
    }
}

/// Whichever of the two ends first; if the disk fails first, how the write itself ends.
async fn first_of(
    write: impl Future<Output = Result<()>>,
    disk: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (mut write, mut disk) = (pin!(write), pin!(disk));
    let first = poll_fn(|context| {
        if let Poll::Ready(ended) = write.as_mut().poll(context) {
            return Poll::Ready(Some(ended));
        }
        disk.as_mut().poll(context).map(|synced| synced.is_ok().then_some(Ok(())))
    });
    match first.await {
        Some(ended) => ended,
        None => write.await,
    }
}

/// The reading half of a pending write's outcome.
#[derive(Clone)]
pub struct Settlement(Arc<Shared>);

/// The writing half of a pending write's outcome.
///
/// Dropped without [`settle`](Settler::settle), it tells those who wait that the engine stopped
/// first; nobody waits for ever.
pub struct Settler {
    shared: Arc<Shared>,
    settled: bool,
}

struct Shared(Mutex<State>);

struct State {
    level: Level,
    outcome: Option<Result<()>>,
    wakers: Vec<Waker>,
}

impl Settlement {
    /// A pending outcome, accepted at `level` so far.
    pub fn pending(level: Level) -> Settler {
        let state = State { level, outcome: None, wakers: Vec::new() };
        Settler { shared: Arc::new(Shared(Mutex::new(state))), settled: false }
    }

    fn level(&self) -> Level {
        self.0.lock().level
    }

    async fn reached(&self, level: Level) -> Result<()> {
        self.when(|state| match &state.outcome {
            _ if state.level >= level => Some(Ok(())),
            outcome => outcome.clone(),
        })
        .await
    }

    async fn applied(&self) -> Result<()> {
        self.when(|state| state.outcome.clone()).await
    }

    async fn when(&self, ready: impl Fn(&State) -> Option<Result<()>>) -> Result<()> {
        poll_fn(|context| {
            let mut state = self.0.lock();
            if let Some(result) = ready(&state) {
                return Poll::Ready(result);
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                state.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Settler {
    /// A reading half.
    pub fn settlement(&self) -> Settlement {
        Settlement(Arc::clone(&self.shared))
    }

    /// Raises the level that was reached; a lower one changes nothing.
    pub fn raise(&self, level: Level) {
        self.shared.change(|state| state.level = state.level.max(level));
    }

    /// Ends the wait: the effect is in the tables, or it never will be.
    pub fn settle(mut self, outcome: Result<()>) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Result<()>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.shared.change(|state| {
            if outcome.is_ok() {
                state.level = Level::Database;
            }
            state.outcome = Some(outcome);
        });
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        // What was accepted durably, or was on its way, may take effect all the same.
        let stopped = "the engine stopped before this was seen to be applied";
        self.finish(Err(Error::new(ErrorKind::Closed, stopped).outcome_unknown()));
    }
}

impl Shared {
    // A panic between lock and unlock is impossible here, and the state is valid at each step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        write!(f, "Settlement({:?}, {:?})", state.level, state.outcome)
    }
}

impl fmt::Debug for Settler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settlement().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::task::Context;

    use super::*;

    fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_committed_write_is_applied_at_once() {
        let receipt = Receipt::committed(TaskId::generate());
        assert!(matches!(poll_once(receipt.applied()), Poll::Ready(Ok(()))));
        assert!(matches!(poll_once(receipt.wait(Level::Database)), Poll::Ready(Ok(()))));
    }

    #[test]
    fn a_cache_write_never_reaches_the_database() {
        let receipt = Receipt::cached(TaskId::generate(), Level::Memory);
        let Poll::Ready(Err(error)) = poll_once(receipt.wait(Level::Redis)) else { panic!() };
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(matches!(poll_once(receipt.applied()), Poll::Ready(Err(_))));
    }

    #[test]
    fn waiting_ends_at_the_level_and_applied_at_the_effect() {
        let settler = Settlement::pending(Level::Memory);
        let receipt = Receipt::accepted(TaskId::generate(), Level::Memory, settler.settlement());
        assert!(poll_once(receipt.wait(Level::LocalDisk)).is_pending());
        settler.raise(Level::LocalDisk);
        assert_eq!(receipt.level(), Level::LocalDisk);
        assert!(matches!(poll_once(receipt.wait(Level::LocalDisk)), Poll::Ready(Ok(()))));
        assert!(poll_once(receipt.applied()).is_pending());
        settler.settle(Ok(()));
        assert!(matches!(poll_once(receipt.applied()), Poll::Ready(Ok(()))));
        assert_eq!(receipt.level(), Level::Database);
    }

    /// Answers at once: synced, failed, or not yet.
    #[derive(Debug, Default)]
    struct Disk {
        synced: AtomicBool,
        failed: AtomicBool,
    }

    impl DiskSync for Disk {
        fn is_synced(&self) -> bool {
            self.synced.load(Relaxed)
        }

        fn synced(&self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
            Box::pin(poll_fn(|_context| match (self.is_synced(), self.failed.load(Relaxed)) {
                (true, _) => Poll::Ready(Ok(())),
                (_, true) => {
                    Poll::Ready(Err(Error::new(ErrorKind::Unavailable, "the disk failed")))
                }
                _ => Poll::Pending,
            }))
        }
    }

    #[test]
    fn a_write_on_its_way_to_the_disk_says_when_it_is_there() {
        let settler = Settlement::pending(Level::Memory);
        let disk = Arc::new(Disk::default());
        let receipt = Receipt::accepted(TaskId::generate(), Level::Memory, settler.settlement())
            .with_disk(disk.clone());
        assert_eq!(receipt.level(), Level::Memory);
        assert!(poll_once(receipt.wait(Level::LocalDisk)).is_pending());
        disk.synced.store(true, Relaxed);
        assert_eq!(receipt.level(), Level::LocalDisk);
        assert!(matches!(poll_once(receipt.wait(Level::LocalDisk)), Poll::Ready(Ok(()))));
        assert!(poll_once(receipt.wait(Level::Database)).is_pending());
    }

    #[test]
    fn a_failed_disk_leaves_the_database_to_wait_for() {
        let settler = Settlement::pending(Level::Memory);
        let disk = Arc::new(Disk { failed: true.into(), ..Disk::default() });
        let receipt = Receipt::accepted(TaskId::generate(), Level::Memory, settler.settlement())
            .with_disk(disk);
        assert!(poll_once(receipt.wait(Level::LocalDisk)).is_pending());
        settler.settle(Ok(()));
        assert!(matches!(poll_once(receipt.wait(Level::LocalDisk)), Poll::Ready(Ok(()))));
    }

    #[test]
    fn an_abandoned_write_wakes_those_who_wait() {
        let settler = Settlement::pending(Level::Memory);
        let receipt = Receipt::accepted(TaskId::generate(), Level::Memory, settler.settlement());
        drop(settler);
        let Poll::Ready(Err(error)) = poll_once(receipt.applied()) else { panic!() };
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}
