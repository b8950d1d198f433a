//! Go's asynq on the other side: its client, its worker and its inspector, where there is a Go toolchain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use zmsg_core::{Clock as _, Error, ErrorKind, SystemClock, TaskId};
use zmsg_queue::{LeasedTask, NewTask, RedisQueueOptions, RedisTaskQueue, TaskQueue};
use zmsg_testbed::Requirement;
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use super::{LEASE, connect};

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

struct Other {
    server: PrivateRedis,
    program: PathBuf,
    queue: RedisTaskQueue,
}

impl Other {
    async fn start() -> Option<Self> {
        let program = tokio::task::spawn_blocking(program).await.unwrap()?;
        let server = PrivateRedis::start(PrivateOptions::new())?;
        let redis = connect(&server.url());
        let queue = RedisTaskQueue::new(redis, Arc::new(SystemClock), RedisQueueOptions::default());
        Some(Self { server, program, queue })
    }

    /// Runs the program; its lines.
    async fn run(&self, what: &'static str, count: usize) -> Vec<String> {
        let url = format!("{}/0", self.server.url().trim_end_matches('/'));
        let mut command = Command::new(&self.program);
        command.args([what, &url, "default", &count.to_string()]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {said}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// What asynq's inspector says of the queue.
    async fn inspect(&self) -> serde_json::Value {
        serde_json::from_str(&self.run("inspect", 0).await.concat()).unwrap()
    }

    /// Leases until so many tasks came.
    async fn leased(&self, count: usize) -> Vec<LeasedTask> {
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
