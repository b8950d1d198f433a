//! Promises about durability and closing.

use zmsg_core::{ErrorKind, Statement};

use super::{Harness, ids, insert, with_things};
use crate::Step;

/// What was acknowledged is seen by every `fetch` that follows.
pub async fn an_acknowledged_write_is_read(harness: &impl Harness) {
    let store = with_things(harness).await;
    for id in 0..100 {
        store.execute(&insert(id, "a")).await.unwrap();
        let expected: Vec<i64> = (0..=id).collect();
        assert_eq!(ids(&store).await, expected);
    }
}

/// What was acknowledged is there after the store was closed and opened again.
pub async fn an_acknowledged_write_survives_reopening(harness: &impl Harness) {
    let store = with_things(harness).await;
    for id in 0..10 {
        store.execute(&insert(id, "a")).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let store = harness.open().await;
    assert_eq!(ids(&store).await, (0..10).collect::<Vec<i64>>());
}

/// After `close`, every call says `Closed`; closing again is no error.
pub async fn a_closed_store_says_so(harness: &impl Harness) {
    let store = with_things(harness).await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    let query = Statement::query("SELECT 1", vec![]);
    assert_eq!(store.fetch(&query).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.execute(&insert(1, "a")).await.unwrap_err().kind(), ErrorKind::Closed);
    let failed = store.execute_all(vec![Step::any(insert(1, "a"))]).await.unwrap_err();
    assert_eq!((failed.step, failed.error.kind()), (None, ErrorKind::Closed));
}
