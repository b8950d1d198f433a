//! `StrettoCache` signs the suite of L1.

use std::sync::Arc;

use zmsg_cache::conformance::LocalHarness;
use zmsg_cache::{LocalCache, StrettoCache};

#[derive(Debug)]
struct Stretto;

impl LocalHarness for Stretto {
    fn cache(&self, bytes_max: u64) -> Arc<dyn LocalCache> {
        Arc::new(StrettoCache::new(bytes_max, 10_000).unwrap())
    }
}

zmsg_cache::local_conformance!(Stretto);
