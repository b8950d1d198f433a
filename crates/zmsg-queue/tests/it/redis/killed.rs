//! Workers of a queue in Redis, in several processes, killed with SIGKILL in mid task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Backoff, Error, Result, Statement, SystemClock, TaskId};
use zmsg_queue::{
    LeasedTask, NewTask, QueueStats, RedisQueueOptions, RedisTaskQueue, TaskHandler, TaskQueue,
    Worker, WorkerOptions, inbox_step, is_already_applied,
};
use zmsg_redis::Redis;
use zmsg_redis::redis::cmd;
use zmsg_store::{SqlStore, Step};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use super::connect;
use crate::db::{Db, run, store_at};
use crate::killed::{Process, end_with_the_parent, number};

/// Where a child finds its queue and its database; without it, the child's test has nothing to do.
const REDIS: &str = "ZMSG_QUEUE_CHILD_REDIS";
const DATABASE: &str = "ZMSG_QUEUE_CHILD_DATABASE";

const PROCESSES: u32 = 4;
/// So many tasks wait at least, so that no child is idle.
const WAITING: u64 = 200;
/// Every other task is of a lane.
const LANES: u64 = 25;
const WITHIN: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(2);

/// The children that have begun to work, by their process ids.
const STARTED: &str = "test:started";
/// What asynq counts: tasks that came to an end.
const PROCESSED: &str = "asynq:{default}:processed";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_task_takes_effect_once_on_postgres_although_workers_are_killed() {
    let Some(db) = Db::postgres().await else { return };
    each_task_takes_effect_once_and_lanes_in_order(&db, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_task_takes_effect_once_on_sqlite_although_workers_are_killed() {
    each_task_takes_effect_once_and_lanes_in_order(&Db::sqlite(), 40).await;
}

async fn each_task_takes_effect_once_and_lanes_in_order(db: &Db, kills: u32) {
    let Some(server) = PrivateRedis::start(PrivateOptions::new()) else { return };
    let store = db.store().await;
    run(
        &store,
        &[
            "CREATE TABLE effects (id uuid PRIMARY KEY, times int NOT NULL, attempt int NOT NULL, \
             lane text, number int NOT NULL, follows int NOT NULL)",
            "CREATE INDEX effects_of_lanes ON effects (lane, number)",
            "CREATE TABLE repeats (times int NOT NULL)",
            "INSERT INTO repeats VALUES (0)",
        ],
    )
    .await;
    let (url, place) = (server.url(), db.place());
    let queue = queue_at(&url);
    let begun = Arc::new(AtomicU32::new(0));
    let mut killers = JoinSet::new();
    for _ in 0..PROCESSES {
        let (url, place, begun) = (url.clone(), place.clone(), Arc::clone(&begun));
        killers.spawn(async move { kill_in_mid_task(&url, &place, &begun, kills).await });
    }
    let over = CancellationToken::new();
    let both = async {
        let killed = async {
            let children = killers.join_all().await;
            over.cancel();
            children
        };
        tokio::join!(killed, keep_busy(&queue, &over))
    };
    let (children, enqueued) = timeout(WITHIN, both).await.expect("all are killed");
    let is_empty = async {
        while !is_over(queue.stats("default").await.unwrap()) {
            sleep(LOOK).await
        }
    };
    timeout(WITHIN, is_empty).await.expect("the last children work what is left");
    drop(children);

    let all = i64::try_from(enqueued).unwrap();
    let count = async |query| number(&store, query).await;
    assert_eq!(count("SELECT count(*) FROM effects WHERE times = 1").await, all);
    assert_eq!(count("SELECT count(*) FROM effects").await, all);
    assert_eq!(count("SELECT count(*) FROM zmsg_inbox").await, all);
    assert_eq!(count("SELECT count(*) FROM effects WHERE number > 0").await, all / 2);
    assert_eq!(
        count("SELECT count(*) FROM effects WHERE number <> follows + 1 AND number > 0").await,
        0
    );
    // It was what the test is about: tasks that were killed before their effect, and after it.
    let before = count("SELECT count(*) FROM effects WHERE attempt > 1").await;
    let after = count("SELECT times FROM repeats").await;
    println!("{all} tasks, {kills} kills: {before} before the effect, {after} after it");
    assert!(before > i64::from(kills) / 8 && after > 0, "{before} {after}");
}

fn queue_at(url: &str) -> Arc<RedisTaskQueue> {
    let options = RedisQueueOptions::default();
    Arc::new(RedisTaskQueue::new(connect(url), Arc::new(SystemClock), options))
}

fn is_over(stats: QueueStats) -> bool {
    assert_eq!(stats.dead, 0, "{stats:?}");
    stats.pending + stats.leased == 0
}

/// Enqueues whenever few are left, until it is over; how many it were.
async fn keep_busy(queue: &RedisTaskQueue, over: &CancellationToken) -> u64 {
    let mut enqueued = 0;
    while !over.is_cancelled() {
        if queue.stats("default").await.unwrap().pending < WAITING {
            let tasks = (enqueued..enqueued + WAITING).map(task);
            queue.enqueue_all(tasks.collect()).await.unwrap();
            enqueued += WAITING;
        }
        sleep(LOOK).await;
    }
    enqueued
}

/// The n-th task. Its payload is its number in its lane, from 1; 0 without one.
fn task(n: u64) -> NewTask {
    let in_lane = n % 2 == 1;
    let number = if in_lane { n / (2 * LANES) + 1 } else { 0 };
    let task = NewTask::new(TaskId::generate(), "count", number.to_string()).attempts_max(1_000);
    if in_lane { task.ordered_by((n / 2 % LANES).to_string()) } else { task }
}

/// Starts a child and kills it some tasks after its first, again and again. Gives the last one,
/// which lives.
async fn kill_in_mid_task(url: &str, place: &str, begun: &AtomicU32, kills: u32) -> Process {
    let redis = connect(url);
    let start = || {
        let test = "redis::killed::works_until_it_is_killed";
        Process::start(test, &[(REDIS, url), (DATABASE, place)])
    };
    let mut child = start();
    while begun.fetch_add(1, SeqCst) < kills {
        let id = child.id();
        while !redis.query::<bool>(cmd("SISMEMBER").arg(STARTED).arg(id)).await.unwrap() {
            sleep(LOOK).await;
        }
        let moment = processed(&redis).await + fastrand::u64(1..=60);
        while processed(&redis).await < moment {
            sleep(LOOK).await;
        }
        child = start(); // the one before is killed by its drop
    }
    child
}

async fn processed(redis: &Redis) -> u64 {
    redis.query::<Option<u64>>(cmd("GET").arg(PROCESSED)).await.unwrap().unwrap_or(0)
}

/// A child: a worker, until it is killed or its parent is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_until_it_is_killed() {
    let (Ok(url), Ok(place)) = (std::env::var(REDIS), std::env::var(DATABASE)) else { return };
    let (store, redis) = (store_at(&place).await, connect(&url));
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let options = WorkerOptions {
        concurrency: 8,
        lease: Duration::from_millis(400),
        poll_max: Duration::from_millis(50),
        backoff: Backoff::new(Duration::from_millis(5), Duration::from_millis(50)),
        ..WorkerOptions::default()
    };
    let (handler, clock) = (Arc::new(Counts { store, redis }), Arc::new(SystemClock));
    let worker = Worker::new(queue_at(&url), handler, clock, tracker.clone(), options);
    tracker.spawn(worker.run(shutdown));
    end_with_the_parent().await;
}

/// Counts how often each task has taken effect, and how often it was found to have.
#[derive(Debug)]
struct Counts {
    store: Arc<dyn SqlStore>,
    redis: Redis,
}

#[async_trait]
impl TaskHandler for Counts {
    async fn handle(&self, task: &LeasedTask) -> Result<()> {
        let _: u64 = self.redis.query(cmd("SADD").arg(STARTED).arg(std::process::id())).await?;
        some_work().await;
        let count = "INSERT INTO effects VALUES (?, 1, ?, ?, ?, \
            (SELECT coalesce(max(number), 0) FROM effects WHERE lane = ?)) \
            ON CONFLICT (id) DO UPDATE SET times = effects.times + 1";
        let lane = task.lane.as_ref().map_or("none", |place| &place.key);
        let number: i64 = std::str::from_utf8(&task.payload).unwrap().parse().unwrap();
        let binds =
            vec![task.id.0.into(), task.attempt.into(), lane.into(), number.into(), lane.into()];
        let count = Statement::new(count, binds);
        let steps = vec![inbox_step(task.id, 0, self.store.dialect()), Step::any(count)];
        match self.store.execute_all(steps).await {
            Ok(_) => {}
            Err(failed) if is_already_applied(&failed) => {
                let repeat = Statement::new("UPDATE repeats SET times = times + 1", vec![]);
                self.store.execute(&repeat).await?;
            }
            Err(failed) => return Err(Error::from(failed)),
        }
        some_work().await;
        Ok(())
    }
}

/// What a task takes besides its effect, so that a kill meets it on either side.
async fn some_work() {
    let takes = Duration::from_micros(fastrand::u64(..4_000));
    sleep(takes).await;
}
