//! `MemoryRemote` signs the suite of L2.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zmsg_cache::conformance::RemoteHarness;
use zmsg_cache::{MemoryRemote, RemoteCache, Stretch};
use zmsg_core::{Key, ManualClock};

#[derive(Debug)]
struct Memory(Arc<ManualClock>);

impl Memory {
    fn new() -> Self {
        Self(Arc::new(ManualClock::new(0)))
    }
}

#[async_trait]
impl RemoteHarness for Memory {
    async fn cache(&self) -> Arc<dyn RemoteCache> {
        Arc::new(MemoryRemote::new(self.0.clone()))
    }

    async fn pass(&self, time: Duration) {
        self.0.advance(u64::try_from(time.as_millis()).unwrap());
    }
}

zmsg_cache::remote_conformance!(Memory::new());

#[tokio::test]
async fn expired_entries_are_swept() {
    let harness = Memory::new();
    let cache = MemoryRemote::new(harness.0.clone());
    for n in 0..10_000 {
        let key = Key::new(format!("feed_{n}")).unwrap();
        cache.fill(&key, None, Duration::from_millis(10), Stretch::ONLY).await.unwrap();
        harness.0.advance(1);
    }
    let shown = format!("{cache:?}");
    let places: usize =
        shown.split(|c: char| !c.is_ascii_digit()).find_map(|n| n.parse().ok()).unwrap();
    assert!(places <= 1024, "{shown}");
}
