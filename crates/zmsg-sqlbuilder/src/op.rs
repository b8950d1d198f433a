//! An operation in the making: what all foldable operations have in common.

use zmsg_core::{
    Condition, Error, Ident, IntoTask, OnMissing, Op, OpKind, Result, TableName, Task, Value,
};

use crate::binds::IntoBinds;
use crate::condition::{equals_null, expression};

/// The column that an operation changes; its names are checked when the operation is finished.
#[derive(Debug, Clone)]
pub(crate) struct Target(Result<(TableName, Ident)>);

impl Target {
    pub(crate) fn new(table: impl AsRef<str>, column: impl AsRef<str>) -> Self {
        Self(TableName::new(table).and_then(|table| Ok((table, Ident::new(column)?))))
    }

    pub(crate) fn op(self, kind: OpKind) -> OpBuilder {
        OpBuilder {
            target: self,
            kind,
            condition: None,
            batch_key: None,
            on_missing: None,
            problem: None,
        }
    }
}

/// An operation that still wants its condition. The chain needs no `?`: what was wrong in it
/// comes out when it is finished, by [`op`](Self::op) or by the write that takes it.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is finished"]
pub struct OpBuilder {
    target: Target,
    kind: OpKind,
    condition: Option<Condition>,
    batch_key: Option<String>,
    on_missing: Option<OnMissing>,
    /// The first thing that was wrong in the chain.
    problem: Option<Error>,
}

impl OpBuilder {
    /// Changes rows where the column equals the value. Called again, both have to hold.
    ///
    /// This is the form that folds in bulk: many rows change in one statement. NULL and NaN are
    /// refused, because nothing equals them.
    pub fn where_eq(mut self, column: impl AsRef<str>, value: impl Into<Value>) -> Self {
        match self.equality(column.as_ref(), value.into()) {
            Ok(condition) => self.condition = Some(condition),
            Err(error) => self.note(error),
        }
        self
    }

    /// Changes rows that meet any SQL condition, written with `?` for each bind and without
    /// `WHERE`.
    pub fn where_sql(mut self, text: impl Into<String>, binds: impl IntoBinds) -> Self {
        let (text, binds) = (text.into(), binds.into_binds());
        if self.condition.is_some() {
            self.note(Error::invalid_input(
                "an operation has one where_sql and nothing beside it; join the parts with AND",
            ));
        }
        if let Err(error) = expression(&text, binds.len()) {
            self.note(error);
        }
        self.condition = Some(Condition::Sql { text, binds });
        self
    }

    /// Changes every row of the table.
    pub fn all_rows(mut self) -> Self {
        if !matches!(self.condition, None | Some(Condition::AllRows)) {
            self.note(Error::invalid_input("all_rows contradicts a condition; keep one of them"));
        }
        self.condition = Some(Condition::AllRows);
        self
    }

    /// Keeps the order among the operations of this batch key. By default it is made of the
    /// table and the condition with its arguments.
    pub fn batch_key(mut self, key: impl Into<String>) -> Self {
        self.batch_key = Some(key.into());
        self
    }

    /// What to do if no row meets the condition; the engine's default applies if it is not said.
    /// [`OnMissing::Insert`] needs [`where_eq`](Self::where_eq), whose columns the new row has.
    pub fn on_missing(mut self, on_missing: OnMissing) -> Self {
        self.on_missing = Some(on_missing);
        self
    }

    /// Finishes the operation.
    ///
    /// # Errors
    /// `InvalidInput` for the first thing that was wrong in the chain; for names that are not
    /// identifiers; for an operation without a condition, unless [`all_rows`](Self::all_rows)
    /// says that every row is meant; and for [`OnMissing::Insert`] without
    /// [`where_eq`](Self::where_eq).
    pub fn op(self) -> Result<Op> {
        let (table, column) = self.target.0?;
        let named =
            |error: Error| error.with_context("table", &table).with_context("column", &column);
        if let Some(problem) = self.problem {
            return Err(named(problem));
        }
        let Some(condition) = self.condition else {
            return Err(named(Error::invalid_input(
                "an operation without a condition changes every row; add where_eq or where_sql, \
                 or call all_rows() if that is meant",
            )));
        };
        let inserts = self.on_missing == Some(OnMissing::Insert);
        if inserts && !matches!(condition, Condition::Eq(_)) {
            return Err(named(Error::invalid_input(
                "a missing row can be inserted only with where_eq, which says what the row holds",
            )));
        }
        Ok(Op {
            table,
            column,
            kind: self.kind,
            condition,
            batch_key: self.batch_key,
            on_missing: self.on_missing,
        })
    }

    /// The condition so far with one more equality.
    fn equality(&self, column: &str, value: Value) -> Result<Condition> {
        let column = Ident::new(column)?;
        let value = comparable(&column, value)?;
        let mut equalities = match &self.condition {
            None => Vec::new(),
            Some(Condition::Eq(equalities)) => equalities.clone(),
            Some(Condition::Sql { .. } | Condition::AllRows) => {
                return Err(Error::invalid_input(
                    "where_eq does not mix with where_sql and all_rows; write all of it in where_sql",
                ));
            }
        };
        if equalities.iter().any(|(known, _)| *known == column) {
            return Err(Error::invalid_input(
                "where_eq names a column twice; use where_sql for other conditions on it",
            )
            .with_context("where_eq", column));
        }
        equalities.push((column, value));
        Ok(Condition::Eq(equalities))
    }

    pub(crate) fn note(&mut self, problem: Error) {
        self.problem.get_or_insert(problem);
    }
}

/// A value that equals itself, in one spelling: conditions are compared by their bits.
fn comparable(column: &Ident, value: Value) -> Result<Value> {
    match value {
        Value::Null => Err(equals_null(column)),
        Value::Float(float) if float.is_nan() => {
            Err(Error::invalid_input("nothing equals NaN; use where_sql")
                .with_context("where_eq", column))
        }
        // Minus zero equals zero, and must not be another condition.
        Value::Float(0.0) => Ok(Value::Float(0.0)),
        value => Ok(value),
    }
}

impl IntoTask for OpBuilder {
    fn into_task(self) -> Result<Task> {
        self.op().map(Task::Op)
    }
}
