//! What would run: a script, split into its statements.

use zmsg_core::{Error, Result};
use zmsg_sqlbuilder::{Dialect, split_script};

use super::Migration;

/// What a script says on its first line if it must not run in a transaction.
const NO_TRANSACTION: &str = "-- zmsg:no-transaction";

/// Which way a migration goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// There.
    Up,
    /// Back.
    Down,
}

/// One script that is going to run, as its statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The version of the migration.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Which of its scripts.
    pub direction: Direction,
    /// True if its statements and its row of history are one transaction.
    pub transactional: bool,
    /// The statements that remain to be run, in order.
    pub statements: Vec<String>,
}

impl Plan {
    /// Splits a script of a migration.
    pub(super) fn new(script: &Migration, direction: Direction, dialect: Dialect) -> Result<Self> {
        let (text, file) = match direction {
            Direction::Up => (Some(&script.up), "up.sql"),
            Direction::Down => (script.down.as_ref(), "down.sql"),
        };
        let named =
            |error: Error| error.with_context("migration", script).with_context("file", file);
        let text = text.ok_or_else(|| {
            named(Error::invalid_input("the migration cannot be reverted: it has no down script"))
        })?;
        let statements = split_script(text, dialect).map_err(named)?;
        if statements.is_empty() {
            return Err(named(Error::invalid_input("the script holds no statement")));
        }
        let first_line = text.lines().next().unwrap_or_default();
        Ok(Self {
            version: script.version,
            name: script.name.clone(),
            direction,
            transactional: first_line.trim_end() != NO_TRANSACTION,
            statements,
        })
    }

    /// Names the migration and the statement in an error.
    pub(super) fn blame(&self, error: Error, statement: Option<usize>) -> Error {
        let error = error.with_context("migration", format!("{}_{}", self.version, self.name));
        match statement.and_then(|index| Some((index, self.statements.get(index)?))) {
            Some((index, text)) => {
                let line: String =
                    text.lines().next().unwrap_or_default().chars().take(80).collect();
                error.with_context("statement", index + 1).with_context("text", line)
            }
            None => error,
        }
    }
}
