//! The aggregator on a real SQLite file, with faults between the two.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod database;
mod disk;
mod flaky;

mod dead_letters;
mod exactly_once;
mod folding;
mod journal;
mod journal_disk;
mod refused;
mod sqlite;
mod timing;

/// Whether this suite runs on PostgreSQL; else it runs on SQLite.
const ON_A_SERVER: bool = false;
