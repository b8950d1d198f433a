//! Queues that are away, clocks that are wrong, and makers that panic.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use zmsg_core::{Clock as _, ErrorKind, TaskId};
use zmsg_queue::{Enqueued, Firing, Missed, NewTask, PeriodicTask, Schedule, TaskQueue as _};

use super::{DAY, HOUR, World, hourly, telling};

#[tokio::test(start_paused = true)]
async fn a_firing_waits_for_a_queue_that_is_away() {
    let world = World::new();
    let node = world.start(hourly());
    world.until_past_the_hour(HOUR - 1_000).await;
    world.due().await;
    world.queue.firing_fails.store(u32::MAX, SeqCst);
    assert!(world.after(Duration::from_secs(50 * 60)).await.is_empty());
    let moment = world.hour();
    world.queue.firing_fails.store(0, SeqCst);
    assert_eq!(world.after(Duration::from_secs(5)).await, [moment], "soon after it is back");
    assert_eq!(node.agenda.entries()[0].lost, 0);

    // Two hours of it: the last moment that came fires, and those before it are lost.
    world.until_past_the_hour(HOUR - 1_000).await;
    world.due().await;
    world.queue.firing_fails.store(u32::MAX, SeqCst);
    assert!(world.after(Duration::from_millis(2 * HOUR + HOUR / 2)).await.is_empty());
    let moment = world.hour();
    world.queue.firing_fails.store(0, SeqCst);
    assert_eq!(world.after(Duration::from_secs(5)).await, [moment]);
    assert_eq!(node.agenda.entries()[0].lost, 2);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_while_the_queue_is_away_fires_what_came_since() {
    let world = World::new();
    world.queue.firing_fails.store(u32::MAX, SeqCst);
    let node = world.start(hourly());
    world.until_past_the_hour(20 * 60_000).await;
    let moment = world.hour();
    world.queue.firing_fails.store(0, SeqCst);
    assert_eq!(world.after(Duration::from_secs(5)).await, [moment]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_fires_nothing_twice() {
    let world = World::new();
    let node = world.start(hourly());
    world.queue.firing_unanswered.store(3, SeqCst);
    assert_eq!(world.after(Duration::from_millis(HOUR)).await.len(), 1);
    assert_eq!(node.agenda.entries()[0].last, Some(world.hour()));
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_ahead_waits_for_that_of_the_queue() {
    let world = World::new();
    let node = world.start(hourly());
    node.clock.set_on(20 * 60_000);
    world.until_past_the_hour(HOUR - 2_000).await;
    world.due().await;
    // By its own clock the moment came twenty minutes ago.
    assert!(world.after(Duration::from_millis(900)).await.is_empty());
    let last = world.queue.last_firing("default", "hourly").await.unwrap();
    assert_eq!(last, Some(world.hour()), "it would keep others from theirs");
    assert_eq!(world.after(Duration::from_secs(7)).await, [world.hour()]);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_behind_fires_nothing_again() {
    let world = World::new();
    let (right, behind) = (world.start(hourly()), world.start(hourly()));
    behind.clock.set_on(-(5 * HOUR).cast_signed());
    let fired = world.after(DAY).await;
    assert_eq!(fired.len(), 24);
    right.stop().await;
    // Alone it is late: by its clock, nothing is missed.
    let fired = world.after(DAY).await;
    let by_its_clock = behind.clock.wall() / HOUR * HOUR;
    assert_eq!(fired.last(), Some(&by_its_clock));
    assert!(fired.len() >= 18 && fired.is_sorted_by(|one, next| one < next), "{fired:?}");
    behind.stop().await;
}

#[tokio::test(start_paused = true)]
async fn clocks_that_go_back_fire_nothing_twice() {
    let world = World::new();
    let node = world.start(hourly());
    let mut fired = world.after(Duration::from_millis(10 * HOUR)).await;
    assert_eq!(fired.len(), 10);
    for clock in [&node.clock, &world.clock] {
        clock.set_on(-(3 * HOUR).cast_signed());
    }
    fired.extend(world.after(Duration::from_millis(10 * HOUR)).await);
    // Three hours come again, and have fired.
    assert_eq!(fired.len(), 17, "{fired:?}");
    assert!(fired.is_sorted_by(|one, next| one < next), "{fired:?}");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_was_a_year_ahead_goes_on_when_it_is_set_right() {
    let year = (365 * 24 * HOUR).cast_signed();
    for missed in [Missed::Skip, Missed::Once] {
        let world = World::new();
        let node = world.start(hourly().missed(missed));
        assert_eq!(world.after(Duration::from_millis(HOUR)).await.len(), 1);
        node.clock.set_on(year);
        // It offers what comes in a year, and is refused.
        assert!(world.after(Duration::from_millis(3 * HOUR)).await.is_empty());
        node.clock.set_on(-year);
        world.until_past_the_hour(60_000).await;
        world.due().await;
        assert_eq!(world.after(DAY).await.len(), 24);
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_often_fires_on_a_node_whose_clock_is_far_ahead_too() {
    let world = World::new();
    let node = world.start(telling("often", Duration::from_secs(5)));
    node.clock.set_on(30_000);
    world.after(Duration::from_secs(60)).await;
    let fired = world.after(Duration::from_secs(60)).await;
    // The latest that has come by its clock, each time that the queue's has come to it.
    assert!((1..=3).contains(&fired.len()), "{fired:?}");
    assert!(fired.iter().all(|moment| *moment <= world.clock.wall() + 1_000), "{fired:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_firing_may_join_a_group() {
    let world = World::new();
    let task = NewTask::new(TaskId::generate(), "report", "").group("reports");
    let firing = Firing::new("a", world.clock.wall(), task);
    assert_eq!(world.queue.enqueue_firing(firing).await.unwrap(), Enqueued::Accepted);
    assert!(world.due().await.is_empty(), "it waits for the others");
}

#[tokio::test(start_paused = true)]
async fn clocks_that_leap_forward_miss_moments_or_fire_once() {
    for (missed, made_up) in [(Missed::Skip, false), (Missed::Once, true)] {
        let world = World::new();
        let node = world.start(hourly().missed(missed));
        world.until_past_the_hour(30 * 60_000).await;
        assert_eq!(world.due().await.len(), 1);
        for clock in [&node.clock, &world.clock] {
            clock.set_on((7 * HOUR).cast_signed());
        }
        let last = world.hour();
        let expected = if made_up { vec![last] } else { vec![] };
        assert_eq!(world.after(Duration::from_secs(6)).await, expected, "within five seconds");
        assert_eq!(world.after(Duration::from_millis(HOUR)).await, [last + HOUR]);
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_or_taken_costs_its_own_firing_alone() {
    let world = World::new();
    let panics = PeriodicTask::new("panics", minutely(), |_| panic!("as it is meant to"));
    let unsupported = PeriodicTask::new("unsupported", minutely(), |_| {
        NewTask::new(TaskId::generate(), "report", "").unique_for(DAY)
    });
    let good = telling("good", Duration::from_secs(60));
    let node = world.start_all(vec![panics, unsupported, good]);
    assert_eq!(world.after(Duration::from_secs(600)).await.len(), 10);
    let lost: Vec<_> = node.agenda.entries().iter().map(|entry| entry.lost).collect();
    assert_eq!(lost, [10, 10, 0]);
    node.stop().await;
}

fn minutely() -> Schedule {
    Schedule::every(Duration::from_secs(60)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_ends_the_run() {
    let world = World::new();
    let node = world.start(hourly());
    world.after(Duration::from_millis(HOUR)).await;
    world.queue.close().await.unwrap();
    let ended = tokio::time::timeout(DAY, node.run).await.expect("with the next firing");
    assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Closed);
}
