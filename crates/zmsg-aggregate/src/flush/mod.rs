//! The flush: a seal becomes one transaction, exactly once.
//!
//! [`Flight`] takes a seal through its attempts; [`Group`] is what becomes one statement, or a row
//! of one; `ledger` is the compare-and-set that makes the effect exactly-once; `letter` keeps what
//! the database refuses, with a `payload` to try it again; `isolate` finds it where the database
//! does not say which it was, from what is `parked`; `suspicion` says when an operation that only
//! runs for too long is to blame.
//!
//! A group by itself is written by `steps`, for any column of any table. On PostgreSQL `plan` puts
//! groups together that `bulk` writes as one statement, where the server's `catalog` says that
//! their rows can be told apart. Bulk statements only save time: what one of them refuses is sent
//! in smaller parts, and in the end group by group.

mod flight; // start here
mod script;

mod group;
mod lock_order;

mod call;
mod steps;
mod upsert;

mod bulk;
mod catalog;
mod plan;

mod ledger;

mod isolate;
mod letter;
mod parked;
mod payload;
mod suspicion;
mod unpark;
mod verdict;

mod observer;

pub use letter::{DeadLetter, DeadLetters, RetryReport};
pub use observer::{FlushGuard, FlushObserver, Flushing, Hold, Unobserved};
pub use steps::steps_for;

pub(crate) use flight::{Flight, Landing};
pub(crate) use ledger::Ledger;
pub(crate) use unpark::unpark;

#[cfg(test)]
pub(crate) use group::merge;
