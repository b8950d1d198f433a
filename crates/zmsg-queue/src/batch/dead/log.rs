//! The log of the dead letters of a queue.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};
use zmsg_wal::Record;

use super::letter::{Content, DeadLetter, Held};
use super::{Corpse, Place, ended_early};
use crate::batch::backlog::{Backlog, Item};
use crate::batch::handler::ItemId;
use crate::batch::record::{Codec, LETTER, Spans, item_of};

/// An open log of dead letters, and which items are in it.
#[derive(Debug)]
pub(super) struct Letters {
    pub(super) log: Backlog,
    pub(super) by_seq: BTreeMap<u64, ItemId>,
    pub(super) ids: HashSet<ItemId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    stream: u128,
    seq: u64,
    tries: u32,
    died_at: UnixMillis,
    error: String,
    kind: u8,
}

impl Letters {
    pub(super) fn open(place: &Place) -> Result<Self> {
        let is_item = |kind| (kind == LETTER).then_some(Item::InOrder);
        let (log, pending) =
            Backlog::open(&place.dir, place.options.clone(), Arc::clone(&place.fs), is_item)?;
        zmsg_core::fail_point!("zmsg-queue::batch::bury::opened");
        let mut letters = Self { log, by_seq: BTreeMap::new(), ids: HashSet::new() };
        let mut reader = letters.log.reader(pending.first);
        let mut twice = Spans::default();
        while let Some(record) = reader.next()? {
            if record.kind != LETTER || pending.known.done.contains(record.seq) {
                continue;
            }
            // Buried twice: the process stopped before the queue had noted the first time.
            if !letters.note(record.seq, read_head(&record)?.0.id()) {
                twice.add(record.seq, record.seq);
            }
        }
        if !twice.is_empty() {
            letters.log.done(&twice);
        }
        Ok(letters)
    }

    /// False if the item is there already.
    fn note(&mut self, seq: u64, id: ItemId) -> bool {
        let new = self.ids.insert(id);
        if new {
            self.by_seq.insert(seq, id);
        }
        new
    }

    pub(super) async fn bury(&mut self, corpses: &[Corpse]) -> Result<()> {
        for corpse in corpses {
            let (kind, body) = &corpse.written;
            let head = Head {
                stream: corpse.id.stream.as_u128(),
                seq: corpse.id.seq,
                tries: corpse.tries,
                died_at: corpse.died_at,
                error: corpse.error.clone(),
                kind: *kind,
            };
            let mut payload = postcard::to_stdvec(&head).map_err(|error| {
                Error::new(ErrorKind::Unexpected, "could not write a dead letter")
                    .with_source(error)
            })?;
            payload.extend_from_slice(body);
            let seq = self.append(&payload).await?;
            // At once: should a later one fail, this one is not written twice.
            self.note(seq, corpse.id);
        }
        zmsg_core::fail_point!("zmsg-queue::batch::bury::written");
        self.log.synced().await
    }

    /// Letters are written one after the other: the buffer of their log is small.
    async fn append(&self, payload: &[u8]) -> Result<u64> {
        match self.log.append_many(&[(LETTER, payload)]) {
            Err(error) if error.is_temporary() => {
                self.log.synced().await?;
                self.log.append_many(&[(LETTER, payload)]).map(|appended| appended.seq())
            }
            result => result.map(|appended| appended.seq()),
        }
    }

    pub(super) async fn list<T>(&self, max: usize, codec: Codec<T>) -> Result<Vec<DeadLetter<T>>> {
        let Some((&first, _)) = self.by_seq.first_key_value() else { return Ok(Vec::new()) };
        let wanted: HashSet<u64> = self.by_seq.keys().take(max).copied().collect();
        let mut reader = self.log.reader(first);
        let reading = tokio::task::spawn_blocking(move || -> Result<Vec<Record>> {
            let mut records = Vec::with_capacity(wanted.len());
            while records.len() < wanted.len() {
                let Some(record) = reader.next()? else { break };
                if wanted.contains(&record.seq) {
                    records.push(record);
                }
            }
            Ok(records)
        });
        let records = reading.await.map_err(ended_early)??;
        records.iter().map(|record| read_letter(record, codec)).collect()
    }

    pub(super) async fn remove(&mut self, seqs: &[u64]) -> Result<()> {
        if seqs.is_empty() {
            return Ok(());
        }
        let mut spans = Spans::default();
        seqs.iter().for_each(|&seq| spans.add(seq, seq));
        self.log.done(&spans);
        for seq in seqs {
            if let Some(id) = self.by_seq.remove(seq) {
                self.ids.remove(&id);
            }
        }
        let below = self.by_seq.first_key_value().map_or(self.log.last_seq() + 1, |(&seq, _)| seq);
        let log = self.log.clone();
        let removal = tokio::task::spawn_blocking(move || log.finish(below));
        removal.await.map_err(ended_early)?
    }
}

impl Head {
    fn id(&self) -> ItemId {
        ItemId { stream: Uuid::from_u128(self.stream), seq: self.seq }
    }
}

fn read_head(record: &Record) -> Result<(Head, &[u8])> {
    postcard::take_from_bytes(&record.payload).map_err(|error| {
        Error::new(ErrorKind::Corrupted, "could not read a dead letter")
            .with_context("sequence", record.seq)
            .with_source(error)
    })
}

fn read_letter<T>(record: &Record, codec: Codec<T>) -> Result<DeadLetter<T>> {
    let (head, body) = read_head(record)?;
    let item = item_of(head.kind).and_then(|(encoding, _)| codec.decode(encoding, body).ok());
    let content = match item {
        Some(item) => Content::Item(Held::new(item)),
        None => Content::Unreadable(body.to_vec()),
    };
    let (id, tries, died_at) = (head.id(), head.tries, head.died_at);
    Ok(DeadLetter { id, tries, error: head.error, died_at, content })
}
