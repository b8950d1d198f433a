//! The L2 of an engine that has none.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_core::{Key, Level, Result};

use crate::{HoldToken, Lookup, RemoteCache, Stretch};

/// A remote cache that is not there: every lookup misses, every store succeeds.
///
/// Of [`RemoteCache`]'s promises it keeps those about what does **not** come back. It keeps
/// nothing, so what tells whether something was stored (`fill`, `publish`) answers yes and leaves
/// the decision to the fence of L1.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRemote;

#[async_trait]
impl RemoteCache for NoRemote {
    fn level(&self) -> Level {
        Level::Memory
    }

    fn retains(&self) -> bool {
        false
    }

    async fn get(&self, _: &Key) -> Result<Lookup> {
        Ok(Lookup::only(None))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Lookup>> {
        Ok(vec![Lookup::only(None); keys.len()])
    }

    async fn fill(&self, _: &Key, _: Option<&Bytes>, _: Duration, _: Stretch) -> Result<bool> {
        Ok(true)
    }

    async fn hold(&self, _: &Key, _: HoldToken, _: Duration) -> Result<()> {
        Ok(())
    }

    async fn publish(&self, _: &Key, _: HoldToken, _: Option<&Bytes>, _: Duration) -> Result<bool> {
        Ok(true)
    }

    async fn set(&self, _: &Key, _: &Bytes, _: Duration) -> Result<()> {
        Ok(())
    }

    async fn invalidate(&self, _: &Key, _: Duration) -> Result<()> {
        Ok(())
    }
}
