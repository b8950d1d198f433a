//! What the handles, the flusher and the flights of an aggregator share.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use tokio_util::task::TaskTracker;
use zmsg_core::{Error, Key, Result};

use crate::buffer::{Accepted, BatchKey, Incoming, Shard};
use crate::flush::{FlushObserver, Ledger};
use crate::journal::Journal;
use crate::lane::Lane;
use crate::policy::FlushPolicy;
use crate::sabotage;
use crate::stats::Counters;

/// Batch keys are spread over so many shards: a power of two. Journals name their shards, so another
/// number would need another version of their records.
pub(crate) const SHARDS: u16 = 16;

/// The state of an open aggregator.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) policy: FlushPolicy,
    pub(crate) ledger: Ledger,
    pub(crate) observer: Arc<dyn FlushObserver>,
    pub(crate) tracker: TaskTracker,
    pub(crate) journal: Journal,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) counters: Counters,
    /// Wakes the flusher before its time.
    pub(crate) wake: tokio::sync::Notify,
    hasher: RandomState,
    /// Operations and bytes that wait in all shards, those being flushed included.
    pub(crate) pending_ops: AtomicU64,
    pub(crate) pending_bytes: AtomicI64,
    /// Files of the journal are being removed.
    trims: AtomicBool,
}

impl Inner {
    /// `applied` says for each shard up to which number everything has taken effect.
    pub(crate) fn new(
        policy: FlushPolicy,
        ledger: Ledger,
        observer: Arc<dyn FlushObserver>,
        tracker: TaskTracker,
        journal: Journal,
        applied: impl Fn(u16) -> u64,
    ) -> Self {
        let lane = |index| Arc::new(Lane::new(Shard::new(index, applied(index))));
        Self {
            policy,
            ledger,
            observer,
            tracker,
            journal,
            lanes: (0..SHARDS).map(lane).collect(),
            counters: Counters::default(),
            wake: tokio::sync::Notify::new(),
            hasher: RandomState::new(),
            pending_ops: AtomicU64::new(0),
            pending_bytes: AtomicI64::new(0),
            trims: AtomicBool::new(false),
        }
    }

    /// Folds an operation for which `asked` bytes of room were taken.
    pub(super) fn accept(
        &self,
        lane: &Lane,
        incoming: Incoming,
        key: Option<&Key>,
        asked: i64,
        number: impl FnOnce(u64) -> Result<u64>,
    ) -> Result<Accepted> {
        let now = self.ledger.clock.coarse();
        let accepted = match lane.shard.accept(incoming, key, now, &self.pending_ops, number) {
            Ok(accepted) => accepted,
            Err(error) => {
                self.pending_bytes.fetch_sub(asked, Relaxed);
                return Err(error);
            }
        };
        let more = accepted.grown - asked;
        let held = self.pending_bytes.fetch_add(more, Relaxed) + more;
        self.counters.submitted.fetch_add(1, Relaxed);
        self.counters.folded.fetch_add(u64::from(accepted.folded), Relaxed);
        self.hurry(lane, &accepted.load, held);
        Ok(accepted)
    }

    /// Lets go of what the journal holds and has taken effect, in a task of its own: a disk that
    /// stands still holds up no flush.
    pub(crate) fn trim_journal(self: &Arc<Self>) {
        // Read before the shards: what is accepted after a shard was looked at lies above it.
        let last = self.journal.last();
        let waiting = self.lanes.iter().filter_map(|lane| lane.shard.waits_above());
        let below = waiting.fold(last, u64::min) + 1;
        let below = if sabotage::trims_early() { last + 1 } else { below };
        if !self.journal.can_remove_below(below) || self.trims.swap(true, SeqCst) {
            return;
        }
        let inner = Arc::clone(self);
        self.tracker.spawn(async move {
            zmsg_core::fail_point!("zmsg-aggregate::trim::before");
            inner.journal.remove_below(below).await;
            zmsg_core::fail_point!("zmsg-aggregate::trim::trimmed");
            inner.trims.store(false, SeqCst);
        });
    }

    pub(super) fn lane_of(&self, batch_key: &BatchKey) -> &Arc<Lane> {
        let hash = self.hasher.hash_one(batch_key);
        let index = hash & u64::from(SHARDS - 1);
        &self.lanes[usize::try_from(index).unwrap_or_default()]
    }

    /// Takes room for an operation, before anything is changed.
    pub(super) fn admit(&self, bytes: i64) -> Result<()> {
        let bytes_max = i64::try_from(self.policy.bytes_max).unwrap_or(i64::MAX);
        let before = self.pending_bytes.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) <= bytes_max {
            return Ok(());
        }
        self.pending_bytes.fetch_sub(bytes, Relaxed);
        self.counters.overloaded.fetch_add(1, Relaxed);
        self.wake.notify_one();
        Err(Error::overloaded("bytes_max").with_context("bytes_max", bytes_max))
    }
}
