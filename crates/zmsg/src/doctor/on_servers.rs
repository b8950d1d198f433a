//! The collectors on servers of their own, healthy and not.

use std::time::Duration;

use zmsg_testbed::private::{PoolMode, PostgresOptions, PrivatePgbouncer, PrivatePostgres};

use super::{Diagnosis, Promise, Severity, examine};
use crate::Config;

/// A configuration that leaves nothing in a directory.
fn on(url: String) -> Config {
    let mut config = Config::default();
    config.store.url = url;
    config
}

fn errors(diagnosis: &Diagnosis) -> Vec<&str> {
    let errors = diagnosis.findings.iter().filter(|found| found.severity == Severity::Error);
    errors.map(|found| found.found.as_str()).collect()
}

#[tokio::test]
async fn a_postgres_that_is_as_it_should_be_is_not_complained_about() {
    let Some(server) = PrivatePostgres::start(PostgresOptions::new().durable()) else { return };
    let diagnosis = examine(&on(server.url())).await.unwrap();
    assert_eq!(diagnosis.findings, [], "{diagnosis}");
    assert!(diagnosis.looked_at[0].contains("of 300 connections"), "{diagnosis}");
    assert!(!diagnosis.to_string().contains(server.password()));
}

#[tokio::test]
async fn a_postgres_that_loses_commits_and_has_few_connections_is_found_out() {
    let options = PostgresOptions::new()
        .setting("synchronous_commit", "off")
        .setting("max_connections", "12")
        .setting("default_transaction_isolation", "serializable");
    let Some(server) = PrivatePostgres::start(options) else { return };
    let diagnosis = examine(&on(server.url())).await.unwrap();
    let errors = errors(&diagnosis);
    for part in ["fsync", "full_page_writes", "synchronous_commit", "16 connections"] {
        assert!(errors.iter().any(|error| error.contains(part)), "{part} in {diagnosis}");
    }
    assert!(diagnosis.to_string().contains("serializable"), "{diagnosis}");
}

#[tokio::test]
async fn a_pooler_that_the_configuration_does_not_name_is_found_out() {
    let Some(server) = PrivatePostgres::start(PostgresOptions::new().durable()) else { return };
    let settings = ["ignore_startup_parameters = extra_float_digits"];
    let Some(pooler) = PrivatePgbouncer::start(&server, PoolMode::Transaction, &settings) else {
        return;
    };
    let mut config = on(pooler.url());
    let pools = |diagnosis: &Diagnosis| errors(diagnosis).iter().any(|e| e.contains("pooler"));
    let asked = async {
        // The connection of the server gets older than ours only by the second look.
        while !pools(&examine(&config).await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap();

    config.store.pooled = true;
    let diagnosis = examine(&config).await.unwrap();
    assert!(!diagnosis.has_errors(), "{diagnosis}");
}

#[tokio::test]
async fn a_database_that_is_away_is_a_finding() {
    let port = zmsg_testbed::private::free_port();
    let mut config = on(format!("postgres://app:s3cret@127.0.0.1:{port}/app"));
    config.store.connect_timeout = Duration::from_secs(1);
    let diagnosis = examine(&config).await.unwrap();
    assert!(diagnosis.has_errors(), "{diagnosis}");
    assert!(!diagnosis.to_string().contains("s3cret"), "{diagnosis}");
}

#[tokio::test]
async fn an_embedded_engine_is_judged_by_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::embedded(directory.path());
    config.store.synchronous = crate::Synchronous::Normal;
    let diagnosis = examine(&config).await.unwrap();
    assert_eq!(diagnosis.looked_at.len(), 2, "{diagnosis}");
    let sqlite = diagnosis.findings.iter().find(|found| found.place == "sqlite").unwrap();
    assert_eq!(sqlite.weakens, Some(Promise::Committed));
}

#[cfg(feature = "redis")]
mod redis {
    use zmsg_testbed::private::{PrivateRedis, RedisOptions};

    use super::*;

    /// The embedded default, with a Redis.
    fn with(server: &PrivateRedis, directory: &std::path::Path) -> Config {
        let mut config = Config::embedded(directory);
        config.redis.url = Some(server.url());
        config
    }

    #[tokio::test]
    async fn a_bounded_redis_without_persistence_is_not_complained_about() {
        let options = RedisOptions::new()
            .directive("maxmemory 64mb")
            .directive("maxmemory-policy volatile-lru");
        let Some(server) = PrivateRedis::start(options) else { return };
        let directory = tempfile::tempdir().unwrap();
        let diagnosis = examine(&with(&server, directory.path())).await.unwrap();
        let about_redis = |found: &&super::super::Finding| found.place == "redis";
        let found: Vec<_> = diagnosis.findings.iter().filter(about_redis).collect();
        assert!(found.is_empty(), "{diagnosis}");
        assert!(diagnosis.to_string().contains("master with 0 replicas"), "{diagnosis}");
        assert!(!diagnosis.to_string().contains(server.password().unwrap()));
    }

    #[tokio::test]
    async fn a_redis_that_evicts_holds_and_brings_old_values_back_is_found_out() {
        let options = RedisOptions::new()
            .directive("maxmemory 64mb")
            .directive("maxmemory-policy volatile-ttl")
            .directive("save 3600 1");
        let Some(server) = PrivateRedis::start(options) else { return };
        let directory = tempfile::tempdir().unwrap();
        let diagnosis = examine(&with(&server, directory.path())).await.unwrap();
        assert!(errors(&diagnosis).iter().any(|error| error.contains("holds")), "{diagnosis}");
        assert!(diagnosis.to_string().contains("3600 1"), "{diagnosis}");
        server.kill();
        let away = examine(&with(&server, directory.path())).await.unwrap();
        assert!(errors(&away).iter().any(|error| error.contains("cannot be examined")), "{away}");
    }
}
