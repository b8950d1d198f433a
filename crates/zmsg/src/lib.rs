//! A storage engine for messages, feeds and counters.
//!
//! An application writes through zmsg and reads through zmsg, and zmsg keeps the database correct
//! and idle: caches in two tiers before it, three ways to write, ids without a round trip, a
//! filter that never gives a false "absent", and a receipt for every write that says how durable
//! it is.
//!
//! ```
//! use std::time::Duration;
//! use zmsg::{Config, Zmsg, counter, sql};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> zmsg::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! let zmsg = Zmsg::open(Config::embedded(directory)).await?;
//! zmsg.sql_exec(sql("CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes INTEGER)", ())).await?;
//! zmsg.source("feed", "SELECT data FROM feeds WHERE id = ?")?;
//!
//! let id = zmsg.next_id("feed").await?; // feed_<snowflake>
//! let insert = sql("INSERT INTO feeds (id, data) VALUES (?, ?)", (&id, "hello"));
//! zmsg.cache_and_store(&id, "hello", insert).await?; // committed
//!
//! for _ in 0..1000 {
//!     let like = counter("feeds", "likes").inc(1).where_eq("id", &id);
//!     zmsg.cache_and_periodic_store(&id, None, like).await?; // folded: one UPDATE in all
//! }
//! assert_eq!(zmsg.get(&id).await?.as_deref(), Some(&b"hello"[..]));
//! let report = zmsg.close(Duration::from_secs(5)).await?;
//! assert!(report.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! The crates behind the facade can be used alone; they are re-exported under their short names.

mod zmsg; // start here: every call is a method of the handle
mod read;
mod source;
mod write;
mod apply;
mod worker;
mod repair;
mod codec;
mod seal;
mod pending;
mod payload;
mod dead;
mod migrate;
mod upkeep;
mod filter_state;
mod shared_filters;
mod members;
mod flush_notes;
mod receipts;
mod tasks;
mod close;
mod journal;
mod sabotage;
mod lock;
mod stats;
mod config;
mod builder;
mod open;
mod assemble;
mod database;

pub mod doctor;

pub use builder::Builder;
pub use close::CloseReport;
pub use config::{
    ByteSize, CacheConfig, Config, FilterBackend, FilterConfig, IdsConfig, JournalMode,
    LeaseBackend, LocalBackend, PeriodicConfig, QueueBackend, QueueConfig, RedisConfig,
    RemoteBackend, Secret, SettingDoc, SourceConfig, StoreConfig, Synchronous, setting_docs,
};
#[cfg(feature = "redis")]
pub use database::open_redis;
pub use database::open_store;
pub use dead::{DeadLetter, DeadLetterId, DeadLetters};
pub use lock::FileLock;
pub use migrate::SchemaDir;
pub use payload::IntoBytes;
pub use read::Presence;
pub use shared_filters::{BehindFilters, distrust_filters};
pub use source::Source;
#[cfg(feature = "redis")]
pub use stats::RedisReading;
pub use stats::Stats;
pub use write::{Outbox, SqlResult, Write};
pub use zmsg::Zmsg;

pub use zmsg_core::{
    Error, ErrorKind, ErrorStatus, IntoTask, Key, Level, OnMissing, Receipt, Result, Row, TaskId,
    Timestamp, Value,
};
pub use zmsg_idgen::Id;
pub use zmsg_queue::OnDead;
pub use zmsg_sqlbuilder::{Sql, counter, map, slice, sql, table};

pub use {
    zmsg_aggregate as aggregate, zmsg_bloom as bloom, zmsg_cache as cache, zmsg_core as core,
    zmsg_idgen as idgen, zmsg_queue as queue, zmsg_sqlbuilder as sqlbuilder, zmsg_store as store,
};

#[cfg(feature = "redis")]
pub use zmsg_redis as redis;
