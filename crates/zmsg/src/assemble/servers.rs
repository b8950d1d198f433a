//! What is shared with other nodes outside of the database: Redis, if a configuration names one.

use std::sync::Arc;

use tokio_util::task::TaskTracker;
use zmsg_cache::{NoRemote, RemoteCache};
use zmsg_core::Result;

use crate::config::{Config, RemoteBackend};

/// The connections of an engine: made once, closed last.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    /// Drives the connections; not the tracker of the engine's work, which ends before them.
    connections: TaskTracker,
    #[cfg(feature = "redis")]
    redis: Option<zmsg_redis::Redis>,
}

impl Servers {
    /// Redis need not be there: the engine then works without it, and says so.
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let connections = TaskTracker::new();
        #[cfg(feature = "redis")]
        let redis = redis(config, &connections)?;
        #[cfg(not(feature = "redis"))]
        if config.redis.url.is_some() {
            return Err(super::without("redis.url", "redis"));
        }
        Ok(Self {
            connections,
            #[cfg(feature = "redis")]
            redis,
        })
    }

    pub(crate) fn connections(&self) -> &TaskTracker {
        &self.connections
    }

    /// Whether calls to L2 are let through, as far as this knows: of one that the caller brought it
    /// knows nothing.
    pub(crate) fn remote_is_up(&self) -> bool {
        #[cfg(feature = "redis")]
        return self.redis.as_ref().is_none_or(|redis| redis.health().is_up());
        #[cfg(not(feature = "redis"))]
        true
    }

    /// Closes what the engine's parts no longer need.
    pub(crate) async fn close(&self) {
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.redis {
            redis.close();
        }
        self.connections.close();
        self.connections.wait().await;
    }
}

#[cfg(feature = "redis")]
impl Servers {
    /// Redis, for the setting that asks for it.
    pub(crate) fn redis(&self, path: &str) -> Result<zmsg_redis::Redis> {
        let missing = || zmsg_core::Error::invalid_config(format!("{path}: redis.url is missing"));
        self.redis.clone().ok_or_else(missing)
    }

    /// What the client of Redis has done.
    pub(crate) fn redis_stats(&self) -> Option<crate::stats::RedisReading> {
        let redis = self.redis.as_ref()?;
        Some(crate::stats::RedisReading { up: redis.health().is_up(), calls: redis.stats() })
    }
}

/// The Redis that a configuration names, if it names one.
#[cfg(feature = "redis")]
pub(crate) fn redis(
    config: &Config,
    connections: &TaskTracker,
) -> Result<Option<zmsg_redis::Redis>> {
    use zmsg_redis::{Certificates, Plaintext, Redis, RedisOptions};

    let redis = &config.redis;
    let Some(url) = &redis.url else { return Ok(None) };
    let mut options =
        RedisOptions::from_url(url).map_err(|error| error.with_context("key", "redis.url"))?;
    let password = super::password(redis.password.as_ref(), redis.password_file.as_deref())?;
    if let Some(password) = password {
        options.login.password = Some(password.into());
    }
    if let Some(ca_file) = &redis.ca_file {
        options.certificates = Certificates::File(ca_file.clone());
    }
    if redis.allow_plaintext {
        options.plaintext = Plaintext::Anywhere;
    }
    options.namespace.clone_from(&redis.namespace);
    options.connections = redis.connections;
    options.deadline = redis.deadline;
    Redis::open(options, connections).map(Some)
}

/// L2, where nodes share values.
pub(crate) fn remote(config: &Config, servers: &Servers) -> Result<Arc<dyn RemoteCache>> {
    match config.remote_backend() {
        RemoteBackend::Auto | RemoteBackend::None => Ok(Arc::new(NoRemote)),
        RemoteBackend::Redis => redis_cache(servers),
    }
}

#[cfg(feature = "redis")]
fn redis_cache(servers: &Servers) -> Result<Arc<dyn RemoteCache>> {
    Ok(Arc::new(zmsg_cache::RedisCache::new(servers.redis("cache.remote.backend")?)))
}

#[cfg(not(feature = "redis"))]
fn redis_cache(_servers: &Servers) -> Result<Arc<dyn RemoteCache>> {
    Err(super::without("cache.remote.backend", "redis"))
}
