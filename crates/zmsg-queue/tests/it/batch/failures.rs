//! What a failure leads to: another try, a search for the bad item, a wait for the sink.

use std::collections::HashSet;
use std::time::Duration;

use zmsg_core::{Backoff, ErrorKind};
use zmsg_queue::batch::{BatchConfig, BatchQueue, BatchSize, OnExhausted};

use super::rig::{Do, Sink, TokioClock, quick, started, storages, with};

#[tokio::test(flavor = "multi_thread")]
async fn of_a_partial_failure_only_the_failed_items_come_again() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.script([Do::FailItems(vec![(1, ErrorKind::Unexpected), (3, ErrorKind::Timeout)])]);
        let queue = BatchQueue::builder(with(storage)).open(sink.handler()).await.unwrap();
        queue.enqueue_batch((0..5).collect()).await.unwrap();
        queue.start().unwrap();
        queue.drained().await;
        assert_eq!(sink.seen().calls, [vec![0, 1, 2, 3, 4], vec![1, 3]]);
        let mut taken = sink.taken();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3, 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_of_a_thousand_is_found_and_the_others_are_delivered() {
    for kind in [ErrorKind::InvalidData, ErrorKind::Unexpected] {
        let sink = Sink::new();
        sink.rule(move |items| if items.contains(&637) { Do::Fail(kind) } else { Do::Take });
        let config =
            BatchConfig { batch_size: BatchSize::Fixed(1_000), ..quick(BatchConfig::memory()) };
        let queue = started(config, &sink).await;
        queue.enqueue_batch((0..1_000).collect()).await.unwrap();
        queue.drained().await;
        let rest: Vec<_> = (0..1_000).filter(|&item| item != 637).collect();
        assert_eq!(sink.taken(), rest, "in order, too");
        assert!(sink.seen().calls.len() <= 24, "{}", sink.seen().calls.len());
        let letters = queue.dead_letters(10).await.unwrap();
        assert_eq!(letters.len(), 1);
        assert!(letters[0].error.contains("as the test says"), "{}", letters[0].error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_be_buried_as_one() {
    let sink = Sink::new();
    sink.rule(|items| if items.contains(&3) { Do::Fail(ErrorKind::Unexpected) } else { Do::Take });
    let config =
        BatchConfig { on_exhausted: OnExhausted::BuryBatch, ..quick(BatchConfig::memory()) };
    let queue = started(config, &sink).await;
    queue.enqueue_batch((0..20).collect()).await.unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), (10..20).collect::<Vec<_>>());
    assert_eq!(queue.dead_letters_len().await.unwrap(), 10);
    assert_eq!(sink.seen().calls.len(), 4, "three tries and the next batch");
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_sink_costs_no_tries_and_is_asked_ever_less() {
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::Unavailable));
    let config = BatchConfig {
        breaker_failures: 3,
        breaker_backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
        ..quick(BatchConfig::memory())
    };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let calls = sink.seen().calls.len();
    assert!((60..150).contains(&calls), "{calls} calls in an hour");
    assert!(queue.stats().breaker_is_open);
    assert_eq!((queue.stats().breaker_opened, queue.stats().buried), (1, 0));
    sink.rule(|_| Do::Take);
    queue.drained().await;
    assert_eq!(sink.taken(), [1]);
    assert!(!queue.stats().breaker_is_open);
}

#[tokio::test(start_paused = true)]
async fn while_the_breaker_is_open_one_batch_at_a_time_probes() {
    let sink = Sink::new();
    sink.rule(|_| Do::Hang);
    let config = BatchConfig {
        order: zmsg_queue::batch::BatchOrder::Any,
        in_flight_max: 8,
        batch_size: BatchSize::Fixed(1),
        handler_timeout: Duration::from_secs(1),
        tries_max: 1_000,
        breaker_failures: 8,
        breaker_backoff: Backoff::new(Duration::from_millis(500), Duration::from_millis(500)),
        ..quick(BatchConfig::memory())
    };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.start().unwrap();
    queue.enqueue_batch((0..8).collect()).await.unwrap();
    sink.until(|seen| seen.dropped == 8).await;
    let seen = sink.until(|seen| seen.calls.len() >= 14).await;
    assert_eq!(seen.now, 1, "eight at first, then one after the other");
    sink.rule(|_| Do::Take);
    queue.drained().await;
    let taken: HashSet<_> = sink.taken().into_iter().collect();
    assert_eq!(taken, (0..8).collect());
}

#[tokio::test(start_paused = true)]
async fn tries_are_apart_by_a_growing_pause() {
    let sink = Sink::new();
    sink.script(std::iter::repeat_n(Do::Fail(ErrorKind::Unexpected), 6));
    let config = BatchConfig {
        tries_max: 100,
        backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(1_000)),
        ..quick(BatchConfig::memory())
    };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.start().unwrap();
    let begin = tokio::time::Instant::now();
    queue.enqueue(1).await.unwrap();
    queue.drained().await;
    // 2 + 4 + … + 64 s, each from its upper half.
    let took = begin.elapsed().as_secs();
    assert!((63..=127).contains(&took), "{took} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_is_dropped_and_its_batch_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        sink.script([Do::Hang]);
        let config = BatchConfig { handler_timeout: Duration::from_millis(20), ..with(storage) };
        let queue = started(config, &sink).await;
        queue.enqueue(7).await.unwrap();
        queue.drained().await;
        let seen = sink.seen();
        assert_eq!((seen.dropped, seen.most_at_once), (1, 1), "gone before the next one");
        assert_eq!((seen.taken, seen.attempts), (vec![7], vec![1, 2]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_the_batch_does_not_have_confirms_nothing() {
    let sink = Sink::new();
    sink.script([Do::FailItems(vec![(99, ErrorKind::Unexpected)])]);
    let queue = started(quick(BatchConfig::memory()), &sink).await;
    queue.enqueue_batch(vec![1, 2]).await.unwrap();
    queue.drained().await;
    assert_eq!(sink.seen().calls, [[1, 2], [1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_waits_for_the_end_of_a_pause() {
    let sink = Sink::new();
    sink.script([Do::Fail(ErrorKind::Unavailable)]);
    let config = BatchConfig {
        breaker_failures: 1,
        breaker_backoff: Backoff::new(Duration::from_secs(5), Duration::from_secs(5)),
        ..quick(BatchConfig::memory())
    };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.start().unwrap();
    queue.enqueue(1).await.unwrap();
    sink.until(|seen| seen.calls.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    queue.pause().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(sink.seen().calls.len(), 1);
    queue.start().unwrap();
    queue.drained().await;
}
