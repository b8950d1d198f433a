//! The aggregator: takes operations, folds them, and flushes them exactly once.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Error, ErrorKind, Key, Result, Settlement, Task};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::SqlStore;

use crate::buffer::{Accepted, BatchKey, Incoming, Shard};
use crate::deadline::from_now;
use crate::flush::{FlushObserver, Ledger};
use crate::flusher::Flusher;
use crate::journal::{Journal, Journaled, Recovery, bury};
use crate::lane::Lane;
use crate::policy::FlushPolicy;
use crate::report::{CloseReport, FlushReport};
use crate::stats::{AggregateStats, Counters};

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

/// Batch keys are spread over so many shards: a power of two. Journals name their shards, so another
/// number would need another version of their records.
pub(crate) const SHARDS: u16 = 16;

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
        let number = |last| inner.journal.append(&record, last);
        let accepted = inner.accept(lane, incoming, key, asked, number)?;
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
        let complete = report.is_complete();
        let until = deadline.max(from_now(GRACE));
        let ended = tokio::time::timeout_at(until, self.0.journal.end(complete)).await;
        match ended.unwrap_or_else(|_| Err(too_late())) {
            Ok(done) if complete => {
                if self.forget(deadline).await
                    && let Some(done) = done
                {
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
    pub(crate) async fn drain(&self, deadline: tokio::time::Instant) -> CloseReport {
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

    // The rows of a stream that is complete say nothing any more; left behind they only take
    // space, so a failure is worth a line and no more. With a journal the next start forgets them.
    async fn forget(&self, deadline: tokio::time::Instant) -> bool {
        match tokio::time::timeout_at(deadline, self.0.ledger.forget()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(%error, "the ledger rows of this stream stay behind"),
            Err(_) => tracing::warn!("no time to remove the ledger rows of this stream"),
        }
        false
    }
}

/// What the end of a journal gets at least, however late it is.
const GRACE: Duration = Duration::from_secs(1);

fn too_late() -> Error {
    Error::new(ErrorKind::Timeout, "a flush was still running at the deadline").temporary()
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
    fn accept(
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
        if !self.journal.can_remove_below(below) || self.trims.swap(true, SeqCst) {
            return;
        }
        let inner = Arc::clone(self);
        self.tracker.spawn(async move {
            inner.journal.remove_below(below).await;
            inner.trims.store(false, SeqCst);
        });
    }

    fn lane_of(&self, batch_key: &BatchKey) -> &Arc<Lane> {
        let hash = self.hasher.hash_one(batch_key);
        let index = hash & u64::from(SHARDS - 1);
        &self.lanes[usize::try_from(index).unwrap_or_default()]
    }

    /// Takes room for an operation, before anything is changed.
    fn admit(&self, bytes: i64) -> Result<()> {
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

impl Ledger {
    /// Finds out at the start what every flush would fail of.
    async fn check_store(&self) -> Result<()> {
        self.probe("SELECT seq FROM zmsg_ledger LIMIT 0", "run zmsg's own migrations first")
            .await?;
        self.probe("SELECT id FROM zmsg_dead_letters LIMIT 0", "run zmsg's own migrations first")
            .await?;
        let (call, hint) = match self.store.dialect() {
            Dialect::Sqlite => (
                "SELECT zmsg_counter(NULL, 1, 0), zmsg_fold(NULL, '[1,\"zero\"]')",
                "open the SQLite store with sqlite_functions()",
            ),
            Dialect::Postgres => (
                "SELECT zmsg_add(NULL::bigint, 1::bigint), zmsg_counter(NULL::bigint, 1.0, 0.0), \
                 zmsg_fold(NULL::bigint, '[1,\"zero\"]'::jsonb)",
                "run zmsg's own migrations first",
            ),
        };
        self.probe(call, hint).await
    }

    async fn probe(&self, query: &'static str, hint: &'static str) -> Result<()> {
        let query = zmsg_core::Statement::query(query, Vec::new());
        match self.store.fetch(&query).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                Err(Error::invalid_config("the store is not ready for flushes")
                    .with_context("hint", hint)
                    .with_source(error))
            }
            Err(error) => Err(error),
        }
    }
}
