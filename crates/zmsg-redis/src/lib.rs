//! One shared way to Redis for all parts of zmsg that need it.
//!
//! A [`Redis`] is opened with [`RedisOptions`], one server, one that sentinels name, or a
//! cluster, and handed to the cache, the filter and the queue. Its connections are multiplexed:
//! calls from many tasks travel by the same few, which carries an order of magnitude more than
//! checking connections out of a pool. Pools are for commands that block; [`Connector`] is their
//! manager.
//!
//! Read it in this order.

mod client;

mod options;
mod url;
mod address;

mod key;
mod script;
mod each;
mod subscription;

mod line;
mod connector;
mod sentinel;
mod history;
mod server_clock;

mod breaker;
mod failure;
mod health;

pub use redis;

pub use address::Address;
pub use client::Redis;
pub use connector::{Connector, Link};
pub use health::{Health, RedisStats};
pub use history::{History, HistoryScript, Present};
pub use key::RedisKey;
pub use options::{BreakerPolicy, Certificates, Login, Plaintext, RedisOptions, Topology};
pub use script::Script;
pub use server_clock::ServerClock;
pub use subscription::Subscription;
