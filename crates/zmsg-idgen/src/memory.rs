//! Node leases in memory: the reference for backends with a clock of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use zmsg_core::{Clock, Error, ErrorKind, Millis, Result, UnixMillis};

use crate::lease::millis;
use crate::{Layout, Lease, NodeLease, Reserve};

/// Leases shared by the generators of one process, with the behaviour of a database: they end
/// when they are not renewed in time, by this authority's clock and not by the holder's.
///
/// A clone is another way to the same leases. Nothing outlives the process: for tests, and for
/// ids that need not outlive it either.
#[derive(Debug, Clone)]
pub struct MemoryLeases(Arc<Authority>);

#[derive(Debug)]
struct Authority {
    clock: Arc<dyn Clock>,
    valid_for: Duration,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    layout: Option<Layout>,
    nodes: BTreeMap<u32, Entry>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Entry {
    epoch: u64,
    owner: Uuid,
    ceiling_ms: UnixMillis,
    /// By the authority's monotonic clock; the node is free from then on.
    held_until: Millis,
}

impl MemoryLeases {
    /// An authority with this clock, whose leases end `valid_for` after the last renewal.
    pub fn new(clock: Arc<dyn Clock>, valid_for: Duration) -> Self {
        Self(Arc::new(Authority { clock, valid_for, book: Mutex::default() }))
    }

    /// Ends the lease of a node at once, unknown to its holder: what a lost renewal, a process
    /// that hung or an operator's hand would do.
    pub fn expire(&self, node: u32) {
        if let Some(entry) = self.book().nodes.get_mut(&node) {
            entry.held_until = 0;
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing panics while it is held.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renewed_until(&self) -> Millis {
        self.0.clock.coarse().saturating_add(millis(self.0.valid_for))
    }

    /// Applies `change` to a node that is still held under this lease.
    fn change(&self, lease: &Lease, change: impl FnOnce(&mut Entry)) -> Result<Entry> {
        let now = self.0.clock.coarse();
        let mut book = self.book();
        let entry = book.nodes.get_mut(&lease.node).filter(|entry| {
            (entry.epoch, entry.owner) == (lease.epoch, lease.owner) && entry.held_until > now
        });
        let Some(entry) = entry else {
            return Err(Error::new(ErrorKind::Conflict, "the lease of the node is no longer ours")
                .with_context("node", lease.node)
                .with_context("epoch", lease.epoch));
        };
        change(entry);
        Ok(*entry)
    }
}

#[async_trait]
impl NodeLease for MemoryLeases {
    async fn acquire(&self, want: Reserve) -> Result<Lease> {
        let Authority { clock, valid_for, .. } = &*self.0;
        let (now_ms, now) = (clock.wall(), clock.coarse());
        let mut book = self.book();
        let node = book.longest_idle(&want, now)?;
        let entry = book.nodes.entry(node).or_default();
        let floor_ms = entry.ceiling_ms.max(now_ms);
        *entry = Entry {
            epoch: entry.epoch + 1,
            owner: Uuid::new_v4(),
            ceiling_ms: want.ceiling_ms(floor_ms, now_ms),
            held_until: self.renewed_until(),
        };
        let Entry { epoch, owner, ceiling_ms, .. } = *entry;
        Ok(Lease { node, epoch, owner, floor_ms, ceiling_ms, valid_for: *valid_for })
    }

    async fn extend(&self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease> {
        let held_until = self.renewed_until();
        let entry = self.change(lease, |entry| {
            entry.ceiling_ms = entry.ceiling_ms.max(ceiling_ms);
            entry.held_until = held_until;
        })?;
        let valid_for = self.0.valid_for;
        Ok(Lease { ceiling_ms: entry.ceiling_ms, valid_for, ..lease.clone() })
    }

    async fn release(&self, lease: Lease, last_issued_ms: UnixMillis) -> Result<()> {
        self.change(&lease, |entry| {
            entry.ceiling_ms = lease.ceiling_after(last_issued_ms);
            entry.held_until = 0;
        })?;
        Ok(())
    }
}

impl Book {
    fn longest_idle(&mut self, want: &Reserve, now: Millis) -> Result<u32> {
        let layout = *self.layout.get_or_insert(want.layout);
        if layout != want.layout {
            return Err(Error::invalid_config(
                "the node leases were made for another layout of ids",
            )
            .with_context("stored", layout)
            .with_context("configured", want.layout));
        }
        let unused = (0..layout.nodes()).find(|node| !self.nodes.contains_key(node));
        let idle = || {
            let free = self.nodes.iter().filter(|(_, entry)| entry.held_until <= now);
            free.min_by_key(|(_, entry)| entry.ceiling_ms).map(|(node, _)| *node)
        };
        unused.or_else(idle).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "every node is held")
                .temporary()
                .with_context("nodes", layout.nodes())
        })
    }
}
