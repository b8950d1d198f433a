//! Dead letters: items that were given up, kept until somebody decides.

mod letter;
mod memory;
mod disk;
mod log;

use std::collections::HashSet;

use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

pub(super) use disk::Place;
pub(super) use letter::Holder;
pub use letter::{Content, DeadLetter, Held};
pub(super) use memory::InMemory;

use super::config::OnDeadFull;
use super::handler::ItemId;
use super::record::Codec;
use disk::OnDisk;

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

/// What became of a burial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buried {
    /// Done; so many older ones were dropped for it.
    Done { dropped: u64 },
    /// There is no room, and none may be made.
    Full,
}

/// How many there may be, and what happens then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) max: usize,
    pub(super) on_full: OnDeadFull,
}

/// The dead letters of a queue.
#[derive(Debug)]
pub(super) enum DeadLetters<T> {
    Memory(InMemory<T>),
    Disk(Box<OnDisk<T>>),
}

impl<T> DeadLetters<T> {
    pub(super) fn in_memory(bound: Bound) -> Self {
        Self::Memory(InMemory::new(bound))
    }

    pub(super) fn on_disk(place: Place, codec: Codec<T>, bound: Bound) -> Self {
        Self::Disk(Box::new(OnDisk::new(place, codec, bound)))
    }

    /// Those of a queue in memory.
    pub(super) fn memory(&self) -> Option<&InMemory<T>> {
        match self {
            Self::Memory(letters) => Some(letters),
            Self::Disk(_) => None,
        }
    }

    pub(super) async fn len(&self) -> Result<usize> {
        match self {
            Self::Memory(letters) => Ok(letters.len()),
            Self::Disk(letters) => letters.len().await,
        }
    }

    /// Keeps items of a queue with a log. What there is no room for stays in `corpses`.
    pub(super) async fn bury(&self, corpses: &mut Vec<Corpse>) -> Result<Buried> {
        match self {
            Self::Disk(letters) => letters.bury(corpses).await,
            Self::Memory(_) => Err(Error::new(ErrorKind::Unexpected, "a queue without a log")),
        }
    }

    /// The oldest dead letters.
    pub(super) async fn list(&self, max: usize) -> Result<Vec<DeadLetter<T>>> {
        match self {
            Self::Memory(letters) => Ok(letters.list(max)),
            Self::Disk(letters) => letters.list(max).await,
        }
    }

    /// Forgets dead letters. How many of these there were.
    pub(super) async fn remove(&self, ids: &HashSet<ItemId>) -> Result<usize> {
        match self {
            Self::Memory(letters) => Ok(letters.remove(ids)),
            Self::Disk(letters) => letters.remove(ids).await,
        }
    }

    pub(super) async fn close(&self) -> Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Disk(letters) => letters.close().await,
        }
    }
}

pub(super) fn ended_early(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Unexpected, "a task on the disk ended early").with_source(error)
}
