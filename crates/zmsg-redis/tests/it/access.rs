//! Users and passwords.

use secrecy::SecretString;
use zmsg_core::{ErrorKind, ErrorStatus};
use zmsg_redis::Health;
use zmsg_redis::redis::{Value, cmd};
use zmsg_testbed::private::{PrivateRedis, RedisOptions as PrivateOptions};

use crate::support::{open, patient, private, read, until, write};

#[tokio::test]
async fn an_acl_user_may_do_what_it_may() {
    let user = "user worker on >s3cret ~zmsg:* +@read +@write +@connection +@scripting";
    let Some(server) = PrivateRedis::start(PrivateOptions::new().directive(user)) else { return };
    let mut options = patient(&format!("redis://127.0.0.1:{}", server.port()));
    options.login.username = Some("worker".to_owned());
    options.login.password = Some(SecretString::from("s3cret"));
    assert!(!format!("{options:?}").contains("s3cret"));
    let redis = open(options);
    write(&redis, "a", "one").await.unwrap();
    let forbidden = cmd("CONFIG").arg(&["GET", "port"]).to_owned();
    let error = redis.query::<Value>(&forbidden).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidConfig, ErrorStatus::Permanent));
    assert!(redis.health().is_up());
    assert!(!format!("{redis:?}{:?}", redis.connector()).contains("s3cret"));
}

#[tokio::test]
async fn a_wrong_password_is_a_wrong_configuration_until_it_is_right() {
    let Some(server) = private() else { return };
    let password = server.password().unwrap().to_owned();
    let redis = open(patient(&server.url().replace(&password, "wrong-one")));
    let error = read(&redis, "a").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidConfig, ErrorStatus::Permanent));
    assert!(!error.to_string().contains("wrong-one"), "{error}");
    assert!(matches!(redis.health(), Health::Down { .. }));
    let admin = open(patient(&server.url()));
    admin.query::<()>(cmd("CONFIG").arg(&["SET", "requirepass", "wrong-one"])).await.unwrap();
    until(async || write(&redis, "a", "one").await.is_ok()).await;
}
