//! Lua that runs in Redis.

use std::sync::OnceLock;

use redis::{Cmd, ToRedisArgs, cmd};

use crate::RedisKey;

/// A script: its text is constant, what varies comes in by keys and arguments.
///
/// ```
/// static TOUCH: zmsg_redis::Script = zmsg_redis::Script::new("return redis.call('GET', KEYS[1])");
/// ```
#[derive(Debug)]
pub struct Script {
    body: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    /// A script of this text.
    pub const fn new(body: &'static str) -> Self {
        Self { body, digest: OnceLock::new() }
    }

    fn digest(&self) -> &str {
        self.digest.get_or_init(|| redis::Script::new(self.body).get_hash().to_owned())
    }

    /// The call by digest: short, and refused with `NOSCRIPT` by a server that has not seen it.
    pub(crate) fn by_digest(&self, keys: &[RedisKey], args: &impl ToRedisArgs) -> Cmd {
        call("EVALSHA", self.digest(), keys, args)
    }

    /// The call with the whole text.
    pub(crate) fn by_body(&self, keys: &[RedisKey], args: &impl ToRedisArgs) -> Cmd {
        call("EVAL", self.body, keys, args)
    }
}

fn call(name: &str, script: &str, keys: &[RedisKey], args: &impl ToRedisArgs) -> Cmd {
    let mut cmd = cmd(name);
    cmd.arg(script).arg(keys.len()).arg(keys).arg(args);
    cmd
}
