//! What fails again and again, and what becomes of the operations beside it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use zmsg_aggregate::{Aggregator, DeadLetters, Journal, JournalOptions, JournalSync, Unobserved};
use zmsg_core::{IntoTask, Statement};
use zmsg_sqlbuilder::{OpBuilder, counter, sql};
use zmsg_store::{PostgresOptions, Step};
use zmsg_testbed::{Proxy, Repeat};

use crate::server::{Node, Server};

fn count(id: i64) -> OpBuilder {
    counter("counts", "n").inc(1).where_eq("id", id)
}

/// A process whose statements are stopped after 100 ms, and wait for a lock for as long.
async fn hurried(server: &Server) -> Node {
    let options = PostgresOptions {
        statement_timeout: Duration::from_millis(100),
        lock_timeout: Duration::ZERO,
        ..PostgresOptions::new(server.database.url())
    };
    server.node_with(options, Arc::new(Unobserved)).await
}

/// From now on whoever changes the row 50 sleeps for longer than that.
async fn poison(server: &Server) {
    let nap = "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               PERFORM pg_sleep(2); RETURN NEW; END $$";
    server.run(nap).await;
    let trigger = "CREATE TRIGGER nap BEFORE UPDATE ON counts FOR EACH ROW WHEN (OLD.id = 50) \
                   EXECUTE FUNCTION nap()";
    server.run(trigger).await;
}

/// Another session that locks, and sleeps for so many seconds.
fn hold(server: &Server, lock: &str, seconds: f64) -> JoinHandle<()> {
    let steps = [lock.to_owned(), format!("SELECT pg_sleep({seconds})")];
    let steps = steps.map(|text| Step::any(Statement::query(text, vec![])));
    let store = Arc::clone(&server.store);
    server.tracker.spawn(async move { drop(store.execute_all(steps.into()).await.unwrap()) })
}

/// The row 50 was given up, and every other one was counted once.
async fn all_but_one(server: &Server) {
    assert_eq!(server.total().await, 99);
    assert_eq!(server.int("SELECT n FROM counts WHERE id = 50").await, 0);
    let dead = DeadLetters::new(Arc::clone(&server.store));
    let letters = dead.list(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].summary.contains("id = 50"), "{letters:?}");
    let cause = &letters[0].cause;
    assert!(cause.contains("57014") && cause.contains("stopped alone"), "{cause}");
    server.run("DROP TRIGGER nap ON counts").await;
    assert!(dead.retry(letters[0].id).await.unwrap().is_some());
    assert_eq!(server.total().await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_always_runs_out_of_time_is_kept_and_the_others_take_effect_once() {
    let Some(server) = Server::open().await else { return };
    poison(&server).await;
    let node = hurried(&server).await;
    (1..=100).for_each(|id| node.submit(count(id)));
    node.finish().await;
    all_but_one(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_always_runs_out_of_time_does_not_keep_a_recovery_from_its_end() {
    let Some(server) = Server::open().await else { return };
    poison(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        root: dir.path().join("journal"),
        sync: JournalSync::Always,
        bytes_max: 1 << 30,
        segment_bytes: 16 << 20,
    };
    let node = hurried(&server).await;
    let recovery = node.aggregator.recovery(Duration::from_secs(60));
    let process = Aggregator::open_with(
        Journal::create(&options).await.unwrap(),
        Arc::clone(&recovery.store),
        recovery.policy.clone(),
        Arc::clone(&recovery.clock),
        Arc::clone(&recovery.observer),
        server.tracker.clone(),
    );
    let process = process.await.unwrap();
    for id in 1..=100 {
        let task = count(id).into_task().unwrap();
        process.submit(None, task).unwrap().journaled.acknowledged().await.unwrap();
    }
    drop(process);
    let found = recovery.run(&options.root, &Journal::off()).await.unwrap();
    assert_eq!((found.ops, found.dead_lettered), (100, 1), "{found:?}");
    all_but_one(&server).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_always_runs_out_of_time_is_found_among_those_of_its_batch() {
    let Some(server) = Server::open().await else { return };
    poison(&server).await;
    let node = hurried(&server).await;
    (1..=100).for_each(|id| node.submit(count(id).batch_key("all")));
    node.finish().await;
    all_but_one(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_behind_a_locked_table_are_not_given_up_however_long_it_takes() {
    let Some(server) = Server::open().await else { return };
    let holder = hold(&server, "LOCK TABLE counts", 4.0);
    let node = hurried(&server).await;
    let aggregator = node.aggregator.clone();
    (1..=100).for_each(|id| node.submit(count(id)));
    holder.await.unwrap();
    // Not even kept for a while.
    assert_eq!(server.int("SELECT count(*) FROM zmsg_dead_letters").await, 0);
    node.finish().await;
    assert_eq!(server.total().await, 100);
    let stats = aggregator.stats();
    assert!(stats.retries > 10, "{stats:?}");
    assert_eq!(stats.dead_lettered, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_waits_for_its_lock_while_one_that_runs_out_of_time_is_given_up() {
    let Some(server) = Server::open().await else { return };
    poison(&server).await;
    let holder = hold(&server, "SELECT n FROM counts WHERE id = 5 FOR UPDATE", 4.0);
    let node = hurried(&server).await;
    (1..=100).for_each(|id| node.submit(count(id)));
    holder.await.unwrap();
    node.finish().await;
    all_but_one(&server).await;
}

/// From now on a statement that changes `counts` finds another transaction in its way with this
/// probability.
async fn refuse_some(server: &Server, probability: f64) {
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF random() < {probability} THEN \
         RAISE 'could not serialize access' USING ERRCODE = '40001'; END IF; RETURN NULL; END $$"
    );
    server.run(&refuse).await;
    server.run("CREATE TRIGGER refuse AFTER UPDATE ON counts EXECUTE FUNCTION refuse()").await;
}

/// Statements that do not commute and name one row, so that their order and number can be read off
/// the result. All of them at once would get through in one of 10^9 attempts.
async fn in_order(server: &Server, url: &str) {
    refuse_some(server, 0.2).await;
    let node = server.node(url).await;
    let mut expected = 0;
    for step in 0..100_i64 {
        expected = (expected * 3 + step) % 1_000_003;
        let text = "UPDATE counts SET n = (n * 3 + ?) % 1000003 WHERE id = 1";
        node.submit(sql(text, (step,)).batch_key("all"));
    }
    node.finish().await;
    assert_eq!(server.total().await, expected);
    assert_eq!(server.int("SELECT count(*) FROM zmsg_dead_letters").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_statements_get_through_in_order_where_every_fifth_is_in_the_way_of_others() {
    let Some(server) = Server::open().await else { return };
    in_order(&server, server.database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_in_parts_takes_effect_once_while_answers_to_commits_are_lost() {
    let Some(server) = Server::open().await else { return };
    let proxy = Proxy::before(server.database.url());
    proxy.swallow_answer("COMMIT\0", Repeat::Every(3));
    in_order(&server, &proxy.url(server.database.url())).await;
    assert!(proxy.counts().swallowed > 5, "{:?}", proxy.counts());
}
