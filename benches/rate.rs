//! What many tasks do in a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::round;

/// Calls per second of so many tasks, each of which makes one call after the other for one
/// [`round`]. `call` is given which of the tasks this is, and how many calls it made before.
pub async fn rate<C, F>(tasks: u64, call: C) -> f64
where
    C: Fn(u64, u64) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    rate_in(round(), tasks, call).await
}

/// As [`rate`], for a round of another length.
pub async fn rate_in<C, F>(round: Duration, tasks: u64, call: C) -> f64
where
    C: Fn(u64, u64) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (began, mut running) = (Instant::now(), JoinSet::new());
    for task in 0..tasks {
        let (call, stop, calls) = (call.clone(), Arc::clone(&stop), Arc::clone(&calls));
        running.spawn(async move {
            let mut made = 0;
            while !stop.load(Relaxed) {
                call(task, made).await;
                made += 1;
            }
            calls.fetch_add(made, Relaxed);
        });
    }
    tokio::time::sleep(round).await;
    stop.store(true, Relaxed);
    running.join_all().await;
    calls.load(Relaxed) as f64 / began.elapsed().as_secs_f64()
}
