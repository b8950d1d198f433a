//! The promises of the filters, and what is special to each.

#![allow(clippy::unwrap_used, reason = "a test panics where a promise is broken")]

mod layout;
mod local;
mod model;
mod open;
