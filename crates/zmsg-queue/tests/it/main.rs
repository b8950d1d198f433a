//! The promises of zmsg-queue, signed by its backends, and the worker's own.

mod defects;
mod inbox;
mod memory;
mod sql;
mod stopping;
mod worker;

mod clock;
mod effect;
mod flaky;
mod handler;
mod rig;
