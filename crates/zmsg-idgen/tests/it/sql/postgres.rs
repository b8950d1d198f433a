//! What only a server can do to its clients.

use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use zmsg_core::{ErrorKind, Statement};
use zmsg_idgen::{NodeLease, SqlLeaseOptions};
use zmsg_store::{PostgresOptions, PostgresStore, SqlStore};
use zmsg_testbed::private::{self, PrivatePostgres};
use zmsg_testbed::{Proxy, Repeat};

use super::kept::Kept;
use super::{Database, open, two_nodes, want};

/// The lease of the generators here: longer than any of the tests.
const LEASE: Duration = Duration::from_secs(600);

/// What a generator has in hand when its database goes away.
const RESERVE: Duration = Duration::from_millis(300);

/// How long a caller may have to wait for the bad news: what is in hand, and two requests.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Runs what blocks beside the generators.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starter_who_finds_every_free_node_locked_is_told_in_time() {
    let Some(database) = Database::postgres().await else { return };
    let leases = database.leases(SqlLeaseOptions::default());
    let lease = leases.acquire(want(two_nodes())).await.unwrap();
    leases.release(lease, 0).await.unwrap();
    let lock = Statement::query(
        "WITH locked AS MATERIALIZED (SELECT node FROM zmsg_node FOR UPDATE) \
         SELECT count(*), pg_sleep(2) FROM locked",
        vec![],
    );
    let locking = database.store.execute(&lock);
    let looking = async {
        let unlocked = "SELECT count(*) FROM \
                        (SELECT node FROM zmsg_node FOR UPDATE SKIP LOCKED) AS unlocked";
        while database.number(unlocked).await > 0 {}
        let began = Instant::now();
        let error = leases.acquire(want(two_nodes())).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.is_temporary(), "{error:?}");
        began.elapsed()
    };
    let (locked, took) = futures_util::join!(locking, looking);
    locked.unwrap();
    assert!(took < Duration::from_secs(2), "it waited for the locks: {took:?}");
    leases.acquire(want(two_nodes())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_strands_a_node_for_one_lease_at_most() {
    let Some(database) = Database::postgres().await else { return };
    let proxy = Proxy::before(&database.url);
    let behind = Database {
        url: proxy.url(&database.url),
        store: open(&proxy.url(&database.url)).await,
        ..database
    };
    let options = SqlLeaseOptions {
        lease: Duration::from_secs(2),
        grace: Duration::ZERO,
        ..SqlLeaseOptions::default()
    };
    let leases = behind.leases(options);
    let seen = leases.acquire(want(two_nodes())).await.unwrap();
    proxy.swallow_answer("UPDATE 1\0", Repeat::Once);
    let error = leases.acquire(want(two_nodes())).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    let held = "SELECT count(*) FROM zmsg_node WHERE owner IS NOT NULL";
    assert_eq!(behind.number(held).await, 2, "it is held, and nobody knows");
    let began = Instant::now();
    let next = loop {
        match leases.acquire(want(two_nodes())).await {
            Ok(next) => break next,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "a node is stranded");
    };
    assert!(next.node != seen.node || next.epoch > seen.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_survive_a_server_that_is_killed_and_stays_away_for_longer_than_the_reservation() {
    let Some(server) = blocking(|| PrivatePostgres::start(private::PostgresOptions::new())).await
    else {
        return;
    };
    let database = Database::at(&server.url()).await;
    let kept = Kept::start(database.store.clone(), LEASE, RESERVE).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        server.kill();
        let began = Instant::now();
        let error = kept.until_refused(&mut ids).await;
        assert!(error.is_temporary(), "{error:?}");
        assert!(began.elapsed() < TOLD_WITHIN, "{:?}", began.elapsed());
        server.restart();
        kept.until_served(&mut ids).await;
    }
    assert_eq!(kept.generator.stats().leases_lost, 0, "the lease outlasts the outage");
    kept.end(&ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_is_given_up_in_bounded_time() {
    let Some(database) = Database::postgres().await else { return };
    let proxy = Proxy::before(&database.url);
    let store = open(&proxy.url(&database.url)).await;
    let kept = Kept::start(store, LEASE, RESERVE).await;
    let mut ids = Vec::new();
    proxy.black_hole(true);
    let began = Instant::now();
    let error = kept.until_refused(&mut ids).await;
    assert!(error.is_temporary(), "{error:?}");
    assert!(began.elapsed() < TOLD_WITHIN, "{:?}", began.elapsed());
    proxy.black_hole(false);
    kept.until_served(&mut ids).await;
    kept.end(&ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ceiling_survives_a_crash_of_a_server_whose_commits_do_not_wait_for_the_disk() {
    let careless = private::PostgresOptions::new()
        .setting("synchronous_commit", "off")
        .setting("wal_writer_delay", "10s")
        .setting("wal_writer_flush_after", "1GB")
        .setting("autovacuum", "off")
        .setting("bgwriter_delay", "10s");
    let Some(server) = blocking(|| PrivatePostgres::start(careless)).await else { return };
    let database = Database::at(&server.url()).await;
    let leases = database.leases(SqlLeaseOptions::default());
    let lease = leases.acquire(want(two_nodes())).await.unwrap();
    // The writer of the log has done what it had to do and sleeps.
    let lease = leases.extend(&lease, lease.ceiling_ms + 1_000).await.unwrap();
    let lease = leases.extend(&lease, lease.ceiling_ms + 1_000).await.unwrap();
    server.kill();
    server.restart();
    let stored = format!("SELECT ceiling_ms FROM zmsg_node WHERE node = {}", lease.node);
    let reopened = PostgresStore::open(PostgresOptions::new(server.url()), TaskTracker::new());
    let rows = reopened.await.unwrap().fetch(&Statement::query(stored, vec![])).await.unwrap();
    assert_eq!(u64::try_from(rows[0].int(0).unwrap()).unwrap(), lease.ceiling_ms);
}
