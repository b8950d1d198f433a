//! Random writers, deleters, flushes and readers, interleaved at every await: on two nodes that
//! share an L2, and on one that has only the fence of L1.
//!
//! Three laws, whatever the interleaving:
//! - a read never gives a state older than the last write that this node had finished before the
//!   read began;
//! - when all is quiet, L2 gives what the database has;
//! - when all is quiet, so does L1 on the node of the last commit, at once, and on every node once
//!   [`CachePolicy::local_ttl`] has passed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use zmsg_cache::{
    CachePolicy, HoldToken, Lookup, NoRemote, Origin, RemoteCache, Stretch, TieredCache,
};
use zmsg_core::{Key, Level, Result};

use crate::support::{Cluster, FlakyRemote, bytes, key, policy};

/// One task: it starts after so many turns of the others, on this node.
#[derive(Clone, Copy, Debug)]
struct Step {
    start: u32,
    node: usize,
    act: Act,
}

/// What one task does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Read,
    ReadMany,
    Write,
    Delete,
    /// A write whose outcome the writer does not learn.
    LoseTrack {
        committed: bool,
    },
    /// A write whose future is dropped.
    Cancel {
        committed: bool,
    },
    /// A commit by another route, then an invalidation.
    Flush,
    /// A write that is shown when it is accepted, and applied by another task.
    Defer,
    Clear,
    /// Time passes.
    Pass(u64),
    /// L2 is away for a while.
    Break {
        applies: bool,
    },
}

fn steps(with_failures: bool) -> impl Strategy<Value = Vec<Step>> {
    let committed = any::<bool>();
    let lossy = if with_failures {
        any::<bool>().prop_map(|applies| Act::Break { applies }).boxed()
    } else {
        // A hold that is dropped while L2 is away cannot be made up for by the cache alone.
        committed.prop_map(|committed| Act::Cancel { committed }).boxed()
    };
    let act = prop_oneof![
        6 => Just(Act::Read),
        1 => Just(Act::ReadMany),
        5 => Just(Act::Write),
        2 => Just(Act::Delete),
        1 => committed.prop_map(|committed| Act::LoseTrack { committed }),
        2 => lossy,
        2 => Just(Act::Flush),
        2 => Just(Act::Defer),
        1 => Just(Act::Clear),
        2 => (500_u64..4_000).prop_map(Act::Pass),
    ];
    let step = (0_u32..120, 0..2_usize, act);
    prop::collection::vec(step.prop_map(|(start, node, act)| Step { start, node, act }), 2..24)
}

/// Yields a random number of times wherever the model awaits.
#[derive(Debug)]
struct Chance(Mutex<fastrand::Rng>);

impl Chance {
    async fn pause(&self) {
        let turns = self.0.lock().unwrap().u32(0..6);
        wait(turns).await;
    }
}

async fn wait(turns: u32) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// An L2 that is reached and answers after a while.
#[derive(Debug)]
struct Distant {
    inner: Arc<dyn RemoteCache>,
    chance: Arc<Chance>,
    fills: AtomicUsize,
}

impl Distant {
    async fn trip<T>(&self, effect: impl Future<Output = T> + Send) -> T {
        self.chance.pause().await;
        let answer = effect.await;
        self.chance.pause().await;
        answer
    }
}

#[async_trait]
impl RemoteCache for Distant {
    fn level(&self) -> Level {
        self.inner.level()
    }

    fn retains(&self) -> bool {
        self.inner.retains()
    }

    async fn get(&self, key: &Key) -> Result<Lookup> {
        self.trip(self.inner.get(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Lookup>> {
        self.trip(self.inner.get_many(keys)).await
    }

    async fn fill(
        &self,
        key: &Key,
        value: Option<&Bytes>,
        ttl: Duration,
        since: Stretch,
    ) -> Result<bool> {
        self.fills.fetch_add(1, SeqCst);
        let filled = self.trip(self.inner.fill(key, value, ttl, since)).await;
        self.fills.fetch_sub(1, SeqCst);
        filled
    }

    async fn hold(&self, key: &Key, token: HoldToken, ttl: Duration) -> Result<()> {
        self.trip(self.inner.hold(key, token, ttl)).await
    }

    async fn publish(
        &self,
        key: &Key,
        token: HoldToken,
        value: Option<&Bytes>,
        ttl: Duration,
    ) -> Result<bool> {
        self.trip(self.inner.publish(key, token, value, ttl)).await
    }

    async fn set(&self, key: &Key, value: &Bytes, ttl: Duration) -> Result<()> {
        self.trip(self.inner.set(key, value, ttl)).await
    }

    async fn invalidate(&self, key: &Key, hold: Duration) -> Result<()> {
        self.trip(self.inner.invalidate(key, hold)).await
    }
}

/// All states of the one row, in the order of their commits.
#[derive(Debug)]
struct History {
    states: Mutex<Vec<Option<Bytes>>>,
    values: AtomicUsize,
    chance: Arc<Chance>,
}

impl History {
    /// A value that no other write has.
    fn value(&self) -> Bytes {
        bytes(self.values.fetch_add(1, SeqCst).to_string())
    }

    /// Commits a state and gives its version.
    async fn commit(&self, state: Option<Bytes>) -> usize {
        self.chance.pause().await;
        let version = {
            let mut states = self.states.lock().unwrap();
            states.push(state);
            states.len() - 1
        };
        self.chance.pause().await;
        version
    }

    fn last(&self) -> (usize, Option<Bytes>) {
        let states = self.states.lock().unwrap();
        (states.len() - 1, states.last().cloned().flatten())
    }

    fn has_since(&self, version: usize, state: &Option<Bytes>) -> bool {
        self.states.lock().unwrap()[version..].contains(state)
    }
}

#[async_trait]
impl Origin for History {
    async fn load(&self, _: &Key) -> Result<Option<Bytes>> {
        self.chance.pause().await;
        let (_, state) = self.last();
        self.chance.pause().await;
        Ok(state)
    }
}

/// The engine's part on one node: it commits, publishes, and repairs what L2 did not take.
struct Node {
    cache: TieredCache,
    /// The newest version that a finished write of this node committed.
    finished: AtomicUsize,
    /// The newest version that this node committed.
    committed: AtomicUsize,
}

struct World {
    cluster: Cluster,
    distant: Arc<Distant>,
    flaky: Arc<FlakyRemote>,
    history: Arc<History>,
    chance: Arc<Chance>,
    nodes: Vec<Node>,
    key: Key,
    /// The values of writes that were accepted and are not applied: readers may see them.
    pending: Mutex<HashSet<Bytes>>,
}

impl World {
    fn new(seed: u64, nodes: usize) -> Arc<Self> {
        let chance = Arc::new(Chance(Mutex::new(fastrand::Rng::with_seed(seed))));
        let (cluster, flaky) = Cluster::flaky();
        let inner = if nodes == 1 { Arc::new(NoRemote) } else { cluster.remote.clone() };
        let distant =
            Arc::new(Distant { inner, chance: chance.clone(), fills: AtomicUsize::new(0) });
        let cluster = Cluster { remote: distant.clone(), ..cluster };
        let (states, values) = (Mutex::new(vec![None]), AtomicUsize::new(0));
        let history = Arc::new(History { states, values, chance: chance.clone() });
        let nodes = (0..nodes).map(|_| Node {
            cache: cluster.node_with(short_lived()),
            finished: AtomicUsize::new(0),
            committed: AtomicUsize::new(0),
        });
        let nodes = nodes.collect();
        let (key, pending) = (key(1), Mutex::default());
        Arc::new(Self { cluster, distant, flaky, history, chance, nodes, key, pending })
    }

    async fn act(&self, Step { start, node, act }: Step) {
        wait(start).await;
        let node = &self.nodes[node % self.nodes.len()];
        match act {
            Act::Read | Act::ReadMany => self.read(node, matches!(act, Act::ReadMany)).await,
            Act::Write => self.write(node, true).await,
            Act::Delete => self.write(node, false).await,
            Act::LoseTrack { committed } => {
                let hold = node.cache.begin_write(&self.key).await;
                let version = if committed { self.commit_new(node).await } else { 0 };
                let abandoned = node.cache.abandon(hold).await;
                self.finish(node, version, abandoned).await;
            }
            Act::Cancel { committed } => {
                let hold = node.cache.begin_write(&self.key).await;
                if committed {
                    self.commit_new(node).await;
                }
                drop(hold);
            }
            Act::Flush => {
                let version = self.commit_new(node).await;
                let invalidated = node.cache.invalidate(&self.key).await;
                self.finish(node, version, invalidated).await;
            }
            Act::Defer => self.defer(node).await,
            Act::Clear => node.cache.clear_local(),
            Act::Pass(millis) => {
                // The fence of L2 rests on fills arriving before half the hold has passed.
                while self.distant.fills.load(SeqCst) > 0 {
                    tokio::task::yield_now().await;
                }
                self.cluster.pass(Duration::from_millis(millis));
            }
            Act::Break { applies } => {
                self.flaky.set_applies(applies);
                self.flaky.set_broken(true);
                for _ in 0..3 {
                    self.chance.pause().await;
                }
                self.flaky.set_broken(false);
            }
        }
    }

    async fn write(&self, node: &Node, present: bool) {
        let hold = node.cache.begin_write(&self.key).await;
        let state = present.then(|| self.history.value());
        let version = self.commit(node, state.clone()).await;
        let published = node.cache.publish(hold, state, None).await.map(|_| ());
        self.finish(node, version, published).await;
    }

    async fn defer(&self, node: &Node) {
        let (value, untouched) = (self.history.value(), AtomicBool::new(true));
        self.pending.lock().unwrap().insert(value.clone());
        let show = async {
            let still = || untouched.load(SeqCst);
            // A value that L2 did not take is only not shown.
            let _ = node.cache.show(&self.key, Some(value.clone()), None, still).await;
        };
        let apply = async {
            self.chance.pause().await;
            untouched.store(false, SeqCst);
            let version = self.commit(node, Some(value.clone())).await;
            let invalidated = node.cache.invalidate(&self.key).await;
            self.finish(node, version, invalidated).await;
        };
        tokio::join!(show, apply);
        self.pending.lock().unwrap().remove(&value);
    }

    async fn commit_new(&self, node: &Node) -> usize {
        self.commit(node, Some(self.history.value())).await
    }

    async fn commit(&self, node: &Node, state: Option<Bytes>) -> usize {
        let version = self.history.commit(state).await;
        node.committed.fetch_max(version, SeqCst);
        version
    }

    async fn finish(&self, node: &Node, version: usize, mut ended: Result<()>) {
        while ended.is_err() {
            self.chance.pause().await;
            ended = node.cache.invalidate(&self.key).await;
        }
        node.finished.fetch_max(version, SeqCst);
    }

    async fn read(&self, node: &Node, many: bool) {
        let own = node.finished.load(SeqCst);
        let mut pending = self.pending.lock().unwrap().clone();
        let origin: Arc<dyn Origin> = self.history.clone();
        let read = if many {
            node.cache.get_many(&[(self.key.clone(), origin)]).await.remove(0)
        } else {
            node.cache.get_or_load(&self.key, &origin).await
        };
        let read = read.unwrap();
        pending.extend(self.pending.lock().unwrap().iter().cloned());
        let shown = read.as_ref().is_some_and(|value| pending.contains(value));
        let stale = !shown && !self.history.has_since(own, &read);
        assert!(!stale, "{read:?} is older than own version {own}");
    }

    async fn check(&self) {
        let origin: Arc<dyn Origin> = self.history.clone();
        let (version, state) = self.history.last();
        let last = self.nodes.iter().find(|node| node.committed.load(SeqCst) == version);
        if let Some(node) = last {
            let read = node.cache.get_or_load(&self.key, &origin).await.unwrap();
            assert_eq!(read, state, "on the node of the last commit");
        }
        let elsewhere = self.cluster.node();
        let read = elsewhere.get_or_load(&self.key, &origin).await.unwrap();
        assert_eq!(read, state, "in L2");
        self.cluster.pass(short_lived().local_ttl);
        for node in &self.nodes {
            let read = node.cache.get_or_load(&self.key, &origin).await.unwrap();
            assert_eq!(read, state, "after the L1 TTL");
        }
    }
}

/// A policy whose entries expire within a run.
fn short_lived() -> CachePolicy {
    let seconds = Duration::from_secs;
    CachePolicy { ttl: seconds(10), local_ttl: seconds(6), negative_ttl: seconds(2), ..policy() }
}

fn run(nodes: usize, steps: Vec<Step>, seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let world = World::new(seed, nodes);
        let tasks = steps.into_iter().map(|step| {
            let world = world.clone();
            let tracker = world.cluster.tracker.clone();
            tracker.spawn(async move { world.act(step).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        world.cluster.quiet().await;
        world.check().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_on_one_node_leaves_or_shows_a_stale_value(
        steps in steps(false),
        seed: u64,
    ) {
        run(1, steps, seed);
    }

    #[test]
    fn no_interleaving_on_two_nodes_leaves_or_shows_a_stale_value(
        steps in steps(false),
        seed: u64,
    ) {
        run(2, steps, seed);
    }

    #[test]
    fn no_failure_of_l2_leaves_or_shows_a_stale_value_once_repaired(
        steps in steps(true),
        seed: u64,
    ) {
        run(2, steps, seed);
    }
}
