//! The defects that were proved in the queue whose job this one does, each as a test under its
//! number. Some are proved by a promise tested elsewhere, which is named.

use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_queue::batch::{BatchConfig, BatchQueue, BatchSize, LogOptions};

use super::rig::{Do, PATIENCE, Sink, open, quick, small_log, started};

/// D-V1: 40 producers of 20 items each on the default configuration: 800 accepted, 0 delivered.
#[tokio::test(flavor = "multi_thread")]
async fn v1_a_partial_batch_is_delivered() {
    let sink = Sink::new();
    let queue = started(BatchConfig::memory(), &sink).await;
    std::thread::scope(|threads| {
        for producer in 0..40_u64 {
            let queue = &queue;
            threads.spawn(move || {
                for item in 0..20 {
                    queue.try_enqueue(producer * 20 + item).unwrap();
                }
            });
        }
    });
    let mut taken = sink.until_taken(800).await;
    taken.sort_unstable();
    assert_eq!(taken, (0..800).collect::<Vec<_>>());
}

/// D-V2: enqueue ten, stop, twenty times over: 200 of 200 lost.
#[tokio::test(flavor = "multi_thread")]
async fn v2_a_graceful_stop_delivers_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    for config in [
        BatchConfig::memory(),
        BatchConfig::hybrid(dir.path().join("h")),
        BatchConfig::durable(dir.path().join("d")),
    ] {
        let sink = Sink::new();
        for round in 0..20 {
            let config = BatchConfig { log: small_log(), ..config.clone() };
            let queue = started(config, &sink).await;
            for item in 0..10 {
                queue.enqueue(round * 10 + item).await.unwrap();
            }
            assert!(queue.close(PATIENCE).await.is_drained());
        }
        assert_eq!(sink.taken(), (0..200).collect::<Vec<_>>());
    }
}

/// D-V3: 500 records in the log: cleared at the start, 0 delivered. D-V4 (at most once) is
/// `restart::nothing_is_removed_before_it_is_delivered`.
#[tokio::test(flavor = "multi_thread")]
async fn v3_recovery_delivers_what_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = || BatchConfig { log: small_log(), ..BatchConfig::durable(dir.path().join("q")) };
    let queue = open(config(), &Sink::new()).await;
    queue.enqueue_batch((0..500).collect()).await.unwrap();
    queue.close(Duration::ZERO).await;
    let sink = Sink::new();
    let queue = started(config(), &sink).await;
    queue.drained().await;
    assert_eq!(sink.taken(), (0..500).collect::<Vec<_>>());
    assert_eq!(queue.stats().recovered, 500);
}

/// D-V5: a torn tail made the log unreadable for ever, and the second start succeeded with nobody at
/// work. D-V6: a torn header made it unreadable although the records were whole.
#[tokio::test(flavor = "multi_thread")]
async fn v5_a_torn_tail_is_cut_and_a_queue_that_does_not_open_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    let config = || quick(BatchConfig::durable(&path));
    let queue = open(config(), &Sink::new()).await;
    queue.enqueue_batch((0..10).collect()).await.unwrap();
    let segment = path.join("items/0000000000000001.wal");
    // As a process leaves it that is killed.
    let whole = std::fs::read(&segment).unwrap();
    queue.close(Duration::ZERO).await;
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();

    // The header, without which no record can be trusted: it says so, every time.
    let mut damaged = whole.clone();
    damaged[20] ^= 0xff;
    std::fs::write(&segment, &damaged).unwrap();
    for _ in 0..2 {
        let refused = BatchQueue::builder(config()).open(Sink::new().handler()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupted, "{refused}");
        assert!(refused.to_string().contains("0000000000000001.wal"), "{refused}");
    }
    // Half of a record that was never acknowledged, behind the others.
    let mut torn = whole;
    let tail: Vec<u8> = (0..40).map(|_| fastrand::u8(1..)).collect();
    torn[end + 8..end + 48].copy_from_slice(&tail);
    std::fs::write(&segment, &torn).unwrap();
    let sink = Sink::new();
    let queue = started(config(), &sink).await;
    queue.drained().await;
    assert_eq!(sink.taken(), (0..10).collect::<Vec<_>>());
}

/// D-V7: damage ended the delivery in silence, while items were still accepted.
#[tokio::test(flavor = "multi_thread")]
async fn v7_damage_is_told_at_the_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    let config = || quick(BatchConfig::durable(&path));
    let queue = open(config(), &Sink::new()).await;
    for item in 0..10 {
        queue.enqueue(item).await.unwrap();
    }
    queue.close(Duration::ZERO).await;
    let segment = path.join("items/0000000000000001.wal");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let refused = BatchQueue::builder(config()).open(Sink::new().handler()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupted);
    assert!(refused.to_string().contains("offset"), "{refused}");
}

/// D-V8: a send that was slower than its time-out counted as failed, and one item was delivered
/// four times. A call that ends in time is a success, however slow; one that does not is dropped:
/// `failures::a_call_that_takes_too_long_is_dropped_and_its_batch_tried_again`.
#[tokio::test(flavor = "multi_thread")]
async fn v8_a_slow_success_is_a_success() {
    let sink = Sink::new();
    sink.script([Do::Slow(Duration::from_millis(100))]);
    let queue = started(quick(BatchConfig::memory()), &sink).await;
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    assert_eq!(sink.seen().calls, [[1]]);
    assert_eq!((queue.stats().sent, queue.stats().errors), (1, 0));
}

/// D-V9: a panic of the handler ended the only worker, and the queue went on accepting.
#[tokio::test(flavor = "multi_thread")]
async fn v9_a_panic_is_a_failed_try() {
    let dir = tempfile::tempdir().unwrap();
    for storage in super::rig::storages(dir.path()) {
        let sink = Sink::new();
        sink.script([Do::Panic, Do::Panic]);
        let queue = started(super::rig::with(storage), &sink).await;
        queue.enqueue_batch(vec![1, 2]).await.unwrap();
        queue.drained().await;
        queue.enqueue(3).await.unwrap();
        queue.drained().await;
        assert_eq!(sink.taken(), [1, 2, 3]);
        assert_eq!(queue.stats().panics, 2);
    }
}

/// D-V10: a failed chunk was put behind newer items (2, 3, 4, 5, 0, 1), also from the log.
#[tokio::test(flavor = "multi_thread")]
async fn v10_a_failed_batch_stays_in_front() {
    let dir = tempfile::tempdir().unwrap();
    let config = BatchConfig {
        batch_size: BatchSize::Fixed(2),
        memory_items_max: 2,
        ..quick(BatchConfig::durable(dir.path().join("q")))
    };
    let sink = Sink::new();
    sink.script([Do::Fail(ErrorKind::Unexpected)]);
    let queue = open(config, &sink).await;
    queue.enqueue_batch((0..6).collect()).await.unwrap();
    queue.start().unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), [0, 1, 2, 3, 4, 5]);
}

/// D-V12 (an item stranded on disk by a race with the end of a read), D-V13 (new items overtake those
/// in the log), D-V14 (an accept that races with the stop is in `closing`): many producers against a
/// memory of ten.
#[tokio::test(flavor = "multi_thread")]
async fn v12_no_item_is_stranded_between_memory_and_log() {
    let dir = tempfile::tempdir().unwrap();
    let configs =
        [BatchConfig::durable(dir.path().join("d")), BatchConfig::hybrid(dir.path().join("h"))];
    for config in configs {
        let config = BatchConfig {
            memory_items_max: 10,
            log: LogOptions { bytes_max: 64 << 20, ..small_log() },
            acknowledge: zmsg_queue::batch::Durability::Buffered,
            ..quick(config)
        };
        let sink = Sink::new();
        let queue = started(config, &sink).await;
        let producers = (0..8_u64).map(|producer| {
            let queue = queue.clone();
            async move {
                for item in 0..2_000 {
                    queue.enqueue(producer * 10_000 + item).await.unwrap();
                    if item % 64 == 0 {
                        // Now and then the log is read to its end.
                        queue.drained().await;
                    }
                }
            }
        });
        futures_util::future::join_all(producers).await;
        queue.drained().await;
        assert_eq!(sink.taken().len(), 16_000);
        for producer in 0..8 {
            let own = sink.taken().into_iter().filter(|item| item / 10_000 == producer);
            assert!(own.is_sorted(), "of one producer, in its order");
        }
    }
}

/// D-V20: a poisoned batch went round for ever.
#[tokio::test(flavor = "multi_thread")]
async fn v20_a_poisoned_item_is_a_dead_letter_in_the_end() {
    let sink = Sink::new();
    sink.rule(|items| if items.contains(&3) { Do::Fail(ErrorKind::Unexpected) } else { Do::Take });
    let queue = started(quick(BatchConfig::memory()), &sink).await;
    queue.enqueue_batch((0..6).collect()).await.unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), [0, 1, 2, 4, 5]);
    assert_eq!(queue.dead_letters_len().await.unwrap(), 1);
}

// D-V11 and D-V15 (a full log loses what is written back, a torn record in its middle) are
// `bounds::a_full_log_refuses_and_takes_again_when_its_items_are_delivered` and
// `faults::no_failing_call_loses_what_was_acknowledged`; D-V16 (an error for an item that is
// delivered) is `faults::an_item_whose_sync_failed_has_an_unknown_outcome_and_is_delivered`; D-V17
// (growth without bound) `restart::a_backlog_is_read_within_the_bound_of_the_memory`; D-V18 (no lock)
// `restart::a_directory_serves_one_queue_at_a_time`; D-V19 (cleared records come back after a power
// cut) `restart::what_is_acknowledged_survives_a_power_cut`; D-V21 (ids that begin anew)
// `restart::ids_are_never_given_twice`.
