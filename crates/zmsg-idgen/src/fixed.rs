//! A node number from the configuration.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

use crate::ceiling::{directory_of, failed, make_directory};
use crate::held::{HeldSlots, on_blocking_thread};
use crate::slot::Slot;
use crate::{Lease, NodeLease, Reserve};

/// One node, given by its number. That no other process uses the same number is the promise of
/// whoever configured it.
#[derive(Debug)]
pub struct FixedLease {
    node: u32,
    ground: Ground,
}

#[derive(Debug)]
enum Ground {
    File { ceiling: PathBuf, held: HeldSlots },
    Clock(Mutex<Clocked>),
}

/// What a lease without a file remembers, for as long as the process lives.
#[derive(Debug, Default)]
struct Clocked {
    epoch: u64,
    ceiling_ms: UnixMillis,
    owner: Option<Uuid>,
}

impl FixedLease {
    /// A node whose ceiling is kept in a file, whose directory is made if it is missing, beside which a file `.lock` keeps a second process
    /// on this machine away. Keeps every promise of [`NodeLease`] on a local disk.
    pub fn with_file(node: u32, ceiling: impl Into<PathBuf>) -> Self {
        let ground = Ground::File { ceiling: ceiling.into(), held: HeldSlots::default() };
        Self { node, ground }
    }

    /// A node without any memory of its ceiling, for a process that has no disk.
    ///
    /// **After a restart ids are unique only if the clock shows a later time than the last id
    /// told.** A clock that goes back over a restart, or a restart while ids run ahead of the
    /// clock, makes ids a second time; this is the only lease that can. Within one process
    /// it keeps the promises of [`NodeLease`], except that nothing survives a crash.
    pub fn trusting_the_clock(node: u32) -> Self {
        Self { node, ground: Ground::Clock(Mutex::default()) }
    }
}

#[async_trait]
impl NodeLease for FixedLease {
    async fn acquire(&self, want: Reserve) -> Result<Lease> {
        if self.node >= want.layout.nodes() {
            return Err(Error::invalid_config("the node does not fit the layout of ids")
                .with_context("node", self.node)
                .with_context("nodes", want.layout.nodes()));
        }
        match &self.ground {
            Ground::Clock(clocked) => lock(clocked).acquire(self.node, &want),
            Ground::File { ceiling, held } => {
                let (node, path) = (self.node, ceiling.clone());
                let (slot, lease) = on_blocking_thread(move || claim(node, path, &want)).await?;
                held.keep(slot, &lease);
                Ok(lease)
            }
        }
    }

    async fn extend(&self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease> {
        match &self.ground {
            Ground::Clock(clocked) => lock(clocked).extend(lease, ceiling_ms),
            Ground::File { held, .. } => held.extend(lease, ceiling_ms).await,
        }
    }

    async fn release(&self, lease: Lease, last_issued_ms: UnixMillis) -> Result<()> {
        match &self.ground {
            Ground::Clock(clocked) => lock(clocked).release(&lease, last_issued_ms),
            Ground::File { held, .. } => held.release(lease, last_issued_ms).await,
        }
    }
}

impl Clocked {
    fn acquire(&mut self, node: u32, want: &Reserve) -> Result<Lease> {
        if self.owner.is_some() {
            return Err(held_elsewhere(node));
        }
        let (floor_ms, owner) = (self.ceiling_ms, Uuid::new_v4());
        self.epoch += 1;
        self.ceiling_ms = want.ceiling_ms(floor_ms, want.from_ms);
        self.owner = Some(owner);
        let (epoch, ceiling_ms) = (self.epoch, self.ceiling_ms);
        Ok(Lease { node, epoch, owner, floor_ms, ceiling_ms, valid_for: Duration::MAX })
    }

    fn extend(&mut self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease> {
        self.refuse_others(lease)?;
        self.ceiling_ms = self.ceiling_ms.max(ceiling_ms);
        Ok(Lease { ceiling_ms: self.ceiling_ms, ..lease.clone() })
    }

    fn release(&mut self, lease: &Lease, last_issued_ms: UnixMillis) -> Result<()> {
        self.refuse_others(lease)?;
        self.ceiling_ms = lease.ceiling_after(last_issued_ms);
        self.owner = None;
        Ok(())
    }

    fn refuse_others(&self, lease: &Lease) -> Result<()> {
        if self.owner == Some(lease.owner) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "the lease of the node is no longer ours")
            .with_context("node", lease.node)
            .with_context("epoch", lease.epoch))
    }
}

fn claim(node: u32, ceiling: PathBuf, want: &Reserve) -> Result<(Slot, Lease)> {
    let directory = directory_of(&ceiling);
    make_directory(directory)
        .map_err(|error| failed("could not create the directory of a node", directory, error))?;
    let mut lock_path = ceiling.clone().into_os_string();
    lock_path.push(".lock");
    let slot =
        Slot::lock(node, lock_path.as_ref(), ceiling)?.ok_or_else(|| held_elsewhere(node))?;
    let lease = slot.reserve(want)?;
    Ok((slot, lease))
}

fn held_elsewhere(node: u32) -> Error {
    Error::new(ErrorKind::Conflict, "the node is held by another")
        .temporary()
        .with_context("node", node)
}

fn lock(clocked: &Mutex<Clocked>) -> MutexGuard<'_, Clocked> {
    // Nothing panics while it is held.
    clocked.lock().unwrap_or_else(PoisonError::into_inner)
}
