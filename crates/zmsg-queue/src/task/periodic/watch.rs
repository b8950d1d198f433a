//! Which moment of an entry is to fire now; no queue, no waiting.

use zmsg_core::{Millis, UnixMillis};

use super::entry::{Missed, PeriodicTask};

/// A moment fires so much later, in milliseconds, whoever looked meanwhile: a process that starts anew, a
/// machine that was busy.
const LATE_MAX: Millis = 60_000;

/// How far an entry is, by the wall clock of this process.
#[derive(Debug)]
pub(super) struct Watch {
    /// All moments up to this one are decided.
    decided: UnixMillis,
    /// Those up to this one that are not decided passed while nobody looked.
    unwatched: UnixMillis,
    looked: UnixMillis,
}

/// What is to be done about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This moment is still to come.
    At(UnixMillis),
    /// This one has come. With `missed` there were others before it.
    Fire { moment: UnixMillis, missed: bool },
    /// The moments up to this one have passed.
    Missed { last: UnixMillis },
    /// No other moment comes.
    Never,
}

impl Watch {
    /// Begins at this moment, with an entry that has never fired: it has missed nothing.
    pub(super) fn new(begun: UnixMillis) -> Self {
        Self { decided: begun, unwatched: begun.saturating_sub(LATE_MAX), looked: begun }
    }

    /// Begins after the latest firing of the entry instead.
    pub(super) fn has_fired(&mut self, last: UnixMillis) {
        self.decided = last;
    }

    /// Notes that somebody looks. `false`: the clock went back, so that what is decided is no longer known.
    pub(super) fn look(&mut self, now: UnixMillis) -> bool {
        if now > self.looked + LATE_MAX {
            self.unwatched = now - LATE_MAX;
        }
        let went_back = now.saturating_add(LATE_MAX) < self.looked;
        self.looked = now;
        !went_back
    }

    /// Whether what was recorded is ahead of time: somebody may take that away.
    pub(super) fn is_ahead(&self) -> bool {
        self.decided > self.looked.saturating_add(LATE_MAX)
    }

    /// Notes that the moments up to this one are decided.
    pub(super) fn decide(&mut self, moment: UnixMillis) {
        self.decided = self.decided.max(moment);
    }

    pub(super) fn next(&self, task: &PeriodicTask) -> Next {
        let schedule = task.schedule();
        let Some(first) = schedule.next_after(self.decided) else { return Next::Never };
        if first > self.looked {
            return Next::At(first);
        }
        let last = schedule.last_within(self.decided, self.looked).unwrap_or(first);
        if last <= self.unwatched && task.on_missed() == Missed::Skip {
            return Next::Missed { last };
        }
        Next::Fire { moment: last, missed: last != first }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zmsg_core::TaskId;

    use super::*;
    use crate::task::periodic::Schedule;
    use crate::task::record::NewTask;

    const HOUR: u64 = 3_600_000;
    const NOW: u64 = 1_000 * HOUR + 120_000;

    fn hourly(missed: Missed) -> PeriodicTask {
        let schedule = Schedule::every(Duration::from_millis(HOUR)).expect("a schedule");
        let make = |_| NewTask::new(TaskId::generate(), "report", "");
        PeriodicTask::new("report", schedule, make).missed(missed)
    }

    fn watch(begun: UnixMillis, last: UnixMillis) -> Watch {
        let mut watch = Watch::new(begun);
        watch.has_fired(last);
        watch
    }

    const BOTH: [Missed; 2] = [Missed::Skip, Missed::Once];

    #[test]
    fn an_entry_that_never_fired_has_missed_nothing() {
        for missed in BOTH {
            let watch = Watch::new(NOW);
            assert_eq!(watch.next(&hourly(missed)), Next::At(1_001 * HOUR));
        }
    }

    #[test]
    fn moments_that_passed_while_no_node_ran_are_skipped_or_fire_once() {
        let watch = watch(NOW, 990 * HOUR);
        let last = 1_000 * HOUR;
        assert_eq!(watch.next(&hourly(Missed::Skip)), Next::Missed { last });
        let fire = Next::Fire { moment: last, missed: true };
        assert_eq!(watch.next(&hourly(Missed::Once)), fire);
    }

    #[test]
    fn a_restart_fires_what_came_less_than_a_minute_before() {
        for missed in BOTH {
            let watch = watch(1_000 * HOUR + 59_999, 999 * HOUR);
            let fire = Next::Fire { moment: 1_000 * HOUR, missed: false };
            assert_eq!(watch.next(&hourly(missed)), fire);
        }
    }

    #[test]
    fn what_comes_while_somebody_looks_fires_however_long_the_queue_is_away() {
        let mut watch = Watch::new(NOW);
        for passed in (0..HOUR + HOUR / 2).step_by(5_000) {
            assert!(watch.look(NOW + passed));
        }
        let fire = Next::Fire { moment: 1_001 * HOUR, missed: false };
        assert_eq!(watch.next(&hourly(Missed::Skip)), fire);
        watch.decide(1_001 * HOUR);
        assert_eq!(watch.next(&hourly(Missed::Skip)), Next::At(1_002 * HOUR));
    }

    #[test]
    fn a_clock_that_leaps_forward_misses_what_it_leapt_over() {
        let mut watch = Watch::new(NOW);
        assert!(watch.look(NOW + 5 * HOUR));
        let last = 1_005 * HOUR;
        assert_eq!(watch.next(&hourly(Missed::Skip)), Next::Missed { last });
        let fire = Next::Fire { moment: last, missed: true };
        assert_eq!(watch.next(&hourly(Missed::Once)), fire);
        // A small leap is none.
        let mut watch = Watch::new(NOW);
        assert!(watch.look(1_001 * HOUR - 1));
        assert!(watch.look(1_001 * HOUR + 50_000));
        let fire = Next::Fire { moment: 1_001 * HOUR, missed: false };
        assert_eq!(watch.next(&hourly(Missed::Skip)), fire);
    }

    #[test]
    fn only_a_record_of_a_wrong_clock_is_ahead() {
        assert!(
            !watch(NOW, NOW + 1_000).is_ahead(),
            "fired by a node whose clock is a little ahead"
        );
        assert!(watch(NOW, NOW + HOUR).is_ahead());
    }

    #[test]
    fn a_clock_that_goes_back_fires_nothing_again() {
        let mut watch = watch(1_000 * HOUR + 30_000, 1_000 * HOUR);
        assert!(watch.look(1_000 * HOUR - 10), "a little is waited out");
        assert_eq!(watch.next(&hourly(Missed::Once)), Next::At(1_001 * HOUR));
        assert!(!watch.look(900 * HOUR), "what has fired is to be asked for");
    }
}
