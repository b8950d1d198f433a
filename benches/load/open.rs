//! The open loop: calls begin when they are due, whatever became of those before.

use tokio::task::JoinSet;

use super::measure::{Ended, Failure, Measured};
use super::mix::{Call, Draw};
use super::pace::Ticks;
use super::run::{Window, made};

/// Each call is a task of its own. When too many are under way the loop waits for one to end, and those
/// that became due meanwhile begin late: their latency counts from when they were due all the same.
pub(super) async fn run<C, F>(
    window: Window,
    mut ticks: Ticks,
    in_flight_max: usize,
    mut draw: Draw,
    call: C,
) -> Measured
where
    C: Fn(Call) -> F,
    F: Future<Output = Result<u64, Failure>> + Send + 'static,
{
    let mut measured = Measured::from(window.measured_from);
    let mut running = JoinSet::<Ended>::new();
    while let Some(due) = ticks.next().await {
        while running.len() >= in_flight_max {
            note(&mut measured, running.join_next().await);
        }
        let drawn = draw.next_call();
        running.spawn(made(drawn.kind, Some(due), call(drawn)));
        while let Some(ended) = running.try_join_next() {
            note(&mut measured, Some(ended));
        }
    }
    while let Some(ended) = running.join_next().await {
        note(&mut measured, Some(ended));
    }
    measured
}

fn note(measured: &mut Measured, ended: Option<Result<Ended, tokio::task::JoinError>>) {
    if let Some(ended) = ended {
        measured.note(ended.expect("a call does not panic"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    use hdrhistogram::Histogram;
    use tokio::time::{Instant, sleep};

    use super::super::arrivals::Arrivals;
    use super::super::mix::Kind;
    use super::super::pace::Pace;
    use super::super::workload::{Arriving, Workload};
    use super::*;

    /// One call each 10 ms for a second, of which each takes as long as this says of its number.
    async fn second_of(in_flight_max: usize, takes_ms: fn(u64) -> u64) -> Measured {
        let text = "backend = 'embedded'\nduration_s = 1\n[open]\nrate = 100\n[keys]\nrows = 1\n[mix]\nget = 1";
        let draw = Draw::of(&Workload::parse(text).unwrap());
        let window = Window::from(Instant::now(), Duration::ZERO, Duration::from_secs(1));
        let arrivals = Arrivals::new(100.0, Arriving::Fixed, 1);
        let ticks = Ticks::start(Pace::Timer, window.began, window.until, arrivals);
        let made = Arc::new(AtomicU64::new(0));
        let call = move |_| {
            let made = Arc::clone(&made);
            async move {
                let takes = Duration::from_millis(takes_ms(made.fetch_add(1, Relaxed)));
                sleep(takes).await;
                Ok(1)
            }
        };
        run(window, ticks, in_flight_max, draw, call).await
    }

    /// Milliseconds, the nearest: the histogram keeps three digits. The timer may be one late.
    fn ms(histogram: &Histogram<u64>, quantile: f64) -> u64 {
        (histogram.value_at_quantile(quantile) + 500_000) / 1_000_000
    }

    #[tokio::test(start_paused = true)]
    async fn a_latency_counts_from_when_the_call_was_to_begin() {
        // Each waits for the one before: the n-th is due at 10 n, and ends at 50 (n + 1).
        let measured = second_of(1, |_| 50).await;
        let latency = &measured.kinds[&Kind::Get].latency;
        assert_eq!(latency.len(), 100);
        assert!((50..=51).contains(&ms(latency, 0.0)), "{}", latency.min());
        let longest = 50 * 100 - 10 * 99;
        assert!((longest..longest + 110).contains(&ms(latency, 1.0)), "{}", latency.max());
        assert!(ms(&measured.behind, 1.0) >= longest - 60, "{}", measured.behind.max());
        assert!(measured.elapsed() >= Duration::from_secs(5), "{:?}", measured.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_seen_by_every_call_that_was_due_in_it() {
        // The eleventh call takes half a second, so that those of that half second are late.
        let measured = second_of(1, |call| if call == 10 { 500 } else { 0 }).await;
        let latency = &measured.kinds[&Kind::Get].latency;
        let late = latency.len() - latency.count_between(0, 20_000_000);
        assert!((45..=52).contains(&late), "{late}");
        assert!(ms(latency, 0.2) <= 2 && ms(latency, 1.0) >= 500, "{}", latency.max());
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_do_not_hold_back_those_after_them() {
        let measured = second_of(1_000, |_| 300).await;
        let latency = &measured.kinds[&Kind::Get].latency;
        assert_eq!(latency.len(), 100);
        assert!((300..=301).contains(&ms(latency, 0.0)) && ms(latency, 1.0) <= 302);
        assert!(ms(&measured.behind, 1.0) <= 1, "{}", measured.behind.max());
    }
}
