//! How tasks get into the table, as far as there is room.

use std::collections::BTreeSet;

use zmsg_core::{Error, ErrorKind, Result, TaskId};
use zmsg_store::{Outcome, Step, StepError};

use super::room::Entry;
use super::texts::Texts;
use super::{FULL, SqlTaskQueue, rows};
use crate::task::record::{Enqueued, NewTask};

impl SqlTaskQueue {
    /// Accepts all tasks or none.
    pub(super) async fn take_in(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        match self.entry(tasks.len() as u64).await? {
            Entry::Granted => self.insert(tasks, false).await,
            Entry::Checked | Entry::Unknown => self.insert(tasks, true).await,
            Entry::Full => self.only_duplicates(&tasks).await,
        }
    }

    /// Whether so many tasks may go in.
    pub(super) async fn entry(&self, tasks: u64) -> Result<Entry> {
        let (Some(room), Some(count)) = (&self.room, self.texts.count_live) else {
            return Ok(Entry::Checked);
        };
        let known = room.ask(tasks, self.clock.coarse());
        if known != Entry::Unknown {
            return Ok(known);
        }
        // One count at a time: those who waited find what the first has learnt.
        let _counting = self.counting.lock().await;
        let known = room.ask(tasks, self.clock.coarse());
        if known != Entry::Unknown {
            return Ok(known);
        }
        let before = self.clock.coarse();
        let counted = self.fetch_one(Texts::count_live(count, self.options.tasks_max)).await?;
        let live = counted.as_ref().map(|row| rows::clamped(row, 0)).transpose()?;
        let now = self.clock.coarse();
        Ok(room.learn(live.unwrap_or_default(), tasks, now, now.saturating_sub(before)))
    }

    async fn insert(&self, tasks: Vec<NewTask>, checked: bool) -> Result<Vec<Enqueued>> {
        let (now, check) = (self.now(), checked.then(|| self.within_bounds()));
        let refused = |failed| self.refusal(failed);
        let lock = self.texts.lock_lanes(&tasks).map(Step::any);
        let locks = usize::from(lock.is_some());
        if let (Some(text), true) = (self.texts.insert_all, tasks.len() > 1) {
            let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
            let insert = Step::any(Texts::insert_all(text, tasks, &now));
            let steps = lock.into_iter().chain([insert]);
            let outcomes = self.write(steps, check).await.map_err(refused)?;
            let added = outcomes.get(locks).map(|outcome| outcome.rows.as_slice());
            let added = added.unwrap_or_default().iter().map(|row| rows::id(row, 0));
            let mut added = added.collect::<Result<BTreeSet<TaskId>>>()?;
            return Ok(ids.iter().map(|id| answer(added.remove(id))).collect());
        }
        let expected = tasks.len();
        let insert = |task| Step::any(self.texts.insert(task, &now));
        let inserts = tasks.into_iter().map(insert);
        let steps = lock.into_iter().chain(inserts);
        let outcomes = self.write(steps, check).await.map_err(refused)?;
        Ok(outcomes
            .iter()
            .skip(locks)
            .take(expected)
            .map(|outcome| answer(outcome.changed > 0))
            .collect())
    }

    /// Where there was no room a moment ago: what is there already is still recognized.
    async fn only_duplicates(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        for task in tasks {
            if self.fetch_one(self.texts.state(task.id)).await?.is_none() {
                return Err(self.overloaded());
            }
        }
        Ok(vec![Enqueued::Duplicate; tasks.len()])
    }

    async fn write(
        &self,
        inserts: impl IntoIterator<Item = Step>,
        check: Option<Step>,
    ) -> Result<Vec<Outcome>, StepError> {
        let mut steps: Vec<Step> = inserts.into_iter().chain(check).collect();
        if steps.len() > 1 {
            return self.store.execute_all(steps).await;
        }
        // A statement by itself is a transaction, without the round trips of one.
        let Some(step) = steps.pop() else { return Ok(Vec::new()) };
        let executed = self.store.execute(&step.statement).await;
        executed.map(|outcome| vec![outcome]).map_err(|error| StepError { step: None, error })
    }

    /// The last step of a transaction that adds live tasks.
    pub(super) fn within_bounds(&self) -> Step {
        Step::check(self.texts.check_live(self.options.tasks_max), FULL)
    }

    pub(super) fn refusal(&self, failed: StepError) -> Error {
        if failed.error.kind() == ErrorKind::Conflict && failed.error.message() == FULL {
            return self.overloaded();
        }
        failed.into()
    }

    pub(super) fn overloaded(&self) -> Error {
        Error::overloaded("tasks_max").with_context("max", self.options.tasks_max)
    }
}

pub(super) fn answer(added: bool) -> Enqueued {
    if added { Enqueued::Accepted } else { Enqueued::Duplicate }
}
