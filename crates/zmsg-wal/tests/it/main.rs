//! The log on real files, and on a disk in memory that fails and loses its power.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aftermath;
mod basics;
mod damage;
mod descriptors;
mod durability;
mod faults;
mod forgery;
mod formats;
mod full_disk;
mod power_cut;
mod processes;
mod reading;
mod removal;
mod repair;
mod support;
