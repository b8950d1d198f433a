//! Groups of tasks in Redis: what is in which key, who may take what away, and aggregators that are killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock as _, ErrorKind, ManualClock, Result, SystemClock, TaskId};
use zmsg_queue::{
    ClosedGroup, Enqueued, GroupAggregator, GroupMember, GroupRules, GroupWorker,
    GroupWorkerOptions, NewTask, QueueClock, RedisQueueOptions, RedisTaskQueue, Stage, TaskGroups,
    TaskInspector as _, TaskQueue,
};
use zmsg_redis::Redis;
use zmsg_redis::redis::{FromRedisValue, cmd};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use super::{LEASE, connect, kept, queue_over};
use crate::groups::Joins;
use crate::killed::{Process, end_with_the_parent};

const WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);
const HOUR: Duration = Duration::from_secs(3_600);

/// What a child aggregates; without it, the child's test has nothing to do.
const REDIS: &str = "ZMSG_QUEUE_CHILD_GROUPS";
/// The children whose aggregators were called, by their process ids.
const STARTED: &str = "test:started";

pub(super) fn at_once() -> GroupRules {
    GroupRules { size_max: 1_000, grace: Duration::ZERO, delay_max: None }
}

fn member(payload: String) -> NewTask {
    NewTask::new(TaskId::generate(), "greet", payload).group("mail")
}

fn aggregate() -> NewTask {
    NewTask::new(TaskId::generate(), "digest", "all")
}

pub(super) async fn ask<T: FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    let mut ask = cmd(words[0]);
    words[1..].iter().for_each(|word| _ = ask.arg(*word));
    redis.query(&ask).await.unwrap()
}

/// A queue by a clock of the test's, and a connection beside it.
fn timed() -> Option<(PrivateRedis, Redis, RedisTaskQueue, Arc<ManualClock>)> {
    let server = PrivateRedis::start(PrivateOptions::new())?;
    let (redis, clock) = (connect(&server.url()), Arc::new(ManualClock::new(1_000_500)));
    let options =
        RedisQueueOptions { clock: QueueClock::Given, tasks_max: 20, ..Default::default() };
    let queue = RedisTaskQueue::new(redis.clone(), clock.clone(), options);
    Some((server, redis, queue, clock))
}

async fn close(queue: &RedisTaskQueue, rules: &GroupRules) -> Option<ClosedGroup> {
    queue.close_group("default", "mail", rules, LEASE).await.unwrap()
}

#[tokio::test]
async fn a_group_stands_where_asynq_looks_for_it() {
    let Some((_server, redis, queue, clock)) = timed() else { return };
    let task = member("a".into()).unique_for(HOUR);
    let id = task.id.0.to_string();
    queue.enqueue(task).await.unwrap();
    assert_eq!(queue.enqueue(member("a".into()).unique_for(HOUR)).await.unwrap(), Enqueued::Locked);
    let key = format!("asynq:{{default}}:t:{id}");
    let fields: Vec<String> = ask(&redis, &["HMGET", &key, "state", "group"]).await;
    assert_eq!(fields, ["aggregating", "mail"]);
    let message: Vec<u8> = ask(&redis, &["HGET", &key, "msg"]).await;
    assert!(message.windows(6).any(|it| it == b"\x72\x04mail"), "field 14: {message:?}");
    let names: Vec<String> = ask(&redis, &["SMEMBERS", "asynq:{default}:groups"]).await;
    assert_eq!(names, ["mail"]);
    // Whole seconds, and not before the task came.
    let members: Vec<(String, String)> =
        ask(&redis, &["ZRANGE", "asynq:{default}:g:mail", "0", "-1", "WITHSCORES"]).await;
    assert_eq!(members, [(id.clone(), "1001".to_owned())]);

    clock.advance(500);
    let closed = close(&queue, &at_once()).await.unwrap();
    let set = format!("asynq:{{default}}:g:mail:{}", closed.set);
    let sets: Vec<(String, String)> =
        ask(&redis, &["ZRANGE", "asynq:{default}:aggregation_sets", "0", "-1", "WITHSCORES"]).await;
    assert_eq!(sets, [(set.clone(), "1031".to_owned())]);
    assert_eq!(ask::<Vec<String>>(&redis, &["ZRANGE", &set, "0", "-1"]).await, [id]);
    assert!(queue.settle_group(&closed, aggregate()).await.unwrap());
    let mut left: Vec<String> = ask(&redis, &["KEYS", "*"]).await;
    left.retain(|key| !key.contains(":t:") && !key.contains(":unique:"));
    left.sort();
    assert_eq!(left, ["asynq:queues", "asynq:{default}:pending", "zmsg:{default}:due"]);
    assert_eq!(
        queue.enqueue(member("a".into()).unique_for(HOUR)).await.unwrap(),
        Enqueued::Locked,
        "the lock stays for its time, as asynq keeps it"
    );
}

#[tokio::test]
async fn names_that_a_worker_of_asynq_has_left_out_are_there_again() {
    let Some((_server, redis, queue, clock)) = timed() else { return };
    let task = member("later".into()).due(clock.wall() + 5_000);
    let id = task.id.0.to_string();
    queue.enqueue(task).await.unwrap();
    // As asynq's forwarder does it.
    clock.advance(6_000);
    let moved: u64 = ask(&redis, &["ZREM", "asynq:{default}:scheduled", &id]).await;
    assert_eq!(moved, 1);
    let _: u64 = ask(&redis, &["ZADD", "asynq:{default}:g:mail", "1006", &id]).await;
    let key = format!("asynq:{{default}}:t:{id}");
    let _: u64 = ask(&redis, &["HSET", &key, "state", "aggregating"]).await;
    assert!(queue.groups("default").await.unwrap().is_empty(), "nobody would find it");
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    assert_eq!(queue.groups("default").await.unwrap().len(), 1);
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    clock.advance(1_000);
    assert_eq!(close(&queue, &at_once()).await.unwrap().members.len(), 1);
}

#[tokio::test]
async fn a_member_that_is_gone_or_cannot_be_read_keeps_no_other_from_its_aggregate() {
    let Some((_server, redis, queue, clock)) = timed() else { return };
    let tasks: Vec<_> = (0..3).map(|n| member(n.to_string())).collect();
    queue.enqueue_all(tasks.clone()).await.unwrap();
    let key = |at: usize| format!("asynq:{{default}}:t:{}", tasks[at].id.0);
    let _: u64 = ask(&redis, &["DEL", &key(0)]).await;
    let _: u64 = ask(&redis, &["HSET", &key(1), "msg", "\u{1}\u{2}"]).await;
    clock.advance(1_000);
    let closed = close(&queue, &at_once()).await.unwrap();
    assert_eq!(closed.members.iter().map(|it| it.id).collect::<Vec<_>>(), [tasks[2].id]);
    let dead = queue.dead_letters(None, None, 9).await.unwrap();
    assert_eq!((dead.len(), dead[0].id), (1, tasks[1].id));
    assert_eq!(&dead[0].payload[..], b"\x01\x02");
    assert!(queue.settle_group(&closed, aggregate()).await.unwrap());
    // One of nothing but such leaves nothing behind.
    let last = member("last".into());
    queue.enqueue(last.clone()).await.unwrap();
    let _: u64 = ask(&redis, &["DEL", &format!("asynq:{{default}}:t:{}", last.id.0)]).await;
    clock.advance(1_000);
    assert!(close(&queue, &at_once()).await.is_none());
    assert_eq!(ask::<u64>(&redis, &["EXISTS", "asynq:{default}:aggregation_sets"]).await, 0);
    assert_eq!(queue.stats("default").await.unwrap().pending, 1, "the aggregate");
}

#[tokio::test]
async fn tasks_that_others_have_aggregated_take_no_room() {
    let Some((_server, redis, queue, _)) = timed() else { return };
    for _ in 0..5 {
        let tasks: Vec<_> = (0..20).map(|n| member(n.to_string())).collect();
        queue.enqueue_all(tasks.clone()).await.unwrap();
        let error = queue.enqueue(member("too many".into())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        // What is left when asynq has aggregated them.
        for task in &tasks {
            let _: u64 = ask(&redis, &["DEL", &format!("asynq:{{default}}:t:{}", task.id.0)]).await;
        }
        let _: u64 = ask(&redis, &["DEL", "asynq:{default}:g:mail"]).await;
    }
}

#[tokio::test]
async fn a_group_that_only_others_aggregate_leaves_no_name() {
    let Some((_server, redis, queue, _)) = timed() else { return };
    let of = |group: &str, n: usize| member(n.to_string()).group(group);
    queue.enqueue_all((0..19).map(|n| of(&format!("of {n}"), n)).collect()).await.unwrap();
    queue.enqueue(of("waits", 19)).await.unwrap();
    // An aggregator of asynq has closed all but one: it takes their names away, and a sweep that comes before it
    // is done puts them back.
    for n in 0..19 {
        let group = format!("asynq:{{default}}:g:of {n}");
        let _: String = ask(&redis, &["RENAME", &group, &format!("{group}:{n}")]).await;
    }
    queue.enqueue(of("waits", 20)).await.unwrap_err();
    let names: Vec<String> = ask(&redis, &["SMEMBERS", "asynq:{default}:groups"]).await;
    assert_eq!(names, ["waits"]);
}

#[tokio::test]
async fn a_large_set_of_an_aggregator_of_asynq_is_put_back_whole() {
    let Some((_server, redis, queue, clock)) = timed() else { return };
    let set = "asynq:{default}:g:mail:5f0c5ac5-e1a3-4d46-9a3c-3f9d6a1d0c55";
    let mut add = cmd("ZADD");
    add.arg(set);
    (0..2_500).for_each(|n| _ = add.arg(1_000).arg(format!("task:{n}")));
    let _: u64 = redis.query(&add).await.unwrap();
    let _: u64 = ask(&redis, &["ZADD", "asynq:{default}:aggregation_sets", "1002", set]).await;
    assert_eq!(queue.reopen_overdue("default").await.unwrap(), 0, "its aggregator has it");
    clock.advance(2_000);
    assert_eq!(queue.reopen_overdue("default").await.unwrap(), 1);
    let groups = queue.groups("default").await.unwrap();
    assert_eq!((groups[0].group.as_str(), groups[0].tasks), ("mail", 2_500));
    assert_eq!(ask::<u64>(&redis, &["EXISTS", set]).await, 0);
}

#[tokio::test]
async fn a_thousand_members_are_aggregated_at_once() {
    let Some((_server, _redis, queue)) = kept() else { return };
    let soon = SystemClock.wall() + 50;
    let tasks: Vec<_> = (0..1_500).map(|n| member(n.to_string()).due(soon)).collect();
    for tasks in tasks.chunks(500) {
        queue.enqueue_all(tasks.to_vec()).await.unwrap();
    }
    let rules = GroupRules { grace: HOUR, ..GroupRules::default() };
    let full = async {
        loop {
            assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty(), "they join");
            if let Some(closed) = close(&queue, &rules).await {
                return closed;
            }
        }
    };
    let closed = timeout(WITHIN, full).await.unwrap();
    assert_eq!(closed.members.len(), GroupRules::SIZE_MAX);
    assert!(queue.settle_group(&closed, aggregate()).await.unwrap());
    let ids: BTreeSet<_> = closed.members.iter().map(|member| member.id).collect();
    let left = tasks.iter().filter(|task| !ids.contains(&task.id));
    let is_left = async |id| queue.task(None, id).await.unwrap().is_some();
    assert!(is_left(left.last().unwrap().id).await && !is_left(*ids.first().unwrap()).await);
    let stats = queue.stats("default").await.unwrap();
    assert_eq!((stats.pending, stats.due > 0), (501, true), "{stats:?}");
}

/// An aggregator that never answers, and says that it was called.
#[derive(Debug)]
struct Hangs(Redis);

#[async_trait]
impl GroupAggregator for Hangs {
    async fn aggregate(&self, _group: &str, _members: &[GroupMember]) -> Result<NewTask> {
        let id = std::process::id().to_string();
        let _: u64 = ask(&self.0, &["SADD", STARTED, &id]).await;
        std::future::pending().await
    }
}

fn options(lease: Duration) -> GroupWorkerOptions {
    let poll_max = Duration::from_millis(50);
    GroupWorkerOptions { rules: at_once(), lease, poll_max, ..GroupWorkerOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_aggregator_had_is_aggregated_once_by_another() {
    let Some(server) = PrivateRedis::start(PrivateOptions::new()) else { return };
    let (redis, url) = (connect(&server.url()), server.url());
    let queue = Arc::new(queue_over(redis.clone()));
    let payloads: BTreeSet<String> = (0..40).map(|n| n.to_string()).collect();
    let tasks = payloads.iter().map(|payload| member(payload.clone())).collect();
    queue.enqueue_all(tasks).await.unwrap();
    for _ in 0..3 {
        let child = Process::start("redis::groups::hangs_until_it_is_killed", &[(REDIS, &url)]);
        let id = child.id().to_string();
        let called = async {
            while !ask::<bool>(&redis, &["SISMEMBER", STARTED, &id]).await {
                sleep(LOOK).await;
            }
        };
        timeout(WITHIN, called).await.expect("it closes the group");
        drop(child);
        assert_eq!(queue.stats("default").await.unwrap().pending, 40, "none is lost");
    }
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let worker = GroupWorker::new(queue.clone(), Joins::always(), tracker.clone(), options(LEASE));
    let running = tracker.spawn(worker.run(shutdown.clone()));
    let aggregated = async {
        loop {
            if let Some(task) = queue.lease("default", 9, LEASE).await.unwrap().pop() {
                return task;
            }
            sleep(LOOK).await;
        }
    };
    let task = timeout(WITHIN, aggregated).await.expect("at the deadline of the set");
    shutdown.cancel();
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.aggregates, report.members), (1, 40), "{report:?}");
    let payload = String::from_utf8(task.payload.to_vec()).unwrap();
    let joined: BTreeSet<_> =
        payload.strip_prefix("mail: ").unwrap().split(' ').map(str::to_owned).collect();
    assert_eq!(joined, payloads);
    assert!(queue.tasks("default", Stage::Aggregating, None, 9).await.unwrap().is_empty());
}

/// A child: closes groups, and is killed before it settles any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hangs_until_it_is_killed() {
    let Ok(url) = std::env::var(REDIS) else { return };
    let (redis, tracker) = (connect(&url), TaskTracker::new());
    let (queue, aggregator) = (Arc::new(queue_over(redis.clone())), Arc::new(Hangs(redis)));
    let options = options(Duration::from_secs(1));
    let worker = GroupWorker::new(queue, aggregator, tracker.clone(), options);
    tracker.spawn(worker.run(CancellationToken::new()));
    end_with_the_parent().await;
}
