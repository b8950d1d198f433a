//! A handler that does what a test says, and remembers what it was called for.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use zmsg_core::{Clock, Error, Result, TaskId, UnixMillis};
use zmsg_queue::{LeasedTask, TaskHandler};

type Script = Box<dyn Fn(LeasedTask) -> BoxFuture<'static, Result<()>> + Send + Sync>;

pub(crate) struct Scripted {
    clock: Arc<dyn Clock>,
    script: Script,
    events: Mutex<Vec<Event>>,
    told: Notify,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Started { id: TaskId, attempt: u32, at: UnixMillis },
    Completed(TaskId),
    Buried(TaskId, String),
}

impl Scripted {
    pub(crate) fn new<F>(
        clock: Arc<dyn Clock>,
        script: impl Fn(LeasedTask) -> F + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let script: Script = Box::new(move |task| Box::pin(script(task)));
        Arc::new(Self { clock, script, events: Mutex::default(), told: Notify::new() })
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no panic while it is held").clone()
    }

    /// The moments at which attempts started.
    pub(crate) fn starts(&self) -> Vec<UnixMillis> {
        let start = |event| match event {
            Event::Started { at, .. } => Some(at),
            _ => None,
        };
        self.events().into_iter().filter_map(start).collect()
    }

    /// Tasks that were completed or buried.
    pub(crate) fn endings(&self) -> Vec<Event> {
        let ended = |event: &Event| !matches!(event, Event::Started { .. });
        self.events().into_iter().filter(ended).collect()
    }

    /// Waits until so many attempts have started.
    pub(crate) async fn started(&self, attempts: usize) {
        self.when(|| self.starts().len() >= attempts).await;
    }

    /// Waits until so many tasks have been completed or buried.
    pub(crate) async fn ended(&self, tasks: usize) {
        self.when(|| self.endings().len() >= tasks).await;
    }

    async fn when(&self, reached: impl Fn() -> bool) {
        loop {
            let told = self.told.notified();
            if reached() {
                return;
            }
            told.await;
        }
    }

    fn note(&self, event: Event) {
        self.events.lock().expect("no panic while it is held").push(event);
        self.told.notify_waiters();
    }
}

#[async_trait]
impl TaskHandler for Scripted {
    async fn handle(&self, task: &LeasedTask) -> Result<()> {
        let at = self.clock.wall();
        self.note(Event::Started { id: task.id, attempt: task.attempt, at });
        (self.script)(task.clone()).await
    }

    async fn completed(&self, task: &LeasedTask) {
        self.note(Event::Completed(task.id));
    }

    async fn buried(&self, task: &LeasedTask, cause: &Error) {
        self.note(Event::Buried(task.id, cause.to_string()));
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("events", &self.events).finish_non_exhaustive()
    }
}
