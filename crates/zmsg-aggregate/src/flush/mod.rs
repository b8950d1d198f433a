//! The flush: a seal becomes one transaction, exactly once.
//!
//! [`Flight`] takes a seal through its attempts; [`Group`] is what becomes one statement;
//! `ledger` is the compare-and-set that makes the effect exactly-once; `letter` keeps what the
//! database refuses, with a `payload` to try it again; `isolate` finds it where the database does
//! not say which it was.

mod flight; // start here

mod group;
mod ledger;
mod steps;

mod isolate;
mod letter;
mod payload;
mod verdict;

mod observer;

pub use letter::{DeadLetter, DeadLetters, RetryReport};
pub use observer::{FlushGuard, FlushObserver, Unobserved};
pub use steps::steps_for;

pub(crate) use flight::{Flight, Landing};
pub(crate) use ledger::Ledger;
pub(crate) use steps::check_dialect;

#[cfg(test)]
pub(crate) use group::merge;
