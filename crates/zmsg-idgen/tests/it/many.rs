//! Sixty-four generators with clocks of their own, through everything that can befall them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use zmsg_core::{Clock, ManualClock};
use zmsg_idgen::{
    FileLease, IdGenerator, IdOptions, Layout, LeaseKeeper, MemoryLeases, NodeLease, RawId,
};

use crate::clocks::NOW_MS;

/// All clocks move by multiples of this, so that holders of one node meet in one millisecond.
const STEP_MS: u64 = 500;
const HOUR_STEPS: i64 = 7_200;

/// What the world does to its members.
trait World {
    /// The true time; members' clocks stray from it.
    fn clock(&self) -> &ManualClock;
    /// The leases, as a starting process opens them.
    fn open(&self) -> Arc<dyn NodeLease>;
    /// A node is taken from its holder, where that is possible.
    fn steal(&self, node: u32);
}

struct Database {
    clock: Arc<ManualClock>,
    leases: MemoryLeases,
}

impl World for Database {
    fn clock(&self) -> &ManualClock {
        &self.clock
    }
    fn open(&self) -> Arc<dyn NodeLease> {
        Arc::new(self.leases.clone())
    }
    fn steal(&self, node: u32) {
        self.leases.expire(node);
    }
}

struct Disk {
    clock: ManualClock,
    directory: TempDir,
}

impl World for Disk {
    fn clock(&self) -> &ManualClock {
        &self.clock
    }
    fn open(&self) -> Arc<dyn NodeLease> {
        Arc::new(FileLease::new(self.directory.path()))
    }
    fn steal(&self, _node: u32) {}
}

/// A process: a clock that is wrong in its own way, and a generator until the next crash.
struct Member {
    clock: Arc<ManualClock>,
    generator: IdGenerator,
    keeper: LeaseKeeper,
    last: Option<RawId>,
}

impl Member {
    async fn start(world: &impl World, layout: Layout, clock: Arc<ManualClock>) -> Self {
        loop {
            let started =
                IdGenerator::start(layout, world.open(), clock.clone(), IdOptions::default());
            if let Ok(generator) = started.await {
                let keeper = generator.keeper();
                return Self { clock, generator, keeper, last: None };
            }
            // Every node is held, by the dead too: until their leases end.
            world.clock().advance(1_000);
        }
    }

    /// Takes up to `want` ids, one by one or in batches; fewer where it would have to wait.
    fn take(&mut self, want: usize, singly: bool, out: &mut Vec<u64>) {
        let begin = out.len();
        while out.len() - begin < want {
            let left = if singly { 1 } else { want - (out.len() - begin) };
            let Ok(batch) = self.generator.try_next_batch(left) else { return };
            if batch.len() == 0 {
                return;
            }
            for id in batch {
                assert!(self.last.replace(id) < Some(id), "ids of one generator rise");
                out.push(id.get());
            }
        }
    }

    /// Its clock jumps: mostly to about the true time, where holders of one node would meet, and
    /// often to any within the hour.
    fn jump(&self, world: &impl World, rng: &mut Rng) {
        let strays_max = if rng.u32(0..3) == 0 { HOUR_STEPS } else { 40 };
        let stray = rng.i64(-strays_max..=strays_max) * STEP_MS.cast_signed();
        let target = world.clock().wall().checked_add_signed(stray).unwrap();
        self.clock.jump(target.cast_signed() - self.clock.wall().cast_signed());
    }
}

/// Sixty-four such processes, or fewer, and what they made.
struct Life<'a, W> {
    world: &'a W,
    layout: Layout,
    members: Vec<Member>,
    rng: Rng,
    all: Vec<u64>,
    lost: u64,
    restarts: u64,
}

impl<'a, W: World> Life<'a, W> {
    async fn begin(world: &'a W, layout: Layout, members: usize, seed: u64) -> Self {
        let rng = Rng::with_seed(seed);
        let mut life =
            Self { world, layout, members: vec![], rng, all: vec![], lost: 0, restarts: 0 };
        for _ in 0..members {
            let clock = Arc::new(ManualClock::new(world.clock().wall()));
            let member = Member::start(world, layout, clock).await;
            member.jump(world, &mut life.rng);
            life.members.push(member);
        }
        life
    }

    async fn step(&mut self) {
        let index = self.rng.usize(0..self.members.len());
        let member = &mut self.members[index];
        match self.rng.u32(0..100) {
            0..=64 => member.take(self.rng.usize(1..=1_500), self.rng.bool(), &mut self.all),
            65..=79 => self.pass(1),
            80..=84 => member.jump(self.world, &mut self.rng),
            // Nobody runs while time goes on, long enough for leases to end and ceilings to pass.
            85 => self.pass(80),
            86..=88 => {
                let stolen = member.generator.stats().node;
                if let Some(node) = stolen {
                    self.world.steal(node);
                }
                // The holder knows nothing of it, and somebody comes who finds the node free.
                self.restart(self.rng.clone().usize(0..self.members.len()), false).await;
            }
            89..=95 => {
                let _every_node_may_be_held = member.keeper.renew().await;
            }
            _ => self.restart(index, self.rng.clone().bool()).await,
        }
    }

    fn pass(&mut self, steps_max: u64) {
        let millis = self.rng.u64(0..=steps_max) * STEP_MS;
        self.world.clock().advance(millis);
        self.members.iter().for_each(|member| member.clock.advance(millis));
    }

    async fn restart(&mut self, index: usize, orderly: bool) {
        let member = self.members.swap_remove(index);
        self.restarts += 1;
        self.lost += member.generator.stats().leases_lost;
        if orderly {
            // Refused where the lease was lost and nobody noticed.
            let _ = member.generator.close().await;
        }
        let clock = Arc::clone(&member.clock);
        // As `kill -9`: dropped where it stands. The file locks go with it.
        drop(member);
        self.members.push(Member::start(self.world, self.layout, clock).await);
    }
}

/// Runs until `total` ids are made, and looks for one that was made twice.
async fn live(world: &impl World, layout: Layout, members: usize, total: usize, seed: u64) {
    let mut life = Life::begin(world, layout, members, seed).await;
    while life.all.len() < total {
        life.step().await;
    }
    let Life { mut all, restarts, mut lost, members, .. } = life;
    lost += members.iter().map(|member| member.generator.stats().leases_lost).sum::<u64>();
    eprintln!("{} ids, {restarts} restarts, {lost} leases lost", all.len());
    assert!(restarts > 50, "{restarts}");
    expect_shared_nodes(&all, layout, members.len());
    all.sort_unstable();
    let duplicate = all.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(duplicate, None, "seed {seed}");
}

/// The run proves nothing unless nodes went from hand to hand.
fn expect_shared_nodes(all: &[u64], layout: Layout, members: usize) {
    let mut by_node: HashMap<u32, usize> = HashMap::new();
    for raw in all.iter().step_by(64) {
        *by_node.entry(layout.decode(RawId::new(*raw).unwrap()).node).or_default() += 1;
    }
    assert!(by_node.len() > members / 2, "{by_node:?}");
}

#[tokio::test]
async fn ten_million_ids_of_sixty_four_generators_without_a_duplicate() {
    // No more nodes than members: one that is free is taken at once.
    let layout = Layout::new(Layout::EPOCH_2021_MS, 45, 6, 12).unwrap();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let leases = MemoryLeases::new(clock.clone(), Duration::from_secs(30));
    live(&Database { clock, leases }, layout, 64, 10_000_000, 0x5eed).await;
}

#[tokio::test]
async fn crashes_and_jumps_on_files_make_no_duplicate() {
    let layout = Layout::new(Layout::EPOCH_2021_MS, 44, 3, 16).unwrap();
    let disk = Disk { clock: ManualClock::new(NOW_MS), directory: tempfile::tempdir().unwrap() };
    live(&disk, layout, 6, 1_000_000, 0xd15c).await;
}
