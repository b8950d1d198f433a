//! L2 in memory: the reference that the conformance suite was written with.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_core::{Clock, Key, Level, Millis, Result};

use crate::policy::millis;
use crate::{HoldToken, Lookup, RemoteCache, RemoteEntry, Stretch};

/// A remote cache for several engines in one process, as tests have them.
///
/// Expired entries are swept whenever the map has doubled; live ones are bounded by their TTL
/// alone, so it is no L2 for production.
pub struct MemoryRemote {
    clock: Arc<dyn Clock>,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    places: HashMap<Key, Place>,
    sweep_at: usize,
}

struct Place {
    until: Millis,
    what: What,
}

enum What {
    Value(Option<Bytes>),
    Hold(Holder),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Left by an invalidation.
    Nobody,
    One(HoldToken),
    /// Two writers, or a writer and an invalidation, met here.
    Contended,
}

impl MemoryRemote {
    /// An empty cache whose entries expire by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, map: Mutex::default() }
    }

    fn read(&self, map: &Map, key: &Key) -> Option<RemoteEntry> {
        let now = self.clock.coarse();
        let place = map.live(key, now)?;
        match &place.what {
            What::Value(value) => Some(RemoteEntry {
                value: value.clone(),
                ttl_left: Duration::from_millis(place.until - now),
            }),
            What::Hold(_) => None,
        }
    }

    fn put(&self, map: &mut Map, key: &Key, what: What, ttl: Duration) {
        let now = self.clock.coarse();
        map.sweep(now);
        let mut until = now.saturating_add(millis(ttl));
        if let (What::Hold(_), Some(Place { what: What::Hold(_), until: earlier })) =
            (&what, map.live(key, now))
        {
            // Somebody relies on the time that the earlier hold was given.
            until = until.max(*earlier);
        }
        map.places.insert(key.clone(), Place { until, what });
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        // Each change is one insert or remove: the map is whole after a panic.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    const SWEEP_MIN: usize = 1024;

    fn live(&self, key: &Key, now: Millis) -> Option<&Place> {
        self.places.get(key).filter(|place| place.until > now)
    }

    fn holder(&self, key: &Key, now: Millis) -> Option<Holder> {
        match self.live(key, now)?.what {
            What::Hold(holder) => Some(holder),
            What::Value(_) => None,
        }
    }

    fn sweep(&mut self, now: Millis) {
        if self.places.len() >= self.sweep_at.max(Self::SWEEP_MIN) {
            self.places.retain(|_, place| place.until > now);
            self.sweep_at = self.places.len() * 2;
        }
    }
}

#[async_trait]
impl RemoteCache for MemoryRemote {
    fn level(&self) -> Level {
        Level::Memory
    }

    async fn get(&self, key: &Key) -> Result<Lookup> {
        Ok(Lookup::only(self.read(&self.lock(), key)))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Lookup>> {
        let map = self.lock();
        Ok(keys.iter().map(|key| Lookup::only(self.read(&map, key))).collect())
    }

    async fn fill(
        &self,
        key: &Key,
        value: Option<&Bytes>,
        ttl: Duration,
        _: Stretch,
    ) -> Result<bool> {
        let mut map = self.lock();
        if map.live(key, self.clock.coarse()).is_some() {
            return Ok(false);
        }
        self.put(&mut map, key, What::Value(value.cloned()), ttl);
        Ok(true)
    }

    async fn hold(&self, key: &Key, token: HoldToken, ttl: Duration) -> Result<()> {
        let mut map = self.lock();
        let holder = match map.holder(key, self.clock.coarse()) {
            None | Some(Holder::Nobody) => Holder::One(token),
            Some(Holder::One(other)) if other == token => Holder::One(token),
            Some(Holder::One(_) | Holder::Contended) => Holder::Contended,
        };
        self.put(&mut map, key, What::Hold(holder), ttl);
        Ok(())
    }

    async fn publish(
        &self,
        key: &Key,
        token: HoldToken,
        value: Option<&Bytes>,
        ttl: Duration,
    ) -> Result<bool> {
        let mut map = self.lock();
        let ours = map.holder(key, self.clock.coarse()) == Some(Holder::One(token));
        if ours {
            self.put(&mut map, key, What::Value(value.cloned()), ttl);
        }
        Ok(ours)
    }

    async fn set(&self, key: &Key, value: &Bytes, ttl: Duration) -> Result<()> {
        self.put(&mut self.lock(), key, What::Value(Some(value.clone())), ttl);
        Ok(())
    }

    async fn invalidate(&self, key: &Key, hold: Duration) -> Result<()> {
        let mut map = self.lock();
        let holder = match map.holder(key, self.clock.coarse()) {
            None | Some(Holder::Nobody) => Holder::Nobody,
            Some(Holder::One(_) | Holder::Contended) => Holder::Contended,
        };
        self.put(&mut map, key, What::Hold(holder), hold);
        Ok(())
    }
}

impl fmt::Debug for MemoryRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRemote")
            .field("places", &self.lock().places.len())
            .finish_non_exhaustive()
    }
}
