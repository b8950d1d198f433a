//! The next id, on one thread and on two, beside other generators with the same layout.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use ferroid::generator::{AtomicSnowflakeGenerator, BasicSnowflakeGenerator};
use ferroid::time::MonotonicClock;
use uuid::Uuid;
use zmsg_benches::{Case, Figures, Go, Unit, Way, nanoseconds};
use zmsg_core::SystemClock;
use zmsg_idgen::{FixedLease, Id, IdBatch, IdGenerator, IdOptions, Layout, RawId};

use layout::Snowflake;

// With 22 bits of sequence: the layouts that are usual give 4,096 ids per millisecond, and a benchmark
// would measure the wait for the next one.
const TIME_BITS: u8 = 40;
const NODE_BITS: u8 = 1;
const SEQUENCE_BITS: u8 = 22;

/// The same layout for `ferroid`.
mod layout {
    #![allow(missing_docs, unreachable_pub, reason = "the macro is as it is")]

    ferroid::define_snowflake_id!(
        Snowflake, u64,
        reserved: 1,
        timestamp: 40,
        machine_id: 1,
        sequence: 22
    );
}

fn generator() -> IdGenerator {
    let layout = Layout::new(Layout::EPOCH_2021_MS, TIME_BITS, NODE_BITS, SEQUENCE_BITS);
    // Long enough for the whole run: there is no keeper here to extend the lease.
    let options = IdOptions { reserve_ahead: Duration::from_secs(3_600), ..IdOptions::default() };
    let lease = Arc::new(FixedLease::trusting_the_clock(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let started = IdGenerator::start(layout.unwrap(), lease, Arc::new(SystemClock), options);
    runtime.unwrap().block_on(started).unwrap()
}

fn one(ids: &IdGenerator) -> RawId {
    ids.try_next().unwrap().unwrap()
}

/// One of those that were taken 64 at once.
fn of_many(ids: &IdGenerator, taken: &mut IdBatch) -> RawId {
    loop {
        if let Some(id) = taken.next() {
            return id;
        }
        *taken = ids.try_next_batch(64).unwrap();
    }
}

/// What `ferroid` waits by: it asks for no time at all where another thread was faster.
fn wait(milliseconds: u64) {
    if milliseconds == 0 { spin_loop() } else { yield_now() }
}

fn next_id(figures: &mut Figures, ids: &IdGenerator, go: Option<&Go>, threads: usize) {
    let counter = AtomicU64::new(1);
    let clock = MonotonicClock::<1>::with_epoch(Duration::from_millis(Layout::EPOCH_2021_MS));
    let shared = AtomicSnowflakeGenerator::<Snowflake, _>::new(1, clock.clone());
    let per_thread = |thread: usize| {
        let ids = BasicSnowflakeGenerator::<Snowflake, _>::new(thread as u64, clock.clone());
        move || ids.next_id(wait)
    };
    let many = |_| {
        let mut taken = IdBatch::default();
        move || of_many(ids, &mut taken)
    };
    let mut snowflake = || {
        let numbers = [threads, NODE_BITS.into(), SEQUENCE_BITS.into()].map(|it| it.to_string());
        go.map_or(0.0, |go| go.run(numbers.into_iter().chain([Go::round()])))
    };
    let mut own = || nanoseconds(threads, |_| || one(ids));
    let mut batched = || nanoseconds(threads, many);
    let mut ferroid = || nanoseconds(threads, |_| || shared.next_id(wait));
    let mut ferroids = || nanoseconds(threads, per_thread);
    let mut uuid = || nanoseconds(threads, |_| Uuid::now_v7);
    let mut atomic = || nanoseconds(threads, |_| || counter.fetch_add(1, Relaxed));
    let mut ways: Vec<Way<'_>> = vec![
        ("zmsg", &mut own),
        ("zmsg, 64 at once, each", &mut batched),
        ("ferroid, atomic", &mut ferroid),
        ("ferroid, one for each thread", &mut ferroids),
        ("uuid v7", &mut uuid),
        ("bare atomic counter", &mut atomic),
    ];
    if go.is_some() {
        ways.push(("Go's bwmarrin/snowflake", &mut snowflake));
    }
    let case = Case::new("next id").at("threads", threads as u64);
    figures.turns(&case, Unit::Nanoseconds, &mut ways);
}

/// Ids a second from one who wants all that there are, with the layout that is the default.
fn sustained(figures: &mut Figures) {
    let (runtime, layout) = (zmsg_benches::runtime(), Layout::default());
    let each_second = f64::from(layout.sequences()) * 1e3;
    let lease = Arc::new(FixedLease::trusting_the_clock(1));
    let options = IdOptions { reserve_ahead: Duration::from_secs(3_600), ..IdOptions::default() };
    let started = IdGenerator::start(layout, lease, Arc::new(SystemClock), options);
    let ids = runtime.block_on(started).unwrap();
    let take = async || {
        let (began, mut taken) = (Instant::now(), 0);
        while began.elapsed() < zmsg_benches::round() {
            taken += ids.next_batch(1_024).await.unwrap().len();
        }
        taken as f64 / began.elapsed().as_secs_f64()
    };
    figures.turns(
        &Case::new("ids, as many as there are"),
        Unit::PerSecond,
        &mut [
            ("zmsg", &mut || runtime.block_on(take())),
            ("the layout's limit", &mut || each_second),
        ],
    );
}

fn main() {
    let Some(mut figures) = Figures::of("id_next") else { return };
    let go = Go::build("snowflake", env!("CARGO_TARGET_TMPDIR"));
    if let Err(why) = &go {
        figures.left_out("Go's bwmarrin/snowflake", why);
    }
    let ids = generator();
    for threads in [1, 2] {
        next_id(&mut figures, &ids, go.as_ref().ok(), threads);
    }
    sustained(&mut figures);
    figures.turns(
        &Case::new("next id as text"),
        Unit::Nanoseconds,
        &mut [
            ("zmsg", &mut || nanoseconds(1, |_| || Id::new("feed", one(&ids)).unwrap())),
            ("uuid v7", &mut || nanoseconds(1, |_| || Uuid::now_v7().to_string())),
        ],
    );
}
