//! The generator and its keeper.

mod closing;
mod keeping;
mod stubborn;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use zmsg_core::{Clock, ErrorKind, ManualClock};
use zmsg_idgen::{FixedLease, IdGenerator, IdOptions, Layout, MemoryLeases, NodeLease, RawId};

use crate::clocks::NOW_MS;

pub(crate) async fn start(leases: Arc<dyn NodeLease>, clock: Arc<dyn Clock>) -> IdGenerator {
    IdGenerator::start(Layout::default(), leases, clock, IdOptions::default()).await.unwrap()
}

pub(crate) fn memory_leases(clock: &Arc<ManualClock>) -> MemoryLeases {
    MemoryLeases::new(clock.clone(), Duration::from_secs(30))
}

fn rises(ids: &[RawId]) -> bool {
    ids.windows(2).all(|pair| pair[0] < pair[1])
}

#[tokio::test]
async fn ids_rise_through_single_calls_and_batches() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let generator = start(Arc::new(memory_leases(&clock)), clock.clone()).await;
    let mut ids = Vec::new();
    for n in [1, 5_000, 4_096, 0, 9_999] {
        ids.push(generator.try_next().unwrap().unwrap());
        let batch = generator.clone().next_batch(n).await.unwrap();
        assert_eq!(batch.len(), n);
        ids.extend(batch);
        ids.push(generator.next().await.unwrap());
        clock.advance(1);
    }
    assert!(rises(&ids));
    assert_eq!(generator.stats().issued, ids.len() as u64);
}

#[tokio::test]
async fn an_id_tells_when_and_where_it_was_made() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = Arc::new(FixedLease::trusting_the_clock(1023));
    let generator = start(leases, clock).await;
    let id = generator.next_id("feed").await.unwrap();
    assert!(id.as_str().starts_with("feed_"));
    let parts = id.parts(generator.layout());
    assert_eq!((parts.time, parts.node, parts.sequence), (NOW_MS, 1023, 0));
    let refused = generator.next_id("no spaces").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_clock_that_goes_back_is_no_error() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let generator = start(Arc::new(memory_leases(&clock)), clock.clone()).await;
    let mut ids = vec![generator.next().await.unwrap()];
    for back in [1, 1, 1, 40, 3_600_000] {
        clock.jump(-back);
        ids.extend(generator.next_batch(10).await.unwrap());
    }
    assert!(rises(&ids));
    let stats = generator.stats();
    assert_eq!((stats.waits, stats.rollbacks), (0, 1));
    assert_eq!(stats.borrowed_ms, 3_600_043);
}

#[tokio::test]
async fn a_restart_with_the_clock_set_back_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let mut ids = Vec::new();
    for restart in 0..10 {
        let lease = Arc::new(FixedLease::with_file(3, directory.path().join("ceiling")));
        let generator = start(lease, clock.clone()).await;
        ids.extend(generator.next_batch(5_000).await.unwrap());
        // Every other time as after a crash.
        if restart % 2 == 0 {
            generator.close().await.unwrap();
        }
        drop(generator);
        clock.jump(-60_000);
    }
    assert!(rises(&ids));
}

#[tokio::test]
async fn without_a_keeper_nothing_repeats_after_the_lease_has_ended() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = memory_leases(&clock);
    let forgetful = start(Arc::new(leases.clone()), clock.clone()).await;
    let mut ids: Vec<RawId> = forgetful.next_batch(100).await.unwrap().collect();
    leases.expire(forgetful.stats().node.unwrap());
    // All nodes of the layout, the forgotten one among them.
    let mut successors = Vec::new();
    for _ in 0..1024 {
        successors.push(start(Arc::new(leases.clone()), clock.clone()).await);
    }
    clock.advance(5);
    while let Ok(Some(id)) = forgetful.try_next() {
        ids.push(id);
        clock.advance(1);
    }
    for successor in successors {
        ids.extend(successor.next_batch(10).await.unwrap());
    }
    let (made, ceiling) = (ids.len(), forgetful.stats().ceiling_ms);
    assert!(clock.wall() >= ceiling && made > 10_000);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), made);
    assert_eq!(forgetful.next().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let options = IdOptions { reserve_ahead: Duration::from_millis(9), ..IdOptions::default() };
    let leases = Arc::new(memory_leases(&clock));
    let refused = IdGenerator::start(Layout::default(), leases, clock, options).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidConfig);
}
