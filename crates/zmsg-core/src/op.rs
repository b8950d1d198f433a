//! An operation that can be folded: what happens to one column of the rows of one condition.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Ident, TableName, Value};

/// A foldable operation on one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The table.
    pub table: TableName,
    /// The column that changes.
    pub column: Ident,
    /// What happens to the column.
    pub kind: OpKind,
    /// Which rows change.
    pub condition: Condition,
    /// Where the order of operations is kept; default: table and condition with its arguments.
    pub batch_key: Option<String>,
    /// What to do if no row meets the condition; `None` takes the engine's default.
    pub on_missing: Option<OnMissing>,
}

/// What happens to a column.
#[derive(Clone, PartialEq, Eq)]
pub enum OpKind {
    /// On a number. NULL counts as 0.
    Counter(CounterOp),
    /// On a JSON array. NULL counts as empty.
    Slice(SliceOp),
    /// On the top level of a JSON object. NULL counts as empty.
    Map(MapOp),
    /// A merge patch (RFC 7396) on a JSON column.
    Merge(serde_json::Value),
}

/// Shows the kind, never the values: they must not reach logs.
impl fmt::Debug for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter(_) => "Counter(..)",
            Self::Slice(_) => "Slice(..)",
            Self::Map(_) => "Map(..)",
            Self::Merge(_) => "Merge(..)",
        })
    }
}

/// A number of a counter: integers and floats do not mix in one column.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Number {
    /// For integer columns; arithmetic between is unbounded, only the final value must fit.
    Int(i64),
    /// For float columns.
    Float(f64),
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }
}

impl Eq for Number {}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Number {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// A step of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterOp {
    /// Adds.
    Inc(Number),
    /// Subtracts.
    Dec(Number),
    /// Multiplies.
    Mul(Number),
    /// Replaces.
    Set(Number),
    /// Sets to zero.
    Clean,
}

/// A step of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SliceOp {
    /// Appends the values, duplicates included.
    Add(Vec<serde_json::Value>),
    /// Removes every element equal to one of the values; numbers are compared by value.
    Del(Vec<serde_json::Value>),
    /// Empties it.
    Clean,
}

/// A step of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapOp {
    /// Sets a key to a value, whole.
    Set(String, serde_json::Value),
    /// Removes a key.
    Del(String),
    /// Empties it.
    Clean,
}

/// Which rows an operation changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// Each column equals its value; never NULL, never empty.
    Eq(Vec<(Ident, Value)>),
    /// Any SQL condition with `?` binds.
    Sql {
        /// The condition, without `WHERE`.
        text: String,
        /// Its binds.
        binds: Vec<Value>,
    },
    /// Every row: only where the author asked for it by name.
    AllRows,
}

/// What to do with an operation whose condition meets no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// Keep it in the dead letters: an UPDATE that changes nothing is a lost increment.
    #[default]
    DeadLetter,
    /// Insert a row of the condition's columns and the folded column; needs `where_eq`.
    Insert,
    /// Drop it.
    Ignore,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_values() {
        let kind = OpKind::Map(MapOp::Set("token".into(), "secret".into()));
        assert_eq!(format!("{kind:?}"), "Map(..)");
    }
}
