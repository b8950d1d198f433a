//! A lookup in a filter that holds a million keys at 1 %.

use std::hint::black_box;

use bloomfilter::Bloom;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use fastbloom::AtomicBloomFilter;
use zmsg_bloom::{
    AtomicKeys, Bits, ClassicKeys, FilterOptions, KeyHash, KeySet, LocalFilter, MembershipFilter,
    Params, Verdict,
};
use zmsg_core::Key;

const KEYS: usize = 1_000_000;
const ERROR_RATE: f64 = 0.01;
const LOOKUPS: usize = 1 << 16;

fn bloom_check(c: &mut Criterion) {
    let rows: Vec<Key> = (0..KEYS).map(zmsg_benches::key).collect();
    let zmsg: Box<dyn MembershipFilter> = Box::new(local_filter::<AtomicKeys>(&rows));
    let on_bloomfilter: Box<dyn MembershipFilter> = Box::new(local_filter::<ClassicKeys>(&rows));
    let layout = Params::new(KEYS as u64, ERROR_RATE).expect("valid parameters");
    let bits = Bits::new(layout.bits());
    let fast = AtomicBloomFilter::with_false_pos(ERROR_RATE).expected_items(KEYS);
    let mut classic = Bloom::<str>::new_for_fp_rate(KEYS, ERROR_RATE).expect("valid parameters");
    for row in &rows {
        bits.set(KeyHash::new(row.as_str(), 1).positions(layout.bits(), layout.hashes()));
        fast.insert(row.as_str());
        classic.set(row.as_str());
    }
    for (case, first) in [("present", 0), ("absent", KEYS)] {
        let keys = zmsg_benches::scattered_keys(first, KEYS, LOOKUPS);
        let mut group = c.benchmark_group(format!("bloom_check/{case}"));
        lookups(&mut group, "zmsg", &keys, |key| zmsg.check(key) == Verdict::Maybe);
        lookups(&mut group, "zmsg, bits alone", &keys, |key| {
            let mut places = KeyHash::new(key, 1).positions(layout.bits(), layout.hashes());
            places.all(|position| bits.get(position))
        });
        lookups(&mut group, "fastbloom", &keys, |key| fast.contains(key));
        lookups(&mut group, "zmsg on bloomfilter", &keys, |key| {
            on_bloomfilter.check(key) == Verdict::Maybe
        });
        lookups(&mut group, "bloomfilter", &keys, |key| classic.check(key));
        group.finish();
    }
}

/// One lookup after the other, over keys that take turns.
fn lookups(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    keys: &[Key],
    contains: impl Fn(&str) -> bool,
) {
    let mut next = 0;
    group.bench_function(name, |b| {
        b.iter(|| {
            next = (next + 1) % LOOKUPS;
            contains(black_box(keys[next].as_str()))
        });
    });
}

/// As an engine makes it: rebuilt from its source.
fn local_filter<K: KeySet>(rows: &[Key]) -> LocalFilter<K> {
    let options = FilterOptions { capacity: KEYS as u64, error_rate: ERROR_RATE, seed: Some(1) };
    let filter = LocalFilter::with_options(options).expect("valid options");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime
        .block_on(async {
            let rebuild = filter.begin_rebuild(0).await?;
            filter.seed(&rebuild, rows).await?;
            filter.finish_rebuild(rebuild).await
        })
        .expect("a rebuild that nothing disturbs");
    filter
}

criterion_group! { name = benches; config = zmsg_benches::criterion(); targets = bloom_check }
criterion_main!(benches);
