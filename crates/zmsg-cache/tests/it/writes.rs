//! What a write shows, where, and what it counts.

use zmsg_core::Level;

use crate::support::{Cluster, Database, bytes, key, policy, some};

#[tokio::test]
async fn a_published_value_is_in_both_tiers() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[]);
    let hold = node.begin_write(&key).await;
    assert!(hold.remote_error().is_none());
    assert!(node.publish(hold, some("new"), None).await.unwrap());
    assert_eq!(node.peek(key.as_str()), Some(some("new")));
    assert_eq!(other.get_or_load(&key, &database.origin()).await.unwrap(), some("new"));
    assert_eq!((database.loads(), node.stats().published), (0, 1));
}

#[tokio::test]
async fn a_published_deletion_is_known_in_both_tiers() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[]);
    node.set(&key, bytes("old"), None).await.unwrap();
    let hold = node.begin_write(&key).await;
    assert!(node.publish(hold, None, None).await.unwrap());
    assert_eq!(node.peek(key.as_str()), Some(None));
    assert_eq!(other.get_or_load(&key, &database.origin()).await.unwrap(), None);
    assert_eq!(database.loads(), 0);
}

/// CA2, as far as it goes without messages between the nodes: the lag has a bound.
#[tokio::test]
async fn another_node_sees_a_write_within_the_local_ttl() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "old")]);
    other.get_or_load(&key, &database.origin()).await.unwrap();
    let hold = node.begin_write(&key).await;
    database.commit(&key, some("new"));
    assert!(node.publish(hold, some("new"), None).await.unwrap());
    cluster.pass(policy().local_ttl);
    assert_eq!(other.get_or_load(&key, &database.origin()).await.unwrap(), some("new"));
}

#[tokio::test]
async fn a_set_value_is_shown_at_the_level_of_the_tier_that_keeps_it() {
    for cluster in [Cluster::alone(), Cluster::sharing()] {
        let (node, key) = (cluster.node(), key(1));
        assert_eq!(node.set(&key, bytes("v"), None).await.unwrap(), Level::Memory);
        assert_eq!(node.peek(key.as_str()), Some(some("v")));
    }
}

#[tokio::test]
async fn an_abandoned_or_invalidated_key_is_loaded_anew() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "row")]);
    for abandoned in [true, false] {
        node.set(&key, bytes("old"), None).await.unwrap();
        if abandoned {
            let hold = node.begin_write(&key).await;
            node.abandon(hold).await.unwrap();
        } else {
            node.invalidate(&key).await.unwrap();
        }
        for reader in [&node, &other] {
            let read = reader.get_or_load(&key, &database.origin()).await.unwrap();
            assert_eq!(read, some("row"));
            reader.clear_local();
        }
    }
}

#[tokio::test]
async fn writes_of_one_key_one_after_the_other_all_publish() {
    for cluster in [Cluster::alone(), Cluster::sharing()] {
        let (node, key) = (cluster.node(), key(1));
        for n in 0..20 {
            // A flush before the write, as the store route makes one.
            node.invalidate(&key).await.unwrap();
            let hold = node.begin_write(&key).await;
            assert!(node.publish(hold, some(&n.to_string()), None).await.unwrap(), "{n}");
        }
        assert_eq!((node.stats().published, node.stats().contended), (20, 0));
    }
}
