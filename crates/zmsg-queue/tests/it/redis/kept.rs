//! Tasks that are unique, tasks that are kept, and what is left of tasks that others made away with.

use std::sync::Arc;
use std::time::Duration;

use zmsg_core::{Clock as _, Error, ErrorKind, ManualClock, SystemClock, TaskId};
use zmsg_queue::{
    Enqueued, MemoryQueueOptions, MemoryTaskQueue, NewTask, OnDead, QueueClock, RedisQueueOptions,
    RedisTaskQueue, TaskQueue,
};
use zmsg_redis::Redis;
use zmsg_redis::redis::cmd;
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use super::{LEASE, connect, kept, tasks};

const HOUR: Duration = Duration::from_secs(3_600);

fn like(payload: &'static str) -> NewTask {
    NewTask::new(TaskId::generate(), "greet", payload).unique_for(HOUR)
}

/// A queue by a clock of the test's own.
fn by_hand() -> Option<(PrivateRedis, Redis, RedisTaskQueue, Arc<ManualClock>)> {
    let server = PrivateRedis::start(PrivateOptions::new())?;
    let (redis, clock) = (connect(&server.url()), Arc::new(ManualClock::new(1_000_000)));
    let options = RedisQueueOptions { clock: QueueClock::Given, ..RedisQueueOptions::default() };
    let queue = RedisTaskQueue::new(redis.clone(), clock.clone(), options);
    Some((server, redis, queue, clock))
}

#[tokio::test]
async fn a_unique_task_refuses_others_like_it_until_it_is_completed() {
    let Some((_server, redis, queue)) = kept() else { return };
    let first = like("a");
    assert_eq!(queue.enqueue(first.clone()).await.unwrap(), Enqueued::Accepted);
    // One of the same id is that one; one like it is refused; one that says nothing of it is not.
    assert_eq!(queue.enqueue(first).await.unwrap(), Enqueued::Duplicate);
    assert_eq!(queue.enqueue(like("a")).await.unwrap(), Enqueued::Locked);
    let plain = NewTask::new(TaskId::generate(), "greet", "a");
    let together = vec![like("b"), like("a"), like("b"), plain, like("a").queue("default")];
    let answers = queue.enqueue_all(together).await.unwrap();
    use Enqueued::{Accepted, Locked};
    assert_eq!(answers, [Accepted, Locked, Locked, Accepted, Locked]);
    for task in queue.lease("default", 9, LEASE).await.unwrap() {
        assert_eq!(queue.enqueue(like("b")).await.unwrap(), Locked, "while a worker has it");
        let now = SystemClock.wall();
        let cause = Error::new(ErrorKind::Timeout, "slow");
        assert!(queue.retry(&task, now, &cause, true).await.unwrap());
    }
    for task in queue.lease("default", 9, LEASE).await.unwrap() {
        assert!(queue.complete(&task).await.unwrap());
    }
    let locks: Vec<String> = redis.query(cmd("KEYS").arg("*unique*")).await.unwrap();
    assert!(locks.is_empty(), "{locks:?}");
    assert_eq!(queue.enqueue(like("a")).await.unwrap(), Accepted);
}

#[tokio::test]
async fn a_lock_lasts_from_when_its_task_is_due() {
    let Some((_server, redis, queue)) = kept() else { return };
    let due = SystemClock.wall() + 60_000;
    queue.enqueue(like("a").due(due)).await.unwrap();
    let keys: Vec<String> = redis.query(cmd("KEYS").arg("*unique*")).await.unwrap();
    let left: u64 = redis.query(cmd("PTTL").arg(&keys)).await.unwrap();
    assert!((3_600_000..=3_660_000).contains(&left), "{left}");
    assert!(left > 3_640_000, "{left}");
}

#[tokio::test]
async fn only_a_queue_in_redis_takes_tasks_that_are_unique_or_kept() {
    let options = MemoryQueueOptions::default();
    let queue = MemoryTaskQueue::new(Arc::new(SystemClock), options);
    for task in [like("a"), NewTask::new(TaskId::generate(), "greet", "a").retention(HOUR)] {
        let error = queue.enqueue(task.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let error = queue.enqueue_all(vec![task]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[tokio::test]
async fn a_task_with_a_retention_is_kept_with_its_result_until_its_time() {
    let Some((_server, redis, queue, clock)) = by_hand() else { return };
    let task = NewTask::new(TaskId::generate(), "report", "x").retention(HOUR);
    queue.enqueue(task.clone()).await.unwrap();
    let leased = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
    assert_eq!(leased.retention, Some(HOUR));
    assert!(queue.set_result(&leased, b"42 pages").await.unwrap());
    assert!(queue.complete(&leased).await.unwrap());
    assert!(!queue.set_result(&leased, b"late").await.unwrap());
    assert_eq!(queue.state(task.id).await.unwrap(), None);
    assert_eq!(queue.enqueue(task.clone()).await.unwrap(), Enqueued::Duplicate);
    for (advance, expected) in [(3_599_000, Some("42 pages")), (1_000, None)] {
        clock.advance(advance);
        assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
        let result = queue.result("default", task.id).await.unwrap();
        assert_eq!(result.as_deref(), expected.map(str::as_bytes));
    }
    let left: Vec<String> = redis.query(cmd("KEYS").arg("*:t:*")).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(queue.enqueue(task).await.unwrap(), Enqueued::Accepted);
}

#[tokio::test]
async fn tasks_that_only_workers_of_asynq_take_leave_little_behind() {
    let Some((_server, redis, queue)) = kept() else { return };
    let later = tasks(20).into_iter().map(|task| task.due(SystemClock.wall() + 3_600_000));
    queue.enqueue_all(later.collect()).await.unwrap();
    for _ in 0..40 {
        queue.enqueue_all(tasks(50)).await.unwrap();
        // As its workers take tasks and forget them.
        let ids: Vec<String> =
            redis.query(cmd("RPOP").arg("asynq:{default}:pending").arg(50)).await.unwrap();
        let keys: Vec<String> = ids.iter().map(|id| format!("asynq:{{default}}:t:{id}")).collect();
        let _: u64 = redis.query(cmd("DEL").arg(keys)).await.unwrap();
    }
    let entries: u64 = redis.query(cmd("ZCARD").arg("zmsg:{default}:due")).await.unwrap();
    assert!(entries <= 20 + 64 + 4 * 50, "{entries} of 2,020");
    // What waits is not swept.
    let mut alive: Vec<String> =
        redis.query(cmd("ZRANGE").arg("asynq:{default}:scheduled").arg(0).arg(-1)).await.unwrap();
    assert_eq!(alive.len(), 20);
    for id in alive.drain(..) {
        let due: Option<u64> =
            redis.query(cmd("ZSCORE").arg("zmsg:{default}:due").arg(id)).await.unwrap();
        assert!(due.is_some());
    }
}

/// Takes a task away as asynq's inspector does, which knows of no lanes.
async fn make_away(redis: &Redis, id: TaskId) {
    let text = id.0.to_string();
    for set in ["archived", "scheduled", "retry"] {
        let key = format!("asynq:{{default}}:{set}");
        let _: u64 = redis.query(cmd("ZREM").arg(key).arg(&text)).await.unwrap();
    }
    let key = format!("asynq:{{default}}:t:{text}");
    let gone: u64 = redis.query(cmd("DEL").arg(key)).await.unwrap();
    assert_eq!(gone, 1);
}

#[tokio::test]
async fn a_lane_goes_on_when_tools_of_asynq_make_away_with_its_first_task() {
    let Some((_server, redis, queue)) = kept() else { return };
    let tasks: Vec<_> = tasks(4).into_iter().map(|task| task.ordered_by("a")).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    queue.enqueue_all(tasks).await.unwrap();
    // One that waits, one behind it, and one that is a dead letter, at which nobody looks.
    make_away(&redis, ids[0]).await;
    make_away(&redis, ids[1]).await;
    let next = async || {
        loop {
            if let Some(task) = queue.lease("default", 9, LEASE).await.unwrap().pop() {
                return task;
            }
        }
    };
    let third = tokio::time::timeout(LEASE, next()).await.expect("it goes on");
    assert_eq!(third.id, ids[2]);
    assert!(queue.bury(&third, &Error::invalid_input("no")).await.unwrap());
    assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    make_away(&redis, ids[2]).await;
    let fourth = tokio::time::timeout(LEASE, next()).await.expect("it goes on");
    assert_eq!(fourth.id, ids[3]);
    assert!(queue.complete(&fourth).await.unwrap());
    let left: Vec<String> = redis.query(cmd("KEYS").arg("zmsg:{default}:*")).await.unwrap();
    assert_eq!(left, ["zmsg:{default}:numbers"], "nothing is left of the lane");
}

#[tokio::test]
async fn a_lane_is_no_business_of_workers_of_asynq() {
    let Some((_server, redis, queue)) = kept() else { return };
    let tasks: Vec<_> =
        tasks(3).into_iter().map(|task| task.ordered_by("a").on_dead(OnDead::Skip)).collect();
    queue.enqueue_all(tasks).await.unwrap();
    let task = queue.lease("default", 9, LEASE).await.unwrap().remove(0);
    assert!(queue.extend(&task, LEASE).await.unwrap());
    let now = SystemClock.wall();
    let cause = Error::new(ErrorKind::Timeout, "slow");
    assert!(queue.retry(&task, now, &cause, true).await.unwrap());
    // Neither what they take from, nor what they take for left, has any of it within their time.
    let lists: u64 = redis.query(cmd("LLEN").arg("asynq:{default}:pending")).await.unwrap();
    assert_eq!(lists, 0);
    for set in ["scheduled", "retry", "lease"] {
        let mut count = cmd("ZCOUNT");
        count.arg(format!("asynq:{{default}}:{set}")).arg("-inf").arg(4_000_000_000_u64);
        let soon: u64 = redis.query(&count).await.unwrap();
        assert_eq!(soon, 0, "{set}");
    }
}
