//! Rows that come about behind zmsg's back are called absent by no filter that nodes share.

use std::sync::Arc;
use std::time::Duration;

use zmsg::core::Statement;
use zmsg::store::{Migrations, Migrator, SqlStore, Step};
use zmsg::{BehindFilters, Config, ErrorKind, Presence, Row, Source, Zmsg, distrust_filters, sql};

use super::{admin, admin_does, beside, no_row_is_absent, run, scripts, trusted};
use crate::servers::{Servers, config, open};
use crate::support::DEADLINE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_migration_are_absent_on_no_running_node_of_postgres() {
    let Some(servers) = Servers::ready().await else { return };
    let zmsg = servers.node().await;
    trusted(&zmsg).await;
    let store = beside(&servers.config()).await;
    let schema = tempfile::tempdir().unwrap();
    let create = "CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes BIGINT, meta JSONB)";
    std::fs::write(schema.path().join("1_feeds.sql"), create).unwrap();
    scripts(schema.path(), 5, 40);
    let dir = schema.path().to_str().unwrap();
    let up = ["migrate", "up", "--url", servers.database.url(), "--dir", dir];
    let mut migrating = std::pin::pin!(admin_does(&up));
    // While the scripts run, a node reads what they have committed.
    let out = loop {
        tokio::select! {
            biased;
            out = &mut migrating => break out,
            _ = no_row_is_absent(&zmsg, &*store) => {}
        }
    };
    assert_eq!(out.matches("applied: ").count(), 5, "{out}");
    assert_eq!(no_row_is_absent(&zmsg, &*store).await, 200);
    trusted(&zmsg).await;
    assert_eq!(no_row_is_absent(&zmsg, &*store).await, 200, "and once it is built anew");
    let version = state(&*store).await.0;
    assert!(admin_does(&up).await.contains("nothing to do"));
    assert_eq!(state(&*store).await.0, version, "with nothing to do, filters keep their trust");
    let _ = zmsg.close(DEADLINE).await.unwrap();
}

/// The engine is closed meanwhile, but Redis keeps what it trusted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_migration_are_absent_on_no_node_of_sqlite_that_opens_afterwards() {
    let Some(redis) = zmsg_testbed::redis() else { return };
    let (folder, schema) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("sqlite:{}", folder.path().join("shared.db").display());
    let mut config = config(&url, redis.url(), &redis.namespace());
    config.directory = folder.path().join("node");
    let zmsg = open(config.clone()).await;
    trusted(&zmsg).await;
    let create = "CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes BIGINT, meta JSONB)";
    std::fs::write(schema.path().join("1_feeds.sql"), create).unwrap();
    scripts(schema.path(), 2, 20);
    let up = ["migrate", "up", "--url", &url, "--dir", schema.path().to_str().unwrap()];
    let refused = admin(&up, &[]).await;
    assert!(!refused.ok && refused.err.contains("an engine has the database open"));
    let report = zmsg.close(DEADLINE).await.unwrap();
    assert!(report.is_clean(), "{report:?}");

    admin_does(&up).await;

    let zmsg = Zmsg::open(config.clone()).await.unwrap();
    let source = Source::sql("feed", "SELECT data FROM feeds WHERE id = ?");
    zmsg.register(source.keys("SELECT id FROM feeds")).unwrap();
    let store = beside(&config).await;
    assert_eq!(no_row_is_absent(&zmsg, &*store).await, 40, "at once");
    trusted(&zmsg).await;
    assert_eq!(no_row_is_absent(&zmsg, &*store).await, 40, "and once it is built anew");
    let _ = zmsg.close(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_of_a_retried_dead_letter_is_absent_on_no_running_node() {
    let Some(servers) = Servers::ready().await else { return };
    let zmsg = servers.node().await;
    let store = beside(&servers.config()).await;
    run(&*store, "ALTER TABLE feeds ADD CONSTRAINT strict CHECK (data <> 'late')").await;
    let late = sql("INSERT INTO feeds (id, data) VALUES ('feed_late', 'late')", ());
    let _ = zmsg.cache_and_periodic_store("feed_late", None, late).await.unwrap();
    let _ = zmsg.flush().await.unwrap();
    let dead = zmsg.dead_letters().list(10).await.unwrap();
    assert_eq!(dead.len(), 1, "{dead:?}");
    // The filter was told of its key once, and forgets it when it is built anew.
    distrust_filters(&store).await.unwrap();
    trusted(&zmsg).await;
    assert_eq!(zmsg.db_hit("feed_late").await.unwrap(), Presence::Absent);
    run(&*store, "ALTER TABLE feeds DROP CONSTRAINT strict").await;

    let (url, id) = (servers.database.url(), dead[0].id.to_string());
    assert!(admin_does(&["dead-letters", "list", "--url", url]).await.contains(&id));
    let retried = admin_does(&["dead-letters", "retry", "--url", url, &id]).await;

    assert!(retried.contains("tried again"), "{retried}");
    assert_eq!(no_row_is_absent(&zmsg, &*store).await, 1);
    trusted(&zmsg).await;
    assert_eq!(no_row_is_absent(&zmsg, &*store).await, 1, "and once it is built anew");
    let again = admin(&["dead-letters", "retry", "--url", url, &id], &[]).await;
    assert!(!again.ok && again.err.contains("there is no dead letter"), "{}", again.err);
    let _ = zmsg.close(DEADLINE).await.unwrap();
}

/// Nodes build their filters anew within a second: each time one is trusted again, a row comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_comes_while_nodes_build_their_filter_anew_is_never_absent() {
    let Some(servers) = Servers::ready().await else { return };
    let zmsg = servers.node().await;
    let store = beside(&servers.config()).await;
    let behind = BehindFilters::new(Arc::clone(&store));
    for round in 0..3 {
        trusted(&zmsg).await;
        let id = format!("feed_{round}");
        assert_eq!(zmsg.db_hit(&id).await.unwrap(), Presence::Absent);
        run(&behind, format!("INSERT INTO feeds (id, data) VALUES ('{id}', 'b')")).await;
        let until = tokio::time::Instant::now() + Duration::from_millis(300);
        while tokio::time::Instant::now() < until {
            assert_ne!(zmsg.db_hit(&id).await.unwrap(), Presence::Absent, "{id}");
        }
    }
    trusted(&zmsg).await;
    assert_eq!(no_row_is_absent(&zmsg, &*store).await, 3);
    let _ = zmsg.close(DEADLINE).await.unwrap();
}

/// Runs a test on every database that there is, without engines.
macro_rules! on_every_database {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn sqlite() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(beside(&Config::embedded(folder.path())).await).await;
            }

            #[tokio::test]
            async fn postgres() {
                let Some(server) = zmsg_testbed::postgres() else { return };
                let database = server.database().await;
                let mut config = Config::default();
                config.store.url = database.url().to_owned();
                super::$name(beside(&config).await).await;
            }
        }
    )*};
}

on_every_database! {
    a_database_without_filters_is_no_error
    every_filter_loses_its_trust_and_only_then_the_call_ends
    a_transaction_behind_filters_ends_when_nothing_is_trusted
    a_transaction_behind_filters_that_fails_leaves_them_alone
}

async fn a_database_without_filters_is_no_error(store: Arc<dyn SqlStore>) {
    assert_eq!(distrust_filters(&store).await.unwrap(), 0, "before the first migration");
    let behind = BehindFilters::new(Arc::clone(&store));
    run(&behind, "CREATE TABLE t (id TEXT)").await;
    run(&behind, "INSERT INTO t VALUES ('before')").await;
    migrated(&store).await;
    assert_eq!(distrust_filters(&store).await.unwrap(), 0, "no node has come yet");
    run(&behind, "INSERT INTO t VALUES ('after')").await;
    let count = Statement::query("SELECT count(*) FROM t", vec![]);
    assert_eq!(store.fetch(&count).await.unwrap()[0].int(0).unwrap(), 2);
}

async fn every_filter_loses_its_trust_and_only_then_the_call_ends(store: Arc<dyn SqlStore>) {
    migrated(&store).await;
    filter(&store, "a", "'one', 'two', NULL, TRUE").await;
    filter(&store, "b", "NULL, NULL, NULL, TRUE").await;
    let mut call = std::pin::pin!(distrust_filters(&store));
    // The trust is taken at once; the call goes on until the last lease of it has ended.
    loop {
        tokio::select! {
            biased;
            ended = &mut call => panic!("{ended:?} before the state was seen unsettled"),
            found = state(&*store) => if found == (8, None, None, false) { break },
        }
    }
    assert_eq!(call.await.unwrap(), 2);
    assert_eq!(state(&*store).await, (9, None, None, true), "nobody has to wait any more");
    assert_eq!(distrust_filters(&store).await.unwrap(), 2);
    assert_eq!(state(&*store).await.0, 9, "nothing is left to be taken");
}

async fn a_transaction_behind_filters_ends_when_nothing_is_trusted(store: Arc<dyn SqlStore>) {
    migrated(&store).await;
    run(&*store, "CREATE TABLE t (id TEXT PRIMARY KEY)").await;
    let behind = BehindFilters::new(Arc::clone(&store));
    filter(&store, "a", "'one', NULL, NULL, TRUE").await;
    let insert = |id: &str| Statement::new("INSERT INTO t VALUES (?)", vec![id.into()]);
    let query = Statement::query("SELECT count(*) FROM t", vec![]);
    let steps = vec![Step::any(insert("x")), Step::any(insert("y")), Step::any(query)];
    let outcomes = behind.execute_all(steps).await.unwrap();
    assert_eq!(outcomes.len(), 3, "only those of its own steps");
    assert_eq!((outcomes[1].changed, outcomes[2].rows[0].int(0).unwrap()), (1, 2));
    assert_eq!(state(&*store).await, (9, None, None, true));
    // Without waiting: nothing is trusted, and what is being built may have missed the row.
    run(&*store, "UPDATE zmsg_filter_state SET building = 'two'").await;
    assert_eq!(behind.execute(&insert("z")).await.unwrap().changed, 1);
    assert_eq!(state(&*store).await, (10, None, None, true));
}

async fn a_transaction_behind_filters_that_fails_leaves_them_alone(store: Arc<dyn SqlStore>) {
    migrated(&store).await;
    run(&*store, "CREATE TABLE t (id TEXT PRIMARY KEY)").await;
    filter(&store, "a", "'one', 'two', NULL, TRUE").await;
    let behind = BehindFilters::new(Arc::clone(&store));
    let insert = || Step::any(Statement::new("INSERT INTO t VALUES ('x')", vec![]));
    let failed = behind.execute_all(vec![insert(), insert()]).await.unwrap_err();
    assert_eq!((failed.step, failed.error.kind()), (Some(1), ErrorKind::InvalidData));
    assert_eq!(state(&*store).await, (7, Some("one".into()), Some("two".into()), true));
}

async fn migrated(store: &Arc<dyn SqlStore>) {
    let own = Migrations::zmsg(store.dialect());
    let _ = Migrator::new(Arc::clone(store), own).up().await.unwrap();
}

/// A filter at version 7; `state` is trusted, building, retiring, settled.
async fn filter(store: &Arc<dyn SqlStore>, name: &str, state: &str) {
    let text = "INSERT INTO zmsg_filter_state \
                (name, version, trusted, building, retiring, settled, cause, covers, beat) VALUES";
    run(&**store, format!("{text} ('{name}', 7, {state}, 'unseeded', '', 0)")).await;
}

/// Version, trusted, building, settled of the first filter.
async fn state(store: &dyn SqlStore) -> (i64, Option<String>, Option<String>, bool) {
    let text = "SELECT version, trusted, building, settled FROM zmsg_filter_state ORDER BY name";
    let rows = store.fetch(&Statement::query(text, vec![])).await.unwrap();
    let text = |row: &Row, at| row.at(at).unwrap().as_text().map(str::to_owned);
    let row = &rows[0];
    (row.int(0).unwrap(), text(row, 1), text(row, 2), row.int(3).unwrap() != 0)
}
