//! The table that remembers which migrations were applied.

use zmsg_core::{Error, ErrorKind, Result, Row, Statement, UnixMillis, Value};
use zmsg_sqlbuilder::Dialect;

use super::{Direction, Plan, checksum};
use crate::{Expect, SqlStore, Step};

/// One row of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) version: i64,
    pub(super) name: String,
    /// Of the whole migration if it is applied, else of the statements that are done.
    pub(super) checksum: String,
    pub(super) progress: Progress,
    pub(super) applied_ms: UnixMillis,
}

/// How far a migration has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    Applied,
    /// A script outside of a transaction, begun and not finished.
    Running {
        direction: Direction,
        done: usize,
        holder: Option<String>,
        beat: i64,
    },
}

const COLUMNS: &str = "version, name, checksum, state, done, holder, beat, applied_ms";

impl Entry {
    pub(super) fn statements_done(&self) -> usize {
        match self.progress {
            Progress::Applied => 0,
            Progress::Running { done, .. } => done,
        }
    }

    /// Whether the statements that are done are still those of the script.
    pub(super) fn agrees_with(&self, plan: &Plan) -> bool {
        let done = plan.statements.get(..self.statements_done());
        done.is_some_and(|done| self.checksum == checksum_of(done))
    }

    fn read(row: &Row) -> Result<Self> {
        let direction = match row.text(3)? {
            "applied" => None,
            "running" => Some(Direction::Up),
            "reverting" => Some(Direction::Down),
            other => {
                return Err(Error::new(ErrorKind::Corrupted, "a migration is in an unknown state")
                    .with_context("state", other.escape_debug()));
            }
        };
        let progress = match direction {
            None => Progress::Applied,
            Some(direction) => Progress::Running {
                direction,
                done: usize::try_from(row.int(4)?).unwrap_or_default(),
                holder: row.at(5)?.as_text().map(str::to_owned),
                beat: row.int(6)?,
            },
        };
        Ok(Self {
            version: row.int(0)?,
            name: row.text(1)?.to_owned(),
            checksum: row.text(2)?.to_owned(),
            progress,
            applied_ms: u64::try_from(row.int(7)?).unwrap_or_default(),
        })
    }
}

/// The checksum of statements that are done.
pub(super) fn checksum_of(done: &[String]) -> String {
    checksum::of(done.iter().map(String::as_str))
}

/// The word of the table for a script that is being run.
pub(super) fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "running",
        Direction::Down => "reverting",
    }
}

/// The advisory lock of those who create the table: "zmsg", and the first lock of it.
const CREATION: i64 = 0x7a6d_7367_0000_0001;

/// Creates the table if it is not there.
pub(super) async fn create(store: &dyn SqlStore) -> Result<()> {
    if exists(store).await? {
        return Ok(());
    }
    let integer = match store.dialect() {
        Dialect::Sqlite => "INTEGER",
        Dialect::Postgres => "BIGINT",
    };
    let table = format!(
        "CREATE TABLE IF NOT EXISTS zmsg_migrations (
           set_name   TEXT NOT NULL,
           version    {integer} NOT NULL,
           name       TEXT NOT NULL,
           checksum   TEXT NOT NULL,
           state      TEXT NOT NULL,
           done       {integer} NOT NULL,
           holder     TEXT,
           beat       {integer} NOT NULL,
           applied_ms {integer} NOT NULL,
           PRIMARY KEY (set_name, version)
         )"
    );
    let table = Step::any(Statement::new(table, vec![]));
    let steps = match store.dialect() {
        Dialect::Sqlite => vec![table],
        // IF NOT EXISTS does not see what another transaction is creating at the same moment.
        Dialect::Postgres => {
            let lock = "SELECT pg_advisory_xact_lock(?)";
            vec![Step::any(Statement::query(lock, vec![CREATION.into()])), table]
        }
    };
    Ok(store.execute_all(steps).await.map(drop)?)
}

async fn exists(store: &dyn SqlStore) -> Result<bool> {
    let query = match store.dialect() {
        Dialect::Sqlite => "SELECT 1 FROM sqlite_schema WHERE name = 'zmsg_migrations'",
        Dialect::Postgres => "SELECT 1 WHERE to_regclass('zmsg_migrations') IS NOT NULL",
    };
    Ok(!store.fetch(&Statement::query(query, vec![])).await?.is_empty())
}

/// The history of a set in the order of versions; empty if there is no table yet.
pub(super) async fn read(store: &dyn SqlStore, set_name: &str) -> Result<Vec<Entry>> {
    if !exists(store).await? {
        return Ok(Vec::new());
    }
    let query =
        format!("SELECT {COLUMNS} FROM zmsg_migrations WHERE set_name = ? ORDER BY version");
    let rows = store.fetch(&Statement::query(query, vec![set_name.into()])).await?;
    rows.iter().map(Entry::read).collect()
}

/// The step that makes a migration this runner's: whoever inserts the row runs the script. On
/// PostgreSQL it waits for a transaction that is inserting the same row.
pub(super) fn claim(set_name: &str, plan: &Plan, entry: &Entry) -> Step {
    let (state, holder) = match &entry.progress {
        Progress::Applied => ("applied", None),
        Progress::Running { direction, holder, .. } => (word(*direction), holder.clone()),
    };
    let text = format!(
        "INSERT INTO zmsg_migrations (set_name, {COLUMNS}) VALUES (?, ?, ?, ?, ?, 0, ?, 0, ?) \
         ON CONFLICT (set_name, version) DO NOTHING"
    );
    let binds = vec![
        set_name.into(),
        plan.version.into(),
        entry.name.as_str().into(),
        entry.checksum.as_str().into(),
        state.into(),
        holder.into(),
        millis(entry.applied_ms),
    ];
    must(Statement::new(text, binds))
}

/// The step that takes an applied migration out of the history.
pub(super) fn remove(set_name: &str, version: i64) -> Step {
    let text = "DELETE FROM zmsg_migrations \
                WHERE set_name = ? AND version = ? AND state = 'applied'";
    must(Statement::new(text, vec![set_name.into(), version.into()]))
}

/// A step that changes exactly one row of the history, or else somebody else was first.
pub(super) fn must(statement: Statement) -> Step {
    Step::must(statement, Expect::Exactly(1), "another runner was first")
}

pub(super) fn millis(at: UnixMillis) -> Value {
    Value::Int(i64::try_from(at).unwrap_or(i64::MAX))
}
