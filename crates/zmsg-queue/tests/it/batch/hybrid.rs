//! Memory first: what is in the log when, and what the next process finds.

use std::time::Duration;

use zmsg_queue::batch::{BatchConfig, BatchOrder, BatchSize};

use super::rig::{Do, PATIENCE, Sink, open, quick, started};

fn tiny(dir: &std::path::Path) -> BatchConfig {
    BatchConfig {
        memory_items_max: 20,
        batch_size: BatchSize::Fixed(5),
        ..quick(BatchConfig::hybrid(dir.join("q")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_while_the_memory_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::new();
    let queue = started(tiny(dir.path()), &sink).await;
    for item in 0..100 {
        queue.enqueue(item).await.unwrap();
        queue.drained().await;
    }
    assert_eq!((queue.stats().spilled, sink.taken().len()), (0, 100));
    assert!(queue.close(PATIENCE).await.is_drained());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_memory_at_the_close_is_delivered_before_what_was_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::new();
    sink.script([Do::Take, Do::Hang]);
    let queue = open(tiny(dir.path()), &sink).await;
    for item in 0..100 {
        queue.enqueue(item).await.unwrap();
    }
    queue.start().unwrap();
    sink.until(|seen| seen.calls.len() == 2).await;
    let report = queue.close(Duration::from_millis(10)).await;
    assert_eq!((report.left_in_log, report.lost), (95, 0), "{report:?}");

    // Closed again on the way, more than once.
    let mut taken = sink.taken();
    for calls in [1, 2, 3] {
        let sink = Sink::new();
        sink.script(vec![Do::Take; calls]);
        sink.rule(|_| Do::Hang);
        let queue = started(tiny(dir.path()), &sink).await;
        assert_eq!(queue.stats().recovered, 100 - taken.len() as u64);
        sink.until(|seen| seen.calls.len() == calls + 1).await;
        let report = queue.close(Duration::from_millis(10)).await;
        assert_eq!(report.lost, 0);
        taken.extend(sink.taken());
    }
    let sink = Sink::new();
    let queue = started(tiny(dir.path()), &sink).await;
    for item in 100..150 {
        queue.enqueue(item).await.unwrap();
    }
    queue.drained().await;
    taken.extend(sink.taken());
    assert_eq!(taken, (0..150).collect::<Vec<_>>());
    assert!(queue.close(PATIENCE).await.is_drained());
    assert_eq!(open(tiny(dir.path()), &Sink::new()).await.stats().recovered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_accepted_delivered_and_closed_in_whatever_way_comes_in_order() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let (mut next, mut taken) = (0, Vec::new());
        for _ in 0..6 {
            let sink = Sink::new();
            let mut script = vec![Do::Take; random.usize(0..12)];
            script.push(if random.bool() { Do::Hang } else { Do::Take });
            sink.script(script);
            let queue = open(tiny(dir.path()), &sink).await;
            if random.bool() {
                queue.start().unwrap();
            }
            for _ in 0..random.usize(0..60) {
                queue.enqueue(next).await.unwrap();
                next += 1;
            }
            let report = queue.close(Duration::from_millis(random.u64(0..10))).await;
            assert_eq!((report.lost, report.stuck), (0, 0));
            taken.extend(sink.taken());
        }
        let sink = Sink::new();
        let queue = started(tiny(dir.path()), &sink).await;
        queue.drained().await;
        taken.extend(sink.taken());
        assert_eq!(taken, (0..next).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_any_order_too_nothing_counts_as_delivered_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = || BatchConfig {
        memory_items_max: 20,
        order: BatchOrder::Any,
        in_flight_max: 2,
        ..quick(BatchConfig::hybrid(dir.path().join("q")))
    };
    let queue = open(config(), &Sink::new()).await;
    for item in 0..25 {
        queue.enqueue(item).await.unwrap();
    }
    queue.close(Duration::ZERO).await;
    // What was in memory lies in the log behind the five that were there alone. A flight of those
    // five and of five that are new spans it.
    let sink = Sink::new();
    sink.rule(|items| if items.contains(&0) { Do::Hang } else { Do::Take });
    let queue = open(config(), &sink).await;
    for item in 25..30 {
        queue.enqueue(item).await.unwrap();
    }
    queue.start().unwrap();
    let taken = sink.until_taken(20).await;
    let report = queue.close(Duration::from_millis(20)).await;
    assert_eq!((report.left_in_log, report.lost), (10, 0), "{report:?}");
    let next = open(config(), &Sink::new()).await;
    assert_eq!(next.stats().recovered + taken.len() as u64, 30);
}
