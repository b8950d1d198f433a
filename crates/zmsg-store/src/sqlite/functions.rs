//! Scalar functions of the application, as SQLite calls them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::Value as Owned;
use zmsg_core::{Error, ErrorKind, Result, Value};

use super::value::{Bind, from_storage};
use crate::ScalarFunction;

/// What a function failed with, kept beside the connection: SQLite carries only a text, and the
/// caller is owed the error.
#[derive(Debug, Clone, Default)]
pub(super) struct Raised(Arc<Mutex<Option<Error>>>);

impl Raised {
    /// The error that a function raised since the last time, if any.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, error: Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Registers a function on a connection.
///
/// It is not marked innocuous: with an untrusted schema it can be called by statements, and not
/// by views and triggers that somebody planted in the file.
pub(super) fn register(
    connection: &Connection,
    function: ScalarFunction,
    raised: &Raised,
) -> rusqlite::Result<()> {
    let raised = raised.clone();
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    let arguments = i32::try_from(function.arguments).unwrap_or(i32::MAX);
    connection.create_scalar_function(function.name, arguments, flags, move |context| {
        call(function, context).map_err(|error| {
            raised.put(error.clone());
            rusqlite::Error::UserFunctionError(Box::new(error))
        })
    })
}

/// Calls the function; neither its error nor its panic leaves this place as anything but an
/// error.
fn call(function: ScalarFunction, context: &Context<'_>) -> Result<Owned> {
    let arguments: Vec<Value> =
        (0..context.len()).map(|i| from_storage(context.get_raw(i))).collect();
    let called = catch_unwind(AssertUnwindSafe(|| (function.call)(&arguments)));
    let failed = |kind, message: &'static str| {
        Error::new(kind, message).with_context("function", function.name)
    };
    match called {
        Ok(Ok(value)) => Ok(Bind::new(&value)?.into_owned()),
        Ok(Err(cause)) => {
            Err(failed(ErrorKind::InvalidData, "a registered function failed").with_source(cause))
        }
        Err(_) => Err(failed(ErrorKind::Unexpected, "a registered function panicked")),
    }
}
