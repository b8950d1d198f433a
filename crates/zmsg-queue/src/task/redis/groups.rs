//! Groups of tasks in Redis, where aggregators of asynq find ours and we find theirs.

mod looks;
mod sweep;

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zmsg_core::{Error, Result};
use zmsg_redis::RedisKey;
use zmsg_redis::redis::{cmd, pipe};

use super::calls::{check_queue, millis};
use super::keys::Keys;
use super::message::TaskMessage;
use super::names::{id_of, may_be_named};
use super::{RedisTaskQueue, scripts};
use crate::task::groups::{
    ClosedGroup, GroupInfo, GroupMember, GroupRules, ID_TAKEN, RipeGroups, TaskGroups, checked,
    refused,
};
use crate::task::record::NewTask;

/// Members that one call reads or moves: each brings its payload along, or is a change.
const CHUNK: usize = 100;

/// Members that one script puts back.
const BACK_AT_ONCE: usize = 1_000;

/// Overdue sets that one look puts back.
const OVERDUE: usize = 1_000;

/// A member that cannot be aggregated: what it is called, and what is to be its message.
type Unfit = (String, Vec<u8>);

#[async_trait]
impl TaskGroups for RedisTaskQueue {
    async fn groups(&self, queue: &str) -> Result<Vec<GroupInfo>> {
        self.open()?;
        self.list_groups(queue).await.map_err(|error| error.during("queue.groups"))
    }

    async fn ripe_groups(&self, queue: &str, rules: &GroupRules) -> Result<RipeGroups> {
        self.open()?;
        self.find_ripe(queue, rules).await.map_err(|error| error.during("queue.ripe_groups"))
    }

    async fn close_group(
        &self,
        queue: &str,
        group: &str,
        rules: &GroupRules,
        lease: Duration,
    ) -> Result<Option<ClosedGroup>> {
        self.open()?;
        let closed = self.close_one(queue, group, rules, lease).await;
        closed.map_err(|error| error.during("queue.close_group"))
    }

    async fn settle_group(&self, closed: &ClosedGroup, aggregate: NewTask) -> Result<bool> {
        self.open()?;
        let aggregate = checked(closed, aggregate)?;
        let settled = self.settle(closed, aggregate).await;
        Ok(self.told(settled.map_err(|error| error.during("queue.settle_group"))?))
    }

    async fn reopen_group(&self, closed: &ClosedGroup) -> Result<bool> {
        self.open()?;
        let keys = Keys::of(&closed.queue);
        let set = keys.set(&closed.group, &closed.set.to_string());
        let reopened = self.put_back(&keys, &closed.group, set, false).await;
        reopened.map_err(|error| error.during("queue.reopen_group"))
    }

    async fn reopen_overdue(&self, queue: &str) -> Result<u64> {
        self.open()?;
        let reopened = self.put_back_overdue(queue).await;
        reopened.map_err(|error| error.during("queue.reopen_overdue"))
    }
}

impl RedisTaskQueue {
    /// Lets tasks join their groups whose time has come.
    pub(super) async fn join_groups(
        &self,
        keys: &Keys,
        joining: &[(String, String)],
    ) -> Result<()> {
        if joining.is_empty() {
            return Ok(());
        }
        let mut all = vec![keys.scheduled(), keys.retry(), keys.due()];
        all.extend([keys.groups(), keys.grouped()]);
        all.extend(joining.iter().flat_map(|(text, group)| [keys.task(text), keys.group(group)]));
        let joined: u64 =
            self.redis.script(&scripts::JOIN_GROUPS, &all, &(self.now(), joining)).await?;
        tracing::debug!(joined, "tasks have joined their groups");
        Ok(())
    }

    async fn close_one(
        &self,
        queue: &str,
        group: &str,
        rules: &GroupRules,
        lease: Duration,
    ) -> Result<Option<ClosedGroup>> {
        check_queue(queue)?;
        let (keys, set) = (Keys::of(queue), Uuid::new_v4());
        let key = keys.set(group, &set.to_string());
        let all = [keys.group(group), key.clone(), keys.sets(), keys.groups()];
        let delay = rules.delay_max.map_or_else(String::new, |delay| millis(delay).to_string());
        let grace = millis(rules.grace);
        let args = (self.now(), group, rules.size(), grace, delay, millis(lease));
        let taken: Vec<(String, u64)> =
            self.redis.script(&scripts::CLOSE_GROUP, &all, &args).await?;
        let read = async {
            let (members, unfit) = self.members(&keys, queue, taken).await?;
            self.shed(&keys, key.clone(), &unfit).await?;
            Ok::<_, Error>(members)
        };
        let members = match read.await {
            Ok(members) => members,
            Err(error) => {
                // Nobody knows the set. Without an answer here too, its deadline puts them back.
                let _ = self.put_back(&keys, group, key.clone(), false).await;
                return Err(error);
            }
        };
        if members.is_empty() {
            return Ok(None);
        }
        let (queue, group) = (queue.to_owned(), group.to_owned());
        Ok(Some(ClosedGroup { queue, group, set, members }))
    }

    /// The members of a set, and those that are none.
    async fn members(
        &self,
        keys: &Keys,
        queue: &str,
        taken: Vec<(String, u64)>,
    ) -> Result<(Vec<GroupMember>, Vec<Unfit>)> {
        let (mut members, mut unfit) = (Vec::with_capacity(taken.len()), Vec::new());
        for taken in taken.chunks(CHUNK) {
            let mut ask = pipe();
            for (text, _) in taken {
                ask.hget(keys.task(text), "msg");
            }
            let messages: Vec<Option<Vec<u8>>> = self.redis.pipeline(&ask).await?;
            for ((text, joined_s), bytes) in taken.iter().zip(messages) {
                match bytes.as_deref().map(TaskMessage::read) {
                    Some(Ok(message)) => members.push(member(text, *joined_s, message)),
                    Some(Err(cause)) => {
                        tracing::error!(queue, id = text, %cause, "a task that cannot be read is a dead letter");
                        let bytes = bytes.unwrap_or_default();
                        let letter = TaskMessage::unreadable(text, queue, bytes, cause.to_string());
                        unfit.push((text.clone(), letter.write()));
                    }
                    None => unfit.push((text.clone(), Vec::new())),
                }
            }
        }
        Ok((members, unfit))
    }

    async fn shed(&self, keys: &Keys, set: RedisKey, unfit: &[Unfit]) -> Result<()> {
        for unfit in unfit.chunks(CHUNK) {
            let mut all = vec![set.clone(), keys.sets(), keys.archived(), keys.grouped()];
            all.extend(unfit.iter().map(|(text, _)| keys.task(text)));
            let mut args = vec![self.now().into_bytes()];
            args.extend(
                unfit.iter().flat_map(|(text, letter)| [text.clone().into_bytes(), letter.clone()]),
            );
            let dead: u64 = self.redis.script(&scripts::SHED, &all, &args).await?;
            self.keep_dead_bounded(keys, dead).await?;
        }
        Ok(())
    }

    async fn settle(&self, closed: &ClosedGroup, aggregate: NewTask) -> Result<bool> {
        let (keys, id) = (Keys::of(&closed.queue), aggregate.id);
        let set = closed.set.to_string();
        let mut all = vec![keys.set(&closed.group, &set), keys.sets(), keys.grouped()];
        let mut args = vec![closed.members.len().to_string().into_bytes(), set.into_bytes()];
        for member in &closed.members {
            let text = text_of(member);
            all.push(keys.task(&text));
            args.push(text.into_bytes());
        }
        // It comes in the place of one at least, so there is room.
        let (keys_in, args_in) = self.intake(&keys, vec![aggregate], u32::MAX)?;
        all.extend(keys_in);
        args.extend(args_in);
        match self.redis.script::<u8>(&scripts::SETTLE_GROUP, &all, &args).await? {
            1 => {}
            2 => return Err(refused(closed, id, ID_TAKEN)),
            3 => return Err(refused(closed, id, "another task has the lock of the aggregate")),
            _ => return Ok(false),
        }
        let mut forget = cmd("HDEL");
        forget.arg(keys.names());
        let named: Vec<_> =
            closed.members.iter().map(|it| it.id).filter(|id| may_be_named(*id)).collect();
        if !named.is_empty() {
            named.iter().for_each(|id| _ = forget.arg(id.0.to_string()));
            if let Err(error) = self.redis.query::<u64>(&forget).await {
                // The aggregate is there: what is left of the names is forgotten when somebody asks for one.
                tracing::debug!(%error, "could not forget the names of tasks that were aggregated");
            }
        }
        Ok(true)
    }

    /// Puts the members of a set back; whether it was there.
    async fn put_back(
        &self,
        keys: &Keys,
        group: &str,
        set: RedisKey,
        if_overdue: bool,
    ) -> Result<bool> {
        let all = [set, keys.sets(), keys.group(group), keys.groups()];
        let args = (self.now(), group, BACK_AT_ONCE, u8::from(if_overdue));
        loop {
            match self.redis.script::<i8>(&scripts::REOPEN_GROUP, &all, &args).await? {
                1 => {}
                reopened => return Ok(reopened == 0),
            }
        }
    }

    async fn put_back_overdue(&self, queue: &str) -> Result<u64> {
        let keys = Keys::of(queue);
        let mut ask = cmd("ZCARD");
        if self.redis.query::<u64>(ask.arg(keys.sets())).await? == 0 {
            return Ok(0);
        }
        let now_s = self.count(&keys).await?.now / 1_000;
        let mut ask = cmd("ZRANGE");
        ask.arg(keys.sets()).arg("-inf").arg(now_s).arg("BYSCORE").arg("LIMIT").arg(0);
        let overdue: Vec<String> = self.redis.query(ask.arg(OVERDUE)).await?;
        let mut reopened = 0;
        for set in overdue {
            let Some(group) = keys.group_of_set(&set) else { continue };
            let key = RedisKey::verbatim(set.clone());
            reopened += u64::from(self.put_back(&keys, group, key, true).await?);
        }
        Ok(reopened)
    }
}

fn member(text: &str, joined_s: u64, message: TaskMessage) -> GroupMember {
    let id = id_of(text);
    GroupMember {
        id,
        name: (id.0.to_string() != text).then(|| text.to_owned()),
        kind: message.kind,
        payload: message.payload,
        joined: joined_s.saturating_mul(1_000),
    }
}

fn text_of(member: &GroupMember) -> String {
    member.name.clone().unwrap_or_else(|| member.id.0.to_string())
}
