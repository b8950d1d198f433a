//! The bits of shared generations in Redis.
//!
//! A generation has a hash (`layout`, `ones`, `retired`) and a string for each segment; none of them
//! expires. A set lists the generations, for the removal of leftovers. All keys of one filter
//! share a hash tag, so that they are on one node of a cluster. Each script finds out which server it
//! runs on, in the same step as it touches the bits; so connections need no bookkeeping, and
//! sentinels and clusters may move the master at any time.

use async_trait::async_trait;
use zmsg_core::{Error, ErrorKind, Result};
use zmsg_redis::{Redis, RedisKey, Script, redis::cmd};

use super::{Held, Place, Shape, SharedBits, SharedGeneration, Tested};

macro_rules! script {
    ($body:literal) => {
        Script::new(concat!(include_str!("redis/identity.lua"), include_str!($body)))
    };
}

static CREATE_SEGMENT: Script = script!("redis/create_segment.lua");
static CREATE: Script = script!("redis/create.lua");
static ADD: Script = script!("redis/add.lua");
static TEST: Script = script!("redis/test.lua");
static PROBE: Script = script!("redis/probe.lua");
static RETIRE: Script = script!("redis/retire.lua");

/// Bits in Redis 6.0 or later; the user needs the right to `INFO`.
///
/// A Redis that evicts keys, or is full, costs rebuilds and lookups, never a row: give it a memory limit
/// that the filter fits into, or the policy `noeviction`.
#[derive(Debug, Clone)]
pub struct RedisBits {
    redis: Redis,
    filter: String,
}

impl RedisBits {
    /// The bits of the filter of this name. It is the name of its row, too: two filters of one
    /// namespace and name remove each other's generations.
    pub fn new(redis: Redis, filter: impl Into<String>) -> Self {
        Self { redis, filter: filter.into() }
    }

    fn key(&self, part: &str) -> RedisKey {
        self.redis.tagged("f", &self.filter, part)
    }

    fn generations(&self) -> RedisKey {
        self.key("generations")
    }

    fn segment(&self, name: &str, segment: u32) -> RedisKey {
        self.key(&format!("{name}:{segment}"))
    }

    fn all_keys(&self, shape: &Shape) -> Vec<RedisKey> {
        let name = shape.name();
        let segments = (0..shape.segments).map(|segment| self.segment(&name, segment));
        std::iter::once(self.key(&name)).chain(segments).collect()
    }
}

#[async_trait]
impl SharedBits for RedisBits {
    async fn create(&self, shape: &Shape) -> Result<String> {
        let name = shape.name();
        // First on the list, so that nothing is left that no list names.
        let keys = [self.key(&name), self.generations()];
        let args = [shape.layout(), name.clone()];
        let identity: String = self.redis.script(&CREATE, &keys, &args.as_slice()).await?;
        // One call for each: making a long string takes the server a while.
        for segment in 0..shape.segments {
            let keys = [self.segment(&name, segment)];
            let here: String =
                self.redis.script(&CREATE_SEGMENT, &keys, &shape.segment_bits).await?;
            if here != identity {
                return Err(Error::new(ErrorKind::Unavailable, "redis changed its master")
                    .temporary()
                    .with_context("filter", &self.filter));
            }
        }
        Ok(identity)
    }

    async fn add(&self, generation: &SharedGeneration, places: &[Place]) -> Result<Held> {
        let Some(shape) = generation.shape() else { return Ok(Held::Lost) };
        let name = shape.name();
        let mut places: Vec<&Place> = places.iter().collect();
        places.sort_by_key(|place| place.segment);
        let mut keys = vec![self.key(&name)];
        let mut args = vec![shape.layout(), shape.identity.clone()];
        for of_segment in places.chunk_by(|one, other| one.segment == other.segment) {
            keys.push(self.segment(&name, of_segment[0].segment));
            let offsets = of_segment.iter().flat_map(|place| &place.offsets);
            args.push(offsets.clone().count().to_string());
            args.extend(offsets.map(u64::to_string));
        }
        Ok(held(self.redis.script(&ADD, &keys, &args).await?))
    }

    async fn test(&self, generation: &SharedGeneration, place: &Place) -> Result<Tested> {
        let Some(shape) = generation.shape() else { return Ok(Tested::Lost) };
        let name = shape.name();
        let keys = [self.key(&name), self.segment(&name, place.segment)];
        let mut args = vec![shape.layout(), shape.identity.clone()];
        args.extend(place.offsets.iter().chain([&shape.segment_bits]).map(u64::to_string));
        let (missing, ones): (i64, i64) = self.redis.script(&TEST, &keys, &args).await?;
        Ok(match held(ones) {
            Held::Whole { ones } => Tested::Answered { absent: missing == 1, ones },
            Held::Lost => Tested::Lost,
        })
    }

    async fn probe(&self, generation: &SharedGeneration) -> Result<Held> {
        let Some(shape) = generation.shape() else { return Ok(Held::Lost) };
        let args = [shape.layout(), shape.identity.clone(), shape.segment_bits.to_string()];
        Ok(held(self.redis.script(&PROBE, &self.all_keys(shape), &args.as_slice()).await?))
    }

    async fn retire(&self, generation: &SharedGeneration) -> Result<()> {
        let Some(shape) = generation.shape() else { return Ok(()) };
        let args = [shape.layout(), shape.identity.clone()];
        let _: i64 =
            self.redis.script(&RETIRE, &[self.key(&shape.name())], &args.as_slice()).await?;
        Ok(())
    }

    async fn names(&self) -> Result<Vec<String>> {
        self.redis.query(cmd("SMEMBERS").arg(self.generations())).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let segments = Shape::segments_of(name).unwrap_or(0);
        let segments = (0..segments).map(|segment| self.segment(name, segment));
        let keys: Vec<RedisKey> = std::iter::once(self.key(name)).chain(segments).collect();
        let _: i64 = self.redis.query(cmd("UNLINK").arg(keys)).await?;
        let _: i64 = self.redis.query(cmd("SREM").arg(self.generations()).arg(name)).await?;
        Ok(())
    }
}

fn held(ones: i64) -> Held {
    u64::try_from(ones).map_or(Held::Lost, |ones| Held::Whole { ones })
}
