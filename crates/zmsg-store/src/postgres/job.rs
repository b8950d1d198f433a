//! What one call does on one connection.

use std::sync::Arc;

use futures_util::future::{OptionFuture, join};
use zmsg_core::{Error, ErrorKind, Result, Row, Statement};

use super::command::Command;
use super::connection::{Connection, Mode};
use super::error::{Fault, Phase};
use super::pool::{Lease, Pool};
use super::transaction::{Access, StepFault, transaction};
use crate::{Otherwise, Outcome, Step, StepError};

/// Answers a query, on another connection if the one it had turns out to be lost.
pub(super) async fn fetch(pool: &Arc<Pool>, query: &Statement) -> Result<Vec<Row>> {
    let mut lease = pool.take(Mode::Read).await?;
    let mut again = true;
    loop {
        let connection = lease.connection()?;
        match read(connection, query).await {
            Ok(rows) => {
                lease.give_back();
                return Ok(rows);
            }
            Err(fault) if again && fault.stale => connection.forget(query),
            Err(fault) if again && is_gone(&fault) && lease.reused => {
                lease = pool.replace(lease).await?;
            }
            Err(fault) => {
                end(lease, fault.lost);
                return Err(fault.error);
            }
        }
        again = false;
    }
}

/// Runs steps in one transaction, or a single statement by itself.
///
/// If the connection turns out to be lost before the first statement was run, the work is begun
/// anew on another one, once.
pub(super) async fn write(
    pool: &Arc<Pool>,
    steps: &[Step],
    single: bool,
) -> Result<Vec<Outcome>, StepError> {
    let whole = |error| StepError { step: None, error };
    let mut lease = pool.take(Mode::Write).await.map_err(whole)?;
    let mut again = true;
    loop {
        let connection = lease.connection().map_err(whole)?;
        let result = match steps {
            [step] if single => execute(connection, &step.statement).await,
            _ => begin_and_run(connection, steps).await,
        };
        match result {
            Ok(outcomes) => {
                lease.give_back();
                return Ok(outcomes);
            }
            Err((_, fault)) if again && fault.stale => {
                steps.iter().flat_map(statements).for_each(|it| connection.forget(it));
            }
            Err((None, fault)) if again && is_gone(&fault) && lease.reused => {
                lease = pool.replace(lease).await.map_err(whole)?;
            }
            Err((step, fault)) => {
                if fault.unreadable
                    && let Ok(connection) = lease.connection()
                {
                    // Prepared anew, its columns may be ones that can be read.
                    steps.iter().flat_map(statements).for_each(|it| connection.forget(it));
                }
                end(lease, fault.lost);
                return Err(StepError { step, error: fault.error });
            }
        }
        again = false;
    }
}

/// The statements that a step may run.
fn statements(step: &Step) -> impl Iterator<Item = &Statement> {
    let others = match &step.otherwise {
        Otherwise::Run(statements) => statements.as_slice(),
        Otherwise::Abort(_) => &[],
    };
    std::iter::once(&step.statement).chain(others)
}

/// Lost, and nothing can have happened; silence is something else.
fn is_gone(fault: &Fault) -> bool {
    fault.lost && fault.error.is_temporary() && fault.error.kind() == ErrorKind::Unavailable
}

fn end(lease: Lease, lost: bool) {
    if lost {
        drop(lease.discard());
    } else {
        lease.give_back();
    }
}

async fn read(connection: &mut Connection, query: &Statement) -> Result<Vec<Row>, Fault> {
    if connection.pooled {
        let step = [Step::any(query.clone())];
        let mut outcomes =
            transaction(connection, &step, Access::Read).await.map_err(|(_, fault)| fault)?;
        return Ok(outcomes.pop().unwrap_or_default().rows);
    }
    let (prepared, binds) = connection.fit(query, Phase::Read).await?;
    refuse_writing(prepared.command)?;
    let switch = connection.switch_to(Mode::Read);
    let connection = &*connection;
    let switched = OptionFuture::from(switch.map(|text| connection.control(text, Phase::Read)));
    // The switch goes out first, and the query right behind it.
    let both = async {
        let (switched, outcome) =
            join(switched, connection.run(prepared, binds, Phase::Read)).await;
        switched.transpose().and(outcome)
    };
    let outcome = connection.in_time(Phase::Read, both).await?;
    Ok(outcome.rows)
}

/// The server refuses what writes; a procedure could switch that off.
pub(super) fn refuse_writing(command: Command) -> Result<()> {
    match command {
        Command::Change | Command::Call => Err(Error::invalid_input("the statement would write")),
        Command::Query | Command::Other => Ok(()),
    }
}

/// Runs a statement that commits by itself.
async fn execute(
    connection: &mut Connection,
    statement: &Statement,
) -> Result<Vec<Outcome>, StepFault> {
    if connection.pooled {
        return execute_pooled(connection, statement).await;
    }
    let by_itself = async {
        writable(connection)?;
        let (prepared, binds) = connection.fit(statement, Phase::Work).await?;
        if prepared.command == Command::Call {
            return Ok(None);
        }
        let switch = connection.switch_to(Mode::Write);
        let connection = &*connection;
        let switched = OptionFuture::from(switch.map(|text| connection.control(text, Phase::Work)));
        let both = async {
            let (switched, outcome) =
                join(switched, connection.run(prepared, binds, Phase::Commit)).await;
            // If the switch failed the statement may have run all the same.
            match (switched.transpose(), outcome) {
                (Ok(_), outcome) | (Err(_), outcome @ Err(_)) => outcome,
                (Err(fault), Ok(_)) => Err(fault),
            }
        };
        connection.in_time(Phase::Commit, both).await.map(Some)
    };
    match by_itself.await {
        Ok(Some(outcome)) => Ok(vec![outcome]),
        // In a transaction a procedure cannot commit half of its work.
        Ok(None) => begin_and_run(connection, &[Step::any(statement.clone())]).await,
        // Lost while it was prepared: the statement was not to blame, and was not run.
        Err(fault) if is_gone(&fault) => Err((None, fault)),
        Err(fault) => Err((Some(0), fault)),
    }
}

async fn execute_pooled(
    connection: &mut Connection,
    statement: &Statement,
) -> Result<Vec<Outcome>, StepFault> {
    let result = begin_and_run(connection, &[Step::any(statement.clone())]).await;
    match result {
        // Nothing of it has happened; outside of a transaction it may.
        Err((_, fault)) if fault.alone && statement.binds.is_empty() => {
            let connection = &*connection;
            let alone = connection.run_alone(&statement.text);
            let outcome = connection.in_time(Phase::Commit, alone).await;
            outcome.map(|outcome| vec![outcome]).map_err(|fault| (Some(0), fault))
        }
        result => result,
    }
}

async fn begin_and_run(
    connection: &mut Connection,
    steps: &[Step],
) -> Result<Vec<Outcome>, StepFault> {
    writable(connection).map_err(|error| (None, error.into()))?;
    transaction(connection, steps, Access::Write).await
}

/// Respects that a standby takes no writes, and the order of the database's owner that new sessions
/// write nothing.
fn writable(connection: &Connection) -> Result<()> {
    if !connection.read_only {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unavailable, "the database takes no writes now")
        .temporary()
        .with_context("setting", "transaction_read_only"))
}
