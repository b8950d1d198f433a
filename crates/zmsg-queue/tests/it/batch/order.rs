//! The three orders.

use std::collections::HashMap;
use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_queue::batch::{BatchConfig, BatchOrder, BatchQueue, BatchSize};

use super::rig::{Do, Sink, open, quick, started, storages, with};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_holds_up_those_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        let mut failures = std::sync::atomic::AtomicU32::new(0);
        *failures.get_mut() = 2;
        sink.rule(move |_| {
            let left = failures.load(std::sync::atomic::Ordering::Relaxed);
            failures.store(left.saturating_sub(1), std::sync::atomic::Ordering::Relaxed);
            if left > 0 { Do::Fail(ErrorKind::Unexpected) } else { Do::Take }
        });
        let queue = open(with(storage), &sink).await;
        queue.enqueue_batch((0..40).collect()).await.unwrap();
        queue.start().unwrap();
        queue.drained().await;
        assert_eq!(sink.taken(), (0..40).collect::<Vec<_>>());
        assert_eq!(sink.seen().most_at_once, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_one_key_stay_in_order_and_others_overtake() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        // Key 3 cannot be delivered for a while; every batch fails now and then.
        sink.rule(|items| {
            let stuck = items.iter().any(|item| item % 8 == 3);
            let fails = fastrand::u8(..) < if stuck { 200 } else { 30 };
            if fails { Do::Fail(ErrorKind::Unexpected) } else { Do::Slow(Duration::from_millis(1)) }
        });
        let config = BatchConfig {
            order: BatchOrder::ByKey,
            in_flight_max: 4,
            tries_max: 10_000,
            ..with(storage)
        };
        let queue = BatchQueue::builder(config).ordered_by(|item| item % 8);
        let queue = queue.open(sink.handler()).await.unwrap();
        queue.start().unwrap();
        for item in 0..400 {
            queue.enqueue(item).await.unwrap();
        }
        queue.drained().await;
        let mut last = HashMap::new();
        for item in sink.taken() {
            let before = last.insert(item % 8, item);
            assert!(before.is_none_or(|before| before < item), "{item} after {before:?}");
        }
        assert_eq!(sink.taken().len(), 400);
        assert!(sink.seen().most_at_once > 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_any_order_others_overtake_a_batch_that_fails_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.rule(|items| if items.contains(&0) { Do::After(50) } else { Do::Behind(0) });
        let config = BatchConfig {
            order: BatchOrder::Any,
            in_flight_max: 4,
            batch_size: BatchSize::Fixed(5),
            ..with(storage)
        };
        let queue = open(config, &sink).await;
        queue.enqueue_batch((0..100).collect()).await.unwrap();
        queue.start().unwrap();
        queue.drained().await;
        let seen = sink.seen();
        assert!(seen.most_at_once > 1 && seen.most_at_once <= 4, "{}", seen.most_at_once);
        assert_ne!(seen.taken[0], 0, "the slow one was overtaken");
        let mut taken = seen.taken;
        taken.sort_unstable();
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_order_by_key_needs_a_key_and_a_key_that_order() {
    let sink = Sink::new();
    let by_key = BatchConfig { order: BatchOrder::ByKey, ..quick(BatchConfig::memory()) };
    let refused = BatchQueue::builder(by_key).open_in_memory(sink.handler()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
    let strict = BatchQueue::builder(quick(BatchConfig::memory())).ordered_by(|item: &u64| *item);
    let refused = strict.open_in_memory(sink.handler()).unwrap_err();
    assert!(refused.to_string().contains("order must be ByKey"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_see_their_own_order() {
    let sink = Sink::new();
    let queue = started(quick(BatchConfig::memory()), &sink).await;
    let producers = (0..4_u64).map(|producer| {
        let queue = queue.clone();
        async move {
            for item in 0..250 {
                queue.enqueue(producer * 1_000 + item).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(producers).await;
    queue.drained().await;
    for producer in 0..4 {
        let own: Vec<_> =
            sink.taken().into_iter().filter(|item| item / 1_000 == producer).collect();
        assert_eq!(own, (producer * 1_000..producer * 1_000 + 250).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_items_of_one_batch_stay_in_order_whatever_they_failed_of() {
    let sink = Sink::new();
    sink.script([Do::FailItems(vec![(0, ErrorKind::Unavailable), (1, ErrorKind::Unexpected)])]);
    let queue = started(quick(BatchConfig::memory()), &sink).await;
    queue.enqueue_batch(vec![0, 1]).await.unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), [0, 1]);
}
