//! The way of an item into the queue.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use zmsg_core::{Error, ErrorKind, Millis, Result, UnixMillis};
use zmsg_wal::{Appended, Durability};

use super::config::{BatchConfig, BatchStorage};
use super::entry::{Entry, Home};
use super::handler::ItemId;
use super::inner::Inner;
use super::record::item_kind;
use super::state::State;
use super::stats::add;

/// An item that the queue accepted.
#[derive(Debug, Clone)]
pub struct Enqueued {
    id: ItemId,
    durability: Durability,
    appended: Option<Appended>,
}

impl Enqueued {
    /// What names the item: its handler sees the same.
    pub fn id(&self) -> ItemId {
        self.id
    }

    /// How durable the item was known to be when the call returned.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Waits until the item is as durable as that.
    ///
    /// # Errors
    /// `Unsupported` for an item that is in memory alone; `outcome_unknown` if the log failed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn wait(&self, durability: Durability) -> Result<()> {
        if durability <= self.durability {
            return Ok(());
        }
        let Some(appended) = &self.appended else {
            let why =
                "the item is in memory alone: only a durable queue writes every item to its log";
            return Err(Error::new(ErrorKind::Unsupported, why).during("batch_queue.wait"));
        };
        appended
            .wait(durability)
            .await
            .map_err(|error| error.with_context("item", self.id).during("batch_queue.wait"))
    }
}

/// Items on their way in, with what is known of them.
pub(super) struct Incoming<T> {
    pub(super) items: Vec<Arriving<T>>,
    at: Millis,
    wall: UnixMillis,
}

pub(super) struct Arriving<T> {
    pub(super) item: T,
    lane: usize,
    bytes: usize,
    body: Option<Vec<u8>>,
}

/// Why items did not get in; they are given back.
pub(super) enum Refused<T> {
    /// It will not get better, or not soon.
    For(Error),
    /// There is no room.
    NoRoom(Incoming<T>, Error),
    /// They have to go to the log, and are not encoded.
    NotEncoded(Incoming<T>),
}

/// How often a full log is asked again: nobody tells when it has room.
const ASK_LOG: Duration = Duration::from_millis(2);

impl<T> Inner<T> {
    /// What is known of items before the lock is taken.
    pub(super) fn incoming(&self, items: impl Iterator<Item = T>) -> Result<Incoming<T>> {
        let durable = matches!(self.config.storage, BatchStorage::Durable { .. });
        let arrive = |item: T| {
            let lane = self.lane_of(&item);
            let body = if durable { self.encode(&item)? } else { None };
            let bytes = body.as_ref().map_or_else(|| (self.weigh)(&item), Vec::len);
            Ok(Arriving { item, lane, bytes, body })
        };
        let items = items.map(arrive).collect::<Result<Vec<_>>>()?;
        self.check_size(&items)?;
        let wall = if self.backlog.is_some() { self.clock.wall() } else { 0 };
        Ok(Incoming { items, at: self.clock.coarse(), wall })
    }

    /// Refuses what could never get in, however long it waited.
    fn check_size(&self, items: &[Arriving<T>]) -> Result<()> {
        let bytes: usize = items.iter().map(|item| item.bytes).sum();
        let (name, max) = match self.config.storage {
            // They are written in one piece.
            BatchStorage::Durable { .. } => {
                ("log.buffer_bytes_max", self.config.log.buffer_bytes_max)
            }
            _ => ("memory_bytes_max", self.config.memory_bytes_max),
        };
        if bytes > max {
            return Err(Error::invalid_input("more bytes at once than there may ever be")
                .with_context("bytes", bytes)
                .with_context("max", max)
                .with_context("bound", name));
        }
        if self.backlog.is_none() && items.len() > self.config.memory_items_max {
            return Err(Error::invalid_input("more items at once than memory_items_max")
                .with_context("items", items.len())
                .with_context("max", self.config.memory_items_max));
        }
        Ok(())
    }

    fn encode(&self, item: &T) -> Result<Option<Vec<u8>>> {
        self.codec.map(|codec| codec.encode(self.config.encoding, item)).transpose()
    }

    /// Waits for room, then for as much durability as the configuration asks for.
    pub(super) async fn enqueue(&self, incoming: Incoming<T>) -> Result<Vec<Enqueued>> {
        let mut accepted = self.accept_in_time(incoming).await?;
        // Accepted: whoever drops the future from here on has enqueued.
        self.slow_down(accepted.len()).await;
        let wanted = self.config.acknowledge;
        if let Some(last) = accepted.last().filter(|last| last.appended.is_some()) {
            last.wait(wanted).await?;
            accepted.iter_mut().for_each(|enqueued| enqueued.durability = wanted);
        }
        Ok(accepted)
    }

    async fn accept_in_time(&self, mut incoming: Incoming<T>) -> Result<Vec<Enqueued>> {
        let deadline = Instant::now() + self.config.enqueue_timeout;
        loop {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            let (back, error) = match self.accept(incoming) {
                Ok(accepted) => return Ok(accepted),
                Err(Refused::For(error)) => return Err(error),
                Err(Refused::NotEncoded(back)) => {
                    incoming = self.encoded(back)?;
                    continue;
                }
                Err(Refused::NoRoom(back, error)) => (back, error),
            };
            let wait = async {
                tokio::select! {
                    () = room => {}
                    () = sleep(ASK_LOG), if self.backlog.is_some() => {}
                }
            };
            if timeout_at(deadline, wait).await.is_err() {
                add(&self.counters.refused, back.items.len() as u64);
                return Err(
                    error.with_context("waited", format!("{:?}", self.config.enqueue_timeout))
                );
            }
            incoming = back;
        }
    }

    /// Accepts items now or not at all.
    pub(super) fn accept_now(&self, incoming: Incoming<T>) -> Result<Vec<Enqueued>> {
        let count = incoming.items.len() as u64;
        let accepted = match self.accept(incoming) {
            Err(Refused::NotEncoded(back)) => self.accept(self.encoded(back)?),
            accepted => accepted,
        };
        accepted.map_err(|refused| match refused {
            Refused::NoRoom(_, error) => {
                add(&self.counters.refused, count);
                error
            }
            Refused::For(error) => error,
            Refused::NotEncoded(_) => {
                Error::new(ErrorKind::Unexpected, "the items were not encoded")
            }
        })
    }

    pub(super) fn encoded(&self, mut incoming: Incoming<T>) -> Result<Incoming<T>> {
        for arriving in &mut incoming.items {
            arriving.body = self.encode(&arriving.item)?;
        }
        Ok(incoming)
    }

    /// Puts all items into the queue, or none.
    fn accept(&self, incoming: Incoming<T>) -> std::result::Result<Vec<Enqueued>, Refused<T>> {
        let mut state = self.state();
        if !state.phase.takes() {
            drop(state);
            add(&self.counters.refused, incoming.items.len() as u64);
            return Err(Refused::For(Error::closed("the batch queue")));
        }
        let fits = state.on_disk == 0 && has_room(&state, &self.config, &incoming.items);
        let durable = matches!(self.config.storage, BatchStorage::Durable { .. });
        let appended = match &self.backlog {
            Some(_) if durable || !fits || state.is_logging() => match self.append(&incoming) {
                Ok(appended) => Some(appended),
                Err(Append::NotEncoded) => return Err(Refused::NotEncoded(incoming)),
                Err(Append::Failed(error)) if error.is_temporary() => {
                    return Err(Refused::NoRoom(incoming, error));
                }
                Err(Append::Failed(error)) => return Err(Refused::For(error)),
            },
            Some(_) => None,
            None if fits => None,
            None => return Err(Refused::NoRoom(incoming, full(&state, &self.config))),
        };
        let count = incoming.items.len();
        let accepted = if fits {
            self.put_in_memory(&mut state, incoming, appended)
        } else {
            self.leave_in_log(&mut state, &incoming, appended)
        };
        drop(state);
        add(&self.counters.enqueued, count as u64);
        Ok(accepted)
    }

    fn append(&self, incoming: &Incoming<T>) -> std::result::Result<Appended, Append> {
        let backlog = self.backlog.as_ref().ok_or(Append::NotEncoded)?;
        let kind = item_kind(self.config.encoding, false);
        if let [arriving] = incoming.items.as_slice() {
            let body = arriving.body.as_ref().ok_or(Append::NotEncoded)?;
            return backlog.append(kind, incoming.wall, body).map_err(Append::Failed);
        }
        let mut payloads = Vec::with_capacity(incoming.items.len());
        for arriving in &incoming.items {
            let body = arriving.body.as_ref().ok_or(Append::NotEncoded)?;
            payloads.push([&incoming.wall.to_le_bytes(), body.as_slice()].concat());
        }
        let records: Vec<_> = payloads.iter().map(|payload| (kind, payload.as_slice())).collect();
        backlog.append_many(&records).map_err(Append::Failed)
    }

    fn put_in_memory(
        &self,
        state: &mut State<T>,
        incoming: Incoming<T>,
        appended: Option<Appended>,
    ) -> Vec<Enqueued> {
        let cut = self.cut();
        let mut seq = appended.as_ref().map(Appended::first_seq);
        let mut accepted = Vec::with_capacity(incoming.items.len());
        let at = incoming.at;
        for Arriving { item, lane, bytes, .. } in incoming.items {
            let home = if seq.is_some() { Home::Log } else { Home::Memory };
            let own = seq.unwrap_or_else(|| state.next_in_memory());
            seq = seq.map(|seq| seq + 1);
            let entry = Entry { item, seq: own, home, bytes, at, tries: 0 };
            let (id, appended) = (entry.id(self.streams), appended.clone());
            accepted.push(Enqueued { id, durability: Durability::Buffered, appended });
            if state.push(lane, entry, &cut) {
                self.lanes[lane].notify_one();
            }
        }
        if state.items >= cut.memory_items || state.bytes >= cut.memory_bytes {
            self.lanes.iter().for_each(tokio::sync::Notify::notify_one);
        }
        accepted
    }

    fn leave_in_log(
        &self,
        state: &mut State<T>,
        incoming: &Incoming<T>,
        appended: Option<Appended>,
    ) -> Vec<Enqueued> {
        let Some(appended) = appended else { return Vec::new() };
        let stream = self.streams.logged;
        let seqs = appended.first_seq()..=appended.seq();
        debug_assert_eq!(seqs.clone().count(), incoming.items.len());
        add(&self.counters.spilled, incoming.items.len() as u64);
        self.refill.notify_one();
        let leave = |seq| {
            state.spill(seq);
            let (id, appended) = (ItemId { stream, seq }, Some(appended.clone()));
            Enqueued { id, durability: Durability::Buffered, appended }
        };
        seqs.map(leave).collect()
    }

    /// Slows a producer down between the soft limit and the bound, the more the fuller.
    async fn slow_down(&self, items: usize) {
        let (config, part) = (&self.config, self.fullness());
        let soft = f64::from(config.soft_limit_pct) / 100.0;
        // Beyond the bound items go to the log, or wait for room.
        if part <= soft || part >= 1.0 || config.soft_delay_max.is_zero() {
            return;
        }
        add(&self.counters.slowed, items as u64);
        sleep(config.soft_delay_max.mul_f64((part - soft) / (1.0 - soft))).await;
    }

    /// The fuller of the two bounds of the memory, from 0 to 1.
    fn fullness(&self) -> f64 {
        let (items, bytes) = {
            let state = self.state();
            (state.items, state.bytes)
        };
        let part = |used: usize, max: usize| used as f64 / max as f64;
        part(items, self.config.memory_items_max).max(part(bytes, self.config.memory_bytes_max))
    }
}

enum Append {
    NotEncoded,
    Failed(Error),
}

fn has_room<T>(state: &State<T>, config: &BatchConfig, items: &[Arriving<T>]) -> bool {
    let bytes: usize = items.iter().map(|item| item.bytes).sum();
    state.items + items.len() <= config.memory_items_max
        && state.bytes + bytes <= config.memory_bytes_max
}

fn full<T>(state: &State<T>, config: &BatchConfig) -> Error {
    let by_items = state.items >= config.memory_items_max;
    let bound = if by_items { "memory_items_max" } else { "memory_bytes_max" };
    Error::overloaded(bound).with_context("items", state.items).with_context("bytes", state.bytes)
}
