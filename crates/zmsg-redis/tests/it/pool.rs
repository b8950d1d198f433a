//! Connections of one's own, for commands that block.

use std::time::{Duration, Instant};

use zmsg_redis::redis::cmd;

use crate::support::{shared, write};

#[tokio::test]
async fn a_blocking_command_has_a_pool_and_no_deadline() {
    let Some(redis) = shared() else { return };
    let pool = bb8::Pool::builder().max_size(2).build(redis.connector().clone()).await.unwrap();
    let mut connection = pool.get().await.unwrap();
    let began = Instant::now();
    let nothing: Option<(String, String)> = cmd("BLPOP")
        .arg(redis.key("t", "list"))
        .arg(0.8)
        .query_async(&mut *connection)
        .await
        .unwrap();
    assert_eq!(nothing, None);
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    // The shared connections are not held up by it.
    write(&redis, "a", "one").await.unwrap();
}
