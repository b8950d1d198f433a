//! What leases without an answer have taken: the next one takes it over.
//!
//! A task's hash names the call that leased it, by a token that the call made before it was sent.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Clock, Millis, Result};

use super::calls::{Taken, millis};
use super::keys::Keys;
use super::{RedisTaskQueue, scripts};
use crate::task::record::LeasedTask;

/// Tokens of a queue that are asked for at most. The first and the last ones are kept: one call that
/// leased, and those that tried to take over from it.
const TOKENS_MAX: usize = 64;

/// Tasks of a queue that are asked for at most, those that were looked at last.
const IDS_MAX: usize = 1_000;

/// The calls of this process that may have leased tasks nobody knows of.
///
/// A call without an answer may still be on its way to Redis, so it is asked for until its lease would
/// have run out.
#[derive(Debug, Default)]
pub(super) struct LostCalls(Mutex<Vec<Lost>>);

/// Those of one queue.
#[derive(Debug)]
struct Lost {
    queue: String,
    tokens: Vec<Uuid>,
    /// The tasks that they may have leased.
    ids: Vec<String>,
    until: Millis,
}

/// A lease that is under way; what it took is lost when it is dropped, unless it was handed out.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    calls: &'a LostCalls,
    clock: &'a dyn Clock,
    queue: &'a str,
    lease: Duration,
    tokens: Vec<Uuid>,
    ids: Vec<String>,
}

impl LostCalls {
    fn lock(&self) -> MutexGuard<'_, Vec<Lost>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is lost of this queue. Whoever takes it puts back what may still be lost afterwards.
    fn take(&self, queue: &str, now: Millis) -> Option<Lost> {
        let mut calls = self.lock();
        calls.retain(|lost| lost.until > now);
        let at = calls.iter().position(|lost| lost.queue == queue)?;
        Some(calls.swap_remove(at))
    }

    fn put(&self, mut new: Lost) {
        let mut calls = self.lock();
        if let Some(at) = calls.iter().position(|lost| lost.queue == new.queue) {
            let lost = calls.swap_remove(at);
            new.tokens.splice(..0, lost.tokens);
            new.ids.splice(..0, lost.ids);
            new.until = new.until.max(lost.until);
        }
        let mut seen = HashSet::new();
        new.ids.retain(|id| seen.insert(id.clone()));
        new.ids.drain(..new.ids.len().saturating_sub(IDS_MAX));
        let over = new.tokens.len().saturating_sub(TOKENS_MAX);
        new.tokens.drain(1..=over);
        calls.push(new);
    }
}

impl Asked<'_> {
    /// A token for one more look, at these tasks.
    pub(super) fn look(&mut self, ids: &[String]) -> Uuid {
        let token = Uuid::new_v4();
        self.tokens.push(token);
        self.ids.extend_from_slice(ids);
        token
    }

    /// Notes that the last look took nothing, if that is what its answer means.
    pub(super) fn refused<T>(&mut self, answer: &Result<T>) {
        if answer.as_ref().is_err_and(|error| !error.is_outcome_unknown()) {
            self.tokens.pop();
        }
    }

    /// Notes that all is in the hands of who asked.
    pub(super) fn handed_out(mut self) {
        self.tokens.clear();
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.tokens.is_empty() {
            return;
        }
        let until = self.clock.coarse().saturating_add(millis(self.lease));
        let (tokens, ids) = (std::mem::take(&mut self.tokens), std::mem::take(&mut self.ids));
        self.calls.put(Lost { queue: self.queue.to_owned(), tokens, ids, until });
    }
}

impl RedisTaskQueue {
    /// A lease that is about to look.
    pub(super) fn ask<'a>(&'a self, queue: &'a str, lease: Duration) -> Asked<'a> {
        let (calls, clock) = (&self.lost, &*self.clock);
        Asked { calls, clock, queue, lease, tokens: Vec::new(), ids: Vec::new() }
    }

    /// Some of what lost calls of this process have leased, as the same attempts. Nothing if there
    /// is none.
    pub(super) async fn take_over(
        &self,
        queue: &str,
        keys: &Keys,
        max: usize,
        for_: Duration,
    ) -> Result<Vec<LeasedTask>> {
        let Some(lost) = self.lost.take(queue, self.clock.coarse()) else { return Ok(Vec::new()) };
        // They are asked for again, for what is more than `max` and for what was on its way.
        let tokens = lost.tokens.clone();
        let (mut asked, ids) = (self.ask(queue, for_), lost.ids.clone());
        let _back = PutBack(&self.lost, Some(lost));
        let token = asked.look(&[]);
        let mut all = vec![keys.lease(), keys.until(), keys.paused()];
        all.extend(ids.iter().map(|id| keys.task(id)));
        let tokens: Vec<&[u8]> = tokens.iter().map(|token| &token.as_bytes()[..]).collect();
        let args =
            ((self.now(), millis(for_), max, &token.as_bytes()[..]), (tokens.len(), tokens, ids));
        let taken: Result<Vec<Taken>> = self.redis.script(&scripts::TAKE_OVER, &all, &args).await;
        asked.refused(&taken);
        let mut leased = Vec::new();
        for task in taken? {
            leased.extend(self.leased(queue, keys, task).await?);
        }
        asked.handed_out();
        Ok(leased)
    }
}

/// Puts lost calls back when it is dropped.
struct PutBack<'a>(&'a LostCalls, Option<Lost>);

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        self.1.take().into_iter().for_each(|lost| self.0.put(lost));
    }
}

#[cfg(test)]
mod tests {
    use zmsg_core::{Error, ErrorKind, ManualClock};

    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn asked<'a>(calls: &'a LostCalls, clock: &'a ManualClock, queue: &'a str) -> Asked<'a> {
        Asked { calls, clock, queue, lease: LEASE, tokens: Vec::new(), ids: Vec::new() }
    }

    fn ids(from: usize, to: usize) -> Vec<String> {
        (from..to).map(|id| id.to_string()).collect()
    }

    #[test]
    fn a_call_is_lost_for_as_long_as_its_lease_unless_it_was_handed_out() {
        let (calls, clock) = (LostCalls::default(), ManualClock::new(0));
        let now = clock.coarse();
        let away = || Error::new(ErrorKind::Unavailable, "away");
        let mut done = asked(&calls, &clock, "a");
        done.look(&ids(0, 3));
        done.handed_out();
        let mut refused = asked(&calls, &clock, "a");
        refused.look(&ids(0, 3));
        refused.refused(&Err::<(), _>(away().temporary()));
        drop(refused);
        assert!(calls.take("a", now).is_none());

        let mut dropped = asked(&calls, &clock, "a");
        let first = dropped.look(&ids(0, 3));
        drop(dropped);
        let mut unknown = asked(&calls, &clock, "a");
        let second = unknown.look(&ids(2, 5));
        unknown.refused(&Err::<(), _>(away().outcome_unknown()));
        drop(unknown);
        assert!(calls.take("b", now).is_none());
        let lost = calls.take("a", now + 29_999).unwrap();
        assert_eq!((lost.tokens.as_slice(), &lost.ids), (&[first, second][..], &ids(0, 5)));
        assert!(calls.take("a", now + 29_999).is_none(), "it is in one hand at a time");
        calls.put(lost);
        assert!(calls.take("a", now + 30_000).is_none());
    }

    #[test]
    fn what_is_lost_is_bounded_and_the_first_and_last_calls_are_kept() {
        let (calls, clock) = (LostCalls::default(), ManualClock::new(0));
        let mut tokens = Vec::new();
        for call in 0..200 {
            let mut asked = asked(&calls, &clock, "a");
            tokens.push(asked.look(&ids(call * 10, call * 10 + 20)));
        }
        let lost = calls.take("a", clock.coarse()).unwrap();
        assert_eq!((lost.tokens.len(), lost.tokens[0]), (TOKENS_MAX, tokens[0]));
        assert_eq!(lost.tokens[1..], tokens[200 - TOKENS_MAX + 1..]);
        assert_eq!(lost.ids, ids(2_010 - IDS_MAX, 2_010));
    }
}
