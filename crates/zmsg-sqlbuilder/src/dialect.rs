//! The two SQL dialects zmsg writes.

/// A SQL dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PostgreSQL: binds are `$1`, `$2`, …
    Postgres,
    /// SQLite: binds are `?`.
    Sqlite,
}
