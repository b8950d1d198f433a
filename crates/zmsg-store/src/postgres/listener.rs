//! Listening to what the database sends by itself.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;
use zmsg_core::{Backoff, Error, Ident, Result};

use super::connector::{Connector, Driver};
use super::error::{Phase, from_postgres};
use crate::Notifier;

/// How often a quiet connection is asked whether it is still there, and how long it may take.
const QUIET: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);

/// One channel, listened to on a connection of its own that is made anew whenever it is lost.
pub(super) struct Listener {
    connector: Arc<Connector>,
    listen: String,
    channel: String,
    notifier: Notifier,
}

impl Listener {
    /// # Errors
    /// `InvalidInput` for a name that no channel can have.
    pub(super) fn new(
        connector: Arc<Connector>,
        channel: &str,
        notifier: Notifier,
    ) -> Result<Self> {
        let mut listen = String::from("LISTEN ");
        Ident::new(channel)?.write_quoted(&mut listen);
        Ok(Self { connector, listen, channel: channel.to_owned(), notifier })
    }

    /// Listens until nobody wants to hear any more or the store is closed.
    pub(super) async fn run(self, closed: CancellationToken) {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut failures = 0;
        let listening = async {
            loop {
                if let Err(error) = self.listen(&mut failures).await {
                    tracing::debug!(%error, channel = self.channel, "not listening");
                }
                failures += 1;
                sleep(backoff.delay(failures)).await;
            }
        };
        tokio::select! {
            () = closed.cancelled() => {}
            () = self.notifier.closed() => {}
            () = listening => {}
        }
    }

    /// Connects and listens until the connection is lost.
    async fn listen(&self, failures: &mut u32) -> Result<()> {
        let (client, driver) = self.connector.in_time(self.connector.dial()).await?;
        let failed = |error| from_postgres(error, Phase::Connect).error;
        let mut hearing = Box::pin(self.hear(driver));
        let subscribe = Box::pin(timeout(ANSWER, client.batch_execute(&self.listen)));
        match select(&mut hearing, subscribe).await {
            Either::Left((lost, _)) => return lost,
            Either::Right((subscribed, _)) => {
                subscribed.map_err(|_| silent())?.map_err(failed)?;
            }
        }
        // Whatever was sent before, or while nobody listened, was not heard.
        self.notifier.missed();
        *failures = 0;
        let asking = Box::pin(async {
            loop {
                sleep(QUIET).await;
                let answer = timeout(ANSWER, client.check_connection()).await;
                if !matches!(answer, Ok(Ok(()))) {
                    return silent();
                }
            }
        });
        match select(hearing, asking).await {
            Either::Left((lost, _)) => lost,
            Either::Right((error, _)) => Err(error),
        }
    }

    /// Drives the connection and hands on what comes over it.
    async fn hear(&self, mut driver: Driver) -> Result<()> {
        loop {
            let message = poll_fn(|context| match &mut driver {
                Driver::Plain(driver) => driver.poll_message(context),
                Driver::Encrypted(driver) => driver.poll_message(context),
            });
            match message.await {
                Some(Ok(AsyncMessage::Notification(sent))) => {
                    self.notifier.send(sent.payload());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(from_postgres(error, Phase::Connect).error),
                None => return Err(silent()),
            }
        }
    }
}

fn silent() -> Error {
    Error::new(zmsg_core::ErrorKind::Unavailable, "the connection to postgres ended").temporary()
}
