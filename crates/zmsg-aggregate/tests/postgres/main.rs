//! The aggregator on a real PostgreSQL: what holds on SQLite, and what only a server can do wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../it/database.rs"]
mod database;
#[path = "../it/disk.rs"]
mod disk;
#[path = "../it/flaky.rs"]
mod flaky;

#[path = "../it/dead_letters.rs"]
mod dead_letters;
#[path = "../it/exactly_once.rs"]
mod exactly_once;
#[path = "../it/folding.rs"]
mod folding;
#[path = "../it/journal.rs"]
mod journal;
#[path = "../it/journal_disk.rs"]
mod journal_disk;
#[path = "../it/refused.rs"]
mod refused;

mod bulk;
mod columns;

mod server;

mod faults;
mod million;
mod again_and_again;

/// Whether this suite runs on PostgreSQL; else it runs on SQLite.
const ON_A_SERVER: bool = true;
