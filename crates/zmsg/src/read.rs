//! The way of a `get`: L1, then one flight per key through filter and L2 to the source.

use std::sync::Arc;

use bytes::Bytes;
use zmsg_bloom::Verdict;
use zmsg_cache::{Origin, TieredCache};
use zmsg_core::{Key, Result};

use crate::source::{CallOrigin, Sources};

/// Reads keys. Cheap to clone; every part is shared.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    cache: TieredCache,
    sources: Arc<Sources>,
}

/// What [`Zmsg::db_hit`](crate::Zmsg::db_hit) knows of a key without asking its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The row may exist; a filter can never say that it does.
    Maybe,
    /// The row does not exist.
    Absent,
    /// The filter is not seeded, over-filled, away, or does not cover this key.
    Unknown,
}

impl Reader {
    pub(crate) fn new(cache: TieredCache, sources: Arc<Sources>) -> Self {
        Self { cache, sources }
    }

    /// The synchronous part of a `get`: no allocation, no lock of ours, no future.
    pub(crate) fn peek(&self, key: &str) -> Option<Option<Bytes>> {
        self.cache.peek(key)
    }

    /// The rest of a `get`, after a miss in L1.
    pub(crate) async fn miss(&self, key: Key) -> Result<Option<Bytes>> {
        let origin: Arc<dyn Origin> = self.sources.of(key.as_str());
        self.cache.get_or_load(&key, &origin).await
    }

    /// Many keys: each answer stands where its key stood; there is no snapshot across keys.
    pub(crate) async fn get_many(&self, keys: Vec<Key>) -> Vec<Result<Option<Bytes>>> {
        let asked: Vec<(Key, Arc<dyn Origin>)> = keys
            .into_iter()
            .map(|key| {
                let origin: Arc<dyn Origin> = self.sources.of(key.as_str());
                (key, origin)
            })
            .collect();
        self.cache.get_many(&asked).await
    }

    /// A `get` that brings its own loader instead of a source.
    pub(crate) async fn get_or_load<F, Fut>(&self, key: Key, load: F) -> Result<Option<Bytes>>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Bytes>>> + Send + 'static,
    {
        let origin: Arc<dyn Origin> = Arc::new(CallOrigin(load));
        self.cache.get_or_load(&key, &origin).await
    }

    /// Whether a key can be in its table, by the filter alone.
    pub(crate) async fn presence(&self, key: &Key) -> Result<Presence> {
        let source = self.sources.of(key.as_str());
        Ok(match source.verdict(key.as_str()) {
            Verdict::Maybe => Presence::Maybe,
            Verdict::Unknown => Presence::Unknown,
            Verdict::Absent if source.confirm_absent(key).await? => Presence::Absent,
            Verdict::Absent => Presence::Maybe,
        })
    }
}
