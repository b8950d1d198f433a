//! What SQLite's result codes mean to a caller.

use rusqlite::ffi;
use zmsg_core::{Error, ErrorKind};

/// Where a statement was when SQLite gave up on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Opening the file or a connection to it.
    Open,
    /// Parsing the text.
    Prepare,
    /// Running it.
    Step,
    /// Committing: after an I/O error nobody knows what a restart will find.
    Commit,
}

/// The one place where SQLite's errors become ours. Its messages name tables, columns and
/// tokens of the text, never binds.
pub(super) fn from_sqlite(error: rusqlite::Error, phase: Phase) -> Error {
    use rusqlite::Error as Sqlite;
    match error {
        Sqlite::SqliteFailure(code, message) => {
            from_code(code.extended_code, message.unwrap_or_default(), phase)
        }
        Sqlite::SqlInputError { error, msg, offset, .. } => {
            from_code(error.extended_code, msg, phase).with_context("offset", offset)
        }
        Sqlite::MultipleStatement => Error::invalid_input("one statement at a time"),
        other => Error::new(ErrorKind::Unexpected, "sqlite answered in an unknown way")
            .with_source(other),
    }
}

/// True for the lock of another connection or process.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(error.extended_code & 0xff, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED)
    })
}

fn from_code(extended: i32, message: String, phase: Phase) -> Error {
    let error = match extended & 0xff {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => unavailable("the database is locked").temporary(),
        ffi::SQLITE_FULL => unavailable("disk full").temporary(),
        ffi::SQLITE_NOMEM => unavailable("sqlite is out of memory").temporary(),
        ffi::SQLITE_IOERR => io_error(phase),
        ffi::SQLITE_CANTOPEN => unavailable("could not open the database file"),
        ffi::SQLITE_INTERRUPT => {
            Error::new(ErrorKind::Timeout, "the statement was interrupted").temporary()
        }
        ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG => refused(),
        ffi::SQLITE_CORRUPT => Error::new(ErrorKind::Corrupted, "the database file is damaged"),
        ffi::SQLITE_NOTADB => Error::new(ErrorKind::Corrupted, "the file is not a database"),
        ffi::SQLITE_READONLY if extended == ffi::SQLITE_READONLY => {
            Error::invalid_input("the statement would write")
        }
        // The file was moved, or its directory or log cannot be written: not the statement's fault.
        ffi::SQLITE_READONLY => unavailable("the database file cannot be written").temporary(),
        ffi::SQLITE_AUTH => Error::invalid_input("the statement is not allowed here"),
        // The only way to step what is not a statement is to prepare an empty text.
        ffi::SQLITE_MISUSE => Error::invalid_input("the text holds no statement"),
        ffi::SQLITE_ERROR if phase == Phase::Step && !names_something_missing(&message) => {
            refused()
        }
        ffi::SQLITE_ERROR | ffi::SQLITE_RANGE | ffi::SQLITE_SCHEMA => {
            Error::invalid_input("the statement cannot run")
        }
        _ => Error::new(ErrorKind::Unexpected, "sqlite failed"),
    };
    error.with_context("sqlite", message).with_context("code", extended)
}

fn unavailable(message: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

/// The error of data: running the same statement again cannot help.
fn refused() -> Error {
    Error::new(ErrorKind::InvalidData, "the database refused the data")
}

/// Before the commit nothing of the transaction can remain; at the commit the log may or may
/// not hold it whole.
fn io_error(phase: Phase) -> Error {
    let error = unavailable("the disk failed");
    if phase == Phase::Commit { error.outcome_unknown() } else { error.temporary() }
}

/// SQLite prepares a statement anew when the schema changed under it, so a table can be missing
/// at a step as well; malformed JSON or an overflow at a step is the data's fault.
fn names_something_missing(message: &str) -> bool {
    message.starts_with("no such ")
}

#[cfg(test)]
mod tests {
    use zmsg_core::ErrorStatus::{self, OutcomeUnknown, Permanent, Temporary};

    use super::*;

    fn mapped(code: i32, message: &str, phase: Phase) -> (ErrorKind, ErrorStatus) {
        let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(message.into()));
        let error = from_sqlite(failure, phase);
        assert!(error.to_string().contains(message), "{error}");
        (error.kind(), error.status())
    }

    #[test]
    fn every_code_says_what_happened_and_whether_to_try_again() {
        use ErrorKind::*;
        use Phase::*;
        let table = [
            (ffi::SQLITE_BUSY, Step, Unavailable, Temporary),
            (ffi::SQLITE_BUSY_SNAPSHOT, Step, Unavailable, Temporary),
            (ffi::SQLITE_LOCKED, Step, Unavailable, Temporary),
            (ffi::SQLITE_BUSY, Commit, Unavailable, Temporary),
            (ffi::SQLITE_FULL, Step, Unavailable, Temporary),
            (ffi::SQLITE_NOMEM, Step, Unavailable, Temporary),
            (ffi::SQLITE_IOERR_WRITE, Step, Unavailable, Temporary),
            (ffi::SQLITE_IOERR_FSYNC, Commit, Unavailable, OutcomeUnknown),
            (ffi::SQLITE_CANTOPEN, Open, Unavailable, Permanent),
            (ffi::SQLITE_INTERRUPT, Step, Timeout, Temporary),
            (ffi::SQLITE_CONSTRAINT_UNIQUE, Step, InvalidData, Permanent),
            (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, Step, InvalidData, Permanent),
            (ffi::SQLITE_CONSTRAINT_CHECK, Step, InvalidData, Permanent),
            (ffi::SQLITE_CONSTRAINT_DATATYPE, Step, InvalidData, Permanent),
            (ffi::SQLITE_CONSTRAINT_FOREIGNKEY, Commit, InvalidData, Permanent),
            (ffi::SQLITE_MISMATCH, Step, InvalidData, Permanent),
            (ffi::SQLITE_TOOBIG, Step, InvalidData, Permanent),
            (ffi::SQLITE_READONLY, Step, InvalidInput, Permanent),
            (ffi::SQLITE_AUTH, Prepare, InvalidInput, Permanent),
            (ffi::SQLITE_ERROR, Prepare, InvalidInput, Permanent),
            (ffi::SQLITE_ERROR, Step, InvalidData, Permanent),
            (ffi::SQLITE_CORRUPT, Step, Corrupted, Permanent),
            (ffi::SQLITE_NOTADB, Open, Corrupted, Permanent),
            (ffi::SQLITE_INTERNAL, Step, Unexpected, Permanent),
        ];
        for (code, phase, kind, status) in table {
            assert_eq!(mapped(code, "why", phase), (kind, status), "code {code} at {phase:?}");
        }
    }

    #[test]
    fn a_table_that_went_missing_is_the_statements_fault() {
        let (kind, _) = mapped(ffi::SQLITE_ERROR, "no such table: feeds", Phase::Step);
        assert_eq!(kind, ErrorKind::InvalidInput);
    }
}
