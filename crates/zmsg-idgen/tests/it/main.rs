//! The promises of ids and node leases, on real files and moved clocks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backends;
mod clocks;
mod generator;
mod ids;
mod killed;
mod layouts;
mod leases;
mod many;
mod sql;
mod threads;
