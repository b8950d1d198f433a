//! The law in a rough world: a committed row is never absent, on any node.
//!
//! Nodes write, read and rebuild in virtual time; every step of theirs takes a random time, at times
//! longer than many leases, as if the process had been stopped. Servers lose bits in every way there
//! is. Each history follows from its seed. The same histories with one rule left out show that the
//! rule is needed, and that the histories are rough enough to notice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use zmsg_bloom::shared::{SharedFilter, SharedOptions};
use zmsg_bloom::{Insertion, MembershipFilter};
use zmsg_core::{Key, Result};

use super::memory::shared;
use super::world::{Sabotage, Server, Weather, World};

const NODES: usize = 3;
const HISTORY: Duration = Duration::from_secs(20);

fn options() -> SharedOptions {
    SharedOptions {
        capacity: 3_000,
        lease: Duration::from_millis(100),
        takeover_after: Duration::from_secs(2),
        segment_bits_max: 8_192,
        ..SharedOptions::default()
    }
}

#[test]
fn a_committed_row_is_never_absent_whatever_fails() {
    let mut total = Outcome::default();
    for seed in 0..150 {
        let outcome = history(seed, Sabotage::None);
        assert_eq!(outcome.false_absents, 0, "seed {seed}");
        assert_eq!(outcome.stale_absents, 0, "seed {seed}");
        total.absents += outcome.absents;
        total.commits += outcome.commits;
        total.rebuilds += outcome.rebuilds;
    }
    // The histories are worth something only if the filter is of use in them.
    assert!(total.absents > 10_000 && total.commits > 10_000, "{total:?}");
    assert!(total.rebuilds > 500, "{total:?}");
}

#[test]
fn every_rule_is_needed() {
    for sabotage in [
        Sabotage::NoVersionCheck,
        Sabotage::NoLease,
        Sabotage::NoIdentity,
        Sabotage::NoWait,
        Sabotage::NoSentinel,
    ] {
        let noticed = (0..300).any(|seed| history(seed, sabotage).false_absents > 0);
        assert!(noticed, "{sabotage:?} was not noticed");
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    false_absents: u64,
    /// Those of a row that was committed after the question, and longer than a lease ago.
    stale_absents: u64,
    absents: u64,
    commits: u64,
    rebuilds: u64,
}

#[derive(Debug, Default)]
struct Tally {
    false_absents: AtomicU64,
    stale_absents: AtomicU64,
    absents: AtomicU64,
    rebuilds: AtomicU64,
}

fn history(seed: u64, sabotage: Sabotage) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let weather = Weather {
            pause_one_in: 25,
            pause_max: Duration::from_millis(600),
            retire_fails: seed % 2 == 1,
        };
        let world = Arc::new(World::new(seed, sabotage, weather));
        let tally = Arc::new(Tally::default());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let clock = (sabotage != Sabotage::NoLease).then(Instant::now);
        for node in 0..NODES {
            let filter = shared(&world, node, options(), clock);
            let keeper = filter.keeper().run(stop.clone());
            tasks.spawn(async move { keeper.await.unwrap() });
            for writer in 0..2 {
                tasks.spawn(write(Arc::clone(&world), filter.clone(), node * 2 + writer));
            }
            for _ in 0..2 {
                tasks.spawn(read(Arc::clone(&world), filter.clone(), Arc::clone(&tally)));
            }
            tasks.spawn(build(Arc::clone(&world), filter, Arc::clone(&tally)));
        }
        tasks.spawn(break_things(Arc::clone(&world)));
        sleep(HISTORY).await;
        stop.cancel();
        tasks.shutdown().await;
        Outcome {
            false_absents: tally.false_absents.load(Relaxed),
            stale_absents: tally.stale_absents.load(Relaxed),
            absents: tally.absents.load(Relaxed),
            commits: world.state().table.len() as u64,
            rebuilds: tally.rebuilds.load(Relaxed),
        }
    })
}

async fn write(world: Arc<World>, filter: SharedFilter, writer: usize) {
    for row in 0.. {
        let key = Key::new(format!("w{writer}:{row}")).unwrap();
        world.state().coming.insert(writer, key.clone());
        // Some rows come about behind the filter's back.
        let told = !world.one_in(60);
        while !write_once(&world, &filter, &key, told).await {
            world.pause().await;
        }
        world.pause().await;
    }
}

/// One attempt; false if it has to be made again.
async fn write_once(world: &World, filter: &SharedFilter, key: &Key, told: bool) -> bool {
    let announced: Result<Insertion> = match told {
        true => filter.insert(std::slice::from_ref(key)).await,
        false => filter.distrust().await,
    };
    let Ok(insertion) = announced else { return false };
    world.pause().await;
    let transaction = world.begin();
    world.pause().await;
    let passed = world.guard(insertion.version());
    world.pause().await;
    match passed {
        true => world.commit(transaction, key),
        false => {
            world.roll_back(transaction);
            insertion.outdated();
        }
    }
    passed
}

async fn read(world: Arc<World>, filter: SharedFilter, tally: Arc<Tally>) {
    loop {
        sleep(Duration::from_millis(world.random(|random| random.u64(1..8)))).await;
        let committed = {
            let state = world.state();
            let newest = state.recent.len().saturating_sub(10);
            let from = if world.one_in(3) { 0 } else { newest };
            let among = &state.recent[from..];
            (!among.is_empty()).then(|| world.random(|random| random.choice(among).cloned()))
        };
        if let Some(Some(key)) = committed
            && filter.confirm_absent(&key).await.unwrap_or(false)
        {
            tally.false_absents.fetch_add(1, Relaxed);
        }
        let coming: Vec<Key> = world.state().coming.values().cloned().collect();
        if let Some(key) = world.random(|random| random.choice(&coming).cloned())
            && filter.confirm_absent(&key).await.unwrap_or(false)
            && world.state().committed.get(&key).is_some_and(|at| at.elapsed() > options().lease)
        {
            tally.stale_absents.fetch_add(1, Relaxed);
        }
        let nobody = Key::new(format!("nobody{}", world.random(|random| random.u32(..)))).unwrap();
        if filter.confirm_absent(&nobody).await.unwrap_or(false) {
            tally.absents.fetch_add(1, Relaxed);
        }
    }
}

async fn build(world: Arc<World>, filter: SharedFilter, tally: Arc<Tally>) {
    loop {
        sleep(Duration::from_millis(world.random(|random| random.u64(20..400)))).await;
        if !filter.stats().wants_rebuild && !world.one_in(4) {
            continue;
        }
        if build_once(&world, &filter).await.is_ok() {
            tally.rebuilds.fetch_add(1, Relaxed);
        }
    }
}

async fn build_once(world: &World, filter: &SharedFilter) -> Result<()> {
    let rebuild = filter.begin_rebuild(0).await?;
    // A scan in pages, each as the table is at that moment.
    let mut after: Option<Key> = None;
    loop {
        let page: Vec<Key> = {
            let table: &BTreeSet<Key> = &world.state().table;
            let rest = table.iter().filter(|key| after.as_ref().is_none_or(|after| *key > after));
            rest.take(400).cloned().collect()
        };
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        world.pause().await;
        filter.seed(&rebuild, &page).await?;
        if world.one_in(40) {
            return Ok(());
        }
    }
    filter.finish_rebuild(rebuild).await
}

/// What happens to servers: lost data, old data, a new master beside the old one, silence.
async fn break_things(world: Arc<World>) {
    let mut saved: Option<Server> = None;
    loop {
        sleep(Duration::from_millis(world.random(|random| random.u64(100..1_500)))).await;
        let what = world.random(|random| random.u32(0..10));
        let away = Duration::from_millis(world.random(|random| random.u64(1..500)));
        let node = world.random(|random| random.usize(0..NODES));
        let current = world.state().connected.get(&node).copied().unwrap_or_default();
        let lost_segment = world.random(|random| random.usize(..));
        match what {
            0..3 => saved = Some(world.state().servers[current].clone()),
            // Restarted with what it had saved, if anything.
            3 => {
                let mut state = world.state();
                let number = state.servers.len();
                let old = saved.clone().unwrap_or_default();
                state.servers[current] = Server { down: false, ..old };
                state.servers[current].identity = format!("restarted{number}");
                // The number of servers numbers the identities.
                state.servers.push(Server::new(number));
            }
            4 => world.state().servers[current].generations.clear(),
            // One string is evicted, or the hash of a generation.
            5 => {
                let mut state = world.state();
                if let Some(bits) = state.servers[current].generations.values_mut().next() {
                    let count = bits.segments.len();
                    bits.segments[lost_segment % count] = None;
                }
            }
            6 => {
                let mut state = world.state();
                let name = state.servers[current].generations.keys().next().cloned();
                if let Some(name) = name {
                    state.servers[current].generations.remove(&name);
                }
            }
            // A replica that lags is promoted; the clients find out one after the other.
            7 | 8 => {
                let replica = {
                    let mut state = world.state();
                    let number = state.servers.len();
                    let old = saved.clone().unwrap_or_default();
                    state.servers.push(Server { down: false, ..old });
                    state.servers[number].identity = format!("promoted{number}");
                    number
                };
                for node in 0..NODES {
                    sleep(away / 2).await;
                    world.state().connected.insert(node, replica);
                }
            }
            _ => {
                world.state().servers[current].down = true;
                sleep(away).await;
                world.state().servers[current].down = false;
            }
        }
    }
}
