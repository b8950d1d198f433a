//! Servers that go and come back.

use zmsg_core::{ErrorKind, ErrorStatus};
use zmsg_redis::Health;
use zmsg_testbed::{Proxy, Repeat};

use crate::support::{
    RECOVERY, open, patient, private, read, returned, shared, until, until_up, write,
};

#[tokio::test]
async fn opening_without_a_server_works_and_it_is_found_when_it_comes() {
    let Some(server) = private() else { return };
    server.kill();
    let redis = open(patient(&server.url()));
    let error = read(&redis, "a").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, ErrorStatus::Temporary));
    assert!(matches!(redis.health(), Health::Down { .. }));
    let mut returns = redis.returns();
    let server = restart(server).await;
    let took = until_up(&redis).await;
    assert!(took < RECOVERY, "{took:?}");
    returned(&mut returns).await;
    write(&redis, "a", "one").await.unwrap();
    drop(server);
}

/// Returns when the server serves again; the client's tasks go on meanwhile.
async fn restart(
    server: zmsg_testbed::private::PrivateRedis,
) -> zmsg_testbed::private::PrivateRedis {
    let restarted = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    restarted.await.unwrap()
}

#[tokio::test]
async fn a_killed_server_fails_calls_at_once_and_is_used_again_without_a_restart_of_ours() {
    let Some(mut server) = private() else { return };
    let redis = open(patient(&server.url()));
    for round in 0..3 {
        until_up(&redis).await;
        write(&redis, "a", "one").await.unwrap();
        server.kill();
        let took = until(async || !redis.health().is_up()).await;
        assert!(took < RECOVERY, "{round}: without a call it took {took:?}");
        let error = read(&redis, "a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{round}: {error}");
        assert_eq!(error.status(), ErrorStatus::Temporary, "{round}: {error}");
        // A while down, so that the pauses between the attempts of both connections have grown.
        let failures = redis.stats().connect_failures;
        until(async || redis.stats().connect_failures >= failures + 14).await;
        let mut returns = redis.returns();
        server = restart(server).await;
        let took = until(async || write(&redis, "a", "two").await.is_ok()).await;
        assert!(took < RECOVERY, "{round}: {took:?}");
        returned(&mut returns).await;
    }
    assert!(redis.stats().connections >= 4);
}

#[tokio::test]
async fn a_reset_connection_is_replaced_before_anybody_calls() {
    let Some(direct) = shared() else { return };
    let Some(server) = zmsg_testbed::redis() else { return };
    let proxy = Proxy::before(server.url());
    let mut options = patient(&proxy.url(server.url()));
    options.namespace = direct.options().namespace.clone();
    let redis = open(options);
    write(&redis, "a", "one").await.unwrap();
    until(async || redis.stats().connections == 2).await;
    for round in 1..=5 {
        proxy.reset_all();
        until(async || redis.stats().connections == 2 + 2 * round).await;
        assert_eq!(read(&redis, "a").await.unwrap().as_deref(), Some("one"));
    }
    assert_eq!(redis.stats().errors, 0);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_says_so() {
    let Some(direct) = shared() else { return };
    let Some(server) = zmsg_testbed::redis() else { return };
    let proxy = Proxy::before(server.url());
    let mut options = patient(&proxy.url(server.url()));
    options.namespace = direct.options().namespace.clone();
    let redis = open(options);
    write(&redis, "a", "one").await.unwrap();
    proxy.swallow_answer_to("two", Repeat::Once);
    let error = write(&redis, "a", "two").await.unwrap_err();
    assert_eq!(error.status(), ErrorStatus::OutcomeUnknown, "{error}");
    assert_eq!(read(&direct, "a").await.unwrap().as_deref(), Some("two"), "it happened");
    proxy.swallow_answer("two", Repeat::Once);
    let error = read(&redis, "a").await.unwrap_err();
    assert_eq!(error.status(), ErrorStatus::Temporary, "{error}");
    proxy.cut_answer_after(3);
    let error = read(&redis, "a").await.unwrap_err();
    assert_eq!(error.status(), ErrorStatus::Temporary, "{error}");
    until(async || read(&redis, "a").await.is_ok()).await;
}

#[tokio::test]
async fn a_server_that_refuses_connections_fails_calls_at_once() {
    let Some(server) = zmsg_testbed::redis() else { return };
    let proxy = Proxy::before(server.url());
    let redis = open(patient(&proxy.url(server.url())));
    until_up(&redis).await;
    proxy.refuse(true);
    proxy.reset_all();
    until(async || matches!(redis.health(), Health::Down { .. })).await;
    let began = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(read(&redis, "a").await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(began.elapsed() < redis.options().deadline, "{:?}", began.elapsed());
    proxy.refuse(false);
    let took = until(async || read(&redis, "a").await.is_ok()).await;
    assert!(took < RECOVERY, "{took:?}");
}
