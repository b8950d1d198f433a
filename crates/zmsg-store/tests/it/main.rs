//! The stores and the migration runner against their promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod diesel_statement;
mod gate;
mod migrate;
mod migrate_unwrapped;
mod postgres;
mod postgres_faults;
mod postgres_listen;
mod postgres_pooler;
mod postgres_session;
mod postgres_tls;
mod postgres_values;
mod sqlite;
mod sqlite_crash;
mod sqlite_disk;
mod sqlite_file;
mod sqlite_function;
mod sqlite_group;
