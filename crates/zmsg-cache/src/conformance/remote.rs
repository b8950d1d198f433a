//! What every L2 has to do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_core::Key;

use crate::{HoldToken, Lookup, RemoteCache, RemoteEntry};

/// Makes the cache under test, and makes time pass for it.
#[async_trait]
pub trait RemoteHarness: fmt::Debug + Sync {
    /// A cache in which the keys that the suite uses are not in use.
    async fn cache(&self) -> Arc<dyn RemoteCache>;

    /// Returns when this much time has passed for the cache: by moving its clock, or really.
    async fn pass(&self, time: Duration);
}

/// Makes a test of every promise of [`RemoteCache`](crate::RemoteCache) for one backend, or, with
/// a list, of those that it can keep.
#[macro_export]
macro_rules! remote_conformance {
    ($harness:expr) => {
        $crate::remote_conformance!($harness, [
            a_filled_value_comes_back_with_its_rest,
            absent_is_something_that_comes_back,
            get_many_answers_in_order,
            nothing_outlives_its_ttl,
            a_fill_bounces_off_a_value,
            a_hold_reads_as_a_miss,
            a_fill_bounces_off_a_hold_until_it_expires,
            the_holder_publishes,
            a_deletion_is_published_as_absent,
            nobody_publishes_on_a_contended_hold,
            an_expired_hold_publishes_nothing,
            a_hold_publishes_once,
            the_same_token_holds_twice_without_contention,
            a_set_replaces_whatever_is_there,
            a_set_ends_the_hold_of_a_writer,
            an_invalidated_key_is_a_miss_that_refuses_fills,
            an_invalidation_ends_the_hold_of_a_writer,
            a_hold_is_never_shortened,
            many_keys_are_invalidated_as_one_is,
            a_writer_after_an_invalidation_publishes,
            a_writer_after_an_invalidation_that_met_another_publishes_nothing,
            values_are_bytes_of_any_kind,
        ]);
    };
    ($harness:expr, [$($promise:ident),* $(,)?]) => {$(
        #[tokio::test]
        async fn $promise() {
            $crate::conformance::remote::$promise(&$harness).await;
        }
    )*};
}

/// Longer than a test takes on a slow machine, short enough to wait for.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

fn key(name: &str) -> Key {
    Key::new(format!("zmsg:conformance:{name}:{}", HoldToken::generate().0)).expect("a valid key")
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn value(cache: &dyn RemoteCache, key: &Key) -> Option<Option<Bytes>> {
    look(cache, key).await.entry.map(|entry| entry.value)
}

async fn look(cache: &dyn RemoteCache, key: &Key) -> Lookup {
    cache.get(key).await.expect("it answers")
}

async fn fill(cache: &dyn RemoteCache, key: &Key, text: &'static str) -> bool {
    fill_for(cache, key, Some(&bytes(text)), LONG).await
}

/// A fill after a look.
async fn fill_for(
    cache: &dyn RemoteCache,
    key: &Key,
    value: Option<&Bytes>,
    ttl: Duration,
) -> bool {
    let since = look(cache, key).await.at;
    cache.fill(key, value, ttl, since).await.expect("it answers")
}

async fn hold(cache: &dyn RemoteCache, key: &Key, ttl: Duration) -> HoldToken {
    let token = HoldToken::generate();
    cache.hold(key, token, ttl).await.expect("it answers");
    token
}

async fn publish(cache: &dyn RemoteCache, key: &Key, token: HoldToken, text: &'static str) -> bool {
    cache.publish(key, token, Some(&bytes(text)), LONG).await.expect("it answers")
}

/// A fill of an empty place is there for all, with what is left of its TTL.
pub async fn a_filled_value_comes_back_with_its_rest(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("filled"));
    assert_eq!(value(&*cache, &key).await, None);
    assert!(fill(&*cache, &key, "one").await);
    harness.pass(SHORT).await;
    let RemoteEntry { value, ttl_left } = look(&*cache, &key).await.entry.expect("a hit");
    assert_eq!(value, Some(bytes("one")));
    assert!(ttl_left <= LONG - SHORT && ttl_left > LONG / 2, "{ttl_left:?}");
}

/// "Known to be absent" is not a miss.
pub async fn absent_is_something_that_comes_back(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("absent"));
    assert!(fill_for(&*cache, &key, None, LONG).await);
    assert_eq!(value(&*cache, &key).await, Some(None));
    assert!(!fill(&*cache, &key, "late").await);
}

/// One answer for each key, in the order of the keys, repeated keys included.
pub async fn get_many_answers_in_order(harness: &impl RemoteHarness) {
    let cache = harness.cache().await;
    let [one, two, held, none] = ["one", "two", "held", "none"].map(key);
    fill(&*cache, &one, "1").await;
    fill(&*cache, &two, "2").await;
    hold(&*cache, &held, LONG).await;
    let asked = [two.clone(), none, held, one, two];
    let found = cache.get_many(&asked).await.expect("it answers");
    let found: Vec<_> = found.into_iter().map(|found| found.entry.and_then(|e| e.value)).collect();
    let two = Some(bytes("2"));
    assert_eq!(found, [two.clone(), None, None, Some(bytes("1")), two]);
    assert!(cache.get_many(&[]).await.expect("it answers").is_empty());
}

/// Filled, set and published values end when their TTL has passed.
pub async fn nothing_outlives_its_ttl(harness: &impl RemoteHarness) {
    let cache = harness.cache().await;
    let [filled, set, published] = ["filled", "set", "published"].map(key);
    fill_for(&*cache, &filled, Some(&bytes("x")), SHORT).await;
    cache.set(&set, &bytes("x"), SHORT).await.expect("it answers");
    let token = hold(&*cache, &published, LONG).await;
    cache.publish(&published, token, Some(&bytes("x")), SHORT).await.expect("it answers");
    harness.pass(SHORT * 2).await;
    for key in [filled, set, published] {
        assert_eq!(value(&*cache, &key).await, None, "{key:?}");
    }
}

/// What came first stays.
pub async fn a_fill_bounces_off_a_value(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("bounce"));
    assert!(fill(&*cache, &key, "first").await);
    assert!(!fill(&*cache, &key, "second").await);
    assert_eq!(value(&*cache, &key).await, Some(Some(bytes("first"))));
}

/// The value is gone from the moment the hold is there.
pub async fn a_hold_reads_as_a_miss(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("held"));
    fill(&*cache, &key, "old").await;
    hold(&*cache, &key, LONG).await;
    assert_eq!(value(&*cache, &key).await, None);
}

/// A late fill is kept out while the writer is at work, not for ever.
pub async fn a_fill_bounces_off_a_hold_until_it_expires(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("late"));
    hold(&*cache, &key, SHORT).await;
    assert!(!fill(&*cache, &key, "old").await);
    assert_eq!(value(&*cache, &key).await, None);
    harness.pass(SHORT * 2).await;
    assert!(fill(&*cache, &key, "new").await);
}

/// The only writer of a key shows its value.
pub async fn the_holder_publishes(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("publish"));
    let token = hold(&*cache, &key, LONG).await;
    assert!(!publish(&*cache, &key, HoldToken::generate(), "forged").await);
    assert!(publish(&*cache, &key, token, "new").await);
    assert_eq!(value(&*cache, &key).await, Some(Some(bytes("new"))));
}

/// After a delete the key is known to be absent.
pub async fn a_deletion_is_published_as_absent(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("deleted"));
    fill(&*cache, &key, "row").await;
    let token = hold(&*cache, &key, LONG).await;
    assert!(cache.publish(&key, token, None, LONG).await.expect("it answers"));
    assert_eq!(value(&*cache, &key).await, Some(None));
}

/// Writers A and B that commit in one order and publish in the other leave nothing.
pub async fn nobody_publishes_on_a_contended_hold(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("contended"));
    let a = hold(&*cache, &key, SHORT).await;
    let b = hold(&*cache, &key, SHORT).await;
    assert!(!publish(&*cache, &key, b, "b").await);
    assert!(!publish(&*cache, &key, a, "a").await);
    assert_eq!(value(&*cache, &key).await, None);
    assert!(!fill(&*cache, &key, "late").await);
    harness.pass(SHORT * 2).await;
    assert!(!publish(&*cache, &key, a, "a").await);
    let c = hold(&*cache, &key, LONG).await;
    assert!(publish(&*cache, &key, c, "c").await);
}

/// Fills may have come and gone since: the writer's value is not known to be the newest.
pub async fn an_expired_hold_publishes_nothing(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("expired"));
    let token = hold(&*cache, &key, SHORT).await;
    harness.pass(SHORT * 2).await;
    assert!(!publish(&*cache, &key, token, "late").await);
    assert_eq!(value(&*cache, &key).await, None);
    let token = hold(&*cache, &key, SHORT).await;
    harness.pass(SHORT * 2).await;
    fill(&*cache, &key, "loaded").await;
    assert!(!publish(&*cache, &key, token, "late").await);
    assert_eq!(value(&*cache, &key).await, Some(Some(bytes("loaded"))));
}

/// A publication ends the hold.
pub async fn a_hold_publishes_once(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("once"));
    let token = hold(&*cache, &key, LONG).await;
    assert!(publish(&*cache, &key, token, "first").await);
    assert!(!publish(&*cache, &key, token, "second").await);
    assert_eq!(value(&*cache, &key).await, Some(Some(bytes("first"))));
}

/// A hold that is asked for again, because its answer was lost, contends with nobody.
pub async fn the_same_token_holds_twice_without_contention(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("again"));
    let token = hold(&*cache, &key, LONG).await;
    cache.hold(&key, token, LONG).await.expect("it answers");
    assert!(publish(&*cache, &key, token, "new").await);
}

/// A value, an "absent" and a hold alike.
pub async fn a_set_replaces_whatever_is_there(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("set"));
    for round in 0..3 {
        match round {
            0 => assert!(fill(&*cache, &key, "old").await),
            1 => drop(hold(&*cache, &key, LONG).await),
            _ => cache.invalidate(&key, LONG).await.expect("it answers"),
        }
        cache.set(&key, &bytes("set"), LONG).await.expect("it answers");
        assert_eq!(value(&*cache, &key).await, Some(Some(bytes("set"))), "{round}");
    }
}

/// Which of the two is newer is unknown: the writer does not publish over it.
pub async fn a_set_ends_the_hold_of_a_writer(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("set_held"));
    let token = hold(&*cache, &key, LONG).await;
    cache.set(&key, &bytes("set"), LONG).await.expect("it answers");
    assert!(!publish(&*cache, &key, token, "written").await);
    assert_eq!(value(&*cache, &key).await, Some(Some(bytes("set"))));
}

/// The value is gone, and a load that began before cannot bring it back.
pub async fn an_invalidated_key_is_a_miss_that_refuses_fills(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("invalid"));
    fill(&*cache, &key, "old").await;
    cache.invalidate(&key, SHORT).await.expect("it answers");
    assert_eq!(value(&*cache, &key).await, None);
    assert!(!fill(&*cache, &key, "old").await);
    harness.pass(SHORT * 2).await;
    assert!(fill(&*cache, &key, "new").await);
}

/// The row was changed by something else while the writer was at work.
pub async fn an_invalidation_ends_the_hold_of_a_writer(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("invalid_held"));
    let token = hold(&*cache, &key, LONG).await;
    cache.invalidate(&key, LONG).await.expect("it answers");
    assert!(!publish(&*cache, &key, token, "written").await);
    assert_eq!(value(&*cache, &key).await, None);
}

/// A later, shorter hold or invalidation leaves the fills out as long as the first was to.
pub async fn a_hold_is_never_shortened(harness: &impl RemoteHarness) {
    let cache = harness.cache().await;
    let [held, invalid] = ["held", "invalid"].map(key);
    for key in [&held, &invalid] {
        hold(&*cache, key, LONG).await;
    }
    hold(&*cache, &held, SHORT).await;
    cache.invalidate(&invalid, SHORT).await.expect("it answers");
    harness.pass(SHORT * 2).await;
    assert!(!fill(&*cache, &held, "late").await);
    assert!(!fill(&*cache, &invalid, "late").await);
}

/// Values and holds alike, in lists of any length, with repeated keys.
pub async fn many_keys_are_invalidated_as_one_is(harness: &impl RemoteHarness) {
    let cache = harness.cache().await;
    let mut keys: Vec<Key> = (0..2100).map(|n| key(&format!("many{n}"))).collect();
    let (filled, held, empty) = (keys[0].clone(), keys[1].clone(), keys[2099].clone());
    fill(&*cache, &filled, "old").await;
    let token = hold(&*cache, &held, LONG).await;
    keys.push(filled.clone());
    cache.invalidate_many(&keys, LONG).await.expect("it answers");
    for key in [&filled, &held, &empty] {
        assert_eq!(value(&*cache, key).await, None, "{key:?}");
        assert!(!fill(&*cache, key, "late").await, "{key:?}");
    }
    assert!(!publish(&*cache, &held, token, "written").await);
    let token = hold(&*cache, &filled, LONG).await;
    assert!(publish(&*cache, &filled, token, "written").await);
    cache.invalidate_many(&[], LONG).await.expect("it answers");
}

/// What the invalidation stands for was committed before this write began.
pub async fn a_writer_after_an_invalidation_publishes(harness: &impl RemoteHarness) {
    let (cache, key) = (harness.cache().await, key("after"));
    cache.invalidate(&key, SHORT).await.expect("it answers");
    let token = hold(&*cache, &key, LONG).await;
    assert!(!fill(&*cache, &key, "late").await);
    assert!(publish(&*cache, &key, token, "written").await);
    assert_eq!(value(&*cache, &key).await, Some(Some(bytes("written"))));
}

/// The writer that the invalidation met may commit after the second one, and stop before it says
/// so: nobody publishes until the hold expires.
pub async fn a_writer_after_an_invalidation_that_met_another_publishes_nothing(
    harness: &impl RemoteHarness,
) {
    let (cache, key) = (harness.cache().await, key("met"));
    let first = hold(&*cache, &key, LONG).await;
    cache.invalidate(&key, LONG).await.expect("it answers");
    let second = hold(&*cache, &key, LONG).await;
    assert!(!publish(&*cache, &key, first, "first").await);
    assert!(!publish(&*cache, &key, second, "second").await);
    assert_eq!(value(&*cache, &key).await, None);
}

/// Empty, with NUL, not UTF-8, large: a value comes back as it is and is never taken for a hold.
pub async fn values_are_bytes_of_any_kind(harness: &impl RemoteHarness) {
    let cache = harness.cache().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    for content in [vec![], vec![0], vec![0xff, 0xfe], every_byte, vec![7; 1 << 20]] {
        let (key, content) = (key("bytes"), Bytes::from(content));
        assert!(fill_for(&*cache, &key, Some(&content), LONG).await);
        assert_eq!(value(&*cache, &key).await, Some(Some(content)));
    }
}
