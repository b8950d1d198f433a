//! Marks in Redis: who finds another's mark has the same Redis.
//!
//! A mark is no identity of the server, which a flush would take and a copy would bring along: it
//! is put there anew all the time by an engine that lives.

use uuid::Uuid;

use super::Shares;
use crate::assemble::Servers;

#[cfg(not(feature = "redis"))]
pub(super) use self::without::Marks;

#[cfg(feature = "redis")]
#[derive(Debug, Clone)]
pub(super) struct Marks(Option<zmsg_redis::Redis>);

#[cfg(feature = "redis")]
impl Marks {
    pub(super) fn new(servers: &Servers, shares: &Shares) -> Self {
        Self(servers.redis("redis.url").ok().filter(|_| shares.in_redis()))
    }

    /// Puts the mark of an engine; false if it did not arrive, as far as is known.
    pub(super) async fn put(&self, id: Uuid) -> bool {
        // Much longer than the lease of the row: a row without a mark means something.
        const LIFE_MS: u64 = 60_000;
        let Some(redis) = &self.0 else { return false };
        let mut set = zmsg_redis::redis::cmd("SET");
        set.arg(key(redis, id)).arg(1).arg("PX").arg(LIFE_MS);
        redis.query::<()>(&set).await.is_ok()
    }

    /// Which of these have a mark here; `None` if that cannot be told.
    pub(super) async fn seen(&self, ids: &[Uuid]) -> Option<Vec<bool>> {
        let redis = self.0.as_ref()?;
        let keys: Vec<_> = ids.iter().map(|id| key(redis, *id)).collect();
        let found = redis.multi_get(&keys).await.ok()?;
        Some(found.iter().map(Option::is_some).collect())
    }

    pub(super) async fn remove(&self, id: Uuid) {
        let Some(redis) = &self.0 else { return };
        let mut del = zmsg_redis::redis::cmd("DEL");
        del.arg(key(redis, id));
        // It expires otherwise.
        let _: Result<(), _> = redis.query(&del).await;
    }
}

#[cfg(feature = "redis")]
fn key(redis: &zmsg_redis::Redis, id: Uuid) -> zmsg_redis::RedisKey {
    redis.key("m", &id.to_string())
}

#[cfg(not(feature = "redis"))]
mod without {
    use super::{Servers, Shares, Uuid};

    /// Without Redis there are none.
    #[derive(Debug, Clone)]
    pub(in super::super) struct Marks;

    impl Marks {
        pub(in super::super) fn new(_servers: &Servers, _shares: &Shares) -> Self {
            Self
        }

        pub(in super::super) async fn put(&self, _id: Uuid) -> bool {
            false
        }

        pub(in super::super) async fn seen(&self, _ids: &[Uuid]) -> Option<Vec<bool>> {
            None
        }

        pub(in super::super) async fn remove(&self, _id: Uuid) {}
    }
}
