//! Reading many keys at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_cache::Origin;
use zmsg_core::{Error, ErrorKind, Key, Result};

use crate::support::{Cluster, Database, Paused, bytes, key, reading, some};

#[tokio::test]
async fn every_key_gets_its_own_answer_in_order_from_whichever_tier_has_it() {
    let cluster = Cluster::sharing();
    let (node, other) = (cluster.node(), cluster.node());
    let keys = ["l1", "l2", "row", "none", "row"].map(key);
    let database = Database::with(&[(&keys[2], "3")]);
    node.set(&keys[0], bytes("1"), None).await.unwrap();
    other.set(&keys[1], bytes("2"), None).await.unwrap();
    let asked = keys.clone().map(|key| (key, database.origin()));
    let answers: Vec<_> = node.get_many(&asked).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [some("1"), some("2"), some("3"), None, some("3")]);
    assert_eq!(database.loads(), 2, "the repeated key waits for its first");
    let stats = node.stats();
    assert_eq!((stats.l1_hits, stats.l2_hits, stats.loads, stats.coalesced), (1, 1, 2, 1));
    assert!(keys.iter().all(|key| node.peek(key.as_str()).is_some()), "all are in L1 now");
    assert!(node.get_many(&[]).await.is_empty());
}

#[derive(Debug)]
struct Failing(bool);

#[async_trait]
impl Origin for Failing {
    async fn load(&self, _: &Key) -> Result<Option<Bytes>> {
        assert!(!self.0, "a load of a batch panics");
        Err(Error::new(ErrorKind::Unavailable, "the store is away"))
    }
}

#[tokio::test]
async fn one_keys_failure_or_panic_is_not_the_others() {
    let (cluster, [good, bad, worse]) = (Cluster::alone(), ["good", "bad", "worse"].map(key));
    let node = cluster.node();
    let database = Database::with(&[(&good, "row")]);
    let answers = node
        .get_many(&[
            (bad.clone(), Arc::new(Failing(false))),
            (worse.clone(), Arc::new(Failing(true))),
            (good, database.origin()),
        ])
        .await;
    let kinds: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().err().map(Error::kind)).collect();
    assert_eq!(kinds, [Some(ErrorKind::Unavailable), Some(ErrorKind::Unexpected), None]);
    for key in [bad, worse] {
        assert_eq!(node.get_or_load(&key, &database.origin()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_batch_joins_a_load_under_way_and_is_joined() {
    let (cluster, one, two) = (Cluster::alone(), key(1), key(2));
    let node = cluster.node();
    let database = Database::with(&[(&one, "1"), (&two, "2")]);
    let paused = Paused::new(&database);
    let single = reading(&cluster, &node, &one, paused.origin());
    paused.read().await;
    let asked = [(one, paused.origin()), (two.clone(), paused.origin())];
    let answers = async { node.get_many(&asked).await };
    let release = async {
        paused.read().await;
        let joined = reading(&cluster, &node, &two, paused.origin());
        while node.stats().coalesced < 2 {
            tokio::task::yield_now().await;
        }
        paused.go();
        paused.go();
        joined.await.unwrap().unwrap()
    };
    let (answers, joined) = tokio::join!(answers, release);
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!((answers, joined), (vec![some("1"), some("2")], some("2")));
    single.await.unwrap().unwrap();
    assert_eq!(database.loads(), 2);
}

/// Counts how many loads run at a time.
#[derive(Debug, Default)]
struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Origin for Crowd {
    async fn load(&self, _: &Key) -> Result<Option<Bytes>> {
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        self.now.fetch_sub(1, SeqCst);
        Ok(None)
    }
}

#[tokio::test]
async fn loads_of_a_batch_run_together_but_bounded() {
    let node = Cluster::alone().node();
    let crowd = Arc::new(Crowd::default());
    let asked: Vec<(Key, Arc<dyn Origin>)> =
        (0..500).map(|n| (key(n), crowd.clone() as Arc<dyn Origin>)).collect();
    assert!(node.get_many(&asked).await.iter().all(|answer| matches!(answer, Ok(None))));
    assert_eq!(crowd.most.load(SeqCst), 32);
}

#[tokio::test]
async fn a_batch_that_an_update_overtook_fills_nothing() {
    let (cluster, key) = (Cluster::sharing(), key(1));
    let node = cluster.node();
    let database = Database::with(&[(&key, "old")]);
    let paused = Paused::new(&database);
    let asked = [(key.clone(), paused.origin())];
    let overtake = async {
        paused.read().await;
        let hold = node.begin_write(&key).await;
        database.commit(&key, some("new"));
        assert!(node.publish(hold, some("new"), None).await.unwrap());
        paused.go();
    };
    let (answers, ()) = tokio::join!(node.get_many(&asked), overtake);
    assert_eq!(answers[0].clone().unwrap(), some("new"), "L2 knows better than the load");
    assert_eq!(node.peek(key.as_str()), Some(some("new")));
}
