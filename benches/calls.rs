//! What one call takes, where a call is too short to be timed by itself.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::round;

/// Calls between two looks at the clock: so many that a look does not count.
const BLOCK: u32 = 1_000;

/// Nanoseconds of one call on each of so many threads at once, which make one call after the other for
/// one [`round`]; the mean of what they saw. `caller` is given which of the threads this is, and makes
/// the call there.
///
/// # Panics
/// If a call does.
pub fn nanoseconds<C, T>(threads: usize, caller: impl Fn(usize) -> C + Sync) -> f64
where
    C: FnMut() -> T,
{
    let begin = Barrier::new(threads);
    let mean = |thread| {
        let mut call = caller(thread);
        begin.wait();
        let (began, mut made) = (Instant::now(), 0.0);
        loop {
            for _ in 0..BLOCK {
                black_box(call());
            }
            made += f64::from(BLOCK);
            let took = began.elapsed();
            if took >= round() {
                return took.as_nanos() as f64 / made;
            }
        }
    };
    let took: Vec<f64> = thread::scope(|scope| {
        let mean = &mean;
        let running: Vec<_> = (0..threads).map(|it| scope.spawn(move || mean(it))).collect();
        running.into_iter().map(|thread| thread.join().expect("no call panics")).collect()
    });
    took.iter().sum::<f64>() / threads as f64
}
