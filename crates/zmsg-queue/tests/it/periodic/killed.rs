//! Nodes that fire and work, killed with SIGKILL at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Error, Result, Statement, SystemClock};
use zmsg_queue::{
    Ending, LeasedTask, PeriodicTasks, TaskHandler, TaskQueue as _, Worker, WorkerOptions,
};
use zmsg_store::{SqlStore, Step};

use super::telling;
use crate::db::{Db, node, postgres_at, run};
use crate::killed::{Process, end_with_the_parent, number};

/// Where a child finds its database; without it, the child's test has nothing to do.
const URL: &str = "ZMSG_QUEUE_PERIODIC_CHILD_URL";

const PROCESSES: usize = 3;
const KILLS: usize = 12;
const ENTRIES: usize = 20;
const WITHIN: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_moment_is_fired_once_although_nodes_are_killed() {
    let Some(db) = Db::postgres().await else { return };
    let store = db.store().await;
    let effects = "CREATE TABLE effects (entry text, moment bigint, times int NOT NULL, \
        PRIMARY KEY (entry, moment))";
    run(&store, &[effects]).await;
    let url = db.database().url();
    let start = || Process::start("periodic::killed::fires_until_it_is_killed", &[(URL, url)]);
    let mut children: Vec<Process> = (0..PROCESSES).map(|_| start()).collect();
    let count = async || number(&store, "SELECT count(*) FROM effects").await;
    let begun = Instant::now();
    for kill in 0..KILLS {
        // In the middle of the firings of a second, each time after others.
        let wanted = count().await + (ENTRIES + 3 * kill) as i64;
        while count().await < wanted {
            assert!(begun.elapsed() < WITHIN, "kill {kill}");
            sleep(LOOK).await;
        }
        children[kill % PROCESSES] = start(); // the one before is killed by its drop
    }
    let queue = node(store.clone());
    drop(children);
    // What those had in hand is worked by one more that fires nothing.
    queue.end_leases().await.unwrap();
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let worker = worker(&store, &tracker);
    tracker.spawn(worker.run(shutdown.clone()));
    let is_empty = async || {
        let stats = queue.stats("default").await.unwrap();
        assert_eq!(stats.dead, 0);
        stats.pending + stats.leased == 0
    };
    while !is_empty().await {
        assert!(begun.elapsed() < WITHIN, "tasks are left");
        sleep(LOOK).await;
    }
    shutdown.cancel();

    assert_eq!(number(&store, "SELECT count(*) FROM effects WHERE times > 1").await, 0);
    let last = "SELECT entry, max(moment), count(*) FROM effects GROUP BY entry";
    let rows = store.fetch(&Statement::query(last, vec![])).await.unwrap();
    let last: BTreeMap<_, _> =
        rows.iter().map(|row| (row.text(0).unwrap(), row.int(1).unwrap())).collect();
    assert_eq!(last.len(), ENTRIES);
    for (entry, moment) in last {
        // What is remembered is what was enqueued: neither is there without the other.
        let remembered = queue.last_firing("default", entry).await.unwrap();
        assert_eq!(remembered, Some(moment.cast_unsigned()), "{entry}");
    }
}

fn worker(store: &Arc<dyn SqlStore>, tracker: &TaskTracker) -> Worker {
    let options = WorkerOptions { poll_max: Duration::from_millis(100), ..Default::default() };
    let handler = Arc::new(Counts { store: store.clone() });
    Worker::new(node(store.clone()), handler, Arc::new(SystemClock), tracker.clone(), options)
}

/// A child: schedules and a worker, until it is killed or its parent is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fires_until_it_is_killed() {
    let Ok(url) = std::env::var(URL) else { return };
    let store = postgres_at(&url).await;
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let periodic = PeriodicTasks::new(node(store.clone()), Arc::new(SystemClock));
    let entries = (0..ENTRIES).map(|n| {
        let name: &'static str = Box::leak(format!("entry {n}").into_boxed_str());
        telling(name, Duration::from_secs(1))
    });
    let periodic = { entries }.try_fold(periodic, PeriodicTasks::with).unwrap();
    tracker.spawn(periodic.run(shutdown.clone()));
    tracker.spawn(worker(&store, &tracker).run(shutdown.clone()));
    end_with_the_parent().await;
}

/// Counts how often each moment has taken effect, in one commit with the end of its task and without an inbox: a
/// second task of a firing would be seen.
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
        let count = "INSERT INTO effects VALUES (?, ?, 1) \
            ON CONFLICT (entry, moment) DO UPDATE SET times = effects.times + 1";
        let moment = super::moments(std::slice::from_ref(task)).remove(0);
        let binds = vec![task.kind.as_str().into(), zmsg_core::Value::Int(moment.cast_signed())];
        let count = Step::any(Statement::new(count, binds));
        let steps = std::iter::once(count).chain(completion).collect();
        match self.store.execute_all(steps).await {
            Ok(_) => Ok(Ending::Completed),
            Err(failed) if zmsg_queue::is_lease_lost(&failed) => Err(failed.error.temporary()),
            Err(failed) => Err(Error::from(failed)),
        }
    }
}
