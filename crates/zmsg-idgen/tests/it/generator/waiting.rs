//! When there is no id at once: overflow, ceilings, clocks far behind.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::join_all;
use zmsg_core::{Clock, ErrorKind, ManualClock, UnixMillis};
use zmsg_idgen::{FixedLease, IdGenerator, IdOptions, Layout, RawId, Rollback};

use super::stubborn::Stubborn;
use super::{memory_leases, rises, start};
use crate::clocks::{NOW_MS, TokioClock};

#[tokio::test(start_paused = true)]
async fn overflow_waits_without_spinning() {
    let clock = Arc::new(TokioClock::new());
    // Two ids a millisecond.
    let layout = Layout::new(Layout::EPOCH_2021_MS, 41, 21, 1).unwrap();
    let options = IdOptions { borrow_max: Duration::from_millis(5), ..IdOptions::default() };
    let lease = Arc::new(FixedLease::trusting_the_clock(1));
    let generator = IdGenerator::start(layout, lease, clock.clone(), options).await.unwrap();

    let reads_before = clock.reads();
    let mut ids = Vec::new();
    for _ in 0..2_000 {
        ids.push(generator.next().await.unwrap());
    }
    assert!(rises(&ids));
    // A thousand milliseconds' worth, of which five may be borrowed.
    assert!((990..=1_010).contains(&clock.elapsed_ms()), "{}", clock.elapsed_ms());
    // At most one look before and one after each wait.
    let looks = clock.reads() - reads_before;
    assert!(looks <= 2_000 + generator.stats().waits, "{looks}");
    assert!(generator.stats().waits <= 1_000);
    assert!(generator.stats().overflows >= 990);
}

#[tokio::test(start_paused = true)]
async fn many_waiting_callers_all_get_their_turn() {
    let clock = Arc::new(TokioClock::new());
    let layout = Layout::new(Layout::EPOCH_2021_MS, 41, 21, 1).unwrap();
    let options = IdOptions { borrow_max: Duration::ZERO, ..IdOptions::default() };
    let lease = Arc::new(FixedLease::trusting_the_clock(1));
    let generator = IdGenerator::start(layout, lease, clock.clone(), options).await.unwrap();
    let callers = (0..100).map(|_| generator.next_batch(7));
    let batches = join_all(callers).await.into_iter().map(Result::unwrap);
    let mut ids: Vec<RawId> = batches.flatten().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 700);
    assert!(clock.elapsed_ms() >= 349, "{}", clock.elapsed_ms());
}

#[tokio::test]
async fn a_jump_beyond_the_ceiling_waits_until_a_higher_one_is_stored() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = Arc::new(Stubborn::new(memory_leases(&clock)));
    let generator = start(leases.clone(), clock.clone()).await;
    let before = generator.next().await.unwrap();
    clock.jump(3_600_000);
    assert_eq!(generator.try_next().unwrap(), None);
    leases.hold();
    {
        let mut waiting = std::pin::pin!(generator.next());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(generator.try_next().unwrap(), None, "the answer is not there yet");
        leases.let_one_go();
        assert!(waiting.await.unwrap() > before);
    }
    let stats = generator.stats();
    assert_eq!(stats.ceiling_ms, NOW_MS + 3_600_000 + 10_000);
    // Back again: the ids stay where they are, and need no further request.
    clock.jump(-3_600_000);
    let requests = leases.requests.load(Relaxed);
    let after: Vec<RawId> = generator.next_batch(10_000).await.unwrap().collect();
    assert!(rises(&after) && after[0] > before);
    assert_eq!(leases.requests.load(Relaxed), requests);
}

#[tokio::test]
async fn at_the_ceiling_the_failure_of_one_request_is_everyones_answer() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = Arc::new(Stubborn::new(memory_leases(&clock)));
    let generator = start(leases.clone(), clock.clone()).await;
    clock.jump(60_000);
    leases.failing.store(true, Relaxed);
    leases.hold();
    let requests_before = leases.requests.load(Relaxed);
    let callers = join_all((0..64).map(|_| generator.next()));
    let release = async {
        for _ in 0..64 {
            tokio::task::yield_now().await;
            leases.let_one_go();
        }
    };
    let (answers, ()) = futures_util::join!(callers, release);
    for answer in answers {
        let error = answer.unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error:?}");
    }
    assert_eq!(leases.requests.load(Relaxed), requests_before + 1);
    // It was temporary.
    leases.failing.store(false, Relaxed);
    leases.let_one_go();
    generator.next().await.unwrap();
}

#[tokio::test]
async fn ids_are_made_while_the_backend_hangs() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = Arc::new(Stubborn::new(memory_leases(&clock)));
    let generator = start(leases.clone(), clock.clone()).await;
    leases.hold();
    let keeper = generator.keeper();
    let mut renewal = std::pin::pin!(keeper.renew());
    assert!(futures_util::poll!(renewal.as_mut()).is_pending());
    for _ in 0..9_000 {
        assert!(generator.try_next().unwrap().is_some());
        generator.next().await.unwrap();
        clock.advance(1);
    }
    assert_eq!(generator.stats().waits, 0);
}

#[tokio::test]
async fn a_dropped_call_harms_nothing() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = Arc::new(Stubborn::new(memory_leases(&clock)));
    let generator = start(leases.clone(), clock.clone()).await;
    leases.hold();
    clock.jump(60_000);
    for _ in 0..10 {
        let mut waiting = Box::pin(generator.next());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    }
    leases.let_one_go();
    assert_eq!(generator.next_batch(100).await.unwrap().count(), 100);
}

/// Shows what it is told, and tokio's time on the monotonic side.
#[derive(Debug)]
struct SetBack(TokioClock);

impl Clock for SetBack {
    fn wall(&self) -> UnixMillis {
        let elapsed = self.0.elapsed_ms();
        // After ten milliseconds it is set back by a second.
        if elapsed < 10 { NOW_MS + elapsed } else { NOW_MS + elapsed - 1_000 }
    }

    fn coarse(&self) -> u64 {
        self.0.coarse()
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_policy_says_so_a_clock_too_far_behind_is_waited_for() {
    let clock = Arc::new(SetBack(TokioClock::new()));
    let options = IdOptions {
        rollback: Rollback::WaitBeyond(Duration::from_millis(200)),
        ..IdOptions::default()
    };
    let lease = Arc::new(FixedLease::trusting_the_clock(1));
    let generator = IdGenerator::start(Layout::default(), lease, clock.clone(), options);
    let generator = generator.await.unwrap();
    crate::clocks::let_pass(9).await;
    let first = generator.next().await.unwrap();
    crate::clocks::let_pass(1).await;
    assert_eq!(generator.try_next().unwrap(), None);
    let next = generator.next().await.unwrap();
    assert!(next > first);
    assert_eq!(next.parts(generator.layout()).time, NOW_MS + 9);
    assert_eq!(clock.0.elapsed_ms(), 809, "when the clock is 200 ms behind the last id");
}

#[tokio::test]
async fn a_clock_beyond_the_layout_is_an_error_and_is_not_stored() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = memory_leases(&clock);
    let generator = start(Arc::new(leases.clone()), clock.clone()).await;
    generator.next().await.unwrap();
    clock.jump(i64::MAX);
    let error = generator.next().await.unwrap_err();
    assert!(error.to_string().contains("no later times"), "{error}");
    generator.keeper().renew().await.unwrap();
    assert!(generator.stats().ceiling_ms <= NOW_MS + 20_000);
    let started = IdGenerator::start(
        Layout::default(),
        Arc::new(FixedLease::trusting_the_clock(1)),
        clock.clone(),
        IdOptions::default(),
    );
    assert!(started.await.is_err());
}
