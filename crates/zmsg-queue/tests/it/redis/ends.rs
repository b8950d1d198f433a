//! Completions that come at the same time: they go together, and each has its own answer.

use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;
use zmsg_core::{ErrorKind, TaskId};
use zmsg_queue::{LeasedTask, NewTask, RedisTaskQueue, TaskQueue};
use zmsg_redis::Redis;
use zmsg_redis::redis::cmd;

use super::lost::polled;
use super::{LEASE, kept, tasks};

async fn lease(queue: &RedisTaskQueue, tasks: Vec<NewTask>) -> Vec<LeasedTask> {
    let count = tasks.len();
    queue.enqueue_all(tasks).await.unwrap();
    let leased = queue.lease("default", count, LEASE).await.unwrap();
    assert_eq!(leased.len(), count);
    leased
}

async fn complete_all(queue: &RedisTaskQueue, tasks: &[LeasedTask]) -> Vec<bool> {
    let answers = join_all(tasks.iter().map(|task| queue.complete(task))).await;
    answers.into_iter().map(Result::unwrap).collect()
}

/// How many scripts Redis has run.
async fn scripts(redis: &Redis) -> u64 {
    let info: String = redis.query(cmd("INFO").arg("commandstats")).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.unwrap().split(',').next().unwrap().parse().unwrap()
}

async fn keys(redis: &Redis) -> Vec<String> {
    let mut keys: Vec<String> = redis.query(cmd("KEYS").arg("*")).await.unwrap();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn completions_that_come_together_go_in_a_few_scripts_and_leave_nothing() {
    let Some((_server, redis, queue)) = kept() else { return };
    // So that the script is known.
    let first = lease(&queue, tasks(1)).await;
    assert_eq!(complete_all(&queue, &first).await, [true]);
    let leased = lease(&queue, tasks(200)).await;
    let before = scripts(&redis).await;
    assert_eq!(complete_all(&queue, &leased).await, [true; 200]);
    assert_eq!(scripts(&redis).await - before, 4, "as many in each as one script takes");
    assert_eq!(complete_all(&queue, &leased).await, [false; 200]);
    let left = keys(&redis).await;
    assert!(left.iter().all(|key| key.contains("processed") || key == "asynq:queues"), "{left:?}");
    for key in left.iter().filter(|key| key.contains("processed")) {
        let count: u64 = redis.query(cmd("GET").arg(key)).await.unwrap();
        let life: i64 = redis.query(cmd("TTL").arg(key)).await.unwrap();
        assert_eq!((count, life > 0), (201, key.contains(":processed:")), "{key}");
    }
}

#[tokio::test]
async fn each_of_those_that_end_together_has_its_own_answer() {
    let Some((_server, redis, queue)) = kept() else { return };
    let mut all = tasks(4);
    all[1] = NewTask::new(TaskId::generate(), "greet", "a").unique_for(Duration::from_secs(3_600));
    let mut leased = lease(&queue, all).await;
    leased[0].attempt += 1;
    leased.push(leased[2].clone());
    let answers = complete_all(&queue, &leased).await;
    assert_eq!(answers, [false, true, true, true, false], "one that was another's, one twice");
    let locks: Vec<String> = redis.query(cmd("KEYS").arg("*unique*")).await.unwrap();
    assert!(locks.is_empty(), "{locks:?}");
    leased[0].attempt -= 1;
    assert!(queue.complete(&leased[0]).await.unwrap());
}

#[tokio::test]
async fn a_task_whose_key_is_of_another_type_keeps_no_other_from_its_end() {
    let Some((_server, redis, queue)) = kept() else { return };
    let leased = lease(&queue, tasks(9)).await;
    let spoiled = format!("asynq:{{default}}:t:{}", leased[4].id.0);
    let _: u64 = redis.query(cmd("DEL").arg(&spoiled)).await.unwrap();
    let _: () = redis.query(cmd("SET").arg(&spoiled).arg("of somebody else")).await.unwrap();
    let answers = join_all(leased.iter().map(|task| queue.complete(task))).await;
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            Err(error) if at == 4 => {
                assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
                assert!(!error.is_outcome_unknown());
            }
            answer => assert!(answer.unwrap() && at != 4, "{at}"),
        }
    }
}

#[tokio::test]
async fn a_user_without_the_right_to_count_ends_no_task_and_is_told() {
    let Some((_server, redis, queue)) = kept() else { return };
    let leased = lease(&queue, tasks(9)).await;
    let may_count = async |right: &str| {
        let mut set = cmd("ACL");
        set.arg("SETUSER").arg("default").arg(right);
        redis.query::<()>(&set).await.unwrap();
    };
    may_count("-incrby").await;
    for answer in join_all(leased.iter().map(|task| queue.complete(task))).await {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
    may_count("+incrby").await;
    assert_eq!(complete_all(&queue, &leased).await, [true; 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_that_nobody_polls_holds_up_no_other() {
    let Some((_server, _redis, queue)) = kept() else { return };
    let leased = lease(&queue, tasks(20)).await;
    let (some, mut others) = (&leased[..10], leased[10..].iter());
    let ends = async {
        let mut ends = stream::iter(some).map(|task| queue.complete(task)).buffer_unordered(3);
        while let Some(done) = ends.next().await {
            assert!(done.unwrap());
            // The stream is not polled while this waits.
            let other = others.next().unwrap();
            assert!(queue.complete(other).await.unwrap());
        }
    };
    timeout(LEASE, ends).await.expect("each has an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_may_be_dropped_at_any_poll_and_is_done_or_not() {
    let Some((_server, _redis, queue)) = kept() else { return };
    let (mut polls, mut dropped) = (1, 0);
    loop {
        let leased = lease(&queue, tasks(70)).await;
        let (first, others) = leased.split_first().unwrap();
        let both = join(polled(queue.complete(first), polls), complete_all(&queue, others));
        let (ended, done) = timeout(LEASE, both).await.expect("each has an answer");
        assert_eq!(done, [true; 69], "no other hears of it");
        let again = queue.complete(first).await.unwrap();
        assert_eq!(queue.state(first.id).await.unwrap(), None);
        if let Some(done) = ended {
            assert!(done.unwrap() && !again);
            break;
        }
        (polls, dropped) = (polls + 1, dropped + 1);
    }
    assert!(dropped >= 1, "a completion waits for an answer");
}
