//! What PostgreSQL's errors mean to a caller.

use tokio_postgres::error::{DbError, ErrorPosition, Severity};
use zmsg_core::{Error, ErrorKind};

/// What was going on when an error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Making a connection: nothing was asked for yet.
    Connect,
    /// A query in which nothing can be changed.
    Read,
    /// Inside a transaction whose COMMIT was not sent: without it nothing remains.
    Work,
    /// Inside a transaction whose COMMIT was sent right behind: without an answer nobody knows,
    /// but a refused statement means that the COMMIT has not come to pass.
    Ahead,
    /// A COMMIT, or a statement that commits by itself, was sent: without an answer nobody
    /// knows what became of it.
    Commit,
}

impl Phase {
    /// Whether the work may have been committed if the connection has ended. It may have ended
    /// between the commit and its answer; a pooler says of itself that it has lost the server, to
    /// the first request whose answer it has not passed on.
    fn may_commit(self) -> bool {
        matches!(self, Self::Ahead | Self::Commit)
    }
}

/// An error, and what it says about the connection it came over.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    /// The connection is of no further use.
    pub(super) lost: bool,
    /// The prepared statement is not what it was; prepared anew it may work.
    pub(super) stale: bool,
    /// The statement refuses to run inside a transaction.
    pub(super) alone: bool,
    /// The statement has run, and what it gave cannot be read.
    pub(super) unreadable: bool,
    /// The statement divided by zero, as [checks](super::check) do.
    pub(super) divided: bool,
}

impl Fault {
    /// An error of ours; the connection is well.
    pub(super) fn ours(error: Error) -> Self {
        let (lost, stale, alone, unreadable, divided) = (false, false, false, false, false);
        Self { error, lost, stale, alone, unreadable, divided }
    }

    /// A statement has run to its end, and what it gave cannot be read.
    pub(super) fn unreadable(error: Error, phase: Phase) -> Self {
        let fault = Self { unreadable: true, ..Self::ours(error) };
        if phase == Phase::Commit { fault.committed() } else { fault }
    }

    /// The commit behind it has succeeded: whoever takes this for a failure would do it again, so
    /// it is an outcome to be found out.
    pub(super) fn committed(self) -> Self {
        let error = self.error.outcome_unknown().with_context("committed", true);
        Self { error, ..self }
    }

    /// The server did not answer in time, not even to being asked to stop.
    pub(super) fn silent(phase: Phase) -> Self {
        let error = Error::new(ErrorKind::Timeout, "postgres did not answer in time");
        Self { lost: true, ..Self::ours(without_answer(error, phase)) }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::ours(error)
    }
}

/// The one place where PostgreSQL's errors become ours. DETAIL and the messages about data show
/// values and are left out; names of tables, columns and constraints are kept.
pub(super) fn from_postgres(error: tokio_postgres::Error, phase: Phase) -> Fault {
    let Some(answer) = error.as_db_error() else {
        let lost = Error::new(ErrorKind::Unavailable, "the connection to postgres failed");
        let lost = without_answer(lost, phase).with_source(error);
        return Fault { lost: true, ..Fault::ours(lost) };
    };
    let code = answer.code().code();
    let fatal = matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    let read_only = phase != Phase::Read && takes_no_writes(code, answer.message());
    let mapped = described(from_code(if read_only { "25006" } else { code }, phase), answer);
    let ended = fatal || code.starts_with("08");
    Fault {
        error: if ended && phase.may_commit() { mapped.outcome_unknown() } else { mapped },
        // Another connection may find a server that takes writes.
        lost: fatal || read_only,
        stale: is_stale(code, answer.message()),
        alone: code == "25001",
        unreadable: false,
        divided: code == "22012",
    }
}

/// Whether the statement may have been prepared for a table that is another one now: its rows look
/// different, its binds have types that do not go with the columns any more, or it is gone.
fn is_stale(code: &str, message: &str) -> bool {
    match code {
        "0A000" => message.contains("cached plan"),
        "26000" | "42804" | "42846" | "42883" => true,
        // A text that does not read as the type that its place had then.
        "22P02" | "22007" => true,
        _ => false,
    }
}

/// Whether the server is a standby, or the transaction read-only for another reason.
fn takes_no_writes(code: &str, message: &str) -> bool {
    // A standby refuses so to begin a transaction that writes.
    code == "25006" || (code == "0A000" && message.contains("during recovery"))
}

fn without_answer(error: Error, phase: Phase) -> Error {
    if phase.may_commit() { error.outcome_unknown() } else { error.temporary() }
}

fn from_code(code: &str, phase: Phase) -> Error {
    let unavailable = |message: &'static str| Error::new(ErrorKind::Unavailable, message);
    let refused = || Error::new(ErrorKind::InvalidData, "the database refused the data");
    let cannot_run = || Error::invalid_input("the statement cannot run");
    match (code, code.get(..2).unwrap_or_default()) {
        ("40001" | "40P01" | "40000", _) => {
            unavailable("another transaction was in the way").temporary()
        }
        ("40002", _) => refused(),
        ("40003", _) => unavailable("the outcome is not known").outcome_unknown(),
        ("55P03" | "55006", _) => unavailable("the database is locked").temporary(),
        ("57014" | "25P04", _) => {
            Error::new(ErrorKind::Timeout, "the statement was stopped: it ran for too long")
                .temporary()
        }
        ("25P03" | "57P05", _) => unavailable("the connection was idle for too long").temporary(),
        ("53300", _) => {
            Error::new(ErrorKind::Overloaded, "postgres has no connection to spare").temporary()
        }
        ("53100", _) => unavailable("disk full").temporary(),
        (_, "53") => unavailable("postgres is out of resources").temporary(),
        (_, "57" | "08") => unavailable("postgres is not available").temporary(),
        (_, "58") => unavailable("the disk failed").temporary(),
        ("25006", _) if phase == Phase::Read => Error::invalid_input("the statement would write"),
        ("25006", _) => unavailable("the database takes no writes now").temporary(),
        ("28000" | "28P01" | "3D000", _) => Error::invalid_config("postgres refused the login"),
        ("26000" | "42P05", _) => cannot_run().with_context(
            "hint",
            "a prepared statement is not where it was; behind a transaction pooler set `pooled`",
        ),
        ("54001" | "54011" | "54023", _) => cannot_run(),
        (_, "21" | "22" | "23" | "38" | "39" | "44" | "54" | "P0") => refused(),
        ("25001" | "55000", _) => cannot_run(),
        (_, "0A" | "2D" | "34" | "3B" | "3F" | "42") => cannot_run(),
        ("XX001" | "XX002", _) => {
            Error::new(ErrorKind::Corrupted, "stored data of postgres is damaged")
        }
        _ => Error::new(ErrorKind::Unexpected, "postgres failed"),
    }
}

/// Adds what helps to find the cause and shows no value.
fn described(error: Error, answer: &DbError) -> Error {
    let code = answer.code().code();
    // Class 22 quotes the value that it refuses.
    let mut error = if code.starts_with("22") {
        error
    } else {
        error.with_context("postgres", answer.message())
    };
    error = error.with_context("code", code);
    let names = [
        ("table", answer.table()),
        ("column", answer.column()),
        ("constraint", answer.constraint()),
        ("type", answer.datatype()),
        ("bind", answer.where_().and_then(bind_number)),
    ];
    for (name, value) in names {
        if let Some(value) = value {
            error = error.with_context(name, value);
        }
    }
    match answer.position() {
        Some(ErrorPosition::Original(at)) => error.with_context("character", at),
        _ => error,
    }
}

/// The number in `unnamed portal parameter $2`, which says which bind was refused.
fn bind_number(context: &str) -> Option<&str> {
    let (_, after) = context.split_once("parameter $")?;
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    Some(&after[..end]).filter(|digits| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use zmsg_core::ErrorStatus::{self, OutcomeUnknown, Permanent, Temporary};

    use super::*;

    #[test]
    fn every_code_says_what_happened_and_whether_to_try_again() {
        use ErrorKind::*;
        let table: &[(&str, Phase, ErrorKind, ErrorStatus)] = &[
            ("40001", Phase::Work, Unavailable, Temporary),
            ("40P01", Phase::Work, Unavailable, Temporary),
            ("55P03", Phase::Work, Unavailable, Temporary),
            ("57014", Phase::Read, Timeout, Temporary),
            ("40003", Phase::Commit, Unavailable, OutcomeUnknown),
            ("08006", Phase::Read, Unavailable, Temporary),
            ("57P01", Phase::Work, Unavailable, Temporary),
            ("57P03", Phase::Connect, Unavailable, Temporary),
            ("53300", Phase::Connect, Overloaded, Temporary),
            ("53100", Phase::Commit, Unavailable, Temporary),
            ("25006", Phase::Read, InvalidInput, Permanent),
            ("25006", Phase::Work, Unavailable, Temporary),
            ("22P02", Phase::Work, InvalidData, Permanent),
            ("23505", Phase::Commit, InvalidData, Permanent),
            ("P0001", Phase::Commit, InvalidData, Permanent),
            ("21000", Phase::Work, InvalidData, Permanent),
            ("42P01", Phase::Work, InvalidInput, Permanent),
            ("42601", Phase::Read, InvalidInput, Permanent),
            ("2D000", Phase::Work, InvalidInput, Permanent),
            ("28P01", Phase::Connect, InvalidConfig, Permanent),
            ("XX000", Phase::Work, Unexpected, Permanent),
            ("XX001", Phase::Work, Corrupted, Permanent),
        ];
        for (code, phase, kind, status) in table {
            let error = from_code(code, *phase);
            assert_eq!((error.kind(), error.status()), (*kind, *status), "{code} at {phase:?}");
        }
    }

    #[test]
    fn silence_is_an_unknown_outcome_only_where_something_could_have_happened() {
        for (phase, status) in [
            (Phase::Read, Temporary),
            (Phase::Work, Temporary),
            (Phase::Ahead, OutcomeUnknown),
            (Phase::Commit, OutcomeUnknown),
        ] {
            assert_eq!(Fault::silent(phase).error.status(), status);
        }
    }

    #[test]
    fn the_number_of_a_refused_bind_is_found() {
        assert_eq!(bind_number("unnamed portal parameter $12 = '...'"), Some("12"));
        assert_eq!(bind_number("portal \"a\" parameter $3"), Some("3"));
        assert_eq!(bind_number("PL/pgSQL function f() line 1"), None);
    }
}
