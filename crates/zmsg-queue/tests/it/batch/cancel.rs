//! Every future of the queue, dropped at every poll.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::timeout;
use zmsg_core::ErrorKind;
use zmsg_queue::batch::{BatchConfig, BatchQueue, BatchStorage};

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

/// Waits for a future as anybody does, but for no more polls than so many. Whether it ended.
async fn up_to<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), polls);
    let some = poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Pending if left == 0 => Poll::Ready(None),
            polled => polled.map(Some),
        }
    });
    timeout(PATIENCE, some).await.expect("it hangs")
}

/// Opens a queue, for so many polls, once nobody has its directory: what was dropped may still end
/// something.
async fn opened(
    storage: &BatchStorage,
    sink: &std::sync::Arc<Sink>,
    polls: usize,
) -> Option<BatchQueue<u64>> {
    let open = async {
        loop {
            let queue = BatchQueue::builder(with(storage.clone())).open(sink.handler());
            match up_to(queue, polls).await {
                Some(Err(error)) if error.kind() == ErrorKind::Conflict => {
                    tokio::task::yield_now().await;
                }
                opened => return opened.transpose().unwrap(),
            }
        }
    };
    timeout(PATIENCE, open).await.expect("its directory is not free")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_open_or_close_leaves_each_item_to_be_delivered_once() {
    let dir = tempfile::tempdir().unwrap();
    for storage in storages(dir.path()).into_iter().filter(|it| *it != BatchStorage::Memory) {
        let sink = Sink::new();
        let (mut next, mut has_opened, mut has_closed) = (0, 0, 0);
        for polls in 0.. {
            let queue = opened(&storage, &sink, usize::MAX).await.unwrap();
            // Not started: they stay.
            queue.enqueue_batch((next..next + 5).collect()).await.unwrap();
            next += 5;
            has_closed += u32::from(up_to(queue.close(PATIENCE), polls).await.is_some());
            let report = timeout(PATIENCE, queue.close(PATIENCE)).await.unwrap();
            assert_eq!((report.left_in_log, report.lost), (next, 0), "{report:?}");
            has_opened += u32::from(opened(&storage, &sink, polls).await.is_some());
            if has_opened.min(has_closed) == 2 {
                assert!(polls > 2, "neither takes more than {polls} polls");
                break;
            }
        }
        let queue = opened(&storage, &sink, usize::MAX).await.unwrap();
        queue.start().unwrap();
        assert!(queue.close(PATIENCE).await.is_drained());
        assert_eq!(sink.taken(), (0..next).collect::<Vec<_>>(), "{storage:?}");
    }
}
