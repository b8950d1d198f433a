//! A node on this machine's disk: a lock that lives as long as its holder, and a ceiling file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

use crate::ceiling::{Ceiling, CeilingFile, failed, private};
use crate::{Lease, Reserve};

/// A node whose lock this process holds.
///
/// The operating system frees the lock when the process ends, however it ends. The lock file
/// stays: deleting it would let two holders lock two files of one name. Dropping it unlocks.
#[derive(Debug)]
pub(crate) struct Slot {
    node: u32,
    ceiling: CeilingFile,
    /// Held by whoever reads or writes the ceiling file: requests of dropped futures still run to
    /// their end, and must neither overtake later ones nor write after a release.
    lock: Mutex<Option<File>>,
}

impl Slot {
    /// Locks a node, or `None` if another holder has it. Blocks on the disk.
    pub(crate) fn lock(node: u32, lock_path: &Path, ceiling_path: PathBuf) -> Result<Option<Self>> {
        let cannot = |error| failed("could not lock a node", lock_path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        private(&mut options);
        let file = options.open(lock_path).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        let ceiling = CeilingFile::new(ceiling_path);
        Ok(Some(Self { node, ceiling, lock: Mutex::new(Some(file)) }))
    }

    /// Begins a new lease of the node above everything promised before. Blocks on the disk.
    pub(crate) fn reserve(&self, want: &Reserve) -> Result<Lease> {
        let _locked = self.still_locked()?;
        let stored = self.ceiling.read()?;
        if let Some(stored) = &stored {
            self.expect_same_ids(stored, want)?;
        }
        let (epoch, floor_ms) = stored.map_or((0, 0), |stored| (stored.epoch, stored.ceiling_ms));
        let next = Ceiling {
            layout: want.layout,
            node: self.node,
            epoch: epoch + 1,
            owner: Uuid::new_v4(),
            ceiling_ms: want.ceiling_ms(floor_ms, want.from_ms),
        };
        self.ceiling.write(&next)?;
        Ok(Lease {
            node: self.node,
            epoch: next.epoch,
            owner: next.owner,
            floor_ms,
            ceiling_ms: next.ceiling_ms,
            valid_for: Duration::MAX,
        })
    }

    /// Raises the ceiling. Blocks on the disk.
    pub(crate) fn raise(&self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease> {
        let _locked = self.still_locked()?;
        let mut stored = self.stored_for(lease)?;
        if ceiling_ms > stored.ceiling_ms {
            stored.ceiling_ms = ceiling_ms;
            self.ceiling.write(&stored)?;
        }
        Ok(Lease { ceiling_ms: stored.ceiling_ms, ..lease.clone() })
    }

    /// Lowers the ceiling to the end of what was issued and unlocks the node. Blocks on the disk.
    pub(crate) fn release(&self, lease: &Lease, last_issued_ms: UnixMillis) -> Result<()> {
        let mut locked = self.still_locked()?;
        let mut stored = self.stored_for(lease)?;
        stored.ceiling_ms = lease.ceiling_after(last_issued_ms);
        self.ceiling.write(&stored)?;
        let file = locked.take();
        drop(locked);
        file.as_ref()
            .map_or(Ok(()), unlock)
            .map_err(|error| failed("could not unlock a node", self.ceiling.path(), error))
    }

    /// What is stored, if it is still this lease's. Somebody who deletes a lock file under us
    /// makes room for a second holder; the epoch shows it.
    fn stored_for(&self, lease: &Lease) -> Result<Ceiling> {
        let stored = self.ceiling.read()?.ok_or_else(|| {
            Error::new(ErrorKind::Corrupted, "a node's ceiling has vanished")
                .with_context("file", self.ceiling.path().display())
        })?;
        if (stored.epoch, stored.owner) == (lease.epoch, lease.owner) {
            return Ok(stored);
        }
        Err(self.not_ours().with_context("epoch", lease.epoch).with_context("now", stored.epoch))
    }

    fn expect_same_ids(&self, stored: &Ceiling, want: &Reserve) -> Result<()> {
        if stored.layout != want.layout {
            return Err(other_layout(&self.ceiling, stored, want));
        }
        if stored.node != self.node {
            return Err(Error::new(ErrorKind::Corrupted, "a ceiling file belongs to another node")
                .with_context("file", self.ceiling.path().display())
                .with_context("node", self.node)
                .with_context("written_for", stored.node));
        }
        Ok(())
    }

    fn still_locked(&self) -> Result<MutexGuard<'_, Option<File>>> {
        // Nothing panics while it is held, and a lock file is valid at any moment.
        let locked = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.is_some() { Ok(locked) } else { Err(self.not_ours()) }
    }

    fn not_ours(&self) -> Error {
        Error::new(ErrorKind::Conflict, "the lease of the node is no longer ours")
            .with_context("node", self.node)
            .with_context("file", self.ceiling.path().display())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let locked = self.lock.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = locked.take().as_ref().map(unlock) {
            tracing::warn!(%error, node = self.node, "a node stays locked until this process ends");
        }
    }
}

/// Closing the file is not enough: a child process that was forked and has not yet begun its own
/// program holds a copy of it, and with it the lock.
fn unlock(file: &File) -> io::Result<()> {
    file.unlock()
}

/// Ids of two layouts can be equal, so one store of ceilings serves one layout.
pub(crate) fn other_layout(file: &CeilingFile, stored: &Ceiling, want: &Reserve) -> Error {
    Error::invalid_config("the node leases were made for another layout of ids")
        .with_context("file", file.path().display())
        .with_context("stored", stored.layout)
        .with_context("configured", want.layout)
}
