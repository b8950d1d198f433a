//! Answers that get lost between the queue and Redis: each call says so, and can be repeated.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use zmsg_core::{Backoff, Error, ErrorKind, Result, SystemClock, TaskId};
use zmsg_queue::{
    Enqueued, GroupRules, LeasedTask, NewTask, RedisQueueOptions, RedisTaskQueue, TaskGroups as _,
    TaskQueue, TaskState, Worker, WorkerOptions, WorkerStats,
};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};
use zmsg_testbed::{Proxy, Repeat};

use super::{LEASE, connect, tasks};
use crate::handler::{Event, Scripted};

/// Nothing here waits for a lease to run out.
const SOON: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(5);

/// A queue behind a proxy, and the same one reached directly.
struct Behind {
    proxy: Proxy,
    queue: Arc<RedisTaskQueue>,
    direct: RedisTaskQueue,
    _server: PrivateRedis,
}

impl Behind {
    fn start() -> Option<Self> {
        let server = PrivateRedis::start(PrivateOptions::new())?;
        let proxy = Proxy::before(&server.url());
        let queue = |url: &str| {
            RedisTaskQueue::new(connect(url), Arc::new(SystemClock), RedisQueueOptions::default())
        };
        let through = Arc::new(queue(&proxy.url(&server.url())));
        Some(Self { proxy, queue: through, direct: queue(&server.url()), _server: server })
    }

    /// Sends every script once, so that what gets lost is the answer of a script and not that it
    /// was unknown.
    async fn warmed(self) -> Self {
        let queue = &self.direct;
        queue.enqueue_all(tasks(2)).await.unwrap();
        let mut leased = queue.lease("default", 2, LEASE).await.unwrap();
        assert!(queue.extend(&leased[0], LEASE).await.unwrap());
        assert!(queue.complete(&leased.remove(0)).await.unwrap());
        assert!(queue.retry(&leased[0], 0, &failure("first"), false).await.unwrap());
        let leased = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
        assert!(queue.bury(&leased, &failure("second")).await.unwrap());
        assert!(queue.retry_dead(leased.id).await.unwrap());
        let leased = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
        assert!(queue.bury(&leased, &failure("third")).await.unwrap());
        assert!(queue.drop_dead(leased.id).await.unwrap());
        assert_eq!(queue.state(leased.id).await.unwrap(), None);
        let task = tasks(1).remove(0);
        queue.enqueue(task.clone()).await.unwrap();
        self.lose(&task.id.0.to_string(), self.queue.lease("default", 1, LEASE)).await;
        assert!(self.queue.complete(&self.lease_one().await).await.unwrap());
        self
    }

    /// Loses the answer to the request that contains `mark`; the call must say so.
    async fn lose<T: Debug>(&self, mark: &str, call: impl Future<Output = Result<T>>) {
        let before = self.proxy.counts();
        self.proxy.swallow_answer_to(mark, Repeat::Once);
        let error = timeout(SOON, call).await.expect("it ends").unwrap_err();
        assert!(error.is_outcome_unknown(), "{mark}: {error}");
        self.proxy.swallow_nothing();
        assert_eq!(self.proxy.counts().swallowed, before.swallowed + 1, "{mark}");
        // So that no later call meets the connection that was reset.
        let replaced = async {
            let up = async || self.queue.stats("default").await.is_ok();
            while self.proxy.counts().accepted == before.accepted || !up().await || !up().await {
                sleep(LOOK).await;
            }
        };
        timeout(SOON, replaced).await.expect("there is another connection");
    }

    /// Leases all that is due, this one among it.
    async fn lease(&self, id: TaskId) -> LeasedTask {
        let leased = self.queue.lease("default", 9, LEASE).await.unwrap();
        leased.into_iter().find(|task| task.id == id).expect("it is due")
    }

    async fn lease_one(&self) -> LeasedTask {
        self.queue.lease("default", 1, LEASE).await.unwrap().remove(0)
    }
}

fn failure(text: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_whose_answer_was_lost_is_unknown_and_its_repetition_tells() {
    let Some(behind) = Behind::start() else { return };
    let behind = behind.warmed().await;
    let queue = &behind.queue;
    let all = tasks(3);
    let mark = all[2].id.0.to_string();
    behind.lose(&mark, queue.enqueue_all(all.clone())).await;
    assert_eq!(queue.enqueue_all(all.clone()).await.unwrap(), [Enqueued::Duplicate; 3]);
    assert_eq!(behind.direct.stats("default").await.unwrap().pending, 3);

    let mark = all[0].id.0.to_string();
    behind.lose(&mark, queue.lease("default", 1, LEASE)).await;
    let task = behind.lease_one().await;
    assert_eq!((task.id, task.attempt), (all[0].id, 1), "long before the lease runs out");

    behind.lose(&mark, queue.extend(&task, LEASE)).await;
    assert!(queue.extend(&task, LEASE).await.unwrap());

    let (due, slow) = (0, failure("the first answer gets lost"));
    behind.lose(slow.message(), queue.retry(&task, due, &slow, true)).await;
    assert!(!queue.retry(&task, due, &slow, true).await.unwrap());
    let state = queue.state(task.id).await.unwrap();
    assert!(matches!(state, Some(TaskState::Pending { .. })), "{state:?}");

    let task = behind.lease(all[0].id).await;
    assert_eq!((task.attempt, task.attempts_spent()), (2, 2));
    let slow = failure("the second answer gets lost");
    behind.lose(slow.message(), queue.bury(&task, &slow)).await;
    assert!(!queue.bury(&task, &slow).await.unwrap());
    let cause = slow.to_string();
    assert_eq!(queue.state(task.id).await.unwrap(), Some(TaskState::Dead { cause }));

    // Of the requests of these calls only the scripts name these keys.
    behind.lose("zmsg:{default}:due", queue.retry_dead(task.id)).await;
    assert!(!queue.retry_dead(task.id).await.unwrap());
    let task = behind.lease(all[0].id).await;
    assert!(queue.bury(&task, &slow).await.unwrap());
    behind.lose("asynq:{default}:archived", queue.drop_dead(task.id)).await;
    assert!(!queue.drop_dead(task.id).await.unwrap());
    assert_eq!(queue.state(task.id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregate_whose_settlement_was_not_answered_is_there_once() {
    let Some(behind) = Behind::start() else { return };
    let behind = behind.warmed().await;
    let queue = &behind.queue;
    let rules = GroupRules { size_max: 3, ..GroupRules::default() };
    let second = Duration::from_secs(1);
    let close = || queue.close_group("default", "mail", &rules, second);
    let join = async || {
        let members: Vec<_> = tasks(3).into_iter().map(|task| task.group("mail")).collect();
        queue.enqueue_all(members.clone()).await.unwrap();
        members
    };
    let aggregate = || NewTask::new(TaskId::generate(), "digest", "three");
    // So that what gets lost is the answer of a script.
    join().await;
    let closed = close().await.unwrap().unwrap();
    assert!(queue.settle_group(&closed, aggregate()).await.unwrap());
    assert!(queue.complete(&behind.lease_one().await).await.unwrap());

    let members = join().await;
    behind.lose("asynq:{default}:aggregation_sets", close()).await;
    assert!(close().await.unwrap().is_none(), "nobody has them");
    let back = async {
        while queue.reopen_overdue("default").await.unwrap() == 0 {
            sleep(LOOK).await;
        }
    };
    timeout(SOON, back).await.expect("until the deadline of the set");
    let closed = close().await.unwrap().expect("they are in their group");
    let made = aggregate();
    let mark = made.id.0.to_string();
    behind.lose(&mark, queue.settle_group(&closed, made.clone())).await;
    assert!(queue.settle_group(&closed, made.clone()).await.unwrap());
    assert_eq!(queue.state(members[0].id).await.unwrap(), None);
    let leased = queue.lease("default", 9, LEASE).await.unwrap();
    assert_eq!(leased.iter().map(|task| task.id).collect::<Vec<_>>(), [made.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_whose_answer_was_lost_has_happened() {
    let Some(behind) = Behind::start() else { return };
    let behind = behind.warmed().await;
    behind.queue.enqueue_all(tasks(1)).await.unwrap();
    let task = behind.lease_one().await;
    behind.lose(&task.id.0.to_string(), behind.queue.complete(&task)).await;
    assert_eq!(behind.direct.state(task.id).await.unwrap(), None);
    assert!(!behind.queue.complete(&task).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lease_without_an_answer_took_is_given_once_as_far_as_it_is_asked_for() {
    let Some(behind) = Behind::start() else { return };
    let behind = behind.warmed().await;
    let all = tasks(5);
    behind.queue.enqueue_all(all.clone()).await.unwrap();
    behind.lose(&all[0].id.0.to_string(), behind.queue.lease("default", 4, LEASE)).await;
    // Another process has no claim to them.
    let other = behind.direct.lease("default", 9, LEASE).await.unwrap();
    assert_eq!(other.iter().map(|task| task.id).collect::<Vec<_>>(), [all[4].id]);
    // The answer of the call that takes over gets lost as well.
    behind.lose(&all[3].id.0.to_string(), behind.queue.lease("default", 3, LEASE)).await;
    let mut given = Vec::new();
    for expected in [3, 1, 0, 0] {
        let leased = behind.queue.lease("default", 3, LEASE).await.unwrap();
        assert_eq!(leased.len(), expected, "{given:?} {leased:?}");
        given.extend(leased.into_iter().map(|task| (task.id, task.attempt)));
    }
    given.sort_unstable();
    let expected: Vec<_> = all[..4].iter().map(|task| (task.id, 1)).collect();
    assert_eq!(given, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lease_that_others_took_over_meanwhile_is_not_given_again() {
    let Some(behind) = Behind::start() else { return };
    let behind = behind.warmed().await;
    let (queue, short) = (&behind.queue, Duration::from_millis(50));
    queue.enqueue_all(tasks(1)).await.unwrap();
    let task = behind.lease_one().await;
    assert!(queue.retry(&task, 0, &failure("again"), false).await.unwrap());
    behind.lose(&task.id.0.to_string(), queue.lease("default", 1, SOON)).await;
    // Its lease is shortened as if it had been, and another process takes the task.
    let held = LeasedTask { attempt: 2, ..task.clone() };
    assert!(behind.direct.extend(&held, short).await.unwrap());
    let taken = async {
        loop {
            if let Some(task) = behind.direct.lease("default", 1, LEASE).await.unwrap().pop() {
                return task;
            }
            sleep(LOOK).await;
        }
    };
    let taken = timeout(SOON, taken).await.expect("the lease runs out");
    assert_eq!((taken.id, taken.attempt), (task.id, 3));
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    assert!(behind.direct.complete(&taken).await.unwrap());
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
}

/// Polls so many times, as it is woken, and then drops the future.
pub(super) async fn polled<T>(future: impl Future<Output = T>, mut times: usize) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        times -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if times == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_may_be_dropped_at_any_poll_and_strands_no_task() {
    let Some(behind) = Behind::start() else { return };
    let behind = behind.warmed().await;
    let queue = &behind.queue;
    // Tasks of asynq have names, which are noted one by one when the tasks are leased.
    let named = |n: u8| TaskId(Uuid::new_v5(&Uuid::NAMESPACE_OID, &[n]));
    let (mut dropped, mut polls) = (0, 1);
    loop {
        let all = (0..5).map(|n| NewTask::new(named(n), "save", "payload")).collect();
        queue.enqueue_all(all).await.unwrap();
        let mut leased = polled(queue.lease("default", 5, LEASE), polls).await.transpose().unwrap();
        let whole = leased.is_some();
        dropped += usize::from(!whole);
        let mut given = BTreeSet::new();
        let rest = async {
            while given.len() < 5 {
                let some = match leased.take() {
                    Some(all) => all,
                    None => queue.lease("default", 2, LEASE).await.unwrap(),
                };
                for task in &some {
                    assert!(given.insert(task.id), "{polls} polls: given twice");
                    assert_eq!(task.attempt, 1, "{polls} polls");
                }
                for task in &some {
                    assert!(queue.complete(task).await.unwrap());
                }
            }
        };
        timeout(SOON, rest).await.unwrap_or_else(|_| panic!("stranded after {polls} polls"));
        if whole {
            break;
        }
        polls += 1;
    }
    assert!(dropped >= 3, "{dropped}: a lease waits for more answers than that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_loses_every_ninth_answer_runs_each_task_once() {
    // Completions go together: so many that there are answers to lose.
    const TASKS: usize = 400;
    let Some(behind) = Behind::start() else { return };
    let behind = behind.warmed().await;
    let all = tasks(TASKS);
    behind.direct.enqueue_all(all.clone()).await.unwrap();
    behind.proxy.swallow_answer_to("EVALSHA", Repeat::Every(9));
    let handler = Scripted::new(Arc::new(SystemClock), |_| async { Ok(()) });
    let stats = work(&behind.queue, &handler, TASKS).await;
    behind.proxy.swallow_nothing();
    assert!(behind.proxy.counts().swallowed > 3, "{:?}", behind.proxy.counts());
    let started: Vec<_> = handler
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Started { id, attempt, .. } => Some((id, attempt)),
            _ => None,
        })
        .collect();
    assert_eq!(started.len(), TASKS, "{stats:?}");
    let expected: BTreeSet<_> = all.iter().map(|task| (task.id, 1)).collect();
    assert_eq!(started.into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!((stats.lease_lost, stats.unsettled), (0, 0), "{stats:?}");
    let left = behind.direct.stats("default").await.unwrap();
    assert_eq!((left.pending, left.leased, left.dead), (0, 0, 0), "{left:?}");
}

/// Runs a worker until so many tasks have ended.
async fn work(queue: &Arc<RedisTaskQueue>, handler: &Arc<Scripted>, count: usize) -> WorkerStats {
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(50));
    // None of them runs out while the test runs.
    let lease = Duration::from_secs(3_600);
    let options = WorkerOptions { backoff, lease, concurrency: 16, ..WorkerOptions::default() };
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let (queue, clock) = (Arc::clone(queue), Arc::new(SystemClock));
    let worker = Worker::new(queue, handler.clone(), clock, tracker.clone(), options);
    let run = tracker.spawn(worker.run(shutdown.clone()));
    let ended = timeout(4 * SOON, handler.ended(count)).await;
    ended.unwrap_or_else(|_| panic!("{} of {count}", handler.endings().len()));
    shutdown.cancel();
    run.await.unwrap().unwrap().stats
}
