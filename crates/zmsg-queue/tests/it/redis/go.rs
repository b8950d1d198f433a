//! Go's asynq on the other side: its client, its worker and its inspector, where there is a Go toolchain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock as _, Error, ErrorKind, SystemClock, TaskId};
use zmsg_queue::{
    Act, Enqueued, LeasedTask, NewTask, RedisPresence, RedisQueueOptions, RedisTaskQueue,
    ServedQueue, Stage, TaskInspector, TaskQueue, Worker, WorkerOptions,
};
use zmsg_testbed::Requirement;
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use super::{LEASE, connect};
use crate::handler::Scripted;

/// The program, built once; `None`, and said so, without Go or without its modules.
fn program() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("interop");
        let mut go = Command::new("go");
        go.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/go"));
        let built = go.args(["build", "-o"]).arg(&target).arg(".").output();
        match built {
            Ok(output) if output.status.success() => Some(target),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Requirement::Go.leave_out(&format!("the modules of asynq cannot be had: {said}"));
                None
            }
            Err(error) => {
                Requirement::Go.leave_out(&format!("there is no Go on this machine: {error}"));
                None
            }
        }
    };
    BUILT.get_or_init(build).clone()
}

pub(super) fn connected(server: &PrivateRedis) -> RedisTaskQueue {
    let redis = connect(&server.url());
    RedisTaskQueue::new(redis, Arc::new(SystemClock), RedisQueueOptions::default())
}

pub(super) struct Other {
    pub(super) server: PrivateRedis,
    program: PathBuf,
    pub(super) queue: RedisTaskQueue,
}

impl Other {
    pub(super) async fn start() -> Option<Self> {
        let program = tokio::task::spawn_blocking(program).await.unwrap()?;
        let server = PrivateRedis::start(PrivateOptions::new())?;
        let redis = connect(&server.url());
        let queue = RedisTaskQueue::new(redis, Arc::new(SystemClock), RedisQueueOptions::default());
        Some(Self { server, program, queue })
    }

    /// Runs the program; its lines.
    pub(super) async fn run(&self, what: &'static str, count: usize) -> Vec<String> {
        self.run_on(what, &count.to_string()).await
    }

    pub(super) async fn run_on(&self, what: &'static str, on: &str) -> Vec<String> {
        let url = format!("{}/0", self.server.url().trim_end_matches('/'));
        let mut command = Command::new(&self.program);
        command.args([what, &url, "default", on]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {said}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// A connection of one's own.
    pub(super) fn redis(&self) -> zmsg_redis::Redis {
        connect(&self.server.url())
    }

    /// What asynq's inspector says of the queue.
    async fn inspect(&self) -> serde_json::Value {
        serde_json::from_str(&self.run("inspect", 0).await.concat()).unwrap()
    }

    /// Leases until so many tasks came.
    pub(super) async fn leased(&self, count: usize) -> Vec<LeasedTask> {
        let mut leased = Vec::new();
        let lease = async {
            while leased.len() < count {
                leased.extend(self.queue.lease("default", 9, LEASE).await.unwrap());
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LEASE, lease).await.expect("they are due");
        leased
    }
}

fn task(payload: &str) -> NewTask {
    NewTask::new(TaskId::generate(), "greet", payload.to_owned())
}

fn failure() -> Error {
    Error::new(ErrorKind::Timeout, "slow")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_asynq_enqueued_are_worked_here_whatever_their_ids() {
    let Some(other) = Other::start().await else { return };
    // The second time finds no id taken, and no lock: what was done is forgotten.
    for processed in [6, 12] {
        let ids = other.run("enqueue", 6).await;
        let leased = other.leased(6).await;
        let payloads: BTreeSet<_> = leased.iter().map(|task| task.payload.to_vec()).collect();
        assert_eq!(payloads, (0..6).map(|n| format!("go {n}").into_bytes()).collect());
        for task in &leased {
            assert_eq!((task.kind.as_str(), task.attempt, task.attempts_max), ("greet", 1, 3));
            assert!(other.queue.extend(task, LEASE).await.unwrap());
            assert!(other.queue.complete(task).await.unwrap());
        }
        let own = leased.iter().filter(|task| ids.contains(&task.id.0.to_string())).count();
        assert_eq!(own, 3, "those whose ids are UUIDs keep them");
        let seen = other.inspect().await;
        assert_eq!((&seen["pending"], &seen["scheduled"]), (&0.into(), &0.into()), "{seen}");
        assert_eq!(seen["processed"], processed, "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_were_enqueued_here_are_worked_by_asynq_when_they_are_due() {
    let Some(other) = Other::start().await else { return };
    let soon = SystemClock.wall() + 300;
    let tasks: Vec<_> = ["one", "two", "three"].map(task).into();
    let tasks: Vec<_> = tasks.into_iter().chain([task("later").due(soon)]).collect();
    other.queue.enqueue_all(tasks.clone()).await.unwrap();
    let mut worked = other.run("work", 4).await;
    assert!(SystemClock.wall() >= soon, "not before it is due");
    worked.sort();
    let shown =
        |task: &NewTask| format!("{} greet {}", task.id.0, String::from_utf8_lossy(&task.payload));
    let mut expected: Vec<_> = tasks.iter().map(shown).collect();
    expected.sort();
    assert_eq!(worked, expected);
    assert!(other.queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    let stats = other.queue.stats("default").await.unwrap();
    assert_eq!((stats.pending, stats.leased, stats.dead), (0, 0, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inspector_of_asynq_shows_every_state_of_a_task() {
    let Some(other) = Other::start().await else { return };
    let (queue, hour) = (&other.queue, SystemClock.wall() + 3_600_000);
    queue.enqueue_all(["a", "b", "c", "d"].map(task).into()).await.unwrap();
    queue.enqueue(task("later").due(hour)).await.unwrap();
    let leased = other.leased(4).await;
    assert!(queue.retry(&leased[0], hour, &failure(), true).await.unwrap());
    assert!(queue.bury(&leased[1], &failure()).await.unwrap());
    assert!(queue.complete(&leased[2]).await.unwrap());
    queue.enqueue(task("waits")).await.unwrap();
    let seen = other.inspect().await;
    let numbers: BTreeMap<_, _> =
        ["pending", "active", "scheduled", "retry", "archived", "processed", "failed"]
            .map(|name| (name, seen[name].as_i64().unwrap()))
            .into();
    let expected = BTreeMap::from([
        ("pending", 1),
        ("active", 1),
        ("scheduled", 1),
        ("retry", 1),
        ("archived", 1),
        ("processed", 3),
        ("failed", 2),
    ]);
    assert_eq!(numbers, expected, "{seen}");
    assert_eq!(seen["queues"], serde_json::json!(["default"]));
    assert_eq!(seen["listed"], serde_json::json!([1, 1, 1]), "each can be read");
    assert_eq!(seen["letters"], serde_json::json!([format!("{} slow", leased[1].id.0)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_asynq_spent_count_here_and_the_reverse() {
    let Some(other) = Other::start().await else { return };
    let id = TaskId::generate();
    other.queue.enqueue(NewTask { id, ..task("x") }.attempts_max(4)).await.unwrap();
    // The first fails here, the second there.
    let first = other.leased(1).await.remove(0);
    let now = SystemClock.wall();
    assert!(other.queue.retry(&first, now, &failure(), true).await.unwrap());
    other.run("fail", 1).await;
    let third = other.leased(1).await.remove(0);
    assert!(!third.is_last_attempt(), "{third:?}");
    assert!(!other.queue.complete(&first).await.unwrap(), "fenced");
    let now = SystemClock.wall();
    assert!(other.queue.retry(&third, now, &failure(), true).await.unwrap());
    let fourth = other.leased(1).await.remove(0);
    assert!(fourth.is_last_attempt(), "{fourth:?}");
    assert!(other.queue.complete(&fourth).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_unique_on_one_side_is_unique_on_the_other() {
    let Some(other) = Other::start().await else { return };
    let only = || task("only one").unique_for(std::time::Duration::from_secs(3_600));
    assert_eq!(other.queue.enqueue(only()).await.unwrap(), Enqueued::Accepted);
    assert_eq!(other.run("unique", 0).await, ["refused"]);
    let leased = other.leased(1).await.remove(0);
    assert!(other.queue.complete(&leased).await.unwrap());
    assert_eq!(other.run("unique", 0).await, ["accepted"]);
    assert_eq!(other.queue.enqueue(only()).await.unwrap(), Enqueued::Locked);
    let leased = other.leased(1).await.remove(0);
    assert!(other.queue.complete(&leased).await.unwrap());
    // A worker in Go gives the lock of a task back that came from here.
    assert_eq!(other.queue.enqueue(only()).await.unwrap(), Enqueued::Accepted);
    other.run("work", 1).await;
    assert_eq!(other.queue.enqueue(only()).await.unwrap(), Enqueued::Accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_to_be_kept_is_kept_with_its_result_whoever_enqueued_it() {
    let Some(other) = Other::start().await else { return };
    let theirs = other.run("keep", 0).await.remove(0);
    let ours = task("keep me").retention(std::time::Duration::from_secs(3_600));
    other.queue.enqueue(ours.clone()).await.unwrap();
    let mut expected = vec![format!("{theirs} done true"), format!("{} done true", ours.id.0)];
    for leased in other.leased(2).await {
        assert!(other.queue.set_result(&leased, b"done").await.unwrap());
        assert!(other.queue.complete(&leased).await.unwrap());
    }
    let mut seen = other.run("completed", 0).await;
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_either_side_is_one_of_both() {
    let Some(other) = Other::start().await else { return };
    other.queue.enqueue(task("x")).await.unwrap();
    assert_eq!(other.inspect().await["paused"], false);
    assert!(other.queue.pause("default").await.unwrap());
    assert_eq!(other.inspect().await["paused"], true);
    other.run("unpause", 0).await;
    assert!(!other.queue.is_paused("default").await.unwrap());
    other.run("pause", 0).await;
    assert!(!other.queue.pause("default").await.unwrap(), "it rests already");
    assert!(other.queue.summary("default").await.unwrap().paused);
    assert!(other.queue.lease("default", 9, LEASE).await.unwrap().is_empty());
    assert!(other.queue.resume("default").await.unwrap());
    assert_eq!(other.run("work", 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acts_of_either_side_are_seen_by_the_other() {
    let Some(other) = Other::start().await else { return };
    let (queue, hour) = (&other.queue, SystemClock.wall() + 3_600_000);
    let all = [task("a"), task("b").due(hour), task("c").due(hour)];
    queue.enqueue_all(all.to_vec()).await.unwrap();
    let [a, b, c] = all.map(|task| task.id);
    let numbers = |seen: &serde_json::Value| {
        ["pending", "scheduled", "archived"].map(|name| seen[name].as_i64().unwrap())
    };
    assert_eq!(numbers(&other.inspect().await), [1, 2, 0]);
    assert_eq!(queue.archive(None, a).await.unwrap(), Act::Done);
    assert_eq!(queue.run_now(None, b).await.unwrap(), Act::Done);
    assert_eq!(queue.delete(None, c).await.unwrap(), Act::Done);
    let seen = other.inspect().await;
    assert_eq!(numbers(&seen), [1, 0, 1], "{seen}");
    assert_eq!(seen["letters"], serde_json::json!([format!("{} archived by hand", a.0)]));

    other.run_on("run", &a.0.to_string()).await;
    other.run_on("archive", &b.0.to_string()).await;
    let stage = |id| async move { queue.task(None, id).await.unwrap().map(|task| task.stage) };
    assert_eq!((stage(a).await, stage(b).await), (Some(Stage::Pending), Some(Stage::Dead)));
    other.run_on("delete", &b.0.to_string()).await;
    assert_eq!(stage(b).await, None);
    assert_eq!(queue.delete(None, b).await.unwrap(), Act::Unknown);
    assert_eq!(other.leased(1).await[0].id, a);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_a_worker_of_asynq_holds_is_left_to_it() {
    let Some(other) = Other::start().await else { return };
    let (queue, work) = (&other.queue, task("x"));
    let id = work.id;
    queue.enqueue(work).await.unwrap();
    let acts = async {
        let stage = async || queue.task(None, id).await.unwrap().unwrap().stage;
        while stage().await != Stage::Active {
            tokio::task::yield_now().await;
        }
        let acts = [
            queue.delete(None, id).await,
            queue.archive(None, id).await,
            queue.run_now(None, id).await,
        ];
        for refused in acts {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
        assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
        other.run_on("cancel", &id.0.to_string()).await;
    };
    tokio::join!(acts, other.run("hold", 0));
    // Its worker has let go of it.
    assert_eq!(queue.task(None, id).await.unwrap().unwrap().stage, Stage::Retry);
    assert_eq!(queue.delete(None, id).await.unwrap(), Act::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_asynq_that_nobody_here_has_seen_are_shown_by_name_and_acted_upon() {
    let Some(other) = Other::start().await else { return };
    other.run("enqueue", 4).await;
    let queue = &other.queue;
    let summary = queue.summary("default").await.unwrap();
    assert_eq!((summary.pending, summary.scheduled), (3, 1), "{summary:?}");
    assert!(summary.oldest_age.is_some(), "{summary:?}");
    let pending = queue.tasks("default", Stage::Pending, None, 9).await.unwrap();
    let named = pending.iter().find(|task| task.name.as_deref() == Some("report:1"));
    let id = named.expect("by its name").id;
    assert_eq!(queue.payload(None, id).await.unwrap().unwrap(), "go 1");
    assert_eq!(queue.delete(None, id).await.unwrap(), Act::Done);
    // The last is unique: with it goes its lock, so that it can be enqueued again.
    let unique = queue.tasks("default", Stage::Scheduled, None, 9).await.unwrap().remove(0);
    assert_eq!(unique.name.as_deref(), Some("report:3"));
    assert_eq!(queue.delete(Some("default"), unique.id).await.unwrap(), Act::Done);
    let seen = other.inspect().await;
    assert_eq!((&seen["pending"], &seen["scheduled"]), (&2.into(), &0.into()), "{seen}");
    other.run("enqueue", 4).await;
    assert_eq!(other.leased(6).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inspector_of_asynq_sees_who_works_at_what_and_stops_an_attempt() {
    let Some(other) = Other::start().await else { return };
    let work = task("hello");
    let id = work.id;
    other.queue.enqueue(work).await.unwrap();
    let handler = Scripted::new(Arc::new(SystemClock), |_| std::future::pending());
    let queues = vec![ServedQueue::new("default").weight(3), ServedQueue::new("low")];
    let options =
        WorkerOptions { queues, strict: true, concurrency: 7, ..WorkerOptions::default() };
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let (queue, clock) = (Arc::new(other.queue), Arc::new(SystemClock));
    let worker =
        Worker::new(queue.clone(), handler.clone(), clock, tracker.clone(), options.clone());
    let (attempts, counters) = (worker.attempts(), worker.counters());
    let presence = RedisPresence::new(queue.clone(), &worker, "here");
    let running = tracker.spawn(worker.run(shutdown.clone()));
    handler.started(1).await;
    // After the attempt has begun: it is shown at once, and not with the next beat.
    let shown = tracker.spawn(presence.run(shutdown.clone()));
    let other = Other { queue: connected(&other.server), ..other };
    let expected = format!("here 7 map[default:3 low:1] true active {} greet hello default", id.0);
    let seen = async {
        while other.run("servers", 0).await != [expected.as_str()] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LEASE, seen).await.expect("it is shown");
    assert_eq!(attempts.running().len(), 1);
    let stopped = async {
        // Nobody hears what is said before he listens.
        while counters.read().cancelled == 0 {
            other.run_on("cancel", &id.0.to_string()).await;
        }
    };
    tokio::time::timeout(LEASE, stopped).await.expect("it is stopped");
    let settled = async {
        while counters.read().retried == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LEASE, settled).await.expect("it is given back");
    assert_eq!(queue.task(None, id).await.unwrap().unwrap().attempts_spent, 1, "it has failed");
    shutdown.cancel();
    shown.await.unwrap().unwrap();
    assert!(other.run("servers", 0).await.is_empty(), "it has said goodbye");
    running.await.unwrap().unwrap();
}
