//! The servers that are harmed, and what stands before them.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use zmsg_testbed::private::{
    Binaries, PostgresOptions, PrivatePostgres, PrivateRedis, RedisOptions,
};
use zmsg_testbed::{Database, Postgres, Proxy};

use super::redises::Redises;
use crate::feed::Place;

/// PostgreSQL and Redis of our own, each behind a proxy. Scenarios share them, one after the
/// other, each with a database and a namespace of its own.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) postgres: PrivatePostgres,
    pub(super) redis: PrivateRedis,
    pub(super) before_postgres: Proxy,
    pub(super) before_redis: Proxy,
    /// The program, for scenarios that need more of them.
    pub(super) redis_server: PathBuf,
}

impl Servers {
    /// Starts both.
    ///
    /// # Errors
    /// If one does not start.
    pub(super) fn start(binaries: &Binaries) -> Result<Self> {
        let programs = binaries.postgres.as_deref().context("there is no PostgreSQL")?;
        // Deadlocks are found as soon as they are there, not a second later.
        let options = PostgresOptions::new().setting("deadlock_timeout", "50ms");
        let postgres = PrivatePostgres::launch(programs, &options)?;
        let program = binaries.redis.as_deref().context("there is no redis-server")?;
        let redis = PrivateRedis::launch(program, &RedisOptions::new())?;
        let before_postgres = Proxy::before(&postgres.url());
        let before_redis = Proxy::before(&redis.url());
        let redis_server = program.to_owned();
        Ok(Self { postgres, redis, before_postgres, before_redis, redis_server })
    }

    /// An empty database, dropped with the returned value.
    ///
    /// # Errors
    /// If there can be no runtime.
    pub(super) fn database(&self) -> Result<Database> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(Postgres::at(self.postgres.url()).database()))
    }

    /// Where the engine finds this database, and Redis: through the proxies, but for servers that
    /// tell their addresses themselves.
    pub(super) fn place(&self, database: &Database, redises: &Redises) -> Place {
        let shared = || self.before_redis.url(&self.redis.url());
        Place {
            postgres: database.url_at(self.before_postgres.addr()),
            redis: redises.url().unwrap_or_else(shared),
            namespace: database.name().to_owned(),
        }
    }

    /// The ends of the logs, for those who look for a cause.
    pub(super) fn log_tails(&self) -> String {
        let postgres = tail(&self.postgres.log(), 30);
        format!("PostgreSQL:\n{postgres}\nRedis:\n{}", tail(&self.redis.log(), 15))
    }
}

/// The last lines of a text.
pub(super) fn tail(text: &str, lines_max: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}
