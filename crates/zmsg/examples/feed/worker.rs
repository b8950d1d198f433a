//! What a task does with each message, by its kind.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::time::sleep;
use zmsg::{ErrorKind, Id, IntoTask, OnMissing, Receipt, counter, map, slice, sql};

use crate::effect::{Column, Effect};
use crate::expected::Expected;
use crate::input::Message;
use crate::latency::Latencies;
use crate::patience::patiently;
use crate::progress::Steps;
use crate::sent::{Kind, Sent};
use crate::workload::{RECENT, Workload};

/// A message is marked as read when this many later ones of its task have come.
const READ_AFTER: usize = 32;
/// How long a text message waits in the task queue.
const DELAY: Duration = Duration::from_millis(20);
/// Every so many messages of a task, one is deleted; no multiple of five, so that every kind is.
const DELETE_EVERY: usize = 48;
/// Every so many messages, a key is read that was never written.
const ABSENT_EVERY: usize = 10;

/// How often a read that may miss is made again.
const ABSENT_STEP: Duration = Duration::from_millis(100);

/// One task: its share of the conversations, in order.
pub(crate) struct Worker<'a> {
    shared: &'a Workload,
    pub(crate) expected: Expected,
    pub(crate) latencies: Latencies,
    unread: VecDeque<Arc<Sent>>,
    random: fastrand::Rng,
    done: usize,
    steps: Steps,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(shared: &'a Workload, index: usize, steps: Steps) -> Self {
        Self {
            shared,
            expected: Expected::default(),
            latencies: Latencies::default(),
            unread: VecDeque::new(),
            random: fastrand::Rng::with_seed(shared.seed ^ ((index as u64) << 32)),
            done: 0,
            steps,
        }
    }

    /// The life of one message.
    pub(crate) async fn message(&mut self, message: &Message) -> Result<()> {
        let sent = Arc::new(self.insert(message).await?);
        self.count(message, &sent).await?;
        self.unread.push_back(Arc::clone(&sent));
        let due_for_deletion = self.done % DELETE_EVERY == DELETE_EVERY - 1;
        if !due_for_deletion {
            self.remember(sent);
        } else {
            self.delete(sent).await?;
        }
        if self.unread.len() > READ_AFTER {
            self.mark_as_read().await?;
        }
        self.read_recent().await?;
        self.done += 1;
        Ok(())
    }

    /// The row, by one of the three routes.
    async fn insert(&mut self, message: &Message) -> Result<Sent> {
        let zmsg = self.shared.zmsg.clone();
        let started = Instant::now();
        let id = match self.steps.id()? {
            Some(past) => Id::parse(&past)?,
            None => patiently!(self, zmsg.next_id("msg")),
        };
        self.latencies.record("next_id", started);
        let body = message.body.clone().unwrap_or_else(|| {
            format!("{} to {} at {}: how are you?", message.src, message.dst, message.sent_at)
        });
        let conversation = message.conversation();
        let insert = sql(
            "INSERT INTO messages (id, conversation, src, dst, sent_at, body) VALUES (?, ?, ?, ?, ?, ?)",
            (&id, conversation, message.src, message.dst, message.sent_at, &body),
        );
        // A call whose answer was lost may have done its work: the id makes a second one harmless.
        let insert = insert.on_conflict("id").do_nothing();
        let body = Bytes::from(body);
        let kind = Kind::of(self.done);
        let effect = Effect::Insert { id: id.to_string() };
        let mut receipt = None;
        if self.steps.begin(&effect)? {
            let started = Instant::now();
            let (call, accepted) = match kind {
                Kind::Payment => {
                    let write = || zmsg.cache_and_store(&id, &body, insert.clone());
                    ("cache_and_store", patiently!(self, write()))
                }
                Kind::Text => {
                    let write =
                        || zmsg.cache_and_delay_store(&id, &body, insert.clone()).delay(DELAY);
                    ("cache_and_delay_store", patiently!(self, write()))
                }
                Kind::Reaction => {
                    let insert = insert.batch_key(id.as_str());
                    self.expected.periodic_ops += 1;
                    let value = || Some(body.clone());
                    let write = || zmsg.cache_and_periodic_store(&id, value(), insert.clone());
                    ("cache_and_periodic_store", patiently!(self, write()))
                }
            };
            self.latencies.record(call, started);
            self.accepted(&accepted)?;
            receipt = Some(accepted);
        }
        effect.count(&mut self.expected);
        Ok(Sent { id, body, dst: message.dst, kind, receipt })
    }

    /// Counters of both users, and slice, map and counter of the conversation.
    async fn count(&mut self, message: &Message, sent: &Sent) -> Result<()> {
        let Message { src, dst, sent_at: at, .. } = *message;
        self.user(src, Column::Sent, 1).await?;
        self.user(dst, Column::Received, 1).await?;
        self.user(dst, Column::Unread, 1).await?;

        let (name, id) = (message.conversation(), sent.id.to_string());
        let conversation = || name.clone();
        let here = |op: zmsg::sqlbuilder::OpBuilder| {
            op.where_eq("id", &name).on_missing(OnMissing::Insert)
        };
        let effect = Effect::Counted { conversation: conversation() };
        self.fold(&name, here(counter("conversations", "messages").inc(1)), effect).await?;
        let last = here(map("conversations", "last").set("id", id.as_str()));
        self.fold(&name, last, Effect::LastId { conversation: conversation(), id }).await?;
        let last = here(map("conversations", "last").set("at", at));
        self.fold(&name, last, Effect::LastAt { conversation: conversation(), at }).await?;
        if !self.expected.conversation(&name).participants.contains(&src) {
            let joins = here(slice("conversations", "participants").add(src));
            let effect = Effect::Joined { conversation: conversation(), user: src };
            self.fold(&name, joins, effect).await?;
        }
        Ok(())
    }

    async fn user(&mut self, user: u32, column: Column, by: i64) -> Result<()> {
        let op = counter("users", column.name()).inc(by).where_eq("id", user);
        let op = op.on_missing(OnMissing::Insert);
        self.fold(&format!("user_{user}"), op, Effect::User { user, column, by }).await
    }

    /// One operation on the periodic route. A full buffer is back-pressure: wait for a flush.
    async fn fold(&mut self, key: &str, op: impl IntoTask + Clone, effect: Effect) -> Result<()> {
        if self.steps.begin(&effect)? {
            let zmsg = self.shared.zmsg.clone();
            let started = Instant::now();
            let receipt = patiently!(self, async {
                let folded = zmsg.cache_and_periodic_store(key, None, op.clone()).await;
                if folded.as_ref().is_err_and(|error| error.kind() == ErrorKind::Overloaded) {
                    let _ = zmsg.flush().await?;
                }
                folded
            });
            self.latencies.record("cache_and_periodic_store", started);
            self.expected.periodic_ops += 1;
            self.accepted(&receipt)?;
        }
        effect.count(&mut self.expected);
        Ok(())
    }

    fn accepted(&mut self, receipt: &Receipt) -> Result<()> {
        self.expected.writes += 1;
        self.expected.degraded += u64::from(receipt.is_degraded());
        self.steps.end()
    }

    /// Marks the oldest unread message. No order holds between routes, so a text waits for its
    /// receipt; a reaction has the order of its batch key.
    async fn mark_as_read(&mut self) -> Result<()> {
        let Some(sent) = self.unread.pop_front() else { return Ok(()) };
        if sent.kind == Kind::Text {
            sent.applied().await?;
        }
        let mark = counter("messages", "read").set(1).where_eq("id", &sent.id);
        let mark = mark.batch_key(sent.id.as_str());
        self.fold(sent.id.as_str(), mark, Effect::Read { id: sent.id.to_string() }).await?;
        self.user(sent.dst, Column::Unread, -1).await
    }

    /// Deletes a message; reads see it gone at once. The store route flushes what this process
    /// holds for the key first; the delayed route promises no order, so it waits for the receipt.
    async fn delete(&mut self, sent: Arc<Sent>) -> Result<()> {
        let delayed = sent.kind == Kind::Payment;
        if sent.kind == Kind::Text {
            sent.applied().await?;
        }
        self.unread.retain(|other| other.id != sent.id);
        self.user(sent.dst, Column::Unread, -1).await?;
        let effect = Effect::Delete { id: sent.id.to_string() };
        let due = self.steps.begin(&effect)?;
        effect.count(&mut self.expected);
        if !due {
            return Ok(());
        }
        let delete = sql("DELETE FROM messages WHERE id = ?", (&sent.id,));
        let zmsg = self.shared.zmsg.clone();
        let started = Instant::now();
        let (call, receipt) = if delayed {
            let write = || zmsg.del_delay_store(&sent.id, delete.clone()).delay(DELAY);
            ("del_delay_store", patiently!(self, write()))
        } else {
            ("del_store", patiently!(self, zmsg.del_store(&sent.id, delete.clone())))
        };
        self.latencies.record(call, started);
        self.accepted(&receipt)?;
        let found = patiently!(self, zmsg.get(&sent.id));
        // A degraded receipt says that other caches may not know yet.
        if found.is_some() && !receipt.is_degraded() {
            self.expected.wrong_reads.push(format!("{} was read after its deletion", sent.id));
        }
        Ok(())
    }

    async fn read_recent(&mut self) -> Result<()> {
        if !self.steps.is_live() {
            return Ok(());
        }
        for _ in 0..self.shared.reads {
            let Some(sent) = self.pick() else { break };
            self.read(&sent).await?;
        }
        if self.done.is_multiple_of(ABSENT_EVERY) {
            let key = format!("msg_{}", self.random.u64(..1 << 40));
            let zmsg = self.shared.zmsg.clone();
            let started = Instant::now();
            let found = patiently!(self, zmsg.get(&key));
            self.latencies.record("get (absent)", started);
            if found.is_some() {
                self.expected.wrong_reads.push(format!("{key} was never written"));
            }
        }
        Ok(())
    }

    /// A read must give what was written. Only a deferred write whose cached value was evicted
    /// before it reached the table may be late.
    async fn read(&mut self, sent: &Sent) -> Result<()> {
        let zmsg = self.shared.zmsg.clone();
        let started = Instant::now();
        let found = patiently!(self, zmsg.get(&sent.id));
        self.latencies.record("get", started);
        match found {
            Some(found) if found == sent.body => Ok(()),
            Some(_) => {
                self.expected.wrong_reads.push(format!("{} gave another body", sent.id));
                Ok(())
            }
            None => {
                self.expected.late_reads += 1;
                sent.applied().await?;
                let until = Instant::now() + self.shared.absent_for;
                loop {
                    match patiently!(self, zmsg.get(&sent.id)) {
                        Some(found) if found == sent.body => return Ok(()),
                        None if Instant::now() < until => sleep(ABSENT_STEP).await,
                        _ => bail!("{} is applied and cannot be read", sent.id),
                    }
                }
            }
        }
    }

    fn pick(&mut self) -> Option<Arc<Sent>> {
        let rank = self.shared.zipf.rank(&mut self.random);
        let recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.get(rank.min(recent.len().checked_sub(1)?)).cloned()
    }

    fn remember(&self, sent: Arc<Sent>) {
        let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front(sent);
        recent.truncate(RECENT);
    }
}
