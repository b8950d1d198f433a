//! Allocations of one call, and the bytes of them: counts, which no machine changes.
//!
//! What the thread of the caller allocates is counted, and what a call starts on it. The threads of SQLite
//! and of the log are their own, and what SQLite itself takes is C's.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod subjects;

use allocation_counter::measure;
use subjects::{SUBJECTS, Subject};
use zmsg_benches::{Case, Figures, Unit, is_quick};

const ROUNDS: usize = 7;

fn main() {
    let Some(mut figures) = Figures::of("allocations") else { return };
    for subject in &SUBJECTS {
        count(&mut figures, subject);
    }
}

fn count(figures: &mut Figures, subject: &Subject) {
    let calls = if is_quick() { 500 } else { 10_000 };
    let mut call = subject.warm();
    let rounds = (0..ROUNDS).map(|_| measure(|| (0..calls).for_each(|_| call())));
    let each = |total: u64| total as f64 / f64::from(calls);
    let (allocations, bytes) =
        rounds.map(|found| (each(found.count_total), each(found.bytes_total))).unzip();
    figures.record(&Case::new(subject.what), subject.who, Unit::Allocations, allocations);
    let case = Case::new(format!("{}, bytes", subject.what));
    figures.record(&case, subject.who, Unit::Bytes, bytes);
}
