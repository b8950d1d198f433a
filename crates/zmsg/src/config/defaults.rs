//! What an engine does that is told nothing.

use std::path::PathBuf;
use std::time::Duration;

use zmsg_core::OnMissing;

use super::{
    ByteSize, CacheConfig, Config, FilterBackend, FilterConfig, IdsConfig, JournalMode,
    LeaseBackend, LocalBackend, PeriodicConfig, QueueBackend, QueueConfig, RedisConfig,
    RemoteBackend, StoreConfig, Synchronous,
};

/// Where files are kept if nothing else is said, in the directory the process runs in.
pub(super) const DIRECTORY: &str = "data";

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from(DIRECTORY),
            store: StoreConfig::default(),
            redis: RedisConfig::default(),
            cache: CacheConfig::default(),
            filter: FilterConfig::default(),
            ids: IdsConfig::default(),
            queue: QueueConfig::default(),
            periodic: PeriodicConfig::default(),
            sources: Vec::new(),
            shutdown_deadline: Duration::from_secs(20),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: "sqlite:zmsg.db".into(),
            password: None,
            password_file: None,
            ca_file: None,
            allow_plaintext: false,
            pooled: false,
            connections_max: 16,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(3),
            readers: 4,
            synchronous: Synchronous::Full,
            migrate: true,
            busy_timeout: Duration::from_secs(5),
            jobs_max: 4096,
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: None,
            password: None,
            password_file: None,
            ca_file: None,
            allow_plaintext: false,
            namespace: "zmsg".into(),
            connections: 2,
            deadline: Duration::from_millis(250),
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(600),
            negative_ttl: Duration::from_secs(5),
            jitter: 0.1,
            hold: Duration::from_secs(3),
            load_timeout: Duration::from_secs(30),
            waiters_max: 10_000,
            remote: RemoteBackend::Auto,
            local: LocalBackend::Quick,
            local_bytes_max: ByteSize(64 << 20),
            local_ttl: Duration::from_secs(5),
        }
    }
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self {
            backend: FilterBackend::Auto,
            capacity: 1_000_000,
            error_rate: 0.01,
            single_node: false,
        }
    }
}

impl Default for IdsConfig {
    fn default() -> Self {
        Self {
            lease: LeaseBackend::Auto,
            node: 0,
            cluster: "zmsg".into(),
            epoch_ms: 1_609_459_200_000,
            time_bits: 41,
            node_bits: 10,
            sequence_bits: 12,
            borrow_max: Duration::from_secs(5),
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            backend: QueueBackend::Sql,
            workers: 32,
            delay: Duration::from_millis(100),
            attempts_max: 10,
            retry_base: Duration::from_millis(200),
            retry_cap: Duration::from_secs(60),
            task_timeout: Duration::from_secs(20),
            lease: Duration::from_secs(30),
            tasks_max: 1_000_000,
            fallback_to_store: false,
            inbox_retention: Duration::from_secs(7 * 86_400),
            secret: None,
            secret_file: None,
            secret_previous: None,
            secret_previous_file: None,
        }
    }
}

impl Default for PeriodicConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            ops_max: 10_000,
            bytes_max: ByteSize(64 << 20),
            age_max: Duration::from_secs(5),
            on_missing: OnMissing::DeadLetter,
            journal: JournalMode::Auto,
            journal_bytes_max: ByteSize(1 << 30),
        }
    }
}
