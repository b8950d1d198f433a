//! Hearing what others publish.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{sleep, timeout};
use zmsg_core::{Error, ErrorKind, Result};

use crate::failure::{Effect, Failure};
use crate::{Redis, RedisKey};

/// How often the server is asked whether it is still there: a network that was parted says nothing.
const ASKED_EVERY: Duration = Duration::from_secs(5);

/// What is published on one channel, heard by a connection of its own.
///
/// A message is heard by those who are connected while it is published, and by nobody later: it can
/// only be a hint.
pub struct Subscription {
    messages: PubSubStream,
    sink: PubSubSink,
    deadline: Duration,
}

impl Redis {
    /// Listens on `channel`. In a cluster all nodes are heard by way of one.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` if the server cannot be reached; `InvalidConfig` if the user may not
    /// listen there.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub async fn subscribe(&self, channel: &RedisKey) -> Result<Subscription> {
        let (connector, deadline) = (self.connector(), self.options().deadline);
        let subscribed = timeout(self.options().connect_timeout, async {
            let mut connection = connector.listen().await?;
            let asked = connection.subscribe(channel.as_str()).await;
            asked.map_err(|error| Failure::of(&error, Effect::None).error)?;
            Ok(connection.split())
        });
        let (sink, messages) = subscribed.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "subscribing in redis took too long").temporary())
        })?;
        Ok(Subscription { messages, sink, deadline })
    }
}

impl Subscription {
    /// The next message; `None` when the connection is lost, within a few seconds of it.
    ///
    /// # Cancel safety
    /// Dropping the future loses no message.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                message = self.messages.next() => {
                    return message.map(|message| Bytes::copy_from_slice(message.get_payload_bytes()));
                }
                () = sleep(ASKED_EVERY) => {}
            }
            let asked = self.sink.ping::<redis::Value>();
            if !matches!(timeout(self.deadline, asked).await, Ok(Ok(_))) {
                return None;
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
