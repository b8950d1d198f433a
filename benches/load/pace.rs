//! Waits for the moments of an open loop.

use std::thread;
use std::time::{Duration, Instant as Moment};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::arrivals::Arrivals;

/// Moments that may have come before anybody took them. Beyond it the thread waits, and gives the moments late.
const AHEAD: usize = 1 << 16;
/// A parked thread wakes up about this much late on Linux; so it parks for less, and spins for the rest.
const LATE: Duration = Duration::from_micros(60);

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// A thread of its own, to a few microseconds.
    Thread,
    /// The timer of the runtime, to a millisecond: it can be paused.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests move the time"))]
    Timer,
}

/// Gives each moment when it has come.
#[derive(Debug)]
pub(super) struct Ticks(Inner);

#[derive(Debug)]
enum Inner {
    Thread(mpsc::Receiver<Moment>),
    Timer { began: Instant, until: Instant, arrivals: Arrivals },
}

impl Ticks {
    /// The moments from `began` on, and before `until`.
    pub(super) fn start(pace: Pace, began: Instant, until: Instant, arrivals: Arrivals) -> Self {
        if pace == Pace::Timer {
            return Self(Inner::Timer { began, until, arrivals });
        }
        let (come, ticks) = mpsc::channel(AHEAD);
        let (began, until) = (began.into_std(), until.into_std());
        thread::spawn(move || {
            let moments = arrivals.map(|after| began + after).take_while(|due| *due < until);
            for due in moments {
                wait(due);
                // Nobody asks any more.
                if come.blocking_send(due).is_err() {
                    return;
                }
            }
        });
        Self(Inner::Thread(ticks))
    }

    /// The next moment, not before it has come; at once, if it came earlier. `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<Instant> {
        match &mut self.0 {
            Inner::Thread(ticks) => ticks.recv().await.map(Instant::from_std),
            Inner::Timer { began, until, arrivals } => {
                let due = *began + arrivals.next()?;
                if due >= *until {
                    return None;
                }
                sleep_until(due).await;
                Some(due)
            }
        }
    }
}

fn wait(due: Moment) {
    loop {
        let left = due.saturating_duration_since(Moment::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(LATE) {
            Some(long) if !long.is_zero() => thread::park_timeout(long),
            _ => std::hint::spin_loop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::Arriving;
    use super::*;

    #[tokio::test]
    async fn the_thread_gives_every_moment_in_order_and_none_too_early() {
        let (began, until) = (Instant::now(), Instant::now() + Duration::from_millis(20));
        let arrivals = Arrivals::new(10_000.0, Arriving::Fixed, 1);
        let mut ticks = Ticks::start(Pace::Thread, began, until, arrivals);
        let mut count = 0;
        while let Some(due) = ticks.next().await {
            assert!(Instant::now() >= due && due < until);
            count += 1;
        }
        assert!((199..=201).contains(&count), "{count}");
    }
}
