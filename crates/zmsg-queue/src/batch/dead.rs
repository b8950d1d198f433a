//! Dead letters: items that were given up, kept until somebody decides.

mod letter;
mod log;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};
use zmsg_wal::{Fs, LogOptions};

pub(super) use letter::Holder;
pub use letter::{Content, DeadLetter, Held};

use super::config::OnDeadFull;
use super::handler::ItemId;
use super::record::Codec;
use log::Letters;

/// An item to be buried in a log.
#[derive(Debug)]
pub(super) struct Corpse {
    pub(super) id: ItemId,
    pub(super) tries: u32,
    pub(super) error: String,
    pub(super) died_at: UnixMillis,
    /// The kind and the body of its record.
    pub(super) written: (u8, Vec<u8>),
}

/// The dead letters of a queue.
#[derive(Debug)]
pub(super) struct DeadLetters<T> {
    keep: Keep<T>,
    max: usize,
    on_full: OnDeadFull,
}

#[derive(Debug)]
enum Keep<T> {
    Memory(Mutex<InMemory<T>>),
    Disk { place: Place, codec: Codec<T>, open: Mutex<Option<Letters>> },
}

#[derive(Debug)]
struct InMemory<T> {
    letters: VecDeque<DeadLetter<T>>,
    /// Room that was promised.
    reserved: usize,
}

/// Where the log of dead letters is, or will be once there is one.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) options: LogOptions,
    pub(super) fs: Arc<dyn Fs>,
}

/// What became of a burial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buried {
    /// Done; so many older ones were dropped for it.
    Done { dropped: u64 },
    /// There is no room, and none may be made.
    Full,
}

impl<T> DeadLetters<T> {
    pub(super) fn in_memory(max: usize, on_full: OnDeadFull) -> Self {
        Self {
            keep: Keep::Memory(Mutex::new(InMemory { letters: VecDeque::new(), reserved: 0 })),
            max,
            on_full,
        }
    }

    pub(super) fn on_disk(place: Place, codec: Codec<T>, max: usize, on_full: OnDeadFull) -> Self {
        Self { keep: Keep::Disk { place, codec, open: Mutex::new(None) }, max, on_full }
    }

    pub(super) async fn len(&self) -> Result<usize> {
        match &self.keep {
            Keep::Memory(kept) => Ok(kept.lock().await.letters.len()),
            Keep::Disk { place, open, .. } => {
                let mut open = open.lock().await;
                let there = there_is(&mut open, place).await?;
                Ok(there.map_or(0, |letters| letters.ids.len()))
            }
        }
    }

    /// Keeps items that were given up; on the disk when it returns. One that is there already is not
    /// kept twice. Only of a queue with a log.
    pub(super) async fn bury(&self, corpses: &mut Vec<Corpse>) -> Result<Buried> {
        let Keep::Disk { place, open, .. } = &self.keep else {
            return Err(Error::new(ErrorKind::Unexpected, "a queue in memory has no log"));
        };
        let mut open = open.lock().await;
        let letters = opened(&mut open, place).await?;
        corpses.retain(|corpse| !letters.ids.contains(&corpse.id));
        let Some(dropped) = self.room(letters.ids.len(), corpses.len()) else {
            return Ok(Buried::Full);
        };
        letters.bury(corpses).await?;
        corpses.clear();
        let oldest: Vec<_> = letters.by_seq.keys().take(dropped).copied().collect();
        letters.remove(&oldest).await?;
        Ok(Buried::Done { dropped: dropped as u64 })
    }

    /// Makes sure that there is room for letters in memory.
    pub(super) async fn reserve(&self, more: usize) -> Buried {
        let Keep::Memory(kept) = &self.keep else { return Buried::Full };
        let mut kept = kept.lock().await;
        let Some(over) = self.room(kept.letters.len() + kept.reserved, more) else {
            return Buried::Full;
        };
        let dropped = over.min(kept.letters.len());
        kept.letters.drain(..dropped);
        kept.reserved += more;
        Buried::Done { dropped: dropped as u64 }
    }

    /// Puts letters where room was reserved for them.
    pub(super) async fn fill_reserved(&self, letters: Vec<DeadLetter<T>>) {
        let Keep::Memory(kept) = &self.keep else { return };
        let mut kept = kept.lock().await;
        kept.reserved -= letters.len();
        kept.letters.extend(letters);
    }

    /// How many have to be dropped for `more`; `None` if there is no room.
    fn room(&self, len: usize, more: usize) -> Option<usize> {
        let over = (len + more).saturating_sub(self.max);
        let may = over == 0 || self.on_full == OnDeadFull::DropOldest;
        may.then_some(over)
    }

    /// The oldest dead letters.
    pub(super) async fn list(&self, max: usize) -> Result<Vec<DeadLetter<T>>> {
        match &self.keep {
            Keep::Memory(kept) => Ok(kept.lock().await.letters.iter().take(max).cloned().collect()),
            Keep::Disk { place, codec, open } => {
                let mut open = open.lock().await;
                match there_is(&mut open, place).await? {
                    Some(letters) => letters.list(max, *codec).await,
                    None => Ok(Vec::new()),
                }
            }
        }
    }

    /// Forgets dead letters. How many of these there were.
    pub(super) async fn remove(&self, ids: &HashSet<ItemId>) -> Result<usize> {
        match &self.keep {
            Keep::Memory(kept) => {
                let letters = &mut kept.lock().await.letters;
                let before = letters.len();
                letters.retain(|letter| !ids.contains(&letter.id));
                Ok(before - letters.len())
            }
            Keep::Disk { place, open, .. } => {
                let mut open = open.lock().await;
                let Some(letters) = there_is(&mut open, place).await? else { return Ok(0) };
                let found = letters.by_seq.iter().filter(|(_, id)| ids.contains(id));
                let found: Vec<_> = found.map(|(&seq, _)| seq).collect();
                letters.remove(&found).await?;
                Ok(found.len())
            }
        }
    }

    /// A letter in memory that was taken out and is to stay one.
    pub(super) async fn put_back(&self, letter: DeadLetter<T>) {
        if let Keep::Memory(kept) = &self.keep {
            kept.lock().await.letters.push_front(letter);
        }
    }

    pub(super) async fn close(&self) -> Result<()> {
        let Keep::Disk { open, .. } = &self.keep else { return Ok(()) };
        match open.lock().await.take() {
            Some(letters) => letters.log.close().await,
            None => Ok(()),
        }
    }
}

/// The log, if there is one.
async fn there_is<'a>(
    open: &'a mut Option<Letters>,
    place: &Place,
) -> Result<Option<&'a mut Letters>> {
    if open.is_none() {
        let place = place.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let names = place.fs.list(&place.dir).unwrap_or_default();
            if names.is_empty() { Ok(None) } else { Letters::open(&place).map(Some) }
        });
        *open = opening.await.map_err(ended_early)??;
    }
    Ok(open.as_mut())
}

/// The log, which is made if there is none.
async fn opened<'a>(open: &'a mut Option<Letters>, place: &Place) -> Result<&'a mut Letters> {
    if open.is_none() {
        let place = place.clone();
        let opening = tokio::task::spawn_blocking(move || Letters::open(&place));
        *open = Some(opening.await.map_err(ended_early)??);
    }
    open.as_mut().ok_or_else(|| Error::closed("the dead letters"))
}

pub(super) fn ended_early(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Unexpected, "a task on the disk ended early").with_source(error)
}
