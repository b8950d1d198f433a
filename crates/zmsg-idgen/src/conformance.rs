//! The promises of [`NodeLease`] as tests, one for each, that every backend signs.
//!
//! A backend implements [`Harness`] and calls [`conformance!`](crate::conformance!) in its tests.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use uuid::Uuid;
use zmsg_core::{ErrorKind, UnixMillis};

use crate::{Layout, Lease, NodeLease, Reserve};

/// How the suite gets at a backend. Each test has a harness of its own, with no lease held.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The layout that the leases serve. With few nodes, the tests are quick.
    fn layout(&self) -> Layout;

    /// How many nodes can be held at a time: as the layout says, or one for a fixed node.
    fn nodes_max(&self) -> u32 {
        self.layout().nodes()
    }

    /// The same leases, as another process would open them.
    fn open(&self) -> Arc<dyn NodeLease>;

    /// Ends the holder as a crash would: without a release, and late enough that its node is free.
    async fn crash(&self, holder: Arc<dyn NodeLease>, lease: &Lease);

    /// Takes the node from its holder, who does not notice, and leases it to another one.
    async fn steal(&self, lease: &Lease) -> (Arc<dyn NodeLease>, Lease);
}

/// Makes a test of every promise, on the harness that the expression makes.
#[macro_export]
macro_rules! conformance {
    ($harness:expr) => {
        $crate::conformance! { $harness =>
            leases_a_node_to_one_holder_at_a_time,
            gives_different_nodes_to_simultaneous_starters,
            refuses_when_every_node_is_held,
            fits_every_node_into_the_layout,
            extends_every_node_the_first_included,
            reserves_as_far_ahead_as_asked,
            starts_above_the_ceiling_after_a_crash,
            starts_above_the_ceiling_when_the_clock_went_back,
            starts_above_the_last_issued_after_a_release,
            never_releases_below_the_floor,
            keeps_an_extended_ceiling_over_a_crash,
            never_lowers_a_ceiling_by_extending,
            raises_the_epoch_with_each_acquisition,
            refuses_a_stolen_lease_and_changes_nothing,
            refuses_a_released_lease,
            refuses_another_layout,
        }
    };
    ($harness:expr => $($promise:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            $crate::conformance::$promise(&$harness).await;
        }
    )*};
}

const AHEAD: Duration = Duration::from_secs(10);

/// A moment after the default epoch, and before any clock of a test.
const FROM_MS: UnixMillis = Layout::EPOCH_2021_MS + 1_000_000;

fn want(harness: &impl Harness) -> Reserve {
    Reserve { layout: harness.layout(), from_ms: FROM_MS, ahead: AHEAD }
}

async fn acquire(harness: &impl Harness) -> (Arc<dyn NodeLease>, Lease) {
    let holder = harness.open();
    let lease = holder.acquire(want(harness)).await.unwrap_or_else(|error| panic!("{error:?}"));
    (holder, lease)
}

/// Leases all nodes; the holders keep them.
async fn acquire_all(harness: &impl Harness) -> Vec<(Arc<dyn NodeLease>, Lease)> {
    let mut held = Vec::new();
    for _ in 0..harness.nodes_max() {
        held.push(acquire(harness).await);
    }
    held
}

/// Leases the node of `before` again, which has become free, whatever else is free.
async fn acquire_again(harness: &impl Harness, before: &Lease) -> (Arc<dyn NodeLease>, Lease) {
    let mut others = Vec::new();
    for _ in 0..harness.nodes_max() {
        let (holder, lease) = acquire(harness).await;
        if lease.node == before.node {
            return (holder, lease);
        }
        others.push((holder, lease));
    }
    panic!("node {} is not free", before.node);
}

#[track_caller]
fn expect_conflict<T: std::fmt::Debug>(result: zmsg_core::Result<T>) {
    match result {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        Ok(value) => panic!("expected a conflict, got {value:?}"),
    }
}

/// A node is leased to one holder at a time.
pub async fn leases_a_node_to_one_holder_at_a_time(harness: &impl Harness) {
    let held = acquire_all(harness).await;
    let nodes: HashSet<u32> = held.iter().map(|(_, lease)| lease.node).collect();
    assert_eq!(nodes.len(), held.len());
}

/// Starters that come at the same moment get different nodes, and those for whom there is none
/// are told.
pub async fn gives_different_nodes_to_simultaneous_starters(harness: &impl Harness) {
    let mut starters = JoinSet::new();
    for _ in 0..harness.nodes_max() + 3 {
        let (holder, want) = (harness.open(), want(harness));
        starters.spawn(async move { (holder.acquire(want).await, holder) });
    }
    let mut held = HashSet::new();
    let mut holders = Vec::new();
    for (result, holder) in starters.join_all().await {
        match result {
            Ok(lease) => assert!(held.insert(lease.node), "{lease:?}"),
            refused => expect_conflict(refused),
        }
        holders.push(holder);
    }
    // A backend may refuse some while others are still choosing, but not those who come later.
    for _ in held.len()..harness.nodes_max() as usize {
        let (holder, lease) = acquire(harness).await;
        assert!(held.insert(lease.node), "{lease:?}");
        holders.push(holder);
    }
    expect_conflict(harness.open().acquire(want(harness)).await);
}

/// When every node is held, the next starter is refused, and may try again later.
pub async fn refuses_when_every_node_is_held(harness: &impl Harness) {
    let _held = acquire_all(harness).await;
    let refused = harness.open().acquire(want(harness)).await;
    assert!(refused.as_ref().is_err_and(zmsg_core::Error::is_temporary), "{refused:?}");
    expect_conflict(refused);
}

/// Node numbers are those of the layout.
pub async fn fits_every_node_into_the_layout(harness: &impl Harness) {
    for (_, lease) in acquire_all(harness).await {
        assert!(lease.node < harness.layout().nodes(), "{lease:?}");
    }
}

/// Every node can be extended; number 0 is one like the others.
pub async fn extends_every_node_the_first_included(harness: &impl Harness) {
    for (holder, lease) in acquire_all(harness).await {
        let extended = holder.extend(&lease, lease.ceiling_ms + 5_000).await;
        let extended = extended.unwrap_or_else(|error| panic!("{lease:?}: {error:?}"));
        assert_eq!(extended.ceiling_ms, lease.ceiling_ms + 5_000);
        assert_eq!((extended.node, extended.epoch), (lease.node, lease.epoch));
    }
}

/// The ceiling lies exactly as far above the floor as was asked, in milliseconds, or above the
/// holder's present where the backend has no clock of its own.
pub async fn reserves_as_far_ahead_as_asked(harness: &impl Harness) {
    let (_holder, lease) = acquire(harness).await;
    let expected = [lease.floor_ms + 10_000, lease.floor_ms.max(FROM_MS) + 10_000];
    assert!(expected.contains(&lease.ceiling_ms), "{lease:?}");
}

/// After a crash the node's next lease starts at its ceiling or above.
pub async fn starts_above_the_ceiling_after_a_crash(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    harness.crash(holder, &lease).await;
    let (_successor, next) = acquire_again(harness, &lease).await;
    assert!(next.floor_ms >= lease.ceiling_ms, "{lease:?}, {next:?}");
    assert!(next.ceiling_ms >= next.floor_ms + 10_000, "{next:?}");
}

/// The floor does not follow a clock that shows less.
pub async fn starts_above_the_ceiling_when_the_clock_went_back(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    let hour_later = lease.ceiling_ms + 3_600_000;
    let lease = holder.extend(&lease, hour_later).await.unwrap_or_else(|e| panic!("{e:?}"));
    harness.crash(holder, &lease).await;
    let (_successor, next) = acquire_again(harness, &lease).await;
    assert!(next.floor_ms >= hour_later, "{next:?}");
}

/// After a release the next lease starts above the last time that was issued, not at the ceiling.
pub async fn starts_above_the_last_issued_after_a_release(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    let far = lease.ceiling_ms + 3_600_000;
    let lease = holder.extend(&lease, far).await.unwrap_or_else(|e| panic!("{e:?}"));
    let last = lease.ceiling_ms - 5_000;
    holder.release(lease.clone(), last).await.unwrap_or_else(|e| panic!("{e:?}"));
    let (_successor, next) = acquire_again(harness, &lease).await;
    assert_eq!(next.floor_ms, last + 1);
}

/// A holder that issued nothing gives back what it got, no more.
pub async fn never_releases_below_the_floor(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    harness.crash(holder, &lease).await;
    let (holder, second) = acquire_again(harness, &lease).await;
    holder.release(second.clone(), 0).await.unwrap_or_else(|e| panic!("{e:?}"));
    let (_successor, third) = acquire_again(harness, &lease).await;
    assert!(third.floor_ms >= second.floor_ms, "{second:?}, {third:?}");
}

/// What `extend` returned is durable.
pub async fn keeps_an_extended_ceiling_over_a_crash(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    let wanted = lease.ceiling_ms + 77_777;
    let extended = holder.extend(&lease, wanted).await.unwrap_or_else(|e| panic!("{e:?}"));
    assert!(extended.ceiling_ms >= wanted);
    harness.crash(holder, &extended).await;
    let (_successor, next) = acquire_again(harness, &lease).await;
    assert!(next.floor_ms >= extended.ceiling_ms, "{next:?}");
}

/// Asked for a lower ceiling, `extend` renews and keeps the stored one.
pub async fn never_lowers_a_ceiling_by_extending(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    let same = holder.extend(&lease, lease.ceiling_ms - 9_000).await;
    assert_eq!(same.unwrap_or_else(|e| panic!("{e:?}")).ceiling_ms, lease.ceiling_ms);
    harness.crash(holder, &lease).await;
    let (_successor, next) = acquire_again(harness, &lease).await;
    assert!(next.floor_ms >= lease.ceiling_ms, "{next:?}");
}

/// Each acquisition of a node is told from the one before by its epoch and its owner.
pub async fn raises_the_epoch_with_each_acquisition(harness: &impl Harness) {
    let (holder, first) = acquire(harness).await;
    holder.release(first.clone(), first.floor_ms).await.unwrap_or_else(|e| panic!("{e:?}"));
    let (holder, second) = acquire_again(harness, &first).await;
    assert!(second.epoch > first.epoch);
    assert_ne!(second.owner, first.owner);
    harness.crash(holder, &second).await;
    let (_holder, third) = acquire_again(harness, &first).await;
    assert!(third.epoch > second.epoch);
}

/// A lease that another holder has by now is neither extended nor released, and the new holder's
/// stays as it is; neither is one with a wrong epoch or owner.
pub async fn refuses_a_stolen_lease_and_changes_nothing(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    let (thief, stolen) = harness.steal(&lease).await;
    assert_eq!(stolen.node, lease.node);
    assert!(stolen.floor_ms >= lease.ceiling_ms, "{lease:?}, {stolen:?}");

    expect_conflict(holder.extend(&lease, stolen.ceiling_ms + 1_000_000).await);
    expect_conflict(holder.release(lease, 0).await);
    let wrong_owner = Lease { owner: Uuid::new_v4(), ..stolen.clone() };
    expect_conflict(thief.extend(&wrong_owner, stolen.ceiling_ms + 1_000_000).await);

    let renewed = thief.extend(&stolen, 0).await.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(renewed.ceiling_ms, stolen.ceiling_ms);
}

/// A lease that was given back is gone.
pub async fn refuses_a_released_lease(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    holder.release(lease.clone(), lease.floor_ms).await.unwrap_or_else(|e| panic!("{e:?}"));
    expect_conflict(holder.extend(&lease, lease.ceiling_ms).await);
    expect_conflict(holder.release(lease.clone(), 0).await);
    // The same, when the node is held again by the same process.
    let mut held = Vec::new();
    for _ in 0..harness.nodes_max() {
        held.push(holder.acquire(want(harness)).await.unwrap_or_else(|e| panic!("{e:?}")));
    }
    expect_conflict(holder.extend(&lease, lease.ceiling_ms).await);
    for lease in held {
        holder.extend(&lease, 0).await.unwrap_or_else(|e| panic!("{e:?}"));
    }
}

/// Ids of another layout could be equal to those made before.
pub async fn refuses_another_layout(harness: &impl Harness) {
    let (holder, lease) = acquire(harness).await;
    harness.crash(holder, &lease).await;
    let layout = harness.layout();
    let other = Layout::new(
        layout.epoch_ms() + 1,
        layout.time_bits(),
        layout.node_bits(),
        layout.sequence_bits(),
    );
    let layout = other.unwrap_or_else(|error| panic!("{error:?}"));
    let refused = harness.open().acquire(Reserve { layout, ..want(harness) }).await;
    assert!(
        refused.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidConfig),
        "{refused:?}"
    );
}
