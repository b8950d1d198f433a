//! The queue in Redis: the suite of all queues, and what this one promises besides.

mod go;
mod tools;
mod go_groups;
mod lost;
mod ends;
mod faults;
mod groups;
mod kept;
mod killed;
mod inspect;
mod pauses;
mod periodic;
mod calls;
mod access;
mod cluster;
mod sentinel;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock as _, Error, ErrorKind, ManualClock, SystemClock, TaskId};
use zmsg_queue::conformance::{Grouped, GroupsHarness, Harness, InspectHarness, Inspected, Limits};
use zmsg_queue::{
    Enqueued, MemoryQueueOptions, MemoryTaskQueue, NewTask, QueueClock, RedisQueueOptions,
    RedisTaskQueue, TaskQueue, TaskState,
};
use zmsg_redis::redis::cmd;
use zmsg_redis::{Redis, RedisOptions};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

/// A server of the test's own: the names of asynq's keys leave no room for a namespace.
struct Server {
    server: Option<PrivateRedis>,
    clock: Arc<ManualClock>,
}

impl Server {
    fn start() -> Self {
        let server = PrivateRedis::start(PrivateOptions::new());
        Self { server, clock: Arc::new(ManualClock::new(1_000_000)) }
    }
}

pub(crate) fn connect(url: &str) -> Redis {
    Redis::open(patient(url), &TaskTracker::new()).unwrap()
}

/// Options with a deadline that a busy machine does not miss.
fn patient(url: &str) -> RedisOptions {
    let mut options = RedisOptions::from_url(url).unwrap();
    options.deadline = Duration::from_secs(5);
    options
}

fn queue_over(redis: Redis) -> RedisTaskQueue {
    RedisTaskQueue::new(redis, Arc::new(SystemClock), RedisQueueOptions::default())
}

#[async_trait]
impl Harness for Server {
    async fn open(&self, limits: Limits) -> Arc<dyn TaskQueue> {
        self.open_inspected(limits).await
    }

    fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }
}

#[async_trait]
impl InspectHarness for Server {
    async fn open_inspected(&self, limits: Limits) -> Arc<dyn Inspected> {
        match self.redis(limits) {
            Some(queue) => Arc::new(queue),
            None => Arc::new(self.memory(limits)),
        }
    }
}

#[async_trait]
impl GroupsHarness for Server {
    async fn open_grouped(&self, limits: Limits) -> Arc<dyn Grouped> {
        match self.redis(limits) {
            Some(queue) => Arc::new(queue),
            None => Arc::new(self.memory(limits)),
        }
    }
}

impl Server {
    fn redis(&self, limits: Limits) -> Option<RedisTaskQueue> {
        let options = RedisQueueOptions {
            tasks_max: limits.tasks_max.into(),
            dead_max: limits.dead_max.into(),
            clock: QueueClock::Given,
        };
        let redis = connect(&self.server.as_ref()?.url());
        Some(RedisTaskQueue::new(redis, self.clock(), options))
    }

    /// Without a server, which is said on stderr: the suite is signed by the one that it was written with.
    fn memory(&self, limits: Limits) -> MemoryTaskQueue {
        let options = MemoryQueueOptions {
            tasks_max: limits.tasks_max.into(),
            dead_max: limits.dead_max.into(),
            ..MemoryQueueOptions::default()
        };
        MemoryTaskQueue::new(self.clock(), options)
    }
}

zmsg_queue::task_queue_conformance!(Server::start());
zmsg_queue::task_inspector_conformance!(Server::start());
zmsg_queue::task_groups_conformance!(Server::start());

const LEASE: Duration = Duration::from_secs(30);

/// A queue by the clock of a server that keeps what it is told, and a connection beside it.
fn kept() -> Option<(PrivateRedis, Redis, RedisTaskQueue)> {
    let options = PrivateOptions::new().directive("appendonly yes").directive("appendfsync always");
    let server = PrivateRedis::start(options)?;
    let redis = connect(&server.url());
    let queue =
        RedisTaskQueue::new(redis.clone(), Arc::new(SystemClock), RedisQueueOptions::default());
    Some((server, redis, queue))
}

fn tasks(count: usize) -> Vec<NewTask> {
    (0..count).map(|n| NewTask::new(TaskId::generate(), "save", format!("{n}"))).collect()
}

#[tokio::test]
async fn a_redis_that_forgot_the_scripts_is_told_them_again() {
    let Some((_server, redis, queue)) = kept() else { return };
    for task in tasks(3) {
        let _: () = redis.query(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
        queue.enqueue(task).await.unwrap();
        let _: () = redis.query(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
        let leased = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
        let _: () = redis.query(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
        assert!(queue.complete(&leased).await.unwrap());
    }
}

#[tokio::test]
async fn a_redis_that_was_emptied_is_an_empty_queue_that_tools_see_again() {
    let Some((_server, redis, queue)) = kept() else { return };
    queue.enqueue_all(tasks(3)).await.unwrap();
    let leased = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
    let _: () = redis.query(&cmd("FLUSHALL")).await.unwrap();
    assert!(!queue.complete(&leased).await.unwrap(), "it is no longer ours");
    assert!(!queue.bury(&leased, &Error::invalid_input("no")).await.unwrap());
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    assert_eq!(queue.next_due("default").await.unwrap(), None);
    queue.enqueue_all(tasks(2)).await.unwrap();
    let names: Vec<String> = redis.query(cmd("SMEMBERS").arg("asynq:queues")).await.unwrap();
    assert_eq!(names, ["default"]);
    assert_eq!(queue.lease("default", 9, LEASE).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_leases_survive_a_redis_that_is_killed_and_keeps_its_log() {
    let Some((server, _redis, queue)) = kept() else { return };
    let all = tasks(20);
    queue.enqueue_all(all.clone()).await.unwrap();
    let leased = queue.lease("default", 5, LEASE).await.unwrap();
    let restarted = tokio::task::spawn_blocking(move || {
        server.kill();
        server.restart();
        server
    });
    let _server = restarted.await.unwrap();
    let back = async {
        while queue.stats("default").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LEASE, back).await.expect("it is back");
    for task in &leased {
        assert_eq!(queue.state(task.id).await.unwrap(), Some(TaskState::Leased));
        assert!(queue.complete(task).await.unwrap());
    }
    let rest = queue.lease("default", 99, LEASE).await.unwrap();
    let seen: BTreeSet<_> = leased.iter().chain(&rest).map(|task| task.id).collect();
    assert_eq!(seen, all.iter().map(|task| task.id).collect());
    assert_eq!(queue.enqueue(all[19].clone()).await.unwrap(), Enqueued::Duplicate);
}

#[tokio::test]
async fn tasks_of_one_call_go_to_one_queue_whose_name_has_no_braces() {
    let Some((_server, _redis, queue)) = kept() else { return };
    let mixed = tasks(2).into_iter().zip(["a", "b"]).map(|(task, name)| task.queue(name)).collect();
    assert_eq!(queue.enqueue_all(mixed).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let task = tasks(1).remove(0).queue("a}b");
    assert_eq!(queue.enqueue(task).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_task_that_is_no_message_is_a_dead_letter_and_holds_up_no_other() {
    let Some((_server, redis, queue)) = kept() else { return };
    let all = tasks(2);
    queue.enqueue_all(all.clone()).await.unwrap();
    let key = format!("asynq:{{default}}:t:{}", all[0].id.0);
    let _: u64 = redis.query(cmd("HSET").arg(key).arg("msg").arg("\u{1}\u{2}")).await.unwrap();
    let leased = queue.lease("default", 9, LEASE).await.unwrap();
    assert_eq!(leased.iter().map(|task| task.id).collect::<Vec<_>>(), [all[1].id]);
    let dead = queue.dead_letters(None, None, 9).await.unwrap();
    assert_eq!((dead[0].id, dead[0].kind.as_str()), (all[0].id, "unreadable"));
    assert_eq!(&dead[0].payload[..], b"\x01\x02");
}

#[tokio::test]
async fn a_queue_that_asynq_paused_hands_out_nothing_until_it_goes_on() {
    let Some((_server, redis, queue)) = kept() else { return };
    queue.enqueue_all(tasks(2)).await.unwrap();
    let _: () = redis.query(cmd("SET").arg("asynq:{default}:paused").arg(1)).await.unwrap();
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    let _: u64 = redis.query(cmd("DEL").arg("asynq:{default}:paused")).await.unwrap();
    assert_eq!(queue.lease("default", 9, LEASE).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_late_worker_cannot_end_what_a_worker_of_asynq_has() {
    let Some((_server, redis, queue)) = kept() else { return };
    queue.enqueue_all(tasks(1)).await.unwrap();
    let late = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
    // What is left when asynq has given the task back after the lease and taken it again.
    let key = format!("asynq:{{default}}:t:{}", late.id.0);
    let _: u64 = redis.query(cmd("HDEL").arg(&key).arg("pending_since")).await.unwrap();
    let (due, cause) = (SystemClock.wall(), Error::invalid_input("late"));
    assert!(!queue.extend(&late, LEASE).await.unwrap());
    assert!(!queue.complete(&late).await.unwrap());
    assert!(!queue.retry(&late, due, &cause, true).await.unwrap());
    assert!(!queue.bury(&late, &cause).await.unwrap());
    assert_eq!(queue.state(late.id).await.unwrap(), Some(TaskState::Leased));
}
