//! Periodic tasks on a queue in Redis, and what asynq's tools see of them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock as _, SystemClock, TaskId};
use zmsg_queue::{
    Enqueued, Firing, NewTask, PeriodicTask, PeriodicTasks, RedisSchedulerPresence, Schedule,
    TaskQueue,
};
use zmsg_redis::redis::{cmd, pipe};

use super::go::{Other, connected};
use super::{LEASE, connect, kept, queue_over, tasks};
use crate::periodic::nodes::{fire_each_moment_once, is_full};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_one_redis_fire_each_moment_once() {
    let Some((server, _redis, _queue)) = kept() else { return };
    let node = || Arc::new(queue_over(connect(&server.url()))) as Arc<dyn TaskQueue>;
    fire_each_moment_once([node(), node()]).await;
}

#[tokio::test]
async fn a_redis_remembers_so_many_entries() {
    let Some((_server, redis, queue)) = kept() else { return };
    let mut fill = pipe();
    for n in 1..=Firing::ENTRIES_MAX {
        fill.cmd("ZADD").arg("zmsg:{default}:periodic").arg(5).arg(format!("entry {n}")).ignore();
    }
    let _: () = redis.pipeline(&fill).await.unwrap();
    is_full(&queue).await;
}

#[tokio::test]
async fn a_redis_that_was_emptied_fires_what_comes_next() {
    let Some((_server, redis, queue)) = kept() else { return };
    let now = SystemClock.wall();
    let firing = |moment| Firing::new("a", moment, tasks(1).remove(0));
    assert_eq!(queue.enqueue_firing(firing(now)).await.unwrap(), Enqueued::Accepted);
    let _: u64 = redis.query(cmd("DEL").arg("zmsg:{default}:periodic")).await.unwrap();
    let again = queue.enqueue_firing(firing(now)).await.unwrap();
    assert_eq!(again, Enqueued::Duplicate, "its task is there");
    assert_eq!(
        queue.last_firing("default", "a").await.unwrap(),
        Some(now),
        "and it is known again"
    );
    let _: () = redis.query(&cmd("FLUSHALL")).await.unwrap();
    assert_eq!(queue.last_firing("default", "a").await.unwrap(), None);
    assert_eq!(queue.enqueue_firing(firing(now + 1)).await.unwrap(), Enqueued::Accepted);
}

#[tokio::test]
async fn a_firing_that_another_task_locks_out_is_done() {
    let Some((_server, _redis, queue)) = kept() else { return };
    let now = SystemClock.wall();
    let firing = |moment| {
        let task = NewTask::new(TaskId::generate(), "save", "the same").unique_for(LEASE);
        Firing::new("a", moment, task)
    };
    assert_eq!(queue.enqueue_firing(firing(now)).await.unwrap(), Enqueued::Accepted);
    assert_eq!(queue.enqueue_firing(firing(now + 1)).await.unwrap(), Enqueued::Locked);
    let leased = queue.lease("default", 9, LEASE).await.unwrap();
    assert_eq!(leased.len(), 1);
    assert!(queue.complete(&leased[0]).await.unwrap());
    let again = queue.enqueue_firing(firing(now + 1)).await.unwrap();
    assert_eq!(again, Enqueued::Duplicate, "no node fires it after the lock has gone");
    assert_eq!(queue.enqueue_firing(firing(now + 2)).await.unwrap(), Enqueued::Accepted);
}

fn entries() -> [PeriodicTask; 2] {
    let every = |seconds| Schedule::every(Duration::from_secs(seconds)).unwrap();
    let often = PeriodicTask::new("often", every(1), |_| {
        NewTask::new(TaskId::generate(), "greet", "hello").attempts_max(5).timeout(LEASE)
    });
    let yearly = Schedule::cron("0 3 1 1 *").unwrap().in_zone("Europe/Berlin").unwrap();
    let yearly = PeriodicTask::new("yearly-report", yearly, |_| {
        NewTask::new(TaskId::generate(), "report", "all").queue("reports")
    });
    [often, yearly]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inspector_of_asynq_sees_schedules_and_what_they_enqueued() {
    let Some(other) = Other::start().await else { return };
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let queue = Arc::new(connected(&other.server));
    let periodic = PeriodicTasks::new(queue.clone(), Arc::new(SystemClock));
    let periodic = entries().into_iter().try_fold(periodic, PeriodicTasks::with).unwrap();
    let agenda = periodic.agenda();
    let presence = RedisSchedulerPresence::new(queue.clone(), &periodic, "here");
    let running = tracker.spawn(periodic.run(shutdown.clone()));
    let shown = tracker.spawn(presence.run(shutdown.clone()));

    let seen = async {
        loop {
            // The inspector's answer begins with the moments that come next, soonest first.
            let lines = other.run("schedulers", 0).await;
            if other.run_on("events", "often").await.len() >= 2 {
                return lines;
            }
        }
    };
    let lines = tokio::time::timeout(LEASE, seen).await.expect("they are shown");
    let yearly = agenda.entries()[1].next.unwrap() / 1_000;
    let often = r#"often @every 1s greet hello [Queue("default") MaxRetry(4) Timeout(30s)] fired"#;
    let report = r#"yearly-report CRON_TZ=Europe/Berlin 0 3 1 1 * report all [Queue("reports") MaxRetry(2)]"#;
    assert_eq!(lines, [often.to_owned(), format!("{report} never {yearly}")]);

    let events = other.run_on("events", "often").await;
    let leased = queue.lease("default", 99, LEASE).await.unwrap();
    for event in &events {
        let (id, at) = event.split_once(' ').unwrap();
        let task = leased.iter().find(|task| task.id.0.to_string() == id).expect(event);
        assert_eq!((task.created / 1_000).to_string(), at);
    }
    assert!(other.run_on("events", "yearly-report").await.is_empty());

    shutdown.cancel();
    running.await.unwrap().unwrap();
    shown.await.unwrap().unwrap();
    assert!(other.run("schedulers", 0).await.is_empty(), "they have said goodbye");
    let fired = agenda.entries()[0].fired;
    let kept = other.run_on("events", "often").await.len() as u64;
    assert_eq!(kept, fired, "what was enqueued is still to be seen");
}
