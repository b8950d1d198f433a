//! The closed loop: tasks that make one call after the other.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinSet, consume_budget};
use tokio::time::Instant;

use super::measure::{Failure, Measured};
use super::mix::{Call, Draw};
use super::run::{Window, made};

/// Tasks share so many recorders: one for each task would take more memory than the engine.
const RECORDERS: usize = 8;

/// Lets so many tasks make calls until the time is over.
pub(super) async fn run<C, F>(window: Window, tasks: usize, draw: &Draw, call: C) -> Measured
where
    C: Fn(Call) -> F + Clone + Send + 'static,
    F: Future<Output = Result<u64, Failure>> + Send + 'static,
{
    let recorder = |_| Arc::new(Mutex::new(Measured::from(window.measured_from)));
    let recorders: Vec<_> = (0..RECORDERS.min(tasks)).map(recorder).collect();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (call, mut draw) = (call.clone(), draw.for_task(task));
        let recorder = Arc::clone(&recorders[task % recorders.len()]);
        running.spawn(async move {
            while Instant::now() < window.until {
                let drawn = draw.next_call();
                let ended = made(drawn.kind, None, call(drawn)).await;
                recorder.lock().unwrap_or_else(PoisonError::into_inner).note(ended);
                // What is answered at once never waits, and would keep the thread from all others.
                consume_budget().await;
            }
        });
    }
    running.join_all().await;
    let mut measured = Measured::from(window.measured_from);
    for recorder in recorders {
        measured.merge(recorder.lock().unwrap_or_else(PoisonError::into_inner).clone());
    }
    measured
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::super::mix::Kind;
    use super::super::workload::Workload;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_task_makes_one_call_after_the_other_and_the_warm_up_is_left_out() {
        let text = "backend = 'embedded'\nduration_s = 1\n[closed]\ntasks = 20\n[keys]\nrows = 1\n[mix]\nput = 1";
        let draw = Draw::of(&Workload::parse(text).unwrap());
        let second = Duration::from_secs(1);
        let window = Window::from(Instant::now(), second, 2 * second);
        let call = |_| async {
            sleep(Duration::from_millis(100)).await;
            Ok(3)
        };
        let measured = run(window, 20, &draw, call).await;
        let put = &measured.kinds[&Kind::Put];
        // A timer may be a millisecond late each time.
        assert!((20 * 19..=20 * 20).contains(&put.latency.len()), "{}", put.latency.len());
        assert_eq!(put.bytes, 3 * put.latency.len());
        assert!((100..=101).contains(&(put.latency.max() / 1_000_000)), "{}", put.latency.max());
        let all = measured.writes(Kind::Put).accepted;
        assert!((20 * 28..=20 * 30).contains(&all), "{all}");
    }
}
