//! The state of a shared filter on real databases.

use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use zmsg_store::{Migrations, Migrator, SqliteOptions, SqliteStore};

use super::*;

/// Runs a test on every database that there is.
macro_rules! on_every_database {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                let (_directory, store) = super::sqlite().await;
                super::$name(store).await;
            }

            #[cfg(feature = "postgres")]
            #[tokio::test]
            async fn postgres() {
                let Some(server) = zmsg_testbed::postgres() else { return };
                let database = server.database().await;
                super::$name(super::postgres(database.url()).await).await;
            }
        }
    )*};
}

on_every_database! {
    the_row_is_made_once_and_kept_as_it_was_set
    a_swap_from_an_old_version_changes_nothing
    a_write_under_an_old_version_leaves_nothing_behind
    a_transaction_that_passed_the_guard_is_waited_for_or_seen
}

async fn the_row_is_made_once_and_kept_as_it_was_set(store: Arc<dyn SqlStore>) {
    let registry = SqlFilterRegistry::new(Arc::clone(&store), "feeds");
    assert_eq!(registry.read().await.unwrap(), FilterRow::default());
    let row = FilterRow {
        version: 7,
        trusted: Some(SharedGeneration::from_text("one of another version")),
        building: Some(SharedGeneration::from_text("two")),
        retiring: None,
        settled: false,
        cause: Cause::Distrusted,
        covers: vec!["feed".into(), "note: it's".into()],
        beat: 0,
    };
    assert!(registry.swap(1, &row).await.unwrap());
    assert_eq!(registry.read().await.unwrap(), row);
    registry.beat(row.building.as_ref().unwrap()).await.unwrap();
    registry.beat(&SharedGeneration::from_text("three")).await.unwrap();
    assert_eq!(registry.read().await.unwrap(), FilterRow { beat: 1, ..row });
    let other = SqlFilterRegistry::new(store, "notes");
    assert_eq!(other.read().await.unwrap(), FilterRow::default());
}

async fn a_swap_from_an_old_version_changes_nothing(store: Arc<dyn SqlStore>) {
    let registry = SqlFilterRegistry::new(store, "feeds");
    registry.read().await.unwrap();
    let second = FilterRow { version: 2, ..FilterRow::default() };
    assert!(registry.swap(1, &second).await.unwrap());
    assert!(
        !registry
            .swap(1, &FilterRow { version: 2, settled: false, ..second.clone() })
            .await
            .unwrap()
    );
    assert_eq!(registry.read().await.unwrap(), second);
}

async fn a_write_under_an_old_version_leaves_nothing_behind(store: Arc<dyn SqlStore>) {
    let registry = SqlFilterRegistry::new(Arc::clone(&store), "feeds");
    registry.read().await.unwrap();
    let write = |id: &str| Step::any(insert(id));
    let outcomes = store.execute_all(vec![write("a"), registry.guard(1)]).await.unwrap();
    assert_eq!(outcomes.iter().map(|outcome| outcome.changed).collect::<Vec<_>>(), [1, 0]);
    let second = FilterRow { version: 2, ..FilterRow::default() };
    assert!(registry.swap(1, &second).await.unwrap());
    let refused = store.execute_all(vec![write("b"), registry.guard(1)]).await.unwrap_err();
    assert!(SqlFilterRegistry::was_refused(&refused), "{refused}");
    let other = store.execute_all(vec![write("a"), registry.guard(2)]).await.unwrap_err();
    assert!(!SqlFilterRegistry::was_refused(&other), "{other}");
    store.execute_all(vec![write("b"), registry.guard(2)]).await.unwrap();
    assert_eq!(ids(&*store).await, ["a", "b"]);
}

/// Writers that pass the guard at any time, and a builder that raises the version: what passed
/// under the old version is in the scan.
async fn a_transaction_that_passed_the_guard_is_waited_for_or_seen(store: Arc<dyn SqlStore>) {
    let registry = Arc::new(SqlFilterRegistry::new(Arc::clone(&store), "feeds"));
    registry.read().await.unwrap();
    for version in 1..15u64 {
        let tasks = TaskTracker::new();
        for writer in 0..8 {
            let (store, registry) = (Arc::clone(&store), Arc::clone(&registry));
            tasks.spawn(async move {
                for row in 0u64.. {
                    let id = format!("{version:02}:{writer}:{row}");
                    let steps = vec![Step::any(insert(&id)), registry.guard(version)];
                    match store.execute_all(steps).await {
                        Ok(_) => {}
                        Err(failed) if SqlFilterRegistry::was_refused(&failed) => break,
                        Err(failed) => panic!("{failed}"),
                    }
                }
            });
        }
        tasks.close();
        tokio::task::yield_now().await;
        let next = FilterRow { version: version + 1, ..FilterRow::default() };
        assert!(registry.swap(version, &next).await.unwrap());
        registry.older_transactions_ended().await.unwrap();
        let scanned = ids(&*store).await;
        tasks.wait().await;
        assert_eq!(ids(&*store).await, scanned, "rows came after the scan");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn an_open_transaction_that_wrote_is_waited_for_and_one_that_reads_is_not() {
    use zmsg_testbed::private::{PostgresOptions, PrivatePostgres};

    // On a server of its own no other transaction ends meanwhile, which would hide a wait that
    // goes by the last one that has ended.
    let Some(server) = PrivatePostgres::start(PostgresOptions::new()) else { return };
    let store = postgres(&server.url()).await;
    let registry = SqlFilterRegistry::new(Arc::clone(&store), "feeds");
    registry.read().await.unwrap();
    // A row lock holds the writer between its insert and its guard.
    store.execute(&insert("locked")).await.unwrap();
    let held = Arc::clone(&store);
    let hold = "SELECT id, pg_sleep(1)::text FROM zmsg_data WHERE id = 'locked' FOR UPDATE";
    let steps = vec![
        Step::any(insert("slow")),
        Step::any(Statement::query(hold, vec![])),
        registry.guard(1),
    ];
    let tasks = TaskTracker::new();
    let slow = tasks.spawn(async move { held.execute_all(steps).await });
    let reads = Arc::clone(&store);
    let reader = tasks.spawn(async move {
        reads.fetch(&Statement::query("SELECT pg_sleep(3)::text", vec![])).await
    });
    let sleeping = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let sleeping = Statement::query(sleeping, vec![]);
    let both = async {
        while store.fetch(&sleeping).await.unwrap()[0].int(0).unwrap() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), both).await.unwrap();
    registry.older_transactions_ended().await.unwrap();
    assert_eq!(ids(&*store).await, ["locked", "slow"]);
    assert!(!reader.is_finished(), "a transaction that only reads was waited for");
    slow.await.unwrap().unwrap();
    reader.await.unwrap().unwrap();
}

fn insert(id: &str) -> Statement {
    let binds = vec![id.into(), Value::from(&b"x"[..])];
    Statement::new("INSERT INTO zmsg_data (id, data) VALUES (?, ?)", binds)
}

async fn ids(store: &dyn SqlStore) -> Vec<String> {
    let query = Statement::query("SELECT id FROM zmsg_data ORDER BY id", vec![]);
    let rows = store.fetch(&query).await.unwrap();
    rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect()
}

async fn sqlite() -> (tempfile::TempDir, Arc<dyn SqlStore>) {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new(directory.path().join("zmsg.db"));
    let store: Arc<dyn SqlStore> = Arc::new(SqliteStore::open(options).await.unwrap());
    migrate(&store).await;
    (directory, store)
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str) -> Arc<dyn SqlStore> {
    let options = zmsg_store::PostgresOptions::new(url);
    let store = zmsg_store::PostgresStore::open(options, TaskTracker::new()).await.unwrap();
    let store: Arc<dyn SqlStore> = Arc::new(store);
    migrate(&store).await;
    store
}

async fn migrate(store: &Arc<dyn SqlStore>) {
    let migrations = Migrations::zmsg(store.dialect());
    Migrator::new(Arc::clone(store), migrations).up().await.unwrap();
}
