//! Node leases on a local disk, for all processes of one machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

use crate::ceiling::{CeilingFile, failed, make_directory};
use crate::held::{HeldSlots, on_blocking_thread};
use crate::slot::{Slot, other_layout};
use crate::{Lease, NodeLease, Reserve};

/// A directory of nodes: each a lock file and a ceiling file, `node-0000.lock` and
/// `node-0000.ceiling`.
///
/// The lock is the operating system's and is held while the process lives, so a lease ends with
/// its process and at no other time. Of the free nodes the one is taken whose ceiling lies
/// furthest in the past, so that even right after a crash ids seldom start ahead of the clock.
/// Ceilings are written to a new file, synced, renamed, and the directory synced.
///
/// For a local disk: locks of network file systems are not to be trusted. Processes of several
/// machines need the leases of a database.
#[derive(Debug)]
pub struct FileLease {
    directory: PathBuf,
    held: HeldSlots,
}

impl FileLease {
    /// Leases in this directory, which is made when the first is acquired.
    ///
    /// Dropping it frees what it holds, as the end of the process would.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), held: HeldSlots::default() }
    }
}

#[async_trait]
impl NodeLease for FileLease {
    async fn acquire(&self, want: Reserve) -> Result<Lease> {
        let directory = self.directory.clone();
        // Until it is kept, the slot belongs to the result: dropped with the future, it unlocks.
        let (slot, lease) = on_blocking_thread(move || claim(&directory, &want)).await?;
        self.held.keep(slot, &lease);
        Ok(lease)
    }

    async fn extend(&self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease> {
        self.held.extend(lease, ceiling_ms).await
    }

    async fn release(&self, lease: Lease, last_issued_ms: UnixMillis) -> Result<()> {
        self.held.release(lease, last_issued_ms).await
    }
}

fn claim(directory: &Path, want: &Reserve) -> Result<(Slot, Lease)> {
    make_directory(directory)
        .map_err(|error| failed("could not make the directory of node leases", directory, error))?;
    let ceilings = ceilings_of(directory, want)?;
    let unused = (0..want.layout.nodes()).filter(|node| !ceilings.contains_key(node));
    let mut used: Vec<_> = ceilings.iter().map(|(node, ceiling_ms)| (*ceiling_ms, *node)).collect();
    used.sort_unstable();
    for node in unused.chain(used.iter().map(|(_, node)| *node)) {
        let lock_path = directory.join(format!("node-{node:04}.lock"));
        let ceiling_path = directory.join(format!("node-{node:04}.ceiling"));
        if let Some(slot) = Slot::lock(node, &lock_path, ceiling_path)? {
            // Read again under the lock: it may have changed hands since the list was made.
            let lease = slot.reserve(want)?;
            return Ok((slot, lease));
        }
    }
    Err(Error::new(ErrorKind::Conflict, "every node is held")
        .temporary()
        .with_context("nodes", want.layout.nodes())
        .with_context("directory", directory.display()))
}

/// The ceilings of the nodes that were ever used. One that cannot be read is an error here
/// already, whosever it is: a person has to look at it.
fn ceilings_of(directory: &Path, want: &Reserve) -> Result<BTreeMap<u32, UnixMillis>> {
    let cannot = |error| failed("could not list the node leases", directory, error);
    let mut ceilings = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_none_or(|extension| extension != "ceiling") {
            continue;
        }
        let file = CeilingFile::new(path);
        let Some(stored) = file.read()? else { continue };
        if stored.layout != want.layout {
            return Err(other_layout(&file, &stored, want));
        }
        ceilings.insert(stored.node, stored.ceiling_ms);
    }
    Ok(ceilings)
}
