//! What a dead letter does when it is retried.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zmsg_core::{Error, ErrorKind, OnMissing, Result, Statement, Value};
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
        let delete =
            Statement::new("DELETE FROM zmsg_dead_letters WHERE id = ?", vec![Value::Uuid(letter)]);
        let mut steps = vec![Step::must(delete, Expect::Exactly(1), "the dead letter is gone")];
        steps.extend(self.steps.iter().map(PayloadStep::step));
        steps
    }
}

impl PayloadStep {
    pub(super) fn of(effect: &Effect, on_missing: OnMissing) -> Self {
        let missing = match (on_missing, &effect.insert) {
            (OnMissing::Ignore, _) => Missing::Ignore,
            (OnMissing::Insert, Some(insert)) => Missing::Insert(insert.clone()),
            (OnMissing::Insert, None) | (OnMissing::DeadLetter, _) => Missing::Refuse,
        };
        Self { statement: effect.update.clone(), missing }
    }

    pub(super) fn of_statement(statement: &Statement) -> Self {
        Self { statement: statement.clone(), missing: Missing::Ignore }
    }

    fn step(&self) -> Step {
        let otherwise = match &self.missing {
            Missing::Ignore => return Step::any(self.statement.clone()),
            Missing::Refuse => Otherwise::Abort(MISSING),
            Missing::Insert(insert) => Otherwise::Run(vec![insert.clone()]),
        };
        Step { statement: self.statement.clone(), expect: Expect::AtLeast(1), otherwise }
    }
}
