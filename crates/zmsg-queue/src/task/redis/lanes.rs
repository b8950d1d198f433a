//! Tasks of lanes: what they are told at their start, and how a lane goes on whose first task is gone.

use serde::Serialize;
use zmsg_core::Result;
use zmsg_redis::RedisKey;
use zmsg_redis::redis::cmd;

use super::keys::Keys;
use super::{RedisTaskQueue, scripts};
use crate::task::lane::OnDead;
use crate::task::record::{NewTask, pause_until};

/// What a task says of itself, for the script that takes it in.
#[derive(Debug, Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    /// As a pause from now, like all moments that come in.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    skips: u8,
}

/// What a task says of itself in JSON; most say nothing.
pub(super) fn said(task: &NewTask, wall: u64) -> Result<String> {
    let says = task.timeout.is_some() || task.deadline.is_some() || task.unique_for.is_some();
    if !says && task.lane.is_none() && task.group.is_none() {
        return Ok(String::new());
    }
    let skips = task.lane.as_ref().is_some_and(|lane| lane.on_dead == OnDead::Skip);
    let said = Said {
        timeout: task.timeout.map(super::calls::millis),
        deadline: task.deadline.map(|deadline| pause_until(deadline, wall)),
        unique: task.unique_for.map(super::calls::millis),
        lane: task.lane.as_ref().map(|lane| lane.key.as_str()),
        group: task.group.as_deref(),
        skips: skips.into(),
    };
    serde_json::to_string(&said).map_err(|error| {
        zmsg_core::Error::invalid_input("what a task says of itself cannot be written")
            .with_source(error)
    })
}

/// What a change touches that lets the next of a lane come forward.
pub(super) fn lane_keys(keys: &Keys, lane: &str) -> [RedisKey; 4] {
    [keys.lane(lane), keys.behind(), keys.due(), keys.lanes()]
}

impl RedisTaskQueue {
    /// The lanes of these tasks, where they have places in any.
    pub(super) async fn lanes_of(
        &self,
        keys: &Keys,
        texts: &[String],
    ) -> Result<Vec<Option<String>>> {
        let mut ask = cmd("HMGET");
        ask.arg(keys.lanes()).arg(texts);
        self.redis.query(&ask).await
    }

    /// Takes tasks that others have made away with out of their lanes.
    pub(super) async fn leave_lanes(&self, keys: &Keys, gone: &[String]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let lanes = self.lanes_of(keys, gone).await?;
        for (text, lane) in gone.iter().zip(lanes) {
            let Some(lane) = lane else { continue };
            let mut all = vec![keys.task(text)];
            all.extend(lane_keys(keys, &lane));
            let left: bool = self.redis.script(&scripts::LEAVE_LANE, &all, &(text,)).await?;
            tracing::warn!(id = text, lane, left, "a task of a lane had gone");
        }
        Ok(())
    }

    /// Looks at the first task of some lane that holds others up: tools of asynq may have made away with it
    /// while it was a dead letter, when nobody looks at it.
    pub(super) async fn heal_a_lane(&self, keys: &Keys) -> Result<()> {
        let mut ask = cmd("ZRANDMEMBER");
        ask.arg(keys.behind()).arg(1);
        let waiting: Vec<String> = self.redis.query(&ask).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let lane = self.lanes_of(keys, &waiting).await?.pop().flatten();
        let Some(lane) = lane else { return Ok(()) };
        let mut ask = cmd("ZRANGE");
        ask.arg(keys.lane(&lane)).arg(0).arg(0);
        let first: Vec<String> = self.redis.query(&ask).await?;
        for text in &first {
            if !self.redis.query(cmd("EXISTS").arg(keys.task(text))).await? {
                self.leave_lanes(keys, &first).await?;
            }
        }
        Ok(())
    }
}
