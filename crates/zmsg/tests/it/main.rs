//! The engine as an application sees it, on its embedded default.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(clippy::disallowed_methods, reason = "tests own the tasks that they spawn")]

mod support;
mod between;
mod reads;
mod store_route;
mod delayed_route;
mod lanes;
mod periodic_route;
mod sources;
mod filter;
mod raw_sql;
mod dead_letters;
mod migrations;
mod faults;
mod cancel;
mod closing;
mod journal;
mod kills;
mod servers;
#[cfg(feature = "redis")]
mod redis_queue;
#[cfg(feature = "cli")]
mod admin;
mod documents;
