//! The engine on PostgreSQL and Redis, with more than one node.

mod leftovers;
mod members;
mod nodes;
mod outages;

use std::time::Duration;

use zmsg::{Config, Zmsg, sql};
use zmsg_testbed::Database;

/// A database of its own on the shared server, and a namespace of its own in Redis.
pub(crate) struct Servers {
    pub(crate) database: Database,
    pub(crate) redis: String,
    pub(crate) namespace: String,
}

impl Servers {
    /// `None`, with a word about it, where a server is missing that nobody required.
    pub(crate) async fn ready() -> Option<Self> {
        let (postgres, redis) = (zmsg_testbed::postgres()?, zmsg_testbed::redis()?);
        let database = postgres.database().await;
        Some(Self { database, redis: redis.url().to_owned(), namespace: redis.namespace() })
    }

    pub(crate) fn config(&self) -> Config {
        config(self.database.url(), &self.redis, &self.namespace)
    }

    /// A node with a table `feeds` that serves the keys `feed_…`.
    pub(crate) async fn node(&self) -> Zmsg {
        open(self.config()).await
    }
}

/// A configuration for tests: the periodic route flushes only when it is told to.
pub(crate) fn config(postgres: &str, redis: &str, namespace: &str) -> Config {
    let mut config = Config::default();
    config.store.url = postgres.to_owned();
    config.store.connections_max = 8;
    config.redis.url = Some(redis.to_owned());
    config.redis.namespace = namespace.to_owned();
    config.periodic.interval = Duration::from_secs(3600);
    config.periodic.age_max = Duration::from_secs(3600);
    config.queue.delay = Duration::ZERO;
    config
}

/// An engine with a table `feeds` that serves the keys `feed_…`.
pub(crate) async fn open(config: Config) -> Zmsg {
    let zmsg = Zmsg::open(config).await.unwrap();
    let schema = tempfile::tempdir().unwrap();
    let create = "CREATE TABLE feeds (id TEXT PRIMARY KEY, data TEXT, likes BIGINT, meta JSONB)";
    std::fs::write(schema.path().join("1_feeds.sql"), create).unwrap();
    zmsg.load_dir(schema.path()).migrate().await.unwrap();
    let source = zmsg::Source::sql("feed", "SELECT data FROM feeds WHERE id = ?");
    zmsg.register(source.keys("SELECT id FROM feeds")).unwrap();
    zmsg
}

/// Past every cache.
pub(crate) async fn number(zmsg: &Zmsg, query: &str) -> i64 {
    zmsg.sql_exec(sql(query, ())).await.unwrap().rows[0].int(0).unwrap()
}
