//! What a configuration amounts to: which backends `auto` stands for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::defaults::DIRECTORY;
use super::{Config, FilterBackend, JournalMode, LeaseBackend, QueueBackend, RemoteBackend};

impl Config {
    /// The database file, if the store is SQLite.
    pub(crate) fn sqlite_path(&self) -> Option<PathBuf> {
        let path = self.store.url.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        Some(self.directory.join(path))
    }

    /// Whether the store is PostgreSQL.
    pub(crate) fn on_postgres(&self) -> bool {
        ["postgres://", "postgresql://"].iter().any(|scheme| self.store.url.starts_with(scheme))
    }

    /// Whether other processes may write to the database, unless we have the user's word. The
    /// lock on the directory keeps them away from a file inside it, and from nothing else.
    pub(crate) fn database_is_shared(&self) -> bool {
        let inside = self.sqlite_path().is_some_and(|path| path.parent() == Some(&self.directory));
        !inside && !self.filter.single_node
    }

    /// Whether something of the engine is kept in its directory.
    pub(crate) fn uses_directory(&self, shared: bool) -> bool {
        let left = self.has_chosen_directory() && self.journal_root().is_dir();
        self.keeps_state(shared) || self.journal_mode(shared) != JournalMode::Off || left
    }

    fn has_chosen_directory(&self) -> bool {
        self.directory != Path::new(DIRECTORY)
    }

    /// Whether its directory has to be there for something else than the journal.
    fn keeps_state(&self, shared: bool) -> bool {
        let lease = matches!(self.lease_backend(shared), LeaseBackend::File | LeaseBackend::Fixed);
        lease || self.sqlite_path().is_some()
    }

    /// How the periodic route keeps its journal; never `Auto`.
    pub(crate) fn journal_mode(&self, shared: bool) -> JournalMode {
        let chosen = self.has_chosen_directory();
        match self.periodic.journal {
            JournalMode::Auto if chosen || self.keeps_state(shared) => JournalMode::Always,
            JournalMode::Auto => JournalMode::Off,
            mode => mode,
        }
    }

    /// Where the journal of the periodic route is.
    pub(crate) fn journal_root(&self) -> PathBuf {
        self.directory.join("journal")
    }

    /// Where nodes share values; never `Auto`.
    pub(crate) fn remote_backend(&self) -> RemoteBackend {
        match self.cache.remote {
            RemoteBackend::Auto if self.redis.url.is_some() => RemoteBackend::Redis,
            RemoteBackend::Auto => RemoteBackend::None,
            chosen => chosen,
        }
    }

    /// Which filter, for a database that is `shared` or not; never `Auto`.
    pub(crate) fn filter_backend(&self, shared: bool) -> FilterBackend {
        match self.filter.backend {
            FilterBackend::Auto if !shared => FilterBackend::Local,
            FilterBackend::Auto if self.redis.url.is_some() => FilterBackend::Redis,
            FilterBackend::Auto => FilterBackend::None,
            chosen => chosen,
        }
    }

    /// Whether the filter is one that nodes share.
    pub(crate) fn shares_filter(&self, shared: bool) -> bool {
        self.filter_backend(shared) == FilterBackend::Redis
    }

    /// Whether the filter has to know of every write to the database, and only knows ours.
    pub(crate) fn filter_is_local(&self, shared: bool) -> bool {
        matches!(self.filter_backend(shared), FilterBackend::Local | FilterBackend::Bloomfilter)
    }

    /// Where the node number comes from, for a database that is `shared` or not; never `Auto`.
    pub(crate) fn lease_backend(&self, shared: bool) -> LeaseBackend {
        match self.ids.lease {
            LeaseBackend::Auto if shared || self.on_postgres() => LeaseBackend::Sql,
            LeaseBackend::Auto => LeaseBackend::File,
            chosen => chosen,
        }
    }

    /// Whether any part asks for Redis, though no URL may name one.
    pub(crate) fn uses_redis(&self) -> bool {
        self.redis.url.is_some()
            || self.remote_backend() == RemoteBackend::Redis
            || self.filter.backend == FilterBackend::Redis
            || matches!(self.queue.backend, QueueBackend::Redis | QueueBackend::Outbox)
    }

    /// How long a task may be under way with all its retries, once it is due: each attempt may end
    /// with the end of its lease, and be followed by the longest pause.
    pub(crate) fn retry_span(&self) -> Duration {
        let queue = &self.queue;
        queue.retry_cap.saturating_add(queue.lease).saturating_mul(queue.attempts_max)
    }
}
