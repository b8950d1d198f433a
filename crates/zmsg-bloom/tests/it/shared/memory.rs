//! The shared filter over memory, against the suite, and its ways in the small.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_bloom::conformance::Harness;
use zmsg_bloom::shared::{SharedFilter, SharedOptions};
use zmsg_bloom::{FilterState, MembershipFilter, Verdict};
use zmsg_core::{ErrorKind, Key};

use super::bits::MemoryBits;
use super::registry::MemoryRegistry;
use super::world::{Sabotage, TestClock, Weather, World};

struct Memory;

impl Harness for Memory {
    async fn filter(&self, capacity: u64) -> Arc<dyn MembershipFilter> {
        let options = SharedOptions { capacity, ..quick() };
        Arc::new(node(&Arc::new(World::calm()), 0, options).await)
    }

    fn rebuilds(&self) -> usize {
        40
    }
}

zmsg_bloom::conformance!(Memory);

#[tokio::test]
async fn a_second_node_trusts_what_the_first_has_built_and_wants_no_rebuild() {
    let world = Arc::new(World::calm());
    let first = node(&world, 0, quick()).await;
    assert!(first.stats().wants_rebuild);
    rebuild(&first, &["a"]).await;
    let second = node(&world, 1, quick()).await;
    let stats = second.stats();
    assert_eq!((stats.state, stats.wants_rebuild), (FilterState::Ready, false), "{stats:?}");
    assert!(!second.confirm_absent(&key("a")).await.unwrap());
    assert!(second.confirm_absent(&key("b")).await.unwrap());
    // What was asked for and found is known from then on.
    assert_eq!(second.check("a"), Verdict::Maybe);
    drop(first.insert(&[key("b")]).await.unwrap());
    assert_eq!(second.check("b"), Verdict::Absent, "a guess");
    assert!(!second.confirm_absent(&key("b")).await.unwrap());
}

#[tokio::test]
async fn an_absence_counts_only_for_scopes_that_were_seeded() {
    let world = Arc::new(World::calm());
    let filter = node(&world, 0, quick()).await;
    let mut rebuild = filter.begin_rebuild(10).await.unwrap();
    rebuild.cover("feeds");
    filter.finish_rebuild(rebuild).await.unwrap();
    assert!(filter.covers("feeds") && !filter.covers("notes"));
    assert!(filter.confirm_absent_in("feeds", &key("a")).await.unwrap());
    assert!(!filter.confirm_absent_in("notes", &key("a")).await.unwrap());
    drop(filter.distrust().await.unwrap());
    assert!(!filter.covers("feeds"));
}

#[tokio::test]
async fn a_write_under_a_version_that_is_gone_is_refused_and_admitted_anew() {
    let world = Arc::new(World::calm());
    let (first, second) = (node(&world, 0, quick()).await, node(&world, 1, quick()).await);
    let early = second.insert(&[key("a")]).await.unwrap();
    rebuild(&first, &[]).await;
    assert!(!world.guard(early.version()));
    early.outdated();
    let again = second.insert(&[key("a")]).await.unwrap();
    assert!(world.guard(again.version()));
    assert!(!first.confirm_absent(&key("a")).await.unwrap());
}

#[tokio::test]
async fn a_write_without_keys_is_not_checked() {
    let filter = node(&Arc::new(World::calm()), 0, quick()).await;
    assert_eq!(filter.insert(&[]).await.unwrap().version(), None);
}

#[tokio::test(start_paused = true)]
async fn writes_with_the_backend_down_wait_once() {
    let world = Arc::new(World::calm());
    let options = SharedOptions { lease: Duration::from_millis(800), ..quick() };
    let (first, second) = (node(&world, 0, options).await, node(&world, 1, options).await);
    rebuild(&first, &["a"]).await;
    drop(second.insert(&[key("b")]).await.unwrap());
    world.state().servers[0].down = true;
    let took = |began: Duration| world.now() - began;

    let began = world.now();
    let insertion = first.insert(&[key("c")]).await.unwrap();
    assert!(took(began) >= Duration::from_secs(1), "{:?}", took(began));
    assert!(took(began) < Duration::from_millis(1_300), "{:?}", took(began));
    assert!(world.guard(insertion.version()));
    assert_eq!(first.shared_stats().dropped, 1);

    // The other node finds the state settled.
    let began = world.now();
    let mut insertion = second.insert(&[key("d")]).await.unwrap();
    if !world.guard(insertion.version()) {
        insertion.outdated();
        insertion = second.insert(&[key("d")]).await.unwrap();
    }
    assert!(world.guard(insertion.version()));
    for number in 0..10 {
        let insertion = first.insert(&[key(&format!("e{number}"))]).await.unwrap();
        assert!(world.guard(insertion.version()));
    }
    assert!(took(began) < Duration::from_millis(300), "{:?}", took(began));
    let stats = first.stats();
    assert_eq!((stats.state, stats.wants_rebuild), (FilterState::Lost, true));
}

#[tokio::test(start_paused = true)]
async fn keys_that_the_backend_is_known_to_have_are_not_sent_again() {
    let world = Arc::new(World::calm());
    let (first, second) = (node(&world, 0, quick()).await, node(&world, 1, quick()).await);
    rebuild(&first, &["seeded"]).await;
    drop(first.insert(&[key("added")]).await.unwrap());
    world.state().servers[0].down = true;
    let began = world.now();
    let insertion = first.insert(&["seeded", "added"].map(key)).await.unwrap();
    assert!(world.now() - began < Duration::from_millis(100));
    assert!(world.guard(insertion.version()));
    assert_eq!(first.shared_stats().dropped, 0);
    world.state().servers[0].down = false;
    for name in ["seeded", "added"] {
        assert!(!second.confirm_absent(&key(name)).await.unwrap(), "{name}");
    }
}

#[tokio::test]
async fn another_node_takes_over_from_a_builder_that_died() {
    let world = Arc::new(World::calm());
    let dying = node(&world, 0, quick()).await;
    let abandoned = dying.begin_rebuild(10).await.unwrap();
    let patient = node(&world, 1, quick()).await;
    let refused = patient.begin_rebuild(10).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(!patient.stats().wants_rebuild && patient.stats().rebuilding);

    let options = SharedOptions { takeover_after: Duration::ZERO, ..quick() };
    let hasty = node(&world, 2, options).await;
    assert!(hasty.stats().wants_rebuild);
    rebuild(&hasty, &["a"]).await;
    // The one that was taken for dead cannot switch any more.
    let late = dying.finish_rebuild(abandoned).await.unwrap_err();
    assert!(matches!(late.kind(), ErrorKind::Conflict | ErrorKind::Unavailable), "{late}");
    assert!(late.is_temporary());
    assert!(hasty.confirm_absent(&key("b")).await.unwrap());
    let kept = world.state().servers[0].generations.len();
    assert_eq!(kept, 1, "leftovers were removed");
}

#[tokio::test]
async fn a_generation_that_was_lost_while_it_was_built_is_never_trusted() {
    let world = Arc::new(World::calm());
    let filter = node(&world, 0, quick()).await;
    let spoiled = filter.begin_rebuild(10).await.unwrap();
    filter.seed(&spoiled, &[key("a")]).await.unwrap();
    world.state().servers[0].generations.clear();
    let refused = filter.finish_rebuild(spoiled).await.unwrap_err();
    assert!(refused.is_temporary(), "{refused}");
    assert_eq!(world.state().row.trusted, None);
    let spoiled = filter.begin_rebuild(10).await.unwrap();
    world.state().servers[0].generations.clear();
    let refused = filter.seed(&spoiled, &[key("a")]).await.unwrap_err();
    assert!(refused.is_temporary(), "{refused}");
    drop(spoiled);
    rebuild(&filter, &["a"]).await;
    assert!(filter.confirm_absent(&key("b")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_absent_once_the_lease_has_ended() {
    let world = Arc::new(World::calm());
    let clock = Some(tokio::time::Instant::now());
    let filter = shared(&world, 0, quick(), clock);
    rebuild(&filter, &[]).await;
    assert!(filter.confirm_absent(&key("a")).await.unwrap());
    tokio::time::advance(quick().lease).await;
    assert!(!filter.confirm_absent(&key("a")).await.unwrap());
    assert_eq!(filter.stats().state, FilterState::Away);
    assert_eq!(filter.check("a"), Verdict::Unknown);

    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(filter.keeper().run(stop.clone()));
    tasks.close();
    let known = async {
        while filter.check("a") == Verdict::Unknown {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), known).await.unwrap();
    tokio::time::sleep(10 * quick().lease).await;
    assert!(filter.confirm_absent(&key("a")).await.unwrap());
    stop.cancel();
    tasks.wait().await;
}

/// With servers that cannot be told that a generation retires.
fn only_leases() -> (Arc<World>, SharedOptions) {
    let weather = Weather { pause_one_in: 0, pause_max: Duration::ZERO, retire_fails: true };
    let options = SharedOptions { lease: Duration::from_millis(800), ..quick() };
    (Arc::new(World::new(1, Sabotage::None, weather)), options)
}

#[tokio::test(start_paused = true)]
async fn a_retired_generation_gets_keys_until_no_reader_trusts_it() {
    let (world, options) = only_leases();
    let clock = Some(tokio::time::Instant::now());
    let builder = shared(&world, 0, options, clock);
    rebuild(&builder, &[]).await;
    let reader = shared(&world, 1, options, clock);
    drop(reader.insert(&[key("to read the state")]).await.unwrap());
    assert!(reader.confirm_absent(&key("a")).await.unwrap());
    rebuild(&builder, &[]).await;
    assert_eq!(world.state().row.retiring, None);
    let insertion = builder.insert(&[key("a")]).await.unwrap();
    assert!(world.guard(insertion.version()));
    assert!(!reader.confirm_absent(&key("a")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_if_a_retiring_generation_does_not_take_its_key() {
    let (world, options) = only_leases();
    let clock = Some(tokio::time::Instant::now());
    let builder = shared(&world, 0, options, clock);
    rebuild(&builder, &[]).await;
    let old = world.state().row.trusted.clone().unwrap();
    let reader = shared(&world, 1, options, clock);
    drop(reader.insert(&[key("to read the state")]).await.unwrap());
    let next = builder.begin_rebuild(10).await.unwrap();
    tokio::select! {
        biased;
        ended = builder.finish_rebuild(next) => panic!("it waits: {ended:?}"),
        () = tokio::time::sleep(Duration::from_millis(10)) => {}
    }
    assert_eq!(world.state().row.retiring.as_ref(), Some(&old));
    // The writer reaches the same server, by a way on which the old generation is gone.
    {
        let mut state = world.state();
        let mut other = state.servers[0].clone();
        other.generations.remove(&old.shape().unwrap().name());
        state.servers.push(other);
        state.connected.insert(2, 1);
    }
    let writer = shared(&world, 2, options, clock);
    let insertion = writer.insert(&[key("a")]).await.unwrap();
    assert!(world.guard(insertion.version()));
    assert!(world.state().row.trusted.is_some() && world.state().row.retiring.is_none());
    assert!(!reader.confirm_absent(&key("a")).await.unwrap());
}

#[test]
fn options_that_cannot_work_are_refused() {
    for options in [
        SharedOptions { capacity: 0, ..quick() },
        SharedOptions { lease: Duration::ZERO, ..quick() },
        SharedOptions { lease: Duration::from_millis(1_001), ..quick() },
        SharedOptions { segment_bits_max: 1 << 33, ..quick() },
    ] {
        let world = Arc::new(World::calm());
        let (registry, bits) = parts(&world, 0);
        let refused =
            SharedFilter::new(registry, bits, Arc::new(TestClock(None)), options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidConfig, "{options:?}");
    }
}

/// Waits are short, and several segments even for a few keys.
pub(super) fn quick() -> SharedOptions {
    SharedOptions {
        capacity: 1_000,
        lease: Duration::from_millis(4),
        segment_bits_max: 4_096,
        ..SharedOptions::default()
    }
}

/// A node whose lease never ends, which a calm world allows, and which has read the state.
async fn node(world: &Arc<World>, number: usize, options: SharedOptions) -> SharedFilter {
    let filter = shared(world, number, options, None);
    drop(filter.insert(&[key("to read the state")]).await.unwrap());
    filter
}

pub(super) fn shared(
    world: &Arc<World>,
    node: usize,
    options: SharedOptions,
    clock: Option<tokio::time::Instant>,
) -> SharedFilter {
    let (registry, bits) = parts(world, node);
    SharedFilter::new(registry, bits, Arc::new(TestClock(clock)), options).unwrap()
}

fn parts(world: &Arc<World>, node: usize) -> (Arc<MemoryRegistry>, Arc<MemoryBits>) {
    let bits = MemoryBits { world: Arc::clone(world), node };
    (Arc::new(MemoryRegistry(Arc::clone(world))), Arc::new(bits))
}

async fn rebuild(filter: &SharedFilter, keys: &[&str]) {
    let rebuild = filter.begin_rebuild(keys.len() as u64).await.unwrap();
    let keys: Vec<Key> = keys.iter().map(|text| key(text)).collect();
    filter.seed(&rebuild, &keys).await.unwrap();
    filter.finish_rebuild(rebuild).await.unwrap();
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}
