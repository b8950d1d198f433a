//! What the routes can be made to do wrong, so that `cargo xtask chaos --controls` can prove that the
//! harness notices it. Without the feature `failpoints` every answer is a constant.

use zmsg_core::fail_point;

/// A store write is acknowledged before it is committed.
pub(crate) fn acknowledges_before_the_commit() -> bool {
    fail_point!("sabotage::acknowledge_before_commit", |_| true);
    false
}

/// A delayed write is acknowledged before the queue has it.
pub(crate) fn acknowledges_before_the_queue() -> bool {
    fail_point!("sabotage::acknowledge_before_enqueue", |_| true);
    false
}

/// A delayed task takes effect each time it runs.
pub(crate) fn ignores_the_inbox() -> bool {
    fail_point!("sabotage::ignore_inbox", |_| true);
    false
}
