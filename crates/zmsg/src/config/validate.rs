//! Whether the values of a configuration fit together.

use std::time::Duration;

use super::parse::redacted;
use super::{
    Config, FilterBackend, JournalMode, LeaseBackend, Problems, QueueBackend, RemoteBackend,
};
use crate::seal::SECRET_BYTES_MIN;
use crate::source::Source;

/// Notes every problem.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    store(config, problems);
    redis(config, problems);
    cache(config, problems);
    filter(config, problems);
    ids(config, problems);
    queue(config, problems);
    periodic(config, problems);
    sources(config, problems);
}

fn store(config: &Config, problems: &mut Problems) {
    let store = &config.store;
    problems.check(!store.url.starts_with("sqlite:") && !config.on_postgres(), || {
        format!(
            "store.url: there is no backend for {}; use sqlite:PATH or postgres://USER@HOST/DATABASE",
            redacted(&store.url)
        )
    });
    let url = config.on_postgres().then_some(store.url.as_str());
    let file = store.password_file.is_some();
    password(problems, "store", url, store.password.is_some(), file);
    range(problems, "store.connections_max", store.connections_max as u64, 2, 1000);
    for (path, duration) in [
        ("store.connect_timeout", store.connect_timeout),
        ("store.statement_timeout", store.statement_timeout),
        ("store.lock_timeout", store.lock_timeout),
    ] {
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(86_400));
        problems.check(!(least..=most).contains(&duration), || {
            format!("{path}: must be from 1ms to 1day")
        });
    }
    range(problems, "store.readers", config.store.readers as u64, 1, 64);
    let day = Duration::from_secs(86_400);
    problems
        .check(config.store.busy_timeout > day, || "store.busy_timeout: is more than a day".into());
    range(problems, "store.jobs_max", config.store.jobs_max as u64, 1, 1 << 20);
}

fn redis(config: &Config, problems: &mut Problems) {
    let redis = &config.redis;
    let asking = [
        ("cache.remote.backend", config.cache.remote == RemoteBackend::Redis),
        ("filter.backend", config.filter.backend == FilterBackend::Redis),
        (
            "queue.backend",
            matches!(config.queue.backend, QueueBackend::Redis | QueueBackend::Outbox),
        ),
    ];
    let asking = asking.iter().filter(|(_, asks)| *asks).map(|(path, _)| *path);
    problems.check(config.uses_redis() && redis.url.is_none(), || {
        let asking = asking.collect::<Vec<_>>().join(" and ");
        format!("redis.url: is missing, and {asking} ask for redis")
    });
    const SCHEMES: [&str; 6] = [
        "redis://",
        "rediss://",
        "redis+sentinel://",
        "rediss+sentinel://",
        "redis+cluster://",
        "rediss+cluster://",
    ];
    if let Some(url) = &redis.url {
        problems.check(!SCHEMES.iter().any(|scheme| url.starts_with(scheme)), || {
            format!(
                "redis.url: {} does not begin with one of {}",
                redacted(url),
                SCHEMES.join(", ")
            )
        });
    }
    let file = redis.password_file.is_some();
    password(problems, "redis", redis.url.as_deref(), redis.password.is_some(), file);
    range(problems, "redis.connections", redis.connections as u64, 1, 64);
    problems.check(redis.deadline < Duration::from_millis(1), || {
        "redis.deadline: must be at least 1ms".into()
    });
    // A hold has to outlast the calls that it fences, by far.
    problems.check(config.uses_redis() && redis.deadline > config.cache.hold / 4, || {
        "redis.deadline: must be at most a quarter of cache.hold, which it has to fit into".into()
    });
}

/// A password has one origin.
fn password(problems: &mut Problems, section: &str, url: Option<&str>, given: bool, file: bool) {
    let authority = url.and_then(|url| url.split_once("://")).map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let in_url = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    problems.check(u8::from(in_url) + u8::from(given) + u8::from(file) > 1, || {
        format!("{section}.password: is given more than once: in url, password or password_file")
    });
}

fn cache(config: &Config, problems: &mut Problems) {
    let cache = &config.cache;
    for (path, duration) in [
        ("cache.ttl", cache.ttl),
        ("cache.negative_ttl", cache.negative_ttl),
        ("cache.hold", cache.hold),
        ("cache.load_timeout", cache.load_timeout),
        ("cache.local.ttl", cache.local_ttl),
    ] {
        problems
            .check(duration < Duration::from_millis(1), || format!("{path}: must be at least 1ms"));
    }
    problems.check(!(0.0..=0.5).contains(&cache.jitter), || {
        "cache.jitter: must be from 0 to 0.5".into()
    });
    range(problems, "cache.waiters_max", cache.waiters_max as u64, 1, u64::MAX);
    range(problems, "cache.local.bytes_max", cache.local_bytes_max.0, 64 << 10, 1 << 46);
}

fn filter(config: &Config, problems: &mut Problems) {
    let filter = &config.filter;
    range(problems, "filter.capacity", filter.capacity, 1, 1 << 33);
    problems.check(!(filter.error_rate > 0.0 && filter.error_rate < 0.5), || {
        "filter.error_rate: must lie between 0 and 0.5".into()
    });
    // Another process's rows would be unknown to a filter of ours: a false "absent".
    let shared = config.database_is_shared();
    let unsafe_local = shared && config.filter_is_local(shared);
    problems.check(unsafe_local, || {
        "filter.backend: a local filter on a database that other processes may share would call \
         their rows absent; keep the database inside the directory, or set filter.single_node to \
         true if this is the only process, or set filter.backend to none"
            .into()
    });
}

fn ids(config: &Config, problems: &mut Problems) {
    let ids = &config.ids;
    let bits = u32::from(ids.time_bits) + u32::from(ids.node_bits) + u32::from(ids.sequence_bits);
    problems.check(bits != 63, || {
        format!("ids: time_bits, node_bits and sequence_bits add up to {bits}; they must fill 63")
    });
    problems.check(ids.cluster.is_empty() || ids.cluster.len() > 200, || {
        "ids.cluster: must have from 1 to 200 bytes".into()
    });
    // Each directory hands out its own numbers: two of them would hand out the same.
    let unsafe_lease =
        ids.lease == LeaseBackend::File && config.on_postgres() && !config.filter.single_node;
    problems.check(unsafe_lease, || {
        "ids.lease: node numbers from a file are unique on one machine only, and other machines \
         may share the database; set it to sql or auto"
            .into()
    });
    problems.check(u32::from(ids.node) >> ids.node_bits.min(31) != 0, || {
        format!("ids.node: does not fit into {} bits", ids.node_bits)
    });
}

fn queue(config: &Config, problems: &mut Problems) {
    let queue = &config.queue;
    range(problems, "queue.workers", queue.workers as u64, 1, 4096);
    range(problems, "queue.attempts_max", queue.attempts_max.into(), 1, 1000);
    range(problems, "queue.tasks_max", queue.tasks_max.into(), 1, u64::MAX);
    for (path, duration) in [
        ("queue.task_timeout", queue.task_timeout),
        ("queue.lease", queue.lease),
        ("queue.retry_base", queue.retry_base),
    ] {
        problems
            .check(duration < Duration::from_millis(1), || format!("{path}: must be at least 1ms"));
    }
    problems.check(queue.retry_base > queue.retry_cap, || {
        "queue.retry_base: is longer than queue.retry_cap".into()
    });
    problems.check(queue.task_timeout >= queue.lease, || {
        "queue.task_timeout: must be shorter than queue.lease, or two workers may run one task"
            .into()
    });
    let retries = queue.retry_cap.saturating_mul(queue.attempts_max);
    problems.check(queue.inbox_retention < retries.saturating_add(queue.lease), || {
        "queue.inbox_retention: must outlast all retries (attempts_max times retry_cap) and a lease"
            .into()
    });
    if queue.backend == QueueBackend::Redis {
        queue_in_redis(config, problems);
    }
    for (path, key, file) in [
        ("queue.secret", &queue.secret, &queue.secret_file),
        ("queue.secret_previous", &queue.secret_previous, &queue.secret_previous_file),
    ] {
        let short = key.as_ref().is_some_and(|key| key.expose().len() < SECRET_BYTES_MIN);
        problems.check(short, || format!("{path}: must have at least {SECRET_BYTES_MIN} bytes"));
        problems.check(key.is_some() && file.is_some(), || {
            format!("{path}: is given more than once, also in {path}_file")
        });
    }
}

fn queue_in_redis(config: &Config, problems: &mut Problems) {
    let queue = &config.queue;
    problems.check(queue.secret.is_none() && queue.secret_file.is_none(), || {
        "queue.secret: is missing, and queue.backend is redis: without it, whoever can write to \
         Redis could run SQL; make one with `openssl rand -base64 32`, and give it to all nodes as \
         ZMSG__QUEUE__SECRET or in queue.secret_file"
            .into()
    });
    // Nothing in the database says that Redis still has a task: see `seal`.
    let span = config.retry_span().saturating_add(queue.delay);
    problems.check(queue.inbox_retention < span, || {
        "queue.inbox_retention: must outlast queue.delay and all retries of a task in Redis \
         (attempts_max times retry_cap and lease)"
            .into()
    });
}

fn periodic(config: &Config, problems: &mut Problems) {
    let periodic = &config.periodic;
    problems.check(periodic.interval < Duration::from_millis(1), || {
        "periodic.interval: must be at least 1ms".into()
    });
    range(problems, "periodic.ops_max", periodic.ops_max, 1, u64::MAX);
    range(problems, "periodic.bytes_max", periodic.bytes_max.0, 64 << 10, 1 << 46);
    range(problems, "periodic.journal_bytes_max", periodic.journal_bytes_max.0, 64 << 20, 1 << 46);
    if let JournalMode::Interval(every) = periodic.journal {
        problems.check(every < Duration::from_millis(1), || {
            "periodic.journal: an interval must be at least 1ms; to sync each time use always"
                .into()
        });
    }
}

fn sources(config: &Config, problems: &mut Problems) {
    for source in &config.sources {
        if source.sql.trim().is_empty() {
            problems.add(format!("sources.{}.sql: is missing", source.prefix));
        } else if let Err(error) = Source::from(source.clone()).validate() {
            problems.add(format!("sources.{}: {error}", source.prefix));
        }
    }
}

fn range(problems: &mut Problems, path: &str, value: u64, low: u64, high: u64) {
    problems.check(!(low..=high).contains(&value), || {
        if high == u64::MAX {
            format!("{path}: must be at least {low}")
        } else {
            format!("{path}: must be from {low} to {high}")
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
        Config::embedded("/tmp/anywhere").validate().unwrap();
    }

    #[test]
    fn a_local_filter_on_a_shared_database_is_refused_unless_there_is_one_node() {
        let elsewhere = |config: &mut Config| {
            config.store.url = "sqlite:/srv/shared.db".into();
            config.filter.backend = FilterBackend::Local;
        };
        assert!(problems_of(elsewhere).contains("filter.backend"));
        let mut config = Config::default();
        elsewhere(&mut config);
        config.filter.single_node = true;
        config.validate().unwrap();
        config.filter.single_node = false;
        config.filter.backend = FilterBackend::None;
        config.validate().unwrap();
    }

    #[test]
    fn two_urls_make_an_engine_on_servers() {
        let mut config = Config::default();
        config.store.url = "postgres://app@db.example/app".into();
        config.validate().unwrap();
        assert_eq!(
            config.filter_backend(true),
            FilterBackend::None,
            "there is nowhere to share it"
        );
        assert_eq!(config.lease_backend(true), LeaseBackend::Sql);
        assert!(!config.uses_directory(true) && !config.uses_redis());
        config.redis.url = Some("redis://cache.example".into());
        config.validate().unwrap();
        assert_eq!(config.filter_backend(true), FilterBackend::Redis);
        assert_eq!(config.remote_backend(), RemoteBackend::Redis);
    }

    #[test]
    fn a_backend_without_its_server_is_refused() {
        let text = problems_of(|config| config.cache.remote = RemoteBackend::Redis);
        assert!(text.contains("redis.url"), "{text}");
        let text = problems_of(|config| {
            config.store.url = "postgres://app@db.example/app".into();
            config.ids.lease = LeaseBackend::File;
        });
        assert!(text.contains("ids.lease"), "{text}");
    }

    fn in_redis(config: &mut Config) {
        config.queue.backend = QueueBackend::Redis;
        config.redis.url = Some("redis://cache.example".into());
        config.queue.secret = Some(crate::Secret::new("k".repeat(SECRET_BYTES_MIN)));
    }

    #[test]
    fn a_queue_in_redis_asks_for_its_redis_and_for_a_secret_and_says_how_to_make_one() {
        let mut config = Config::default();
        in_redis(&mut config);
        config.validate().unwrap();
        let text = problems_of(|config| config.queue.backend = QueueBackend::Outbox);
        assert!(text.contains("redis.url: is missing, and queue.backend ask"), "{text}");
        assert!(!text.contains("queue.secret"), "no task is in Redis: {text}");
        let text = problems_of(|config| config.queue.backend = QueueBackend::Redis);
        assert!(text.contains("redis.url: is missing, and queue.backend ask"), "{text}");
        assert!(text.contains("queue.secret: is missing") && text.contains("openssl"), "{text}");
        let text = problems_of(|config| {
            in_redis(config);
            config.queue.secret = Some(crate::Secret::new("short and plain"));
            config.queue.secret_previous = Some(crate::Secret::new("p".repeat(32)));
            config.queue.secret_previous_file = Some("/run/secret".into());
        });
        assert!(text.contains("queue.secret: must have at least 32 bytes"), "{text}");
        assert!(text.contains("queue.secret_previous: is given more than once"), "{text}");
        assert!(!text.contains("short and plain") && !text.contains("ppp"), "{text}");
    }

    #[test]
    fn the_inbox_remembers_longer_than_redis_can_keep_a_task_under_way() {
        let text = problems_of(|config| {
            in_redis(config);
            // Enough for the pauses of ten attempts, and not for their leases.
            config.queue.inbox_retention = Duration::from_secs(700);
        });
        assert!(text.contains("queue.inbox_retention") && text.contains("Redis"), "{text}");
        let text = problems_of(|config| {
            in_redis(config);
            config.queue.delay = config.queue.inbox_retention;
        });
        assert!(text.contains("queue.inbox_retention"), "{text}");
    }

    #[test]
    fn a_password_has_one_origin() {
        let text = problems_of(|config| {
            config.store.url = "postgres://app:one@db.example/app".into();
            config.store.password = Some(crate::Secret::new("two"));
            config.redis.url = Some("redis://:one@cache.example".into());
            config.redis.password_file = Some("/run/secret".into());
        });
        assert!(text.contains("store.password") && text.contains("redis.password"), "{text}");
        assert!(!text.contains("one") && !text.contains("two"), "{text}");
    }

    #[test]
    fn extreme_values_are_refused_without_a_panic() {
        let text = problems_of(|config| {
            config.queue.retry_cap = Duration::MAX;
            config.store.busy_timeout = Duration::MAX;
            config.queue.task_timeout = Duration::ZERO;
        });
        for path in ["queue.inbox_retention", "store.busy_timeout", "queue.task_timeout"] {
            assert!(text.contains(path), "{text}");
        }
    }

    #[test]
    fn values_that_do_not_fit_together_are_all_named() {
        let text = problems_of(|config| {
            config.ids.node_bits = 20;
            config.queue.task_timeout = config.queue.lease;
            config.store.url = "mysql://x".into();
            config.filter.single_node = true;
        });
        for path in ["ids:", "queue.task_timeout", "store.url"] {
            assert!(text.contains(path), "{text}");
        }
    }
}
