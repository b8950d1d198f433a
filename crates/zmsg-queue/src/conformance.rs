//! The promises of [`TaskQueue`](crate::TaskQueue) as tests, one function per promise, for every
//! backend to sign: `zmsg_queue::task_queue_conformance!(MyHarness::new())` in a test module.

mod dead;
mod endings;
mod groups;
mod harness;
mod inspect;
mod intake;
mod lanes;
mod leases;
mod pauses;
mod periodic;
mod views;

pub use dead::*;
pub use endings::*;
pub use groups::*;
pub use harness::{Harness, Limits};
pub use inspect::*;
pub use intake::*;
pub use lanes::*;
pub use leases::*;
pub use pauses::*;
pub use periodic::*;
pub use views::*;

/// Makes a `#[tokio::test]` of every promise. The argument is an expression that makes a fresh
/// [`Harness`]; it is evaluated once per test. The tests run on several threads, so tokio needs its
/// feature `rt-multi-thread`.
#[macro_export]
macro_rules! task_queue_conformance {
    ($harness:expr) => {
        $crate::task_queue_conformance! { @promises $harness,
            a_task_is_accepted_once_per_id,
            enqueue_all_is_all_or_nothing,
            enqueue_many_answers_each_task_by_itself,
            enqueue_many_takes_the_first_as_far_as_there_is_room,
            intake_is_bounded,
            what_no_queue_would_take_is_refused,
            payloads_come_back_byte_for_byte,
            a_task_without_a_due_time_is_due_when_it_is_accepted,
            a_delay_is_honoured_to_the_millisecond,
            tasks_are_leased_in_the_order_of_due_then_id,
            a_lease_that_ran_out_is_handed_over_with_the_next_attempt,
            a_late_worker_is_fenced,
            a_lease_that_ran_out_unnoticed_still_holds,
            an_extended_lease_is_not_handed_over,
            concurrent_leasers_never_share_a_task,
            queues_of_different_names_are_apart,
            a_paused_queue_accepts_and_hands_out_nothing,
            a_resumed_queue_hands_out_what_it_has,
            a_queue_is_paused_and_resumed_once,
            a_pause_is_of_one_queue,
            attempts_settle_while_their_queue_is_paused,
            a_paused_queue_names_no_moment_to_wait_for,
            a_completed_task_is_forgotten,
            a_retried_task_waits_for_its_new_due,
            what_was_given_back_uncounted_spends_no_attempt,
            a_buried_task_is_kept_until_retried,
            a_dead_letter_can_be_dropped,
            dead_letters_are_listed_in_pages,
            dead_letters_are_bounded,
            the_state_of_a_task_is_told,
            next_due_names_the_earliest_moment,
            changed_tells_of_what_came_since_the_call,
            stats_count_what_there_is,
            a_closed_queue_refuses_every_call,
            a_lane_is_handed_out_one_by_one_in_order,
            tasks_accepted_together_keep_their_order_in_a_lane,
            a_lane_waits_for_a_task_that_failed,
            a_dead_letter_blocks_its_lane,
            a_dead_letter_that_is_skipped_comes_last,
            the_tokens_of_a_lane_only_grow,
            stats_count_what_waits_in_a_lane,
            concurrent_leasers_keep_a_lane_in_order,
            a_task_keeps_its_time_out_and_deadline,
            a_firing_is_accepted_once,
            an_entry_fires_in_the_order_of_its_moments,
            entries_fire_apart,
            a_firing_makes_a_task_like_any_other,
            a_firing_waits_for_its_moment_by_the_clock_of_the_queue,
            a_firing_without_room_is_not_remembered,
            what_cannot_fire_is_refused,
            concurrent_nodes_fire_each_moment_once,
            entries_that_fire_no_more_are_forgotten,
            a_closed_queue_refuses_firings,
        }
    };
    (@promises $harness:expr, $($promise:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            let harness = $harness;
            $crate::conformance::$promise(&harness).await;
        }
    )*};
}
