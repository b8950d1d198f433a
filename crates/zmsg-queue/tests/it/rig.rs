//! A memory queue in tokio's time, and a worker on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zmsg_core::{Backoff, Clock, Error, ErrorKind, Result, TaskId};
use zmsg_queue::{
    MemoryQueueOptions, MemoryTaskQueue, NewTask, TaskHandler, TaskQueue, TaskState, Worker,
    WorkerCounters, WorkerOptions, WorkerReport,
};

use crate::clock::TokioClock;
use crate::flaky::Flaky;

pub(crate) struct Rig {
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) queue: Arc<Flaky>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) options: WorkerOptions,
}

pub(crate) struct Running {
    pub(crate) counters: Arc<WorkerCounters>,
    shutdown: CancellationToken,
    run: JoinHandle<Result<WorkerReport>>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(TokioClock::new());
        let queue = MemoryTaskQueue::new(clock.clone(), MemoryQueueOptions::default());
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let options = WorkerOptions { backoff, ..WorkerOptions::default() };
        let shutdown = CancellationToken::new();
        Self { clock, queue: Flaky::new(Arc::new(queue)), shutdown, options }
    }

    /// A task that is due in so many milliseconds.
    pub(crate) fn task(&self, delay: u64) -> NewTask {
        NewTask::new(TaskId::generate(), "save", "payload").due(self.clock.wall() + delay)
    }

    pub(crate) async fn enqueue(&self, delay: u64) -> TaskId {
        let task = self.task(delay);
        let id = task.id;
        self.queue.enqueue(task).await.expect("enqueue");
        id
    }

    pub(crate) async fn state(&self, id: TaskId) -> Option<TaskState> {
        self.queue.state(id).await.expect("state")
    }

    pub(crate) fn start(&self, handler: Arc<dyn TaskHandler>) -> Running {
        let (tracker, options) = (TaskTracker::new(), self.options.clone());
        let worker =
            Worker::new(self.queue.clone(), handler, self.clock.clone(), tracker.clone(), options);
        let counters = worker.counters();
        let run = tracker.spawn(worker.run(self.shutdown.clone()));
        Running { counters, shutdown: self.shutdown.clone(), run }
    }
}

impl Running {
    pub(crate) async fn stop(self) -> WorkerReport {
        self.shutdown.cancel();
        self.ended().await.expect("a report")
    }

    /// Waits until the worker has gone.
    pub(crate) async fn ended(self) -> Result<WorkerReport> {
        self.run.await.expect("no panic")
    }
}

pub(crate) fn slow() -> Error {
    Error::new(ErrorKind::Timeout, "the database was slow").temporary()
}
