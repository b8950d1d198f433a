//! Migrations that run outside of a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use zmsg_core::{Result, Row, Statement};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::migrate::{Direction, State};
use zmsg_store::{Migrator, Outcome, SqlStore, Step, StepError};

use crate::migrate::{Scene, on_both, texts};

const UP: &str = "-- zmsg:no-transaction
CREATE TABLE runs (n INTEGER);
INSERT INTO runs VALUES (1);
VACUUM;
INSERT INTO missing VALUES (2);
INSERT INTO runs VALUES (3);";

const DOWN: &str = "-- zmsg:no-transaction
INSERT INTO runs VALUES (-1);
INSERT INTO missing VALUES (-2);
DROP TABLE runs;";

async fn runs(store: &Arc<dyn SqlStore>) -> Vec<String> {
    texts(store, "SELECT CAST(n AS TEXT) FROM runs ORDER BY abs(n)").await
}

async fn run(store: &Arc<dyn SqlStore>, text: &str) {
    store.execute(&Statement::new(text, vec![])).await.unwrap();
}

fn interrupted(direction: Direction, statements_done: u64) -> State {
    State::Interrupted { direction, statements_done }
}

on_both! {
    an_interrupted_run_resumes_at_the_statement_that_failed,
    what_failed_may_be_mended_and_what_is_done_may_not,
    a_run_that_died_is_taken_over_where_it_stopped,
    a_run_that_lives_is_not_taken_over,
    two_runners_at_once_run_each_statement_once,
}

async fn an_interrupted_run_resumes_at_the_statement_that_failed(scene: Scene) {
    scene.put("1_long", UP, Some(DOWN));
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    let error = migrator.up().await.unwrap_err().to_string();
    assert!(error.contains("1_long") && error.contains("statement: 4"), "{error}");
    let status = migrator.status().await.unwrap();
    assert_eq!(status[0].state, interrupted(Direction::Up, 3));
    assert_eq!(migrator.plan_up().await.unwrap()[0].statements.len(), 2, "what is left");
    assert!(migrator.down(1).await.is_err(), "it has to be finished first");

    run(&store, "CREATE TABLE missing (n INTEGER)").await;
    assert_eq!(migrator.up().await.unwrap().done, ["1_long"]);
    assert_eq!(runs(&store).await, ["1", "3"], "no statement ran twice");

    run(&store, "DROP TABLE missing").await;
    migrator.down(1).await.unwrap_err();
    let status = migrator.status().await.unwrap();
    assert_eq!(status[0].state, interrupted(Direction::Down, 1));
    assert!(migrator.up().await.is_err(), "it has to be finished first");
    run(&store, "CREATE TABLE missing (n INTEGER)").await;
    assert_eq!(migrator.down(1).await.unwrap().done, ["1_long"]);
    assert_eq!(migrator.status().await.unwrap()[0].state, State::Pending);
}

async fn what_failed_may_be_mended_and_what_is_done_may_not(scene: Scene) {
    scene.put("1_long", UP, None);
    let store = scene.store().await;
    scene.migrator(&store).up().await.unwrap_err();
    scene.put("1_long", &UP.replace("VALUES (1)", "VALUES (100)"), None);
    let error = scene.migrator(&store).up().await.unwrap_err().to_string();
    assert!(error.contains("edited: 1_long"), "{error}");
    scene.put("1_long", &UP.replace("missing", "runs"), None);
    scene.migrator(&store).up().await.unwrap();
    assert_eq!(runs(&store).await, ["1", "2", "3"]);
    scene.migrator(&store).up().await.unwrap();
}

async fn a_run_that_died_is_taken_over_where_it_stopped(scene: Scene) {
    scene.put("1_long", UP, None);
    let store = scene.store().await;
    scene.migrator(&store).up().await.unwrap_err();
    // As a killed process leaves it: somebody holds it, and gives no sign of life.
    run(&store, "UPDATE zmsg_migrations SET holder = 'dead'").await;
    run(&store, "CREATE TABLE missing (n INTEGER)").await;
    let migrator = scene.migrator(&store).take_over_after(Duration::from_millis(5));
    migrator.up().await.unwrap();
    assert_eq!(runs(&store).await, ["1", "3"]);
}

/// A store on which another runner shows a sign of life before each look at the history, and
/// finishes at the fifth.
#[derive(Debug)]
struct Beside {
    store: Arc<dyn SqlStore>,
    looks: AtomicU32,
    checksum: String,
}

#[async_trait]
impl SqlStore for Beside {
    fn dialect(&self) -> Dialect {
        self.store.dialect()
    }

    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        if query.text.contains("FROM zmsg_migrations") {
            run(&self.store, "UPDATE zmsg_migrations SET beat = beat + 1").await;
            if self.looks.fetch_add(1, Relaxed) == 5 {
                let finish = "UPDATE zmsg_migrations SET state = 'applied', checksum = ?";
                let finish = Statement::new(finish, vec![self.checksum.as_str().into()]);
                self.store.execute(&finish).await.unwrap();
            }
        }
        self.store.fetch(query).await
    }

    async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        self.store.execute(statement).await
    }

    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        self.store.execute_all(steps).await
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

async fn a_run_that_lives_is_not_taken_over(scene: Scene) {
    scene.put("1_long", UP, None);
    let store = scene.store().await;
    scene.migrator(&store).up().await.unwrap_err();
    run(&store, "UPDATE zmsg_migrations SET holder = 'alive'").await;
    run(&store, "CREATE TABLE missing (n INTEGER)").await;
    let migrations = scene.migrations();
    let checksum = migrations.scripts()[0].checksum();
    let beside = Beside { store: Arc::clone(&store), looks: AtomicU32::new(0), checksum };
    let migrator =
        Migrator::new(Arc::new(beside), migrations).take_over_after(Duration::from_millis(1));
    let report = migrator.up().await.unwrap();
    assert!(report.done.is_empty() && report.by_others >= 1, "{report:?}");
    assert_eq!(runs(&store).await, ["1"], "the other one's statements were left to it");
}

async fn two_runners_at_once_run_each_statement_once(scene: Scene) {
    let inserts: String = (0..50).map(|n| format!("INSERT INTO runs VALUES ({n});\n")).collect();
    let up = format!("-- zmsg:no-transaction\nCREATE TABLE runs (n INTEGER);\n{inserts}VACUUM;");
    scene.put("1_long", &up, None);
    scene.put("2_after", "INSERT INTO runs VALUES (1000)", None);
    let mut runners = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let store = scene.store().await;
        // Where a statement and its record are two transactions, patience keeps them together.
        let patience = match scene.dialect {
            Dialect::Sqlite => Duration::from_millis(5),
            Dialect::Postgres => Duration::from_secs(2),
        };
        let migrator = scene.migrator(&store).take_over_after(patience);
        runners.spawn(async move { migrator.up().await.unwrap() });
    }
    runners.join_all().await;
    let store = scene.store().await;
    let expected: Vec<String> = (0..50).chain([1000]).map(|n: i32| n.to_string()).collect();
    assert_eq!(runs(&store).await, expected);
}

#[tokio::test]
async fn an_index_is_created_while_others_write() {
    let Some(scene) = Scene::on_postgres().await else { return };
    let up = "-- zmsg:no-transaction\nCREATE TABLE runs (n bigint);\n\
              CREATE INDEX CONCURRENTLY runs_n ON runs (n);";
    let down = "-- zmsg:no-transaction\nDROP INDEX CONCURRENTLY runs_n;\nDROP TABLE runs;";
    scene.put("1_runs", up, Some(down));
    let store = scene.store().await;
    let migrator = scene.migrator(&store);
    migrator.up().await.unwrap();
    let valid = "SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'runs_n'::regclass";
    assert_eq!(texts(&store, valid).await, ["true"]);
    assert_eq!(migrator.down(1).await.unwrap().done, ["1_runs"]);
    scene.put("1_runs", &up.replace("-- zmsg:no-transaction", ""), Some(down));
    let error = scene.migrator(&store).up().await.unwrap_err().to_string();
    assert!(error.contains("1_runs") && error.contains("transaction"), "{error}");
}
