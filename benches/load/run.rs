//! A run of a workload: which loop makes its calls, and what a call is.

use std::time::Duration;

use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::closed;
use super::measure::{Ended, Failure, Measured};
use super::mix::{Call, Draw, Kind};
use super::open;
use super::pace::{Pace, Ticks};
use super::workload::{Drive, Workload};

/// When a run begins, is measured, and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) began: Instant,
    pub(super) measured_from: Instant,
    pub(super) until: Instant,
}

impl Window {
    pub(super) fn from(began: Instant, warm_up: Duration, duration: Duration) -> Self {
        let measured_from = began + warm_up;
        Self { began, measured_from, until: measured_from + duration }
    }
}

/// Makes the calls of a workload, whatever `call` does for one. It gives the bytes of its values.
pub async fn run<C, F>(workload: &Workload, call: C) -> Measured
where
    C: Fn(Call) -> F + Clone + Send + 'static,
    F: Future<Output = Result<u64, Failure>> + Send + 'static,
{
    let draw = Draw::of(workload);
    let window = Window::from(Instant::now(), workload.warm_up, workload.duration);
    match workload.drive {
        Drive::Closed { tasks } => closed::run(window, tasks, &draw, call).await,
        Drive::Open { rate, arriving, in_flight_max } => {
            let arrivals = Arrivals::new(rate, arriving, workload.seed);
            let ticks = Ticks::start(Pace::Thread, window.began, window.until, arrivals);
            open::run(window, ticks, in_flight_max, draw, call).await
        }
    }
}

/// One call that was due at a moment, or else whenever it begins; it begins when it is first polled.
pub(super) async fn made(
    kind: Kind,
    due: Option<Instant>,
    call: impl Future<Output = Result<u64, Failure>>,
) -> Ended {
    let began = Instant::now();
    let outcome = call.await;
    Ended { kind, due: due.unwrap_or(began), began, ended: Instant::now(), outcome }
}
