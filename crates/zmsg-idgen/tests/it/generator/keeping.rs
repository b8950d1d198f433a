//! The keeper: ahead of need, through failures, to another node.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zmsg_core::{ErrorKind, ManualClock};
use zmsg_idgen::{IdGenerator, MemoryLeases};

use super::stubborn::Stubborn;
use super::{memory_leases, rises, start};
use crate::clocks::{NOW_MS, TokioClock, let_pass};

/// A generator on tokio's paused time, with its keeper running.
struct Kept {
    leases: Arc<Stubborn>,
    authority: MemoryLeases,
    generator: IdGenerator,
    shutdown: CancellationToken,
    keeper: JoinSet<zmsg_core::Result<()>>,
}

async fn kept() -> Kept {
    let clock = Arc::new(TokioClock::new());
    let authority = MemoryLeases::new(clock.clone(), Duration::from_secs(30));
    let leases = Arc::new(Stubborn::new(authority.clone()));
    let generator = start(leases.clone(), clock).await;
    let shutdown = CancellationToken::new();
    let mut keeper = JoinSet::new();
    keeper.spawn(generator.keeper().run(shutdown.clone()));
    Kept { leases, authority, generator, shutdown, keeper }
}

#[tokio::test(start_paused = true)]
async fn the_ceiling_is_raised_before_anyone_needs_it() {
    let kept = kept().await;
    let mut ids = Vec::new();
    for _ in 0..6_000 {
        ids.push(kept.generator.try_next().unwrap().unwrap());
        let_pass(10).await;
    }
    assert!(rises(&ids));
    assert_eq!(kept.generator.stats().waits, 0);
    // A minute in thirds of ten seconds.
    let requests = kept.leases.requests.load(Relaxed);
    assert!((15..=20).contains(&requests), "{requests}");
    assert!(kept.generator.stats().lease_remaining > Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_back_before_the_ceiling_is_not_noticed() {
    let kept = kept().await;
    let_pass(3_000).await;
    kept.leases.failing.store(true, Relaxed);
    for _ in 0..60 {
        kept.generator.try_next().unwrap().unwrap();
        let_pass(100).await;
    }
    let failed = kept.leases.requests.load(Relaxed);
    assert!((8..40).contains(&failed), "with backoff: {failed}");
    kept.leases.failing.store(false, Relaxed);
    for _ in 0..100 {
        kept.generator.try_next().unwrap().unwrap();
        let_pass(100).await;
    }
    assert_eq!(kept.generator.stats().waits, 0);
}

#[tokio::test(start_paused = true)]
async fn callers_at_the_ceiling_do_not_hurry_a_keeper_whose_backend_is_away() {
    let kept = kept().await;
    kept.leases.failing.store(true, Relaxed);
    let_pass(11_000).await;
    let before = kept.leases.requests.load(Relaxed);
    for _ in 0..10_000 {
        assert_eq!(kept.generator.try_next().unwrap(), None);
        let_pass(1).await;
    }
    let requests = kept.leases.requests.load(Relaxed) - before;
    assert!((5..=25).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_lease_the_keeper_takes_another_node() {
    let kept = kept().await;
    let before = kept.generator.next().await.unwrap();
    let node = kept.generator.stats().node.unwrap();
    kept.authority.expire(node);
    let_pass(4_000).await;
    let stats = kept.generator.stats();
    assert_eq!(stats.leases_lost, 1);
    assert_ne!(stats.node, Some(node));
    assert!(kept.generator.next().await.unwrap() > before);
}

#[tokio::test]
async fn between_a_lost_lease_and_the_next_there_are_no_ids() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let authority = memory_leases(&clock);
    let leases = Arc::new(Stubborn::new(authority.clone()));
    let generator = start(leases.clone(), clock.clone()).await;
    let before = generator.next().await.unwrap();
    authority.expire(generator.stats().node.unwrap());
    // The call that runs into the ceiling finds out, not only the keeper.
    clock.advance(20_000);
    for _ in 0..3 {
        let error = generator.next().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error:?}");
        assert!(generator.try_next().is_err());
    }
    assert_eq!((generator.stats().node, generator.stats().leases_lost), (None, 1));
    assert_eq!(generator.stats().lease_remaining, Duration::ZERO);
    leases.failing.store(true, Relaxed);
    assert!(generator.keeper().renew().await.is_err());
    let error = generator.next().await.unwrap_err();
    assert!(error.to_string().contains("the backend is away"), "{error}");
    leases.failing.store(false, Relaxed);
    generator.keeper().renew().await.unwrap();
    assert!(generator.next().await.unwrap() > before);
}

#[tokio::test]
async fn one_round_of_the_keeper_replaces_a_lost_lease() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let authority = memory_leases(&clock);
    let generator = start(Arc::new(authority.clone()), clock.clone()).await;
    let node = generator.stats().node.unwrap();
    authority.expire(node);
    generator.keeper().renew().await.unwrap();
    let stats = generator.stats();
    assert!(stats.node.is_some_and(|next| next != node) && stats.leases_lost == 1, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_never_waits_still_gets_a_ceiling_after_a_jump() {
    let mut kept = kept().await;
    let_pass(1).await;
    // A jump as seen from here: a long pause in which the keeper did not run.
    kept.leases.hold();
    let_pass(60_000).await;
    assert_eq!(kept.generator.try_next().unwrap(), None);
    for _ in 0..5 {
        kept.leases.let_one_go();
    }
    let_pass(10_000).await;
    assert!(kept.generator.try_next().unwrap().is_some());
    kept.shutdown.cancel();
    kept.keeper.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hanging_backend_does_not_keep_the_keeper_from_stopping() {
    let mut kept = kept().await;
    kept.leases.hold();
    let_pass(20_000).await;
    assert_eq!(kept.leases.requests.load(Relaxed), 2, "the second hangs");
    kept.shutdown.cancel();
    kept.keeper.join_next().await.unwrap().unwrap().unwrap();
}
