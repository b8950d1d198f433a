//! Each call of a queue, for deployments that differ in how Redis is reached.

use zmsg_core::{Clock as _, Error, ErrorKind, Result, SystemClock, TaskId};
use zmsg_queue::{
    Enqueued, Firing, GroupRules, NewTask, RedisTaskQueue, TaskGroups as _, TaskQueue, TaskState,
};

use super::LEASE;

/// Takes tasks through every state, by every call, in the queue of this name, which nobody has used.
///
/// # Errors
/// The first of the queue's.
pub(super) async fn each_call(queue: &RedisTaskQueue, name: &str) -> Result<()> {
    let new = |payload: &'static str| NewTask::new(TaskId::generate(), "save", payload).queue(name);
    assert!(queue.lease(name, 9, LEASE).await?.is_empty());
    let all = ["a", "b", "c", "d"].map(new);
    assert_eq!(queue.enqueue_all(all.to_vec()).await?, [Enqueued::Accepted; 4]);
    assert_eq!(queue.enqueue(all[1].clone()).await?, Enqueued::Duplicate);
    let hour = SystemClock.wall() + 3_600_000;
    let later = new("later").due(hour);
    queue.enqueue(later.clone()).await?;
    assert!(matches!(queue.state(later.id).await?, Some(TaskState::Pending { .. })));

    let leased = queue.lease(name, 4, LEASE).await?;
    let ids = |tasks: &[NewTask]| tasks.iter().map(|task| task.id).collect::<Vec<_>>();
    assert_eq!(leased.iter().map(|task| task.id).collect::<Vec<_>>(), ids(&all));
    assert!(queue.extend(&leased[0], LEASE).await?);
    assert_eq!(queue.state(leased[0].id).await?, Some(TaskState::Leased));
    assert!(queue.complete(&leased[0]).await?);
    assert_eq!(queue.state(leased[0].id).await?, None);

    let cause = Error::new(ErrorKind::Timeout, "slow");
    assert!(queue.retry(&leased[1], hour, &cause, true).await?);
    assert!(queue.retry(&leased[2], 0, &cause, false).await?);
    assert!(queue.bury(&leased[3], &cause).await?);
    let stats = queue.stats(name).await?;
    assert_eq!((stats.pending, stats.due, stats.leased, stats.dead), (3, 1, 0, 1), "{stats:?}");
    assert!(queue.next_due(name).await?.is_some_and(|due| due < hour));

    let dead = queue.dead_letters(Some(name), None, 9).await?;
    assert_eq!((dead.len(), dead[0].id), (1, leased[3].id));
    assert!(queue.retry_dead(leased[3].id).await?);
    let again = queue.lease(name, 9, LEASE).await?;
    assert_eq!(again.len(), 2);
    for task in again {
        assert!(queue.bury(&task, &cause).await?);
        assert!(queue.drop_dead(task.id).await?);
    }

    let members = ["m", "n"].map(|payload| new(payload).group("g"));
    queue.enqueue_all(members.to_vec()).await?;
    let rules = GroupRules { size_max: 2, ..GroupRules::default() };
    assert_eq!(queue.ripe_groups(name, &rules).await?.names, ["g"]);
    let closed = queue.close_group(name, "g", &rules, LEASE).await?.expect("it is full");
    assert!(queue.reopen_group(&closed).await?);
    let closed = queue.close_group(name, "g", &rules, LEASE).await?.expect("it is full");
    assert_eq!(queue.reopen_overdue(name).await?, 0);
    assert!(queue.settle_group(&closed, new("both")).await?);
    let both = queue.lease(name, 9, LEASE).await?.remove(0);
    assert!(queue.complete(&both).await?);

    let [first, second] = ["x", "y"].map(|payload| new(payload).ordered_by("a"));
    let only = || new("z").unique_for(LEASE).retention(LEASE);
    queue.enqueue_all(vec![first, second, only()]).await?;
    assert_eq!(queue.enqueue(only()).await?, Enqueued::Locked);
    for expected in [2, 1] {
        let leased = queue.lease(name, 9, LEASE).await?;
        assert_eq!(leased.len(), expected, "one of the lane at a time");
        for task in leased {
            assert!(queue.set_result(&task, b"done").await?);
            assert!(queue.complete(&task).await?);
        }
    }

    let fires_at = SystemClock.wall();
    for answer in [Enqueued::Accepted, Enqueued::Duplicate] {
        let firing = Firing::new("nightly", fires_at, new("report"));
        assert_eq!(queue.enqueue_firing(firing).await?, answer);
    }
    assert_eq!(queue.last_firing(name, "nightly").await?, Some(fires_at));
    let report = queue.lease(name, 1, LEASE).await?.remove(0);
    assert!(queue.complete(&report).await?);
    Ok(())
}
