//! The algebra of foldable operations, the sharded buffer, and its flusher.
//!
//! An [`Aggregator`] takes operations and folds them in memory by the law of [`algebra`]; its
//! [`Flusher`] seals a shard whole and brings it into the database in one transaction, together
//! with the move of a ledger row that makes the effect exactly-once. What the database refuses
//! goes to the [`DeadLetters`] in that same transaction, and the rest goes on.

mod aggregator; // start here
mod policy;
mod report;
mod stats;

pub mod algebra;
mod buffer;

mod deadline;
mod sabotage;
mod flusher;
mod lane;

mod flush;
mod journal;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(test)]
mod law;

pub use aggregator::{Aggregator, Submitted};
pub use algebra::{Fold, sqlite_functions};
pub use flush::{
    DeadLetter, DeadLetters, FlushGuard, FlushObserver, Flushing, Hold, RetryReport, Unobserved,
    steps_for,
};
pub use flusher::Flusher;
pub use journal::{Journal, JournalOptions, JournalSync, Journaled, Recovered, Recovery};
pub use policy::FlushPolicy;
pub use report::{CloseReport, FlushReport};
pub use stats::AggregateStats;
