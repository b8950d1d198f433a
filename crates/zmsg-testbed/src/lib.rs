//! Servers for the tests: found, started privately, killed, and reached through a faulty proxy.
//!
//! A test asks for what it needs and is left out where that is missing:
//!
//! ```no_run
//! # async fn example() {
//! let Some(server) = zmsg_testbed::postgres() else { return };
//! let database = server.database().await;
//! println!("{}", database.url());
//! # }
//! ```
//!
//! `ZMSG_TEST_REQUIRE=postgres,redis,binaries,go` turns leaving out into failing. Functions of this
//! crate panic when a server that should be there does not work: they are called by tests.

mod required;
mod redis;
#[cfg(feature = "net")]
mod postgres;
#[cfg(feature = "net")]
mod proxy;
#[cfg(feature = "net")]
mod url;
mod random;
pub mod private;

#[cfg(feature = "net")]
pub use postgres::{Database, Postgres, postgres};
#[cfg(feature = "net")]
pub use proxy::{Proxy, ProxyCounts, Repeat};
pub use redis::{Redis, redis};
pub use required::{POSTGRES_URL, REDIS_URL, REQUIRE, Requirement};
