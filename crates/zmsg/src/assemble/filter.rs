//! The membership filter that a configuration names.

use std::sync::Arc;

use zmsg_bloom::shared::{FilterKeeper, SharedFilter};
use zmsg_bloom::{FilterOptions, LocalFilter, MembershipFilter, OpenFilter};
use zmsg_core::{Clock, Result};
use zmsg_store::SqlStore;

use super::Servers;
use crate::config::{Config, FilterBackend};
use crate::filter_state::SqlFilterRegistry;

/// A filter, and what one that nodes share needs besides.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) filter: Arc<dyn MembershipFilter>,
    /// The state in the database, if nodes share it.
    pub(crate) registry: Option<Arc<SqlFilterRegistry>>,
    shared: Option<SharedFilter>,
}

impl Filter {
    /// A filter of one process, or one that the caller brought.
    pub(crate) fn alone(filter: Arc<dyn MembershipFilter>) -> Self {
        Self { filter, registry: None, shared: None }
    }

    /// The loop that keeps the lease of a shared state.
    pub(crate) fn keeper(&self) -> Option<FilterKeeper> {
        self.shared.as_ref().map(SharedFilter::keeper)
    }
}

/// The filter, for a database that is `shared` or not.
pub(crate) fn filter(
    config: &Config,
    shared: bool,
    store: &Arc<dyn SqlStore>,
    servers: &Servers,
    clock: &Arc<dyn Clock>,
) -> Result<Filter> {
    let options = FilterOptions {
        capacity: config.filter.capacity,
        error_rate: config.filter.error_rate,
        ..FilterOptions::default()
    };
    match config.filter_backend(shared) {
        FilterBackend::Auto | FilterBackend::None => Ok(Filter::alone(Arc::new(OpenFilter))),
        FilterBackend::Local => Ok(Filter::alone(Arc::new(<LocalFilter>::new(options)?))),
        FilterBackend::Bloomfilter => bloomfilter(options),
        FilterBackend::Redis => in_redis(config, store, servers, clock),
    }
}

#[cfg(feature = "bloomfilter")]
fn bloomfilter(options: FilterOptions) -> Result<Filter> {
    Ok(Filter::alone(Arc::new(zmsg_bloom::ClassicFilter::with_options(options)?)))
}

#[cfg(not(feature = "bloomfilter"))]
fn bloomfilter(_options: FilterOptions) -> Result<Filter> {
    Err(super::without("filter.backend", "bloomfilter"))
}

#[cfg(feature = "redis")]
fn in_redis(
    config: &Config,
    store: &Arc<dyn SqlStore>,
    servers: &Servers,
    clock: &Arc<dyn Clock>,
) -> Result<Filter> {
    use zmsg_bloom::shared::{RedisBits, SharedOptions};

    // One filter for all nodes of a namespace, whatever sources each of them has.
    let name = format!("{}:main", config.redis.namespace);
    let bits = RedisBits::new(servers.redis("filter.backend")?, "main");
    let registry = Arc::new(SqlFilterRegistry::new(Arc::clone(store), name));
    let options = SharedOptions {
        capacity: config.filter.capacity,
        error_rate: config.filter.error_rate,
        ..SharedOptions::default()
    };
    let shared =
        SharedFilter::new(Arc::clone(&registry) as _, Arc::new(bits), Arc::clone(clock), options)?;
    let filter = Arc::new(shared.clone());
    Ok(Filter { filter, registry: Some(registry), shared: Some(shared) })
}

#[cfg(not(feature = "redis"))]
fn in_redis(
    _config: &Config,
    _store: &Arc<dyn SqlStore>,
    _servers: &Servers,
    _clock: &Arc<dyn Clock>,
) -> Result<Filter> {
    Err(super::without("filter.backend", "redis"))
}
