//! Tests of the atomic state, with the steps of a race taken one by one.

use std::collections::HashSet;

use proptest::prelude::*;
use zmsg_core::ManualClock;

use super::*;

/// Four ids a millisecond.
fn layout() -> Layout {
    Layout::new(Layout::EPOCH_2021_MS, 51, 10, 2).unwrap()
}

fn clock_at(time: u64) -> ManualClock {
    ManualClock::new(Layout::EPOCH_2021_MS + time)
}

fn opened(node: u32, floor: u64, ceiling: u64, clock: &ManualClock) -> Sequence {
    let sequence = Sequence::new(layout(), &IdOptions::default());
    sequence.open(node, floor, ceiling, clock);
    sequence
}

fn propose(sequence: &Sequence, clock: &ManualClock) -> Proposal {
    let wall = layout().since_epoch(clock.wall());
    sequence.propose(sequence.state.load(Ordering::Acquire), wall, clock, 1).unwrap()
}

fn time_of(range: &Range<u64>) -> u64 {
    layout().time_of(range.start)
}

#[test]
fn a_holder_that_pauses_between_check_and_use_meets_no_successor() {
    let clock = clock_at(1_000);
    let paused = opened(7, 0, 2_000, &clock);
    clock.jump(999);
    let checked = propose(&paused, &clock);
    // Here the holder hangs. Its lease ends, the node goes to another process, which by the
    // contract of leases starts at the old ceiling, whatever its clock shows.
    let successor = opened(7, 2_000, 3_000, &clock);
    let mut theirs = HashSet::new();
    for _ in 0..100 {
        theirs.extend(successor.take(&clock, 4).unwrap());
    }
    // The holder wakes up and, knowing nothing, goes on: to its ceiling, and no further.
    let mut ours: Vec<u64> = paused.commit(&checked, &clock).unwrap().collect();
    while let Ok(range) = paused.take(&clock, 1) {
        ours.extend(range);
    }
    assert!(paused.take(&clock, 1).is_err());
    assert!(ours.len() > 1 && ours.iter().all(|raw| !theirs.contains(raw)));
    assert!(ours.iter().all(|raw| layout().time_of(*raw) < 2_000));
}

#[test]
fn a_stop_defeats_whoever_had_checked_before() {
    let clock = clock_at(1_000);
    let sequence = opened(7, 0, 2_000, &clock);
    sequence.take(&clock, 1).unwrap();
    clock.advance(500);
    let checked = propose(&sequence, &clock);
    // What `close` releases is exact: no id above it can still come.
    assert_eq!(sequence.stop(), 1_000);
    assert!(sequence.commit(&checked, &clock).is_err());
    assert_eq!(sequence.take(&clock, 1), Err(Refusal::Stopped));
}

#[test]
fn a_new_lease_defeats_whoever_had_checked_under_the_old_one() {
    let clock = clock_at(1_000);
    let sequence = opened(7, 0, 2_000, &clock);
    sequence.take(&clock, 1).unwrap();
    clock.advance(500);
    let checked = propose(&sequence, &clock);
    sequence.stop();
    sequence.open(3, 0, 9_000, &clock);
    assert!(sequence.commit(&checked, &clock).is_err());
    let range = sequence.take(&clock, 1).unwrap();
    assert_eq!((time_of(&range), layout().node_of(range.start)), (1_500, 3));
}

#[test]
fn a_new_lease_with_a_smaller_node_still_makes_greater_ids() {
    let clock = clock_at(1_000);
    let sequence = opened(900, 0, 9_000, &clock);
    let before = sequence.take(&clock, 4).unwrap();
    sequence.stop();
    sequence.open(0, 0, 9_000, &clock);
    let after = sequence.take(&clock, 1).unwrap();
    assert!(after.start >= before.end);
}

#[test]
fn ids_are_counted_exactly_without_a_counter_on_the_way() {
    let clock = clock_at(1_000);
    let sequence = opened(1, 5_000, 9_000, &clock);
    assert_eq!(sequence.issued(), 0);
    let mut taken = 0;
    for step in 0..200 {
        taken += u64::from(sequence.take(&clock, 1 + step % 3).is_ok_and(|range| {
            taken += range.end - range.start - 1;
            true
        }));
        clock.advance(u64::from(step % 50));
        if step == 100 {
            sequence.stop();
            assert_eq!(sequence.issued(), taken);
            sequence.open(2, 0, 90_000, &clock);
            assert_eq!(sequence.issued(), taken);
        }
        assert_eq!(sequence.issued(), taken);
    }
    assert!(taken > 200);
}

#[test]
fn overflow_borrows_up_to_the_limit_and_says_how_long_to_wait() {
    let clock = clock_at(1_000);
    let sequence = opened(1, 0, 1_000_000, &clock);
    let mut last = 0;
    let wait_ms = loop {
        match sequence.take(&clock, 4) {
            Ok(range) => last = time_of(&range),
            Err(Refusal::TooEarly { wait_ms }) => break wait_ms,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!((last, wait_ms), (6_000, 1));
    clock.advance(10);
    assert_eq!((0..10).filter(|_| sequence.take(&clock, 4).is_ok()).count(), 10);
    assert!(sequence.take(&clock, 4).is_err());
    assert_eq!(sequence.overflows(), 5_010);
}

#[test]
fn after_a_rollback_ids_go_on_at_the_pace_of_the_monotonic_clock() {
    let clock = clock_at(10_000_000);
    let sequence = opened(1, 0, 100_000_000, &clock);
    sequence.take(&clock, 1).unwrap();
    clock.jump(-3_600_000);
    let mut last = 0;
    while let Ok(range) = sequence.take(&clock, 4) {
        last = time_of(&range);
    }
    assert_eq!(last, 10_005_000, "borrowing from the last id on, not from the wall clock");
    clock.advance(250);
    while let Ok(range) = sequence.take(&clock, 4) {
        last = time_of(&range);
    }
    assert_eq!((last, sequence.rollbacks()), (10_005_250, 1));
}

#[test]
fn a_clock_beyond_the_layout_is_refused_and_not_believed() {
    let clock = clock_at(1_000);
    let sequence = opened(1, 0, u64::MAX, &clock);
    sequence.take(&clock, 1).unwrap();
    clock.jump(i64::MAX);
    assert!(matches!(sequence.take(&clock, 1), Err(Refusal::AtCeiling { .. })));
    clock.jump(i64::MIN);
    assert_eq!(time_of(&sequence.take(&clock, 1).unwrap()), 1_000);
}

proptest! {
    #[test]
    fn ids_rise_and_stay_below_the_ceiling(
        steps in prop::collection::vec((-5_000_i64..5_000, 1_u32..9), 1..200),
    ) {
        let clock = clock_at(100_000);
        let ceiling = 103_000;
        let sequence = opened(5, 99_000, ceiling, &clock);
        let mut last = 0;
        for (jump, want) in steps {
            clock.jump(jump);
            if let Ok(range) = sequence.take(&clock, want) {
                prop_assert!(range.start > last && range.end > range.start);
                prop_assert!(range.end - range.start <= u64::from(want.min(4)));
                last = range.end - 1;
                let times = layout().time_of(range.start)..=layout().time_of(last);
                prop_assert!(*times.start() >= 99_000 && *times.end() < ceiling);
                prop_assert_eq!(layout().node_of(last), 5);
            }
        }
    }
}

/// A clock whose ticks are so far apart that it has been 4 ms since the last.
#[derive(Debug)]
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn wall(&self) -> u64 {
        self.0.wall()
    }

    fn wall_tick(&self) -> u64 {
        self.0.wall() - 4
    }

    fn coarse(&self) -> u64 {
        self.0.coarse()
    }
}

#[test]
fn a_tick_will_do_until_its_ids_are_used_up_and_then_the_clock_is_read() {
    let clock = Ticking(clock_at(1_000));
    let sequence = opened(7, 0, 2_000, &clock.0);
    let times: Vec<u64> = (0..10).map(|_| time_of(&sequence.take(&clock, 1).unwrap())).collect();
    assert_eq!(times, [996, 996, 996, 996, 1_000, 1_000, 1_000, 1_000, 1_001, 1_001]);
    assert_eq!((sequence.overflows(), sequence.rollbacks()), (1, 0));
}

#[test]
fn a_tick_refuses_nobody_as_a_clock_that_was_set_back() {
    let clock = Ticking(clock_at(1_000));
    let rollback = Rollback::WaitBeyond(std::time::Duration::ZERO);
    let sequence = Sequence::new(layout(), &IdOptions { rollback, ..IdOptions::default() });
    sequence.open(7, 0, 2_000, &clock.0);
    let range = sequence.take(&clock.0, 1).unwrap();
    assert_eq!(time_of(&range), 1_000);
    assert_eq!(time_of(&sequence.take(&clock, 1).unwrap()), 1_000);
    clock.0.jump(-1);
    assert_eq!(sequence.take(&clock, 1), Err(Refusal::TooEarly { wait_ms: 1 }));
}
