//! The promises of the filters, and what is special to each.

#![allow(clippy::unwrap_used, reason = "a test panics where a promise is broken")]

#[cfg(feature = "bloomfilter")]
mod classic;
mod layout;
mod local;
mod model;
mod open;
mod shared;
