//! What the queues can be made to do wrong, so that `cargo xtask chaos --controls` can prove that the
//! harness notices it. Without the feature `failpoints` every answer is a constant.

use uuid::Uuid;
use zmsg_core::fail_point;

/// A task is completed before its effect.
pub(crate) fn completes_first() -> bool {
    fail_point!("sabotage::complete_first", |_| true);
    false
}

/// Items of a batch queue are acknowledged before their log has them.
pub(crate) fn acknowledges_items_early() -> bool {
    fail_point!("sabotage::batch_acknowledge_early", |_| true);
    false
}

/// A batch is noted as delivered before it was handed over.
pub(crate) fn confirms_first() -> bool {
    fail_point!("sabotage::batch_confirm_first", |_| true);
    false
}

/// Segments of a batch queue are removed although their items were not delivered.
pub(crate) fn trims_undelivered() -> bool {
    fail_point!("sabotage::batch_trim_early", |_| true);
    false
}

/// A batch is handed over in the wrong order.
pub(crate) fn swaps_a_batch() -> bool {
    fail_point!("sabotage::batch_swap_order", |_| true);
    false
}

/// What was given up is forgotten instead of buried.
pub(crate) fn drops_letters() -> bool {
    fail_point!("sabotage::batch_drop_letter", |_| true);
    false
}

/// The ids of items change from opening to opening.
pub(crate) fn renamed_stream() -> Option<Uuid> {
    fail_point!("sabotage::batch_rename_stream", |_| Some(Uuid::now_v7()));
    None
}
