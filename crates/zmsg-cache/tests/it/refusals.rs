//! What becomes of a load whose fill L2 refused.

use std::time::Duration;

use zmsg_cache::CachePolicy;

use crate::support::{Cluster, Database, Paused, bytes, key, policy, reading, some};

const SECOND: Duration = Duration::from_secs(1);

/// A counter that is flushed more often than a hold lasts is still a cache hit.
#[tokio::test]
async fn a_key_that_is_flushed_every_second_is_loaded_once_a_flush() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "0")]);
    for flush in 1..=12_usize {
        let likes = flush.to_string();
        database.commit(&key, some(&likes));
        node.invalidate(&key).await.unwrap();
        for _ in 0..20 {
            let read = node.get_or_load(&key, &database.origin()).await.unwrap();
            assert_eq!(read, some(&likes), "on the node of the flush it is never an older one");
        }
        assert_eq!(database.loads(), flush);
        cluster.pass(SECOND);
    }
    // Elsewhere one load serves for a hold, and lags no more than that.
    for second in 0..12_usize {
        database.commit(&key, some(&format!("{second}")));
        node.invalidate(&key).await.unwrap();
        let read = other.get_or_load(&key, &database.origin()).await.unwrap();
        assert_eq!(read, some(&format!("{}", second / 3 * 3)));
        cluster.pass(SECOND);
    }
    assert_eq!(database.loads(), 12 + 4);
}

#[tokio::test]
async fn what_a_hold_refused_is_kept_for_as_long_as_a_hold_lasts_and_not_in_l2() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "row")]);
    node.invalidate(&key).await.unwrap();
    for reader in [&node, &other] {
        reader.get_or_load(&key, &database.origin()).await.unwrap();
    }
    assert_eq!(cluster.remote.get(&key).await.unwrap().entry, None);
    cluster.pass(policy().hold - Duration::from_millis(1));
    for reader in [&node, &other] {
        assert_eq!(reader.peek(key.as_str()), Some(some("row")));
    }
    cluster.pass(Duration::from_millis(1));
    for reader in [&node, &other] {
        assert_eq!(reader.peek(key.as_str()), None);
    }
}

/// The bound on the lag, and what is left of an absence, are shorter than the hold here.
#[tokio::test]
async fn what_a_hold_refused_lives_no_longer_than_it_would_have_without() {
    let cluster = Cluster::sharing();
    let brief = CachePolicy { local_ttl: 2 * SECOND, negative_ttl: SECOND, ..policy() };
    let node = cluster.node_with(brief);
    let [row, absent] = ["row", "absent"].map(key);
    let database = Database::with(&[(&row, "row")]);
    for key in [&row, &absent] {
        node.invalidate(key).await.unwrap();
        node.get_or_load(key, &database.origin()).await.unwrap();
    }
    assert_eq!(node.peek(absent.as_str()), Some(None));
    cluster.pass(SECOND);
    assert_eq!((node.peek(absent.as_str()), node.peek(row.as_str())), (None, Some(some("row"))));
    cluster.pass(SECOND);
    assert_eq!(node.peek(row.as_str()), None);
}

/// The hold is this node's own: what was read before its commit is not kept.
#[tokio::test]
async fn what_is_loaded_inside_a_write_of_this_node_is_not_kept() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "old")]);
    let hold = node.begin_write(&key).await;
    let read = node.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!((read, node.peek(key.as_str())), (some("old"), None));

    let paused = Paused::new(&database);
    let late = reading(&cluster, &node, &key, paused.origin());
    paused.read().await;
    database.commit(&key, some("new"));
    node.abandon(hold).await.unwrap();
    paused.go();
    assert_eq!(late.await.unwrap().unwrap(), some("old"), "it began before the write ended");
    assert_eq!(node.peek(key.as_str()), None);
    let read = node.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!((read, node.peek(key.as_str())), (some("new"), Some(some("new"))));
}

#[tokio::test]
async fn a_flush_that_a_load_missed_takes_the_loaded_value_with_it() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "old")]);
    node.invalidate(&key).await.unwrap();
    let paused = Paused::new(&database);
    let late = reading(&cluster, &node, &key, paused.origin());
    paused.read().await;
    database.commit(&key, some("new"));
    node.invalidate(&key).await.unwrap();
    paused.go();
    late.await.unwrap().unwrap();
    assert_eq!(node.peek(key.as_str()), None);
}

/// It takes effect after its outcome was given up as unknown.
#[tokio::test]
async fn a_commit_after_its_write_was_abandoned_is_missed_for_a_hold_at_most() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "old")]);
    let hold = node.begin_write(&key).await;
    node.abandon(hold).await.unwrap();
    node.get_or_load(&key, &database.origin()).await.unwrap();
    database.commit(&key, some("new"));
    cluster.pass(policy().hold);
    let read = node.get_or_load(&key, &database.origin()).await.unwrap();
    assert_eq!(read, some("new"));
}

/// A load that an accepted write overtook answers with what was accepted, here and elsewhere.
#[tokio::test]
async fn nobody_who_asks_while_a_write_is_accepted_sees_less_than_l2_has() {
    for other_node in [false, true] {
        let (cluster, key) = (Cluster::sharing(), key(1));
        let (node, other) = (cluster.node(), cluster.node());
        let reader = if other_node { &other } else { &node };
        let database = Database::with(&[(&key, "old")]);
        let paused = Paused::new(&database);
        let late = reading(&cluster, reader, &key, paused.origin());
        paused.read().await;
        node.show(&key, some("accepted"), None, || true).await.unwrap();
        paused.go();
        assert_eq!(late.await.unwrap().unwrap(), some("accepted"));
        assert_eq!(reader.peek(key.as_str()), Some(some("accepted")));
        assert_eq!(reader.stats().l2_hits, 1);
    }
}

/// The value in L2 ends before a TTL of the loader's would.
#[tokio::test]
async fn a_value_that_l2_had_already_ends_when_it_ends_there() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let (node, other) = (cluster.node(), cluster.node());
    let database = Database::with(&[(&key, "row")]);
    let paused = Paused::new(&database);
    let late = reading(&cluster, &node, &key, paused.origin());
    paused.read().await;
    other.set(&key, bytes("set"), Some(SECOND)).await.unwrap();
    paused.go();
    assert_eq!(late.await.unwrap().unwrap(), some("set"));
    cluster.pass(SECOND);
    assert_eq!(node.peek(key.as_str()), None);
}

#[tokio::test]
async fn many_keys_are_invalidated_at_once_in_both_tiers() {
    for cluster in [Cluster::alone(), Cluster::sharing()] {
        let node = cluster.node();
        let keys: Vec<_> = (0..100).map(key).collect();
        let database = Database::with(&[(&keys[7], "old")]);
        let paused = Paused::new(&database);
        let late = reading(&cluster, &node, &keys[7], paused.origin());
        paused.read().await;
        for key in &keys[10..] {
            node.set(key, bytes("old"), None).await.unwrap();
        }
        database.commit(&keys[7], some("new"));
        let twice: Vec<_> = keys.iter().chain(&keys[..20]).cloned().collect();
        node.invalidate_many(&twice).await.unwrap();
        paused.go();
        late.await.unwrap().unwrap();
        for key in &keys {
            assert_eq!(node.peek(key.as_str()), None, "{key:?}");
            assert_eq!(cluster.remote.get(key).await.unwrap().entry, None, "{key:?}");
        }
        // The fences are open again.
        node.get_or_load(&keys[7], &database.origin()).await.unwrap();
        assert_eq!(node.peek(keys[7].as_str()), Some(some("new")));
        node.invalidate_many(&[]).await.unwrap();
    }
}

#[tokio::test]
async fn invalidating_many_keys_with_l2_away_is_an_error_that_a_repair_makes_up_for() {
    let (cluster, flaky) = Cluster::flaky();
    let node = cluster.node();
    let keys: Vec<_> = (0..3).map(key).collect();
    for key in &keys {
        node.set(key, bytes("old"), None).await.unwrap();
    }
    flaky.set_broken(true);
    node.invalidate_many(&keys).await.unwrap_err();
    assert!(keys.iter().all(|key| node.peek(key.as_str()).is_none()), "L1 forgets in any case");
    flaky.set_broken(false);
    node.invalidate_many(&keys).await.unwrap();
    for key in &keys {
        assert_eq!(cluster.remote.get(key).await.unwrap().entry, None);
    }
}
