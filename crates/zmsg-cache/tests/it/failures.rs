//! When L2 is away.

use zmsg_core::ErrorKind;

use crate::support::{Cluster, Database, bytes, key, policy, reading, some};

/// CA14.
#[tokio::test]
async fn with_l2_away_writes_and_reads_go_on() {
    let ((cluster, remote), key) = (Cluster::flaky(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "old")]);
    remote.set_broken(true);
    assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), some("old"));
    assert_eq!(node.peek(key.as_str()), Some(some("old")), "L1 fills without L2");
    let hold = node.begin_write(&key).await;
    assert!(hold.remote_error().is_some());
    database.commit(&key, some("new"));
    let error = node.publish(hold, some("new"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "the caller hears of it");
    assert_eq!(node.peek(key.as_str()), Some(some("new")), "own writes are seen at once");
    assert!(node.stats().l2_errors >= 3);
}

/// CA15 and CA26: the repair is told of, and it is an invalidation, never an old value.
#[tokio::test]
async fn a_repair_never_brings_an_old_value_back() {
    let ((cluster, remote), key) = (Cluster::flaky(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "first")]);
    node.get_or_load(&key, &database.origin()).await.unwrap();
    let hold = node.begin_write(&key).await;
    database.commit(&key, some("second"));
    remote.set_broken(true);
    node.publish(hold, some("second"), None).await.unwrap_err();
    node.invalidate(&key).await.unwrap_err();
    assert_eq!(node.peek(key.as_str()), None, "L1 forgets in any case");
    remote.set_broken(false);
    cluster.pass(policy().hold);

    let hold = other.begin_write(&key).await;
    database.commit(&key, some("third"));
    assert!(other.publish(hold, some("third"), None).await.unwrap());
    // The repair of the second write comes late.
    node.invalidate(&key).await.unwrap();
    for reader in [&node, &other] {
        let read = reader.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(read, some("third"));
    }
    assert_ne!(cluster.remote.get(&key).await.unwrap().entry.and_then(|e| e.value), some("second"));
}

#[tokio::test]
async fn a_hold_that_never_reached_l2_is_made_up_for_when_it_ends() {
    for aborted in [false, true] {
        let ((cluster, remote), key) = (Cluster::flaky(), key(1));
        let (node, other) = (cluster.node(), cluster.node());
        let database = Database::with(&[(&key, "old")]);
        node.get_or_load(&key, &database.origin()).await.unwrap();
        remote.set_broken(true);
        let hold = node.begin_write(&key).await;
        remote.set_broken(false);
        database.commit(&key, some("new"));
        if aborted {
            node.abandon(hold).await.unwrap();
        } else {
            assert!(node.publish(hold, some("new"), None).await.unwrap());
        }
        for reader in [&node, &other] {
            let read = reader.get_or_load(&key, &database.origin()).await.unwrap();
            assert_eq!(read, some("new"), "L2 still has the old value");
        }
    }
}

/// CA16: a failing L2 is a counted miss, and single flight stands before the database.
#[tokio::test]
async fn with_l2_away_a_thousand_readers_still_cause_one_load() {
    let ((cluster, remote), key) = (Cluster::flaky(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    remote.set_broken(true);
    let reads: Vec<_> =
        (0..1000).map(|_| reading(&cluster, &node, &key, database.origin())).collect();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap(), some("row"));
    }
    let stats = node.stats();
    assert_eq!((database.loads(), stats.l2_errors, stats.load_failures), (1, 1, 0));
}

#[tokio::test]
async fn with_l2_away_a_batch_is_loaded() {
    let ((cluster, remote), key) = (Cluster::flaky(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "row")]);
    remote.set_broken(true);
    let answers = node.get_many(&[(key.clone(), database.origin())]).await;
    assert_eq!(answers[0].clone().unwrap(), some("row"));
    assert_eq!(node.peek(key.as_str()), Some(some("row")));
}

#[tokio::test]
async fn a_set_that_l2_did_not_take_is_an_error_and_shows_nothing() {
    for applies in [false, true] {
        let ((cluster, remote), key) = (Cluster::flaky(), key(1));
        let node = cluster.node();
        remote.set_applies(applies);
        remote.set_broken(true);
        node.set(&key, bytes("x"), None).await.unwrap_err();
        assert_eq!(node.peek(key.as_str()), None);
    }
}

/// A publication whose answer was lost may have taken effect: the value is right either way.
#[tokio::test]
async fn a_lost_answer_leaves_no_stale_value() {
    let ((cluster, remote), key) = (Cluster::flaky(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "old")]);
    let hold = node.begin_write(&key).await;
    database.commit(&key, some("new"));
    remote.set_applies(true);
    remote.set_broken(true);
    node.publish(hold, some("new"), None).await.unwrap_err();
    remote.set_broken(false);
    for reader in [&node, &other] {
        let read = reader.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(read, some("new"));
    }
}
