//! 300 sequences on SQLite: a real flush, against the model and against each operation by itself.

use std::sync::Arc;

use fastrand::Rng;
use tokio_util::task::TaskTracker;
use zmsg_core::{ErrorKind, OnMissing, Receipt, SystemClock, Task, TaskId, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Migrations, Migrator, SqlStore, SqliteOptions, SqliteStore, Step, Synchronous};

use super::memory::{Folded, folded};
use super::table::{Done, Table, show};
use super::write::{COLUMNS, Cells, Write, sequence};
use crate::{Aggregator, FlushPolicy, Unobserved, sqlite_functions, steps_for};

/// A database with two copies of the table: one for flushes, one for each operation by itself.
struct Database {
    store: Arc<dyn SqlStore>,
    aggregator: Aggregator,
    _dir: tempfile::TempDir,
}

impl Database {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            functions: sqlite_functions(),
            synchronous: Synchronous::Normal,
            ..SqliteOptions::new(dir.path().join("law.db"))
        };
        let store: Arc<dyn SqlStore> = Arc::new(SqliteStore::open(options).await.unwrap());
        Migrator::new(Arc::clone(&store), Migrations::zmsg(Dialect::Sqlite)).up().await.unwrap();
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(name, kind)| format!("\"{}\" {kind}", name.replace('"', "\"\"")))
            .collect();
        for table in ["folded", "single"] {
            run(&*store, &format!("CREATE TABLE {table} ({}) STRICT", columns.join(", ")), vec![])
                .await;
        }
        let aggregator = Aggregator::open(
            Arc::clone(&store),
            FlushPolicy::default(),
            Arc::new(SystemClock),
            Arc::new(Unobserved),
            TaskTracker::new(),
        );
        Self { store, aggregator: aggregator.await.unwrap(), _dir: dir }
    }

    async fn fill(&self, rows: &[Cells]) {
        for table in ["folded", "single"] {
            run(&*self.store, &format!("DELETE FROM {table}"), vec![]).await;
            for row in rows {
                let text = format!("INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
                run(&*self.store, &text, row.clone()).await;
            }
        }
    }

    async fn cells(&self, table: &str) -> Vec<String> {
        let query = zmsg_core::Statement::query(format!("SELECT * FROM {table}"), vec![]);
        let rows = self.store.fetch(&query).await.unwrap();
        let shown =
            |row: &zmsg_core::Row| row.values().iter().map(show).collect::<Vec<_>>().join(" | ");
        let mut rows: Vec<String> = rows.iter().map(shown).collect();
        rows.sort();
        rows
    }

    /// Submits all writes and flushes; which of them were kept as dead letters.
    async fn flush(&self, writes: &[Write]) -> Vec<bool> {
        let settlements: Vec<_> = writes
            .iter()
            .map(|write| self.aggregator.submit(None, write.task("folded")).unwrap())
            .collect();
        self.aggregator.flush_all().await.unwrap();
        let mut kept = Vec::new();
        for settlement in settlements {
            let level = zmsg_core::Level::Memory;
            let receipt = Receipt::accepted(TaskId::generate(), level, settlement);
            kept.push(receipt.applied().await.is_err());
        }
        kept
    }

    /// Executes one write by itself, as the other routes do.
    async fn execute(&self, write: &Write) {
        let steps = match write.task("single") {
            Task::Op(op) => steps_for(&op, OnMissing::DeadLetter, Dialect::Sqlite).unwrap(),
            Task::Statement(statement) => vec![Step::any(statement)],
        };
        if let Err(failed) = self.store.execute_all(steps).await {
            let refused = [ErrorKind::InvalidData, ErrorKind::Conflict];
            assert!(refused.contains(&failed.error.kind()), "{failed}");
        }
    }
}

async fn run(store: &dyn SqlStore, text: &str, binds: Vec<Value>) {
    store.execute(&zmsg_core::Statement::new(text, binds)).await.unwrap();
}

/// Folded = one by one, on a real database.
#[tokio::test]
async fn flushing_equals_one_by_one_in_300_sequences_on_sqlite() {
    let database = Database::open().await;
    let mut compared = 0;
    for seed in 1_000_000..1_000_300 {
        let (rows, writes) = sequence(&mut Rng::with_seed(seed));
        let tasks: Vec<Task> = writes.iter().map(|write| write.task("folded")).collect();
        let Folded { table, done, .. } = folded(&rows, &writes, &tasks);
        database.fill(&rows).await;

        let really_kept = database.flush(&writes).await;
        let flushed = database.cells("folded").await;
        assert_eq!(Some(&flushed), table.cells().as_ref(), "seed {seed}: {writes:#?}");
        let kept: Vec<bool> = done.iter().map(|done| *done != Done::Applied).collect();
        assert_eq!(really_kept, kept, "seed {seed}: {writes:#?}");

        // By itself, an operation may not leave the range of its column even for a while.
        let rest = writes.iter().zip(&done).filter(|(_, done)| **done != Done::Refused);
        let rest: Vec<&Write> = rest.map(|(write, _)| write).collect();
        let mut model = Table::new(&rows);
        rest.iter().for_each(|write| model.execute(write));
        if model.out_of_range {
            continue;
        }
        for write in rest {
            database.execute(write).await;
        }
        assert_eq!(database.cells("single").await, flushed, "seed {seed}: {writes:#?}");
        compared += 1;
    }
    assert!(compared > 200, "{compared} sequences were compared one by one");
}
