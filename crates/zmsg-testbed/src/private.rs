//! Servers of one's own: started from their programs, restarted, paused and killed.
//!
//! Only std is used, and every function blocks: inside a runtime that has to go on meanwhile, call
//! them by `spawn_blocking`. Data lies in a temporary directory of mode 0700. A server ends, and its
//! directory goes, when its value is dropped; if this process is killed a watchdog does both.

mod binaries;
mod directory;
mod watchdog;
mod processes;
mod port;
mod server;
mod postgres;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod authority;
mod pgbouncer;

pub use authority::PrivateAuthority;
pub use binaries::Binaries;
pub use pgbouncer::{PoolMode, PrivatePgbouncer};
pub use port::free_port;
pub use postgres::{PostgresOptions, PrivatePostgres};
pub use redis::{PrivateRedis, RedisOptions};
pub use redis_cluster::PrivateCluster;
pub use redis_sentinel::PrivateSentinels;
pub use watchdog::Watchdog;

use std::thread;
use std::time::{Duration, Instant};

/// A random password.
#[must_use]
pub fn password() -> String {
    crate::random::hex(16)
}

/// Asks every few milliseconds whether something has become true, for at most `bound`.
pub fn until(bound: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > bound {
            return false;
        }
        // Nobody unparks this thread: it is a pause between two looks at the condition.
        thread::park_timeout(Duration::from_millis(10));
    }
    true
}
