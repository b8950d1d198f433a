//! What a proxy is told to do, and what it has done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The first time, and never again.
    Once,
    /// Each time.
    Always,
    /// The `n`-th time, the `2n`-th, and so on; 0 never.
    Every(u32),
}

/// What a proxy has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProxyCounts {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections that were reset on demand.
    pub reset: u64,
    /// Answers that were swallowed.
    pub swallowed: u64,
    /// Answers that were cut.
    pub cut: u64,
}

/// Everything that connections look at.
#[derive(Debug)]
pub(super) struct Faults {
    server: Mutex<String>,
    settings: Mutex<Settings>,
    resets: watch::Sender<u64>,
    held: watch::Sender<bool>,
    pub(super) counted: Counted,
}

#[derive(Debug, Default)]
struct Settings {
    delay: Duration,
    requests: Option<Swallow>,
    answers: Option<Swallow>,
    cut_after: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicU64,
    reset: AtomicU64,
    pub(super) swallowed: AtomicU64,
    cut: AtomicU64,
}

#[derive(Debug)]
struct Swallow {
    pattern: Vec<u8>,
    repeat: Repeat,
    seen: u32,
}

impl Swallow {
    /// Counts one more occurrence; whether the fault strikes.
    fn strikes(&mut self) -> bool {
        self.seen = self.seen.wrapping_add(1);
        match self.repeat {
            Repeat::Once => self.seen == 1,
            Repeat::Always => true,
            Repeat::Every(n) => self.seen.is_multiple_of(n),
        }
    }
}

impl Faults {
    pub(super) fn new(server: String) -> Self {
        Self {
            server: Mutex::new(server),
            settings: Mutex::default(),
            resets: watch::Sender::new(0),
            held: watch::Sender::new(false),
            counted: Counted::default(),
        }
    }

    pub(super) fn server(&self) -> String {
        lock(&self.server).clone()
    }

    pub(super) fn set_server(&self, server: String) {
        *lock(&self.server) = server;
    }

    /// Tells all connections to reset, and that they are so many.
    pub(super) fn reset(&self, open: usize) {
        self.counted.reset.fetch_add(open as u64, Ordering::Relaxed);
        self.resets.send_modify(|resets| *resets += 1);
    }

    pub(super) fn resets(&self) -> watch::Receiver<u64> {
        self.resets.subscribe()
    }

    pub(super) fn hold(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// Waits while nothing may be passed on.
    pub(super) async fn released(&self) {
        let mut held = self.held.subscribe();
        // The sender lives as long as `self`.
        let _ = held.wait_for(|held| !held).await;
    }

    pub(super) fn delay(&self) -> Duration {
        lock(&self.settings).delay
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        lock(&self.settings).delay = delay;
    }

    pub(super) fn swallow_requests(&self, pattern: Vec<u8>, repeat: Repeat) {
        lock(&self.settings).requests = Some(Swallow { pattern, repeat, seen: 0 });
    }

    pub(super) fn swallow_answers(&self, pattern: Vec<u8>, repeat: Repeat) {
        lock(&self.settings).answers = Some(Swallow { pattern, repeat, seen: 0 });
    }

    pub(super) fn swallow_nothing(&self) {
        let mut settings = lock(&self.settings);
        (settings.requests, settings.answers) = (None, None);
    }

    pub(super) fn cut_after(&self, bytes: usize) {
        lock(&self.settings).cut_after = Some(bytes);
    }

    /// Whether the answer to this piece of a request is swallowed.
    pub(super) fn swallows_request(&self, found: impl FnOnce(&[u8]) -> bool) -> bool {
        let mut settings = lock(&self.settings);
        let wanted = settings.requests.as_mut();
        wanted.is_some_and(|swallow| found(&swallow.pattern) && swallow.strikes())
    }

    /// Whether this piece of an answer is swallowed.
    pub(super) fn swallows_answer(&self, found: impl FnOnce(&[u8]) -> bool) -> bool {
        let mut settings = lock(&self.settings);
        let wanted = settings.answers.as_mut();
        wanted.is_some_and(|swallow| found(&swallow.pattern) && swallow.strikes())
    }

    /// How much of so many bytes may be passed on before the connection is cut; `None`: all.
    pub(super) fn cut(&self, bytes: usize) -> Option<usize> {
        let mut settings = lock(&self.settings);
        let rest = settings.cut_after?;
        settings.cut_after = rest.checked_sub(bytes);
        if settings.cut_after.is_some() {
            return None;
        }
        self.counted.cut.fetch_add(1, Ordering::Relaxed);
        Some(rest)
    }

    pub(super) fn counts(&self) -> ProxyCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counted = &self.counted;
        ProxyCounts {
            accepted: read(&counted.accepted),
            open: read(&counted.open),
            reset: read(&counted.reset),
            swallowed: read(&counted.swallowed),
            cut: read(&counted.cut),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_it_was_told() {
        let struck = |repeat| {
            let mut swallow = Swallow { pattern: vec![], repeat, seen: 0 };
            (0..4).map(|_| swallow.strikes()).collect::<Vec<_>>()
        };
        assert_eq!(struck(Repeat::Once), [true, false, false, false]);
        assert_eq!(struck(Repeat::Always), [true; 4]);
        assert_eq!(struck(Repeat::Every(2)), [false, true, false, true]);
        assert_eq!(struck(Repeat::Every(0)), [false; 4]);
    }

    #[test]
    fn an_answer_is_cut_once_and_inside() {
        let faults = Faults::new(String::new());
        assert_eq!(faults.cut(10), None);
        faults.cut_after(5);
        assert_eq!(
            [faults.cut(3), faults.cut(2), faults.cut(4), faults.cut(4)],
            [None, None, Some(0), None]
        );
        assert_eq!(faults.counts().cut, 1);
    }
}
