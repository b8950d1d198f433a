//! The end of a generator.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zmsg_core::{ErrorKind, ManualClock};
use zmsg_idgen::{FileLease, FixedLease, IdGenerator, IdOptions, Layout, Rollback};

use super::stubborn::Stubborn;
use super::{memory_leases, start};
use crate::clocks::NOW_MS;

#[tokio::test]
async fn close_ends_ids_in_every_clone_and_gives_the_node_back() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = Arc::new(Stubborn::new(memory_leases(&clock)));
    let generator = start(leases.clone(), clock.clone()).await;
    let clone = generator.clone();
    clock.advance(7);
    let last = clone.next().await.unwrap();
    clock.advance(100);
    generator.close().await.unwrap();
    let released = *leases.released.lock().unwrap();
    assert_eq!(released, Some(last.parts(generator.layout()).time));
    for error in [clone.next().await.unwrap_err(), clone.try_next().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    let requests = leases.requests.load(Relaxed);
    clone.close().await.unwrap();
    generator.keeper().renew().await.unwrap();
    assert_eq!(leases.requests.load(Relaxed), requests, "nothing more to do");
    assert_eq!(generator.stats().node, None);
}

#[tokio::test]
async fn a_node_that_was_given_back_goes_on_where_it_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ceiling");
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let mut before = None;
    for _ in 0..50 {
        let generator = start(Arc::new(FixedLease::with_file(1, &path)), clock.clone()).await;
        let id = generator.next().await.unwrap();
        assert!(before.replace(id) < Some(id));
        generator.close().await.unwrap();
    }
    // One millisecond for each start, not a whole reserve.
    let ahead = before.unwrap().parts(&Layout::default()).time - NOW_MS;
    assert_eq!(ahead, 49);
}

#[tokio::test]
async fn a_failed_release_is_told_and_the_generator_closed_all_the_same() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = Arc::new(Stubborn::new(memory_leases(&clock)));
    let generator = start(leases.clone(), clock).await;
    leases.failing.store(true, Relaxed);
    assert_eq!(generator.close().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(generator.next().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_while_the_keeper_runs_ends_both() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    for _ in 0..50 {
        let generator = start(Arc::new(memory_leases(&clock)), clock.clone()).await;
        let mut keepers = JoinSet::new();
        for _ in 0..3 {
            keepers.spawn(generator.keeper().run(CancellationToken::new()));
        }
        generator.next().await.unwrap();
        generator.close().await.unwrap();
        for ended in keepers.join_all().await {
            ended.unwrap();
        }
        assert_eq!(generator.try_next().unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn a_keeper_that_is_taking_a_node_while_the_generator_closes_leaves_it_free() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let authority = memory_leases(&clock);
    let leases = Arc::new(Stubborn::new(authority.clone()));
    let generator = start(leases.clone(), clock.clone()).await;
    authority.expire(generator.stats().node.unwrap());
    leases.hold();
    let keeper = generator.keeper();
    let (renewed, closed, ()) = futures_util::join!(keeper.renew(), generator.close(), async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            leases.let_one_go();
        }
    });
    renewed.unwrap();
    closed.unwrap();
    assert!(leases.released.lock().unwrap().is_some());
    assert_eq!(generator.try_next().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_those_who_wait() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let options =
        IdOptions { rollback: Rollback::WaitBeyond(Duration::ZERO), ..IdOptions::default() };
    let leases = Arc::new(memory_leases(&clock));
    let generator = IdGenerator::start(Layout::default(), leases, clock.clone(), options);
    let generator = generator.await.unwrap();
    generator.next().await.unwrap();
    clock.jump(-3_600_000);
    let began = tokio::time::Instant::now();
    let (waited, closed) = futures_util::join!(generator.next(), async {
        tokio::task::yield_now().await;
        generator.close().await
    });
    closed.unwrap();
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(began.elapsed(), Duration::ZERO, "not after the hour that it would have waited");
}

#[tokio::test]
async fn a_dropped_file_lease_frees_its_node_and_keeps_its_ceiling() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let layout = Layout::new(Layout::EPOCH_2021_MS, 41, 1, 21).unwrap();
    let mut ids = Vec::new();
    for _ in 0..6 {
        let leases = Arc::new(FileLease::new(directory.path()));
        let generator =
            IdGenerator::start(layout, leases, clock.clone(), IdOptions::default()).await.unwrap();
        ids.extend(generator.next_batch(1_000).await.unwrap());
    }
    let made = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), made);
}
