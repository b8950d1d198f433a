//! Firings of periodic tasks: the row of an entry is changed in the transaction that enqueues its task.

use zmsg_core::{Result, Statement, UnixMillis, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Expect, Step, StepError};

use super::SqlTaskQueue;
use super::intake::answer;
use super::room::Entry;
use crate::task::periodic::Firing;
use crate::task::record::Enqueued;

const HAS_COME_POSTGRES: &str = "\
SELECT 1 WHERE ?::bigint <=
  coalesce(?::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint)";

const HAS_COME_SQLITE: &str = "SELECT 1 WHERE ? <= ?";

/// Waits for whoever fires the same entry, and finds what came of it.
const RECORD: &str = "\
INSERT INTO zmsg_periodic (queue, entry, moment_ms) VALUES (?, ?, ?)
ON CONFLICT (queue, entry) DO UPDATE SET moment_ms = excluded.moment_ms
WHERE zmsg_periodic.moment_ms < excluded.moment_ms";

const FORGET: &str = "DELETE FROM zmsg_periodic WHERE queue = ? AND moment_ms < ?";

// Only a new entry needs room.
const HAS_ROOM_POSTGRES: &str = "\
SELECT 1 WHERE EXISTS (SELECT 1 FROM zmsg_periodic WHERE queue = ? AND entry = ?)
  OR ?::bigint > (SELECT count(*) FROM zmsg_periodic WHERE queue = ?)";

const HAS_ROOM_SQLITE: &str = "\
SELECT 1 WHERE EXISTS (SELECT 1 FROM zmsg_periodic WHERE queue = ? AND entry = ?)
  OR ? > (SELECT count(*) FROM zmsg_periodic WHERE queue = ?)";

const FIND: &str = "SELECT moment_ms FROM zmsg_periodic WHERE queue = ? AND entry = ?";

// Why a transaction was rolled back.
const EARLY: &str = "the moment has not come";
const FIRED: &str = "the entry has fired";
const MANY: &str = "too many entries";

impl SqlTaskQueue {
    pub(super) async fn fire(&self, firing: Firing) -> Result<Enqueued> {
        let checked = match self.entry(1).await? {
            Entry::Granted => false,
            Entry::Checked | Entry::Unknown => true,
            Entry::Full => return self.only_fired(&firing).await,
        };
        let mut steps = self.record(&firing);
        let insert = steps.len();
        let (moment, now) = (firing.moment(), self.now());
        steps.push(Step::any(self.texts.insert(firing.into_task(), &now)));
        steps.extend(checked.then(|| self.within_bounds()));
        match self.open()?.execute_all(steps).await {
            // A task that is there although nothing was recorded is of a record that was taken away.
            Ok(outcomes) => Ok(answer(outcomes.get(insert).is_some_and(|it| it.changed > 0))),
            Err(failed) if says(&failed, FIRED) => Ok(Enqueued::Duplicate),
            Err(failed) if says(&failed, EARLY) => Err(Firing::early(moment)),
            Err(failed) if says(&failed, MANY) => Err(Firing::too_many()),
            Err(failed) => Err(self.refusal(failed)),
        }
    }

    pub(super) async fn find_firing(&self, queue: &str, entry: &str) -> Result<Option<UnixMillis>> {
        let find = Statement::query(FIND, vec![queue.into(), entry.into()]);
        let Some(row) = self.fetch_one(find).await? else { return Ok(None) };
        Ok(Some(u64::try_from(row.int(0)?).unwrap_or(0)))
    }

    /// What comes before the task: all of it, or the transaction is rolled back.
    fn record(&self, firing: &Firing) -> Vec<Step> {
        let (has_come, has_room) = match self.store.dialect() {
            Dialect::Postgres => (HAS_COME_POSTGRES, HAS_ROOM_POSTGRES),
            Dialect::Sqlite => (HAS_COME_SQLITE, HAS_ROOM_SQLITE),
        };
        let (queue, entry) = (firing.queue(), firing.entry());
        let moment = |moment: UnixMillis| Value::Int(i64::try_from(moment).unwrap_or(i64::MAX));
        let early = moment(firing.moment().saturating_sub(Firing::EARLY_MAX_MS));
        let has_come = Statement::query(has_come, vec![early, self.now().bind]);
        let record = vec![queue.into(), entry.into(), moment(firing.moment())];
        let old = moment(firing.moment().saturating_sub(Firing::KEPT_MS));
        let room = vec![queue.into(), entry.into(), Firing::ENTRIES_MAX.into(), queue.into()];
        let has_room = Statement::query(has_room, room);
        vec![
            Step::must(has_come, Expect::Returns(1), EARLY),
            Step::any(Statement::new(FORGET, vec![queue.into(), old])),
            Step::must(has_room, Expect::Returns(1), MANY),
            Step::must(Statement::new(RECORD, record), Expect::Exactly(1), FIRED),
        ]
    }

    /// Where there was no room a moment ago: what has fired already is still recognized.
    async fn only_fired(&self, firing: &Firing) -> Result<Enqueued> {
        let last = self.find_firing(firing.queue(), firing.entry()).await?;
        if last.is_some_and(|last| last >= firing.moment()) {
            return Ok(Enqueued::Duplicate);
        }
        Err(self.overloaded())
    }
}

fn says(failed: &StepError, message: &str) -> bool {
    failed.step.is_some() && failed.error.message() == message
}
