//! A fixed node with a ceiling file.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use zmsg_idgen::conformance::Harness;
use zmsg_idgen::{FixedLease, Layout, Lease, NodeLease, Reserve};

struct Fixed {
    directory: TempDir,
}

#[async_trait]
impl Harness for Fixed {
    fn layout(&self) -> Layout {
        Layout::default()
    }

    fn nodes_max(&self) -> u32 {
        1
    }

    fn open(&self) -> Arc<dyn NodeLease> {
        Arc::new(FixedLease::with_file(0, self.directory.path().join("ceiling")))
    }

    async fn crash(&self, holder: Arc<dyn NodeLease>, _lease: &Lease) {
        drop(holder);
    }

    /// As an operator would: by removing the lock file that the holder has open.
    async fn steal(&self, _lease: &Lease) -> (Arc<dyn NodeLease>, Lease) {
        fs::remove_file(self.directory.path().join("ceiling.lock")).unwrap();
        let thief = self.open();
        let want = Reserve { layout: self.layout(), from_ms: 0, ahead: Duration::from_secs(10) };
        let stolen = thief.acquire(want).await.unwrap();
        (thief, stolen)
    }
}

zmsg_idgen::conformance!(Fixed { directory: tempfile::tempdir().unwrap() });
