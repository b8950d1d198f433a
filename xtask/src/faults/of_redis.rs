//! What happens to Redis.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use zmsg_testbed::private::{PrivateRedis, RedisOptions, free_port, until};

use super::resp::{command, info};
use super::stage::{Stage, last};

const SECOND: Duration = Duration::from_secs(1);

/// What Redis saved, which it reads when it starts.
fn saved(redis: &PrivateRedis) -> PathBuf {
    redis.directory().join("dump.rdb")
}

pub(super) fn killed(stage: &mut Stage<'_>) -> Result<String> {
    let redis = &stage.servers.redis;
    let _ = fs::remove_file(saved(redis));
    for percent in [30, 60] {
        stage.reached(percent)?;
        redis.kill();
        last(SECOND);
        redis.restart();
    }
    Ok("killed twice".into())
}

pub(super) fn older(stage: &mut Stage<'_>) -> Result<String> {
    let redis = &stage.servers.redis;
    stage.reached(25)?;
    command(redis, &["SAVE"])?;
    stage.reached(60)?;
    redis.kill();
    redis.restart();
    let keys = command(redis, &["DBSIZE"])?;
    fs::remove_file(saved(redis))?;
    ensure!(keys != "0", "Redis saved nothing");
    Ok(format!("{keys} keys of before"))
}

pub(super) fn paused(stage: &mut Stage<'_>) -> Result<String> {
    stage.reached(40)?;
    stage.servers.redis.pause();
    last(2 * SECOND);
    stage.servers.redis.resume();
    Ok("paused for 2 s".into())
}

pub(super) fn reset(stage: &mut Stage<'_>) -> Result<String> {
    let proxy = &stage.servers.before_redis;
    let before = proxy.counts().reset;
    stage.at_every_tenth(|stage| {
        stage.servers.before_redis.reset_all();
        Ok(())
    })?;
    let count = proxy.counts().reset - before;
    ensure!(count > 0, "no connection was reset");
    Ok(format!("{count} connections reset"))
}

pub(super) fn full(stage: &mut Stage<'_>) -> Result<String> {
    let redis = &stage.servers.redis;
    let refused = "errorstat_OOM:count=";
    let before = info(redis, "errorstats", refused)?;
    stage.reached(25)?;
    command(redis, &["CONFIG", "SET", "maxmemory-policy", "noeviction"])?;
    command(redis, &["CONFIG", "SET", "maxmemory", "1mb"])?;
    last(SECOND);
    stage.reached(50)?;
    command(redis, &["CONFIG", "SET", "maxmemory", "0"])?;
    let count = info(redis, "errorstats", refused)?.saturating_sub(before);
    ensure!(count > 0, "Redis refused nothing");
    Ok(format!("{count} commands refused"))
}

pub(super) fn read_only(stage: &mut Stage<'_>) -> Result<String> {
    let redis = &stage.servers.redis;
    let refused = "errorstat_READONLY:count=";
    let before = info(redis, "errorstats", refused)?;
    stage.reached(25)?;
    // A master that is not there: what Redis has, it keeps.
    command(redis, &["REPLICAOF", "127.0.0.1", &free_port().to_string()])?;
    last(SECOND);
    stage.reached(50)?;
    command(redis, &["REPLICAOF", "NO", "ONE"])?;
    let count = info(redis, "errorstats", refused)?.saturating_sub(before);
    ensure!(count > 0, "Redis refused nothing");
    Ok(format!("{count} commands refused"))
}

pub(super) fn replaced(stage: &mut Stage<'_>) -> Result<String> {
    let redis = &stage.servers.redis;
    let Some(empty) = PrivateRedis::start(RedisOptions::new()) else {
        return Ok("left out: there is no redis-server".into());
    };
    stage.reached(30)?;
    let before: u64 = command(redis, &["DBSIZE"])?.parse()?;
    command(redis, &["CONFIG", "SET", "masterauth", empty.password().unwrap_or_default()])?;
    command(redis, &["REPLICAOF", "127.0.0.1", &empty.port().to_string()])?;
    let linked = || {
        command(redis, &["INFO", "replication"])
            .is_ok_and(|info| info.contains("master_link_status:up"))
    };
    ensure!(until(10 * SECOND, linked), "Redis did not become a replica");
    let after: u64 = command(redis, &["DBSIZE"])?.parse()?;
    command(redis, &["REPLICAOF", "NO", "ONE"])?;
    command(redis, &["CONFIG", "SET", "masterauth", ""])?;
    ensure!(after < before, "Redis kept its {before} keys");
    Ok(format!("{before} keys became {after}"))
}

pub(super) fn flushed(stage: &mut Stage<'_>) -> Result<String> {
    let mut keys = 0;
    stage.at_every_tenth(|stage| {
        keys += command(&stage.servers.redis, &["DBSIZE"])?.parse::<u64>()?;
        command(&stage.servers.redis, &["FLUSHALL"]).map(drop)
    })?;
    ensure!(keys > 0, "there was nothing to forget");
    Ok(format!("{keys} keys forgotten"))
}
