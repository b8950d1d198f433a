//! The promises of [`LocalCache`](crate::LocalCache) and [`RemoteCache`](crate::RemoteCache), each
//! as a test that any backend can sign.
//!
//! A backend implements the harness of its trait and calls the macro in a test file of its own:
//!
//! ```
//! # use std::sync::Arc;
//! # use zmsg_cache::{LocalCache, QuickCache};
//! #[derive(Debug)]
//! struct Quick;
//!
//! impl zmsg_cache::conformance::LocalHarness for Quick {
//!     fn cache(&self, bytes_max: u64) -> Arc<dyn LocalCache> {
//!         Arc::new(QuickCache::new(bytes_max, 1000))
//!     }
//! }
//!
//! zmsg_cache::local_conformance!(Quick);
//! ```

pub mod local;
pub mod remote;

pub use local::LocalHarness;
pub use remote::RemoteHarness;
