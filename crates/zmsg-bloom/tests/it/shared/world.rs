//! A database and servers with bits, in memory, that fail as real ones do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zmsg_bloom::shared::FilterRow;
use zmsg_core::{Clock, Error, ErrorKind, Key, Millis, Result, UnixMillis};

/// What is left out of the protocol, to see that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    /// Transactions do not look at the version.
    NoVersionCheck,
    /// A reader's lease never ends.
    NoLease,
    /// All servers say that they are the same.
    NoIdentity,
    /// Builders do not wait for transactions that have begun.
    NoWait,
    /// A segment that was evicted looks like one that was filled.
    NoSentinel,
}

/// How rough the world is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// One call in so many takes long, pauses of nodes included; 0 for none, and none fails.
    pub(super) pause_one_in: u32,
    /// How long a long pause is at most.
    pub(super) pause_max: Duration,
    /// Servers are never told that a generation retires: leases have to do.
    pub(super) retire_fails: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) sabotage: Sabotage,
    pub(super) weather: Weather,
    state: Mutex<State>,
    random: Mutex<fastrand::Rng>,
    began: Instant,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) row: FilterRow,
    pub(super) table: BTreeSet<Key>,
    pub(super) recent: Vec<Key>,
    pub(super) committed: HashMap<Key, Instant>,
    /// What each writer is about to write.
    pub(super) coming: BTreeMap<usize, Key>,
    pub(super) open: BTreeSet<u64>,
    begun: u64,
    pub(super) servers: Vec<Server>,
    /// Which server the clients of each node are connected to.
    pub(super) connected: BTreeMap<usize, usize>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) identity: String,
    pub(super) down: bool,
    pub(super) generations: HashMap<String, Bits>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    pub(super) layout: String,
    pub(super) retired: bool,
    pub(super) ones: u64,
    pub(super) segments: Vec<Option<BTreeSet<u64>>>,
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Sabotage, weather: Weather) -> Self {
        let state = State { servers: vec![Server::new(0)], ..State::default() };
        let (state, random) = (Mutex::new(state), Mutex::new(fastrand::Rng::with_seed(seed)));
        Self { sabotage, weather, state, random, began: Instant::now() }
    }

    /// A world where nothing fails and nothing takes time.
    pub(super) fn calm() -> Self {
        let weather = Weather { pause_one_in: 0, pause_max: Duration::ZERO, retire_fails: false };
        Self::new(1, Sabotage::None, weather)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.random.lock().unwrap())
    }

    pub(super) fn one_in(&self, many: u32) -> bool {
        many > 0 && self.random(|random| random.u32(0..many)) == 0
    }

    /// The time that a step takes: mostly little, at times as long as a stopped process.
    pub(super) async fn pause(&self) {
        if self.weather.pause_one_in == 0 {
            return;
        }
        let most = match self.one_in(self.weather.pause_one_in) {
            true => self.weather.pause_max,
            false => Duration::from_millis(3),
        };
        let micros = self.random(|random| random.u64(0..=most.as_micros() as u64));
        let pause = Duration::from_micros(micros);
        sleep(pause).await;
    }

    /// An error once in a while.
    pub(super) fn fails(&self) -> Result<()> {
        match self.one_in(20 * self.weather.pause_one_in) {
            true => Err(away()),
            false => Ok(()),
        }
    }

    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state();
        state.begun += 1;
        let id = state.begun;
        state.open.insert(id);
        id
    }

    /// The last step of a transaction.
    pub(super) fn guard(&self, version: Option<u64>) -> bool {
        let ignored = self.sabotage == Sabotage::NoVersionCheck;
        ignored || version.is_none_or(|version| self.state().row.version == version)
    }

    pub(super) fn commit(&self, transaction: u64, key: &Key) {
        let mut state = self.state();
        state.open.remove(&transaction);
        state.table.insert(key.clone());
        state.recent.push(key.clone());
        state.committed.insert(key.clone(), Instant::now());
    }

    pub(super) fn roll_back(&self, transaction: u64) {
        self.state().open.remove(&transaction);
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Server {
    pub(super) fn new(number: usize) -> Self {
        Self { identity: format!("server{number}"), ..Self::default() }
    }
}

/// The virtual time as a monotonic clock, or one that stands still.
#[derive(Debug)]
pub(super) struct TestClock(pub(super) Option<Instant>);

impl Clock for TestClock {
    fn wall(&self) -> UnixMillis {
        0
    }

    fn coarse(&self) -> Millis {
        self.0.map_or(0, |began| began.elapsed().as_millis() as u64)
    }
}

pub(super) fn away() -> Error {
    Error::new(ErrorKind::Unavailable, "it is away").temporary()
}
