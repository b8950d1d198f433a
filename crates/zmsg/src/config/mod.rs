//! The configuration: plain public fields, filled from defaults, a file, the environment and code.

mod settings; // start here: every key, its type and its meaning
mod defaults;
mod choice;
mod layers;
mod parse;
mod problems;
mod validate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use zmsg_core::{OnMissing, Result};

pub use parse::{ByteSize, Secret};
pub(crate) use problems::Problems;
pub use settings::{SettingDoc, setting_docs};

/// Everything the engine can be told. Fields are public, so code has the last word after
/// [`load`](Self::load); [`Zmsg::open`](crate::Zmsg::open) validates the whole once more.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the engine keeps its files; locked while it is open.
    pub directory: PathBuf,
    /// The database.
    pub store: StoreConfig,
    /// The Redis that nodes share, if there is one.
    pub redis: RedisConfig,
    /// Both cache tiers.
    pub cache: CacheConfig,
    /// The membership filter.
    pub filter: FilterConfig,
    /// Id generation.
    pub ids: IdsConfig,
    /// The task queue of the delayed route.
    pub queue: QueueConfig,
    /// The buffer of the periodic route.
    pub periodic: PeriodicConfig,
    /// Where values come from, by key prefix.
    pub sources: Vec<SourceConfig>,
    /// How long `close` may take, at most, when it is given no deadline of its own.
    pub shutdown_deadline: Duration,
}

/// The database.
#[derive(Clone, PartialEq)]
pub struct StoreConfig {
    /// `sqlite:PATH`, relative to the directory, or `postgres://USER@HOST/DATABASE`. Never printed
    /// with a password.
    pub url: String,
    /// PostgreSQL: the password, if the URL has none.
    pub password: Option<Secret>,
    /// PostgreSQL: a file that holds the password.
    pub password_file: Option<PathBuf>,
    /// PostgreSQL: a file with the certificates to trust, beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// PostgreSQL: allow an unencrypted connection to another machine.
    pub allow_plaintext: bool,
    /// PostgreSQL: the connections are those of a transaction pooler, such as PgBouncer.
    pub pooled: bool,
    /// PostgreSQL: connections.
    pub connections_max: usize,
    /// PostgreSQL: how long connecting may take.
    pub connect_timeout: Duration,
    /// PostgreSQL: how long a statement may take.
    pub statement_timeout: Duration,
    /// PostgreSQL: how long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// SQLite: connections that read beside the writer.
    pub readers: usize,
    /// SQLite: sync on every commit (`full`), or leave the last commits to the operating system
    /// (`normal`).
    pub synchronous: Synchronous,
    /// Create and upgrade zmsg's own tables when the engine opens.
    pub migrate: bool,
    /// SQLite: how long a statement waits for another process's lock.
    pub busy_timeout: Duration,
    /// SQLite: jobs that may wait for the writer; beyond it callers get `Overloaded`.
    pub jobs_max: usize,
}

/// The Redis that nodes share: the second cache tier, the filter's bits, the tasks of a queue.
#[derive(Clone, PartialEq)]
pub struct RedisConfig {
    /// `redis://` or `rediss://HOST:PORT`, `redis+sentinel://HOST,HOST/MASTER`,
    /// `redis+cluster://HOST,HOST`; `None` for no Redis. Never printed with a password.
    pub url: Option<String>,
    /// The password, if the URL has none.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// A file with the certificates to trust, beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Allow an unencrypted connection to another machine.
    pub allow_plaintext: bool,
    /// What every key begins with: engines that share it share their caches and their tasks, so
    /// each database has one of its own.
    pub namespace: String,
    /// Connections that all callers share.
    pub connections: usize,
    /// How long a call may take before it counts as failed.
    pub deadline: Duration,
}

/// When SQLite syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Each commit is on the disk before it is acknowledged.
    Full,
    /// A power cut may lose the last commits; a killed process loses nothing.
    Normal,
}

/// Both cache tiers.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheConfig {
    /// How long a value lives in the tiers, unless its call or its source says otherwise.
    pub ttl: Duration,
    /// How long "there is no such row" is remembered.
    pub negative_ttl: Duration,
    /// TTLs vary by this fraction either way, so that entries do not expire together.
    pub jitter: f64,
    /// How long a write keeps late fills away.
    pub hold: Duration,
    /// How long one load may take.
    pub load_timeout: Duration,
    /// Readers that may wait for one load; beyond it they get `Overloaded`.
    pub waiters_max: usize,
    /// L2: where nodes share values.
    pub remote: RemoteBackend,
    /// L1: which cache of this process.
    pub local: LocalBackend,
    /// L1: bytes it may hold, keys and overhead included.
    pub local_bytes_max: ByteSize,
    /// L1: the longest a value lives in it: the bound of staleness against other nodes.
    pub local_ttl: Duration,
}

/// Where nodes share values (L2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteBackend {
    /// Redis if `redis.url` names one, else none.
    Auto,
    /// Nowhere.
    None,
    /// In Redis.
    Redis,
}

/// Which cache of this process (L1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalBackend {
    /// `quick_cache`: the fastest by zmsg's measurements.
    Quick,
    /// `stretto`, with the feature of that name.
    Stretto,
    /// `moka`, with the feature of that name.
    Moka,
}

/// The membership filter.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterConfig {
    /// Which filter.
    pub backend: FilterBackend,
    /// Keys it is sized for; it grows by rebuilding.
    pub capacity: u64,
    /// The share of absent keys that it may call possible.
    pub error_rate: f64,
    /// The user's word that no other process writes to the database.
    pub single_node: bool,
}

/// Which membership filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterBackend {
    /// Local on an embedded database; on a shared one in Redis if `redis.url` names one, else none.
    Auto,
    /// None: every miss asks the store.
    None,
    /// In this process.
    Local,
    /// In this process, on the `bloomfilter` crate, with the feature of that name.
    Bloomfilter,
    /// In Redis, for all nodes.
    Redis,
}

/// Id generation.
#[derive(Debug, Clone, PartialEq)]
pub struct IdsConfig {
    /// Where the node number comes from.
    pub lease: LeaseBackend,
    /// The node number of a fixed lease.
    pub node: u16,
    /// The group of nodes that share the numbers of a lease in the database.
    pub cluster: String,
    /// Milliseconds since the Unix epoch at which ids begin.
    pub epoch_ms: u64,
    /// Bits of the millisecond.
    pub time_bits: u8,
    /// Bits of the node number.
    pub node_bits: u8,
    /// Bits of the sequence within a millisecond.
    pub sequence_bits: u8,
    /// How far ahead of the clock ids may run under load before callers wait.
    pub borrow_max: Duration,
}

/// Where the node number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseBackend {
    /// A file on an embedded database, the database itself on a shared one.
    Auto,
    /// A row of the database.
    Sql,
    /// A locked slot in the engine's directory.
    File,
    /// The number in `ids.node`, its ceiling kept in the directory.
    Fixed,
}

/// The task queue of the delayed route.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueConfig {
    /// Which queue.
    pub backend: QueueBackend,
    /// Tasks that run at once.
    /// Their commits are grouped, so more of them cost little and wait less.
    pub workers: usize,
    /// The delay of a write that names none.
    pub delay: Duration,
    /// Attempts before a task goes to the dead letters.
    pub attempts_max: u32,
    /// The delay before the second attempt; it doubles from there.
    pub retry_base: Duration,
    /// The longest delay between attempts.
    pub retry_cap: Duration,
    /// How long one attempt may take.
    pub task_timeout: Duration,
    /// How long a worker that fell silent keeps its task.
    pub lease: Duration,
    /// Tasks that may wait; beyond it callers get `Overloaded`.
    pub tasks_max: u32,
    /// If the queue does not take a task, write it at once on the store route, with the same id.
    pub fallback_to_store: bool,
    /// How long the inbox remembers applied tasks; longer than any delay and all retries.
    pub inbox_retention: Duration,
    /// Redis: what tasks are signed with, at least 32 bytes, the same on all nodes. Who can write to
    /// Redis must not thereby run SQL.
    pub secret: Option<Secret>,
    /// Redis: a file that holds it.
    pub secret_file: Option<PathBuf>,
    /// Redis: another key whose tasks are accepted, while keys are changed.
    pub secret_previous: Option<Secret>,
    /// Redis: a file that holds it.
    pub secret_previous_file: Option<PathBuf>,
}

/// Which task queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueBackend {
    /// In the database: a task survives what the database survives.
    Sql,
    /// In memory: tasks are lost with the process.
    Memory,
    /// In Redis, for all nodes, signed: a task survives what Redis survives.
    Redis,
    /// In the database, as with `Sql`; nodes wake each other through Redis.
    Outbox,
}

/// The buffer of the periodic route.
#[derive(Debug, Clone, PartialEq)]
pub struct PeriodicConfig {
    /// How often the buffer is flushed.
    pub interval: Duration,
    /// A shard with this many operations is flushed at once.
    pub ops_max: u64,
    /// Bytes that may wait in the buffer; beyond it callers get `Overloaded`.
    pub bytes_max: ByteSize,
    /// A shard whose oldest operation is this old is flushed at once.
    pub age_max: Duration,
    /// What happens to an operation whose condition meets no row.
    pub on_missing: OnMissing,
    /// Whether operations are on this machine's disk before they are acknowledged.
    pub journal: JournalMode,
    /// Bytes that the journal may take while the database is away; beyond it callers get
    /// `Overloaded`.
    pub journal_bytes_max: ByteSize,
}

/// Whether operations of the periodic route are kept on this machine's disk until they have taken
/// effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalMode {
    /// `Always` where the engine has a directory: on an embedded database, or where `directory` is
    /// set to something else than its default. `Off` otherwise.
    Auto,
    /// No: what the buffer holds is lost with the process.
    Off,
    /// Yes, and synced this often: an operation is acknowledged before that. A power cut may lose
    /// what the last interval brought, a kill what was not yet handed to the operating system.
    Interval(Duration),
    /// Yes, and synced before the operation is acknowledged; callers share the syncs.
    Always,
}

/// Where the values of a key prefix come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceConfig {
    /// The prefix, without the `_` or `:` that ends it.
    pub prefix: String,
    /// A query with one `?`, bound to the whole key, that gives one column.
    pub sql: String,
    /// A query that gives every key, for the filter; without it the filter rules nothing out.
    pub keys: Option<String>,
    /// How long its values live in the tiers.
    pub ttl: Option<Duration>,
}

impl Config {
    /// The embedded defaults in `directory`: SQLite, no L2, a local filter, a file lease, the
    /// task queue in the database. Needs no server.
    pub fn embedded(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_owned(), ..Self::default() }
    }

    /// The defaults, overridden by a YAML or TOML file, overridden by `ZMSG__SECTION__KEY`
    /// variables of the environment.
    ///
    /// # Errors
    /// `InvalidConfig` with every problem of both layers at once: unknown keys with the nearest
    /// known one, values of the wrong type with their origin, and what
    /// [`validate`](Self::validate) finds.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_layers(Some(path.as_ref()), std::env::vars_os())
    }

    /// As [`load`](Self::load), without a file.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn from_env() -> Result<Self> {
        Self::from_layers(None, std::env::vars_os())
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    /// `InvalidConfig` with every problem at once.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Problems::default();
        validate::check(self, &mut problems);
        problems.into_result()
    }
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &parse::redacted(&self.url))
            .field("password", &self.password)
            .field("password_file", &self.password_file)
            .field("ca_file", &self.ca_file)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("pooled", &self.pooled)
            .field("connections_max", &self.connections_max)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("readers", &self.readers)
            .field("synchronous", &self.synchronous)
            .field("migrate", &self.migrate)
            .field("busy_timeout", &self.busy_timeout)
            .field("jobs_max", &self.jobs_max)
            .finish()
    }
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &self.url.as_deref().map(parse::redacted))
            .field("password", &self.password)
            .field("password_file", &self.password_file)
            .field("ca_file", &self.ca_file)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("namespace", &self.namespace)
            .field("connections", &self.connections)
            .field("deadline", &self.deadline)
            .finish()
    }
}
