//! What a statement is, by its words, and what is refused.

use zmsg_core::{Error, Result};
use zmsg_sqlbuilder::{Dialect, identifiers, outline};

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// It returns rows and counts none of them as changed.
    Query,
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE`: its rows count.
    Change,
    /// `CALL` and `DO`: a procedure could commit, and may not.
    Call,
    /// Anything else: definitions, settings, maintenance.
    Other,
}

/// Commands that control a transaction.
const CONTROL: &[&str] =
    &["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"];

/// Commands whose effect stays with a connection, which the next caller would find.
const OF_A_SESSION: &[&str] = &[
    "prepare",
    "execute",
    "deallocate",
    "declare",
    "fetch",
    "move",
    "close",
    "listen",
    "unlisten",
    "discard",
    "load",
    "reset",
];

/// Functions that lock until the connection is closed.
const SESSION_LOCKS: &[&str] = &[
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
];

impl Command {
    /// Reads a text. The server has the last word about everything that only changes data.
    pub(super) fn of(text: &str) -> Result<Self> {
        let words = outline(text, Dialect::Postgres)?;
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let refused = |why: &'static str| Err(Error::invalid_input(why));
        match word(0) {
            first if CONTROL.contains(&first) => {
                return refused("transactions belong to the store: use execute_all");
            }
            first if OF_A_SESSION.contains(&first) => {
                return refused("the statement would change the connection for the next caller");
            }
            "copy" => return refused("COPY is not a statement with a result"),
            "set" if !matches!(word(1), "local" | "constraints" | "transaction") => {
                return refused("a setting of the connection: use SET LOCAL in a transaction");
            }
            "create" if is_temporary(&words) => {
                return refused("a temporary table lives in one connection: use ON COMMIT DROP");
            }
            _ => {}
        }
        check_functions(text)?;
        Ok(Self::named(&words))
    }

    fn named(words: &[String]) -> Self {
        let main = match words.first().map(String::as_str) {
            Some("with") => words.iter().map(String::as_str).find(|word| {
                matches!(*word, "select" | "insert" | "update" | "delete" | "merge" | "values")
            }),
            first => first,
        };
        match main {
            Some("insert" | "update" | "delete" | "merge") => Self::Change,
            Some("call" | "do") => Self::Call,
            // A query in brackets has no word of its own, or that of a set operation.
            None | Some("select" | "values" | "table" | "show" | "explain" | "with") => Self::Query,
            Some("union" | "intersect" | "except" | "order" | "limit" | "offset") => Self::Query,
            Some(_) => Self::Other,
        }
    }
}

fn is_temporary(words: &[String]) -> bool {
    let temporary = |word: &String| matches!(word.as_str(), "temp" | "temporary");
    let dropped = words.windows(3).any(|three| three == ["on", "commit", "drop"]);
    words.iter().skip(1).take(2).any(temporary) && !dropped
}

/// Refuses the functions that would leave something behind in the connection.
fn check_functions(text: &str) -> Result<()> {
    let lower = text.to_ascii_lowercase();
    let suspicious = lower.contains("set_config") || lower.contains("advisory_lock");
    if !suspicious {
        return Ok(());
    }
    let names = identifiers(text)?;
    if names.iter().any(|name| SESSION_LOCKS.contains(&name.as_str())) {
        return Err(Error::invalid_input(
            "a lock of the connection would stay with it: use pg_advisory_xact_lock",
        ));
    }
    let settings = lower.match_indices("set_config").all(|(at, _)| is_local(&lower[at..]));
    if names.iter().any(|name| name == "set_config") && !settings {
        return Err(Error::invalid_input(
            "a setting of the connection: write `true` as the third argument of set_config",
        ));
    }
    Ok(())
}

/// Whether a call of `set_config` ends in `, true)`.
fn is_local(call: &str) -> bool {
    let arguments = call.split(')').next().unwrap_or_default();
    arguments.rsplit(',').next().is_some_and(|last| last.trim() == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_found_behind_common_table_expressions() {
        for (text, expected) in [
            ("SELECT 1", Command::Query),
            ("(SELECT 1) UNION (SELECT 2)", Command::Query),
            ("WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a", Command::Query),
            ("with a as (select 1) update t set b = 1", Command::Change),
            ("/* x */ INSERT INTO t SELECT 1", Command::Change),
            ("MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", Command::Change),
            ("DO $$ BEGIN COMMIT; END $$", Command::Call),
            ("CREATE TABLE t AS SELECT 1", Command::Other),
            ("SET LOCAL lock_timeout = 1", Command::Other),
            ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", Command::Other),
            ("SELECT set_config('a.b', ?, true), pg_advisory_xact_lock(1)", Command::Query),
            ("SELECT 'set_config', 'pg_advisory_lock(1)'", Command::Query),
        ] {
            assert_eq!(Command::of(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_would_stay_with_the_connection_is_refused() {
        for text in [
            "SET statement_timeout = 0",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "SET ROLE postgres",
            "RESET ALL",
            "LISTEN a",
            "PREPARE a AS SELECT 1",
            "PREPARE TRANSACTION 'a'",
            "DECLARE a CURSOR WITH HOLD FOR SELECT 1",
            "COPY t FROM STDIN",
            "CREATE TEMPORARY TABLE t (a int)",
            "CREATE LOCAL TEMP TABLE t (a int)",
            "SELECT set_config('a.b', 'c', false)",
            "SELECT set_config('a.b', 'c', true), set_config('a.b', 'c', ?)",
            "SELECT pg_catalog . PG_ADVISORY_LOCK (1)",
        ] {
            assert!(Command::of(text).is_err(), "{text}");
        }
    }
}
