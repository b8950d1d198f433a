//! Tasks that are enqueued in a transaction of the user's own.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock as _, Error, ErrorKind, Statement, SystemClock, TaskId, Value};
use zmsg_queue::{NewTask, OnDead, SqlQueueOptions, TaskQueue, TaskState, outbox};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Expect, Step};

use crate::db::{Db, node, run};
use crate::sql::{LEASE, task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_a_users_transaction_is_there_with_its_commit_or_not_at_all() {
    for db in Db::each().await {
        let store = db.store().await;
        let queue = node(store.clone());
        run(&store, &["CREATE TABLE orders (id INTEGER PRIMARY KEY)"]).await;
        let task = NewTask { payload: b"\0\xff"[..].to_vec().into(), ..task() };
        for enqueue in [outbox::enqueue, outbox::enqueue_quietly] {
            let enqueue = || Step::any(enqueue(&task, &SystemClock, store.dialect()).unwrap());
            let order = || Step::any(Statement::new("INSERT INTO orders VALUES (1)", vec![]));
            let fails = Statement::new("DELETE FROM orders WHERE id = 99", vec![]);
            let fails = Step::must(fails, Expect::Exactly(1), "no such order");
            store.execute_all(vec![order(), enqueue(), fails]).await.unwrap_err();
            assert_eq!(queue.state(task.id).await.unwrap(), None);

            let done = store.execute_all(vec![order(), enqueue()]).await.unwrap();
            assert_eq!(done[1].rows.len(), 1, "accepted");
            let again = store.execute(&enqueue().statement).await.unwrap();
            assert_eq!(again.rows.len(), 0, "a duplicate");
            let leased = queue.lease("default", 9, LEASE).await.unwrap().remove(0);
            assert_eq!(
                (leased.id, &leased.payload, leased.attempts_max),
                (task.id, &task.payload, 3)
            );
            assert!(queue.complete(&leased).await.unwrap());
            run(&store, &["DELETE FROM orders WHERE true"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_queue_would_take_is_refused_before_it_is_sent() {
    for db in Db::each().await {
        let dialect = db.store().await.dialect();
        for task in
            [task().queue(""), task().attempts_max(0), NewTask { id: TaskId(uuid()), ..task() }]
        {
            let error = outbox::enqueue(&task, &SystemClock, dialect).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_counts_tasks_of_users_and_does_not_refuse_them() {
    for db in Db::each().await {
        let store = db.store().await;
        let options = SqlQueueOptions { tasks_max: 2, ..SqlQueueOptions::default() };
        let queue = db.bounded_queue_on(store.clone(), options);
        for _ in 0..3 {
            let enqueue = outbox::enqueue(&task(), &SystemClock, store.dialect()).unwrap();
            assert_eq!(store.execute(&enqueue).await.unwrap().rows.len(), 1);
        }
        let error = queue.enqueue(task()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
    }
}

/// With a driver that zmsg knows nothing of.
#[tokio::test]
async fn a_transaction_of_another_driver_enqueues_with_its_commit() {
    let Some(db) = Db::postgres().await else { return };
    let queue = node(db.store().await);
    let (mut client, connection) =
        tokio_postgres::connect(db.database().url(), NoTls).await.unwrap();
    let driver = tokio::task::JoinSet::from_iter([connection]);
    client.batch_execute("CREATE TABLE orders (id int PRIMARY KEY)").await.unwrap();

    let task = task();
    let enqueue = outbox::enqueue(&task, &SystemClock, Dialect::Postgres).unwrap();
    let (text, binds) = outbox::render(&enqueue, Dialect::Postgres).unwrap();
    let [Value::Uuid(id), Value::Text(name), Value::Text(kind), Value::Bytes(payload), rest @ ..] =
        &binds[..]
    else {
        panic!("{binds:?}");
    };
    let (payload, delay) = (payload.to_vec(), rest[0].as_int().unwrap());
    let attempts = rest[1].as_int().unwrap();
    for commits in [false, true] {
        let transaction = client.transaction().await.unwrap();
        transaction.execute("INSERT INTO orders VALUES (1)", &[]).await.unwrap();
        let accepted =
            transaction.query(&text, &[id, name, kind, &payload, &delay, &attempts]).await;
        assert_eq!(accepted.unwrap().len(), 1);
        assert_eq!(queue.state(task.id).await.unwrap(), None, "not before the commit");
        assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty());
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        let found = queue.state(task.id).await.unwrap();
        assert_eq!(matches!(found, Some(TaskState::Pending { .. })), commits, "{found:?}");
    }
    assert_eq!(queue.lease("default", 9, LEASE).await.unwrap()[0].payload, task.payload);
    drop(driver);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_a_users_transaction_has_what_it_says_of_itself() {
    const SPAN: u64 = 3_600_000;
    for db in Db::each().await {
        let store = db.store().await;
        let queue = node(store.clone());
        let (timeout, deadline) = (Duration::from_millis(1_234), SystemClock.wall() + SPAN);
        let plain = task();
        let limited = task().timeout(timeout).deadline(deadline);
        let first = task().deadline(deadline).ordered_by("a").on_dead(OnDead::Skip);
        let second = task().ordered_by("a");
        for task in [&plain, &limited, &first, &second] {
            let enqueue = || outbox::enqueue(task, &SystemClock, store.dialect()).unwrap();
            assert_eq!(store.execute(&enqueue()).await.unwrap().rows.len(), 1);
            assert_eq!(store.execute(&enqueue()).await.unwrap().rows.len(), 0, "a duplicate");
        }
        let mut leased = queue.lease("default", 9, LEASE).await.unwrap();
        leased.sort_unstable_by_key(|task| task.id);
        let ids: Vec<_> = leased.iter().map(|task| task.id).collect();
        assert_eq!(ids, [plain.id, limited.id, first.id], "the second of the lane waits");
        let timeouts: Vec<_> = leased.iter().map(|task| task.timeout).collect();
        assert_eq!(timeouts, [None, Some(timeout), None]);
        assert_eq!(leased[0].deadline, None);
        for task in &leased[1..] {
            // By the clock of the database, and as far off as it was.
            assert!(task.deadline.unwrap().abs_diff(deadline) < SPAN / 2, "{:?}", task.deadline);
        }
        let lanes: Vec<_> =
            leased.iter().map(|task| task.lane.as_ref().map(|lane| &*lane.key)).collect();
        assert_eq!(lanes, [None, None, Some("a")]);
        assert!(queue.bury(&leased[2], &Error::invalid_input("poisoned")).await.unwrap());
        let next = queue.lease("default", 9, LEASE).await.unwrap();
        assert_eq!(next.iter().map(|task| task.id).collect::<Vec<_>>(), [second.id], "skipped");
        assert!(queue.bury(&next[0], &Error::invalid_input("poisoned")).await.unwrap());
        let third = outbox::enqueue_quietly(&task().ordered_by("a"), &SystemClock, store.dialect());
        store.execute(&third.unwrap()).await.unwrap();
        assert!(queue.lease("default", 9, LEASE).await.unwrap().is_empty(), "blocked");
    }
}

/// Programs that bind six values go on as they are.
#[test]
fn a_task_that_says_nothing_of_itself_has_the_statement_that_it_always_had() {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        let statement = |task: &NewTask| outbox::enqueue(task, &SystemClock, dialect).unwrap();
        let plain = statement(&task().due(5));
        assert_eq!(plain.binds.len(), 6);
        assert!(!plain.text.contains("lane") && !plain.text.contains("timeout"), "{}", plain.text);
        for more in [task().ordered_by("a"), task().deadline(9), task().timeout(LEASE)] {
            let more = statement(&more);
            assert_eq!(more.binds.len(), 10);
            let (text, binds) = outbox::render(&more, dialect).unwrap();
            assert_eq!((text.contains("$10"), binds.len()), (dialect == Dialect::Postgres, 10));
        }
        let error = outbox::enqueue(&task().retention(LEASE), &SystemClock, dialect).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_held_by_the_statement_of_a_users_transaction_until_its_commit() {
    let Some(db) = Db::postgres().await else { return };
    let queue = node(db.store().await);
    let [mut holder, mut late, watcher] = [client(&db).await, client(&db).await, client(&db).await];
    for enqueue in [outbox::enqueue, outbox::enqueue_quietly] {
        let [first, second, third] = [(); 3].map(|()| task().ordered_by("a"));
        let statement = |task: &NewTask| enqueue(task, &SystemClock, Dialect::Postgres).unwrap();
        let held = holder.transaction().await.unwrap();
        assert_eq!(run_on(&held, &statement(&first)).await.unwrap(), 1);

        let second_statement = statement(&second);
        let other = TaskTracker::new().spawn(async move {
            let transaction = late.transaction().await.unwrap();
            assert_eq!(run_on(&transaction, &second_statement).await.unwrap(), 1);
            transaction.commit().await.unwrap();
            late
        });
        waiting(&watcher, 1).await;
        let (node, task) = (queue.clone(), third.clone());
        let enqueued = TaskTracker::new().spawn(async move { node.enqueue(task).await });
        waiting(&watcher, 2).await;
        assert!(!other.is_finished() && !enqueued.is_finished());
        held.commit().await.unwrap();
        late = other.await.unwrap();
        enqueued.await.unwrap().unwrap();
        for expected in [first, second, third] {
            let leased = queue.lease("default", 9, LEASE).await.unwrap();
            let ids: Vec<_> = leased.iter().map(|task| task.id).collect();
            assert_eq!(ids, [expected.id], "in the order of their commits, one at a time");
            assert!(queue.complete(&leased[0]).await.unwrap());
        }
    }
}

/// It would not see those that were committed before it had the lane, and be the first beside another.
#[tokio::test]
async fn a_transaction_that_sees_the_past_is_refused_in_a_lane() {
    let Some(db) = Db::postgres().await else { return };
    let queue = node(db.store().await);
    let mut client = client(&db).await;
    let statement =
        |task: &NewTask| outbox::enqueue(task, &SystemClock, Dialect::Postgres).unwrap();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for is_lane in [true, false] {
            let transaction = client.transaction().await.unwrap();
            let set = format!("SET TRANSACTION ISOLATION LEVEL {level}");
            transaction.batch_execute(&set).await.unwrap();
            let task = if is_lane { task().ordered_by("a") } else { task().timeout(LEASE) };
            match run_on(&transaction, &statement(&task)).await {
                Ok(rows) => assert!(!is_lane && rows == 1),
                Err(error) => {
                    let text = error.as_db_error().unwrap().message();
                    assert!(is_lane && text.contains("READ COMMITTED"), "{text}");
                }
            }
        }
    }
    assert_eq!(queue.stats("default").await.unwrap().pending, 0);
}

async fn client(db: &Db) -> Client {
    let (client, connection) = tokio_postgres::connect(db.database().url(), NoTls).await.unwrap();
    TaskTracker::new().spawn(connection);
    client
}

/// Waits until so many wait for a lane.
async fn waiting(watcher: &Client, wanted: i64) {
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let wait = async {
        while watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) < wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LEASE, wait).await.expect("they wait for who came before");
}

/// Runs it as another driver does; how many rows came back.
async fn run_on(
    transaction: &tokio_postgres::Transaction<'_>,
    statement: &Statement,
) -> Result<usize, tokio_postgres::Error> {
    let (text, binds) = outbox::render(statement, Dialect::Postgres).unwrap();
    let binds: Vec<_> = binds.into_iter().enumerate().map(|(at, bind)| bound(at, bind)).collect();
    let binds: Vec<&(dyn ToSql + Sync)> = binds.iter().map(|bind| &**bind as _).collect();
    transaction.query(&text, &binds).await.map(|rows| rows.len())
}

fn bound(at: usize, bind: Value) -> Box<dyn ToSql + Sync + Send> {
    match bind {
        Value::Uuid(id) => Box::new(id),
        Value::Text(text) => Box::new(text),
        Value::Bytes(bytes) => Box::new(bytes.to_vec()),
        Value::Int(number) => Box::new(number),
        Value::Bool(is) => Box::new(is),
        Value::Null if at == 8 => Box::new(None::<String>),
        Value::Null if at == 9 => Box::new(None::<bool>),
        Value::Null => Box::new(None::<i64>),
        other => panic!("{other:?}"),
    }
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::nil()
}
