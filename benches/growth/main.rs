//! How cost grows with the size of the work: with keys in L1, with groups that wait to be flushed, with
//! tasks that call at once, with the length of a log that is opened again.
//!
//! A line of figures over an axis says more here than any one of them: what stays level needs no plan.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod caches; // start here
mod keys;
mod pending;
mod recovery;
mod tasks;

use zmsg_benches::{Figures, is_quick};

fn main() {
    let Some(mut figures) = Figures::of("growth") else { return };
    keys::measure(&mut figures);
    tasks::measure(&mut figures);
    pending::measure(&mut figures);
    recovery::measure(&mut figures);
}

/// All points of an axis, or the smallest ones in a run that only shows that everything works.
fn points(all: &[u64]) -> &[u64] {
    if is_quick() { &all[..2.min(all.len())] } else { all }
}
