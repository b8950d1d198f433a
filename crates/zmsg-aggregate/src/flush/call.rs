//! Which function of the database applies a fold, and with which arguments.

use zmsg_core::Value;
use zmsg_sqlbuilder::Dialect;

use crate::algebra::{ADD_FUNCTION, COUNTER_FUNCTION, FOLD_FUNCTION, Fold};

/// Which function of the database applies a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum FoldKind {
    /// column + b. PostgreSQL only, where it is much cheaper than the next one.
    Add,
    /// a·column + b.
    Counter,
    /// Any fold, as text.
    Fold,
}

impl FoldKind {
    /// The cheapest function that applies this fold.
    pub(super) fn of(fold: &Fold, dialect: Dialect) -> Self {
        let Fold::Counter(map) = fold else { return Self::Fold };
        let narrow = i64::try_from(map.factor()).is_ok() && i64::try_from(map.offset()).is_ok();
        match dialect {
            Dialect::Postgres if map.factor() == 1 && narrow => Self::Add,
            Dialect::Postgres => Self::Counter,
            Dialect::Sqlite if narrow => Self::Counter,
            Dialect::Sqlite => Self::Fold,
        }
    }

    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Add => ADD_FUNCTION,
            Self::Counter => COUNTER_FUNCTION,
            Self::Fold => FOLD_FUNCTION,
        }
    }

    /// The arguments after the column. On PostgreSQL each is of one type whatever the fold, so
    /// that they can be put into arrays; numbers of 128 bits travel as text there.
    pub(super) fn arguments(self, fold: &Fold, dialect: Dialect) -> Vec<Value> {
        let number = |value: i128| match (self, dialect, i64::try_from(value)) {
            (Self::Counter, Dialect::Postgres, _) | (_, _, Err(_)) => {
                Value::Text(value.to_string())
            }
            (_, _, Ok(value)) => Value::Int(value),
        };
        match (self, fold) {
            (Self::Add, Fold::Counter(map)) => vec![number(map.offset())],
            (Self::Counter, Fold::Counter(map)) => vec![number(map.factor()), number(map.offset())],
            _ => vec![Value::Text(fold.encode())],
        }
    }

    /// What is written after the placeholder of each argument, so that the server need not
    /// guess its type.
    pub(super) fn casts(self, dialect: Dialect) -> &'static [&'static str] {
        match (self, dialect) {
            (_, Dialect::Sqlite) => &["", ""],
            (Self::Add, Dialect::Postgres) => &["::bigint"],
            (Self::Counter, Dialect::Postgres) => &["::text::numeric", "::text::numeric"],
            (Self::Fold, Dialect::Postgres) => &["::text::jsonb"],
        }
    }
}
