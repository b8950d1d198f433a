//! Relational stores behind one trait, and the migration runner.
//!
//! [`SqlStore`] is what the engine asks of a database; [`SqliteStore`] is the embedded one. The
//! [`Migrator`] brings the tables of zmsg and of its users to the state of their scripts.

mod function;
mod store;
mod stats;
mod notifications;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod counters;

#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "postgres")]
mod postgres;

#[cfg(feature = "diesel")]
pub mod diesel;

pub mod migrate;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use function::ScalarFunction;
pub use migrate::{Migrations, Migrator};
pub use notifications::{Notification, Notifications, Notifier};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore, TlsMode};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore, Synchronous};
pub use stats::StoreStats;
pub use store::{Expect, Otherwise, Outcome, SqlStore, Step, StepError};
