//! Whether the values of a configuration fit together.

use std::time::Duration;

use super::parse::redacted;
use super::{Config, FilterBackend, Problems};
use crate::source::Source;

/// Notes every problem.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    store(config, problems);
    cache(config, problems);
    filter(config, problems);
    ids(config, problems);
    queue(config, problems);
    periodic(config, problems);
    sources(config, problems);
}

fn store(config: &Config, problems: &mut Problems) {
    problems.check(!config.store.url.starts_with("sqlite:"), || {
        format!(
            "store.url: this build has no backend for {}; use sqlite:PATH",
            redacted(&config.store.url)
        )
    });
    range(problems, "store.readers", config.store.readers as u64, 1, 64);
    let day = Duration::from_secs(86_400);
    problems
        .check(config.store.busy_timeout > day, || "store.busy_timeout: is more than a day".into());
    range(problems, "store.jobs_max", config.store.jobs_max as u64, 1, 1 << 20);
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
    let unsafe_local = filter.backend == FilterBackend::Local
        && config.database_is_shared()
        && !filter.single_node;
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
}

fn periodic(config: &Config, problems: &mut Problems) {
    let periodic = &config.periodic;
    problems.check(periodic.interval < Duration::from_millis(1), || {
        "periodic.interval: must be at least 1ms".into()
    });
    range(problems, "periodic.ops_max", periodic.ops_max, 1, u64::MAX);
    range(problems, "periodic.bytes_max", periodic.bytes_max.0, 64 << 10, 1 << 46);
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
        let elsewhere = |config: &mut Config| config.store.url = "sqlite:/srv/shared.db".into();
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
