//! The shared filter on real Redis servers: the suite, and what happens to the servers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_bloom::conformance::Harness;
use zmsg_bloom::shared::{RedisBits, SharedBits, SharedFilter, SharedGeneration, SharedOptions};
use zmsg_bloom::{FilterState, MembershipFilter, Verdict};
use zmsg_core::{ErrorKind, Key, SystemClock};
use zmsg_redis::redis::{Cmd, FromRedisValue, cmd};
use zmsg_redis::{Redis, RedisOptions};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as ServerOptions};

use super::memory::quick;
use super::registry::MemoryRegistry;
use super::world::{TestClock, World};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

struct OnRedis(zmsg_testbed::Redis);

impl Harness for OnRedis {
    async fn filter(&self, capacity: u64) -> Arc<dyn MembershipFilter> {
        let mut options = RedisOptions::from_url(self.0.url()).unwrap();
        options.namespace = self.0.namespace();
        let redis = Redis::open(options, &TaskTracker::new()).unwrap();
        let registry = Arc::new(MemoryRegistry(Arc::new(World::calm())));
        let bits = Arc::new(RedisBits::new(redis, "suite"));
        let options = SharedOptions { capacity, ..quick() };
        // One node: its own lease may last for ever.
        let clock = Arc::new(TestClock(None));
        let filter = SharedFilter::new(registry, bits, clock, options).unwrap();
        drop(filter.insert(&[key("to read the state")]).await.unwrap());
        Arc::new(filter)
    }

    fn rebuilds(&self) -> usize {
        15
    }
}

zmsg_bloom::conformance!(maybe zmsg_testbed::redis().map(OnRedis));

#[tokio::test]
async fn what_one_node_inserts_another_never_rules_out() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (server.node(), server.node());
    one.rebuild(&["a"]).await;
    two.becomes(FilterState::Ready).await;
    assert!(!two.stats().wants_rebuild);
    for number in 0..200 {
        let name = format!("k{number}");
        let before = two.confirm_absent(&key(&name)).await.unwrap();
        drop(one.insert(&[key(&name)]).await.unwrap());
        assert!(!two.confirm_absent(&key(&name)).await.unwrap(), "{name}, absent before: {before}");
    }
    assert!(two.confirm_absent(&key("b")).await.unwrap());
}

#[tokio::test]
async fn a_flush_takes_the_trust_until_a_rebuild() {
    let Some(server) = Server::start() else { return };
    let node = server.node();
    node.rebuild(&["a"]).await;
    let _: String = server.ask(&cmd("FLUSHALL")).await;
    assert!(!node.confirm_absent(&key("b")).await.unwrap());
    let stats = node.stats();
    assert_eq!((stats.state, stats.wants_rebuild), (FilterState::Lost, true));
    drop(node.insert(&[key("c")]).await.unwrap());
    assert_eq!(node.check("b"), Verdict::Unknown);
    node.rebuild(&["a", "c"]).await;
    assert!(node.confirm_absent(&key("b")).await.unwrap());
    assert!(!node.confirm_absent(&key("c")).await.unwrap());
}

#[tokio::test]
async fn a_restart_with_older_data_rules_nothing_out() {
    let Some(server) = Server::start() else { return };
    let node = server.node();
    node.rebuild(&["a"]).await;
    let _: String = server.ask(&cmd("SAVE")).await;
    drop(node.insert(&[key("late")]).await.unwrap());
    server.process.kill();
    server.process.restart();
    let seen = async {
        while node.stats().state != FilterState::Lost {
            assert!(!node.confirm_absent(&key("late")).await.unwrap_or(false));
            sleep(LOOK).await;
        }
    };
    timeout(Duration::from_secs(20), seen).await.unwrap();
    let held: i64 = server.ask(&cmd("DBSIZE")).await;
    assert!(held > 0, "the old data is there");
    node.rebuild(&["a", "late"]).await;
    assert!(!node.confirm_absent(&key("late")).await.unwrap());
    assert!(node.confirm_absent(&key("b")).await.unwrap());
}

#[tokio::test]
async fn writes_go_on_while_the_server_stands_still_and_are_never_ruled_out_afterwards() {
    let Some(server) = Server::start() else { return };
    let (writer, reader) = (server.node(), server.node());
    writer.rebuild(&["a"]).await;
    reader.becomes(FilterState::Ready).await;
    server.process.pause();
    let insertion = timeout(Duration::from_secs(10), writer.insert(&[key("late")])).await;
    let insertion = insertion.unwrap().unwrap();
    assert!(server.world.guard(insertion.version()));
    server.process.resume();
    for _ in 0..100 {
        assert!(!reader.confirm_absent(&key("late")).await.unwrap_or(false));
        sleep(LOOK).await;
    }
}

#[tokio::test]
async fn a_segment_that_was_evicted_is_missed() {
    let Some(server) = Server::start() else { return };
    let node = server.node();
    node.rebuild(&[]).await;
    let keys: Vec<String> = server.ask(cmd("KEYS").arg("*:f:*:*:0")).await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    let _: i64 = server.ask(cmd("DEL").arg(&keys)).await;
    let of_segment = |segment: u32| {
        let row = server.world.state().row.clone();
        let trusted: SharedGeneration = row.trusted.unwrap();
        let shape = trusted.shape().unwrap().clone();
        let name = (0..).map(|n: u32| format!("k{n}")).find(|n| shape.place(n).segment == segment);
        key(&name.unwrap())
    };
    // A key of another segment still has an answer.
    assert!(node.confirm_absent(&of_segment(1)).await.unwrap());
    // A write brings the string back, without its sentinel.
    drop(node.insert(&[of_segment(0)]).await.unwrap());
    assert!(!node.confirm_absent(&of_segment(0)).await.unwrap());
    assert_eq!(node.stats().state, FilterState::Lost);
}

#[tokio::test]
async fn bits_of_another_layout_are_not_reinterpreted() {
    let Some(server) = Server::start() else { return };
    let node = server.node();
    node.rebuild(&["a"]).await;
    let row = server.world.state().row.clone();
    let name = row.trusted.as_ref().unwrap().shape().unwrap().name();
    let hash: Vec<String> = server.ask(cmd("KEYS").arg(format!("*:f:*:{name}"))).await;
    let _: i64 = server.ask(cmd("HSET").arg(&hash[0]).arg("layout").arg("1 2 3")).await;
    assert!(!node.confirm_absent(&key("b")).await.unwrap());
    assert_eq!(node.stats().state, FilterState::Lost);
}

#[tokio::test]
async fn a_node_of_other_parameters_reads_the_generation_as_it_was_made() {
    let Some(server) = Server::start() else { return };
    let one = server.node();
    one.rebuild(&["a"]).await;
    let options = SharedOptions { capacity: 50_000, error_rate: 0.2, ..calm() };
    let two = server.node_with(&server.process, options);
    two.becomes(FilterState::Ready).await;
    drop(two.insert(&[key("b")]).await.unwrap());
    assert!(!one.confirm_absent(&key("b")).await.unwrap());
    assert!(two.confirm_absent(&key("c")).await.unwrap());
    assert_eq!(one.stats().capacity, two.stats().capacity);
}

#[tokio::test]
async fn a_promoted_replica_and_the_old_master_never_rule_out_what_the_other_side_wrote() {
    let Some(server) = Server::start() else { return };
    let Some(replica) = PrivateRedis::start(ServerOptions::new().without_password()) else {
        return;
    };
    let (old_side, new_side) = (server.node(), server.node_with(&replica, calm()));
    old_side.rebuild(&["a"]).await;
    let beside = client(&replica);
    let port = server.process.port().to_string();
    let _: String = beside.query(cmd("REPLICAOF").arg("127.0.0.1").arg(&port)).await.unwrap();
    let synced = async {
        while beside.query::<i64>(&cmd("DBSIZE")).await.unwrap_or(0) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), synced).await.unwrap();
    // A replica answers like one, however its clients got there.
    let error = RedisBits::new(beside.clone(), "feeds");
    let trusted = server.world.state().row.trusted.clone().unwrap();
    let refused = error.probe(&trusted).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");

    let promoted = cmd("REPLICAOF").arg("NO").arg("ONE").to_owned();
    let _: String = beside.query(&promoted).await.unwrap();
    // Both servers hold the same bits; a write on either side has to count for both.
    let insertion = old_side.insert(&[key("old side")]).await.unwrap();
    assert!(server.world.guard(insertion.version()));
    drop(insertion);
    assert!(!new_side.confirm_absent(&key("old side")).await.unwrap_or(false));
    let insertion = new_side.insert(&[key("new side")]).await.unwrap();
    assert!(server.world.guard(insertion.version()));
    drop(insertion);
    assert!(!old_side.confirm_absent(&key("new side")).await.unwrap());
    assert!(!new_side.confirm_absent(&key("old side")).await.unwrap());
    // The new master is where it goes on.
    new_side.rebuild(&["a", "old side", "new side"]).await;
    assert!(!old_side.confirm_absent(&key("new side")).await.unwrap());
    assert!(new_side.confirm_absent(&key("b")).await.unwrap());
}

#[tokio::test]
async fn a_rebuild_removes_what_earlier_ones_left() {
    let Some(server) = Server::start() else { return };
    let node = server.node();
    for _ in 0..3 {
        drop(node.begin_rebuild(10).await.unwrap());
    }
    node.rebuild(&["a"]).await;
    node.rebuild(&["a"]).await;
    let segments = u64::from(quick_segments(&server));
    let held: u64 = server.ask(&cmd("DBSIZE")).await;
    assert_eq!(held, segments + 2, "one generation and the list of them");
}

fn quick_segments(server: &Server) -> u32 {
    let row = server.world.state().row.clone();
    row.trusted.unwrap().shape().unwrap().segments
}

/// A private server, and a database beside it.
struct Server {
    process: PrivateRedis,
    world: Arc<World>,
}

/// A node with its keeper.
struct Node {
    filter: SharedFilter,
    stop: CancellationToken,
}

impl Server {
    fn start() -> Option<Self> {
        let process = PrivateRedis::start(ServerOptions::new().without_password())?;
        Some(Self { process, world: Arc::new(World::calm()) })
    }

    fn node(&self) -> Node {
        self.node_with(&self.process, calm())
    }

    fn node_with(&self, process: &PrivateRedis, options: SharedOptions) -> Node {
        let registry = Arc::new(MemoryRegistry(Arc::clone(&self.world)));
        let bits = Arc::new(RedisBits::new(client(process), "feeds"));
        let filter = SharedFilter::new(registry, bits, Arc::new(SystemClock), options).unwrap();
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(filter.keeper().run(stop.clone()));
        Node { filter, stop }
    }

    async fn ask<T: FromRedisValue>(&self, cmd: &Cmd) -> T {
        client(&self.process).query(cmd).await.unwrap()
    }
}

impl Node {
    async fn becomes(&self, state: FilterState) {
        let becomes = async {
            while self.stats().state != state {
                sleep(LOOK).await;
            }
        };
        timeout(Duration::from_secs(20), becomes).await.unwrap();
    }

    /// A rebuild, tried again as the engine does, which reads the source anew.
    async fn rebuild(&self, keys: &[&str]) {
        let keys: Vec<Key> = keys.iter().map(|text| key(text)).collect();
        let rebuilt = async {
            while let Err(error) = self.rebuild_once(&keys).await {
                assert!(error.is_temporary() || error.is_outcome_unknown(), "{error}");
                sleep(LOOK).await;
            }
        };
        timeout(Duration::from_secs(20), rebuilt).await.unwrap();
        self.becomes(FilterState::Ready).await;
    }

    async fn rebuild_once(&self, keys: &[Key]) -> zmsg_core::Result<()> {
        let rebuild = self.begin_rebuild(keys.len() as u64).await?;
        self.seed(&rebuild, keys).await?;
        self.finish_rebuild(rebuild).await
    }
}

impl std::ops::Deref for Node {
    type Target = SharedFilter;

    fn deref(&self) -> &SharedFilter {
        &self.filter
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A lease that a busy machine keeps, and several segments.
fn calm() -> SharedOptions {
    SharedOptions { lease: Duration::from_millis(600), ..quick() }
}

fn client(process: &PrivateRedis) -> Redis {
    let options = RedisOptions::from_url(&process.url()).unwrap();
    Redis::open(options, &TaskTracker::new()).unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}
