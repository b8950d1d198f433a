//! Writes whose keys are in the filter and whose rows may not be in the table yet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Keys that are in the filter, on their way into the table.
///
/// The writer keeps it until its commit or rollback is known, then drops it. A rebuild that begins
/// meanwhile waits: it must not read the source before a row that its generation was never told of
/// can be seen there.
#[must_use = "keep it until the outcome of the write is known"]
pub struct Insertion {
    entered: Option<Entered>,
    guarded: Option<Guarded>,
}

/// The write of an insertion, registered with its epoch.
struct Entered {
    writes: Arc<InFlight>,
    epoch: u64,
}

/// The state under which the keys were added.
struct Guarded {
    version: u64,
    outdated: Arc<AtomicU64>,
}

impl Insertion {
    /// An insertion that nobody waits for: for filters that find out about writes in flight by
    /// other means, or have nothing to rebuild.
    pub fn untracked() -> Self {
        Self { entered: None, guarded: None }
    }

    /// This insertion with the version of a shared state that its write checks. If it turns out to
    /// be [outdated](Self::outdated), `outdated` is raised to the version.
    pub fn with_version(mut self, version: u64, outdated: Arc<AtomicU64>) -> Self {
        self.guarded = Some(Guarded { version, outdated });
        self
    }

    /// The version of the filter's state that must still hold when the write commits; `None` if
    /// there is nothing to check.
    ///
    /// The check is the last step of the write's transaction, so that a transaction that passed it
    /// is known to the database as one that writes. If it is refused, nothing is committed, and
    /// the write starts again with a new insertion.
    pub fn version(&self) -> Option<u64> {
        self.guarded.as_ref().map(|guarded| guarded.version)
    }

    /// Says that the check was refused: the next insertion reads the state anew.
    pub fn outdated(self) {
        if let Some(Guarded { version, outdated }) = &self.guarded {
            outdated.fetch_max(*version, Ordering::AcqRel);
        }
    }
}

impl Drop for Insertion {
    fn drop(&mut self) {
        if let Some(Entered { writes, epoch }) = self.entered.take() {
            writes.leave(epoch);
        }
    }
}

impl fmt::Debug for Insertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Insertion")
            .field("tracked", &self.entered.is_some())
            .field("version", &self.version())
            .finish()
    }
}

/// Counts the writes in flight by epoch, so that those before a point in time can be waited for
/// while new ones keep coming.
#[derive(Debug, Default)]
pub struct InFlight {
    epochs: Mutex<Epochs>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Epochs {
    current: u64,
    /// Writes in flight by the epoch they entered in; epochs without any are not kept.
    writes: BTreeMap<u64, usize>,
}

impl InFlight {
    /// Registers a write.
    pub fn enter(self: &Arc<Self>) -> Insertion {
        let mut epochs = self.lock();
        let epoch = epochs.current;
        *epochs.writes.entry(epoch).or_default() += 1;
        let entered = Some(Entered { writes: Arc::clone(self), epoch });
        Insertion { entered, guarded: None }
    }

    /// Waits until every write has ended that was registered before the call's first poll.
    ///
    /// # Cancel safety
    /// Dropping the future only stops waiting.
    pub async fn earlier_ended(&self) {
        let mine = self.next_epoch();
        loop {
            // Listen before looking: a write that ends in between must not be missed.
            let left = self.left.notified();
            if self.oldest().is_none_or(|oldest| oldest >= mine) {
                return;
            }
            left.await;
        }
    }

    fn next_epoch(&self) -> u64 {
        let mut epochs = self.lock();
        epochs.current += 1;
        epochs.current
    }

    fn oldest(&self) -> Option<u64> {
        self.lock().writes.keys().next().copied()
    }

    fn leave(&self, epoch: u64) {
        let mut epochs = self.lock();
        if let Some(writes) = epochs.writes.get_mut(&epoch) {
            *writes -= 1;
            if *writes == 0 {
                epochs.writes.remove(&epoch);
                drop(epochs);
                self.left.notify_waiters();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Epochs> {
        // Nothing panics while the lock is held, so the counts are right even if it is poisoned.
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
