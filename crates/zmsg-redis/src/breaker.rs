//! Refuses calls while Redis keeps failing.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::BreakerPolicy;

/// Opens after some failures in a row; then lets one call through after a while, to try.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: BreakerPolicy,
    /// Failures in a row.
    failures: AtomicU32,
    /// What `open` says, for calls that only want to pass.
    is_open: AtomicBool,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    /// One call is trying.
    probing: bool,
}

/// A call that was let through. Dropped without a verdict, as when its caller leaves, it says
/// nothing about Redis.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    pub(crate) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            failures: AtomicU32::new(0),
            is_open: AtomicBool::new(false),
            open: Mutex::new(None),
        }
    }

    /// Lets a call through, or not.
    pub(crate) fn enter(&self) -> Option<Pass<'_>> {
        if !self.is_open() {
            return Some(Pass { breaker: self, probe: false });
        }
        let mut open = self.lock();
        let Some(state) = &mut *open else { return Some(Pass { breaker: self, probe: false }) };
        if state.probing || Instant::now() < state.until {
            return None;
        }
        state.probing = true;
        Some(Pass { breaker: self, probe: true })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Redis was seen to answer. Tells whether the breaker was open.
    pub(crate) fn close(&self) -> bool {
        let was_open = self.lock().take().is_some();
        self.failures.store(0, Relaxed);
        self.is_open.store(false, Relaxed);
        was_open
    }

    fn trip(&self) -> bool {
        let mut open = self.lock();
        let opened = open.is_none();
        *open = Some(Open { until: Instant::now() + self.policy.open_for, probing: false });
        self.is_open.store(true, Relaxed);
        opened
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        // Each change is one assignment: the state is whole after a panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Redis served the call. Tells whether that closed the breaker.
    pub(crate) fn served(self) -> bool {
        if self.probe {
            return self.breaker.close();
        }
        // A call that began before the breaker opened must not close it.
        if self.breaker.failures.load(Relaxed) != 0 && !self.breaker.is_open() {
            self.breaker.failures.store(0, Relaxed);
        }
        false
    }

    /// Redis failed the call. Tells whether that opened the breaker.
    pub(crate) fn failed(self) -> bool {
        if self.probe {
            return self.breaker.trip();
        }
        let failures = self.breaker.failures.fetch_add(1, Relaxed).saturating_add(1);
        failures >= self.breaker.policy.failures && !self.breaker.is_open() && self.breaker.trip()
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe
            && let Some(open) = &mut *self.breaker.lock()
        {
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const OPEN_FOR: Duration = Duration::from_millis(500);

    fn breaker() -> Breaker {
        Breaker::new(BreakerPolicy { failures: 3, open_for: OPEN_FOR })
    }

    fn open() -> Breaker {
        let breaker = breaker();
        let opened = [(); 3].map(|()| breaker.enter().unwrap().failed());
        assert_eq!(opened, [false, false, true]);
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_a_success_between_starts_anew() {
        let breaker = breaker();
        for _ in 0..10 {
            breaker.enter().unwrap().failed();
            breaker.enter().unwrap().failed();
            breaker.enter().unwrap().served();
        }
        assert!(!breaker.is_open());
        assert!(open().enter().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_tries_after_a_while_and_its_success_closes() {
        let breaker = open();
        advance(OPEN_FOR).await;
        let probe = breaker.enter().unwrap();
        assert!(breaker.enter().is_none());
        assert!(probe.served());
        assert!(!breaker.is_open());
        assert!(!breaker.enter().unwrap().failed(), "it counts from zero");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_try_opens_it_for_another_while() {
        let breaker = open();
        advance(OPEN_FOR).await;
        breaker.enter().unwrap().failed();
        assert!(breaker.enter().is_none());
        advance(OPEN_FOR).await;
        assert!(breaker.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_was_cancelled_leaves_the_place_to_the_next() {
        let breaker = open();
        advance(OPEN_FOR).await;
        drop(breaker.enter().unwrap());
        assert!(breaker.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_from_before_does_not_close_it() {
        let breaker = breaker();
        let early = breaker.enter().unwrap();
        for _ in 0..3 {
            breaker.enter().unwrap().failed();
        }
        assert!(!early.served());
        assert!(breaker.enter().is_none());
    }
}
