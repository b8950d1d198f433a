//! The calls of a queue as scripts: their keys and arguments, and what their answers mean.

use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, TaskId, UnixMillis};
use zmsg_redis::RedisKey;
use zmsg_redis::redis::cmd;

use super::firings::firing_args;
use super::keys::{Keys, QUEUES};
use super::lanes::{lane_keys, said};
use super::message::TaskMessage;
use super::names::{id_of, may_be_named};
use super::{RedisTaskQueue, scripts};
use crate::task::lane::LanePlace;
use crate::task::record::{Enqueued, FAR, LeasedTask, NewTask, pause_until};

/// The numbers of a day are kept for 90 days, as asynq keeps them.
pub(super) const DAY_KEPT_S: u64 = 90 * 24 * 3_600;

/// Others may take what was found before it was leased: so often it is looked again.
const LOOKS_MAX: usize = 4;

/// So many are looked at, or more, when the first look did not lead to enough.
const LOOK_AT: usize = 100;

/// Tasks of one lease at most.
const LEASE_MAX: usize = 1_000;

/// A task as the script that leases gives it.
pub(super) type Taken = (String, Vec<u8>, u32, u32, u64, u64, String, String, String, String);

/// Tasks that are to join groups, each with its group.
pub(super) type Joining = Vec<(String, String)>;

/// So many more of those that wait than there are tasks call for a sweep.
const SWEPT_FROM: i64 = 64;

/// A task that an attempt holds: what it is called, its lane, the attempt.
type Held<'a> = (&'a str, Option<&'a str>, u32);

/// Counts of one queue.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) pending: u64,
    pub(super) due: u64,
    pub(super) leased: u64,
    pub(super) dead: u64,
    /// When it was counted, by the clock that decides.
    pub(super) now: UnixMillis,
    pub(super) paused: bool,
    pub(super) first: Option<UnixMillis>,
}

impl RedisTaskQueue {
    /// Takes tasks in; one alone, if it is of a firing of this entry at this moment.
    pub(super) async fn take_in(
        &self,
        tasks: Vec<NewTask>,
        firing: Option<(&str, UnixMillis)>,
    ) -> Result<Vec<Enqueued>> {
        let Some(first) = tasks.first() else { return Ok(Vec::new()) };
        let queue = first.queue.clone();
        if tasks.iter().any(|task| task.queue != queue) {
            let why = "tasks that are to be accepted together must go to one queue in Redis";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        check_queue(&queue)?;
        self.name(&queue).await?;
        let (keys, count) = (Keys::of(&queue), tasks.len());
        let grouped = tasks.iter().filter(|task| task.group.is_some()).count();
        let (mut all, mut args) = self.intake(&keys, tasks, self.options.tasks_max)?;
        let script = match firing {
            None => &scripts::ENQUEUE,
            Some((entry, moment)) => {
                all.push(keys.periodic());
                args.extend(firing_args(entry, moment));
                &scripts::ENQUEUE_FIRING
            }
        };
        let mut answer: Vec<i64> = self.redis.script(script, &all, &args).await?;
        if answer == [-1] && self.sweep_grouped(&keys).await? > 0 {
            answer = self.redis.script(script, &all, &args).await?;
        }
        let [live, waiting, answers @ ..] = answer.as_slice() else {
            return self.refused(answer.first(), firing);
        };
        if live + SWEPT_FROM < *waiting {
            self.sweep_due(&keys).await;
        }
        self.sweep_grouped_at_times(&keys, grouped).await;
        if *live == 0 {
            // Redis may have been emptied since the name was told.
            self.tell_name(&queue).await?;
        }
        debug_assert_eq!(answers.len(), count, "an answer of each task");
        let accepted = |new: &i64| match new {
            0 => Enqueued::Duplicate,
            2 => Enqueued::Locked,
            _ => Enqueued::Accepted,
        };
        Ok(answers.iter().map(accepted).collect())
    }

    /// The keys and arguments with which a script takes tasks in.
    pub(super) fn intake(
        &self,
        keys: &Keys,
        tasks: Vec<NewTask>,
        tasks_max: u32,
    ) -> Result<(Vec<RedisKey>, Vec<Vec<u8>>)> {
        let wall = self.clock.wall();
        let mut all =
            vec![keys.pending(), keys.active(), keys.scheduled(), keys.retry(), keys.due()];
        all.extend(tasks.iter().map(|task| keys.task(&task.id.0.to_string())));
        if tasks.iter().any(|task| task.lane.is_some() || task.unique_for.is_some()) {
            let lane = |task: &NewTask| keys.lane(task.lane.as_ref().map_or("", |lane| &lane.key));
            all.extend([keys.behind(), keys.lanes(), keys.numbers()]);
            let lock = |task: &NewTask| keys.unique(&task.kind, &task.payload);
            all.extend(tasks.iter().flat_map(|task| [lane(task), lock(task)]));
        }
        if tasks.iter().any(|task| task.group.is_some()) {
            all.push(keys.groups());
            let group = |task: &NewTask| keys.group(task.group.as_deref().unwrap_or_default());
            all.extend(tasks.iter().map(group));
        }
        all.push(keys.grouped());
        let mut args = vec![self.now().into_bytes(), tasks_max.to_string().into()];
        for task in tasks {
            let (pause, said) = (pause_until(task.due, wall), said(&task, wall)?);
            let message = TaskMessage::of(task, keys);
            args.extend([message.id.clone().into(), message.write()]);
            args.extend([pause.to_string().into(), said.into()]);
        }
        Ok((all, args))
    }

    pub(super) fn full(&self) -> Error {
        Error::overloaded("tasks_max").with_context("max", self.options.tasks_max)
    }

    /// Puts the name of a queue where tools list them, once in this process.
    pub(super) async fn name(&self, queue: &str) -> Result<()> {
        if self.named().contains(queue) {
            return Ok(());
        }
        self.tell_name(queue).await?;
        self.named().insert(queue.to_owned());
        Ok(())
    }

    pub(super) async fn tell_name(&self, queue: &str) -> Result<()> {
        let _: u64 = self.redis.query(cmd("SADD").arg(QUEUES).arg(queue)).await?;
        Ok(())
    }

    pub(super) async fn hand_out(
        &self,
        queue: &str,
        max: usize,
        for_: Duration,
    ) -> Result<Vec<LeasedTask>> {
        let (keys, max) = (Keys::of(queue), max.min(LEASE_MAX));
        let mut leased = self.take_over(queue, &keys, max, for_).await?;
        if !leased.is_empty() {
            return Ok(leased);
        }
        // What it takes is lost until it is handed out.
        let mut asked = self.ask(queue, for_);
        for look in 0..LOOKS_MAX {
            let wanted = max - leased.len();
            if wanted == 0 {
                break;
            }
            let window = if look == 0 { wanted } else { wanted.max(LOOK_AT) };
            let found = self.candidates(&keys, window).await?;
            if found.is_empty() {
                if leased.is_empty() {
                    self.heal_a_lane(&keys).await?;
                    self.sweep_completed(&keys).await?;
                }
                break;
            }
            let token = asked.look(&found);
            let taken = self.take(&keys, token, &found, wanted, for_).await;
            asked.refused(&taken);
            let (taken, gone, joining) = taken?;
            self.leave_lanes(&keys, &gone).await?;
            self.join_groups(&keys, &joining).await?;
            for task in taken {
                leased.extend(self.leased(queue, &keys, task).await?);
            }
            if found.len() < window {
                break; // That was all there is.
            }
        }
        asked.handed_out();
        Ok(leased)
    }

    async fn candidates(&self, keys: &Keys, max: usize) -> Result<Vec<String>> {
        let mut all = Vec::from(places(keys));
        all.extend([keys.behind(), keys.paused()]);
        self.redis.script(&scripts::CANDIDATES, &all, &(self.now(), max)).await
    }

    async fn take(
        &self,
        keys: &Keys,
        token: Uuid,
        ids: &[String],
        max: usize,
        for_: Duration,
    ) -> Result<(Vec<Taken>, Vec<String>, Joining)> {
        let mut all = Vec::from(places(keys));
        all.extend([keys.behind(), keys.lanes(), keys.groups(), keys.grouped()]);
        all.extend(ids.iter().map(|id| keys.task(id)));
        let args = (self.now(), millis(for_), max, &token.as_bytes()[..], ids);
        self.redis.script(&scripts::TAKE, &all, &args).await
    }

    /// What was leased, as the caller sees it. One that cannot be read is set aside.
    pub(super) async fn leased(
        &self,
        queue: &str,
        keys: &Keys,
        taken: Taken,
    ) -> Result<Option<LeasedTask>> {
        let (text, message, token, lost, created, lease_until, timeout, deadline, lane, number) =
            taken;
        let message = match TaskMessage::read(&message) {
            Ok(message) => message,
            Err(cause) => {
                let lane = Some(lane.as_str()).filter(|lane| !lane.is_empty());
                self.set_aside(queue, keys, (&text, lane, token), message, &cause).await?;
                return Ok(None);
            }
        };
        let id = id_of(&text);
        if may_be_named(id) {
            let mut note = cmd("HSET");
            note.arg(keys.names()).arg(id.0.to_string()).arg(&text);
            let _: u64 = self.redis.query(&note).await?;
        }
        // Those that workers written in Go have spent are known by the failures alone.
        let spent = message.failures().saturating_add(lost).saturating_add(1);
        let attempts_max = message.attempts_max().saturating_sub(spent.saturating_sub(token));
        let timeout = timeout.parse().ok().map(Duration::from_millis);
        let place = |number| LanePlace::new(lane, number, token);
        Ok(Some(LeasedTask {
            id,
            queue: queue.to_owned(),
            attempt: token,
            attempts_max,
            attempts_spared: token.saturating_sub(spent),
            lease_until,
            created,
            timeout: timeout.or_else(|| message.timeout_of_others()),
            deadline: deadline.parse().ok().or_else(|| message.deadline_of_others()),
            lane: number.parse().ok().map(place),
            retention: message.retention(),
            kind: message.kind,
            payload: message.payload,
        }))
    }

    async fn set_aside(
        &self,
        queue: &str,
        keys: &Keys,
        held: Held<'_>,
        bytes: Vec<u8>,
        cause: &Error,
    ) -> Result<()> {
        let text = held.0;
        tracing::error!(queue, id = text, %cause, "a task that cannot be read is a dead letter");
        let message = TaskMessage::unreadable(text, queue, bytes, cause.to_string());
        self.bury_as(keys, held, &message).await.map(drop)
    }

    pub(super) async fn put_off(&self, task: &LeasedTask, for_: Duration) -> Result<bool> {
        let keys = Keys::of(&task.queue);
        let text = self.text_of(&keys, task.id).await?;
        let all = [keys.task(&text), keys.lease(), keys.until()];
        let args = (self.now(), &text, task.attempt, millis(for_));
        let extended: u8 = self.redis.script(&scripts::EXTEND, &all, &args).await?;
        Ok(extended == 1)
    }

    pub(super) async fn give_back(
        &self,
        task: &LeasedTask,
        due: UnixMillis,
        cause: String,
        counts: bool,
    ) -> Result<bool> {
        let keys = Keys::of(&task.queue);
        let text = self.text_of(&keys, task.id).await?;
        let Some(mut message) = self.message(&keys, &text).await? else { return Ok(false) };
        let wall = self.clock.wall();
        message.failed(cause, (wall / 1_000).cast_signed(), counts);
        let (waiting, state) =
            if counts { (keys.retry(), "retry") } else { (keys.scheduled(), "scheduled") };
        let [processed, processed_today] = keys.processed(wall);
        let [failed, failed_today] = keys.failed(wall);
        let mut all = Vec::from(held_keys(&keys, &text));
        all.extend([keys.pending(), waiting, keys.due()]);
        all.extend([processed, processed_today, failed, failed_today]);
        let pause = pause_until(due, wall);
        let args = (
            (self.now(), &text, task.attempt, message.write(), pause),
            (state, u8::from(counts), DAY_KEPT_S, u8::from(task.lane.is_some())),
        );
        let given_back: u8 = self.redis.script(&scripts::RETRY, &all, &args).await?;
        Ok(given_back == 1)
    }

    pub(super) async fn archive(&self, task: &LeasedTask, cause: String) -> Result<bool> {
        let keys = Keys::of(&task.queue);
        let text = self.text_of(&keys, task.id).await?;
        let Some(mut message) = self.message(&keys, &text).await? else { return Ok(false) };
        message.failed(cause, (self.clock.wall() / 1_000).cast_signed(), true);
        let lane = task.lane.as_ref().map(|lane| lane.key.as_str());
        let dead = self.bury_as(&keys, (&text, lane, task.attempt), &message).await?;
        self.keep_dead_bounded(&keys, dead).await?;
        Ok(dead > 0)
    }

    /// How many dead letters there are then; 0 if the task is no longer ours.
    async fn bury_as(&self, keys: &Keys, held: Held<'_>, message: &TaskMessage) -> Result<u64> {
        let (text, lane, token) = held;
        let wall = self.clock.wall();
        let mut all = Vec::from(held_keys(keys, text));
        all.push(keys.archived());
        all.extend(keys.processed(wall));
        all.extend(keys.failed(wall));
        all.extend(lane.iter().flat_map(|lane| lane_keys(keys, lane)));
        let args = (self.now(), text, token, message.write(), DAY_KEPT_S);
        self.redis.script(&scripts::BURY, &all, &args).await
    }

    pub(super) async fn count(&self, keys: &Keys) -> Result<Counted> {
        let all = [
            keys.pending(),
            keys.active(),
            keys.scheduled(),
            keys.retry(),
            keys.archived(),
            keys.due(),
            keys.until(),
            keys.paused(),
        ];
        let numbers: Vec<u64> = self.redis.script(&scripts::STATS, &all, &(self.now(),)).await?;
        let [pending, due, leased, dead, now, paused] =
            numbers.first_chunk().copied().ok_or_else(|| {
                Error::new(ErrorKind::Unexpected, "the counts of a queue have another shape")
            })?;
        let (paused, first) = (paused == 1, numbers.get(6).copied());
        Ok(Counted { pending, due, leased, dead, now, paused, first })
    }

    /// What a task is called in Redis.
    pub(super) async fn text_of(&self, keys: &Keys, id: TaskId) -> Result<String> {
        let text = id.0.to_string();
        if !may_be_named(id) {
            return Ok(text);
        }
        let mut ask = cmd("HGET");
        ask.arg(keys.names()).arg(&text);
        let name: Option<String> = self.redis.query(&ask).await?;
        Ok(name.unwrap_or(text))
    }

    pub(super) async fn message(&self, keys: &Keys, text: &str) -> Result<Option<TaskMessage>> {
        let mut ask = cmd("HGET");
        ask.arg(keys.task(text)).arg("msg");
        let message: Option<Vec<u8>> = self.redis.query(&ask).await?;
        message.as_deref().map(TaskMessage::read).transpose()
    }
}

/// Where tasks that are not dead may stand.
fn places(keys: &Keys) -> [RedisKey; 8] {
    [
        keys.pending(),
        keys.active(),
        keys.scheduled(),
        keys.retry(),
        keys.lease(),
        keys.due(),
        keys.held(),
        keys.until(),
    ]
}

/// What a change of a leased task touches.
pub(super) fn held_keys(keys: &Keys, text: &str) -> [RedisKey; 5] {
    [keys.task(text), keys.active(), keys.lease(), keys.held(), keys.until()]
}

/// A brace would end the part of a key by which a cluster finds its node.
pub(super) fn check_queue(queue: &str) -> Result<()> {
    if queue.contains(['{', '}']) {
        let error = Error::invalid_input("the name of a queue in Redis has no braces");
        return Err(error.with_context("queue", queue.escape_debug()));
    }
    Ok(())
}

pub(super) fn millis(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).min(FAR.cast_unsigned())
}
