//! The dead letters of a queue with a log: a log of their own, made when there is the first one.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use zmsg_core::{Error, ErrorKind, Result};
use zmsg_wal::{Fs, LogOptions};

use super::letter::DeadLetter;
use super::log::Letters;
use super::{Bound, Buried, Corpse, ended_early};
use crate::batch::config::OnDeadFull;
use crate::batch::handler::ItemId;
use crate::batch::record::Codec;

#[derive(Debug)]
pub(in crate::batch) struct OnDisk<T> {
    place: Place,
    codec: Codec<T>,
    bound: Bound,
    log: Mutex<State>,
}

/// Where the log is, or will be once there is one.
#[derive(Debug, Clone)]
pub(in crate::batch) struct Place {
    pub(in crate::batch) dir: PathBuf,
    pub(in crate::batch) options: LogOptions,
    pub(in crate::batch) fs: Arc<dyn Fs>,
}

#[derive(Debug)]
enum State {
    /// Not looked at yet, or failed.
    Unknown,
    Open(Letters),
    Closed,
}

impl<T> OnDisk<T> {
    pub(super) fn new(place: Place, codec: Codec<T>, bound: Bound) -> Self {
        Self { place, codec, bound, log: Mutex::new(State::Unknown) }
    }

    pub(super) async fn len(&self) -> Result<usize> {
        let mut state = self.log.lock().await;
        let letters = state.look(&self.place, IfNone::Leave).await?;
        Ok(letters.map_or(0, |letters| letters.ids.len()))
    }

    /// Keeps items that were given up; on the disk when it returns. One that is there already is not
    /// kept twice. What there is no room for stays in `corpses`.
    pub(super) async fn bury(&self, corpses: &mut Vec<Corpse>) -> Result<Buried> {
        let mut state = self.log.lock().await;
        let buried = self.bury_in(&mut state, corpses).await;
        if buried.as_ref().is_err_and(|error| !error.is_temporary()) {
            // A log that failed takes no more: the next attempt opens it anew.
            state.give_up().await;
        }
        buried
    }

    async fn bury_in(&self, state: &mut State, corpses: &mut Vec<Corpse>) -> Result<Buried> {
        let Some(letters) = state.look(&self.place, IfNone::Make).await? else {
            return Err(Error::closed("the dead letters"));
        };
        corpses.retain(|corpse| !letters.ids.contains(&corpse.id));
        let mut dropped = 0;
        let fits = match self.bound.on_full {
            OnDeadFull::Wait => self.bound.max.saturating_sub(letters.ids.len()),
            OnDeadFull::DropOldest => {
                // Of more than there may ever be the first would be dropped for the last.
                dropped = corpses.len().saturating_sub(self.bound.max);
                corpses.drain(..dropped);
                corpses.len()
            }
        };
        let fits = fits.min(corpses.len());
        letters.bury(&corpses[..fits]).await?;
        corpses.drain(..fits);
        let over = letters.ids.len().saturating_sub(self.bound.max);
        let oldest: Vec<_> = letters.by_seq.keys().take(over).copied().collect();
        letters.remove(&oldest).await?;
        if !corpses.is_empty() {
            return Ok(Buried::Full);
        }
        Ok(Buried::Done { dropped: (dropped + over) as u64 })
    }

    pub(super) async fn list(&self, max: usize) -> Result<Vec<DeadLetter<T>>> {
        let mut state = self.log.lock().await;
        match state.look(&self.place, IfNone::Leave).await? {
            Some(letters) => letters.list(max, self.codec).await,
            None => Ok(Vec::new()),
        }
    }

    pub(super) async fn remove(&self, ids: &HashSet<ItemId>) -> Result<usize> {
        let mut state = self.log.lock().await;
        let Some(letters) = state.look(&self.place, IfNone::Leave).await? else { return Ok(0) };
        let found = letters.by_seq.iter().filter(|(_, id)| ids.contains(id));
        let found: Vec<_> = found.map(|(&seq, _)| seq).collect();
        letters.remove(&found).await?;
        Ok(found.len())
    }

    /// Frees the directory for the next queue.
    pub(super) async fn close(&self) -> Result<()> {
        match std::mem::replace(&mut *self.log.lock().await, State::Closed) {
            State::Open(letters) => letters.log.close().await,
            State::Unknown | State::Closed => Ok(()),
        }
    }
}

/// What to do where there is no log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfNone {
    Leave,
    Make,
}

impl State {
    async fn look(&mut self, place: &Place, if_none: IfNone) -> Result<Option<&mut Letters>> {
        if matches!(self, Self::Unknown) {
            let place = place.clone();
            let opening = spawn_blocking(move || {
                let is_there = if_none == IfNone::Make || is_there(&place)?;
                if is_there { Letters::open(&place).map(Some) } else { Ok(None) }
            });
            if let Some(letters) = opening.await.map_err(ended_early)?? {
                *self = Self::Open(letters);
            }
        }
        match self {
            Self::Unknown => Ok(None),
            Self::Open(letters) => Ok(Some(letters)),
            Self::Closed => Err(Error::closed("the batch queue")),
        }
    }

    async fn give_up(&mut self) {
        // One that is closed stays so: its directory is the next queue's.
        if matches!(self, Self::Open(_))
            && let Self::Open(letters) = std::mem::replace(self, Self::Unknown)
        {
            // It failed: what it has to say is known.
            let _ = letters.log.close().await;
        }
    }
}

fn is_there(place: &Place) -> Result<bool> {
    match place.fs.list(&place.dir) {
        Ok(names) => Ok(!names.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let why = "could not look for the dead letters of the queue";
            let error = Error::new(ErrorKind::Unavailable, why).temporary().with_source(error);
            Err(error.with_context("directory", place.dir.display()))
        }
    }
}
