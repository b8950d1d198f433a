//! The steps of one job, inside a transaction that somebody else began and will end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zmsg_core::{Error, ErrorKind, Result};

use super::session::Session;
use crate::{Expect, Otherwise, Outcome, Step, StepError};

/// Runs the steps in order until one fails. Whoever began the transaction rolls it back then;
/// a panic on the way is an error like another.
pub(super) fn run_steps(session: &Session, steps: &[Step]) -> Result<Vec<Outcome>, StepError> {
    let run = || {
        let each = steps.iter().enumerate().map(|(index, step)| {
            run_step(session, step).map_err(|error| StepError { step: Some(index), error })
        });
        each.collect()
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let error = Error::new(ErrorKind::Unexpected, "the writer panicked in a transaction");
        Err(StepError { step: None, error })
    })
}

fn run_step(session: &Session, step: &Step) -> Result<Outcome> {
    let outcome = session.execute(&step.statement)?;
    zmsg_core::fail_point!("zmsg-store::sqlite::step_done");
    if step.expect.met_by(&outcome) {
        return Ok(if step.expect == Expect::Found { Outcome::default() } else { outcome });
    }
    match &step.otherwise {
        Otherwise::Abort(message) => Err(Error::new(ErrorKind::Conflict, *message)
            .with_context("changed", outcome.changed)
            .with_context("returned", outcome.rows.len())
            .with_context("expected", format!("{:?}", step.expect))),
        Otherwise::Run(statements) => {
            statements.iter().try_for_each(|statement| session.execute(statement).map(drop))?;
            Ok(outcome)
        }
    }
}
