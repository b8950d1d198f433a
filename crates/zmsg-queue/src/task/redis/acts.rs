//! What people do to single tasks in Redis, so that asynq's tools see it done.

use zmsg_core::{Result, TaskId};
use zmsg_redis::RedisKey;
use zmsg_redis::redis::cmd;

use super::infos::Seen;
use super::keys::Keys;
use super::names::may_be_named;
use super::{RedisTaskQueue, scripts};
use crate::task::inspect::{Act, BY_HAND, Stage, TRIES, changing};

// Each looks first, so that there is an answer where nothing is to be done, and then asks a script that does
// it if the task still stands where it was seen.
impl RedisTaskQueue {
    pub(super) async fn run_one(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        for _ in 0..TRIES {
            let Some((keys, mut seen)) = self.see(queue, id).await? else {
                return Ok(Act::Unknown);
            };
            seen.check_free()?;
            self.check_in_group(&keys, &seen).await?;
            let message = match seen.info.stage {
                Stage::Pending => return Ok(Act::Already),
                Stage::Dead | Stage::Completed if seen.is_readable => {
                    seen.message.retried = 0;
                    seen.message.write()
                }
                _ => Vec::new(),
            };
            let args = (self.now(), &seen.text, &seen.state, message, self.options.tasks_max);
            let all = act_keys(&keys, &seen);
            match self.redis.script::<i8>(&scripts::RUN_NOW, &all, &args).await? {
                1 => return Ok(Act::Done),
                -1 if self.sweep_grouped(&keys).await? == 0 => return Err(self.full()),
                _ => {}
            }
        }
        Err(changing(id))
    }

    pub(super) async fn archive_one(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        for _ in 0..TRIES {
            let Some((keys, mut seen)) = self.see(queue, id).await? else {
                return Ok(Act::Unknown);
            };
            seen.check_free()?;
            self.check_in_group(&keys, &seen).await?;
            if seen.info.stage == Stage::Dead {
                return Ok(Act::Already);
            }
            let message = if seen.is_readable && seen.message.error.is_empty() {
                BY_HAND.clone_into(&mut seen.message.error);
                seen.message.write()
            } else {
                Vec::new()
            };
            let args = (self.now(), &seen.text, &seen.state, message);
            let all = act_keys(&keys, &seen);
            let dead: u64 = self.redis.script(&scripts::ARCHIVE, &all, &args).await?;
            self.keep_dead_bounded(&keys, dead).await?;
            if dead > 0 {
                return Ok(Act::Done);
            }
        }
        Err(changing(id))
    }

    pub(super) async fn delete_one(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        for _ in 0..TRIES {
            let Some((keys, seen)) = self.see(queue, id).await? else { return Ok(Act::Unknown) };
            seen.check_free()?;
            self.check_in_group(&keys, &seen).await?;
            let args = (self.now(), &seen.text, &seen.state);
            let all = act_keys(&keys, &seen);
            let (deleted, lock): (u8, String) =
                self.redis.script(&scripts::DELETE, &all, &args).await?;
            if deleted == 0 {
                continue;
            }
            if !lock.is_empty() {
                let lock = [RedisKey::verbatim(lock)];
                let _: u64 = self.redis.script(&scripts::UNLOCK, &lock, &(&seen.text,)).await?;
            }
            self.forget_name(&keys, id).await?;
            return Ok(Act::Done);
        }
        Err(changing(id))
    }

    pub(super) async fn forget_name(&self, keys: &Keys, id: TaskId) -> Result<()> {
        if may_be_named(id) {
            let mut forget = cmd("HDEL");
            forget.arg(keys.names()).arg(id.0.to_string());
            let _: u64 = self.redis.query(&forget).await?;
        }
        Ok(())
    }
}

fn act_keys(keys: &Keys, seen: &Seen) -> Vec<RedisKey> {
    let mut all = vec![
        keys.task(&seen.text),
        keys.pending(),
        keys.active(),
        keys.scheduled(),
        keys.retry(),
        keys.archived(),
        keys.completed(),
        keys.lease(),
        keys.due(),
        keys.held(),
        keys.until(),
        keys.grouped(),
    ];
    if let Some(group) = seen.waiting_in() {
        all.extend([keys.group(group), keys.groups()]);
    } else if let Some(lane) = &seen.lane {
        all.extend([keys.lane(lane), keys.behind(), keys.lanes(), keys.numbers()]);
    }
    all
}
