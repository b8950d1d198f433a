//! The law, proved on random sequences: folded = one by one.
//!
//! [`write`] makes random sequences of writes on a small table, [`table`] is a model of that
//! table which executes them one by one with unbounded arithmetic, and [`memory`] and [`store`]
//! compare it, and each other, with what the buffer and a flush make of the same sequence.

mod document;
mod family;
mod memory;
mod store;
mod table;
mod write;

/// The tasks of a random sequence, on a table `t`.
pub(crate) fn sequence_of_tasks(seed: u64) -> Vec<zmsg_core::Task> {
    let (_rows, writes) = write::sequence(&mut fastrand::Rng::with_seed(seed));
    writes.iter().map(|write| write.task("t")).collect()
}
