//! The filter of one process: the suite, its error rate, its limits.

use std::sync::Arc;

use zmsg_bloom::conformance::Harness;
use zmsg_bloom::{FilterOptions, FilterState, LocalFilter, MembershipFilter, Verdict};
use zmsg_core::{ErrorKind, Key};

struct Local;

impl Harness for Local {
    async fn filter(&self, capacity: u64) -> Arc<dyn MembershipFilter> {
        Arc::new(filter_for(capacity, 0.01))
    }
}

zmsg_bloom::conformance!(Local);

#[tokio::test]
async fn false_positives_stay_near_the_configured_rate_at_capacity() {
    for (rate, seed) in [(0.1, 1), (0.01, 2), (0.001, 3)] {
        let options = FilterOptions { capacity: 100_000, error_rate: rate, seed: Some(seed) };
        let filter = LocalFilter::new(options).unwrap();
        seed_and_fill(&filter, 100_000).await;
        let wrong = (100_000..300_000).filter(|n| may_exist(&filter, *n)).count();
        let measured = wrong as f64 / 200_000.0;
        assert!(measured < rate * 1.5, "{measured} instead of {rate}");
        assert!(measured > rate / 1.5, "{measured} instead of {rate}: larger than needed");
    }
}

#[tokio::test]
async fn the_estimate_of_keys_counts_repeated_inserts_once() {
    let filter = filter_for(10_000, 0.01);
    for _ in 0..5 {
        seed_and_fill(&filter, 8_000).await;
        for number in 0..8_000 {
            drop(filter.insert(&[key(number)]).await.unwrap());
        }
        let stats = filter.stats();
        assert!(stats.inserted.abs_diff(8_000) < 160, "{stats:?}");
        assert_eq!((stats.state, stats.wants_rebuild), (FilterState::Ready, false));
    }
}

#[tokio::test]
async fn a_rebuild_is_wanted_above_capacity_and_forced_at_half_as_much_again() {
    let filter = filter_for(10_000, 0.01);
    seed_and_fill(&filter, 9_500).await;
    assert!(!filter.stats().wants_rebuild, "{:?}", filter.stats());
    seed_and_fill_more(&filter, 9_500..10_500).await;
    let stats = filter.stats();
    assert_eq!((stats.state, stats.wants_rebuild), (FilterState::Ready, true));
    seed_and_fill_more(&filter, 10_500..14_500).await;
    assert_eq!(filter.stats().state, FilterState::Ready);
    seed_and_fill_more(&filter, 14_500..15_500).await;
    assert_eq!(filter.stats().state, FilterState::OverFilled);
    assert_eq!(filter.check("nobody"), Verdict::Unknown);
}

#[tokio::test]
async fn a_check_allocates_nothing() {
    let filter = filter_for(1_000, 0.01);
    seed_and_fill(&filter, 100).await;
    let keys: Vec<Key> = (0..1_000).map(key).collect();
    let check_all = || {
        keys.iter().for_each(|key| {
            std::hint::black_box(filter.check(key.as_str()));
        });
    };
    // The first check of a thread registers it.
    check_all();
    assert_eq!(allocation_counter::measure(check_all).count_total, 0);
}

#[test]
fn options_that_cannot_work_are_refused_at_construction() {
    for (capacity, error_rate) in [(0, 0.01), (1_000, 0.0), (1_000, 1.0), (u64::MAX, 0.01)] {
        let options = FilterOptions { capacity, error_rate, seed: None };
        let refused = LocalFilter::new(options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig, "{refused}");
    }
}

#[tokio::test]
async fn a_rebuild_that_would_be_too_large_is_refused_and_leaves_none_running() {
    let filter = filter_for(1_000, 0.01);
    let refused = filter.begin_rebuild(u64::MAX).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    drop(filter.begin_rebuild(10).await.unwrap());
}

#[tokio::test]
async fn a_rebuild_runs_on_while_new_writes_keep_coming() {
    let filter = filter_for(1_000, 0.01);
    let early = filter.insert(&[key(1)]).await.unwrap();
    let mut begin = filter.begin_rebuild(10);
    tokio::select! {
        biased;
        rebuild = &mut begin => panic!("began with a write in flight: {rebuild:?}"),
        () = tokio::task::yield_now() => {}
    }
    let late = filter.insert(&[key(2)]).await.unwrap();
    drop(early);
    // Only the earlier write is waited for: the later one is in the new generation.
    filter.finish_rebuild(begin.await.unwrap()).await.unwrap();
    assert_eq!(filter.check(key(2).as_str()), Verdict::Maybe);
    drop(late);
}

#[tokio::test]
async fn a_random_seed_differs_from_filter_to_filter_and_is_not_shown() {
    let (one, two) = (filter_for(10, 0.01), filter_for(10, 0.01));
    assert_ne!(one.header().seed, two.header().seed);
    let options = FilterOptions { seed: Some(987_654_321), ..FilterOptions::default() };
    let seeded = LocalFilter::new(options).unwrap();
    assert_eq!(seeded.header().seed, 987_654_321);
    let shown = format!("{seeded:?} {options:?} {:?}", seeded.header());
    assert!(!shown.contains("987654321"), "{shown}");
}

#[tokio::test]
async fn a_new_generation_has_a_later_number_and_the_same_layout_if_it_has_the_same_size() {
    let filter = filter_for(1_000, 0.01);
    let before = filter.header();
    seed_and_fill(&filter, 100).await;
    let after = filter.header();
    assert!(after.generation > before.generation);
    assert!(after.same_layout(&before));
    let larger = filter.begin_rebuild(2_000).await.unwrap();
    filter.finish_rebuild(larger).await.unwrap();
    assert!(!filter.header().same_layout(&before));
}

fn filter_for(capacity: u64, error_rate: f64) -> LocalFilter {
    LocalFilter::new(FilterOptions { capacity, error_rate, seed: None }).unwrap()
}

/// A finished rebuild of a source with keys 0 to `rows`, expecting few, so that it is not enlarged.
async fn seed_and_fill(filter: &LocalFilter, rows: u32) {
    let rebuild = filter.begin_rebuild(0).await.unwrap();
    let keys: Vec<Key> = (0..rows).map(key).collect();
    filter.seed(&rebuild, &keys).await.unwrap();
    filter.finish_rebuild(rebuild).await.unwrap();
}

async fn seed_and_fill_more(filter: &LocalFilter, rows: std::ops::Range<u32>) {
    let keys: Vec<Key> = rows.map(key).collect();
    drop(filter.insert(&keys).await.unwrap());
}

fn may_exist(filter: &LocalFilter, number: u32) -> bool {
    match filter.check(key(number).as_str()) {
        Verdict::Absent => false,
        Verdict::Maybe => true,
        Verdict::Unknown => panic!("the filter does not answer: {:?}", filter.stats()),
    }
}

fn key(number: u32) -> Key {
    Key::new(format!("user:{number}")).unwrap()
}
