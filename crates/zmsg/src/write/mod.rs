//! The routes of a write. Each file opens with what its route promises.

mod store; // start here: the safe default
mod delay;
mod outbox;
mod periodic;
mod request;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;
use zmsg_aggregate::Aggregator;
use zmsg_cache::TieredCache;
use zmsg_core::{
    Clock, Error, ErrorKind, Key, KeyScope, Receipt, Result, Row, Statement, Task, TaskId,
};
use zmsg_sqlbuilder::identifiers;

use crate::apply::{Applier, Show};
use crate::assemble::{NamedQueue, Wake};
use crate::lock::FileLock;
use crate::pending::Pending;
use crate::source::Sources;

pub(crate) use delay::DelayMax;
pub(crate) use delay::Delayed;
pub use outbox::Outbox;
pub use request::Write;
pub(crate) use request::{Request, Route};

/// Writes, by all routes.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) applier: Arc<Applier>,
    pub(crate) cache: TieredCache,
    pub(crate) aggregator: Aggregator,
    /// Takes delayed writes.
    pub(crate) delayed: NamedQueue,
    /// Has delayed writes too, in the database.
    pub(crate) in_database: Option<NamedQueue>,
    /// Wakes the workers of all nodes, where the database does not.
    pub(crate) wake: Option<Wake>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tracker: TaskTracker,
    pub(crate) options: WriteOptions,
    /// Held by whatever still writes: another engine must not open what this one changes.
    pub(crate) _locks: Arc<Vec<FileLock>>,
}

/// What the configuration says about writes.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub(crate) delay: Duration,
    /// Longer delays are refused.
    pub(crate) delay_max: DelayMax,
    pub(crate) attempts_max: u32,
    pub(crate) fallback_to_store: bool,
    /// Other nodes may share the database and its queue.
    pub(crate) shared: bool,
}

/// What [`Zmsg::sql_exec`](crate::Zmsg::sql_exec) did.
///
/// ```
/// # fn show(result: zmsg::SqlResult) -> zmsg::Result<()> {
/// for row in &result.rows {
///     println!("{} has {} likes", row.text(0)?, row.int(1)?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// `Debug` of a row hides its values: they must not reach logs.
#[derive(Debug, Clone)]
pub struct SqlResult {
    /// The proof: committed.
    pub receipt: Receipt,
    /// Rows changed, as the database counts them.
    pub changed: u64,
    /// Rows of a `SELECT` or of `RETURNING`.
    pub rows: Vec<Row>,
}

impl Writer {
    /// Puts a value into the caches alone.
    pub(crate) async fn cache_only(
        &self,
        key: &Key,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Receipt> {
        let level = self.cache.set(key, value, ttl).await?;
        Ok(Receipt::cached(TaskId::generate(), level))
    }

    /// Takes a key out of both tiers; the row stays.
    pub(crate) async fn del(&self, key: &Key) -> Result<Receipt> {
        self.cache.invalidate(key).await?;
        Ok(Receipt::cached(TaskId::generate(), self.cache.level()))
    }

    /// Runs a statement of the caller's own.
    pub(crate) async fn sql_exec(self: &Arc<Self>, statement: Statement) -> Result<SqlResult> {
        let receipt = Receipt::committed(TaskId::generate());
        if is_query(&statement.text) {
            let rows = self.applier.fetch(&statement).await?;
            return Ok(SqlResult { receipt, changed: 0, rows });
        }
        let task = Task::Statement(statement);
        let keys = self.keys_of(None, &task)?;
        let mut applied = self.commit(keys, task, Show::Nothing).await?;
        let receipt = receipt.with_degraded(applied.degraded);
        let outcome = applied.outcomes.pop().unwrap_or_default();
        Ok(SqlResult { receipt, changed: outcome.changed, rows: outcome.rows })
    }

    /// Every key whose rows a task may bring about or change: the write's own, first, and those
    /// that its statement names.
    ///
    /// A task on a guarded table must let its keys be known, or a row could exist that the filter
    /// rules out: by the write's own key, if the table's source serves it, or by naming them.
    fn keys_of(&self, key: Option<Key>, task: &Task) -> Result<Vec<Key>> {
        if let Some(named) = named(task) {
            let named = named.iter().filter(|named| Some(*named) != key.as_ref());
            return Ok(key.iter().chain(named).cloned().collect());
        }
        self.check_guards(key.as_ref(), task)?;
        Ok(key.into_iter().collect())
    }

    /// Refuses a task that names no keys and may bring about rows of a guarded table that are not
    /// this key's.
    fn check_guards(&self, key: Option<&Key>, task: &Task) -> Result<()> {
        let key = key.map(Key::as_str);
        let guard = match task {
            Task::Statement(statement) if is_query(&statement.text) => None,
            Task::Statement(statement) => {
                let words = identifiers(&statement.text)?;
                let touches = |table: &str| words.iter().any(|it| it.eq_ignore_ascii_case(table));
                self.sources.foreign_guard(key, touches)
            }
            Task::Op(op) => {
                let name = op.table.name().as_str();
                let guard = self.sources.foreign_guard(key, |it| it.eq_ignore_ascii_case(name));
                // An operation that inserts nothing brings no row about.
                guard.filter(|_| self.applier.may_insert(op))
            }
        };
        guard.map_or(Ok(()), |table| {
            Err(Error::invalid_input(
                "the write touches a table that the filter guards: name the keys of its rows with \
                 .keys([..]), or say .no_keys() if it makes none",
            )
            .with_context("table", table))
        })
    }
}

/// The keys that the author of a task named.
fn named(task: &Task) -> Option<&[Key]> {
    match task {
        Task::Statement(Statement { keys: KeyScope::Keys(named), .. }) => Some(named),
        Task::Statement(_) | Task::Op(_) => None,
    }
}

/// True for a statement that begins as a plain query.
fn is_query(sql: &str) -> bool {
    let first: String = sql.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    first.eq_ignore_ascii_case("select") || first.eq_ignore_ascii_case("values")
}

/// Rows cannot come back from a write that happens later.
fn refuse_returning(task: &Task) -> Result<()> {
    match task {
        Task::Statement(statement) if statement.returns_rows => Err(Error::new(
            ErrorKind::Unsupported,
            "RETURNING gives its rows from sql_exec; a deferred write has nobody to give them to",
        )),
        _ => Ok(()),
    }
}

/// The error of database work whose task was aborted or panicked.
pub(crate) fn lost(join: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Unexpected, "the write's task ended without an answer")
        .outcome_unknown()
        .with_source(join)
}
