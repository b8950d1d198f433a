//! How a set of migrations stands against its history.

use std::collections::BTreeMap;

use zmsg_core::{Error, UnixMillis};
use zmsg_sqlbuilder::Dialect;

use super::history::{Entry, Progress};
use super::{Direction, Migrations, Plan};

/// How one migration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its version.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: State,
}

/// How a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not applied yet.
    Pending,
    /// Applied.
    Applied {
        /// When, by the clock of the runner.
        at: UnixMillis,
    },
    /// Applied, and its script was edited since.
    Edited,
    /// Applied, and its script is not in the set any more.
    Missing,
    /// A script outside of a transaction that was begun and is not finished: its run was
    /// interrupted, or another runner is at it.
    Interrupted {
        /// Which script.
        direction: Direction,
        /// The statements of it that are done.
        statements_done: u64,
    },
}

/// Every migration of the set or the history, in the order of versions.
pub(super) fn compare(set: &Migrations, history: &[Entry], dialect: Dialect) -> Vec<Status> {
    let mut all: BTreeMap<i64, Status> = BTreeMap::new();
    for script in set.scripts() {
        let name = script.name.clone();
        all.insert(script.version, Status { version: script.version, name, state: State::Pending });
    }
    for entry in history {
        let state = state_of(set, entry, dialect);
        all.insert(
            entry.version,
            Status { version: entry.version, name: entry.name.clone(), state },
        );
    }
    all.into_values().collect()
}

fn state_of(set: &Migrations, entry: &Entry, dialect: Dialect) -> State {
    let Some(script) = set.get(entry.version) else { return State::Missing };
    let direction = match entry.progress {
        Progress::Applied if entry.checksum == script.checksum() => {
            return State::Applied { at: entry.applied_ms };
        }
        Progress::Applied => return State::Edited,
        Progress::Running { direction, .. } => direction,
    };
    // What is done must not change; what is not may, for that is how its error is mended.
    match Plan::new(script, direction, dialect) {
        Ok(plan) if entry.agrees_with(&plan) => {
            State::Interrupted { direction, statements_done: entry.statements_done() as u64 }
        }
        _ => State::Edited,
    }
}

/// One error that names everything in the way of a run, each with its way out.
pub(super) fn check(
    statuses: &[Status],
    wanted: Direction,
    out_of_order: bool,
) -> Result<(), Error> {
    let newest = statuses.iter().rev().find(|it| it.state != State::Pending);
    let newest = newest.map_or(i64::MIN, |status| status.version);
    let mut error = None;
    for Status { version, name, state } in statuses {
        let (what, way_out) = match state {
            State::Edited => (
                "edited",
                "restore the script as it was applied, and put the change into a new one",
            ),
            State::Missing => ("missing", "restore the script that was applied"),
            State::Pending if *version < newest && wanted == Direction::Up && !out_of_order => {
                ("out of order", "give it a newer version, or allow migrations out of order")
            }
            State::Interrupted { direction, .. } if *direction != wanted => {
                ("interrupted", "finish the interrupted run, in its own direction, first")
            }
            _ => continue,
        };
        let known =
            error.unwrap_or_else(|| Error::invalid_input("the migrations do not fit the history"));
        error = Some(known.with_context(what, format!("{version}_{name}: {way_out}")));
    }
    error.map_or(Ok(()), Err)
}
