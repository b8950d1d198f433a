//! The one place that changes rows: hold, filter, commit, then cache.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zmsg_aggregate::{Flushing, Hold};
use zmsg_bloom::{Insertion, MembershipFilter};
use zmsg_cache::{TieredCache, WriteHold};
use zmsg_core::{Error, ErrorKind, Key, OnMissing, Op, Result, Row, Statement, Task};
use zmsg_queue::is_already_applied;
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Outcome, SqlStore, Step, StepError};

use crate::assemble::Filter;
use crate::filter_state::SqlFilterRegistry;
use crate::repair::Repairs;

/// Applies finished steps to the store and keeps filter and caches true to them.
#[derive(Debug)]
pub(crate) struct Applier {
    store: Arc<dyn SqlStore>,
    cache: TieredCache,
    filter: Arc<dyn MembershipFilter>,
    /// The state of a filter that nodes share: every write checks it.
    registry: Option<Arc<SqlFilterRegistry>>,
    repairs: Repairs,
    on_missing: OnMissing,
}

/// What a change did.
#[derive(Debug)]
pub(crate) struct Applied {
    /// One for each step.
    pub(crate) outcomes: Vec<Outcome>,
    /// L2 could not be told; it is repaired.
    pub(crate) degraded: bool,
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
        filter: Filter,
        repairs: Repairs,
        on_missing: OnMissing,
    ) -> Self {
        let Filter { filter, registry, .. } = filter;
        Self { store, cache, filter, registry, repairs, on_missing }
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
    ) -> Result<Applied, StepError> {
        let mut holds = Vec::with_capacity(keys.len());
        for key in keys {
            holds.push((key, self.cache.begin_write(key).await));
        }
        zmsg_core::fail_point!("zmsg::store::held");
        let committed = self.commit(keys, steps).await;
        zmsg_core::fail_point!("zmsg::store::committed");
        let mut show = if committed.is_ok() { show } else { Show::Nothing };
        let mut unreached = Unreached::default();
        for (key, hold) in holds {
            let show = std::mem::replace(&mut show, Show::Nothing);
            if let Err(error) = self.release(hold, show).await {
                unreached.note(key, error);
            }
        }
        zmsg_core::fail_point!("zmsg::store::published");
        let degraded = self.repair(unreached);
        committed.map(|outcomes| Applied { outcomes, degraded })
    }

    /// Applies the steps of a write that was accepted earlier, in one transaction.
    ///
    /// What the caches show on accept stays until the commit and leaves after it: no reader sees
    /// the old row between. An attempt that certainly failed leaves it, for the next one.
    pub(crate) async fn apply_deferred(
        &self,
        keys: &[Key],
        steps: Vec<Step>,
    ) -> Result<Applied, StepError> {
        let committed = self.commit(keys, steps).await;
        zmsg_core::fail_point!("zmsg::delay::effect_committed");
        let may_be_applied = match &committed {
            Ok(_) => true,
            Err(failed) => failed.error.is_outcome_unknown() || is_already_applied(failed),
        };
        let degraded = may_be_applied && self.invalidate(keys).await;
        zmsg_core::fail_point!("zmsg::delay::invalidated");
        committed.map(|outcomes| Applied { outcomes, degraded })
    }

    /// Commits `steps` with their keys known to the filter.
    async fn commit(&self, keys: &[Key], steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        let before = |error| StepError { step: None, error };
        let mut announced = self.announce(keys).await.map_err(before)?;
        zmsg_core::fail_point!("zmsg::apply::announced");
        for _ in 0..ANNOUNCED_MAX {
            let mut checked = steps.clone();
            checked.extend(announced.checks.clone());
            match self.store.execute_all(checked).await {
                Ok(mut outcomes) => {
                    outcomes.truncate(steps.len());
                    return Ok(outcomes);
                }
                // Nothing was written: the filter has changed since it was told.
                Err(failed) if SqlFilterRegistry::was_refused(&failed) => {
                    announced.outdated();
                    announced = self.announce(keys).await.map_err(before)?;
                }
                Err(failed) => return Err(failed),
            }
        }
        let busy = "the membership filter changed again and again while a write was under way";
        Err(before(Error::new(ErrorKind::Unavailable, busy).temporary()))
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
    /// the commit's outcome is known, and its checks are part of the transaction.
    pub(crate) async fn announce(&self, keys: &[Key]) -> Result<Announced> {
        let insertion = self.filter.insert(keys).await;
        let insertion = insertion.map_err(|error| error.during("filter.insert"))?;
        let check = self.registry.as_ref().zip(insertion.version());
        let checks = check.map(|(registry, version)| registry.guard(version)).into_iter().collect();
        Ok(Announced { insertion, checks })
    }

    /// Drops keys from both tiers; what cannot be reached now is repaired later. True if there
    /// was such.
    pub(crate) async fn invalidate(&self, keys: &[Key]) -> bool {
        match self.cache.invalidate_many(keys).await {
            Ok(()) => false,
            Err(cause) => self.repair(Unreached { keys: keys.to_vec(), cause: Some(cause) }),
        }
    }

    /// Drops a key from L1: another node has changed its row, and told L2.
    pub(crate) fn forget_here(&self, key: &Key) {
        self.cache.forget_local(key);
    }

    /// As [`invalidate`](Self::invalidate), but it is the caller who tries again.
    pub(crate) async fn try_invalidate(&self, keys: &[Key]) -> Result<()> {
        self.cache.invalidate_many(keys).await
    }

    /// Whether there is an L2.
    pub(crate) fn has_remote(&self) -> bool {
        self.cache.has_remote()
    }

    /// Keys whose invalidation had to be put off so far.
    pub(crate) fn repairs_queued(&self) -> u64 {
        self.repairs.noted()
    }

    fn repair(&self, unreached: Unreached) -> bool {
        let Unreached { keys, cause: Some(cause) } = unreached else { return false };
        self.repairs.note(&keys, &cause);
        true
    }
}

/// Keys that L2 could not be told of, and why.
#[derive(Debug, Default)]
struct Unreached {
    keys: Vec<Key>,
    cause: Option<Error>,
}

impl Unreached {
    fn note(&mut self, key: &Key, cause: Error) {
        self.keys.push(key.clone());
        self.cause.get_or_insert(cause);
    }
}

/// Keys that the filter knows, of rows on their way.
#[derive(Debug)]
pub(crate) struct Announced {
    insertion: Insertion,
    /// What has to be true of the filter when the rows are committed: the last steps.
    pub(crate) checks: Vec<Step>,
}

impl Announced {
    /// Says that a check was refused: the next announcement reads the state anew.
    pub(crate) fn outdated(self) {
        self.insertion.outdated();
    }

    /// As what a flush keeps until its outcome is known. Dropped after a refusal, it is asked for
    /// again.
    pub(crate) fn into_flushing(self) -> Flushing {
        Flushing { guard: Box::new(Kept(self.insertion)), checks: self.checks }
    }
}

/// What a flush keeps.
#[derive(Debug)]
struct Kept(Insertion);

impl Hold for Kept {
    fn outdated(self: Box<Self>) {
        self.0.outdated();
    }
}

/// How often a write tells the filter anew that has changed meanwhile.
const ANNOUNCED_MAX: usize = 16;
