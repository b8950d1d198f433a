//! Every key of the configuration: one table that loading, checking and the documentation share.

use serde_json::Value as Json;
use zmsg_core::OnMissing;

use super::parse::Parse;
use super::{
    Config, FilterBackend, LeaseBackend, LocalBackend, QueueBackend, RemoteBackend, Secret,
    Synchronous,
};

/// One key: where it is, what it expects, and how it is set.
pub(super) struct Setting {
    pub(super) path: &'static str,
    pub(super) expects: &'static str,
    pub(super) meaning: &'static str,
    pub(super) set: fn(&mut Config, &Json) -> Result<(), String>,
    pub(super) default: fn(&Config) -> String,
}

/// A key as the documentation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingDoc {
    /// The dotted path, as in the file; in the environment `ZMSG__SECTION__KEY`.
    pub path: &'static str,
    /// What a value looks like.
    pub expects: &'static str,
    /// The default.
    pub default: String,
    /// What it does.
    pub meaning: &'static str,
}

/// Every key with its default and meaning, in the order of the documentation.
pub fn setting_docs() -> Vec<SettingDoc> {
    let defaults = Config::default();
    SETTINGS
        .iter()
        .map(|setting| SettingDoc {
            path: setting.path,
            expects: setting.expects,
            default: (setting.default)(&defaults),
            meaning: setting.meaning,
        })
        .collect()
}

macro_rules! settings {
    ($($path:literal => $($field:ident).+ : $type:ty, $meaning:literal;)*) => {
        &[$(Setting {
            path: $path,
            expects: <$type as Parse>::EXPECTS,
            meaning: $meaning,
            set: |config, value| {
                config.$($field).+ = <$type as Parse>::parse(value)?;
                Ok(())
            },
            default: |config| <$type as Parse>::show(&config.$($field).+),
        },)*]
    };
}

pub(super) const SETTINGS: &[Setting] = settings! {
    "directory" => directory: std::path::PathBuf, "where the engine keeps its files; locked while it is open";
    "store.url" => store.url: String, "the database: sqlite:PATH, relative to the directory, or postgres://USER@HOST/DATABASE";
    "store.password" => store.password: Option<Secret>, "PostgreSQL: the password, if the URL has none; best given as ZMSG__STORE__PASSWORD";
    "store.password_file" => store.password_file: Option<std::path::PathBuf>, "PostgreSQL: a file that holds the password";
    "store.ca_file" => store.ca_file: Option<std::path::PathBuf>, "PostgreSQL: certificates to trust, beside those of the system";
    "store.allow_plaintext" => store.allow_plaintext: bool, "PostgreSQL: allow an unencrypted connection to another machine";
    "store.pooled" => store.pooled: bool, "PostgreSQL: the connections are those of a transaction pooler, such as PgBouncer";
    "store.connections_max" => store.connections_max: usize, "PostgreSQL: connections";
    "store.connect_timeout" => store.connect_timeout: std::time::Duration, "PostgreSQL: how long connecting may take";
    "store.statement_timeout" => store.statement_timeout: std::time::Duration, "PostgreSQL: how long a statement may take";
    "store.lock_timeout" => store.lock_timeout: std::time::Duration, "PostgreSQL: how long a statement waits for a lock";
    "store.readers" => store.readers: usize, "SQLite: connections that read beside the writer";
    "store.synchronous" => store.synchronous: Synchronous, "SQLite: full syncs every commit; normal may lose the last commits in a power cut";
    "store.migrate" => store.migrate: bool, "create and upgrade zmsg's own tables when the engine opens";
    "store.busy_timeout" => store.busy_timeout: std::time::Duration, "SQLite: how long a statement waits for another process's lock";
    "store.jobs_max" => store.jobs_max: usize, "SQLite: jobs that may wait for the writer; beyond it callers get Overloaded";
    "redis.url" => redis.url: Option<String>, "the Redis that nodes share: redis:// or rediss://HOST:PORT, redis+sentinel://HOST,HOST/MASTER, redis+cluster://HOST,HOST";
    "redis.password" => redis.password: Option<Secret>, "the password, if the URL has none; best given as ZMSG__REDIS__PASSWORD";
    "redis.password_file" => redis.password_file: Option<std::path::PathBuf>, "a file that holds the password";
    "redis.ca_file" => redis.ca_file: Option<std::path::PathBuf>, "certificates to trust, beside those of the system";
    "redis.allow_plaintext" => redis.allow_plaintext: bool, "allow an unencrypted connection to another machine";
    "redis.namespace" => redis.namespace: String, "what every key begins with; engines that share it share their caches and tasks";
    "redis.connections" => redis.connections: usize, "connections that all callers share";
    "redis.deadline" => redis.deadline: std::time::Duration, "how long a call may take before it counts as failed";
    "cache.ttl" => cache.ttl: std::time::Duration, "how long a value lives in the tiers, unless its call or its source says otherwise";
    "cache.negative_ttl" => cache.negative_ttl: std::time::Duration, "how long \"there is no such row\" is remembered";
    "cache.jitter" => cache.jitter: f64, "TTLs vary by this fraction either way";
    "cache.hold" => cache.hold: std::time::Duration, "how long a write keeps late fills away from L2";
    "cache.load_timeout" => cache.load_timeout: std::time::Duration, "how long one load may take";
    "cache.waiters_max" => cache.waiters_max: usize, "readers that may wait for one load; beyond it they get Overloaded";
    "cache.remote.backend" => cache.remote: RemoteBackend, "L2, where nodes share values; auto is redis if redis.url is given";
    "cache.local.backend" => cache.local: LocalBackend, "L1, the cache of this process; stretto and moka need the features of their names";
    "cache.local.bytes_max" => cache.local_bytes_max: super::ByteSize, "bytes L1 may hold, keys and overhead included; each thread has up to 64 copies of hot values besides, of up to 4 KiB";
    "cache.local.ttl" => cache.local_ttl: std::time::Duration, "the longest a value lives in L1: the bound of staleness against other nodes";
    "filter.backend" => filter.backend: FilterBackend, "the membership filter; auto is local on an embedded database, and on a shared one redis if redis.url is given";
    "filter.capacity" => filter.capacity: u64, "keys the filter is sized for; it grows by rebuilding";
    "filter.error_rate" => filter.error_rate: f64, "the share of absent keys that the filter may call possible";
    "filter.single_node" => filter.single_node: bool, "your word that no other process writes to the database; a local filter on a shared database needs it";
    "ids.lease" => ids.lease: LeaseBackend, "where the node number comes from; auto is file on an embedded database and sql on a shared one";
    "ids.node" => ids.node: u16, "the node number of a fixed lease";
    "ids.cluster" => ids.cluster: String, "the group of nodes that share the numbers of a lease in the database";
    "ids.epoch_ms" => ids.epoch_ms: u64, "milliseconds since the Unix epoch at which ids begin; never change it";
    "ids.time_bits" => ids.time_bits: u8, "bits of the millisecond";
    "ids.node_bits" => ids.node_bits: u8, "bits of the node number";
    "ids.sequence_bits" => ids.sequence_bits: u8, "bits of the sequence within a millisecond";
    "ids.borrow_max" => ids.borrow_max: std::time::Duration, "how far ahead of the clock ids may run under load before callers wait";
    "queue.backend" => queue.backend: QueueBackend, "the task queue of the delayed route";
    "queue.workers" => queue.workers: usize, "tasks that run at once";
    "queue.delay" => queue.delay: std::time::Duration, "the delay of a write that names none, to the millisecond";
    "queue.attempts_max" => queue.attempts_max: u32, "attempts before a task goes to the dead letters";
    "queue.retry_base" => queue.retry_base: std::time::Duration, "the delay before the second attempt; it doubles from there, with jitter";
    "queue.retry_cap" => queue.retry_cap: std::time::Duration, "the longest delay between attempts";
    "queue.task_timeout" => queue.task_timeout: std::time::Duration, "how long one attempt may take";
    "queue.lease" => queue.lease: std::time::Duration, "how long a worker that fell silent keeps its task";
    "queue.tasks_max" => queue.tasks_max: u32, "tasks that may wait; beyond it callers get Overloaded";
    "queue.fallback_to_store" => queue.fallback_to_store: bool, "if the queue does not take a task, write it at once on the store route, with the same id";
    "queue.inbox_retention" => queue.inbox_retention: std::time::Duration, "how long applied tasks are remembered; longer than any delay and all retries";
    "queue.secret" => queue.secret: Option<Secret>, "Redis: what tasks are signed with, at least 32 bytes, the same on all nodes; best given as ZMSG__QUEUE__SECRET";
    "queue.secret_file" => queue.secret_file: Option<std::path::PathBuf>, "Redis: a file that holds the secret";
    "queue.secret_previous" => queue.secret_previous: Option<Secret>, "Redis: another secret whose tasks are accepted, while secrets are changed";
    "queue.secret_previous_file" => queue.secret_previous_file: Option<std::path::PathBuf>, "Redis: a file that holds the other secret";
    "periodic.interval" => periodic.interval: std::time::Duration, "how often the buffer is flushed";
    "periodic.ops_max" => periodic.ops_max: u64, "a shard with this many operations is flushed at once";
    "periodic.bytes_max" => periodic.bytes_max: super::ByteSize, "bytes that may wait in the buffer; beyond it callers get Overloaded";
    "periodic.age_max" => periodic.age_max: std::time::Duration, "a shard whose oldest operation is this old is flushed at once";
    "periodic.on_missing" => periodic.on_missing: OnMissing, "what happens to an operation whose condition meets no row";
    "periodic.journal" => periodic.journal: super::JournalMode, "whether operations are on this machine's disk before they are acknowledged; auto is always where the engine has a directory, else off";
    "periodic.journal_bytes_max" => periodic.journal_bytes_max: super::ByteSize, "bytes that the journal may take while the database is away; beyond it callers get Overloaded";
    "shutdown.deadline" => shutdown_deadline: std::time::Duration, "how long close may take when it is given no deadline";
};

/// The keys of one entry under `sources.PREFIX`.
pub(super) const SOURCE_KEYS: &[&str] = &["sql", "keys", "ttl"];
