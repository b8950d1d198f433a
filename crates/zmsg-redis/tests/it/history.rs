//! In which history a server is: the connection and the scripts say the same, until it changes.

use zmsg_core::ErrorKind;
use zmsg_redis::redis::{Pipeline, cmd};
use zmsg_redis::{History, HistoryScript, Redis, history_script};

use crate::support::{NOTHING, open, patient, private, until, until_up};

static TELL: HistoryScript =
    history_script!("return {history, present(), string.sub(history, 1, 10) .. promoted()}");

/// What the connection says, where a script, the server and a command say the same.
async fn agreed(redis: &Redis) -> Option<History> {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("PING");
    let (_, known) = redis.pipeline_in_history::<Vec<String>>(&pipeline).await.unwrap();
    let by_script: Vec<Vec<u8>> = redis.script_in_history(&TELL, &[], &NOTHING).await.unwrap();
    let echo = |history: &History| cmd("ECHO").arg(&history.as_bytes()[..]).to_owned();
    let by_command: Vec<u8> = redis.query_in_history(echo).await.unwrap();
    let told = [by_script, vec![by_command]].concat();
    known.filter(|known| told.iter().all(|told| *told == known.as_bytes()[..]))
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
    let mut sent = false;
    let get = |_: &History| {
        sent = true;
        cmd("GET").arg("a").to_owned()
    };
    let error = redis.query_in_history::<()>(get).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidConfig && !sent, "{error}");
    let error = redis.script_in_history::<()>(&TELL, &[], &NOTHING).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
}
