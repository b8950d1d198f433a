//! Promises about transactions.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::JoinSet;
use zmsg_core::{ErrorKind, ErrorStatus, Statement};

use super::{Harness, delete, ids, insert, with_things};
use crate::{Expect, Otherwise, Outcome, Step};

/// `execute_all` is one transaction: all steps or none.
pub async fn execute_all_is_all_or_nothing(harness: &impl Harness) {
    let store = with_things(harness).await;
    let good = vec![Step::any(insert(1, "a")), Step::any(insert(2, "b"))];
    let outcomes = store.execute_all(good).await.unwrap();
    assert_eq!(outcomes.iter().map(|outcome| outcome.changed).collect::<Vec<_>>(), [1, 1]);

    let bad = vec![Step::any(insert(3, "c")), Step::any(delete(1)), Step::any(insert(2, "twice"))];
    store.execute_all(bad).await.unwrap_err();
    assert_eq!(ids(&store).await, [1, 2]);

    assert!(store.execute_all(vec![]).await.unwrap().is_empty());
}

/// The error of `execute_all` names the step that was to blame.
pub async fn a_step_error_names_its_step(harness: &impl Harness) {
    let store = with_things(harness).await;
    let steps = vec![Step::any(insert(1, "a")), Step::any(insert(1, "twice"))];
    let failed = store.execute_all(steps).await.unwrap_err();
    assert_eq!((failed.step, failed.error.kind()), (Some(1), ErrorKind::InvalidData));
}

/// A step that changes another number of rows than it must rolls everything back.
pub async fn an_unmet_expectation_aborts_with_a_conflict(harness: &impl Harness) {
    let store = with_things(harness).await;
    store.execute(&insert(1, "a")).await.unwrap();
    for (expect, met) in [
        (Expect::Exactly(1), true),
        (Expect::AtLeast(1), true),
        (Expect::Exactly(2), false),
        (Expect::AtLeast(2), false),
    ] {
        let steps = vec![
            Step::any(insert(2, "b")),
            Step::must(delete(1), expect, "it was to be one"),
            Step::any(insert(1, "back again")),
            Step::any(delete(2)),
        ];
        let result = store.execute_all(steps).await;
        assert_eq!(ids(&store).await, [1], "{expect:?}");
        if met {
            result.unwrap();
            continue;
        }
        let failed = result.unwrap_err();
        assert_eq!((failed.step, failed.error.kind()), (Some(1), ErrorKind::Conflict));
        assert_eq!(failed.error.status(), ErrorStatus::Permanent);
        assert!(failed.to_string().contains("it was to be one"), "{failed}");
    }
}

/// A step may bring the statements that run when its expectation is not met, at once and in the
/// same transaction.
pub async fn an_unmet_expectation_runs_its_statements(harness: &impl Harness) {
    let store = with_things(harness).await;
    let upsert = |otherwise| Step {
        statement: Statement::new("UPDATE things SET note = 'seen' WHERE id = 7", vec![]),
        expect: Expect::Exactly(1),
        otherwise: Otherwise::Run(otherwise),
    };
    let twice = vec![upsert(vec![insert(7, "new")]), upsert(vec![insert(7, "never")])];
    let outcomes = store.execute_all(twice).await.unwrap();
    assert_eq!(outcomes.iter().map(|outcome| outcome.changed).collect::<Vec<_>>(), [0, 1]);

    store.execute(&delete(7)).await.unwrap();
    let refused = vec![Step::any(insert(1, "a")), upsert(vec![insert(7, "new"), insert(7, "x")])];
    assert_eq!(store.execute_all(refused).await.unwrap_err().step, Some(1));
    assert!(ids(&store).await.is_empty());
}

/// A step may be a query that checks something: it must return as many rows as it says, and it
/// sees what the steps before it did.
pub async fn a_query_among_the_steps_is_a_check(harness: &impl Harness) {
    let store = with_things(harness).await;
    store.execute(&insert(1, "a")).await.unwrap();
    let found = |wanted| {
        let text = "SELECT id FROM things WHERE id > ? ORDER BY id";
        let query = Statement::query(text, vec![0.into()]);
        Step::must(query, Expect::Returns(wanted), "it was to find as many")
    };
    let good = vec![found(1), Step::any(insert(2, "b")), found(2)];
    let outcomes = store.execute_all(good).await.unwrap();
    assert_eq!(outcomes.iter().map(|outcome| outcome.changed).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(outcomes[2].rows.iter().map(|row| row.int(0).unwrap()).collect::<Vec<_>>(), [1, 2]);

    for wanted in [0, 1, 3] {
        let steps = vec![Step::any(delete(2)), Step::any(insert(3, "c")), found(wanted)];
        let failed = store.execute_all(steps).await.unwrap_err();
        assert_eq!((failed.step, failed.error.kind()), (Some(2), ErrorKind::Conflict));
        assert!(failed.to_string().contains("it was to find as many"), "{failed}");
        assert_eq!(ids(&store).await, [1, 2]);
    }

    let returning = Statement::query("DELETE FROM things RETURNING note", vec![]);
    let steps = vec![Step {
        statement: returning,
        expect: Expect::Returns(3),
        otherwise: Otherwise::Run(vec![insert(9, "fewer than three")]),
    }];
    let outcomes = store.execute_all(steps).await.unwrap();
    assert_eq!((outcomes[0].changed, outcomes[0].rows.len()), (2, 2));
    assert_eq!(ids(&store).await, [9]);
}

/// A check is a query that must find something, whatever it finds; its outcome is empty. It sees
/// what the steps before it did, and what it refuses leaves nothing behind.
pub async fn a_check_that_finds_nothing_rolls_the_batch_back(harness: &impl Harness) {
    let store = with_things(harness).await;
    let check = |id: i64| {
        let text = "SELECT id, note FROM things WHERE id >= ? -- and nothing else";
        Step::check(Statement::query(text, vec![id.into()]), "somebody was to be there")
    };
    // Twice, for what a store learns of a statement when it meets it first.
    for id in [1, 2] {
        let refused = vec![Step::any(insert(id, "a")), check(id + 1), Step::any(insert(9, "b"))];
        let failed = store.execute_all(refused).await.unwrap_err();
        assert_eq!((failed.step, failed.error.kind()), (Some(1), ErrorKind::Conflict));
        assert_eq!(failed.error.message(), "somebody was to be there");
        let last = vec![Step::any(insert(id, "a")), check(id + 1)];
        let failed = store.execute_all(last).await.unwrap_err();
        assert_eq!((failed.step, failed.error.kind()), (Some(1), ErrorKind::Conflict));
        assert_eq!(ids(&store).await, (1..id).collect::<Vec<_>>());

        let good = vec![check_nothing(), Step::any(insert(id, "a")), check(id)];
        let outcomes = store.execute_all(good).await.unwrap();
        let inserted = Outcome { changed: 1, ..Outcome::default() };
        assert_eq!(outcomes, [Outcome::default(), inserted, Outcome::default()]);
    }
    assert_eq!(ids(&store).await, [1, 2]);
}

/// A query that finds nothing may bring the statements that run then, like any other expectation.
pub async fn a_query_that_finds_nothing_runs_its_statements(harness: &impl Harness) {
    let store = with_things(harness).await;
    let unless_found = |id: i64| Step {
        statement: Statement::query("SELECT id FROM things WHERE id = ?", vec![id.into()]),
        expect: Expect::Found,
        otherwise: Otherwise::Run(vec![insert(id, "was not there")]),
    };
    for _ in 0..2 {
        let outcomes = store.execute_all(vec![unless_found(1), unless_found(2)]).await.unwrap();
        assert_eq!(outcomes, [Outcome::default(), Outcome::default()]);
        assert_eq!(ids(&store).await, [1, 2]);
    }
}

/// A check that is always met.
fn check_nothing() -> Step {
    Step::check(Statement::query("SELECT 1", vec![]), "there is always a number")
}

/// A job that fails leaves the jobs beside it alone, whether they share a commit or not.
pub async fn a_failing_job_does_not_touch_its_neighbours(harness: &impl Harness) {
    let store = with_things(harness).await;
    let mut jobs = JoinSet::new();
    for id in 0..200_i64 {
        let store = Arc::clone(&store);
        jobs.spawn(async move {
            let note = if id % 3 == 0 { "" } else { "good" };
            let steps = vec![Step::any(insert(1000 + id, "first")), Step::any(insert(id, note))];
            (id, store.execute_all(steps).await)
        });
    }
    while let Some(done) = jobs.join_next().await {
        let (id, result) = done.unwrap();
        match result {
            Ok(_) => assert_ne!(id % 3, 0),
            Err(failed) => {
                assert_eq!(id % 3, 0, "{failed}");
                assert_eq!((failed.step, failed.error.kind()), (Some(1), ErrorKind::InvalidData));
            }
        }
    }
    let good: Vec<i64> = (0..200).filter(|id| id % 3 != 0).collect();
    let firsts = good.iter().map(|id| 1000 + id);
    let expected: Vec<i64> = good.iter().copied().chain(firsts).collect();
    assert_eq!(ids(&store).await, expected);
}

/// Increments from many tasks at once all arrive.
pub async fn concurrent_writers_lose_nothing(harness: &impl Harness) {
    let store = with_things(harness).await;
    store.execute(&insert(0, "0")).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 1..=16_i64 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for round in 0..25 {
                let bump = "UPDATE things SET note = CAST(CAST(note AS INTEGER) + 1 AS TEXT) \
                            WHERE id = 0";
                let bump = Step::must(Statement::new(bump, vec![]), Expect::Exactly(1), "one row");
                let row = Step::any(insert(writer * 100 + round, "row"));
                store.execute_all(vec![bump, row]).await.unwrap();
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let rows = super::rows(&store, "SELECT note FROM things WHERE id = 0", vec![]).await;
    assert_eq!(rows[0].text(0).unwrap(), "400");
    assert_eq!(ids(&store).await.len(), 401);
}

/// A future that is dropped after it began leaves a transaction whole or absent.
pub async fn a_dropped_future_leaves_nothing_half_done(harness: &impl Harness) {
    let store = with_things(harness).await;
    for id in 0..50 {
        let steps = vec![Step::any(insert(id, "half")), Step::any(insert(1000 + id, "whole"))];
        poll_once(store.execute_all(steps)).await;
        poll_once(store.execute(&insert(2000 + id, "single"))).await;
    }
    // Closing waits for work in progress.
    store.close().await.unwrap();
    let store = harness.open().await;
    let found = ids(&store).await;
    for id in 0..50 {
        assert_eq!(found.contains(&id), found.contains(&(1000 + id)), "batch {id}");
    }
    store.execute(&insert(9999, "no lock stayed behind")).await.unwrap();
}

/// Begins a future and drops it.
async fn poll_once<T>(future: impl Future<Output = T>) {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}
