//! asynq's own programs, its command line and asynqmon, where both are installed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock as _, Error, SystemClock, TaskId};
use zmsg_queue::{
    NewTask, PeriodicTask, PeriodicTasks, RedisPresence, RedisSchedulerPresence, RedisTaskQueue,
    Schedule, TaskQueue, Worker, WorkerOptions,
};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions, free_port};

use super::{LEASE, connect, queue_over};
use crate::handler::Scripted;

/// What they print of a queue: the command, and parts of its answer.
const COMMANDS: [(&str, &[&str]); 10] = [
    ("queue ls", &["default"]),
    ("queue inspect default", &["aggregating", "archived"]),
    ("task ls --queue=default --state=pending", &["waits"]),
    ("task ls --queue=default --state=scheduled", &["later"]),
    ("task ls --queue=default --state=retry", &["retried", "not now"]),
    ("task ls --queue=default --state=archived", &["given up", "never"]),
    ("task ls --queue=default --state=completed", &["kept"]),
    ("group ls --queue=default", &["digest"]),
    ("server ls", &["here"]),
    ("cron ls", &["@every 1h", "report"]),
];

/// What asynqmon's page asks for, and parts of the answer.
const PAGES: [(&str, &[&str]); 10] = [
    ("queues", &["\"queue\":\"default\""]),
    ("queues/default", &["\"active\":1", "\"pending\":1", "\"archived\":1", "\"completed\":1"]),
    ("queues/default/pending_tasks", &["waits"]),
    ("queues/default/scheduled_tasks", &["later"]),
    ("queues/default/retry_tasks", &["retried", "not now"]),
    ("queues/default/archived_tasks", &["given up", "never"]),
    ("queues/default/completed_tasks", &["kept"]),
    ("queues/default/groups/digest/aggregating_tasks", &["gathered"]),
    ("servers", &["\"host\":\"here\"", "works"]),
    ("scheduler_entries", &["@every 1h", "report"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_programs_of_asynq_show_every_state_of_a_task() {
    let is_there = |name| Command::new(name).arg("--help").output().is_ok();
    if !["asynq", "asynqmon"].into_iter().all(is_there) {
        return eprintln!("left out: asynq and asynqmon are not both in the path");
    }
    let Some(server) = PrivateRedis::start(PrivateOptions::new()) else { return };
    let queue = Arc::new(queue_over(connect(&server.url())));
    one_of_each(&queue).await;
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    at_work(&queue, &tracker, &shutdown).await;

    let url = server.url();
    let place = url.trim_start_matches("redis://:").trim_end_matches('/');
    let (password, address) = place.split_once('@').expect("a server with a password");
    let place = [password, address].map(str::to_owned);
    let shown = tokio::task::spawn_blocking(move || {
        let [password, address] = &place;
        by_the_command_line(address, password);
        by_asynqmon(address, password);
    });
    shown.await.unwrap();
    shutdown.cancel();
    tracker.close();
    timeout(LEASE, tracker.wait()).await.expect("it stops");
}

/// A task in every state in which nobody works at it.
async fn one_of_each(queue: &RedisTaskQueue) {
    let task = |payload: &str| NewTask::new(TaskId::generate(), "greet", payload.to_owned());
    let hour = SystemClock.wall() + 3_600_000;
    for payload in ["retried", "given up", "kept"] {
        let task = task(payload);
        queue.enqueue(task.retention(Duration::from_secs(3_600))).await.unwrap();
        let leased = queue.lease("default", 1, LEASE).await.unwrap().remove(0);
        let done = match payload {
            "retried" => queue.retry(&leased, hour, &Error::invalid_input("not now"), true).await,
            "given up" => queue.bury(&leased, &Error::invalid_input("never")).await,
            _ => queue.complete(&leased).await,
        };
        assert!(done.unwrap());
    }
    queue.enqueue(task("later").due(hour)).await.unwrap();
    queue.enqueue(task("gathered").group("digest")).await.unwrap();
}

/// A worker with a task that does not end, and a schedule; then one more task that waits.
async fn at_work(queue: &Arc<RedisTaskQueue>, tracker: &TaskTracker, shutdown: &CancellationToken) {
    let task = |payload: &str| NewTask::new(TaskId::generate(), "greet", payload.to_owned());
    queue.enqueue(task("works")).await.unwrap();
    let clock = Arc::new(SystemClock);
    let handler = Scripted::new(clock.clone(), |_| std::future::pending());
    let options =
        WorkerOptions { concurrency: 1, drain: Duration::ZERO, ..WorkerOptions::default() };
    let worker =
        Worker::new(queue.clone(), handler.clone(), clock.clone(), tracker.clone(), options);
    let presence = RedisPresence::new(queue.clone(), &worker, "here");
    tracker.spawn(worker.run(shutdown.clone()));
    timeout(LEASE, handler.started(1)).await.expect("it works");
    tracker.spawn(presence.run(shutdown.clone()));

    let hourly = Schedule::every(Duration::from_secs(3_600)).unwrap();
    let report = |_| NewTask::new(TaskId::generate(), "report", "all").queue("reports");
    let periodic = PeriodicTasks::new(queue.clone(), clock);
    let periodic = periodic.with(PeriodicTask::new("hourly", hourly, report)).unwrap();
    let presence = RedisSchedulerPresence::new(queue.clone(), &periodic, "here");
    tracker.spawn(periodic.run(shutdown.clone()));
    tracker.spawn(presence.run(shutdown.clone()));
    queue.enqueue(task("waits")).await.unwrap();
}

fn by_the_command_line(address: &str, password: &str) {
    for (command, parts) in COMMANDS {
        shown(command, parts, || {
            let mut asynq = Command::new("asynq");
            asynq.args(["--uri", address, "--password", password]);
            let output = asynq.args(command.split(' ')).output().unwrap();
            let [said, refused] = [output.stdout, output.stderr].map(String::from_utf8);
            said.unwrap() + &refused.unwrap()
        });
    }
}

fn by_asynqmon(address: &str, password: &str) {
    let port = free_port().to_string();
    let mut asynqmon = Command::new("asynqmon");
    asynqmon.args(["--port", &port, "--redis-addr", address, "--redis-password", password]);
    let _running = Running(asynqmon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    for (page, parts) in PAGES {
        shown(page, parts, || get(&port, page).unwrap_or_default());
    }
}

/// Asks until all parts are in the answer: what lists servers is written by the beat of a heart.
fn shown(what: &str, parts: &[&str], ask: impl Fn() -> String) {
    let begun = std::time::Instant::now();
    loop {
        let answer = ask();
        let missing: Vec<_> = parts.iter().filter(|part| !answer.contains(**part)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(begun.elapsed() < LEASE, "{what} does not show {missing:?}: {answer}");
        std::thread::yield_now();
    }
}

/// The body, and what stands before it.
fn get(port: &str, page: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    write!(stream, "GET /api/{page} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("a child of ours");
        self.0.wait().expect("a child of ours");
    }
}
