//! The lease that a generator holds: taken, extended, lost, taken anew, given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio_util::sync::CancellationToken;
use zmsg_core::{Clock, Error, ErrorKind, Result, UnixMillis};

use crate::lease::millis;
use crate::sequence::Sequence;
use crate::{IdOptions, Layout, Lease, NodeLease, Reserve};

/// What the clones of a generator and its keeper share.
#[derive(Debug)]
pub(crate) struct Tenure {
    pub(crate) layout: Layout,
    pub(crate) options: IdOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sequence: Sequence,
    /// Set first when closing: waiting callers leave, and a stopped sequence says "closed".
    pub(crate) closed: CancellationToken,
    /// Asks the keeper to look now.
    pub(crate) wake: Notify,
    pub(crate) waits: AtomicU64,
    leases: Arc<dyn NodeLease>,
    /// Held across the backend's I/O; making ids never takes it.
    held: Mutex<Held>,
    /// How many requests to the backend have ended; guarded by `held`, read before locking it.
    requests: AtomicU64,
    /// When the lease ends by the monotonic clock. On Linux that one stands still while the
    /// machine is suspended, so that this may come late: it decides when to ask, never an id.
    valid_until: AtomicU64,
    leases_lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    lease: Option<Lease>,
    /// Why the last request to the backend failed, for those who waited for it.
    failure: Option<Error>,
}

impl Tenure {
    pub(crate) fn new(
        layout: Layout,
        leases: Arc<dyn NodeLease>,
        clock: Arc<dyn Clock>,
        options: IdOptions,
    ) -> Self {
        Self {
            layout,
            options,
            sequence: Sequence::new(layout, &options),
            clock,
            closed: CancellationToken::new(),
            wake: Notify::new(),
            waits: AtomicU64::new(0),
            leases,
            held: Mutex::default(),
            requests: AtomicU64::new(0),
            valid_until: AtomicU64::new(0),
            leases_lost: AtomicU64::new(0),
        }
    }

    /// Makes sure that a lease is held and its ceiling lies a whole reserve ahead: extends it, or
    /// takes a new node if there is none or it was lost.
    pub(crate) async fn renew(&self) -> Result<()> {
        let mut held = self.held.lock().await;
        if self.closed.is_cancelled() {
            return Ok(());
        }
        let result = match held.lease.clone() {
            Some(lease) => match self.extend(&mut held, lease, 0).await {
                Err(error) if error.kind() == ErrorKind::Conflict => self.acquire(&mut held).await,
                result => result,
            },
            None => self.acquire(&mut held).await,
        };
        self.request_ended(&mut held, result)
    }

    /// Raises the ceiling above `time`. Callers that come while a request is under way share its
    /// outcome, good or bad, so that none waits for more than two requests.
    pub(crate) async fn raise_above(&self, time: u64) -> Result<()> {
        if time >= self.layout.times() {
            return Err(self.no_such_time(time));
        }
        let requests_before = self.requests.load(Ordering::Acquire);
        let mut held = self.held.lock().await;
        if self.sequence.ceiling() > time || self.sequence.is_stopped() {
            return Ok(());
        }
        // A request that ended after this caller began to wait and did not help would be repeated
        // by each of the waiting in turn.
        if self.requests.load(Ordering::Acquire) != requests_before
            && let Some(failure) = &held.failure
        {
            return Err(failure.clone());
        }
        let Some(lease) = held.lease.clone() else { return Ok(()) };
        let result = match self.extend(&mut held, lease, time).await {
            // The caller finds the sequence stopped, and says so.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            result => result,
        };
        self.request_ended(&mut held, result)
    }

    /// Stops the sequence for good and gives the node back.
    pub(crate) async fn close(&self) -> Result<()> {
        self.closed.cancel();
        let last = self.sequence.stop();
        let mut held = self.held.lock().await;
        // A keeper that was acquiring may have opened the sequence again in the meantime.
        let last = last.max(self.sequence.stop());
        let Some(lease) = held.lease.take() else { return Ok(()) };
        self.valid_until.store(0, Ordering::Relaxed);
        self.leases.release(lease, self.layout.unix_ms(last)).await
    }

    /// Why a stopped sequence is stopped.
    pub(crate) fn stopped(&self) -> Error {
        if self.closed.is_cancelled() {
            return Error::closed("id generator");
        }
        let error = Error::new(
            ErrorKind::Unavailable,
            "the lease of the node was lost; its keeper takes another",
        )
        .temporary()
        .with_context("node", self.sequence.node());
        // Why the keeper has none yet, unless it is asking right now.
        match self.held.try_lock().ok().and_then(|held| held.failure.clone()) {
            Some(failure) => error.with_source(failure),
            None => error,
        }
    }

    pub(crate) fn leases_lost(&self) -> u64 {
        self.leases_lost.load(Ordering::Relaxed)
    }

    /// What is left of the lease in milliseconds; `u64::MAX` if it does not end by itself.
    pub(crate) fn valid_for_ms(&self) -> u64 {
        match self.valid_until.load(Ordering::Relaxed) {
            u64::MAX => u64::MAX,
            until => until.saturating_sub(self.clock.coarse()),
        }
    }

    async fn acquire(&self, held: &mut MutexGuard<'_, Held>) -> Result<()> {
        let wall_ms = self.clock.wall();
        let asked_at = self.clock.coarse();
        let next = self.layout.unix_ms(self.sequence.last_time() + 1);
        if wall_ms > self.layout.last_ms() {
            return Err(self.no_such_time(self.layout.since_epoch(wall_ms)));
        }
        let want = Reserve {
            layout: self.layout,
            from_ms: wall_ms.max(next),
            ahead: self.options.reserve_ahead,
        };
        let lease = self.leases.acquire(want).await?;
        if lease.node >= self.layout.nodes() || lease.floor_ms > self.layout.last_ms() {
            return Err(Error::new(
                ErrorKind::Unexpected,
                "a lease does not fit the layout of ids",
            )
            .with_context("node", lease.node)
            .with_context("floor_ms", lease.floor_ms)
            .with_context("layout", self.layout));
        }
        let (floor, ceiling) =
            (self.since_epoch(lease.floor_ms), self.since_epoch(lease.ceiling_ms));
        self.sequence.open(lease.node, floor, ceiling, &*self.clock);
        if self.closed.is_cancelled() {
            self.sequence.stop();
        }
        self.keep(held, lease, asked_at);
        Ok(())
    }

    async fn extend(
        &self,
        held: &mut MutexGuard<'_, Held>,
        lease: Lease,
        above: u64,
    ) -> Result<()> {
        let asked_at = self.clock.coarse();
        // A wall clock beyond the layout is wrong, and must not be written down as a ceiling.
        let wall =
            Some(self.since_epoch(self.clock.wall())).filter(|wall| *wall < self.layout.times());
        let from = wall.unwrap_or(0).max(above).max(self.sequence.last_time());
        let ceiling = from.saturating_add(millis(self.options.reserve_ahead)).max(above + 1);
        let ceiling_ms = self.layout.unix_ms(ceiling.min(self.layout.times()));
        match self.leases.extend(&lease, ceiling_ms).await {
            Ok(lease) => {
                self.sequence.raise(self.since_epoch(lease.ceiling_ms));
                self.keep(held, lease, asked_at);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.lose(held, &lease);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn keep(&self, held: &mut MutexGuard<'_, Held>, lease: Lease, asked_at: u64) {
        let valid_until = asked_at.saturating_add(millis(lease.valid_for));
        self.valid_until.store(valid_until, Ordering::Relaxed);
        held.lease = Some(lease);
    }

    fn lose(&self, held: &mut MutexGuard<'_, Held>, lease: &Lease) {
        self.sequence.stop();
        self.valid_until.store(0, Ordering::Relaxed);
        self.leases_lost.fetch_add(1, Ordering::Relaxed);
        held.lease = None;
        tracing::warn!(node = lease.node, epoch = lease.epoch, "the lease of the id node was lost");
        self.wake.notify_one();
    }

    fn request_ended(&self, held: &mut MutexGuard<'_, Held>, result: Result<()>) -> Result<()> {
        self.requests.fetch_add(1, Ordering::AcqRel);
        held.failure = result.as_ref().err().cloned();
        result
    }

    fn since_epoch(&self, at: UnixMillis) -> u64 {
        self.layout.since_epoch(at)
    }

    fn no_such_time(&self, time: u64) -> Error {
        Error::new(ErrorKind::Unavailable, "the layout of ids has no later times")
            .with_context("wanted_ms", self.layout.unix_ms(time))
            .with_context("last_ms", self.layout.last_ms())
    }
}
