//! The loop that closes groups and puts aggregates in their place.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use zmsg_core::{Backoff, Error, ErrorKind, Result};

use super::{ClosedGroup, GroupMember, GroupRules, TaskGroups};
use crate::task::record::NewTask;

/// The code that makes one task of many.
#[async_trait]
pub trait GroupAggregator: fmt::Debug + Send + Sync + 'static {
    /// Makes one task of the members of a group. It goes to the queue of the group, whatever it says itself.
    ///
    /// Members of an aggregate that was not settled are given again, maybe with others. So it should have no
    /// effect besides its answer, and the id of its task should be a new one each time.
    ///
    /// # Errors
    /// Anything: the members go back to the group, and are tried again after a pause.
    ///
    /// # Cancel safety
    /// The future is dropped when it takes longer than the lease of a set, and when a stopping worker's
    /// patience ends; the members go back to the group.
    async fn aggregate(&self, group: &str, members: &[GroupMember]) -> Result<NewTask>;
}

/// How groups are aggregated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupWorkerOptions {
    /// The queues whose groups are aggregated.
    pub queues: Vec<String>,
    /// When a group is closed.
    pub rules: GroupRules,
    /// How long one aggregation may take. Also how long the members wait when its process is killed; asynq
    /// gives two minutes.
    pub lease: Duration,
    /// How many aggregations go on at a time; 0 is taken for 1.
    pub concurrency: usize,
    /// The pauses before a group is tried again whose aggregation failed.
    pub backoff: Backoff,
    /// The longest pause between two looks at the groups. A look ends with the last aggregation that it began: a
    /// group may be found full as late as that, and an aggregator that hangs holds up the others for `lease`.
    pub poll_max: Duration,
    /// How long a stopping worker waits for aggregations that go on.
    pub drain: Duration,
}

impl Default for GroupWorkerOptions {
    fn default() -> Self {
        Self {
            queues: vec![NewTask::QUEUE_DEFAULT.to_owned()],
            rules: GroupRules::default(),
            lease: Duration::from_secs(120),
            concurrency: 3,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            poll_max: Duration::from_secs(1),
            drain: Duration::from_secs(8),
        }
    }
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupReport {
    /// Aggregates that are in the queue.
    pub aggregates: u64,
    /// Tasks that they were made of.
    pub members: u64,
    /// Aggregations that failed, panicked or took too long: the members went back to their groups.
    pub failed: u64,
    /// Aggregations whose sets had gone to somebody else before they ended.
    pub lost: u64,
}

/// Aggregates the groups of some queues. Several, also in other processes and in Go, may share them.
///
/// An aggregator that fails or panics leaves the members in their group, which this worker then leaves alone
/// for a growing pause. What a killed process had closed goes back to the group at the deadline of the set.
#[derive(Debug)]
pub struct GroupWorker {
    queue: Arc<dyn TaskGroups>,
    aggregator: Arc<dyn GroupAggregator>,
    tracker: TaskTracker,
    options: GroupWorkerOptions,
    counts: Counts,
    /// Groups whose aggregation failed: how often, and until when they are left alone.
    resting: Mutex<HashMap<(String, String), (u32, Instant)>>,
}

#[derive(Debug, Default)]
struct Counts {
    aggregates: AtomicU64,
    members: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

/// Groups that rest at most; others that fail are tried again at the next look.
const RESTING_MAX: usize = 10_000;

/// Sets of one group that are made one after the other before others have their turn.
const IN_A_ROW: usize = 16;

impl GroupWorker {
    /// A worker that aggregates the groups of `options.queues`. The aggregator runs on `tracker`.
    pub fn new(
        queue: Arc<dyn TaskGroups>,
        aggregator: Arc<dyn GroupAggregator>,
        tracker: TaskTracker,
        options: GroupWorkerOptions,
    ) -> Self {
        let (counts, resting) = (Counts::default(), Mutex::default());
        Self { queue, aggregator, tracker, options, counts, resting }
    }

    /// Aggregates until `shutdown`. Then it closes no more groups, waits up to `options.drain` for
    /// aggregations that go on, and puts the members of the rest back into their groups.
    ///
    /// # Errors
    /// An error of the queue that will not go away: it was closed. Others are waited out.
    ///
    /// # Cancel safety
    /// Dropping the future leaves members in closed sets until their deadlines.
    pub async fn run(self, shutdown: CancellationToken) -> Result<GroupReport> {
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let pause = match self.look(&shutdown).await {
                Ok(pause) => {
                    failures = 0;
                    pause
                }
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "could not look at groups");
                    self.options.backoff.delay(failures).min(self.options.poll_max)
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = sleep(pause.max(Duration::from_millis(1))) => {}
            }
        }
        Ok(self.counts.read())
    }

    /// Closes and aggregates what is ripe; how long to wait for more.
    async fn look(&self, shutdown: &CancellationToken) -> Result<Duration> {
        let (mut pause, mut refused) = (self.options.poll_max, None);
        // All queues have their turn before an error of one ends the look.
        for queue in &self.options.queues {
            match self.look_at(queue, shutdown).await {
                Ok(next) => pause = next.min(pause),
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(pause), Err)
    }

    async fn look_at(&self, queue: &str, shutdown: &CancellationToken) -> Result<Duration> {
        let reopened = self.queue.reopen_overdue(queue).await?;
        if reopened > 0 {
            tracing::warn!(queue, reopened, "what was never aggregated is in its groups again");
        }
        let ripe = self.queue.ripe_groups(queue, &self.options.rules).await?;
        let mut pause = ripe.next.unwrap_or(self.options.poll_max);
        let mut calls: Vec<BoxFuture<'_, Result<bool>>> = Vec::new();
        for group in ripe.names {
            if !self.rests(queue, &group) {
                calls.push(self.aggregate_all(queue, group, shutdown).boxed());
            }
        }
        let at_a_time = self.options.concurrency.max(1);
        let results: Vec<Result<bool>> =
            stream::iter(calls).buffer_unordered(at_a_time).collect().await;
        // So have all groups.
        for is_more in results {
            if is_more? {
                pause = Duration::ZERO;
            }
        }
        Ok(pause)
    }

    /// Aggregates a group for as long as it is ripe; whether it may be so yet.
    async fn aggregate_all(
        &self,
        queue: &str,
        group: String,
        shutdown: &CancellationToken,
    ) -> Result<bool> {
        let GroupWorkerOptions { rules, lease, .. } = &self.options;
        for _ in 0..IN_A_ROW {
            if shutdown.is_cancelled() {
                return Ok(false);
            }
            let closed = self.queue.close_group(queue, &group, rules, *lease).await?;
            let Some(closed) = closed else { return Ok(false) };
            zmsg_core::fail_point!("zmsg-queue::groups::closed");
            match self.aggregate(&closed, shutdown).await {
                Ok(settled) => self.settled(&closed, settled),
                Err(error) => {
                    self.give_back(&closed, &error).await?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Puts an aggregate in the place of a set; whether the set was ours.
    async fn aggregate(&self, closed: &ClosedGroup, shutdown: &CancellationToken) -> Result<bool> {
        let (aggregator, given) = (Arc::clone(&self.aggregator), closed.clone());
        // As a task: its panic is its own.
        let made = AbortOnDropHandle::new(
            self.tracker
                .spawn(async move { aggregator.aggregate(&given.group, &given.members).await }),
        );
        let lease = self.options.lease;
        let aggregate = tokio::select! {
            made = timeout(lease, made) => match made {
                Ok(Ok(made)) => made?,
                Ok(Err(error)) if error.is_panic() => {
                    return Err(Error::new(ErrorKind::Unexpected, "the aggregator panicked"));
                }
                Ok(Err(_)) => return Err(Error::closed("task tracker")),
                Err(_) => {
                    return Err(Error::new(ErrorKind::Timeout, "the aggregation took too long"));
                }
            },
            () = self.out_of_patience(shutdown) => {
                return Err(Error::new(ErrorKind::Closed, "the worker stops"));
            }
        };
        let mut settled = self.queue.settle_group(closed, aggregate.clone()).await;
        if settled.as_ref().is_err_and(Error::is_outcome_unknown) {
            // The queue knows what came of it.
            settled = self.queue.settle_group(closed, aggregate).await;
        }
        settled
    }

    async fn out_of_patience(&self, shutdown: &CancellationToken) {
        shutdown.cancelled().await;
        sleep(self.options.drain).await;
    }

    fn settled(&self, closed: &ClosedGroup, settled: bool) {
        let counts = &self.counts;
        self.resting().remove(&(closed.queue.clone(), closed.group.clone()));
        if settled {
            counts.aggregates.fetch_add(1, Relaxed);
            counts.members.fetch_add(closed.members.len() as u64, Relaxed);
        } else {
            counts.lost.fetch_add(1, Relaxed);
            let ClosedGroup { queue, group, .. } = closed;
            tracing::warn!(queue, group, "a set of a group had gone before it was aggregated");
        }
    }

    async fn give_back(&self, closed: &ClosedGroup, error: &Error) -> Result<()> {
        self.counts.failed.fetch_add(1, Relaxed);
        let ClosedGroup { queue, group, members, .. } = closed;
        let failures = self.let_rest(queue, group);
        let members = members.len();
        tracing::warn!(%error, queue, group, members, failures, "could not aggregate a group");
        // Without an answer, the members are back at the deadline of the set.
        self.queue.reopen_group(closed).await.map(drop)
    }

    /// Leaves a group alone for some time; how often it has failed in a row.
    fn let_rest(&self, queue: &str, group: &str) -> u32 {
        let (mut resting, now) = (self.resting(), Instant::now());
        // Names of groups come from callers: those of long ago must not stay.
        let forgotten = self.options.lease.max(Duration::from_secs(600));
        resting.retain(|_, (_, until)| now < *until + forgotten);
        let name = (queue.to_owned(), group.to_owned());
        let failures = resting.get(&name).map_or(0, |(failures, _)| *failures).saturating_add(1);
        if resting.len() < RESTING_MAX || resting.contains_key(&name) {
            resting.insert(name, (failures, now + self.options.backoff.delay(failures)));
        }
        failures
    }

    fn rests(&self, queue: &str, group: &str) -> bool {
        let until = self.resting().get(&(queue.to_owned(), group.to_owned())).map(|it| it.1);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn resting(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), (u32, Instant)>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn read(&self) -> GroupReport {
        GroupReport {
            aggregates: self.aggregates.load(Relaxed),
            members: self.members.load(Relaxed),
            failed: self.failed.load(Relaxed),
            lost: self.lost.load(Relaxed),
        }
    }
}
