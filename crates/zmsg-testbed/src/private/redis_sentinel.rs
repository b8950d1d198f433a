//! Sentinels of one's own, and what they watch.

use std::time::Duration;

use super::redis::{PrivateRedis, RedisOptions};
use super::until;

/// How long the sentinels may take to find each other.
const FOUND: Duration = Duration::from_secs(30);

/// A master, a replica that follows it, and three sentinels that watch them as `group`, on 127.0.0.1
/// and without a password.
#[derive(Debug)]
pub struct PrivateSentinels {
    /// The master at the start.
    pub master: PrivateRedis,
    /// Its replica at the start.
    pub replica: PrivateRedis,
    /// The three sentinels; two have to agree.
    pub sentinels: Vec<PrivateRedis>,
}

impl PrivateSentinels {
    /// Starts all of them, the master and the replica with these directives too, and waits until each
    /// sentinel knows the others; `None`, said once, where there is no program. A master that is gone
    /// for half a second has failed.
    ///
    /// # Panics
    /// If there is none and `ZMSG_TEST_REQUIRE` names `binaries`, and if they do not start.
    #[must_use]
    pub fn start(directives: &[&str]) -> Option<Self> {
        let open = || RedisOptions::new().without_password();
        let server = || directives.iter().fold(open(), |options, line| options.directive(*line));
        let master = PrivateRedis::start(server())?;
        let follows = format!("replicaof 127.0.0.1 {}", master.port());
        let replica = PrivateRedis::start(server().directive(follows))?;
        let sentinel = || {
            let watches = format!("sentinel monitor group 127.0.0.1 {} 2", master.port());
            let options = open().sentinel().directive(watches);
            let options = options.directive("sentinel down-after-milliseconds group 500");
            PrivateRedis::start(options.directive("sentinel failover-timeout group 3000"))
        };
        let sentinels = (0..3).map(|_| sentinel()).collect::<Option<Vec<_>>>()?;
        let found = until(FOUND, || sentinels.iter().all(knows_all));
        assert!(found, "the private sentinels do not find each other");
        Some(Self { master, replica, sentinels })
    }

    /// Where they are.
    #[must_use]
    pub fn url(&self) -> String {
        let at = |sentinel: &PrivateRedis| format!("127.0.0.1:{}", sentinel.port());
        let sentinels: Vec<String> = self.sentinels.iter().map(at).collect();
        format!("redis+sentinel://{}/group", sentinels.join(","))
    }
}

/// Whether a sentinel has found the replica and the two others.
fn knows_all(sentinel: &PrivateRedis) -> bool {
    let answer = sentinel.ask("SENTINEL MASTER group");
    let says = |name: &str, value: u32| answer.contains(&format!("{name}\r\n$1\r\n{value}\r\n"));
    says("num-slaves", 1) && says("num-other-sentinels", 2)
}
