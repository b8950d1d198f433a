//! A private Redis, killed, restarted and paused; sentinels and replicas.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use zmsg_testbed::private::{PrivateRedis, RedisOptions, until};

const BOUND: Duration = Duration::from_secs(20);

/// The answer to some commands, or what there is of it within half a second.
fn ask(server: &PrivateRedis, commands: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", server.port())) else {
        return String::new();
    };
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let login = server.password().map(|password| format!("AUTH {password}\r\n"));
    let text = format!("{}{commands}\r\nQUIT\r\n", login.unwrap_or_default());
    let mut answer = Vec::new();
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_was_appended_survives_a_kill_and_a_restart_on_the_same_port() {
    let options = RedisOptions::new().directive("appendonly yes").directive("appendfsync always");
    let Some(server) = PrivateRedis::start(options) else { return };
    assert_eq!(ask(&server, "SET k v"), "+OK\r\n+OK\r\n+OK\r\n");
    server.kill();
    assert_eq!(ask(&server, "GET k"), "");
    server.restart();
    assert_eq!(ask(&server, "GET k"), "+OK\r\n$1\r\nv\r\n+OK\r\n");
}

#[test]
fn by_default_nothing_survives_and_a_password_is_needed() {
    let Some(server) = PrivateRedis::start(RedisOptions::new()) else { return };
    assert_eq!(ask(&server, "SET k v"), "+OK\r\n+OK\r\n+OK\r\n");
    assert!(server.url().contains(server.password().unwrap()));
    server.stop();
    server.restart();
    assert_eq!(ask(&server, "GET k"), "+OK\r\n$-1\r\n+OK\r\n");
    assert!(ask(&server, "AUTH wrong").contains("-WRONGPASS"));

    let directory = server.directory();
    drop(server);
    assert!(!directory.exists());
}

#[test]
fn a_paused_server_answers_when_it_goes_on() {
    let Some(server) = PrivateRedis::start(RedisOptions::new()) else { return };
    server.pause();
    assert_eq!(ask(&server, "PING"), "");
    server.resume();
    assert_eq!(ask(&server, "PING"), "+OK\r\n+PONG\r\n+OK\r\n");
}

#[test]
fn a_sentinel_sees_the_replica_of_its_master() {
    let open = || RedisOptions::new().without_password();
    let Some(master) = PrivateRedis::start(open()) else { return };
    let follow = format!("replicaof 127.0.0.1 {}", master.port());
    let Some(_replica) = PrivateRedis::start(open().directive(follow)) else { return };
    let watch = format!("sentinel monitor main 127.0.0.1 {} 1", master.port());
    let Some(sentinel) = PrivateRedis::start(open().sentinel().directive(watch)) else { return };
    let sees = || ask(&sentinel, "SENTINEL MASTER main").contains("num-slaves\r\n$1\r\n1\r\n");
    assert!(until(BOUND, sees), "{}", ask(&sentinel, "SENTINEL MASTER main"));
}
