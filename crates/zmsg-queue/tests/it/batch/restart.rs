//! What the next process finds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_queue::batch::{Batch, BatchConfig, BatchOrder, BatchQueue, Content, Encoding, Outcome};
use zmsg_wal::Fs;
use zmsg_wal::testing::{CrashPoint, Disk, Survival};

use super::rig::{Do, PATIENCE, Sink, open, quick, started, until};

fn durable(dir: &Path) -> BatchConfig {
    quick(BatchConfig::durable(dir.join("q")))
}

/// A disk in memory, where a copy at any time is what the next process would find.
async fn on_disk(disk: &Disk, config: BatchConfig, sink: &Arc<Sink>) -> BatchQueue<u64> {
    let fs: Arc<dyn Fs> = disk.fs();
    BatchQueue::builder(config).fs(fs).open(sink.handler()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_before_it_is_delivered() {
    let disk = Disk::new();
    let sink = Sink::new();
    sink.rule(|_| Do::Hang);
    let config = || durable(Path::new("/queue"));
    let queue = on_disk(&disk, config(), &sink).await;
    queue.enqueue_batch((0..50).collect()).await.unwrap();
    queue.start().unwrap();
    sink.until(|seen| !seen.calls.is_empty()).await;
    // Killed in the middle of a call.
    let found = disk.copy();
    let sink = Sink::new();
    let next = on_disk(&found, config(), &sink).await;
    assert_eq!((next.stats().recovered, next.len()), (50, 50));
    next.start().unwrap();
    next.drained().await;
    assert_eq!(sink.taken(), (0..50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_does_not_come_again_after_a_close() {
    let dir = tempfile::tempdir().unwrap();
    for order in [BatchOrder::Strict, BatchOrder::Any] {
        let config = || BatchConfig { order, ..durable(&dir.path().join(format!("{order:?}"))) };
        let mut next = 0;
        for round in 0..5 {
            let sink = Sink::new();
            let queue = started(config(), &sink).await;
            assert_eq!(queue.stats().recovered, 0, "round {round}");
            queue.enqueue_batch((next..next + 100).collect()).await.unwrap();
            assert!(queue.close(PATIENCE).await.is_drained());
            assert_eq!(sink.taken(), (next..next + 100).collect::<Vec<_>>());
            next += 100;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_killed_process_only_what_was_not_noted_comes_again() {
    let disk = Disk::new();
    let config = || durable(Path::new("/queue"));
    let sink = Sink::new();
    let queue = on_disk(&disk, config(), &sink).await;
    queue.enqueue_batch((0..30).collect()).await.unwrap();
    queue.start().unwrap();
    queue.drained().await;
    sink.rule(|_| Do::Hang);
    // The notes of the delivery before are in the log before this one's record.
    queue.enqueue(30).await.unwrap();
    let sink = Sink::new();
    let next = on_disk(&disk.copy(), config(), &sink).await;
    next.start().unwrap();
    next.drained().await;
    assert_eq!(sink.taken(), [30]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_survives_a_power_cut() {
    for seed in 0..40 {
        let disk = Disk::new();
        let config = || durable(Path::new("/queue"));
        let sink = Sink::new();
        let queue = on_disk(&disk, config(), &sink).await;
        queue.start().unwrap();
        for item in 0..20 {
            queue.enqueue(item).await.unwrap();
        }
        queue.try_enqueue(20).unwrap();
        let (found, _) = disk.crash(CrashPoint {
            after: disk.journal_len(),
            survival: Survival::Some { block: 512 },
            seed,
        });
        let delivered_before = sink.taken();
        let sink = Sink::new();
        let next = on_disk(&found, config(), &sink).await;
        next.start().unwrap();
        next.drained().await;
        let mut delivered = delivered_before;
        delivered.extend(sink.taken());
        let missing: Vec<_> = (0..20).filter(|item| !delivered.contains(item)).collect();
        assert!(missing.is_empty(), "{missing:?} of seed {seed}");
        assert!(sink.taken().is_sorted(), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_never_given_twice() {
    let disk = Disk::new();
    let mut ids = std::collections::HashSet::new();
    let mut found = disk.copy();
    for _ in 0..5 {
        let queue = on_disk(&found, durable(Path::new("/queue")), &Sink::new()).await;
        for item in 0..20 {
            assert!(ids.insert(queue.enqueue(item).await.unwrap().id()));
        }
        found = found.copy();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tries_of_earlier_processes_count() {
    let disk = Disk::new();
    let config = || BatchConfig { tries_max: 5, ..durable(Path::new("/queue")) };
    let sink = Sink::new();
    sink.rule(|_| Do::Hang);
    sink.script(vec![Do::Fail(ErrorKind::Unexpected); 3]);
    let queue = on_disk(&disk, config(), &sink).await;
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    sink.until(|seen| seen.calls.len() == 4).await;
    // On the disk when a later record is.
    queue.enqueue(2).await.unwrap();
    let sink = Sink::new();
    sink.rule(|items| if items == [2] { Do::Take } else { Do::Fail(ErrorKind::Unexpected) });
    let next = on_disk(&disk.copy(), config(), &sink).await;
    next.start().unwrap();
    next.drained().await;
    assert_eq!(sink.seen().attempts[..2], [4, 5]);
    assert_eq!(next.dead_letters(1).await.unwrap()[0].tries, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_cannot_be_read_any_more_is_a_dead_letter_and_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let texts = |_batch: Batch<String>| async { Ok(Outcome::done()) };
    let queue = BatchQueue::builder(durable(dir.path())).open(texts).await.unwrap();
    for text in ["1", "two", "3"] {
        // As JSON texts none of them is a number; the type has changed.
        queue.enqueue(text.to_owned()).await.unwrap();
    }
    queue.close(PATIENCE).await;
    let sink = Sink::new();
    let queue = started(durable(dir.path()), &sink).await;
    queue.enqueue(4).await.unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), [4]);
    let letters = queue.dead_letters(10).await.unwrap();
    assert_eq!(letters.len(), 3);
    let Content::Unreadable(bytes) = &letters[1].content else { panic!("it is no number") };
    assert_eq!(bytes, br#""two""#);
    assert!(letters[1].error.contains("did the type change"), "{}", letters[1].error);
    queue.close(PATIENCE).await;
    // They are still there as what they are, for a version that can read them.
    let queue = BatchQueue::builder(durable(dir.path())).open(texts).await.unwrap();
    let letters = queue.dead_letters(10).await.unwrap();
    let Content::Item(text) = &letters[1].content else { panic!("it is a text") };
    assert_eq!(&**text, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_encoding_may_change_while_items_wait() {
    let dir = tempfile::tempdir().unwrap();
    for (encoding, items) in [(Encoding::Postcard, 0..10), (Encoding::Json, 10..20)] {
        let config = BatchConfig { encoding, ..durable(dir.path()) };
        let queue = open(config, &Sink::new()).await;
        queue.enqueue_batch(items.collect()).await.unwrap();
        queue.close(PATIENCE).await;
    }
    let sink = Sink::new();
    let queue = started(durable(dir.path()), &sink).await;
    queue.drained().await;
    assert_eq!(sink.taken(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_read_within_the_bound_of_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(durable(dir.path()), &Sink::new()).await;
    for begin in (0..20_000).step_by(1_000) {
        queue.enqueue_batch((begin..begin + 1_000).collect()).await.unwrap();
    }
    queue.close(PATIENCE).await;
    let sink = Sink::new();
    let config = BatchConfig { memory_items_max: 100, ..durable(dir.path()) };
    let queue = started(config, &sink).await;
    until(&queue, |queue| {
        let stats = queue.stats();
        assert!(stats.memory_items <= 100, "{stats:?}");
        queue.is_empty()
    })
    .await;
    assert_eq!(sink.taken(), (0..20_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_serves_one_queue_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(durable(dir.path()), &Sink::new()).await;
    let second = BatchQueue::builder(durable(dir.path())).open(Sink::new().handler()).await;
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Conflict);
    queue.close(Duration::ZERO).await;
    open(durable(dir.path()), &Sink::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directories_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let queue = open(durable(dir.path()), &Sink::new()).await;
    queue.enqueue(1).await.unwrap();
    for path in ["q", "q/items"] {
        let mode = std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path}");
    }
}
