//! Scripts, known to the server or not.

use std::slice;

use zmsg_core::ErrorKind;
use zmsg_redis::redis::cmd;
use zmsg_redis::{HistoryScript, RedisKey, Script, history_script};

use crate::support::{NOTHING, open, patient, private, shared};

static ECHO: Script = Script::new("return {KEYS[1], ARGV[1], ARGV[2]}");
static TURN: HistoryScript = history_script!(
    "if KEYS[1]:find('bad') then return redis.error_reply('WRONGTYPE x') end return 7"
);

#[tokio::test]
async fn keys_and_arguments_arrive_as_bytes() {
    let Some(redis) = shared() else { return };
    let key = redis.key("t", "a");
    let answer: (String, u64, Vec<u8>) =
        redis.script(&ECHO, slice::from_ref(&key), &(7, &[0_u8, 0xff][..])).await.unwrap();
    assert_eq!(answer, (key.to_string(), 7, vec![0, 0xff]));
}

#[tokio::test]
async fn a_server_that_forgot_the_script_gets_it_again() {
    let Some(server) = private() else { return };
    let redis = open(patient(&server.url()));
    for _ in 0..3 {
        let key = [redis.key("t", "a")];
        let answer: u64 = redis.script_in_history(&TURN, &key, &NOTHING).await.unwrap();
        assert_eq!(answer, 7);
        redis.query::<()>(cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    }
    assert_eq!(redis.stats().errors, 0);
}

#[tokio::test]
async fn one_script_for_thousands_of_keys_answers_for_each() {
    let Some(server) = private() else { return };
    let redis = open(patient(&server.url()));
    let name = |n: usize| if n == 1234 { "bad".to_owned() } else { n.to_string() };
    let keys: Vec<RedisKey> = (0..2500).map(|n| redis.key("t", &name(n))).collect();
    for _ in 0..2 {
        let before = redis.stats().calls;
        let answers = redis.script_each::<u64>(&TURN, &keys, &NOTHING).await;
        assert_eq!(answers.len(), keys.len());
        for (n, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(seven) => assert!(seven == 7 && n != 1234),
                Err(error) => assert!(error.kind() == ErrorKind::Corrupted && n == 1234),
            }
        }
        assert!(redis.stats().calls - before <= 4);
    }
    assert!(redis.script_each::<u64>(&TURN, &[], &NOTHING).await.is_empty());
}
