//! Leases whose backend fails or hangs when told to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};
use zmsg_idgen::{Lease, MemoryLeases, NodeLease, Reserve};

/// Wraps leases; counts the requests and remembers the last release.
#[derive(Debug)]
pub(crate) struct Stubborn {
    inner: MemoryLeases,
    pub(crate) requests: AtomicU64,
    pub(crate) failing: AtomicBool,
    pub(crate) released: Mutex<Option<UnixMillis>>,
    /// Closed: requests go through. Open: each waits for a permit.
    gate: Semaphore,
    gated: AtomicBool,
}

impl Stubborn {
    pub(crate) fn new(inner: MemoryLeases) -> Self {
        Self {
            inner,
            requests: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            released: Mutex::new(None),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
        }
    }

    /// From now on every request hangs until it is let go.
    pub(crate) fn hold(&self) {
        self.gated.store(true, Relaxed);
    }

    /// Lets one request go.
    pub(crate) fn let_one_go(&self) {
        self.gate.add_permits(1);
    }

    async fn request(&self) -> Result<()> {
        self.requests.fetch_add(1, Relaxed);
        if self.gated.load(Relaxed) {
            self.gate.acquire().await.unwrap().forget();
        }
        if self.failing.load(Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "the backend is away").temporary());
        }
        Ok(())
    }
}

#[async_trait]
impl NodeLease for Stubborn {
    async fn acquire(&self, want: Reserve) -> Result<Lease> {
        self.request().await?;
        self.inner.acquire(want).await
    }

    async fn extend(&self, lease: &Lease, ceiling_ms: UnixMillis) -> Result<Lease> {
        self.request().await?;
        self.inner.extend(lease, ceiling_ms).await
    }

    async fn release(&self, lease: Lease, last_issued_ms: UnixMillis) -> Result<()> {
        self.request().await?;
        *self.released.lock().unwrap() = Some(last_issued_ms);
        self.inner.release(lease, last_issued_ms).await
    }
}
