//! Keeps batches back while the sink is down.
//!
//! The circuit breaker of M. Nygard, Release It! (2007): closed, open for a while, then half open for
//! one probe.

use std::time::Duration;

use tokio::time::Instant;
use zmsg_core::Backoff;

/// Whether the sink is thought to be up. One for all batches in flight.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    backoff: Backoff,
    failures: u32,
    /// Set while it is open.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    /// How often it was opened in a row.
    times: u32,
    probing: bool,
}

/// Leave to call the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go on.
    Go,
    /// Go on, alone: what comes of it decides.
    Probe,
    /// Ask again then.
    Wait(Duration),
}

/// No longer than a year: the clock has an end.
const PAUSE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// How long to wait while another batch probes: its end wakes nobody.
const WHILE_PROBING: Duration = Duration::from_millis(20);

impl Breaker {
    pub(super) fn new(failures_max: u32, backoff: Backoff) -> Self {
        Self { failures_max, backoff, failures: 0, open: None }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let Some(open) = &mut self.open else { return Admission::Go };
        if open.probing {
            return Admission::Wait(WHILE_PROBING);
        }
        let left = open.until.saturating_duration_since(now);
        if !left.is_zero() {
            return Admission::Wait(left);
        }
        open.probing = true;
        Admission::Probe
    }

    /// The sink answered, whatever it said.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.open = None;
    }

    /// The sink did not answer. True if that opened the breaker.
    pub(super) fn silent(&mut self, now: Instant, probe: bool) -> bool {
        self.failures = self.failures.saturating_add(1);
        let times = match &self.open {
            // One that began before it opened says nothing new.
            Some(_) if !probe => return false,
            Some(open) => open.times + 1,
            None if self.failures < self.failures_max => return false,
            None => 1,
        };
        self.open = Some(Open {
            until: now + self.backoff.delay(times).min(PAUSE_MAX),
            times,
            probing: false,
        });
        times == 1
    }

    /// A probe was dropped before it had an answer.
    pub(super) fn forget_probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(3, Backoff::new(Duration::from_secs(2), Duration::from_secs(8)))
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_as_many_failures_in_a_row_and_not_before() {
        let mut breaker = breaker();
        let now = Instant::now();
        assert!(!breaker.silent(now, false) && !breaker.silent(now, false));
        breaker.answered();
        assert!(!breaker.silent(now, false) && !breaker.silent(now, false));
        assert_eq!(breaker.admit(now), Admission::Go);
        assert!(breaker.silent(now, false) && breaker.is_open());
        assert!(matches!(breaker.admit(now), Admission::Wait(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_decides() {
        let mut breaker = breaker();
        let now = Instant::now();
        let opened: Vec<_> = (0..3).map(|_| breaker.silent(now, false)).collect();
        assert_eq!(opened, [false, false, true]);
        let later = now + Duration::from_secs(2);
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert_eq!(breaker.admit(later), Admission::Wait(WHILE_PROBING));
        // An older call that fails meanwhile says nothing; a failed probe opens it for longer.
        assert!(!breaker.silent(later, false));
        assert_eq!(breaker.admit(later), Admission::Wait(WHILE_PROBING));
        assert!(!breaker.silent(later, true));
        let Admission::Wait(pause) = breaker.admit(later) else { panic!("it is open") };
        assert!(pause >= Duration::from_secs(2), "{pause:?}");
        let later = later + Duration::from_secs(4);
        assert_eq!(breaker.admit(later), Admission::Probe);
        breaker.answered();
        assert_eq!(breaker.admit(later), Admission::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_dropped_lets_another_one_try() {
        let mut breaker = breaker();
        let now = Instant::now();
        let opened: Vec<_> = (0..3).map(|_| breaker.silent(now, false)).collect();
        assert_eq!(opened, [false, false, true]);
        let later = now + Duration::from_secs(2);
        assert_eq!(breaker.admit(later), Admission::Probe);
        breaker.forget_probe();
        assert_eq!(breaker.admit(later), Admission::Probe);
    }
}
