//! Redis goes away and comes back in every way it can: workers go on by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{ErrorKind, Result, SystemClock};
use zmsg_queue::{
    RedisQueueOptions, RedisTaskQueue, TaskQueue, Worker, WorkerOptions, WorkerReport,
};
use zmsg_redis::Redis;
use zmsg_redis::redis::{Cmd, cmd};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use super::{LEASE, connect, tasks};
use crate::handler::{Event, Scripted};

/// What a busy machine may take; the time that it took is printed.
const BOUND: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// A worker as users have it, on a queue whose Redis has faults.
pub(super) struct Working {
    pub(super) queue: Arc<RedisTaskQueue>,
    admin: Redis,
    handler: Arc<Scripted>,
    shutdown: CancellationToken,
    run: JoinHandle<Result<WorkerReport>>,
}

impl Working {
    async fn on(server: &PrivateRedis) -> Self {
        Self::over(connect(&server.url())).await
    }

    /// Starts it, and waits until it has worked.
    pub(super) async fn over(redis: Redis) -> Self {
        let (admin, clock) = (redis.clone(), Arc::new(SystemClock));
        let queue = RedisTaskQueue::new(redis, clock.clone(), RedisQueueOptions::default());
        let queue = Arc::new(queue);
        let handler = Scripted::new(clock.clone(), |_| async { Ok(()) });
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let options = WorkerOptions::default();
        let worker = Worker::new(queue.clone(), handler.clone(), clock, tracker.clone(), options);
        let run = tracker.spawn(worker.run(shutdown.clone()));
        let working = Self { queue, admin, handler, shutdown, run };
        working.work("the first time").await;
        working
    }

    async fn order(&self, cmd: &Cmd) {
        self.admin.query::<()>(cmd).await.unwrap();
    }

    /// Waits until no call succeeds any more; what was said.
    pub(super) async fn fails(&self) -> String {
        let failed = async {
            loop {
                if let Err(error) = self.queue.enqueue_all(tasks(1)).await {
                    let expected = [ErrorKind::Unavailable, ErrorKind::Timeout];
                    assert!(expected.contains(&error.kind()), "{error}");
                    return format!("{error:?}");
                }
                sleep(LOOK).await;
            }
        };
        timeout(BOUND, failed).await.expect("it is away")
    }

    /// Enqueues one as soon as that works, and waits until it was worked. Prints how long after
    /// the call that was.
    pub(super) async fn work(&self, after: &str) {
        let began = Instant::now();
        let task = tasks(1);
        let enqueued = async {
            while self.queue.enqueue_all(task.clone()).await.is_err() {
                sleep(LOOK).await;
            }
        };
        timeout(BOUND, enqueued).await.unwrap_or_else(|_| panic!("{after}: not enqueued"));
        let (taken, id) = (began.elapsed(), task[0].id);
        let worked = async {
            while !self.handler.endings().contains(&Event::Completed(id)) {
                sleep(LOOK).await;
            }
        };
        timeout(BOUND, worked).await.unwrap_or_else(|_| panic!("{after}: not worked"));
        println!("{after}: enqueued after {taken:?}, worked after {:?}", began.elapsed());
    }

    pub(super) async fn stop(self) -> WorkerReport {
        self.shutdown.cancel();
        self.run.await.unwrap().unwrap()
    }
}

/// Does it without keeping the runtime from its work.
async fn aside(server: PrivateRedis, what: fn(&PrivateRedis)) -> PrivateRedis {
    let done = spawn_blocking(move || {
        what(&server);
        server
    });
    done.await.unwrap()
}

fn keeping() -> PrivateOptions {
    PrivateOptions::new().directive("appendonly yes").directive("appendfsync always")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_by_itself_after_each_restart() {
    let Some(mut server) = PrivateRedis::start(keeping()) else { return };
    let working = Working::on(&server).await;
    for round in 0..3 {
        server =
            aside(server, if round % 2 == 0 { PrivateRedis::kill } else { PrivateRedis::stop })
                .await;
        working.fails().await;
        server = aside(server, PrivateRedis::restart).await;
        working.work("a restart").await;
    }
    assert_eq!(working.stop().await.abandoned, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_after_its_redis_was_emptied() {
    let Some(server) = PrivateRedis::start(PrivateOptions::new()) else { return };
    let working = Working::on(&server).await;
    for _ in 0..3 {
        working.order(&cmd("FLUSHALL")).await;
        working.work("FLUSHALL").await;
    }
    let names: Vec<String> =
        working.admin.query(cmd("SMEMBERS").arg("asynq:queues")).await.unwrap();
    assert_eq!(names, ["default"]);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loads_its_data_is_waited_for() {
    // Each key takes its time, and the server answers between them.
    let options = keeping()
        .directive("enable-debug-command yes")
        .directive("aof-use-rdb-preamble yes")
        .directive("key-load-delay 500")
        .directive("loading-process-events-interval-bytes 1024");
    let Some(server) = PrivateRedis::start(options) else { return };
    let working = Working::on(&server).await;
    working.order(cmd("DEBUG").arg("POPULATE").arg(4_000)).await;
    working.order(&cmd("BGREWRITEAOF")).await;
    let written = async {
        loop {
            let info: String = working.admin.query(cmd("INFO").arg("persistence")).await.unwrap();
            if info.contains("aof_rewrite_in_progress:0") && info.contains("rewrite_scheduled:0") {
                return;
            }
            sleep(LOOK).await;
        }
    };
    timeout(BOUND, written).await.expect("a few keys are written soon");
    let server = aside(server, PrivateRedis::kill).await;
    let restarting = TaskTracker::new().spawn(aside(server, PrivateRedis::restart));
    let loading = async {
        while !working.fails().await.contains("is loading") {
            sleep(LOOK).await;
        }
    };
    timeout(BOUND, loading).await.expect("it says that it is loading");
    assert!(!restarting.is_finished());
    let _server = restarting.await.unwrap();
    working.work("loading").await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_became_a_replica_is_written_to_again_when_it_is_a_primary() {
    let Some(server) = PrivateRedis::start(PrivateOptions::new()) else { return };
    let working = Working::on(&server).await;
    for _ in 0..2 {
        // Of a primary that does not answer, so that the data stays.
        working.order(cmd("REPLICAOF").arg("127.0.0.1").arg(1)).await;
        let said = working.fails().await;
        assert!(said.contains("read only"), "{said}");
        working.order(cmd("REPLICAOF").arg("NO").arg("ONE")).await;
        working.work("READONLY").await;
    }
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_are_forgotten_under_load_fail_no_call() {
    const TASKS: usize = 400;
    let Some(server) = PrivateRedis::start(PrivateOptions::new()) else { return };
    let working = Working::on(&server).await;
    let admin = working.admin.clone();
    let stop = CancellationToken::new();
    let flushing = TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            admin.query::<()>(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
            tokio::task::yield_now().await;
        }
    }));
    for some in tasks(TASKS).chunks(20) {
        working.queue.enqueue_all(some.to_vec()).await.unwrap();
    }
    timeout(LEASE, working.handler.ended(1 + TASKS)).await.expect("all are worked");
    stop.cancel();
    flushing.await.unwrap();
    let starts = working.handler.starts().len();
    let stats = working.stop().await.stats;
    assert_eq!((starts, stats.succeeded), (1 + TASKS, 1 + TASKS as u64), "{stats:?}");
}
