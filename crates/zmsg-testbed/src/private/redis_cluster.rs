//! A Redis Cluster of one's own.

use std::process::Command;
use std::time::Duration;

use super::redis::{PrivateRedis, RedisOptions};
use super::until;

/// How long the nodes may take to agree.
const AGREED: Duration = Duration::from_secs(30);

/// A Redis Cluster of one's own, on 127.0.0.1 and without a password.
#[derive(Debug)]
pub struct PrivateCluster {
    nodes: Vec<PrivateRedis>,
}

impl PrivateCluster {
    /// Starts a cluster of so many primaries, each with so many replicas, and waits until every node
    /// knows all of them and every replica has its primary's data; `None`, said once, where there is
    /// no program. A node that is gone for a second has failed.
    ///
    /// # Panics
    /// If there is none and `ZMSG_TEST_REQUIRE` names `binaries`, and if it does not start.
    #[must_use]
    pub fn start(primaries: usize, replicas: usize) -> Option<Self> {
        let node = || {
            let options = RedisOptions::new().without_password();
            let options = options.directive("cluster-enabled yes");
            PrivateRedis::start(options.directive("cluster-node-timeout 1000"))
        };
        let count = primaries * (1 + replicas);
        let nodes = (0..count).map(|_| node()).collect::<Option<Vec<_>>>()?;
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port()));
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .output()
            .expect("redis-cli lies beside redis-server");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let known = format!("cluster_known_nodes:{count}\r");
        let agreed = until(AGREED, || {
            nodes.iter().all(|node| {
                let info = node.ask("CLUSTER INFO");
                info.contains("cluster_state:ok") && info.contains(&known) && is_in_sync(node)
            })
        });
        assert!(agreed, "the nodes of a private Redis Cluster do not agree");
        Some(Self { nodes })
    }

    /// Where it is. One node is enough to find the others.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{}", self.nodes[0].port())
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[PrivateRedis] {
        &self.nodes
    }

    /// The place among the nodes of the primary that has this key now.
    ///
    /// # Panics
    /// If no node has it, for longer than it takes to elect one.
    #[must_use]
    pub fn owner(&self, key: &str) -> usize {
        let mut owner = None;
        until(AGREED, || {
            // Others say who has it; a replica says so too, unless it was told to be read.
            owner = self.nodes.iter().position(|node| {
                node.is_running() && node.ask(&format!("EXISTS {key}")).starts_with(':')
            });
            owner.is_some()
        });
        owner.unwrap_or_else(|| panic!("no node has {key}"))
    }

    /// The place among the nodes of a replica of the node at `primary`.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn replica_of(&self, primary: usize) -> usize {
        let follows = format!("master_port:{}\r", self.nodes[primary].port());
        let replica = self
            .nodes
            .iter()
            .position(|node| node.is_running() && node.ask("INFO replication").contains(&follows));
        replica.unwrap_or_else(|| panic!("node {primary} has no replica"))
    }
}

/// Whether a node is no replica, or has the data of its primary.
fn is_in_sync(node: &PrivateRedis) -> bool {
    let info = node.ask("INFO replication");
    info.contains("role:master") || info.contains("master_link_status:up")
}
