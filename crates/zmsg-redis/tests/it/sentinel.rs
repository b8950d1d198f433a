//! Sentinels: the master is found, and found again after a failover.

use std::collections::HashMap;

use zmsg_core::ErrorKind;
use zmsg_redis::Redis;
use zmsg_redis::redis::cmd;
use zmsg_testbed::private::PrivateSentinels;

use crate::support::{open, patient, read, until, until_up, write};

fn start() -> Option<PrivateSentinels> {
    PrivateSentinels::start(&[])
}

async fn port(redis: &Redis) -> u16 {
    let answer: HashMap<String, u16> =
        redis.query(cmd("CONFIG").arg("GET").arg("port")).await.unwrap_or_default();
    answer.get("port").copied().unwrap_or_default()
}

#[tokio::test]
async fn the_master_is_found_and_after_a_failover_the_new_one() {
    let Some(group) = start() else { return };
    let redis = open(patient(&group.url()));
    write(&redis, "a", "one").await.unwrap();
    assert_eq!(port(&redis).await, group.master.port());
    let replica = open(patient(&group.replica.url()));
    until(async || read(&replica, "a").await.is_ok_and(|value| value.is_some())).await;

    group.master.kill();
    until(async || write(&redis, "a", "two").await.is_ok()).await;
    assert_eq!(port(&redis).await, group.replica.port());

    // The old master comes back, as a master by its own account, and is not gone back to.
    group.master.restart();
    let stale = open(patient(&group.master.url()));
    until_up(&stale).await;
    write(&redis, "a", "three").await.unwrap();
    assert_eq!(port(&redis).await, group.replica.port());
}

#[tokio::test]
async fn one_sentinel_that_answers_is_enough_and_none_is_unavailable() {
    let Some(group) = start() else { return };
    group.sentinels[0].kill();
    group.sentinels[1].pause();
    let redis = open(patient(&group.url()));
    until_up(&redis).await;
    write(&redis, "a", "one").await.unwrap();

    group.sentinels[2].kill();
    let late = open(patient(&group.url()));
    let error = until_error(&late).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    write(&redis, "a", "those who are connected stay so").await.unwrap();

    group.sentinels[1].resume();
    until(async || write(&late, "a", "two").await.is_ok()).await;
}

async fn until_error(redis: &Redis) -> zmsg_core::Error {
    let mut error = None;
    until(async || {
        error = read(redis, "a").await.err().filter(|error| error.kind() != ErrorKind::Timeout);
        error.is_some()
    })
    .await;
    error.expect("it was waited for")
}

#[tokio::test]
async fn a_name_that_the_sentinels_do_not_know_is_said() {
    let Some(group) = start() else { return };
    let url = format!("redis+sentinel://127.0.0.1:{}/other", group.sentinels[0].port());
    let error = read(&open(patient(&url)), "a").await.unwrap_err();
    assert!(error.to_string().contains("other"), "{error}");
}
