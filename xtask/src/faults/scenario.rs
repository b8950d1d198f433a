//! The faults, each as a scenario that `feed` goes through.

use anyhow::Result;

use super::redises::Topology;
use super::servers::Servers;
use super::sql::Sql;
use super::stage::Stage;
use super::{of_both, of_postgres, of_redis, of_redises};

/// A fault in the middle of a run.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What happens, in a sentence.
    pub(super) what: &'static str,
    /// Processes that share the run.
    pub(super) processes: u32,
    /// What Redis is.
    pub(super) redis: Topology,
    /// Redis forgets holds in the same history: an absence that a late load found may be cached, for
    /// `cache.negative_ttl` at most.
    pub(super) forgets: bool,
    /// Before the example starts, in its empty database.
    pub(super) prepare: fn(&Servers, &mut Sql) -> Result<()>,
    /// In the middle of the run. Undoes what it did, proves that it struck, and says how.
    pub(super) strike: fn(&mut Stage<'_>) -> Result<String>,
}

/// One process and nothing prepared: the usual.
const fn scenario(
    name: &'static str,
    what: &'static str,
    strike: fn(&mut Stage<'_>) -> Result<String>,
) -> Scenario {
    let redis = Topology::One;
    Scenario { name, what, processes: 1, redis, forgets: false, prepare: |_, _| Ok(()), strike }
}

impl Scenario {
    const fn processes(self, processes: u32) -> Self {
        Self { processes, ..self }
    }

    const fn on(self, redis: Topology) -> Self {
        Self { redis, ..self }
    }

    const fn forgetting(self) -> Self {
        Self { forgets: true, ..self }
    }

    const fn prepared(self, prepare: fn(&Servers, &mut Sql) -> Result<()>) -> Self {
        Self { prepare, ..self }
    }
}

/// Every fault, in the order in which they are played.
pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "postgres-killed",
        "PostgreSQL and all its backends are killed, and start again a second later",
        of_postgres::killed,
    ),
    scenario(
        "postgres-stopped",
        "PostgreSQL is shut down, and starts again a second later",
        of_postgres::stopped,
    ),
    scenario("postgres-paused", "PostgreSQL stands still for two seconds", of_postgres::paused),
    scenario("postgres-reset", "every connection is reset, seven times", of_postgres::reset),
    scenario("postgres-cut", "answers are cut in their middle, seven times", of_postgres::cut),
    scenario(
        "postgres-commit-lost",
        "of every 25 commits one happens and its answer is lost",
        of_postgres::commit_lost,
    ),
    scenario(
        "postgres-terminated",
        "every backend is terminated, twenty times, a tenth of a second apart",
        of_postgres::terminated,
    ),
    scenario(
        "postgres-deadlocks",
        "another transaction locks rows of users in the opposite order, again and again",
        of_postgres::deadlocks,
    ),
    scenario(
        "postgres-serializable",
        "transactions of the database are serializable unless they say otherwise",
        of_postgres::serializable,
    )
    .prepared(of_postgres::make_serializable),
    scenario(
        "postgres-40001",
        "a trigger fails one of fifty statements, at random, with a serialization failure",
        of_postgres::serialization_failures,
    ),
    scenario("redis-killed", "Redis is killed, and starts again empty", of_redis::killed),
    scenario(
        "redis-older",
        "Redis is killed, and starts again with what it had saved long before",
        of_redis::older,
    ),
    scenario("redis-paused", "Redis stands still for two seconds", of_redis::paused),
    scenario("redis-reset", "every connection is reset, seven times", of_redis::reset),
    scenario("redis-full", "Redis has no memory left for a second", of_redis::full),
    scenario("redis-read-only", "Redis takes no writes for a second", of_redis::read_only),
    scenario(
        "redis-replaced",
        "Redis becomes the replica of an empty server, and a master again",
        of_redis::replaced,
    ),
    scenario("redis-flushed", "Redis forgets everything, seven times", of_redis::flushed)
        .forgetting(),
    scenario(
        "redis-sentinel",
        "the master is killed, sentinels promote its replica, and the old one comes back",
        of_redises::failed_over,
    )
    .on(Topology::Sentinels),
    scenario(
        "redis-cluster",
        "each master of a cluster is killed, and starts again with what it had saved long before",
        of_redises::node_older,
    )
    .on(Topology::Cluster),
    scenario("both-killed", "both servers are killed at once", of_both::killed),
    scenario("both-parted", "the network passes nothing on for two seconds", of_both::parted),
    scenario("nodes-killed", "of four processes at once: both servers are killed", of_both::killed)
        .processes(4),
    scenario(
        "nodes-commit-lost",
        "of four processes at once: answers to commits are lost, Redis is flushed",
        of_both::commit_lost_and_flushed,
    )
    .processes(4)
    .forgetting(),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let names: BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
