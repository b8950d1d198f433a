//! The end of a queue: nothing that was accepted is forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_queue::batch::{BatchConfig, BatchQueue};

use super::rig::{Do, PATIENCE, Sink, open, quick, started, storages, until, with};

#[tokio::test(flavor = "multi_thread")]
async fn close_delivers_what_there_is_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        let config = BatchConfig { batch_timeout: Duration::from_secs(3_600), ..with(storage) };
        let queue = started(config, &sink).await;
        queue.enqueue_batch((0..95).collect()).await.unwrap();
        let report = queue.close(PATIENCE).await;
        assert!(report.is_drained() && report.error.is_none(), "{report:?}");
        assert_eq!((report.sent, sink.taken().len()), (95, 95));
        assert!(queue.is_closed() && !queue.is_started());
        for refused in [
            queue.enqueue(1).await.unwrap_err(),
            queue.try_enqueue(1).unwrap_err(),
            queue.start().unwrap_err(),
            queue.pause().unwrap_err(),
        ] {
            assert_eq!(refused.kind(), ErrorKind::Closed);
        }
        assert_eq!(queue.close(PATIENCE).await.sent, 95, "the same again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_while_the_queue_closes_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..30 {
        for storage in storages(&dir.path().join(round.to_string())) {
            let sink = Sink::new();
            let queue = started(with(storage), &sink).await;
            let accepted = Arc::new(AtomicU64::new(0));
            let producers = (0..4).map(|_| {
                let (queue, accepted) = (queue.clone(), Arc::clone(&accepted));
                async move {
                    while queue.try_enqueue(1).is_ok() {
                        accepted.fetch_add(1, Relaxed);
                        tokio::task::yield_now().await;
                    }
                }
            });
            let closing = async {
                until(&queue, |queue| queue.stats().enqueued > 20).await;
                queue.close(PATIENCE).await
            };
            let (report, _) = tokio::join!(closing, futures_util::future::join_all(producers));
            assert!(report.is_drained(), "{report:?}");
            assert_eq!(sink.taken().len() as u64, accepted.load(Relaxed));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_keeps_its_deadline_and_the_next_opening_delivers_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let in_memory = storage == zmsg_queue::batch::BatchStorage::Memory;
        let sink = Sink::new();
        sink.script([Do::Take, Do::Hang]);
        let queue = open(with(storage.clone()), &sink).await;
        queue.enqueue_batch((0..30).collect()).await.unwrap();
        queue.start().unwrap();
        sink.until(|seen| seen.calls.len() == 2).await;
        let report = queue.close(Duration::from_millis(20)).await;
        assert_eq!((report.sent, report.interrupted, report.stuck), (10, 1, 0), "{report:?}");
        let left = if in_memory { (0, 20) } else { (20, 0) };
        assert_eq!((report.left_in_log, report.lost), left, "{storage:?}");
        assert_eq!(sink.seen().dropped, 1);
        if in_memory {
            continue;
        }
        let sink = Sink::new();
        let queue = started(with(storage), &sink).await;
        assert_eq!(queue.stats().recovered, 20);
        queue.drained().await;
        assert_eq!(sink.taken(), (10..30).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_paused_or_was_never_started_keeps_its_items() {
    let dir = tempfile::tempdir().unwrap();
    for (name, pause) in [("opened", false), ("paused", true)] {
        let config = || quick(BatchConfig::durable(dir.path().join(name)));
        let sink = Sink::new();
        let queue = open(config(), &sink).await;
        if pause {
            queue.start().unwrap();
            queue.pause().unwrap();
        }
        queue.enqueue_batch((0..5).collect()).await.unwrap();
        let report = queue.close(PATIENCE).await;
        assert_eq!((report.left_in_log, report.sent), (5, 0));
        let queue = started(config(), &sink).await;
        queue.drained().await;
        assert_eq!(sink.taken(), [0, 1, 2, 3, 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_dropped_does_not_hold_up_the_close() {
    let dir = tempfile::tempdir().unwrap();
    let (block, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let handler = move |_batch: zmsg_queue::batch::Batch<u64>| {
        // Ends with the test. A thread that is blocked without telling may be the one on which the
        // runtime's timers wait: nothing keeps its time then.
        #[expect(clippy::disallowed_methods, reason = "on a runtime of many threads")]
        let _ = tokio::task::block_in_place(|| blocked.lock().unwrap().recv());
        async { Ok(zmsg_queue::batch::Outcome::done()) }
    };
    let config = quick(BatchConfig::durable(dir.path().join("q")));
    let queue = BatchQueue::builder(config).open(handler).await.unwrap();
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    until(&queue, |queue| queue.stats().in_flight == 1).await;
    let report = queue.close(Duration::from_millis(10)).await;
    assert_eq!((report.stuck, report.left_in_log, report.lost), (1, 1, 0), "{report:?}");
    drop(block);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_closes_the_queue_and_frees_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = || quick(BatchConfig::hybrid(dir.path().join("q")));
    let sink = Sink::new();
    let tracker = tokio_util::task::TaskTracker::new();
    let queue = BatchQueue::builder(config()).tracker(tracker.clone());
    let queue = queue.open(sink.handler()).await.unwrap();
    queue.enqueue_batch((0..5).collect()).await.unwrap();
    let clone = queue.clone();
    drop(queue);
    assert!(!clone.is_closed());
    drop(clone);
    tracker.close();
    tokio::time::timeout(PATIENCE, tracker.wait()).await.unwrap();
    let queue = started(config(), &sink).await;
    queue.drained().await;
    assert_eq!(sink.taken(), [0, 1, 2, 3, 4], "also what was in memory alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_is_dropped_goes_on() {
    let sink = Sink::new();
    let queue = started(quick(BatchConfig::memory()), &sink).await;
    queue.enqueue_batch((0..50).collect()).await.unwrap();
    let _ = futures_util::FutureExt::now_or_never(queue.close(PATIENCE));
    sink.until_taken(50).await;
    assert!(queue.close(PATIENCE).await.is_drained());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_paused_queue_lets_the_call_on_its_way_end() {
    let sink = Sink::new();
    sink.script([Do::Slow(Duration::from_millis(50))]);
    let queue = started(quick(BatchConfig::memory()), &sink).await;
    queue.enqueue(1).await.unwrap();
    sink.until(|seen| seen.calls.len() == 1).await;
    queue.pause().unwrap();
    let report = queue.close(PATIENCE).await;
    assert_eq!((report.sent, report.lost, report.interrupted), (1, 0, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_the_end_is_told_when_the_queue_closes() {
    for _ in 0..200 {
        let queue = open(quick(BatchConfig::memory()), &Sink::new()).await;
        queue.try_enqueue(1).unwrap();
        let waiting = futures_util::future::join_all((0..4).map(|_| queue.drained()));
        let both = async { tokio::join!(waiting, queue.close(Duration::ZERO)) };
        tokio::time::timeout(PATIENCE, both).await.unwrap();
    }
}
