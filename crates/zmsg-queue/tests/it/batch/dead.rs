//! Dead letters: kept, listed, dropped, tried again, and bounded.

use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_queue::batch::{BatchConfig, BatchStorage, Content, DeadLetter, OnDeadFull};

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
        let config = BatchConfig { dead_letters_max: 7, ..with(storage) };
        let queue = open(config, &sink).await;
        queue.enqueue_batch((0..30).collect()).await.unwrap();
        queue.start().unwrap();
        // Five of each batch of ten: the second one does not fit.
        sink.until(|seen| seen.calls.len() == 2).await;
        // Five of the second batch, and the third.
        until(&queue, |queue| queue.len() == 15).await;
        assert_eq!(queue.dead_letters_len().await.unwrap(), 5);
        let letters = queue.dead_letters(100).await.unwrap();
        queue.drop_dead_letters(letters.iter().map(|letter| letter.id)).await.unwrap();
        sink.until(|seen| seen.calls.len() == 3).await;
        until(&queue, |queue| queue.len() == 5).await;
        assert_eq!(items(&queue.dead_letters(100).await.unwrap()), [11, 13, 15, 17, 19]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn or_the_oldest_dead_letters_make_room() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.rule(odd_items_fail);
        let config = BatchConfig {
            dead_letters_max: 7,
            on_dead_full: OnDeadFull::DropOldest,
            ..with(storage)
        };
        let queue = started(config, &sink).await;
        queue.enqueue_batch((0..30).collect()).await.unwrap();
        queue.drained().await;
        let left: Vec<_> = (17..30).step_by(2).collect();
        assert_eq!(items(&queue.dead_letters(100).await.unwrap()), left);
        let stats = queue.stats();
        assert_eq!((stats.buried, stats.dead_dropped, stats.sent), (15, 8, 15));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_waits_for_room_for_its_dead_letters_closes_in_time() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
        let config = BatchConfig { dead_letters_max: 1, ..with(storage.clone()) };
        let queue = started(config, &sink).await;
        queue.enqueue_batch((0..4).collect()).await.unwrap();
        sink.until(|seen| seen.calls.len() >= 5).await;
        let report = queue.close(Duration::from_millis(20)).await;
        assert_eq!(report.stuck, 0);
        assert!(!report.is_drained());
        assert_eq!(report.left_in_log + report.lost + report.buried, 4, "{report:?}");
    }
}
