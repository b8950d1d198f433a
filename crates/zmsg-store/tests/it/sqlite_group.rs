//! The writer thread: order, shared commits, and jobs that spoil them.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use zmsg_core::{ErrorKind, Result, Statement};
use zmsg_store::{Outcome, SqlStore, SqliteOptions, SqliteStore};

use crate::gate::{self, Gate, WAIT_AT, hold};
use crate::sqlite::Sqlite;

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Outcome>> + Send + 'a>>;

async fn with_log(file: &Sqlite, options: SqliteOptions) -> SqliteStore {
    let functions = vec![WAIT_AT];
    let store = SqliteStore::open(SqliteOptions { functions, ..options }).await.unwrap();
    let log =
        "CREATE TABLE IF NOT EXISTS log (at INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER UNIQUE)";
    store.execute(&Statement::new(log, vec![])).await.unwrap();
    assert!(file.path().exists());
    store
}

fn log(n: i64) -> Statement {
    Statement::new("INSERT INTO log (n) VALUES (?)", vec![n.into()])
}

async fn logged(store: &SqliteStore) -> Vec<i64> {
    let rows = store.fetch(&Statement::query("SELECT n FROM log ORDER BY at", vec![])).await;
    rows.unwrap().iter().map(|row| row.int(0).unwrap()).collect()
}

/// Hands a job in without waiting for its end.
async fn submit<'a>(store: &'a SqliteStore, statement: &'a Statement) -> Waiting<'a> {
    let mut job: Waiting<'a> = store.execute(statement);
    poll_fn(|context| {
        assert!(job.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    job
}

#[tokio::test]
async fn jobs_that_wait_together_share_a_commit_and_keep_their_order() {
    let file = Sqlite::fresh();
    let store = with_log(&file, file.options()).await;
    let before = store.stats();
    let (gate, held) = (Gate(1), hold(1));
    let first = submit(&store, &held).await;
    gate::arrived(1).await;
    let statements: Vec<Statement> = (0..100).map(log).collect();
    let mut jobs = Vec::new();
    for statement in &statements {
        jobs.push(submit(&store, statement).await);
    }
    drop(gate);
    first.await.unwrap();
    for job in jobs {
        job.await.unwrap();
    }
    let after = store.stats();
    assert_eq!(after.jobs - before.jobs, 101);
    assert_eq!(after.commits - before.commits, 2, "one for the held job, one for all others");
    assert_eq!(logged(&store).await, (0..100).collect::<Vec<i64>>());
}

/// Runs jobs in one group and returns how each ended.
async fn in_one_group(store: &SqliteStore, gate: i64, jobs: &[Statement]) -> Vec<Result<Outcome>> {
    let (opens, held) = (Gate(gate), hold(gate));
    let first = submit(store, &held).await;
    gate::arrived(gate).await;
    let mut waiting = Vec::new();
    for job in jobs {
        waiting.push(submit(store, job).await);
    }
    drop(opens);
    first.await.unwrap();
    let mut results = Vec::new();
    for job in waiting {
        results.push(job.await);
    }
    results
}

#[tokio::test]
async fn a_job_that_ends_the_common_transaction_takes_nobody_with_it() {
    let file = Sqlite::fresh();
    let store = with_log(&file, file.options()).await;
    let ends_it = Statement::new("INSERT OR ROLLBACK INTO log (n) VALUES (1)", vec![]);
    let results = in_one_group(&store, 2, &[log(1), ends_it, log(2), log(1), log(3)]).await;
    let kinds: Vec<_> =
        results.into_iter().map(|it| it.map_err(|error| error.kind()).err()).collect();
    let refused = Some(ErrorKind::InvalidData);
    assert_eq!(kinds, [None, refused, None, refused, None]);
    assert_eq!(logged(&store).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_constraint_that_fails_at_the_commit_fails_its_own_job_alone() {
    let file = Sqlite::fresh();
    let store = with_log(&file, file.options()).await;
    let child = "CREATE TABLE child (n INTEGER REFERENCES log (n) DEFERRABLE INITIALLY DEFERRED)";
    store.execute(&Statement::new(child, vec![])).await.unwrap();
    let orphan = Statement::new("INSERT INTO child VALUES (99)", vec![]);
    let results = in_one_group(&store, 3, &[log(1), orphan, log(2)]).await;
    let kinds: Vec<_> =
        results.into_iter().map(|it| it.map_err(|error| error.kind()).err()).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::InvalidData), None]);
    assert_eq!(logged(&store).await, [1, 2]);
}

#[tokio::test]
async fn vacuum_runs_between_the_transactions_of_its_neighbours() {
    let file = Sqlite::fresh();
    let store = with_log(&file, file.options()).await;
    let vacuum = Statement::new("VACUUM", vec![]);
    for result in in_one_group(&store, 4, &[log(1), vacuum, log(2)]).await {
        result.unwrap();
    }
    assert_eq!(logged(&store).await, [1, 2]);
}

#[tokio::test]
async fn a_full_queue_is_overloaded_at_once() {
    let file = Sqlite::fresh();
    let store = with_log(&file, SqliteOptions { queue_max: 3, ..file.options() }).await;
    let (gate, held) = (Gate(5), hold(5));
    let first = submit(&store, &held).await;
    gate::arrived(5).await;
    let statements: Vec<Statement> = (0..4).map(log).collect();
    let mut jobs = Vec::new();
    for statement in &statements[..3] {
        jobs.push(submit(&store, statement).await);
    }
    let error = store.execute(&statements[3]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Overloaded, true));
    drop(gate);
    first.await.unwrap();
    for job in jobs {
        job.await.unwrap();
    }
    assert_eq!(logged(&store).await, [0, 1, 2], "what was refused did not happen");
}

#[tokio::test]
async fn a_job_runs_even_if_its_caller_left_before_the_writer_took_it() {
    let file = Sqlite::fresh();
    let store = with_log(&file, file.options()).await;
    let (gate, held, later) = (Gate(6), hold(6), log(7));
    let first = submit(&store, &held).await;
    gate::arrived(6).await;
    drop(submit(&store, &later).await);
    drop(gate);
    first.await.unwrap();
    store.execute(&log(8)).await.unwrap();
    assert_eq!(logged(&store).await, [7, 8]);
}

#[tokio::test]
async fn close_waits_for_what_was_accepted_and_refuses_the_rest() {
    let file = Sqlite::fresh();
    let store = with_log(&file, file.options()).await;
    let (gate, held, later) = (Gate(7), hold(7), log(1));
    let first = submit(&store, &held).await;
    gate::arrived(7).await;
    let second = submit(&store, &later).await;
    let mut closing = pin!(store.close());
    let early = tokio::time::timeout(Duration::from_millis(20), &mut closing).await;
    assert!(early.is_err(), "closed while a job was held");
    assert_eq!(store.execute(&log(2)).await.unwrap_err().kind(), ErrorKind::Closed);
    drop(gate);
    closing.await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    let reopened = with_log(&file, file.options()).await;
    assert_eq!(logged(&reopened).await, [1]);
}

#[tokio::test]
async fn dropping_the_store_blocks_nobody_and_loses_nothing_accepted() {
    let file = Sqlite::fresh();
    let store = with_log(&file, file.options()).await;
    let (gate, held, later) = (Gate(8), hold(8), log(1));
    drop(submit(&store, &held).await);
    gate::arrived(8).await;
    drop(submit(&store, &later).await);
    // The writer is still held: if this waited for it, the test would never end.
    drop(store);
    drop(gate);
    let reopened = with_log(&file, file.options()).await;
    let arrives = async {
        while logged(&reopened).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrives).await.unwrap();
}

#[tokio::test]
async fn a_file_locked_by_somebody_else_is_unavailable_for_now() {
    let file = Sqlite::fresh();
    let store = with_log(&file, file.options()).await;
    let patience = Duration::from_millis(10);
    let other = SqliteStore::open(SqliteOptions { busy_timeout: patience, ..file.options() })
        .await
        .unwrap();
    let (gate, held) = (Gate(9), hold(9));
    let first = submit(&store, &held).await;
    gate::arrived(9).await;
    let error = other.execute(&log(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
    assert!(logged(&other).await.is_empty(), "readers do not wait for writers");
    drop(gate);
    first.await.unwrap();
    other.execute(&log(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_file_lose_nothing() {
    let file = Sqlite::fresh();
    let stores = [with_log(&file, file.options()).await, with_log(&file, file.options()).await];
    let mut writers = tokio::task::JoinSet::new();
    for (n, store) in (0..).zip(stores) {
        writers.spawn(async move {
            for round in 0..50 {
                store.execute(&log(n * 1000 + round)).await.unwrap();
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let store = with_log(&file, file.options()).await;
    assert_eq!(logged(&store).await.len(), 100);
}
