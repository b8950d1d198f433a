//! The promises of [`TaskGroups`] as tests, for backends that keep groups:
//! `zmsg_queue::task_groups_conformance!(MyHarness::new())`.

mod endings;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::poll_immediate;
use zmsg_core::{Clock, ErrorKind, TaskId};

pub use endings::*;

use super::harness::{Harness, LEASE, Limits, due_at, due_now, lease_all, lease_one};
use crate::{ClosedGroup, Enqueued, GroupRules, NewTask, TaskGroups, TaskInspector, TaskState};

/// A queue with groups that people can look at.
pub trait Grouped: TaskGroups + TaskInspector {}

impl<T: TaskGroups + TaskInspector> Grouped for T {}

/// A backend under test that keeps groups.
#[async_trait]
pub trait GroupsHarness: Harness {
    /// As [`open`](Harness::open).
    async fn open_grouped(&self, limits: Limits) -> Arc<dyn Grouped>;
}

/// Makes a `#[tokio::test]` of every promise, as `task_queue_conformance` does.
#[macro_export]
macro_rules! task_groups_conformance {
    ($harness:expr) => {
        $crate::task_queue_conformance! { @promises $harness,
            a_task_with_a_group_waits_for_the_others,
            a_task_joins_its_group_when_it_is_due,
            a_task_joins_its_group_in_a_paused_queue_too,
            a_group_is_closed_by_its_rules,
            a_closed_set_takes_the_first_and_leaves_the_rest,
            groups_are_apart,
            members_count_among_the_tasks_of_their_queue,
            a_group_and_a_lane_are_refused_together,
            a_closed_group_refuses_every_call,
            an_aggregate_takes_the_place_of_the_members,
            a_settlement_that_is_repeated_says_so,
            an_aggregate_is_refused_that_the_queue_cannot_take,
            a_reopened_set_is_in_its_group_again,
            an_overdue_set_goes_back_to_its_group,
            of_concurrent_aggregators_each_member_has_one,
            people_see_and_act_on_tasks_in_groups,
            a_dead_letter_with_a_group_runs_alone,
        }
    };
}

const S: u64 = 1_000;
const GROUP: &str = "mail:a";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Closed at ten members, after ten seconds without another, or after half a minute.
fn rules() -> GroupRules {
    GroupRules { size_max: 10, grace: seconds(10), delay_max: Some(seconds(30)) }
}

/// By these rules each group is closed.
fn at_once() -> GroupRules {
    GroupRules { grace: Duration::ZERO, ..rules() }
}

/// Tasks of the group, by their ids.
async fn join(harness: &impl GroupsHarness, queue: &dyn Grouped, count: usize) -> Vec<TaskId> {
    let mut tasks: Vec<_> = (0..count).map(|_| due_now(harness).group(GROUP)).collect();
    tasks.sort_by_key(|task| task.id);
    let ids = tasks.iter().map(|task| task.id).collect();
    let answers = queue.enqueue_all(tasks).await.expect("enqueue");
    assert_eq!(answers, vec![Enqueued::Accepted; count]);
    ids
}

async fn close(queue: &dyn Grouped, rules: &GroupRules) -> Option<ClosedGroup> {
    queue.close_group("default", GROUP, rules, LEASE).await.expect("close")
}

fn members(closed: &ClosedGroup) -> Vec<TaskId> {
    closed.members.iter().map(|member| member.id).collect()
}

fn aggregate(payload: &'static str) -> NewTask {
    NewTask::new(TaskId::generate(), "digest", payload)
}

async fn ripe(queue: &dyn Grouped) -> (Vec<String>, Option<Duration>) {
    let ripe = queue.ripe_groups("default", &rules()).await.expect("ripe");
    (ripe.names, ripe.next)
}

/// Tasks of a group are not handed out, and are counted and known while they wait; one of its id is a
/// duplicate.
pub async fn a_task_with_a_group_waits_for_the_others(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    assert!(queue.groups("default").await.expect("groups").is_empty());
    let ids = join(harness, &*queue, 2).await;
    let (again, other) = (NewTask { id: ids[0], ..due_now(harness) }, due_now(harness));
    let answers = queue.enqueue_all(vec![again.group("b"), other.clone()]).await.expect("enqueue");
    assert_eq!(answers, [Enqueued::Duplicate, Enqueued::Accepted]);
    let leased = lease_one(&*queue).await.expect("the one without a group");
    assert_eq!(leased.id, other.id);
    assert!(queue.complete(&leased).await.expect("complete"));
    harness.clock().advance(100 * S);
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.next_due("default").await.expect("next due"), None, "nothing to wait for");
    let stats = queue.stats("default").await.expect("stats");
    assert_eq!((stats.pending, stats.due, stats.leased), (2, 0, 0), "{stats:?}");
    let state = queue.state(ids[0]).await.expect("state");
    assert!(matches!(state, Some(TaskState::Pending { .. })), "{state:?}");
    let groups = queue.groups("default").await.expect("groups");
    assert_eq!(groups.len(), 1);
    assert_eq!((groups[0].group.as_str(), groups[0].tasks), (GROUP, 2));
    assert_eq!((groups[0].oldest_age, groups[0].youngest_age), (seconds(100), seconds(100)));
}

/// A task that waits for its time joins when it is due, and then counts from that moment.
pub async fn a_task_joins_its_group_when_it_is_due(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let later = due_at(harness.clock().wall() + 20 * S).group(GROUP);
    queue.enqueue(later.clone()).await.expect("enqueue");
    let now = join(harness, &*queue, 1).await;
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.next_due("default").await.expect("next due"), Some(later.due));
    let first = close(&*queue, &at_once()).await.expect("ripe");
    assert_eq!(members(&first), now, "the other is not due");
    harness.clock().advance(20 * S);
    assert!(lease_all(&*queue).await.is_empty(), "it has joined instead");
    assert_eq!(queue.next_due("default").await.expect("next due"), None);
    assert_eq!(ripe(&*queue).await, (vec![], Some(seconds(10))));
    harness.clock().advance(10 * S);
    let second = close(&*queue, &rules()).await.expect("ripe");
    assert_eq!(members(&second), [later.id]);
    assert_eq!(second.members[0].joined, later.due);
}

/// So does one in a queue that is paused, of which nobody leases.
pub async fn a_task_joins_its_group_in_a_paused_queue_too(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let later = due_at(harness.clock().wall() + 20 * S).group(GROUP);
    queue.enqueue(later.clone()).await.expect("enqueue");
    queue.pause("default").await.expect("pause");
    harness.clock().advance(20 * S);
    assert_eq!(ripe(&*queue).await, (vec![], Some(seconds(10))));
    harness.clock().advance(10 * S);
    let closed = close(&*queue, &rules()).await.expect("ripe");
    assert_eq!(members(&closed), [later.id]);
}

/// By size, by the time since the last one joined, and by the time since the first did; never earlier.
pub async fn a_group_is_closed_by_its_rules(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    assert_eq!(ripe(&*queue).await, (vec![], None));
    let mut ids = Vec::new();
    for _ in 0..3 {
        harness.clock().advance(9 * S);
        assert!(close(&*queue, &rules()).await.is_none(), "others join");
        ids.extend(join(harness, &*queue, 1).await);
        assert_eq!(ripe(&*queue).await, (vec![], Some(seconds(10))));
    }
    harness.clock().advance(10 * S - 1);
    assert_eq!(ripe(&*queue).await, (vec![], Some(Duration::from_millis(1))));
    assert!(close(&*queue, &rules()).await.is_none(), "one millisecond early");
    harness.clock().advance(1);
    assert_eq!(ripe(&*queue).await, (vec![GROUP.to_owned()], None));
    let closed = close(&*queue, &rules()).await.expect("nobody joins");
    assert_eq!(members(&closed), ids);
    assert!(queue.settle_group(&closed, aggregate("one")).await.expect("settle"));

    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.extend(join(harness, &*queue, 1).await);
        harness.clock().advance(7 * S);
    }
    assert!(close(&*queue, &rules()).await.is_none(), "28 seconds, and 7 since the last");
    assert_eq!(ripe(&*queue).await, (vec![], Some(seconds(2))));
    harness.clock().advance(2 * S);
    assert_eq!(ripe(&*queue).await.0, [GROUP]);
    let closed = close(&*queue, &rules()).await.expect("the first has waited for long");
    assert_eq!(members(&closed), ids);
    assert!(queue.settle_group(&closed, aggregate("two")).await.expect("settle"));

    join(harness, &*queue, 9).await;
    assert!(close(&*queue, &rules()).await.is_none());
    join(harness, &*queue, 1).await;
    assert_eq!(ripe(&*queue).await.0, [GROUP]);
    assert_eq!(close(&*queue, &rules()).await.expect("it is full").members.len(), 10);
}

/// An aggregate has no more members than its rules allow, the first that joined; those that come later are the
/// group's.
pub async fn a_closed_set_takes_the_first_and_leaves_the_rest(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(join(harness, &*queue, 3).await);
        harness.clock().advance(S);
    }
    let first = close(&*queue, &rules()).await.expect("it is full");
    assert_eq!(members(&first), ids[..10]);
    let kind_and_payload =
        |at: usize| (first.members[at].kind.as_str(), &first.members[at].payload[..]);
    assert_eq!(kind_and_payload(9), ("save", &b"payload"[..]));
    assert_eq!((first.queue.as_str(), first.group.as_str()), ("default", GROUP));
    assert!(close(&*queue, &rules()).await.is_none(), "five are left");
    ids.extend(join(harness, &*queue, 1).await);
    let second = close(&*queue, &at_once()).await.expect("by its grace");
    assert_eq!(members(&second), ids[10..]);
    assert!(close(&*queue, &at_once()).await.is_none());
    assert!(queue.groups("default").await.expect("groups").is_empty());
    assert_eq!(queue.stats("default").await.expect("stats").pending, 16, "they are known yet");
}

/// Groups of other names and in other queues are others.
pub async fn groups_are_apart(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let hostile = "a}:g:{b'\"\u{1f600}";
    let [one, two, three] = [
        due_now(harness).group(GROUP),
        due_now(harness).group(hostile),
        due_now(harness).group(GROUP).queue("other"),
    ];
    queue.enqueue_all(vec![one.clone(), two.clone()]).await.expect("enqueue");
    queue.enqueue(three.clone()).await.expect("enqueue");
    let names: BTreeSet<_> =
        queue.groups("default").await.expect("groups").into_iter().collect_names();
    assert_eq!(names, BTreeSet::from([GROUP.to_owned(), hostile.to_owned()]));
    let of = async |name: &str, group: &str| {
        let closed = queue.close_group(name, group, &at_once(), LEASE).await.expect("close");
        members(&closed.expect("ripe"))
    };
    assert_eq!(of("default", hostile).await, [two.id]);
    assert_eq!(of("other", GROUP).await, [three.id]);
    assert_eq!(of("default", GROUP).await, [one.id]);
}

/// The bound of a queue counts those that wait in its groups, and in closed sets.
pub async fn members_count_among_the_tasks_of_their_queue(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits { tasks_max: 3, dead_max: 9 }).await;
    join(harness, &*queue, 3).await;
    let refused = async |task: NewTask| {
        let error = queue.enqueue(task).await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    };
    refused(due_now(harness)).await;
    refused(due_now(harness).group("other")).await;
    let closed = close(&*queue, &at_once()).await.expect("ripe");
    refused(due_now(harness)).await;
    assert!(queue.settle_group(&closed, aggregate("three in one")).await.expect("settle"));
    queue.enqueue_all(vec![due_now(harness), due_now(harness).group("other")]).await.expect("room");
    refused(due_now(harness)).await;
}

/// An aggregate may have a lane; its members cannot.
pub async fn a_group_and_a_lane_are_refused_together(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    for task in [
        due_now(harness).group(GROUP).ordered_by("a"),
        due_now(harness).group(""),
        due_now(harness).group("a\0"),
        due_now(harness).group("a".repeat(256)),
    ] {
        let error = queue.enqueue(task).await.expect_err("invalid");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

/// A closed queue refuses every call that concerns groups.
pub async fn a_closed_group_refuses_every_call(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    join(harness, &*queue, 1).await;
    let closed = close(&*queue, &at_once()).await.expect("ripe");
    queue.close().await.expect("close");
    let errors = [
        queue.groups("default").await.err(),
        queue.ripe_groups("default", &rules()).await.err(),
        queue.close_group("default", GROUP, &rules(), LEASE).await.err(),
        queue.settle_group(&closed, aggregate("late")).await.err(),
        queue.reopen_group(&closed).await.err(),
        queue.reopen_overdue("default").await.err(),
    ];
    for (at, error) in errors.into_iter().enumerate() {
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Closed), "{at}");
    }
}

/// The names of some groups.
trait Names {
    fn collect_names(self) -> BTreeSet<String>;
}

impl<I: Iterator<Item = crate::GroupInfo>> Names for I {
    fn collect_names(self) -> BTreeSet<String> {
        self.map(|info| info.group).collect()
    }
}

/// A worker that waits is woken by what `call` does.
async fn wakes(queue: &dyn Grouped, call: impl Future<Output = bool>) {
    let changed = queue.changed();
    assert!(call.await);
    assert!(poll_immediate(changed).await.is_some(), "a worker that waits is woken");
}
