//! Bits on the servers of a world, as one node reaches them.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use zmsg_bloom::shared::{Held, Place, Shape, SharedBits, SharedGeneration, Tested};
use zmsg_core::Result;

use super::world::{Bits, Sabotage, Server, World, away};

#[derive(Debug)]
pub(super) struct MemoryBits {
    pub(super) world: Arc<World>,
    pub(super) node: usize,
}

impl MemoryBits {
    /// A call: it travels, is carried out in one step, and the answer travels. Either may be lost.
    async fn call<T>(&self, work: impl FnOnce(&mut Server) -> T) -> Result<T> {
        self.world.pause().await;
        self.world.fails()?;
        let done = {
            let mut state = self.world.state();
            let server = state.connected.get(&self.node).copied().unwrap_or_default();
            let server = &mut state.servers[server];
            if server.down {
                return Err(away());
            }
            work(server)
        };
        self.world.fails()?;
        self.world.pause().await;
        Ok(done)
    }

    /// The bits of a generation, if this server holds it.
    fn find<'a>(&self, server: &'a mut Server, shape: &Shape) -> Option<&'a mut Bits> {
        let known =
            self.world.sabotage == Sabotage::NoIdentity || server.identity == shape.identity;
        let bits = server.generations.get_mut(&shape.name())?;
        (known && bits.layout == shape.layout()).then_some(bits)
    }
}

#[async_trait]
impl SharedBits for MemoryBits {
    async fn create(&self, shape: &Shape) -> Result<String> {
        self.call(|server| {
            let segments = vec![Some(BTreeSet::new()); shape.segments as usize];
            let bits = Bits { layout: shape.layout(), segments, ..Bits::default() };
            server.generations.insert(shape.name(), bits);
            server.identity.clone()
        })
        .await
    }

    async fn add(&self, generation: &SharedGeneration, places: &[Place]) -> Result<Held> {
        let shape = generation.shape().unwrap();
        self.call(|server| {
            let Some(bits) = self.find(server, shape) else { return Held::Lost };
            for place in places {
                // As in Redis: an evicted string comes back with these bits alone.
                if let Some(segment) = &mut bits.segments[place.segment as usize] {
                    for offset in &place.offsets {
                        bits.ones += u64::from(segment.insert(*offset));
                    }
                }
            }
            Held::Whole { ones: bits.ones }
        })
        .await
    }

    async fn test(&self, generation: &SharedGeneration, place: &Place) -> Result<Tested> {
        let shape = generation.shape().unwrap();
        let lenient = self.world.sabotage == Sabotage::NoSentinel;
        self.call(|server| {
            let Some(bits) = self.find(server, shape) else { return Tested::Lost };
            let segment = &bits.segments[place.segment as usize];
            if bits.retired || (segment.is_none() && !lenient) {
                return Tested::Lost;
            }
            let set = |offset: &u64| segment.as_ref().is_some_and(|set| set.contains(offset));
            Tested::Answered { absent: !place.offsets.iter().all(set), ones: bits.ones }
        })
        .await
    }

    async fn probe(&self, generation: &SharedGeneration) -> Result<Held> {
        let shape = generation.shape().unwrap();
        let lenient = self.world.sabotage == Sabotage::NoSentinel;
        self.call(|server| match self.find(server, shape) {
            Some(bits) if lenient || bits.segments.iter().all(Option::is_some) => {
                Held::Whole { ones: bits.ones }
            }
            _ => Held::Lost,
        })
        .await
    }

    async fn retire(&self, generation: &SharedGeneration) -> Result<()> {
        let shape = generation.shape().unwrap();
        if self.world.weather.retire_fails {
            return Err(away());
        }
        self.call(|server| {
            if let Some(bits) = self.find(server, shape) {
                bits.retired = true;
            }
        })
        .await
    }

    async fn names(&self) -> Result<Vec<String>> {
        self.call(|server| server.generations.keys().cloned().collect()).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.call(|server| {
            server.generations.remove(name);
        })
        .await
    }
}
