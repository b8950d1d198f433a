//! Reading: L1, then one flight per key that asks L2 and the origin.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future, stream};
use tokio::time::timeout;
use zmsg_core::{Error, ErrorKind, Key, Millis, Result};

use crate::fence::{Bounds, Kept, Turn};
use crate::flight::{Lead, Leader, Load, Waiter};
use crate::policy::millis;
use crate::stats::Count;
use crate::tiers::Inner;
use crate::{Lookup, Origin, RemoteEntry, Stretch, TieredCache};

/// How many loads of one `get_many` run at a time.
const LOADS_AT_ONCE: usize = 32;

impl TieredCache {
    /// The value under a key: from L1, else from the flight of this key, which asks L2 and then
    /// the origin and fills both. `None` if there is none.
    ///
    /// A failing L2 counts as a miss. After [`peek`](Self::peek) missed, this counts nothing twice.
    ///
    /// # Errors
    /// The origin's error, given to all who wait and not remembered; `Timeout` after
    /// [`load_timeout`](crate::CachePolicy::load_timeout); `Overloaded` if too many wait already;
    /// `Unexpected` if the load panicked.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the load to the others: it runs on and fills.
    pub async fn get_or_load(&self, key: &Key, origin: &Arc<dyn Origin>) -> Result<Option<Bytes>> {
        match self.0.look(key)? {
            Turn::Hit(value) => Ok(value),
            Turn::Follow(waiter) => waiter.outcome().await,
            Turn::Lead(lead, waiter) => {
                let (inner, tracker) = (Arc::clone(&self.0), self.0.tracker.clone());
                let leader = Leader::new(Arc::clone(lead.flight()), waiter);
                let load = inner.fly(lead, Arc::clone(origin), Asked::NotYet);
                leader.run(Load::new(load, tracker)).await
            }
        }
    }

    /// The values under these keys, in their order, each with an error of its own: L1, then one
    /// round trip to L2 for all that are missing, then up to 32 loads at a time.
    ///
    /// # Errors
    /// For each key as for [`get_or_load`](Self::get_or_load).
    ///
    /// # Cancel safety
    /// As for [`get_or_load`](Self::get_or_load).
    pub async fn get_many(&self, keys: &[(Key, Arc<dyn Origin>)]) -> Vec<Result<Option<Bytes>>> {
        let mut answers = Vec::with_capacity(keys.len());
        let mut led = Vec::new();
        for (key, origin) in keys {
            answers.push(match self.0.look(key) {
                Ok(Turn::Hit(value)) => Answer::Known(Ok(value)),
                Ok(Turn::Follow(waiter)) => Answer::Awaited(waiter),
                Ok(Turn::Lead(lead, waiter)) => {
                    led.push((lead, Arc::clone(origin)));
                    Answer::Awaited(waiter)
                }
                Err(error) => Answer::Known(Err(error)),
            });
        }
        if !led.is_empty() {
            let inner = Arc::clone(&self.0);
            self.0.tracker.spawn(async move { inner.fly_all(led).await });
        }
        future::join_all(answers.into_iter().map(Answer::get)).await
    }
}

enum Answer {
    Known(Result<Option<Bytes>>),
    Awaited(Waiter),
}

impl Answer {
    async fn get(self) -> Result<Option<Bytes>> {
        match self {
            Self::Known(answer) => answer,
            Self::Awaited(waiter) => waiter.outcome().await,
        }
    }
}

/// What L2 said to a flight.
enum Asked {
    NotYet,
    Hit(RemoteEntry, Millis),
    Miss(Stretch),
    /// It failed: this flight leaves it alone.
    Failed,
}

impl Asked {
    fn of(lookup: Lookup, began: Millis) -> Self {
        match lookup.entry {
            Some(entry) => Self::Hit(entry, began),
            None => Self::Miss(lookup.at),
        }
    }
}

/// What a flight found, and how long L1 may keep it from when.
struct Found {
    value: Option<Bytes>,
    keep: Option<(Millis, Duration)>,
}

impl Inner {
    /// Looks at L1 without a lock, and only after a miss at what is under way for the key.
    fn look(self: &Arc<Self>, key: &Key) -> Result<Turn> {
        if let Some(value) = self.peek(key.as_str()) {
            return Ok(Turn::Hit(value));
        }
        let bounds =
            Bounds { waiters_max: self.policy.waiters_max, flights_max: self.policy.flights_max };
        let turn = self.fence.turn(key, self.epoch(), bounds, || self.peek(key.as_str()));
        match &turn {
            Ok(Turn::Follow(_)) => self.stats.add(Count::Coalesced),
            Ok(_) => {}
            Err(_) => self.stats.add(Count::Overloaded),
        }
        turn.map_err(|error| error.with_context("key", format!("{key:?}")).during("cache.get"))
    }

    /// Runs the flights of one `get_many`.
    async fn fly_all(self: Arc<Self>, led: Vec<(Lead, Arc<dyn Origin>)>) {
        let keys: Vec<Key> = led.iter().map(|(lead, _)| lead.key().clone()).collect();
        let began = self.clock.coarse();
        let asked = timeout(self.policy.load_timeout, self.remote.get_many(&keys)).await;
        let asked: Vec<Asked> = match asked.unwrap_or_else(|_| Err(too_slow())) {
            Ok(found) if found.len() == keys.len() => {
                found.into_iter().map(|lookup| Asked::of(lookup, began)).collect()
            }
            Ok(found) => {
                let error = Error::new(ErrorKind::Unexpected, "wrong number of answers")
                    .with_context("asked", keys.len())
                    .with_context("answered", found.len());
                self.remote_failed("get_many", &error);
                keys.iter().map(|_| Asked::Failed).collect()
            }
            Err(error) => {
                self.remote_failed("get_many", &error);
                keys.iter().map(|_| Asked::Failed).collect()
            }
        };
        stream::iter(led.into_iter().zip(asked))
            .for_each_concurrent(LOADS_AT_ONCE, |((lead, origin), asked)| {
                Arc::clone(&self).fly(lead, origin, asked)
            })
            .await;
    }

    /// Runs one flight to its end, whatever happens in it.
    async fn fly(self: Arc<Self>, lead: Lead, origin: Arc<dyn Origin>, asked: Asked) {
        let found = AssertUnwindSafe(self.find(&lead, &*origin, asked)).catch_unwind().await;
        let found = found.unwrap_or_else(|panic| Err(panicked(&*panic)));
        let (entry, outcome) = match found {
            Ok(found) => {
                let keep = found
                    .keep
                    .map(|(began, ttl)| self.entry(found.value.as_ref(), lead.epoch(), began, ttl));
                (keep, Ok(found.value))
            }
            Err(error) => {
                self.stats.add(Count::LoadFailure);
                let key = format!("{:?}", lead.key());
                (None, Err(error.with_context("key", key).during("cache.load")))
            }
        };
        match lead.land(entry, outcome) {
            Kept::Yes | Kept::Nothing => {}
            Kept::Refused => self.stats.add(Count::L1FillRefused),
            Kept::TooLarge(error) => self.oversize(&error),
        }
    }

    /// Asks L2 and the origin, and fills L2 with what the origin gave.
    async fn find(&self, lead: &Lead, origin: &dyn Origin, asked: Asked) -> Result<Found> {
        let key = lead.key();
        let search = timeout(self.policy.load_timeout, self.search(lead, origin, asked)).await;
        let loaded = match search.unwrap_or_else(|_| Err(too_slow()))? {
            Searched::Found(found) => return Ok(found),
            Searched::Loaded(loaded) => loaded,
        };
        let ttl = self.policy.lifetime(loaded.value.is_some(), origin.ttl());
        let refused = !self.fill(key, &loaded, ttl).await;
        let keep = Some((loaded.began, self.policy.local_lifetime(ttl)));
        let found = Found { value: loaded.value, keep };
        Ok(if refused { self.refused(key, found).await } else { found })
    }

    /// L2 refused the fill. If it has a value, that is at least as new: it is the answer. If it
    /// has a hold, somebody has just changed the key, and what was loaded may be from before.
    ///
    /// L1 keeps it all the same, or a key that changes more often than a hold lasts would be loaded
    /// by every read. On the node of the change this is never stale: the change has detached the
    /// flights that it overtook, so this load began after it. Elsewhere L1 may lag anyway. But
    /// where the likely change is a moment old, L1 keeps it no longer than the hold lasts; and so
    /// a commit that comes after its write was abandoned is not missed for longer either.
    async fn refused(&self, key: &Key, loaded: Found) -> Found {
        let asked = timeout(self.policy.fill_within(), self.ask(key)).await;
        if let Ok(Asked::Hit(entry, began)) = asked {
            return self.found_remotely(entry, began);
        }
        let keep = loaded.keep.map(|(began, ttl)| (began, ttl.min(self.policy.hold)));
        Found { keep, ..loaded }
    }

    fn found_remotely(&self, entry: RemoteEntry, began: Millis) -> Found {
        self.stats.add(Count::L2Hit);
        let keep = Some((began, self.policy.local_lifetime(entry.ttl_left)));
        Found { value: entry.value, keep }
    }

    async fn search(&self, lead: &Lead, origin: &dyn Origin, asked: Asked) -> Result<Searched> {
        let key = lead.key();
        let asked = if let Asked::NotYet = asked { self.ask(key).await } else { asked };
        let missed_at = match asked {
            Asked::Hit(entry, began) => {
                return Ok(Searched::Found(self.found_remotely(entry, began)));
            }
            Asked::Miss(at) => Some(at),
            Asked::Failed | Asked::NotYet => None,
        };
        lead.flight().share();
        // Only now: what the filter rules out may live in L2 alone. A shared filter that cannot be
        // asked leaves the key at "maybe".
        if origin.rules_out(key) && origin.confirm_absent(key).await.unwrap_or(false) {
            self.stats.add(Count::AbsentByFilter);
            // While L2 is away a key that lives only there looks absent: say so, but forget it.
            let ttl = self.policy.local_lifetime(self.policy.lifetime(false, None));
            let keep = missed_at.map(|_| (self.clock.coarse(), ttl));
            return Ok(Searched::Found(Found { value: None, keep }));
        }
        self.stats.add(Count::Load);
        let began = self.clock.coarse();
        let value = origin.load(key).await?;
        Ok(Searched::Loaded(Loaded { value, began, missed_at }))
    }

    async fn ask(&self, key: &Key) -> Asked {
        let began = self.clock.coarse();
        match self.remote.get(key).await {
            Ok(lookup) => Asked::of(lookup, began),
            Err(error) => {
                self.remote_failed("get", &error);
                Asked::Failed
            }
        }
    }

    /// Offers a loaded value to L2, if that answered before. False if L2 has a value or a hold
    /// already, or has forgotten what it had when it was asked.
    async fn fill(&self, key: &Key, loaded: &Loaded, ttl: Duration) -> bool {
        let Some(since) = loaded.missed_at else { return true };
        if !self.remote.retains() || millis(ttl) == 0 {
            return true;
        }
        // A hold that was placed when this load began may expire from here on: the fill has to be
        // over by then.
        let spent = Duration::from_millis(self.clock.coarse().saturating_sub(loaded.began));
        let Some(left) = self.policy.fill_within().checked_sub(spent) else {
            self.stats.add(Count::L2FillRefused);
            return true;
        };
        let fill = self.remote.fill(key, loaded.value.as_ref(), ttl, since);
        let filled = timeout(left, fill).await;
        match filled.unwrap_or_else(|_| Err(too_slow())) {
            Ok(true) => true,
            Ok(false) => {
                self.stats.add(Count::L2FillRefused);
                false
            }
            Err(error) => {
                self.remote_failed("fill", &error);
                true
            }
        }
    }
}

/// Where a search ended.
enum Searched {
    /// In L2, or at the filter.
    Found(Found),
    /// At the origin.
    Loaded(Loaded),
}

/// What the origin gave.
struct Loaded {
    value: Option<Bytes>,
    /// When it was asked.
    began: Millis,
    /// When L2 missed it, by L2's account; `None` if it did not answer, and is not to be filled.
    missed_at: Option<Stretch>,
}

fn too_slow() -> Error {
    Error::new(ErrorKind::Timeout, "loading took too long").temporary()
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Unexpected, "a load panicked")
        .with_context("panic", text.unwrap_or("without a message"))
}
