//! The second spelling of the builders: table, then column, then kind.

use crate::counter::Counter;
use crate::map::Map;
use crate::op::Target;
use crate::slice::Slice;

/// A table, named `table` or `schema.table`, exactly as given.
pub fn table(name: impl AsRef<str>) -> Table {
    Table { name: name.as_ref().to_owned() }
}

/// A table of which a column is to be named.
#[derive(Debug, Clone)]
#[must_use = "name a column of the table"]
pub struct Table {
    name: String,
}

impl Table {
    /// One of its columns, exactly as given.
    pub fn column(&self, column: impl AsRef<str>) -> Column {
        Column(Target::new(&self.name, column))
    }
}

/// A column of which is to be said what it holds.
#[derive(Debug, Clone)]
#[must_use = "say what the column holds"]
pub struct Column(Target);

impl Column {
    /// It holds a number: the same as [`counter`](crate::counter).
    pub fn counter(self) -> Counter {
        Counter(self.0)
    }

    /// It holds a JSON array: the same as [`slice`](crate::slice).
    pub fn slice(self) -> Slice {
        Slice(self.0)
    }

    /// It holds a JSON object: the same as [`map`](crate::map).
    pub fn map(self) -> Map {
        Map(self.0)
    }
}
