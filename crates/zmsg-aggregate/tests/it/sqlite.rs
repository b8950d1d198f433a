//! What is so on SQLite only.

use std::sync::Arc;

use tokio_util::task::TaskTracker;
use zmsg_aggregate::{Aggregator, FlushPolicy, Unobserved, sqlite_functions};
use zmsg_core::{ErrorKind, SystemClock};
use zmsg_sqlbuilder::{Dialect, counter};
use zmsg_store::{Migrations, Migrator, SqlStore, SqliteOptions, SqliteStore};

use crate::database::open;

#[tokio::test]
async fn a_view_with_triggers_is_changed_once_and_no_dead_letter() {
    let db = open!();
    db.run("CREATE VIEW seen AS SELECT id, likes FROM feeds", vec![]).await;
    let trigger = "CREATE TRIGGER seen_update INSTEAD OF UPDATE ON seen \
                   BEGIN UPDATE feeds SET likes = NEW.likes WHERE id = NEW.id; END";
    db.run(trigger, vec![]).await;
    let receipt = db.submit(counter("seen", "likes").set(7).where_eq("id", "a"));
    db.aggregator.flush_all().await.unwrap();
    receipt.applied().await.unwrap();
    assert_eq!(db.likes("a").await, Some(7));
    assert_eq!(db.letters().count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_store_that_is_not_ready_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let open = |store: Arc<dyn SqlStore>| {
        Aggregator::open(
            store,
            FlushPolicy::default(),
            Arc::new(SystemClock),
            Arc::new(Unobserved),
            TaskTracker::new(),
        )
    };
    let options = SqliteOptions {
        functions: sqlite_functions(),
        ..SqliteOptions::new(dir.path().join("empty.db"))
    };
    let error = open(Arc::new(SqliteStore::open(options).await.unwrap())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("migrations"), "{error}");

    let options = SqliteOptions::new(dir.path().join("bare.db"));
    let bare: Arc<dyn SqlStore> = Arc::new(SqliteStore::open(options).await.unwrap());
    Migrator::new(Arc::clone(&bare), Migrations::zmsg(Dialect::Sqlite)).up().await.unwrap();
    let error = open(bare).await.unwrap_err();
    assert!(error.to_string().contains("sqlite_functions"), "{error}");
}

#[tokio::test]
async fn two_spellings_of_one_column_lose_nothing() {
    let db = open!();
    let receipts = ["likes", "Likes", "LIKES"]
        .map(|column| db.submit(counter("feeds", column).inc(1).where_eq("id", "a")));
    db.aggregator.flush_all().await.unwrap();
    for receipt in receipts {
        receipt.applied().await.unwrap();
    }
    assert_eq!(db.likes("a").await, Some(3));
}
