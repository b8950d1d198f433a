//! The payload of a task in the queue: versioned, typed, never JSON numbers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zmsg_core::{Error, ErrorKind, Result, Statement};
use zmsg_store::{Expect, Otherwise, Step};

/// The queue of the delayed route.
pub(crate) const QUEUE: &str = "default";

/// The queue of invalidations that did not reach L2: no delayed write waits behind them.
pub(crate) const REPAIR_QUEUE: &str = "zmsg_repair";

/// The first byte of every payload; what is signed has another before it.
const VERSION: u8 = 1;

/// What a task does, as its kind in the queue says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Save,
    Update,
    Delete,
    CacheRepair,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Save => "zmsg:save",
            Self::Update => "zmsg:update",
            Self::Delete => "zmsg:delete",
            Self::CacheRepair => "zmsg:cache_repair",
        }
    }
}

/// What a task needs to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    /// These steps in one transaction; then the keys leave the caches.
    Write { keys: Vec<String>, steps: Vec<WireStep> },
    /// The key leaves the caches.
    Repair { key: String },
    /// These keys leave the caches.
    RepairMany { keys: Vec<String> },
}

/// A [`Step`] as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireStep {
    statement: Statement,
    expect: WireExpect,
    /// The statements that run otherwise; `None` aborts.
    otherwise: Option<Vec<Statement>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum WireExpect {
    Any,
    Exactly(u64),
    AtLeast(u64),
    Returns(u64),
    Found,
}

impl From<Step> for WireStep {
    fn from(step: Step) -> Self {
        let expect = match step.expect {
            Expect::Any => WireExpect::Any,
            Expect::Exactly(rows) => WireExpect::Exactly(rows),
            Expect::AtLeast(rows) => WireExpect::AtLeast(rows),
            Expect::Returns(rows) => WireExpect::Returns(rows),
            Expect::Found => WireExpect::Found,
        };
        let otherwise = match step.otherwise {
            Otherwise::Abort(_) => None,
            Otherwise::Run(statements) => Some(statements),
        };
        Self { statement: step.statement, expect, otherwise }
    }
}

impl From<WireStep> for Step {
    fn from(wire: WireStep) -> Self {
        let expect = match wire.expect {
            WireExpect::Any => Expect::Any,
            WireExpect::Exactly(rows) => Expect::Exactly(rows),
            WireExpect::AtLeast(rows) => Expect::AtLeast(rows),
            WireExpect::Returns(rows) => Expect::Returns(rows),
            WireExpect::Found => Expect::Found,
        };
        let otherwise = match wire.otherwise {
            Some(statements) => Otherwise::Run(statements),
            None => Otherwise::Abort("the delayed write did not change the rows it was to change"),
        };
        Self { statement: wire.statement, expect, otherwise }
    }
}

/// The stored form of a payload.
pub(crate) fn encode(payload: &Payload) -> Result<Bytes> {
    postcard::to_extend(payload, vec![VERSION]).map(Bytes::from).map_err(|cause| {
        Error::new(ErrorKind::Unexpected, "could not encode a task").with_source(cause)
    })
}

/// A payload from its stored form. What cannot be read will never be readable: the error is
/// permanent, and the task goes to the dead letters at once.
pub(crate) fn decode(stored: &[u8]) -> Result<Payload> {
    let corrupted = |message: &'static str| Error::new(ErrorKind::Corrupted, message);
    match stored.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body)
            .map_err(|cause| corrupted("could not decode a task").with_source(cause)),
        Some((version, _)) => Err(corrupted("a task of another version of zmsg")
            .with_context("version", version)
            .with_context("known", VERSION)),
        None => Err(corrupted("an empty task")),
    }
}

/// What a task does, for a person: its kind, keys and statements, never its binds.
pub(crate) fn summary(kind: &str, payload: Result<Payload>) -> String {
    let kind = kind.escape_debug();
    match payload {
        Ok(Payload::Write { keys, steps }) => {
            let texts: Vec<_> = steps.iter().map(|step| step.statement.text.as_str()).collect();
            format!("{kind} {}: {}", keys.join(", "), texts.join("; "))
        }
        Ok(Payload::Repair { key }) => format!("{kind} {key}"),
        Ok(Payload::RepairMany { keys }) => format!("{kind} {}", keys.join(", ")),
        Err(error) => format!("{kind}, which cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use zmsg_core::{Timestamp, Value};

    use super::*;

    #[test]
    fn values_keep_their_types_through_the_queue() {
        let binds = vec![
            Value::Int(i64::MAX - 1),
            Value::Bytes(Bytes::from_static(&[0, 255, 10])),
            Value::Timestamp(Timestamp(1_700_000_000_123_456)),
            Value::Json(serde_json::json!({"n": 9_007_199_254_740_993_i64})),
            Value::Float(0.1),
            Value::Null,
        ];
        let step = Step::any(Statement::new("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", binds));
        let payload = Payload::Write { keys: vec!["t_1".into()], steps: vec![step.clone().into()] };
        let Payload::Write { steps, .. } = decode(&encode(&payload).unwrap()).unwrap() else {
            panic!("another payload came back");
        };
        assert_eq!(Step::from(steps[0].clone()), step);
    }

    /// As version 0.1.0 writes it. Never change it: tasks like this one wait in databases.
    const FIXTURE: &str = "01000103745f31011f555044415445207420534554206e203d203f205748455245206964203d203f\
    02020e0403745f31000000000100";

    #[test]
    fn a_task_of_every_version_stays_readable() {
        let binds = vec![Value::Int(7), Value::from("t_1")];
        let step = Step::any(Statement::new("UPDATE t SET n = ? WHERE id = ?", binds));
        let payload = Payload::Write { keys: vec!["t_1".into()], steps: vec![step.into()] };
        let byte = |at: usize| u8::from_str_radix(&FIXTURE[at..at + 2], 16).unwrap();
        let stored: Vec<u8> = (0..FIXTURE.len()).step_by(2).map(byte).collect();
        assert_eq!(decode(&stored).unwrap(), payload);
        assert_eq!(encode(&payload).unwrap(), stored);
    }

    #[test]
    fn an_unreadable_payload_is_permanent() {
        for stored in [&[][..], &[9, 1, 2], &[VERSION, 250]] {
            let error = decode(stored).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupted);
            assert!(!error.is_temporary());
        }
    }
}
