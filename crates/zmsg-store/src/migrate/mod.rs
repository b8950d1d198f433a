//! Migrations: scripts that bring a database to its present form, each applied once.
//!
//! Scripts come in ordered sets ([`Migrations`]): zmsg's own tables, embedded here, and any
//! folder of the user's. A [`Migrator`] applies one set to one store and keeps its history in
//! the table `zmsg_migrations`, where several sets live side by side.
//!
//! - A script and its row of history are one transaction: it is applied whole and once, by
//!   whichever of several runners comes first.
//! - A script whose first line is `-- zmsg:no-transaction` runs statement by statement, and an
//!   interrupted run resumes at the statement that it had not finished.
//! - Before anything runs, the set is compared with the history: a script that was edited or
//!   removed after it was applied, or that would be applied after a newer one, is an error.

mod checksum;
mod create;
mod folder;
mod history;
mod migrator;
mod plan;
mod set;
mod status;
mod unwrapped;

pub use self::create::create;
pub use self::migrator::{Migrator, Report};
pub use self::plan::{Direction, Plan};
pub use self::set::{Migration, Migrations};
pub use self::status::{State, Status};
