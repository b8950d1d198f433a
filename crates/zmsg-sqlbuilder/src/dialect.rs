//! The two SQL dialects zmsg writes.

/// A SQL dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PostgreSQL: binds are `$1`, `$2`, …
    Postgres,
    /// SQLite: binds are `?`.
    Sqlite,
}

impl Dialect {
    /// The most binds one statement can have: 65,535 on PostgreSQL, whose protocol counts them in
    /// 16 bits; 32,766 on SQLite (`SQLITE_MAX_VARIABLE_NUMBER`).
    pub const fn binds_max(self) -> usize {
        match self {
            Self::Postgres => 65_535,
            Self::Sqlite => 32_766,
        }
    }
}
