//! A directory of nodes.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use zmsg_idgen::conformance::Harness;
use zmsg_idgen::{FileLease, Layout, Lease, NodeLease, Reserve};

struct Files {
    directory: TempDir,
}

#[async_trait]
impl Harness for Files {
    fn layout(&self) -> Layout {
        Layout::new(Layout::EPOCH_2021_MS, 41, 2, 20).unwrap()
    }

    fn open(&self) -> Arc<dyn NodeLease> {
        Arc::new(FileLease::new(self.directory.path().join("nodes")))
    }

    async fn crash(&self, holder: Arc<dyn NodeLease>, _lease: &Lease) {
        drop(holder);
    }

    /// As an operator would: by removing the lock file that the holder has open.
    async fn steal(&self, lease: &Lease) -> (Arc<dyn NodeLease>, Lease) {
        let lock = format!("nodes/node-{:04}.lock", lease.node);
        fs::remove_file(self.directory.path().join(lock)).unwrap();
        let thief = self.open();
        let want = Reserve { layout: self.layout(), from_ms: 0, ahead: Duration::from_secs(10) };
        loop {
            let stolen = thief.acquire(want).await.unwrap();
            if stolen.node == lease.node {
                return (thief, stolen);
            }
        }
    }
}

zmsg_idgen::conformance!(Files { directory: tempfile::tempdir().unwrap() });
