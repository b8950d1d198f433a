//! Every future of the queue, dropped at every poll.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use zmsg_queue::batch::BatchConfig;

use super::rig::{Do, PATIENCE, Sink, started, storages, with};

/// Polls a future so many times, then drops it. Whether it ended.
async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_may_be_dropped_at_every_poll() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()) {
        let sink = Sink::new();
        let config = BatchConfig {
            memory_items_max: 20,
            soft_limit_pct: 50,
            enqueue_timeout: Duration::from_millis(50),
            ..with(storage.clone())
        };
        let queue = started(config, &sink).await;
        let mut accepted = std::collections::HashSet::new();
        let mut next = 0;
        for polls in (0..30).chain([1, 2, 1, 2, 1, 2]) {
            sink.script([Do::Slow(Duration::from_millis(2))]);
            if polled(queue.enqueue(next), polls).await.is_some_and(|enqueued| enqueued.is_ok()) {
                accepted.insert(next);
            }
            next += 1;
            let items = (next..next + 5).collect();
            if polled(queue.enqueue_batch(items), polls).await.is_some_and(|all| all.is_ok()) {
                accepted.extend(next..next + 5);
            }
            next += 5;
            polled(queue.drained(), polls).await;
            polled(queue.dead_letters(5), polls).await;
            polled(queue.dead_letters_len(), polls).await;
            polled(queue.retry_dead_letters(5), polls).await;
            polled(queue.drop_dead_letters([]), polls).await;
        }
        polled(queue.close(PATIENCE), 1).await;
        let report = queue.close(PATIENCE).await;
        assert!(report.is_drained(), "{report:?}");
        let mut taken = sink.taken();
        let all = taken.len();
        assert!(taken.is_sorted(), "{storage:?}");
        taken.dedup();
        assert_eq!(taken.len(), all, "twice, {storage:?}");
        let lost: Vec<_> = accepted.iter().filter(|item| !taken.contains(item)).collect();
        assert!(lost.is_empty(), "{lost:?} of {storage:?}");
        assert_eq!(report.sent, all as u64);
    }
}
