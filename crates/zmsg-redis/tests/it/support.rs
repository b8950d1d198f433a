//! What the tests share.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use zmsg_core::Error;
use zmsg_redis::redis::{Cmd, cmd};
use zmsg_redis::{Redis, RedisOptions};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

/// Longer than anything takes on a machine that is busy with other things.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// Within this Redis has to be usable again after its return.
pub(crate) const RECOVERY: Duration = Duration::from_secs(2);

/// For scripts without arguments.
pub(crate) const NOTHING: &[&str] = &[];

/// Options with a deadline that a busy machine does not miss.
pub(crate) fn patient(url: &str) -> RedisOptions {
    let mut options = RedisOptions::from_url(url).unwrap();
    options.deadline = Duration::from_secs(2);
    options
}

pub(crate) fn open(options: RedisOptions) -> Redis {
    Redis::open(options, &TaskTracker::new()).unwrap()
}

/// The shared server, under a namespace of this test's own.
pub(crate) fn shared() -> Option<Redis> {
    let server = zmsg_testbed::redis()?;
    let mut options = patient(server.url());
    options.namespace = server.namespace();
    Some(open(options))
}

pub(crate) fn private() -> Option<PrivateRedis> {
    PrivateRedis::start(PrivateOptions::new())
}

pub(crate) fn get(redis: &Redis, name: &str) -> Cmd {
    let mut get = cmd("GET");
    get.arg(redis.key("t", name));
    get
}

pub(crate) fn set(redis: &Redis, name: &str, value: &str) -> Cmd {
    let mut set = cmd("SET");
    set.arg(redis.key("t", name)).arg(value).arg("PX").arg(60_000);
    set
}

pub(crate) async fn read(redis: &Redis, name: &str) -> Result<Option<String>, Error> {
    redis.query(&get(redis, name)).await
}

pub(crate) async fn write(redis: &Redis, name: &str, value: &str) -> Result<(), Error> {
    redis.query(&set(redis, name, value)).await
}

/// Asks until it is so, and tells how long that took.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(began.elapsed() < BOUND, "it did not become true");
    }
    began.elapsed()
}

/// Waits until the client tells that Redis came back.
pub(crate) async fn returned(returns: &mut watch::Receiver<u64>) {
    timeout(BOUND, returns.changed()).await.expect("it came back").unwrap();
}

/// Waits until the client says that it is up; calls nothing.
pub(crate) async fn until_up(redis: &Redis) -> Duration {
    until(async || redis.health().is_up()).await
}
