//! The way of an item into the queue.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use zmsg_core::{Error, ErrorKind, Millis, Result, UnixMillis};
use zmsg_wal::{Appended, Durability, LogOptions};

use super::backlog::Backlog;
use super::config::{BatchConfig, BatchStorage};
use super::entry::{Entry, Home};
use super::handler::ItemId;
use super::inbox::Inbox;
use super::inner::Inner;
use super::record::{TIME_LEN, item_kind};
use super::state::State;
use super::stats::add;
use crate::sabotage;

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
    /// Not into memory alone.
    through_log: bool,
}

pub(super) struct Arriving<T> {
    pub(super) item: T,
    lane: usize,
    bytes: usize,
    body: Option<Vec<u8>>,
}

/// Why items did not get in; they are given back.
pub(super) enum Refused<T> {
    /// It will not get better; they come back if the queue was closed.
    For(Option<Incoming<T>>, Error),
    /// There is no room.
    NoRoom(Incoming<T>, Error),
}

/// How often a full log is asked again: nobody tells when it has room.
const ASK_LOG: Duration = Duration::from_millis(2);

impl<T> Inner<T> {
    /// The way of one item into a queue in memory, with room for it: no lock that others hold. The
    /// item comes back if that is not so.
    pub(super) fn accept_one(&self, item: T) -> std::result::Result<Enqueued, T> {
        let Some(inbox) = &self.inbox else { return Err(item) };
        let posted = inbox.post(item, &*self.clock)?;
        if posted.wake {
            self.lanes[0].notify_one();
        }
        Ok(self.posted(posted.first))
    }

    fn posted(&self, ticket: u64) -> Enqueued {
        let id = ItemId { stream: self.streams.memory, seq: ticket };
        Enqueued { id, durability: Durability::Buffered, appended: None }
    }

    /// Puts all items into the inbox, or none.
    fn post_all(
        &self,
        inbox: &Inbox<T>,
        incoming: Incoming<T>,
    ) -> std::result::Result<Vec<Enqueued>, Refused<T>> {
        let Incoming { items, at, wall, .. } = incoming;
        let count = items.len() as u64;
        let items: Vec<T> = items.into_iter().map(|arriving| arriving.item).collect();
        match inbox.post_all(items, &*self.clock) {
            Ok(posted) => {
                if posted.wake {
                    self.lanes[0].notify_one();
                }
                Ok((posted.first..posted.first + count).map(|ticket| self.posted(ticket)).collect())
            }
            Err(items) => {
                let bytes = size_of::<T>().max(1);
                let arrive = |item| Arriving { item, lane: 0, bytes, body: None };
                let items = items.into_iter().map(arrive).collect();
                let back = Incoming { items, at, wall, through_log: false };
                let mut state = self.whole_state();
                if !state.phase.takes() {
                    return Err(Refused::For(Some(back), self.closed(count)));
                }
                let error = full(&state, &self.config);
                self.press(&mut state);
                Err(Refused::NoRoom(back, error))
            }
        }
    }

    fn closed(&self, items: u64) -> Error {
        add(&self.counters.refused, items);
        Error::closed("the batch queue")
    }

    /// What is known of items before the lock is taken.
    pub(super) fn incoming(&self, items: impl Iterator<Item = T>) -> Result<Incoming<T>> {
        // Also what stays in memory: it has to be such that it could be written.
        let arrive = |item: T| self.encode(&item).map(|body| self.arriving(item, body));
        let items = items.map(arrive).collect::<Result<Vec<_>>>()?;
        self.check_size(&items)?;
        Ok(self.coming(items))
    }

    fn arriving(&self, item: T, body: Option<Vec<u8>>) -> Arriving<T> {
        let lane = self.lane_of(&item);
        let bytes = body.as_ref().map_or_else(|| (self.weigh)(&item), Vec::len);
        Arriving { item, lane, bytes, body }
    }

    fn coming(&self, items: Vec<Arriving<T>>) -> Incoming<T> {
        let wall = if self.backlog.is_some() { self.clock.wall() } else { 0 };
        Incoming { items, at: self.clock.coarse(), wall, through_log: false }
    }

    /// The same of one item, which comes back if it is refused.
    pub(super) fn incoming_one(&self, item: T) -> std::result::Result<Incoming<T>, (T, Error)> {
        let body = match self.encode(&item) {
            Ok(body) => body,
            Err(error) => return Err((item, error)),
        };
        let arriving = self.arriving(item, body);
        if let Err(error) = self.check_size(std::slice::from_ref(&arriving)) {
            return Err((arriving.item, error));
        }
        Ok(self.coming(vec![arriving]))
    }

    /// Refuses what could never get in, however long it waited.
    fn check_size(&self, items: &[Arriving<T>]) -> Result<()> {
        let log = &self.config.log;
        let sum =
            |of: fn(&Arriving<T>) -> usize| items.iter().map(of).fold(0, usize::saturating_add);
        let bounds = match self.backlog.is_some() {
            // They are written in one piece, each within a record.
            true => {
                let longest = items.iter().map(|item| item.bytes).max().unwrap_or(0);
                let whole = sum(|item| LogOptions::record_bytes(TIME_LEN + item.bytes));
                let longest =
                    ("log.record_bytes_max", TIME_LEN + longest, log.record_bytes_max as usize);
                [longest, ("log.buffer_bytes_max", whole, log.buffer_bytes_max)]
            }
            false => {
                let bytes = sum(|item| item.bytes);
                let bytes = ("memory_bytes_max", bytes, self.config.memory_bytes_max);
                [bytes, ("memory_items_max", items.len(), self.memory_items)]
            }
        };
        match bounds.into_iter().find(|(_, value, max)| value > max) {
            None => Ok(()),
            Some((bound, value, max)) => {
                let why = "more at once than the queue could ever take";
                let error = Error::invalid_input(why).with_context("bound", bound);
                Err(error.with_context("value", value).with_context("max", max))
            }
        }
    }

    fn encode(&self, item: &T) -> Result<Option<Vec<u8>>> {
        self.codec.map(|codec| codec.encode(self.config.encoding, item)).transpose()
    }

    /// Waits for room, then for as much durability as the configuration asks for.
    pub(super) async fn enqueue(&self, incoming: Incoming<T>) -> Result<Vec<Enqueued>> {
        let mut accepted = self.accept_in_time(incoming).await?;
        // Accepted: whoever drops the future from here on has enqueued.
        zmsg_core::fail_point!("zmsg-queue::batch::enqueue::accepted");
        self.slow_down(accepted.len()).await;
        let wanted = self.config.acknowledge;
        if let Some(last) = accepted.last().filter(|last| last.appended.is_some()) {
            if !sabotage::acknowledges_items_early() {
                // Whatever the log says of it: the item is in the queue.
                last.wait(wanted).await.map_err(Error::outcome_unknown)?;
            }
            zmsg_core::fail_point!("zmsg-queue::batch::enqueue::kept");
            accepted.iter_mut().for_each(|enqueued| enqueued.durability = wanted);
        }
        Ok(accepted)
    }

    async fn accept_in_time(&self, mut incoming: Incoming<T>) -> Result<Vec<Enqueued>> {
        let deadline = after(self.config.enqueue_timeout);
        loop {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            let (back, error) = match self.accept(incoming) {
                Ok(accepted) => return Ok(accepted),
                Err(Refused::For(_, error)) => return Err(error),
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
        self.accept(incoming).map_err(|refused| match refused {
            Refused::NoRoom(_, error) => {
                add(&self.counters.refused, count);
                error
            }
            Refused::For(_, error) => error,
        })
    }

    /// Accepts an item through the log, and waits until it is on the disk.
    pub(super) async fn enqueue_synced(&self, item: T) -> Result<()> {
        let mut incoming = self.incoming(std::iter::once(item))?;
        incoming.through_log = true;
        let accepted = self.accept_in_time(incoming).await?;
        match accepted.last() {
            Some(last) => last.wait(Durability::Synced).await.map_err(Error::outcome_unknown),
            None => Ok(()),
        }
    }

    /// Puts all items into the queue, or none.
    pub(super) fn accept(
        &self,
        incoming: Incoming<T>,
    ) -> std::result::Result<Vec<Enqueued>, Refused<T>> {
        if let Some(inbox) = &self.inbox {
            return self.post_all(inbox, incoming);
        }
        let mut state = self.state();
        if !state.phase.takes() {
            let count = incoming.items.len() as u64;
            return Err(Refused::For(Some(incoming), self.closed(count)));
        }
        let fits = state.on_disk == 0 && has_room(&state, &self.config, &incoming.items);
        if !fits {
            self.press(&mut state);
        }
        let durable = matches!(self.config.storage, BatchStorage::Durable { .. });
        let logging = durable || !fits || state.is_logging() || incoming.through_log;
        let appended = match &self.backlog {
            Some(backlog) if logging => match self.append(backlog, &incoming) {
                Ok(appended) => Some(appended),
                Err(error) if error.is_temporary() => {
                    return Err(Refused::NoRoom(incoming, error));
                }
                Err(error) => return Err(Refused::For(None, error)),
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
        state.enqueued += count as u64;
        Ok(accepted)
    }

    /// What waits in the lanes is to make room, full batch or not.
    fn press(&self, state: &mut State<T>) {
        state.pressed = true;
        self.lanes.iter().for_each(tokio::sync::Notify::notify_one);
    }

    fn append(&self, backlog: &Backlog, incoming: &Incoming<T>) -> Result<Appended> {
        zmsg_core::fail_point!("zmsg-queue::batch::enqueue::before");
        let kind = item_kind(self.config.encoding, false);
        if let [arriving] = incoming.items.as_slice() {
            return backlog.append(kind, incoming.wall, arriving.body());
        }
        let time = incoming.wall.to_le_bytes();
        let payload = |arriving: &Arriving<T>| [&time, arriving.body()].concat();
        let payloads: Vec<_> = incoming.items.iter().map(payload).collect();
        let records: Vec<_> = payloads.iter().map(|payload| (kind, payload.as_slice())).collect();
        backlog.append_many(&records)
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
            let entry = Entry { item, seq: own, home, bytes: weight(bytes), at, tries: 0 };
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
    pub(super) async fn slow_down(&self, items: usize) {
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
        let part = |used: usize, max: usize| used as f64 / max as f64;
        let (items_max, bytes_max) = (self.memory_items, self.config.memory_bytes_max);
        if let Some(inbox) = &self.inbox {
            let most = self.memory_items;
            return part(most.saturating_sub(inbox.room() as usize), most);
        }
        let (items, bytes) = {
            let state = self.state();
            (state.items, state.bytes)
        };
        part(items, items_max).max(part(bytes, bytes_max))
    }
}

/// What an item counts for, as its entry keeps it.
pub(super) fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl<T> Arriving<T> {
    fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }
}

/// That long from now; or as good as never.
pub(super) fn after(pause: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);
    Instant::now() + pause.min(NEVER)
}

fn has_room<T>(state: &State<T>, config: &BatchConfig, items: &[Arriving<T>]) -> bool {
    let bytes = items.iter().map(|item| item.bytes).fold(0, usize::saturating_add);
    state.items + items.len() <= config.memory_items_max
        && state.bytes.saturating_add(bytes) <= config.memory_bytes_max
}

fn full<T>(state: &State<T>, config: &BatchConfig) -> Error {
    let by_items = state.items >= config.memory_items_max;
    let bound = if by_items { "memory_items_max" } else { "memory_bytes_max" };
    Error::overloaded(bound).with_context("items", state.items).with_context("bytes", state.bytes)
}
