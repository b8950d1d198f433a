//! A validated write on its way into the buffer.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use zmsg_core::{Error, ErrorKind, Ident, Key, OnMissing, Op, Result, Statement, Task};

use super::{Entry, Folding, Target, Work};
use crate::algebra::Fold;

/// Where the order of operations is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum BatchKey {
    /// The name that the author gave.
    Named(Arc<str>),
    /// An operation without a name: its rows.
    Rows(Arc<Target>),
    /// A statement without a name: an order of its own, shared with its copies.
    Text(SameText),
}

/// A statement, equal to every other of the same text and binds.
#[derive(Debug, Clone)]
pub(crate) struct SameText(pub(crate) Arc<Statement>);

/// A validated write.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) batch_key: BatchKey,
    pub(crate) work: Work,
}

impl Incoming {
    /// Validates a task of the periodic route.
    pub(crate) fn of(task: Task, on_missing: OnMissing) -> Result<Self> {
        match task {
            Task::Op(op) => Self::of_op(op, on_missing),
            Task::Statement(statement) => Self::of_statement(statement),
        }
    }

    /// The most that accepting it can add to the buffer, in bytes.
    pub(crate) fn weight(&self, key: Option<&Key>) -> i64 {
        let bytes = Entry::weight_of(&self.work, key);
        i64::try_from(bytes).unwrap_or(i64::MAX).saturating_add(self.batch_key.heap_bytes())
    }

    /// A write that was validated before, under the batch key that its author named.
    pub(crate) fn again(batch_key: Option<String>, work: Work) -> Self {
        let batch_key = match (batch_key, &work) {
            (Some(name), _) => BatchKey::Named(name.into()),
            (None, Work::Fold(folding)) => BatchKey::Rows(Arc::clone(&folding.target)),
            (None, Work::Statement(text)) => BatchKey::Text(SameText(Arc::clone(text))),
        };
        Self { batch_key, work }
    }

    fn of_op(op: Op, default: OnMissing) -> Result<Self> {
        let (batch_key, folding) = Folding::of(op, default)?;
        Ok(Self::again(batch_key, Work::Fold(folding)))
    }

    fn of_statement(statement: Statement) -> Result<Self> {
        if statement.returns_rows {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a statement that returns rows cannot be deferred; execute it now",
            ));
        }
        Ok(Self::again(statement.batch_key.clone(), Work::Statement(Arc::new(statement))))
    }
}

impl Folding {
    /// The folding of one operation, and the batch key that it names.
    pub(crate) fn of(op: Op, default: OnMissing) -> Result<(Option<String>, Self)> {
        let Op { table, column, kind, condition, batch_key, on_missing } = op;
        let on_missing = on_missing.unwrap_or(default);
        let target = Target { table, condition };
        target.check(&column, on_missing)?;
        Ok((batch_key, Self::of_target(target, column, Fold::of(&kind)?, on_missing)?))
    }

    /// The folding of a fold that was validated.
    pub(crate) fn of_target(
        target: Target,
        column: Ident,
        fold: Fold,
        on_missing: OnMissing,
    ) -> Result<Self> {
        let foldable = !target.mentions(&column)?;
        Ok(Self { target: Arc::new(target), column, fold, on_missing, foldable })
    }
}

impl BatchKey {
    /// The name that the author gave, if one was given.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Rows(_) | Self::Text(_) => None,
        }
    }

    /// Bytes that the key keeps in memory besides what it shares with the work.
    pub(super) fn heap_bytes(&self) -> i64 {
        match self {
            Self::Named(name) => i64::try_from(name.len()).unwrap_or(i64::MAX),
            Self::Rows(_) | Self::Text(_) => 0,
        }
    }
}

impl PartialEq for SameText {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text && self.0.binds == other.0.binds
    }
}

impl Eq for SameText {}

impl Hash for SameText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
        self.0.binds.hash(state);
    }
}
