//! Dead letters: kept, listed, dropped, tried again, and bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use zmsg_core::{Error, ErrorKind};
use zmsg_queue::batch::{
    BatchConfig, BatchQueue, BatchSize, BatchStorage, Content, DeadLetter, OnDeadFull,
};

use super::rig::{Do, PATIENCE, Sink, open, started, storages, until, with};

fn odd_items_fail(items: &[u64]) -> Do {
    let failed = items.iter().enumerate().filter(|(_, item)| *item % 2 == 1);
    Do::FailItems(failed.map(|(place, _)| (place, ErrorKind::InvalidData)).collect())
}

fn items(letters: &[DeadLetter<u64>]) -> Vec<u64> {
    let item = |letter: &DeadLetter<u64>| match &letter.content {
        Content::Item(item) => **item,
        Content::Unreadable(_) => panic!("{letter:?}"),
    };
    letters.iter().map(item).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_dropped_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.rule(odd_items_fail);
        let queue = started(with(storage.clone()), &sink).await;
        let enqueued = queue.enqueue_batch((0..20).collect()).await.unwrap();
        queue.drained().await;
        assert_eq!(sink.taken(), (0..20).step_by(2).collect::<Vec<_>>());
        assert_eq!(queue.dead_letters_len().await.unwrap(), 10);
        let letters = queue.dead_letters(3).await.unwrap();
        assert_eq!(items(&letters), [1, 3, 5]);
        assert_eq!((letters[0].id, letters[0].tries), (enqueued[1].id(), 1));
        assert!(letters[0].died_at > 1_700_000_000_000);

        assert_eq!(queue.drop_dead_letters([letters[1].id]).await.unwrap(), 1);
        assert_eq!(queue.drop_dead_letters([letters[1].id]).await.unwrap(), 0);
        drop(letters);
        sink.rule(|_| Do::Take);
        assert_eq!(queue.retry_dead_letters(4).await.unwrap(), 4);
        queue.drained().await;
        assert_eq!(sink.taken()[10..], [1, 5, 7, 9]);
        assert_eq!(items(&queue.dead_letters(100).await.unwrap()), [11, 13, 15, 17, 19]);
        queue.close(PATIENCE).await;

        if storage != BatchStorage::Memory {
            let queue = open(with(storage), &Sink::new()).await;
            assert_eq!(items(&queue.dead_letters(100).await.unwrap()), [11, 13, 15, 17, 19]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_held_elsewhere_stays_a_letter() {
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
    let queue = started(with(BatchStorage::Memory), &sink).await;
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    let held = queue.dead_letters(1).await.unwrap();
    assert_eq!(queue.retry_dead_letters(1).await.unwrap(), 0);
    assert_eq!(queue.dead_letters_len().await.unwrap(), 1);
    drop(held);
    sink.rule(|_| Do::Take);
    assert_eq!(queue.retry_dead_letters(1).await.unwrap(), 1);
    queue.drained().await;
    assert_eq!(sink.taken(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_dead_letters_full_a_queue_waits_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.rule(odd_items_fail);
        let config = BatchConfig { dead_letters_max: 13, ..with(storage) };
        let queue = open(config, &sink).await;
        queue.enqueue_batch((0..40).collect()).await.unwrap();
        queue.start().unwrap();
        // Five of each batch of ten: those of the third one do not all fit.
        sink.until(|seen| seen.calls.len() == 3).await;
        // Five of the third batch, and the fourth.
        until(&queue, |queue| queue.len() == 15).await;
        let letters = queue.dead_letters(100).await.unwrap();
        assert!((10..=13).contains(&letters.len()), "{letters:?}");
        queue.drop_dead_letters(letters.iter().map(|letter| letter.id)).await.unwrap();
        queue.drained().await;
        let mut gone = items(&letters);
        gone.extend(items(&queue.dead_letters(100).await.unwrap()));
        assert_eq!(gone, (1..40).step_by(2).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn or_the_oldest_dead_letters_make_room() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.rule(odd_items_fail);
        let config = BatchConfig {
            dead_letters_max: 11,
            on_dead_full: OnDeadFull::DropOldest,
            ..with(storage)
        };
        let queue = started(config, &sink).await;
        queue.enqueue_batch((0..30).collect()).await.unwrap();
        queue.drained().await;
        let left: Vec<_> = (9..30).step_by(2).collect();
        assert_eq!(items(&queue.dead_letters(100).await.unwrap()), left);
        let stats = queue.stats();
        assert_eq!((stats.buried, stats.dead_dropped, stats.sent), (15, 4, 15));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_waits_for_room_for_its_dead_letters_closes_in_time() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
        let config = BatchConfig {
            dead_letters_max: 2,
            batch_size: BatchSize::Fixed(2),
            ..with(storage.clone())
        };
        let queue = open(config, &sink).await;
        queue.enqueue_batch((0..4).collect()).await.unwrap();
        queue.start().unwrap();
        // Both batches, each halved.
        sink.until(|seen| seen.calls.len() == 6).await;
        let report = queue.close(Duration::from_millis(20)).await;
        assert_eq!(report.stuck, 0);
        assert!(!report.is_drained());
        assert_eq!(report.left_in_log + report.lost + report.buried, 4, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_items_than_there_may_be_dead_letters_are_buried_as_room_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let storages = storages(dir.path());
    for storage in storages.into_iter().filter(|storage| *storage != BatchStorage::Memory) {
        let sink = Sink::new();
        sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
        let config = BatchConfig { dead_letters_max: 3, ..with(storage) };
        let queue = started(config, &sink).await;
        queue.enqueue_batch((0..8).collect()).await.unwrap();
        let mut gone = Vec::new();
        while gone.len() < 8 {
            let letters = queue.dead_letters(100).await.unwrap();
            assert!(letters.len() <= 3);
            gone.extend(items(&letters));
            queue.drop_dead_letters(letters.iter().map(|letter| letter.id)).await.unwrap();
            tokio::task::yield_now().await;
        }
        queue.drained().await;
        assert_eq!(gone, (0..8).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_finds_no_room_leaves_the_letter() {
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
    let config = BatchConfig { memory_items_max: 10, ..with(BatchStorage::Memory) };
    let queue = started(config, &sink).await;
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    queue.pause().unwrap();
    queue.enqueue_batch((10..20).collect()).await.unwrap();
    let refused = queue.retry_dead_letters(1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert_eq!((queue.dead_letters_len().await.unwrap(), queue.len()), (1, 10));
    queue.close(Duration::ZERO).await;
    let refused = queue.retry_dead_letters(1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(items(&queue.dead_letters(9).await.unwrap()), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_whose_weight_has_changed_is_refused_and_stays() {
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
    let bytes = Arc::new(AtomicUsize::new(8));
    let weight = Arc::clone(&bytes);
    let queue = BatchQueue::builder(with(BatchStorage::Memory))
        .weigher(move |_| weight.load(Relaxed))
        .open_in_memory(sink.handler())
        .unwrap();
    queue.start().unwrap();
    queue.enqueue_batch(vec![1, 2]).await.unwrap();
    queue.drained().await;
    bytes.store(usize::MAX, Relaxed);
    let refused = queue.retry_dead_letters(2).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(items(&queue.dead_letters(9).await.unwrap()), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_queue_leaves_the_directory_of_its_dead_letters_alone() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
    let storage = || BatchStorage::Durable { dir: dir.path().join("q") };
    let closed = started(with(storage()), &sink).await;
    closed.enqueue(1).await.unwrap();
    closed.drained().await;
    closed.close(PATIENCE).await;
    assert_eq!(closed.dead_letters_len().await.unwrap_err().kind(), ErrorKind::Closed);
    let next = open(with(storage()), &sink).await;
    assert_eq!(next.dead_letters_len().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_error_of_the_sink_is_cut_and_buried() {
    let dir = tempfile::tempdir().unwrap();
    let handler = |_batch: zmsg_queue::batch::Batch<u64>| async {
        let error = zmsg_core::Error::new(ErrorKind::InvalidData, "x".repeat(200_000));
        Err::<zmsg_queue::batch::Outcome, _>(error)
    };
    let config = with(BatchStorage::Durable { dir: dir.path().join("q") });
    let queue = zmsg_queue::batch::BatchQueue::builder(config).open(handler).await.unwrap();
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    let letters = queue.dead_letters(1).await.unwrap();
    assert!(letters[0].error.starts_with('x') && letters[0].error.len() < 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_ends_after_the_close_opens_no_log_again() {
    let dir = tempfile::tempdir().unwrap();
    let storage = || BatchStorage::Durable { dir: dir.path().join("q") };
    let (block, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let handler = move |batch: zmsg_queue::batch::Batch<u64>| {
        if batch[0] > 0 {
            #[expect(clippy::disallowed_methods, reason = "on a runtime of many threads")]
            let _ = tokio::task::block_in_place(|| blocked.lock().unwrap().recv());
        }
        async { Err::<zmsg_queue::batch::Outcome, _>(Error::new(ErrorKind::InvalidData, "bad")) }
    };
    let config = BatchConfig { batch_size: BatchSize::Fixed(1), ..with(storage()) };
    let tracker = tokio_util::task::TaskTracker::new();
    let queue = BatchQueue::builder(config).tracker(tracker).open(handler).await.unwrap();
    queue.start().unwrap();
    queue.enqueue(0).await.unwrap();
    queue.drained().await;
    queue.enqueue(1).await.unwrap();
    until(&queue, |queue| queue.stats().in_flight == 1).await;
    assert_eq!(queue.close(Duration::ZERO).await.stuck, 1);
    drop(block);
    until(&queue, |queue| queue.stats().errors == 2).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
        let refused = queue.dead_letters_len().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
    }
    let next = open(with(storage()), &Sink::new()).await;
    assert_eq!((next.dead_letters_len().await.unwrap(), next.stats().recovered), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_whose_batch_was_held_when_it_died_is_retried_once_it_is_let_go() {
    let held = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = std::sync::Arc::clone(&held);
    let handler = move |batch: zmsg_queue::batch::Batch<u64>| {
        keep.lock().unwrap().push(batch);
        async { Err::<zmsg_queue::batch::Outcome, _>(Error::new(ErrorKind::InvalidData, "bad")) }
    };
    let queue = BatchQueue::builder(with(BatchStorage::Memory)).open(handler).await.unwrap();
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    queue.pause().unwrap();
    assert_eq!(queue.retry_dead_letters(9).await.unwrap(), 0);
    held.lock().unwrap().clear();
    assert_eq!(queue.retry_dead_letters(9).await.unwrap(), 1);
}
