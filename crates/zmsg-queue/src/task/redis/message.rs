//! A task as asynq writes it: a protobuf message, with the numbers of its fields.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use zmsg_core::{Error, ErrorKind, Result, UnixMillis};

use super::calls::millis;
use super::keys::Keys;
use crate::task::record::NewTask;

/// `TaskMessage` of asynq. Fields that it does not have would not survive a worker written in Go: what
/// zmsg needs besides is in the hash beside the message.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct TaskMessage {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) payload: Bytes,
    #[prost(string, tag = "3")]
    pub(super) id: String,
    #[prost(string, tag = "4")]
    pub(super) queue: String,
    /// How often it may be tried again.
    #[prost(int32, tag = "5")]
    pub(super) retry: i32,
    #[prost(int32, tag = "6")]
    pub(super) retried: i32,
    #[prost(string, tag = "7")]
    pub(super) error: String,
    /// How long one attempt may take, in seconds. A worker written in Go refuses a task that has neither
    /// this nor a deadline.
    #[prost(int64, tag = "8")]
    timeout: i64,
    #[prost(int64, tag = "9")]
    deadline: i64,
    #[prost(string, tag = "10")]
    unique_key: String,
    /// In seconds since 1970.
    #[prost(int64, tag = "11")]
    pub(super) last_failed_at: i64,
    #[prost(int64, tag = "12")]
    retention: i64,
    #[prost(int64, tag = "13")]
    completed_at: i64,
    #[prost(string, tag = "14")]
    group: String,
    #[prost(map = "string, string", tag = "15")]
    headers: std::collections::HashMap<String, String>,
}

/// What asynq gives a task that says nothing of it.
const TIMEOUT_S: i64 = 1_800;

impl TaskMessage {
    pub(super) fn of(task: NewTask, keys: &Keys) -> Self {
        let group = task.group.clone().unwrap_or_default();
        let NewTask { id, queue, kind, payload, attempts_max, timeout, deadline, .. } = task;
        let lock = task.unique_for.map(|_| keys.unique(&kind, &payload));
        let unique_key = lock.map_or_else(String::new, |lock| lock.as_str().to_owned());
        let retry = i32::try_from(attempts_max.saturating_sub(1)).unwrap_or(i32::MAX);
        let id = id.0.to_string();
        // Whole seconds for asynq, rather more than less; the hash has the milliseconds.
        let seconds = |millis: u64| millis.div_ceil(1_000).try_into().unwrap_or(i64::MAX);
        let timeout = timeout.map_or(TIMEOUT_S, |timeout| seconds(millis(timeout)));
        let deadline = deadline.map_or(0, seconds);
        let retention = task.retention.map_or(0, |retention| seconds(millis(retention)));
        Self {
            kind,
            payload,
            id,
            queue,
            retry,
            timeout,
            deadline,
            unique_key,
            retention,
            group,
            ..Self::default()
        }
    }

    /// In place of what cannot be read, for people to look at.
    pub(super) fn unreadable(id: &str, queue: &str, bytes: Vec<u8>, error: String) -> Self {
        let (id, queue) = (id.to_owned(), queue.to_owned());
        let kind = "unreadable".to_owned();
        Self {
            kind,
            payload: bytes.into(),
            id,
            queue,
            error,
            timeout: TIMEOUT_S,
            ..Self::default()
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// # Errors
    /// `Corrupted` for what is no such message.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        Self::decode(bytes).map_err(|error| {
            Error::new(ErrorKind::Corrupted, "a task in Redis is no message of asynq")
                .with_source(error)
        })
    }

    /// How many attempts it has, the first one included.
    pub(super) fn attempts_max(&self) -> u32 {
        u32::try_from(self.retry).unwrap_or(0).saturating_add(1)
    }

    /// How many attempts have failed.
    pub(super) fn failures(&self) -> u32 {
        u32::try_from(self.retried).unwrap_or(0)
    }

    /// How long an attempt may take, where asynq's client said so.
    pub(super) fn timeout_of_others(&self) -> Option<Duration> {
        let said = self.timeout > 0 && self.timeout != TIMEOUT_S;
        said.then(|| Duration::from_secs(self.timeout.cast_unsigned()))
    }

    /// Until when it is wanted, where asynq's client said so.
    pub(super) fn deadline_of_others(&self) -> Option<UnixMillis> {
        let said = self.deadline > 0;
        said.then(|| self.deadline.cast_unsigned().saturating_mul(1_000))
    }

    /// How long it is kept when it is done.
    pub(super) fn retention(&self) -> Option<Duration> {
        let kept = self.retention > 0;
        kept.then(|| Duration::from_secs(self.retention.cast_unsigned()))
    }

    /// Notes that it is done.
    pub(super) fn completed(&mut self, at_s: i64) {
        self.completed_at = at_s;
    }

    /// Notes an attempt that failed.
    pub(super) fn failed(&mut self, error: String, at_s: i64, counts: bool) {
        self.error = error;
        self.last_failed_at = at_s;
        self.retried = self.retried.saturating_add(i32::from(counts));
    }
}

// Payloads must not reach logs.
impl fmt::Debug for TaskMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskMessage")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use zmsg_core::TaskId;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
        (0..hex.len()).step_by(2).map(byte).collect::<Result<_, _>>().unwrap()
    }

    /// As asynq 0.25.1 wrote them: `tests/go/main.go enqueue`, then `HGET asynq:{default}:t:report:N msg`.
    const PLAIN: &str = "0a0567726565741204676f20311a087265706f72743a31220764656661756c742802403c";
    const UNIQUE: &str = "0a0567726565741204676f20331a087265706f72743a33220764656661756c742802403c\
        523d6173796e713a7b64656661756c747d3a756e697175653a67726565743a3635376337643666376463306661\
        626164356535356362303032313566323837";

    #[test]
    fn messages_of_asynq_are_read_and_written_byte_for_byte() {
        for (hex, id, payload) in [(PLAIN, "report:1", "go 1"), (UNIQUE, "report:3", "go 3")] {
            let message = TaskMessage::read(&bytes(hex)).unwrap();
            assert_eq!((message.kind.as_str(), message.id.as_str()), ("greet", id));
            assert_eq!(
                (message.queue.as_str(), &message.payload[..]),
                ("default", payload.as_bytes())
            );
            assert_eq!((message.attempts_max(), message.failures(), message.timeout), (3, 0, 60));
            assert_eq!(message.unique_key.is_empty(), id == "report:1");
            assert_eq!(message.write(), bytes(hex));
        }
    }

    #[test]
    fn a_task_has_what_a_worker_in_go_asks_for() {
        let task = NewTask::new(TaskId::generate(), "save", "x").queue("q").attempts_max(1);
        let message = TaskMessage::of(task.clone(), &Keys::of("q"));
        assert_eq!((message.id, message.retry), (task.id.0.to_string(), 0));
        assert!(message.timeout > 0, "neither a time-out nor a deadline is an error there");
    }

    #[test]
    fn what_is_no_message_is_corrupted_and_a_message_shows_no_payload() {
        let error = TaskMessage::read(b"\x0a\xff").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupted);
        let message = TaskMessage::unreadable("i", "q", b"secret".to_vec(), String::new());
        assert!(!format!("{message:?}").contains("secret"), "{message:?}");
    }
}
