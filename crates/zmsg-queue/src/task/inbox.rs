//! Exactly-once effects: which tasks have taken effect, written with the effect.

use zmsg_core::{ErrorKind, Statement, TaskId, UnixMillis, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Expect, Step, StepError};

const ALREADY_APPLIED: &str = "the task has taken effect already";

/// The step that makes the effect of a task happen once: it goes into the task's transaction,
/// first, and rolls it back if the task has taken effect before.
///
/// Two workers with one task: the second waits for the first's transaction to end and then
/// fails as [`is_already_applied`] recognizes, or has its turn if the first rolled back. A commit
/// without an answer needs no guess: run the same transaction again, and the inbox decides.
///
/// The row must outlive every copy of the task that may still be delivered: see
/// [`inbox_purge`].
pub fn inbox_step(id: TaskId, now: UnixMillis, dialect: Dialect) -> Step {
    let binds = vec![Value::Uuid(id.0), Value::Int(i64::try_from(now).unwrap_or(i64::MAX))];
    let insert = Statement::new(texts(dialect).insert, binds);
    Step::must(insert, Expect::Exactly(1), ALREADY_APPLIED)
}

/// True if a batch was rolled back because its task had taken effect before: to whoever runs
/// the task, a success.
pub fn is_already_applied(failed: &StepError) -> bool {
    failed.step.is_some()
        && failed.error.kind() == ErrorKind::Conflict
        && failed.error.message() == ALREADY_APPLIED
}

/// Forgets at most `limit` effects from before `before`.
///
/// What the SQL queue still holds, dead letters included, is not forgotten. With another queue,
/// `before` has to lie further back than the longest delay, all retries of a task, and the time
/// that dead letters are kept, together: a copy that is delivered after its row was purged takes
/// effect again.
pub fn inbox_purge(before: UnixMillis, dialect: Dialect, limit: u32) -> Statement {
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    Statement::new(texts(dialect).purge, vec![Value::Int(before), Value::from(limit)])
}

struct Texts {
    insert: &'static str,
    purge: &'static str,
}

const fn texts(dialect: Dialect) -> Texts {
    match dialect {
        Dialect::Postgres | Dialect::Sqlite => Texts {
            insert: "INSERT INTO zmsg_inbox (id, done_ms) VALUES (?, ?) ON CONFLICT (id) DO NOTHING",
            purge: "DELETE FROM zmsg_inbox WHERE id IN \
                    (SELECT id FROM zmsg_inbox WHERE done_ms < ? \
                     AND NOT EXISTS (SELECT 1 FROM zmsg_tasks WHERE zmsg_tasks.id = zmsg_inbox.id) \
                     ORDER BY done_ms LIMIT ?)",
        },
    }
}

#[cfg(test)]
mod tests {
    use zmsg_core::Error;

    use super::*;

    #[test]
    fn only_the_inbox_step_says_already_applied() {
        let failed = |step, error| StepError { step, error };
        let conflict = |message| Error::new(ErrorKind::Conflict, message);
        assert!(is_already_applied(&failed(Some(0), conflict(ALREADY_APPLIED))));
        assert!(!is_already_applied(&failed(Some(1), conflict("no row meets the condition"))));
        assert!(!is_already_applied(&failed(None, Error::closed("store"))));
    }
}
