//! What `get` and its kin promise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zmsg::ErrorKind;

use crate::support::{Engine, eventually, insert};

#[tokio::test]
async fn a_key_without_a_row_is_none_and_is_asked_once() {
    let engine = Engine::open().await;
    assert_eq!(engine.get("feed_9").await, None);
    let fetches = engine.store.fetches.load(SeqCst);
    assert_eq!(engine.get("feed_9").await, None);
    assert_eq!(engine.store.fetches.load(SeqCst), fetches, "known absent, from L1");
}

#[tokio::test]
async fn a_hit_does_not_ask_the_store() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let fetches = engine.store.fetches.load(SeqCst);
    for _ in 0..100 {
        assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
    }
    assert_eq!(engine.store.fetches.load(SeqCst), fetches);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_load_serves_all_who_ask_at_the_same_time() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let _ = engine.zmsg.del("feed_1").await.unwrap();
    let fetches = engine.store.fetches.load(SeqCst);
    engine.store.hold_reads().await;
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let zmsg = engine.zmsg.clone();
            tokio::spawn(async move { zmsg.get("feed_1").await.unwrap() })
        })
        .collect();
    eventually("all readers wait", || async { engine.zmsg.stats().await.cache.coalesced >= 99 })
        .await;
    engine.store.release_reads();
    for reader in readers {
        assert_eq!(reader.await.unwrap().as_deref(), Some(&b"hello"[..]));
    }
    assert_eq!(engine.store.fetches.load(SeqCst), fetches + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_reader_does_not_cancel_the_load_of_others() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let _ = engine.zmsg.del("feed_1").await.unwrap();
    engine.store.hold_reads().await;
    let fetches = engine.store.fetches.load(SeqCst);
    let first = {
        let zmsg = engine.zmsg.clone();
        tokio::spawn(async move { zmsg.get("feed_1").await })
    };
    eventually("the load began", || async { engine.store.fetches.load(SeqCst) > fetches }).await;
    let second = {
        let zmsg = engine.zmsg.clone();
        tokio::spawn(async move { zmsg.get("feed_1").await })
    };
    eventually("the second waits", || async { engine.zmsg.stats().await.cache.coalesced >= 1 })
        .await;
    first.abort();
    engine.store.release_reads();
    assert_eq!(second.await.unwrap().unwrap().as_deref(), Some(&b"hello"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_load_never_replaces_a_newer_write() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "old").await;
    let _ = engine.zmsg.del("feed_1").await.unwrap();
    engine.store.hold_reads().await;
    let fetches = engine.store.fetches.load(SeqCst);
    let late = {
        let zmsg = engine.zmsg.clone();
        tokio::spawn(async move { zmsg.get("feed_1").await.unwrap() })
    };
    eventually("the load began", || async { engine.store.fetches.load(SeqCst) > fetches }).await;
    engine.insert("feed_1", "new").await;
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("new"), "own write, at once");
    engine.store.release_reads();
    late.await.unwrap();
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("new"), "and after the late load");
}

#[tokio::test]
async fn get_many_answers_in_the_order_of_its_keys() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "one").await;
    engine.insert("feed_2", "two").await;
    let _ = engine.zmsg.del("feed_2").await.unwrap();
    let answers = engine.zmsg.get_many(["feed_2", "feed_x", "feed_1", "feed_2"]).await.unwrap();
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    let text = |text: &'static str| Some(bytes::Bytes::from_static(text.as_bytes()));
    assert_eq!(answers, [text("two"), None, text("one"), text("two")]);
}

#[tokio::test]
async fn get_or_load_loads_once_and_caches() {
    let engine = Engine::open().await;
    let calls = Arc::new(AtomicU64::new(0));
    for _ in 0..3 {
        let calls = Arc::clone(&calls);
        let load = move || {
            let calls = Arc::clone(&calls);
            async move {
                calls.fetch_add(1, SeqCst);
                Ok(Some(bytes::Bytes::from_static(b"loaded")))
            }
        };
        let value = engine.zmsg.get_or_load("weather:berlin", load).await.unwrap();
        assert_eq!(value.as_deref(), Some(&b"loaded"[..]));
    }
    assert_eq!(calls.load(SeqCst), 1);
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Profile {
    name: String,
    age: u64,
}

#[tokio::test]
async fn typed_values_round_trip() {
    let engine = Engine::open().await;
    let profile = Profile { name: "Ada".into(), age: (1 << 60) + 1 };
    let _ = engine.zmsg.put_as("profile_1", &profile).await.unwrap();
    let engine = engine.reopen().await;
    assert_eq!(engine.zmsg.get_as::<Profile>("profile_1").await.unwrap(), Some(profile));
    assert_eq!(engine.zmsg.get_as::<Profile>("profile_2").await.unwrap(), None);
}

#[tokio::test]
async fn an_undecodable_value_is_an_error_and_leaves_the_cache() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "{\"name\":\"Ada\",\"age\":3}").await;
    let _ = engine.zmsg.cache_only("feed_1", "not json").await.unwrap();
    let error = engine.zmsg.get_as::<Profile>("feed_1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted);
    let loaded = engine.zmsg.get_as::<Profile>("feed_1").await.unwrap().unwrap();
    assert_eq!(loaded.name, "Ada");
}

#[tokio::test]
async fn a_value_given_out_cannot_change_the_cached_one() {
    let engine = Engine::open().await;
    engine.insert("feed_1", "hello").await;
    let mut mine = engine.zmsg.get("feed_1").await.unwrap().unwrap().to_vec();
    mine[0] = b'J';
    assert_eq!(engine.get("feed_1").await.as_deref(), Some("hello"));
}

#[tokio::test]
async fn an_invalid_key_is_refused_and_named() {
    let engine = Engine::open().await;
    for key in ["", "a\0b", &"k".repeat(1025)] {
        assert_eq!(engine.zmsg.get(key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        let write = engine.zmsg.cache_and_store(key, "v", insert("feed_1", "v")).await;
        assert_eq!(write.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(engine.data("feed_1").await, None);
}

#[tokio::test]
async fn a_ttl_of_the_call_ends_the_entry_before_the_default() {
    let clock = Arc::new(zmsg::core::ManualClock::new(1_700_000_000_000));
    let dir = tempfile::tempdir().unwrap();
    let config = crate::support::config(dir.path());
    let zmsg = zmsg::Zmsg::builder(config).clock(clock.clone()).open().await.unwrap();
    let _ = zmsg.cache_only("session_1", "short").ttl(Duration::from_secs(2)).await.unwrap();
    let _ = zmsg.cache_only("session_2", "default").await.unwrap();
    assert!(zmsg.get("session_1").await.unwrap().is_some());
    clock.advance(3_000);
    assert_eq!(zmsg.get("session_1").await.unwrap(), None);
    assert!(zmsg.get("session_2").await.unwrap().is_some());
}
