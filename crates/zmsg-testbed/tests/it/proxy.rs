//! What a client and a server see through the proxy.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use zmsg_testbed::private::until;
use zmsg_testbed::{Proxy, Repeat};

const BOUND: Duration = Duration::from_secs(10);

/// A server that answers every line with the same line in upper case, and remembers it.
struct Upper {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Upper {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&lines);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    while let Some(line) = line(&mut stream) {
                        seen.lock().unwrap().push(line.clone());
                        let _ = stream.write_all(line.to_uppercase().as_bytes());
                    }
                });
            }
        });
        Self { address, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn proxy(&self) -> Proxy {
        Proxy::before(&self.address.to_string())
    }
}

/// A line with its end; `None` at the end of the stream.
fn line(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    String::from_utf8(line).ok()
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, question: &str) -> Option<String> {
    stream.write_all(question.as_bytes()).ok()?;
    line(stream)
}

fn is_reset(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn without_faults_both_sides_hear_each_other_and_the_end() {
    let server = Upper::start();
    let proxy = server.proxy();
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "hello\n").unwrap(), "HELLO\n");
    let counts = proxy.counts();
    assert_eq!((counts.accepted, counts.open), (1, 1));
    // An end in order, after which the server has said all.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(until(BOUND, || proxy.counts().open == 0));
}

#[test]
fn a_reset_reaches_every_connection_and_new_ones_work() {
    let server = Upper::start();
    let proxy = server.proxy();
    let mut clients = [connect(&proxy), connect(&proxy)];
    for client in &mut clients {
        assert_eq!(ask(client, "a\n").unwrap(), "A\n");
    }
    proxy.reset_all();
    assert!(clients.iter_mut().all(is_reset));
    assert_eq!((proxy.counts().reset, proxy.counts().open), (2, 0));
    assert_eq!(ask(&mut connect(&proxy), "b\n").unwrap(), "B\n");
}

#[test]
fn refused_connections_fail_at_once_and_open_ones_go_on() {
    let server = Upper::start();
    let proxy = server.proxy();
    let mut open = connect(&proxy);
    assert_eq!(ask(&mut open, "a\n").unwrap(), "A\n");
    proxy.refuse(true);
    let refused = TcpStream::connect(proxy.addr()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut open, "b\n").unwrap(), "B\n");
    proxy.refuse(false);
    assert_eq!(ask(&mut connect(&proxy), "c\n").unwrap(), "C\n");
}

#[test]
fn in_a_black_hole_nothing_arrives_and_afterwards_everything_does() {
    let server = Upper::start();
    let proxy = server.proxy();
    let mut open = connect(&proxy);
    assert_eq!(ask(&mut open, "a\n").unwrap(), "A\n");
    proxy.black_hole(true);
    let mut new = connect(&proxy);
    for client in [&mut open, &mut new] {
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(ask(client, "b\n"), None);
        client.set_read_timeout(Some(BOUND)).unwrap();
    }
    assert_eq!(server.lines(), ["a\n"]);
    proxy.black_hole(false);
    assert_eq!([line(&mut open).unwrap(), line(&mut new).unwrap()], ["B\n", "B\n"]);
}

#[test]
fn held_connections_can_still_be_reset() {
    let server = Upper::start();
    let proxy = server.proxy();
    proxy.black_hole(true);
    let mut client = connect(&proxy);
    client.write_all(b"a\n").unwrap();
    assert!(until(BOUND, || proxy.counts().open == 1));
    proxy.reset_all();
    assert!(is_reset(&mut client));
    assert!(server.lines().is_empty());
}

#[test]
fn a_delayed_request_arrives_late() {
    let server = Upper::start();
    let proxy = server.proxy();
    let delay = Duration::from_millis(80);
    proxy.delay(delay);
    let begin = Instant::now();
    assert_eq!(ask(&mut connect(&proxy), "a\n").unwrap(), "A\n");
    assert!(begin.elapsed() >= delay);
}

#[test]
fn the_answer_to_a_chosen_request_is_lost_after_the_server_has_given_it() {
    let server = Upper::start();
    let proxy = server.proxy();
    proxy.swallow_answer_to("commit", Repeat::Once);
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "begin\n").unwrap(), "BEGIN\n");
    client.write_all(b"commit\n").unwrap();
    assert!(is_reset(&mut client));
    assert_eq!(server.lines(), ["begin\n", "commit\n"]);
    assert_eq!(proxy.counts().swallowed, 1);
    assert_eq!(ask(&mut connect(&proxy), "commit\n").unwrap(), "COMMIT\n");
}

#[test]
fn a_chosen_answer_is_lost_each_time_until_told_otherwise() {
    let server = Upper::start();
    let proxy = server.proxy();
    proxy.swallow_answer("COMMIT", Repeat::Always);
    for _ in 0..2 {
        let mut client = connect(&proxy);
        assert_eq!(ask(&mut client, "begin\n").unwrap(), "BEGIN\n");
        client.write_all(b"commit\n").unwrap();
        assert!(is_reset(&mut client));
    }
    proxy.swallow_nothing();
    assert_eq!(ask(&mut connect(&proxy), "commit\n").unwrap(), "COMMIT\n");
    assert_eq!(proxy.counts().swallowed, 2);
}

#[test]
fn an_answer_is_cut_in_the_middle() {
    let server = Upper::start();
    let proxy = server.proxy();
    proxy.cut_answer_after(3);
    let mut client = connect(&proxy);
    client.write_all(b"hello\n").unwrap();
    let mut answer = [0; 3];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HEL");
    assert!(is_reset(&mut client));
    assert_eq!(ask(&mut connect(&proxy), "hello\n").unwrap(), "HELLO\n");
    assert_eq!(proxy.counts().cut, 1);
}

#[test]
fn a_server_that_is_away_resets_and_another_can_take_its_place() {
    let proxy = Proxy::before(&format!("127.0.0.1:{}", zmsg_testbed::private::free_port()));
    assert!(is_reset(&mut connect(&proxy)));
    let server = Upper::start();
    proxy.set_server(&server.address.to_string());
    assert_eq!(ask(&mut connect(&proxy), "a\n").unwrap(), "A\n");
}

#[test]
fn a_proxy_that_is_dropped_ends_its_connections() {
    let server = Upper::start();
    let proxy = server.proxy();
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "a\n").unwrap(), "A\n");
    let address = proxy.addr();
    drop(proxy);
    assert!(is_reset(&mut client));
    assert!(TcpStream::connect(address).is_err());
}
