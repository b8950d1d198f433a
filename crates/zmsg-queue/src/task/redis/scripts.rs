//! The scripts. What varies comes in by keys and arguments; every key is named.

use zmsg_redis::Script;

/// A script behind what all of them begin with.
macro_rules! script {
    ($path:literal) => {
        Script::new(concat!(include_str!("lua/prelude.lua"), include_str!($path)))
    };
}

/// A script that acts on one task, behind what those begin with besides.
macro_rules! act {
    ($path:literal) => {
        Script::new(concat!(
            include_str!("lua/prelude.lua"),
            include_str!("lua/act.lua"),
            include_str!($path)
        ))
    };
}

/// A script that takes tasks in as any are, and does more in the same breath.
macro_rules! taking_in {
    ($path:literal) => {
        Script::new(concat!(
            include_str!("lua/prelude.lua"),
            "local function take_in(KEYS, ARGV)\n",
            include_str!("lua/enqueue.lua"),
            "end\n",
            include_str!($path)
        ))
    };
}

/// Puts an aggregate in the place of a set.
pub(super) static SETTLE_GROUP: Script = taking_in!("lua/settle_group.lua");
pub(super) static JOIN_GROUPS: Script = script!("lua/join_groups.lua");
pub(super) static CLOSE_GROUP: Script = script!("lua/close_group.lua");
pub(super) static FORGET_GROUPS: Script = script!("lua/forget_groups.lua");
pub(super) static SHED: Script = script!("lua/shed.lua");
pub(super) static REOPEN_GROUP: Script = script!("lua/reopen_group.lua");
pub(super) static ENQUEUE: Script = script!("lua/enqueue.lua");
/// Takes in the task of a firing.
pub(super) static ENQUEUE_FIRING: Script = taking_in!("lua/firing.lua");
pub(super) static CANDIDATES: Script = script!("lua/candidates.lua");
pub(super) static TAKE: Script = script!("lua/take.lua");
pub(super) static TAKE_OVER: Script = script!("lua/take_over.lua");
pub(super) static EXTEND: Script = script!("lua/extend.lua");
pub(super) static COMPLETE: Script = script!("lua/complete.lua");
pub(super) static COMPLETE_MANY: Script = script!("lua/complete_many.lua");
pub(super) static RETRY: Script = script!("lua/retry.lua");
pub(super) static BURY: Script = script!("lua/bury.lua");
pub(super) static RETRY_DEAD: Script = script!("lua/retry_dead.lua");
pub(super) static DROP_DEAD: Script = script!("lua/drop_dead.lua");
pub(super) static LEAVE_LANE: Script = script!("lua/leave_lane.lua");
pub(super) static SET_RESULT: Script = script!("lua/set_result.lua");
pub(super) static SWEEP: Script = script!("lua/sweep.lua");
pub(super) static STATS: Script = script!("lua/stats.lua");
pub(super) static LOOK: Script = script!("lua/look.lua");
pub(super) static RUN_NOW: Script = act!("lua/run_now.lua");
pub(super) static ARCHIVE: Script = act!("lua/archive.lua");
pub(super) static DELETE: Script = act!("lua/delete.lua");

/// Takes a lock away if the task still has it.
pub(super) static UNLOCK: Script = Script::new(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0",
);
