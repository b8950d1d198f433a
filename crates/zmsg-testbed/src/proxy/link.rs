//! One connection through the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::faults::Faults;
use super::pattern::Search;

/// An answer is over when nothing has followed for this long.
const QUIET: Duration = Duration::from_millis(20);

const PIECE: usize = 16 * 1024;

/// How a connection ends.
enum End {
    /// One side closed it and the other has been told.
    Closed,
    /// Both sides get a reset.
    Reset,
}

/// Passes on what both sides say, until one closes, a fault strikes or `resets` changes.
pub(super) async fn run(mut client: TcpStream, faults: Arc<Faults>, resets: watch::Receiver<u64>) {
    let counted = &faults.counted;
    counted.accepted.fetch_add(1, Ordering::Relaxed);
    counted.open.fetch_add(1, Ordering::Relaxed);
    converse(&mut client, &faults, resets).await;
    // Before the client can see the end.
    counted.open.fetch_sub(1, Ordering::Relaxed);
}

async fn converse(client: &mut TcpStream, faults: &Faults, mut resets: watch::Receiver<u64>) {
    let mut server = None;
    let end = tokio::select! {
        biased;
        _ = resets.changed() => End::Reset,
        end = pass_on(client, &mut server, faults) => end,
    };
    if matches!(end, End::Reset) {
        // Closing with a linger of nothing sends a reset.
        let _ = client.set_zero_linger();
        let _ = server.map(|server| server.set_zero_linger());
    }
}

async fn pass_on(client: &mut TcpStream, server: &mut Option<TcpStream>, faults: &Faults) -> End {
    faults.released().await;
    let Ok(connected) = TcpStream::connect(faults.server()).await else { return End::Reset };
    let server = server.insert(connected);
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let swallow = AtomicBool::new(false);
    let requests = requests(from_client, to_server, faults, &swallow);
    let answers = answers(from_server, to_client, faults, &swallow);
    tokio::pin!(requests, answers);
    tokio::select! {
        end = &mut answers => end,
        end = &mut requests => match end {
            End::Reset => End::Reset,
            // The client has said all; the server may still answer.
            End::Closed => answers.await,
        },
    }
}

async fn requests(
    mut client: ReadHalf<'_>,
    mut server: WriteHalf<'_>,
    faults: &Faults,
    swallow: &AtomicBool,
) -> End {
    let mut piece = vec![0; PIECE];
    let mut search = Search::default();
    loop {
        let Ok(length) = client.read(&mut piece).await else { return End::Reset };
        sleep(faults.delay()).await;
        faults.released().await;
        if length == 0 {
            let _ = server.shutdown().await;
            return End::Closed;
        }
        if faults.swallows_request(|pattern| search.ends_in(&piece[..length], pattern)) {
            // Known before the server can answer.
            swallow.store(true, Ordering::Relaxed);
        }
        if server.write_all(&piece[..length]).await.is_err() {
            return End::Reset;
        }
    }
}

async fn answers(
    mut server: ReadHalf<'_>,
    mut client: WriteHalf<'_>,
    faults: &Faults,
    swallow: &AtomicBool,
) -> End {
    let mut piece = vec![0; PIECE];
    let mut search = Search::default();
    loop {
        let Ok(length) = server.read(&mut piece).await else { return End::Reset };
        faults.released().await;
        if length == 0 {
            let _ = client.shutdown().await;
            return End::Closed;
        }
        let mut by_answer =
            || faults.swallows_answer(|pattern| search.ends_in(&piece[..length], pattern));
        if swallow.load(Ordering::Relaxed) || by_answer() {
            // Counted when it is certain that the server has answered all of it.
            while timeout(QUIET, server.read(&mut piece))
                .await
                .is_ok_and(|r| r.is_ok_and(|n| n > 0))
            {}
            faults.counted.swallowed.fetch_add(1, Ordering::Relaxed);
            return End::Reset;
        }
        let cut = faults.cut(length);
        if client.write_all(&piece[..cut.unwrap_or(length)]).await.is_err() || cut.is_some() {
            return End::Reset;
        }
    }
}
