//! Benchmarks of zmsg beside its peers; see `cargo xtask bench`.
//!
//! Each target is a file of its own and compares within one run: read its figures as ratios, for
//! they depend on the machine and on what else it does. This library holds what the targets share:
//! how long they measure, what many tasks do meanwhile, and which keys they ask for.

pub mod load;

mod calls;
mod figures;
mod golang;
mod rate;
mod zipf;

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::Criterion;
use zmsg_core::Key;

pub use calls::nanoseconds;
pub use figures::{Case, Figures, Unit, Way, is_quick};
pub use golang::Go;
pub use rate::{rate, rate_in};
pub use zipf::Zipf;

/// Short runs: a whole target takes seconds.
pub fn criterion() -> Criterion {
    let [warm_up, measurement] = if is_quick() { [20, 100] } else { [300, 1_200] };
    Criterion::default()
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measurement))
        .sample_size(if is_quick() { 10 } else { 30 })
        .configure_from_args()
}

/// How long one round of a measurement takes that counts what is done in a while.
pub fn round() -> Duration {
    Duration::from_millis(if is_quick() { 60 } else { 600 })
}

/// The runtime that an application would have.
///
/// # Panics
/// If the system gives no threads.
pub fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

/// What a call gives that has nothing to wait for, polled by hand.
///
/// # Panics
/// If it waits.
pub fn ready<F: Future>(call: F) -> F::Output {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the call waits"),
    }
}

/// The key of a row, as an application would name it.
///
/// # Panics
/// Never: the text is short and has no NUL.
pub fn key(number: usize) -> Key {
    Key::new(format!("feed_{number}")).expect("a short key without NUL")
}

/// `count` keys in an order without locality, from a pool that begins at `first`; the same keys on
/// every run.
pub fn scattered_keys(first: usize, pool: usize, count: usize) -> Vec<Key> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count).map(|_| key(first + random.usize(..pool))).collect()
}
