//! The stores and the migration runner against their promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gate;
mod migrate;
mod migrate_unwrapped;
mod sqlite;
mod sqlite_crash;
mod sqlite_disk;
mod sqlite_file;
mod sqlite_function;
mod sqlite_group;
