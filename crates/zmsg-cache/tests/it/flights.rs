//! Single flight: one load, owned by nobody who waits for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use zmsg_cache::{CachePolicy, Origin};
use zmsg_core::{Error, ErrorKind, Key, Result};

use crate::support::{Cluster, Database, Paused, key, policy, reading, some};

/// CA18.
#[tokio::test]
async fn a_thousand_readers_of_a_missing_key_cause_one_load() {
    let (cluster, key) = (Cluster::alone(), key("hot"));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let paused = Paused::new(&database);
    let reads: Vec<_> =
        (0..1000).map(|_| reading(&cluster, &node, &key, paused.origin())).collect();
    paused.read().await;
    while node.stats().coalesced < 999 {
        tokio::task::yield_now().await;
    }
    paused.go();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap(), some("row"));
    }
    assert_eq!(database.loads(), 1);
}

/// CA18, on several threads and over many keys: a load that landed is not repeated either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_on_several_threads_cause_one_load_per_key() {
    let cluster = Cluster::sharing();
    let node = cluster.node();
    let keys: Vec<Key> = (0..200).map(key).collect();
    let rows: Vec<_> = keys.iter().map(|key| (key, "row")).collect();
    let database = Database::with(&rows);
    for _ in 0..16 {
        let (node, keys, origin) = (node.clone(), keys.clone(), database.origin());
        cluster.tracker.spawn(async move {
            for key in keys {
                assert_eq!(node.get_or_load(&key, &origin).await.unwrap(), some("row"));
            }
        });
    }
    cluster.quiet().await;
    assert_eq!(database.loads(), 200);
}

/// CA17.
#[tokio::test]
async fn a_cancelled_leader_does_not_fail_its_followers() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let paused = Paused::new(&database);
    let origin = paused.origin();
    {
        let leader = node.get_or_load(&key, &origin);
        tokio::select! {
            biased;
            () = paused.read() => {}
            _ = leader => panic!("the load is paused"),
        }
        // The leader is dropped here.
    }
    let follower = reading(&cluster, &node, &key, origin);
    while node.stats().coalesced == 0 {
        tokio::task::yield_now().await;
    }
    paused.go();
    assert_eq!(follower.await.unwrap().unwrap(), some("row"));
    assert_eq!(database.loads(), 1);
}

/// The reader that began a flight asks L2 while it is alone; a second one must not depend on it.
#[tokio::test]
async fn a_reader_that_is_never_polled_again_holds_up_no_other() {
    let ((cluster, remote), key) = (Cluster::flaky(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let origin = database.origin();
    let stopped = remote.stop_reads();
    let mut first = Box::pin(node.get_or_load(&key, &origin));
    assert!((&mut first).now_or_never().is_none());
    drop(stopped);
    assert_eq!(node.get_or_load(&key, &origin).await.unwrap(), some("row"));
    assert_eq!(database.loads(), 1);
    // It is told all the same, once somebody asks it.
    assert_eq!(first.await.unwrap(), some("row"));
}

#[tokio::test]
async fn a_read_that_asks_l2_by_itself_is_waited_for_like_a_task() {
    let ((cluster, remote), key) = (Cluster::flaky(), key(1));
    let node = cluster.node();
    let origin = Database::with(&[(&key, "row")]).origin();
    let stopped = remote.stop_reads();
    let mut read = Box::pin(node.get_or_load(&key, &origin));
    assert!((&mut read).now_or_never().is_none());
    let mut quiet = Box::pin(cluster.quiet());
    assert!((&mut quiet).now_or_never().is_none());
    drop(stopped);
    assert_eq!(read.await.unwrap(), some("row"));
    quiet.await;
}

/// Nor does it keep what the origin has few of, such as a connection.
#[tokio::test]
async fn a_load_from_the_origin_goes_on_though_its_only_reader_is_not_polled() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let paused = Paused::new(&database);
    let origin = paused.origin();
    let mut first = Box::pin(node.get_or_load(&key, &origin));
    tokio::select! {
        biased;
        () = paused.read() => {}
        _ = &mut first => panic!("the load is paused"),
    }
    paused.go();
    cluster.quiet().await;
    assert_eq!(node.peek(key.as_str()), Some(some("row")));
    assert_eq!(first.await.unwrap(), some("row"));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_reader_that_is_dropped_outside_of_its_runtime_leaves_its_load_running() {
    let ((cluster, remote), key, runtime) = (Cluster::flaky(), key(1), runtime());
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let origin = database.origin();
    let stopped = remote.stop_reads();
    let mut first = Box::pin(node.get_or_load(&key, &origin));
    assert!(runtime.block_on(async { (&mut first).now_or_never() }).is_none());
    drop(first);
    drop(stopped);
    runtime.block_on(cluster.quiet());
    assert_eq!(node.peek(key.as_str()), Some(some("row")));
}

#[test]
fn a_reader_whose_runtime_has_ended_locks_no_key() {
    let ((cluster, remote), key) = (Cluster::flaky(), key(1));
    let (ended, runtime) = (runtime(), runtime());
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let origin = database.origin();
    let stopped = remote.stop_reads();
    let mut first = Box::pin(node.get_or_load(&key, &origin));
    assert!(ended.block_on(async { (&mut first).now_or_never() }).is_none());
    drop(ended);
    drop(stopped);
    let read = || runtime.block_on(node.get_or_load(&key, &origin));
    assert_eq!(read().unwrap_err().kind(), ErrorKind::Unexpected);
    assert_eq!(read().unwrap(), some("row"));
}

#[tokio::test]
async fn a_load_whose_readers_have_all_gone_fills_all_the_same() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let paused = Paused::new(&database);
    let origin = paused.origin();
    tokio::select! {
        biased;
        () = paused.read() => {}
        _ = node.get_or_load(&key, &origin) => panic!("the load is paused"),
    }
    paused.go();
    cluster.quiet().await;
    assert_eq!(node.peek(key.as_str()), Some(some("row")));
    assert_eq!(cluster.remote.get(&key).await.unwrap().entry.unwrap().value, some("row"));
}

/// An origin that does not answer with a value.
#[derive(Debug)]
enum Bad {
    Panics,
    Fails,
    Hangs,
}

#[async_trait]
impl Origin for Bad {
    async fn load(&self, key: &Key) -> Result<Option<Bytes>> {
        // As a database does, it lets others come meanwhile.
        tokio::task::yield_now().await;
        match self {
            Self::Panics => panic!("no such luck for {key}"),
            Self::Fails => Err(Error::new(ErrorKind::Unavailable, "the store is away").temporary()),
            Self::Hangs => std::future::pending().await,
        }
    }
}

/// DC6.
#[tokio::test]
async fn a_panicking_load_frees_the_key_and_tells_every_waiter() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let reads: Vec<_> =
        (0..3).map(|_| reading(&cluster, &node, &key, Arc::new(Bad::Panics))).collect();
    for read in reads {
        let error = read.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unexpected);
        assert!(error.to_string().contains("no such luck"), "{error}");
    }
    assert_eq!((node.stats().load_failures, node.stats().coalesced), (1, 2));
    let database = Database::with(&[(&key, "row")]);
    assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), some("row"));
}

#[tokio::test]
async fn an_error_reaches_every_waiter_and_is_not_remembered() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let reads: Vec<_> =
        (0..3).map(|_| reading(&cluster, &node, &key, Arc::new(Bad::Fails))).collect();
    for read in reads {
        let error = read.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_temporary());
    }
    let database = Database::with(&[(&key, "row")]);
    assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), some("row"));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_times_out_and_frees_the_key() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let node = cluster.node();
    let began = tokio::time::Instant::now();
    let hangs: Arc<dyn Origin> = Arc::new(Bad::Hangs);
    let error = node.get_or_load(&key, &hangs).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_temporary());
    assert_eq!(began.elapsed().as_secs(), policy().load_timeout.as_secs());
    let database = Database::with(&[(&key, "row")]);
    assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), some("row"));
}

#[tokio::test]
async fn waiters_above_the_bound_are_refused_at_once() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node_with(CachePolicy { waiters_max: 2, ..policy() });
    let database = Database::with(&[(&key, "row")]);
    let paused = Paused::new(&database);
    let first = reading(&cluster, &node, &key, paused.origin());
    paused.read().await;
    let second = reading(&cluster, &node, &key, paused.origin());
    while node.stats().coalesced == 0 {
        tokio::task::yield_now().await;
    }
    let error = node.get_or_load(&key, &paused.origin()).await.unwrap_err();
    assert_eq!((error.kind(), node.stats().overloaded), (ErrorKind::Overloaded, 1));
    paused.go();
    for read in [first, second] {
        assert_eq!(read.await.unwrap().unwrap(), some("row"));
    }
}

#[tokio::test]
async fn loads_above_the_bound_are_refused_until_one_has_ended() {
    let (cluster, one, two) = (Cluster::alone(), key(1), key(2));
    let node = cluster.node_with(CachePolicy { flights_max: 1, ..policy() });
    let database = Database::with(&[(&one, "1"), (&two, "2")]);
    let paused = Paused::new(&database);
    let first = reading(&cluster, &node, &one, paused.origin());
    paused.read().await;
    let error = node.get_or_load(&two, &database.origin()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    paused.go();
    first.await.unwrap().unwrap();
    assert_eq!(node.get_or_load(&two, &database.origin()).await.unwrap(), some("2"));
}

#[tokio::test]
async fn a_runtime_that_stops_leaves_no_key_locked() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    let (hangs, other): (Arc<dyn Origin>, _) = (Arc::new(Bad::Hangs), node.clone());
    let stopped = key.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let wait = Duration::from_millis(1);
        runtime.block_on(async {
            tokio::time::timeout(wait, other.get_or_load(&stopped, &hangs)).await.unwrap_err();
        });
    });
    thread.join().unwrap();
    assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), some("row"));
}
