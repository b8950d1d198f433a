//! Promises about what is taken in.

use std::time::Duration;

use zmsg_core::{Clock, ErrorKind, TaskId};

use super::harness::{Harness, Limits, due_at, due_now, ids, lease_all, lease_one, one_leased};
use crate::{Enqueued, NewTask};

/// A task is accepted once per id: while it waits, while it is leased, and while it is dead.
pub async fn a_task_is_accepted_once_per_id(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let task = due_now(harness);
    assert_eq!(queue.enqueue(task.clone()).await.expect("first"), Enqueued::Accepted);
    let again = || async { queue.enqueue(task.clone()).await.expect("again") };
    assert_eq!(again().await, Enqueued::Duplicate, "waiting");
    let leased = lease_one(&*queue).await.expect("one task");
    assert_eq!(again().await, Enqueued::Duplicate, "leased");
    assert!(lease_all(&*queue).await.is_empty());
    let cause = zmsg_core::Error::invalid_input("no");
    assert!(queue.bury(&leased, &cause).await.expect("bury"));
    assert_eq!(again().await, Enqueued::Duplicate, "dead");
}

/// `enqueue_all` accepts all tasks or none, and answers in their order.
pub async fn enqueue_all_is_all_or_nothing(harness: &impl Harness) {
    let queue = harness.open(Limits { tasks_max: 3, dead_max: 3 }).await;
    let tasks = [due_now(harness), due_now(harness), due_now(harness), due_now(harness)];
    let [first, second, third, fourth] = tasks;
    let (accepted, duplicate) = (Enqueued::Accepted, Enqueued::Duplicate);

    let twice = vec![first.clone(), first.clone(), second.clone()];
    let answers = queue.enqueue_all(twice).await.expect("room for two");
    assert_eq!(answers, [accepted, duplicate, accepted]);

    let error = queue.enqueue_all(vec![third.clone(), fourth.clone()]).await.expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert_eq!(queue.state(third.id).await.expect("state"), None);

    let nameless = fourth.kind_named("");
    let error = queue.enqueue_all(vec![third.clone(), nameless]).await.expect_err("invalid");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(queue.state(third.id).await.expect("state"), None);

    let answers = queue.enqueue_all(vec![first, third]).await.expect("room for one");
    assert_eq!(answers, [duplicate, accepted]);
    assert!(queue.enqueue_all(vec![]).await.expect("nothing").is_empty());
}

/// A task without a due time is due from when it is accepted, and not before one that was due already.
pub async fn a_task_without_a_due_time_is_due_when_it_is_accepted(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let timeless = NewTask::new(TaskId::generate(), "save", "");
    queue.enqueue(timeless.clone()).await.expect("accepted");
    let age = queue.stats("default").await.expect("stats").oldest_due_age.expect("it is due");
    assert!(age < Duration::from_secs(60), "{age:?}");
    let overdue = due_at(harness.clock().wall() - 60_000);
    queue.enqueue(overdue.clone()).await.expect("accepted");
    assert_eq!(ids(&lease_all(&*queue).await), [overdue.id, timeless.id]);
}

/// `enqueue_many` answers each task by itself, in their order and whatever their queues: one that is refused
/// keeps no other out.
pub async fn enqueue_many_answers_each_task_by_itself(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let known = due_now(harness).queue("other");
    queue.enqueue(known.clone()).await.expect("enqueue");
    let lane: Vec<_> = (0..20).map(|_| due_now(harness).ordered_by("a")).collect();
    let nil = NewTask { id: TaskId(uuid::Uuid::nil()), ..due_now(harness) };
    let (nameless, other) = (due_now(harness).queue(""), due_now(harness).queue("other"));
    let mut tasks = lane.clone();
    tasks.insert(9, nil);
    tasks.insert(5, known);
    tasks.extend([nameless, lane[0].clone(), other.clone()]);
    let answers = queue.enqueue_many(tasks).await;

    let said: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|e| e.kind())).collect();
    let invalid = Err(ErrorKind::InvalidInput);
    let mut expected = vec![Ok(&Enqueued::Accepted); 20];
    expected.insert(9, invalid);
    expected.insert(5, Ok(&Enqueued::Duplicate));
    expected.extend([invalid, Ok(&Enqueued::Duplicate), Ok(&Enqueued::Accepted)]);
    assert_eq!(said, expected);

    for task in lane {
        let leased = lease_one(&*queue).await.expect("those of a lane are in their order");
        assert_eq!(leased.id, task.id);
        assert!(queue.complete(&leased).await.expect("complete"));
    }
    let leased = queue.lease("other", 9, super::harness::LEASE).await.expect("lease");
    assert_eq!(leased.len(), 2);
    assert!(queue.enqueue_many(vec![]).await.is_empty());
    queue.close().await.expect("close");
    let answers = queue.enqueue_many(vec![other]).await;
    assert_eq!(answers[0].as_ref().map_err(|error| error.kind()), Err(ErrorKind::Closed));
}

/// At `tasks_max` `enqueue_many` takes the first tasks, as far as there is room.
pub async fn enqueue_many_takes_the_first_as_far_as_there_is_room(harness: &impl Harness) {
    let queue = harness.open(Limits { tasks_max: 5, dead_max: 9 }).await;
    let tasks: Vec<_> = (0..40).map(|_| due_now(harness)).collect();
    queue.enqueue(tasks[1].clone()).await.expect("enqueue");
    let answers = queue.enqueue_many(tasks.clone()).await;
    assert_eq!(answers.len(), 40);
    let (taken, refused) = answers.split_at(5);
    for (place, answer) in taken.iter().enumerate() {
        let expected = if place == 1 { Enqueued::Duplicate } else { Enqueued::Accepted };
        assert_eq!(answer.as_ref().expect("room"), &expected);
    }
    for answer in refused {
        let error = answer.as_ref().expect_err("full");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    }
    let mut leased = ids(&lease_all(&*queue).await);
    leased.sort_unstable();
    assert_eq!(leased, tasks[..5].iter().map(|task| task.id).collect::<Vec<_>>());
}

/// At `tasks_max` an enqueue is refused as `Overloaded` and nothing of it stays; a duplicate is
/// still recognized; a completed or buried task makes room.
pub async fn intake_is_bounded(harness: &impl Harness) {
    let queue = harness.open(Limits { tasks_max: 2, dead_max: 9 }).await;
    let (first, extra) = (due_now(harness), due_now(harness));
    queue.enqueue(first.clone()).await.expect("one of two");
    queue.enqueue(due_now(harness)).await.expect("two of two");

    let error = queue.enqueue(extra.clone()).await.expect_err("a third");
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert!(error.is_temporary());
    assert_eq!(queue.state(extra.id).await.expect("state"), None);
    assert_eq!(queue.enqueue(first).await.expect("duplicate"), Enqueued::Duplicate);

    let leased = lease_all(&*queue).await;
    assert_eq!(leased.len(), 2);
    queue.enqueue(extra.clone()).await.expect_err("leased tasks count");
    assert!(queue.complete(&leased[0]).await.expect("complete"));
    assert_eq!(queue.enqueue(extra).await.expect("room"), Enqueued::Accepted);
    let cause = zmsg_core::Error::invalid_input("no");
    assert!(queue.bury(&leased[1], &cause).await.expect("bury"));
    queue.enqueue(due_now(harness)).await.expect("dead letters do not count");
    let error = queue.retry_dead(leased[1].id).await.expect_err("full again");
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    let dead = queue.dead_letters(None, None, 9).await.expect("dead letters");
    assert_eq!(dead.len(), 1, "a refused retry leaves the dead letter where it was");
}

/// Names that are empty, long or hold NUL, the nil id, no attempts, and a due time that no
/// database can keep are refused as `InvalidInput`.
pub async fn what_no_queue_would_take_is_refused(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let good = due_now(harness);
    let nil = NewTask { id: TaskId(uuid::Uuid::nil()), ..good.clone() };
    for task in [
        good.clone().queue(""),
        good.clone().queue("x".repeat(256)),
        good.clone().queue("a\0b"),
        good.clone().kind_named(""),
        good.clone().attempts_max(0),
        good.clone().due(u64::MAX),
        nil,
    ] {
        let error = queue.enqueue(task.clone()).await.expect_err("invalid");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{task:?}: {error}");
    }
    let hostile = good.queue("'; DROP TABLE zmsg_tasks; --\"?$1 列");
    let name = hostile.queue.clone();
    queue.enqueue(hostile).await.expect("a strange name is a name");
    let leased = queue.lease(&name, 1, super::harness::LEASE).await.expect("lease");
    assert_eq!(leased[0].queue, name);
}

/// Payload and names come back as they went in, every byte of them.
pub async fn payloads_come_back_byte_for_byte(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let every_byte: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
    for payload in [Vec::new(), b"\0".to_vec(), "键\u{1f600}".into(), every_byte] {
        let task = NewTask { payload: payload.clone().into(), ..due_now(harness) };
        queue.enqueue(task.clone()).await.expect("enqueue");
        let leased = lease_one(&*queue).await.expect("due");
        assert_eq!(leased.payload, payload);
        assert_eq!((leased.id, leased.kind.as_str()), (task.id, "save"));
        assert_eq!(leased.created, harness.clock().wall());
        assert!(queue.complete(&leased).await.expect("complete"));
    }
}

/// A task is not handed out a millisecond before it is due, and is from that moment on.
pub async fn a_delay_is_honoured_to_the_millisecond(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let task = due_at(harness.clock().wall() + 100);
    queue.enqueue(task).await.expect("enqueue");
    harness.clock().advance(99);
    assert!(lease_all(&*queue).await.is_empty(), "one millisecond early");
    harness.clock().advance(1);
    assert!(lease_one(&*queue).await.is_some(), "on time");
}

/// Due tasks are handed out oldest due first, and by id where that is the same, new ones and
/// those whose lease ran out alike; `max` is kept.
pub async fn tasks_are_leased_in_the_order_of_due_then_id(harness: &impl Harness) {
    let queue = harness.open(Limits::WIDE).await;
    let now = harness.clock().wall();
    let mut tasks = [5, 3, 3, 9, 3, 1].map(|ago| due_at(now - ago)).to_vec();
    tasks.reverse();
    queue.enqueue_all(tasks.clone()).await.expect("enqueue");
    queue.enqueue(due_at(now + 1)).await.expect("not due");
    tasks.sort_by_key(|task| (task.due, task.id));
    let expected: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();

    assert!(queue.lease("default", 0, super::harness::LEASE).await.expect("none").is_empty());
    let first = queue.lease("default", 4, super::harness::LEASE).await.expect("four");
    assert_eq!(ids(&first), expected[..4]);
    assert_eq!(ids(&lease_all(&*queue).await), expected[4..]);

    // Those whose lease ran out keep their place among the rest.
    harness.clock().advance(super::harness::LEASE_MS);
    let (oldest, youngest) = (due_at(now - 100), due_at(now + 100));
    queue.enqueue_all(vec![youngest.clone(), oldest.clone()]).await.expect("enqueue");
    let third = queue.lease("default", 3, super::harness::LEASE).await.expect("three");
    assert_eq!(ids(&third), [oldest.id, expected[0], expected[1]]);
    let rest = ids(&lease_all(&*queue).await);
    assert_eq!((&rest[..4], rest.last()), (&expected[2..], Some(&youngest.id)));
}

/// Queues of different names see nothing of each other.
pub async fn queues_of_different_names_are_apart(harness: &impl Harness) {
    let (queue, held) = one_leased(harness).await;
    let other = due_now(harness).queue("other");
    queue.enqueue(other.clone()).await.expect("enqueue");
    assert!(lease_all(&*queue).await.is_empty());
    assert_eq!(queue.stats("other").await.expect("stats").pending, 1);
    let leased = queue.lease("other", 9, super::harness::LEASE).await.expect("lease");
    assert_eq!(ids(&leased), [other.id]);
    assert!(queue.complete(&leased[0]).await.expect("complete"));
    assert!(queue.complete(&held).await.expect("complete"));
}

impl NewTask {
    fn kind_named(self, kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..self }
    }
}
