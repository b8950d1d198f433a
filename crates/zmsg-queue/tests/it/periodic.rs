//! Periodic tasks: each firing is enqueued once, whoever runs, stops, or has the wrong time.

mod outages;
pub(crate) mod nodes;
mod killed;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Clock, ErrorKind, Millis, Result, TaskId, UnixMillis};
use zmsg_queue::{
    Agenda, Firing, LeasedTask, MemoryQueueOptions, MemoryTaskQueue, Missed, NewTask, PeriodicTask,
    PeriodicTasks, Schedule, TaskQueue,
};

use crate::clock::TokioClock;
use crate::flaky::Flaky;

const HOUR: u64 = 3_600_000;
const LEASE: Duration = Duration::from_secs(30);

/// A clock in tokio's time that somebody sets.
#[derive(Debug)]
struct SetClock {
    time: Arc<TokioClock>,
    off: AtomicI64,
}

impl SetClock {
    fn right(time: &Arc<TokioClock>) -> Arc<Self> {
        Arc::new(Self { time: Arc::clone(time), off: AtomicI64::new(0) })
    }

    fn set_on(&self, millis: i64) {
        self.off.fetch_add(millis, SeqCst);
    }
}

impl Clock for SetClock {
    fn wall(&self) -> UnixMillis {
        // Well behind the epoch, so that it may be set back.
        (100 * HOUR + self.time.wall()).saturating_add_signed(self.off.load(SeqCst))
    }

    fn coarse(&self) -> Millis {
        self.time.coarse()
    }
}

/// A queue in memory, whose clock is right, in paused time.
struct World {
    time: Arc<TokioClock>,
    clock: Arc<SetClock>,
    queue: Arc<Flaky>,
}

/// A process that runs the schedules.
struct Node {
    clock: Arc<SetClock>,
    agenda: Agenda,
    shutdown: CancellationToken,
    run: JoinHandle<Result<()>>,
}

impl World {
    fn new() -> Self {
        let time = Arc::new(TokioClock::new());
        let clock = SetClock::right(&time);
        let queue = MemoryTaskQueue::new(clock.clone(), MemoryQueueOptions::default());
        Self { time, clock, queue: Flaky::new(Arc::new(queue)) }
    }

    /// Starts a node whose clock is right so far.
    fn start(&self, task: PeriodicTask) -> Node {
        self.start_all(vec![task])
    }

    fn start_all(&self, tasks: Vec<PeriodicTask>) -> Node {
        let clock = SetClock::right(&self.time);
        let periodic = PeriodicTasks::new(self.queue.clone(), clock.clone());
        let periodic = tasks.into_iter().try_fold(periodic, PeriodicTasks::with).expect("names");
        let (agenda, shutdown) = (periodic.agenda(), CancellationToken::new());
        let run = TaskTracker::new().spawn(periodic.run(shutdown.clone()));
        Node { clock, agenda, shutdown, run }
    }

    /// Lets so much time pass, and takes what is due then, as its moments.
    async fn after(&self, pause: Duration) -> Vec<UnixMillis> {
        sleep(pause).await;
        moments(&self.due().await)
    }

    async fn due(&self) -> Vec<LeasedTask> {
        let leased = self.queue.lease("default", 1_000, LEASE).await.expect("lease");
        for task in &leased {
            assert!(self.queue.complete(task).await.expect("complete"));
        }
        leased
    }

    /// The last full hour.
    fn hour(&self) -> UnixMillis {
        self.clock.wall() / HOUR * HOUR
    }

    /// Waits until so long behind a full hour.
    async fn until_past_the_hour(&self, past: u64) {
        let left = Duration::from_millis(HOUR - self.clock.wall() % HOUR + past);
        sleep(left).await;
    }
}

impl Node {
    async fn stop(self) {
        self.shutdown.cancel();
        self.run.await.expect("no panic").expect("no error");
    }
}

/// The moments of firings by the payloads of their tasks.
fn moments(tasks: &[LeasedTask]) -> Vec<UnixMillis> {
    let moment = |task: &LeasedTask| {
        let moment = std::str::from_utf8(&task.payload).unwrap().parse().unwrap();
        assert_eq!(task.id, Firing::id_of(&task.queue, &task.kind, moment));
        moment
    };
    let mut moments: Vec<_> = tasks.iter().map(moment).collect();
    moments.sort_unstable();
    moments
}

/// A task of this name that tells its moment.
fn telling(name: &'static str, every: Duration) -> PeriodicTask {
    let schedule = Schedule::every(every).expect("a schedule");
    PeriodicTask::new(name, schedule, move |moment| {
        NewTask::new(TaskId::generate(), name, moment.to_string())
    })
}

fn hourly() -> PeriodicTask {
    telling("hourly", Duration::from_millis(HOUR))
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[tokio::test(start_paused = true)]
async fn each_moment_is_fired_once_by_however_many_nodes() {
    let world = World::new();
    let nodes = [(); 3].map(|()| world.start(hourly()));
    let begun = world.hour();
    for day in 0..3 {
        let expected: Vec<_> = (1..=24).map(|hour| begun + (day * 24 + hour) * HOUR).collect();
        assert_eq!(world.after(DAY).await, expected);
    }
    let counts = |count: fn(&zmsg_queue::PeriodicEntry) -> u64| -> u64 {
        nodes.iter().map(|node| count(&node.agenda.entries()[0])).sum()
    };
    assert_eq!(counts(|entry| entry.fired), 72);
    assert_eq!(counts(|entry| entry.fired_elsewhere), 2 * 72);
    let entry = nodes[0].agenda.entries().remove(0);
    assert_eq!((entry.name.as_str(), entry.schedule.as_str()), ("hourly", "@every 1h"));
    assert_eq!((entry.last, entry.next), (Some(world.hour()), Some(world.hour() + HOUR)));
    for node in nodes {
        node.stop().await;
    }
    assert!(world.after(DAY).await.is_empty(), "those that stopped fire nothing");
}

#[tokio::test(start_paused = true)]
async fn entries_fire_each_by_its_own_schedule() {
    let world = World::new();
    let entries = [("a", 60), ("b", 90), ("c", 3_600)];
    let tasks = entries.map(|(name, every)| telling(name, Duration::from_secs(every)));
    let node = world.start_all(tasks.to_vec());
    sleep(Duration::from_millis(2 * HOUR)).await;
    let due = world.due().await;
    let count = |name| due.iter().filter(|task| task.kind == name).count();
    assert_eq!(["a", "b", "c"].map(count), [120, 80, 2]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_came_while_no_node_ran_is_missed_or_fires_once() {
    for (missed, made_up) in [(Missed::Skip, false), (Missed::Once, true)] {
        let world = World::new();
        let node = world.start(hourly().missed(missed));
        assert_eq!(world.after(Duration::from_millis(HOUR)).await.len(), 1);
        node.stop().await;
        sleep(Duration::from_millis(5 * HOUR)).await;
        world.until_past_the_hour(60_001).await;
        let last = world.hour();
        let nodes = [(); 2].map(|()| world.start(hourly().missed(missed)));
        let expected = if made_up { vec![last] } else { vec![] };
        assert_eq!(world.after(Duration::from_secs(600)).await, expected);
        assert_eq!(world.after(Duration::from_millis(HOUR)).await, [last + HOUR]);
        for node in nodes {
            node.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_over_a_moment_costs_no_firing() {
    let world = World::new();
    let node = world.start(hourly());
    assert_eq!(world.after(Duration::from_millis(HOUR)).await.len(), 1);
    node.stop().await;
    world.until_past_the_hour(40_000).await;
    let node = world.start(hourly());
    assert_eq!(world.after(Duration::from_secs(1)).await, [world.hour()]);
    node.stop().await;
    // And one that was fired is not fired again.
    let node = world.start(hourly());
    assert!(world.after(Duration::from_secs(1)).await.is_empty());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_new_begins_with_the_moment_to_come() {
    let world = World::new();
    world.until_past_the_hour(1_000).await;
    let node = world.start(hourly().missed(Missed::Once));
    assert!(world.after(Duration::from_secs(60)).await.is_empty());
    assert_eq!(world.after(Duration::from_millis(HOUR)).await, [world.hour()]);
    node.stop().await;
}

#[tokio::test]
async fn a_name_is_that_of_one_entry() {
    let world = World::new();
    let periodic = PeriodicTasks::new(world.queue.clone(), world.clock.clone());
    let periodic = periodic.with(hourly()).unwrap();
    let error = periodic.with(hourly()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("hourly"), "{error}");
    let periodic = PeriodicTasks::new(world.queue.clone(), world.clock);
    periodic.with(telling("", DAY)).unwrap_err();
}
