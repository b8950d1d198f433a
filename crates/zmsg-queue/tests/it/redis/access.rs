//! Users with few rights, and connections that nobody reads on the way.

use tokio_util::task::TaskTracker;
use zmsg_core::ErrorKind;
use zmsg_queue::TaskQueue as _;
use zmsg_redis::redis::cmd;
use zmsg_redis::{Certificates, Redis};
use zmsg_testbed::private::{
    PrivateAuthority, PrivateRedis, RedisOptions as PrivateOptions, free_port,
};

use super::calls::each_call;
use super::{connect, patient, queue_over};

/// What a queue sends, and what its scripts do.
const COMMANDS: [&str; 30] = [
    "evalsha",
    "eval",
    "time",
    "exists",
    "del",
    "expire",
    "incrby",
    "hget",
    "hmget",
    "hset",
    "hdel",
    "lrange",
    "llen",
    "lpush",
    "rpush",
    "lrem",
    "sadd",
    "smembers",
    "srem",
    "sscan",
    "zadd",
    "zcard",
    "zcount",
    "zrange",
    "zrangebyscore",
    "zrem",
    "zscore",
    "zrandmember",
    "get",
    "set",
];

fn worker(server: &PrivateRedis) -> Redis {
    connect(&format!("redis://worker:s3cret@127.0.0.1:{}", server.port()))
}

#[tokio::test]
async fn a_user_needs_the_rights_to_these_keys_and_commands_and_no_others() {
    let commands: String = COMMANDS.map(|name| format!(" +{name}")).concat();
    let user = format!("user worker on >s3cret ~asynq:* ~zmsg:* -@all{commands} +@connection");
    let Some(server) = PrivateRedis::start(PrivateOptions::new().directive(user)) else { return };
    let redis = worker(&server);
    let queue = queue_over(redis.clone());
    each_call(&queue, "all").await.unwrap();
    let other = redis.query::<u64>(cmd("EXISTS").arg("other")).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::InvalidConfig, "{other}");

    let admin = connect(&server.url());
    let set = async |right: String| {
        let mut set = cmd("ACL");
        set.arg("SETUSER").arg("worker").arg(right);
        admin.query::<()>(&set).await.unwrap();
    };
    for command in COMMANDS {
        set(format!("-{command}")).await;
        admin.query::<()>(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
        // Another object: what it has told once it does not tell again.
        let refused = each_call(&queue_over(redis.clone()), command).await;
        let error = refused.expect_err(command);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{command}: {error}");
        set(format!("+{command}")).await;
    }
    each_call(&queue, "again").await.unwrap();
}

#[tokio::test]
async fn a_queue_works_over_tls() {
    let Some(authority) = PrivateAuthority::new() else { return };
    let (port, open) = (free_port(), PrivateOptions::new());
    let directives = authority.redis_directives(port);
    let options = directives.into_iter().fold(open, PrivateOptions::directive);
    let Some(server) = PrivateRedis::start(options) else { return };
    let password = server.password().unwrap();
    let mut options = patient(&format!("rediss://:{password}@localhost:{port}"));
    options.certificates = Certificates::File(authority.certificate().into());
    let queue = queue_over(Redis::open(options, &TaskTracker::new()).unwrap());
    each_call(&queue, "default").await.unwrap();
    assert_eq!(queue.stats("default").await.unwrap().dead, 0);
}
