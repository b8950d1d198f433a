//! A log whose disk fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_queue::batch::{BatchConfig, BatchQueue, Durability};
use zmsg_wal::testing::{Disk, Fault, FaultKind};

use super::rig::{Do, PATIENCE, Sink, quick, until};

fn config() -> BatchConfig {
    quick(BatchConfig::durable(Path::new("/queue")))
}

async fn open(disk: &Disk, config: BatchConfig, sink: &Arc<Sink>) -> BatchQueue<u64> {
    BatchQueue::builder(config).fs(disk.fs()).open(sink.handler()).await.unwrap()
}

/// Whatever call fails, and however: what was acknowledged is delivered, by this process or by the
/// next one, and what was refused is not.
#[tokio::test(flavor = "multi_thread")]
async fn no_failing_call_loses_what_was_acknowledged() {
    for kind in [FaultKind::Eio, FaultKind::Full, FaultKind::ShortWrite, FaultKind::Sync] {
        for call in 1.. {
            let disk = Disk::new();
            let sink = Sink::new();
            sink.rule(|_| Do::Fail(ErrorKind::Unavailable));
            let queue = open(&disk, config(), &sink).await;
            queue.start().unwrap();
            disk.fail(Fault { kind, call, times: 3 });
            let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
            for item in 0..60 {
                match queue.enqueue(item).await {
                    Ok(_) => acknowledged.push(item),
                    Err(error) if error.is_outcome_unknown() => {}
                    Err(_) => refused.push(item),
                }
            }
            let failed = disk.heal();
            queue.close(Duration::ZERO).await;
            // Before the fault hit nothing, all calls have failed once.
            let sink = Sink::new();
            let next = open(&disk, config(), &sink).await;
            next.start().unwrap();
            next.drained().await;
            let taken = sink.taken();
            let lost: Vec<_> = acknowledged.iter().filter(|item| !taken.contains(item)).collect();
            let invented: Vec<_> = refused.iter().filter(|item| taken.contains(item)).collect();
            assert!(lost.is_empty(), "{lost:?} lost with {kind:?} at call {call}");
            assert!(invented.is_empty(), "{invented:?} refused, with {kind:?} at call {call}");
            assert!(taken.is_sorted(), "{kind:?} at call {call}");
            next.close(PATIENCE).await;
            if failed == 0 {
                assert_eq!(acknowledged.len(), 60);
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_whose_sync_failed_has_an_unknown_outcome_and_is_delivered() {
    let disk = Disk::new();
    let sink = Sink::new();
    let queue = open(&disk, config(), &sink).await;
    queue.enqueue(1).await.unwrap();
    disk.fail(Fault { kind: FaultKind::Eio, call: 1, times: u64::MAX });
    let error = queue.enqueue(2).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    // The log takes no more, and says why.
    let refused = queue.enqueue(3).await.unwrap_err();
    assert!(!refused.is_outcome_unknown(), "{refused}");
    queue.start().unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), [1, 2]);
    let report = queue.close(PATIENCE).await;
    assert!(report.error.is_some(), "{report:?}");
    assert_eq!((report.sent, report.lost), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_what_is_there_is_delivered() {
    let disk = Disk::new();
    let sink = Sink::new();
    let config = || BatchConfig { enqueue_timeout: Duration::from_millis(20), ..config() };
    let queue = open(&disk, config(), &sink).await;
    disk.full(true);
    let mut accepted = 0;
    while queue.enqueue_batch((accepted..accepted + 100).collect()).await.is_ok() {
        accepted += 100;
    }
    assert!(accepted > 0);
    queue.start().unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), (0..accepted).collect::<Vec<_>>());
    disk.full(false);
    until(&queue, |queue| queue.try_enqueue(accepted).is_ok()).await;
    queue.drained().await;
    assert!(queue.close(PATIENCE).await.is_drained());
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_cannot_be_written_are_tried_again_until_they_can() {
    let disk = Disk::new();
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
    let config = BatchConfig { acknowledge: Durability::Buffered, ..config() };
    let queue = open(&disk, config, &sink).await;
    queue.enqueue(1).await.unwrap();
    queue.enqueue(2).await.unwrap().wait(Durability::Synced).await.unwrap();
    disk.full(true);
    queue.start().unwrap();
    sink.until(|seen| seen.calls.len() == 3).await;
    assert_eq!(queue.len(), 2);
    disk.full(false);
    queue.drained().await;
    assert_eq!(queue.dead_letters_len().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_for_items_that_are_delivered_says_that_they_may_be() {
    let disk = Disk::new();
    let sink = Sink::new();
    let queue = open(&disk, config(), &sink).await;
    // To the end of a segment, so that the next items begin another one.
    for begin in (0..2_000).step_by(500) {
        queue.enqueue_batch((begin..begin + 500).collect()).await.unwrap();
    }
    disk.fail(Fault { kind: FaultKind::Eio, call: 1, times: u64::MAX });
    let error = queue.enqueue_batch((2_000..2_900).collect()).await.unwrap_err();
    queue.start().unwrap();
    queue.drained().await;
    let delivered = sink.taken().len() > 2_000;
    assert!(error.is_outcome_unknown() || !delivered, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_log_never_wrote_is_told_as_lost_and_waited_for_by_nobody() {
    let disk = Disk::new();
    let sink = Sink::new();
    let config =
        BatchConfig { memory_items_max: 10, acknowledge: Durability::Buffered, ..config() };
    let queue = open(&disk, config, &sink).await;
    disk.fail(Fault { kind: FaultKind::Eio, call: 1, times: u64::MAX });
    let _ = queue.enqueue_batch((0..15).collect()).await;
    queue.start().unwrap();
    queue.drained().await;
    let report = queue.close(PATIENCE).await;
    assert_eq!((report.left_in_log, report.lost), (0, 15), "{report:?}");
    assert!(report.error.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_dead_letters_that_failed_once_is_opened_anew() {
    let disk = Disk::new();
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
    let queue = open(&disk, config(), &sink).await;
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    queue.pause().unwrap();
    queue.enqueue(2).await.unwrap();
    disk.fail(Fault { kind: FaultKind::Eio, call: 1, times: u64::MAX });
    queue.start().unwrap();
    sink.until(|seen| seen.calls.len() == 2).await;
    disk.heal();
    queue.drained().await;
    assert_eq!(queue.dead_letters_len().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_log_of_items_has_room_for_dead_letters() {
    let disk = Disk::new();
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::InvalidData));
    let log = zmsg_queue::batch::LogOptions { bytes_max: 256 << 10, ..super::rig::small_log() };
    let queue = open(&disk, BatchConfig { log, ..config() }, &sink).await;
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    assert_eq!(queue.dead_letters_len().await.unwrap(), 1);
}
