//! What gets in comes out: in batches, in time, once. On every storage.

use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_queue::batch::{BatchConfig, BatchQueue, BatchSize, Durability};

use super::rig::{Do, Sink, TokioClock, open, quick, started, storages, until, with};

#[tokio::test(flavor = "multi_thread")]
async fn items_are_delivered_once_and_in_order_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        let queue = started(with(storage.clone()), &sink).await;
        for item in 0..500 {
            queue.enqueue(item).await.unwrap();
        }
        queue.enqueue_batch((500..1_000).collect()).await.unwrap();
        queue.drained().await;
        assert_eq!(sink.taken(), (0..1_000).collect::<Vec<_>>(), "{storage:?}");
        let seen = sink.seen();
        assert!(seen.calls.iter().all(|call| call.len() <= 10), "{storage:?}");
        assert!(seen.calls.iter().any(|call| call.len() == 10), "{storage:?}");
        let stats = queue.stats();
        assert_eq!((stats.enqueued, stats.sent, stats.pending), (1_000, 1_000, 0), "{storage:?}");
        assert_eq!(stats.batches, seen.calls.len() as u64, "{storage:?}");
        assert!(queue.close(Duration::from_secs(5)).await.is_drained());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_when_it_is_full_or_when_its_first_item_has_waited() {
    let sink = Sink::new();
    let config = BatchConfig {
        batch_size: BatchSize::Fixed(3),
        batch_timeout: Duration::from_secs(20),
        ..quick(BatchConfig::memory())
    };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.start().unwrap();
    for item in 0..4 {
        queue.enqueue(item).await.unwrap();
    }
    sink.until(|seen| seen.calls == [[0, 1, 2]]).await;
    let begin = tokio::time::Instant::now();
    let seen = sink.until(|seen| seen.calls.len() == 2).await;
    assert_eq!(seen.calls[1], [3]);
    let waited = begin.elapsed();
    assert!((19..=21).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_holds_no_more_bytes_than_it_may() {
    let sink = Sink::new();
    let config = BatchConfig { batch_bytes_max: 25, ..quick(BatchConfig::memory()) };
    let queue = BatchQueue::builder(config).weigher(|_| 10).open_in_memory(sink.handler()).unwrap();
    queue.enqueue_batch((0..7).collect()).await.unwrap();
    queue.start().unwrap();
    queue.drained().await;
    assert_eq!(sink.seen().calls, [vec![0, 1], vec![2, 3], vec![4, 5], vec![6]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_before_the_start_or_during_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        let queue = open(with(storage), &sink).await;
        assert!(!queue.is_started() && !queue.is_closed() && queue.is_empty());
        queue.enqueue_batch((0..30).collect()).await.unwrap();
        assert_eq!(queue.len(), 30);
        assert!(sink.seen().calls.is_empty());
        queue.start().unwrap();
        queue.start().unwrap();
        queue.drained().await;
        queue.pause().unwrap();
        assert!(queue.is_started() && queue.is_paused());
        queue.enqueue_batch((30..60).collect()).await.unwrap();
        // A batch that fails during the pause is not tried again either.
        assert_eq!((sink.taken().len(), queue.len()), (30, 30));
        queue.start().unwrap();
        queue.drained().await;
        assert_eq!(sink.taken(), (0..60).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_the_end_of_a_pause() {
    let sink = Sink::new();
    let config = BatchConfig { tries_max: 1_000, ..quick(BatchConfig::memory()) };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.start().unwrap();
    sink.rule(|_| Do::Fail(ErrorKind::Unexpected));
    queue.enqueue(1).await.unwrap();
    sink.until(|seen| seen.calls.len() > 2).await;
    queue.pause().unwrap();
    sink.rule(|_| Do::Take);
    // One call may have begun before the pause.
    let calls = sink.seen().calls.len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(sink.seen().calls.len() <= calls + 1);
    queue.start().unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_says_how_durable_the_item_is() {
    let dir = tempfile::tempdir().unwrap();
    for (storage, level) in storages(dir.path()).into_iter().zip([
        Durability::Synced,
        Durability::Buffered,
        Durability::Buffered,
    ]) {
        let sink = Sink::new();
        let config = BatchConfig { acknowledge: Durability::Synced, ..with(storage) };
        let queue = open(config, &sink).await;
        let enqueued = queue.enqueue(1).await.unwrap();
        assert_eq!(enqueued.durability(), level);
        let tried = queue.try_enqueue(2).unwrap();
        assert_eq!(tried.durability(), Durability::Buffered);
        assert_ne!(tried.id(), enqueued.id());
        let waited = tried.wait(Durability::Synced).await;
        if level == Durability::Synced {
            waited.unwrap();
        } else {
            assert_eq!(waited.unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_sees_the_ids_that_enqueue_told() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        let queue = started(with(storage), &sink).await;
        sink.script([Do::Fail(ErrorKind::Unexpected)]);
        let first = queue.enqueue(1).await.unwrap().id();
        queue.drained().await;
        let seen = sink.seen();
        assert_eq!(seen.ids, [[first], [first]], "also when it is tried again");
        assert_eq!(seen.attempts, [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_of_the_statistics_moves() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::new();
    let config = BatchConfig {
        batch_size: BatchSize::Adaptive { min: 1, start: 2, max: 100 },
        handler_timeout: Duration::from_millis(20),
        breaker_failures: 1,
        memory_items_max: 100,
        ..quick(BatchConfig::durable(dir.path().join("q")))
    };
    let queue = open(config, &sink).await;
    queue.enqueue_batch((0..150).collect()).await.unwrap();
    queue.enqueue_batch((150..160).collect()).await.unwrap();
    let stats = queue.stats();
    assert_eq!((stats.enqueued, stats.pending, stats.spilled), (160, 160, 160));
    assert!(stats.wal_bytes > 0 && stats.wal_bytes == queue.wal_size());
    until(&queue, |queue| queue.stats().memory_items > 0).await;
    assert!(queue.stats().memory_bytes > 0 && queue.stats().on_disk < 160);
    sink.script([
        Do::Panic,
        Do::Hang,
        Do::Fail(ErrorKind::Unavailable),
        Do::FailItems(vec![(0, ErrorKind::InvalidData)]),
        Do::Slow(Duration::from_millis(5)),
    ]);
    queue.start().unwrap();
    sink.until(|seen| seen.dropped == 1).await;
    queue.drained().await;
    let stats = queue.stats();
    assert_eq!((stats.panics, stats.timeouts, stats.buried, stats.sent), (1, 1, 1, 159));
    assert_eq!((stats.errors, stats.pending), (4, 0));
    assert!(stats.retries > 0 && stats.breaker_opened > 0 && !stats.breaker_is_open);
    assert!(stats.send_latency_max >= Duration::from_millis(5));
    assert!(stats.send_latency_avg > Duration::ZERO && stats.batch_size > 2);
    assert_eq!(queue.config().memory_items_max, 100);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_full_by_its_bytes_leaves_at_once() {
    let sink = Sink::new();
    let config = BatchConfig {
        batch_size: BatchSize::Fixed(1_000),
        batch_bytes_max: 80,
        batch_timeout: Duration::from_secs(20),
        ..quick(BatchConfig::memory())
    };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.start().unwrap();
    let begin = tokio::time::Instant::now();
    for item in 0..100 {
        queue.enqueue(item).await.unwrap();
        tokio::task::yield_now().await;
    }
    sink.until_taken(100).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(sink.seen().calls.iter().all(|call| call.len() == 10));
}
