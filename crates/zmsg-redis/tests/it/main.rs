//! `Redis` against real servers. Without `ZMSG_TEST_REDIS_URL` and `redis-server` on the path the
//! tests say what they leave out.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

mod calls;
mod scripts;
mod refusals;

mod recovery;
mod history;
mod breaker;
mod pool;

mod access;
mod tls;
mod sentinel;
mod cluster;
