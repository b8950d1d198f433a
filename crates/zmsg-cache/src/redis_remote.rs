//! L2 in Redis.

mod envelope;
mod scripts;
mod server_time;

use std::fmt;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use zmsg_core::{Error, ErrorKind, Key, Level, Result};
use zmsg_redis::redis::cmd;
use zmsg_redis::{Present, Redis, RedisKey, ServerClock, Topology};

use self::envelope::Place;
use self::server_time::ServerTime;
use crate::policy::millis;
use crate::{HoldToken, Lookup, RemoteCache, RemoteEntry, Stretch};

/// The kind of its keys.
const KIND: &str = "c";

/// How many keys one round trip asks for, and in a cluster how many calls are under way.
const KEYS_MAX: usize = 1000;
const CALLS_AT_ONCE: usize = 64;

/// Ten years: Redis takes no TTL that ends beyond its calendar.
const TTL_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;

/// A remote cache in Redis, shared by all engines of one namespace.
///
/// Each key is one string with a TTL: a value, "absent", or a hold. Reading is `GET`; what depends on
/// what is there are scripts, so each call is one step for all nodes.
///
/// - A value is as durable as this Redis makes it: [`Level::Redis`].
/// - What was put there before Redis was restarted, failed over, or began to follow another server
///   reads as a miss, for it may be an older copy: a value of it keeps nothing out, and a hold is
///   published by nobody and keeps fills out until it expires. Each entry tells the
///   [history](zmsg_redis::History) of the server that it belongs to.
/// - Redis may evict holds, or lose them all in the ways above: a publication is refused then, and
///   the fence is as weak as the trait says.
/// - Each value tells when it ends, by the server's clock, of which a connection has a reading that
///   is about a second old at most, as long as the server answers. If that clock is set, what L1 keeps
///   of an entry may outlive it, or `set` put one there that is taken for ended, until it is read
///   again; L1 keeps nothing for longer than it keeps anything.
/// - The user needs the rights to `INFO` and `TIME`.
/// - What is under a key and was not put there by a cache of this format is dropped and counted, or
///   replaced, and reads as a miss.
/// - A fill that Redis comes to only after the caller has given up on it, because the server or the
///   network stood still, is refused.
pub struct RedisCache {
    redis: Redis,
    value_max: usize,
    server_time: ServerTime,
    unreadable: AtomicU64,
    too_large: AtomicU64,
}

/// What a [`RedisCache`] met that it should not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisCacheStats {
    /// Entries that were dropped because they were not written by a cache of this format, or should
    /// have ended and had not.
    pub unreadable: u64,
    /// Values that were not stored because they are larger than `value_max`.
    pub too_large: u64,
}

impl RedisCache {
    /// The largest value by default, in bytes: 8 MiB.
    pub const VALUE_MAX: usize = 8 << 20;

    /// A cache in this Redis, under its namespace.
    pub fn new(redis: Redis) -> Self {
        Self {
            redis,
            value_max: Self::VALUE_MAX,
            server_time: ServerTime::new(),
            unreadable: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
        }
    }

    /// Refuses values of more bytes than this: one that does not travel within the deadline of
    /// the calls holds up all others. To publish one answers `false`; to fill or set one is an
    /// error.
    #[must_use]
    pub fn with_value_max(self, value_max: usize) -> Self {
        Self { value_max, ..self }
    }

    /// The Redis it is in: its health, its counters, and when it came back.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// What it met that it should not.
    pub fn stats(&self) -> RedisCacheStats {
        RedisCacheStats {
            unreadable: self.unreadable.load(Relaxed),
            too_large: self.too_large.load(Relaxed),
        }
    }

    fn key(&self, key: &Key) -> RedisKey {
        self.redis.key(KIND, key.as_str())
    }

    /// Makes an answer of what was under a key of a server in this history. `left` tells how much
    /// what ends then has left.
    async fn read(
        &self,
        key: &RedisKey,
        bytes: Option<Bytes>,
        history: &[u8],
        left: impl FnOnce(u64) -> Left,
    ) -> Lookup {
        // Where no history is known none can be filled in either: the scripts need the same right.
        let at = history.try_into().map_or(Stretch::ONLY, Stretch::new);
        let Some(bytes) = bytes else { return Lookup { entry: None, at } };
        let (value, left) = match Place::read(&bytes, history) {
            Place::Entry(value, end) => (value, left(end)),
            Place::Hold | Place::Past => return Lookup { entry: None, at },
            Place::Unreadable => (None, Left::Overdue),
        };
        let entry = match left {
            Left::Time(ttl_left) => Some(RemoteEntry { value, ttl_left }),
            Left::Nothing => None,
            Left::Overdue => {
                self.drop_unreadable(key, &bytes).await;
                None
            }
        };
        Lookup { entry, at }
    }

    /// [`read`](Self::read) of a single server.
    async fn read_at(
        &self,
        key: &RedisKey,
        bytes: Option<Bytes>,
        present: Option<&Present>,
    ) -> Lookup {
        let (history, clock) = present.map(|it| (&it.history.as_bytes()[..], it.clock)).unzip();
        let left = |end| clock.map_or(Left::Nothing, |clock| Left::until(end, clock));
        self.read(key, bytes, history.unwrap_or_default(), left).await
    }

    /// Removes what is no entry, if it still is there. If that fails the next reader does it.
    async fn drop_unreadable(&self, key: &RedisKey, bytes: &[u8]) {
        match self.redis.script::<u64>(&scripts::DROP, slice::from_ref(key), &(bytes,)).await {
            Ok(0) => {}
            Ok(_) => {
                self.unreadable.fetch_add(1, Relaxed);
                tracing::debug!(%key, "an unreadable entry was dropped");
            }
            Err(error) => tracing::debug!(%error, %key, "an unreadable entry was not dropped"),
        }
    }

    /// The entries of so many keys as one round trip carries.
    async fn get_chunk(&self, keys: &[RedisKey]) -> Result<Vec<Lookup>> {
        let (values, present) = self.redis.query_with_present(cmd("MGET").arg(keys)).await?;
        let values: Vec<Option<Bytes>> = values;
        if values.len() != keys.len() {
            return Err(Error::new(ErrorKind::Unexpected, "redis gave a wrong number of answers"));
        }
        let present = present.as_ref();
        let read = keys.iter().zip(values).map(|(key, value)| self.read_at(key, value, present));
        let read: Vec<_> = read.collect();
        // They wait only for what has to be dropped.
        Ok(stream::iter(read).buffered(CALLS_AT_ONCE).collect().await)
    }

    /// Each server of a cluster has a history of its own, and no connection knows which server
    /// answers: the script does.
    async fn get_of_cluster(&self, key: &RedisKey) -> Result<Lookup> {
        let no_args: &[&str] = &[];
        let asked =
            self.redis.script_in_history(&scripts::READ, slice::from_ref(key), &no_args).await;
        let (bytes, ttl, history): (Option<Bytes>, i64, Bytes) = asked?;
        let left = |_| u64::try_from(ttl).map_or(Left::Overdue, Left::millis);
        Ok(self.read(key, bytes, &history, left).await)
    }

    async fn get_of_server(&self, key: &RedisKey) -> Result<Lookup> {
        let (bytes, present) = self.redis.query_with_present(cmd("GET").arg(key)).await?;
        Ok(self.read_at(key, bytes, present.as_ref()).await)
    }

    fn is_cluster(&self) -> bool {
        matches!(self.redis.options().topology, Topology::Cluster(_))
    }

    fn check_size(&self, value: Option<&Bytes>) -> Result<()> {
        let bytes = value.map_or(0, Bytes::len);
        if bytes <= self.value_max {
            return Ok(());
        }
        self.too_large.fetch_add(1, Relaxed);
        Err(Error::invalid_input("the value is too large for the remote cache")
            .with_context("bytes", bytes)
            .with_context("value_max", self.value_max))
    }
}

/// How much of its time an entry has left.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// So much, at least.
    Time(Duration),
    /// It ended, if only while the answer was on its way.
    Nothing,
    /// It should be gone since long.
    Overdue,
}

impl Left {
    /// Later than an answer may be looked at, and a command that put the entry there, delayed.
    const OVERDUE_MS: u64 = 10_000;

    fn until(end: u64, clock: ServerClock) -> Self {
        let now = Instant::now();
        let (earliest, latest) = (clock.earliest(now), clock.latest(now));
        match end {
            end if end > earliest => Self::millis(end.saturating_sub(latest)),
            end if end.saturating_add(Self::OVERDUE_MS) > earliest => Self::Nothing,
            _ => Self::Overdue,
        }
    }

    fn millis(left: u64) -> Self {
        Self::Time(Duration::from_millis(left))
    }
}

/// The TTL as Redis takes it.
fn px(ttl: Duration) -> u64 {
    millis(ttl).clamp(1, TTL_MAX)
}

#[async_trait]
impl RemoteCache for RedisCache {
    fn level(&self) -> Level {
        Level::Redis
    }

    async fn get(&self, key: &Key) -> Result<Lookup> {
        let key = self.key(key);
        let asked = match self.is_cluster() {
            true => self.get_of_cluster(&key).await,
            false => self.get_of_server(&key).await,
        };
        match asked {
            // It is no string. The next reader learns what he needs for a fill.
            Err(error) if error.kind() == ErrorKind::Corrupted => {
                self.drop_unreadable(&key, &[]).await;
                Ok(Lookup { entry: None, at: Stretch::ONLY })
            }
            answer => answer,
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Lookup>> {
        if self.is_cluster() {
            let asked: Vec<_> = keys.iter().map(|key| self.get(key)).collect();
            return stream::iter(asked).buffered(CALLS_AT_ONCE).try_collect().await;
        }
        let keys: Vec<RedisKey> = keys.iter().map(|key| self.key(key)).collect();
        let mut entries = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS_MAX) {
            entries.extend(self.get_chunk(chunk).await?);
        }
        Ok(entries)
    }

    async fn fill(
        &self,
        key: &Key,
        value: Option<&Bytes>,
        ttl: Duration,
        since: Stretch,
    ) -> Result<bool> {
        self.check_size(value)?;
        let latest = self.server_time.after(self.redis.options().deadline, &self.redis).await?;
        let args = (&since.as_bytes()[..], envelope::entry(value), px(ttl), latest);
        match self.redis.script_in_history(&scripts::FILL, &[self.key(key)], &args).await? {
            1 => Ok(true),
            0 => Ok(false),
            time => {
                self.server_time.shown(time);
                Ok(false)
            }
        }
    }

    async fn hold(&self, key: &Key, token: HoldToken, ttl: Duration) -> Result<()> {
        let args = (envelope::hold(&token), px(ttl));
        self.redis.script_in_history(&scripts::HOLD, &[self.key(key)], &args).await
    }

    async fn publish(
        &self,
        key: &Key,
        token: HoldToken,
        value: Option<&Bytes>,
        ttl: Duration,
    ) -> Result<bool> {
        if self.check_size(value).is_err() {
            return Ok(false);
        }
        let args = (&token.0.as_bytes()[..], envelope::entry(value), px(ttl));
        self.redis.script_in_history(&scripts::PUBLISH, &[self.key(key)], &args).await
    }

    async fn set(&self, key: &Key, value: &Bytes, ttl: Duration) -> Result<()> {
        self.check_size(Some(value))?;
        let (key, entry) = (self.key(key), envelope::entry(Some(value)));
        if self.is_cluster() {
            let args = (entry, px(ttl));
            return self.redis.script_in_history(&scripts::SET, &[key], &args).await;
        }
        let ttl = px(ttl);
        let set = |present: &Present| {
            let end = present.clock.earliest(Instant::now()) + ttl;
            let mut set = cmd("SET");
            envelope::write(entry, &present.history, end, set.arg(&key));
            set.arg("PX").arg(ttl);
            set
        };
        self.redis.query_in_history(set).await
    }

    async fn invalidate(&self, key: &Key, hold: Duration) -> Result<()> {
        let args = (envelope::NOBODY, px(hold));
        self.redis.script_in_history(&scripts::HOLD, &[self.key(key)], &args).await
    }

    async fn invalidate_many(&self, keys: &[Key], hold: Duration) -> Result<()> {
        let keys: Vec<RedisKey> = keys.iter().map(|key| self.key(key)).collect();
        let args = (envelope::NOBODY, px(hold));
        self.redis.script_each::<()>(&scripts::HOLD, &keys, &args).await.into_iter().collect()
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache")
            .field("redis", &self.redis)
            .field("value_max", &self.value_max)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_the_later_bound_and_an_end_by_the_earlier() {
        let answered = Instant::now();
        // The question took an hour, so that both bounds stay where they are.
        let asked = answered.checked_sub(Duration::from_secs(3600)).unwrap_or(answered);
        let clock = ServerClock::new(1_000_000_000, asked, answered);
        let latest = clock.latest(answered);
        assert_eq!(Left::until(1_000_000_000, clock), Left::Nothing);
        assert_eq!(Left::until(latest, clock), Left::millis(0), "it may have ended or not");
        assert!(matches!(Left::until(latest + 60_000, clock), Left::Time(it) if !it.is_zero()));
        assert_eq!(Left::until(1_000_000_000 - Left::OVERDUE_MS, clock), Left::Overdue);
    }
}
