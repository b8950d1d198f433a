//! A statement written by hand, with the clauses that databases spell alike.

use zmsg_core::{Error, Ident, IntoTask, Key, KeyScope, Result, Statement, Task, Value};

use crate::binds::IntoBinds;
use crate::columns::{IntoColumns, validated, write_list};
use crate::memo::{self, Finished, Recipe};
use crate::shape::Shape;
use crate::token::excerpt;

/// Begins a statement: its text with `?` for each bind, and the binds.
///
/// See [`render`](crate::render) for which `?` is a bind and which an operator.
pub fn sql(text: impl Into<String>, binds: impl IntoBinds) -> Sql {
    Sql {
        text: text.into(),
        binds: binds.into_binds(),
        conflict: None,
        returning: None,
        keys: KeyScope::Unstated,
        batch_key: None,
        overwrite: false,
        all_rows: false,
        problem: None,
    }
}

/// A statement in the making. The chain needs no `?`: what was wrong in it comes out when it is
/// finished, by [`statement`](Self::statement) or by the write that takes it.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is finished"]
pub struct Sql {
    text: String,
    binds: Vec<Value>,
    conflict: Option<Conflict>,
    returning: Option<Vec<String>>,
    keys: KeyScope,
    batch_key: Option<String>,
    overwrite: bool,
    all_rows: bool,
    /// The first thing that was wrong in the chain.
    problem: Option<Error>,
}

/// What happens to a row that is there already.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Conflict {
    target: Vec<String>,
    update: Option<Vec<String>>,
}

/// An insert that waits for what to do on a conflict: finish with
/// [`do_update`](Self::do_update) or [`do_nothing`](Self::do_nothing).
#[derive(Debug, Clone)]
#[must_use = "say what happens on a conflict: do_update or do_nothing"]
pub struct OnConflict {
    sql: Sql,
    target: Vec<String>,
}

impl Sql {
    /// For an insert: what happens if a row with the same values in these columns is there; they
    /// need a unique index.
    pub fn on_conflict(mut self, columns: impl IntoColumns) -> OnConflict {
        if self.conflict.is_some() {
            self.note(Error::invalid_input("on_conflict is called twice; keep one of them"));
        }
        OnConflict { sql: self, target: columns.into_columns() }
    }

    /// Gives these columns of the rows that were written; `"*"` gives all of them.
    pub fn returning(mut self, columns: impl IntoColumns) -> Self {
        if self.returning.is_some() {
            self.note(Error::invalid_input("returning is called twice; name all columns in one"));
        }
        self.returning = Some(columns.into_columns());
        self
    }

    /// Names the cache keys of the rows this statement may bring into being, so that the filter
    /// knows them before they exist. Called again, it adds to them.
    pub fn keys<K: AsRef<str>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        let mut known = match std::mem::take(&mut self.keys) {
            KeyScope::Keys(known) => known,
            KeyScope::Unstated => Vec::new(),
        };
        for key in keys {
            match Key::new(key) {
                Ok(key) => known.push(key),
                Err(error) => self.note(error),
            }
        }
        self.keys = KeyScope::Keys(known);
        self
    }

    /// States that this statement brings no cached row into being.
    pub fn no_keys(self) -> Self {
        self.keys::<&str>([])
    }

    /// On the periodic route: keeps the order among the statements of this batch key. By
    /// default a statement has an order of its own.
    pub fn batch_key(mut self, key: impl Into<String>) -> Self {
        self.batch_key = Some(key.into());
        self
    }

    /// On the periodic route: replaces an earlier overwriting statement of the same batch key that
    /// was not flushed yet, if nothing else of the key stands between. Needs a
    /// [`batch_key`](Self::batch_key).
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Allows an `UPDATE` or `DELETE` without `WHERE`.
    pub fn all_rows(mut self) -> Self {
        self.all_rows = true;
        self
    }

    /// Finishes the statement.
    ///
    /// # Errors
    /// `InvalidInput` for the first thing that was wrong in the chain; for a text that is not
    /// exactly one statement, is not closed, or has another number of placeholders than binds;
    /// for transaction control and statements that change the session or the files of the
    /// database; for an `UPDATE` or `DELETE` without `WHERE`, unless
    /// [`all_rows`](Self::all_rows) allowed it; and for clauses that do not fit the verb.
    pub fn statement(mut self) -> Result<Statement> {
        let finished = match self.problem.take() {
            Some(problem) => Err(problem),
            None => self.finish(),
        };
        let (text, returns_rows) =
            finished.map_err(|error| error.with_context("statement", excerpt(&self.text)))?;
        Ok(Statement {
            text,
            binds: self.binds,
            returns_rows,
            keys: self.keys,
            batch_key: self.batch_key,
            overwrite: self.overwrite,
        })
    }

    /// The finished text, and whether it gives rows.
    fn finish(&self) -> Result<Finished> {
        if self.overwrite && self.batch_key.is_none() {
            return Err(Error::invalid_input(
                "a statement that overwrites needs a batch key: name what it overwrites with .batch_key(..)",
            ));
        }
        let recipe = Recipe {
            text: &self.text,
            binds: self.binds.len(),
            conflict: self.conflict.as_ref(),
            returning: self.returning.as_deref(),
            all_rows: self.all_rows,
        };
        memo::finished(recipe, || self.read())
    }

    fn read(&self) -> Result<Finished> {
        let shape = Shape::read(&self.text, self.binds.len())?;
        shape.check_verb()?;
        if !self.all_rows {
            shape.check_conditions()?;
        }
        let mut text = shape.head().to_owned();
        if let Some(conflict) = &self.conflict {
            conflict.write(&shape, &mut text)?;
        }
        if let Some(columns) = &self.returning {
            write_returning(columns, &shape, &mut text)?;
        }
        Ok((text, shape.returns_rows() || self.returning.is_some()))
    }

    fn note(&mut self, problem: Error) {
        self.problem.get_or_insert(problem);
    }
}

impl OnConflict {
    /// Writes these columns of the row that is there with the values that were to be inserted.
    pub fn do_update(self, columns: impl IntoColumns) -> Sql {
        self.resolve(Some(columns.into_columns()))
    }

    /// Leaves the row that is there as it is.
    pub fn do_nothing(self) -> Sql {
        self.resolve(None)
    }

    fn resolve(mut self, update: Option<Vec<String>>) -> Sql {
        self.sql.conflict = Some(Conflict { target: self.target, update });
        self.sql
    }
}

impl Conflict {
    fn write(&self, shape: &Shape<'_>, out: &mut String) -> Result<()> {
        self.check_fits(shape)?;
        if shape.ends_in_from() {
            out.push_str(" WHERE true");
        }
        out.push_str(" ON CONFLICT (");
        write_list(out, &validated(&self.target, "on_conflict")?, quote);
        let Some(update) = &self.update else {
            out.push_str(") DO NOTHING");
            return Ok(());
        };
        out.push_str(") DO UPDATE SET ");
        write_list(out, &validated(update, "do_update")?, |out, column| {
            column.write_quoted(out);
            out.push_str(" = excluded.");
            column.write_quoted(out);
        });
        Ok(())
    }

    fn check_fits(&self, shape: &Shape<'_>) -> Result<()> {
        let problem = if !shape.is_insert() {
            "only an INSERT can have on_conflict"
        } else if shape.has_on_conflict() {
            "the text has ON CONFLICT already; remove it there or leave out on_conflict"
        } else if shape.has_returning() {
            "the text ends with RETURNING; leave it out and call returning after on_conflict"
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(problem).with_context("found", shape.verb()))
    }
}

fn write_returning(columns: &[String], shape: &Shape<'_>, out: &mut String) -> Result<()> {
    if !shape.writes() {
        return Err(Error::invalid_input("only a statement that writes rows can have returning")
            .with_context("found", shape.verb()));
    }
    if shape.has_returning() {
        return Err(Error::invalid_input(
            "the text has RETURNING already; remove it there or leave out returning",
        ));
    }
    out.push_str(" RETURNING ");
    if columns == ["*"] {
        out.push('*');
        return Ok(());
    }
    write_list(out, &validated(columns, "returning")?, quote);
    Ok(())
}

fn quote(out: &mut String, column: &Ident) {
    column.write_quoted(out);
}

impl IntoTask for Sql {
    fn into_task(self) -> Result<Task> {
        self.statement().map(Task::Statement)
    }
}
