//! Several nodes on one PostgreSQL database: clocks that differ, bounds that are shared, a lost
//! answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Backoff, Clock, ErrorKind, Millis, SystemClock, UnixMillis};
use zmsg_queue::{
    Enqueued, LeasedTask, NewTask, SqlQueueOptions, SqlTaskQueue, TaskQueue, TaskState, Worker,
    WorkerOptions,
};
use zmsg_testbed::{Proxy, Repeat};

use crate::db::{Db, node, node_with, postgres_at};
use crate::handler::{Event, Scripted};
use crate::sql::{LEASE, task};

/// A clock that is wrong by so many milliseconds.
#[derive(Debug)]
struct Wrong(i64);

impl Clock for Wrong {
    fn wall(&self) -> UnixMillis {
        SystemClock.wall().saturating_add_signed(self.0)
    }

    fn coarse(&self) -> Millis {
        SystemClock.coarse()
    }
}

const HOUR_MS: i64 = 3_600_000;
const LOOK: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn due_times_and_leases_do_not_depend_on_the_clock_of_a_node() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let clocks = [Arc::new(Wrong(-HOUR_MS)), Arc::new(Wrong(HOUR_MS))];
    let [slow, fast] = clocks.clone().map(|clock| node_with(store.clone(), clock));
    let ((slow, slow_clock), (fast, fast_clock)) = ((&slow, &clocks[0]), (&fast, &clocks[1]));
    for (from, clock, to, holder) in
        [(slow, slow_clock, fast, fast_clock), (fast, fast_clock, slow, slow_clock)]
    {
        let enqueued = Instant::now();
        let task = task().due(clock.wall() + 300);
        from.enqueue(task.clone()).await.unwrap();
        let leased = lease_soon(to).await;
        assert_eq!(leased.id, task.id);
        let waited = enqueued.elapsed();
        assert!(waited >= Duration::from_millis(299), "{waited:?}: early");

        // The lease ends by the one clock too: neither is it over for the other node, nor does
        // an extension end it.
        assert!(from.lease("default", 9, LEASE).await.unwrap().is_empty());
        assert!(to.extend(&leased, LEASE).await.unwrap());
        assert!(from.lease("default", 9, LEASE).await.unwrap().is_empty());
        let left = from.next_due("default").await.unwrap().unwrap() - clock.wall();
        assert!((20_000..=30_000).contains(&left), "{left} ms until the lease ends");

        // Given back with a pause by the clock of the holder.
        let (given_back, cause) = (Instant::now(), zmsg_core::Error::closed("worker"));
        assert!(to.retry(&leased, holder.wall() + 200, &cause, false).await.unwrap());
        let again = lease_soon(from).await;
        assert!(given_back.elapsed() >= Duration::from_millis(199), "early");
        assert_eq!((again.id, again.attempt), (task.id, 2));
        assert!(from.complete(&again).await.unwrap());
    }
}

/// Asks until a task is due, for a few seconds at most.
async fn lease_soon(queue: &SqlTaskQueue) -> LeasedTask {
    timeout(Duration::from_secs(20), async {
        loop {
            if let Some(task) = queue.lease("default", 1, LEASE).await.unwrap().pop() {
                return task;
            }
            sleep(LOOK).await;
        }
    })
    .await
    .expect("due within seconds, whatever the clocks show")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_enqueue_at_once_keep_the_bound_up_to_what_was_on_its_way() {
    const TASKS_MAX: u32 = 500;
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let options = SqlQueueOptions { tasks_max: TASKS_MAX, ..SqlQueueOptions::default() };
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let queue = db.bounded_queue_on(store.clone(), options);
        nodes.spawn(async move {
            let mut accepted = 0;
            loop {
                match queue.enqueue_all(vec![task(), task()]).await {
                    Ok(_) => accepted += 2,
                    Err(error) if error.kind() == ErrorKind::Overloaded => return accepted,
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let accepted: u32 = nodes.join_all().await.into_iter().sum();
    // Each of the four may have used an eighth of the room that it found.
    assert!((TASKS_MAX - 8..=TASKS_MAX + TASKS_MAX / 2).contains(&accepted), "{accepted}");
    let stats = db.queue_on(store).stats("default").await.unwrap();
    assert_eq!(stats.pending, u64::from(accepted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_whose_answer_was_lost_is_unknown_and_answered_by_the_same_id() {
    let Some(db) = Db::postgres().await else { return };
    let direct = node(db.store().await);
    let proxy = Proxy::before(db.database().url());
    let queue = node(postgres_at(&proxy.url(db.database().url())).await);
    queue.enqueue(task()).await.unwrap();

    let marked = || NewTask { payload: b"the answer gets lost".to_vec().into(), ..task() };
    let mut lost = Vec::new();
    for batch in [vec![marked()], vec![marked(), marked()]] {
        proxy.swallow_answer_to(&b"the answer gets lost"[..], Repeat::Once);
        let error = queue.enqueue_all(batch.clone()).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
        for task in &batch {
            let state = direct.state(task.id).await.unwrap();
            assert!(matches!(state, Some(TaskState::Pending { .. })), "{state:?}");
        }
        let again = queue.enqueue_all(batch.clone()).await.unwrap();
        assert_eq!(again, vec![Enqueued::Duplicate; batch.len()]);
        lost.extend(batch);
    }
    assert_eq!(proxy.counts().swallowed, 2);
    assert_eq!(direct.stats("default").await.unwrap().pending, 1 + lost.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_lease_was_not_answered_has_its_tasks_long_before_the_lease_runs_out() {
    let Some(db) = Db::postgres().await else { return };
    let direct = node(db.store().await);
    let proxy = Proxy::before(db.database().url());
    let queue = node(postgres_at(&proxy.url(db.database().url())).await);
    let marked = |_| NewTask { payload: b"the answer gets lost".to_vec().into(), ..task() };
    let tasks: Vec<NewTask> = (0..5).map(marked).collect();
    direct.enqueue_all(tasks.clone()).await.unwrap();
    proxy.swallow_answer(&b"the answer gets lost"[..], Repeat::Once);

    let handler = Scripted::new(Arc::new(SystemClock), |_| async { Ok(()) });
    let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(50));
    let options = WorkerOptions { backoff, concurrency: 3, ..WorkerOptions::default() };
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let clock = Arc::new(SystemClock);
    let worker = Worker::new(queue, handler.clone(), clock, tracker.clone(), options.clone());
    let run = tracker.spawn(worker.run(shutdown.clone()));
    timeout(options.lease / 2, handler.ended(5)).await.expect("before the lease runs out");
    shutdown.cancel();
    run.await.unwrap().unwrap();

    assert_eq!(proxy.counts().swallowed, 1);
    let starts = handler.events().into_iter().filter_map(|event| match event {
        Event::Started { id, attempt, .. } => Some((id, attempt)),
        _ => None,
    });
    let expected: BTreeSet<_> = tasks.iter().map(|task| (task.id, 1)).collect();
    let starts: Vec<_> = starts.collect();
    assert_eq!(starts.len(), 5, "each was run once");
    assert_eq!(starts.into_iter().collect::<BTreeSet<_>>(), expected, "in its first attempt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dropped_lease_took_is_given_by_the_next_one_as_far_as_it_is_asked_for() {
    for db in Db::each().await {
        let queue = node(db.store().await);
        queue.enqueue_all((0..5).map(|_| task()).collect()).await.unwrap();
        let dropped = queue.lease("default", 5, LEASE);
        assert!(dropped.now_or_never().is_none_or(|leased| leased.unwrap().len() == 5));
        let mut leased = BTreeSet::new();
        let all = async {
            while leased.len() < 5 {
                let some = queue.lease("default", 2, LEASE).await.unwrap();
                assert!(some.len() <= 2);
                for task in some {
                    assert!(leased.insert(task.id), "given twice");
                    assert_eq!(task.attempt, 1);
                }
                sleep(LOOK).await;
            }
        };
        timeout(LEASE / 2, all).await.expect("before the lease runs out");
    }
}
