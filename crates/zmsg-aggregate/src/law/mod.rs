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
