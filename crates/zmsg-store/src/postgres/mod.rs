//! The store on PostgreSQL.
//!
//! A call takes a connection out of a bounded pool, does its work and gives the connection back
//! idle. If a caller leaves in the middle of work that writes, a task finishes it. Binds are encoded to the types that the server infers for their places.

mod options;

mod job;
mod transaction;
mod check;
mod finished;

mod pool;
mod connection;
mod connector;
mod tls;

mod command;
mod statements;

mod bind;
mod column;
mod json;
mod numeric;
mod error;

mod listener;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Error, Result, Row, Statement};
use zmsg_sqlbuilder::Dialect;

pub use self::options::{PostgresOptions, TlsMode};

use self::connector::Connector;
use self::finished::Finished;
use self::listener::Listener;
use self::pool::{Pool, closed};
use crate::counters::{Counters, count};
use crate::{Notifications, Outcome, SqlStore, Step, StepError, StoreStats};

/// Payloads that wait for a listener.
const NOTIFICATIONS_MAX: usize = 1024;

/// A PostgreSQL database behind a bounded pool of connections.
///
/// - `fetch` runs in a read-only transaction: the server refuses whatever would write, in a
///   function too.
/// - Statements stay prepared on their connections, found by their text. Behind a transaction
///   pooler nothing stays on the server, and each call is one transaction.
/// - A statement that would change the connection for the next caller is refused: settings of the
///   session, its locks, cursors and temporary tables. `SET LOCAL`, and `set_config` with `true`,
///   are for the transaction and allowed.
/// - A connection is used again only if it is known to be idle; one that was lost is replaced,
///   and work that finds it lost before its first statement is begun anew on another, once, unless
///   its COMMIT was already on its way: that goes along where the connection was in use within the
///   last second.
/// - A COMMIT, or a statement by itself, whose answer is lost is `outcome unknown`.
/// - Errors name tables, columns and constraints; never a bind, and no message of the server that
///   could show one.
/// - Values of types that `Value` has no variant for come as the server's text for them:
///   `numeric` and `date` too. Arrays come as arrays.
#[derive(Clone)]
pub struct PostgresStore {
    pool: Arc<Pool>,
    counters: Arc<Counters>,
    closed: CancellationToken,
}

impl PostgresStore {
    /// Connects, to see that the database is there. The tasks that drive connections, and those
    /// that finish what callers have begun, run on the tracker.
    ///
    /// # Errors
    /// `InvalidConfig` if the options cannot be used or the server refuses the login,
    /// `Unavailable` if it does not answer. Later the store connects anew by itself.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn open(options: PostgresOptions, tracker: TaskTracker) -> Result<Self> {
        let opened = async {
            let connector = Arc::new(Connector::new(&options, tracker)?);
            let pool = Arc::new(Pool::new(options, connector));
            pool.put(pool.connect().await?);
            Ok(pool)
        };
        let pool = opened.await.map_err(|error: Error| error.during("store.open"))?;
        Ok(Self { pool, counters: Arc::default(), closed: CancellationToken::new() })
    }

    async fn write(&self, mut steps: Vec<Step>, single: bool) -> Result<Vec<Outcome>, StepError> {
        if steps.is_empty() {
            let open = if self.pool.is_closed() { Err(closed()) } else { Ok(Vec::new()) };
            return open.map_err(|error| StepError { step: None, error });
        }
        check::by_the_server(&mut steps);
        let (pool, counters) = (Arc::clone(&self.pool), Arc::clone(&self.counters));
        let work = async move {
            let result = job::write(&pool, &steps, single).await;
            counters.written(&steps, &result);
            result
        };
        Finished::new(work, &self.pool.connector).await
    }
}

#[async_trait]
impl SqlStore for PostgresStore {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>> {
        let result = job::fetch(&self.pool, query).await;
        count(&self.counters.queries, 1);
        count(&self.counters.statements, 1);
        let rows = result.map_err(|error| named(error, query).during("store.fetch"))?;
        count(&self.counters.rows_read, rows.len() as u64);
        Ok(rows)
    }

    async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        let result = self.write(vec![Step::any(statement.clone())], true).await;
        match result {
            Ok(mut outcomes) => Ok(outcomes.pop().unwrap_or_default()),
            Err(failed) => Err(named(failed.error, statement).during("store.execute")),
        }
    }

    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError> {
        self.write(steps, false).await.map_err(|failed| StepError {
            error: failed.error.during("store.execute_all"),
            ..failed
        })
    }

    async fn notifications(&self, channel: &str) -> Result<Option<Notifications>> {
        if self.pool.is_closed() {
            return Err(closed().during("store.notifications"));
        }
        if self.pool.options().pooled {
            return Ok(None);
        }
        let (notifier, notifications) = Notifications::channel(NOTIFICATIONS_MAX);
        let connector = Arc::clone(&self.pool.connector);
        let listener = Listener::new(connector, channel, notifier)
            .map_err(|error| error.during("store.notifications"))?;
        self.pool.connector.beside(listener.run(self.closed.clone()));
        Ok(Some(notifications))
    }

    fn stats(&self) -> StoreStats {
        self.counters.snapshot()
    }

    async fn close(&self) -> Result<()> {
        self.closed.cancel();
        self.pool.close().await;
        Ok(())
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("options", self.pool.options())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Adds the beginning of a statement to its error.
fn named(error: Error, statement: &Statement) -> Error {
    const SHOWN_MAX: usize = 80;
    let mut shown: String =
        statement.text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if statement.text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    error.with_context("statement", shown)
}
