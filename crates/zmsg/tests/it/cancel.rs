//! Futures of the engine, dropped at every poll: nothing half done, nothing stuck.

mod lifecycle;

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::timeout;
use zmsg::{Level, counter, slice, sql};

use crate::support::{DEADLINE, Engine, insert};

/// Ends after so many polls, whatever the future does; gives its output if that came first.
struct UpTo<F> {
    future: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for UpTo<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The last poll it gets: nobody wakes what is dropped.
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn up_to<F: Future>(left: usize, future: F) -> UpTo<F> {
    UpTo { future: Box::pin(future), left }
}

/// Runs a call with one poll, with two, and so on, until it has ended by itself twice; how often it
/// was dropped. Each call gets a number of its own.
async fn at_every_poll<F, Fut, T>(what: &str, calls: &Cell<u64>, mut call: F) -> u64
where
    F: FnMut(u64) -> Fut,
    Fut: Future<Output = T>,
{
    let (mut ended, mut dropped) = (0, 0);
    for polls in 0..200 {
        calls.set(calls.get() + 1);
        let run = timeout(DEADLINE, up_to(polls, call(calls.get()))).await;
        match run.unwrap_or_else(|_| panic!("{what} hangs, with {polls} polls")) {
            Some(_) => ended += 1,
            None => dropped += 1,
        }
        if ended == 2 {
            return dropped;
        }
    }
    panic!("{what} never ended within 200 polls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_read_leaves_no_key_stuck() {
    let engine = Engine::open().await;
    let zmsg = &engine.zmsg;
    let calls = Cell::new(0);
    let key = |n: u64| format!("feed_{n}");
    let numbers = format!("{:?}", (0..1_000).collect::<Vec<u64>>());
    let rows = "INSERT INTO feeds (id, data) SELECT 'feed_' || value, 'v' FROM json_each(?)";
    zmsg.sql_exec(sql(rows, (numbers,)).keys((0..1_000).map(key))).await.unwrap();
    at_every_poll("get", &calls, |n| async move { zmsg.get(key(n)).await }).await;
    at_every_poll("get_many", &calls, |n| async move { zmsg.get_many([key(n), key(n + 1)]).await })
        .await;
    at_every_poll("db_hit", &calls, |n| async move { zmsg.db_hit(key(n)).await }).await;
    let load = |n: u64| async move {
        let loading = || async { Ok(Some(bytes::Bytes::from_static(b"v"))) };
        zmsg.get_or_load(format!("loaded_{n}"), loading).await
    };
    at_every_poll("get_or_load", &calls, load).await;
    at_every_poll("stats", &calls, |_| async { zmsg.stats().await }).await;
    // Each key that a dropped call had begun to load is loaded by the next one.
    for n in 1..=calls.get() {
        let got = timeout(DEADLINE, zmsg.get(key(n))).await.expect("a key is stuck").unwrap();
        assert_eq!(got.as_deref(), Some(b"v".as_slice()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_write_is_done_or_not_and_never_half() {
    let engine = Engine::open().await;
    let zmsg = &engine.zmsg;
    let calls = Cell::new(0);
    let id = |n: u64| format!("feed_{n}");
    let value = |n: u64| format!("value {n}");
    let mut dropped = 0;
    let store =
        |n| async move { zmsg.cache_and_store(id(n), value(n), insert(&id(n), &value(n))).await };
    dropped += at_every_poll("cache_and_store", &calls, store).await;
    let delay = |n| async move {
        zmsg.cache_and_delay_store(id(n), value(n), insert(&id(n), &value(n))).await
    };
    dropped += at_every_poll("cache_and_delay_store", &calls, delay).await;
    let exec = |n| async move { zmsg.sql_exec(insert(&id(n), &value(n)).keys([id(n)])).await };
    dropped += at_every_poll("sql_exec", &calls, exec).await;
    let applied = |n| async move {
        let receipt =
            zmsg.cache_and_delay_store(id(n), value(n), insert(&id(n), &value(n))).await?;
        receipt.applied().await?;
        receipt.wait(Level::Database).await
    };
    dropped += at_every_poll("Receipt::applied", &calls, applied).await;
    assert!(dropped >= 8, "{dropped} calls were dropped: twice of each kind");
    settle(&engine).await;
    for n in 1..=calls.get() {
        let (row, got) = (engine.data(&id(n)).await, engine.get(&id(n)).await);
        assert!(row.is_none() || row.as_deref() == Some(&value(n)), "{n}: {row:?}");
        assert_eq!(row, got, "{n}: the cache and the table are of one mind");
    }
    // And so with deleting them.
    let last = calls.replace(0);
    let delete = |n| async move { sql("DELETE FROM feeds WHERE id = ?", (id(n),)) };
    let del = |n| async move { zmsg.del_store(id(n), delete(n).await).await };
    at_every_poll("del_store", &calls, del).await;
    let del = |n| async move { zmsg.del_delay_store(id(n), delete(n).await).await };
    at_every_poll("del_delay_store", &calls, del).await;
    at_every_poll("del", &calls, |n| async move { zmsg.del(id(n)).await }).await;
    settle(&engine).await;
    for n in 1..=last {
        assert_eq!(engine.data(&id(n)).await, engine.get(&id(n)).await, "{n}");
    }
}

/// Everything that was begun has ended.
async fn settle(engine: &Engine) {
    crate::support::eventually("the queue drained", || async {
        let queue = engine.zmsg.stats().await.queue.unwrap();
        queue.pending + queue.leased == 0
    })
    .await;
    // A store write that was dropped goes on: the next one of its key waits for its end, and so does
    // a flush for what it took.
    engine.zmsg.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_periodic_write_or_flush_counts_each_operation_once() {
    let engine = Engine::open().await;
    let zmsg = &engine.zmsg;
    engine.insert("feed_1", "v").await;
    let calls = Cell::new(0);
    let (acked, tried) = (Cell::new(0_i64), Cell::new(0_i64));
    let like = |_| async {
        tried.set(tried.get() + 1);
        let op = counter("feeds", "likes").inc(1).where_eq("id", "feed_1");
        let _ = zmsg.cache_and_periodic_store("feed_1", None, op).await.unwrap();
        acked.set(acked.get() + 1);
    };
    for _ in 0..10 {
        at_every_poll("cache_and_periodic_store", &calls, like).await;
        at_every_poll("flush", &calls, |_| async { zmsg.flush().await }).await;
    }
    let tag = |n: u64| async move {
        let op = slice("feeds", "tags").add(n.to_string()).where_eq("id", "feed_1");
        let receipt = zmsg.cache_and_periodic_store("feed_1", None, op).await.unwrap();
        zmsg.flush().await.unwrap();
        receipt.applied().await
    };
    at_every_poll("Receipt::applied", &calls, tag).await;
    zmsg.flush().await.unwrap();
    let likes = engine.likes("feed_1").await;
    assert!((acked.get()..=tried.get()).contains(&likes), "{likes}: {acked:?} of {tried:?}");
    let tags = engine.count("SELECT json_array_length(tags) FROM feeds").await;
    let distinct = "SELECT count(DISTINCT value) FROM feeds, json_each(tags)";
    assert_eq!(tags, engine.count(distinct).await, "none twice");
    assert!(tags > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_of_the_administration_changes_all_or_nothing() {
    let engine = Engine::open().await;
    let zmsg = &engine.zmsg;
    let calls = Cell::new(0);
    let ids = std::cell::RefCell::new(std::collections::HashSet::new());
    let next = |_| async {
        let id = zmsg.next_id("feed").await.unwrap();
        assert!(ids.borrow_mut().insert(id.to_string()), "an id came twice");
    };
    at_every_poll("next_id", &calls, next).await;
    // Operations on rows that are not there become dead letters.
    for n in 0..60 {
        let op = counter("feeds", "likes").inc(1).where_eq("id", format!("none_{n}"));
        let _ = zmsg.cache_and_periodic_store(format!("none_{n}"), None, op).await.unwrap();
    }
    zmsg.flush().await.unwrap();
    let dead = zmsg.dead_letters();
    at_every_poll("list", &calls, |_| async { dead.list(5).await }).await;
    let all = dead.list(1_000).await.unwrap();
    assert_eq!(all.len(), 60);
    let own = |n: u64| all[n as usize % 60].id;
    at_every_poll("retry", &calls, |n| dead.retry(own(n))).await;
    at_every_poll("drop", &calls, |n| dead.drop(own(n))).await;
    zmsg.flush().await.unwrap();
}
