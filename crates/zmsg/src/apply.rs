//! The one place that changes rows: hold, filter, commit, then cache.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zmsg_bloom::{Insertion, MembershipFilter};
use zmsg_cache::{TieredCache, WriteHold};
use zmsg_core::{Key, OnMissing, Op, Result, Row, Statement, Task};
use zmsg_queue::is_already_applied;
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Outcome, SqlStore, Step, StepError};

use crate::repair::Repairs;

/// Applies finished steps to the store and keeps filter and caches true to them.
#[derive(Debug)]
pub(crate) struct Applier {
    store: Arc<dyn SqlStore>,
    cache: TieredCache,
    filter: Arc<dyn MembershipFilter>,
    repairs: Repairs,
    on_missing: OnMissing,
}

/// What the caches show once a change is committed.
#[derive(Debug)]
pub(crate) enum Show {
    /// This value, or with `None` that the row is gone.
    Value(Option<Bytes>, Option<Duration>),
    /// Nothing: the next read loads.
    Nothing,
}

impl Applier {
    pub(crate) fn new(
        store: Arc<dyn SqlStore>,
        cache: TieredCache,
        filter: Arc<dyn MembershipFilter>,
        repairs: Repairs,
        on_missing: OnMissing,
    ) -> Self {
        Self { store, cache, filter, repairs, on_missing }
    }

    /// The steps of a task, as this store wants them.
    pub(crate) fn steps(&self, task: &Task) -> Result<Vec<Step>> {
        match task {
            Task::Statement(statement) => Ok(vec![Step::any(statement.clone())]),
            Task::Op(op) => zmsg_aggregate::steps_for(op, self.on_missing, self.dialect()),
        }
    }

    /// True for an operation that inserts the row it does not find.
    pub(crate) fn may_insert(&self, op: &Op) -> bool {
        op.on_missing.unwrap_or(self.on_missing) == OnMissing::Insert
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.store.dialect()
    }

    /// Applies `steps`, which bring about or change the rows of `keys`, in one transaction; then
    /// the caches show the first key's value as `show` says, and forget the others.
    ///
    /// Between hold and release no late fill can put an old value into a cache. If the commit's
    /// outcome is unknown the keys are invalidated, so that the next read finds out.
    pub(crate) async fn apply(
        &self,
        keys: &[Key],
        steps: Vec<Step>,
        show: Show,
    ) -> Result<Vec<Outcome>, StepError> {
        let mut holds = Vec::with_capacity(keys.len());
        for key in keys {
            holds.push((key, self.cache.begin_write(key).await));
        }
        let committed = match self.announce(keys).await {
            // Kept over the commit: a rebuild of the filter waits for the rows on their way.
            Ok(_on_their_way) => self.store.execute_all(steps).await,
            Err(error) => Err(StepError { step: None, error }),
        };
        let mut show = if committed.is_ok() { show } else { Show::Nothing };
        for (key, hold) in holds {
            let show = std::mem::replace(&mut show, Show::Nothing);
            if let Err(error) = self.release(hold, show).await {
                self.repairs.enqueue(key, &error).await;
            }
        }
        committed
    }

    /// Applies the steps of a write that was accepted earlier, in one transaction.
    ///
    /// What the caches show on accept stays until the commit and leaves after it: no reader sees
    /// the old row between. An attempt that certainly failed leaves it, for the next one.
    pub(crate) async fn apply_deferred(
        &self,
        keys: &[Key],
        steps: Vec<Step>,
    ) -> Result<Vec<Outcome>, StepError> {
        let announced = self.announce(keys).await;
        let _on_their_way = announced.map_err(|error| StepError { step: None, error })?;
        let committed = self.store.execute_all(steps).await;
        let may_be_applied = match &committed {
            Ok(_) => true,
            Err(failed) => failed.error.is_outcome_unknown() || is_already_applied(failed),
        };
        if may_be_applied {
            for key in keys {
                self.invalidate(key).await;
            }
        }
        committed
    }

    async fn release(&self, hold: WriteHold, show: Show) -> Result<()> {
        match show {
            Show::Value(value, ttl) => self.cache.publish(hold, value, ttl).await.map(|_shown| ()),
            Show::Nothing => self.cache.abandon(hold).await,
        }
    }

    /// Runs a query that changes nothing.
    pub(crate) async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        self.store.fetch(query).await
    }

    /// Tells the filter of keys whose rows may be about to exist. What it returns is kept until
    /// the commit's outcome is known.
    pub(crate) async fn announce(&self, keys: &[Key]) -> Result<Insertion> {
        self.filter.insert(keys).await.map_err(|error| error.during("filter.insert"))
    }

    /// Drops a key from both tiers; what cannot be reached now is repaired later.
    pub(crate) async fn invalidate(&self, key: &Key) {
        if let Err(error) = self.cache.invalidate(key).await {
            self.repairs.enqueue(key, &error).await;
        }
    }

    /// As [`invalidate`](Self::invalidate), but it is the caller who tries again.
    pub(crate) async fn try_invalidate(&self, key: &Key) -> Result<()> {
        self.cache.invalidate(key).await
    }
}
