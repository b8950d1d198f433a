//! Firings of this process that are still to be shown.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use zmsg_core::{TaskId, UnixMillis};

use super::firing::Firing;

/// Those that nobody has shown yet, the oldest first: the entry, the task, and when it was enqueued.
#[derive(Debug, Default)]
pub(in crate::task) struct Fired {
    waiting: Mutex<VecDeque<(String, TaskId, UnixMillis)>>,
    new: Notify,
}

/// So many wait to be shown; beyond it the oldest are not.
const WAITING_MAX: usize = 1_000;

impl Fired {
    pub(super) fn push(&self, firing: &Firing, at: UnixMillis) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back((firing.entry().to_owned(), firing.task().id, at));
        self.new.notify_one();
    }

    pub(in crate::task) fn first(&self) -> Option<(String, TaskId, UnixMillis)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    /// Forgets the first, if it is still this one.
    pub(in crate::task) fn shown(&self, id: TaskId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.front().is_some_and(|(_, first, _)| *first == id) {
            waiting.pop_front();
        }
    }

    pub(in crate::task) async fn changed(&self) {
        self.new.notified().await;
    }
}
