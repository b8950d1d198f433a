//! A message that was accepted, and the route that it took.

use anyhow::Result;
use bytes::Bytes;
use zmsg::{Id, Receipt};

/// A message that was accepted.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) id: Id,
    pub(crate) body: Bytes,
    pub(crate) dst: u32,
    pub(crate) kind: Kind,
    /// None for what an earlier run had accepted: that was waited for before this one went on.
    pub(crate) receipt: Option<Receipt>,
}

impl Sent {
    /// Waits until the row is in the table.
    pub(crate) async fn applied(&self) -> Result<()> {
        if let Some(receipt) = &self.receipt {
            receipt.applied().await?;
        }
        Ok(())
    }
}

/// The kind of a message decides its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Must be in the table before the sender sees it: store route.
    Payment,
    /// May reach the table a little later: delayed route.
    Text,
    /// Comes in crowds: periodic route.
    Reaction,
}

impl Kind {
    pub(crate) fn of(index: usize) -> Self {
        match index % 5 {
            0 => Self::Payment,
            1 | 2 => Self::Text,
            _ => Self::Reaction,
        }
    }
}
