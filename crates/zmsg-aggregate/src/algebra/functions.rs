//! The functions that apply folds inside the database. SQLite borrows them from Rust, because its
//! own arithmetic turns overflow into floats; PostgreSQL has them from zmsg's migrations.

use zmsg_core::{Error, ErrorKind, Result, Value};
use zmsg_store::ScalarFunction;

use super::{Affine, Fold};

/// `zmsg_fold(column, fold as text)`: the column afterwards.
pub(crate) const FOLD_FUNCTION: &str = "zmsg_fold";

/// `zmsg_counter(column, a, b)`: a·column + b, without reading a text.
pub(crate) const COUNTER_FUNCTION: &str = "zmsg_counter";

/// `zmsg_add(column, b)`: column + b. PostgreSQL only.
pub(crate) const ADD_FUNCTION: &str = "zmsg_add";

/// The functions that flushes call; a SQLite store must be opened with them.
pub fn sqlite_functions() -> Vec<ScalarFunction> {
    vec![
        ScalarFunction { name: FOLD_FUNCTION, arguments: 2, call: fold },
        ScalarFunction { name: COUNTER_FUNCTION, arguments: 3, call: counter },
    ]
}

fn fold(arguments: &[Value]) -> Result<Value> {
    match arguments {
        [column, Value::Text(text)] => Fold::decode(text)?.apply(column),
        _ => Err(wrong_arguments(FOLD_FUNCTION)),
    }
}

fn counter(arguments: &[Value]) -> Result<Value> {
    match arguments {
        [column, Value::Int(factor), Value::Int(offset)] => {
            Affine::new((*factor).into(), (*offset).into())
                .ok_or_else(|| wrong_arguments(COUNTER_FUNCTION))?
                .apply(column)
        }
        _ => Err(wrong_arguments(COUNTER_FUNCTION)),
    }
}

fn wrong_arguments(function: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, "the function was called with other arguments than zmsg's")
        .with_context("function", function)
}
