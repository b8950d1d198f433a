//! What the database sends by itself.

use std::time::Duration;

use zmsg_core::{ErrorKind, Statement, Value};
use zmsg_store::{Notification, Notifications, SqlStore};

use crate::postgres::{Postgres, one, until};

async fn heard(notifications: &mut Notifications) -> Option<Notification> {
    tokio::time::timeout(Duration::from_secs(30), notifications.next()).await.unwrap()
}

fn send(channel: &str, payload: &str) -> Statement {
    Statement::query("SELECT pg_notify(?, ?)", vec![channel.into(), payload.into()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_heard_and_a_lost_connection_is_told() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    // A name that would be another one without quotes.
    let channel = "News \"today\"; --";
    let mut news = store.notifications(channel).await.unwrap().unwrap();
    assert_eq!(heard(&mut news).await, Some(Notification::Missed), "whatever came before");
    store.execute(&send(channel, "first")).await.unwrap();
    store.execute(&send("another channel", "unheard")).await.unwrap();
    store.execute(&send(channel, "")).await.unwrap();
    assert_eq!(heard(&mut news).await, Some(Notification::Sent("first".into())));
    assert_eq!(heard(&mut news).await, Some(Notification::Sent(String::new())));

    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    assert_eq!(one(&store, kill).await, Value::Int(1));
    assert_eq!(heard(&mut news).await, Some(Notification::Missed), "it listens again");
    store.execute(&send(channel, "second")).await.unwrap();
    assert_eq!(heard(&mut news).await, Some(Notification::Sent("second".into())));

    store.close().await.unwrap();
    assert_eq!(heard(&mut news).await, None);
    assert_eq!(store.notifications(channel).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listens_for_a_listener_that_is_gone() {
    let Some(database) = Postgres::fresh().await else { return };
    let store = database.store().await;
    let mut news = store.notifications("news").await.unwrap().unwrap();
    heard(&mut news).await;
    drop(news);
    let listening = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    until(|| async { one(&store, listening).await == Value::Int(0) }).await;
    let error = store.notifications("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
