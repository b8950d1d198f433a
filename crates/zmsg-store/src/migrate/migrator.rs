//! The runner: one set of migrations against one store.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use zmsg_core::{Clock, Error, ErrorKind, Result, Statement, SystemClock};

use super::history::{self, Entry, Progress};
use super::status::{State, Status, check, compare};
use super::unwrapped::{Turn, Unwrapped};
use super::{Direction, Migration, Migrations, Plan};
use crate::{SqlStore, Step};

/// How long a run without a sign of life is respected.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a script is looked at anew while another runner is at it: each look waits as long
/// as the store waits for a lock, and a moment more.
const LOOKS_MAX: u32 = 200;
const A_MOMENT: Duration = Duration::from_millis(50);

/// Applies a set of migrations to a store, and reverts them.
///
/// Several runners may work at once: each script is applied by one of them, and the others go
/// on with the next. The time-outs of the store hold for every statement of a script: give the
/// runner a store that is patient enough for the longest.
#[derive(Debug)]
pub struct Migrator {
    store: Arc<dyn SqlStore>,
    migrations: Migrations,
    clock: Arc<dyn Clock>,
    out_of_order: bool,
    patience: Duration,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The migrations that this run applied or reverted, `<version>_<name>`, in order.
    pub done: Vec<String>,
    /// The migrations that another runner applied meanwhile.
    pub by_others: u64,
}

impl Migrator {
    /// A runner for a set of migrations.
    pub fn new(store: Arc<dyn SqlStore>, migrations: Migrations) -> Self {
        let clock = Arc::new(SystemClock);
        Self { store, migrations, clock, out_of_order: false, patience: PATIENCE }
    }

    /// Takes the time of the history from another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Applies a pending migration also if a newer one was applied already.
    #[must_use]
    pub fn allow_out_of_order(mut self) -> Self {
        self.out_of_order = true;
        self
    }

    /// How long the run of a script outside of a transaction must give no sign of life before
    /// this runner takes it over. Ten seconds unless said otherwise; all runners of one database
    /// should agree on it.
    #[must_use]
    pub fn take_over_after(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How every migration of the set and of its history stands. Changes nothing.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn status(&self) -> Result<Vec<Status>> {
        let history = self.history().await?;
        Ok(compare(&self.migrations, &history, self.store.dialect()))
    }

    /// What [`up`](Self::up) would run. Changes nothing.
    ///
    /// # Errors
    /// As for `up`, except for those of running the scripts.
    pub async fn plan_up(&self) -> Result<Vec<Plan>> {
        self.pending(&self.history().await?).map(|plans| plans.into_iter().map(left).collect())
    }

    /// What [`down`](Self::down) would run. Changes nothing.
    ///
    /// # Errors
    /// As for `down`, except for those of running the scripts.
    pub async fn plan_down(&self, steps: usize) -> Result<Vec<Plan>> {
        let history = self.history().await?;
        self.applied(&history, steps).map(|plans| plans.into_iter().map(left).collect())
    }

    /// Applies every pending migration, the oldest first, and finishes one that was interrupted.
    ///
    /// # Errors
    /// `InvalidInput` that names every script in the way before anything runs: edited or missing
    /// after it was applied, older than the newest that was applied, not to be split into
    /// statements. Else the error of the statement that failed, naming the script and the
    /// statement; nothing of a script in a transaction remains then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no script half applied, except one outside of a transaction,
    /// which the next run resumes.
    pub async fn up(&self) -> Result<Report> {
        history::create(&*self.store).await?;
        let mut report = Report::default();
        let mut looks = 0;
        loop {
            // Read anew each time: other runners may have come further.
            let history = self.history().await?;
            let Some((plan, done)) = self.pending(&history)?.into_iter().next() else {
                return Ok(report);
            };
            let entry = history.iter().find(|entry| entry.version == plan.version);
            tracing::info!(version = plan.version, name = plan.name, done, "applying a migration");
            let turn = self.run(&plan, entry).await;
            match turn.map_err(|error| error.with_context("applied before", report.done.len()))? {
                Turn::Ours => report.done.push(format!("{}_{}", plan.version, plan.name)),
                Turn::Theirs => report.by_others += 1,
                Turn::Busy if looks < LOOKS_MAX => {
                    looks += 1;
                    tokio::time::sleep(A_MOMENT).await;
                }
                Turn::Busy => {
                    let busy = Error::new(ErrorKind::Unavailable, "another runner is at it");
                    return Err(plan.blame(busy.temporary(), None));
                }
            }
        }
    }

    /// Reverts the newest migrations, `steps` of them, the newest first.
    ///
    /// # Errors
    /// As for [`up`](Self::up); before anything runs, `InvalidInput` if one of them has no down
    /// script. `Conflict` if another runner was first, and then no other migration is reverted
    /// in its stead.
    ///
    /// # Cancel safety
    /// As for [`up`](Self::up).
    pub async fn down(&self, steps: usize) -> Result<Report> {
        let mut report = Report::default();
        let history = self.history().await?;
        for (plan, done) in self.applied(&history, steps)? {
            let entry = history.iter().find(|entry| entry.version == plan.version);
            tracing::info!(version = plan.version, name = plan.name, done, "reverting a migration");
            let turn = self.run(&plan, entry).await;
            match turn.map_err(|error| error.with_context("reverted before", report.done.len()))? {
                Turn::Ours => report.done.push(format!("{}_{}", plan.version, plan.name)),
                Turn::Theirs | Turn::Busy => {
                    let first = Error::new(ErrorKind::Conflict, "another runner was first");
                    return Err(plan.blame(first, None));
                }
            }
        }
        Ok(report)
    }

    async fn history(&self) -> Result<Vec<Entry>> {
        history::read(&*self.store, self.migrations.set_name()).await
    }

    /// The scripts to apply, in order, each with the number of its statements that are done.
    fn pending(&self, history: &[Entry]) -> Result<Vec<(Plan, usize)>> {
        let statuses = compare(&self.migrations, history, self.store.dialect());
        check(&statuses, Direction::Up, self.out_of_order)?;
        self.plans(statuses.iter(), Direction::Up)
    }

    /// The scripts to revert, the newest first.
    fn applied(&self, history: &[Entry], steps: usize) -> Result<Vec<(Plan, usize)>> {
        let statuses = compare(&self.migrations, history, self.store.dialect());
        check(&statuses, Direction::Down, self.out_of_order)?;
        let newest = statuses.iter().rev().filter(|status| status.state != State::Pending);
        self.plans(newest.take(steps), Direction::Down)
    }

    fn plans<'a>(
        &self,
        statuses: impl Iterator<Item = &'a Status>,
        wanted: Direction,
    ) -> Result<Vec<(Plan, usize)>> {
        let mut plans = Vec::new();
        for status in statuses {
            let done = match (status.state, wanted) {
                (State::Pending, Direction::Up) | (State::Applied { .. }, Direction::Down) => 0,
                (State::Interrupted { statements_done, .. }, _) => statements_done,
                _ => continue,
            };
            if let Some(script) = self.migrations.get(status.version) {
                let plan = Plan::new(script, wanted, self.store.dialect())?;
                plans.push((plan, usize::try_from(done).unwrap_or(usize::MAX)));
            }
        }
        Ok(plans)
    }

    async fn run(&self, plan: &Plan, entry: Option<&Entry>) -> Result<Turn> {
        let begun = entry.is_some_and(|entry| entry.progress != Progress::Applied);
        if plan.transactional && !begun {
            return self.run_whole(plan).await;
        }
        let script = self.migrations.get(plan.version);
        let run = Unwrapped {
            store: &*self.store,
            set_name: self.migrations.set_name(),
            plan,
            checksum: script.map(Migration::checksum).unwrap_or_default(),
            now_ms: self.clock.wall(),
            patience: self.patience,
            holder: Uuid::now_v7().to_string(),
        };
        run.run(entry).await
    }

    /// Runs a script and its change of the history in one transaction.
    async fn run_whole(&self, plan: &Plan) -> Result<Turn> {
        let statements = plan.statements.iter().map(|text| Statement::new(text.as_str(), vec![]));
        // The history comes first: it is the lock, and the loser of a race runs nothing.
        let steps = [self.mark(plan)].into_iter().chain(statements.map(Step::any)).collect();
        match self.store.execute_all(steps).await {
            Ok(_) => Ok(Turn::Ours),
            Err(failed) if failed.step == Some(0) && failed.error.kind() == ErrorKind::Conflict => {
                Ok(Turn::Theirs)
            }
            // Whoever inserted the row first has not committed yet.
            Err(failed) if failed.step == Some(0) && failed.error.is_temporary() => Ok(Turn::Busy),
            Err(failed) => {
                Err(plan.blame(failed.error, failed.step.and_then(|step| step.checked_sub(1))))
            }
        }
    }

    fn mark(&self, plan: &Plan) -> Step {
        let set_name = self.migrations.set_name();
        if plan.direction == Direction::Down {
            return history::remove(set_name, plan.version);
        }
        let script = self.migrations.get(plan.version);
        let entry = Entry {
            version: plan.version,
            name: plan.name.clone(),
            checksum: script.map(Migration::checksum).unwrap_or_default(),
            progress: Progress::Applied,
            applied_ms: self.clock.wall(),
        };
        history::claim(set_name, plan, &entry)
    }
}

/// A plan without the statements that are done.
fn left((mut plan, done): (Plan, usize)) -> Plan {
    plan.statements.drain(..done.min(plan.statements.len()));
    plan
}
