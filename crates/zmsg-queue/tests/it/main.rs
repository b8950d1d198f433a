//! The promises of zmsg-queue, signed by its backends, and the worker's own.

#![expect(clippy::unwrap_used, reason = "bodies of tests that run on each database are no tests")]

mod defects;
mod inbox;
mod memory;
mod groups;
mod sql;
mod redis;
mod shares;
mod stopping;
mod worker;
mod one_commit;
mod outbox;
mod pauses;
mod periodic;
mod nodes;
mod wakeups;
mod told;
mod unreadable;
mod killed;
mod batch;

mod clock;
mod db;
mod effect;
mod flaky;
mod handler;
mod rig;
