//! Tasks that are enqueued in a transaction of the user's own.

use tokio_postgres::NoTls;
use zmsg_core::{ErrorKind, Statement, SystemClock, TaskId, Value};
use zmsg_queue::{NewTask, SqlQueueOptions, TaskQueue, TaskState, outbox};
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

fn uuid() -> uuid::Uuid {
    uuid::Uuid::nil()
}
