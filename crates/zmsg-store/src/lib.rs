//! Relational stores behind one trait, and the migration runner.
//!
//! [`SqlStore`] is what the engine asks of a database; [`SqliteStore`] is the embedded one. The
//! [`Migrator`] brings the tables of zmsg and of its users to the state of their scripts.

mod function;
mod store;
mod stats;

#[cfg(feature = "sqlite")]
mod sqlite;

pub mod migrate;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use function::ScalarFunction;
pub use migrate::{Migrations, Migrator};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore, Synchronous};
pub use stats::StoreStats;
pub use store::{Expect, Otherwise, Outcome, SqlStore, Step, StepError};
