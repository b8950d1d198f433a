//! What happens in a run, decided by the seed and the number of the run alone.

use std::fmt;

use anyhow::{Context as _, Result};
use zmsg_testbed::private::Binaries;

use super::points::Points;
use super::postgres::Server;

/// A database that an engine works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Store {
    Sqlite,
    Postgres,
}

/// Which databases are to be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stores {
    Sqlite,
    Postgres,
    Both,
}

/// One run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) store: Store,
    /// With a second cache tier.
    pub(super) remote: bool,
    /// A second process works on the same database all the time, from a directory of its own, and is
    /// killed right after the first one, again and again.
    pub(super) companion: bool,
    /// What the batch queue is, where there is one.
    pub(super) queue: &'static str,
    /// Bytes of a file of the journal, if it is to be small.
    pub(super) segment: Option<u64>,
    /// Processes that are killed, one after the other.
    pub(super) kills: Vec<Kill>,
    /// Broken on purpose.
    pub(super) sabotage: Option<String>,
}

/// A process, and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) at: Place,
    pub(super) mix: &'static str,
    /// Milliseconds from flush to flush.
    pub(super) interval: u64,
    pub(super) seed: u64,
    /// What was left before is taken over from another directory.
    pub(super) adopts: bool,
}

/// Where a process is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// By itself, the n-th time that it comes to this failpoint.
    Point(String, u64),
    /// By a tracer, as one of its threads enters this call of the system the n-th time.
    Call(String, u64),
    /// So many microseconds after so many acknowledgements.
    Acks(u64, u64),
    /// So many microseconds after its start.
    Start(u64),
}

/// So many kills of a run are at failpoints, or one more where one needs another before.
const POINTS: usize = 5;

/// What must happen before, so that a process can come to a failpoint.
const BEFORE: &[(&str, &str)] = &[
    ("zmsg-aggregate::recovery::unparking", "zmsg-aggregate::flush::parked"),
    ("zmsg-wal::open::copied", "zmsg-wal::write::written"),
];

/// What a process comes to only with small files of its journal.
const SMALL: &[&str] = &["::rotate::", "::trim::", "::remove::", "::checkpoint::"];

/// The batch queues of the program.
const QUEUES: [&str; 3] = ["durable", "lanes", "hybrid"];

/// How the names of places begin that are calls of the system.
pub(super) const CALL: &str = "a call of ";

/// Calls of the system that change a file, or send something to a server.
const CALLS: &[&str] = &[
    "pwrite64",
    "fdatasync",
    "fsync",
    "openat",
    "rename",
    "unlink",
    "ftruncate",
    "fallocate",
    "mkdir",
    "flock",
    "sendto",
];

/// How often one of the threads enters a call before the process is killed at it, at most: every
/// number up to here has its turn, first those of opening and recovery.
const CALLS_MAX: u64 = 60;

/// Kills of a run at calls of the system.
const CALLS_OF_RUN: u64 = 8;

/// A file of this many bytes is full after some two hundred operations.
pub(super) const SMALL_BYTES: u64 = 32 << 10;

impl Plan {
    /// The run with this number. Runs take the failpoints in turn, some each, and when all had their
    /// turn the same ones on the next store.
    pub(super) fn of(seed: u64, run: u64, points: &Points, stores: &[Store]) -> Self {
        let mut random = Random::of(seed, run);
        let lots = points.all().len().div_ceil(POINTS);
        let lot = index(run, lots);
        let names = &points.all()[lot * POINTS..((lot + 1) * POINTS).min(points.all().len())];
        let turn = run / lots as u64;
        let store = store_of(names, lot as u64, turn, stores);
        let mut kills = Vec::new();
        for name in names.iter().filter(|name| store.has(name)) {
            if random.below(2) == 0 {
                kills.push(Kill::anywhere(&mut random));
            }
            if let Some((_, before)) = BEFORE.iter().find(|(then, _)| *then == name.as_str()) {
                kills.push(Kill::at(before, 1, &mut random));
            }
            // A process has to have written something, for the next one to recover.
            if is_at_start(name) && kills.last().is_none_or(|kill: &Kill| !kill.writes()) {
                let acks = Place::Acks(20 + random.below(200), random.below(3_000));
                let mix = if is_of_batch_queue(name) { "batch" } else { "periodic" };
                kills.push(Kill { interval: 200, ..Kill::new(acks, mix, &mut random) });
            }
            let once = is_at_start(name) || is_at_end(name) || is_of_small_files(name);
            let once = once || turn == 0;
            let hit = if once { 1 } else { [1, 1, 2, 3, 6, 20][random.index(6)] };
            kills.push(Kill::at(name, hit, &mut random));
        }
        let needs_small = |kill: &Kill| match &kill.at {
            Place::Point(name, _) => is_of_small_files(name),
            _ => false,
        };
        let small = random.below(2) == 0 || kills.iter().any(needs_small);
        let companion = store == Store::Postgres && random.below(2) == 0;
        // Of one process alone: what is in its memory is not shared.
        let remote = random.below(4) == 0 && !companion;
        let segment = small.then_some(SMALL_BYTES);
        let queue = QUEUES[random.index(QUEUES.len())];
        Self { store, remote, companion, queue, segment, kills, sabotage: None }
    }
}

/// The store for failpoints in their n-th turn: each in turn, but every other time that which has most
/// of them.
fn store_of(names: &[String], lot: u64, turn: u64, stores: &[Store]) -> Store {
    let has = |store: &Store| names.iter().filter(|name| store.has(name)).count();
    if stores.iter().all(|store| has(store) == names.len()) {
        return stores[index(lot + turn, stores.len())];
    }
    let in_turn = stores[index(lot + turn / 2, stores.len())];
    let of_most = stores.iter().copied().max_by_key(has).filter(|_| turn.is_multiple_of(2));
    of_most.unwrap_or(in_turn)
}

impl Plan {
    /// The run with this number of those that kill processes at calls of the system.
    pub(super) fn of_calls(seed: u64, run: u64, stores: &[Store]) -> Self {
        let mut random = Random::of(seed, run);
        let (turn, store) = (run / stores.len() as u64, stores[index(run, stores.len())]);
        let kill = |at: u64| {
            let number = turn * CALLS_OF_RUN + at;
            let name = CALLS[index(number, CALLS.len())];
            let hit = 1 + number / CALLS.len() as u64 % CALLS_MAX;
            let place = Place::Call(name.to_owned(), hit);
            Kill::new(place, ["all", "periodic", "delayed", "batch"][random.index(4)], &mut random)
        };
        let kills = (0..CALLS_OF_RUN).map(kill).collect();
        let queue = QUEUES[random.index(QUEUES.len())];
        let (remote, companion, segment) = (false, false, Some(SMALL_BYTES));
        Self { store, remote, companion, queue, segment, kills, sabotage: None }
    }
}

impl Place {
    /// Under which name kills here are counted; `None` if it is just anywhere.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::Point(name, _) => Some(name.clone()),
            Self::Call(name, _) => Some(format!("{CALL}{name}")),
            Self::Acks(..) | Self::Start(_) => None,
        }
    }
}

impl Kill {
    fn at(name: &str, hit: u64, random: &mut Random) -> Self {
        let adopts = name.contains("::adopt::") || (is_at_start(name) && random.below(5) == 0);
        let place = Place::Point(name.to_owned(), hit);
        let kill = Self { adopts, ..Self::new(place, mix_for(name, random), random) };
        if is_of_small_files(name) {
            // A file goes when everything in it has taken effect.
            let mix = if is_of_batch_queue(name) { "batch" } else { "periodic" };
            return Self { mix, interval: kill.interval.min(8), ..kill };
        }
        kill
    }

    fn anywhere(random: &mut Random) -> Self {
        let place = match random.below(4) {
            // In the middle of opening, and of a recovery.
            0 => Place::Start(random.below(60_000)),
            _ => Place::Acks(1 + random.below(400), random.below(3_000)),
        };
        let mix = ["all", "all", "periodic", "delayed", "store", "batch"][random.index(6)];
        Self::new(place, mix, random)
    }

    /// Whether its process comes to writing, most likely.
    fn writes(&self) -> bool {
        match &self.at {
            Place::Point(name, _) => !is_at_start(name) && !is_at_end(name),
            Place::Call(..) | Place::Acks(..) => true,
            Place::Start(_) => false,
        }
    }

    pub(super) fn new(at: Place, mix: &'static str, random: &mut Random) -> Self {
        let interval = [3, 8, 30, 200][random.index(4)];
        Self { at, mix, interval, seed: random.next() >> 1, adopts: random.below(12) == 0 }
    }
}

/// Writes of the routes that come to a failpoint.
fn mix_for(name: &str, random: &mut Random) -> &'static str {
    let own = match name {
        // No other mix opens one.
        _ if is_of_batch_queue(name) => return "batch",
        // The log is that of the journal and of the batch queue.
        _ if name.starts_with("zmsg-wal") && random.below(3) == 0 => return "batch",
        _ if name.starts_with("zmsg-queue") || name.starts_with("zmsg::delay") => "delayed",
        _ if name.starts_with("zmsg::store") => "store",
        _ if name.starts_with("zmsg-store") || name.starts_with("zmsg::apply") => "all",
        _ => "periodic",
    };
    if random.below(3) == 0 { "all" } else { own }
}

fn is_of_batch_queue(name: &str) -> bool {
    name.starts_with("zmsg-queue::batch")
}

/// Whether processes come to a failpoint while they open the engine, and once or not at all.
fn is_at_start(name: &str) -> bool {
    ["::open::", "::recovery::", "::streams::", "::adopt::"].iter().any(|part| name.contains(part))
}

/// Whether processes come to a failpoint only if they close their engine.
pub(super) fn is_at_end(name: &str) -> bool {
    name.contains("::close::")
}

fn is_of_small_files(name: &str) -> bool {
    SMALL.iter().any(|part| name.contains(part))
}

impl Store {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// Whether an engine on it can come to a failpoint.
    pub(super) fn has(self, point: &str) -> bool {
        let of_another = match self {
            Self::Sqlite => "zmsg-store::postgres",
            Self::Postgres => "zmsg-store::sqlite",
        };
        !point.starts_with(of_another)
    }
}

impl Stores {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Both => "both",
        }
    }

    /// A server of our own, if one is wanted and its programs are on this machine.
    ///
    /// # Errors
    /// If it does not start, or nothing but it is wanted and there are no programs.
    pub(super) fn server(self) -> Result<Option<Server>> {
        if self == Self::Sqlite {
            return Ok(None);
        }
        match (Binaries::find().postgres, self) {
            (Some(programs), _) => Server::start(&programs).map(Some),
            (None, Self::Postgres) => None.context("the programs of PostgreSQL are not here"),
            (None, _) => {
                println!("without PostgreSQL: its programs are not on this machine");
                Ok(None)
            }
        }
    }

    pub(super) fn on_this_machine(self, has_server: bool) -> Vec<Store> {
        match self {
            Self::Postgres => vec![Store::Postgres],
            Self::Both if has_server => vec![Store::Sqlite, Store::Postgres],
            Self::Both | Self::Sqlite => vec![Store::Sqlite],
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(name, hit) => write!(f, "{name}:{hit}"),
            Self::Call(name, hit) => write!(f, "call {hit} of {name}"),
            Self::Acks(acks, micros) => write!(f, "{micros} µs after {acks} acknowledgements"),
            Self::Start(micros) => write!(f, "{micros} µs after the start"),
        }
    }
}

/// Numbers that depend on a seed and on nothing else, whatever versions of crates are in use
/// (SplitMix64).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn of(seed: u64, run: u64) -> Self {
        let mut random = Self(seed ^ run.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        random.next();
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn index(&mut self, len: usize) -> usize {
        index(self.next(), len)
    }
}

fn index(number: u64, len: usize) -> usize {
    usize::try_from(number % len as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Store; 2] = [Store::Sqlite, Store::Postgres];

    fn points() -> Points {
        Points::named(&["zmsg-store::postgres::sent", "zmsg-wal::open::begun", "zmsg::store::held"])
    }

    #[test]
    fn a_run_depends_on_its_seed_and_its_number_alone() {
        let plan = |seed, run| format!("{:?}", Plan::of(seed, run, &points(), &BOTH));
        assert_eq!(plan(7, 3), plan(7, 3));
        assert_ne!(plan(7, 3), plan(8, 3));
        assert_ne!(plan(7, 3), plan(7, 5));
    }

    #[test]
    fn every_failpoint_has_its_turn_on_every_store_that_has_it() {
        let mut planned = std::collections::BTreeSet::new();
        for run in 0..6 {
            let plan = Plan::of(1, run, &points(), &BOTH);
            let name = |kill: Kill| match kill.at {
                Place::Point(name, _) => Some((plan.store, name)),
                _ => None,
            };
            planned.extend(plan.kills.into_iter().filter_map(name));
        }
        assert_eq!(planned.len(), 5, "{planned:?}");
        assert!(!planned.contains(&(Store::Sqlite, "zmsg-store::postgres::sent".to_owned())));
    }
}
