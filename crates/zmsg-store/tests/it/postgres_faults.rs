//! A server that stops, hangs, is in a hurry, or whose answers are lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use zmsg_core::{ErrorKind, ErrorStatus, Statement, Value};
use zmsg_store::{PostgresOptions, PostgresStore, SqlStore, Step};
use zmsg_testbed::{Proxy, Repeat, private};

use crate::postgres::{Postgres, one, open, plain, run, until};

fn query(text: &str) -> Statement {
    Statement::query(text, vec![])
}

/// A store that reaches its database through a proxy, with a table `log (n integer)`.
async fn behind_a_proxy(database: &Postgres, options: PostgresOptions) -> (Proxy, PostgresStore) {
    let proxy = Proxy::before(database.0.url());
    let store = open(PostgresOptions { url: database.0.url_at(proxy.addr()), ..options }).await;
    run(&store, "CREATE TABLE log (n integer)").await;
    (proxy, store)
}

fn insert(n: i64) -> Statement {
    Statement::new("INSERT INTO log VALUES (?)", vec![n.into()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_an_unknown_outcome_and_has_happened() {
    let Some(database) = Postgres::fresh().await else { return };
    let (proxy, store) = behind_a_proxy(&database, database.options()).await;
    // Once prepared and once more, when BEGIN, the steps and COMMIT travel together.
    for n in [1, 2] {
        proxy.swallow_answer("COMMIT\0", Repeat::Once);
        let steps = vec![Step::any(insert(n)), Step::any(insert(n))];
        let failed = store.execute_all(steps).await.unwrap_err();
        assert_eq!(failed.error.status(), ErrorStatus::OutcomeUnknown, "{failed}");
        let count = Statement::query("SELECT count(*) FROM log WHERE n = ?", vec![n.into()]);
        let rows = store.fetch(&count).await.unwrap();
        assert_eq!(rows[0].int(0).unwrap(), 2, "the next call has a connection that works");
    }
    proxy.swallow_answer("INSERT 0 1\0", Repeat::Once);
    let error = store.execute(&insert(3)).await.unwrap_err();
    assert_eq!(error.status(), ErrorStatus::OutcomeUnknown, "{error}");
    assert_eq!(one(&store, "SELECT count(*) FROM log WHERE n = 3").await, Value::Int(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_before_its_commit_has_not_happened_and_is_temporary() {
    let Some(database) = Postgres::fresh().await else { return };
    let (proxy, store) = behind_a_proxy(&database, database.options()).await;
    let store = Arc::new(store);
    let working = Arc::clone(&store);
    // What decides about the next statement keeps the COMMIT back.
    let job = TaskTracker::new().spawn(async move {
        let wait = Step::must(query("SELECT pg_sleep(60)"), zmsg_store::Expect::Returns(1), "one");
        working.execute_all(vec![Step::any(insert(1)), wait]).await
    });
    let direct = database.store().await;
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' \
                    AND state = 'active' AND datname = current_database()";
    until(|| async { one(&direct, sleeping).await == Value::Int(1) }).await;
    proxy.reset_all();
    let failed = job.await.unwrap().unwrap_err();
    assert_eq!(
        (failed.error.kind(), failed.error.status()),
        (ErrorKind::Unavailable, ErrorStatus::Temporary)
    );
    assert_eq!(one(&store, "SELECT count(*) FROM log").await, Value::Int(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_were_lost_are_replaced_without_an_error() {
    let Some(database) = Postgres::fresh().await else { return };
    let (proxy, store) = behind_a_proxy(&database, database.options()).await;
    for n in 0..10 {
        let wait = query("SELECT pg_sleep(0.05)");
        let both = futures_util::future::join_all((0..4).map(|_| store.fetch(&wait)));
        assert!(both.await.into_iter().all(|result| result.is_ok()));
        proxy.reset_all();
        let killed = Instant::now();
        // The driver hears of a reset as soon as it runs.
        tokio::task::yield_now().await;
        until(|| async { killed.elapsed() > Duration::from_millis(20) }).await;
        match n % 3 {
            0 => drop(one(&store, "SELECT 1").await),
            1 => drop(store.execute(&insert(n)).await.unwrap()),
            _ => drop(store.execute_all(vec![Step::any(insert(n))]).await.unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_terminated_fails_its_statement_and_no_other() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = Arc::new(database.store().await);
    run(&store, "CREATE TABLE log (n integer)").await;
    let direct = database.store().await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND query LIKE '%pg_sleep(60)%' \
                AND state = 'active' AND pid <> pg_backend_pid()";
    let (by_itself, with_commit, before_commit) = (0, 1, 2);
    for way in [by_itself, with_commit, before_commit] {
        let working = Arc::clone(&store);
        let job = TaskTracker::new().spawn(async move {
            let slow = query("INSERT INTO log SELECT 1 FROM pg_sleep(60) RETURNING n");
            if way == by_itself {
                working.execute(&slow).await.map(drop)
            } else {
                // What decides about the next statement keeps the COMMIT back.
                let slow = if way == before_commit {
                    Step::must(slow, zmsg_store::Expect::Returns(1), "one")
                } else {
                    Step::any(slow)
                };
                let steps = vec![Step::any(insert(1)), slow];
                working.execute_all(steps).await.map(drop).map_err(|failed| failed.error)
            }
        });
        until(|| async { one(&direct, kill).await == Value::Int(1) }).await;
        let error = job.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        // What was sent with its COMMIT could have been committed and then killed.
        let expected =
            if way == before_commit { ErrorStatus::Temporary } else { ErrorStatus::OutcomeUnknown };
        assert_eq!(error.status(), expected, "{error}");
        assert_eq!(one(&store, "SELECT count(*) FROM log").await, Value::Int(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocks_serialization_failures_and_lock_time_outs_are_temporary() {
    let Some(database) = Postgres::fresh().await else { return };
    let options =
        PostgresOptions { lock_timeout: Duration::from_millis(300), ..database.options() };
    let store = Arc::new(open(options).await);
    run(&store, "CREATE TABLE rows (id integer PRIMARY KEY, v integer)").await;
    run(&store, "INSERT INTO rows VALUES (1, 0), (2, 0)").await;
    let bump = |id: i64| {
        Step::any(Statement::new("UPDATE rows SET v = v + 1 WHERE id = ?", vec![id.into()]))
    };
    let pause = || Step::any(query("SELECT pg_sleep(0.1)"));
    let short = || Step::any(plain("SET LOCAL deadlock_timeout = '20ms'"));
    let patient = || Step::any(plain("SET LOCAL lock_timeout = '5s'"));
    let cross = |a: i64, b: i64| vec![short(), patient(), bump(a), pause(), bump(b)];
    let both = tokio::join!(store.execute_all(cross(1, 2)), store.execute_all(cross(2, 1)));
    let failed = [both.0, both.1].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(failed.len(), 1, "one of them is the victim");
    assert!(failed[0].error.is_temporary(), "{}", failed[0]);
    assert!(failed[0].to_string().contains("40P01"), "{}", failed[0]);

    let serial = || Step::any(plain("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"));
    let seen = || Step::any(query("SELECT v FROM rows WHERE id = 1"));
    let raced = || vec![serial(), seen(), pause(), bump(1)];
    let both = tokio::join!(store.execute_all(raced()), store.execute_all(raced()));
    let failed = [both.0, both.1].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(failed[0].error.is_temporary() && failed[0].to_string().contains("40001"));

    let long = vec![bump(1), Step::any(query("SELECT pg_sleep(1)"))];
    let holder = store.execute_all(long);
    let waiter = async {
        let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND state = 'active' AND query LIKE 'SELECT pg_sleep(1)%'";
        until(|| async { one(&store, held).await == Value::Int(1) }).await;
        store.execute_all(vec![bump(1)]).await
    };
    let (held, waited) = tokio::join!(holder, waiter);
    held.unwrap();
    let error = waited.unwrap_err().error;
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, ErrorStatus::Temporary));
    assert!(error.to_string().contains("locked"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_runs_for_too_long_is_stopped() {
    let Some(database) = Postgres::fresh().await else { return };
    let options =
        PostgresOptions { statement_timeout: Duration::from_millis(200), ..database.options() };
    let (proxy, store) = behind_a_proxy(&database, options).await;
    let slow = query("SELECT pg_sleep(60)");
    let error = store.fetch(&slow).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Timeout, ErrorStatus::Temporary));
    let error = store.execute(&slow).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Timeout, ErrorStatus::Temporary));
    // A server that says nothing at all, to a statement that is prepared.
    store.execute(&insert(0)).await.unwrap();
    proxy.black_hole(true);
    let begin = Instant::now();
    let error = store.execute(&insert(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Timeout, ErrorStatus::OutcomeUnknown));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    proxy.black_hole(false);
    until(|| async { store.fetch(&query("SELECT 1")).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_waited_for_once_however_many_steps_there_are() {
    let Some(database) = Postgres::fresh().await else { return };
    let options =
        PostgresOptions { statement_timeout: Duration::from_millis(200), ..database.options() };
    let (proxy, store) = behind_a_proxy(&database, options).await;
    let steps = || (0..16).map(|n| Step::any(insert(n))).collect::<Vec<_>>();
    // Twice, so that the session is as a transaction wants it and the statement prepared.
    for _ in 0..2 {
        store.execute_all(steps()).await.unwrap();
    }
    proxy.black_hole(true);
    let begin = Instant::now();
    let failed = store.execute_all(steps()).await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::Timeout, "{failed}");
    assert_eq!(failed.error.status(), ErrorStatus::OutcomeUnknown, "{failed}");
    // The time-out, and a second each for the answer, for asking to stop and for the end of that.
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    proxy.black_hole(false);
    until(|| async { store.fetch(&query("SELECT 1")).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_no_writes_and_the_primary_is_found_when_it_is_there() {
    let standby = private::PostgresOptions::new().file("standby.signal", "");
    let Some(server) = private::PrivatePostgres::start(standby) else { return };
    let store = open(PostgresOptions::new(server.url())).await;
    for _ in 0..2 {
        let error = store.execute(&plain("CREATE TABLE log (n integer)")).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
        let failed = store.execute_all(vec![Step::any(insert(1))]).await.unwrap_err();
        assert!(failed.error.is_temporary(), "{failed}");
        assert_eq!(one(&store, "SELECT pg_is_in_recovery()").await, Value::Bool(true));
    }
    let direct = one(&store, "SELECT pg_promote(true, 30)").await;
    assert_eq!(direct, Value::Bool(true));
    run(&store, "CREATE TABLE log (n integer)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_is_found_again() {
    let Some(server) = private::PrivatePostgres::start(private::PostgresOptions::new()) else {
        return;
    };
    let options = PostgresOptions {
        acquire_timeout: Duration::from_secs(1),
        ..PostgresOptions::new(server.url())
    };
    let store = open(options).await;
    run(&store, "CREATE TABLE log (n integer)").await;
    for n in 0..2 {
        if n == 0 {
            server.stop()
        } else {
            server.kill()
        }
        let error = store.fetch(&query("SELECT 1")).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
        let error = store.execute(&insert(n)).await.unwrap_err();
        assert!(error.is_temporary(), "nothing was sent: {error}");
        server.restart();
        let begin = Instant::now();
        until(|| async { store.execute(&insert(n)).await.is_ok() }).await;
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
    assert_eq!(one(&store, "SELECT count(*) FROM log").await, Value::Int(2));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_server_without_connections_to_spare_is_overloaded() {
    let few = private::PostgresOptions::new()
        .setting("max_connections", "4")
        .setting("superuser_reserved_connections", "0");
    let Some(server) = private::PrivatePostgres::start(few) else { return };
    let store = open(PostgresOptions::new(server.url())).await;
    let wait = query("SELECT pg_sleep(0.5)");
    let calls = futures_util::future::join_all((0..12).map(|_| store.fetch(&wait))).await;
    assert!(calls.iter().any(Result::is_ok));
    for error in calls.into_iter().filter_map(Result::err) {
        assert_eq!((error.kind(), error.status()), (ErrorKind::Overloaded, ErrorStatus::Temporary));
    }
    one(&store, "SELECT 1").await;
}
