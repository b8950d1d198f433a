//! The facts of the Redis that nodes share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use zmsg_core::Result;
use zmsg_redis::redis::cmd;
use zmsg_redis::{Address, Redis, RedisOptions, Topology};

use super::finding::{Diagnosis, Finding, Promise};
use super::redis_verdict::judge;
use crate::config::Config;

pub(super) const PLACE: &str = "redis";

/// How long an answer may take; nothing waits for it but a person.
const DEADLINE: Duration = Duration::from_secs(3);

const SETTINGS: [&str; 5] = ["maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save"];

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// `INFO`, by field.
    pub(super) info: BTreeMap<String, String>,
    /// What `CONFIG GET` tells; nothing where it is forbidden.
    pub(super) settings: BTreeMap<String, String>,
    /// Where it is, as the configuration names it.
    pub(super) address: String,
    pub(super) encrypted: bool,
    /// The address is on another machine.
    pub(super) remote: bool,
}

/// Connects as `engine` does, asks and judges; in a cluster every node that is named.
///
/// # Errors
/// `InvalidConfig` for options that can never work.
pub(super) async fn examine(
    engine: &Redis,
    config: &Config,
    tasks: &TaskTracker,
    diagnosis: &mut Diagnosis,
) -> Result<()> {
    for options in each_server(engine.options().clone()) {
        let redis = Redis::open(options, tasks)?.with_deadline(DEADLINE);
        match collect(&redis).await {
            Ok(facts) => judge(&facts, config, diagnosis),
            Err(error) => diagnosis.add(
                Finding::error(PLACE, format!("it cannot be examined: {error}"))
                    .weakens(Promise::Repaired)
                    .change("redis.url, or the server"),
            ),
        }
        redis.close();
    }
    Ok(())
}

fn each_server(options: RedisOptions) -> Vec<RedisOptions> {
    let Topology::Cluster(nodes) = &options.topology else { return vec![options] };
    let alone = |node: &Address| {
        let mut alone = options.clone();
        alone.topology = Topology::Single(node.clone());
        alone
    };
    nodes.iter().map(alone).collect()
}

async fn collect(redis: &Redis) -> Result<Facts> {
    let mut facts = Facts { info: fields(&first_answer(redis).await?), ..Facts::default() };
    for name in SETTINGS {
        // A user who may not ask is a note, not the end.
        let question = cmd("CONFIG").arg("GET").arg(name).clone();
        let answer = redis.query::<BTreeMap<String, String>>(&question).await;
        facts.settings.extend(answer.unwrap_or_default());
    }
    let addresses = redis.options().topology.addresses();
    facts.address = redis.options().topology.to_string();
    facts.encrypted = addresses.iter().all(|address| address.tls);
    facts.remote = addresses.iter().any(|address| !address.is_loopback());
    Ok(facts)
}

/// The first connection is being made while we ask.
async fn first_answer(redis: &Redis) -> Result<String> {
    let begin = Instant::now();
    loop {
        match redis.query(&cmd("INFO")).await {
            Err(error) if error.is_temporary() && begin.elapsed() < DEADLINE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

fn fields(info: &str) -> BTreeMap<String, String> {
    let fields = info.lines().filter_map(|line| line.trim_end().split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
