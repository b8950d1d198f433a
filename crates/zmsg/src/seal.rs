//! Tasks under a signature: whoever can write to Redis must not thereby run SQL.
//!
//! What is signed is the whole of a task that decides what it does: its id, queue and kind, the moment
//! it was accepted, and its payload. So it can be neither made nor changed, nor run again under another
//! id or in another queue. Under its own id the inbox keeps it from taking effect twice, for as long as
//! the inbox remembers; a task that is older than that is refused.
//!
//! When it runs is not signed: neither its due time nor its lane. Whoever can write to Redis can hold a task
//! back, and with that change every order; a signed lane would not keep him from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zmsg_core::{Error, ErrorKind, Result, TaskId, UnixMillis};
use zmsg_queue::{DeadTask, LeasedTask, NewTask};

use crate::codec::{self, Payload};
use crate::config::Secret;

/// The shortest key: as long as what it signs with gives.
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// The first byte of what is signed; a payload that is not begins with another.
const VERSION: u8 = 2;

/// Behind the version: the moment, the signature, the payload.
const MOMENT: usize = 8;
const SIGNATURE: usize = 32;

/// What is signed begins with this: no signature of anything else is one of a task.
const DOMAIN: &[u8] = b"zmsg task 2\0";

/// How far the clocks of nodes may be apart: so much longer the inbox remembers.
pub(crate) const CLOCKS_APART: Duration = Duration::from_secs(3_600);

/// How the payloads of a queue are kept.
#[derive(Debug, Clone)]
pub(crate) enum Envelope {
    /// As they are: who can write to this queue can write to the database.
    Plain,
    /// Signed.
    Signed(Arc<Seal>),
}

impl Envelope {
    /// The task as the queue is to keep it, accepted at `now`.
    pub(crate) fn close(&self, task: NewTask, now: UnixMillis) -> NewTask {
        match self {
            Self::Plain => task,
            Self::Signed(seal) => seal.close(task, now),
        }
    }

    /// What a task does.
    ///
    /// # Errors
    /// `Corrupted`, permanent, for what cannot be read or was not signed by one of us; `InvalidData` for
    /// a task so old that nobody knows whether it has taken effect.
    pub(crate) fn open(&self, task: &LeasedTask, now: UnixMillis) -> Result<Payload> {
        match self {
            Self::Plain => codec::decode(&task.payload),
            Self::Signed(seal) => codec::decode(seal.open(&Stored::from(task), now)?),
        }
    }

    /// What a dead letter would have done, for a person. Of one that is not ours only that is said: it
    /// may be made to harm whoever decodes it.
    pub(crate) fn summary(&self, task: &DeadTask) -> String {
        let payload = match self {
            Self::Plain => codec::decode(&task.payload),
            Self::Signed(seal) => {
                seal.verify(&Stored::from(task)).and_then(|(_, payload)| codec::decode(payload))
            }
        };
        codec::summary(&task.kind, payload)
    }
}

/// The keys of a queue, and how long its tasks are good.
pub(crate) struct Seal {
    /// Signs, and is accepted.
    key: Hmac<Sha256>,
    /// Is accepted.
    previous: Option<Hmac<Sha256>>,
    retention: Duration,
}

impl Seal {
    /// # Errors
    /// `InvalidConfig` for a key that is too short.
    pub(crate) fn new(
        key: &Secret,
        previous: Option<&Secret>,
        retention: Duration,
    ) -> Result<Self> {
        let key = keyed("queue.secret", key)?;
        let previous = previous.map(|key| keyed("queue.secret_previous", key)).transpose()?;
        Ok(Self { key, previous, retention })
    }

    fn close(&self, task: NewTask, now: UnixMillis) -> NewTask {
        let signed = Signed {
            id: task.id,
            queue: &task.queue,
            kind: &task.kind,
            accepted: now,
            payload: &task.payload,
        };
        let signature = signed.by(&self.key).finalize().into_bytes();
        let mut sealed = Vec::with_capacity(1 + MOMENT + SIGNATURE + task.payload.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&now.to_be_bytes());
        sealed.extend_from_slice(&signature);
        sealed.extend_from_slice(&task.payload);
        NewTask { payload: Bytes::from(sealed), ..task }
    }

    fn open<'a>(&self, task: &Stored<'a>, now: UnixMillis) -> Result<&'a [u8]> {
        let (accepted, payload) = self.verify(task)?;
        let age = Duration::from_millis(now.saturating_sub(accepted));
        if age >= self.retention {
            let why = "the task is older than queue.inbox_retention, so nobody knows whether it has \
                       taken effect: write it anew if it has not";
            return Err(Error::new(ErrorKind::InvalidData, why)
                .with_context("age", format!("{age:?}"))
                .with_context("queue.inbox_retention", format!("{:?}", self.retention)));
        }
        Ok(payload)
    }

    /// When a task of ours was accepted, and its payload.
    fn verify<'a>(&self, task: &Stored<'a>) -> Result<(UnixMillis, &'a [u8])> {
        let Some(Sealed { accepted, signature, payload }) = Sealed::read(task.payload) else {
            return Err(refused("a task without a signature in a queue whose tasks have one"));
        };
        let Stored { id, queue, kind, .. } = *task;
        let signed = Signed { id, queue, kind, accepted, payload };
        let keys = [Some(&self.key), self.previous.as_ref()];
        // `verify_slice` takes as long whatever differs.
        let is_ours = |key| signed.by(key).verify_slice(signature).is_ok();
        if !keys.into_iter().flatten().any(is_ours) {
            return Err(refused(
                "the signature of a task is wrong: it was changed, or it is not by an engine with \
                 this queue.secret",
            ));
        }
        Ok((accepted, payload))
    }
}

fn keyed(path: &'static str, secret: &Secret) -> Result<Hmac<Sha256>> {
    let key = secret.expose().as_bytes();
    if key.len() < SECRET_BYTES_MIN {
        let why = format!("{path}: must have at least {SECRET_BYTES_MIN} bytes");
        return Err(Error::invalid_config(why));
    }
    Hmac::new_from_slice(key).map_err(|_| Error::invalid_config(format!("{path}: cannot be used")))
}

fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupted, why)
}

/// A task as its queue shows it.
struct Stored<'a> {
    id: TaskId,
    queue: &'a str,
    kind: &'a str,
    payload: &'a [u8],
}

impl<'a> From<&'a LeasedTask> for Stored<'a> {
    fn from(task: &'a LeasedTask) -> Self {
        Self { id: task.id, queue: &task.queue, kind: &task.kind, payload: &task.payload }
    }
}

impl<'a> From<&'a DeadTask> for Stored<'a> {
    fn from(task: &'a DeadTask) -> Self {
        Self { id: task.id, queue: &task.queue, kind: &task.kind, payload: &task.payload }
    }
}

/// A payload that is signed.
struct Sealed<'a> {
    accepted: UnixMillis,
    signature: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Sealed<'a> {
    fn read(stored: &'a [u8]) -> Option<Self> {
        let rest = stored.strip_prefix(&[VERSION])?;
        let (moment, rest) = rest.split_first_chunk::<MOMENT>()?;
        let (signature, payload) = rest.split_at_checked(SIGNATURE)?;
        Some(Self { accepted: UnixMillis::from_be_bytes(*moment), signature, payload })
    }
}

/// What a signature is of.
struct Signed<'a> {
    id: TaskId,
    queue: &'a str,
    kind: &'a str,
    accepted: UnixMillis,
    payload: &'a [u8],
}

impl Signed<'_> {
    fn by(&self, key: &Hmac<Sha256>) -> Hmac<Sha256> {
        let mut mac = key.clone();
        mac.update(DOMAIN);
        mac.update(&self.accepted.to_be_bytes());
        mac.update(self.id.0.as_bytes());
        for name in [self.queue, self.kind] {
            // Its length first: no other names give the same bytes.
            mac.update(&(name.len() as u64).to_be_bytes());
            mac.update(name.as_bytes());
        }
        mac.update(self.payload);
        mac
    }
}

// Keys must not reach logs.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("retention", &self.retention).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
