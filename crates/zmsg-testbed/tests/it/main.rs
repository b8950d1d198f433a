//! The proxy and the private servers, as tests of other crates use them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod proxy;
mod private_postgres;
mod private_redis;
mod killed;
