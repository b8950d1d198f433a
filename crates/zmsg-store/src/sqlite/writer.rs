//! The writer thread: jobs that wait together share one commit.

use std::sync::Arc;
use std::thread::JoinHandle;

use zmsg_core::{Error, ErrorKind, Result};

use super::Shared;
use super::error::{Phase, from_sqlite, is_busy};
use super::jobs::WriteJob;
use super::session::Session;
use super::transaction::run_steps;
use crate::counters::count;
use crate::{Outcome, Step, StepError};

/// How often a COMMIT that met a lock is tried, each time as patiently as configured.
const COMMIT_ATTEMPTS: usize = 3;

type JobResult = Result<Vec<Outcome>, StepError>;

/// The owner of the connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    session: Session,
    shared: Arc<Shared>,
    group_max: usize,
}

impl Writer {
    pub(super) fn new(session: Session, shared: Arc<Shared>, group_max: usize) -> Self {
        Self { session, shared, group_max: group_max.max(1) }
    }

    /// Works until the queue is closed and empty, waits for the readers, and closes the file.
    pub(super) fn run(self, readers: Vec<JoinHandle<()>>) -> Result<()> {
        loop {
            let jobs = self.shared.writes.take(self.group_max);
            if jobs.is_empty() {
                break;
            }
            self.work(jobs);
        }
        // The last connection to close writes the log back, and only this one can.
        let panicked = readers.into_iter().filter_map(|reader| reader.join().err()).count();
        self.session.close()?;
        match panicked {
            0 => Ok(()),
            _ => Err(Error::new(ErrorKind::Unexpected, "a reader of the sqlite store panicked")),
        }
    }

    /// Runs the jobs in order, in groups; a job that cannot share a transaction parts them.
    fn work(&self, jobs: Vec<WriteJob>) {
        let mut group = Vec::new();
        for job in jobs {
            if runs_outside_a_transaction(&job.steps) {
                self.commit_group(std::mem::take(&mut group));
                let result = self.run_outside(&job.steps[0]);
                answer(job, result);
            } else {
                group.push(job);
            }
        }
        self.commit_group(group);
    }

    fn commit_group(&self, group: Vec<WriteJob>) {
        zmsg_core::fail_point!("zmsg-store::sqlite::begin");
        let together = if group.len() > 1 { self.run_together(&group) } else { None };
        match together {
            Some(results) => {
                group.into_iter().zip(results).for_each(|(job, result)| answer(job, result));
            }
            None => {
                for job in group {
                    let result = self.run_alone(&job.steps);
                    answer(job, result);
                }
            }
        }
    }

    /// Runs each job in a savepoint of its own inside one transaction.
    ///
    /// Nothing comes back, and nothing was committed, if the transaction could not be kept: one
    /// job's error made SQLite end it (a full disk, `ON CONFLICT ROLLBACK`), or one job's
    /// deferred constraint failed the common COMMIT. Then each job gets a transaction of its own.
    fn run_together(&self, group: &[WriteJob]) -> Option<Vec<JobResult>> {
        if let Err(error) = self.begin() {
            return Some(group.iter().map(|_| Err(error.clone())).collect());
        }
        let mut results = Vec::with_capacity(group.len());
        for job in group {
            let Some(result) = self.run_in_savepoint(&job.steps) else {
                self.roll_back();
                return None;
            };
            results.push(result);
            zmsg_core::fail_point!("zmsg-store::sqlite::job_of_group_done");
        }
        zmsg_core::fail_point!("zmsg-store::sqlite::before_group_commit");
        match self.commit() {
            Ok(()) => {
                count(&self.session.counters().jobs, results.iter().flatten().count() as u64);
                Some(results)
            }
            Err(failed) if failed.error.kind() == ErrorKind::InvalidData => None,
            Err(failed) => {
                // A job that failed by itself keeps its own error: it is not in doubt.
                let lost = |result: JobResult| result.and_then(|_| Err(failed.clone()));
                Some(results.into_iter().map(lost).collect())
            }
        }
    }

    fn run_in_savepoint(&self, steps: &[Step]) -> Option<JobResult> {
        self.session.control("SAVEPOINT zmsg_job").ok()?;
        let result = run_steps(&self.session, steps);
        if self.session.is_autocommit() {
            return None;
        }
        if result.is_err() {
            self.session.control("ROLLBACK TO zmsg_job").ok()?;
        }
        self.session.control("RELEASE zmsg_job").ok()?;
        Some(result)
    }

    /// Runs one job in a transaction of its own.
    fn run_alone(&self, steps: &[Step]) -> JobResult {
        self.begin()?;
        let outcomes = run_steps(&self.session, steps).inspect_err(|_| self.roll_back())?;
        zmsg_core::fail_point!("zmsg-store::sqlite::before_commit");
        self.commit()?;
        count(&self.session.counters().jobs, 1);
        Ok(outcomes)
    }

    /// Runs a statement that SQLite refuses inside a transaction.
    fn run_outside(&self, step: &Step) -> JobResult {
        let outcome = self
            .session
            .execute_unguarded(&step.statement)
            .map_err(|error| StepError { step: Some(0), error })?;
        count(&self.session.counters().jobs, 1);
        Ok(vec![outcome])
    }

    fn begin(&self) -> Result<(), StepError> {
        self.session.control("BEGIN IMMEDIATE").map_err(|error| at_the_edge(error, Phase::Step))
    }

    fn commit(&self) -> Result<(), StepError> {
        let mut attempt = 1;
        loop {
            match self.session.control("COMMIT") {
                Ok(()) => {
                    zmsg_core::fail_point!("zmsg-store::sqlite::committed");
                    count(&self.session.counters().commits, 1);
                    return Ok(());
                }
                // A COMMIT that met a lock leaves the transaction open, to be tried again.
                Err(error) if is_busy(&error) && attempt < COMMIT_ATTEMPTS => attempt += 1,
                Err(error) => {
                    self.roll_back();
                    return Err(at_the_edge(error, Phase::Commit));
                }
            }
        }
    }

    /// Leaves no transaction open. That ROLLBACK fails means that there was none any more.
    fn roll_back(&self) {
        if !self.session.is_autocommit()
            && let Err(error) = self.session.control("ROLLBACK")
        {
            tracing::warn!(%error, "could not roll back");
        }
    }
}

/// A caller who is gone has given up the answer, not the effect.
fn answer(job: WriteJob, result: JobResult) {
    let _ = job.reply.send(result);
}

fn at_the_edge(error: rusqlite::Error, phase: Phase) -> StepError {
    StepError { step: None, error: from_sqlite(error, phase) }
}

/// `VACUUM` alone is refused inside a transaction and lets nothing else be done with it.
fn runs_outside_a_transaction(steps: &[Step]) -> bool {
    let [step] = steps else { return false };
    let word: String =
        step.statement.text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    word.eq_ignore_ascii_case("vacuum")
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use zmsg_core::Statement;

    use super::*;
    use crate::SqliteOptions;
    use crate::sqlite::jobs::Jobs;

    fn writer(dir: &tempfile::TempDir) -> Writer {
        let shared = Arc::new(Shared {
            writes: Jobs::bounded(16),
            reads: Jobs::bounded(16),
            counters: Arc::default(),
        });
        let options = SqliteOptions::new(dir.path().join("zmsg.db"));
        let session = Session::writer(&options, &shared.counters).unwrap();
        session.raw().execute_batch("CREATE TABLE t (id INTEGER, v BLOB)").unwrap();
        Writer::new(session, shared, 256)
    }

    /// Runs single statements as one group.
    fn run(writer: &Writer, texts: &[&str]) -> Vec<JobResult> {
        let (jobs, answers): (Vec<_>, Vec<_>) = texts
            .iter()
            .map(|text| {
                let (reply, answer) = oneshot::channel();
                let steps = vec![Step::any(Statement::new(*text, vec![]))];
                (WriteJob { steps, reply }, answer)
            })
            .unzip();
        writer.work(jobs);
        answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect()
    }

    fn ids(writer: &Writer) -> Vec<i64> {
        let mut query = writer.session.raw().prepare("SELECT id FROM t ORDER BY id").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_full_disk_fails_the_job_that_found_it_full_and_spares_its_neighbours() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(&dir);
        let raw = writer.session.raw();
        writer.session.lifted(|| raw.execute_batch("PRAGMA max_page_count = 8")).unwrap();
        let results = run(
            &writer,
            &[
                "INSERT INTO t VALUES (1, NULL)",
                "INSERT INTO t VALUES (2, zeroblob(1000000))",
                "INSERT INTO t VALUES (3, NULL)",
            ],
        );
        let error = &results[1].as_ref().unwrap_err().error;
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unavailable, true));
        assert!(error.to_string().contains("disk full"), "{error}");
        assert!(results[0].is_ok() && results[2].is_ok());
        assert_eq!(ids(&writer), [1, 3]);
        assert!(writer.session.is_autocommit(), "no transaction stays open");
    }
}
