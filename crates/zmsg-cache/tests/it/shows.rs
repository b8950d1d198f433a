//! Deferred writes: seen when accepted, never once something newer is there.

use std::time::Duration;

use zmsg_core::ErrorKind;

use crate::support::{Cluster, Database, bytes, key, policy, some};

#[tokio::test]
async fn an_accepted_value_or_deletion_is_seen_at_once() {
    for cluster in [Cluster::alone(), Cluster::sharing()] {
        let (node, key) = (cluster.node(), key(1));
        for value in [some("accepted"), None] {
            node.show(&key, value.clone(), None, || true).await.unwrap();
            assert_eq!(node.peek(key.as_str()), Some(value));
        }
    }
}

#[tokio::test]
async fn another_node_sees_an_accepted_value() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    cluster.node().show(&key, some("accepted"), None, || true).await.unwrap();
    let database = Database::with(&[(&key, "old")]);
    let read = cluster.node().get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(read, some("accepted"));
}

#[tokio::test]
async fn a_value_whose_write_is_being_applied_is_not_shown() {
    for cluster in [Cluster::alone(), Cluster::sharing()] {
        let (node, key) = (cluster.node(), key(1));
        let database = Database::with(&[(&key, "newer")]);
        for value in [some("applied long ago"), None] {
            node.show(&key, value, None, || false).await.unwrap();
            let read = node.get_or_load(&key, &database.origin()).await.unwrap();
            assert_eq!(read, some("newer"));
        }
    }
}

#[tokio::test]
async fn what_is_shown_ends_when_the_write_is_applied() {
    for cluster in [Cluster::alone(), Cluster::sharing()] {
        let (node, key) = (cluster.node(), key(1));
        let database = Database::with(&[(&key, "as the database computed it")]);
        node.show(&key, some("as it was accepted"), None, || true).await.unwrap();
        node.invalidate(&key).await.unwrap();
        let read = node.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(read, some("as the database computed it"));
    }
}

/// Without an L2 it would be lost with its L1 entry, and readers would see the row from before.
#[tokio::test]
async fn without_l2_a_shown_value_lives_its_whole_ttl() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    node.show(&key, some("accepted"), Some(policy().ttl), || true).await.unwrap();
    cluster.pass(policy().ttl - Duration::from_secs(1));
    assert_eq!(node.peek(key.as_str()), Some(some("accepted")));
}

/// The periodic route accepts in the same step as it shows.
#[tokio::test]
async fn a_refused_write_shows_nothing_and_leaves_what_is_there() {
    let (cluster, key) = (Cluster::alone(), key(1));
    let node = cluster.node();
    node.set(&key, bytes("there"), None).await.unwrap();
    node.show(&key, some("refused"), None, || false).await.unwrap();
    assert_eq!(node.peek(key.as_str()), Some(some("there")));
    let zero = node.show(&key, some("x"), Some(Duration::ZERO), || panic!("it was asked")).await;
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);
}
