//! What the facts of a Redis server mean for zmsg.

use super::finding::{Diagnosis, Finding, Promise};
use super::redis::{Facts, PLACE};
use crate::config::{Config, FilterBackend, QueueBackend};

/// The oldest version that the tests run on.
const VERSION_MIN: (u32, u32) = (7, 0);

/// Adds what is wrong.
pub(super) fn judge(facts: &Facts, config: &Config, diagnosis: &mut Diagnosis) {
    diagnosis.looked_at(format!(
        "Redis {} {}: {} with {} replicas, run id {}, {} used, {}",
        facts.info("redis_version"),
        facts.address,
        facts.info("role"),
        facts.info("connected_slaves"),
        facts.info("run_id"),
        facts.info("used_memory_human"),
        if facts.encrypted { "encrypted" } else { "not encrypted" },
    ));
    if facts.settings.is_empty() {
        let found = "its user may not ask for its settings: memory and persistence are unknown";
        diagnosis.add(Finding::note(PLACE, found).change("ACL SETUSER … +config|get"));
    } else {
        memory(facts, config, diagnosis);
        if config.queue.backend == QueueBackend::Redis {
            persistence_of_tasks(facts, diagnosis);
        } else {
            persistence(facts, diagnosis);
        }
    }
    surroundings(facts, diagnosis);
}

fn memory(facts: &Facts, config: &Config, diagnosis: &mut Diagnosis) {
    let policy = facts.setting("maxmemory-policy");
    let unbounded = facts.setting("maxmemory") == "0";
    let filter = config.filter_backend(config.database_is_shared()) == FilterBackend::Redis;
    if unbounded {
        let found = "maxmemory is 0: it grows until the system kills it";
        diagnosis.add(
            Finding::warning(PLACE, found)
                .weakens(Promise::Repaired)
                .change("maxmemory to what the machine can spare, maxmemory-policy volatile-lru"),
        );
        return;
    }
    let tasks = config.queue.backend == QueueBackend::Redis;
    match policy {
        // They have no TTL, and nothing else brings them back.
        "allkeys-lru" | "allkeys-lfu" | "allkeys-random" if tasks => diagnosis.add(
            Finding::error(PLACE, format!("maxmemory-policy {policy} evicts tasks of the queue"))
                .weakens(Promise::Delayed)
                .change("maxmemory-policy volatile-lru"),
        ),
        // A hold lives for seconds: the first to go.
        "volatile-ttl" | "volatile-random" | "allkeys-random" => diagnosis.add(
            Finding::error(PLACE, format!("maxmemory-policy {policy} evicts the holds of writes"))
                .weakens(Promise::Fresh)
                .change("maxmemory-policy volatile-lru"),
        ),
        "allkeys-lru" | "allkeys-lfu" if filter => diagnosis.add(
            Finding::warning(
                PLACE,
                format!(
                    "maxmemory-policy {policy} may evict the filter, which then says \"maybe\" \
                     until it is built anew"
                ),
            )
            .change("maxmemory-policy volatile-lru"),
        ),
        "noeviction" => diagnosis.add(
            Finding::note(PLACE, "maxmemory-policy noeviction: when it is full, fills fail")
                .change("maxmemory-policy volatile-lru"),
        ),
        _ => {}
    }
}

fn persistence(facts: &Facts, diagnosis: &mut Diagnosis) {
    let appends = facts.setting("appendonly") == "yes";
    let change = "save \"\" and appendonly no (it is a cache), or appendfsync always";
    if appends && facts.setting("appendfsync") != "always" {
        let found = format!(
            "appendfsync {}: a machine that stops brings values back that were overwritten since",
            facts.setting("appendfsync")
        );
        diagnosis.add(Finding::note(PLACE, found).weakens(Promise::Fresh).change(change));
    } else if !appends && !facts.setting("save").is_empty() {
        let found = format!(
            "save {:?}: a restart brings values back that were overwritten since the snapshot, \
             until their TTL",
            facts.setting("save")
        );
        diagnosis.add(Finding::warning(PLACE, found).weakens(Promise::Fresh).change(change));
    }
}

/// Of a Redis that is more than a cache.
fn persistence_of_tasks(facts: &Facts, diagnosis: &mut Diagnosis) {
    let (save, fsync) = (facts.setting("save"), facts.setting("appendfsync"));
    let found = match (facts.setting("appendonly") == "yes", fsync, save) {
        (true, "always", _) => return,
        (true, ..) => Finding::note(
            PLACE,
            format!(
                "appendfsync {fsync}: a machine that stops loses the tasks of its last moments, and \
                 brings values back that were overwritten since"
            ),
        ),
        (false, _, "") => Finding::warning(
            PLACE,
            "the task queue is in it, and it keeps nothing on the disk: a restart loses all tasks \
             that wait",
        ),
        (false, ..) => Finding::warning(
            PLACE,
            format!(
                "save {save:?}: a restart loses the tasks that were accepted since the snapshot"
            ),
        ),
    };
    let change = "appendonly yes and appendfsync always, or queue.backend: sql";
    diagnosis.add(found.weakens(Promise::Delayed).change(change));
}

fn surroundings(facts: &Facts, diagnosis: &mut Diagnosis) {
    if !matches!(facts.info("role"), "master" | "") {
        let found = "it is a replica and takes no writes";
        diagnosis.add(Finding::error(PLACE, found).change("redis.url to the master"));
    }
    if facts.info("connected_slaves").parse::<u32>().is_ok_and(|replicas| replicas > 0) {
        let found = "it has replicas: a failover loses the last writes, holds among them";
        diagnosis.add(
            Finding::note(PLACE, found).weakens(Promise::Fresh).change("min-replicas-to-write 1"),
        );
    }
    let version = facts.version();
    if version < VERSION_MIN {
        let (major, minor) = VERSION_MIN;
        let found = format!(
            "version {} is not tested; {major}.{minor} is the oldest that is",
            facts.info("redis_version")
        );
        diagnosis.add(Finding::error(PLACE, found).change("upgrade the server"));
    }
    if facts.remote && !facts.encrypted {
        let found = "the connection leaves this machine and is not encrypted";
        diagnosis.add(
            Finding::warning(PLACE, found)
                .change("redis.url with rediss://, and redis.allow_plaintext: false"),
        );
    }
}

impl Facts {
    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    fn version(&self) -> (u32, u32) {
        let mut parts = self.info("redis_version").split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn healthy() -> Facts {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Facts {
            info: own(&[
                ("redis_version", "7.0.15"),
                ("role", "master"),
                ("connected_slaves", "0"),
            ]),
            settings: own(&[
                ("maxmemory", "1048576"),
                ("maxmemory-policy", "volatile-lru"),
                ("appendonly", "no"),
                ("appendfsync", "everysec"),
                ("save", ""),
            ]),
            ..Facts::default()
        }
    }

    fn findings(facts: &Facts) -> Vec<Finding> {
        let mut config = Config::default();
        config.store.url = "postgres://app@db/app".into();
        config.redis.url = Some("redis://cache".into());
        let mut diagnosis = Diagnosis::default();
        judge(facts, &config, &mut diagnosis);
        diagnosis.findings
    }

    fn only(change: impl FnOnce(&mut Facts)) -> Finding {
        let mut facts = healthy();
        change(&mut facts);
        let mut found = findings(&facts);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Facts) {
        move |facts| drop(facts.settings.insert(name.into(), value.into()))
    }

    fn info(name: &'static str, value: &'static str) -> impl FnOnce(&mut Facts) {
        move |facts| drop(facts.info.insert(name.into(), value.into()))
    }

    #[test]
    fn a_bounded_cache_without_persistence_is_not_complained_about() {
        assert_eq!(findings(&healthy()), []);
    }

    #[test]
    fn a_policy_that_evicts_holds_is_an_error_and_one_that_evicts_the_filter_a_warning() {
        for policy in ["volatile-ttl", "volatile-random", "allkeys-random"] {
            let found = only(set("maxmemory-policy", policy));
            assert_eq!((found.severity, found.weakens), (Severity::Error, Some(Promise::Fresh)));
        }
        let found = only(set("maxmemory-policy", "allkeys-lru"));
        assert!(found.severity == Severity::Warning && found.found.contains("filter"), "{found}");
        assert_eq!(only(set("maxmemory-policy", "noeviction")).severity, Severity::Note);
        assert_eq!(only(set("maxmemory", "0")).severity, Severity::Warning);
    }

    #[test]
    fn what_a_restart_brings_back_is_told() {
        let found = only(set("save", "3600 1"));
        assert_eq!((found.severity, found.weakens), (Severity::Warning, Some(Promise::Fresh)));
        assert_eq!(only(set("appendonly", "yes")).severity, Severity::Note);
        let mut facts = healthy();
        set("appendonly", "yes")(&mut facts);
        set("appendfsync", "always")(&mut facts);
        assert_eq!(findings(&facts), []);
    }

    fn with_tasks(facts: &Facts) -> Vec<Finding> {
        let mut config = Config::default();
        config.redis.url = Some("redis://cache".into());
        config.queue.backend = QueueBackend::Redis;
        let mut diagnosis = Diagnosis::default();
        judge(facts, &config, &mut diagnosis);
        diagnosis.findings
    }

    #[test]
    fn a_redis_that_loses_tasks_of_the_queue_is_found_out() {
        let found = with_tasks(&healthy());
        assert_eq!((found.len(), found[0].severity), (1, Severity::Warning), "{found:?}");
        assert_eq!(found[0].weakens, Some(Promise::Delayed));
        let mut facts = healthy();
        set("save", "3600 1")(&mut facts);
        assert!(with_tasks(&facts)[0].found.contains("3600 1"));
        set("appendonly", "yes")(&mut facts);
        assert_eq!(with_tasks(&facts)[0].severity, Severity::Note);
        set("appendfsync", "always")(&mut facts);
        assert_eq!(with_tasks(&facts), [], "a queue is not told to keep nothing");
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
            set("maxmemory-policy", policy)(&mut facts);
            let found = with_tasks(&facts);
            assert_eq!((found.len(), found[0].severity), (1, Severity::Error), "{found:?}");
            assert!(found[0].found.contains("tasks"), "{found:?}");
        }
    }

    #[test]
    fn replicas_old_versions_clear_text_and_silence_are_found() {
        assert_eq!(only(info("role", "slave")).severity, Severity::Error);
        assert_eq!(only(info("connected_slaves", "1")).severity, Severity::Note);
        assert!(only(info("redis_version", "6.2.14")).found.contains("6.2.14"));
        assert_eq!(only(|facts| facts.remote = true).severity, Severity::Warning);
        assert_eq!(only(|facts| facts.settings.clear()).severity, Severity::Note);
    }
}
