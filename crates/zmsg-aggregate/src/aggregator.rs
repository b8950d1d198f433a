//! The aggregator: takes operations, folds them, and flushes them exactly once.

mod inner;
mod closing;
mod readiness;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Error, ErrorKind, Key, Result, Settlement, Task};
use zmsg_store::SqlStore;

use crate::buffer::Incoming;
use crate::flush::{FlushObserver, Ledger};
use crate::flusher::Flusher;
use crate::journal::{Journal, Journaled, Recovery};
use crate::policy::FlushPolicy;
use crate::report::FlushReport;
use crate::stats::AggregateStats;
pub(crate) use inner::Inner;
use inner::SHARDS;

/// Takes operations, folds them in memory, and flushes them in batches.
///
/// - Flushing what was folded has the effect of executing every operation of a batch key in the
///   order it was submitted, wherever that is legal.
/// - Each operation takes effect exactly once or goes to the dead letters, whatever fails between
///   this process and the database. What a process that is killed had in its buffer is in its
///   journal, for a [`Recovery`](crate::Recovery); without a journal it is lost.
/// - Operations that are submitted while a flush runs go into the next one.
/// - An operation that the database refuses does not hold up the others.
/// - The buffer is bounded: beyond it operations are refused at once with `Overloaded`.
///
/// Cloning it is one reference count.
#[derive(Debug, Clone)]
pub struct Aggregator(pub(crate) Arc<Inner>);

/// An operation that was accepted.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Tells when its effect is in the tables.
    pub settlement: Settlement,
    /// Tells when it may be acknowledged, and as how durable.
    pub journaled: Journaled,
}

impl Aggregator {
    /// Opens a new stream over this store, without a journal: what waits is lost with the process.
    ///
    /// # Errors
    /// As for [`open_with`](Self::open_with).
    ///
    /// # Cancel safety
    /// Nothing is written; dropping the future changes nothing.
    pub async fn open(
        store: Arc<dyn SqlStore>,
        policy: FlushPolicy,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn FlushObserver>,
        tracker: TaskTracker,
    ) -> Result<Self> {
        Self::open_with(Journal::off(), store, policy, clock, observer, tracker).await
    }

    /// Opens the stream of this journal over this store. What earlier processes left in theirs is
    /// for a [`Recovery`](crate::Recovery), best before anything is submitted here.
    ///
    /// The store must have zmsg's own tables and functions from its migrations and, if it is
    /// SQLite, be opened with [`sqlite_functions`](crate::sqlite_functions). Flushes run as tasks on `tracker`; the
    /// [`flusher`](Self::flusher) still has to be run by the owner.
    ///
    /// # Errors
    /// `InvalidConfig` for a setting of zero and for a store without those tables or functions; as
    /// the store otherwise.
    ///
    /// # Cancel safety
    /// Nothing is written; dropping the future changes nothing.
    pub async fn open_with(
        journal: Journal,
        store: Arc<dyn SqlStore>,
        policy: FlushPolicy,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn FlushObserver>,
        tracker: TaskTracker,
    ) -> Result<Self> {
        policy.check()?;
        let mut ledger = Ledger::of(store, clock, journal.stream(), policy.patience);
        ledger.check_store().await?;
        if journal.dir().is_some() {
            ledger.take_root(SHARDS).await?;
            zmsg_core::fail_point!("zmsg-aggregate::open::rooted");
        }
        let inner = Inner::new(policy, ledger, observer, tracker, journal, |_shard| 0);
        Ok(Self(Arc::new(inner)))
    }

    /// Accepts an operation or a statement for the next flush; it is in the journal and folded when
    /// this returns.
    ///
    /// `key` is the cache key that the operation belongs to, for
    /// [`flush_key`](Self::flush_key) and the observer. The acceptance is as durable as this
    /// process's memory until [`Journaled::acknowledged`](crate::Journaled::acknowledged) says
    /// more; the settlement tells when the effect is in the tables.
    ///
    /// # Errors
    /// `InvalidInput` for what can never work, `Unsupported` for a statement that returns rows,
    /// `Overloaded` at the bound, `Closed` after [`close`](Self::close), `Corrupted` if the ledger
    /// of its shard was moved by somebody else, `Unavailable` once the disk of the journal failed.
    pub fn submit(&self, key: Option<&Key>, task: Task) -> Result<Submitted> {
        let inner = &*self.0;
        let incoming = Incoming::of(task, inner.policy.on_missing)?;
        let asked = incoming.weight(key);
        let lane = inner.lane_of(&incoming.batch_key);
        let record = inner.journal.record(lane.shard.index, key, &incoming)?;
        inner.admit(asked)?;
        zmsg_core::fail_point!("zmsg-aggregate::submit::admitted");
        let number = |last| inner.journal.append(&record, last);
        let accepted = inner.accept(lane, incoming, key, asked, number)?;
        zmsg_core::fail_point!("zmsg-aggregate::submit::folded");
        let journaled = inner.journal.journaled(accepted.seq);
        Ok(Submitted { settlement: accepted.settlement, journaled })
    }

    /// Folds again what a journal holds, under the number that it has there.
    pub(crate) fn accept_again(
        &self,
        shard: u16,
        incoming: Incoming,
        key: Option<&Key>,
        seq: u64,
    ) -> Result<()> {
        let lane = self.0.lanes.get(usize::from(shard)).ok_or_else(|| {
            Error::new(ErrorKind::Corrupted, "an operation of a shard that there is not")
                .with_context("shard", shard)
        })?;
        // It had its room when it was accepted first.
        self.0.accept(lane, incoming, key, 0, |_last| Ok(seq)).map(drop)
    }

    /// Returns when nothing of this key that was submitted before the call is pending: it took
    /// effect, or is in the dead letters.
    ///
    /// It flushes the shards that hold something of the key, each whole, and waits for a flush
    /// that is in progress. If nothing is pending it costs one atomic read.
    ///
    /// # Errors
    /// Why a flush failed; what it held stays pending and is tried again by the flusher.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the wait; a flush that began goes on.
    pub async fn flush_key(&self, key: &Key) -> Result<()> {
        if self.0.pending_ops.load(SeqCst) == 0 {
            return Ok(());
        }
        let due = self.0.lanes.iter().filter_map(|lane| Some((lane, lane.shard.pending_of(key)?)));
        let due: Vec<_> = due.map(|(lane, upto)| self.0.flush(lane, upto)).collect();
        FlushReport::gather(due).await.map(drop)
    }

    /// Flushes everything that was submitted before the call.
    ///
    /// # Errors
    /// The first failure, after every shard was tried; what it held stays pending and is tried
    /// again by the flusher.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the wait; a flush that began goes on.
    pub async fn flush_all(&self) -> Result<FlushReport> {
        let lanes = self.0.lanes.iter().map(|lane| (lane, lane.shard.accepted()));
        let due = lanes.filter(|(lane, upto)| lane.shard.applied() < *upto);
        FlushReport::gather(due.map(|(lane, upto)| self.0.flush(lane, upto)).collect()).await
    }

    /// The journal of its stream.
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// What brings into this aggregator's database what others left in their journals; what fails
    /// for a while is tried again for as long as `patience`.
    pub fn recovery(&self, patience: Duration) -> Recovery {
        // Somebody waits for it: an operation that always runs out of its time is given up sooner.
        const OF_ONE: Duration = Duration::from_secs(5);
        let Inner { ledger, policy, observer, tracker, .. } = &*self.0;
        let policy = FlushPolicy { patience: policy.patience.min(OF_ONE), ..policy.clone() };
        Recovery {
            store: Arc::clone(&ledger.store),
            policy,
            clock: Arc::clone(&ledger.clock),
            observer: Arc::clone(observer),
            tracker: tracker.clone(),
            patience,
        }
    }

    /// The loop that flushes when it is time. Run one of them.
    pub fn flusher(&self) -> Flusher {
        Flusher::new(Arc::clone(&self.0))
    }

    /// What was done, and what waits.
    pub fn stats(&self) -> AggregateStats {
        let mut stats = self.0.counters.done();
        let now = self.0.ledger.clock.coarse();
        let mut oldest = None;
        for lane in &self.0.lanes {
            let load = lane.shard.load();
            stats.pending_ops += load.ops;
            stats.pending_slots += load.slots;
            stats.pending_bytes += u64::try_from(load.bytes).unwrap_or_default();
            oldest = [oldest, lane.shard.oldest()].into_iter().flatten().min();
        }
        stats.oldest = oldest.map(|since| Duration::from_millis(now.saturating_sub(since)));
        stats
    }
}
