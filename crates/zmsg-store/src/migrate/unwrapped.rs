//! A script that runs outside of a transaction, statement by statement.

use std::pin::pin;
use std::time::Duration;

use zmsg_core::{ErrorKind, Result, Statement, UnixMillis, Value};
use zmsg_sqlbuilder::Dialect;

use super::history::{self, Entry, Progress, checksum_of, must, word};
use super::{Direction, Plan};
use crate::{SqlStore, Step};

/// One run of one script, under a name of its own.
///
/// The row of history says who is at it and how far. While a statement runs, the row's beat is
/// moved on; a row whose beat stood still for the whole of somebody else's patience belongs to
/// nobody alive, and is taken over by a compare-and-set. No clock of the database or of another
/// machine is asked.
#[derive(Debug)]
pub(super) struct Unwrapped<'a> {
    pub(super) store: &'a dyn SqlStore,
    pub(super) set_name: &'a str,
    pub(super) plan: &'a Plan,
    /// The checksum of the whole migration.
    pub(super) checksum: String,
    pub(super) now_ms: UnixMillis,
    /// How long a beat must stand still before the script is taken over.
    pub(super) patience: Duration,
    /// The name of this run, of which there is no second.
    pub(super) holder: String,
}

/// Who runs the script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// This runner, and it has.
    Ours,
    /// Another one was first; look at the history again.
    Theirs,
    /// Another one is at it and has not come to its end; look again in a while.
    Busy,
}

impl Unwrapped<'_> {
    /// Runs what is left of the script, as long as nobody else is at it.
    pub(super) async fn run(&self, entry: Option<&Entry>) -> Result<Turn> {
        let Some(done) = self.take(entry).await? else { return Ok(Turn::Theirs) };
        for index in done..self.plan.statements.len() {
            match self.run_statement(index).await {
                Ok(()) => {}
                // Only the row of history is ever expected to be as it was: it was taken over.
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(Turn::Theirs),
                Err(error) => {
                    self.let_go().await;
                    return Err(self.plan.blame(error, Some(index)));
                }
            }
        }
        match self.change(vec![self.finish()]).await {
            Ok(()) => Ok(Turn::Ours),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(Turn::Theirs),
            Err(error) => Err(self.plan.blame(error, None)),
        }
    }

    /// Makes the script this runner's and says how many statements are done.
    async fn take(&self, entry: Option<&Entry>) -> Result<Option<usize>> {
        let (step, done) = match entry.map(|entry| (&entry.progress, entry.version)) {
            None => (self.begin_up(), 0),
            Some((Progress::Applied, _)) => (self.begin_down(), 0),
            Some((Progress::Running { done, holder: None, beat, .. }, _)) => {
                (self.take_over(*beat), *done)
            }
            Some((Progress::Running { done, beat, .. }, version)) => {
                tokio::time::sleep(self.patience).await;
                let history = history::read(self.store, self.set_name).await?;
                let now = history.iter().find(|entry| entry.version == version);
                if now != entry {
                    return Ok(None);
                }
                (self.take_over(*beat), *done)
            }
        };
        match self.change(vec![step]).await {
            Ok(()) => Ok(Some(done)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(self.plan.blame(error, None)),
        }
    }

    /// Runs a statement and records it; in one transaction where the database can.
    ///
    /// Where it cannot, a statement that was interrupted between its effect and its record runs
    /// again.
    async fn run_statement(&self, index: usize) -> Result<()> {
        let statement = Statement::new(self.plan.statements[index].as_str(), vec![]);
        let record = self.record(index + 1);
        if self.shares_a_transaction(&statement.text) {
            return self.beating(self.change(vec![Step::any(statement), record])).await;
        }
        self.beating(self.store.execute(&statement)).await?;
        self.change(vec![record]).await
    }

    fn shares_a_transaction(&self, text: &str) -> bool {
        let vacuum = text.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("vacuum"));
        self.store.dialect() == Dialect::Sqlite && !vacuum
    }

    /// Waits for work while showing that somebody is there.
    async fn beating<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = tokio::time::sleep(self.patience / 4) => {}
            }
            // Sent while the work goes on; a beat that fails is one beat missing, and whether
            // the script is still ours is asked when its statement is recorded.
            let beat = pin!(self.change(vec![self.beat()]));
            tokio::select! {
                biased;
                result = &mut work => return result,
                _ = beat => {}
            }
        }
    }

    async fn change(&self, steps: Vec<Step>) -> Result<()> {
        self.store.execute_all(steps).await.map(drop).map_err(|failed| failed.error)
    }

    /// Lets another run begin at once: this one is over.
    async fn let_go(&self) {
        let free = self.ours("UPDATE zmsg_migrations SET holder = NULL, beat = beat + 1", vec![]);
        if let Err(error) = self.change(vec![free]).await {
            tracing::warn!(%error, "could not let go of a migration; it is free after a while");
        }
    }
}

/// The changes of its row, each a compare-and-set.
impl Unwrapped<'_> {
    fn begin_up(&self) -> Step {
        let holder = Some(self.holder.clone());
        let progress = Progress::Running { direction: Direction::Up, done: 0, holder, beat: 0 };
        let entry = Entry {
            version: self.plan.version,
            name: self.plan.name.clone(),
            checksum: checksum_of(&[]),
            progress,
            applied_ms: self.now_ms,
        };
        history::claim(self.set_name, self.plan, &entry)
    }

    fn begin_down(&self) -> Step {
        let set = "UPDATE zmsg_migrations SET state = 'reverting', done = 0, holder = ?, \
                   beat = beat + 1, checksum = ?";
        let binds = vec![self.holder.as_str().into(), checksum_of(&[]).into()];
        self.row(set, binds, "state = 'applied'", vec![])
    }

    fn take_over(&self, beat: i64) -> Step {
        let set = "UPDATE zmsg_migrations SET holder = ?, beat = beat + 1";
        let binds = vec![self.holder.as_str().into()];
        let state = word(self.plan.direction);
        self.row(set, binds, "state = ? AND beat = ?", vec![state.into(), beat.into()])
    }

    fn beat(&self) -> Step {
        self.ours("UPDATE zmsg_migrations SET beat = beat + 1", vec![])
    }

    fn record(&self, done: usize) -> Step {
        let set = "UPDATE zmsg_migrations SET done = ?, checksum = ?, beat = beat + 1";
        let checksum = checksum_of(&self.plan.statements[..done]);
        let done = i64::try_from(done).unwrap_or(i64::MAX);
        self.ours(set, vec![done.into(), checksum.into()])
    }

    fn finish(&self) -> Step {
        if self.plan.direction == Direction::Down {
            return self.ours("DELETE FROM zmsg_migrations", vec![]);
        }
        let set = "UPDATE zmsg_migrations SET state = 'applied', holder = NULL, done = 0, \
                   checksum = ?, applied_ms = ?";
        self.ours(set, vec![self.checksum.as_str().into(), history::millis(self.now_ms)])
    }

    /// A change of the row as long as it is this runner's.
    fn ours(&self, change: &str, binds: Vec<Value>) -> Step {
        self.row(change, binds, "holder = ?", vec![self.holder.as_str().into()])
    }

    fn row(&self, change: &str, binds: Vec<Value>, condition: &str, more: Vec<Value>) -> Step {
        let text = format!("{change} WHERE set_name = ? AND version = ? AND {condition}");
        let row = [self.set_name.into(), self.plan.version.into()];
        must(Statement::new(text, binds.into_iter().chain(row).chain(more).collect()))
    }
}
