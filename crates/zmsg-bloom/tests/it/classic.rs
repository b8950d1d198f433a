//! The local filter on the `bloomfilter` crate: the suite, its error rate, its estimates.

use std::sync::Arc;

use zmsg_bloom::conformance::Harness;
use zmsg_bloom::{ClassicFilter, FilterOptions, FilterState, MembershipFilter, Verdict};
use zmsg_core::Key;

struct Classic;

impl Harness for Classic {
    async fn filter(&self, capacity: u64) -> Arc<dyn MembershipFilter> {
        Arc::new(filter_for(capacity, 0.01))
    }
}

zmsg_bloom::conformance!(Classic);

/// In one part, and in several.
#[tokio::test]
async fn false_positives_stay_near_the_configured_rate_at_capacity() {
    for (keys, rate) in [(100_000, 0.1), (200_000, 0.01), (200_000, 0.001)] {
        let filter = filter_for(keys, rate);
        fill(&filter, 0..keys).await;
        let asked = 200_000;
        let may_exist = |n: &u64| filter.check(key(*n).as_str()) == Verdict::Maybe;
        let wrong = (keys..keys + asked).filter(may_exist).count();
        let measured = wrong as f64 / asked as f64;
        assert!(measured < rate * 1.5, "{measured} instead of {rate}");
        assert!(measured > rate / 1.5, "{measured} instead of {rate}: larger than needed");
    }
}

#[tokio::test]
async fn the_estimate_of_keys_is_near_at_every_rate_and_counts_repeated_inserts_once() {
    for rate in [0.5, 0.1, 0.01, 0.0001] {
        let filter = filter_for(200_000, rate);
        for rows in [1_000, 50_000, 200_000, 280_000] {
            fill(&filter, 0..rows).await;
            fill(&filter, 0..rows / 2).await;
            let stats = filter.stats();
            assert!(stats.inserted.abs_diff(rows) < rows / 33, "{rows} at {rate}: {stats:?}");
            assert_eq!(stats.state, FilterState::Ready, "{rows} at {rate}: {stats:?}");
        }
        fill(&filter, 280_000..320_000).await;
        assert_eq!(filter.stats().state, FilterState::OverFilled, "{:?}", filter.stats());
    }
}

#[tokio::test]
async fn a_check_allocates_nothing() {
    let filter = filter_for(200_000, 0.01);
    fill(&filter, 0..1_000).await;
    let keys: Vec<Key> = (0..2_000).map(key).collect();
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
fn the_seed_is_not_shown() {
    let options = FilterOptions { seed: Some(987_654_321), ..FilterOptions::default() };
    let shown = format!("{:?}", ClassicFilter::with_options(options).unwrap());
    assert!(shown.contains("ClassicKeys") && !shown.contains("987654321"), "{shown}");
    assert!(!shown.contains("seed: ["), "{shown}");
}

fn filter_for(capacity: u64, error_rate: f64) -> ClassicFilter {
    ClassicFilter::with_options(FilterOptions { capacity, error_rate, seed: Some(7) }).unwrap()
}

/// Inserts rows, after a rebuild of an empty source if there was none.
async fn fill(filter: &ClassicFilter, rows: std::ops::Range<u64>) {
    if filter.stats().state == FilterState::Unseeded {
        let rebuild = filter.begin_rebuild(0).await.unwrap();
        filter.finish_rebuild(rebuild).await.unwrap();
    }
    let keys: Vec<Key> = rows.map(key).collect();
    drop(filter.insert(&keys).await.unwrap());
}

fn key(number: u64) -> Key {
    Key::new(format!("user:{number}")).unwrap()
}
