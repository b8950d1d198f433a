//! A queue whose nodes wake each other through Redis keeps the contract; the poll is a minute off.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock as _, ManualClock, Result, SystemClock};
use zmsg_queue::conformance::{Harness, Limits};
use zmsg_queue::{
    Firing, MemoryQueueOptions, MemoryTaskQueue, TaskQueue, ToldQueue, Worker, WorkerOptions,
    WorkerReport, outbox,
};
use zmsg_redis::Redis;
use zmsg_redis::redis::cmd;
use zmsg_store::SqlStore;
use zmsg_testbed::private::{PrivateRedis, RedisOptions};

use crate::db::{Db, node};
use crate::handler::Scripted;
use crate::redis::connect;
use crate::sql::{LEASE, task};

/// Far below the poll interval, whose upper half the pauses are drawn from.
const BOUND: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_secs(60);

/// A queue in memory behind the hints of a Redis that is not there: the contract asks for none.
struct Alone(Arc<ManualClock>);

#[async_trait]
impl Harness for Alone {
    async fn open(&self, limits: Limits) -> Arc<dyn TaskQueue> {
        let options = MemoryQueueOptions {
            tasks_max: limits.tasks_max.into(),
            dead_max: limits.dead_max.into(),
            ..MemoryQueueOptions::default()
        };
        let inner = Arc::new(MemoryTaskQueue::new(self.clock(), options));
        Arc::new(ToldQueue::new(inner, self.clock(), connect("redis://127.0.0.1:1/"), "tasks"))
    }

    fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.0)
    }
}

zmsg_queue::task_queue_conformance!(Alone(Arc::new(ManualClock::new(1_000_000))));

/// A node with a worker, whose wake-ups run.
struct Node {
    queue: Arc<ToldQueue>,
    handler: Arc<Scripted>,
    shutdown: CancellationToken,
    worker: JoinHandle<Result<WorkerReport>>,
    wake_ups: JoinHandle<Result<()>>,
}

impl Node {
    fn start(store: Arc<dyn SqlStore>, redis: &Redis) -> Self {
        let (clock, tracker) = (Arc::new(SystemClock), TaskTracker::new());
        let queue = ToldQueue::new(node(store), clock.clone(), redis.clone(), "tasks");
        let queue = Arc::new(queue);
        let handler = Scripted::new(clock.clone(), |_| async { Ok(()) });
        let options = WorkerOptions { poll_max: POLL, ..WorkerOptions::default() };
        let worker = Worker::new(queue.clone(), handler.clone(), clock, tracker.clone(), options);
        let shutdown = CancellationToken::new();
        let wake_ups = tracker.spawn(queue.wake_ups().run(shutdown.clone()));
        let worker = tracker.spawn(worker.run(shutdown.clone()));
        Self { queue, handler, shutdown, worker, wake_ups }
    }

    async fn ended(&self, tasks: usize) {
        let ended = timeout(BOUND, self.handler.ended(tasks)).await;
        ended.unwrap_or_else(|_| panic!("{tasks} tasks were not found in time"));
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.worker.await.unwrap().unwrap();
        self.wake_ups.await.unwrap().unwrap();
    }
}

/// Waits until so many listen.
async fn listeners(redis: &Redis, wanted: u64) {
    let channel = redis.key("wake", "tasks");
    let heard = async || -> u64 {
        let mut ask = cmd("PUBSUB");
        ask.arg("NUMSUB").arg(&channel);
        let (_, count): (String, u64) = redis.query(&ask).await.unwrap_or_default();
        count
    };
    let waited = timeout(BOUND, async {
        while heard().await != wanted {
            sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not {wanted} listeners"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hears_of_the_tasks_of_others_through_redis() {
    let Some(server) = PrivateRedis::start(RedisOptions::new()) else { return };
    for db in Db::each().await {
        let redis = connect(&server.url());
        let store = db.store().await;
        let worker = Node::start(store.clone(), &redis);
        let other = Node::start(store.clone(), &redis);
        listeners(&redis, 2).await;
        // It only tells: what it has it could do itself.
        other.shutdown.cancel();
        other.worker.await.unwrap().unwrap();
        other.wake_ups.await.unwrap().unwrap();
        let shutdown = CancellationToken::new();
        let telling = TaskTracker::new().spawn(other.queue.wake_ups().run(shutdown.clone()));
        for count in 1..5 {
            other.queue.enqueue(task()).await.unwrap();
            worker.ended(count).await;
        }
        other.queue.enqueue(task().queue("elsewhere")).await.unwrap();
        let told = worker.queue.changed();
        let held = other.queue.lease("elsewhere", 1, LEASE).await.unwrap().remove(0);
        let cause = zmsg_core::Error::closed("store");
        let now = SystemClock.wall();
        assert!(other.queue.retry(&held, now, &cause, false).await.unwrap());
        timeout(BOUND, told).await.expect("told of what was given back");

        // Of a transaction of the user's nobody hears but by the one who says it.
        let enqueue = outbox::enqueue_quietly(&task(), &SystemClock, store.dialect()).unwrap();
        store.execute(&enqueue).await.unwrap();
        other.queue.tell();
        worker.ended(5).await;
        let firing = Firing::new("nightly", SystemClock.wall(), task());
        other.queue.enqueue_firing(firing).await.unwrap();
        worker.ended(6).await;
        shutdown.cancel();
        telling.await.unwrap().unwrap();
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_went_away_is_listened_to_again_and_costs_no_task() {
    let Some(server) = PrivateRedis::start(RedisOptions::new()) else { return };
    let db = Db::sqlite();
    let redis = connect(&server.url());
    let store = db.store().await;
    let worker = Node::start(store.clone(), &redis);
    listeners(&redis, 1).await;
    server.kill();
    // Its own tasks need no word of Redis.
    worker.queue.enqueue(task()).await.unwrap();
    worker.ended(1).await;
    // Of another's it hears when Redis is back.
    node(store).enqueue(task()).await.unwrap();
    server.restart();
    worker.ended(2).await;
    worker.stop().await;
}
