//! The promises of the builders, on their text and on SQLite's own parser.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod render;
mod script;

mod refusal;
mod statement;

mod operation;

mod hostile;
mod property;
mod sqlite;
