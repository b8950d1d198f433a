//! Races between loads and writes, held open at the worst moment.

use std::time::Duration;

use zmsg_cache::{CachePolicy, TieredCache};
use zmsg_core::{ErrorKind, Key};

use crate::support::{Cluster, Database, Paused, bytes, key, policy, reading, some};

/// Commits and publishes as the store route does.
async fn write(node: &TieredCache, database: &Database, key: &Key, value: Option<&str>) -> bool {
    let value = value.map(bytes);
    let hold = node.begin_write(key).await;
    database.commit(key, value.clone());
    node.publish(hold, value, None).await.unwrap()
}

/// CA5: on the node that loads, and on another one.
#[tokio::test]
async fn a_load_that_an_update_overtook_fills_nothing() {
    for other_node in [false, true] {
        let (cluster, key) = (Cluster::sharing(), key(1));
        let (reader, writer) = (cluster.node(), cluster.node());
        let writer = if other_node { &writer } else { &reader };
        let database = Database::with(&[(&key, "old")]);
        let paused = Paused::new(&database);
        let read = reading(&cluster, &reader, &key, paused.origin());
        paused.read().await;
        assert!(write(writer, &database, &key, Some("new")).await);
        paused.go();
        assert_eq!(read.await.unwrap().unwrap(), some("new"), "L2 knows better than the load");
        for node in [&reader, writer] {
            let read = node.get_or_load(&key, &database.origin()).await.unwrap();
            assert_eq!(read, some("new"), "other node: {other_node}");
        }
        assert_eq!(cluster.remote.get(&key).await.unwrap().entry.unwrap().value, some("new"));
        assert_eq!(reader.stats().l2_fills_refused, 1);
    }
}

/// DC13: a delete, and an invalidation after somebody else's delete.
#[tokio::test]
async fn a_load_that_began_before_a_delete_stores_nothing_after_it() {
    for invalidated in [false, true] {
        let (cluster, key) = (Cluster::alone(), key(1));
        let node = cluster.node();
        let database = Database::with(&[(&key, "deleted")]);
        let paused = Paused::new(&database);
        let read = reading(&cluster, &node, &key, paused.origin());
        paused.read().await;
        if invalidated {
            database.commit(&key, None);
            node.invalidate(&key).await.unwrap();
        } else {
            assert!(write(&node, &database, &key, None).await);
        }
        paused.go();
        assert_eq!(read.await.unwrap().unwrap(), some("deleted"));
        assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), None);
        assert_eq!(node.stats().l1_fills_refused, 1);
    }
}

/// CA13. Not in L2, not on the node of the delete, and elsewhere no longer than the hold.
#[tokio::test]
async fn a_reader_between_a_delete_and_its_commit_does_not_cache_the_row() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "row")]);
    node.get_or_load(&key, &database.origin()).await.unwrap();
    let hold = node.begin_write(&key).await;
    for reader in [&node, &other] {
        let between = reader.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(between, some("row"), "it is not committed yet");
    }
    database.commit(&key, None);
    assert!(node.publish(hold, None, None).await.unwrap());
    assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), None);
    assert_eq!(cluster.remote.get(&key).await.unwrap().entry.unwrap().value, None);
    cluster.pass(policy().hold);
    for reader in [&node, &other] {
        assert_eq!(reader.get_or_load(&key, &database.origin()).await.unwrap(), None);
    }
}

/// CA4: two writers that commit A, B and publish B, A; on one node, and on two.
#[tokio::test]
async fn writers_that_publish_in_the_other_order_leave_nothing_stale() {
    for (cluster, nodes) in
        [(Cluster::alone(), 1), (Cluster::sharing(), 1), (Cluster::sharing(), 2)]
    {
        let key = key(1);
        let a = cluster.node();
        let b = if nodes == 2 { cluster.node() } else { a.clone() };
        let database = Database::with(&[]);
        let (hold_a, hold_b) = (a.begin_write(&key).await, b.begin_write(&key).await);
        database.commit(&key, some("A"));
        database.commit(&key, some("B"));
        assert!(!b.publish(hold_b, some("B"), None).await.unwrap());
        assert!(!a.publish(hold_a, some("A"), None).await.unwrap());
        for node in [&a, &b] {
            let read = node.get_or_load(&key, &database.origin()).await.unwrap();
            assert_eq!(read, some("B"));
        }
        assert_eq!(a.stats().contended + b.stats().contended, 2 * (3 - nodes));
        cluster.pass(policy().hold);
        assert!(write(&a, &database, &key, Some("C")).await, "contention ends");
    }
}

/// CA3.
#[tokio::test]
async fn nobody_reads_a_value_that_was_not_committed() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "old")]);
    let hold = node.begin_write(&key).await;
    for reader in [&node, &other] {
        let read = reader.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(read, some("old"));
    }
    // The transaction was rolled back.
    node.abandon(hold).await.unwrap();
    for reader in [&node, &other] {
        let read = reader.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(read, some("old"));
    }
}

#[tokio::test]
async fn a_reader_after_a_write_does_not_join_a_flight_from_before_it() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "old")]);
    let paused = Paused::new(&database);
    let early = reading(&cluster, &node, &key, paused.origin());
    paused.read().await;
    database.commit(&key, some("new"));
    node.invalidate(&key).await.unwrap();
    let late = node.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(late, some("new"));
    paused.go();
    assert_eq!(early.await.unwrap().unwrap(), some("old"));
    assert_eq!(node.peek(key.as_str()), Some(some("new")));
}

#[tokio::test]
async fn a_flight_that_was_overtaken_neither_fills_nor_ends_the_one_that_followed() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "old")]);
    let (first, second) = (Paused::new(&database), Paused::new(&database));
    let early = reading(&cluster, &node, &key, first.origin());
    first.read().await;
    database.commit(&key, some("new"));
    node.invalidate(&key).await.unwrap();
    let late = reading(&cluster, &node, &key, second.origin());
    second.read().await;
    first.go();
    assert_eq!(early.await.unwrap().unwrap(), some("old"));
    assert_eq!(node.peek(key.as_str()), None);
    let later = reading(&cluster, &node, &key, database.origin());
    while node.stats().coalesced == 0 {
        tokio::task::yield_now().await;
    }
    second.go();
    for read in [late, later] {
        assert_eq!(read.await.unwrap().unwrap(), some("new"));
    }
    assert_eq!((node.peek(key.as_str()), database.loads()), (Some(some("new")), 2));
}

/// A load that begins inside a write may have read before the commit.
#[tokio::test]
async fn a_load_from_inside_a_write_fills_nothing_after_it() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "old")]);
    let paused = Paused::new(&database);
    let hold = node.begin_write(&key).await;
    let read = reading(&cluster, &node, &key, paused.origin());
    paused.read().await;
    database.commit(&key, some("new"));
    node.abandon(hold).await.unwrap();
    paused.go();
    assert_eq!(read.await.unwrap().unwrap(), some("old"));
    assert_eq!(node.peek(key.as_str()), None);
}

#[tokio::test]
async fn a_write_of_one_key_refuses_no_fill_of_another() {
    let (cluster, read_key) = (Cluster::alone(), key("read"));
    let node = cluster.node();
    let database = Database::with(&[(&read_key, "row")]);
    let paused = Paused::new(&database);
    let read = reading(&cluster, &node, &read_key, paused.origin());
    paused.read().await;
    for n in 0..5_000 {
        assert!(write(&node, &database, &key(n), Some("x")).await);
    }
    paused.go();
    read.await.unwrap().unwrap();
    assert_eq!(node.peek(read_key.as_str()), Some(some("row")));
}

#[tokio::test]
async fn a_load_slower_than_half_the_hold_does_not_fill_l2() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (reader, writer) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "old")]);
    let paused = Paused::new(&database);
    let read = reading(&cluster, &reader, &key, paused.origin());
    paused.read().await;
    database.commit(&key, some("new"));
    writer.invalidate(&key).await.unwrap();
    cluster.pass(policy().hold);
    paused.go();
    assert_eq!(read.await.unwrap().unwrap(), some("old"));
    assert_eq!(cluster.remote.get(&key).await.unwrap().entry, None, "the hold had expired");
    assert_eq!(reader.stats().l2_fills_refused, 1);
    let read = writer.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(read, some("new"));
}

#[tokio::test]
async fn a_hold_that_expired_before_the_commit_publishes_nothing_and_clears_l2() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (reader, writer) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "old")]);
    let hold = writer.begin_write(&key).await;
    cluster.pass(policy().hold);
    reader.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(cluster.remote.get(&key).await.unwrap().entry.unwrap().value, some("old"));
    database.commit(&key, some("new"));
    assert!(!writer.publish(hold, some("new"), None).await.unwrap());
    assert_eq!(cluster.remote.get(&key).await.unwrap().entry, None);
    let read = writer.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(read, some("new"));
}

#[tokio::test]
async fn a_ttl_shorter_than_a_late_fill_keeps_the_value_out_of_l2() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (reader, writer) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "old")]);
    let paused = Paused::new(&database);
    let read = reading(&cluster, &reader, &key, paused.origin());
    paused.read().await;
    let hold = writer.begin_write(&key).await;
    database.commit(&key, some("new"));
    let short = Duration::from_millis(100);
    assert!(writer.publish(hold, some("new"), Some(short)).await.unwrap());
    assert_eq!(writer.peek(key.as_str()), Some(some("new")));
    cluster.pass(short * 2);
    paused.go();
    read.await.unwrap().unwrap();
    assert_eq!(cluster.remote.get(&key).await.unwrap().entry, None);
    let read = writer.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(read, some("new"));
}

#[tokio::test]
async fn a_dropped_hold_frees_the_key_and_leaves_nothing_stale() {
    for committed in [false, true] {
        let (cluster, key) = (Cluster::sharing(), key(1));
        let (node, other) = (cluster.node(), cluster.node());
        let database = Database::with(&[(&key, "old")]);
        node.get_or_load(&key, &database.origin()).await.unwrap();
        let hold = node.begin_write(&key).await;
        cluster.pass(policy().hold * 9 / 10);
        let paused = Paused::new(&database);
        let late = reading(&cluster, &other, &key, paused.origin());
        paused.read().await;
        if committed {
            database.commit(&key, some("new"));
        }
        drop(hold);
        cluster.pass(policy().hold * 2 / 10);
        paused.go();
        late.await.unwrap().unwrap();
        let now = database.row(&key);
        assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), now);
        cluster.quiet().await;
        cluster.pass(policy().hold);
        assert!(write(&node, &database, &key, Some("next")).await, "nobody holds it any more");
    }
}

/// An accepted deferred write, or a `cache_only`, meets a writer: neither value is kept.
#[tokio::test]
async fn a_set_and_a_write_at_the_same_time_keep_neither_value() {
    for cluster in [Cluster::alone(), Cluster::sharing()] {
        let (node, key) = (cluster.node(), key(1));
        let database = Database::with(&[]);
        let hold = node.begin_write(&key).await;
        node.set(&key, bytes("set"), None).await.unwrap();
        assert_eq!(node.peek(key.as_str()), None);
        database.commit(&key, some("written"));
        assert!(!node.publish(hold, some("written"), None).await.unwrap());
        let read = node.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(read, some("written"));
    }
}

/// A flush changed the row while a writer was at work: which came last is unknown.
#[tokio::test]
async fn an_invalidation_during_a_write_keeps_its_value_out() {
    for cluster in [Cluster::alone(), Cluster::sharing()] {
        let (node, key) = (cluster.node(), key(1));
        let database = Database::with(&[]);
        let hold = node.begin_write(&key).await;
        database.commit(&key, some("written"));
        database.commit(&key, some("flushed"));
        node.invalidate(&key).await.unwrap();
        assert!(!node.publish(hold, some("written"), None).await.unwrap());
        let read = node.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(read, some("flushed"));
    }
}

#[tokio::test]
async fn concurrent_sets_without_l2_keep_one_of_the_values() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    for n in 0..50 {
        let (node, key) = (node.clone(), key.clone());
        cluster.tracker.spawn(async move {
            node.set(&key, bytes(format!("{n}")), None).await.unwrap();
        });
    }
    cluster.quiet().await;
    assert!(matches!(node.peek(key.as_str()), Some(Some(_))));
}

#[tokio::test]
async fn a_set_without_a_lifetime_is_refused() {
    let node = Cluster::alone().node_with(CachePolicy::default());
    let error = node.set(&key(1), bytes("x"), Some(Duration::ZERO)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
