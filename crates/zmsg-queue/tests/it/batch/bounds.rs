//! Every buffer has a bound: what happens there.

use std::time::Duration;

use zmsg_core::ErrorKind;
use zmsg_queue::batch::{BatchConfig, BatchQueue, BatchSize, Durability, LogOptions};

use super::rig::{Do, PATIENCE, Sink, TokioClock, open, quick, small_log, started, until};

fn tiny(config: BatchConfig) -> BatchConfig {
    BatchConfig { memory_items_max: 10, batch_size: BatchSize::Fixed(5), ..quick(config) }
}

#[tokio::test(start_paused = true)]
async fn a_full_memory_refuses_in_bounded_time_and_says_what_is_full() {
    let sink = Sink::new();
    let config =
        BatchConfig { enqueue_timeout: Duration::from_secs(3), ..tiny(BatchConfig::memory()) };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.enqueue_batch((0..10).collect()).await.unwrap();
    let refused = queue.try_enqueue(10).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert!(refused.is_temporary());
    assert!(refused.to_string().contains("memory_items_max"), "{refused}");
    let begin = tokio::time::Instant::now();
    let refused = queue.enqueue(10).await.unwrap_err();
    assert_eq!((refused.kind(), begin.elapsed().as_secs()), (ErrorKind::Overloaded, 3));
    assert_eq!((queue.stats().refused, queue.len()), (2, 10));
    queue.start().unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_at_the_bound_goes_on_when_there_is_room() {
    let sink = Sink::new();
    let queue = open(tiny(BatchConfig::memory()), &sink).await;
    queue.enqueue_batch((0..10).collect()).await.unwrap();
    let waiting = queue.enqueue_batch((10..15).collect());
    let starting = async {
        tokio::task::yield_now().await;
        queue.start().unwrap();
    };
    let (enqueued, ()) = tokio::join!(waiting, starting);
    assert_eq!(enqueued.unwrap().len(), 5);
    queue.drained().await;
    assert_eq!(sink.taken(), (0..15).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn from_the_soft_limit_on_a_producer_is_slowed_down_the_more_the_fuller() {
    let sink = Sink::new();
    let config = BatchConfig {
        memory_items_max: 100,
        soft_limit_pct: 50,
        soft_delay_max: Duration::from_secs(50),
        ..quick(BatchConfig::memory())
    };
    let queue = BatchQueue::builder(config).clock(TokioClock::new());
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    let mut delays = Vec::new();
    for item in 0..99 {
        let begin = tokio::time::Instant::now();
        queue.enqueue(item).await.unwrap();
        delays.push(begin.elapsed().as_secs());
    }
    assert!(delays[..50].iter().all(|delay| *delay == 0), "{delays:?}");
    assert!(delays[50..].is_sorted() && delays[98] >= 48, "{delays:?}");
    assert_eq!(queue.stats().slowed, 49);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_memory_waits_in_the_log_and_nothing_overtakes() {
    let dir = tempfile::tempdir().unwrap();
    for config in
        [BatchConfig::durable(dir.path().join("d")), BatchConfig::hybrid(dir.path().join("h"))]
    {
        let sink = Sink::new();
        let queue = open(tiny(config), &sink).await;
        for item in 0..500 {
            queue.enqueue(item).await.unwrap();
        }
        let stats = queue.stats();
        assert!(stats.memory_items <= 10, "{stats:?}");
        assert_eq!((stats.pending, stats.spilled), (500, 490));
        queue.start().unwrap();
        // More comes while it is read back.
        for item in 500..1_000 {
            queue.enqueue(item).await.unwrap();
            assert!(queue.stats().memory_items <= 10);
        }
        queue.drained().await;
        assert_eq!(sink.taken(), (0..1_000).collect::<Vec<_>>());
        // With the log read to its end, memory is used again.
        let before = queue.stats().spilled;
        queue.enqueue(1_000).await.unwrap();
        assert_eq!(queue.stats().spilled, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_refuses_and_takes_again_when_its_items_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::new();
    let log = LogOptions { bytes_max: 256 << 10, ..small_log() };
    let config = BatchConfig {
        log,
        // Longer than a disk under load takes to sync, or what has room is refused too.
        enqueue_timeout: Duration::from_secs(3),
        ..tiny(BatchConfig::durable(dir.path().join("q")))
    };
    let queue = open(config, &sink).await;
    let mut accepted = 0;
    let refused = loop {
        match queue.enqueue_batch((accepted..accepted + 100).collect()).await {
            Ok(_) => accepted += 100,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    assert!(accepted > 1_000);
    queue.start().unwrap();
    queue.drained().await;
    assert_eq!(sink.taken(), (0..accepted).collect::<Vec<_>>());
    // Several times what the log holds at a time.
    for round in 1..20 {
        for item in 0..accepted / 100 {
            let begin = round * accepted + item * 100;
            let enqueuing = queue.enqueue_batch((begin..begin + 100).collect());
            tokio::time::timeout(PATIENCE, enqueuing).await.unwrap().unwrap();
        }
        queue.drained().await;
    }
    assert_eq!(sink.taken(), (0..20 * accepted).collect::<Vec<_>>());
    assert!(queue.wal_size() <= 256 << 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_fits_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::new();
    let queue = open(tiny(BatchConfig::memory()), &sink).await;
    let refused = queue.enqueue_batch((0..11).collect()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let config = tiny(BatchConfig::memory());
    let heavy =
        BatchQueue::builder(config).weigher(|_| 1 << 30).open_in_memory(sink.handler()).unwrap();
    assert_eq!(heavy.try_enqueue(1).unwrap_err().kind(), ErrorKind::InvalidInput);

    let handler =
        |_batch: zmsg_queue::batch::Batch<String>| async { Ok(zmsg_queue::batch::Outcome::done()) };
    let config = tiny(BatchConfig::durable(dir.path().join("q")));
    let queue = BatchQueue::builder(config).open(handler).await.unwrap();
    let refused = queue.enqueue("x".repeat(20_000)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "longer than a record");
    let refused = queue.enqueue_batch(vec!["x".repeat(1_000); 100]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "longer than the buffer of the log");
    assert!(queue.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_costs_no_more_memory_than_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::new();
    sink.rule(|_| Do::Fail(ErrorKind::Unavailable));
    let config = BatchConfig {
        acknowledge: Durability::Buffered,
        ..tiny(BatchConfig::durable(dir.path().join("q")))
    };
    let queue = started(config, &sink).await;
    for item in 0..2_000 {
        queue.enqueue(item).await.unwrap();
        assert!(queue.stats().memory_items <= 10);
        if item % 500 == 0 {
            until(&queue, |queue| queue.stats().errors > 3).await;
        }
    }
    sink.rule(|_| Do::Take);
    queue.drained().await;
    assert_eq!(sink.taken(), (0..2_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_items_that_the_log_could_not_buffer_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(quick(BatchConfig::durable(dir.path().join("q"))), &Sink::new()).await;
    let refused = queue.enqueue_batch((0..5_000).collect()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("log.buffer_bytes_max"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_time_out_is_one() {
    let config = BatchConfig { enqueue_timeout: Duration::MAX, ..tiny(BatchConfig::memory()) };
    let sink = Sink::new();
    let queue = open(config, &sink).await;
    queue.enqueue_batch((0..10).collect()).await.unwrap();
    let starting = async { queue.start().unwrap() };
    let (enqueued, ()) = tokio::join!(queue.enqueue(10), starting);
    enqueued.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_item_that_does_not_fit_makes_those_that_wait_leave() {
    let sink = Sink::new();
    let config = BatchConfig {
        batch_timeout: Duration::from_secs(3_600),
        enqueue_timeout: Duration::from_secs(10),
        memory_bytes_max: 100,
        batch_bytes_max: 100,
        batch_size: BatchSize::Fixed(10),
        ..tiny(BatchConfig::memory())
    };
    let queue = BatchQueue::builder(config).clock(TokioClock::new()).weigher(|item| *item as usize);
    let queue = queue.open_in_memory(sink.handler()).unwrap();
    queue.start().unwrap();
    queue.enqueue(60).await.unwrap();
    queue.enqueue(70).await.unwrap();
    assert_eq!(sink.taken(), [60]);
}
