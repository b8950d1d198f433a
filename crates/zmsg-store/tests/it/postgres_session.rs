//! What a call may leave behind in its connection: nothing.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use zmsg_core::{ErrorKind, ErrorStatus, Statement, Value};
use zmsg_store::{Expect, Otherwise, PostgresOptions, SqlStore, Step};

use crate::postgres::{Postgres, one, open, plain, run, until};

#[tokio::test]
async fn a_function_that_writes_cannot_do_so_in_a_fetch() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    run(&store, "CREATE TABLE log (n integer)").await;
    let write = "CREATE FUNCTION write() RETURNS integer LANGUAGE sql VOLATILE \
                 AS 'INSERT INTO log VALUES (1) RETURNING n'";
    run(&store, write).await;
    run(&store, "CREATE SEQUENCE ids").await;
    // Until now the connection was used for writing; afterwards it is again.
    for _ in 0..3 {
        for text in ["SELECT write()", "SELECT nextval('ids')", "SELECT * FROM log FOR UPDATE"] {
            let error = store.fetch(&Statement::query(text, vec![])).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
        }
        for text in ["DO $$ BEGIN INSERT INTO log VALUES (1); END $$", "CALL nothing()"] {
            let error = store.fetch(&plain(text)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
        }
        run(&store, "INSERT INTO log VALUES (2)").await;
        store.execute(&Statement::query("SELECT write()", vec![])).await.unwrap();
    }
    assert_eq!(one(&store, "SELECT count(*) FROM log WHERE n = 1").await, Value::Int(3));
}

#[tokio::test]
async fn a_procedure_cannot_commit_half_of_its_work() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    run(&store, "CREATE TABLE log (n integer)").await;
    let body = "BEGIN INSERT INTO log VALUES (1); COMMIT; INSERT INTO log VALUES (2); END";
    run(&store, &format!("CREATE PROCEDURE sly() LANGUAGE plpgsql AS $$ {body} $$")).await;
    for text in ["CALL sly()", &format!("DO $$ {body} $$")] {
        let error = store.execute(&plain(text)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
    }
    assert_eq!(one(&store, "SELECT count(*) FROM log").await, Value::Int(0));
    run(&store, "DO $$ BEGIN INSERT INTO log VALUES (3); END $$").await;
    assert_eq!(one(&store, "SELECT count(*) FROM log").await, Value::Int(1));
}

#[tokio::test]
async fn settings_of_a_transaction_end_with_it() {
    let Some(database) = Postgres::fresh().await else { return };
    let options = PostgresOptions { connections_max: 1, ..database.options() };
    let store = open(options).await;
    let steps = [
        "SET LOCAL application_name = 'mine'",
        "SELECT set_config('statement_timeout', '1234ms', true)",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SELECT current_setting('application_name') || current_setting('statement_timeout')",
    ];
    let order = [0, 2, 1, 3];
    let steps = order.map(|index| Step::any(Statement::query(steps[index], vec![])));
    let outcomes = store.execute_all(steps.to_vec()).await.unwrap();
    assert_eq!(outcomes[3].rows[0].text(0).unwrap(), "mine1234ms");
    let left = "SELECT current_setting('application_name') || current_setting('statement_timeout') \
                || current_setting('lock_timeout')";
    assert_eq!(one(&store, left).await, Value::from("zmsg10s3s"));
}

#[tokio::test]
async fn a_statement_by_itself_sees_what_was_committed_whatever_the_database_is_set_to() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    let name = database.0.name();
    let set =
        format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'");
    run(&store, &set).await;
    let store = database.store().await;
    let level = one(&store, "SELECT current_setting('transaction_isolation')").await;
    assert_eq!(level, Value::from("read committed"));
}

#[tokio::test]
async fn an_order_not_to_write_is_respected_and_its_end_noticed() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    run(&store, "CREATE TABLE log (n integer)").await;
    let name = database.0.name();
    run(&store, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let frozen = database.store().await;
    for _ in 0..3 {
        let error = frozen.execute(&plain("INSERT INTO log VALUES (1)")).await.unwrap_err();
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
        let steps = vec![Step::any(plain("INSERT INTO log VALUES (1)"))];
        let failed = frozen.execute_all(steps).await.unwrap_err();
        assert!(failed.error.is_temporary(), "{failed}");
        assert_eq!(one(&frozen, "SELECT count(*) FROM log").await, Value::Int(0));
    }
    run(&store, &format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await;
    run(&frozen, "INSERT INTO log VALUES (1)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_dropped_at_any_point_leaves_no_half_and_no_dirty_connection() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = open(PostgresOptions { connections_max: 2, ..database.options() }).await;
    run(&store, "CREATE TABLE halves (n bigint, half text)").await;
    let put = |n: i64, half: &str| {
        let text = "INSERT INTO halves VALUES (?, ?)";
        Step::any(Statement::new(text, vec![n.into(), half.into()]))
    };
    for n in 0..60_i64 {
        let polls = usize::try_from(n % 6).unwrap();
        let check = Statement::query("SELECT 1 WHERE ? >= 0", vec![n.into()]);
        let check = Step::must(check, Expect::Returns(1), "it is not negative");
        give_up_after(polls, store.execute_all(vec![put(n, "a"), check, put(n, "b")])).await;
        let wait = Statement::query("SELECT pg_sleep(0.02), ?", vec![n.into()]);
        give_up_after(polls, store.fetch(&wait)).await;
        // The connection that was left is as good as new.
        assert_eq!(one(&store, "SELECT 7").await, Value::Int(7));
    }
    let halves = "SELECT count(*) FROM (SELECT n FROM halves GROUP BY n HAVING count(*) <> 2) AS h";
    until(|| async { one(&store, halves).await == Value::Int(0) }).await;
    let open = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(one(&store, open).await, Value::Int(0));
    store.close().await.unwrap();
}

/// Polls a future so many times, each time when it is woken, and drops it.
async fn give_up_after<T>(polls: usize, future: impl Future<Output = T>) {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        future.as_mut().poll(context).map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_statement_whose_table_changed_is_prepared_anew() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = open(PostgresOptions { connections_max: 1, ..database.options() }).await;
    run(&store, "CREATE TABLE things (id integer, v integer)").await;
    run(&store, "INSERT INTO things VALUES (1, 5)").await;
    let query = Statement::query("SELECT * FROM things WHERE id = ?", vec![1.into()]);
    let change = Statement::query("UPDATE things SET v = v RETURNING *", vec![]);
    assert_eq!(store.fetch(&query).await.unwrap()[0].at(1).unwrap(), &Value::Int(5));
    store.execute(&change).await.unwrap();
    run(&store, "ALTER TABLE things ALTER v TYPE text").await;
    assert_eq!(store.fetch(&query).await.unwrap()[0].at(1).unwrap(), &Value::from("5"));
    run(&store, "ALTER TABLE things ADD w integer DEFAULT 9").await;
    let outcome = store.execute(&change).await.unwrap();
    assert_eq!(outcome.rows[0].columns(), ["id", "v", "w"]);
    run(&store, "ALTER TABLE things DROP w").await;
    let steps = vec![Step::any(plain("INSERT INTO things VALUES (2, 'x')")), Step::any(change)];
    assert_eq!(store.execute_all(steps).await.unwrap()[1].changed, 2, "once, not twice");
}

#[tokio::test]
async fn a_statement_that_runs_in_place_of_another_is_prepared_anew_too() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = open(PostgresOptions { connections_max: 1, ..database.options() }).await;
    run(&store, "CREATE TABLE things (id text PRIMARY KEY, n bigint)").await;
    let bump = |n: u128| {
        let id = || vec![Value::from(uuid::Uuid::from_u128(n).to_string())];
        let insert = Statement::new("INSERT INTO things (id, n) SELECT ?, 1", id());
        Step {
            statement: Statement::new("UPDATE things SET n = n + 1 WHERE id = ?", id()),
            expect: Expect::AtLeast(1),
            otherwise: Otherwise::Run(vec![insert]),
        }
    };
    store.execute_all(vec![bump(1)]).await.unwrap();
    // From another connection, so that nothing is forgotten in this one.
    let other = database.store().await;
    run(&other, "ALTER TABLE things ALTER id TYPE uuid USING id::uuid").await;
    for n in 2..5 {
        // The text of the bind goes where the server wants a uuid only now.
        store.execute_all(vec![bump(n)]).await.unwrap();
    }
    assert_eq!(one(&store, "SELECT sum(n)::bigint FROM things").await, Value::Int(4));
}

#[tokio::test]
async fn a_bind_fits_a_column_whose_type_has_changed() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = open(PostgresOptions { connections_max: 1, ..database.options() }).await;
    run(&store, "CREATE TABLE things (v smallint)").await;
    let put = |value: Value| Statement::new("INSERT INTO things VALUES (?)", vec![value]);
    store.execute(&put(1.into())).await.unwrap();
    assert!(store.execute(&put(40_000.into())).await.is_err());
    run(&store, "ALTER TABLE things ALTER v TYPE bigint").await;
    store.execute(&put(i64::MAX.into())).await.unwrap();
    run(&store, "ALTER TABLE things ALTER v TYPE uuid USING NULL").await;
    let id = uuid::Uuid::nil();
    store.execute_all(vec![Step::any(put(id.into()))]).await.unwrap();
    run(&store, "ALTER TABLE things ALTER v TYPE boolean USING NULL").await;
    store.execute(&put("yes".into())).await.unwrap();
    assert_eq!(one(&store, "SELECT count(v) FROM things").await, Value::Int(1));
}

#[tokio::test]
async fn no_more_statements_stay_prepared_than_allowed() {
    let Some(database) = Postgres::fresh().await else { return };
    let options = PostgresOptions { connections_max: 1, statements_max: 10, ..database.options() };
    let store = open(options).await;
    for n in 0..50 {
        one(&store, &format!("SELECT {n}")).await;
    }
    let count = "SELECT count(*) FROM pg_prepared_statements";
    until(|| async { one(&store, count).await.as_int().unwrap() <= 10 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_says_so_in_bounded_time() {
    let Some(database) = Postgres::fresh().await else { return };
    let options = PostgresOptions {
        connections_max: 1,
        waiters_max: 2,
        acquire_timeout: Duration::from_millis(200),
        ..database.options()
    };
    let store = open(options).await;
    let wait = Statement::query("SELECT pg_sleep(1)", vec![]);
    let calls = futures_util::future::join_all((0..5).map(|_| store.fetch(&wait))).await;
    let failed: Vec<_> = calls.into_iter().filter_map(Result::err).collect();
    assert_eq!(failed.len(), 4);
    for error in failed {
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert_eq!(error.status(), ErrorStatus::Temporary);
    }
    assert_eq!(one(&store, "SELECT 1").await, Value::Int(1));
}

#[tokio::test]
async fn options_that_cannot_be_used_and_logins_that_are_refused_are_told_at_open() {
    let Some(database) = Postgres::fresh().await else { return };
    let tracker = tokio_util::task::TaskTracker::new;
    let url = database.0.url();
    let nowhere = url.replace(database.0.name(), "no_such_database");
    for url in [
        "postgres://me:s3cret@host:notaport/x",
        "postgres://db.example/x?sslmode=disable",
        &nowhere,
    ] {
        let opened = zmsg_store::PostgresStore::open(PostgresOptions::new(url), tracker()).await;
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    let away = PostgresOptions::new("postgres://me@127.0.0.1:1/x");
    let error = zmsg_store::PostgresStore::open(away, tracker()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true), "{error}");
}
