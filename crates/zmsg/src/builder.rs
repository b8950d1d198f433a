//! Opens an engine: from its configuration, with any part replaced by one of the caller's own.

use std::sync::Arc;

use zmsg_bloom::MembershipFilter;
use zmsg_cache::{LocalCache, RemoteCache};
use zmsg_core::{Clock, Error, Result, SystemClock};
use zmsg_idgen::NodeLease;
use zmsg_queue::TaskQueue;
use zmsg_store::{Migrations, Migrator, SqlStore};

use crate::Zmsg;
use crate::assemble::{self, Filter, Servers};
use crate::config::Config;
use crate::lock::FileLock;
use crate::members::{Member, Shares};
use crate::open::Parts;
use crate::shared_filters::{self, BehindFilters};

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
        queue: dyn TaskQueue, "The task queue of the delayed route. One at the level of Redis needs `queue.secret`: its tasks are signed.";
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
        // A store that the caller brings may be shared, whatever the configuration says of its own.
        let own_store = store.is_none();
        let shared = is_shared(&config, own_store);
        if store.is_some() && filter.is_none() {
            check_filter_of_a_given_store(&config)?;
        }
        let locks = Arc::new(locks(&config, own_store)?);
        let servers = Servers::of(&config)?;
        let store = match store {
            Some(store) => store,
            None => assemble::store(&config, servers.connections()).await?,
        };
        if config.store.migrate {
            Migrator::new(Arc::clone(&store), Migrations::zmsg(store.dialect())).up().await?;
        }
        let shares = Shares::of(&config, shared, remote.is_some(), filter.is_some());
        let member = Member::enter(&store, &servers, shares, assemble::holder()).await?;
        let brought = Brought { local, remote, filter, queue, lease };
        let base = Base { config, shared, own_store, clock, locks, store, servers };
        let opened = base.open(brought, member.clone()).await;
        if let (Err(_), Some(member)) = (&opened, member) {
            member.leave().await;
        }
        opened
    }
}

/// Parts that the caller brought.
struct Brought {
    local: Option<Arc<dyn LocalCache>>,
    remote: Option<Arc<dyn RemoteCache>>,
    filter: Option<Arc<dyn MembershipFilter>>,
    queue: Option<Arc<dyn TaskQueue>>,
    lease: Option<Arc<dyn NodeLease>>,
}

/// What the other parts are made on.
struct Base {
    config: Config,
    shared: bool,
    own_store: bool,
    clock: Arc<dyn Clock>,
    locks: Arc<Vec<FileLock>>,
    store: Arc<dyn SqlStore>,
    servers: Servers,
}

impl Base {
    async fn open(self, brought: Brought, member: Option<Member>) -> Result<Zmsg> {
        let Brought { local, remote, filter, queue, lease } = brought;
        let Self { config, shared, own_store, clock, locks, store, servers } = self;
        let store = if shared && filter.is_none() && !config.shares_filter(shared) {
            // Nodes with a filter in Redis are not told of what this one writes.
            beside_filters(store).await?
        } else {
            store
        };
        let local = local.map_or_else(|| assemble::local(&config), Ok)?;
        let remote = remote.map_or_else(|| assemble::remote(&config, &servers), Ok)?;
        let filter = match filter {
            Some(filter) => Filter::alone(filter),
            None => assemble::filter(&config, shared, &store, &servers, &clock)?,
        };
        let alone = own_store && locks_database_alone(&config, shared);
        let queues = assemble::queues(&config, queue, &store, &servers, &clock, alone).await?;
        let lease = lease.map_or_else(|| assemble::lease(&config, shared, &store), Ok)?;
        let parts = Parts {
            config,
            shared,
            own_store,
            clock,
            locks,
            store,
            local,
            remote,
            filter,
            queues,
            lease,
            servers,
            member,
        };
        parts.open().await
    }
}

/// The store, with every transaction checked against the filters of other nodes, if there are any.
async fn beside_filters(store: Arc<dyn SqlStore>) -> Result<Arc<dyn SqlStore>> {
    if !shared_filters::is_any_known(&*store).await? {
        return Ok(store);
    }
    tracing::warn!(
        "other nodes share a filter in Redis, and this one has no part in it: their filter is \
         distrusted by each of its writes; give all nodes of a database the same Redis"
    );
    Ok(Arc::new(BehindFilters::new(store)))
}

/// Whether other processes may write to the database.
fn is_shared(config: &Config, own_store: bool) -> bool {
    if own_store { config.database_is_shared() } else { !config.filter.single_node }
}

/// The directory, if anything is kept in it, and the database file unless the caller brought the
/// store: alone if a filter of this process has to know of every write to it.
fn locks(config: &Config, own_store: bool) -> Result<Vec<FileLock>> {
    let shared = is_shared(config, own_store);
    let mut locks = Vec::new();
    if config.uses_directory(shared) {
        locks.push(FileLock::directory(&config.directory)?);
    }
    if let Some(path) = config.sqlite_path().filter(|_| own_store) {
        locks.push(FileLock::database(&path, locks_database_alone(config, shared))?);
    }
    Ok(locks)
}

/// Whether no other process may open the database file: the filter has to know of every write to it.
fn locks_database_alone(config: &Config, shared: bool) -> bool {
    config.sqlite_path().is_some() && config.filter_is_local(shared)
}

/// A filter of this process knows nothing of what others write to the caller's store.
fn check_filter_of_a_given_store(config: &Config) -> Result<()> {
    if config.filter_is_local(true) && !config.filter.single_node {
        return Err(Error::invalid_config(
            "a local filter on a store of your own would call the rows of other processes absent: \
             set filter.single_node to true if this is the only process, set filter.backend to \
             none, or bring a filter",
        ));
    }
    Ok(())
}
