//! What is to be done again and again.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

use super::firing::Firing;
use super::schedule::Schedule;
use crate::task::record::NewTask;

/// Makes the task of a firing at this moment.
type Make = dyn Fn(UnixMillis) -> NewTask + Send + Sync;

/// A task that comes again and again: a name, a schedule, and how the task of each firing is made.
#[derive(Clone)]
pub struct PeriodicTask {
    name: String,
    schedule: Schedule,
    missed: Missed,
    make: Arc<Make>,
}

/// What becomes of moments that passed while nobody looked: no node ran, or the clock leapt over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Missed {
    /// Nothing. A moment up to a minute ago counts as late, and fires.
    #[default]
    Skip,
    /// The latest of them fires.
    Once,
}

impl PeriodicTask {
    /// One that is known by `name` in the queue of its tasks, 1 to 255 bytes without NUL. Two schedules of one
    /// name and queue are taken for one.
    ///
    /// `make` makes the task of the firing at a moment: its kind, payload and queue, which is the same each time. Its
    /// id and when it is due are those of the [firing](Firing::new), whatever it brings. It is asked on
    /// every node, and for tools that show what comes next: it must answer at once and change nothing.
    pub fn new(
        name: impl Into<String>,
        schedule: Schedule,
        make: impl Fn(UnixMillis) -> NewTask + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), schedule, missed: Missed::default(), make: Arc::new(make) }
    }

    /// Says what becomes of moments that passed while nobody looked.
    #[must_use]
    pub fn missed(self, missed: Missed) -> Self {
        Self { missed, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it fires.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What becomes of moments that passed while nobody looked.
    pub(super) fn on_missed(&self) -> Missed {
        self.missed
    }

    /// Its firing at a moment. A maker that panics costs this firing, and no other entry.
    pub(in crate::task) fn firing(&self, moment: UnixMillis) -> Result<Firing> {
        let made = catch_unwind(AssertUnwindSafe(|| (self.make)(moment)));
        let task = made.map_err(|_| {
            let why = "what makes the task of a periodic task panicked";
            Error::new(ErrorKind::InvalidInput, why).with_context("entry", &self.name)
        })?;
        let firing = Firing::new(&self.name, moment, task);
        firing.check().map(|()| firing)
    }
}

impl fmt::Debug for PeriodicTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeriodicTask")
            .field("name", &self.name)
            .field("schedule", &self.schedule)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}
