//! The task queue in Redis: how fast tasks go in, beside the bare script, and how fast a worker takes
//! them, beside the `asynq` crate and, where there is Go, Go's asynq on the same tasks.
//!
//! On a server of its own. A worker's time is from its start to its last task.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_benches::{Case, Figures, Go, Unit, Way, is_quick};
use zmsg_core::{SystemClock, TaskId};
use zmsg_queue::{
    LeasedTask, NewTask, RedisQueueOptions, RedisTaskQueue, TaskHandler, TaskQueue, Worker,
    WorkerOptions,
};
use zmsg_redis::redis::aio::MultiplexedConnection;
use zmsg_redis::redis::{Client, Cmd, Script, cmd};
use zmsg_redis::{Redis, RedisOptions};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

const CONCURRENCY: usize = 64;

const ENQUEUE: &str = concat!(
    include_str!("../crates/zmsg-queue/src/task/redis/lua/prelude.lua"),
    include_str!("../crates/zmsg-queue/src/task/redis/lua/enqueue.lua"),
);

/// The server, and both ways to it.
struct Bench {
    runtime: Runtime,
    url: String,
    redis: Redis,
    queue: Arc<RedisTaskQueue>,
    bare: MultiplexedConnection,
    _server: PrivateRedis,
}

impl Bench {
    fn start() -> Option<Self> {
        let server = PrivateRedis::start(PrivateOptions::new())?;
        let (runtime, url) = (zmsg_benches::runtime(), server.url());
        let mut options = RedisOptions::from_url(&url).unwrap();
        options.deadline = Duration::from_secs(10);
        let redis = {
            let _inside = runtime.enter();
            Redis::open(options, &TaskTracker::new()).unwrap()
        };
        let (clock, options) = (Arc::new(SystemClock), RedisQueueOptions::default());
        let queue = Arc::new(RedisTaskQueue::new(redis.clone(), clock, options));
        let client = Client::open(url.as_str()).unwrap();
        let bare = runtime.block_on(client.get_multiplexed_async_connection()).unwrap();
        Some(Self { runtime, url, redis, queue, bare, _server: server })
    }

    fn empty(&self) {
        self.runtime.block_on(self.redis.query::<()>(&cmd("FLUSHALL"))).unwrap();
    }
}

fn tasks() -> usize {
    if is_quick() { 1_000 } else { 20_000 }
}

/// The `asynq` crate is too slow for as many.
fn crate_tasks() -> usize {
    if is_quick() { 500 } else { 4_000 }
}

fn task() -> NewTask {
    NewTask::new(TaskId::generate(), "noop", &b"a payload of a few bytes"[..])
}

/// The bare script with what the queue sends for a task; the message of one task is that of another
/// but for the id.
#[derive(Clone)]
struct Bare {
    connection: MultiplexedConnection,
    digest: Arc<str>,
    message: Arc<[u8]>,
    at: usize,
}

impl Bare {
    fn of(bench: &Bench) -> Self {
        let first = task();
        let id = first.id.0.to_string();
        let message: Vec<u8> = bench.runtime.block_on(async {
            bench.queue.enqueue(first).await.unwrap();
            let mut get = cmd("HGET");
            get.arg(format!("asynq:{{default}}:t:{id}")).arg("msg");
            bench.redis.query(&get).await.unwrap()
        });
        let at = message.windows(id.len()).position(|part| part == id.as_bytes()).unwrap();
        let digest = Script::new(ENQUEUE).get_hash().into();
        Self { connection: bench.bare.clone(), digest, message: message.into(), at }
    }

    fn call(&self) -> Cmd {
        let id = TaskId::generate().0.to_string();
        let mut message = self.message.to_vec();
        message[self.at..self.at + id.len()].copy_from_slice(id.as_bytes());
        let mut call = cmd("EVALSHA");
        call.arg(&*self.digest).arg(7);
        for key in ["pending", "active", "scheduled", "retry"] {
            call.arg(format!("asynq:{{default}}:{key}"));
        }
        call.arg("zmsg:{default}:due").arg(format!("asynq:{{default}}:t:{id}"));
        call.arg("zmsg:{default}:grouped");
        call.arg("").arg(1_000_000).arg(id).arg(message).arg(0).arg("");
        call
    }

    async fn enqueue(&mut self) {
        let answer: Vec<i64> = self.call().query_async(&mut self.connection).await.unwrap();
        assert_eq!(answer[2..], [1]);
    }
}

/// Enqueues per second, from so many tasks at once.
fn share<E>(bench: &Bench, tasks: usize, each: usize, enqueue: impl Fn() -> E) -> f64
where
    E: Enqueues,
{
    bench.empty();
    let began = Instant::now();
    bench.runtime.block_on(async {
        let mut running = JoinSet::new();
        for _ in 0..tasks {
            running.spawn(enqueue().times(each));
        }
        running.join_all().await;
    });
    (tasks * each) as f64 / began.elapsed().as_secs_f64()
}

/// What enqueues one task after the other.
trait Enqueues: Send + 'static {
    fn times(self, count: usize) -> impl Future<Output = ()> + Send;
}

impl Enqueues for Bare {
    async fn times(mut self, count: usize) {
        for _ in 0..count {
            self.enqueue().await;
        }
    }
}

impl Enqueues for Arc<RedisTaskQueue> {
    async fn times(self, count: usize) {
        for _ in 0..count {
            self.enqueue(task()).await.unwrap();
        }
    }
}

fn enqueues(bench: &Bench, figures: &mut Figures) {
    let bare = Bare::of(bench);
    let all = if is_quick() { 1_000 } else { 30_000 };
    for tasks in [1, 16, 256] {
        let each = if tasks == 1 { all / 10 } else { all / tasks };
        figures.turns(
            &Case::new("enqueue").at("tasks", tasks as u64),
            Unit::PerSecond,
            &mut [
                ("zmsg", &mut || share(bench, tasks, each, || Arc::clone(&bench.queue))),
                ("EVALSHA of the same script", &mut || share(bench, tasks, each, || bare.clone())),
            ],
        );
    }
}

fn fill(bench: &Bench, count: usize) {
    bench.empty();
    bench.runtime.block_on(async {
        for _ in 0..count / 500 {
            bench.queue.enqueue_all((0..500).map(|_| task()).collect()).await.unwrap();
        }
    });
}

/// Counts, and tells of the last.
#[derive(Debug)]
struct Count {
    left: AtomicU64,
    done: Notify,
}

impl Count {
    fn of(tasks: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(tasks as u64), done: Notify::new() })
    }

    fn one(&self) {
        if self.left.fetch_sub(1, Relaxed) == 1 {
            self.done.notify_one();
        }
    }
}

#[async_trait]
impl TaskHandler for Count {
    async fn handle(&self, _task: &LeasedTask) -> zmsg_core::Result<()> {
        self.one();
        Ok(())
    }
}

/// Tasks per second that zmsg's worker takes.
fn zmsg(bench: &Bench) -> f64 {
    fill(bench, tasks());
    let count = Count::of(tasks());
    let options = WorkerOptions { concurrency: CONCURRENCY, ..WorkerOptions::default() };
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let (queue, clock) = (Arc::clone(&bench.queue), Arc::new(SystemClock));
    let worker = Worker::new(queue, count.clone(), clock, tracker.clone(), options);
    let began = Instant::now();
    bench.runtime.block_on(async {
        let run = tracker.spawn(worker.run(shutdown.clone()));
        count.done.notified().await;
        let took = began.elapsed();
        shutdown.cancel();
        let report = run.await.unwrap().unwrap();
        assert_eq!(report.stats.succeeded, tasks() as u64, "{report:?}");
        tasks() as f64 / took.as_secs_f64()
    })
}

struct Noop(Arc<Count>);

#[async_trait]
impl asynq::server::Handler for Noop {
    async fn process_task(&self, _task: asynq::task::Task) -> asynq::error::Result<()> {
        self.0.one();
        Ok(())
    }
}

/// Tasks per second that the worker of the `asynq` crate takes. It cannot be stopped: it goes with its
/// runtime.
fn asynq_crate(bench: &Bench) -> f64 {
    fill(bench, crate_tasks());
    let (count, runtime) = (Count::of(crate_tasks()), zmsg_benches::runtime());
    let took = runtime.block_on(async {
        let at = asynq::backend::RedisConnectionType::single(bench.url.as_str()).unwrap();
        let config = asynq::config::ServerConfig::new().concurrency(CONCURRENCY);
        let mut server = asynq::server::Server::new(at, config).await.unwrap();
        let began = Instant::now();
        tokio::select! {
            ended = server.start(Noop(Arc::clone(&count))) => panic!("{ended:?}"),
            () = count.done.notified() => began.elapsed(),
        }
    });
    runtime.shutdown_background();
    crate_tasks() as f64 / took.as_secs_f64()
}

/// Tasks per second that Go's asynq takes.
fn asynq_go(bench: &Bench, program: &Go) -> f64 {
    fill(bench, tasks());
    let url = format!("{}/0", bench.url.trim_end_matches('/'));
    let took = program.run([url, CONCURRENCY.to_string(), tasks().to_string()]);
    tasks() as f64 / (took / 1e9)
}

fn workers(bench: &Bench, figures: &mut Figures) {
    let case = Case::new("worker of no-op tasks").at("at a time", CONCURRENCY as u64);
    let (mut own, mut other) = (|| zmsg(bench), || asynq_crate(bench));
    let program = Go::build("worker", env!("CARGO_TARGET_TMPDIR"));
    if let Err(why) = &program {
        figures.left_out("Go's asynq", why);
    }
    let mut third = || program.as_ref().map_or(0.0, |program| asynq_go(bench, program));
    let mut ways: Vec<Way<'_>> = vec![("zmsg", &mut own), ("the asynq crate", &mut other)];
    if program.is_ok() {
        ways.push(("Go's asynq", &mut third));
    }
    figures.turns(&case, Unit::PerSecond, &mut ways);
}

fn main() {
    let Some(mut figures) = Figures::of("task_queue_redis") else { return };
    let Some(bench) = Bench::start() else {
        return figures.left_out("task_queue_redis", "redis-server is not on this machine");
    };
    enqueues(&bench, &mut figures);
    workers(&bench, &mut figures);
}
