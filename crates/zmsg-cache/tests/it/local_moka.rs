//! `MokaCache` signs the suite of L1.

use std::sync::Arc;

use zmsg_cache::conformance::LocalHarness;
use zmsg_cache::{LocalCache, MokaCache};

#[derive(Debug)]
struct Moka;

impl LocalHarness for Moka {
    fn cache(&self, bytes_max: u64) -> Arc<dyn LocalCache> {
        Arc::new(MokaCache::new(bytes_max))
    }
}

zmsg_cache::local_conformance!(Moka);
