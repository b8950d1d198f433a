//! In which history a server is: the connection and the scripts say the same, until it changes.

use std::time::Instant;

use zmsg_core::ErrorKind;
use zmsg_redis::redis::cmd;
use zmsg_redis::{History, HistoryScript, Present, Redis, history_script};
use zmsg_testbed::private::PrivateRedis;

use crate::support::{NOTHING, open, patient, private, until, until_up};

static TELL: HistoryScript =
    history_script!("return {history, present(), string.sub(history, 1, 10) .. promoted()}");

/// What the connection says, where a script, the server and a command say the same.
async fn agreed(redis: &Redis) -> Option<History> {
    let (_, known) = redis.query_with_present::<String>(&cmd("PING")).await.unwrap();
    let by_script: Vec<Vec<u8>> = redis.script_in_history(&TELL, &[], &NOTHING).await.unwrap();
    let echo = |present: &Present| cmd("ECHO").arg(&present.history.as_bytes()[..]).to_owned();
    let by_command: Vec<u8> = redis.query_in_history(echo).await.unwrap();
    let told = [by_script, vec![by_command]].concat();
    let known = known.map(|present| present.history);
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

/// A client whose user may do all but this.
async fn without(server: &PrivateRedis, right: &str) -> Redis {
    let admin = open(patient(&server.url()));
    let mut user = cmd("ACL");
    user.arg(&["SETUSER", "plain", "on", ">secret", "~*", "+@all", right]);
    admin.query::<()>(&user).await.unwrap();
    open(patient(&format!("redis://plain:secret@127.0.0.1:{}/", server.port())))
}

#[tokio::test]
async fn a_user_without_the_right_to_the_time_knows_no_present_and_runs_scripts() {
    let Some(server) = private() else { return };
    let redis = without(&server, "-time").await;
    let (_, known) = redis.query_with_present::<String>(&cmd("PING")).await.unwrap();
    assert_eq!(known, None);
    let told: Vec<Vec<u8>> = redis.script_in_history(&TELL, &[], &NOTHING).await.unwrap();
    assert!(!told.concat().is_empty(), "the server was asked");
}

#[tokio::test]
async fn a_user_without_the_right_to_ask_is_in_no_history() {
    let Some(server) = private() else { return };
    let redis = without(&server, "-info").await;
    let (_, known) = redis.query_with_present::<String>(&cmd("PING")).await.unwrap();
    assert_eq!(known, None);
    let mut sent = false;
    let get = |_: &Present| {
        sent = true;
        cmd("GET").arg("a").to_owned()
    };
    let error = redis.query_in_history::<()>(get).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidConfig && !sent, "{error}");
    let error = redis.script_in_history::<()>(&TELL, &[], &NOTHING).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
}

/// What a connection takes for the time of its server, and what that says before and after.
async fn clock_between_two_readings(redis: &Redis) -> (u64, [u64; 2], u64) {
    let time = async || {
        let (seconds, micros): (u64, u64) = redis.query(&cmd("TIME")).await.unwrap();
        seconds * 1000 + micros / 1000
    };
    let before = time().await;
    let (_, present) = redis.query_with_present::<String>(&cmd("PING")).await.unwrap();
    let (clock, now) = (present.expect("it may ask").clock, Instant::now());
    let bounds = [clock.earliest(now), clock.latest(now)];
    (before, bounds, time().await)
}

#[tokio::test]
async fn a_connection_knows_bounds_of_its_servers_time_and_renews_them() {
    let Some(server) = private() else { return };
    let redis = open(patient(&server.url()));
    let (before, [earliest, latest], after) = clock_between_two_readings(&redis).await;
    assert!(earliest <= after && latest >= before, "{before} {earliest}..{latest} {after}");
    let clock = async || {
        let (_, present) = redis.query_with_present::<String>(&cmd("PING")).await.unwrap();
        present.expect("it may ask").clock
    };
    let first = clock().await;
    until(async || clock().await != first).await;
    let (before, [earliest, latest], after) = clock_between_two_readings(&redis).await;
    assert!(earliest <= after && latest >= before, "{before} {earliest}..{latest} {after}");
}
