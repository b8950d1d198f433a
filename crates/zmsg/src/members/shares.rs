//! What an engine shares with others.

use std::fmt;

use crate::config::{Config, FilterBackend, RemoteBackend};

/// What an engine has for L2 and for a filter, as text that is equal for equal things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(super) cache: String,
    pub(super) filter: String,
}

/// What the caller brought: it agrees with everything, since nobody here can compare it.
pub(super) const OWN: &str = "own";

const IN_REDIS: &str = "redis ";

impl Shares {
    /// What a configuration names, for a database that is `shared` or not, except for what the
    /// caller brings.
    pub(crate) fn of(config: &Config, shared: bool, own_remote: bool, own_filter: bool) -> Self {
        let in_redis = || format!("{IN_REDIS}{}", config.redis.namespace);
        let cache = match config.remote_backend() {
            _ if own_remote => OWN.to_owned(),
            RemoteBackend::Redis => in_redis(),
            RemoteBackend::Auto | RemoteBackend::None => "none".to_owned(),
        };
        let filter = match config.filter_backend(shared) {
            _ if own_filter => OWN.to_owned(),
            FilterBackend::Redis => in_redis(),
            FilterBackend::Local | FilterBackend::Bloomfilter => "local".to_owned(),
            FilterBackend::Auto | FilterBackend::None => "none".to_owned(),
        };
        Self { cache, filter }
    }

    /// Whether a part of it is in the Redis of the configuration.
    pub(super) fn in_redis(&self) -> bool {
        self.cache.starts_with(IN_REDIS) || self.filter.starts_with(IN_REDIS)
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, filter } = self;
        write!(f, "cache.remote: {}, filter: {}", Part(cache), Part(filter))
    }
}

/// One of them, for people.
struct Part<'a>(&'a str);

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.strip_prefix(IN_REDIS), self.0) {
            (Some(namespace), _) => write!(f, "redis with namespace {namespace:?}"),
            (None, OWN) => f.write_str("one of the caller's own"),
            (None, other) => f.write_str(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_redis_shares_nothing() {
        let mut config = Config::default();
        config.store.url = "postgres://u@localhost/d".into();
        let shares = Shares::of(&config, true, false, false);
        assert_eq!(shares.to_string(), "cache.remote: none, filter: none");
        assert!(!shares.in_redis());
    }

    #[test]
    fn a_configuration_with_redis_shares_its_namespace() {
        let mut config = Config::default();
        config.redis.url = Some("redis://localhost".into());
        config.redis.namespace = "app".into();
        let shares = Shares::of(&config, true, false, false);
        assert!(shares.in_redis());
        let part = "redis with namespace \"app\"";
        assert_eq!(shares.to_string(), format!("cache.remote: {part}, filter: {part}"));
        let brought = Shares::of(&config, true, true, true);
        assert!(!brought.in_redis(), "what is brought is not compared: {brought}");
    }
}
