//! More Redis servers than one: a master with its replica and sentinels, and a cluster.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use zmsg_testbed::private::{PrivateRedis, RedisOptions, until};

use super::resp::command;

/// How long servers may take to find each other.
const BOUND: Duration = Duration::from_secs(30);

/// What Redis is in a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topology {
    /// The server that all scenarios share.
    One,
    /// A master and its replica, watched by three sentinels.
    Sentinels,
    /// A cluster of three masters.
    Cluster,
}

/// The servers of one scenario, which end with it.
#[derive(Debug)]
pub(super) enum Redises {
    One,
    Sentinels(Box<Group>),
    Cluster(Vec<PrivateRedis>),
}

/// Two servers, and the sentinels that choose the master of them.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) master: PrivateRedis,
    pub(super) replica: PrivateRedis,
    sentinels: Vec<PrivateRedis>,
}

impl Redises {
    /// Starts what has to be started.
    ///
    /// # Errors
    /// If a server does not start, or they do not find each other.
    pub(super) fn start(topology: Topology, program: &Path) -> Result<Self> {
        Ok(match topology {
            Topology::One => Self::One,
            Topology::Sentinels => Self::Sentinels(Box::new(Group::start(program)?)),
            Topology::Cluster => Self::Cluster(cluster(program)?),
        })
    }

    /// Where the engine finds them; `None` for the server that is shared.
    pub(super) fn url(&self) -> Option<String> {
        match self {
            Self::One => None,
            Self::Sentinels(group) => {
                Some(format!("redis+sentinel://{}/group", addresses(&group.sentinels).join(",")))
            }
            Self::Cluster(nodes) => Some(format!("redis+cluster://{}", addresses(nodes).join(","))),
        }
    }

    /// The servers that sentinels watch.
    ///
    /// # Errors
    /// In a scenario without sentinels.
    pub(super) fn group(&self) -> Result<&Group> {
        match self {
            Self::Sentinels(group) => Ok(group),
            _ => bail!("the scenario has no sentinels"),
        }
    }

    /// The nodes of the cluster.
    ///
    /// # Errors
    /// In a scenario without one.
    pub(super) fn nodes(&self) -> Result<&[PrivateRedis]> {
        match self {
            Self::Cluster(nodes) => Ok(nodes),
            _ => bail!("the scenario has no cluster"),
        }
    }
}

impl Group {
    fn start(program: &Path) -> Result<Self> {
        let server = || RedisOptions::new().without_password();
        let master = PrivateRedis::launch(program, &server())?;
        let follows = format!("replicaof 127.0.0.1 {}", master.port());
        let replica = PrivateRedis::launch(program, &server().directive(follows))?;
        let watches = format!("sentinel monitor group 127.0.0.1 {} 2", master.port());
        let sentinel = server()
            .sentinel()
            .directive(watches)
            .directive("sentinel down-after-milliseconds group 500")
            .directive("sentinel failover-timeout group 3000");
        let sentinels = (0..3).map(|_| PrivateRedis::launch(program, &sentinel));
        let sentinels = sentinels.collect::<std::io::Result<Vec<_>>>()?;
        let group = Self { master, replica, sentinels };
        let found = until(BOUND, || group.all_say("slaves=1,sentinels=3"));
        ensure!(found, "the sentinels did not find each other");
        Ok(group)
    }

    /// Waits until all sentinels name the replica as the master.
    ///
    /// # Errors
    /// If they do not in half a minute.
    pub(super) fn failed_over(&self) -> Result<()> {
        let new = format!("address=127.0.0.1:{},", self.replica.port());
        ensure!(until(BOUND, || self.all_say(&new)), "there was no failover");
        Ok(())
    }

    fn all_say(&self, text: &str) -> bool {
        let says = |sentinel| command(sentinel, &["INFO", "sentinel"]);
        self.sentinels.iter().all(|sentinel| says(sentinel).is_ok_and(|said| said.contains(text)))
    }
}

fn cluster(program: &Path) -> Result<Vec<PrivateRedis>> {
    let options = RedisOptions::new().without_password().directive("cluster-enabled yes");
    let options = options.directive("cluster-node-timeout 1000");
    let nodes = (0..3).map(|_| PrivateRedis::launch(program, &options));
    let nodes = nodes.collect::<std::io::Result<Vec<_>>>()?;
    let created = Command::new("redis-cli")
        .args(["--cluster", "create", "--cluster-yes"])
        .args(addresses(&nodes))
        .output()
        .context("could not run redis-cli")?;
    ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    ensure!(until(BOUND, || serves(&nodes)), "the cluster does not serve");
    Ok(nodes)
}

/// Whether all nodes find that the cluster is whole.
fn serves(nodes: &[PrivateRedis]) -> bool {
    nodes.iter().all(|node| {
        command(node, &["CLUSTER", "INFO"]).is_ok_and(|info| info.contains("cluster_state:ok"))
    })
}

fn addresses(servers: &[PrivateRedis]) -> Vec<String> {
    servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect()
}
