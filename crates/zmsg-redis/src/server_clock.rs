//! What the clock of a server shows, as far as it is known here.

use std::time::{Duration, Instant};

/// A reading of a server's clock: what the clock shows later lies between two bounds, which are as
/// far apart as the question took to be answered.
///
/// A clock that was set since shows something else. A connection asks about once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerClock {
    /// Unix time in milliseconds.
    shown: u64,
    asked: Instant,
    answered: Instant,
}

impl ServerClock {
    /// A clock that showed `shown`, the Unix time in milliseconds, at some moment between two.
    pub fn new(shown: u64, asked: Instant, answered: Instant) -> Self {
        Self { shown, asked, answered }
    }

    /// What it shows at `now` at least, as Unix time in milliseconds.
    pub fn earliest(&self, now: Instant) -> u64 {
        self.plus(now.saturating_duration_since(self.answered))
    }

    /// What it shows at `now` at most, as Unix time in milliseconds.
    pub fn latest(&self, now: Instant) -> u64 {
        // What it showed was rounded down.
        self.plus(now.saturating_duration_since(self.asked)).saturating_add(1)
    }

    fn plus(&self, passed: Duration) -> u64 {
        self.shown.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_more_than_passed_since_the_answer_and_less_than_since_the_question() {
        let asked = Instant::now();
        let answered = asked + Duration::from_millis(40);
        let clock = ServerClock::new(1_000_000, asked, answered);
        let later = answered + Duration::from_millis(500);
        assert_eq!((clock.earliest(later), clock.latest(later)), (1_000_500, 1_000_541));
        assert_eq!(clock.earliest(asked), 1_000_000, "it does not go back");
    }
}
