//! Migrations whose scripts are transactions.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use zmsg_core::{ErrorKind, ManualClock, Statement};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::conformance::Harness;
use zmsg_store::migrate::{Direction, Report, State, create};
use zmsg_store::{Migrations, Migrator, SqlStore};

use crate::postgres::Postgres;
use crate::sqlite::Sqlite;

/// Makes a test of each for SQLite, and one for PostgreSQL if there is a server.
macro_rules! on_both {
    ($($name:ident,)+) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::migrate::Scene::on_sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(scene) = $crate::migrate::Scene::on_postgres().await else { return };
                super::$name(scene).await;
            })+
        }
    };
}
pub(crate) use on_both;

/// A database and a folder of migrations.
pub(crate) struct Scene {
    database: Box<dyn Harness>,
    pub(crate) dialect: Dialect,
    schema: TempDir,
}

impl Scene {
    pub(crate) fn on_sqlite() -> Self {
        Self::on(Box::new(Sqlite::fresh()), Dialect::Sqlite)
    }

    pub(crate) async fn on_postgres() -> Option<Self> {
        Some(Self::on(Box::new(Postgres::fresh().await?), Dialect::Postgres))
    }

    fn on(database: Box<dyn Harness>, dialect: Dialect) -> Self {
        Self { database, dialect, schema: tempfile::tempdir().unwrap() }
    }

    /// Two migrations with a way back each: a table, and a second one with a trigger.
    fn with_two(self) -> Self {
        self.put(
            "1_feeds",
            "CREATE TABLE feeds (id INTEGER PRIMARY KEY, likes INTEGER);",
            Some("DROP TABLE feeds;"),
        );
        let trigger = match self.dialect {
            Dialect::Sqlite => {
                "CREATE TRIGGER audited AFTER INSERT ON feeds BEGIN\n\
                   INSERT INTO audit VALUES (new.id, 'a; b');\n\
                   UPDATE audit SET note = CASE WHEN id > 0 THEN 'c' ELSE 'd' END;\n\
                 END;"
            }
            Dialect::Postgres => {
                "CREATE RULE audited AS ON INSERT TO feeds DO ALSO (\n\
                   INSERT INTO audit VALUES (new.id, 'a; b');\n\
                   UPDATE audit SET note = CASE WHEN id > 0 THEN 'c' ELSE 'd' END);"
            }
        };
        let up = format!(
            "CREATE TABLE audit (id INTEGER, note TEXT);\n{trigger}\n\
             INSERT INTO feeds VALUES (1, 0);"
        );
        let gone = match self.dialect {
            Dialect::Sqlite => "DROP TRIGGER audited",
            Dialect::Postgres => "DROP RULE audited ON feeds",
        };
        let down = format!("{gone}; DROP TABLE audit; DELETE FROM feeds");
        self.put("2_audit", &up, Some(&down));
        self
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

    pub(crate) async fn store(&self) -> Arc<dyn SqlStore> {
        self.database.open().await
    }

    pub(crate) fn migrator(&self, store: &Arc<dyn SqlStore>) -> Migrator {
        Migrator::new(Arc::clone(store), self.migrations()).clock(Arc::new(ManualClock::new(1234)))
    }
}

/// Every object of the schema but the history.
async fn schema(store: &Arc<dyn SqlStore>) -> Vec<String> {
    let query = match store.dialect() {
        Dialect::Sqlite => {
            "SELECT name FROM sqlite_schema \
             WHERE name NOT LIKE '%zmsg_migrations%' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        }
        Dialect::Postgres => {
            "SELECT name::text FROM (\
               SELECT relname AS name FROM pg_class \
               WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'v') \
               UNION ALL SELECT proname FROM pg_proc \
               WHERE pronamespace = 'public'::regnamespace) AS objects \
             WHERE name NOT LIKE '%zmsg_migrations%' ORDER BY name"
        }
    };
    texts(store, query).await
}

pub(crate) async fn texts(store: &Arc<dyn SqlStore>, query: &str) -> Vec<String> {
    let rows = store.fetch(&Statement::query(query, vec![])).await.unwrap();
    rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect()
}

async fn states(migrator: &Migrator) -> Vec<State> {
    migrator.status().await.unwrap().into_iter().map(|status| status.state).collect()
}

on_both! {
    there_and_back_leaves_nothing_and_there_again_works,
    zmsgs_own_tables_come_and_go_beside_those_of_the_user,
    a_statement_that_fails_leaves_nothing_of_its_script,
    an_edited_script_is_refused_by_name_before_anything_runs,
    a_script_that_went_missing_is_refused_by_name,
    a_script_older_than_the_newest_applied_needs_permission,
    eight_runners_at_once_apply_each_script_once,
    down_without_a_way_back_reverts_nothing,
    a_plan_shows_every_statement_and_changes_nothing,
    a_script_cannot_commit_by_itself_and_an_empty_one_is_refused,
}

async fn there_and_back_leaves_nothing_and_there_again_works(scene: Scene) {
    let scene = scene.with_two();
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

async fn zmsgs_own_tables_come_and_go_beside_those_of_the_user(scene: Scene) {
    let scene = scene.with_two();
    let store = scene.store().await;
    let own = Migrator::new(Arc::clone(&store), Migrations::zmsg(scene.dialect));
    own.up().await.unwrap();
    scene.migrator(&store).up().await.unwrap();
    assert!(schema(&store).await.contains(&"zmsg_ledger".to_owned()));
    own.down(usize::MAX).await.unwrap();
    assert!(schema(&store).await.iter().all(|name| !name.starts_with("zmsg")));
    assert_eq!(states(&scene.migrator(&store)).await, [State::Applied { at: 1234 }; 2]);
}

async fn a_statement_that_fails_leaves_nothing_of_its_script(scene: Scene) {
    let scene = scene.with_two();
    scene.put(
        "3_broken",
        "CREATE TABLE half (id INTEGER);\n\nINSERT INTO nowhere VALUES (1);",
        None,
    );
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    let error = migrator.up().await.unwrap_err();
    let shown = error.to_string();
    let missing = match scene.dialect {
        Dialect::Sqlite => "no such table",
        Dialect::Postgres => "does not exist",
    };
    for named in ["3_broken", "statement: 2", "INSERT INTO nowhere", missing] {
        assert!(shown.contains(named), "{named} is missing from: {shown}");
    }
    assert!(!schema(&store).await.contains(&"half".to_owned()));
    let expected = [State::Applied { at: 1234 }, State::Applied { at: 1234 }, State::Pending];
    assert_eq!(states(&migrator).await, expected);
}

async fn an_edited_script_is_refused_by_name_before_anything_runs(scene: Scene) {
    let scene = scene.with_two();
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

async fn a_script_that_went_missing_is_refused_by_name(scene: Scene) {
    let scene = scene.with_two();
    let store = scene.store().await;
    scene.migrator(&store).up().await.unwrap();
    fs::remove_dir_all(scene.dir().join("1_feeds")).unwrap();
    let migrator = scene.migrator(&store);
    let error = migrator.up().await.unwrap_err().to_string();
    assert!(error.contains("missing: 1_feeds"), "{error}");
    assert_eq!(states(&migrator).await, [State::Missing, State::Applied { at: 1234 }]);
}

async fn a_script_older_than_the_newest_applied_needs_permission(scene: Scene) {
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

async fn eight_runners_at_once_apply_each_script_once(scene: Scene) {
    for n in 10..30 {
        let up =
            format!("CREATE TABLE IF NOT EXISTS runs (n INTEGER); INSERT INTO runs VALUES ({n});");
        scene.put(&format!("{n}_run"), &up, Some("DELETE FROM runs"));
    }
    let mut runners = tokio::task::JoinSet::new();
    for _ in 0..8 {
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

async fn down_without_a_way_back_reverts_nothing(scene: Scene) {
    let scene = scene.with_two();
    scene.put("0_base", "CREATE TABLE base (id INTEGER);", None);
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    migrator.up().await.unwrap();
    let error = migrator.down(3).await.unwrap_err().to_string();
    assert!(error.contains("0_base") && error.contains("down.sql"), "{error}");
    assert_eq!(states(&migrator).await, [State::Applied { at: 1234 }; 3]);
    assert_eq!(migrator.down(2).await.unwrap().done, ["2_audit", "1_feeds"]);
}

async fn a_plan_shows_every_statement_and_changes_nothing(scene: Scene) {
    let scene = scene.with_two();
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    let plans = migrator.plan_up().await.unwrap();
    let counts: Vec<_> = plans.iter().map(|plan| (plan.version, plan.statements.len())).collect();
    assert_eq!(counts, [(1, 1), (2, 3)]);
    assert!(plans[1].statements[1].contains("'d' END") && plans[1].transactional);
    assert!(migrator.plan_down(2).await.unwrap().is_empty());
    assert!(schema(&store).await.is_empty());

    migrator.up().await.unwrap();
    let plans = migrator.plan_down(1).await.unwrap();
    assert_eq!((plans[0].version, plans[0].direction), (2, Direction::Down));
    assert_eq!(plans[0].statements[1..], ["DROP TABLE audit", "DELETE FROM feeds"]);
    assert!(migrator.plan_up().await.unwrap().is_empty());
    assert_eq!(states(&migrator).await, [State::Applied { at: 1234 }; 2]);
}

async fn a_script_cannot_commit_by_itself_and_an_empty_one_is_refused(scene: Scene) {
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
