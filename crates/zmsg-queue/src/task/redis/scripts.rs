//! The scripts. What varies comes in by keys and arguments; every key is named.

use zmsg_redis::Script;

pub(super) static ENQUEUE: Script = Script::new(include_str!("lua/enqueue.lua"));
pub(super) static CANDIDATES: Script = Script::new(include_str!("lua/candidates.lua"));
pub(super) static TAKE: Script = Script::new(include_str!("lua/take.lua"));
pub(super) static EXTEND: Script = Script::new(include_str!("lua/extend.lua"));
pub(super) static COMPLETE: Script = Script::new(include_str!("lua/complete.lua"));
pub(super) static RETRY: Script = Script::new(include_str!("lua/retry.lua"));
pub(super) static BURY: Script = Script::new(include_str!("lua/bury.lua"));
pub(super) static RETRY_DEAD: Script = Script::new(include_str!("lua/retry_dead.lua"));
pub(super) static DROP_DEAD: Script = Script::new(include_str!("lua/drop_dead.lua"));
pub(super) static STATS: Script = Script::new(include_str!("lua/stats.lua"));

/// Takes a lock away if the task still has it.
pub(super) static UNLOCK: Script = Script::new(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
);
