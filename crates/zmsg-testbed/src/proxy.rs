//! A TCP proxy before a server that does to connections what networks and crashes do.

mod faults;
mod link;
mod pattern;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use faults::{ProxyCounts, Repeat};

use crate::private::free_port;
use crate::url;
use faults::Faults;

/// A proxy on a free port of 127.0.0.1, with a thread and a runtime of its own: it works beside
/// tests of any kind, also where their time is paused.
///
/// Every fault holds for all connections. The proxy ends, and its connections are reset, when the
/// value is dropped.
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// What the loop that accepts is told. It answers when it is done.
enum Order {
    Refuse(bool, blocking::Sender<()>),
    Reset(blocking::Sender<()>),
}

impl Proxy {
    /// A proxy before the server at this URL, or at this `host:port`.
    ///
    /// # Panics
    /// If the URL names no server, or no port of 127.0.0.1 is free.
    #[must_use]
    pub fn before(server: &str) -> Self {
        // Not a port for outgoing connections: nobody may take it while it is refused.
        let listen = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok();
        let listener = (0..10).find_map(|_| listen()).expect("a port of 127.0.0.1 is free");
        let address = listener.local_addr().expect("a listener has an address");
        let faults = Arc::new(Faults::new(url::address(server)));
        let (orders, received) = mpsc::unbounded_channel();
        let shared = Arc::clone(&faults);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime for the proxy");
            runtime.block_on(accept(listener, shared, received));
        });
        Self { address, faults, orders, thread: Some(thread) }
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// A URL as it is through this proxy.
    #[must_use]
    pub fn url(&self, direct: &str) -> String {
        url::with_address(direct, &self.address.to_string())
    }

    /// Sends new connections to another server.
    pub fn set_server(&self, server: &str) {
        self.faults.set_server(url::address(server));
    }

    /// Resets every connection (RST on both sides). Returns when they are gone.
    pub fn reset_all(&self) {
        self.order(Order::Reset);
    }

    /// Refuses new connections, as a port does on which nobody listens. Those that are open go on.
    ///
    /// # Panics
    /// If the port was taken by somebody else while it was given up.
    pub fn refuse(&self, refuse: bool) {
        self.order(|done| Order::Refuse(refuse, done));
    }

    /// Passes nothing on in either direction while `hold`. New connections are accepted and hang;
    /// afterwards everything arrives, late, as through a network that was parted.
    pub fn black_hole(&self, hold: bool) {
        self.faults.hold(hold);
    }

    /// Lets every piece of a request wait this long before it is passed on.
    pub fn delay(&self, delay: Duration) {
        self.faults.set_delay(delay);
    }

    /// Passes on a request that contains `request`, waits until the server has answered, drops
    /// the answer and resets the connection: the server has done it and the client cannot know.
    ///
    /// Of a statement that is prepared only the preparation contains its text: where that may be
    /// so, recognize the answer by [`swallow_answer`](Self::swallow_answer).
    pub fn swallow_answer_to(&self, request: impl Into<Vec<u8>>, repeat: Repeat) {
        self.faults.swallow_requests(request.into(), repeat);
    }

    /// Drops an answer that contains `answer`, and resets the connection. PostgreSQL answers to a
    /// commit with `COMMIT\0`.
    pub fn swallow_answer(&self, answer: impl Into<Vec<u8>>, repeat: Repeat) {
        self.faults.swallow_answers(answer.into(), repeat);
    }

    /// Swallows no more answers.
    pub fn swallow_nothing(&self) {
        self.faults.swallow_nothing();
    }

    /// Passes on so many bytes of the answers that follow, of all connections together, and resets
    /// the connection in the middle of that answer. Once.
    pub fn cut_answer_after(&self, bytes: usize) {
        self.faults.cut_after(bytes);
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> ProxyCounts {
        self.faults.counts()
    }

    fn order(&self, order: impl FnOnce(blocking::Sender<()>) -> Order) {
        let (done, wait) = blocking::channel();
        let sent = self.orders.send(order(done));
        assert!(sent.is_ok() && wait.recv().is_ok(), "the proxy does not run any more");
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The loop ends with its orders.
        self.orders = mpsc::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts connections and obeys until nobody can give orders any more.
async fn accept(
    listener: std::net::TcpListener,
    faults: Arc<Faults>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let address = listener.local_addr().expect("a listener has an address");
    let mut listener = Some(adopt(listener));
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => break,
                Some(Order::Reset(done)) => {
                    faults.reset(links.len());
                    while links.join_next().await.is_some() {}
                    let _ = done.send(());
                }
                Some(Order::Refuse(true, done)) => {
                    listener = None;
                    let _ = done.send(());
                }
                Some(Order::Refuse(false, done)) => {
                    if listener.is_none() {
                        let again = std::net::TcpListener::bind(address);
                        listener = Some(adopt(again.expect("the port of the proxy is still free")));
                    }
                    let _ = done.send(());
                }
            },
            Some(client) = next(listener.as_ref()), if listener.is_some() => {
                let resets = faults.resets();
                links.spawn(link::run(client, Arc::clone(&faults), resets));
            }
            Some(_) = links.join_next() => {}
        }
    }
    faults.reset(links.len());
    while links.join_next().await.is_some() {}
}

fn adopt(listener: std::net::TcpListener) -> TcpListener {
    listener.set_nonblocking(true).expect("a listener can be asked without waiting");
    TcpListener::from_std(listener).expect("the runtime takes the listener")
}

async fn next(listener: Option<&TcpListener>) -> Option<tokio::net::TcpStream> {
    let listener = listener?;
    loop {
        match listener.accept().await {
            Ok((client, _)) => return Some(client),
            // This process has no descriptor to spare just now: connections wait until it has.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
