//! Leases in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zmsg_core::ManualClock;
use zmsg_idgen::conformance::Harness;
use zmsg_idgen::{Layout, Lease, MemoryLeases, NodeLease, Reserve};

struct Memory {
    leases: MemoryLeases,
}

impl Memory {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Layout::EPOCH_2021_MS + 500_000));
        Self { leases: MemoryLeases::new(clock, Duration::from_secs(30)) }
    }
}

#[async_trait]
impl Harness for Memory {
    fn layout(&self) -> Layout {
        Layout::new(Layout::EPOCH_2021_MS, 41, 2, 20).unwrap()
    }

    fn open(&self) -> Arc<dyn NodeLease> {
        Arc::new(self.leases.clone())
    }

    async fn crash(&self, _holder: Arc<dyn NodeLease>, lease: &Lease) {
        self.leases.expire(lease.node);
    }

    async fn steal(&self, lease: &Lease) -> (Arc<dyn NodeLease>, Lease) {
        let want = Reserve { layout: self.layout(), from_ms: 0, ahead: Duration::from_secs(10) };
        let thief = self.open();
        loop {
            self.leases.expire(lease.node);
            let stolen = thief.acquire(want).await.unwrap();
            if stolen.node == lease.node {
                return (thief, stolen);
            }
        }
    }
}

zmsg_idgen::conformance!(Memory::new());
