//! The filter that several nodes share.
//!
//! Its promise is that of every filter: **never a false "absent"** — here on any node, through a
//! backend that is killed, restarted with old data, flushed, failed over, evicted, and through
//! nodes that are paused at any point. Redis holds bits and may lose them at any time; the database
//! that the rows live in holds one row of state, and it alone decides what the bits are worth.
//!
//! # The parts
//!
//! - A **generation** is a set of bits with a name that never occurs twice, a fixed layout, and the
//!   **identity** of the server that holds it: a number that the server draws when it starts, and
//!   one that it draws when it is promoted. Every call compares name, layout and identity in the
//!   step that touches the bits ([`SharedBits`]). So a restart, a promotion, a flush, or an
//!   eviction is seen by the very call that meets it, and a generation exists in one stretch of
//!   one server's history only. In it bits are only ever set: what one call was acknowledged,
//!   every later call sees.
//! - The **row** ([`FilterRow`]) names up to three generations: the one that is *trusted*, one that is
//!   *building* and one that is *retiring*. Every change raises its version, by compare-and-set.
//!
//! # The rules
//!
//! 1. A reader says "absent" only if a bit of the key is missing in the generation that the row
//!    trusts, and if the **lease** of the row that it began with still lasts *after* the answer came in.
//!    A lease lasts at most a second on the reader's monotonic clock, counted from before the row
//!    was asked for.
//! 2. A writer adds its keys to *every* generation of the row as it knows it, or knows that all their
//!    bits are there, for none is ever taken out; and its transaction ends with a check that the
//!    row's version is still that one ([`Insertion::version`]). A version that was read long ago is
//!    as good as a new one: the check decides.
//! 3. Who takes a trusted or a retiring generation out of the row marks the row **unsettled** unless a
//!    grace (a lease and a quarter) has passed in which the generation was retiring. Under an
//!    unsettled row nobody commits before one grace has passed since he learned of that version;
//!    the first one marks it settled. Under a settled row nobody waits.
//! 4. A builder makes a generation, names it as building, waits until every transaction has ended
//!    that passed the check under an older version, and only then reads the source. When all
//!    keys are in it and it is still whole, it becomes trusted in one step, and the one before it
//!    retiring; after a grace that is let go.
//! 5. A generation that does not take a key, whatever the reason, is taken out of the row by the
//!    writer, before it commits.
//!
//! # Why a committed row is never absent
//!
//! Let a write W commit, having passed its check under version v, and let a reader R that begins
//! later trust generation G at the moment e when G's bits are tested, under a row read that R's
//! lease begins with.
//!
//! *G is named in v.* Then W's bits in G were acknowledged before its commit, by the server that
//! answers R, in the same stretch of its history: R finds them, or the answer is "lost".
//!
//! *G was named after v.* G became trusted through a builder who named it under a version u > v and
//! then waited (rule 4). W passed its check under v, before u existed; so it had ended when the
//! source was read, and its row was seen there and its key seeded. The check is W's last step:
//! at that point the database knows W as a transaction that writes, if it wrote anything, and that
//! is what the builder waits for. If W was paused before the check, it meets a newer version.
//!
//! *G was taken out before v.* R's row read saw it trusted, so R's lease began before the version
//! that took it out. Whoever commits under a version without G has waited for a grace since, or is
//! told by a settled row that somebody has (rule 3); if G was retiring, the builder has waited
//! before he took it out. So W committed after R's lease had ended, and R looks at its lease after
//! e (rule 1): R says nothing. A retiring generation is also marked at the server, so that there
//! even a reader whose clock stood still is told "lost".
//!
//! Clocks enter in one place only, the length of a lease against the length of a grace, both on
//! monotonic clocks. What this cannot see is a whole machine that is frozen, clock included, while
//! a server loses a key: a reader there may trust its lease for up to a second after it thaws.
//!
//! # What it costs
//!
//! A key that is known here is answered from memory. One that is not costs a round trip, after the
//! one to the remote cache. A write costs one call to the backend before its transaction, or none
//! if its keys are known here, and one lookup by primary key in it. A node reads the row three times a lease. With
//! the backend down a write finds out once, waits one grace once, and costs the lookup from then on.

mod bits;
mod generation;
mod options;
mod registry;

mod core;
mod live;
mod view;

mod builder;
mod counts;
mod keeper;
mod writer;

#[cfg(feature = "redis")]
mod redis;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use async_trait::async_trait;
use zmsg_core::{Clock, Key, Result};

pub use bits::{Held, SharedBits, Tested};
pub use counts::SharedStats;
pub use generation::{Place, Shape, SharedGeneration};
pub use keeper::FilterKeeper;
pub use options::SharedOptions;
#[cfg(feature = "redis")]
pub use redis::RedisBits;
pub use registry::{Cause, FilterRegistry, FilterRow};

use self::core::Core;
use self::counts::count;
use crate::{FilterState, FilterStats, Insertion, MembershipFilter, Params, Rebuild, Verdict};

/// A filter whose bits are in a backend that all nodes reach, and whose state is in their database.
///
/// The module's page says why it is never wrong. [`keeper`](Self::keeper) has to run, or it rules
/// nothing out.
#[derive(Clone)]
pub struct SharedFilter {
    core: Arc<Core>,
}

impl SharedFilter {
    /// The filter over these bits and this state. It answers [`Verdict::Unknown`] until its keeper
    /// has read the state, and needs no rebuild if what that trusts is there.
    ///
    /// # Errors
    /// `InvalidConfig` for options that cannot work.
    pub fn new(
        registry: Arc<dyn FilterRegistry>,
        bits: Arc<dyn SharedBits>,
        clock: Arc<dyn Clock>,
        options: SharedOptions,
    ) -> Result<Self> {
        options.check()?;
        Ok(Self { core: Arc::new(Core::new(registry, bits, clock, options)) })
    }

    /// The loop that keeps the lease; its owner runs one of it.
    pub fn keeper(&self) -> FilterKeeper {
        FilterKeeper::new(Arc::clone(&self.core))
    }

    /// What it has done that other filters do not do.
    pub fn shared_stats(&self) -> SharedStats {
        self.core.counts.snapshot(self.core.view().map_or(0, |view| view.row.version))
    }

    async fn confirm(&self, scope: Option<&str>, key: &Key) -> Result<bool> {
        let core = &self.core;
        let (view, live) = match core.trusted() {
            Ok(trusted) => trusted,
            Err(why) => {
                core.counts.unknown(why);
                return Ok(false);
            }
        };
        if scope.is_some_and(|scope| !view.row.covers.iter().any(|covered| covered == scope)) {
            core.counts.unknown(FilterState::Unseeded);
            return Ok(false);
        }
        let Some(place) = live.place(key) else { return Ok(false) };
        match core.heard(core.bits.test(live.generation(), &place).await)? {
            Tested::Lost => {
                live.heard(Held::Lost);
                core.counts.unknown(FilterState::Lost);
                Ok(false)
            }
            Tested::Answered { absent, ones } => {
                live.heard(Held::Whole { ones });
                if !absent {
                    live.learn(std::slice::from_ref(key));
                    count(&core.counts.confirmed_maybe);
                    return Ok(false);
                }
                // The lease under which it was asked has to cover the test, and the way back: so no
                // answer is older than a lease, however long this process stood still.
                let sure = core.covers_now(&view) && live.state() == FilterState::Ready;
                count(match sure {
                    true => &core.counts.confirmed_absent,
                    false => &core.counts.unknown_late,
                });
                Ok(sure)
            }
        }
    }
}

#[async_trait]
impl MembershipFilter for SharedFilter {
    #[inline]
    fn check(&self, key: &str) -> Verdict {
        let verdict = match self.core.trusted() {
            Ok((_, live)) => live.check(key),
            Err(_) => Verdict::Unknown,
        };
        self.core.checks.count(verdict);
        verdict
    }

    async fn confirm_absent(&self, key: &Key) -> Result<bool> {
        self.confirm(None, key).await
    }

    fn covers(&self, scope: &str) -> bool {
        self.core.view().is_some_and(|view| view.row.covers.iter().any(|covered| covered == scope))
    }

    async fn confirm_absent_in(&self, scope: &str, key: &Key) -> Result<bool> {
        self.confirm(Some(scope), key).await
    }

    /// # Errors
    /// If the database did not answer; a backend that is away is no error.
    async fn insert(&self, keys: &[Key]) -> Result<Insertion> {
        if keys.is_empty() {
            return Ok(Insertion::untracked());
        }
        // Entered first: a rebuild of this node that begins from here on waits for this write
        // instead of having it refused.
        let insertion = self.core.writes.enter();
        let version = self.core.admit(keys).await?;
        Ok(insertion.with_version(version, Arc::clone(&self.core.outdated)))
    }

    async fn begin_rebuild(&self, expected: u64) -> Result<Rebuild> {
        self.core.begin_rebuild(expected).await
    }

    async fn seed(&self, rebuild: &Rebuild, keys: &[Key]) -> Result<()> {
        self.core.seed(rebuild, keys).await
    }

    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<()> {
        self.core.finish_rebuild(rebuild).await
    }

    async fn distrust(&self) -> Result<Insertion> {
        let insertion = self.core.writes.enter();
        let version = self.core.distrust().await?;
        Ok(insertion.with_version(version, Arc::clone(&self.core.outdated)))
    }

    fn stats(&self) -> FilterStats {
        let core = &self.core;
        let view = core.view();
        let trusted = core.trusted();
        let state = trusted.as_ref().map_or_else(|why| *why, |_| FilterState::Ready);
        let live = view.as_ref().and_then(|view| view.trusted());
        let shape = live.and_then(|live| live.shape());
        let params = shape.map(|shape| shape.params);
        let inserted = live.map_or(0, |live| live.inserted());
        let here = self::core::lock(&core.running).is_some();
        let orphan = view.as_ref().is_some_and(|view| core.is_orphan(view));
        let elsewhere = view.as_ref().is_some_and(|view| view.row.building.is_some()) && !orphan;
        let bits = shape.map_or(0, Shape::bits);
        // Without a view nothing is known, and with the backend away nothing can be built.
        let due = match state {
            FilterState::Away => false,
            FilterState::Ready => params.is_some_and(|params| inserted > params.capacity()),
            _ => true,
        };
        FilterStats {
            state,
            rebuilding: here || elsewhere,
            capacity: params.as_ref().map_or(core.options.capacity, Params::capacity),
            error_rate: params.as_ref().map_or(core.options.error_rate, Params::error_rate),
            bits,
            hashes: shape.map_or(0, |shape| shape.hashes),
            inserted,
            fill_ratio: live.map_or(0.0, |live| live.ones() as f64 / bits.max(1) as f64),
            checks: core.checks.sum(),
            rebuilds: core.rebuilds.load(Acquire),
            wants_rebuild: due && !here && !elsewhere,
        }
    }
}

impl fmt::Debug for SharedFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedFilter").field("core", &self.core).finish()
    }
}
