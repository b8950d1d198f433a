//! What the worker can be made to do wrong, so that `cargo xtask chaos --controls` can prove that the
//! harness notices it. Without the feature `failpoints` every answer is a constant.

use zmsg_core::fail_point;

/// A task is completed before its effect.
pub(crate) fn completes_first() -> bool {
    fail_point!("sabotage::complete_first", |_| true);
    false
}
