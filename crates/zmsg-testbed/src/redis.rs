//! The shared Redis server of the tests.

use std::process;

use crate::random;
use crate::required::{REDIS_URL, Requirement, variable};

/// The Redis server of `ZMSG_TEST_REDIS_URL`; `None`, said once, where there is none.
///
/// # Panics
/// If there is none and `ZMSG_TEST_REQUIRE` names `redis`.
#[must_use]
pub fn redis() -> Option<Redis> {
    let url = variable(REDIS_URL);
    if url.is_none() {
        Requirement::Redis.leave_out(&format!("{REDIS_URL} is not set"));
    }
    url.map(|url| Redis { url })
}

/// A Redis server that all tests share: each works under a namespace of its own, and nobody
/// flushes it.
#[derive(Debug, Clone)]
pub struct Redis {
    url: String,
}

impl Redis {
    /// Where it is, with its password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A namespace that nobody else has, without a separator at its end.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("zmsg-test-{}-{}", process::id(), random::hex(6))
    }
}
