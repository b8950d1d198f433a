//! What happens to both servers at once.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use zmsg_testbed::Repeat;

use super::of_postgres::COMMITTED;
use super::resp::command;
use super::stage::{Stage, last};

pub(super) fn killed(stage: &mut Stage<'_>) -> Result<String> {
    let (postgres, redis) = (&stage.servers.postgres, &stage.servers.redis);
    let _ = fs::remove_file(redis.directory().join("dump.rdb"));
    stage.reached(40)?;
    redis.kill();
    postgres.kill();
    last(Duration::from_secs(1));
    postgres.restart();
    redis.restart();
    Ok("killed once".into())
}

pub(super) fn parted(stage: &mut Stage<'_>) -> Result<String> {
    let (postgres, redis) = (&stage.servers.before_postgres, &stage.servers.before_redis);
    stage.reached(40)?;
    redis.black_hole(true);
    postgres.black_hole(true);
    last(Duration::from_secs(2));
    postgres.black_hole(false);
    redis.black_hole(false);
    Ok("parted for 2 s".into())
}

pub(super) fn commit_lost_and_flushed(stage: &mut Stage<'_>) -> Result<String> {
    let proxy = &stage.servers.before_postgres;
    let before = proxy.counts().swallowed;
    proxy.swallow_answer(COMMITTED, Repeat::Every(40));
    stage.at_every_tenth(|stage| command(&stage.servers.redis, &["FLUSHALL"]).map(drop))?;
    proxy.swallow_nothing();
    let count = proxy.counts().swallowed - before;
    ensure!(count > 0, "no answer to a commit was lost");
    Ok(format!("{count} answers to commits lost"))
}
