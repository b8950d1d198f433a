//! Promises about what becomes of a closed set, and of single tasks of groups.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use zmsg_core::{Clock, Error, ErrorKind, TaskId};

use super::{
    GROUP, Grouped, GroupsHarness, S, aggregate, at_once, close, join, members, rules, wakes,
};
use crate::conformance::harness::{
    LEASE, LEASE_MS, Limits, due_at, due_now, ids, lease_all, lease_one,
};
use crate::{Act, GroupRules, NewTask, Stage, TaskInfo, TaskState};

/// The aggregate is a task like any other, in the queue of the group; the members are forgotten.
pub async fn an_aggregate_takes_the_place_of_the_members(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let ids = join(harness, &*queue, 3).await;
    let closed = close(&*queue, &at_once()).await.expect("ripe");
    let later = harness.clock().wall() + S;
    let made = aggregate("digest of three").queue("elsewhere").due(later).attempts_max(7);
    wakes(&*queue, async { queue.settle_group(&closed, made.clone()).await.expect("settle") })
        .await;
    for id in ids {
        assert_eq!(queue.state(id).await.expect("state"), None, "it is forgotten");
    }
    assert!(lease_all(&*queue).await.is_empty(), "the aggregate is not due");
    harness.clock().advance(S);
    let leased = lease_one(&*queue).await.expect("due");
    assert_eq!((leased.id, leased.attempts_max), (made.id, 7));
    assert_eq!((leased.queue.as_str(), leased.kind.as_str()), ("default", "digest"));
    assert_eq!(leased.payload, "digest of three");
    assert!(queue.complete(&leased).await.expect("complete"));
    let stats = queue.stats("default").await.expect("stats");
    assert_eq!((stats.pending, stats.leased), (0, 0), "{stats:?}");
}

/// Without an answer the same call is made again; it changes nothing more. Of another aggregate it says that
/// the set had gone.
pub async fn a_settlement_that_is_repeated_says_so(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    join(harness, &*queue, 2).await;
    let closed = close(&*queue, &at_once()).await.expect("ripe");
    let made = aggregate("once");
    assert!(queue.settle_group(&closed, made.clone()).await.expect("settle"));
    assert!(queue.settle_group(&closed, made.clone()).await.expect("settle again"));
    assert!(!queue.settle_group(&closed, aggregate("twice")).await.expect("another"));
    assert!(!queue.reopen_group(&closed).await.expect("reopen"));
    harness.clock().advance(100 * S);
    assert_eq!(queue.reopen_overdue("default").await.expect("overdue"), 0);
    let leased = lease_one(&*queue).await.expect("one, and no other");
    assert_eq!(leased.id, made.id);
    assert!(queue.complete(&leased).await.expect("complete"));
    assert!(!queue.settle_group(&closed, made).await.expect("it is forgotten"));
    assert!(lease_all(&*queue).await.is_empty());
}

/// What cannot be accepted is refused, and the set is as it was.
pub async fn an_aggregate_is_refused_that_the_queue_cannot_take(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let there = due_at(harness.clock().wall() + 100 * S);
    queue.enqueue(there.clone()).await.expect("enqueue");
    let ids = join(harness, &*queue, 2).await;
    let closed = close(&*queue, &at_once()).await.expect("ripe");
    for (made, kind) in [
        (NewTask { id: there.id, ..aggregate("taken") }, ErrorKind::Conflict),
        (NewTask { id: ids[0], ..aggregate("a member") }, ErrorKind::InvalidInput),
        (aggregate("invalid").attempts_max(0), ErrorKind::InvalidInput),
    ] {
        let error = queue.settle_group(&closed, made).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(queue.stats("default").await.expect("stats").pending, 3);
    assert!(queue.settle_group(&closed, aggregate("good")).await.expect("it is still ours"));
}

/// The members have their old places again, before those that came since.
pub async fn a_reopened_set_is_in_its_group_again(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let mut ids = join(harness, &*queue, 2).await;
    harness.clock().advance(S);
    ids.extend(join(harness, &*queue, 1).await);
    let closed = close(&*queue, &at_once()).await.expect("ripe");
    harness.clock().advance(S);
    ids.extend(join(harness, &*queue, 1).await);
    assert!(queue.reopen_group(&closed).await.expect("reopen"));
    assert!(!queue.reopen_group(&closed).await.expect("reopen twice"));
    assert!(!queue.settle_group(&closed, aggregate("late")).await.expect("settle"));
    let groups = queue.groups("default").await.expect("groups");
    assert_eq!((groups.len(), groups[0].tasks), (1, 4));
    let again = close(&*queue, &at_once()).await.expect("ripe");
    assert_eq!(members(&again), ids);
    assert_eq!(again.members[0].joined, closed.members[0].joined);
    // What nobody has joined since, too: its name is known again.
    assert!(queue.reopen_group(&again).await.expect("reopen"));
    assert_eq!(queue.groups("default").await.expect("groups").len(), 1);
}

/// What nobody settles until its deadline goes back, and whoever had it comes too late.
pub async fn an_overdue_set_goes_back_to_its_group(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let ids = join(harness, &*queue, 2).await;
    let closed = close(&*queue, &at_once()).await.expect("ripe");
    harness.clock().advance(LEASE_MS - S);
    assert_eq!(queue.reopen_overdue("default").await.expect("overdue"), 0);
    assert!(queue.groups("default").await.expect("groups").is_empty());
    harness.clock().advance(S);
    assert_eq!(queue.reopen_overdue("other").await.expect("overdue"), 0);
    assert_eq!(queue.reopen_overdue("default").await.expect("overdue"), 1);
    assert_eq!(queue.reopen_overdue("default").await.expect("overdue"), 0);
    assert_eq!(queue.groups("default").await.expect("groups").len(), 1, "its name is known");
    let again = close(&*queue, &rules()).await.expect("it has waited");
    assert_eq!(members(&again), ids);
    assert!(!queue.settle_group(&closed, aggregate("late")).await.expect("fenced"));
    assert!(queue.settle_group(&again, aggregate("in time")).await.expect("settle"));
    assert_eq!(lease_one(&*queue).await.expect("one").payload, "in time");

    // One that is overdue, and nobody has noticed: it is still whose it was.
    join(harness, &*queue, 1).await;
    let unnoticed = close(&*queue, &at_once()).await.expect("ripe");
    harness.clock().advance(10 * LEASE_MS);
    assert!(queue.settle_group(&unnoticed, aggregate("late")).await.expect("settle"));
}

/// However many aggregate, settle and reopen at a time, each member is in one aggregate, and in no other.
pub async fn of_concurrent_aggregators_each_member_has_one(harness: &impl GroupsHarness) {
    const TASKS: usize = 120;
    let queue = harness.open_grouped(Limits::WIDE).await;
    join(harness, &*queue, TASKS).await;
    let made = Arc::<Mutex<BTreeMap<TaskId, usize>>>::default();
    let mut aggregators = tokio::task::JoinSet::new();
    for n in 0..4_usize {
        let (queue, made) = (Arc::clone(&queue), Arc::clone(&made));
        aggregators.spawn(async move {
            let rules = GroupRules { size_max: 7, ..at_once() };
            for round in n.. {
                let closed = close(&*queue, &rules).await;
                let Some(closed) = closed else {
                    if made.lock().expect("whole").len() == TASKS {
                        break;
                    }
                    tokio::task::yield_now().await;
                    continue;
                };
                if round % 3 == 0 {
                    assert!(queue.reopen_group(&closed).await.expect("reopen"));
                    continue;
                }
                assert!(queue.settle_group(&closed, aggregate("x")).await.expect("settle"));
                for member in &closed.members {
                    *made.lock().expect("whole").entry(member.id).or_default() += 1;
                }
            }
        });
    }
    aggregators.join_all().await;
    let made = made.lock().expect("whole");
    assert_eq!(made.len(), TASKS);
    assert!(made.values().all(|times| *times == 1), "{made:?}");
}

async fn info(queue: &dyn Grouped, id: TaskId) -> TaskInfo {
    queue.task(None, id).await.expect("task").expect("it is there")
}

/// They are counted and listed in pages, and each can be run, archived and deleted, unless an aggregator has it.
pub async fn people_see_and_act_on_tasks_in_groups(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let all = join(harness, &*queue, 4).await;
    let later = due_at(harness.clock().wall() + 100 * S).group("b");
    queue.enqueue_all(vec![due_now(harness).group("b"), later.clone()]).await.expect("enqueue");
    let summary = queue.summary("default").await.expect("summary");
    assert_eq!((summary.aggregating, summary.scheduled, summary.pending), (5, 1, 0), "{summary:?}");
    let seen = info(&*queue, all[0]).await;
    assert_eq!((seen.stage, seen.group.as_deref()), (Stage::Aggregating, Some(GROUP)));
    assert_eq!(seen.due, harness.clock().wall(), "when it joined");
    let waiting = info(&*queue, later.id).await;
    assert_eq!((waiting.stage, waiting.group.as_deref()), (Stage::Scheduled, Some("b")));
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = queue.tasks("default", Stage::Aggregating, after, 2).await.expect("tasks");
        let Some(last) = page.last() else { break };
        after = Some(last.place());
        listed.extend(page.into_iter().map(|info| info.id));
    }
    assert_eq!(listed.len(), 5, "each once: {listed:?}");
    assert!(all.iter().all(|id| listed.contains(id)), "{listed:?}");

    assert_eq!(queue.run_now(None, all[0]).await.expect("run"), Act::Done);
    assert_eq!(queue.archive(None, all[1]).await.expect("archive"), Act::Done);
    assert_eq!(queue.delete(None, all[2]).await.expect("delete"), Act::Done);
    assert_eq!(ids(&lease_all(&*queue).await), [all[0]], "it runs alone");
    let closed = close(&*queue, &at_once()).await.expect("ripe");
    assert_eq!(members(&closed), [all[3]]);
    for act in [
        queue.run_now(None, all[3]).await,
        queue.archive(None, all[3]).await,
        queue.delete(None, all[3]).await,
    ] {
        let error = act.expect_err("an aggregator has it");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    assert_eq!(info(&*queue, all[3]).await.stage, Stage::Aggregating);
    assert_eq!(queue.summary("default").await.expect("summary").aggregating, 2);
    assert!(queue.settle_group(&closed, aggregate("x")).await.expect("settle"));
    assert!(queue.groups("default").await.expect("groups").iter().all(|it| it.group == "b"));
}

/// A dead letter that is brought back, or a task that somebody ran, does not go back to its group.
pub async fn a_dead_letter_with_a_group_runs_alone(harness: &impl GroupsHarness) {
    let queue = harness.open_grouped(Limits::WIDE).await;
    let id = join(harness, &*queue, 1).await[0];
    assert_eq!(queue.archive(None, id).await.expect("archive"), Act::Done);
    let state = queue.state(id).await.expect("state");
    assert!(matches!(state, Some(TaskState::Dead { .. })), "{state:?}");
    assert!(queue.groups("default").await.expect("groups").is_empty());
    assert!(queue.retry_dead(id).await.expect("retry"));
    let leased = lease_one(&*queue).await.expect("due");
    let due = harness.clock().wall() + S;
    let cause = Error::new(ErrorKind::Timeout, "slow");
    assert!(queue.retry(&leased, due, &cause, true).await.expect("retry"));
    harness.clock().advance(S);
    let again = lease_one(&*queue).await.expect("it is tried again, alone");
    assert_eq!((again.id, again.attempt), (id, 2));
    assert_eq!(queue.lease("default", 1, LEASE).await.expect("lease").len(), 0);
}
