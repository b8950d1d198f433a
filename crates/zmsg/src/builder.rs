//! Opens an engine: from its configuration, with any part replaced by one of the caller's own.

use std::sync::Arc;

use zmsg_bloom::MembershipFilter;
use zmsg_cache::{LocalCache, RemoteCache};
use zmsg_core::{Clock, Error, Result, SystemClock};
use zmsg_idgen::NodeLease;
use zmsg_queue::TaskQueue;
use zmsg_store::{Migrations, Migrator, SqlStore};

use crate::Zmsg;
use crate::assemble;
use crate::config::{Config, FilterBackend};
use crate::lock::FileLock;
use crate::open::Parts;

/// Builds an engine. Parts that are not given are made from the configuration.
///
/// ```
/// # use std::sync::Arc;
/// # use zmsg::{Config, Zmsg, cache::MemoryRemote, core::SystemClock};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> zmsg::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// let zmsg = Zmsg::builder(Config::embedded(directory.path()))
///     .remote_cache(Arc::new(MemoryRemote::new(Arc::new(SystemClock))))
///     .open()
///     .await?;
/// zmsg.put("greeting", "hello").await?;
/// assert_eq!(zmsg.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
/// # let _ = zmsg.close(std::time::Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct Builder {
    config: Config,
    clock: Arc<dyn Clock>,
    store: Option<Arc<dyn SqlStore>>,
    local: Option<Arc<dyn LocalCache>>,
    remote: Option<Arc<dyn RemoteCache>>,
    filter: Option<Arc<dyn MembershipFilter>>,
    queue: Option<Arc<dyn TaskQueue>>,
    lease: Option<Arc<dyn NodeLease>>,
}

macro_rules! parts {
    ($($name:ident: $part:ty, $doc:literal;)*) => {$(
        #[doc = $doc]
        pub fn $name(mut self, $name: Arc<$part>) -> Self {
            self.$name = Some($name);
            self
        }
    )*};
}

impl Builder {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            clock: Arc::new(SystemClock),
            store: None,
            local: None,
            remote: None,
            filter: None,
            queue: None,
            lease: None,
        }
    }

    parts! {
        store: dyn SqlStore, "The database. A SQLite store needs the functions of `zmsg::aggregate::sqlite_functions`.";
        local: dyn LocalCache, "The cache in this process (L1).";
        remote: dyn RemoteCache, "The cache that nodes share (L2).";
        filter: dyn MembershipFilter, "The membership filter.";
        queue: dyn TaskQueue, "The task queue of the delayed route.";
        lease: dyn NodeLease, "Where the node number of ids comes from.";
    }

    /// The cache that nodes share (L2); the same as [`remote`](Self::remote).
    pub fn remote_cache(self, remote: Arc<dyn RemoteCache>) -> Self {
        self.remote(remote)
    }

    /// The clocks.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the engine: locks the directory, opens the store and its tables, starts the loops.
    ///
    /// # Errors
    /// As for [`Zmsg::open`].
    pub async fn open(self) -> Result<Zmsg> {
        let Self { config, clock, store, local, remote, filter, queue, lease } = self;
        config.validate()?;
        if store.is_some() && filter.is_none() {
            check_filter_of_a_given_store(&config)?;
        }
        let locks = Arc::new(locks(&config, store.is_none())?);
        let store = match store {
            Some(store) => store,
            None => assemble::store(&config).await?,
        };
        if config.store.migrate {
            Migrator::new(Arc::clone(&store), Migrations::zmsg(store.dialect())).up().await?;
        }
        let local = local.unwrap_or_else(|| assemble::local(&config));
        let remote = remote.unwrap_or_else(assemble::remote);
        let filter = filter.map_or_else(|| assemble::filter(&config), Ok)?;
        let queue = queue.map_or_else(|| assemble::queue(&config, &store, &clock), Ok)?;
        let lease = lease.map_or_else(|| assemble::lease(&config), Ok)?;
        let parts = Parts { config, clock, locks, store, local, remote, filter, queue, lease };
        parts.open().await
    }
}

/// The directory, and the database file unless the caller brought the store: alone if a filter
/// of this process has to know of every write to it.
fn locks(config: &Config, own_store: bool) -> Result<Vec<FileLock>> {
    let mut locks = vec![FileLock::directory(&config.directory)?];
    if let Some(path) = config.sqlite_path().filter(|_| own_store) {
        let alone = config.filter.backend == FilterBackend::Local;
        locks.push(FileLock::database(&path, alone)?);
    }
    Ok(locks)
}

/// A store that the caller brought may be shared, whatever the configuration says of its own.
fn check_filter_of_a_given_store(config: &Config) -> Result<()> {
    if config.filter.backend == FilterBackend::Local && !config.filter.single_node {
        return Err(Error::invalid_config(
            "a local filter on a store of your own would call the rows of other processes absent: \
             set filter.single_node to true if this is the only process, set filter.backend to \
             none, or bring a filter",
        ));
    }
    Ok(())
}
