//! What becomes of a task after an attempt: a pure decision.

use zmsg_core::{Error, ErrorKind, ErrorStatus, Result};

use super::handler::Ending;
use crate::task::record::LeasedTask;

/// What becomes of a task.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It is done.
    Complete,
    /// It is done, and the queue knows.
    Completed,
    /// It is tried again; the backoff is that of so many failures.
    Retry { cause: Error, failures: u32, counts: bool },
    /// It is given up.
    Bury { cause: Error },
}

impl Verdict {
    /// Decides by the kind first: whether a handler remembered to mark its error temporary must
    /// not decide between a retry and a dead letter.
    pub(super) fn of(task: &LeasedTask, ended: Result<Ending>) -> Self {
        let cause = match ended {
            Ok(Ending::Open) => return Self::Complete,
            Ok(Ending::Completed) => return Self::Completed,
            Err(cause) => cause,
        };
        match cause.kind() {
            // The backend is away or is being closed: no fault of the task, so it costs nothing.
            ErrorKind::Unavailable | ErrorKind::Closed => {
                Self::Retry { cause, failures: task.attempt, counts: false }
            }
            ErrorKind::InvalidInput
            | ErrorKind::InvalidData
            | ErrorKind::Unsupported
            | ErrorKind::Corrupted
                if is_final(&cause) =>
            {
                Self::Bury { cause }
            }
            _ if task.is_last_attempt() => Self::Bury { cause: cause.exhausted() },
            _ => Self::Retry { cause, failures: task.attempts_spent(), counts: true },
        }
    }

    /// The verdict on a task that was handed out with no attempt left: its last one never ended.
    pub(super) fn never_ended(task: &LeasedTask) -> Self {
        let message = "the last attempt never ended: its process stopped or lost the lease";
        let cause = Error::new(ErrorKind::Timeout, message)
            .exhausted()
            .with_context("attempts", task.attempts_max);
        Self::Bury { cause }
    }

    /// The verdict on a task whose deadline has passed.
    pub(super) fn expired(task: &LeasedTask) -> Self {
        let error = Error::new(ErrorKind::Timeout, "the deadline of the task has passed");
        let deadline = task.deadline.unwrap_or_default();
        Self::Bury { cause: error.exhausted().with_context("deadline", deadline) }
    }
}

fn is_final(cause: &Error) -> bool {
    matches!(cause.status(), ErrorStatus::Permanent | ErrorStatus::Exhausted)
}

/// True if asking the queue again is no use: it was closed, or its table is not there.
pub(in crate::task) fn will_not_go_away(error: &Error) -> bool {
    use ErrorKind::{Closed, Corrupted, InvalidConfig, InvalidInput, Unsupported};
    let kinds = [Closed, Corrupted, InvalidConfig, InvalidInput, Unsupported];
    kinds.contains(&error.kind()) && !error.is_temporary() && !error.is_outcome_unknown()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zmsg_core::TaskId;

    use super::*;

    fn task(attempt: u32, attempts_spared: u32, attempts_max: u32) -> LeasedTask {
        LeasedTask {
            id: TaskId::generate(),
            queue: "default".into(),
            kind: "save".into(),
            payload: Bytes::new(),
            attempt,
            attempts_max,
            attempts_spared,
            lease_until: 0,
            created: 0,
            timeout: None,
            deadline: None,
            lane: None,
            retention: None,
        }
    }

    fn verdict(task: &LeasedTask, error: Error) -> Verdict {
        Verdict::of(task, Err(error))
    }

    #[test]
    fn what_can_never_work_is_buried_at_once() {
        use ErrorKind::{Corrupted, InvalidData, InvalidInput, Unsupported};
        for kind in [InvalidInput, InvalidData, Unsupported, Corrupted] {
            let verdict = verdict(&task(1, 0, 5), Error::new(kind, "no"));
            assert!(matches!(verdict, Verdict::Bury { .. }), "{kind:?}: {verdict:?}");
        }
    }

    #[test]
    fn what_may_work_later_is_tried_again_until_no_attempt_is_left() {
        use ErrorKind::{Conflict, Timeout, Unexpected};
        for kind in [Timeout, Conflict, Unexpected] {
            let first = verdict(&task(1, 0, 2), Error::new(kind, "later"));
            assert!(matches!(first, Verdict::Retry { counts: true, failures: 1, .. }), "{first:?}");
            let Verdict::Bury { cause } = verdict(&task(2, 0, 2), Error::new(kind, "later")) else {
                panic!("{kind:?}");
            };
            assert_eq!(cause.status(), ErrorStatus::Exhausted);
        }
    }

    #[test]
    fn an_unavailable_backend_spends_no_attempt_even_on_the_last() {
        for error in [
            Error::new(ErrorKind::Unavailable, "away").temporary(),
            Error::new(ErrorKind::Unavailable, "no answer to the commit").outcome_unknown(),
            Error::closed("store"),
        ] {
            let verdict = verdict(&task(2, 0, 2), error);
            assert!(matches!(verdict, Verdict::Retry { counts: false, .. }), "{verdict:?}");
        }
    }

    #[test]
    fn an_unknown_outcome_is_tried_again_even_of_a_kind_that_is_otherwise_final() {
        let error = Error::new(ErrorKind::InvalidData, "who knows").outcome_unknown();
        assert!(matches!(verdict(&task(1, 0, 2), error), Verdict::Retry { counts: true, .. }));
    }

    #[test]
    fn spared_attempts_do_not_count() {
        let error = || Error::new(ErrorKind::Timeout, "slow");
        let spared = verdict(&task(4, 3, 2), error());
        assert!(matches!(spared, Verdict::Retry { failures: 1, .. }), "{spared:?}");
        assert!(matches!(verdict(&task(5, 3, 2), error()), Verdict::Bury { .. }));
    }
}
