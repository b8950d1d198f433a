//! What readers, writers and builders of one node share.

use std::fmt;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::time::{Duration, timeout_at};
use zmsg_core::{Clock, Error, ErrorKind, Millis, Result};

use super::builder::Running;
use super::counts::Counts;
use super::live::Live;
use super::view::View;
use super::{Cause, FilterRegistry, FilterRow, SharedBits, SharedGeneration, SharedOptions};
use crate::local::random_seed;
use crate::tally::Tally;
use crate::{FilterState, InFlight};

/// How often a change of the state is tried against others that change it.
const ATTEMPTS: u32 = 16;

/// The state as this node sees it, and what it is made of.
pub(super) struct Core {
    pub(super) options: SharedOptions,
    pub(super) registry: Arc<dyn FilterRegistry>,
    pub(super) bits: Arc<dyn SharedBits>,
    clock: Arc<dyn Clock>,
    /// Names the rebuilds of this filter of this process.
    pub(super) node: u64,
    view: ArcSwapOption<View>,
    publishing: Mutex<()>,
    changed: Notify,
    /// The newest version that a write found outdated.
    pub(super) outdated: Arc<AtomicU64>,
    /// True from a call that the backend did not answer to the next one that it does.
    away: AtomicBool,
    pub(super) writes: Arc<InFlight>,
    pub(super) running: Mutex<Option<Running>>,
    /// Generations of rebuilds that were dropped here and may still be named in the row.
    pub(super) abandoned: Mutex<Vec<SharedGeneration>>,
    pub(super) seeded_max: AtomicU64,
    pub(super) rebuilds: AtomicU64,
    pub(super) checks: Tally,
    pub(super) counts: Counts,
}

impl Core {
    pub(super) fn new(
        registry: Arc<dyn FilterRegistry>,
        bits: Arc<dyn SharedBits>,
        clock: Arc<dyn Clock>,
        options: SharedOptions,
    ) -> Self {
        Self {
            options,
            registry,
            bits,
            clock,
            node: random_seed(),
            view: ArcSwapOption::empty(),
            publishing: Mutex::default(),
            changed: Notify::new(),
            outdated: Arc::default(),
            away: AtomicBool::new(false),
            writes: Arc::default(),
            running: Mutex::default(),
            abandoned: Mutex::default(),
            seeded_max: AtomicU64::new(0),
            rebuilds: AtomicU64::new(0),
            checks: Tally::new(),
            counts: Counts::default(),
        }
    }

    /// The state as it was last seen, however long ago.
    pub(super) fn view(&self) -> Option<Arc<View>> {
        self.view.load_full()
    }

    /// The state as it was last seen, unless a write found it outdated.
    pub(super) async fn known(&self) -> Result<Arc<View>> {
        match self.view() {
            Some(view) if view.row.version > self.outdated.load(Acquire) => Ok(view),
            _ => self.refresh().await,
        }
    }

    /// Reads the state. What it returns is at least as new as the call.
    pub(super) async fn refresh(&self) -> Result<Arc<View>> {
        let asked = self.clock.coarse();
        let row = self.registry.read().await.map_err(|error| error.during("filter.state"))?;
        Ok(self.publish(row, asked))
    }

    /// Sets the row from `view` on. The new view, or `None` if somebody else was first.
    pub(super) async fn swap(&self, view: &View, row: FilterRow) -> Result<Option<Arc<View>>> {
        let asked = self.clock.coarse();
        let swapped = self.registry.swap(view.row.version, &row).await;
        if swapped.map_err(|error| error.during("filter.state"))? {
            return Ok(Some(self.publish(row, asked)));
        }
        Ok(None)
    }

    /// Changes the row by `change`, against others that change it; `None` from it lets it be.
    pub(super) async fn change(
        &self,
        change: impl Fn(&View) -> Option<FilterRow>,
    ) -> Result<Arc<View>> {
        for _ in 0..ATTEMPTS {
            let view = self.refresh().await?;
            let Some(row) = change(&view) else { return Ok(view) };
            if let Some(view) = self.swap(&view, row).await? {
                return Ok(view);
            }
        }
        Err(crowded())
    }

    fn publish(&self, row: FilterRow, asked: Millis) -> Arc<View> {
        let lease = u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX);
        let _one_at_a_time = lock(&self.publishing);
        let before = self.view();
        let view = View::after(before.as_ref(), row, asked.saturating_add(lease));
        if before.is_none_or(|before| !Arc::ptr_eq(&before, &view)) {
            self.view.store(Some(Arc::clone(&view)));
            self.changed.notify_waiters();
        }
        view
    }

    /// The trusted generation, while the lease lasts.
    #[inline]
    pub(super) fn trusted(&self) -> Result<(Arc<View>, Arc<Live>), FilterState> {
        let Some(view) = self.view() else { return Err(FilterState::Away) };
        let Some(live) = view.trusted().cloned() else { return Err(untrusted(&view.row)) };
        if self.clock.coarse() >= view.lease_until || self.away.load(Relaxed) {
            return Err(FilterState::Away);
        }
        match live.state() {
            FilterState::Ready => Ok((view, live)),
            state => Err(state),
        }
    }

    /// Whether the lease of `view` lasts; asked after an answer came in.
    pub(super) fn covers_now(&self, view: &View) -> bool {
        self.clock.coarse() < view.lease_until
    }

    /// Waits until no reader trusts a generation that `view`'s row does not name any more, says so
    /// to the others, and gives the newest view. Ends early when one of them has said so.
    pub(super) async fn settle(&self, mut view: Arc<View>) -> Result<Arc<View>> {
        while !view.row.settled {
            view = match self.newer_within_grace(&view).await {
                Some(newer) => newer,
                None => {
                    let row = FilterRow { settled: true, ..view.row.next() };
                    match self.swap(&view, row).await? {
                        Some(settled) => settled,
                        None => self.refresh().await?,
                    }
                }
            };
        }
        Ok(view)
    }

    /// Waits until `view` is known for one grace; the newer view if there is one before that.
    pub(super) async fn newer_within_grace(&self, view: &View) -> Option<Arc<View>> {
        let until = view.learned + self.options.grace();
        loop {
            let changed = self.changed.notified();
            if let Some(newer) = self.view().filter(|now| now.row.version > view.row.version) {
                return Some(newer);
            }
            if timeout_at(until, changed).await.is_err() {
                return None;
            }
        }
    }

    /// A call to the backend, tried again for a moment: one lost packet must not cost a rebuild.
    pub(super) async fn call<T, F: Future<Output = Result<T>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T> {
        const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];
        let mut pauses = PAUSES.iter();
        loop {
            let answer = self.heard(call().await);
            match &answer {
                Err(error) if error.is_temporary() || error.is_outcome_unknown() => {}
                _ => return answer,
            }
            let Some(pause) = pauses.next() else { return answer };
            tokio::time::sleep(*pause).await;
        }
    }

    /// Notes whether the backend answers at all.
    pub(super) fn heard<T>(&self, answer: Result<T>) -> Result<T> {
        let away = answer.is_err();
        if self.away.load(Relaxed) != away && self.away.swap(away, AcqRel) != away {
            match &answer {
                Err(error) => tracing::warn!(%error, "the shared filter's backend is away"),
                Ok(_) => tracing::info!("the shared filter's backend answers again"),
            }
        }
        answer
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.load(Acquire)
    }

    /// Whether the generation that the row names as being built has nobody who goes on with it.
    pub(super) fn is_orphan(&self, view: &View) -> bool {
        let mine = |generation: &SharedGeneration| {
            generation.shape().is_some_and(|shape| shape.builder == self.node)
        };
        let silent = view.silent_since.elapsed() >= self.options.takeover_after;
        view.row
            .building
            .as_ref()
            .is_some_and(|building| if mine(building) { !self.builds(building) } else { silent })
    }

    /// Whether this is the generation that this node is building.
    fn builds(&self, generation: &SharedGeneration) -> bool {
        lock(&self.running).as_ref().is_some_and(|running| running.builds(generation))
    }

    pub(super) fn count_rebuild(&self) {
        self.rebuilds.fetch_add(1, Release);
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("view", &self.view()).finish_non_exhaustive()
    }
}

fn untrusted(row: &FilterRow) -> FilterState {
    match row.cause {
        Cause::Unseeded => FilterState::Unseeded,
        Cause::Distrusted => FilterState::Distrusted,
        Cause::Lost => FilterState::Lost,
    }
}

/// The error of a change that others were always faster than.
pub(super) fn crowded() -> Error {
    Error::new(ErrorKind::Conflict, "the state of the shared filter changes all the time")
        .temporary()
}

/// Nothing panics while a lock of this module is held.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
