//! What a failed transaction means for the seal.

use zmsg_core::{Error, ErrorKind, ErrorStatus};
use zmsg_store::StepError;

/// What to do after a failed transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing of it remains and no operation is to blame: the same again, later.
    Retry,
    /// It may have been committed: ask the ledger.
    Resolve,
    /// This step was refused and will be again.
    Refused(usize),
    /// Something was refused and will be again, the database does not say which.
    RefusedSomewhere,
}

/// Judges the failure of a transaction whose first `own` steps are zmsg's own bookkeeping.
pub(super) fn judge(failed: &StepError, own: usize) -> Verdict {
    match failed.error.status() {
        ErrorStatus::OutcomeUnknown => return Verdict::Resolve,
        ErrorStatus::Temporary | ErrorStatus::Exhausted => return Verdict::Retry,
        ErrorStatus::Permanent => {}
    }
    let ours = failed.step.is_some_and(|step| step < own);
    match (failed.error.kind(), failed.step) {
        (ErrorKind::Conflict, Some(_)) if ours => Verdict::Resolve,
        // A damaged page of one table holds up the operations on that table alone.
        (ErrorKind::Corrupted, Some(step)) if !ours => Verdict::Refused(step),
        // A ledger that cannot be written (its table is missing) blames no operation.
        _ if ours => Verdict::Retry,
        (
            ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Overloaded
            | ErrorKind::Closed
            | ErrorKind::Corrupted
            | ErrorKind::InvalidConfig,
            _,
        ) => Verdict::Retry,
        (_, Some(step)) => Verdict::Refused(step),
        (_, None) => Verdict::RefusedSomewhere,
    }
}

/// True if others changed the same rows at the same time: deadlocks, and transactions that cannot
/// be put in an order. Only PostgreSQL has them; its code says so.
pub(super) fn is_contention(error: &Error) -> bool {
    has_code(error, &["40001", "40P01"])
}

/// True if somebody else held a lock for longer than a statement waits for one.
pub(super) fn is_locked_out(error: &Error) -> bool {
    has_code(error, &["55P03"])
}

/// True if the database stopped a statement because it ran for too long.
pub(super) fn is_stopped(error: &Error) -> bool {
    has_code(error, &["57014"])
}

fn has_code(error: &Error, codes: &[&str]) -> bool {
    error.is_temporary()
        && error.context().any(|(name, code)| name == "code" && codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_blames_an_operation_only_if_the_database_refused_it() {
        let kind = |kind| Error::new(kind, "no");
        for (step, error, verdict) in [
            (Some(1), kind(ErrorKind::InvalidData), Verdict::Refused(1)),
            (Some(1), kind(ErrorKind::InvalidInput), Verdict::Refused(1)),
            (Some(1), kind(ErrorKind::Unexpected), Verdict::Refused(1)),
            (None, kind(ErrorKind::InvalidData), Verdict::RefusedSomewhere),
            (Some(0), kind(ErrorKind::Conflict), Verdict::Resolve),
            (Some(0), kind(ErrorKind::InvalidInput), Verdict::Retry),
            (Some(1), kind(ErrorKind::Corrupted), Verdict::Refused(1)),
            (None, kind(ErrorKind::Corrupted), Verdict::Retry),
            (Some(1), kind(ErrorKind::Unavailable).temporary(), Verdict::Retry),
            (Some(1), kind(ErrorKind::Conflict).temporary(), Verdict::Retry),
            (None, kind(ErrorKind::Closed), Verdict::Retry),
            (None, kind(ErrorKind::Unavailable).outcome_unknown(), Verdict::Resolve),
        ] {
            let failed = StepError { step, error };
            assert_eq!(judge(&failed, 1), verdict, "{failed}");
        }
    }
}
