//! Migrations whose scripts are transactions.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use zmsg_core::{ErrorKind, ManualClock, Statement};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::migrate::{Direction, Report, State, create};
use zmsg_store::{Migrations, Migrator, SqlStore, SqliteStore};

use crate::sqlite::Sqlite;

/// A database and a folder of migrations.
pub(crate) struct Scene {
    pub(crate) file: Sqlite,
    schema: TempDir,
}

impl Scene {
    pub(crate) fn empty() -> Self {
        Self { file: Sqlite::fresh(), schema: tempfile::tempdir().unwrap() }
    }

    /// Two migrations with a way back each: a table, and a second one with a trigger.
    fn with_two() -> Self {
        let scene = Self::empty();
        scene.put(
            "1_feeds",
            "CREATE TABLE feeds (id INTEGER PRIMARY KEY, likes INTEGER);",
            Some("DROP TABLE feeds;"),
        );
        let up = "CREATE TABLE audit (id INTEGER, note TEXT);\n\
                  CREATE TRIGGER audited AFTER INSERT ON feeds BEGIN\n\
                    INSERT INTO audit VALUES (new.id, 'a; b');\n\
                    UPDATE audit SET note = CASE WHEN id > 0 THEN 'c' ELSE 'd' END;\n\
                  END;\n\
                  INSERT INTO feeds VALUES (1, 0);";
        scene.put("2_audit", up, Some("DROP TRIGGER audited; DROP TABLE audit; DELETE FROM feeds"));
        scene
    }

    pub(crate) fn put(&self, name: &str, up: &str, down: Option<&str>) {
        let folder = self.dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("up.sql"), up).unwrap();
        if let Some(down) = down {
            fs::write(folder.join("down.sql"), down).unwrap();
        }
    }

    fn dir(&self) -> &Path {
        self.schema.path()
    }

    pub(crate) fn migrations(&self) -> Migrations {
        Migrations::load_dir(self.dir(), Migrations::APP).unwrap()
    }

    pub(crate) async fn store(&self) -> Arc<SqliteStore> {
        Arc::new(self.file.store().await)
    }

    pub(crate) fn migrator(&self, store: &Arc<SqliteStore>) -> Migrator {
        Migrator::new(Arc::<SqliteStore>::clone(store), self.migrations())
            .clock(Arc::new(ManualClock::new(1234)))
    }
}

/// Every object of the schema but the history.
async fn schema(store: &SqliteStore) -> Vec<String> {
    let query = "SELECT name FROM sqlite_schema \
                 WHERE name NOT LIKE '%zmsg_migrations%' ORDER BY name";
    texts(store, query).await
}

pub(crate) async fn texts(store: &SqliteStore, query: &str) -> Vec<String> {
    let rows = store.fetch(&Statement::query(query, vec![])).await.unwrap();
    rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect()
}

async fn states(migrator: &Migrator) -> Vec<State> {
    migrator.status().await.unwrap().into_iter().map(|status| status.state).collect()
}

#[tokio::test]
async fn there_and_back_leaves_nothing_and_there_again_works() {
    let scene = Scene::with_two();
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    for _ in 0..2 {
        assert_eq!(states(&migrator).await, [State::Pending, State::Pending]);
        assert_eq!(migrator.up().await.unwrap().done, ["1_feeds", "2_audit"]);
        assert_eq!(states(&migrator).await, [State::Applied { at: 1234 }; 2]);
        assert_eq!(texts(&store, "SELECT note FROM audit").await, ["c"], "the trigger is whole");
        assert_eq!(migrator.up().await.unwrap(), Report::default(), "each is applied once");
        assert_eq!(migrator.down(1).await.unwrap().done, ["2_audit"]);
        assert_eq!(schema(&store).await, ["feeds"]);
        assert_eq!(migrator.down(9).await.unwrap().done, ["1_feeds"]);
        assert!(schema(&store).await.is_empty());
    }
}

#[tokio::test]
async fn zmsgs_own_tables_come_and_go_beside_those_of_the_user() {
    let scene = Scene::with_two();
    let store = scene.store().await;
    let own = Migrator::new(Arc::<SqliteStore>::clone(&store), Migrations::zmsg(Dialect::Sqlite));
    own.up().await.unwrap();
    scene.migrator(&store).up().await.unwrap();
    assert!(schema(&store).await.contains(&"zmsg_ledger".to_owned()));
    own.down(usize::MAX).await.unwrap();
    assert!(schema(&store).await.iter().all(|name| !name.starts_with("zmsg")));
    assert_eq!(states(&scene.migrator(&store)).await, [State::Applied { at: 1234 }; 2]);
}

#[tokio::test]
async fn a_statement_that_fails_leaves_nothing_of_its_script() {
    let scene = Scene::with_two();
    scene.put(
        "3_broken",
        "CREATE TABLE half (id INTEGER);\n\nINSERT INTO nowhere VALUES (1);",
        None,
    );
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    let error = migrator.up().await.unwrap_err();
    let shown = error.to_string();
    for named in ["3_broken", "statement: 2", "INSERT INTO nowhere", "no such table"] {
        assert!(shown.contains(named), "{named} is missing from: {shown}");
    }
    assert!(!schema(&store).await.contains(&"half".to_owned()));
    let expected = [State::Applied { at: 1234 }, State::Applied { at: 1234 }, State::Pending];
    assert_eq!(states(&migrator).await, expected);
}

#[tokio::test]
async fn an_edited_script_is_refused_by_name_before_anything_runs() {
    let scene = Scene::with_two();
    let store = scene.store().await;
    scene.migrator(&store).up().await.unwrap();
    scene.put("1_feeds", "CREATE TABLE feeds (id INTEGER PRIMARY KEY, hates INTEGER);", None);
    scene.put("3_more", "CREATE TABLE more (id INTEGER);", Some("DROP TABLE more"));
    let migrator = scene.migrator(&store);
    for error in [migrator.up().await.unwrap_err(), migrator.down(1).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1_feeds") && error.to_string().contains("restore"));
    }
    assert_eq!(
        states(&migrator).await,
        [State::Edited, State::Applied { at: 1234 }, State::Pending]
    );
    assert!(!schema(&store).await.contains(&"more".to_owned()));
}

#[tokio::test]
async fn a_script_that_went_missing_is_refused_by_name() {
    let scene = Scene::with_two();
    let store = scene.store().await;
    scene.migrator(&store).up().await.unwrap();
    fs::remove_dir_all(scene.dir().join("1_feeds")).unwrap();
    let migrator = scene.migrator(&store);
    let error = migrator.up().await.unwrap_err().to_string();
    assert!(error.contains("missing: 1_feeds"), "{error}");
    assert_eq!(states(&migrator).await, [State::Missing, State::Applied { at: 1234 }]);
}

#[tokio::test]
async fn a_script_older_than_the_newest_applied_needs_permission() {
    let scene = Scene::empty();
    scene.put("5_e", "CREATE TABLE e (id INTEGER);", None);
    let store = scene.store().await;
    scene.migrator(&store).up().await.unwrap();
    scene.put("4_d", "CREATE TABLE d (id INTEGER);", None);
    let error = scene.migrator(&store).up().await.unwrap_err().to_string();
    assert!(error.contains("out of order: 4_d"), "{error}");
    assert_eq!(schema(&store).await, ["e"]);
    let allowed = scene.migrator(&store).allow_out_of_order();
    assert_eq!(allowed.up().await.unwrap().done, ["4_d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runners_at_once_apply_each_script_once() {
    let scene = Scene::empty();
    for n in 10..30 {
        let up =
            format!("CREATE TABLE IF NOT EXISTS runs (n INTEGER); INSERT INTO runs VALUES ({n});");
        scene.put(&format!("{n}_run"), &up, Some("DELETE FROM runs"));
    }
    let mut runners = tokio::task::JoinSet::new();
    for _ in 0..2 {
        // Each with a connection of its own, as two processes would have.
        let migrator = scene.migrator(&scene.store().await);
        runners.spawn(async move { migrator.up().await.unwrap() });
    }
    let reports = runners.join_all().await;
    let mut done: Vec<String> = reports.iter().flat_map(|report| report.done.clone()).collect();
    done.sort();
    assert_eq!(done, (10..30).map(|n| format!("{n}_run")).collect::<Vec<_>>());
    let store = scene.store().await;
    let runs = texts(&store, "SELECT CAST(n AS TEXT) FROM runs ORDER BY n").await;
    assert_eq!(runs, (10..30).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn down_without_a_way_back_reverts_nothing() {
    let scene = Scene::with_two();
    scene.put("0_base", "CREATE TABLE base (id INTEGER);", None);
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    migrator.up().await.unwrap();
    let error = migrator.down(3).await.unwrap_err().to_string();
    assert!(error.contains("0_base") && error.contains("down.sql"), "{error}");
    assert_eq!(states(&migrator).await, [State::Applied { at: 1234 }; 3]);
    assert_eq!(migrator.down(2).await.unwrap().done, ["2_audit", "1_feeds"]);
}

#[tokio::test]
async fn a_plan_shows_every_statement_and_changes_nothing() {
    let scene = Scene::with_two();
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    let plans = migrator.plan_up().await.unwrap();
    let counts: Vec<_> = plans.iter().map(|plan| (plan.version, plan.statements.len())).collect();
    assert_eq!(counts, [(1, 1), (2, 3)]);
    assert!(plans[1].statements[1].ends_with("END") && plans[1].transactional);
    assert!(migrator.plan_down(2).await.unwrap().is_empty());
    assert!(texts(&store, "SELECT name FROM sqlite_schema").await.is_empty());

    migrator.up().await.unwrap();
    let plans = migrator.plan_down(1).await.unwrap();
    assert_eq!((plans[0].version, plans[0].direction), (2, Direction::Down));
    assert_eq!(
        plans[0].statements,
        ["DROP TRIGGER audited", "DROP TABLE audit", "DELETE FROM feeds"]
    );
    assert!(migrator.plan_up().await.unwrap().is_empty());
    assert_eq!(states(&migrator).await, [State::Applied { at: 1234 }; 2]);
}

#[tokio::test]
async fn a_script_cannot_commit_by_itself_and_an_empty_one_is_refused() {
    let scene = Scene::empty();
    scene.put("1_sly", "CREATE TABLE half (id INTEGER); COMMIT; SELECT 'open", None);
    let store = scene.store().await;
    let error = scene.migrator(&store).up().await.unwrap_err().to_string();
    assert!(error.contains("1_sly"), "{error}");
    scene.put(
        "1_sly",
        "CREATE TABLE half (id INTEGER); COMMIT; INSERT INTO nowhere VALUES (1)",
        None,
    );
    let error = scene.migrator(&store).up().await.unwrap_err().to_string();
    assert!(error.contains("1_sly") && error.contains("COMMIT"), "{error}");
    assert!(schema(&store).await.is_empty());
    create(scene.dir(), "to_be_filled_in", &ManualClock::new(0)).unwrap();
    scene.put("1_sly", "SELECT 1", None);
    let error = scene.migrator(&store).up().await.unwrap_err().to_string();
    assert!(error.contains("holds no statement"), "{error}");
}
