//! The worker that aggregates groups, on a memory queue in tokio's time.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use zmsg_core::{Backoff, Clock as _, Error, ErrorKind, Level, Result, TaskId};
use zmsg_queue::{
    GroupAggregator, GroupMember, GroupReport, GroupRules, GroupWorker, GroupWorkerOptions,
    LeasedTask, MemoryQueueOptions, MemoryTaskQueue, NewTask, TaskQueue as _, outbox,
};
use zmsg_sqlbuilder::Dialect;

use crate::clock::TokioClock;
use crate::db::Db;

const LEASE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3_600);

/// Joins the payloads of the members, after what the script says of this call.
pub(crate) struct Joins<S> {
    script: S,
    calls: AtomicU32,
    called: Notify,
}

/// What an aggregator is to do before its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Answer,
    Fail,
    Panic,
    Hang,
}

impl<S: Fn(u32) -> Does + Send + Sync + 'static> Joins<S> {
    pub(crate) fn new(script: S) -> Arc<Self> {
        Arc::new(Self { script, calls: AtomicU32::new(0), called: Notify::new() })
    }
}

impl Joins<fn(u32) -> Does> {
    pub(crate) fn always() -> Arc<Self> {
        Joins::new(|_| Does::Answer)
    }
}

impl<S> fmt::Debug for Joins<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joins").field("calls", &self.calls).finish_non_exhaustive()
    }
}

pub(crate) fn joined(group: &str, members: &[GroupMember]) -> String {
    let payloads = members.iter().map(|member| String::from_utf8_lossy(&member.payload));
    format!("{group}: {}", payloads.collect::<Vec<_>>().join(" "))
}

#[async_trait]
impl<S: Fn(u32) -> Does + Send + Sync + 'static> GroupAggregator for Joins<S> {
    async fn aggregate(&self, group: &str, members: &[GroupMember]) -> Result<NewTask> {
        let call = self.calls.fetch_add(1, SeqCst) + 1;
        self.called.notify_one();
        match (self.script)(call) {
            Does::Answer => Ok(NewTask::new(TaskId::generate(), "digest", joined(group, members))),
            Does::Fail => Err(Error::new(ErrorKind::Timeout, "not today")),
            Does::Panic => panic!("as the test wants it"),
            Does::Hang => std::future::pending().await,
        }
    }
}

struct Rig {
    queue: Arc<MemoryTaskQueue>,
    clock: Arc<TokioClock>,
    shutdown: CancellationToken,
    options: GroupWorkerOptions,
}

impl Rig {
    fn new(size_max: usize) -> Self {
        let clock = Arc::new(TokioClock::new());
        let queue = MemoryTaskQueue::new(clock.clone(), MemoryQueueOptions::default());
        let rules = GroupRules { size_max, grace: Duration::from_secs(10), delay_max: None };
        let backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(60));
        let options = GroupWorkerOptions { rules, backoff, ..GroupWorkerOptions::default() };
        Self { queue: Arc::new(queue), clock, shutdown: CancellationToken::new(), options }
    }

    fn start(
        &self,
        aggregator: Arc<dyn GroupAggregator>,
    ) -> AbortOnDropHandle<Result<GroupReport>> {
        let (tracker, options) = (TaskTracker::new(), self.options.clone());
        let worker = GroupWorker::new(self.queue.clone(), aggregator, tracker.clone(), options);
        AbortOnDropHandle::new(tracker.spawn(worker.run(self.shutdown.clone())))
    }

    async fn enqueue(&self, payloads: &[&'static str], group: &str) {
        for payload in payloads {
            let task = NewTask::new(TaskId::generate(), "greet", *payload).group(group);
            self.queue.enqueue(task.due(self.clock.wall())).await.unwrap();
        }
    }

    /// The next task that is due, within an hour.
    async fn next(&self) -> LeasedTask {
        let next = async {
            loop {
                let changed = self.queue.changed();
                if let Some(task) = self.queue.lease("default", 1, LEASE).await.unwrap().pop() {
                    return task;
                }
                changed.await;
            }
        };
        timeout(LONG, next).await.expect("it is aggregated")
    }

    async fn stop(&self, running: AbortOnDropHandle<Result<GroupReport>>) -> GroupReport {
        self.shutdown.cancel();
        running.await.unwrap().unwrap()
    }

    /// Those that wait in the group, and in no closed set.
    async fn waiting(&self) -> u64 {
        use zmsg_queue::TaskGroups as _;
        self.queue.groups("default").await.unwrap().first().map_or(0, |info| info.tasks)
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_aggregated_when_it_is_full_and_when_nobody_joins() {
    let rig = Rig::new(3);
    assert_eq!(rig.queue.level(), Level::Memory);
    let running = rig.start(Joins::always());
    let began = Instant::now();
    rig.enqueue(&["1", "2", "3", "4"], "a").await;
    rig.enqueue(&["x"], "b").await;
    assert_eq!(rig.next().await.payload, "a: 1 2 3");
    assert!(began.elapsed() <= rig.options.poll_max, "at the next look");
    let mut rest = [rig.next().await.payload, rig.next().await.payload];
    rest.sort();
    assert_eq!(rest, ["a: 4", "b: x"]);
    let waited = began.elapsed();
    let grace = Duration::from_secs(10);
    assert!(waited >= grace && waited <= grace + rig.options.poll_max, "{waited:?}");
    let report = rig.stop(running).await;
    assert_eq!(report, GroupReport { aggregates: 3, members: 5, failed: 0, lost: 0 });
}

#[tokio::test(start_paused = true)]
async fn an_aggregator_that_fails_or_panics_leaves_its_members_and_is_asked_again_later() {
    let rig = Rig::new(2);
    let aggregator = Joins::new(|call| match call {
        1 => Does::Fail,
        2 => Does::Panic,
        _ => Does::Answer,
    });
    let running = rig.start(aggregator.clone());
    let began = Instant::now();
    rig.enqueue(&["1", "2"], "a").await;
    assert_eq!(rig.next().await.payload, "a: 1 2");
    // The upper halves of four and of eight seconds.
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(aggregator.calls.load(SeqCst), 3);
    let report = rig.stop(running).await;
    assert_eq!(report, GroupReport { aggregates: 1, members: 2, failed: 2, lost: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_aggregated_holds_up_no_other() {
    let rig = Rig::new(1);
    #[derive(Debug)]
    struct NotA(Mutex<Vec<String>>);
    #[async_trait]
    impl GroupAggregator for NotA {
        async fn aggregate(&self, group: &str, members: &[GroupMember]) -> Result<NewTask> {
            self.0.lock().unwrap().push(group.to_owned());
            match group {
                "a" => Err(Error::invalid_input("never")),
                _ => Ok(NewTask::new(TaskId::generate(), "digest", joined(group, members))),
            }
        }
    }
    let aggregator = Arc::new(NotA(Mutex::default()));
    let running = rig.start(aggregator.clone());
    rig.enqueue(&["1"], "a").await;
    for payload in ["b: x", "b: y", "b: z"] {
        rig.enqueue(&[&payload[3..]], "b").await;
        assert_eq!(rig.next().await.payload, payload);
    }
    assert!(rig.stop(running).await.failed >= 1);
    assert_eq!(rig.waiting().await, 1, "it is in its group");
    let calls = aggregator.0.lock().unwrap().iter().filter(|group| *group == "a").count();
    assert!(calls <= 3, "{calls}: it is left alone for a growing pause");
}

#[tokio::test(start_paused = true)]
async fn an_aggregator_that_hangs_is_dropped_when_its_lease_ends() {
    let rig = Rig::new(2);
    let aggregator = Joins::new(|call| if call == 1 { Does::Hang } else { Does::Answer });
    let running = rig.start(aggregator);
    let began = Instant::now();
    rig.enqueue(&["1", "2"], "a").await;
    assert_eq!(rig.next().await.payload, "a: 1 2");
    assert!(began.elapsed() >= rig.options.lease, "{:?}", began.elapsed());
    let report = rig.stop(running).await;
    assert_eq!((report.aggregates, report.failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_waits_for_what_goes_on_and_puts_the_rest_back() {
    let rig = Rig::new(2);
    let aggregator = Joins::new(|_| Does::Hang);
    let running = rig.start(aggregator.clone());
    rig.enqueue(&["1", "2"], "a").await;
    aggregator.called.notified().await;
    assert_eq!(rig.waiting().await, 0, "they are in a closed set");
    let began = Instant::now();
    let report = rig.stop(running).await;
    assert!(began.elapsed() >= rig.options.drain, "{:?}", began.elapsed());
    assert_eq!((report.aggregates, report.failed), (0, 1));
    assert_eq!(rig.waiting().await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_worker_had_goes_back_at_the_deadline_of_its_set() {
    let rig = Rig::new(2);
    let aggregator = Joins::new(|_| Does::Hang);
    let running = rig.start(aggregator.clone());
    rig.enqueue(&["1", "2"], "a").await;
    aggregator.called.notified().await;
    let began = Instant::now();
    drop(running);
    let running = rig.start(Joins::always());
    assert_eq!(rig.next().await.payload, "a: 1 2");
    assert!(began.elapsed() + Duration::from_secs(1) >= rig.options.lease, "{:?}", began.elapsed());
    assert_eq!(rig.stop(running).await.aggregates, 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_groups_ends_with_its_queue() {
    let rig = Rig::new(2);
    let running = rig.start(Joins::always());
    rig.queue.close().await.unwrap();
    let error = timeout(LONG, running).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

/// What is not kept is refused, with the field that is not.
#[tokio::test]
async fn a_queue_in_a_database_and_an_outbox_refuse_a_group() {
    let db = Db::sqlite();
    let queue = db.queue_on(db.store().await);
    let task = NewTask::new(TaskId::generate(), "greet", "x").group("a");
    let clock = TokioClock::new();
    let in_outbox = outbox::enqueue_quietly(&task, &clock, Dialect::Sqlite).unwrap_err();
    for error in [queue.enqueue(task).await.unwrap_err(), in_outbox] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("field: group"), "{error}");
    }
}
