//! What the application does with one message, and the tasks that do it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::sleep;
use zmsg::{ErrorKind, Id, IntoTask, OnMissing, Receipt, Zmsg, counter, map, slice, sql};

use crate::args::Args;
use crate::expected::Expected;
use crate::input::{Message, Stream};
use crate::latency::Latencies;
use crate::patience::patiently;
use crate::zipf::Zipf;

/// Recent messages that are read again and again.
const RECENT: usize = 4_096;
/// A message is marked as read when this many later ones of its task have come.
const READ_AFTER: usize = 32;
/// How long a text message waits in the task queue.
const DELAY: Duration = Duration::from_millis(20);
/// Every so many messages of a task, one is deleted; no multiple of five, so that every kind is.
const DELETE_EVERY: usize = 48;
/// Every so many messages, a key is read that was never written.
const ABSENT_EVERY: usize = 10;

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Workload {
    zmsg: Zmsg,
    recent: Mutex<VecDeque<Arc<Sent>>>,
    zipf: Zipf,
    reads: usize,
    seed: u64,
    absent_for: Duration,
}

/// How often a read that may miss is made again.
const ABSENT_STEP: Duration = Duration::from_millis(100);

/// A message that was accepted.
#[derive(Debug)]
struct Sent {
    id: Id,
    body: Bytes,
    dst: u32,
    kind: Kind,
    receipt: Receipt,
}

/// The kind of a message decides its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Must be in the table before the sender sees it: store route.
    Payment,
    /// May reach the table a little later: delayed route.
    Text,
    /// Comes in crowds: periodic route.
    Reaction,
}

impl Kind {
    fn of(index: usize) -> Self {
        match index % 5 {
            0 => Self::Payment,
            1 | 2 => Self::Text,
            _ => Self::Reaction,
        }
    }
}

/// One task: its share of the conversations, in order.
struct Worker<'a> {
    shared: &'a Workload,
    expected: Expected,
    latencies: Latencies,
    unread: VecDeque<Arc<Sent>>,
    random: fastrand::Rng,
    done: usize,
}

impl Workload {
    pub(crate) fn new(zmsg: Zmsg, args: &Args) -> Self {
        let zipf = Zipf::new(RECENT, 0.99);
        let absent_for = Duration::from_secs(args.absent_for);
        let (reads, seed) = (args.reads, args.seed);
        Self { zmsg, recent: Mutex::default(), zipf, reads, seed, absent_for }
    }

    /// Replays the stream. A conversation always goes to the same task, so that its order is kept.
    pub(crate) async fn run(
        self: &Arc<Self>,
        stream: &Stream,
        args: &Args,
    ) -> Result<(Expected, Latencies)> {
        let progress = progress_bar(stream.messages.len(), args);
        let (tasks, processes) = (u64::from(args.tasks), u64::from(args.processes));
        let mut shares: Vec<Vec<Message>> = vec![Vec::new(); args.tasks as usize];
        for message in &stream.messages {
            let mut hasher = DefaultHasher::new();
            message.conversation().hash(&mut hasher);
            let turn = hasher.finish() % (tasks * processes);
            if args.part.is_none_or(|part| turn / tasks == u64::from(part)) {
                shares[(turn % tasks) as usize].push(message.clone());
            }
        }
        let mut running = JoinSet::new();
        for (index, share) in shares.into_iter().enumerate() {
            let (workload, progress) = (Arc::clone(self), progress.clone());
            running.spawn(async move { workload.replay(index as u64, share, &progress).await });
        }
        let (mut expected, mut latencies) = (Expected::default(), Latencies::default());
        while let Some(task) = running.join_next().await {
            let (counted, timed) = task??;
            expected.merge(counted);
            latencies.merge(timed);
        }
        progress.finish_and_clear();
        Ok((expected, latencies))
    }

    async fn replay(
        &self,
        index: u64,
        share: Vec<Message>,
        progress: &ProgressBar,
    ) -> Result<(Expected, Latencies)> {
        let mut worker = Worker {
            shared: self,
            expected: Expected::default(),
            latencies: Latencies::default(),
            unread: VecDeque::new(),
            random: fastrand::Rng::with_seed(self.seed ^ (index << 32)),
            done: 0,
        };
        for message in share {
            worker.message(&message).await?;
            progress.inc(1);
        }
        Ok((worker.expected, worker.latencies))
    }
}

impl Worker<'_> {
    /// The life of one message.
    async fn message(&mut self, message: &Message) -> Result<()> {
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
        let id = patiently!(self, zmsg.next_id("msg"));
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
        let started = Instant::now();
        let kind = Kind::of(self.done);
        let (call, receipt) = match kind {
            Kind::Payment => {
                let receipt = patiently!(self, zmsg.cache_and_store(&id, &body, insert.clone()));
                ("cache_and_store", receipt)
            }
            Kind::Text => {
                let write = || zmsg.cache_and_delay_store(&id, &body, insert.clone()).delay(DELAY);
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
        self.accepted(&receipt);
        self.expected.messages.insert(id.to_string(), false);
        Ok(Sent { id, body, dst: message.dst, kind, receipt })
    }

    /// Counters of both users, and slice, map and counter of the conversation.
    async fn count(&mut self, message: &Message, sent: &Sent) -> Result<()> {
        let Message { src, dst, sent_at, .. } = *message;
        self.user(src, "sent", 1).await?;
        self.user(dst, "received", 1).await?;
        self.user(dst, "unread", 1).await?;
        self.expected.user(src).sent += 1;
        self.expected.user(dst).received += 1;
        self.expected.user(dst).unread += 1;

        let name = message.conversation();
        let conversation = self.expected.conversations.entry(name.clone()).or_default();
        conversation.messages += 1;
        conversation.last_id = sent.id.to_string();
        conversation.last_at = sent_at;
        let joins = !conversation.participants.contains(&src);
        if joins {
            conversation.participants.push(src);
        }
        let here = |op: zmsg::sqlbuilder::OpBuilder| {
            op.where_eq("id", &name).on_missing(OnMissing::Insert)
        };
        self.fold(&name, here(counter("conversations", "messages").inc(1))).await?;
        self.fold(&name, here(map("conversations", "last").set("id", sent.id.as_str()))).await?;
        self.fold(&name, here(map("conversations", "last").set("at", sent_at))).await?;
        if joins {
            self.fold(&name, here(slice("conversations", "participants").add(src))).await?;
        }
        Ok(())
    }

    async fn user(&mut self, user: u32, column: &str, by: i64) -> Result<()> {
        let op = counter("users", column).inc(by).where_eq("id", user);
        self.fold(&format!("user_{user}"), op.on_missing(OnMissing::Insert)).await
    }

    /// One operation on the periodic route. A full buffer is back-pressure: wait for a flush.
    async fn fold(&mut self, key: &str, op: impl IntoTask + Clone) -> Result<()> {
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
        self.accepted(&receipt);
        Ok(())
    }

    fn accepted(&mut self, receipt: &Receipt) {
        self.expected.writes += 1;
        self.expected.degraded += u64::from(receipt.is_degraded());
    }

    /// Marks the oldest unread message. No order holds between routes, so a text waits for its
    /// receipt; a reaction has the order of its batch key.
    async fn mark_as_read(&mut self) -> Result<()> {
        let Some(sent) = self.unread.pop_front() else { return Ok(()) };
        if sent.kind == Kind::Text {
            sent.receipt.applied().await?;
        }
        let mark = counter("messages", "read").set(1).where_eq("id", &sent.id);
        let mark = mark.batch_key(sent.id.as_str());
        self.fold(sent.id.as_str(), mark).await?;
        self.user(sent.dst, "unread", -1).await?;
        self.expected.user(sent.dst).unread -= 1;
        if let Some(read) = self.expected.messages.get_mut(sent.id.as_str()) {
            *read = true;
        }
        Ok(())
    }

    /// Deletes a message; reads see it gone at once. The store route flushes what this process
    /// holds for the key first; the delayed route promises no order, so it waits for the receipt.
    async fn delete(&mut self, sent: Arc<Sent>) -> Result<()> {
        let delayed = sent.kind == Kind::Payment;
        if sent.kind == Kind::Text {
            sent.receipt.applied().await?;
        }
        self.unread.retain(|other| other.id != sent.id);
        self.expected.user(sent.dst).unread -= 1;
        self.user(sent.dst, "unread", -1).await?;
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
        self.accepted(&receipt);
        self.expected.messages.remove(sent.id.as_str());
        self.expected.deleted.insert(sent.id.to_string());
        let found = patiently!(self, zmsg.get(&sent.id));
        // A degraded receipt says that other caches may not know yet.
        if found.is_some() && !receipt.is_degraded() {
            self.expected.wrong_reads.push(format!("{} was read after its deletion", sent.id));
        }
        Ok(())
    }

    async fn read_recent(&mut self) -> Result<()> {
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
                sent.receipt.applied().await?;
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

fn progress_bar(messages: usize, args: &Args) -> ProgressBar {
    if args.no_progress {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {pos}/{len} messages, {per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(messages as u64).with_style(style)
}
