//! Calls of `lease` whose answers were lost: what they leased is found again by its token.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Clock, Error, Millis};

/// The calls of this process that may have leased tasks nobody knows of.
///
/// Each call makes its token before it is sent. A call without an answer may still be at work in
/// the database, so its token is asked for until its lease would have run out.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<Vec<Lost>>);

#[derive(Debug)]
struct Lost {
    queue: String,
    token: Uuid,
    until: Millis,
}

/// A call that is under way; dropped without an answer it counts as lost.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    calls: &'a Unanswered,
    clock: &'a dyn Clock,
    queue: &'a str,
    lease: Duration,
    pub(super) token: Uuid,
    answered: bool,
}

/// More lost calls than that are not asked for; their leases run out.
const LOST_MAX: usize = 16;

impl Unanswered {
    /// A call that is about to be sent.
    pub(super) fn ask<'a>(
        &'a self,
        clock: &'a dyn Clock,
        queue: &'a str,
        lease: Duration,
    ) -> Asked<'a> {
        Asked { calls: self, clock, queue, lease, token: Uuid::new_v4(), answered: false }
    }

    /// The tokens of the lost calls for this queue.
    pub(super) fn of(&self, queue: &str, now: Millis) -> Vec<Uuid> {
        let mut lost = self.lock();
        lost.retain(|call| call.until > now);
        lost.iter().filter(|call| call.queue == queue).map(|call| call.token).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Lost>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked<'_> {
    /// Notes whether it is known what the call did.
    pub(super) fn answered<T>(&mut self, answer: &Result<T, Error>) {
        self.answered = !answer.as_ref().is_err_and(Error::is_outcome_unknown);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let lease = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let until = self.clock.coarse().saturating_add(lease);
        let mut lost = self.calls.lock();
        if lost.len() >= LOST_MAX {
            lost.remove(0);
        }
        lost.push(Lost { queue: self.queue.to_owned(), token: self.token, until });
    }
}

#[cfg(test)]
mod tests {
    use zmsg_core::{ErrorKind, ManualClock};

    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn a_call_is_lost_for_as_long_as_its_lease_unless_it_was_answered() {
        let (calls, clock) = (Unanswered::default(), ManualClock::new(0));
        let away = || Error::new(ErrorKind::Unavailable, "away");
        calls.ask(&clock, "a", LEASE).answered(&Ok(()));
        calls.ask(&clock, "a", LEASE).answered(&Err::<(), _>(away().temporary()));
        assert!(calls.of("a", clock.coarse()).is_empty());
        let dropped = calls.ask(&clock, "a", LEASE).token;
        calls.ask(&clock, "a", LEASE).answered(&Err::<(), _>(away().outcome_unknown()));
        assert_eq!(calls.of("a", clock.coarse()).len(), 2);
        assert_eq!(calls.of("a", clock.coarse())[0], dropped);
        assert!(calls.of("b", clock.coarse()).is_empty());
        assert!(calls.of("a", clock.coarse() + 30_000).is_empty());
    }
}
