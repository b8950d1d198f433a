//! Steps in one transaction, each sent as early as it may be.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use zmsg_core::{Error, ErrorKind, Statement};

use super::bind::Bind;
use super::check::is_check;
use super::connection::{Connection, Mode};
use super::error::{Fault, Phase};
use super::job::refuse_writing;
use super::statements::Prepared;
use crate::{Expect, Otherwise, Outcome, Step};

/// Which step failed, if one did, and how.
pub(super) type StepFault = (Option<usize>, Fault);

/// Statements that are on their way at once, at most.
const AHEAD_MAX: usize = 64;

/// A connection that was in use so shortly before is there.
const FRESH: Duration = Duration::from_secs(1);

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Access {
    fn work(self) -> Phase {
        match self {
            Self::Read => Phase::Read,
            Self::Write => Phase::Work,
        }
    }

    /// Work with the COMMIT right behind it.
    fn ahead(self) -> Phase {
        match self {
            Self::Read => Phase::Read,
            Self::Write => Phase::Ahead,
        }
    }

    fn commit(self) -> Phase {
        match self {
            Self::Read => Phase::Read,
            Self::Write => Phase::Commit,
        }
    }
}

/// Runs the steps and commits, or rolls back and says why. The connection is idle then, or lost.
///
/// Outside of a pooler the session is read-only by default, so if BEGIN should fail the steps that
/// went out behind it are refused and nothing is half done.
///
/// Steps that are prepared go out together with BEGIN, up to the first whose outcome decides what
/// comes next; COMMIT goes with the last of them if none can fail but by an error, which turns a
/// COMMIT into a rollback. Not on a connection that was idle for a while: it may be lost and not
/// know it, and what was sent without a COMMIT can be begun anew on another.
pub(super) async fn transaction(
    connection: &mut Connection,
    steps: &[Step],
    access: Access,
) -> Result<Vec<Outcome>, StepFault> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(text) = connection.switch_to(Mode::Read) {
        let phase = access.work();
        let switched = connection.in_time(phase, connection.control(text, phase)).await;
        switched.map_err(|fault| (None, fault))?;
    }
    let mut run = Run { begun: false, committed: false, access, outcomes: Vec::new() };
    let result = run.all(connection, steps).await;
    match result {
        Ok(()) => {
            zmsg_core::fail_point!("zmsg-store::postgres::committed");
            connection.ended();
            Ok(run.outcomes)
        }
        Err((step, mut fault)) => {
            if run.begun && !run.committed && !fault.lost {
                let end = connection.end(false);
                let rolled_back =
                    connection.in_time(Phase::Work, connection.control(end, Phase::Work)).await;
                fault.lost = rolled_back.is_err();
            }
            connection.ended();
            Err((step, fault))
        }
    }
}

/// How far a transaction has come.
struct Run {
    begun: bool,
    /// COMMIT was sent.
    committed: bool,
    access: Access,
    outcomes: Vec<Outcome>,
}

/// A step that can be sent.
struct Ready<'a> {
    prepared: Arc<Prepared>,
    binds: Vec<Bind<'a>>,
}

impl Run {
    async fn all(&mut self, connection: &mut Connection, steps: &[Step]) -> Result<(), StepFault> {
        while self.outcomes.len() < steps.len() {
            let rest = &steps[self.outcomes.len()..];
            let mut ready = ready(connection, rest);
            if ready.is_empty() {
                ready.push(self.prepare(connection, &rest[0]).await?);
            }
            self.together(connection, rest, ready).await?;
            self.otherwise(connection, &steps[self.outcomes.len() - 1]).await?;
        }
        for (step, outcome) in steps.iter().zip(&mut self.outcomes) {
            if step.expect == Expect::Found {
                outcome.rows.clear();
            }
        }
        if self.committed {
            return Ok(());
        }
        self.committed = true;
        zmsg_core::fail_point!("zmsg-store::postgres::before_commit");
        let (end, phase) = (connection.end(true), self.access.commit());
        let done = connection.in_time(phase, connection.control(end, phase)).await;
        done.map_err(|fault| (None, fault))
    }

    /// Prepares a step inside of the transaction: an earlier one may have made its table.
    async fn prepare<'a>(
        &mut self,
        connection: &mut Connection,
        step: &'a Step,
    ) -> Result<Ready<'a>, StepFault> {
        let phase = self.access.work();
        self.begin(connection).await?;
        let at = Some(self.outcomes.len());
        let fitted = connection.fit(&step.statement, phase).await;
        let (prepared, binds) = fitted.map_err(|fault| (at, fault))?;
        self.check(&prepared).map_err(|error| (at, error.into()))?;
        Ok(Ready { prepared, binds })
    }

    /// Begins the transaction unless it is begun.
    async fn begin(&mut self, connection: &Connection) -> Result<(), StepFault> {
        if self.begun {
            return Ok(());
        }
        let phase = self.access.work();
        let begin = connection.control(connection.begin(self.access), phase);
        connection.in_time(phase, begin).await.map_err(|fault| (None, fault))?;
        self.begun = true;
        Ok(())
    }

    fn check(&self, prepared: &Prepared) -> Result<(), Error> {
        if self.access == Access::Read { refuse_writing(prepared.command) } else { Ok(()) }
    }

    /// Sends what is ready, with BEGIN before and COMMIT behind it if they may, and takes the
    /// answers in order. Once the connection is lost nobody waits for what would have followed.
    async fn together(
        &mut self,
        connection: &mut Connection,
        rest: &[Step],
        ready: Vec<Ready<'_>>,
    ) -> Result<(), StepFault> {
        let first = self.outcomes.len();
        let steps = &rest[..ready.len()];
        for (index, it) in ready.iter().enumerate() {
            self.check(&it.prepared).map_err(|error| (Some(first + index), error.into()))?;
        }
        if connection.pooled {
            self.begin(connection).await?;
        }
        let connection = &*connection;
        let begins = !self.begun;
        let commits = steps.len() == rest.len()
            && steps.iter().all(cannot_stop)
            && !connection.looked_up
            && (!begins || connection.idle_since.elapsed() < FRESH);
        (self.begun, self.committed) = (true, commits);
        let phase = if commits { self.access.ahead() } else { self.access.work() };
        let mut pipeline = Pipeline::default();
        if begins {
            pipeline.push(control(connection, connection.begin(self.access), phase));
        }
        for it in ready {
            pipeline.push(connection.run(it.prepared, it.binds, phase));
        }
        if commits {
            let end = control(connection, connection.end(true), self.access.commit());
            pipeline.push(end);
        }
        pipeline.start().await;
        zmsg_core::fail_point!("zmsg-store::postgres::sent");
        let mut failed: Option<StepFault> = None;
        if begins {
            failed = connection.in_time(phase, pipeline.next()).await.err().map(|it| (None, it));
        }
        for (index, step) in steps.iter().enumerate() {
            if is_lost(failed.as_ref()) {
                break;
            }
            let outcome = connection.in_time(phase, pipeline.next()).await;
            let outcome = outcome.map_err(|fault| refusal(step, fault));
            failed = match failed {
                None => self.take(step, outcome).err().map(|it| (Some(first + index), it)),
                failed => settle(failed, Some(first + index), outcome),
            };
        }
        zmsg_core::fail_point!("zmsg-store::postgres::answered");
        if commits && !is_lost(failed.as_ref()) {
            let committed = connection.in_time(self.access.commit(), pipeline.next()).await;
            let succeeded = committed.is_ok() && self.access == Access::Write;
            failed = settle(failed, None, committed).map(|(step, fault)| {
                (step, if succeeded && fault.unreadable { fault.committed() } else { fault })
            });
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes the outcome of a step, if it is what was expected or something else is to run then.
    fn take(&mut self, step: &Step, outcome: Result<Outcome, Fault>) -> Result<(), Fault> {
        let outcome = outcome?;
        if !step.expect.met_by(&outcome)
            && let Some(error) = unmet(step, &outcome)
        {
            return Err(error.into());
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Runs what the last step brought for the case that its expectation is not met.
    async fn otherwise(
        &mut self,
        connection: &mut Connection,
        last: &Step,
    ) -> Result<(), StepFault> {
        let at = self.outcomes.len() - 1;
        let Otherwise::Run(statements) = &last.otherwise else { return Ok(()) };
        if last.expect.met_by(&self.outcomes[at]) {
            return Ok(());
        }
        for statement in statements {
            let done = self.one(connection, statement).await;
            done.map_err(|fault| (Some(at), fault))?;
        }
        Ok(())
    }

    async fn one(
        &self,
        connection: &mut Connection,
        statement: &Statement,
    ) -> Result<Outcome, Fault> {
        let phase = self.access.work();
        let (prepared, binds) = connection.fit(statement, phase).await?;
        connection.in_time(phase, connection.run(prepared, binds, phase)).await
    }
}

/// The steps that can be sent at once: prepared, well bound, and up to the first one whose
/// outcome decides what is sent next.
fn ready<'a>(connection: &Connection, rest: &'a [Step]) -> Vec<Ready<'a>> {
    let mut ready = Vec::new();
    for step in rest.iter().take(AHEAD_MAX) {
        let Some(prepared) = connection.known(&step.statement) else { break };
        let Ok(binds) = Bind::all(&step.statement.binds, &prepared.kinds) else { break };
        ready.push(Ready { prepared, binds });
        if decides(step) {
            break;
        }
    }
    ready
}

/// Whether other statements follow if the step does not do what is expected of it.
fn decides(step: &Step) -> bool {
    let runs = matches!(&step.otherwise, Otherwise::Run(statements) if !statements.is_empty());
    runs && step.expect != Expect::Any
}

/// Whether nothing but an error can keep the transaction from being committed after this step.
fn cannot_stop(step: &Step) -> bool {
    let runs_nothing = matches!(&step.otherwise, Otherwise::Run(it) if it.is_empty());
    step.expect == Expect::Any || runs_nothing || is_check(step)
}

/// A check that found nothing, as what it means to the caller.
fn refusal(step: &Step, fault: Fault) -> Fault {
    let refused = fault.divided && is_check(step);
    match unmet(step, &Outcome::default()).filter(|_| refused) {
        Some(error) => error.into(),
        None => fault,
    }
}

/// The error of a step that must do what is expected.
fn unmet(step: &Step, outcome: &Outcome) -> Option<Error> {
    let Otherwise::Abort(message) = &step.otherwise else { return None };
    let error = Error::new(ErrorKind::Conflict, *message)
        .with_context("changed", outcome.changed)
        .with_context("returned", outcome.rows.len())
        .with_context("expected", format!("{:?}", step.expect));
    Some(error)
}

/// What became of a transaction after a further answer, that of its COMMIT or of a step behind the
/// one that failed.
///
/// A step that the server refused has made the COMMIT a rollback, whatever comes behind it. One
/// whose rows cannot be read has run: what is refused behind it decides.
fn settle(
    failed: Option<StepFault>,
    at: Option<usize>,
    answer: Result<Outcome, Fault>,
) -> Option<StepFault> {
    match (failed, answer) {
        (None, Ok(_)) => None,
        (None, Err(fault)) => Some((at, fault)),
        (Some((_, unread)), Err(fault)) if unread.unreadable => Some((at, fault)),
        (Some((step, mut fault)), answer) => {
            if let Err(also) = answer {
                fault.lost |= also.lost;
            }
            Some((step, fault))
        }
    }
}

fn is_lost(failed: Option<&StepFault>) -> bool {
    failed.is_some_and(|(_, fault)| fault.lost)
}

async fn control(connection: &Connection, text: &str, phase: Phase) -> Result<Outcome, Fault> {
    connection.control(text, phase).await.map(|()| Outcome::default())
}

/// Requests that are sent one behind the other, and answered in that order.
#[derive(Default)]
struct Pipeline<'a> {
    requests: std::collections::VecDeque<Request<'a>>,
}

enum Request<'a> {
    Sent(Pin<Box<dyn Future<Output = Result<Outcome, Fault>> + Send + 'a>>),
    Done(Result<Outcome, Fault>),
}

impl<'a> Pipeline<'a> {
    fn push(&mut self, request: impl Future<Output = Result<Outcome, Fault>> + Send + 'a) {
        self.requests.push_back(Request::Sent(Box::pin(request)));
    }

    /// Sends all of them: each is sent when it is polled first.
    async fn start(&mut self) {
        poll_fn(|context| {
            for request in &mut self.requests {
                if let Request::Sent(sent) = request
                    && let Poll::Ready(done) = sent.as_mut().poll(context)
                {
                    *request = Request::Done(done);
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The next answer.
    async fn next(&mut self) -> Result<Outcome, Fault> {
        match self.requests.front_mut() {
            Some(Request::Sent(sent)) => {
                let done = sent.await;
                self.requests.pop_front();
                done
            }
            _ => match self.requests.pop_front() {
                Some(Request::Done(done)) => done,
                _ => Err(Error::new(ErrorKind::Unexpected, "no request is left").into()),
            },
        }
    }
}
