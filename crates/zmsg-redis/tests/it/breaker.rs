//! Servers that hang: deadlines, and the breaker.

use std::time::{Duration, Instant};

use zmsg_core::{ErrorKind, ErrorStatus};
use zmsg_redis::{Health, Redis, RedisOptions};
use zmsg_testbed::Proxy;

use crate::support::{RECOVERY, open, private, read, returned, until, until_up, write};

const DEADLINE: Duration = Duration::from_millis(250);

/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(4);

fn with_defaults(url: &str) -> Redis {
    let options = RedisOptions::from_url(url).unwrap();
    assert_eq!(options.deadline, DEADLINE);
    open(options)
}

#[tokio::test]
async fn a_paused_server_costs_a_deadline_five_times_and_then_nothing() {
    let Some(server) = private() else { return };
    let redis = with_defaults(&server.url());
    until_up(&redis).await;
    until(async || write(&redis, "a", "one").await.is_ok()).await;
    let before = redis.stats();
    server.pause();
    let mut returns = redis.returns();
    returns.mark_unchanged();
    for call in 0..5 {
        let began = Instant::now();
        let error = write(&redis, "a", "two").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{call}: {error}");
        assert_eq!(error.status(), ErrorStatus::OutcomeUnknown, "{call}: {error}");
        let took = began.elapsed();
        assert!(took >= DEADLINE && took < DEADLINE + SLACK, "{call}: {took:?}");
    }
    let Health::Down { error, .. } = redis.health() else { panic!("{:?}", redis.health()) };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let began = Instant::now();
    let error = read(&redis, "a").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, ErrorStatus::Temporary));
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    let stats = redis.stats();
    assert_eq!(stats.timeouts - before.timeouts, 5);
    assert!(stats.refused > before.refused && stats.breaker_opened > before.breaker_opened);

    // Nobody calls: it is found by itself.
    server.resume();
    let took = until_up(&redis).await;
    assert!(took < RECOVERY, "{took:?}");
    returned(&mut returns).await;
    until(async || read(&redis, "a").await.is_ok_and(|value| value.is_some())).await;
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_left_within_two_seconds_of_its_return() {
    let Some(server) = private() else { return };
    let proxy = Proxy::before(&server.url());
    let redis = with_defaults(&proxy.url(&server.url()));
    until(async || write(&redis, "a", "one").await.is_ok()).await;
    proxy.black_hole(true);
    let opened = redis.stats().breaker_opened;
    until(async || {
        let _ = read(&redis, "a").await;
        redis.stats().breaker_opened > opened
    })
    .await;
    // The next attempts hang too.
    let failures = redis.stats().connect_failures;
    until(async || redis.stats().connect_failures > failures).await;
    proxy.black_hole(false);
    let took = until(async || read(&redis, "a").await.is_ok()).await;
    assert!(took < RECOVERY, "{took:?}");
}

#[tokio::test]
async fn a_server_slower_than_the_deadline_stays_down_and_is_tried_rarely() {
    let Some(server) = private() else { return };
    let proxy = Proxy::before(&server.url());
    let redis = with_defaults(&proxy.url(&server.url()));
    until_up(&redis).await;
    proxy.delay(DEADLINE * 2);
    until(async || {
        let _ = read(&redis, "a").await;
        redis.stats().breaker_opened > 0
    })
    .await;
    // Two seconds of calls without a pause: each that is let through costs a deadline.
    let (before, began) = (redis.stats(), Instant::now());
    while began.elapsed() < Duration::from_secs(2) {
        let _ = read(&redis, "a").await;
        tokio::task::yield_now().await;
    }
    let timeouts = redis.stats().timeouts - before.timeouts;
    assert!(timeouts <= 4, "{timeouts} calls waited");
    proxy.delay(Duration::ZERO);
    let took = until(async || read(&redis, "a").await.is_ok()).await;
    assert!(took < RECOVERY, "{took:?}");
}
