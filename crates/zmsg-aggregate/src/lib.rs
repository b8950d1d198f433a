//! The algebra of foldable operations, the sharded buffer, and its flusher.

mod aggregator; // start here
mod policy;
mod report;
mod stats;

pub mod algebra;
mod buffer;

mod deadline;
mod flusher;
mod lane;

mod flush;

#[cfg(test)]
mod law;

pub use aggregator::Aggregator;
pub use algebra::{Fold, sqlite_functions};
pub use flush::{
    DeadLetter, DeadLetters, FlushGuard, FlushObserver, RetryReport, Unobserved, steps_for,
};
pub use flusher::Flusher;
pub use policy::FlushPolicy;
pub use report::{CloseReport, FlushReport};
pub use stats::AggregateStats;
