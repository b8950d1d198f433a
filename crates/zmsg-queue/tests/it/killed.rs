//! Workers in several processes, killed with SIGKILL while they work.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Error, Result, Statement, SystemClock, TaskId};
use zmsg_queue::{
    Ending, LeasedTask, NewTask, TaskHandler, TaskQueue, Worker, WorkerOptions, inbox_step,
    is_already_applied, is_lease_lost,
};
use zmsg_store::{SqlStore, Step};

use crate::db::{Db, node, postgres_at, run};

/// Where a child finds its database; without it, the child's test has nothing to do.
const URL: &str = "ZMSG_QUEUE_CHILD_URL";

const TASKS: u32 = 20_000;
const PROCESSES: usize = 4;
const KILLS: u32 = 6;
const WITHIN: Duration = Duration::from_secs(300);
/// How often the parent looks how far they are.
const LOOK: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_task_takes_effect_once_although_workers_are_killed() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let effects = "CREATE TABLE effects (id uuid PRIMARY KEY, times int NOT NULL)";
    run(&store, &[effects]).await;
    let queue = node(store.clone());
    for _ in 0..TASKS / 1_000 {
        let tasks = (0..1_000).map(|n| {
            let kind = if n % 2 == 0 { "one commit" } else { "two commits" };
            NewTask::new(TaskId::generate(), kind, "payload").attempts_max(50)
        });
        queue.enqueue_all(tasks.collect()).await.unwrap();
    }

    let url = db.database().url();
    let start = || Process::start("killed::works_until_it_is_killed", &[(URL, url)]);
    let mut children: Vec<Process> = (0..PROCESSES).map(|_| start()).collect();
    let (began, mut kills) = (Instant::now(), 0);
    loop {
        let done = number(&store, "SELECT count(*) FROM effects").await;
        if kills < KILLS && done >= i64::from((kills + 1) * TASKS / (KILLS + 2)) {
            let victim = kills as usize % PROCESSES;
            children[victim] = start(); // the one before is killed by its drop
            kills += 1;
        }
        let stats = queue.stats("default").await.unwrap();
        assert_eq!(stats.dead, 0);
        if stats.pending + stats.leased == 0 {
            break;
        }
        assert!(began.elapsed() < WITHIN, "{stats:?} after {WITHIN:?}");
        sleep(LOOK).await;
    }
    assert_eq!(kills, KILLS);
    let once = format!("SELECT count(*) FROM effects WHERE times = 1 HAVING count(*) = {TASKS}");
    assert_eq!(number(&store, &once).await, i64::from(TASKS));
    assert_eq!(number(&store, "SELECT sum(times)::bigint FROM effects").await, i64::from(TASKS));
}

pub(crate) async fn number(store: &Arc<dyn SqlStore>, query: &str) -> i64 {
    let rows = store.fetch(&Statement::query(query, vec![])).await.unwrap();
    rows.first().map_or(-1, |row| row.int(0).unwrap())
}

/// A child; killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// This program again, for one test and with these variables.
    pub(crate) fn start(test: &str, variables: &[(&str, &str)]) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().expect("a child of ours");
        self.0.wait().expect("a child of ours");
    }
}

/// A child: two workers, until it is killed or its parent is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_until_it_is_killed() {
    let Ok(url) = std::env::var(URL) else { return };
    let store = postgres_at(&url).await;
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    for _ in 0..2 {
        let queue = node(store.clone());
        let handler = Arc::new(Counts { store: store.clone() });
        let options = WorkerOptions {
            concurrency: 16,
            lease: Duration::from_secs(2),
            ..WorkerOptions::default()
        };
        tracker.spawn(queue.wake_ups().run(shutdown.clone()));
        let worker = Worker::new(queue, handler, Arc::new(SystemClock), tracker.clone(), options);
        tracker.spawn(worker.run(shutdown.clone()));
    }
    end_with_the_parent().await;
}

/// Ends this process when its parent ends, however it does: the other end of the pipe goes with it.
pub(crate) async fn end_with_the_parent() {
    let parent = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    parent.await.unwrap().unwrap();
    std::process::exit(0);
}

/// Counts how often each task has taken effect; every other one with its end in one commit.
#[derive(Debug)]
struct Counts {
    store: Arc<dyn SqlStore>,
}

#[async_trait]
impl TaskHandler for Counts {
    async fn handle(&self, _task: &LeasedTask) -> Result<()> {
        panic!("this queue offers more");
    }

    async fn handle_within(&self, task: &LeasedTask, completion: Vec<Step>) -> Result<Ending> {
        let count = "INSERT INTO effects VALUES (?, 1) \
            ON CONFLICT (id) DO UPDATE SET times = effects.times + 1";
        let count = Step::any(Statement::new(count, vec![task.id.0.into()]));
        let mut steps = vec![inbox_step(task.id, 0, self.store.dialect()), count];
        let in_one = task.kind == "one commit";
        if in_one {
            steps.extend(completion);
        }
        match self.store.execute_all(steps).await {
            Ok(_) if in_one => Ok(Ending::Completed),
            Ok(_) => Ok(Ending::Open),
            Err(failed) if is_already_applied(&failed) => Ok(Ending::Open),
            Err(failed) if is_lease_lost(&failed) => Err(failed.error.temporary()),
            Err(failed) => Err(Error::from(failed)),
        }
    }
}
