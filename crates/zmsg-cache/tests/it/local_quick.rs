//! `QuickCache` signs the suite of L1.

use std::sync::Arc;

use zmsg_cache::conformance::LocalHarness;
use zmsg_cache::{LocalCache, QuickCache};

#[derive(Debug)]
struct Quick;

impl LocalHarness for Quick {
    fn cache(&self, bytes_max: u64) -> Arc<dyn LocalCache> {
        Arc::new(QuickCache::new(bytes_max, 10_000))
    }
}

zmsg_cache::local_conformance!(Quick);
