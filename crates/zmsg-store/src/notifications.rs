//! What a database sends by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};

use tokio::sync::mpsc;

/// One thing that a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// Somebody sent this payload; empty if none was given.
    Sent(String),
    /// Something may have been sent that was not heard: the connection was lost and is back, or
    /// the listener was too slow. The first thing that a listener hears is this, too.
    Missed,
}

/// The end of a channel at which a listener waits. Dropping it ends the listening.
#[derive(Debug)]
pub struct Notifications {
    receiver: mpsc::Receiver<Notification>,
    missed: Arc<AtomicBool>,
}

/// The end of a channel into which a store puts what it hears.
#[derive(Debug, Clone)]
pub struct Notifier {
    sender: mpsc::Sender<Notification>,
    missed: Arc<AtomicBool>,
}

impl Notifications {
    /// Both ends of a channel that holds `waiting_max` payloads; what is more is missed.
    pub fn channel(waiting_max: usize) -> (Notifier, Self) {
        let (sender, receiver) = mpsc::channel(waiting_max.max(1));
        let missed = Arc::new(AtomicBool::new(false));
        (Notifier { sender, missed: Arc::clone(&missed) }, Self { receiver, missed })
    }

    /// Waits for the next notification; `None` after the store was closed.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Notification> {
        if self.missed.swap(false, AcqRel) {
            return Some(Notification::Missed);
        }
        self.receiver.recv().await
    }
}

impl Notifier {
    /// Hands a payload on, without waiting.
    pub fn send(&self, payload: impl Into<String>) {
        self.put(Notification::Sent(payload.into()));
    }

    /// Says that something may have been missed.
    pub fn missed(&self) {
        self.put(Notification::Missed);
    }

    fn put(&self, notification: Notification) {
        // A listener for whom there is no room has something to wake up for, and asks first
        // whether it missed anything.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(notification) {
            self.missed.store(true, Release);
        }
    }

    /// True if nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until nobody listens any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_is_told_that_it_missed_something() {
        let (notifier, mut notifications) = Notifications::channel(2);
        for payload in ["a", "b", "c"] {
            notifier.send(payload);
        }
        assert_eq!(notifications.next().await, Some(Notification::Missed));
        assert_eq!(notifications.next().await, Some(Notification::Sent("a".into())));
        notifier.missed();
        assert_eq!(notifications.next().await, Some(Notification::Sent("b".into())));
        assert_eq!(notifications.next().await, Some(Notification::Missed));
        drop(notifier);
        assert_eq!(notifications.next().await, None);
    }

    #[tokio::test]
    async fn a_listener_that_waits_is_woken_by_a_loss() {
        let (notifier, mut notifications) = Notifications::channel(1);
        let (heard, ()) = tokio::join!(notifications.next(), async { notifier.missed() });
        assert_eq!(heard, Some(Notification::Missed));
    }
}
