//! The next id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use uuid::Uuid;
use zmsg_core::SystemClock;
use zmsg_idgen::{FixedLease, IdGenerator, IdOptions, Layout, RawId};

fn id_next(c: &mut Criterion) {
    let ids = generator();
    let counter = AtomicU64::new(1);
    let mut group = c.benchmark_group("id_next");
    group.bench_function("zmsg", |b| b.iter(|| one(&ids)));
    group.bench_function("zmsg, 64 at once, each", |b| {
        b.iter_custom(|iterations| {
            let started = std::time::Instant::now();
            let mut made = 0;
            while made < iterations {
                made += ids.try_next_batch(64).expect("a lease").len() as u64;
            }
            // A batch may overshoot, or be cut short by the end of a millisecond.
            started.elapsed().mul_f64(iterations as f64 / made as f64)
        });
    });
    group.bench_function("zmsg, as text", |b| {
        b.iter(|| zmsg_idgen::Id::new("feed", one(&ids)).expect("a valid prefix"));
    });
    group.bench_function("uuid v7", |b| b.iter(Uuid::now_v7));
    group.bench_function("bare atomic counter", |b| b.iter(|| counter.fetch_add(1, Relaxed)));
    group.finish();
}

fn one(ids: &IdGenerator) -> RawId {
    ids.try_next().expect("a lease").expect("an id without waiting")
}

/// With 22 bits of sequence: the default layout gives 4,096 ids per millisecond, and a benchmark
/// would measure the wait for the next one.
fn generator() -> IdGenerator {
    let layout = Layout::new(Layout::EPOCH_2021_MS, 40, 1, 22).expect("a valid layout");
    // Long enough for the whole run: there is no keeper here to extend the lease.
    let options = IdOptions { reserve_ahead: Duration::from_secs(3_600), ..IdOptions::default() };
    let lease = Arc::new(FixedLease::trusting_the_clock(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime
        .expect("a runtime")
        .block_on(IdGenerator::start(layout, lease, Arc::new(SystemClock), options))
        .expect("a free node")
}

criterion_group! { name = benches; config = zmsg_benches::criterion(); targets = id_next }
criterion_main!(benches);
