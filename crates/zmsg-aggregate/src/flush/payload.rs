//! What a dead letter does when it is retried.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, OnMissing, Result, Statement, Value};
use zmsg_sqlbuilder::Dialect;
use zmsg_store::{Expect, Otherwise, Step};

use super::steps::{Effect, MISSING};

/// What a letter does when it is retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) steps: Vec<PayloadStep>,
    pub(super) keys: Vec<String>,
}

/// One statement of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PayloadStep {
    statement: Statement,
    missing: Missing,
}

/// What happens if the statement changes no row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Missing {
    Refuse,
    Ignore,
    Insert(Statement),
    /// As `Insert`, where it takes several statements.
    InsertBy(Vec<Statement>),
}

/// The first byte of a payload.
const PAYLOAD_VERSION: u8 = 1;

impl Payload {
    pub(super) fn encode(&self) -> Result<Bytes> {
        postcard::to_extend(self, vec![PAYLOAD_VERSION]).map(Bytes::from).map_err(|cause| {
            Error::new(ErrorKind::Unexpected, "could not encode a dead letter").with_source(cause)
        })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupted = || {
            Error::new(ErrorKind::Corrupted, "this is no dead letter that zmsg can read")
                .with_context("version", format!("{:?}", bytes.first()))
        };
        match bytes.split_first() {
            Some((&PAYLOAD_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|cause| corrupted().with_source(cause))
            }
            _ => Err(corrupted()),
        }
    }

    /// The transaction of a retry: the letter goes, and its deed is done.
    pub(super) fn retry_steps(&self, letter: Uuid) -> Vec<Step> {
        let mut steps = vec![remove(letter)];
        steps.extend(self.steps.iter().map(PayloadStep::step));
        steps
    }
}

/// The step that takes a letter away.
pub(super) fn remove(letter: Uuid) -> Step {
    let delete =
        Statement::new("DELETE FROM zmsg_dead_letters WHERE id = ?", vec![Value::Uuid(letter)]);
    Step::must(delete, Expect::Exactly(1), GONE)
}

/// The steps that take letters away, all of them or none.
pub(super) fn remove_all(letters: Vec<Uuid>, dialect: Dialect) -> Vec<Step> {
    match dialect {
        Dialect::Sqlite => letters.into_iter().map(remove).collect(),
        Dialect::Postgres => {
            let count = u64::try_from(letters.len()).unwrap_or(u64::MAX);
            let letters: Vec<Value> = letters.into_iter().map(Value::Uuid).collect();
            let delete = Statement::new(
                "DELETE FROM zmsg_dead_letters WHERE id = ANY (?::uuid[])",
                vec![Value::from(letters)],
            );
            vec![Step::must(delete, Expect::Exactly(count), GONE)]
        }
    }
}

/// Somebody else retried or dropped a letter.
const GONE: &str = "the dead letter is gone";

impl PayloadStep {
    pub(super) fn of(effect: Effect, on_missing: OnMissing) -> Self {
        let Effect { update, mut insert } = effect;
        let missing = match (on_missing, insert.len()) {
            (OnMissing::Ignore, _) => Missing::Ignore,
            (OnMissing::Insert, 1) => Missing::Insert(insert.remove(0)),
            (OnMissing::Insert, 2..) => Missing::InsertBy(insert),
            (OnMissing::Insert, 0) | (OnMissing::DeadLetter, _) => Missing::Refuse,
        };
        Self { statement: update, missing }
    }

    pub(super) fn of_statement(statement: Statement) -> Self {
        Self { statement, missing: Missing::Ignore }
    }

    pub(super) fn step(&self) -> Step {
        let otherwise = match &self.missing {
            Missing::Ignore => return Step::any(self.statement.clone()),
            Missing::Refuse => Otherwise::Abort(MISSING),
            Missing::Insert(insert) => Otherwise::Run(vec![insert.clone()]),
            Missing::InsertBy(insert) => Otherwise::Run(insert.clone()),
        };
        Step { statement: self.statement.clone(), expect: Expect::AtLeast(1), otherwise }
    }
}
