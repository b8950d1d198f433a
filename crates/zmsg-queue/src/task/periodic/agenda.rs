//! What periodic tasks are up to, for people and tools.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zmsg_core::UnixMillis;

use super::entry::PeriodicTask;
#[cfg(feature = "redis")]
use super::fired::Fired;
use super::firing::Firing;

/// The periodic tasks of this process, to be looked at any time, also when they have stopped.
#[derive(Debug, Clone)]
pub struct Agenda {
    lines: Vec<Arc<Line>>,
    #[cfg(feature = "redis")]
    fired: Arc<Fired>,
}

/// One entry of an [`Agenda`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeriodicEntry {
    /// Its name.
    pub name: String,
    /// Its schedule, as an expression.
    pub schedule: String,
    /// When it fires next; `None` before it began, and if it never does.
    pub next: Option<UnixMillis>,
    /// When it fired last, on whichever node, as far as this one has heard.
    pub last: Option<UnixMillis>,
    /// Firings that this process enqueued.
    pub fired: u64,
    /// Firings that others had enqueued already.
    pub fired_elsewhere: u64,
    /// Firings that could not be enqueued until the next moment came, or at all.
    pub lost: u64,
}

#[derive(Debug)]
pub(in crate::task) struct Line {
    pub(in crate::task) task: PeriodicTask,
    state: Mutex<PeriodicEntry>,
}

impl Agenda {
    pub(super) fn new() -> Self {
        Self {
            lines: Vec::new(),
            #[cfg(feature = "redis")]
            fired: Arc::default(),
        }
    }

    /// The entries, in the order in which they were added.
    pub fn entries(&self) -> Vec<PeriodicEntry> {
        self.lines.iter().map(|line| line.read().clone()).collect()
    }

    pub(super) fn push(&mut self, task: PeriodicTask) {
        self.lines.push(Arc::new(Line::of(task)));
    }

    pub(in crate::task) fn lines(&self) -> &[Arc<Line>] {
        &self.lines
    }

    /// Notes that this process has enqueued a firing.
    pub(super) fn fired(&self, line: &Line, firing: &Firing, at: UnixMillis) {
        line.note(|entry| {
            entry.fired += 1;
            entry.last = entry.last.max(Some(firing.moment()));
        });
        #[cfg(feature = "redis")]
        self.fired.push(firing, at);
        #[cfg(not(feature = "redis"))]
        let _ = at;
    }

    #[cfg(feature = "redis")]
    pub(in crate::task) fn firings(&self) -> &Fired {
        &self.fired
    }
}

impl Line {
    fn of(task: PeriodicTask) -> Self {
        let state = PeriodicEntry {
            name: task.name().to_owned(),
            schedule: task.schedule().to_string(),
            next: None,
            last: None,
            fired: 0,
            fired_elsewhere: 0,
            lost: 0,
        };
        Self { task, state: Mutex::new(state) }
    }

    pub(in crate::task) fn read(&self) -> MutexGuard<'_, PeriodicEntry> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut PeriodicEntry)) {
        change(&mut self.read());
    }
}
