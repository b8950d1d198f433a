//! Behind a transaction pooler, which hands each transaction another connection of the server.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use zmsg_core::{ErrorStatus, Statement, Value};
use zmsg_store::conformance::Harness;
use zmsg_store::{PostgresOptions, SqlStore, Step};
use zmsg_testbed::private::{self, PoolMode, PrivatePgbouncer, PrivatePostgres};
use zmsg_testbed::{Database, Postgres as Server, Proxy, Repeat};

use crate::postgres::{one, open, plain, run};

/// A server and a pooler for all tests of this file; both end with this process.
fn pooler() -> Option<&'static (PrivatePostgres, PrivatePgbouncer)> {
    static POOLER: OnceLock<Option<(PrivatePostgres, PrivatePgbouncer)>> = OnceLock::new();
    let start = || {
        let server = PrivatePostgres::start(private::PostgresOptions::new())?;
        // Fewer connections of the server than clients: nobody keeps the same one for long.
        let few = ["default_pool_size = 3", "server_idle_timeout = 5"];
        let pooler = PrivatePgbouncer::start(&server, PoolMode::Transaction, &few)?;
        Some((server, pooler))
    };
    POOLER.get_or_init(start).as_ref()
}

/// A database of a test's own, reached through the pooler.
struct Pooled(Database);

impl Pooled {
    async fn fresh() -> Option<Self> {
        let (server, _) = tokio::task::spawn_blocking(pooler).await.unwrap()?;
        Some(Self(Server::at(server.url()).database().await))
    }

    fn options(&self) -> PostgresOptions {
        let port = pooler().map_or(0, |(_, pooler)| pooler.port());
        let url = self.0.url_at(([127, 0, 0, 1], port).into());
        PostgresOptions { connections_max: 8, pooled: true, ..PostgresOptions::new(url) }
    }
}

#[async_trait]
impl Harness for Pooled {
    async fn open(&self) -> Arc<dyn SqlStore> {
        Arc::new(open(self.options()).await)
    }
}

zmsg_store::conformance!(optional: Pooled::fresh().await);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_prepared_on_the_server() {
    let Some(database) = Pooled::fresh().await else { return };
    let store = Arc::new(open(database.options()).await);
    run(&store, "CREATE TYPE mood AS ENUM ('sad', 'glad')").await;
    run(&store, "CREATE TABLE moods (id bigint PRIMARY KEY, mood mood, day date, all_of mood[])")
        .await;
    let mut work = tokio::task::JoinSet::new();
    for id in 0..200_i64 {
        let store = Arc::clone(&store);
        work.spawn(async move {
            let put = "INSERT INTO moods VALUES (?, ?, ?, ?) RETURNING mood, day, all_of";
            let all_of = Value::from(vec![Value::from("sad"), Value::Null]);
            let binds = vec![id.into(), "glad".into(), "2026-11-21".into(), all_of.clone()];
            let outcome = store.execute(&Statement::query(put, binds)).await.unwrap();
            assert_eq!((outcome.changed, outcome.rows[0].text(0).unwrap()), (1, "glad"));
            assert_eq!(outcome.rows[0].at(2).unwrap(), &all_of);
            let get = Statement::query("SELECT mood FROM moods WHERE id = ?", vec![id.into()]);
            assert_eq!(store.fetch(&get).await.unwrap()[0].text(0).unwrap(), "glad");
            let bad = Statement::new("INSERT INTO moods VALUES (?, 'bad')", vec![id.into()]);
            store.execute(&bad).await.unwrap_err();
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    for _ in 0..20 {
        let left = "SELECT count(*) FROM pg_prepared_statements";
        assert_eq!(one(&store, left).await, Value::Int(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_outs_hold_and_do_not_stay_behind() {
    let Some(database) = Pooled::fresh().await else { return };
    let options = database.options();
    let timeout = std::time::Duration::from_millis(300);
    let store = open(PostgresOptions { statement_timeout: timeout, ..options.clone() }).await;
    let error = store.fetch(&Statement::query("SELECT pg_sleep(60)", vec![])).await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("57014"), "{error}");
    let shown =
        one(&store, "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'").await;
    assert_eq!(shown, Value::from("300"));
    // Whoever comes next to the same connections of the server finds them as they were.
    let patient = PostgresOptions { statement_timeout: std::time::Duration::ZERO, ..options };
    let next = open(patient).await;
    one(&next, "SELECT pg_sleep(0.6)").await;
}

#[tokio::test]
async fn what_cannot_run_in_a_transaction_runs_alone() {
    let Some(database) = Pooled::fresh().await else { return };
    let store = open(database.options()).await;
    run(&store, "CREATE TABLE things (id bigint)").await;
    run(&store, "VACUUM things").await;
    run(&store, "CREATE INDEX CONCURRENTLY things_id ON things (id)").await;
    let steps = vec![Step::any(plain("VACUUM things"))];
    assert!(store.execute_all(steps).await.is_err(), "several steps are one transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_lost_the_server_behind_a_commit_makes_the_outcome_unknown() {
    let Some(server) = PrivatePostgres::start(private::PostgresOptions::new()) else { return };
    let proxy = Proxy::before(&server.url());
    // The later of two entries holds: the pooler reaches the server through the proxy.
    let through = format!("* = host=127.0.0.1 port={}", proxy.addr().port());
    let settings = ["[databases]", through.as_str()];
    let Some(pooler) = PrivatePgbouncer::start(&server, PoolMode::Transaction, &settings) else {
        return;
    };
    let store = open(PostgresOptions { pooled: true, ..PostgresOptions::new(pooler.url()) }).await;
    run(&store, "CREATE TABLE counts (n bigint)").await;
    run(&store, "INSERT INTO counts VALUES (0)").await;
    let bump = plain("UPDATE counts SET n = n + 1");
    // Prepared, so that the next one travels with its COMMIT.
    store.execute(&bump).await.unwrap();
    proxy.swallow_answer_to("COMMIT\0", Repeat::Once);
    let error = store.execute(&bump).await.unwrap_err();
    assert!(error.to_string().contains("08P01"), "the pooler answers: {error:?}");
    assert_eq!(error.status(), ErrorStatus::OutcomeUnknown, "{error:?}");
    assert_eq!(one(&store, "SELECT n FROM counts").await, Value::Int(2), "it has happened");
}

#[tokio::test]
async fn there_are_no_notifications() {
    let Some(database) = Pooled::fresh().await else { return };
    let store = open(database.options()).await;
    assert!(store.notifications("news").await.unwrap().is_none());
}
