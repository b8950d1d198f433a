//! The journal: operations are on the disk before they are acknowledged.
//!
//! Each start of a process writes a stream of its own, a log in a directory of its own. An operation
//! is appended and folded under the lock of its shard, so replaying a shard's records in order folds
//! what was folded live; the number that the log gives it is its number in the shard, and the ledger
//! row of the shard says in the database up to which number everything has taken effect.
//!
//! So a process that was killed is continued by reading: what lies above the ledger is folded again
//! and flushed under the name of the stream that ended, with the same compare-and-set. Whoever tries
//! that twice, or at the same time, applies nothing twice.
//!
//! A stream is removed when nothing of it is pending: its directory gets a name that says so, its files
//! go, then its ledger rows, then the directory. In another order a kill in between would leave records
//! without the rows that say what was applied, or rows that nobody forgets.

mod open; // start here
mod record;
mod recovery;
mod streams;

pub(crate) use open::bury;
pub use open::{Journal, JournalOptions, JournalSync, Journaled};
#[cfg(feature = "testing")]
pub use record::check_journal_record;
pub use recovery::{Recovered, Recovery};
