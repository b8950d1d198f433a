//! The store: finished statements in, rows out. It holds no state of zmsg's.

use std::fmt;

use async_trait::async_trait;
use zmsg_core::{Error, Result, Row, Statement};
use zmsg_sqlbuilder::Dialect;

use crate::{Notifications, StoreStats};

/// A relational database that executes finished statements.
///
/// - Statements are in portable form (`?` binds); the store writes them for its dialect and
///   refuses one whose placeholders and binds differ in number.
/// - `execute_all` is one transaction: all steps or none.
/// - What was acknowledged is durable as the database is configured, and seen by every `fetch`
///   that is called afterwards.
/// - Transactions belong to the store: a statement that controls one is refused, as is a text of
///   several statements.
/// - A dropped future leaves nothing half done: work that began ends with commit or rollback.
/// - Errors say whether to try again: a lock or a lost connection is temporary, data that the
///   database refuses is `InvalidData`, a commit without an answer is outcome unknown.
#[async_trait]
pub trait SqlStore: fmt::Debug + Send + Sync + 'static {
    /// The dialect of this database.
    fn dialect(&self) -> Dialect;

    /// Runs a query that changes nothing and returns its rows.
    ///
    /// # Errors
    /// As the trait says; a statement that would write is refused.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the result and nothing else.
    async fn fetch(&self, query: &Statement) -> Result<Vec<Row>>;

    /// Runs one statement in a transaction of its own.
    ///
    /// # Errors
    /// As the trait says.
    ///
    /// # Cancel safety
    /// Dropping the future does not abort a statement that began: it commits or rolls back.
    async fn execute(&self, statement: &Statement) -> Result<Outcome>;

    /// Runs all steps in one transaction, in order, or none of them, and returns one outcome for
    /// each. The statements of an [`Otherwise::Run`] have no outcome of their own.
    ///
    /// # Errors
    /// The first step that failed and why; nothing of the batch remains.
    ///
    /// # Cancel safety
    /// Dropping the future does not abort the work: the transaction commits or rolls back.
    async fn execute_all(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, StepError>;

    /// Listens to what is sent over a channel by `NOTIFY` or `pg_notify`, on a connection of its
    /// own that is made anew when it is lost. `None` where there is no such thing: another
    /// database, or a pooler in between. Whoever listens polls as well.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no channel can have; `Closed` after `close`. A database
    /// that is away is no error: listening begins when it is back.
    ///
    /// # Cancel safety
    /// Dropping the future listens to nothing.
    async fn notifications(&self, channel: &str) -> Result<Option<Notifications>> {
        let _ = channel;
        Ok(None)
    }

    /// What the store has done since it was opened. A store that does not count answers zeros.
    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    /// Waits for work in progress and closes every connection. Later calls fail with `Closed`.
    ///
    /// # Errors
    /// If the database reports a failure while closing.
    async fn close(&self) -> Result<()>;
}

/// What one statement did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows that this statement inserted, updated or deleted; 0 for any other statement.
    pub changed: u64,
    /// Rows returned, for a statement that returns rows.
    pub rows: Vec<Row>,
}

/// One statement of a transaction, and what has to be true of it. It may be a query too: one
/// that locks a row, or that checks what the other steps rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The statement.
    pub statement: Statement,
    /// How many rows it must change or return.
    pub expect: Expect,
    /// What happens if it does not.
    pub otherwise: Otherwise,
}

/// How many rows a step must change or return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Any number.
    Any,
    /// Exactly this many rows changed.
    Exactly(u64),
    /// This many rows changed or more.
    AtLeast(u64),
    /// Exactly this many rows returned, by a query or `RETURNING`.
    Returns(u64),
    /// A query finds something: a row or more, which are not handed over. So the database may
    /// decide by itself, and a commit need not wait for the answer.
    Found,
}

/// What happens when a step did not do what was expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Otherwise {
    /// The transaction is rolled back with a `Conflict` that carries this message.
    Abort(&'static str),
    /// These statements run next, in the same transaction.
    Run(Vec<Statement>),
}

/// Why a batch was rolled back: the step, if one was to blame, and the error.
#[derive(Debug, Clone)]
pub struct StepError {
    /// The index of the step in the batch; `None` for begin and commit.
    pub step: Option<usize>,
    /// What went wrong.
    pub error: Error,
}

impl Step {
    /// A step that may change any number of rows.
    pub fn any(statement: Statement) -> Self {
        Self { statement, expect: Expect::Any, otherwise: Otherwise::Run(Vec::new()) }
    }

    /// A step that rolls the batch back with a `Conflict` unless it changes what is expected.
    pub fn must(statement: Statement, expect: Expect, message: &'static str) -> Self {
        Self { statement, expect, otherwise: Otherwise::Abort(message) }
    }

    /// A step that rolls the batch back with a `Conflict` unless this query finds something. Its
    /// outcome is empty.
    ///
    /// The query changes nothing, locks nothing and has no semicolon: PostgreSQL runs it within an
    /// `EXISTS`, which does not come to its columns, nor to more than its first row. One that divides
    /// by zero counts as refused; a refusal is an `ERROR` in the server's log.
    pub fn check(query: Statement, message: &'static str) -> Self {
        Self::must(query, Expect::Found, message)
    }
}

impl Expect {
    /// Whether a statement did what is expected.
    pub fn met_by(self, outcome: &Outcome) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => outcome.changed == wanted,
            Self::AtLeast(wanted) => outcome.changed >= wanted,
            Self::Returns(wanted) => outcome.rows.len() as u64 == wanted,
            Self::Found => !outcome.rows.is_empty(),
        }
    }
}

impl From<StepError> for Error {
    fn from(failed: StepError) -> Self {
        match failed.step {
            Some(step) => failed.error.with_context("step", step),
            None => failed.error,
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {step}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for StepError {}
