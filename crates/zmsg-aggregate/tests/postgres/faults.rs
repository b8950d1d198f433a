//! What goes wrong between a flush and a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use zmsg_aggregate::{FlushObserver, Flushing, Unobserved};
use zmsg_core::{Key, Result, Statement, Value};
use zmsg_sqlbuilder::{OpBuilder, counter};
use zmsg_store::{Expect, PostgresOptions, Step};
use zmsg_testbed::{Proxy, Repeat};

use crate::server::{Node, Server};

fn count(id: i64) -> OpBuilder {
    counter("counts", "n").inc(1).where_eq("id", id)
}

/// Time for flushes between two faults.
const TURN: Duration = Duration::from_millis(5);

/// So many increments of random rows, in small portions, with something going wrong between them.
async fn increments(node: &Node, seed: u64, many: usize, mut fault: impl AsyncFnMut(usize)) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for turn in 0..many {
        node.submit(count(rng.i64(1..=100)));
        if turn % 500 == 0 {
            fault(turn).await;
            tokio::time::sleep(TURN).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_are_counted_once_while_answers_to_commits_are_lost() {
    let Some(server) = Server::open().await else { return };
    let proxy = Proxy::before(server.database.url());
    let node = server.node(&proxy.url(server.database.url())).await;
    let mut rng = fastrand::Rng::with_seed(7);
    proxy.swallow_answer("COMMIT\0", Repeat::Every(3));
    increments(&node, 1, 100_000, async |_| match rng.u8(0..16) {
        0 => proxy.cut_answer_after(rng.usize(1..200)),
        1 => proxy.reset_all(),
        _ => {}
    })
    .await;
    proxy.swallow_nothing();
    node.finish().await;
    assert_eq!(server.total().await, 100_000);
    assert_eq!(server.int("SELECT count(*) FROM zmsg_dead_letters").await, 0);
    assert!(proxy.counts().swallowed > 20, "{:?}", proxy.counts());
}

/// The row of the ledger is inserted by the first flush of a shard: nobody sees it before the
/// commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_flush_of_a_shard_is_counted_once_if_its_answer_is_lost() {
    let Some(server) = Server::open().await else { return };
    let proxy = Proxy::before(server.database.url());
    for round in 1..=10 {
        let node = server.node(&proxy.url(server.database.url())).await;
        proxy.swallow_answer("COMMIT\0", Repeat::Once);
        (1..=50).for_each(|id| node.submit(count(id)));
        node.finish().await;
        assert_eq!(server.total().await, round * 50);
    }
    assert!(proxy.counts().swallowed >= 10, "{:?}", proxy.counts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_are_counted_once_while_backends_are_terminated() {
    let Some(server) = Server::open().await else { return };
    let node = server.node(server.database.url()).await;
    let storm = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()";
    increments(&node, 2, 50_000, async |_| {
        let storm = Statement::query(storm, vec![]);
        let _ = server.store.execute(&storm).await;
    })
    .await;
    node.finish().await;
    assert_eq!(server.total().await, 50_000);
}

/// Two processes count the same rows; a transaction of a user takes them in the opposite order.
async fn contended(server: &Server) {
    let nodes =
        [server.node(server.database.url()).await, server.node(server.database.url()).await];
    let user = |from: i64| {
        let touch = |id: i64| {
            Step::any(Statement::new("UPDATE counts SET n = n WHERE id = ?", vec![Value::Int(id)]))
        };
        (0..20).map(move |at| touch(from - at)).collect::<Vec<_>>()
    };
    for turn in 0..60 {
        for node in &nodes {
            (1..=100).for_each(|id| node.submit(count(id)));
        }
        let _ = server.store.execute_all(user(100 - turn)).await;
    }
    for node in nodes {
        node.finish().await;
    }
    assert_eq!(server.total().await, 2 * 60 * 100);
    assert_eq!(server.int("SELECT count(*) FROM zmsg_dead_letters").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocks_lose_nothing() {
    let Some(server) = Server::open().await else { return };
    contended(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_cannot_be_put_in_an_order_lose_nothing() {
    let Some(server) = Server::open().await else { return };
    // What a server says that finds no order; here every tenth time a statement changes a row.
    server.run("CREATE SEQUENCE turns").await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                  IF nextval('turns') % 10 = 0 THEN \
                  RAISE 'could not serialize access' USING ERRCODE = '40001'; END IF; \
                  RETURN NULL; END $$";
    server.run(refuse).await;
    server.run("CREATE TRIGGER refuse AFTER UPDATE ON counts EXECUTE FUNCTION refuse()").await;
    contended(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_runs_out_of_time_is_tried_again() {
    let Some(server) = Server::open().await else { return };
    let options = PostgresOptions {
        statement_timeout: Duration::from_millis(100),
        lock_timeout: Duration::from_millis(80),
        ..PostgresOptions::new(server.database.url())
    };
    let node = server.node_with(options, Arc::new(Unobserved)).await;
    let held = vec![
        Step::any(Statement::new("UPDATE counts SET n = n", vec![])),
        Step::any(Statement::query("SELECT pg_sleep(0.6)", vec![])),
    ];
    let store = Arc::clone(&server.store);
    let holder = server.tracker.spawn(async move { store.execute_all(held).await });
    (1..=100).for_each(|id| node.submit(count(id)));
    holder.await.unwrap().unwrap();
    node.finish().await;
    assert_eq!(server.total().await, 100);
}

#[tokio::test]
async fn a_flush_waits_for_the_disk_also_where_the_database_does_not() {
    let Some(server) = Server::open().await else { return };
    let name = server.database.name();
    server.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    server.run("CREATE TABLE seen (setting text)").await;
    let function = "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                    INSERT INTO seen VALUES (current_setting('synchronous_commit')); \
                    RETURN NULL; END $$";
    server.run(function).await;
    let trigger = "CREATE TRIGGER look AFTER UPDATE ON counts EXECUTE FUNCTION look()";
    server.run(trigger).await;
    let node = server.node(server.database.url()).await;
    (1..=100).for_each(|id| node.submit(count(id)));
    node.finish().await;
    assert!(server.int("SELECT count(*) FROM seen WHERE setting = 'on'").await > 0);
    assert_eq!(server.int("SELECT count(*) FROM seen WHERE setting <> 'on'").await, 0);
}

/// What it says holds for as long as a row has the version that it saw.
#[derive(Debug)]
struct Versioned {
    store: Arc<dyn zmsg_store::SqlStore>,
    asked: AtomicUsize,
}

#[async_trait]
impl FlushObserver for Versioned {
    async fn flushing(&self, _keys: &[Key]) -> Result<Flushing> {
        self.asked.fetch_add(1, SeqCst);
        let read = Statement::query("SELECT version FROM state", vec![]);
        let version = self.store.fetch(&read).await?[0].int(0)?;
        if version < 3 {
            // Somebody raises it before the flush gets there.
            let raise = Statement::new("UPDATE state SET version = version + 1", vec![]);
            self.store.execute(&raise).await?;
        }
        let check = Statement::query(
            "SELECT 1 FROM state WHERE version = ?::bigint",
            vec![Value::Int(version)],
        );
        let checks = vec![Step::must(check, Expect::Returns(1), "the state is another one")];
        Ok(Flushing { checks, ..Flushing::unobserved() })
    }

    async fn flushed(&self, _keys: &[Key]) {}
}

#[tokio::test]
async fn an_observer_whose_check_fails_is_asked_anew_and_nobody_is_blamed() {
    let Some(server) = Server::open().await else { return };
    server.run("CREATE TABLE state (version bigint)").await;
    server.run("INSERT INTO state VALUES (1)").await;
    let store = Arc::clone(&server.store);
    let observer = Arc::new(Versioned { store, asked: AtomicUsize::new(0) });
    let options = PostgresOptions::new(server.database.url());
    let node = server.node_with(options, Arc::<Versioned>::clone(&observer)).await;
    (1..=100).for_each(|id| node.submit(count(id).batch_key("all")));
    node.finish().await;
    assert_eq!(server.total().await, 100);
    assert_eq!(observer.asked.load(SeqCst), 3);
    assert_eq!(server.int("SELECT count(*) FROM zmsg_dead_letters").await, 0);
}
