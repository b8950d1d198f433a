//! The filter of one process.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use zmsg_core::{Error, ErrorKind, Key, Result};

use crate::generation::Generation;
use crate::tally::Tally;
use crate::{
    AtomicKeys, FilterOptions, FilterState, FilterStats, Header, InFlight, Insertion, KeySet,
    MembershipFilter, Params, Rebuild, Verdict,
};

/// A filter in the memory of this process, for a database that only this process writes to.
///
/// A check takes no lock, with the default [`KeySet`]. The generation that answers is switched
/// whole: rebuilding fills a second one beside it, and both learn the keys that are inserted
/// meanwhile.
pub struct LocalFilter<K: KeySet = AtomicKeys> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    options: FilterOptions,
    seed: u64,
    live: ArcSwap<Generation<K>>,
    building: ArcSwapOption<Generation<K>>,
    /// The number of the generation that is being built; 0 if there is none.
    rebuild: AtomicU64,
    writes: Arc<InFlight>,
    /// The most keys that a rebuild has met in the source.
    seeded_max: AtomicU64,
    rebuilds: AtomicU64,
    checks: Tally,
}

/// Numbers the generations of all filters of this process, so that no token fits two of them.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl LocalFilter {
    /// An empty filter that answers [`Verdict::Unknown`] until it is rebuilt.
    ///
    /// # Errors
    /// `InvalidConfig` as [`Params::new`] says.
    pub fn new(options: FilterOptions) -> Result<Self> {
        Self::with_options(options)
    }

    /// The header of the generation that answers.
    pub fn header(&self) -> Header {
        self.shared.live.load().header()
    }
}

impl<K: KeySet> LocalFilter<K> {
    /// [`new`](LocalFilter::new), with any [`KeySet`].
    ///
    /// # Errors
    /// `InvalidConfig` as [`Params::new`] says.
    pub fn with_options(options: FilterOptions) -> Result<Self> {
        let params = Params::new(options.capacity, options.error_rate)?;
        let seed = options.seed.unwrap_or_else(random_seed);
        let first = Generation::new(params, seed, GENERATIONS.fetch_add(1, Relaxed));
        let shared = Shared {
            options,
            seed,
            live: ArcSwap::from_pointee(first),
            building: ArcSwapOption::empty(),
            rebuild: AtomicU64::new(0),
            writes: Arc::default(),
            seeded_max: AtomicU64::new(0),
            rebuilds: AtomicU64::new(0),
            checks: Tally::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

#[async_trait]
impl<K: KeySet> MembershipFilter for LocalFilter<K> {
    #[inline]
    fn check(&self, key: &str) -> Verdict {
        let verdict = self.shared.live.load().check(key);
        self.shared.checks.count(verdict);
        verdict
    }

    async fn confirm_absent(&self, key: &Key) -> Result<bool> {
        Ok(self.shared.live.load().check(key.as_str()) == Verdict::Absent)
    }

    async fn insert(&self, keys: &[Key]) -> Result<Insertion> {
        Ok(self.shared.insert(keys))
    }

    async fn begin_rebuild(&self, expected: u64) -> Result<Rebuild> {
        let rebuild = self.shared.start_building(expected)?;
        // The new generation is in place: what enters from here on goes into it. The rows of those
        // that entered before can only come from the source, so they have to be there first.
        self.shared.writes.earlier_ended().await;
        Ok(rebuild)
    }

    async fn seed(&self, rebuild: &Rebuild, keys: &[Key]) -> Result<()> {
        let building = self.shared.building(rebuild)?;
        for key in keys {
            building.seed(K::hash(key.as_str(), self.shared.seed));
        }
        Ok(())
    }

    async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<()> {
        let building = self.shared.building(&rebuild)?;
        self.shared.seeded_max.fetch_max(building.seeded(), Relaxed);
        building.open()?;
        self.shared.switch_to(building);
        rebuild.ended();
        Ok(())
    }

    async fn distrust(&self) -> Result<Insertion> {
        // Entered first: a rebuild that begins from here on waits for what is kept of this.
        let insertion = self.shared.writes.enter();
        // First the one being built: if it becomes live in between, it is met again as such.
        if let Some(building) = &*self.shared.building.load() {
            building.distrust();
        }
        if self.shared.live.load().distrust() {
            tracing::warn!("the membership filter is distrusted until it is rebuilt");
        }
        Ok(insertion)
    }

    fn stats(&self) -> FilterStats {
        let live = self.shared.live.load();
        let params = live.params();
        let state = live.state();
        let rebuilding = self.shared.rebuild.load(Acquire) != 0;
        let inserted = params.estimate_keys(live.ones());
        let due = state != FilterState::Ready || inserted > params.capacity();
        FilterStats {
            state,
            rebuilding,
            capacity: params.capacity(),
            error_rate: params.error_rate(),
            bits: params.bits(),
            hashes: params.hashes(),
            inserted,
            fill_ratio: live.ones() as f64 / params.bits() as f64,
            checks: self.shared.checks.sum(),
            rebuilds: self.shared.rebuilds.load(Relaxed),
            wants_rebuild: due && !rebuilding,
        }
    }
}

impl<K: KeySet> Shared<K> {
    fn insert(&self, keys: &[Key]) -> Insertion {
        // The order is the proof. Entered before a rebuild began: the rebuild waits for this
        // write. Entered after: the generation being built is seen here, or, if it has become
        // live since, it is seen as such, because it becomes live before it stops being built.
        let insertion = self.writes.enter();
        let building = self.building.load();
        let live = self.live.load();
        for key in keys {
            let hash = K::hash(key.as_str(), self.seed);
            live.insert(hash);
            if let Some(building) = &*building {
                building.insert(hash);
            }
        }
        // The row may reach other threads by way of the database, which the memory model does not
        // know of: let the bits be there before anything that is sent from here on.
        fence(SeqCst);
        insertion
    }

    fn start_building(self: &Arc<Self>, expected: u64) -> Result<Rebuild> {
        let number = GENERATIONS.fetch_add(1, Relaxed);
        if self.rebuild.compare_exchange(0, number, AcqRel, Relaxed).is_err() {
            return Err(
                Error::new(ErrorKind::Conflict, "another rebuild of the filter runs").temporary()
            );
        }
        let shared = Arc::clone(self);
        let rebuild = Rebuild::new(number, move || shared.stop_building());
        let params = Params::new(self.capacity_for(expected), self.options.error_rate)?;
        self.building.store(Some(Arc::new(Generation::new(params, self.seed, number))));
        Ok(rebuild)
    }

    /// Half as many keys again as there are, so that the next rebuild is not due at once; and
    /// never fewer than an earlier rebuild met, so that one that was told too few is not repeated.
    fn capacity_for(&self, expected: u64) -> u64 {
        let keys = expected.max(self.seeded_max.load(Relaxed));
        self.options.capacity.max(keys.saturating_add(keys / 2))
    }

    fn building(&self, rebuild: &Rebuild) -> Result<Arc<Generation<K>>> {
        let building = self.building.load_full();
        building.filter(|building| building.number() == rebuild.id()).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "this rebuild of the filter does not run")
                .with_context("rebuild", rebuild.id())
        })
    }

    fn switch_to(&self, generation: Arc<Generation<K>>) {
        let (keys, bits) = (generation.seeded(), generation.params().bits());
        tracing::info!(keys, bits, "the membership filter was rebuilt");
        self.live.store(generation);
        self.rebuilds.fetch_add(1, Relaxed);
        self.stop_building();
    }

    fn stop_building(&self) {
        self.building.store(None);
        self.rebuild.store(0, Release);
    }
}

impl<K: KeySet> fmt::Debug for LocalFilter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let building = self.shared.building.load();
        f.debug_struct("LocalFilter")
            .field("live", &**self.shared.live.load())
            .field("building", &*building)
            .finish_non_exhaustive()
    }
}

/// Random by way of the keys that the standard library draws for its hash maps.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one("zmsg membership filter")
}
