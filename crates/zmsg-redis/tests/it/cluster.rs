//! A cluster of three nodes.

use zmsg_core::ErrorKind;
use zmsg_redis::redis::{Pipeline, Value, cmd};
use zmsg_redis::{HistoryScript, Redis, RedisKey, Script, history_script};
use zmsg_testbed::private::PrivateCluster;

use crate::support::{NOTHING, open, patient, read, until, write};

struct Cluster(PrivateCluster);

impl Cluster {
    fn start() -> Option<Self> {
        PrivateCluster::start(3, 0).map(Self)
    }

    fn open(&self) -> Redis {
        open(patient(&self.0.url()))
    }

    /// Each node by itself.
    fn by_node(&self) -> Vec<Redis> {
        self.0.nodes().iter().map(|node| open(patient(&node.url()))).collect()
    }
}

async fn keys_on(node: &Redis) -> u64 {
    node.query(&cmd("DBSIZE")).await.unwrap()
}

#[tokio::test]
async fn keys_of_all_nodes_are_written_and_read_at_once() {
    let Some(cluster) = Cluster::start() else { return };
    let redis = cluster.open();
    let keys: Vec<RedisKey> = (0..100).map(|n| redis.key("t", &n.to_string())).collect();
    for n in 0..100 {
        write(&redis, &n.to_string(), &format!("value {n}")).await.unwrap();
    }
    for node in cluster.by_node() {
        assert!(keys_on(&node).await > 10);
    }
    let mut asked = keys.clone();
    asked.reverse();
    asked.insert(3, redis.key("t", "none"));
    let found = redis.multi_get(&asked).await.unwrap();
    assert_eq!(found.len(), asked.len());
    assert_eq!(found[3], None);
    assert_eq!(found[0].as_deref(), Some(&b"value 99"[..]));
    assert_eq!(found.last().unwrap().as_deref(), Some(&b"value 0"[..]));

    static SIZE: HistoryScript = history_script!("return redis.call('STRLEN', KEYS[1])");
    let sizes = redis.script_each::<usize>(&SIZE, &keys, &NOTHING).await;
    for (n, size) in sizes.into_iter().enumerate() {
        assert_eq!(size.unwrap(), format!("value {n}").len());
    }
}

#[tokio::test]
async fn parts_of_one_tag_may_be_used_together_and_others_not() {
    let Some(cluster) = Cluster::start() else { return };
    static BOTH: Script = Script::new(
        "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], ARGV[1]) return 1",
    );
    let redis = cluster.open();
    for tag in ["feed", "}", "a{b}c", ""] {
        let parts = ["meta", "bits"].map(|part| redis.tagged("f", tag, part));
        assert_eq!(redis.script::<u64>(&BOTH, &parts, &"x").await.unwrap(), 1, "{tag}");
        let mut pipeline = Pipeline::new();
        for part in &parts {
            pipeline.cmd("GET").arg(part);
        }
        let found: Vec<String> = redis.pipeline(&pipeline).await.unwrap();
        assert_eq!(found, ["x", "x"]);
    }
    let apart = ["1", "2", "3", "4"].map(|name| redis.key("t", name));
    let error = redis.script::<u64>(&BOTH, &apart, &"x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(redis.health().is_up());
}

#[tokio::test]
async fn a_key_that_moved_is_followed() {
    let Some(cluster) = Cluster::start() else { return };
    let redis = cluster.open();
    write(&redis, "a", "one").await.unwrap();
    let nodes = cluster.by_node();
    let key = redis.key("t", "a");
    let slot: u64 = nodes[0].query(cmd("CLUSTER").arg("KEYSLOT").arg(&key)).await.unwrap();
    // Who has it, by asking each whether it would serve the key.
    let mut owner = None;
    for (index, node) in nodes.iter().enumerate() {
        if node.query::<Option<String>>(cmd("GET").arg(&key)).await.is_ok() {
            owner = Some(index);
        }
    }
    let from = owner.expect("one of the nodes has it");
    let to = (from + 1) % 3;
    let mut ids = Vec::new();
    for node in &nodes {
        ids.push(node.query::<String>(cmd("CLUSTER").arg("MYID")).await.unwrap());
    }
    let set_slot = |what: &str, id: usize| {
        let mut cmd = cmd("CLUSTER");
        cmd.arg("SETSLOT").arg(slot).arg(what).arg(&ids[id]);
        cmd
    };
    nodes[to].query::<()>(&set_slot("IMPORTING", from)).await.unwrap();
    nodes[from].query::<()>(&set_slot("MIGRATING", to)).await.unwrap();
    let mut migrate = cmd("MIGRATE");
    migrate.arg("127.0.0.1").arg(cluster.0.nodes()[to].port()).arg(&key).arg(0).arg(5000);
    nodes[from].query::<Value>(&migrate).await.unwrap();
    // Now it is answered with ASK.
    assert_eq!(read(&redis, "a").await.unwrap().as_deref(), Some("one"));
    for node in [to, from] {
        nodes[node].query::<()>(&set_slot("NODE", to)).await.unwrap();
    }
    // And now with MOVED.
    assert_eq!(read(&redis, "a").await.unwrap().as_deref(), Some("one"));
    write(&redis, "a", "two").await.unwrap();
    assert_eq!(redis.stats().errors, 0);
}

#[tokio::test]
async fn a_node_that_is_killed_fails_its_keys_and_comes_back() {
    let Some(cluster) = Cluster::start() else { return };
    let redis = cluster.open();
    let all = async |redis: &Redis| {
        for n in 0..30 {
            write(redis, &n.to_string(), "x").await?;
        }
        Ok::<_, zmsg_core::Error>(())
    };
    all(&redis).await.unwrap();
    cluster.0.nodes()[1].kill();
    until(async || all(&redis).await.is_err()).await;
    cluster.0.nodes()[1].restart();
    until(async || all(&redis).await.is_ok()).await;
}
