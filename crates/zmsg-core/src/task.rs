//! A write: a statement, or an operation that can be folded.

use crate::{Op, Result, Statement};

/// What a write does to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// A finished SQL statement.
    Statement(Statement),
    /// A foldable operation.
    Op(Op),
}

/// Anything that can become a [`Task`]: the builders of `zmsg-sqlbuilder`, and tasks themselves.
///
/// Builders are chained without `?`; what was wrong in the chain comes out here.
pub trait IntoTask {
    /// Finishes the task.
    ///
    /// # Errors
    /// `InvalidInput` with the first thing that was wrong in the builder's chain.
    fn into_task(self) -> Result<Task>;
}

impl IntoTask for Task {
    fn into_task(self) -> Result<Task> {
        Ok(self)
    }
}

impl IntoTask for Statement {
    fn into_task(self) -> Result<Task> {
        Ok(Task::Statement(self))
    }
}

impl IntoTask for Op {
    fn into_task(self) -> Result<Task> {
        Ok(Task::Op(self))
    }
}
