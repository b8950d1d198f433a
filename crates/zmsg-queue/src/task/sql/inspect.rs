//! A SQL queue as people look at it.

use async_trait::async_trait;
use bytes::Bytes;
use zmsg_core::{Result, Row, Statement, TaskId, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::Step;

use super::looks::{self, Looks};
use super::postgres::{CHANNEL, TELL};
use super::{SqlTaskQueue, TaskQueue};
use crate::task::inspect::{
    Act, BY_HAND, Place, QUEUES_MAX, QueueSummary, Stage, TRIES, TaskInfo, TaskInspector, changing,
    held, page,
};

/// What is done to one task.
#[derive(Debug, Clone, Copy)]
enum Change {
    Run,
    Archive,
    Delete,
}

#[async_trait]
impl TaskInspector for SqlTaskQueue {
    async fn queues(&self) -> Result<Vec<String>> {
        let limit = Value::Int(i64::try_from(QUEUES_MAX).unwrap_or(i64::MAX));
        let found = self.open()?.fetch(&Statement::query(looks::QUEUES, vec![limit])).await;
        let found = found.map_err(|error| error.during("queue.queues"))?;
        let names = found.iter().map(|row| row.text(0).map(str::to_owned));
        let mut names = names.collect::<Result<Vec<String>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    async fn summary(&self, queue: &str) -> Result<QueueSummary> {
        let row = self.fetch_one(self.looks().summary(queue)).await;
        let row = row.map_err(|error| error.during("queue.summary"))?;
        let summary = row.as_ref().map(|row| looks::summary(queue, row)).transpose()?;
        Ok(summary.unwrap_or_default())
    }

    async fn tasks(
        &self,
        queue: &str,
        stage: Stage,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<TaskInfo>> {
        let store = self.open()?;
        let Some(list) = self.looks().list(queue, stage, after, page(limit)) else {
            return Ok(Vec::new());
        };
        let found = store.fetch(&list).await.map_err(|error| error.during("queue.tasks"))?;
        Ok(found.iter().filter_map(readable).collect())
    }

    async fn task(&self, queue: Option<&str>, id: TaskId) -> Result<Option<TaskInfo>> {
        let found = self.fetch_one(self.looks().task(queue, id)).await;
        let found = found.map_err(|error| error.during("queue.task"))?;
        found.as_ref().map(looks::info).transpose()
    }

    async fn payload(&self, queue: Option<&str>, id: TaskId) -> Result<Option<Bytes>> {
        let found = self.fetch_one(self.looks().payload(queue, id)).await;
        let found = found.map_err(|error| error.during("queue.payload"))?;
        found.as_ref().map(|row| row.bytes(0).cloned()).transpose()
    }

    async fn run_now(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        let act = self.act(queue, id, Change::Run).await;
        let act = act.map_err(|error| error.during("queue.run_now"))?;
        if act == Act::Done {
            self.tell();
            self.tell_others_now().await;
        }
        Ok(act)
    }

    async fn archive(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        let act = self.act(queue, id, Change::Archive).await;
        let act = act.map_err(|error| error.during("queue.archive"))?;
        // The next of its lane may be due.
        self.tell();
        Ok(act)
    }

    async fn delete(&self, queue: Option<&str>, id: TaskId) -> Result<Act> {
        let act = self.act(queue, id, Change::Delete).await;
        let act = act.map_err(|error| error.during("queue.delete"))?;
        self.tell();
        Ok(act)
    }
}

impl SqlTaskQueue {
    fn looks(&self) -> Looks {
        Looks { dialect: self.store.dialect(), now: self.now().bind }
    }

    /// Looks first, so that there is an answer where nothing is to be done; the statement of the change looks
    /// again.
    async fn act(&self, queue: Option<&str>, id: TaskId, change: Change) -> Result<Act> {
        for _ in 0..TRIES {
            let Some(task) = self.task(queue, id).await? else { return Ok(Act::Unknown) };
            if task.is_held() {
                return Err(held(&task));
            }
            match (change, task.stage) {
                (Change::Run, Stage::Pending) | (Change::Archive, Stage::Dead) => {
                    return Ok(Act::Already);
                }
                _ => {}
            }
            let done = match change {
                Change::Run if task.stage == Stage::Dead => self.retry_dead(id).await?,
                Change::Run => self.change(self.looks().run(id)).await?,
                Change::Archive => self.archive_one(id).await?,
                Change::Delete => self.change(self.looks().delete(id)).await?,
            };
            if done {
                return Ok(Act::Done);
            }
        }
        Err(changing(id))
    }

    async fn archive_one(&self, id: TaskId) -> Result<bool> {
        let archive = Step::any(self.looks().archive(id, BY_HAND));
        let trim = Step::any(self.texts.trim_dead(self.options.dead_max));
        let outcomes = self.open()?.execute_all(vec![archive, trim]).await?;
        if let Some(trimmed) = outcomes.get(1) {
            self.note_dropped(&trimmed.rows)?;
        }
        Ok(outcomes.first().is_some_and(|archived| archived.changed > 0))
    }

    /// Whoever acts, such as a command that ends at once, need not run the wake-ups.
    async fn tell_others_now(&self) {
        if self.store.dialect() != Dialect::Postgres {
            return;
        }
        let binds = vec![CHANNEL.into(), self.name.to_string().into()];
        if let Err(error) = self.store.execute(&Statement::query(TELL, binds)).await {
            tracing::warn!(%error, "could not tell others of a task: they find it by polling");
        }
    }
}

fn readable(row: &Row) -> Option<TaskInfo> {
    match looks::info(row) {
        Ok(info) => Some(info),
        Err(error) => {
            tracing::error!(%error, "a task has no id that can be read");
            None
        }
    }
}
