//! 300 sequences on each database: a real flush, against the model and against each operation by
//! itself.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio_util::task::TaskTracker;
use zmsg_core::{ErrorKind, OnMissing, Receipt, SystemClock, Task, TaskId, Value};
use zmsg_store::{
    Migrations, Migrator, PostgresOptions, PostgresStore, SqlStore, SqliteOptions, SqliteStore,
    Step, Synchronous,
};

use super::memory::{Folded, folded};
use super::table::{Done, Table, show};
use super::write::{COLUMNS, Cells, Write, sequence};
use crate::{
    Aggregator, FlushPolicy, Journal, JournalOptions, JournalSync, Unobserved, sqlite_functions,
    steps_for,
};

/// A database with two copies of the table: one for flushes, one for each operation by itself.
struct Database {
    store: Arc<dyn SqlStore>,
    aggregator: Aggregator,
    kind: Kind,
    _dir: Option<tempfile::TempDir>,
    _database: Option<zmsg_testbed::Database>,
}

/// What kind of columns hold the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text, on SQLite.
    Sqlite,
    /// Text, on PostgreSQL.
    Text,
    /// `jsonb`, which holds no text that is no document.
    Jsonb,
}

impl Database {
    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            functions: sqlite_functions(),
            synchronous: Synchronous::Normal,
            ..SqliteOptions::new(dir.path().join("law.db"))
        };
        let store = Arc::new(SqliteStore::open(options).await.unwrap());
        Self { _dir: Some(dir), ..Self::over(store, Kind::Sqlite).await }
    }

    /// `None` if there is no server and none is required.
    async fn postgres(kind: Kind) -> Option<Self> {
        let database = zmsg_testbed::postgres()?.database().await;
        let options = PostgresOptions::new(database.url());
        let store = Arc::new(PostgresStore::open(options, TaskTracker::new()).await.unwrap());
        Some(Self { _database: Some(database), ..Self::over(store, kind).await })
    }

    async fn over(store: Arc<dyn SqlStore>, kind: Kind) -> Self {
        let migrations = Migrations::zmsg(store.dialect());
        Migrator::new(Arc::clone(&store), migrations).up().await.unwrap();
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(name, of)| {
                format!("\"{}\" {}", name.replace('"', "\"\""), kind.column(name, of))
            })
            .collect();
        let strict = if kind == Kind::Sqlite { "STRICT" } else { "" };
        let columns = columns.join(", ");
        let whole = if kind == Kind::Sqlite { "INTEGER" } else { "bigint" };
        for (table, world) in
            [("folded", ""), ("single", ""), ("worlds", &*format!(", world {whole}"))]
        {
            run(&*store, &format!("CREATE TABLE {table} ({columns}{world}) {strict}"), vec![])
                .await;
        }
        let aggregator = Aggregator::open(
            Arc::clone(&store),
            FlushPolicy::default(),
            Arc::new(SystemClock),
            Arc::new(Unobserved),
            TaskTracker::new(),
        );
        let aggregator = aggregator.await.unwrap();
        Self { store, aggregator, kind, _dir: None, _database: None }
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
        let columns: Vec<String> =
            COLUMNS.iter().map(|(name, _)| format!("\"{}\"", name.replace('"', "\"\""))).collect();
        let text = format!("SELECT {} FROM {table}", columns.join(", "));
        let query = zmsg_core::Statement::query(text, vec![]);
        let rows = self.store.fetch(&query).await.unwrap();
        let shown = |row: &zmsg_core::Row| {
            let shown = row.values().iter().map(|value| show(&normal(value)));
            shown.collect::<Vec<_>>().join(" | ")
        };
        let mut rows: Vec<String> = rows.iter().map(shown).collect();
        rows.sort();
        rows
    }

    /// Submits all tasks and flushes; which of them were kept as dead letters.
    async fn flush(&self, tasks: Vec<Task>) -> Vec<bool> {
        let settlements: Vec<_> = tasks
            .into_iter()
            .map(|task| self.aggregator.submit(None, task).unwrap().settlement)
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

    /// Accepts all tasks in a process that ends at once, and recovers its journal.
    async fn replay(&self, tasks: Vec<Task>) {
        let dir = tempfile::tempdir().unwrap();
        let options = JournalOptions {
            root: dir.path().join("journal"),
            sync: JournalSync::Always,
            bytes_max: 1 << 30,
            segment_bytes: 16 << 20,
        };
        let process = Aggregator::open_with(
            Journal::create(&options).await.unwrap(),
            Arc::clone(&self.store),
            FlushPolicy::default(),
            Arc::new(SystemClock),
            Arc::new(Unobserved),
            TaskTracker::new(),
        );
        let process = process.await.unwrap();
        for task in tasks {
            process.submit(None, task).unwrap().journaled.acknowledged().await.unwrap();
        }
        drop(process);
        let recovery = self.aggregator.recovery(Duration::from_secs(30));
        recovery.run(&options.root, &Journal::off()).await.unwrap();
    }

    /// Executes one write by itself, as the other routes do.
    async fn execute(&self, write: &Write) {
        let steps = match write.task("single") {
            Task::Op(op) => steps_for(&op, OnMissing::DeadLetter, self.store.dialect()).unwrap(),
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

/// PostgreSQL writes the same document with spaces, and its keys in another order.
fn normal(value: &Value) -> Value {
    let parsed = match value {
        Value::Json(document) => Ok(document.clone()),
        Value::Text(text) => serde_json::from_str(text),
        other => return other.clone(),
    };
    parsed.map_or_else(|_| value.clone(), |document| Value::Text(document.to_string()))
}

impl Kind {
    fn column(self, name: &str, sqlite: &'static str) -> &'static str {
        match (self, name, sqlite) {
            (Self::Sqlite, ..) => sqlite,
            (Self::Jsonb, "tags" | "meta", _) => "jsonb",
            (_, _, "INTEGER") => "bigint",
            (_, _, "REAL") => "double precision",
            (..) => "text",
        }
    }

    /// A row as such columns can hold it.
    fn row(self, row: &Cells) -> Cells {
        let cell = |value: &Value| match value {
            Value::Text(text) if serde_json::from_str::<serde_json::Value>(text).is_err() => {
                Value::Text(serde_json::Value::from(text.as_str()).to_string())
            }
            other => other.clone(),
        };
        match self {
            Self::Sqlite | Self::Text => row.clone(),
            // The last column is a name and no document.
            Self::Jsonb => {
                let (name, cells) = row.split_last().unwrap();
                cells.iter().map(cell).chain([name.clone()]).collect()
            }
        }
    }
}

#[tokio::test]
async fn flushing_equals_one_by_one_in_300_sequences_on_sqlite() {
    Database::sqlite().await.obeys_the_law().await;
}

#[tokio::test]
async fn replaying_a_journal_equals_one_by_one_in_100_sequences_on_sqlite() {
    let database = Database::sqlite().await;
    for seed in 3_000_000..3_000_100 {
        let (rows, writes) = sequence(&mut Rng::with_seed(seed));
        let tasks: Vec<Task> = writes.iter().map(|write| write.task("folded")).collect();
        let Folded { table, .. } = folded(&rows, &writes, &tasks);
        database.fill(&rows).await;
        database.replay(tasks).await;
        let replayed = database.cells("folded").await;
        assert_eq!(Some(&replayed), table.cells().as_ref(), "seed {seed}: {writes:#?}");
    }
}

#[tokio::test]
async fn flushing_300_sequences_at_once_equals_one_by_one_on_sqlite() {
    Database::sqlite().await.obeys_the_law_at_once().await;
}

#[tokio::test]
async fn flushing_300_sequences_at_once_equals_one_by_one_on_postgres() {
    for kind in [Kind::Text, Kind::Jsonb] {
        let Some(database) = Database::postgres(kind).await else { return };
        database.obeys_the_law_at_once().await;
    }
}

#[tokio::test]
async fn flushing_equals_one_by_one_in_300_sequences_on_postgres() {
    let Some(database) = Database::postgres(Kind::Text).await else { return };
    database.obeys_the_law().await;
}

#[tokio::test]
async fn flushing_equals_one_by_one_in_300_sequences_on_jsonb() {
    let Some(database) = Database::postgres(Kind::Jsonb).await else { return };
    database.obeys_the_law().await;
}

impl Database {
    /// Folded = one by one.
    async fn obeys_the_law(&self) {
        let mut compared = 0;
        for seed in 1_000_000..1_000_300 {
            let (rows, writes) = sequence(&mut Rng::with_seed(seed));
            let rows: Vec<Cells> = rows.iter().map(|row| self.kind.row(row)).collect();
            compared += u32::from(self.compare(seed, &rows, &writes).await);
        }
        assert!(compared > 200, "{compared} sequences were compared one by one");
    }

    /// Whether the sequence could be compared with each operation by itself, too.
    async fn compare(&self, seed: u64, rows: &[Cells], writes: &[Write]) -> bool {
        let tasks: Vec<Task> = writes.iter().map(|write| write.task("folded")).collect();
        let Folded { table, done, .. } = folded(rows, writes, &tasks);
        self.fill(rows).await;

        let really_kept = self.flush(tasks).await;
        let flushed = self.cells("folded").await;
        assert_eq!(Some(&flushed), table.cells().as_ref(), "seed {seed}: {writes:#?}");
        let kept: Vec<bool> = done.iter().map(|done| *done != Done::Applied).collect();
        assert_eq!(really_kept, kept, "seed {seed}: {writes:#?}");

        // By itself, an operation may not leave the range of its column even for a while.
        let rest = writes.iter().zip(&done).filter(|(_, done)| **done != Done::Refused);
        let rest: Vec<&Write> = rest.map(|(write, _)| write).collect();
        let mut model = Table::new(rows);
        rest.iter().for_each(|write| model.execute(write));
        if model.out_of_range {
            return false;
        }
        for write in rest {
            self.execute(write).await;
        }
        assert_eq!(self.cells("single").await, flushed, "seed {seed}: {writes:#?}");
        true
    }

    /// Folded = one by one, with the sequences of 300 worlds in one flush: their statements are
    /// put together, and those of each world keep their order.
    async fn obeys_the_law_at_once(&self) {
        let mut worlds = Vec::new();
        let mut all = Vec::new();
        for world in 0_i64..300 {
            let (rows, writes) = sequence(&mut Rng::with_seed(2_000_000 + world.unsigned_abs()));
            let rows: Vec<Cells> = rows.iter().map(|row| self.kind.row(row)).collect();
            for row in &rows {
                let text = "INSERT INTO worlds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
                let cells = row.iter().cloned().chain([Value::Int(world)]).collect();
                run(&*self.store, text, cells).await;
            }
            all.extend(writes.iter().map(|write| write.task_in("worlds", Some(world))));
            worlds.push((world, rows, writes));
        }
        let kept = self.flush(all).await;
        let mut kept = kept.into_iter();
        for (world, rows, writes) in worlds {
            let tasks: Vec<Task> =
                writes.iter().map(|write| write.task_in("t", Some(world))).collect();
            let Folded { table, done, .. } = folded(&rows, &writes, &tasks);
            let really: Vec<bool> = kept.by_ref().take(writes.len()).collect();
            let model: Vec<bool> = done.iter().map(|done| *done != Done::Applied).collect();
            assert_eq!(really, model, "world {world}: {writes:#?}");
            let cells = self.cells(&format!("worlds WHERE world = {world}")).await;
            assert_eq!(Some(cells), table.cells(), "world {world}: {writes:#?}");
        }
    }
}
