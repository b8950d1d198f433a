//! The two tiers as one cache.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, Error, Level, Millis};

use crate::fence::Fence;
use crate::front::Front;
use crate::policy::millis;
use crate::stats::{Count, Counters};
use crate::{CachePolicy, CacheStats, Entry, LocalCache, RemoteCache};

/// L1, L2, single flight and the fences, as one cache. Cloning it is one reference count.
///
/// - On this node, a read that begins after a write returned never sees an older value, whether
///   the write published, was contended, was abandoned or invalidated.
/// - On another node that holds for L2 at once, and for L1 within [`CachePolicy::local_ttl`].
/// - A read never fails because L2 does; a write tells, so that the caller can repair with
///   [`invalidate`](Self::invalidate), which never brings an old value back.
/// - Of all readers of a missing key one load runs; it belongs to none of them.
/// - A hit allocates nothing, takes no lock of ours and creates no future. A thread that reads a key
///   often makes a copy of its value, of up to 4 KiB, once a change, and reads that: a hot key does
///   not get slower with each core. All this holds for copies too; there are 64 a thread at most.
///
/// Loads run as tasks on the tracker that the constructor was given, but for the question to L2 while one
/// reader is alone, which that one asks itself: all `async` methods have to be polled inside a
/// Tokio runtime with its timer enabled.
#[derive(Clone)]
pub struct TieredCache(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) fence: Arc<Fence>,
    pub(crate) remote: Arc<dyn RemoteCache>,
    pub(crate) policy: CachePolicy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stats: Counters,
    // L1 and its front once more, beside the fence: a hit is one pointer closer.
    local: Arc<dyn LocalCache>,
    front: Front,
    epoch: AtomicU32,
    oversize_reported: AtomicBool,
}

impl TieredCache {
    /// A cache of these tiers. Loads that outlive their readers run on `tracker`, whose owner
    /// waits for them; `clock` decides what has expired.
    pub fn new(
        local: Arc<dyn LocalCache>,
        remote: Arc<dyn RemoteCache>,
        policy: CachePolicy,
        clock: Arc<dyn Clock>,
        tracker: TaskTracker,
    ) -> Self {
        let front = Front::new();
        Self(Arc::new(Inner {
            fence: Arc::new(Fence::new(Arc::clone(&local), front.clone())),
            remote,
            policy,
            clock,
            tracker,
            stats: Counters::new(),
            local,
            front,
            epoch: AtomicU32::new(0),
            oversize_reported: AtomicBool::new(false),
        }))
    }

    /// What L1 knows: `Some(Some(value))`, `Some(None)` for a key known to be absent, `None` if it
    /// does not know. Counts the hit; a miss is not counted here.
    pub fn peek(&self, key: &str) -> Option<Option<Bytes>> {
        self.0.peek(key)
    }

    /// Forgets all of L1 in one step, loads under way included. L2 stays as it is.
    ///
    /// The entries go on weighing until they are read over or evicted.
    pub fn clear_local(&self) {
        self.0.epoch.fetch_add(1, Release);
    }

    /// What this cache has done so far, and what it holds.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            entries: self.0.local.len() as u64,
            bytes: self.0.local.weight(),
            l1_shed: self.0.local.shed(),
            ..self.0.stats.sums()
        }
    }

    /// Whether there is an L2.
    pub fn has_remote(&self) -> bool {
        self.0.remote.retains()
    }

    /// How durable a value is that only the caches hold: as durable as L2, or in memory.
    pub fn level(&self) -> Level {
        self.0.remote.level()
    }

    /// The policy that this cache was made with.
    pub fn policy(&self) -> &CachePolicy {
        &self.0.policy
    }
}

impl Inner {
    pub(crate) fn peek(&self, key: &str) -> Option<Option<Bytes>> {
        let entry = self.front.get(key, &*self.clock, || self.local.get(key))?;
        if entry.deadline <= self.clock.coarse() || entry.epoch != self.epoch() {
            return None;
        }
        self.stats.add(if entry.value.is_some() { Count::L1Hit } else { Count::NegativeHit });
        Some(entry.value)
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Acquire)
    }

    /// An entry for L1 that lives `ttl` from `began`: from before the value was read, so that the
    /// time a load took counts against the bound on staleness.
    pub(crate) fn entry(
        &self,
        value: Option<&Bytes>,
        epoch: u32,
        began: Millis,
        ttl: Duration,
    ) -> Entry {
        // A copy owns its buffer: a slice would keep a larger one alive than L1 counts.
        let value = value.map(|value| Bytes::copy_from_slice(value));
        Entry { value, deadline: began.saturating_add(millis(ttl)), epoch }
    }

    /// Counts a value that L1 can never hold, and says so aloud the first time.
    pub(crate) fn oversize(&self, error: &Error) {
        self.stats.add(Count::OversizeRefused);
        if !self.oversize_reported.swap(true, Relaxed) {
            tracing::warn!(%error, "a value was not cached; further ones are only counted");
        }
    }

    /// Counts a failure of L2.
    pub(crate) fn remote_failed(&self, during: &'static str, error: &Error) {
        self.stats.add(Count::L2Error);
        tracing::debug!(%error, during, "the remote cache failed");
    }
}

impl fmt::Debug for TieredCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredCache")
            .field("fence", &self.0.fence)
            .field("remote", &self.0.remote)
            .field("policy", &self.0.policy)
            .field("stats", &self.0.stats)
            .finish_non_exhaustive()
    }
}
