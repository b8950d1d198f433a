//! In which history a server is: the connection and the scripts say the same, until it changes.

use zmsg_redis::redis::{Pipeline, cmd};
use zmsg_redis::{History, Redis, Script, history_script};

use crate::support::{NOTHING, open, patient, private, until, until_up};

static TELL: Script = history_script!("return history");

/// What the connection says, and what a script says.
async fn histories(redis: &Redis) -> (Option<History>, Vec<u8>) {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("PING");
    let (_, known) = redis.pipeline_in_history::<Vec<String>>(&pipeline).await.unwrap();
    (known, redis.script(&TELL, &[], &NOTHING).await.unwrap())
}

async fn agreed(redis: &Redis) -> Option<History> {
    let (known, told) = histories(redis).await;
    known.filter(|known| known.as_bytes()[..] == told)
}

#[tokio::test]
async fn all_clients_of_a_server_are_in_one_history_until_it_is_restarted() {
    let Some(server) = private() else { return };
    let (one, other) = (open(patient(&server.url())), open(patient(&server.url())));
    let before = agreed(&one).await.expect("the connection and the script agree");
    assert_eq!(agreed(&other).await, Some(before));
    server.stop();
    server.restart();
    until(async || !one.health().is_up() || one.stats().connections > 2).await;
    until_up(&one).await;
    let after = agreed(&one).await.expect("they agree again");
    assert_ne!(before, after);
}

#[tokio::test]
async fn a_promotion_that_breaks_no_connection_is_noticed() {
    let Some(server) = private() else { return };
    let redis = open(patient(&server.url()));
    let before = agreed(&redis).await.expect("the connection and the script agree");
    for master in [("127.0.0.1", "1"), ("NO", "ONE")] {
        redis.query::<()>(cmd("REPLICAOF").arg(master.0).arg(master.1)).await.unwrap();
    }
    until(async || agreed(&redis).await.is_some_and(|after| after != before)).await;
}

#[tokio::test]
async fn a_user_without_the_right_to_ask_is_in_no_history() {
    let Some(server) = private() else { return };
    let admin = open(patient(&server.url()));
    let mut user = cmd("ACL");
    user.arg(&["SETUSER", "plain", "on", ">secret", "~*", "+@all", "-info"]);
    admin.query::<()>(&user).await.unwrap();
    let plain = format!("redis://plain:secret@127.0.0.1:{}/", server.port());
    let redis = open(patient(&plain));
    let mut pipeline = Pipeline::new();
    pipeline.cmd("PING");
    let (_, known) = redis.pipeline_in_history::<Vec<String>>(&pipeline).await.unwrap();
    assert_eq!(known, None);
}
