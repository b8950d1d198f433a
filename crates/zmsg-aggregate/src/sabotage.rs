//! What the aggregator can be made to do wrong, so that `cargo xtask chaos --controls` can prove that the
//! harness notices it. Without the feature `failpoints` every answer is a constant.

use uuid::Uuid;
use zmsg_core::fail_point;

/// Operations are acknowledged as durable and are in no journal.
pub(crate) fn forgets_the_journal() -> bool {
    fail_point!("sabotage::forget_journal", |_| true);
    false
}

/// Operations are acknowledged before their record is written.
pub(crate) fn acknowledges_early() -> bool {
    fail_point!("sabotage::acknowledge_early", |_| true);
    false
}

/// Files of the journal are removed although what they hold has not taken effect.
pub(crate) fn trims_early() -> bool {
    fail_point!("sabotage::trim_early", |_| true);
    false
}

/// A flush leaves out one of its groups.
pub(crate) fn drops_a_group() -> bool {
    fail_point!("sabotage::drop_group", |_| true);
    false
}

/// A flush runs its last statement twice.
pub(crate) fn doubles_a_statement() -> bool {
    fail_point!("sabotage::double_statement", |_| true);
    false
}

/// The ledger row is moved in a transaction of its own, after that of the flush.
pub(crate) fn moves_the_ledger_apart() -> bool {
    fail_point!("sabotage::ledger_apart", |_| true);
    false
}

/// Two runs of one batch key are folded in the wrong order.
pub(crate) fn swaps_the_order() -> bool {
    fail_point!("sabotage::swap_order", |_| true);
    false
}

/// A recovery removes a stream without reading it.
pub(crate) fn skips_the_replay() -> bool {
    fail_point!("sabotage::skip_replay", |_| true);
    false
}

/// A recovery takes nothing of a stream for applied.
pub(crate) fn ignores_the_ledger() -> bool {
    fail_point!("sabotage::ignore_ledger", |_| true);
    false
}

/// Every start of a process goes under the same name in the ledger.
pub(crate) fn stream_of_another() -> Option<Uuid> {
    fail_point!("sabotage::reuse_stream", |_| Some(Uuid::from_u128(1)));
    None
}
