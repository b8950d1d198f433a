//! Task queues from the command line: in the directory of an embedded engine, in PostgreSQL, in Redis.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio_util::task::TaskTracker;
use zmsg::core::{Clock as _, SystemClock};
use zmsg::queue::{
    NewTask, RedisQueueOptions, RedisTaskQueue, SqlQueueOptions, SqlTaskQueue, TaskQueue,
};
use zmsg::redis::{Redis, RedisOptions};
use zmsg::store::{PostgresOptions, PostgresStore, SqlStore};
use zmsg::{Config, Error, TaskId};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use super::{admin, admin_does, beside};
use crate::support::DEADLINE;

const LEASE: Duration = Duration::from_secs(30);

/// A queue that a test fills, and where the command finds it.
struct Place {
    url: String,
    queue: Arc<dyn TaskQueue>,
    _kept: Kept,
}

/// What goes when the test is over.
enum Kept {
    Directory { _dir: TempDir },
    Redis { _server: PrivateRedis },
    Database { _database: zmsg_testbed::Database },
}

impl Place {
    /// Those that this machine has.
    async fn each() -> Vec<Self> {
        let places = [Some(Self::embedded().await), Self::postgres().await, Self::redis()];
        places.into_iter().flatten().collect()
    }

    async fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = format!("sqlite:{}", dir.path().join("zmsg.db").display());
        admin_does(&["migrate", "up", "--url", &file]).await;
        let queue = in_database(beside(&Config::embedded(dir.path())).await);
        let url = dir.path().display().to_string();
        Self { url, queue, _kept: Kept::Directory { _dir: dir } }
    }

    async fn postgres() -> Option<Self> {
        let database = zmsg_testbed::postgres()?.database().await;
        let url = database.url().to_owned();
        admin_does(&["migrate", "up", "--url", &url]).await;
        let options = PostgresOptions::new(&url);
        let store = PostgresStore::open(options, TaskTracker::new()).await.unwrap();
        let queue = in_database(Arc::new(store));
        Some(Self { url, queue, _kept: Kept::Database { _database: database } })
    }

    fn redis() -> Option<Self> {
        let server = PrivateRedis::start(PrivateOptions::new())?;
        let url = server.url();
        let redis =
            Redis::open(RedisOptions::from_url(&url).unwrap(), &TaskTracker::new()).unwrap();
        let options = RedisQueueOptions::default();
        let queue = Arc::new(RedisTaskQueue::new(redis, Arc::new(SystemClock), options));
        Some(Self { url, queue, _kept: Kept::Redis { _server: server } })
    }

    async fn does(&self, words: &[&str]) -> String {
        admin_does(&self.words(words)).await
    }

    /// What the command says when it fails.
    async fn refuses(&self, words: &[&str]) -> String {
        let said = admin(&self.words(words), &[]).await;
        assert!(!said.ok, "{words:?}: {}", said.out);
        said.err
    }

    async fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.does(&[words, &["--json"]].concat()).await).unwrap()
    }

    fn words<'w>(&'w self, words: &[&'w str]) -> Vec<&'w str> {
        [&["queue"][..], words, &["--url", &self.url]].concat()
    }

    async fn enqueue(&self, task: NewTask) -> String {
        let id = task.id.to_string();
        self.queue.enqueue(task).await.unwrap();
        id
    }
}

fn in_database(store: Arc<dyn SqlStore>) -> Arc<dyn TaskQueue> {
    let options = SqlQueueOptions::default();
    Arc::new(SqlTaskQueue::new(store, Arc::new(SystemClock), options).unwrap())
}

fn mail() -> NewTask {
    NewTask::new(TaskId::generate(), "greet", "s3cret").queue("mail")
}

fn later() -> NewTask {
    mail().due(SystemClock.wall() + 3_600_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_listed_with_their_counts_and_pauses() {
    for place in Place::each().await {
        assert_eq!(place.does(&["ls"]).await, "no queues\n");
        place.enqueue(mail()).await;
        place.enqueue(later()).await;
        place.enqueue(mail().queue("other")).await;
        let held = place.queue.lease("other", 1, LEASE).await.unwrap().remove(0);
        assert!(place.queue.bury(&held, &Error::invalid_input("no")).await.unwrap());
        assert!(place.does(&["pause", "other"]).await.contains("paused: other"));
        let table = place.does(&["ls"]).await;
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("QUEUE") && lines.len() == 3, "{table}");
        assert!(lines[1].starts_with("mail") && lines[1].ends_with("runs"), "{table}");
        assert!(lines[2].starts_with("other") && lines[2].ends_with("paused"), "{table}");
        let all = place.json(&["ls"]).await;
        let [mail, other] = [&all[0], &all[1]];
        assert_eq!((&mail["pending"], &mail["scheduled"]), (&1.into(), &1.into()), "{all}");
        assert_eq!((&mail["paused"], &mail["dead"]), (&false.into(), &0.into()), "{all}");
        assert_eq!((&other["paused"], &other["dead"]), (&true.into(), &1.into()), "{all}");
        assert!(mail["oldest_age_ms"].is_u64() && mail["latency_ms"].is_u64(), "{all}");
        assert!(other["latency_ms"].is_null(), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_shown_without_their_payloads_unless_they_are_asked_for() {
    for place in Place::each().await {
        let (due, waits) = (place.enqueue(mail()).await, place.enqueue(later()).await);
        let shown = place.does(&["show", "mail"]).await;
        for part in ["pending 1", "scheduled 1", &due, &waits, "greet", "0/3"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let scheduled = place.json(&["show", "mail", "--state", "scheduled"]).await;
        assert_eq!(scheduled.as_array().unwrap().len(), 1);
        assert_eq!(scheduled[0]["id"], *waits);
        let limited = place.json(&["show", "mail", "--limit", "1"]).await;
        assert_eq!(limited.as_array().unwrap().len(), 2, "one of each stage");
        let one = place.does(&["show", &due]).await;
        assert!(one.contains("stage: pending") && one.contains("queue: mail"), "{one}");
        assert!(!shown.contains("s3cret") && !one.contains("s3cret"));
        let with = place.does(&["show", &due, "--payload", "--of", "mail"]).await;
        assert!(with.contains("s3cret"), "{with}");
        let json = place.json(&["show", &due, "--payload"]).await;
        assert_eq!(
            (&json["stage"], &json["payload_hex"]),
            (&"pending".into(), &"733363726574".into())
        );
        let unknown = TaskId::generate().to_string();
        assert!(place.refuses(&["show", &unknown]).await.contains("there is no task"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_says_what_it_did_and_fails_if_there_was_nothing_to_do() {
    for place in Place::each().await {
        let id = place.enqueue(later()).await;
        assert_eq!(place.does(&["retry", &id]).await, format!("due now: {id}\n"));
        assert!(place.refuses(&["retry", &id]).await.contains("it is due already"));
        assert_eq!(place.does(&["archive", &id]).await, format!("archived: {id}\n"));
        assert!(place.refuses(&["archive", &id]).await.contains("a dead letter already"));
        let letters = place.queue.dead_letters(None, None, 9).await.unwrap();
        assert_eq!((letters.len(), letters[0].cause.as_str()), (1, "archived by hand"));
        assert!(place.refuses(&["delete", &id, "--of", "other"]).await.contains("no task"));
        assert_eq!(place.does(&["delete", &id]).await, format!("deleted: {id}\n"));
        assert!(place.refuses(&["delete", &id]).await.contains("there is no task"));
        assert_eq!(place.does(&["pause", "mail"]).await, "paused: mail\n");
        assert!(place.refuses(&["pause", "mail"]).await.contains("paused already"));
        assert!(place.queue.is_paused("mail").await.unwrap());
        assert_eq!(place.does(&["resume", "mail"]).await, "resumed: mail\n");
        assert!(place.refuses(&["resume", "mail"]).await.contains("not paused"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_holds_is_refused_with_the_way_out() {
    for place in Place::each().await {
        let id = place.enqueue(mail()).await;
        let held = place.queue.lease("mail", 1, LEASE).await.unwrap().remove(0);
        for act in ["retry", "archive", "delete"] {
            let error = place.refuses(&[act, &id]).await;
            assert!(error.contains("a worker holds the task: wait until"), "{error}");
        }
        let shown = place.does(&["show", &id]).await;
        assert!(shown.contains("stage: active") && shown.contains("lease left: "), "{shown}");
        assert!(place.queue.complete(&held).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_view_goes_on_and_shows_changes() {
    for place in Place::each().await {
        place.enqueue(mail()).await;
        for json in [false, true] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_zmsg-admin"));
            command.args(["queue", "ls", "--watch", "--url", &place.url]).env_clear();
            if json {
                command.arg("--json");
            }
            let mut view = command.kill_on_drop(true).stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(view.stdout.take().unwrap()).lines();
            let mut seen = async |part: &str| {
                let wait = async {
                    loop {
                        let line = lines.next_line().await.unwrap().expect("it goes on");
                        assert!(!line.contains('\u{1b}'), "no terminal: {line}");
                        if line.contains(part) {
                            return;
                        }
                    }
                };
                tokio::time::timeout(DEADLINE, wait).await.expect(part);
            };
            let (runs, paused) = if json {
                ("\"paused\":false", "\"paused\":true")
            } else {
                ("mail  runs  pending 1", "mail  paused")
            };
            seen(runs).await;
            assert!(place.queue.pause("mail").await.unwrap());
            seen(paused).await;
            assert!(place.queue.resume("mail").await.unwrap());
            seen(runs).await;
        }
    }
}

#[tokio::test]
async fn the_queues_of_a_configuration_are_where_its_backend_has_them() {
    let Some(place) = Place::redis() else { return };
    place.enqueue(mail()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zmsg.yaml");
    let secret = "a secret of the tests, 32 bytes and more";
    let text = format!(
        "directory: {}\nredis:\n  url: {}\nqueue:\n  backend: redis\n  secret: {secret}\n",
        dir.path().display(),
        place.url
    );
    std::fs::write(&file, text).unwrap();
    let listed = admin_does(&["queue", "ls", "--config", &file.display().to_string()]).await;
    assert!(listed.contains("mail") && !listed.contains(secret), "{listed}");
}

#[tokio::test]
async fn queues_that_are_nowhere_are_refused() {
    for (words, part) in [
        (vec!["queue", "ls"], "which queues?"),
        (vec!["queue", "ls", "--url", "/nowhere"], "no backend for a path alone"),
        (vec!["queue", "ls", "--url", "redis+http://app:s3cret@h"], "scheme"),
        (
            vec!["queue", "ls", "--url", "redis://app:s3cret@127.0.0.1:1"],
            "could not read the queues",
        ),
        (vec!["queue", "ls", "--url", "redis://h", "--config", "x.yaml"], "give one"),
        (vec!["queue", "retry", "--url", "sqlite:a.db", "mail"], "invalid value 'mail'"),
        (vec!["queue", "show", "mail", "--state", "gone", "--url", "sqlite:a.db"], "pending"),
    ] {
        let said = admin(&words, &[]).await;
        assert!(!said.ok && said.err.contains(part), "{words:?}: {}{}", said.out, said.err);
        assert!(!said.err.contains("s3cret"), "{}", said.err);
    }
}
